"""Runs on mini-batches, against a training loop of conv2d, and what is said about their noise."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import run_all
from gabordiag.dynamics.stochastic import (
    GradientNoise,
    _basin_words,
    _predict_spread,
    _rest_words,
    _scatter_words,
    measure_noise,
)
from gabordiag.errors import UsageError
from gabordiag.landscape.points import CriticalPoint
from gabordiag.landscape.sweep import sweep_objective
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.gabor_objective import draw_batches
from tests.diagnosis.planting import bowl
from tests.objective.plain_images import SMALL, mean_loss, plain_loop


@pytest.fixture(scope="module")
def pictures(texture):
    return [texture(20 + seed, 24, seed=seed) for seed in range(7)]


@pytest.fixture(scope="module")
def grained(texture):
    """Thirty images of grain along rows or columns: they pull in opposite directions.

    Along neither there is a diagonal, so that the mean over them has a spurious minimum at -45
    degrees, which no single one has.
    """
    images = []
    for seed in range(30):
        grain = texture(30, 30, seed=seed, mean=0)
        for _ in range(8):
            grain = grain + np.roll(grain, 1, axis=seed % 2)
        images.append(grain / grain.std())
    return images


@pytest.mark.each(3)
@pytest.mark.parametrize("loss", ["rmse", "mse", "cosine"])
@pytest.mark.parametrize("direct", [False, True])
def test_a_run_is_the_training_loop(pictures, loss, direct):
    experiment = Experiment(images=pictures, loss=loss, theta0=0.2, seed=4, **SMALL)
    noisy, free = gd.optimize(
        experiment, lr=0.02, momentum=0.5, steps=8, batch_size=3, direct=direct
    ).runs
    theta = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([theta], lr=0.02, momentum=0.5)
    for step, drawn in enumerate(itertools.islice(draw_batches(7, 3, 4), 9)):
        assert noisy.trajectory.value[step] == pytest.approx(theta.item(), rel=1e-9)
        sgd.zero_grad()
        batch = mean_loss([pictures[index] for index in drawn], theta, loss)
        batch.backward()
        assert noisy.trajectory.losses[step] == pytest.approx(batch.item(), rel=1e-9)
        assert noisy.trajectory.gradient[step] == pytest.approx(theta.grad.item(), rel=1e-8)
        full, _ = plain_loop(pictures, theta.item(), loss)
        assert noisy.trajectory.full_losses[step] == pytest.approx(full, rel=1e-9)
        sgd.step()
    assert (noisy.batch_size, free.batch_size) == (3, 7)
    alone = gd.optimize(experiment, lr=0.02, momentum=0.5, steps=8).runs[0]
    np.testing.assert_allclose(free.trajectory.value, alone.trajectory.value, rtol=1e-9)
    np.testing.assert_array_equal(free.trajectory.full_losses, free.trajectory.losses)


@pytest.mark.each(3)
@pytest.mark.parametrize(
    ("loss", "direct", "log_scale"),
    [("mse", False, ["sigma"]), ("rmse", True, []), ("cosine", False, [])],
)
def test_a_run_of_several_is_the_training_loop(pictures, loss, direct, log_scale):
    experiment = Experiment(images=pictures, loss=loss, seed=4, **SMALL)
    start, rates = {"theta": 0.2, "sigma": 2.5}, {"theta": 0.02, "sigma": 0.05}
    noisy, free = gd.optimize(
        experiment, lr=rates, momentum=0.5, steps=8, start=start, over=["theta", "sigma"],
        batch_size=3, direct=direct, log_scale=log_scale,
    ).runs  # fmt: skip
    theta = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    other = torch.tensor(2.5, dtype=torch.float64)
    other = (other.log() if log_scale else other).requires_grad_()
    groups = [{"params": [theta], "lr": 0.02}, {"params": [other], "lr": 0.05}]
    sgd, path = torch.optim.SGD(groups, lr=0.1, momentum=0.5), noisy.trajectory
    for step, drawn in enumerate(itertools.islice(draw_batches(7, 3, 4), 9)):
        sigma = other.exp() if log_scale else other
        wanted = [theta.item(), sigma.item()]
        assert path.values[step].tolist() == pytest.approx(wanted, rel=1e-9)
        sgd.zero_grad()
        batch = mean_loss([pictures[index] for index in drawn], theta, loss, sigma=sigma)
        batch.backward()
        assert path.losses[step] == pytest.approx(batch.item(), rel=1e-9)
        slopes = [theta.grad.item(), other.grad.item()]
        assert path.gradients[step].tolist() == pytest.approx(slopes, rel=1e-7)
        with torch.no_grad():
            full = mean_loss(pictures, theta, loss, sigma=sigma).item()
        assert path.full_losses[step] == pytest.approx(full, rel=1e-9)
        sgd.step()
    assert (noisy.batch_size, free.batch_size) == (3, 7)
    alone = gd.optimize(
        experiment, lr=rates, momentum=0.5, steps=8, start=start, over=["theta", "sigma"],
        log_scale=log_scale,
    ).runs[0]  # fmt: skip
    np.testing.assert_allclose(free.trajectory.values, alone.trajectory.values, rtol=1e-9)


def test_the_joint_gradients_scatter_as_samples_without_replacement_do(pictures):
    experiment = Experiment(images=pictures, loss="mse", **SMALL)
    start = {"theta": -0.3, "sigma": 2.5}
    noisy, _ = gd.optimize(
        experiment, lr=0.01, steps=1, start=start, over=["theta", "sigma"], batch_size=3
    ).runs
    slopes = []
    for image in pictures:
        at = torch.tensor([-0.3, 2.5], dtype=torch.float64, requires_grad=True)
        mean_loss([image], at[0], "mse", sigma=at[1]).backward()
        slopes.append(at.grad.numpy())
    noise = noisy.batch["noise_at_start"]
    full = list(noise["full_gradient"].values())
    assert full == pytest.approx(np.mean(slopes, axis=0).tolist(), rel=1e-9)
    expected = np.std(slopes, axis=0, ddof=1) * math.sqrt((1 - 3 / 7) / 3)
    assert list(noise["deviation"].values()) == pytest.approx(expected.tolist(), rel=0.2)
    assert "theta by " in noisy.batch["explanation"]


@pytest.mark.long
def test_the_listeners_get_every_column(pictures):
    told = {}
    experiment = Experiment(images=pictures, loss="mse", **SMALL)
    result = gd.optimize(
        experiment,
        lr=[0.01, 0.02],
        steps=3,
        batch_size=2,
        listeners=lambda index: told.setdefault(index, []).append,
    )
    assert sorted(told) == [0, 1, 2, 3]
    for index, rows in told.items():
        table = result.runs[index].trajectory.to_table(["theta"])
        assert list(table) == ["step", "theta", "loss", "grad", "update", "lr", "full_loss"]
        np.testing.assert_array_equal(
            np.array([step.row() for step in rows]), np.array(list(table.values())).T
        )


def test_lbfgs_draws_once_a_step(pictures):
    experiment = Experiment(images=pictures, loss="mse", theta0=0.6, **SMALL)
    noisy, _ = gd.optimize(experiment, "lbfgs", lr=0.1, steps=4, batch_size=3).runs
    for step, drawn in enumerate(itertools.islice(draw_batches(7, 3, 0), 5)):
        value, _ = plain_loop([pictures[i] for i in drawn], noisy.trajectory.value[step], "mse")
        assert noisy.trajectory.losses[step] == pytest.approx(value, rel=1e-9)


def test_the_gradients_scatter_as_samples_without_replacement_do(grained):
    """For mse the batch's gradient is a sample mean: variance s^2 / B (1 - B / n)."""
    exact = along(Experiment(images=grained, loss="mse", **SMALL))
    slopes = np.array([plain_loop([image], -0.3, "mse")[1] for image in grained])
    noise = measure_noise(exact, -0.3, 5)
    assert noise.full_gradient == pytest.approx(slopes.mean(), rel=1e-9)
    expected = slopes.std(ddof=1) * math.sqrt((1 - 5 / 30) / 5)
    # 200 draws: the estimate itself has a deviation of 5%.
    assert noise.deviation == pytest.approx(expected, rel=0.2)
    assert measure_noise(exact, math.pi / 4, 5).deviation < 1e-12 * noise.deviation


