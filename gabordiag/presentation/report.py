"""The files of a run for people: its figures and its report, from saved data alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from gabordiag.errors import GabordiagError, InputError
from gabordiag.presentation import figures, words
from gabordiag.results import View
from gabordiag.runs import SavedRun

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
    result: dict[str, tuple[Drawing, View]] = {}
    parts: dict[str, View] = {}
    for name, case in view.result["cases"].items():
        data = {
            file.removeprefix(f"{name}-"): table
            for file, table in view.data.items()
            if file.startswith(f"{name}-")
        }
        landscape = case["landscape"]
        parts[name] = View(case, data)
        result[f"{name}-sweep"] = (figures.sweep_figure, View(landscape, data))
        failing = {"runs": [case["symptom"]["run"]], "landscape": landscape}
        result[f"{name}-run"] = (figures.optimize_figure, View(failing, data))
        if "basins" in case:
            basins = View({**case["basins"], "landscape": landscape}, data)
            result[f"{name}-basins"] = (figures.basins_figure, basins)
        if "bifurcation" in case:
            diagram = View({**case["bifurcation"], "landscape": landscape}, data)
            result[f"{name}-bifurcation"] = (figures.bifurcation_figure, diagram)
    result["comparison"] = (lambda _: figures.comparison_figure(parts), view)
    return result


def draw(command: str, view: View, formats: Sequence[str] = ("png",)) -> dict[str, bytes]:
    """Returns the figures of a command's run: file name -> content."""
    rendered = {}
    for stem, (function, part) in drawings(command, view).items():
        figure = function(part)
        for form in formats:
            rendered[f"{stem}.{form}"] = figures.render(figure, form)
    return rendered


def redo(saved: SavedRun) -> tuple[dict[str, bytes], str, list[words.Block]]:
    """Returns the figures, the report and the words of a saved run.

    Raises:
        InputError: The folder's files do not hold what their command writes.
    """
    command = saved.document["command"]
    try:
        figures = draw(command, saved.view)
        text = markdown(command, saved.view, saved.document["config"], sorted(figures))
        return figures, text, words.blocks(command, saved.view)
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
    command: str, view: View, settings: Mapping[str, Any], figure_names: Sequence[str]
) -> str:
    """Returns the report: the sentence, the figures, the tables, how to repeat it."""
    parts = [f"# gabordiag {command}", "", words.to_markdown(words.blocks(command, view))]
    for name in figure_names:
        parts += [f"![{words.caption(name)}]({name})", "", f"*{words.caption(name)}*", ""]
    parts += words.settings_markdown(command, settings)
    return "\n".join(parts) + "\n"
