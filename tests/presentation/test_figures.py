"""The figures say what the data say: in degrees, in the right colours, alike on every drawing."""

from __future__ import annotations

import ast
import io
import itertools
import json
import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import gabordiag as gd
import gabordiag.presentation
from gabordiag.dynamics.bifurcation import Bifurcation, run_bifurcation
from gabordiag.dynamics.maps import Basins, run_basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import CODES, OUTCOME_NAMES, OUTCOMES
from gabordiag.dynamics.run import Optimization, run_all
from gabordiag.dynamics.windows import Windows
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.objective import Line
from gabordiag.objective.space import Parameter
from gabordiag.presentation import registry as figures
from gabordiag.presentation.colors import OUTCOME_COLORS, OUTCOME_SHORT
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.bifurcation import merged_bands
from gabordiag.presentation.figures.maps import cell_edges, map_axis, rate_lines, setting_words
from gabordiag.presentation.figures.run_paths import Look, RunPath, Runs
from gabordiag.presentation.figures.runs import (
    _draw_step,
    draw_losses,
    optimize_figure,
    window_words,
    windows_of,
    without_wraps,
)
from gabordiag.presentation.figures.sheets import on_sheet, panels_of
from gabordiag.presentation.figures.style import new_figure, render
from gabordiag.presentation.figures.training import _smoothed
from gabordiag.presentation.phrases import rate_words
from gabordiag.presentation.registry import kind_of
from gabordiag.results import Result, View
from gabordiag.wording import show_number

DEGREE = 180 / math.pi


class Valleys(Line):
    """1 - cos v + cos(2 v) / 2: minima at ±60 degrees, maxima at 0 and 180; or without a target."""

    loss_name = "valleys"

    def __init__(self, target: float | None = math.pi / 3, start: float = -1.0) -> None:
        self.parameter = Parameter(
            "theta", -math.pi, math.pi, 2 * math.pi, target, start, is_angle=True
        )

    def loss(self, values: torch.Tensor, *, smooth: bool = False) -> torch.Tensor:
        return 1 - torch.cos(values) + torch.cos(2 * values) / 2


@dataclass(frozen=True)
class Made:
    """One small result of every kind."""

    sweep: Sweep
    runs: Optimization
    many: Optimization
    broken: Optimization
    basins: Basins
    bifurcation: Bifurcation

    def figures(self) -> dict[str, Figure]:
        failures = {name: (shown(self.runs), None) for name in ("valleys", "the same")}
        return {
            "sweep": figures.landscape.sweep_figure(self.sweep),
            "optimize": figures.run_figures.optimize_figure(shown(self.runs)),
            "many": figures.run_figures.optimize_figure(shown(self.many)),
            "broken": figures.run_figures.optimize_figure(shown(self.broken)),
            "basins": figures.maps.basins_figure(self.basins),
            "bifurcation": figures.bifurcation.bifurcation_figure(self.bifurcation),
            "comparison": figures.run_figures.comparison_figure(failures),
        }


def restore(command: str, view: View) -> Any:
    """A command's result as figures and words take it."""
    return kind_of(command, view).restore(view)


def drawings_of(command: str, view: View) -> figures.Drawings:
    """The figures of a command's report."""
    return kind_of(command, view).figures(restore(command, view))


def shown(result: Optimization) -> Runs:
    """The runs as figures take them."""
    return cast("Runs", restore("optimize", result.view()))


def descend(objective: Line, settings: list[OptimizerSettings], start: float) -> Optimization:
    """The runs from one start, on their landscape."""
    return run_all(objective, settings, [start], sweep=sweep_objective(objective))


def sgd(lr: float, steps: int, momentum: float = 0.0) -> OptimizerSettings:
    return OptimizerSettings("sgd", lr, momentum=momentum, steps=steps)


@pytest.fixture(scope="module")
def kinked() -> Sweep:
    """The question's experiment on a small image of noise, with rmse's kink."""
    pixels = 0.5 + np.random.default_rng(0).standard_normal((40, 34))
    experiment = Experiment(image=pixels, wavelength=6.0, sigma=2.0, kernel_size=13)
    return sweep_objective(along(experiment, "theta"), points=121)


@pytest.fixture(scope="module")
def made(kinked: Sweep) -> Made:
    objective = Valleys()
    sweep = sweep_objective(objective, points=181)
    start = [objective.parameter.start]
    rates = np.geomspace(1e-2, 20, 41)
    broken = run_all(objective, [sgd(1.0, 5)], start, sweep=sweep)
    lost = replace(
        broken.runs[0].trajectory,
        values=np.array([[-1.0], [math.nan]]),
        losses=np.array([0.3, math.nan]),
        gradients=np.array([[1.0], [math.nan]]),
        updates=np.array([[math.nan], [math.nan]]),
        lrs=np.ones((2, 1)),
    )
    return Made(
        sweep=kinked,
        runs=run_all(objective, [sgd(6.0, 200)], start, sweep=sweep),
        many=run_all(
            objective, [sgd(lr, 60) for lr in np.geomspace(1e-3, 9, 8)], start, sweep=sweep
        ),
        broken=replace(
            broken, runs=(replace(broken.runs[0], trajectory=lost, outcome="nonfinite"),)
        ),
        basins=run_basins(
            objective, sgd(1.0, 120), rates, np.linspace(-math.pi, math.pi, 37), sweep=sweep
        ),
        bifurcation=run_bifurcation(objective, sgd(1.0, 300), rates, tail=100),
    )


@pytest.fixture(scope="module")
def drawn(made: Made) -> dict[str, Figure]:
    return made.figures()


@pytest.fixture(scope="module")
def png(drawn: dict[str, Figure]) -> Callable[[str], bytes]:
    """Returns a renderer of the drawn figures, each rendered once."""

    @cache
    def of(name: str) -> bytes:
        return render(drawn[name])

    return of


