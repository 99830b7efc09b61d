"""The report: its JSON is the ledger's, its table can be read in 80 columns."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

import cachelayer
from cachelayer.cli.report import headline
from cachelayer.core.reasons import Reason
from cachelayer.ledger.reports import Sums
from cachelayer.simulator import Simulator
from tests.cli.command import Run, Stored


def test_json_totals_are_the_stats(run: Run, stored: Stored) -> None:
    document = run("report", "--path", stored.path, "--json").json
    assert document.keys() == {"totals", "groups", "reasons"}
    assert document["totals"] == stored.stats.model_dump(mode="json")
    assert document["totals"]["requests"] == 3
    assert document["totals"]["hits"] == 1
    assert isinstance(document["totals"]["saved_usd"], str)
    assert Decimal(document["totals"]["saved_usd"]) > 0


@pytest.mark.parametrize(
    ("by", "names"),
    [("model", ["gpt-image-2", "gemini-3-pro-image"]), ("namespace", ["default"]), ("host", None), ("day", None)],
)
def test_groups_add_up_to_the_totals(run: Run, stored: Stored, by: str, names: list[str] | None) -> None:
    document = run("report", "--path", stored.path, "--by", by, "--json").json
    if names is not None:
        assert [group["name"] for group in document["groups"]] == names
    for field in ("requests", "hits", "misses", "upstream_calls"):
        assert sum(group[field] for group in document["groups"]) == document["totals"][field]
    spent = sum(Decimal(group["spent_usd"]) for group in document["groups"])
    assert spent == Decimal(document["totals"]["spent_usd"])


def test_since_counts_only_what_is_younger(run: Run, stored: Stored) -> None:
    with sqlite3.connect(stored.path / "ledger" / "ledger.sqlite3") as database:
        assert run("report", "--path", stored.path, "--json").json["totals"]["requests"] == 3  # folded by now
        database.execute("UPDATE events SET at = at - 7200 WHERE outcome = 'HIT'")
    database.close()
    for since, requests in (("1h", 2), ("1d", 3), ("86400", 3)):
        totals = run("report", "--path", stored.path, "--json", "--since", since).json["totals"]
        assert totals["requests"] == requests


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_the_table_fits(run: Run, stored: Stored, columns: int) -> None:
    shown = run("report", "--path", stored.path, env={"COLUMNS": str(columns)}).out
    assert max(map(len, shown.splitlines())) <= columns
    assert "1 of 3 calls (33.3 %) never reached a provider" in " ".join(shown.split())
    assert "gemini-3-pro-image" in shown
    assert "Time saved" in shown


def test_reasons_and_estimates_are_said(run: Run, stored: Stored) -> None:
    with cachelayer.Cache(path=stored.path) as cache, cache.wrap(httpx.Client()) as client:
        client.post(f"{stored.url}/v1/chat/completions", json={})
    shown = run("report", "--path", stored.path).out
    assert "unrecognised" in shown
    assert "no image call that cachelayer knows" in shown
    # The simulator is not at home at any provider's host: its list prices are an estimate.
    assert "3 requests are estimated" in shown
    assert "Saved about $" in shown
    host = stored.url.removeprefix("http://")
    spoken = " ".join(shown.split())
    assert f'prices = {{"{host}" = "0.05"}}' in spoken
    assert f'Cache(prices={{"{host}": "0.05"}})' in spoken
    assert "1 request has no known price" not in shown


def test_what_was_not_cached_has_its_dollars_and_its_meaning(run: Run, tmp_path: Path) -> None:
    ways: list[dict[str, Any]] = [{"block_rate": 1.0}, {"truncate_rate": 1.0}, {}]
    asked = {"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"responseModalities": ["IMAGE"]}}
    for way in ways:
        with (
            Simulator(**way) as simulator,
            cachelayer.Cache(path=tmp_path / "store") as cache,
            cache.wrap(httpx.Client()) as client,
        ):
            if way:
                client.post(f"{simulator.url}/v1beta/models/gemini-3-pro-image:generateContent", json=asked)
                continue
            client.post(f"{simulator.url}/v1/chat/completions", json={})
            link = {"model": "flux", "prompt": "x", "size": "64x64", "response_format": "url"}
            client.post(f"{simulator.url}/v1/images/generations", json=link)
    document = run("report", "--path", tmp_path / "store", "--json").json
    reasons = {reason["reason"]: reason for reason in document["reasons"]}
    assert reasons.keys() == {"blocked", "truncated", "unrecognised", "image-url"}
    for name, reason in reasons.items():
        assert reason.keys() == {"reason", "outcome", "requests", "spent_usd", "meaning"}
        assert reason["meaning"] == Reason(name).meaning
        assert isinstance(reason["spent_usd"], str)
        assert reason["outcome"] == ("BYPASS" if name == "unrecognised" else "MISS")
    spent = sum(Decimal(reason["spent_usd"]) for reason in reasons.values())
    assert spent == Decimal(document["totals"]["spent_usd"])
    assert Decimal(reasons["truncated"]["spent_usd"]) > 0
    people = " ".join(run("report", "--path", tmp_path / "store").out.split())
    assert 'response_format="b64_json"' in people
    for reason in reasons.values():
        assert reason["meaning"].split()[0] in people


def test_an_empty_ledger_is_said(run: Run, stored: Stored) -> None:
    shown = run("report", "--path", stored.path, "--since", "1ms")
    assert (shown.code, shown.err) == (0, "")
    assert "No request was recorded" in shown.out


def test_a_damaged_index_leaves_the_ledger_readable(run: Run, stored: Stored) -> None:
    (stored.path / "entries" / "cache.db").write_bytes(b"not a database at all" * 400)
    ended = run("report", "--path", stored.path, "--json")
    assert ended.json["totals"]["requests"] == 3
    assert "cannot be used" in ended.sentence


def _sums(**fields: object) -> Sums:
    zero = dict.fromkeys(Sums.model_fields, 0)
    return Sums.model_validate(zero | fields)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"requests": 2060, "hits": 400, "coalesced": 12, "hit_rate": 0.2, "saved_usd": Decimal("12.34")}
            | {"saved_seconds": 3720.0},
            "Saved $12.34 and 1 h 02 min: 412 of 2,060 calls (20.0 %) never reached a provider",
        ),
        (
            {"requests": 5, "bypassed": 4, "hits": 1, "hit_rate": 1.0, "saved_usd": Decimal("0.1344")}
            | {"saved_seconds": -2.0},
            "Saved $0.1344 for 2.0 s more of waiting: 1 of 1 call (100.0 %) never reached a provider",
        ),
        (
            {"requests": 2, "hits": 1, "estimated": 1, "hit_rate": 0.5, "saved_usd": Decimal("0.1344")}
            | {"saved_seconds": 8.0},
            "Saved about $0.1344 and 8.0 s: 1 of 2 calls (50.0 %) never reached a provider",
        ),
        ({"requests": 1}, "Nothing saved yet: 0 of 1 call (0.0 %) never reached a provider"),
    ],
)
def test_headline(fields: dict[str, object], sentence: str) -> None:
    assert headline(_sums(**fields)) == sentence
