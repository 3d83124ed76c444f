"""What results say: blocks of text and tables, for terminal and reports alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gabordiag.dynamics.outcomes import ALIKE, ARRIVED, RATE_OUTCOMES
from gabordiag.landscape.points import Landscape
from gabordiag.objective.losses import LOSSES
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
from gabordiag.presentation.late import Late
from gabordiag.presentation.phrases import (
    Json,
    batch_label,
    describe_certificate,
    describe_points,
    exact_derivative,
    height_words,
    how_else,
    jump_definition,
    number,
    outcome_words,
    parameter_of,
    rate_words,
    rates_words,
    run_settings,
    share_words,
    show_interval,
    show_wrapped,
)
from gabordiag.results import View
from gabordiag.wording import as_sentence, counted, spoken

if TYPE_CHECKING:
    from gabordiag.charting.atlas import Atlas
    from gabordiag.dynamics.bifurcation import Bifurcation
    from gabordiag.dynamics.maps import Basins
    from gabordiag.landscape.sweep import Sweep
    from gabordiag.presentation.figures.run_paths import Case, Runs


answers = Late("presentation.answers.answers")
atlas_plan_of = Late("charting.engine.AtlasPlan")
_surface_axes = Late("presentation.figures.surface.surface_axes")

_GOOD_VERDICTS = ("healthy", "equivalent_solution", "shows_the_run", "working_lr")
_ROLES = {"primary": "cause", "contributing": "contributes", "ruled_out": "ruled out"}
# Places on a sketch besides the target.
_MOST_MARKS = 6
# Rows of critical points; of more, the lowest minima.
_MOST_POINTS = 24
# Skipped files that are listed; result.json has all.
_MOST_LISTED = 20
# Elements of a training in the table; of more, each verdict, with so many names.
_MOST_ELEMENTS, _MOST_NAMES = 16, 4
# Bands of learning rates in the table; of more, those of several rates.
_MOST_BANDS = 24


def sweep(made: Sweep) -> list[Block]:
    """Returns the landscape, its critical points, and how well the gradients agree."""
    return [
        *_landscape(made, Picture("sweep")),
        *_gradient(made),
        *(Paragraph(f"Left out for want of time: {text}.") for text in made.left_out),
        *image_blocks(made.landscape),
    ]


def runs(made: Runs) -> list[Block]:
    """Returns the runs in a table, and what they ran on."""
    batches = [Paragraph(run["batch"]["explanation"]) for run in made.runs if run.get("batch")]
    return [
        Heading("The runs"),
        Picture("animation"),
        Picture("optimize" if made.sweep else "pairs"),
        *_run_table(made),
        *([Heading("What the batches change")] if batches else []),
        *batches,
        *(Paragraph(note) for note in made.result.get("notes", ())),
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
        *_map(made, "basins", best),
        _outcome_shares(made.fractions, made.sweep.landscape.parameter.goal_name),
        *_landscape(made.sweep, start=made.windows.start),
        *image_blocks(made.sweep.landscape),
    ]


def bifurcation(made: Bifurcation) -> list[Block]:
    """Returns the bands of learning rates with equal behaviour."""
    words = {"nonfinite": "diverges", "other": "no period, no chaos"}
    bands, note = made.bands, ""
    if len(bands) > _MOST_BANDS:
        bands = [(kind, low, high) for kind, low, high in bands if high > low]
        left_out = counted(len(made.bands) - len(bands), "band", "bands")
        note = f" ({left_out} of a single rate left out)"
    rows = tuple((words.get(kind, kind), f"{low:.3g}", f"{high:.3g}") for kind, low, high in bands)
    start = made.landscape.parameter.show(made.start)
    return [
        Heading("Where the iterates end up"),
        Picture("bifurcation"),
        Paragraph(f"Attractor from {start}, bands of learning rates{note}:"),
        Table(("behaviour", "from lr", "to lr"), rows),
        *image_blocks(made.landscape),
    ]


def diagnosis(made: Runs) -> list[Block]:
    """Returns answers, verdict, what happened, why, what helps, and the run on what it ran on."""
    found, one = made.result, made.sweep
    blocks: list[Block] = [answers({"answer": (found, made)}), _verdict(found)]
    blocks.append(Picture("run" if one else "pairs"))
    if found["jump_story"]:
        blocks += [Heading("What happened"), Listing(tuple(found["jump_story"]))]
    blocks += _findings(found) if found["findings"] else []
    blocks += [*_remedies(found), Heading("The run"), *_run_table(made)]
    blocks += _ground(made, Picture("sweep"))
    if one is None:
        return [*blocks, *at_target(made, found["target_hessian"])]
    return [*blocks, *_gradient(one)]


def reproduction(cases: Mapping[str, Case]) -> list[Block]:
    """Returns the answers, the symptom of each filter, what happened, why, and what helps."""
    found = {
        f"{name} filter": (case.diagnosis, case.failing)
        for name, case in cases.items()
        if case.diagnosis is not None
    }
    blocks: list[Block] = [answers(found)] if found else []
    for name, case in cases.items():
        blocks += _symptom(name, case)
    blocks.append(Picture("comparison"))
    for name, case in cases.items():
        blocks += _case(name, case)
    return [*blocks, *image_blocks(next(iter(cases.values())).failing.ground.landscape)]


def check(view: View) -> list[Block]:
    """Returns whether a kernel or a derivative is right, and how well the references agree."""
    result = view.result
    user, is_right = result["user"] or {}, result["ok"]
    text = "gabordiag's own kernel and derivatives agree."
    if user:
        text = as_sentence(user["explanation"])
    word = user.get("best_match", "unknown")
    if word == "unknown":
        word = "ok" if is_right else "wrong"
    reference = result["reference"].items()
    rows = tuple((spoken(name), number(value, 2)) for name, value in reference)
    table = Table(("reference", "largest relative error"), rows)
    return [Verdict(text, word, is_right), Heading("References"), table]


def explanation(view: View) -> list[Block]:
    """Returns the verdict on a log, and what the log does not show."""
    result = view.result
    # The verdict's own finding says no more than its headline.
    more = [f["explanation"] for f in result["findings"] if f["explanation"] != result["headline"]]
    sentences = map(as_sentence, [*result.get("notes", []), *more])
    return [_verdict(result), Picture("log"), *map(Paragraph, sentences)]


def exploration(view: View) -> list[Block]:
    """Returns what can be done on the interactive page, and the landscape it opens with."""
    landscape = Landscape.from_dict(view.result["losses"][view.result["loss"]]["landscape"])
    text = (
        "Open the page in a browser: start, learning rate, momentum, steps, optimizer and loss can "
        "be changed."
    )
    return [Heading("The page"), Paragraph(text), *_points(landscape)]


def _verdict(result: Json) -> Verdict:
    good = result["verdict"] in _GOOD_VERDICTS
    return Verdict(result["headline"], result["verdict"], good)


def _findings(result: Json) -> list[Block]:
    found = result["findings"]
    rows = tuple((_ROLES[f["role"]], spoken(f["cause"]), f["explanation"]) for f in found)
    return [Heading("Why"), Table(("role", "cause", "measured"), rows)]


def _remedies(result: Json) -> list[Block]:
    if not result["remedies"]:
        return []
    rows = []
    for remedy in result["remedies"]:
        name, ending = (spoken(remedy[key]) for key in ("name", "outcome"))
        works = "works" if remedy["works"] else "does not"
        rows.append((works, name, remedy["change"], ending))
    table = Table(("", "remedy", "change", "ends"), tuple(rows), 3)
    return [Heading("What helps, each one tried"), table]


def _outcome_shares(fractions: Mapping[str, float], goal: str = "target") -> Table:
    shares = sorted(fractions.items(), key=lambda item: -item[1])
    rows = tuple(
        (spoken(name), f"{share:.1%}", outcome_words(name, goal)) for name, share in shares if share
    )
    return Table(("outcome", "share", "meaning"), rows, 0)


def _landscape(
    made: Sweep,
    *pictures: Picture,
    title: str = "The landscape",
    runs: Sequence[Json] = (),
    start: float | None = None,
) -> list[Block]:
    """The landscape in letters, with target, starts and ends of runs, and in a table."""
    parameter = made.landscape.parameter
    target = parameter.target
    marks = [] if target is None else [Mark(target, f"target {parameter.show(target)}", True)]
    starts = [run["start"] for run in runs] or [parameter.start if start is None else start]
    places = [(f"start {parameter.show(value)}", value) for value in dict.fromkeys(starts)]
    places += [(f"end {show_wrapped(parameter, run['final'])}", run["final"]) for run in runs]
    values: dict[str, list[float]] = {}
    for words, value in places:
        if value is not None:
            values.setdefault(words, []).append(value)
    for words, (first, *others) in list(values.items())[:_MOST_MARKS]:
        more = f" ({1 + len(others)} runs)" if others else ""
        marks.append(Mark(first, words + more))
    return [Heading(title), *pictures, Sketch(made, tuple(marks)), *_points(made.landscape)]


def _ground(made: Runs, *pictures: Picture) -> list[Block]:
    """The runs' landscape; of several parameters, where each began and ended."""
    if made.sweep is None:
        return ends(made)
    about = _landscape(made.sweep, *pictures, runs=made.runs)
    return [*about, *image_blocks(made.sweep.landscape)]


