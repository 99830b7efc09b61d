"""The entry: the record under a key, from which an answer is rebuilt byte for byte. Pure.

Record, one byte form (docs/storage.md):

    b"CLE1" | XXH3-64 of all that follows, 8 bytes big-endian | length of head, 4 bytes big-endian | head | literals

head is JSON; its ``template`` lists the pieces of the body in order: ["text", length], taken from the literals one
after the other, or ["blob", digest, size, xxh3_64, "raw" | "base64", mime, image]. A blob in "base64" is spelled in the
standard alphabet with padding when the body is rebuilt; image is true for the pictures that were paid for.

A field of the head that this version does not know is kept, one that it misses has a default. A piece that it does not
know cannot be spelled: such a record is not one of ours.

The checksum finds accidents, not attackers: who can write the folder is trusted not to lie (SECURITY.md).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal, InvalidOperation
from typing import cast

import pybase64
import xxhash
from blake3 import blake3

from cachelayer.core.model import Answer, Bill, Cost, Headers, Pricing, Reading

MAGIC = b"CLE1"
INLINE_LIMIT = 16_384
"""Bytes. An answer below this stays inside its entry (DESIGN section 5)."""

_PREFIX = struct.Struct(">4sQI")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the body kept inside the entry."""

    data: bytes


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A piece of the body kept as a blob."""

    digest: str
    size: int
    xxh3: int
    base64: bool
    mime: str = "application/octet-stream"
    image: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept under a key. Times are unix seconds, latency seconds, money USD."""

    key: str
    spec: int
    namespace: str
    created: float
    expires: float | None
    status: int
    headers: Headers
    template: tuple[Text | BlobRef, ...]
    cost: Cost
    latency: float
    """How long the provider took, from sending to the last byte."""
    operation: str
    model: str
    host: str
    images: int
    scope: str = ""
    """Where the answer came from; "" in a record that does not say."""
    dialect: str = ""
    count: int = 1
    """Images asked for."""
    size: str | None = None
    """As the answer names it, else as asked for; likewise the service tier."""
    tier: str | None = None
    asked_tier: str | None = None
    listed: Cost | None = None
    """The list price when it was made, as if the host charged it; None where that is ``cost``."""
    later: Mapping[str, object] = field(default_factory=dict)
    """Fields of the head that only a later version knows; written back as they were."""

    @property
    def bill(self) -> Bill:
        """What it cost, for those whom it saves that."""
        return Bill(
            cost=self.cost,
            listed=self.listed,
            scope=self.scope,
            host=self.host,
            images=self.images,
            size=self.size,
            tier=self.tier,
            asked_tier=self.asked_tier,
        )

    @property
    def blobs(self) -> tuple[BlobRef, ...]:
        """The blobs this entry needs, in body order; a digest may occur twice."""
        return tuple(piece for piece in self.template if isinstance(piece, BlobRef))

    @property
    def body_size(self) -> int:
        """Bytes of the body it rebuilds to."""
        return sum(
            len(piece.data) if isinstance(piece, Text) else (piece.size + 2) // 3 * 4 if piece.base64 else piece.size
            for piece in self.template
        )


FIELDS = frozenset(field.name for field in fields(Entry)) - {"later"}
"""What this version writes into a head."""


class Broken(Exception):
    """Bytes that are not the entry or blob they should be. Caught by look-up: a broken entry is a miss."""


def split(answer: Answer, reading: Reading) -> tuple[tuple[Text | BlobRef, ...], dict[str, bytes]]:
    """Template and blobs of an answer; joining them gives ``answer.body`` again (checked here, not hoped).

    Raises Broken when it would not: the caller then does not store.
    """
    body = answer.body
    if len(body) < INLINE_LIMIT:
        return (Text(body),), {}
    template: list[Text | BlobRef] = []
    blobs: dict[str, bytes] = {}

    def keep(data: bytes, *, base64: bool, mime: str = "application/octet-stream", image: bool = False) -> None:
        digest = blake3(data).hexdigest()
        blobs[digest] = data
        template.append(BlobRef(digest, len(data), xxhash.xxh3_64_intdigest(data), base64, mime, image))

    def keep_text(data: bytes) -> None:
        # Text of an answer is seldom shared, so it pays as a blob only where it would bloat the index.
        if len(data) >= INLINE_LIMIT:
            keep(data, base64=False)
        elif data:
            template.append(Text(data))

    position = 0
    view = memoryview(body)
    for span in reading.spans:
        data = pybase64.b64decode(view[span.start : span.end], validate=True)
        keep_text(body[position : span.start])
        keep(data, base64=True, mime=span.mime, image=span.image)
        position = span.end
    keep_text(body[position:])
    pieces = tuple(template)
    if join(pieces, blobs) != body:
        raise Broken("template does not rebuild the answer")
    return pieces, blobs


def join(template: tuple[Text | BlobRef, ...], blobs: Mapping[str, bytes]) -> bytes:
    """The body, from its template and the (already verified) bytes of its blobs."""
    return b"".join(
        piece.data
        if isinstance(piece, Text)
        else pybase64.b64encode(blobs[piece.digest])
        if piece.base64
        else blobs[piece.digest]
        for piece in template
    )


Version = bytes
"""Names exactly what a store holds under a key, by whatever the store tells two of them apart."""

Take = Callable[[memoryview], bool]
"""Given the next piece of a blob; False: no more is wanted."""
Pour = Callable[[str, memoryview, Take], bool | None]
"""(digest, buffer, take): hand a blob to ``take``, piece by piece through the buffer, each but the last as large as the
buffer. Not True: there is no such blob."""

PIECE = 192 * 1024
"""Bytes of a buffer that serves well: a multiple of three, so that base64 has no seams, and small enough for a piece to
be in the processor's cache still when it is checked and encoded (PERF-FACTS)."""


