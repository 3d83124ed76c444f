"""One table: every kind of work as a ratio to what it cannot do without, measured in this run.

CPU time with one thread, of processes that run in turn: neither the number of cores nor who else
uses them matters much. `at least` is what no program can avoid, in the same unit: the imports that
the command makes, torch's own steps, the memory that a map moves. `make bench` prints it.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.windows import log_spaced, measure_windows
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.plan import make_plan, planned_sweep
from gabordiag.objective.gabor_line import along
from gabordiag.own.custom import own_objective

pytestmark = pytest.mark.benchmark_suite

IMPORTS = "import torch, matplotlib.pyplot"
LIGHT = "import numpy, rich, typer"
STEPS = 20_000
BARE = f"""
import torch
value = torch.tensor([-0.7], dtype=torch.float64)
value.grad = torch.zeros(1, dtype=torch.float64)
optimizer = torch.optim.SGD([value], lr=0.001)
for _ in range({STEPS}):
    optimizer.step()
"""
RANGE = {"range": (-1.0, 1.0), "start": -0.9, "target": 0.3}


class Line(NamedTuple):
    work: str
    measured: float
    unit: str
    aim: float
    at_least: float | None = None


def cpu(*arguments: str, code: int = 0) -> float:
    """Seconds of CPU time that a Python process takes, which must end with an exit code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == code, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def ratio(*command: str, out: Path, to: tuple[str, ...], rounds: int = 1) -> float:
    """The quickest of some runs over the quickest of what it is compared with, in turn."""
    ours, theirs = [], []
    for _ in range(rounds):
        theirs.append(cpu(*to))
        folder = out / f"{len(list(out.iterdir()))}"
        ours.append(cpu("-m", "gabordiag", *command, "--quiet", "--out", str(folder)))
    theirs.append(cpu(*to))
    return min(ours) / min(theirs)


def commands(out: Path) -> Iterator[Line]:
    imports = ("-c", IMPORTS)
    torch_alone = min(cpu("-c", "import torch") for _ in range(2))
    floor = torch_alone / min(cpu(*imports) for _ in range(2))
    four = [
        word for name in ("theta", "wavelength", "sigma", "gamma") for word in ("--learn", name)
    ]
    for work, words, aim, rounds in (
        ("sweep", (), 1.3, 3),
        ("diagnose", ("--lr", "3", "--steps", "2000"), 2, 2),
        ("basins", (), 2.5, 2),
        ("sweep", ("--kernel-size", "101"), 2, 1),
        ("diagnose", tuple(four), 2.5, 1),
    ):
        command = (work, *words, "--no-plots")
        measured = ratio(*command, out=out, to=imports, rounds=rounds)
        yield Line(" ".join(command), measured, "imports", aim, floor)
    yield Line("reproduce, all figures", ratio("reproduce", out=out, to=imports), "imports", 4.5, 1)

    draw = np.random.default_rng(0)
    for rows, rounds in ((1000, 3), (1_000_000, 1)):
        log = out / f"{rows}.csv"
        table = np.column_stack([np.arange(rows), draw.normal(size=rows), draw.random(rows)])
        np.savetxt(log, table, "%d,%.17g,%.17g", header="step,theta,loss", comments="")
        load = f"import numpy; numpy.loadtxt({str(log)!r}, delimiter=',', skiprows=1)"
        to, unit = (LIGHT, "light imports") if rows == 1000 else (load, "numpy.loadtxt")
        command = ("explain", str(log), "--no-plots")
        measured = ratio(*command, out=out, to=("-c", to), rounds=rounds)
        yield Line(f"explain, {rows:,} rows", measured, unit, 4, 1)

    short, long = (
        cpu(
            *("-m", "gabordiag", "optimize", "--lr", "0.001", "--steps", steps),
            *("--no-plots", "--quiet", "--out", str(out / f"optimize-{steps}")),
        )
        for steps in ("10", str(STEPS))
    )
    bare = cpu("-c", BARE) - torch_alone
    yield Line("optimize, a logged step", (long - short) / bare, "torch.optim.SGD.step()", 3, 1)
    wrong = ("-m", "gabordiag", "sweep", "--loss", "nonsense")
    light = min(cpu("-c", LIGHT) for _ in range(3))
    yield Line("wrong option value", min(cpu(*wrong, code=2) for _ in range(3)), "s", 0.5, light)
    alone, package = (min(cpu("-c", c) for _ in range(5)) for c in ("pass", "import gabordiag"))
    yield Line("import gabordiag", package - alone, "s", 0.03, 0)


