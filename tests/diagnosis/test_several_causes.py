"""Causes of a run of several parameters, one by one, on an image with a known second minimum."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gabordiag as gd
from gabordiag.api import as_objective_of
from gabordiag.diagnosis import evidence, verdict
from gabordiag.diagnosis.causes import (
    kink,
    no_working_lr,
    step_too_large,
    step_too_small,
    target_unreachable,
    wrong_basin,
)
from gabordiag.diagnosis.evidence import Facts, SpaceBench
from gabordiag.diagnosis.log.comparison import run_from_log
from gabordiag.diagnosis.log.readers import read_logs
from gabordiag.diagnosis.remedies import leave_saddle
from gabordiag.diagnosis.verdict import headline
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import run as run_one
from gabordiag.errors import UsageError
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.results import Finding
from tests.diagnosis.planting import cardinal_gabor


def _facts(loss: str, lr: float, steps: int) -> Facts:
    """From beside the antidiagonal, where the image has a minimum of its own."""
    objective = GaborObjective(cardinal_gabor(loss), ("theta", "sigma"))
    return Facts(run_one(objective, OptimizerSettings("sgd", lr, steps=steps)))


@pytest.fixture(scope="module")
def caught() -> Facts:
    return _facts("mse", 0.089, 400)


def test_another_minimum_is_named_and_the_advised_start_arrives(caught: Facts) -> None:
    # The image mirrors about both diagonals, so that theta rests on one of them exactly.
    assert caught.run.outcome == "local_minimum"
    found = wrong_basin(caught)
    assert found.present
    assert found.sufficient
    assert found.evidence["minimum"]["theta"] == pytest.approx(-math.pi / 4, abs=1e-6)
    start = np.array(list(found.evidence["counterfactual"]["start"].values()))
    again = run_one(caught.objective, caught.run.settings, start)
    assert np.abs(again.final - caught.space.target).max() < 0.02
    assert f"--start theta={math.degrees(start[0]):.4g}deg" in found.advice


def test_a_rate_that_no_basin_holds_makes_another_start_no_cure() -> None:
    found = wrong_basin(_facts("mse", 0.3, 400))
    assert found.present
    assert not found.sufficient
    assert found.advice == ""


@pytest.mark.slow
def test_where_no_tried_rate_arrives_all_are_listed(
    caught: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Below the bound of the start's own minimum, where descent only goes down.
    monkeypatch.setattr(evidence, "SCANNED_RATES", (0.02, 0.08))
    found = no_working_lr(caught)
    assert found.present
    # The run's own, and two just below what the target holds, which is sharper.
    assert {"0.02", "0.08", "0.089"} <= set(found.evidence["tried"])
    assert len(found.evidence["tried"]) == 5
    assert "reached" not in found.evidence["tried"].values()


def test_without_its_root_a_caught_run_is_caught_as_well() -> None:
    facts = _facts("rmse", 0.01, 200)
    assert not kink(facts).present
    assert facts.squared is not None
    assert not facts.squared.confirmed(facts.settings, facts.start).reached


@pytest.mark.slow
def test_a_rate_beyond_the_targets_bound_is_told_even_where_it_settles(caught: Facts) -> None:
    # The minimum it rests in is flatter than the target.
    facts = _facts("mse", 0.3, 400)
    assert facts.bench.holds(facts.settings) is False
    found = step_too_large(facts)
    assert found.present
    assert found.explanation.startswith("the rate 0.3 is")


@pytest.mark.long
def test_a_rate_that_the_scan_beside_a_kink_refutes_is_too_large() -> None:
    """At the kink of a root no theory bounds the rate: what ran from beside the target does."""
    facts = _facts("rmse", 3.0, 200)
    assert facts.bench.bound(facts.settings) is None
    found = step_too_large(facts)
    assert found.present
    hold = found.evidence["hold_lr"]
    assert hold is not None
    assert hold < 3.0
    assert f" {hold:.3g}, up to which" in found.explanation


def test_the_headline_says_what_there_is_to_say(caught: Facts) -> None:
    finding = Finding("wrong_basin", True, False, {}, "the run settled elsewhere")
    assert headline(caught, "wrong_basin", (finding,), ()) == (
        "The run settled elsewhere. None of the 0 remedies tried helps."
    )
    assert "ends local minimum, and no cause" in headline(caught, "inconclusive", (), ())


def _sines(v: Tensor) -> Tensor:
    return torch.sin(v[0]) * torch.sin(v[1])


@pytest.mark.slow
def test_a_run_that_ends_at_a_saddle_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "REMEDIES", (leave_saddle,))
    monkeypatch.setattr(evidence, "SCANNED_RATES", (0.01, 0.1))
    monkeypatch.setattr(evidence, "SCAN_STEPS", 300)
    # On the diagonal sin^2: descent ends at 0, where the Hessian is ((0, 1), (1, 0)).
    found = gd.diagnose(_sines, start=(0.6, 0.6), range=(-2, 2), lr=0.1)
    primary = found.findings[0]
    saddle = primary.evidence["saddle"]
    np.testing.assert_allclose(saddle["eigenvalues"], [-1, 1], atol=1e-9)
    assert saddle["stayed_equal"] == ["v[0]", "v[1]"]
    for text in (primary.explanation, found.headline):
        assert "saddle" in text
        assert "stayed equal" in text
    # The minima are (pi/2, -pi/2) and its mirror: none was given, none is called the target.
    said = [finding.explanation for finding in found.findings]
    assert not [text for text in (found.headline, *said) if "target" in text]
    leave = next(remedy for remedy in found.remedies if remedy.name == "leave_saddle")
    assert leave.works
    assert not leave.needs_target
    start = np.array(list(leave.evidence["start"].values()))
    path = start.copy()
    for _ in range(500):
        path -= 0.1 * np.cos(path) * np.sin(path[::-1])
    assert np.abs(np.abs(path) - math.pi / 2).max() < 1e-3
    assert path[0] * path[1] < 0


def test_a_run_at_a_minimum_ends_at_no_saddle(caught: Facts) -> None:
    assert caught.saddle is None


def _valley(v: Tensor) -> Tensor:
    """Curvatures 1 and 0.02: at lr 0.1 the flat direction takes 500 steps to fall by e."""
    return 0.5 * v[0] ** 2 + 0.01 * v[1] ** 2


@pytest.mark.slow
def test_a_run_that_more_steps_bring_to_the_goal_is_too_small_a_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # No other rate is tried: at the own one v[1] shrinks by 0.998 a step, and is within 0.04
    # after ln(0.04 / 1.5) / ln(0.998) = 1811 steps.
    monkeypatch.setattr(SpaceBench, "tuned", lambda *_, **__: None)
    objective = as_objective_of(_valley, ["theta"], start=(1.0, 1.5), range=(-2, 2), target=(0, 0))
    facts = Facts(run_one(objective, OptimizerSettings("sgd", 0.1, steps=300)))
    assert facts.run.outcome == "unfinished"
    found = step_too_small(facts)
    assert found.sufficient
    trial = found.evidence["counterfactual"]
    assert trial["lr"] == 0.1
    assert trial["steps_to_target"] == math.ceil(math.log(0.04 / 1.5) / math.log(0.998))
    # The first multiple of 300 whose last tenth lies beyond that.
    assert trial["steps"] == 3000
    assert not no_working_lr(facts).present


@pytest.mark.slow
def test_a_run_that_only_comes_nearer_is_still_on_its_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "_MOST_STEPS", 0)
    monkeypatch.setattr(SpaceBench, "tuned", lambda *_, **__: None)
    objective = as_objective_of(_valley, ["theta"], start=(1.0, 1.5), range=(-2, 2), target=(0, 0))
    facts = Facts(run_one(objective, OptimizerSettings("sgd", 0.1, steps=300)))
    found = step_too_small(facts)
    assert found.present
    assert not found.sufficient
    assert found.advice == ""
    assert found.evidence["counterfactual"]["steps"] == 1200
    assert not no_working_lr(facts).present


def test_a_log_of_several_is_diagnosed_like_the_run_it_came_from(tmp_path: Path) -> None:
    # A loop of one's own.
    v = torch.tensor([1.0, 1.5], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([v], lr=0.9)
    path, own = tmp_path / "run.csv", {"v[0]": v[0], "v[1]": v[1]}
    values = []
    with gd.TrajectoryLogger(path, **own) as log:
        for _ in range(400):
            optimizer.zero_grad()
            loss = _valley(v)
            loss.backward()
            log.step(loss, lr=0.9)
            values.append(v.detach().numpy().copy())
            optimizer.step()
    wanted = np.array(values)
    bare = {
        "step": np.arange(400), "v[0]": wanted[:, 0], "v[1]": wanted[:, 1],
        "loss": [float(_valley(torch.tensor(row))) for row in values],
    }  # fmt: skip
    about: dict[str, Any] = {"start": (1, 1.5), "range": (-2, 2), "target": (0, 0)}
    for source in (path, bare):
        found = gd.diagnose(_valley, lr=0.9, from_log=source, **about)
        made = found.run.trajectory
        np.testing.assert_array_equal(made.values, wanted)
        np.testing.assert_allclose(made.gradients, wanted * [1, 0.02], rtol=1e-12)
        np.testing.assert_allclose(made.updates[:-1], -0.9 * made.gradients[:-1], rtol=1e-9)
        np.testing.assert_array_equal(made.lrs, np.full((400, 2), 0.9))
        assert found.verdict == "healthy"
    with pytest.raises(UsageError, match=r"no column 'v\[1\]'"):
        gd.diagnose(_valley, from_log={"v[0]": wanted[:, 0], "loss": bare["loss"]}, **about)


def test_a_trajectory_of_several_comes_back_as_it_was(caught: Facts) -> None:
    path = caught.run.trajectory
    logs = read_logs(path.to_table(caught.space.names), caught.space.names)
    again, compared = run_from_log(caught.objective, caught.run.settings, None, logs, np.ones(2))
    for name in ("values", "losses", "gradients", "lrs"):
        np.testing.assert_array_equal(getattr(again.trajectory, name), getattr(path, name))
    assert compared.finding is None
    assert again.outcome == caught.run.outcome
    assert again.rates.tolist() == caught.run.rates.tolist()


@pytest.mark.slow
def test_what_only_the_start_hides_is_not_called_without_effect() -> None:
    # The angle of an ellipse has none while it is a circle.
    way = torch.linspace(0, 6, 40, dtype=torch.float64)

    def outline(v: Tensor) -> Tensor:
        return 1 / (1 + v[0] ** 2 * torch.cos(way - v[1]) ** 2)

    wanted = outline(torch.tensor([1.0, 0.4], dtype=torch.float64))
    found = gd.diagnose(
        lambda v: ((outline(v) - wanted) ** 2).mean(), range=[(0, 2), (-1.5, 1.5)],
        start=(0.0, 0.1), target=(1.0, 0.4), lr=0.5, steps=100,
    )  # fmt: skip
    # The slope of v[0]^2 is zero at 0: there the run stands, and it is no fault of the angle.
    assert found.run.outcome == "frozen"
    assert found.verdict != "flat_objective"
    assert "does not depend" not in found.headline


def the_sum(v: Tensor) -> Tensor:
    """Lowest, 0, wherever v0 + v1 = 0.1; along the gradient, (1, 1), v0 - v1 stays."""
    return (v[0] + v[1] - 0.1) ** 2


def the_product(v: Tensor) -> Tensor:
    """Lowest, 0, wherever v0 v1 = 1, as of two factors of one matrix."""
    return (v[0] * v[1] - 1) ** 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("loss", "start", "target"),
    [
        (the_sum, (1.0, 1.0), (0.3, -0.2)),
        pytest.param(the_product, (2.0, 0.3), (1.0, 1.0), marks=pytest.mark.slow),
    ],
)
def test_a_target_on_the_floor_of_a_valley_is_not_distinguished(
    loss: Any, start: tuple[float, float], target: tuple[float, float]
) -> None:
    given = {"range": (-4, 4), "start": start, "lr": 0.05, "steps": 200}
    values = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([values], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        loss(values).backward()
        optimizer.step()
    end = values.detach()
    assert loss(end) < 1e-20
    assert (end - torch.tensor(target)).abs().max() > 0.08
    found = gd.diagnose(loss, target=target, **given)
    assert (found.verdict, found.run.outcome) == ("target_unreachable", "local_minimum")
    assert "it does not distinguish the two" in found.headline
    np.testing.assert_allclose(found.run.final, end, atol=1e-9)
    # Without a target any place on the floor is the lowest minimum.
    assert gd.diagnose(loss, **given).verdict == "healthy"


def test_a_valley_that_falls_along_its_floor_has_no_minimum_there() -> None:
    # Newton's method, blind to it, would take the floor for a minimum.
    found = gd.optimize(
        lambda v: the_sum(v) + 1e-3 * torch.exp(v[0] - v[1]),
        range=(-4, 4), start=(1.0, 1.0), lr=0.05, steps=200,
    ).runs[0]  # fmt: skip
    assert found.outcome != "local_minimum"


def _without_target(function: Any, ranges: Any, start: Any, lr: float) -> tuple[Finding, Any]:
    """What is said of the minimum that a run without a target should reach, and where that is."""
    objective = as_objective_of(function, ["theta"], start=start, range=ranges)
    run = evidence.with_lowest_as_target(
        run_one(objective, OptimizerSettings("sgd", lr, steps=300))
    )
    return target_unreachable(Facts(run)), run.space.target


@pytest.mark.long
def test_a_loss_without_a_minimum_is_said_to_have_none() -> None:
    # The first number alone has the label's sign: the loss of (r, 0) falls as r grows, to 0.
    inputs = torch.tensor([[1.0, 0.2], [2.0, -0.3], [-1.0, 0.1], [-2.0, 0.5], [1.5, 1.0]]).double()
    labels = (inputs[:, 0] > 0).double()

    def separable(w: Tensor) -> Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(inputs @ w, labels)

    far = [separable(torch.tensor([r, 0.0]).double()).item() for r in (1, 3, 10, 30)]
    assert far == sorted(far, reverse=True)
    found, lowest = _without_target(separable, [(-3, 3)] * 2, (0.0, 0.0), 1.0)
    assert found.present
    assert found.evidence["decides"]
    assert lowest[0] > 3
    assert found.evidence["lowest_loss"] < far[0]
    # Weight decay gives it one.
    found, lowest = _without_target(
        lambda w: separable(w) + 0.05 * (w**2).sum(), [(-3, 3)] * 2, (0.0, 0.0), 1.0
    )
    assert not found.present
    assert np.abs(lowest).max() < 3


@pytest.mark.long
def test_a_minimum_inside_the_ranges_is_sought_though_the_loss_falls_on_outside() -> None:
    # v^2 - v^3 / 9 has a minimum at 0, a maximum at 6, and falls below 0 beyond 9.
    found, lowest = _without_target(
        lambda v: v[0] ** 2 - v[0] ** 3 / 9 + v[1] ** 2, [(-2, 7), (-1, 1)], (3.0, 0.5), 0.1
    )
    assert not found.present
    assert np.abs(lowest).max() < 0.02


@pytest.mark.long
def test_a_valley_that_takes_more_steps_than_are_scanned_has_a_rate_that_works() -> None:
    def rosenbrock(v: Any) -> Any:
        return (1 - v[0]) ** 2 + 100 * (v[1] - v[0] ** 2) ** 2

    objective = as_objective_of(
        rosenbrock, ["theta"], start=(-1.2, 1.0), range=(-2, 2), target=(1, 1)
    )
    facts = Facts(run_one(objective, OptimizerSettings("sgd", 0.01, steps=500)))
    assert facts.run.outcome == "nonfinite"
    found = step_too_large(facts)
    assert found.sufficient
    trial, last = found.evidence["counterfactual"], 0
    x, y = -1.2, 1.0
    for step in range(1, trial["steps"] + 1):
        slope = 200 * (y - x * x)
        x, y = x + trial["lr"] * (2 * (1 - x) + 2 * x * slope), y - trial["lr"] * slope
        last = step if max(abs(x - 1), abs(y - 1)) > 0.04 else last
    assert trial["steps_to_target"] == last + 1
    assert not no_working_lr(facts).present


@pytest.mark.long
def test_without_its_root_a_loss_of_several_has_a_slope_at_zero() -> None:
    # A step of 0.2 x 2 x (v - goal) / 2 leaves 0.8 of the way, down to rounding and to exactly 0.
    def root(v: Tensor) -> Tensor:
        return torch.sqrt(((v - torch.tensor([0.5, -0.3], dtype=v.dtype)) ** 2).mean())

    found = gd.diagnose(
        root, range=[(-2, 2), (-2, 2)], start=(1.0, 1.0), target=(0.5, -0.3), lr=0.2
    )
    assert found.verdict == "kink"
    assert next(remedy for remedy in found.remedies if remedy.name == "mse_loss").works


@pytest.mark.long
def test_a_twin_of_the_target_is_as_low() -> None:
    # Wells at (-1, 0) and (1, 0), both 0 deep; the second is the target.
    def wells(v: Tensor) -> Tensor:
        return (v[0] ** 2 - 1) ** 2 + v[1] ** 2

    about: dict[str, Any] = {"range": (-2, 2), "start": (-0.5, 0.5), "target": (1.0, 0.0)}
    found = gd.diagnose(wells, lr=0.05, steps=200, **about)
    assert found.verdict == "wrong_basin"
    assert "as low as the target's" in found.headline


@pytest.mark.long
def test_the_stable_rate_of_several_is_the_bound() -> None:
    # 2 / L'' = 1 along v[0].
    found = gd.diagnose(
        lambda v: v[0] ** 2 + 0.5 * v[1] ** 2, lr=1.2, steps=200,
        range=(-2, 2), start=(1.0, 1.0), target=(0.0, 0.0),
    )  # fmt: skip
    assert found.verdict == "step_too_large"
    assert "The rate 1.2 is 1.2 times 1, up to which" in found.headline