def words_in(figure: Figure) -> str:
    """All words of a figure, its axes and its legends."""
    found = [text.get_text() for text in figure.texts]
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes)]
    found += [text.get_text() for legend in legends if legend for text in legend.get_texts()]
    for ax in figure.axes:
        found += [text.get_text() for text in ax.texts]
        found += [ax.get_title(loc) for loc in ("left", "center", "right")]
        found += [ax.get_xlabel(), ax.get_ylabel()]
    return "\n".join(found)


def mesh_of(ax: Axes) -> QuadMesh:
    (mesh,) = [item for item in ax.collections if isinstance(item, QuadMesh)]
    return mesh


def saved(view: View) -> View:
    """The view after a way through the files of a run folder."""
    data: dict[str, dict[str, Any]] = {}
    for name, columns in view.data.items():
        if name.endswith(".npz"):
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **columns)
            with np.load(io.BytesIO(buffer.getvalue()), allow_pickle=False) as archive:
                data[name] = {key: archive[key] for key in archive.files}
        else:
            data[name] = {
                key: np.array([float(repr(cell)) for cell in column.tolist()])
                for key, column in columns.items()
            }
    return View(json.loads(json.dumps(view.result)), data)


# --- all figures ----------------------------------------------------------------------------------

NAMES = ("sweep", "optimize", "many", "broken", "basins", "bifurcation", "comparison")


@pytest.mark.slow
def test_every_figure_is_looked_at(drawn: dict[str, Figure]) -> None:
    assert set(NAMES) == set(drawn)


@pytest.mark.long
@pytest.mark.each(4)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    extent = figure.get_tightbbox(figure.canvas.get_renderer()).bounds
    width, height = figure.get_size_inches()
    assert extent[0] >= -0.05
    assert extent[1] >= -0.05
    assert extent[0] + extent[2] <= width + 0.05
    assert extent[1] + extent[3] <= height + 0.05


@pytest.mark.parametrize("name", NAMES)
def test_angles_are_shown_in_degrees(drawn: dict[str, Figure], name: str) -> None:
    assert "theta [degrees]" in words_in(drawn[name])


@pytest.mark.long
@pytest.mark.each(3)
@pytest.mark.parametrize("fmt", ["png", "svg", "pdf"])
def test_two_renderings_are_the_same_bytes(drawn: dict[str, Figure], fmt: str) -> None:
    content = render(drawn["broken"], fmt)
    assert render(drawn["broken"], fmt) == content
    assert b"date" not in content.lower()
    assert b"Matplotlib" not in content


@pytest.mark.slow
def test_saved_data_draw_the_same_picture(made: Made, png: Callable[[str], bytes]) -> None:
    redrawn: dict[str, Result] = {
        "sweep": made.sweep,
        "optimize": made.runs,
        "basins": made.basins,
        "bifurcate": made.bifurcation,
    }
    for command, result in redrawn.items():
        for stem, draw in drawings_of(command, saved(result.view())).items():
            assert render(draw()) == png(stem), stem


@pytest.mark.long
def test_the_callers_settings_neither_change_nor_matter(
    made: Made, png: Callable[[str], bytes]
) -> None:
    with matplotlib.rc_context({"font.size": 21, "axes.grid": False, "lines.linewidth": 7}):
        before = dict(matplotlib.rcParams)
        figure = figures.landscape.sweep_figure(made.sweep)
        figures.plot(made.sweep)
        content = render(figure)
        assert dict(matplotlib.rcParams) == before
    assert content == png("sweep")


PANELS_OF = {
    "sweep": ("loss", "gradient", "mismatch"),
    "optimize": ("loss", "value", "all-loss", "all-value", "landscape"),
    "basins": ("loss", "map", "start"),
    "bifurcation": ("values", "exponent"),
}


@pytest.mark.each(8)
@pytest.mark.parametrize(
    ("stem", "panel"), [(stem, panel) for stem, names in PANELS_OF.items() for panel in names]
)
def test_each_panel_can_be_drawn_alone(
    made: Made, drawn: dict[str, Figure], stem: str, panel: str
) -> None:
    whole = drawn[stem]
    assert tuple(panels_of(whole)) == PANELS_OF[stem]
    draw = {
        "sweep": lambda: figures.landscape.sweep_figure(made.sweep),
        "optimize": lambda: figures.run_figures.optimize_figure(shown(made.runs)),
        "basins": lambda: figures.maps.basins_figure(made.basins),
        "bifurcation": lambda: figures.bifurcation.bifurcation_figure(made.bifurcation),
    }[stem]
    with on_sheet("screen", panel):
        figure = draw()
    (ax,) = figure.axes
    (before,) = (ax for ax in whole.axes if ax.get_label() == panel)
    # The same curves and regions, and those of no other panel.
    assert len(ax.lines) == len(before.lines)
    for line, old in zip(ax.lines, before.lines, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), old.get_xydata())
    for kind in ("collections", "patches", "images"):
        assert len(getattr(ax, kind)) == len(getattr(before, kind))
    assert figure.get_suptitle() == ""
    assert figure.get_figheight() < whole.get_figheight()
    # Both axes are named and have numbers, wherever these stand in the whole figure.
    assert ax.get_ylabel()
    assert ax.get_xlabel()
    for axis in (ax.xaxis, ax.yaxis):
        assert axis.label.get_visible()
        assert (panel, axis) == ("start", ax.xaxis) or any(
            tick.label1.get_visible() for tick in axis.get_major_ticks()
        )
    assert bool(ax.get_legend()) == bool(before.get_legend())
    assert len(figure.legends) == len(whole.legends)
    pixels = matplotlib.image.imread(io.BytesIO(render(figure)))[..., :3]
    assert (pixels.min(axis=2) < 0.9).mean() > 0.01
    extent = figure.get_tightbbox(figure.canvas.get_renderer()).extents
    assert extent.min() >= -0.05
    assert (extent[2:] <= figure.get_size_inches() + 0.05).all()