def custom() -> Iterator[Line]:
    calls = []

    def unbatchable(value: torch.Tensor) -> torch.Tensor:
        calls.append(float(value.detach()))
        return (value - 0.3) ** 2 * torch.cos(value) + 1

    gd.sweep(unbatchable, **RANGE)
    yield Line("sweep, torch cannot batch", len(calls), "evaluations", 400)
    calls.clear()
    gd.diagnose(unbatchable, **RANGE, lr=3.0)
    yield Line("diagnose, torch cannot batch", len(calls), "evaluations", 800)

    torch.manual_seed(0)
    images, labels = torch.randn(8, 1, 20, 20, dtype=torch.float64), torch.arange(8)

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(1, 16, 3, dtype=torch.float64)
            self.second = torch.nn.Conv2d(16, 32, 3, dtype=torch.float64)
            self.head = torch.nn.Linear(32, 10, dtype=torch.float64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.second(torch.relu(self.first(x))))
            return torch.nn.functional.cross_entropy(self.head(x.mean(dim=(2, 3))), labels)

    net = own_objective(Net(), param="first.weight[0,0,1,1]", input=images, range=(-3, 3))
    plan = make_plan(net)
    assert plan is not None
    # What was announced is the time that passes.
    begin = time.perf_counter()
    planned_sweep(net, plan)
    spent = time.perf_counter() - begin
    yield Line("sweep, one weight of a CNN", spent / plan.seconds, "announced time", 1.5)


def by_hand() -> Iterator[Line]:
    """How many times as long conv2d and backward in float32 take, extrapolated from single calls.

    This begins with the image every time.
    """
    picture = gd.Experiment().padded[None, None].float()
    target = torch.nn.functional.conv2d(picture, gd.gabor_kernel(dtype=picture.dtype)[None, None])

    def loss(theta: torch.Tensor, wavelength: torch.Tensor | float = 10.0) -> torch.Tensor:
        kernel = gd.gabor_kernel(theta, wavelength, dtype=picture.dtype)[None, None]
        return (torch.nn.functional.conv2d(picture, kernel) - target).square().mean().sqrt()

    theta, wavelength = (torch.tensor(v, requires_grad=True) for v in (0.3, 9.0))
    loss(theta).backward()
    one = min(seconds(lambda: loss(theta).backward()) for _ in range(3))
    two = min(seconds(lambda: loss(theta, wavelength).backward()) for _ in range(3))
    twice = seconds(lambda: torch.autograd.functional.hessian(loss, theta.detach()))
    rates, scan = log_spaced(1e-4, 10.0, 241), OptimizerSettings(steps=1500)

    def windows() -> None:
        line = along(gd.Experiment())
        table = TabulatedObjective(line, find_critical_points(line))
        measure_windows(table, scan, rates, -0.7)

    for work, hand, ours in (
        ("721 losses and gradients", 721 * one, lambda: gd.sweep(gd.Experiment())),
        (
            "a surface of 181 x 181 with slopes",
            181**2 * two,
            lambda: gd.sweep(gd.Experiment(), over=("theta", "wavelength")),
        ),
        ("which of 241 rates work, 1500 steps", 241 * 1500 * one, windows),
        (
            "one curvature, not the 721 of a sweep",
            twice,
            lambda: along(gd.Experiment()).derivatives([0.3], 2),
        ),
    ):
        yield Line(f"by hand: {work}", hand / min(seconds(ours) for _ in range(2)), "this", 1)


class Filter(torch.nn.Module):
    """The experiment's filter as people write it: a convolution with a kernel made of theta."""

    def __init__(self, theta: float = 0.3, wavelength: float = 10.0) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(theta))
        # Moved by planes, not learned.
        self.wavelength = torch.nn.Parameter(torch.tensor(wavelength), requires_grad=False)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        kernel = gd.gabor_kernel(self.theta, self.wavelength, dtype=picture.dtype)
        return torch.nn.functional.conv2d(picture, kernel[None, None])


