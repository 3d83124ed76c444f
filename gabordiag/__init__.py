"""Why does a learned Gabor angle jump back? Landscape, dynamics, diagnosis.

The layers, in the order of the story; each imports only from those above it:

    errors, wording   what can go wrong; numbers as people read them
    choices           the names that can be chosen, as type checkers know them
    results           what every result can do (JSON, arrays, plot)
    gabor, images     the kernel and its derivatives; where an image comes from
    gabor_layer       a convolution with learned Gabor filters
    gabor_fit         which Gabor filter a kernel is
    objective         what is minimised: a loss of one or of several parameters
    own               a user's function or module as an objective; a network and its training
    checks            is a kernel, a derivative, a graph right?
    landscape         what that loss looks like: every critical point, with a proof
    dynamics          what an optimizer does on it: runs, outcomes, maps of many runs
    callbacks         logs of Lightning's and Hugging Face's training loops
    charting          the atlas: which filters can be learned on which images
    diagnosis         why a run fails and what helps, each cause and remedy tried
    runs              run folders on disk
    presentation      figures, words, reports
    explorer          the interactive page
    api               the public functions
    cli               the command line
    examples          README's training and its two notebooks; nothing imports them

Each package's own docstring says which of its files holds what. The public names are loaded when
they are first used, so that `import gabordiag` costs nothing and the command line answers at once.
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
