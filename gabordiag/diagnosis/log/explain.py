"""The same diagnosis from a log alone, with what it cannot know said plainly.

Without the landscape there are no basins and no proof; there is what the loss and the value did,
and, where gradients were logged, the curvature of secants: (g[t+1] - g[t]) / (x[t+1] - x[t]).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.diagnosis.log.explanation import Explanation, LogFinding
from gabordiag.diagnosis.log.measures import LogMeasures
from gabordiag.diagnosis.log.readers import read_log
from gabordiag.dynamics.outcomes import DESCENT_SHARE, tail_length
from gabordiag.errors import UsageError
from gabordiag.objective.objective import ANGLE_TOLERANCE
from gabordiag.wording import counted

# Below this nothing repeats three times.
SHORTEST_LOG = 20
# Share of the whole range of losses that the last third still spans in a run that is out of hand.
WILD_SPREAD = 0.3
# Loss must fall by this share of its range, between thirds, to be descending; noise averages out.
DESCENT = 0.02
# A jump of the loss counts as the run's own if the value moved by this share of its whole range.
MOVED = 0.02
# So many jumps in the second half of the log are a habit.
RECURRING = 3
# Before it broke, the loss grew by this factor within so many rows: divergence, not 0/0.
GROWTH, GROWTH_ROWS = 10, 5
# It still grows without bound where its last tenth is this many times the tenth before.
GROWING = 2
# At rest is a value within this share of its longest way from where it ended; uphill for so many
# rows before is no single jump.
RESTING, CLIMB_ROWS = 0.01, 5
# lr x curvature from which it is named as the reason: rest needs less than 2, and secants of a
# cycle just beyond the bound are a little below it.
NEAR_BOUND = 1.9
# V-shaped loss: in a bounce across it, |g| is the same on both sides and loss + loss = |g| |dx|.
KINK_MATCH = 0.2
UNKNOWABLE = (
    "a log alone cannot tell whether another minimum is in the way, whether the derivative is "
    "right, or which learning rates would work; `gabordiag diagnose --from-log` measures these "
    "on the objective"
)


def explain_log(
    source: str | Path | Mapping[str, npt.ArrayLike],
    *,
    target: float | None = None,
    period: float | None = None,
    value_column: str | None = None,
    loss_column: str | None = None,
) -> Explanation:
    """Diagnoses a run from its log.

    Args:
        source: A CSV or JSON-lines file, or columns by name.
        target: The value that should have been reached, if known.
        period: Of the parameter, if it has one; wrapped and unwrapped logs are both understood.
        value_column: Name of the parameter's column.
        loss_column: Name of the loss's column.

    Raises:
        InputError: The log cannot be used.
        UsageError: A column that was asked for is not there.
    """
    for name, number in (("period", period), ("target", target)):
        if number is not None and not math.isfinite(number):
            raise UsageError(f"the {name} {number} is not a finite number.")
    if period is not None and not 1e-9 <= period <= 1e9:
        raise UsageError(f"the period {period:g} is none.", "Give one from 1e-9 to 1e9.")
    log = read_log(source, value_column, loss_column)
    # Diverged logs overflow in differences; what is not finite is told as such.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _Reader(log, target, period).explain()


class _Reader(LogMeasures):
    """Looks at a log from one side after the other; the first that applies gives the verdict."""

    def explain(self) -> Explanation:
        looks = (
            self._nonfinite,
            self._too_short,
            self._reached,
            self._frozen,
            self._climbing,
            self._growing,
            self._cycle,
            self._wild,
            self._descending,
            self._settled,
        )
        return next(found for look in looks if (found := look()) is not None)

    def _result(
        self,
        verdict: str,
        outcome: str | None,
        headline: str,
        evidence: dict[str, Any] | None = None,
    ) -> Explanation:
        findings = []
        if verdict not in ("healthy", "equivalent_solution", "inconclusive"):
            findings.append(LogFinding(verdict, "primary", evidence or {}, headline))
        findings.append(LogFinding("inconclusive", "contributing", {}, UNKNOWABLE))
        period = self.period or None
        return Explanation(
            verdict,
            headline,
            outcome,
            period,
            self.jumps,
            tuple(findings),
            len(self.losses),
            self.log.notes + self.gaps(),
        )

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
        grew = len(before) >= 2 and before[-1] > GROWTH * before[0] > 0
        if grew:
            text = f"The loss grew without bound and broke at step {step}: lower the learning rate."
            return self._result("step_too_large", "nonfinite", text, evidence)
        cells = [("the loss", loss), (self.log.value_name, float(self.values[row]))]
        if gradients is not None and np.isfinite(gradients).any():
            cells.append(("the gradient", float(gradients[row])))
        broken = [f"{name} is {cell}" for name, cell in cells if not math.isfinite(cell)]
        sound = [f"{name} {cell:.3g}" for name, cell in cells if math.isfinite(cell)]
        but = f" ({', '.join(sound)})" if sound else ""
        text = (
            f"At step {step} {' and '.join(broken)}{but}: look for 0/0 just before, such as a "
            "square root at zero loss, and use the squared loss."
        )
        return self._result("nonfinite_gradient", "nonfinite", text, evidence)

    def _too_short(self) -> Explanation | None:
        if len(self.losses) >= SHORTEST_LOG:
            return None
        few = counted(len(self.losses), "step is", f"{self.rows()} are")
        text = f"{few} too few to judge: log at least {SHORTEST_LOG}."
        return self._result("inconclusive", None, text)

    def _frozen(self) -> Explanation | None:
        if np.ptp(self.values) > 0:
            return None
        gradients = self.log.gradients
        if gradients is not None and np.any(np.nan_to_num(gradients) != 0):
            text = (
                f"{self.log.value_name} never moves although gradients arrive: the optimizer does "
                "not hold it. Pass it to the optimizer's constructor."
            )
        else:
            text = (
                f"{self.log.value_name} never moves: no gradient reaches it, or the optimizer does "
                "not hold it. Look for .data, .detach(), torch.no_grad() or a new Parameter on its "
                "way to the loss."
            )
        return self._result("no_gradient", "frozen", text)

    def _way(self) -> int:
        """Returns how many rows pass until the value is where it comes to rest."""
        apart = np.abs(self.parameter.offset(self.values, float(self.values[-1])))
        away = np.flatnonzero(apart > RESTING * apart.max())
        return int(away[-1]) + 2 if len(away) else 0

    def _climbing(self) -> Explanation | None:
        """Uphill step after step in one direction, for ever or up to a maximum."""
        way = self._way()
        if way < CLIMB_ROWS:
            return None
        tenth = max(2, way // 10)
        losses, values = self.losses[:way], self.values[:way]
        begin, end = float(np.median(losses[:tenth])), float(np.median(losses[-tenth:]))
        ups = float(np.mean(np.diff(losses) > 0))
        steps = np.sign(self.parameter.offset(np.diff(values), 0.0))
        turns = float(np.mean(steps[1:] != steps[:-1]))
        if not (
            end - begin > WILD_SPREAD * self.height and ups >= DESCENT_SHARE and turns <= 1 - ups
        ):
            return None
        evidence = {"begin": begin, "end": end, "share_of_rises": ups}
        text = (
            f"The loss rises at nearly every step, from {begin:.3g} to {end:.3g}, and "
            f"{self.log.value_name} moves one way: it climbs. Check the gradient's sign, and that "
            "the loss is minimised."
        )
        outcome = "running" if way == len(self.losses) else None
        return self._result("wrong_gradient", outcome, text, evidence)

    def _growing(self) -> Explanation | None:
        """Ever higher across a minimum."""
        tenth = max(2, len(self.losses) // 10)
        before, end = (float(np.median(self.losses[-n * tenth :][:tenth])) for n in (2, 1))
        begin = float(np.median(self.losses[:tenth]))
        ups = float(np.mean(np.diff(self.losses) > 0))
        shown = f"from {begin:.3g} to {end:.3g}"
        evidence = {"begin": begin, "end": end, "share_of_rises": ups}
        if end > GROWTH * begin > 0 and end > GROWING * before:
            text = f"The loss grows without bound, {shown}: {self._smaller_rate()}."
            return self._result("step_too_large", "erratic", text, evidence)
        return None

    def _reached(self) -> Explanation | None:
        if self.target is None:
            return None
        tail = self.values[-max(2, tail_length(len(self.values))) :]
        offsets = np.abs(self.parameter.offset(tail, self.target))
        if offsets.max() > self._tolerance():
            return None
        turns = 0
        if self.parameter.period is not None:
            turns = round((float(tail[-1]) - self.target) / self.parameter.period)
        shown = self.parameter.show(self.target)
        if turns:
            text = (
                f"No failure: it ended at the target {shown} {'plus' if turns > 0 else 'minus'} "
                f"{abs(turns)} period{'s' if abs(turns) > 1 else ''}, the same solution."
            )
            return self._result("equivalent_solution", "reached", text)
        text = f"Healthy: it reached the target {shown} and stays. Nothing needs to change."
        return self._result("healthy", "reached", text)

    def _tolerance(self) -> float:
        return ANGLE_TOLERANCE if self.parameter.is_angle else self.parameter.tolerance

    def _cycle(self) -> Explanation | None:
        if not self.period:
            return None
        swing = self.losses[-self.period :]
        evidence: dict[str, Any] = {
            "period": self.period,
            "loss_low": float(swing.min()),
            "loss_high": float(swing.max()),
        }
        products = self.lr_times_curvature()
        if products is not None and np.isfinite(products[-self.period :]).any():
            evidence["lr_times_curvature"] = float(np.nanmax(products[-self.period :]))
        slope = self._kink_slope()
        if slope is not None:
            evidence["slope"] = slope
            text = (
                f"It bounces across a V-shaped minimum with period {self.period}: the slope "
                f"{slope:.3g} does not vanish there. Use the squared loss (mse), or decay the rate."
            )
            return self._result("kink", "cycle", text, evidence)
        outcome = "running" if self._drifts() else "cycle"
        text = (
            f"It repeats a cycle of {self.period} {self.rows()} for ever (loss {swing.min():.3g} "
            f"to {swing.max():.3g}){self._curvature_words(evidence)}: {self._smaller_rate()}."
        )
        return self._result("step_too_large", outcome, text, evidence)

    def _drifts(self) -> bool:
        period = self.parameter.period
        if period is None or not self.period:
            return False
        return abs(float(self.values[-1] - self.values[-1 - self.period])) > period / 2

    def _kink_slope(self) -> float | None:
        """The slope of a V across which the run bounces, or None."""
        gradients = self.log.gradients
        if gradients is None or self.period != 2 or self.stride != 1:
            return None
        a, b = (abs(float(g)) for g in gradients[-3:-1])
        step = abs(float(self.parameter.offset(self.values[-2] - self.values[-3], 0.0)))
        both = float(self.losses[-2] + self.losses[-3])
        if not (a > 0 and b > 0 and step > 0):
            return None
        straight = abs(both - (a + b) / 2 * step) <= KINK_MATCH * both
        return (a + b) / 2 if straight and abs(a - b) <= KINK_MATCH * max(a, b) else None

    def _wild(self) -> Explanation | None:
        spread = float(np.subtract(*np.quantile(self.last_losses, (0.95, 0.05))))
        # Noise in the loss leaves the value where it is; a jump moves it.
        reach = MOVED * float(np.ptp(self.values))
        moved = self.jump_rows[[abs(jump.end - jump.start) > reach for jump in self.jumps]]
        recurring = int((moved >= len(self.losses) // 2).sum()) >= RECURRING
        if not recurring and (spread <= WILD_SPREAD * self.height or self._falls()):
            return None
        evidence: dict[str, Any] = {"jumps": len(self.jumps), "spread": spread}
        products = [j.lr_times_curvature for j in self.jumps if j.lr_times_curvature is not None]
        if products:
            evidence["lr_times_curvature"] = max(products)
        text = (
            f"The loss falls and jumps back {len(self.jumps)} times without a period"
            f"{self._curvature_words(evidence)}: {self._smaller_rate()}."
        )
        return self._result("step_too_large", "erratic", text, evidence)

    def _falls(self) -> bool:
        drop = float(np.median(self.first_losses) - np.median(self.last_losses))
        return drop > DESCENT * self.height

    def _curvature_words(self, evidence: Mapping[str, Any]) -> str:
        product = evidence.get("lr_times_curvature")
        if product is None or not math.isfinite(product) or product < NEAR_BOUND:
            return ""
        return f", lr x curvature {product:.3g} where rest needs less than 2"

    def _smaller_rate(self) -> str:
        return (
            f"a smaller learning rate, try {self.rate()}, ends this; whether it then finds the "
            "target depends on the start"
        )

    def _descending(self) -> Explanation | None:
        half = len(self.last_losses) // 2
        drop = float(np.median(self.last_losses[:half]) - np.median(self.last_losses[half:]))
        if drop <= DESCENT * self.height or not self._falls():
            return None
        evidence = {"drop_in_last_third": drop}
        count = f"{len(self.losses)} {self.rows()}"
        if self.target is not None:
            passed = self._passed_target()
            if passed is not None:
                return passed
            text = f"Still descending after {count}: run more, or raise the rate."
            return self._result("step_too_small", "unfinished", text, evidence)
        text = f"Nothing looks wrong: after {count} the loss is still going down. Run more steps."
        return self._result("healthy", "unfinished", text)

    def _passed_target(self) -> Explanation | None:
        """Has it left the target behind, downhill? More steps lead farther away."""
        assert self.target is not None
        offsets = self.parameter.offset(self.values, self.target)
        # Of a periodic parameter the sign changes half a period away, too.
        near = np.abs(np.diff(self.values)) >= np.abs(offsets[:-1])
        crossed = np.flatnonzero((offsets[:-1] * offsets[1:] <= 0) & near)
        if len(crossed) == 0:
            return None
        row = int(crossed[-1])
        there, now = float(self.losses[row : row + 2].min()), float(self.last_losses[-1])
        leaves = bool((np.diff(np.abs(offsets[row + 1 :])) >= 0).all())
        if not leaves or there - now <= DESCENT * self.height:
            return None
        text = (
            f"It passed the target {self.parameter.show(self.target)} at step {self.step(row)} "
            f"with loss {there:.3g} and is still descending, now at loss {now:.3g}: the loss is "
            "lower elsewhere. Check the target, and what the loss is compared with."
        )
        evidence = {"step": self.step(row), "loss_at_target": there, "loss": now}
        return self._result("target_unreachable", "unfinished", text, evidence)

    def _settled(self) -> Explanation:
        # Medians of tenths: a single low value is noise.
        best = min(float(np.median(part)) for part in np.array_split(self.losses, 10))
        last = float(np.median(self.last_losses))
        if self.target is not None:
            in_radians = math.radians(float(self.values[-1]))
            if abs(self.parameter.offset(in_radians, self.target)) <= self._tolerance():
                text = (
                    f"It settled at {self.values[-1]:.4g}, which in degrees is the target: give "
                    "--target and --period in the log's unit."
                )
                return self._result("inconclusive", None, text)
            away = float(self.parameter.offset(self.values[-1], self.target))
            text = (
                f"It settled {self.parameter.show(abs(away))} away from the target, at loss "
                f"{last:.3g}: another minimum. Start nearer to the target, or search the range "
                "first (`gabordiag sweep`)."
            )
            return self._result("wrong_basin", "local_minimum", text, {"distance": abs(away)})
        lowest, settled = float(self.losses.min()), float(self.last_losses.min())
        if lowest < settled - float(np.ptp(self.last_losses)):
            # More than the noise that it settled in.
            best = min(best, lowest)
        if last - best > WILD_SPREAD * self.height and self.height > 0:
            text = (
                f"It was at loss {best:.3g} and ended at {last:.3g}: it left the better place. "
                f"Keep the best step, and try a smaller learning rate, {self.rate()}."
            )
            return self._result("step_too_large", None, text, {"best": best, "last": last})
        text = (
            f"Nothing looks wrong: the loss settled at {last:.3g}, the lowest of the log but for "
            "noise. Whether a lower minimum exists, only the landscape tells."
        )
        return self._result("healthy", None, text)
