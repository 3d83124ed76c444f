"""The one table of stability bounds: up to which learning rate an optimizer stays at a minimum.

Near a minimum of curvature L'' the gradient is L'' x, an update is linear in the iterate and its
velocity, and the iterate converges as long as all eigenvalues of that map lie inside the unit
circle. With h = lr L'' and momentum beta, the first to leave is the one that passes through -1:

- plain descent: x <- (1 - h) x, stable for h < 2;
- heavy ball: v <- beta v + L'' x, x <- x - lr v; trace 1 + beta - h, determinant beta, and
  1 + trace + determinant = 0 at h = 2 (1 + beta);
- Nesterov as in torch: x <- x - lr (L'' x + beta v) with the new v; trace 1 + beta - (1 + beta) h,
  determinant beta (1 - h), hence h = 2 (1 + beta) / (1 + 2 beta);
- Adam and its relatives average the gradients, v <- beta v + (1 - beta) g: heavy ball, or Nesterov
  for NAdam, with (1 - beta) lr, on the preconditioned curvature.

At a kink the slope does not vanish, so no rate converges: the iterate bounces by lr x slope, which
stays within the tolerance for lr < tolerance / slope.

All bounds are local. They say nothing about a start elsewhere (Meng et al. 2024, arXiv 2406.05033).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from numpy.polynomial.polynomial import polyval

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.landscape.points import PLAIN_LIMIT, CriticalPoint, Landscape

# Differences above this are explained in words.
REMARKABLE = 0.10
# torch's default of the Adam family.
_ADAM_BETA1 = 0.9
_SETTLES_SLOWLY = (
    "the bound is local: a little beside the target the curvature already differs, and a run that "
    "settles slowly does not arrive within the steps"
)
_DIVISOR_SHRINKS = (
    "nearer to the minimum the gradients and with them Adam's divisor shrink, the preconditioned "
    "curvature grows, and steps of about lr remain"
)


@dataclass(frozen=True)
class Bound:
    """The stability bound of one kind of optimizer: a multiple of that of plain descent.

    Numerator and denominator of the multiple are polynomials in the momentum β, the constant first.
    In an estimate the preconditioned curvature is taken as 1 / tolerance: gradients at the edge of
    the tolerance are curvature x tolerance, and the optimizer divides by their size. The caveat
    says why a measurement may differ.
    """

    formula: str
    source: str
    caveat: str = _SETTLES_SLOWLY
    numerator: tuple[float, ...] = (1.0,)
    denominator: tuple[float, ...] = (1.0,)
    is_estimate: bool = False

    def limit(self, beta: float) -> float:
        """Returns what lr x (preconditioned) curvature must stay below."""
        return float(PLAIN_LIMIT * polyval(beta, self.numerator) / polyval(beta, self.denominator))

    def limit_of(self, settings: OptimizerSettings) -> float:
        """Returns the limit at the settings' momentum, or at that of the Adam family."""
        return self.limit(_ADAM_BETA1 if self.is_estimate else settings.momentum)

    def to_dict(self) -> dict[str, Any]:
        """Returns what a page needs to show the bound at any momentum."""
        return {
            "symbol": self.formula,
            "numerator": list(self.numerator),
            "denominator": list(self.denominator),
        }


