"""Reads folders of recorded exchanges (tests/data/wire, ../shared/data/wire) for tests. Only that.

A folder holds INDEX.jsonl and one folder per source with cassettes and bare response bodies, any of them
gzip-packed (``.gz``). Cassettes come in the spellings of vcrpy (``interactions``) and Ruby's VCR
(``http_interactions``); bodies stand there as text, ``!!binary``, ``base64_string`` or, already parsed by the
recorder, as ``parsed_body``. What the recorder scrubbed stays scrubbed.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

HERE = Path(__file__).parent / "data" / "wire"
"""The committed subset."""
SHARED = Path(__file__).parents[2] / "shared" / "data" / "wire"
"""The whole set, beside the repository; absent on most machines."""

Kind = Literal["gemini", "openai-images"]
Headers = tuple[tuple[str, str], ...]

_GEMINI = re.compile(r"/models/[^/]+:(?:generateContent|streamGenerateContent)\Z")
_OPENAI = re.compile(r"/images/(?:generations|edits)\Z")
_STANDARD = str.maketrans("-_", "+/")
_TRANSPORT = frozenset({"content-encoding", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Picture:
    """An image inside a body: its kind, size in bytes, and the first 16 hex digits of its SHA-256."""

    kind: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded exchange, or a bare response body (then index, method, url, request_body, status are None)."""

    source: str
    file: str
    """As on disk, without ``.gz``."""
    index: int | None
    """Position in its cassette."""
    method: str | None
    """Upper case."""
    url: str | None
    request_headers: Headers
    request_body: bytes | None
    """b"" where the request had none."""
    status: int | None
    response_headers: Headers
    """As recorded: they may name an encoding or a length that ``response_body`` no longer has."""
    response_raw: bytes
    """As recorded, still compressed where the recorder left it so."""
    response_body: bytes
    """Without content-encoding."""
    images_in: tuple[Picture, ...]
    """As INDEX.jsonl counts them, like images_out and usage; empty for a file it does not list."""
    images_out: tuple[Picture, ...]
    usage: tuple[Mapping[str, Any], ...]

    @property
    def name(self) -> str:
        """For test ids."""
        return f"{self.source}/{self.file}" + ("" if self.index is None else f"#{self.index}")

    @property
    def inline_images(self) -> bool:
        """Whether the answer itself carries a whole image."""
        return bool(pictures(self.response_body))

    @property
    def plain_headers(self) -> Headers:
        """The answer's headers without those that no longer fit ``response_body``: what a replay serves."""
        return tuple(pair for pair in self.response_headers if pair[0].lower() not in _TRANSPORT)


def kind(recorded: Recorded) -> Kind | None:
    """The dialect whose API path this is, on any host; None for others and for bare bodies."""
    if recorded.method != "POST" or recorded.url is None:
        return None
    path = urlsplit(recorded.url).path.rstrip("/")
    if _GEMINI.search(path):
        return "gemini"
    return "openai-images" if _OPENAI.search(path) else None


def exchanges(root: Path) -> list[Recorded]:
    """Every exchange of a wire folder, by source, file and position.

    Raises ValueError where the index and the files do not fit: a test must not skip what it cannot read.
    """
    rows: dict[tuple[str, str, int | None], list[dict[str, Any]]] = {}
    for line in (root / "INDEX.jsonl").read_text(encoding="utf-8").splitlines():
        if line.strip():
            row = json.loads(line)
            rows.setdefault((row["source"], row["file"], row["i"]), []).append(row)
    found: list[Recorded] = []
    for path in sorted(root.glob("*/*")):
        if not path.is_file() or path.name == "SOURCE.md":
            continue
        source, file = path.parent.name, path.name.removesuffix(".gz")
        data = path.read_bytes()
        if path.name.endswith(".gz"):
            data = gzip.decompress(data)
        for index, exchange in _read(file, data):
            # The index names some files without the folder of their origin, spelled FOLDER__FILE on disk.
            names = (file, file.partition("__")[2])
            listed = next((rows[key] for name in names if (key := (source, name, index)) in rows), [])
            row = listed.pop(0) if listed else {}
            found.append(_recorded(source, file, index, exchange, row))
    missing = [key for key, left in rows.items() if left]
    if missing:
        raise ValueError(f"listed in {root / 'INDEX.jsonl'} but not found: {missing}")
    return found


def pictures(body: bytes) -> tuple[Picture, ...]:
    """The whole images inside a JSON, SSE, JSON-lines or multipart body, in order.

    Truncated base64, image bytes that ARE the body, and images behind a URL do not count.
    """
    return tuple(
        Picture(kind, len(data), hashlib.sha256(data).hexdigest()[:16])
        for data in _candidates(body)
        if (kind := _whole_image(data))
    )


