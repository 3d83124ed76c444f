"""Verdicts on the photograph: the question's own failure and its neighbours."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gabordiag.diagnosis import verdict
from gabordiag.diagnosis.causes import CAUSES
from gabordiag.diagnosis.evidence import Facts
from gabordiag.diagnosis.verdict import Diagnosis, diagnose_objective, strongest, tell_jumps
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import run
from gabordiag.explorer import exploration
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import ShortcutObjective, along
from gabordiag.results import Finding

Diagnose = Callable[..., Diagnosis]
ROUND = {"sigma": 3.0, "gamma": 1.0}


@pytest.fixture(scope="module")
def round_filter() -> tuple[ShortcutObjective, Sweep]:
    """The round filter with rmse: nothing spurious, every start in the target's basin."""
    objective = along(Experiment(**ROUND), "theta")
    assert isinstance(objective, ShortcutObjective)
    return objective, sweep_objective(objective)


@pytest.fixture(scope="module")
def round_rmse(round_filter: tuple[ShortcutObjective, Sweep]) -> Diagnose:
    objective, sweep = round_filter

    def diagnose(lr: float, steps: int = 2000, start: float | None = None) -> Diagnosis:
        return diagnose_objective(
            objective, OptimizerSettings("sgd", lr, steps=steps), start, sweep=sweep
        )

    return diagnose


@pytest.fixture(scope="module")
def round_mse(round_filter: tuple[ShortcutObjective, Sweep]) -> Diagnose:
    objective = round_filter[0].squared()
    assert objective is not None
    sweep = sweep_objective(objective)

    def diagnose(lr: float, steps: int = 500, start: float | None = None) -> Diagnosis:
        return diagnose_objective(
            objective, OptimizerSettings("sgd", lr, steps=steps), start, sweep=sweep
        )

    return diagnose


@pytest.fixture(scope="module")
def question() -> Diagnosis:
    """The default experiment with the question's rate."""
    settings = OptimizerSettings("sgd", 3.0, steps=2000)
    return diagnose_objective(along(Experiment(), "theta"), settings)


def _causes(diagnosis: Diagnosis, role: str) -> set[str]:
    return {finding.cause for finding in diagnosis.findings if finding.role == role}


@pytest.mark.slow
def test_question_has_no_working_learning_rate(question: Diagnosis) -> None:
    assert question.verdict == "no_working_lr"
    assert not question.is_healthy
    assert _causes(question, "primary") == {"no_working_lr"}
    assert {"wrong_basin", "step_too_large"} <= _causes(question, "contributing")


@pytest.mark.long
def test_question_derivative_is_cleared_with_its_figure(question: Diagnosis) -> None:
    assert "wrong_gradient" in _causes(question, "ruled_out")
    finding = next(f for f in question.findings if f.cause == "wrong_gradient")
    assert finding.evidence["analytic_vs_autograd"] < 1e-12
    assert finding.evidence["analytic_vs_numeric"] < 1e-6
    assert finding.evidence["shortcut_vs_direct"] < 1e-12


def test_question_rates_are_those_of_the_scan(question: Diagnosis) -> None:
    # SCIENCE: escape takes 1.33, the target's basin holds 0.0026.
    shown = question.to_dict()
    assert shown["working_lr"] == []
    assert shown["escape_lr"] == pytest.approx(1.3335, abs=5e-5)
    assert shown["hold_lr"] == pytest.approx(0.00261, abs=5e-6)


def test_question_remedies(question: Diagnosis) -> None:
    works = {remedy.name: remedy.works for remedy in question.remedies}
    for name in ("whiten_input", "closed_form", "global_search", "start_in_basin", "multi_start"):
        assert works[name], name
    assert not works["momentum"]
    assert not works["smaller_lr"]


def test_remedies_that_work_come_first(question: Diagnosis) -> None:
    works = [remedy.works for remedy in question.remedies]
    assert works == sorted(works, reverse=True)


