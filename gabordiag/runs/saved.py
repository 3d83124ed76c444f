"""Run folders read back: finished ones, what there is of others, and the list of all.

A folder may come from anywhere: nothing in it is run or unpickled, no name in it is followed out of
it, and what is damaged is reported in one sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from gabordiag.errors import InputError
from gabordiag.results import Data, View
from gabordiag.runs.files import is_held, parse_rows, whole_lines
from gabordiag.runs.formats import as_columns, read_columns, read_config

# Of result.json; a reader refuses another.
SCHEMA = 1
DEFAULT_ROOT = Path("runs")
RESULT, CONFIG, STATUS = "result.json", "config.toml", "status.json"
_LISTS = "`gabordiag runs` lists them."


@dataclass(frozen=True)
class SavedRun:
    """A run folder read back: its result.json, and the view of result and saved arrays."""

    path: Path
    document: dict[str, Any]
    view: View


def has_result(path: Path) -> bool:
    """Whether a run folder holds a result."""
    return (path / RESULT).exists()


def load_run(path: Path) -> SavedRun:
    """Reads a run folder; refuses a damaged one and that of a newer gabordiag."""
    _require_folder(path)
    target = path / RESULT
    if not target.exists():
        status = read_status(path).get("status", "unknown")
        raise InputError(
            f"{path} holds no {RESULT} (status: {status}).", "The run did not finish; run it again."
        )
    try:
        content = json.loads(target.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{target} is damaged ({error}).", "Run it again.") from None
    _require_known_schema(target, content)
    return SavedRun(path, content, View(content["result"], _load_data(path, content["files"])))


@dataclass(frozen=True)
class UnfinishedRun:
    """What there is of a run without a result; its status is `running`, `interrupted` or `failed`.

    The logs are file name -> column -> values, of whole lines, and only of files that hold any.
    """

    path: Path
    command: str
    status: str
    settings: Mapping[str, Any]
    logs: Data


def load_unfinished(path: Path) -> UnfinishedRun:
    """Reads what is there of a run that was interrupted, has failed, or still goes on."""
    status = _known_status(path)
    settings = read_config(path / CONFIG)
    command = str(settings.pop("command", status.get("command")))
    files = sorted(path.glob("*trajectory-*.csv"))
    found = {file.name: as_columns(*parse_rows(file, whole_lines(file))) for file in files}
    logs = {name: log for name, log in found.items() if len(log.get("step", ()))}
    return UnfinishedRun(path, command, str(status["status"]), settings, logs)


def require_interrupted(path: Path) -> dict[str, Any]:
    """Returns the status of a run that can be resumed."""
    status = _known_status(path)
    if status["status"] == "finished":
        raise InputError(f"{path} has finished.", "`gabordiag report` shows what it found.")
    if is_held(path / CONFIG):
        raise still_running(path)
    return status


def still_running(path: Path) -> InputError:
    """Returns the error that says so."""
    return InputError(f"{path} is still being written by another process.", "Wait, or end it.")


def find_run(path: Path) -> Path:
    """Returns the folder of a run; of a name alone, as `runs` lists it, that in `runs/`."""
    inside = DEFAULT_ROOT / path
    return inside if len(path.parts) == 1 and not path.exists() and inside.is_dir() else path


def _require_folder(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"No run folder at {path}.", _LISTS)


def _known_status(path: Path) -> dict[str, Any]:
    _require_folder(path)
    status = read_status(path)
    if not status:
        raise InputError(f"{path} is no run folder: it holds no {CONFIG}.", _LISTS)
    return status


def _require_known_schema(target: Path, content: Any) -> None:
    needed = {"schema", "command", "config", "files", "result"}
    if not isinstance(content, dict) or not needed <= set(content):
        raise InputError(f"{target} is not a gabordiag result.")
    names, settings = content["files"], content["config"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{target} is damaged: its files have no names.", "Run it again.")
    if not isinstance(content["command"], str):
        raise InputError(f"{target} is damaged: its command has no name.", "Run it again.")
    if not isinstance(settings, dict):
        raise InputError(f"{target} is damaged: it holds no settings.", "Run it again.")
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


def read_status(path: Path) -> dict[str, Any]:
    """Returns what is known of a run: command, status, started; empty for another folder.

    The status is what holds now: `finished` where there is a result, `interrupted` where the file
    says `running` but no process is there any more.
    """
    status = _read_object(path / STATUS)
    if not isinstance(status.get("status"), str):
        # Killed between its first two files.
        try:
            command = read_config(path / CONFIG).get("command")
        except InputError:
            return {}
        status = {"command": command, "status": "running"}
    if (path / RESULT).exists():
        status["status"] = "finished"
    elif status["status"] in ("running", "finished") and is_held(path / CONFIG) is False:
        status["status"] = "interrupted"
    return status


def _read_object(path: Path) -> dict[str, Any]:
    """Returns a JSON object; an empty one if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def list_runs(root: Path = DEFAULT_ROOT) -> list[dict[str, Any]]:
    """Returns when, command, status and verdict of every run folder below `root`, newest last."""
    if not root.is_dir():
        return []
    listed = []
    for path in sorted(root.iterdir()):
        status = read_status(path) if path.is_dir() else {}
        if status:
            listed.append({"run": str(path), **status, "verdict": _verdict(path)})
    return sorted(listed, key=lambda entry: str(entry.get("started", "")))


def _verdict(path: Path) -> str | None:
    """A word for the list: diagnose's verdict, or the outcomes of the runs."""
    result = _read_object(path / RESULT).get("result")
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
