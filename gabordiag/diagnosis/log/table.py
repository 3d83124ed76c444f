"""The text of a log as columns of numbers; empty cells are kept apart from a written NaN.

In comes a file: lines of cells under a line of names (separated by commas, semicolons, tabs or
blanks; with decimal commas where the comma does not separate), JSON lines, or one JSON value (a
list of rows, or columns by name). Out comes a `Table`. Lines are read one by one, so that only the
numbers take memory; no cell is ever run.
"""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt

from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray

NUMBER, BLANK, UNREADABLE = range(3)
# How writers spell that there is no value.
_NOTHING = frozenset(("", "none", "null", "na", "n/a", "-", "<na>"))
# A line of a log is some hundred characters; one without end would fill the memory.
_LONGEST_LINE = 1_000_000
# Blanks before a file's first sign, at most.
_LONGEST_BLANK = 1000
# One JSON value has to be held whole.
_LARGEST_JSON = 64 * 2**20
# Tried in this order where they occur equally often.
_SEPARATORS = (",", ";", "\t")
_JSON = ("{", "[")
FORM = "Its first line must name the columns: step,theta,loss[,grad,lr]."


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of n rows.

    Attributes:
        columns: Numbers by name (n,); NaN where a cell is NaN or holds no number.
        marks: By name, `NUMBER` (NaN too), `BLANK` or `UNREADABLE` (n,).
        unreadable: The first unreadable cell of a column, in words.
        skipped: Lines that were left out: no number in them, or not a cell under every name.
        trouble: The first such line, in words; empty if there is none.
        is_cut: The last line has no end: the writer was stopped in it.
        repeated: Names that stand over more than one column; the first of them keeps the name.
    """

    columns: dict[str, FloatArray]
    marks: dict[str, npt.NDArray[np.uint8]]
    unreadable: dict[str, str]
    skipped: int
    trouble: str = ""
    is_cut: bool = False
    repeated: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0


def read_table(path: Path) -> Table:
    """Returns the columns of a file.

    Raises:
        InputError: It is missing, a folder, not UTF-8 text, not a table, or has no row of numbers.
    """
    if not path.exists():
        raise InputError(f"No log at {path}.", "Give a CSV or JSON-lines file.")
    if path.is_dir():
        raise InputError(f"{path} is a folder.", "Give the log file in it.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _Lines(path, file)
            table = _gather(path, lines).table(lines.is_cut)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.", "Save the log as UTF-8 CSV.") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a log ({error}).") from None
    if not len(table):
        because = f": {table.trouble}" if table.trouble else ""
        raise InputError(f"{path} holds no rows of numbers{because}.", FORM)
    return table


def as_table(source: Mapping[str, Any]) -> Table:
    """Returns the columns of a mapping, read cell by cell as those of a file are.

    Args:
        source: Name -> cells (n,): arrays, tensors, or lists of numbers or of 0-dim tensors.

    Raises:
        InputError: No column, columns of different lengths, or of another shape.
    """
    columns = _Columns("row")
    cells = {str(name): _cells(name, column) for name, column in source.items()}
    if len({len(column) for column in cells.values()}) != 1:
        raise InputError("The columns have different lengths, or there are none.")
    for row, numbers in enumerate(zip(*cells.values(), strict=True), 1):
        columns.add(dict(zip(cells, numbers, strict=True)), row, keep=True)
    return columns.table(is_cut=False)


def _cells(name: str, column: Any) -> list[Any]:
    # Arrays and tensors have `tolist`; losses gathered in a list may still carry their graph.
    cells = column.tolist() if hasattr(column, "tolist") else column
    if not isinstance(cells, Iterable) or isinstance(cells, str):
        cells = [cells]
    try:
        numbers = [cell.item() if hasattr(cell, "item") else cell for cell in cells]
    except (ValueError, RuntimeError):
        numbers = [[]]
    if any(isinstance(number, Sequence) and not isinstance(number, str) for number in numbers):
        raise InputError(f"A column is one number a row; '{name}' has another shape.")
    return numbers


class _Lines:
    """The lines of a file, counted; refuses one without an end."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self.file = path, file
        self.number = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[str]:
        while line := self.file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                most = f"{_LONGEST_LINE:,} characters"
                raise InputError(f"{self.path} has a line of more than {most}.", FORM)
            self.number += 1
            self.is_cut = not line.endswith(("\n", "\r"))
            yield line


