"""The app and its commands: each parses, calls, and returns the view of its result.

A command's name is its function's, less `_command`; what its result says and which figures it has
is one row of `KINDS` (`presentation/registry.py`). Bodies import what they need when they run.
"""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer import Argument, Option
from typer.core import TyperCommand, TyperGroup

from gabordiag._version import __version__
from gabordiag.choices import OptimizerName, ParameterName, PlaneName, ScheduleName
from gabordiag.cli.options import (
    ExperimentOptions,
    InputOptions,
    OutputOptions,
    OwnOptions,
    PageOutputOptions,
    StartOption,
    StartsOption,
    apply_resume,
    choice,
    saved_runs,
    steps_option,
    typed,
    with_options,
    without_values,
)
from gabordiag.cli.session import Bars, Session, Settings, experiment_from, option, subject_from
from gabordiag.cli.values import (
    Named,
    Over,
    named,
    parse_angle,
    parse_axis,
    parse_formats,
    parse_grid,
    parse_named,
    parse_over,
    parse_points,
    split_named,
)
from gabordiag.errors import UsageError
from gabordiag.presentation.figures.sheets import check_panel

_OPTIMIZER = choice("sgd", OptimizerName, "A class of torch.optim, in lower case.")
_MOMENTUM = Option(0.0, help="For sgd and rmsprop.")
_NESTEROV = Option(False, help="For sgd with momentum.")
_SCHEDULE = choice("constant", ScheduleName)
_ANIMATE = Option(False, help="Write the failing run as an animation, at most 10 s.")
_RATES = typed(
    [Named(0.01)], "[NAME=]RATE",
    "Learning rate; repeatable. With a name, that of one of several parameters.",
    parser=parse_named, show_default="0.01",
)  # fmt: skip
_LEARN = typed(
    ["theta"], "NAME", "The learned parameter; several, if repeated.", offered=ParameterName
)
_MAX_SECONDS = typed(
    None, "S", "About how long a custom objective of one parameter may be evaluated."
)
_RESUME = typed(
    None, "RUN", "Go on with an interrupted run, in its folder.", offered=saved_runs,
    is_eager=True, callback=apply_resume,
)  # fmt: skip

# Of `sweep`, where a training is run.
_OF_A_RUN = (
    "plane", "points", "seeds", "optimizer", "lr", "momentum", "nesterov", "schedule", "steps",
)  # fmt: skip
# Of a plane of starts, where no other is given.
_PLANE_RATE, _PLANE_STEPS = 0.01, 500


class _Group(TyperGroup):
    """Flags take no value, and the help shows none."""

    def get_params(self, ctx: Any) -> Any:
        return without_values(super().get_params(ctx))