def test_question_jumps_are_told_with_their_numbers(question: Diagnosis) -> None:
    # SCIENCE: about 130 times in 2000 steps.
    assert 100 <= question.run.symptoms <= 160
    assert question.jump_story
    jump = question.run.jumps[0]
    before, after = (
        question.run.trajectory.value[jump.step],
        question.run.trajectory.value[jump.step + 1],
    )
    assert (jump.start, jump.end) == (before, after)
    assert f"step {jump.step}" in question.jump_story[0]
    assert jump.left_basin


@pytest.mark.each(8)
@pytest.mark.parametrize(
    ("how", "bound"),
    [
        # Heavy ball: 2 (1 + 0.9) (Goh 2017); Nesterov: 2 (1 + 0.9) / (1 + 2 x 0.9) = 1.357.
        ({}, 2.0),
        ({"momentum": 0.9}, 3.8),
        ({"momentum": 0.9, "nesterov": True}, 3.8 / 2.8),
        ({"optimizer": "adam", "lr": 10.0}, math.inf),
    ],
)
@pytest.mark.parametrize("loss", ["mse", "rmse"])
def test_the_bound_in_a_jumps_story_is_the_optimizers_own(
    round_filter: tuple[ShortcutObjective, Sweep], loss: str, how: dict[str, Any], bound: float
) -> None:
    objective, sweep = round_filter
    if loss == "mse":
        objective = objective.squared()
        sweep = sweep_objective(objective)
    made = run(
        objective,
        OptimizerSettings(**{"lr": 1.0, "steps": 200, **how}),
        landscape=sweep.landscape,
    )
    assert made.jumps
    facts, downwards = Facts(made, sweep), 0
    # Each jump told as if it were the first.
    for index, jump in enumerate(made.jumps):
        facts.run = replace(made, jumps=made.jumps[index:])
        told = re.findall(r"stability needs less than ([^)]*)\)", tell_jumps(facts)[0])
        # Where the loss bends downwards nothing rests at any rate; below the bound it is no reason.
        assert jump.lr_times_curvature is not None
        assert told == ([f"{bound:.3g}"] if jump.lr_times_curvature > bound else [])
        downwards += jump.lr_times_curvature <= 0
    # A root bends downwards on both sides of its kink; its square upwards around its minimum.
    assert downwards > 0 if loss == "rmse" else downwards < len(made.jumps)


@pytest.mark.parametrize(("lr", "is_folded"), [(0.3, False), (30.0, True)])
def test_a_step_beyond_the_period_says_so(
    round_filter: tuple[ShortcutObjective, Sweep], lr: float, is_folded: bool
) -> None:
    objective, sweep = round_filter
    settings = OptimizerSettings(lr=lr, steps=100)
    facts = Facts(run(objective, settings, landscape=sweep.landscape), sweep)
    stories = tell_jumps(facts)
    assert stories
    assert all(("(modulo 180°)" in story) == is_folded for story in stories)


def test_headline_names_what_to_change_and_to_which_value(question: Diagnosis) -> None:
    cure = next(remedy for remedy in question.remedies if remedy.works)
    assert cure.change in question.headline
    assert any(character.isdigit() for character in cure.change)


@pytest.mark.slow
def test_round_filter_at_the_questions_rate_steps_too_far(round_rmse: Diagnose) -> None:
    diagnosis = round_rmse(1.0)
    assert diagnosis.verdict == "step_too_large"
    assert "wrong_basin" in _causes(diagnosis, "ruled_out")
    assert "wrong_gradient" in _causes(diagnosis, "ruled_out")
    assert {r.name: r.works for r in diagnosis.remedies}["smaller_lr"]


@pytest.mark.slow
def test_round_filter_at_a_moderate_rate_bounces_on_the_kink(round_rmse: Diagnose) -> None:
    diagnosis = round_rmse(0.05, steps=500)
    assert diagnosis.verdict == "kink"
    assert diagnosis.remedies[0].name == "mse_loss"
    assert diagnosis.remedies[0].works
    assert diagnosis.remedies[0].change == "--loss mse"


