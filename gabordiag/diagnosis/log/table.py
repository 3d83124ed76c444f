"""A log, text or event files, as columns of numbers; empty cells are kept apart from a written NaN.

In comes a file: lines of cells under a line of names (separated by commas, semicolons, tabs or
blanks; with decimal commas where the comma does not separate), JSON lines, or one JSON value that
holds a list of rows, or columns by name, somewhere inside; any of these compressed by gzip, in
UTF-8 or UTF-16, or through standard input; or TensorBoard's event files. Rows may name a single
number each (key, value, step), as MLflow's do, or be W&B's records; one of MLflow's own metric
files is read, or a folder of them. Out comes a `Table`. Lines are read one by one, so that only the
numbers take memory.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import json
import math
import re
import sys
import zlib
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import numpy.typing as npt

from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray

NUMBER, BLANK, UNREADABLE = range(3)
# How writers spell that there is no value.
_NOTHING = frozenset(("", "none", "null", "na", "n/a", "-", "<na>"))
# A line of a log is some hundred characters; one without end would fill the memory. Blanks before a
# file's first sign, at most; lines read together as long as they hold nothing but numbers.
_LONGEST_LINE, _LONGEST_BLANK, _BLOCK = 1_000_000, 1000, 5000
# How a table that has one number a row calls what the number is.
_KEYS = ("key", "metric", "tag", "name")
# A line of MLflow's metric files: milliseconds, value, step, and what it was measured on.
_METRIC = re.compile(r"\d{13} (\S+) (-?\d+)(?: .*)?\s*$")
# Letters of a line that are read to recognise one.
_METRIC_START = 200
# How deep in one JSON value rows are looked for, and how long a value, held whole, may be.
_DEEPEST, _LARGEST_JSON = 3, 64 * 2**20
# A single number as an array or a tensor prints it.
_PRINTED = re.compile(r"(?:(?:tensor|array|np\.float\d+)\(|\[)\[*([^\[\](),]+)\]*(?:,.*)?\)?")
# Tried in this order where they occur equally often.
_SEPARATORS = (",", ";", "\t")
_JSON = ("{", "[")
# A record that is not of a step.
_NO_STEP = object()
_GZIP = b"\x1f\x8b"
FORM = "Its first line must name the columns: step,theta,loss[,grad,lr]."
# Binary files that are not read here, and how to make text of them.
_EXPORTS = {
    ".wandb": "wandb leet inspect '{path}' --json | gabordiag explain - (wandb 0.31 or later); of "
    "a run on the server wandb.Api().run('entity/project/run').history(10**6).to_csv('run.csv').",
    ".parquet": "In Python: pandas.read_parquet('{path}').to_csv('run.csv').",
}


class Table:
    """Columns of numbers that grow row by row, of n rows in the end; a row counts as a `unit`.

    Lines are skipped that have no number, or not a cell under every name; the first is the
    `trouble`, in words. The last line is cut where its writer was stopped in it. Of a name repeated
    over several columns the first keeps it.
    """

    def __init__(self, unit: str = "line") -> None:
        self._numbers: dict[str, array[float]] = {}
        self._marks: dict[str, bytearray] = {}
        self.unreadable: dict[str, str] = {}
        self.skipped, self._count, self.is_cut = 0, 0, False
        self.unit, self.trouble, self.repeated = unit, "", tuple[str, ...]()

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns so far."""
        return tuple(self._numbers)

    def keep(self, names: Mapping[str, str]) -> None:
        """Leaves only these columns, under new names; the table is whole, and not yet read."""
        self._numbers = {new: self._numbers[old] for old, new in names.items()}
        self._marks = {new: self._marks[old] for old, new in names.items()}
        known = self.unreadable
        self.unreadable = {new: known[old] for old, new in names.items() if old in known}

    @cached_property
    def columns(self) -> dict[str, FloatArray]:
        """Numbers by name (n,), NaN where a cell is NaN or holds no number; the table is whole."""
        return {name: np.frombuffer(column) for name, column in self._numbers.items()}

    @cached_property
    def marks(self) -> dict[str, npt.NDArray[np.uint8]]:
        """By name, `NUMBER` (NaN too), `BLANK` or `UNREADABLE` (n,); the table is whole."""
        return {name: np.frombuffer(m, dtype=np.uint8) for name, m in self._marks.items()}

    def skip(self, trouble: str, lines: int = 1) -> None:
        """Leaves out some lines."""
        self.skipped += lines
        self.trouble = self.trouble or trouble

    def add_numbers(self, names: list[str], cells: list[str]) -> bool:
        """Adds a row of numbers five times as fast as `add`; returns whether it was one."""
        if len(self._numbers) != len(names) or not any(cells):
            return False
        try:
            numbers = [float(cell) if cell else math.nan for cell in cells]
        except ValueError:
            return False
        for name, number, cell in zip(names, numbers, cells, strict=True):
            self._numbers[name].append(number)
            self._marks[name].append(NUMBER if cell else BLANK)
        self._count += 1
        return True

    def add_block(self, names: list[str], numbers: FloatArray) -> None:
        """Adds rows of numbers (n, columns) under the columns there are."""
        for name, column in zip(names, numbers.T, strict=True):
            self._numbers[name].frombytes(column.tobytes())
            self._marks[name] += bytes([NUMBER]) * len(column)
        self._count += len(numbers)

    def add(
        self, row: dict[str, Any], line: int, decimal_comma: bool = False, keep: bool = False
    ) -> None:
        """Adds a row; one without any number is skipped, unless all are to be kept."""
        numbers = {name: _number(cell, decimal_comma) for name, cell in row.items()}
        if not keep and all(number is None for number in numbers.values()):
            self.skip(f"no cell of {self.unit} {line} is a number")
            return
        for name in (name for name in numbers if name not in self._numbers):
            self._numbers[name] = array("d", [math.nan]) * self._count
            self._marks[name] = bytearray([BLANK]) * self._count
        for name, column in self._numbers.items():
            number = numbers.get(name)
            mark, cell = NUMBER, row.get(name)
            if number is None:
                text = "" if cell is None else cell
                is_blank = isinstance(text, str) and text.strip().lower() in _NOTHING
                mark = BLANK if is_blank else UNREADABLE
            if mark == UNREADABLE:
                self.unreadable.setdefault(name, f"{str(cell)[:20]!r} in {self.unit} {line}")
            column.append(math.nan if number is None else number)
            self._marks[name].append(mark)
        self._count += 1

    def add_rows(self, rows: Iterable[tuple[int, Any]]) -> Table:
        """Adds rows with their numbers, as JSON holds them."""
        for number, row in rows:
            if isinstance(row, dict):
                self.add(row, number)
            else:
                self.skip(f"{self.unit} {number} is not a JSON object")
        return self


