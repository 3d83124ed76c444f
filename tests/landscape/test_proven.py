"""No certified list of an experiment is wrong against a dense evaluation in long double."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from gabordiag.landscape.critical import find_critical_points
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along

LONG = np.longdouble
SAMPLES = 1201
# A derivative below this part of its largest terms has no sign: inputs are doubles, sums longer.
CLEAR = 1e-13


def images(side: int, random: np.random.Generator) -> dict[str, np.ndarray]:
    y, x = np.mgrid[:side, :side].astype(float)
    dot = np.zeros((side, side))
    dot[side // 2, side // 3] = 1.0
    a, b = random.integers(-3, 4, 2)
    # A ramp of no slope is refused: it says nothing about a filter.
    a = a or int(b == 0)
    return {
        "ramp": x,
        "slanted ramp": a * x + b * y + 1.0,
        "stripes": ((x + a * y) // random.integers(1, 6)) % 2,
        "checkerboard": (x // 3 + y // 3) % 2,
        "dot": dot,
        "constant and dot": 5.0 + dot,
        "noise": random.random((side, side)),
    }


def drawn(seed: int) -> dict[str, object]:
    """Settings of a random experiment."""
    random = np.random.default_rng(seed)
    # From 3 to 101; the first ones up to 17, which take no time.
    reach = random.random() * (0.5 if seed < 12 else 1.0)
    size = 2 * round(1.5 * (101 / 3) ** reach - 0.5) + 1
    kinds = images(size + int(random.integers(4, 12)), random)
    return {
        "image": kinds[list(kinds)[seed % len(kinds)]],
        "target_theta": random.uniform(-1.5, 1.5),
        "wavelength": 2 * 20 ** random.random(),
        "sigma": max(0.5, size / 6) * random.uniform(0.5, 1.5),
        "psi": float(random.choice([0.0, math.pi / 2, -math.pi / 2, 3 * math.pi / 2, math.pi])),
        "gamma": 0.2 * 100 ** random.random(),
        "kernel_size": size,
        "loss": str(random.choice(["mse", "rmse", "cosine"])),
    }


def kernels(theta: np.ndarray, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernels and their derivatives along theta (n, K^2), from the formula."""
    half = settings["kernel_size"] // 2
    y, x = (axis.ravel().astype(LONG) for axis in np.mgrid[-half : half + 1, -half : half + 1])
    theta = theta[:, None].astype(LONG)
    u = x * np.cos(theta) + y * np.sin(theta)
    v = y * np.cos(theta) - x * np.sin(theta)
    sigma, gamma, psi = (LONG(settings[name]) for name in ("sigma", "gamma", "psi"))
    rate = 8 * np.arctan(LONG(1)) / LONG(settings["wavelength"])
    envelope = np.exp(-(u * u + gamma * gamma * v * v) / (2 * sigma * sigma))
    # du/dtheta = v, dv/dtheta = -u.
    along = -(u * v - gamma * gamma * v * u) / (sigma * sigma) * np.cos(rate * u + psi)
    return envelope * np.cos(rate * u + psi), envelope * (along - rate * v * np.sin(rate * u + psi))


def slopes(settings: dict, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the derivative's sign function (n,), up to a positive factor, and its terms' size."""
    size = settings["kernel_size"]
    patches = sliding_window_view(settings["image"].astype(LONG), (size, size))
    patches = patches.reshape(-1, size * size).T
    target = kernels(np.array([settings["target_theta"]]), settings)[0]
    goal = (target @ patches)[0]
    found, sizes = [], []
    for part in np.array_split(theta, 1 + len(theta) * size * size // 2_000_000):
        kernel, change = kernels(part, settings)
        moved = change @ patches
        if settings["loss"] == "cosine":
            response = kernel @ patches
            across = (goal @ response.T) * (response * moved).sum(1) / (response**2).sum(1)
            terms = across, moved @ goal
        else:
            terms = ((kernel - target) @ patches * moved).sum(1), np.zeros(len(part), LONG)
        found.append(terms[0] - terms[1])
        spread = np.abs(change) @ np.abs(patches)
        sizes.append((np.abs(kernel) @ np.abs(patches) * spread).sum(1))
    return np.concatenate(found), np.concatenate(sizes)


def check(seed: int) -> bool:
    """Compares signs, if the list is certified; returns whether it is."""
    settings = drawn(seed)
    landscape = find_critical_points(along(Experiment(**settings)))
    if not landscape.certificate.certified:
        return False
    period = landscape.parameter.period
    theta = -period / 2 + period * (np.arange(SAMPLES) + 0.381966) / SAMPLES
    derivative, size = slopes(settings, theta)
    clear = np.abs(derivative) > CLEAR * size
    theta, signs = theta[clear], np.sign(derivative[clear])
    changes = signs != np.roll(signs, -1)
    roots = theta[0] + np.mod([p.value - theta[0] for p in landscape.points], period)
    counts = np.bincount(np.searchsorted(theta, roots) - 1, minlength=len(theta))
    np.testing.assert_array_equal(counts % 2, changes)
    return True


@pytest.mark.slow
def test_certified_lists_of_structured_images():
    # Most are certified; what is not claims nothing.
    assert sum(check(seed) for seed in range(12)) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12, 200))
def test_no_certified_list_is_wrong(seed):
    check(seed)