@pytest.mark.parametrize("lr_curvature", [0.02, 0.5, 1.5])
def test_the_predicted_spread_is_that_of_the_recursion(lr_curvature):
    curvature, deviation = 8.0, 3.0
    lr = lr_curvature / curvature
    point = CriticalPoint(0.0, 1.0, curvature, "minimum")
    noise = GradientNoise(0.0, 0.0, deviation)
    predicted = _predict_spread(OptimizerSettings("sgd", lr), point, noise)
    generator = np.random.default_rng(0)
    w = np.zeros(20_000)
    for _ in range(400):
        w = w - lr * (curvature * w + deviation * generator.standard_normal(len(w)))
    assert predicted == pytest.approx(w.std(), rel=0.02)
    for other in (
        OptimizerSettings("adam", lr),
        OptimizerSettings("sgd", lr, momentum=0.9),
        OptimizerSettings("sgd", 2.1 / curvature),
    ):
        assert _predict_spread(other, point, noise) is None


@pytest.fixture(scope="module")
def hovering(grained):
    """At the spurious minimum of the mean over the images, with the noise of small batches."""
    experiment = Experiment(images=grained, loss="mse", **SMALL)
    landscape = sweep_objective(along(experiment), points=91).landscape
    (other,) = [point for point in landscape.attractors if not point.is_target]
    lr = 0.1 * other.stable_lr
    return other, gd.optimize(experiment, lr=lr, start=other.value, steps=600, batch_size=4)


