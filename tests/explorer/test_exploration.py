"""Names by which the interactive page knows an optimizer."""

from __future__ import annotations

from typing import Any

import pytest

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.errors import UsageError
from gabordiag.explorer.exploration import offered_name


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "sgd"),
        ({"momentum": 0.9}, "heavy_ball"),
        ({"momentum": 0.9, "nesterov": True}, "nesterov"),
        ({"optimizer": "adam"}, "adam"),
        ({"optimizer": "rmsprop"}, "rmsprop"),
    ],
)
def test_names(settings: dict[str, Any], name: str) -> None:
    assert offered_name(OptimizerSettings(**settings)) == name


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "rmsprop", "momentum": 0.5},
        {"optimizer": "lbfgs"},
        {"schedule": "cosine"},
    ],
)
def test_what_the_page_cannot_run_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="does not offer"):
        offered_name(OptimizerSettings(**settings))
