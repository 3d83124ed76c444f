"""The files of a run for people: its figures and its report, from saved data alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from gabordiag.presentation import animation, figures, words
from gabordiag.results import View

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


def films(command: str, view: View) -> dict[str, bytes]:
    """Returns the animations of a command's runs: file name -> content."""
    parts = {"": view} if command == "optimize" else {}
    if command == "reproduce":
        parts = {f"{name}-": failing_run(part) for name, part in cases(view).items()}
    return {
        f"{prefix}animation.{form}": content
        for prefix, part in parts.items()
        for form, content in animation.animate(part).items()
    }


def draw(command: str, view: View, formats: Sequence[str] = ("png",)) -> dict[str, bytes]:
    """Returns the figures of a command's run: file name -> content."""
    rendered = {}
    for stem, (function, part) in drawings(command, view).items():
        figure = function(part)
        for form in formats:
            rendered[f"{stem}.{form}"] = figures.render(figure, form)
    return rendered


def markdown(
    command: str, view: View, settings: Mapping[str, Any], figure_names: Sequence[str]
) -> str:
    """Returns the report: the sentence, the figures, the tables, how to repeat it."""
    parts = [f"# gabordiag {command}", "", words.to_markdown(words.blocks(command, view))]
    for name in figure_names:
        parts += [f"![{words.caption(name)}]({name})", "", f"*{words.caption(name)}*", ""]
    parts += ["## To repeat it", "", "```", f"gabordiag {command} --config config.toml", "```", ""]
    parts += ["| setting | value |", "|---|---|"]
    parts += [f"| {name} | {_cell(value)} |" for name, value in settings.items()]
    return "\n".join(parts) + "\n"


def _cell(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
