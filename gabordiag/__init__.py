"""Why does a learned Gabor angle jump back? Landscape, dynamics, diagnosis.

The layers stand in .github/CONTRIBUTING.md, in the order of the story; each package's own docstring
says which of its files holds what. The public names are loaded when they are first used, so that
`import gabordiag` costs nothing and the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gabordiag._version import __version__

if TYPE_CHECKING:
    from gabordiag.api import (
        atlas,
        basins,
        bifurcate,
        check,
        diagnose,
        optimize,
        plane_basins,
        rates,
        sweep,
    )
    from gabordiag.diagnosis.bank import reproduce_bank
    from gabordiag.diagnosis.log.explain import explain
    from gabordiag.diagnosis.readout import reproduce_readout
    from gabordiag.dynamics.logger import TrajectoryLogger
    from gabordiag.gabor import GaborParameters, gabor_kernel, gabor_partials
    from gabordiag.gabor_layer import GaborConv2d
    from gabordiag.objective.experiment import Experiment
    from gabordiag.own.training import Training

# Where the public names are that are not in `gabordiag.api`.
_HOMES = {
    "explain": "gabordiag.diagnosis.log.explain",
    "GaborParameters": "gabordiag.gabor",
    "gabor_kernel": "gabordiag.gabor",
    "gabor_partials": "gabordiag.gabor",
    "GaborConv2d": "gabordiag.gabor_layer",
    "reproduce_bank": "gabordiag.diagnosis.bank",
    "reproduce_readout": "gabordiag.diagnosis.readout",
    "Experiment": "gabordiag.objective.experiment",
    "Training": "gabordiag.own.training",
    "TrajectoryLogger": "gabordiag.dynamics.logger",
}

__all__ = [
    "Experiment", "GaborConv2d", "GaborParameters", "Training", "TrajectoryLogger", "__version__",
    "atlas", "basins", "bifurcate", "check", "diagnose", "explain", "gabor_kernel",
    "gabor_partials", "optimize", "plane_basins", "rates", "reproduce_bank",
    "reproduce_readout", "sweep",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gabordiag' has no attribute '{name}'")
    return getattr(import_module(_HOMES.get(name, "gabordiag.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
