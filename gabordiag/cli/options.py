"""The options that several commands share, each defined once, in groups.

A command names its groups with `with_options`, and reads what they are from its session's settings.
Defaults and meanings are those of the interface; nothing here imports torch.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from rich.markup import escape
from typer import Option
from typer.models import OptionInfo

from gabordiag.choices import DeviceName, DtypeName, ImageName, LossName, Normalization, Padding
from gabordiag.cli.session import Session, Settings, option
from gabordiag.cli.values import (
    FORMATS,
    Named,
    named,
    one_of,
    parse_angle,
    parse_choice,
    parse_named,
    parse_point,
    parse_steps,
)
from gabordiag.presentation.figures.sheets import PANELS, SHEETS

_METAVARS = {str: "NAME", float: "NUMBER", int: "INTEGER", Path: "PATH"}


def completed(names: Any) -> Callable[[], list[str]]:
    """Returns what a shell offers for an option: these names, a `Literal`'s, or a function's."""
    return names if inspect.isfunction(names) else lambda: list(get_args(names) or names)


def saved_runs() -> list[str]:
    """Returns the names of the folders in runs/, as a shell offers them."""
    return [path.name for path in sorted(Path("runs").glob("*/"))]


def panels(ctx: typer.Context) -> list[str]:
    """Returns the names of the panels of a command's figures, the first of those with a number."""
    # A report may be of any command.
    command = "reproduce" if ctx.info_name == "report" else str(ctx.info_name)
    names = PANELS.get(command, ())
    return [name.replace("-N", "-0") for name in names]


def choice(default: Any, names: Any, text: str = "") -> Any:
    """Returns an option that takes one of these names, or of those of a `Literal`.

    It is refused before anything is imported. The help lists the names unless it is a text.
    """
    offered = completed(names)()
    parser = parse_choice(offered)
    return typed(default, "NAME", text or one_of(offered), offered=offered, parser=parser)


def typed(
    default: Any, metavar: str, text: str, *names: str, offered: Any = None, **more: Any
) -> Any:
    """Returns an option whose value the help calls so; a shell offers what `completed` takes."""
    shown = None if offered is None else completed(offered)
    return Option(default, *names, metavar=metavar, help=text, autocompletion=shown, **more)


def steps_option(default: int) -> Any:
    """Returns the option of the optimizer's steps."""
    return Option(default, parser=parse_steps, metavar="INTEGER", help="Optimizer steps, from 1.")


def _apply_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Makes a run's settings the defaults of this call."""
    if path is None or ctx.resilient_parsing:
        return path
    from gabordiag.errors import UsageError
    from gabordiag.runs.formats import read_config

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

    panel = "Output"

    out: Path | None = Option(None, help="Folder for the results [default: a new one under runs/].")
    json: bool = Option(False, help="Print one JSON object on stdout.")
    quiet: bool = Option(False, help="Print no text for people.")
    no_plots: bool = Option(False, help="Draw no figures.")
    figure_format: list[str] = typed(
        ["png"], "NAME", "png, svg, pdf or several, as png,pdf; repeatable.", offered=FORMATS
    )
    figure_size: str = choice("screen", SHEETS, f"What figures are for: {one_of(SHEETS)}")
    figure_panel: str | None = typed(
        None, "NAME", "Draw one panel of a figure alone, such as loss or map; a wrong name lists "
        "all.", "--panel", offered=panels,
    )  # fmt: skip
    config: Path | None = Option(
        None,
        help="Take settings from a run's config.toml; options given here win.",
        is_eager=True,
        callback=_apply_config,
    )
    debug: bool = Option(False, help="Show tracebacks.")


class PageOutputOptions(OutputOptions):
    """Where a page goes: a file or a folder."""

    out: Path | None = Option(
        None,
        help="The page, if the name ends in .html, else a folder for page and data "
        "[default: a new one under runs/].",
    )


class InputOptions:
    """The image, and how it is computed with."""

    panel = "Image and precision"

    image: list[str] = Option(
        ["hopper"],
        metavar="PATH",
        autocompletion=completed(ImageName),
        help="An image or .npy file, or a built-in: hopper, noise, pink; given several times, "
        "the mean over them (of an atlas, each alone).",
    )
    images: Path | None = typed(None, "DIR", "A folder of images instead of several --image.")
    strict: bool = Option(
        False, help="Refuse images of which some cannot be used, instead of skipping those."
    )
    pixel_scale: float = Option(1.0, help="Multiplies the image; 255 imitates 8-bit input.")
    normalize: str = choice("none", Normalization)
    padding: str = choice("valid", Padding, "valid, same (zeros) or circular.")
    dtype: str = choice("float64", DtypeName)
    device: str = choice("cpu", DeviceName)
    seed: int = Option(0, help="Of everything random.")


