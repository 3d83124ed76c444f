"""Logs as other programs write them: the same run in every form, and curves of a loss alone."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.diagnosis.log.readers import read_log
from gabordiag.errors import InputError
from tests.diagnosis.log import labelled

# x -> 1 - 2.4 of it at every step on (x - 1)^2 / 2: sin keeps it bounded; lr L'' = 2.4 at 0.
Rows = list[dict[str, Any]]
ROWS: Rows = []
_x = 0.3
for _t in range(60):
    ROWS.append({"step": _t, "theta": _x, "loss": math.sin(_x) ** 2, "lr": 1.2})
    _x -= 1.2 * math.sin(2 * _x)


def csv_of(rows: Rows, separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(map(repr, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def columns_of(rows: Rows) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


COLUMNS = columns_of(ROWS)


def renamed(rows: Rows, **names: str) -> Rows:
    return [{names.get(name, name): cell for name, cell in row.items()} for row in rows]


def lightning(rows: Rows) -> str:
    """metrics.csv: rows of the rate's monitor, of steps, of epochs and of validation."""
    lines = ["epoch,lr-SGD,step,theta,train_loss_epoch,train_loss_step,val_loss"]
    for row in rows:
        t = row["step"]
        lines.append(f",{row['lr']!r},{t},,,,")
        lines.append(f"0,,{t},{row.get('theta', '')!s},,{row['loss']!r},")
        if t % 10 == 9:
            lines += [f"0,,{t},,0.5,,", f"0,,{t},,,,0.7"]
    return "\n".join(lines) + "\n"


def huggingface(rows: Rows) -> str:
    history: Rows = []
    for row in rows:
        history.append({"epoch": 0.1, "grad_norm": 2.0, **renamed([row], lr="learning_rate")[0]})
        if row["step"] % 10 == 9:
            history.append(
                {
                    "epoch": 0.1,
                    "eval_loss": 0.5,
                    "step": row["step"],
                    "eval_runtime": 1.2 + 0.01 * row["step"],
                }
            )
    history.append({"step": 60, "total_flos": 1.5e15, "train_loss": 0.4, "train_runtime": 9.0})
    state = {"best_metric": None, "global_step": 60, "log_history": history, "max_steps": 60}
    return json.dumps(state, indent=2)


def mlflow(rows: Rows, form: str) -> str:
    long = [
        {"run_id": "a", "key": name, "value": row[name], "step": row["step"], "timestamp": 17}
        for name in list(rows[0])[1:]
        for row in rows
    ]
    if form == "json":
        return json.dumps({"metrics": long})
    return "run_id,key,value,step,timestamp\n" + "".join(
        f"a,{row['key']},{row['value']!r},{row['step']},17\n" for row in long
    )


def chart(rows: Rows, *runs: str) -> str:
    """The CSV of a W&B chart: quoted cells, and of each column its extremes within the point."""
    names = [
        f"{run} - {name}{end}"
        for run in runs
        for name in list(rows[0])[1:]
        for end in ("", "__MIN", "__MAX")
    ]
    lines = [["Step", *names]]
    for row in rows:
        cells = [repr(cell) for cell in list(row.values())[1:] for _ in range(3)]
        lines.append([str(row["step"]), *cells * len(runs)])
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines)


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """A row as W&B's JSON has it, which has no NaN."""
    names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    return {name: names.get(str(cell), cell) for name, cell in row.items()}


def wandb_records(rows: Rows) -> str:
    """What `wandb leet inspect run.wandb --json` prints."""
    records: list[dict[str, Any]] = [
        {"type": "header", "header": {"version_info": {"producer": "0.31.0"}}},
        {"type": "run", "run": {"config": {"update": {"lr": 1.2}}, "run_id": "fm0um7yu"}},
    ]
    for row in rows:
        item = {"_runtime": 0.5, "_step": row["step"], "_timestamp": 1795963110.8}
        item |= {name: cell for name, cell in finite(row).items() if name != "step"}
        records += [
            {"type": "stats", "stats": {"item": {"memory_percent": 12.2}}},
            {"type": "summary", "summary": {"update": item}},
            {"type": "history", "history": {"item": item, "step": {"num": row["step"]}}},
        ]
    records.append({"type": "exit", "exit": {"exit_code": 0}})
    return "".join(json.dumps({"num": n, **r}) + "\n" for n, r in enumerate(records, 1))


