"""Surfaces as pictures: marks where the data say, arrows downhill, and the same in words."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.quiver import Quiver

import gabordiag as gd
from gabordiag.landscape.surface import Surface
from gabordiag.presentation import registry, report
from gabordiag.presentation import registry as figures
from gabordiag.presentation.blocks import Paragraph, Table
from gabordiag.presentation.figures.surface import surface_words
from gabordiag.results import View
from tests.presentation.test_figures import drawings_of


@pytest.fixture(scope="module")
def surface() -> Surface:
    image = np.random.default_rng(3).random((24, 25))
    experiment = gd.Experiment(
        image=image, kernel_size=9, sigma=2.0, wavelength=5.0, gamma=1.0, theta0=-1.0
    )
    return gd.sweep(experiment, over=("theta", "wavelength"), points=(61, 51))


@pytest.fixture(scope="module")
def drawn(surface: Surface) -> dict[str, Figure]:
    view = surface.view()
    return {
        "surface": figures.surface.surface_figure(view),
        "space": figures.surface.surface_in_space_figure(view),
    }


def marks_of(ax: Any, marker: str) -> list[tuple[float, ...]]:
    lines = [line for line in ax.get_lines() if line.get_marker() == marker]
    data = [
        line.get_data_3d() if hasattr(line, "get_data_3d") else line.get_data() for line in lines
    ]
    return sorted(tuple(round(float(column[0]), 6) for column in columns) for columns in data)


def places(points: Any) -> list[tuple[float, float]]:
    """Where the points are seen: those at one end of the period, at the other end as well."""
    found = [(round(math.degrees(p["theta"]), 6), round(p["wavelength"], 6)) for p in points]
    return sorted(found + [(-x, y) for x, y in found if abs(x) == 90])


def test_every_point_is_marked_by_its_kind(surface: Surface, drawn: dict[str, Figure]) -> None:
    result = surface.to_dict()
    assert result["saddles"]
    assert len(result["local_minima"]) > 1
    targets = [p for p in result["local_minima"] if p["is_target"]]
    others = [p for p in result["local_minima"] if p["kind"] == "minimum"]
    for name in ("surface", "space"):
        ax = drawn[name].axes[0]
        for marker, points in (
            ("*", targets),
            ("o", others),
            ("X", result["saddles"]),
            ("D", [result["start"]]),
            ("s", result["edge_minima"]),
        ):
            assert [place[:2] for place in marks_of(ax, marker)] == places(points), (name, marker)
    # In space at their height; the start, of which no loss is saved, at that of the grid.
    heights = {round(place[2], 6) for place in marks_of(drawn["space"].axes[0], "X")}
    assert heights == {round(p["loss"], 6) for p in result["saddles"]}


def test_arrows_point_downhill_across_the_contours(
    surface: Surface, drawn: dict[str, Figure]
) -> None:
    figure = drawn["surface"]
    ax = figure.axes[0]
    (arrows,) = [item for item in ax.collections if isinstance(item, Quiver)]
    assert 60 <= len(arrows.U) <= 250
    # A step along the arrow on the screen, back in the data's units, against the loss itself.
    on_screen = ax.transData.transform(np.column_stack([arrows.X, arrows.Y]))
    direction = np.column_stack([arrows.U, arrows.V])
    np.testing.assert_allclose(np.hypot(*direction.T), 1)
    across = direction[:, ::-1] * [1, -1]
    objective = surface.objective

    def losses(pixels: np.ndarray) -> np.ndarray:
        degrees = ax.transData.inverted().transform(pixels)
        return objective.loss_at(degrees * [math.pi / 180, 1])

    size = 0.05
    down = (losses(on_screen + size * direction) - losses(on_screen - size * direction)) / 2
    side = (losses(on_screen + size * across) - losses(on_screen - size * across)) / 2
    assert (down < 0).all()
    # Nearly: the axes got their final size after the arrows were drawn.
    assert (np.abs(side) < 0.25 * np.abs(down)).mean() > 0.9


def test_axes_are_in_degrees_and_pixels(drawn: dict[str, Figure]) -> None:
    ax = drawn["surface"].axes[0]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("theta [degrees]", "wavelength [px]")
    np.testing.assert_allclose(ax.get_xlim(), (-90, 90))
    np.testing.assert_allclose(ax.get_ylim(), (2, 12.5))
    assert drawn["surface"].axes[1].get_ylabel() == "loss (RMSE)"
    space: Any = drawn["space"].axes[0]
    assert (space.get_xlabel(), space.get_ylabel()) == ("theta [degrees]", "wavelength [px]")
    assert space.get_zlabel() == "loss (RMSE)"


@pytest.mark.parametrize("name", ["surface", "space"])
def test_nothing_is_cut_off(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    extent = figure.get_tightbbox(figure.canvas.get_renderer()).bounds  # type: ignore[attr-defined]
    width, height = figure.get_size_inches()
    assert min(extent[:2]) >= -0.05
    assert extent[0] + extent[2] <= width + 0.05
    assert extent[1] + extent[3] <= height + 0.05


def test_colours_rise_with_the_loss(surface: Surface, drawn: dict[str, Figure]) -> None:
    (contours,) = [c for c in drawn["surface"].axes[0].collections if getattr(c, "filled", False)]
    levels = contours.levels
    assert (np.diff(levels) > 0).all()
    np.testing.assert_allclose([levels[0], levels[-1]], [surface.loss.min(), surface.loss.max()])
    greys = contours.cmap(contours.norm(levels))[:, :3] @ [0.3, 0.6, 0.1]
    assert (np.diff(greys) < 0).all()


@pytest.mark.long
def test_saved_data_draw_the_same_pictures(surface: Surface) -> None:
    view = surface.view()
    again = View(json.loads(json.dumps(view.result)), view.data)
    assert report.draw(drawings_of("sweep", again)) == report.draw(drawings_of("sweep", view))
    assert set(drawings_of("sweep", view)) == {"surface", "surface-in-space"}


def test_the_words_count_what_was_found(surface: Surface) -> None:
    result = surface.to_dict()
    told = registry.blocks_of("sweep", surface.view())
    (table,) = [block for block in told if isinstance(block, Table)]
    assert len(table.rows) == len(result["local_minima"]) + len(result["saddles"])
    assert table.columns[:2] == ("theta", "wavelength")
    assert table.rows[0][:4] == ("45.000°", "5 px", "kink, the target", "0")
    assert f"{len(result['local_minima'])} minima" in surface_words(result)
    text = "\n".join(block.text for block in told if isinstance(block, Paragraph))
    assert "(1 of them the target)" in text
    assert "not a proof" in text


def test_a_surface_without_any_minimum_draws(surface: Surface) -> None:
    experiment = surface.objective.experiment
    part = gd.sweep(experiment, over=("sigma", "gamma"), points=5)
    result = {**part.to_dict(), "local_minima": [], "saddles": [], "edge_minima": []}
    view = View(result, part.data())
    assert surface_words(result).endswith("no minimum found inside")
    assert all(report.draw(drawings_of("sweep", view)).values())
    assert registry.blocks_of("sweep", view)


def test_plot_draws_the_contours(surface: Surface) -> None:
    ax = surface.plot()
    assert ax.get_xlabel() == "theta [degrees]"
    assert marks_of(ax, "*") == [(45.0, 5.0)]
    assert surface._repr_html_().count('src="data:image/png;base64,') == 1
