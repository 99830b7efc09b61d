"""What costs no hit."""

from __future__ import annotations

import json

from tests.asking import PATH, body
from tests.hits.desk import JSON, Desk, gemini, images


def test_tracing_telemetry_and_credentials_cost_no_hit(desk: Desk) -> None:
    names = [
        "authorization",
        "x-goog-api-key",
        "api-key",
        "x-api-key",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-goog-user-project",
        "user-agent",
        "x-stainless-lang",
        "x-stainless-retry-count",
        "x-goog-api-client",
        "x-server-timeout",
        "idempotency-key",
        "referer",
        "x-title",
        "traceparent",
        "tracestate",
        "baggage",
        "b3",
        "x-b3-traceid",
        "sentry-trace",
        "x-request-id",
        "x-correlation-id",
        "x-datadog-trace-id",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
    ]
    parameters = ("key", "api_key", "access_token", "sig", "X-Amz-Date", "X-Goog-Date")
    desk.together(
        images(),
        *(images(headers={name: f"{name}-{number}"}) for name in names for number in range(2)),
        *(images(params={name: "x"}) for name in parameters),
        *(images(headers={"accept": accept}) for accept in ("application/json", "text/html, */*;q=0.8")),
    )


def test_bookkeeping_costs_no_hit(desk: Desk) -> None:
    desk.together(
        images(), images(user="u1"), images(user="u2"), images(safety_identifier="s"), images(metadata={"job": 1})
    )
    path, request = gemini(imageConfig={"aspectRatio": "1:8", "imageSize": "512"})
    labelled = {"json": request["json"] | {"labels": {"team": "a"}}}
    desk.together((path, request), (path, labelled), (path.replace("v1beta", "v1"), request))


def test_spellings_cost_no_hit(desk: Desk) -> None:
    plain = body("a fox")
    desk.together(
        images(prompt="a fox"),
        images(prompt="  a fox\n"),
        images(prompt="a fox", n=1),
        images(prompt="a fox", n=None, stream=False, user=None),
        (PATH, {"content": json.dumps(dict(reversed(plain.items())), indent=3), "headers": JSON}),
        (PATH, {"content": json.dumps(plain).replace("fox", "\\u0066ox"), "headers": JSON}),
    )
