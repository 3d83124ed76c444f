"""The same answer twice: to the bit on one machine, within tolerances across threads and types."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

import gabordiag as gd
from gabordiag.dynamics.outcomes import trusted_steps
from gabordiag.objective.space import Parameter

SMALL = ["--image", "image.npy", "--kernel-size", "9", "--wavelength", "5", "--sigma", "2"]
COMMANDS = {
    "optimize": ["optimize", *SMALL, "--lr", "3", "--lr", "0.01", "--steps", "300"],
    "basins": ["basins", *SMALL, "--lr", "1e-3:10:12", "--starts", "-1:1:9", "--steps", "200"],
    "diagnose": ["diagnose", *SMALL, "--lr", "3", "--steps", "200"],
    "noise": ["sweep", *SMALL, "--target-noise", "0.1", "--padding", "circular"],
}
# Relative: what another number of threads may change where the run is not chaotic.
ACROSS_THREADS = 1e-7
RUN = """
import json, sys
from gabordiag.cli.main import run
for name, arguments in json.loads(sys.argv[1]).items():
    out = f"{sys.argv[2]}-{name}"
    assert run([*arguments, "--no-plots", "--quiet", "--out", out]) == 0
"""
ROOT = str(Path(__file__).parents[1])


def _results(place: Path, who: str, threads: str | None, commands: dict[str, Any]) -> Any:
    """Makes runs in a process of their own; returns what they found, without times."""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = threads
    # As the command line sets it: threads that spin starve each other on a busy machine.
    environment |= {"PYTHONPATH": ROOT, "OMP_WAIT_POLICY": "PASSIVE"}
    subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(commands), who],
        cwd=place, env=environment, check=True,
    )  # fmt: skip
    found = {}
    for name in commands:
        content = json.loads((place / f"{who}-{name}" / "result.json").read_text())
        assert content.pop("seconds") > 0
        del content["environment"]["threads"]
        found[name] = content
    return found


def _compare_data(place: Path, one: str, other: str, name: str) -> None:
    for file in sorted((place / f"{one}-{name}").iterdir()):
        if file.suffix in (".csv", ".npz"):
            assert file.read_bytes() == (place / f"{other}-{name}" / file.name).read_bytes(), file


def _assert_close(one: Any, other: Any, where: str = "") -> None:
    """Asserts that two results differ by rounding only."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            # An error of rounding is rounding itself.
            if key != "gradient_check":
                _assert_close(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for index, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            _assert_close(mine, theirs, f"{where}/{index}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=ACROSS_THREADS, abs=ACROSS_THREADS), where
    elif not isinstance(one, str) or "e-" not in one:
        # Sentences may show an error of rounding.
        assert one == other, where


@pytest.fixture
def place(tmp_path: Path) -> Path:
    np.save(tmp_path / "image.npy", np.random.default_rng(5).standard_normal((90, 110)))
    return tmp_path


@pytest.mark.slow
def test_same_settings_give_the_same_numbers(place: Path) -> None:
    first = _results(place, "first", None, COMMANDS)
    again = _results(place, "again", None, COMMANDS)
    assert first == again
    for name in COMMANDS:
        _compare_data(place, "first", "again", name)


@pytest.mark.slow
def test_other_numbers_of_threads_give_the_same_numbers(place: Path) -> None:
    first = _results(place, "first", None, COMMANDS)
    # The sums over the image are made in one order, so that even a chaotic run is the same; what is
    # computed in batches may differ in its last digits.
    _assert_close(_results(place, "alone", "1", COMMANDS), first)
    for name in ("trajectory-000.csv", "trajectory-001.csv"):
        logs = [(place / f"{who}-optimize" / name).read_bytes() for who in ("first", "alone")]
        assert logs[0] == logs[1]


@pytest.mark.slow
def test_reproduce_gives_the_same_numbers(tmp_path: Path) -> None:
    commands = {"reproduce": ["reproduce"]}
    first = _results(tmp_path, "first", None, commands)
    assert _results(tmp_path, "again", None, commands) == first
    cases = _results(tmp_path, "alone", "1", commands)["reproduce"]["result"]["cases"]
    for name, case in first["reproduce"]["result"]["cases"].items():
        _assert_close(cases[name]["landscape"], case["landscape"])
        assert cases[name]["symptom"]["run"]["symptoms"] == case["symptom"]["run"]["symptoms"]


@pytest.mark.parametrize("loss", ["mse", "rmse", "cosine"])
def test_float32_finds_the_same_landscape(place: Path, loss: str) -> None:
    image = np.load(place / "image.npy")
    settings: dict[str, Any] = {
        "image": image, "kernel_size": 9, "wavelength": 5.0, "sigma": 2.0, "loss": loss,
    }  # fmt: skip
    double = gd.sweep(gd.Experiment(**settings)).to_dict()
    single = gd.sweep(gd.Experiment(**settings, dtype="float32")).to_dict()
    # The landscape is at least the root of the rounding away from what float32 can resolve.
    tolerance = 10 * math.sqrt(np.finfo(np.float32).eps)
    ours = [p for p in double["critical_points"] if p["kind"] in ("minimum", "kink")]
    theirs = [p for p in single["critical_points"] if p["kind"] in ("minimum", "kink")]
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one["value"] == pytest.approx(other["value"], abs=tolerance)
        assert one["loss"] == pytest.approx(other["loss"], abs=tolerance)


def logistic(value: Tensor) -> Tensor:
    """Gradient descent at lr 1 is x <- 4 x (1 - x), whose Lyapunov exponent is ln 2."""
    return 4 * value**3 / 3 - 3 * value**2 / 2


@pytest.mark.slow
def test_chaotic_path_parts_from_the_exact_one_when_it_is_said_to() -> None:
    run = gd.optimize(logistic, lr=1.0, steps=4000, start=0.3125, range=(0.0, 1.0)).runs[0]
    told = run.to_dict()
    assert told["lyapunov"] == pytest.approx(math.log(2), rel=0.05)
    assert told["chaotic"] is True
    # 53 bits, one lost at every step, until less than a hundredth of the range is left.
    assert told["trusted_steps"] == pytest.approx(52 + math.log2(0.01), abs=4)
    with localcontext() as context:
        context.prec = 400
        exact = [Decimal("0.3125")]
        for _ in range(100):
            exact.append(4 * exact[-1] * (1 - exact[-1]))
    apart = np.abs(run.trajectory.value[:100] - np.array([float(x) for x in exact[:100]]))
    parted = int(np.argmax(apart > run.landscape.parameter.tolerance))
    # Rounding has chance in it: a handful of steps more or less.
    assert told["trusted_steps"] <= parted + 3
    assert parted <= told["trusted_steps"] + 12


def test_settled_path_can_be_trusted() -> None:
    run = gd.optimize(logistic, lr=0.1, steps=200, start=0.3, range=(0.0, 1.0)).runs[0].to_dict()
    assert run["lyapunov"] < 0
    assert run["chaotic"] is False
    assert run["trusted_steps"] is None
    unknown = gd.optimize(logistic, "adam", lr=0.1, steps=50, start=0.3, range=(0.0, 1.0))
    assert unknown.runs[0].to_dict()["chaotic"] is None


def test_steps_follow_the_precision() -> None:
    parameter = Parameter("x", 0.0, 1.0, None, None, 0.0)
    path = np.zeros(1000)
    steps = [trusted_steps(0.5, parameter, path, eps) for eps in (1e-7, 1e-16)]
    assert steps == [math.floor(math.log(parameter.tolerance / eps) / 0.5) for eps in (1e-7, 1e-16)]
    assert trusted_steps(-0.5, parameter, path, 1e-16) is None
    assert trusted_steps(None, parameter, path, 1e-16) is None
    # The whole run can be trusted.
    assert trusted_steps(1e-3, parameter, path, 1e-16) is None


def test_a_run_that_leaves_the_range_is_not_chaotic() -> None:
    """Plain descent on 2 (x - 1)^2 with lr 0.7: all grows alike, rounding too."""
    parameter = Parameter("x", -3.0, 3.0, None, 1.0, 0.5)
    path = 1 - 0.5 * (-1.8) ** np.arange(400.0)
    assert trusted_steps(math.log(1.8), parameter, path, 1e-16) is None
    stays = 1 + np.sin(np.arange(400.0) ** 2)
    assert trusted_steps(math.log(1.8), parameter, stays, 1e-16) is not None
