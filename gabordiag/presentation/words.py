"""What results say: blocks of text and tables, for terminal and reports alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.outcomes import JUMP_RISE, OUTCOMES
from gabordiag.landscape.critical import CriticalPoint, Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.space import Parameter
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
from gabordiag.presentation.figures.run_paths import Runs
from gabordiag.presentation.image_words import batch_label, image_blocks
from gabordiag.presentation.phrases import (
    describe_certificate,
    describe_jumps,
    describe_points,
    exact_derivative,
    findings,
    number,
    outcome_name,
    outcome_shares,
    rates_words,
    remedies,
    show_interval,
    show_wrapped,
    verdict,
)
from gabordiag.presentation.rates import rate_words
from gabordiag.presentation.restored import Case, Diagnosed, Explored, Reproduced
from gabordiag.presentation.space_words import at_target, ends

Json = Mapping[str, Any]

# Places on a sketch besides the target.
_MOST_MARKS = 6
# Rows of critical points; of more, the lowest minima.
_MOST_POINTS = 24


def sweep(made: Sweep) -> list[Block]:
    """Returns the landscape, its critical points, and how well the gradients agree."""
    return [
        Heading("The landscape"),
        Picture("sweep"),
        _sketch(made),
        *_points(made.landscape),
        *_gradient(made),
        *image_blocks(made.landscape),
    ]


def runs(made: Runs) -> list[Block]:
    """Returns the runs in a table, and what they ran on."""
    return [
        Heading("The runs"),
        Picture("animation"),
        Picture("optimize" if made.sweep else "pairs"),
        *_run_table(made),
        *_batches(made.runs),
        *(Paragraph(note) for note in made.notes),
        *_ground(made),
    ]


def basins(made: Basins) -> list[Block]:
    """Returns which learning rates work from where, and the landscape."""
    best = ""
    if made.best_lr is not None:
        share = made.reached_share.max()
        best = f" At lr {made.best_lr:.3g}, the best, {share:.0%} of all starts reach it."
    return [
        Heading("Starts against learning rates"),
        Paragraph(_rates(made) + best),
        Picture("basins"),
        *_theory(made),
        outcome_shares(made.fractions),
        Heading("The landscape"),
        _sketch(made.sweep, start=made.windows.start),
        *_points(made.sweep.landscape),
        *image_blocks(made.sweep.landscape),
    ]


def bifurcation(made: Bifurcation) -> list[Block]:
    """Returns the bands of learning rates with equal behaviour."""
    rows = tuple(
        (kind, f"{low:.3g}", f"{high:.3g}") for kind, low, high in made.bands if high > 1.02 * low
    )
    start = made.landscape.parameter.show(made.start)
    return [
        Heading("Where the iterates end up"),
        Picture("bifurcation"),
        Paragraph(f"Attractor from {start}, bands of learning rates:"),
        Table(("behaviour", "from lr", "to lr"), rows),
        *image_blocks(made.landscape),
    ]


def diagnosis(made: Diagnosed) -> list[Block]:
    """Returns the verdict, what happened, why, what helps, and the run on what it ran on."""
    found, one = made.verdict, made.runs.sweep
    blocks: list[Block] = [verdict(found), Picture("run" if one else "pairs")]
    if found["jump_story"]:
        blocks += [Heading("What happened"), Listing(tuple(found["jump_story"]))]
    blocks += findings(found) if found["findings"] else []
    blocks += [*remedies(found), Heading("The run"), *_run_table(made.runs)]
    blocks += _ground(made.runs, Picture("sweep"))
    if one is None:
        return [*blocks, *at_target(made.runs, found["target_hessian"])]
    return [*blocks, *_gradient(one)]


def reproduction(made: Reproduced) -> list[Block]:
    """Returns the symptom of each filter, then what happened, why, and what helps."""
    blocks: list[Block] = []
    for name, case in made.cases.items():
        blocks += _symptom(name, case)
    blocks.append(Picture("comparison"))
    for name, case in made.cases.items():
        blocks += _case(name, case)
    first = next(iter(made.cases.values()))
    return [*blocks, *image_blocks(first.failing.ground.landscape)]


def check(result: Json) -> list[Block]:
    """Returns whether a kernel or a derivative is right, and how well the references agree."""
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


def explanation(result: Json) -> list[Block]:
    """Returns the verdict on a log, and what the log does not show."""
    # The verdict's own finding says no more than its headline.
    more = [f["explanation"] for f in result["findings"] if f["explanation"] != result["headline"]]
    sentences = [f"{text[0].upper()}{text[1:]}." for text in [*result.get("notes", []), *more]]
    return [verdict(result), Picture("log"), *(Paragraph(text) for text in sentences)]


def exploration(made: Explored) -> list[Block]:
    """Returns what can be done on the interactive page, and the landscape it opens with."""
    text = (
        "Open the page in a browser: start, learning rate, momentum, steps, optimizer and loss can "
        "be changed."
    )
    return [Heading("The page"), Paragraph(text), *_points(made.landscape)]


def _sketch(made: Sweep, runs: Sequence[Json] = (), start: float | None = None) -> Sketch:
    """The landscape with its target, the runs' starts, and where they ended."""
    parameter = made.landscape.parameter
    target = parameter.target
    marks = [] if target is None else [Mark(target, f"target {parameter.show(target)}", True)]
    starts = [run["start"] for run in runs] or [parameter.start if start is None else start]
    counts: dict[str, list[float]] = {}
    for place in dict.fromkeys(value for value in starts if value is not None):
        counts.setdefault(f"start {parameter.show(place)}", []).append(place)
    for run in runs:
        if run["final"] is not None:
            words = f"end {show_wrapped(parameter, run['final'])}"
            counts.setdefault(words, []).append(run["final"])
    for words, values in list(counts.items())[:_MOST_MARKS]:
        more = f" ({len(values)} runs)" if len(values) > 1 else ""
        marks.append(Mark(values[0], words + more))
    return Sketch(made, tuple(marks))


