"""Logs of any content: read or refused with a sentence, in bounded memory."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gabordiag.diagnosis.log.explain import explain
from gabordiag.diagnosis.log.readers import read_log
from gabordiag.errors import GabordiagError

CELLS = st.one_of(
    st.floats().map(repr), st.integers().map(str),
    st.sampled_from(["", "nan", "inf", "-inf", "1e999", "abc", '"', "true", "1,2", "\0", "٣"]),
)  # fmt: skip
TABLES = st.builds(
    lambda header, rows: "\n".join([header, *(",".join(row) for row in rows)]),
    st.sampled_from(["step,theta,loss", "theta,loss,grad,lr", "a,b,c", "loss", "", "loss,loss"]),
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=30),
)


def _explained(path: Path) -> None:
    """Explains a log, or refuses it, in at most two lines."""
    said = ""
    try:
        said = explain(path, period=math.pi, target=0.5).headline
    except GabordiagError as error:
        said = str(error)
    assert 1 <= len(said.splitlines()) <= 2


@given(st.binary(max_size=400))
@example(b"\xff\xfe0\x001\x00")
@example(b"loss,w\n" + b"1,2\n" * 3 + b"\x00\xff")
def test_any_bytes(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_bytes(content)
    _explained(path)


@given(TABLES)
@example('\n0.0,",0.0\n0.0,"\n0.0,0.0')
def test_any_table(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.mktemp("log") / "log.csv"
    path.write_text(text, encoding="utf-8")
    _explained(path)


@given(
    st.lists(st.floats(), min_size=1, max_size=60),
    st.lists(st.floats(), min_size=1, max_size=60),
)
def test_any_numbers(values: list[float], losses: list[float]) -> None:
    count = min(len(values), len(losses))
    pairs = list(zip(values[:count], losses[:count], strict=True))
    result = explain({"theta": values[:count], "loss": losses[:count]})
    # A NaN or infinity after which numbers follow ends no run.
    sound = [index for index, pair in enumerate(pairs) if all(map(math.isfinite, pair))]
    passed = set(range(max(sound, default=0))) - set(sound)
    assert result.steps == count - len(passed)


def test_line_without_an_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("step,theta,loss\n" + "1" * 3_000_000)
    with pytest.raises(GabordiagError, match="1,000,000 characters"):
        read_log(tmp_path / "log.csv")


@pytest.mark.slow
def test_ten_million_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = 10_000_000
    with path.open("w") as file:
        file.write("step,theta,loss,grad,lr\n")
        rest = [f"{0.5 + t / 1e6!r},{1 / (t + 1)!r},0.25,0.01\n" for t in range(1000)]
        for first in range(0, rows, 1000):
            file.writelines(f"{first + t},{rest[t]}" for t in range(1000))
    # In a process of its own, whose peak is its own: five columns of doubles, and while they are
    # joined a copy of one; the text itself, 400 MB, is never held.
    program = (
        "import resource, sys\n"
        "from gabordiag.diagnosis.log.readers import read_log\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "log = read_log(sys.argv[1])\n"
        "print(len(log.values), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    count, kilobytes = map(int, done.stdout.split())
    assert count == rows
    assert kilobytes * 1024 < 3 * 5 * 8 * rows


def test_nan_and_infinity_are_told(tmp_path: Path) -> None:
    losses = np.r_[np.linspace(1, 0.1, 30), np.nan, np.inf]
    result = explain({"w": np.linspace(0, 1, 32), "loss": losses})
    assert result.outcome == "nonfinite"
