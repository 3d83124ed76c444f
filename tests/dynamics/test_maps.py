"""Maps cell by cell against single runs; windows against brute force; the photograph's figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import gabordiag as gd
from gabordiag.dynamics.batch import descend_batch
from gabordiag.dynamics.maps import Basins, default_starts, run_basins
from gabordiag.dynamics.optimizers import OPTIMIZERS, BatchUpdate, OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES
from gabordiag.dynamics.run import run
from gabordiag.dynamics.tables import TabulatedObjective, tabulate
from gabordiag.dynamics.windows import (
    Windows,
    log_spaced,
    measure_windows,
    measure_windows_of_many,
)
from gabordiag.errors import UsageError
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.objective import Line
from gabordiag.own.custom import own_objective
from tests.diagnosis.planting import bowl, needle, wave
from tests.dynamics.independent import distance, stays_at, train
from tests.dynamics.single import steps_of
from tests.landscape.planted import interval

ELEMENTWISE = tuple(name for name in OPTIMIZERS if name != "lbfgs")
STEPS = 200
# An error of one rounding grown past this can have reached anything.
CHAOTIC = 1e10
JITTER, PARTED = 1e-11, 1e-3


@cache
def _objective(loss: str) -> Line:
    image = np.random.default_rng(4).random((48, 48))
    return along(
        Experiment(
            image=image, pixel_scale=4.0, kernel_size=11, wavelength=5.0, sigma=2.0, loss=loss
        ),
        "theta",
    )


@cache
def _landscape(loss: str) -> Landscape:
    return find_critical_points(_objective(loss))


def _amplification(loss: str, lr: float, values: npt.NDArray[np.float64]) -> float:
    """How much an error anywhere on the orbit grows at most by its end."""
    curvatures = _objective(loss).derivatives(values[:-1], 2)[2]
    with np.errstate(divide="ignore"):
        growth = np.log(np.abs(1 - lr * curvatures))
    # From every step to every later one: the largest sum over a stretch of the orbit.
    largest = running = 0.0
    for change in growth:
        running = max(0.0, running + change)
        largest = max(largest, running)
    return math.exp(min(largest, 700.0))


class Jittered(Line):
    """An objective whose gradient is off by far more than the table's, and far less than matters.

    At every step, not only at the start: a run can forget its start, and then blow up its rounding.
    """

    def __init__(self, loss: str) -> None:
        self.exact = _objective(loss)
        self.parameter = self.exact.parameter
        self.size = JITTER * _landscape(loss).largest_gradient
        self.generator = np.random.default_rng(1)

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the exact loss."""
        return self.exact.loss(values)

    def losses_and_gradients(self, values: Tensor) -> tuple[npt.NDArray[np.float64], Tensor | None]:
        """Returns the exact losses and the jittered gradients."""
        losses, gradients = self.exact.losses_and_gradients(values)
        assert gradients is not None
        return losses, gradients + self.size * self.generator.uniform(-1, 1)


def _is_chaotic(loss: str, settings: OptimizerSettings, path: npt.NDArray[np.float64]) -> bool:
    """Whether a jittered run parts company on the way."""
    steps = steps_of(Jittered(loss), settings, float(path[0]))
    neighbour = np.array([step.values[0] for step in steps])
    if len(neighbour) != len(path):
        return True
    return not bool((np.abs(neighbour - path) < PARTED).all())


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "momentum", "loss"),
    [
        ("sgd", 0.0, "mse"),
        pytest.param("sgd", 0.0, "rmse", marks=pytest.mark.slow),
        pytest.param("sgd", 0.9, "mse", marks=pytest.mark.slow),
        pytest.param("adam", 0.0, "mse", marks=pytest.mark.slow),
        pytest.param("rmsprop", 0.0, "mse", marks=pytest.mark.slow),
        pytest.param("rprop", 0.0, "mse", marks=pytest.mark.slow),
    ],
)
def test_cells_equal_single_runs(name: str, momentum: float, loss: str) -> None:
    objective, landscape = _objective(loss), _landscape(loss)
    lrs, starts = log_spaced(1e-4, 1.0, 12), default_starts(objective, 19)
    settings = OptimizerSettings(name, 1.0, momentum, steps=STEPS)
    basins = run_basins(objective, settings, lrs, starts)
    generator = np.random.default_rng(7)
    compared, seen = 0, set()
    for index in generator.choice(basins.outcomes.size, 24, replace=False):
        row, column = divmod(int(index), len(starts))
        lr, start = float(lrs[row]), float(starts[column])
        single = OptimizerSettings(name, lr, momentum, steps=STEPS)
        alone = run(objective, single, start, landscape=landscape)
        if name == "sgd" and momentum == 0 and loss == "mse":
            chaotic = _amplification(loss, lr, alone.trajectory.value) > CHAOTIC
        else:
            chaotic = _is_chaotic(loss, single, alone.trajectory.value)
        if chaotic:
            continue
        compared += 1
        seen.add(alone.outcome)
        assert OUTCOME_NAMES[basins.outcomes[row, column]] == alone.outcome, (lr, start)
    # The comparison is worth something: most cells, and more than one outcome.
    assert compared >= 10
    assert len(seen) >= 2


