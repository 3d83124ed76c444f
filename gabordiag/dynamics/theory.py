"""What theory says the target's basin holds, beside what was measured.

All bounds are local: they say at which rate rest at the minimum becomes unstable, nothing about a
start elsewhere (Meng et al. 2024, arXiv 2406.05033).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.landscape.critical import CriticalPoint, Landscape

# Differences above this are explained in words.
REMARKABLE = 0.10
# torch's default.
_ADAM_BETA1 = 0.9
_ADAM_FAMILY = ("adam", "adamw", "nadam", "radam")


@dataclass(frozen=True)
class Theory:
    """A bound and the measurement.

    Attributes:
        bound: Learning rate from theory.
        formula: How it comes about.
        measured: `hold_lr`, or None.
        explanation: Both in words, and why they differ where they do.
    """

    bound: float
    formula: str
    measured: float | None
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "bound": self.bound,
            "formula": self.formula,
            "measured": self.measured,
            "explanation": self.explanation,
        }


def hold_theory(
    landscape: Landscape, settings: OptimizerSettings, measured: float | None
) -> Theory | None:
    """Returns the bound for the target's minimum, or None where theory has none.

    Args:
        landscape: With the target's critical point.
        settings: Of the optimizer.
        measured: `hold_lr` of a scan.
    """
    target = landscape.target
    if target is None:
        return None
    found = _bound(target, settings, landscape.parameter.tolerance)
    if found is None:
        return None
    bound, formula, caveat = found
    text = f"Theory: {formula} = {bound:.4g}."
    if measured is not None:
        text += f" Measured: the target's basin holds rates up to {measured:.4g}"
        differs = abs(measured - bound) > REMARKABLE * bound
        text += f", {measured / bound:.2g} times that: {caveat}." if differs else "."
    return Theory(bound, formula, measured, text)


def _bound(
    target: CriticalPoint, settings: OptimizerSettings, tolerance: float
) -> tuple[float, str, str] | None:
    """Returns the rate, its formula, and why a measurement may differ."""
    beta = settings.momentum
    if target.slope is not None:
        if not settings.is_gradient_descent or beta:
            return None
        # A bounce of lr x slope fits into the tolerance on either side of the kink.
        return (
            tolerance / target.slope,
            "at a kink no rate rests; the bounce lr x slope stays within the tolerance for "
            "lr < tolerance / slope",
            "where exactly a bounce comes to lie depends on the path",
        )
    if target.curvature is None:
        return None
    if settings.is_gradient_descent:
        factor = "2" if not beta else f"2 (1 + {beta:g})"
        # Goh 2017, doi 10.23915/distill.00006.
        return (
            2 * (1 + beta) / target.curvature,
            f"rest needs lr < {factor} / curvature",
            "the bound is local; a little beside the target the curvature already differs, "
            "and a run that settles slowly does not arrive within the steps",
        )
    if settings.optimizer in _ADAM_FAMILY:
        # Cohen et al. 2022, arXiv 2207.14484: preconditioned curvature < (2 + 2 b1)/((1 - b1) lr).
        # Gradients at the edge of the tolerance are curvature x tolerance, which is what the
        # preconditioner divides by: preconditioned curvature 1 / tolerance.
        limit = (2 + 2 * _ADAM_BETA1) / (1 - _ADAM_BETA1)
        return (
            limit * tolerance,
            f"preconditioned curvature below {limit:.3g} / lr, with gradients as at the edge of "
            f"the tolerance: lr < {limit:.3g} x tolerance",
            "nearer to the minimum the gradients and with them Adam's divisor shrink, the "
            "preconditioned curvature grows, and steps of about lr remain",
        )
    return None
