"""Several parameters: what is told and drawn of runs, diagnoses and planes of starts."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

import gabordiag as gd
from gabordiag.api import plane_basins
from gabordiag.cli.main import run
from gabordiag.dynamics.maps import PlaneBasins
from gabordiag.dynamics.run import Optimization, Run
from gabordiag.presentation import registry, report
from gabordiag.presentation import registry as figures
from gabordiag.presentation.blocks import Picture, Table, Verdict
from gabordiag.presentation.colors import OUTCOME_COLORS
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.sheets import SHEETS
from gabordiag.presentation.figures.space import broken_at_wraps
from gabordiag.presentation.page import to_fragment
from gabordiag.results import View
from gabordiag.runs.saved import load_run
from tests.presentation.test_figures import drawings_of, restore

LEARNED = ("theta", "sigma", "psi")


@pytest.fixture(scope="module")
def experiment() -> gd.Experiment:
    pixels = 0.5 + np.random.default_rng(0).standard_normal((40, 34))
    return gd.Experiment(image=pixels, wavelength=6.0, sigma=2.0, kernel_size=13, loss="mse")


@pytest.fixture(scope="module")
def runs(experiment: gd.Experiment) -> Optimization:
    return gd.optimize(experiment, ["adam", "sgd"], 0.05, steps=60, over=LEARNED)


@pytest.fixture(scope="module")
def plane(experiment: gd.Experiment) -> PlaneBasins:
    return plane_basins(experiment, ("theta", "sigma"), "adam", 0.05, steps=60, points=(6, 5))


def planted(view: View, **changes: Any) -> View:
    """The view with one run only, some of whose fields are changed."""
    run = {**copy.deepcopy(view.result["runs"][0]), **changes}
    return View({**view.result, "runs": [run]}, view.data)


def pairs_figure(view: View) -> Figure:
    return figures.space.pairs_figure(restore("optimize", view))


def text_of(command: str, view: View) -> str:
    return " ".join(to_fragment(registry.blocks_of(command, view), {}, "blocks.md").split())


def lines_of(figure: Figure) -> list[np.ndarray]:
    """The points of all lines of the planes, the losses' axes left out."""
    return [np.array(line.get_xydata()) for ax in figure.axes[1:] for line in ax.lines]


def as_read(run: Run, name: str) -> np.ndarray:
    """A run's values as the axes show them: angles in degrees from -180 to 180."""
    values = run.trajectory.values[:, LEARNED.index(name)]
    return values if name == "sigma" else (np.degrees(values) + 180) % 360 - 180


def hessian(*eigenvalues: float) -> dict[str, Any]:
    low, high = eigenvalues[0], eigenvalues[-1]
    return {
        "eigenvalues": list(eigenvalues),
        "condition_number": high / low if low > 0 else None,
        "stable_lr": 2 / high if high > 0 else None,
        "is_minimum": low > 0,
    }


