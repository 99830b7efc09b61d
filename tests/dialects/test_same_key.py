"""Pairs of requests that MUST share a key, one at least per rule and dialect of docs/key-spec.md."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cachelayer.core.model import KeyRules, Request
from tests.dialects.asks import (
    EDIT,
    GEMINI,
    GENERATE,
    RULES,
    b64,
    contents,
    data_url,
    field,
    file,
    form,
    gemini,
    generate,
    key,
    request,
)

Build = Callable[..., Request]

RED, BLUE = b"\x89PNG red \xfb\xff", b"\x89PNG blue \xfe\xef"
CAT = contents("a cat")
URL_SAFE = str.maketrans("+/", "-_")

GEMINI_PAIRS: dict[str, tuple[Request, Request]] = {
    "key order": (
        gemini({"contents": CAT, "safetySettings": []}),
        gemini({"safetySettings": [], "contents": CAT}),
    ),
    "whitespace": (gemini(), request(GEMINI, json.dumps({"contents": CAT}, indent=3).encode())),
    "escapes": (
        request(GEMINI, json.dumps({"contents": contents("é/")}, ensure_ascii=False).encode()),
        request(GEMINI, json.dumps({"contents": contents("é/")}).replace("/", "\\/").encode()),
    ),
    "number spelling": (
        request(GEMINI, b'{"contents":[],"generationConfig":{"temperature":1.0,"topK":1e2,"seed":-0.0,"topP":0.50}}'),
        request(GEMINI, b'{"contents":[],"generationConfig":{"temperature":1,"topK":100,"seed":0,"topP":5e-1}}'),
    ),
    "number spelling in unknown fields": (
        request(GEMINI, b'{"contents":[],"x":{"y":[1.0]}}'),
        request(GEMINI, b'{"contents":[],"x":{"y":[1]}}'),
    ),
    "snake_case everywhere known": (
        gemini(
            {
                "contents": [
                    {
                        "role": "user",
                        "parts": [
                            {"inline_data": {"mime_type": "image/png", "data": b64(RED)}},
                            {"function_call": {"name": "f", "args": {"a_b": 1}}, "thought_signature": b64(BLUE)},
                            {"function_response": {"name": "f", "response": {"a_b": 1}, "will_continue": False}},
                        ],
                    }
                ],
                "system_instruction": {"parts": [{"text": "s"}]},
                "generation_config": {
                    "image_config": {"aspect_ratio": "1:1", "image_output_options": {"mime_type": "image/jpeg"}},
                    "response_modalities": ["IMAGE"],
                    "thinking_config": {"thinking_budget": 1},
                    "speech_config": {"voice_config": {"prebuilt_voice_config": {"voice_name": "v"}}},
                },
                "safety_settings": [{"category": "c", "threshold": "t"}],
                "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"a_b": 1}}]}],
                "tool_config": {"function_calling_config": {"allowed_function_names": ["f"]}},
                "model_armor_config": {"prompt_template_name": "p"},
            }
        ),
        gemini(
            {
                "contents": [
                    {
                        "role": "user",
                        "parts": [
                            {"inlineData": {"mimeType": "image/png", "data": b64(RED)}},
                            {"functionCall": {"name": "f", "args": {"a_b": 1}}, "thoughtSignature": b64(BLUE)},
                            {"functionResponse": {"name": "f", "response": {"a_b": 1}, "willContinue": False}},
                        ],
                    }
                ],
                "systemInstruction": {"parts": [{"text": "s"}]},
                "generationConfig": {
                    "imageConfig": {"aspectRatio": "1:1", "imageOutputOptions": {"mimeType": "image/jpeg"}},
                    "responseModalities": ["IMAGE"],
                    "thinkingConfig": {"thinkingBudget": 1},
                    "speechConfig": {"voiceConfig": {"prebuiltVoiceConfig": {"voiceName": "v"}}},
                },
                "safetySettings": [{"category": "c", "threshold": "t"}],
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"a_b": 1}}]}],
                "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["f"]}},
                "modelArmorConfig": {"promptTemplateName": "p"},
            }
        ),
    ),
    "null and absent": (
        gemini(),
        gemini(
            {
                "contents": [{"role": "user", "parts": [{"text": "a cat", "thought": None, "inlineData": None}]}],
                "systemInstruction": None,
                "generationConfig": {"seed": None, "responseSchema": None},
                "tools": None,
                "cachedContent": None,
            }
        ),
    ),
    "empty config objects": (
        gemini(),
        gemini(
            {
                "contents": CAT,
                "generationConfig": {
                    "imageConfig": {"imageOutputOptions": {"mimeType": None}},
                    "thinkingConfig": {},
                    "speechConfig": {},
                },
                "toolConfig": {"functionCallingConfig": {}},
            }
        ),
    ),
    "models/x and x": (gemini({"contents": CAT, "model": "models/m"}), gemini({"contents": CAT, "model": "m"})),
    "publishers/google": (
        gemini(url="https://aiplatform.googleapis.com/v1/publishers/google/models/gemini-3-pro-image:generateContent"),
        gemini(url="https://aiplatform.googleapis.com/v1/models/gemini-3-pro-image:generateContent"),
    ),
    "base64 alphabet": (
        gemini({"contents": contents(RED)}),
        gemini(
            {
                "contents": contents(
                    {"inlineData": {"mimeType": "image/png", "data": b64(RED).translate(URL_SAFE)}},
                )
            }
        ),
    ),
    "base64 padding": (
        gemini({"contents": contents(b"1234")}),
        gemini({"contents": contents({"inlineData": {"mimeType": "image/png", "data": b64(b"1234").rstrip("=")}})}),
    ),
    "base64 unused bits": (
        gemini({"contents": contents({"inlineData": {"mimeType": "image/png", "data": "QQ=="}})}),
        gemini({"contents": contents({"inlineData": {"mimeType": "image/png", "data": "QR=="}})}),
    ),
    "base64 of thoughtSignature": (
        gemini({"contents": contents({"text": "t", "thoughtSignature": b64(RED)})}),
        gemini({"contents": contents({"text": "t", "thoughtSignature": b64(RED).translate(URL_SAFE)})}),
    ),
    "candidateCount 1": (gemini(), gemini({"contents": CAT, "generationConfig": {"candidateCount": 1}})),
    "candidateCount 1.0": (
        gemini(),
        request(GEMINI, b'{"contents":%s,"generationConfig":{"candidate_count":1.0}}' % json.dumps(CAT).encode()),
    ),
    "labels, service tier": (
        gemini(),
        gemini({"contents": CAT, "labels": {"team": "x"}, "serviceTier": "flex"}),
    ),
    "service_tier": (gemini(), gemini({"contents": CAT, "service_tier": "priority"})),
    "API version": (gemini(), gemini(url=GEMINI.replace("v1beta", "v1"))),
    "API version left out": (gemini(), gemini(url=GEMINI.replace("/v1beta", ""))),
    "Vertex project": (
        gemini(
            url="https://a.googleapis.com/v1/projects/p/locations/l/publishers/google/models/m-image:generateContent"
        ),
        gemini(
            url="https://a.googleapis.com/v1beta1/projects/q/locations/l/publishers/google/models/m-image:generateContent"
        ),
    ),
    "credentials in the query": (
        gemini(),
        gemini(url=GEMINI + "?key=AIza&access_token=t&X-Goog-Signature=s&x-amz-date=d"),
    ),
    "prompt in NFC": (
        gemini({"contents": contents("caf\u00e9")}),
        gemini({"contents": contents("cafe\u0301")}),
    ),
    "CRLF": (gemini({"contents": contents("a\nb")}), gemini({"contents": contents("a\r\nb")})),
    "outer whitespace": (gemini(), gemini({"contents": contents(" \t\r\na cat\u00a0\n")})),
    "outer whitespace of a message of several parts": (
        gemini({"contents": contents("a ", RED, " cat")}),
        gemini({"contents": contents("\n a ", RED, " cat \n")}),
    ),
    "system instruction is a prompt": (
        gemini({"contents": CAT, "systemInstruction": {"parts": [{"text": "s"}]}}),
        gemini({"contents": CAT, "systemInstruction": {"parts": [{"text": " s\r\n"}]}}),
    ),
}

OPENAI_PAIRS: dict[str, tuple[Request, Request]] = {
    "key order, whitespace, escapes": (
        request(GENERATE, '{"prompt": "é", "model": "m"}'.encode()),
        request(GENERATE, b'{"model":"m","prompt":"\\u00e9"}'),
    ),
    "number spelling": (
        request(GENERATE, b'{"prompt":"p","output_compression":50.0}'),
        request(GENERATE, b'{"prompt":"p","output_compression":5e1}'),
    ),
    "null and absent": (generate(), generate({"model": "gpt-image-1.5", "prompt": "a cat", "size": None, "n": None})),
    "empty svg": (
        generate(),
        generate({"model": "gpt-image-1.5", "prompt": "a cat", "svg": {"reasoning": {"effort": None}}}),
    ),
    "n=1": (generate(), generate({"model": "gpt-image-1.5", "prompt": "a cat", "n": 1})),
    "stream=false": (generate(), generate({"model": "gpt-image-1.5", "prompt": "a cat", "stream": False})),
    "auto": (
        generate(),
        generate(
            {
                "model": "gpt-image-1.5",
                "prompt": "a cat",
                "quality": "auto",
                "background": "auto",
                "moderation": "auto",
            }
        ),
    ),
    "bookkeeping": (
        generate(),
        generate(
            {
                "model": "gpt-image-1.5",
                "prompt": "a cat",
                "user": "u",
                "safety_identifier": "s",
                "metadata": {"a": 1},
                "service_tier": "flex",
            }
        ),
    ),
    "API version in the path": (generate(), generate(url=GENERATE.replace("/v1", "/v2"))),
    "API version in the query": (
        generate(
            url="https://x.openai.azure.com/openai/deployments/D/images/generations?api-version=2025-04-01-preview"
        ),
        generate(url="https://x.openai.azure.com/openai/deployments/D/images/generations?api-version=2026-01-01"),
    ),
    "prompt": (generate(), generate({"model": "gpt-image-1.5", "prompt": "\r\na cat "})),
    "multipart boundary": (
        form(field("prompt", "p"), file("image", RED), boundary="one"),
        form(field("prompt", "p"), file("image", RED), boundary="another-one"),
    ),
    "multipart filename": (
        form(field("prompt", "p"), file("image", RED, filename="a.png")),
        form(field("prompt", "p"), file("image", RED, filename="b.jpg")),
    ),
    "multipart order across fields": (
        form(field("prompt", "p"), file("image[]", RED), field("size", "s"), file("image[]", BLUE)),
        form(file("image[]", RED), file("image[]", BLUE), field("size", "s"), field("prompt", "p")),
    ),
    "image[] for image": (
        form(field("prompt", "p"), file("image", RED)),
        form(field("prompt", "p"), file("image[]", RED)),
    ),
    "multipart text/plain spelled out": (
        form(field("prompt", "p"), ("n", "2", None, "text/plain; charset=utf-8"), file("image", RED)),
        form(field("prompt", "p"), field("n", "2"), file("image", RED)),
    ),
    "multipart and JSON": (
        form(
            field("prompt", "p\r\n"),
            field("model", "gpt-image-2"),
            field("n", "1"),
            field("output_compression", "80"),
            field("partial_images", "0"),
            field("stream", "false"),
            field("quality", "auto"),
            file("image[]", RED),
            file("image[]", BLUE, "image/webp"),
            file("mask", BLUE),
        ),
        request(
            EDIT,
            {
                "prompt": "p",
                "model": "gpt-image-2",
                "output_compression": 80,
                "partial_images": 0,
                "images": [{"image_url": data_url(RED)}, {"image_url": data_url(BLUE, "image/webp")}],
                "mask": {"image_url": data_url(BLUE)},
            },
        ),
    ),
    "data: URL alphabet and padding": (
        request(EDIT, {"prompt": "p", "images": [{"image_url": data_url(RED)}]}),
        request(
            EDIT,
            {
                "prompt": "p",
                "images": [
                    {"image_url": "data:image/png;base64," + b64(RED).translate(URL_SAFE).rstrip("=")},
                ],
            },
        ),
    ),
    "null in a known field of an image": (
        request(EDIT, {"prompt": "p", "images": [{"image_url": data_url(RED), "file_id": None}]}),
        request(EDIT, {"prompt": "p", "images": [{"image_url": data_url(RED)}]}),
    ),
    "xAI's way to write images": (
        request(EDIT, {"prompt": "p", "images": [{"type": "image_url", "url": data_url(RED)}]}),
        request(EDIT, {"prompt": "p", "images": [{"url": data_url(RED)}]}),
    ),
}


@pytest.mark.parametrize("rule", GEMINI_PAIRS)
def test_gemini(rule: str) -> None:
    first, second = GEMINI_PAIRS[rule]
    assert key(first) == key(second)


@pytest.mark.parametrize("rule", OPENAI_PAIRS)
def test_openai(rule: str) -> None:
    first, second = OPENAI_PAIRS[rule]
    assert key(first) == key(second)


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        ("header:x-job-id", gemini(headers={"X-Job-Id": "1"}), gemini(headers={"X-Job-Id": "2"})),
        ("query:job", gemini(url=GEMINI + "?job=1"), gemini(url=GEMINI + "?job=2")),
        ("body:trace.id", gemini({"contents": CAT, "trace": {"id": 1}}), gemini({"contents": CAT, "trace": {"id": 2}})),
        (
            "body:generationConfig.seed",
            gemini({"contents": CAT, "generationConfig": {"seed": 0}}),
            gemini({"contents": CAT, "generation_config": {"seed": 7}}),
        ),
        (
            "body:contents.0.parts.0.partMetadata",
            gemini({"contents": contents({"text": "t", "part_metadata": {"a": 1}})}),
            gemini({"contents": contents({"text": "t", "partMetadata": "x"})}),
        ),
        (
            "body:style",
            generate({"model": "gpt-image-1.5", "prompt": "a cat", "style": "natural"}),
            generate({"model": "gpt-image-1.5", "prompt": "a cat", "style": "vivid"}),
        ),
        (
            "body:job",
            form(field("prompt", "p"), field("job", "1"), file("image", RED)),
            form(field("prompt", "p"), field("job", "2"), file("image", RED)),
        ),
    ],
)
def test_ignored_at_the_users_word(rule: str, first: Request, second: Request) -> None:
    assert key(first) != key(second)
    rules = KeyRules(ignore=(rule,))
    assert key(first, rules) == key(second, rules)


def test_ports_and_letter_case_of_the_host() -> None:
    assert key(gemini()) == key(gemini(url=GEMINI.replace("https://generative", "HTTPS://GENERATIVE")))
    assert key(gemini()) == key(gemini(url=GEMINI.replace(".com/", ".com:443/")))
    assert key(gemini()) == key(gemini(url=GEMINI.replace("https://", "https://user:password@")))


@pytest.mark.parametrize("method", ["POST", "post"])
def test_method_in_any_case(method: str) -> None:
    spelled = Request(method, GEMINI, {"Content-Type": "application/json; charset=UTF-8"}, gemini().body)
    assert key(spelled) == key(gemini())


def test_loose_collapses_inner_whitespace() -> None:
    loose = KeyRules(normalize="loose")
    first = gemini({"contents": contents('a  cat\nwith "A  B"')})
    second = gemini({"contents": contents('a cat with "A  B"')})
    assert key(first, loose) == key(second, loose)
    assert key(first, RULES) != key(second, RULES)
    assert key(first, loose) != key(gemini({"contents": contents('a cat with "A B"')}), loose)
