"""Files that survive: whole or absent, or streamed line by line; and who writes to a folder.

Three promises, each kept by one piece here. A file that is written at once is there whole or not
at all (written beside its place, synced, renamed). A log that is written line by line keeps every
line that was reported, and at most one cut line after a kill. A folder belongs to one process at a
time: it holds a lock on the folder's first file, which the system takes back however it ends.
"""

from __future__ import annotations

import contextlib
import csv
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gabordiag.errors import InputError, OutputError
from gabordiag.runs.formats import Row, parse_csv, to_csv

try:
    import fcntl
except ImportError:  # Windows: a running process cannot be distinguished from a killed one.
    fcntl = None  # type: ignore[assignment]

# How a file begins that is not whole yet.
PART = ".part-"
# The most that a power cut takes of a log: syncing every line would take longer than the steps do.
_SYNC_SECONDS = 1.0
# Waiting for whoever only looks, 0.4 s in all.
_LOCK_TRIES, _LOCK_SECONDS = 20, 0.02


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is whole or absent, whatever happens meanwhile."""
    temporary = None
    try:
        descriptor, temporary = _write_beside(path, content)
        os.close(descriptor)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        _remove(temporary)


def create_locked(path: Path, content: str) -> int:
    """Creates a file, whole, that no other process can have created, and locks it.

    Returns a descriptor, whose closing ends the lock; raises FileExistsError for the second one.
    """
    descriptor, temporary = _write_beside(path, content)
    try:
        _lock(descriptor)
        # Unlike a rename, a link never replaces what is there; the lock is on the file, not on its
        # name, so that nobody ever sees it unlocked.
        os.link(temporary, path)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, FileExistsError):
            raise
        # A file system without links or locks: created empty first, which nobody else can either.
        path.touch(exist_ok=False)
        temporary.replace(path)
        descriptor = os.open(path, os.O_RDWR)
        with contextlib.suppress(OSError):
            _lock(descriptor)
    finally:
        _remove(temporary)
    _sync_folder(path.parent)
    return descriptor


def lock(path: Path) -> int | None:
    """Locks an existing file until the descriptor is closed; None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR)
    for _ in range(_LOCK_TRIES):
        try:
            _lock(descriptor)
        except BlockingIOError:
            # Whoever only looks (`is_held`) holds it for an instant.
            time.sleep(_LOCK_SECONDS)
            continue
        except OSError:
            pass  # no locks on this file system
        return descriptor
    os.close(descriptor)
    return None


def is_held(path: Path) -> bool | None:
    """Whether a living process holds the file's lock; None where that cannot be known."""
    if fcntl is None:
        return None
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _lock(descriptor: int) -> None:
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write_beside(path: Path, content: str | bytes) -> tuple[int, Path]:
    """Writes and syncs a temporary file in the same folder; returns it open."""
    payload = content.encode("utf-8") if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(prefix=PART, dir=path.parent)
    temporary = Path(name)
    try:
        _write_all(descriptor, payload)
        os.fsync(descriptor)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
    except BaseException:
        os.close(descriptor)
        _remove(temporary)
        raise
    return descriptor, temporary


def _write_all(descriptor: int, payload: bytes) -> None:
    # On a disk that fills up, a write takes a part and only the next one fails.
    rest = memoryview(payload)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove(temporary: Path | None) -> None:
    if temporary is not None:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Makes a rename last through a power cut, where folders can be synced."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Returns the error that says so."""
    reason = error.strerror or str(error)
    return OutputError(f"Cannot write {path}: {reason}.", "Give another place, or make room.")


class TrajectoryFile:
    """One run's CSV, written line by line; what was logged survives a kill.

    A line goes to the system in one piece before the next step is made, which is what a kill
    leaves; it is synced to the disk once a second, which is what a power cut leaves. A resumed one
    keeps the whole lines of its file and writes after them.
    """

    def __init__(self, path: Path, columns: Sequence[str], *, resume: bool = False) -> None:
        self.path = path
        kept = whole_lines(path) if resume else b""
        self._descriptor: int | None = None
        try:
            flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags, 0o666)
            os.ftruncate(self._descriptor, len(kept))
            self._end = os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError as error:
            raise cannot_write(path, error) from None
        self._synced = time.monotonic()
        if not kept:
            self._append(to_csv([columns]))

    def __call__(self, step: Sequence[float]) -> None:
        """Writes one row: the step's number, then floats at full precision."""
        number, *rest = step
        self._append(",".join((str(int(number)), *map(repr, map(float, rest)))) + "\n")

    def _append(self, line: str) -> None:
        assert self._descriptor is not None
        payload = line.encode("utf-8")
        try:
            _write_all(self._descriptor, payload)
            self._end += len(payload)
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._descriptor)
                self._synced = time.monotonic()
        except OSError as error:
            # A full disk may have taken half a line.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._end)
            raise cannot_write(self.path, error) from None

    def close(self) -> None:
        """Syncs and closes; once."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        finally:
            os.close(descriptor)


def whole_lines(path: Path) -> bytes:
    """Returns a log's content up to its last line's end; nothing of an absent file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    return content[: content.rfind(b"\n") + 1]


def parse_rows(
    path: Path, content: bytes, expected: Sequence[str] | None = None
) -> tuple[list[str], list[Row]]:
    """Returns columns and rows of a log's whole lines, whose steps must be 0, 1, 2, ..."""
    if not content:
        return list(expected or ()), []
    try:
        columns, rows = parse_csv(content)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}).", "Run it again.") from None
    if expected is not None and columns != list(expected):
        raise InputError(f"{path} is damaged: its first line is not {','.join(expected)}.")
    for number, row in enumerate(rows):
        if not row or row[0] != number:
            raise InputError(
                f"{path} is damaged in line {number + 2}, which should be step {number}.",
                "Run it again.",
            )
    return columns, rows
