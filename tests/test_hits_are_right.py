"""A hit is the answer to this very question: pairs that never meet, pairs that always do, and a sweep of both.

Whether an answer is right is told by the provider's own bytes: a second simulator draws the same pictures for the same
request, and every answer of a simulator carries an id of its own, so that one answer is never mistaken for another.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, body, gemini_body

EDITS = "/v1/images/edits"


def png(shade: int) -> bytes:
    """A whole picture of 16 x 16 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([shade]) * 16) * 16
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


RED, GREEN, BLUE = (png(shade) for shade in (10, 20, 30))


def pictures(answer: httpx.Response) -> list[str]:
    document = answer.json()
    if "data" in document:
        return [item["b64_json"] for item in document["data"]]
    parts = [part for candidate in document["candidates"] for part in candidate["content"]["parts"]]
    return [part["inlineData"]["data"] for part in parts if "inlineData" in part]


class Desk:
    """Asks through the cache, and past it for the truth."""

    def __init__(self, cache: cachelayer.Cache, simulator: Simulator, truth: Simulator) -> None:
        self.simulator, self.truth = simulator, truth
        self.client = cache.wrap(httpx.Client(timeout=60))
        self.plain = httpx.Client(timeout=60)

    def ask(self, path: str, simulator: Simulator | None = None, **request: Any) -> tuple[str, bytes]:
        """(outcome, body); fails when a miss brings other pictures than the provider's, or a hit makes a call."""
        simulator = simulator or self.simulator
        calls = simulator.calls
        answer = self.client.post(simulator.url + path, **request)
        assert answer.status_code == 200, answer.text
        outcome = answer.headers["x-cachelayer"]
        if outcome == "HIT":
            assert simulator.calls == calls
        else:
            assert pictures(answer) == self.drawn(path, **request)
            assert simulator.calls == calls + 1
        return outcome, answer.content

    def drawn(self, path: str, **request: Any) -> list[str]:
        return pictures(self.plain.post(self.truth.url + path, **request))

    def apart(self, *requests: tuple[str, dict[str, Any]]) -> None:
        """All of these are different questions: each is a miss once and then a hit with its own answer."""
        bodies = []
        for path, request in requests:
            outcome, first = self.ask(path, **request)
            assert outcome == "MISS", request
            bodies.append(first)
        assert len(set(bodies)) == len(bodies)
        for (path, request), first in zip(requests, bodies, strict=True):
            assert self.ask(path, **request) == ("HIT", first)

    def together(self, *requests: tuple[str, dict[str, Any]]) -> None:
        """All of these are one question: a miss, then hits with its answer."""
        (path, request), *others = requests
        outcome, first = self.ask(path, **request)
        assert outcome == "MISS"
        for path, other in [*others, requests[0]]:
            assert self.ask(path, **other) == ("HIT", first), other

    def close(self) -> None:
        self.client.close()
        self.plain.close()


@pytest.fixture
def desk(cache: cachelayer.Cache, simulator: Simulator) -> Iterator[Desk]:
    with Simulator() as truth:
        desk = Desk(cache, simulator, truth)
        yield desk
        desk.close()


def images(**fields: Any) -> tuple[str, dict[str, Any]]:
    headers, params = fields.pop("headers", None), fields.pop("params", None)
    return PATH, {"json": body(**fields), "headers": headers, "params": params}


def gemini(*, model: str = "gemini-3-pro-image", **config: Any) -> tuple[str, dict[str, Any]]:
    return f"/v1beta/models/{model}:generateContent", {"json": gemini_body(**config)}


