"""A second process that draws half of the figures of a command with many of them.

Drawing is Python from end to end, so threads do not help; a process started early imports while the
numbers are made, and costs no waiting. It is asked once, through its standard input, and answers on
its standard output; both are `.npz` files without pickles. Whatever goes wrong with it, the asking
process draws the figures itself.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from gabordiag.results import View
from gabordiag.runs import to_json

_MODULE = "gabordiag.presentation.second_drawer"


class SecondDrawer:
    """Starts the process; where there is one core only, or no process can be made, none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if (os.cpu_count() or 1) < 2:
            return
        # -P: what lies in the current folder is no module of ours. A session of its own: Ctrl-C is
        # for the asking process; at its end, however it comes, the input ends and this one too.
        command = [sys.executable, "-P", "-m", _MODULE]
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
            )
        except OSError:
            return

    def ask(
        self, command: str, view: View, stems: Sequence[str], formats: Sequence[str], size: str
    ) -> None:
        """Asks for some of the figures; returns before they are drawn."""
        if self._process is None or self._process.stdin is None:
            return
        names = [(file, column) for file, table in view.data.items() for column in table]
        header = {
            "command": command, "result": view.result, "stems": list(stems),
            "formats": list(formats), "size": size, "columns": names,
        }  # fmt: skip
        arrays = {str(i): np.asarray(view.data[f][c]) for i, (f, c) in enumerate(names)}
        try:
            self._process.stdin.write(_pack(header, arrays))
            self._process.stdin.close()
        except OSError:
            self.close()

    def answer(self) -> dict[str, bytes]:
        """Waits for the figures: file name -> content; empty if there are none."""
        if self._process is None or self._process.stdout is None:
            return {}
        content = self._process.stdout.read()
        self.close()
        try:
            header, arrays = _unpack(content)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return {}
        return {name: arrays[str(i)].tobytes() for i, name in enumerate(header["names"])}

    def close(self) -> None:
        """Ends the process, if it still goes on."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                # What it had not read can no longer be handed over.
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


def _pack(header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(to_json(header)), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack(content: bytes) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(str(arrays.pop("header"))), arrays


def main() -> None:
    """Imports, waits for the one question, draws, answers."""
    # The import that takes its time, before the question comes.
    from gabordiag.presentation.report import draw

    question = sys.stdin.buffer.read()
    if not question:
        return
    header, arrays = _unpack(question)
    data: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for index, (file, column) in enumerate(header["columns"]):
        data.setdefault(file, {})[column] = arrays[str(index)]
    view = View(header["result"], data)
    files = draw(header["command"], view, header["formats"], header["size"], only=header["stems"])
    answer = {str(i): np.frombuffer(made, dtype=np.uint8) for i, made in enumerate(files.values())}
    sys.stdout.buffer.write(_pack({"names": list(files)}, answer))


if __name__ == "__main__":
    main()
