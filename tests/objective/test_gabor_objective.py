"""Several parameters at once: loss and derivatives against scalars; the filter's symmetries."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gabordiag.errors import UsageError
from gabordiag.gabor import PARAMETER_NAMES, gabor_kernel
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.response import fold_even, patch_gram
from tests import reference

PAIRS = list(itertools.combinations(PARAMETER_NAMES, 2))
LOSSES = tuple(reference.LOSSES)
PADDINGS = ("valid", "same", "circular")
SIZE = 5
TARGET = {"theta": 0.7, "wavelength": 3.5, "sigma": 1.3, "gamma": 0.8}
# Where each parameter is drawn from.
RANGES = {
    "theta": (-3.0, 3.0),
    "wavelength": (2.0, 7.0),
    "sigma": (0.7, 2.5),
    "psi": (-3.0, 3.0),
    "gamma": (0.4, 1.6),
}


def small(psi: float = 0.0, **settings: Any) -> Experiment:
    image = 0.5 + np.random.default_rng(5).standard_normal((12, 11))
    return Experiment(
        image=image,
        target_theta=TARGET["theta"],
        wavelength=TARGET["wavelength"],
        sigma=TARGET["sigma"],
        gamma=TARGET["gamma"],
        psi=psi,
        kernel_size=SIZE,
        **settings,
    )


def points_of(names: tuple[str, ...], count: int) -> np.ndarray:
    generator = np.random.default_rng(PARAMETER_NAMES.index(names[0]))
    return np.stack([generator.uniform(*RANGES[name], count) for name in names], axis=1)


def by_reference(experiment: Experiment, names: tuple[str, ...], point: np.ndarray) -> list[float]:
    """Returns the loss and its derivatives at one point, in scalars."""
    image, size = np.asarray(experiment.image).tolist(), experiment.kernel_size
    fixed = {**TARGET, "psi": experiment.psi}
    moved = {**fixed, **dict(zip(names, point.tolist(), strict=True))}

    def respond(weights: reference.Rows) -> list[float]:
        return reference.correlate(image, weights, experiment.padding)

    target = respond(reference.kernel(size, **fixed))
    output = respond(reference.kernel(size, **moved))
    changes = [respond(reference.partial_kernel(size, name, **moved)) for name in names]
    slopes = [reference.loss_gradient(experiment.loss, output, target, c) for c in changes]
    return [reference.LOSSES[experiment.loss](output, target), *slopes]


@pytest.mark.each(4)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_every_pair_is_that_of_scalar_loops(names, loss, padding):
    # With psi 0 the kernels are even, with 0.6 they are not.
    for psi in (0.0, 0.6):
        experiment = small(psi, loss=loss, padding=padding)
        points = points_of(names, 3)
        expected = np.array([by_reference(experiment, names, point) for point in points])
        losses, slopes = GaborObjective(experiment, names).loss_and_gradient(points)
        ours = np.column_stack([losses, slopes])
        largest = np.abs(expected).max(axis=0)
        assert (np.abs(ours - expected) <= 1e-10 * largest).all()


@pytest.mark.parametrize("tilt", [-0.3, 0.7])
def test_a_plane_wave_leaves_some_pixels_rounding_alone(tilt):
    # sin(k (x + u)) + sin(k (x - u)) = 2 sin(k x) cos(k u): nothing of the pixels u and -u that an
    # even kernel weighs alike, where k u is a quarter turn, as at (4, 5) for the first tilt.
    y, x = np.indices((24, 24)) * 1.0
    wave = np.sin(2 * np.pi * (x + tilt * y) / 10)
    experiment, names = replace(small(), image=wave, kernel_size=13), ("theta", "sigma")
    points = points_of(names, 2)
    expected = np.array([by_reference(experiment, names, point) for point in points])
    ours = np.column_stack(GaborObjective(experiment, names).loss_and_gradient(points))
    assert (np.abs(ours - expected) <= 1e-10 * np.abs(expected).max(axis=0)).all()


@pytest.mark.each(3)
@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("names", [*PAIRS, PARAMETER_NAMES], ids="-".join)
def test_the_shortcut_is_the_whole_image(names, loss, noise):
    for psi in (0.0, math.pi, 0.6):
        experiment = small(psi, loss=loss, target_noise=noise)
        joint, direct = (GaborObjective(experiment, names, direct=d) for d in (False, True))
        points = points_of(names, 6)
        for smooth in (False, True):
            ours = joint.loss_and_gradient(points, smooth=smooth)
            expected = direct.loss_and_gradient(points, smooth=smooth)
            for mine, theirs in zip(ours, expected, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
        np.testing.assert_array_equal(joint.loss_at(points), joint.loss_and_gradient(points)[0])


@pytest.mark.parametrize("logs", [(), ("sigma",), ("wavelength", "sigma", "gamma")])
@pytest.mark.parametrize("loss", LOSSES)
def test_derivatives_are_limits_of_differences(loss, logs):
    joint = GaborObjective(small(0.3, loss=loss), PARAMETER_NAMES, logs)
    at = joint.space.coordinates(points_of(PARAMETER_NAMES, 4))
    step = 1e-5
    for smooth in (False, True):
        slopes = joint.loss_and_gradient(at, smooth=smooth)[1]
        hessians = joint.hessian(at, smooth=smooth)
        for column in range(at.shape[1]):
            moved = np.zeros(at.shape[1])
            moved[column] = step
            (up, up_slopes), (down, down_slopes) = (
                joint.loss_and_gradient(at + sign * moved, smooth=smooth) for sign in (1, -1)
            )
            # Truncation h^2 f''' / 6 and cancellation eps / h, both relative to f's own size.
            numeric = (up - down) / (2 * step)
            np.testing.assert_allclose(
                slopes[:, column], numeric, rtol=0, atol=1e-8 * np.abs(slopes).max()
            )
            numeric = (up_slopes - down_slopes) / (2 * step)
            np.testing.assert_allclose(
                hessians[:, column], numeric, rtol=0, atol=1e-8 * np.abs(hessians).max()
            )


def test_the_others_stand_at_the_target():
    joint = GaborObjective(small(0.6), ("sigma", "psi"))
    np.testing.assert_array_equal(joint.space.target, [TARGET["sigma"], 0.6])
    assert joint.loss_at(joint.space.target[None])[0] == 0
    kernel = joint.kernels(joint.tensor([[2.0, 0.1]]))[0]
    expected = gabor_kernel(**{**TARGET, "sigma": 2.0, "psi": 0.1}, kernel_size=SIZE)
    torch.testing.assert_close(kernel, expected)


def _candidates(names: tuple[str, ...], fixed: dict[str, float]) -> list[dict[str, float]]:
    """All combinations of half turns, signs and phases of the learned parameters."""
    moves = {
        "theta": lambda v: (v, v + math.pi, v + math.pi / 2, -v),
        "wavelength": lambda v: (v, -v, 2 * v),
        "sigma": lambda v: (v, -v, 1 / v),
        "psi": lambda v: (v, -v, v + math.pi, math.pi - v),
        "gamma": lambda v: (v, -v),
    }
    values = [moves[name](fixed[name]) for name in names]
    return [
        dict(zip(names, combination, strict=True)) for combination in itertools.product(*values)
    ]


@pytest.mark.parametrize("psi", [0.0, math.pi, 0.3, math.pi / 2])
@pytest.mark.parametrize(
    "names",
    [
        ("theta", "psi"),
        ("theta", "wavelength"),
        ("psi", "wavelength"),
        ("sigma", "gamma"),
        PARAMETER_NAMES,
    ],
    ids="-".join,
)
def test_copies_are_all_that_have_the_targets_kernel(names, psi):
    joint = GaborObjective(small(psi), names)
    fixed = {**TARGET, "psi": psi}
    target = np.array(reference.kernel(7, **fixed))

    def is_target(values: dict[str, float]) -> bool:
        kernel = np.array(reference.kernel(7, **{**fixed, **values}))
        return bool(np.abs(kernel - target).max() < 1e-12)

    copies = joint.goals
    assert all(is_target(dict(zip(names, copy, strict=True))) for copy in copies.tolist())
    candidates = _candidates(names, fixed)
    verdicts = [is_target(values) for values in candidates]
    assert {True, False} == set(verdicts)
    places = np.array([[values[name] for name in names] for values in candidates])
    near = np.min([joint.space.distances(places, goal) for goal in joint.goals], axis=0) < 1e-6
    np.testing.assert_array_equal(near, verdicts)


def test_half_a_period_of_phase_is_no_copy():
    joint = GaborObjective(small(0.3), ("theta", "psi"))
    turned = [TARGET["theta"], 0.3 + math.pi]
    assert min(joint.space.distances(turned, goal) for goal in joint.goals) > 1
    kernels = joint.kernels(joint.tensor([turned, joint.space.target]))
    torch.testing.assert_close(kernels[0], -kernels[1])


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("size", [3, 5])
def test_folded_pixels_weigh_even_kernels_alike(size, noisy):
    generator = np.random.default_rng(size)
    image, extra = (torch.as_tensor(generator.random((9 + m, 8 + m))) for m in (size - 1, 0))
    gram = patch_gram(image, size, extra if noisy else None)
    kernels = torch.as_tensor(generator.standard_normal((2, size, size)))
    even = (kernels + kernels.flip(-1, -2)).flatten(1)
    weights = torch.cat([even, torch.tensor([[2.0], [-1.0]])], 1) if noisy else even
    half = (size**2 + 1) // 2
    folded = torch.cat([even[:, :half], weights[:, size**2 :]], 1)
    torch.testing.assert_close(
        folded @ fold_even(gram, size) @ folded.T, weights @ gram @ weights.T, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize(
    ("names", "logs"),
    [(("theta", "theta"), ()), ((), ()), (("theta", "angle"), ()), (("theta",), ("theta",))],
)
def test_what_cannot_be_learned_is_refused(names, logs):
    with pytest.raises(UsageError):
        GaborObjective(small(), names, logs)
