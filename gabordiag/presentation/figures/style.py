"""The one style sheet; how a figure is begun, and turned into bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from colorsys import hls_to_rgb, rgb_to_hls
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Tick
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.text import Text
from matplotlib.ticker import LogLocator

from gabordiag.presentation.colors import OUTCOME_COLORS
from gabordiag.presentation.figures.sheets import current_sheet, fit, keep_panel

# The label of words whose ink was chosen for what they stand on.
ON_MAP = "_on map"
_SWATCHES = {color.lower() for color in OUTCOME_COLORS.values()}

Rgb = tuple[float, float, float]
# Between its largest and smallest part: colours below are a grey.
_GREY = 0.09
_LARGEST = 1e270
_ground: ContextVar[Rgb] = ContextVar("ground", default=(1.0, 1.0, 1.0))

# What each format would otherwise stamp with the day or the version it was written by.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class _Decades(LogLocator):
    """Powers of ten, of which those beyond the largest double are no ticks."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Returns the ticks between two values, and one beyond each."""
        with np.errstate(over="ignore"):
            ticks = np.asarray(super().tick_values(vmin, vmax))
        return ticks[np.isfinite(ticks)]


def drawable(losses: npt.NDArray[np.float64], most: float = _LARGEST) -> npt.NDArray[np.float64]:
    """Returns losses without those above the most, which leaves room for an axis's margin."""
    return np.where(np.abs(losses) < min(most, _LARGEST), losses, np.nan)


def log_losses(ax: Axes) -> None:
    """Makes the vertical axis logarithmic, for losses of any size."""
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(_Decades())
    ax.yaxis.set_minor_locator(_Decades(subs=None))


@contextmanager
def drawing() -> Iterator[None]:
    """Draws in one style; the caller's settings of matplotlib neither matter nor change."""
    sheets = ["default", "gabordiag.presentation.figures.gabordiag"]
    with matplotlib.style.context(sheets, after_reset=True):
        yield


def pyplot_axes(width: float, height: float) -> Axes:
    """Returns pyplot's current Axes while they are empty, otherwise those of a new figure."""
    # Of all drawings only these have to do with pyplot's figures.
    from matplotlib import pyplot

    if pyplot.get_fignums() and not (ax := pyplot.gca()).has_data():
        return ax
    ax = pyplot.figure(figsize=(width, height), layout="constrained").subplots()
    pyplot.sca(ax)
    return ax


@contextmanager
def drawing_in_style_of(ax: Axes) -> Iterator[None]:
    """Draws into an Axes: white and black become its own ground and ink, and what lies between.

    On a dark ground, colours keep their hue and turn light where they were dark. The colours of a
    map and of the regions that explain it stay.
    """
    root = ax.figure
    known = {id(artist) for artist in root.findobj()}
    ground = to_rgb(ax.get_facecolor() if to_rgba(ax.get_facecolor())[3] else root.get_facecolor())
    ink = to_rgb(ax.xaxis.label.get_color())
    token = _ground.set(ground)
    try:
        with drawing():
            yield
    finally:
        _ground.reset(token)
    if (ground, ink) != ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
        # An axis makes ticks when it needs them, like its first one.
        known |= {id(part) for tick in root.findobj(Tick) for part in tick.findobj()}
        for artist in root.findobj(lambda artist: id(artist) not in known):
            _recolor(artist, ground, ink)


# The colours of each kind of artist. A map's come from its numbers.
_PARTS: dict[type[Artist], tuple[str, ...]] = {
    Line2D: ("color", "markerfacecolor", "markeredgecolor"),
    Text: ("color",),
    Patch: ("facecolor", "edgecolor"),
    Collection: ("facecolor", "edgecolor"),
}


def _recolor(artist: Artist, ground: Rgb, ink: Rgb) -> None:
    if isinstance(artist, Axes):
        artist.tick_params(color=ink, labelcolor=ink)
    if isinstance(artist, Text) and (box := artist.get_bbox_patch()) is not None:
        _recolor(box, ground, ink)
    if (
        (isinstance(artist, Patch) and to_hex(artist.get_facecolor()) in _SWATCHES)
        or (isinstance(artist, Collection) and artist.get_array() is not None)
        or (isinstance(artist, Text) and artist.get_label() == ON_MAP)
    ):
        return
    parts = next((parts for kind, parts in _PARTS.items() if isinstance(artist, kind)), ())
    colors = {part: getattr(artist, f"get_{part}")() for part in parts}
    artist.set(**{part: _shaded(color, ground, ink) for part, color in colors.items()})


