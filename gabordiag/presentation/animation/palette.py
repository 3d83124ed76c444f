"""Pictures of few colours: a palette in which the colours that mean something stay as they are.

256 colours make a third of the file. A palette that is free to choose would shift the outcomes'
colours, which the legends explain.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

from gabordiag.presentation.figures.style import (
    BAND_STYLES,
    INK,
    OTHER_BANDS,
    OUTCOME_COLORS,
    POINT_STYLES,
    RUN_STYLES,
    TARGET_BAND,
    TARGET_COLOR,
)

# White first: the ground of all pictures.
_FIXED = tuple(
    dict.fromkeys(
        (
            "#ffffff",
            INK,
            TARGET_COLOR,
            TARGET_BAND,
            *OTHER_BANDS,
            *OUTCOME_COLORS.values(),
            *(face for _, face, _ in POINT_STYLES.values() if face != "white"),
            *(color for color, _, _ in RUN_STYLES),
            *(color for color, _ in BAND_STYLES.values()),
        )
    )
)


def palette_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """Returns a palette of 256 colours that serves all pictures, as Pillow's `quantize` takes it.

    Args:
        pictures: RGB, of one size.
    """
    fixed = [round(255 * part) for color in _FIXED for part in to_rgb(color)]
    width, height = pictures[0].size
    sheet = Image.new("RGB", (width, height * len(pictures)))
    for row, picture in enumerate(pictures):
        sheet.paste(picture, (0, row * height))
    free = 256 - len(fixed) // 3
    found = sheet.quantize(free, dither=Image.Dither.NONE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed, *found[: 3 * free]])
    return palette


def reduce_to(palette: Image.Image, picture: Image.Image) -> Image.Image:
    """Returns an RGB picture in the colours of a palette."""
    reduced = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    # Pillow looks colours up to six bits, which leaves a white ground slightly grey.
    codes = np.array(reduced)
    codes[(np.asarray(picture) == 255).all(axis=2)] = 0
    exact = Image.fromarray(codes, "P")
    exact.putpalette(palette.getpalette() or [])
    return exact
