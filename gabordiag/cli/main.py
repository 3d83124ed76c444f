"""Entry point: runs the app and turns errors into exit codes, in this one place."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

import typer

from gabordiag.errors import GabordiagError

_COLLECT_AFTER = 50_000
EXIT_USAGE, EXIT_INPUT, EXIT_INTERRUPTED = 2, 3, 130
# typer carries its own copy of click's exceptions; the base class is reached through a public one.
_CLICK_EXCEPTION: type[Exception] = next(
    c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException"
)


def main() -> None:
    """Runs the command line and exits."""
    # Threads that wait for each other shall sleep, not spin: on a machine that is shared, spinning
    # takes the time that the others need. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Importing torch and laying out figures make objects by the million that live to the end; to
    # walk them after every 700 new ones takes a tenth of the command's time.
    gc.set_threshold(_COLLECT_AFTER, 20, 20)
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    from gabordiag.cli.app import app

    try:
        code = app(list(arguments), standalone_mode=False, prog_name="gabordiag")
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); there is nobody left to tell.
        sys.stderr.close()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted; what was logged is on disk.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        text, code = _explain(error)
        return _failed(text, code, "--debug" in arguments)
    return code if isinstance(code, int) else 0


def _explain(error: Exception) -> tuple[str, int]:
    """Returns what to print, and the exit code."""
    if isinstance(error, GabordiagError):
        return str(error), error.exit_code
    if isinstance(error, _CLICK_EXCEPTION):
        return _usage_message(error), EXIT_USAGE
    if isinstance(error, MemoryError):
        return "Not enough memory.\nUse a smaller image or map.", EXIT_INPUT
    first = next(iter(f"{type(error).__name__}: {error}".splitlines()))
    return f"Internal error, {first}\nPlease report it with --debug.", EXIT_INPUT


def _failed(text: str, code: int, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    # Callers of errors may embed user text; two lines are what is promised.
    lines = [line for line in text.splitlines() if line.strip()][:2]
    print("gabordiag: " + "\n".join(lines), file=sys.stderr)
    return code


def _usage_message(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    text = " ".join(str(format_message() if format_message else error).split())
    ctx = getattr(error, "ctx", None)
    path = ctx.command_path if ctx is not None else "gabordiag"
    return f"{text or 'wrong usage'}\nSee `{path} --help`."
