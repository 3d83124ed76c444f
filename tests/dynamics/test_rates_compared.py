"""Recommended rates, tried by plain loops on batches drawn anew, beside a ramp's suggestions."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import gabordiag as gd

STEPS, SEEDS, LOWEST, HIGHEST = 60, 5, 1e-6, 10.0
pytestmark = pytest.mark.slow


def layers(*sizes: int, between: Callable[[int], list[nn.Module]]) -> nn.Module:
    made: list[nn.Module] = [nn.Flatten()]
    for wide, thin in itertools.pairwise(sizes):
        made += [nn.Linear(wide, thin), *between(thin)]
    return nn.Sequential(*made[: -len(between(1)) or None])


def convolutional() -> nn.Module:
    first, second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(256, 10))


def gabor() -> nn.Module:
    parts = gd.GaborConv2d(1, 8, 5), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(32, 10))


def plain(kind: type[nn.Module]) -> Callable[[int], list[nn.Module]]:
    return lambda width: [kind()]


# Network, optimizer of torch.optim, its options.
SETTINGS: dict[str, tuple[Callable[[], nn.Module], str, dict[str, float]]] = {
    "softmax": (lambda: layers(64, 10, between=lambda width: []), "SGD", {}),
    "tanh": (lambda: layers(64, 32, 10, between=plain(nn.Tanh)), "SGD", {}),
    "momentum": (lambda: layers(64, 32, 10, between=plain(nn.ReLU)), "SGD", {"momentum": 0.9}),
    "relu, adam": (lambda: layers(64, 32, 10, between=plain(nn.ReLU)), "Adam", {}),
    "deep": (lambda: layers(64, 32, 32, 32, 32, 10, between=plain(nn.Tanh)), "SGD", {}),
    "normalised": (
        lambda: layers(64, 32, 32, 10, between=lambda w: [nn.BatchNorm1d(w), nn.ReLU()]), "SGD", {}
    ),
    "convolutions": (convolutional, "SGD", {}),
    "convolutions, adam": (convolutional, "Adam", {}),
    "sigmoid, rmsprop": (lambda: layers(64, 32, 10, between=plain(nn.Sigmoid)), "RMSprop", {}),
    "dropout, adam": (
        lambda: layers(64, 64, 10, between=lambda w: [nn.ReLU(), nn.Dropout(0.3)]), "Adam", {}
    ),
    "gabor": (gabor, "SGD", {}),
    "gabor, adam": (gabor, "Adam", {}),
}  # fmt: skip


def made(name: str) -> gd.Training:
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images[:512].reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    batches = list(zip(x.split(64), torch.tensor(labels[:512]).split(64), strict=True))
    torch.manual_seed(0)
    return gd.Training(SETTINGS[name][0](), batches, functional.cross_entropy)


def optimizer_of(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    _, kind, options = SETTINGS[name]
    optimizer: torch.optim.Optimizer = getattr(torch.optim, kind)(
        model.parameters(), lr=lr, **options
    )
    return optimizer


def ending(name: str, lr: float, seed: int) -> float:
    """The loss at the end of a plain loop on batches that are drawn anew."""
    training = made(name)
    model, draw = training.model, torch.Generator().manual_seed(1000 + seed)
    torch.manual_seed(1000 + seed)
    x, y = (torch.cat(part) for part in zip(*training.batches, strict=True))
    optimizer, order = optimizer_of(name, model, lr), torch.empty(0, dtype=torch.long)
    for _ in range(STEPS):
        if not len(order):
            order = torch.randperm(len(x), generator=draw)
        batch, order = order[:64], order[64:]
        optimizer.zero_grad()
        training.loss(model(x[batch]), y[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        return float(np.mean([float(training.loss(model(x), y)) for x, y in training.batches]))


def ramp(name: str) -> dict[str, float]:
    """The two suggestions of a ramp: where the loss falls most steeply, a tenth of its lowest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_lr_finder = pytest.importorskip("torch_lr_finder")
        training = made(name)
        optimizer = optimizer_of(name, training.model, LOWEST)
        finder = torch_lr_finder.LRFinder(training.model, optimizer, training.loss, device="cpu")
        loader = torch.utils.data.DataLoader(training.batches, batch_size=None)
        finder.range_test(loader, end_lr=HIGHEST, num_iter=100)
        from matplotlib.figure import Figure

        _, steepest = finder.plot(ax=Figure().subplots(), suggest_lr=True)
    rates, losses = finder.history["lr"], finder.history["loss"]
    return {"steepest": float(steepest), "tenth of lowest": rates[int(np.nanargmin(losses))] / 10}


def test_recommended_rates_reach_the_goal(capsys: pytest.CaptureFixture[str]) -> None:
    shares: dict[str, list[float]] = {}
    lines = []
    for name, (_, kind, options) in SETTINGS.items():
        settings: Any = {"optimizer": kind.lower(), **options}
        found = gd.rates(made(name), steps=STEPS, lr=(LOWEST, HIGHEST, 15), **settings)
        rate, goal = found.scans[0].recommended, found.scans[0].goal
        assert rate is not None
        for who, lr in {"rates": rate, **ramp(name)}.items():
            reached = [ending(name, lr, seed) <= goal for seed in range(SEEDS)]
            shares.setdefault(who, []).append(float(np.mean(reached)))
            lines.append(f"{name}: {who} {lr:.3g} reaches {goal:.3g} in {sum(reached)} of {SEEDS}")
        lines.append(f"   {found.to_dict()['working_lr']}, {found.trainings} trainings")
    means = {who: float(np.mean(share)) for who, share in shares.items()}
    with capsys.disabled():
        print("", *lines, means, sep="\n")
    assert means["rates"] >= 0.95
    assert means["rates"] >= max(means.values())


class Filter(nn.Module):
    def __init__(self, theta: float, constants: dict[str, Any]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))
        self.constants = constants

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        kernel = gd.gabor_kernel(self.theta, dtype=torch.float64, **self.constants)
        return functional.conv2d(image, kernel[None, None])


def test_the_window_is_that_of_the_experiments_map() -> None:
    pixels = np.random.default_rng(0).standard_normal((30, 30))
    constants = {"wavelength": 5.0, "sigma": 2.0, "psi": 0.0, "gamma": 1.0, "kernel_size": 9}
    start, steps = math.radians(20), 60
    experiment = gd.Experiment(pixels, loss="mse", theta0=start, **constants)
    windows = gd.basins(experiment, lr=(1e-4, 1, 161), starts=[start], steps=steps).windows
    low, high = max(windows.working_lr, key=lambda window: window[1] / window[0])
    image = torch.tensor(pixels)[None, None]
    with torch.no_grad():
        target = Filter(math.pi / 4, constants)(image)
        beside = [
            float(functional.mse_loss(Filter(math.pi / 4 + off, constants)(image), target))
            for off in (-math.radians(1), math.radians(1))
        ]
    training = gd.Training(Filter(start, constants), [(image, target)], functional.mse_loss)
    found = gd.rates(training, steps=steps, goal=min(beside), seeds=1, lr=(1e-4, 1, 9))
    ((left, right),) = found.to_dict()["working_lr"]
    # The map asks for the last tenth of the steps to be at the target; its rates are 1.06 apart.
    assert 1 / 1.1 / 1.2 <= left / low <= 1.1
    assert 1 / 1.1 / 1.06 <= right / high <= 1.2