def test_chaos_is_recognised_where_it_is() -> None:
    # A rate far past 2 / max|L''| stretches nearly everywhere, one below it nowhere.
    largest = np.abs(_objective("mse").derivatives(np.linspace(-1.5, 1.5, 301), 2)[2]).max()
    objective = _objective("mse")

    def amplification(lr: float) -> float:
        settings = OptimizerSettings("sgd", lr, steps=STEPS)
        return _amplification("mse", lr, run(objective, settings, 0.3).trajectory.value)

    assert amplification(20 / largest) > CHAOTIC
    assert amplification(0.1 / largest) < 1e6


@pytest.mark.parametrize("loss", ["mse", "rmse"])
def test_tables_are_as_exact_as_they_say(loss: str) -> None:
    objective = _objective(loss)
    losses, slopes = tabulate(objective)
    values = np.random.default_rng(3).uniform(-4.0, 4.0, 3000)
    exact = objective.loss_at(values), objective.gradient(values)
    for table, truth, bound in ((losses, exact[0], 1e-8), (slopes, exact[1], 1e-6)):
        scale = np.abs(truth).max()
        error = np.abs(table(values) - truth).max() / scale
        # Measured between the nodes on a seventh of the cells; elsewhere it is not much larger.
        assert error <= 10 * table.error + 1e-13
        assert table.error < bound
        one_by_one = np.array([table.at(float(value)) for value in values[:200]])
        np.testing.assert_allclose(one_by_one, truth[:200], rtol=0, atol=2 * bound * scale)


def test_table_of_an_interval_ends_four_widths_beyond_it() -> None:
    losses, slopes = tabulate(bowl())
    inside = np.array([-0.999, 0.3, 1.0, 2.9])
    np.testing.assert_allclose(losses(inside), 2 * (inside - 1) ** 2, rtol=0, atol=1e-12)
    np.testing.assert_allclose(slopes(inside), 4 * (inside - 1), rtol=0, atol=1e-12)
    outside = np.array([-1.1, 3.1, -16.9, 18.9])
    np.testing.assert_allclose(losses(outside), 2 * (outside - 1) ** 2, rtol=1e-9)
    gone = np.array([-17.1, 19.1, math.nan, math.inf, -math.inf])
    assert np.isnan(losses(gone)).all()
    assert np.isnan(slopes(gone)).all()
    # Both ends belong to the interval.
    ends = np.array([-1.0, 3.0])
    np.testing.assert_allclose(losses(ends), [8, 8], rtol=0, atol=1e-11)
    assert [losses.at(float(end)) for end in ends] == pytest.approx([8, 8], abs=1e-11)
    # One value at a time goes to the objective itself there.
    assert all(math.isnan(losses.at(float(value))) for value in (*outside, *gone))


@pytest.mark.parametrize("high", [0.7, 1 / 3, 2.1, 1e-3, 97.3])
def test_a_run_may_start_at_either_end_of_an_interval(high: float) -> None:
    objective = interval(lambda v: (v / high) ** 2, -0.1 * high, high)
    table = TabulatedObjective(objective, find_critical_points(objective))
    for end in (-0.1 * high, high):
        loss, slope = table.losses_and_gradients(torch.tensor([end], dtype=torch.float64))
        assert slope is not None
        assert loss == pytest.approx((end / high) ** 2, abs=1e-12)
        assert slope.item() == pytest.approx(2 * end / high**2, rel=1e-9)


