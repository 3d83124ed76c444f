"""A logged run from elsewhere: which columns are step, value, loss, gradient and rate.

In comes a file (read by `table.py`) or columns by name; out comes a `Log`, whose rows all hold
a value and a loss, but for those at which the run broke. Nothing in a log is trusted or run.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from gabordiag.diagnosis.log.table import BLANK, NUMBER, Table, as_table, read_table
from gabordiag.dynamics.outcomes import (
    BoolArray,
    IntArray,
)
from gabordiag.errors import InputError, UsageError
from gabordiag.objective.space import FloatArray
from gabordiag.results import read_only
from gabordiag.wording import counted

# Column names by which logs call these; compared in lower case.
_STEP = (
    "step", "global_step", "_step", "trainer/global_step", "iteration", "iter", "epoch", "t",
    "batch",
)  # fmt: skip
_LOSS = ("loss", "train_loss", "training_loss", "train/loss", "objective", "cost")
_GRAD = ("grad", "gradient", "grad_theta", "dloss", "grad_analytic")
_LR = ("lr", "learning_rate", "learning-rate", "rate")
_OTHER = (
    "update", "time", "seconds", "wall_time", "wall time", "timestamp", "_timestamp", "_runtime",
    "relative time (process)", "relative time (wall)", "momentum", "weight_decay",
    "accuracy", "acc",
)  # fmt: skip
# So a loss may be called where no column has 'loss' in its name.
_LOSS_ALIKE = re.compile(
    r"(train(ing)?[_/. -])?(nll|mse|rmse|error|objective|cost|energy|criterion)(_step|_epoch)?"
)
# Of a loss's name: it is not that of training, or not its value.
_HELD_OUT = {"val", "valid", "validation", "test", "eval", "dev"}
_ANOTHER = {*_HELD_OUT, "min", "max"}
# Of a name: it is a setting, or is measured beside the loss.
_NO_PARAMETER = {
    *_HELD_OUT, "acc", "lr", "auc", "batch", "f1", "flos", "iou", "mae", "mape", "mse",
    "perplexity", "ppl", "psnr", "r2", "recall", "rmse", "runtime", "samples", "second", "seconds",
    "seed", "ssim", "tokens",
}  # fmt: skip
# Of a name: it is that of the parameter, whatever else there is.
_PARAMETER = {"theta", "value", "param", "parameter"}
# A chart that W&B exports has these extremes of every column.
_EXTREMES = ("__MIN", "__MAX")
_NUMBER = re.compile(r"\d+")
# More lines than this share without numbers: it is another kind of file.
_MAX_BAD_LINES = 0.5
# Rates that rise by more than this, row after row, are those of a range test.
_RANGE_TEST = 10


@runtime_checkable
class Frame(Protocol):
    """A DataFrame, of any library."""

    @property
    def columns(self) -> Any:
        """Their names."""

    def __getitem__(self, name: Any, /) -> Any:
        """Returns a column."""


Source = str | Path | Mapping[str, npt.ArrayLike] | Frame
# Columns that are asked for: of the value, and of the loss.
Asked = tuple[str | None, str | None]


@dataclass(frozen=True, eq=False)
class Log:
    """The columns of a log, all of length n.

    Without a parameter's column its name is empty, and the values are the losses. Steps are as the
    log numbers them where it numbers them upwards, else 0, 1, ... `skipped` counts lines and rows
    that were left out; `others` are names of parameters that were learned together with this one;
    `held_out` is the loss on held-out data, which may be this one itself, where there is one.
    """

    value_name: str
    values: FloatArray
    losses: FloatArray
    gradients: FloatArray | None
    lrs: FloatArray | None
    steps: FloatArray
    skipped: int
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    held_out: Log | None = None


def read_log(
    source: Source, value_column: str | None = None, loss_column: str | None = None
) -> Log:
    """Returns the columns of a log; the value's is by default the first that is nothing else."""
    table, where = _table(source)
    return _pick(table, where, _one_run(table, where, (value_column, loss_column)))


