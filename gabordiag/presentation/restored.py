"""Results as figures and words take them, restored once from a command's JSON and arrays.

A run that has just finished goes the same way as a saved one, so that both look alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.dynamics.maps import Basins
from gabordiag.landscape.critical import Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.presentation.figures.run_paths import Runs
from gabordiag.results import View

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Diagnosed:
    """The diagnosis of one run.

    Attributes:
        verdict: Its JSON: verdict, headline, findings, remedies, account of the jumps.
        runs: The run on its landscape.
    """

    verdict: Json
    runs: Runs


@dataclass(frozen=True)
class Case:
    """One filter of `reproduce`.

    Attributes:
        reproduced: Whether the failing run shows the symptom.
        failing: The failing run.
        others: All runs, for comparison.
        diagnosis: Of the failing run, if it was made.
        basins: Outcomes by start and learning rate, if they were computed.
        bifurcation: Attractors by learning rate, if they were computed.
    """

    reproduced: bool
    failing: Runs
    others: Runs
    diagnosis: Json | None
    basins: Basins | None
    bifurcation: Bifurcation | None


@dataclass(frozen=True)
class Reproduced:
    """The cases of `reproduce`, by the filter's name."""

    cases: Mapping[str, Case]


@dataclass(frozen=True)
class Explored:
    """The landscape that an interactive page opens with."""

    landscape: Landscape


class SurfaceView(View):
    """A loss over two parameters."""


class TrainingDiagnosed(View):
    """The diagnosis of a training."""


class PlaneView(View):
    """Outcomes over a plane of starts of two parameters."""


class Checked(View):
    """The check of a kernel or a derivative."""


class Explained(View):
    """The diagnosis of a log."""


def restore(command: str, view: View) -> Any:
    """Returns a command's result as one of the types that `registry.KINDS` describes.

    Args:
        command: That made the result.
        view: JSON and arrays.
    """
    of_two = _OF_TWO.get(command) if "parameters" in view.result else None
    return READERS[command](view) if of_two is None else of_two(view.result, view.data)


def _sweep(view: View) -> Sweep:
    return Sweep.from_view(View(view.result["landscape"], view.data))


def _case(name: str, case: Json, view: View) -> Case:
    """Returns one case; its files are those under the filter's name."""
    prefix = f"{name}-"
    files = view.data.items()
    data = {n.removeprefix(prefix): table for n, table in files if n.startswith(prefix)}
    part = View(case, data)
    sweep = _sweep(part)
    return Case(
        reproduced=case["symptom"]["reproduced"],
        failing=Runs.of(sweep, [case["symptom"]["run"]], part),
        others=Runs.of(sweep, case["runs"], part),
        diagnosis=case.get("diagnosis"),
        basins=Basins.from_view(View(case["basins"], data)) if "basins" in case else None,
        bifurcation=Bifurcation.from_view(View(case["bifurcation"], data))
        if "bifurcation" in case
        else None,
    )


def _reproduced(view: View) -> Reproduced:
    return Reproduced(
        {name: _case(name, case, view) for name, case in view.result["cases"].items()}
    )


def _runs(view: View) -> Runs:
    return Runs.of(_ground(view), view.result["runs"], view, view.result.get("notes", ()))


def _diagnosed(view: View) -> Diagnosed | TrainingDiagnosed:
    if "elements" in view.result:
        return TrainingDiagnosed(view.result, view.data)
    return Diagnosed(view.result, Runs.of(_ground(view), [view.result["run"]], view))


def _ground(view: View) -> Sweep | None:
    return None if "learned" in view.result else _sweep(view)


def _explored(view: View) -> Explored:
    losses = view.result["losses"]
    return Explored(Landscape.from_dict(losses[view.result["loss"]]["landscape"]))


# Command -> what its result becomes; over a plane of two parameters in the second table.
READERS: dict[str, Callable[[View], Any]] = {
    "sweep": Sweep.from_view,
    "optimize": _runs,
    "diagnose": _diagnosed,
    "basins": Basins.from_view,
    "bifurcate": Bifurcation.from_view,
    "reproduce": _reproduced,
    "check": lambda view: Checked(view.result, view.data),
    "explain": lambda view: Explained(view.result, view.data),
    "explore": _explored,
}
_OF_TWO: dict[str, type[View]] = {"sweep": SurfaceView, "basins": PlaneView}
