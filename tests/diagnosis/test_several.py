"""Verdicts on several learned parameters: planted causes, and what is advised, done by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.diagnosis.verdict import Diagnosis
from gabordiag.errors import UsageError
from tests.dynamics.test_space_runs import by_hand, experiment

NAMES = ("theta", "wavelength", "sigma", "psi")
NEAR = {"theta": 0.9, "wavelength": 5.4, "sigma": 2.2, "psi": 0.1}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(8).random((33, 29))


def diagnosed(image: np.ndarray, lr: Any, **settings: Any) -> Diagnosis:
    start = settings.pop("start", NEAR)
    loss = settings.pop("loss", "mse")
    return gd.diagnose(experiment(image, loss=loss), over=NAMES, lr=lr, start=start, **settings)


def reaches(values: np.ndarray) -> bool:
    """Whether a hand-made run's last tenth stays at the target, within the stated tolerances."""
    tail = values[-math.ceil(len(values) / 10) :, :4]
    apart = np.abs(tail - [math.pi / 4, 5.0, 2.0, 0.0])
    return bool((apart <= [math.radians(1), 0.01 * 10.5, 0.01 * 4.2, math.radians(1)]).all())


@pytest.mark.slow
def test_a_run_that_arrives_is_healthy(image: np.ndarray) -> None:
    found = diagnosed(image, 0.02, optimizer="adam", steps=1200)
    assert found.verdict == "healthy"
    assert found.is_healthy
    assert "Nothing needs to change" in found.headline
    start = np.array(list(NEAR.values()))
    assert reaches(by_hand(image, "adam", dict.fromkeys(NAMES, 0.02), start=start, steps=1200))


@pytest.mark.slow
def test_the_filter_turned_by_half_is_the_same(image: np.ndarray) -> None:
    turned = {**NEAR, "theta": NEAR["theta"] - math.pi, "psi": -NEAR["psi"]}
    found = diagnosed(image, 0.02, optimizer="adam", steps=1200, start=turned)
    assert found.verdict == "equivalent_solution"
    assert found.run.final[0] == pytest.approx(math.pi / 4 - math.pi, abs=0.02)


@pytest.mark.slow
def test_too_large_a_rate_is_named_and_the_advice_works(image: np.ndarray) -> None:
    found = diagnosed(image, 1.0, steps=200)
    assert found.verdict == "step_too_large"
    finding = found.findings[0]
    assert finding.sufficient
    rate = finding.evidence["counterfactual"]["lr"]
    steps = finding.evidence["counterfactual"]["steps"]
    assert rate < found.target_hessian["stable_lr"]
    start = np.array(list(NEAR.values()))
    assert reaches(by_hand(image, "sgd", dict.fromkeys(NAMES, rate), start=start, steps=steps))
    assert not reaches(by_hand(image, "sgd", dict.fromkeys(NAMES, 1.0), start=start, steps=200))


@pytest.mark.slow
def test_too_few_steps_are_named(image: np.ndarray) -> None:
    stable = diagnosed(image, 0.02, steps=20).target_hessian["stable_lr"]
    rate, start = 0.1 * stable, np.array(list(NEAR.values()))

    def arrives(steps: int) -> bool:
        return reaches(by_hand(image, "sgd", dict.fromkeys(NAMES, rate), (), start, steps))

    few = next(n for n in (100, 200, 400, 800, 1600) if not arrives(n) and arrives(4 * n))
    found = diagnosed(image, rate, steps=few)
    assert found.verdict == "step_too_small"
    advised = found.findings[0].evidence["counterfactual"]
    assert f"Use --lr {advised['lr']:g}, which arrives in" in found.headline
    assert advised["steps"] == few
    assert reaches(by_hand(image, "sgd", dict.fromkeys(NAMES, advised["lr"]), (), start, few))


@pytest.mark.slow
def test_remedies_that_work_come_first_and_were_tried(image: np.ndarray) -> None:
    found = diagnosed(image, 0.2, loss="rmse", steps=150)
    assert not found.is_healthy
    works = [remedy.works for remedy in found.remedies]
    assert works == sorted(works, reverse=True)
    for remedy in found.remedies:
        assert remedy.works == (remedy.outcome == "reached")
    shown = found.to_dict()
    assert {f["role"] for f in shown["findings"]} <= {"primary", "contributing", "ruled_out"}


@pytest.mark.slow
def test_a_few_steps_are_not_judged(image: np.ndarray) -> None:
    found = diagnosed(image, 1e-4, steps=20)
    assert found.verdict == "inconclusive"
    assert "--steps" in found.headline


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": ("theta", "theta")}, "not distinct"),
        ({"over": ("theta", "psi"), "log_scale": ("psi",)}, "logarithm"),
        ({"over": ("theta", "sigma"), "start": {"gamma": 1.0}}, "not learned"),
    ],
)
def test_what_cannot_be_learned_is_refused(
    image: np.ndarray, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        gd.optimize(experiment(image), **arguments, steps=3)


@pytest.mark.slow
def test_the_photograph_with_four_parameters() -> None:
    # From -45 degrees theta alone is caught at -46; with the others free Adam leaves through them.
    four = gd.diagnose(gd.Experiment(loss="mse"), over=NAMES, optimizer="adam", lr=0.02, steps=1000)
    assert four.verdict == "equivalent_solution"
    assert math.degrees(four.run.final[0]) == pytest.approx(-135.0, abs=0.1)
    near = {"theta": 0.7, "wavelength": 9.5, "sigma": 4.3, "psi": 0.1}
    back = gd.optimize(
        gd.Experiment(loss="mse"), over=NAMES, optimizer="adam", lr=0.02, steps=1000, start=near
    ).runs[0]
    assert back.outcome == "reached"
    np.testing.assert_allclose(back.final, [math.pi / 4, 10.0, 4.0, 0.0], atol=1e-6)
    # Theta and sigma alone do settle in another minimum.
    two = gd.diagnose(gd.Experiment(loss="mse"), over=("theta", "sigma"), lr=0.01, steps=1000)
    assert two.verdict == "wrong_basin"
    assert math.degrees(two.run.final[0]) == pytest.approx(-48.22, abs=0.1)


def test_what_is_alike_of_all_elements_is_said_once() -> None:
    def bowl(v: Any) -> Any:
        return (v[0] - 1) ** 2 + (v[1] - 2) ** 2

    # Gradient descent on a parabola of curvature 2 at lr 0.5 arrives in one step.
    found = gd.diagnose(bowl, start=[0.0, 0.0], target=[1.0, 2.0], range=(-5, 5), lr=0.5, steps=60)
    assert found.headline.startswith("Healthy: v reaches the target v[0] 1, v[1] 2 after 1 step")
    assert "the loss depends on v[0] and v[1]" in {f.explanation for f in found.findings}
