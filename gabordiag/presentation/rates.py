"""Which learning rates work from a start, and why: the sentences of figures and reports."""

from __future__ import annotations

from collections.abc import Callable

from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.landscape.critical import Landscape
from gabordiag.presentation.figures.style import show_number
from gabordiag.presentation.phrases import goal_name
from gabordiag.wording import times

Show = Callable[[float], str]
# Ranges of learning rates that are listed.
_MOST_RANGES = 2


def rate_words(basins: Basins, show: Show) -> tuple[str, str]:
    """Returns which scanned learning rates bring the run from the start to the goal, and why.

    Args:
        basins: The scan.
        show: Turns values of the parameter into text.
    """
    start, goal = show(basins.windows.start), goal_name(basins.sweep.landscape.parameter)
    working = basins.windows.working_lr
    if not working:
        headline = f"No scanned learning rate brings the run from {start} to the {goal}"
    else:
        spans = [f"{show_number(low)} to {show_number(high)}" for low, high in working]
        more = len(spans) - _MOST_RANGES
        listed = " and ".join(spans[:_MOST_RANGES]) + (f" and {more} more" if more > 0 else "")
        headline = f"From {start} the {goal} is reached at learning rates {listed}"
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
    largest = f"the {stable_words(goal)} is {show_number(hold)}"
    if escape is None:
        return f"No scanned learning rate leaves the start's basin; {largest}"
    smallest = f"The {escape_words()} is {show_number(escape)}"
    if escape <= hold:
        return f"{smallest}; {largest}"
    return f"{smallest}; {largest}, {times(escape / hold)} times less"


def escape_words() -> str:
    """Returns what `escape_lr` is."""
    return "smallest learning rate that leaves the start's basin"


def stable_words(goal: str) -> str:
    """Returns what `hold_lr` is, of the basin of the target or the lowest minimum."""
    return f"largest stable learning rate in the {goal}'s basin"


def place_words(landscape: Landscape, start: float, show: Show) -> str:
    """Returns in whose basin a start lies."""
    own = landscape.attractor_of(start)
    if own is None:
        return "The start lies in no basin"
    if own is landscape.goal:
        return f"The start lies in the {goal_name(landscape.parameter)}'s basin"
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
