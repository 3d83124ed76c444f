"""The data of the interactive page: series, critical points, bounds, thresholds, and a diagnosis.

The page runs the optimizers itself, so nothing here is a table of runs. Every loss comes as its
factored series with its landscape, in float64. What the page says of the settings it opens with is
what `diagnose` says of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from gabordiag.diagnosis.causes import FLAT_RISE, FLAT_SLOPE
from gabordiag.diagnosis.verdict import SHORTEST_TAIL, Diagnosis, diagnose_objective
from gabordiag.dynamics import outcomes
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.theory import bound_entry, stability_bound
from gabordiag.dynamics.windows import SCAN_STEPS, beside_target, suitable_rates
from gabordiag.errors import InputError, UsageError
from gabordiag.explorer.factored import FactoredSeries, factor_series
from gabordiag.explorer.pictures import ResponsePictures, picture_responses
from gabordiag.landscape.critical import Landscape, find_critical_points
from gabordiag.landscape.series_objective import cheap_objective
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.line import Line
from gabordiag.results import Data, Result

# The optimizers that the page offers: name -> (in words, name in `OPTIMIZERS`, takes momentum).
# `optimizers.js` implements each once more.
OFFERED: dict[str, tuple[str, str, bool]] = {
    "sgd": ("SGD", "sgd", False),
    "heavy_ball": ("SGD with momentum (heavy ball)", "sgd", True),
    "nesterov": ("SGD with Nesterov momentum", "sgd", True),
    "adam": ("Adam", "adam", False),
    "rmsprop": ("RMSprop", "rmsprop", False),
}
# The thresholds of `outcomes.py` that the page decides by, and those of the diagnosis.
_RULES = (
    "TAIL_FRACTION", "MAX_PERIOD", "REPEAT_TOLERANCE", "ROUNDING_MOVE", "PLATEAU_MOVE",
    "PLATEAU_SLOPE", "SETTLED_SHARE", "DESCENT_SHARE", "DECAY_WINDOWS", "DECAY_DROP", "SYMPTOM_LOW",
    "SYMPTOM_HIGH",
)  # fmt: skip
_DIAGNOSIS_RULES = {
    "flat_slope": FLAT_SLOPE,
    "flat_rise": FLAT_RISE,
    "shortest_tail": SHORTEST_TAIL,
    "scan_steps": SCAN_STEPS,
}
# Causes in the loss or its gradient: where one is present, it is the cause of every failure.
_FOR_EVERY_RUN = {
    "no_gradient", "wrong_gradient", "nondeterministic", "flat_objective", "target_unreachable",
}  # fmt: skip
# Largest error of a series, relative to the largest loss, with which the page shows it.
_FOLLOWS = 1e-4


@dataclass(frozen=True, eq=False)
class ExploredLoss:
    """One loss that the page offers.

    Attributes:
        name: `mse`, `rmse`, or what a custom objective calls its loss.
        is_root: The loss is the square root of what the series gives.
        squared: Name of the loss under the root, where there is one.
        landscape: Its critical points.
        series: Of the smooth loss.
    """

    name: str
    is_root: bool
    squared: str | None
    landscape: Landscape
    series: FactoredSeries

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them, with what the scans of learning rates need."""
        landscape = self.landscape
        scans = {name: suitable_rates(landscape, _plain(name)) for name in OFFERED}
        return {
            "is_root": self.is_root,
            "squared": self.squared,
            "landscape": {**landscape.to_dict(), "goal": landscape.goal_value},
            # Of plain descent; an optimizer's `bound` says which multiple of it is its own.
            "bounds": [
                None if theory is None else {"lr": theory.bound, "symbol": theory.entry.formula}
                for theory in (
                    stability_bound(point, OptimizerSettings(), landscape.parameter.tolerance)
                    for point in landscape.points
                )
            ],
            "beside_target": beside_target(landscape),
            "scans": {
                name: {"low": lrs[0], "high": lrs[-1], "count": len(lrs)}
                for name, lrs in scans.items()
            },
            "series": self.series.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Exploration(Result):
    """Everything that the page needs.

    Attributes:
        settings: Optimizer, rate, momentum and steps that it opens with.
        start: The start that it opens with.
        loss_name: The loss that it opens with.
        losses: The losses that it offers.
        diagnosis: Of the run that it opens with.
        filter: Constant parameters of the kernel and its side; None for a custom objective.
        pictures: Responses along theta; None for a custom objective.
        subject: Name of the image or of the custom objective.
    """

    settings: OptimizerSettings
    start: float
    loss_name: str
    losses: tuple[ExploredLoss, ...]
    diagnosis: Diagnosis
    filter: Mapping[str, float] | None
    pictures: ResponsePictures | None
    subject: str

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        settings, pictures = self.settings, self.pictures
        return {
            "subject": self.subject,
            "parameter": self.losses[0].landscape.parameter.name,
            "optimizer": offered_name(settings),
            "loss": self.loss_name,
            "start": self.start,
            "lr": settings.lr,
            "momentum": settings.momentum,
            "steps": settings.steps,
            "losses": {loss.name: loss.to_dict() for loss in self.losses},
            "optimizers": {
                name: {"words": words, "takes_momentum": momentum, "bound": _bound(name)}
                for name, (words, _, momentum) in OFFERED.items()
            },
            "diagnosis": self._diagnosis(),
            "rules": outcome_rules(),
            "filter": None if self.filter is None else dict(self.filter),
            "pictures": None
            if pictures is None
            else {"block": pictures.block, "is_whole": pictures.is_whole, "rest": pictures.rest},
        }

    def _diagnosis(self) -> dict[str, Any]:
        found = self.diagnosis
        always = next((f for f in found.findings if f.present and f.cause in _FOR_EVERY_RUN), None)
        return {
            "verdict": found.verdict,
            "headline": found.headline,
            "for_every_run": None
            if always is None
            # Without what the opening run does with the right gradient.
            else {"cause": always.cause, "explanation": always.explanation.split("; with")[0]},
        }

    def data(self) -> Data:
        """Returns what is saved as pictures.npz, where there are pictures."""
        pictures = self.pictures
        if pictures is None:
            return {}
        arrays: dict[str, npt.NDArray[Any]] = {
            "components": pictures.components,
            "scales": pictures.scales,
            "cosines": pictures.cosines,
            "sines": pictures.sines,
            "target": pictures.target,
            "image": pictures.image,
        }
        return {"pictures.npz": arrays}


def outcome_rules() -> dict[str, Any]:
    """Returns names, meanings and thresholds of the outcomes and causes, as the page takes them."""
    thresholds = {name.lower(): getattr(outcomes, name) for name in _RULES}
    return {**thresholds, **_DIAGNOSIS_RULES, "outcomes": dict(outcomes.OUTCOMES)}


def _plain(name: str) -> OptimizerSettings:
    """Settings of an offered optimizer, with some momentum where it takes any."""
    _, optimizer, momentum = OFFERED[name]
    return OptimizerSettings(
        optimizer, momentum=0.9 if momentum else 0.0, nesterov=name == "nesterov"
    )


def _bound(name: str) -> dict[str, Any] | None:
    entry = bound_entry(_plain(name))
    return None if entry is None or entry.is_estimate else entry.to_dict()


def offered_name(settings: OptimizerSettings) -> str:
    """Returns the page's name of an optimizer.

    Raises:
        UsageError: The page does not offer it.
    """
    wanted = (settings.optimizer, settings.momentum > 0, settings.nesterov)
    for name, (_, optimizer, momentum) in OFFERED.items():
        if (optimizer, momentum, name == "nesterov") == wanted and settings.schedule == "constant":
            return name
    *most, last = dict.fromkeys(optimizer for _, optimizer, _ in OFFERED.values())
    raise UsageError(
        f"the page does not offer {settings.label}.",
        f"Use {', '.join(most)} or {last} at a constant rate, --momentum and --nesterov with sgd.",
    )


def explore_objective(objective: Line, settings: OptimizerSettings, subject: str) -> Exploration:
    """Measures all that the page needs.

    Args:
        objective: The experiment along theta, or a custom objective.
        settings: What the page opens with.
        subject: Name of the image or of the custom objective.

    Raises:
        InputError: The loss is not smooth.
        UsageError: Settings that the page does not offer.
    """
    offered_name(settings)
    losses = tuple(_explore(one) for one in _offered(objective))
    constants, pictures = None, None
    if isinstance(objective, ShortcutObjective):
        experiment = objective.experiment
        constants = experiment.target_parameters.to_dict()
        constants["kernel_size"] = experiment.kernel_size
        pictures = picture_responses(objective)
    return Exploration(
        settings=settings,
        start=objective.parameter.start,
        loss_name=objective.loss_name,
        losses=losses,
        diagnosis=diagnose_objective(objective, settings),
        filter=constants,
        pictures=pictures,
        subject=subject,
    )


def _offered(objective: Line) -> list[Line]:
    """The experiment with rmse, mse and its own loss; a custom objective, and its square."""
    if isinstance(objective, ShortcutObjective):
        names = dict.fromkeys(["rmse", "mse", objective.loss_name])
        return [objective.with_loss(name) for name in names]
    squared = objective.squared()
    return [objective] if squared is None else [objective, squared]


def _explore(objective: Line) -> ExploredLoss:
    cheap = cheap_objective(objective)
    landscape = find_critical_points(cheap)
    series = factor_series(cheap, landscape)
    if not series.error <= _FOLLOWS:
        raise InputError(
            f"the loss along {objective.parameter.name} has kinks, jumps or noise, so no smooth "
            "series describes it, and the page runs on such a series.",
            "Choose a --range where the loss is smooth, or use `gabordiag optimize`.",
        )
    squared = objective.squared()
    return ExploredLoss(
        objective.loss_name,
        objective.is_root,
        None if squared is None else squared.loss_name,
        landscape,
        series,
    )


def in_float64(objective: Line) -> Line:
    """Returns an experiment's objective in float64 on the CPU; any other unchanged."""
    if not isinstance(objective, ShortcutObjective):
        return objective
    experiment = objective.experiment.on_same_images(dtype="float64", device="cpu")
    return ShortcutObjective(experiment, objective.parameter.name)
