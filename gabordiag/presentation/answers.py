"""The question's own questions, each answered in plain words with the number that was measured.

Is the derivative right? Is there a minimum to reach? What happens in the run? What helps? A report
begins with these; the answers are made from a diagnosis's JSON and its run on what it ran on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gabordiag.diagnosis.causes import GOOD_GRADIENT
from gabordiag.diagnosis.verdict import GRADIENT_CAUSES, HEALTHY
from gabordiag.dynamics.windows import SCAN_STEPS
from gabordiag.presentation.blocks import Table
from gabordiag.presentation.figures.run_paths import Runs, end_words
from gabordiag.presentation.phrases import (
    Json,
    number,
    place_words,
    run_settings,
    show_interval,
    show_wrapped,
)
from gabordiag.wording import as_sentence, show_number


def answers(diagnoses: Mapping[str, tuple[Json, Runs]]) -> Table:
    """Returns the four questions, with the answers of each diagnosis (JSON and run) by title."""
    questions: dict[str, Any] = {
        "Is the derivative right?": _derivative,
        "Is there a minimum to reach?": _minimum,
        "What happens in the run?": _run,
        "What helps?": _help,
    }
    rows = tuple(
        (question, *(answer(found, runs) for found, runs in diagnoses.values()))
        for question, answer in questions.items()
    )
    return Table(("question", *diagnoses), rows)


def _derivative(found: Json, runs: Runs) -> str:
    known = {finding["cause"]: finding for finding in found["findings"]}
    for cause, finding in known.items():
        if cause in GRADIENT_CAUSES and finding["role"] != "ruled_out":
            return f"No: {_small(finding['explanation'])}."
    if "wrong_gradient" not in known:
        return "It was not asked."
    errors = list(_errors(known["wrong_gradient"]["evidence"]))
    if errors and max(errors) <= GOOD_GRADIENT:
        return (
            f"Yes: it differs from finite differences by at most {max(errors):.1e} of its largest "
            "value."
        )
    return f"Not certain: {_small(known['wrong_gradient']['explanation'])}."


def _small(text: str) -> str:
    """A sentence's beginning in its middle; names such as NaN keep their capitals."""
    return text if text[1:2].isupper() else text[0].lower() + text[1:]


def _errors(evidence: Json) -> Iterator[float]:
    """Yields the measured errors of a derivative, of one parameter or of several by name."""
    for name, value in evidence.items():
        if isinstance(value, Mapping):
            yield from _errors(value)
        elif name in ("analytic_vs_autograd", "analytic_vs_numeric", "max_relative_error"):
            yield from [] if value is None else [value]


def _minimum(found: Json, runs: Runs) -> str:
    (run,) = runs.runs
    rates = _rates(found["working_lr"], run)
    if runs.sweep is None:
        return _curves_up(found["target_hessian"], runs.goal_name) + rates
    landscape = runs.sweep.landscape
    parameter, goal = landscape.parameter, landscape.goal
    if goal is None:
        target = parameter.target
        where = "" if target is None else f" at the target {parameter.show(target)}"
        return f"No: there is none{where}."
    place = place_words(landscape, run["start"], parameter.show)
    return (
        f"Yes: the {runs.goal_name}, {parameter.show(goal.value)}, with loss {number(goal.loss)} "
        f"and the basin {show_interval(parameter, goal.basin)}. {place}.{rates}"
    )


def _rates(working: Sequence[tuple[float, float]] | None, run: Json) -> str:
    """The sentence on the scanned rates that lead from the start to the minimum."""
    # A constant rate is scanned with this many steps at least, also where the run has fewer.
    longer = run.get("schedule", "constant") == "constant" and run["steps"] < SCAN_STEPS
    within = f" in up to {SCAN_STEPS} steps" if longer else ""
    if working is None:
        return ""
    if not working:
        return f" But no learning rate that was scanned leads there from this start{within}."
    (low, high), *more = sorted(working, key=lambda ends: ends[0] / ends[1])
    others = f" (the widest of {1 + len(more)} windows)" if more else ""
    span = f"{show_number(low)} to {show_number(high)}"
    return f" Learning rates from {span}{others} lead there from this start{within}."


def _curves_up(hessian: Json | None, goal: str) -> str:
    values = [] if hessian is None else hessian["eigenvalues"]
    if not values or None in values:
        return f"Not certain: the curvature at the {goal} is not known."
    least = number(min(values), 3)
    if min(values) > 0:
        return f"Yes: at the {goal} the loss curves up in every direction, by {least} at least."
    return f"No: at the {goal} the loss does not curve up in every direction (least: {least})."


def _run(found: Json, runs: Runs) -> str:
    (path,) = runs.paths
    run, text = path.run, f"{run_settings(path.run)}: {end_words(path)}."
    if run["jumps"]:
        first = run["jumps"][0]
        before, after = number(first["loss_before"], 3), number(first["loss_after"], 3)
        text += f" The first jump, step {first['step']}, takes the loss from {before} to {after}."
    where = ""
    if runs.sweep is not None and run["final"] is not None:
        where = f" at {show_wrapped(runs.sweep.landscape.parameter, run['final'])}"
    last = "not finite" if run["final_loss"] is None else number(run["final_loss"], 3)
    return f"{text} The last loss is {last}{where}."


def _help(found: Json, runs: Runs) -> str:
    if found["verdict"] in HEALTHY:
        return "Nothing needs to change."
    # The headline is the primary finding's explanation, then what to do.
    said = (finding["explanation"] for finding in found["findings"] if finding["role"] == "primary")
    explanation = next(said, "")
    advice = found["headline"].removeprefix(f"{as_sentence(explanation)} ")
    tried, works = found["remedies"], sum(remedy["works"] for remedy in found["remedies"])
    return f"{advice} Of {len(tried)} remedies tried {works} work." if works else advice
