"""The commands: each parses, calls, and returns the view of its result.

Those that run optimizers are in `learning.py`; `ALL` lists every one, in the order of the help. Its
name is the function's, less `_command`; what its result says and which figures it has is
one row of `KINDS` (`presentation/registry.py`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from typer import Argument, Option

from gabordiag.cli.bars import Bars
from gabordiag.cli.learning import (
    ANIMATE,
    NESTEROV,
    basins_command,
    bifurcate_command,
    diagnose_command,
    optimize_command,
)
from gabordiag.cli.options import (
    ExperimentOptions,
    InputOptions,
    OutputOptions,
    OwnOptions,
    PageOutputOptions,
    StartOption,
    with_options,
)
from gabordiag.cli.session import Session, experiment_from, subject_from
from gabordiag.cli.settings import Settings
from gabordiag.cli.values import named, parse_angle, parse_formats, parse_over, parse_size
from gabordiag.errors import UsageError


@with_options(InputOptions, OutputOptions)
def reproduce_command(session: Session, animate: bool = ANIMATE) -> Any:
    """The question's failure, explained, for two filters."""
    from gabordiag.diagnosis.reproduction import kernel_tables, reproduce
    from gabordiag.dynamics.replay import log_columns

    experiment = experiment_from(session)
    folder = session.open_folder()
    columns = log_columns(["theta"])
    with session.progress("reproducing") as bar:
        result = reproduce(experiment, log=lambda name: folder.log(name, columns), progress=bar)
    return result.view().with_data(kernel_tables(experiment) if animate else {})


@with_options(ExperimentOptions, StartOption, OwnOptions, OutputOptions)
def sweep_command(
    session: Session,
    over: list[str] = Option(
        ["theta"],
        metavar="NAME[:LO:HI[:POINTS]]",
        help="The parameter that varies; given twice, a surface over two.",
    ),
) -> Any:
    """Loss, gradients, and every critical point with a proof.

    Given --over twice: the surface over two parameters, with the minima found.
    """
    from gabordiag.api import as_objective, as_plane
    from gabordiag.landscape.surface import sweep_surface
    from gabordiag.landscape.sweep import sweep_objective

    swept = [named("--over", parse_over)(text) for text in over]
    if len(swept) > 2:
        raise UsageError(
            f"{len(swept)} parameters cannot be swept at once.", "Give --over once or twice."
        )
    subject, keywords = subject_from(session)
    if session.settings["objective"] is None:
        for name, low, high, _ in swept:
            if name in ("theta", "psi"):
                session.warn_of_degrees("--over", low, high)
    if len(swept) == 2:
        one, other = swept
        plane = as_plane(subject, [one.name, other.name], **keywords)
        counts, ranges = (one.points, other.points), (one[1:3], other[1:3])
        session.open_folder()
        with session.progress("sweeping") as bar:
            return sweep_surface(plane, counts, ranges, progress=bar).view()
    ((name, low, high, points),) = swept
    objective = as_objective(subject, name, **keywords)
    # Refused before there is a folder.
    objective.parameter.grid(low, high)
    session.open_folder()
    with session.progress("sweeping", objective):
        return sweep_objective(objective, points, low, high, survey=True).view()


@with_options(OutputOptions)
def check_command(
    session: Session,
    kernel: str | None = Option(
        None, metavar="FILE.py:NAME", help="A function that returns a kernel."
    ),
    derivative: str | None = Option(
        None, metavar="FILE.py:NAME", help="A function that returns a derivative."
    ),
    derivative_expr: str | None = Option(None, metavar="TEXT", help="A derivative as a formula."),
    wrt: str = Option("theta", help="theta, wavelength, sigma, psi or gamma."),
) -> Any:
    """Is a kernel or a derivative right, and if not, what is wrong?"""
    from gabordiag.api import check
    from gabordiag.own.loading import load_object

    if sum(given is not None for given in (kernel, derivative, derivative_expr)) > 1:
        raise UsageError(
            "one thing can be checked at a time.",
            "Give one of --kernel, --derivative, --derivative-expr.",
        )
    return check(
        None if kernel is None else load_object(kernel),
        derivative_expr if derivative is None else load_object(derivative),
        wrt,
    ).view()


