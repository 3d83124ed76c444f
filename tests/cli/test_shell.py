"""What the shell is answered before anything is computed: wrong values, help, completion."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import typer
from rich import markup

from gabordiag import choices
from gabordiag.cli.commands import app

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
    "sweep --over x:0:1": ("--over", choices.ParameterName),
    "optimize --learn x": ("--learn", choices.ParameterName),
    "optimize --log-scale x": ("--log-scale", choices.ParameterName),
}


def answered(arguments: list[str], stdin: str = "", **environment: str) -> tuple[str, str]:
    """Returns what a program writes to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *arguments], input=stdin, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode in (0, 2), done.stderr
    return done.stdout, done.stderr


@pytest.mark.long
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


COMPLETE = """
import atexit, sys

heavy = {"torch", "numpy", "matplotlib"}
atexit.register(lambda: print(*heavy & set(sys.modules), file=sys.stderr))
sys.argv = ["gabordiag"]
from gabordiag.cli.main import main

main()
"""


def completed(shell: str, words: str) -> set[str]:
    """Returns what a shell is offered for the last word, which may be empty."""
    parts = words.split(" ")
    asked = {"_GABORDIAG_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": words,
             "_TYPER_COMPLETE_FISH_ACTION": "get-args", "COMP_WORDS": words,
             "COMP_CWORD": str(len(parts) - 1)}  # fmt: skip
    out, said = answered(["-c", COMPLETE], **asked)
    assert said.strip() == ""
    if shell == "zsh":
        return set(re.findall(r'"([^"]*)"', out))
    return set(out.split())


@pytest.mark.long
@pytest.mark.each(3)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_values_are_completed(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "20260101-sweep").mkdir(parents=True)
    offered = {
        "gabordiag optimize --optimizer ad": {"adam", "adamw", "adagrad", "adadelta", "adamax"},
        "gabordiag diagnose --schedule ": set(get_args(choices.ScheduleName)),
        "gabordiag sweep --loss ": set(get_args(choices.LossName)),
        "gabordiag basins --figure-format p": {"png", "pdf"},
        "gabordiag sweep --image ": {"hopper", "noise", "pink"},
        "gabordiag optimize --learn theta --learn ": set(get_args(choices.ParameterName)),
        "gabordiag report 2026": {"20260101-sweep"},
    }
    # The others differ in how they ask, not in what they are offered.
    asked = offered if shell == "bash" else list(offered)[:2]
    assert {w: completed(shell, w) for w in asked} == {w: offered[w] for w in asked}


@pytest.mark.each(3)
@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("sweep --over s", {"sigma"}),
        ("optimize --log-scale w", {"wavelength"}),
        ("check --wrt ", set(get_args(choices.ParameterName))),
        ("sweep --normalize s", {"standardize"}),
        ("sweep --padding c", {"circular"}),
        ("sweep --dtype ", {"float64", "float32"}),
        ("sweep --device c", {"cpu", "cuda"}),
        ("sweep --figure-size ", {"screen", "column", "slide"}),
        ("basins --panel ", {"loss", "map", "start"}),
        ("explain --panel ", set()),
        ("explore --optimizer ", {"sgd", "adam", "rmsprop"}),
    ],
)
def test_other_values_are_completed_too(words: str, names: set[str]) -> None:
    assert completed("bash", f"gabordiag {words}") == names


PANELS = {
    "": ["Options", "Find the cause", "Measure", "Look"],
    "optimize": ["Options", "Image and precision", "Filter, target and loss",
                 "A custom objective instead", "Output"],
    "explain": ["Arguments", "Options", "Output"],
}  # fmt: skip


@pytest.mark.each(4)
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", PANELS)
def test_help_is_in_panels(command: str, width: int) -> None:
    lines = answered(
        ["-c", COMPLETE.replace('["gabordiag"]', f"['gabordiag', *{command.split()}, '--help']")],
        COLUMNS=str(width), NO_COLOR="1",
    )  # fmt: skip
    text, heavy = lines
    assert heavy.strip() == ""
    assert re.findall(r"^╭─ (.*?) ─", text, re.MULTILINE) == PANELS[command]
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("registered", app.registered_commands, ids=lambda command: command.name)
def test_examples_of_the_help_can_be_typed(registered: typer.models.CommandInfo) -> None:
    command = typer.main.get_command(app).commands[registered.name]  # type: ignore[attr-defined]
    title, *examples = markup.render(command.epilog).plain.splitlines()
    assert title == "Examples:"
    assert len(set(examples)) == 2
    for line in examples:
        program, name, *words = shlex.split(line)
        assert (program, name) == ("gabordiag", registered.name)
        command.make_context(name, words).close()
