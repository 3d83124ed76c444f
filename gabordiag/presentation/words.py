"""What a run says in words: blocks of text and tables, for the terminal and for reports alike.

Everything is taken from the JSON of a result; nothing is computed here. Angles become degrees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gabordiag.dynamics.outcomes import JUMP_RISE, OUTCOMES
from gabordiag.presentation.blocks import (
    Block,
    Heading,
    Listing,
    Mark,
    Paragraph,
    Picture,
    Sketch,
    Table,
    Verdict,
)
from gabordiag.presentation.image_words import (
    batch_label,
    image_sentences,
    images_of,
    skipped_lines,
)
from gabordiag.presentation.joint_words import joint_diagnosis, joint_runs, plane_of_starts
from gabordiag.presentation.phrases import (
    exact_derivative,
    findings,
    number,
    remedies,
    shown,
    span,
    verdict,
    wrapped,
)
from gabordiag.presentation.surface_words import surface
from gabordiag.results import View
from gabordiag.wording import times

Json = Mapping[str, Any]

# Places on a sketch besides the target.
_MOST_MARKS = 6
# Rows of critical points; of more, the lowest minima.
_MOST_POINTS = 24


def blocks(command: str, view: View) -> list[Block]:
    """Returns what a command's result says, in the order in which a person would ask."""
    tell = TELLERS.get(command)
    return [*tell(view.result), *_images(view.result)] if tell is not None else []


def _images(result: Json) -> list[Block]:
    landscape = images_of(result)
    if landscape is None:
        return []
    first, *more = image_sentences(landscape, shown(landscape, landscape["start"]))
    skipped = skipped_lines(landscape)
    told: list[Block] = [Heading("The images"), Paragraph(first)]
    told += [Listing(skipped)] if skipped else []
    return [*told, *(Paragraph(text) for text in more)]


def _sketch(
    landscape: Json, runs: Sequence[Json] = (), start: float | None = None, table: str = "sweep.csv"
) -> Sketch:
    """The landscape with its target, the runs' starts, and where they ended."""
    target = landscape["target"]
    marks = [] if target is None else [Mark(target, f"target {shown(landscape, target)}", True)]
    starts = [run["start"] for run in runs] or [landscape["start"] if start is None else start]
    counts: dict[str, list[float]] = {}
    for place in dict.fromkeys(value for value in starts if value is not None):
        counts.setdefault(f"start {shown(landscape, place)}", []).append(place)
    for run in runs:
        if run["final"] is not None:
            counts.setdefault(f"end {wrapped(landscape, run['final'])}", []).append(run["final"])
    for words, values in list(counts.items())[:_MOST_MARKS]:
        more = f" ({len(values)} runs)" if len(values) > 1 else ""
        marks.append(Mark(values[0], words + more))
    return Sketch(landscape, table, tuple(marks))


def _landscape(landscape: Json) -> list[Block]:
    points = landscape["critical_points"]
    minima = sum(point["kind"] in ("minimum", "kink") for point in points)
    proof = "proven complete" if landscape["certified"] else "not proven complete"
    reason = landscape["certificate"]["reason"]
    text = (
        f"{landscape['parameter']} over {span(landscape, landscape['range'])}: {minima} "
        f"{'minimum' if minima == 1 else 'minima'} among {len(points)} critical points; the list "
        f"is {proof}: {reason}."
    )
    listed = points
    if len(points) > _MOST_POINTS:
        lowest = sorted((p for p in points if p["basin"] is not None), key=lambda p: p["loss"])
        listed = sorted(lowest[:_MOST_POINTS], key=lambda p: p["value"])
        text += f" The {len(listed)} lowest minima follow; result.json has all points."
    rows = tuple(
        (
            shown(landscape, point["value"], 3),
            point["kind"] + (", the target" if point["is_target"] else ""),
            number(point["loss"]),
            number(point["curvature"])
            if point["slope"] is None
            else "slope ±" + number(point["slope"]),
            number(point["stable_lr"], 3),
            span(landscape, point["basin"]),
        )
        for point in listed
    )
    columns = ("at", "kind", "loss", "curvature", "2 / curvature", "basin")
    return [Paragraph(text), Table(columns, rows)]


def _gradient(landscape: Json) -> list[Block]:
    check = landscape.get("gradient_check")
    if check is None:
        return []
    exact = exact_derivative(landscape)
    names = {
        "analytic_vs_autograd": f"{exact} against autograd",
        "analytic_vs_numeric": f"{exact} against finite differences",
        "shortcut_vs_direct": "exact shortcut against the whole image",
    }
    rows = tuple(
        (text, number(check[key], 2)) for key, text in names.items() if check[key] is not None
    )
    return [Heading("The derivative"), Table(("compared", "largest relative error"), rows)]


def _sweep(result: Json) -> list[Block]:
    if "parameters" in result:
        return surface(result)
    told: list[Block] = [Heading("The landscape"), Picture("sweep"), _sketch(result)]
    return [*told, *_landscape(result), *_gradient(result)]


