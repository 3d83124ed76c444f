"""CONTRIBUTING names what exists: rooms in their order, files, tables, make's targets."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.test_layering import ORDER

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / ".github/CONTRIBUTING.md").read_text(encoding="utf-8")
QUOTED = {" ".join(text.split()) for text in re.findall(r"`([^`]+)`", GUIDE)}
# A pattern, not a file.
PATTERN = "presentation/figures/NAME.py"


def test_files_exist() -> None:
    known = [path for path in ROOT.rglob("*.*") if ".venv" not in path.parts]
    files = {name for name in QUOTED if re.fullmatch(r"[\w./]+\.(py|js|md|ya?ml|txt|toml)", name)}
    assert len(files) > 30
    for name in files - {PATTERN}:
        assert any(str(path).endswith(f"/{name}") for path in known), name


def test_tables_exist() -> None:
    places = [*(ROOT / "gabordiag").rglob("*.py"), *(ROOT / "gabordiag").rglob("*.js")]
    sources = "\n".join(p.read_text("utf-8") for p in [*places, *(ROOT / "tests").rglob("*.py")])
    names = {name for name in QUOTED if re.fullmatch(r"_?[A-Z][A-Z_]+", name)} - {"CI"}
    assert len(names) > 15
    for name in names:
        assert re.search(rf"\b{name}\b(: [^=\n]+)? = ", sources), name


def test_links_exist() -> None:
    changelog = (ROOT / ".github/CHANGELOG.md").read_text(encoding="utf-8")
    for place in re.findall(r"\]\(([^)#:]+)\)", GUIDE + changelog):
        assert (ROOT / ".github" / place).exists(), place
    headings = {title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", GUIDE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) <= headings


def test_rooms_stand_in_the_order_that_imports_follow() -> None:
    rows = re.findall(r"^\| (`.*?) \|", GUIDE, re.M)
    listed = [set(re.findall(r"`(\w+)/?`", row)) for row in rows]
    assert listed == [rooms for rooms in ORDER if rooms != {"__main__"}]


def test_targets_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+) +#|`make ([a-z-]+)`", GUIDE))
    for target in {first or second for first, second in targets}:
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("target", ["reproduce", "test", "check-lowest"])
def test_make_says_what_is_missing(target: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", ".ci/constraints.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    call = ["make", target, "PYTHON=no-python"]
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, env=outside)
    said, *rest = done.stderr.splitlines()
    assert "apt-get install python3-venv" in said
    # The other line is make's own.
    assert (done.returncode, done.stdout, len(rest)) == (2, "", 1)


def test_coverage_below_which_it_fails() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (percent,) = re.findall(r"fails below (\d+)%", GUIDE)
    assert int(percent) == settings["tool"]["coverage"]["report"]["fail_under"]
