"""Runs killed at random moments: what was reported is on disk, and nothing is half there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gabordiag.cli.main import run
from gabordiag.runs.saved import load_unfinished, read_status
from tests.cli.test_resume import FILTER, assert_same_run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")

SMALL = ["--image", "image.npy", *FILTER]
COMMANDS = {
    "sgd": ["optimize", *SMALL, "--momentum", "0.9", "--schedule", "one-cycle", "--lr", "0.05",
            "--lr", "1", "--steps", "700"],
    "adam": ["optimize", *SMALL, "--optimizer", "adam", "--optimizer", "rprop", "--lr", "0.02",
             "--steps", "700"],
    "lbfgs": ["optimize", *SMALL, "--optimizer", "lbfgs", "--loss", "mse", "--steps", "60"],
    "direct": ["optimize", *SMALL, "--direct", "--optimizer", "adamw", "--steps", "300"],
    "basins": ["basins", *SMALL, "--lr", "1e-3:10:40", "--starts", "-1:1:61", "--steps", "900"],
    "reproduce": ["reproduce", "--image", "image.npy"],
}  # fmt: skip
SIGNALS = ("SIGKILL", "SIGKILL", "SIGINT", "SIGTERM")


@dataclass(frozen=True)
class Killer:
    """The process that forks and kills."""

    process: subprocess.Popen[str]

    def __call__(
        self,
        arguments: list[str],
        reports: int = 0,
        after: float | None = None,
        signal: str = "SIGKILL",
    ) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"arguments": arguments, "reports": reports, "after": after, "signal": signal}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    np.save(folder / "image.npy", np.random.default_rng(3).standard_normal((48, 50)))
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def killer(place: Path) -> Iterator[Killer]:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    # The same numbers need the same threads as this process, which resumes the runs.
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.cli.killing"],
        cwd=place,
        env={**os.environ, **threads, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Killer(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def references(place: Path, killer: Killer) -> Any:
    """Returns a maker of uninterrupted runs: the folder, and how it ended."""
    made: dict[str, tuple[Path, dict[str, Any]]] = {}

    def make(name: str) -> tuple[Path, dict[str, Any]]:
        if name not in made:
            folder = place / "whole" / name
            end = killer([*COMMANDS[name], "--no-plots", "--out", str(folder)])
            assert end["status"] == 0
            made[name] = folder, end
        return made[name]

    return make


def check_files(folder: Path, reference: Path) -> int:
    """Asserts that every file is whole or a log's beginning; returns the steps that are logged."""
    logged = 0
    for file in folder.iterdir():
        if file.name.startswith(".part-"):
            continue
        content = file.read_bytes()
        if file.suffix == ".json":
            json.loads(content)
        elif file.suffix == ".toml":
            tomllib.loads(content.decode())
        elif "trajectory-" in file.name:
            whole = content[: content.rfind(b"\n") + 1]
            assert (reference / file.name).read_bytes().startswith(whole)
            logged += max(0, whole.count(b"\n") - 1)
        elif file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                assert all(archive[name].size for name in archive.files)
    return logged


def check_end(folder: Path, end: dict[str, Any], signal: str) -> str:
    """Asserts what a person is told of the run; returns its status."""
    if not folder.exists() or not (folder / "config.toml").exists():
        # Killed before its folder was there.
        assert end["reported"] is None
        return "absent"
    status = str(read_status(folder)["status"])
    recorded = json.loads((folder / "status.json").read_text()) if signal != "SIGKILL" else None
    if end["status"] == 0:
        assert status == "finished"
        return status
    assert end["status"] == (-9 if signal == "SIGKILL" else 130)
    assert status in ("interrupted", "finished")
    if recorded is not None and status == "interrupted":
        assert recorded["status"] == "interrupted"
    return status


def kill_once(
    killer: Killer, references: Any, name: str, chance: random.Random, folder: Path
) -> str:
    reference, whole = references(name)
    signal = chance.choice(SIGNALS)
    # Seconds say little on a busy machine: most moments are told by the run's own progress.
    begins = chance.random() < 0.25
    reports = 0 if begins else chance.randint(1, whole["reports"])
    after = whole["seconds"] * chance.uniform(0, 0.5 if begins else 0.05)
    end = killer([*COMMANDS[name], "--no-plots", "--out", str(folder)], reports, after, signal)
    status = check_end(folder, end, signal)
    if status == "absent":
        return status
    logged = check_files(folder, reference)
    if name in ("basins", "reproduce"):
        assert run(["report", str(folder), "--quiet"]) == 0
    else:
        # Every step that the progress bar was told is on disk.
        assert logged >= (end["reported"] or 0)
    if status == "finished":
        assert_same_run(reference, folder)
    else:
        partial = load_unfinished(folder)
        assert partial.status == "interrupted"
        assert sum(len(log["step"]) for log in partial.logs.values()) == logged
        if name not in ("basins", "reproduce"):
            assert run(["report", str(folder), "--quiet"]) == 0
            (folder / "report.md").unlink()
            (folder / "logged.png").unlink(missing_ok=True)
            assert run(["optimize", "--resume", str(folder), "--no-plots", "--quiet"]) == 0
            assert_same_run(reference, folder)
    return status


def kill_often(
    killer: Killer, references: Any, place: Path, names: list[str], count: int, seed: int
) -> list[str]:
    chance = random.Random(seed)
    ends = []
    for index in range(count):
        name = names[index % len(names)]
        folder = place / f"{seed}-{index}-{name}"
        ends.append(kill_once(killer, references, name, chance, folder))
    return ends


@pytest.mark.slow
def test_killed_runs_lose_nothing(killer: Killer, references: Any, place: Path) -> None:
    ends = kill_often(killer, references, place, ["sgd", "basins"], 5, 3)
    assert ends.count("interrupted") >= 2


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_two_hundred_killed_runs_lose_nothing(
    killer: Killer, references: Any, place: Path, part: int
) -> None:
    names = ["sgd", "adam", "lbfgs", "direct", "basins"] * 4
    names[9] = "reproduce"
    ends = kill_often(killer, references, place, names, 50, 100 + part)
    assert ends.count("interrupted") >= 20
