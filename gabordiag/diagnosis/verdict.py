"""The verdict: from findings and tried remedies to one sentence.

A run that ends at the target is healthy, whatever could be said against it. Otherwise the primary
cause is the first, in the order of `CAUSES`, whose removal alone makes the run reach the target;
where none does, `no_working_lr` explains why, if it holds; else the strongest cause present.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from gabordiag.checks.gradient import check_objective
from gabordiag.diagnosis.causes import CAUSES
from gabordiag.diagnosis.evidence import Bench, Facts, arrival, with_lowest_as_target
from gabordiag.diagnosis.remedies import OF_CODE, REMEDIES, Remedy, try_remedies
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import Jump, tail_length
from gabordiag.dynamics.run import Optimization, Run, StepListener, judge, run
from gabordiag.dynamics.theory import curvature_limit
from gabordiag.dynamics.windows import Windows
from gabordiag.landscape.critical import still_holds
from gabordiag.landscape.surface import PairSurface, condition, pair_surfaces
from gabordiag.landscape.sweep import Sweep, resweep, sweep_objective
from gabordiag.objective.objective import Line, Objective, OfLine, over_points
from gabordiag.own.plain_loop import PlainLoop, as_plain_loop
from gabordiag.results import Data, Finding, Progress, Result
from gabordiag.wording import as_sentence, counted, listed

# A tail of fewer values cannot show a cycle three times, nor five windows of decay.
SHORTEST_TAIL = 10
# Relative rounding of a loss above which it is said: that of float16 and bfloat16.
_COARSE = 5e-4
# What to change where no option of a run can help.
ADVICE = {
    "no_gradient": "Compute the output from the parameter with torch operations alone, such as "
    "torch.nn.functional.conv2d(input, kernel(theta)), without .data, detach or no_grad.",
    "wrong_gradient": "Correct the derivative, or leave it to autograd.",
    "nonfinite_gradient": "Keep arguments off the value where the slope is infinite: a small "
    "constant under a root, a divisor that is never zero.",
    "nondeterministic": "Call .eval(), or fix the random numbers, while the parameter is learned.",
    "flat_objective": "Check the input and the parameter's name: nothing can be learned from this.",
}
# Found by `check_objective`: no landscape explains a run whose gradient is missing or wrong.
GRADIENT_CAUSES = ADVICE.keys()
# Primary as soon as one is present, as nothing after it can be trusted; and said of a run that ends
# at the target all the same.
_FLAWS = {*GRADIENT_CAUSES, "target_unreachable"}
# Stands for a parameter in what is said of each.
_NAME = "\0"
# What the same run is repeated with, in words: the derivative that the loss's own values have.
_FROM_VALUES = {
    "no_gradient": "with the right one",
    "wrong_gradient": "with the right one",
    "nondeterministic": "without the noise",
    "target_unreachable": "without it",
}
HEALTHY = ("healthy", "equivalent_solution")
# Where nothing alone suffices: the cause that leaves the others no chance comes first.
_EXPLANATORY = (
    "flat_start",
    "no_working_lr",
    "wrong_basin",
    "step_too_large",
    "kink",
    "step_too_small",
)


@dataclass(frozen=True, eq=False)
class Diagnosis(Result):
    """What is wrong, why, and what fixes it.

    The verdict is `healthy`, `equivalent_solution`, a cause, or `inconclusive`. Findings are of
    every suspect, as `with_roles` orders them; remedies that work come first. Of several parameters
    there is no sweep, but what the Hessian at the target says (see `condition`) and the loss on
    every pair's plane through the run's end. The jump story is the first and the worst jump.
    """

    main_table = "remedies"
    main_columns = ("name", "works", "change", "outcome")

    verdict: str
    headline: str
    findings: tuple[Finding, ...]
    run: Run
    sweep: Sweep | None
    windows: Windows | None
    remedies: tuple[Remedy, ...]
    jump_story: tuple[str, ...]
    target_hessian: dict[str, Any] | None = None
    pairs: tuple[PairSurface, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether `--check` passes."""
        return self.verdict in HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        made = self._optimization.to_dict()
        (shown_run,) = made.pop("runs")
        windows = {} if self.windows is None else self.windows.to_dict()
        shown = {
            "verdict": self.verdict,
            "headline": self.headline,
            "findings": [finding.to_dict() for finding in self.findings],
            "run": shown_run,
            **{name: windows.get(name) for name in ("working_lr", "escape_lr", "hold_lr")},
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "jump_story": list(self.jump_story),
            **made,
        }
        if self.sweep is None:
            return {**shown, "target_hessian": self.target_hessian}
        # What of the landscape a diagnosis shows itself.
        return shown | {n: shown["landscape"][n] for n in ("critical_points", "gradient_check")}

    def data(self) -> Data:
        """Returns what is saved: trajectory-000.csv, and sweep.csv or pair-*.npz."""
        return self._optimization.data()

    @property
    def _optimization(self) -> Optimization:
        return Optimization((self.run,), self.sweep, self.pairs)


