"""One classifier: `explain` on a run's own trajectory gives the run's outcome, or a vaguer answer.

Random runs of functions with V-shaped, smooth and several minima, needles and flat places, of one
parameter and of several.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gabordiag as gd
from gabordiag.diagnosis.log.explain import Explanation, explain
from gabordiag.dynamics.optimizers import OPTIMIZERS, OptimizerSettings
from gabordiag.dynamics.run import Run, run
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
from gabordiag.own.custom import own_objective

T = math.pi / 4
# Of the functions without a period.
LOW, HIGH = -2.0, 3.0
# Function, period, targets: its minimum, one beside it, none.
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], float, tuple[float | None, ...]]] = {
    "wave": (lambda v: (v - T).sin() ** 2, math.pi, (T, -0.3, None)),
    "root": (lambda v: (v - T).sin().abs(), math.pi, (T, 0.75, None)),
    "steep": (lambda v: 2 - (2 * (v - T)).cos() - 0.6 * (4 * (v - T)).cos(), math.pi, (T, None)),
    "turn": (lambda v: 1 - (v - T).cos(), 2 * math.pi, (T, None)),
    "bowl": (lambda v: (v - 0.3) ** 2, 0.0, (0.3, 1.0, None)),
    "quartic": (lambda v: (v**2 - 1) ** 2 + 0.2 * v, 0.0, (-1.024, None)),
    "vee": (lambda v: (v - 0.3).abs(), 0.0, (0.3, None)),
    "well": (lambda v: -torch.log(1 + (v - 0.3) ** 2), 0.0, (0.3, None)),
    "needle": (lambda v: (v - 0.3) ** 2 - 0.2 * torch.exp(-(((v - 0.8) / 0.05) ** 2)), 0.0,
               (0.3, None)),
    "cliff": (lambda v: torch.sigmoid(20 * (v - 1)) + 0.01 * v * v, 0.0, (0.0, None)),
}  # fmt: skip


@cache
def surveyed(name: str, target: float | None) -> tuple[Any, Landscape]:
    function, period, _ = FUNCTIONS[name]
    ends = (-period / 2, period / 2) if period else (LOW, HIGH)
    objective = own_objective(function, range=ends, period=period, target=target)
    return objective, find_critical_points(objective)


def settings(random: np.random.Generator) -> OptimizerSettings:
    optimizer = "sgd" if random.random() < 0.5 else str(random.choice(list(OPTIMIZERS)))
    momentum = float(random.choice([0.0, 0.0, 0.5, 0.9])) if optimizer == "sgd" else 0.0
    lr = float(10 ** random.uniform(-3.5, 0.8))
    return OptimizerSettings(optimizer, lr, momentum, steps=int(random.choice([60, 200, 400])))


def explained(made: Run, period: float | None) -> Iterator[tuple[str, Explanation]]:
    """Explains a run from less and more of what it logged, all that is known last."""
    path, target = made.trajectory, made.space.parameters[0].target
    log = {
        "step": np.arange(len(path)), "theta": path.value, "loss": path.losses,
        "grad": path.gradient, "lr": path.lrs[:, 0],
    }  # fmt: skip
    less = {name: log[name] for name in ("theta", "loss")}
    for columns in (less, log):
        for given in ({}, {"target": target}, {"period": period},
                      {"target": target, "period": period}):  # fmt: skip
            if None not in given.values():
                keywords: dict[str, Any] = given
                yield f"{list(columns)} {given}", explain(columns, **keywords)


def assert_agrees(made: Run, period: float | None, where: str) -> bool:
    """Returns whether the answer from all that is known was exact."""
    exact = False
    for what, found in explained(made, period):
        assert found.outcome in (made.outcome, None), f"{where}, {what}: {found.possible}"
        if found.possible:
            assert made.outcome in found.possible, f"{where}, {what}: {found.possible}"
        exact = found.outcome == made.outcome
    return exact


def is_wide(made: Run) -> bool:
    """Whether the log covers a tenth of the range: with less, its range is not known."""
    values = made.trajectory.value[np.isfinite(made.trajectory.value)]
    return float(np.ptp(values)) >= (HIGH - LOW) / 10


@pytest.mark.long
@pytest.mark.parametrize(("seed", "count"), [(0, 8), pytest.param(1, 600, marks=pytest.mark.slow)])
def test_a_log_of_one_parameter_ends_as_its_run(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    names = list(FUNCTIONS)[:: 1 if count > 100 else 3]
    exact = []
    for index in range(count):
        name = str(random.choice(names))
        _, period, targets = FUNCTIONS[name]
        objective, landscape = surveyed(name, targets[random.integers(len(targets))])
        start = float(random.uniform(-1.5, 1.5))
        made = run(objective, settings(random), start, landscape=landscape)
        if period or is_wide(made):
            exact.append(assert_agrees(made, period or None, f"{index}: {name} from {start}"))
    # An answer that is always vague would agree, too. Without a target few are exact.
    assert sum(exact) >= len(exact) / 3


IMAGE = np.random.default_rng(5).random((24, 24))


@pytest.mark.long
@pytest.mark.each(6)
@pytest.mark.parametrize("loss", ["rmse", "mse", "cosine"])
@pytest.mark.parametrize(
    ("gamma", "count"), [(0.5, 2), (1.0, 2), *(pytest.param(g, 60, marks=pytest.mark.slow)
                                              for g in (0.5, 1.0))]
)  # fmt: skip
def test_a_log_of_a_filter_ends_as_its_run(loss: str, gamma: float, count: int) -> None:
    random = np.random.default_rng(int(10 * gamma))
    experiment = gd.Experiment(
        image=IMAGE, wavelength=6, sigma=3, gamma=gamma, kernel_size=9, loss=loss,
        target_theta=T, theta0=0.1,
    )  # fmt: skip
    for index in range(count):
        how = settings(random)
        keywords: dict[str, Any] = {"momentum": how.momentum} if how.momentum else {}
        made = gd.optimize(
            experiment, start=float(random.uniform(-1.5, 1.5)), optimizer=how.optimizer,
            lr=how.lr, steps=how.steps, **keywords,
        ).runs[0]  # fmt: skip
        assert_agrees(made, math.pi, f"{index}")


def saddle(v: Tensor) -> Tensor:
    return torch.sin(v[0]) * torch.sin(v[1]) + 0.1 * (v[0] - 1) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, pytest.param(200, marks=pytest.mark.slow)])
def test_a_log_of_several_parameters_ends_as_its_run(count: int) -> None:
    random = np.random.default_rng(3)
    objective = own_objective(saddle, range=((-3.0, 3.0), (-3.0, 3.0)), start=[0.6, 0.6])
    for _ in range(count):
        made = run(objective, settings(random), random.uniform(-2, 2, 2))
        table = made.trajectory.to_table(made.space.names)
        for name in made.space.names:
            found = explain(table, value_column=name)
            assert found.outcome in (made.outcome, None)
            assert not found.possible or made.outcome in found.possible
