"""Full and unwritable disks end in a line and exit code 3, with nothing half-made left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gabordiag.cli.main import run
from gabordiag.errors import OutputError
from gabordiag.runs.files import TrajectoryFile
from gabordiag.runs.saved import read_status
from tests.cli.test_resume import FILTER

COMMANDS = {
    "optimize": ["optimize", "--steps", "400", "--lr", "0.01", "--lr", "1"],
    "sweep": ["sweep"],
    "basins": ["basins", "--lr", "1e-3:1:9", "--starts", "-1:1:7", "--steps", "60"],
    "diagnose": ["diagnose", "--steps", "200"],
    "check": ["check"],
}


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", np.random.default_rng(3).standard_normal((30, 28)))


def _call(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    capsys.readouterr()
    has_no_image = arguments[0] in ("check", "report", "runs") or "--objective" in arguments
    small = [] if has_no_image else ["--image", "image.npy", *FILTER]
    code = run([*arguments, *([] if "--resume" in arguments else small)])
    return code, capsys.readouterr().err


def _mount(options: str, place: Path) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount command here: {error}")
    if done.returncode:
        pytest.skip(f"file systems may not be mounted here: {done.stderr.decode().strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Returns a maker of small file systems, taken down after the test."""
    made: list[Path] = []

    def make(options: str) -> Path:
        place = tmp_path / f"disk{len(made)}"
        place.mkdir(exist_ok=True)
        _mount(options, place)
        made.append(place)
        return place

    yield make
    for place in made:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_run_that_fills_the_disk_goes_on_when_there_is_room(
    disk: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = disk("size=64k")
    code, error = _call(capsys, [*COMMANDS["optimize"], "--out", str(place / "run"), "--no-plots"])
    assert code == 3
    assert len(error.strip().splitlines()) <= 2
    assert "No space left" in error
    logs = sorted((place / "run").glob("trajectory-*.csv"))
    assert logs
    for log in logs:
        content = log.read_bytes()
        assert content.endswith(b"\n") or not content
    assert not list((place / "run").glob(".part-*"))
    assert read_status(place / "run")["status"] in ("failed", "interrupted")
    subprocess.run(["mount", "-o", "remount,size=8m", str(place)], check=True)
    assert run(["optimize", "--resume", str(place / "run"), "--no-plots", "--quiet"]) == 0
    assert read_status(place / "run")["status"] == "finished"
    assert run(["report", str(place / "run"), "--quiet"]) == 0


@pytest.mark.parametrize("room", [4, 8, 12])
@pytest.mark.parametrize("command", ["sweep", "basins", "check"])
def test_full_disk_is_one_line(
    disk: Callable[[str], Path], capsys: pytest.CaptureFixture[str], command: str, room: int
) -> None:
    place = disk("size=64k")
    (place / "fill").write_bytes(bytes(1024 * (64 - room)))
    code, error = _call(capsys, [*COMMANDS[command], "--out", str(place / "run")])
    assert code == 3
    assert 1 <= len(error.strip().splitlines()) <= 2
    assert "No space left" in error
    assert [entry.name for entry in place.iterdir()] == ["fill"]


@pytest.mark.parametrize("command", COMMANDS)
def test_unwritable_disk_is_one_line(
    disk: Callable[[str], Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    place = disk("size=16k,ro")
    code, error = _call(capsys, [*COMMANDS[command], "--out", str(place / "run")])
    assert code == 3
    assert 1 <= len(error.strip().splitlines()) <= 2
    assert "Read-only" in error


@pytest.mark.slow
def test_report_on_a_read_only_disk(
    disk: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = disk("size=8m")
    assert _call(capsys, [*COMMANDS["sweep"], "--no-plots", "--out", str(place / "run")])[0] == 0
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    code, error = _call(capsys, ["report", str(place / "run")])
    assert code == 3
    assert 1 <= len(error.strip().splitlines()) <= 2
    assert _call(capsys, ["report", str(place / "run"), "--out", "elsewhere"])[0] == 0
    assert _call(capsys, ["runs", str(place)])[0] == 0


@pytest.mark.parametrize("place", ["/proc/gabordiag", "/dev/null/run", "image.npy/run"])
def test_impossible_places(capsys: pytest.CaptureFixture[str], place: str) -> None:
    code, error = _call(capsys, [*COMMANDS["sweep"], "--out", place])
    assert code == 3
    assert 1 <= len(error.strip().splitlines()) <= 2


def test_what_was_made_is_taken_back(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    for out in ("deep/er/run", "mine"):
        code, _ = _call(capsys, ["optimize", "--learn", "nothing", "--out", out])
        assert code == 2
    # A run that fails at its first evaluation, with its log begun.
    Path("own.py").write_text("def f(v):\n    raise ValueError('no')\n")
    own = ["--objective", "own.py:f", "--range", "0:1", "--start", "0.5"]
    assert _call(capsys, ["optimize", *own, "--out", "deep/er/run"])[0] == 3
    assert not Path("deep").exists()
    assert Path("mine").is_dir()
    assert not list(Path("mine").iterdir())


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = TrajectoryFile(
        tmp_path / "trajectory-000.csv", ["step", "theta", "loss", "grad", "update", "lr"]
    )
    log((0, 1.0, 2.0, 3.0, 4.0, 5.0))
    before = log.path.read_bytes()
    original, room = os.write, [10]

    def write(descriptor: int, content: Any) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = original(descriptor, bytes(content)[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OutputError, match="No space left"):
        log((1, 1.0, 2.0, 3.0, 4.0, 5.0))
    log.close()
    assert log.path.read_bytes() == before


@pytest.mark.slow
def test_output_that_cannot_be_printed(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    program = "import sys; from gabordiag.cli.main import main; main()"
    root = str(Path(__file__).parents[2])
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, "runs", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
