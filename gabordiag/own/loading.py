"""The user's own code: how it is found, how its errors are shown, what random numbers it draws.

A file is run only because it was named; an error that its code raises is reported with the user's
file and line, and gabordiag's stack stays behind `--debug` (as the cause of the `InputError`).
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import inspect
import itertools
import linecache
import random
import sys
import sysconfig
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch

from gabordiag.errors import GabordiagError, InputError, UsageError
from gabordiag.images import validate_seed

_EXAMPLE = "Write FILE.py:NAME or package.module:NAME."
_PACKAGE = Path(__file__).parents[1]
_numbers = itertools.count()
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Location(NamedTuple):
    """A line of the user's code, stripped; empty where the source is not at hand."""

    file: str
    line: int
    function: str
    code: str

    def __str__(self) -> str:
        return f"line {self.line} of {Path(self.file).name}"


def location_evidence(place: Location | None) -> dict[str, Any]:
    """Returns a line of the user's code as findings show it, None where it is unknown."""
    return {name: getattr(place, name, None) for name in ("file", "line", "code")}


# Whose code a frame may run, ascending by how much an error message should be about it.
_NOT_THE_USERS, _INSTALLED, _THE_USERS = range(3)


@functools.cache
def _rank(file: str) -> int:
    """Whose code a source file is: gabordiag's, torch's or Python's; installed; or the user's."""
    path = Path(file)
    if file.startswith("<frozen") or {_PACKAGE, Path(torch.__file__).parent} & set(path.parents):
        return _NOT_THE_USERS
    if {"site-packages", "dist-packages"} & set(path.parts):
        return _INSTALLED
    return _NOT_THE_USERS if Path(sysconfig.get_path("stdlib")) in path.parents else _THE_USERS


def _pick(frames: list[tuple[types.FrameType, int]]) -> Location | None:
    """Returns the last of the user's (frame, line), or failing that of installed code's."""
    for rank in (_THE_USERS, _INSTALLED):
        for frame, line in reversed(frames):
            code = frame.f_code
            if _rank(code.co_filename) == rank:
                text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
                return Location(code.co_filename, line, code.co_name, text)
    return None


def calling_location(frame: types.FrameType | None) -> Location | None:
    """Returns the line of the user's code that led to a frame, or None.

    The search goes outwards from the frame and ends at gabordiag's own code.
    """
    frames = []
    while frame is not None and _PACKAGE not in Path(frame.f_code.co_filename).parents:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    return _pick(frames[::-1])