_GOH, _COHEN = "Goh 2017, doi 10.23915/distill.00006", "Cohen et al. 2022, arXiv 2207.14484"
_PRECONDITIONED = Bound(
    "2(1 + β)/(1 − β) × tolerance", _COHEN, _DIVISOR_SHRINKS, (1, 1), (1, -1), is_estimate=True
)
BOUNDS = {
    "plain": Bound("2/L″", _GOH),
    "heavy_ball": Bound("2(1 + β)/L″", _GOH, numerator=(1, 1)),
    "nesterov": Bound(
        "2(1 + β)/((1 + 2β)L″)", "the 2 x 2 matrix above", numerator=(1, 1), denominator=(1, 2)
    ),
    "adam": _PRECONDITIONED,
    "adamw": _PRECONDITIONED,
    "radam": _PRECONDITIONED,
    # (1 + 2 beta) (1 - beta) = 1 + beta - 2 beta^2.
    "nadam": Bound(
        "2(1 + β)/((1 + 2β)(1 − β)) × tolerance", "Nesterov's and Adam's together",
        _DIVISOR_SHRINKS, (1, 1), (1, 1, -2), is_estimate=True,
    ),
    "kink": Bound(
        "tolerance/slope", "a bounce of lr x slope", "where a bounce ends depends on the path"
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Theory:
    """A bound at one minimum or kink: the largest stable rate, and `hold_lr` as measured.

    The scan's next rate is `beyond`: what it knows is that stability ends between the two.
    """

    bound: float
    entry: Bound
    formula: str
    measured: float | None = None
    place: str = "target"
    beyond: float = math.inf

    @property
    def explanation(self) -> str:
        """Bound and measurement in words, and why they differ where they do."""
        text = f"Theory: {self.formula} = {self.bound:.4g}."
        if self.measured is not None:
            text += f" Measured: the {self.place}'s basin is stable up to {self.measured:.4g}"
            differs = abs(self.measured - self.bound) > REMARKABLE * self.bound
            differs &= not self.measured <= self.bound <= self.beyond
            ratio = f"{self.measured / self.bound:.2g}"
            text += f", {ratio} times that: {self.entry.caveat}." if differs else "."
        return text

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "bound": self.bound,
            "formula": self.formula,
            "symbol": self.entry.formula,
            "is_estimate": self.entry.is_estimate,
            "measured": self.measured,
            "explanation": self.explanation,
        }


def bound_entry(settings: OptimizerSettings) -> Bound | None:
    """Returns the table's entry of an optimizer at a minimum, or None where there is none."""
    kind = settings.optimizer
    if kind == "sgd":
        kind = "nesterov" if settings.nesterov else "heavy_ball" if settings.momentum else "plain"
    return BOUNDS.get(kind)


def curvature_limit(settings: OptimizerSettings) -> float | None:
    """Returns what lr x curvature must stay below at a minimum; None where no number is known."""
    entry = bound_entry(settings)
    return None if entry is None or entry.is_estimate else entry.limit_of(settings)


def stability_bound(
    point: CriticalPoint, settings: OptimizerSettings, tolerance: float
) -> Theory | None:
    """Returns the largest stable learning rate at a minimum or kink, or None without theory."""
    entry = bound_entry(settings)
    if entry is None or settings.schedule != "constant":
        return None
    if point.slope is not None:
        # Velocity makes a bounce longer, by an amount that depends on the path.
        if entry is not BOUNDS["plain"] or not point.slope > 0:
            return None
        words = (
            "no rate converges at a kink; the bounce lr x slope stays within the tolerance for "
            "lr < tolerance / slope"
        )
        return Theory(tolerance / point.slope, BOUNDS["kink"], words)
    if point.curvature is None or not point.curvature > 0:
        return None
    limit = entry.limit_of(settings)
    if entry.is_estimate:
        words = (
            f"preconditioned curvature below {limit:.3g} / lr, with gradients as at the edge of "
            f"the tolerance: lr < {limit:.3g} x tolerance"
        )
        return Theory(limit * tolerance, entry, words)
    return Theory(limit / point.curvature, entry, f"stability needs lr < {limit:.4g} / curvature")


def hold_theory(
    landscape: Landscape,
    settings: OptimizerSettings,
    measured: float | None,
    beyond: float = math.inf,
) -> Theory | None:
    """Returns the bound at the goal beside the measured `hold_lr`, or None without theory."""
    point, parameter = landscape.goal, landscape.parameter
    found = None if point is None else stability_bound(point, settings, parameter.tolerance)
    place = parameter.goal_name
    return found and replace(found, measured=measured, place=place, beyond=beyond)
