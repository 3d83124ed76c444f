"""README says what the program does: its help text, its options, its example, its numbers."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gabordiag as gd
from gabordiag.dynamics.windows import DEFAULT_SCAN

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


def test_help_is_the_program_s() -> None:
    block = next(text for text in fenced("") if text.startswith("Usage: gabordiag"))
    assert block.strip() == help_text()


def test_options_named_exist() -> None:
    known = "\n".join(help_text(name) for name in ("diagnose", "sweep", "basins", "optimize"))
    table = README[README.index("| option | meaning |") : README.index("Every command makes")]
    named = set(re.findall(r"--[a-z][a-z-]+", table))
    assert len(named) > 15
    assert named <= set(re.findall(r"--[a-z][a-z0-9-]+", known))


def test_pictures_and_links_exist() -> None:
    places = re.findall(r"\]\(([^)#]+)\)", README)
    assert places
    for place in places:
        assert (ROOT / place).exists(), place


def run_example(index: int) -> list[str]:
    """Runs one of README's Python examples and returns what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(fenced("python")[index], "README.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue().splitlines()


def test_python_example_runs() -> None:
    lines = run_example(0)
    assert lines[0].endswith("True")
    assert lines[1].startswith("reached 4")
    assert lines[2].startswith("Healthy")


def test_function_example() -> None:
    # From 2.2 descent leads to another minimum, by the function's own shape.
    (headline,) = run_example(1)
    assert "Start at" in headline


def test_module_example() -> None:
    (line,) = run_example(2)
    assert line.startswith("no_gradient | ")
    assert "conv.weight.data" in line


def test_loop_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # lr L'' = 2.4 at the minimum: past 2, a cycle of two steps.
    (headline,) = run_example(3)
    assert "cycle of 2 steps" in headline
    assert len((tmp_path / "run.csv").read_text().splitlines()) == 101


@pytest.fixture(scope="module")
def elongated() -> gd.Experiment:
    return gd.Experiment()


def numbers(pattern: str) -> list[float]:
    match = re.search(pattern, " ".join(README.split()))
    assert match is not None, pattern
    return [float(group) for group in match.groups()]


def test_numbers_of_the_answer(elongated: gd.Experiment) -> None:
    sweep = gd.sweep(elongated)
    check = sweep.gradient_check
    autograd, numeric = numbers(
        r"differs from autograd by less than (\S+) of its .*? finite differences by less than "
        r"(\S+)\. "
    )
    assert check.analytic_vs_autograd is not None
    assert check.analytic_vs_autograd < autograd
    assert check.analytic_vs_numeric is not None
    assert check.analytic_vs_numeric < numeric
    (spurious,) = numbers(r"a second one at (-[\d.]+)°")
    minima = [p.value * 180 / 3.141592653589793 for p in sweep.landscape.attractors]
    assert [round(value, 3) for value in minima] == [spurious, 45.0]
    assert sweep.landscape.certificate.certified


def test_rates_of_the_answer(elongated: gd.Experiment) -> None:
    rates = gd.basins(elongated, lr=DEFAULT_SCAN, starts=2).windows
    escape, hold, factor = numbers(
        r"start's basin takes ([\d.]+) or more, the target's basin holds at most ([\d.]+): "
        r"(\d+) times less"
    )
    assert rates.working_lr == []
    assert rates.escape_lr == pytest.approx(escape, rel=5e-3)
    assert rates.hold_lr == pytest.approx(hold, rel=5e-3)
    assert rates.escape_lr / rates.hold_lr == pytest.approx(factor, rel=5e-3)
    smooth = gd.basins(gd.Experiment(loss="mse"), lr=DEFAULT_SCAN, starts=2).windows
    escape, hold = numbers(r"With mse it is ([\d.]+) against ([\d.]+)\.")
    assert smooth.escape_lr == pytest.approx(escape, rel=5e-3)
    assert smooth.hold_lr == pytest.approx(hold, rel=5e-3)


def test_symptom_count_of_the_answer(elongated: gd.Experiment) -> None:
    lr, count, steps = numbers(
        r"With rmse and lr ([\d.]+) the loss fell below 30%.*?"
        r"later about (\d+) times in (\d+) steps"
    )
    (run,) = gd.optimize(elongated, lr=lr, steps=int(steps)).runs
    # Chaotic: rounding decides single jumps, not how many there are.
    assert run.symptoms == pytest.approx(count, rel=0.15)


def test_advice_of_the_answer_followed_literally() -> None:
    start, lr = numbers(r"`--start ([\d.]+)deg --lr ([\d.]+)`")
    (run,) = gd.optimize(
        gd.Experiment(), lr=lr, start=start * 3.141592653589793 / 180, steps=2000
    ).runs
    assert run.outcome == "reached"
    lr, steps = numbers(r"`--normalize whiten --lr ([\d.]+) --steps (\d+)`")
    (run,) = gd.optimize(gd.Experiment(normalize="whiten"), lr=lr, steps=int(steps)).runs
    assert run.outcome == "reached"