class TestWordsOnRuns:
    def test_each_parameter_is_compared_with_its_own_tolerance(self, runs: Optimization) -> None:
        tolerances = dict(zip(LEARNED, runs.view().result["tolerances"], strict=True))
        apart = {"theta": 2 * tolerances["theta"], "sigma": 0.5 * tolerances["sigma"], "psi": 0.0}
        view = planted(runs.view(), distance_to_target=apart)
        tables = [b for b in registry.blocks_of("optimize", view) if isinstance(b, Table)]
        there = {row[0]: row[-1].split(",")[0] for row in tables[1].rows}
        assert there == {"theta": "no", "sigma": "yes", "psi": "yes"}
        assert tables[1].rows[0][4] == f"{math.degrees(apart['theta']):.2f}°"

    def test_an_end_at_a_copy_is_explained(self, runs: Optimization) -> None:
        target = runs.view().result["target"]
        turned = {**target, "theta": target["theta"] + math.pi, "psi": -target["psi"]}
        there = planted(runs.view(), outcome="reached", target_copy=turned)
        assert "theta + 180° with psi turned to -psi is the same filter" in text_of(
            "optimize", there
        )
        assert "copy of the target" in words_on(pairs_figure(there))

    @pytest.mark.parametrize("turns", [0, 1, -2])
    def test_whole_turns_are_no_copy(self, runs: Optimization, turns: int) -> None:
        target = runs.view().result["target"]
        same = {**target, "theta": target["theta"] + turns * 2 * math.pi}
        view = planted(runs.view(), outcome="reached", target_copy=same)
        assert "same filter" not in text_of("optimize", view)

    def test_the_hessian_of_a_minimum(self, runs: Optimization) -> None:
        view = planted(
            runs.view(),
            outcome="reached",
            hessian=hessian(0.5, 3.0, 64.0),
            minimum=runs.view().result["target"],
        )
        told = text_of("optimize", view)
        assert "The condition number is 128" in told
        assert "gradient descent above 0.0312 (2 / largest eigenvalue)" in told

    def test_no_bound_without_a_minimum(self, runs: Optimization) -> None:
        view = planted(runs.view(), hessian=hessian(-2.0, -1.0, 64.0), minimum=None)
        told = text_of("optimize", view)
        assert "Along 2 of its 3 directions" in told
        assert "condition number" not in told
        assert "0.0312" not in told

    def test_a_root_is_said_to_hold_no_rate(self, runs: Optimization) -> None:
        target = runs.view().result["target"]
        view = planted(runs.view(), loss="rmse", hessian=hessian(1.0, 2.0, 4.0), minimum=target)
        told = text_of("optimize", view)
        assert "the Hessian of mse" in told
        assert "rmse has a kink at its zero" in told

    @pytest.mark.long
    def test_a_run_that_broke_down(self, runs: Optimization) -> None:
        nothing = dict.fromkeys(LEARNED)
        view = planted(
            runs.view(),
            outcome="nonfinite",
            final=nothing,
            final_loss=None,
            distance_to_target=nothing,
            minimum=None,
            hessian={**hessian(-1.0, 1.0), "eigenvalues": [None] * 3},
        )
        assert "it broke off at the end above" in text_of("optimize", view)
        assert "Hessian" not in text_of("optimize", view)
        assert pairs_figure(view).axes

    def test_own_rates_and_several_runs_are_told_apart(self, runs: Optimization) -> None:
        own = planted(runs.view(), lr={"theta": 0.5, "sigma": 0.25, "psi": 0.125})
        assert "theta 0.5, sigma 0.25, psi 0.125" in text_of("optimize", own)
        told = text_of("optimize", runs.view())
        assert "Run 1, adam, lr 0.05:" in told
        assert "Run 2, sgd, lr 0.05:" in told

    def test_what_one_minimum_says_of_rates_is_said_once(self, runs: Optimization) -> None:
        view = runs.view()
        same = {
            "outcome": "reached",
            "hessian": hessian(1.0, 4.0),
            "minimum": view.result["target"],
        }
        both = View({**view.result, "runs": [run | same for run in view.result["runs"]]}, view.data)
        assert text_of("optimize", both).count("The condition number is 4") == 1


