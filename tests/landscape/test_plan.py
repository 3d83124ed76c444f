"""Slow custom losses: what is announced is what is used, and a given time is kept."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.errors import UsageError
from gabordiag.landscape.plan import make_plan, planned_sweep
from gabordiag.landscape.series_objective import SampledObjective, cheap_objective
from gabordiag.own.custom import own_objective
from gabordiag.own.evaluation import OwnObjective

RANGE = {"range": (-2.0, 2.0), "start": -1.5, "target": 0.3}
# Of one evaluation, seconds.
EACH = 0.004


def kinked(value: Tensor) -> Tensor:
    """Falls to 0.3 and rises after it, with a second kink at -1, and cannot be batched."""
    float(value.detach())
    return (value - 0.3).abs() + 0.3 * (value + 1).abs()


def slowly(value: Tensor) -> Tensor:
    time.sleep(EACH)
    return kinked(value)


def test_between_known_values_nothing_turns() -> None:
    objective = own_objective(kinked, **RANGE)
    objective.is_timed_slow = True
    cheap = cheap_objective(objective)
    assert isinstance(cheap, SampledObjective)
    known = cheap._knots.numpy()
    # The lowest value known, at the target, is one of them.
    assert np.abs(known - 0.3).min() < 1e-12
    reference = PchipInterpolator(known, cheap._values.numpy())
    inside = np.linspace(known[1], known[-2], 2001)
    np.testing.assert_allclose(cheap.loss_at(inside), reference(inside), rtol=0, atol=1e-12)
    # A kink between two values is cut by at most its slopes times their distance.
    exact = np.abs(inside - 0.3) + 0.3 * np.abs(inside + 1)
    assert np.abs(cheap.loss_at(inside) - exact).max() < 1.3 * np.diff(known).max()


def test_a_period_has_no_end_between_known_values() -> None:
    def loss(value: Tensor) -> Tensor:
        float(value.detach())
        return torch.sin(value - 0.7).abs() + 0.3 * torch.sin(4 * value + 0.02).abs()

    objective = own_objective(loss, period=math.pi)
    objective.is_timed_slow = True
    cheap = cheap_objective(objective)
    assert isinstance(cheap, SampledObjective)
    values = np.linspace(-math.pi, math.pi, 4001)
    exact = np.abs(np.sin(values - 0.7)) + 0.3 * np.abs(np.sin(4 * values + 0.02))
    # Its slopes are at most 1 + 4 * 0.3.
    assert np.abs(cheap.loss_at(values) - exact).max() < 2.2 * np.diff(cheap._knots).max()
    before, after = cheap.loss_at([math.pi / 2 - 1e-9, math.pi / 2])
    assert before == pytest.approx(after, abs=1e-8)


def test_a_smooth_loss_is_followed_as_far_as_a_second_allows(monkeypatch) -> None:
    def narrow(value: Tensor) -> Tensor:
        float(value.detach())
        # Its coefficients, exp(-200) I_k(200), are below 1e-12 from k = 102 on: 128 nodes show 64.
        return 1 - torch.exp(200 * (torch.cos(value - 0.3) - 1))

    monkeypatch.setattr(OwnObjective, "seconds_each", lambda self: 0.003)
    objective = own_objective(narrow, period=2 * math.pi, start=2.0, target=0.3)
    told: list[str] = []
    plan = make_plan(objective, announce=told.append)
    assert plan is not None
    found = planned_sweep(objective, plan)
    assert objective.samples <= plan.evaluations
    assert f"about {plan.evaluations} evaluations" in told[0]
    (minimum,) = found.landscape.attractors
    assert minimum.is_target
    assert minimum.curvature == pytest.approx(200, rel=1e-6)


@pytest.mark.long
def test_a_slow_kinked_loss_takes_what_was_announced() -> None:
    objective = own_objective(slowly, **RANGE)
    plan = make_plan(objective)
    assert plan is not None
    assert EACH <= plan.seconds_each < 3 * EACH
    before = objective.samples
    found = planned_sweep(objective, plan)
    assert objective.samples - before <= plan.evaluations <= 800
    assert found.left_out == ()
    (minimum,) = found.landscape.attractors
    assert minimum.value == pytest.approx(0.3, abs=4 / 160)
    assert found.landscape.certificate.basis == "resolved"


@pytest.mark.long
@pytest.mark.parametrize("command", ["sweep", "diagnose"])
def test_a_given_time_is_kept(command: str) -> None:
    seconds = {"sweep": 1.6, "diagnose": 3.2}[command]
    calls = []

    def counted(value: Tensor) -> Tensor:
        calls.append(1)
        return slowly(value)

    if command == "sweep":
        found = gd.sweep(counted, **RANGE, max_seconds=seconds)
        assert found.to_dict()["left_out"] == list(found.left_out) != []
    else:
        told: list[str] = []
        diagnosis = gd.diagnose(
            counted, **RANGE, lr=0.1, steps=400, max_seconds=seconds, announce=told.append
        )
        assert "evaluations of your objective" in told[0]
        assert diagnosis.run.settings.steps < 400
        assert "Left out for want of time: the run ends after" in diagnosis.headline
        assert diagnosis.sweep is not None
        found = diagnosis.sweep
    # Evaluations, not the clock: the machine may be busy.
    assert len(calls) * EACH <= seconds
    assert found.landscape.attractors[0].value == pytest.approx(0.3, abs=0.3)


@pytest.mark.long
def test_the_command_line_says_it_first(tmp_path, monkeypatch, capsys) -> None:
    code = (
        "import time\ndef loss(v):\n    time.sleep(0.003); float(v.detach())\n    return v.abs()\n"
    )
    (tmp_path / "mine.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    command = "sweep --objective mine.py:loss --range=-1:2 --max-seconds 1.2 --no-plots --json"
    assert run(command.split()) == 0
    told = capsys.readouterr()
    assert "evaluations of your objective" in told.err
    assert "Left out" in told.err
    assert any("points" in text for text in json.loads(told.out)["result"]["left_out"])


def test_where_there_is_no_time_to_plan_it_is_refused() -> None:
    with pytest.raises(UsageError, match="custom objective"):
        gd.sweep(gd.Experiment(), max_seconds=3)
    with pytest.raises(UsageError, match="too few"):
        gd.sweep(kinked, **RANGE, max_seconds=0)
    with pytest.raises(UsageError, match="one parameter"):
        gd.sweep(gd.Experiment(), ("theta", "psi"), max_seconds=3)


def test_a_loss_that_torch_batches_needs_no_plan() -> None:
    assert make_plan(own_objective(lambda v: torch.cos(v), **RANGE), max_seconds=3) is None
