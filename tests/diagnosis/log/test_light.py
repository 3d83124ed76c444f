"""A log is explained with NumPy alone: torch and matplotlib stay where they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WRITERS = {
    "csv": "step,theta,loss,grad\n" + "".join(f"{t},{0.9**t},{0.81**t},1\n" for t in range(50)),
    "json": str({"theta": [0.9**t for t in range(50)], "loss": [0.81**t for t in range(50)]}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_explain_from_python_imports_neither_torch_nor_matplotlib(
    kind: str, tmp_path: Path
) -> None:
    log = tmp_path / f"log.{kind}"
    log.write_text(WRITERS[kind].replace("'", '"'))
    code = (
        "import sys, gabordiag as gd; found = gd.explain(sys.argv[1]); "
        "print(*{'torch', 'matplotlib'} & set(sys.modules)); assert found.to_dict()['verdict']"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
