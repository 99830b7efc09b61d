"""The request body of Gemini's generateContent, field by field. Only that table lives here.

Source: google-genai 3.6.1, google/genai/types.py (Content, Part, GenerationConfig, Tool, ...) and the converters to the
wire in google/genai/models.py (_GenerateContentConfig_to_mldev, ..._to_vertex: modelSelectionConfig goes out as
modelConfig, generationOutputConfig as outputConfig). Schemas, arguments, responses and tools other than function
declarations are VALUE: nothing inside them is folded.
"""

from __future__ import annotations

from typing import Any, Final

from cachelayer.dialects.wire.folding import BINARY, VALUE, Known, Many, known


def _object(*values: str, config: bool = False, **nodes: Any) -> Known:
    return known(*values, config=config, snake_too=True, **nodes)


_BLOB = _object("mimeType", "displayName", data=BINARY)
_FILE = _object("mimeType", "displayName", "fileUri")
_RESOLUTION = _object("level", "numTokens")
_VIDEO = _object("endOffset", "fps", "startOffset", "contentLayers")
_DOCUMENT = _object("startPage", "endPage", "contentLayers")
_SPREADSHEET = _object("visibleCells", "sheetIndex", "contentLayers")
_AUDIO = _object("startOffset", "endOffset")
_MEDIA: Final[dict[str, Any]] = {
    "inlineData": _BLOB,
    "fileData": _FILE,
    "mediaResolution": _RESOLUTION,
    "videoMetadata": _VIDEO,
    "documentMetadata": _DOCUMENT,
    "spreadsheetMetadata": _SPREADSHEET,
    "audioMetadata": _AUDIO,
}

PART: Final = _object(
    "text",
    "thought",
    "partMetadata",
    "audioTranscription",
    "mediaProcessing",
    thoughtSignature=BINARY,
    codeExecutionResult=_object("outcome", "output", "id"),
    executableCode=_object("code", "language", "id"),
    functionCall=_object("id", "args", "name", "partialArgs", "willContinue"),
    functionResponse=_object(
        "willContinue",
        "scheduling",
        "id",
        "name",
        "response",
        parts=Many(_object("mediaProcessing", **_MEDIA)),
    ),
    toolCall=_object("id", "toolType", "args"),
    toolResponse=_object("id", "toolType", "response"),
    speechMetadata=_object("speaker", "style"),
    **_MEDIA,
)
_CONTENT = _object("role", parts=Many(PART))

_VOICE = _object(
    "voice",
    replicatedVoiceConfig=_object(
        "mimeType",
        voiceSampleAudio=BINARY,
        consentAudio=BINARY,
        voiceConsentSignature=_object("signature"),
    ),
    prebuiltVoiceConfig=_object("voiceName"),
)
_GENERATION_CONFIG = _object(
    "responseSchema",
    "responseJsonSchema",
    "audioTimestamp",
    "candidateCount",
    "enableAffectiveDialog",
    "frequencyPenalty",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "presencePenalty",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "seed",
    "stopSequences",
    "temperature",
    "topK",
    "topP",
    "enableEnhancedCivicAnswers",
    config=True,
    modelConfig=_object("featureSelectionPreference", config=True),
    routingConfig=_object(
        config=True,
        # Which of the two is there chooses the mode, an empty one too.
        autoMode=_object("modelRoutingPreference"),
        manualMode=_object("modelName"),
    ),
    speechConfig=_object(
        "languageCode",
        config=True,
        voiceConfig=_VOICE,
        multiSpeakerVoiceConfig=_object(config=True, speakerVoiceConfigs=Many(_object("speaker", voiceConfig=_VOICE))),
    ),
    thinkingConfig=_object("includeThoughts", "thinkingBudget", "thinkingLevel", config=True),
    imageConfig=_object(
        "aspectRatio",
        "imageSize",
        "personGeneration",
        "prominentPeople",
        "outputMimeType",
        "outputCompressionQuality",
        config=True,
        imageOutputOptions=_object("compressionQuality", "mimeType", config=True),
    ),
    responseFormat=Many(
        _object(
            audio=_object("bitRate", "delivery", "mimeType", "sampleRate"),
            image=_object("aspectRatio", "delivery", "imageSize", "mimeType"),
            text=_object("mimeType", "schema"),
            video=_object("aspectRatio", "delivery", "duration", "gcsUri", "resolution"),
        )
    ),
    translationConfig=_object("echoTargetLanguage", "targetLanguageCode", config=True),
    # languageAuto is a choice by being there, so nothing inside is folded.
    audioTranscriptionConfig=VALUE,
)

TOOL: Final = _object(
    "codeExecution",
    functionDeclarations=Many(
        _object(
            "description",
            "name",
            "parameters",
            "parametersJsonSchema",
            "response",
            "responseJsonSchema",
            "behavior",
        )
    ),
)

BODY: Final = _object(
    "model",
    "cachedContent",
    "labels",
    "serviceTier",
    "continuationToken",
    "store",
    contents=Many(_CONTENT),
    systemInstruction=_CONTENT,
    generationConfig=_GENERATION_CONFIG,
    safetySettings=Many(_object("category", "method", "threshold")),
    tools=Many(TOOL),
    toolConfig=_object(
        "includeServerSideToolInvocations",
        config=True,
        retrievalConfig=_object("languageCode", config=True, latLng=_object("latitude", "longitude")),
        functionCallingConfig=_object("allowedFunctionNames", "mode", "streamFunctionCallArguments", config=True),
    ),
    modelArmorConfig=_object("promptTemplateName", "responseTemplateName", config=True),
    outputConfig=_object("outputUriPrefix", config=True),
)