def test_kink_of_the_table_is_undefined_as_torch_has_it() -> None:
    slopes = tabulate(_objective("rmse"))[1]
    at = np.array([math.pi / 4, math.pi / 4 + 1e-4])
    result = slopes(at)
    assert math.isnan(result[0])
    assert math.isfinite(result[1])
    assert math.isnan(slopes.at(math.pi / 4))


@pytest.mark.parametrize("loss", ["mse", "cosine"])
def test_a_smooth_target_is_at_rest_in_the_table(loss: str) -> None:
    # The response equals the target's there: the slope is zero by its definition.
    slopes, beside = tabulate(_objective(loss))[1], math.pi / 4 + np.array([-1e-5, 1e-5])
    assert slopes.at(math.pi / 4) == slopes(np.array([math.pi / 4]))[0] == 0
    # RMSprop and Adam divide by slopes down to 1e-8: what is left of one would be steps.
    assert slopes.at(math.pi / 4 - 1e-15) < 0 < slopes.at(math.pi / 4 + 1e-15)
    np.testing.assert_allclose(slopes(beside), _objective(loss).gradient(beside), rtol=1e-8)


def test_a_mean_of_squares_from_the_table_is_never_negative() -> None:
    image = np.random.default_rng(0).random((24, 24))
    line = along(
        Experiment(image=image, kernel_size=9, wavelength=5.0, sigma=2.0, loss="mse"), "theta"
    )
    table = TabulatedObjective(line, find_critical_points(line))
    values = math.pi / 4 + np.linspace(-1, 1, 41) * 1e-7
    # Without care rounding shows: the loss there is some 1e-13, a part of 1e-14 of its largest.
    assert table.tables[0](values).min() < 0
    assert table.losses_and_gradients(torch.tensor(values))[0].min() >= 0


@pytest.mark.parametrize("target", [0.25, 0.3])
def test_a_corner_at_the_target_keeps_its_slopes_in_the_table(target: float) -> None:
    # Autograd says 0 right at the corner.
    objective = interval(lambda v: (v - target).abs(), -1.0, 1.0, target)
    slopes = tabulate(objective)[1]
    assert slopes.at(target - 0.01) == pytest.approx(-1, abs=1e-9)
    assert slopes.at(target + 0.01) == pytest.approx(1, abs=1e-9)


def test_a_series_that_has_not_ended_is_in_no_table() -> None:
    # The square of |d| + d^2 / 10 has a jump in its third derivative, which no series ends at.
    objective = own_objective(
        lambda v: (v - 0.5).abs() + 0.1 * (v - 0.5) ** 2, range=(-1.0, 2.0), target=0.5
    )
    at = np.array([-0.9, 0.1, 0.46, 0.54, 1.9])
    expected = np.sign(at - 0.5) + 0.2 * (at - 0.5)
    np.testing.assert_allclose(tabulate(objective)[1](at), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_batch_is_one_optimizer_for_every_rate(name: str) -> None:
    # One torch optimizer a run, looked up by its name, on a gradient that changes its sign.
    classes = {attribute.lower(): getattr(torch.optim, attribute) for attribute in dir(torch.optim)}
    kind = classes.get(name, OPTIMIZERS[name])
    rates = torch.tensor([0.001, 0.001, 0.02, 0.02, 0.3, 0.3], dtype=torch.float64)
    starts = torch.tensor([0.2, -1.3, 0.2, -1.3, 0.2, -1.3], dtype=torch.float64)
    values, path = starts.clone(), [starts.numpy()]
    update = BatchUpdate(OptimizerSettings(name, 1.0, steps=60), rates)
    for _ in range(60):
        update.apply(values, torch.sin(3 * values))
        path.append(values.numpy().copy())
    alone = [
        train(
            lambda v: -torch.cos(3 * v) / 3,
            float(start),
            lambda p, rate=rate: kind(p, lr=float(rate)),
            60,
        ).values
        for start, rate in zip(starts, rates, strict=True)
    ]
    np.testing.assert_allclose(np.array(path).T, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "more", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}], ids=["heavy", "nesterov"]
)
def test_batch_of_momentum_is_torchs(more: dict[str, Any]) -> None:
    rates = torch.tensor([0.01, 0.05], dtype=torch.float64)
    values = torch.tensor([0.2, 0.7], dtype=torch.float64)
    starts = values.tolist()
    update = BatchUpdate(OptimizerSettings("sgd", 1.0, steps=60, **more), rates)
    for _ in range(60):
        update.apply(values, torch.sin(3 * values))
    for value, start, rate in zip(values.tolist(), starts, rates.tolist(), strict=True):
        log = train(
            lambda v: -torch.cos(3 * v) / 3,
            start,
            lambda p, rate=rate: torch.optim.SGD(p, lr=rate, **more),
            60,
        )
        assert value == pytest.approx(log.values[-1], abs=1e-12)