def savetxt(rows: Rows) -> str:
    return "# made by a loop\n# " + " ".join(rows[0]) + "\n" + csv_of(rows, " ").split("\n", 1)[1]


def commented(rows: Rows) -> str:
    lines = csv_of(rows).splitlines(keepends=True)
    return "".join(["# a remark\n", *lines[:20], "# resumed\n", *lines[20:]])


def split(rows: Rows) -> dict[str, Any]:
    return {
        "columns": list(rows[0]),
        "index": [*range(len(rows))],
        "data": [[*row.values()] for row in rows],
    }


def table(rows: Rows) -> dict[str, Any]:
    return {
        "schema": {"fields": [{"name": "index", "type": "integer"}], "primaryKey": ["index"]},
        "data": [{"index": n, **row} for n, row in enumerate(rows)],
    }


FORMS: dict[str, Callable[[Rows], str]] = {
    "csv": csv_of,
    "semicolons": lambda rows: csv_of(rows, ";"),
    "json lines": lambda rows: "".join(json.dumps(row) + "\n" for row in rows),
    "json rows": json.dumps,
    "json columns": lambda rows: json.dumps(columns_of(rows)),
    "keras history": lambda rows: json.dumps(
        {"params": {"epochs": 60}, "history": columns_of(rows)}
    ),
    "keras csvlogger": lambda rows: csv_of(renamed(rows, step="epoch", lr="learning_rate")),
    "lightning": lightning,
    "hugging face": huggingface,
    "mlflow csv": lambda rows: mlflow(rows, "csv"),
    "mlflow json": lambda rows: mlflow(rows, "json"),
    "wandb csv": lambda rows: chart(rows, "easy-sun-7"),
    "wandb records": wandb_records,
    "dataframe json": lambda rows: json.dumps(
        {name: dict(enumerate(column)) for name, column in columns_of(rows).items()}
    ),
    "dataframe split": lambda rows: json.dumps(split(rows)),
    "dataframe index": lambda rows: json.dumps(dict(enumerate(rows))),
    "dataframe table": lambda rows: json.dumps(table(rows)),
    "wandb json lines": lambda rows: "".join(
        json.dumps({"_runtime": 1.5, **finite(row)}) + "\n"
        for row in renamed(rows, step="_step", loss="train/loss", lr="train/lr")
    ),
    "savetxt": savetxt,
    "comments": commented,
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_run_in_every_form(tmp_path: Path, form: str, encoding: str) -> None:
    path, content = tmp_path / "log.txt", FORMS[form](ROWS)
    if encoding == "gzip":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        path.write_bytes((mark + content).encode(encoding))
    log = read_log(path)
    assert log.values.tolist() == COLUMNS["theta"]
    assert log.losses.tolist() == COLUMNS["loss"]
    assert log.steps.tolist() == COLUMNS["step"]
    assert log.lrs is not None
    assert set(log.lrs.tolist()) == {1.2}
    assert log.gradients is None


def test_what_stands_in_rows_of_its_own_is_no_parameter(tmp_path: Path) -> None:
    state = json.loads(huggingface(ROWS))
    for row in state["log_history"]:
        row.pop("theta", None)
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(state))
    log = read_log(path)
    assert log.value_name == ""
    assert log.losses.tolist() == COLUMNS["loss"]


