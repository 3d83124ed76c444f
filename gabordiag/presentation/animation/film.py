"""Pictures in a row as a file: GIF with Pillow, MP4 where ffmpeg is installed.

One palette for all pictures keeps the file small and the colours from flickering. 256 colours make
a third of the file; those that mean something stay as they are, for the legends explain them.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gabordiag.presentation import colors

# White first: the ground of all pictures.
_FIXED = tuple(dict.fromkeys([
    "#ffffff", colors.INK, colors.TARGET_COLOR, colors.TARGET_BAND, *colors.OTHER_BANDS,
    *colors.OUTCOME_COLORS.values(),
    *(face for _, face, _ in colors.POINT_STYLES.values() if face != "white"),
    *(color for color, *_ in [*colors.RUN_STYLES, *colors.BAND_STYLES.values()]),
]))  # fmt: skip


def to_gif(pictures: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Returns an endless GIF with one palette for all pictures, RGB of one size."""
    # Some pictures stand for all: the first, the last, and others in between.
    some = np.linspace(0, len(pictures) - 1, 12).astype(int).tolist()
    palette = palette_of([pictures[index] for index in some])
    first, *others = (reduce_to(palette, picture) for picture in pictures)
    buffer = io.BytesIO()
    how: dict[str, Any] = {"duration": list(milliseconds), "loop": 0, "disposal": 1}
    first.save(buffer, format="GIF", save_all=True, append_images=others, optimize=False, **how)
    return buffer.getvalue()


def to_mp4(gif: bytes) -> bytes | None:
    """Returns the same film as MP4, or None where ffmpeg is missing or fails."""
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "run.gif", Path(folder) / "run.mp4"
        source.write_bytes(gif)
        # yuv420p is what browsers and slides play; bitexact leaves out the version and the day.
        how = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-fflags", "+bitexact"]
        command = [program, "-loglevel", "error", "-i", str(source), *how, str(target)]
        done = subprocess.run(command, capture_output=True, check=False)
        return target.read_bytes() if done.returncode == 0 and target.exists() else None


def to_small_png(png: bytes) -> bytes:
    """Returns a PNG in 256 colours."""
    with Image.open(io.BytesIO(png)) as file:
        picture = file.convert("RGB")
    buffer = io.BytesIO()
    reduce_to(palette_of([picture]), picture).save(buffer, format="PNG")
    return buffer.getvalue()


def palette_of(pictures: Sequence[Image.Image]) -> Image.Image:
    """Returns a palette of 256 colours for all pictures, as Pillow's `quantize` takes it."""
    fixed = [part for color in _FIXED for part in bytes.fromhex(color[1:])]
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