class TestWhatIsSaid:
    @pytest.mark.slow
    def test_hovering_counts_as_another_minimum(self, hovering):
        other, result = hovering
        noisy, free = result.runs
        assert (noisy.outcome, free.outcome) == ("local_minimum", "local_minimum")
        assert noisy.trajectory.value[300:].std() > 1e-3
        assert noisy.lyapunov is None
        batch = noisy.to_dict()["batch"]
        assert batch["left_basin_at"] is None
        assert batch["noise_at_minimum"]["value"] == other.value
        assert "Neither with this noise nor without it" in batch["explanation"]

    @pytest.mark.slow
    def test_the_spread_is_near_its_prediction(self, hovering):
        """Independent draws are an upper bound: an epoch of 8 steps cancels part of the noise."""
        _, result = hovering
        batch = result.runs[0].to_dict()["batch"]
        assert 0.1 < batch["spread"] / batch["predicted_spread"] < 1.3

    @pytest.mark.slow
    def test_noise_vanishes_at_the_target(self, grained):
        experiment = Experiment(images=grained, loss="mse", theta0=0.7, **SMALL)
        noisy, _ = gd.optimize(experiment, lr=1e-3, steps=400, batch_size=5).runs
        assert noisy.outcome == "reached"
        assert "the gradient of every image vanishes" in noisy.batch["explanation"]

    @pytest.mark.long
    def test_leaving_the_basin_is_told_with_its_step(self, hovering, grained):
        other, _ = hovering
        experiment = Experiment(images=grained, loss="mse", **SMALL)
        result = gd.optimize(
            experiment, lr=0.9 * other.stable_lr, start=other.value, steps=200, batch_size=1
        )
        noisy, free = result.runs
        low, high = other.basin
        inside = (noisy.trajectory.value >= low) & (noisy.trajectory.value <= high)
        assert not inside.all()
        assert noisy.batch["left_basin_at"] == int(np.argmin(inside))
        assert noisy.batch["noise_free_left_basin_at"] is None
        assert free.outcome == "local_minimum"
        assert "The noise led out of the basin" in noisy.batch["explanation"]

    def test_the_losses_shown_are_those_of_all_images(self, hovering):
        noisy = hovering[1].runs[0]
        assert noisy.final_loss == noisy.trajectory.full_losses[-1]
        shown = noisy.to_dict()
        assert shown["best_loss"] == noisy.trajectory.full_losses.min()