def test_a_chart_of_wandb_is_read_as_logged(tmp_path: Path) -> None:
    """The gradient, which comes first in the alphabet, is not taken for the parameter."""
    rows = [{"step": r["step"], "grad": math.sin(2 * r["theta"]), "loss": r["loss"],
             "theta": r["theta"]} for r in ROWS]  # fmt: skip
    path = tmp_path / "wandb_export.csv"
    path.write_text(chart(rows, "easy-sun-7"))
    log = read_log(path)
    assert log.value_name == "theta"
    assert log.gradients is not None
    assert log.gradients.tolist() == [row["grad"] for row in rows]
    assert log.notes == ()


def test_a_chart_of_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export.csv"
    other = [{**row, "theta": 7.0 + row["step"] ** 2} for row in ROWS]
    left, right = chart(ROWS, "a").splitlines(), chart(other, "b").splitlines()
    both = (one + "," + two.partition(",")[2] for one, two in zip(left, right, strict=True))
    path.write_text("\n".join(both) + "\n")
    with pytest.raises(InputError, match="2 runs: a, b") as caught:
        read_log(path)
    assert "--loss-column 'a - loss'" in caught.value.advice
    log = read_log(path, loss_column="b - loss")
    assert log.values.tolist() == [row["theta"] for row in other]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_wandb_writes_what_is_not_finite_as_text(tmp_path: Path, number: float) -> None:
    rows: list[dict[str, Any]] = [dict(row) for row in ROWS[:40]]
    rows += [{**row, "loss": number} for row in ROWS[40:]]
    path = tmp_path / "run.jsonl"
    path.write_text(wandb_records(rows))
    found = gd.explain(path)
    assert (found.verdict, found.outcome) == ("nonfinite_gradient", "nonfinite")
    assert "step 40" in found.headline


@pytest.mark.parametrize(
    ("name", "export"), [("run-1.wandb", "leet inspect"), ("h.parquet", "read_parquet")]
)
def test_binary_files_are_refused_with_their_export(tmp_path: Path, name: str, export: str) -> None:
    path = tmp_path / name
    path.write_bytes(b":W&B\xbb\xee\0")
    with pytest.raises(InputError, match="has to be exported") as caught:
        read_log(path)
    assert export in caught.value.advice
    assert str(path) in caught.value.advice


@pytest.mark.each(4)
@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "hugging face", "mlflow csv", "lightning"])
def test_standard_input(tmp_path: Path, form: str) -> None:
    call = [sys.executable, "-m", "gabordiag", "explain", "-", "--json", "--period", "pi",
            "--out", str(tmp_path / "run")]  # fmt: skip
    done = subprocess.run(call, input=FORMS[form](ROWS).encode(), capture_output=True, check=False)
    found = json.loads(done.stdout)["result"]
    assert (found["verdict"], found["outcome"], found["period"]) == ("step_too_large", "cycle", 2)


def test_repeated_json_keys_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"theta": {r["theta"]}, "loss": {r["loss"]}, "loss": 7}}\n'
                            for r in ROWS))  # fmt: skip
    log = read_log(path)
    assert log.losses.tolist() == COLUMNS["loss"]
    assert any("named loss" in note for note in log.notes)


