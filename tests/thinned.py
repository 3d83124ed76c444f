"""Which cases run by default, where a kind has many and each takes long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], every: int, first: int = 0) -> list[Any]:
    """Returns all cases: from the `first` on each `every`-th as it is, the others marked slow."""
    return [case if index % every == first else _slow(case) for index, case in enumerate(cases)]


def _slow(case: Any) -> Any:
    values, marks, name = (
        (case.values, case.marks, case.id)
        if hasattr(case, "marks")
        else (case if isinstance(case, tuple) else (case,), (), None)
    )
    return pytest.param(*values, marks=[*marks, pytest.mark.slow], id=name)
