"""Pictures in a row as a file: GIF with Pillow, MP4 where ffmpeg is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

_COLORS = 255


def to_gif(pictures: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Returns an endless GIF with one palette for all pictures.

    Args:
        pictures: RGB, of one size.
        milliseconds: How long each is shown.
    """
    palette = _palette(pictures)
    reduced = [_reduce(picture, palette) for picture in pictures]
    buffer = io.BytesIO()
    reduced[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=reduced[1:],
        duration=list(milliseconds),
        loop=0,
        optimize=False,
        disposal=1,
    )
    return buffer.getvalue()


def _reduce(picture: Image.Image, palette: Image.Image) -> Image.Image:
    reduced = picture.quantize(palette=palette, dither=Image.Dither.NONE)
    # Pillow looks colours up to six bits, which leaves a white ground slightly grey.
    codes = np.array(reduced)
    codes[(np.asarray(picture) == 255).all(axis=2)] = 0
    exact = Image.fromarray(codes, "P")
    exact.putpalette(palette.getpalette() or [])
    return exact


def _palette(pictures: Sequence[Image.Image]) -> Image.Image:
    """Colours that serve the first, the last, and some pictures in between."""
    some = [pictures[i] for i in np.linspace(0, len(pictures) - 1, 12).astype(int).tolist()]
    width, height = some[0].size
    sheet = Image.new("RGB", (width, height * len(some)))
    for row, picture in enumerate(some):
        sheet.paste(picture, (0, row * height))
    reduced = sheet.quantize(_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    found = reduced.getpalette() or []
    palette = Image.new("P", (1, 1))
    # Number 0 is the white of the ground.
    palette.putpalette([255, 255, 255, *found[: 3 * _COLORS]])
    return palette


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
