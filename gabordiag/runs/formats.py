"""What is written into run folders, and read back from them: JSON, TOML, tables.

Numbers are written in as many digits as bring them back to the bit. JSON has no infinity and no
NaN: they become null, which every reader takes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.errors import InputError

Row = tuple[float, ...]
_COMMENT = "# All settings of a gabordiag run; pass this file back with --config to repeat it.\n"
_CONTROL = re.compile("[\x7f-\x9f]")
_NUMBERS = {int, float, bool, type(None)}
# A byte of a file name that is not UTF-8, as `clean` writes it.
_RAW_BYTE = re.compile(r"\\u(dc[89a-f][0-9a-f])")


def clean(value: Any) -> Any:
    """Returns the value as JSON takes it: NumPy unpacked, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return clean(value.tolist())
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        # The bytes of a file name that is not UTF-8 come as surrogates, which no encoding takes.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_json(value: Any, *, plain: bool = False) -> str:
    """Returns one JSON text with finite numbers only; `plain` escapes what is not ASCII.

    What holds nothing but plain values stands on one line.
    """
    encode = json.JSONEncoder(allow_nan=False, ensure_ascii=plain).encode
    # JSON allows these unescaped, but a terminal obeys them.
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", _indented(value, encode, "\n"))


def _indented(value: Any, encode: Callable[[Any], str], line: str) -> str:
    if not isinstance(value, (list, tuple, Mapping)):
        return encode(clean(value))
    inner = value.values() if isinstance(value, Mapping) else value
    kinds = set(map(type, inner))
    with contextlib.suppress(TypeError, ValueError):
        # Numbers need nothing else, nor do names that are ASCII.
        if kinds <= _NUMBERS and (not isinstance(value, dict) or "".join(value).isascii()):
            return encode(value)
    if not any(issubclass(kind, (Mapping, list, tuple)) for kind in kinds):
        return encode(clean(value))
    deeper = line + "  "
    parts = [_indented(item, encode, deeper) for item in inner]
    if isinstance(value, Mapping):
        keys = (encode(clean(str(key))) for key in value)
        parts = [f"{key}: {part}" for key, part in zip(keys, parts, strict=True)]
    begin, end = "{}" if isinstance(value, Mapping) else "[]"
    return f"{begin}{deeper}{f',{deeper}'.join(parts)}{line}{end}"


def to_toml(settings: Mapping[str, Any]) -> str:
    """Returns flat settings as TOML; None is left out, which means the default."""
    lines = [f"{key} = {_toml_value(v)}\n" for key, v in settings.items() if v is not None]
    return _COMMENT + "".join(lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are a subset of TOML's basic strings'.
        return to_json(value)
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    raise TypeError(f"no TOML for {type(value).__name__}")


def read_config(path: Path) -> dict[str, Any]:
    """Returns the settings of a config.toml: names and plain values, no tables or dates."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"No configuration at {path}.", "Give a run's config.toml.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not a readable TOML file ({error}).") from None
    return {name: _with_raw_bytes(value) for name, value in settings.items()}


def _with_raw_bytes(value: Any) -> Any:
    """Returns a setting with the bytes that `clean` wrote as text."""
    if isinstance(value, list):
        return [_with_raw_bytes(item) for item in value]
    if not isinstance(value, str):
        return value
    return _RAW_BYTE.sub(lambda found: chr(int(found[1], 16)), value)


def encode_table(name: str, columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Returns the bytes of a `.csv` or `.npz` file."""
    buffer = io.BytesIO()
    if name.endswith(".npz"):
        np.savez_compressed(buffer, **columns)  # type: ignore[arg-type]
        return buffer.getvalue()
    first, *_ = columns
    cells = [column.tolist() for column in columns.values()]
    if first == "step":
        cells[0] = list(map(int, cells[0]))
    return to_csv([columns, *zip(*cells, strict=True)]).encode("utf-8")


def to_csv(rows: Iterable[Iterable[Any]]) -> str:
    """Returns lines of CSV: floats at full precision, names quoted where they need it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def parse_csv(content: bytes) -> tuple[list[str], list[Row]]:
    """Returns a CSV's columns and rows, which are empty where numbers are missing."""
    lines = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    columns = next(lines, None)
    if columns is None:
        raise ValueError("empty table")
    rows: list[Row] = []
    for line in lines:
        try:
            rows.append(tuple(map(float, line)) if len(line) == len(columns) else ())
        except ValueError:
            rows.append(())
    return columns, rows


def as_columns(columns: Sequence[str], rows: Sequence[Row]) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the columns of rows by name."""
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))
    return {name: table[:, index].copy() for index, name in enumerate(columns)}


def read_columns(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the numeric columns of a CSV that gabordiag wrote; a ValueError for another's."""
    columns, rows = parse_csv(path.read_bytes())
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"line {number + 2} does not hold {len(columns)} numbers")
    return as_columns(columns, rows)