def _points(landscape: Landscape) -> list[Block]:
    points, parameter, certificate = landscape.points, landscape.parameter, landscape.certificate
    span = show_interval(parameter, (parameter.low, parameter.high))
    known = describe_certificate(landscape)
    if certificate.resolution is not None:
        known += ", no dip wider than that was missed"
    else:
        known = f"the list {'is ' if certificate.certified else ''}{known}"
    text = (
        f"{parameter.name} over {span}: {describe_points(landscape)}; {known}: "
        f"{certificate.reason}."
    )
    for jump in landscape.discontinuities:
        text += (
            f" The loss jumps at {parameter.show(jump.above)}, from {number(jump.loss_below)} "
            f"below to {number(jump.loss_above)} above."
        )
    if len(points) > _MOST_POINTS:
        lowest = sorted(landscape.attractors, key=lambda point: point.loss)[:_MOST_POINTS]
        points = tuple(sorted(lowest, key=lambda point: point.value))
        text += f" The {len(points)} lowest minima follow; result.json has all points."
    if any(point.stable_lr is not None for point in points):
        text += (
            " Plain gradient descent is stable at a minimum up to the learning rate 2 / curvature."
        )
    rows = tuple(
        (
            parameter.show(point.value, 3),
            point.kind + (", the target" if point.is_target else ""),
            number(point.loss),
            number(point.curvature) if point.slope is None else f"slope ±{number(point.slope)}",
            number(point.stable_lr, 3),
            show_interval(parameter, point.basin),
        )
        for point in points
    )
    columns = ("at", "kind", "loss", "curvature", "2 / curvature", "basin")
    return [Paragraph(text), *([Table(columns, rows)] if rows else [])]


