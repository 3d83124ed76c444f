"""Speed as ratios, both sides measured in the same run; `make bench` prints them.

Nothing here is a pass or fail on seconds: machines differ, ratios much less.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

import gabordiag as gd
from gabordiag.dynamics.maps import run_basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.replay import log_columns
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.training import rates_of, run_training
from gabordiag.dynamics.windows import log_spaced
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.network import random_directions
from gabordiag.landscape.sweep import sweep_objective
from gabordiag.objective.gabor_line import along
from gabordiag.own.training import WeightLoss, find_watched
from gabordiag.runs.files import TrajectoryFile
from tests.diagnosis.test_digits import Net as DigitsNet
from tests.diagnosis.test_digits import split

pytestmark = pytest.mark.benchmark_suite

ANGLES = 1001


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).random((512, 512))


def seconds(
    function: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    begin = clock()
    function()
    return clock() - begin


def conv2d_sweep(image: np.ndarray, batch: int, angles: int) -> float:
    """Seconds a plain float32 sweep takes: conv2d forward and backward, `batch` kernels a call."""
    picture = torch.as_tensor(image, dtype=torch.float32)[None, None]
    target = torch.nn.functional.conv2d(picture, gd.gabor_kernel(dtype=torch.float32)[None, None])
    thetas = torch.linspace(-np.pi / 2, np.pi / 2, angles)

    def work() -> None:
        for chunk in thetas.split(batch):
            theta = chunk.clone().requires_grad_()
            kernels = gd.gabor_kernel(theta, dtype=torch.float32)[:, None]
            output = torch.nn.functional.conv2d(picture, kernels)
            (output - target).square().mean(dim=(0, 2, 3)).sqrt().sum().backward()

    work()
    return seconds(work)


def test_sweep_against_conv2d(benchmark: BenchmarkFixture, image: np.ndarray) -> None:
    experiment = gd.Experiment(image=image)
    gd.sweep(experiment, points=ANGLES)
    cold = min(seconds(lambda: gd.sweep(gd.Experiment(image=image), points=ANGLES)) for _ in "abc")
    objective = along(experiment, "theta")
    sweep_objective(objective, ANGLES)
    benchmark.pedantic(lambda: sweep_objective(objective, ANGLES), rounds=5, warmup_rounds=1)
    warm = benchmark.stats["median"]
    # 64 angles, scaled: a thousand one by one would take minutes and say the same.
    loop = conv2d_sweep(image, 1, 64) * ANGLES / 64
    batches = conv2d_sweep(image, 64, 128) * ANGLES / 128
    print(f"\nsweep of {ANGLES} angles, 512 x 512, K 31, loss and gradients three ways:")
    print(f"  {warm:.3f} s with the image's Gram matrix at hand, {cold:.3f} s from the image")
    for name, other in (("loop of conv2d + backward", loop), ("batches of 64 kernels", batches)):
        print(f"  {name}, float32: {other / warm:.0f} x, from the image {other / cold:.0f} x")


def conv2d_surface(image: np.ndarray, points: int) -> float:
    """Seconds of a plain float32 loop over pairs: conv2d, loss and both slopes, one by one."""
    picture = torch.as_tensor(image, dtype=torch.float32)[None, None]
    target = torch.nn.functional.conv2d(picture, gd.gabor_kernel(dtype=torch.float32)[None, None])
    draw = np.random.default_rng(1)
    pairs = np.stack([draw.uniform(-1.5, 1.5, points), draw.uniform(4, 25, points)], axis=1)

    def work() -> None:
        for pair in torch.as_tensor(pairs, dtype=torch.float32):
            theta, wavelength = (value.clone().requires_grad_() for value in pair)
            kernel = gd.gabor_kernel(theta, wavelength, dtype=torch.float32)
            output = torch.nn.functional.conv2d(picture, kernel[None, None])
            (output - target).square().mean().sqrt().backward()

    work()
    return seconds(work)


def test_surface_against_conv2d(benchmark: BenchmarkFixture, image: np.ndarray) -> None:
    side = 181

    def from_the_image() -> None:
        gd.sweep(gd.Experiment(image=image), over=("theta", "wavelength"), points=side)

    # Some points of the loop before every round, and the quickest counts: the machine may be busy.
    loops = [conv2d_surface(image, 8) / 8]

    def measure_the_loop() -> None:
        loops.append(conv2d_surface(image, 8) / 8)

    benchmark.pedantic(from_the_image, setup=measure_the_loop, rounds=3, warmup_rounds=1)
    spent = benchmark.stats["min"]
    ratio = min(loops) * side**2 / spent
    print(f"\n{side} x {side} surface of theta and wavelength, 512 x 512, K 31, both slopes, all")
    print(f"  critical points: {spent:.2f} s from the image, {torch.get_num_threads()} threads,")
    print(f"  {ratio:.0f} x a loop of conv2d + backward in float32")
    assert ratio > 500


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_map_against_scalar_loop(benchmark: BenchmarkFixture, optimizer: str) -> None:
    objective = along(gd.Experiment(loss="mse"), "theta")
    sweep = sweep_objective(objective)
    table = TabulatedObjective(objective, sweep.landscape)
    settings = OptimizerSettings(optimizer, steps=1500)
    lrs = log_spaced(1e-4, 10.0, 241)

    def whole_map() -> None:
        run_basins(objective, settings, lrs, sweep=sweep, table=table)

    benchmark.pedantic(whole_map, rounds=2, warmup_rounds=1)
    spent = benchmark.stats["min"]
    rate = 361 * 241 * 1500 / spent

    theta = torch.tensor([-0.7], dtype=torch.float64, requires_grad=True)
    scalar = settings.build([theta], lr=1e-3)

    def loop() -> None:
        for _ in range(200):
            scalar.zero_grad()
            objective.loss(theta)[0].backward()
            scalar.step()

    loop()
    plain = 200 / seconds(loop)
    print(f"\nmap of 361 starts x 241 rates x 1500 steps, {optimizer}: {spent:.1f} s,")
    print(f"  {rate:.3g} steps a second, {rate / plain:.0f} x a scalar torch.optim loop")


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gabor = gd.GaborConv2d(1, 16, 9)
        self.norm = torch.nn.BatchNorm2d(16)
        self.head = torch.nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.gabor(x))).mean(dim=(2, 3)))


@pytest.mark.parametrize("side", [12, 28])
def test_watched_training_against_the_plain_loop(side: int, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.randn(640, 1, side, side, generator=draw), torch.arange(640) % 10
    )
    batches = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
    compare, epochs = torch.nn.functional.cross_entropy, 200 // side
    training = gd.Training(Net(), batches, compare)
    watched = find_watched(training.model, ["gabor.theta", "gabor.sigma", "gabor.wavelength"])
    # The watched run computes a last loss where the plain loop takes a last step.
    settings = OptimizerSettings("adam", steps=10 * epochs - 1)
    rates = rates_of(training, watched, 0.01, 0.01)
    columns = log_columns([element.label for element in watched])

    def plain() -> None:
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        losses = []
        for _ in range(epochs):
            for x, y in batches:
                optimizer.zero_grad()
                loss = compare(model(x), y)
                loss.backward()
                optimizer.step()
                losses.append(loss.item())

    def watch() -> None:
        with contextlib.closing(TrajectoryFile(tmp_path / "log.csv", columns)) as log:
            run_training(training, watched, settings, rates, listener=lambda step: log(step.row()))

    plain()
    watch()
    # In turn, so that a machine that is busy for a while is so for both.
    ratios = [1 / seconds(plain) * seconds(watch) for _ in range(7)]
    ratio = float(np.median(ratios))
    print(f"\ntraining on {side} x {side} images, 48 numbers watched and logged:")
    print(f"  {ratio:.2f} x the plain loop")
    assert ratio <= 1.3


def test_plane_through_the_digits_network_against_forward_passes() -> None:
    torch.manual_seed(0)
    batches = split()[0][:4]
    training = gd.Training(DigitsNet(), batches, torch.nn.functional.cross_entropy)
    model, places = training.model, 41 * 4

    def forward() -> None:
        with torch.no_grad():
            for _ in range(places):
                for x, y in batches:
                    training.loss(model(x), y)

    state = training.state()
    loss = WeightLoss(training, batches, state, 0)
    origin = loss.weights.vector(state)
    directions = random_directions(model, loss.weights.tensors(origin[: loss.weights.count]), 0)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 41)] * 2), axis=-1).reshape(-1, 2)

    def plane() -> None:
        for part in np.split(grid[:places], range(64, places, 64)):
            loss.on_grid(origin, directions, part)

    forward()
    # In turn, and in time of the processor: the machine may be busy.
    ratios = [
        1 / seconds(forward, time.process_time) * seconds(plane, time.process_time)
        for _ in range(7)
    ]
    ratio = float(np.median(ratios))
    print(f"\na plane through the digits network: {ratio:.2f} x as many forward passes")
    assert ratio <= 1.1


def test_proof(benchmark: BenchmarkFixture) -> None:
    objective = along(gd.Experiment(), "theta")
    find_critical_points(objective)
    benchmark.pedantic(lambda: find_critical_points(objective), rounds=5, warmup_rounds=1)
    print(f"\nall critical points with proof: {benchmark.stats['median']:.3f} s")
