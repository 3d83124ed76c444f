"""What figures are printed on: a screen, a column of a paper, a slide.

Every figure is laid out in inches at ten-point letters, and the sheet is then scaled to its size: a
column's letters end at seven points, a slide's at twelve. On a narrow sheet legends stand below and
titles take more lines. Another size is one entry of `SHEETS`, which the command line lists in its
help, for which matplotlib is not loaded. Of a figure with several panels, one can be drawn alone.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gabordiag.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

# Letters an inch: of a bold headline, of an axes' title, of a legend.
_HEADLINE, _TITLE, _LEGEND = 9.4, 12.0, 12.5
# Inches left of the axes, where headlines begin.
_MARGIN = 0.9
# Inches of a legend's line.
_LINE = 0.2


@dataclass(frozen=True)
class Sheet:
    """A size of figures: inches of their layout, None for what the figure asks for.

    `scale` are inches on paper of one of the layout, `dpi` a PNG's dots an inch of the layout. On a
    narrow sheet there is no room for one thing beside another. An axes with its legend is about
    `axes_width` inches wide.
    """

    width: float | None
    height: float | None
    scale: float
    dpi: int
    is_narrow: bool = False
    axes_width: float = 6.9

    @property
    def is_wide(self) -> bool:
        """Whether the height is what is short."""
        return self.height is not None

    def size(self, width: float, height: float) -> tuple[float, float]:
        """Returns the inches that a figure which asks for some gets."""
        return self.width or width, self.height or height


SHEETS = {
    "screen": Sheet(None, None, 1.0, 150),
    # 3.5 inches, 89 mm: the column of most journals; 300 dpi on paper.
    "column": Sheet(5.0, None, 0.7, 210, is_narrow=True, axes_width=4.2),
    # 13.33 x 7.5 inches, 16:9.
    "slide": Sheet(10.667, 6.0, 1.25, 180),
}
_sheet: ContextVar[Sheet] = ContextVar("sheet", default=SHEETS["screen"])
_panel: ContextVar[str | None] = ContextVar("panel", default=None)
# What figures are drawn on now, and the panel that is drawn alone.
current_sheet, current_panel = _sheet.get, _panel.get

_SWEEP = ("loss", "gradient", "mismatch", "along", "variance", "line-N")
# `all-` are all steps, where some have a column of their own.
_RUNS = ("loss", "value", "all-loss", "all-value", "landscape", "plane-N")
_BASINS = ("loss", "map", "start")
_BIFURCATION = ("values", "exponent")
_TRAINING = ("before-N", "after-N", "remedy-N", "teacher-N", "line-N", "losses", "shares")
_COMPARISON = ("elongated-loss", "elongated-landscape", "round-loss", "round-landscape")
# Command -> the panels of its figures; N counts from 0.
PANELS = {
    "sweep": _SWEEP,
    "optimize": _RUNS,
    "basins": _BASINS,
    "bifurcate": _BIFURCATION,
    "rates": ("rates-N",),
    "diagnose": (*dict.fromkeys((*_SWEEP, *_RUNS, *_TRAINING)),),
    "reproduce": (
        *dict.fromkeys((*_SWEEP, *_RUNS, *_BASINS, *_BIFURCATION, *_COMPARISON, *_TRAINING)),
    ),
}
# Inches that a panel alone has at least, and that its axis below needs.
_LEAST_WIDTH, _LEAST_HEIGHT, _AXIS = 4.5, 3.2, 0.6


@contextmanager
def on_sheet(name: str, panel: str | None = None) -> Iterator[None]:
    """Figures made inside are of this size, and reduced to the panel if they have it."""
    tokens = _sheet.set(SHEETS[name]), _panel.set(panel)
    try:
        yield
    finally:
        _sheet.reset(tokens[0])
        _panel.reset(tokens[1])


def check_panel(panel: str | None, command: str) -> None:
    """Refuses a panel that no figure of a command has, before anything is computed."""
    if panel is None:
        return
    if command not in PANELS:
        raise UsageError(
            f"--panel: no figure of `{command}` has several panels.", "Leave the option out."
        )
    if re.sub(r"-\d+$", "-N", panel) not in PANELS[command] or panel.endswith("-N"):
        raise unknown_name("--panel: panel", panel, PANELS[command])


def name_panels(axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Gives panels the names by which `--panel` takes them."""
    for ax, name in zip(axes, names, strict=True):
        ax.set_label(name)


