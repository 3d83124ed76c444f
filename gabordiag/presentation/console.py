"""What a person sees on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from gabordiag.presentation import words
from gabordiag.results import View

_OUTCOME_STYLES = {
    "reached": "green",
    "local_minimum": "yellow",
    "plateau": "yellow",
    "cycle": "magenta",
    "erratic": "red",
    "running": "red",
    "unfinished": "cyan",
    "frozen": "blue",
    "nonfinite": "red",
}
_WORD_STYLES = {"works": "green", "does not": "dim", "cause": "bold red", "adds to it": "yellow"}


def show(console: Console, command: str, view: View) -> None:
    """Prints what a command's result says."""
    show_blocks(console, words.blocks(command, view))


def show_blocks(console: Console, told: Sequence[words.Block]) -> None:
    """Prints blocks of text."""
    for block in told:
        console.print(_render(block))


def _render(block: words.Block) -> RenderableType:
    if isinstance(block, words.Heading):
        return Padding(Text(block.text, style="bold underline"), (1, 0, 0, 0))
    if isinstance(block, words.Verdict):
        style = "green" if block.good else "red"
        title = block.word.replace("_", " ")
        return Panel(Text(block.text, style="bold"), title=title, border_style=style, expand=True)
    if isinstance(block, words.Listing):
        grid = RichTable.grid(padding=(0, 1))
        for item in block.items:
            grid.add_row("•", Text(item))
        return grid
    if isinstance(block, words.Table):
        return _table(block)
    return Text(block.text)


def _table(block: words.Table) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in block.columns:
        table.add_column(escape(title))
    for row in block.rows:
        cells = [Text(cell, style=_WORD_STYLES.get(cell, "")) for cell in row]
        if block.outcome_column is not None:
            name = row[block.outcome_column].split(" (")[0]
            cells[block.outcome_column].stylize(_OUTCOME_STYLES.get(name, ""))
        table.add_row(*cells)
    return table


def runs_table(listed: Sequence[Mapping[str, Any]]) -> RichTable:
    """Returns the table of run folders."""
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("started", "command", "status", "verdict", "folder"):
        table.add_column(title)
    for entry in listed:
        cells = (entry.get(key) for key in ("started", "command", "status", "verdict", "run"))
        table.add_row(*(Text("–" if cell is None else str(cell)) for cell in cells))
    return table
