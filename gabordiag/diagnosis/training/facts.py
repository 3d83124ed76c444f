"""What is known of a training as a whole: what its elements are judged by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gabordiag.diagnosis.training.lines import Lines, rounding_of
from gabordiag.dynamics.training import TrainingRun
from gabordiag.landscape.many_lines import rounding
from gabordiag.objective.space import FloatArray
from gabordiag.own.training import Batch, Evaluation, Training, Watched, row_count, seen_filters

# A gain counts if it is this part of the loss that the elements are about, and so many standard
# errors over other batches.
GAIN, _ERRORS = 2e-3, 2.0
# Loss that still falls by this part of its whole fall, or of what is left, in the last fifth of the
# steps, says that the training is not over.
_STILL_FALLING, _OF_LEFT, LAST = 0.05, 0.2, 0.2
# Two filters are the same where all their numbers agree to this part of the tolerance.
_SAME = 0.5

# Layer, number of rows, and of which convolution they are the filters.
Rows = tuple[str, int, int | None]


@dataclass(frozen=True, eq=False)
class Facts:
    """What the elements of one training are judged by.

    The batch is for finding the line of code at fault; on the checked ones, which the lines do not
    know, or which are all there are (`is_whole`), it is tried what the lines claim. `fitted` are
    the coordinates of filters that least squares finds, by label; `stuck`, the labels of those that
    are far from there.
    """

    training: Training
    run: TrainingRun
    lines: Lines
    batch: Batch
    checked: Evaluation
    is_whole: bool
    _gradients: dict[str, Tensor] = field(default_factory=dict)
    fitted: Mapping[str, float] = field(default_factory=dict)
    stuck: frozenset[str] = frozenset()

    @cached_property
    def scale(self) -> float:
        """The loss that the elements are about: they may change it so much, or it is left.

        At most what the training began with, in which the offset of an output may be far larger.
        """
        first, last = np.abs(self.run.losses[:10]), np.abs(self.run.losses[-10:])
        if not np.isfinite(first).any():
            return math.inf
        began = float(first[np.isfinite(first)].mean())
        if not self.run.is_held:
            return began
        # Of a loss with an offset, its fall says how much may be left.
        left = min(float(last.mean()), abs(self._falls[0]))
        return min(began, max(left, *(line.height for _, _, line in self.lines)))

    @cached_property
    def _falls(self) -> tuple[float, float, float]:
        """How far the loss fell in all steps and in the last fifth of them, and its noise."""
        losses = self.run.losses
        part = max(1, int(LAST * len(losses)))
        last, before = losses[-part:].mean(), losses[-2 * part : -part].mean()
        noise = 2 * losses[-2 * part :].std() * math.sqrt(2 / part)
        return float(losses[:part].mean() - last), float(before - last), float(noise)

    @cached_property
    def still_falls(self) -> bool:
        """Whether the loss still falls when the steps end, at the largest rate of a schedule."""
        whole, late, noise = self._falls
        part = max(1, int(LAST * len(self.run.losses)))
        left = abs(float(self.run.losses[-2 * part : -part].mean()))
        # The transient of an offset may be nearly all of the fall.
        enough = min(_STILL_FALLING * min(whole, self.scale), _OF_LEFT * left)
        # A schedule that lowers the rate ends a fall, however far it is to a minimum.
        rates = self.run.lrs.sum(axis=1)
        slowed = rates[-2 * part :].mean() / rates.max() if rates.any() else 1.0
        return late > max(enough * slowed, noise, 0.0) and whole > 0

    @cached_property
    def has_risen(self) -> bool:
        """Whether the loss is clearly higher after the training than before."""
        run, one = self.run, self.run.watched[0]
        if not run.is_finite:
            return False
        before, after = (
            self.checked.losses(state, [(one, np.array([one.coordinate(state)]))])[0][0]
            for state in (run.start, run.final)
        )
        return self.clear_gain(after, before, GAIN * self.scale) > 0

    @cached_property
    def one(self) -> Evaluation:
        """The loss on the batch alone."""
        return Evaluation(self.training, (self.batch,), 0)

    def gradient_at_start(self, name: str) -> Tensor:
        """Returns the derivative of the batch's loss by a tensor, as the training takes it."""
        if name not in self._gradients:
            with self.training.kept(0), torch.enable_grad():
                self.training.load(self.run.start)
                tensor = self.training.tensors()[name]
                loss, _ = self.training.compare(self.training.model, self.batch)
                found = None
                if loss.requires_grad and tensor.requires_grad:
                    (found,) = torch.autograd.grad(loss, tensor, allow_unused=True)
                self._gradients[name] = torch.zeros_like(tensor) if found is None else found
        return self._gradients[name].detach()

    def clear_gain(self, here: FloatArray, there: FloatArray, bar: float) -> float:
        """Returns by how much the losses of the checked batches (n,) are lower there, or 0."""
        if not np.isfinite([here, there]).all():
            return 0.0
        gains = here - there
        mean, error = float(gains.mean()), float(gains.std()) / math.sqrt(max(1, len(gains) - 1))
        return mean if mean > max(bar, 0.0 if self.is_whole else _ERRORS * error) else 0.0

    @property
    def has_rest(self) -> bool:
        """Whether there is a rest of the model, beside a single number, that has learned."""
        numbers = sum(self.run.final[name].numel() for name in self.run.sizes)
        whole, _, noise = self._falls
        return numbers > 1 and whole > noise

    @cached_property
    def _banks(self) -> dict[str, tuple[Any, ...]]:
        """Tensors with rows -> number of a convolution, its filters (m, ...) before and after."""
        run, found = self.run, {}
        for name in dict.fromkeys(w.name for w in run.watched if w.row is not None):
            seen = seen_filters(self.training, run.start, run.final, self.batch, name)
            # Of several filters to a row none is the row's.
            count = row_count(run.final[name])
            if seen is not None and len(seen[2]) in (count, 2 * count):
                number, *weights = seen
                found[name] = number, *(weight.double().cpu().numpy() for weight in weights)
        return found

    @cached_property
    def filters(self) -> dict[Rows, tuple[FloatArray, FloatArray]]:
        """Rows -> filters (m, ...) as the model used them before and after."""
        found: dict[Rows, tuple[FloatArray, FloatArray]] = {}
        for watched in self.run.watched:
            if watched.name in self._banks:
                found.setdefault(self.rows_of(watched), self._banks[watched.name][1:])
        return found

    def rows_of(self, watched: Watched) -> Rows:
        """The layer of an element, of how many rows it is one, and the convolution they are for.

        0 rows of a single number. Tensors of one layer may be of several banks.
        """
        layer, count = watched.layer, row_count(self.run.final[watched.name])
        beside = [w.name for w in self.run.watched if w.layer == layer and w.name in self._banks]
        numbers = {
            self._banks[name][0] for name in beside if row_count(self.run.final[name]) == count
        }
        if watched.name in self._banks:
            numbers = {self._banks[watched.name][0]}
        # One that has no effect belongs to the only bank there is.
        return layer, count, numbers.pop() if len(numbers) == 1 else None

    @cached_property
    def twins(self) -> dict[int, int]:
        """Elements of rows -> an earlier row of the layer that has become the same."""
        twins: dict[int, int] = {}
        if not self.run.is_finite:
            return twins
        places: dict[Rows, dict[int, dict[str, int]]] = {}
        for index, one in enumerate(self.run.watched):
            if one.row is not None:
                of = places.setdefault(self.rows_of(one), {})
                of.setdefault(one.row, {})[one.group] = index
        # One that no gradient reaches has become nothing: another that meets it is not at fault.
        is_driven = (self.run.gradients != 0).any(axis=0)
        for of_bank, rows in places.items():
            table = self._rows(of_bank)
            driven = sorted(row for row, of in rows.items() if is_driven[list(of.values())].any())
            known: set[int] = set()
            for earlier, row in itertools.combinations(driven, 2):
                if known & {earlier, row} or not self._agree(rows[row], rows[earlier]):
                    continue
                is_same = np.linalg.norm(table[row] - table[earlier]) < 1
                seen = of_bank in self.filters
                if is_same and (seen or not self._should_agree(rows[row], rows[earlier])):
                    known.add(row)
                    twins |= dict.fromkeys(rows[row].values(), earlier)
        return twins

    def _rows(self, of_bank: Rows) -> FloatArray:
        """What distinguishes a bank's rows (count, n), in units of what is too little."""
        layer, count, _ = of_bank
        run, path = self.run, f"{layer}." if layer else ""
        seen = self.filters.get(of_bank)
        if seen is not None and len(seen[1]) == count:
            flat = seen[1].reshape(count, -1)
            sizes = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
            return np.asarray(flat / sizes / 0.02)
        beside = [t.double().cpu() for n, t in run.final.items() if n.startswith(path) and t.ndim]
        values = np.hstack([t.reshape(count, -1).numpy() for t in beside if row_count(t) == count])
        return np.asarray(values / (1e-2 * (np.ptp(values, axis=0) + 1e-12)))

    def _agree(self, one: Mapping[str, int], other: Mapping[str, int]) -> bool:
        last, parameters = self.run.coordinates[-1], [parameter for parameter, *_ in self.lines]
        pairs = [(one[group], other[group]) for group in one.keys() & other.keys()]
        return bool(pairs) and all(
            abs(parameters[a].offset(last[a], last[b])) <= _SAME * parameters[a].tolerance
            for a, b in pairs
        )

    def _should_agree(self, one: Mapping[str, int], other: Mapping[str, int]) -> bool:
        """Whether the loss rises where two rows part that have become the same.

        Not if it is all the same to it which of the two moves, and there is loss left: what is no
        more than its twin adds nothing.
        """
        final, stacked = self.run.final, {}
        apart = np.array([(0, 0), (1, -1), (-1, 1), (1, 0), (0, 1)])
        for group in one.keys() & other.keys():
            left, right = self.run.watched[one[group]], self.run.watched[other[group]]
            ends, reach = (left.coordinate(final), right.coordinate(final)), self.lines[one[group]]
            stacked[left.name] = torch.cat([
                right.placed(left.placed(final[left.name], [ends[0] + a])[0], [ends[1] + b])
                for a, b in reach[0].tolerance * apart
            ])  # fmt: skip
        losses = Evaluation(self.training, (self.batch,), 0).at(final, stacked)
        noise = 4 * rounding(rounding_of(left, final), losses)
        means = losses.mean(axis=1)
        is_left = np.abs(self.run.losses[-10:]).mean() > GAIN * np.abs(self.run.losses[:10]).mean()
        if is_left and abs(means[3] - means[4]) <= noise:
            return False
        return bool(means[1:3].mean() - means[0] > noise)
