"""Phrases that several results share: numbers, values, intervals; verdict, causes and remedies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.landscape.critical import Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.space import Parameter
from gabordiag.presentation.blocks import Block, Heading, Table, Verdict
from gabordiag.wording import counted

Json = Mapping[str, Any]


def number(value: float | None, digits: int = 4) -> str:
    """Returns a number for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}"


def show_wrapped(parameter: Parameter, value: float | None) -> str:
    """Returns a value folded into one period, for people."""
    return parameter.show(None if value is None else float(parameter.wrap(value)))


def show_interval(parameter: Parameter, interval: Sequence[float] | None) -> str:
    """Returns an interval of the parameter for people."""
    if interval is None:
        return "–"
    return " … ".join(parameter.show(end, 1) for end in interval)


def describe_points(landscape: Landscape) -> str:
    """Returns how many critical points of each kind there are; a kink is a minimum."""
    kinds = [point.kind for point in landscape.points]
    kinks = kinds.count("kink")
    minima = counted(kinds.count("minimum") + kinks, "minimum", "minima")
    if kinks:
        minima += " (a kink)" if len(landscape.attractors) == 1 else f" ({kinks} with a kink)"
    others = [
        counted(kinds.count(kind), kind, plural)
        for kind, plural in (("maximum", "maxima"), ("inflection", "inflections"))
        if kind in kinds
    ]
    return ", ".join([minima, *others]) if kinds else "no critical point"


def describe_certificate(landscape: Landscape) -> str:
    """Returns in a few words how complete the list of critical points is."""
    certificate = landscape.certificate
    if certificate.resolution is not None:
        return f"resolved to {show_width(landscape.parameter, certificate.resolution)}"
    return "proven complete" if certificate.certified else "may be incomplete"


def show_width(parameter: Parameter, width: float) -> str:
    """Returns a small distance along the parameter for people."""
    unit = "°" if parameter.is_angle else f" {parameter.unit}" if parameter.unit else ""
    return f"{width * parameter.scale:.2g}{unit}"


def describe_jumps(landscape: Landscape) -> str:
    """Returns where the loss jumps, in sentences; nothing where it does not."""
    show = landscape.parameter.show
    return " ".join(
        f"The loss jumps at {show(jump.above)}, from {number(jump.loss_below)} below to "
        f"{number(jump.loss_above)} above."
        for jump in landscape.discontinuities
    )


def exact_derivative(sweep: Sweep) -> str:
    """Returns what a sweep's exact derivative is, in words."""
    # A custom objective has no closed form: the derivative of its interpolated values stands in.
    is_custom = sweep.gradient_check.shortcut_vs_direct is None
    return "derivative of its values" if is_custom else "closed form"


def goal_name(parameter: Parameter) -> str:
    """Returns what the goal of a descent is called."""
    return "target" if parameter.target is not None else "lowest minimum"


def outcome_name(run: Json) -> str:
    """Returns a run's outcome as tables show it, a cycle with its period."""
    period = f" (period {run['period']})" if run["period"] else ""
    return str(run["outcome"]).replace("_", " ") + period


def verdict(result: Json) -> Verdict:
    """Returns the sentence that a diagnosis begins with."""
    good = result["verdict"] in ("healthy", "equivalent_solution")
    return Verdict(result["headline"], result["verdict"], good)


_ROLES = {"primary": "cause", "contributing": "contributes", "ruled_out": "ruled out"}


def findings(result: Json) -> list[Block]:
    """Returns the suspected causes with what was measured for each."""
    rows = tuple(
        (_ROLES[f["role"]], f["cause"].replace("_", " "), f["explanation"])
        for f in result["findings"]
    )
    return [Heading("Why"), Table(("role", "cause", "measured"), rows)]


def remedies(result: Json) -> list[Block]:
    """Returns the remedies that were tried."""
    if not result["remedies"]:
        return []
    rows = tuple(
        (
            "works" if remedy["works"] else "does not",
            remedy["name"].replace("_", " "),
            remedy["change"],
            remedy["outcome"].replace("_", " "),
        )
        for remedy in result["remedies"]
    )
    return [Heading("What helps, each one tried"), Table(("", "remedy", "change", "ends"), rows, 3)]


def rates_words(lr: float | Json) -> str:
    """Returns the learning rate, or each parameter's own."""
    if isinstance(lr, Mapping):
        return ", ".join(f"{name} {rate:g}" for name, rate in lr.items())
    return f"{lr:g}"


def run_settings(run: Json) -> str:
    """Returns optimizer and rates in words, for a sentence: sgd, lr 0.01, momentum 0.9."""
    return ", ".join([str(run["optimizer"]), f"lr {rates_words(run['lr'])}", *how_else(run)])


def outcome_shares(fractions: Mapping[str, float]) -> Table:
    """Returns how much of a map each outcome covers, the largest first."""
    shares = sorted(fractions.items(), key=lambda item: -item[1])
    rows = tuple(
        (name.replace("_", " "), f"{share:.1%}", OUTCOMES[name]) for name, share in shares if share
    )
    return Table(("outcome", "share", "meaning"), rows, 0)


def how_else(run: Json) -> list[str]:
    """Returns what a run's settings say beside optimizer and rate, each in words."""
    words = []
    if run["momentum"]:
        words.append(f"momentum {run['momentum']:g}")
    if run.get("nesterov"):
        words.append("Nesterov")
    if run.get("schedule", "constant") != "constant":
        words.append(str(run["schedule"]))
    return words
