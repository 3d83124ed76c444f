"""The files of a run for people: its figures and its report, from saved data alone.

`make_files` is what a command calls at its end, and `redo` what `gabordiag report` calls; both give
file names and contents, and leave the writing to others. A figure is added in `drawings`.
"""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from gabordiag.errors import GabordiagError, InputError
from gabordiag.presentation import page, words
from gabordiag.presentation.animation import frames as animation
from gabordiag.presentation.blocks import Block, Picture, Table
from gabordiag.presentation.figures import drawings as figures
from gabordiag.presentation.figures.sheets import on_sheet
from gabordiag.presentation.markdown import fenced, to_markdown
from gabordiag.results import Progress, View
from gabordiag.runs import SavedRun
from gabordiag.wording import printable

# Settings that are no options.
_ARGUMENTS = {("explain", "log")}
Drawing = Callable[[View], Figure]


def drawings(command: str, view: View) -> dict[str, tuple[Drawing, View]]:
    """Returns the figures of a command's run: file stem -> (function, what it draws).

    The place to add a figure.
    """
    if command == "reproduce":
        return _reproduce_drawings(view)
    table: dict[str, dict[str, Drawing]] = {
        "sweep": {"sweep": figures.sweep_figure},
        "optimize": {"optimize": figures.optimize_figure},
        "diagnose": {"sweep": figures.sweep_figure, "run": figures.optimize_figure},
        "basins": {"basins": figures.basins_figure},
        "bifurcate": {"bifurcation": figures.bifurcation_figure},
    }
    if "learned" in view.result:
        return {"pairs": (figures.pairs_figure, view)} if view.result.get("pairs") else {}
    if command == "basins" and "parameters" in view.result:
        return {"plane": (figures.plane_figure, view)}
    if command == "sweep" and "parameters" in view.result:
        surfaces = {
            "surface": figures.surface_figure,
            "surface-in-space": figures.surface_in_space_figure,
        }
        return {stem: (function, view) for stem, function in surfaces.items()}
    if command == "diagnose":
        landscape = view.result["landscape"]
        view = View({**landscape, "runs": [view.result["run"]], "landscape": landscape}, view.data)
    return {stem: (function, view) for stem, function in table.get(command, {}).items()}


def _reproduce_drawings(view: View) -> dict[str, tuple[Drawing, View]]:
    parts = cases(view)
    result: dict[str, tuple[Drawing, View]] = {
        "comparison": (lambda _: figures.comparison_figure(parts), view)
    }
    for name, part in parts.items():
        case, data, landscape = part.result, part.data, part.result["landscape"]
        result[f"{name}-run"] = (figures.optimize_figure, failing_run(part))
        result[f"{name}-sweep"] = (figures.sweep_figure, View(landscape, data))
        if "basins" in case:
            basins = View({**case["basins"], "landscape": landscape}, data)
            result[f"{name}-basins"] = (figures.basins_figure, basins)
        if "bifurcation" in case:
            diagram = View({**case["bifurcation"], "landscape": landscape}, data)
            result[f"{name}-bifurcation"] = (figures.bifurcation_figure, diagram)
    return result


def cases(view: View) -> dict[str, View]:
    """Returns the view of each case of `reproduce`, its files without the case's name."""
    return {
        name: View(
            case,
            {
                file.removeprefix(f"{name}-"): table
                for file, table in view.data.items()
                if file.startswith(f"{name}-")
            },
        )
        for name, case in view.result["cases"].items()
    }


def failing_run(case: View) -> View:
    """Returns the view of the run that shows a case's symptom."""
    result = case.result
    runs = {"runs": [result["symptom"]["run"]], "landscape": result["landscape"]}
    return View(runs, case.data)


@dataclass(frozen=True)
class Wish:
    """Which pictures a report gets.

    Attributes:
        formats: Of the figures, `png`, `svg`; the first is shown in the report. None draws nothing.
        size: A name of `SHEETS`.
        animate: Whether the failing run becomes an animation.
        to_send: Whether the page is made small, and its figures for phones too: twice the drawing,
            which a run that has just been made does not wait for.
    """

    formats: tuple[str, ...] = ("png",)
    size: str = "screen"
    animate: bool = False
    to_send: bool = False


