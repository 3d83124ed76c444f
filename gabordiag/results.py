"""What all results share: they turn into JSON, and show themselves.

Results are frozen dataclasses with read-only NumPy arrays, so that they can be handed on.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gabordiag.errors import InputError, UsageError

Data = Mapping[str, Mapping[str, npt.NDArray[Any]]]
# Reports how far long work is: called with (done, in all).
Progress = Callable[[int, int], None]
# The same of work in parts: called with (done, in all, what is done).
Report = Callable[[int, int, str], None]
# Columns of a log beside the parameters'.
LOG_COLUMNS = ("step", "loss", "grad", "update", "lr")
# What draws results; matplotlib is imported when the first shows itself.
_REGISTRY = "gabordiag.presentation.registry"


@dataclass(frozen=True)
class View:
    """What a person is shown: a result's JSON, and its arrays by file and column."""

    result: Mapping[str, Any]
    data: Data = field(default_factory=dict)

    def with_data(self, more: Data) -> View:
        """Returns the same view with more arrays."""
        return View(self.result, {**self.data, **more})


class Result:
    """Base of everything that a public function returns.

    Attributes:
        main_table: The list of the JSON that `to_dataframe` gives; empty for the arrays.
        main_columns: Its columns where it is empty.
        grid: Of arrays over a grid, the name of each dimension and of the column that holds its
            values, if any. Arrays of fewer dimensions run along the first.
    """

    main_table: ClassVar[str] = ""
    main_columns: ClassVar[tuple[str, ...]] = ()
    grid: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init_subclass__(cls) -> None:
        # A dataclass keeps the __repr__ that its class has; its own would print every array.
        cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Returns the JSON's first level: texts, numbers, lengths of lists."""
        shown = ", ".join(f"{name}={text}" for name, text in self.facts().items())
        return textwrap.fill(f"{type(self).__name__}({shown})", 88, subsequent_indent="    ")

    def facts(self) -> dict[str, str]:
        """Returns the JSON's first level: texts, numbers, lengths of lists."""
        shown = {name: _shortly(value) for name, value in self.to_dict().items()}
        return {name: text for name, text in shown.items() if text}

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        raise NotImplementedError

    def data(self) -> Data:
        """Returns the arrays that are saved beside the JSON: file name -> column -> array."""
        return {}

    def view(self) -> View:
        """Returns all that a figure is drawn from."""
        return View(self.to_dict(), self.data())

    def plot(self, ax: Any = None) -> Any:
        """Draws the result, in the colours of the Axes' style, and returns the matplotlib Axes.

        As with pyplot's functions, a notebook shows the figure, and `pyplot.show()` a script's.

        Args:
            ax: Axes to draw into. Default: pyplot's current ones while they are empty, otherwise
                those of a new figure.
        """
        return import_module(_REGISTRY).plot(self, ax)

    def _repr_html_(self) -> str:
        html: str = import_module(_REGISTRY).notebook_html(self)
        return html

    def to_dataframe(self, table: str = "") -> Any:
        """Returns a table of the result as a pandas DataFrame.

        Args:
            table: A list of `to_dict()`, such as `critical_points`, `findings` or `runs`. Default:
                of a sweep, the curve; of runs, every step; of a map or surface, a row for each
                cell; of a diagnosis, the remedies; of a training's, the elements.

        Raises:
            UsageError: No such list.
            InputError: pandas is not installed.

        Example:
            >>> import gabordiag as gd
            >>> sweep = gd.sweep(lambda v: (v**2 - 1) ** 2, range=(-2, 2), points=5)
            >>> sweep.to_dataframe().loss.tolist()
            [9.0, 0.0, 1.0, 0.0, 9.0]
            >>> sweep.to_dataframe("critical_points").kind.tolist()
            ['minimum', 'maximum', 'minimum']
        """
        pandas = imported("pandas")
        if table or self.main_table:
            lists = {name: v for name, v in self.to_dict().items() if isinstance(v, list)}
            if (name := table or self.main_table) not in lists:
                raise UsageError(
                    f"there is no table '{name}' in a {type(self).__name__}.",
                    f"Use one of {', '.join(lists) or 'none'}, or leave it out.",
                )
            rows = pandas.json_normalize(lists[name], max_level=1)
            is_empty = rows.empty and name == self.main_table
            return pandas.DataFrame(columns=list(self.main_columns)) if is_empty else rows
        tables = {}
        for label, grid, columns in self._tables():
            laid = _laid(columns, grid)
            sizes = {
                dim: n for dims, v in laid.values() for dim, n in zip(dims, v.shape, strict=True)
            }
            shape = [sizes[dim] for dim in grid]
            flat = {}
            for name in sorted(laid, key=lambda name: name not in grid):
                dims, array = laid[name]
                array = array.reshape([sizes[dim] if dim in dims else 1 for dim in grid])
                flat[name] = np.broadcast_to(array, shape).ravel()
            for name in _codes(columns):
                names = columns["outcome_names"].tolist()
                flat[name] = pandas.Categorical.from_codes(flat[name], names)
            tables[label] = pandas.DataFrame(flat)
        if not tables:
            return pandas.json_normalize(self.to_dict())
        if None in tables:
            return tables[None]
        return pandas.concat(tables, names=["run"]).reset_index("run").reset_index(drop=True)

    def to_xarray(self) -> Any:
        """Returns the result's arrays as an xarray Dataset.

        A curve's dimension is the parameter, a log's the step; several runs add `run`, and steps
        that a shorter run has not are NaN. Of a map the outcomes are codes, with their meanings as
        attributes.

        Raises:
            UsageError: The result has no arrays.
            InputError: xarray is not installed.

        Example:
            >>> import gabordiag as gd
            >>> sweep = gd.sweep(lambda v: (v**2 - 1) ** 2, range=(-2, 2), points=5)
            >>> float(sweep.to_xarray().loss.sel(v=-1.0))
            0.0
        """
        xarray = imported("xarray")
        sets = {}
        for label, grid, columns in self._tables():
            sets[label] = xarray.Dataset(_laid(columns, grid))
            for name in _codes(columns):
                names = columns["outcome_names"].tolist()
                # As the CF conventions describe codes.
                codes = {"flag_values": list(range(len(names))), "flag_meanings": " ".join(names)}
                sets[label][name].attrs.update(codes)
        if not sets:
            raise UsageError(f"a {type(self).__name__} has no arrays.", "Use to_dict().")
        if None in sets:
            return sets[None]
        runs = xarray.DataArray(list(sets), dims="run", name="run")
        return xarray.concat(list(sets.values()), runs, join="outer")

    def _tables(self) -> list[tuple[Any, Mapping[str, str], Mapping[str, npt.NDArray[Any]]]]:
        """Returns label, grid and columns of every run's log, or of the first array file (None)."""
        data = {name: columns for name, columns in self.data().items() if name != "images.npz"}
        found = {name: None if self.main_table else _TRAJECTORY.fullmatch(name) for name in data}
        logs = {f"{m[1]}{m[2]}" if m[1] else int(m[2]): data[n] for n, m in found.items() if m}
        none: list[Any] = [None]
        tables = logs or dict(zip(none, data.values(), strict=False))
        grid = dict(self.grid)
        return [(n, grid or {(x := next(iter(of))): x}, of) for n, of in tables.items()]


