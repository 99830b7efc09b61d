"""Universal rules: what must hold for every request, whoever wrote it."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from cachelayer.core.canon import key_of
from cachelayer.core.model import Answer, Asked, KeyRules, Reading, Request, Unkeyed
from cachelayer.dialects import ask, read
from cachelayer.dialects.gemini.fields import BODY
from cachelayer.dialects.wire.folding import Known, Many, Node, snake
from tests.dialects.asks import EDIT, GEMINI, GENERATE, asked, contents, data_url, form, form_body, key, request

EXACT = KeyRules(normalize="exact")
SETTINGS_MODES = st.sampled_from(["exact", "prompt", "loose"])

# ---- whole bodies, with known and unknown fields ---------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(["text", "mimeType", "mime_type", "$blob", "$", "n", "seed", "user"]), st.text(max_size=6)
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
images = st.binary(min_size=1, max_size=12)
parts = st.one_of(
    st.fixed_dictionaries({"text": st.text(max_size=12)}, optional={"thought": st.booleans(), "unknown": trees}),
    images.map(lambda data: {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}}),
    trees.map(lambda args: {"functionCall": {"name": "f", "args": args}}),
    trees.map(lambda answer: {"functionResponse": {"name": "f", "response": answer}}),
)
gemini_bodies = st.fixed_dictionaries(
    {
        "contents": st.lists(
            st.fixed_dictionaries({"role": st.just("user"), "parts": st.lists(parts, max_size=3)}), max_size=2
        )
    },
    optional={
        "generationConfig": st.fixed_dictionaries(
            {"responseModalities": st.just(["IMAGE"])},
            optional={
                "seed": st.integers(),
                "temperature": st.floats(0, 2),
                "responseSchema": trees,
                "imageConfig": st.fixed_dictionaries(
                    {"imageSize": st.sampled_from(["1K", "2K"])}, optional={"new": trees}
                ),
                "new": trees,
            },
        ),
        "safetySettings": st.lists(
            st.fixed_dictionaries({"category": st.text(max_size=3), "threshold": st.just("OFF")}), max_size=2
        ),
        "new": trees,
    },
)
openai_bodies = st.fixed_dictionaries(
    {"prompt": st.text(max_size=12)},
    optional={
        "model": st.sampled_from(["gpt-image-2", "flux"]),
        "size": st.sampled_from(["1024x1024", "1K"]),
        "output_compression": st.integers(0, 100),
        "images": st.lists(images.map(lambda data: {"image_url": data_url(data)}), max_size=3),
        "mask": images.map(lambda data: {"image_url": data_url(data)}),
        "new": trees,
    },
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside a value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in children:
        yield from paths(item, (*path, name))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def mutated(body: dict[str, Any], path: tuple[Any, ...], choice: random.Random) -> dict[str, Any]:
    """A copy in which one place differs: a leaf changed, a key renamed, an item dropped, doubled or swapped."""
    changed = copy.deepcopy(body)
    holder = at(changed, path[:-1])
    item = holder[path[-1]]
    if isinstance(holder, dict) and choice.random() < 0.3:
        holder[f"{path[-1]}x"] = holder.pop(path[-1])
    elif isinstance(holder, list) and choice.random() < 0.5:
        holder.insert(path[-1], copy.deepcopy(item))
    elif isinstance(item, bool):
        holder[path[-1]] = not item
    elif isinstance(item, str):
        holder[path[-1]] = item + "x"
    elif isinstance(item, int):
        holder[path[-1]] = item + 1
    else:
        holder[path[-1]] = {"changed": item}
    return changed


def mutations_count(url: str, body: dict[str, Any], data: st.DataObject) -> None:
    places = [path for path in paths(body) if path]
    # "sameness" of base64 text is by bytes: it has tests of its own.
    places = [path for path in places if not (path[-1] in ("data", "image_url") and isinstance(at(body, path), str))]
    path = data.draw(st.sampled_from(places))
    other = mutated(body, path, data.draw(st.randoms(use_true_random=False)))
    assume(json.dumps(body) != json.dumps(other))
    first, second = ask(request(url, body), EXACT), ask(request(url, other), EXACT)
    if isinstance(first, Asked) and isinstance(second, Asked):
        assert first.key != second.key


@given(gemini_bodies, st.data())
def test_any_change_of_a_gemini_body_changes_the_key(body: dict[str, Any], data: st.DataObject) -> None:
    mutations_count(GEMINI, body, data)


@given(openai_bodies, st.sampled_from([GENERATE, EDIT]), st.data())
def test_any_change_of_an_openai_body_changes_the_key(body: dict[str, Any], url: str, data: st.DataObject) -> None:
    mutations_count(url, body, data)


field_names = st.sampled_from(["prompt", "size", "image", "image[]", "mask", "x", "$x", "user_id"])
form_parts = st.tuples(
    field_names,
    st.binary(max_size=8).filter(lambda data: b"\r\n--" not in data),
    st.sampled_from([None, "file"]),
    st.sampled_from([None, "image/png", "image/jpeg"]),
)


@given(st.lists(form_parts, min_size=1, max_size=5, unique_by=lambda part: part[0]), st.data())
def test_any_change_of_a_form_changes_the_key(form_of: list[Any], data: st.DataObject) -> None:
    assume(not {"image", "image[]"} <= {part[0] for part in form_of})
    index = data.draw(st.integers(0, len(form_of) - 1))
    name, payload, filename, mime = form_of[index]
    other = [*form_of]
    change = data.draw(st.sampled_from(["data", "mime", "drop", "name"]))
    if change == "data":
        other[index] = (name, payload + b"x", filename, mime)
    elif change == "mime":
        other[index] = (name, payload, filename, "image/other")
    elif change == "name":
        other[index] = (name + "y", payload, filename, mime)
    else:
        assume(len(form_of) > 1)
        del other[index]
    assert key(form(*form_of), EXACT) != key(form(*other), EXACT)


# ---- respelling inside the rules -------------------------------------------------------------------------------------


def respelled(node: Node | None, value: Any, choice: random.Random) -> Any:
    """The same value along a schema, with names, nulls, order and base64 spelled some other way."""
    if isinstance(node, Many) and isinstance(value, list):
        return [respelled(node.item, item, choice) for item in value]
    if not isinstance(node, Known) or not isinstance(value, dict):
        return value
    items = []
    for name, item in value.items():
        known = node.fields.get(name)
        if name == "data" and isinstance(item, str) and choice.random() < 0.5:
            item = item.translate(str.maketrans("+/", "-_"))
            item = item.rstrip("=") if choice.random() < 0.5 else item
        spelled = snake(name) if known is not None and choice.random() < 0.5 else name
        items.append((spelled, respelled(known, item, choice)))
    absent = [name for name in node.fields if name not in value and snake(name) not in value]
    items += [(name, None) for name in absent if choice.random() < 0.3]
    items += [(name, {}) for name in absent if choice.random() < 0.3 and getattr(node.fields[name], "config", False)]
    choice.shuffle(items)
    return dict(items)


@given(gemini_bodies, st.randoms(use_true_random=False), st.booleans(), SETTINGS_MODES)
def test_no_respelling_inside_the_rules_changes_the_key(
    body: dict[str, Any], choice: random.Random, ascii_only: bool, mode: Any
) -> None:
    rules = KeyRules(normalize=mode)
    first = ask(request(GEMINI, body), rules)
    other = json.dumps(respelled(BODY, body, choice), ensure_ascii=ascii_only, indent=choice.choice([None, 2]))
    second = ask(request(GEMINI.replace("v1beta", "v1"), other.encode()), rules)
    assert isinstance(first, Asked)
    assert isinstance(second, Asked)
    assert first.key == second.key


@given(st.lists(form_parts, min_size=1, max_size=5, unique_by=lambda part: part[0]), st.randoms(use_true_random=False))
def test_no_order_boundary_or_filename_changes_the_key_of_a_form(form_of: list[Any], choice: random.Random) -> None:
    assume(not {"image", "image[]"} <= {part[0] for part in form_of})
    other = [(name, data, None if filename is None else "another", mime) for name, data, filename, mime in form_of]
    choice.shuffle(other)
    assert key(form(*form_of)) == key(form(*other, boundary="--another'boundary"))


# ---- nothing spells a typed reference; count and form stay apart -----------------------------------------------------


@given(images, st.sampled_from(["$blob", "$$blob"]))
def test_no_text_spells_a_typed_reference(data: bytes, name: str) -> None:
    genuine = asked(request(GEMINI, {"contents": contents(data)}))
    reference = json.loads(genuine.canonical)["body"]["contents"][0]["parts"][0]["inlineData"]["data"]["$blob"]
    for forged in ({name: reference}, json.dumps({name: reference}), reference):
        other = asked(
            request(GEMINI, {"contents": contents({"inlineData": {"mimeType": "image/png", "data": forged}})})
        )
        assert other.canonical != genuine.canonical


@given(st.integers(1, 1000), st.integers(1, 1000))
def test_a_family_of_keys_differs_in_the_count_alone(n: int, m: int) -> None:
    first = asked(request(GENERATE, {"prompt": "p", "n": n}))
    second = asked(request(GENERATE, {"prompt": "p", "n": m}))
    assert first.canonical == second.canonical
    assert (first.key == second.key) == (n == m)
    assert first.key == key_of(first.canonical, n)


# ---- nothing raises --------------------------------------------------------------------------------------------------

urls = st.one_of(
    st.sampled_from([GEMINI, GENERATE, EDIT, "", "http://", "https://[::1", "https://h:99999/images/edits", "//h/x"]),
    st.text(max_size=40),
    st.builds(
        lambda host, prefix, tail: f"https://{host}/{prefix}{tail}",
        st.text(max_size=10),
        st.text(max_size=10),
        st.sampled_from(
            ["/images/edits", "/images/generations/", "/models/m:generateContent", "/models/:generateContent"]
        ),
    ),
)
header_lists = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(["content-type", "Content-Encoding", "x"]), st.text(max_size=8)),
        st.one_of(
            st.sampled_from(
                [
                    "application/json",
                    "multipart/form-data; boundary=b",
                    'multipart/form-data; boundary="',
                    "gzip",
                    "a;;",
                ]
            ),
            st.text(max_size=20),
        ),
    ),
    max_size=4,
)
json_pieces = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"null", b'"prompt"', b'"contents"', b'"parts"', b'"tools"', b'"images"',
     b'"generationConfig"', b'"inlineData"', b'"data"', b'"text"', b"1", b"1e999", b"\\ud800", b'"QUJD"', b" ", b"\xff",
     b"--b", b"\r\n", b"--", b'content-disposition: form-data; name="image"', b"NaN"]
)  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=60),
    st.lists(json_pieces, max_size=20).map(b"".join),
    trees.map(lambda tree: json.dumps(tree).encode()),
    st.dictionaries(
        st.sampled_from(["contents", "generationConfig", "tools", "prompt", "n", "images", "mask", "stream", "model",
                         "systemInstruction", "labels", "cachedContent", "responseFormat", "size"]),
        trees,
    ).map(lambda tree: json.dumps(tree).encode()),
    st.lists(form_parts, max_size=3).map(lambda made: form_body(*made, boundary="b")),
)  # fmt: skip


@given(st.sampled_from(["POST", "post", "GET", "é"]), urls, header_lists, bodies, st.sampled_from([0, 10, 10**9]))
def test_ask_never_raises(method: str, url: str, headers: list[tuple[str, str]], body: bytes, max_body: int) -> None:
    got = ask(
        Request(method, url, headers, body), KeyRules(max_body=max_body, ignore=("body:a.0", "body:", "header:x"))
    )
    assert isinstance(got, Asked | Unkeyed)


@given(st.sampled_from([GEMINI, GENERATE, EDIT]), bodies)
def test_ask_never_raises_for_any_body(url: str, body: bytes) -> None:
    kind = "multipart/form-data; boundary=b" if url == EDIT else "application/json"
    got = ask(Request("POST", url, {"content-type": kind}, body), KeyRules(ignore=("body:contents.0.parts", "body:n")))
    assert isinstance(got, Asked | Unkeyed)


ASKED: list[Callable[[], Asked]] = [
    lambda: asked(request(GEMINI, {"contents": []})),
    lambda: asked(request(GEMINI.replace("-image", ""), {"contents": []})),
    lambda: asked(request(GENERATE, {"prompt": "p", "n": 2})),
]
answer_pieces = st.dictionaries(
    st.sampled_from(["candidates", "usageMetadata", "promptFeedback", "data", "usage", "error", "output_format"]),
    st.one_of(
        trees,
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "finishReason": st.one_of(trees, st.sampled_from(["STOP", "SAFETY"])),
                    "content": st.one_of(trees, st.fixed_dictionaries({"parts": st.lists(st.one_of(trees, parts))})),
                    "b64_json": trees,
                    "url": trees,
                    "media_type": trees,
                },
            ),
            max_size=2,
        ),
        st.dictionaries(
            st.sampled_from(["promptTokenCount", "candidatesTokenCount", "candidatesTokensDetails", "serviceTier",
                             "input_tokens", "output_tokens_details", "output_tokens"]),
            trees,
        ),
    ),
).map(lambda tree: json.dumps(tree).encode())  # fmt: skip


@given(st.sampled_from(ASKED), st.integers(0, 999), st.one_of(bodies, answer_pieces))
def test_read_never_raises(build: Callable[[], Asked], status: int, body: bytes) -> None:
    assert isinstance(read(build(), Answer(status, (), body)), Reading)
