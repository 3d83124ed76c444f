"""Functions that are imported when they are first called.

What is read, said and drawn of a log needs neither torch nor, without figures, matplotlib; most of
what is said and drawn of other results does. So those who show any kind of result name such
functions with `late`, and only here.
"""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any


def late(module: str, function: str) -> Callable[..., Any]:
    """Returns a stand-in for a function of a module such as `presentation.figures.maps`."""
    return lambda *values, **named: resolve_name(f"gabordiag.{module}:{function}")(*values, **named)