def _run_rows(landscape: Json, runs: Sequence[Json]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            run["optimizer"]
            + (f", momentum {run['momentum']:g}" if run["momentum"] else "")
            + batch_label(run, ", "),
            run["loss"],
            f"{run['lr']:g}",
            shown(landscape, run["start"]),
            run["outcome"].replace("_", " ")
            + (f" (period {run['period']})" if run["period"] else ""),
            wrapped(landscape, run["final"]),
            number(run["final_loss"], 3),
            str(run["n_jumps"]),
            number(run["lyapunov"], 2),
        )
        for run in runs
    )


def _chaos(runs: Sequence[Json]) -> list[Block]:
    """Says of chaotic runs how far their path can be trusted."""
    steps = [run["trusted_steps"] for run in runs if run.get("trusted_steps") is not None]
    if not steps:
        return []
    verb = "is" if len(steps) == 1 else "are"
    which = "The run is" if len(runs) == 1 else f"{len(steps)} of {len(runs)} runs {verb}"
    fewest, most = min(steps), max(steps)
    span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    text = (
        f"{which} chaotic: from {span} steps on, rounding decides the path, so that another "
        "machine, precision or number of threads takes another one. Outcomes and rates of jumps "
        "stay; single steps and exact counts do not."
    )
    return [Paragraph(text)]


_RUN_COLUMNS = ("optimizer", "loss", "lr", "start", "outcome", "end", "loss", "jumps", "Lyapunov")


def _meanings(runs: Sequence[Json]) -> Listing:
    """Explains the words of the table of runs that occur in it."""
    items = [
        f"{name.replace('_', ' ')}: {OUTCOMES[name]}"
        for name in dict.fromkeys(run["outcome"] for run in runs)
    ]
    if any(run["n_jumps"] for run in runs):
        items.append(
            f"jumps: steps on which the loss rises by {JUMP_RISE:.0%} of the landscape's height"
        )
    if any(run["lyapunov"] is not None for run in runs):
        items.append("Lyapunov: two runs side by side part by this exponent a step; above 0, chaos")
    return Listing(tuple(items))


def _optimize(result: Json) -> list[Block]:
    if "learned" in result:
        return joint_runs(result)
    landscape, runs = result["landscape"], result["runs"]
    told: list[Block] = [Heading("The runs"), Picture("animation"), Picture("optimize")]
    told.append(Table(_RUN_COLUMNS, _run_rows(landscape, runs), 4))
    told += [_meanings(runs), *_chaos(runs)]
    told += _batches(runs)
    told += [Paragraph(note) for note in result.get("notes", [])]
    told += [Heading("The landscape"), _sketch(landscape, runs)]
    return [*told, *_landscape(landscape)]


def _batches(runs: Sequence[Json]) -> list[Block]:
    told = tuple(run["batch"]["explanation"] for run in runs if run.get("batch"))
    if not told:
        return []
    return [Heading("What the batches change"), *(Paragraph(text) for text in told)]


def _windows(result: Json) -> str:
    working = result["working_lr"]
    start = shown(result["landscape"], result["start"])
    if working:
        spans = " and ".join(f"{low:.3g} to {high:.3g}" for low, high in working[:3])
        more = f" (and {len(working) - 3} more)" if len(working) > 3 else ""
        return f"From {start} the learning rates {spans}{more} reach the target."
    text = f"From {start} no scanned learning rate reaches the target."
    escape, hold = result["escape_lr"], result["hold_lr"]
    if escape is None or hold is None:
        return text
    text += (
        f" Leaving the start's basin takes {escape:.3g}; the target's basin holds at most "
        f"{hold:.3g}"
    )
    if escape <= hold:
        return f"{text}: none of the rates between comes to rest there."
    return f"{text}: {times(escape / hold)} times less."


def _theory(result: Json) -> list[Block]:
    theory = result.get("theory")
    if not theory:
        return []
    return [Paragraph(theory["explanation"])]


def _basins(result: Json) -> list[Block]:
    if "parameters" in result:
        return plane_of_starts(result)
    shares = sorted(result["fractions"].items(), key=lambda item: -item[1])
    rows = tuple((name.replace("_", " "), f"{share:.1%}", OUTCOMES[name]) for name, share in shares)
    text = _windows(result)
    if result["best_lr"] is not None:
        text += (
            f" At best, with lr {result['best_lr']:.3g}, {result['reachable_share']:.0%} of all "
            "starts reach it."
        )
    return [
        Heading("Starts against learning rates"),
        Paragraph(text),
        Picture("basins"),
        *_theory(result),
        Table(("outcome", "share", "meaning"), rows, 0),
        Heading("The landscape"),
        _sketch(result["landscape"], start=result["start"]),
        *_landscape(result["landscape"]),
    ]