class TestWordsOnTheOthers:
    @pytest.mark.slow
    def test_a_diagnosis_answers_and_then_says_its_verdict(self, experiment: gd.Experiment) -> None:
        diagnosis = gd.diagnose(experiment, "sgd", 1e-5, steps=40, over=("theta", "sigma"))
        answers, verdict = registry.blocks_of("diagnose", diagnosis.view())[:2]
        assert isinstance(answers, Table)
        assert answers.rows[-1] == ("What helps?", diagnosis.headline)
        assert verdict == Verdict(diagnosis.headline, diagnosis.verdict, diagnosis.is_healthy)
        told = text_of("diagnose", diagnosis.view())
        for finding in diagnosis.findings:
            assert " ".join(finding.explanation.split()) in told
        assert list(drawings_of("diagnose", diagnosis.view())) == ["pairs"]

    def test_a_plane_says_which_share_arrives(self, plane: PlaneBasins) -> None:
        view = plane.view()
        shares = {**dict.fromkeys(view.result["fractions"], 0.0), "reached": 0.25, "cycle": 0.75}
        view = View({**view.result, "fractions": shares, "reached_share": 0.25}, view.data)
        told = text_of("basins", view)
        assert "25% of the starts over theta and sigma reach the target" in told
        assert "| cycle | 75.0% |" in told
        assert "frozen" not in told
        for point in view.result["surface"]["local_minima"]:
            assert f"{math.degrees(point['theta']):.3f}°" in told

    @pytest.mark.parametrize(
        ("share", "said"),
        [(0.0, "None"), (1.0, "All"), (0.001, "Under 1%"), (0.999, "Over 99%"), (0.5, "50%")],
    )
    def test_none_and_all_are_said_of_nothing_else(
        self, plane: PlaneBasins, share: float, said: str
    ) -> None:
        view = View({**plane.view().result, "reached_share": share}, plane.view().data)
        headline = words_on(figures.space.plane_figure(view)).split("\n")[0]
        assert headline == f"{said} of the starts over theta and sigma reach the target"
        assert f"{said.lower()} of the starts" in text_of("basins", view)


class TestPairs:
    def test_the_paths_are_those_of_the_data(self, runs: Optimization) -> None:
        figure = pairs_figure(runs.view())
        drawn = [line[np.isfinite(line).all(axis=1)] for line in lines_of(figure)]
        for pair in runs.pairs:
            for one in runs.runs:
                path = np.stack([as_read(one, name) for name in pair.names], axis=1)
                assert any(line.shape == path.shape and np.allclose(line, path) for line in drawn)

    def test_the_losses_are_those_of_the_data(self, runs: Optimization) -> None:
        ax = pairs_figure(runs.view()).axes[0]
        # Jumps are drawn again on top, each from one step to the next.
        whole = [line for line in ax.lines if len(line.get_xdata()) > 2]
        for one, line in zip(runs.runs, whole, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), one.trajectory.losses)

    def test_a_line_breaks_where_either_angle_wraps(self) -> None:
        period = 2 * math.pi
        axes = [ParameterAxis.over(n, -math.pi, math.pi, period, "rad") for n in ("theta", "psi")]
        degrees = np.array([[170.0, 175.0, 185.0, 190.0], [0.0, 5.0, 10.0, -190.0]])
        x, y = broken_at_wraps(axes, list(np.radians(degrees)))
        nan = math.nan
        np.testing.assert_allclose(x, [170, 175, nan, -175, nan, -170], atol=1e-9)
        np.testing.assert_allclose(y, [0, 5, nan, 10, nan, 170], atol=1e-9)

    def test_every_pair_has_a_plane_with_its_own_window(self, runs: Optimization) -> None:
        axes = pairs_figure(runs.view()).axes[1 : 1 + len(runs.pairs)]
        assert len(axes) == math.comb(len(LEARNED), 2)
        for ax, pair in zip(axes, runs.pairs, strict=True):
            assert ax.get_xlabel().split()[0] == pair.names[0]
            assert ax.get_ylabel().split()[0] == pair.names[1]

    def test_two_parameters_are_plotted_on_their_plane_more_by_their_losses(
        self, runs: Optimization, experiment: gd.Experiment
    ) -> None:
        assert runs.plot().get_xlabel() == "step"
        two = gd.optimize(experiment, "adam", 0.05, steps=5, over=("theta", "sigma"))
        assert two.plot().get_xlabel() == "theta [degrees]"


