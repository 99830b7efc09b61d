"""Tables that are never cut: what does not fit beside each other stands below each other.

In a terminal nothing is wider than that. In a pipe or a file a row is one line, however long: it is read by a program,
or by somebody who can scroll. Where COLUMNS gives a width to a pipe it is kept to, but no name is broken for it.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

BROKEN = 24
"""Columns. Longer prose may be broken between words; a longer name anywhere, in a terminal only."""


Kind = Literal["name", "figure", "prose"]


@dataclass(frozen=True, slots=True)
class Column:
    """How a column behaves. figure: to the right, never broken. name: broken in a terminal only. prose: broken between
    words."""

    title: str
    kind: Kind = "figure"


def show_table(screen: Console, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print rows as a table, or, where one does not fit, row after row with the titles in it."""
    least = [
        _least(screen, column.kind, [column.title, *cells])
        for column, cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    for gap in (2, 1):
        needed = sum(least) + gap * (len(columns) - 1)
        if needed <= screen.width:
            screen.print(_table(columns, rows, least, gap))
            return
    if not _has_width(screen):
        with _wide(screen, needed):
            screen.print(_table(columns, rows, least, 1))
        return
    from rich.text import Text

    screen.print(Text(columns[0].title, style="underline"))
    for row in rows:
        _show_record(screen, columns, row)


def show_grid(screen: Console, rows: Sequence[Sequence[Text | str]], *, right: Sequence[int] = ()) -> None:
    """Print rows without titles, the last column being prose. right: positions of figures."""
    from rich.cells import cell_len
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for position in range(len(rows[0])):
        last = position == len(rows[0]) - 1
        table.add_column(
            justify="right" if position in right else "left",
            no_wrap=not last,
            overflow="fold",
            style="cyan" if position == 0 else "dim" if last and right else "",
        )
    for row in rows:
        table.add_row(*row)
    widths = [max(cell_len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    if _has_width(screen):
        widths[-1] = max((cell_len(word) for row in rows for word in str(row[-1]).split()), default=0)
    with _wide(screen, 0 if screen.is_terminal else sum(widths) + 2 * (len(widths) - 1)):
        screen.print(table)


def show_place(screen: Console, text: Text) -> None:
    """Print a line with a path in it, in one piece where no width has to be kept to."""
    screen.print(text, soft_wrap=not _has_width(screen))


def _has_width(screen: Console) -> bool:
    """Whether what is printed has to keep to a width."""
    return screen.is_terminal or os.environ.get("COLUMNS", "").isdigit()


@contextmanager
def _wide(screen: Console, columns: int) -> Iterator[None]:
    """For once no narrower than that."""
    before = screen.width
    screen.width = max(before, columns)
    try:
        yield
    finally:
        screen.width = before


def _least(screen: Console, kind: Kind, cells: Sequence[str]) -> int:
    """The columns that cells need at least."""
    from rich.cells import cell_len

    natural = max(map(cell_len, cells))
    if kind == "figure" or (kind == "name" and not screen.is_terminal):
        return natural
    if kind == "prose" and not screen.is_terminal:
        return max(min(natural, BROKEN), *(cell_len(word) for cell in cells for word in cell.split()), 0)
    return min(natural, BROKEN)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], least: Sequence[int], gap: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, gap - 1),
        collapse_padding=True,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    for column, width in zip(columns, least, strict=True):
        table.add_column(
            column.title,
            justify="right" if column.kind == "figure" else "left",
            no_wrap=column.kind == "figure",
            overflow="fold",
            min_width=width,
            style="dim" if column.kind == "prose" else "",
        )
    for row in rows:
        table.add_row(*row)
    return table


def _show_record(screen: Console, columns: Sequence[Column], row: Sequence[str]) -> None:
    """The first cell, and below it the others that say something, each with its title."""
    from rich.text import Text

    def say(text: Text) -> None:
        if screen.is_terminal:
            screen.print(text, overflow="fold")
        else:
            screen.print(text, soft_wrap=True)

    say(Text(row[0], style="bold"))
    cells = list(zip(columns[1:], row[1:], strict=True))
    said = [f"{column.title} {cell}".replace(" ", "\xa0") for column, cell in cells if cell and column.kind != "prose"]
    prose = [cell for column, cell in cells if cell and column.kind == "prose"]
    room = max(20, screen.width)
    for text in (", ".join(said), *prose):
        for line in textwrap.wrap(
            text,
            room,
            initial_indent="  ",
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=screen.is_terminal,
        ):
            say(Text(line.replace("\xa0", " ")))
