"""A module's loss as a plain training loop meets it: what a step leaves behind, the next one finds.

Landscapes are made of evaluations that start from the same module each time. A loop's do not: a
kernel that was kept from the first step, a counter or a running mean goes on from step to step.
Runs are made here, so that a module whose state matters shows it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.objective.objective import Objective, OfLine, to_numpy
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import UserObjective
from gabordiag.own.loading import user_code
from gabordiag.own.modules import ModuleLoss, changed_state
from gabordiag.results import Finding
from gabordiag.wording import as_sentence

# What torch says where a graph is asked for gradients once more.
_SECOND_TIME = "backward through the graph a second time"
_IN_FORWARD = "Compute in forward, at every step, what depends on the parameter."
# Steps of a run at which its loss is computed again, from the module as it was given.
_COMPARED = 64
# Roundings of the largest loss by which two evaluations may differ.
_ROUNDINGS = 4096
# Part of the largest loss by which the two differ where the state decides what a run finds.
_DECIDES = 1e-3


class PlainLoop(Objective):
    """The steps of one run of a user's module, its state carried from each to the next.

    The failure says why a step got no gradient, empty where every one did.
    """

    has_state = True

    def __init__(
        self, objective: Objective, user: UserObjective, module: ModuleLoss, may_fail: bool
    ) -> None:
        self.space, self.loss_name = objective.space, objective.loss_name
        self.is_root, self.dtype, self.device = objective.is_root, user.dtype, user.device
        self._may_fail, self.failure = may_fail, ""
        self._objective, self._user = objective, user
        self._given, self._module = module, module.in_a_loop()
        self._leaves = self._module.leaves(*module.own_values, as_given=True)
        self._overwriting: Finding | None = None

    def loss(self, coordinates: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the losses (n,) of the module as it was given."""
        return self._objective.loss(coordinates, smooth=smooth)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns the next loss (1,) and its gradient (1, d), None where none arrives."""
        values = self.space.values(to_numpy(coordinates))[0]
        self._module.put(self._leaves, values)
        given = self._held()
        with self._user.streams():
            loss = self._module.run(self._leaves)
            slopes = self._gradient(loss)
        for name, before, after in zip(self.space.names, given, self._held(), strict=True):
            if before != after and math.isfinite(before):
                self._overwriting = self._overwriting or _writes(name, before, after)
        losses = to_numpy(loss.detach()).reshape(1)
        if slopes is None:
            return losses, None
        logs = [parameter.is_log for parameter in self.space.parameters]
        # dvalue/dcoordinate of a logarithm is the value.
        return losses, (slopes * torch.tensor(np.where(logs, values, 1.0)).to(slopes))[None]

    def _held(self) -> list[float]:
        """The values (d,) that the parameter's elements have now."""
        tensors, elements = self._leaves.tensors, self._module.elements
        return [float(tensors[e.name].detach().view(-1)[e.index]) for e in elements]

    def _gradient(self, loss: Tensor) -> Tensor | None:
        try:
            with user_code("computing the gradient"):
                return self._module.gradient(loss, self._leaves)
        except InputError as error:
            if _SECOND_TIME not in error.problem:
                raise
            self.failure = (
                "the second backward pass of a training loop fails, because the first one's graph "
                f"is used again{self._kept_words()}"
            )
            if not self._may_fail:
                raise InputError(as_sentence(self.failure), _IN_FORWARD) from error
            return None

    def _kept(self) -> list[str]:
        return changed_state(self._given.module, self._module.module, self._leaves.tensors)

    def _kept_words(self) -> str:
        names = self._kept()
        return f": the module keeps {', '.join(names)} from one step to the next" if names else ""

    def compare(self, values: FloatArray, losses: FloatArray) -> Finding | None:
        """Compares a run's losses (steps + 1,) with those of the module as it was given.

        Says what the state that is carried does to the run; None where it does nothing, and where
        evaluations of a fresh module at one value differ.
        """
        if self.failure:
            return Finding("no_gradient", True, False, {"carried": True}, self.failure, _IN_FORWARD)
        if self._overwriting:
            return self._overwriting
        steps = np.unique(np.linspace(0, len(losses) - 1, _COMPARED).astype(np.int64))
        is_periodic = [parameter.period is not None for parameter in self.space.parameters]
        inside = (values >= self.space.low) & (values <= self.space.high) | is_periodic
        is_compared = (inside & np.isfinite(values)).all(axis=1) & np.isfinite(losses)
        steps = steps[is_compared[steps]]
        if len(steps) == 0:
            return None
        places, carried = self.space.coordinates(values[steps]), losses[steps]
        fresh = self._objective.loss_at(places)
        apart, largest = np.abs(carried - fresh), float(np.abs([carried, fresh]).max())
        rounding = _ROUNDINGS * self._user.loss_eps * largest
        if not apart.max() > rounding:
            return None
        if np.abs(self._objective.loss_at(places) - fresh).max() > rounding:
            return None
        first = int(np.argmax(apart > rounding))
        evidence = {
            "carried": True,
            "decides": bool(apart.max() > _DECIDES * largest),
            "step": int(steps[first]),
            "loss": float(carried[first]),
            "fresh_loss": float(fresh[first]),
            "state": self._kept(),
        }
        text = (
            f"at step {steps[first]} of a training loop the loss is {carried[first]:.6g}, "
            f"and {fresh[first]:.6g} for a fresh module at the same value{self._kept_words()}"
        )
        advice = (
            "Let forward give the same at every call: take out what it carries from one call to "
            "the next, or fix it while the parameter is learned."
        )
        return Finding("nondeterministic", True, False, evidence, text, advice)


def _writes(name: str, given: float, left: float) -> Finding:
    """What is found where a forward pass changes the parameter itself."""
    text = (
        f"forward writes into {name}: called at {given:.6g}, it leaves {left:.6g}, from which a "
        "training loop goes on"
    )
    advice = (
        "Let forward leave the parameter as it is: limit a copy there, or the parameter itself "
        "after the optimizer's step, under torch.no_grad()."
    )
    evidence = {"carried": True, "decides": True, "given": given, "left": left}
    return Finding("nondeterministic", True, False, evidence, text, advice)


def as_plain_loop(objective: Objective, *, may_fail: bool = False) -> Objective:
    """Returns a user's module as a loop that carries its state; anything else as it is.

    It may take a step whose backward pass fails for lack of a graph as one without a gradient,
    instead of raising.
    """
    user = objective.line if isinstance(objective, OfLine) else objective
    if not isinstance(user, UserObjective) or not isinstance(user.evaluator, ModuleLoss):
        return objective
    # The loss without its root is not what the module's loop would compute.
    if user.takes_root_away:
        return objective
    return PlainLoop(objective, user, user.evaluator, may_fail)
