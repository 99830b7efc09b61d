"""docs/reasons.md, made from core/reasons.py: `python -m tests.core.reason_texts > docs/reasons.md`."""

from __future__ import annotations

import sys

from cachelayer.core.reasons import Reason, meaning_of, remedy_of, status_reason

HEAD = """\
# Reasons

Why a request was not looked up, an answer not stored, or nothing good came. The word stands in the header
`x-cachelayer-reason`, in the ledger, in `cachelayer report` and in the log.

Made from `core/reasons.py` (`python -m tests.core.reason_texts > docs/reasons.md`); a test compares.

Where several would fit, a request has the first that is found, in this order: it is not recognised, too large,
compressed, of another content type, malformed; its operation is off; its answer depends on more than the request, or a
reference is unknown; it asks for a stream.

| reason | meaning | what to do |
|---|---|---|
"""
STATUSES = (400, 401, 403, 404, 429, 500)


def document() -> str:
    """The whole of docs/reasons.md."""
    names = [*map(str, Reason), *map(status_reason, STATUSES)]
    return HEAD + "".join(f"| `{name}` | {meaning_of(name)} | {remedy_of(name)} |\n" for name in names)


if __name__ == "__main__":
    sys.stdout.write(document())
