"""Functions that are imported when they are first called.

What is read, said and drawn of a log needs neither torch nor, without figures, matplotlib; most of
what is said and drawn of other results does. So the modules of `presentation` that show any kind of
result name such functions with `Late`; no other room does.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any


class Late:
    """A stand-in for a module or a function of gabordiag, and for all that is in it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Late:
        return Late(f"{self._path}.{name}")

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Imports the function and calls it."""
        return resolve_name(f"gabordiag.{self._path}")(*values, **named)