def referring(*pieces: bytes, text: str = "like these", first: bool = True) -> tuple[str, dict[str, Any]]:
    inline = [{"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}} for data in pieces]
    parts = [*inline, {"text": text}] if first else [{"text": text}, *inline]
    config = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}
    return GEMINI_PATH, {"json": {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}}


def editing(*pieces: bytes, mask: bytes | None = None, **fields: str) -> tuple[str, dict[str, Any]]:
    files = [("image[]", (f"{number}.png", data, "image/png")) for number, data in enumerate(pieces)]
    if mask is not None:
        files.append(("mask", ("mask.png", mask, "image/png")))
    return EDITS, {
        "data": {"model": "gpt-image-2", "prompt": "like these", "size": "64x64", **fields},
        "files": files,
    }


# --- never the same ---------------------------------------------------------------------------------------------------


def test_4k_never_answers_1k(desk: Desk) -> None:
    sizes: list[dict[str, Any]] = [{"imageSize": size} for size in ("512", "1K", "2K", "4K")]
    desk.apart(*(gemini(imageConfig={"aspectRatio": "1:8", **size}) for size in [*sizes, {}]))
    desk.apart(*(images(size=size) for size in ("64x64", "64x128", "128x64", "128x128", None)))


def test_an_aspect_ratio_is_not_its_own_default(desk: Desk) -> None:
    ratios: list[dict[str, Any]] = [{}, {"aspectRatio": "1:1"}, {"aspectRatio": "1:8"}, {"aspectRatio": "8:1"}]
    desk.apart(*(gemini(imageConfig={"imageSize": "512", **ratio}) for ratio in ratios))


@pytest.mark.parametrize("make", [referring, editing], ids=["gemini", "multipart"])
def test_references_count_one_by_one_and_in_their_order(make: Any, desk: Desk) -> None:
    desk.apart(
        make(RED),
        make(GREEN),
        make(RED, GREEN),
        make(GREEN, RED),
        make(RED, RED),
        make(RED, GREEN, BLUE),
        make(RED, BLUE, GREEN),
        make(RED[:-1] + b"\x83", GREEN),  # one byte of a picture
    )


def test_a_mask_is_not_a_picture(desk: Desk) -> None:
    desk.apart(editing(RED), editing(RED, mask=GREEN), editing(RED, GREEN), editing(RED, mask=BLUE))


def test_where_the_text_stands_among_the_references_counts(desk: Desk) -> None:
    desk.apart(referring(RED, GREEN), referring(RED, GREEN, first=False), referring(RED, GREEN, text="Like these"))


def test_prompts_that_differ_in_anything_an_author_sees(desk: Desk) -> None:
    desk.apart(*(images(prompt=text) for text in ("a cat", "A cat", "a cat.", "a  cat", "a\ncat", "a cât", "cat a")))


def test_seeds(desk: Desk) -> None:
    small: dict[str, Any] = {"imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}
    desk.apart(gemini(**small), *(gemini(**small, seed=seed) for seed in (0, 1, -1, 2**31)))
    desk.apart(images(), *(images(seed=seed) for seed in (0, 1, "1", True, False, "0")))


def test_counts(desk: Desk) -> None:
    small: dict[str, Any] = {"imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}
    desk.apart(gemini(**small), gemini(**small, candidateCount=2), gemini(**small, candidateCount=3))
    desk.apart(images(), images(n=2), images(n=3))


def test_a_model_and_its_snapshot(desk: Desk) -> None:
    models = ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "gpt-image-2-2026-04-21"]
    desk.apart(*(images(model=model) for model in models))
    small: dict[str, Any] = {"imageConfig": {"aspectRatio": "21:9"}}
    models = ["gemini-3-pro-image", "gemini-3-pro-image-preview", "gemini-2.5-flash-image"]
    desk.apart(*(gemini(model=model, **small) for model in models))


def test_another_hosts_defaults_count(desk: Desk) -> None:
    """OpenAI documents `auto` for its own host; the simulator's is another."""
    desk.apart(images(), images(background="auto"), images(quality="auto"), images(moderation="auto"))


def test_a_part_of_a_form_without_a_filename_is_no_file(desk: Desk) -> None:
    path, request = editing(RED, mask=GREEN)
    *pictures, (_, (_, mask, mime)) = request["files"]
    as_field = {**request, "files": [*pictures, ("mask", (None, mask, mime))]}
    desk.apart((path, request), (path, as_field), editing(RED))


def test_anything_unknown_counts(desk: Desk) -> None:
    desk.apart(
        images(),
        images(style="x"),
        images(style="y"),
        images(style=["x"]),
        images(style={"x": None}),
        images(style={}),
        images(headers={"x-lab": "a"}),
        images(headers={"x-lab": "b"}),
        images(params={"lab": "a"}),
        images(params={"lab": "b"}),
        images(params={"LAB": "a"}),
    )


def test_a_stream_is_never_answered_by_a_whole_nor_a_whole_by_a_stream(desk: Desk) -> None:
    for path, request in (images(), gemini(imageConfig={"aspectRatio": "1:8", "imageSize": "512"})):
        streamed = path.replace(":generateContent", ":streamGenerateContent")
        document = request["json"] | ({} if ":" in path else {"stream": True})
        for _ in range(2):
            calls = desk.simulator.calls
            answer = desk.client.post(desk.simulator.url + streamed, json=document)
            assert answer.headers["x-cachelayer"] == "BYPASS"
            assert desk.simulator.calls == calls + 1
        assert desk.ask(path, **request)[0] == "MISS"
        answer = desk.client.post(desk.simulator.url + streamed, json=document)
        assert answer.headers["x-cachelayer"] == "BYPASS"
        assert desk.ask(path, **request)[0] == "HIT"


def test_dialects_never_meet(desk: Desk) -> None:
    """The same words to the same model, in another language."""
    small = {"aspectRatio": "1:8", "imageSize": "512"}
    desk.apart(images(model="gemini-3-pro-image"), gemini(imageConfig=small), referring(RED), editing(RED))


def test_namespaces_never_meet(folder: Path, simulator: Simulator) -> None:
    answers = []
    with Simulator() as truth:
        for round in range(2):
            for namespace in ("default", "a", "b", "a b", "A"):
                with cachelayer.Cache(path=folder, namespace=namespace) as cache:
                    desk = Desk(cache, simulator, truth)
                    outcome, answer = desk.ask(PATH, json=body())
                    assert outcome == ("HIT" if round else "MISS")
                    answers.append(answer)
                    desk.close()
    assert len(set(answers)) == 5
    assert answers[:5] == answers[5:]


def test_scopes_meet_only_when_they_are_pooled(folder: Path, simulator: Simulator) -> None:
    with Simulator() as other, Simulator() as truth:
        hosts = [one.url.removeprefix("http://") for one in (simulator, other)]
        with cachelayer.Cache(path=folder) as cache:
            desk = Desk(cache, simulator, truth)
            first = [desk.ask(PATH, one, json=body("apart")) for one in (simulator, other)]
            assert [outcome for outcome, _ in first] == ["MISS", "MISS"]
            prefixed = desk.ask("/reseller" + PATH, json=body("apart"))
            assert prefixed[0] == "MISS"
            desk.close()
        pool = ["http://" + host for host in hosts]
        with cachelayer.Cache(path=folder, pools=[pool]) as cache:
            desk = Desk(cache, simulator, truth)
            outcome, answer = desk.ask(PATH, simulator, json=body("pooled"))
            assert outcome == "MISS"
            assert desk.ask(PATH, other, json=body("pooled")) == ("HIT", answer)
            # What was paid for before the pool is found; the asker's own comes first.
            assert [desk.ask(PATH, one, json=body("apart"))[1] for one in (simulator, other)] == [
                answer for _, answer in first
            ]
            assert desk.ask("/reseller" + PATH, json=body("pooled"))[0] == "MISS"  # a path is a scope of its own
            desk.close()
        with cachelayer.Cache(path=folder) as cache:
            desk = Desk(cache, simulator, truth)
            assert [desk.ask(PATH, one, json=body("apart")) for one in (simulator, other)] == [
                ("HIT", answer) for _, answer in first
            ]
            desk.close()


# --- always the same --------------------------------------------------------------------------------------------------


def test_tracing_telemetry_and_credentials_cost_no_hit(desk: Desk) -> None:
    names = [
        "authorization",
        "x-goog-api-key",
        "api-key",
        "x-api-key",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
        "user-agent",
        "x-stainless-lang",
        "x-stainless-retry-count",
        "x-goog-api-client",
        "x-server-timeout",
        "idempotency-key",
        "referer",
        "x-title",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "x-b3-traceid",
        "sentry-trace",
        "x-request-id",
        "x-correlation-id",
        "x-datadog-trace-id",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
    ]
    parameters = ("key", "api_key", "access_token", "sig", "X-Amz-Date", "X-Goog-Date")
    desk.together(
        images(),
        *(images(headers={name: f"{name}-{number}"}) for name in names for number in range(2)),
        *(images(params={name: "x"}) for name in parameters),
        *(images(headers={"accept": accept}) for accept in ("application/json", "text/html, */*;q=0.8")),
    )


def test_bookkeeping_costs_no_hit(desk: Desk) -> None:
    desk.together(
        images(), images(user="u1"), images(user="u2"), images(safety_identifier="s"), images(metadata={"job": 1})
    )
    path, request = gemini(imageConfig={"aspectRatio": "1:8", "imageSize": "512"})
    labelled = {"json": request["json"] | {"labels": {"team": "a"}}}
    desk.together((path, request), (path, labelled), (path.replace("v1beta", "v1"), request))


def test_spellings_cost_no_hit(desk: Desk) -> None:
    plain = body("a fox")
    desk.together(
        images(prompt="a fox"),
        images(prompt="  a fox\n"),
        images(prompt="a fox", n=1),
        images(prompt="a fox", n=None, stream=False, user=None),
        (PATH, {"content": json.dumps(dict(reversed(plain.items())), indent=3), "headers": JSON}),
        (PATH, {"content": json.dumps(plain).replace("fox", "\\u0066ox"), "headers": JSON}),
    )


JSON = {"content-type": "application/json"}


# --- a sweep ----------------------------------------------------------------------------------------------------------

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