def rebuild(entry: Entry, pour: Pour, buffer: memoryview) -> bytes:
    """Rebuild the body in one allocation, checking size and checksum of each blob on its way through the buffer.

    buffer: at least 3 bytes. Raises Broken when a blob is missing or not what it was; nothing is handed out before all
    of them are checked.
    """
    if all(isinstance(piece, Text) for piece in entry.template):
        return join(entry.template, {})
    buffer = buffer[: len(buffer) // 3 * 3]
    out = io.BytesIO()
    if entry.body_size:
        # To its full size first: growing as it is written to, it would touch new memory again and again (PERF-FACTS).
        out.seek(entry.body_size - 1)
        out.write(b"\0")
        out.seek(0)
    for piece in entry.template:
        if isinstance(piece, Text):
            out.write(piece.data)
        else:
            _copy(piece, pour, buffer, out)
    return out.getvalue()


def _copy(ref: BlobRef, pour: Pour, buffer: memoryview, out: io.BytesIO) -> None:
    checksum, left = xxhash.xxh3_64(), ref.size

    def take(piece: memoryview) -> bool:
        nonlocal left
        left -= len(piece)
        if left < 0:
            return False
        checksum.update(piece)
        out.write(pybase64.b64encode(piece) if ref.base64 else piece)
        return True

    if not pour(ref.digest, buffer, take):
        raise Broken(f"blob {ref.digest[:12]} is missing")
    if left or checksum.intdigest() != ref.xxh3:
        raise Broken(f"blob {ref.digest[:12]} is damaged")


def read_body(entry: Entry, pour: Pour) -> bytes:
    """As rebuild(), through a buffer of its own."""
    return rebuild(entry, pour, memoryview(bytearray(PIECE)))


def encode(entry: Entry) -> bytes:
    """The record of an entry."""
    template: list[list[object]] = []
    literals: list[bytes] = []
    for piece in entry.template:
        if isinstance(piece, Text):
            template.append(["text", len(piece.data)])
            literals.append(piece.data)
        else:
            spelling = "base64" if piece.base64 else "raw"
            template.append(["blob", piece.digest, piece.size, f"{piece.xxh3:016x}", spelling, piece.mime, piece.image])
    head = json.dumps(
        {
            **entry.later,
            "key": entry.key,
            "spec": entry.spec,
            "namespace": entry.namespace,
            "created": entry.created,
            "expires": entry.expires,
            "status": entry.status,
            "headers": entry.headers,
            "template": template,
            "cost": _encode_cost(entry.cost),
            "latency": entry.latency,
            "operation": entry.operation,
            "model": entry.model,
            "host": entry.host,
            "images": entry.images,
            "scope": entry.scope,
            "dialect": entry.dialect,
            "count": entry.count,
            "size": entry.size,
            "tier": entry.tier,
            "asked_tier": entry.asked_tier,
            "listed": None if entry.listed is None else _encode_cost(entry.listed),
        },
        separators=(",", ":"),
    ).encode()
    rest = struct.pack(">I", len(head)) + head + b"".join(literals)
    return MAGIC + xxhash.xxh3_64_digest(rest) + rest


def decode(record: bytes) -> Entry:
    """The entry of a record. Raises Broken for anything that is not a whole one."""
    try:
        magic, checksum, head_size = _PREFIX.unpack_from(record)
        if magic != MAGIC:
            raise Broken("not an entry")
        if xxhash.xxh3_64_intdigest(memoryview(record)[12:]) != checksum:
            raise Broken("entry is damaged")
        head = json.loads(record[_PREFIX.size : _PREFIX.size + head_size])
        position = _PREFIX.size + head_size
        template: list[Text | BlobRef] = []
        for piece in head["template"]:
            if piece[0] == "text":
                template.append(Text(record[position : position + piece[1]]))
                position += piece[1]
            elif piece[0] == "blob" and piece[4] in ("raw", "base64"):
                _, digest, size, xxh3, spelling, mime, image, *_ = piece
                template.append(BlobRef(digest, size, int(xxh3, 16), spelling == "base64", mime, image))
            else:
                raise Broken("entry has a piece that this version does not know")
        if position != len(record):
            raise Broken("entry has the wrong length")
        return Entry(
            key=head["key"],
            spec=head["spec"],
            namespace=head["namespace"],
            created=head["created"],
            expires=head["expires"],
            status=head["status"],
            headers=tuple((name, value) for name, value in head["headers"]),
            template=tuple(template),
            cost=_decode_cost(head["cost"]),
            latency=head["latency"],
            operation=head["operation"],
            model=head["model"],
            host=head["host"],
            images=head["images"],
            scope=head.get("scope", ""),
            dialect=head.get("dialect", ""),
            count=head.get("count", 1),
            size=head.get("size"),
            tier=head.get("tier"),
            asked_tier=head.get("asked_tier"),
            listed=None if head.get("listed") is None else _decode_cost(head["listed"]),
            later={name: head[name] for name in sorted(head.keys() - FIELDS)},
        )
    except Broken:
        raise
    except (struct.error, ValueError, KeyError, TypeError, IndexError, InvalidOperation) as error:
        raise Broken(f"not an entry: {error}") from None


def _encode_cost(cost: Cost) -> dict[str, str | None]:
    usd = None if cost.usd is None else str(cost.usd)
    return {"usd": usd, "pricing": cost.pricing, "reason": cost.reason}


def _decode_cost(cost: Mapping[str, str | None]) -> Cost:
    usd = cost["usd"]
    return Cost(None if usd is None else Decimal(usd), cast(Pricing, cost["pricing"]), cost["reason"] or "")