def test_broken_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    packed = gzip.compress(csv_of(ROWS).encode())
    for content in (packed[:100], packed[:20] + b"\0" * 40 + packed[60:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_log(path)


@pytest.mark.parametrize("orient", ["split", "records", "index", "columns", "table"])
def test_what_pandas_writes(tmp_path: Path, orient: str) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "log.json"
    pandas.DataFrame(COLUMNS).to_json(path, orient=orient, double_precision=15)
    log = read_log(path)
    assert log.values == pytest.approx(np.array(COLUMNS["theta"]), rel=1e-12)
    assert log.losses == pytest.approx(np.array(COLUMNS["loss"]), rel=1e-12, abs=1e-14)
    assert log.steps.tolist() == COLUMNS["step"]
    assert log.notes == ()


def mlruns(folder: Path, rows: Rows = ROWS, **names: str) -> Path:
    """The metrics of a run as MLflow keeps them: a file each, lines of time, value and step."""
    for name in list(rows[0])[1:]:
        path = folder / names.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{1795963110800 + row['step']} {row[name]!r} {row['step']}\n" for row in rows]
        path.write_text("".join(lines))
    return folder


def test_metric_files_of_mlflow(tmp_path: Path) -> None:
    folder = mlruns(tmp_path / "metrics", loss="train/loss")
    log = read_log(folder)
    assert log.values.tolist() == COLUMNS["theta"]
    assert log.losses.tolist() == COLUMNS["loss"]
    assert log.steps.tolist() == COLUMNS["step"]
    assert read_log(tmp_path).values.tolist() == COLUMNS["theta"]
    # One file is a curve of its metric.
    curve = read_log(folder / "train/loss")
    assert (curve.value_name, curve.losses.tolist()) == ("", COLUMNS["loss"])
    # What a model was measured on may follow the step.
    path = folder / "train/loss"
    path.write_text(path.read_text().replace("\n", " images 4f1a\n"))
    assert read_log(folder).losses.tolist() == COLUMNS["loss"]


def test_a_metric_that_is_not_finite(tmp_path: Path) -> None:
    folder = mlruns(tmp_path)
    lines = (folder / "loss").read_text().splitlines()
    lines[40:] = [f"{1795963110800 + t} nan {t}" for t in range(40, 60)]
    (folder / "loss").write_text("\n".join(lines))
    found = gd.explain(folder)
    assert (found.verdict, found.outcome) == ("nonfinite_gradient", "nonfinite")
    assert "step 40" in found.headline


@pytest.mark.parametrize("content", [b"", b"0 0.5 1\n", b"\xff" * 900, b"step,theta,loss\n0,1,1\n"])
def test_a_folder_of_other_files_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_log(tmp_path / "empty")
    (mlruns(tmp_path) / "other").write_bytes(content)
    with pytest.raises(InputError, match="is a folder"):
        read_log(tmp_path)


@pytest.mark.parametrize(
    ("value", "loss", "notes"),
    [("theta", "loss", []), ("w", "loss", ["the parameter is w"]),
     ("theta", "train_mse", ["the loss is train_mse"]),
     ("w", "mse", ["the parameter is w; the loss is mse"])],
)  # fmt: skip
def test_the_columns_that_were_read_are_reported(value: str, loss: str, notes: list[str]) -> None:
    columns = {value: COLUMNS["theta"], loss: COLUMNS["loss"]}
    assert gd.explain(columns).to_dict()["notes"] == notes
    # Who names the parameter's column knows it.
    assert gd.explain(columns, value_column=value, loss_column=loss).notes == ()
    curve = gd.explain({loss: COLUMNS["loss"]})
    assert curve.notes == (() if loss == "loss" else (f"the loss is {loss}",))


def test_of_columns_that_differ_the_parameter_is_asked_for() -> None:
    columns = {"entropy": COLUMNS["loss"][::-1], "w": COLUMNS["theta"], "loss": COLUMNS["loss"]}
    with pytest.raises(InputError, match=r"several columns .* entropy, w:") as caught:
        gd.explain(columns)
    assert "--value-column 'loss' --loss-column 'loss'" in caught.value.advice
    named = gd.explain(columns, value_column="w", period=math.pi)
    assert (named.verdict, named.outcome) == ("step_too_large", "cycle")
    alone = gd.explain(columns, value_column="loss", loss_column="loss")
    assert "TrajectoryLogger" in alone.findings[-1].explanation


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [({"a0": 1, "a1": 2}, "a0"), ({"entropy": 1, "param": 2}, "param"),
     ({"entropy": 1, "gabor.theta": 2}, "gabor.theta"), ({"entropy": 1, "w": 2, "grad_w": 3}, "w"),
     ({"sigma": 0, "w": 1}, "w")],
)  # fmt: skip
def test_a_parameter_that_is_plain_is_not_asked_for(columns: dict[str, int], chosen: str) -> None:
    moves = {name: factor * np.array(COLUMNS["theta"]) for name, factor in columns.items()}
    log = read_log({**moves, "loss": COLUMNS["loss"]})
    assert log.value_name == chosen


def events(folder: Path, rows: Rows) -> Path:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder) as writer:
        for row in rows:
            for name in list(row)[1:]:
                writer.add_scalar(name, row[name], row["step"])
    return folder


