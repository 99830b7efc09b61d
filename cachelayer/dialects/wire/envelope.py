"""Everything of a request outside its body: query, headers, content type. What may live here: what all wire formats
have in common; nothing about bodies. The tables are those of docs/key-spec.md; credentials have a table of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from cachelayer.core import credentials
from cachelayer.core.canon import digest_of
from cachelayer.core.model import Headers, Json, KeyRules, Request
from cachelayer.core.scope import Target, target_of

_HOW_IT_IS_SENT = """
    content-length content-type content-encoding transfer-encoding connection proxy-connection keep-alive te
    trailer upgrade expect accept-encoding user-agent date
    x-goog-api-client x-server-timeout idempotency-key x-idempotency-key referer http-referer x-title
"""
_TRACING: Final = frozenset(
    {
        "traceparent",  # www.w3.org/TR/trace-context
        "tracestate",  # the same
        "baggage",  # www.w3.org/TR/baggage
        "b3",  # github.com/openzipkin/b3-propagation
        "sentry-trace",  # develop.sentry.dev/sdk/telemetry/traces
        "x-request-id",  # nginx $request_id; Envoy, "x-request-id"
        "x-client-request-id",  # platform.openai.com/docs/api-reference/debugging-requests
        "x-ms-client-request-id",  # Azure REST guidelines; azure-core's RequestIdPolicy
        "request-id",  # .NET's HttpClient, System.Diagnostics.Activity (hierarchical ids)
        "client-request-id",  # Microsoft REST API guidelines, 7.8
        "correlation-id",  # docs.konghq.com/hub/kong-inc/correlation-id
        "x-correlation-id",  # the same
        "x-trace-id",  # no standard, and no API's: the usual name where a service logs one id a call
        "x-amzn-trace-id",  # docs.aws.amazon.com/xray, "Tracing header"
        "x-cloud-trace-context",  # cloud.google.com/trace/docs/trace-context
        "newrelic",  # docs.newrelic.com, "Distributed tracing headers"
        "elastic-apm-traceparent",  # github.com/elastic/apm, specs/agents/tracing-distributed-tracing.md
        "uber-trace-id",  # www.jaegertracing.io/docs, "Propagation format"
        "helicone-request-id",  # docs.helicone.ai/helicone-headers/header-directory
        "x-portkey-trace-id",  # portkey.ai/docs/api-reference/inference-api/headers
        "x-litellm-call-id",  # docs.litellm.ai/docs/proxy/request_headers
        "x-litellm-trace-id",  # the same
        "langfuse_trace_id",  # docs.litellm.ai/docs/observability/langfuse_integration
    }
)
HEADERS_OUT: Final = credentials.HEADERS | frozenset(_HOW_IT_IS_SENT.split()) | _TRACING
HEADER_PREFIXES_OUT: Final = ("x-stainless-", "x-b3-", "x-datadog-", "x-instana-", "x-cachelayer-")
"""Prefixes that belong to one SDK or tracer alone, so that no API can use them for what is asked."""
QUERY_OUT: Final = credentials.QUERY | {"api-version"}

_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]+")
"""A host header that is worth comparing. urlsplit would drop a tab, a question mark or what stands before an "@"."""


def query_form(query: Iterable[tuple[str, str | None]], rules: KeyRules) -> tuple[Json, set[str]]:
    """The query as it counts: [name, digest of value], sorted by name, the values of one name in their order; and which
    of the user's ``ignore`` rules took something out of it.

    A parameter without a value is [null, digest of it all]: its name may be a token, with the padding of base64 or a
    client's "=" behind it, and no unknown token is written down.
    """
    counting = [pair for pair in query if not _is_out_of_query(pair[0])]
    took = {f"query:{name}" for name, _ in counting} & set(rules.ignore)
    kept = sorted((pair for pair in counting if f"query:{pair[0]}" not in took), key=lambda pair: pair[0])
    form = [
        [name, _digest(value)]
        if value is not None and value.strip("=")
        else [None, _digest(name if value is None else f"{name}={value}")]
        for name, value in kept
    ]
    return form, took


def _is_out_of_query(name: str) -> bool:
    return credentials.is_parameter(name) or (name.isascii() and name.lower() in QUERY_OUT)


def header_form(request: Request, rules: KeyRules) -> tuple[Json, set[str]]:
    """The headers as they count: name -> digests of its values, in their order; and which of the user's ``ignore``
    rules (names in lower case) took something out of them."""
    values: dict[str, list[str]] = {}
    for written, value in request.headers:
        name = written.lower()
        if name not in HEADERS_OUT and not name.startswith(HEADER_PREFIXES_OUT):
            values.setdefault(name, []).append(value.strip(" \t"))
    # Judged by all its lines together: each line of two may be harmless, and both together say something else.
    if "host" in values and len(values["host"]) == 1 and _is_host_of(request.url, values["host"][0]):
        del values["host"]
    if "accept" in values:
        values["accept"] = [", ".join(values["accept"])]
        if admits_json(values["accept"][0]):
            del values["accept"]
    ignored = {rule.removeprefix("header:").lower() for rule in rules.ignore if rule.startswith("header:")}
    took = values.keys() & ignored
    form = {name: [_digest(value) for value in lines] for name, lines in values.items() if name not in took}
    return form, {f"header:{name}" for name in took}


def _is_host_of(url: str, host: str) -> bool:
    """Whether a host header repeats the URL. Behind one address another name may be another provider."""
    if _HOST.fullmatch(host) is None:
        return False
    scheme, _, rest = url.partition("://")
    if rest.startswith(host) and rest[len(host) : len(host) + 1] in ("/", "?", ""):
        return True  # letter by letter, as clients send it: no need to take it apart
    own, named = target_of(url), target_of(f"{scheme}://{host}")
    return own is not None and named == Target(own.host, "", ())


def admits_json(accept: str) -> bool:
    """Whether an ``accept``, its lines joined, lets the answer be JSON (RFC 9110, 12.5.1: the most specific range that
    fits decides). An empty one asks for nothing. What cannot be read, or asks for a profile of JSON, does not."""
    if accept in ("*/*", "application/json") or not accept.strip(" \t,"):
        return True
    best = (-1, 0.0)
    for item in accept.split(","):
        kind = parameters(item)
        if kind is None or kind[0] not in _JSON_RANGES or not kind[1].keys() <= {"q", "charset"}:
            continue
        weight = _QUALITY.fullmatch(kind[1].get("q", "1"))
        if weight is not None and is_utf8(kind[1]):
            best = max(best, (_JSON_RANGES.index(kind[0]), float(weight[0])))
    return best[1] > 0


_JSON_RANGES: Final = ("*/*", "application/*", "application/json")
_QUALITY = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


def _digest(text: str) -> str:
    return digest_of(text.encode("utf-8", "surrogatepass"))


_PARAMETER = re.compile(r';[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*"|[^\s;"]+)[ \t]*')


def parameters(header: str) -> tuple[str, dict[str, str]] | None:
    """A header like ``form-data; name="x"`` as its value and parameters, both names lower case, quotes removed.

    None when it is not written that way, or a parameter repeats. Backslash escapes stay as they are written.
    """
    value, separator, _ = header.partition(";")
    found: dict[str, str] = {}
    position = len(value)
    while separator and position < len(header):
        match = _PARAMETER.match(header, position)
        if match is None or match[1].lower() in found:
            return None
        found[match[1].lower()] = match[2][1:-1] if match[2].startswith('"') else match[2]
        position = match.end()
    return value.strip(" \t").lower(), found


def content_type(headers: Headers) -> tuple[str, dict[str, str]] | None:
    """The one content type of a message and its parameters; None when there is none, or more than one."""
    values = [value for name, value in headers if name.lower() == "content-type"]
    return parameters(values[0]) if len(values) == 1 else None


def is_json(kind: tuple[str, dict[str, str]] | None) -> bool:
    """Whether a content type is JSON in UTF-8."""
    return kind is not None and kind[0] == "application/json" and kind[1].keys() <= {"charset"} and is_utf8(kind[1])


def is_form(kind: tuple[str, dict[str, str]]) -> bool:
    """Whether a content type is a form with text in UTF-8."""
    return kind[0] == "multipart/form-data" and kind[1].keys() <= {"boundary", "charset"} and is_utf8(kind[1])


def is_utf8(given: dict[str, str]) -> bool:
    """Whether the parameters of a content type name UTF-8, or no charset at all."""
    return given.get("charset", "utf-8").lower() in ("utf-8", "utf8")


def is_encoded(headers: Headers) -> bool:
    """Whether a body is compressed."""
    return any(
        coding.strip().lower() not in ("", "identity")
        for name, value in headers
        if name.lower() == "content-encoding"
        for coding in value.split(",")
    )
