"""The question's own failure, end to end, for two filters: one symptom, two causes.

An experiment's image goes in; each filter's landscape, failing run, runs to compare, map of starts
and rates, bifurcation and diagnosis come out. The elongated filter has a second minimum beside the
start, which the image makes; the round one has none, and fails by its steps and its kink alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gabordiag.diagnosis.evidence import LineBench
from gabordiag.diagnosis.verdict import Diagnosis, diagnose_objective
from gabordiag.dynamics.bifurcation import Bifurcation, run_bifurcation
from gabordiag.dynamics.maps import Basins, default_starts, run_basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import SYMPTOM_COUNT
from gabordiag.dynamics.run import Run, StepListener, run, trajectory_name, trajectory_tables
from gabordiag.dynamics.windows import DEFAULT_SCAN, SCAN_STEPS, log_spaced
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import GaborLine, along, kernel_table
from gabordiag.objective.response import one_thread
from gabordiag.results import Data, Progress, Result

# Of the failing run: long enough for some hundred jumps.
STEPS = 2000
# 1.5 degrees apart: a third of the columns of `basins`, which for the picture is fine enough.
MAP_STARTS = 121
# Rates of the bifurcation diagram: enough to see the period double.
BIFURCATION_RATES = 600
Log = Callable[[Sequence[float]], None]


@dataclass(frozen=True)
class Scenario:
    """One filter, where it differs from the experiment's defaults, and the rates to compare.

    `lr` fails, `small_lr` is cautious; the bifurcation's are the lowest and highest of the diagram.
    """

    name: str
    filter: Mapping[str, float]
    lr: float
    small_lr: float
    bifurcation: tuple[float, float]

    def along_theta(self, experiment: Experiment) -> GaborLine:
        """Returns the objective of the question: this filter's angle, with rmse."""
        sigma, gamma = self.filter["sigma"], self.filter["gamma"]
        return along(replace(experiment, loss="rmse", sigma=sigma, gamma=gamma), "theta")


# Rates at which the loss jumps back over and over; the diagrams begin where runs settle.
SCENARIOS = (
    Scenario("elongated", {"sigma": 4.0, "gamma": 0.5}, 3.0, 0.01, (0.1, 10.0)),
    Scenario("round", {"sigma": 3.0, "gamma": 1.0}, 1.0, 0.01, (0.003, 3.0)),
)


@dataclass(frozen=True, eq=False)
class Case:
    """What one filter shows; the diagnosis is of the failing run.

    The runs: the failing one, with momentum, with a small rate, with mse at the small rate.
    """

    scenario: Scenario
    sweep: Sweep
    runs: tuple[Run, ...]
    basins: Basins
    bifurcation: Bifurcation
    diagnosis: Diagnosis

    @property
    def reproduced(self) -> bool:
        """The question's symptom: often down to 30% and back above 60% in one step."""
        return self.runs[0].symptoms >= SYMPTOM_COUNT

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        runs = [
            {**run_.to_dict(), "trajectory": f"{self.scenario.name}-{trajectory_name(index)}"}
            for index, run_ in enumerate(self.runs)
        ]
        return {
            "symptom": {"reproduced": self.reproduced, "run": runs[0]},
            "landscape": self.sweep.to_dict(),
            "runs": runs,
            "basins": self.basins.to_dict(),
            "bifurcation": self.bifurcation.to_dict(),
            "diagnosis": self.diagnosis.to_dict(),
        }

    def data(self) -> Data:
        """Returns the arrays, every file under the filter's name."""
        parts = {**trajectory_tables(self.runs), **self.basins.data(), **self.bifurcation.data()}
        return {f"{self.scenario.name}-{name}": table for name, table in parts.items()}


@dataclass(frozen=True, eq=False)
class Reproduction(Result):
    """Both filters, by name."""

    cases: Mapping[str, Case]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {"cases": {name: case.to_dict() for name, case in self.cases.items()}}

    def data(self) -> Data:
        """Returns all arrays."""
        return {name: table for case in self.cases.values() for name, table in case.data().items()}


def reproduce(
    experiment: Experiment,
    *,
    log: Callable[[str], Log] | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Runs both filters on the experiment's image; `log` makes each trajectory's listener."""
    stages = itertools.count(1)

    def stage() -> None:
        if progress is not None:
            progress(next(stages), 5 * len(SCENARIOS))

    # Tens of thousands of operations on some ten numbers each: waking a second thread for them
    # takes longer than they do. Maps bring threads of their own.
    with one_thread():
        cases = {s.name: _run_scenario(experiment, s, log, stage) for s in SCENARIOS}
    return Reproduction(cases)


def kernel_tables(experiment: Experiment) -> Data:
    """Returns the kernels that an animation shows, every file under its filter's name."""
    tables = [kernel_table(s.along_theta(experiment), f"{s.name}-") for s in SCENARIOS]
    return {name: columns for table in tables for name, columns in table.items()}


def _run_scenario(
    experiment: Experiment,
    scenario: Scenario,
    log: Callable[[str], Log] | None,
    stage: Callable[[], None],
) -> Case:
    objective = scenario.along_theta(experiment)
    smooth = objective.squared()
    assert smooth is not None
    sweep = sweep_objective(objective)
    stage()
    bench, squared = LineBench(objective, sweep.landscape), LineBench(smooth)
    cautious = OptimizerSettings("sgd", scenario.small_lr, steps=STEPS)
    failing = replace(cautious, lr=scenario.lr)
    fast = replace(failing, momentum=0.9)
    planned = ((bench, failing), (bench, fast), (bench, cautious), (squared, cautious))
    # The run of the question is made on the objective itself, those to compare on its table.
    runs = [
        run(
            what.objective,
            settings,
            landscape=what.landscape,
            listener=_writer(log, f"{scenario.name}-{trajectory_name(index)}"),
            stepped=what.table if index else None,
        )
        for index, (what, settings) in enumerate(planned)
    ]
    stage()
    scan, rates = replace(failing, steps=SCAN_STEPS), log_spaced(*DEFAULT_SCAN)
    starts = default_starts(objective, MAP_STARTS)
    basins = run_basins(objective, scan, rates, starts, sweep=sweep, table=bench.table)
    stage()
    rates = log_spaced(*scenario.bifurcation, BIFURCATION_RATES)
    bifurcation = run_bifurcation(objective, failing, rates, table=bench.table)
    stage()
    diagnosis = diagnose_objective(objective, failing, sweep=sweep, made_run=runs[0], bench=bench)
    stage()
    return Case(scenario, sweep, tuple(runs), basins, bifurcation, diagnosis)


def _writer(log: Callable[[str], Log] | None, name: str) -> StepListener | None:
    if log is None:
        return None
    write = log(name)
    return lambda step: write(step.row())