def _ground(made: Runs, *pictures: Picture) -> list[Block]:
    """The runs' landscape; of several parameters, where each began and ended."""
    if made.sweep is None:
        return ends(made)
    sketch, landscape = _sketch(made.sweep, made.runs), made.sweep.landscape
    about = [Heading("The landscape"), *pictures, sketch, *_points(landscape)]
    return [*about, *image_blocks(landscape)]


def _points(landscape: Landscape) -> list[Block]:
    points, parameter, certificate = landscape.points, landscape.parameter, landscape.certificate
    span = show_interval(parameter, (parameter.low, parameter.high))
    text = (
        f"{parameter.name} over {span}: {describe_points(landscape)}; {_completeness(landscape)}: "
        f"{certificate.reason}."
    )
    if landscape.discontinuities:
        text += f" {describe_jumps(landscape)}"
    if len(points) > _MOST_POINTS:
        lowest = sorted(landscape.attractors, key=lambda point: point.loss)[:_MOST_POINTS]
        points = tuple(sorted(lowest, key=lambda point: point.value))
        text += f" The {len(points)} lowest minima follow; result.json has all points."
    if any(point.stable_lr is not None for point in points):
        text += (
            " Plain gradient descent is stable at a minimum up to the learning rate 2 / curvature."
        )
    rows = tuple(_point_row(parameter, point) for point in points)
    columns = ("at", "kind", "loss", "curvature", "2 / curvature", "basin")
    return [Paragraph(text), Table(columns, rows)]


def _completeness(landscape: Landscape) -> str:
    words = describe_certificate(landscape)
    if landscape.certificate.resolution is not None:
        return f"{words}, no dip wider than that was missed"
    return f"the list is {words}" if landscape.certificate.certified else f"the list {words}"


def _point_row(parameter: Parameter, point: CriticalPoint) -> tuple[str, ...]:
    bend = number(point.curvature) if point.slope is None else f"slope ±{number(point.slope)}"
    return (
        parameter.show(point.value, 3),
        point.kind + (", the target" if point.is_target else ""),
        number(point.loss),
        bend,
        number(point.stable_lr, 3),
        show_interval(parameter, point.basin),
    )


def _gradient(made: Sweep) -> list[Block]:
    check, exact = made.gradient_check, exact_derivative(made)
    compared = {
        f"{exact} against autograd": check.analytic_vs_autograd,
        f"{exact} against finite differences": check.analytic_vs_numeric,
        "exact shortcut against the whole image": check.shortcut_vs_direct,
    }
    rows = tuple((text, number(error, 2)) for text, error in compared.items() if error is not None)
    return [Heading("The derivative"), Table(("compared", "largest relative error"), rows)]


