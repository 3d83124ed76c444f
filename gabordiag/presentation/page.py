"""Blocks as an HTML page with its pictures inside, for phones too; as Markdown; in a notebook.

The templates escape everything that is put into them; no part of a page is built from strings here,
and nothing that a user wrote becomes markup.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup, escape

from gabordiag.presentation.blocks import Block, Verdict, caption, outcome_of
from gabordiag.presentation.colors import OUTCOME_COLORS, ink_on
from gabordiag.presentation.late import Late
from gabordiag.wording import spoken

_to_small_png = Late("presentation.animation.film.to_small_png")
# What can be typed: `gabordiag sweep`, --lr 0.01. It must not be broken at its hyphens.
_TYPED = re.compile(r"(`[^`]+`|--[a-z][a-z0-9-]*(?: (?!--)[\w.+-]*\w)?)")
_TYPES = {"png": "image/png", "svg": "image/svg+xml", "gif": "image/gif"}
# A command in escaped text is code.
_COMMAND = re.compile(r"\\`(gabordiag[a-z -]*)\\`")
_MARKUP = re.compile(r"([\\`*_<>|\[\]~#$&])")
# At a line's start these make lists.
_STARTER = re.compile(r"^(\d*)([-+.)])(?=\s)")


def to_fragment(
    blocks: Sequence[Block],
    pictures: Mapping[str, str],
    template: str = "notebook.html",
    **more: Any,
) -> str:
    """Returns the blocks as a template shows them: a notebook's, `report.html` or `report.md`.

    Pictures are given by their stems: for HTML as addresses that `inlined` makes, for Markdown as
    file names. A report takes `command`, `settings` (name, value) and `command_line` as well, and
    `report.html`, one file that needs nothing else, pictures for the width of a phone as `narrow`.
    """
    environment = Environment(
        loader=PackageLoader("gabordiag.presentation", "."),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"with_options": _with_options, "plain": plain, "fenced": fenced}
    return environment.get_template(template).render(
        blocks=[(type(block).__name__, block) for block in blocks],
        pictures=pictures,
        sentence=next((block.text for block in blocks if isinstance(block, Verdict)), ""),
        caption=caption,
        outcome_of=outcome_of,
        spoken=spoken,
        badges={name: (color, ink_on(color)) for name, color in OUTCOME_COLORS.items()},
        **{"narrow": {}, **more},
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


def plain(text: str) -> str:
    """Returns text that Markdown shows as it is, on one line, with commands as code."""
    escaped = _STARTER.sub(r"\1\\\2", _MARKUP.sub(r"\\\1", " ".join(text.split())))
    return _COMMAND.sub(r"`\1`", escaped)


def fenced(text: str) -> str:
    """Returns a block of code that its own backticks cannot end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
