"""`diagnose` of a log compares its steps and losses with the objective and the settings.

Every log is written by a plain loop of torch, so that what went wrong in it is known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gabordiag as gd
from gabordiag.diagnosis.verdict import Diagnosis
from gabordiag.dynamics.optimizers import SCHEDULES, OptimizerSettings
from gabordiag.errors import UsageError

START, GOAL = 1.2, 0.5
ABOUT: dict[str, Any] = {
    "range": (-math.pi / 2, math.pi / 2), "period": math.pi, "target": GOAL, "start": START,
}  # fmt: skip
Log = dict[str, Any]


def wave(v: Tensor) -> Tensor:
    return (v - GOAL).sin() ** 2


PLAIN = partial(torch.optim.SGD, lr=0.1)


def trained(
    make: Callable[..., torch.optim.Optimizer] = PLAIN,
    *,
    sign: int = 1,
    factor: float = 1.0,
    noise: float = 0.0,
    zero_grad: bool = True,
    holds: bool = True,
    schedule: Callable[..., Any] | None = None,
) -> Log:
    """200 steps on the wave, whose place is noisy as that of a batch is."""
    v = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = make([v if holds else torch.zeros(1, requires_grad=True)])
    scheduler = schedule(optimizer) if schedule is not None else None
    draw, rows = torch.Generator().manual_seed(1), []
    for step in range(200):
        if zero_grad:
            v.grad = None
        loss = factor * wave(v + noise * torch.randn((), generator=draw, dtype=torch.float64))
        (sign * loss).backward()
        assert v.grad is not None
        rows.append((step, v.item(), loss.item(), v.grad.item()))
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return dict(zip(("step", "value", "loss", "grad"), np.array(rows).T, strict=True))


def diagnosed(log: Log, lr: float = 0.1, **keywords: Any) -> Diagnosis:
    found = gd.diagnose(wave, lr=lr, from_log=log, **ABOUT, **keywords)
    assert isinstance(found, Diagnosis)
    return found


def without_gradient(log: Log) -> Log:
    return {name: column for name, column in log.items() if name != "grad"}


@pytest.mark.long
@pytest.mark.parametrize("take", [dict, without_gradient])
@pytest.mark.parametrize(
    ("made", "cause", "words"),
    [
        ({}, "healthy", ""),
        ({"make": partial(torch.optim.SGD, lr=1.2)}, "step_too_large", "The rate 1.2 is"),
        ({"sign": -1}, "wrong_gradient", "sign reversed"),
        ({"zero_grad": False}, "wrong_gradient", "the sum of all gradients"),
        ({"holds": False}, "no_gradient", "never moves"),
        ({"noise": 0.1}, "nondeterministic", "scatter"),
        ({"noise": 0.6}, "nondeterministic", "scatter"),
        ({"noise": 0.05, "sign": -1}, "wrong_gradient", "sign reversed"),
        ({"noise": 0.3, "sign": -1}, "wrong_gradient", "sign reversed"),
        ({"noise": 0.05, "zero_grad": False}, "wrong_gradient", "the sum of all gradients"),
        ({"make": partial(torch.optim.SGD, lr=0.1, weight_decay=0.1)}, "target_unreachable",
         "a weight decay of 0.1"),
    ],
)  # fmt: skip
def test_what_went_wrong_in_the_loop_is_found(
    made: dict[str, Any], cause: str, words: str, take: Callable[[Log], Log]
) -> None:
    rate = made["make"].keywords["lr"] if "make" in made else 0.1
    found = diagnosed(take(trained(**made)), rate)
    assert found.verdict == cause
    assert words in found.headline
    if cause not in ("healthy", "step_too_large"):
        # The loop itself, without the mistake, arrives.
        assert abs(trained()["value"][-1] - GOAL) < 1e-6
        assert "the same run reaches the target" in found.headline


@pytest.mark.parametrize(
    ("made", "given", "options"),
    [
        ({"make": partial(torch.optim.SGD, lr=1.2)}, {}, "--lr 1.2:"),
        ({"factor": 10}, {}, "--lr 1:"),
        ({"make": partial(torch.optim.SGD, lr=0.03, momentum=0.9)}, {},
         "--optimizer sgd --lr 0.03 --momentum 0.9:"),
        ({"make": partial(torch.optim.Adam, lr=0.05)}, {}, "--optimizer adam --lr 0.05:"),
        ({}, {"optimizer": "rmsprop"}, "--optimizer sgd --lr 0.1:"),
    ],
)  # fmt: skip
def test_other_settings_are_refused_and_named(
    made: dict[str, Any], given: dict[str, Any], options: str
) -> None:
    with pytest.raises(UsageError) as caught:
        diagnosed(trained(**made), **given)
    assert options in str(caught.value)


def test_a_log_of_another_loss_is_refused() -> None:
    with pytest.raises(UsageError, match="of another loss"):
        gd.diagnose(lambda v: v**2, lr=0.1, range=(-2, 2), start=START, from_log=trained())


def test_a_loss_that_is_logged_in_another_way_is_no_other_loss() -> None:
    log = trained()
    named = {"rooted": np.sqrt(log["loss"]), "shifted": log["loss"] + 7}
    for losses in named.values():
        found = diagnosed({**log, "loss": losses})
        assert found.verdict == "healthy"
        # The steps show that it is this loss, which is shown.
        np.testing.assert_allclose(found.run.trajectory.losses, log["loss"], rtol=1e-9, atol=1e-30)
    late = {name: column[:-1] for name, column in log.items()} | {"value": log["value"][1:]}
    assert diagnosed(late).verdict == "healthy"
    few = {name: np.round(column, 3) for name, column in log.items()}
    assert diagnosed(few).verdict == "healthy"


@pytest.mark.long
def test_rates_that_were_not_logged_follow_the_schedule() -> None:
    # StepLR divides by 10 after each quarter.
    schedule = partial(torch.optim.lr_scheduler.StepLR, step_size=49)
    log = without_gradient(trained(partial(torch.optim.SGD, lr=0.02), schedule=schedule))
    found = diagnosed(log, 0.02, schedule="step")
    rates = found.run.trajectory.lrs[:, 0]
    np.testing.assert_allclose(rates, 0.02 * 0.1 ** (np.arange(200) // 49), rtol=1e-12)
    assert "are not those of sgd, lr 0.02 on this loss" in diagnosed(log, 0.02).headline


@pytest.mark.parametrize("name", SCHEDULES)
def test_scheduled_rates_are_those_of_the_schedule(name: str) -> None:
    settings = OptimizerSettings("sgd", 0.2, schedule=name, steps=40)
    rates = settings.scheduled([0.2, 0.02])
    assert rates.shape == (41, 2)
    t = np.arange(41)
    right = {
        "constant": np.full(41, 0.2), "step": 0.2 * 0.1 ** (t // 10),
        "exponential": 0.2 * 0.01 ** (t / 40), "cosine": 0.1 * (1 + np.cos(math.pi * t / 40)),
    }  # fmt: skip
    # A cosine from 1/25 up to the rate, over 0.3 of 41 steps, and one down to 1/250000.
    up = 0.5 - 0.5 * np.cos(math.pi * t / 11.3)
    down = 0.5 + 0.5 * np.cos(math.pi * (t - 11.3) / (40 - 11.3))
    right["one-cycle"] = 0.2 * np.where(
        t < 11.3, 1 / 25 + (1 - 1 / 25) * up, 4e-6 + (1 - 4e-6) * down
    )
    np.testing.assert_allclose(rates[:, 0], right[name], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(rates[:, 1], rates[:, 0] / 10, rtol=1e-9, atol=1e-15)


@pytest.mark.long
def test_two_parameters_and_a_hand_written_derivative() -> None:
    def bowl(v: Tensor) -> Tensor:
        return v[0] ** 2 + 3 * v[1] ** 2

    def walk(right: float) -> Log:
        v, rows = np.array([1.0, 0.5]), []
        for step in range(60):
            grad = np.array([2 * v[0], right * v[1]])
            rows.append([step, *v, v[0] ** 2 + 3 * v[1] ** 2, *grad])
            v = v - 0.05 * grad
        names = ("step", "v[0]", "v[1]", "loss", "grad_v[0]", "grad_v[1]")
        return dict(zip(names, np.array(rows).T, strict=True))

    about: dict[str, Any] = {"start": (1.0, 0.5), "range": (-2, 2), "target": (0, 0), "lr": 0.05}
    assert gd.diagnose(bowl, from_log=walk(6.0), **about).verdict == "healthy"
    found = gd.diagnose(bowl, from_log=walk(-1.0), **about)
    assert found.verdict == "wrong_gradient"
    # v[1] grows by 1.05 a step: the last row is 1.05^59 / 2 out.
    last = 0.5 * 1.05**59
    assert f"it is {-last:.3g} instead of {6 * last:.3g}" in found.headline


def test_what_stands_on_a_maximum_is_not_said_to_climb() -> None:
    # The wave is highest a quarter turn from its minimum: nothing moves, and nothing should.
    top = GOAL + math.pi / 2 - math.pi
    log = {"step": np.arange(60), "value": np.full(60, top), "loss": np.ones(60)}
    found = diagnosed(log)
    assert found.verdict == "flat_start"


def test_moments_of_steps_that_were_not_logged_are_not_asked_for() -> None:
    adam = trained(partial(torch.optim.Adam, lr=0.05))
    late = {name: column[5:] for name, column in adam.items()}
    assert diagnosed(late, 0.05, optimizer="adam").verdict == "healthy"
    plain = {name: column[5:] for name, column in trained(sign=-1).items()}
    assert diagnosed(plain).verdict == "wrong_gradient"


@pytest.mark.long
@pytest.mark.parametrize(("rate", "rows"), [(1.5, 400), (3.0, 200)])
def test_a_run_that_overflows_is_compared_as_far_as_it_goes(rate: float, rows: int) -> None:
    # On (v - 1/2)^2 every step leads 2 lr - 1 times as far out.
    apart = 0.5 * (1 - 2 * rate) ** np.arange(rows)
    log = {"step": np.arange(rows), "value": 0.5 + apart, "loss": apart**2}
    about: dict[str, Any] = {"range": (-3, 3), "start": 1.0, "target": 0.5}
    found = gd.diagnose(lambda v: (v - 0.5) ** 2, from_log=log, lr=rate, **about)
    assert found.verdict == "step_too_large"
    with pytest.raises(UsageError, match=f"--lr {rate:g}:"):
        gd.diagnose(lambda v: (v - 0.5) ** 2, from_log=log, lr=0.1, **about)


def test_noisy_gradients_beside_the_whole_loss_are_no_wrong_derivative() -> None:
    log = trained(noise=0.05)
    values = torch.tensor(log["value"])
    found = diagnosed({**log, "loss": wave(values).numpy()})
    assert found.verdict in ("healthy", "nondeterministic")
    assert "logged gradient" not in found.headline


def test_an_angle_may_be_logged_without_its_whole_turns() -> None:
    # From 1.2 up to a minimum at 1.9, past the period's end at pi / 2.
    v, rows = 1.2, []
    for step in range(100):
        logged = (v + math.pi / 2) % math.pi - math.pi / 2
        rows.append((step, logged, math.sin(v - 1.9) ** 2))
        v -= 0.1 * math.sin(2 * (v - 1.9))
    log = dict(zip(("step", "value", "loss"), np.array(rows).T, strict=True))
    assert np.ptp(log["value"]) > 2
    about = ABOUT | {"target": 1.9 - math.pi}
    found = gd.diagnose(lambda x: (x - 1.9).sin() ** 2, lr=0.1, from_log=log, **about)
    assert found.verdict == "healthy"
    assert "not those of" not in found.headline


def test_a_gradient_that_is_missing_after_the_last_step_is_not_nan() -> None:
    log = trained()
    log["grad"][-1] = math.nan
    assert diagnosed(log).verdict == "healthy"


def test_a_rate_that_rises_from_zero_is_the_schedule_of_a_run() -> None:
    warm = partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda step: min(1.0, step / 20))
    log = trained(schedule=warm)
    rates = 0.1 * np.minimum(1.0, np.arange(200) / 20)
    found = diagnosed(log | {"lr": rates})
    assert (found.verdict, found.run.lr) == ("healthy", 0.1)


@pytest.mark.long
def test_one_of_two_that_stands_still_is_named() -> None:
    step = np.arange(60)
    log = {"step": step, "v[0]": 0.9**step, "v[1]": np.full(60, 0.5)}
    log["loss"] = log["v[0]"] ** 2 + 3 * log["v[1]"] ** 2
    about: dict[str, Any] = {"start": (1.0, 0.5), "range": (-2, 2), "target": (0, 0)}
    found = gd.diagnose(lambda v: v[0] ** 2 + 3 * v[1] ** 2, lr=0.05, from_log=log, **about)
    assert found.verdict == "no_gradient"
    assert "In the log v[1] never moves" in found.headline


def test_lbfgs_of_two_is_taken_as_it_was_logged() -> None:
    step = np.arange(30)
    log = {"step": step, "v[0]": 0.5**step, "v[1]": -(0.5**step)}
    log["loss"] = log["v[0]"] ** 2 + log["v[1]"] ** 2
    about: dict[str, Any] = {"start": (1.0, -1.0), "range": (-2, 2), "target": (0, 0)}
    found = gd.diagnose(lambda v: v[0] ** 2 + v[1] ** 2, "lbfgs", 1.0, from_log=log, **about)
    assert found.verdict == "healthy"
