"""Remedies of a training: the same training again with one thing changed, with several seeds.

A remedy works when it ends at a lower loss than the training as it is, beyond the spread of both
over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from gabordiag.diagnosis.training.elements import Judged
from gabordiag.diagnosis.training.facts import Facts
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.training import TrainingRun, run_training
from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray
from gabordiag.own.training import Batch, Watched
from gabordiag.results import finite_or_none

# A remedy lowers the loss by this part of it, and by so many standard errors over the seeds.
_LOWER, _ERRORS = 0.01, 2.0
SCHEDULE = "cosine"
_STEPS_FACTOR = 3
_LOWER_RATES = 10
# A small, round envelope leaves a filter's orientation few minima; sigma in wavelengths.
_COARSE_SIGMA = 0.3
COARSE = f"sigma at {_COARSE_SIGMA} wavelengths at most and gamma at 1"
KERNELS = "the filters started at those most similar to the kernels that least squares gives"


@dataclass(frozen=True)
class Plan:
    """What is changed: rates by parameter, coordinates of elements to begin with by label.

    Turning are parameters of angles that are learned as vectors, with the factor of the angles.
    With coarse coordinates a training with those elements held there comes first, and the other
    goes on from where that led the rest.
    """

    name: str
    change: str
    settings: OptimizerSettings
    rates: Mapping[str, float]
    starts: Mapping[str, float] = field(default_factory=dict)
    turning: Mapping[str, int] = field(default_factory=dict)
    coarse: Mapping[str, float] = field(default_factory=dict)


class Trials(NamedTuple):
    """Trainings by one plan: losses, any metrics (seeds,) and coordinates (seeds, d) at the end."""

    losses: FloatArray
    metrics: FloatArray
    final: FloatArray

    def and_more(self, more: Trials) -> Trials:
        """Returns these trainings and more of them."""
        return Trials(*(np.concatenate(pair) for pair in zip(self, more, strict=True)))


@dataclass(frozen=True, eq=False)
class TrainingRemedy:
    """A plan that was tried, with fewer seeds where the first one already was no better.

    Freed are labels of failing elements that end within the tolerance of their goal.
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
            shown["metric_before"] = _mean(self.before.metrics)
            shown["metric_after"] = _mean(self.after.metrics)
        return shown


def _mean(values: FloatArray) -> float | None:
    return finite_or_none(float(values.mean())) if len(values) else None


def _spread(values: FloatArray) -> float | None:
    is_known = len(values) > 1 and np.isfinite(values).all()
    return float(values.std(ddof=1)) if is_known else None


def try_remedies(
    facts: Facts,
    elements: Sequence[Judged],
    batches: Sequence[Batch],
    first: tuple[float, float | None],
    seeds: Sequence[int],
    tick: Callable[[], None],
) -> tuple[TrainingRemedy, ...]:
    """Returns every remedy that applies, tried; `first` are loss and metric of the run made."""
    plans, run = list(_plans(facts, elements)), facts.run
    if not plans:
        return ()
    trials = partial(_trials, facts, batches, tick)
    made = trials(Plan("", "", run.settings, run.rates), seeds[1:])
    loss, metric = first
    metrics = np.array([] if metric is None else [metric])
    before = Trials(np.array([loss]), metrics, run.coordinates[-1:]).and_more(made)
    worst = before.losses[np.isfinite(before.losses)].max(initial=-math.inf)
    tried = []
    for plan in plans:
        after = trials(plan, seeds[:1])
        if after.losses[0] < worst or not np.isfinite(before.losses).all():
            after = after.and_more(trials(plan, seeds[1:]))
        works = _is_lower(before.losses, after.losses)
        tried.append(TrainingRemedy(plan, works, before, after, _freed(elements, after.final)))
    return tuple(sorted(tried, key=lambda remedy: (not remedy.works, remedy.after.losses.mean())))


def _freed(elements: Sequence[Judged], final: FloatArray) -> tuple[str, ...]:
    freed = []
    for judged, ends in zip(elements, final.T, strict=True):
        if judged.verdict != "healthy" and judged.goal is not None:
            apart = np.abs(judged.parameter.offset(ends, judged.goal))
            if (apart <= 2 * judged.parameter.tolerance).all():
                freed.append(judged.watched.label)
    return tuple(freed)


