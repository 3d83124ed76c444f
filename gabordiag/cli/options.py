"""The options that several commands share, each defined once, in groups.

A command names its groups with `with_options`, and reads what they are from its session's settings.
Defaults and meanings are those of the interface; nothing here imports torch.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from gabordiag.cli.session import Session
from gabordiag.cli.settings import Settings
from gabordiag.cli.values import Named, named, one_of, parse_angle, parse_named, parse_point
from gabordiag.objective.losses import LOSSES
from gabordiag.presentation.figures.sheets import SHEETS

_METAVARS = {str: "NAME", float: "NUMBER", int: "INTEGER", Path: "PATH"}


def _apply_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Makes a run's settings the defaults of this call."""
    if path is None or ctx.resilient_parsing:
        return path
    from gabordiag.errors import UsageError
    from gabordiag.runs import read_config

    settings = read_config(path)
    command = settings.pop("command", ctx.info_name)
    if command != ctx.info_name:
        raise UsageError(
            f"{path} holds the settings of `{command}`.", f"Use it with `gabordiag {command}`."
        )
    known = {str(parameter.name): parameter for parameter in ctx.command.params}
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UsageError(f"{path} has unknown settings: {', '.join(unknown)}.", "Remove them.")
    for name, value in settings.items():
        if getattr(known[name], "multiple", False) and not isinstance(value, list):
            settings[name] = [value]
    ctx.default_map = {**(ctx.default_map or {}), **settings}
    return path


FigureFormat = Annotated[list[str], typer.Option(help="png, svg or png,svg; repeatable.")]
FigureSize = Annotated[str, typer.Option(help=f"What figures are for: {one_of(SHEETS)}")]


def apply_resume(ctx: typer.Context, path: Path | None) -> Path | None:
    """Makes the settings of an interrupted run those of this call; none may be given beside it."""
    if path is None or ctx.resilient_parsing:
        return path
    from gabordiag.runs.saved import CONFIG, find_run, require_interrupted

    path = find_run(path)
    require_interrupted(path)
    _apply_config(ctx, path / CONFIG)
    return path


class OutputOptions:
    """Where results go."""

    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the results [default: a new one under runs/]."),
    ] = None
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no text for people.")] = False
    no_plots: Annotated[bool, typer.Option("--no-plots", help="Draw no figures.")] = False
    figure_format: FigureFormat = ["png"]  # noqa: RUF012 typer copies it
    figure_size: FigureSize = "screen"
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="Take settings from a run's config.toml; options given here win.",
            is_eager=True,
            callback=_apply_config,
        ),
    ] = None
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False


class PageOutputOptions(OutputOptions):
    """Where a page goes: a file or a folder."""

    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The page, if the name ends in .html, else a folder for page and data "
            "[default: a new one under runs/].",
        ),
    ] = None


class InputOptions:
    """The image, and how it is computed with."""

    image: Annotated[
        list[str],
        typer.Option(
            metavar="PATH",
            help="An image or .npy file, or a built-in: hopper, noise, pink; given several times, "
            "the mean over them.",
        ),
    ] = ["hopper"]  # noqa: RUF012
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A folder of images instead; the loss is the mean over all."
        ),
    ] = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse images of which some cannot be used, instead of skipping those.",
        ),
    ] = False
    pixel_scale: Annotated[
        float, typer.Option(help="Multiplies the image; 255 imitates 8-bit input.")
    ] = 1.0
    normalize: Annotated[str, typer.Option(help="none, center, standardize or whiten.")] = "none"
    padding: Annotated[str, typer.Option(help="valid, same (zeros) or circular.")] = "valid"
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64"
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu"
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0


