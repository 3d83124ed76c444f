"""What the test of one cause found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What the test of one cause found.

    Attributes:
        cause: Its name.
        present: Whether it is there at all.
        sufficient: Whether its removal alone turned the run into `reached`.
        evidence: The figures.
        explanation: In words, for people.
        advice: What to change, with the value; empty unless `sufficient` or it stands alone.
        role: `primary`, `contributing` or `ruled_out`; given by the verdict.
    """

    cause: str
    present: bool
    sufficient: bool
    evidence: dict[str, Any]
    explanation: str
    advice: str = ""
    role: str = "ruled_out"

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "cause": self.cause,
            "role": self.role,
            "evidence": {**self.evidence, "removal_reaches_target": self.sufficient},
            "explanation": self.explanation,
        }
