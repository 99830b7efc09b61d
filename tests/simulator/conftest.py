"""A running simulator, and the real SDKs pointed at it with their own retries off."""

from collections.abc import Iterator

import httpx
import openai
import pytest
from google import genai
from google.genai import types

from cachelayer.simulator import Simulator


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=7) as simulator:
        yield simulator


@pytest.fixture
def http(sim: Simulator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sim.url, timeout=30) as client:
        yield client


@pytest.fixture
def oai(sim: Simulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def google(sim: Simulator) -> Iterator[genai.Client]:
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=sim.url))
    yield client
    client.close()
