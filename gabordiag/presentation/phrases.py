"""What all tellers say in the same words: numbers, values, ranges; verdict, causes and cures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gabordiag.presentation.blocks import Block, Heading, Table, Verdict
from gabordiag.wording import significant_figures

Json = Mapping[str, Any]


def number(value: float | None, digits: int = 4) -> str:
    """Returns a number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}"


def shown(landscape: Json, value: float | None, digits: int = 2) -> str:
    """Returns a value of the parameter for people: degrees for angles, with its unit."""
    if value is None:
        return "–"
    if landscape["unit"] == "rad":
        text = f"{math.degrees(value):.{digits}f}"
        # A zero has no sign.
        return f"{text.removeprefix('-') if float(text) == 0 else text}°"
    count = digits + 2
    if "tolerance" in landscape:
        low, high = landscape["range"]
        count = significant_figures(value, low, high, landscape["tolerance"], digits)
    return f"{value:.{count}g} {landscape['unit']}".strip()


def wrapped(landscape: Json, value: float | None) -> str:
    """Returns a value folded into one period, for people."""
    period = landscape["period"]
    if value is None or period is None:
        return shown(landscape, value)
    return shown(landscape, (value + period / 2) % period - period / 2)


def span(landscape: Json, interval: Sequence[float] | None) -> str:
    """Returns an interval of the parameter for people."""
    if interval is None:
        return "–"
    return f"{shown(landscape, interval[0], 1)} … {shown(landscape, interval[1], 1)}"


def exact_derivative(landscape: Json) -> str:
    """Returns what a sweep's exact derivative is, in words."""
    # One's own objective has no closed form: its values' own derivative stands in.
    is_own = landscape["gradient_check"]["shortcut_vs_direct"] is None
    return "derivative of its values" if is_own else "closed form"


def verdict(result: Json) -> Verdict:
    """Returns the sentence that a diagnosis begins with."""
    good = result["verdict"] in ("healthy", "equivalent_solution")
    return Verdict(result["headline"], result["verdict"], good)


_ROLES = {"primary": "cause", "contributing": "adds to it", "ruled_out": "ruled out"}


def findings(result: Json) -> list[Block]:
    """Returns the suspects with what was measured of each."""
    rows = tuple(
        (_ROLES[f["role"]], f["cause"].replace("_", " "), f["explanation"])
        for f in result["findings"]
    )
    return [Heading("Why"), Table(("role", "suspect", "measured"), rows)]


def remedies(result: Json) -> list[Block]:
    """Returns the cures that were tried."""
    if not result["remedies"]:
        return []
    rows = tuple(
        (
            "works" if remedy["works"] else "does not",
            remedy["name"].replace("_", " "),
            remedy["change"],
            remedy["outcome"].replace("_", " "),
        )
        for remedy in result["remedies"]
    )
    return [Heading("What helps, each one tried"), Table(("", "remedy", "change", "ends"), rows, 3)]


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
