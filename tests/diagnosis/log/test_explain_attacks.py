"""Logs made to mislead: what was logged, by which loop, and the verdicts that are right of it.

A log shows what one run did, and no landscape: without a target, what settled at its lowest is
healthy, wherever that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.diagnosis.log.readers import read_logs
from gabordiag.errors import InputError, UsageError

Columns = dict[str, Any]
Curve = Callable[[float], float]
STEPS = 300
T = np.arange(float(STEPS))


def descent(
    loss: Curve,
    slope: Curve,
    start: float,
    rate: float | Callable[[int], float],
    *,
    steps: int = STEPS,
    momentum: float = 0.0,
    noise: float = 0.0,
) -> Columns:
    """Heavy ball, written out; noise is added to its gradients."""
    random = np.random.default_rng(0).standard_normal(steps)
    rows, x, velocity = [], start, 0.0
    for step in range(steps):
        lr = rate(step) if callable(rate) else rate
        g = slope(x) + noise * float(random[step])
        rows.append((step, x, loss(x), g, lr))
        velocity = momentum * velocity + g
        x -= lr * velocity
    return dict(zip(("step", "theta", "loss", "grad", "lr"), np.array(rows).T, strict=True))


def bowl(x: float) -> float:
    """L'' = 4 at 1."""
    return 2 * (x - 1) ** 2


def bowl_slope(x: float) -> float:
    return 4 * (x - 1)


def wave(x: float) -> float:
    """sin^2 x, of period pi: L'' = 2 at 0."""
    return math.sin(x) ** 2


def wave_slope(x: float) -> float:
    return math.sin(2 * x)


def pits(x: float) -> float:
    """A narrow one at 1, L'' = 100, and a wide one at -1."""
    return 1 - math.exp(-50 * (x - 1) ** 2) - math.exp(-2 * (x + 1) ** 2) / 2


def pits_slope(x: float) -> float:
    narrow, wide = math.exp(-50 * (x - 1) ** 2), math.exp(-2 * (x + 1) ** 2)
    return 100 * (x - 1) * narrow + 2 * (x + 1) * wide


def ripples(x: float) -> float:
    """L'' = 18.2 at 0."""
    return math.sin(3 * x) ** 2 + x * x / 10


def ripples_slope(x: float) -> float:
    return 3 * math.sin(6 * x) + x / 5


def modulus(x: float) -> float:
    return abs(x - 1)


def modulus_slope(x: float) -> float:
    return math.copysign(1.0, x - 1)


def well(x: float) -> float:
    """-ln(1 + x^2): falls for ever on both sides of 0."""
    return -math.log(1 + x * x)


def well_slope(x: float) -> float:
    return -2 * x / (1 + x * x)


def restarts(step: int) -> float:
    """A cosine from 0.3 down to 0, every 60 steps."""
    return 0.15 * (1 + math.cos(math.pi * (step % 60) / 60))


def rows(columns: Columns, chosen: Any) -> Columns:
    return {name: column[chosen] for name, column in columns.items()}


def with_rounded_loss(columns: Columns) -> Columns:
    return {**columns, "loss": columns["loss"].astype(np.float32)}


def broken_at_the_end(columns: Columns) -> Columns:
    broken = {name: column.copy() for name, column in columns.items()}
    broken["loss"][-1] = broken["theta"][-1] = math.nan
    return broken


def in_degrees(columns: Columns) -> Columns:
    return {**columns, "theta": np.degrees(columns["theta"])}


FINE = descent(bowl, bowl_slope, 0.2, 0.1)
BOUNCE = descent(modulus, modulus_slope, 0.235, 0.01)
CYCLE = descent(wave, wave_slope, 0.3, 1.2, steps=3000)
CHAOS = descent(wave, wave_slope, 0.3, 3.0, steps=3000)
# After 100 steps it is resumed from step 30.
RESUMED = np.concatenate([np.arange(100), np.arange(30, STEPS)])
GROKS = np.where(T < 150, 1.0, np.exp(-(T - 150) / 20))
FALL = np.exp(-T / 50)


@dataclass(frozen=True)
class Attack:
    """One log.

    Attributes:
        name: For the test's id.
        verdicts: Those that are right.
        log: Its columns.
        keywords: Of `explain`.
    """

    name: str
    verdicts: set[str]
    log: Columns
    keywords: dict[str, Any] = field(default_factory=dict)


HEALTHY = {"healthy"}
TOO_LARGE = {"step_too_large"}
HALF_TURN = {"period": math.pi}
ATTACKS = [
    # Factor 1 - 4 lr = 0.6: at rest after 60 steps.
    Attack("rounded loss", HEALTHY, with_rounded_loss(FINE)),
    Attack("every tenth row", HEALTHY, rows(descent(bowl, bowl_slope, 0.2, 0.01, steps=3000),
                                            slice(None, None, 10))),
    Attack("steps logged twice", HEALTHY, rows(FINE, RESUMED)),
    Attack("epochs", HEALTHY, {"epoch" if name == "step" else name: column[:40]
                               for name, column in FINE.items()}),
    # 1 - 0.004: exp(-1.2) = 0.3 of the way is left.
    Attack("slow", HEALTHY, descent(bowl, bowl_slope, 0.2, 0.001)),
    Attack("slow, target", {"step_too_small"}, descent(bowl, bowl_slope, 0.2, 0.001),
           {"target": 1.0}),
    # Ten steps of 1 - 2.4 take 0.8 to 23, then 0.8 at each of 290: 1e-27.
    Attack("rate lowered in time", HEALTHY,
           descent(bowl, bowl_slope, 0.2, lambda step: 0.6 if step < 10 else 0.05)),
    Attack("rate lowered in time, target", HEALTHY,
           descent(bowl, bowl_slope, 0.2, lambda step: 0.6 if step < 10 else 0.05),
           {"target": 1.0}),
    # Rates up to 0.3 under L'' = 2: factors from 0.4 to 1, noise of 0.01 in a loss that fell from
    # 0.87. Across the kink every restart throws the bounce of 0.3 up, every end takes it down.
    Attack("restarts, noise", HEALTHY, descent(wave, wave_slope, 1.2, restarts, noise=0.3)),
    Attack("restarts, kink", HEALTHY, descent(modulus, modulus_slope, 3.0, restarts)),
    Attack("plateau, then a fall", HEALTHY,
           {"step": T, "theta": np.where(T < 150, 1e-6 * T, 1 - GROKS),
            "loss": GROKS + 1e-3 * np.random.default_rng(0).standard_normal(STEPS)}),
    # Ringing: heavy ball with lr L'' = 2 < 3.8, of modulus sqrt(0.9).
    Attack("rings", HEALTHY, descent(bowl, bowl_slope, 0.2, 0.5, momentum=0.9)),
    # 3.88 > 3.8: z^2 + 1.98 z + 0.9 has the root -1.27.
    Attack("heavy ball above its bound", TOO_LARGE,
           descent(bowl, bowl_slope, 1.01, 0.97, momentum=0.9)),
    # 0.235 + 0.01 k bounces between 0.995 and 1.005, within 1% of the way.
    Attack("small bounce", HEALTHY, BOUNCE, {"target": 1.0}),
    Attack("small bounce", {"kink"}, BOUNCE),
    # Resumed once: one jump back is no habit.
    Attack("resumed once", HEALTHY, rows(BOUNCE, RESUMED), {"target": 1.0}),
    # lr L'' = 2.4 > 2 at 0: two values x, -x with lr sin 2x = 2x. Every seventh row shows both,
    # every tenth always the same one; that the loss is higher than at the start shows all the same.
    Attack("every seventh of a cycle", TOO_LARGE, rows(CYCLE, slice(None, None, 7)), HALF_TURN),
    Attack("every tenth of a cycle", TOO_LARGE, rows(CYCLE, slice(None, None, 10)), HALF_TURN),
    Attack("every tenth of chaos", TOO_LARGE, rows(CHAOS, slice(None, None, 10)), HALF_TURN),
    # 1.4 a step.
    Attack("grows", TOO_LARGE, descent(bowl, bowl_slope, 0.2, 0.6, steps=100)),
    Attack("grows, target", TOO_LARGE, descent(bowl, bowl_slope, 0.2, 0.6, steps=100),
           {"target": 1.0}),
    # Uphill from 0.3 to the maximum at pi / 2, where it rests after a tenth of the steps.
    Attack("climbs and rests", {"wrong_gradient"},
           descent(wave, lambda x: -wave_slope(x), 0.3, 0.1), HALF_TURN),
    Attack("climbs and rests, target", {"wrong_gradient"},
           descent(wave, lambda x: -wave_slope(x), 0.3, 0.1), {**HALF_TURN, "target": 0.0}),
    # From 1 over the target 2, of loss -ln 5, to 15, of loss -ln 230. From 1 to a target of 20 it
    # is on its way.
    Attack("beyond the target", {"target_unreachable"}, descent(well, well_slope, 1.0, 0.2),
           {"target": 2.0}),
    Attack("towards the target", {"step_too_small"}, descent(well, well_slope, 1.0, 0.2),
           {"target": 20.0}),
    # The loss was zero: what comes then is 0/0, after no growth at all.
    Attack("broken at the end", {"nonfinite_gradient"}, broken_at_the_end(FINE)),
    Attack("twelve rows", {"inconclusive"}, rows(FINE, slice(12))),
    Attack("stands still", {"no_gradient"},
           {"step": T, "theta": np.full(STEPS, 0.7),
            "loss": 1 + 0.1 * np.random.default_rng(0).standard_normal(STEPS)}),
    Attack("stands at the target", HEALTHY,
           {"step": T, "theta": np.full(STEPS, 0.7), "loss": np.zeros(STEPS),
            "grad": np.zeros(STEPS)}, {"target": 0.7}),
    # 0 is the target in every unit; 45 is pi / 4 in degrees.
    Attack("degrees, target 0", HEALTHY, in_degrees(descent(wave, wave_slope, 1.2, 0.1)),
           {**HALF_TURN, "target": 0.0}),
    # The target's pit holds rates up to 0.02.
    *(Attack(f"thrown out from {start}", {"step_too_large"},
             descent(pits, pits_slope, start, 0.1), {"target": 1.0}) for start in (0.95, 1.1)),
    # The target holds rates up to 0.11.
    *(Attack(f"chaos at {rate}", {"step_too_large"},
             descent(ripples, ripples_slope, 2.0, rate), {"target": 0.0}) for rate in (0.3, 0.5)),
    Attack("down in one step", HEALTHY, descent(bowl, bowl_slope, 5.0, 0.25)),
    # Every step turns back 0.996 of the way.
    Attack("hardly stable", {"step_too_large"},
           descent(bowl, bowl_slope, 5.0, 0.499), {"target": 1.0}),
    Attack("a swing that grows, every tenth row", {"step_too_large"},
           rows(descent(bowl, bowl_slope, 5.0, 0.505), slice(None, None, 10))),
    Attack("the last row first", HEALTHY,
           rows(descent(bowl, bowl_slope, 5.0, 0.05), slice(None, None, -1)), {"target": 1.0}),
    # The parameter and its loss are found among other columns.
    Attack("accuracy before it", HEALTHY,
           {"step": T, "accuracy": 1 - FALL, "theta": FALL, "loss": FALL}),
    Attack("validation before it", HEALTHY,
           {"step": T, "theta": FALL, "val/loss": 0.5 + T / STEPS, "train/loss": FALL}),
    Attack("a constant before it", HEALTHY,
           {"step": T, "sigma": np.full(STEPS, 3.0), "theta": FALL, "loss": FALL}),
]  # fmt: skip


@pytest.mark.each(4)
@pytest.mark.parametrize(
    "attack", [pytest.param(a, id=f"{a.name}: {min(a.verdicts)}") for a in ATTACKS]
)
def test_verdict_is_true_of_what_was_logged(attack: Attack) -> None:
    found = gd.explain(attack.log, **attack.keywords)
    assert found.verdict in attack.verdicts, found.headline
    # "The lowest of the log but for noise", it says.
    if "the lowest of the log" in found.headline:
        losses = np.asarray(attack.log.get("loss", attack.log.get("train/loss")), dtype=float)
        tail = losses[-len(losses) // 3 :]
        assert np.median(tail) <= losses.min() + np.ptp(tail)


def test_several_runs_in_one_log_are_not_one_that_repeats() -> None:
    one = descent(bowl, bowl_slope, 5.0, 0.05, steps=40)
    with pytest.raises(InputError, match="holds 5 runs, one after the other"):
        gd.explain({name: np.tile(column, 5) for name, column in one.items()})
    batches = {**descent(bowl, bowl_slope, 5.0, 0.05), "step": np.tile(np.arange(60), 5)}
    assert gd.explain(batches, target=1.0).notes == (
        "the steps go back 4 times; the rows are read as those of one run",
    )


@pytest.mark.parametrize(
    "keywords", [{"target": "45deg"}, {"target": [0.0, 1.0]}, {"period": "pi"}]
)
def test_what_is_no_number_is_refused(keywords: Any) -> None:
    with pytest.raises(UsageError, match="is not a finite number"):
        gd.explain({"theta": FALL, "loss": FALL}, **keywords)


@pytest.mark.parametrize("source", [[1.0, 2.0], np.ones(3), None])
def test_what_is_no_log_is_refused(source: Any) -> None:
    with pytest.raises(UsageError, match="a log is not of the type"):
        gd.explain(source)


@pytest.mark.parametrize(
    ("others", "reason"),
    [
        ({"accuracy": 1 - FALL}, "no column of the parameter"),
        ({"a": FALL, "b": 2 - FALL}, "several columns that may be the parameter, a, b"),
    ],
)
def test_a_log_without_the_parameter_is_refused_where_a_run_is_needed(
    others: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        read_logs({"step": T, "loss": FALL, **others}, ["gabor.theta"])
    # As its columns are looked for.
    assert refused.value.advice == "Call it theta."
    assert read_logs({"step": T, "loss": FALL, **others, "theta": T}, ["gabor.theta"])
