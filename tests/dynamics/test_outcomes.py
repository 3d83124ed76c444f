"""Outcomes of tails made by hand; exponents against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import (
    CODES,
    OUTCOME_NAMES,
    Jump,
    classify,
    count_symptoms,
    find_period,
    jump_steps,
    left_basin,
    lyapunov_exponent,
    surroundings,
    tail_length,
)
from gabordiag.dynamics.run import Trajectory
from gabordiag.dynamics.run import judge as judge_run
from gabordiag.landscape.critical import Certificate
from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.objective.objective import Line, OfLine
from gabordiag.objective.space import Parameter

Array = npt.NDArray[np.float64]
# One period of 2 pi: target at 0.5, another minimum at 0.5 - pi, maxima half way between.
TARGET, OTHER = 0.5, 0.5 - math.pi
HEIGHT, STEEPEST = 2.0, 1.0
TAIL = 60


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    """Written down, not computed: -cos(2 (v - 0.5)) tilted so that the target is lowest."""
    low, high = 0.5 - math.pi / 2, 0.5 + math.pi / 2
    points = (
        CriticalPoint(OTHER, 1.0, 1.0, "minimum", False, (low - math.pi, low), 2.0),
        CriticalPoint(low, HEIGHT, -1.0, "maximum"),
        CriticalPoint(TARGET, 0.0, 1.0, "minimum", True, (low, high), 2.0),
        CriticalPoint(high, HEIGHT, -1.0, "maximum"),
    )
    parameter = Parameter("theta", -math.pi, math.pi, 2 * math.pi, TARGET, 0.0, is_angle=True)
    return Landscape(parameter, points, Certificate("proven", "given"), HEIGHT, STEEPEST, 0.0)


def _loss(values: Array) -> Array:
    """Anything with the period: only its ups and downs matter."""
    return 1 - np.cos(values - TARGET)


def _logistic(count: int, seed: float = 0.3123) -> Array:
    """The logistic map at r = 4: chaotic, exponent ln 2."""
    values = [seed]
    for _ in range(count - 1):
        values.append(4 * values[-1] * (1 - values[-1]))
    return np.array(values)


t = np.arange(TAIL, dtype=np.float64)
ROUGH = np.array([1.3, 2.9, 1.9, 2.4, 1.6])
NAN_LAST = np.where(t < TAIL - 1, 1.5, np.nan)

# name -> (outcome, period, values, gradient at the last, whether anything moved)
TAILS: dict[str, tuple[str, int, Array, float, bool]] = {
    "at the target": ("reached", 0, np.full(TAIL, TARGET), 0.0, True),
    "within one degree": ("reached", 0, TARGET + math.radians(0.9) * np.sin(t), 0.1, True),
    "a copy": ("reached", 0, np.full(TAIL, TARGET + 6 * math.pi), 0.0, True),
    "a small cycle there": ("reached", 2, TARGET + 0.01 * (-1.0) ** t, 0.01, True),
    "other minimum": ("local_minimum", 0, np.full(TAIL, OTHER), 0.0, True),
    "other minimum, a turn on": ("local_minimum", 0, np.full(TAIL, OTHER + 4 * math.pi), 0.0, True),
    "flat": ("plateau", 0, 2.0 + 1e-7 * t, 1e-5, True),
    "period 2": ("cycle", 2, 1.5 + 0.4 * (-1.0) ** t, 0.5, True),
    "period 3": ("cycle", 3, np.tile([1.2, 2.5, 1.9], TAIL // 3), 0.5, True),
    "period 5": ("cycle", 5, np.tile(ROUGH, TAIL // 5), 0.5, True),
    "period 2, tiny": ("cycle", 2, 1.5 + 1e-9 * (-1.0) ** t, 0.5, True),
    "period 3, tiny": ("cycle", 3, 1.5 + 1e-9 * np.tile([0.0, 2.0, 1.0], TAIL // 3), 0.5, True),
    "period 5, tiny": ("cycle", 5, 1.5 + 1e-9 * np.tile(ROUGH, TAIL // 5), 0.5, True),
    "a whole period each step": ("running", 0, 1.2 + 2 * math.pi * t, 0.5, True),
    "three periods back each step": ("running", 0, 1.2 - 6 * math.pi * t, 0.5, True),
    "period 2, one turn in all": (
        "running", 2, 1.5 + 0.4 * (-1.0) ** t + 2 * math.pi * (t // 2), 0.5, True,
    ),
    "period 3, back": (
        "running", 3, np.tile([1.2, 2.5, 1.9], TAIL // 3) - 4 * math.pi * (t // 3), 0.5, True,
    ),
    # There and back by whole turns: a cycle in value and angle alike.
    "period 2, a turn forth and back": (
        "cycle", 2, 1.5 + 0.4 * (-1.0) ** t + 2 * math.pi * (t % 2), 0.5, True,
    ),
    "logistic map": ("erratic", 0, 1.0 + 1.8 * _logistic(TAIL), 0.5, True),
    "logistic map, running": (
        "erratic", 0, 1.0 + 1.8 * _logistic(TAIL) + 2 * math.pi * np.cumsum(t % 7 == 3), 0.5, True,
    ),
    "slow descent": ("unfinished", 0, 2.5 - 0.004 * t, 0.5, True),
    "decaying oscillation": ("unfinished", 0, 1.5 + 0.5 * 0.97**t * (-1.0) ** t, 0.5, True),
    # Down to the target by half of the tail, then across its kink to and fro.
    "arrival in the tail": (
        "unfinished", 0,
        TARGET + np.where(t < 30, 1.2 * (1 - t / 30), 0.01 * np.sin(7 * t)), 1.0, True,
    ),
    # A chaotic run that happens to end near the target has not come down to it.
    "near the target by chance": (
        "erratic", 0, np.append(1.0 + 1.8 * _logistic(TAIL - 1), TARGET), 0.5, True,
    ),
    "jitter at the other minimum": (
        "local_minimum", 0, OTHER + 0.14 * (_logistic(TAIL) - 0.5), 0.1, True,
    ),
    "jitter up its walls": ("erratic", 0, OTHER + 0.8 * (_logistic(TAIL) - 0.5), 0.1, True),
    "jitter at the target": ("erratic", 0, TARGET + 0.14 * (_logistic(TAIL) - 0.5), 0.1, True),
    "no gradient": ("frozen", 0, np.full(TAIL, 2.0), 0.0, False),
    "NaN": ("nonfinite", 0, NAN_LAST, math.nan, True),
    # Doubles near 1e300 lie 1e284 apart: which angle that is, is rounding.
    "too far out to be an angle": ("nonfinite", 0, 1e300 * (-1.0) ** t, 0.5, True),
    "infinite": ("nonfinite", 0, np.where(t < 30, 1.5, np.inf), 0.5, True),
}  # fmt: skip


def judge(
    landscape: Landscape, values: Array, losses: Array, gradients: Array, moved: Array
) -> tuple[Array, Array]:
    """Outcome codes and periods of runs (tail, n) of one parameter."""
    slopes = np.abs(gradients) * landscape.parameter.tolerance
    return classify(surroundings(landscape), values[..., None], losses, slopes, moved)


def _judge(landscape: Landscape, names: list[str]) -> tuple[Array, Array]:
    values = np.stack([TAILS[name][2] for name in names], axis=1)
    with np.errstate(invalid="ignore"):
        losses = _loss(values)
    gradients = np.array([TAILS[name][3] for name in names])
    moved = np.array([TAILS[name][4] for name in names])
    return judge(landscape, values, losses, gradients, moved)


@pytest.mark.parametrize("name", TAILS)
def test_tail_made_by_hand(landscape: Landscape, name: str) -> None:
    codes, periods = _judge(landscape, [name])
    outcome, period = TAILS[name][:2]
    assert OUTCOME_NAMES[codes[0]] == outcome
    if outcome in ("cycle", "running", "erratic", "unfinished"):
        assert periods[0] == period


def test_every_outcome_is_made() -> None:
    assert {outcome for outcome, *_ in TAILS.values()} == set(OUTCOME_NAMES)


def test_batch_is_judged_like_single_runs(landscape: Landscape) -> None:
    names = list(TAILS)
    codes, periods = _judge(landscape, names)
    singles = [_judge(landscape, [name]) for name in names]
    assert codes.tolist() == [int(code[0]) for code, _ in singles]
    assert periods.tolist() == [int(period[0]) for _, period in singles]


@pytest.mark.parametrize("amplitude", [1.0, 1e-2, 1e-5, 1e-9])
@pytest.mark.parametrize("period", [2, 3, 4, 7, 16])
def test_shortest_period_is_found(landscape: Landscape, period: int, amplitude: float) -> None:
    shape = np.random.default_rng(period).uniform(-1, 1, period)
    values = 1.8 + amplitude / 2 * np.tile(shape, 200 // period + 1)[:200]
    tails = (values[:, None], _loss(values)[:, None], np.array([0.5]), np.array([True]))
    codes, periods = judge(landscape, *tails)
    assert periods.tolist() == [period]
    assert codes[0] == CODES["cycle"]


def test_period_is_not_read_into_what_was_seen_less_than_three_times(landscape: Landscape) -> None:
    shape = np.random.default_rng(1).uniform(1.0, 2.6, 25)
    values = np.tile(shape, 3)[:60]
    tails = (values[:, None], _loss(values)[:, None], np.array([0.5]), np.array([True]))
    assert judge(landscape, *tails)[1].tolist() == [0]


@pytest.mark.parametrize("degrees", [0.99, 1.01])
def test_one_degree_decides(landscape: Landscape, degrees: float) -> None:
    # A single value outside is enough.
    values = np.full(TAIL, TARGET)
    values[TAIL // 2] += math.radians(degrees)
    tails = (values[:, None], _loss(values)[:, None], np.array([0.0]), np.array([True]))
    reached = judge(landscape, *tails)[0][0] == CODES["reached"]
    assert reached == (degrees < 1)


@pytest.mark.parametrize(("steps", "tail"), [(500, 50), (1500, 150), (10, 2), (1, 2), (505, 51)])
def test_tail_is_a_tenth(steps: int, tail: int) -> None:
    assert tail_length(steps) == tail


def test_jumps_are_rises_by_a_third_of_the_height() -> None:
    losses = np.array([1.0, 0.1, 0.2, 0.9, 0.1, 0.39, np.nan, 0.0, 2.0])
    # Rises: 0.1, 0.7, 0.29, and 2.0; the landscape's height is 1.
    assert jump_steps(losses, 1.0).tolist() == [2, 7]


class Bent(Line):
    """L'' = 7 everywhere."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        return 3.5 * values**2


