"""What every computing command does around its computation: folder, progress, output, exit.

A command opens a `Session` with its `Settings` (the one form between the parser, the commands and
config.toml), opens the folder when its inputs are checked, and hands it the result. However the
command ends, the folder says so.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from gabordiag.choices import ImageName, ParameterName
from gabordiag.cli.values import Bare, Named, named, parse_formats, parse_range, write_point
from gabordiag.errors import UsageError, unknown_name
from gabordiag.presentation.figures.sheets import check_panel

if TYPE_CHECKING:
    from gabordiag.presentation.blocks import Block
    from gabordiag.results import View
    from gabordiag.runs.files import TrajectoryFile
    from gabordiag.runs.folder import RunFolder

# Where results go and how they are shown: a repetition does not depend on these.
_NOT_RECORDED = (
    "out", "json", "quiet", "no_plots", "figure_format", "figure_size", "figure_panel", "config",
    "debug", "resume", "workers", "scheduler", "plan",
)  # fmt: skip
# What may be given with --resume: it changes no number.
_BESIDE_RESUME = {"resume", "json", "quiet", "no_plots", "debug", "workers", "scheduler"}
_FILES = (
    "image", "images", "input", "target_output", "from_log", "log", "objective", "kernel",
    "derivative",
)  # fmt: skip
# Recorded as a list only if there are several.
_USUALLY_ONE = ("image", "input", "param", "range")
# Of the experiment; a custom objective has its own.
_EXPERIMENT_ONLY = (
    "image", "images", "strict", "pixel_scale", "normalize", "padding", "dtype", "device",
    "wavelength", "sigma", "psi", "gamma", "kernel_size", "target_noise",
    "learn", "direct", "batch_size",
)  # fmt: skip
_CUSTOM_ONLY = ("param", "input", "target_output", "range", "period")
# Fewer give arrays on which torch's second thread brings nothing, and costs on busy cores: there
# `diagnose` took 22 s of CPU time with two threads, 14 with one.
_MANY_PIXELS = 2**22
_ANGLES = {"target_theta": "--target", "theta0": "--start", "psi": "--psi"}


class Bars:
    """Bars on stderr that share one display, which is there while any of them is."""

    def __init__(self, hidden: bool) -> None:
        self._hidden = hidden
        self._images: dict[str, TaskID] = {}
        self._display = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(),
            TimeRemainingColumn(), console=Console(stderr=True), transient=True, expand=True,
            disable=hidden,
        )  # fmt: skip

    @contextmanager
    def shown(self, text: str) -> Iterator[Callable[..., None]]:
        """Shows a bar; yields a function of (done, total), and of another text if there is one."""
        task = self._add(text)
        try:
            yield lambda done, total, what=text: self._display.update(
                task, completed=done, total=total, description=what
            )
        finally:
            self._remove(task)

    def tell_images(self, what: str, done: int, total: int) -> None:
        """Shows how many images are done, until all are."""
        for shown in [other for other in self._images if other != what or done == total]:
            self._remove(self._images.pop(shown))
        if done < total:
            if what not in self._images:
                self._images[what] = self._add(what)
            self._display.update(self._images[what], completed=done, total=total)

    def close(self) -> None:
        """Takes away whatever is shown."""
        self._images = {}
        for task in self._display.task_ids:
            self._remove(task)

    def _add(self, text: str) -> TaskID:
        self._display.start()
        return self._display.add_task(text, total=None)

    def _remove(self, task: TaskID) -> None:
        if task in self._display.task_ids:
            self._display.remove_task(task)
        # Old versions of rich end even a hidden display with an empty line.
        if not self._display.task_ids and not self._hidden:
            self._display.stop()


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
    """Returns the full path of a file, or of the file of FILE.py:NAME; other names unchanged."""
    if path == "-":
        # Standard input, whatever there is in the folder.
        return path
    if Path(path).exists():
        return str(Path(path).resolve())
    file, _, name = path.rpartition(":")
    return f"{Path(file).resolve()}:{name}" if file.endswith(".py") else path


def _plain(value: Any) -> Any:
    if isinstance(value, Named):
        return str(value) if value.name else value.value
    if isinstance(value, tuple):
        return write_point(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def _check(settings: Settings) -> None:
    """Refuses what would change a resumed run, parameters that the kernel lacks, missing images."""
    stray = sorted(settings.typed - _BESIDE_RESUME)
    if settings.get("resume") is not None and stray:
        raise UsageError(
            f"{option(stray[0])} cannot be given with --resume.",
            "A run is resumed with the settings that it was started with.",
        )
    has_kernel_alone = settings.get("objective") is None
    for key in ("over", "learn", "log_scale") if has_kernel_alone else ():
        for text in settings.get(key) or ():
            name = text.partition(":")[0]
            # Of several in one, the experiment says how to write them.
            if name not in get_args(ParameterName) and "," not in name:
                raise unknown_name(f"{option(key)}:", name, get_args(ParameterName))
    is_looked_for = has_kernel_alone and settings.get("images") is None
    for image in settings.get("image") or () if is_looked_for else ():
        # NumPy, which this needs, takes a tenth of a second.
        if image not in get_args(ImageName):
            from gabordiag.images import require_there

            require_there(image)


class Session:
    """One command's run: opens the folder, shows progress, writes and prints the result."""

    def __init__(self, settings: Settings) -> None:
        self.command = settings.command
        self.settings = settings
        # Refused before anything is computed.
        self._formats = named("--figure-format", parse_formats)(settings["figure_format"])
        self._size, self._panel = settings["figure_size"], settings["figure_panel"]
        check_panel(self._panel, self.command)
        _check(settings)
        self._json, quiet = settings["json"], settings["quiet"]
        # With --json stdout carries the object alone, text for people goes to stderr.
        self.console = Console(stderr=self._json, quiet=quiet, highlight=False)
        self.bars = Bars(hidden=quiet or not sys.stderr.isatty())
        self._started = time.perf_counter()
        self._folder: RunFolder | None = None
        # Said once the call is accepted: an error has two lines at most.
        self._warnings: list[str] = []
        self._finished = False
        self._stdout = ExitStack()

    def __enter__(self) -> Session:
        if self._json:
            # What a user's objective prints must not come between the JSON and its reader.
            self._stdout.enter_context(redirect_stdout(sys.stderr))
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.bars.close()
        self._stdout.close()
        if self._folder is not None and not self._finished:
            is_interrupted = isinstance(error, KeyboardInterrupt)
            self._folder.abandon("interrupted" if is_interrupted else "failed")
            if is_interrupted:
                place = shlex.quote(str(self._folder.path))
                text = f"The folder is {place}; a command that takes --resume goes on from there."
                print(text, file=sys.stderr)

    def open_folder(self) -> RunFolder:
        """Returns the run's folder; made by the first call, which is after inputs were checked."""
        if self._folder is None:
            from gabordiag.runs.folder import RunFolder

            self._print_warnings()
            settings = self.settings
            # Not every command has the option.
            if (resumed := settings.get("resume")) is not None:
                self._folder = RunFolder.resume(resumed, self.command)
            else:
                self._folder = RunFolder.create(settings["out"], self.command, settings.recorded())
        return self._folder

    def listener(self, index: int, columns: Sequence[str]) -> Callable[[Any], None]:
        """Returns a function that logs every step of a run; its file is opened at the first."""
        from gabordiag.dynamics.run import trajectory_name

        @cache
        def log() -> TrajectoryFile:
            return self.open_folder().log(trajectory_name(index), columns)

        return lambda step: log()(step.row())

    def _print_warnings(self) -> None:
        for warning in self._warnings:
            print(warning, file=sys.stderr)

    @contextmanager
    def progress(self, text: str, objective: Any = None) -> Iterator[Callable[..., None]]:
        """Shows a bar on a terminal's stderr; yields a function as `Bars.shown` does.

        A user's own objective gets a second bar for evaluations that go one by one.
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

    def announce(self, text: str) -> None:
        """Says on stderr what is about to be done."""
        if not self.settings["quiet"]:
            print(f"gabordiag: {text}", file=sys.stderr)

    def warn_of_degrees(self, option: str, *values: float | None) -> None:
        """Warns of angles without a unit beyond 2 pi, which were probably meant in degrees."""
        for value in values:
            if isinstance(value, Bare) and abs(value) > math.tau and not self.settings["quiet"]:
                self._warnings.append(
                    f"gabordiag: {option}: a number without a unit is in radians, so {value:g} "
                    f"means {math.degrees(value):.2f} degrees. Did you mean {value:g}deg?"
                )

    def finish(self, view: View) -> None:
        """Writes data, figures, report, page and result.json; prints the JSON or the text."""
        from gabordiag.explorer.page import page_files
        from gabordiag.presentation import report

        has_plots = not self.settings["no_plots"]
        # A page is all that `explore` makes.
        pages = page_files(self.command, view) if has_plots or self.command == "explore" else {}
        folder, settings = self.open_folder(), self.settings.recorded()
        folder.save_data(view.data)
        formats = self._formats if has_plots else ()
        options = report.ReportOptions(
            formats, self._size, bool(settings.get("animate")), panel=self._panel
        )
        stray: UsageError | None = None
        with self.progress("drawing") as bar:
            try:
                files, blocks = report.make_files(self.command, view, settings, options, bar)
            except UsageError as error:
                # The result does not have this panel: what was computed is kept, figures whole.
                stray, options = error, replace(options, panel=None)
                files, blocks = report.make_files(self.command, view, settings, options)
        for name, made in {**files, **pages}.items():
            folder.write(name, made)
        content = self._document(view, [*folder.files(), "result.json"])
        folder.finish(content)
        self._finished = True
        self._print(content, blocks, folder.path)
        if stray is not None:
            raise stray

    def show(self, view: View, path: Path | None = None) -> None:
        """Prints the JSON or the text for people; names a file that was written, if any."""
        from gabordiag.presentation.registry import blocks_of

        self._print_warnings()
        content = self._document(view, [] if path is None else [path.name])
        self._print(content, blocks_of(self.command, view), path)

    def _document(self, view: View, files: Sequence[str]) -> dict[str, Any]:
        from gabordiag.runs.folder import document

        seconds = time.perf_counter() - self._started
        return document(self.command, self.settings.recorded(), seconds, files, view.result)

    def _print(
        self, content: Mapping[str, Any], blocks: Sequence[Block], path: Path | None = None
    ) -> None:
        from gabordiag.presentation.console import print_location, show_blocks
        from gabordiag.runs.formats import to_json

        if self._json:
            self._stdout.close()
            is_unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
            print(to_json(content, plain=not is_unicode))
        if not self.settings["quiet"]:
            show_blocks(self.console, blocks)
            if path is not None:
                print_location(self.console, "Everything is in", path)


def experiment_from(session: Session, **more: Any) -> Any:
    """Returns a checked `Experiment` of the call's settings; `more` are others of it."""
    from dataclasses import fields

    from gabordiag.objective.experiment import Experiment

    settings = session.settings
    if settings["images"] is not None:
        if "image" in settings.chosen:
            raise UsageError("--image and --images exclude each other.", "Give one of them.")
        # Not the default image that it stands in for.
        settings.pop("image", None)
    for name, typed in _ANGLES.items():
        session.warn_of_degrees(typed, settings.get(name))
    learned = settings.get("learn", [])
    for value, name in settings.get("start", []):
        if (name or (learned[0] if len(learned) == 1 else "theta")) in ("theta", "psi"):
            session.warn_of_degrees("--start", value)
    known = {entry.name for entry in fields(Experiment)}
    values = {name: value for name, value in {**settings, **more}.items() if name in known}
    if any(isinstance(values.get(name), tuple) for name in ("theta0", "target_theta")):
        raise UsageError("the experiment has one angle.", "Give one number, such as 45deg.")
    image = values.pop("image", [])
    if image:
        values |= {"images": image} if len(image) > 1 else {"image": image[0]}
    if settings["strict"] and values["images"] is None:
        raise UsageError("--strict has no effect on a single image.", "Leave it out.")
    experiment = Experiment(**values, progress=session.bars.tell_images).prepare()
    if experiment.pixels.size < _MANY_PIXELS and "OMP_NUM_THREADS" not in os.environ:
        import torch

        torch.set_num_threads(1)
    return experiment


