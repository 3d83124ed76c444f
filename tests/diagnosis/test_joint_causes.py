"""Causes of a run of several parameters, one by one, on an image with a known second minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gabordiag.diagnosis import joint_causes
from gabordiag.diagnosis.joint import _headline
from gabordiag.diagnosis.joint_causes import kink, no_working_lr, step_too_large, wrong_basin
from gabordiag.diagnosis.joint_trials import Trials
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import Run
from gabordiag.dynamics.run import run as run_one
from gabordiag.objective.gabor_joint import GaborJoint
from gabordiag.results import Finding
from tests.diagnosis.planting import cardinal_gabor


def _trials(loss: str, lr: float, steps: int) -> Trials:
    """From beside the antidiagonal, where the image has a minimum of its own."""
    objective = GaborJoint(cardinal_gabor(loss), ("theta", "sigma"))
    run = run_one(objective, OptimizerSettings("sgd", lr, steps=steps))
    return Trials(run, lambda: None)


@pytest.fixture(scope="module")
def caught() -> Trials:
    return _trials("mse", 0.089, 400)


def test_another_minimum_is_named_and_the_advised_start_arrives(caught: Trials) -> None:
    # The image mirrors about both diagonals, so that theta rests on one of them exactly.
    assert caught.run.outcome == "local_minimum"
    found = wrong_basin(caught)
    assert found.present
    assert found.sufficient
    assert found.evidence["minimum"]["theta"] == pytest.approx(-math.pi / 4, abs=1e-6)
    start = np.array(list(found.evidence["counterfactual"]["start"].values()))
    again = run_one(caught.objective, caught.run.settings, start)
    assert np.abs(again.final - caught.objective.target).max() < 0.02
    assert f"--start theta={math.degrees(start[0]):.4g}deg" in found.advice


def test_a_rate_that_no_basin_holds_makes_another_start_no_cure() -> None:
    found = wrong_basin(_trials("mse", 0.3, 400))
    assert found.present
    assert not found.sufficient
    assert found.advice == ""


def test_where_no_tried_rate_arrives_all_are_listed(
    caught: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Below the bound of the start's own minimum, where descent only goes down.
    monkeypatch.setattr(joint_causes, "SCANNED_RATES", (0.02, 0.08))
    found = no_working_lr(caught)
    assert found.present
    assert set(found.evidence["tried"]) == {"0.02", "0.08"}
    assert "reached" not in found.evidence["tried"].values()


def test_without_its_root_a_caught_run_is_caught_as_well() -> None:
    found = kink(_trials("rmse", 0.01, 200))
    assert not found.present
    assert found.evidence["counterfactual"]["outcome"] != "reached"


def test_a_rate_beyond_the_targets_bound_is_told_even_where_it_settles(caught: Trials) -> None:
    # The minimum it rests in is flatter than the target.
    trials = _trials("mse", 0.3, 400)
    bound = trials.bound
    assert bound is not None
    assert bound < 0.3
    found = step_too_large(trials)
    assert found.present
    assert found.explanation.startswith("the largest rate 0.3 is")


def test_the_headline_says_what_there_is_to_say(caught: Trials) -> None:
    run: Run = caught.run
    finding = Finding("wrong_basin", True, False, {}, "the run settled elsewhere")
    assert _headline(run, "wrong_basin", (finding,), ()) == (
        "The run settled elsewhere. None of the 0 remedies tried helps."
    )
    assert "ends local minimum, and no cause" in _headline(run, "inconclusive", (), ())