def error_location(error: BaseException) -> Location | None:
    """Returns the last line of the user's code that an exception passed through, if any."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return Location(error.filename, error.lineno, "", (error.text or "").strip())
    return _pick(list(traceback.walk_tb(error.__traceback__)))


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Turns whatever the user's code raises into an `InputError` with the user's own line.

    The original is its cause. gabordiag's own errors and interruptions pass through. `what` was
    being done, such as "running the objective". Gradients are on, as in the user's own loop: a
    model of a differential equation takes derivatives in its forward.
    """
    try:
        with torch.enable_grad():
            yield
    except (GabordiagError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise _as_input_error(error, what) from error


def _as_input_error(error: BaseException, what: str) -> InputError:
    try:
        lines = str(error).strip().splitlines()
    except Exception:
        # An exception of the user's may fail to describe itself.
        lines = []
    message = type(error).__name__ + (f": {lines[0]}" if lines else "")
    where = error_location(error)
    if where is None:
        return InputError(f"{what} failed with {message}.")
    inside = f", in {where.function}" if where.function and where.function[0] != "<" else ""
    problem = f"{where.file}, line {where.line}{inside}: {message}"
    if not where.code:
        return InputError(problem, f"It was raised while {what}.")
    return InputError(problem, f"The line, reached while {what}, reads: {where.code}")


def parameters_of(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Returns a function's parameters; None of one without a signature, as some in C are."""
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def load_object(name: str) -> Any:
    """Returns the object that FILE.py:NAME or package.module:NAME names.

    Only the named file or module is run; it may import its neighbours, as a script may. Its source
    is not cached on disk. The name after the last colon may have dots (`Class.method`).
    """
    place, colon, attribute = name.rpartition(":")
    if not colon or not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise UsageError(f"'{name}' names no object.", _EXAMPLE)
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [n for n in vars(module) if n[0] != "_" and callable(getattr(module, n))]
            near = difflib.get_close_matches(attribute, names, n=3) or names[:6]
            advice = f"It has {', '.join(near)}." if near else "It defines no function or class."
            raise InputError(f"{place} has no '{attribute}'.", advice)
        found = getattr(found, part)
    return found


class _UncachedLoader(SourceFileLoader):
    """Leaves no compiled file beside the user's."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        pass


def _load_file(path: Path) -> types.ModuleType:
    if not path.is_file():
        raise InputError(f"No file at {path}.", _EXAMPLE)
    # A name of its own: neither hides an installed module nor is hidden by one.
    name = f"_gabordiag_user_{next(_numbers)}_{path.stem}"
    loader = _UncachedLoader(name, str(path.resolve()))
    spec = importlib.util.spec_from_file_location(name, path.resolve(), loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and `inspect` look a class's module up by name.
    sys.modules[name] = module
    try:
        with user_code(f"importing {path.name}"), _searching(path.resolve().parent):
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _load_module(name: str) -> types.ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"'{name}' is neither a .py file nor a module's name.", _EXAMPLE)
    try:
        with user_code(f"importing {name}"), _searching(Path.cwd()):
            return importlib.import_module(name)
    except InputError as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{name}.".startswith(f"{missing.name}."):
            raise InputError(f"No module named '{missing.name}'.", _EXAMPLE) from missing
        raise


@contextmanager
def _searching(folder: Path) -> Iterator[None]:
    """Imports find modules in the folder, as they do for a script that lies in it."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


class RandomStreams:
    """The objective's own place in torch's, NumPy's and Python's global random streams.

    Whatever an evaluation draws, it draws from streams that start at a seed, None for where the
    program's stand now, and go on from one evaluation to the next; the program's own streams stand
    still meanwhile. The device's is looked after beside the CPU's.

    To exchange them takes longer than a small function: within a `public` function they stay with
    the objective that was evaluated last, and the program has its own back when that returns.
    """

    _depth: ClassVar[int] = 0
    _holder: ClassVar[RandomStreams | None] = None

    def __init__(self, seed: int | None, device: torch.device) -> None:
        if seed is not None:
            validate_seed(seed)
        self._device, self._on_cuda = device, device.type == "cuda"
        self._state = self.current()
        if seed is not None:
            with self():
                torch.default_generator.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002
                random.seed(seed)
                if self._on_cuda:
                    seeded = torch.Generator(device).manual_seed(seed)
                    torch.cuda.set_rng_state(seeded.get_state(), device)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draws from the objective's streams in the block."""
        if RandomStreams._holder is not self:
            self._give_back()
            self._outside = self.current()
            self.go_to(self._state)
            RandomStreams._holder = self
        try:
            yield
        finally:
            if not RandomStreams._depth:
                self._give_back()

    @staticmethod
    def _give_back() -> None:
        holder, RandomStreams._holder = RandomStreams._holder, None
        if holder is not None:
            holder._state = holder.current()
            holder.go_to(holder._outside)

    @classmethod
    @contextmanager
    def kept(cls) -> Iterator[None]:
        """Leaves the streams with the objective that was evaluated last until the block ends."""
        cls._depth += 1
        try:
            yield
        finally:
            cls._depth -= 1
            if not cls._depth:
                cls._give_back()

    def current(self) -> dict[str, Any]:
        """Returns where the global streams stand, as tensors and numbers."""
        legacy: Any = np.random.get_state()  # noqa: NPY002 - user code may draw from it
        kind, keys, *rest = legacy
        return {
            "torch": torch.get_rng_state(),
            "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
            "python": random.getstate(),
            "cuda": torch.cuda.get_rng_state(self._device) if self._on_cuda else None,
        }

    def go_to(self, state: Mapping[str, Any]) -> None:
        """Puts the global streams to where they stood."""
        kind, keys, *rest = state["numpy"]
        torch.set_rng_state(state["torch"])
        np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
        random.setstate(state["python"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"], self._device)


def public(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Makes a function of the interface, which may evaluate the user's code any number of times.

    It has gradients also where its caller has switched them off, by `no_grad` as well as by
    `inference_mode`.
    """

    @functools.wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with torch.inference_mode(mode=False), RandomStreams.kept():
            return function(*args, **kwargs)

    return called
