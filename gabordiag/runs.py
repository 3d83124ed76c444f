"""Run folders: created, streamed to, listed, loaded; every file whole or absent.

A folder holds `config.toml` (all settings), `status.json` (running, finished, interrupted, failed),
the data files, `result.json`, and the figures. Logs are written line by line as they happen;
everything else is written to a temporary file, synced, and renamed.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from gabordiag._version import __version__
from gabordiag.errors import InputError, OutputError
from gabordiag.results import Data, View

SCHEMA = 1
DEFAULT_ROOT = Path("runs")
RESULT, CONFIG, STATUS = "result.json", "config.toml", "status.json"
_COMMENT = "# All settings of a gabordiag run; pass this file back with --config to repeat it.\n"


def clean(value: Any) -> Any:
    """Returns the value as JSON takes it: NumPy unpacked, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return clean(value.tolist())
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value: Any, *, plain: bool = False) -> str:
    """Returns one JSON text with finite numbers only; `plain` escapes what is not ASCII."""
    return json.dumps(clean(value), allow_nan=False, indent=2, ensure_ascii=plain)


def to_toml(settings: Mapping[str, Any]) -> str:
    """Returns flat settings as TOML; None is left out, which means the default.

    Raises:
        TypeError: A value that is no string, number, bool, or list of such.
    """
    lines = [f"{key} = {_toml_value(v)}\n" for key, v in settings.items() if v is not None]
    return _COMMENT + "".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are a subset of TOML's basic strings', but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")


def read_config(path: Path) -> dict[str, Any]:
    """Returns the settings of a config.toml.

    Raises:
        InputError: It is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"No configuration at {path}.", "Give a run's config.toml.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path} is no readable TOML file ({error}).") from None


class TrajectoryFile:
    """One run's CSV, written line by line; what was logged survives a kill."""

    def __init__(self, path: Path, parameters: Sequence[str]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="\n", buffering=1)
        self._file.write(",".join(["step", *parameters, "loss", "grad", "update", "lr"]) + "\n")

    def __call__(self, step: Sequence[float]) -> None:
        """Writes one row: the step's number, then floats at full precision."""
        number, *rest = step
        self._file.write(",".join([str(int(number)), *(repr(float(v)) for v in rest)]) + "\n")

    def close(self) -> None:
        """Syncs and closes."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


class RunFolder:
    """A run's folder while the run goes on.

    Args:
        path: An existing, empty folder.
        command: The command that runs.
        settings: Its flat settings.
    """

    def __init__(self, path: Path, command: str, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.command = command
        self.settings = dict(settings)
        self._started = datetime.now(UTC)
        self._logs: list[TrajectoryFile] = []
        self.write(CONFIG, to_toml({"command": command, **settings}))
        self.set_status("running")

    @classmethod
    def create(cls, out: Path | None, command: str, settings: Mapping[str, Any]) -> RunFolder:
        """Makes a new folder: `out`, or one under `runs/` named by time and command.

        Raises:
            OutputError: It cannot be made, or `out` holds something already.
        """
        try:
            path = _new_default(command) if out is None else _new_named(out)
            return cls(path, command, settings)
        except OSError as error:
            place = out if out is not None else DEFAULT_ROOT
            reason = error.strerror or str(error)
            raise OutputError(
                f"Cannot write to {place}: {reason}.", "Give another folder with --out."
            ) from None

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file so that it is whole or absent.

        Raises:
            OutputError: The disk is full, or the folder is gone.
        """
        write_atomically(self.path / name, content)

    def log(self, name: str, parameters: Sequence[str]) -> TrajectoryFile:
        """Opens a trajectory's CSV in the folder; closed with the run."""
        log = TrajectoryFile(self.path / name, parameters)
        self._logs.append(log)
        return log

    def save_data(self, data: Data) -> None:
        """Writes arrays: `.csv` with full precision, `.npz` compressed; existing logs are kept."""
        for name, columns in data.items():
            if (self.path / name).exists():
                continue
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
        }
        self.write(STATUS, to_json(content) + "\n")

    def close_logs(self) -> None:
        """Closes all trajectory files."""
        for log in self._logs:
            log.close()
        self._logs = []

    def finish(self, document: Mapping[str, Any]) -> None:
        """Writes result.json and marks the run finished."""
        self.close_logs()
        self.write(RESULT, to_json(document) + "\n")
        self.set_status("finished")

    def discard_if_empty(self) -> None:
        """Removes the folder again if nothing was logged in it yet."""
        self.close_logs()
        ours = {CONFIG, STATUS}
        names = {entry.name for entry in self.path.iterdir()}
        if names <= ours:
            for name in names:
                (self.path / name).unlink()
            self.path.rmdir()

    def files(self) -> list[str]:
        """Returns the names of all files in the folder."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_file())


def document(
    command: str,
    settings: Mapping[str, Any],
    seconds: float,
    files: Iterable[str],
    result: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the top level of the JSON."""
    cleaned: dict[str, Any] = clean(
        {
            "schema": SCHEMA,
            "command": command,
            "version": __version__,
            "config": {key: value for key, value in settings.items() if value is not None},
            "environment": environment(),
            "seconds": round(seconds, 3),
            "files": sorted(files),
            "result": result,
        }
    )
    return cleaned


