"""The optimizers and schedules: torch's own classes, found by name; the place to add another.

A custom one is a `torch.optim.Optimizer` in a module beside this one, made as
`Class(parameters, lr=...)`; every element of a tensor is moved as if it were alone
(`is_elementwise` has the exception), because that makes a tensor of values a batch of runs.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import MethodType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, optim
from torch.optim import lr_scheduler

from gabordiag.choices import MAX_STEPS, Number, plain
from gabordiag.errors import UsageError, unknown_name

# Of torch.optim, all that take dense gradients of one number (SparseAdam, Muon do not).
OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    cls.__name__.lower(): cls
    for cls in (
        optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Adadelta,
        optim.Adamax, optim.NAdam, optim.RAdam, optim.Rprop, optim.ASGD, optim.LBFGS,
    )
}  # fmt: skip
# Those whose steps are proportional to the gradient, and those whose steps are about as long as the
# rate, whatever the gradient: so the default scan of rates follows the scale of loss and parameter,
# or of the parameter alone. For one in neither it stays as it is.
PROPORTIONAL = ("sgd", "asgd")
NORMALISED = ("adam", "adamw", "adamax", "nadam", "radam", "rmsprop", "rprop", "adagrad")

# What the JSON of every kind of run shows of the settings.
_OF_ALL = ("optimizer", "momentum", "nesterov", "steps")
Schedule = Callable[[optim.Optimizer, int], lr_scheduler.LRScheduler | None]

# name -> (optimizer, steps) -> scheduler, whose step() needs no loss (as ReduceLROnPlateau's
# does). Ends: step 1e-3 lr, exponential 1e-2 lr, cosine 0.
SCHEDULES: dict[str, Schedule] = {
    "constant": lambda optimizer, steps: None,
    "step": lambda optimizer, steps: lr_scheduler.StepLR(optimizer, max(1, steps // 4), 0.1),
    "exponential": lambda optimizer, steps: lr_scheduler.ExponentialLR(
        optimizer, 0.01 ** (1 / max(1, steps))
    ),
    "cosine": lambda optimizer, steps: lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps)),
    "one-cycle": lambda optimizer, steps: lr_scheduler.OneCycleLR(
        # As many rates as there are parameter groups.
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=max(1, steps) + 1,
        cycle_momentum=False,
    ),
}


@dataclass(frozen=True)
class OptimizerSettings:
    """How to descend; refuses a combination that torch.optim does not support.

    Momentum in [0, 1) is for the classes that take it (sgd, rmsprop), nesterov for sgd with it.
    """

    optimizer: str = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    schedule: str = "constant"
    steps: int = 500

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "steps"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        for kind, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if (name := getattr(self, kind)) not in known:
                raise unknown_name(kind, name, known)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"learning rate {self.lr} is not a positive number.")
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum {self.momentum} is not in [0, 1).")
        if type(self.steps) is not int or not 1 <= self.steps <= MAX_STEPS:
            raise UsageError(
                f"{self.steps} steps are no run.", f"Use --steps from 1 to {MAX_STEPS:,}."
            )
        if self.momentum and "momentum" not in self._accepted():
            raise UsageError(
                f"{self.optimizer} takes no momentum.", "Use sgd or rmsprop, or leave it out."
            )
        if self.nesterov and not (self.optimizer == "sgd" and self.momentum):
            raise UsageError("nesterov needs sgd with a momentum above 0.")

    @classmethod
    def of(
        cls, optimizer: str, lr: Number = 0.01, momentum: Number = 0.0, *others: Any, **more: Any
    ) -> OptimizerSettings:
        """Returns settings whose rate and momentum are numbers of any library."""
        numbers = real("learning rate", lr), real("momentum", momentum)
        return cls(optimizer, *numbers, *others, **more)

    def _accepted(self) -> set[str]:
        return set(inspect.signature(OPTIMIZERS[self.optimizer]).parameters)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON of every kind of run shows."""
        return {name: getattr(self, name) for name in _OF_ALL}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> OptimizerSettings:
        """Returns the settings of a result's JSON, but for rate and schedule."""
        return cls(**{name: saved[name] for name in _OF_ALL})

    @property
    def is_elementwise(self) -> bool:
        """Whether a vector of values is a batch of independent runs."""
        return self.optimizer != "lbfgs"

    @property
    def is_gradient_descent(self) -> bool:
        """Plain or heavy-ball gradient descent at a constant rate: where theory is exact."""
        return self.optimizer == "sgd" and self.schedule == "constant" and not self.nesterov

    @property
    def is_memoryless(self) -> bool:
        """Whether the next values depend on these alone."""
        return self.is_gradient_descent and not self.momentum

    @property
    def label(self) -> str:
        """For legends and tables."""
        extras = f", momentum {self.momentum:g}" if self.momentum else ""
        extras += ", Nesterov" if self.nesterov else ""
        extras += f", {self.schedule}" if self.schedule != "constant" else ""
        return f"{self.optimizer}, lr {self.lr:g}{extras}"

    def build(self, parameters: Any, lr: float | None = None) -> optim.Optimizer:
        """Returns the torch optimizer for tensors or parameter groups."""
        # One tensor a group: the multi-tensor path (foreach) only adds overhead.
        known = {"foreach": False, "momentum": self.momentum, "nesterov": self.nesterov}
        options = {name: known[name] for name in known.keys() & self._accepted()}
        optimizer: optim.Optimizer = _bare(self.optimizer)(
            parameters, lr=self.lr if lr is None else lr, **options
        )
        return optimizer

    def build_schedule(self, optimizer: optim.Optimizer) -> lr_scheduler.LRScheduler | None:
        """Returns the torch scheduler, or None for a constant rate."""
        return SCHEDULES[self.schedule](optimizer, self.steps)

    def scheduled(self, rates: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Returns the rates (steps + 1, d) of parameters that begin with rates (d,)."""
        first = np.asarray(rates, dtype=np.float64)
        # Schedules do not depend on the optimizer.
        groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in first.tolist()]
        optimizer = optim.SGD(groups)
        schedule, rows = self.build_schedule(optimizer), np.tile(first, (self.steps + 1, 1))
        if schedule is None:
            return rows
        for row in rows:
            row[:] = [group["lr"] for group in optimizer.param_groups]
            optimizer.step()
            schedule.step()
        return rows


def real(name: str, value: Any) -> float:
    """Returns a number of any library as a float; the error says which is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"the {name} {value!r} is not a number.") from None


