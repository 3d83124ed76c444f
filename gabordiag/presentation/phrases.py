"""Phrases that figures and reports share.

Numbers, values and intervals; a run's settings; which learning rates work from a start, and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gabordiag.dynamics.outcomes import JUMP_RISE, OUTCOMES
from gabordiag.landscape.points import Landscape
from gabordiag.objective.space import Parameter
from gabordiag.wording import counted, listed, show_number, times

if TYPE_CHECKING:
    from gabordiag.dynamics.maps import Basins
    from gabordiag.landscape.sweep import Sweep

Json = Mapping[str, Any]
Show = Callable[[float], str]

# What `escape_lr` is.
ESCAPE_RATE = "smallest scanned learning rate that leaves the start's basin"
# Ranges of learning rates that are listed.
_MOST_RANGES = 2


def number(value: float | None, digits: int = 4) -> str:
    """Returns a number for people; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}g}"


def share_words(share: float) -> str:
    """Returns a share in percent; none and all are said of no other share than these."""
    if share in (0, 1):
        return "none" if share == 0 else "all"
    if not 0.01 <= share <= 0.99:
        return "under 1%" if share < 0.5 else "over 99%"
    return f"{100 * share:.0f}%"


def parameter_of(element: Json) -> Parameter:
    """Returns the value of a training's element as a parameter, for people."""
    period = element["period"]
    half = math.inf if period is None else period / 2
    is_angle = element["unit"] == "rad"
    return Parameter(element["name"], -half, half, period, None, element["start"], is_angle)


def show_wrapped(parameter: Parameter, value: float | None) -> str:
    """Returns a value folded into one period, for people."""
    return parameter.show(None if value is None else float(parameter.wrap(value)))


def show_interval(parameter: Parameter, interval: Sequence[float] | None) -> str:
    """Returns an interval of the parameter for people."""
    return "–" if interval is None else " … ".join(parameter.show(end, 1) for end in interval)


def describe_points(landscape: Landscape) -> str:
    """Returns how many critical points of each kind there are; a kink is a minimum."""
    kinds = [point.kind for point in landscape.points]
    kinks = kinds.count("kink")
    minima = counted(kinds.count("minimum") + kinks, "minimum", "minima")
    if kinks:
        minima += " (a kink)" if len(landscape.attractors) == 1 else f" ({kinks} with a kink)"
    others = [
        counted(kinds.count(kind), kind, plural)
        for kind, plural in (("maximum", "maxima"), ("inflection", "inflections"))
        if kind in kinds
    ]
    return ", ".join([minima, *others]) if kinds else "no critical point"


def describe_certificate(landscape: Landscape) -> str:
    """Returns in a few words how complete the list of critical points is."""
    certificate = landscape.certificate
    if certificate.resolution is not None:
        parameter = landscape.parameter
        unit = "°" if parameter.is_angle else f" {parameter.unit}" if parameter.unit else ""
        return f"resolved to {certificate.resolution * parameter.scale:.2g}{unit}"
    return "proven complete" if certificate.certified else "may be incomplete"


def exact_derivative(sweep: Sweep) -> str:
    """Returns what a sweep's exact derivative is, in words."""
    # A custom objective has no closed form: the derivative of its interpolated values stands in.
    is_custom = sweep.gradient_check.shortcut_vs_direct is None
    return "derivative of its values" if is_custom else "closed form"


def outcome_words(outcome: str, goal: str) -> str:
    """Returns what an outcome means, where the goal of a descent is called so."""
    return OUTCOMES[outcome].replace("the target", f"the {goal}")


def rates_words(lr: float | Json) -> str:
    """Returns the learning rate, or each parameter's own."""
    if isinstance(lr, Mapping):
        return ", ".join(f"{name} {rate:g}" for name, rate in lr.items())
    return f"{lr:g}"


def run_settings(run: Json) -> str:
    """Returns optimizer and rates in words, for a sentence: sgd, lr 0.01, momentum 0.9."""
    return ", ".join([str(run["optimizer"]), f"lr {rates_words(run['lr'])}", *how_else(run)])


