"""The diagnosis of a training: one run, its lines, the elements judged, the remedies tried."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.diagnosis.training.causes import FAULTS
from gabordiag.diagnosis.training.elements import Judged
from gabordiag.diagnosis.training.facts import Facts
from gabordiag.diagnosis.training.kernels import kernel_starts
from gabordiag.diagnosis.training.lines import batches_of, evaluate_lines
from gabordiag.diagnosis.training.remedies import TrainingRemedy, try_remedies
from gabordiag.dynamics.checkpoint import remove
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.replay import Step
from gabordiag.dynamics.run import Trajectory, trajectory_name
from gabordiag.dynamics.training import TrainingRun, rates_of, run_training
from gabordiag.errors import UsageError
from gabordiag.own.training import Evaluation, Training, find_watched
from gabordiag.results import Data, Result, finite_or_none, read_only
from gabordiag.wording import listed

# Seeds of each repeated training, so that its spread is seen.
DEFAULT_SEEDS = 3


@dataclass(frozen=True, eq=False)
class TrainingDiagnosis(Result):
    """Which learned elements of a real training arrived, which did not, why, and what helps.

    The verdict is `healthy`, or the most frequent cause. Loss and metric are those at the end, on
    the fixed batches; `evaluations` counts losses computed for the lines. The bank is the kernels
    (2, n, ...) as the model used them before and after; None without any.
    """

    main_table = "elements"

    verdict: str
    headline: str
    run: TrainingRun
    elements: tuple[Judged, ...]
    remedies: tuple[TrainingRemedy, ...]
    loss: float
    metric: float | None
    evaluations: int
    bank: npt.NDArray[np.float64] | None

    @property
    def is_healthy(self) -> bool:
        """Whether `--check` passes."""
        return self.verdict == "healthy"

    @property
    def outcome(self) -> str:
        """How the training as a whole ended."""
        if not self.run.is_finite:
            return "nonfinite"
        if any(element.verdict == "step_too_small" for element in self.elements):
            return "unfinished"
        return "reached" if self.is_healthy else "local_minimum"

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        elements = []
        for judged in self.elements:
            names = [r.plan.name for r in self.remedies if judged.watched.label in r.freed]
            elements.append({**judged.to_dict(), "remedies": names})
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "run": {
                **self.run.to_dict(),
                "outcome": self.outcome,
                "final_loss": finite_or_none(self.loss),
                "metric": finite_or_none(self.metric),
                "trajectory": trajectory_name(0),
            },
            "elements": elements,
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "evaluations": self.evaluations,
        }

    def data(self) -> Data:
        """Returns what is saved: the trajectory, the lines, gradient sizes, the filters."""
        run, updates = self.run, np.diff(self.run.values, axis=0, append=np.nan)
        path = Trajectory(run.values, run.losses, run.gradients, updates, run.lrs)
        lines = {}
        for index, judged in enumerate(self.elements):
            for when, line in (("start", judged.line_start), ("final", judged.line_final)):
                values = np.exp(line.values) if judged.watched.kind == "log" else line.values
                lines[f"{when}-value-{index}"] = read_only(values)
                lines[f"{when}-loss-{index}"] = read_only(line.losses)
        sizes = {name: read_only(size) for name, size in {**run.sizes, "total": run.total}.items()}
        bank = {} if self.bank is None else {"bank.npz": {"kernels": read_only(self.bank)}}
        return {
            trajectory_name(0): path.to_table([watched.label for watched in run.watched]),
            **({"lines.npz": lines} if lines else {}),
            "gradients.npz": sizes,
            **bank,
        }


def diagnose_training(
    training: Training,
    params: str | Sequence[str],
    settings: OptimizerSettings,
    lr: float | Mapping[str, float],
    *,
    seed: int = 0,
    seeds: int = DEFAULT_SEEDS,
    listener: Callable[[Step], None] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    checkpoint: str | Path | None = None,
) -> TrainingDiagnosis:
    """Trains the model once and watches, judges every watched element, and tries remedies.

    `params` and `lr` are as `find_watched` and `rates_of` take them; each training is repeated with
    as many seeds for the remedies, and 0 tries none. The checkpoint is a file that holds the state
    of the run until the diagnosis is made; if it exists, the run goes on from there.
    """
    report = progress or (lambda done, total, what: None)
    if not isinstance(seeds, int) or seeds < 0:
        raise UsageError(
            f"seeds {seeds!r} is not a whole number from 0 on.", "Give one, such as 3."
        )
    watched = find_watched(training.model, params)
    rates = rates_of(training, watched, lr, settings.lr)
    batches, checked, is_whole = batches_of(training, len(watched), settings.steps, seed)
    run, loss, metric = run_training(
        training,
        watched,
        settings,
        rates,
        seed=seed,
        listener=listener,
        progress=lambda done, total, loss: report(done, total, f"training, loss {loss:.4g}"),
        batches=batches,
        checkpoint=checkpoint,
    )
    report(0, 1, "looking along each element")
    evaluation, other = (Evaluation(training, sample, seed) for sample in (batches, checked))
    lines = evaluate_lines(run, evaluation)
    facts = Facts(training, run, lines, batches[0], other, is_whole)
    if run.is_finite:
        fitted, stuck = kernel_starts(training, watched, run.final, batches)
        facts = replace(facts, fitted=fitted, stuck=stuck)
    elements = tuple(Judged(facts, index) for index in range(len(watched)))
    remedies: tuple[TrainingRemedy, ...] = ()
    if seeds > 0 and any(judged.verdict != "healthy" for judged in elements):
        trainings = itertools.count(1)

        def tick() -> None:
            done = next(trainings)
            report(done, done + 1, "trying remedies")

        everyone = range(seed, seed + seeds)
        remedies = try_remedies(facts, elements, batches, (loss, metric), everyone, tick)
    remove(checkpoint)
    found = Counter(judged.verdict for judged in elements)
    worst = max(FAULTS, key=lambda verdict: found[verdict])
    verdict = worst if found[worst] else "healthy"
    words, bank = _headline(run, elements, remedies), None
    for (_, rows, _), filters in itertools.islice(facts.filters.items(), 1):
        if run.is_finite and len(filters[0]) == rows:
            # The first input of each is shown.
            bank = np.stack([weights[:, 0] for weights in filters])
    return TrainingDiagnosis(
        verdict, words, run, elements, remedies, loss, metric, evaluation.count + other.count, bank
    )


def _headline(
    run: TrainingRun, elements: Sequence[Judged], remedies: Sequence[TrainingRemedy]
) -> str:
    head, what = _how_many(elements)
    if not run.is_finite:
        head = f"The training broke off: its loss is not finite at step {len(run.losses) - 1}"
    is_one_group = len({judged.watched.group for judged in elements}) == 1
    parts = [head]
    for verdict in FAULTS:
        found = [judged for judged in elements if judged.verdict == verdict]
        for groups, members in _alike(found, what).items():
            parts.append(_clause(verdict, members, what, () if is_one_group else groups))
    text = "; ".join(parts) + "."
    working = next((remedy for remedy in remedies if remedy.works), None)
    if working is not None:
        before, after = working.before, working.after
        text += f" Training again with {working.plan.change} ends at a loss of "
        text += f"{after.losses.mean():.3g}"
        if np.isfinite(before.losses).all():
            text += f" instead of {before.losses.mean():.3g}"
        if len(after.metrics):
            text += f" (metric {after.metrics.mean():.3g} instead of {before.metrics.mean():.3g})"
        text += "."
    return text


def _how_many(elements: Sequence[Judged]) -> tuple[str, str]:
    """Returns how many have converged, and what they are: filters, other rows, or elements."""
    keys: list[Any] = [_row(judged) for judged in elements]
    what = "row" if None not in keys and len(set(keys)) < len(keys) else "element"
    if all(judged.is_of_filter for judged in elements):
        what = "filter"
    if what == "element":
        keys = [judged.watched.label for judged in elements]
    failing = {k for k, j in zip(keys, elements, strict=True) if j.verdict != "healthy"}
    count = len(set(keys))
    good = count - len(failing)
    head = f"{good} of your {count} {what}s {'has' if good == 1 else 'have'} converged"
    if not failing:
        head = f"All {count} {what}s have converged"
    if count == 1:
        head = f"Your {what} has {'not ' if failing else ''}converged"
    return head, what


def _row(judged: Judged) -> tuple[Any, ...] | None:
    row = judged.watched.row
    return None if row is None else (*judged.facts.rows_of(judged.watched), row)


def _alike(elements: Sequence[Judged], what: str) -> dict[tuple[str, ...], list[Judged]]:
    by_row: dict[Any, list[Judged]] = {}
    alike: dict[tuple[str, ...], list[Judged]] = {}
    for judged in elements:
        # Minima are named, and those of an angle and of a length are not one list.
        apart = judged.watched.group if judged.verdict == "wrong_basin" else ""
        if what == "element":
            alike.setdefault((apart,), []).append(judged)
        else:
            by_row.setdefault((_row(judged), apart), []).append(judged)
    for members in by_row.values():
        groups = tuple(dict.fromkeys(j.watched.group for j in members))
        alike.setdefault(groups, []).extend(members)
    return alike


def _short(group: str) -> str:
    """Returns the last name of a path; a place in a list is none."""
    parts = group.split(".")
    count = next((i for i, part in enumerate(reversed(parts), 1) if not part.isdigit()), 1)
    return ".".join(parts[-count:])


def _clause(verdict: str, members: Sequence[Judged], what: str, groups: Sequence[str]) -> str:
    has_rows = what != "element"
    names = dict.fromkeys(str(j.watched.row) if has_rows else j.watched.label for j in members)
    who = f"{what if len(names) == 1 else what + 's'} {listed(list(names))}"
    is_plural = len(names) > 1
    if groups and has_rows:
        is_plural |= len(groups) > 1
        who = f"{listed([_short(group) for group in groups])} of {who}"
        layer = members[0].watched.layer
        if any(watched.layer != layer for watched in members[0].facts.run.watched):
            who += f" of layer {layer}" if layer else " of the model itself"
    text = f"{who} {FAULTS[verdict][is_plural]}"
    if verdict == "wrong_basin":
        goals = [j.shown.show(j.value(j.goal), 0) for j in members if j.goal is not None]
        text += f" at {listed(goals)}"
    _, evidence, why, *_ = members[0].judgement
    # The line of code at fault follows the colon.
    return text if evidence.get("where") is None else f"{text}: {why.partition(': ')[2] or why}"
