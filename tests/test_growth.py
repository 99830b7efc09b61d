"""What many Caches, folders and event loops leave behind: nothing that grows with their number."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Program, finish

PROGRAM = """
import asyncio, gc, threading, time
import httpx
import cachelayer

warnings.simplefilter("ignore", ResourceWarning)  # of loops that a program abandons
folder, what = args
URL = "http://provider.example/v1/images/generations"
provider = httpx.MockTransport(lambda request: httpx.Response(200, json={"created": 1, "data": [{"b64_json": PNG}]}))

def client(cache):
    return cache.wrap(httpx.Client(transport=provider, trust_env=False))

def ask(cache, prompt="a"):
    return client(cache).post(URL, json={"model": "gpt-image-2", "prompt": prompt}).headers["x-cachelayer"]

async def ask_async(cache, prompt):
    async with cache.wrap(httpx.AsyncClient(transport=provider, trust_env=False)) as client:
        await client.post(URL, json={"model": "gpt-image-2", "prompt": prompt})

def files():
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            pass
    return sorted(name for name in names if folder in name)

def settled():
    gc.collect()
    until = time.monotonic() + 30
    while (files() or threading.active_count() > 1) and time.monotonic() < until:
        time.sleep(0.01)  # what a collected Cache used is let go of in a thread
    return files()
"""

CASES = {
    "closed folders": """
for number in range(40):
    with cachelayer.Cache(path=f"{folder}/{number}") as cache:
        assert [ask(cache), ask(cache)] == ["MISS", "HIT"]
    assert [name for name in files() if f"/{number}/" in name] == []
    assert ask(cache) == "BYPASS"  # written down, for which the ledger is opened once more
    del cache
assert settled() == []
""",
    "one folder, a Cache per request, none closed": """
for number in range(40):
    assert ask(cachelayer.Cache(path=folder)) == ("HIT" if number else "MISS")
assert settled() == []
""",
    "one folder, many Caches at once": """
caches = [cachelayer.Cache(path=folder) for _ in range(40)]
outcomes = [ask(cache, number % 3) for number, cache in enumerate(caches)]
assert outcomes.count("MISS") == 3 and outcomes.count("HIT") == 37
held = files()
one = cachelayer.Cache(path=folder + "/.")
ask(one)
assert files() == held, (held, files())
for cache in caches:
    cache.close()
assert files() == held  # the last one goes on
assert ask(one) == "HIT"
one.close()
assert files() == []
assert cachelayer.Cache(path=folder).stats().requests == 42
""",
    "a wrapped client without its Cache": """
kept = client(cachelayer.Cache(path=folder))
gc.collect()
post = lambda: kept.post(URL, json={"model": "gpt-image-2", "prompt": "a"}).headers["x-cachelayer"]
assert [post(), post()] == ["MISS", "HIT"]
assert files() != []
del kept, post
assert settled() == []
""",
    "abandoned loops": """
cache = cachelayer.Cache(path=folder)
for number in range(40):
    asyncio.new_event_loop().run_until_complete(ask_async(cache, number))
loops = lambda: [each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop)]
until = time.monotonic() + 30
while gc.collect() is not None and loops() and time.monotonic() < until:
    time.sleep(0.01)  # a worker's last breath may still hold one
assert cache.flights.count() == len(cache._engine.flights._by_key) == len(cache._engine.flights._calls) == 0
assert loops() == []
cache.close()
assert settled() == []
""",
    "a child that forks while a Cache is open": """
cache = cachelayer.Cache(path=folder)
ask(cache)
child = os.fork()
if child == 0:
    with cachelayer.Cache(path=folder) as mine:
        fine = ask(mine) == "HIT" and ask(mine, "new") == "MISS"
    os._exit(0 if fine else 1)
assert os.waitpid(child, 0)[1] == 0
assert [ask(cache), ask(cache, "new")] == ["HIT", "HIT"]
cache.close()
assert files() == []
""",
    "closed before a flight has ended": """
cache = cachelayer.Cache(path=folder, drain_timeout=0.05)
asked, answer = threading.Event(), threading.Event()

def slow(request):
    asked.set()
    answer.wait()
    return provider.handler(request)

late = cache.wrap(httpx.Client(transport=httpx.MockTransport(slow), trust_env=False))
waiting = threading.Thread(target=late.post, args=(URL,), kwargs={"json": {"model": "gpt-image-2", "prompt": "a"}})
waiting.start()
asked.wait()
cache.close()
assert files() != []  # the answer is paid for
answer.set()
waiting.join()
del cache, late, waiting
assert settled() == []
assert ask(cachelayer.Cache(path=folder)) == "HIT"
""",
    "a folder that was deleted and made anew": """
import shutil
old = cachelayer.Cache(path=folder)
assert ask(old) == "MISS"
shutil.rmtree(folder)
new = cachelayer.Cache(path=folder)
assert [ask(new), ask(new), ask(old)] == ["MISS", "HIT", "HIT"]
old.close()
assert ask(new) == "HIT"
new.close()
assert [name for name in files() if "(deleted)" not in name] == []
""",
}

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_left(case: str, program: Program, folder: Path) -> None:
    finish(program(f"PNG = {PNG!r}\n{PROGRAM}{CASES[case]}", folder, case), 100)
