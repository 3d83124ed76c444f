"""Causes of a run of several parameters, one by one, on an image with a known second minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gabordiag.diagnosis import evidence
from gabordiag.diagnosis.causes import kink, no_working_lr, step_too_large, wrong_basin
from gabordiag.diagnosis.evidence import Facts
from gabordiag.diagnosis.verdict import headline
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import run as run_one
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


def test_the_headline_says_what_there_is_to_say(caught: Facts) -> None:
    finding = Finding("wrong_basin", True, False, {}, "the run settled elsewhere")
    assert headline(caught, "wrong_basin", (finding,), ()) == (
        "The run settled elsewhere. None of the 0 remedies tried helps."
    )
    assert "ends local minimum, and no cause" in headline(caught, "inconclusive", (), ())
