"""What is said about several parameters at once: their runs, a diagnosis, a plane of starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.objective.losses import LOSSES
from gabordiag.objective.space import Parameter
from gabordiag.presentation.blocks import Block, Heading, Listing, Paragraph, Picture, Table
from gabordiag.presentation.phrases import (
    findings,
    how_else,
    number,
    outcome_name,
    remedies,
    show_wrapped,
    verdict,
)
from gabordiag.presentation.surface_words import points_found
from gabordiag.wording import counted

Json = Mapping[str, Any]

_RUN_COLUMNS = ("optimizer", "loss", "lr", "outcome", "steps", "final loss", "jumps")
# Angles closer than this are the same: copies of a target are exact up to rounding.
_SAME = 1e-9


def space_runs(result: Json) -> list[Block]:
    """Returns what the runs of an optimization say, parameter by parameter."""
    runs = result["runs"]
    said: list[Block] = [Heading("The runs"), Picture("pairs")]
    said.append(Table(_columns(runs, _RUN_COLUMNS), _numbered(runs, map(_row, runs)), _at(runs)))
    meanings = dict.fromkeys(run["outcome"] for run in runs)
    said.append(Listing(tuple(f"{name.replace('_', ' ')}: {OUTCOMES[name]}" for name in meanings)))
    return [*said, *_ends(result, runs), *(Paragraph(note) for note in result.get("notes", []))]


def space_diagnosis(result: Json) -> list[Block]:
    """Returns the verdict on a run of several parameters, why, what helps, and the run."""
    run = result["run"]
    said: list[Block] = [verdict(result), Picture("pairs")]
    if result["jump_story"]:
        said += [Heading("What happened"), Listing(tuple(result["jump_story"]))]
    said += findings(result) if result["findings"] else []
    said += remedies(result)
    said += [Heading("The run"), Table(_RUN_COLUMNS, (_row(run),), 3)]
    said += _ends(result, [run])
    return [*said, *_at_target(result, run)]


def plane_of_starts(result: Json) -> list[Block]:
    """Returns which starts of a plane of two parameters reach the target."""
    first, second = result["parameters"]
    shares = sorted(result["fractions"].items(), key=lambda item: -item[1])
    rows = tuple(
        (name.replace("_", " "), f"{share:.1%}", OUTCOMES[name]) for name, share in shares if share
    )
    share = share_words(result["reached_share"])
    text = (
        f"With {run_settings(result)}, {share} of the starts over {first} and {second} reach the "
        f"target within {result['steps']} steps."
    )
    return [
        Heading("Starts over two parameters"),
        Paragraph(text),
        Picture("plane"),
        Table(("outcome", "share", "meaning"), rows, 0),
        Heading("The surface under them"),
        *points_found(result["surface"]),
    ]


def share_words(share: float) -> str:
    """Returns a share in percent; none and all are said of no other share than these."""
    if share in (0, 1):
        return "none" if share == 0 else "all"
    if not 0.01 <= share <= 0.99:
        return "under 1%" if share < 0.5 else "over 99%"
    return f"{100 * share:.0f}%"


def rates_words(lr: float | Json) -> str:
    """Returns the learning rate, or each parameter's own."""
    if isinstance(lr, Mapping):
        return ", ".join(f"{name} {rate:g}" for name, rate in lr.items())
    return f"{lr:g}"


def run_settings(run: Json) -> str:
    """Returns optimizer and rates in words, for a sentence: sgd, lr 0.01, momentum 0.9."""
    return ", ".join([str(run["optimizer"]), f"lr {rates_words(run['lr'])}", *how_else(run)])


def is_copy(result: Json, run: Json) -> bool:
    """Whether the target's copy that is nearest to a run's end is another than the target."""
    return bool(_turned(result, run))


def axes_of(result: Json) -> dict[str, Parameter]:
    """Returns name -> the learned parameter, of which the result holds unit and period."""
    return {
        name: Parameter(
            name, -math.inf, math.inf, period, None, 0.0, unit == "rad", unit.removeprefix("rad")
        )
        for name, unit, period in zip(
            result["learned"], result["units"], result["periods"], strict=True
        )
    }


def _columns(runs: Sequence[Json], columns: tuple[str, ...]) -> tuple[str, ...]:
    return columns if len(runs) == 1 else ("run", *columns)


def _numbered(runs: Sequence[Json], rows: Any) -> tuple[tuple[str, ...], ...]:
    """Numbers the rows of several runs, a row a run."""
    if len(runs) == 1:
        return tuple(rows)
    return tuple((str(index), *row) for index, row in enumerate(rows, 1))


def _at(runs: Sequence[Json]) -> int:
    return _RUN_COLUMNS.index("outcome") + (len(runs) > 1)


def _row(run: Json) -> tuple[str, ...]:
    momentum = f", momentum {run['momentum']:g}" if run["momentum"] else ""
    return (
        run["optimizer"] + momentum,
        run["loss"],
        rates_words(run["lr"]),
        outcome_name(run),
        str(run["steps"]),
        number(run["final_loss"], 3),
        str(run["n_jumps"]),
    )


def _ends(result: Json, runs: Sequence[Json]) -> list[Block]:
    """Where each run began and ended, and how the loss curves there."""
    said: list[Block] = [Heading("Parameter by parameter")]
    columns = ("parameter", "start", "end", "target", "distance", "there")
    for index, run in enumerate(runs, 1):
        if len(runs) > 1:
            said.append(Paragraph(f"Run {index}, {run_settings(run)}:"))
        said.append(Table(columns, _parameters(result, run)))
        said += [Paragraph(text) for text in _symmetry(result, run)]
        said.append(Paragraph(_curving(result, run)))
    return said


