"""explain and diff of stored entries, by key or a unique beginning of it, beside files; and what differences advise."""

from __future__ import annotations

import json
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.core.reasons import Reason
from cachelayer.simulator import Simulator
from tests.asking import GEMINI_PATH, PATH, gemini_body
from tests.asking import body as small
from tests.cli.command import Run, Stored
from tests.cli.test_requests import write

LIGHTHOUSE = {"model": "gpt-image-2", "prompt": "a lighthouse", "size": "512x512", "quality": "low"}


def test_explain_by_key_says_what_explain_of_the_request_says(run: Run, stored: Stored, tmp_path: Path) -> None:
    file = write(tmp_path, "a.json", url=f"{stored.url}/v1/images/generations", body=LIGHTHOUSE)
    by_file = run("explain", file, "--path", stored.path, "--json").json
    for name in (stored.lighthouse, stored.lighthouse[:10], stored.lighthouse[:10].upper()):
        assert run("explain", name, "--path", stored.path, "--json").json == by_file
    assert run("explain", stored.lighthouse, "--path", stored.path).out == run("explain", file).out
    harbour = run("explain", stored.harbour, "--path", stored.path, "--json").json
    assert (harbour["key"], harbour["model"]) == (stored.harbour, "gemini-3-pro-image")


def test_diff_takes_keys_and_files(run: Run, stored: Stored, tmp_path: Path) -> None:
    other = write(
        tmp_path, "b.json", url=f"{stored.url}/v1/images/generations", body={**LIGHTHOUSE, "size": "1024x1024"}
    )
    same = write(tmp_path, "a.json", url=f"{stored.url}/v1/images/generations", body=LIGHTHOUSE)
    size = [{"field": "body.size", "a": "512x512", "b": "1024x1024"}]
    key = stored.lighthouse[:12]
    assert run("diff", key, other, "--path", stored.path, "--json").json == {
        "same": False,
        "reason": None,
        "differences": size,
    }
    assert run("diff", key, same, "--path", stored.path).out == "Same key: one answer serves both.\n"
    both = run("diff", key, stored.harbour, "--path", stored.path, "--json").json
    assert both["same"] is False
    assert {"field": "model", "a": "gpt-image-2", "b": "gemini-3-pro-image"} in both["differences"]


def test_a_difference_in_the_count_alone_is_one(run: Run, tmp_path: Path, simulator: Simulator) -> None:
    with cachelayer.Cache(tmp_path / "store") as cache, cache.wrap(httpx.Client()) as client:
        keys = [client.post(simulator.url + PATH, json=small(n=n)).headers["x-cachelayer-key"] for n in (1, 3)]
    document = run("diff", *keys, "--path", tmp_path / "store", "--json").json
    assert document == {"same": False, "reason": None, "differences": [{"field": "count", "a": 1, "b": 3}]}


def test_a_file_wins_over_a_key_of_its_name(run: Run, stored: Stored, tmp_path: Path) -> None:
    write(tmp_path, stored.lighthouse[:12], body={"model": "gpt-image-2", "prompt": "from the file"})
    document = run("explain", stored.lighthouse[:12], "--path", stored.path, "--json").json
    assert document["fields"]["body"]["prompt"] == "from the file"


@pytest.mark.parametrize("command", [["explain", "abc123"], ["diff", "abc123", "abc123"]])
def test_a_key_that_is_not_there(run: Run, stored: Stored, command: list[str]) -> None:
    ended = run(*command, "--path", stored.path)
    assert (ended.code, ended.out) == (1, "")
    assert "no entry has the key abc123" in ended.sentence
    nowhere = run(*command, "--path", stored.path / "nowhere")
    assert (nowhere.code, nowhere.out) == (1, "")


def test_a_damaged_request_is_one_sentence(run: Run, stored: Stored) -> None:
    import sqlite3

    with closing(sqlite3.connect(stored.path / "entries" / "cache.db")) as database, database:
        (packed,) = database.execute("SELECT request FROM Canonical WHERE key = ?", (stored.harbour,)).fetchone()
        forged = zlib.decompress(packed).replace(b"harbour", b"seaport")
        database.execute("UPDATE Canonical SET request = ? WHERE key = ?", (zlib.compress(forged), stored.harbour))
        database.execute("UPDATE Canonical SET request = x'00' WHERE key = ?", (stored.lighthouse,))
    for key in (stored.harbour, stored.lighthouse):
        ended = run("explain", key, "--path", stored.path)
        assert (ended.code, ended.out) == (1, "")
        assert "damaged" in ended.sentence