def _gradient(made: Sweep) -> list[Block]:
    check, exact = made.gradient_check, exact_derivative(made)
    compared = {
        f"{exact} against autograd": check.analytic_vs_autograd,
        f"{exact} against finite differences": check.analytic_vs_numeric,
        "exact shortcut against sums over pixels": check.shortcut_vs_direct,
    }
    rows = tuple((text, number(error, 2)) for text, error in compared.items() if error is not None)
    return [Heading("The derivative"), Table(("compared", "largest relative error"), rows)]


def _run_table(made: Runs) -> list[Block]:
    rows = []
    for index, run in enumerate(made.runs, 1):
        momentum = f"momentum {run['momentum']:g}" if run["momentum"] else ""
        cells = {} if made.sweep or len(made.runs) == 1 else {"run": str(index)}
        cells["optimizer"] = ", ".join(filter(None, (run["optimizer"], momentum, batch_label(run))))
        cells |= {"loss": run["loss"], "lr": rates_words(run["lr"])}
        period = f" (period {run['period']})" if run["period"] else ""
        outcome = spoken(run["outcome"]) + period
        last = {"final loss": number(run["final_loss"], 3), "jumps": str(run["n_jumps"])}
        if made.sweep is None:
            cells |= {"outcome": outcome, "steps": str(run["steps"]), **last}
        else:
            parameter = made.sweep.landscape.parameter
            cells |= {"start": parameter.show(run["start"]), "outcome": outcome}
            cells |= {"end": show_wrapped(parameter, run["final"]), **last}
            cells["Lyapunov"] = number(run["lyapunov"], 2)
        rows.append(cells)
    columns = tuple(rows[0])
    table = Table(columns, tuple(tuple(row.values()) for row in rows), columns.index("outcome"))
    return [table, _meanings(made), *_chaos(made.runs)]


def _meanings(made: Runs) -> Listing:
    runs = made.runs
    items = [
        f"{spoken(name)}: {outcome_words(name, made.goal_name)}"
        for name in dict.fromkeys(run["outcome"] for run in runs)
    ]
    if any(run["n_jumps"] for run in runs):
        height = "landscape's height" if made.sweep else "range of the run's losses"
        items.append(f"jump: {jump_definition(height)}")
    if any(run["lyapunov"] is not None for run in runs):
        items.append(
            "Lyapunov: the exponent, per step, with which two nearby runs diverge from each other; "
            "below 0 they approach each other"
        )
    return Listing(tuple(items))


def _chaos(runs: Sequence[Json]) -> list[Block]:
    steps = [run["trusted_steps"] for run in runs if run.get("trusted_steps") is not None]
    if not steps:
        return []
    verb = "is" if len(steps) == 1 else "are"
    which = "The run is" if len(runs) == 1 else f"{len(steps)} of {len(runs)} runs {verb}"
    span = " to ".join(map(str, sorted({min(steps), max(steps)})))
    text = (
        f"{which} chaotic: from step {span} on, rounding decides the path, so that another "
        "machine, precision or number of threads takes another one. Outcomes and rates of jumps "
        "are reproducible; single steps and exact counts are not."
    )
    return [Paragraph(text)]


def _map(made: Basins, picture: str, more: str = "") -> list[Block]:
    headline, reason = rate_words(made, made.sweep.landscape.parameter.show)
    theory = [] if made.theory is None else [Paragraph(made.theory.explanation)]
    return [Paragraph(f"{headline}. {reason}.{more}"), Picture(picture), *theory]


