"""README names what exists: commands, options, pictures; its examples run."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def help_text(*arguments: str) -> str:
    command = [sys.executable, "-m", "gabordiag", *arguments, "--help"]
    environment = {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1", "PATH": ""}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def test_all_commands_are_listed() -> None:
    part = README[README.index("## Commands") : README.index("`gabordiag COMMAND --help`")]
    listed = re.findall(r"`([a-z]+)`", part)
    assert sorted(listed) == sorted(re.findall(r"^│ (\w+) ", help_text(), re.MULTILINE))


def test_options_named_exist() -> None:
    names = ("reproduce", "diagnose", "sweep", "optimize", "check", "rates")
    known = set(re.findall(r"--[a-z][a-z-]+", "\n".join(help_text(name) for name in names)))
    named = set(re.findall(r"--[a-z][a-z-]+", README))
    assert len(named) > 20
    assert named <= known


def test_pictures_and_links_exist() -> None:
    places = re.findall(r"\]\(([^)#]+)\)", README)
    assert places
    for place in places:
        assert (ROOT / place).exists(), place


def run_example(word: str) -> list[str]:
    """Runs the Python example of README that contains the word, and returns what it prints."""
    (source,) = [text for text in fenced("python") if word in text]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "README.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


def test_python_example_runs() -> None:
    lines = run_example("gd.Experiment")
    assert lines[0].endswith("True")
    assert lines[1].startswith("reached 4")
    assert lines[2].startswith("Healthy")


@pytest.mark.slow
def test_function_example() -> None:
    # From 2.2 descent leads to another minimum, by the function's own shape.
    (headline,) = run_example("frequency")
    assert "frequency = 1," in headline


def test_training_example(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(os.fspath(ROOT / "gabordiag/examples/train.py"), run_name="__main__")
    headline = " ".join(capsys.readouterr().out.split())
    # A plain loop: the loss still falls by a third every ten steps, from 0.14 to 0.008 at step 200.
    assert headline.startswith(
        "1 of your 6 filters has converged; filters 0, 1, 3, 4 and 5 are still on"
    )
    after, before = re.findall(r"0\.\d+", headline)
    assert float(after) < 0.1 * float(before)
    stated = " ".join(README.replace("\n> ", " ").split())
    assert headline in stated


def test_loop_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # lr L'' = 2.4 at the minimum: past 2, a cycle of two steps.
    (headline,) = run_example("TrajectoryLogger")
    assert "cycle of 2 steps" in headline
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 101
