"""The animation shows the run: the ball is where the trajectory says, and jumps are slow."""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import gabordiag as gd
from gabordiag.diagnosis.reproduction import kernel_tables
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import Optimization
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along, kernel_table
from gabordiag.presentation.animation import film
from gabordiag.presentation.animation import frames as animation
from gabordiag.presentation.animation.frames import (
    LONGEST,
    PlaneStage,
    Stage,
    chosen_steps,
    storyboard,
)
from gabordiag.presentation.registry import kind_of
from gabordiag.results import View
from tests.presentation.test_figures import Valleys, descend, restore, saved, sgd
from tests.reference import kernel

PERIOD = 2 * math.pi


def view_of(*settings: OptimizerSettings, start: float = -1.0) -> View:
    return descend(Valleys(), list(settings), start).view()


def stage_of(view: View) -> Stage:
    return Stage.set_up(restore("optimize", view))


@pytest.fixture(scope="module")
def jumping() -> View:
    view = view_of(sgd(6.0, 300))
    assert view.result["runs"][0]["n_jumps"] > 3
    return view


@pytest.fixture(scope="module")
def stage(jumping: View) -> Stage:
    return stage_of(jumping)


@pytest.fixture(scope="module")
def gif(jumping: View) -> bytes:
    return animation.animate(restore("optimize", jumping))["gif"]


# --- the plan -------------------------------------------------------------------------------------


def arrivals(stage: Stage) -> list[Any]:
    """The frames in which a step has just been reached."""
    pairs = itertools.pairwise(stage.frames)
    return [b for a, b in pairs if b.step != a.step]


def test_every_arrival_is_a_logged_step(stage: Stage) -> None:
    reached = arrivals(stage)
    assert len(reached) > 10
    for frame in reached:
        assert frame.value == stage.path.values[frame.step]
        assert frame.height == pytest.approx(stage.path.losses[frame.step], abs=1e-12)


def test_the_ball_is_drawn_where_the_trajectory_says(stage: Stage) -> None:
    low, high = stage.axis.limits
    for frame in arrivals(stage):
        stage.show(frame)
        ((x,), (y,)) = stage.actors["ball"].get_data()
        assert low <= x <= high
        assert math.cos(math.radians(x)) == pytest.approx(math.cos(frame.value), abs=1e-9)
        # 1 - cos v + cos(2 v) / 2, the landscape itself: the ball is on it.
        v = math.radians(x)
        assert y == pytest.approx(1 - math.cos(v) + math.cos(2 * v) / 2, abs=1e-9)


def test_steps_are_shown_in_order_without_a_gap(stage: Stage) -> None:
    shown = [frame.step for frame in stage.frames]
    assert shown == sorted(shown)
    assert set(range(shown[0], shown[-1] + 1)) == set(shown)


def test_the_first_jumps_are_slow_marked_and_traced(stage: Stage) -> None:
    run = stage.path.run
    first = run["jumps"][0]["step"]
    jump = [frame for frame in stage.frames if frame.jump == first]
    assert sum(frame.milliseconds for frame in jump) >= 1000
    calm = [f for f in stage.frames[1:] if f.jump is None and f.step <= first]
    assert calm
    stage.show(jump[-1])
    caption = stage.actors["caption"]
    assert caption.get_text().startswith(f"JUMP at step {first}: ")
    _, y = (np.asarray(a, dtype=float) for a in stage.actors["arc"].get_data())
    assert y[0] == pytest.approx(run["jumps"][0]["loss_before"])
    assert y[-1] == pytest.approx(run["jumps"][0]["loss_after"])
    # An arc, not a line: above the straight way between its ends.
    assert np.nanmax(y) > max(y[0], y[-1]) - 1e-9
    assert caption.get_color() == stage.actors["arc"].get_color()
    stage.show(calm[-1])
    assert len(stage.actors["arc"].get_data()[0]) == 0


def test_jumps_are_marked_in_the_loss_below(stage: Stage) -> None:
    stage.show(stage.frames[-1])
    steps, losses = (np.asarray(a, dtype=float) for a in stage.actors["jumps"].get_data())
    expected = [j for j in stage.path.run["jumps"] if j["step"] < stage.frames[-1].step]
    assert len(expected) >= 2
    np.testing.assert_array_equal(steps[::3], [jump["step"] for jump in expected])
    np.testing.assert_allclose(losses[1::3], [jump["loss_after"] for jump in expected])


def test_a_step_of_many_turns_goes_its_remainder() -> None:
    view = view_of(sgd(60.0, 40))
    path = stage_of(view).path
    long = np.flatnonzero(np.abs(np.diff(path.values)) > 2 * PERIOD)
    assert len(long)
    frames = storyboard(path, PERIOD)
    for before, after in itertools.pairwise(frames):
        if before.step == after.step:
            assert abs(after.value - before.value) < PERIOD


