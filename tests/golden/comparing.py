"""What of a call's output is kept, and how two of these are compared.

Kept are the names and numbers of `result.json` and samples of the data files. Two numbers agree
when they differ by less than `RELATIVE` of the larger one, or of the largest number of the same
kind in the call: a slope of 1e-17 at a minimum is zero beside slopes of 10. `SENSITIVE` lists the
fields that rounding reaches more strongly, with the reason.

Of a chaotic run the first steps alone are compared. A difference grows by exp(lambda) a step,
lambda the Lyapunov exponent, so the tolerance grows with it until it is `COARSEST`; what depends on
the later path is left out by `_path_dependent`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

RELATIVE = 1e-12
COARSEST = 1e-6
# Of float32 runs: its rounding unit is 1.2e-7.
SINGLE = 1e-4

# Sentences: their wording is tested elsewhere, or not at all.
SENTENCES = {"headline", "explanation", "change", "reason", "formula", "note", "notes", "title",
             "jump_story"}  # fmt: skip
# What depends on the folder, and how much work a proof took.
INCIDENTAL = {"file", "subject", "cells"}

# Differences that rounding makes between two computations of one number: their size is bounded,
# their digits are noise.
ROUNDING_LEVEL = {
    "analytic_vs_autograd": "two derivatives of one function",
    "analytic_vs_numeric": "the best of many finite differences",
    "shortcut_vs_direct": "two ways to sum the same loss",
    "table_error": "an interpolation that is exact up to rounding",
    "series_error": "an interpolation that is exact up to rounding",
    "error_bound": "a sum of measured rounding errors",
    "error": "a sum of measured rounding errors",
    "gradient_error": "a sum of measured rounding errors",
    "noise": "the scatter of a loss near one value",
    "autograd": "two derivatives of one kernel",
    "complex_step": "two derivatives of one kernel",
    "numeric": "the best of many finite differences",
    "max_relative_error": "zero for a right formula, up to rounding",
}
ROUNDING_BOUND = 1e-9
# Larger ones are findings, not rounding (a wrong derivative), and are compared as numbers. Between
# the two lie float32 and losses of thousands.
ROUNDING_SIZE = 1e-5

# Numbers of one kind share a scale: a value of zero is as exact as its neighbours.
KINDS = {
    "loss": ("loss", "final_loss", "best_loss", "minimum_loss", "lowest_loss", "loss_at_target",
             "loss_before", "loss_after", "largest_loss", "smallest_loss"),
    "value": ("value", "start", "final", "best", "target", "from", "to", "landed_near", "minimum",
              "basin", "range", "lowest", "distance_to_target", "goal", "theta", "psi"),
    "gradient": ("gradient", "slope", "full_gradient", "largest_gradient", "gradient_at_start"),
}  # fmt: skip
_KIND = {name: kind for kind, names in KINDS.items() for name in names}

# (call, path, relative tolerance): with the reason above each group.
SENSITIVE = [
    # A finite difference of a loss: the loss's rounding, divided by a step of about 1e-6.
    ("*", "data.*sweep.csv.grad_numeric*", 1e-7),
    # The basis of the kernels is cut above their rounding. A second derivative at small sigma,
    # where kernels change fast, magnifies what is cut: 1.3e-12 against the former cut.
    ("optimize-sigma", "*.curvature", 1e-11),
    # Where on the path the loss is lowest: at a minimum it changes by one rounding unit over about
    # sqrt(eps loss / curvature) = 1e-8, and rounding picks the place.
    ("*", "*.best", 1e-7),
    ("*", "*.best.*", 1e-7),
    # A share of 181 or so random starts and rates, of which those at large rates run chaotically.
    ("*", "*.multi_start.evidence.share", 0.1),
    ("*", "*.multi_start.evidence.starts_for_99_percent", math.inf),
    # A remedy that fails, at a rate at which runs are chaotic: how it fails is decided by rounding.
    ("diagnose-chaotic", "*.remedies.momentum.*outcome", math.inf),
    # The coarse stage is a run at a large rate with momentum; it comes by after a chaotic time.
    ("diagnose-momentum", "*.coarse_to_fine.evidence.*", math.inf),
    # The square of a distance to the target that is 50,000 roundings long.
    ("diagnose-two", "result.run.*_loss", 1e-4),
    # So near a minimum, at distances of 6e-6 and 2e-10, a rounding of a parameter is 2e-11 and 1e-6
    # of the loss, which is the distance's square.
    ("optimize-two", "result.runs.0.*_loss", 1e-10),
    ("optimize-two-logarithm", "result.runs.0.*_loss", 1e-6),
    # Saved in single precision: two of its roundings.
    ("explore", "data.pictures.npz.target*", 2.4e-7),
    # Over 2,000 steps roundings of 1e-16 add up: to 1.0e-12 or 1.5e-12, by OPENBLAS_CORETYPE. The
    # loss at a kink is the distance to it, a thousandth of theta, as uncertain as theta.
    ("reproduce", "data.round-trajectory-002.csv.theta*", 1e-11),
    ("reproduce", "data.round-trajectory-002.csv.loss*", 1e-8),
    # A sum over a whole path: off by 7.2e-12 to 8.7e-12, by OPENBLAS_CORETYPE.
    ("reproduce", "data.elongated-bifurcation.npz.lyapunov*", 2e-11),
    # Rates in the middle of those that work for Adam, which is chaotic at their upper end: another
    # OPENBLAS_CORETYPE or ATEN_CPU_CAPABILITY picks 0.088 or 0.084, 0.06 or 0.066.
    ("diagnose-adam", "*.whiten_input.evidence.*", math.inf),
    ("diagnose-adam", "*.coarse_to_fine.evidence.*", math.inf),
    # The module has no derivative, so gradients and curvatures are differences of losses.
    ("diagnose-module-cut", "*.curvature", 1e-8),
    ("diagnose-module-cut", "*.counterfactual.final", 1e-8),
    # Single precision: a second derivative magnifies the rounding of the loss's samples. What is
    # recorded is that of the same module in double precision.
    ("diagnose-module-float32", "*.critical_points.0.curvature", 1e-3),
    # Of 800 rates those at the edge of a regime, and most of those among chaos, are judged by
    # rounding; so are some of 87 001 cells of the map.
    ("reproduce", "*.bifurcation.bands*", math.inf),
    ("reproduce", "*.basins.fractions.*", 0.1),
]

# (call, path, reason): differences that a new version means to make.
DIFFERENCES: list[tuple[str, str, str]] = [
    ("diagnose-two", "result.findings", "a healthy run of several parameters is asked for flaws"),
    ("explore", "result.rules.outcomes.*", "the words for outcomes are plainer"),
    ("explore", "result.rules.symptom_*", "the page asks for no symptom: it never read these"),
    ("explore", "*.gradient_*", "diagnose judges the gradient, and the page shows its finding"),
    ("*", "*.certificate.error_bound", "the one series takes its samples at nodes of its own"),
    ("*function*", "*.certified", "a custom loss is resolved to a width, never proven"),
    ("*module*", "*.certified", "a custom loss is resolved to a width, never proven"),
    ("diagnose-log", "*.certified", "a custom loss is resolved to a width, never proven"),
    ("diagnose-module-cut", "result.remedies.order*", "the repair of the code comes first"),
    (
        "explain-*",
        "result.outcome*",
        "a log that leaves its outcome open is given the possible ones",
    ),
    *(
        ("basins-sgd-mse", path, "a chaotic run: the last digit of the series decides its end")
        for path in ("result.fractions.*", "*.outcome.56", "*.start_outcome.6")
    ),
    *(
        (
            "diagnose-momentum",
            f"*.multi_start.evidence.{name}",
            "some runs a hair beside the former start end elsewhere: sixteen have to arrive",
        )
        for name in ("start", "steps_to_target")
    ),
    ("bifurcate-function", "result.bands*", "what diverges is no chaos"),
    ("*float32", "*.analytic_vs_numeric", "the points of the check are the series' nodes"),
]

MOST_JUMPS = 20

CHAOTIC = ("erratic", "running")
# What depends on where a path ends.
ENDS = {"final", "final_loss", "best", "best_loss", "distance_to_target", "turns", "n_jumps",
        "symptoms", "lyapunov", "period", "trusted_steps", "steps_to_target"}  # fmt: skip


class Mismatch(NamedTuple):
    """One field that differs."""

    path: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        return f"{self.path}: expected {self.expected!r}, got {self.got!r}"


# Keeping


def kept(result: Any, folder: Path, command: str) -> dict[str, Any]:
    """Returns what is kept of a call: its result and samples of its data files."""
    data = {}
    for path in sorted(folder.iterdir()):
        # Every command writes its landscape's curve; the sweeps have it under test.
        if path.suffix == ".csv" and (command == "sweep" or path.name != "sweep.csv"):
            data[path.name] = _columns(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                data[path.name] = {
                    name: _sampled(array) for name, array in _regular(arrays).items()
                }
    return {"result": _shortened(result), "data": data}


def _regular(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a file, without the digits of a bifurcation diagram's chaotic rows."""
    found = dict(arrays)
    if "lyapunov" in found and "values" in found:
        chaotic = found["lyapunov"] > 0
        found["values"] = np.where(chaotic[:, None], np.nan, found["values"])
        found["lyapunov"] = np.where(chaotic, np.inf, found["lyapunov"])
    return found


