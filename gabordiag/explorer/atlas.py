"""The interactive page of an atlas: its charts, one at a time; each cell says all its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.models.widgets import Select
from bokeh.plotting import figure
from bokeh.transform import transform

from gabordiag.charting.atlas import Atlas, Chart
from gabordiag.explorer.plane import single_plot_page
from gabordiag.presentation.figures.atlas import SHOWN
from gabordiag.results import View

_COLORS = "Cividis256"
_NOTE = """Each cell is the mean over all images and over the filters of its shape; point at it for
its numbers. White: no filter of that shape, or no rate that works. Rates are in natural units: 1 /
curvature at the target, at a kink what its slope turns into a step of one degree."""

# The page's security policy allows no text to be run as code, and so none of Bokeh's callbacks.
_SCRIPT = """
  const find = name => Bokeh.documents[0].get_model_by_name(name);
  const [chart, shown, colors, cells] = ["chart", "shown", "colors", "cells"].map(find);
  const change = () => {
    const columns = data[chart.value], values = columns[shown.value];
    colors.high = Math.max(1, ...values.filter(Number.isFinite));
    cells.data = {...columns, shown: values.map(value => value ?? NaN)};
  };
  for (const select of [chart, shown]) select.properties.value.change.connect(change);
"""


def make_atlas_page(view: View) -> str:
    """Returns the self-contained page of an `Atlas`, computed now or saved."""
    atlas = Atlas.from_view(view)
    places = [place["sentence"] for place in view.result["places"]]
    cells = {f"{c.loss}, phase {math.degrees(c.psi):.0f}°": _cells(c) for c in atlas.charts}
    title = "Which filters can be learned"
    return single_plot_page(title, places, _plot(atlas, cells), _NOTE, _SCRIPT, cells)


def _plot(atlas: Atlas, cells: Mapping[str, Mapping[str, list[float]]]) -> Any:
    first, quantity = next(iter(cells)), "learned"
    source = ColumnDataSource({**cells[first], "shown": cells[first][quantity]}, name="cells")
    colors = LinearColorMapper(palette=_COLORS, low=0, high=1, nan_color="white", name="colors")
    plot = figure(
        sizing_mode="stretch_both", x_axis_type="log", tools="", toolbar_location=None,
        x_axis_label="sigma / wavelength", y_axis_label="gamma (aspect ratio)",
    )  # fmt: skip
    gammas = atlas.charts[0].gammas
    plot.yaxis.ticker = list(range(len(gammas)))
    plot.yaxis.major_label_overrides = {i: f"{gamma:.3g}" for i, gamma in enumerate(gammas)}
    plot.xaxis.ticker = edges = atlas.charts[0].edges.tolist()
    plot.xaxis.major_label_overrides = {edge: f"{edge:.2g}" for edge in edges}
    fill: Any = transform("shown", colors)
    plot.quad("left", "right", "top", "bottom", source=source, fill_color=fill, line_color="white")
    tips = [(text, f"@{name}{{0.00}}") for name, text in SHOWN.items()]
    tips = [("gamma", "@gamma"), ("sigma / wavelength", "@left to @right"), *tips]
    plot.add_tools(HoverTool(tooltips=tips))
    charts: list[Any] = [*cells]
    chart = Select(name="chart", title="Loss and phase", value=first, options=charts)
    quantities: list[Any] = [*SHOWN.items()]
    shown = Select(name="shown", title="Colour", value=quantity, options=quantities)
    return column(chart, shown, plot, sizing_mode="stretch_both")


def _cells(chart: Chart) -> dict[str, list[float]]:
    """Returns the cells with a filter: their edges and numbers."""
    rows, columns = np.nonzero(np.isfinite(chart.maps["learned"]))
    cells = {
        "left": chart.edges[columns], "right": chart.edges[columns + 1],
        "bottom": rows - 0.5, "top": rows + 0.5, "gamma": chart.gammas[rows],
        **{name: chart.maps[name][rows, columns] for name in SHOWN},
    }  # fmt: skip
    return {name: values.tolist() for name, values in cells.items()}
