"""A report begins with the answers to the question's own questions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from gabordiag import api
from gabordiag.presentation.registry import blocks_of

QUESTIONS = (
    "Is the derivative right?",
    "Is there a minimum to reach?",
    "What happens in the run?",
    "What helps?",
)


def answered(objective: Any, **settings: Any) -> tuple[api.Diagnosis, list[str]]:
    """A diagnosis, and the four answers that its report begins with."""
    made = api.diagnose(objective, **settings)
    table: Any = blocks_of("diagnose", made.view())[0]
    assert tuple(question for question, _ in table.rows) == QUESTIONS
    return made, [answer for _, answer in table.rows]


def parabola(v: torch.Tensor) -> torch.Tensor:
    return (v - 0.7) ** 2


def half_the_slope(v: torch.Tensor) -> torch.Tensor:
    return v.detach() * v - 1.4 * v


def line(v: torch.Tensor) -> torch.Tensor:
    return v


def two_valleys(v: torch.Tensor) -> torch.Tensor:
    return 1 - torch.cos(v) + torch.cos(2 * v) / 2


def test_a_run_that_arrives() -> None:
    made, (derivative, minimum, run, helps) = answered(
        parabola, range=(0.0, 2.0), start=0.2, lr=0.1, steps=300
    )
    assert made.sweep is not None
    error = made.sweep.gradient_check.analytic_vs_numeric
    assert error is not None
    assert derivative.startswith("Yes")
    assert f"at most {error:.1e}" in derivative
    assert minimum.startswith("Yes: the lowest minimum, 0.7, with loss ")
    assert "Learning rates from " in minimum
    assert "reaches the lowest minimum and stays" in run
    assert helps == "Nothing needs to change."


@pytest.mark.long
def test_a_scan_with_more_steps_than_the_run_says_how_many() -> None:
    settings = {"range": (0.0, 2.0), "start": 0.2, "lr": 0.1}
    within = "from this start in up to 1500 steps."
    assert answered(parabola, steps=300, **settings)[1][1].endswith(within)
    assert answered(parabola, steps=1500, **settings)[1][1].endswith("from this start.")


def test_a_wrong_derivative_and_what_to_change() -> None:
    made, (derivative, _, _, helps) = answered(
        half_the_slope, range=(0.0, 2.0), start=0.2, lr=0.1, steps=300
    )
    assert made.verdict == "wrong_gradient"
    assert derivative.startswith("No: ")
    advice, _, tried = helps.partition(" Of ")
    assert made.headline.endswith(advice)
    assert "leave .detach() out" in advice
    assert tried.endswith("remedies tried 2 work.")


@pytest.mark.long
def test_a_loss_without_a_minimum() -> None:
    _, (_, minimum, run, _) = answered(line, range=(0.0, 2.0), start=0.2, lr=0.1, steps=100)
    assert minimum == "No: there is none."
    assert run.startswith("sgd, lr 0.1: NaN, infinity, or gone from the range")


@pytest.mark.long
def test_a_run_that_jumps_out_of_the_wrong_basin() -> None:
    made, (_, minimum, run, helps) = answered(
        two_valleys, range=(-math.pi, math.pi), period=2 * math.pi, target=math.pi / 3, start=-1.0,
        lr=6.0, steps=300,
    )  # fmt: skip
    first = made.run.jumps[0]
    assert f", {len(made.run.jumps)} jumps in 300 steps. The first jump, step {first.step}," in run
    assert f"from {first.loss_before:.3g} to {first.loss_after:.3g}." in run
    assert "The start lies in the basin of another minimum" in minimum
    works = sum(remedy.works for remedy in made.remedies)
    assert f"Of {len(made.remedies)} remedies tried {works} work" in helps


@pytest.mark.slow
def test_several_parameters() -> None:
    made, (derivative, minimum, run, _) = answered(
        api.Experiment(), over=["theta", "wavelength"], lr=0.01, steps=300
    )
    assert made.target_hessian is not None
    least = min(made.target_hessian["eigenvalues"])
    assert derivative.startswith("Yes: it differs from finite differences by at most ")
    assert f"curves up in every direction, by {least:.3g} at least." in minimum
    assert run.startswith("sgd, lr 0.01: settles in another minimum.")