def _parameters(result: Json, run: Json) -> tuple[tuple[str, ...], ...]:
    rows = []
    for (name, axis), within in zip(axes_of(result).items(), result["tolerances"], strict=True):
        apart = (run["distance_to_target"] or {}).get(name)
        allowed = axis.show(within)
        is_there = apart is not None and apart <= within
        rows.append(
            (
                name + (" (its logarithm is moved)" if name in run["logarithms"] else ""),
                show_wrapped(axis, run["start"][name]),
                show_wrapped(axis, run["final"][name]),
                "–" if run["target_copy"] is None else show_wrapped(axis, run["target_copy"][name]),
                "–" if apart is None else axis.show(apart, 2 if axis.is_angle else 1),
                "–"
                if run["target_copy"] is None
                else f"yes, within {allowed}"
                if is_there
                else f"no, not within {allowed}",
            )
        )
    return tuple(rows)


def _symmetry(result: Json, run: Json) -> list[str]:
    """The sentence on a run that ended at a copy of the target."""
    turned = _turned(result, run)
    if run["outcome"] != "reached" or not turned:
        return []
    axes = axes_of(result)
    target = ", ".join(f"{n} {show_wrapped(axes[n], result['target'][n])}" for n in turned)
    reasons = []
    if "theta" in turned:
        reasons.append("theta + 180° with psi turned to -psi is the same filter")
    if "wavelength" in turned:
        reasons.append("a negative wavelength with psi turned to -psi is the same filter")
    signs = [name for name in turned if name in ("sigma", "gamma")]
    if signs:
        reasons.append(f"the sign of {' and '.join(signs)} changes nothing")
    which = f"The target was made with {target}. The end is another copy of it: "
    return [which + "; ".join(reasons) + "."]


def _turned(result: Json, run: Json) -> list[str]:
    """Names of the parameters in which a run's copy of the target is not the target itself."""
    names: list[str] = []
    target = result["target"]
    if target is None:
        return names
    for name, axis in axes_of(result).items():
        if abs(_offset(axis, run["target_copy"][name] - target[name])) > _SAME:
            names.append(name)
    return names


def _curving(result: Json, run: Json) -> str:
    """What the Hessian's eigenvalues at a run's end say."""
    hessian, squared = run["hessian"], _under_root(run["loss"])
    values = hessian["eigenvalues"]
    if None in values:
        return "At the run's end the loss has no finite second derivatives: it left the numbers."
    where = "Where the run ends"
    if run["minimum"]:
        settled = run["outcome"] in ("reached", "local_minimum")
        where = "At the minimum " + ("where the run ends" if settled else "nearest to its end")
    which = "" if squared is None else f" of {squared}"
    moved = "".join(f", of {name} the logarithm" for name in run["logarithms"])
    units = f"angles in radians, lengths in pixels{moved}"
    text = f"{where}, the Hessian{which} has the eigenvalues {_listed(values)} ({units})"
    if not hessian["is_minimum"]:
        down = sum(value <= 0 for value in values)
        return (
            f"{text}. Along {down} of its {counted(len(values), 'direction', 'directions')} the "
            "loss does not curve up: this is not a minimum, and a run converges here at no rate."
        )
    if not run["minimum"]:
        return (
            f"{text}. The loss curves up in every direction, but there is no minimum within reach."
        )
    return f"{text}. {_rest(hessian, run['loss'])}"


def _under_root(loss_name: str) -> str | None:
    """The name of the loss under the root, or None where the loss has no root."""
    loss = LOSSES.get(loss_name)
    return loss.squared if loss is not None and loss.is_root else None


def _rest(hessian: Json, loss_name: str) -> str:
    squared = _under_root(loss_name)
    text = (
        f"The condition number is {number(hessian['condition_number'], 3)}: the slowest direction "
        "needs about that many times more steps than the fastest; "
    )
    bound = number(hessian["stable_lr"], 3)
    if squared is not None:
        return (
            f"{text}with {squared} no rate of plain gradient descent above {bound} (2 / "
            f"largest eigenvalue) converges here. {loss_name} has a kink at its zero, at which no "
            "fixed rate converges."
        )
    return (
        f"{text}no rate of plain gradient descent above {bound} (2 / largest eigenvalue), the same "
        "for all parameters, converges here."
    )


def _at_target(result: Json, run: Json) -> list[Block]:
    """Describes the Hessian at the target, for a run that did not get there."""
    hessian, there = result["target_hessian"], run["minimum"]
    if not hessian["is_minimum"] or (there is not None and _is_at_target(result, run)):
        return []
    listed = _listed(hessian["eigenvalues"])
    number_there = number(hessian["condition_number"], 3)
    text = f"At the target the eigenvalues are {listed}, and the condition number is {number_there}"
    if _under_root(run["loss"]) is None:
        bound = number(hessian["stable_lr"], 3)
        text += f"; no rate of plain gradient descent above {bound} converges there"
    return [Paragraph(f"{text}.")]


def _is_at_target(result: Json, run: Json) -> bool:
    """Whether the minimum at a run's end is the target, up to its symmetries."""
    axes, minimum, goal = axes_of(result), run["minimum"], run["target_copy"]
    if goal is None:
        return False
    apart = (_offset(axis, minimum[name] - goal[name]) for name, axis in axes.items())
    return all(
        abs(offset) <= within for offset, within in zip(apart, result["tolerances"], strict=True)
    )


def _offset(axis: Parameter, apart: float) -> float:
    return apart if axis.period is None else math.remainder(apart, axis.period)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(number(value, 3) for value in values)
