"""Loose collapses whitespace outside quotation marks only, and none at all where the marks are in doubt."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachelayer.core.prompt import normalize


def loose(text: str) -> str:
    return normalize([text], "loose")[0][0]


@pytest.mark.parametrize(
    ("text", "collapsed"),
    [
        # after a letter or digit a mark opens nothing
        ('a 6\'2" man  with a sign "A  B"  here', 'a 6\'2" man with a sign "A  B" here'),
        ('a 12"  frame', 'a 12" frame'),
        ('a sign "A  B" on a 12"  board', 'a sign "A  B" on a 12" board'),
        ("6'  tall", "6' tall"),
        ("5\u20327\u2033  tall", "5\u20327\u2033 tall"),
        ("a 12\u201d  screen with \u201cA  B\u201d", "a 12\u201d screen with \u201cA  B\u201d"),
        ("the dogs'  sign 'A  B'", "the dogs' sign 'A  B'"),
        ("rock 'n' roll  'A  B'", "rock 'n' roll 'A  B'"),
        ("don\u2019t  \u2018A  B\u2019", "don\u2019t \u2018A  B\u2019"),
        ('"Route 66"  sign', '"Route 66" sign'),
        # backticks and fences
        ("draw `A  B`  here", "draw `A  B` here"),
        ("draw ``A ` B``  here", "draw ``A ` B`` here"),
        ("draw\n```\nA  B\n```\n\nhere", "draw ```\nA  B\n``` here"),
        ("draw\n~~~\nA  B\n~~~\n\nhere", "draw ~~~\nA  B\n~~~ here"),
        # CJK and full-width pairs, with no space around them
        ("看板\u300cA  B\u300dを  描く", "看板\u300cA  B\u300dを 描く"),
        ("看板\u300eA  B\u300fを  描く", "看板\u300eA  B\u300fを 描く"),
        ("看板\uff62A  B\uff63を  描く", "看板\uff62A  B\uff63を 描く"),
        ("看板\u300aA  B\u300bを  描く", "看板\u300aA  B\u300bを 描く"),
        ("写着\uff02A  B\uff02的  牌子", "写着\uff02A  B\uff02的 牌子"),
        ("写着\u201cA  B\u201d的  牌子", "写着\u201cA  B\u201d的 牌子"),
        ("写着\u301dA  B\u301f的  牌子", "写着\u301dA  B\u301f的 牌子"),
        ("a  \uff07A  B\uff07  b", "a \uff07A  B\uff07 b"),
        # geresh and gershayim in a Hebrew word
        ("\u05e6\u05d4\u05f4\u05dc  \u05d2\u05f3\u05d9\u05e4", "\u05e6\u05d4\u05f4\u05dc \u05d2\u05f3\u05d9\u05e4"),
        ("\u05e6\u05d4\u05f4\u05dc  \u201cA  B\u201d", "\u05e6\u05d4\u05f4\u05dc \u201cA  B\u201d"),
        # one kind inside another
        ("a  \"it's  'so'  big\"  b", "a \"it's  'so'  big\" b"),
        ('("A  B"),  "C  D".  E', '("A  B"), "C  D". E'),
    ],
)
def test_what_is_quoted_stays_and_the_rest_is_collapsed(text: str, collapsed: str) -> None:
    assert loose(text) == collapsed


@pytest.mark.parametrize(
    "text",
    [
        'a  "b  c',  # never closed
        "a  `b  c",
        "a  ```b  c``  d",
        "a  \u300cb  c",
        "a  b\u300d  c",  # closes nothing
        "\u05d0  \u05f4\u05d1  \u05d2\u05f4",  # gershayim that quote
        "\u05d0  \u05f3\u05d1  \u05d2\u05f3",
        "\u05d2\u05d1\u05f3  \u05d0",  # an abbreviation, or the end of what was quoted
        "a  b\u00bb  c",
        'he is "6\'2"  tall"  now',  # which of them closes
        '"a 12"  screen"  there',
        '"a 12"  by 6"',
        "'the dogs'  bowl'  there",
        '5 " wide  "big  sign"',  # stands free
        '"A  B " there  now',
        '写着"A  B"的  牌子',  # in a script without spaces a letter stands before both of them
        "写着'A  B'的  牌子",
        'a"b  c"d',
        "``A  B''  in TeX",
        "`A  B'  in mail",
        "''A  B''  there",
        'a \u201cb \u201cc  d\u201d e\u201d  f',
        "the '90s  look",
        '<p class="a  b>  c',
    ],
)  # fmt: skip
def test_in_doubt_the_message_stays(text: str) -> None:
    assert loose(text) == text
    for message in ([text, "e  f"], ["e  f", text]):
        assert normalize(message, "loose")[0] == message


PAIRS = [
    *zip(
        "\"'\u201c\u201e\u2018\u00ab\u300c\u300e\uff02\uff62`",
        "\"'\u201d\u201c\u2019\u00bb\u300d\u300f\uff02\uff63`",
        strict=True,
    )
]
words = st.text(st.sampled_from("ab12é描く."), min_size=1, max_size=4)
gaps = st.sampled_from([" ", "  ", "\n", "\t \n", "\u3000"])
inches = st.sampled_from(['12"', "6'2\"", "don't", "5'", "12\u201d"])


@given(st.data())
@settings(deadline=None)
def test_no_quotation_ever_loses_whitespace(data: st.DataObject) -> None:
    """However a text is put together: what stands between marks that are set apart by spaces is still there."""
    text, inside = "", []
    for _ in range(data.draw(st.integers(1, 5))):
        kind = data.draw(st.sampled_from(["word", "inch", "quotation"]))
        if kind == "quotation":
            opening, closing = data.draw(st.sampled_from(PAIRS))
            said = data.draw(words) + data.draw(gaps) + data.draw(st.one_of(words, inches)) + data.draw(words)
            inside.append(opening + said + closing)
            text += inside[-1]
        else:
            text += data.draw(words if kind == "word" else inches)
        text += data.draw(gaps)
    kept = loose(text)
    for quotation in inside:
        assert quotation in kept


@given(
    st.text(
        st.sampled_from(
            [*"\"'`~ \n\u3000", *"\u201c\u201d\u2018\u2019\u00ab\u00bb\u300c\u300d\uff02", "a", "1", "描", "."]
        ),
        max_size=30,
    )
)
@settings(deadline=None)
def test_idempotent_and_nothing_but_whitespace_changes(text: str) -> None:
    once = loose(text)
    assert loose(once) == once
    assert once.split() == text.split()


@pytest.mark.parametrize("repeated", ['"', "'a", "\u2019a ", "` ", "\u201c", "\u2018a \u2019b "])
def test_takes_linear_time(repeated: str) -> None:
    """Hours, if it did not: a test that hangs here has failed."""
    loose(repeated * 100_000)