def read_table(path: Path) -> Table:
    """Returns the columns of any log that is read here; it holds at least one row of numbers."""
    if "tfevents" in path.name or (path.is_dir() and any(path.rglob("*tfevents*"))):
        return _read_events(path)
    if str(path) != "-" and not path.exists():
        raise InputError(f"No log at {path}.", "Give a CSV, JSON or JSON-lines file.")
    if path.suffix in _EXPORTS:
        advice = _EXPORTS[path.suffix].format(path=path)
        raise InputError(f"{path} is a binary file, which has to be exported first.", advice)
    try:
        if path.is_dir():
            return _read_metrics(path)
        with _open(path) as file:
            lines = _Lines(path, file)
            table = _gather(path, lines)
            table.is_cut = lines.is_cut
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is neither UTF-8 nor UTF-16 text.", "Save the log as UTF-8 CSV."
        ) from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a log ({error}).") from None
    if not len(table):
        because = f": {table.trouble}" if table.trouble else ""
        raise InputError(f"{path} holds no rows of numbers{because}.", FORM)
    return table


@contextlib.contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    with contextlib.ExitStack() as stack:
        is_stream = str(path) == "-"
        raw = io.BytesIO(sys.stdin.buffer.read()) if is_stream else path.open("rb")
        file: Any = stack.enter_context(raw)
        if _begin(file) == _GZIP:
            file = stack.enter_context(gzip.open(file))
        marked = _begin(file) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        encoding = "utf-16" if marked else "utf-8-sig"
        yield stack.enter_context(io.TextIOWrapper(file, encoding, newline=""))


