"""Results as figures and words take them, restored once from a command's JSON and arrays.

A run that has just finished goes the same way as a saved one, so that both look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.dynamics.maps import Basins
from gabordiag.landscape.points import Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.presentation.figures.run_paths import Runs
from gabordiag.results import View

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A filter of `reproduce`: the symptom, the failing run, all runs, and what was computed."""

    reproduced: bool
    failing: Runs
    others: Runs
    diagnosis: Json | None
    basins: Basins | None
    bifurcation: Bifurcation | None


def read_runs(view: View) -> Runs:
    """Returns the runs of `optimize`, or the one of `diagnose`, on what they ran on."""
    result = view.result
    sweep = None if "learned" in result else _sweep(view)
    return Runs.of(sweep, result["runs"] if "runs" in result else [result["run"]], view)


def read_cases(view: View) -> dict[str, Case]:
    """Returns the cases of `reproduce`, by the filter's name."""
    return {name: _case(name, case, view) for name, case in view.result["cases"].items()}


def read_explored(view: View) -> Landscape:
    """Returns the landscape that an interactive page opens with."""
    return Landscape.from_dict(view.result["losses"][view.result["loss"]]["landscape"])


def _sweep(view: View) -> Sweep:
    return Sweep.from_view(View(view.result["landscape"], view.data))


def _case(name: str, case: Json, view: View) -> Case:
    """Returns one case; its files are those under the filter's name."""
    prefix = f"{name}-"
    files = view.data.items()
    data = {n.removeprefix(prefix): table for n, table in files if n.startswith(prefix)}
    part = View(case, data)
    sweep = _sweep(part)
    read: dict[str, Callable[[View], Any]] = {
        "basins": Basins.from_view,
        "bifurcation": Bifurcation.from_view,
    }
    return Case(
        reproduced=case["symptom"]["reproduced"],
        failing=Runs.of(sweep, [case["symptom"]["run"]], part),
        others=Runs.of(sweep, case["runs"], part),
        diagnosis=case.get("diagnosis"),
        **{n: of(View(case[n], data)) if n in case else None for n, of in read.items()},
    )