def _shaded(color: Any, ground: Rgb, ink: Rgb) -> Any:
    """Returns colours that were chosen for black ink on white, for another ink and ground."""
    if isinstance(color, str) and color == "none":
        return color
    if np.ndim(color) == 2:
        return [_shaded(tuple(one), ground, ink) for one in color]
    *rgb, alpha = to_rgba(color)
    hue, light, saturation = rgb_to_hls(*rgb)
    if max(rgb) - min(rgb) < _GREY:
        rgb = [light * far + (1 - light) * near for far, near in zip(ground, ink, strict=True)]
    elif sum(ground) < sum(ink):
        rgb = list(hls_to_rgb(hue, 1 - light, saturation))
    return (*rgb, alpha)


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """Draws a figure of the given size in inches, or of the sheet's, in the one style.

    At the end its layout is fixed, so that every rendering is the same to the byte.
    """
    with drawing():
        figure = Figure(figsize=current_sheet().size(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        keep_panel(figure)
        fit(figure)
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
        figure.set_layout_engine(None)
        if figure.axes:
            # The headline begins where the leftmost axes do.
            left = min(ax.get_position().x0 for ax in figure.axes)
            for text in figure.texts:
                text.set_x(left)


def render(figure: Figure, fmt: str = "png") -> bytes:
    """Returns the figure as `png`, `svg` or `pdf`: the same figure gives the same bytes."""
    if fmt not in _METADATA:
        raise ValueError(f"format '{fmt}' is unknown; use one of {', '.join(_METADATA)}.")
    buffer, sheet = io.BytesIO(), current_sheet()
    dots: dict[str, Any] = {}
    if fmt == "png":
        on_paper = sheet.dpi / sheet.scale
        dots = {"dpi": sheet.dpi, "pil_kwargs": {"dpi": (on_paper, on_paper)}}
    with drawing():
        if fmt == "pdf":
            _save_pdf(figure, buffer, sheet.scale)
        else:
            figure.savefig(buffer, format=fmt, metadata=_METADATA[fmt], **dots)
    content = buffer.getvalue()
    return _scaled(content, figure, sheet.scale) if fmt == "svg" else content


def _scaled(svg: bytes, figure: Figure, scale: float) -> bytes:
    """Gives an SVG its size on paper; what is drawn keeps its own units."""
    text = svg.decode("utf-8")
    for name, inches in zip(("width", "height"), figure.get_size_inches(), strict=True):
        pattern = rf'(<svg [^>]*?\b{name}=")[^"]*"'
        text = re.sub(pattern, rf'\g<1>{72 * inches * scale:g}pt"', text, count=1)
    return text.encode("utf-8")


def _save_pdf(figure: Figure, buffer: io.BytesIO, scale: float) -> None:
    """Writes a PDF of its size on paper; what is drawn keeps its own units, as in an SVG."""
    from matplotlib.backends import backend_pdf

    # Untyped, and without a public way to scale a page.
    backend: Any = backend_pdf
    file = backend.PdfFile(buffer, metadata=_METADATA["pdf"])
    begin = file.newPage

    def begin_scaled(width: float, height: float) -> None:
        begin(scale * width, scale * height)
        # What is beyond these is left out before it is scaled.
        file.width, file.height = width, height
        file.output(scale, 0, 0, scale, 0, 0, backend.Op.concat_matrix)

    file.newPage = begin_scaled
    pages = backend.PdfPages(buffer)
    pages._file = file
    figure.savefig(pages, format="pdf")
    pages.close()


def halo(width: float = 3.0) -> list[AbstractPathEffect]:
    """Returns the outline, white like the ground, that keeps lines and words readable."""
    return [withStroke(linewidth=width, foreground=_ground.get())]


def write(ax: Axes, text: str, at: Sequence[Any], offset: tuple[float, float], **look: Any) -> None:
    """Writes words so many points away from a place in an Axes, outlined."""
    look = {"fontsize": 9, "path_effects": halo(), **look}
    ax.annotate(text, (at[0], at[1]), xytext=offset, textcoords="offset points", **look)


def write_above(ax: Axes, text: str, x: float, row: float = 0.0, **look: Any) -> None:
    """Writes words above an Axes at one of its values, in a row counted from below."""
    place = ax.get_xaxis_transform()
    ax.text(x, 1.015 + 0.045 * row, text, transform=place, va="bottom", fontsize=9, **look)


def entry(label: str, **look: Any) -> Line2D:
    """Returns a legend entry: a line, or a marker where the line's style is empty."""
    return Line2D([], [], label=label, **look)


def legend_beside(ax: Axes, handles: Sequence[Any] | None = None) -> None:
    """Puts the legend to the right of the axes, outside the data."""
    found = ax.get_legend_handles_labels()[0] if handles is None else list(handles)
    if found:
        ax.legend(handles=found, loc="upper left", bbox_to_anchor=(1.01, 1.0)).set_alignment("left")
