"""Remedies of a training: the same training again with one thing changed, with several seeds.

A remedy works when it ends at a lower loss than the training as it is, beyond the spread of both
over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gabordiag.diagnosis.training.elements import Facts, Judged
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.training import run_training
from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray
from gabordiag.own.training import Batch
from gabordiag.results import finite_or_none

# A remedy lowers the loss by at least this part of it.
_LOWER = 0.01
# Standard errors by which the means of the seeds must differ.
_ERRORS = 2.0
SCHEDULE = "cosine"
_STEPS_FACTOR = 3


@dataclass(frozen=True)
class Plan:
    """What is changed.

    Attributes:
        name: Of the remedy.
        change: In words.
        settings: Optimizer, schedule, steps.
        rates: Learning rates by parameter.
        starts: Coordinates of elements to begin with, by label.
    """

    name: str
    change: str
    settings: OptimizerSettings
    rates: Mapping[str, float]
    starts: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Trials:
    """Trainings by one plan.

    Attributes:
        losses: At the end, on the fixed batches (seeds,).
        metrics: The same of the metric; empty without one.
        final: Last coordinates (seeds, d).
    """

    losses: FloatArray
    metrics: FloatArray
    final: FloatArray


@dataclass(frozen=True, eq=False)
class TrainingRemedy:
    """A plan that was tried.

    Attributes:
        plan: What was changed.
        works: Whether it ends at a lower loss beyond the spread.
        before: The trainings as they are.
        after: The trainings by the plan; fewer seeds where the first one already was no better.
        freed: Labels of failing elements that end within the tolerance of their goal.
    """

    plan: Plan
    works: bool
    before: Trials
    after: Trials
    freed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        shown = {
            "name": self.plan.name,
            "works": self.works,
            "change": self.plan.change,
            "loss_before": _mean(self.before.losses),
            "loss_after": _mean(self.after.losses),
            "evidence": {
                "spread_before": _spread(self.before.losses),
                "spread_after": _spread(self.after.losses),
                "losses_before": self.before.losses.tolist(),
                "losses_after": self.after.losses.tolist(),
                "freed": list(self.freed),
            },
        }
        if len(self.before.metrics):
            shown |= {
                "metric_before": _mean(self.before.metrics),
                "metric_after": _mean(self.after.metrics),
            }
        return shown


def _mean(values: FloatArray) -> float | None:
    return finite_or_none(float(values.mean())) if len(values) else None


def _spread(values: FloatArray) -> float | None:
    return finite_or_none(float(values.std(ddof=1))) if len(values) > 1 else None


def try_remedies(
    facts: Facts,
    elements: Sequence[Judged],
    batches: Sequence[Batch],
    first: tuple[float, float | None],
    seeds: Sequence[int],
    tick: Callable[[], None],
) -> tuple[TrainingRemedy, ...]:
    """Returns every remedy that applies, tried; those that work first.

    Args:
        facts: Of the training.
        elements: Judged.
        batches: On which the ends are compared.
        first: Loss and metric at the end of the run that was made, with the first seed.
        seeds: Of the repeated trainings.
        tick: Called after every training.
    """
    plans = list(_plans(facts, elements))
    if not plans:
        return ()
    run = facts.run
    as_it_is = Plan("", "", run.settings, run.rates, {})
    before = _trials(facts, as_it_is, batches, seeds[1:], tick)
    losses = np.concatenate([[first[0]], before.losses])
    metrics = before.metrics if first[1] is None else np.concatenate([[first[1]], before.metrics])
    final = np.concatenate([run.coordinates[-1:], before.final.reshape(-1, len(run.watched))])
    before = Trials(losses, metrics, final)
    tried = [_try(facts, elements, plan, batches, before, seeds, tick) for plan in plans]
    return tuple(sorted(tried, key=lambda remedy: (not remedy.works, _mean(remedy.after.losses))))


def _try(
    facts: Facts,
    elements: Sequence[Judged],
    plan: Plan,
    batches: Sequence[Batch],
    before: Trials,
    seeds: Sequence[int],
    tick: Callable[[], None],
) -> TrainingRemedy:
    after = _trials(facts, plan, batches, seeds[:1], tick)
    worst = before.losses[np.isfinite(before.losses)].max(initial=-math.inf)
    if after.losses[0] < worst or not np.isfinite(before.losses).all():
        more = _trials(facts, plan, batches, seeds[1:], tick)
        after = Trials(
            np.append(after.losses, more.losses),
            np.append(after.metrics, more.metrics),
            np.concatenate([after.final, more.final.reshape(-1, after.final.shape[1])]),
        )
    freed = []
    for index, judged in enumerate(elements):
        if judged.verdict == "healthy" or judged.goal is None:
            continue
        offsets = np.abs(judged.parameter.offset(after.final[:, index], judged.goal))
        if (offsets <= 2 * judged.parameter.tolerance).all():
            freed.append(judged.watched.label)
    return TrainingRemedy(plan, _is_lower(before.losses, after.losses), before, after, tuple(freed))


def _is_lower(before: FloatArray, after: FloatArray) -> bool:
    if not np.isfinite(after).all():
        return False
    if not np.isfinite(before).all():
        return True
    if len(after) < len(before):
        return False
    drop = float(before.mean() - after.mean())
    count = len(before)
    spread = float(np.hypot(before.std(), after.std())) / math.sqrt(max(1, count - 1))
    return drop > max(_ERRORS * spread, _LOWER * abs(float(before.mean())))


def _trials(
    facts: Facts,
    plan: Plan,
    batches: Sequence[Batch],
    seeds: Sequence[int],
    tick: Callable[[], None],
) -> Trials:
    losses, metrics, final = [], [], []
    for seed in seeds:
        try:
            run, loss, metric = run_training(
                facts.training,
                facts.run.watched,
                plan.settings,
                plan.rates,
                seed=seed,
                first=seed,
                starts=plan.starts,
                batches=batches,
            )
        except InputError:
            # Code that does not accept the values that this plan leads to.
            losses.append(math.inf)
            final.append(np.full(len(facts.run.watched), math.nan))
        else:
            losses.append(loss if math.isfinite(loss) else math.inf)
            metrics += [] if metric is None else [metric]
            final.append(run.coordinates[-1])
        tick()
    return Trials(np.array(losses), np.array(metrics), np.array(final))


def _plans(facts: Facts, elements: Sequence[Judged]) -> Iterator[Plan]:
    """Yields what may help, by what was found."""
    run = facts.run
    found = {judged.verdict for judged in elements}
    rates, rate_words = _own_rates(facts, elements)
    if rate_words:
        yield Plan("own rate", rate_words, run.settings, rates, {})
    if "step_too_small" in found:
        more = replace(run.settings, steps=_STEPS_FACTOR * run.settings.steps)
        yield Plan("more steps", f"{more.steps} steps", more, run.rates, {})
    starts, start_words = _other_starts(elements)
    if starts:
        yield Plan("another start", start_words, run.settings, run.rates, starts)
    if starts and rate_words:
        yield Plan("start and rate", f"{start_words}, {rate_words}", run.settings, rates, starts)
    spread = _evenly(elements) if found & {"wrong_basin", "duplicate", "flat_start"} else {}
    if spread:
        change = "orientations evenly spread at the start"
        yield Plan("even start", change, run.settings, run.rates, spread)
    if run.settings.schedule == "constant" and "step_too_large" in found:
        falling = replace(run.settings, schedule=SCHEDULE)
        yield Plan("schedule", f"a {SCHEDULE} schedule", falling, run.rates, {})


def _own_rates(facts: Facts, elements: Sequence[Judged]) -> tuple[dict[str, float], str]:
    """Returns the rates with those of failing groups changed, and the change in words."""
    rates = dict(facts.run.rates)
    words = []
    factors = _factors(elements)
    for judged in {judged.watched.group: judged for judged in elements}.values():
        group, name = judged.watched.group, judged.watched.element.name
        if group in factors:
            rates[name] *= factors[group]
            words.append(f"lr {rates[name]:.2g} for {group}")
    return rates, ", ".join(words)


def _other_starts(elements: Sequence[Judged]) -> tuple[dict[str, float], str]:
    """Returns the stuck elements at the lowest minima of their lines, and the change in words."""
    stuck = [
        judged
        for judged in elements
        if judged.verdict in ("wrong_basin", "flat_start", "at_bound") and judged.goal is not None
    ]
    starts = {judged.watched.label: float(judged.goal or 0.0) for judged in stuck}
    words = [f"{j.watched.label} = {j.shown.show(j.value(j.goal or 0.0), 1)}" for j in stuck[:4]]
    words += [f"{len(stuck) - 4} more"] if len(stuck) > 4 else []
    return starts, "the start at " + ", ".join(words)


def _factors(elements: Sequence[Judged]) -> dict[str, float]:
    """Returns by group what its rate should be multiplied by: the median of its failing ones.

    Where some want a smaller rate, these decide.
    """
    found: dict[str, list[float]] = {}
    for judged in elements:
        if judged.factor is not None:
            found.setdefault(judged.watched.group, []).append(judged.factor)
    factors = {}
    for group, wanted in found.items():
        smaller = [factor for factor in wanted if factor < 1]
        factors[group] = min(smaller) if smaller else float(np.median(wanted))
    return factors


def _evenly(elements: Sequence[Judged]) -> dict[str, float]:
    """Returns evenly spread orientations, of groups of angles with two elements or more."""
    starts: dict[str, float] = {}
    groups: dict[str, list[Judged]] = {}
    for judged in elements:
        if judged.parameter.is_angle and "psi" not in judged.watched.group:
            groups.setdefault(judged.watched.group, []).append(judged)
    for members in groups.values():
        if len(members) < 2:
            continue
        period = members[0].parameter.period or math.tau
        for index, judged in enumerate(members):
            starts[judged.watched.label] = period * index / len(members) - period / 2
    return starts