def _symptom(name: str, case: Case) -> list[Block]:
    (run,) = case.failing.runs
    symptom = "shows" if case.reproduced else "does not show"
    start = case.failing.ground.landscape.parameter.show(run["start"])
    text = (
        f"sgd, {run['loss']}, lr {run['lr']:g}, {run['steps']} steps from {start}: the run "
        f"{symptom} the question's symptom, with {counted(run['n_jumps'], 'jump', 'jumps')}; "
        f"a jump is {jump_definition()}."
    )
    blocks: list[Block] = [Heading(f"The {name} filter")]
    if case.diagnosis is not None:
        blocks.append(_verdict(case.diagnosis))
    return [*blocks, Paragraph(text)]


def _case(name: str, case: Case) -> list[Block]:
    made, title = case.failing.ground, f"The landscape of the {name} filter"
    blocks: list[Block] = [Heading(f"What happened with the {name} filter")]
    blocks += [Picture(f"{name}-animation"), Picture(f"{name}-run")]
    if case.diagnosis is not None:
        blocks.append(Listing(tuple(case.diagnosis["jump_story"])))
        blocks += [*_findings(case.diagnosis), *_remedies(case.diagnosis)]
    if case.basins is not None:
        blocks += [Heading(f"Starts and learning rates of the {name} filter")]
        blocks += [*_map(case.basins, f"{name}-basins"), Picture(f"{name}-bifurcation")]
    return [
        *blocks,
        Heading(f"Other runs of the {name} filter"),
        *_run_table(case.others),
        *_landscape(made, Picture(f"{name}-sweep"), title=title, runs=case.failing.runs),
        *_gradient(made),
    ]


def surface(view: View) -> list[Block]:
    """Returns what a surface says, with its two pictures."""
    found, *more = points_found(view.result)
    seen, in_space = Picture("surface"), Picture("surface-in-space")
    return [Heading("The surface"), found, seen, *more, in_space]


def network(view: View) -> list[Block]:
    """Returns whether a plane through all weights shows the run, and what it was measured by."""
    result = view.result
    run, other = result["run"], result["second_plane"]
    rule = result["rule"]
    rows = [
        ("this one", number(result["captured"], 3), number(result["path_mismatch"], 3)),
        ("another, random one", number(other["captured"], 3), number(other["mismatch"], 3)),
        ("to show the run", f"≥ {rule['captured_at_least']}", f"≤ {rule['mismatch_at_most']}"),
    ]
    shares = ", ".join(f"{share:.1%}" for share in result["variance"][:5])
    text = (
        f"Every loss is the mean over {counted(result['batches'], 'batch', 'batches')}, the same "
        f"at all {result['evaluations']} places; the plane goes through all "
        f"{result['weights']} learned weights at the end of {run['steps']} steps of "
        f"{run_settings(run)}."
    )
    if result["plane"] == "random":
        text += (
            " Its directions are as long as the filters. Where a layer is followed by a "
            "normalisation, that scaling alone sets how sharp the picture looks: do not compare it "
            "with another network's."
        )
    columns = ("plane", "path's variance in it", "largest mismatch of the loss")
    return [
        _verdict(result),
        Picture("network"),
        Picture("network-in-space"),
        Heading("How much depends on the plane"),
        Table(columns, tuple(rows)),
        Paragraph(f"The path's variance along its main directions: {shares}."),
        Picture("network-path"),
        Heading("Along straight lines"),
        Listing(tuple(map(_barrier, result["lines"]))),
        Picture("barriers"),
        Heading("How sharply the loss curves"),
        Paragraph(_sharpness(result["curvature"])),
        Paragraph(text),
    ]


def _sharpness(curved: Json) -> str:
    if not curved["eigenvalues"]:
        return f"The curvature is not known. {curved['reason']}"
    text = (
        f"The Hessian's largest eigenvalues at the end are {_listed(curved['eigenvalues'])} over "
        "all weights"
    )
    if curved["watched"]:
        text += f", {_listed(curved['watched'])} over the watched numbers"
    along = ", ".join(
        f"{number(value, 3)} at step {step}"
        for step, value in zip(curved["steps"], curved["sharpness"], strict=True)
    )
    text += f". The largest along the run: {along}."
    if curved["edge"] is None:
        return f"{text} {curved['reason']}"
    text += (
        f" The rate {number(curved['lr'])} times the largest is "
        f"{number(curved['lr'] * curved['eigenvalues'][0], 3)}, of {number(curved['limit'], 3)} at "
        f"which steps become unstable: the run ends {curved['edge']} the edge of stability"
    )
    if curved["edge"] == "above":
        text += (
            ", and stays finite only because the loss is not quadratic, or by the noise of its "
            "batches"
        )
    return f"{text}."


def _barrier(line: Json) -> str:
    between = f"{line['from']} to {line['to']}, losses {' and '.join(map(number, line['losses']))}"
    known = f"resolved to {number(line['error'], 2)} by {line['points']} evaluations"
    if line["barrier"] is None or line["barrier"] <= (line["error"] or 0):
        return f"{between}: no barrier ({known})."
    height = f"{height_words(line)}, {number(line['barrier'])}"
    return f"{between}: {height} at t = {line['at']:.3g} ({known})."


