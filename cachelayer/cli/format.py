"""How figures are written for people. JSON output never comes through here: it has the exact values."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any


def dollars(usd: Decimal) -> str:
    """$12.34; below a dollar four decimals, as one image costs cents."""
    if usd == 0:
        return "$0.00"
    if abs(usd) >= 1:
        return f"${usd:,.2f}"
    if abs(usd) < Decimal("0.0001"):
        return "under $0.0001"
    return f"${usd:.4f}"


def duration(seconds: float) -> str:
    """350 ms, 12.3 s, 4 min 03 s, 1 h 02 min, 3 d 4 h."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = whole // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440:,} d {minutes % 1440 // 60} h"


def age(seconds: float) -> str:
    """One unit is enough for an age: 5 s, 3 min, 2 h, 9 d."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length:,} {unit}"
    return f"{whole} s"


def size(count: int) -> str:
    """Decimal units, as the size_limit setting has them: 512 B, 67.5 kB, 1.4 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.95:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def percent(part: float) -> str:
    """20.0 %."""
    return f"{part * 100:.1f} %"


def number(count: int, noun: str, plural: str | None = None) -> str:
    """1 call, 2,060 calls."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    """Text of strangers on one line: what would steer a terminal or hide itself is spelled out."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def json_text(value: Any) -> str:
    """Indented JSON, other scripts readable, terminal controls escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return "\n".join(map(visible, text.split("\n")))  # json.dumps itself breaks lines at "\n" only
