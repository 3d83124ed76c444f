"""Runs against training loops written by hand, on the whole image, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gabordiag.dynamics.optimizers import OPTIMIZERS, SCHEDULES, OptimizerSettings
from gabordiag.dynamics.replay import Step
from gabordiag.dynamics.run import Run, run, run_all
from gabordiag.errors import UsageError
from gabordiag.images import load_image
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.objective import Line
from tests.dynamics.independent import Log, gabor_loss, kernel, train
from tests.dynamics.single import steps_of
from tests.landscape.planted import interval

FILTER = {"wavelength": 5.0, "sigma": 2.0, "gamma": 0.8}
START, TARGET = 0.1, 0.6
STEPS = 80
schedulers = torch.optim.lr_scheduler


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(5).random((34, 30))


def _experiment(image: np.ndarray, loss: str) -> Experiment:
    return Experiment(
        image=image, target_theta=TARGET, theta0=START, kernel_size=11, loss=loss, **FILTER
    )


def _by_hand(image: np.ndarray, loss: str) -> Callable[[Tensor], Tensor]:
    return gabor_loss(image, loss, target=TARGET, size=11, **FILTER)


def _assert_same(run_: Run, log: Log) -> None:
    path = run_.trajectory
    np.testing.assert_allclose(path.value, log.values, rtol=0, atol=1e-9)
    np.testing.assert_allclose(path.losses, log.losses, rtol=0, atol=1e-9)
    scale = np.abs(log.gradients).max()
    np.testing.assert_allclose(path.gradient, log.gradients, rtol=0, atol=1e-9 * scale)
    np.testing.assert_array_equal(path.lrs[:, 0], log.rates)


# Rates of mse settle; those of rmse keep bouncing, but not so far that rounding grows.
PLAIN = [
    ("sgd", {}, {"lr": 0.02}),
    ("sgd", {"momentum": 0.9}, {"lr": 0.002, "momentum": 0.9}),
    ("adam", {}, {"lr": 0.02}),
]


@pytest.mark.each(3)
@pytest.mark.parametrize("direct", [False, True], ids=["shortcut", "direct"])
@pytest.mark.parametrize("loss", ["mse", "rmse"])
@pytest.mark.parametrize(("name", "more", "options"), PLAIN, ids=["sgd", "momentum", "adam"])
def test_run_equals_a_loop_written_by_hand(
    image: np.ndarray,
    name: str,
    more: dict[str, float],
    options: dict[str, Any],
    loss: str,
    direct: bool,
) -> None:
    made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    log = train(_by_hand(image, loss), START, lambda p: made(p, **options), STEPS)
    settings = OptimizerSettings(name, options["lr"], steps=STEPS, **more)
    objective = along(_experiment(image, loss), "theta", direct=direct)
    _assert_same(run(objective, settings), log)
    # It went somewhere: a run that stands still would agree with anything.
    assert abs(log.values[-1] - START) > 0.05


@pytest.mark.slow
def test_runs_on_the_photograph_equal_loops_written_by_hand() -> None:
    # conv2d in float64 on the whole photograph takes seconds: four loops share each call. With
    # 200 steps instead of 50 they agree just as well; it takes ten minutes.
    steps = 50
    cases: dict[str, tuple[str, dict[str, float]]] = {
        "sgd": ("rmse", {}),
        "momentum": ("rmse", {"momentum": 0.9}),
        "adam": ("rmse", {}),
        "mse": ("mse", {}),
    }
    thetas = {
        name: torch.tensor(-math.pi / 4, dtype=torch.float64, requires_grad=True) for name in cases
    }
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam([thetas[name]], lr=0.01)
        if name == "adam"
        else torch.optim.SGD([thetas[name]], lr=0.01, **more)
        for name, (_, more) in cases.items()
    ]
    pixels = torch.as_tensor(load_image("hopper"))[None, None]

    def respond(*angles: Tensor) -> Tensor:
        kernels = [kernel(angle, 31, 10.0, 4.0, 0.0, 0.5) for angle in angles]
        return torch.nn.functional.conv2d(pixels, torch.stack(kernels)[:, None])[0]

    wanted = respond(torch.tensor(math.pi / 4, dtype=torch.float64))[0].detach()
    rows: list[list[tuple[float, float, float]]] = []
    for _ in range(steps + 1):
        for optimizer in optimizers:
            optimizer.zero_grad()
        squares = (respond(*thetas.values()) - wanted).square().mean(dim=(1, 2))
        losses = [
            square.sqrt() if loss == "rmse" else square
            for square, (loss, _) in zip(squares, cases.values(), strict=True)
        ]
        torch.stack(losses).sum().backward()
        rows.append(
            [
                (theta.item(), loss.item(), theta.grad.item())  # type: ignore[union-attr]
                for theta, loss in zip(thetas.values(), losses, strict=True)
            ]
        )
        for optimizer in optimizers:
            optimizer.step()
    by_hand = np.array(rows)
    for index, (name, (loss, more)) in enumerate(cases.items()):
        settings = OptimizerSettings("adam" if name == "adam" else "sgd", 0.01, steps=steps, **more)
        log = Log(*by_hand[:, index].T, rates=np.full(steps + 1, 0.01))
        _assert_same(run(along(Experiment(loss=loss), "theta"), settings), log)
    assert np.ptp(by_hand[:, :, 0], axis=0).min() > 0.005


TORCH_SCHEDULES: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "step": lambda o: schedulers.StepLR(o, STEPS // 4, gamma=0.1),
    "exponential": lambda o: schedulers.ExponentialLR(o, 10 ** (-2 / STEPS)),
    "cosine": lambda o: schedulers.CosineAnnealingLR(o, T_max=STEPS),
    "one-cycle": lambda o: schedulers.OneCycleLR(
        o, max_lr=0.02, total_steps=STEPS + 1, cycle_momentum=False
    ),
}


@pytest.mark.parametrize("schedule", TORCH_SCHEDULES)
def test_schedules_are_torchs(image: np.ndarray, schedule: str) -> None:
    def make(parameters: list[Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.02)

    log = train(_by_hand(image, "mse"), START, make, STEPS, TORCH_SCHEDULES[schedule])
    settings = OptimizerSettings("sgd", 0.02, schedule=schedule, steps=STEPS)
    result = run(along(_experiment(image, "mse"), "theta"), settings)
    np.testing.assert_allclose(result.trajectory.lrs[:, 0], log.rates, rtol=1e-12)
    np.testing.assert_allclose(result.trajectory.value, log.values, rtol=0, atol=1e-9)
    assert np.ptp(log.rates) > 0.01


def test_every_schedule_is_compared() -> None:
    assert set(SCHEDULES) == {*TORCH_SCHEDULES, "constant"}


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant", lambda t: 1.0),
        ("step", lambda t: 10.0 ** -(t // 25)),
        ("exponential", lambda t: 10.0 ** (-2 * t / 100)),
        ("cosine", lambda t: (1 + math.cos(math.pi * t / 100)) / 2),
    ],
)
def test_schedules_follow_their_formulas(schedule: str, share: Callable[[int], float]) -> None:
    settings = OptimizerSettings("sgd", 0.4, schedule=schedule, steps=100)
    rates = run(_bowl(), settings, 0.5).trajectory.lrs[:, 0]
    expected = [0.4 * share(t) for t in range(101)]
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15)


def _bowl() -> Line:
    return interval(lambda v: 2 * (v - 1) ** 2, -1.0, 3.0, target=1.0)


@pytest.mark.each(3)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_runs_as_torch_runs_it(name: str) -> None:
    # Looked up in torch by its name, at its own default options but for the rate.
    classes = {attribute.lower(): getattr(torch.optim, attribute) for attribute in dir(torch.optim)}
    kind = classes.get(name, OPTIMIZERS[name])
    log = train(lambda v: 2 * (v - 1) ** 2, 0.2, lambda p: kind(p, lr=0.03), 60)
    result = run(_bowl(), OptimizerSettings(name, 0.03, steps=60), 0.2)
    _assert_same(result, log)


def test_optimizers_of_torch_are_all_that_take_one_number() -> None:
    # Every class of torch.optim that can make a step on a dense number, and no other.
    working = set()
    for attribute in dir(torch.optim):
        made = getattr(torch.optim, attribute)
        if not isinstance(made, type) or made is torch.optim.Optimizer:
            continue
        try:
            train(lambda v: (v - 1) ** 2, 0.0, lambda p, made=made: made(p, lr=0.01), 1)
        except (TypeError, ValueError, RuntimeError):
            continue
        working.add(attribute.lower())
    # Adafactor steps on numbers, too, but its rate means something else (relative to the value).
    torchs = {name for name, kind in OPTIMIZERS.items() if kind.__module__.startswith("torch.")}
    assert torchs == working - {"adafactor"}


def test_nesterov_is_torchs() -> None:
    log = train(
        lambda v: 2 * (v - 1) ** 2,
        0.2,
        lambda p: torch.optim.SGD(p, lr=0.03, momentum=0.8, nesterov=True),
        60,
    )
    settings = OptimizerSettings("sgd", 0.03, momentum=0.8, nesterov=True, steps=60)
    _assert_same(run(_bowl(), settings, 0.2), log)


def test_rows_are_the_states_between_the_steps() -> None:
    seen: list[Step] = []
    settings = OptimizerSettings("sgd", 0.1, steps=25)
    result = run(_bowl(), settings, 0.2, listener=seen.append)
    path = result.trajectory
    assert [step.step for step in seen] == list(range(26))
    assert len(path) == 26
    assert path.value[0] == 0.2
    np.testing.assert_array_equal(path.updates[:-1, 0], np.diff(path.value))
    assert math.isnan(path.updates[-1, 0])
    # 4 (v - 1), and the update of plain descent.
    np.testing.assert_allclose(path.gradient, 4 * (path.value - 1), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(path.updates[:-1, 0], -0.1 * path.gradient[:-1], rtol=0, atol=1e-15)
    assert [step.values[0] for step in seen] == path.value.tolist()


def test_steps_are_handed_out_as_they_happen() -> None:
    steps = steps_of(_bowl(), OptimizerSettings("sgd", 0.1, steps=10**9), 0.2)
    assert next(steps).step == 0
    assert next(steps).step == 1


@pytest.mark.parametrize(
    ("lr", "momentum", "most"),
    # It comes to rest; from 0.5 it flips to 1.5 and back, exactly; with momentum it may go on.
    [(0.1, 0.0, 150), (0.5, 0.0, 3), (0.1, 0.5, 301)],
)
def test_what_repeats_to_the_bit_is_not_computed_again(
    lr: float, momentum: float, most: int
) -> None:
    calls = 0

    def bowl(values: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return 2 * (values - 1) ** 2

    settings = OptimizerSettings("sgd", lr, momentum, steps=300)
    steps = list(steps_of(interval(bowl, -1.0, 3.0, target=1.0), settings, 0.5))
    assert calls <= most
    log = train(bowl, 0.5, lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum), 300)
    assert [step.values[0] for step in steps] == log.values.tolist()
    assert [step.loss for step in steps] == log.losses.tolist()
    assert [step.step for step in steps] == list(range(301))
    assert [math.isnan(step.updates[0]) for step in steps] == [False] * 300 + [True]


def test_nonfinite_value_ends_the_run_after_the_row_that_shows_it() -> None:
    # The root's derivative at exactly zero is 0/0: 0.75 in steps of 0.25 is exact in binary.
    objective = interval(lambda v: ((v - 1) ** 2).sqrt(), -1.0, 3.0, target=1.0)
    steps = list(steps_of(objective, OptimizerSettings("sgd", 0.25, steps=50), 1.75))
    assert [step.values[0] for step in steps[:4]] == [1.75, 1.5, 1.25, 1.0]
    assert steps[3].loss == 0
    assert math.isnan(steps[3].gradients[0])
    assert len(steps) == 5
    assert math.isnan(steps[4].values[0])


def test_overflow_ends_the_run_as_nonfinite() -> None:
    # Each step multiplies the distance by -9; the square overflows near step 160.
    result = run(_bowl(), OptimizerSettings("sgd", 2.5, steps=500), 0.2)
    assert result.outcome == "nonfinite"
    assert len(result.trajectory) < 400
    shown = result.to_dict()
    assert shown["final"] is None or math.isfinite(shown["final"])
    assert shown["best_loss"] == pytest.approx(2 * 0.8**2)
    assert shown["best"] == 0.2


def test_run_all_crosses_settings_with_starts_in_order() -> None:
    settings = [OptimizerSettings("sgd", lr, steps=5) for lr in (0.1, 0.2)]
    indices: list[int] = []

    def listeners(index: int) -> None:
        indices.append(index)

    result = run_all(_bowl(), settings, [0.2, 0.4, 2.0], listeners=listeners)
    found = [(one.settings.lr, one.start) for one in result.runs]
    assert found == [(0.1, 0.2), (0.1, 0.4), (0.1, 2.0), (0.2, 0.2), (0.2, 0.4), (0.2, 2.0)]
    assert indices == list(range(6))
    names = [entry["trajectory"] for entry in result.to_dict()["runs"]]
    assert names == [f"trajectory-{index:03d}.csv" for index in range(6)]
    assert set(names) < set(result.data())


def test_result_of_a_run_says_where_it_ended() -> None:
    result = run(_bowl(), OptimizerSettings("sgd", 0.1, steps=100), 0.2)
    shown = result.to_dict()
    # The distance shrinks by 0.6 a step.
    assert shown["final"] == pytest.approx(1 - 0.8 * 0.6**100, abs=1e-15)
    assert shown["distance_to_target"] == pytest.approx(0.0, abs=1e-15)
    assert shown["steps"] == 100
    assert shown["outcome"] == "reached"
    assert shown["turns"] == 0
    # ln|1 - 0.1 x 4|
    assert shown["lyapunov"] == pytest.approx(math.log(0.6), rel=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimizer": "muon"},
        {"optimizer": "SGD"},
        {"schedule": "none-such"},
        {"lr": 0.0},
        {"lr": -1.0},
        {"lr": math.nan},
        {"lr": math.inf},
        {"momentum": 1.0},
        {"momentum": -0.1},
        {"optimizer": "adam", "momentum": 0.9},
        {"nesterov": True},
        {"optimizer": "rmsprop", "momentum": 0.5, "nesterov": True},
        {"steps": 0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        OptimizerSettings(**wrong)