def test_batch_keeps_the_end_and_the_extent_of_every_run() -> None:
    objective = wave()
    table = TabulatedObjective(objective, find_critical_points(objective))
    settings = OptimizerSettings("sgd", 1.0, steps=37)
    lrs, starts = np.array([0.1, 0.7]), np.array([-1.0, 0.0, 2.0])
    runs = descend_batch(table, settings, lrs, starts)
    assert runs.tail.shape == (4, 6)
    for column, (lr, start) in enumerate((lr, start) for lr in lrs for start in starts):
        value, path = float(start), [float(start)]
        for _ in range(37):
            value -= lr * math.sin(value - 0.5)
            path.append(value)
        np.testing.assert_allclose(runs.tail[:, column], path[-4:], rtol=0, atol=1e-9)
        ends = [min(path), max(path)]
        np.testing.assert_allclose(runs.extent[:, column], ends, rtol=0, atol=1e-9)


def _windows(objective: Line, start: float, lrs: npt.NDArray[np.float64]) -> Windows:
    table = TabulatedObjective(objective, find_critical_points(objective))
    return measure_windows(table, OptimizerSettings("sgd", 1.0, steps=600), lrs, start)[0]


def test_windows_of_a_wave_against_its_closed_form() -> None:
    # d <- d - lr sin d, one minimum, L'' = 1: it holds below 2. To come from 1.5 within a degree by
    # step 540 takes 540 lr > ln(tan(0.75) / tan(0.00873)), the flow's own time.
    lrs = log_spaced(1e-4, 20.0, 161)
    windows = _windows(wave(), -1.0, lrs)
    slowest = math.log(math.tan(0.75) / math.tan(math.radians(0.5))) / 540
    step = lrs[1] / lrs[0]
    low, high = windows.working_lr[0]
    assert slowest / step**2 < low < slowest * step**2
    assert 2 / step < high < 2 * step
    assert windows.starts_in_target_basin
    assert windows.escape_lr is None
    assert windows.hold_lr is not None
    assert 2 / step < windows.hold_lr < 2 * step
    assert windows.failure_below == "unfinished"


def test_windows_of_the_needle_against_brute_force() -> None:
    # The loop is the test's own, on the closed form of the gradient.
    lrs, start = log_spaced(1e-3, 20.0, 121), 0.8 + math.pi + 0.3
    windows = _windows(needle(), start, lrs)

    def path(lr: float, first: float) -> npt.NDArray[np.float64]:
        d, values = first - 0.8, [first]
        for _ in range(600):
            slope = 40 * math.sin(d) * math.exp(20 * (math.cos(d) - 1)) - 0.3 * math.sin(d)
            d -= lr * slope
            values.append(d + 0.8)
        return np.array(values)

    # The edge: the maximum between, where 40 exp(20 (cos d - 1)) = 0.3.
    edge = math.acos(1 + math.log(0.3 / 40) / 20)
    own = (0.8 + edge, 0.8 + 2 * math.pi - edge)
    paths = [path(lr, start) for lr in lrs]
    left = [bool(((p < own[0]) | (p > own[1])).any()) for p in paths]
    assert windows.escaped.tolist() == left
    assert windows.escape_lr == lrs[left.index(True)]
    # Between stability and escape lies room: 2 / 0.3 is where the minimum lets go.
    assert 2 / 0.3 <= windows.escape_lr < 14
    assert windows.working_lr == []
    held = []
    for lr in lrs:
        beside = [path(lr, 0.8 + offset) for offset in (-0.01, 0.01)]
        stays = all((distance(p, 0.8, None) <= edge).all() for p in beside)
        held.append(stays and all(stays_at(p, 0.8, math.radians(1), 2 * math.pi) for p in beside))
    assert windows.held.tolist() == held
    last = len(held) - 1 - held[::-1].index(True)
    assert windows.hold_lr == lrs[last]
    assert 2 / 39.7 / (lrs[1] / lrs[0]) < windows.hold_lr < 2 / 39.7


