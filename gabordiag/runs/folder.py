"""A run's folder while the run goes on.

A folder holds `config.toml` (all settings), `status.json` (running, finished, interrupted, failed),
the data files, `result.json`, and the figures. Logs are written line by line as they happen;
everything else is written to a temporary file, synced, and renamed (`files.py`).

Nothing can be written after a kill. So the folder says `running` from its first moment on, the
process holds a lock on its config.toml, and who reads `running` where nobody holds the lock knows
that the run was interrupted (`saved.py`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from gabordiag._version import __version__
from gabordiag.errors import GabordiagError, InputError, OutputError
from gabordiag.results import Data
from gabordiag.runs.files import (
    PART,
    TrajectoryFile,
    cannot_write,
    create_locked,
    lock,
    parse_rows,
    whole_lines,
    write_atomically,
)
from gabordiag.runs.formats import Row, encode_table, to_json, to_toml
from gabordiag.runs.saved import (
    CONFIG,
    DEFAULT_ROOT,
    RESULT,
    SCHEMA,
    STATUS,
    require_interrupted,
    still_running,
)


class RunFolder:
    """A run's folder while the run goes on; `create` makes a new one, `resume` goes on with one.

    The descriptor holds the lock of its config.toml; `made` are folders that were made for it, the
    innermost first.
    """

    def __init__(
        self,
        path: Path,
        command: str,
        descriptor: int,
        made: Sequence[Path] = (),
        *,
        resumed: bool = False,
    ) -> None:
        self.path, self.command, self.resumed, self._made = path, command, resumed, made
        self._started = datetime.now(UTC)
        self.logs, self.lock = contextlib.ExitStack(), contextlib.ExitStack()
        self.lock.callback(os.close, descriptor)
        self._written = {CONFIG}
        try:
            self.set_status("running")
        except OutputError:
            self.abandon("failed")
            raise

    @classmethod
    def create(cls, out: Path | None, command: str, settings: Mapping[str, Any]) -> RunFolder:
        """Makes a new folder: `out`, or one under `runs/` named by time and command."""
        config = to_toml({"command": command, **settings})
        place = DEFAULT_ROOT if out is None else out
        made = [folder for folder in (place, *place.parents) if not folder.exists()]
        try:
            path = _new_default(command, made) if out is None else _new_named(out)
            descriptor = create_locked(path / CONFIG, config)
        except FileExistsError:
            # Of two processes that found it empty, the other was first.
            raise _taken(place) from None
        except OSError as error:
            _remove_folders(made)
            raise cannot_write(place, error) from None
        except OutputError:
            _remove_folders(made)
            raise
        return cls(path, command, descriptor, made)

    @classmethod
    def resume(cls, path: Path, command: str) -> RunFolder:
        """Takes over an interrupted run's folder, which no other process may write to."""
        status = require_interrupted(path)
        if status.get("command") != command:
            raise InputError(f"{path} holds a run of `{status.get('command')}`, not `{command}`.")
        try:
            descriptor = lock(path / CONFIG)
        except OSError as error:
            raise cannot_write(path, error) from None
        if descriptor is None:
            raise still_running(path)
        for entry in path.glob(f"{PART}*"):
            entry.unlink(missing_ok=True)
        return cls(path, command, descriptor, resumed=True)

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file so that it is whole or absent."""
        self._written.add(name)
        write_atomically(self.path / name, content)

    def log(self, name: str, columns: Sequence[str]) -> TrajectoryFile:
        """Opens a trajectory's CSV in the folder; closed with the run."""
        log = TrajectoryFile(self.path / name, columns, resume=self.resumed)
        self.logs.callback(log.close)
        self._written.add(name)
        return log

    def logged(self, name: str, columns: Sequence[str]) -> list[Row]:
        """Returns the steps that a resumed run has logged already; arguments as of `log`."""
        path = self.path / name
        return parse_rows(path, whole_lines(path), columns)[1]

    def save_data(self, data: Data) -> None:
        """Writes arrays: `.csv` with full precision, `.npz` compressed; existing logs are kept."""
        for name, columns in data.items():
            if not (self.path / name).exists():
                self.write(name, encode_table(name, columns))

    def set_status(self, status: str) -> None:
        """Records `running`, `finished`, `interrupted` or `failed`."""
        seconds = (datetime.now(UTC) - self._started).total_seconds()
        content = {
            "command": self.command,
            "status": status,
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
            "version": __version__,
            "pid": os.getpid(),
        }
        self.write(STATUS, to_json(content) + "\n")

    def finish(self, document: Mapping[str, Any]) -> None:
        """Writes result.json and marks the run finished."""
        self.logs.close()
        self.write(RESULT, to_json(document) + "\n")
        self.set_status("finished")
        self.lock.close()

    def abandon(self, status: str) -> None:
        """Ends a run without a result: `interrupted`, or `failed`.

        Nothing is raised: the reason is being reported already, and a status that cannot be written
        any more (full disk) is read as interrupted.
        """
        with contextlib.suppress(GabordiagError):
            self.logs.close()
        if status == "failed":
            self.discard_if_empty()
        if self.path.is_dir():
            with contextlib.suppress(GabordiagError):
                self.set_status(status)
        self.lock.close()

    def discard_if_empty(self) -> None:
        """Removes the folder again if no step was logged in it; the rest can be computed again.

        A folder in it, the store of an atlas, holds what took long as well.
        """
        self.logs.close()
        logs = [self.path / name for name in self._written if "trajectory-" in name]
        is_store = any(entry.is_dir() for entry in self.path.glob("[!.]*"))
        if self.resumed or is_store or any(whole_lines(log).count(b"\n") > 1 for log in logs):
            return
        for name in self._written:
            (self.path / name).unlink(missing_ok=True)
        _remove_folders(self._made)

    def files(self) -> list[str]:
        """Returns the names of all files in the folder."""
        entries = (entry for entry in self.path.iterdir() if entry.is_file())
        return sorted(entry.name for entry in entries if not entry.name.startswith("."))


