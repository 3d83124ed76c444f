"""What is said and drawn where there is no rate, no minimum or no gradient to tell of."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.dynamics.bifurcation import Bifurcation, run_bifurcation
from gabordiag.dynamics.maps import Basins, run_basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import CODES
from gabordiag.dynamics.windows import Windows
from gabordiag.objective.gabor_line import along
from gabordiag.objective.space import Parameter
from gabordiag.presentation import registry, words
from gabordiag.presentation.blocks import Paragraph, Table, caption
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.maps import map_axis
from gabordiag.presentation.figures.run_paths import Look, RunPath, Runs
from gabordiag.presentation.phrases import describe_points, how_else, rate_words
from gabordiag.presentation.words import _symmetry, at_target
from gabordiag.results import View
from tests.diagnosis.planting import cardinal_gabor
from tests.dynamics.test_space_runs import experiment
from tests.presentation.test_figures import Valleys, sgd

NAMES = ("theta", "wavelength", "sigma", "psi")


def _text(blocks: list[Any]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Paragraph))


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(8).random((33, 29))


def test_a_barrier_lies_above_both_ends() -> None:
    # 0.25 above the chord of 2 and 0 at its middle is 1.25, below the first end; of 0 and 0 not.
    for ends, word in (((2.0, 0.0), ": above the line"), ((0.0, 0.0), ": barrier")):
        line = {"from": "a", "to": "b", "losses": ends, "barrier": 0.25, "at": 0.5}
        assert word in words._barrier({**line, "error": 1e-3, "points": 9})


def test_of_many_elements_each_verdict_has_a_row() -> None:
    elements = [
        {
            "name": f"w[{i}]",
            "parameter": "w",
            "verdict": "healthy" if i % 4 == 0 else "step_too_small",
            "findings": [{"explanation": f"why {i}"}] if i % 4 else [],
            "helps": "more steps" if i % 4 else None,
        }
        for i in range(100)
    ]
    table = words._elements(elements, "element")
    assert [row[:2] for row in table.rows] == [("75", "step too small"), ("25", "converged")]
    assert table.rows[0][2:] == (
        "w[1], w[2], w[3], w[5] and 71 more, see result.json",
        "w[1]: why 1",
        "more steps",
    )


def test_a_map_on_which_nothing_arrives_says_so() -> None:
    # Slope times the least rate is far more than one degree.
    steep = along(replace(cardinal_gabor("rmse"), pixel_scale=3e6), "theta")
    rates, starts = np.geomspace(1e-2, 10, 5), np.linspace(-1.5, 1.5, 7)
    made = run_basins(steep, OptimizerSettings("sgd", steps=200), rates, starts)
    assert made.windows.hold_lr is None
    assert made.best_lr is None
    headline, reason = rate_words(made, map_axis(made).show)
    assert headline == "No scanned learning rate brings the run from −42.1° to the target"
    assert reason == "No scanned learning rate is stable in the target's basin"
    assert registry.plot(made).get_title("left") == headline
    told = _text(registry.blocks_of("basins", made.view()))
    assert "the best" not in told


@pytest.fixture(scope="module")
def scan() -> Basins:
    return run_basins(Valleys(), sgd(1.0, 60), np.geomspace(0.01, 1, 5), np.linspace(-3, 3, 5))


def scanned(scan: Basins, start: float, **seen: str) -> Basins:
    """The same map with other outcomes, escapes or stable runs of its scan, one letter a rate."""
    rates = np.geomspace(0.5, 4096.0, len(next(iter(seen.values()))))
    letters = {"r": "reached", "c": "cycle", "p": "plateau", "u": "unfinished", "e": "erratic"}
    names = seen.get("outcomes", "e" * len(rates))
    outcomes = np.array([CODES[letters[letter]] for letter in names])
    escaped, held = (
        np.array([letter == "x" for letter in seen.get(name, "." * len(rates))])
        for name in ("escaped", "held")
    )
    inside = start > 0
    windows = Windows(start, rates, outcomes, 0 * outcomes, escaped, held, inside)
    return replace(scan, windows=windows)


@pytest.mark.parametrize(
    ("escaped", "held", "said"),
    [
        (
            ".x",
            "x.",
            "is 4096; the largest stable scanned learning rate in the target's basin is 0.5, 8192",
        ),
        (
            "xx",
            "xx",
            "is 0.5; the largest stable scanned learning rate in the target's basin is 4096",
        ),
        ("..", "xx", "No scanned learning rate leaves the start's basin; the largest"),
        ("xx", "..", "No scanned learning rate is stable in the target's basin"),
    ],
)
def test_what_escapes_and_what_is_stable(scan: Basins, escaped: str, held: str, said: str) -> None:
    headline, reason = rate_words(scanned(scan, -1.0, escaped=escaped, held=held), str)
    assert headline == "No scanned learning rate brings the run from -1.0 to the target"
    assert said in reason


def test_of_many_critical_points_the_lowest_are_listed() -> None:
    # Minima at every 2 pi / 40, ever higher with v^2.
    found = gd.sweep(lambda v: v**2 - torch.cos(40 * v), range=(-3.0, 3.0)).landscape
    minima = found.attractors
    assert len(minima) > 30
    text, table = words._points(found)
    assert "The 24 lowest minima follow; result.json has all points." in text.text
    listed = [float(row[0]) for row in table.rows]
    assert listed == sorted(listed)
    lowest = sorted(minima, key=lambda p: p.loss)[:24]
    np.testing.assert_allclose(listed, sorted(p.value for p in lowest), atol=1e-3)


def test_a_kink_is_counted_as_a_minimum() -> None:
    kinked = gd.sweep(replace(cardinal_gabor("rmse"), theta0=-0.7), points=91)
    minima = len(kinked.landscape.attractors)
    assert any(point.kind == "kink" for point in kinked.landscape.points)
    said = describe_points(kinked.landscape)
    assert said.startswith(f"{minima} minima (1 with a kink), ")
    assert said in registry.landscape.sweep_figure(kinked).texts[0].get_text()
    assert said in _text(registry.blocks_of("sweep", kinked.view()))


def test_nesterov_and_a_schedule_are_told() -> None:
    run = {"momentum": 0.9, "nesterov": True, "schedule": "cosine"}
    assert how_else(run) == ["momentum 0.9", "Nesterov", "cosine"]
    assert how_else({"momentum": 0.0}) == []


TARGET = {"theta": 0.8, "wavelength": 5.0, "sigma": 2.0, "psi": 0.1}
RESULT = {
    "learned": NAMES, "units": ("rad", "px", "px", "rad"), "target": TARGET,
    "periods": (2 * np.pi, None, None, 2 * np.pi), "tolerances": (0.02, 0.1, 0.04, 0.02),
}  # fmt: skip
AT_TARGET = {
    "is_minimum": True, "eigenvalues": [1.0, 4.0], "condition_number": 4.0, "stable_lr": 0.5,
}  # fmt: skip


def runs_of(run: dict[str, Any]) -> Runs:
    """A run of several parameters, of which no more than its JSON is needed."""
    nothing, look = np.empty(0), Look("black", "-", "o", "black")
    path = RunPath(run, nothing, nothing, nothing, look)
    return Runs(None, (path,), View(RESULT))


@pytest.mark.parametrize(
    ("copy", "reasons"),
    [
        ({}, []),
        ({"theta": 0.8 - np.pi, "psi": -0.1}, ["theta + 180° with psi turned to -psi"]),
        ({"wavelength": -5.0, "psi": -0.1}, ["a negative wavelength with psi turned to -psi"]),
        ({"sigma": -2.0}, ["the sign of sigma changes nothing"]),
    ],
)
def test_a_copy_of_the_target_is_explained(copy: dict[str, float], reasons: list[str]) -> None:
    run = {"outcome": "reached", "target_copy": {**TARGET, **copy}}
    told = " ".join(_symmetry(runs_of(run), run))
    every = ("theta + 180°", "a negative wavelength", "the sign of")
    assert [words for words in every if words in told] == [
        next(words for words in every if reason.startswith(words)) for reason in reasons
    ]
    assert all(reason in told for reason in reasons)
    assert _symmetry(runs_of(run), {**run, "outcome": "cycle"}) == []


def test_a_run_is_compared_with_the_target_only_from_elsewhere() -> None:
    run = {"loss": "mse", "target_copy": TARGET, "minimum": {**TARGET, "theta": 0.8 + 2 * np.pi}}
    assert at_target(runs_of(run), AT_TARGET) == []
    for minimum in (None, {**TARGET, "sigma": 2.1}):
        told = _text(at_target(runs_of({**run, "minimum": minimum}), AT_TARGET))
        assert "the condition number is 4; no rate of plain gradient descent above 0.5" in told
    root = _text(at_target(runs_of({**run, "loss": "rmse", "minimum": None}), AT_TARGET))
    assert root.endswith("the condition number is 4.")


def test_a_run_that_broke_down_has_no_curvature_to_tell(image: np.ndarray) -> None:
    made = gd.optimize(
        experiment(image), "adam", 1e308, steps=60, start={"sigma": 2.2}, over=("theta", "sigma")
    )
    assert "it broke off" in _text(registry.blocks_of("optimize", made.view()))
    assert made.plot() is not None


@pytest.mark.slow
def test_a_diagnosis_of_several_parameters_can_be_drawn(image: np.ndarray) -> None:
    found = gd.diagnose(
        experiment(image), over=("theta", "sigma"), lr=1e-4, steps=20, start={"theta": 0.9}
    )
    ax = found.plot()
    # The run, from its start, on the plane of the two.
    starts = [line.get_xydata()[0] for line in ax.lines if len(line.get_xydata()) == 1]
    assert any(np.allclose(at, [np.degrees(0.9), 2.0]) for at in starts)
    assert found._repr_html_().count('src="data:image/png;base64,') == 1


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ("rrrr", ""),
        ("pppp", ". At every learning rate the run fails: hardly moves.*"),
        ("uuee", ". Smaller learning rates: still descending .*; larger ones: wanders.*"),
    ],
)
def test_why_a_start_inside_fails_at_every_rate(scan: Basins, outcomes: str, said: str) -> None:
    basins = scanned(scan, 1.0, outcomes=outcomes, held="xx..")
    assert basins.windows.hold_lr is not None
    reason = rate_words(basins, str)[1]
    inside = "The start lies in the target's basin, where learning rates up to 10.1 are stable"
    assert re.fullmatch(re.escape(inside) + said, reason)


@pytest.mark.slow
def test_several_parameters_plot_themselves(image: np.ndarray) -> None:
    few = {"steps": 20, "lr": 0.01}
    found = gd.diagnose(experiment(image), over=("theta", "sigma"), **few)
    assert found.plot().get_xlabel() == "theta [degrees]"
    plane = gd.plane_basins(experiment(image), ("theta", "sigma"), points=(5, 4), **few)
    ax = plane.plot()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("start: theta [degrees]", "start: sigma [px]")
    assert ax.get_title("left")


def test_a_narrow_range_far_from_zero_is_told_with_as_many_figures_as_it_needs() -> None:
    # A bowl at 1000001.25 in a range 4 wide: the tolerance is 0.04.
    found = gd.sweep(lambda v: (v - 1000001.25) ** 2, range=(1e6, 1e6 + 4.0)).landscape
    _, table = words._points(found)
    assert table.rows[0][0] == "1000001.25"
    assert table.rows[0][-1] == "1000000 … 1000004"
    axis = ParameterAxis.of(found.parameter)
    assert axis.show(1000001.25) == "1000001.25"
    assert axis.show(-0.5) == "−0.5"


def _bands(made: Bifurcation) -> tuple[str, tuple[tuple[str, ...], ...]]:
    blocks = words.bifurcation(made)
    (table,) = (block for block in blocks if isinstance(block, Table))
    return _text(blocks), table.rows


def test_few_rates_have_all_their_bands() -> None:
    made = run_bifurcation(Valleys(), sgd(1.0, 60), np.array([0.1, 0.2, 0.4, 0.8, 1.6]), tail=20)
    text, rows = _bands(made)
    assert (rows[0][1], rows[-1][2]) == ("0.1", "1.6")
    inside = [sum(float(low) <= lr <= float(high) for _, low, high in rows) for lr in made.lrs]
    assert inside == [1] * 5
    assert "left out" not in text


def test_of_many_bands_those_of_a_single_rate_are_counted() -> None:
    made = run_bifurcation(Valleys(), sgd(1.0, 60), np.geomspace(0.1, 1.6, 5), tail=20)
    # 30 rates that settle, then 30 of which every other one diverges.
    outcomes = [CODES["reached"]] * 30 + [CODES["nonfinite"], CODES["reached"]] * 15
    made = replace(
        made, lrs=np.geomspace(0.1, 10, 60), outcomes=np.array(outcomes, dtype=np.int8),
        periods=np.zeros(60, dtype=np.int64), lyapunov=np.zeros(60),
    )  # fmt: skip
    text, rows = _bands(made)
    assert rows == (("settled", "0.1", f"{0.1 * 100 ** (29 / 59):.3g}"),)
    assert "(30 bands of a single rate left out)" in text


def test_a_training_that_broke_off_says_after_how_many_steps() -> None:
    run = {
        "optimizer": "sgd", "lr": 1e3, "momentum": 0.0, "steps": 30, "losses": [1.0, 1e200, None],
        "final_loss": None, "metric": None, "seconds": 0.5,
    }  # fmt: skip
    assert _text(words._training({"run": run, "evaluations": 0})) == (
        "2 steps of sgd, lr 1000 took 0.5 s. The loss at the end is not finite."
    )


@pytest.mark.parametrize(("count", "said"), [(5, "and 1 more place:"), (6, "and 2 more places:")])
def test_places_at_the_edge_are_counted(count: int, said: str) -> None:
    surface = gd.sweep(lambda v: (v**2).sum(), ("v[0]", "v[1]"), 9, start=(0.5, 0.5), range=(-1, 1))
    edge = [{"v[0]": 1.0, "v[1]": 1.0, "loss": 2.0, "kind": "edge"}] * count
    assert said in _text(words.points_found({**surface.to_dict(), "edge_minima": edge}))


def test_an_atlas_has_a_caption_for_each_phase() -> None:
    first, other = caption("atlas.png"), caption("atlas-90deg.png")
    assert first.startswith("What becomes of filters")
    assert other == f"{first} (phase 90°)"


def test_rounding_about_zero_is_shown_as_zero() -> None:
    length = Parameter("v", -3.0, 3.0, None, None, 1.0)
    assert [length.show(value) for value in (-1.8e-16, 0.0, 1e-9)] == ["0", "0", "1e-09"]
    # A range of logarithms has its small values.
    positive = replace(length, low=1e-20, is_log=True)
    assert positive.show(2e-20) == "2e-20"
