"""What figures are printed on: a screen, a column of a paper, a slide.

Every figure is laid out in inches at ten-point letters, and the sheet is then scaled to its size: a
column's letters end at seven points, a slide's at twelve. On a narrow sheet legends stand below and
titles take more lines. Another size is one entry of `SHEETS`, which the command line lists in its
help, for which matplotlib is not loaded.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    narrow sheet there is no room for one thing beside another.
    """

    width: float | None
    height: float | None
    scale: float
    dpi: int
    is_narrow: bool = False

    @property
    def is_wide(self) -> bool:
        """Whether the height is what is short."""
        return self.height is not None

    def size(self, width: float, height: float) -> tuple[float, float]:
        """Returns the inches that a figure which asks for some gets."""
        return self.width or width, self.height or height

    def axes_width(self) -> float:
        """Returns about how wide an axes with its legend is, in inches."""
        return 4.2 if self.is_narrow else 6.9


SHEETS = {
    "screen": Sheet(None, None, 1.0, 150),
    # 3.5 inches, 89 mm: the column of most journals; 300 dpi on paper.
    "column": Sheet(5.0, None, 0.7, 210, is_narrow=True),
    # 13.33 x 7.5 inches, 16:9.
    "slide": Sheet(10.667, 6.0, 1.25, 180),
}
_current: ContextVar[Sheet] = ContextVar("sheet", default=SHEETS["screen"])


@contextmanager
def on_sheet(name: str) -> Iterator[None]:
    """Figures that are begun and rendered inside are of this size.

    Args:
        name: Of `SHEETS`.
    """
    token = _current.set(SHEETS[name])
    try:
        yield
    finally:
        _current.reset(token)


def current_sheet() -> Sheet:
    """Returns the sheet that figures are drawn on now."""
    return _current.get()


def fit(figure: Figure) -> None:
    """Wraps what is too wide for the sheet, and puts the legends of a narrow one below."""
    sheet = current_sheet()
    width = figure.get_figwidth()
    headline = figure.get_suptitle()
    if headline:
        letters = _HEADLINE * (width - _MARGIN)
        figure.suptitle(_wrapped(headline, letters), x=0.01, ha="left")
    if sheet.is_narrow:
        _legends_below(figure, width)


def fit_title(text: str) -> str:
    """Returns an axes' title in lines that fit onto a narrow sheet."""
    sheet = current_sheet()
    return _wrapped(text, _TITLE * sheet.axes_width()) if sheet.is_narrow else text


def _wrapped(text: str, letters: float) -> str:
    return "\n".join(textwrap.fill(line, max(20, int(letters))) for line in text.split("\n"))


def _legends_below(figure: Figure, width: float) -> None:
    entries: dict[str, Any] = {}
    owned = [*(ax.get_legend() for ax in figure.axes), *figure.legends]
    for legend in [legend for legend in owned if legend is not None]:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            label = " ".join(text.get_text().split())
            entries.setdefault(textwrap.fill(label, int(_LEGEND * (width - 0.6))), handle)
        legend.remove()
    if not entries:
        return
    lines = sum(1 + label.count("\n") for label in entries)
    figure.set_figheight(figure.get_figheight() + _LINE * lines)
    figure.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=1)