def points_found(result: Json) -> list[Block]:
    """Returns what was found over two parameters: a sentence, then the minima and saddles."""
    axes = [axis.parameter for axis in _surface_axes(result)]
    names, minima, saddles = result["parameters"], result["local_minima"], result["saddles"]
    ranges = [
        f"{name} over {show_interval(axis, ends)}"
        for name, axis, ends in zip(names, axes, result["ranges"], strict=True)
    ]
    targets = sum(point["is_target"] for point in minima)
    which = "" if len(minima) == targets == 1 else f"{targets or 'none'} of them "
    text = (
        f"{' and '.join(ranges)}: {counted(len(minima), 'minimum', 'minima')}"
        + (f" ({which}the target)" if minima and result["target"] else "")
        + f" and {counted(len(saddles), 'saddle', 'saddles')} found, {result['found']}."
    )
    blocks: list[Block] = [Paragraph(text)]
    if result["edge_minima"]:
        places = [
            f"{', '.join(axis.show(p[n]) for n, axis in zip(names, axes, strict=True))} "
            f"(loss {number(p['loss'])})"
            for p in result["edge_minima"][:4]
        ]
        more = len(result["edge_minima"]) - len(places)
        also = f" and {counted(more, 'more place', 'more places')}" if more else ""
        text = (
            f"At the edge of the range the loss falls on outward at {'; '.join(places)}{also}: "
            "a descent may leave the range there."
        )
        blocks.append(Paragraph(text))
    rows = []
    for point in [*minima, *saddles]:
        bend = ", ".join(map(number, point["eigenvalues"] or ()))
        if point["eigenvalues"] is None:
            bend = "slopes " + ", ".join(f"±{number(slope)}" for slope in point["slopes"])
        places = [axis.show(point[name], 3) for name, axis in zip(names, axes, strict=True)]
        kind = point["kind"] + (", the target" if point["is_target"] else "")
        # A kink is a zero: what is computed there is rounding.
        loss = number(0.0 if point["kind"] == "kink" else point["loss"])
        rows.append((*places, kind, loss, bend, number(point["stable_lr"], 3)))
    columns = (*names, "kind", "loss", "eigenvalues", "2 / largest")
    return [*blocks, *([Table(columns, tuple(rows))] if rows else [])]


def rates(view: View) -> list[Block]:
    """Returns which learning rates work, and where the trainings with each of them end."""
    result = view.result
    rows = []
    for scan in (result, *result["groups"]):
        ends = [dict.fromkeys(f"{end:.3g}" for end in span) for span in scan["working_lr"]]
        spans = [" … ".join(span) for span in ends]
        sides = (scan[key] or "–" for key in ("failure_below", "failure_above"))
        name = "all" if scan["rest_lr"] is None else scan["parameter"]
        works = ", ".join(spans) or "none"
        rows.append((name, works, number(scan["recommended_lr"], 3), *sides))
    columns = ("parameters", "learning rates that work", "take", "below", "above")
    settings = ", ".join([str(result["optimizer"]), *how_else(result)])
    text = (
        f"{result['trainings']} trainings of {result['steps']} steps of {settings}, on the loss of "
        f"the same batches at their ends. The goal, {number(result['goal'])}, is "
        f"{result['goal_rule']}. Borders are known to a factor of {result['factor']:g}: a rate "
        "beyond that far was tried, and failed. Around the rate to take, all rates tried work."
    )
    if result["groups"]:
        rest = number(result["groups"][0]["rest_lr"], 3)
        text += f" The rates of a group are tried with all other parameters at {rest}."
    seen = dict.fromkeys(trial["outcome"] for trial in result["trials"])
    return [
        _verdict(result),
        Picture("rates"),
        Table(columns, tuple(rows)),
        Listing(tuple(f"{name}: {RATE_OUTCOMES[name]}" for name in seen)),
        Paragraph(text),
        *(Paragraph(f"Left out: {text}.") for text in result["left_out"]),
    ]


def plane_of_starts(view: View) -> list[Block]:
    """Returns which starts of a plane of two parameters reach the target."""
    result = view.result
    first, second = result["parameters"]
    share = share_words(result["reached_share"])
    text = (
        f"With {run_settings(result)}, {share} of the starts over {first} and {second} reach the "
        f"target within {result['steps']} steps."
    )
    return [
        Heading("Starts over two parameters"),
        Paragraph(text),
        Picture("plane"),
        _outcome_shares(result["fractions"]),
        Heading("The surface under them"),
        *points_found(result["surface"]),
    ]


def ends(made: Runs) -> list[Block]:
    """Returns where each run began and ended, and how the loss curves there."""
    blocks: list[Block] = [Heading("Parameter by parameter")]
    columns = ("parameter", "start", "end", made.goal_name, "distance", "there")
    said: set[str] = set()
    for index, run in enumerate(made.runs, 1):
        if len(made.runs) > 1:
            blocks.append(Paragraph(f"Run {index}, {run_settings(run)}:"))
        blocks.append(Table(columns, tuple(_parameters(made, run))))
        blocks += [Paragraph(text) for text in _symmetry(made, run)]
        text, rest = _curving(made, run)
        blocks.append(Paragraph(f"{text} {'' if rest in said else rest}".rstrip()))
        said.add(rest)
    return blocks


