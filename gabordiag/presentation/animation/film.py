"""Pictures in a row as a file: GIF with Pillow, MP4 where ffmpeg is installed.

One palette for all pictures keeps the file small and the colours from flickering.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gabordiag.presentation.animation.palette import palette_of, reduce_to


def to_gif(pictures: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """Returns an endless GIF with one palette for all pictures.

    Args:
        pictures: RGB, of one size.
        milliseconds: How long each is shown.
    """
    # Some pictures stand for all: the first, the last, and others in between.
    some = np.linspace(0, len(pictures) - 1, 12).astype(int).tolist()
    palette = palette_of([pictures[index] for index in some])
    reduced = [reduce_to(palette, picture) for picture in pictures]
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
