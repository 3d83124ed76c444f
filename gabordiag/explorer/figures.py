"""The page's Bokeh figures, empty: `plots.js` fills and colours them.

Every figure and source has a name by which `plots.js` finds it. No tool is active, so that a finger
on a plot scrolls the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from bokeh import models
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models.annotations.geometry import BoxAnnotation, Span
from bokeh.plotting import figure

from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.presentation.colors import JUMP_COLOR, OUTCOME_COLORS, POINT_STYLES, TARGET_COLOR

Direction = Literal["width", "height"]
# Widths follow the page; heights are given here, in CSS pixels.
_HEIGHTS = {"landscape": 300, "slope": 200, "losses": 230, "values": 230, "map": 400}
# Room for the longest tick labels, the same in every plot, so that plots line up.
_LEFT_BORDER = 72
# Of the steps; size and opacity follow their number.
_DOTS: dict[str, Any] = {"size": 8, "color": JUMP_COLOR, "line_alpha": 0}
_START_COLOR = "#0072B2"
_MARKERS = {"o": "circle", "^": "triangle", "v": "inverted_triangle", "s": "square"}
# One finger scrolls the page, two zoom it.
_TOUCH = ".bk-events { touch-action: pan-x pan-y pinch-zoom !important; }"


def make_figures(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the figures as Bokeh JSON items, each for the element of the same name."""
    landscape = result["losses"][result["loss"]]["landscape"]
    unit = "degrees" if landscape["unit"] == "rad" else landscape["unit"]
    label = f"{result['parameter']} [{unit}]" if unit else str(result["parameter"])
    per = f" per {unit.removesuffix('s')}" if unit else ""
    values = _steps("values", label)
    _guides(values, along="width")
    plots = [
        _landscape(),
        _slope(x_axis_label=label, y_axis_label=f"gradient{per}"),
        _steps("losses", "loss"),
        values,
        _map(f"start: {label}"),
    ]
    return [dict(json_item(plot, ID(f"plot-{plot.name}"))) for plot in plots]


def _new(name: str, **options: Any) -> figure:
    plot = figure(
        name=name,
        height=_HEIGHTS[name],
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        x_range=models.Range1d(start=0, end=1),
        y_range=models.Range1d(start=0, end=1),
        min_border_left=_LEFT_BORDER,
        min_border_right=14,
        # White would stay at the edges when the page paints its own ground.
        background_fill_color=None,
        border_fill_color=None,
        stylesheets=[models.InlineStyleSheet(css=_TOUCH)],
        **options,
    )
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def _source(name: str, *columns: str) -> models.ColumnDataSource:
    return models.ColumnDataSource({column: [] for column in columns}, name=name)


def _line(plot: figure, name: str, along: Direction, **look: Any) -> None:
    """Adds a line across the plot; `along` says in which direction it runs."""
    plot.add_layout(Span(name=name, dimension=along, **look))


def _guides(plot: figure, *, along: Direction = "height") -> None:
    dashed: dict[str, Any] = {"line_dash": "dashed", "line_width": 1.5}
    _line(plot, f"{plot.name}-target", along, line_color=TARGET_COLOR, line_width=2)
    _line(plot, f"{plot.name}-start", along, line_color=_START_COLOR, **dashed)


def _along_parameter(name: str, visited: str, **labels: str) -> figure:
    """Returns a plot along the parameter, with the target's basin and the visited places."""
    plot = _new(name, **labels)
    # The basin is in two parts where it crosses the end of the period.
    look: dict[str, Any] = {"fill_color": TARGET_COLOR, "fill_alpha": 0.13, "line_alpha": 0}
    for part in ("a", "b"):
        plot.add_layout(BoxAnnotation(name=f"{name}-basin-{part}", level="underlay", **look))
    _guides(plot)
    dots = _source(visited, "x", "y")
    plot.scatter("x", "y", source=dots, name=f"dots-{name}", **_DOTS)
    return plot


def _landscape() -> figure:
    plot = _along_parameter("landscape", "visited", y_axis_label="loss")
    _curve(plot, "curve")
    moves = _source("moves", "x0", "y0", "x1", "y1", "alpha")
    look: dict[str, Any] = {"line_color": JUMP_COLOR, "line_width": 3, "line_alpha": "alpha"}
    plot.segment("x0", "y0", "x1", "y1", source=moves, **look)
    for kind, (marker, color, size) in POINT_STYLES.items():
        points = _source(f"points-{kind}", "x", "y")
        look = {"fill_color": color, "line_color": "#222222", "line_width": 1, "size": size + 2}
        plot.scatter("x", "y", source=points, marker=_MARKERS[marker], **look)
    _here(plot, "here")
    return plot


def _slope(**labels: str) -> figure:
    plot = _along_parameter("slope", "slope-visited", **labels)
    plot.add_layout(Span(location=0, dimension="width", line_width=1, tags=["ink"]))
    _curve(plot, "slope-curve")
    _here(plot, "slope-here")
    return plot


def _curve(plot: figure, name: str) -> None:
    """Adds a line whose color follows light or dark mode."""
    plot.line("x", "y", source=_source(name, "x", "y"), line_width=2).tags = ["ink"]


def _here(plot: figure, name: str) -> None:
    """Adds the marker of the step that is shown."""
    look: dict[str, Any] = {"fill_color": JUMP_COLOR, "line_color": "white", "line_width": 2}
    plot.scatter("x", "y", source=_source(name, "x", "y"), size=13, **look)


def _steps(name: str, y_label: str) -> figure:
    plot = _new(name, x_axis_label="step", y_axis_label=y_label)
    plot.xaxis.ticker = models.BasicTicker(desired_num_ticks=5)
    source = _source(f"{name}-dots", "x", "y")
    plot.line("x", "y", source=source, line_color=JUMP_COLOR, name=f"line-{name}")
    plot.scatter("x", "y", source=source, name=f"dots-{name}", **_DOTS)
    last = _source(f"{name}-last", "x", "y")
    plot.line("x", "y", source=last, line_color=JUMP_COLOR, line_width=3)
    _line(plot, f"{name}-shown", "height", tags=["ink"], line_alpha=0.6)
    return plot


def _map(label: str) -> figure:
    plot = _new("map", x_axis_label=label, y_axis_label="learning rate", y_axis_type="log")
    plot.grid.visible = False
    colors = [OUTCOME_COLORS[name] for name in OUTCOMES]
    mapper = models.LinearColorMapper(palette=colors, low=-0.5, high=len(colors) - 0.5)
    mapper.low_color = mapper.nan_color = "#00000000"
    columns = ("image", "x", "y", "dw", "dh")
    options: dict[str, Any] = {**{c: c for c in columns}, "color_mapper": mapper, "level": "image"}
    plot.image(source=_source("map-image", *columns), **options)
    _line(plot, "map-target", "height", line_color="white", line_width=2)
    _line(plot, "map-hold", "width", line_color="white", line_dash="dashed")
    for size, color, width in ((22, "#000000", 5), (20, "#ffffff", 2.5)):
        cross = _source(f"map-cross-{width:.0f}", "x", "y")
        look: dict[str, Any] = {"size": size, "line_color": color, "line_width": width}
        plot.scatter("x", "y", source=cross, marker="cross", **look)
    plot.yaxis.ticker = models.FixedTicker(ticks=[10.0**power for power in range(-8, 9)])
    return plot
