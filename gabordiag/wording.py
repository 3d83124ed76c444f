"""Numbers as people read them, in messages, verdicts, reports and figures alike."""

from __future__ import annotations

import math


def counted(count: int, one: str, many: str) -> str:
    """Returns a number with its noun."""
    return f"{count} {one if count == 1 else many}"


def times(ratio: float) -> str:
    """Returns how many times one number is another: 1.24, 82.5, 2487, 1.3e+06."""
    return f"{ratio:.0f}" if 1e3 <= ratio < 1e6 else f"{ratio:.3g}"


def significant_figures(
    value: float, low: float, high: float, tolerance: float, digits: int = 2
) -> int:
    """Returns how many significant figures of a value tell it to a tenth of its tolerance.

    That is for two digits; fewer are coarser. Four figures will do, unless the range is narrow and
    far from zero; values that left it have no more.

    Args:
        value: In the parameter's unit.
        low: Lower end of its range.
        high: Upper end.
        tolerance: To which it is judged.
        digits: After the point, of a parameter whose range is some units wide.
    """
    width = high - low
    is_near = low - width <= value <= high + width
    if value == 0 or not is_near or not 0 < tolerance < math.inf:
        return digits + 2
    before = math.floor(math.log10(abs(value))) + 1
    needed = math.ceil(before - math.log10(tolerance) + digits - 1)
    # A double has 17.
    return min(17, max(digits + 2, needed))