def peers() -> Iterator[Line]:
    """How many times as long other packages take for the same, alternating, per point or step."""
    import curvlinops
    import loss_landscapes
    from loss_landscapes.metrics import Loss
    from pyhessian import hessian
    from torch_lr_finder import LRFinder

    picture = gd.Experiment().padded[None, None].float()
    loss, target = torch.nn.MSELoss(), Filter(math.pi / 4)(picture).detach()
    metric, few = Loss(loss, picture, target), 10
    # The one picture, few times.
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(*(x.expand(few, -1, -1, -1) for x in (picture, target)))
    )

    def mse() -> Any:
        """Ours begins with the image every time."""
        return along(gd.Experiment(loss="mse"))

    def ramp() -> None:
        finder = LRFinder(model := Filter(-0.7), torch.optim.SGD(model.parameters(), 1e-4), loss)
        finder.range_test(loader, end_lr=10.0, num_iter=few, diverge_th=1e9)

    def product() -> float:
        model, data = Filter(math.pi / 4), [(picture, target)]
        operator = curvlinops.HessianLinearOperator(
            model, loss, [model.theta], data, check_deterministic=False
        )
        return float((operator @ torch.eye(1))[0, 0])

    def eigenvalue() -> float:
        made = hessian(Filter(math.pi / 4), loss, data=(picture, target), cuda=False)
        return float(made.eigenvalues()[0][0])

    rates, scan = log_spaced(1e-4, 10.0, 241), OptimizerSettings(steps=1500)

    def windows() -> None:
        line = mse()
        measure_windows(TabulatedObjective(line, find_critical_points(line)), scan, rates, -0.7)

    assert product() == pytest.approx(eigenvalue(), rel=1e-3)
    assert product() == pytest.approx(float(mse().derivatives([math.pi / 4], 2)[2][0]), rel=1e-3)
    ends = Filter(-0.7), Filter(0.7), Filter(-0.7, 12.0)
    for work, theirs, parts, ours in (
        ("loss-landscapes: a line of 721 losses, without slopes",
         lambda: loss_landscapes.linear_interpolation(*ends[:2], metric, few), 721 / few,
         lambda: gd.sweep(gd.Experiment(loss="mse"))),
        ("loss-landscapes: a plane of 181 x 181, without slopes",
         lambda: loss_landscapes.planar_interpolation(*ends, metric, 3), 181**2 / 9,
         lambda: gd.sweep(gd.Experiment(loss="mse"), over=("theta", "wavelength"))),
        ("torch-lr-finder: one ramp of 241 rates, a step each", ramp, 241 / few, windows),
        ("PyHessian: the eigenvalue at the target", eigenvalue, 1,
         lambda: mse().derivatives([math.pi / 4], 2)),
        ("curvlinops: the second derivative at the target", product, 1,
         lambda: mse().derivatives([math.pi / 4], 2)),
    ):  # fmt: skip
        spent = [(seconds(theirs), seconds(ours)) for _ in range(3)]
        other, own = (min(column) for column in zip(*spent, strict=True))
        yield Line(work, parts * other / own, "this", 1)


def atlas() -> Iterator[Line]:
    """An atlas's landscape against a sweep and a map of one, all three filters on one image."""
    image = gd.Experiment().pixels
    images = [np.roll(image, 40 * shift, axis=1) for shift in range(8)]
    filters: dict[str, Any] = {"sigma": (3.0, 4.0, 5.0)}
    each = seconds(lambda: gd.atlas(gd.Experiment(images=images), **filters)) / (8 * 2 * 3)

    def alone() -> None:
        gd.sweep(gd.Experiment())
        gd.basins(gd.Experiment())

    yield Line("a landscape of an atlas", each / seconds(alone), "sweep + basins", 0.05)
    filters = {"sigma": np.linspace(2, 8, 8), "wavelength": (6.0, 12.0, 18.0)}

    def pace(workers: int) -> float:
        """Seconds a landscape, once all workers compute."""
        marks: list[tuple[float, int]] = []
        gd.atlas(
            gd.Experiment(images=images[:7]), **filters, workers=workers,
            progress=lambda done, total: marks.append((time.perf_counter(), done)),
        )  # fmt: skip
        (begin, first), (end, last) = marks[len(marks) // 4], marks[3 * len(marks) // 4]
        return (end - begin) / (last - first)

    alone_pace = pace(1)
    for workers in (2, 4):
        aim = 1.3 / workers if workers <= (os.cpu_count() or 1) else 1.0
        yield Line(f"the same, {workers} workers", pace(workers) / alone_pace, "one worker", aim)


def moved_memory() -> str:
    """How long the values and slopes of the default map take to be moved, if they only are."""
    block = torch.zeros(30_000, dtype=torch.float64)
    steps = 361 * 241 * 1500 / len(block)
    spent = seconds(lambda: [block.add_(1.0) for _ in range(2000)]) / 2000 * steps
    image = torch.rand(600, 512, dtype=torch.float64)
    transform = seconds(lambda: [torch.fft.rfft2(image) for _ in range(20)]) / 20
    return (
        f"To add a number to every value of the map of `basins` at every step takes {spent:.2g} s; "
        f"a real FFT of the photograph {1e3 * transform:.0f} ms."
    )


def test_table(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        # The others' own progress bars, and torch's warning of PyHessian's graphs.
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            compared = list(peers())
        lines = [*commands(tmp_path), *custom(), *atlas(), *by_hand(), *compared]
        memory = moved_memory()
    imports = min(cpu("-c", IMPORTS) for _ in range(3))
    print(
        f"\n\n{os.cpu_count()} cores, {platform.machine()}, no GPU used, torch {torch.__version__};"
    )
    print(f"the imports (`{IMPORTS}`) take {imports:.1f} s of CPU time. {memory}\n")
    print("| work | measured | in | aim | at least |\n|---|---|---|---|---|")
    for line in lines:
        least = "" if line.at_least is None else f"{line.at_least:.2g}"
        aim = "" if ":" in line.work else f"{line.aim:g}"
        print(f"| {line.work} | {line.measured:.3g} | {line.unit} | {aim} | {least} |", flush=True)
