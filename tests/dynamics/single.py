"""A single run of one parameter, step by step, as the descent loop hands it out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.replay import Step
from gabordiag.dynamics.run import one_step
from gabordiag.objective.objective import Line, OfLine


def steps_of(objective: Line, settings: OptimizerSettings, start: float) -> Iterator[Step]:
    first, lr = np.array([[start]]), np.array([[settings.lr]])
    return (one_step(state) for state in descend(OfLine(objective), settings, first, lr))
