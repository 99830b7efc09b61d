"""From exactly 16,384 bytes on an answer is taken apart; below, it lies in its entry as a whole."""

from __future__ import annotations

import pytest

from cachelayer.core.entry import BlobRef, Text, join, split
from cachelayer.core.model import Answer, Reading, Span

LIMIT = 16_384
PICTURE = b"iVBOR" + b"A" * 1_995  # 2,000 letters of base64


def answer(length: int) -> tuple[Answer, Reading]:
    begin = b'{"image":"'
    body = begin + PICTURE + b'","text":"'
    body += b"x" * (length - len(body) - 2) + b'"}'
    assert len(body) == length
    span = Span(len(begin), len(begin) + len(PICTURE), "image/png", True)
    return Answer(200, (), body), Reading(None, images=1, spans=(span,))


@pytest.mark.parametrize(("length", "blobs"), [(LIMIT - 1, 0), (LIMIT, 1), (LIMIT + 1, 1)])
def test_an_answer_of_the_limit_is_taken_apart(length: int, blobs: int) -> None:
    came, reading = answer(length)
    template, kept = split(came, reading)
    assert len(kept) == sum(isinstance(piece, BlobRef) for piece in template) == blobs
    assert join(template, kept) == came.body


@pytest.mark.parametrize(("length", "blob"), [(LIMIT - 1, False), (LIMIT, True)])
def test_a_text_of_the_limit_is_a_blob(length: int, blob: bool) -> None:
    came, reading = answer(LIMIT * 2)
    long = Answer(200, (), came.body[: reading.spans[0].end] + b" " * length)
    template, kept = split(long, reading)
    assert isinstance(template[-1], BlobRef if blob else Text)
    assert join(template, kept) == long.body
