"""Reading a log from elsewhere: columns found, values made numbers, nothing trusted.

A log is CSV with a header, or JSON lines: step, a value column, loss; gradient and rate if there.
It is read line by line, so that its length does not matter beyond the numbers themselves.
"""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from gabordiag.dynamics.descent import Run, Trajectory, judge
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.critical import Landscape
from gabordiag.objective.objective import FloatArray, Objective
from gabordiag.results import read_only

# Column names by which logs call these things; compared in lower case.
_STEP = ("step", "iteration", "iter", "epoch", "t", "batch")
_LOSS = ("loss", "train_loss", "training_loss", "train/loss", "objective", "cost")
_GRAD = ("grad", "gradient", "grad_theta", "dloss", "grad_analytic")
_LR = ("lr", "learning_rate", "learning-rate", "rate")
_OTHER = ("update", "time", "seconds", "wall_time", "timestamp", "momentum")
_MAX_BAD_LINES = 0.5
_LONGEST_LINE = 1_000_000
_FORM = "Its first line must name the columns: step,theta,loss[,grad,lr]."


@dataclass(frozen=True, eq=False)
class Log:
    """The columns of a log; all of length n.

    Attributes:
        value_name: Of the parameter's column.
        values: Of the parameter.
        losses: Of the loss.
        gradients: Of the gradient, or None.
        lrs: Of the learning rate, or None.
        skipped: Lines that held no numbers.
    """

    value_name: str
    values: FloatArray
    losses: FloatArray
    gradients: FloatArray | None
    lrs: FloatArray | None
    skipped: int


def read_log(
    source: str | Path | Mapping[str, npt.ArrayLike],
    value_column: str | None = None,
    loss_column: str | None = None,
) -> Log:
    """Returns the columns of a log.

    Args:
        source: A CSV or JSON-lines file, or columns by name.
        value_column: Name of the parameter's column; the first that is nothing else without.
        loss_column: Name of the loss's column; found by name without.

    Raises:
        InputError: It is missing, empty, no table, or has no usable columns.
        UsageError: A column that was asked for is not there.
    """
    if isinstance(source, Mapping):
        columns = {str(name): _column(column) for name, column in source.items()}
        if len({len(column) for column in columns.values()}) != 1:
            raise InputError("The columns have different lengths, or there are none.")
        return _pick(columns, 0, "the log", value_column, loss_column)
    path = Path(source)
    if not path.exists():
        raise InputError(f"No log at {path}.", "Give a CSV or JSON-lines file.")
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Give the log file in it.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            columns, skipped = _read_columns(_bounded_lines(path, file))
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", "Save the log as UTF-8 CSV.") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a log ({error}).") from None
    if not columns or not len(next(iter(columns.values()))):
        raise InputError(
            f"{path} holds no rows of numbers.",
            _FORM,
        )
    return _pick(columns, skipped, str(path), value_column, loss_column)


def _column(column: Any) -> FloatArray:
    """Returns one column of numbers (n,), NaN for what is none, as in a file."""
    # Arrays and tensors have `tolist`; losses collected in a list may still carry their graph.
    cells = column.tolist() if hasattr(column, "tolist") else column
    numbers = [_number(cell) for cell in (cells if isinstance(cells, Iterable) else [cells])]
    return np.array([math.nan if number is None else number for number in numbers])


def _bounded_lines(path: Path, file: TextIO) -> Iterator[str]:
    """Yields the lines; refuses a file without line ends, which would fill the memory."""
    while line := file.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise InputError(f"{path} has a line of more than {_LONGEST_LINE:,} characters.", _FORM)
        yield line


def _read_columns(lines: Iterable[str]) -> tuple[dict[str, FloatArray], int]:
    stream = (line for line in lines if line.strip())
    first = next(stream, None)
    if first is None:
        return {}, 0
    rest = chain([first], stream)
    if first.lstrip().startswith("{"):
        return _collect(_json_rows(rest))
    return _collect(_csv_rows(rest))


def _csv_rows(lines: Iterable[str]) -> Iterator[dict[str, Any] | None]:
    reader = csv.reader(lines)
    header = [name.strip() for name in next(reader)]
    for row in reader:
        yield dict(zip(header, row, strict=False)) if len(row) == len(header) else None


