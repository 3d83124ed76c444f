"""What is said about the diagnosis of a training: each watched element, and what helps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gabordiag.objective.space import Parameter
from gabordiag.presentation.blocks import Block, Heading, Paragraph, Picture, Table
from gabordiag.presentation.phrases import how_else, number, verdict
from gabordiag.wording import counted

Json = Mapping[str, Any]
_HEALTHY = "converged"


def training_diagnosis(result: Json) -> list[Block]:
    """Returns the verdict, the elements one by one, what helps, and the training."""
    return [
        verdict(result),
        Picture("bank"),
        Heading("Each filter" if _has_filters(result) else "Each element"),
        *_elements(result),
        Picture("lines"),
        *_remedies(result),
        Heading("The training"),
        *_training(result),
        Picture("gradients"),
    ]


def parameter_of(element: Json) -> Parameter:
    """Returns an element's value as a parameter, for people."""
    period = element["period"]
    low, high = (-math.inf, math.inf) if period is None else (-period / 2, period / 2)
    is_angle = element["unit"] == "rad"
    return Parameter(element["name"], low, high, period, None, element["start"], is_angle)


def _has_filters(result: Json) -> bool:
    return all(element["filter"] is not None for element in result["elements"])


def _elements(result: Json) -> list[Block]:
    rows = []
    elements = result["elements"]
    owners = {element["parameter"].rpartition(".")[0] for element in elements}
    # Of one layer its name says nothing.
    prefix = f"{owners.pop()}." if len(owners) == 1 else ""
    for element in elements:
        parameter = parameter_of(element)
        why = element["findings"][0]["explanation"] if element["findings"] else ""
        is_healthy = element["verdict"] == "healthy"
        rows.append(
            (
                element["name"].removeprefix(prefix),
                parameter.show(element["start"], 1),
                parameter.show(element["final"], 1),
                _HEALTHY if is_healthy else element["verdict"].replace("_", " "),
                why,
                element["helps"],
            )
        )
    columns = ("filter", "from", "to", "verdict", "why", "what helps")
    return [Table(columns, tuple(rows))]


def _remedies(result: Json) -> list[Block]:
    if not result["remedies"]:
        return []
    has_metric = any("metric_after" in remedy for remedy in result["remedies"])
    rows = []
    for remedy in result["remedies"]:
        evidence = remedy["evidence"]
        cells = [
            "works" if remedy["works"] else "does not",
            remedy["name"],
            remedy["change"],
            _with_spread(remedy["loss_before"], evidence["spread_before"]),
            _with_spread(remedy["loss_after"], evidence["spread_after"]),
        ]
        if has_metric:
            before, after = remedy.get("metric_before"), remedy.get("metric_after")
            cells.append(f"{number(before, 3)} → {number(after, 3)}")
        rows.append(tuple(cells))
    columns = ("", "remedy", "change", "loss before", "loss after")
    seeds = len(result["remedies"][0]["evidence"]["losses_before"])
    text = (
        f"Each training was repeated with {counted(seeds, 'seed', 'seeds')}; ± is the standard "
        "deviation. A remedy that was no better with the first seed was not repeated."
    )
    return [
        Heading("What helps, each one tried"),
        Table((*columns, *(["metric"] if has_metric else [])), tuple(rows)),
        Paragraph(text),
    ]


def _with_spread(mean: float | None, spread: float | None) -> str:
    return number(mean, 3) + ("" if spread is None else f" ± {spread:.1g}")


def _training(result: Json) -> list[Block]:
    run = result["run"]
    lr = run["lr"]
    rates = (
        ", ".join(f"{name} {rate:g}" for name, rate in lr.items())
        if isinstance(lr, Mapping)
        else f"{lr:g}"
    )
    words = ", ".join([run["optimizer"], f"lr {rates}", *how_else(run)])
    metric = "" if run["metric"] is None else f", the metric is {number(run['metric'], 4)}"
    text = (
        f"{run['steps']} steps of {words} took {run['seconds']:.3g} s. The loss at the end is "
        f"{number(run['final_loss'])}{metric}. The loss was evaluated {result['evaluations']} "
        "times along the elements, everything else frozen."
    )
    return [Paragraph(text)]
