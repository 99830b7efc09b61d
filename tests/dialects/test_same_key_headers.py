"""Headers that make no other request: who pays, how it is sent, what is new on every call."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachelayer.core.model import Request
from tests.dialects.asks import (
    gemini,
    generate,
    key,
)

Build = Callable[..., Request]

HEADERS_THAT_DO_NOT_COUNT = [
    "Authorization",
    "Proxy-Authorization",
    "X-Goog-Api-Key",
    "api-key",
    "x-api-key",
    "Cookie",
    "OpenAI-Organization",
    "OpenAI-Project",
    "x-goog-user-project",
    "Content-Length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "TE",
    "Expect",
    "Accept-Encoding",
    "User-Agent",
    "X-Stainless-Retry-Count",
    "x-stainless-lang",
    "x-goog-api-client",
    "X-Server-Timeout",
    "Idempotency-Key",
    "Referer",
    "HTTP-Referer",
    "X-Title",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "X-B3-TraceId",
    "sentry-trace",
    "X-Request-Id",
    "X-Correlation-Id",
    "x-datadog-trace-id",
    "X-Amzn-Trace-Id",
    "X-Cloud-Trace-Context",
    "x-cachelayer-tags",
]


@pytest.mark.parametrize("name", HEADERS_THAT_DO_NOT_COUNT)
@pytest.mark.parametrize("build", [gemini, generate], ids=["gemini", "openai"])
def test_header_out_of_the_key(name: str, build: Build) -> None:
    assert key(build(headers={name: "one"})) == key(build(headers={name.upper(): "two"})) == key(build())


@pytest.mark.parametrize(
    "value", ["application/json", "*/*", "image/avif, */*;q=0.8", "text/event-stream, application/json", ""]
)
@pytest.mark.parametrize("build", [gemini, generate], ids=["gemini", "openai"])
def test_what_is_accepted_does_not_count(value: str, build: Build) -> None:
    assert key(build(headers={"Accept": value})) == key(build())


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://h.example", "H.Example"),
        ("https://h.example", "h.example:443"),
        ("http://h.example", "h.example"),
        ("http://h.example:80", " h.example "),
        ("http://user@[::1]:5001", "[::1]:5001"),
    ],
)
@pytest.mark.parametrize("build", [gemini, generate], ids=["gemini", "openai"])
def test_a_host_header_that_repeats_the_url_does_not_count(url: str, host: str, build: Build) -> None:
    url = build().url.replace("https://" + build().url.split("/")[2], url)
    assert key(build(url=url, headers={"Host": host})) == key(build(url=url))
