"""What a log holds, measured: its jumps, its period, the curvature of its secants.

From these `explain.py` draws its conclusions. Rows of a log may be some steps apart.
"""

from __future__ import annotations

import math

import numpy as np

from gabordiag.diagnosis.log.readers import Log
from gabordiag.dynamics.outcomes import Jump, find_period, jump_steps, tail_length
from gabordiag.objective.objective import FloatArray, Parameter


class LogMeasures:
    """A log (n rows) and what is measured on it.

    Args:
        log: Its columns.
        target: The value that should have been reached, if known.
        period: Of the parameter, if it has one.

    Attributes:
        parameter: The logged one; its range is that of the log, or its period.
        losses, values: (n,).
        height: Span of the finite losses.
        first_losses, last_losses, last_values: Those of the first and of the last third.
        stride: Steps between two rows.
        jump_rows: Rows before a jump of the loss.
        jumps: The same, described.
        period: In rows; 0 where nothing repeats.
    """

    def __init__(self, log: Log, target: float | None, period: float | None) -> None:
        self.log = log
        self.target = target
        finite = log.values[np.isfinite(log.values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if period is not None:
            low, high = -period / 2, period / 2
        is_angle = period is not None and any(
            math.isclose(period, whole) for whole in (math.pi, 2 * math.pi)
        )
        width = high - low if high > low else max(abs(high), 1.0)
        self.parameter = Parameter(
            log.value_name, low, low + width, period, target, low, is_angle=is_angle
        )
        self.losses, self.values = log.losses, log.values
        known = self.losses[np.isfinite(self.losses)]
        self.height = float(np.ptp(known)) if len(known) else 0.0
        third = max(2, len(self.losses) // 3)
        self.last_losses, self.last_values = self.losses[-third:], self.values[-third:]
        self.first_losses = self.losses[:third]
        # Rows may be some steps apart; what repeats or lasts is then counted in rows.
        self.stride = int(np.median(np.diff(log.steps))) if len(log.steps) > 1 else 1
        self.jump_rows = jump_steps(self.losses, self.height) if self.height > 0 else np.array([])
        self.jumps = self._find_jumps()
        self.period = self._find_period()

    def step(self, row: int) -> int:
        """Returns a row's step, as the log numbers them."""
        return int(self.log.steps[row])

    def _find_jumps(self) -> tuple[Jump, ...]:
        products = self.lr_times_curvature()
        return tuple(
            Jump(
                step=self.step(t),
                start=self.values[t : t + 1],
                end=self.values[t + 1 : t + 2],
                loss_before=float(self.losses[t]),
                loss_after=float(self.losses[t + 1]),
                lr_times_curvature=None if products is None else float(products[t]),
                left_basin=False,
                landed_near=None,
            )
            for t in self.jump_rows
        )

    def lr_times_curvature(self) -> FloatArray | None:
        """Lr x the secant's curvature over every step (n - 1,), where both were logged."""
        if self.log.gradients is None or self.log.lrs is None:
            return None
        change = self.parameter.offset(np.diff(self.values), 0.0)
        product: FloatArray = self.log.lrs[:-1] * np.diff(self.log.gradients) / change
        return product

    def _find_period(self) -> int:
        length = max(tail_length(len(self.losses)), min(len(self.losses) // 2, 200))
        for series, own in ((self.values, self.parameter), (self.losses, None)):
            tail = series[-length:]
            if not np.isfinite(tail).all():
                continue
            width = float(np.ptp(series[np.isfinite(series)])) or 1.0
            along = own or Parameter("loss", 0.0, width, None, None, 0.0)
            period = find_period(along, tail)
            if period >= 2:
                return period
        return self._jump_period()

    def _jump_period(self) -> int:
        """The gap between jumps, where it is always the same: a sawtooth with some noise."""
        gaps = np.diff(self.jump_rows)
        if len(gaps) < 3 or gaps.min() != gaps.max() or gaps[0] < 2:
            return 0
        # A decaying oscillation jumps regularly, too, in the beginning.
        goes_on = len(self.losses) - 1 - self.jump_rows[-1] <= gaps[0]
        return int(gaps[0]) if goes_on else 0

    def rows(self) -> str:
        """Returns what rows are called."""
        return "steps" if self.stride == 1 else f"logged rows ({self.stride} steps apart)"

    def rate(self) -> str:
        """Returns the rate to try, and instead of which: 1 / curvature if known, else a tenth."""
        lrs = self.log.lrs
        if lrs is None or not np.isfinite(lrs).any():
            return "a tenth"
        # A schedule's last rates may be tiny: its largest made the steps too long.
        low, high = float(np.nanmin(lrs)), float(np.nanmax(lrs))
        rate, products = high / 10, self.lr_times_curvature()
        if products is not None:
            steep = np.isfinite(products) & (products > 2)
            rate = float((lrs[:-1][steep] / products[steep]).min()) if steep.any() else rate
        return f"{rate:.2g} instead of {f'{low:g} to ' if low < high else ''}{high:g}"

    def gaps(self) -> tuple[str, ...]:
        """Returns what has to be said of steps between the rows."""
        if self.stride == 1:
            return ()
        return (f"rows are {self.stride} steps apart; what happens between them is not seen",)