def subject_from(session: Session) -> tuple[Any, dict[str, Any]]:
    """Returns an `Experiment`, or a custom objective, and the keywords of `own_objective` with it.

    What has no effect on the subject is left out of the session's settings, or refused.
    """
    settings = session.settings
    given = settings["start"] if "start" in settings.given else []
    first = next((value for value, name in given if name in ("", "theta")), None)
    start = settings.get("theta0", first)
    if settings["objective"] is None:
        stray = [name for name in _CUSTOM_ONLY if name in settings.chosen]
        if stray:
            raise UsageError(f"{option(stray[0])} needs --objective.")
        return experiment_from(session, **({} if start is None else {"theta0": start})), {}
    from gabordiag.own.custom import as_training
    from gabordiag.own.loading import load_object

    settings.leave_out(_EXPERIMENT_ONLY, "beside --objective")
    keywords = {
        "param": _one_or_several(settings["param"]),
        "input": _one_or_several(settings["input"]),
        "target_output": settings["target_output"],
        "range": _one_or_several([named("--range", parse_range)(r) for r in settings["range"]]),
        "period": settings["period"],
        "target": settings.if_given("target_theta"),
        "start": start if settings.given & {"theta0", "start"} else None,
        "loss": settings.if_given("loss"),
        "seed": settings["seed"],
    }
    for name in ("theta0", "start"):
        settings.if_given(name)
    subject = as_training(load_object(settings["objective"]))
    return subject, {k: v for k, v in keywords.items() if v is not None}


def _one_or_several(values: Sequence[Any]) -> Any:
    return (values[0] if len(values) == 1 else tuple(values)) if values else None
