"""What is said about the loss over two parameters: what was found on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gabordiag.presentation.blocks import Block, Heading, Paragraph, Picture, Table
from gabordiag.presentation.phrases import number, shown, span
from gabordiag.wording import counted

Json = Mapping[str, Any]


def surface(result: Json) -> list[Block]:
    """Returns what a surface says, with its two pictures."""
    told = points_found(result)
    return [
        Heading("The surface"),
        told[0],
        Picture("surface"),
        *told[1:],
        Picture("surface-in-space"),
    ]


def points_found(result: Json) -> list[Block]:
    """Returns what was found over two parameters: a sentence, then the minima and saddles."""
    axes = [{"unit": unit} for unit in result["units"]]
    names, minima, saddles = result["parameters"], result["local_minima"], result["saddles"]
    ranges = [
        f"{name} over {span(axis, ends)}"
        for name, axis, ends in zip(names, axes, result["ranges"], strict=True)
    ]
    targets = sum(point["is_target"] for point in minima)
    which = "" if len(minima) == targets == 1 else f"{targets or 'none'} of them "
    text = (
        f"{' and '.join(ranges)}: {counted(len(minima), 'minimum', 'minima')}"
        + (f" ({which}the target)" if minima else "")
        + f" and {counted(len(saddles), 'saddle', 'saddles')} found, {result['found']}."
    )
    told: list[Block] = [Paragraph(text)]
    if result["edge_minima"]:
        places = [
            f"{', '.join(shown(axis, p[n]) for n, axis in zip(names, axes, strict=True))} "
            f"(loss {number(p['loss'])})"
            for p in result["edge_minima"][:4]
        ]
        more = len(result["edge_minima"]) - len(places)
        also = f" and {more} more places" if more else ""
        told.append(
            Paragraph(
                f"At the edge of the range the loss falls on outward at {'; '.join(places)}{also}: "
                "a descent may leave the range there."
            )
        )
    rows = tuple(
        (
            *(shown(axis, point[name], 3) for name, axis in zip(names, axes, strict=True)),
            point["kind"] + (", the target" if point["is_target"] else ""),
            # A kink is a zero: what is computed there is rounding.
            number(0.0 if point["kind"] == "kink" else point["loss"]),
            _bending(point),
            number(point["stable_lr"], 3),
        )
        for point in [*minima, *saddles]
    )
    if rows:
        columns = (*names, "kind", "loss", "eigenvalues", "2 / largest")
        told.append(Table(columns, rows))
    return told


def _bending(point: Json) -> str:
    if point["eigenvalues"] is None:
        return "slopes " + ", ".join(f"±{number(slope)}" for slope in point["slopes"])
    return ", ".join(map(number, point["eigenvalues"]))
