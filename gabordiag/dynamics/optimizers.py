"""The optimizers and schedules: torch's own classes, found by name; the place to add another.

Nothing here reimplements an optimizer. A class of `torch.optim` that works on a single number is
listed in `OPTIMIZERS` and usable everywhere; a schedule is one line in `SCHEDULES`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import lr_scheduler

from gabordiag.errors import UsageError

# Of torch.optim, all that take dense gradients of one number (SparseAdam, Muon do not).
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in (
        torch.optim.SGD,
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.RMSprop,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
        torch.optim.Adamax,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Rprop,
        torch.optim.ASGD,
        torch.optim.LBFGS,
    )
}

Schedule = Callable[[torch.optim.Optimizer, float, int], lr_scheduler.LRScheduler | None]

# name -> (optimizer, lr, steps) -> scheduler. Ends: step 1e-3 lr, exponential 1e-2 lr, cosine 0.
SCHEDULES: dict[str, Schedule] = {
    "constant": lambda optimizer, lr, steps: None,
    "step": lambda optimizer, lr, steps: lr_scheduler.StepLR(optimizer, max(1, steps // 4), 0.1),
    "exponential": lambda optimizer, lr, steps: lr_scheduler.ExponentialLR(
        optimizer, 0.01 ** (1 / max(1, steps))
    ),
    "cosine": lambda optimizer, lr, steps: lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps)),
    "one-cycle": lambda optimizer, lr, steps: lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=max(1, steps) + 1, cycle_momentum=False
    ),
}


# Every step is kept and logged: more than this is a slip of the finger.
MAX_STEPS = 1_000_000_000


@dataclass(frozen=True)
class OptimizerSettings:
    """How to descend.

    Attributes:
        optimizer: A name of `OPTIMIZERS`.
        lr: Learning rate, > 0.
        momentum: For the classes that take it (sgd, rmsprop); in [0, 1).
        nesterov: For sgd with momentum.
        schedule: A name of `SCHEDULES`.
        steps: Number of optimizer steps, >= 1.

    Raises:
        UsageError: A combination that torch has not, or a number out of range.
    """

    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    steps: int = 500

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(
                f"optimizer '{self.optimizer}' is unknown.", f"Use one of {', '.join(OPTIMIZERS)}."
            )
        if self.schedule not in SCHEDULES:
            raise UsageError(
                f"schedule '{self.schedule}' is unknown.", f"Use one of {', '.join(SCHEDULES)}."
            )
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"learning rate {self.lr} is not a positive number.")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum {self.momentum} is not in [0, 1).")
        if not 1 <= self.steps <= MAX_STEPS:
            raise UsageError(
                f"{self.steps} steps are no run.", f"Use --steps from 1 to {MAX_STEPS:,}."
            )
        if self.momentum and "momentum" not in self._accepted():
            raise UsageError(
                f"{self.optimizer} takes no momentum.", "Use sgd or rmsprop, or leave it out."
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise UsageError("nesterov needs sgd with a momentum above 0.")

    def _accepted(self) -> set[str]:
        return set(inspect.signature(OPTIMIZERS[self.optimizer]).parameters)

    @property
    def is_elementwise(self) -> bool:
        """Whether a vector of values is a batch of independent runs."""
        return self.optimizer != "lbfgs"

    @property
    def is_gradient_descent(self) -> bool:
        """Plain or heavy-ball gradient descent at a constant rate: where theory is exact."""
        return self.optimizer == "sgd" and self.schedule == "constant" and not self.nesterov

    @property
    def label(self) -> str:
        """For legends and tables."""
        extras = f", momentum {self.momentum:g}" if self.momentum else ""
        extras += ", Nesterov" if self.nesterov else ""
        extras += f", {self.schedule}" if self.schedule != "constant" else ""
        return f"{self.optimizer}, lr {self.lr:g}{extras}"

    def build(self, parameters: Any, lr: float | None = None) -> torch.optim.Optimizer:
        """Returns the torch optimizer for tensors or parameter groups."""
        options: dict[str, Any] = {"lr": self.lr if lr is None else lr}
        accepted = self._accepted()
        if "foreach" in accepted:
            # One tensor a group: the multi-tensor path only adds overhead.
            options["foreach"] = False
        if "momentum" in accepted:
            options["momentum"] = self.momentum
        if self.nesterov:
            options["nesterov"] = True
        return OPTIMIZERS[self.optimizer](parameters, **options)

    def build_schedule(self, optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler | None:
        """Returns the torch scheduler, or None for a constant rate."""
        return SCHEDULES[self.schedule](optimizer, self.lr, self.steps)


class BatchUpdate:
    """Many independent runs of one optimizer, each with its own learning rate, in one tensor.

    torch takes one rate a parameter group, and hundreds of groups cost more than the arithmetic.
    Where the update is proportional to the rate and does not look at the value (measured, not
    assumed: see `_is_proportional`), the optimizer runs once on a tensor of zeros at lr = 1; what
    it leaves there is the update per unit rate. Otherwise each rate gets its group.

    Args:
        settings: Of the optimizer; its own lr is not used.
        rates: Learning rates (n,), equal ones adjacent.
    """

    def __init__(self, settings: OptimizerSettings, rates: Tensor) -> None:
        self._rates = rates
        self._unit = _is_proportional(settings)
        if self._unit:
            self._parameters = [torch.zeros_like(rates)]
            self._optimizer = settings.build(self._parameters, lr=1.0)
            return
        counts = torch.unique_consecutive(rates, return_counts=True)
        self._parameters = [torch.zeros(int(n), dtype=rates.dtype) for n in counts[1]]
        groups = [
            {"params": [parameter], "lr": float(lr)}
            for parameter, lr in zip(self._parameters, counts[0], strict=True)
        ]
        self._optimizer = settings.build(groups)
        self._sizes = counts[1].tolist()

    def apply(self, values: Tensor, gradients: Tensor) -> None:
        """Moves the values (n,) one step, in place."""
        if self._unit:
            update = self._parameters[0]
            update.zero_()
            update.grad = gradients
            self._optimizer.step()
            values.addcmul_(update, self._rates)
            return
        pieces = torch.split(values, self._sizes)
        slopes = torch.split(gradients, self._sizes)
        for parameter, piece, slope in zip(self._parameters, pieces, slopes, strict=True):
            parameter.copy_(piece)
            parameter.grad = slope
        self._optimizer.step()
        torch.cat(self._parameters, out=values)


def _is_proportional(settings: OptimizerSettings) -> bool:
    """Whether doubling lr doubles every update exactly, whatever the value stands at."""
    # Long stretches of alternating and of equal signs drive adaptive steps into their limits,
    # which need not scale with lr (rprop's do not).
    signs = torch.cat([(-1.0) ** torch.arange(40), torch.ones(40)])
    gradients = signs[:, None] * torch.tensor([[0.3, -2.0]], dtype=torch.float64)

    def path(lr: float, start: float) -> Tensor:
        parameter = torch.full((2,), start, dtype=torch.float64)
        optimizer = settings.build([parameter], lr=lr)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        return parameter - start

    once = path(0.25, 0.0)
    doubled = torch.equal(path(0.5, 0.0), 2 * once)
    return doubled and torch.allclose(path(0.25, 1.0), once, rtol=1e-12, atol=0)