@with_options(OutputOptions)
def explain_command(
    session: Session,
    log: Path = Argument(
        help="A log: CSV, JSON, JSON lines, .gz of these, -, or TensorBoard's events."
    ),
    value_column: str | None = Option(None, help="Name of the parameter's column."),
    loss_column: str | None = Option(None, help="Name of the loss's column."),
    period: float | None = Option(
        None, parser=parse_angle, metavar="ANGLE", help="The parameter's period."
    ),
    target: float | None = Option(
        None, parser=parse_angle, metavar="ANGLE", help="The value to be reached."
    ),
) -> Any:
    """Diagnoses a logged run, without its objective."""
    from gabordiag.diagnosis.log.explain import explain_log

    return explain_log(
        log, target=target, period=period, value_column=value_column, loss_column=loss_column
    ).view()


@with_options(ExperimentOptions, StartOption, OwnOptions, PageOutputOptions)
def explore_command(
    session: Session,
    optimizer: str = Option("sgd", help="sgd, adam or rmsprop, to begin with."),
    lr: float | None = Option(
        None, help="Learning rate to begin with [default: 3, or 0.01 with --objective]."
    ),
    momentum: float = Option(0.0, help="For sgd, to begin with."),
    nesterov: bool = NESTEROV,
    steps: int = Option(1500, help="Optimizer steps, to begin with."),
) -> None:
    """One interactive page: move start, rate, optimizer; see the run."""
    from gabordiag.explorer.page import make_page, require_bokeh, require_replaceable

    require_bokeh()
    settings = session.settings
    out = settings["out"]
    # A file, not a folder with such a name.
    page = out if out is not None and out.suffix == ".html" and not out.is_dir() else None
    require_replaceable(page)
    from gabordiag.api import explore

    if lr is None:
        lr = settings["lr"] = 3.0 if settings["objective"] is None else 0.01
    subject, keywords = subject_from(session)
    result = explore(
        subject, optimizer, lr, momentum, steps, nesterov=nesterov,
        subject=_title(settings), **keywords,
    )  # fmt: skip
    view = result.view()
    if page is not None:
        session.finish_file(page, make_page(view), view)
    else:
        session.finish(view, {"page.html": make_page(view)})


def _title(settings: Settings) -> str:
    """What the page's title says is learned from."""
    if settings["objective"] is not None:
        return Path(settings["objective"]).name
    if settings["images"] is not None:
        return f"the images of {Path(settings['images']).name}"
    return ", ".join(Path(image).stem for image in settings["image"])


def report_command(
    run: Path = Argument(help="A run folder, or its name in runs/."),
    out: Path | None = Option(None, help="Folder to write into [default: the run's own]."),
    figure_format: list[str] = OutputOptions.figure_format,
    figure_size: str = OutputOptions.figure_size,
    quiet: bool = Option(False, "--quiet", help="Print no text for people."),
    debug: bool = Option(False, "--debug", help="Show tracebacks."),
) -> None:
    """Figures and report again, from a saved run."""
    from rich.console import Console

    from gabordiag.explorer.page import page_files
    from gabordiag.presentation import report, unfinished
    from gabordiag.presentation.console import print_location, show_blocks
    from gabordiag.runs import find_run, has_result, load_run, load_unfinished, write_report

    run = find_run(run)
    formats, size = parse_formats(figure_format), parse_size(figure_size)
    if has_result(run):
        saved = load_run(run)
        is_animated = bool(saved.document["config"].get("animate"))
        options = report.ReportOptions(formats, size, is_animated, to_send=True)
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


def runs_command(
    root: Path = Argument(Path("runs"), help="Folder that holds run folders."),
    json: bool = Option(False, "--json", help="Print one JSON object."),
    debug: bool = Option(False, "--debug", help="Show tracebacks."),
) -> None:
    """Lists run folders: when, command, verdict."""
    from rich.console import Console

    from gabordiag.presentation.console import runs_table
    from gabordiag.runs import list_runs, to_json

    listed = list_runs(root)
    if json:
        print(to_json({"runs": listed}))
        return
    console = Console(highlight=False)
    console.print(runs_table(console, listed) if listed else f"No runs under {root}.")


ALL = (
    reproduce_command,
    sweep_command,
    optimize_command,
    basins_command,
    bifurcate_command,
    diagnose_command,
    check_command,
    explain_command,
    explore_command,
    report_command,
    runs_command,
)
