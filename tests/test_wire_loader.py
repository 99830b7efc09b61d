"""The loader of recorded exchanges reads every spelling, and the recordings are what their index says."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.wire import HERE, SHARED, Recorded, exchanges, kind, pictures

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module", params=["here", pytest.param("shared", marks=pytest.mark.shared)])
def recordings(request: pytest.FixtureRequest) -> list[Recorded]:
    root = HERE if request.param == "here" else SHARED
    if root is SHARED and not root.is_dir():
        pytest.skip(f"{root} is not there")
    return exchanges(root)


def test_committed_counts() -> None:
    recordings = exchanges(HERE)
    assert Counter((kind(one), one.inline_images) for one in recordings) == {
        ("gemini", True): 3,
        ("gemini", False): 3,
        ("openai-images", True): 2,
        ("openai-images", False): 2,
        (None, False): 4,
    }
    assert Counter(one.status for one in recordings) == {200: 9, 400: 1, 404: 1, None: 3}


@pytest.mark.shared
def test_shared_counts() -> None:
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    listed = [json.loads(line) for line in (SHARED / "INDEX.jsonl").read_text().splitlines()]
    recordings = exchanges(SHARED)
    assert len(recordings) >= len(listed)
    assert {"gemini", "openai-images"} <= {kind(one) for one in recordings if one.inline_images}


def test_each_is_listed_once(recordings: list[Recorded]) -> None:
    names = [one.name for one in recordings]
    assert len(set(names)) == len(names)


def test_request_bodies_parse(recordings: list[Recorded]) -> None:
    sent = [one for one in recordings if one.request_body]
    assert sent
    for one in sent:
        body = one.request_body or b""
        content_type = next(value for name, value in one.request_headers if name.lower() == "content-type")
        if content_type.startswith("application/json"):
            assert isinstance(json.loads(body), dict), one.name
        elif content_type.startswith("multipart/form-data"):
            parsed = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
            assert len(parsed.get_payload()) > 1, one.name
        else:
            assert content_type == "application/x-www-form-urlencoded", one.name
            assert kind(one) is None


def test_recognised_answers_are_json(recordings: list[Recorded]) -> None:
    for one in recordings:
        if kind(one) and not (one.url or "").partition("?")[0].endswith(":streamGenerateContent"):
            assert isinstance(json.loads(one.response_body), dict), one.name


def test_images_are_those_of_the_index(recordings: list[Recorded]) -> None:
    assert any(one.images_in for one in recordings)
    assert any(one.images_out for one in recordings)
    for one in recordings:
        assert Counter(pictures(one.response_body)) == Counter(one.images_out), one.name
        if not (one.request_body or b"").startswith(b"--"):  # the index looks into JSON requests only
            assert Counter(pictures(one.request_body or b"")) == Counter(one.images_in), one.name


def test_usage_is_in_the_answer(recordings: list[Recorded]) -> None:
    for one in recordings:
        for block in one.usage:
            for name in block:
                assert f'"{name}"'.encode() in one.response_body, one.name


VCRPY = """
version: 1
interactions:
- request:
    body: {request}
    headers: {{content-type: [application/json]}}
    method: POST
    uri: https://reseller.example/prefix/v1/images/generations
  response:
    {response}
    headers: {{Content-Encoding: [gzip], X-One: plain, X-Two: [a, b]}}
    status: {{code: 200, message: OK}}
