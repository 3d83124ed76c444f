"""Real data: the digits of scikit-learn, learned by 16 Gabor filters and a linear layer."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import gabordiag as gd
from gabordiag.dynamics.training import run_training

BATCH, TRAINED = 64, 1280
WATCHED = [f"gabor.{name}" for name in ("theta", "sigma", "wavelength")]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gabor = gd.GaborConv2d(1, 16, 5, padding="same")
        self.head = nn.Linear(16 * 4 * 4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(functional.max_pool2d(functional.relu(self.gabor(x)), 2).flatten(1))


def accuracy(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output.argmax(1) == target).float().mean()


def split() -> tuple[list, list]:
    """Batches to train with, and all others as one batch."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = torch.tensor(digits.images[order], dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target[order])
    rows = [slice(i, i + BATCH) for i in range(0, TRAINED, BATCH)] + [slice(TRAINED, None)]
    batches = [(images[part], labels[part]) for part in rows]
    return batches[:-1], batches[-1:]


@pytest.mark.slow
def test_the_advice_costs_few_trainings_and_no_accuracy() -> None:
    batches, others = split()
    torch.manual_seed(0)
    training = gd.Training(Net(), batches, functional.cross_entropy, accuracy)
    # What torch imports at its first use is not counted.
    gd.diagnose(training, "sgd", 0.01, steps=3, params=WATCHED)
    began = time.process_time()
    # A small rate: the filters hardly move.
    found = gd.diagnose(training, "sgd", 0.01, steps=300, params=WATCHED)
    spent = time.process_time() - began
    assert len(found.elements) == 48
    advice = found.remedies[0]
    assert advice.works
    plan = advice.plan
    moves = []

    def trained(**changes: object) -> tuple[float, float]:
        """Mean accuracy on digits that were not trained with, and CPU seconds of one training."""
        settings = {"settings": found.run.settings, "rates": found.run.rates, **changes}
        began = time.process_time()
        made = [
            run_training(
                training, found.run.watched, seed=seed, first=seed, batches=others, **settings
            )
            for seed in range(3)
        ]
        ways = np.abs(made[0][0].coordinates[-1] - made[0][0].coordinates[0])
        moves.append(ways / [judged.parameter.tolerance for judged in found.elements])
        return float(np.mean([m[2] for m in made])), (time.process_time() - began) / 3

    plain, seconds = trained()
    changes = {"rates": plan.rates, "starts": plan.starts, "turning": plan.turning}
    advised, _ = trained(settings=plan.settings, **changes)
    print(
        f"\n{spent / seconds:.1f} trainings' time; accuracy {plain:.4f}, with {plan.change} "
        f"{advised:.4f}; median moves of theta, sigma, wavelength in tolerances",
        *(np.median(m.reshape(3, 16), axis=1).round(1) for m in moves),
    )
    assert spent <= 25 * seconds
    assert advised >= plain
    assert (np.median(moves[1].reshape(3, 16), axis=1) > 1).all()
