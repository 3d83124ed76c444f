"""Blocks as one HTML page with its pictures inside, for screens and phones, light and dark.

The template escapes everything that is put into it; no part of a page is built from strings here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from gabordiag.presentation.blocks import Block, Verdict, caption, outcome_of
from gabordiag.presentation.colors import OUTCOME_COLORS, ink_on
from gabordiag.presentation.late import late

_to_small_png = late("presentation.animation.film", "to_small_png")
# What can be typed: `gabordiag sweep`, --lr 0.01. It must not be broken at its hyphens.
_TYPED = re.compile(r"(`[^`]+`|--[a-z][a-z0-9-]*(?: (?!--)[\w.+-]*\w)?)")
_TYPES = {"png": "image/png", "svg": "image/svg+xml", "gif": "image/gif"}


def to_html(
    command: str,
    blocks: Sequence[Block],
    settings: Sequence[tuple[str, str]],
    command_line: str,
    pictures: Mapping[str, str],
    narrow: Mapping[str, str],
) -> str:
    """Returns a report as one file that needs nothing else.

    Pictures, and those for the width of a phone where there are any, are given by their stems, as
    addresses that `inlined` makes.
    """
    return _render(
        "report.html",
        blocks,
        pictures,
        command=command,
        sentence=next((block.text for block in blocks if isinstance(block, Verdict)), ""),
        settings=settings,
        command_line=command_line,
        narrow=narrow,
    )


def to_fragment(blocks: Sequence[Block], pictures: Mapping[str, str]) -> str:
    """Returns the blocks as a notebook shows them, with the pictures there are, as for a report."""
    return _render("notebook.html", blocks, pictures, narrow={})


def _render(
    template: str, blocks: Sequence[Block], pictures: Mapping[str, str], **values: Any
) -> str:
    environment = Environment(
        loader=PackageLoader("gabordiag.presentation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["with_options"] = _with_options
    return environment.get_template(template).render(
        blocks=[(type(block).__name__, block) for block in blocks],
        pictures=pictures,
        caption=caption,
        outcome_of=outcome_of,
        badges={name: (color, ink_on(color)) for name, color in OUTCOME_COLORS.items()},
        **values,
    )


def inlined(name: str, content: bytes, small: bool) -> str:
    """Returns a picture's file as an address that holds it; a small PNG has 256 colours."""
    form = name.rsplit(".", 1)[1]
    if small and form == "png":
        content = _to_small_png(content)
    return f"data:{_TYPES[form]};base64,{base64.b64encode(content).decode('ascii')}"


def _with_options(text: str) -> Markup:
    """Returns the escaped text with what can be typed as code."""
    parts = _TYPED.split(text)
    code = Markup("<code>{}</code>")
    marked = (code.format(p.strip("`")) if i % 2 else escape(p) for i, p in enumerate(parts))
    return Markup("").join(marked)