def environment() -> dict[str, Any]:
    """Returns what a repetition may depend on."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "threads": torch.get_num_threads(),
    }


def write_atomically(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is whole or absent, whatever happens meanwhile.

    Raises:
        OutputError: It cannot be written.
    """
    payload = content.encode("utf-8") if isinstance(content, str) else content
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise OutputError(f"Cannot write {path}: {reason}.", "Give another place.") from None


def encode_table(name: str, columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Returns the bytes of a `.csv` or `.npz` file."""
    buffer = io.BytesIO()
    if name.endswith(".npz"):
        np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
        return buffer.getvalue()
    text = io.StringIO()
    text.write(",".join(columns) + "\n")
    for row in zip(*(column.tolist() for column in columns.values()), strict=True):
        cells = [repr(v) if isinstance(v, float) else str(v) for v in row]
        if next(iter(columns)) == "step":
            cells[0] = str(int(row[0]))
        text.write(",".join(cells) + "\n")
    return text.getvalue().encode("utf-8")


def _new_default(command: str) -> Path:
    DEFAULT_ROOT.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for attempt in range(1000):
        # mkdir is atomic: of two processes in the same second, one gets the next number.
        path = DEFAULT_ROOT / (f"{stamp}-{command}" + (f"-{attempt + 1}" if attempt else ""))
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise OutputError(f"{DEFAULT_ROOT} holds a thousand runs of this second.", "Use --out.")


def _new_named(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file.", "Give a folder with --out.")
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(
            f"{out} is not empty, and nothing in it shall be lost.", "Give a new folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    if not os.access(out, os.W_OK):
        raise OutputError(f"{out} may not be written to.", "Give another folder with --out.")
    return out


@dataclass(frozen=True)
class SavedRun:
    """A run folder read back.

    Attributes:
        path: The folder.
        document: Its result.json.
        view: The result and the saved arrays.
    """

    path: Path
    document: dict[str, Any]
    view: View


def load_run(path: Path) -> SavedRun:
    """Reads a run folder.

    Raises:
        InputError: It is no run folder, is damaged, or comes from a newer gabordiag.
    """
    if not path.is_dir():
        raise InputError(f"No run folder at {path}.", "`gabordiag runs` lists them.")
    target = path / RESULT
    if not target.exists():
        status = _read_status(path).get("status", "unknown")
        raise InputError(
            f"{path} holds no {RESULT} (status: {status}).", "The run did not finish; run it again."
        )
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{target} is damaged ({error}).", "Run it again.") from None
    _require_known_schema(target, content)
    return SavedRun(path, content, View(content["result"], _load_data(path, content["files"])))


def _require_known_schema(target: Path, content: Any) -> None:
    needed = {"schema", "command", "config", "files", "result"}
    if not isinstance(content, dict) or not needed <= set(content):
        raise InputError(f"{target} is not a gabordiag result.")
    if content["schema"] != SCHEMA:
        raise InputError(
            f"{target} has schema {content['schema']}, but this gabordiag reads {SCHEMA}.",
            "Update gabordiag.",
        )


def _load_data(path: Path, names: Iterable[str]) -> Data:
    data = {}
    for name in names:
        file = path / name
        if Path(name).name != name or not file.exists():
            continue
        try:
            if name.endswith(".npz"):
                with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                    data[name] = {key: archive[key] for key in archive.files}
            elif name.endswith(".csv"):
                data[name] = read_columns(file)
        except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
            raise InputError(f"{file} is damaged ({error}).", "Run it again.") from None
    return data


def read_columns(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the numeric columns of a CSV that gabordiag wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows:
        raise ValueError("empty table")
    table = np.array([[float(cell) for cell in row] for row in rows[1:]], dtype=np.float64)
    table = table.reshape(len(rows) - 1, len(rows[0]))
    return {name: table[:, index].copy() for index, name in enumerate(rows[0])}


def _read_status(path: Path) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads((path / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return status


def list_runs(root: Path = DEFAULT_ROOT) -> list[dict[str, Any]]:
    """Returns when, command, status and verdict of every run folder below `root`, newest last."""
    if not root.is_dir():
        return []
    listed = []
    for path in sorted(root.iterdir()):
        status = _read_status(path) if path.is_dir() else {}
        if status:
            listed.append({"run": str(path), **status, "verdict": _verdict(path)})
    return sorted(listed, key=lambda entry: str(entry.get("started", "")))


def _verdict(path: Path) -> str | None:
    """A word for the list: diagnose's verdict, or the outcomes of the runs."""
    try:
        result = json.loads((path / RESULT).read_text(encoding="utf-8"))["result"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(result, dict):
        return None
    if "verdict" in result:
        return str(result["verdict"])
    if "runs" in result:
        return ", ".join(dict.fromkeys(str(run["outcome"]) for run in result["runs"]))
    if "cases" in result:
        verdicts = [case.get("diagnosis", {}).get("verdict") for case in result["cases"].values()]
        return ", ".join(str(v) for v in verdicts if v) or None
    return None