def make_files(
    command: str,
    view: View,
    settings: Mapping[str, Any],
    wish: Wish,
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """Returns everything that a person looks at: figures, animations, report.md, report.html.

    Args:
        command: That was run.
        view: Of its result.
        settings: That it was run with; those that are None are left out.
        wish: Which pictures.
        progress: Called with (pictures done, pictures in all).
    """
    has_narrow = wish.to_send and wish.size == "screen" and bool(wish.formats)
    total = len(drawings(command, view)) * ((1 + has_narrow) if wish.formats else 0) + 1
    numbers = itertools.count(1)

    def drawn() -> None:
        if progress is not None:
            progress(next(numbers), total)

    files = draw(command, view, wish.formats, wish.size, drawn)
    if wish.animate:
        files |= films(command, view)
    given = {name: value for name, value in settings.items() if value is not None}
    told = words.blocks(command, view)
    shown = _shown(files, wish.formats)
    # Whatever was drawn is shown: a figure without a place in the text comes after it.
    placed = {block.stem for block in told if isinstance(block, Picture)}
    told += [Picture(stem) for stem in shown if stem not in placed]
    text = markdown(command, told, given, shown)
    pictures = {stem: page.inlined(name, files[name], wish.to_send) for stem, name in shown.items()}
    rows = tuple((name, show_setting(value)) for name, value in given.items())
    narrow = {}
    if has_narrow:
        slim = draw(command, view, wish.formats[:1], "column", drawn)
        narrow = {s: page.inlined(n, slim[n], True) for s, n in shown.items() if n in slim}
    html = page.to_html(command, told, rows, command_line(command, given), pictures, narrow)
    return {
        **files,
        "report.md": printable(text).encode("utf-8"),
        "report.html": printable(html).encode("utf-8"),
    }


def _shown(files: Mapping[str, bytes], formats: Sequence[str]) -> dict[str, str]:
    """Returns stem -> file name of the pictures that a report shows."""
    names = [name for form in (*formats[:1], "gif") for name in files if name.endswith("." + form)]
    return {name.rsplit(".", 1)[0]: name for name in names}


def films(command: str, view: View) -> dict[str, bytes]:
    """Returns the animations of a command's runs: file name -> content."""
    parts = {"": view} if command == "optimize" and "learned" not in view.result else {}
    if command == "reproduce":
        parts = {f"{name}-": failing_run(part) for name, part in cases(view).items()}
    return {
        f"{prefix}animation.{form}": content
        for prefix, part in parts.items()
        for form, content in animation.animate(part).items()
    }


def draw(
    command: str,
    view: View,
    formats: Sequence[str] = ("png",),
    size: str = "screen",
    drawn: Callable[[], None] = lambda: None,
) -> dict[str, bytes]:
    """Returns the figures of a command's run: file name -> content.

    Args:
        command: That was run.
        view: Of its result.
        formats: `png`, `svg`.
        size: A name of `SHEETS`.
        drawn: Called after every figure.
    """
    rendered = {}
    with on_sheet(size):
        for stem, (function, part) in drawings(command, view).items() if formats else ():
            figure = function(part)
            for form in formats:
                rendered[f"{stem}.{form}"] = figures.render(figure, form)
            drawn()
    return rendered


def redo(
    saved: SavedRun,
    wish: Wish,
    progress: Progress | None = None,
    pages: Callable[[str, View], Mapping[str, bytes]] = lambda command, view: {},
) -> tuple[dict[str, bytes], list[Block]]:
    """Returns everything that a person looks at of a saved run, and its words.

    Args:
        saved: The run.
        wish: Which pictures.
        progress: Called with (pictures done, pictures in all).
        pages: Returns further files made from a command's view, such as the interactive page.

    Raises:
        InputError: The folder's files do not hold what their command writes.
    """
    command = saved.document["command"]
    try:
        files = make_files(command, saved.view, saved.document["config"], wish, progress)
        files |= pages(command, saved.view)
        return files, words.blocks(command, saved.view)
    except (GabordiagError, MemoryError):
        raise
    except Exception as error:
        # What was changed by hand, or half copied, can be wrong in any way.
        lines = str(error).strip().splitlines() or ["nothing more is known"]
        reason = f"{type(error).__name__}: {lines[0]}"
        raise InputError(
            f"{saved.path} is damaged: its files do not fit together ({reason}).", "Run it again."
        ) from error


def markdown(
    command: str, told: Sequence[Block], settings: Mapping[str, Any], pictures: Mapping[str, str]
) -> str:
    """Returns the report as Markdown: the sentence, the figures, the tables, how to repeat it."""
    rows = tuple((name, show_setting(value)) for name, value in settings.items())
    again = f"gabordiag {command} --config config.toml"
    parts = [
        f"# gabordiag {command}",
        to_markdown(told, pictures),
        "## To repeat it",
        f"In this folder, or with all settings written out:\n\n{fenced(again)}",
        fenced(command_line(command, settings)),
        to_markdown([Table(("setting", "value"), rows)], {}),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def show_setting(value: Any) -> str:
    """Returns a setting's value as text."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def command_line(command: str, settings: Mapping[str, Any]) -> str:
    """Returns the command with all its settings, as a shell takes it."""
    words = ["gabordiag", command]
    for name, value in settings.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [option] if value else []
        elif (command, name) in _ARGUMENTS:
            words.append(str(value))
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            # With the sign of equality a negative number is no option.
            words += [f"{option}={item}" for item in values]
    return shlex.join(words)