@pytest.mark.long
@pytest.mark.each(3)
@pytest.mark.parametrize(
    ("lr", "steps"), [(6.0, 3000), (0.01, 3000), (1e-4, 50), (1.4, 500), (0.1, 1), (60.0, 500)]
)
def test_no_animation_is_longer_than_ten_seconds(lr: float, steps: int) -> None:
    path = stage_of(view_of(sgd(lr, steps))).path
    frames = storyboard(path, PERIOD)
    assert sum(frame.milliseconds for frame in frames) <= LONGEST < 10_000
    assert all(frame.milliseconds % 10 == 0 for frame in frames)
    assert len(frames) <= 300


def test_a_late_jump_is_waited_for(jumping: View) -> None:
    """A long rest before the jump is left out."""
    path = stage_of(jumping).path
    late = {**path.run, "jumps": [{**path.run["jumps"][0], "step": 200}]}
    steps = chosen_steps(type(path)(late, path.steps, path.values, path.losses, path.look))
    assert 150 < steps[0] < 200


def test_a_run_that_rests_is_not_shown_resting() -> None:
    path = stage_of(view_of(sgd(0.3, 2000))).path
    steps = chosen_steps(path)
    assert steps[-1] < 200
    assert abs(path.values[steps[-1]] - path.values[-1]) < 2e-3


def test_a_run_that_breaks_down_ends_before(jumping: View) -> None:
    data = {name: dict(table) for name, table in jumping.data.items()}
    log = data["trajectory-000.csv"]
    log["theta"], log["loss"] = log["theta"].copy(), log["loss"].copy()
    log["theta"][7:] = log["loss"][7:] = math.nan
    broken = View(jumping.result, data)
    assert stage_of(broken).frames[-1].step == 6


def test_of_several_runs_the_one_with_most_jumps_is_shown() -> None:
    stage = stage_of(view_of(sgd(0.1, 60), sgd(6.0, 60)))
    assert stage.path.run["lr"] == 6.0


# --- several parameters ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_plane() -> PlaneStage:
    """Of three parameters u, v, w the first two move: u^2 + v^2 / 20 + w^2 from w = 0.01."""

    def loss(x: torch.Tensor) -> torch.Tensor:
        return x[0] ** 2 + x[1] ** 2 / 20 + x[2] ** 2

    made = gd.optimize(loss, start=(1.5, -1.8, 0.01), range=(-2, 2), target=(0, 0, 0), lr=0.9)
    return PlaneStage.set_up(restore("optimize", made.view()))


def test_the_plane_is_that_of_the_two_that_moved_most(on_plane: PlaneStage) -> None:
    assert [axis.name for axis in on_plane.plane.axes] == ["x[0]", "x[1]"]


def test_the_ball_and_its_trail_are_where_the_trajectory_says(on_plane: PlaneStage) -> None:
    # x <- x (1 - 0.9 L''), with L'' = 2 and 1/10.
    seen = 0
    for before, frame in itertools.pairwise(on_plane.frames):
        if frame.step == before.step:
            continue
        seen, t = seen + 1, frame.step
        on_plane.show(frame)
        ball = [float(column[0]) for column in on_plane.actors["ball"].get_data()]
        assert ball == pytest.approx([1.5 * (-0.8) ** t, -1.8 * 0.91**t], abs=1e-9)
        trail = on_plane.actors["trail"].get_xydata()
        np.testing.assert_allclose(trail[[0, -1]], [[1.5, -1.8], ball], atol=1e-9)
        assert len(trail) == t + 1
        steps, losses = on_plane.actors["curve"].get_data()
        height = ball[0] ** 2 + ball[1] ** 2 / 20
        assert (steps[-1], losses[-1]) == (t, pytest.approx(height, abs=1e-3))
        assert on_plane.actors["caption"].get_text().startswith(f"step {t}: x[0] ")
    assert seen > 20
    assert sum(frame.milliseconds for frame in on_plane.frames) <= LONGEST


def test_the_film_of_several_is_a_gif(on_plane: PlaneStage) -> None:
    few = dataclasses.replace(on_plane, frames=on_plane.frames[:4])
    (*_, last) = few.pictures()
    assert last.size == (800, 400)
    # The ball is blue, the landscape and the losses are there.
    assert len(last.getcolors(1 << 16)) > 20


# --- kernels --------------------------------------------------------------------------------------


def small_kernel(theta: float) -> Any:
    """By the textbook's formula, pixel by pixel."""
    return np.array(kernel(9, theta=theta, wavelength=6.0, sigma=2.0, psi=0.0, gamma=0.5))


@pytest.fixture(scope="module")
def small() -> tuple[Experiment, Optimization]:
    pixels = np.random.default_rng(0).standard_normal((40, 34))
    experiment = Experiment(image=pixels, wavelength=6.0, sigma=2.0, kernel_size=9)
    return experiment, descend(along(experiment, "theta"), [sgd(0.5, 30)], -0.7)