def test_event_files(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    if importlib.util.find_spec("tensorboard") is None:
        (tmp_path / "run" / "events.out.tfevents.1").write_bytes(b"")
        with pytest.raises(InputError, match="TensorBoard") as caught:
            read_log(tmp_path / "run")
        assert "gabordiag[logs]" in caught.value.advice
        return
    events(tmp_path / "run", ROWS)
    for path in (tmp_path / "run", next((tmp_path / "run").iterdir()), tmp_path):
        log = read_log(path)
        # Event files hold single precision.
        assert log.values == pytest.approx(np.array(COLUMNS["theta"]), rel=1e-6)
        assert log.losses == pytest.approx(np.array(COLUMNS["loss"]), rel=1e-6)
    # As `add_scalars` does, which writes into folders below.
    events(tmp_path / "run" / "both_a", ROWS)
    assert read_log(tmp_path / "run").losses == pytest.approx(np.array(COLUMNS["loss"]), rel=1e-6)
    with pytest.raises(InputError, match="holds 2 runs"):
        read_log(tmp_path)


def test_event_files_of_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.scalar.summary_v2 import scalar_pb
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))
    for row in ROWS:
        for name in ("theta", "loss"):
            writer.add_event(Event(step=row["step"], summary=scalar_pb(name, row[name])))
    writer.close()
    log = read_log(tmp_path)
    assert log.values == pytest.approx(np.array(COLUMNS["theta"]), rel=1e-6)
    assert log.losses == pytest.approx(np.array(COLUMNS["loss"]), rel=1e-6)


def test_parameters_that_never_differ_are_reported() -> None:
    fall = 0.6**1.5 * np.exp(-np.arange(100.0) / 10)
    found = gd.explain({"angle0": fall, "angle1": fall, "loss": fall**2})
    assert any("saddle" in note for note in found.notes)
    assert found.outcome is None


def chaos(lr: float, steps: int) -> np.ndarray:
    """Losses of a descent on sin^2, whose curvature is 2 at its minima."""
    losses, x = [], 0.3
    for _ in range(steps):
        losses.append(math.sin(x) ** 2)
        x -= lr * math.sin(2 * x)
    return np.array(losses)


