"""multipart/form-data (RFC 7578), strictly. What may live here: taking one form apart; no field names.

Strict, because a parser that forgives reads a form in a way the server may not: such a form gets no key.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from cachelayer.core.jsonspan import Malformed
from cachelayer.dialects.wire.envelope import is_utf8, parameters

_TRANSPARENT = ("binary", "8bit", "7bit")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form. The filename itself is not kept: it says nothing about what is asked."""

    name: str
    data: memoryview
    mime: str | None
    """As its content-type says, None when it has none."""
    is_file: bool | None
    """Whether there is a filename. A type makes no file: common servers take a part without a filename for a field, and
    edit without the mask. None: a filename that names nothing (empty, a folder), which one server takes for a file,
    another for a field, a third for nothing at all."""

    @property
    def is_text(self) -> bool:
        """Whether it is a text field: text/plain in UTF-8, which is what no content-type means (RFC 7578, 4.4 and
        5.1.2)."""
        return self.is_file is False and (self.mime is None or _is_text(self.mime))

    def text(self) -> str | None:
        """Its bytes as text; None when they are no UTF-8."""
        try:
            return str(self.data, "utf-8")
        except UnicodeDecodeError:
            return None


def parts(body: bytes, boundary: str) -> Iterator[Part]:
    """The parts of a form in their order. Raises Malformed for anything but a whole, plainly written form."""
    if not boundary or not boundary.isascii():
        raise Malformed("no boundary")
    mark = b"--" + boundary.encode("ascii")
    delimiter = b"\r\n" + mark
    if not body.startswith(mark):
        raise Malformed("does not begin with its boundary")
    position = len(mark)
    view = memoryview(body)
    found = False
    while body[position : position + 2] == b"\r\n":
        found = True
        head_end = body.find(b"\r\n\r\n", position)
        data_end = body.find(delimiter, position + 2)
        data_start = head_end + 4
        if head_end == -1 or data_end < data_start:
            raise Malformed("part without head or end")
        yield _part(body[position + 2 : head_end], view[data_start:data_end])
        position = data_end + len(delimiter)
    if not found or body[position : position + 2] != b"--" or body[position + 2 :] not in (b"", b"\r\n"):
        raise Malformed("form without end")


def _part(head: bytes, data: memoryview) -> Part:
    headers: dict[str, str] = {}
    for line in head.decode().split("\r\n"):
        name, separator, value = line.partition(":")
        if not separator or name.lower() in headers:
            raise Malformed("broken part header")
        headers[name.lower()] = value.strip(" \t")
    disposition = parameters(headers.pop("content-disposition", ""))
    mime = headers.pop("content-type", None)
    length = headers.pop("content-length", None)
    if length is not None and length != str(len(data)):
        raise Malformed("part of another length than it says")
    if headers.pop("content-transfer-encoding", "binary").lower() not in _TRANSPARENT or headers:
        raise Malformed("part with a header of unknown meaning")
    if disposition is None or disposition[0] != "form-data" or "name" not in disposition[1]:
        raise Malformed("part without a name")
    if not disposition[1].keys() <= {"name", "filename", "filename*"}:
        raise Malformed("part with a parameter of unknown meaning")
    return Part(disposition[1]["name"], data, mime or None, _is_file(disposition[1]))


def _is_file(given: dict[str, str]) -> bool | None:
    # ``filename*`` is a filename in another spelling (RFC 8187): Django, werkzeug, Go and busboy read it as one.
    names = [given["filename"]] if "filename" in given else []
    names += [given["filename*"].rpartition("'")[2]] if "filename*" in given else []  # charset'language'text
    if not names:
        return False
    return None if any(_names_nothing(spelled) for name in names for spelled in (name, unquote(name))) else True


def _names_nothing(filename: str) -> bool:
    # Servers drop entities and what cannot be printed before they look (Django, MultiPartParser.sanitize_file_name).
    seen = "".join(character for character in html.unescape(filename) if character.isprintable())
    return seen.replace("\\", "/").rpartition("/")[2].strip() in ("", ".", "..")


def _is_text(mime: str) -> bool:
    kind = parameters(mime)
    return kind is not None and kind[0] == "text/plain" and kind[1].keys() <= {"charset"} and is_utf8(kind[1])
