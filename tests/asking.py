"""One image request, as the tests send it: small, quick to render, different for each prompt."""

from __future__ import annotations

from typing import Any

import cachelayer

PATH = "/v1/images/generations"


def body(prompt: str = "a lighthouse at dusk", **fields: Any) -> dict[str, Any]:
    return {"model": "gpt-image-2", "prompt": prompt, "size": "64x64", "quality": "low", **fields}


def gemini_body(prompt: str = "a lighthouse at dusk", **config: Any) -> dict[str, Any]:
    return {
        "contents": [{"role": "user", "parts": [{"text": prompt}]}],
        "generationConfig": {"responseModalities": ["IMAGE"], **config},
    }


GEMINI_PATH = "/v1beta/models/gemini-3-pro-image:generateContent"


def wait_until_stored(cache: cachelayer.Cache) -> None:
    """Until no flight is under way in this process. An answer is handed over when its entry is committed, or after one
    second (a slow disk, a busy machine): whoever asks in between joins the flight and is COALESCED, no HIT.

    In a task, for flights of its own loop: `await cache.flights.wait_idle_async(60)`.
    """
    assert cache.wait_idle(60) == 0
