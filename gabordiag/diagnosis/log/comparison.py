"""A logged run as if just made: does it do what its objective and settings would do?

Every logged step is made again by torch's own optimizer, from the logged values and with the
objective's gradient there, so that no step depends on an earlier one's rounding. Where the two
differ, the steps show of what they are: of another rate, momentum or optimizer; of the gradient
with its sign reversed, or of the sum of all gradients so far; or of noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from gabordiag.diagnosis.log.measures import CLEAR, last_digit, printed_digit
from gabordiag.diagnosis.log.readers import Log
from gabordiag.dynamics.optimizers import (
    OPTIMIZERS,
    PROPORTIONAL,
    OptimizerSettings,
    unguarded_step,
)
from gabordiag.dynamics.run import Run, Trajectory, judge
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.points import Landscape
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray
from gabordiag.results import Finding, read_only
from gabordiag.wording import listed

# What lies on both sides of each of these stands in the README of `diagnosis`.
AGREES, ALIKE, ROUNDED, FEWEST, NEARER, FLATTENED = 0.02, 0.01, 3, 10, 0.5, 3
RELATED = 0.6
# Rows that are compared, and numbers of which the squares' sum is finite.
_MOST_ROWS, _LARGEST = 500, 1e100
_ADVICE = {
    "no_gradient": "Look there for .data, detach, no_grad or a new Parameter on the way to the "
    "loss, and give the parameter to the optimizer.",
    "reversed": "Give the loss, not its negative, to backward(), and check the derivative's sign.",
    "summed": "Call optimizer.zero_grad() before every backward().",
    "wrong_gradient": "Correct the derivative, or leave it to autograd; clipping changes it, too.",
    "target_unreachable": "Give the parameter a group of its own in the optimizer, with "
    "weight_decay=0.",
    "nondeterministic": "Let the rate decay, or take larger batches: the noise keeps the run from "
    "settling.",
}


@dataclass(frozen=True)
class Comparison:
    """What a log's comparison with its objective shows.

    Losses (n,) are the objective's at the logged values, where the logged ones are others. The
    finding is what the objective and the settings do not explain; the note says that nobody knows.
    """

    losses: FloatArray | None = None
    is_noisy: bool = False
    finding: Finding | None = None
    note: str = ""


def run_from_log(
    objective: Objective,
    settings: OptimizerSettings,
    landscape: Landscape | None,
    logs: Sequence[Log],
    rates: FloatArray,
) -> tuple[Run, Comparison]:
    """Returns a logged run as if it had just been made on the objective, and in what it differs.

    What was not logged is filled in: gradients from the objective, rates (d,) as given.
    """
    table = np.column_stack([log.values for log in logs])
    # A run starts somewhere.
    first = int(np.argmax(np.isfinite(table).all(axis=1)))
    values, losses = read_only(table[first:]), logs[0].losses[first:]
    if len(values) < 2 or not np.isfinite(values[0]).all():
        raise InputError("The log holds no step.", "Log at least two rows with values.")
    known = objective.space.coordinates(np.where(np.isfinite(values), values, values[0]))
    logged = [log.gradients for log in logs if log.gradients is not None]
    if len(logged) == len(logs):
        gradients = np.column_stack(logged)[first:]
        if not np.isfinite(gradients[-1]).all():
            # After the last step none may have been asked for.
            gradients[-1:] = objective.loss_and_gradient(known[-1:])[1]
    else:
        gradients = objective.loss_and_gradient(known)[1]
    settings = replace(settings, steps=len(values) - 1)
    lrs = settings.scheduled(rates)
    for column, log in zip(lrs.T, logs, strict=True):
        given = column if log.lrs is None else log.lrs[first:]
        column[:] = np.where(np.isfinite(given), given, column)
    updates = np.concatenate([np.diff(values, axis=0), np.full((1, len(logs)), math.nan)])
    trajectory = Trajectory(values, losses, *map(read_only, (gradients, updates, lrs)))
    # A rate may rise from 0 at first.
    rates = lrs.max(axis=0)
    made_with = replace(settings, lr=float(rates.max()))
    compared = compare(objective, made_with, trajectory, logs)
    if compared.losses is not None:
        name = "full_losses" if compared.is_noisy else "losses"
        trajectory = replace(trajectory, **{name: read_only(compared.losses)})
    return judge(objective, made_with, landscape, trajectory, rates), compared


def compare(
    objective: Objective, settings: OptimizerSettings, path: Trajectory, logs: Sequence[Log]
) -> Comparison:
    """Compares the steps and losses of logged parameters with the objective's.

    Raises:
        UsageError: The log is of another loss, or was made with other settings, which are named.
    """
    known = (np.abs(path.values) < _LARGEST).all(axis=1) & (np.abs(path.losses) < _LARGEST)
    count = min(len(path) if known.all() else int(np.argmin(known)), _MOST_ROWS)
    if count < FEWEST:
        return Comparison()
    return _Compared(objective, settings, path, logs, count).result()


class _Compared:
    """The first rows of a log beside what the objective says of their values."""

    def __init__(
        self,
        objective: Objective,
        settings: OptimizerSettings,
        path: Trajectory,
        logs: Sequence[Log],
        count: int,
    ) -> None:
        self.objective, self.settings, self.path, self.logs = objective, settings, path, logs
        space = objective.space
        self.width = np.ptp(space.coordinates([space.low, space.high]), axis=0)
        self.places = space.coordinates(path.values[:count])
        self.losses, self.slopes = objective.loss_and_gradient(self.places)
        self.rates, self.apart = path.lrs[:count], path.losses[:count] - self.losses
        self.moves = np.diff(self.places, axis=0) / self.width
        self.is_rate_logged = any(log.lrs is not None for log in logs)
        columns = path.values[:count].T
        self.last, self.printed = (
            np.array([digit(column) for column in columns]) / space.width
            for digit in (last_digit, printed_digit)
        )
        # Of steps that digits alone make different, in all; what stands still shows few of them.
        printed = np.where(self.moves.any(axis=0), self.printed, 0.0)
        self.slack = ROUNDED * count * float(np.maximum(self.last, printed).sum())

    def result(self) -> Comparison:
        """Returns what is found; the first that explains the steps counts."""
        if not self._can_be_compared():
            return Comparison()
        losses = None if self.is_same_loss else self._every_loss()
        found = self._standing_still()
        if found is None and (not self.moves.any() or self._is_nothing(self.pushes - self.pulls)):
            return Comparison(losses)
        found = found or self._other_gradient() or self._weight_decay()
        if found is not None:
            return Comparison(losses, finding=found)
        if self.is_noise and self._is_own_rate():
            return Comparison(losses, is_noisy=True, finding=self._noise())
        self._refuse()
        note = f"The logged steps are not those of {self.settings.label} on this loss: a schedule, "
        note += "weight decay, clipping or rows that are left out change them. What is said holds "
        return Comparison(losses, note=f"{note}without these.")

    def _can_be_compared(self) -> bool:
        steps, how = self.logs[0].steps, self.settings
        known = np.isfinite(self.losses).all() and np.isfinite(self.slopes).all()
        # Moments of steps that were not logged are not known.
        is_whole = len(steps) == len(self.path) and steps[0] <= 1
        # A loss that is random itself has no steps to compare with.
        return bool(
            known
            and how.is_elementwise
            and (is_whole or how.optimizer == "sgd")
            and (np.diff(steps[-len(self.path) :]) == 1).all()
            and np.abs(self.objective.loss_at(self.places) - self.losses).max() <= self.rounding
        )

    @cached_property
    def pushes(self) -> FloatArray:
        """The logged steps (n - 1, d), less what a heavy ball carries on from the one before."""
        pushes = np.array(self.moves)
        if self.settings.optimizer != "sgd" or not self.settings.momentum:
            whole = np.asarray(pushes + self._turns_left_out())
            return np.asarray(whole if self._is_nothing(whole - self.pulls) else pushes)
        with np.errstate(divide="ignore", invalid="ignore"):
            grown = np.nan_to_num(self.rates[1:-1] / self.rates[:-2], posinf=0.0)
        pushes[1:] -= self.settings.momentum * grown * self.moves[:-1]
        # What came before the first is not known.
        pushes[0] = self.pulls[0]
        return pushes

    def _turns_left_out(self) -> FloatArray:
        """What is left out of the steps where angles were logged without their whole turns."""
        turns = np.zeros_like(self.moves)
        for i, parameter in enumerate(self.objective.space.parameters):
            if parameter.period is None or np.ptp(self.places[:, i]) > parameter.period:
                continue
            period = parameter.period / self.width[i]
            apart = self.pulls[:, i] - self.moves[:, i]
            turns[:, i] = period * np.round(apart / period)
        return np.asarray(turns)

    @cached_property
    def pulls(self) -> FloatArray:
        """What they should be."""
        return self.made()

    def made(
        self, settings: OptimizerSettings | None = None, slopes: FloatArray | None = None
    ) -> FloatArray:
        """Returns an optimizer's steps (n - 1, d) from the logged places; as pushes, if of sgd."""
        how, slopes = settings or self.settings, self.slopes if slopes is None else slopes
        if how.optimizer == "sgd":
            ahead = np.array(slopes)
            if how.nesterov:
                # u[t] = m u[t-1] - lr ((1 + m) g[t] - m g[t-1])
                ahead[1:] += how.momentum * np.diff(slopes, axis=0)
                ahead[0] *= 1 + how.momentum
            return np.asarray(-self.rates[:-1] * ahead[:-1] / self.width)
        leaves = [torch.zeros(1, dtype=torch.float64) for _ in self.width]
        groups = [
            {"params": [leaf], "lr": float(rate)}
            for leaf, rate in zip(leaves, self.rates[0], strict=True)
        ]
        optimizer = how.build(groups)
        step, moves = unguarded_step(optimizer), np.empty_like(self.moves)
        for t, move in enumerate(moves):
            for i, (leaf, group) in enumerate(zip(leaves, optimizer.param_groups, strict=True)):
                leaf.fill_(self.places[t, i])
                leaf.grad = torch.full_like(leaf, slopes[t, i])
                group["lr"] = float(self.rates[t, i])
            step()
            move[:] = [float(leaf) for leaf in leaves]
        return np.asarray((moves - self.places[:-1]) / self.width)

    def _factor(self, pushes: FloatArray, made: FloatArray) -> float | None:
        """By what the logged steps are those that were made, if that is all; else None."""
        energy = float(np.square(made).sum())
        if not 0 < energy < math.inf:
            return None
        factor = float((pushes * made).sum()) / energy
        return factor if self._is_nothing(pushes - factor * made) else None

    def _is_nothing(self, left: FloatArray) -> bool:
        return bool(np.abs(left).sum() <= AGREES * np.abs(self.moves).sum() + self.slack)

    @cached_property
    def is_same_loss(self) -> bool:
        """Whether the logged losses are the objective's, beside their values or a row later."""
        logged = self.path.losses[: len(self.losses)]
        most = ALIKE * float(np.ptp(self.losses)) + self.rounding
        return any(
            float(np.mean(np.abs(one - other))) <= most
            for one, other in ((logged, self.losses), (logged[1:], self.losses[:-1]))
        )

    @property
    def rounding(self) -> float:
        """Of single precision, what may be left of a loss that is computed in another order."""
        return math.sqrt(torch.finfo(torch.float32).eps) * float(np.abs(self.losses).max())

    @property
    def _noisy_factor(self) -> tuple[float, float]:
        """Between what two numbers noisy steps are those that were made, by their regression."""
        energy = float(np.square(self.pulls).sum())
        if not self.is_noise or not 0 < energy < math.inf:
            return -math.inf, math.inf
        factor = float((self.pushes * self.pulls).sum()) / energy
        left = float(np.square(self.pushes - factor * self.pulls).mean())
        error = CLEAR * math.sqrt(left / energy)
        return factor - error, factor + error

    def _is_own_rate(self) -> bool:
        # Noise in the input flattens the mean's slopes; an adaptive step depends on its size.
        low, high = self._noisy_factor
        is_proportional = self.settings.optimizer in PROPORTIONAL
        return not is_proportional or (low <= FLATTENED and high >= 1 / FLATTENED)

    @cached_property
    def is_noise(self) -> bool:
        """Whether losses, gradients or steps scatter about the objective's."""
        if self._scatters(self.apart[:, None], self.rounding) or self._are_gradients_noisy:
            return True
        least = max(self.slack / len(self.moves), ALIKE * float(np.abs(self.pushes).max()))
        return self.settings.optimizer == "sgd" and self._scatters(self.pushes - self.pulls, least)

    @cached_property
    def _are_gradients_noisy(self) -> bool:
        apart = self.path.gradients[: len(self.places)] - self.slopes
        least = AGREES * float(np.abs(self.slopes).max())
        return bool(np.isfinite(apart).all()) and self._scatters(apart, least)

    def _scatters(self, series: FloatArray, least: float) -> bool:
        """Whether all columns (n, k) are noise: larger than the least, and of no order.

        By the turning points of the differences, 2/3 of the rows for independent numbers
        (Bienaymé 1874): in the log's order, and in that of the values, of which another loss would
        be a function.
        """
        places = self.places[: len(series)]
        orders = [np.arange(len(series)), *np.argsort(places, axis=0, kind="stable").T]
        return all(_turns_as_noise(column[order], least) for column in series.T for order in orders)

    def _every_loss(self) -> FloatArray:
        values = np.where(np.isfinite(self.path.values), self.path.values, self.path.values[0])
        losses = self.objective.loss_at(self.objective.space.coordinates(values))
        return np.where(np.isfinite(self.path.values).all(axis=1), losses, np.nan)

    def _standing_still(self) -> Finding | None:
        """Values that stay where the objective has a slope."""
        asked = np.abs(self.pulls)
        # Single steps may be rounded away, and all together be less than is printed.
        is_seen = (asked.max(axis=0) > self.last) & (asked.sum(axis=0) > self.printed)
        still = np.flatnonzero(is_seen & ~self.moves.any(axis=0))
        if not len(still):
            return None
        names = listed([self.objective.space.names[i] for i in still])
        slope = float(np.abs(self.slopes[:, still]).max())
        text = f"in the log {names} never moves, although the gradient of this loss is {slope:.3g} "
        text += "there: none arrived in the training, or the optimizer does not hold it"
        return _found("no_gradient", text, gradient=slope)

    def _other_gradient(self) -> Finding | None:
        """Steps of a gradient that is not the objective's: reversed, summed, another."""
        own = self._factor(self.pushes, self.pulls)
        apart = float(np.square(self.pushes - self.pulls).sum())

        def fits(other: FloatArray) -> bool:
            left = self.pushes - other
            is_nearer = float(np.square(left).sum()) < NEARER * apart
            return self._is_nothing(left) or (self.is_noise and is_nearer)

        is_reversed = fits(self.made(slopes=-self.slopes)) or self._noisy_factor[1] < 0
        if is_reversed or (own is not None and own < 0):
            text = "the logged steps are those of this loss's gradient with its sign reversed: the "
            text += "run climbs"
            return _found("wrong_gradient", text, "reversed")
        logged = self.path.gradients[: len(self.places)]
        added = np.abs(np.diff(logged, axis=0) - self.slopes[1:]).sum()
        are_sums = added <= AGREES * np.abs(self.slopes).sum()
        if are_sums or fits(self.made(slopes=np.cumsum(self.slopes, axis=0))):
            text = "each logged step is that of the sum of all gradients before it"
            return _found("wrong_gradient", text, "summed")
        return None if self._are_gradients_noisy else self._logged_gradient()

    def _logged_gradient(self) -> Finding | None:
        logged = self.path.gradients[: len(self.places)]
        apart = np.abs(logged - self.slopes) * self.width
        is_own = apart.sum() <= AGREES * np.abs(self.slopes * self.width).sum()
        if is_own or not self.is_same_loss or not np.isfinite(logged).all():
            return None
        if not self._is_nothing(self.pushes - self.made(slopes=logged)):
            return None
        row, i = np.unravel_index(int(np.argmax(apart)), apart.shape)
        given, right = float(logged[row, i]), float(self.slopes[row, i])
        at = self.objective.space.show(self.path.values[row])
        text = f"the logged gradient is not this loss's: at {at} it is {given:.3g} instead of "
        return _found("wrong_gradient", f"{text}{right:.3g}", gradient=right)

    def _weight_decay(self) -> Finding | None:
        """Steps of the settings' own rate and momentum, and a pull towards 0 beside them."""
        found = self._heavy_ball(with_decay=True) if self.settings.optimizer == "sgd" else None
        if found is None:
            return None
        momentum, factor, decay = found
        is_own = abs(momentum - self.settings.momentum) + abs(factor - 1) <= AGREES
        if not is_own or not decay > 0 or self.settings.nesterov:
            return None
        text = f"the logged steps have a weight decay of {decay:.2g} beside this loss's gradient, "
        text += "which pulls towards 0"
        return _found("target_unreachable", text, weight_decay=decay)

    def _noise(self) -> Finding:
        noise = float(self.apart.std())
        text = f"the logged losses scatter by {noise:.2g} about this loss, as those of batches do"
        if noise <= self.rounding:
            text = "the logged steps scatter about this loss's, as those of batches do"
        return _found("nondeterministic", text, noise=noise)

    def _refuse(self) -> None:
        """Raises if the log is of other settings, or of another loss."""
        if options := self._options():
            problem = f"the logged steps are not those of {self.settings.label} on this loss."
            advice = f"They are those of {options}: give these, or log every step."
            raise UsageError(problem, advice)
        along = float((self.pushes * self.pulls).sum())
        is_related = along > RELATED * float(
            np.linalg.norm(self.pushes) * np.linalg.norm(self.pulls)
        )
        if self.is_same_loss or self.is_noise or is_related:
            return
        row = int(np.argmax(np.abs(self.apart)))
        here, logged = float(self.losses[row]), float(self.path.losses[row])
        at = self.objective.space.show(self.path.values[row])
        problem = f"the log is of another loss: at {at} it has {logged:.4g}, and this one is "
        raise UsageError(
            f"{problem}{here:.4g}.",
            "Give the loss, the data and the units it was made with; `gabordiag explain` judges "
            "the log alone.",
        )

    def _options(self) -> str:
        """Returns the options that the steps are of, empty where none was found."""
        lr, own = float(self.rates.max()), self._factor(self.pushes, self.pulls)
        if own is not None and own > 0:
            return "" if self.is_rate_logged else f"--lr {own * lr:.3g}"
        for name in OPTIMIZERS:
            other = self._plain(name)
            made = self.made(other) if other.is_elementwise else np.zeros_like(self.moves)
            factor = self._factor(self.moves, made)
            if factor is None or factor <= 0 or other == self.settings:
                continue
            if not self.is_rate_logged:
                return f"--optimizer {name} --lr {factor * lr:.3g}"
            if abs(factor - 1) <= AGREES:
                return f"--optimizer {name}"
        found = self._heavy_ball()
        if found is None or not AGREES < found[0] < 1:
            return ""
        return f"--optimizer sgd --lr {found[1] * lr:.3g} --momentum {found[0]:.3g}"

    def _plain(self, name: str) -> OptimizerSettings:
        return OptimizerSettings(name, self.settings.lr, steps=self.settings.steps)

    def _heavy_ball(self, *, with_decay: bool = False) -> tuple[float, float, float] | None:
        """Returns momentum m, factor c and decay w of u[t] = m u[t-1] - c lr (g[t] + w x[t])."""
        before = np.concatenate([np.zeros_like(self.moves[:1]), self.moves[:-1]])
        pulls = [before, self.made(self._plain("sgd"))]
        if with_decay:
            pulls.append(-self.rates[:-1] * self.places[:-1] / self.width)
        columns = np.stack([pull.ravel() for pull in pulls], axis=1)
        momentum, factor, *decay = np.linalg.lstsq(columns, self.moves.ravel(), rcond=None)[0]
        left = self.moves.ravel() - columns @ (momentum, factor, *decay)
        if not (self._is_nothing(left) and factor > 0):
            return None
        return float(momentum), float(factor), float(decay[0] / factor) if decay else 0.0


def _turns_as_noise(series: FloatArray, least: float) -> bool:
    # Of what has settled only the rounding goes up and down.
    changes = np.diff(series)
    is_seen = np.maximum(np.abs(changes[1:]), np.abs(changes[:-1])) > least
    count, turns = int(is_seen.sum()), int((is_seen & (changes[1:] * changes[:-1] < 0)).sum())
    # Their variance is (16 n - 29) / 90 of n numbers, two more than may turn.
    deviation = math.sqrt((16 * count + 3) / 90)
    return count >= FEWEST and turns >= 2 / 3 * count - CLEAR * deviation


def _found(cause: str, text: str, kind: str = "", **evidence: float) -> Finding:
    # Nothing of this is in the objective's own code.
    shown = {"logged": True, **evidence}
    return Finding(cause, True, False, shown, text, _ADVICE[kind or cause])