def _json_rows(lines: Iterable[str]) -> Iterator[dict[str, Any] | None]:
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        yield row if isinstance(row, dict) else None


def _collect(rows: Iterable[dict[str, Any] | None]) -> tuple[dict[str, FloatArray], int]:
    """Gathers numeric columns; a row in which no column is a number is skipped."""
    columns: dict[str, array[float]] = {}
    count = skipped = 0
    for row in rows:
        numbers = {} if row is None else {str(k): _number(v) for k, v in row.items()}
        if not any(value is not None for value in numbers.values()):
            skipped += 1
            continue
        for name, value in numbers.items():
            if name not in columns:
                columns[name] = array("d", [math.nan]) * count
            columns[name].append(math.nan if value is None else value)
        count += 1
        for column in columns.values():
            if len(column) < count:
                column.append(math.nan)
    return {name: np.array(column) for name, column in columns.items()}, skipped


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool) or cell is None:
        return None
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _pick(
    columns: Mapping[str, FloatArray],
    skipped: int,
    where: str,
    value_column: str | None,
    loss_column: str | None,
) -> Log:
    usable = {name: c for name, c in columns.items() if not np.isnan(c).all() or name in _GRAD}
    loss = _find(columns, loss_column, _LOSS) or next(
        (name for name in usable if "loss" in name.lower()), None
    )
    if loss is None:
        raise InputError(
            f"{where} has no loss column among {', '.join(columns) or 'none'}.",
            "Name it with --loss-column.",
        )
    known = {*_STEP, *_LOSS, *_GRAD, *_LR, *_OTHER}
    free = [n for n in usable if n != loss and not _is_known(n, known)]
    value = _find(columns, value_column, ()) or next(iter(free), None)
    if value is None:
        raise InputError(
            f"{where} has no column of the parameter's values.", "Name it with --value-column."
        )
    gradient = _find(columns, None, (f"grad_{value.lower()}", *_GRAD))
    rate = _find(columns, None, _LR)
    total = len(columns[loss]) + skipped
    if skipped > _MAX_BAD_LINES * total:
        raise InputError(f"{skipped} of {total} lines of {where} hold no numbers.")
    return Log(
        value_name=value,
        values=read_only(columns[value]),
        losses=read_only(columns[loss]),
        gradients=None if gradient is None else read_only(columns[gradient]),
        lrs=None if rate is None else read_only(columns[rate]),
        skipped=skipped,
    )


def _is_known(name: str, known: set[str]) -> bool:
    lower = name.lower()
    return lower in known or lower.startswith("grad") or "loss" in lower


def _find(
    columns: Mapping[str, FloatArray], wanted: str | None, names: tuple[str, ...]
) -> str | None:
    if wanted is not None:
        if wanted not in columns:
            raise UsageError(f"the log has no column '{wanted}'.", f"It has {', '.join(columns)}.")
        return wanted
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in names if name in lower), None)


def run_from_log(
    objective: Objective, settings: OptimizerSettings, landscape: Landscape, log: Log
) -> Run:
    """Returns a logged run as if it had just been made on the objective.

    What was not logged is filled in: gradients from the objective, rates from the settings.

    Args:
        objective: What the run minimised.
        settings: Of its optimizer.
        landscape: Of the objective.
        log: The run.

    Raises:
        InputError: The log has fewer than two rows, from the first that has a value.
    """
    # A run starts somewhere.
    first = int(np.argmax(np.isfinite(log.values))) if np.isfinite(log.values).any() else 0
    values, losses = log.values[first:], log.losses[first:]
    if len(values) < 2 or not math.isfinite(values[0]):
        raise InputError("The log holds no step.", "Log at least two rows with values.")
    if log.gradients is None:
        gradients = objective.gradient(np.where(np.isfinite(values), values, values[0]))
    else:
        gradients = log.gradients[first:]
    lrs = np.full(len(values), settings.lr) if log.lrs is None else log.lrs[first:]
    lrs = np.where(np.isfinite(lrs), lrs, settings.lr)
    updates = np.append(np.diff(values), math.nan)
    trajectory = Trajectory(
        values, losses, read_only(gradients), read_only(updates), read_only(lrs)
    )
    made_with = replace(settings, lr=float(lrs[0]), steps=len(values) - 1)
    return judge(objective, made_with, landscape, trajectory)
