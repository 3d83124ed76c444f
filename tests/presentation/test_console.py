"""Terminals: nothing is cut off, colours and letters only where the terminal has them."""

from __future__ import annotations

import io
import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from gabordiag.cli.main import run
from gabordiag.diagnosis.verdict import Diagnosis, diagnose_objective
from gabordiag.presentation import registry
from gabordiag.presentation.blocks import Listing, Mark, Sketch, Table, Verdict
from gabordiag.presentation.colors import OUTCOME_COLORS, ink_on
from gabordiag.presentation.console import (
    print_location,
    runs_table,
    show_blocks,
    to_encodable,
)
from gabordiag.presentation.sketch import draw_letters, lowest_of_columns
from gabordiag.results import View
from gabordiag.wording import spoken
from tests.presentation.test_figures import Valleys, descend, sgd

BLOCKS = " ▁▂▃▄▅▆▇█"


@pytest.fixture(scope="module")
def diagnosis() -> Diagnosis:
    return diagnose_objective(Valleys(), sgd(6.0, 200))


@pytest.fixture(scope="module")
def runs() -> View:
    return descend(Valleys(), [sgd(6.0, 200), sgd(0.1, 200)], -1.0).view()


def screen(command: str, view: View, width: int, **options: Any) -> str:
    """What a console prints."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=options.pop("encoding", "utf-8"))
    console = Console(file=file, width=width, highlight=False, **options)
    show_blocks(console, registry.blocks_of(command, view))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    return file.buffer.getvalue().decode(file.encoding)


def said(text: str) -> list[str]:
    """The words of a text, without a table's lines and a panel's borders."""
    return re.sub(r"[│┃╭╮╰╯─━┏┓|+]", " ", text).split()


# --- widths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
def test_no_line_is_longer_than_the_terminal(diagnosis: Diagnosis, width: int) -> None:
    lines = screen("diagnose", diagnosis.view(), width).splitlines()
    assert max(len(line) for line in lines) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_every_word_is_there_whole(diagnosis: Diagnosis, width: int) -> None:
    """Of the verdict, the lists and the tables; a table's titles may be beside its cells."""
    text = screen("diagnose", diagnosis.view(), width)
    found = said(text)
    for block in registry.blocks_of("diagnose", diagnosis.view()):
        texts: tuple[str, ...] = ()
        if isinstance(block, Verdict):
            texts = (block.text, spoken(block.word))
        elif isinstance(block, Listing):
            texts = block.items
        elif isinstance(block, Table):
            texts = tuple(cell for row in block.rows for cell in row)
        for one in texts:
            assert set(said(one)) <= set(found), one
    assert "…" not in "".join(re.findall(r"\w…", text))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_verdict_is_read_in_order(diagnosis: Diagnosis, width: int) -> None:
    assert " ".join(said(diagnosis.headline)) in " ".join(
        said(screen("diagnose", diagnosis.view(), width))
    )


def test_a_wide_table_becomes_lines_on_a_narrow_terminal(runs: View) -> None:
    wide, narrow = screen("optimize", runs, 100), screen("optimize", runs, 40)
    header = next(line for line in wide.splitlines() if "optimizer" in line)
    assert "Lyapunov" in header
    titles = [line.split()[0] for line in narrow.splitlines() if line.startswith("optimizer")]
    assert len(titles) == len(runs.result["runs"])


@pytest.mark.parametrize("width", range(60, 101, 2))
def test_a_table_of_long_words_is_whole_at_every_width(width: int) -> None:
    place = "the start at encoder.0.weight[2,0,0,2] = -0.959, lr 0.02 for encoder.0.weight"
    rows = (("works", "start and rate", place, "0.032 ± 0.02", "0.000333 ± 4e-05"),) * 2
    table, file = Table(("", "remedy", "change", "loss before", "loss after"), rows), io.StringIO()
    show_blocks(Console(file=file, width=width), [table])
    assert said(file.getvalue()).count("4e-05") == 2
    assert max(map(len, file.getvalue().splitlines())) <= width


def test_a_path_is_one_line_however_long() -> None:
    console = Console(file=io.StringIO(), width=20, highlight=False)
    path = Path("/a/very/long/path/to [bold]somewhere[/bold]/run")
    print_location(console, "Everything is in", path)
    assert console.file.getvalue() == f"Everything is in {path}.\n"  # type: ignore[attr-defined]


# --- colours --------------------------------------------------------------------------------------


def test_an_outcome_has_the_figures_colour(runs: View) -> None:
    text = screen("optimize", runs, 100, force_terminal=True, color_system="truecolor")
    for run_ in runs.result["runs"]:
        color = OUTCOME_COLORS[run_["outcome"]]
        red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
        assert f"48;2;{red};{green};{blue}" in text
    assert {ink_on(color) for color in OUTCOME_COLORS.values()} == {"white", "black"}


def test_no_color_is_respected(runs: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = screen("optimize", runs, 100, force_terminal=True)
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", text) for code in found.split(";")}
    # Bold, dim, underlined, and back: no colours.
    assert codes <= {"", "0", "1", "2", "4"}


def test_a_file_gets_no_codes(runs: View) -> None:
    assert "\x1b" not in screen("optimize", runs, 100)


# --- letters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_terminals_without_these_letters_get_others(
    diagnosis: Diagnosis, runs: View, encoding: str
) -> None:
    for command, view in (("diagnose", diagnosis.view()), ("optimize", runs)):
        text = screen(command, view, 80, encoding=encoding)
        # The four questions that a diagnosis answers, and no letter that the terminal lacks.
        assert text.count("?") == (4 if command == "diagnose" else 0)
        assert "target 60.00 deg" in text


