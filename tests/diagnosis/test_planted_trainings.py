"""Faults planted in chosen filters of small networks are found there, under their names."""

from __future__ import annotations

import pytest

import gabordiag as gd
from tests.diagnosis.planted_trainings import CAUSES, FAULTS, plant


def failing(seed: int, fault: str) -> tuple[object, dict[str, str]]:
    planted = plant(seed, fault)
    found = gd.diagnose(planted.training, params=planted.params, seeds=0, **planted.options)
    named = {e.watched.label: e.verdict for e in found.elements if e.verdict != "healthy"}
    return planted, named


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_in_its_filter(fault: str) -> None:
    planted, named = failing(1, fault)
    if planted.either:
        assert named
        assert set(named) <= planted.either
    else:
        assert set(named) == planted.failing
    assert set(named.values()) <= CAUSES.get(planted.fault, set())
