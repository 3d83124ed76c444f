"""The app: which commands there are. Their bodies import what they need when they run."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import redirect_stdout
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand

from gabordiag._version import __version__
from gabordiag.cli import commands
from gabordiag.errors import UsageError

app = typer.Typer(
    name="gabordiag",
    invoke_without_command=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Why does my learned Gabor angle jump back? Measures the loss landscape, runs the "
    "optimizer, names the cause, tries the remedies.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class _Command(TyperCommand):
    """A command whose options with one value are given once; click takes the last silently."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(order).items():
            if count > 1 and not (getattr(option, "is_flag", True) or option.multiple):
                raise UsageError(f"{option.opts[-1]} is given {count} times.", "Give it once.")
        return super().parse_args(ctx, args)


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


for _listed in commands.ALL:
    _name = _listed.function.__name__.removesuffix("_command")
    _calls = [escape(f"  gabordiag {_name} {words}".rstrip()) for words in _listed.examples]
    app.command(
        _name, cls=_Command, rich_help_panel=_listed.panel, epilog="\n".join(["Examples:", *_calls])
    )(_listed.function)
