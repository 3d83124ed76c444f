"""Blocks on a terminal, of any width.

They become rich's texts and tables; a table that would be squeezed becomes a list, and letters that
the terminal's encoding lacks become plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from gabordiag.presentation.blocks import (
    Block,
    Heading,
    Listing,
    Paragraph,
    Sketch,
    Table,
    Verdict,
    outcome_of,
)
from gabordiag.presentation.colors import JUMP_COLOR, OUTCOME_COLORS, ink_on
from gabordiag.presentation.late import Late
from gabordiag.wording import printable, spoken

if TYPE_CHECKING:
    from gabordiag.presentation.sketch import Letters

_draw_letters = Late("presentation.sketch.draw_letters")

_GOOD, _BAD = OUTCOME_COLORS["reached"], JUMP_COLOR
_WORD_STYLES = {
    "works": f"bold {_GOOD}",
    "does not": "dim",
    "cause": f"bold {_BAD}",
    "contributes": "bold",
}
# Narrower terminals wrap no tables.
_WRAPPING = 72
# For terminals that know no more than ASCII.
_PLAIN = str.maketrans(
    {
        **dict(zip("−–•×’▲", "--*x'^", strict=True)),
        **{letter: f"^{i}" for i, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
        "°": " deg",
        "…": "...",
        "±": "+-",
        "″": "''",
        "⁻": "^-",
    }
)


def show_blocks(console: Console, blocks: Sequence[Block]) -> None:
    """Prints blocks of text."""
    for block in blocks:
        rendered = _render(console, to_encodable(console, block))
        if rendered is not None:
            console.print(rendered)


def to_encodable(console: Console, block: Any) -> Any:
    """Returns a text, or a block's texts, in letters that the console's encoding has."""
    if isinstance(block, str):
        shown = printable(block)
        if _has_unicode(console):
            return shown
        plain = shown.translate(_PLAIN)
        return plain.encode(console.encoding, "replace").decode(console.encoding)
    if isinstance(block, tuple):
        return tuple(to_encodable(console, item) for item in block)
    if isinstance(block, Sketch):
        return replace(block, marks=to_encodable(console, block.marks))
    if is_dataclass(block) and not isinstance(block, type):
        texts = {entry.name: getattr(block, entry.name) for entry in fields(block)}
        return replace(block, **{name: to_encodable(console, text) for name, text in texts.items()})
    return block


def _has_unicode(console: Console) -> bool:
    try:
        "°−–…•▁█▲⁻".encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _render(console: Console, block: Block) -> RenderableType | None:
    match block:
        case Heading(text) | Paragraph(text):
            title = Padding(Text(text, style="bold underline"), (1, 0, 0, 0))
            return title if isinstance(block, Heading) else Text(text)
        case Verdict(text, word, good):
            look: dict[str, Any] = {"border_style": _GOOD if good else _BAD, "expand": True}
            return Panel(Text(text, style="bold"), title=Text(spoken(word)), **look)
        case Listing(items):
            grid = RichTable.grid(padding=(0, 1))
            for item in items:
                grid.add_row(to_encodable(console, "•"), Text(item, overflow="fold"))
            return grid
        case Table():
            return _table(console, block)
        case Sketch():
            plain = not _has_unicode(console)
            return _sketch(_draw_letters(block, console.width, ascii_only=plain))
    return None


def _sketch(letters: Letters) -> Group:
    lines = [Text(line, style="dim", no_wrap=True) for line in letters.bars]
    for arrows in letters.arrows:
        line = Text(no_wrap=True)
        for arrow in arrows:
            line.append(" " * (arrow.column - len(line)))
            line.append(arrow.text, style=f"bold {_GOOD}" if arrow.good else "bold")
        lines.append(line)
    return Group(*lines, Text(letters.ends, style="dim", no_wrap=True))


def _table(console: Console, block: Table, *, folds: bool = False) -> RenderableType:
    """A table, whose words break if it folds; where that is too narrow, one line a cell.

    The last column of one that folds, a path to be copied, stays whole if it leaves half the width.
    """
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title, *cells in zip(block.columns, *block.rows, strict=True):
        # No word is broken, unless the table folds.
        least = max(map(cell_len, " ".join([title, *cells]).split()), default=1)
        table.add_column(Text(title), overflow="fold", min_width=None if folds else least)
    longest = max((cell_len(row[-1]) for row in block.rows), default=0)
    table.columns[-1].no_wrap = folds and longest <= console.width / 2
    for row in block.rows:
        table.add_row(*_cells(block, row))
    needs = Measurement.get(console, console.options.update(max_width=10_000), table)
    wraps_well = (folds or needs.minimum <= console.width) and console.width >= _WRAPPING
    fits = needs.maximum <= console.width
    if not fits and wraps_well:
        # A least width may make the table wider than it was asked to be.
        lines = Segment.split_lines(console.render(table))
        fits = max(map(Segment.get_line_length, lines)) <= console.width
    return table if fits else _stacked(block)


def _stacked(block: Table) -> RenderableType:
    grid = RichTable.grid(padding=(0, 1))
    grid.add_column(style="dim", overflow="fold", max_width=14)
    grid.add_column(overflow="fold")
    for row in block.rows:
        for title, cell in zip(block.columns, _cells(block, row), strict=True):
            grid.add_row(Text(title), cell)
        grid.add_row("", "")
    return grid


def _cells(block: Table, row: Sequence[str]) -> list[Text]:
    cells = [Text(cell, style=_WORD_STYLES.get(cell, ""), overflow="fold") for cell in row]
    if block.outcome_column is not None:
        color = OUTCOME_COLORS.get(outcome_of(row[block.outcome_column]))
        if color is not None:
            # The figures' colour, on ground of its own: readable on dark and light terminals.
            # Not the terminal's own white and black, which may be any grey.
            ink = {"white": "#ffffff", "black": "#000000"}[ink_on(color)]
            cells[block.outcome_column].stylize(f"{ink} on {color}")
    return cells


def print_location(console: Console, words: str, path: Path) -> None:
    """Prints where something is, with the path on one line, so that it can be copied."""
    line = Text.assemble(f"{words} ", (to_encodable(console, str(path)), "bold"), ".")
    console.print(line, soft_wrap=True)


def runs_table(console: Console, listed: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns the table of run folders; a run without a verdict shows its status."""
    rows = tuple(
        (
            str(entry.get("started") or "–")[:16].replace("T", " "),
            str(entry.get("command") or "–"),
            ", ".join(
                map(spoken, str(entry.get("verdict") or entry.get("status") or "–").split(", "))
            ),
            str(entry["run"]),
        )
        for entry in listed
    )
    block = Table(("started (UTC)", "command", "verdict", "folder"), rows)
    return _table(console, to_encodable(console, block), folds=True)