def read_logs(source: Source, names: Sequence[str]) -> tuple[Log, ...]:
    """Returns a log of parameters learned together, one `Log` for each, all of the same rows."""
    table, where = _table(source)
    _one_run(table, where, (None, None))
    # `gabor.theta` may be called `theta`.
    columns = [n if n in table.columns else n.rpartition(".")[2] for n in names]
    # The only one may have any name.
    picked = [n if n in table.columns or len(names) > 1 else None for n in columns]
    return tuple(_pick(table, where, (column, None), columns) for column in picked)


def _table(source: Source) -> tuple[Table, str]:
    if isinstance(source, Frame):
        names = list(source.columns)
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two columns are named {name}.", "Give each its own name.")
        source = {name: source[name] for name in names}
    if isinstance(source, Mapping):
        return as_table(source), "the log"
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(
            f"a log is not of the type {type(source).__name__}.",
            "Give a file, a mapping of columns by name, or a DataFrame.",
        )
    return read_table(Path(source)), str(source)


def _one_run(table: Table, where: str, asked: Asked) -> Asked:
    """Leaves one run's columns of a chart that W&B exported, and returns what they are called.

    A chart calls the run's column `loss` `run - loss`, and has its extremes within each point
    beside it, `run - loss__MIN` and `run - loss__MAX`.
    """
    names = table.names
    kept = [n for n in names if not (n.endswith(_EXTREMES) and n[:-5] in names)]
    if len(kept) == len(names):
        return asked
    parts = {name: name.rpartition(" - ") for name in kept}
    # A column that is asked for says which run is meant.
    runs = {parts[n][0] for n in asked if n in parts} - {""}
    runs = runs or {run for run, _, _ in parts.values() if run}
    if len(runs) > 1:
        charted = [name for name in kept if parts[name][0] in runs]
        example = next((name for name in charted if "loss" in name.lower()), charted[0])
        raise InputError(
            f"{where} is a chart of {len(runs)} runs: {_listed(sorted(runs))}.",
            f"Name the column of one: --loss-column '{example}'.",
        )
    table.keep({name: parts[name][2] for name in kept if parts[name][0] in {"", *runs}})
    value, loss = (parts[n][2] if n in parts else n for n in asked)
    return value, loss