def diagnose_objective(
    objective: Objective | Line,
    settings: OptimizerSettings,
    start: Any = None,
    lr: Mapping[str, float] | None = None,
    *,
    sweep: Sweep | None = None,
    made_run: Run | None = None,
    compared: Finding | None = None,
    bench: Bench | None = None,
    listener: StepListener | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Runs the optimizer, tests every suspect, tries every cure.

    In this order: the landscape of one parameter; the run; whether there is a gradient to trust; if
    so, or if the run arrived all the same, every cause; and if it did not, the remedies.

    `lr` are rates of single parameters. Sweep, run, and bench are made unless they are known
    already; `compared` is where the run that is known differs from what the objective says of it.
    """
    total = 2 + len(CAUSES) + len(REMEDIES)
    done = 0

    def tick(count: int = 1) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    objective = over_points(objective)
    if sweep is None and isinstance(objective, OfLine):
        sweep = sweep_objective(objective.line)
    tick()
    if made_run is None:
        known = None if sweep is None else sweep.landscape
        loop = as_plain_loop(objective, may_fail=True)
        made_run = run(
            objective, settings, start, lr, landscape=known, listener=listener, stepped=loop
        )
        if isinstance(loop, PlainLoop):
            path = made_run.trajectory
            compared = loop.compare(path.values, path.losses)
    tick()
    if sweep is not None and made_run.landscape is not None:
        # The run's start chooses between minima that are equally low.
        sweep = replace(sweep, landscape=made_run.landscape)
    facts, findings = _first_facts(made_run, sweep, bench, compared)
    made_run = facts.run
    objective = made_run.objective
    blocked = any(finding.present and not _is_logged(finding) for finding in findings)
    if not blocked or made_run.outcome == "reached":
        findings = _all_findings(facts, findings, tick)
    # A wrong derivative that only the sweep has seen blocks as much.
    blocked = blocked or any(f.present and f.cause == "wrong_gradient" for f in findings)
    facts.faults = tuple(f for f in findings if f.present and f.cause in GRADIENT_CAUSES)
    verdict = judge_findings(facts, findings)
    findings = _with_saddle(facts, verdict, findings)
    remedies: tuple[Remedy, ...] = ()
    if verdict not in HEALTHY and not (sweep is None and is_too_short(made_run)):
        # Without a gradient to trust no descent can be mended; only looking everywhere helps.
        remedies = try_remedies(facts, OF_CODE if blocked else REMEDIES, tick)
    tick(total - done)
    if sweep and facts.line is not None and not still_holds(facts.line, sweep.landscape):
        # Some run came by what the landscape did not show: all is asked again with it.
        sweep = resweep(facts.line, sweep)
        path, rates = made_run.trajectory, made_run.rates
        made_run = judge(objective, made_run.settings, sweep.landscape, path, rates)
        return diagnose_objective(
            objective, settings, sweep=sweep, made_run=made_run, compared=compared,
            progress=progress,
        )  # fmt: skip
    # Of several parameters a scan costs runs, which a healthy run does not need.
    is_costly = sweep is None and verdict in HEALTHY
    return Diagnosis(
        verdict=verdict,
        headline=headline(facts, verdict, findings, remedies),
        findings=with_roles(verdict, findings),
        run=made_run,
        sweep=sweep,
        windows=None if blocked or is_costly else facts.windows,
        remedies=remedies,
        jump_story=tell_jumps(facts),
        target_hessian=None if sweep else condition(objective, objective.goals[0]),
        pairs=() if sweep else pair_surfaces(objective, made_run.trajectory.values),
    )


def _first_facts(
    run_: Run, sweep: Sweep | None, bench: Bench | None, compared: Finding | None
) -> tuple[Facts, tuple[Finding, ...]]:
    """Returns the facts of a run, and what is found of its gradient."""
    is_open = sweep is None and len(run_.objective.goals) == 0
    facts = Facts(with_lowest_as_target(run_) if is_open else run_, sweep, bench)
    findings = check_gradient(facts, compared)
    if is_open and any(
        f.present and f.cause in ("no_gradient", "wrong_gradient") for f in findings
    ):
        # No lowest minimum is found by what leads nowhere.
        facts = Facts(with_lowest_as_target(run_, by_values=True), sweep, bench)
        findings = check_gradient(facts, compared)
    return facts, findings


def check_gradient(facts: Facts, compared: Finding | None = None) -> tuple[Finding, ...]:
    """Asks whether there is a gradient that can be trusted, along each parameter from the start.

    What the run itself was found to differ in, if it was compared, comes first.
    """
    asked: dict[str, dict[str, Finding]] = {}
    # A dip may lie between the places that are asked; its minimum is known by more than noise.
    varies = facts.landscape is not None and bool(facts.landscape.points)
    for index, name in enumerate(facts.space.names):
        line = facts.objective.along(index, facts.start)
        found = check_objective(line, float(facts.start[index]), varies=varies)
        if facts.landscape is None and any(map(_is_flat, found)):
            # Where the others start it may have no effect, as the angle of a round filter.
            there = facts.objective.along(index, facts.objective.goals[0])
            if not any(map(_is_flat, check_objective(there))):
                found = tuple(f for f in found if not _is_flat(f))
        for finding in found:
            asked.setdefault(finding.cause, {})[name] = finding
    findings = {c: _with_true_derivative(facts, _merged(facts, f)) for c, f in asked.items()}
    if compared is not None and _is_logged(compared):
        compared = _with_true_derivative(facts, compared)
        is_harmless = facts.run.outcome == "reached" or not compared.sufficient
        if compared.cause == "nondeterministic" and is_harmless:
            # Noise is to blame only where the run arrives without it.
            compared = None
    first = {} if compared is None else {compared.cause: compared}
    return tuple({**first, **findings, **first}.values())


def _is_flat(finding: Finding) -> bool:
    return finding.present and finding.cause == "flat_objective"


def _merged(facts: Facts, found: Mapping[str, Finding]) -> Finding:
    one = next(iter(found.values()))
    if len(facts.space) == 1:
        return one
    bad = [finding for finding in found.values() if finding.present]
    # What is said of each alike is said once, of all.
    alike: dict[str, list[str]] = {}
    for name, finding in found.items():
        if finding.present or not bad:
            said = finding.explanation.rstrip(".").replace(name, _NAME)
            alike.setdefault(said, []).append(name)
    text = "; ".join(said.replace(_NAME, listed(names)) for said, names in alike.items())
    evidence: dict[str, Any] = {name: finding.evidence for name, finding in found.items()}
    # The line of code at fault is one.
    lines = (finding.evidence.get("where") for finding in bad)
    evidence |= {"where": next(filter(None, lines), None)} if bad else {}
    return Finding(one.cause, bool(bad), False, evidence, text)


def _with_true_derivative(facts: Facts, finding: Finding) -> Finding:
    """Repeats the run with the derivative of the loss's values; at a root's zero, its square's."""
    if not finding.present:
        return finding
    if finding.cause == "nonfinite_gradient" and facts.squared_trial is not None:
        words, trial = facts.squared_trial
        instead = f"with {words}"
    elif finding.cause in _FROM_VALUES and (bench := _right_bench(facts, finding)) is not None:
        trial = bench.trial(facts.settings, facts.start)
        instead = _FROM_VALUES[finding.cause]
    else:
        return finding
    if trial.outcome == "frozen":
        # The values show no slope either: there is none that would be the right one.
        return finding
    ends = f"ends at {facts.space.show(trial.path.values[-1])} ({trial.outcome.replace('_', ' ')})"
    if trial.steps_to_target is not None and trial.reached:
        ends = f"reaches {facts.goal_name} after {counted(trial.steps_to_target, 'step', 'steps')}"
    evidence = {**finding.evidence, "counterfactual": trial.to_dict()}
    text = f"{finding.explanation}; {instead} the same run {ends}"
    return replace(finding, sufficient=trial.reached, evidence=evidence, explanation=text)


def _is_logged(finding: Finding) -> bool:
    """Whether it is a log's that differs from its objective, whose gradient can be trusted."""
    return bool(finding.evidence.get("logged"))


def _right_bench(facts: Facts, finding: Finding) -> Bench | None:
    return facts.bench if _is_logged(finding) else facts.from_values


def _all_findings(
    facts: Facts, checked: tuple[Finding, ...], tick: Callable[[], None]
) -> tuple[Finding, ...]:
    is_random = any(found.present and found.cause == "nondeterministic" for found in checked)
    kept: dict[str, Finding] = {}
    # Of several parameters each question costs runs: a healthy one is asked for flaws alone.
    only_flaws = facts.landscape is None and facts.run.outcome == "reached"
    for cause, test in CAUSES.items():
        if only_flaws and cause not in _FLAWS:
            continue
        finding = test(facts)
        tick()
        if cause == "wrong_gradient" and finding.present:
            if is_random:
                # Differences of a random loss show no slope.
                continue
            finding = _with_true_derivative(facts, finding)
        kept[cause] = finding
    for finding in checked:
        known = kept.get(finding.cause)
        if known is None or finding.present or not known.evidence.get("asked", True):
            kept[finding.cause] = finding
    return tuple(kept.values())


def _with_saddle(facts: Facts, verdict: str, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    saddle = facts.saddle
    if saddle is None:
        return findings
    shown = {"eigenvalues": saddle.eigenvalues.tolist(), "stayed_equal": list(saddle.equal)}
    by_cause = {finding.cause: finding for finding in findings}
    if (found := by_cause.get(verdict)) is not None:
        text = f"{saddle.words[0].upper()}{saddle.words[1:]}; {found.explanation}"
        evidence = {**found.evidence, "saddle": shown}
        by_cause[verdict] = replace(found, evidence=evidence, explanation=text)
    return tuple(by_cause.values())


def is_too_short(run_: Run) -> bool:
    """Whether a run's tail shows too little; one that broke off before its last step is judged."""
    steps = len(run_.trajectory) - 1
    return steps >= run_.settings.steps and tail_length(steps) < SHORTEST_TAIL


def judge_findings(facts: Facts, findings: tuple[Finding, ...]) -> str:
    """Returns the verdict."""
    if facts.run.outcome == "reached" or facts.noise_at_end is not None:
        # Where a loop of the module does not do what its landscape says, arriving is luck.
        lucky = (f.cause for f in findings if f.present and f.evidence.get("decides"))
        is_elsewhere = facts.run.outcome == "reached" and not facts.run.is_at_base
        return next(lucky, "equivalent_solution" if is_elsewhere else "healthy")
    present = [finding for finding in findings if finding.present]
    decisive = (f.cause for f in present if f.cause in _FLAWS)
    sufficient = [finding.cause for finding in present if finding.sufficient]
    if is_too_short(facts.run):
        # More steps may be all that is missing.
        proven = (cause for cause in sufficient if cause != "step_too_small")
        return next(chain(decisive, proven), "inconclusive")
    return next(chain(decisive, sufficient), strongest(findings))


def strongest(findings: tuple[Finding, ...]) -> str:
    """Returns the cause that is present and explains most, where none alone suffices."""
    present = [finding.cause for finding in findings if finding.present]
    known = [cause for cause in _EXPLANATORY if cause in present]
    return next(iter(known + present), "inconclusive")


def with_roles(verdict: str, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Gives every finding its role; the primary first, then contributing, then ruled out."""
    # What is true of the start or the rate but did no harm is no finding of a healthy run.
    ranked: dict[str, list[Finding]] = {"primary": [], "contributing": [], "ruled_out": []}
    for finding in findings:
        role = "contributing" if finding.present else "ruled_out"
        role = "primary" if finding.cause == verdict else role
        if verdict not in HEALTHY or not finding.present or finding.cause in _FLAWS:
            ranked[role].append(replace(finding, role=role))
    return tuple(chain(*ranked.values()))


def headline(
    facts: Facts, verdict: str, findings: tuple[Finding, ...], remedies: tuple[Remedy, ...]
) -> str:
    """Returns the sentence that a person can act on."""
    if verdict in HEALTHY:
        sentence = _healthy_headline(facts, verdict, findings)
    elif verdict == "inconclusive":
        sentence = _inconclusive_headline(facts, remedies)
    else:
        finding = next(f for f in findings if f.cause == verdict)
        sentence = f"{as_sentence(finding.explanation)} {_advice(finding, remedies)}"
    if facts.loss_eps < _COARSE:
        return sentence
    # The digits decide how near a run can get.
    return (
        f"{sentence} The loss is quantised: it is computed in half precision, and known to "
        f"{100 * facts.loss_eps:.2g}% of its value only. Compute it in single or double precision."
    )


def _advice(finding: Finding, remedies: tuple[Remedy, ...]) -> str:
    repair = next((remedy for remedy in remedies if remedy.name == "repair_code"), None)
    cure = next((remedy for remedy in remedies if remedy.works), None)
    # A repair is no advice where the trial with it was not finite either, and something else works.
    helps = repair is not None and (repair.works or repair.outcome != "nonfinite" or cure is None)
    is_of_code = finding.cause in GRADIENT_CAUSES and "carried" not in finding.evidence
    if _is_logged(finding) and not finding.sufficient and cure is not None:
        return f"{finding.advice} That alone does not reach the target; what works: {cure.change}."
    if repair is not None and helps and is_of_code:
        alone = "" if repair.works else " That alone does not reach the target"
        also = f"; what works: {cure.change}." if cure is not None else "."
        return as_sentence(repair.change) + (alone and f"{alone}{also}")
    # What presupposes the target is advice only where nothing else works.
    is_answer = finding.cause == "wrong_basin" and cure is not None and not cure.needs_target
    if finding.advice and not is_answer:
        return finding.advice
    if finding.cause in ADVICE:
        return _code_advice(finding)
    if cure is None:
        return f"None of the {len(remedies)} remedies tried helps."
    return f"What works: {cure.change}."


def _code_advice(finding: Finding) -> str:
    repair = (finding.evidence.get("where") or {}).get("repair")
    return as_sentence(repair) if repair else finding.advice or ADVICE[finding.cause]


def _healthy_headline(facts: Facts, verdict: str, findings: tuple[Finding, ...]) -> str:
    flaw = next((f for f in findings if f.present and f.cause in _FLAWS), None)
    nothing = "Nothing needs to change."
    if flaw is not None:
        # With what instead of it the run ends where it ended anyway says nothing.
        nothing = f"All the same: {flaw.explanation.split('; with')[0]}. {_code_advice(flaw)}"
    run_, goal, names, show = facts.run, facts.bench.goal, facts.space.names, facts.space.show
    if goal is None or run_.outcome != "reached":
        return (
            f"Healthy but for noise: {names[0]} settles at {show(run_.final)} (loss "
            f"{run_.final_loss:.4g}), and no lower loss is known but for its noise of "
            f"{facts.noise_at_end:.2g}. {nothing}"
        )
    if facts.landscape is None and verdict == "equivalent_solution":
        return (
            f"No failure: the run ended at {show(run_.final)}, which is the target's filter up to "
            "its symmetries (theta + 180° with psi turned to -psi; whole turns; signs of lengths). "
            f"{nothing}"
        )
    there = f"{facts.goal_name} {show(goal)}"
    if verdict == "equivalent_solution":
        parameter, turns = facts.space.parameters[0], abs(run_.turns)
        return (
            f"No failure: {names[0]} ended at {parameter.show(run_.final)}, {there} "
            f"{'plus' if run_.turns > 0 else 'minus'} {turns} period{'s' if turns > 1 else ''} of "
            f"{parameter.show(parameter.period or 0.0, 0)}: the same "
            f"{'filter' if facts.experiment else 'solution'}. {nothing}"
        )
    step = arrival(facts.space, run_.goal, run_.trajectory)
    when = "" if step is None else f" after {counted(step, 'step', 'steps')}"
    # All elements of one tensor are named by it.
    bases = list(dict.fromkeys(name.partition("[")[0] for name in names))
    reaches, stays = ("reaches", "stays") if len(bases) == 1 else ("reach", "stay")
    who, loss = listed(bases if len(names) > 1 else names), f"{run_.final_loss:.3g}"
    return f"Healthy: {who} {reaches} {there}{when} and {stays} (loss {loss}). {nothing}"


def _inconclusive_headline(facts: Facts, remedies: tuple[Remedy, ...]) -> str:
    if is_too_short(facts.run):
        few = counted(facts.settings.steps, "step is", "steps are")
        return f"{few} too few to judge. Run at least --steps {10 * SHORTEST_TAIL}."
    if facts.saddle is not None:
        return as_sentence(facts.saddle.words)
    compare = "" if facts.settings.optimizer == "sgd" else ", or compare with --optimizer sgd"
    cure = next((remedy.change for remedy in remedies if remedy.works), None)
    advice = f"Run more steps{compare}" if cure is None else f"What works: {cure}"
    return (
        f"The run ends {facts.run.outcome.replace('_', ' ')}, and no cause that was tested "
        f"explains it. {advice}."
    )


def tell_jumps(facts: Facts) -> tuple[str, ...]:
    """Returns the first and the worst jump in words with numbers."""
    jumps = facts.run.jumps
    if not jumps:
        return ()
    worst = max(jumps, key=lambda jump: jump.loss_after - jump.loss_before)
    first = _tell("The first jump", facts, jumps[0])
    return (first,) if worst is jumps[0] else (first, _tell("The worst", facts, worst))


def _tell(title: str, facts: Facts, jump: Jump) -> str:
    space, product = facts.space, jump.lr_times_curvature
    parameter, is_one = space.parameters[0], len(space) == 1
    gradient = float(facts.run.trajectory.gradients[jump.step, 0])
    where, landed = space.wrap(jump.start), space.wrap(jump.end)
    who, place = space.names[0] if is_one else "the run", space.show(where)
    text = f"{title}, step {jump.step}: {who} stood at {place} with loss {jump.loss_before:.3g}"
    if is_one:
        text += f"; the gradient there was {gradient:.3g}"
    limit = curvature_limit(facts.settings)
    if product is not None and math.isfinite(product):
        if limit is None or product <= 0:
            # Where the loss bends downwards nothing settles at any rate.
            text += f", lr x curvature {product:.3g}"
        elif product > limit:
            # Below it the curvature is not to blame: beside a kink, say.
            text += f", lr x curvature {product:.3g} (stability needs less than {limit:.3g})"
    if facts.landscape is None:
        return f"{text}. The step put it at {space.show(landed)}, loss {jump.loss_after:.3g}."
    step, shown = float(jump.end[0] - jump.start[0]), parameter.show
    is_folded = not math.isclose(where[0] + step, landed[0], abs_tol=parameter.tolerance)
    modulo = f" (modulo {shown(parameter.period, 0)})" if parameter.period and is_folded else ""
    after = f"loss {jump.loss_after:.3g}{_edge_story(facts, jump, gradient)}"
    return f"{text}. The step of {shown(step, 1)} put it at {space.show(landed)}{modulo}, {after}."


def _edge_story(facts: Facts, jump: Jump, gradient: float) -> str:
    start, end = float(jump.start[0]), float(jump.end[0])
    found = facts.landscape.basin_of(start) if facts.landscape is not None else None
    if found is None or not jump.left_basin:
        return ""
    low, high = found[1]
    edge, parameter = high if end > start else low, facts.space.parameters[0]
    text = f": past the edge of its basin at {parameter.show(float(parameter.wrap(edge)), 1)}"
    plain = facts.settings.optimizer == "sgd" and facts.settings.momentum == 0
    if plain and gradient and math.isfinite(gradient):
        text += f". A rate below {abs((edge - start) / gradient):.2g} would have stayed"
    return text
