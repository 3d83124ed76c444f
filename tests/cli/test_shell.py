"""What the shell is answered before anything is computed: wrong values, help, completion."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import get_args

from gabordiag import choices

CALLS = """
import sys
from gabordiag.cli.main import run

for line in sys.stdin.read().splitlines():
    assert run(line.split()) == 2, line
    assert not {"torch", "numpy", "matplotlib"} & set(sys.modules), line
"""
WRONG = {
    "sweep --loss foo": ("--loss", choices.LossName),
    "optimize --optimizer sgd --optimizer x": ("--optimizer", choices.OptimizerName),
    "basins --optimizer x": ("--optimizer", choices.OptimizerName),
    "bifurcate --optimizer SGD": ("--optimizer", choices.OptimizerName),
    "diagnose --schedule x": ("--schedule", choices.ScheduleName),
    "sweep --normalize x": ("--normalize", choices.Normalization),
    "sweep --padding x": ("--padding", choices.Padding),
    "sweep --dtype float16": ("--dtype", choices.DtypeName),
    "sweep --device tpu": ("--device", choices.DeviceName),
    "check --wrt x": ("--wrt", choices.ParameterName),
}


def answered(arguments: list[str], stdin: str = "", **environment: str) -> tuple[str, str]:
    """Returns what a program writes to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *arguments], input=stdin, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    return done.stdout, done.stderr


def test_wrong_values_are_refused_without_torch() -> None:
    others = [
        "sweep --figure-format gif", "sweep --figure-size poster", "optimize --steps -1",
        "optimize --steps 0", "diagnose --steps many", "bifurcate --steps", "swep", "sweep --los",
        "explain", "report", "sweep extra", "optimize --lr x", "sweep --sigma wide",
    ]  # fmt: skip
    _, said = answered(["-c", CALLS], "\n".join([*WRONG, *others]))
    lines = said.splitlines()
    assert len(lines) == 2 * (len(WRONG) + len(others))
    for (option, names), first, second in zip(
        WRONG.values(), lines[::2], lines[1::2], strict=False
    ):
        assert first.startswith(f"gabordiag: {option}: '")
        assert first.endswith("' is unknown.")
        assert second == f"Use one of {', '.join(get_args(names))}."