def _parameters(made: Runs, run: Json) -> Iterator[tuple[str, ...]]:
    for (name, axis), within in zip(made.axes.items(), made.result["tolerances"], strict=True):
        goal, apart = run["target_copy"], (run["distance_to_target"] or {}).get(name)
        there = "yes," if apart is not None and apart <= within else "no, not"
        yield (
            name + (" (its logarithm is moved)" if name in run["logarithms"] else ""),
            show_wrapped(axis, run["start"][name]),
            show_wrapped(axis, run["final"][name]),
            "–" if goal is None else show_wrapped(axis, goal[name]),
            "–" if apart is None else axis.show(apart, 2 if axis.is_angle else 1),
            "–" if goal is None else f"{there} within {axis.show(within)}",
        )


def _symmetry(made: Runs, run: Json) -> list[str]:
    turned, goal = made.turned(run), made.result["target"]
    if run["outcome"] != "reached" or not turned or goal is None:
        return []
    target = ", ".join(f"{n} {show_wrapped(made.axes[n], goal[n])}" for n in turned)
    same = {"theta": "theta + 180°", "wavelength": "a negative wavelength"}
    moved = [words for name, words in same.items() if name in turned]
    reasons = [f"{words} with psi turned to -psi is the same filter" for words in moved]
    signs = [name for name in turned if name in ("sigma", "gamma")]
    if signs:
        reasons.append(f"the sign of {' and '.join(signs)} changes nothing")
    which = f"The target was made with {target}. The end is another copy of it: "
    return [which + "; ".join(reasons) + "."]


def _curving(made: Runs, run: Json) -> tuple[str, str]:
    """How the loss curves where a run ends; of a minimum, what that says of learning rates."""
    hessian, squared = run["hessian"], _under_root(run["loss"])
    values = hessian["eigenvalues"]
    if run["outcome"] == "nonfinite":
        return "The run diverges: it broke off at the end above, and does not converge there.", ""
    if None in values:
        return "At the run's end the loss has no finite second derivatives.", ""
    where = "Where the run ends"
    if run["minimum"]:
        settled = run["outcome"] in ("reached", "local_minimum")
        where = "At the minimum " + ("where the run ends" if settled else "nearest to its end")
    which = "" if squared is None else f" of {squared}"
    units = ["lengths in pixels"] if any(axis.unit == "px" for axis in made.axes.values()) else []
    units += [f"of {name} the logarithm" for name in run["logarithms"]]
    text = f"{where}, the Hessian{which} has the eigenvalues {_listed(values)}"
    text += f" ({', '.join(units)})" if units else ""
    if not hessian["is_minimum"]:
        down = sum(value <= 0 for value in values)
        return (
            f"{text}. Along {down} of its {counted(len(values), 'direction', 'directions')} the "
            "loss does not curve up: this is not a minimum, and a run does not converge here.",
            "",
        )
    if not run["minimum"]:
        return (
            f"{text}. The loss curves up in every direction, but there is no minimum within reach.",
            "",
        )
    return f"{text}.", _rest(hessian, run["loss"])


def _under_root(loss_name: str) -> str | None:
    """The name of the loss under the root, or None where the loss has no root."""
    loss = LOSSES.get(loss_name)
    return loss.squared if loss is not None and loss.is_root else None


def _rest(hessian: Json, loss_name: str) -> str:
    squared = _under_root(loss_name)
    bound = number(hessian["stable_lr"], 3)
    same, kink = ", the same for all parameters,", ""
    if squared is not None:
        same, kink = "", f" {loss_name} has a kink at its zero, at which no fixed rate converges."
    return (
        f"The condition number is {number(hessian['condition_number'], 3)}: the slowest direction "
        "needs about that many times more steps than the fastest; "
        f"{f'with {squared} ' if squared else ''}no rate of plain gradient descent above {bound} "
        f"(2 / largest eigenvalue){same} converges here.{kink}"
    )


def at_target(made: Runs, hessian: Json) -> list[Block]:
    """Returns how the loss curves at the target, or the lowest minimum, of a run elsewhere."""
    (run,) = made.runs
    minimum, goal = run["minimum"], run["target_copy"]
    # Whether the minimum at the run's end is the target, up to its symmetries.
    is_there = None not in (minimum, goal) and all(
        abs(float(axis.offset(minimum[name], goal[name]))) <= within
        for (name, axis), within in zip(made.axes.items(), made.result["tolerances"], strict=True)
    )
    if not hessian["is_minimum"] or is_there:
        return []
    text = (
        f"At the {made.goal_name} the eigenvalues are {_listed(hessian['eigenvalues'])}, and the "
        f"condition number is {number(hessian['condition_number'], 3)}"
    )
    if _under_root(run["loss"]) is None:
        bound = number(hessian["stable_lr"], 3)
        text += f"; no rate of plain gradient descent above {bound} converges there"
    return [Paragraph(f"{text}.")]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(number(value, 3) for value in values)


