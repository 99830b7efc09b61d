"""Requests that no hit may confuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cachelayer
from cachelayer.simulator import Simulator
from tests.asking import PATH, body
from tests.hits.desk import BLUE, GREEN, RED, Desk, editing, gemini, images, referring


def test_4k_never_answers_1k(desk: Desk) -> None:
    sizes: list[dict[str, Any]] = [{"imageSize": size} for size in ("512", "1K", "2K", "4K")]
    desk.apart(*(gemini(imageConfig={"aspectRatio": "1:8", **size}) for size in [*sizes, {}]))
    desk.apart(*(images(size=size) for size in ("64x64", "64x128", "128x64", "128x128", None)))


def test_an_aspect_ratio_is_not_its_own_default(desk: Desk) -> None:
    ratios: list[dict[str, Any]] = [{}, {"aspectRatio": "1:1"}, {"aspectRatio": "1:8"}, {"aspectRatio": "8:1"}]
    desk.apart(*(gemini(imageConfig={"imageSize": "512", **ratio}) for ratio in ratios))


@pytest.mark.parametrize("make", [referring, editing], ids=["gemini", "multipart"])
def test_references_count_one_by_one_and_in_their_order(make: Any, desk: Desk) -> None:
    desk.apart(
        make(RED),
        make(GREEN),
        make(RED, GREEN),
        make(GREEN, RED),
        make(RED, RED),
        make(RED, GREEN, BLUE),
        make(RED, BLUE, GREEN),
        make(RED[:-1] + b"\x83", GREEN),  # one byte of a picture
    )


def test_a_mask_is_not_a_picture(desk: Desk) -> None:
    desk.apart(editing(RED), editing(RED, mask=GREEN), editing(RED, GREEN), editing(RED, mask=BLUE))


def test_where_the_text_stands_among_the_references_counts(desk: Desk) -> None:
    desk.apart(referring(RED, GREEN), referring(RED, GREEN, first=False), referring(RED, GREEN, text="Like these"))


def test_prompts_that_differ_in_anything_an_author_sees(desk: Desk) -> None:
    desk.apart(*(images(prompt=text) for text in ("a cat", "A cat", "a cat.", "a  cat", "a\ncat", "a cât", "cat a")))


def test_seeds(desk: Desk) -> None:
    small: dict[str, Any] = {"imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}
    desk.apart(gemini(**small), *(gemini(**small, seed=seed) for seed in (0, 1, -1, 2**31)))
    desk.apart(images(), *(images(seed=seed) for seed in (0, 1, "1", True, False, "0")))


def test_counts(desk: Desk) -> None:
    small: dict[str, Any] = {"imageConfig": {"imageSize": "512", "aspectRatio": "1:8"}}
    desk.apart(gemini(**small), gemini(**small, candidateCount=2), gemini(**small, candidateCount=3))
    desk.apart(images(), images(n=2), images(n=3))


def test_a_model_and_its_snapshot(desk: Desk) -> None:
    models = ["gpt-image-1", "gpt-image-1-mini", "gpt-image-1.5", "gpt-image-2", "gpt-image-2-2026-04-21"]
    desk.apart(*(images(model=model) for model in models))
    small: dict[str, Any] = {"imageConfig": {"aspectRatio": "21:9"}}
    models = ["gemini-3-pro-image", "gemini-3-pro-image-preview", "gemini-2.5-flash-image"]
    desk.apart(*(gemini(model=model, **small) for model in models))


def test_another_hosts_defaults_count(desk: Desk) -> None:
    """OpenAI documents `auto` for its own host; the simulator's is another."""
    desk.apart(images(), images(background="auto"), images(quality="auto"), images(moderation="auto"))


def test_a_part_of_a_form_without_a_filename_is_no_file(desk: Desk) -> None:
    path, request = editing(RED, mask=GREEN)
    *pictures, (_, (_, mask, mime)) = request["files"]
    as_field = {**request, "files": [*pictures, ("mask", (None, mask, mime))]}
    desk.apart((path, request), (path, as_field), editing(RED))


