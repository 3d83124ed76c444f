"""What `explain` returns: verdict, headline, and what the log shows or cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gabordiag.dynamics.outcomes import Jump
from gabordiag.results import Result


@dataclass(frozen=True)
class LogFinding:
    """One thing that the log shows, rules out, or cannot tell."""

    cause: str
    role: str
    evidence: dict[str, Any]
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "cause": self.cause,
            "role": self.role,
            "evidence": self.evidence,
            "explanation": self.explanation,
        }


@dataclass(frozen=True, eq=False)
class Explanation(Result):
    """What a log shows.

    Attributes:
        verdict: As a diagnosis's.
        headline: One sentence to act on.
        outcome: As a run's; None where only the landscape could tell.
        period: Of the cycle it ends in, 2 or more, else None.
        jumps: Rises of the loss by 30% of its range in one step.
        findings: What supports the verdict, and what cannot be known.
        steps: Rows of the log that were judged.
        notes: What was left out of the log, or filled in, in words.
    """

    verdict: str
    headline: str
    outcome: str | None
    period: int | None
    jumps: tuple[Jump, ...]
    findings: tuple[LogFinding, ...]
    steps: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "outcome": self.outcome,
            "outcome_reason": None if self.outcome else "only the landscape could tell",
            "period": self.period,
            "n_jumps": len(self.jumps),
            "jumps": [jump.to_dict() for jump in self.jumps],
            "findings": [finding.to_dict() for finding in self.findings],
            "steps": self.steps,
            "notes": list(self.notes),
        }
