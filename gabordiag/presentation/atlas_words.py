"""What an atlas says: where a filter lies, what can be learned, how well that predicts."""

from __future__ import annotations

import math

import numpy as np

from gabordiag.charting.atlas import Atlas
from gabordiag.charting.engine import AtlasPlan
from gabordiag.presentation.blocks import Block, Heading, Listing, Paragraph, Picture, Table
from gabordiag.presentation.phrases import share_words
from gabordiag.results import View


def atlas(found: Atlas) -> list[Block]:
    """Returns where the asked filter lies, the charts, and how well they predict."""
    result = found.to_dict()
    arrive = np.nanmean(found.columns["reachable_share"], axis=(0, 2, 3, 4, 5))
    rows = [
        (loss, share_words(share), share_words(there))
        for (loss, share), there in zip(result["learnable"].items(), arrive, strict=True)
    ]
    settings = result["settings"]
    start, target = (f"{math.degrees(settings[n]):.0f}°" for n in ("theta0", "target_theta"))
    kept = f"{result['certified']} of {result['landscapes']} lists of minima are proven complete."
    columns = ("loss", "learned from the start", "starts that arrive at the best rate")
    blocks: list[Block] = [
        Heading("Where your filter lies"),
        Listing(tuple(place["sentence"] for place in result["places"])),
        Heading("Which filters can be learned"),
        Paragraph(
            f"Start {start}, target {target}, {settings['steps']} steps of plain descent. Learned "
            "means: the target is reached at learning rates over a factor of two or more. Their "
            "natural unit is 1 / curvature at the target; at a kink, what its slope turns into a "
            "step of one degree."
        ),
        Table(columns, tuple(rows)),
        Picture("atlas"),
        *(
            Picture(f"atlas-{math.degrees(psi):.0f}deg")
            for psi in dict.fromkeys(chart.psi for chart in found.charts[1:])
            if psi != found.charts[0].psi
        ),
        Paragraph(f"{kept} Quantities of every landscape are in atlas.zarr."),
    ]
    score = result["prediction"]
    if score is None:
        return blocks
    worst, hardest = score["worst_image"], score["hardest_filter"]
    return [
        *blocks,
        Heading("Does it hold for another image?"),
        Paragraph(
            f"Each image, predicted from the others: {share_words(score['accuracy'])} of its "
            "filters are rightly said to be learnable or not (the commoner answer alone would be "
            f"right on {share_words(score['baseline'])}). {score['promised_but_fails']} are "
            f"promised and fail, {score['missed']} can be learned against it."
        ),
        Listing(
            (
                f"Right at the border, where 20% to 80% of the images learn the filter: "
                f"{_among(score['at_border'])}; elsewhere: {_among(score['elsewhere'])}.",
                f"The rate that the other images suggest, in natural units, works on "
                f"{_among(score['rate_works'])} of those that are rightly called learnable.",
                f"Least well predicted: {worst['image']} ({share_words(worst['accuracy'])}), and "
                f"the filter with wavelength {hardest['wavelength']:.3g} px, "
                f"gamma {hardest['gamma']:.3g}, sigma {hardest['sigma']:.3g} px "
                f"({share_words(hardest['accuracy'])}).",
            )
        ),
    ]


def atlas_plan(view: View) -> list[Block]:
    """Returns how much work an atlas would be."""
    return [Paragraph(f"{AtlasPlan(**view.result).words()}.")]


def _among(share: float | None) -> str:
    return "there are none" if share is None else share_words(share)
