"""What is said about several parameters alone: where their runs end, a plane of starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gabordiag.objective.losses import LOSSES
from gabordiag.presentation.blocks import Block, Heading, Paragraph, Picture, Table
from gabordiag.presentation.figures.run_paths import Runs
from gabordiag.presentation.phrases import (
    number,
    outcome_shares,
    run_settings,
    show_wrapped,
)
from gabordiag.presentation.surface_words import points_found
from gabordiag.wording import counted

Json = Mapping[str, Any]

# Angles closer than this are the same: copies of a target are exact up to rounding.
_SAME = 1e-9


def plane_of_starts(result: Json) -> list[Block]:
    """Returns which starts of a plane of two parameters reach the target."""
    first, second = result["parameters"]
    share = share_words(result["reached_share"])
    text = (
        f"With {run_settings(result)}, {share} of the starts over {first} and {second} reach the "
        f"target within {result['steps']} steps."
    )
    return [
        Heading("Starts over two parameters"),
        Paragraph(text),
        Picture("plane"),
        outcome_shares(result["fractions"]),
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


def is_copy(runs: Runs, run: Json) -> bool:
    """Whether the target's copy that is nearest to a run's end is another than the target."""
    return bool(_turned(runs, run))


def ends(made: Runs) -> list[Block]:
    """Returns where each run began and ended, and how the loss curves there."""
    blocks: list[Block] = [Heading("Parameter by parameter")]
    columns = ("parameter", "start", "end", "target", "distance", "there")
    for index, run in enumerate(made.runs, 1):
        if len(made.runs) > 1:
            blocks.append(Paragraph(f"Run {index}, {run_settings(run)}:"))
        blocks.append(Table(columns, _parameters(made, run)))
        blocks += [Paragraph(text) for text in _symmetry(made, run)]
        blocks.append(Paragraph(_curving(run)))
    return blocks


def _parameters(made: Runs, run: Json) -> tuple[tuple[str, ...], ...]:
    rows = []
    for (name, axis), within in zip(made.axes.items(), made.tolerances, strict=True):
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


def _symmetry(made: Runs, run: Json) -> list[str]:
    """The sentence on a run that ended at a copy of the target."""
    turned, goal = _turned(made, run), made.target
    if run["outcome"] != "reached" or not turned or goal is None:
        return []
    target = ", ".join(f"{n} {show_wrapped(made.axes[n], goal[n])}" for n in turned)
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


def _turned(made: Runs, run: Json) -> list[str]:
    """Names of the parameters in which a run's copy of the target is not the target itself."""
    if made.target is None:
        return []
    apart = {
        name: float(axis.offset(run["target_copy"][name], made.target[name]))
        for name, axis in made.axes.items()
    }
    return [name for name, offset in apart.items() if abs(offset) > _SAME]


def _curving(run: Json) -> str:
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
            "loss does not curve up: this is not a minimum, and a run does not converge here."
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


def at_target(made: Runs, hessian: Json) -> list[Block]:
    """Returns how the loss curves at the target, of a run that did not get there."""
    (run,) = made.runs
    if not hessian["is_minimum"] or _is_at_target(made, run):
        return []
    listed = _listed(hessian["eigenvalues"])
    number_there = number(hessian["condition_number"], 3)
    text = f"At the target the eigenvalues are {listed}, and the condition number is {number_there}"
    if _under_root(run["loss"]) is None:
        bound = number(hessian["stable_lr"], 3)
        text += f"; no rate of plain gradient descent above {bound} converges there"
    return [Paragraph(f"{text}.")]


def _is_at_target(made: Runs, run: Json) -> bool:
    """Whether the minimum at a run's end is the target, up to its symmetries."""
    minimum, goal = run["minimum"], run["target_copy"]
    return None not in (minimum, goal) and all(
        abs(float(axis.offset(minimum[name], goal[name]))) <= within
        for (name, axis), within in zip(made.axes.items(), made.tolerances, strict=True)
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(number(value, 3) for value in values)