def _made(**fields: Any) -> Windows:
    count = len(fields["works"])
    codes = np.array([0 if works else 7 for works in fields["works"]], dtype=np.int8)
    return Windows(
        start=0.0,
        lrs=np.arange(1.0, count + 1),
        outcomes=codes,
        periods=np.zeros(count, dtype=np.int64),
        escaped=np.array(fields.get("escaped", [False] * count)),
        held=np.array(fields.get("held", [False] * count)),
        starts_in_target_basin=fields.get("inside", False),
    )


@pytest.mark.parametrize(
    ("works", "intervals"),
    [
        ([0, 0, 0], []),
        ([1, 1, 1], [(1.0, 3.0)]),
        ([0, 1, 0, 1, 1], [(2.0, 2.0), (4.0, 5.0)]),
        ([1, 0, 0, 0, 1], [(1.0, 1.0), (5.0, 5.0)]),
    ],
)
def test_working_rates_are_intervals(works: list[int], intervals: list[Any]) -> None:
    assert _made(works=works).working_lr == intervals


def test_hold_ends_at_the_first_rate_that_breaks() -> None:
    # Rates too small to arrive come first; strays above the first break do not count.
    windows = _made(works=[0] * 7, held=[False, True, True, True, False, True, False])
    assert windows.hold_lr == 4.0
    assert _made(works=[0] * 3, held=[False] * 3).hold_lr is None
    assert _made(works=[0] * 3, held=[False, True, True]).hold_lr == 3.0


def test_escape_is_the_first_rate_that_leaves() -> None:
    escaped = [False, False, True, False, True]
    assert _made(works=[0] * 5, escaped=escaped).escape_lr == 3.0
    assert _made(works=[0] * 5, escaped=escaped, inside=True).escape_lr is None
    assert _made(works=[0] * 5).escape_lr is None


@pytest.mark.parametrize(("low", "high", "count"), [(0, 1, 5), (1, 1, 5), (2, 1, 5), (1, 2, 1),
                                                    (-1, 1, 5), (1, math.inf, 5)])  # fmt: skip
def test_impossible_scans_are_refused(low: float, high: float, count: int) -> None:
    with pytest.raises(UsageError):
        log_spaced(low, high, count)


def test_map_of_lbfgs_is_refused() -> None:
    for settings in (OptimizerSettings("lbfgs", 1.0), OptimizerSettings(schedule="cosine")):
        with pytest.raises(UsageError):
            run_basins(wave(), settings, log_spaced(0.1, 1.0, 3), np.array([0.0]))


def test_summary_counts_its_own_cells() -> None:
    basins = run_basins(
        wave(), OptimizerSettings("sgd", 1.0, steps=200), log_spaced(1e-2, 20.0, 15)
    )
    shown = basins.to_dict()
    assert sum(shown["fractions"].values()) == pytest.approx(1.0)
    reached = basins.outcomes == OUTCOME_NAMES.index("reached")
    assert shown["fractions"]["reached"] == reached.mean()
    assert shown["reachable_share"] == reached.mean(axis=1).max()
    assert shown["best_lr"] in basins.lrs[reached.mean(axis=1) == reached.mean(axis=1).max()]
    saved = basins.data()["basins.npz"]
    assert saved["outcome"].shape == (15, 361) == (len(saved["lr"]), len(saved["starts"]))
    assert saved["starts"][[0, -1]].tolist() == [-math.pi, math.pi]


def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    run_basins(
        wave(),
        OptimizerSettings("sgd", 1.0, steps=110),
        log_spaced(0.1, 1.0, 3),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9])
