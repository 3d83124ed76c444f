"""The atlas on real processes: equal numbers, and whatever of them is killed in the middle."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import torch
import xarray
from distributed import Client, LocalCluster

import gabordiag as gd
from gabordiag.charting import engine, grid
from gabordiag.charting.atlas import Atlas
from gabordiag.charting.grid import Grid
from gabordiag.charting.landscapes import QUANTITIES
from gabordiag.charting.store import Store
from gabordiag.cli.main import run
from gabordiag.cli.session import Session
from gabordiag.errors import InputError

pytestmark = pytest.mark.long

CHANCE = np.random.default_rng(7)
IMAGES = [CHANCE.uniform(0, 1, (40, 44)) for _ in range(3)]
EXPERIMENT = gd.Experiment(images=IMAGES, kernel_size=9)
AXES: dict[str, Any] = {
    "loss": ("rmse",), "psi": (0.0,), "wavelength": (4.0, 6.0), "gamma": (0.5, 1.0),
    "sigma": (1.5, 2.0, 3.0),
}  # fmt: skip
SIZES = {"starts": 3, "steps": 100}
# The same as a command line, in a folder that `images` makes.
COMMAND = [
    "atlas", "--images=photos", "--kernel-size=9", "--wavelength=4,6", "--gamma=0.5,1",
    "--sigma=1.5,2,3", "--loss=rmse", "--starts=3", "--steps=100", "--out=run", "--no-plots",
]  # fmt: skip
# Twelve filters on two images and on the third.
LANDSCAPES = 36


class Cluster:
    """A scheduler and workers, each a process of its own; the second has two threads."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"
        options = ["--scheduler-file", str(self._file), "--no-dashboard"]
        self.scheduler = self._start("scheduler", *options, "--port", "0")
        while not self._file.exists():
            assert self.scheduler.poll() is None
            time.sleep(0.1)
        self.workers = [
            self._start("worker", *options, "--nthreads", threads, "--no-nanny") for threads in "12"
        ]

    @property
    def address(self) -> str:
        return str(json.loads(self._file.read_text())["address"])

    @staticmethod
    def _start(*arguments: str) -> subprocess.Popen[bytes]:
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        # Torch would take two threads for a task.
        env = {**os.environ, "OMP_NUM_THREADS": "2"}
        return subprocess.Popen([sys.executable, "-m", "dask", *arguments], env=env, **quiet)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module", autouse=True)
def _blocks() -> Iterator[None]:
    """Two images at a time, so that there are two blocks of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "_LANDSCAPES", 2)
        yield


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Of two workers; the first test leaves one, the last no scheduler."""
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def serial() -> Atlas:
    return gd.atlas(EXPERIMENT, **AXES, **SIZES)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, pixels in zip("abc", IMAGES, strict=True):
        np.save(f"photos/{name}.npy", pixels)


def _require_equal(columns: Any, serial: Atlas) -> None:
    for name in QUANTITIES:
        np.testing.assert_array_equal(np.asarray(columns[name]), serial.columns[name], err_msg=name)


def _require_part(path: Path, serial: Atlas) -> int:
    """Checks that what a store says is done has its final numbers; returns how many are."""
    stored = xarray.open_zarr(path)
    done = stored.done.values
    for name in QUANTITIES:
        np.testing.assert_array_equal(stored[name].values[done], serial.columns[name][done])
    return int(done.sum())


def _resume(reports: list[int]) -> int:
    """Goes on with the run here, without a cluster; its progress is added to the reports."""
    with pytest.MonkeyPatch.context() as patch:
        _listen(patch, lambda done, total: reports.append(done))
        return run(["atlas", "--resume=run", "--workers=1", "--no-plots", "--quiet"])


def _listen(patch: pytest.MonkeyPatch, hear: Callable[[int, int], None]) -> None:
    @contextmanager
    def progress(self: Session, text: str, objective: Any = None) -> Iterator[Any]:
        yield hear if text == "charting" else lambda *_: None

    patch.setattr(Session, "progress", progress)


def _at(done: int, act: Callable[[], None]) -> Callable[[int, int], None]:
    return lambda now, total: act() if now == done else None