# --- what is never served ---------------------------------------------------------------------------------------------

URL = "https://generativelanguage.googleapis.com" + GEMINI_PATH
NEVER: dict[Reason, dict[str, Any]] = {
    Reason.STATEFUL: {"url": URL, "body": gemini_body() | {"tools": [{"googleSearch": {}}]}},
    Reason.OPERATION_OFF: {"url": URL.replace("-image", ""), "body": {"contents": [{"parts": [{"text": "x"}]}]}},
    Reason.STREAM: {"body": small(stream=True)},
    Reason.REFERENCE_UNKNOWN: {
        "url": "https://api.openai.com/v1/images/edits",
        "body": small(images=[{"image_url": "https://x.example/a.png"}]),
    },
}


@pytest.mark.parametrize("reason", NEVER)
def test_no_answer_is_said_to_serve_what_is_never_served(run: Run, tmp_path: Path, reason: Reason) -> None:
    a = write(tmp_path, "a.json", **NEVER[reason])
    b = write(tmp_path, "b.json", **NEVER[reason], headers={"traceparent": "00-1"})
    assert run("diff", a, b, "--json").json == {"same": True, "reason": reason, "differences": []}
    people = " ".join(run("diff", a, b).out.split())
    assert "serves" not in people
    assert people.startswith(f"Same key, and neither is ever answered from the cache: {reason} ({reason.meaning}")
    fine = write(tmp_path, "c.json", body=small())
    document = run("diff", fine, a, "--json").json
    assert (document["same"], document["reason"]) == (False, reason)
    assert f"b is never answered from the cache: {reason}" in " ".join(run("diff", fine, a).out.split())


# --- what a difference says -------------------------------------------------------------------------------------------


def test_a_field_that_one_side_lacks_is_none(cache: cachelayer.Cache) -> None:
    def request(**fields: Any) -> cachelayer.Request:
        typed = {"content-type": "application/json"}
        return cachelayer.Request(
            "POST", "https://api.openai.com/v1/images/generations", typed, json.dumps(small(**fields))
        )

    assert cache.diff(request(), request(seed=5)) == [cachelayer.Difference("body.seed", None, 5)]
    assert cache.diff(request(seed="(absent)"), request()) == [cachelayer.Difference("body.seed", "(absent)", None)]
    (nested,) = cache.diff(request(), request(extra={"a": {"b": 1}}))
    assert nested == cachelayer.Difference("body.extra.a.b", None, 1)


def test_an_absent_field_is_null_in_json_and_said_to_people(run: Run, tmp_path: Path) -> None:
    a = write(tmp_path, "a.json", body=small())
    b = write(tmp_path, "b.json", body=small(seed=5))
    document = run("diff", a, b, "--json").json
    assert document["differences"] == [{"field": "body.seed", "a": None, "b": 5}]
    assert "  a: (absent)\n  b: 5\n" in run("diff", a, b).out


def test_headers_and_parameters_come_with_the_rule_that_ignores_them(run: Run, tmp_path: Path) -> None:
    url = "https://api.openai.com/v1/images/generations?job=1&v=2"
    a = write(tmp_path, "a.json", url=url, headers={"x-job-id": "1", "x.dotted": "1"}, body=small())
    b = write(
        tmp_path,
        "b.json",
        url=url.replace("job=1", "job=2"),
        headers={"X-Job-Id": "2", "x.dotted": "1", "x-new": "1", "accept": "text/event-stream"},
        body=small("another prompt"),
    )
    shown = run("diff", a, b).out
    rule = next(line for line in shown.splitlines() if line.startswith("  ignore="))
    rules = json.loads(rule.removeprefix("  ignore="))
    assert sorted(rules) == ["header:x-job-id", "query:job"], "a rule unites only what both have"
    env = {"CACHELAYER_IGNORE": ",".join(rules)}
    left = run("diff", a, b, "--json", env=env).json["differences"]
    assert {difference["field"] for difference in left} == {
        "body.prompt",
        "headers.accept.0",
        "headers.x-new.0",
    }
    assert '"header:x.dotted"' in run("explain", a).out
    assert (
        "ignore="
        not in run("diff", write(tmp_path, "c.json", body=small()), write(tmp_path, "d.json", body=small("y"))).out
    )
