"""The names that can be chosen, and what counts as a number, as type checkers know them.

Each is the list of a table that says what the names mean; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch

OptimizerName = Literal[
    "sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam", "rprop",
    "asgd", "lbfgs",
]  # fmt: skip
# Of a plane through all weights of a network.
PlaneName = Literal["random", "pca", "gradient", "axes"]
ScheduleName = Literal["constant", "step", "exponential", "cosine", "one-cycle"]
LossName = Literal["rmse", "mse", "cosine"]
Padding = Literal["valid", "same", "circular"]
Normalization = Literal["none", "center", "standardize", "whiten"]
ParameterName = Literal["theta", "wavelength", "sigma", "psi", "gamma"]
ImageName = Literal["hopper", "noise", "pink"]
DtypeName = Literal["float64", "float32"]
DeviceName = Literal["cpu", "cuda", "mps"]

# Steps of a run.
MAX_STEPS = 1_000_000_000

# A 0-dim tensor is one, too.
Number: TypeAlias = "float | np.number[Any] | torch.Tensor"


def plain(value: Any) -> Any:
    """Returns a number of NumPy or torch as Python's, anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value
