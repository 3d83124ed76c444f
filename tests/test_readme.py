"""README says what the program does: its help text, its options, its examples."""

from __future__ import annotations

import contextlib
import io
import re
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


def test_places_of_the_developer_part_exist() -> None:
    part = README[README.index("### To extend it") : README.index("## Licence")]
    quoted = {" ".join(text.split()) for text in re.findall(r"`([^`]+)`", part)}
    known = [*(ROOT / "gabordiag").rglob("*.*"), *(ROOT / "tests").rglob("*.py")]
    files = {name for name in quoted if re.fullmatch(r"[\w/]+\.(py|js|md)", name)}
    assert len(files) > 20
    for name in files - {"presentation/figures/NAME.py"}:
        assert any(str(path).endswith(f"/{name}") for path in known), name
    sources = "\n".join(p.read_text("utf-8") for p in known if p.suffix in (".py", ".js"))
    names = {name for name in quoted if re.fullmatch(r"_?[A-Z][A-Z_]+", name)}
    assert len(names) > 10
    for name in names:
        assert re.search(rf"\b{name}\b(: [^=\n]+)? = ", sources), name
