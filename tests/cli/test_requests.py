"""explain and diff: the same word on a request as the cache at work."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from cachelayer.cli.failure import Failure
from cachelayer.cli.requests import read_request
from cachelayer.core.reasons import Reason
from tests.cli.command import Run, Stored

UNRECOGNISED = Reason.UNRECOGNISED
URL = "https://api.openai.com/v1/images/generations"


def write(folder: Path, name: str, **fields: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps({"method": "POST", "url": URL, "headers": {}, **fields}))
    return file


def test_explain_finds_the_key_that_the_cache_uses(run: Run, stored: Stored, tmp_path: Path) -> None:
    body = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}
    file = write(tmp_path, "a.json", url=f"{stored.url}/v1/images/generations", body=body)
    document = run("explain", file, "--json").json
    assert document.keys() == {"key", "operation", "model", "fields"}
    assert document["key"] == stored.lighthouse
    assert (document["operation"], document["model"]) == ("image", "gpt-image-2")
    assert document["fields"]["body"]["prompt"] == "a lighthouse"
    shown = run("explain", file).out
    assert stored.lighthouse in shown
    assert not (tmp_path / "xdg").exists()


def test_a_body_may_be_spelled_in_any_way(run: Run, tmp_path: Path) -> None:
    body = {"model": "gpt-image-2", "prompt": "ein Leuchtturm, große Wellen"}
    text = json.dumps(body, ensure_ascii=False)
    typed = {"content-type": "application/json"}
    spellings = [
        write(tmp_path, "object.json", body=body),
        write(tmp_path, "text.json", body=text, headers=typed),
        write(tmp_path, "base64.json", body_base64=base64.b64encode(text.encode()).decode(), headers=typed),
        write(tmp_path, "pairs.json", body=text, headers=[["Content-Type", "application/json"]]),
    ]
    keys = {run("explain", file, "--json").json["key"] for file in spellings}
    keys.add(run("explain", "-", "--json", stdin=spellings[0].read_text()).json["key"])
    assert len(keys) == 1
    assert None not in keys


def test_what_is_not_cached_says_why(run: Run, tmp_path: Path) -> None:
    ended = run("explain", write(tmp_path, "a.json", url="https://example.com/v1/chat", body={}), "--json")
    assert ended.json["key"] is None
    assert ended.json["reason"] == "unrecognised"
    people = run("explain", tmp_path / "a.json")
    said = f"Not cached: unrecognised ({UNRECOGNISED.meaning}; {UNRECOGNISED.remedy})"
    assert " ".join(people.out.split()) == said


def test_explain_goes_by_the_settings_in_force(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path, "a.json", body={"model": "gpt-image-2", "prompt": "x"})
    default = run("explain", file, "--json").json
    walled = run("explain", file, "--json", env={"CACHELAYER_NAMESPACE": "team", "CACHELAYER_DISABLED": "1"}).json
    assert walled["fields"]["namespace"] == "team"
    assert walled["key"] != default["key"]


def test_no_credential_is_shown(run: Run, tmp_path: Path) -> None:
    headers = {"authorization": "Bearer sk-canary", "cookie": "sk-canary", "x-unknown": "sk-canary"}
    body = {"model": "gpt-image-2", "prompt": "x"}
    file = write(tmp_path, "a.json", url=f"{URL}?key=sk-canary", headers=headers, body=body)
    other = write(tmp_path, "b.json", headers=headers, body={**body, "prompt": "y"})
    for arguments in (
        ["explain", file],
        ["explain", file, "--json"],
        ["diff", file, other],
        ["diff", file, other, "--json"],
    ):
        ended = run(*arguments)
        assert ended.code == 0
        assert "sk-canary" not in ended.out + ended.err


def test_diff(run: Run, tmp_path: Path) -> None:
    body = {"model": "gpt-image-2", "prompt": "x", "size": "1024x1024"}
    a = write(tmp_path, "a.json", body=body)
    b = write(tmp_path, "b.json", body={**body, "size": "1536x1024"})
    c = write(tmp_path, "c.json", body={**body, "user": "somebody"}, headers={"traceparent": "00-1"})
    assert run("diff", a, b, "--json").json == {
        "same": False,
        "reason": None,
        "differences": [{"field": "body.size", "a": "1024x1024", "b": "1536x1024"}],
    }
    assert run("diff", a, c, "--json").json == {"same": True, "reason": None, "differences": []}
    assert 'a: "1024x1024"\n  b: "1536x1024"' in run("diff", a, b).out
    assert run("diff", a, c).out == "Same key: one answer serves both.\n"
    assert [run("diff", a, other).code for other in (b, c)] == [0, 0]


def test_diff_of_a_request_without_a_key(run: Run, tmp_path: Path) -> None:
    a = write(tmp_path, "a.json", body={"model": "gpt-image-2", "prompt": "x"})
    b = write(tmp_path, "b.json", url="https://example.com/")
    ended = run("diff", a, b)
    assert ended.code == 2
    assert "b gets no key: unrecognised" in ended.sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"url": 3}',
        '{"method": "POST"}',
        '{"url": "https://x.y", "body": 3}',
        '{"url": "https://x.y", "body": "a", "body_base64": "YQ=="}',
        '{"url": "https://x.y", "body_base64": "not base64!"}',
        '{"url": "https://x.y", "body_base64": 3}',
        '{"url": "https://x.y", "headers": 3}',
        '{"url": "https://x.y", "headers": {"a": 3}}',
        '{"url": "https://x.y", "headers": [["a"]]}',
        '{"url": "https://x.y", "bodi": ""}',
        "[" * 100_000,
        "\xff",
    ],
)
def test_what_is_no_request_is_one_sentence_and_2(tmp_path: Path, text: str) -> None:
    file = tmp_path / "request.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(Failure, match=r"is not JSON: |is no request: ") as failure:
        read_request(str(file))
    assert failure.value.code == 2
    assert "\n" not in str(failure.value)


def test_stdin_that_is_no_request(run: Run) -> None:
    ended = run("explain", "-", stdin="{")
    assert (ended.code, ended.out) == (2, "")
    assert ended.sentence.startswith("stdin is not JSON")


@pytest.mark.parametrize("command", [["explain", ""], ["explain", " "], ["diff", "", "-"], ["diff", "0" * 64, ""]])
def test_no_name_is_said_to_be_none(run: Run, stored: Stored, command: list[str]) -> None:
    if command[-1] == "" and command[1]:
        command[1] = stored.harbour
    ended = run(*command, "--path", stored.path)
    assert (ended.code, ended.sentence.startswith("the name of a request is empty; give a file")) == (2, True)


def test_a_folder_or_binary_file_is_one_sentence_and_2(run: Run, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for file in (tmp_path, tmp_path / "binary"):
        ended = run("explain", file)
        assert ended.code == 2
        assert str(file) in ended.sentence
