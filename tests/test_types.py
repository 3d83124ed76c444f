"""Type checkers catch a misspelt choice or keyword, and let everything pass that works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag import choices
from gabordiag.dynamics.optimizers import OPTIMIZERS, SCHEDULES, OptimizerSettings
from gabordiag.errors import UsageError
from gabordiag.gabor import PARAMETER_NAMES
from gabordiag.images import NORMALIZATIONS
from gabordiag.objective.experiment import DEVICES, DTYPES
from gabordiag.objective.losses import LOSSES
from gabordiag.objective.response import PADDINGS

FILES = Path(__file__).parent / "typing_files"
PACKAGE = Path(gd.__file__).parents[1]


@pytest.mark.parametrize(
    ("choice", "table"),
    [
        (choices.OptimizerName, OPTIMIZERS),
        (choices.ScheduleName, SCHEDULES),
        (choices.LossName, LOSSES),
        (choices.Padding, PADDINGS),
        (choices.Normalization, NORMALIZATIONS),
        (choices.ParameterName, PARAMETER_NAMES),
        (choices.DtypeName, DTYPES),
        (choices.DeviceName, DEVICES),
    ],
)
def test_the_names_that_checkers_know_are_those_that_work(choice: object, table: object) -> None:
    assert list(get_args(choice)) == list(table)


def problems(*command: str) -> dict[int, set[str]]:
    """Returns the rules that each line of wrong.py breaks, as a checker prints them of both."""
    files = [FILES / "wrong.py", FILES / "right.py"]
    done = subprocess.run(
        [str(part) for part in (*command, *files)], capture_output=True, text=True, cwd=PACKAGE
    )
    found: dict[int, set[str]] = {}
    error = re.compile(r"(\w+\.py):(\d+)\b.* error: .*[\[(]([\w-]+)[\])]$", re.MULTILINE)
    for name, line, rule in error.findall(done.stdout):
        assert name == "wrong.py", done.stdout
        found.setdefault(int(line), set()).add(rule)
    assert found, done.stdout + done.stderr
    return found


def wrong_lines() -> dict[int, set[str]]:
    """Returns the rules that each line is said to break."""
    lines = (FILES / "wrong.py").read_text(encoding="utf-8").splitlines()
    parts = {number: line.partition("  # ")[2] for number, line in enumerate(lines, 1)}
    return {number: {rule} for number, rule in parts.items() if rule}


@pytest.mark.slow
def test_mypy_refuses_each_wrong_call_and_no_right_one() -> None:
    assert len(wrong_lines()) > 20
    # With the project's own settings, so that `mypy` has cached most of the work.
    assert problems(sys.executable, "-m", "mypy", "--no-error-summary") == wrong_lines()


@pytest.mark.slow
def test_pyright_refuses_each_wrong_call_and_no_right_one() -> None:
    # Pyright with what it runs on, from one wheel.
    command = [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        [*command, "--outputjson", FILES / "wrong.py", FILES / "right.py"],
        capture_output=True, text=True, cwd=PACKAGE,
    )  # fmt: skip
    errors = [
        (Path(found["file"]).name, found["range"]["start"]["line"] + 1)
        for found in json.loads(done.stdout)["generalDiagnostics"]
        if found["severity"] == "error"
    ]
    assert set(errors) == {("wrong.py", line) for line in wrong_lines()}


def board() -> np.ndarray:
    return (np.indices((24, 24)) // 6).sum(axis=0) % 2


@pytest.mark.parametrize("number", [np.float32, np.float64, torch.tensor])
def test_numbers_of_other_libraries_are_numbers(number: type) -> None:
    settings = {"wavelength": 6.0, "sigma": 2.0, "theta0": 0.25, "pixel_scale": 2.0}
    plain = gd.Experiment(board(), kernel_size=9, **settings)
    other = gd.Experiment(
        board(), kernel_size=np.int64(9), **{name: number(v) for name, v in settings.items()}
    )
    assert other.to_dict() == plain.to_dict()
    assert type(other.sigma) is float
    assert type(other.kernel_size) is int
    one, two = (
        gd.optimize(plain, lr=lr, momentum=momentum, steps=steps).to_dict()
        for lr, momentum, steps in ((0.25, 0.5, 5), (number(0.25), number(0.5), np.int64(5)))
    )
    assert one == two


def test_torch_dtypes_and_devices_are_names() -> None:
    made = gd.Experiment(board(), kernel_size=9, dtype=torch.float32, device=torch.device("cpu"))
    assert (made.dtype, made.device) == ("float32", "cpu")
    with pytest.raises(UsageError, match="dtype 'float16' is unknown"):
        gd.Experiment(board(), dtype=torch.float16)


def test_a_map_takes_numbers_of_other_libraries() -> None:
    def well(v: torch.Tensor) -> torch.Tensor:
        return (v**2 - 1) ** 2

    one, two = (
        gd.basins(well, lr=lr, starts=starts, steps=20, start=start, range=(-2, 2), target=1.0)
        for lr, starts, start in (
            ((0.125, 0.25, 3), 5, 0.5),
            ((np.float32(0.125), torch.tensor(0.25), np.int64(3)), np.int64(5), torch.tensor(0.5)),
        )
    )
    assert one.to_dict() == two.to_dict()
    assert OptimizerSettings(steps=np.int64(3)).steps == 3
    experiment = gd.Experiment(board(), wavelength=6, sigma=2, kernel_size=9)
    surface = gd.sweep(experiment, over=("theta", "sigma"), points=np.int64(5))
    assert surface.loss.shape == (5, 5)
