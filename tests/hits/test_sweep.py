"""Any requests, spelled in any way: every hit is the answer to what was asked."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asking import PATH
from tests.hits.desk import BLUE, EDITS, GREEN, JSON, RED, Desk

prompts = st.sampled_from(["a fox", "A fox", "a fox.", "caf\u00e9\nnoir"])


few = st.sampled_from([(), (RED,), (GREEN,), (RED, GREEN), (GREEN, RED), (RED, RED), (RED, GREEN, BLUE)])


optional_seed = st.sampled_from([None, None, 0, 1])


@st.composite
def spelled_prompt(draw: st.DrawFn, prompt: str) -> str:
    """The same prompt to its author."""
    if draw(st.booleans()):
        prompt = prompt.replace("\u00e9", "e\u0301")
    if draw(st.booleans()):
        prompt = prompt.replace("\n", "\r\n")
    return draw(st.sampled_from(["", "", " ", "\n\t"])) + prompt + draw(st.sampled_from(["", "", "  ", "\r\n"]))


@st.composite
def noise(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str]]:
    """Headers and parameters that say nothing about what is asked."""
    headers = draw(
        st.dictionaries(
            st.sampled_from(["authorization", "x-request-id", "traceparent", "x-stainless-os", "cookie"]),
            st.sampled_from(["one", "two"]),
            max_size=2,
        )
    )
    return headers, draw(st.dictionaries(st.just("key"), st.sampled_from(["k1", "k2"]), max_size=1))


def shuffled(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    return dict(draw(st.permutations(list(document.items()))))


@st.composite
def openai_request(draw: st.DrawFn) -> tuple[Any, str, dict[str, Any]]:
    """What is asked, and one of the ways to ask it."""
    prompt, references = draw(prompts), draw(few)
    size = draw(st.sampled_from(["64x64", "64x128", "32x32"]))
    quality = draw(st.sampled_from([None, "low", "high"]))
    count = draw(st.sampled_from([1, 1, 2]))
    model = draw(st.sampled_from(["gpt-image-2", "gpt-image-1"]))
    form = draw(st.sampled_from([None, "jpeg", "webp"]))
    lab = draw(st.sampled_from([None, None, "a", "b"]))
    meaning = ("openai", prompt, references, size, quality, count, model, form, lab)

    headers, params = draw(noise())
    if lab is not None:
        headers["x-lab"] = lab
    document: dict[str, Any] = {"model": model, "prompt": draw(spelled_prompt(prompt)), "size": size}
    if quality is not None:
        document["quality"] = quality
    elif draw(st.booleans()):
        document["quality"] = "auto"
    if count != 1 or draw(st.booleans()):
        document["n"] = count
    if form is not None:
        document["output_format"] = form
    if draw(st.booleans()):
        document["user"] = "somebody"
    document = shuffled(draw, document)
    if not references:
        if draw(st.booleans()):
            document["background"] = None
        content = json.dumps(document, indent=draw(st.sampled_from([None, 2])), ensure_ascii=draw(st.booleans()))
        return meaning, PATH, {"content": content.encode(), "headers": headers | JSON, "params": params}
    if draw(st.booleans()):
        urls = ["data:image/png;base64," + base64.b64encode(data).decode() for data in references]
        document["images"] = [{"image_url": url} for url in urls]
        return meaning, EDITS, {"json": document, "headers": headers, "params": params}
    name = "image" if len(references) == 1 and draw(st.booleans()) else "image[]"
    stem = draw(st.sampled_from(["a", "photo"]))
    files = [(name, (f"{stem}{number}.png", data, "image/png")) for number, data in enumerate(references)]
    return meaning, EDITS, {"data": document, "files": files, "headers": headers, "params": params}


@st.composite
def gemini_request(draw: st.DrawFn) -> tuple[Any, str, dict[str, Any]]:
    prompt, references, first = draw(prompts), draw(few), draw(st.booleans())
    model = draw(st.sampled_from(["gemini-3-pro-image", "gemini-2.5-flash-image"]))
    ratio = draw(st.sampled_from(["1:8", "8:1"])) if model.startswith("gemini-3") else "21:9"
    size = draw(st.sampled_from(["512", "512", "1K"])) if model.startswith("gemini-3") else None
    count, seed = draw(st.sampled_from([1, 1, 2])), draw(optional_seed)
    warmth = draw(st.sampled_from([None, 1, 0.5]))
    modalities = draw(st.sampled_from([("IMAGE",), ("TEXT", "IMAGE"), ("IMAGE", "TEXT")]))
    meaning = (
        "gemini",
        prompt,
        references,
        first or not references,
        model,
        ratio,
        size,
        count,
        seed,
        warmth,
        modalities,
    )

    snake, alphabet = draw(st.booleans()), draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))

    def name(camel: str) -> str:
        return "".join("_" + letter.lower() if letter.isupper() else letter for letter in camel) if snake else camel

    inline = [
        {name("inlineData"): {name("mimeType"): "image/png", "data": alphabet(data).decode()}} for data in references
    ]
    text = {"text": draw(spelled_prompt(prompt))}
    picture: dict[str, Any] = {name("aspectRatio"): ratio}
    if size is not None:
        picture[name("imageSize")] = size
    config: dict[str, Any] = {name("responseModalities"): list(modalities), name("imageConfig"): picture}
    if count != 1 or draw(st.booleans()):
        config[name("candidateCount")] = count
    if seed is not None:
        config["seed"] = draw(st.sampled_from([seed, float(seed)]))
    if warmth is not None:
        config["temperature"] = draw(st.sampled_from([warmth, float(warmth)]))
    document: dict[str, Any] = {
        "contents": [{"role": "user", "parts": [*inline, text] if first else [text, *inline]}],
        name("generationConfig"): shuffled(draw, config),
    }
    if draw(st.booleans()):
        document["labels"] = {"job": "1"}
    if draw(st.booleans()):
        document[name("systemInstruction")] = None
    headers, params = draw(noise())
    version = draw(st.sampled_from(["v1", "v1beta"]))
    return (
        meaning,
        f"/{version}/models/{model}:generateContent",
        {"json": shuffled(draw, document), "headers": headers, "params": params},
    )


def test_every_hit_is_the_answer_to_what_was_asked(desk: Desk) -> None:
    """What is asked and how it is spelled are drawn apart, so no reading of requests is needed to know the truth."""
    answered: dict[Any, bytes] = {}
    outcomes = {"HIT": 0, "MISS": 0}

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(st.lists(st.one_of(openai_request(), gemini_request()), min_size=4, max_size=8))
    def sweep(requests: list[tuple[Any, str, dict[str, Any]]]) -> None:
        # Each one is asked for again in another spelling's wake, so that hits are as many as misses.
        for meaning, path, request in itertools.chain(requests, requests):
            outcome, answer = desk.ask(path, **request)
            outcomes[outcome] += 1
            if meaning in answered:
                assert outcome == "HIT", "the same thing was asked, and paid for again"
                assert answer == answered[meaning]
            else:
                assert outcome == "MISS", "something else was asked"
                answered[meaning] = answer

    sweep()
    assert len(set(answered.values())) == len(answered) == outcomes["MISS"]
    assert outcomes["HIT"] > outcomes["MISS"] > 100
