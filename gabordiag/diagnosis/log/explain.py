"""The diagnosis from a log alone, with what it cannot know said plainly.

Without the landscape there are no basins and no proof; there is what the loss and the value did,
and, where gradients were logged, the curvature of secants: (g[t+1] - g[t]) / (x[t+1] - x[t]).
`measures.py` says how the run ended, as of any run; here that becomes a verdict: `looks` lists what
is asked, in its order. A loss alone, without the parameter, is judged by `_Curve`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.choices import Number, plain
from gabordiag.diagnosis.log.measures import (
    CLEAR,
    CORRELATED,
    NEUMANN,
    SHORTEST_LOG,
    SMALLEST_ROUND,
    TREND,
    LogRun,
    correlation,
    last_digit,
    printed_digit,
)
from gabordiag.diagnosis.log.readers import Source, read_log
from gabordiag.dynamics.outcomes import DESCENT_SHARE, Jump
from gabordiag.errors import UsageError
from gabordiag.landscape.points import PLAIN_LIMIT
from gabordiag.results import Data, Finding, Result
from gabordiag.wording import counted

# What lies on both sides of each of these stands in the README of `diagnosis`.
WILD_SPREAD = 0.3
LOST = 0.5
DESCENT = 0.02
PROGRESS = 0.01
# The lowest of ten equal medians is expected 1.54 of their standard errors low, of a change's 1.1.
LOWEST_OF_TEN = 1.1
MOVED = 0.02
WANDERING = 4
RECURRING = 3
GROWTH, GROWTH_ROWS = 10, 5
GROWING = 2
RESTING = 0.01
CLIMB_ROWS = 5
# Secants of a cycle just beyond the bound are a little below it.
NEAR_BOUND = 0.95
HOVERING = 0.15
OUTLYING = 10
SAWTOOTH_RISES = 0.35
# From some hundred classes on the logarithms lie closer than noise.
GUESSING, MOST_CLASSES = 2e-3, 5.0
SAME_ANGLE = 0.01
BESIDE = 0.05
DECAYED = 0.1
ROUNDINGS = 4
SUMMED, CHANGING = 0.5, 3
UNKNOWABLE = (
    "a log alone cannot show whether another minimum is in the way, whether the derivative is "
    "right, or which learning rates would work; `gabordiag diagnose --objective FILE:FUNCTION "
    "--from-log LOG` measures these on your loss"
)
CURVE_ALONE = (
    "a loss alone does not say why: log the parameter's value, its gradient and the learning rate, "
    "`with gd.TrajectoryLogger('run.csv', theta=model.theta) as log:` around the loop, and "
    "`log.step(loss, lr=lr)` between `loss.backward()` and `optimizer.step()`"
)


@dataclass(frozen=True, eq=False)
class Explanation(Result):
    """What a log shows.

    The possible outcomes are those that agree with the log. The period is in rows, after which
    values or losses repeat at the end, 2 or more. Jumps are rises of the loss by 30% of its range
    in one step. The notes say what was left out of the log, or filled in; `logged` is `step` and
    `loss` of every row (n,).
    """

    verdict: str
    headline: str
    possible: tuple[str, ...]
    period: int | None
    jumps: tuple[Jump, ...]
    findings: tuple[Finding, ...]
    steps: int
    notes: tuple[str, ...] = ()
    logged: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def outcome(self) -> str | None:
        """As a run's; None where the landscape, a target or a period would have to decide."""
        return self.possible[0] if len(self.possible) == 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        among = " or ".join(self.possible) or "the outcome"
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "outcome": self.outcome,
            "outcome_reason": None if self.outcome else f"the log leaves open: {among}",
            "period": self.period,
            "n_jumps": len(self.jumps),
            "jumps": [jump.to_dict() for jump in self.jumps],
            "findings": [finding.to_dict() for finding in self.findings],
            "steps": self.steps,
            "notes": list(self.notes),
        }

    def data(self) -> Data:
        """Returns what is saved as log.csv."""
        return {"log.csv": self.logged}


def explain(
    source: Source,
    target: Number | None = None,
    period: Number | None = None,
    *,
    value_column: str | None = None,
    loss_column: str | None = None,
) -> Explanation:
    """Diagnoses a run from its log alone.

    Args:
        source: Columns (n,) by name, as in a DataFrame, or a file: CSV, JSON or JSON lines, also
            compressed by gzip, `-` for standard input, a run's folder of MLflow, or
            TensorBoard's event files (`pip install gabordiag[logs]`). Without a column of the
            parameter the loss alone is judged.
        target: The value that should have been reached, if known, in the column's unit.
        period: Of the parameter, if it has one, in the column's unit.
        value_column: Name of the parameter's column.
        loss_column: Name of the loss's column.

    Returns:
        An `Explanation`: `verdict`, `headline`, `outcome`, `jumps` and `findings`.

    Raises:
        InputError: The log cannot be used.
        UsageError: A column that is not there, or a target or period that is not a number.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> theta = 0.3 * (-1.0) ** np.arange(60)
        >>> log = {"theta": theta, "loss": np.sin(theta) ** 2, "grad": np.sin(2 * theta)}
        >>> found = gd.explain(log, target=0.0, period=np.pi)
        >>> found.verdict, found.outcome, found.period
        ('step_too_large', 'cycle', 2)
    """
    numbers = {"period": plain(period), "target": plain(target)}
    given = {name: number for name, number in numbers.items() if number is not None}
    for name, number in given.items():
        if not isinstance(number, (int, float)) or not math.isfinite(number):
            raise UsageError(f"the {name} {number!r} is not a finite number.")
    if not 1e-9 <= given.get("period", 1) <= 1e9:
        problem = f"the period {given['period']:g} is out of range."
        raise UsageError(problem, "Give one from 1e-9 to 1e9.")
    log = read_log(source, value_column, loss_column)
    if given and not log.value_name:
        what = "target" if "target" in given else "period"
        raise UsageError(
            f"a {what} says nothing of a loss alone, and the log has no parameter's column.",
            "Name its column: --value-column.",
        )
    # Diverged logs overflow in differences; what is not finite is reported as such.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        reader = _Judge(log, **numbers) if log.value_name else _Curve(log, None, None)
        return next(found for look in reader.looks() if (found := look()) is not None)


