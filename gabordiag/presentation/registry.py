"""What is said and drawn of every kind of result: one row of a table each.

The place to add a figure or a kind of result. Whatever the caller has set in matplotlib stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from gabordiag.presentation import words
from gabordiag.presentation.blocks import Block, Paragraph, Picture, Table, Verdict
from gabordiag.presentation.late import late
from gabordiag.presentation.page import inlined, to_fragment
from gabordiag.results import Result, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gabordiag.presentation.figures.run_paths import Runs
    from gabordiag.presentation.restored import Case, Diagnosed

Drawings = dict[str, Callable[[], "Figure"]]
read_bifurcation = late("dynamics.bifurcation", "Bifurcation.from_view")
read_basins = late("dynamics.maps", "Basins.from_view")
read_sweep = late("landscape.sweep", "Sweep.from_view")
read_atlas = late("charting.atlas", "Atlas.from_view")
atlas_words = late("presentation.atlas_words", "atlas")
atlas_plan_words = late("presentation.atlas_words", "atlas_plan")
atlas_figures = late("presentation.figures.atlas", "atlas_figures")
draw_atlas = late("presentation.figures.atlas", "draw_atlas")
bifurcation_figure = late("presentation.figures.bifurcation", "bifurcation_figure")
draw_attractor = late("presentation.figures.bifurcation", "draw_attractor")
draw_check = late("presentation.figures.log", "draw_check")
draw_explanation = late("presentation.figures.log", "draw_explanation")
log_figure = late("presentation.figures.log", "log_figure")
basins_figure = late("presentation.figures.maps", "basins_figure")
draw_map_alone = late("presentation.figures.maps", "draw_map_alone")
comparison_figure = late("presentation.figures.runs", "comparison_figure")
draw_run = late("presentation.figures.runs", "draw_run")
draw_runs = late("presentation.figures.runs", "draw_runs")
optimize_figure = late("presentation.figures.runs", "optimize_figure")
draw_plane = late("presentation.figures.space", "draw_plane")
draw_space_runs = late("presentation.figures.space", "draw_space_runs")
pairs_figure = late("presentation.figures.space", "pairs_figure")
plane_figure = late("presentation.figures.space", "plane_figure")
drawing_in_style_of = late("presentation.figures.style", "drawing_in_style_of")
new_figure = late("presentation.figures.style", "new_figure")
draw_network = late("presentation.figures.network", "draw_network")
draw_rates = late("presentation.figures.rates", "draw_rates")
rates_figure = late("presentation.figures.rates", "rates_figure")
barriers_figure = late("presentation.figures.network", "barriers_figure")
network_figure = late("presentation.figures.network", "network_figure")
space_figure = late("presentation.figures.network", "space_figure")
path_figure = late("presentation.figures.network", "path_figure")
pyplot_axes = late("presentation.figures.style", "pyplot_axes")
render = late("presentation.figures.style", "render")
draw_surface = late("presentation.figures.surface", "draw_surface")
surface_figure = late("presentation.figures.surface", "surface_figure")
surface_in_space_figure = late("presentation.figures.surface", "surface_in_space_figure")
draw_sweep = late("presentation.figures.landscape", "draw_sweep")
sweep_figure = late("presentation.figures.landscape", "sweep_figure")
draw_shares = late("presentation.figures.training", "draw_shares")
training_figures = late("presentation.figures.training", "training_figures")
read_cases = late("presentation.restored", "read_cases")
read_diagnosis = late("presentation.restored", "read_diagnosis")
read_explored = late("presentation.restored", "read_explored")
read_runs = late("presentation.restored", "read_runs")

# Inches of a drawing in one Axes.
_SIZE = (9.0, 4.6)


@dataclass(frozen=True)
class Kind:
    """How one kind of result is restored from a view, and what is said, drawn and animated of it.

    The figures of its report go by file stem, films by the prefix of the file name; `draw` is for
    `Result.plot`.
    """

    blocks: Callable[[Any], list[Block]]
    figures: Callable[[Any], Drawings] = lambda _: {}
    draw: Callable[[Axes, Any], None] | None = None
    restore: Callable[[View], Any] = lambda view: view
    films: Callable[[Any], Mapping[str, Runs]] = lambda _: {}


def _each(**functions: Callable[[Any], Figure]) -> Callable[[Any], Drawings]:
    """Returns the figures that are each drawn from the whole result."""
    return lambda result: {
        stem.replace("_", "-"): partial(function, result) for stem, function in functions.items()
    }


def _of_runs(runs: Runs, stem: str = "optimize") -> Drawings:
    if runs.sweep is not None:
        return {stem: partial(optimize_figure, runs)}
    return {"pairs": partial(pairs_figure, runs)} if runs.planes else {}


def _of_diagnosis(diagnosed: Diagnosed) -> Drawings:
    sweep = diagnosed.runs.sweep
    ground: Drawings = {} if sweep is None else {"sweep": partial(sweep_figure, sweep)}
    return ground | _of_runs(diagnosed.runs, "run")


def _of_reproduction(cases: Mapping[str, Case]) -> Drawings:
    failures = {name: (case.failing, case.basins) for name, case in cases.items()}
    drawings: Drawings = {"comparison": partial(comparison_figure, failures)}
    for name, case in cases.items():
        drawings[f"{name}-run"] = partial(optimize_figure, case.failing)
        drawings[f"{name}-sweep"] = partial(sweep_figure, case.failing.ground)
        if case.basins is not None:
            drawings[f"{name}-basins"] = partial(basins_figure, case.basins)
        if case.bifurcation is not None:
            drawings[f"{name}-bifurcation"] = partial(bifurcation_figure, case.bifurcation)
    return drawings


def _draw_runs(ax: Axes, runs: Runs) -> None:
    (draw_space_runs if runs.sweep is None else draw_runs)(ax, runs)


# Command -> how its result is shown; that of two parameters or of a training, in rows of its own.
KINDS: dict[str, Kind] = {
    "sweep": Kind(words.sweep, _each(sweep=sweep_figure), draw_sweep, read_sweep),
    "sweep of two": Kind(
        words.surface,
        _each(surface=surface_figure, surface_in_space=surface_in_space_figure),
        draw_surface,
    ),
    "sweep of a network": Kind(
        words.network,
        _each(
            network=network_figure,
            network_in_space=space_figure,
            network_path=path_figure,
            barriers=barriers_figure,
        ),
        draw_network,
    ),
    "optimize": Kind(
        words.runs,
        _of_runs,
        _draw_runs,
        read_runs,
        lambda runs: {"": runs} if runs.sweep or runs.planes else {},
    ),
    "basins": Kind(words.basins, _each(basins=basins_figure), draw_map_alone, read_basins),
    "basins of two": Kind(words.plane_of_starts, _each(plane=plane_figure), draw_plane),
    "bifurcate": Kind(
        words.bifurcation, _each(bifurcation=bifurcation_figure), draw_attractor, read_bifurcation
    ),
    "rates": Kind(words.rates, _each(rates=rates_figure), draw_rates),
    "diagnose": Kind(
        words.diagnosis, _of_diagnosis, lambda ax, found: _draw_runs(ax, found.runs), read_diagnosis
    ),
    "diagnose of a training": Kind(words.training_diagnosis, training_figures, draw_shares),
    "reproduce": Kind(
        words.reproduction,
        _of_reproduction,
        lambda ax, cases: draw_runs(ax, next(iter(cases.values())).failing),
        read_cases,
        lambda cases: {f"{name}-": case.failing for name, case in cases.items()},
    ),
    "reproduce of a bank": Kind(
        words.bank,
        lambda view: training_figures(View(view.result["diagnosis"], view.data)),
        lambda ax, view: draw_shares(ax, View(view.result["diagnosis"], view.data)),
    ),
    "atlas": Kind(atlas_words, atlas_figures, draw_atlas, read_atlas),
    "atlas planned": Kind(atlas_plan_words),
    "check": Kind(words.check, draw=draw_check),
    "explain": Kind(words.explanation, _each(log=log_figure), draw_explanation),
    "explore": Kind(words.exploration, restore=read_explored),
}
# Name of a result's type -> the command whose JSON it gives. A `Run` alone belongs to none.
_COMMANDS = {
    "Sweep": "sweep", "Surface": "sweep", "NetworkPlane": "sweep",
    "Optimization": "optimize", "Basins": "basins", "PlaneBasins": "basins",
    "Bifurcation": "bifurcate", "Rates": "rates",
    "Diagnosis": "diagnose", "TrainingDiagnosis": "diagnose",
    "Reproduction": "reproduce", "BankReproduction": "reproduce",
    "ReadoutReproduction": "reproduce",
    "Atlas": "atlas", "Check": "check", "Explanation": "explain",
}  # fmt: skip


def kind_of(command: str, view: View) -> Kind:
    """Returns how a command's result is shown."""
    variants = {
        "parameters": "of two", "plane": "of a network", "elements": "of a training",
        "filters": "of a bank", "left": "planned",
    }  # fmt: skip
    names = [f"{command} {words}" for key, words in variants.items() if key in view.result]
    return next((KINDS[name] for name in names if name in KINDS), KINDS[command])