def _run_table(made: Runs) -> list[Block]:
    """The runs, the meanings of the words in their table, and how far they can be trusted."""
    rows = []
    for index, run in enumerate(made.runs, 1):
        momentum = f", momentum {run['momentum']:g}" if run["momentum"] else ""
        cells = {} if made.sweep or len(made.runs) == 1 else {"run": str(index)}
        cells["optimizer"] = run["optimizer"] + momentum + batch_label(run, ", ")
        cells |= {"loss": run["loss"], "lr": rates_words(run["lr"])}
        last = {"final loss": number(run["final_loss"], 3), "jumps": str(run["n_jumps"])}
        if made.sweep is None:
            cells |= {"outcome": outcome_name(run), "steps": str(run["steps"]), **last}
        else:
            parameter = made.sweep.landscape.parameter
            cells |= {"start": parameter.show(run["start"]), "outcome": outcome_name(run)}
            cells |= {"end": show_wrapped(parameter, run["final"]), **last}
            cells["Lyapunov"] = number(run["lyapunov"], 2)
        rows.append(cells)
    columns = tuple(rows[0])
    table = Table(columns, tuple(tuple(row.values()) for row in rows), columns.index("outcome"))
    return [table, _meanings(made), *_chaos(made.runs)]


def _meanings(made: Runs) -> Listing:
    """Explains the words of the table of runs that occur in it."""
    runs = made.runs
    items = [
        f"{name.replace('_', ' ')}: {OUTCOMES[name]}"
        for name in dict.fromkeys(run["outcome"] for run in runs)
    ]
    if any(run["n_jumps"] for run in runs):
        height = "landscape's height" if made.sweep else "range of the run's losses"
        items.append(f"jumps: steps on which the loss rises by {JUMP_RISE:.0%} of the {height}")
    if any(run["lyapunov"] is not None for run in runs):
        items.append(
            "Lyapunov: the exponent, per step, with which two nearby runs diverge from each other; "
            "above 0, the run is chaotic"
        )
    return Listing(tuple(items))


def _chaos(runs: Sequence[Json]) -> list[Block]:
    """Says how far the paths of chaotic runs can be trusted."""
    steps = [run["trusted_steps"] for run in runs if run.get("trusted_steps") is not None]
    if not steps:
        return []
    verb = "is" if len(steps) == 1 else "are"
    which = "The run is" if len(runs) == 1 else f"{len(steps)} of {len(runs)} runs {verb}"
    fewest, most = min(steps), max(steps)
    span = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    text = (
        f"{which} chaotic: from step {span} on, rounding decides the path, so that another "
        "machine, precision or number of threads takes another one. Outcomes and rates of jumps "
        "are reproducible; single steps and exact counts are not."
    )
    return [Paragraph(text)]


def _batches(runs: Sequence[Json]) -> list[Block]:
    texts = [run["batch"]["explanation"] for run in runs if run.get("batch")]
    if not texts:
        return []
    return [Heading("What the batches change"), *(Paragraph(text) for text in texts)]


def _rates(made: Basins) -> str:
    headline, reason = rate_words(made, made.sweep.landscape.parameter.show)
    return f"{headline}. {reason}."


def _theory(made: Basins) -> list[Block]:
    return [] if made.theory is None else [Paragraph(made.theory.explanation)]


def _symptom(name: str, case: Case) -> list[Block]:
    """The verdict on a filter, and what was seen."""
    (run,) = case.failing.runs
    symptom = "reproduced" if case.reproduced else "not reproduced"
    start = case.failing.ground.landscape.parameter.show(run["start"])
    text = (
        f"sgd, {run['loss']}, lr {run['lr']:g}, {run['steps']} steps from {start}: the question's "
        f"symptom is {symptom}: {run['symptoms']} times the loss fell below 30% of its largest and "
        "was back above 60% one step later."
    )
    blocks: list[Block] = [Heading(f"The {name} filter")]
    if case.diagnosis is not None:
        blocks.append(verdict(case.diagnosis))
    return [*blocks, Paragraph(text)]


def _case(name: str, case: Case) -> list[Block]:
    """What happened with a filter, why, and what helps."""
    made = case.failing.ground
    blocks: list[Block] = [Heading(f"What happened with the {name} filter")]
    blocks += [Picture(f"{name}-animation"), Picture(f"{name}-run")]
    if case.diagnosis is not None:
        blocks.append(Listing(tuple(case.diagnosis["jump_story"])))
        blocks += [*findings(case.diagnosis), *remedies(case.diagnosis)]
    if case.basins is not None:
        blocks += [Heading(f"Starts and learning rates of the {name} filter")]
        blocks += [Paragraph(_rates(case.basins)), Picture(f"{name}-basins")]
        blocks += [*_theory(case.basins), Picture(f"{name}-bifurcation")]
    return [
        *blocks,
        Heading(f"Other runs of the {name} filter"),
        *_run_table(case.others),
        Heading(f"The landscape of the {name} filter"),
        Picture(f"{name}-sweep"),
        _sketch(made, case.failing.runs),
        *_points(made.landscape),
        *_gradient(made),
    ]
