"""The colours, and the markers and lines that go with them: one table for all figures and pages.

Outcomes differ in lightness by 8 or more, so that a grey print keeps them, and for colour-blind
readers in colour; they are near Okabe & Ito's. Where others do not, line styles, markers, hatches
and words do the same (`tests/presentation/test_colors.py`).
"""

from __future__ import annotations

from typing import Literal

LineStyle = Literal["-", "--", "-.", ":"]

# One fixed colour per outcome, the same in every figure, page and table; and what is written into
# the regions of a map, where a legend's sentence is too long.
_OUTCOMES: dict[str, tuple[str, str]] = {
    "reached": ("#008F57", "reaches the target"),
    "local_minimum": ("#53B0E6", "other minimum"),
    "plateau": ("#6B4F00", "plateau"),
    "cycle": ("#E1B90C", "cycle"),
    "erratic": ("#521A73", "no period"),
    "running": ("#E96E17", "drifts off"),
    "unfinished": ("#D3D3D3", "still descending"),
    "frozen": ("#686868", "frozen"),
    "nonfinite": ("#000000", "diverges"),
}
OUTCOME_COLORS = {name: color for name, (color, _) in _OUTCOMES.items()}
OUTCOME_SHORT = {name: words for name, (_, words) in _OUTCOMES.items()}
# Where an orbit ends up, as the bands behind a bifurcation diagram: colour and hatch.
BAND_STYLES: dict[str, tuple[str, str]] = {
    "settled": ("#D5EEE5", ""),
    "cycle": ("#FBF0BF", "//"),
    "chaos": ("#DACDE4", ""),
    "other": ("#EFEFEF", ".."),
    "nonfinite": ("#CFCFCF", "xx"),
}
# Critical points: marker, face colour, size.
POINT_STYLES: dict[str, tuple[str, str, float]] = {
    "minimum": ("o", "#0072B2", 8),
    "maximum": ("^", "white", 8),
    "kink": ("v", "#E69F00", 9),
    "inflection": ("s", "#CC79A7", 7),
}
# Runs: colour, line style, marker. No green: green says that the target is reached.
RUN_STYLES: tuple[tuple[str, LineStyle, str], ...] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", "--", "s"),
    ("#CC79A7", "-.", "^"),
    ("#000000", ":", "D"),
    ("#E69F00", "-", "v"),
    ("#56B4E9", "--", "P"),
)
INK = "#222222"
FAINT = "#777777"
# Lines and dots behind others of the same style.
PALE = "#B0B0B0"
JUMP_COLOR = "#D55E00"
TARGET_COLOR = "#00694D"
TARGET_BAND = "#CFEADF"
OTHER_BANDS = ("#EEF4FB", "#F5F5F5")


def ink_on(color: str) -> str:
    """Returns the ink that is readable on a colour, `white` or `black`."""
    red, green, blue = bytes.fromhex(color.removeprefix("#"))
    return "white" if 0.3 * red + 0.59 * green + 0.11 * blue < 255 / 2 else "black"