def training_diagnosis(view: View) -> list[Block]:
    """Returns the verdict, the elements one by one, what helps, and the training."""
    result = view.result
    elements = result["elements"]
    what = "filter" if all(element["filter"] is not None for element in elements) else "element"
    each = (Heading(f"Each {what}"), _elements(elements, what))
    about: list[Block] = [_verdict(result), Picture("bank"), *each]
    return [*about, Picture("lines"), *_training_remedies(result), *_training(result)]


def bank(view: View) -> list[Block]:
    """Returns how many filters of a bank arrived, each of them, what helps, and the training."""
    result = view.result
    rows = tuple(
        (
            str(made["filter"]),
            number(made["error"], 2),
            "arrived" if made["arrived"] else spoken(made["verdict"]),
            made["why"],
            number(made["error_after"], 2),
        )
        for made in result["filters"]
    )
    text = (
        "The error is the mean square of the difference of a filter's response and its teacher's, "
        f"over that of its teacher's; below {ARRIVED:g} a filter has arrived."
    )
    if "readout" in result:
        text = (
            "The error is 1 - the cosine similarity of a filter and that of the teacher's that is "
            f"matched with it; below {ALIKE:g} a filter has arrived. Work is counted in steps of "
            "the training: multiplications over those of one step."
        )
    table = Table(("filter", "error", "verdict", "why", "with the remedy"), rows)
    about: list[Block] = [_verdict(result), Picture("bank"), Heading("Each filter"), table]
    about.append(Paragraph(text))
    training = result["diagnosis"]
    return [*about, *_training_remedies(training), Picture("lines"), *_training(training)]


def _elements(elements: Sequence[Json], what: str) -> Table:
    owners = {element["parameter"].rpartition(".")[0] for element in elements}
    # Of one layer its name says nothing.
    prefix = f"{owners.pop()}." if len(owners) == 1 else ""
    if len(elements) > _MOST_ELEMENTS:
        return _element_groups(elements, what, prefix)
    columns = (what, "from", "to", "verdict", "why", "what helps")
    rows: list[tuple[str, ...]] = []
    first: dict[tuple[str, ...], str] = {}
    for element in elements:
        name = element["name"].removeprefix(prefix)
        ends = [parameter_of(element).show(element[end], 1) for end in ("start", "final")]
        if not element["findings"]:
            rows.append((name, *ends, "converged", "", ""))
            continue
        verdict_ = spoken(element["verdict"])
        words = element["findings"][0]["explanation"], element["helps"]
        earlier = first.setdefault((element["parameter"], *words), name)
        rows.append((name, *ends, verdict_, *(words if earlier == name else (f"as {earlier}", ""))))
    if not first:
        return Table(columns[:4], tuple(row[:4] for row in rows))
    return Table(columns, tuple(rows))


def _element_groups(elements: Sequence[Json], what: str, prefix: str) -> Table:
    """The elements of each verdict in one row, with the reason of the first."""
    groups: dict[str, list[Json]] = {}
    for element in elements:
        groups.setdefault(element["verdict"], []).append(element)
    rows = []
    for verdict_, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        first, names = group[0], [element["name"].removeprefix(prefix) for element in group]
        more = f" and {len(names) - _MOST_NAMES} more, see result.json"
        which = ", ".join(names[:_MOST_NAMES]) + (more if len(names) > _MOST_NAMES else "")
        why = f"{names[0]}: {first['findings'][0]['explanation']}" if first["findings"] else ""
        word = spoken(verdict_) if first["findings"] else "converged"
        rows.append((str(len(group)), word, which, why, first["helps"] or ""))
    return Table((f"{what}s", "verdict", "which", "why, of the first", "what helps"), tuple(rows))


def _training_remedies(result: Json) -> list[Block]:
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
        *([Paragraph(text)] if seeds > 1 else []),
    ]


def _with_spread(mean: float | None, spread: float | None) -> str:
    return number(mean, 3) + ("" if spread is None else f" ± {spread:.1g}")


def _training(result: Json) -> list[Block]:
    run = result["run"]
    metric = "" if run["metric"] is None else f", the metric is {number(run['metric'], 4)}"
    loss = "not finite" if run["final_loss"] is None else number(run["final_loss"])
    # Fewer than asked for where it broke off.
    steps = counted(len(run["losses"]) - 1, "step", "steps")
    text = (
        f"{steps} of {run_settings(run)} took {run['seconds']:.3g} s. The loss at the end is "
        f"{loss}{metric}."
    )
    if result["evaluations"]:
        text += (
            f" The loss was evaluated {result['evaluations']} times along the elements, everything "
            "else frozen."
        )
    return [Heading("The training"), Paragraph(text), Picture("gradients")]


