"""The data of the interactive page: series, critical points, bounds, thresholds, and a diagnosis.

The page runs the optimizers itself, so nothing here is a table of runs. Every loss comes as its
factored series with its landscape, in float64. What the page says of the settings it opens with is
what `diagnose` says of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gabordiag.diagnosis.causes import FLAT_RISE, FLAT_SLOPE
from gabordiag.diagnosis.verdict import SHORTEST_TAIL, Diagnosis, diagnose_objective
from gabordiag.dynamics import outcomes
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.theory import bound_entry, stability_bound
from gabordiag.dynamics.windows import SCAN_STEPS, beside_target, suitable_rates
from gabordiag.errors import InputError, UsageError
from gabordiag.explorer.factored import FactoredSeries, factor_series
from gabordiag.explorer.pictures import ResponsePictures, picture_responses
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
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
    "SYMPTOM_HIGH", "JUMP_RISE",
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
    """One loss that the page offers: `mse`, `rmse`, or what a custom objective calls its loss.

    `squared` is the loss under the root, which the series gives, where there is one.
    """

    name: str
    is_root: bool
    squared: str | None
    landscape: Landscape
    series: FactoredSeries

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them, with what the scans of learning rates need."""
        landscape = self.landscape
        plain, tolerance = OptimizerSettings(), landscape.parameter.tolerance
        theories = [stability_bound(point, plain, tolerance) for point in landscape.points]
        scans = {name: suitable_rates(landscape, _settings_of(name)) for name in OFFERED}
        return {
            "is_root": self.is_root,
            "squared": self.squared,
            "landscape": {**landscape.to_dict(), "goal": landscape.goal_value},
            # Of plain descent; an optimizer's `bound` says which multiple of it is its own.
            "bounds": [t and {"lr": t.bound, "symbol": t.entry.formula} for t in theories],
            "beside_target": beside_target(landscape),
            "scans": {n: {"low": s[0], "high": s[-1], "count": len(s)} for n, s in scans.items()},
            "series": self.series.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Exploration(Result):
    """Everything that the page needs, and the settings, start and loss that it opens with.

    `diagnosis` is of the run that it opens with; `filter` (constant parameters of the kernel and
    its side) and `pictures` are None for a custom objective, whose name is the `subject`.
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
            "rules": _rules(),
            "filter": self.filter and dict(self.filter),
            "pictures": pictures and pictures.to_dict(),
        }

    def _diagnosis(self) -> dict[str, Any]:
        found = self.diagnosis
        always = next((f for f in found.findings if f.present and f.cause in _FOR_EVERY_RUN), None)
        # Without what the opening run does with the right gradient.
        shown = always and {
            "cause": always.cause,
            "explanation": always.explanation.split("; with")[0],
        }
        return {"verdict": found.verdict, "headline": found.headline, "for_every_run": shown}

    def data(self) -> Data:
        """Returns what is saved as pictures.npz, where there are pictures."""
        return {} if self.pictures is None else {"pictures.npz": self.pictures.data()}


def _rules() -> dict[str, Any]:
    """Returns names, meanings and thresholds of the outcomes and causes, as the page takes them."""
    thresholds = {name.lower(): getattr(outcomes, name) for name in _RULES}
    return {**thresholds, **_DIAGNOSIS_RULES, "outcomes": dict(outcomes.OUTCOMES)}


def _settings_of(name: str) -> OptimizerSettings:
    """Returns the settings of an offered optimizer, with some momentum where it takes any."""
    _, optimizer, takes = OFFERED[name]
    return OptimizerSettings(optimizer, momentum=0.9 if takes else 0.0, nesterov=name == "nesterov")


def _bound(name: str) -> dict[str, Any] | None:
    entry = bound_entry(_settings_of(name))
    return None if entry is None or entry.is_estimate else entry.to_dict()


def offered_name(settings: OptimizerSettings) -> str:
    """Returns the page's name of an optimizer."""
    wanted = (settings.optimizer, settings.momentum > 0, settings.nesterov, settings.schedule)
    for name, (_, optimizer, momentum) in OFFERED.items():
        if (optimizer, momentum, name == "nesterov", "constant") == wanted:
            return name
    *most, last = dict.fromkeys(optimizer for _, optimizer, _ in OFFERED.values())
    raise UsageError(
        f"the page does not offer {settings.label}.",
        f"Use {', '.join(most)} or {last} at a constant rate, --momentum and --nesterov with sgd.",
    )


def explore_objective(objective: Line, settings: OptimizerSettings, subject: str) -> Exploration:
    """Measures all that the page needs: of the experiment along theta, or of a custom objective.

    The settings are what the page opens with; the subject is the image's or the objective's name.
    """
    offered_name(settings)
    constants, pictures, squared = None, None, objective.squared()
    offered = [objective] if squared is None else [objective, squared]
    if isinstance(objective, ShortcutObjective):
        names = dict.fromkeys(["rmse", "mse", objective.loss_name])
        offered = [objective.with_loss(name) for name in names]
        experiment = objective.experiment
        constants = experiment.target_parameters.to_dict()
        constants["kernel_size"] = experiment.kernel_size
        pictures = picture_responses(objective)
    return Exploration(
        settings=settings,
        start=objective.parameter.start,
        loss_name=objective.loss_name,
        losses=tuple(_explore(one) for one in offered),
        diagnosis=diagnose_objective(objective, settings),
        filter=constants,
        pictures=pictures,
        subject=subject,
    )


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