def document(
    command: str,
    settings: Mapping[str, Any],
    seconds: float,
    files: Iterable[str],
    result: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the top level of the JSON."""
    return {
        "schema": SCHEMA,
        "command": command,
        "version": __version__,
        "config": {key: value for key, value in settings.items() if value is not None},
        "environment": environment(),
        "seconds": round(seconds, 3),
        "files": sorted(files),
        "result": result,
    }


def environment() -> dict[str, Any]:
    """Returns what a repetition may depend on."""
    # Not loaded by a command that has computed without it, on one thread.
    torch = sys.modules.get("torch")
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": version("torch") if torch is None else torch.__version__,
        "numpy": np.__version__,
        "threads": 1 if torch is None else torch.get_num_threads(),
    }


def write_report(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files into a folder, which is made if it is not there; returns it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    except (OSError, OutputError) as error:
        _remove_folders(made)
        raise cannot_write(folder, error) if isinstance(error, OSError) else error from None
    return folder


def _new_default(command: str, made: list[Path]) -> Path:
    DEFAULT_ROOT.mkdir(exist_ok=True)
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        # mkdir is atomic: of two processes in the same second, one gets the next number.
        path = DEFAULT_ROOT / (f"{stamp}-{command}" + (f"-{attempt + 1}" if attempt else ""))
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            made.insert(0, path)
            return path
    raise OutputError(f"{DEFAULT_ROOT} holds a thousand runs of this second.", "Use --out.")


def _new_named(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file.", "Give a folder with --out.")
    if out.is_dir() and any(out.iterdir()):
        raise _taken(out)
    out.mkdir(parents=True, exist_ok=True)
    return out


def _taken(out: Path) -> OutputError:
    return OutputError(
        f"{out} is not empty, and is not overwritten.", "Give a new folder with --out."
    )


def _remove_folders(made: Sequence[Path]) -> None:
    for folder in made:
        # Not if somebody else has put something there meanwhile.
        with contextlib.suppress(OSError):
            folder.rmdir()
