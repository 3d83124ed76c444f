"""Several learned parameters: runs against loops written by hand, planted tails, planes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.maps import run_plane
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES, Attractor, Surroundings, classify
from gabordiag.dynamics.replay import log_columns
from gabordiag.dynamics.run import Trajectory, outcomes_of_several, run_many
from gabordiag.dynamics.run import run as run_one
from gabordiag.errors import UsageError
from gabordiag.landscape.series_objective import PlaneObjective
from gabordiag.landscape.surface import pair_surfaces
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_objective import GaborObjective

NAMES = ("theta", "wavelength", "sigma", "psi")
START = np.array([0.9, 5.6, 2.3, 0.2])
STEPS = 60
TORCH: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "rprop": torch.optim.Rprop,
    "lbfgs": torch.optim.LBFGS,
}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(8).random((33, 29))


def experiment(image: np.ndarray, **settings: Any) -> Experiment:
    given = {"wavelength": 5.0, "sigma": 2.0, "gamma": 0.8, "loss": "mse", **settings}
    return Experiment(image=image, kernel_size=9, **given)


def by_hand(
    image: np.ndarray,
    name: str,
    rates: dict[str, float],
    logs: tuple[str, ...] = (),
    start: np.ndarray = START,
    steps: int = STEPS,
    decay: float = 1.0,
) -> np.ndarray:
    """The usual loop on conv2d of the whole image; returns theta, wavelength, sigma, psi, loss."""
    pixels = torch.as_tensor(image)[None, None]
    x = torch.arange(-4, 5, dtype=torch.float64).repeat(9, 1)
    y = x.T

    def respond(theta: Tensor, wavelength: Tensor, sigma: Tensor, psi: Tensor) -> Tensor:
        across, along = x * theta.cos() + y * theta.sin(), y * theta.cos() - x * theta.sin()
        envelope = torch.exp(-(across**2 + (0.8 * along) ** 2) / (2 * sigma**2))
        weights = envelope * torch.cos(2 * math.pi * across / wavelength + psi)
        return torch.nn.functional.conv2d(pixels, weights[None, None])

    truth = [torch.tensor(v, dtype=torch.float64) for v in (math.pi / 4, 5.0, 2.0, 0.0)]
    wanted = respond(*truth)
    moved = [
        torch.tensor(math.log(v) if n in logs else v, dtype=torch.float64, requires_grad=True)
        for n, v in zip(NAMES, start, strict=True)
    ]
    if name == "lbfgs":
        optimizer = TORCH[name](moved, lr=rates["theta"])
    else:
        optimizer = TORCH[name](
            [{"params": [v], "lr": rates[n]} for n, v in zip(NAMES, moved, strict=True)]
        )
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, decay)
    rows = []

    def values() -> list[Tensor]:
        return [v.exp() if n in logs else v for n, v in zip(NAMES, moved, strict=True)]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(respond(*values()), wanted)
        loss.backward()
        return loss

    for _ in range(steps + 1):
        loss = closure()
        rows.append([*(v.item() for v in values()), loss.item()])
        optimizer.step(closure) if name == "lbfgs" else optimizer.step()
        schedule.step()
    return np.array(rows)


EQUAL = dict.fromkeys(NAMES, 0.02)
# Of logarithms: the curvature is larger by the value squared.
SLOW = {"theta": 0.01, "wavelength": 0.002, "sigma": 0.005, "psi": 0.02}
OWN = {"theta": 0.01, "wavelength": 0.05, "sigma": 0.03, "psi": 0.02}


@pytest.mark.parametrize(
    ("name", "rates", "logs", "direct"),
    [
        ("sgd", EQUAL, (), False),
        ("sgd", OWN, (), False),
        ("sgd", SLOW, ("sigma", "wavelength"), False),
        ("adam", OWN, ("sigma",), False),
        ("rprop", EQUAL, (), False),
        ("lbfgs", dict.fromkeys(NAMES, 0.5), (), False),
        ("sgd", OWN, (), True),
    ],
)
def test_run_equals_a_loop_written_by_hand(
    image: np.ndarray, name: str, rates: dict[str, float], logs: tuple[str, ...], direct: bool
) -> None:
    expected = by_hand(image, name, rates, logs)
    objective = GaborObjective(experiment(image), NAMES, logs, direct=direct)
    run = run_one(objective, OptimizerSettings(name, rates["theta"], steps=STEPS), START, rates)
    np.testing.assert_allclose(run.trajectory.values, expected[:, :4], rtol=0, atol=1e-9)
    np.testing.assert_allclose(run.trajectory.losses, expected[:, 4], rtol=0, atol=1e-10)
    assert np.ptp(expected[:, :4], axis=0).min() > 1e-3


def test_a_schedule_lowers_every_rate(image: np.ndarray) -> None:
    # The documented schedule: down to a hundredth over the steps.
    expected = by_hand(image, "adam", OWN, decay=0.01 ** (1 / STEPS))
    objective = GaborObjective(experiment(image), NAMES)
    settings = OptimizerSettings("adam", schedule="exponential", steps=STEPS)
    run = run_one(objective, settings, START, OWN)
    np.testing.assert_allclose(run.trajectory.values, expected[:, :4], rtol=0, atol=1e-9)
    np.testing.assert_allclose(run.trajectory.lrs[-1], 0.01 * np.array(list(OWN.values())))


@pytest.mark.parametrize(
    "settings", [{"optimizer": "adam"}, {"optimizer": "sgd", "schedule": "cosine"}]
)
def test_batches_of_runs_are_the_single_runs(image: np.ndarray, settings: dict[str, Any]) -> None:
    objective = GaborObjective(experiment(image), NAMES, ("sigma",))
    starts = np.stack([START, START + 0.1, START - 0.05])
    lrs = np.array([[0.01] * 4, [0.02] * 4, [0.01, 0.03, 0.02, 0.01]])
    _assert_batch_is_single_runs(objective, OptimizerSettings(**settings, steps=STEPS), starts, lrs)


def test_a_batch_of_lbfgs_is_single_runs(image: np.ndarray) -> None:
    objective = GaborObjective(experiment(image), NAMES)
    lrs = np.full((2, 4), 0.5)
    settings = OptimizerSettings("lbfgs", steps=8)
    _assert_batch_is_single_runs(objective, settings, np.stack([START, START + 0.05]), lrs)


def _assert_batch_is_single_runs(
    objective: GaborObjective, settings: OptimizerSettings, starts: np.ndarray, lrs: np.ndarray
) -> None:
    paths = run_many(objective, settings, starts, lrs)
    outcomes = outcomes_of_several(objective, paths)
    for path, outcome, start, rates in zip(paths, outcomes, starts, lrs, strict=True):
        own = dict(zip(NAMES, rates.tolist(), strict=True))
        single = run_one(objective, settings, start, own)
        np.testing.assert_allclose(path.values, single.trajectory.values, atol=1e-9)
        assert outcome == single.outcome
        np.testing.assert_array_equal(path.lrs, single.trajectory.lrs)


@pytest.mark.parametrize(
    ("name", "lr", "logs"),
    [("sgd", 1e200, ("sigma",)), ("sgd", 1e6, ("sigma",)), ("adam", 1e308, ())],
)
def test_a_run_that_overflows_is_told_without_a_warning(
    image: np.ndarray, name: str, lr: float, logs: tuple[str, ...]
) -> None:
    objective = GaborObjective(experiment(image), ("theta", "sigma"), logs)
    run = run_one(objective, OptimizerSettings(name, lr, steps=200), np.array([0.9, 2.2]))
    assert run.outcome == "nonfinite"
    assert len(run.trajectory) < 10
    shown = run.to_dict()
    assert shown["hessian"]["eigenvalues"] == [None, None]
    assert json.loads(json.dumps(shown, allow_nan=False))["final_loss"] is None
    table = run.trajectory.to_table(("theta", "sigma"))
    assert table["grad"][0] == pytest.approx(np.linalg.norm(run.trajectory.gradients[0]))


def test_a_filter_too_narrow_to_be_one_has_no_curvature(image: np.ndarray) -> None:
    # sigma squared underflows to 0, and the middle of the envelope is exp(-0 / 0).
    objective = GaborObjective(experiment(image), ("theta", "sigma"))
    run = run_one(objective, OptimizerSettings("sgd", 0.1, steps=5), np.array([0.9, 1e-200]))
    assert run.outcome == "nonfinite"
    assert run.to_dict()["hessian"]["is_minimum"] is False


def test_table_has_a_column_for_everything(image: np.ndarray) -> None:
    objective = GaborObjective(experiment(image), ("theta", "sigma"))
    settings = OptimizerSettings("sgd", 0.02, steps=5)
    states = list(descend(objective, settings, np.array([[0.9, 2.3]]), np.array([[0.02, 0.02]])))
    table = Trajectory.from_states(states)[0].to_table(("theta", "sigma"))
    assert list(table) == log_columns(("theta", "sigma"))
    assert list(table)[:7] == ["step", "theta", "sigma", "loss", "grad", "update", "lr"]
    np.testing.assert_allclose(table["grad"], np.hypot(table["grad_theta"], table["grad_sigma"]))
    np.testing.assert_allclose(table["theta"][1:], (table["theta"] + table["update_theta"])[:-1])


@pytest.mark.parametrize(
    ("lrs", "settings", "start", "message"),
    [
        ({"gamma": 0.1}, {}, START, "not learned"),
        ({"theta": -1.0}, {}, START, "not a positive"),
        ({"theta": 0.1}, {"optimizer": "lbfgs"}, START, "one learning rate"),
        ({}, {}, np.array([0.9, -1.0, 2.0, 0.0]), "out of range"),
        ({}, {}, np.array([math.nan, 5.0, 2.0, 0.0]), "not a finite"),
    ],
)
def test_what_cannot_be_run_is_refused(
    image: np.ndarray, lrs: dict[str, float], settings: Any, start: np.ndarray, message: str
) -> None:
    objective = GaborObjective(experiment(image), NAMES)
    with pytest.raises(UsageError, match=message):
        run_one(objective, OptimizerSettings(**settings, steps=2), start, lrs)


def test_near_the_target_four_parameters_come_back(image: np.ndarray) -> None:
    objective = GaborObjective(experiment(image), NAMES)
    run = run_one(objective, OptimizerSettings("adam", 0.02, steps=1500), START)
    assert run.outcome == "reached"
    np.testing.assert_allclose(run.final, [math.pi / 4, 5.0, 2.0, 0.0], atol=1e-3)
    # The bound by the largest eigenvalue, against the Hessian by differences of hand-made losses.
    assert run.minimum is not None
    assert run.hessian["is_minimum"]
    assert run.hessian["stable_lr"] == pytest.approx(2 / run.hessian["eigenvalues"][-1])


@pytest.mark.slow
def test_gradient_descent_rests_below_the_bound_and_not_above(image: np.ndarray) -> None:
    objective = GaborObjective(experiment(image), ("theta", "wavelength"))
    target = objective.space.target
    curvature = np.linalg.eigvalsh(objective.hessian(target[None])[0])[-1]
    start = target + np.array([0.01, 0.0])
    for factor, rests in ((0.95, True), (1.05, False)):
        settings = OptimizerSettings("sgd", factor * 2 / curvature, steps=2000)
        run = run_one(objective, settings, start)
        loss = run.trajectory.losses
        assert (loss[-1] < loss[0]) == rests


# --- outcomes -------------------------------------------------------------------------------------

TAIL = 60
t = np.arange(TAIL, dtype=np.float64)
BASE = np.array([math.pi / 4, 5.0])
OTHER = np.array([-0.8, 4.0])


def _path(theta: Any, wavelength: Any) -> np.ndarray:
    return np.stack([np.broadcast_to(theta, TAIL), np.broadcast_to(wavelength, TAIL)], axis=1)


def _logistic() -> np.ndarray:
    values = [0.31]
    for _ in range(TAIL - 1):
        values.append(4 * values[-1] * (1 - values[-1]))
    return np.array(values)


PLANTED: dict[str, tuple[str, np.ndarray]] = {
    "target": ("reached", _path(*BASE)),
    "half a turn on": ("reached", _path(BASE[0] + math.pi, 5.0)),
    "negative wavelength": ("reached", _path(BASE[0], -5.0)),
    "one parameter away": ("plateau", _path(BASE[0], 6.0)),
    "other minimum": ("local_minimum", _path(*OTHER)),
    "two-cycle": ("cycle", _path(1.2 + 0.1 * (-1.0) ** t, 6.0 + 0.2 * (-1.0) ** t)),
    "periods 2 and 3": ("cycle", _path(1.2 + 0.1 * (t % 2), 6.0 + 0.1 * (t % 3))),
    "turning": ("running", _path(1.2 + math.pi * t, 6.0)),
    "chaos": ("erratic", _path(1.2 + 0.3 * _logistic(), 6.0 + 0.3 * _logistic()[::-1])),
    "descent": ("unfinished", _path(1.2 - 0.001 * t, 7.0 - 0.01 * t)),
    "too far out to be an angle": ("nonfinite", _path(1e300 * (-1.0) ** t, 5.0)),
    "infinite": ("nonfinite", _path(np.where(t < 30, 1.0, np.inf), 5.0)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_tail_made_by_hand(image: np.ndarray, name: str) -> None:
    objective = GaborObjective(experiment(image), ("theta", "wavelength"))
    outcome, path = PLANTED[name]
    with np.errstate(invalid="ignore"):
        losses = np.abs(path - BASE).sum(axis=1)
    slope = 0.0 if outcome in ("plateau", "reached", "local_minimum") else 1.0
    tails = path[:, None], losses[:, None], np.array([slope]), np.array([True])
    around = Surroundings(objective.space, objective.goals, (Attractor(OTHER),), steepest=1.0)
    codes, periods = classify(around, *tails)
    assert OUTCOME_NAMES[int(codes[0])] == outcome
    assert int(periods[0]) == {"two-cycle": 2, "periods 2 and 3": 6}.get(name, 0)


# --- planes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [("theta", "wavelength"), ("theta", "psi"), ("sigma", "gamma")])
def test_series_of_a_plane_is_the_loss(image: np.ndarray, pair: tuple[str, str]) -> None:
    objective = GaborObjective(experiment(image), pair)
    series = PlaneObjective(objective)
    generator = np.random.default_rng(2)
    low, high = (
        np.array([getattr(p, e) for p in objective.space.parameters]) for e in ("low", "high")
    )
    places = generator.uniform(low, high, (50, 2))
    losses, slopes = objective.loss_and_gradient(places, smooth=True)
    ours = series.smooth.value_and_slopes(places)
    np.testing.assert_allclose(ours[0], losses, rtol=0, atol=1e-8 * losses.max())
    np.testing.assert_allclose(ours[1:].T, slopes, rtol=0, atol=1e-6 * np.abs(slopes).max())
    assert series.error < 1e-8


@pytest.mark.each(2)
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["mse", "rmse"])
def test_cells_of_a_plane_are_single_runs(image: np.ndarray, loss: str) -> None:
    objective = GaborObjective(experiment(image, loss=loss), ("theta", "sigma"))
    settings = OptimizerSettings("sgd", 0.01, steps=300)
    plane = run_plane(objective, settings, (7, 5))
    assert plane.outcomes.shape == (7, 5)
    shown = plane.to_dict()
    assert sum(shown["fractions"].values()) == pytest.approx(1.0)
    for i, k in ((0, 0), (1, 3), (3, 2), (5, 4), (6, 1)):
        single = run_one(objective, settings, np.array([plane.a[i], plane.b[k]]))
        assert OUTCOME_NAMES[plane.outcomes[i, k]] == single.outcome


def test_pairs_hold_the_loss_through_the_end(image: np.ndarray) -> None:
    objective = GaborObjective(experiment(image), ("theta", "wavelength", "sigma"))
    run = run_one(objective, OptimizerSettings("sgd", 0.01, steps=30), START[:3])
    pairs = pair_surfaces(objective, run.trajectory.values, points=9)
    assert [pair.names for pair in pairs] == [
        ("theta", "wavelength"), ("theta", "sigma"), ("wavelength", "sigma"),
    ]  # fmt: skip
    pair = pairs[1]
    point = np.array([pair.a[3], run.final[1], pair.b[6]])
    assert pair.loss[3, 6] == pytest.approx(float(objective.loss_at(point[None])[0]), rel=1e-12)


def test_pairs_of_a_path_that_blows_up_show_the_range(image: np.ndarray) -> None:
    objective = GaborObjective(experiment(image), ("theta", "sigma", "psi"))
    path = np.array([[0.9, 2.3, 0.2], [0.8, 2.2, 0.1], [0.7, -1e100, 1e100]])
    sigma = objective.space.parameters[1]
    pairs = pair_surfaces(objective, path, points=9)
    (pair,) = (pair for pair in pairs if pair.names == ("theta", "psi"))
    # Sigma is that of the last point that is a filter.
    point = np.array([pair.a[3], 2.2, pair.b[6]])
    assert pair.loss[3, 6] == pytest.approx(float(objective.loss_at(point[None])[0]), rel=1e-12)
    (pair,) = (pair for pair in pairs if pair.names == ("theta", "sigma"))
    assert pair.b[0] >= sigma.low - (sigma.high - sigma.low)


@pytest.mark.parametrize(
    ("names", "logs", "settings", "points", "words"),
    [
        (("theta", "sigma", "psi"), (), {}, (3, 3), "two parameters"),
        (("theta", "sigma"), ("sigma",), {}, (3, 3), "two parameters as they are"),
        (("theta", "sigma"), (), {"optimizer": "lbfgs"}, (3, 3), "acts elementwise"),
        (("theta", "sigma"), (), {"schedule": "step"}, (3, 3), "constant rate"),
        (("theta", "sigma"), (), {}, (3, 1), "at least 2 starts"),
    ],
)
def test_no_plane_of_starts(
    image: np.ndarray, names: Any, logs: Any, settings: Any, points: Any, words: str
) -> None:
    objective = GaborObjective(experiment(image), names, logs)
    with pytest.raises(UsageError, match=words):
        run_plane(objective, OptimizerSettings(**settings, steps=5), points)
