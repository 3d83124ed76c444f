"""What every computing command does around its computation: folder, progress, output, exit.

A command opens a `Session` with its options, asks it for the folder when its inputs are checked,
and hands it the result. However the command ends, the folder says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from gabordiag.cli.bars import Bars
from gabordiag.cli.options import OUTPUT_NAMES, ExperimentOptions, OutputOptions, OwnOptions
from gabordiag.cli.values import parse_formats, parse_size
from gabordiag.errors import UsageError

if TYPE_CHECKING:
    from gabordiag.results import View
    from gabordiag.runs import RunFolder


# Options whose defaults are the experiment's: of one's own objective they count only if given.
_IF_GIVEN = ("target_theta", "theta0", "start")


class Session:
    """One command's run: opens the folder, shows progress, writes and prints the result.

    Args:
        ctx: typer's context, for the settings.
        output: The output options.
    """

    def __init__(self, ctx: typer.Context, output: OutputOptions) -> None:
        self.command = str(ctx.info_name)
        self.output = output
        # Refused before anything is computed.
        self._formats, self._size = (
            parse_formats(output.figure_format),
            parse_size(output.figure_size),
        )
        # In the order in which the options are declared, not in which they were given.
        declared = [str(p.name) for p in ctx.command.params if p.name in ctx.params]
        if ctx.params.get("objective") is not None:
            declared = [n for n in declared if n not in _IF_GIVEN or _was_given(ctx, n)]
        self.settings = _settings({name: ctx.params[name] for name in declared})
        # With --json stdout carries the object alone, text for people goes to stderr.
        self.console = Console(stderr=output.json, quiet=output.quiet, highlight=False)
        self.bars = Bars(hidden=output.quiet or not sys.stderr.isatty())
        # Whoever makes the experiment finds where to report the reading of its images.
        ctx.obj = self
        self._started = time.perf_counter()
        self._folder: RunFolder | None = None
        self._finished = False
        self._stdout = ExitStack()
        # Only `optimize` has the option.
        self._resume: Path | None = ctx.params.get("resume")

    def __enter__(self) -> Session:
        if self.output.json:
            # What a user's objective prints must not come between the JSON and its reader.
            self._stdout.enter_context(redirect_stdout(sys.stderr))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bars.close()
        self._stdout.close()
        folder = self._folder
        if folder is None:
            return
        if error is None or self._finished:
            folder.release()
            return
        folder.abandon("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")

    @property
    def folder(self) -> RunFolder:
        """The run's folder; made when first asked for, which is after the inputs were checked."""
        if self._folder is None:
            from gabordiag.runs import RunFolder

            if self._resume is not None:
                self._folder = RunFolder.resume(self._resume, self.command)
            else:
                self._folder = RunFolder.create(self.output.out, self.command, self.settings)
        return self._folder

    @contextmanager
    def progress(self, text: str, objective: Any = None) -> Iterator[Callable[[int, int], None]]:
        """Shows a bar on a terminal's stderr; yields a function of (done, total).

        Args:
            text: What is done, for people.
            objective: A user's own gets a second bar for evaluations that go one by one.
        """
        is_own = hasattr(objective, "progress")
        if is_own:
            objective.progress = partial(self.bars.tell_images, "evaluating your objective")
        try:
            with self.bars.shown(text) as bar:
                yield bar
        finally:
            if is_own:
                objective.progress = None

    def finish(self, view: View) -> None:
        """Writes data, figures, report and result.json; prints the JSON or the text for people."""
        from gabordiag.presentation import report
        from gabordiag.runs import document, to_json

        folder = self.folder
        folder.save_data(view.data)
        formats = () if self.output.no_plots else self._formats
        wish = report.Wish(formats, self._size, bool(self.settings.get("animate")))
        with self.progress("drawing") as bar:
            files = report.make_files(self.command, view, self.settings, wish, bar)
        for name, made in files.items():
            folder.write(name, made)
        seconds = time.perf_counter() - self._started
        names = [*folder.files(), "result.json"]
        content = document(self.command, self.settings, seconds, names, view.result)
        folder.finish(content)
        self._finished = True
        if self.output.json:
            self._stdout.close()
            print(to_json(content, plain=not _is_unicode(sys.stdout.encoding)))
        if not self.output.quiet:
            self._show(view, folder.path)

    def finish_file(self, path: Path, content: str, view: View) -> None:
        """Writes one file instead of a folder; prints the JSON or the text for people."""
        from gabordiag.errors import OutputError
        from gabordiag.runs import document, to_json, write_atomically

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"Cannot write to {path.parent}: {error.strerror}.",
                "Give another place with --out.",
            ) from None
        write_atomically(path, content)
        seconds = time.perf_counter() - self._started
        shown = document(self.command, self.settings, seconds, [path.name], view.result)
        if self.output.json:
            self._stdout.close()
            print(to_json(shown, plain=not _is_unicode(sys.stdout.encoding)))
        if not self.output.quiet:
            self._show(view, path)

    def _show(self, view: View, path: Path) -> None:
        from gabordiag.presentation.console import say_where, show

        show(self.console, self.command, view)
        say_where(self.console, "Everything is in", path)