class ExperimentOptions(InputOptions):
    """The question's experiment."""

    target_theta: Annotated[
        float,
        typer.Option(
            "--target-theta",
            "--target",
            parser=named("--target", parse_point),
            metavar="ANGLE[,ANGLE...]",
            help="Orientation (or the custom parameter's value) that makes the target; a bare "
            "number is in radians.",
            show_default="pi/4",
        ),
    ] = math.pi / 4
    wavelength: Annotated[float, typer.Option(help="Carrier wavelength, pixels.")] = 10.0
    sigma: Annotated[float, typer.Option(help="Envelope's deviation, pixels.")] = 4.0
    psi: Annotated[
        float,
        typer.Option(
            parser=named("--psi", parse_angle),
            metavar="ANGLE",
            help="Carrier's phase; a bare number is in radians.",
            show_default="0",
        ),
    ] = 0.0
    gamma: Annotated[float, typer.Option(help="Envelope's aspect ratio.")] = 0.5
    kernel_size: Annotated[int, typer.Option(help="Side of the kernel, odd, pixels.")] = 31
    loss: Annotated[str, typer.Option(help=one_of(LOSSES))] = "rmse"
    target_noise: Annotated[
        float, typer.Option(help="Deviation of noise added to the target response.")
    ] = 0.0


class StartOption:
    """One start."""

    theta0: Annotated[
        float,
        typer.Option(
            "--theta0",
            "--start",
            parser=named("--start", parse_point),
            metavar="ANGLE",
            help="Where the optimizer starts; a bare number is in radians.",
            show_default="-pi/4",
        ),
    ] = -math.pi / 4


class StartsOption:
    """Several starts, or one of several parameters."""

    start: Annotated[
        list[Named],
        typer.Option(
            "--theta0",
            "--start",
            parser=named("--start", parse_named),
            metavar="[NAME=]ANGLE",
            help="Where the optimizer starts; repeatable. A bare number is in radians.",
            show_default="-pi/4",
        ),
    ] = [Named(-math.pi / 4)]  # noqa: RUF012


class OwnOptions:
    """A custom objective instead of the experiment."""

    objective: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME",
            help="A loss function, a module or its factory; also package.module:NAME.",
        ),
    ] = None
    param: Annotated[
        list[str],
        typer.Option(
            help="The module's parameter, as layers.0.theta[1,0], or all of a tensor; repeatable."
        ),
    ] = []  # noqa: RUF012
    input: Annotated[
        list[str],
        typer.Option(
            metavar="PATH",
            help="The module's input: a .npy file or an image; repeatable, the inputs in order.",
        ),
    ] = []  # noqa: RUF012
    target_output: Annotated[
        str | None, typer.Option(metavar="PATH", help="The module's target output, a .npy file.")
    ] = None
    range: Annotated[
        list[str],
        typer.Option(
            metavar="LO:HI",
            help="Values of the parameter; of several, once for all or once for each.",
        ),
    ] = []  # noqa: RUF012
    period: Annotated[
        float | None,
        typer.Option(
            parser=named("--period", parse_angle),
            metavar="ANGLE",
            help="The loss's period in the parameter.",
        ),
    ] = None


def with_options(*groups: type) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Makes typer see a command's own options and those of the groups, and runs it in a `Session`.

    The command is called with the session and its own options; the view that it returns is the
    result. Order in the help: the command's own options, then the groups' in the order given.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., None]:
        hints = get_type_hints(function, include_extras=True)
        _, *own = inspect.signature(function).parameters.values()
        declared = [(p.name, hints[p.name], p.default) for p in own]
        for group in groups:
            shared = get_type_hints(group, include_extras=True)
            declared += [(name, hint, getattr(group, name)) for name, hint in shared.items()]

        @functools.wraps(function)
        def command(ctx: typer.Context, **values: Any) -> None:
            with Session(Settings(ctx, values)) as session:
                view = function(session, **{p.name: values[p.name] for p in own})
                if view is not None:
                    session.finish(view)

        kind = inspect.Parameter.KEYWORD_ONLY
        shown = [
            inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_ONLY, annotation=typer.Context)
        ] + [
            inspect.Parameter(name, kind, default=default, annotation=_with_metavar(hint))
            for name, hint, default in declared
        ]
        command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in shown}
        return command

    return decorate


def _with_metavar(annotation: Any) -> Any:
    """Makes the help say NUMBER instead of Python's name of the type, where nothing better is."""
    base, *infos = get_args(annotation) if get_origin(annotation) is Annotated else (annotation)
    kinds = {kind for kind in (*get_args(base), base) if kind in _METAVARS}
    for info in infos:
        if kinds and isinstance(info, OptionInfo) and info.metavar is None:
            info.metavar = _METAVARS[kinds.pop()]
    return annotation
