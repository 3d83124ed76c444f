"""Colours that stand together differ in a grey print and for colour-blind readers.

Computed here from the standards: sRGB (IEC 61966-2-1), CIE L*a*b* for D65 with the difference of
1976, and the matrices of Machado, Oliveira & Fernandes (2009) for severity 1.0. Where two colours
are too close, another mark tells them apart, which is asserted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest

from gabordiag.presentation.colors import (
    BAND_STYLES,
    FAINT,
    INK,
    JUMP_COLOR,
    OUTCOME_COLORS,
    PALE,
    POINT_STYLES,
    RUN_STYLES,
    TARGET_COLOR,
)

Array = npt.NDArray[np.float64]
VISIONS: dict[str, Array] = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
# Of lightness (0 to 100) and of colour: several times what is just noticed, about 1 and 2.3.
LIGHTNESS, COLOUR = 8.0, 12.0


def lab(color: str, vision: str = "normal") -> Array:
    """L*, a* and b* of `#RRGGBB`, as someone sees it."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(VISIONS[vision] @ linear, 0, 1) / TO_XYZ.sum(axis=1)
    knee = 6 / 29
    f = np.where(xyz > knee**3, np.cbrt(xyz), xyz / (3 * knee**2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def too_close(one: str, other: str) -> list[str]:
    """For whom two colours are too close."""
    found = [
        vision
        for vision in VISIONS
        if np.linalg.norm(lab(one, vision) - lab(other, vision)) < COLOUR
    ]
    is_same_grey = abs(lab(one)[0] - lab(other)[0]) < LIGHTNESS
    return found + ["a grey print"] * bool(is_same_grey)


def confused(colors: Iterable[tuple[object, str]]) -> set[frozenset[object]]:
    """Names of the colours that are too close for someone."""
    pairs = itertools.combinations(list(colors), 2)
    return {frozenset((one, other)) for (one, a), (other, b) in pairs if too_close(a, b)}


def test_the_formulas_have_their_known_values() -> None:
    # The lightness of sRGB's primaries, and white, as in CIE's tables.
    for color, expected in (
        ("#FFFFFF", (100, 0, 0)),
        ("#FF0000", (53.24, 80.09, 67.20)),
        ("#00FF00", (87.73, -86.18, 83.18)),
        ("#0000FF", (32.30, 79.19, -107.86)),
    ):
        np.testing.assert_allclose(lab(color), expected, atol=0.05)
    for vision, matrix in VISIONS.items():
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=2e-6)
        np.testing.assert_allclose(lab("#808080", vision), lab("#808080"), atol=1e-3)
    # What they are known to confuse, others do not.
    assert np.linalg.norm(lab("#B04000", "deuteranopia") - lab("#707000", "deuteranopia")) < 20
    assert np.linalg.norm(lab("#B04000") - lab("#707000")) > 40


@pytest.mark.parametrize(
    ("one", "other"), list(itertools.combinations(OUTCOME_COLORS, 2)), ids="-".join
)
def test_outcomes_differ_for_everyone(one: str, other: str) -> None:
    # In a map any two may touch, and only large regions have room for words.
    assert too_close(OUTCOME_COLORS[one], OUTCOME_COLORS[other]) == []


def test_outcomes_differ_where_a_program_makes_them_grey() -> None:
    # Not by lightness: by the weights of Rec. 601, as most do without linearisation.
    weights = np.array([0.299, 0.587, 0.114])
    luma = sorted(float(weights @ list(bytes.fromhex(c[1:]))) for c in OUTCOME_COLORS.values())
    assert np.diff(luma).min() > 10


def test_runs_of_one_line_style_differ_for_everyone() -> None:
    # In the shares of the gradient lines have no markers.
    for style in {style for _, style, _ in RUN_STYLES}:
        assert not confused((c, c) for c, line, _ in RUN_STYLES if line == style)
    marks = [(line, marker) for _, line, marker in RUN_STYLES]
    assert len({marker for _, marker in marks}) == len(marks)


def test_critical_points_differ_by_their_markers() -> None:
    assert len({marker for marker, _, _ in POINT_STYLES.values()}) == len(POINT_STYLES)
    assert not confused(
        (name, face.replace("white", "#FFFFFF")) for name, (_, face, _) in POINT_STYLES.items()
    )


def test_bands_that_are_close_differ_by_their_hatches() -> None:
    close = confused((name, color) for name, (color, _) in BAND_STYLES.items())
    assert frozenset(("settled", "other")) in close
    for pair in close:
        assert len({BAND_STYLES[str(name)][1] for name in pair}) == 2, pair


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        ("#003E66", PALE, "the mismatch of a sweep: compared or not, autograd"),
        ("#D55E00", PALE, "the mismatch of a sweep: compared or not, differences"),
        (RUN_STYLES[0][0], PALE, "the loss of a training: smoothed or of each batch"),
        (RUN_STYLES[0][0], JUMP_COLOR, "a run and its jumps"),
        ("#9CCBEB", "#003E66", "two derivatives of a sweep"),
        (TARGET_COLOR, INK, "target and start"),
        (INK, FAINT, "a curve and its zero"),
    ],
)
def test_lines_of_one_style_differ_for_everyone(one: str, other: str, where: str) -> None:
    assert too_close(one, other) == [], where
