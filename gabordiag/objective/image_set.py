"""Many images: which files of a folder can be used, and each in turn, padded, with its noise.

Nothing is kept but names: a picture is read when it is asked for, and again when it is asked for
again, so that a thousand images take no more memory than one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gabordiag.errors import InputError, UsageError
from gabordiag.images import FloatArray, require_there

# Called with (what is being done, images done, images in all).
ImageProgress = Callable[[str, int, int], None]

# What file managers leave behind; hidden files are passed over as well.
_NOT_MEANT = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
# Skipped files that an error names; the others are counted.
_MOST_NAMED = 3


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images that are used: sources (paths, built-in names or arrays), and names for people.

    `skipped` are file names that were left out, each with the reason, which reads on from the name.
    """

    sources: tuple[Any, ...]
    names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def part(self, indices: Sequence[int]) -> ImageSet:
        """Returns the set of some of the images."""
        sources, names = (tuple(of[i] for i in indices) for of in (self.sources, self.names))
        return ImageSet(sources, names)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "used": len(self),
            "skipped": [{"file": file, "why": why} for file, why in self.skipped],
        }


@dataclass(frozen=True, eq=False)
class Picture:
    """One image (H, W), extended for the padding, and the noise of its target response, if any."""

    name: str
    padded: Tensor
    noise: Tensor | None


def find_usable(
    images: str | Path | Sequence[Any],
    load: Callable[[Any], FloatArray],
    *,
    strict: bool = False,
    progress: ImageProgress | None = None,
) -> ImageSet:
    """Reads every image once, and returns those that can be used; if strict, all have to be.

    A folder's files are taken in the order of their names. Hidden files and what file managers
    leave (`Thumbs.db`, `desktop.ini`) are passed over; every other entry is taken for an image, and
    named where it is none. `load` returns the pixels of a source, or raises `InputError`.
    """
    listed = _listed(images)
    sources, names, skipped = [], [], []
    for done, (name, source) in enumerate(listed, 1):
        try:
            load(source)
        except InputError as error:
            skipped.append((_printable(name), _printable(_reason(error, source))))
        else:
            sources.append(source)
            names.append(_printable(name))
        if progress is not None:
            progress("reading images", done, len(listed))
    where = f" in {images}" if isinstance(images, (str, Path)) else ""
    if not sources:
        raise InputError(
            f"None of the {len(listed)} images{where} can be used: {_told(skipped)}.",
            "Give PNG, JPEG, TIFF or WebP images, or .npy arrays.",
        )
    if strict and skipped:
        raise InputError(
            f"{len(skipped)} of {len(listed)} images{where} cannot be used: {_told(skipped)}.",
            "Remove them, or leave out --strict to go on without them.",
        )
    return ImageSet(tuple(sources), tuple(names), tuple(skipped))


def target_noise(
    pixels: FloatArray, shape: tuple[int, int], deviation: float, seed: int
) -> FloatArray:
    """Returns the noise (rows, columns) of an image's target response.

    Its stream depends on the seed and on the image's own pixels alone, and so neither on the order
    of the images nor on which others are there. Nor is it the stream of a built-in image of the
    same seed, which would make the image its own noise.
    """
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).digest()
    generator = np.random.default_rng([seed, int.from_bytes(digest, "big")])
    return deviation * generator.standard_normal(shape)


def _listed(images: str | Path | Sequence[Any]) -> list[tuple[str, Any]]:
    """Returns (name, source) of everything that may be an image."""
    if isinstance(images, (str, Path)):
        return _folder(Path(images))
    listed = [
        (str(source), source) if isinstance(source, (str, Path)) else (f"array {index}", source)
        for index, source in enumerate(images)
    ]
    if not listed:
        raise UsageError("an empty list of images was given.", "Give at least one.")
    for _, source in listed:
        if isinstance(source, (str, Path)):
            require_there(source)
    return listed


def _folder(folder: Path) -> list[tuple[str, Any]]:
    try:
        if not folder.is_dir():
            what = f"{folder} is a file" if folder.exists() else f"No folder at {folder}"
            raise InputError(f"{what}.", "Give a folder with --images, single files with --image.")
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{folder} cannot be listed: {reason}.", "Give another folder.") from None
    meant = [e for e in entries if e.name[0] != "." and e.name.lower() not in _NOT_MEANT]
    if not meant:
        raise InputError(f"{folder} holds no images.", "Give a folder with images.")
    return [(entry.name, entry) for entry in meant]


def _reason(error: InputError, source: Any) -> str:
    """The error without the name that it begins with."""
    text = " ".join(error.problem.split()).rstrip(".")
    for beginning in (f"{source} ", "The image ", "the array "):
        if text.startswith(beginning):
            return text.removeprefix(beginning)
    return f"cannot be used: {text}"


def _printable(text: str) -> str:
    """A file name may hold any bytes; what is shown and saved is text."""
    decoded = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in decoded
    )


def _told(skipped: Sequence[tuple[str, str]]) -> str:
    named = "; ".join(f"{file} {why}" for file, why in skipped[:_MOST_NAMED])
    more = len(skipped) - _MOST_NAMED
    return f"{named}; and {more} more" if more > 0 else named