@pytest.mark.long
def test_a_panel_keeps_its_colour_bar_and_other_figures_stay_whole(made: Made) -> None:
    pixels = np.random.default_rng(1).standard_normal((30, 30))
    experiment = Experiment(image=pixels, wavelength=5.0, sigma=2.0, kernel_size=9)
    result = gd.optimize(experiment, "adam", 0.05, steps=5, over=("theta", "sigma"))
    (draw,) = drawings_of("optimize", result.view()).values()
    with on_sheet("screen", "plane-0"):
        plane, whole = draw(), figures.landscape.sweep_figure(made.sweep)
    assert [str(ax.get_label()) for ax in plane.axes] == ["plane-0", "<colorbar>"]
    assert plane.legends
    assert panels_of(whole) == ["loss", "gradient", "mismatch"]
    with on_sheet("screen", "loss"):
        assert [ax.get_label() for ax in draw().axes] == ["loss"]


def test_pyplot_is_imported_only_where_a_figure_is_made_for_it() -> None:
    files = list(Path(gabordiag.presentation.__file__).parent.rglob("*.py"))
    assert len(files) > 20
    importing = []
    for path in files:
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for node in ast.iter_child_nodes(function):
                if isinstance(node, ast.ImportFrom):
                    found = "pyplot" in {node.module, *(alias.name for alias in node.names)}
                elif isinstance(node, ast.Import):
                    found = any("pyplot" in alias.name for alias in node.names)
                else:
                    found = False
                importing += [getattr(function, "name", path.name)] * found
    assert importing == ["pyplot_axes"]


def test_every_outcome_has_its_own_colour_and_name() -> None:
    assert set(OUTCOME_COLORS) == set(OUTCOME_SHORT) == set(OUTCOMES)
    colors = np.array([to_rgb(color) for color in OUTCOME_COLORS.values()])
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=2)
    assert apart[~np.eye(len(colors), dtype=bool)].min() > 0.3
    red, green, blue = to_rgb(OUTCOME_COLORS["reached"])
    assert green > 2 * red
    assert green > blue


def test_common_neighbours_in_a_map_differ_in_grey() -> None:
    grey = {name: np.dot(to_rgb(c), (0.299, 0.587, 0.114)) for name, c in OUTCOME_COLORS.items()}
    common = ("reached", "local_minimum", "erratic")
    for one in common:
        for other in common:
            assert one == other or abs(grey[one] - grey[other]) > 0.15


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0026101, "0.00261"), (1.3335, "1.33"), (511.3, "511"), (2e-5, "2.00×10⁻⁵"), (0.0, "0")],
)
def test_numbers_in_words(value: float, text: str) -> None:
    assert show_number(value) == text


# --- the parameter's axis -------------------------------------------------------------------------


def angle_axis(low: float = -math.pi / 2, high: float = math.pi / 2) -> ParameterAxis:
    return ParameterAxis.over("theta", low, high, math.pi, "rad")


@given(st.floats(-1e4, 1e4))
def test_wrapped_values_lie_in_the_window_and_differ_by_whole_periods(value: float) -> None:
    shown = float(angle_axis().wrap(value))
    assert -90 - 1e-6 <= shown <= 90 + 1e-6
    turns = (value * DEGREE - shown) / 180
    assert abs(turns - round(turns)) < 1e-6


def test_the_edges_of_the_window_stay_on_their_side() -> None:
    axis = angle_axis()
    assert float(axis.wrap(-math.pi / 2)) == -90
    assert float(axis.wrap(math.pi / 4)) == pytest.approx(45)


def test_a_basin_across_the_periods_end_is_shown_in_two_pieces() -> None:
    spans = angle_axis().spans(math.radians(-2.5), math.radians(100.0))
    np.testing.assert_allclose(sorted(spans), [(-90, -80), (-2.5, 90)], atol=1e-9)


def test_copies_fill_a_wide_window() -> None:
    axis = angle_axis(-math.pi, math.pi)
    np.testing.assert_allclose(axis.copies(math.pi / 4), [-135, 45])
    assert ParameterAxis.over("sigma", 1, 5, None, "px").copies(7.0) == []


def test_values_in_words() -> None:
    assert angle_axis().show(-math.pi / 4) == "−45°"
    assert angle_axis().show(math.radians(-46.343)) == "−46.3°"
    assert angle_axis().show(-1e-9) == "0°"
    assert ParameterAxis.over("sigma", 1, 5, None, "px").show(2.5) == "2.5 px"
    assert ParameterAxis.over("x", 1, 5, None, "").parameter.label == "x"


def test_no_line_crosses_a_wrap() -> None:
    steps, values = np.arange(4.0), np.radians([80.0, 100.0, 110.0, 300.0])
    shown_steps, shown = without_wraps(angle_axis(), steps, values)
    np.testing.assert_allclose(shown, [80, np.nan, -80, -70, np.nan, -60], atol=1e-9)
    np.testing.assert_array_equal(shown_steps, [0, 1, 1, 2, 3, 3])


# --- sweeps ---------------------------------------------------------------------------------------


def test_the_sweeps_curves_hold_the_data_in_degrees(kinked: Sweep, drawn: Any) -> None:
    loss, gradient, _ = drawn["sweep"].axes
    curve = next(line for line in loss.lines if line.get_label() == "loss")
    np.testing.assert_allclose(curve.get_xdata(), kinked.values * DEGREE, atol=1e-9)
    np.testing.assert_array_equal(curve.get_ydata(), kinked.loss)
    curves = {line.get_label().split("\n")[0]: line for line in gradient.lines}
    for label, column in (("closed form", "grad_analytic"), ("autograd", "grad_autograd")):
        expected, drawn_y = getattr(kinked, column), curves[label].get_ydata()
        at = np.searchsorted(np.asarray(curves[label].get_xdata()), kinked.values * DEGREE - 1e-9)
        finite = np.isfinite(expected) & np.isfinite(drawn_y[at])
        assert finite.sum() >= len(expected) - 2
        np.testing.assert_array_equal(drawn_y[at][finite], expected[finite])
    dots = curves["central differences"]
    np.testing.assert_allclose(dots.get_xdata(), kinked.values[::12] * DEGREE, atol=1e-9)


