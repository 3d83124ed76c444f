"""A log is explained with NumPy alone: torch and matplotlib stay where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITERS = {
    "csv": "step,theta,loss,grad\n" + "".join(f"{t},{0.9**t},{0.81**t},1\n" for t in range(50)),
    "json": str({"theta": [0.9**t for t in range(50)], "loss": [0.81**t for t in range(50)]}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_explain_from_python_imports_neither_torch_nor_matplotlib(
    kind: str, tmp_path: Path
) -> None:
    log = tmp_path / f"log.{kind}"
    log.write_text(WRITERS[kind].replace("'", '"'))
    code = (
        "import sys, gabordiag as gd; found = gd.explain(sys.argv[1]); "
        "print(*{'torch', 'matplotlib'} & set(sys.modules)); assert found.to_dict()['verdict']"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.long
@pytest.mark.each(5)
@pytest.mark.parametrize(
    ("options", "loaded", "code"),
    [
        ([], ["matplotlib"], 0),
        (["--no-plots"], [], 0),
        (["--no-plots", "--json", "--quiet"], [], 0),
        (["--figure-format", "gif"], [], 2),
        (["--value-column", "angle"], [], 2),
    ],
)
def test_explain_on_the_command_line_imports_what_it_draws_with_alone(
    options: list[str], loaded: list[str], code: int, tmp_path: Path
) -> None:
    log = tmp_path / "log.csv"
    log.write_text(WRITERS["csv"])
    assert imported(["explain", str(log), "--out", str(tmp_path / "made"), *options]) == (
        code,
        loaded,
    )


def test_a_log_that_is_not_there_imports_nothing(tmp_path: Path) -> None:
    assert imported(["explain", str(tmp_path / "none.csv"), "--out", str(tmp_path / "made")]) == (
        3,
        [],
    )


def imported(arguments: list[str]) -> tuple[int, list[str]]:
    """Returns a call's exit code, and which of the two libraries it has imported."""
    code = (
        "import sys; from gabordiag.cli.main import run; code = run(sys.argv[1:]);"
        "print(*sorted({'torch', 'matplotlib'} & set(sys.modules)), file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr.splitlines()[-1].split()