T = np.arange(300.0)
NOISE = np.random.default_rng(0).standard_normal(300)
FALL = np.exp(-T / 60)
# Losses alone, and the verdicts that a curve can bear.
CURVES: dict[str, tuple[np.ndarray, set[str]]] = {
    "falls": (FALL, {"healthy"}),
    "falls, noise": (FALL + 0.05 * NOISE, {"healthy"}),
    "falls slowly": (2 - T / 400, {"healthy"}),
    "falls below zero": (FALL - 5, {"healthy"}),
    "level": (np.full(300, 1.0), {"no_progress"}),
    "level, noise": (1 + 0.1 * NOISE, {"no_progress"}),
    "guessing": (math.log(10) + 0.01 * NOISE, {"no_progress"}),
    "sawtooth": (1 - 0.08 * (T % 12), {"step_too_large"}),
    "sawtooth, noise": (1 - 0.08 * (T % 12) + 0.01 * NOISE, {"step_too_large"}),
    "chaos": (chaos(2.5, 300), {"step_too_large"}),
    "chaos, noise": (chaos(2.5, 300) + 0.005 * NOISE, {"step_too_large"}),
    # Forty batches in the same order, learned slowly.
    "ordered batches": (1 - T / 3000 + 0.2 * NOISE[:40][np.arange(300) % 40],
                        {"healthy", "no_progress", "inconclusive"}),
    # A mean over the last losses, as programs show it: neighbours are correlated by 0.8.
    "smoothed noise": (2 + 0.3 * np.convolve(NOISE, 0.8 ** np.arange(60))[:300], {"no_progress"}),
    "rounded noise": (1 + 0.3 * np.round(NOISE), {"no_progress"}),
    "right and wrong": (1.0 + (NOISE > 0), {"no_progress"}),
    "correlated noise": (1 + 0.1 * np.convolve(NOISE, 0.8 ** np.arange(30))[:300],
                         {"no_progress"}),
    "cycle": (0.5 + 0.1 * (-1) ** T, {"step_too_large"}),
    "grows": (1.05**T, {"step_too_large"}),
    "explodes": (np.concatenate([FALL[:200], 10.0 ** np.arange(1, 101)]), {"step_too_large"}),
    "breaks": (np.where(T < 200, FALL, math.nan), {"nonfinite_gradient"}),
    "falls back": (np.concatenate([np.linspace(2.3, 1.5, 100), 13.6 * 0.5 ** np.arange(8),
                                   2.3 + 0.005 * NOISE[:192]]), {"step_too_large"}),
    "jumps": (3 + np.minimum(0, NOISE) * 2, {"no_progress"}),
    "batches of one": (0.3 * np.exp(-T / 20) + 1 + 0.2 * NOISE,
                       {"healthy", "no_progress", "inconclusive"}),
    "short": (FALL[:12], {"inconclusive"}),
}  # fmt: skip


@pytest.mark.each(5)
@pytest.mark.parametrize("name", CURVES)
def test_a_loss_alone(name: str) -> None:
    losses, right = CURVES[name]
    found = gd.explain({"step": np.arange(len(losses)), "loss": losses})
    assert found.verdict in right, found.headline
    assert found.outcome == ("nonfinite" if name == "breaks" else None)
    assert "TrajectoryLogger" in found.findings[-1].explanation
    assert ("guessing one of 10" in found.headline) == (name == "guessing")
    varies = name in (
        "jumps",
        "level, noise",
        "batches of one",
        "ordered batches",
        "smoothed noise",
        "rounded noise",
        "right and wrong",
        "correlated noise",
    )
    assert ("a rate that is too large" in found.headline) == varies
    # The same beside a column that is no parameter.
    less = gd.explain({"epoch": np.arange(len(losses)), "loss": losses, "accuracy": losses})
    assert less.verdict == found.verdict


@pytest.mark.parametrize(
    "names",
    [("mae", "val_mae"), ("entropy", "val_entropy"), ("train/f1",), ("weight_decay", "batch_size"),
     ("num_tokens", "samples_per_second"), ("valid/dice",)],
)  # fmt: skip
def test_metrics_and_settings_are_no_parameters(names: tuple[str, ...]) -> None:
    columns = dict.fromkeys(names, COLUMNS["theta"])
    assert read_log({**columns, "loss": COLUMNS["loss"]}).value_name == ""
    # Asked for, or beside a parameter:
    assert read_log({**columns, "loss": COLUMNS["loss"]}, names[0]).value_name == names[0]
    log = read_log({**columns, "angle": COLUMNS["theta"], "loss": COLUMNS["loss"]})
    assert (log.value_name, log.notes) == ("angle", ("the parameter is angle",))


def test_a_curve_downloaded_from_tensorboard(tmp_path: Path) -> None:
    path = tmp_path / "run_theta.csv"
    rows = [{"Wall time": 1.8e9 + row["step"], "Step": 10 * row["step"], "Value": row["loss"]}
            for row in ROWS]  # fmt: skip
    path.write_text(csv_of(rows))
    log = read_log(path)
    assert (log.value_name, log.losses.tolist()) == ("", COLUMNS["loss"])
    assert log.steps.tolist() == [10 * row["step"] for row in ROWS]
    # Beside a loss, or asked for, it is the parameter.
    beside = {"step": COLUMNS["step"], "Value": COLUMNS["theta"], "loss": COLUMNS["loss"]}
    assert read_log(beside).values.tolist() == COLUMNS["theta"]
    with pytest.raises(InputError, match="no loss column"):
        read_log(path, "Value")


