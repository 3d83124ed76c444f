"""The kernels along the learned parameter, as an animation shows them turning.

Saved with the run, because what draws has nothing to compute.
"""

from __future__ import annotations

import numpy as np
import torch

from gabordiag.objective.gabor_line import GaborLine
from gabordiag.objective.line import Line
from gabordiag.results import Data

FILE = "kernels.npz"
# Over a half turn one a degree: neighbours look alike.
COUNT = 181


def kernel_table(objective: Line, prefix: str = "") -> Data:
    """Returns what is saved as kernels.npz: the kernels over the parameter's range.

    Args:
        objective: Whose kernels; a custom objective has none.
        prefix: Of the file's name.

    Returns:
        File name -> columns: the parameter's values (n,), `kernels` (n, K, K) in single precision,
        and `target_kernel` (K, K). Empty where there are no kernels.
    """
    if not isinstance(objective, GaborLine):
        return {}
    parameter = objective.parameter
    values = np.linspace(parameter.low, parameter.high, COUNT)
    assert parameter.target is not None
    with torch.no_grad():
        kernels = objective.kernels(objective.tensor([*values, parameter.target]))
    shown = kernels.cpu().numpy().astype(np.float32)
    columns = {parameter.name: values, "kernels": shown[:-1], "target_kernel": shown[-1]}
    return {prefix + FILE: columns}
