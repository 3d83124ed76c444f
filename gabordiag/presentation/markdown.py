"""Blocks as Markdown; nothing that a user wrote becomes markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gabordiag.presentation import blocks

_LINES: dict[type[blocks.Block], str] = {
    blocks.Heading: "## {}",
    blocks.Verdict: "> **{}**",
    blocks.Paragraph: "{}",
}
_MARKUP = re.compile(r"([\\`*_<>|\[\]~#$&])")
# At a line's start these make lists.
_STARTER = re.compile(r"^(\d*)([-+.)])(?=\s)")


def to_markdown(blocks: Sequence[blocks.Block], pictures: Mapping[str, str]) -> str:
    """Returns the blocks as Markdown, with the pictures there are: stem -> file name."""
    parts = [_markdown(block, pictures) for block in blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: blocks.Block, pictures: Mapping[str, str]) -> str:
    match block:
        case blocks.Heading() | blocks.Verdict() | blocks.Paragraph():
            return _LINES[type(block)].format(escape(block.text))
        case blocks.Listing(items):
            return "\n".join(f"- {escape(item)}" for item in items)
        case blocks.Table(columns, rows):
            ruler = "|" + "---|" * len(columns)
            return "\n".join([_row(columns), ruler, *map(_row, rows)])
        case blocks.Picture(stem) if stem in pictures:
            words = escape(blocks.caption(stem))
            # A PDF can be linked, but not shown.
            shown = "" if pictures[stem].endswith(".pdf") else "!"
            return f"{shown}[{words}]({pictures[stem]})\n\n*{words}*"
    return ""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escape(cell) for cell in cells) + " |"


def escape(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line."""
    return _STARTER.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", " ".join(text.split())))


def fenced(text: str) -> str:
    """Returns a block of code that its own backticks cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