class _Loader(yaml.CSafeLoader):
    """Safe YAML: an unknown tag is the plain data below it, a time stays the text that it was in JSON."""

    def binary(self, node: yaml.Node) -> bytes:
        return base64.b64decode(str(self.construct_scalar(node)))  # type: ignore[arg-type]

    def plain(self, _suffix: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        if isinstance(node, yaml.SequenceNode):
            return self.construct_sequence(node, deep=True)
        return self.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_constructor("!binary", _Loader.binary)  # Ruby's spelling
_Loader.add_multi_constructor("!", _Loader.plain)
_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _Loader.plain)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _read(file: str, data: bytes) -> Iterator[tuple[int | None, Mapping[str, Any] | bytes]]:
    """The interactions of a cassette with their positions, or a bare body with None."""
    if file.endswith((".yaml", ".yml")):
        # A subclass of the safe loader: it builds plain data only.
        cassette = yaml.load(data, Loader=_Loader)
        interactions = cassette.get("interactions", cassette.get("http_interactions"))
        if interactions is None:
            raise ValueError(f"{file}: neither interactions nor http_interactions")
        yield from enumerate(interactions)
    else:
        yield None, data


def _recorded(
    source: str,
    file: str,
    index: int | None,
    exchange: Mapping[str, Any] | bytes,
    row: Mapping[str, Any],
) -> Recorded:
    request: Mapping[str, Any] = {}
    response: Mapping[str, Any] = {}
    if isinstance(exchange, bytes):
        raw = exchange
    else:
        request, response = exchange["request"], exchange["response"]
        raw = _body(response)
    request_headers, response_headers = _headers(request), _headers(response)
    status = response.get("status", response.get("status_code"))
    return Recorded(
        source=source,
        file=file,
        index=index,
        method=str(request["method"]).upper() if request else None,
        url=str(request.get("uri", request.get("url"))) if request else None,
        request_headers=request_headers,
        request_body=_body(request) if request else None,
        status=status["code"] if isinstance(status, Mapping) else status,
        response_headers=response_headers,
        response_raw=raw,
        response_body=_decoded(raw, response_headers),
        images_in=tuple(Picture(*image) for image in row.get("request_images", ())),
        images_out=tuple(Picture(*image) for image in row.get("response_images", ())),
        usage=tuple(row.get("usage", ())),
    )


def _headers(message: Mapping[str, Any]) -> Headers:
    return tuple(
        (str(name), value.decode("latin-1") if isinstance(value, bytes) else str(value))
        for name, values in (message.get("headers") or {}).items()
        for value in (values if isinstance(values, list) else [values])
    )


def _body(message: Mapping[str, Any]) -> bytes:
    if "parsed_body" in message:
        return _respelled(message["parsed_body"], _headers(message))
    body = message.get("body", message.get("content"))
    if isinstance(body, Mapping):
        if "base64_string" in body:
            return base64.b64decode(body["base64_string"])
        # vcrpy pickles a file-like body as the state of a BytesIO: its first item is the content.
        body = body["state"][0] if "state" in body else body.get("string")
    if body is None:
        return b""
    return body if isinstance(body, bytes) else str(body).encode()


def _respelled(parsed: Any, headers: Headers) -> bytes:
    """JSON of what a recorder parsed: not the recorded bytes, whose key order is lost.

    The spacing is the one that has the recorded content-length, compact where none has.
    """
    lengths = {value for name, value in headers if name.lower() == "content-length"}
    spaced = json.dumps(parsed, ensure_ascii=False).encode()
    return (
        spaced
        if str(len(spaced)) in lengths
        else json.dumps(parsed, ensure_ascii=False, separators=(",", ":")).encode()
    )


def _decoded(raw: bytes, headers: Headers) -> bytes:
    """Without content-encoding. Some recorders decode the body and keep the header: look at the bytes too."""
    encoding = next((value.lower() for name, value in headers if name.lower() == "content-encoding"), "")
    if encoding in {"gzip", "x-gzip"} and raw.startswith(b"\x1f\x8b"):
        return gzip.decompress(raw)
    if encoding in {"gzip", "x-gzip", "", "identity"}:
        return raw
    try:
        json.loads(raw)
    except ValueError:
        if encoding == "deflate":
            return zlib.decompress(raw, wbits=zlib.MAX_WBITS if raw[:1] == b"\x78" else -zlib.MAX_WBITS)
        raise ValueError(f"cannot decode content-encoding {encoding}") from None
    return raw


def _candidates(body: bytes) -> Iterator[bytes]:
    if body.startswith(b"--"):
        boundary = body.partition(b"\r\n")[0]
        for part in body.split(boundary)[1:-1]:
            yield part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return
    try:
        documents = [json.loads(body)]
    except ValueError:
        documents = []
        for line in body.splitlines():
            try:
                documents.append(json.loads(line.removeprefix(b"data:")))
            except ValueError:
                continue
    for document in documents:
        for text in _texts(document):
            if text.startswith("data:"):
                text = text.partition(";base64,")[2]
            if text.startswith(("iVBORw0K", "/9j/", "_9j_", "UklGR", "R0lGOD")):
                digits = text.rstrip("=").translate(_STANDARD)
                try:
                    yield base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
                except binascii.Error:
                    continue


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _whole_image(data: bytes) -> str | None:
    """The kind of image these bytes are, None when they are none or end too early."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png" if b"IEND" in data[-64:] else None
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg" if b"\xff\xd9" in data[-64:] else None
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp" if len(data) >= 8 + int.from_bytes(data[4:8], "little") else None
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif" if data.endswith(b";") else None
    return None