def test_a_cluster_loses_a_worker_and_gives_the_same_numbers(
    cluster: Cluster, serial: Atlas, tmp_path: Path
) -> None:
    seen: list[int] = []
    held: list[int] = []
    left: list[int] = []
    plans: list[str] = []
    limit = time.monotonic() + 60
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2)

        def progress(done: int, total: int) -> None:
            seen.append(done)
            if len(seen) == 3:
                os.kill(cluster.workers[0].pid, signal.SIGKILL)
            held.append(tasks())
            # Released ones are forgotten a moment later.
            left.append(tasks())
            while done == total and left[-1] > 2 and time.monotonic() < limit:
                time.sleep(0.05)
                left.append(tasks())

        def tasks() -> int:
            return int(client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)))

        # It warns of images that are sent with the tasks, were it not switched off.
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 kB"}):
            made = gd.atlas(
                EXPERIMENT, **AXES, **SIZES, scheduler=cluster.address, out=tmp_path / "a.zarr",
                progress=progress, announce=plans.append,
            )  # fmt: skip
    # The cluster's threads, whatever this machine has.
    assert "on 3 workers" in plans[0]
    assert cluster.workers[0].wait(5) == -signal.SIGKILL
    # Twelve times two images and twelve times one, in whatever order.
    assert sorted(np.diff([0, *seen])) == [1] * 12 + [2] * 12
    assert seen[-1] == LANDSCAPES
    # At most three tasks a thread, and the images of a block or two: of 27, not all are kept.
    assert max(held) <= 3 * engine._AHEAD + 3
    assert left[-1] <= 2
    _require_equal(made.columns, serial)
    stored = xarray.open_zarr(tmp_path / "a.zarr")
    assert stored.done.values.all()
    _require_equal(stored, serial)


def test_a_worker_stays_on_one_thread() -> None:
    with ThreadPoolExecutor(1) as thread:
        # Of a thread's own.
        thread.submit(torch.set_num_threads, 2).result()
        assert thread.submit(engine._on_worker, torch.get_num_threads).result() == 1
        assert thread.submit(torch.get_num_threads).result() == 1


def test_what_is_done_needs_no_cluster(tmp_path: Path) -> None:
    how: dict[str, Any] = {**AXES, **SIZES, "out": tmp_path / "a.zarr"}
    made = gd.atlas(EXPERIMENT, **how)
    gone = gd.atlas(EXPERIMENT, **how, scheduler="tcp://127.0.0.1:9", announce=lambda text: None)
    _require_equal(gone.columns, made)


def test_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_ALONE", 0.5)
    alone = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**alone) as empty, pytest.raises(InputError, match="has no workers"):
        gd.atlas(EXPERIMENT, **AXES, **SIZES, scheduler=empty.scheduler_address)


def test_nothing_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PATIENCE", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address in (
            "tcp://127.0.0.1:9", f"tcp://127.0.0.1:{silent.getsockname()[1]}",
            "http://127.0.0.1:80", "tcp://127.0.0.1:port", "here",
        ):  # fmt: skip
            started = time.monotonic()
            with pytest.raises(InputError, match=f"Dask cluster at {address} is not there"):
                gd.atlas(EXPERIMENT, **AXES, **SIZES, scheduler=address)
            assert time.monotonic() - started < 5


@pytest.mark.usefixtures("images")
def test_what_was_done_outlives_the_scheduler(
    cluster: Cluster,
    serial: Atlas,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    killed: list[float] = []

    def progress(done: int, total: int) -> None:
        if done >= 12 and not killed:
            cluster.scheduler.kill()
            # As it does a moment later, now and then.
            logging.getLogger("distributed.client").error("Failed to reconnect")
            killed.append(time.monotonic())

    # Dask's own handler has the stderr of the test that came first.
    logs = logging.StreamHandler(io.StringIO())
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger("distributed"), "handlers", [logs])
        _listen(patch, progress)
        # The machine may be busy.
        assert run([*COMMAND, f"--scheduler={cluster.address}", "--json"]) == 3
    assert time.monotonic() - killed[0] < 30
    out, err = capfd.readouterr()
    assert out == logs.stream.getvalue() == ""
    plan, *lines = err.strip().splitlines()
    assert "36 landscapes" in plan
    assert lines[0].endswith(f"the Dask cluster at {cluster.address} is gone.")
    assert len(lines) == 2
    done = _require_part(Path("run/atlas.zarr"), serial)
    assert 12 <= done < LANDSCAPES
    reports: list[int] = []
    assert _resume(reports) == 0
    assert done < reports[0] <= done + 2
    assert reports[-1] == LANDSCAPES
    _require_equal(xarray.open_zarr("run/atlas.zarr"), serial)


