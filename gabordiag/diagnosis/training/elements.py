"""Each watched element of a training with its verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gabordiag.diagnosis.training.causes import judge
from gabordiag.diagnosis.training.facts import Facts
from gabordiag.diagnosis.training.measured import Measured
from gabordiag.dynamics.outcomes import classify_one, surroundings
from gabordiag.landscape.many_lines import SampledLine
from gabordiag.landscape.points import CriticalPoint
from gabordiag.results import Finding, finite_or_none


class Judged(Measured):
    """A watched element, measured and judged.

    The goal is the minimum of the last line where the element should be, or None. `moved` is
    without whole periods, and `gradient_share` over all parameters together.
    """

    def __init__(self, facts: Facts, index: int) -> None:
        super().__init__(facts, index)
        self.judgement = judge(self)
        self.verdict = self.judgement.verdict
        is_astray = self.verdict == "wrong_basin"
        goal = self.better or (self.better_at_first if is_astray else self.own)
        # Towards an end of the range the loss falls, and where its minimum is, is not known.
        self.goal = None if goal is None or goal.curvature is None else goal.value
        if is_astray and goal is None:
            self.goal = facts.fitted[self.watched.label]
        first, last = float(self.path[0]), float(self.path[-1])
        self.start = self.value(first)
        self.final = self.moved = None
        if math.isfinite(last):
            self.final = self.value(last)
            self.moved = float(self.shown.offset(self.final, self.start))
        known = [slopes[~np.isnan(slopes)] for slopes in (facts.run.total, self.slopes)]
        total, own = (math.sqrt(np.mean(k**2)) if k.size else 0.0 for k in known)
        self.gradient_share = finite_or_none(own / total) if total else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The primary cause, with what was measured."""
        verdict, evidence, why, *_ = self.judgement
        found = Finding(verdict, True, None, evidence, why, role="primary")
        return () if verdict == "healthy" else (found,)

    @property
    def outcome(self) -> str:
        """The outcome of the element's path on its last line, as of any run."""
        goal, landscape, run = self.goal, self.line_final.landscape, self.facts.run
        if goal is None and self.own is not None:
            goal = self.own.value
        if goal is None or not run.is_finite:
            return "nonfinite" if not run.is_finite else "frozen"
        parameter = replace(landscape.parameter, target=goal)
        points = tuple(replace(p, is_target=p.value == goal) for p in landscape.points)
        around = surroundings(replace(landscape, parameter=parameter, points=points))
        tail = slice(-self.tail, None)
        slope, moved = abs(self.slopes[-1]) * parameter.tolerance, bool((self.slopes != 0).any())
        return classify_one(around, self.path[tail, None], run.losses[tail], slope, moved)[0]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; critical points have values, not coordinates."""
        return {
            "name": self.watched.label,
            "parameter": self.watched.group,
            "tensor": self.watched.name,
            "filter": self.watched.row if self.is_of_filter else None,
            "unit": "rad" if self.parameter.is_angle else "",
            "period": self.parameter.period,
            "verdict": self.verdict,
            "outcome": self.outcome,
            "start": self.start,
            "final": self.final,
            "moved": self.moved,
            "goal": None if self.goal is None else self.value(self.goal),
            "gradient_share": self.gradient_share,
            "line": {
                "start": self._points(self.line_start),
                "final": self._points(self.line_final),
            },
            "findings": [finding.to_dict() for finding in self.findings],
            "helps": self.judgement.helps,
        }

    def _points(self, line: SampledLine) -> list[dict[str, Any]]:
        # At an end of the range no gradient vanishes.
        points = line.landscape.points
        return [self._point(point) for point in points if point.curvature is not None]

    def _point(self, point: CriticalPoint) -> dict[str, Any]:
        basin, curvature = point.basin, point.curvature
        if self.watched.kind == "log":
            # d2L/dv2 = d2L/du2 / v^2 where dL/du = 0 and u = log v.
            curvature = None if curvature is None else curvature / math.exp(point.value) ** 2
            basin = None if basin is None else (math.exp(basin[0]), math.exp(basin[1]))
        value = self.value(point.value)
        return replace(point, value=value, curvature=curvature, basin=basin).to_dict()