def height_words(line: Json) -> str:
    """Returns what the largest height over a line's chord is: a barrier if above both ends."""
    (first, last), at = line["losses"], line["at"]
    is_barrier = (1 - at) * first + at * last + line["barrier"] > max(first, last)
    return "barrier" if is_barrier else "above the line between the ends"


def jump_definition(height: str = "landscape's height") -> str:
    """Returns what a jump is, in words; the height is what its rise is a share of."""
    return f"a step on which the loss rises by {JUMP_RISE:.0%} of the {height}"


def how_else(run: Json) -> list[str]:
    """Returns what a run's settings say beside optimizer and rate, each in words."""
    words = []
    if run["momentum"]:
        words.append(f"momentum {run['momentum']:g}")
    if run.get("nesterov"):
        words.append("Nesterov")
    if run.get("schedule", "constant") != "constant":
        words.append(str(run["schedule"]))
    return words


def batch_label(run: Json) -> str:
    """Returns what a run drew at every step, where runs differ in that; else nothing."""
    if run.get("batch_size") is None:
        return ""
    return f"batches of {run['batch_size']}" if run["batch"] else "all images"


def rate_words(basins: Basins, show: Show) -> tuple[str, str]:
    """Returns which scanned rates bring the run to the goal, and why; `show` prints values."""
    start, goal = show(basins.windows.start), basins.sweep.landscape.parameter.goal_name
    working = basins.windows.working_lr
    if not working:
        headline = f"No scanned learning rate brings the run from {start} to the {goal}"
    else:
        ends = [[show_number(end) for end in span] for span in working]
        spans = [low if low == high else f"{low} to {high}" for low, high in ends]
        more = len(spans) - _MOST_RANGES
        shown = listed(spans[:_MOST_RANGES] + ([f"{more} more"] if more > 0 else []))
        headline = f"From {start} the {goal} is reached at learning rates {shown}"
    return headline, _reason(basins, goal, show)


def _reason(basins: Basins, goal: str, show: Show) -> str:
    landscape, windows = basins.sweep.landscape, basins.windows
    escape, hold = windows.escape_lr, windows.hold_lr
    if hold is None:
        return f"No scanned learning rate is stable in the {goal}'s basin"
    own = landscape.attractor_of(windows.start)
    if own is not None and own is landscape.goal:
        stable = f"learning rates up to {show_number(hold)} are stable"
        return f"{place_words(landscape, windows.start, show)}, where {stable}{_failures(basins)}"
    largest = f"the {stable_rate(goal)} is {show_number(hold)}"
    if escape is None:
        return f"No scanned learning rate leaves the start's basin; {largest}"
    less = f", {times(escape / hold)} times less" if escape > hold else ""
    return f"The {ESCAPE_RATE} is {show_number(escape)}; {largest}{less}"


def stable_rate(goal: str) -> str:
    """Returns what `hold_lr` is, of the basin of the target or the lowest minimum."""
    return f"largest stable scanned learning rate in the {goal}'s basin"


def place_words(landscape: Landscape, start: float, show: Show) -> str:
    """Returns in whose basin a start lies."""
    own = landscape.attractor_of(start)
    if own is None:
        return "The start lies in no basin"
    if own is landscape.goal:
        return f"The start lies in the {landscape.parameter.goal_name}'s basin"
    return f"The start lies in the basin of another minimum, at {show(own.value)}"


def _failures(basins: Basins) -> str:
    """Returns how runs fail on either side, where nothing separates the start from the target."""
    windows = basins.windows
    below, above = windows.failure_below, windows.failure_above
    if windows.working_lr or above is None:
        return ""
    if below in (None, above):
        return f". At every learning rate the run fails: {OUTCOMES[above]}"
    return f". Smaller learning rates: {OUTCOMES[below]}; larger ones: {OUTCOMES[above]}"
