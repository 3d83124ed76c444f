"""Mini-batches: which images a step draws, and that its loss is theirs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler

from gabordiag.errors import UsageError
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.gabor_objective import Batches, draw_batches, resolve_batch_size
from gabordiag.objective.objective import OfLine
from tests.objective.plain_images import SMALL, plain_loop


@pytest.fixture(scope="module")
def pictures(texture):
    return [texture(20 + seed, 24, seed=seed) for seed in range(7)]


def test_draws_are_those_of_a_shuffling_data_loader():
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(
        range(7), batch_size=3, sampler=RandomSampler(range(7), generator=generator)
    )
    expected = [batch.tolist() for _ in range(4) for batch in loader]
    drawn = list(itertools.islice(draw_batches(7, 3, 5), 12))
    assert drawn == expected
    for epoch in range(4):
        assert sorted(itertools.chain(*drawn[3 * epoch : 3 * epoch + 3])) == list(range(7))
    assert drawn[:3] != drawn[3:6]
    assert drawn != list(itertools.islice(draw_batches(7, 3, 6), 12))


@pytest.mark.parametrize("loss", ["rmse", "mse", "cosine"])
@pytest.mark.parametrize("direct", [False, True])
def test_every_step_has_the_loss_of_its_images(pictures, loss, direct):
    full = along(Experiment(images=pictures, loss=loss, seed=2, **SMALL), direct=direct)
    batches = Batches(OfLine(full), 3)
    for drawn in itertools.islice(draw_batches(7, 3, 2), 5):
        batches.begin_step()
        value, slope = plain_loop([pictures[index] for index in drawn], -0.3, loss)
        for _ in range(2):  # a step may evaluate several times
            (ours,), gradient = batches.step_gradient(batches.tensor(-0.3))
            assert ours == pytest.approx(value, rel=1e-10)
            assert gradient.item() == pytest.approx(slope, rel=1e-9)


def test_sizes(pictures):
    objective = along(Experiment(images=pictures, **SMALL))
    assert resolve_batch_size(objective, None) is None
    assert resolve_batch_size(objective, 6) == 6
    assert resolve_batch_size(objective, 7) is None
    assert resolve_batch_size(objective, 100) is None
    with pytest.raises(UsageError, match="no batch"):
        resolve_batch_size(objective, 0)
    with pytest.raises(UsageError, match="Give --images"):
        resolve_batch_size(along(Experiment(image=pictures[0], **SMALL)), 2)
