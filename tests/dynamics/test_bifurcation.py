"""The attractor against the rate, on objectives whose bifurcations are known on paper."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from gabordiag.dynamics.bifurcation import Bifurcation, loss_curvatures, run_bifurcation
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES
from gabordiag.dynamics.windows import log_spaced
from gabordiag.errors import UsageError
from gabordiag.objective.objective import Line
from gabordiag.own.custom import own_objective
from tests.diagnosis.planting import Known, bowl, wave
from tests.landscape.planted import interval

STEPS = 3000


def logistic() -> Known:
    """4 v^3 / 3 - 3 v^2 / 2: gradient descent on it is the logistic map.

    v - lr (4 v^2 - 3 v) = (1 + 3 lr) v - 4 lr v^2, which x = 4 lr v / (1 + 3 lr) turns into
    r x (1 - x) with r = 1 + 3 lr. The minimum is 3/4, L'' = 3 there: r = 3 is lr = 2 / L''.
    """
    return Known(lambda v: 4 * v**3 / 3 - 3 * v**2 / 2, -0.25, 1.25, 0.75)


def _rate(r: float) -> float:
    return (r - 1) / 3


def _at(objective: Line, rates: list[float], start: float, momentum: float = 0.0) -> Bifurcation:
    settings = OptimizerSettings("sgd", 1.0, momentum, steps=STEPS)
    return run_bifurcation(objective, settings, np.array(rates), start=start)


def _is_at_rest(result: Bifurcation, index: int = 0) -> bool:
    return bool(np.ptp(result.values[index]) < 1e-9) and result.periods[index] < 2


@pytest.mark.parametrize("r", [2.1, 2.5, 2.95])
def test_logistic_map_rests_below_three(r: float) -> None:
    result = _at(logistic(), [_rate(r)], 0.3)
    assert _is_at_rest(result)
    assert result.values[0] == pytest.approx(0.75, abs=1e-9)
    # The fixed point's multiplier is 2 - r.
    assert result.lyapunov[0] == pytest.approx(math.log(abs(2 - r)), rel=1e-6)
    assert [kind for kind, *_ in result.bands] == ["settled"]


def test_rest_is_a_period_of_one() -> None:
    rates = [_rate(r) for r in (1.5, 2.1, 2.5, 2.8, 2.95)]
    assert _at(logistic(), rates, 0.3).periods.tolist() == [1] * 5


# Periods of the logistic map: doubling at 3 and 1 + sqrt 6, the period-3 window from 1 + sqrt 8.
KNOWN_PERIODS = {3.05: 2, 3.4: 2, 3.5: 4, 3.55: 8, 3.835: 3}


@pytest.mark.parametrize(("r", "period"), KNOWN_PERIODS.items())
def test_periods_of_the_logistic_map(r: float, period: int) -> None:
    result = _at(logistic(), [_rate(r)], 0.3)
    assert result.periods.tolist() == [period]
    values = result.values[0]
    assert len(np.unique(values.round(6))) == period
    assert result.lyapunov[0] < 0


@pytest.mark.parametrize("r", [3.7, 3.8, 3.9])
def test_chaos_of_the_logistic_map(r: float) -> None:
    result = _at(logistic(), [_rate(r)], 0.3)
    assert result.periods.tolist() == [0]
    assert OUTCOME_NAMES[result.outcomes[0]] == "erratic"
    assert result.lyapunov[0] > 0.2
    assert [kind for kind, *_ in result.bands] == ["chaos"]


def test_values_of_the_two_cycle_are_the_roots() -> None:
    # x = (r + 1 +- sqrt((r - 3) (r + 1))) / (2 r)
    r = 3.2
    lr = _rate(r)
    roots = [(r + 1 + sign * math.sqrt((r - 3) * (r + 1))) / (2 * r) for sign in (-1, 1)]
    result = _at(logistic(), [lr], 0.3)
    expected = sorted(x * (1 + 3 * lr) / (4 * lr) for x in roots)
    found = sorted(result.values[0][-2:].tolist())
    assert found == pytest.approx(expected, abs=1e-9)
    # The cycle's multiplier is 4 + 2 r - r^2, over two steps.
    assert result.lyapunov[0] == pytest.approx(math.log(abs(4 + 2 * r - r**2)) / 2, rel=1e-6)


def test_period_doubles_at_two_over_the_curvature() -> None:
    bound = 2 / 3
    result = _at(logistic(), [0.98 * bound, 1.02 * bound], 0.3)
    assert _is_at_rest(result)
    assert result.periods[1] == 2
    assert result.landscape.target is not None
    assert result.landscape.target.stable_lr == pytest.approx(bound, rel=1e-9)
    assert result.to_dict()["target_stable_lr"] == pytest.approx(bound, rel=1e-9)


def test_wave_flips_between_two_values() -> None:
    # Between 2 and pi the attractor is +-d with lr sin d = 2 d, and each step stretches by
    # 1 - lr cos d.
    lr = 2.6
    low, high = 0.1, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if lr * math.sin(middle) > 2 * middle else (low, middle)
    result = _at(wave(), [lr], -1.0)
    assert result.periods.tolist() == [2]
    assert np.abs(result.values[0] - 0.5) == pytest.approx(low, abs=1e-9)
    assert result.lyapunov[0] == pytest.approx(math.log(abs(1 - lr * math.cos(low))), rel=1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.9])
def test_heavy_ball_holds_to_its_own_bound(beta: float) -> None:
    # L'' = 1. The bound is local: the start is beside the minimum.
    bound = 2 * (1 + beta)
    result = _at(wave(), [0.9 * bound, 1.1 * bound], 0.51, beta)
    assert _is_at_rest(result)
    assert result.lyapunov[0] < 0
    assert not _is_at_rest(result, 1)


def test_bands_join_equal_behaviour_and_cover_the_scan() -> None:
    lrs = log_spaced(_rate(2.0), _rate(3.9), 120)
    settings = OptimizerSettings("sgd", 1.0, steps=STEPS)
    result = run_bifurcation(logistic(), settings, lrs, start=0.3)
    bands = result.bands
    assert bands[0][0] == "settled"
    assert bands[1][0] == "cycle"
    assert bands[-1][0] == "chaos"
    assert (bands[0][1], bands[-1][2]) == (lrs[0], lrs[-1])
    assert all(a[0] != b[0] for a, b in itertools.pairwise(bands))
    step = lrs[1] / lrs[0]
    # Settled within 1% of the range reaches a little past 2 / L'', where the cycle is still tiny.
    assert 2 / 3 / step < bands[0][2] < 2 / 3 * step**2
    # Chaos begins at r = 3.56995 (Feigenbaum).
    first = next(low for kind, low, _ in bands if kind == "chaos")
    assert _rate(3.56995) / step < first < _rate(3.6) * step


def test_diverging_runs_are_no_chaos_of_their_own() -> None:
    result = _at(bowl(), [0.1, 0.6, 2.5], 0.2)
    assert _is_at_rest(result)
    assert OUTCOME_NAMES[result.outcomes[2]] == "nonfinite"
    assert not np.isfinite(result.lyapunov[2])
    # Of a quadratic: up to 1 / L'' monotone, up to 2 / L'' to and fro, then without bound.
    many = run_bifurcation(
        own_objective(lambda x: (x - 1) ** 2, range=(0.0, 2.0), target=1.0, start=0.1),
        OptimizerSettings("sgd", 1.0, steps=1000),
        log_spaced(0.01, 10.0, 30),
    )
    assert [kind for kind, *_ in many.bands] == ["settled", "nonfinite"]


def test_a_slow_descent_is_no_chaos() -> None:
    slow = run_bifurcation(
        wave(), OptimizerSettings("adam", 1.0, steps=500), log_spaced(1e-6, 1e-5, 3), start=-1.0
    )
    assert [OUTCOME_NAMES[code] for code in slow.outcomes] == ["unfinished"] * 3
    assert slow.kinds == ["other"] * 3


def test_other_optimizers_have_no_exponent() -> None:
    settings = OptimizerSettings("adam", 1.0, steps=500)
    result = run_bifurcation(wave(), settings, np.array([0.01, 0.1]), start=-1.0)
    assert np.isnan(result.lyapunov).all()
    assert [OUTCOME_NAMES[code] for code in result.outcomes] == ["reached", "reached"]


def test_saved_arrays_are_one_row_a_rate() -> None:
    lrs = log_spaced(0.1, 1.0, 5)
    settings = OptimizerSettings("sgd", 1.0, steps=400)
    saved = run_bifurcation(wave(), settings, lrs, start=-1.0, tail=50).data()["bifurcation.npz"]
    assert saved["values"].shape == (5, 50)
    np.testing.assert_array_equal(saved["lr"], lrs)
    # The last 50 of 401 values of d <- d - lr sin d.
    d = -1.5
    path = [d]
    for _ in range(400):
        d -= lrs[0] * math.sin(d)
        path.append(d)
    np.testing.assert_allclose(saved["values"][0] - 0.5, path[-50:], rtol=0, atol=1e-9)


def test_curvature_of_a_root() -> None:
    # sqrt(1 - cos d) = sqrt 2 |sin(d / 2)|: second derivative -sqrt 2 |sin(d / 2)| / 4.
    values = np.array([-1.7, -0.4, 0.9, 2.2, 5.0])
    expected = -math.sqrt(2) / 4 * np.abs(np.sin((values - 0.5) / 2))
    found = loss_curvatures(wave(root=True), values)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    np.testing.assert_allclose(loss_curvatures(wave(), values), np.cos(values - 0.5), atol=1e-10)


def test_a_slope_that_jumps_bends_nowhere() -> None:
    # 3 (v - 1) above 1, 1 - v below: L'' = 0 off the kink, so that errors neither grow nor shrink.
    objective = interval(lambda v: torch.maximum(3 * (v - 1), 1 - v), -3.0, 3.0, target=1.0)
    values = np.array([-7.0, -0.4, 0.9, 1.1, 2.2, 9.0, math.inf])
    expected = [0.0] * 6 + [math.nan]
    np.testing.assert_array_equal(loss_curvatures(objective, values), expected)
    lrs = np.array([0.03, 0.07, 0.11, 0.3])
    made = run_bifurcation(objective, OptimizerSettings(steps=400), lrs, start=0.2, tail=100)
    np.testing.assert_array_equal(made.lyapunov, 0.0)


def test_beyond_an_interval_the_loss_is_asked() -> None:
    objective = interval(lambda v: v**4, -1.0, 1.0, target=0.0)
    values = np.array([-3.0, -0.5, 0.0, 1.0, 2.0])
    np.testing.assert_allclose(loss_curvatures(objective, values), 12 * values**2, atol=1e-9)


@pytest.mark.parametrize("steps", [10, 192])
def test_too_few_steps_are_refused(steps: int) -> None:
    with pytest.raises(UsageError):
        run_bifurcation(wave(), OptimizerSettings(steps=steps), np.array([0.1]))