def blocks_of(command: str, view: View) -> list[Block]:
    """Returns what a command's result says."""
    kind = kind_of(command, view)
    return kind.blocks(kind.restore(view))


def plot(result: Result, ax: Axes | None = None) -> Axes:
    """Draws a result into one Axes, in the colours of its style, and returns it.

    A sweep shows the loss with its critical points; a surface, its contours; several runs, their
    paths on the landscape; one run, its loss; basins, the map; a bifurcation, the attractor; an
    explanation, the log's loss; a check, its errors. Runs of two parameters show their paths on the
    plane, of more, their losses. Default: pyplot's current axes while they are empty, otherwise
    those of a new figure.
    """
    draw = _drawer(result)
    if draw is None:
        known = ", ".join((*_COMMANDS, "Run"))
        raise TypeError(f"no drawing of a {type(result).__name__}; there are drawings of {known}.")
    ax = pyplot_axes(*_SIZE) if ax is None else ax
    with drawing_in_style_of(ax):
        draw(ax)
    return ax


def notebook_html(result: Result) -> str:
    """Returns what a notebook shows of a result: the verdict, its drawing, what helps."""
    view, command = result.view(), _COMMANDS.get(type(result).__name__)
    facts = Table(("", ""), tuple((name, text.strip("'")) for name, text in result.facts().items()))
    blocks: list[Block] = [facts] if command is None else blocks_of(command, view)
    # Sorting keeps the order: the verdict, where there is one, or what is said first.
    first = sorted(
        (block for block in blocks if isinstance(block, (Verdict, Paragraph, Table))),
        key=lambda block: not isinstance(block, Verdict),
    )
    helping = [b for b in blocks if isinstance(b, Table) and "remedy" in b.columns]
    pictures = {}
    stem = f"Drawing of a {type(result).__name__}"
    if (draw := _drawer(result)) is not None:
        with new_figure(*_SIZE) as figure:
            draw(figure.subplots())
        pictures[stem] = inlined("drawing.png", render(figure), small=True)
    announces = isinstance(first[0], Paragraph) and first[0].text.endswith(":")
    return to_fragment([*first[: 1 + announces], Picture(stem), *helping], pictures)


def _drawer(result: Result) -> Callable[[Axes], None] | None:
    if type(result).__name__ == "Run":
        return lambda ax: draw_run(ax, result)
    command = _COMMANDS.get(type(result).__name__)
    if command is None:
        return None
    view = result.view()
    kind = kind_of(command, view)
    draw = kind.draw
    return None if draw is None else lambda ax: draw(ax, kind.restore(view))