def test_the_gradient_is_broken_at_the_kink(drawn: Any) -> None:
    _, gradient, _ = drawn["sweep"].axes
    curve = next(line for line in gradient.lines if line.get_label() == "closed form")
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert np.isnan(y[np.isclose(x, 45)]).any()


def test_critical_points_are_marked_by_kind(kinked: Sweep, drawn: Any) -> None:
    markers = {"minimum": "o", "maximum": "^", "kink": "v"}
    loss = drawn["sweep"].axes[0]
    marked = {
        (line.get_marker(), round(float(line.get_xdata()[0]), 6), float(line.get_ydata()[0]))
        for line in loss.lines
        if len(line.get_xdata()) == 1
    }
    for point in kinked.landscape.points:
        assert (markers[point.kind], round(point.value * DEGREE, 6), point.loss) in marked
    assert {marker for marker, *_ in marked} >= {"v", "^"}


def test_the_mismatch_is_relative_and_positive(kinked: Sweep, drawn: Any) -> None:
    mismatch = drawn["sweep"].axes[2]
    assert mismatch.get_yscale() == "log"
    line = next(line for line in mismatch.lines if "differences" in str(line.get_label()))
    expected = np.abs(kinked.grad_analytic - kinked.grad_numeric)
    expected /= kinked.landscape.largest_gradient
    shown = np.asarray(line.get_ydata())
    kept = np.isfinite(shown)
    assert kept.sum() > 100
    np.testing.assert_allclose(shown[kept], expected[kept])
    assert (shown[kept] > 0).all()


@pytest.mark.slow
def test_ones_own_loss_has_no_closed_form_and_ripples_are_not_compared() -> None:
    # Differences across a ripple of 0.02 at this step differ by far more than the check says.
    sweep = gd.sweep(lambda v: (v - 1) ** 2 + torch.cos(3e4 * v) / 50, range=(-1.0, 3.0))
    figure = figures.landscape.sweep_figure(sweep)
    said = words_in(figure)
    assert "closed form" not in said
    assert "derivative of its values" in said
    curves = {str(line.get_label()): line for line in figure.axes[2].lines}
    (out,) = (line for label, line in curves.items() if label.startswith("not compared"))
    (told,) = (line for label, line in curves.items() if "differences" in label)
    worst = sweep.gradient_check.analytic_vs_numeric
    assert worst is not None
    assert np.nanmin(np.asarray(out.get_ydata())) > worst
    assert np.nanmax(np.asarray(told.get_ydata()), initial=0.0) <= worst * (1 + 1e-6)


def test_target_and_start_are_named(drawn: Any) -> None:
    words = words_in(drawn["sweep"])
    assert "target 45°" in words
    assert "start −45°" in words
    lines = [line.get_xdata() for line in drawn["sweep"].axes[0].lines]
    assert any(list(x) == [45.0, 45.0] for x in lines)


def test_a_sweep_of_nothing_but_nan_still_draws(kinked: Sweep) -> None:
    nothing = np.full_like(kinked.loss, np.nan)
    columns = ("loss", "grad_analytic", "grad_autograd", "grad_numeric")
    figures.landscape.sweep_figure(replace(kinked, **dict.fromkeys(columns, nothing)))


def test_a_parameter_in_pixels_without_a_period() -> None:
    pixels = np.random.default_rng(1).standard_normal((30, 30))
    experiment = Experiment(image=pixels, wavelength=5.0, sigma=2.0, kernel_size=9)
    sweep = sweep_objective(along(experiment, "wavelength"), points=41)
    words = words_in(figures.landscape.sweep_figure(sweep))
    assert "wavelength [px]" in words
    assert "start and target 5 px" in words
    assert "degrees" not in words


# --- runs -----------------------------------------------------------------------------------------


def test_a_restless_run_is_shown_twice_and_its_jumps_are_marked(made: Made, drawn: Any) -> None:
    run = made.runs.runs[0]
    assert run.jumps
    assert len(run.trajectory) == 201
    detail, value, whole, _, ground = drawn["optimize"].axes
    np.testing.assert_array_equal(detail.lines[0].get_ydata(), run.trajectory.losses[:61])
    assert detail.get_ylabel() == "loss (valleys)"
    in_detail = [jump for jump in run.jumps if jump.step < 60]
    triangles = [line for line in detail.lines if line.get_marker() == "^"]
    assert len(triangles) == len(in_detail)
    for line, jump in zip(triangles, in_detail, strict=True):
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (jump.step + 1, jump.loss_after)
    rug = next(line for line in whole.lines if line.get_marker() == "|")
    np.testing.assert_array_equal(rug.get_xdata(), [jump.step for jump in run.jumps])
    assert f"{len(run.jumps)} jumps in 200 steps" in words_in(drawn["optimize"])
    shown = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in value.lines])
    assert np.nanmin(shown) >= -180
    assert np.nanmax(shown) <= 180
    # On the landscape, the first descent and the first jump.
    numbers = [text.get_text() for text in ground.texts if text.get_text().isdigit()]
    assert numbers == [str(step) for step in range(run.jumps[0].step + 2)]
    assert f"step {run.jumps[0].step}: the loss rises from" in ground.get_title(loc="left")


def test_all_steps_of_a_long_restless_run_are_a_density(made: Made, drawn: Any) -> None:
    _, _, losses, values, _ = drawn["optimize"].axes
    path = made.runs.runs[0].trajectory
    wrapped = ParameterAxis.of(Valleys().parameter).wrap(path.values[:, 0])
    for ax, column in ((losses, path.losses), (values, wrapped)):
        (image,) = ax.images
        shades = np.asarray(image.get_array())
        left, right, bottom, top = image.get_extent()
        assert shades.sum() == len(path) == 201
        assert (left, right) == (0, 200)
        np.testing.assert_allclose((bottom, top), (column.min(), column.max()))
        # A row's shade is how many steps were at its height.
        edges = np.linspace(bottom, top, len(shades) + 1)
        counts, _ = np.histogram(column, edges)
        np.testing.assert_array_equal(shades.sum(axis=1), counts)