def _columns(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    columns = {}
    for name, texts in zip(head, zip(*rows, strict=True), strict=True):
        try:
            columns[name] = _sampled(np.array([float(text or "nan") for text in texts]))
        except ValueError:
            columns[name] = _sampled(np.array(texts))
    return columns


def _sampled(array: np.ndarray) -> dict[str, Any]:
    """Shape, largest size, and the values at 16 places, more of them at the beginning."""
    flat = array.ravel()
    last = flat.size - 1
    if array.dtype.kind != "f" and flat.size <= 128:
        places = range(flat.size)
    else:
        early = [round(last ** (i / 7)) for i in range(8)] if last > 0 else []
        even = [round(last * i / 8) for i in range(9)]
        places = sorted({*early, *even} if flat.size else ())
    samples = {str(place): _plain(flat[place]) for place in places}
    kept: dict[str, Any] = {"shape": list(array.shape), "samples": samples}
    if array.dtype.kind == "f":
        finite = np.abs(flat[np.isfinite(flat)])
        kept["largest"] = float(finite.max()) if finite.size else 0.0
    return kept


def _plain(value: Any) -> Any:
    value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _shortened(value: Any) -> Any:
    """Without what is not compared; long lists of numbers are sampled.

    Single rates that work, above all those that work reliably, are hits of chaotic runs.
    """
    if isinstance(value, dict):
        shown = {k: _shortened(v) for k, v in value.items() if k not in SENTENCES | INCIDENTAL}
        if "jumps" in shown and isinstance(shown["jumps"], list):
            shown["jumps"] = _early(value)
        if "working_lr" in shown:
            shown["working_lr"] = [[a, b] for a, b in value["working_lr"] or () if b > 2 * a]
        return shown
    if isinstance(value, list):
        if len(value) > 24 and all(isinstance(item, int | float) for item in value):
            return _sampled(np.array(value, dtype=float))
        return _named(value) or [_shortened(item) for item in value]
    return value


def _early(run: Mapping[str, Any]) -> list[Any]:
    """The first jumps of a run, none after the step up to which it is compared."""
    return [jump for jump in run["jumps"] if jump["step"] <= _last_step(run)][:MOST_JUMPS]


def _named(items: list[Any]) -> dict[str, Any] | None:
    """Findings by their cause, remedies by their name, with the order of those that matter."""
    for key, matters in (("cause", lambda f: f.get("role") != "ruled_out"), ("name", bool)):
        if items and all(isinstance(item, dict) and key in item for item in items):
            order = [item[key] for item in items if matters(item)]
            return {"order": order} | {item[key]: _shortened(item) for item in items}
    return None


# Comparing


def mismatches(call: str, expected: dict[str, Any], got: dict[str, Any]) -> list[Mismatch]:
    """Returns every field in which what is got differs from what is expected."""
    comparison = _Comparison(call, expected)
    comparison.compare("result", expected["result"], got["result"])
    runs = {run["trajectory"]: run for run in _runs(expected["result"])}
    for name, columns in expected["data"].items():
        if name not in got["data"]:
            comparison.add(f"data.{name}", "a file", None)
            continue
        comparison.compare_columns(name, columns, got["data"][name], runs.get(name, {}))
    return comparison.found


class _Comparison:
    """Walks through two outputs of one call."""

    def __init__(self, call: str, expected: dict[str, Any]) -> None:
        self.call = call
        self.found: list[Mismatch] = []
        self._relative = SINGLE if "float32" in call else RELATIVE
        self._chaotic = any(map(_chaotic, _runs(expected["result"])))
        self._scales: dict[str, float] = {}
        for key, number in _numbers(expected["result"], ""):
            kind = _KIND.get(key, key)
            self._scales[kind] = max(self._scales.get(kind, 0.0), abs(number))

    def add(self, path: str, expected: Any, got: Any) -> None:
        meant = any(self._applies(rule, path) for rule in DIFFERENCES)
        if not meant and self._tolerance(path) < math.inf:
            self.found.append(Mismatch(path, expected, got))

    def compare(self, path: str, expected: Any, got: Any, growth: float = 1.0) -> None:
        key = next(part for part in reversed(path.split(".")) if not part.isdigit())
        if isinstance(expected, dict) and isinstance(got, dict):
            self._compare_dicts(path, expected, got, growth)
        elif isinstance(expected, list) and isinstance(got, list):
            if len(expected) != len(got):
                self.add(f"{path}.length", len(expected), len(got))
            for index, pair in enumerate(zip(expected, got, strict=False)):
                self.compare(f"{path}.{index}", *pair, growth)
        elif isinstance(expected, float) and isinstance(got, int | float):
            scale = max(abs(expected), abs(got), self._scales.get(_KIND.get(key, key), 0.0))
            if key in ROUNDING_LEVEL and abs(expected) < ROUNDING_SIZE:
                agree = abs(got) < max(ROUNDING_BOUND, 30 * abs(expected))
            else:
                agree = abs(expected - got) <= self._tolerance(path, growth) * scale
            if not agree:
                self.add(path, expected, got)
        elif expected != got or type(expected) is not type(got):
            self.add(path, expected, got)

    def compare_columns(
        self, file: str, expected: dict[str, Any], got: dict[str, Any], run: dict[str, Any]
    ) -> None:
        for column, want in expected.items():
            path = f"data.{file}.{column}"
            have = got.get(column)
            if have is None or have["shape"] != want["shape"]:
                self.add(path, want["shape"], have and have["shape"])
                continue
            self._scales[path] = want.get("largest", 0.0)
            for place, value in want["samples"].items():
                step = int(place)
                if step <= _last_step(run):
                    growth = _growth(run, step)
                    self._compare_sample(path, place, value, have["samples"][place], growth)

    def _compare_sample(self, path: str, place: str, want: Any, have: Any, growth: float) -> None:
        agree = want == have
        if isinstance(want, float) and isinstance(have, float):
            scale = max(abs(want), abs(have), self._scales[path])
            agree = abs(want - have) <= self._tolerance(path, growth) * scale
        if not agree:
            self.add(f"{path}.{place}", want, have)

    def _compare_dicts(
        self, path: str, expected: dict[str, Any], got: dict[str, Any], growth: float = 1.0
    ) -> None:
        if "samples" in expected and "samples" in got:
            self.compare_columns(path, {"": expected}, {"": got}, {})
            return
        left_out = _path_dependent(expected)
        if self._chaotic and ".evidence" in path:
            left_out = left_out | ENDS
        for key, value in expected.items():
            here = f"{path}.{key}"
            if key in left_out:
                continue
            if key not in got:
                self.add(here, value, "no such field")
            elif key == "jumps" and isinstance(value, list):
                self._compare_jumps(here, expected, got)
            else:
                self.compare(here, value, got[key], growth)

    def _compare_jumps(self, path: str, run: dict[str, Any], got: dict[str, Any]) -> None:
        last = min(_last_step(run), _last_step(got))
        want, have = ([j for j in r["jumps"] if j["step"] <= last] for r in (run, got))
        if len(want) != len(have):
            self.add(f"{path}.length", len(want), len(have))
        for index, (one, other) in enumerate(zip(want, have, strict=False)):
            self._compare_dicts(f"{path}.{index}", one, other, _growth(run, one["step"]))

    def _tolerance(self, path: str, growth: float = 1.0) -> float:
        listed = [rule[2] for rule in SENSITIVE if self._applies(rule, path)]
        return max([self._relative * growth, *listed])

    def _applies(self, rule: tuple[str, str, Any], path: str) -> bool:
        return fnmatchcase(self.call, rule[0]) and fnmatchcase(path, rule[1])


def _chaotic(run: Mapping[str, Any]) -> bool:
    return run.get("trusted_steps") is not None


def _last_step(run: Mapping[str, Any]) -> float:
    """The step up to which two computations of a run agree within `COARSEST`."""
    if not _chaotic(run):
        return math.inf
    return min(run["trusted_steps"], math.log(COARSEST / RELATIVE) / run["lyapunov"])


def _growth(run: Mapping[str, Any], step: int) -> float:
    """How much a difference may have grown by a step."""
    return math.exp(run["lyapunov"] * step) if _chaotic(run) else 1.0


def _path_dependent(fields: Mapping[str, Any]) -> set[str]:
    """Returns which fields of a run, or of evidence from one, depend on the end of a chaotic path.

    A run says itself how far it can be trusted; evidence from a run says how it ended.
    """
    if _chaotic(fields):
        return ENDS | {"outcome"}
    return ENDS if fields.get("outcome") in CHAOTIC and "trajectory" not in fields else set()


def _runs(value: Any) -> Iterator[dict[str, Any]]:
    """Yields every run of a result that has a log."""
    if isinstance(value, dict):
        if isinstance(value.get("trajectory"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _runs(item)


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    """Yields every number of a result with the name of its field."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, float):
        yield key, value
