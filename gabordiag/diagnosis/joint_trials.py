"""Changed runs of a run of several parameters: what causes and remedies are proved by.

Several parameters have neither a proven landscape nor tables, so that every question costs a run;
those of one question are made at once (`joint_batch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gabordiag.diagnosis.evidence import round_down
from gabordiag.dynamics.run import Run, run_many
from gabordiag.dynamics.windows import SCAN_STEPS
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray

# Shares of the straight way from the start to the target at which other starts are tried.
CLOSER = (0.5, 0.75, 0.9)
# Past the bound of a quadratic nothing rests; a little below it, everything does.
SAFE = 0.9
# Steps that a changed run gets at least: where a rate is shown to work, as many as in the scan for
# one parameter; where many rates, starts or an adaptive optimizer are tried, fewer do.
ENOUGH_STEPS, TRIED_STEPS = SCAN_STEPS, 1000
# Where no theory bounds the rate: below 2 / L'' of the question's two filters (0.020 and 0.41).
_CALM = 0.01


class Trials:
    """Changed runs of one run.

    Args:
        run: The run under diagnosis.
        tell: Called after every batch of trials.
    """

    def __init__(self, run: Run, tell: Callable[[], None]) -> None:
        self.run = run
        self.objective = run.objective
        self._tell = tell

    def at_once(
        self,
        starts: Sequence[FloatArray] | None = None,
        rates: Sequence[float | FloatArray] | None = None,
        objective: JointObjective | None = None,
        **settings: Any,
    ) -> tuple[Run, ...]:
        """Returns runs with some things changed and everything else as it was.

        Args:
            starts: One a run; the run's own without.
            rates: One a run, for all parameters or for each; the run's own without.
            objective: Another than the run's.
            settings: Changes of the optimizer's settings.
        """
        count = max(1, len(starts or ()), len(rates or ()))
        places = np.broadcast_to(
            self.run.start if starts is None else np.array(starts), (count, len(self.run.start))
        )
        lrs = [self.run.rates] * count if rates is None else list(rates) * (count // len(rates))
        table = np.array([np.broadcast_to(lr, places.shape[1:]) for lr in lrs])
        runs = run_many(
            self.objective if objective is None else objective,
            replace(self.run.settings, **settings),
            places,
            table,
        )
        self._tell()
        return runs

    def squared(self) -> JointObjective | None:
        """Returns the objective without its root, or None."""
        return self.objective.squared()

    @property
    def bound(self) -> float | None:
        """The largest rate at which gradient descent holds the target; None where unknown.

        2 (1 + beta) / the largest eigenvalue of the Hessian at the target (Goh 2017); a root's
        zero holds no rate at all.
        """
        if not self.run.settings.is_gradient_descent or self.objective.is_root:
            return None
        at = self.objective.space.coordinates(self.objective.goals[0])[None]
        largest = float(np.linalg.eigvalsh(self.objective.hessian(at)[0])[-1])
        return 2 * (1 + self.run.settings.momentum) / largest if largest > 0 else None


def evidence_of(run: Run) -> dict[str, Any]:
    """Returns what of a run stands in the evidence."""
    shown = run.to_dict()
    names = ("optimizer", "lr", "momentum", "loss", "start", "steps", "outcome", "final")
    return {name: shown[name] for name in (*names, "final_loss")}


def start_options(objective: JointObjective, values: FloatArray) -> str:
    """Returns the options that give a start."""
    texts = []
    for parameter, value in zip(objective.space.parameters, values, strict=True):
        text = f"{np.degrees(value):.4g}deg" if parameter.is_angle else f"{value:.4g}"
        texts.append(f"--start {parameter.name}={text}")
    return " ".join(texts)


def calm_rate(trials: Trials) -> float:
    """Returns a rate at which the target surely holds a run."""
    bound = trials.bound
    return round_down(SAFE * bound / 2) if bound is not None else _CALM


def first_reached(runs: Sequence[Run]) -> Run:
    """Returns the first run that reached the target, or the first at all."""
    return next((run for run in runs if run.outcome == "reached"), runs[0])
