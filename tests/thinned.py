"""Which cases run by default, where a kind has many and each takes long."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int) -> list[Any]:
    """Returns all cases, of those not marked yet all but each `every`-th marked slow."""
    places = count()
    return [case if _marks(case) or next(places) % every == 0 else _slow(case) for case in cases]


def _marks(case: Any) -> Any:
    return getattr(case, "marks", ())


def _slow(case: Any) -> Any:
    if hasattr(case, "marks"):
        return pytest.param(*case.values, marks=pytest.mark.slow, id=case.id)
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