def panels_of(figure: Figure) -> list[str]:
    """Returns the names of a figure's panels."""
    names = [str(ax.get_label()) for ax in figure.axes]
    # A colour bar's begins so.
    return [name for name in names if name and not name.startswith("<")]


def keep_panel(figure: Figure) -> None:
    """Leaves the panel that is drawn alone, if the figure has it, with colour bar and legend."""
    ax = next((ax for ax in figure.axes if ax.get_label() == current_panel()), None)
    place = None if ax is None else ax.get_subplotspec()
    if ax is None or place is None:
        return
    _label_as_shared(ax, place, figure)
    bars = getattr(ax, "_colorbars", [])
    for other in figure.axes:
        if other is not ax and other not in bars:
            other.remove()
            # Otherwise labels are still aligned with those of the removed.
            for group in vars(figure)["_align_label_groups"].values():
                group.remove(other)
    figure.suptitle("")
    sheet, box, room = current_sheet(), place.get_position(figure), figure.subplotpars
    width = box.width / (room.right - room.left) * figure.get_figwidth()
    height = box.height / (room.top - room.bottom) * figure.get_figheight() + _AXIS
    height = max(height, _LEAST_HEIGHT)
    if figure.legends and not sheet.is_narrow:
        # Of the whole figure's width, below.
        width = figure.get_figwidth()
        height += _LINE * max(len(legend.get_texts()) for legend in figure.legends)
    figure.set_size_inches(*sheet.size(max(width, _LEAST_WIDTH), height))
    ax.set_subplotspec(figure.add_gridspec(1, 1)[0])


def _label_as_shared(ax: Axes, place: SubplotSpec, figure: Figure) -> None:
    """Gives a panel the names and numbers that stand at another of its row or column."""
    for other, cell in [(other, other.get_subplotspec()) for other in figure.axes]:
        if cell is not None and cell.get_gridspec() is place.get_gridspec():
            if cell.colspan == place.colspan and not ax.get_xlabel():
                ax.set_xlabel(other.get_xlabel())
            if cell.rowspan == place.rowspan and not ax.get_ylabel():
                ax.set_ylabel(other.get_ylabel())
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_visible(True)
        axis.offsetText.set_visible(True)
    ax.tick_params(left=True, labelleft=True, labelbottom=True)


def fit(figure: Figure) -> None:
    """Wraps what is too wide for the sheet, and puts the legends of a narrow one below."""
    sheet = current_sheet()
    width = figure.get_figwidth()
    headline = figure.get_suptitle()
    if headline:
        figure.suptitle(_wrapped(headline, _HEADLINE * (width - _MARGIN)), x=0.01, ha="left")
    if not sheet.is_narrow:
        return
    entries: dict[str, Any] = {}
    owned = [*(ax.get_legend() for ax in figure.axes), *figure.legends]
    for legend in [legend for legend in owned if legend is not None]:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            label = " ".join(text.get_text().split())
            entries.setdefault(textwrap.fill(label, int(_LEGEND * (width - 0.6))), handle)
        legend.remove()
    if entries:
        lines = sum(1 + label.count("\n") for label in entries)
        figure.set_figheight(figure.get_figheight() + _LINE * lines)
        figure.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=1)


def fit_title(text: str) -> str:
    """Returns an axes' title in lines that fit onto a narrow sheet."""
    sheet = current_sheet()
    return _wrapped(text, _TITLE * sheet.axes_width) if sheet.is_narrow else text


def _wrapped(text: str, letters: float) -> str:
    return "\n".join(textwrap.fill(line, max(20, int(letters))) for line in text.split("\n"))