def test_hold_is_the_bound_of_the_curvature(beta: float) -> None:
    # 2 (1 + beta) / L'' (Goh 2017), from differences of the loss: not from the landscape.
    objective = _objective("mse")
    h = 1e-3
    low, middle, high = objective.loss_at(math.pi / 4 + np.array([-h, 0.0, h]))
    bound = 2 * (1 + beta) * h**2 / (low - 2 * middle + high)
    lrs = log_spaced(bound / 30, bound * 3, 91)
    table = TabulatedObjective(objective, _landscape("mse"))
    settings = OptimizerSettings("sgd", 1.0, beta, steps=1500)
    (windows,) = measure_windows(table, settings, lrs, 0.3)
    assert windows.hold_lr is not None
    step = lrs[1] / lrs[0]
    # Just below the bound the decay is too slow to arrive within the steps.
    assert bound / step**2 < windows.hold_lr < bound * step


def _photograph(**settings: Any) -> Callable[[], Basins]:
    def measure() -> Basins:
        objective = along(Experiment(**settings), "theta")
        how = OptimizerSettings("sgd", 1.0, steps=1500)
        # Few starts: what is asked for is about one.
        return run_basins(objective, how, log_spaced(1e-4, 10.0, 241), np.array([-0.8, 0.8]))

    return measure


@pytest.mark.long
def test_rates_on_the_photograph_mse() -> None:
    shown = _photograph(loss="mse")().to_dict()
    assert shown["working_lr"] == []
    assert shown["escape_lr"] == pytest.approx(0.1957, abs=5e-5)
    assert shown["hold_lr"] == pytest.approx(0.01957, abs=5e-6)


def test_rates_on_the_photograph_rmse() -> None:
    shown = _photograph(loss="rmse")().to_dict()
    assert shown["working_lr"] == []
    assert shown["escape_lr"] == pytest.approx(1.3335, abs=5e-5)
    assert shown["hold_lr"] == pytest.approx(0.00261, abs=5e-6)


def test_rates_on_the_photograph_round_filter() -> None:
    shown = _photograph(loss="mse", sigma=3.0, gamma=1.0)().to_dict()
    assert len(shown["working_lr"]) == 1
    low, high = shown["working_lr"][0]
    assert low == pytest.approx(0.0025, abs=5e-5)
    assert high == pytest.approx(0.402, abs=5e-4)
    assert shown["escape_lr"] is None


@pytest.mark.slow
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("loss", ["mse", "rmse"])
def test_no_rate_works_on_the_photograph(loss: str, momentum: float) -> None:
    # SCIENCE: with MSE or with RMSE, with or without momentum 0.9. The loop here is torch's own.
    objective = along(Experiment(loss=loss), "theta")
    for lr in np.geomspace(1e-4, 10.0, 241)[::8]:
        settings = OptimizerSettings("sgd", float(lr), momentum, steps=1500)
        values = np.array([step.values[0] for step in steps_of(objective, settings, -math.pi / 4)])
        assert not stays_at(values, math.pi / 4, math.radians(1), math.pi)


@pytest.mark.parametrize(("factor", "outcome"), [(-0.95, "reached"), (-1.05, "nonfinite")])
def test_run_that_leaves_the_interval_comes_back_or_not(factor: float, outcome: str) -> None:
    # v - 1 is multiplied by 1 - 2 lr each step: from 1.95, an end of the range, the first step
    # leaves it.
    objective = interval(lambda v: (v - 1) ** 2, 0.8, 2.0, target=1.0)
    lr = (1 - factor) / 2
    basins = run_basins(
        objective, OptimizerSettings("sgd", steps=1500), lrs=np.array([lr]), starts=np.array([1.95])
    )
    assert OUTCOME_NAMES[int(basins.outcomes[0, 0])] == outcome
    single = run(objective, OptimizerSettings("sgd", lr, steps=1500), 1.95)
    assert single.outcome == outcome


def test_what_is_singular_outside_spoils_its_own_place_only() -> None:
    # Like a width that crosses zero.
    objective = interval(lambda v: torch.exp(-1 / v**2), 0.5, 2.0)
    losses, _ = tabulate(objective)
    values = np.array([-3.0, -0.5, 0.3, 5.0])
    np.testing.assert_allclose(losses(values), np.exp(-1 / values**2), atol=1e-6)


