"""The recipes of CONTRIBUTING: one entry in one table, for one parameter and for three."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.diagnosis import remedies
from gabordiag.diagnosis.causes import CAUSES
from gabordiag.diagnosis.evidence import Facts
from gabordiag.diagnosis.remedies import Remedy
from gabordiag.dynamics.optimizers import OPTIMIZERS
from gabordiag.objective.losses import LOSSES, Loss
from gabordiag.results import Finding

IMAGE = np.random.default_rng(5).uniform(size=(24, 24))
FILTER: dict[str, Any] = {"kernel_size": 7, "wavelength": 5.0, "sigma": 2.0, "gamma": 0.8}
LEARNED = ["theta", ("theta", "sigma", "psi")]


class Normalized(torch.optim.Optimizer):
    """Steps of the same length whatever the slope."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for value in group["params"]:
                value.sub_(group["lr"] * value.grad.sign())


@pytest.fixture
def experiment() -> gd.Experiment:
    return gd.Experiment(IMAGE, **FILTER, loss="mse", theta0=0.6)


@pytest.mark.parametrize("over", LEARNED)
def test_an_optimizer(
    experiment: gd.Experiment, over: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPTIMIZERS, "normalized", Normalized)
    start = {} if over == "theta" else {"start": {"theta": 0.6, "sigma": 2.2, "psi": 0.1}}
    run = gd.optimize(experiment, "normalized", 0.01, steps=30, over=over, **start).runs[0]
    first = np.abs(np.diff(run.trajectory.values, axis=0))[0]
    np.testing.assert_allclose(first, 0.01, rtol=1e-9)
    assert gd.diagnose(experiment, "normalized", 0.01, steps=60, over=over, **start).verdict


@pytest.mark.parametrize("over", LEARNED)
def test_a_loss(over: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "fourth_root", Loss.root("fourth_root", LOSSES["rmse"]))
    plain = gd.Experiment(IMAGE, **FILTER, loss="mse", theta0=0.6)
    fourth = gd.Experiment(IMAGE, **FILTER, loss="fourth_root", theta0=0.6)
    start = {} if over == "theta" else {"start": {"theta": 0.6, "sigma": 2.2, "psi": 0.1}}
    how: dict[str, Any] = {"optimizer": "sgd", "lr": 1e-6, "steps": 2, "over": over, **start}
    first = [float(gd.optimize(e, **how).runs[0].trajectory.losses[0]) for e in (plain, fourth)]
    assert first[1] == pytest.approx(math.sqrt(math.sqrt(first[0])), rel=1e-12)


@pytest.mark.parametrize(
    ("over", "steps"),
    [(LEARNED[0], 40), pytest.param(LEARNED[1], 200, marks=pytest.mark.slow)],
)
def test_a_cause_and_a_remedy(
    experiment: gd.Experiment, over: Any, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def monday(facts: Facts) -> Finding:
        return Finding("monday", True, False, {"steps": facts.settings.steps}, "it is Monday")

    def coffee(facts: Facts) -> Remedy | None:
        trial = facts.bench.confirmed(facts.settings, facts.start)
        return Remedy("coffee", trial.reached, "drink coffee", trial.outcome, {})

    monkeypatch.setitem(CAUSES, "monday", monday)
    monkeypatch.setattr(remedies, "REMEDIES", (*remedies.REMEDIES, coffee))
    monkeypatch.setattr("gabordiag.diagnosis.verdict.REMEDIES", remedies.REMEDIES)
    start = {} if over == "theta" else {"start": {"theta": 0.6, "sigma": 2.2, "psi": 0.1}}
    found = gd.diagnose(experiment, "sgd", 1e-7, steps=steps, over=over, **start)
    assert "monday" in {f.cause for f in found.findings if f.role == "contributing"}
    (tried,) = [remedy for remedy in found.remedies if remedy.name == "coffee"]
    assert not tried.works