def _is_lower(before: FloatArray, after: FloatArray) -> bool:
    if not (np.isfinite(after).all() and np.isfinite(before).all()):
        return bool(np.isfinite(after).all())
    if len(after) < len(before):
        return False
    drop = float(before.mean() - after.mean())
    spread = float(np.hypot(before.std(), after.std())) / math.sqrt(max(1, len(before) - 1))
    return drop > max(_ERRORS * spread, _LOWER * abs(float(before.mean())))


def _trials(
    facts: Facts,
    batches: Sequence[Batch],
    tick: Callable[[], None],
    plan: Plan,
    seeds: Sequence[int],
) -> Trials:
    losses, metrics, final = [], [], []
    for seed in seeds:
        train = partial(
            run_training, facts.training, facts.run.watched, plan.settings, seed=seed, first=seed,
            turning=plan.turning, batches=batches,
        )  # fmt: skip
        try:
            starts = _led_by_coarse(train, plan, facts.run.watched) if plan.coarse else plan.starts
            run, loss, metric = train(plan.rates, starts=starts)
            end = run.coordinates[-1]
        except InputError:
            # Code that does not accept the values that this plan leads to.
            loss, metric, end = math.inf, None, np.full(len(facts.run.watched), math.nan)
        losses.append(loss if math.isfinite(loss) else math.inf)
        metrics += [] if metric is None else [metric]
        final.append(end)
        tick()
    ends = np.reshape(final, (-1, len(facts.run.watched)))
    return Trials(np.array(losses), np.array(metrics), ends)


def _led_by_coarse(
    train: Callable[..., Any], plan: Plan, watched: Sequence[Watched]
) -> dict[str, float]:
    held = {element.name for element in watched if element.label in plan.coarse}
    rates = {name: 0.0 if name in held else rate for name, rate in plan.rates.items()}
    ends = train(rates, starts=plan.coarse)[0].coordinates[-1].tolist()
    led = {element.label: end for element, end in zip(watched, ends, strict=True)}
    return {label: end for label, end in led.items() if label not in plan.coarse}


def _plans(facts: Facts, elements: Sequence[Judged]) -> Iterator[Plan]:
    run = facts.run
    plan, settings = partial(Plan, rates=run.rates, settings=run.settings), run.settings
    found = {judged.verdict for judged in elements}
    rates, rate_words = _own_rates(facts, elements)
    if rate_words:
        yield plan("own rate", rate_words, rates=rates)
    died = (j.verdict == "flat_objective" and j.judgement.evidence["since_step"] for j in elements)
    # What bounces may be thrown by parameters that are not watched.
    has_others = len(run.rates) > len(_by_group(elements))
    is_thrown = facts.has_risen and "wrong_gradient" not in found
    if not run.is_finite or is_thrown or any(died) or ("step_too_large" in found and has_others):
        for part in (_LOWER_RATES, _LOWER_RATES**2)[: 2 if is_thrown else 1]:
            lower = {name: rate / part for name, rate in run.rates.items()}
            yield plan("smaller rates", f"all rates divided by {part}", rates=lower)
    if "step_too_small" in found:
        more = replace(settings, steps=_STEPS_FACTOR * settings.steps)
        yield plan("more steps", f"{more.steps} steps", settings=more)
    starts, start_words = _other_starts([j for j in elements if j.watched.label not in facts.stuck])
    if starts:
        yield plan("another start", start_words, starts=starts)
    if starts and rate_words:
        words = f"{start_words}, {rate_words}"
        yield plan("start and rate", words, rates=rates, starts=starts)
    is_constant, falling = settings.schedule == "constant", replace(settings, schedule=SCHEDULE)
    if facts.stuck:
        # At the very minimum Adam divides by next to nothing, and a constant rate shakes it.
        is_shaken = run.divisors is not None and is_constant
        words = f"{KERNELS}, a {SCHEDULE} schedule" if is_shaken else KERNELS
        last = falling if is_shaken else settings
        yield plan("least-squares kernels", words, settings=last, starts=facts.fitted)
    yield from _of_orientations(elements, plan, run)
    if is_constant and "step_too_large" in found:
        yield plan("schedule", f"a {SCHEDULE} schedule", settings=falling)