def _is_unicode(encoding: str | None) -> bool:
    return (encoding or "utf-8").lower().startswith("utf")


def _settings(params: Mapping[str, Any]) -> dict[str, Any]:
    settings = {}
    for name, value in params.items():
        if name in OUTPUT_NAMES or name == "resume":
            continue
        settings[name] = _plain(value)
    # The configuration must work from any folder.
    if image := settings.get("image"):
        resolved = [_resolved(name) for name in image]
        settings["image"] = resolved[0] if len(resolved) == 1 else resolved
    if settings.get("images") is not None:
        settings["images"] = _resolved(settings["images"])
        # Not the default image that it stands in for.
        settings.pop("image", None)
    return settings


def _resolved(path: str) -> str:
    return str(Path(path).resolve()) if Path(path).exists() else path


def _plain(value: Any) -> Any:
    """An option's value as JSON and TOML take it."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def experiment_from(options: Mapping[str, Any], **more: Any) -> Any:
    """Returns a checked `Experiment` from option values."""
    from dataclasses import fields

    from gabordiag.objective.experiment import Experiment

    known = {entry.name for entry in fields(Experiment)}
    settings = {name: value for name, value in {**options, **more}.items() if name in known}
    image = settings.pop("image")
    if settings["images"] is not None and image != ["hopper"]:
        raise UsageError("--image and --images exclude each other.", "Give one of them.")
    if len(image) > 1:
        settings["images"] = image
    else:
        settings["image"] = image[0]
    return Experiment(**settings).prepare()


def thing_from(
    ctx: typer.Context, experiment: ExperimentOptions, own: OwnOptions, start: float | None
) -> tuple[Any, dict[str, Any]]:
    """Returns what is to be studied, and the keywords that `gabordiag.api` takes with it."""
    if own.objective is None:
        stray = [name for name, value in own.settings().items() if value is not None]
        if stray:
            raise UsageError(f"--{stray[0].replace('_', '-')} needs --objective.")
        tell = ctx.obj.bars.tell_images
        more = {} if start is None else {"theta0": start}
        return experiment_from(experiment.settings(), **more, progress=tell), {}
    from gabordiag.cli.values import named, parse_range
    from gabordiag.own.loading import load_object

    given = {name for name in ctx.params if _was_given(ctx, name)}
    keywords = {
        "param": own.param,
        "input": own.input,
        "target_output": own.target_output,
        "range": None if own.range is None else named("--range", parse_range)(own.range),
        "period": own.period,
        "target": experiment.target_theta if "target_theta" in given else None,
        "start": start if given & {"theta0", "start"} else None,
        "loss": experiment.loss if "loss" in given else None,
    }
    keywords = {name: value for name, value in keywords.items() if value is not None}
    return load_object(own.objective), keywords


def _was_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT",)
