"""Which recognised requests get no key, and why."""

from __future__ import annotations

from typing import Any

import pytest

from cachelayer.core.canon import fields
from cachelayer.core.model import KeyRules, Request, Unkeyed
from tests.core.test_canon_jsonspan import MALFORMED
from tests.dialects.asks import (
    EDIT,
    GEMINI,
    GENERATE,
    JSON,
    asked,
    contents,
    field,
    file,
    form,
    form_body,
    gemini,
    generate,
    request,
    unkeyed,
)

PNG = b"\x89PNG some bytes"


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/json; charset=latin-1", "application/json; x=y", "application/jsonl",
     "application/json, text/plain", "application/x-www-form-urlencoded", "application/json;"],
)  # fmt: skip
def test_wrong_content_type(url: str, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert unkeyed(Request("POST", url, headers, b"{}")).reason == "content-type"


def test_two_content_types() -> None:
    assert unkeyed(request(GENERATE, {}, [("Content-Type", "application/json")])).reason == "content-type"


@pytest.mark.parametrize("parameter", ["charset=latin-1", "x=y"])
def test_a_form_in_another_charset(parameter: str) -> None:
    kind = {"content-type": f"multipart/form-data; boundary=b0undary; {parameter}"}
    assert unkeyed(Request("POST", EDIT, kind, form(field("prompt", "p")).body)).reason == "content-type"


def test_a_form_is_for_edits_only() -> None:
    assert unkeyed(form(field("prompt", "p"), url=GENERATE)).reason == "content-type"


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", 'application/json; charset="UTF-8"'])
def test_json_content_types(kind: str) -> None:
    asked(Request("POST", GENERATE, {"Content-Type": kind}, b"{}"))


@pytest.mark.parametrize(("coding", "reason"), [("gzip", "content-encoding"), ("identity, br", "content-encoding")])
def test_an_encoded_body(coding: str, reason: str) -> None:
    assert unkeyed(generate(headers={"content-encoding": coding})).reason == reason


def test_identity_is_no_encoding() -> None:
    assert asked(generate(headers={"content-encoding": "identity"})).key == asked(generate()).key


def test_a_body_above_the_limit() -> None:
    body = generate().body
    assert unkeyed(generate(), KeyRules(max_body=len(body) - 1)) == Unkeyed(
        "body-too-large", "openai-images", "api.openai.com", ""
    )
    asked(generate(), KeyRules(max_body=len(body)))


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json(url: str, name: str) -> None:
    assert unkeyed(Request("POST", url, JSON, MALFORMED[name])).reason == "malformed"


@pytest.mark.parametrize("url", [GEMINI, GENERATE])
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_anywhere_even_where_it_does_not_count(url: str, name: str) -> None:
    body = b'{"labels":' + MALFORMED[name] + b',"user":' + MALFORMED[name] + b"}"
    assert unkeyed(Request("POST", url, JSON, body)).reason == "malformed"


@pytest.mark.parametrize("url", [GEMINI, GENERATE, EDIT])
@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b"true"])
def test_a_body_that_is_no_object(url: str, body: bytes) -> None:
    assert unkeyed(Request("POST", url, JSON, body)).reason == "malformed"


@pytest.mark.parametrize(
    "body",
    [
        {"contents": [], "generationConfig": {}, "generation_config": {}},
        {"contents": [], "generationConfig": {"image_config": None, "imageConfig": {}}},
        {"contents": contents({"inlineData": {"mimeType": "a", "mime_type": "b", "data": "QQ=="}})},
    ],
)
def test_both_spellings_of_one_field(body: Any) -> None:
    assert unkeyed(gemini(body)) == Unkeyed(
        "malformed", "gemini", "generativelanguage.googleapis.com", "gemini-3-pro-image"
    )


class TestForms:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"--b--\r\n",
            b"--b\r\n--b--\r\n",
            b"--b\r\n\r\n\r\n--b--\r\n",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n--b--\r\n',
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n--b--\r\n',
            form_body(field("a", "1"), boundary="b")[:-1],
            form_body(field("a", "1"), boundary="b")[:-4],
            form_body(field("a", "1"), boundary="b")[:-20],
            form_body(field("a", "1"), boundary="b") + b"epilogue",
            b"preamble\r\n" + form_body(field("a", "1"), boundary="b"),
            form_body(field("a", "1"), boundary="other"),
            form_body(field("a", "1"), boundary="b").replace(b"\r\n", b"\n"),
            form_body(field("a", "1\r\n--bx"), boundary="b"),
            form_body(field("a", "1"), boundary="b").replace(b"form-data", b"attachment"),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b"x=y"),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b'name="a"; name="b"'),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b'name="a"; size=1'),
            form_body(field("a", "1"), boundary="b").replace(b'name="a"', b'name="a'),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"X-Unknown: 1\r\nContent"),
            form_body(field("a", "1"), boundary="b").replace(
                b"Content", b"Content-Transfer-Encoding: base64\r\nContent"
            ),
            form_body(field("a", "1"), boundary="b").replace(
                b"Content", b"Content-Type: a\r\ncontent-type: b\r\nContent"
            ),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"no colon\r\nContent"),
            form_body(field("a", "1"), boundary="b").replace(b'"a"', b'"\xff"'),
            form_body(file("image", PNG), file("images", PNG), boundary="b"),
            form_body(file("image[]", PNG), file("images", PNG), boundary="b"),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"Content-Length: 2\r\nContent"),
            form_body(field("a", "1"), boundary="b").replace(b"Content", b"Content-Length: x\r\nContent"),
        ],
    )
    def test_broken(self, body: bytes) -> None:
        spoilt = Request("POST", EDIT, {"content-type": "multipart/form-data; boundary=b"}, body)
        assert unkeyed(spoilt).reason == "malformed"

    @pytest.mark.parametrize(
        "kind", ["multipart/form-data", 'multipart/form-data; boundary=""', "multipart/form-data; boundary=é"]
    )
    def test_no_boundary(self, kind: str) -> None:
        spoilt = Request("POST", EDIT, {"content-type": kind}, form_body(field("a", "1"), boundary="b"))
        assert unkeyed(spoilt).reason == "malformed"

    def test_what_other_clients_write(self) -> None:
        plain = form(field("prompt", "p"), file("image", PNG))
        body = plain.body.replace(
            b"Content-Type", b"content-length: 15\r\nContent-Transfer-Encoding: binary\r\nCONTENT-TYPE"
        )
        quoted = Request("POST", EDIT, {"content-type": 'multipart/form-data; boundary="b0undary"'}, body[:-2])
        assert asked(quoted).key == asked(plain).key

    def test_an_empty_file_and_an_empty_field(self) -> None:
        body = fields(asked(form(field("prompt", ""), file("image", b""))))["body"]
        assert body["prompt"] == ""
        assert body["images"][0]["data"].endswith("(0 bytes)")

    def test_line_breaks_and_dashes_inside_a_file(self) -> None:
        tricky = b"\r\n--\r\n--b0undar\r\n\r\n-"
        assert asked(form(file("image", tricky))).key != asked(form(file("image", tricky[:-1]))).key
        assert asked(form(file("image", tricky))).references == 1