@pytest.mark.parametrize(
    ("jump", "words"), [(None, "the first 60 steps"), (200, "steps 189 to 249: the first jump")]
)
def test_a_log_that_counts_from_1_has_a_first_jump_only_where_there_is_one(
    jump: int | None, words: str
) -> None:
    jumps = [] if jump is None else [{"step": jump}]
    run: Any = {"n_jumps": len(jumps), "outcome": "erratic", "jumps": jumps}
    losses = np.random.default_rng(2).uniform(size=400)
    path = RunPath(run, np.arange(1.0, 401), losses, losses, Look("#000000", "-", "o", "#ff0000"))
    first, whole = windows_of([path])
    assert window_words(first, 0, [path]) == words
    assert whole == (1, 400)


def test_a_log_with_few_jumps_is_a_line_and_one_that_jumps_often_a_density() -> None:
    losses = np.exp(-np.arange(500.0) / 100)
    for every, is_line in ((250, True), (10, False)):
        spiked = np.where(np.arange(500) % every == every - 1, 4.0, losses)
        jumps = [{"step": step} for step in np.flatnonzero(spiked == 4.0) - 1]
        run: Any = {"n_jumps": len(jumps), "outcome": None, "jumps": jumps, "loss": "loss"}
        look = Look("#000000", "-", "o", "#ff0000")
        ax = Figure().subplots()
        draw_losses(ax, None, [RunPath(run, np.arange(500.0), spiked, spiked, look)], (0, 499))
        assert (len(ax.images) == 0) == is_line
        assert any(np.array_equal(line.get_ydata(), spiked) for line in ax.lines) == is_line


def test_a_run_that_diverges_leaves_the_scale_to_the_others() -> None:
    steps, look = np.arange(100.0), Look("#000000", "-", "o", "#ff0000")
    paths = []
    for losses, outcome in ((0.5**steps, "reached"), (1e3**steps, "nonfinite")):
        run: Any = {"n_jumps": 0, "outcome": outcome, "jumps": [], "loss": "loss"}
        paths.append(RunPath(run, steps, losses, losses, look))
    ax = Figure().subplots()
    draw_losses(ax, None, paths, (0, 99))
    # Three decades above the others' largest loss, 1, and the axis's margin.
    assert ax.get_ylim()[1] < 1e5
    (mark,) = [line for line in ax.lines if line.get_marker() == "X"]
    assert mark.get_xydata().tolist() == [[1.0, 1e3]]
    assert [text.get_text() for text in ax.texts] == ["leaves the picture"]


def test_a_smoothed_curve_lags_behind_nothing() -> None:
    # The mean over a window around each value of a straight line is that value.
    line = np.linspace(0.0, 1.0, 500)
    smooth = _smoothed(line)
    np.testing.assert_allclose(smooth[5:-5], line[5:-5], rtol=1e-12)
    assert len(smooth) == 500
    few = line[:40]
    assert _smoothed(few) is few


def test_a_constant_loss_is_drawn_at_its_own_height() -> None:
    """As of a run whose parameter runs off; 1e-12 of it is rounding."""
    run: Any = {"n_jumps": 0, "outcome": "running", "jumps": [], "loss": "loss"}
    losses = 0.003 * (1 + 1e-12 * np.sin(np.arange(500.0)))
    path = RunPath(run, np.arange(500.0), losses, losses, Look("#000000", "-", "o", "#ff0000"))
    ax = Figure().subplots()
    ax.set_ylim(0.0, 0.01)
    draw_losses(ax, None, [path], (0, 499))
    assert not ax.images
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), losses)


def test_a_step_across_the_periods_end_goes_on_at_the_other_side() -> None:
    axis = ParameterAxis.of(Valleys().parameter)
    values = np.radians([170.0, 190.0, 40.0 + 360.0])
    run: Any = {"n_jumps": 0, "outcome": "erratic", "jumps": []}
    look = Look("#000000", "-", "o", "#ff0000")
    path = RunPath(run, np.arange(3.0), values, np.array([1.0, 0.5, 0.7]), look)
    ax = Figure().subplots()
    _draw_step(ax, axis, path, 0, is_jump=False)
    vertices = [arrow._path_original.vertices for arrow in ax.patches]  # type: ignore[attr-defined]
    assert len(vertices) == 2
    np.testing.assert_allclose([arc[0, 0] for arc in vertices], [170, -190], atol=1e-9)
    np.testing.assert_allclose([arc[-1, 0] for arc in vertices], [190, -170], atol=1e-9)
    # A step of 210 degrees inside the window is drawn once.
    ax = Figure().subplots()
    _draw_step(ax, axis, path, 1, is_jump=True)
    assert len(ax.patches) == 1


def test_a_run_that_blows_up_is_a_line_and_no_cloud() -> None:
    run: Any = {"n_jumps": 3, "outcome": "nonfinite", "jumps": []}
    look = Look("#000000", "-", "o", "#ff0000")
    steps, nothing = np.arange(5.0), np.zeros(5)
    grows = np.array([1.0, 10.0, 100.0, 1e3, np.nan])
    assert not RunPath(run, steps, nothing, grows, look).is_restless
    assert RunPath(run, steps, nothing, grows[[2, 3, 0, 1, 4]], look).is_restless


def test_without_a_target_the_title_names_the_lowest_minimum() -> None:
    several = descend(Valleys(target=None), [sgd(0.1, 60), sgd(0.2, 60)], -0.5)
    words = words_in(figures.run_figures.optimize_figure(shown(several)))
    assert "2 runs, all of which reach the lowest minimum" in words
    assert "reaches the lowest minimum and stays" in words
    assert "the target" not in words