class ExperimentOptions(InputOptions):
    """The question's experiment."""

    panel = "Filter, target and loss"

    target_theta: float = typed(
        math.pi / 4, "ANGLE,...", "Orientation (or the custom parameter's value) that makes the "
        "target: 45deg, pi/4 or in radians.", "--target-theta", "--target", parser=parse_point,
        show_default="45deg",
    )  # fmt: skip
    wavelength: float = Option(10.0, help="Carrier wavelength, pixels.")
    sigma: float = Option(4.0, help="Envelope's deviation, pixels.")
    psi: float = typed(
        0.0, "ANGLE", "Carrier's phase: 90deg, pi/2 or in radians.", parser=parse_angle,
        show_default="0",
    )  # fmt: skip
    gamma: float = Option(0.5, help="Envelope's aspect ratio, no unit.")
    kernel_size: int = Option(31, help="Side of the kernel, odd, pixels.")
    loss: str = choice("rmse", LossName)
    target_noise: float = Option(0.0, help="Deviation of noise added to the target response.")


def start_option(default: Any, metavar: str, parser: Callable[..., Any], more: str = "") -> Any:
    """Returns the option of one start or of several."""
    text = f"Where the optimizer starts: -45deg, -pi/4 or in radians{more}."
    names = "--theta0", "--start"
    return typed(default, metavar, text, *names, parser=parser, show_default="-45deg")


class StartOption:
    """One start."""

    panel = ExperimentOptions.panel

    theta0: float = start_option(-math.pi / 4, "ANGLE", parse_point)


class StartsOption:
    """Several starts, or one of several parameters."""

    panel = ExperimentOptions.panel

    start: list[Named] = start_option(
        [Named(-math.pi / 4)], "[NAME=]ANGLE", parse_named, "; repeatable"
    )


class OwnOptions:
    """A custom objective instead of the experiment."""

    panel = "A custom objective instead"

    objective: str | None = typed(
        None, "FILE.py:NAME", "A loss function, a module or its factory; also package.module:NAME."
    )
    param: list[str] = Option(
        [], help="The module's parameter, as layers.0.theta[1,0], or all of a tensor; repeatable."
    )
    input: list[str] = typed(
        [], "PATH", "The module's input: a .npy file or an image; repeatable, the inputs in order."
    )
    target_output: str | None = typed(None, "PATH", "The module's target output, a .npy file.")
    range: list[str] = typed(
        [], "LO:HI", "Values of the parameter; of several, once for all or once for each."
    )
    period: float | None = typed(
        None, "ANGLE", "The loss's period in the parameter.", parser=parse_angle
    )


# Most commands share the groups.
_hints = functools.cache(get_type_hints)


def with_options(*groups: type) -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Makes typer see a command's own options and those of the groups, and runs it in a `Session`.

    The command is called with the session and its own options; the view that it returns is the
    result. Order in the help: the command's own options, then the groups' in the order given.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., None]:
        _, *own = inspect.signature(function).parameters.values()
        hints = get_type_hints(function)
        declared = [_declared(p.name, hints[p.name], p.default) for p in own]
        for group in groups:
            for name, hint in _hints(group).items():
                home: Any = next(base for base in group.__mro__ if name in vars(base))
                declared.append(_declared(name, hint, getattr(group, name), home.panel))

        @functools.wraps(function)
        def command(ctx: typer.Context, **values: Any) -> None:
            with Session(Settings(ctx, values)) as session:
                view = function(session, **{p.name: values[p.name] for p in own})
                if view is not None:
                    session.finish(view)

        ctx = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_ONLY, annotation=typer.Context)
        command.__signature__ = inspect.Signature([ctx, *declared])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (ctx, *declared)}
        return command

    return decorate


def without_values(params: Any) -> Any:
    """Returns click's parameters; flags, also click's own, show no value in the help."""
    for param in params:
        if getattr(param, "is_flag", False):
            param.metavar = " "
    return params


def _declared(name: str, kind: Any, info: Any, panel: str | None = None) -> inspect.Parameter:
    """Returns the parameter that typer sees, with what follows from its name and type.

    A flag has no opposite, errors name the option, and the help says NUMBER instead of Python's
    name of the type.
    """
    if isinstance(info, OptionInfo):
        info = copy.copy(info)
        info.param_decls = info.param_decls or (option(name),)
        if info.parser is not None:
            info.parser = named(info.param_decls[-1], info.parser)
        kinds = [_METAVARS[base] for base in (*get_args(kind), kind) if base in _METAVARS]
        info.metavar = info.metavar or next(iter(kinds), None)
        info.rich_help_panel = panel
        words = info.help or ""
        if isinstance(info.show_default, str):
            # typer would put it in parentheses as well.
            words += f" [default: {info.show_default}]"
            info.show_default = False
        # What stands in brackets is text, not a style.
        info.help = escape(words)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=info, annotation=kind)
