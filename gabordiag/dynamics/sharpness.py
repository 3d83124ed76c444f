"""How sharply the loss curves along a training, beside what its learning rate can bear.

Plain descent with rate lr is stable in a direction of curvature h while lr h < 2, and training
often comes to just there: the edge of stability (Cohen et al. 2021, arXiv 2103.00065). Other
optimizers have their own limits (`theory.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from gabordiag.dynamics.theory import curvature_limit
from gabordiag.dynamics.training import TrainingRun
from gabordiag.errors import InputError
from gabordiag.landscape.network import largest_eigenvalues
from gabordiag.objective.space import FloatArray
from gabordiag.own.weights import WeightLoss
from gabordiag.results import Progress

# Eigenvalues that are computed at the end, and moments of the run at which the largest is.
_EIGENVALUES, _MOMENTS = 3, 5
# At the edge of stability lr times the sharpness is so near to its limit.
_AT_EDGE = 0.2


@dataclass(frozen=True, eq=False)
class Sharpness:
    """How the loss on the fixed batches curves along the run, beside what its steps can bear.

    Attributes:
        eigenvalues: The largest of the Hessian over all weights at the end, the largest first.
        watched: Those over the watched numbers alone; none of none.
        error: So near to each lies an eigenvalue.
        sharpness: The largest eigenvalue at moments of the run, the steps (n,).
        lr: Learning rate; None where there is no single one.
        limit: What lr times the sharpness must stay below; None where none is known.
        reason: Why something is not known.
    """

    eigenvalues: tuple[float, ...] = ()
    watched: tuple[float, ...] = ()
    error: float | None = None
    steps: tuple[int, ...] = ()
    sharpness: tuple[float, ...] = ()
    lr: float | None = None
    limit: float | None = None
    reason: str = ""

    @property
    def edge(self) -> str | None:
        """Whether the run ends `below` the edge of stability, `at` it, or `above` it."""
        if (load := self._load) is None:
            return None
        return "at" if abs(load - 1) <= _AT_EDGE else "below" if load < 1 else "above"

    @property
    def _load(self) -> float | None:
        if self.lr is None or self.limit is None or not self.eigenvalues:
            return None
        return self.lr * self.eigenvalues[0] / self.limit

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; `of_limit` is about 1 at the edge of stability."""
        rate = None
        if self.limit and self.eigenvalues and self.eigenvalues[0] > 0:
            rate = self.limit / self.eigenvalues[0]
        return {**asdict(self), "stable_lr": rate, "of_limit": self._load, "edge": self.edge}


def measure_sharpness(
    loss: WeightLoss,
    path: Tensor,
    steps: Sequence[int],
    run: TrainingRun,
    seed: int,
    progress: Progress,
) -> Sharpness:
    """Returns the Hessian's largest eigenvalues at some moments of a run, by Lanczos' method."""
    rates, settings = set(run.rates.values()), run.settings
    lr = rates.pop() if len(rates) == 1 and settings.schedule == "constant" else None
    limit = curvature_limit(settings)
    reason = "" if limit else f"No bound on the curvature is known for {settings.optimizer}."
    if lr is None:
        reason = "There is no single learning rate to compare with."
    count = loss.weights.count
    learned = [w for w in run.watched if w.element.name in loss.weights.learned]
    places = [place for watched in learned for place in loss.weights.places(watched)]
    chosen = np.unique(np.linspace(0, len(path) - 1, _MOMENTS).round().astype(int)).tolist()

    def eigenvalues(at: Tensor, among: Any, number: int) -> tuple[FloatArray, float]:
        """Those of the Hessian's rows and columns at some places."""

        def product(vector: Tensor) -> Tensor:
            full = at.new_zeros(count)
            full[among] = vector
            return loss.gradient(at, full)[among]

        values, _, error = largest_eigenvalues(product, at[:count][among], number, seed)
        return values, error

    try:
        sharpness = []
        for index, moment in enumerate(chosen[:-1]):
            progress(index, len(chosen))
            sharpness.append(float(eigenvalues(path[moment], slice(None), 1)[0][0]))
        progress(len(sharpness), len(chosen))
        values, error = eigenvalues(path[-1], slice(None), _EIGENVALUES)
        own = eigenvalues(path[-1], places, _EIGENVALUES)[0] if places else np.zeros(0)
    except InputError as failed:
        # Not every operation has a second derivative.
        return Sharpness(lr=lr, limit=limit, reason=str(failed))
    along = tuple(steps[i] for i in chosen), (*sharpness, float(values[0]))
    ends = tuple(values.tolist()), tuple(own.tolist()), error
    return Sharpness(*ends, *along, lr, limit, reason)