def only_jump(landscape: Landscape, values: Array, losses: Array, lr: float) -> Jump:
    """The jump of a run with these values and losses."""
    columns = (values, np.ones_like(values), np.zeros_like(values), np.full_like(values, lr))
    path, gradients, updates, lrs = (column[:, None] for column in columns)
    made = Trajectory(path, losses, gradients, updates, lrs)
    settings = OptimizerSettings("sgd", 0.5, steps=len(values) - 1)
    (jump,) = judge_run(OfLine(Bent(landscape.parameter)), settings, landscape, made, lrs[0]).jumps
    return jump


def test_jump_tells_where_it_stood_and_landed(landscape: Landscape) -> None:
    values = np.array([0.4, 0.6, 0.6 + math.pi - 0.2, 0.5])
    losses = np.array([0.1, 0.05, 1.5, 0.0])
    shown = only_jump(landscape, values, losses, 0.5).to_dict()
    assert shown["step"] == 1
    assert (shown["from"], shown["to"]) == (0.6, values[2])
    assert (shown["loss_before"], shown["loss_after"]) == (0.05, 1.5)
    assert shown["lr_times_curvature"] == 3.5
    assert shown["left_basin"] is True
    assert shown["landed_near"] == OTHER


def test_jump_within_the_basin_left_nothing(landscape: Landscape) -> None:
    values, losses = np.array([0.5, 1.9]), np.array([0.0, 1.4])
    jump = only_jump(landscape, values, losses, math.nan)
    assert not jump.left_basin
    assert jump.landed_near == TARGET
    assert jump.to_dict()["lr_times_curvature"] is None


