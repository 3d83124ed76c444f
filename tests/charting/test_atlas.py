"""The atlas against sweeps and maps of single landscapes, and its reading against plain loops."""

from __future__ import annotations

import errno
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

import gabordiag as gd
from gabordiag.charting.atlas import Atlas
from gabordiag.charting.engine import make_plan
from gabordiag.charting.grid import Grid
from gabordiag.charting.landscapes import QUANTITIES, RATES
from gabordiag.charting.store import Store
from gabordiag.errors import InputError, OutputError, UsageError
from gabordiag.explorer.page import page_files
from gabordiag.presentation import words
from tests.explorer.chromium import Browser

CHANCE = np.random.default_rng(5)
IMAGES = [CHANCE.uniform(0, 1, (48, 52)), CHANCE.uniform(0, 1, (50, 44)).cumsum(axis=1) % 2]
EXPERIMENT = gd.Experiment(images=IMAGES, kernel_size=11)
AXES: dict[str, Any] = {
    "loss": ("rmse", "mse"), "psi": (0.0, math.pi / 2), "wavelength": (5.0,), "gamma": (0.5, 1.0),
    "sigma": (1.5, 3.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> Atlas:
    return gd.atlas(EXPERIMENT, **AXES, starts=4, steps=300)


@pytest.mark.long
@pytest.mark.each(3)
@pytest.mark.parametrize("place", [(0, 0, 0, 0, 0, 0), (1, 1, 0, 0, 1, 1), (0, 1, 1, 0, 0, 1)])
def test_quantities_are_those_of_a_sweep_and_a_map(made: Atlas, place: tuple[int, ...]) -> None:
    image, *indices = place
    settings = {name: AXES[name][i] for name, i in zip(AXES, indices, strict=True)}
    experiment = gd.Experiment(IMAGES[image], kernel_size=11, **settings)
    found = {name: float(made.columns[name][place]) for name in QUANTITIES}
    landscape = gd.sweep(experiment, points=3).landscape
    target = landscape.target
    assert target is not None
    assert target.basin is not None
    assert found["minima"] == len(landscape.attractors)
    assert found["spurious"] == len(landscape.attractors) - 1
    assert found["basin_width"] == pytest.approx(np.ptp(target.basin), abs=1e-9)
    assert found["largest_loss"] == pytest.approx(landscape.largest_loss, rel=1e-3)
    assert found["certified"] == landscape.certificate.certified == 1
    if settings["loss"] == "mse":
        assert found["unit_lr"] == pytest.approx(1 / target.curvature, rel=1e-9)
    else:
        assert found["unit_lr"] == pytest.approx(math.radians(1) / target.slope, rel=1e-9)
    period = math.pi if settings["psi"] == 0 else 2 * math.pi
    starts = math.pi / 4 + period * (np.arange(4) - 1.5) / 4
    scan = (*(RATES[[0, -1]] * found["unit_lr"]), len(RATES))
    basins = gd.basins(experiment, lr=scan, starts=starts, steps=300)
    shares = basins.reached_share
    assert found["reachable_share"] == pytest.approx(shares.max())
    for name in ("escape_lr", "hold_lr"):
        rate = getattr(basins.windows, name)
        assert found[name] == pytest.approx(math.nan if rate is None else rate, nan_ok=True)
    widest = max(basins.windows.working_lr, key=lambda w: w[1] / w[0], default=(math.nan,) * 2)
    ours = found["window_low"], found["window_high"]
    assert ours == pytest.approx(widest, nan_ok=True)


def test_everything_is_computed_and_proven(made: Atlas) -> None:
    result = made.to_dict()
    assert result["landscapes"] == result["computed"] == result["certified"] == 32
    assert made.to_xarray().sizes["sigma"] == 2
    assert Atlas.from_view(made.view()).to_dict() == result


def _planted(images: int, shape: tuple[int, ...] = (2, 1, 3, 2, 4)) -> Atlas:
    """An atlas whose numbers are random."""
    axes = {
        "image": np.array([f"{i}.png" for i in range(images)]), "loss": np.array(["rmse", "mse"]),
        "psi": np.zeros(1), "wavelength": np.array([4.0, 8.0, 16.0]), "gamma": np.array([0.5, 1.0]),
        "sigma": np.array([2.0, 3.0, 4.0, 6.0]),
    }  # fmt: skip
    chance = np.random.default_rng(1)
    columns = {name: chance.uniform(0.1, 1, (images, *shape)) for name in QUANTITIES}
    width = np.where(chance.uniform(size=(images, *shape)) < 0.5, 1.3, 8.0)
    columns["window_high"] = columns["window_low"] * width
    columns["window_low"][0, 0, 0, 0, 0] = np.nan
    settings = {"theta0": 0.0, "target_theta": 1.0, "steps": 10}
    return Atlas({**axes, **columns}, settings, {"psi": 0, "wavelength": 8, "gamma": 1, "sigma": 4})


def test_prediction_is_that_of_a_plain_loop() -> None:
    atlas = _planted(5)
    told = atlas.prediction
    assert told is not None
    low, high = atlas.columns["window_low"], atlas.columns["window_high"]
    right, promised, missed, hits, tried = 0, 0, 0, 0, 0
    for place in itertools.product(*map(range, low.shape)):
        held, cell = place[0], place[1:]
        learned = [bool(high[(i, *cell)] >= 2 * low[(i, *cell)]) for i in range(5)]
        others = [learned[i] for i in range(5) if i != held]
        said = sum(others) > 2
        right += said == learned[held]
        promised += said and not learned[held]
        missed += learned[held] and not said
        if said and learned[held]:
            unit = atlas.columns["unit_lr"]
            logs = [
                [math.log(of[(i, *cell)] / unit[(i, *cell)]) for of in (low, high)]
                for i in range(5)
                if i != held and not math.isnan(low[(i, *cell)])
            ]
            middle = sum(np.median([pair[end] for pair in logs]) for end in (0, 1)) / 2
            own = math.exp(middle) * unit[place]
            hits += low[place] <= own <= high[place]
            tried += 1
    assert told["accuracy"] == pytest.approx(right / low.size)
    assert (told["promised_but_fails"], told["missed"]) == (promised, missed)
    assert told["rate_works"] == pytest.approx(hits / tried)


@pytest.mark.parametrize(
    ("count", "said"), [(1, "1 is promised and fails,"), (2, "2 are promised and fail,")]
)
def test_broken_promises_are_counted(count: int, said: str, monkeypatch: Any) -> None:
    atlas = _planted(5)
    result = atlas.to_dict()
    result["prediction"]["promised_but_fails"] = count
    monkeypatch.setattr(Atlas, "to_dict", lambda _: result)
    assert any(said in getattr(block, "text", "") for block in words.atlas(atlas))


def test_one_image_predicts_nothing() -> None:
    assert _planted(1).prediction is None


def test_charts_are_means_over_bins() -> None:
    atlas = _planted(3)
    chart = atlas.charts[1]
    assert chart.loss == "mse"
    sums: dict[tuple[int, int], list[float]] = {}
    for image, w, g, s in itertools.product(range(3), range(3), range(2), range(4)):
        ratio = atlas.columns["sigma"][s] / atlas.columns["wavelength"][w]
        column = next(
            c for c in range(len(chart.edges) - 1)
            if chart.edges[c] <= ratio * (1 + 1e-12) and ratio < chart.edges[c + 1] * (1 - 1e-12)
        )  # fmt: skip
        value = atlas.columns["reachable_share"][image, 1, 0, w, g, s]
        sums.setdefault((g, column), []).append(value)
    for (row, column), values in np.ndenumerate(chart.maps["arrive"]):
        expected = sums.get((row, column))
        if expected is None:
            assert math.isnan(values)
        else:
            assert values == pytest.approx(np.mean(expected))


def test_the_nearest_filter_that_can_be_learned() -> None:
    atlas = _planted(3)
    low, high = atlas.columns["window_low"], atlas.columns["window_high"]
    high[...] = low
    low[...], high[...] = 1.0, 1.5
    # With mse on two of three images at wavelength 8, gamma 0.5, sigma 3, on one at gamma 1.
    high[:2, 1, 0, 1, 0, 1] = 5.0
    high[0, 1, 0, 1, 1, 2] = 5.0
    place = atlas.place("mse", wavelength=8.2, gamma=1, sigma=4.2)
    assert place.charted == {"psi": 0, "wavelength": 8, "gamma": 1, "sigma": 4}
    assert (place.learned, place.images) == (1, 3)
    assert place.nearest == {"psi": 0, "wavelength": 8, "gamma": 0.5, "sigma": 3}
    assert place.nearest_learned == 2
    assert "gamma 0.5, sigma 3 px" in place.sentence
    assert atlas.place("rmse", sigma=4).nearest is None
    with pytest.raises(UsageError, match="huber"):
        atlas.place("huber")


@pytest.mark.slow
def test_store_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    grid = Grid(EXPERIMENT, AXES, 4, 300)
    store = Store(grid, path)
    (images,) = grid.image_blocks()
    tasks = list(store.open_tasks(images))
    assert len(tasks) == 8
    ones = np.ones((len(QUANTITIES), 2, 2))
    store.add(tasks[3], ones)
    # What was not written is not there.
    assert list(Store(grid, path).open_tasks(images)) == tasks
    store.flush()
    again = Store(grid, path)
    assert list(again.open_tasks(images)) == tasks[:3] + tasks[4:]
    whole = gd.atlas(EXPERIMENT, **AXES, starts=4, steps=300, out=path)
    opened = xarray.open_zarr(path)
    assert opened.done.values.all()
    assert opened.sizes == {
        "image": 2, "loss": 2, "psi": 2, "wavelength": 1, "gamma": 2, "sigma": 2,
    }  # fmt: skip
    # What was there was not computed again.
    kept = (slice(None), slice(None), *tasks[3].filter)
    np.testing.assert_array_equal(opened.minima.values[kept], 1)
    np.testing.assert_array_equal(opened.minima.values, whole.columns["minima"])
    with pytest.raises(InputError, match="steps differ"):
        Store(Grid(EXPERIMENT, AXES, 4, 301), path)
    with pytest.raises(InputError, match="sigma differ"):
        Store(Grid(EXPERIMENT, {**AXES, "sigma": (1.5, 4.0)}, 4, 300), path)


def test_a_store_that_cannot_be_read_or_written(tmp_path: Path, monkeypatch: Any) -> None:
    path, grid = tmp_path / "a.zarr", Grid(EXPERIMENT, AXES, 4, 50)
    store = Store(grid, path)
    (images,) = grid.image_blocks()
    store.add(next(iter(store.open_tasks(images))), np.ones((len(QUANTITIES), 2, 2)))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__setitem__", full)
        with pytest.raises(OutputError, match="No space left"):
            store.flush()
    # With space again, nothing is lost.
    store.flush()
    assert Store(grid, path).done.sum() == 4
    chunk = next(path.glob("minima/0*"))
    for damaged in (chunk, path / ".zmetadata"):
        damaged.write_bytes(b"{")
        with pytest.raises(InputError, match="damaged"):
            Store(grid, path)


def test_plan_counts_what_is_left() -> None:
    store = Store(Grid(EXPERIMENT, AXES, 4, 50))
    plan = make_plan(store, 2)
    assert (plan.landscapes, plan.left, plan.workers) == (32, 32, 2)
    assert plan.seconds > 0
    (images,) = store.grid.image_blocks()
    for task in store.open_tasks(images):
        store.add(task, np.ones((len(QUANTITIES), 2, 2)))
    assert make_plan(store, 2).left == make_plan(store, 2).seconds == 0


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ({"sigma": (2.0, 2.0)}, "sigma"),
        ({"gamma": ()}, "gamma"),
        ({"sigma": (-1.0,)}, "sigma"),
        ({"loss": ("huber",)}, "huber"),
    ],
)
def test_impossible_grids_are_refused(axes: dict[str, Any], problem: str) -> None:
    with pytest.raises((UsageError, InputError, ValueError), match=problem):
        Grid(EXPERIMENT, {**AXES, **axes}, 4, 50)


@pytest.mark.long
@pytest.mark.browser
def test_page_shows_the_chosen_chart(tmp_path: Path) -> None:
    atlas = _planted(3)
    (tmp_path / "page.html").write_bytes(page_files("atlas", atlas.view())["page.html"])
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(tmp_path / "page.html")
        shown = browser.run(
            "const find = (name) => Bokeh.documents[0].get_model_by_name(name);"
            "find('chart').value = 'mse, phase 0°'; find('shown').value = 'spurious';"
            "return [...find('cells').data.shown];"
        )
        # Under the page's security policy.
        assert browser.problems() == []
    finally:
        browser.close()
    values = atlas.charts[1].maps["spurious"]
    np.testing.assert_allclose(shown, values[np.isfinite(values)], rtol=1e-12)
