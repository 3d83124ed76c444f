"""The same run, as the writers of this world write it down, reads as the same run."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from gabordiag.diagnosis.log import table as tables
from gabordiag.diagnosis.log.explain import explain
from gabordiag.diagnosis.log.readers import read_log
from gabordiag.errors import InputError

STEPS = 40
STEP = [float(t) for t in range(STEPS)]
THETA = [0.3 * 0.8**t for t in range(STEPS)]
LOSS = [math.sin(x) ** 2 for x in THETA]


def cells(separator: str, *, comma: bool = False, end: str = "\n") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, lineterminator=end)
    writer.writerow(["step", "theta", "loss"])
    for row in zip(STEP, THETA, LOSS, strict=True):
        writer.writerow([repr(x).replace(".", ",") if comma else repr(x) for x in row])
    return text.getvalue()


def savetxt(delimiter: str) -> str:
    text = io.StringIO()
    names = delimiter.join(("step", "theta", "loss"))
    columns = np.array([STEP, THETA, LOSS]).T
    np.savetxt(text, columns, fmt="%.17g", delimiter=delimiter, header=names)
    return text.getvalue()


ROWS = [{"step": t, "theta": x, "loss": y} for t, x, y in zip(STEP, THETA, LOSS, strict=True)]
FORMS = {
    "commas": cells(","),
    "quoted by a spreadsheet": cells(",").replace("theta", '"theta"'),
    "semicolons": cells(";"),
    "semicolons and decimal commas": cells(";", comma=True),
    "tabs and decimal commas": cells("\t", comma=True),
    "line ends of Windows": cells(",", end="\r\n"),
    "blank lines": cells(",").replace("\n", "\n\n"),
    "a comma behind every row": cells(",").replace("\n", ",\n"),
    "blanks": cells(" "),
    "aligned with blanks": cells(" ").replace(" ", "    "),
    "numpy.savetxt": savetxt(" "),
    "numpy.savetxt with commas": savetxt(","),
    "JSON lines": "".join(json.dumps(row) + "\n" for row in ROWS),
    "JSON lines with blank ones": "".join(json.dumps(row) + "\n\n" for row in ROWS),
    "a list of rows": json.dumps(ROWS),
    "an indented list of rows": json.dumps(ROWS, indent=1),
    "columns by name": json.dumps({"step": STEP, "theta": THETA, "loss": LOSS, "note": "mine"}),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_the_same(form: str, tmp_path: Path) -> None:
    path = tmp_path / "run.txt"
    path.write_bytes(FORMS[form].encode())
    log = read_log(path)
    assert log.value_name == "theta"
    assert (log.steps.tolist(), log.values.tolist(), log.losses.tolist()) == (STEP, THETA, LOSS)
    assert (log.skipped, log.notes) == (0, ())


def table(rows: list[str], header: str = "step,theta,loss") -> str:
    return "\n".join([header, *rows]) + "\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(text)
    return path


SOUND = [f"{t},{x!r},{y!r}" for t, x, y in zip(range(STEPS), THETA, LOSS, strict=True)]


def test_validation_rows_between_are_no_steps(tmp_path: Path) -> None:
    # What Lightning's CSV logger writes: one table, each row fills its own columns.
    rows = [f"{row}," for row in SOUND]
    for place in (10, 21, 32, 43):
        rows.insert(place, "9,,,0.5")
    path = write(tmp_path, table([*rows, "40,,,0.4"], "step,theta,train_loss,val_loss"))
    log = read_log(path)
    assert log.values.tolist() == THETA
    assert log.notes[0] == "the loss is train_loss"
    assert "5 rows without theta or train_loss left out" in log.notes[1]
    assert explain(path).verdict == "healthy"


def test_loss_logged_now_and_then_did_not_break(tmp_path: Path) -> None:
    rows = [f"{t},{x!r},{y!r}" if t % 4 == 0 else f"{t},{x!r}," for t, x, y in
            zip(range(STEPS), THETA, LOSS, strict=True)]  # fmt: skip
    log = read_log(write(tmp_path, table(rows)))
    assert log.steps.tolist() == STEP[::4]
    assert np.isfinite(log.losses).all()


def test_nan_left_empty_to_the_end_is_where_the_run_broke(tmp_path: Path) -> None:
    # What pandas writes for NaN.
    path = write(tmp_path, table([*SOUND, "40,0.2,", "41,,", "42,,"]))
    found = explain(path)
    assert (found.verdict, found.outcome) == ("nonfinite_gradient", "nonfinite")
    assert "At step 40 the loss is nan (theta 0.2)" in found.headline
    assert "loss is empty from some row to the end, which is read as NaN" in found.notes


def test_a_word_at_the_end_is_not_nan(tmp_path: Path) -> None:
    found = explain(write(tmp_path, table([*SOUND, "40,done,0.1"])))
    assert found.verdict == "healthy"
    assert found.notes == ("1 row without theta or loss left out (theta: 'done' in line 42)",)


def test_last_line_cut_off_is_not_nan(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(table(SOUND) + "40,0.2,")
    found = explain(path)
    assert found.verdict == "healthy"
    assert found.notes == ("1 row without theta or loss left out",)


def test_nan_on_the_way_did_not_end_the_run(tmp_path: Path) -> None:
    rows = [*SOUND[:20], "20,nan,nan", *SOUND[21:]]
    found = explain(write(tmp_path, table(rows)))
    assert found.verdict == "healthy"
    assert found.notes == ("NaN or infinite 1 time on the way, after which the run went on",)


def test_unreadable_cell_is_named(tmp_path: Path) -> None:
    rows = [*SOUND[:20], "20,oops,0.2", *SOUND[21:]]
    found = explain(write(tmp_path, table(rows)))
    assert found.verdict == "healthy"
    assert found.notes == ("1 row without theta or loss left out (theta: 'oops' in line 22)",)


def test_steps_are_called_as_the_log_numbers_them(tmp_path: Path) -> None:
    # Logged every tenth step from 1000 on: falls for 11 rows, jumps back, repeats.
    rows = [f"{1000 + 10 * t},{0.1 * (t % 12)},{1 - 0.08 * (t % 12)}" for t in range(240)]
    found = explain(write(tmp_path, table(rows)))
    assert [jump.step for jump in found.jumps[:2]] == [1000 + 10 * 11, 1000 + 10 * 23]
    assert "12 logged rows (10 steps apart)" in found.headline


def test_epoch_that_repeats_numbers_no_steps(tmp_path: Path) -> None:
    rows = [f"{t // 4},{x!r},{y!r}" for t, x, y in zip(range(STEPS), THETA, LOSS, strict=True)]
    log = read_log(write(tmp_path, table(rows, "epoch,theta,loss")))
    assert log.steps.tolist() == STEP


def test_other_columns_are_told(tmp_path: Path) -> None:
    rows = [f"{row},1" for row in SOUND]
    log = read_log(write(tmp_path, table(rows, "step,theta,loss,sigma")))
    assert log.notes == ("the parameter is theta, not sigma",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0,0.5,1.0\n1,0.4,0.9\n", "begins with numbers instead of the columns' names"),
        ("step,theta,loss\n" + "0,0,5,1,0\n" * 9, r"5 cells under 3 names \(decimal commas\?\)"),
        ("step,theta,loss\n0,a,b\n1,,c\n2,d,e\n", "theta: 'a' in line 2"),
        ("step,theta,loss\n0,1,\n1,,2\n", "No row .* holds both theta and loss"),
        ('[{"theta": 1, "loss": 2}, 3, 4]', "2 of 3 rows .*: row 2 is not a JSON object"),
        ('{"note": "mine", "theta": 0.5}', "has no loss column among note, theta"),
        ('{"loss": 1}\nloss 2\n[3]\n4\n', "3 of 4 rows .*: line 2 is not a JSON object"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_log(write(tmp_path, text))


def test_a_data_frame_is_columns_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    log = read_log(pandas.DataFrame({"step": STEP, "theta": THETA, "loss": LOSS}))
    assert (log.values.tolist(), log.losses.tolist()) == (THETA, LOSS)


def test_of_many_names_some_are_listed() -> None:
    with pytest.raises(InputError, match=r"c19, and 80 more\."):
        read_log({f"c{number}": STEP for number in range(100)})


def test_columns_that_are_no_numbers() -> None:
    log = read_log({"theta": ["a", "b"], "loss": [1.0, 2.0]})
    assert log.value_name == ""
    assert "theta: 'a' in row 1" in log.notes[0]
    with pytest.raises(InputError, match=r"both theta and loss \(loss: '5%' in row 1\)"):
        read_log({"theta": [1.0, 2.0], "loss": ["5%", "4%"]})
    with pytest.raises(InputError, match="one number a row"):
        read_log({"theta": [[1.0], [2.0]], "loss": [[1.0], [2.0]]})


def test_tensors_of_several_numbers_are_no_column() -> None:
    pairs = [torch.ones(2), torch.zeros(2)]
    with pytest.raises(InputError, match="one number a row"):
        read_log({"theta": pairs, "loss": [1.0, 2.0]})


@pytest.mark.parametrize("row", ["7,,0.5,", ",,,", "7,0.5,0.5,", "7,,0.5,none"])
def test_empty_cells_read_the_same_in_any_row(row: str, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    rows = ["1,2,3,4", row, "5,6,7,8", row]
    log.write_text("step,theta,loss,val_loss\n" + "\n".join(rows) + "\n")
    made = tables.read_table(log)
    log.write_text("\n".join(json.dumps(dict(zip(("step", "theta", "loss", "val_loss"),
                   cells.split(","), strict=True))) for cells in rows))  # fmt: skip
    expected = tables.read_table(log)
    for name in ("step", "theta", "loss", "val_loss"):
        np.testing.assert_array_equal(made.columns[name], expected.columns[name])
        np.testing.assert_array_equal(made.marks[name], expected.marks[name])


# What Python or NumPy might read as a number, alone or both.
ODD = ["", "nan", "inf", "-Infinity", "1_0", "0x10", "1d5", "1e999", "5e-324", "nan(1)", "1j",
       '"2.5"', " 3.5 ", "\u0661", "true", "+.5", "1.", "- 1", "1,5", "#"]  # fmt: skip


@pytest.mark.parametrize("block", [1, 7, 5000])
@pytest.mark.parametrize("odd", ODD)
def test_many_lines_at_once_read_as_one_by_one(
    odd: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BLOCK", block)
    random = np.random.default_rng(0)
    rows = [[str(step), *map(repr, random.normal(size=2).tolist())] for step in range(60)]
    rows[31][1] = odd
    lines = [",".join(row) for row in rows]
    lines.insert(9, "# a remark")
    lines.insert(20, "")
    log = tmp_path / "log.csv"
    log.write_bytes(("step,theta,loss\r\n" + "\r\n".join(lines)).encode())
    made = tables.read_table(log)
    monkeypatch.setattr(tables._Lines, "take_numbers", lambda *_: None)
    expected = tables.read_table(log)
    assert len(made) >= 59
    for name in ("step", "theta", "loss"):
        np.testing.assert_array_equal(made.columns[name], expected.columns[name])
        np.testing.assert_array_equal(made.marks[name], expected.marks[name])
    for name in ("unreadable", "skipped", "trouble", "is_cut"):
        assert getattr(made, name) == getattr(expected, name)
    numbers = [float(row[2]) for row in rows if len(made) == 60 or row is not rows[31]]
    assert made.columns["loss"].tolist() == numbers