class _Command(TyperCommand):
    """As `_Group`; options with one value are given once, where click takes the last silently."""

    def get_params(self, ctx: Any) -> Any:
        return without_values(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for given, count in Counter(order).items():
            if count > 1 and not (getattr(given, "is_flag", True) or given.multiple):
                raise UsageError(f"{given.opts[-1]} is given {count} times.", "Give it once.")
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="gabordiag",
    cls=_Group,
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Why does my learned Gabor angle jump back? Measures the loss landscape, runs the "
    "optimizer, names the cause, tries the remedies.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        print(f"gabordiag {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        # With rich it is printed, without it returned.
        with redirect_stdout(sys.stderr):
            print(ctx.get_help())
        raise typer.Exit(2)


_EXPLAIN, _MEASURE, _LOOK = "Find the cause", "Measure", "Look"


def _listed(panel: str, *examples: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a function a command, in this panel of the help, with calls that can be pasted."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = function.__name__.removesuffix("_command")
        calls = [escape(f"  gabordiag {name} {words}".rstrip()) for words in examples]
        epilog = "\n".join(["Examples:", *calls])
        app.command(name, cls=_Command, rich_help_panel=panel, epilog=epilog)(function)
        return function

    return register


@_listed(_EXPLAIN, "", "--image noise --animate")
@with_options(InputOptions, OutputOptions)
def reproduce_command(
    session: Session,
    animate: bool = _ANIMATE,
    bank: int | None = Option(
        None,
        help="A bank of so many random filters, all five parameters learned, instead of the two; "
        "16 take about a minute.",
    ),
    readout: bool = Option(
        False,
        help="The student of --bank sees one number of each patch of the image, the weighted sum "
        "of the rectified responses; 16 filters take about half a minute.",
    ),
) -> Any:
    """The question's failure, explained, for two filters."""
    from gabordiag.diagnosis.reproduction import kernel_tables, reproduce
    from gabordiag.dynamics.replay import log_columns

    experiment = experiment_from(session)
    if bank is not None:
        return _reproduce_bank(session, experiment, bank)
    if readout:
        raise UsageError("--readout has no effect without --bank.", "Add --bank 16.")
    folder = session.open_folder()
    columns = log_columns(["theta"])
    with session.progress("reproducing") as bar:
        result = reproduce(experiment, log=lambda name: folder.log(name, columns), progress=bar)
    return result.view().with_data(kernel_tables(experiment) if animate else {})


def _reproduce_bank(session: Session, experiment: Any, bank: int) -> Any:
    """`reproduce --bank`: the question at full size."""
    from gabordiag.diagnosis.bank import reproduce_bank
    from gabordiag.diagnosis.readout import reproduce_readout
    from gabordiag.dynamics.replay import log_columns
    from gabordiag.gabor import PARAMETER_NAMES

    if session.settings["animate"]:
        raise UsageError("--animate has no effect beside --bank.", "Leave one of them out.")
    behind = session.settings["readout"]
    names = [*PARAMETER_NAMES, "readout"] if behind else PARAMETER_NAMES
    labels = [f"{name}[{row}]" for name in names for row in range(bank)]
    made = reproduce_readout if behind else reproduce_bank
    with session.progress("training") as bar:
        seed, listener = session.settings["seed"], session.listener(0, log_columns(labels))
        return made(experiment, bank, seed=seed, listener=listener, progress=bar).view()


@_listed(_MEASURE, "--over theta:-90deg:90deg:361", "--over theta --over wavelength --loss mse")
@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def sweep_command(
    session: Session,
    over: list[str] = typed(
        ["theta"],
        "NAME[:LO:HI[:POINTS]]",
        "The parameter that varies; given twice, a surface over two.",
        offered=ParameterName,
    ),
    max_seconds: float | None = _MAX_SECONDS,
    plane: str | None = choice(
        None,
        PlaneName,
        "Of a training: a plane through all weights; random (filter-normalised), pca (the run's "
        "main directions), gradient (and the sharpest direction), axes (the two of --over).",
    ),
    points: int | None = Option(None, help="Values along each side of --plane [default: 41]."),
    seeds: int = Option(
        1, help="Trainings with the next seeds beside --plane, and the barriers between their ends."
    ),
    optimizer: str = _OPTIMIZER,
    lr: list[Named] = _RATES,
    momentum: float = _MOMENTUM,
    nesterov: bool = _NESTEROV,
    schedule: str = _SCHEDULE,
    steps: int = steps_option(500),
    resume: Path | None = _RESUME,
) -> Any:
    """Loss, gradients, and every critical point with a proof.

    Given --over twice: the surface over two parameters, with the minima found.

    Of a training (an --objective that makes a gd.Training): the loss on a
    --plane through all weights with the run's path, and whether that picture
    shows the run. The options from --optimizer on are the run's.
    """
    from gabordiag.api import as_objective, as_plane
    from gabordiag.landscape.plan import make_plan, planned_sweep
    from gabordiag.landscape.surface import sweep_surface
    from gabordiag.own.training import Training

    swept = [named("--over", parse_over)(text) for text in over]
    if len(swept) > 2:
        raise UsageError(
            f"{len(swept)} parameters cannot be swept at once.", "Give --over once or twice."
        )
    subject, keywords = subject_from(session)
    is_plane = plane is not None or isinstance(subject, Training)
    if max_seconds is not None and (is_plane or len(swept) == 2):
        raise UsageError("--max-seconds is for one parameter.", "Leave it out.")
    if is_plane:
        return _network_plane(session, subject, keywords, swept)
    session.settings.leave_out((*_OF_A_RUN, "resume"), "but on a plane of a training")
    if session.settings["objective"] is None:
        for name, low, high, _ in swept:
            if name in ("theta", "psi"):
                session.warn_of_degrees("--over", low, high)
    if len(swept) == 2:
        one, other = swept
        objective_of_two = as_plane(subject, [one.name, other.name], **keywords)
        counts, ranges = (one.points, other.points), (one[1:3], other[1:3])
        session.open_folder()
        with session.progress("sweeping") as bar:
            return sweep_surface(objective_of_two, counts, ranges, progress=bar).view()
    ((name, low, high, points),) = swept
    objective = as_objective(subject, name, **keywords)
    # Refused before there is a folder.
    objective.parameter.grid(low, high)
    plan = make_plan(objective, points, 0, max_seconds, session.announce)
    session.open_folder()
    with session.progress("sweeping", objective):
        return planned_sweep(objective, plan, points, low, high).view()


def _network_plane(
    session: Session, subject: Any, keywords: Mapping[str, Any], swept: Sequence[Over]
) -> Any:
    """`sweep` of a training: a plane through all weights."""
    from gabordiag.api import sweep
    from gabordiag.dynamics.checkpoint import CHECKPOINT
    from gabordiag.dynamics.network import DEFAULT_POINTS as PLANE_POINTS
    from gabordiag.own.training import Training

    settings, more = session.settings, dict[str, Any]()
    plane = settings["plane"]
    count = PLANE_POINTS if settings["points"] is None else settings["points"]
    if plane in (None, "axes"):
        names = [one.name for one in swept]
        more["over"] = names if len(names) > 1 else names[0]
        more["points"] = tuple(count if one.points is None else one.points for one in swept)
        if any(one.low is not None for one in swept):
            more["range"] = [(one.low, one.high) for one in swept]
        plane = settings["plane"] = "axes"
    else:
        settings.leave_out(["over"], f"beside --plane {plane}")
        more["points"] = count
        more["params"] = keywords.get("param", ())
    if isinstance(subject, Training):
        more["lr"] = _training_rates(settings, keywords)
    of_run = ("optimizer", "momentum", "nesterov", "schedule", "steps", "seed", "seeds")
    with session.progress("training") as bar:
        return sweep(
            subject, plane=plane, checkpoint=session.open_folder().path / CHECKPOINT,
            progress=bar, **{name: settings[name] for name in of_run}, **more,
        ).view()  # fmt: skip


@_listed(_MEASURE, "--lr 3 --start=-45deg --steps 300", "--optimizer sgd --optimizer adam --lr 0.1")
@with_options(ExperimentOptions, StartsOption, OwnOptions, OutputOptions)
def optimize_command(
    session: Session,
    optimizer: list[str] = choice(
        ["sgd"], OptimizerName, "A class of torch.optim, in lower case; repeatable."
    ),
    lr: list[Named] = _RATES,
    momentum: float = _MOMENTUM,
    nesterov: bool = _NESTEROV,
    schedule: str = _SCHEDULE,
    steps: int = steps_option(500),
    learn: list[str] = _LEARN,
    log_scale: list[str] = typed(
        [], "NAME", "A parameter moved as its logarithm: it stays positive.", offered=ParameterName
    ),
    direct: bool = Option(False, help="Full convolution at every step: slow, the proof."),
    batch_size: int | None = Option(
        None, help="Draw so many of the images at every step [default: all of them]."
    ),
    resume: Path | None = _RESUME,
    animate: bool = _ANIMATE,
) -> Any:
    """Real torch optimizers, every step logged as it happens."""
    from gabordiag.api import as_objective_of, optimize
    from gabordiag.dynamics.replay import log_columns
    from gabordiag.dynamics.run import trajectory_name
    from gabordiag.objective.gabor_line import kernel_table
    from gabordiag.objective.gabor_objective import resolve_batch_size

    settings = session.settings
    subject, keywords = subject_from(session)
    objective = as_objective_of(subject, learn, log_scale, **keywords)
    is_custom = settings["objective"] is not None
    names = objective.space.names if is_custom else learn
    starts, rates = _starts(settings, names), _rates(lr, names)
    line: Any = getattr(objective, "line", None)
    draws = resolve_batch_size(objective, batch_size) is not None
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
            settings["optimizer"], rates, momentum, steps, starts,
            nesterov=nesterov, schedule=settings["schedule"], over=learn, log_scale=log_scale,
            direct=direct, batch_size=batch_size, listeners=listener, logged=logged,
        )  # fmt: skip
    return result.view().with_data(kernel_table(line) if animate else {})


@_listed(
    _MEASURE, "--lr 1e-3:10:61 --starts=-90deg:90deg:91", "--starts theta,wavelength:41 --lr 0.05"
)
@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def basins_command(
    session: Session,
    optimizer: str = _OPTIMIZER,
    momentum: float = _MOMENTUM,
    nesterov: bool = _NESTEROV,
    lr: str = typed("1e-4:10:241", "LO:HI:POINTS", "Learning rates, log-spaced."),
    starts: str | None = typed(
        None,
        "LO:HI:POINTS",
        "Starts [default: the whole range, 361]; or NAME,NAME[:POINTS], a plane of two parameters.",
    ),
    steps: int = steps_option(1500),
) -> Any:
    """Where every start ends at every learning rate."""
    if starts is not None and "," in starts:
        return _plane_of_starts(session, starts, lr)
    rates = named("--lr", parse_grid)(lr)
    ends = None if starts is None else named("--starts", parse_grid)(starts)
    import numpy as np

    from gabordiag.api import as_objective, basins

    subject, keywords = subject_from(session)
    objective = as_objective(subject, **keywords)
    if ends is not None and session.settings["objective"] is None:
        session.warn_of_degrees("--starts", ends.low, ends.high)
    grid = None if ends is None else np.linspace(*ends)
    session.open_folder()
    with session.progress("mapping starts and rates", objective) as bar:
        name = session.settings["optimizer"]
        return basins(
            objective, name, momentum, rates, grid, steps, nesterov=nesterov, progress=bar
        ).view()


def _plane_of_starts(session: Session, starts: str, lr: str) -> Any:
    """`basins` over the starts of two parameters, at one learning rate."""
    from gabordiag.api import plane_basins
    from gabordiag.dynamics.maps import PLANE_POINTS as DEFAULT_POINTS

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
            subject, (first, second), settings["optimizer"], rate, settings["momentum"], steps,
            points=named("--starts", parse_points)(count) if count else DEFAULT_POINTS,
            nesterov=settings["nesterov"], progress=bar, **keywords,
        ).view()  # fmt: skip


@_listed(
    _MEASURE, "--objective train.py:build", "--objective train.py:build --param gabor --goal 0.1"
)
@with_options(OutputOptions)
def rates_command(
    session: Session,
    objective: str | None = typed(
        None, "FILE.py:NAME", "A gd.Training, or a function that makes one."
    ),
    param: list[str] = Option(
        [], help="A parameter or submodule that gets a window of its own; repeatable."
    ),
    optimizer: str = _OPTIMIZER,
    momentum: float = _MOMENTUM,
    nesterov: bool = _NESTEROV,
    schedule: str = _SCHEDULE,
    steps: int = steps_option(100),
    lr: str = typed("1e-6:10:15", "LO:HI:POINTS", "Learning rates, log-spaced."),
    factor: float = Option(1.1, help="To which the borders of windows are found."),
    goal: float | None = Option(
        None, help="Loss that trainings have to end at [default: near the lowest ending]."
    ),
    seed: int = InputOptions.seed,
    seeds: int = Option(3, help="So many trainings with a rate have to reach the goal."),
    max_seconds: float | None = typed(None, "S", "About how long all trainings may take."),
    resume: Path | None = _RESUME,
) -> Any:
    """Which learning rates work, found by short trainings with them.

    Each is tried on a training (an --objective that makes a gd.Training)
    with several seeds; the borders of what works are then closed in on.
    """
    grid = named("--lr", parse_grid)(lr)
    from gabordiag.api import rates
    from gabordiag.dynamics.checkpoint import CHECKPOINT
    from gabordiag.own.custom import as_training
    from gabordiag.own.loading import load_object
    from gabordiag.own.training import Training

    settings = session.settings
    subject = None if objective is None else as_training(load_object(objective))
    if not isinstance(subject, Training):
        raise UsageError(
            "rates are found by training: --objective has to make a gd.Training.",
            "For the experiment, functions and modules `basins` and `diagnose` give working_lr.",
        )
    names = ("optimizer", "momentum", "nesterov", "schedule", "steps", "factor", "goal", "seed",
             "seeds", "max_seconds")  # fmt: skip
    with session.progress("training") as bar:
        return rates(
            subject, params=param, lr=grid, progress=bar,
            checkpoint=session.open_folder().path / CHECKPOINT, announce=session.announce,
            **{name: settings[name] for name in names},
        ).view()  # fmt: skip


@_listed(_MEASURE, "", "--lr 0.1:5:400 --start 10deg")
@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def bifurcate_command(
    session: Session,
    optimizer: str = _OPTIMIZER,
    momentum: float = _MOMENTUM,
    lr: str = typed("1e-2:10:800", "LO:HI:POINTS", "Learning rates, log-spaced."),
    steps: int = steps_option(2000),
) -> Any:
    """Where the iterates end up, against the learning rate."""
    rates = named("--lr", parse_grid)(lr)
    from gabordiag.api import as_objective, bifurcate

    subject, keywords = subject_from(session)
    objective = as_objective(subject, **keywords)
    session.open_folder()
    with session.progress("following the attractor", objective) as bar:
        name = session.settings["optimizer"]
        return bifurcate(objective, name, momentum, rates, steps, progress=bar).view()


@_listed(
    _EXPLAIN,
    "--lr 3 --momentum 0.9",
    "--objective loss.py:f --range 0:2 --start 0.1 --lr 0.1",
)
@with_options(ExperimentOptions, StartsOption, OwnOptions, OutputOptions)
def diagnose_command(
    session: Session,
    optimizer: str = _OPTIMIZER,
    lr: list[Named] = _RATES,
    momentum: float = _MOMENTUM,
    nesterov: bool = _NESTEROV,
    schedule: str = _SCHEDULE,
    steps: int = steps_option(500),
    learn: list[str] = _LEARN,
    from_log: Path | None = typed(None, "FILE", "A logged run to diagnose instead of making one."),
    check: bool = Option(False, help="Exit with 1 when the verdict is unhealthy."),
    max_seconds: float | None = _MAX_SECONDS,
    resume: Path | None = _RESUME,
) -> None:
    """What is wrong, proved, and what fixes it, each remedy tried."""
    from gabordiag.api import as_objective_of, diagnose
    from gabordiag.dynamics.checkpoint import CHECKPOINT
    from gabordiag.dynamics.replay import log_columns
    from gabordiag.dynamics.run import trajectory_name
    from gabordiag.own.training import Training, find_watched

    settings = session.settings
    subject, keywords = subject_from(session)
    rates: Any
    if isinstance(subject, Training):
        rates = _training_rates(settings, keywords)
        watched = find_watched(subject.model, keywords.get("param", ()))
        labels = tuple(element.label for element in watched)
        objective = line = start = None
        more = {name: keywords[name] for name in ("param", "seed")}
        folder = session.open_folder()
        more["checkpoint"] = folder.path / CHECKPOINT
    elif resume is not None:
        raise UsageError(
            "only the diagnosis of a training can be resumed.",
            "Run this one again: gabordiag diagnose --config "
            + shlex.quote(str(resume / "config.toml")),
        )
    else:
        objective = as_objective_of(subject, learn, **keywords)
        labels, line, more = objective.space.names, getattr(objective, "line", None), {}
        names = labels if settings["objective"] is not None else learn
        starts, rates = _starts(settings, names), _rates(lr, names)
        if len(starts) > 1 or (isinstance(rates, list) and len(rates) > 1):
            raise UsageError("a diagnosis is of one run: one --start, and one --lr for each name.")
        start = objective.space.point(starts[0])
    listener: Any = None
    if from_log is None:
        columns = log_columns(labels)
        log = session.listener(0, columns)
        done = 0 if resume is None else len(folder.logged(trajectory_name(0), columns))
        # A training that goes on hands out the steps before it again.
        listener = (lambda step: step.step < done or log(step)) if done else log
    with session.progress("training" if objective is None else "diagnosing", line) as bar:
        result = diagnose(
            subject if objective is None else objective,
            settings["optimizer"], rates, momentum, steps, start,
            nesterov=nesterov, schedule=settings["schedule"], over=learn, from_log=from_log,
            listener=listener, progress=bar, max_seconds=max_seconds, announce=session.announce,
            **more,
        )  # fmt: skip
    session.finish(result.view())
    if check and not result.is_healthy:
        raise typer.Exit(1)


@_listed(
    _EXPLAIN, "--derivative my_gabor.py:d_theta", "--wrt sigma --derivative my_gabor.py:d_sigma"
)
@with_options(OutputOptions)
def check_command(
    session: Session,
    kernel: str | None = typed(None, "FILE.py:NAME", "A function that returns a kernel."),
    derivative: str | None = typed(None, "FILE.py:NAME", "A function that returns a derivative."),
    derivative_expr: str | None = typed(None, "TEXT", "A derivative as a formula."),
    wrt: str = choice("theta", ParameterName),
) -> Any:
    """Is a kernel or a derivative right, and if not, what is wrong?"""
    from gabordiag.api import check
    from gabordiag.own.loading import load_object

    if kernel is not None:
        session.settings.leave_out(["wrt"], "on a kernel")
    if sum(given is not None for given in (kernel, derivative, derivative_expr)) > 1:
        raise UsageError(
            "one thing can be checked at a time.",
            "Give one of --kernel, --derivative, --derivative-expr.",
        )
    return check(
        None if kernel is None else load_object(kernel),
        derivative_expr if derivative is None else load_object(derivative),
        session.settings.get("wrt", "theta"),
    ).view()


@_listed(_EXPLAIN, "log.csv --target 45deg --period pi", "log.csv.gz --no-plots")
@with_options(OutputOptions)
def explain_command(
    session: Session,
    log: Path = Argument(
        metavar="LOG",
        help="A log: CSV, JSON, JSON lines, .gz of these, -; TensorBoard's or MLflow's folder.",
    ),
    value_column: str | None = Option(None, help="Name of the parameter's column."),
    loss_column: str | None = Option(None, help="Name of the loss's column."),
    period: float | None = typed(None, "ANGLE", "The parameter's period.", parser=parse_angle),
    target: float | None = typed(None, "ANGLE", "The value to be reached.", parser=parse_angle),
) -> Any:
    """Diagnoses a logged run, without its objective."""
    from gabordiag.diagnosis.log.explain import explain

    return explain(
        log, target=target, period=period, value_column=value_column, loss_column=loss_column
    ).view()


@_listed(
    _MEASURE,
    "--images photos --sigma 2:8:7 --wavelength 4:20:5",
    "--images photos --psi 0,90deg --plan",
)
@with_options(InputOptions, StartOption, OutputOptions)
def atlas_command(
    session: Session,
    sigma: str = typed("2:8:7", "LO:HI:POINTS", "Envelope's deviations, pixels; or A,B,..."),
    gamma: str = typed("0.25:1:4", "LO:HI:POINTS", "Envelope's aspect ratios."),
    wavelength: str = typed("4:20:5", "LO:HI:POINTS", "Carrier wavelengths, pixels."),
    psi: str = typed("0", "ANGLE,...", "Carrier's phases: 0,90deg or in radians."),
    loss: str = typed("rmse,mse", "NAME,...", "Losses."),
    target_theta: float = ExperimentOptions.target_theta,
    kernel_size: int = ExperimentOptions.kernel_size,
    target_noise: float = ExperimentOptions.target_noise,
    starts: int = Option(16, help="Starts of every landscape, all around the target."),
    steps: int = steps_option(1500),
    ask: list[Named] = typed(
        [],
        "NAME=VALUE",
        "Of the filter whose place is sought: sigma, gamma, wavelength, psi; repeatable.",
        parser=parse_named,
    ),
    workers: int | None = Option(None, help="Processes [default: one for each core]."),
    scheduler: str | None = typed(None, "tcp://...", "A Dask cluster that runs elsewhere."),
    plan: bool = Option(False, help="Say how many landscapes, how long and how much disk; stop."),
    resume: Path | None = _RESUME,
) -> Any:
    """Which filters, on which images, can be learned at all.

    Every combination of images, losses and filters: its minima, what works
    from the start and from all around, as charts and as a Zarr store.
    """
    from gabordiag.api import DEFAULT_FILTER, atlas, plan_atlas
    from gabordiag.charting.store import NAME
    from gabordiag.results import View

    settings = session.settings
    settings.leave_out(("dtype", "device"), "on an atlas")
    if workers is not None and (workers < 1 or scheduler is not None):
        raise UsageError("--workers is 1 or more, without --scheduler.", "Give one of the two.")
    texts = {"sigma": sigma, "gamma": gamma, "wavelength": wavelength, "psi": psi}
    axes: dict[str, Any] = {n: named(option(n), parse_axis)(text) for n, text in texts.items()}
    plain, asked = split_named(ask)
    if (
        plain
        or not asked.keys() <= axes.keys()
        or any(isinstance(v, tuple) for v in asked.values())
    ):
        raise UsageError("--ask names one number of the filter.", "Write --ask sigma=4, say.")
    session.warn_of_degrees("--psi", *axes["psi"])
    experiment = experiment_from(session, loss="rmse", psi=0.0, **DEFAULT_FILTER)
    axes |= {"loss": tuple(loss.split(",")), "starts": starts, "steps": steps}
    if plan:
        made = plan_atlas(experiment, workers=workers, scheduler=scheduler, **axes)
        return session.show(View(vars(made)))
    folder = session.open_folder()
    with session.progress("charting") as bar:
        return atlas(
            experiment, **axes, ask=asked, out=folder.path / NAME, workers=workers,
            scheduler=scheduler, progress=bar, announce=session.announce,
        ).view()  # fmt: skip


@_listed(_LOOK, "--out page.html", "--image photo.jpg --loss mse")
@with_options(ExperimentOptions, StartOption, OwnOptions, PageOutputOptions)
def explore_command(
    session: Session,
    optimizer: str = choice("sgd", ("sgd", "adam", "rmsprop")),
    lr: float | None = Option(
        None, help="Learning rate to begin with [default: 3, or 0.01 with --objective]."
    ),
    momentum: float = Option(0.0, help="For sgd, to begin with."),
    nesterov: bool = _NESTEROV,
    steps: int = steps_option(1500),
) -> Any:
    """One interactive page: move start, rate, optimizer; see the run."""
    from gabordiag.explorer.page import make_page, require_bokeh, require_replaceable

    require_bokeh()
    settings = session.settings
    out = settings["out"]
    # A file, not a folder with such a name.
    page = out if out is not None and out.suffix == ".html" and not out.is_dir() else None
    require_replaceable(page)
    from gabordiag.api import explore
    from gabordiag.runs.folder import write_report

    if lr is None:
        lr = settings["lr"] = 3.0 if settings["objective"] is None else 0.01
    settings.leave_out(("dtype", "device"), "on the page")
    subject, keywords = subject_from(session)
    view = explore(
        subject, settings["optimizer"], lr, momentum, steps, nesterov=nesterov,
        subject=_title(settings), **keywords,
    ).view()  # fmt: skip
    if page is None:
        return view
    write_report(page.parent, {page.name: make_page(view)})
    return session.show(view, page)


def _title(settings: Settings) -> str:
    """What the page's title says is learned from."""
    if settings["objective"] is not None:
        return Path(settings["objective"]).name
    if settings["images"] is not None:
        return f"the images of {Path(settings['images']).name}"
    names = [Path(image).stem for image in settings["image"]]
    return f"the image{'s' * (len(names) > 1)} {', '.join(names)}"


@_listed(_LOOK, "runs/20260101-120000-sweep", "RUN --figure-format pdf --out paper")
def report_command(
    run: Path = Argument(
        metavar="RUN", help="A run folder, or its name in runs/.", autocompletion=saved_runs
    ),
    out: Path | None = Option(
        None, metavar="PATH", help=r"Folder to write into \[default: the run's own]."
    ),
    figure_format: list[str] = OutputOptions.figure_format,
    figure_size: str = OutputOptions.figure_size,
    figure_panel: str | None = OutputOptions.figure_panel,
    quiet: bool = Option(False, "--quiet", help="Print no text for people."),
    debug: bool = Option(False, "--debug", help="Show tracebacks."),
) -> None:
    """Figures and report again, from a saved run."""
    from rich.console import Console

    from gabordiag.explorer.page import page_files
    from gabordiag.presentation import report, unfinished
    from gabordiag.presentation.console import print_location, show_blocks
    from gabordiag.runs.folder import write_report
    from gabordiag.runs.saved import find_run, has_result, load_run, load_unfinished

    run = find_run(run)
    formats = named("--figure-format", parse_formats)(figure_format)
    if has_result(run):
        saved = load_run(run)
        check_panel(figure_panel, saved.document["command"])
        is_animated = bool(saved.document["config"].get("animate"))
        options = report.ReportOptions(
            formats, figure_size, is_animated, to_send=True, panel=figure_panel
        )
        with Bars(hidden=quiet or not sys.stderr.isatty()).shown("drawing") as bar:
            files, blocks = report.redo(saved, options, bar, page_files)
    else:
        partial = load_unfinished(run)
        files = unfinished.make_files(partial)
        blocks = unfinished.blocks(partial)
    target = write_report(run if out is None else out, files)
    console = Console(quiet=quiet, highlight=False)
    show_blocks(console, blocks)
    print_location(console, "Figures and report are in", target)


@_listed(_LOOK, "", "old/runs --json")
def runs_command(
    root: Path = Argument(Path("runs"), metavar="FOLDER", help="Folder that holds run folders."),
    json: bool = Option(False, "--json", help="Print one JSON object."),
    debug: bool = Option(False, "--debug", help="Show tracebacks."),
) -> None:
    """Lists run folders: when, command, verdict."""
    from rich.console import Console

    from gabordiag.presentation.console import runs_table
    from gabordiag.runs.formats import to_json
    from gabordiag.runs.saved import list_runs

    listed = list_runs(root)
    if json:
        print(to_json({"runs": listed}))
        return
    console = Console(highlight=False)
    console.print(runs_table(console, listed) if listed else f"No runs under {root}.")


def _starts(settings: Settings, learn: Sequence[str]) -> list[Any]:
    """Returns the starts that are asked for, as `Space.point` takes them; None for the own one.

    Of several parameters each start has values by name; a name that is repeated gives several
    starts, in order. A value without a name is theta's.
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
    """Returns the learning rates, or those of several parameters by name."""
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


def _training_rates(settings: Settings, keywords: Mapping[str, Any]) -> dict[str, float]:
    """Returns the learning rates of a training by name."""
    stray = sorted(set(keywords) - {"param", "seed"})
    if settings.get("from_log") is not None:
        stray.append("from_log")
    if stray:
        raise UsageError(
            f"{option(stray[0])} has no effect on a training.",
            "The model's own values are the start; its batches and its loss are in it.",
        )
    plain, rates = split_named(settings["lr"])
    if len(plain) > 1:
        raise UsageError("a training has one learning rate without a name.", "Name the others.")
    return rates | ({"others": plain[0]} if plain else {})