class _Judge(LogRun):
    """Looks at a log from one side after the other; the first that applies gives the verdict."""

    unknowable = UNKNOWABLE

    def looks(self) -> tuple[Callable[[], Explanation | None], ...]:
        """Returns the looks in their order; the last one always applies."""
        return (
            self._nonfinite, self._too_short, self._overflow, self._summed, self._uphill,
            self._climbing, self._growing, self._strays, self._reached, self._frozen, self._kink,
            self._repeating, self._ringing, self._hovering, self._wild, self._fallen_back,
            self._swinging, self._descending, self._stopped, self._resting_elsewhere,
            self._settled,
        )  # fmt: skip

    def _result(
        self,
        verdict: str,
        headline: str,
        evidence: dict[str, Any] | None = None,
        possible: tuple[str, ...] | None = None,
    ) -> Explanation:
        findings = [Finding("inconclusive", True, None, {}, self.unknowable, role="contributing")]
        if verdict not in ("healthy", "equivalent_solution", "inconclusive"):
            primary = Finding(verdict, True, None, evidence or {}, headline, role="primary")
            findings.insert(0, primary)
        gaps = f"rows are {self.stride} steps apart; what happens between them is not seen"
        notes = self.log.notes + ((gaps,) if self.stride != 1 else ())
        logged = {"step": np.asarray(self.log.steps, dtype=np.float64), "loss": self.losses}
        period = None if possible is not None else self.repeat or None
        among = self.possible if possible is None else possible
        return Explanation(
            verdict, headline, among, period, self.jumps, tuple(findings), len(self.losses), notes,
            logged,
        )  # fmt: skip

    def _nonfinite(self) -> Explanation | None:
        bad = ~(np.isfinite(self.losses) & np.isfinite(self.values))
        gradients = self.log.gradients
        if gradients is not None and np.isfinite(gradients[:-1]).any():
            bad[:-1] |= ~np.isfinite(gradients[:-1])
        if not bad.any():
            return None
        row = int(np.argmax(bad))
        step, loss = self.step(row), float(self.losses[row])
        evidence = {"step": step, "loss": loss if math.isfinite(loss) else None}
        before = self.losses[max(0, row - GROWTH_ROWS) : row]
        highest = float(np.nanmax(self.losses[:row], initial=0.0))
        # In a few rows, or slowly: since the first.
        rose = len(before) >= 2 and before[-1] > GROWTH * min(before[0], self.losses[0])
        if rose and before[-1] > WILD_SPREAD * highest > 0:
            text = f"The loss grew without bound and broke at step {step}: lower the learning rate."
            return self._result("step_too_large", text, evidence, ("nonfinite",))
        cells = {"the loss": loss}
        if self.has_value:
            cells[self.log.value_name] = float(self.values[row])
        if gradients is not None and np.isfinite(gradients).any():
            cells["the gradient"] = float(gradients[row])
        broken = [f"{name} is {cell}" for name, cell in cells.items() if not math.isfinite(cell)]
        sound = [f"{name} {cell:.3g}" for name, cell in cells.items() if math.isfinite(cell)]
        but, cure = f" ({', '.join(sound)})" if sound else "", "and use the squared loss"
        if not self.has_value:
            but = f", after {self.losses[row - 1]:.3g}" if row else ", after nothing"
            cure = "or for steps that are too large"
        text = (
            f"At step {step} {' and '.join(broken)}{but}: look for 0/0 just before, such as a "
            f"square root at zero loss, {cure}."
        )
        return self._result("nonfinite_gradient", text, evidence, ("nonfinite",))

    def _overflow(self) -> Explanation | None:
        is_bounded = math.isfinite(self.height) and math.isfinite(np.ptp(self.values))
        if is_bounded and self.outcome != "nonfinite":
            return None
        largest = float(max(np.abs(self.losses).max(), np.abs(self.values).max()))
        text = f"The run diverged, up to {largest:.3g}: lower the learning rate."
        return self._result("step_too_large", text, {"largest": largest}, ("nonfinite",))

    def _too_short(self) -> Explanation | None:
        if len(self.losses) >= SHORTEST_LOG:
            return None
        few = counted(len(self.losses), "step is", f"{self.rows()} are")
        text = f"{few} too few to judge: log at least {SHORTEST_LOG}."
        return self._result("inconclusive", text, possible=())

    def _strays(self) -> Explanation | None:
        """Steps that now and then lead far away: noise that grows with the distance."""
        if self.target is None or not self.follows_value:
            return None
        away = np.abs(self.offsets)
        late = away[-len(self.last_losses) :]
        far, usual, first = float(late.max()), float(np.median(late)), float(away[0])
        # Of one that began as near as it stays, noise leads farther.
        began_away = first > CLEAR * usual or far > OUTLYING * first
        if far <= max(first, OUTLYING * usual, self.parameter.tolerance) or not began_away:
            return None
        shown = self.parameter.show
        text = (
            f"It is thrown up to {shown(far)} away from the target {shown(self.target)}, farther "
        )
        text += f"than it began, and comes back{self._smaller_rate()}"
        return self._result("step_too_large", text, {"farthest": far, "median": usual})

    def _reached(self) -> Explanation | None:
        if self.outcome != "reached":
            return None
        assert self.target is not None
        period, shown = self.parameter.period, self.parameter.show(self.target)
        turns = 0 if period is None else round((float(self.tail[-1]) - self.target) / period)
        if not turns:
            text = f"Healthy: it reached the target {shown} and stays. Nothing needs to change."
            return self._result("healthy", text)
        text = f"No failure: it ended at the target {shown} {'plus' if turns > 0 else 'minus'} "
        text += f"{counted(abs(turns), 'period', 'periods')}, the same solution."
        return self._result("equivalent_solution", text)

    def _frozen(self) -> Explanation | None:
        if np.ptp(self.values) > 0:
            return None
        gradients, lrs, name = self.log.gradients, self.log.lrs, self.log.value_name
        value, verdict = self.parameter.show(float(self.values[0])), "no_gradient"
        why = ": no gradient reaches it, or the optimizer does not hold it. Look for .data, "
        why += ".detach(), torch.no_grad() or a new Parameter on its way to the loss."
        if gradients is not None and np.nan_to_num(gradients).any():
            why = " although gradients arrive: the optimizer does not hold it. Pass it to the "
            why += "optimizer's constructor."
            slope, eps = float(np.nanmax(np.abs(gradients))), float(np.finfo(np.float64).eps)
            step = math.inf if lrs is None else float(np.nanmax(np.abs(lrs * gradients)))
            if slope * max(abs(self.values[0]), 1.0) <= ROUNDINGS * eps * abs(self.losses[0]):
                verdict, why = "flat_start", f": at {value} the gradient is zero but for rounding, "
                why += "as on a maximum or a plateau. Start elsewhere."
            elif step == 0:
                verdict, why = "step_too_small", ": the learning rate is 0."
            elif step <= (digit := last_digit(self.values)):
                verdict, why = "step_too_small", f": lr x gradient is {step:.2g} at most, and "
                why += f"the last digit of {value} {digit:.2g}: plain descent rounds "
                why += "such steps away. Take a larger rate, or double precision."
            elif lrs is not None and self._asked() < printed_digit(self.values) / 2:
                verdict, why = "inconclusive", f": all its steps together are {self._asked():.2g} "
                why += f"at most, and the log shows {printed_digit(self.values):g} and more. "
                why += "Log all digits."
        return self._result(verdict, f"{name} never moves{why}")

    def _asked(self) -> float:
        assert self.log.lrs is not None
        assert self.log.gradients is not None
        return float(np.nansum(np.abs(self.log.lrs * self.log.gradients)))

    def _summed(self) -> Explanation | None:
        """Gradients that add up: not they are the loss's slopes, but their changes are."""
        gradients = self.log.gradients
        if gradients is None or self.stride != 1 or not np.isfinite(gradients).all():
            return None
        changes, own = np.diff(self.losses), np.diff(gradients, prepend=0.0)
        # What is left of the losses' changes by the trapezoidal rule; of level slopes all.
        left = [
            float(np.abs(changes - (slopes[1:] + slopes[:-1]) / 2 * self.moves).sum())
            for slopes in (gradients, own)
        ]
        whole = float(np.abs(changes).sum())
        # Noise of batches hides that, and not of which gradients the value is a function.
        noisy, changed = self.disorder(gradients), self.disorder(own)
        are_sums = left[1] < SUMMED * whole <= SUMMED * left[0]
        if not are_sums and not max(CHANGING * changed, SUMMED * NEUMANN) < noisy:
            return None
        text = (
            "Each logged gradient is the sum of all before it: without optimizer.zero_grad() the "
            f"steps drive {self.log.value_name} back and forth at any rate. Call it before every "
            "backward()."
        )
        evidence = {"disorder_of_gradients": noisy, "disorder_of_changes": changed}
        return self._result("wrong_gradient", text, evidence)

    def _uphill(self) -> Explanation | None:
        """Steps along the logged gradient instead of against it."""
        gradients = self.log.gradients
        if gradients is None or self.stride != 1:
            return None
        # Beside the gradient of another row a bounce looks so, too.
        along = [correlation(self.moves, slopes) for slopes in (gradients[:-1], gradients[1:])]
        if not (along[0] > CORRELATED and along[1] > 0):
            return None
        text = (
            f"Each step moves {self.log.value_name} along the logged gradient, up the loss: it has "
            "to be subtracted. Check the sign of the update, and that the loss is minimised."
        )
        return self._result("wrong_gradient", text, {"correlation": along[0]})

    def _climbing(self) -> Explanation | None:
        """Uphill step after step in one direction, without an end or up to a maximum."""
        apart = np.abs(self.parameter.offset(self.values, float(self.values[-1])))
        away = np.flatnonzero(apart > RESTING * apart.max())
        if self.moves_by_noise:
            late = apart[-len(self.last_losses) :]
            away = np.flatnonzero(apart > late.max())
        # So many rows pass until the value is where it stays.
        way = int(away[-1]) + 2 if len(away) else 0
        if way < CLIMB_ROWS:
            return None
        parts = np.array_split(self.losses[:way], min(way, 10))
        levels, moves = np.array([np.median(part) for part in parts]), self.moves[: way - 1]
        begin, end = float(levels[0]), float(levels[-1])
        # Shares of their paths that are left as way; noise between single rows hides a rise.
        rises = (end - begin) / float(np.abs(np.diff(levels)).sum() or 1.0)
        onward = abs(float(moves.sum())) / float(np.abs(moves).sum())
        if end - begin <= WILD_SPREAD * self.height or min(rises, onward) < DESCENT_SHARE:
            return None
        lrs, gradients = self.log.lrs, self.log.gradients
        if self.stride != 1 and lrs is not None and gradients is not None:
            step = np.nanmedian(np.abs(lrs * gradients)[:way])
            if np.median(np.abs(moves)) < step / 2:
                # A step goes farther than a row: it swings between the rows.
                return None
        evidence = {"begin": begin, "end": end, "share_of_rises": rises}
        text = (
            f"The loss rises from {begin:.3g} to {end:.3g} all the way, and "
            f"{self.log.value_name} moves one way: it climbs. Check the gradient's sign, and that "
            "the loss is minimised."
        )
        if self.stride % 2 == 0:
            text += " Or it swings ever farther between the rows: then take a smaller rate."
        return self._result("wrong_gradient", text, evidence)

    def _growing(self) -> Explanation | None:
        losses, tenth = self.losses, max(2, len(self.losses) // 10)
        parts = (losses[:tenth], losses[-2 * tenth :][:tenth], losses[-tenth:])
        begin, before, end = (float(np.median(part)) for part in parts)
        if not (end > GROWTH * begin > 0 and end > GROWING * before):
            return None
        ups = float(np.mean(np.diff(losses) > 0))
        evidence = {"begin": begin, "end": end, "share_of_rises": ups}
        text = f"The loss grows without bound, from {begin:.3g} to {end:.3g}{self._smaller_rate()}"
        return self._result("step_too_large", text, evidence)

    def _kink(self) -> Explanation | None:
        slope = self.kink_slope if self.outcome in ("cycle", "erratic") else None
        if slope is None:
            return None
        evidence, shown = self._swing(), ""
        if self.log.gradients is not None:
            evidence["slope"] = slope
            shown = f": the slope {slope:.3g} does not vanish there"
        repeat = f" with period {self.repeat}" if self.repeat else ""
        cure = "Use the squared loss (mse), or decay the rate."
        text = f"It bounces across a V-shaped minimum{repeat}{shown}. {cure}"
        return self._result("kink", text, evidence)

    def _swing(self) -> dict[str, Any]:
        losses = self.losses[-(self.repeat or len(self.tail)) :]
        low, high = float(losses.min()), float(losses.max())
        return {"period": self.repeat or None, "loss_low": low, "loss_high": high}

    def _repeating(self) -> Explanation | None:
        if self.outcome != "running" and not self.repeat:
            return None
        if self.outcome != "running" and self.are_batches:
            return self._in_order()
        evidence = self._swing()
        products = self.lr_times_curvature
        if self.repeat and products is not None:
            late = products[-self.repeat :]
            if np.isfinite(late).any():
                evidence["lr_times_curvature"] = float(late[np.isfinite(late)].max())
        low, high = f"{evidence['loss_low']:.3g}", f"{evidence['loss_high']:.3g}"
        if self.outcome == "running":
            step = self.parameter.show(float(self.tail[-1] - self.tail[-2]))
            text = (
                f"{self.log.value_name} runs off, at the end by {step} a step, and the loss (from "
                f"{low} to {high}) is that of before{self._smaller_rate()}"
            )
        else:
            losses = low if low == high else f"{low} to {high}"
            text = f"It repeats a cycle of {self.repeat} {self.rows()} (loss {losses})"
            if not self.has_value and self.repeat >= SMALLEST_ROUND:
                text += f", unless these are {self.repeat} batches in a fixed order"
            text += self._smaller_rate(evidence)
        return self._result("step_too_large", text, evidence)

    def _in_order(self) -> Explanation | None:
        """Batches in a fixed order, about the target if there is one."""
        if not self._progress():
            return None
        if self.target is not None:
            away = np.abs(self.offsets)
            if not (self._surrounds_target() or np.median(away) <= HOVERING * away.max()):
                return None
        losses = self.losses[-self.repeat :]
        text = (
            f"Healthy: the losses, {losses.min():.3g} to {losses.max():.3g}, repeat every "
            f"{self.repeat} {self.rows()}, as those of batches in a fixed order do, and their mean "
            "has settled. Shuffle the batches, or let the rate decay, to come nearer."
        )
        return self._result("healthy", text)

    def _ringing(self) -> Explanation | None:
        """Smooth swings that shrink, as with much momentum: on their way to their middle."""
        ring = self.ring if self.outcome in ("unfinished", "erratic", "plateau") else None
        if ring is None or ring.width <= 2 * self.parameter.tolerance:
            return None
        show, middle = self.parameter.show, ring.middle
        if self.target is not None:
            apart = float(self.parameter.offset(middle, self.target))
            if abs(apart) > ring.width / 2:
                return None
            middle -= apart
        swings = math.log(ring.width / 2 / self.parameter.tolerance) / -math.log(ring.factor)
        more = float(f"{max(1.0, swings * ring.steps * self.stride):.1g}")
        text = (
            f"{self.log.value_name} swings about {'' if self.target is None else 'the target '}"
            f"{show(middle)}, by {show(ring.width)} at the end and "
            f"{100 * (1 - ring.factor):.2g}% less each time: run some {more:.0f} more steps, or "
            "lower the momentum."
        )
        if self.target is None:
            return self._result("healthy", f"Nothing looks wrong: {text}")
        evidence = {"width": ring.width, "factor": ring.factor}
        return self._result("step_too_small", text, evidence)

    def _hovering(self) -> Explanation | None:
        """Noise, or steps that do not shrink, about the target."""
        if self.outcome not in ("erratic", "unfinished") or not self._is_about_target:
            return None
        if self.moves_by_noise and not self._is_everywhere:
            return self._about_target()
        if self.outcome != "erratic":
            return None
        noise = float(self.late_offsets.std())
        begin, best, last = self.levels
        is_calm = noise <= HOVERING * float(np.abs(self.offsets).max())
        return (
            self._about_target() if is_calm and last - best <= HOVERING * (begin - best) else None
        )

    @property
    def _is_about_target(self) -> bool:
        """Whether the last third is the target but for noise, if there is one."""
        if not self._surrounds_target():
            return False
        late = self.late_offsets
        return bool(abs(late.mean()) <= TREND * late.std())

    @property
    def _is_everywhere(self) -> bool:
        """Whether noise spreads the last third over the whole period."""
        if self.parameter.period is None:
            return False
        return bool(self.late_offsets.std() > HOVERING * self.parameter.period)

    @property
    def _is_left_to_noise(self) -> bool:
        """Whether the value is at rest at the end, but for noise: no step is too large then."""
        return self._is_at_rest or (self.moves_by_noise and not self._is_everywhere)

    def _about_target(self) -> Explanation:
        assert self.target is not None
        noise = float(self.late_offsets.std())
        place, reach = self.parameter.show(self.target), self.parameter.show(noise)
        cure = "A rate that decays would settle it."
        text = f"Healthy but for noise: it stays about the target {place}, within {reach}. {cure}"
        return self._result("healthy", text)

    def _surrounds_target(self) -> bool:
        """Whether the last third lies on both sides of the target, if there is one."""
        if self.target is None:
            return False
        offsets = self.late_offsets
        # Half a period away the sign changes, too.
        across = np.ptp(offsets) < (self.parameter.period or math.inf) / 2
        return bool(across and offsets.min() < 0 < offsets.max())

    def _wild(self) -> Explanation | None:
        if self._is_left_to_noise:
            return None
        # Noise in the loss leaves the value where it is; a jump moves it.
        reach = MOVED * float(np.ptp(self.parameter.wrap(self.values)))
        path = float(np.abs(np.diff(self.values)).sum())
        if self.follows_value and path > WANDERING * float(np.ptp(self.values)):
            # The loss depends on a value that comes back and back, by steps of any size.
            reach = 0.0
        moved = self.jump_rows[[abs(jump.end - jump.start)[0] > reach for jump in self.jumps]]
        recurring = int((moved >= len(self.losses) // 2).sum()) >= RECURRING
        calm = self.spread <= WILD_SPREAD * self.height or self._falls()
        if not recurring and (calm or not len(moved) or self.outcome == "unfinished"):
            return None
        if not self.follows_value and not self._progress():
            return None
        evidence: dict[str, Any] = {"jumps": len(self.jumps), "spread": self.spread}
        curvatures = [jump.lr_times_curvature for jump in self.jumps]
        known = [c for c in curvatures if c is not None and math.isfinite(c)]
        if known:
            evidence["lr_times_curvature"] = max(known)
        text = f"The loss falls and jumps back {len(self.jumps)} times without a period"
        return self._result("step_too_large", text + self._smaller_rate(evidence), evidence)

    def _falls(self) -> bool:
        third = max(2, len(self.losses) // 3)
        drop = float(np.median(self.losses[:third]) - np.median(self.last_losses))
        return drop > DESCENT * self.height

    def _smaller_rate(self, evidence: Mapping[str, Any] | None = None) -> str:
        """The end of a sentence: the curvature where it is the reason, and the rate to try."""
        product = (evidence or {}).get("lr_times_curvature", math.nan)
        # Rounded, what is beyond the bound may be the bound.
        words = f", lr x curvature {product:.3g}, about what plain descent is stable up to"
        if product > PLAIN_LIMIT / NEAR_BOUND:
            words = f", lr x curvature {product:.3g} where plain descent needs less than "
            words += f"{PLAIN_LIMIT:g}"
        words = words if NEAR_BOUND <= product / PLAIN_LIMIT < math.inf else ""
        where = "the lowest minimum" if self.target is None else "the target"
        return (
            f"{words}: a smaller learning rate, try {self.rate()}, ends this; whether it then "
            f"finds {where} depends on the start."
        )

    def _swinging(self) -> Explanation | None:
        """Without jumps of the loss, as with momentum; in the end as far off as at first."""
        if self.outcome not in ("unfinished", "erratic") or not self._surrounds_target():
            return None
        assert self.target is not None
        reach = float(np.abs(self.late_offsets).max())
        if reach < abs(self.offsets[0]) or self._progress() or not self.follows_value:
            return None
        show = self.parameter.show
        text = f"It swings about the target {show(self.target)}, up to {show(reach)} away from it"
        return self._result("step_too_large", text + self._smaller_rate(), {"spread": self.spread})

    @property
    def _has_decayed(self) -> bool:
        """Whether the rate has become so small that as many steps again lead nowhere."""
        lrs = self.log.lrs
        return lrs is not None and bool(lrs[-1] <= DECAYED * np.nanmean(lrs))

    def _descending(self) -> Explanation | None:
        falls = self._falls() and self.trend(self.losses) > DESCENT * self.height
        if self.target is not None:
            away = np.abs(self.offsets)
            # By chance noise may lead nearer in a third, hardly in the one before it as well.
            nearer = min(map(self.trend, (away, away[: -max(1, len(away) // 3)])))
            falls = falls or nearer > DECAYED * float(np.ptp(away)) / 3
        if self.outcome == "unfinished":
            falls = self.remaining() > self.parameter.tolerance
        # Without a target the loss alone decides: another parameter may lower it.
        is_open = self.target is None or self.outcome in ("unfinished", "erratic")
        if not is_open or not falls or self._has_decayed:
            return None
        count = f"{len(self.losses)} {self.rows()}"
        if self.target is None:
            text = f"Nothing looks wrong: after {count} the loss still goes down. Run more steps."
            return self._result("healthy", text) if self._progress() else None
        passed = self._passed_target() or self._thrown_past_target()
        if passed is not None:
            return passed
        late = self.moves[-max(2, len(self.tail) - 1) :]
        turns = float(np.mean(np.diff(np.sign(late)) != 0))
        if turns > DESCENT_SHARE:
            cure = f"a smaller learning rate, try {self.rate()}, gets there sooner."
            text = f"Still descending after {count}, back and forth across a minimum: {cure}"
            return self._result("step_too_large", text, {"share_of_turns": turns})
        text = f"Still descending after {count}: run more steps, or raise the rate."
        if self.stride % 2 == 0:
            text = f"Still descending after {count}: run more steps. Before the rate is raised, "
            text += "log every step: it may swing between these rows."
        before, after = np.split(self.last_losses, [len(self.last_losses) // 2])
        evidence = {"drop_in_last_third": float(np.median(before) - np.median(after))}
        return self._result("step_too_small", text, evidence)

    def _passed_target(self) -> Explanation | None:
        """Has it left the target behind, downhill? More steps lead farther away."""
        assert self.target is not None
        offsets = self.offsets
        # Of a periodic parameter the sign changes half a period away, too.
        near = np.abs(np.diff(self.values)) >= np.abs(offsets[:-1])
        crossed = np.flatnonzero((offsets[:-1] * offsets[1:] <= 0) & near)
        if len(crossed) == 0:
            return None
        row = int(crossed[-1])
        there, now = float(self.losses[row : row + 2].min()), self.levels[2]
        away = np.abs(offsets[row + 1 :])
        returns = (np.maximum.accumulate(away) - away > self.parameter.tolerance).any()
        if returns or there - now <= max(DESCENT * self.height, CLEAR * self.deviation):
            return None
        goes_on = "is still descending, now" if self.outcome == "unfinished" else "settled"
        text = (
            f"It passed the target {self.parameter.show(self.target)} at step {self.step(row)} "
            f"with loss {there:.3g} and {goes_on} at loss {now:.3g}: the loss is lower elsewhere. "
            "Check the target, and what the loss is compared with."
        )
        evidence = {"step": self.step(row), "loss_at_target": there, "loss": now}
        return self._result("target_unreachable", text, evidence)

    def _thrown_past_target(self) -> Explanation | None:
        """Did one step lead across the target and leave the run farther away than it began?"""
        assert self.target is not None
        offsets = self.offsets
        away = np.abs(offsets)
        row = int(np.argmax(np.diff(away)))
        begin, end = self.values[row : row + 2].tolist()
        is_across = offsets[row] * offsets[row + 1] < 0 and abs(end - begin) >= away[row]
        if not is_across or not away[-1] > away[0] or self._is_about_target:
            return None
        text = f"Step {self.step(row)} led from {self.parameter.show(begin)} past the target to "
        text += f"{self.parameter.show(end)}, and the run is still farther from it than it began"
        return self._result(
            "step_too_large", text + self._smaller_rate(), {"thrown_at": self.step(row)}
        )

    def _progress(self) -> bool:
        begin, _, last = self.levels
        fall = max(self.fall, begin - last if begin - last > CLEAR * self.noise else 0.0)
        return fall > (0.0 if self._is_at_rest else PROGRESS * abs(begin))

    @property
    def _is_at_rest(self) -> bool:
        """Whether the value moved, and hardly does at the end."""
        steps = np.abs(self.moves)
        return bool(steps[-len(self.tail) :].max() <= RESTING * steps.max() > 0)

    def _stopped(self) -> Explanation | None:
        """At rest on a slope: the rate has decayed, or something holds the value."""
        gradients, lrs = self.log.gradients, self.log.lrs
        steps = np.abs(self.moves)
        if gradients is None or not np.isfinite(gradients[:-1]).all():
            return None
        late = gradients[-len(self.tail) : -1]
        slope, steepest = float(late.mean()), float(np.abs(gradients[:-1]).max())
        # In a minimum noise, or a kink, makes slopes of both signs.
        noise = CLEAR * float(late.std()) / math.sqrt(len(late))
        if steps[-1] > RESTING * steps.max() or abs(slope) <= max(RESTING * steepest, noise):
            return None
        evidence = {"slope": slope, "steepest": steepest}
        name, value = self.log.value_name, self.parameter.show(float(self.values[-1]))
        text = f"{name} stands still at {value} on a slope of {slope:.3g} ({steepest:.3g} where it "
        text += "was steepest): "
        if self._has_decayed:
            text += "the learning rate had decayed before it arrived. Take more steps, or let the "
            text += "rate decay later."
            return self._result("step_too_small", text, evidence)
        if lrs is not None:
            asked = abs(float((lrs[-len(self.tail) : -1] * late).sum()))
            if not abs(self.tail[-1] - self.tail[0]) <= HOVERING * asked:
                return None
        text += "a clamp, weight decay or something else beside the loss holds it"
        text += ", or the rate decayed" if lrs is None else ""
        return self._result("inconclusive", f"{text}.", evidence)

    def _resting_elsewhere(self) -> Explanation | None:
        if self.target is None or not self._progress() or self._surrounds_target():
            return None
        final, last = float(self.values[-1]), self.levels[2]
        for unit, other in ("degrees", math.radians(final)), ("radians", math.degrees(final)):
            if abs(other - self.target) <= SAME_ANGLE * abs(self.target):
                cure = "give --target and --period in the log's unit."
                text = f"It settled at {final:.4g}, which in {unit} is the target: {cure}"
                return self._result("inconclusive", text)
        passed = self._passed_target()
        if passed is not None:
            return passed
        away = float(np.median(np.abs(self.parameter.offset(self.tail, self.target))))
        way = float(np.abs(self.offsets).max())
        # How much lower a parabola about the target would be there.
        lower = (self.levels[0] - last) * (away / way) ** 2
        slopes = self.log.gradients
        is_noisy = slopes is not None and self.disorder(np.nan_to_num(slopes)) > NEUMANN
        if away <= HOVERING * way and (is_noisy or lower <= CLEAR * self.noise):
            text = f"Healthy but for noise: it ended {self.parameter.show(away)} from the target, "
            text += "nearer than the noise can distinguish."
            return self._result("healthy", text)
        if away <= BESIDE * way:
            text = f"It settled {self.parameter.show(away)} beside the target, at loss {last:.3g}, "
            text += "and not at it: the loss may be lowest there, or noise, a bound or a rate that "
            text += "has decayed left it there. Check the target, and what the loss is compared "
            return self._result("inconclusive", f"{text}with.")
        cure = "Start nearer to the target, or search the range first (`gabordiag sweep`)."
        text = f"It settled {self.parameter.show(away)} away from the target, at loss {last:.3g}: "
        decayed = " or the rate decayed" if self.log.lrs is None or self._has_decayed else ""
        doubt = "" if self.log.gradients is not None else f", unless a bound holds it{decayed}"
        text += f"another minimum{doubt}. {cure}"
        return self._result("wrong_basin", text, {"distance": away})

    def _fallen_back(self) -> Explanation | None:
        begin, best, last = self.levels
        if last - best <= max(self._doubt(), LOST * (begin - best)):
            return None
        cure = f"Keep the best step, and try a smaller learning rate, {self.rate()}."
        if begin - best <= HOVERING * (last - best):
            cure = f"Try a smaller learning rate, {self.rate()}; if the loss rises with it too, "
            cure += "check the gradient's sign, and that the loss is minimised."
        text = f"{self._lowest_and_last()}: it left the better place. {cure}"
        return self._result("step_too_large", text, {"best": best, "last": last})

    def _lowest_and_last(self) -> str:
        row = int(np.argmin(self.losses))
        lowest, last = float(self.losses[row]), float(self.losses[-1])
        return f"It was at loss {lowest:.3g} at step {self.step(row)} and ended at {last:.3g}"

    def _doubt(self) -> float:
        """By so much the end may lie above the best tenth and be as low."""
        rounding = ROUNDINGS * float(np.finfo(np.float64).eps) * self.height
        noise = (CLEAR + LOWEST_OF_TEN) * self.noise
        return max(noise, PROGRESS * abs(self.levels[2]), rounding)

    def _settled(self) -> Explanation:
        begin, best, last = self.levels
        products = self.lr_times_curvature
        # A mean of many losses may be calm where the value is not.
        late = np.ptp(self.values[-len(self.last_losses) :])
        is_calm = self._progress() and late <= WILD_SPREAD * np.ptp(self.values)
        if products is not None and not is_calm and not self._is_left_to_noise:
            known = products[np.isfinite(products)]
            evidence = {"lr_times_curvature": float(np.quantile(known, 0.9)) if known.size else 0.0}
            if evidence["lr_times_curvature"] > PLAIN_LIMIT:
                stays = "The loss does not fall"
                if self._progress():
                    stays = f"{self.log.value_name} does not settle, however calm the loss"
                text = f"{stays}{self._smaller_rate(evidence)}"
                return self._result("step_too_large", text, evidence)
        if not self._progress() and self._is_at_rest:
            name, place = self.log.value_name, self.parameter.show(float(self.values[-1]))
            text = f"{name} settled at {place}; whether the loss fell, its noise hides: "
            text += f"{begin:.4g} at the beginning, {last:.4g} at the end. Log the loss over more "
            return self._result("inconclusive", f"{text}data now and then.")
        if not self._progress():
            text = (
                f"The loss has not fallen: {begin:.4g} at the beginning, {last:.4g} at the end. "
                "Try other learning rates, larger and smaller, and check that the gradient "
                "arrives."
            )
            return self._result("no_progress", text, {"begin": begin, "last": last})
        if min(last, float(self.last_losses.min())) - best > self._doubt():
            text = f"{self._lowest_and_last()}: keep the best step. Why the loss rose, the log "
            return self._result("inconclusive", f"{text}does not show.")
        text = (
            f"Nothing looks wrong: the loss settled at {last:.3g}, the lowest of the log but for "
            "noise. Only the landscape shows whether a lower minimum exists."
        )
        return self._result("healthy", text)


class _Curve(_Judge):
    """Looks at the loss alone: what its curve shows, and never why."""

    unknowable = CURVE_ALONE

    def looks(self) -> tuple[Callable[[], Explanation | None], ...]:
        """Returns the looks that need no value."""
        return (
            self._nonfinite, self._too_short, self._overflow, self._growing, self._repeating,
            self._jumping, self._overfitting, self._fallen_back, self._descending, self._settled,
        )  # fmt: skip

    def _jumping(self) -> Explanation | None:
        """Sudden rises, again and again, after slow falls or as the losses before have it."""
        half = len(self.losses) // 2
        late = int((self.jump_rows >= half).sum())
        moves = np.diff(self.losses[half:])
        # Of noise half, whatever its law; rounded, it often stays where it is.
        ups = float((moves > 0).sum() / max(1, np.count_nonzero(moves)))
        if late < RECURRING or not (ups <= SAWTOOTH_RISES or self.follows_itself):
            return None
        falls, why, count = "falls slowly and", "", len(self.jumps)
        if ups > SAWTOOTH_RISES:
            falls, why = "falls and", ", and not by chance: like losses are followed by like ones"
        cure = f"A smaller learning rate, try {self.rate()}, ends this."
        text = f"The loss {falls} jumps back, {count} times{why}. {cure}"
        evidence = {"jumps": count, "share_of_rises": ups}
        return self._result("step_too_large", text, evidence)

    def _overfitting(self) -> Explanation | None:
        """Does the loss on held-out data rise again, while that of the training falls?"""
        held = self.log.held_out
        if held is None or len(held.losses) < SHORTEST_LOG or not np.isfinite(held.losses).all():
            return None
        curve, lowest = _Curve(held, None, None), int(np.argmin(held.losses))
        if curve._fallen_back() is None:
            return None
        name, least, last = held.value_name, held.losses[lowest], curve.levels[2]
        text = f"{name} was lowest, {least:.3g}, at step {curve.step(lowest)}, and ended at "
        text += f"{last:.3g}: the model overfits"
        if np.array_equal(held.losses, self.losses):
            text += ", or the rate is too large; the training's loss would show which. "
            return self._result("inconclusive", f"{text}Keep the best step.")
        if not self._progress() or self._fallen_back() is not None:
            return None
        text = f"The descent goes well, but {text}. Keep that step, or have more data or a "
        return self._result("healthy", f"{text}stronger regularisation.")

    def _settled(self) -> Explanation:
        begin, _, last = self.levels
        change = f"from {begin:.4g} to {last:.4g}, and"
        varies = (
            f"varies by {self.spread:.3g}: noise of batches, or a rate that is too large. Only the "
            "parameter's values would show which."
        )
        if self._progress():
            if self.spread <= WILD_SPREAD * self.height:
                return super()._settled()
            return self._result("inconclusive", f"The loss ends lower, {change} still {varies}")
        evidence = {"begin": begin, "last": last}
        if self.spread > WILD_SPREAD * abs(last):
            text = f"The loss has not fallen, {change} {varies}"
            return self._result("no_progress", text, evidence)
        classes = round(math.exp(last)) if 0 < last < MOST_CLASSES else 0
        guess = math.log(max(1, classes))
        is_near = abs(last - guess) <= GUESSING * guess + self.noise <= 2 * GUESSING * guess
        if classes < 2 or not is_near:
            return super()._settled()
        text = (
            f"The loss has not fallen from {last:.4g}, as of guessing one of {classes} classes (ln "
            f"{classes} = {guess:.4g}). Try other learning rates, and check that the gradient "
            "arrives."
        )
        return self._result("no_progress", text, evidence | {"guess": guess})
