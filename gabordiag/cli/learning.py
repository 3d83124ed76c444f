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
    refuse_beside_resume,
)
from gabordiag.cli.session import Session, thing_from
from gabordiag.cli.several import (
    Several,
    diagnose_several,
    one_parameter,
    optimize_several,
    plane_of_starts,
    refuse_for_several,
)
from gabordiag.cli.values import (
    named,
    parse_grid,
)


def optimize_command(
    ctx: typer.Context,
    experiment: ExperimentOptions,
    starts: StartsOption,
    own: OwnOptions,
    output: OutputOptions,
    optimizer: Annotated[
        list[str], typer.Option(help="A class of torch.optim, in lower case; repeatable.")
    ] = ["sgd"],  # noqa: B006
    lr: Rates = [0.01],  # noqa: B006
    momentum: Momentum = 0.0,
    nesterov: Nesterov = False,
    schedule: Schedule = "constant",
    steps: Steps = 500,
    learn: Learned = ["theta"],  # noqa: B006
    log: Annotated[
        list[str], typer.Option(help="A parameter moved as its logarithm: it stays positive.")
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
        refuse_beside_resume(ctx)
    with Session(ctx, output) as session:
        if len(learn) > 1 or log:
            refuse_for_several(resume=resume, batch_size=batch_size, animate=animate)
            wish = Several(learn, log, lr, starts.start, momentum, nesterov, schedule, steps)
            optimize_several(session, ctx, experiment, own, wish, optimizer, direct)
            return
        from gabordiag.api import as_objective, optimize
        from gabordiag.dynamics.replay import FULL_LOSS
        from gabordiag.dynamics.run import trajectory_name
        from gabordiag.objective.batches import resolve_batch_size
        from gabordiag.objective.kernel_table import kernel_table

        first, rates = one_parameter(starts.start, learn[0]), one_parameter(lr, learn[0])
        thing, keywords = thing_from(ctx, experiment, own, first[0])
        objective = as_objective(thing, learn[0], **keywords)
        keywords.pop("start", None)
        more = [] if resolve_batch_size(objective, batch_size) is None else [FULL_LOSS]
        total = len(optimizer) * len(rates) * len(first) * (steps + 1) * (1 + len(more))
        with session.progress("optimizing", objective) as bar:

            def logged(index: int) -> Any:
                if resume is None:
                    return ()
                return session.folder.logged(trajectory_name(index), [objective.parameter.name])

            def listener(index: int) -> Any:
                log = session.folder.log(trajectory_name(index), [objective.parameter.name], more)

                def on_step(step: Any) -> None:
                    log(step.row())
                    if step.step % 50 == 0:
                        bar(index * (steps + 1) + step.step, total)

                return on_step

            result = optimize(
                # An objective of one's own is made once; an experiment may be needed --direct too.
                thing if own.objective is None else objective,
                optimizer,
                rates,
                momentum,
                steps,
                _starts(ctx, first, own, objective),
                nesterov=nesterov,
                schedule=schedule,
                over=learn[0],
                direct=direct,
                batch_size=batch_size,
                listeners=listener,
                logged=logged,
            )
        session.finish(result.view().with_data(kernel_table(objective) if animate else {}))


def _starts(ctx: typer.Context, first: list[float], own: OwnOptions, objective: Any) -> list[float]:
    source = ctx.get_parameter_source("start")
    given = source is not None and source.name != "DEFAULT"
    theta = own.objective is None and objective.parameter.name == "theta"
    return first if given or theta else [objective.parameter.start]


def basins_command(
    ctx: typer.Context,
    experiment: ExperimentOptions,
    start: StartOption,
    own: OwnOptions,
    output: OutputOptions,
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
    with Session(ctx, output) as session:
        import numpy as np

        if starts is not None and "," in starts:
            plane_of_starts(
                session, ctx, experiment, own, starts, optimizer, lr, momentum, nesterov
            )
            return
        from gabordiag.api import as_objective, basins

        thing, keywords = thing_from(ctx, experiment, own, start.theta0)
        objective = as_objective(thing, **keywords)
        rates = named("--lr", parse_grid)(lr)
        grid = None
        if starts is not None:
            ends = named("--starts", parse_grid)(starts)
            grid = np.linspace(ends.low, ends.high, ends.points)
        _ = session.folder
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


def bifurcate_command(
    ctx: typer.Context,
    experiment: ExperimentOptions,
    start: StartOption,
    own: OwnOptions,
    output: OutputOptions,
    optimizer: Optimizer = "sgd",
    momentum: Momentum = 0.0,
    lr: LrScan = "1e-2:10:800",
    steps: Steps = 2000,
) -> None:
    """Where the iterates end up, against the learning rate."""
    with Session(ctx, output) as session:
        from gabordiag.api import as_objective, bifurcate

        thing, keywords = thing_from(ctx, experiment, own, start.theta0)
        objective = as_objective(thing, **keywords)
        rates = named("--lr", parse_grid)(lr)
        _ = session.folder
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


def diagnose_command(
    ctx: typer.Context,
    experiment: ExperimentOptions,
    starts: StartsOption,
    own: OwnOptions,
    output: OutputOptions,
    optimizer: Optimizer = "sgd",
    lr: Rates = [0.01],  # noqa: B006
    momentum: Momentum = 0.0,
    nesterov: Nesterov = False,
    schedule: Schedule = "constant",
    steps: Steps = 500,
    learn: Learned = ["theta"],  # noqa: B006
    log: Annotated[
        Path | None, typer.Option(help="A logged run to diagnose instead of making one.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 when the verdict is unhealthy.")
    ] = False,
) -> None:
    """What is wrong, proved, and what fixes it, each cure tried."""
    with Session(ctx, output) as session:
        if len(learn) > 1:
            refuse_for_several(log=log)
            wish = Several(learn, [], lr, starts.start, momentum, nesterov, schedule, steps)
            healthy = diagnose_several(session, ctx, experiment, own, wish, optimizer)
            raise typer.Exit(int(check and not healthy))
        from gabordiag.api import as_objective, diagnose
        from gabordiag.dynamics.optimizers import OptimizerSettings
        from gabordiag.dynamics.run import trajectory_name

        # Refused before there is a folder.
        (rate,) = one_parameter(lr, learn[0], at_most_one=True)
        (first,) = one_parameter(starts.start, learn[0], at_most_one=True)
        OptimizerSettings(optimizer, rate, momentum, nesterov, schedule, steps)
        thing, keywords = thing_from(ctx, experiment, own, first)
        objective = as_objective(thing, learn[0], **keywords)
        (begin,) = _starts(ctx, [first], own, objective)
        objective.parameter = replace(objective.parameter, start=begin)
        listener = None
        if log is None:
            write = session.folder.log(trajectory_name(0), [objective.parameter.name])
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
                from_log=log,
                listener=listener,
                progress=bar,
            )
        session.finish(result.view())
        if check and not result.is_healthy:
            raise typer.Exit(1)