def _pick(table: Table, where: str, named_columns: Asked, wanted: Sequence[str] = ()) -> Log:
    # `wanted` are the names of parameters that must be there.
    columns, (value_column, loss_column) = table.columns, named_columns
    bad, total = table.skipped, len(table) + table.skipped
    if bad > _MAX_BAD_LINES * total:
        raise InputError(f"{bad} of {total} rows of {where} hold no numbers: {table.trouble}.")
    usable = [name for name, marks in table.marks.items() if (marks == NUMBER).any()]
    usable.sort(key=lambda name: bool(np.isnan(columns[name]).all()))
    own = _own_parameters(list(columns))
    loss_column = loss_column or ("loss" if own else None)
    asked = _find(columns, loss_column, ()) or (None if value_column else _curve(columns))
    known = {*_STEP, *_LOSS, *_GRAD, *_LR, *_OTHER}
    losses = [asked] if asked else _losses(usable)
    free = [n for n in usable if n not in losses and not _is_known(n, known, columns)]
    free = [n for n in usable if n in own] or free
    free = _beside_losses(table, free, losses or usable)
    rate, step = _find(columns, None, _LR), _find(columns, None, _STEP)
    rate = rate or next((name for name in usable if _words(name) & {"lr", *_LR}), None)
    # What counts 0, 1, 2 is the step, whatever its name.
    counters = [n for n in free if n.lower() != "theta" and n not in own and _counts(columns[n])]
    free = [name for name in free if name not in counters]
    step = step or next(iter(counters), None)
    # A column that never changes is a setting, where another one does change.
    named = [n for n in free if _words(_NUMBER.sub("", n)) & _PARAMETER or f"grad_{n}" in columns]
    named += [name for name in own if name not in named]
    free.sort(key=lambda n: (n.lower() != "theta", _is_constant(columns[n]), n not in named))
    settings, also = _settings(columns, free, free if wanted else named)
    free = [name for name in free if name not in settings]
    value = _find(columns, value_column, ()) or next(iter(free), None)
    loss = asked or _loss_of(table, [*usable, *(n for n in columns if n not in usable)], value)
    if loss is None:
        raise InputError(
            f"{where} has no loss column among {_listed(columns) or 'none'}.",
            "Name it with --loss-column.",
        )
    if value_column is None and not named:
        _refuse_several(where, [n for n in free if not _is_constant(columns[n])], loss, wanted)
    unreadable = "".join(f" ({n}: {cell})" for n, cell in table.unreadable.items() if n != loss)
    if value is None or (value == loss and not wanted):
        found = _pick(table, where, (loss, loss), [loss])
        _refuse_range_test(where, found)
        if wanted:
            among = f"{_listed(columns)}{unreadable}"
            raise InputError(
                f"{where} has no column of the parameter's values among {among}.",
                f"Call it {wanted[0]}.",
            )
        read = [] if loss_column else _read_as(None, loss)
        unread = [f"no number could be read{unreadable}"] if unreadable else []
        said = (*read, *found.notes, *unread, *also)
        beside = _loss_of(table, [name for name in usable if _words(name) & _HELD_OUT], None)
        held = found if beside in (None, loss) else _pick(table, where, (beside, beside), [beside])
        return replace(
            found, value_name="", gradients=None, others=(), notes=said,
            held_out=held if beside else None,
        )  # fmt: skip
    # Of several parameters the gradient without a name is the first one's.
    nameless = () if value in wanted[1:] else _GRAD
    gradient = _find(columns, None, (f"grad_{value.lower()}", *nameless))
    rate = _find(columns, None, (f"lr_{value.lower()}",)) or rate
    # Each has a gradient of its own, or the same name with another number.
    same = [n for n in free if n != value and np.array_equal(columns[n], columns[value])]
    numbered = _NUMBER.sub("", value)
    alike = [n for n in free if f"grad_{n}" in columns or _NUMBER.sub("", n) == numbered != value]
    others = tuple(n for n in alike if n != value and not _is_constant(columns[n]))
    names = dict.fromkeys([*(wanted if value in wanted else [value]), loss])
    # Of several parameters all logs keep the same rows.
    keep, left_out = _rows(table, *names, slope=None if wanted else gradient)
    rows = np.flatnonzero(keep)
    count = len(rows)
    if count == 0:
        both = f"{'both ' * (len(names) > 1)}{' and '.join(names)}"
        cells = "".join(f" ({name}: {cell})" for name, cell in table.unreadable.items())
        raise InputError(f"No row of {where} holds {both}{cells}.")
    numbers = np.full(len(table), math.nan) if step is None else columns[step]
    rows, about = _in_order(where, rows, numbers, columns[value], columns[loss])
    steps = numbers[rows]
    ascend = np.isfinite(steps).all() and (np.diff(steps) > 0).all()
    notes = [] if value_column else _read_as(value, loss, [n for n in free if n != value])
    if same:
        notes.append(
            f"{value} and {', '.join(same)} are equal in every row, as of a start on an axis of "
            "symmetry, which leads into a saddle: start them apart"
        )
    slopes = {n: columns[f"grad_{n}"] for n in alike if f"grad_{n}" in columns and n != value}
    notes += [
        f"{name} never moves although its gradient arrives: the optimizer does not hold it"
        for name, slope in slopes.items()
        if _is_constant(columns[name]) and np.nan_to_num(slope).any()
    ]
    notes += [f"two columns or more are named {n}; the first is used" for n in table.repeated]
    if table.skipped:
        lines = counted(table.skipped, "line was", "lines were")
        notes.append(f"{lines} left out: {table.trouble}")
    log = Log(
        value_name=value,
        values=read_only(columns[value][rows]),
        losses=read_only(columns[loss][rows]),
        gradients=None if gradient is None else read_only(columns[gradient][rows]),
        lrs=None if rate is None else read_only(_filled(columns[rate])[rows]),
        steps=read_only(np.floor(steps) if ascend else np.arange(count, dtype=np.float64)),
        skipped=table.skipped + len(table) - count,
        notes=(*notes, *left_out, *about),
        others=others,
    )
    if not wanted and value_column is None:
        _refuse_range_test(where, log)
    return log


