"""What a notebook shows of every result, its tables, and its drawing in the user's own style."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from markdown_it import MarkdownIt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

import gabordiag as gd
from gabordiag.dynamics.outcomes import OUTCOME_NAMES
from gabordiag.errors import InputError, UsageError
from gabordiag.presentation.figures.style import ON_MAP
from gabordiag.results import Result


def double_well(v: torch.Tensor) -> torch.Tensor:
    return (v**2 - 1) ** 2


@cache
def made() -> Mapping[str, Result]:
    """Returns one small result of each kind."""
    own = {"range": (-2, 2), "start": 0.1, "target": 1.0}
    board = (np.indices((24, 24)) // 6).sum(axis=0) % 2
    experiment = gd.Experiment(board, wavelength=6, sigma=2, kernel_size=9, loss="mse", theta0=0.3)
    theta = 0.3 * (-1.0) ** np.arange(60)
    log = {"theta": theta, "loss": np.sin(theta) ** 2, "grad": np.sin(2 * theta)}
    runs = gd.optimize(double_well, lr=[0.1, 0.26], steps=200, **own)
    return {
        "sweep": gd.sweep(double_well, points=41, **own),
        "surface": gd.sweep(experiment, over=("theta", "sigma"), points=(9, 7)),
        "runs": runs,
        "run": runs.runs[0],
        "basins": gd.basins(double_well, lr=(0.01, 1.0, 21), starts=31, steps=100, **own),
        "plane": gd.plane_basins(experiment, ("theta", "sigma"), lr=0.01, steps=20, points=(5, 4)),
        "bifurcation": gd.bifurcate(double_well, lr=(0.1, 0.4, 9), steps=400, **own),
        "diagnosis": gd.diagnose(double_well, lr=0.9, steps=60, **own),
        "explanation": gd.explain(log, target=0.0, period=np.pi),
        "check": gd.check(),
    }


KINDS = (
    "sweep", "surface", "runs", "run", "basins", "plane", "bifurcation", "diagnosis",
    "explanation", "check",
)  # fmt: skip


# --- _repr_html_ ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.each(8)
@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_shows_one_picture_and_some_words(kind: str) -> None:
    html = made()[kind]._repr_html_()
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        assert image.width == 1350
    assert "<html" not in html
    words = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split()
    assert len(words) > 5


def test_a_diagnosis_shows_verdict_and_remedies() -> None:
    found = made()["diagnosis"]
    html, shown = found._repr_html_(), found.to_dict()
    assert shown["verdict"].replace("_", " ") in html
    rows = re.findall(r"<tr>.*?</tr>", html, flags=re.DOTALL)
    assert len(rows) == 1 + len(shown["remedies"]) > 2


def test_nothing_that_a_user_wrote_becomes_markup() -> None:
    name = "<script>alert(1)</script>"
    found = replace(made()["diagnosis"], headline=name)  # type: ignore[type-var]
    assert name not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()


def test_what_a_notebook_shows_is_a_fragment_that_markdown_leaves_as_it_is() -> None:
    html = made()["check"]._repr_html_()
    assert "<div class=" in MarkdownIt("commonmark").render(html)
    assert html.count("<div") == html.count("</div>")


# --- to_dataframe, to_xarray ----------------------------------------------------------------------


def test_a_sweep_is_a_curve() -> None:
    sweep = made()["sweep"]
    frame, arrays = sweep.to_dataframe(), sweep.to_xarray()
    assert list(frame) == ["v", "loss", "grad_analytic", "grad_autograd", "grad_numeric"]
    np.testing.assert_allclose(frame.loss, (frame.v**2 - 1) ** 2, atol=1e-14)
    assert arrays.loss.dims == ("v",)
    assert float(arrays.loss.sel(v=0.5, method="nearest")) == pytest.approx(0.5625)
    points = sweep.to_dataframe("critical_points")
    np.testing.assert_allclose(sorted(points.value), [-1, 0, 1], atol=1e-9)


def test_runs_are_long_with_every_step() -> None:
    runs = made()["runs"]
    frame, arrays = runs.to_dataframe(), runs.to_xarray()
    assert frame.groupby("run").size().tolist() == [201, 201]
    assert frame.step.dtype == np.int64
    # Plain descent, from the columns themselves.
    one = frame[frame.run == 1]
    moved = one.v.to_numpy() - (one.lr * one.grad).to_numpy()
    np.testing.assert_allclose(moved[:-1], one.v.to_numpy()[1:], rtol=1e-12)
    assert arrays.loss.dims == ("run", "step")
    np.testing.assert_array_equal(arrays.v.sel(run=1), one.v)
    assert runs.to_dataframe("runs").outcome.tolist() == ["reached", "cycle"]


def test_one_run_has_no_column_of_runs_and_several_always_have() -> None:
    run = made()["run"]
    assert list(run.to_dataframe())[:2] == ["step", "v"]
    assert run.to_xarray().sizes == {"step": 201}
    alone = gd.optimize(double_well, lr=0.1, steps=5, range=(-2, 2), start=0.1)
    assert alone.to_xarray().loss.dims == ("run", "step")
    assert alone.to_dataframe().run.tolist() == [0] * 6


def test_a_shorter_run_ends_in_nan() -> None:
    runs = gd.optimize(double_well, lr=[0.1, 0.9], steps=30, range=(-2, 2), start=0.1)
    lengths = [len(run.trajectory) for run in runs.runs]
    assert lengths[1] < lengths[0]
    losses = runs.to_xarray().loss
    assert losses.shape == (2, lengths[0])
    assert np.isnan(losses.sel(run=1)[lengths[1] :]).all()


def test_a_map_has_a_row_for_every_cell() -> None:
    basins = made()["basins"]
    frame, arrays = basins.to_dataframe(), basins.to_xarray()
    assert len(frame) == 21 * 31
    assert arrays.outcome.dims == ("lr", "start")
    row = frame.iloc[31 * 4 + 7]
    code = int(arrays.outcome.sel(lr=row.lr, start=row.start))
    assert row.outcome == OUTCOME_NAMES[code]
    assert arrays.outcome.attrs["flag_meanings"].split()[code] == row.outcome
    shares = frame.outcome.value_counts(normalize=True)
    for name, share in basins.to_dict()["fractions"].items():
        assert shares[name] == pytest.approx(share)


def test_surfaces_and_planes_run_along_a_and_b() -> None:
    surface = made()["surface"]
    frame, arrays = surface.to_dataframe(), surface.to_xarray()
    assert list(frame) == ["a", "b", "loss", "grad_a", "grad_b"]
    assert arrays.loss.dims == ("a", "b")
    pivoted = frame.pivot_table(index="a", columns="b", values="loss")
    np.testing.assert_array_equal(pivoted, arrays.loss)
    np.testing.assert_array_equal(arrays.loss, surface.data()["surface.npz"]["loss"])
    assert made()["plane"].to_xarray().outcome.sizes == {"a": 5, "b": 4}


def test_a_bifurcation_keeps_its_tail() -> None:
    found = made()["bifurcation"].to_xarray()
    assert found["values"].dims == ("lr", "tail")
    assert found.lyapunov.dims == found.period.dims == ("lr",)
    frame = made()["bifurcation"].to_dataframe()
    assert len(frame) == found["values"].size
    assert frame.groupby("lr")["values"].mean().to_numpy() == pytest.approx(
        found["values"].mean("tail").to_numpy(), nan_ok=True
    )


def test_a_diagnosis_is_its_remedies() -> None:
    found = made()["diagnosis"]
    frame, remedies = found.to_dataframe(), found.to_dict()["remedies"]
    assert frame.name.tolist() == [remedy["name"] for remedy in remedies]
    assert frame.works.dtype == bool
    assert "evidence.final_loss" in frame
    assert "primary" in found.to_dataframe("findings").role.tolist()
    assert found.to_xarray().loss.dims == ("step",)


def test_without_remedies_the_table_is_empty_and_keeps_its_columns() -> None:
    healthy = gd.diagnose(double_well, lr=0.1, steps=60, range=(-2, 2), start=0.5, target=1.0)
    assert healthy.to_dict()["remedies"] == []
    frame = healthy.to_dataframe()
    assert frame[frame.works == True].name.tolist() == []  # noqa: E712
    assert set(frame) <= set(made()["diagnosis"].to_dataframe())


def test_of_a_training_it_is_the_elements() -> None:
    inputs = torch.linspace(-1, 1, 32, dtype=torch.float64)[:, None]
    layer = torch.nn.Linear(1, 1, dtype=torch.float64)
    training = gd.Training(layer, [(inputs, 2 * inputs + 1)], torch.nn.MSELoss())
    found = gd.diagnose(training, lr=0.3, steps=60, params=["weight", "bias"], seeds=0)
    frame = found.to_dataframe()
    assert frame.name.tolist() == ["weight", "bias"]
    np.testing.assert_allclose(frame.final, [2, 1], atol=0.1)
    steps = found.to_xarray()
    np.testing.assert_allclose(steps.weight[-1], frame.final[0])
    assert "data:image/png" in found._repr_html_()


def test_a_log_and_a_check() -> None:
    assert len(made()["explanation"].to_dataframe()) == 60
    check = made()["check"]
    assert check.to_dataframe()["reference.autograd"].item() == check.reference["autograd"]
    with pytest.raises(UsageError, match="Check has no arrays"):
        check.to_xarray()


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no table 'jumps'.*\n.*critical_points"):
        made()["sweep"].to_dataframe("jumps")


@pytest.mark.parametrize(("library", "call"), [("pandas", "to_dataframe"), ("xarray", "to_xarray")])
def test_a_missing_library_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, call: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=f"needs {library}") as caught:
        getattr(made()["sweep"], call)()
    assert "\n" not in str(caught.value)


def test_the_tables_are_what_other_libraries_take(tmp_path: object) -> None:
    assert isinstance(made()["sweep"].to_dataframe(), pd.DataFrame)
    assert isinstance(made()["sweep"].to_xarray(), xr.Dataset)
    made()["basins"].to_xarray().to_dataframe()


# --- plot -----------------------------------------------------------------------------------------


def luminance(color: object) -> float:
    """Returns the relative luminance as WCAG 2 defines it."""
    parts = np.array(to_rgb(color))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: object, other: object) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def texts_of(ax: Axes) -> list[Text]:
    ax.figure.draw_without_rendering()
    found = ax.figure.findobj(Text)
    return [text for text in found if text.get_text() and text.get_label() != ON_MAP]


# Curves on a map lie on its colours, not on the ground.
MAPS = ("surface", "basins", "plane")


@pytest.mark.each(4)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("style", "least"), [("dark_background", 4.5), ("Solarize_Light2", 2.5)])
def test_a_drawing_is_readable_in_every_style(kind: str, style: str, least: float) -> None:
    with plt.style.context(style):
        ax = made()[kind].plot()
        # Solarized's own words have 4.1, and a grey between ink and ground less.
        for text in texts_of(ax):
            box = text.get_bbox_patch()
            assert (
                contrast(text.get_color(), box.get_facecolor() if box else ax.get_facecolor())
                > least
            ), text
        curves = [line for line in ax.lines if not line.get_label().startswith("_")]
        for line in curves if kind not in MAPS else ():
            assert contrast(line.get_color(), ax.get_facecolor()) > min(least, 3), line


@pytest.mark.parametrize("kind", KINDS)
def test_drawing_changes_nothing_but_the_axes(kind: str) -> None:
    before = dict(plt.rcParams)
    figure = Figure()
    ax, other = figure.subplots(1, 2)
    other.plot([1, 2], color="black")
    figure.set_facecolor("#202020")
    ax.set_facecolor("#101010")
    assert made()[kind].plot(ax) is ax
    assert ax.has_data()
    assert dict(plt.rcParams) == before
    assert other.lines[0].get_color() == "black"
    assert plt.get_fignums() == []


def test_on_white_with_black_ink_the_colours_are_those_of_the_report() -> None:
    white, again = (made()["sweep"].plot(Figure().subplots()) for _ in range(2))
    assert [line.get_color() for line in white.lines] == [line.get_color() for line in again.lines]
    assert "#222222" in [line.get_color() for line in white.lines]


def test_without_axes_it_draws_where_pyplot_would() -> None:
    sweep = made()["sweep"]
    figure = plt.figure()
    assert sweep.plot().figure is figure
    # The current Axes are taken now.
    ax = sweep.plot()
    assert ax.figure is not figure
    assert ax is plt.gca()
    _, (left, right) = plt.subplots(1, 2)
    plt.sca(left)
    assert sweep.plot() is left
    plt.sca(right)
    assert made()["run"].plot() is right
    assert len(plt.get_fignums()) == 3


def test_a_drawing_stays_alive_for_pyplot() -> None:
    ax = made()["sweep"].plot()
    assert plt.fignum_exists(ax.figure.number)
    plt.title("mine")
    assert ax.get_title() == "mine"