def test_saved_kernels_are_the_formula(small: tuple[Experiment, Optimization]) -> None:
    table = kernel_table(along(small[0], "theta"))["kernels.npz"]
    for index in (0, 40, 180):
        expected = small_kernel(float(table["theta"][index]))
        np.testing.assert_allclose(table["kernels"][index], expected, atol=1e-6)
    np.testing.assert_allclose(table["target_kernel"], small_kernel(math.pi / 4), atol=1e-6)


def test_the_kernel_turns_with_the_ball(small: tuple[Experiment, Optimization]) -> None:
    experiment, runs = small
    view = saved(runs.view().with_data(kernel_table(along(experiment, "theta"))))
    stage = stage_of(view)
    for frame in stage.frames[:: max(1, len(stage.frames) // 7)]:
        stage.show(frame)
        shown = np.asarray(stage.actors["kernel"].get_array())
        # Half a degree off at most.
        assert np.abs(shown - small_kernel(frame.value)).max() < 0.05
    assert stage.actors["kernel_name"].get_text().startswith("kernel at ")


def test_both_filters_have_their_kernels() -> None:
    tables = kernel_tables(Experiment())
    assert set(tables) == {"elongated-kernels.npz", "round-kernels.npz"}
    (long, short) = (table["target_kernel"] for table in tables.values())
    assert np.abs(long).sum() > 1.5 * np.abs(short).sum()


def test_an_own_objective_has_no_kernels(jumping: View) -> None:
    assert kernel_table(Valleys()) == {}
    assert "kernel" not in stage_of(jumping).actors


def test_outside_the_saved_range_no_wrong_kernel_is_shown() -> None:
    pixels = np.random.default_rng(0).standard_normal((30, 30))
    experiment = Experiment(image=pixels, wavelength=6.0, sigma=2.0, kernel_size=9, loss="mse")
    objective = along(experiment, "sigma")
    view = descend(objective, [sgd(0.01, 5)], 3.0).view().with_data(kernel_table(objective))
    stage = stage_of(view)
    outside = type(stage.frames[0])(0, -4.0, 0.0, 40)
    stage.show(outside)
    assert not np.asarray(stage.actors["kernel"].get_array()).any()
    assert "out of range" in stage.actors["kernel_name"].get_text()


# --- the files ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_gif_has_its_size_its_length_and_its_pictures(gif: bytes, stage: Stage) -> None:
    assert len(gif) < 3_000_000
    with Image.open(io.BytesIO(gif)) as picture:
        assert picture.format == "GIF"
        assert picture.size == (800, 400)
        assert picture.info["loop"] == 0
        durations = []
        for index in range(picture.n_frames):
            picture.seek(index)
            durations.append(picture.info["duration"])
        # Pillow joins equal neighbours, never their time.
        assert 50 < picture.n_frames <= len(stage.frames)
        assert sum(durations) == sum(frame.milliseconds for frame in stage.frames)
        assert sum(durations) <= 10_000
        picture.seek(0)
        assert picture.convert("RGB").getpixel((2, 397)) == (255, 255, 255)


@pytest.mark.slow
def test_the_same_view_gives_the_same_bytes(jumping: View, gif: bytes) -> None:
    assert animation.animate(restore("optimize", saved(jumping)))["gif"] == gif


def test_each_filter_has_an_animation_of_its_failing_run(jumping: View) -> None:
    run = jumping.result["runs"][0]
    symptom = {"reproduced": True, "run": run}
    case = {"symptom": symptom, "landscape": jumping.result["landscape"], "runs": [run]}
    data = {f"round-{name}": table for name, table in jumping.data.items()}
    made = restore("reproduce", View({"cases": {"round": case}}, data))
    (film,) = kind_of("reproduce", View({"cases": {}})).films(made).items()
    assert film[0] == "round-"
    assert [path.run for path in film[1].paths] == [run]


def test_nothing_is_cut_off(stage: Stage) -> None:
    stage.show(next(frame for frame in stage.frames if frame.jump is not None))
    width, height = (float(v) for v in stage.figure.bbox.size)
    renderer = stage.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    texts = [*stage.figure.texts, *(t for ax in stage.figure.axes for t in ax.texts)]
    assert len(texts) > 3
    for text in texts:
        extent = text.get_window_extent(renderer)
        assert extent.x0 >= 0
        assert extent.x1 <= width
        assert extent.y0 >= 0
        assert extent.y1 <= height


@pytest.mark.slow
def test_without_ffmpeg_there_is_no_mp4(monkeypatch: pytest.MonkeyPatch, gif: bytes) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert film.to_mp4(gif) is None


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_with_ffmpeg_there_is(gif: bytes) -> None:
    content = film.to_mp4(gif)
    assert content is not None
    assert content[4:8] == b"ftyp"


@pytest.mark.long
def test_a_failing_ffmpeg_is_as_none(
    monkeypatch: pytest.MonkeyPatch, gif: bytes, tmp_path: Any
) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    assert film.to_mp4(gif) is None
