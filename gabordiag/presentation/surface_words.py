"""The loss over two parameters in words: the minima and saddles that were found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gabordiag.presentation.blocks import Block, Heading, Paragraph, Picture, Table
from gabordiag.presentation.figures.surface import surface_axes
from gabordiag.presentation.phrases import number, show_interval
from gabordiag.wording import counted

Json = Mapping[str, Any]


def surface(result: Json) -> list[Block]:
    """Returns what a surface says, with its two pictures."""
    blocks = points_found(result)
    return [
        Heading("The surface"),
        blocks[0],
        Picture("surface"),
        *blocks[1:],
        Picture("surface-in-space"),
    ]


def points_found(result: Json) -> list[Block]:
    """Returns what was found over two parameters: a sentence, then the minima and saddles."""
    axes = [axis.parameter for axis in surface_axes(result)]
    names, minima, saddles = result["parameters"], result["local_minima"], result["saddles"]
    ranges = [
        f"{name} over {show_interval(axis, ends)}"
        for name, axis, ends in zip(names, axes, result["ranges"], strict=True)
    ]
    targets = sum(point["is_target"] for point in minima)
    which = "" if len(minima) == targets == 1 else f"{targets or 'none'} of them "
    text = (
        f"{' and '.join(ranges)}: {counted(len(minima), 'minimum', 'minima')}"
        + (f" ({which}the target)" if minima else "")
        + f" and {counted(len(saddles), 'saddle', 'saddles')} found, {result['found']}."
    )
    blocks: list[Block] = [Paragraph(text)]
    if result["edge_minima"]:
        places = [
            f"{', '.join(axis.show(p[n]) for n, axis in zip(names, axes, strict=True))} "
            f"(loss {number(p['loss'])})"
            for p in result["edge_minima"][:4]
        ]
        more = len(result["edge_minima"]) - len(places)
        also = f" and {more} more places" if more else ""
        blocks.append(
            Paragraph(
                f"At the edge of the range the loss falls on outward at {'; '.join(places)}{also}: "
                "a descent may leave the range there."
            )
        )
    rows = tuple(
        (
            *(axis.show(point[name], 3) for name, axis in zip(names, axes, strict=True)),
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
        blocks.append(Table(columns, rows))
    return blocks


def _bending(point: Json) -> str:
    if point["eigenvalues"] is None:
        return "slopes " + ", ".join(f"±{number(slope)}" for slope in point["slopes"])
    return ", ".join(map(number, point["eigenvalues"]))
