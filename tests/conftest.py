"""What several tests need: seeded images, and one hopper landscape a filter."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

import gabordiag.api  # noqa: F401 results can draw themselves from here on
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along

# The same examples on every run, so that a failure is news about the code;
# HYPOTHESIS_PROFILE=search looks for new ones. No deadlines: first calls into torch are slow.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow what `each(n)` leaves out: of a test's cases all but every n-th."""
    seen: Counter[str] = Counter()
    for item in items:
        mark = item.get_closest_marker("each")
        if mark is None or item.get_closest_marker("slow") is not None:
            continue
        test = item.nodeid.partition("[")[0]
        if seen[test] % mark.args[0]:
            item.add_marker(pytest.mark.slow)
        seen[test] += 1


@pytest.fixture(autouse=True)
def _figures_are_closed() -> Iterator[None]:
    """Closes what `.plot()` has left open for `pyplot.show()`."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def texture() -> Callable[..., npt.NDArray[np.float64]]:
    """Returns a maker of seeded images with energy at every orientation."""

    def make(rows: int = 40, columns: int = 34, seed: int = 0, mean: float = 0.5) -> Any:
        return mean + np.random.default_rng(seed).standard_normal((rows, columns))

    return make


@pytest.fixture(scope="session")
def hopper_landscape() -> Callable[..., Landscape]:
    """Returns the landscape of the photograph under given settings, each computed once."""

    @cache
    def of(**settings: Any) -> Landscape:
        return find_critical_points(along(Experiment(**settings), "theta"))

    return of