def test_the_path_lies_on_the_landscape(made: Made, drawn: Any) -> None:
    trajectory = made.runs.runs[0].trajectory
    ground = drawn["optimize"].axes[-1]
    points = next(
        line
        for line in ground.lines
        if line.get_marker() == "o" and len(line.get_xdata()) == made.runs.runs[0].jumps[0].step + 2
    )
    x = np.radians(np.asarray(points.get_xdata()))
    np.testing.assert_allclose(
        1 - np.cos(x) + np.cos(2 * x) / 2, trajectory.losses[: len(x)], atol=1e-9
    )


def test_many_runs_are_summed_up_by_outcome(made: Made, drawn: Any) -> None:
    counts: dict[str, int] = {}
    for run in made.many.runs:
        counts[run.outcome] = counts.get(run.outcome, 0) + 1
    words = words_in(drawn["many"])
    for outcome, count in counts.items():
        assert f"{OUTCOMES[outcome]}: {count} run" in words
    assert "8 runs" in words


def test_several_runs_are_named_and_look_different() -> None:
    objective = Valleys()
    several = descend(
        objective,
        [sgd(0.1, 20), sgd(0.2, 20, 0.5), OptimizerSettings("adam", 0.1, steps=20)],
        0.5,
    )
    figure = figures.run_figures.optimize_figure(shown(several))
    assert "sgd, lr 0.2, momentum 0.5: " in words_in(figure)
    handles = figure.legends[0].legend_handles[:3]
    assert len({handle.get_color() for handle in handles}) == 3
    assert len({handle.get_linestyle() for handle in handles}) == 3
    assert len({handle.get_marker() for handle in handles}) == 3


def test_a_run_that_breaks_down_says_where(drawn: Any) -> None:
    words = words_in(drawn["broken"])
    assert "not finite from step 1 on" in words
    assert OUTCOMES["nonfinite"] in words


@pytest.mark.parametrize("top", [254, 308])
def test_a_loss_up_to_the_largest_double_draws(top: int) -> None:
    """Margins and ticks above it would be infinite."""
    found = gd.explain({"loss": 10.0 ** np.arange(-3, top, 2)})
    ax = Figure().subplots()
    found.plot(ax)
    FigureCanvasAgg(ax.figure).draw()
    assert ax.get_yscale() == "log"
    assert 1e250 < ax.get_ylim()[1] < math.inf


@pytest.mark.parametrize("size", ["screen", "column", "slide"])
def test_a_pdf_of_any_size_holds_lines_to_the_right_edge(size: str) -> None:
    with on_sheet(size), new_figure(6.0, 4.0) as figure:
        figure.subplots().plot([0, 1], [0, 1], color="#123456")
    with on_sheet(size):
        pdf = render(figure, "pdf")
    page = re.search(rb"/MediaBox \[ 0 0 ([0-9.]+) [0-9.]+ \]", pdf)
    assert page is not None
    parts = re.findall(rb"stream\r?\n(x.*?)endstream", pdf, re.DOTALL)
    drawn = b"\n".join(map(zlib.decompress, parts))
    scale = re.search(rb"^([0-9.]+) 0 0 [0-9.]+ 0 0 cm", drawn, re.MULTILINE)
    assert scale is not None
    # The diagonal is the only line of its colour.
    line = drawn[drawn.index(b"0.0705882353 0.2039215686 0.337254902 RG") :]
    end = re.search(rb"^([0-9.]+) [0-9.]+ l$", line, re.MULTILINE)
    assert end is not None
    assert float(end[1]) * float(scale[1]) > 0.85 * float(page[1])


def test_a_run_of_one_step_draws() -> None:
    figures.run_figures.optimize_figure(shown(descend(Valleys(), [sgd(0.1, 1)], -1.0)))


def test_a_case_may_hold_its_logs_without_the_cases_name(made: Made) -> None:
    view = made.runs.view()
    run = {**view.result["runs"][0], "trajectory": "elongated-trajectory-000.csv"}
    runs = Runs.of(made.runs.sweep, [run], view)
    failures = {"elongated": (runs, None), "round": (shown(made.runs), made.basins)}
    figure = figures.run_figures.comparison_figure(failures)
    left, right = figure.axes[0].lines[0], figure.axes[1].lines[0]
    np.testing.assert_array_equal(left.get_ydata(), made.runs.runs[0].trajectory.losses[:61])
    np.testing.assert_array_equal(right.get_ydata(), left.get_ydata())
    words = words_in(figure)
    assert "Elongated filter: the loss jumps repeatedly" in words
    assert "The start lies in the basin of another minimum, at −60°" in words
    assert " ".join(rate_words(made.basins, angle_axis().show)[1].split()) in " ".join(
        words.split()
    )


# --- maps -----------------------------------------------------------------------------------------


def test_the_maps_colours_are_the_outcomes(made: Made, drawn: Any) -> None:
    mesh = mesh_of(drawn["basins"].axes[2])
    mesh.update_scalarmappable()
    shown = mesh.get_facecolors().reshape(*made.basins.outcomes.shape, 4)[..., :3]
    assert len(np.unique(made.basins.outcomes)) >= 3
    for code, name in enumerate(OUTCOME_NAMES):
        where = made.basins.outcomes == code
        np.testing.assert_allclose(
            shown[where], np.broadcast_to(to_rgb(OUTCOME_COLORS[name]), (where.sum(), 3))
        )


def test_every_cell_surrounds_its_start_and_rate(made: Made, drawn: Any) -> None:
    corners = mesh_of(drawn["basins"].axes[2]).get_coordinates()
    x, y = corners[0, :, 0], corners[:, 0, 1]
    starts, rates = made.basins.starts * DEGREE, made.basins.lrs
    assert ((x[:-1] < starts) & (starts < x[1:])).all()
    assert ((y[:-1] < rates) & (rates < y[1:])).all()
    np.testing.assert_allclose(np.diff(np.log(y)), np.log(rates[1] / rates[0]))