def atlas(found: Atlas) -> list[Block]:
    """Returns where the asked filter lies, the charts, and how well they predict."""
    result = found.to_dict()
    arrive = np.nanmean(found.columns["reachable_share"], axis=(0, 2, 3, 4, 5))
    rows = [
        (loss, share_words(share), share_words(there))
        for (loss, share), there in zip(result["learnable"].items(), arrive, strict=True)
    ]
    settings = result["settings"]
    start, target = (f"{math.degrees(settings[n]):.0f}°" for n in ("theta0", "target_theta"))
    kept = f"{result['certified']} of {result['landscapes']} lists of minima are proven complete."
    columns = ("loss", "learned from the start", "starts that arrive at the best rate")
    blocks: list[Block] = [
        Heading("Where your filter lies"),
        Listing(tuple(place["sentence"] for place in result["places"])),
        Heading("Which filters can be learned"),
        Paragraph(
            f"Start {start}, target {target}, {settings['steps']} steps of plain descent. Learned "
            "means: the target is reached at learning rates over a factor of two or more. Their "
            "natural unit is 1 / curvature at the target; at a kink, what its slope turns into a "
            "step of one degree."
        ),
        Table(columns, tuple(rows)),
        Picture("atlas"),
        *(
            Picture(f"atlas-{math.degrees(psi):.0f}deg")
            for psi in dict.fromkeys(chart.psi for chart in found.charts[1:])
            if psi != found.charts[0].psi
        ),
        Paragraph(f"{kept} Quantities of every landscape are in atlas.zarr."),
    ]
    score = result["prediction"]
    if score is None:
        return blocks
    worst, hardest = score["worst_image"], score["hardest_filter"]
    fails = counted(score["promised_but_fails"], "is promised and fails", "are promised and fail")
    return [
        *blocks,
        Heading("Does it hold for another image?"),
        Paragraph(
            f"Each image, predicted from the others: {share_words(score['accuracy'])} of its "
            "filters are rightly said to be learnable or not (the commoner answer alone would be "
            f"right on {share_words(score['baseline'])}). {fails}, {score['missed']} can be "
            "learned against it."
        ),
        Listing(
            (
                f"Right at the border, where 20% to 80% of the images learn the filter: "
                f"{_among(score['at_border'])}; elsewhere: {_among(score['elsewhere'])}.",
                f"The rate that the other images suggest, in natural units, works on "
                f"{_among(score['rate_works'])} of those that are rightly called learnable.",
                f"Least well predicted: {worst['image']} ({share_words(worst['accuracy'])}), and "
                f"the filter with wavelength {hardest['wavelength']:.3g} px, "
                f"gamma {hardest['gamma']:.3g}, sigma {hardest['sigma']:.3g} px "
                f"({share_words(hardest['accuracy'])}).",
            )
        ),
    ]


def atlas_plan(view: View) -> list[Block]:
    """Returns how much work an atlas would be."""
    return [Paragraph(f"{atlas_plan_of(**view.result).words()}.")]


def _among(share: float | None) -> str:
    return "there are none" if share is None else share_words(share)


def image_blocks(landscape: Landscape) -> list[Block]:
    """Returns how many images a landscape is the mean over, and what their own landscapes show."""
    images = landscape.images
    if not images:
        return []
    used, skipped = images["used"], images["skipped"]
    text = f"The loss is the mean over {counted(used, 'image', 'images')}, weighted equally."
    lines = [f"{entry['file']} {entry['why']}" for entry in skipped[:_MOST_LISTED]]
    if skipped:
        were = "was" if len(skipped) == 1 else "were"
        text += f" {counted(len(skipped), 'file', 'files')} could not be used and {were} skipped:"
    if len(skipped) > _MOST_LISTED:
        lines.append(f"and {len(skipped) - _MOST_LISTED} more, see result.json")
    blocks: list[Block] = [Heading("The images"), Paragraph(text)]
    blocks += [Listing(tuple(lines))] if skipped else []
    if "surveyed" in images:
        parameter = landscape.parameter
        blocks.append(Paragraph(_survey(images, parameter.show(parameter.start))))
    return blocks


def _survey(images: Json, start: str) -> str:
    surveyed, spurious, reaching = images["surveyed"], images["spurious"], images["to_target"]
    among = "one image" if surveyed == 1 else f"{surveyed} images"
    if surveyed < images["used"]:
        among = f"{surveyed} images, an even sample of the {images['used']},"
    if reaching == surveyed:
        return (
            f"Taken one by one, none of {among} has a spurious minimum near the start: downhill "
            f"from {start} the loss of each leads to the target."
        )
    has, its = ("has", "its") if spurious == 1 else ("have", "their")
    text = (
        f"Taken one by one, {spurious} of {among} {has} a spurious minimum near the start: "
        f"downhill from {start} {its} loss leads to a minimum that is not the target; of "
        f"{reaching} it leads to the target."
    )
    uncertified = sum(not image["certified"] for image in images["near_start"])
    if uncertified:
        text += f" For {uncertified} of them the list of minima is not proven complete."
    return text