def test_another_copy_of_the_same_basin_is_elsewhere(landscape: Landscape) -> None:
    target = landscape.target
    inside = np.array([TARGET - 1.5, TARGET + 1.5])
    assert not left_basin(landscape, target, TARGET, inside)
    assert left_basin(landscape, target, TARGET, np.array([TARGET + 2 * math.pi]))
    assert not left_basin(landscape, target, TARGET + 2 * math.pi, inside + 2 * math.pi)
    assert left_basin(landscape, target, TARGET, np.array([TARGET, np.nan]))


def test_symptoms_are_counted() -> None:
    # Of the largest loss 10: below 3, then above 6 one step later.
    losses = np.array([9.0, 2.9, 6.1, 2.0, 5.0, 7.0, 3.0, 9.0, 1.0, 9.0, 1.0])
    assert count_symptoms(losses, 10.0) == 2
    assert count_symptoms(np.array([1.0]), 10.0) == 0


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.9, 2.5, 7.0])
def test_exponent_of_a_quadratic(factor: float) -> None:
    # Every step multiplies the distance by 1 - lr c.
    exponent = lyapunov_exponent(np.full(300, factor / 4), np.full(300, 4.0))
    assert exponent == pytest.approx(math.log(abs(1 - factor)), rel=1e-12)


def test_exponent_of_the_logistic_map_is_ln_2() -> None:
    # x <- x - lr L'(x) with lr L'(x) = x - 4 x (1 - x) is the map; lr L'' = 1 - 4 (1 - 2 x).
    orbit = _logistic(200_000)
    exponent = lyapunov_exponent(np.full(len(orbit), 0.5), (1 - 4 * (1 - 2 * orbit)) / 0.5)
    assert exponent == pytest.approx(math.log(2), abs=5e-3)