# Ends itself before its n-th write to the store, which it does after every task.
_KILLED = """
import os, signal, sys
import numpy as np, zarr
from gabordiag.charting import engine, grid
from gabordiag.cli import main
grid._LANDSCAPES, engine._FLUSH_EVERY = 2, 0.0
write, left = zarr.Array.__setitem__, {left}
def killed(*arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(*arguments)
zarr.Array.__setitem__ = killed
main.run({command})
"""


@pytest.mark.slow
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("left", [3, len(QUANTITIES) + 20, 3 * len(QUANTITIES) + 20])
def test_killed_while_it_writes(left: int, serial: Atlas) -> None:
    program = _KILLED.format(left=left, command=[*COMMAND, "--workers=1", "--quiet"])
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL
    is_begun = Path("run/atlas.zarr").exists()
    done = _require_part(Path("run/atlas.zarr"), serial) if is_begun else 0
    reports: list[int] = []
    assert _resume(reports) == 0
    assert reports == [*range(done + 2, 25, 2), *range(25, LANDSCAPES + 1)]
    _require_equal(xarray.open_zarr("run/atlas.zarr"), serial)


@pytest.mark.slow
@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["starting", "computing"])
def test_ended_with_its_own_workers(moment: str, number: signal.Signals, serial: Atlas) -> None:
    """Ctrl-C goes to the whole group, as from a terminal; a kill to the program alone."""
    program = (
        # As at a terminal, also where the tests are a shell's background job, which ignores it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from gabordiag.charting import engine, grid; from gabordiag.cli import main;"
        "grid._LANDSCAPES, engine._FLUSH_EVERY = 2, 0.0; main.main()"
    )
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", program, *COMMAND, "--workers=2"]
    with subprocess.Popen(command, **piped, start_new_session=True) as process:
        _wait_for(lambda: len(_group(process.pid)) > 3)
        if moment == "computing":
            _wait_for(lambda: _done() > 0)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        out, err = process.communicate(timeout=60)
    plan, *lines = err.strip().splitlines()
    assert out == ""
    assert "36 landscapes" in plan
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert lines[-1] == "Interrupted; what was logged is on disk."
    else:
        assert process.returncode == -signal.SIGKILL
        assert "Traceback" not in err
    # None is left of its workers.
    _wait_for(lambda: not _group(process.pid))
    done = _require_part(Path("run/atlas.zarr"), serial)
    reports: list[int] = []
    assert _resume(reports) == 0
    assert done < reports[0] <= done + 2
    assert reports[-1] == LANDSCAPES
    _require_equal(xarray.open_zarr("run/atlas.zarr"), serial)


def _done() -> int:
    path = Path("run/atlas.zarr")
    return int(xarray.open_zarr(path).done.sum()) if path.exists() else 0


def _group(leader: int) -> list[int]:
    """Returns the processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(group) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _wait_for(happens: Callable[[], bool]) -> None:
    limit = time.monotonic() + 90
    while not happens():
        assert time.monotonic() < limit
        time.sleep(0.1)


def test_other_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    Store(Grid(EXPERIMENT, AXES, 3, 100), path)
    others = gd.Experiment(images=[*IMAGES[:2], 1 - IMAGES[2]], kernel_size=9)
    with pytest.raises(InputError, match="its pixels differ"):
        Store(Grid(others, AXES, 3, 100), path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 4])
def test_a_cluster_of_its_own(workers: int, serial: Atlas) -> None:
    made = gd.atlas(EXPERIMENT, **AXES, **SIZES, workers=workers)
    _require_equal(made.columns, serial)