@cache
def _bare(name: str) -> Any:
    """Returns the class of an optimizer without what torch wraps around its methods.

    The wrappers serve torch's compiler and profiler. The first of them imports the compiler, some
    800 modules in a second or two, and they take two thirds of a step of one number.
    """
    kind: Any = OPTIMIZERS[name]
    step: Any = torch.no_grad()(inspect.unwrap(kind.step))
    # What torch's constructor looks for before it wraps the profiler's hook around a step.
    step.hooked = True
    plain = {"add_param_group": inspect.unwrap(kind.add_param_group), "step": step}
    return type(kind.__name__, (kind,), plain)


def unguarded_step(optimizer: optim.Optimizer) -> Callable[..., Any]:
    """Returns a step for tensors without gradients: torch's guard would take half of its time."""
    step: Any = type(optimizer).step
    return MethodType(step.__wrapped__, optimizer)


class BatchUpdate:
    """Many independent runs of one optimizer, each with its own learning rate, in one tensor.

    torch takes one rate a parameter group, and hundreds of groups cost more than the arithmetic.
    Where the update is proportional to the rate (measured, not assumed: see `_proportionality`),
    the optimizer runs once at lr = 1, and what it leaves is the update per unit rate: on a tensor
    of zeros, or on the values where it looks at them (adamw's weight decay). The rate of rprop is
    only its first step size, which torch keeps per element. For other optimizers (asgd) each rate
    gets its own group; equal rates (n,) are adjacent. The settings' own is not used.
    """

    def __init__(self, settings: OptimizerSettings, rates: Tensor) -> None:
        self._rates = rates
        self._proportional, sees_values = _proportionality(settings)
        self._sees_values = sees_values or not self._proportional
        if self._proportional or settings.optimizer == "rprop":
            self._parameters = [torch.zeros_like(rates)]
            self._optimizer = settings.build(self._parameters, lr=1.0)
            self._sizes = [len(rates)]
        else:
            distinct, counts = torch.unique_consecutive(rates, return_counts=True)
            self._sizes = counts.tolist()
            self._parameters = [torch.zeros(size, dtype=rates.dtype) for size in self._sizes]
            groups = [
                {"params": [parameter], "lr": lr}
                for parameter, lr in zip(self._parameters, distinct.tolist(), strict=True)
            ]
            self._optimizer = settings.build(groups)
        self._step = unguarded_step(self._optimizer)
        if settings.optimizer == "rprop":
            # A step without a slope moves nothing, but makes the state.
            self._parameters[0].grad = torch.zeros_like(rates)
            self._optimizer.step()
            self._optimizer.state[self._parameters[0]]["step_size"].copy_(rates)

    def apply(self, values: Tensor, gradients: Tensor) -> None:
        """Moves the values (n,) one step, in place."""
        pieces, slopes = [values], [gradients]
        if len(self._sizes) > 1:
            pieces, slopes = ([*torch.split(x, self._sizes)] for x in (values, gradients))
        for parameter, piece, slope in zip(self._parameters, pieces, slopes, strict=True):
            parameter.copy_(piece) if self._sees_values else parameter.zero_()
            parameter.grad = slope
        self._step()
        if not self._proportional:
            torch.cat(self._parameters, out=values)
            return
        update = self._parameters[0]
        if self._sees_values:
            update.sub_(values)
        values.addcmul_(update, self._rates)


@cache
def _proportionality(settings: OptimizerSettings) -> tuple[bool, bool]:
    """Whether doubling lr doubles every update, and whether an update looks at the value."""
    # Long stretches of alternating and of equal signs drive adaptive steps into their limits,
    # which need not scale with lr (rprop's do not).
    signs = torch.cat([(-1.0) ** torch.arange(40), torch.ones(40)])
    gradients = signs[:, None] * torch.tensor([[0.3, -2.0]], dtype=torch.float64)

    def updates(lr: float, value: float) -> Tensor:
        parameter = torch.empty(2, dtype=torch.float64)
        optimizer = settings.build([parameter], lr=lr)
        moves = []
        for gradient in gradients:
            parameter.fill_(value).grad = gradient.clone()
            optimizer.step()
            moves.append(parameter - value)
        return torch.stack(moves)

    # What is left of a value of 1 after a small update is rounded at 1e-16.
    equal = partial(torch.allclose, rtol=1e-12, atol=1e-15)
    from_zero, from_one = updates(0.25, 0.0), updates(0.25, 1.0)
    doubles = torch.equal(updates(0.5, 0.0), 2 * from_zero)
    doubles &= equal(updates(0.5, 1.0), 2 * from_one)
    return doubles, not equal(from_one, from_zero)
