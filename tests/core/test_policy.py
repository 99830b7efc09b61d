"""The pure decisions: what is looked up, what is servable and fresh, which headers outlive their connection."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelayer.core.entry import Entry
from cachelayer.core.model import Asked, Cost, Outcome, Request, Unkeyed
from cachelayer.core.policy import (
    answer_headers,
    bypass_reason,
    credential_of,
    is_fresh,
    is_servable,
    kept_headers,
)

ASKED = Asked(
    key="ab" * 32,
    canonical=b"{}",
    dialect="gemini",
    operation="image",
    model="m",
    scope="h",
    host="h",
    namespace="default",
    count=1,
    stream=False,
    never_cached=None,
)
ENTRY = Entry(
    key=ASKED.key,
    spec=1,
    namespace="default",
    created=1000.0,
    expires=None,
    status=200,
    headers=(),
    template=(),
    cost=Cost(None, "unpriced", ""),
    latency=1.0,
    operation="image",
    model="m",
    host="h",
    images=1,
)


@pytest.mark.parametrize(
    ("asked", "operations", "reason"),
    [
        (ASKED, ("image",), None),
        (ASKED, (), "operation-off"),
        (ASKED, ("text", "embedding"), "operation-off"),
        (replace(ASKED, operation="text"), ("image",), "operation-off"),
        (replace(ASKED, operation="text"), ("image", "text"), None),
        (replace(ASKED, never_cached="stateful"), ("image",), "stateful"),
        (replace(ASKED, stream=True), ("image",), "stream"),
        (replace(ASKED, stream=True, never_cached="reference-unknown"), ("image",), "reference-unknown"),
        (Unkeyed("malformed"), ("image",), "malformed"),
    ],
)
def test_what_is_not_looked_up_says_why(
    asked: Asked | Unkeyed, operations: tuple[str, ...], reason: str | None
) -> None:
    assert bypass_reason(asked, operations) == reason


@pytest.mark.parametrize(
    "other", [{"key": "cd" * 32}, {"namespace": "other"}, {"namespace": ""}, {"spec": 2}, {"spec": 0}]
)
def test_an_entry_answers_only_what_it_says_it_answers(other: dict[str, object]) -> None:
    assert is_servable(ENTRY, ASKED)
    assert not is_servable(replace(ENTRY, **other), ASKED)  # type: ignore[arg-type]


def test_an_entry_of_another_member_answers_only_under_the_key_that_was_looked_up() -> None:
    theirs = replace(ENTRY, key="cd" * 32)
    assert is_servable(theirs, ASKED, theirs.key)
    assert not is_servable(theirs, ASKED)
    assert not is_servable(ENTRY, ASKED, theirs.key)
    assert not is_servable(replace(theirs, namespace="other"), ASKED, theirs.key)


@pytest.mark.parametrize(
    ("expires", "now", "ttl", "fresh"),
    [
        (None, 10**12, None, True),
        (1100.0, 1099.9, None, True),
        (1100.0, 1100.0, None, False),
        (None, 1059.9, 60.0, True),
        (None, 1060.0, 60.0, False),  # today's ttl is shorter than the one it was stored under
        (1010.0, 1011.0, 3600.0, False),  # and a longer one brings nothing back
        (1010.0, 500.0, 1.0, False),  # from the future: its age is unknown, and age counts
    ],
)
def test_freshness_is_both_the_entrys_and_todays(
    expires: float | None, now: float, ttl: float | None, fresh: bool
) -> None:
    assert is_fresh(replace(ENTRY, expires=expires), now, ttl) is fresh


@pytest.mark.parametrize(
    "name",
    [
        "Set-Cookie",
        "x-ratelimit-remaining-requests",
        "X-RateLimit-Reset",
        "RateLimit",
        "ratelimit-policy",
        "Retry-After",
        "Content-Encoding",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Alt-Svc",
        "Age",
        "WWW-Authenticate",
        # Of the bytes as they came, which are not those that are kept.
        "Content-Digest",
        "Content-MD5",
        "Repr-Digest",
        "Digest",
        "x-cachelayer",
        "X-Cachelayer-Key",
        # Whose account it was: no later caller's business, and not to be written down.
        "OpenAI-Organization",
        "openai-project",
        "x-goog-user-project",
        "authorization",
        "x-api-key",
        "Cookie",
    ],
)
def test_what_belonged_to_one_caller_or_connection_is_not_kept(name: str) -> None:
    kept = (("content-type", "application/json"), ("x-request-id", "req_1"), ("x-a", "1"), ("x-a", "2"))
    assert kept_headers((kept[0], (name, "value"), *kept[1:])) == kept


URL = "https://h.example/v1beta/models/m:generateContent"


def credential(url: str = URL, **headers: str) -> bytes:
    return credential_of(Request("POST", url, {name.replace("_", "-"): value for name, value in headers.items()}))


def test_credentials_are_equal_only_when_all_of_them_are() -> None:
    different = [
        credential(),
        credential(authorization="Bearer a"),
        credential(authorization="Bearer b"),
        credential(x_goog_api_key="Bearer a"),
        credential(api_key="Bearer a"),
        credential(cookie="session=1"),
        credential(authorization="Bearer a", openai_organization="org-1"),
        credential(authorization="Bearer a", openai_project="org-1"),
        credential(URL + "?key=a"),
        credential(URL + "?key=b"),
        credential(URL + "?key="),
        credential(URL + "?access_token=a"),
        credential(URL + "?X-Amz-Signature=a"),
        credential(URL + "?X-Goog-Credential=a"),
        credential(URL.replace("https://", "https://user:a@")),
        credential(URL.replace("https://", "https://user:b@")),
    ]
    assert len(set(different)) == len(different)
    assert credential(URL, Authorization="Bearer a", x_request_id="1") == credential(authorization="Bearer a")
    assert credential(URL + "?alt=json") == credential()


@given(st.lists(st.tuples(st.sampled_from(["authorization", "cookie", "api-key"]), st.text(max_size=5)), max_size=4))
def test_the_order_of_headers_makes_no_other_credential(headers: list[tuple[str, str]]) -> None:
    assert credential_of(Request("POST", URL, headers)) == credential_of(Request("POST", URL, headers[::-1]))


def test_one_credential_cannot_be_spelled_as_two() -> None:
    one = Request("POST", URL, {"authorization": "a\0cookie:b"})
    two = Request("POST", URL, {"authorization": "a", "cookie": "b"})
    assert credential_of(one) != credential_of(two)


def test_answers_say_what_they_are() -> None:
    cost = Cost(Decimal("0.0000001"), "exact", "")
    assert answer_headers(Outcome.BYPASS, reason="closed") == (
        ("x-cachelayer", "BYPASS"),
        ("x-cachelayer-reason", "closed"),
    )
    assert answer_headers(Outcome.HIT, key="k", age=3.9, saved=cost) == (
        ("x-cachelayer", "HIT"),
        ("x-cachelayer-key", "k"),
        ("age", "3"),
        ("x-cachelayer-saved-usd", "0.0000001"),
    )
    for usd, shown in (
        ("0.1340", "0.134"),
        ("1.00", "1"),
        ("0", "0"),
        ("0.000", "0"),
        ("1200", "1200"),
        ("1E+3", "1000"),
    ):
        exact = Cost(Decimal(usd), "exact", "")
        assert ("x-cachelayer-saved-usd", shown) in answer_headers(Outcome.HIT, saved=exact)
    unpriced = Cost(None, "unpriced", "")
    assert answer_headers(Outcome.HIT, age=-5, saved=unpriced) == (("x-cachelayer", "HIT"), ("age", "0"))