# Of a run's log, after the name of its case, where there are several.
_TRAJECTORY = re.compile(r"(.*)trajectory-(\d+)\.csv")


def _shortly(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str | int):
        return repr(value)
    return f"<{len(value)} items>" if isinstance(value, list) else ""


def imported(*modules: str) -> Any:
    """Returns the first module that is installed of a library that not everyone needs."""
    for module in modules:
        with suppress(ImportError):
            return import_module(module)
    package = modules[0].partition(".")[0]
    raise InputError(f"this needs {package}; install it with: pip install {package}")


def _codes(columns: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Returns the columns that hold codes of outcomes."""
    return [name for name in columns if "outcome_names" in columns and name.endswith("outcome")]


def _laid(
    columns: Mapping[str, npt.NDArray[Any]], grid: Mapping[str, str]
) -> dict[str, tuple[tuple[str, ...], npt.NDArray[Any]]]:
    """Returns dimensions and values of every column, a dimension's own under its name."""
    columns = {name: array for name, array in columns.items() if name != "outcome_names"}
    dims = {of: dim for dim, of in grid.items()}
    laid = {
        dims.get(name, name): ((dims[name],) if name in dims else tuple(grid)[: array.ndim], array)
        for name, array in columns.items()
    }
    if "step" in laid and np.array_equal(laid["step"][1], laid["step"][1].round()):
        laid["step"] = (laid["step"][0], laid["step"][1].astype(np.int64))
    return laid


def as_column(name: str) -> str:
    """Returns what a parameter is called in logs, whose other columns have names of their own."""
    return f"{name}_value" if name in LOG_COLUMNS else name


def read_only(array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Returns the array, no longer writable."""
    result = np.asarray(array)
    result.setflags(write=False)
    return result


def finite_or_none(value: float | None) -> float | None:
    """Returns the value as JSON takes it: None where it is undefined or infinite."""
    return None if value is None or not math.isfinite(value) else float(value)


@dataclass(frozen=True)
class Finding:
    """What the test of one cause found, explained in words, without a full stop.

    `sufficient` is whether its removal alone turned the run into `reached`; None where no run can
    be made, as from a log. The advice, with the value to change, is empty unless it is sufficient
    or stands alone; the role (`primary`, `contributing`, `ruled_out`) is given by the verdict.
    """

    cause: str
    present: bool
    sufficient: bool | None
    evidence: dict[str, Any]
    explanation: str
    advice: str = ""
    role: str = "ruled_out"

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        tried = {} if self.sufficient is None else {"removal_reaches_target": self.sufficient}
        return {
            "cause": self.cause,
            "role": self.role,
            "evidence": {**self.evidence, **tried},
            "explanation": self.explanation,
        }
