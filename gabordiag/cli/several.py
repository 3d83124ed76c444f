"""What the commands do when several parameters are learned at once.

`optimize`, `diagnose` and `basins` come here when several names are given: starts and rates may be
given by name then, and those go to `gabordiag.api` by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gabordiag.cli.session import Session, subject_from
from gabordiag.cli.values import Named, split_named
from gabordiag.errors import UsageError

# Of a plane of starts, where no other is given.
_PLANE_RATE, _PLANE_STEPS = 0.01, 500


@dataclass(frozen=True)
class Several:
    """What is learned, and how.

    Attributes:
        learn: Names of the parameters.
        log: Of those that are moved as logarithms.
        lr: Rates, as `parse_named` gives them.
        start: Starts, likewise.
        momentum: For the optimizers that take it.
        nesterov: For sgd with momentum.
        schedule: Of the rates.
        steps: Optimizer steps.
    """

    learn: Sequence[str]
    log: Sequence[str]
    lr: Sequence[Named]
    start: Sequence[Named]
    momentum: float
    nesterov: bool
    schedule: str
    steps: int

    def rates(self) -> Any:
        """Returns the rates as `gabordiag.api_joint` takes them.

        Raises:
            UsageError: Rates with and without a name.
        """
        plain, named = split_named(self.lr)
        if plain and named:
            raise UsageError(
                "rates with and without a name cannot be mixed.", "Name all of them, or none."
            )
        return named or plain

    def starts(self) -> tuple[float | None, dict[str, float]]:
        """Returns the start of theta, if one is given without a name, and those by name.

        Raises:
            UsageError: Several without a name.
        """
        plain, named = split_named(self.start)
        if len(plain) > 1:
            raise UsageError(
                "several parameters are learned from one start.",
                "Give --start NAME=VALUE for each.",
            )
        return (plain[0] if plain else None), named


def one_parameter(values: Sequence[Named], name: str, *, at_most_one: bool = False) -> list[float]:
    """Returns the numbers for the one learned parameter, with its name or without.

    Raises:
        UsageError: A name of another parameter, or more numbers than one.
    """
    plain, named = split_named(values)
    stray = sorted(set(named) - {name})
    if stray:
        raise UsageError(f"{stray[0]} is not learned, only {name} is.", f"Add --learn {stray[0]}.")
    found = [*plain, *named.values()]
    if at_most_one and len(found) != 1:
        raise UsageError("a diagnosis is of one run: one --lr and one --start.")
    return found


def refuse_for_several(**options: Any) -> None:
    """Refuses options that work for one learned parameter only.

    Raises:
        UsageError: One is given.
    """
    for name, value in options.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} is for one learned parameter.", "Leave it out."
            )


def _thing(session: Session, theta0: float | None) -> Any:
    thing, keywords = subject_from(session, theta0)
    if keywords:
        raise UsageError(
            "a custom objective can have only one parameter; several are supported for the "
            "Gabor experiment."
        )
    return thing


def _logger(session: Session, index: int, names: Sequence[str]) -> Any:
    from gabordiag.dynamics.replay import log_columns
    from gabordiag.dynamics.run import trajectory_name

    more = log_columns(names)[1 + len(names) + 4 :]
    log = session.open_folder().log(trajectory_name(index), names, more)
    return lambda step: log(step.row())


def optimize_several(
    session: Session,
    wish: Several,
    optimizers: Sequence[str],
    direct: bool,
) -> None:
    """`optimize` with several `--learn`."""
    from gabordiag.api import optimize

    theta0, named = wish.starts()
    thing = _thing(session, theta0)
    with session.progress("optimizing"):
        result = optimize(
            thing,
            optimizers,
            wish.rates(),
            wish.momentum,
            wish.steps,
            named,
            nesterov=wish.nesterov,
            schedule=wish.schedule,
            over=wish.learn,
            log_scale=wish.log,
            direct=direct,
            listeners=lambda index: _logger(session, index, wish.learn),
        )
    session.finish(result.view())


def diagnose_several(
    session: Session,
    wish: Several,
    optimizer: str,
) -> bool:
    """`diagnose` with several `--learn`; returns whether the verdict is healthy."""
    from gabordiag.api import diagnose

    theta0, named = wish.starts()
    rates = wish.rates()
    if isinstance(rates, list) and len(rates) > 1:
        raise UsageError("a diagnosis is of one run: one --lr, or one for each parameter by name.")
    thing = _thing(session, theta0)
    with session.progress("diagnosing") as bar:
        result = diagnose(
            thing,
            optimizer,
            rates if isinstance(rates, dict) else rates[0],
            wish.momentum,
            wish.steps,
            named,
            nesterov=wish.nesterov,
            schedule=wish.schedule,
            over=wish.learn,
            listener=_logger(session, 0, wish.learn),
            progress=bar,
        )
    session.finish(result.view())
    return bool(result.is_healthy)


def plane_of_starts(
    session: Session,
    starts: str,
    optimizer: str,
    lr: str,
    momentum: float,
    nesterov: bool,
) -> None:
    """`basins` over the starts of two parameters, at one learning rate.

    Raises:
        UsageError: A scan of rates, or no two names.
    """
    from gabordiag.api import plane_basins
    from gabordiag.cli.values import named, parse_angle, parse_points
    from gabordiag.dynamics.plane import DEFAULT_POINTS

    names, _, count = starts.partition(":")
    first, _, second = (part.strip() for part in names.partition(","))
    given = session.settings.given
    if "lr" in given and ":" in lr:
        raise UsageError("a plane of starts is at one learning rate.", "Give --lr 0.01, say.")
    rate = named("--lr", parse_angle)(lr) if "lr" in given else _PLANE_RATE
    steps = session.settings["steps"] if "steps" in given else _PLANE_STEPS
    session.settings |= {"lr": f"{rate!r}", "steps": steps}
    thing = _thing(session, None)
    with session.progress("mapping a plane of starts") as bar:
        result = plane_basins(
            thing,
            (first, second),
            optimizer,
            rate,
            momentum,
            steps,
            points=named("--starts", parse_points)(count) if count else DEFAULT_POINTS,
            nesterov=nesterov,
            progress=bar,
        )
    session.finish(result.view())
