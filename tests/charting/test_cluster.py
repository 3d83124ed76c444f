"""The atlas on a real cluster of processes: equal numbers, killed workers, a killed scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import gabordiag as gd
from gabordiag.charting.atlas import Atlas
from gabordiag.charting.engine import compute
from gabordiag.charting.grid import Grid
from gabordiag.charting.store import Store
from gabordiag.cli.main import run
from gabordiag.errors import InputError

CHANCE = np.random.default_rng(7)
IMAGES = [CHANCE.uniform(0, 1, (40, 44)) for _ in range(3)]
EXPERIMENT = gd.Experiment(images=IMAGES, kernel_size=9)
AXES: dict[str, Any] = {
    "loss": ("rmse",), "psi": (0.0,), "wavelength": (4.0, 6.0), "gamma": (0.5, 1.0),
    "sigma": (1.5, 2.0, 3.0),
}  # fmt: skip
SIZES = {"starts": 3, "steps": 100}


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._file = folder / "scheduler.json"
        options = ["--scheduler-file", str(self._file), "--no-dashboard"]
        self.scheduler = self._start("scheduler", *options, "--port", "0")
        while not self._file.exists():
            assert self.scheduler.poll() is None
            time.sleep(0.1)
        self.workers = [
            self._start("worker", *options, "--nthreads", "1", "--no-nanny") for _ in range(workers)
        ]

    @property
    def address(self) -> str:
        return str(json.loads(self._file.read_text())["address"])

    @staticmethod
    def _start(*arguments: str) -> subprocess.Popen[bytes]:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], **quiet)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Of two workers; the first test leaves one, the second no scheduler."""
    started = Cluster(tmp_path_factory.mktemp("cluster"), 2)
    yield started
    started.close()


@pytest.fixture(scope="module")
def serial() -> Atlas:
    return gd.atlas(EXPERIMENT, **AXES, **SIZES)


def _require_equal(columns: Any, serial: Atlas) -> None:
    for name, array in serial.columns.items():
        np.testing.assert_array_equal(np.asarray(columns[name]), array, err_msg=name)


def test_a_cluster_loses_a_worker_and_gives_the_same_numbers(
    cluster: Cluster, serial: Atlas, tmp_path: Path
) -> None:
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:
            os.kill(cluster.workers[0].pid, signal.SIGKILL)

    made = gd.atlas(
        EXPERIMENT, **AXES, **SIZES, scheduler=cluster.address, out=tmp_path / "a.zarr",
        progress=progress,
    )  # fmt: skip
    assert cluster.workers[0].wait(5) == -signal.SIGKILL
    assert seen == list(range(3, 37, 3))
    _require_equal(made.columns, serial)
    stored = xarray.open_zarr(tmp_path / "a.zarr")
    assert stored.done.values.all()
    _require_equal(stored, serial)


def test_what_was_done_outlives_the_scheduler(
    cluster: Cluster, serial: Atlas, tmp_path: Path
) -> None:
    grid, path = Grid(EXPERIMENT, AXES, SIZES["starts"], SIZES["steps"]), tmp_path / "a.zarr"

    def progress(done: int, total: int) -> None:
        if done == 12:
            cluster.scheduler.kill()

    started = time.monotonic()
    with pytest.raises(InputError, match=r"Dask cluster at tcp://.* is gone"):
        compute(Store(grid, path), scheduler=cluster.address, progress=progress)
    assert time.monotonic() - started < 60
    kept = Store(grid, path)
    done = int(kept.done.sum())
    assert 12 <= done < 36
    counts: list[int] = []
    compute(kept, progress=lambda done, total: counts.append(done))
    assert counts == list(range(done + 3, 37, 3))
    _require_equal(kept.columns(), serial)


def test_nothing_at_the_address(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", IMAGES[0])
    small = [f"--image={tmp_path}/a.npy", "--kernel-size=9", "--sigma=2", "--gamma=1",
             "--wavelength=5", "--loss=mse", "--steps=50"]  # fmt: skip
    out = f"--out={tmp_path}/out"
    assert run(["atlas", *small, out, "--scheduler=tcp://127.0.0.1:9", "--quiet"]) == 3
    err = capsys.readouterr().err
    assert "the Dask cluster at tcp://127.0.0.1:9 is not there" in err
    assert len(err.strip().splitlines()) <= 2
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_a_cluster_of_its_own(workers: int, serial: Atlas) -> None:
    made = gd.atlas(EXPERIMENT, **AXES, **SIZES, workers=workers)
    _require_equal(made.columns, serial)
