"""What can go wrong on the user's side: one type, a few kinds, each with its exit code.

Every error says in one or two lines what is wrong, why, and what to do instead; the command line
turns it into an exit code in one place (`gabordiag.cli.main`).
"""

from __future__ import annotations

from collections.abc import Iterable


class GabordiagError(Exception):
    """Base of everything raised on purpose: what is wrong and why, and what to do instead."""

    exit_code = 3

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(problem, advice)
        self.problem = problem
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.problem}\n{self.advice}" if self.advice else self.problem


class UsageError(GabordiagError):
    """An option or argument that cannot mean anything (exit code 2)."""

    exit_code = 2


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """Returns the error for a name that is none of those there are; the kind may be empty."""
    return UsageError(f"{kind} '{name}' is unknown.".lstrip(), f"Use one of {', '.join(known)}.")


class ParameterError(GabordiagError, ValueError):
    """A value outside what its formula allows, such as sigma = 0."""


class InputError(GabordiagError):
    """An image, log, configuration or objective that cannot be used."""


class OutputError(GabordiagError):
    """A place that cannot be written to."""
