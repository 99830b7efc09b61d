"""Where several reasons hold, which one is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cachelayer.core.model import Asked, KeyRules, Request, Unkeyed
from cachelayer.core.policy import bypass_reason
from cachelayer.dialects import ask
from tests.dialects.asks import EDIT, GEMINI, GENERATE, gemini, request

GZIP = {"content-type": "text/plain", "content-encoding": "gzip"}


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize(
    ("headers", "max_body", "reason"),
    [
        (GZIP, 1, "body-too-large"),  # nothing is read of what is too large
        (GZIP, 9, "content-encoding"),  # nor of what is encoded
        ({"content-type": "text/plain"}, 9, "content-type"),
        ({"content-type": "application/json"}, 9, "malformed"),
    ],
)
def test_of_requests_that_get_no_key(url: str, headers: dict[str, str], max_body: int, reason: str) -> None:
    got = ask(Request("POST", url, headers, b"{nothing"), KeyRules(max_body=max_body))
    assert isinstance(got, Unkeyed)
    assert got.reason == reason


def test_unrecognised_wins_over_all() -> None:
    got = ask(Request("POST", GEMINI + "x", GZIP, b"{nothing"), KeyRules(max_body=1))
    assert isinstance(got, Unkeyed)
    assert got.reason == "unrecognised"


@pytest.mark.parametrize(
    "asking",
    [
        gemini({"contents": [{"parts": [{"fileData": {"fileUri": "files/1"}}]}], "tools": [{"googleSearch": {}}]}),
        request(EDIT, {"prompt": "p", "image": "https://h/x", "previous_response_id": "1"}),
    ],
)
def test_stateful_wins_over_an_unknown_reference(asking: Request) -> None:
    got = ask(asking, KeyRules())
    assert isinstance(got, Asked)
    assert got.never_cached == "stateful"
    assert bypass_reason(got, ("image",)) == "stateful"
    assert bypass_reason(got, ("text",)) == "operation-off"  # whoever switched it off needs no other reason
    assert bypass_reason(replace(got, stream=True), ("image",)) == "stateful"