def _of_orientations(
    elements: Sequence[Judged], plan: Callable[..., Plan], run: TrainingRun
) -> Iterator[Plan]:
    settings, found = run.settings, {judged.verdict for judged in elements}
    spread = _evenly(elements) if found & {"wrong_basin", "duplicate", "flat_start"} else {}
    if spread:
        yield plan("even start", "orientations evenly spread at the start", starts=spread)
    coarse = _coarse(elements) if settings.is_elementwise and "wrong_basin" in found else {}
    if coarse:
        words = f"first {COARSE}, held there; then all of them from where that leads the others"
        yield plan("coarse to fine", words, coarse=coarse)
    turning = _turning(elements) if settings.is_elementwise else {}
    if turning and found & {"wrong_basin", "step_too_large"}:
        # A step of the vector turns the angle by 1 / k of it, and its gradient is 1 / k of theirs.
        power = 1 if run.divisors is not None else 2
        rates = {n: rate * turning.get(n, 1) ** power for n, rate in run.rates.items()}
        turns = {name: "a" if k == 1 else f"{k} a" for name, k in turning.items()}
        words = ", ".join(f"{n} learned as (cos {a}, sin {a})" for n, a in turns.items())
        yield plan("vector", words, rates=rates, turning=turning)


def _own_rates(facts: Facts, elements: Sequence[Judged]) -> tuple[dict[str, float], str]:
    """Returns the rates with those of failing groups changed, and the change in words."""
    rates, words = dict(facts.run.rates), []
    for group, members in _by_group(elements).items():
        wanted = [j.judgement.factor for j in members if j.judgement.factor is not None]
        if wanted:
            # Where some want a smaller rate, these decide.
            smallest, name = min(wanted), members[-1].watched.name
            rates[name] *= smallest if smallest < 1 else float(np.median(wanted))
            words.append(f"lr {rates[name]:.2g} for {group}")
    return rates, ", ".join(words)


def _by_group(elements: Sequence[Judged]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = {}
    for judged in elements:
        groups.setdefault(judged.watched.group, []).append(judged)
    return groups


def _other_starts(elements: Sequence[Judged]) -> tuple[dict[str, float], str]:
    starts: dict[str, float] = {}
    words: list[str] = []
    taken: list[tuple[str, float]] = []
    for judged in elements:
        movable = judged.verdict in ("wrong_basin", "flat_start", "at_bound")
        if movable and (goal := judged.goal) is not None:
            near, offset = judged.parameter.tolerance, judged.parameter.offset
            if any(g == judged.watched.group and abs(offset(goal, v)) <= near for g, v in taken):
                # Two that go to one place leave another empty.
                continue
            taken.append((judged.watched.group, goal))
            starts[judged.watched.label] = goal
            words.append(f"{judged.watched.label} = {judged.shown.show(judged.value(goal), 1)}")
    more = [f"{len(words) - 4} more"] if len(words) > 4 else []
    return starts, "the start at " + ", ".join(words[:4] + more)


def _evenly(elements: Sequence[Judged]) -> dict[str, float]:
    starts: dict[str, float] = {}
    angles = [j for j in elements if j.parameter.is_angle and "psi" not in j.watched.group]
    for members in _by_group(angles).values():
        period = members[0].parameter.period or math.tau
        for index, judged in enumerate(members if len(members) > 1 else ()):
            starts[judged.watched.label] = period * index / len(members) - period / 2
    return starts


def _coarse(elements: Sequence[Judged]) -> dict[str, float]:
    filters: dict[tuple[str, int | None], dict[str, Judged]] = {}
    for judged in elements:
        watched = judged.watched
        name = watched.group.rpartition(".")[2]
        filters.setdefault((watched.layer, watched.row), {})[name] = judged
    coarse: dict[str, float] = {}
    for of in filters.values():
        if {"theta", "wavelength", "sigma", "gamma"} <= of.keys():
            sigma = min(of["sigma"].start, _COARSE_SIGMA * of["wavelength"].start)
            for watched, value in ((of["sigma"].watched, sigma), (of["gamma"].watched, 1.0)):
                coarse[watched.label] = math.log(value) if watched.kind == "log" else value
    return coarse


def _turning(elements: Sequence[Judged]) -> dict[str, int]:
    turning: dict[str, int] = {}
    for members in _by_group(elements).values():
        watched, period = members[0].watched, members[0].parameter.period
        size = members[0].facts.run.final[watched.name].numel()
        if watched.kind == "value" and period is not None and len(members) == size:
            turning[watched.name] = round(math.tau / period)
    return turning
