"""The settings of one call: the one form between the parser, the commands and config.toml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from gabordiag.cli.values import Named, write_point
from gabordiag.errors import UsageError

# Where results go and how they are shown: a repetition does not depend on these.
_NOT_RECORDED = frozenset(
    {
        "out",
        "json",
        "quiet",
        "no_plots",
        "figure_format",
        "figure_size",
        "figure_panel",
        "config",
        "debug",
        "resume",
    }
)
_FILES = ("image", "images", "input", "target_output", "from_log")
# Recorded as a list only if there are several.
_USUALLY_ONE = ("image", "input", "param", "range")


def option(name: str) -> str:
    """Returns an option as the user types it."""
    return f"--{name.replace('_', '-')}"


class Settings(dict[str, Any]):
    """A call's options by name, in the order in which they are declared.

    `typed` names the options on the command line, `given` also those that --config gives, `chosen`
    the latter without those that --config gives as their defaults: it gives all.
    """

    def __init__(self, ctx: typer.Context, values: Mapping[str, Any]) -> None:
        declared = {str(p.name): p for p in ctx.command.params if p.name in ctx.params}
        # Not ctx.params: where typer builds on click, its paths are still text.
        super().__init__({name: values[name] for name in declared})
        self.command = str(ctx.info_name)
        sources = {name: getattr(ctx.get_parameter_source(name), "name", "") for name in declared}
        self.typed = {name for name, source in sources.items() if source == "COMMANDLINE"}
        configured = {name for name, source in sources.items() if source == "DEFAULT_MAP"}
        self.given = self.typed | configured
        defaults = {name: declared[name].default for name in configured}
        self.chosen = self.typed | {n for n in configured if self[n] != defaults[n]}

    def if_given(self, name: str) -> Any:
        """Returns a setting; None if it was not given, and then config.toml does not hold it."""
        if name not in self.given:
            self.pop(name, None)
        return self.get(name)

    def leave_out(self, names: Iterable[str], where: str) -> None:
        """Leaves out settings that have no effect `where`, such as "beside --objective".

        Chosen ones are refused; names that the command does not have are ignored.
        """
        names = [name for name in names if name in self]
        stray = [option(name) for name in names if name in self.chosen]
        if stray:
            has, them = ("has", "it") if len(stray) == 1 else ("have", "them")
            raise UsageError(f"{', '.join(stray)} {has} no effect {where}.", f"Leave {them} out.")
        for name in names:
            del self[name]

    def recorded(self) -> dict[str, Any]:
        """Returns what config.toml holds: texts, numbers, bools and lists of these."""
        plain = {n: _plain(value) for n, value in self.items() if n not in _NOT_RECORDED}
        for name in _FILES:
            # The configuration must work from any folder.
            if isinstance(value := plain.get(name), list):
                plain[name] = [_resolved(path) for path in value]
            elif value is not None:
                plain[name] = _resolved(value)
        for name in _USUALLY_ONE:
            if isinstance(value := plain.get(name), list):
                plain[name] = value[0] if len(value) == 1 else value or None
        return plain


def _resolved(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path


def _plain(value: Any) -> Any:
    if isinstance(value, Named):
        return str(value) if value.name else value.value
    if isinstance(value, tuple):
        return write_point(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)