def test_a_map_that_is_interrupted_stops_at_the_next_report() -> None:
    # 50 rates from 3000 starts are five blocks, each of four reports.
    objective = bowl()
    table = TabulatedObjective(objective, find_critical_points(objective))
    settings = OptimizerSettings("sgd", steps=100)
    told: list[int] = []

    def interrupt(done: int, total: int) -> None:
        told.append(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descend_batch(
            table, settings, np.geomspace(1e-3, 1e-1, 50), np.linspace(-1, 3, 3000),
            progress=interrupt,
        )  # fmt: skip
    # At the most every block makes one report; those that had not begun make none.
    assert 1 <= len(told) <= 5


def test_where_no_start_arrives_there_is_no_best_rate() -> None:
    # Too slow by far: 20 steps of a rate of 1e-9 from starts away from the target.
    made = run_basins(
        bowl(), OptimizerSettings("sgd", steps=20), np.array([1e-9, 2e-9]), np.array([-0.9, 2.9])
    )
    assert made.best_lr is None
    assert made.to_dict()["reachable_share"] == 0.0
    assert made.windows.hold_lr is not None


@pytest.mark.parametrize("count", [0, 1])
def test_one_start_is_no_map(count: int) -> None:
    with pytest.raises(UsageError, match="at least 2 starts"):
        gd.basins(bowl(), starts=count)


def _ends_at_its_range(value: Tensor) -> Tensor:
    """(v - 0.3)^2 on [0, 1], and nowhere else."""
    if not 0 <= value.detach() <= 1:
        raise ValueError("outside")
    return (value - 0.3) ** 2


def test_where_a_function_refuses_to_be_evaluated_is_nan() -> None:
    objective = own_objective(_ends_at_its_range, range=(0.0, 1.0), target=0.3)
    losses, slopes = tabulate(objective)
    values = np.array([-2.0, -0.1, 0.0, 0.7, 1.0, 1.1, 3.0])
    expected = np.where((values >= 0) & (values <= 1), (values - 0.3) ** 2, math.nan)
    np.testing.assert_allclose(losses(values), expected, atol=1e-12)
    np.testing.assert_array_equal(np.isnan(slopes(values)), np.isnan(expected))


def _ends_and_begins_again(value: Tensor) -> Tensor:
    """(v - 0.3)^2 on [0, 1], [-1.75, -1] and [2, 2.5]: a hole on either side."""
    at = float(value.detach())
    if not (0 <= at <= 1 or -1.75 <= at <= -1 or 2 <= at <= 2.5):
        raise ValueError("outside")
    return (value - 0.3) ** 2


def test_a_function_that_is_defined_again_farther_out_is_tabulated_there() -> None:
    losses, _ = tabulate(own_objective(_ends_and_begins_again, range=(0.0, 1.0), target=0.3))
    values = np.array([-2.0, -1.5, -0.5, 0.5, 1.5, 2.25, 2.75])
    defined = np.array([False, True, False, True, False, True, False])
    expected = np.where(defined, (values - 0.3) ** 2, math.nan)
    np.testing.assert_allclose(losses(values), expected, atol=1e-12)


def test_runs_that_leave_where_a_function_is_defined_have_broken_down() -> None:
    # d <- (1 - 2 lr) d: at rates below 1/2 it never overshoots; at 1.2 it is thrown out.
    objective = own_objective(_ends_at_its_range, range=(0.0, 1.0), target=0.3)
    settings = OptimizerSettings("sgd", 1.2, steps=200)
    basins = run_basins(objective, settings, np.array([0.3, 1.2]), np.array([0.0, 0.8, 1.0]))
    names = [[OUTCOME_NAMES[code] for code in row] for row in basins.outcomes]
    assert names == [["reached"] * 3, ["nonfinite"] * 3]
    table = TabulatedObjective(objective, basins.sweep.landscape)
    values = [step.values[0] for step in steps_of(table, settings, 0.8)]
    assert not math.isfinite(values[-1])
    assert not 0 <= values[-2] <= 1


@pytest.mark.parametrize("size", [1.0, 0.004, 250.0])
def test_windows_do_not_hang_on_the_parameters_unit(size: float) -> None:
    def well(values: Tensor) -> Tensor:
        return ((values / size) ** 2 - 1) ** 2 / 4 + values / size / 20

    # The same wells, ever wider: rates grow with the square of the width.
    objective = interval(well, -2 * size, 2 * size, target=-size)
    windows = _windows(objective, 0.9 * size, size**2 * log_spaced(1e-2, 4.0, 41))
    assert windows.hold_lr is not None
    # L'' = 3 v^2 - 1 at the minimum beside -1, where v^3 - v + 1/20 = 0.
    root = min(np.roots([1, 0, -1, 0.05]).real)
    bound = size**2 * 2 / (3 * root**2 - 1)
    assert bound / (windows.lrs[1] / windows.lrs[0]) ** 2 < windows.hold_lr < bound


def test_a_flat_loss_has_a_map() -> None:
    objective = interval(lambda v: 0 * v + 1.0, 0.0, 1.0, target=0.5)
    basins = run_basins(objective, OptimizerSettings(steps=40), np.array([0.1]), np.array([0.2]))
    assert OUTCOME_NAMES[int(basins.outcomes[0, 0])] in ("frozen", "plateau")
    assert basins.table_error == 0


def test_weight_decay_out_of_a_flat_start_has_moved() -> None:
    # From 1, adamw's decay alone, 0.99 a step, leads below 1/2, where the slope begins.
    table: Any = SimpleNamespace(gradient_on=lambda runs: lambda v: np.where(v < 0.5, 1.0, 0.0))
    for steps, moved in ((60, False), (80, True)):
        settings = OptimizerSettings("adamw", 1.0, steps=steps)
        runs = descend_batch(table, settings, np.array([1.0]), np.array([1.0]))
        assert runs.moved.tolist() == [moved], steps


def test_maps_say_that_nesterov_was_on() -> None:
    settings = OptimizerSettings("sgd", 1.0, 0.9, nesterov=True, steps=20)
    basins = run_basins(bowl(), settings, np.array([0.1]), np.array([0.2]))
    assert basins.to_dict()["nesterov"] is True


def test_runs_that_stand_still_end_as_if_they_went_on() -> None:
    objective = wave()
    table = TabulatedObjective(objective, find_critical_points(objective))
    lrs, starts = np.array([0.3, 1.0, 1.9, 2.4]), np.linspace(-3, 3, 9)
    runs = descend_batch(table, OptimizerSettings("sgd", 1.0, steps=1000), lrs, starts)
    values = np.tile(starts, len(lrs))
    low, high, tail = values.copy(), values.copy(), []
    for _ in range(1000):
        values = values - np.repeat(lrs, len(starts)) * table.tables[1](values)
        low, high = np.minimum(low, values), np.maximum(high, values)
        tail.append(values)
    # At the first rates nearly all stand still long before the end.
    assert np.mean(tail[300] == tail[301]) > 0.3
    np.testing.assert_allclose(runs.tail, tail[-100:], rtol=0, atol=1e-9)
    np.testing.assert_allclose(runs.extent, [low, high], rtol=0, atol=1e-9)
    np.testing.assert_allclose(runs.last_gradient, table.tables[1](values), rtol=0, atol=1e-9)


def test_windows_on_several_landscapes_are_those_of_each() -> None:
    experiment = Experiment("noise", kernel_size=11, wavelength=6, sigma=2, loss="mse")
    tables = [
        TabulatedObjective(line, find_critical_points(line))
        for line in (along(replace(experiment, gamma=gamma)) for gamma in (0.4, 1.0))
    ]
    # From too slow to a cycle: what chaos ends in is for rounding to decide.
    units, rates = [1.0, 20.0], np.geomspace(1e-6, 6e-3, 20)
    settings = OptimizerSettings(steps=300)
    joint = measure_windows_of_many(tables, units, settings, rates, [-0.9, 0.1])
    for table, unit, found in zip(tables, units, joint, strict=True):
        for mine, other in zip(
            found, measure_windows(table, settings, unit * rates, -0.9, 0.1), strict=True
        ):
            assert len(set(mine.outcomes)) >= 2
            np.testing.assert_array_equal(mine.outcomes, other.outcomes)
            np.testing.assert_array_equal(mine.escaped, other.escaped)
            np.testing.assert_array_equal(mine.held, other.held)
            assert mine.start == other.start