def test_edges_of_one_cell() -> None:
    np.testing.assert_array_equal(cell_edges(np.array([3.0])), [2.5, 3.5])


def test_the_start_is_drawn_and_its_column_repeated(made: Made, drawn: Any) -> None:
    _, _, ground, strip = drawn["basins"].axes
    assert any(np.allclose(line.get_xdata(), np.degrees(-1.0)) for line in ground.lines)
    codes = np.asarray(mesh_of(strip).get_array()).ravel()
    np.testing.assert_array_equal(codes, made.basins.view().data["basins.npz"]["start_outcome"])


def test_the_legend_names_only_what_occurs(made: Made, drawn: Any) -> None:
    words = words_in(drawn["basins"])
    present = {OUTCOME_NAMES[code] for code in np.unique(made.basins.outcomes)}
    for name, sentence in OUTCOMES.items():
        assert (f"{sentence} (" in words) == (name in present)


def test_the_rates_that_matter_are_drawn_in_words(made: Made, drawn: Any) -> None:
    result = made.basins.to_dict()
    words = words_in(drawn["basins"])
    escape, hold = show_number(result["escape_lr"]), show_number(result["hold_lr"])
    assert f"leaves the start's basin from {escape} on" in words
    assert f"stable at the target up to {hold}" in words
    # L'' = cos v - 2 cos(2 v) = 3/2 at 60 degrees.
    assert "theory, 2/L″: 1.33" in words
    heights = [line.get_ydata()[0] for line in drawn["basins"].axes[2].lines]
    for rate in (result["escape_lr"], result["hold_lr"], 4 / 3):
        assert any(abs(height / rate - 1) < 1e-9 for height in heights)


def test_the_headline_says_whether_a_rate_works(made: Made, drawn: Any) -> None:
    rates = np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0])
    show = map_axis(made.basins).show

    def scanned(reached: str, escaped: str, held: str) -> tuple[str, str]:
        """The words on a scan of six rates: which reach, which leave, which are stable."""
        reach, leave, stable = (
            np.array([letter == "x" for letter in row]) for row in (reached, escaped, held)
        )
        outcomes = np.where(reach, CODES["reached"], CODES["erratic"])
        windows = Windows(-1.0, rates, outcomes, 0 * outcomes, leave, stable, False)
        return rate_words(replace(made.basins, windows=windows), show)

    assert scanned("......", "...xxx", "xx....") == (
        "No scanned learning rate brings the run from −57.3° to the target",
        "The smallest scanned learning rate that leaves the start's basin is 2; "
        "the largest stable scanned learning rate in the target's basin is 0.5, 4 times less",
    )
    assert scanned("xx.xx.", "x.....", "xx....")[0] == (
        "From −57.3° the target is reached at learning rates 0.25 to 0.5 and 2 to 4"
    )
    assert scanned("x.x.x.", "x.....", "xx....")[0].endswith("0.25, 1 and 1 more")
    for sentence in rate_words(made.basins, show):
        assert sentence in words_in(drawn["basins"]).replace("\n", " ")


@pytest.mark.parametrize(
    ("how", "formula", "bound"),
    [
        # L'' = 3/2: 2 (1 + beta) / L'' for heavy ball, / (1 + 2 beta) for Nesterov.
        ({}, "2/L″", 4 / 3),
        ({"momentum": 0.5}, "2(1 + β)/L″", 2.0),
        ({"momentum": 0.5, "nesterov": True}, "2(1 + β)/((1 + 2β)L″)", 1.0),
        # Adam's bound is an estimate, and no line.
        ({"optimizer": "adam"}, None, None),
    ],
)
def test_the_bound_that_is_drawn_is_the_optimizers_own(
    how: dict[str, Any], formula: str | None, bound: float | None
) -> None:
    settings = OptimizerSettings(lr=0.1, steps=40, **how)
    basins = run_basins(Valleys(), settings, np.geomspace(0.01, 4, 9), np.linspace(-3, 3, 5))
    drawn = [line for line in rate_lines(basins) if "theory" in line.words]
    if formula is None:
        assert not drawn
    else:
        assert drawn[0].words.startswith(f"theory, {formula}: ")
        assert drawn[0].lr == pytest.approx(bound)
    if how.get("nesterov"):
        assert setting_words(basins.settings) == "sgd, momentum 0.5, Nesterov, 40 steps"


def test_without_a_target_the_lowest_minimum_is_the_goal() -> None:
    objective = Valleys(target=None)
    basins = run_basins(objective, sgd(1.0, 60), np.geomspace(0.01, 2, 12), np.linspace(-3, 3, 13))
    words = words_in(figures.maps.basins_figure(basins))
    assert "target" not in words.replace(OUTCOMES["reached"], "").replace(
        OUTCOME_SHORT["reached"], ""
    )
    assert "lowest minimum" in words


# --- bifurcation ----------------------------------------------------------------------------------


def test_the_attractor_holds_the_values_in_degrees(made: Made, drawn: Any) -> None:
    values = drawn["bifurcation"].axes[0]
    cloud = max(values.lines, key=lambda line: len(line.get_xdata()))
    shown = np.asarray(cloud.get_ydata())
    assert len(shown) == made.bifurcation.values.size
    expected = np.degrees(np.angle(np.exp(1j * made.bifurcation.values.ravel())))
    distance = np.abs(shown - expected)
    np.testing.assert_allclose(np.minimum(distance, 360 - distance), 0, atol=1e-6)
    assert values.get_xscale() == "log"


