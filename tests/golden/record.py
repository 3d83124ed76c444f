"""Records golden numbers: `python -m tests.golden.record [NAME ...]`, without names all of them."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from gabordiag.cli.main import run
from tests.golden.calls import CALLS, write_inputs
from tests.golden.comparing import kept

DATA = Path(__file__).parent / "data"


def produced(name: str) -> dict[str, Any]:
    """Runs one call in the current folder, where its inputs are; returns what is kept of it."""
    arguments = CALLS[name]
    folder = Path("made", name)
    code = run([*arguments, "--quiet", "--no-plots", "--out", str(folder)])
    if code != 0:
        raise AssertionError(f"gabordiag {' '.join(arguments)} ended with exit code {code}.")
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))["result"]
    return kept(result, folder, arguments[0])


def _text(parts: dict[str, dict[str, Any]]) -> str:
    """JSON with one line for each field of the result and each data file."""
    blocks = []
    for part, fields in parts.items():
        lines = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in fields.items())
        blocks.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(blocks) + "\n}\n"


def main(names: list[str]) -> None:
    """Runs calls in a temporary folder and writes what is kept of them into `DATA`."""
    DATA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_inputs(Path())
        for name in names:
            (DATA / f"{name}.json").write_text(_text(produced(name)), encoding="utf-8")
            print(name)


if __name__ == "__main__":
    main(sys.argv[1:] or list(CALLS))
