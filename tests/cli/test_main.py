"""The entry point: signals, pipes, and what each way to end tells."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gabordiag.cli.main import run
from gabordiag.dynamics import run as run_module

LONG = [sys.executable, "-m", "gabordiag", "optimize", "--image", "image.npy", "--kernel-size=9",
        "--wavelength=5", "--sigma=2", "--steps", "1000000", "--no-plots", "--out",
        "made"]  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", np.random.default_rng(0).random((20, 20)))


def _started() -> subprocess.Popen[str]:
    """Starts the long run, with SIGHUP ignored as `nohup` does; returns once it is logging."""
    process = subprocess.Popen(
        LONG, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    log = Path("made/trajectory-000.csv")
    while process.poll() is None and not (log.exists() and log.stat().st_size > 1000):
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_an_interruption_is_told_and_what_the_caller_ignores_is_none() -> None:
    process = _started()
    process.send_signal(signal.SIGHUP)
    size = Path("made/trajectory-000.csv").stat().st_size
    while process.poll() is None and Path("made/trajectory-000.csv").stat().st_size < size + 5000:
        time.sleep(0.05)
    assert process.poll() is None, "a signal that was ignored ended the run"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 130
    assert out == ""
    assert err == "Interrupted; what was logged is on disk.\n"
    assert json.loads(Path("made/status.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_a_reader_that_went_away_is_no_failure(option: str) -> None:
    # `gabordiag --help | true`: the pipe is closed before anything is written. One is written
    # through typer, the other flushed at the end.
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "gabordiag", option],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_is_asked_for_as_of_any_typer_program() -> None:
    # What a shell runs to complete `gabordiag expl`; typer answers it by leaving.
    asked = {"_GABORDIAG_COMPLETE": "complete_bash", "COMP_WORDS": "gabordiag expl",
             "COMP_CWORD": "1"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "gabordiag"],
        capture_output=True, text=True, check=False, env={**os.environ, **asked},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["explain", "explore"]


def test_too_little_memory_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(run_module, "judge", full)
    assert run([argument.replace("1000000", "5") for argument in LONG[3:]]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "gabordiag: Not enough memory.",
        "Use a smaller image or map.",
    ]
    assert json.loads(Path("made/status.json").read_text())["status"] == "failed"


def limited(kind: int, most: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the program with a limit that the system enforces."""
    return subprocess.run(
        [sys.executable, "-m", "gabordiag", *arguments, "--out", "limited"],
        capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(kind, (most, most)),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["diagnose"], ["sweep"], ["optimize"], ["explore"]])
def test_in_little_memory_a_command_works_or_says_what_is_missing(arguments: list[str]) -> None:
    done = limited(resource.RLIMIT_AS, int(0.9 * 2**30), *arguments, "--quiet")
    if done.returncode != 0:
        assert (done.returncode, done.stderr.splitlines()[0]) == (
            3, "gabordiag: Not enough memory.",
        )  # fmt: skip


@pytest.mark.slow
def test_too_few_open_files_are_named() -> None:
    # Python itself opens its modules with six; figures need a few more.
    done = limited(resource.RLIMIT_NOFILE, 6, "sweep", "--image", "image.npy", "--kernel-size=9",
                   "--wavelength=5", "--sigma=2")  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "gabordiag: Too many open files.", "Raise the limit: ulimit -n 256.",
    ]  # fmt: skip