def _bifurcate(result: Json) -> list[Block]:
    landscape = result["landscape"]
    rows = tuple(
        (band["kind"], f"{band['lr'][0]:.3g}", f"{band['lr'][1]:.3g}")
        for band in result["bands"]
        if band["lr"][1] > 1.02 * band["lr"][0]
    )
    text = f"Attractor from {shown(landscape, result['start'])}, bands of learning rates:"
    return [
        Heading("Where the iterates end up"),
        Picture("bifurcation"),
        Paragraph(text),
        Table(("behaviour", "from lr", "to lr"), rows),
    ]


def _diagnose(result: Json) -> list[Block]:
    if "learned" in result:
        return joint_diagnosis(result)
    landscape = result["landscape"]
    told: list[Block] = [verdict(result), Picture("run")]
    if result["jump_story"]:
        told += [Heading("What happened"), Listing(tuple(result["jump_story"]))]
    told += findings(result)
    told += remedies(result)
    told += [Heading("The run"), Table(_RUN_COLUMNS, _run_rows(landscape, [result["run"]]), 4)]
    told += [_meanings([result["run"]]), *_chaos([result["run"]])]
    told += [Heading("The landscape"), Picture("sweep"), _sketch(landscape, [result["run"]])]
    return [*told, *_landscape(landscape), *_gradient(landscape)]


def _reproduce(result: Json) -> list[Block]:
    told: list[Block] = []
    for name, case in result["cases"].items():
        told += _symptom(name, case)
    told.append(Picture("comparison"))
    for name, case in result["cases"].items():
        told += _case(name, case)
    return told


def _symptom(name: str, case: Json) -> list[Block]:
    """The sentence on a filter, and what was seen."""
    run = case["symptom"]["run"]
    symptom = "reproduced" if case["symptom"]["reproduced"] else "not reproduced"
    text = (
        f"sgd, {run['loss']}, lr {run['lr']:g}, {run['steps']} steps from "
        f"{shown(case['landscape'], run['start'])}: the question's symptom is {symptom}: "
        f"{run['symptoms']} times the loss fell below 30% of its largest and was back "
        "above 60% one step later."
    )
    told: list[Block] = [Heading(f"The {name} filter")]
    if "diagnosis" in case:
        told.append(verdict(case["diagnosis"]))
    return [*told, Paragraph(text)]


def _case(name: str, case: Json) -> list[Block]:
    """What happened with a filter, why, and what helps."""
    landscape = case["landscape"]
    told: list[Block] = [Heading(f"What happened with the {name} filter")]
    told += [Picture(f"{name}-animation"), Picture(f"{name}-run")]
    if "diagnosis" in case:
        told.append(Listing(tuple(case["diagnosis"]["jump_story"])))
        told += findings(case["diagnosis"])
        told += remedies(case["diagnosis"])
    if "basins" in case:
        basins = {**case["basins"], "landscape": landscape}
        told += [Heading(f"Starts and learning rates of the {name} filter")]
        told += [Paragraph(_windows(basins)), Picture(f"{name}-basins"), *_theory(basins)]
        told.append(Picture(f"{name}-bifurcation"))
    told.append(Heading(f"Other runs of the {name} filter"))
    told.append(Table(_RUN_COLUMNS, _run_rows(landscape, case["runs"]), 4))
    told += [_meanings(case["runs"]), *_chaos(case["runs"])]
    told += [Heading(f"The landscape of the {name} filter"), Picture(f"{name}-sweep")]
    told.append(_sketch(landscape, [case["symptom"]["run"]], table=f"{name}-sweep.csv"))
    return [*told, *_landscape(landscape), *_gradient(landscape)]


def _check(result: Json) -> list[Block]:
    user = result.get("user") or {}
    text = user.get("explanation") or "gabordiag's own kernel and derivatives agree."
    reference = result.get("reference") or {}
    rows = tuple((name.replace("_", " "), number(value, 2)) for name, value in reference.items())
    return [
        Verdict(
            text, str(user.get("best_match") or ("ok" if result["ok"] else "wrong")), result["ok"]
        ),
        Heading("References"),
        Table(("reference", "largest relative error"), rows),
    ]


def _explain(result: Json) -> list[Block]:
    told: list[Block] = [verdict(result)]
    told += [Paragraph(f"{note[0].upper()}{note[1:]}.") for note in result.get("notes", [])]
    # The verdict's own finding says no more than its headline.
    rest = [f["explanation"] for f in result["findings"] if f["explanation"] != result["headline"]]
    return [*told, *(Paragraph(f"{text[0].upper()}{text[1:]}.") for text in rest)]


def _explore(result: Json) -> list[Block]:
    text = (
        "Open the page in a browser: start, rate, momentum, steps, optimizer and loss can be moved."
    )
    return [
        Heading("The page"),
        Paragraph(text),
        *_landscape(result["losses"][result["loss"]]["landscape"]),
    ]


# command -> (its result's JSON) -> what it says.
TELLERS: dict[str, Callable[[Json], list[Block]]] = {
    "sweep": _sweep,
    "optimize": _optimize,
    "basins": _basins,
    "bifurcate": _bifurcate,
    "diagnose": _diagnose,
    "reproduce": _reproduce,
    "check": _check,
    "explain": _explain,
    "explore": _explore,
}