class TestPlane:
    def test_the_colours_are_the_outcomes(self, plane: PlaneBasins) -> None:
        view = plane.view()
        grid = {**view.data["basins.npz"]}
        names = [str(name) for name in grid["outcome_names"]]
        # Every outcome somewhere, and no symmetry that would hide a transposed map.
        grid["outcome"] = np.arange(30).reshape(6, 5) % len(names)
        figure = figures.space.plane_figure(View(view.result, {**view.data, "basins.npz": grid}))
        (mesh,) = [c for c in figure.axes[0].collections if isinstance(c, QuadMesh)]
        figure.canvas.draw()
        colors = mesh.to_rgba(mesh.get_array())
        for i in range(6):
            for j in range(5):
                expected = to_rgba(OUTCOME_COLORS[names[grid["outcome"][i, j]]])
                assert tuple(colors[j, i]) == expected

    def test_a_period_is_closed_by_its_first_starts(self, plane: PlaneBasins) -> None:
        figure = figures.space.plane_figure(plane.view())
        (mesh,) = [c for c in figure.axes[0].collections if isinstance(c, QuadMesh)]
        codes = np.asarray(mesh.get_array())
        assert codes.shape == (5, 7)
        np.testing.assert_array_equal(codes[:, -1], codes[:, 0])
        corners = np.asarray(mesh.get_coordinates())[0, :, 0]
        assert corners[0] <= figure.axes[0].get_xlim()[0]
        assert corners[-1] >= figure.axes[0].get_xlim()[1]

    def test_the_minima_found_are_marked(self, plane: PlaneBasins) -> None:
        (ax,) = figures.space.plane_figure(plane.view()).axes
        marked = np.concatenate([line.get_xydata() for line in ax.lines])
        for point in plane.view().result["surface"]["local_minima"]:
            place = [math.degrees(point["theta"]), point["sigma"]]
            assert np.abs(marked - place).max(axis=1).min() < 1e-9


class TestReports:
    @pytest.mark.long
    @pytest.mark.each(6)
    @pytest.mark.parametrize(("command", "stem"), [("optimize", "pairs"), ("basins", "plane")])
    @pytest.mark.parametrize("size", SHEETS)
    def test_the_picture_has_its_place(
        self, command: str, stem: str, size: str, runs: Optimization, plane: PlaneBasins
    ) -> None:
        view = (runs if command == "optimize" else plane).view()
        files, _ = report.make_files(
            command, view, {}, report.ReportOptions(size=size, animate=True)
        )
        shown = {name for name in files if not name.startswith("animation")}
        assert shown == {f"{stem}.png", "report.md", "report.html"}
        assert ("animation.gif" in files) == (command == "optimize")
        assert Picture(stem) in registry.blocks_of(command, view)
        assert f"{stem}.png" in files["report.md"].decode()

    @pytest.mark.long
    @pytest.mark.each(3)
    @pytest.mark.parametrize(
        ("command", "options", "stem"),
        [
            ("basins", ["--starts", "theta,sigma:5"], "plane"),
            (
                "optimize",
                ["--learn", "theta", "--learn", "sigma", "--log-scale", "sigma"],
                "pairs",
            ),
            ("diagnose", ["--learn", "theta", "--learn", "sigma"], "pairs"),
        ],
    )
    def test_a_run_folder_says_what_was_said(
        self,
        command: str,
        options: list[str],
        stem: str | None,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        pixels = 255 * np.random.default_rng(0).random((30, 34))
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "noise.png")
        small = ["--image", str(tmp_path / "noise.png"), "--kernel-size", "9", "--sigma", "2"]
        few = ["--wavelength", "5", "--steps", "40", "--loss", "mse", "--lr", "0.01"]
        out = tmp_path / "run"
        assert run([command, *options, *small, *few, "--out", str(out)]) == 0
        capsys.readouterr()
        saved = load_run(out)
        # The view of the folder gives the files that the run itself has written.
        files, told = report.redo(saved, report.ReportOptions())
        assert set(files) == {"report.md", "report.html"} | ({f"{stem}.png"} if stem else set())
        for name, content in files.items():
            assert (out / name).read_bytes() == content, name
        assert told == registry.blocks_of(command, saved.view)


def words_on(figure: Figure) -> str:
    found = [text.get_text() for text in figure.texts]
    return "\n".join(
        [*found, *(text.get_text() for legend in figure.legends for text in legend.get_texts())]
    )
