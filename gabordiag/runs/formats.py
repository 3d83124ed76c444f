"""What is written into run folders, and read back from them: JSON, TOML, tables.

Numbers are written in as many digits as bring them back to the bit. JSON has no infinity and no
NaN: they become null, which every reader takes.
"""

from __future__ import annotations

import csv
import io
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.errors import InputError

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
    """Returns the settings of a config.toml: names and plain values, no tables or dates.

    Raises:
        InputError: It is missing or no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"No configuration at {path}.", "Give a run's config.toml.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no readable TOML file ({error}).") from None


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


def read_columns(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Returns the numeric columns of a CSV that gabordiag wrote.

    Raises:
        ValueError: It holds no header, or a cell that is no number.
        OSError: It cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows:
        raise ValueError("empty table")
    table = np.array([[float(cell) for cell in row] for row in rows[1:]], dtype=np.float64)
    table = table.reshape(len(rows) - 1, len(rows[0]))
    return {name: table[:, index].copy() for index, name in enumerate(rows[0])}
