"""What a setting widens holds for whoever set it: ``ignore`` and ``normalize`` are in the form, pools are looked up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachelayer.core.canon import differences, fields
from cachelayer.core.model import KeyRules, Request
from tests.dialects.asks import (
    EDIT,
    GEMINI,
    GENERATE,
    asked,
    contents,
    data_url,
    field,
    file,
    form,
    gemini,
    generate,
    key,
    request,
)

Build = Callable[..., Request]
PNG = b"\x89PNG\r\n\x1a\n some bytes"
BOTH = pytest.mark.parametrize("build", [gemini, generate], ids=["gemini", "openai"])


def ignoring(*rules: str) -> KeyRules:
    return KeyRules(ignore=rules)


def messages(*texts: str) -> Request:
    return gemini({"contents": [{"role": "user", "parts": [{"text": text}]} for text in texts]})


# ---- ignore ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "with_it", "without"),
    [
        (
            "body:generationConfig.seed",
            gemini({"contents": contents("a cat"), "generationConfig": {"seed": 7}}),
            gemini(),
        ),
        ("body:seed", generate({"model": "gpt-image-1.5", "prompt": "a cat", "seed": 7}), generate()),
        ("header:X-Job", gemini(headers={"x-job": "1"}), gemini()),
        ("header:accept", generate(headers={"Accept": "image/png"}), generate()),
        ("query:job", generate(url=GENERATE + "?job=1"), generate()),
        ("body:x", form(field("prompt", "p"), field("x", "1")), form(field("prompt", "p"))),
        ("body:images.1", form(file("image[]", PNG), file("image[]", PNG)), form(file("image", PNG))),
    ],
)
def test_a_rule_that_took_something_is_named(rule: str, with_it: Request, without: Request) -> None:
    mine = ignoring(rule)
    named = rule.lower() if rule.startswith("header:") else rule
    assert fields(asked(with_it, mine))["ignored"] == [named]
    # Neither who ignores nothing, nor who never sent it, is served what was made while it was ignored.
    assert len({key(with_it, mine), key(with_it), key(without)}) == 3
    # A rule that took nothing widened nothing.
    assert key(without, mine) == key(without)


@pytest.mark.parametrize(
    ("rule", "asking"),
    [
        ("header:authorization", gemini(headers={"Authorization": "Bearer a"})),
        ("header:x-request-id", generate(headers={"X-Request-Id": "1"})),
        ("header:accept", generate(headers={"Accept": "*/*"})),
        ("header:host", generate(headers={"Host": "api.openai.com"})),
        ("query:key", gemini(url=GEMINI + "?key=AIza")),
        ("query:api-version", generate(url=GENERATE + "?api-version=1")),
        ("body:labels", gemini({"contents": contents("a cat"), "labels": {"a": 1}})),
        ("body:user", generate({"prompt": "p", "user": "u"})),
        ("body:n", generate({"prompt": "p", "n": 2})),
        ("body:quality", generate({"prompt": "p", "quality": "auto"})),
        ("body:style", generate({"prompt": "p", "style": None})),
        ("body:generationConfig", gemini({"contents": contents("a cat"), "generation_config": {"imageConfig": {}}})),
    ],
)
def test_a_rule_for_what_does_not_count_anyway_changes_nothing(rule: str, asking: Request) -> None:
    assert asked(asking, ignoring(rule)) == asked(asking)


def test_a_default_of_one_host_is_taken_from_another() -> None:
    azure = GENERATE.replace("api.openai.com", "x.openai.azure.com")
    asking = generate({"prompt": "p", "quality": "auto"}, url=azure)
    assert fields(asked(asking, ignoring("body:quality")))["ignored"] == ["body:quality"]


@pytest.mark.parametrize("path", ["contents", "images"])
def test_positions_mean_the_body_as_it_was_sent(path: str) -> None:
    def build(*texts: str) -> Request:
        return (
            messages(*texts)
            if path == "contents"
            else request(EDIT, {"prompt": "p", "images": [data_url(text.encode()) for text in texts]})
        )

    for order in itertools.permutations([f"body:{path}.0", f"body:{path}.1"]):
        rules = ignoring(*order)
        assert key(build("a", "b", "c"), rules) == key(build("x", "y", "c"), rules)
        assert key(build("a", "b", "c"), rules) != key(build("a", "b", "x"), rules)
        assert key(build("a", "b", "c"), rules) == key(build("a", "b", "c"), ignoring(*order[::-1]))


def test_a_position_and_something_inside_another() -> None:
    rules = ignoring("body:contents.1.parts.0.text", "body:contents.0")
    assert key(messages("a", "b", "c"), rules) == key(messages("x", "y", "c"), rules)
    assert key(messages("a", "b", "c"), rules) != key(messages("a", "b", "y"), rules)


def test_a_wider_rule_makes_the_narrower_one_say_nothing() -> None:
    asking = gemini({"contents": contents("a cat"), "trace": {"id": 1}})
    assert asked(asking, ignoring("body:trace", "body:trace.id")) == asked(asking, ignoring("body:trace"))


def test_only_known_names_are_spelled_in_two_ways() -> None:
    either = ignoring("body:generation_config.image_config.aspectRatio", "body:trace.jobId")
    one = gemini({"contents": contents("a"), "generationConfig": {"imageConfig": {"aspect_ratio": "1:1"}}})
    two = gemini({"contents": contents("a"), "generationConfig": {"imageConfig": {"aspectRatio": "2:1"}}})
    assert key(one, either) == key(two, either)
    other = [gemini({"contents": contents("a"), "trace": {"job_id": number}}) for number in (1, 2)]
    assert key(other[0], either) != key(other[1], either)
    known = [generate({"prompt": "p", "output_format": kind}) for kind in ("png", "webp")]
    assert key(known[0], ignoring("body:outputFormat")) != key(known[1], ignoring("body:outputFormat"))


@given(
    st.lists(st.sampled_from("abc"), max_size=5),
    st.lists(st.sampled_from("abc"), max_size=5),
    st.lists(
        st.sampled_from(["body:contents.0", "body:contents.1", "body:contents.3", "body:contents.02"]), max_size=4
    ),
)
@settings(deadline=None)
def test_two_requests_meet_only_where_they_differ_in_what_was_ignored(
    one: list[str], other: list[str], rules: list[str]
) -> None:
    ignored = {int(rule.rpartition(".")[2]) for rule in rules}

    def left(texts: list[str]) -> tuple[list[str], set[int]]:
        """What counts, and which positions had something to ignore."""
        there = {position for position in ignored if position < len(texts)}
        return [text for position, text in enumerate(texts) if position not in ignored], there

    meet = key(messages(*one), ignoring(*rules)) == key(messages(*other), ignoring(*rules))
    assert meet == (left(one) == left(other))


# ---- normalize -------------------------------------------------------------------------------------------------------


@BOTH
def test_every_normalize_but_the_default_is_named(build: Build) -> None:
    keys = {mode: asked(build(), KeyRules(normalize=mode)) for mode in ("prompt", "exact", "loose")}
    assert len({got.key for got in keys.values()}) == 3
    assert [fields(got).get("normalize") for got in keys.values()] == [None, "exact", "loose"]
    assert differences(keys["prompt"], keys["loose"]) == [("normalize", None, "loose")]


def test_text_is_never_normalised_so_that_nothing_is_named() -> None:
    url = GEMINI.replace("-image", "")
    assert key(gemini(url=url), KeyRules(normalize="loose")) == key(gemini(url=url))


# ---- pools -----------------------------------------------------------------------------------------------------------

OFFICIAL, CHEAP, THIRD = "generativelanguage.googleapis.com", "cheap.example", "third.example:8443/gw"
URLS = {
    OFFICIAL: GEMINI,
    f"{OFFICIAL}:80": GEMINI.replace("https", "http"),
    CHEAP: GEMINI.replace(OFFICIAL, CHEAP),
    f"{CHEAP}:80": GEMINI.replace(OFFICIAL, CHEAP).replace("https", "http"),
    THIRD: GEMINI.replace(OFFICIAL, THIRD),
}
POOL = KeyRules(pools=(("someone.else", "another.example"), (OFFICIAL, CHEAP, f"https://{THIRD}/v1beta/")))
"""A host alone is meant with http too, a URL as it stands there."""
NAMED = KeyRules(pools=(("name:best of three", OFFICIAL, CHEAP, THIRD),))


@pytest.mark.parametrize("scope", URLS)
def test_an_entry_lies_under_the_scope_that_made_it(scope: str) -> None:
    got = asked(gemini(url=URLS[scope]), POOL)
    assert (got.key, got.canonical) == (key(gemini(url=URLS[scope])), asked(gemini(url=URLS[scope])).canonical)
    assert got.elsewhere == tuple(key(gemini(url=url)) for other, url in URLS.items() if other != scope)


@pytest.mark.parametrize("scope", URLS)
def test_a_named_pool_has_a_scope_that_no_host_can_spell(scope: str) -> None:
    got = asked(gemini(url=URLS[scope]), NAMED)
    own = key(gemini(url=URLS[scope]))
    others = [key(gemini(url=url)) for other, url in URLS.items() if other != scope]
    assert got.elsewhere == (own, *others)
    assert json.loads(got.canonical)["scope"] == {"$pool": "best of three"}
    assert (got.scope, got.host) == (scope, scope.partition("/")[0].removesuffix(":80"))
    assert got.key == key(gemini(url=URLS[CHEAP]), NAMED)
    assert got.key not in {own, *others, key(gemini(url=URLS[scope]), KeyRules(pools=(("name:else", scope),)))}


@BOTH
def test_scopes_that_are_not_pooled_never_meet(build: Build) -> None:
    host = build().url.split("/")[2]
    rules = KeyRules(pools=(("one.example", f"{host}/prefix"),))
    assert asked(build(), rules) == asked(build())


@BOTH
@pytest.mark.parametrize("spelled", ["https://{}", "HTTPS://{}:443/v1/", " {} ", "{}/"])
def test_members_are_compared_as_scopes(build: Build, spelled: str) -> None:
    """The first of them too."""
    host = build().url.split("/")[2]
    by_http = key(build(url=build().url.replace("https", "http")))  # meant as well, where no scheme is said
    for pool in ((spelled.format(host), "b.example:443"), ("b.example:443", spelled.format(host))):
        got = asked(build(), KeyRules(pools=(pool,)))
        assert (by_http in got.elsewhere) == ("https" not in spelled.lower())
        others = [other for other in got.elsewhere if other != by_http]
        assert others == [key(build(url=build().url.replace(host, "b.example")))]


def test_without_name_a_first_member_is_a_host() -> None:
    got = asked(gemini(url=URLS[CHEAP]), KeyRules(pools=(("simulator", f"{CHEAP}:443"),)))
    there = GEMINI.replace(OFFICIAL, "simulator")
    assert got.elsewhere == (key(gemini(url=there)), key(gemini(url=there.replace("https", "http"))))


def test_auto_is_folded_at_each_member_as_it_is_there() -> None:
    body = {"model": "gpt-image-2", "prompt": "p", "quality": "auto", "background": "auto"}
    other = GENERATE.replace("api.openai.com", CHEAP)
    pool = KeyRules(pools=(("https://api.openai.com", f"https://{CHEAP}"),))
    here, there = asked(generate(body), pool), asked(generate(body, url=other), pool)
    assert (here.key, here.elsewhere) == (key(generate(body)), (key(generate(body, url=other)),))
    assert (there.key, there.elsewhere) == (here.elsewhere[0], (here.key,))
    assert here.key == key(generate({"model": "gpt-image-2", "prompt": "p"}))
    assert there.key != key(generate({"model": "gpt-image-2", "prompt": "p"}, url=other))


def test_count_and_ignored_fields_are_the_same_at_each_member() -> None:
    rules = KeyRules(pools=((f"https://{OFFICIAL}", f"https://{CHEAP}"),), ignore=("body:x",), normalize="loose")
    body = {"contents": contents("a  b"), "generationConfig": {"candidateCount": 3}, "x": 1}
    alone = KeyRules(ignore=("body:x",), normalize="loose")
    got = asked(gemini(body), rules)
    assert got.elsewhere == (key(gemini(body, url=URLS[CHEAP]), alone),)


class TestAnIgnoredModel:
    RULES = KeyRules(ignore=("body:model",))

    def test_of_a_body_counts_no_more(self) -> None:
        one, other, none = (generate({**model, "prompt": "p"}) for model in ({"model": "m"}, {"model": "x"}, {}))
        assert key(one, self.RULES) == key(other, self.RULES) != key(one)
        assert fields(asked(one, self.RULES))["ignored"] == ["body:model"]
        assert fields(asked(one, self.RULES))["model"] is None
        assert asked(one, self.RULES).model == "m"  # for prices and reports
        assert key(none, self.RULES) == key(none) != key(one, self.RULES)

    def test_of_a_form_too(self) -> None:
        forms = [form(field("prompt", "p"), field("model", model), file("image", b"1")) for model in ("m", "x")]
        assert len({key(request, self.RULES) for request in forms}) == 1
        assert len({key(request) for request in forms}) == 2

    def test_what_a_path_names_stays(self) -> None:
        azure = "https://x.openai.azure.com/openai/deployments/{}/images/generations"
        urls = [azure.format(name) for name in ("a", "b")]
        assert len({key(generate({"model": "m", "prompt": "p"}, url=url), self.RULES) for url in urls}) == 2
        assert fields(asked(generate({"model": "m", "prompt": "p"}, url=urls[0]), self.RULES))["model"] == "a"
        assert key(gemini(), self.RULES) == key(gemini())
        named = {"contents": contents("p"), "model": "m"}
        assert key(gemini(named), self.RULES) != key(gemini(named))  # a field of the body like any other

    @pytest.mark.parametrize("rule", ["body:n", "body:stream"])
    def test_count_and_shape_are_no_part_of_the_body(self, rule: str) -> None:
        body = {"prompt": "p", "n": 2, "stream": False}
        assert asked(generate(body), KeyRules(ignore=(rule,))) == asked(generate(body))
