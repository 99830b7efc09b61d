"""Recorded exchanges, replayed: what providers really said, asked through httpx and through the SDKs.

A good answer is forwarded once and then given from the store, equal and without a call; anything else (an error, a
refusal, text in place of an image, a URL in place of its bytes) is forwarded each time and never stored.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import google.auth.credentials
import openai
import pytest
from google import genai
from google.genai import errors, types

import cachelayer
from tests.clients.canned import Arrived, Canned, Said
from tests.clients.conftest import Side
from tests.wire import HERE, SHARED, Recorded, exchanges, kind

pytestmark = [pytest.mark.usefixtures("collected"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

_HERE = [one for one in exchanges(HERE) if kind(one)]
_CONNECTION = ("host", "connection", "content-length", "accept-encoding", "transfer-encoding")


def is_good(recorded: Recorded) -> bool:
    return recorded.status == 200 and recorded.inline_images


@pytest.fixture(scope="module")
def shared() -> list[Recorded]:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return exchanges(SHARED)


class Stage:
    """Serves recordings, each under a path of its own, so that no two share a scope."""

    def __init__(self, canned: Canned, cache: cachelayer.Cache) -> None:
        self.canned, self.cache = canned, cache
        self._number = 0

    def set(self, recorded: Recorded, status: int | None = None) -> str:
        self._number += 1
        said = Said(status or recorded.status or 200, recorded.plain_headers, recorded.response_body)
        self.canned.answer = lambda _: said
        self.canned.requests.clear()
        return f"{self.canned.url}/r{self._number}"

    @property
    def arrived(self) -> list[Arrived]:
        return self.canned.requests

    def entries(self) -> int:
        return self.cache.stats().entries


@pytest.fixture
def stage(canned: Canned, cache: cachelayer.Cache) -> Stage:
    return Stage(canned, cache)


# Through httpx --------------------------------------------------------------------------------------------------------


def replay(stage: Stage, side: Side, recorded: Recorded) -> None:
    base = stage.set(recorded)
    assert recorded.url is not None
    parts = urlsplit(recorded.url if "://" in recorded.url else "https://" + recorded.url)
    url = base + parts.path + (f"?{parts.query}" if parts.query else "")
    headers = [pair for pair in recorded.request_headers if pair[0].lower() not in _CONNECTION]
    asked: dict[str, Any] = {"content": recorded.request_body, "headers": headers}
    stored = stage.entries()

    plain = side.ask(side.client(), url, **asked)
    client = stage.cache.wrap(side.client())
    first, second = side.ask(client, url, **asked), side.ask(stage.cache.wrap(side.client()), url, **asked)

    expected, *forwarded = stage.arrived
    assert all(request == expected for request in forwarded), recorded.name
    assert expected.body == recorded.request_body, recorded.name
    for answer in (first, second):
        assert (answer.status_code, answer.content) == (plain.status_code, plain.content), recorded.name
        assert answer.content == recorded.response_body, recorded.name
    outcomes = [first.headers["x-cachelayer"], second.headers["x-cachelayer"]]
    if is_good(recorded):
        assert outcomes == ["MISS", "HIT"], recorded.name
        assert len(forwarded) == 1, recorded.name
        assert second.json() == first.json(), recorded.name
        assert stage.entries() == stored + 1, recorded.name
    else:
        assert outcomes in (["MISS", "MISS"], ["BYPASS", "BYPASS"]), recorded.name
        assert first.headers["x-cachelayer-reason"], recorded.name
        assert len(forwarded) == 2, recorded.name
        assert stage.entries() == stored, recorded.name


@pytest.mark.parametrize("recorded", _HERE, ids=[one.name for one in _HERE])
def test_recorded_through_httpx(stage: Stage, side: Side, recorded: Recorded) -> None:
    replay(stage, side, recorded)


@pytest.mark.shared
def test_all_recorded_through_httpx(stage: Stage, side: Side, shared: list[Recorded]) -> None:
    listed = [one for one in shared if kind(one)]
    assert len(listed) > 20
    assert sum(is_good(one) for one in listed) == 6
    for recorded in listed:
        replay(stage, side, recorded)
    stats = stage.cache.stats()
    assert (stats.hits, stats.entries, stats.errors) == (6, 6, 0)


def test_why_what_is_not_stored_is_not(stage: Stage, side: Side) -> None:
    reasons = {}
    for recorded in _HERE:
        if is_good(recorded) or recorded.url is None:
            continue
        url = stage.set(recorded) + urlsplit(recorded.url).path
        headers = {"content-type": "application/json"}
        answer = side.ask(stage.cache.wrap(side.client()), url, content=recorded.request_body, headers=headers)
        reasons[recorded.file.partition(".")[0]] = answer.headers["x-cachelayer-reason"]
    assert reasons == {
        "test_images_version_latest_only": "image-url",
        "test_google_image_or_text_output": "no-image",
        "test_google_model_armor_prompt_template_text_gets_blocked": "operation-off",
        "test_model_name_suggestion[google]": "operation-off",
        "image_edit_functionality_with_remote_urls_rejects_edits_with_a_url_that_returns_404": "reference-unknown",
    }


# Bare bodies: answers without their requests --------------------------------------------------------------------------


def request_for(recorded: Recorded) -> tuple[str, dict[str, Any]] | None:
    """A request that such an answer would fit, None where the answer is of no dialect listed here."""
    try:
        answer = json.loads(recorded.response_body)
    except ValueError:
        answer = {}
    gemini = "/v1beta/models/gemini-3-pro-image:generateContent"
    contents = {"contents": [{"parts": [{"text": recorded.name}]}]}
    if recorded.file.startswith(("googleai__streaming", "vertexai__streaming")):
        return gemini.replace("generate", "streamGenerate") + "?alt=sse", contents
    if "candidates" in answer or "promptFeedback" in answer or "status" in (answer.get("error") or {}):
        return gemini, contents
    if "data" in answer or ("error" in answer and "object" not in answer):
        return "/v1/images/generations", {"model": "gpt-image-2", "prompt": recorded.name}
    return None


def replay_bare(stage: Stage, side: Side, recorded: Recorded) -> str | None:
    fitting = request_for(recorded)
    if fitting is None:
        return None
    path, asked = fitting
    status = json.loads(recorded.response_body).get("error", {}).get("code", 200) if "error" in path else 200
    url = stage.set(recorded, status if isinstance(status, int) else 400) + path
    stored = stage.entries()
    client = stage.cache.wrap(side.client())
    first, second = (side.ask(client, url, json=asked) for _ in range(2))
    assert first.content == second.content == recorded.response_body, recorded.name
    # The images of vercel-ai/openai-image.json were shortened by hand: no longer pictures, and so not kept.
    if recorded.inline_images:
        assert (first.headers["x-cachelayer"], second.headers["x-cachelayer"]) == ("MISS", "HIT"), recorded.name
        assert len(stage.arrived) == 1, recorded.name
        assert stage.entries() == stored + 1, recorded.name
    else:
        assert second.headers["x-cachelayer"] in ("MISS", "BYPASS"), recorded.name
        assert len(stage.arrived) == 2, recorded.name
        assert stage.entries() == stored, recorded.name
    return str(second.headers["x-cachelayer"])


def test_bare_bodies(stage: Stage, side: Side) -> None:
    bare = [one for one in exchanges(HERE) if one.method is None]
    assert [replay_bare(stage, side, one) for one in bare] == ["BYPASS", "MISS", "MISS"]


@pytest.mark.shared
def test_all_bare_bodies(stage: Stage, side: Side, shared: list[Recorded]) -> None:
    seen = {one.name: replay_bare(stage, side, one) for one in shared if one.method is None}
    hits = sorted(name for name, outcome in seen.items() if outcome == "HIT")
    assert hits == [
        "prism/generate-image-with-a-prompt-1.json",
        "prism/image-edit-multiple-1.json",
    ]
    assert sorted(name for name, outcome in seen.items() if outcome is None) == [
        "firebase-vertexai-test-data/vertexai__unary-failure-generate-images-all-filtered.json",
        "firebase-vertexai-test-data/vertexai__unary-failure-generate-images-base64-some-filtered.json",
        "firebase-vertexai-test-data/vertexai__unary-success-generate-images-base64.json",
        "vercel-ai/openai-image-generation-tool.1.chunks.txt",
        "vercel-ai/openai-image-generation-tool.1.json",
    ]


# Through the SDKs -----------------------------------------------------------------------------------------------------


class FakeCredentials(google.auth.credentials.Credentials):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.token = "ya29.test"

    def refresh(self, request: Any) -> None:
        self.token = "ya29.test"


def through_openai(base: str, recorded: Recorded, cache: cachelayer.Cache) -> Callable[[], Any] | None:
    """The call that sends such a request, None where the SDK cannot express it."""
    assert recorded.url is not None
    assert recorded.request_body is not None
    path = urlsplit(recorded.url).path
    client = cache.wrap(openai.OpenAI(base_url=base + "/v1", api_key="k", max_retries=0))
    if path.endswith("/generations"):
        return lambda: client.images.generate(**json.loads(recorded.request_body or b""))
    # Recorded as JSON with data: URLs; the SDK says the same as a form with files.
    asked = json.loads(recorded.request_body)
    urls = [image.get("image_url") for image in asked.pop("images", ())]
    if not urls or not all(isinstance(url, str) and url.startswith("data:") for url in urls):
        return None
    files = []
    for url in urls:
        mime, _, data = url.removeprefix("data:").partition(";base64,")
        files.append(("reference", base64.b64decode(data), mime))
    return lambda: client.images.edit(**asked, image=files)


def through_genai(base: str, recorded: Recorded, cache: cachelayer.Cache) -> Callable[[], Any] | None:
    assert recorded.url is not None
    body = json.loads(recorded.request_body or b"")
    path = urlsplit(recorded.url if "://" in recorded.url else "https://" + recorded.url).path
    found = re.match(
        r"/(v1\w*)/(?:projects/([^/]+)/locations/([^/]+)/publishers/google/)?models/(.+):generateContent", path
    )
    if found is None:
        return None
    version, project, location, model = found.groups()
    options = types.HttpOptions(base_url=base, api_version=version)
    settings: dict[str, Any] = {"api_key": "k"}
    if project:
        settings = {"vertexai": True, "project": project, "location": location, "credentials": FakeCredentials()}
    client = cache.wrap(genai.Client(http_options=options, **settings))
    contents = [types.Content.model_validate(content) for content in body.pop("contents")]
    config = types.GenerateContentConfig.model_validate({**body.pop("generationConfig", {}), **body})
    return lambda: client.models.generate_content(model=model, contents=contents, config=config)


def ended(call: Callable[[], Any]) -> Any:
    """What came of a call, in a form that can be compared."""
    try:
        answer = call()
    except (openai.APIStatusError, errors.APIError) as error:
        return type(error), str(error)
    if isinstance(answer, types.GenerateContentResponse):
        return answer.model_dump(exclude={"sdk_http_response"})
    return answer.to_dict()


def replay_by_sdk(stage: Stage, recorded: Recorded) -> bool:
    make = through_openai if kind(recorded) == "openai-images" else through_genai
    call = make(stage.set(recorded), recorded, stage.cache)
    if call is None:
        return False
    stored = stage.entries()
    first, second = ended(call), ended(call)
    assert second == first, recorded.name
    assert stage.entries() == stored + is_good(recorded), recorded.name
    assert len(stage.arrived) == (1 if is_good(recorded) else 2), recorded.name
    return True


_NOT_SAID = "the SDK cannot express this request"


@pytest.mark.parametrize("recorded", _HERE, ids=[one.name for one in _HERE])
def test_recorded_through_the_sdk(stage: Stage, recorded: Recorded) -> None:
    if not replay_by_sdk(stage, recorded):
        assert b"https://" in (recorded.request_body or b"")  # a reference by its URL: the SDK sends files only
        pytest.skip(_NOT_SAID)


@pytest.mark.shared
def test_all_recorded_through_the_sdk(stage: Stage, shared: list[Recorded]) -> None:
    listed = [one for one in shared if kind(one)]
    said = [one for one in listed if replay_by_sdk(stage, one)]
    assert {one.name for one in listed if is_good(one)} <= {one.name for one in said}
    assert len(said) >= len(listed) - 2
    assert stage.cache.stats().hits == 6