"""
ANSWER = json.dumps({"data": [{"b64_json": base64.b64encode(PNG).decode()}]}).encode()
PACKED = base64.b64encode(gzip.compress(ANSWER, mtime=0)).decode()


def folder(tmp_path: Path, name: str, text: str) -> Path:
    place = tmp_path / "someone"
    place.mkdir()
    (place / name).write_text(text)
    (place / "SOURCE.md").write_text("not an exchange")
    (tmp_path / "INDEX.jsonl").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    "response",
    [
        f"body: {{string: !!binary {PACKED}}}",
        f"body: {{encoding: ASCII-8BIT, string: !binary {PACKED}}}",
        f"body: {{encoding: ASCII-8BIT, base64_string: {PACKED}}}",
        f"body: !!python/object/new:_io.BytesIO {{state: !!python/tuple [!!binary {PACKED}, 0, null]}}",
        f"body: {{string: {json.dumps(ANSWER.decode())}}}",
        f"content: {json.dumps(ANSWER.decode())}",
        f"parsed_body: {ANSWER.decode()}",
    ],
    ids=["binary", "ruby-binary", "base64", "bytesio", "decoded", "content", "parsed"],
)
def test_spellings_of_a_body(tmp_path: Path, response: str) -> None:
    [one] = exchanges(folder(tmp_path, "a.yaml", VCRPY.format(request="'{\"n\": 1}'", response=response)))
    assert json.loads(one.response_body) == json.loads(ANSWER)
    assert (one.response_raw == one.response_body) == ("!" not in response and "base64" not in response)
    assert one.inline_images
    assert kind(one) == "openai-images"
    assert one.request_body == b'{"n": 1}'
    assert one.plain_headers == (("X-One", "plain"), ("X-Two", "a"), ("X-Two", "b"))


def test_absent_request_body_is_empty(tmp_path: Path) -> None:
    [one] = exchanges(folder(tmp_path, "a.yaml", VCRPY.format(request="null", response="body: {string: x}")))
    assert one.request_body == b""
    assert not one.inline_images


def test_parsed_body_keeps_the_recorded_length_and_times_stay_text(tmp_path: Path) -> None:
    cassette = """
http_interactions:
- request:
    method: post
    uri: https://generativelanguage.googleapis.com/v1beta/models/m:generateContent
    headers: {content-length: ['%d']}
    parsed_body: {a: [1, 2], at: 2026-01-02T03:04:05Z}
  response: {status: {code: 200}, body: {string: ''}}
"""
    for expected in (b'{"a": [1, 2], "at": "2026-01-02T03:04:05Z"}', b'{"a":[1,2],"at":"2026-01-02T03:04:05Z"}'):
        place = tmp_path / str(len(expected))
        place.mkdir()
        [one] = exchanges(folder(place, "a.yml", cassette % len(expected)))
        assert one.request_body == expected
        assert kind(one) == "gemini"


@pytest.mark.parametrize(
    ("method", "url", "expected"),
    [
        ("POST", "https://h/v1beta/models/gemini-x:generateContent?key=k", "gemini"),
        ("POST", "https://h/v1/projects/p/locations/l/publishers/google/models/m:streamGenerateContent", "gemini"),
        ("POST", "https://h/v1/models/m:predict", None),
        ("POST", "https://h.azure.com/openai/deployments/d/images/edits?api-version=1", "openai-images"),
        ("POST", "https://openrouter.ai/api/v1/images", None),
        ("POST", "https://api.openai.com/v1/images/variations", None),
        ("GET", "https://api.openai.com/v1/images/generations", None),
    ],
)
def test_kind_goes_by_method_and_path(tmp_path: Path, method: str, url: str, expected: str | None) -> None:
    cassette = {
        "interactions": [
            {
                "request": {"method": method, "uri": url, "body": ""},
                "response": {"body": {"string": "{}"}, "status": {"code": 200}},
            }
        ]
    }
    [one] = exchanges(folder(tmp_path, "a.yaml", json.dumps(cassette)))
    assert kind(one) == expected


def test_index_row_without_its_file_is_an_error(tmp_path: Path) -> None:
    root = folder(tmp_path, "a.json", "{}")
    (root / "INDEX.jsonl").write_text('{"source": "someone", "file": "b.json", "i": null}\n')
    with pytest.raises(ValueError, match=r"b\.json"):
        exchanges(root)


def test_unknown_content_encoding_is_an_error(tmp_path: Path) -> None:
    cassette = VCRPY.format(request="''", response=f"body: {{string: !!binary {PACKED}}}")
    with pytest.raises(ValueError, match="cannot decode content-encoding br"):
        exchanges(folder(tmp_path, "a.yaml", cassette.replace("[gzip]", "[br]")))


def test_pictures_are_whole_and_inline() -> None:
    text = base64.b64encode(PNG).decode()
    assert len(pictures(json.dumps({"data": [f"data:image/png;base64,{text}", text]}).encode())) == 2
    assert len(pictures(b"data: " + json.dumps({"d": text}).encode() + b"\r\n\r\ndata: [DONE]\r\n\r\n")) == 1
    multipart = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n' + PNG + b"\r\n--b--\r\n"
    assert [picture.size for picture in pictures(multipart)] == [len(PNG)]
    assert pictures(json.dumps({"data": text[:64]}).encode()) == ()
    assert pictures(PNG) == ()