def _settings(
    columns: Mapping[str, FloatArray], free: list[str], named: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Returns the free columns if none changes or is said to be a parameter, and a note of it."""
    found = [n for n in free if n not in named and _is_constant(columns[n])]
    if not free or found != free or _find(columns, None, _GRAD):
        return [], []
    text = f"{_listed(found)} never changes and is read as a setting; if it is the parameter, "
    return found, [f"{text}name it: --value-column '{found[0]}'"]


def _own_parameters(names: list[str]) -> list[str]:
    """Returns the parameters in a header of gabordiag's own logs; of any other, none."""
    if names[:1] != ["step"] or not {"loss", "grad", "update", "lr"} <= set(names):
        return []
    place = names.index("loss")
    return names[1:place] if names[place + 1 : place + 2] == ["grad"] else []


def _beside_losses(table: Table, names: list[str], losses: list[str]) -> list[str]:
    # What an evaluation or the end of a training adds to a log stands in rows of its own.
    losses = [name for name in losses if not _words(name) & _ANOTHER] or losses
    given = {name: marks == NUMBER for name, marks in table.marks.items()}
    measured = np.any([given[name] for name in losses], axis=0)
    least = min(2, len(table))
    beside = [n for n in names if (given[n] & measured).any() and given[n].sum() >= least]
    return beside or [name for name in names if name.lower() == "theta"]


def _refuse_several(where: str, moving: Sequence[str], loss: str, wanted: Sequence[str]) -> None:
    if len({_NUMBER.sub("", name) for name in moving}) > 1:
        cure = (
            "Name it with --value-column; to judge the loss alone, name the loss for both: "
            f"--value-column '{loss}' --loss-column '{loss}'."
        )
        raise InputError(
            f"{where} has several columns that may be the parameter, {_listed(moving)}: none is "
            "called theta, value or param, or has a gradient grad_NAME.",
            f"Call it {wanted[0]}." if wanted else cure,
        )


def _read_as(value: str | None, loss: str, others: Sequence[str] = ()) -> list[str]:
    """Returns a note of the columns that were chosen; none where their names are plain."""
    chosen = []
    if others or (value is not None and value.lower() != "theta"):
        instead = f", not {', '.join(others)}" if others else ""
        chosen.append(f"the parameter is {value}{instead}")
    if loss.lower() != "loss":
        chosen.append(f"the loss is {loss}")
    return ["; ".join(chosen)] if chosen else []


def _curve(columns: Mapping[str, FloatArray]) -> str | None:
    # TensorBoard's CSV has the columns Wall time, Step and Value.
    names = {name.lower() for name in columns} - {*_STEP, *_OTHER}
    return _find(columns, None, ("value",)) if names == {"value"} else None


def _losses(names: Sequence[str]) -> list[str]:
    named = [name for name in names if name.lower() in _LOSS or "loss" in name.lower()]
    return named or [name for name in names if _LOSS_ALIKE.fullmatch(name.lower())]


def _words(name: str) -> set[str]:
    """The words of a column's name: of `train/loss_step`, train, loss and step."""
    return set(re.split(r"[^a-z0-9]+", name.lower()))


def _loss_of(table: Table, usable: list[str], value: str | None) -> str | None:
    losses = _losses([name for name in usable if name != value])
    marks = {name: table.marks[name] == NUMBER for name in losses}
    if value is not None:
        marks = {name: given & (table.marks[value] == NUMBER) for name, given in marks.items()}
    most = max((int(given.sum()) for given in marks.values()), default=0)

    def rank(name: str) -> tuple[bool, ...]:
        words, lower = _words(name), name.lower()
        return (
            bool(words & _ANOTHER),
            2 * int(marks[name].sum()) < most,
            lower not in _LOSS and lower.removesuffix("_step") not in _LOSS,
            "epoch" in words,
        )

    return min(losses, key=rank, default=None)


def _filled(column: FloatArray) -> FloatArray:
    """Returns a column whose gaps hold what was logged last, or, before that, first."""
    known = np.flatnonzero(~np.isnan(column))
    if len(known) == 0:
        return column
    place = np.searchsorted(known, np.arange(len(column)), side="right") - 1
    return np.asarray(column[known[np.maximum(place, 0)]])


def _refuse_range_test(where: str, log: Log) -> None:
    losses, lrs = log.losses, log.lrs
    if lrs is None or not np.isfinite(lrs).all() or not lrs[-1] > _RANGE_TEST * lrs[0] > 0:
        return
    # They rise by a factor, and not evenly, as to warm up.
    if lrs[len(lrs) // 2] ** 2 >= 2 * lrs[0] * lrs[-1]:
        return
    rises = np.diff(lrs)
    # A monitor may write the first rate twice.
    if rises[0] < 0 or not (rises[1:] > 0).all():
        return
    sound = np.isfinite(losses)
    best = int(np.argmin(np.where(sound, losses, np.inf)))
    breaks = "" if sound.all() else f", and it is not finite from lr {lrs[np.argmin(sound)]:.3g} on"
    then = "Train at a smaller rate and log that run." if best else "It never falls below."
    raise InputError(
        f"{where} is a learning-rate range test (lr rises from {lrs[0]:.3g} to {lrs[-1]:.3g}), "
        "not a run of a parameter.",
        f"Its loss is lowest, {losses[best]:.4g}, at lr {lrs[best]:.3g}{breaks}. {then}",
    )


def _rows(table: Table, *names: str, slope: str | None = None) -> tuple[BoolArray, list[str]]:
    """Returns which rows (n,) are steps of the run, and what to report of the others.

    An empty cell is not a measurement, as where a validation row stands between training rows. But
    some writers, pandas among them, leave a NaN empty: cells that are empty from some row to the
    end, for longer than ever before, are where the run broke, unless the last line was cut off.
    What is not finite and followed by numbers did not end the run: it cannot be descended from.
    Nor did such a slope, where the value, the first of the names, stays: that step was skipped.
    """
    columns, marks = table.columns, table.marks
    for name in names:
        _find(columns, name, ())
    absent = np.any([marks[name] != NUMBER for name in names], axis=0)
    filled = np.flatnonzero(~absent)
    if len(filled) == 0:
        return ~absent, []
    last, notes = int(filled[-1]), []
    lacking = np.any([np.isnan(columns[name]) for name in names], axis=0)
    another = _of_another_kind(table, lacking)
    keep, rows = ~absent & ~another, np.arange(len(table))
    blank = np.any([marks[name] == BLANK for name in names], axis=0)
    ours = (rows > last) & blank & ~another
    if table.is_cut and ours[-1:].any():
        ours[-1] = False
    if ours.sum() > _longest_run(absent[:last]):
        keep |= ours
        first = next(name for name in names if marks[name][ours][0] == BLANK)
        notes.append(f"{first} is empty from some row to the end, which is read as NaN")
    broken = keep & ~np.all([np.isfinite(columns[name]) for name in names], axis=0)
    if slope is not None:
        kept = np.flatnonzero(keep)
        values = columns[names[0]][kept]
        stays = np.append(values[1:] == values[:-1], False)
        given = marks[slope][kept] == NUMBER
        broken[kept] |= stays & given & ~np.isfinite(columns[slope][kept])
    passing = broken & (rows < rows[keep & ~broken].max(initial=-1))
    keep &= ~passing
    left = int(((absent | another) & ~keep).sum())
    if left:
        cells = [f"{n}: {table.unreadable[n]}" for n in names if n in table.unreadable]
        because = f" ({'; '.join(cells)})" if cells else ""
        without = f"{counted(left, 'row', 'rows')} without {' or '.join(names)}"
        notes.append(f"{without} left out{because}")
    if passing.any():
        count = counted(int(passing.sum()), "time", "times")
        notes.append(f"NaN or infinite {count} on the way, after which the run went on")
    return keep, notes


def _of_another_kind(table: Table, lacking: BoolArray) -> BoolArray:
    """Which rows (n,) hold something that no row of a step holds, such as a validation loss.

    In a DataFrame an empty cell is a NaN, too.
    """
    given = [~np.isnan(column) for column in table.columns.values()]
    others = [held for held in given if not lacking.all() and not held[~lacking].any()]
    return np.asarray(np.any([np.zeros_like(lacking), *others], axis=0))


def _longest_run(marks: BoolArray) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marks.astype(np.int8), [0]])))
    return int(np.diff(edges)[::2].max(initial=0))


