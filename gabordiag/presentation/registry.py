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
from gabordiag.presentation.figures import run_paths
from gabordiag.presentation.late import Late
from gabordiag.presentation.page import inlined, to_fragment
from gabordiag.results import Result, View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Drawings = dict[str, Callable[[], "Figure"]]
atlas = Late("presentation.figures.atlas")
read_atlas = Late("charting.atlas.Atlas.from_view")
bifurcation = Late("presentation.figures.bifurcation")
landscape = Late("presentation.figures.landscape")
maps = Late("presentation.figures.maps")
run_figures = Late("presentation.figures.runs")
space = Late("presentation.figures.space")
style = Late("presentation.figures.style")
surface = Late("presentation.figures.surface")
training = Late("presentation.figures.training")

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
    films: Callable[[Any], Mapping[str, run_paths.Runs]] = lambda _: {}


def _each(**functions: Callable[[Any], Figure]) -> Callable[[Any], Drawings]:
    """Returns the figures that are each drawn from the whole result."""
    return lambda result: {
        stem.replace("_", "-"): partial(function, result) for stem, function in functions.items()
    }


def _of_runs(runs: run_paths.Runs, stem: str = "optimize") -> Drawings:
    if runs.sweep is not None:
        return {stem: partial(run_figures.optimize_figure, runs)}
    return {"pairs": partial(space.pairs_figure, runs)} if runs.planes else {}


def _of_diagnosis(runs: run_paths.Runs) -> Drawings:
    if runs.sweep is None:
        return _of_runs(runs)
    return {"sweep": partial(landscape.sweep_figure, runs.sweep), **_of_runs(runs, "run")}


def _of_reproduction(cases: Mapping[str, run_paths.Case]) -> Drawings:
    failures = {name: (case.failing, case.basins) for name, case in cases.items()}
    drawings: Drawings = {"comparison": partial(run_figures.comparison_figure, failures)}
    for name, case in cases.items():
        drawings[f"{name}-run"] = partial(run_figures.optimize_figure, case.failing)
        drawings[f"{name}-sweep"] = partial(landscape.sweep_figure, case.failing.ground)
        if case.basins is not None:
            drawings[f"{name}-basins"] = partial(maps.basins_figure, case.basins)
        if case.bifurcation is not None:
            draw = bifurcation.bifurcation_figure
            drawings[f"{name}-bifurcation"] = partial(draw, case.bifurcation)
    return drawings


def _draw_runs(ax: Axes, runs: run_paths.Runs) -> None:
    (space.draw_space_runs if runs.sweep is None else run_figures.draw_runs)(ax, runs)


# Command -> how its result is shown; that of two parameters or of a training, in rows of its own.
KINDS: dict[str, Kind] = {
    "sweep": Kind(
        words.sweep, _each(sweep=landscape.sweep_figure), landscape.draw_sweep, run_paths.read_sweep
    ),
    "sweep of two": Kind(
        words.surface,
        _each(surface=surface.surface_figure, surface_in_space=surface.surface_in_space_figure),
        surface.draw_surface,
    ),
    "sweep of a network": Kind(
        words.network,
        _each(
            network=surface.network_figure,
            network_in_space=surface.network_in_space_figure,
            network_path=surface.network_path_figure,
            barriers=surface.barriers_figure,
        ),
        surface.draw_network,
    ),
    "optimize": Kind(
        words.runs,
        _of_runs,
        _draw_runs,
        run_paths.Runs.from_view,
        lambda runs: {"": runs} if runs.sweep or runs.planes else {},
    ),
    "basins": Kind(
        words.basins, _each(basins=maps.basins_figure), maps.draw_map_alone, run_paths.read_basins
    ),
    "basins of two": Kind(words.plane_of_starts, _each(plane=space.plane_figure), space.draw_plane),
    "bifurcate": Kind(
        words.bifurcation,
        _each(bifurcation=bifurcation.bifurcation_figure),
        bifurcation.draw_attractor,
        run_paths.read_bifurcation,
    ),
    "rates": Kind(words.rates, _each(rates=training.rates_figure), training.draw_rates),
    "diagnose": Kind(words.diagnosis, _of_diagnosis, _draw_runs, run_paths.Runs.from_view),
    "diagnose of a training": Kind(
        words.training_diagnosis, training.training_figures, training.draw_shares
    ),
    "reproduce": Kind(
        words.reproduction,
        _of_reproduction,
        lambda ax, cases: run_figures.draw_runs(ax, next(iter(cases.values())).failing),
        run_paths.Case.all_from,
        lambda cases: {f"{name}-": case.failing for name, case in cases.items()},
    ),
    "reproduce of a bank": Kind(
        words.bank,
        lambda view: training.training_figures(View(view.result["diagnosis"], view.data)),
        lambda ax, view: training.draw_shares(ax, View(view.result["diagnosis"], view.data)),
    ),
    "atlas": Kind(words.atlas, atlas.atlas_figures, atlas.draw_atlas, read_atlas),
    "atlas planned": Kind(words.atlas_plan),
    "check": Kind(words.check, draw=landscape.draw_check),
    "explain": Kind(
        words.explanation, _each(log=run_figures.log_figure), run_figures.draw_explanation
    ),
    "explore": Kind(words.exploration),
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

    What is drawn stands in the result's row of `KINDS`; of a single run it is the loss. Default:
    pyplot's current axes while they are empty, otherwise those of a new figure.
    """
    draw = _drawer(result)
    if draw is None:
        known = ", ".join((*_COMMANDS, "Run"))
        raise TypeError(f"no drawing of a {type(result).__name__}; there are drawings of {known}.")
    ax = style.pyplot_axes(*_SIZE) if ax is None else ax
    with style.drawing_in_style_of(ax):
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
        with style.new_figure(*_SIZE) as figure:
            draw(figure.subplots())
        pictures[stem] = inlined("drawing.png", style.render(figure), small=True)
    announces = isinstance(first[0], Paragraph) and first[0].text.endswith(":")
    return to_fragment([*first[: 1 + announces], Picture(stem), *helping], pictures)


def _drawer(result: Result) -> Callable[[Axes], None] | None:
    if type(result).__name__ == "Run":
        return lambda ax: run_figures.draw_run(ax, result)
    command = _COMMANDS.get(type(result).__name__)
    if command is None:
        return None
    view = result.view()
    kind = kind_of(command, view)
    draw = kind.draw
    return None if draw is None else lambda ax: draw(ax, kind.restore(view))
