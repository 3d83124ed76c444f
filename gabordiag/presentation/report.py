"""The files of a run for people: its figures and its report, from saved data alone.

`make_files` is what a command calls at its end, and `redo` what `gabordiag report` calls; both
return file names and contents, and leave the writing to others.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gabordiag.errors import GabordiagError, InputError, unknown_name
from gabordiag.presentation import page
from gabordiag.presentation.blocks import Block, Picture
from gabordiag.presentation.figures.sheets import on_sheet, panels_of
from gabordiag.presentation.late import Late
from gabordiag.presentation.registry import Drawings, kind_of
from gabordiag.results import Progress, View
from gabordiag.runs.saved import SavedRun
from gabordiag.wording import printable

_animate = Late("presentation.animation.frames.animate")
_render = Late("presentation.figures.style.render")


@dataclass(frozen=True)
class ReportOptions:
    """Which pictures a report gets.

    The first format is shown in the report, a PNG instead of a PDF; without formats there are no
    figures. Of figures that have the panel it is drawn alone. `to_send` makes the page small, with
    figures drawn again for phones: a run that has just finished does not wait for these.
    """

    formats: tuple[str, ...] = ("png",)
    size: str = "screen"
    animate: bool = False
    to_send: bool = False
    panel: str | None = None


def make_files(
    command: str,
    view: View,
    settings: Mapping[str, Any],
    options: ReportOptions,
    progress: Progress | None = None,
) -> tuple[dict[str, bytes], list[Block]]:
    """Returns the files that a person looks at by name, and the report's blocks.

    Settings that are None are left out; progress is called with (pictures done, pictures in all).
    """
    kind = kind_of(command, view)
    restored = kind.restore(view)
    drawings = kind.figures(restored)
    has_narrow = options.to_send and options.size == "screen" and bool(options.formats)
    total = len(drawings) * ((1 + has_narrow) if options.formats else 0) + 1
    numbers = itertools.count(1)

    def drawn() -> None:
        if progress is not None:
            progress(next(numbers), total)

    # What a browser shows; no file of its own unless asked for.
    shown_form = next((form for form in options.formats if form != "pdf"), "png")
    formats = tuple(dict.fromkeys((shown_form, *options.formats))) if options.formats else ()
    files = draw(drawings, formats, options.size, drawn, options.panel)
    for prefix, runs in kind.films(restored).items() if options.animate else ():
        films = _animate(runs).items()
        files |= {f"{prefix}animation.{form}": content for form, content in films}
    # A figure without a place in the text comes after it.
    blocks = kind.blocks(restored)
    names = [name for form in (*formats[:1], "gif") for name in files if name.endswith("." + form)]
    shown = {name.rsplit(".", 1)[0]: name for name in names}
    placed = {block.stem for block in blocks if isinstance(block, Picture)}
    blocks += [Picture(stem) for stem in shown if stem not in placed]
    narrow = draw(drawings, formats[:1], "column", drawn, options.panel) if has_narrow else {}
    is_pdf = bool(formats) and shown_form not in options.formats
    linked = {stem: f"{stem}.pdf" for stem in drawings} if is_pdf else {}
    pages = make_pages(
        command, blocks, settings, files, shown, narrow, small=options.to_send, linked=linked
    )
    if is_pdf:
        files = {name: made for name, made in files.items() if not name.endswith(".png")}
    return {**files, **pages}, blocks


def make_pages(
    command: str,
    blocks: Sequence[Block],
    settings: Mapping[str, Any],
    files: Mapping[str, bytes],
    shown: Mapping[str, str],
    narrow: Mapping[str, bytes],
    *,
    small: bool,
    linked: Mapping[str, str] = {},
) -> dict[str, bytes]:
    """Returns report.md and report.html.

    Pictures' contents go by name; `shown` names them by stem, as `linked` does those that report.md
    can only link. In a `small` page they are reduced to 256 colours. Settings that are None are
    left out.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    lists = {n: v if isinstance(v, (list, tuple)) else [v] for n, v in given.items()}
    rows = tuple((name, ", ".join(map(str, values))) for name, values in lists.items())
    pictures, slim = (
        {stem: page.inlined(name, of[name], small) for stem, name in shown.items() if name in of}
        for of in (files, narrow)
    )
    line = command_line(command, given)
    about = {"command": command, "settings": rows, "command_line": line}
    text = page.to_fragment(blocks, {**shown, **linked}, "report.md", **about)
    html = page.to_fragment(blocks, pictures, "report.html", narrow=slim, **about)
    return {
        "report.md": printable(text.rstrip("\n") + "\n").encode("utf-8"),
        "report.html": printable(html).encode("utf-8"),
    }


def draw(
    drawings: Drawings,
    formats: Sequence[str] = ("png",),
    size: str = "screen",
    drawn: Callable[[], None] = lambda: None,
    panel: str | None = None,
) -> dict[str, bytes]:
    """Returns figures as files, name -> content; `drawn` is called after every figure."""
    rendered: dict[str, bytes] = {}
    names: list[str] = []
    with on_sheet(size, panel):
        for stem, drawing in drawings.items() if formats else ():
            figure = drawing()
            names += panels_of(figure)
            rendered |= {f"{stem}.{form}": _render(figure, form) for form in formats}
            drawn()
    if formats and panel is not None and panel not in names:
        raise unknown_name("--panel: panel", panel, dict.fromkeys(names))
    return rendered


def redo(
    saved: SavedRun,
    options: ReportOptions,
    progress: Progress | None = None,
    pages: Callable[[str, View], Mapping[str, bytes]] = lambda command, view: {},
) -> tuple[dict[str, bytes], list[Block]]:
    """Returns the files of a saved run that a person looks at, and what they say.

    `pages` returns further files made from a command's view, such as the interactive page.
    """
    command = saved.document["command"]
    try:
        files, blocks = make_files(command, saved.view, saved.document["config"], options, progress)
        return {**files, **pages(command, saved.view)}, blocks
    except (GabordiagError, MemoryError):
        raise
    except Exception as error:
        # What was changed by hand, or half copied, can be wrong in any way.
        lines = str(error).strip().splitlines() or ["nothing more is known"]
        reason = f"{type(error).__name__}: {lines[0]}"
        raise InputError(
            f"{saved.path} is damaged: its files do not fit together ({reason}).", "Run it again."
        ) from error


def command_line(command: str, settings: Mapping[str, Any]) -> str:
    """Returns the command with all its settings, as a shell takes it."""
    words = ["gabordiag", command]
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        elif (command, name) == ("explain", "log"):
            # An argument, not an option.
            words.append(str(value))
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            # With the sign of equality a negative number is no option.
            words += [f"{option}={item}" for item in values]
    return shlex.join(words)