def test_a_batch_of_all_images_is_no_batch(pictures):
    experiment = Experiment(images=pictures, loss="mse", **SMALL)
    result = gd.optimize(experiment, lr=0.01, steps=4, batch_size=7)
    assert len(result.runs) == 1
    assert "full_loss" not in result.runs[0].trajectory.to_table(["theta"])
    assert "Batches of 7 hold all images" in result.to_dict()["notes"][0]
    assert "batch" not in result.to_dict()["runs"][0]


def test_batches_need_many_images_and_a_shortcut(pictures):
    with pytest.raises(UsageError, match="many images"):
        gd.optimize(Experiment(image=pictures[0], **SMALL), batch_size=2)
    with pytest.raises(UsageError, match="many images"):
        gd.optimize(lambda value: value**2, range=(-1, 1), start=0.5, batch_size=2)
    direct = along(Experiment(images=pictures, loss="mse", **SMALL), direct=True)
    with pytest.raises(UsageError, match="shortcut"):
        gd.optimize(direct, batch_size=2, steps=1)


@pytest.mark.long
def test_other_optimizers_wander_without_a_prediction(hovering, grained):
    other, _ = hovering
    experiment = Experiment(images=grained, loss="mse", **SMALL)
    noisy, _ = gd.optimize(
        experiment, "adam", lr=1e-3, start=other.value, steps=200, batch_size=4
    ).runs
    assert noisy.batch["predicted_spread"] is None
    assert noisy.batch["explanation"].endswith("(standard deviation).")


@pytest.mark.parametrize(("lr_curvature", "cancels"), [(1.0, False), (0.1, True)])
def test_what_an_epoch_cancels_is_said_of_slow_runs_only(hovering, lr_curvature, cancels):
    # An epoch of 30 images in fours takes 8 steps; a run forgets in 1 / (lr L'') = 1 or 10.
    other, result = hovering
    settings = OptimizerSettings("sgd", lr_curvature / other.curvature)
    noisy = replace(result.runs[0], settings=settings)
    noise = GradientNoise(other.value, 0.0, 1.0)
    assert ("Less is expected" in _rest_words(noisy, noise, 0.1, 0.1, 30 / 4)) == cancels


def test_a_run_that_breaks_down_ends_in_no_basin(grained):
    experiment = Experiment(images=grained, loss="mse", **SMALL)
    noisy, free = gd.optimize(experiment, lr=1e308, steps=30, batch_size=5).runs
    assert (noisy.outcome, free.outcome) == ("nonfinite", "nonfinite")
    assert noisy.batch["explanation"].endswith("In the end it stays in no basin.")
    # Both leave the start's basin with their first step.
    assert "at step 1, without noise at step 1." in noisy.batch["explanation"]


@pytest.mark.parametrize(
    ("noisy", "free", "words"),
    [
        (None, None, "Neither with this noise nor without it"),
        (None, 7, "Without noise the run leaves the basin of the start at step 7, with it never."),
        (3, None, "The noise led out of the basin of the start, at step 3"),
        (3, 7, "leaves the basin of the start at step 3, without noise at step 7."),
    ],
)
def test_what_is_said_of_the_basin(noisy, free, words):
    assert words in _basin_words(noisy, free)
    # Around a gradient of zero nothing is a multiple of its size.
    assert "times its size" not in _scatter_words(GradientNoise(0.0, 0.0, 1.0))


def test_batches_descend_on_images_only(pictures):
    exact = along(Experiment(images=pictures, loss="mse", **SMALL))
    with pytest.raises(UsageError, match="an experiment to descend on"):
        run_all(
            exact,
            [OptimizerSettings("sgd", 0.1, steps=2)],
            [None],
            stepped=bowl(),
            batch_size=2,
            sweep=sweep_objective(exact, points=9),
        )
