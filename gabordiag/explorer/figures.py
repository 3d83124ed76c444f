"""The page's Bokeh figures, empty: `plots.js` fills and colours them.

Every figure and source has a name by which `plots.js` finds it. No tool is active, so that a finger
on a plot scrolls the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import (
    BasicTicker,
    ColumnDataSource,
    FixedTicker,
    InlineStyleSheet,
    LinearColorMapper,
    Range1d,
)
from bokeh.models.annotations.geometry import BoxAnnotation, Span
from bokeh.plotting import figure

from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.presentation.figures.style import (
    JUMP_COLOR,
    OUTCOME_COLORS,
    POINT_STYLES,
    TARGET_COLOR,
)

Direction = Literal["width", "height"]
# Widths follow the page; heights are given here, in CSS pixels.
_HEIGHTS = {"landscape": 300, "slope": 200, "losses": 230, "values": 230, "map": 400}
# Room for the longest tick labels, the same in every plot, so that plots line up.
_LEFT_BORDER = 72
# Of the steps; size and opacity follow their number.
_DOTS: dict[str, Any] = {"size": 8, "color": JUMP_COLOR, "line_alpha": 0}
START_COLOR = "#0072B2"
_MARKERS = {"o": "circle", "^": "triangle", "v": "inverted_triangle", "s": "square"}
# One finger scrolls the page, two zoom it.
_TOUCH = ".bk-events { touch-action: pan-x pan-y pinch-zoom !important; }"


def make_figures(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the figures as Bokeh JSON items, each for the element of the same name."""
    landscape = result["losses"][result["loss"]]["landscape"]
    unit = "degrees" if landscape["unit"] == "rad" else landscape["unit"]
    label = f"{result['parameter']} [{unit}]" if unit else str(result["parameter"])
    drawn = {
        "landscape": _landscape(),
        "slope": _slope(label, unit),
        "losses": _steps("losses", "loss"),
        "values": _values(label),
        "map": _map(f"start: {label}"),
    }
    return [dict(json_item(plot, ID(f"plot-{name}"))) for name, plot in drawn.items()]


def _new(name: str, **options: Any) -> figure:
    plot = figure(
        name=name,
        height=_HEIGHTS[name],
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_range=Range1d(start=0, end=1),
        y_range=Range1d(start=0, end=1),
        min_border_left=_LEFT_BORDER,
        min_border_right=14,
        stylesheets=[InlineStyleSheet(css=_TOUCH)],
        **options,
    )
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def _source(name: str, *columns: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in columns}, name=name)


def _guides(plot: figure, name: str, *, along: Direction = "height") -> None:
    """Adds lines at target and start; `along` says in which direction they run."""
    target = Span(name=f"{name}-target", dimension=along, line_color=TARGET_COLOR, line_width=2)
    start = Span(name=f"{name}-start", dimension=along, line_color=START_COLOR, line_dash="dashed")
    start.line_width = 1.5
    plot.add_layout(target)
    plot.add_layout(start)


def _band(plot: figure, name: str) -> None:
    """Adds the target's basin, in two parts where it crosses the end of the period."""
    for part in ("a", "b"):
        band = BoxAnnotation(name=f"{name}-basin-{part}", fill_color=TARGET_COLOR, fill_alpha=0.13)
        band.line_alpha = 0
        band.level = "underlay"
        plot.add_layout(band)


def _landscape() -> figure:
    plot = _new("landscape", y_axis_label="loss")
    _band(plot, "landscape")
    _guides(plot, "landscape")
    visited = _source("visited", "x", "y")
    plot.scatter("x", "y", source=visited, name="dots-landscape", **_DOTS)
    _curve(plot, "curve")
    plot.segment(
        "x0", "y0", "x1", "y1", source=_source("moves", "x0", "y0", "x1", "y1", "alpha"),
        line_color=JUMP_COLOR, line_width=2, line_alpha="alpha",
    )  # fmt: skip
    for kind, (marker, color, size) in POINT_STYLES.items():
        plot.scatter(
            "x", "y", source=_source(f"points-{kind}", "x", "y"), marker=_MARKERS[marker],
            size=size + 2, fill_color=color, line_color="#222222", line_width=1,
        )  # fmt: skip
    _here(plot, "here", "y")
    return plot


def _slope(label: str, unit: str) -> figure:
    per = f" per {unit.removesuffix('s')}" if unit else ""
    plot = _new("slope", x_axis_label=label, y_axis_label=f"gradient{per}")
    _band(plot, "slope")
    _guides(plot, "slope")
    plot.add_layout(Span(location=0, dimension="width", line_width=1, tags=["ink"]))
    dots = _source("slope-visited", "x", "y")
    plot.scatter("x", "y", source=dots, name="dots-slope", **_DOTS)
    _curve(plot, "slope-curve")
    _here(plot, "slope-here", "y")
    return plot


def _curve(plot: figure, name: str) -> None:
    """Adds a line whose color follows light or dark mode."""
    plot.line("x", "y", source=_source(name, "x", "y"), line_width=2).tags = ["ink"]


def _here(plot: figure, name: str, column: str) -> None:
    """Adds the marker of the step that is shown."""
    plot.scatter(
        "x", column, source=_source(name, "x", column), size=13, fill_color=JUMP_COLOR,
        line_color="white", line_width=2,
    )  # fmt: skip


def _steps(name: str, y_label: str) -> figure:
    plot = _new(name, x_axis_label="step", y_axis_label=y_label)
    plot.xaxis.ticker = BasicTicker(desired_num_ticks=5)
    source = _source(f"{name}-dots", "x", "y")
    plot.line("x", "y", source=source, line_color=JUMP_COLOR, name=f"line-{name}")
    plot.scatter("x", "y", source=source, name=f"dots-{name}", **_DOTS)
    plot.add_layout(Span(name=f"{name}-shown", dimension="height", tags=["ink"], line_alpha=0.6))
    return plot


def _values(label: str) -> figure:
    plot = _steps("values", label)
    _guides(plot, "values", along="width")
    return plot


def _map(label: str) -> figure:
    plot = _new("map", x_axis_label=label, y_axis_label="learning rate", y_axis_type="log")
    plot.grid.visible = False
    colors = [OUTCOME_COLORS[name] for name in OUTCOMES]
    mapper = LinearColorMapper(palette=colors, low=-0.5, high=len(colors) - 0.5)
    mapper.low_color = mapper.nan_color = "#00000000"
    columns = ("image", "x", "y", "dw", "dh")
    options: dict[str, Any] = {**{c: c for c in columns}, "color_mapper": mapper, "level": "image"}
    plot.image(source=_source("map-image", *columns), **options)
    target = Span(name="map-target", dimension="height", line_color="white", line_width=2)
    plot.add_layout(target)
    hold = Span(name="map-hold", dimension="width", line_color="white", line_dash="dashed")
    plot.add_layout(hold)
    for size, color, width in ((22, "#000000", 5), (20, "#ffffff", 2.5)):
        plot.scatter(
            "x", "y", source=_source(f"map-cross-{width:.0f}", "x", "y"), marker="cross",
            size=size, line_color=color, line_width=width,
        )  # fmt: skip
    plot.yaxis.ticker = FixedTicker(ticks=[10.0**power for power in range(-8, 9)])
    return plot
