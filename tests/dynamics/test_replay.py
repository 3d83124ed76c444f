"""A log that does not belong to the run it is to continue is refused at the step that shows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gabordiag.dynamics.descend import State, descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.replay import Step
from gabordiag.errors import InputError
from gabordiag.objective.objective import OfLine
from tests.diagnosis.planting import bowl

# Everything is a multiple of a power of two, so that both do the same to the bit.
SETTINGS = OptimizerSettings("sgd", 0.125, momentum=0.5, steps=6)
START = 0.25


def _logged(count: int) -> list[Step]:
    """Heavy ball on 2 (v - 1)^2, written out."""
    rows, v, speed = [], START, 0.0
    for step in range(count):
        slope = 4 * (v - 1)
        speed = 0.5 * speed + slope
        after = v - 0.125 * speed
        values, slopes, updates = (np.array([x]) for x in (v, slope, after - v))
        rows.append(Step(step, values, 2 * (v - 1) ** 2, slopes, updates, np.array([0.125])))
        v = after
    return rows


def _run(logged: list[Step]) -> list[State]:
    start, lr = np.array([[START]]), np.array([[SETTINGS.lr]])
    return list(descend(OfLine(bowl()), SETTINGS, start, lr, logged))


def test_a_log_written_by_hand_is_continued() -> None:
    whole, again = _run([]), _run(_logged(4))
    np.testing.assert_array_equal([s.values for s in again], [s.values for s in whole])


@pytest.mark.parametrize(
    ("at", "changed", "words"),
    [
        (2, {"values": np.array([0.9])}, "at step 2 its value is 0.9"),
        (0, {"loss": 7.0}, "at step 0 its loss is 7.0"),
        (0, {"gradients": np.array([3.0])}, "at step 0 its gradient is 3.0"),
        (1, {"updates": np.array([0.5])}, "at step 1 its update is 0.5"),
        (1, {"gradients": np.array([0.0])}, "at step 1 its update"),
    ],
)
def test_a_changed_row_is_found(at: int, changed: dict[str, Any], words: str) -> None:
    rows = _logged(4)
    rows[at] = rows[at]._replace(**changed)
    with pytest.raises(InputError, match=words):
        _run(rows)


def test_a_log_longer_than_the_run_is_none_of_its() -> None:
    with pytest.raises(InputError, match="has 7 steps, the run 6"):
        _run(_logged(8))
