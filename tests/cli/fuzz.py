"""Generated command lines, every command with every option, and what must hold of each call.

A call is made from a number alone, so that a failure is repeated by its number. By hand:
`python -m tests.cli.fuzz FIRST COUNT` makes the calls FIRST to FIRST + COUNT - 1 in a temporary
folder and prints those that broke a promise.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import typer.main

from gabordiag.cli.commands import app
from gabordiag.cli.main import run
from gabordiag.dynamics.optimizers import OPTIMIZERS, SCHEDULES
from gabordiag.objective.losses import LOSSES
from gabordiag.presentation.figures.sheets import SHEETS
from tests.cli import hostile

# A call on these small inputs that takes longer than this hangs: of processor time, which does not
# depend on what else the machine does, and of the clock, for one that only waits.
LIMIT_SECONDS, LONGEST_WAIT = 180, 900
TEXTS = ("", " ", "x", "--", "-", "\0", "ä", "💥", "a" * 5000, "../..", "%s", "{0}", "[red]",
         "\x1b[2J", "'; rm -rf .", "$(touch owned)", "`touch owned`", "nan", "0", "None", "\n",
         "theta\nloss", "\udc80")  # fmt: skip
ANGLES = ("0", "0.5", "-0.7", "pi/4", "-pi/4", "3*pi/4", "45deg", "-30deg", "1e-300", "1e300",
          "1e9", "-0.0", "nan", "inf", "-inf", "pi/0", "1e999", "0x10", "1_0", "٣", "deg", "pi",
          "--5", "1e308deg", "1e400*pi", "45 deg", "+.5", "1,5")  # fmt: skip
FLOATS = ("0", "1", "0.1", "0.5", "2", "3.7", "1e-9", "1e-320", "1e300", "1e308", "-1", "-0.0",
          "nan", "inf", "-inf", "1e999", "abc", "1,5", "")  # fmt: skip
INTEGERS = ("0", "1", "2", "3", "7", "-1", "1.5", "1e3", "99999999999", "9" * 400, "abc", "")
GRIDS = ("1e-3:1:5", "0.01:0.1:3", "-1:1:4", "0:0:1", "1:1:3", "1:0.1:5", "1e-3:1:0",
         "1e-3:1:-4", "1e-3:1:1", "nan:1:3", "0:inf:3", "1e-300:1e300:3", "1e-3:1:99999999999",
         "1:2", "1:2:3:4", "a:b:c", "::", "", "1e-3:1:2.5", "0:1:3", "1e-320:1:4", "1:1e308:3",
         "-1e308:1e308:3")  # fmt: skip
RANGES = ("0:1", "-1:1", "1:0", "0:0", "a:b", "", "nan:1", "0:inf", "-1e308:1e308", "0:1e-320",
          ":", "0:1:2", "-pi:pi", "1e300:2e300", "0.3:0.30000001")  # fmt: skip
NAMES = ("theta", "wavelength", "sigma", "psi", "gamma")
OVER = (*NAMES, "theta:0:1", "theta:-1:1:9", "sigma:1:2:5", "theta:1:0", "theta:0:1:0",
        "theta:0:1:1", "theta:0:1:2", "psi:0:1:-3", "nothing", "theta:", ":", "", "sigma:-1:1:5",
        "wavelength:0:1:5", "gamma:0.1:1e300:5", "theta:0:1e308:7", "theta:0:1:99999999999",
        "theta:nan:1")  # fmt: skip
FUNCTIONS = ("good", "chatty", "raises", "raises_odd", "leaves", "recursive", "nan", "infinite",
             "nothing", "text", "vector", "imaginary", "cut", "constant", "kink", "root", "huge",
             "late", "no_argument", "two", "number", "Layer", "kernel", "bad_kernel", "absent",
             "Layer.forward")  # fmt: skip
OBJECTIVES = (*(f"own.py:{name}" for name in FUNCTIONS), "broken.py:f", "raising.py:f",
              "leaving.py:f", "absent.py:f", "own.py", ":", "own.py:", "own:good", "math:sin",
              "os:system", "torch:sin", "no.such.module:f", "folder:f", "own.py:a b")  # fmt: skip
EXPRESSIONS = ("x", "theta", "-x_rot", "1/0", "exp(1e9)",
               "__import__('os').system('touch owned')", "().__class__", "theta**theta**99",
               "9**9**9", "lambda: 1", "(" * 300, "sin(", "",
               "x_rot*exp(-(x_rot**2+gamma**2*y_rot**2)/(2*sigma**2))", "open('owned','w')",
               "[1]*9", "'a'", "nan", "1e999", "ü")  # fmt: skip
STEPS = ("1", "2", "3", "10", "25", "0", "-5", "1.5", "99999999999", "9" * 400, "abc")
CHOICES = {
    "optimizer": (*OPTIMIZERS, "SGD", "muon", "sparseadam"),
    "schedule": (*SCHEDULES, "onecycle"),
    "loss": (*LOSSES, "mae"),
    "normalize": ("none", "center", "standardize", "whiten", "min-max"),
    "padding": ("valid", "same", "circular", "reflect"),
    "dtype": ("float64", "float32", "float16", "int"),
    "device": ("cpu", "cuda", "mps", "cpu:1"),
    "learn": (*NAMES, "loss"),
    "wrt": (*NAMES, "loss"),
    "over": OVER,
    "objective": OBJECTIVES,
    "kernel": OBJECTIVES,
    "derivative": OBJECTIVES,
    "derivative_expr": EXPRESSIONS,
    "param": ("theta", "weights", "weights[0,1]", "weights[9]", "layers.0", "theta[0]", "[", ""),
    "starts": GRIDS,
    "range": RANGES,
    "value_column": ("theta", "w", "loss", "absent"),
    "loss_column": ("loss", "theta", "absent"),
    "figure_format": ("png", "svg", "png,svg", "gif"),
    "figure_size": (*SHEETS, "poster"),
    "figure_panel": ("loss", "map", "plane-0", "poster"),
    "steps": STEPS,
    "lr": FLOATS,
}  # fmt: skip
# What every call of these commands begins with, so that it is quick unless an option undoes it.
SMALL = ["--image", "good.npy", "--kernel-size", "5", "--wavelength", "4", "--sigma", "1.5"]
QUICK = {
    "sweep": [*SMALL, "--over", "theta:-1:1:9"],
    "optimize": [*SMALL, "--steps", "20"],
    "diagnose": [*SMALL, "--steps", "20"],
    "basins": [*SMALL, "--lr", "1e-2:1:3", "--starts", "-1:1:3", "--steps", "20"],
    "bifurcate": [*SMALL, "--lr", "1e-2:1:3", "--steps", "200"],
    "rates": ["--lr", "1e-2:1:2", "--factor", "20", "--seeds", "1", "--steps", "2"],
    "check": [],
    "explain": [],
    "report": [],
    "runs": [],
    # Half a minute if nothing is wrong, so that something always is.
    "reproduce": ["--image", "constant.png"],
}
# A page takes seconds, as do an atlas's workers; both have tests of their own.
LEFT_OUT = {"atlas", "explore"}
# The costly ones are rarer.
WEIGHTS = {"diagnose": 2, "basins": 2, "bifurcate": 2, "reproduce": 1, "runs": 1}
PATHS = (
    "image",
    "input",
    "target_output",
    "log",
    "from_log",
    "config",
    "resume",
    "run",
    "root",
    "out",
)
# Shown by --help alone, which ends the call.
IGNORED = {"help", "install_completion", "show_completion"}


@cache
def command_options() -> dict[str, list[Any]]:
    """Returns the parameters of every command, as the program itself declares them."""
    group: Any = typer.main.get_command(app)
    return {
        name: [p for p in command.params if p.name not in IGNORED]
        for name, command in group.commands.items()
        if name not in LEFT_OUT
    }


@dataclass(frozen=True)
class Call:
    """One generated call.

    Attributes:
        number: It is made from.
        arguments: The command line.
    """

    number: int
    arguments: list[str]


def make_call(number: int) -> Call:
    """Returns the call of a number."""
    chance = random.Random(number)
    names = sorted(command_options())
    weights = [WEIGHTS.get(name, 4) for name in names]
    (command,) = chance.choices(names, weights)
    arguments = [command, *QUICK[command]]
    parameters = command_options()[command]
    options = [p for p in parameters if p.param_type_name == "option"]
    arguments += [_path(chance, p.name) for p in parameters if p not in options]
    for parameter in chance.sample(options, k=min(len(options), chance.choice((0, 1, 2, 3, 5)))):
        if parameter.name not in ("debug", "out"):
            arguments += _option(chance, command, parameter)
    arguments += _output(chance, command)
    if chance.random() < 0.03:
        chance.shuffle(arguments)
    if chance.random() < 0.03:
        arguments.insert(chance.randrange(len(arguments)), chance.choice(TEXTS))
    return Call(number, [a for a in arguments if "\0" not in a or chance.random() < 0.5])


def _output(chance: random.Random, command: str) -> list[str]:
    options = [] if command == "runs" else ["--out", "made-by-fuzz"]
    if command not in ("report", "runs") and chance.random() < 0.93:
        options.append("--no-plots")
    if command != "report" and chance.random() < 0.5:
        options.append("--json")
    return options


def _option(chance: random.Random, command: str, parameter: Any) -> list[str]:
    name = chance.choice(parameter.opts)
    if parameter.is_flag:
        return [name]
    return [name, _value(chance, command, parameter)]


def _value(chance: random.Random, command: str, parameter: Any) -> str:
    name = parameter.name
    if chance.random() < 0.08:
        return chance.choice(TEXTS)
    if name in PATHS:
        return _path(chance, name)
    if name in CHOICES:
        scan = name == "lr" and command in ("basins", "bifurcate", "rates")
        return chance.choice(GRIDS if scan else CHOICES[name])
    if parameter.metavar == "ANGLE":
        return chance.choice(ANGLES)
    return chance.choice(INTEGERS if "int" in str(parameter.type_descriptor.annotation) else FLOATS)


def _path(chance: random.Random, name: str) -> str:
    likely: dict[str, Sequence[str]] = {
        "image": (*hostile.images(), "noise", "pink"),
        "input": tuple(hostile.images()),
        "target_output": tuple(hostile.images()),
        "log": tuple(hostile.logs()),
        "from_log": tuple(hostile.logs()),
        "config": (*hostile.CONFIGS, *(f"made/{n}/config.toml" for n in ("sweep", "optimize"))),
        "resume": tuple(f"made/{n}" for n in RUN_FOLDERS),
        "run": tuple(f"made/{n}" for n in RUN_FOLDERS),
        "root": ("made", ".", "folder"),
    }
    everything = ("absent", "folder", "/dev/null", "", ".", "own.py", "x" * 300, "good.csv/x")
    if name in likely and chance.random() < 0.85:
        return chance.choice(likely[name])
    return chance.choice((*everything, *hostile.images(), *hostile.logs()))


RUN_FOLDERS = ("sweep", "optimize", "diagnose", "basins", "bifurcate", "check", "explain",
               "no-result", "cut-result", "newer", "no-config", "cut-log", "no-data", "empty",
               "mutated")  # fmt: skip


def mutate(chance: random.Random, value: Any) -> Any:
    """Returns JSON with one place changed: removed, or of another kind."""
    odd = (None, -1, 1e308, "x", [], {}, True, "../../x", [None], {"a": None})
    if chance.random() < 0.2 or not isinstance(value, (dict, list)) or not value:
        return chance.choice(odd)
    if isinstance(value, list):
        index = chance.randrange(len(value))
        return [mutate(chance, v) if i == index else v for i, v in enumerate(value)]
    key = chance.choice(list(value))
    if chance.random() < 0.25:
        return {k: v for k, v in value.items() if k != key}
    return {k: mutate(chance, v) if k == key else v for k, v in value.items()}


def _mutate_run(number: int) -> None:
    """Makes `made/mutated`: a finished run with its result.json, or a data file, changed."""
    chance = random.Random(-number)
    shutil.rmtree("made/mutated", ignore_errors=True)
    source = chance.choice(("sweep", "optimize", "diagnose", "basins", "bifurcate"))
    shutil.copytree(f"made/{source}", "made/mutated")
    if chance.random() < 0.8:
        result = Path("made/mutated/result.json")
        result.write_text(json.dumps(mutate(chance, json.loads(result.read_text()))))
        return
    file = chance.choice(sorted(Path("made/mutated").iterdir()))
    content = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 3, 50))):
        content[chance.randrange(len(content))] = chance.randrange(256)
    file.write_bytes(
        content[: chance.randrange(len(content))] if chance.random() < 0.5 else content
    )


@contextlib.contextmanager
def time_limit() -> Iterator[None]:
    """Raises `HangError` in the block after `LIMIT_SECONDS`."""

    def late(number: int, frame: FrameType | None) -> None:
        raise HangError("".join(traceback.format_stack(frame)[-6:]))

    kinds = ((signal.SIGPROF, signal.ITIMER_PROF, LIMIT_SECONDS),
             (signal.SIGALRM, signal.ITIMER_REAL, LONGEST_WAIT))  # fmt: skip
    before = [signal.signal(number, late) for number, _, _ in kinds]
    for _, timer, seconds in kinds:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(kinds, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


class HangError(BaseException):
    """A call took longer than the limit; nothing in the program may catch it."""


def _reject(token: str) -> float:
    raise ValueError(f"{token} in the JSON")


def _all_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_all_finite, value.values()))
    if isinstance(value, list):
        return all(map(_all_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def check_call(call: Call) -> str | None:
    """Makes a call in the current folder, which `hostile.make` filled.

    Returns:
        The promise that was broken; None if all were kept.
    """
    if "made/mutated" in call.arguments:
        _mutate_run(call.number)
    before = _snapshot()
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            time_limit(),
        ):
            code = run(call.arguments)
    except HangError as hang:
        return f"hangs at {hang}"
    except BaseException:
        return f"raises {traceback.format_exc()}"
    finally:
        made = sorted(_snapshot() - before)
        shutil.rmtree("made-by-fuzz", ignore_errors=True)
    return _broken(call, code, out.getvalue(), err.getvalue(), made)


def _snapshot() -> set[str]:
    """All files but those that calls of `report` and `optimize --resume` may write into runs."""
    found = set()
    for folder, folders, files in os.walk("."):
        if folder == ".":
            folders[:] = [name for name in folders if name not in ("made", "__pycache__")]
        found |= {f"{folder}/{name}" for name in (*files, *folders) if name != "__pycache__"}
    return found


def _broken(call: Call, code: int, out: str, err: str, made: list[str]) -> str | None:
    if code not in ((0, 1, 2, 3) if "--check" in call.arguments else (0, 2, 3)):
        return f"exit code {code}: {err}"
    bad = ["Traceback", "Internal error"]
    if "--objective" not in call.arguments:
        # A user's code may cause warnings.
        bad.append("Warning:")
    if any(word in out + err for word in bad):
        return err
    if "owned" in " ".join(made):
        return "ran code of its input"
    if code in (2, 3):
        return _broken_failure(out, err, made)
    if "--json" in call.arguments and "--help" not in call.arguments:
        return _broken_json(out)
    return None


def _broken_failure(out: str, err: str, made: list[str]) -> str | None:
    told = err[err.find("gabordiag: ") :].strip().splitlines()
    if err.count("gabordiag: ") != 1 or not 1 <= len(told) <= 2:
        return f"{len(told)} lines of error: {err!r}"
    if out.strip():
        return f"prints on stdout though it failed: {out[:200]!r}"
    if made and not _has_log(made):
        return f"leaves {made}"
    return None


def _has_log(made: list[str]) -> bool:
    return any("trajectory-" in name for name in made)


def _broken_json(out: str) -> str | None:
    try:
        content = json.loads(out, parse_constant=_reject)
    except ValueError as error:
        return f"stdout is not one JSON object ({error}): {out[:300]!r}"
    if not isinstance(content, dict) or not _all_finite(content):
        return "stdout is not one JSON object with finite numbers"
    return None


def check_calls(numbers: Sequence[int]) -> dict[int, str]:
    """Makes calls in the current folder; returns what broke, by number."""
    broken = {}
    for number in numbers:
        call = make_call(number)
        problem = check_call(call)
        if problem is not None:
            broken[number] = f"{call.arguments}\n{problem}"
    return broken


def main() -> None:
    """Makes the calls named on the command line."""
    first, count = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        hostile.make(Path(folder))
        started = time.monotonic()
        for number in range(first, first + count):
            begun = time.process_time()
            call = make_call(number)
            problem = check_call(call)
            if problem is not None:
                print(f"--- {number}: {call.arguments}\n{problem[-1500:]}", flush=True)
            if time.process_time() - begun > 10:
                print(f"--- {number} took {time.process_time() - begun:.0f} s: {call.arguments}")
        print(f"{count} calls in {time.monotonic() - started:.0f} s", flush=True)
        os.chdir("/")


if __name__ == "__main__":
    main()
