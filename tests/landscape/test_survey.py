"""Single images of many: their losses and where the start leads on each, against plain grids."""

from __future__ import annotations

import math

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.landscape.sweep import survey_images
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from tests.objective.plain_images import SMALL, TARGET, plain_loop

GRID = np.linspace(-math.pi / 2, math.pi / 2, 181)[:-1]


@pytest.fixture(scope="module")
def pictures(texture):
    return [texture(22, 20, seed=seed) for seed in range(6)]


@pytest.fixture(scope="module")
def by_hand(pictures):
    """Every image's loss over one period, by conv2d."""
    return np.array([[plain_loop([p], theta, "mse")[0] for theta in GRID] for p in pictures])


@pytest.mark.parametrize("start", [-math.pi / 4, 1.4])
def test_every_image_alone(pictures, by_hand, start):
    experiment = Experiment(images=pictures, loss="mse", theta0=start, **SMALL)
    found = gd.sweep(experiment, points=181).survey
    np.testing.assert_allclose(found.losses[:, :-1], by_hand, rtol=1e-9, atol=1e-11)
    targets = 0
    for index, (image, curve) in enumerate(zip(found.near_start, by_hand, strict=True)):
        assert image.file == f"array {index}"
        assert image.minima == np.sum((curve < np.roll(curve, 1)) & (curve < np.roll(curve, -1)))
        at = int(np.argmin(np.abs(GRID - start)))
        while curve[(at + 1) % 180] < curve[at] or curve[at - 1] < curve[at]:
            at = (at + 1) % 180 if curve[(at + 1) % 180] < curve[at - 1] else (at - 1) % 180
        assert image.minimum == pytest.approx(GRID[at], abs=math.radians(1))
        reached = abs(GRID[at] - TARGET) < math.radians(1.5)
        assert image.is_target == reached
        assert image.certified
        targets += reached
    told = found.to_dict()
    assert (told["surveyed"], told["to_target"], told["spurious"]) == (6, targets, 6 - targets)


def test_more_images_are_sampled_evenly(pictures, monkeypatch):
    monkeypatch.setattr("gabordiag.landscape.sweep.MOST_SURVEYED", 3)
    objective = along(Experiment(images=pictures, loss="mse", **SMALL))
    found = survey_images(objective, GRID[:5])
    assert [image.file for image in found.near_start] == ["array 0", "array 2", "array 4"]
    assert found.losses.shape == (3, 5)


def test_nothing_to_survey(pictures):
    assert survey_images(along(Experiment(image=pictures[0], **SMALL)), GRID) is None
    direct = along(Experiment(images=pictures, **SMALL), direct=True)
    assert survey_images(direct, GRID) is None


def test_the_mean_says_which_images_it_is_over(pictures):
    experiment = Experiment(images=[*pictures, np.ones((30, 30))], loss="mse", **SMALL)
    told = gd.sweep(experiment, points=21).to_dict()["images"]
    assert told["used"] == 6
    assert told["skipped"][0]["file"] == "array 6"
    assert told["checked"] == ["array 0", "array 3", "array 5"]
    single = gd.sweep(Experiment(image=pictures[0], loss="mse", **SMALL), points=21)
    assert "images" not in single.to_dict()
    assert "images.npz" not in single.data()