@pytest.mark.parametrize(
    "name",
    ["nll", "mse", "RMSE", "error", "objective", "cost", "energy", "criterion", "train/nll",
     "train_mse_step"],
)  # fmt: skip
def test_a_loss_that_is_not_called_so(name: str) -> None:
    log = read_log({name: COLUMNS["loss"], "w": COLUMNS["theta"], "val_mse": COLUMNS["lr"]})
    assert (log.value_name, log.losses.tolist()) == ("w", COLUMNS["loss"])
    curve = read_log({"step": COLUMNS["step"], name: COLUMNS["loss"]})
    assert (curve.value_name, curve.losses.tolist()) == ("", COLUMNS["loss"])
    # A column with 'loss' in its name is preferred, and then an energy may be learned.
    beside = {"energy": COLUMNS["theta"], "my_loss": COLUMNS["loss"]}
    assert read_log(beside).value_name == "energy"


@pytest.mark.parametrize("name", ["val_mse", "error_rate", "angle_error", "mse_of_angle"])
def test_a_measure_is_not_the_loss(name: str) -> None:
    with pytest.raises(InputError, match="--loss-column"):
        read_log({name: COLUMNS["loss"], "theta": COLUMNS["theta"]})


@pytest.mark.parametrize(
    ("others", "chosen"),
    [(("val_loss",), "train_loss"), (("train_loss_epoch",), "train_loss_step"),
     (("loss/val", "loss__MAX"), "loss/train"), (("test/loss", "eval_loss"), "run - loss"),
     (("validation_loss",), "Total Loss")],
)  # fmt: skip
def test_the_loss_of_training_is_chosen(others: tuple[str, ...], chosen: str) -> None:
    columns = {name: np.full(60, 9.0) for name in others}
    log = read_log({**columns, "theta": COLUMNS["theta"], chosen: COLUMNS["loss"]})
    assert log.losses.tolist() == COLUMNS["loss"]


FILES: dict[str, Callable[[Path, Rows], Path]] = {"mlflow files": mlruns, "tensorboard": events}
KINDS = ("healthy", "kink", "too_large", "too_small", "noisy", "frozen", "not_finite", "climbing")


@functools.cache
def fates() -> list[tuple[str, Rows, set[str]]]:
    """Ten runs: eight of a parameter, whose fate algebra knows, and two losses alone."""
    found = []
    for made in labelled.logs(7, 140, 6):
        if made.kind in KINDS[len(found) :][:1] and not made.keywords and "lr" in made.columns:
            steps = np.arange(len(made.columns["loss"])).tolist()
            columns = {"step": steps} | {
                name: made.columns[name].tolist() for name in ("theta", "loss", "lr")
            }
            found.append((made.kind, columns, made.right))
    for kind in ("chaos", "falls, noise"):
        losses, right = CURVES[kind]
        columns = {"step": [*range(300)], "loss": losses.tolist(), "lr": [0.1] * 300}
        found.append((kind, columns, right))
    assert len(found) == 10
    return [
        (
            kind,
            [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
            right,
        )
        for kind, columns, right in found
    ]


@pytest.mark.long
@pytest.mark.each(5)
@pytest.mark.parametrize("form", [*FORMS, *FILES])
def test_runs_of_known_fate_in_every_form(tmp_path: Path, form: str) -> None:
    if form == "tensorboard":
        pytest.importorskip("tensorboard")
    for number, (kind, rows, right) in enumerate(fates()):
        path = tmp_path / str(number)
        if form in FORMS:
            path.write_text(FORMS[form](rows))
        else:
            path = FILES[form](path, rows)
        found = gd.explain(path)
        assert found.verdict in right, (kind, found.headline)
