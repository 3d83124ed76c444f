"""For how many steps the path of a chaotic run means anything.

Two paths that differ by d drift apart as d exp(lambda t), lambda the Lyapunov exponent. Every
evaluation is rounded, so no two machines, thread counts or orders of summation follow the same
path: from one rounding, eps, to the tolerance within which two values count as the same, it takes

    t = ln(tolerance / eps) / lambda

steps. Before, the path is a property of the problem; after, of the rounding. What stays true is
what does not hang on the path: the outcome, the range of the losses, about how often they jump.
"""

from __future__ import annotations

import math

import numpy as np

from gabordiag.objective.space import FloatArray, Parameter


def trusted_steps(
    lyapunov: float | None, parameter: Parameter, values: FloatArray, eps: float
) -> int | None:
    """Returns for how many steps the path of a run can be trusted.

    Args:
        lyapunov: Exponent a step, from the run.
        parameter: What was learned; its tolerance is when two paths have parted.
        values: The run's path (n,).
        eps: Rounding unit of the precision it was computed in, relative.

    Returns:
        The steps, fewer than the run has; None where all of them can be trusted, because the run is
        not chaotic, and where the exponent is not known.
    """
    if lyapunov is None or not lyapunov > 0:
        return None
    # A value is rounded relative to itself; near zero, relative to the range it moves in.
    size = max(abs(float(values[0])), parameter.high - parameter.low)
    steps = max(0, math.floor(math.log(parameter.tolerance / (eps * size)) / lyapunov))
    return steps if steps < np.count_nonzero(np.isfinite(values)) - 1 else None
