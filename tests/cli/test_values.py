"""Texts that stand for numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gabordiag.cli.values import Grid, Over, parse_angle, parse_grid, parse_over, parse_range
from gabordiag.errors import UsageError

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("text", "radians"),
    [
        ("0", 0.0),
        ("0.5", 0.5),
        ("-1e-3", -0.001),
        (".25", 0.25),
        ("pi", 3.141592653589793),
        ("-pi", -3.141592653589793),
        ("+pi/2", 1.5707963267948966),
        ("pi/4", 0.7853981633974483),
        ("-pi/4", -0.7853981633974483),
        ("3*pi/4", 2.356194490192345),
        ("-3*pi/4", -2.356194490192345),
        ("2pi", 6.283185307179586),
        ("PI/4", 0.7853981633974483),
        ("3 * pi / 4", 2.356194490192345),
        ("0.25*pi", 0.7853981633974483),
        ("45deg", 0.7853981633974483),
        ("-45deg", -0.7853981633974483),
        ("22.5 deg", 0.39269908169872414),
        ("90°", 1.5707963267948966),
        (" 1.5 ", 1.5),
    ],
)
def test_angles(text: str, radians: float) -> None:
    assert parse_angle(text) == pytest.approx(radians, rel=1e-15, abs=0)


@given(FINITE)
def test_numbers_come_back_to_the_bit(value: float) -> None:
    assert parse_angle(repr(value)) == value
    # typer hands defaults on as numbers.
    assert parse_angle(value) == value


@given(st.floats(-1e6, 1e6))
def test_degrees_are_degrees(value: float) -> None:
    # repr writes exponents for small values, and those are numbers, too.
    assert parse_angle(f"{value!r}deg") == pytest.approx(value * math.pi / 180, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    ["abc", "", "pi/", "pi/0", "/4", "4/pi", "pi*pi", "45 degrees", "nan", "inf", "-inf", "1,5",
     "--3", "pie", "1e999", "0x10", "pi/4deg"],
)  # fmt: skip
def test_no_angles(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_angle(text)
    assert text in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_grid() -> None:
    assert parse_grid("1e-4:10:241") == Grid(1e-4, 10.0, 241)
    assert parse_grid("-pi/2:pi/2:361") == Grid(-math.pi / 2, math.pi / 2, 361)


@pytest.mark.parametrize("text", ["", "1", "1:2", "1:2:3:4", "a:2:3", "1:b:3", "1:2:c", "1:2:3.5"])
def test_no_grids(text: str) -> None:
    with pytest.raises(UsageError):
        parse_grid(text)


def test_range() -> None:
    assert parse_range("0:2") == (0.0, 2.0)
    assert parse_range("-45deg:pi/4") == pytest.approx((-math.pi / 4, math.pi / 4))


@pytest.mark.parametrize("text", ["", "1", "2:1", "1:1", "1:2:3", "x:1", "0:y"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(UsageError):
        parse_range(text)


def test_over() -> None:
    assert parse_over("theta") == Over("theta")
    assert parse_over("sigma:2:8") == Over("sigma", 2.0, 8.0)
    assert parse_over("theta:-pi/2:90deg:101") == Over("theta", -math.pi / 2, math.pi / 2, 101)


@pytest.mark.parametrize(
    "text", ["", ":1:2", "theta:1", "theta:1:2:3:4", "theta:a:2", "theta:1:2:x"]
)
def test_nothing_to_sweep(text: str) -> None:
    with pytest.raises(UsageError):
        parse_over(text)
