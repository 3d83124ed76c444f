"""Doing what a diagnosis says, by hand: its sentences are read for options, and nothing else.

A `Plan` is a run that a person could make: a loss in torch and the settings of a usual loop. What
it does is computed by `tests.dynamics.independent`, never by the code that gave the advice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tests.dynamics.independent import Array, Log, Loss, distance, stays_at, train

# An option and its value, as sentences have them: the value ends before a stop or a bracket.
OPTION = re.compile(r"--([a-z-]+) (\S+?)(?=[,;)]|\.?(?:\s|$))")
START = re.compile(r"Start at (\S+?°|[^\s,]+?)(?=,|\.?(?:\s|$))")
SQUARE = "the loss's square"


def number(text: str) -> float:
    """Reads a value; angles are said in degrees."""
    for unit in ("deg", "°"):
        if text.endswith(unit):
            return math.radians(float(text.removesuffix(unit)))
    return float(text)


def maker(settings: dict[str, Any]) -> Callable[[list[torch.Tensor]], torch.optim.Optimizer]:
    """Returns what makes torch's optimizer of that name."""
    classes = {name.lower(): getattr(torch.optim, name) for name in dir(torch.optim)}
    keywords = {"lr": settings["lr"]}
    if settings["momentum"]:
        keywords |= {"momentum": settings["momentum"], "nesterov": settings["nesterov"]}
        if settings["optimizer"] != "sgd":
            del keywords["nesterov"]
    return lambda parameters: classes[settings["optimizer"]](parameters, **keywords)


def scheduler(settings: dict[str, Any]) -> Callable[[torch.optim.Optimizer], Any] | None:
    """Returns torch's scheduler of the documented name.

    Exponential decay ends at 1e-2 of lr, cosine at 0, steps at 1e-3.
    """
    schedulers, steps = torch.optim.lr_scheduler, settings["steps"]
    makers: dict[str, Any] = {
        "constant": None,
        "exponential": lambda o: schedulers.ExponentialLR(o, 0.01 ** (1 / steps)),
        "cosine": lambda o: schedulers.CosineAnnealingLR(o, steps),
        "step": lambda o: schedulers.StepLR(o, steps // 4, 0.1),
        "one-cycle": lambda o: schedulers.OneCycleLR(
            o, settings["lr"], total_steps=steps + 1, cycle_momentum=False
        ),
    }
    return makers[settings["schedule"]]  # type: ignore[no-any-return]


def _cannot(option: str, value: str) -> Loss:
    raise AssertionError(f"--{option} {value} cannot be followed here")


@dataclass(frozen=True)
class Plan:
    """A run to be made by hand.

    Attributes:
        loss: Of one value.
        settings: By their keywords; those left out are the documented defaults.
        start: First value.
        goal: Where it should arrive.
        span: Lowest and highest value of the range.
        period: Of the parameter, if it is periodic.
        is_angle: Whether the tolerance is one degree instead of 1% of the range.
        closeness: The tolerance, where the goal's basin is narrower than that.
        remake: What options that change the loss make of it.
    """

    loss: Loss
    settings: dict[str, Any]
    start: float
    goal: float
    span: tuple[float, float]
    period: float | None = None
    is_angle: bool = False
    closeness: float = math.inf
    remake: Callable[[str, str], Loss] = field(default=_cannot)

    @property
    def tolerance(self) -> float:
        """How near the goal counts as there."""
        usual = math.radians(1) if self.is_angle else 0.01 * (self.span[1] - self.span[0])
        return min(usual, self.closeness)

    @cached_property
    def log(self) -> Log:
        """What the loop saw."""
        full = {"momentum": 0.0, "nesterov": False, "schedule": "constant", **self.settings}
        return train(self.loss, self.start, maker(full), full["steps"], scheduler(full))

    @property
    def arrives(self) -> bool:
        """Whether its last tenth stays at the goal or a copy of it."""
        return stays_at(self.log.values, self.goal, self.tolerance, self.period)

    @property
    def arrival(self) -> int:
        """The step from which on it stays there."""
        return arrival(self.log.values, self.goal, self.tolerance, self.period)

    def changed(self, words: str) -> Plan:
        """Returns the plan with what the words say changed, and nothing else."""
        # Another unit is another parameter, with a rate of its own.
        words = words.partition("; so large a rate comes of the parameter's unit")[0]
        options = OPTION.findall(words)
        started = START.search(words)
        assert options or started or SQUARE in words, f"nothing to follow in: {words}"
        plan = self if started is None else replace(self, start=number(started[1]))
        if SQUARE in words:
            plan = replace(plan, loss=lambda value: self.loss(value) ** 2)
        for option, value in options:
            plan = plan._with_option(option, value)
        if plan.settings["optimizer"] != self.settings["optimizer"]:
            plan = plan._with_setting(momentum=0.0, nesterov=False)
        if not plan.settings.get("momentum"):
            plan = plan._with_setting(nesterov=False)
        return plan

    def _with_setting(self, **changes: Any) -> Plan:
        return replace(self, settings={**self.settings, **changes})

    def _with_option(self, option: str, value: str) -> Plan:
        if option in ("lr", "momentum"):
            return self._with_setting(**{option: float(value)})
        if option == "steps":
            return self._with_setting(steps=int(value))
        if option in ("optimizer", "schedule"):
            return self._with_setting(**{option: value})
        if option == "start":
            return replace(self, start=number(value))
        return replace(self, loss=self.remake(option, value))


def arrival(values: Array, goal: float, tolerance: float, period: float | None) -> int:
    """Returns the first step from which on all values are within the tolerance."""
    away = np.flatnonzero(~(distance(values, goal, period) <= tolerance))
    return int(away[-1]) + 1 if len(away) else 0


def _search(plan: Plan, words: str) -> bool:
    value = re.search(r"= (\S+),", words)
    assert value is not None, words
    return bool(distance(number(value[1]), plan.goal, plan.period) <= plan.tolerance)


def _many_starts(plan: Plan, words: str) -> bool:
    count = re.search(r"(\d+) random start", words)
    assert count is not None, words
    changed = plan.changed(words)
    drawn = np.random.default_rng(1).uniform(*plan.span, int(count[1]))
    return any(replace(changed, start=float(value)).arrives for value in drawn)


def _right_derivative(plan: Plan, words: str) -> bool:
    """Whoever repairs the line at fault gets the derivative that the loss's values have."""

    def loss(value: torch.Tensor) -> torch.Tensor:
        at, step = value.detach(), 1e-6
        slope = (plan.loss(at + step) - plan.loss(at - step)).detach() / (2 * step)
        return plan.loss(at).detach() + slope * (value - at)

    return replace(plan, loss=loss).arrives


# Remedies that say more than options can.
FOLLOWED: dict[str, Callable[[Plan, str], bool]] = {
    "global_search": _search,
    "multi_start": _many_starts,
    "repair_code": _right_derivative,
}


def follow(plan: Plan, name: str, words: str) -> bool:
    """Does what a remedy says, and nothing else; returns whether that arrives."""
    return FOLLOWED[name](plan, words) if name in FOLLOWED else plan.changed(words).arrives
