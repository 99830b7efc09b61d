"""Headers and parameters: what is left out of the key, by exact names, and what an ``accept`` or ``host`` must say."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cachelayer.core import credentials
from cachelayer.core.model import Request
from cachelayer.core.policy import credential_of, kept_headers
from cachelayer.dialects.wire.envelope import HEADERS_OUT
from tests.dialects.asks import gemini, generate, key

Build = Callable[..., Request]
BOTH = pytest.mark.parametrize("build", [gemini, generate], ids=["gemini", "openai"])

CREDENTIALS = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-goog-api-key",
    "api-key",
    "x-api-key",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
    "ocp-apim-subscription-key",
    "cf-aig-authorization",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cf-access-token",
    "helicone-auth",
    "x-portkey-api-key",
    "x-litellm-api-key",
    "x-auth-token",
    "x-goog-iap-jwt-assertion",
    "x-serverless-authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-expires",
    "x-amz-signature",
    "x-amz-signedheaders",
]
TRACING = [
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-sampled",
    "sentry-trace",
    "x-request-id",
    "x-client-request-id",
    "x-ms-client-request-id",
    "request-id",
    "client-request-id",
    "correlation-id",
    "x-correlation-id",
    "x-trace-id",
    "x-datadog-parent-id",
    "x-amzn-trace-id",
    "x-cloud-trace-context",
    "newrelic",
    "elastic-apm-traceparent",
    "uber-trace-id",
    "x-instana-t",
    "helicone-request-id",
    "x-portkey-trace-id",
    "x-litellm-call-id",
    "x-litellm-trace-id",
    "langfuse_trace_id",
]
TRANSPORT = [
    "date",
    "referer",
    "http-referer",
    "x-title",
    "x-stainless-retry-count",
    "x-idempotency-key",
    "x-server-timeout",
]
COUNTING = [
    "x-goog-fieldmask",
    "x-goog-request-params",
    "x-goog-ext-1",
    "x-goog",
    "x-amz-target",
    "x-amz-invocation-type",
    "x-b3",
    "x-datadog",
    "x-request-ids",
    "xrequest-id",
    "cf-aig-metadata",
    "helicone-cache-enabled",
    "x-portkey-config",
    "x-portkey-metadata",
    "x-litellm-tags",
    "x-litellm-timeout",
    "langfuse_user_id",
    "content-digest",
    "accept-language",
    "openai-beta",
    "anthropic-version",
    "x-auth-token-type",
    "authorization-x",
    "cf-access-jwt-assertion",
    "newrelic-id",
]


@BOTH
@pytest.mark.parametrize("name", [*CREDENTIALS, *TRACING, *TRANSPORT])
def test_out_of_the_key(name: str, build: Build) -> None:
    assert key(build(headers={name: "one"})) == key(build(headers={name.upper(): "two"})) == key(build())


@BOTH
@pytest.mark.parametrize("name", COUNTING)
def test_names_that_only_resemble_one_count(name: str, build: Build) -> None:
    assert len({key(build(headers={name: "1"})), key(build(headers={name: "2"})), key(build())}) == 3


def test_one_table_of_credentials_serves_three() -> None:
    assert set(CREDENTIALS) == credentials.HEADERS
    assert credentials.HEADERS <= HEADERS_OUT
    callers = {credential_of(gemini(headers={name: value})) for name in credentials.HEADERS for value in "ab"}
    assert len(callers) == 2 * len(credentials.HEADERS)
    assert kept_headers(tuple((name.title(), "echoed") for name in credentials.HEADERS)) == ()


@pytest.mark.parametrize("name", [*TRACING, *COUNTING])
def test_what_is_no_credential_makes_no_other_caller(name: str) -> None:
    assert credential_of(gemini(headers={name: "1"})) == credential_of(gemini())


@BOTH
@pytest.mark.parametrize(
    "name", ["key", "KEY", "api_key", "api-key", "access_token", "sig", "X-Amz-Signature", "x-goog-date", "api-version"]
)
def test_parameters_out_of_the_key(name: str, build: Build) -> None:
    assert key(build(url=f"{build().url}?{name}=1")) == key(build())


@BOTH
@pytest.mark.parametrize(
    "name", ["x-googdate", "xgoog-date", "x-goog", "x-amz", "xamz-date", "keys", "\u212aey", "%6Bey", "sig2"]
)
def test_parameters_that_only_resemble_one_count(name: str, build: Build) -> None:
    assert len({key(build(url=f"{build().url}?{name}={value}")) for value in "12"} | {key(build())}) == 3


JSON_OR_ANYTHING = [
    ["application/json"],
    ["*/*"],
    ["application/*"],
    [""],
    [" , "],
    ["Application/JSON; charset=utf-8"],
    ["image/avif, */*;q=0.8"],
    ["text/event-stream", "application/json"],
    ["application/x-ndjson", "*/*;q=0.001"],
    ["application/json;q=0", "application/json"],
]
SOMETHING_ELSE = [
    ["image/png"],
    ["text/event-stream"],
    ["application/x-ndjson"],
    ["application/octet-stream"],
    ["application/jsonl"],
    ["application/problem+json"],
    ["image/png", "image/webp"],
    ["*/*;q=0"],
    ["application/json;q=0, */*"],
    ["application/*;q=0, */*;q=0.5"],
    ["application/json;profile=x"],
    ["application/json;q=2"],
    ["application/json;q=x"],
    ["*"],
    ["json"],
]


@BOTH
@pytest.mark.parametrize("lines", JSON_OR_ANYTHING)
def test_accepting_json_or_anything_does_not_count(lines: list[str], build: Build) -> None:
    assert key(build(headers=[("Accept", line) for line in lines])) == key(build())


@BOTH
def test_accepting_something_else_counts(build: Build) -> None:
    keys = {key(build(headers=[("Accept", line) for line in lines])) for lines in SOMETHING_ELSE}
    assert len(keys | {key(build())}) == len(SOMETHING_ELSE) + 1


@BOTH
def test_an_accept_is_judged_by_all_its_lines(build: Build) -> None:
    """Each line alone: the first admits anything, the second forbids JSON."""
    both = build(headers=[("Accept", "*/*"), ("accept", "application/json;q=0")])
    assert len({key(both), key(build()), key(build(headers={"Accept": "application/json;q=0"}))}) == 3
    joined = build(headers={"accept": "*/*, application/json;q=0"})
    assert key(both) == key(joined)


@BOTH
@pytest.mark.parametrize("odd", ["{}#", "{}#x", "{}?", "{}?x", "{}/", "x@{}", "{}\t", "{} x", "{},{}"])
def test_a_host_header_that_says_more_than_the_url_counts(odd: str, build: Build) -> None:
    host = build().url.split("/")[2]
    spelled = odd.format(host, host)
    if spelled.strip(" \t") != host:
        assert key(build(headers={"Host": spelled})) != key(build())


@BOTH
def test_two_host_headers_count(build: Build) -> None:
    host = build().url.split("/")[2]
    lines = [("Host", host), ("Host", "evil.example")]
    keys = {key(build(headers=headers)) for headers in (lines, lines[::-1], lines[1:], [])}
    assert len(keys) == 4