@pytest.mark.parametrize(
    ("lr", "beta"), [(0.1, 0.9), (0.5, 0.5), (0.9, 0.9), (1.2, 0.9), (0.02, 0.3)]
)
def test_exponent_of_the_heavy_ball_is_its_spectral_radius(lr: float, beta: float) -> None:
    # (w, v) <- (w - lr (beta v + c w), beta v + c w) on c w^2 / 2.
    curvature = 4.0
    matrix = np.array([[1 - lr * curvature, -lr * beta], [curvature, beta]])
    radius = np.abs(np.linalg.eigvals(matrix)).max()
    exponent = lyapunov_exponent(np.full(20_000, lr), np.full(20_000, curvature), beta)
    # The start of the tangent vector fades as 1 / n.
    assert exponent == pytest.approx(math.log(radius), abs=1e-3)


def test_heavy_ball_bound_is_where_the_exponent_changes_sign() -> None:
    beta, curvature = 0.9, 4.0
    bound = 2 * (1 + beta) / curvature

    def exponent(lr: float) -> float:
        result = lyapunov_exponent(np.full(20_000, lr), np.full(20_000, curvature), beta)
        assert result is not None
        return result

    assert exponent(0.98 * bound) < 0 < exponent(1.02 * bound)


@pytest.mark.parametrize(
    "curvatures",
    [np.empty(0), np.array([1.0, np.nan]), np.array([np.inf])],
    ids=["empty", "nan", "infinite"],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_exponent_is_not_made_up(curvatures: Array, momentum: float) -> None:
    assert lyapunov_exponent(np.full(len(curvatures), 0.1), curvatures, momentum) is None


def test_superstable_orbit_has_a_finite_exponent() -> None:
    exponent = lyapunov_exponent(np.full(10, 0.25), np.full(10, 4.0))
    assert exponent is not None
    assert -1000 < exponent < -100


@pytest.mark.parametrize("make", [lambda s: s, lambda s: -s, lambda s: s + 2 * math.pi * 1000])
def test_far_off_values_are_judged_like_near_ones(
    landscape: Landscape, make: Callable[[Array], Array]
) -> None:
    # Whole turns away from the origin the spacing of floats must not look like motion.
    shift = make(np.zeros(1))[0]
    values = 1.5 + 0.4 * (-1.0) ** t + shift
    tails = (values[:, None], _loss(values)[:, None], np.array([0.5]), np.array([True]))
    codes, periods = judge(landscape, *tails)
    assert (OUTCOME_NAMES[codes[0]], int(periods[0])) == ("cycle", 2)


def test_run_that_is_gone_from_an_interval_is_not_called_erratic() -> None:
    parameter = Parameter("v", 0.0, 1.0, None, 0.5, 0.0)
    points = (CriticalPoint(0.5, 0.0, 1.0, "minimum", True, (0.0, 1.0), 2.0),)
    bowl_ = Landscape(parameter, points, Certificate("proven", "given"), 1.0, 1.0, 0.0)
    growing = 0.5 + 10.0 * (-1.02) ** t
    coming_back = np.append(growing[:-1], 0.9)
    values = np.stack([growing, coming_back], axis=1)
    moved = np.ones(2, dtype=np.bool_)
    codes, _ = judge(bowl_, values, (values - 0.5) ** 2, np.ones(2), moved)
    assert [OUTCOME_NAMES[code] for code in codes] == ["nonfinite", "erratic"]


def test_a_start_outside_the_basin_has_left_it(landscape: Landscape) -> None:
    # A run from beside the target, where its basin is narrower than that.
    target = landscape.target
    assert target is not None
    assert left_basin(landscape, target, TARGET + 2.0, np.array([TARGET]))
    assert not left_basin(landscape, None, TARGET, np.array([TARGET + 2.0]))


def test_basins_are_found_by_value(landscape: Landscape) -> None:
    target = landscape.target
    assert landscape.basin_of(TARGET + 2 * math.pi + 1.0) == (
        target,
        pytest.approx((TARGET + 1.5 * math.pi, TARGET + 2.5 * math.pi)),
    )
    assert landscape.basin_of(math.nan) is None
    assert landscape.attractor_of(math.inf) is None
    # A maximum has none.
    assert landscape.basin_around(landscape.points[1], TARGET) is None


def test_a_single_value_repeats_nothing() -> None:
    assert find_period(Parameter("v", 0.0, 1.0, None, None, 0.0), np.array([0.3])) == 0


def test_a_factor_beyond_the_doubles_has_no_exponent() -> None:
    assert lyapunov_exponent(np.array([1e308]), np.array([-66.0])) is None