def test_other_letters_are_replaced_not_fatal() -> None:
    console = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=40)
    assert to_encodable(console, "θ = 3° → x") == "? = 3 deg ? x"
    unicode = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), width=40)
    assert to_encodable(unicode, "θ = 3°") == "θ = 3°"


@pytest.mark.slow
def test_the_program_runs_where_stdout_is_ascii(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout", out)
    call = ["optimize", "--image=noise", "--kernel-size=9", "--steps=5", "--no-plots", "--out=été"]
    assert run(call) == 0
    assert run(["report", "été", "--out=again"]) == 0
    assert run(["runs", "."]) == 0
    assert run([*call[:-1], "--out=más", "--json", "--quiet"]) == 0
    out.flush()
    assert isinstance(out.buffer, io.BytesIO)
    shown = out.buffer.getvalue().decode("ascii")
    assert json.loads(shown[shown.index('{\n  "schema"') :])["command"] == "optimize"
    assert b"Everything is in ?t?." in out.buffer.getvalue()


def test_runs_are_listed_on_narrow_terminals() -> None:
    console = Console(file=io.StringIO(), width=40, highlight=False)
    listed = [{"started": "2026-01-01T00:00:00+00:00", "command": "diagnose", "status": "finished",
               "verdict": None, "run": "runs/20260101-000000-diagnose"}]  # fmt: skip
    console.print(runs_table(console, listed))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "runs/20260101-000000-diagnose" in text.replace("\n", "").replace(" ", "")
    assert "diagnose" in text


# --- the sketch -----------------------------------------------------------------------------------


def sketch_of(view: View) -> Sketch:
    (sketch,) = [b for b in registry.blocks_of("optimize", view) if isinstance(b, Sketch)]
    return sketch


def heights(bars: tuple[str, ...], letters: str = BLOCKS) -> np.ndarray[Any, Any]:
    return np.array([[letters.index(letter) for letter in line] for line in bars]).sum(axis=0)


@pytest.mark.parametrize("width", [30, 40, 72])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_sketchs_valleys_are_the_landscapes(runs: View, width: int, ascii_only: bool) -> None:
    sketch = sketch_of(runs)
    letters = draw_letters(sketch, width, ascii_only=ascii_only)
    assert {len(line) for line in letters.bars} == {width}
    assert "".join(letters.bars).isascii() == ascii_only
    height = heights(letters.bars, " .#" if ascii_only else BLOCKS)
    # 1 - cos v + cos(2 v) / 2 is lowest at ±60 degrees, highest at 180.
    for minimum in (-60, 60):
        column = int((minimum + 180) / 360 * width)
        assert height[column] == height.min() > 0
    top = 24 if not ascii_only else 10
    assert height[0] == height[-1] == height.max() == top


def test_a_narrow_valley_is_not_lost() -> None:
    values = np.linspace(0, 1, 1001)
    losses = np.where(np.arange(1001) == 333, 0.0, 1.0)
    lowest = lowest_of_columns(values, losses, 40)
    assert np.flatnonzero(lowest == 0).tolist() == [13]
    assert (np.delete(lowest, 13) == 1).all()


def test_a_coarse_table_fills_every_column() -> None:
    lowest = lowest_of_columns(np.array([0.0, 1.0]), np.array([0.0, 4.0]), 8)
    assert np.isfinite(lowest).all()
    assert (np.diff(lowest) > 0).all()


def test_arrows_point_where_things_are(runs: View) -> None:
    sketch = sketch_of(runs)
    letters = draw_letters(sketch, 72)
    shown = [arrow for line in letters.arrows for arrow in line]
    found = {}
    for arrow in shown:
        words_, at = arrow.text.strip("▲ "), arrow.column + arrow.text.index("▲")
        found[words_] = (at + 0.5) / 72 * 360 - 180
    assert found["target 60.00°"] == pytest.approx(60, abs=5)
    assert found["start -57.30°"] == pytest.approx(math.degrees(-1), abs=5)
    run_ = runs.result["runs"][1]
    end = f"end {math.degrees(run_['final']):.2f}°"
    assert found[end] == pytest.approx(math.degrees(run_["final"]), abs=5)
    assert [arrow.good for arrow in shown if arrow.text.startswith("▲ target")] == [True]


@pytest.mark.parametrize("width", [30, 40, 72])
def test_arrows_words_do_not_overlap(runs: View, width: int) -> None:
    sketch = sketch_of(runs)
    close = tuple(Mark(math.radians(v), f"mark {v}") for v in (58, 59, 60, 61, -180, 179, 180))
    letters = draw_letters(Sketch(sketch.sweep, close), width)
    assert sum(len(line) for line in letters.arrows) == len(close)
    for line in letters.arrows:
        for left, right in itertools.pairwise(line):
            assert left.column + len(left.text) < right.column
        assert line[-1].column + len(line[-1].text) <= width
        assert line[0].column >= 0


def test_a_mark_outside_an_interval_is_left_out(runs: View) -> None:
    sketch = sketch_of(runs)
    landscape = sketch.sweep.landscape
    interval = replace(landscape, parameter=replace(landscape.parameter, period=None))
    marks = (Mark(9.0, "far"), Mark(0.0, "here"))
    letters = draw_letters(Sketch(replace(sketch.sweep, landscape=interval), marks), 40)
    assert [arrow.text for line in letters.arrows for arrow in line] == ["▲ here"]


def test_a_flat_and_an_undefined_landscape(runs: View) -> None:
    sketch = sketch_of(runs)
    for value, letters in ((1.0, set(BLOCKS)), (math.nan, {" "})):
        sweep = replace(sketch.sweep, loss=np.full_like(sketch.sweep.loss, value))
        assert set("".join(draw_letters(Sketch(sweep, sketch.marks), 40).bars)) <= letters
