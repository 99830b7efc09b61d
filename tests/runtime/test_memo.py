"""The memo of exact requests: it never says anything else than working the key out anew, and it stays small."""

from __future__ import annotations

import gc
import json
import os
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cachelayer
from cachelayer import Request, dialects
from cachelayer.core.model import Asked, KeyRules
from cachelayer.runtime import memo as memos
from cachelayer.runtime.memo import LARGEST_BODY, LIMIT, Memo, memo_of

URL = "https://api.openai.com/v1/images/generations"


def request(
    prompt: str = "a lighthouse", *, url: str = URL, headers: Any = (("content-type", "application/json"),), **more: Any
) -> Request:
    return Request("POST", url, headers, json.dumps({"model": "gpt-image-2", "prompt": prompt, **more}))


URLS = st.sampled_from([URL, URL + "?api-version=1", URL + "?x=1", "https://other.example/v1/images/generations"])
HEADERS = st.lists(
    st.sampled_from(
        [("accept", "application/json"), ("X-Job", "1"), ("x-job", "1"), ("x-job", "2"), ("authorization", "Bearer k")]
    ),
    max_size=4,
)


@settings(deadline=None)
@given(asks=st.lists(st.tuples(st.sampled_from(["a", "b", "a "]), URLS, HEADERS, st.integers(1, 2)), max_size=12))
def test_it_says_what_working_it_out_says(asks: list[tuple[str, str, list[tuple[str, str]], int]]) -> None:
    for rules in (KeyRules(), KeyRules(namespace="other"), KeyRules(ignore=("header:x-job",))):
        memo = Memo(rules)
        for _ in range(2):
            for prompt, url, headers, n in asks:
                one = request(prompt, url=url, headers=[("content-type", "application/json"), *headers], n=n)
                assert memo.ask(one) == dialects.ask(one, rules)


def test_what_is_known_is_not_worked_out_again() -> None:
    memo = Memo(KeyRules())
    assert memo.ask(request()) is memo.ask(request())
    assert memo.ask(request()) is not memo.ask(request(headers=[("Content-Type", "application/json")]))


def test_one_set_of_rules_has_one_memo_and_another_another() -> None:
    one, two = KeyRules(namespace="one"), KeyRules(namespace="two")
    mine = memo_of(one)
    assert memo_of(KeyRules(namespace="one")) is mine
    assert memo_of(two) is not mine
    assert memo_of(one).ask(request()) != memo_of(two).ask(request())
    del mine
    gc.collect()
    assert one not in memos._memos


@pytest.mark.parametrize("size", [2_000, LARGEST_BODY - 200])
def test_it_never_takes_more_than_its_limit(size: int) -> None:
    draw = random.Random(size)
    number = 2 * LIMIT // (size + 2000)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        memo = Memo(KeyRules())
        for _ in range(number):
            assert isinstance(memo.ask(request(draw.randbytes(size // 2).hex())), Asked)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < LIMIT
        assert len(memo._young) + len(memo._old) > number / 20
    finally:
        tracemalloc.stop()


def test_a_large_body_is_not_kept() -> None:
    memo = Memo(KeyRules())
    large = request("x" * LARGEST_BODY)
    assert memo.ask(large) == dialects.ask(large, KeyRules())
    assert not memo._young


def test_what_is_asked_often_stays() -> None:
    memo = Memo(KeyRules())
    often = memo.ask(request("often"))
    for number in range(600):
        memo.ask(request(f"{number}" + "x" * 60_000))
        assert memo.ask(request("often")) is often


def test_threads_and_a_forked_child() -> None:
    memo = Memo(KeyRules())
    expected = [dialects.ask(request(f"{number}"), KeyRules()) for number in range(50)]

    def run(seed: int) -> None:
        for number in random.Random(seed).choices(range(50), k=300):
            assert memo.ask(request(f"{number}")) == expected[number]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    memo._lock.acquire()  # as another thread holds it in the moment of a fork
    child = os.fork()
    if child == 0:
        os._exit(0 if memo.ask(request("new")) == dialects.ask(request("new"), KeyRules()) else 1)
    memo._lock.release()
    assert os.waitpid(child, 0)[1] == 0


def test_caches_of_two_namespaces_never_meet(folder: Any) -> None:
    with cachelayer.Cache(path=folder) as one, cachelayer.Cache(path=folder, namespace="b") as two:
        keys = [cache._engine._memo.ask(request()) for cache in (one, two, one)]
        assert keys[0] == keys[2]
        assert isinstance(keys[0], Asked)
        assert isinstance(keys[1], Asked)
        assert keys[0].key != keys[1].key
