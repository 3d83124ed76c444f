"""The interactive pages of one plot, whose places say their numbers when pointed at.

They show an atlas's charts, one at a time, or a plane through all weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.layouts import column
from bokeh.models import ColumnDataSource, EqHistColorMapper, HoverTool, LinearColorMapper
from bokeh.models.widgets import Select
from bokeh.plotting import figure
from bokeh.resources import Resources
from bokeh.transform import transform

from gabordiag.charting.atlas import Atlas, Chart
from gabordiag.presentation.colors import INK, JUMP_COLOR
from gabordiag.presentation.figures.atlas import SHOWN
from gabordiag.presentation.figures.surface import LOSS_COLORS
from gabordiag.results import View
from gabordiag.runs.formats import clean

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; \
script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto;
padding: 0 1rem; color: #222; background: white } #plot { height: 75vh }</style>
{{ bokeh|safe }}</head><body>
{% for text in texts %}<p>{{ text }}</p>{% endfor %}<div id="plot"></div><p>{{ note }}</p>
<script>Bokeh.embed.embed_item({{ item|tojson }}, "plot")
.then(() => { const data = {{ data|tojson }}; {{ script|safe }}
document.body.dataset.ready = "yes" })</script></body></html>
"""
_ON_PLANE = """The background is the loss on the plane, in bands of equal area. Dots are moments of
the run at their nearest places in the plane; point at one for the loss that the run had there."""
_ON_ATLAS = """Each cell is the mean over all images and over the filters of its shape; point at it
for its numbers. White: no filter of that shape, or no rate that works. Rates are in natural units:
1 / curvature at the target, at a kink what its slope turns into a step of one degree."""

# The page's security policy allows no text to be run as code, and so none of Bokeh's callbacks.
_ATLAS_SCRIPT = """
  const find = name => Bokeh.documents[0].get_model_by_name(name);
  const [chart, shown, colors, cells] = ["chart", "shown", "colors", "cells"].map(find);
  const change = () => {
    const columns = data[chart.value], values = columns[shown.value];
    colors.high = Math.max(1, ...values.filter(Number.isFinite));
    cells.data = {...columns, shown: values.map(value => value ?? NaN)};
  };
  for (const select of [chart, shown]) select.properties.value.change.connect(change);
"""


def make_plane_page(view: View) -> str:
    """Returns the self-contained page of a `NetworkPlane`, computed now or saved."""
    headline, plot = view.result["headline"], _plane_plot(view)
    return single_plot_page("The loss on a plane", [headline], plot, _ON_PLANE)


def make_atlas_page(view: View) -> str:
    """Returns the self-contained page of an `Atlas`, computed now or saved."""
    atlas = Atlas.from_view(view)
    places = [place["sentence"] for place in view.result["places"]]
    cells = {f"{c.loss}, phase {math.degrees(c.psi):.0f}°": _cells(c) for c in atlas.charts}
    title = "Which filters can be learned"
    return single_plot_page(
        title, places, _atlas_plot(atlas, cells), _ON_ATLAS, _ATLAS_SCRIPT, cells
    )


def single_plot_page(
    title: str, texts: Sequence[str], plot: Any, note: str, script: str = "", data: Any = None
) -> str:
    """Returns a self-contained page of one Bokeh plot, between texts and a note.

    The script runs once the plot is there, and sees the data.
    """
    shown = {"title": title, "texts": texts, "note": note, "script": script, "data": clean(data)}
    item = dict(json_item(plot, ID("plot")))
    return render_page(_PAGE, ["bokeh", "bokeh-widgets"], item=item, **shown)


def render_page(template: str, components: Any, **values: Any) -> str:
    """Returns a template filled in, with these parts of Bokeh's own scripts as `bokeh`."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    # Bokeh reads what refers to a thing after it.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    bokeh = Resources(mode="inline", components=components).render_js()
    return environment.from_string(template).render(bokeh=bokeh, **values)


def _plane_plot(view: View) -> figure:
    table, (x, y) = view.data["surface.npz"], view.result["axes"]
    a, b, loss = (np.asarray(table[name]) for name in ("a", "b", "loss"))
    plot = figure(
        sizing_mode="stretch_both", tools="pan,wheel_zoom,reset", active_scroll="wheel_zoom",
        x_axis_label=x, y_axis_label=y, toolbar_location="above",
    )  # fmt: skip
    colors = LOSS_COLORS(np.linspace(0, 1, 64), bytes=True)
    palette = [f"#{bytes(color[:3]).hex()}" for color in colors]
    # A pixel lies around its place.
    da, db = a[1] - a[0], b[1] - b[0]
    place: dict[str, Any] = {"x": a[0] - da / 2, "y": b[0] - db / 2}
    place |= {"dw": a[-1] - a[0] + da, "dh": b[-1] - b[0] + db}
    place["color_mapper"] = EqHistColorMapper(palette=palette)
    # Infinity would be the only colour.
    ground = plot.image([np.where(np.isfinite(loss), loss, np.nan).T], **place)
    steps = ("steps", "path_loss", "path_drawn")
    columns = {name: np.asarray(table[name]) for name in steps}
    columns |= zip("ab", np.ascontiguousarray(table["path"].T), strict=True)
    source = ColumnDataSource(columns)
    plot.line("a", "b", source=source, color=INK, line_width=2)
    dots = plot.scatter("a", "b", source=source, size=9, color=JUMP_COLOR, line_color="white")
    of_path = [("step", "@steps"), ("true loss", "@path_loss"), ("drawn", "@path_drawn")]
    at = [("loss", "@image"), ("at", "$x, $y")]
    plot.add_tools(HoverTool(renderers=[ground], tooltips=at, attachment="left"))
    plot.add_tools(HoverTool(renderers=[dots], tooltips=of_path, attachment="right"))
    return plot


def _atlas_plot(atlas: Atlas, cells: Mapping[str, Mapping[str, list[float]]]) -> Any:
    first, quantity = next(iter(cells)), "learned"
    source = ColumnDataSource({**cells[first], "shown": cells[first][quantity]}, name="cells")
    colors = LinearColorMapper(
        palette="Cividis256", low=0, high=1, nan_color="white", name="colors"
    )
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
    rows, columns = np.nonzero(np.isfinite(chart.maps["learned"]))
    cells = {
        "left": chart.edges[columns], "right": chart.edges[columns + 1],
        "bottom": rows - 0.5, "top": rows + 0.5, "gamma": chart.gammas[rows],
        **{name: chart.maps[name][rows, columns] for name in SHOWN},
    }  # fmt: skip
    return {name: values.tolist() for name, values in cells.items()}
