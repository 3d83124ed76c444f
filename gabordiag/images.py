"""Where images come from: files, arrays, or built-ins; always float64 matrices.

Everything that cannot be used is refused here with a sentence, so that whatever computes with it
may assume a finite, two-dimensional image that is larger than the kernel and not constant.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from gabordiag.choices import ImageName
from gabordiag.errors import InputError, UsageError, unknown_name

FloatArray = npt.NDArray[np.float64]

BUILT_IN: tuple[str, ...] = get_args(ImageName)
NORMALIZATIONS = ("none", "center", "standardize", "whiten")
# About the photograph's size; powers of two, which transforms are quick at.
SYNTHETIC_SHAPE = (512, 512)
# Above this many pixels a compressed file is taken for a decompression bomb: more than a camera
# makes, 0.7 GB as float64, and just below where Pillow itself begins to warn.
MAX_PIXELS = 89_000_000
# The loss is made of squares of responses; beyond these they overflow or vanish.
_SMALLEST, _LARGEST = 1e-100, 1e100
# What file managers leave behind; hidden files are passed over as well.
_NOT_MEANT = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
# Skipped files that an error names; the others are counted.
_MOST_NAMED = 3
# Called with (what is being done, images done, images in all).
ImageProgress = Callable[[str, int, int], None]


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
        skipped = [{"file": file, "why": why} for file, why in self.skipped]
        return {"used": len(self), "skipped": skipped}


def load_image(
    source: str | Path | npt.ArrayLike,
    *,
    pixel_scale: float = 1.0,
    normalize: str = "none",
    seed: int = 0,
) -> FloatArray:
    """Returns the image as a float64 matrix of shape (rows, columns).

    The source is a PNG, JPEG, TIFF or WebP path; the path of a `.npy` file with a 2-D array; a 2-D
    array; or one of `BUILT_IN`: `hopper` (the photograph that matplotlib ships), `noise` (white),
    `pink` (1/f amplitude spectrum). Grey values of 8-bit files are divided by 255, of 16-bit files
    by 65535, arrays are used as they are; then `pixel_scale` multiplies them (255 imitates
    un-normalised 8-bit input), and they are normalised: `none`, `center` (subtract the mean),
    `standardize` (and divide by the standard deviation) or `whiten` (standardize, with a flat
    spectrum). The seed is that of the synthetic images.
    """
    if normalize not in NORMALIZATIONS:
        raise unknown_name("normalization", normalize, NORMALIZATIONS)
    if not np.isfinite(pixel_scale) or pixel_scale == 0:
        raise UsageError(f"pixel scale {pixel_scale} is not a finite number other than 0.")
    if isinstance(source, (str, Path)):
        name = str(source)
        image = _built_in(name, seed) if name in BUILT_IN else _from_file(Path(name))
    else:
        name = "the array"
        try:
            array = np.asarray(source)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"The image is no array of numbers ({_first_line(error)}).",
                "Pass a two-dimensional NumPy array.",
            ) from None
        image = _checked_array(array, name)
    _validate(image, name, pixel_scale)
    image = image * pixel_scale
    if normalize == "whiten":
        image = _flatten_spectrum(image)
    if normalize != "none":
        image = image - image.mean()
    if normalize in ("standardize", "whiten"):
        image = image / image.std()
    return image


def validate_seed(seed: object) -> None:
    """Refuses a seed that one of the generators of NumPy, torch and Python does not take."""
    if not (isinstance(seed, (int, np.integer)) and 0 <= seed < 2**32):
        raise UsageError(
            f"the seed {seed} is not one that NumPy takes.",
            "Give a whole number from 0 to 2^32 - 1.",
        )


def require_there(source: str | Path) -> None:
    """Refuses the name of a file that is not there; who names one means it."""
    with _opening(source):
        if str(source) not in BUILT_IN and not Path(source).exists():
            names = ", ".join(BUILT_IN)
            raise InputError(
                f"No image at {source}.", f"Give a file, or one of the built-ins {names}."
            )


def require_larger_than_kernel(image: FloatArray, kernel_size: int) -> None:
    """Refuses an image in which the kernel has no place."""
    side = min(image.shape)
    if side < kernel_size:
        rows, columns = image.shape
        largest = side - (side + 1) % 2
        smaller = f", or --kernel-size {largest}" if largest >= 3 else ""
        raise InputError(
            f"The image has {rows} x {columns} pixels, too few for a kernel of side {kernel_size}.",
            f"Use a larger image{smaller}.",
        )


def _flatten_spectrum(image: FloatArray) -> FloatArray:
    """Keeps the phases of the discrete Fourier transform and sets all amplitudes to 1.

    What an image prefers in orientation and scale lies in the amplitudes; frequencies that are
    absent to rounding (1e-12 of the largest; an FFT rounds at some 1e-15) stay absent.
    """
    spectrum = np.fft.rfft2(image)
    amplitude = np.abs(spectrum)
    present = amplitude > 1e-12 * amplitude.max()
    flat = np.divide(spectrum, amplitude, out=np.zeros_like(spectrum), where=present)
    return np.fft.irfft2(flat, s=image.shape)


def _validate(image: FloatArray, name: str, pixel_scale: float) -> None:
    if not np.isfinite(image).all():
        bad = int(image.size - np.isfinite(image).sum())
        raise InputError(
            f"{name} holds {bad} values that are NaN or infinite.",
            "Replace them first, for example with numpy.nan_to_num.",
        )
    if image.size == 0 or image.min() == image.max():
        raise InputError(
            f"{name} is constant, so its response says nothing about a filter.",
            "Use an image with some texture.",
        )
    largest = float(np.abs(image).max()) * abs(pixel_scale)
    if not _SMALLEST <= largest <= _LARGEST:
        raise InputError(
            f"{name} holds values up to {largest:.3g}, whose squares a double cannot hold.",
            f"Scale it to between {_SMALLEST:g} and {_LARGEST:g}, for example with --pixel-scale.",
        )


def _checked_array(array: npt.NDArray[np.generic], name: str) -> FloatArray:
    if array.ndim != 2:
        raise InputError(
            f"{name} has shape {array.shape}, but a grey image is two-dimensional.",
            "Pass one channel, for example array.mean(axis=-1).",
        )
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
        raise InputError(
            f"{name} holds {array.dtype} values, not numbers.", "Convert it to a numeric type."
        )
    if np.iscomplexobj(array):
        raise InputError(
            f"{name} is complex; a Gabor response needs a real image.", "Pass its magnitude."
        )
    return np.array(array, dtype=np.float64)


def _built_in(name: str, seed: int) -> FloatArray:
    if name == "hopper":
        return _from_file(_hopper_path())
    white = np.random.default_rng(seed).standard_normal(SYNTHETIC_SHAPE)
    if name == "noise":
        return white
    # Amplitude spectrum 1/f (power 1/f^2), the natural images' own (Field 1987,
    # doi 10.1364/JOSAA.4.002379); the mean is dropped, the deviation set to 1.
    rows, columns = SYNTHETIC_SHAPE
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None, :])
    frequency[0, 0] = np.inf
    pink = np.fft.irfft2(np.fft.rfft2(white) / frequency, s=SYNTHETIC_SHAPE)
    return np.asarray(pink / pink.std())


def _hopper_path() -> Path:
    # Located without importing matplotlib, which costs a third of a second.
    spec = importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise InputError(
            "The built-in photograph comes with matplotlib, which is not installed.",
            "Install matplotlib, or give an image of your own.",
        )
    return Path(spec.origin).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"


@contextmanager
def _opening(path: str | Path) -> Iterator[None]:
    """Says of a file that cannot be opened why."""
    try:
        yield
    except PermissionError:
        raise InputError(f"{path} may not be read.", "Check its permissions.") from None
    except OSError as error:
        reason = error.strerror or _first_line(error)
        raise InputError(f"{path} cannot be opened: {reason}.", "Give another file.") from None


def _from_file(path: Path) -> FloatArray:
    require_there(path)
    with _opening(path):
        if path.is_dir():
            raise InputError(f"{path} is a folder, not an image.", "Give one file.")
        if path.suffix.lower() == ".npy":
            return _checked_array(read_npy(path), str(path))
        return _from_picture(path)


def read_npy(path: Path) -> npt.NDArray[np.generic]:
    """Returns the array of a .npy file."""
    try:
        with _opening(path), path.open("rb") as stream:
            array = np.load(stream, allow_pickle=False)
    except InputError:
        raise
    except Exception as error:  # NumPy's readers fail on damaged files in a dozen ways
        raise InputError(
            f"{path} is no plain .npy array ({_first_line(error)}).",
            "Save it with numpy.save and without pickled objects.",
        ) from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds an archive, not one array.", "Save it with numpy.save.")
    return array


def _from_picture(path: Path) -> FloatArray:
    try:
        with warnings.catch_warnings():
            # What Pillow warns of (palette transparency, odd tags) leaves the grey values usable.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                if math.prod(picture.size) > MAX_PIXELS:
                    raise Image.DecompressionBombError
                return _grey(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(
            f"{path} would unpack to more than {MAX_PIXELS // 1_000_000} million pixels, "
            "which looks like a decompression bomb.",
            "Scale it down first.",
        ) from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is not an image that Pillow can read.",
            "Use PNG, JPEG, TIFF or WebP, or a .npy array.",
        ) from None
    except PermissionError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is damaged: {_first_line(error)}.", "Save or download it again."
        ) from None


def _grey(picture: Image.Image) -> FloatArray:
    if picture.mode == "F":
        return np.asarray(picture, dtype=np.float64)
    if picture.mode.startswith("I"):  # 16 bits; some of them Pillow opens as 32-bit integers
        return np.asarray(picture, dtype=np.float64) / 65535
    return np.asarray(picture.convert("L"), dtype=np.float64) / 255


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0].rstrip(".") if text else type(error).__name__


def find_usable(
    images: str | Path | Sequence[Any],
    load: Callable[[Any], FloatArray],
    *,
    strict: bool,
    progress: ImageProgress | None,
) -> ImageSet:
    """Reads every image once, and returns those that can be used; if strict, all have to be.

    A folder's files are taken in the order of their names. Hidden files and what file managers
    leave (`Thumbs.db`, `desktop.ini`) are passed over; every other entry is taken for an image, and
    named where it is none.
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