def _in_order(where: str, rows: IntArray, *columns: FloatArray) -> tuple[IntArray, list[str]]:
    """Returns the rows (n,) in the order of their steps, and what is to be said of it."""
    steps, values, losses = (column[rows] for column in columns)
    if not np.isfinite(steps).all() or (np.diff(steps) >= 0).all():
        return rows, []
    if len(np.unique(steps)) == len(steps):
        return rows[np.argsort(steps)], ["the rows are read in the order of their steps"]
    # Steps begin anew with an epoch; with the very value and loss of the first row, with a run.
    begins = np.flatnonzero(steps == steps[0])
    same = (values[begins] == values[0]) & (losses[begins] == losses[0])
    if len(begins) > 1 and same.all() and not _is_constant(losses):
        raise InputError(
            f"{where} holds {len(begins)} runs, one after the other: each begins at step "
            f"{steps[0]:g} with the loss {losses[0]:.4g}.",
            "Give the rows of one.",
        )
    back = counted(int((np.diff(steps) < 0).sum()), "time", "times")
    return rows, [f"the steps go back {back}; the rows are read as those of one run"]


def _listed(names: Iterable[str], most: int = 20) -> str:
    shown = [" ".join(name.split())[:40] for name in names]
    more = [f"and {len(shown) - most} more"] if len(shown) > most else []
    return ", ".join(shown[:most] + more)


def _is_constant(column: FloatArray) -> bool:
    known = column[~np.isnan(column)]
    return bool((known == known[:1]).all())


def _counts(column: FloatArray) -> bool:
    """Whether a column numbers its rows: whole numbers, each as much larger than the last."""
    known = column[~np.isnan(column)]
    if len(known) < 3 or not np.isfinite(known).all():
        return False
    rises = np.diff(known)
    return bool(rises[0] >= 1 and (rises == rises[0]).all() and (known % 1 == 0).all())


def _is_known(name: str, known: set[str], columns: Iterable[str]) -> bool:
    lower = name.lower()
    measured = lower.startswith("grad") or "loss" in lower or bool(_words(name) & _NO_PARAMETER)
    # A parameter is not measured on held-out data again.
    return lower in known or measured or "accuracy" in lower or f"val_{name}" in columns


def _find(
    columns: Mapping[str, FloatArray], wanted: str | None, names: tuple[str, ...]
) -> str | None:
    if wanted is not None:
        if wanted not in columns:
            raise UsageError(f"the log has no column '{wanted}'.", f"It has {_listed(columns)}.")
        return wanted
    lower = {name.lower(): name for name in columns}
    return next((lower[name] for name in names if name in lower), None)