def test_anything_unknown_counts(desk: Desk) -> None:
    desk.apart(
        images(),
        images(style="x"),
        images(style="y"),
        images(style=["x"]),
        images(style={"x": None}),
        images(style={}),
        images(headers={"x-lab": "a"}),
        images(headers={"x-lab": "b"}),
        images(params={"lab": "a"}),
        images(params={"lab": "b"}),
        images(params={"LAB": "a"}),
    )


def test_a_stream_is_never_answered_by_a_whole_nor_a_whole_by_a_stream(desk: Desk) -> None:
    for path, request in (images(), gemini(imageConfig={"aspectRatio": "1:8", "imageSize": "512"})):
        streamed = path.replace(":generateContent", ":streamGenerateContent")
        document = request["json"] | ({} if ":" in path else {"stream": True})
        for _ in range(2):
            calls = desk.simulator.calls
            answer = desk.client.post(desk.simulator.url + streamed, json=document)
            assert answer.headers["x-cachelayer"] == "BYPASS"
            assert desk.simulator.calls == calls + 1
        assert desk.ask(path, **request)[0] == "MISS"
        answer = desk.client.post(desk.simulator.url + streamed, json=document)
        assert answer.headers["x-cachelayer"] == "BYPASS"
        assert desk.ask(path, **request)[0] == "HIT"


def test_dialects_never_meet(desk: Desk) -> None:
    """The same words to the same model, in another language."""
    small = {"aspectRatio": "1:8", "imageSize": "512"}
    desk.apart(images(model="gemini-3-pro-image"), gemini(imageConfig=small), referring(RED), editing(RED))


def test_namespaces_never_meet(folder: Path, simulator: Simulator) -> None:
    answers = []
    with Simulator() as truth:
        for round in range(2):
            for namespace in ("default", "a", "b", "a b", "A"):
                with cachelayer.Cache(path=folder, namespace=namespace) as cache:
                    desk = Desk(cache, simulator, truth)
                    outcome, answer = desk.ask(PATH, json=body())
                    assert outcome == ("HIT" if round else "MISS")
                    answers.append(answer)
                    desk.close()
    assert len(set(answers)) == 5
    assert answers[:5] == answers[5:]


def test_scopes_meet_only_when_they_are_pooled(folder: Path, simulator: Simulator) -> None:
    with Simulator() as other, Simulator() as truth:
        hosts = [one.url.removeprefix("http://") for one in (simulator, other)]
        with cachelayer.Cache(path=folder) as cache:
            desk = Desk(cache, simulator, truth)
            first = [desk.ask(PATH, one, json=body("apart")) for one in (simulator, other)]
            assert [outcome for outcome, _ in first] == ["MISS", "MISS"]
            prefixed = desk.ask("/reseller" + PATH, json=body("apart"))
            assert prefixed[0] == "MISS"
            desk.close()
        pool = ["http://" + host for host in hosts]
        with cachelayer.Cache(path=folder, pools=[pool]) as cache:
            desk = Desk(cache, simulator, truth)
            outcome, answer = desk.ask(PATH, simulator, json=body("pooled"))
            assert outcome == "MISS"
            assert desk.ask(PATH, other, json=body("pooled")) == ("HIT", answer)
            # What was paid for before the pool is found; the asker's own comes first.
            assert [desk.ask(PATH, one, json=body("apart"))[1] for one in (simulator, other)] == [
                answer for _, answer in first
            ]
            assert desk.ask("/reseller" + PATH, json=body("pooled"))[0] == "MISS"  # a path is a scope of its own
            desk.close()
        with cachelayer.Cache(path=folder) as cache:
            desk = Desk(cache, simulator, truth)
            assert [desk.ask(PATH, one, json=body("apart")) for one in (simulator, other)] == [
                ("HIT", answer) for _, answer in first
            ]
            desk.close()