class _Columns:
    """Grows columns row by row.

    Args:
        unit: What a row is counted as, in words.
    """

    def __init__(self, unit: str = "line") -> None:
        self.unit = unit
        self.numbers: dict[str, array[float]] = {}
        self.marks: dict[str, bytearray] = {}
        self.unreadable: dict[str, str] = {}
        self.count = self.skipped = 0
        self.trouble = ""
        self.repeated: tuple[str, ...] = ()

    def skip(self, trouble: str, lines: int = 1) -> None:
        self.skipped += lines
        self.trouble = self.trouble or trouble

    def add_numbers(self, names: list[str], cells: list[str]) -> bool:
        """Adds a row of numbers under the columns there are; returns whether it was one.

        Nearly all rows of a long log are, and cell by cell they take five times as long.
        """
        if len(self.numbers) != len(names):
            return False
        try:
            numbers = list(map(float, cells))
        except ValueError:
            return False
        for name, number in zip(names, numbers, strict=True):
            self.numbers[name].append(number)
            self.marks[name].append(NUMBER)
        self.count += 1
        return True

    def add(
        self, row: dict[str, Any], line: int, decimal_comma: bool = False, keep: bool = False
    ) -> None:
        """Adds a row; one without any number is skipped, unless all are to be kept."""
        numbers = {name: _number(cell, decimal_comma) for name, cell in row.items()}
        if not keep and all(number is None for number in numbers.values()):
            self.skip(f"no cell of {self.unit} {line} is a number")
            return
        for name, number in numbers.items():
            if name not in self.numbers:
                self.numbers[name] = array("d", [math.nan]) * self.count
                self.marks[name] = bytearray([BLANK]) * self.count
            mark = NUMBER if number is not None else _mark(row[name])
            if mark == UNREADABLE:
                self.unreadable.setdefault(name, f"{str(row[name])[:20]!r} in {self.unit} {line}")
            self.numbers[name].append(math.nan if number is None else number)
            self.marks[name].append(mark)
        self.count += 1
        for name, column in self.numbers.items():
            if len(column) < self.count:
                column.append(math.nan)
                self.marks[name].append(BLANK)

    def table(self, is_cut: bool) -> Table:
        return Table(
            {name: np.frombuffer(column) for name, column in self.numbers.items()},
            {name: np.frombuffer(marks, dtype=np.uint8) for name, marks in self.marks.items()},
            self.unreadable,
            self.skipped,
            self.trouble,
            is_cut,
            self.repeated,
        )


def _mark(cell: Any) -> int:
    blank = cell is None or (isinstance(cell, str) and cell.strip().lower() in _NOTHING)
    return BLANK if blank else UNREADABLE


def _number(cell: Any, decimal_comma: bool) -> float | None:
    if isinstance(cell, bool) or cell is None:
        return None
    if decimal_comma and isinstance(cell, str):
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _gather(path: Path, lines: _Lines) -> _Columns:
    whole = _whole_json(path)
    if whole is not None:
        return _gather_rows(whole)
    stream = iter(lines)
    first = next((line for line in stream if line.strip()), None)
    if first is None:
        return _Columns()
    text = chain([first], stream)
    if first.lstrip().startswith(_JSON):
        return _gather_json_lines(lines, text)
    return _gather_cells(path, lines, text, _separator(first))


def _separator(header: str) -> str | None:
    """Returns what separates the names; None for blanks."""
    best = max(_SEPARATORS, key=header.count)
    if best not in header:
        # One name alone is a column; several, separated by blanks, are what numpy.savetxt writes.
        return None
    return best


def _gather_cells(
    path: Path, lines: _Lines, text: Iterable[str], separator: str | None
) -> _Columns:
    rows: Iterator[list[str]]
    if separator is None:
        rows = (line.split() for line in text)
    else:
        rows = csv.reader(text, delimiter=separator)
    # numpy.savetxt writes the names behind a number sign.
    header = next(rows)
    # A name that was quoted over several lines is still one line of a message.
    header = [" ".join(name.split()) for name in [header[0].lstrip("# "), *header[1:]]]
    header = header[1:] if separator is None and not header[0] else header
    if header and all(_number(name, separator != ",") is not None for name in header):
        raise InputError(
            f"{path} begins with numbers instead of the columns' names.",
            "Write a first line such as step,theta,loss above them.",
        )
    columns = _Columns()
    columns.repeated = tuple(name for name, count in Counter(header).items() if count > 1)
    header = _distinct(header)
    end = lines.number
    for row in rows:
        start, end = end + 1, lines.number
        if len(row) == len(header) and columns.add_numbers(header, row):
            continue
        cells, beyond = row[: len(header)], row[len(header) :]
        if not any(cell.strip() for cell in row):
            continue
        inside = [line for cell in row for line in cell.splitlines()[1:]] if end > start else []
        swallowed = sum(line.count(separator or ",") == len(header) - 1 for line in inside)
        if swallowed:
            columns.skip(f"the quote in line {start} holds {swallowed} more rows", swallowed + 1)
            continue
        if len(cells) < len(header) or any(cell.strip() for cell in beyond):
            text_ = f"line {lines.number} has {len(row)} cells under {len(header)} names"
            columns.skip(text_ + (" (decimal commas?)" if beyond and separator == "," else ""))
            continue
        columns.add(dict(zip(header, cells, strict=True)), lines.number, separator != ",")
    return columns


def _distinct(header: list[str]) -> list[str]:
    """Returns the names, a repeated one with the number of its repeat: loss, loss.1."""
    seen: Counter[str] = Counter()
    names = []
    for name in header:
        names.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _gather_json_lines(lines: _Lines, text: Iterable[str]) -> _Columns:
    columns = _Columns()
    for line in text:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            columns.add(row, lines.number)
        else:
            columns.skip(f"line {lines.number} is not a JSON object")
    return columns


def _whole_json(path: Path) -> Any | None:
    """Returns the rows of a file that is one JSON value: a list, or columns by name; else None."""
    if not path.is_file() or path.stat().st_size > _LARGEST_JSON:
        return None
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(_LONGEST_BLANK)
        if not start.lstrip().startswith(_JSON):
            return None
        try:
            content = json.loads(start + file.read())
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError):
            return None
    if isinstance(content, list):
        return content
    columns = {name: cells for name, cells in content.items() if isinstance(cells, list)}
    if not columns:
        return [content]
    return [dict(zip(columns, cells, strict=True)) for cells in zip_longest(*columns.values())]


def _gather_rows(rows: list[Any]) -> _Columns:
    columns = _Columns("row")
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            columns.add(row, number)
        else:
            columns.skip(f"row {number} is not a JSON object")
    return columns
