"""The wheel and the sdist: built, complete, and of use without the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def _done(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    _done(sys.executable, "-m", "build", "--outdir", out, ROOT, cwd=out)
    return out


def test_the_archives_hold_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    tracked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gabordiag").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "README.md"
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == tracked
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked | {"README.md", "LICENSE", "pyproject.toml"} <= members


def test_the_wheel_works_where_the_source_is_not(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "installed"
    _done(
        sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, wheel, cwd=tmp_path
    )
    # -P: the working folder is not on the path, so that only the wheel can be found.
    call = [sys.executable, "-P", "-m", "gabordiag"]
    path = {"PYTHONPATH": str(target)}
    where = _done(
        sys.executable,
        "-P",
        "-c",
        "import gabordiag; print(gabordiag.__file__)",
        cwd=tmp_path,
        **path,
    )
    assert Path(where.strip()).is_relative_to(target)
    _done(
        *call,
        "sweep",
        "--kernel-size",
        "9",
        "--image",
        "noise",
        "--out",
        "run",
        cwd=tmp_path,
        **path,
    )
    assert (tmp_path / "run" / "result.json").exists()
    assert list((tmp_path / "run").glob("*.png"))
    _done(*call, "report", "run", cwd=tmp_path, **path)