def test_round_filter_with_mse_is_healthy(round_mse: Diagnose) -> None:
    diagnosis = round_mse(0.1)
    assert diagnosis.verdict == "healthy"
    assert diagnosis.is_healthy
    assert diagnosis.remedies == ()
    assert _causes(diagnosis, "primary") == _causes(diagnosis, "contributing") == set()


@pytest.mark.slow
def test_round_filter_with_a_tiny_rate_is_still_on_its_way(round_mse: Diagnose) -> None:
    diagnosis = round_mse(1e-4)
    assert diagnosis.verdict == "step_too_small"
    assert diagnosis.run.outcome == "unfinished"


@pytest.mark.each(3)
@pytest.mark.parametrize("turns", [1, -1, 4])
def test_another_copy_of_the_target_is_no_failure(round_mse: Diagnose, turns: int) -> None:
    diagnosis = round_mse(0.1, start=math.pi / 4 + turns * math.pi)
    assert diagnosis.verdict == "equivalent_solution"
    assert diagnosis.is_healthy
    assert diagnosis.run.turns == turns


@pytest.mark.slow
def test_too_few_steps_say_how_many_are_needed(round_mse: Diagnose) -> None:
    diagnosis = round_mse(1e-3, steps=40)
    assert diagnosis.verdict == "inconclusive"
    needed = int(diagnosis.headline.split("--steps ")[1].rstrip("."))
    assert round_mse(1e-3, steps=needed).verdict != "inconclusive"


def test_where_nothing_suffices_any_cause_that_is_present_is_the_verdict() -> None:
    def found(*causes: str) -> tuple[Finding, ...]:
        return tuple(Finding(cause, True, False, {}, "is there") for cause in causes)

    absent = Finding("wrong_basin", False, False, {}, "is not there")
    assert strongest((absent, *found("kink", "no_working_lr"))) == "no_working_lr"
    assert strongest((absent, *found("unheard_of", "step_too_small"))) == "step_too_small"
    assert strongest((absent, *found("unheard_of"))) == "unheard_of"
    assert strongest((absent,)) == "inconclusive"


def test_every_cause_has_its_rank_here_and_on_the_page() -> None:
    assert CAUSES.keys() - verdict._FLAWS == set(verdict._EXPLANATORY)
    # A gradient that becomes NaN does so at a step of one run.
    assert verdict._FLAWS - {"nonfinite_gradient"} == exploration._FOR_EVERY_RUN
    page = Path(exploration.__file__).with_name("assets") / "verdict.js"
    (order,) = re.findall(r"EXPLANATORY = (\[.*\]);", page.read_text(encoding="utf-8"))
    assert json.loads(order) == list(verdict._EXPLANATORY)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_adaptive_optimizers_end_in_the_images_own_minimum(optimizer: str) -> None:
    # SCIENCE: Adam up to 0.5 and RMSprop up to 0.05 end at -46 degrees too.
    settings = OptimizerSettings(optimizer, 0.02, steps=1000)
    diagnosis = diagnose_objective(along(Experiment(loss="mse"), "theta"), settings)
    assert diagnosis.run.outcome == "local_minimum"
    # RMSprop jitters about it; where it jitters about is the minimum.
    tail = diagnosis.run.trajectory.value[-100:]
    assert math.degrees(tail.mean()) == pytest.approx(-46.343, abs=0.5)
    (basin,) = [finding for finding in diagnosis.findings if finding.cause == "wrong_basin"]
    assert basin.role != "ruled_out"
    # RMSprop's steps do not shrink: beside the target, too, it jitters by about the one degree that
    # counts as reached, so rounding decides whether a start inside alone is a cure.
    assert basin.sufficient or optimizer == "rmsprop"
    assert diagnosis.verdict == ("wrong_basin" if basin.sufficient else "no_working_lr")


@pytest.mark.slow
def test_noise_in_the_target_does_not_move_the_verdict(question: Diagnosis) -> None:
    noisy = along(replace(Experiment(), target_noise=0.01), "theta")
    diagnosis = diagnose_objective(noisy, OptimizerSettings("sgd", 3.0, steps=2000))
    assert diagnosis.verdict == question.verdict
