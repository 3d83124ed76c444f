"""The interactive page of a plane through all weights: each place says its loss when pointed at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.models import ColumnDataSource, EqHistColorMapper, HoverTool
from bokeh.plotting import figure
from bokeh.resources import Resources

from gabordiag.presentation.colors import INK, JUMP_COLOR
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


_NOTE = """The background is the loss on the plane, in bands of equal area. Dots are moments of the
run at their nearest places in the plane; point at one for the loss that the run had there."""


def make_plane_page(view: View) -> str:
    """Returns the self-contained page of a `NetworkPlane`, computed now or saved."""
    return single_plot_page("The loss on a plane", [view.result["headline"]], _plot(view), _NOTE)


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
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    bokeh = Resources(mode="inline", components=components).render_js()
    return environment.from_string(template).render(bokeh=bokeh, **values)


def _plot(view: View) -> figure:
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
