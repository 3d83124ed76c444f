"""Blocks as Markdown; nothing that a user wrote becomes markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from gabordiag.presentation.blocks import (
    Block,
    Heading,
    Listing,
    Paragraph,
    Picture,
    Table,
    Verdict,
    caption,
)

_MARKUP = re.compile(r"([\\`*_<>|\[\]~#$&])")
# At a line's start these make lists.
_STARTER = re.compile(r"^(\d*)([-+.)])(?=\s)")


def to_markdown(blocks: Sequence[Block], pictures: Mapping[str, str]) -> str:
    """Returns the blocks as Markdown.

    Args:
        blocks: The blocks.
        pictures: Stem -> file name of every picture there is; others are left out.
    """
    parts = [_markdown(block, pictures) for block in blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown(block: Block, pictures: Mapping[str, str]) -> str:
    match block:
        case Heading(text):
            shown = f"## {escape(text)}"
        case Verdict(text):
            shown = f"> **{escape(text)}**"
        case Paragraph(text):
            shown = escape(text)
        case Listing(items):
            shown = "\n".join(f"- {escape(item)}" for item in items)
        case Table(columns, rows):
            ruler = "|" + "---|" * len(columns)
            shown = "\n".join([_row(columns), ruler, *(_row(cells) for cells in rows)])
        case Picture(stem) if stem in pictures:
            words = escape(caption(stem))
            shown = f"![{words}]({pictures[stem]})\n\n*{words}*"
        case _:
            shown = ""
    return shown


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
