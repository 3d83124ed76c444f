"""Entry point: runs the app and turns errors into exit codes, in this one place.

Whatever goes wrong on the user's side is reported in two lines without a traceback, which `--debug`
shows.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import math
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from gabordiag.errors import GabordiagError
from gabordiag.wording import printable

# New objects between two collections of garbage; Python's own 700 suit small programs.
_COLLECT_AFTER = 50_000
# 130 is 128 + SIGINT, as shells have it.
EXIT_USAGE, EXIT_INPUT, EXIT_INTERRUPTED = 2, 3, 130
# For so long a second Ctrl-C changes nothing.
_TIDYING_SECONDS = 2.0
# How libraries say that memory is short; few of them raise a MemoryError.
_OUT_OF_MEMORY = re.compile(
    r"allocate memory|out of memory|bad_alloc|not enough memory|start new thread"
    r"|error return without exception|failed to map segment",
    re.IGNORECASE,
)
# Letters of a path that an error shows.
_LONG_NAME = 200


def main() -> None:
    """Runs the command line and exits."""
    # Threads that wait for each other sleep instead of spinning: on a shared machine, spinning
    # takes the time that the others need. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Importing torch and laying out figures make objects by the million that live to the end; to
    # walk them after every 700 new ones takes a tenth of the command's time.
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    interruption = _Interruption()
    _repair_streams()
    if "--json" in sys.argv:
        _keep_stdout_for_json()
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = _interrupted()
    if interruption.came:
        # A library may have turned it into an error of its own on the way here.
        code = EXIT_INTERRUPTED
    if "--json" in sys.argv:
        # What a user's code prints at exit must not follow the JSON.
        sys.stdout = sys.stderr
    sys.exit(code)


def _repair_streams() -> None:
    """Makes closed standard streams (`>&-`) and a width of no columns usable."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one; left free, the next file would be written to.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for name in ("COLUMNS", "LINES"):
        if not os.environ.get(name, "1").strip("0"):
            del os.environ[name]


def _keep_stdout_for_json() -> None:
    """Sends what any code writes to descriptor 1 to stderr; `sys.stdout` alone is still stdout."""
    out = sys.stdout
    sys.stdout = open(os.dup(1), "w", encoding=out.encoding, errors=out.errors)  # noqa: SIM115
    os.dup2(2, 1)


class _Interruption:
    """Makes Ctrl-C, `kill` and a closed terminal one thing: `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.came = False
        self._last = -math.inf
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # What the caller ignores (nohup, a shell's background job) stays ignored.
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._arrive)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        now = time.monotonic()
        # An impatient second one must not disturb the first one's tidying up.
        if now - self._last > _TIDYING_SECONDS:
            self._last = now
            raise KeyboardInterrupt


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    try:
        from gabordiag.cli.commands import app

        code = app(list(arguments), standalone_mode=False, prog_name="gabordiag")
        # What typer makes of an interruption.
        if code == EXIT_INTERRUPTED:
            return _interrupted()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _interrupted()
    except (BrokenPipeError, SystemExit) as error:
        # The reader of our output has gone (`| head`); nobody is left to read. Within a
        # command typer makes an exit of it, with the code of an unhealthy verdict.
        cause = error.__context__ if isinstance(error, SystemExit) else error
        if not isinstance(cause, BrokenPipeError):
            raise
        _drop_output()
        return 0
    except Exception as error:
        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        text, code = _explain(error)
        # Callers of errors may embed user text; two lines are what is promised.
        lines = [line for line in text.splitlines() if line.strip()][:2]
        print("gabordiag: " + "\n".join(map(printable, lines)), file=sys.stderr)
        return code
    return code if isinstance(code, int) else 0


def _interrupted() -> int:
    print("Interrupted; what was logged is on disk.", file=sys.stderr)
    return EXIT_INTERRUPTED


def _drop_output() -> None:
    """Lets Python's own flush at the end succeed."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> tuple[str, int]:
    """Returns what to print, and the exit code."""
    if isinstance(error, GabordiagError):
        return str(error), error.exit_code
    # typer carries its own copy of click's exceptions; the base class is reached through a public
    # one. Imported here: typer takes a tenth of a second, in which Ctrl-C must be understood.
    import typer

    base = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
    if isinstance(error, base):
        return _usage_message(error), EXIT_USAGE
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return "Not enough memory.\nUse a smaller image or map.", EXIT_INPUT
    if isinstance(error, OSError):
        return _file_message(error), EXIT_INPUT
    first = next(iter(f"{type(error).__name__}: {error}".splitlines()))
    return f"Internal error, {first}\nPlease report it with --debug.", EXIT_INPUT


def _file_message(error: OSError) -> str:
    """Returns what to print of a file that cannot be used."""
    if _needs_descriptors(error):
        return "Too many open files.\nRaise the limit: ulimit -n 256."
    if error.filename is None:
        # Files say their name; without one it is the terminal, or what stdout was sent to.
        _drop_output()
        return f"Cannot write the output: {error.strerror or error}."
    name = str(error.filename)
    name = name if len(name) <= _LONG_NAME else f"{name[:_LONG_NAME]}..."
    return f"Cannot use {name}: {error.strerror}.\nGive another path."


def _needs_descriptors(error: BaseException | None) -> bool:
    """Whether no more files could be opened; libraries may raise another error after that one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            return True
        error = error.__context__
    return False


def _usage_message(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    text = " ".join(str(format_message() if format_message else error).split())
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "gabordiag"
    return f"{text or 'wrong usage'}\nSee `{path} --help`."
