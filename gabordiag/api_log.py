"""The part of the Python interface that needs no objective, and so neither torch nor matplotlib."""

from __future__ import annotations

from gabordiag.choices import Number, plain
from gabordiag.diagnosis.log.explain import Explanation, explain_log
from gabordiag.diagnosis.log.readers import Source


def explain(
    source: Source,
    target: Number | None = None,
    period: Number | None = None,
    *,
    value_column: str | None = None,
    loss_column: str | None = None,
) -> Explanation:
    """Diagnoses a run from its log alone.

    Args:
        source: Columns (n,) by name, as in a DataFrame, or a file: CSV, JSON or JSON lines, also
            compressed by gzip, `-` for standard input, a run's folder of MLflow, or
            TensorBoard's event files (`pip install gabordiag[logs]`). Without a column of the
            parameter the loss alone is judged.
        target: The value that should have been reached, if known, in the column's unit.
        period: Of the parameter, if it has one, in the column's unit.
        value_column: Name of the parameter's column.
        loss_column: Name of the loss's column.

    Returns:
        An `Explanation`: `verdict`, `headline`, `outcome`, `jumps` and `findings`.

    Raises:
        InputError: The log cannot be used.
        UsageError: A column that is not there, or a target or period that is not a number.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> theta = 0.3 * (-1.0) ** np.arange(60)
        >>> log = {"theta": theta, "loss": np.sin(theta) ** 2, "grad": np.sin(2 * theta)}
        >>> found = gd.explain(log, target=0.0, period=np.pi)
        >>> found.verdict, found.outcome, found.period
        ('step_too_large', 'cycle', 2)
    """
    numbers = {"target": plain(target), "period": plain(period)}
    return explain_log(source, **numbers, value_column=value_column, loss_column=loss_column)
