"""The commands that run optimizers: `optimize`, `basins`, `bifurcate`, `diagnose`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gabordiag.cli.learning_options import (
    Animate,
    Learned,
    LrScan,
    Momentum,
    Nesterov,
    Optimizer,
    Rates,
    Schedule,
    Steps,
)
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
from gabordiag.cli.settings import Settings
from gabordiag.cli.several import (
    Several,
    diagnose_several,
    one_parameter,
    optimize_several,
    plane_of_starts,
    refuse_for_several,
)
from gabordiag.cli.values import (
    Named,
    named,
    parse_grid,
)
from gabordiag.errors import UsageError


@with_options(ExperimentOptions, StartsOption, OwnOptions, OutputOptions)
def optimize_command(
    settings: Settings,
    optimizer: Annotated[
        list[str], typer.Option(help="A class of torch.optim, in lower case; repeatable.")
    ] = ["sgd"],  # noqa: B006
    lr: Rates = [Named(0.01)],  # noqa: B006, B008
    momentum: Momentum = 0.0,
    nesterov: Nesterov = False,
    schedule: Schedule = "constant",
    steps: Steps = 500,
    learn: Learned = ["theta"],  # noqa: B006
    log_scale: Annotated[
        list[str],
        typer.Option(metavar="NAME", help="A parameter moved as its logarithm: it stays positive."),
    ] = [],  # noqa: B006
    direct: Annotated[
        bool, typer.Option("--direct", help="Full convolution at every step: slow, the proof.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Draw so many of the images at every step [default: all of them]."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            is_eager=True,
            callback=apply_resume,
            help="Go on with an interrupted run, in its folder.",
        ),
    ] = None,
    animate: Animate = False,
) -> None:
    """Real torch optimizers, every step logged as it happens."""
    if resume is not None:
        stray = sorted(settings.typed - {"resume", "json", "quiet", "no_plots", "debug"})
        if stray:
            raise UsageError(
                f"--{stray[0].replace('_', '-')} cannot be given with --resume.",
                "A run is resumed with the settings that it was started with.",
            )
    with Session(settings) as session:
        start = settings["start"]
        if len(learn) > 1 or log_scale:
            refuse_for_several(resume=resume, batch_size=batch_size, animate=animate)
            wish = Several(learn, log_scale, lr, start, momentum, nesterov, schedule, steps)
            optimize_several(session, wish, optimizer, direct)
            return
        from gabordiag.api import as_objective, optimize
        from gabordiag.dynamics.replay import FULL_LOSS
        from gabordiag.dynamics.run import trajectory_name
        from gabordiag.objective.batches import resolve_batch_size
        from gabordiag.objective.kernel_table import kernel_table

        first, rates = one_parameter(start, learn[0]), one_parameter(lr, learn[0])
        subject, keywords = subject_from(session, first[0])
        objective = as_objective(subject, learn[0], **keywords)
        keywords.pop("start", None)
        more = [] if resolve_batch_size(objective, batch_size) is None else [FULL_LOSS]
        total = len(optimizer) * len(rates) * len(first) * (steps + 1) * (1 + len(more))
        with session.progress("optimizing", objective) as bar:

            def logged(index: int) -> Any:
                if resume is None:
                    return ()
                return session.open_folder().logged(
                    trajectory_name(index), [objective.parameter.name]
                )

            def listener(index: int) -> Any:
                log = session.open_folder().log(
                    trajectory_name(index), [objective.parameter.name], more
                )

                def on_step(step: Any) -> None:
                    log(step.row())
                    if step.step % 50 == 0:
                        bar(index * (steps + 1) + step.step, total)

                return on_step

            result = optimize(
                # A custom objective is made once; an experiment may be needed --direct too.
                subject if settings["objective"] is None else objective,
                optimizer,
                rates,
                momentum,
                steps,
                _starts(settings, first, objective),
                nesterov=nesterov,
                schedule=schedule,
                over=learn[0],
                direct=direct,
                batch_size=batch_size,
                listeners=listener,
                logged=logged,
            )
        session.finish(result.view().with_data(kernel_table(objective) if animate else {}))


def _starts(settings: Settings, first: list[float], objective: Any) -> list[float]:
    is_theta = settings["objective"] is None and objective.parameter.name == "theta"
    return first if is_theta or "start" in settings.given else [objective.parameter.start]


@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def basins_command(
    settings: Settings,
    optimizer: Optimizer = "sgd",
    momentum: Momentum = 0.0,
    nesterov: Nesterov = False,
    lr: LrScan = "1e-4:10:241",
    starts: Annotated[
        str | None,
        typer.Option(
            metavar="LO:HI:POINTS|NAME,NAME[:POINTS]",
            help="Starts [default: the whole range, 361], or a plane of two parameters.",
        ),
    ] = None,
    steps: Steps = 1500,
) -> None:
    """Where every start ends at every learning rate."""
    with Session(settings) as session:
        import numpy as np

        if starts is not None and "," in starts:
            plane_of_starts(session, starts, optimizer, lr, momentum, nesterov)
            return
        from gabordiag.api import as_objective, basins

        subject, keywords = subject_from(session, settings["theta0"])
        objective = as_objective(subject, **keywords)
        rates = named("--lr", parse_grid)(lr)
        grid = None
        if starts is not None:
            ends = named("--starts", parse_grid)(starts)
            if settings["objective"] is None:
                session.warn_of_degrees("--starts", ends.low, ends.high)
            grid = np.linspace(ends.low, ends.high, ends.points)
        session.open_folder()
        with session.progress("mapping starts and rates", objective) as bar:
            result = basins(
                objective,
                optimizer,
                momentum,
                (rates.low, rates.high, rates.points),
                grid,
                steps,
                nesterov=nesterov,
                progress=bar,
            )
        session.finish(result.view())


@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def bifurcate_command(
    settings: Settings,
    optimizer: Optimizer = "sgd",
    momentum: Momentum = 0.0,
    lr: LrScan = "1e-2:10:800",
    steps: Steps = 2000,
) -> None:
    """Where the iterates end up, against the learning rate."""
    with Session(settings) as session:
        from gabordiag.api import as_objective, bifurcate

        subject, keywords = subject_from(session, settings["theta0"])
        objective = as_objective(subject, **keywords)
        rates = named("--lr", parse_grid)(lr)
        session.open_folder()
        with session.progress("following the attractor", objective) as bar:
            result = bifurcate(
                objective,
                optimizer,
                momentum,
                (rates.low, rates.high, rates.points),
                steps,
                progress=bar,
            )
        session.finish(result.view())


@with_options(ExperimentOptions, StartsOption, OwnOptions, OutputOptions)
def diagnose_command(
    settings: Settings,
    optimizer: Optimizer = "sgd",
    lr: Rates = [Named(0.01)],  # noqa: B006, B008
    momentum: Momentum = 0.0,
    nesterov: Nesterov = False,
    schedule: Schedule = "constant",
    steps: Steps = 500,
    learn: Learned = ["theta"],  # noqa: B006
    from_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A logged run to diagnose instead of making one."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 when the verdict is unhealthy.")
    ] = False,
) -> None:
    """What is wrong, proved, and what fixes it, each cure tried."""
    with Session(settings) as session:
        if len(learn) > 1:
            refuse_for_several(from_log=from_log)
            wish = Several(learn, [], lr, settings["start"], momentum, nesterov, schedule, steps)
            healthy = diagnose_several(session, wish, optimizer)
            raise typer.Exit(int(check and not healthy))
        from gabordiag.api import as_objective, diagnose
        from gabordiag.dynamics.run import trajectory_name

        (rate,) = one_parameter(lr, learn[0], at_most_one=True)
        (first,) = one_parameter(settings["start"], learn[0], at_most_one=True)
        subject, keywords = subject_from(session, first)
        objective = as_objective(subject, learn[0], **keywords)
        (begin,) = _starts(settings, [first], objective)

        objective.parameter = replace(objective.parameter, start=begin)
        listener = None
        if from_log is None:
            write = session.open_folder().log(trajectory_name(0), [objective.parameter.name])
            listener = lambda step: write(step.row())  # noqa: E731
        with session.progress("diagnosing", objective) as bar:
            result = diagnose(
                objective,
                optimizer,
                rate,
                momentum,
                steps,
                nesterov=nesterov,
                schedule=schedule,
                from_log=from_log,
                listener=listener,
                progress=bar,
            )
        session.finish(result.view())
        if check and not result.is_healthy:
            raise typer.Exit(1)