def test_the_exponent_is_drawn_with_its_zero(made: Made, drawn: Any) -> None:
    exponent = drawn["bifurcation"].axes[1]
    assert any(list(line.get_ydata()) == [0, 0] for line in exponent.lines)
    curve = max(exponent.lines, key=lambda line: len(line.get_xdata()))
    np.testing.assert_array_equal(curve.get_ydata(), made.bifurcation.lyapunov)
    assert "2/L″ at the target: 1.33" in words_in(drawn["bifurcation"])


def test_values_outside_the_range_are_said_to_be_missing(made: Made, drawn: Any) -> None:
    landscape = made.bifurcation.landscape
    narrow = replace(landscape.parameter, period=None, low=-1.5, high=1.5)
    diagram = replace(made.bifurcation, landscape=replace(landscape, parameter=narrow))
    note = "values outside −85.9° to 85.9°"
    assert note in words_in(figures.bifurcation.bifurcation_figure(diagram))
    assert "values outside" not in words_in(drawn["bifurcation"])


def test_an_undefined_exponent_is_said_to_be_undefined() -> None:
    adam = OptimizerSettings("adam", steps=150)
    diagram = run_bifurcation(Valleys(), adam, np.geomspace(0.01, 5, 20), tail=60)
    words = words_in(figures.bifurcation.bifurcation_figure(diagram))
    assert "not defined" in words
    assert "2/L″" not in words


def test_bands_have_no_gaps_and_no_slivers() -> None:
    kinds = ["settled"] * 200 + ["cycle"] * 100 + ["chaos"] * 50 + ["cycle"] + ["chaos"] * 149
    bands = merged_bands(np.geomspace(0.1, 10, len(kinds)), kinds)
    assert [kind for kind, _, _ in bands] == ["settled", "cycle", "chaos"]
    assert bands[0][1] == pytest.approx(0.1)
    assert bands[-1][2] == pytest.approx(10)
    for (_, _, end), (_, begin, _) in itertools.pairwise(bands):
        assert end == begin
    assert bands[0][2] == pytest.approx(0.1 * 100 ** (199.5 / 499))


def test_runs_that_break_down_are_not_called_chaos(made: Made) -> None:
    lost = np.full_like(made.bifurcation.outcomes, CODES["nonfinite"])
    lyapunov = np.full_like(made.bifurcation.lyapunov, np.nan)
    periods = np.zeros_like(made.bifurcation.periods)
    broken = replace(made.bifurcation, outcomes=lost, lyapunov=lyapunov, periods=periods)
    assert set(broken.kinds) == {"nonfinite"}
    words = words_in(figures.bifurcation.bifurcation_figure(broken))
    assert "diverges" in words
    assert "no period found" not in words


# --- plot, render, save ---------------------------------------------------------------------------


@pytest.mark.long
def test_plot_draws_into_the_given_axes(made: Made) -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    for index, result in enumerate(
        (made.sweep, made.runs, made.runs.runs[0], made.basins, made.bifurcation)
    ):
        ax = figure.add_subplot(2, 3, index + 1)
        assert figures.plot(result, ax) is ax
        assert ax.has_data()
    assert len(figure.axes) == 5
    figure.draw_without_rendering()


def test_results_show_themselves_in_a_notebook(made: Made) -> None:
    assert made.sweep.plot().get_xlabel() == "theta [degrees]"
    for result in (made.sweep, made.basins):
        assert result._repr_html_().count('src="data:image/png;base64,') == 1


def test_a_log_and_a_check_draw_themselves() -> None:
    losses = np.exp(-np.arange(60.0) / 9)
    ax = gd.explain({"loss": losses, "theta": losses}).plot()
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), losses)
    check = gd.check()
    bars = check.plot().patches
    assert len(bars) == len(check.reference)
    ends = [bar.get_x() + bar.get_width() for bar in bars]
    np.testing.assert_allclose(ends, [max(e, 1e-17) for e in check.reference.values()])


def test_a_single_run_of_several_parameters_shows_its_losses() -> None:
    pixels = np.random.default_rng(1).standard_normal((30, 30))
    experiment = Experiment(image=pixels, wavelength=5.0, sigma=2.0, kernel_size=9)
    run = gd.optimize(experiment, "adam", 0.01, steps=9, over=("theta", "sigma")).runs[0]
    (line,) = run.plot().lines
    np.testing.assert_array_equal(line.get_ydata(), run.trajectory.losses)


def test_a_result_without_a_drawing() -> None:
    class Other(Result):
        def to_dict(self) -> dict[str, Any]:
            return {"told": "<b>"}

    html = Other()._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<img" not in html
    with pytest.raises(TypeError, match=r"no drawing of a Other.*Sweep.*Bifurcation"):
        figures.plot(Other())


def test_another_format_is_refused(drawn: dict[str, Figure]) -> None:
    with pytest.raises(ValueError, match="format 'bmp' is unknown"):
        render(drawn["broken"], "bmp")


def test_meshes_and_clouds_are_pictures_inside_an_svg(drawn: dict[str, Figure]) -> None:
    for name in ("basins", "bifurcation"):
        content = render(drawn[name], "svg")
        assert b"<image" in content
        assert len(content) < 600_000


@pytest.mark.long
@pytest.mark.parametrize(
    ("loss", "is_whole"),
    [
        # Nothing moves, or nothing holds it: without a basin there is nothing to show it in.
        (lambda v: v.detach() * 2, True),
        (lambda v: 0 * v + 1, True),
        (lambda v: torch.exp(-v), True),
        # Minima 0.7 apart: the run and its basin are a fiftieth of the range.
        (lambda v: torch.sin(2 * math.pi * v / 0.7) ** 2 + 1e-3 * (v - 25) ** 2, False),
    ],
)
def test_a_run_is_shown_around_its_basins_only_where_they_are_narrow(loss, is_whole) -> None:
    found = gd.optimize(loss, range=(0.0, 50.0), start=25.1, lr=1e-3, steps=60)
    figure = optimize_figure(Runs.from_view(found.view()))
    low, high = figure.axes[-1].get_xlim()
    assert (high - low == 50) == is_whole
    assert low < 25.1 < high
