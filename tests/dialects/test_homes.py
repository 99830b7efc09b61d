"""Whose own host was asked: there, and nowhere else, the list price is what is charged."""

from __future__ import annotations

import pytest

from tests.dialects.asks import GEMINI, GENERATE, asked, gemini, generate

GOOGLE = "generativelanguage.googleapis.com"


@pytest.mark.parametrize(
    ("host", "home"),
    [
        (GOOGLE, "google"),
        (GOOGLE.upper(), "google"),
        ("us-central1-aiplatform.googleapis.com", "google"),
        ("aiplatform.googleapis.com", "google"),
        ("api.reseller.example", None),
        (f"{GOOGLE}.evil.example", None),
        (f"{GOOGLE}:8443", None),
        (f"evil-{GOOGLE}", None),
        ("api.openai.com", None),
        ("127.0.0.1:8080", None),
    ],
)
def test_gemini(host: str, home: str | None) -> None:
    assert asked(gemini(url=GEMINI.replace(GOOGLE, host))).home == home


@pytest.mark.parametrize(
    ("host", "home"),
    [
        ("api.openai.com", "openai"),
        (GOOGLE, "google"),
        ("eu.api.openai.com", None),
        ("x.openai.azure.com", None),
        ("x.cognitiveservices.azure.com", None),
        ("openrouter.ai", None),
    ],
)
def test_openai_images(host: str, home: str | None) -> None:
    assert asked(generate(url=GENERATE.replace("api.openai.com", host))).home == home
