"""Kills runs at random moments; started as a program of its own, which has torch loaded once.

`python -m tests.cli.killing` reads one JSON object a line, `{"arguments", "reports", "after",
"signal"}`: a command line, after how many reports to its progress bar and how many seconds more a
signal is sent (null for never), and which. Each runs in a forked child, through the program's real
entry point. One JSON object a line comes back: `{"status", "seconds", "reports", "reported"}`, the
child's exit code (negative: the signal that ended it), its time, how many reports it made, and the
step that the last one told.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from gabordiag.cli import main as entry
from gabordiag.cli import session


def work(arguments: list[str], pipe: int) -> None:
    """Runs one command line in this process, which ends with it."""

    @contextmanager
    def progress(self: Any, text: str, objective: Any = None) -> Iterator[Any]:
        yield lambda done, total: os.write(pipe, struct.pack("q", done))

    session.Session.progress = progress  # type: ignore[method-assign]
    sys.argv = ["gabordiag", *arguments]
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    code = 70
    try:
        entry.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 71
    finally:
        os._exit(code)


def trial(arguments: list[str], reports: int, after: float | None, number: int) -> dict[str, Any]:
    """Runs one command line in a child that is sent a signal."""
    out, pipe = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(out)
        os.set_blocking(pipe, False)
        work(arguments, pipe)
    os.close(pipe)
    with os.fdopen(out, "rb", buffering=0) as told:
        if after is not None:
            heard = b"".join(told.read(8) for _ in range(reports))
            time.sleep(after)
            os.kill(child, number)
        else:
            heard = b""
        heard += b"".join(iter(lambda: told.read(4096), b""))
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started
    last = struct.unpack("q", heard[-8:])[0] if heard else None
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "reports": len(heard) // 8,
        "reported": last,
    }


if __name__ == "__main__":
    # What a command imports when it runs, so that the kills fall into its work.
    for module in ("api", "diagnosis.reproduction", "presentation.report"):
        import_module(f"gabordiag.{module}")
    for line in sys.stdin:
        order = json.loads(line)
        number = getattr(signal, order["signal"])
        end = trial(order["arguments"], order["reports"], order["after"], number)
        print(json.dumps(end), flush=True)