def _begin(file: BinaryIO) -> bytes:
    start = file.read(2)
    file.seek(0)
    return start


def _read_events(path: Path) -> Table:
    try:
        from tensorboard.backend.event_processing import event_accumulator as reader
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise InputError(
            f"{path} holds TensorBoard's event files, which TensorBoard itself has to read.",
            "pip install 'gabordiag[logs]'",
        ) from None
    # Beside a run's own scalars, those of `add_scalars` stand in folders below.
    is_run = path.is_file() or any(path.glob("*tfevents*"))
    folders = {path} if is_run else {file.parent for file in path.rglob("*tfevents*")}
    if len(folders) > 1:
        names = ", ".join(sorted(str(folder) for folder in folders)[:5])
        raise InputError(f"{path} holds {len(folders)} runs.", f"Give one of {names}.")
    events = reader.EventAccumulator(str(folders.pop()), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    found = [(tag, event, event.value) for tag in tags["scalars"] for event in events.Scalars(tag)]
    # TensorFlow, and so Keras, writes scalars as tensors.
    found += [
        (tag, event, float(make_ndarray(event.tensor_proto)))
        for tag in tags["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"
        for event in events.Tensors(tag)
    ]
    table = _gather_rows([{"key": t, "value": v, "step": event.step} for t, event, v in found])
    if not len(table):
        raise InputError(f"{path} holds no scalars.", "Log them with SummaryWriter.add_scalar.")
    return table


def _read_metrics(folder: Path) -> Table:
    """Returns the columns of a run of MLflow, or of its metric files, each called as its metric."""
    folder = folder / "metrics" if (folder / "metrics").is_dir() else folder
    rows: list[dict[str, Any]] = []
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    for path in files:
        with path.open(errors="replace") as file:
            if not _METRIC.match(file.readline(_METRIC_START)):
                files = []
                break
            file.seek(0)
            rows += _metric(path.relative_to(folder).as_posix(), _Lines(path, file))
    if not files:
        raise InputError(f"{folder} is a folder.", "Give the log file in it.")
    return _gather_rows(rows)


def _metric(name: str, lines: Iterable[str]) -> list[dict[str, Any]]:
    found = (_METRIC.match(line) for line in lines)
    return [{"key": name, "value": cells[1], "step": cells[2]} for cells in found if cells]


def as_table(source: Mapping[str, Any]) -> Table:
    """Returns the columns of a mapping: arrays, tensors, or lists of numbers or 0-dim tensors."""
    table = Table("row")
    cells = {str(name): _cells(name, column) for name, column in source.items()}
    if len({len(column) for column in cells.values()}) != 1:
        raise InputError("The columns have different lengths, or there are none.")
    for row, numbers in enumerate(zip(*cells.values(), strict=True), 1):
        table.add(dict(zip(cells, numbers, strict=True)), row, keep=True)
    return table


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
        self.path, self.file, self.number, self.is_cut = path, file, 0, False
        self._ahead: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        while line := self._ahead.popleft() if self._ahead else self.file.readline(_LONGEST_LINE):
            if len(line) == _LONGEST_LINE:
                most = f"{_LONGEST_LINE:,} characters"
                raise InputError(f"{self.path} has a line of more than {most}.", FORM)
            self.number += 1
            self.is_cut = not line.endswith(("\n", "\r"))
            yield line

    def take_numbers(self, count: int, separator: str | None) -> FloatArray | None:
        """Takes the next lines and returns their numbers (n, count); none, and None, otherwise."""
        texts = list(islice(self, _BLOCK))
        rows = [line for line in texts if not line.startswith("#")]
        with contextlib.suppress(ValueError):
            # Of no line NumPy would warn.
            if any(line.strip() for line in rows):
                numbers = np.loadtxt(rows, delimiter=separator, comments=None, ndmin=2)
                if numbers.shape == (len(rows), count):
                    return numbers
        self._ahead.extendleft(reversed(texts))
        self.number -= len(texts)
        return None


def _number(cell: Any, decimal_comma: bool) -> float | None:
    if decimal_comma and isinstance(cell, str):
        cell = cell.replace(",", ".")
    if isinstance(cell, str) and (printed := _PRINTED.fullmatch(cell.strip())):
        cell = printed[1]
    try:
        return None if isinstance(cell, bool) else float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _gather(path: Path, lines: _Lines) -> Table:
    repeated: Counter[str] = Counter()
    whole = _whole_json(lines.file, repeated)
    if whole is not None:
        table = _gather_rows(whole)
    else:
        stream = iter(lines)
        first = next((line for line in stream if line.strip()), "")
        if _METRIC.match(first):
            return _gather_rows(_metric(path.name, chain([first], stream)))
        if not first.lstrip().startswith(_JSON):
            return _gather_cells(path, lines, *_after_comments(first, stream))
        texts = (line for line in chain([first], stream) if line.strip())
        rows = ((lines.number, _json(text, repeated)) for text in texts)
        logged = ((number, _logged(row)) for number, row in rows)
        table = Table().add_rows((number, row) for number, row in logged if row is not _NO_STEP)
    table.repeated = tuple(repeated)
    return table


def _after_comments(first: str, stream: Iterator[str]) -> tuple[Iterator[str], str | None]:
    """Returns the lines from the names on without comments, and what separates the cells."""
    # numpy.savetxt writes names between blanks into a comment above the numbers.
    line, names = first, ""
    while line.lstrip().startswith("#"):
        line, names = next(stream, ""), line
    cells = line.replace(",", " ").replace(";", " ").split()
    header, start = line, [line]
    if names and (not cells or all(_number(cell, False) is not None for cell in cells)):
        header = names.lstrip("# ")
        start = [header, line]
    rest = (line for line in stream if not line.startswith("#"))
    separator = max(_SEPARATORS, key=header.count)
    return chain(start, rest), separator if separator in header else None


def _gather_cells(path: Path, lines: _Lines, text: Iterable[str], separator: str | None) -> Table:
    plain = (line.split() for line in text)
    rows: Iterator[list[str]] = csv.reader(text, delimiter=separator) if separator else plain
    # A name that was quoted over several lines is still one line of a message.
    header = [" ".join(name.split()) for name in next(rows)]
    if header and all(_number(name, separator != ",") is not None for name in header):
        raise InputError(
            f"{path} begins with numbers instead of the columns' names.",
            "Write a first line such as step,theta,loss above them.",
        )
    if _is_long(header):
        return _gather_rows([dict(zip(header, row, strict=False)) for row in rows])
    table = Table()
    table.repeated = tuple(name for name, count in Counter(header).items() if count > 1)
    header = _distinct(header)
    end = by_rows = lines.number
    for row in rows:
        start, end = end + 1, lines.number
        if len(row) == len(header) and table.add_numbers(header, row):
            if end >= by_rows:
                while (numbers := lines.take_numbers(len(header), separator)) is not None:
                    table.add_block(header, numbers)
                end = lines.number
                by_rows = end + _BLOCK
            continue
        cells, beyond = row[: len(header)], row[len(header) :]
        if not any(cell.strip() for cell in row):
            continue
        inside = [line for cell in row for line in cell.splitlines()[1:]] if end > start else []
        swallowed = sum(line.count(separator or ",") == len(header) - 1 for line in inside)
        if swallowed:
            table.skip(f"the quote in line {start} holds {swallowed} more rows", swallowed + 1)
            continue
        if len(cells) < len(header) or any(cell.strip() for cell in beyond):
            text_ = f"line {lines.number} has {len(row)} cells under {len(header)} names"
            table.skip(text_ + (" (decimal commas?)" if beyond and separator == "," else ""))
            continue
        table.add(dict(zip(header, cells, strict=True)), lines.number, separator != ",")
    return table


def _distinct(header: list[str]) -> list[str]:
    """Returns the names, a repeated one with the number of its repeat: loss, loss.1."""
    seen: Counter[str] = Counter()
    names = []
    for name in header:
        names.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return names


def _json(text: str, repeated: Counter[str]) -> Any:
    """Returns a JSON value, None for none; of a repeated key, which is counted, the first value."""

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                repeated[name] += 1
            found.setdefault(name, value)
        return found

    try:
        if len(text) < _LONGEST_LINE:
            # Much faster; with one colon a key, no key was repeated.
            row = json.loads(text)
            if isinstance(row, dict) and len(row) == text.count(":"):
                return row
        return json.loads(text, object_pairs_hook=first)
    except (ValueError, RecursionError):
        return None


def _logged(row: Any) -> Any:
    """Returns what a record of W&B's transaction log holds of a step; another row as it is.

    A record is called by its type: {"num": 7, "type": "history", "history": {"item": {...}}}.
    """
    if not isinstance(row, dict) or "num" not in row:
        return row
    kind = row.get("type")
    record = row.get(kind) if isinstance(kind, str) else None
    if not isinstance(record, dict):
        return row
    return record.get("item", _NO_STEP) if kind == "history" else _NO_STEP


def _whole_json(file: TextIO, repeated: Counter[str]) -> list[Any] | None:
    """Returns the rows of a file that is one JSON value, else None, back at its beginning."""
    start = file.read(_LONGEST_BLANK)
    content = None
    if start.lstrip().startswith(_JSON):
        text = start + file.read(_LARGEST_JSON)
        content = _json(text, repeated) if len(text) < _LARGEST_JSON else None
    file.seek(0)
    if content is None:
        repeated.clear()
        return None
    return _rows_in(content) or [content]


def _rows_in(content: Any, depth: int = 0) -> list[Any]:
    """Returns the first list of rows, or columns by name, in a JSON value; empty for none."""
    if isinstance(content, list):
        return content if depth == 0 or any(isinstance(row, dict) for row in content) else []
    if not isinstance(content, dict) or depth > _DEEPEST:
        return []
    # DataFrame.to_json with orient="table" or "split".
    match content:
        case {"schema": dict(), "data": list(rows)}:
            return rows
        case {"columns": list(names), "data": [list(), *_] as rows}:
            names = [str(name) for name in names]
            return [dict(zip(names, row, strict=False)) for row in rows if isinstance(row, list)]
    for inner in content.values():
        if found := _rows_in(inner, depth + 1):
            return found
    inner = list(content.values())
    if inner and all(
        isinstance(cells, dict) and cells.keys() == inner[0].keys() for cells in inner
    ):
        # DataFrame.to_json: of every column its cells by the row's label, or the other way round.
        if all(map(str.isdigit, content)):
            content = {name: {n: row[name] for n, row in enumerate(inner)} for name in inner[0]}
        content = {name: list(cells.values()) for name, cells in content.items()}
    columns = {name: cells for name, cells in content.items() if isinstance(cells, list)}
    return [dict(zip(columns, cells, strict=True)) for cells in zip_longest(*columns.values())]


def _is_long(names: Iterable[str]) -> bool:
    lower = {name.lower() for name in names}
    return {"step", "value"} <= lower and any(key in lower for key in _KEYS)


def _gather_rows(rows: list[Any]) -> Table:
    if rows and all(isinstance(row, dict) and _is_long(row) for row in rows):
        rows = _by_step(rows)
    return Table("row").add_rows(enumerate(rows, 1))


def _by_step(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lower = {name.lower(): name for name in rows[0]}
    key, value, step = next(lower[n] for n in _KEYS if n in lower), lower["value"], lower["step"]
    steps: dict[Any, dict[str, Any]] = {}
    for row in rows:
        at = steps.setdefault(row.get(step), {"step": row.get(step)})
        at[str(row.get(key))] = row.get(value)
    return sorted(steps.values(), key=lambda row: _number(row["step"], False) or 0.0)
