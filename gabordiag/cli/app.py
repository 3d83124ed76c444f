"""The app: which commands there are. Their bodies import what they need when they run."""

from __future__ import annotations

from typing import Annotated

import typer

from gabordiag._version import __version__
from gabordiag.cli import commands
from gabordiag.cli.options import expand_options

app = typer.Typer(
    name="gabordiag",
    no_args_is_help=True,
    rich_markup_mode=None,
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
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


for _function in commands.ALL:
    app.command(_function.__name__.removesuffix("_command"))(expand_options(_function))
