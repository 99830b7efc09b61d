"""The demo's calls, made through the wrapped SDKs: threads and tasks at once, so that some repeats coalesce.

Nothing here knows that there is a cache: the clients are OpenAI's and Google's own types.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from cachelayer.core.model import Request
from cachelayer.demo.asks import SEED, Ask, reference

THREADS = 8
TASKS = 24

OPENAI_MODEL = "gpt-image-2"
GOOGLE_MODEL = "gemini-3-pro-image"


@dataclass(slots=True)
class Clients:
    """The four clients; google has its asynchronous half inside."""

    openai: Any
    async_openai: Any
    google: Any
    _sent: list[Request] | None = None

    def note(self, request: Any) -> None:
        """Event hook of both synchronous clients."""
        if self._sent is not None:
            body = request.read()
            self._sent.append(Request(request.method, str(request.url), request.headers.multi_items(), body))

    @contextmanager
    def watch(self) -> Iterator[list[Request]]:
        """The requests that the synchronous clients are about to send meanwhile."""
        sent: list[Request] = []
        self._sent = sent
        try:
            yield sent
        finally:
            self._sent = None

    def close(self) -> None:
        """Close the synchronous clients; ``play`` has closed the asynchronous ones in their loop."""
        self.openai.close()
        self.google.close()


def connect(url: str, wrap: Callable[[Any], Any]) -> Clients:
    """SDK clients for a simulator, wrapped. Raises ImportError when an SDK is not installed."""
    import openai
    from google import genai
    from google.genai import types

    clients = Clients(None, None, None)
    hooks: dict[str, Any] = {"event_hooks": {"request": [clients.note]}}
    clients.openai = wrap(
        openai.OpenAI(
            base_url=f"{url}/v1", api_key="demo", max_retries=0, http_client=openai.DefaultHttpxClient(**hooks)
        )
    )
    clients.async_openai = wrap(openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="demo", max_retries=0))
    clients.google = wrap(
        genai.Client(api_key="demo", vertexai=False, http_options=types.HttpOptions(base_url=url, client_args=hooks))
    )
    return clients


def play(
    clients: Clients, asks: list[Ask], *, advance: Callable[[], None], give_up: Callable[[], None]
) -> list[Exception]:
    """Make all calls. What their callers got in place of an image: nothing, if all went well.

    advance: called after each, from any thread. give_up: called on Ctrl-C, to end those under way.
    """
    random = Random(SEED)  # noqa: S311
    by_threads: list[Ask] = []
    by_tasks: list[Ask] = []
    for ask in asks:
        (by_threads if random.random() < 0.5 else by_tasks).append(ask)
    failures: list[Exception] = []
    stopped = threading.Event()

    def call(ask: Ask) -> None:
        if stopped.is_set():
            return
        try:
            expect_image(ask_sync(clients, ask))
        except Exception as error:
            failures.append(error)
        advance()

    async def call_async(ask: Ask, room: asyncio.Semaphore) -> None:
        async with room:
            if stopped.is_set():
                return
            try:
                expect_image(await ask_async(clients, ask))
            except Exception as error:
                failures.append(error)
            advance()

    async def all_tasks() -> None:
        room = asyncio.Semaphore(TASKS)
        await asyncio.gather(*(call_async(ask, room) for ask in by_tasks))
        await clients.async_openai.close()
        await clients.google.aio.aclose()

    with ThreadPoolExecutor(THREADS + 1) as pool:
        try:
            loop = pool.submit(asyncio.run, all_tasks())
            list(pool.map(call, by_threads))
            loop.result()
        except BaseException:
            stopped.set()
            give_up()
            raise
    return failures


def ask_sync(clients: Clients, ask: Ask) -> Any:
    """One call of the synchronous SDK: its own typed answer."""
    if ask.sdk == "google":
        return clients.google.models.generate_content(**_google(ask))
    return (clients.openai.images.edit if ask.references else clients.openai.images.generate)(**_openai(ask))


async def ask_async(clients: Clients, ask: Ask) -> Any:
    """One call of the asynchronous SDK."""
    if ask.sdk == "google":
        return await clients.google.aio.models.generate_content(**_google(ask))
    images = clients.async_openai.images
    return await (images.edit if ask.references else images.generate)(**_openai(ask))


def expect_image(answer: Any) -> None:
    """Raise ValueError unless an answer of either SDK holds an image."""
    if hasattr(answer, "data"):
        whole = any(image.b64_json for image in answer.data)
    else:
        whole = any(part.inline_data for part in answer.candidates[0].content.parts)
    if not whole:
        raise ValueError("an answer came without an image")


def _openai(ask: Ask) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": OPENAI_MODEL,
        "prompt": ask.prompt,
        "size": ask.size,
        "quality": ask.detail,
        "output_format": ask.format,
    }
    if ask.references:
        asked["image"] = [(name, reference(name), "image/jpeg") for name in ask.references]
    return asked


def _google(ask: Ask) -> dict[str, Any]:
    from google.genai import types

    references = [types.Part.from_bytes(data=reference(name), mime_type="image/jpeg") for name in ask.references]
    return {
        "model": GOOGLE_MODEL,
        "contents": [ask.prompt, *references],
        "config": types.GenerateContentConfig(
            response_modalities=["IMAGE"],
            image_config=types.ImageConfig(aspect_ratio=ask.detail, image_size=ask.size),
        ),
    }
