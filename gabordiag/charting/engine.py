"""Has an atlas computed: here, one task after the other, or by the workers of a Dask cluster.

An image is transformed once; the workers hold its Gram matrix while the filters pass by. Tasks are
cut by the grid alone and every task is computed on one thread, so that the numbers are the same
whatever the number of workers. Only this process writes.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any

import torch

from gabordiag.charting.grid import Grid, Task
from gabordiag.charting.landscapes import chart_filter
from gabordiag.charting.orientations import ImageGram
from gabordiag.charting.store import BYTES, Store
from gabordiag.errors import InputError
from gabordiag.objective.experiment import Picture
from gabordiag.objective.response import one_thread
from gabordiag.objective.space import FloatArray
from gabordiag.results import Progress
from gabordiag.wording import counted

# Tasks under way for each thread of a cluster: one is computed, the others wait.
_AHEAD = 3
# Seconds between two writes, at most about.
_FLUSH_EVERY = 2.0
# Seconds until a scheduler that is gone is given up, and a cluster that has no workers.
_PATIENCE, _ALONE = 10.0, 60.0
# Seconds to start workers, which load torch.
_START = 5.0
# Where a cluster's other processes share memory and caches, a task takes so much longer.
_CROWDED = 1.15
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
Results = Generator[tuple[Task, FloatArray], None, None]


@dataclass(frozen=True)
class AtlasPlan:
    """How much work an atlas is: landscapes in all and left to do, seconds, bytes on disk."""

    landscapes: int
    left: int
    workers: int
    seconds: float
    bytes: int

    def words(self) -> str:
        """Returns what is announced."""
        done = self.landscapes - self.left
        kept = f", {done:,} of them done" if done else ""
        seconds = self.seconds
        time = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        size = f"{self.bytes / 1e6:.1g} MB on disk"
        return (
            f"{counted(self.landscapes, 'landscape', 'landscapes')}{kept}: about {time} on "
            f"{counted(self.workers, 'worker', 'workers')}, at most {size}"
        )


def default_workers() -> int:
    """Returns how many processes this machine has room for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_plan(store: Store, workers: int | None, scheduler: str | None = None) -> AtlasPlan:
    """Returns the plan of what is left, from the time of one image and of three of its filters.

    Filters differ by a factor of some two; those at a sixth, a half and five sixths of the grid are
    computed for it. A cluster's cores are taken to be as quick as this machine's.
    """
    cores = default_workers()
    grid, seconds = store.grid, 0.0
    blocks = [(images, list(store.open_tasks(images))) for images in grid.image_blocks()]
    tasks = sum(len(open_tasks) for _, open_tasks in blocks)
    left = sum(len(images) * len(o) for images, o in blocks) * len(grid.axes["loss"])
    if tasks and scheduler is not None:
        with _client(1, scheduler) as client:
            workers = cores = max(1, sum(client.nthreads().values()))
    workers = cores if workers is None else workers
    if tasks:
        images, open_tasks = max(blocks, key=lambda block: len(block[0]) * bool(block[1]))
        started = time.perf_counter()
        gram = _gram(grid.experiment.picture(images[0]), grid.experiment.kernel_size)
        reading = (time.perf_counter() - started) * sum(len(i) for i, o in blocks if o)
        sample = [open_tasks[len(open_tasks) * part // 6] for part in (1, 3, 5)]
        # What is loaded by the first is no part of it.
        _chart(grid, sample[0], [gram])
        started = time.perf_counter()
        for task in sample:
            _chart(grid, task, [gram] * len(images))
        each = (time.perf_counter() - started) / len(sample) / len(images)
        total = reading + each * left / len(grid.axes["loss"])
        together = min(workers, tasks)
        seconds = total / min(together, cores)
        if together > 1:
            seconds = seconds * _CROWDED + _START * math.ceil(together / cores)
    return AtlasPlan(grid.count, left, workers, round(seconds, 1), BYTES * grid.count)


def compute(store: Store, workers: int, scheduler: str | None, progress: Progress | None) -> None:
    """Computes what the store lacks, as `gd.atlas` says; interrupted, it keeps what is done."""
    if store.done.all():
        return
    losses = len(store.grid.axes["loss"])
    last = time.monotonic()
    done = int(store.done.sum())
    is_local = scheduler is None and workers == 1
    results = _here(store) if is_local else _by_dask(store, workers, scheduler)
    try:
        for task, quantities in results:
            store.add(task, quantities)
            done += len(task.images) * losses
            if progress is not None:
                progress(done, store.grid.count)
            if time.monotonic() - last > _FLUSH_EVERY:
                store.flush()
                last = time.monotonic()
    finally:
        results.close()
        store.flush()


@one_thread()
def _gram(picture: Picture, kernel_size: int) -> ImageGram:
    return ImageGram.of(picture, kernel_size)


@one_thread()
def _chart(grid: Grid, task: Task, images: Sequence[ImageGram]) -> FloatArray:
    return chart_filter(grid, task.filter, images)


def _here(store: Store) -> Results:
    for task, grams in _tasks(store, _gram):
        yield task, _chart(store.grid, task, grams)


def _by_dask(store: Store, workers: int, scheduler: str | None) -> Results:
    # The workers get the images in another form.
    grid = replace(store.grid, experiment=store.grid.of_filter((0, 0, 0, 0)))
    with _client(workers, scheduler) as client:
        under_way: dict[Any, Task] = {}
        for task, grams in _tasks(store, partial(_submit, client, _gram)):
            # Asked each time: workers come and go.
            while len(under_way) >= _AHEAD * max(1, sum(client.nthreads().values())):
                yield from _finished(client, under_way)
            under_way[_submit(client, _chart, grid, task, grams)] = task
        while under_way:
            yield from _finished(client, under_way)


def _tasks(store: Store, gram: Callable[..., Any]) -> Iterator[tuple[Task, list[Any]]]:
    """Yields every task with its images' Gram matrices; a cluster computes and holds them."""
    experiment = store.grid.experiment
    for images in store.grid.image_blocks():
        tasks = list(store.open_tasks(images))
        size = experiment.kernel_size
        grams = [gram(experiment.picture(index), size) for index in images if tasks]
        for task in tasks:
            yield task, grams


def _submit(client: Any, function: Callable[..., object], *arguments: object) -> Any:
    return client.submit(_on_worker, function, *arguments, pure=False, retries=3)


def _on_worker(function: Callable[..., object], *arguments: object) -> object:
    # For good: on a worker with several threads, one that is done must not change it for others.
    torch.set_num_threads(1)
    return function(*arguments)


def _finished(client: Any, under_way: dict[Any, Task]) -> Results:
    """Yields what is done, and takes it out; nothing where it takes long."""
    from distributed import wait

    try:
        done = wait(list(under_way), _ALONE, "FIRST_COMPLETED").done
    except TimeoutError:
        if not client.nthreads():
            raise InputError(
                f"the Dask cluster at {client.scheduler.address} has no workers.",
                "Start some; what is done is kept, go on with --resume.",
            ) from None
        return
    while done:
        # Held by nobody but here, so that the cluster forgets it when the next one comes.
        future = done.pop()
        yield under_way.pop(future), future.result()


@contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Any]:
    """Opens a cluster, or the one at an address; what goes wrong with it is said in a sentence."""
    if find_spec("distributed") is None:
        raise InputError(
            "several workers need Dask, which is not installed.",
            "Install it with: pip install 'gabordiag[atlas]', or use --workers 1.",
        )
    import dask
    from distributed import Client, KilledWorker, LocalCluster
    from distributed.client import FutureCancelledError, FuturesCancelledError
    from distributed.utils import silence_logging_cmgr

    where = "of this machine" if scheduler is None else f"at {scheduler}"
    settings = {
        "distributed.comm.timeouts.connect": _PATIENCE,
        # Images travel with their tasks, so that they can be computed again.
        "distributed.admin.large-graph-warning-threshold": "1 TB",
        # Dask's own also fixes malloc's threshold for trimming; every array of a run would then be
        # mapped and zeroed anew, at 1.4 times the time.
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(_THREADS, 1),
    }
    with ExitStack() as stack:
        # What Dask logs of a lost scheduler is said below.
        stack.enter_context(silence_logging_cmgr(logging.CRITICAL + 1))
        stack.enter_context(dask.config.set(settings))
        try:
            cluster: Any = scheduler
            if scheduler is None:
                with _interruption_held():
                    cluster = stack.enter_context(
                        LocalCluster(
                            n_workers=workers, threads_per_worker=1, dashboard_address=":0",
                            silence_logs=logging.CRITICAL, memory_limit=0,
                        )
                    )  # fmt: skip
            else:
                _require_answer(scheduler)
            client = stack.enter_context(Client(cluster, timeout=_PATIENCE))
        except (OSError, RuntimeError, TimeoutError, ValueError) as error:
            advice = "Is it running, and is the address right?"
            if scheduler is None:
                advice = "In a script, call it under `if __name__ == '__main__':` alone."
            why = str(error).rstrip(".")
            raise InputError(f"the Dask cluster {where} is not there: {why}.", advice) from None
        try:
            yield client
        except (OSError, FutureCancelledError, FuturesCancelledError, KilledWorker) as error:
            lost = "lost one worker after another" if isinstance(error, KilledWorker) else "is gone"
            raise InputError(
                f"the Dask cluster {where} {lost}.",
                "What is done is kept; go on with --resume once it is there again.",
            ) from None


def _require_answer(scheduler: str) -> None:
    """Raises what connecting does, or a TimeoutError where something else answers, or nothing."""
    from distributed.comm import connect
    from distributed.utils import LoopRunner, sync

    runner = LoopRunner(asynchronous=False)
    runner.start()
    try:
        # A client would wait for its greeting without end.
        sync(runner.loop, connect, scheduler, callback_timeout=_PATIENCE).abort()
    finally:
        runner.stop()


@contextmanager
def _interruption_held() -> Iterator[None]:
    """Lets Ctrl-C wait; processes that are started meanwhile never get it.

    A terminal sends it to them as well, and each would answer with a traceback. A cluster that it
    meets half started would not be closed.
    """
    came: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    if is_main:
        signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is not None:
        # Started with the first process, it would let the signal through again.
        resource_tracker.ensure_running()
        before = mask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if mask is not None:
            mask(signal.SIG_SETMASK, before)
        if is_main:
            signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)
