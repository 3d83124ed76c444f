"""The commands that run optimizers: `optimize`, `basins`, `bifurcate`, `diagnose`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer import Option

from gabordiag.cli.options import (
    ExperimentOptions,
    OutputOptions,
    OwnOptions,
    StartOption,
    StartsOption,
    apply_resume,
    with_options,
)
from gabordiag.cli.session import Session, subject_from
from gabordiag.cli.settings import Settings, option
from gabordiag.cli.values import (
    Named,
    named,
    parse_angle,
    parse_grid,
    parse_named,
    parse_points,
    split_named,
)
from gabordiag.errors import UsageError

_OPTIMIZER = Option("sgd", help="A class of torch.optim, in lower case.")
_MOMENTUM = Option(0.0, help="For sgd and rmsprop.")
NESTEROV = Option(False, help="For sgd with momentum.")
_SCHEDULE = Option("constant", help="constant, step, exponential, cosine or one-cycle.")
ANIMATE = Option(False, help="Write the failing run as an animation, at most 10 s.")
_RATES = Option(
    [Named(0.01)],
    parser=parse_named,
    metavar="[NAME=]RATE",
    show_default="0.01",
    help="Learning rate; repeatable. With a name, that of one of several parameters.",
)
_LEARN = Option(["theta"], metavar="NAME", help="The learned parameter; several, if repeated.")

# Of a plane of starts, where no other is given.
_PLANE_RATE, _PLANE_STEPS = 0.01, 500


@with_options(ExperimentOptions, StartsOption, OwnOptions, OutputOptions)
def optimize_command(
    session: Session,
    optimizer: list[str] = Option(
        ["sgd"], help="A class of torch.optim, in lower case; repeatable."
    ),
    lr: list[Named] = _RATES,
    momentum: float = _MOMENTUM,
    nesterov: bool = NESTEROV,
    schedule: str = _SCHEDULE,
    steps: int = Option(500, help="Optimizer steps."),
    learn: list[str] = _LEARN,
    log_scale: list[str] = Option(
        [], metavar="NAME", help="A parameter moved as its logarithm: it stays positive."
    ),
    direct: bool = Option(False, help="Full convolution at every step: slow, the proof."),
    batch_size: int | None = Option(
        None, help="Draw so many of the images at every step [default: all of them]."
    ),
    resume: Path | None = Option(
        None,
        metavar="RUN",
        is_eager=True,
        callback=apply_resume,
        help="Go on with an interrupted run, in its folder.",
    ),
    animate: bool = ANIMATE,
) -> Any:
    """Real torch optimizers, every step logged as it happens."""
    settings = session.settings
    if resume is not None:
        stray = sorted(settings.typed - {"resume", "json", "quiet", "no_plots", "debug"})
        if stray:
            raise UsageError(
                f"{option(stray[0])} cannot be given with --resume.",
                "A run is resumed with the settings that it was started with.",
            )
    from gabordiag.api import as_objective_of, optimize
    from gabordiag.dynamics.replay import log_columns
    from gabordiag.dynamics.run import trajectory_name
    from gabordiag.objective.batches import resolve_batch_size
    from gabordiag.objective.kernel_table import kernel_table

    subject, keywords = subject_from(session)
    objective = as_objective_of(subject, learn, log_scale, **keywords)
    is_custom = settings["objective"] is not None
    names = objective.space.names if is_custom else learn
    starts, rates = _starts(settings, names), _rates(lr, names)
    line: Any = getattr(objective, "line", None)
    if line is None and animate:
        raise UsageError("--animate is for one learned parameter.", "Leave it out.")
    draws = line is not None and resolve_batch_size(line, batch_size) is not None
    columns = log_columns(objective.space.names, has_full_loss=draws)
    count = len(optimizer) * (1 if isinstance(rates, dict) else len(rates)) * len(starts)
    total = count * (steps + 1) * (1 + draws)
    with session.progress("optimizing", line) as bar:

        def logged(index: int) -> Any:
            if resume is None:
                return ()
            return session.open_folder().logged(trajectory_name(index), columns)

        def listener(index: int) -> Any:
            log = session.listener(index, columns)

            def on_step(step: Any) -> None:
                log(step)
                if step.step % 50 == 0:
                    bar(index * (steps + 1) + step.step, total)

            return on_step

        result = optimize(
            # A custom objective is made once; an experiment may be needed --direct too.
            objective if is_custom else subject,
            optimizer,
            rates,
            momentum,
            steps,
            starts,
            nesterov=nesterov,
            schedule=schedule,
            over=learn,
            log_scale=log_scale,
            direct=direct,
            batch_size=batch_size,
            listeners=listener,
            logged=logged,
        )
    return result.view().with_data(kernel_table(line) if animate else {})


def _starts(settings: Settings, learn: Sequence[str]) -> list[Any]:
    """Returns the starts that are asked for, as `Space.point` takes them; None for the own one.

    Of several parameters each start has values by name; a name that is repeated gives several
    starts, in order. A value without a name is theta's.

    Raises:
        UsageError: A name that is not learned, or names with different numbers of values.
    """
    given: list[Named] = settings["start"] if "start" in settings.given else []
    if len(learn) == 1:
        _refuse_stray(given, learn)
        return [value for value, _ in given] or [None]
    if any(isinstance(value, tuple) for value, _ in given):
        return [value for value, _ in given]
    by_name: dict[str, list[float]] = {}
    for value, name in given:
        by_name.setdefault(name or "theta", []).append(value)
    counts = {name: len(values) for name, values in by_name.items()}
    count = max(counts.values(), default=1)
    if any(number not in (1, count) for number in counts.values()):
        raise UsageError(
            "the starts have " + ", ".join(f"{n} values of {name}" for name, n in counts.items()),
            "Give each name once, or as often as the others.",
        )
    return [
        {name: values[index % len(values)] for name, values in by_name.items()}
        for index in range(count)
    ]


def _rates(values: Sequence[Named], learn: Sequence[str]) -> list[float] | dict[str, float]:
    """Returns the learning rates, or those of several parameters by name.

    Raises:
        UsageError: Rates with and without a name, or a name that is not learned.
    """
    if len(learn) == 1:
        _refuse_stray(values, learn)
        # Those without a name come first.
        return [value for value, _ in sorted(values, key=lambda rate: bool(rate.name))]
    plain, by_name = split_named(values)
    if plain and by_name:
        raise UsageError(
            "rates with and without a name cannot be mixed.", "Name all of them, or none."
        )
    return by_name or plain


def _refuse_stray(values: Sequence[Named], learn: Sequence[str]) -> None:
    stray = sorted({name for _, name in values} - {"", *learn})
    if stray:
        raise UsageError(
            f"{stray[0]} is not learned, only {learn[0]} is.", f"Add --learn {stray[0]}."
        )


@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def basins_command(
    session: Session,
    optimizer: str = _OPTIMIZER,
    momentum: float = _MOMENTUM,
    nesterov: bool = NESTEROV,
    lr: str = Option("1e-4:10:241", metavar="LO:HI:POINTS", help="Learning rates, log-spaced."),
    starts: str | None = Option(
        None,
        metavar="LO:HI:POINTS|NAME,NAME[:POINTS]",
        help="Starts [default: the whole range, 361], or a plane of two parameters.",
    ),
    steps: int = Option(1500, help="Optimizer steps."),
) -> Any:
    """Where every start ends at every learning rate."""
    import numpy as np

    if starts is not None and "," in starts:
        return _plane_of_starts(session, starts, lr)
    from gabordiag.api import as_objective, basins

    subject, keywords = subject_from(session)
    objective = as_objective(subject, **keywords)
    rates = named("--lr", parse_grid)(lr)
    grid = None
    if starts is not None:
        ends = named("--starts", parse_grid)(starts)
        if session.settings["objective"] is None:
            session.warn_of_degrees("--starts", ends.low, ends.high)
        grid = np.linspace(*ends)
    session.open_folder()
    with session.progress("mapping starts and rates", objective) as bar:
        return basins(
            objective, optimizer, momentum, rates, grid, steps, nesterov=nesterov, progress=bar
        ).view()


def _plane_of_starts(session: Session, starts: str, lr: str) -> Any:
    """`basins` over the starts of two parameters, at one learning rate.

    Raises:
        UsageError: A scan of rates, or no two names.
    """
    from gabordiag.api import plane_basins
    from gabordiag.dynamics.plane import DEFAULT_POINTS

    names, _, count = starts.partition(":")
    first, _, second = (part.strip() for part in names.partition(","))
    settings = session.settings
    if "lr" in settings.given and ":" in lr:
        raise UsageError("a plane of starts is at one learning rate.", "Give --lr 0.01, say.")
    rate = named("--lr", parse_angle)(lr) if "lr" in settings.given else _PLANE_RATE
    steps = settings["steps"] if "steps" in settings.given else _PLANE_STEPS
    settings |= {"lr": f"{rate!r}", "steps": steps}
    subject, keywords = subject_from(session)
    with session.progress("mapping a plane of starts") as bar:
        return plane_basins(
            subject,
            (first, second),
            settings["optimizer"],
            rate,
            settings["momentum"],
            steps,
            points=named("--starts", parse_points)(count) if count else DEFAULT_POINTS,
            nesterov=settings["nesterov"],
            progress=bar,
            **keywords,
        ).view()


@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def bifurcate_command(
    session: Session,
    optimizer: str = _OPTIMIZER,
    momentum: float = _MOMENTUM,
    lr: str = Option("1e-2:10:800", metavar="LO:HI:POINTS", help="Learning rates, log-spaced."),
    steps: int = Option(2000, help="Optimizer steps."),
) -> Any:
    """Where the iterates end up, against the learning rate."""
    from gabordiag.api import as_objective, bifurcate

    subject, keywords = subject_from(session)
    objective = as_objective(subject, **keywords)
    rates = named("--lr", parse_grid)(lr)
    session.open_folder()
    with session.progress("following the attractor", objective) as bar:
        return bifurcate(objective, optimizer, momentum, rates, steps, progress=bar).view()


@with_options(ExperimentOptions, StartsOption, OwnOptions, OutputOptions)
def diagnose_command(
    session: Session,
    optimizer: str = _OPTIMIZER,
    lr: list[Named] = _RATES,
    momentum: float = _MOMENTUM,
    nesterov: bool = NESTEROV,
    schedule: str = _SCHEDULE,
    steps: int = Option(500, help="Optimizer steps."),
    learn: list[str] = _LEARN,
    from_log: Path | None = Option(
        None, metavar="FILE", help="A logged run to diagnose instead of making one."
    ),
    check: bool = Option(False, help="Exit with 1 when the verdict is unhealthy."),
) -> None:
    """What is wrong, proved, and what fixes it, each cure tried."""
    from gabordiag.api import as_objective_of, diagnose
    from gabordiag.dynamics.replay import log_columns
    from gabordiag.own.training import Training

    settings = session.settings
    subject, keywords = subject_from(session)
    if isinstance(subject, Training):
        labels, rates = _watched(settings, subject, keywords)
        objective = line = start = None
        more = {name: keywords[name] for name in ("param", "seed")}
    else:
        objective = as_objective_of(subject, learn, **keywords)
        labels, line, more = objective.space.names, getattr(objective, "line", None), {}
        names = labels if settings["objective"] is not None else learn
        starts, rates = _starts(settings, names), _rates(lr, names)
        if len(starts) > 1 or (isinstance(rates, list) and len(rates) > 1):
            raise UsageError("a diagnosis is of one run: one --start, and one --lr for each name.")
        if line is None and from_log is not None:
            raise UsageError("--from-log is for one learned parameter.", "Leave it out.")
        start = objective.space.point(starts[0])
    with session.progress("training" if objective is None else "diagnosing", line) as bar:
        result = diagnose(
            subject if objective is None else objective,
            optimizer,
            rates,
            momentum,
            steps,
            start,
            nesterov=nesterov,
            schedule=schedule,
            over=learn,
            from_log=from_log,
            listener=session.listener(0, log_columns(labels)) if from_log is None else None,
            progress=bar,
            **more,
        )
    session.finish(result.view())
    if check and not result.is_healthy:
        raise typer.Exit(1)


def _watched(
    settings: Settings, training: Any, keywords: Mapping[str, Any]
) -> tuple[Sequence[str], list[float] | dict[str, float]]:
    """Returns the labels of a training's watched elements, and the learning rates by name.

    Raises:
        UsageError: An option that has no effect on a training.
    """
    from gabordiag.own.training import find_watched

    stray = sorted(set(keywords) - {"param", "seed"})
    if settings["from_log"] is not None:
        stray.append("from_log")
    if stray:
        raise UsageError(
            f"{option(stray[0])} has no effect on a training.",
            "The model's own values are the start; its batches and its loss are in it.",
        )
    plain, rates = split_named(settings["lr"])
    if len(plain) > 1:
        raise UsageError("a training has one learning rate without a name.", "Name the others.")
    rates |= {"others": plain[0]} if plain else {}
    watched = find_watched(training.model, keywords.get("param", ()))
    return [element.label for element in watched], rates
