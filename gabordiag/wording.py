"""Counts, ratios and names as people read them, in messages, verdicts, reports and figures alike.

Values in degrees and other units are shown by `Parameter.show` (`objective/space.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

# Control characters, those that turn the writing direction, and bytes of names that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

_SPOKEN = {"no_working_lr": "no learning rate works", "working_lr": "these learning rates work"}


def counted(count: int, one: str, many: str) -> str:
    """Returns a number with its noun."""
    return f"{count} {one if count == 1 else many}"


def listed(names: Sequence[str]) -> str:
    """Returns names as a list in a sentence: a, b and c; of more than eight, the first six."""
    shown = list(names)
    if len(shown) > 8:
        return ", ".join(shown[:6]) + f" and {len(shown) - 6} more"
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1]


def as_sentence(words: str) -> str:
    """Returns words with a capital letter, unless they begin with code, and a full stop."""
    is_code = any(mark in words.split(" ", 1)[0] for mark in "._(")
    return f"{words[:1] if is_code else words[:1].upper()}{words[1:]}."


def spoken(name: str) -> str:
    """Returns a verdict, cause, remedy or outcome of the JSON as people read it."""
    return _SPOKEN.get(name, name.replace("_", " "))


def printable(text: str) -> str:
    """Returns a text with its control characters escaped, so that no terminal obeys them."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def times(ratio: float) -> str:
    """Returns how many times one number is another: 1.24, 82.5, 2487, 1.3e+06."""
    return f"{ratio:.0f}" if 1e3 <= ratio < 1e6 else f"{ratio:.3g}"


def significant_figures(
    value: float, low: float, high: float, tolerance: float, digits: int = 2
) -> int:
    """Returns how many significant figures show a value to a tenth of its tolerance.

    That is for two digits after the point, of a range some units wide; fewer are coarser. Four
    figures will do, unless the range is narrow and far from zero; values that left it have no more.
    """
    width = high - low
    is_near = low - width <= value <= high + width
    if value == 0 or not is_near or not 0 < tolerance < math.inf:
        return digits + 2
    before = math.floor(math.log10(abs(value))) + 1
    # A double has 17.
    return min(17, max(digits + 2, math.ceil(before - math.log10(tolerance) + digits - 1)))


def show_number(value: float, digits: int = 3) -> str:
    """Returns a positive number in a few digits: 0.00261, 1.33, 2.61×10⁻⁵."""
    if value == 0 or 1e-4 <= value < 1e4:
        return f"{value:.{digits}g}" if value < 10 ** (digits - 1) else f"{value:.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
