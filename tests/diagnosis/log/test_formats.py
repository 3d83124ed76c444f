"""Logs as other programs write them: the same run in every form, and curves of a loss alone."""

from __future__ import annotations

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

# x -> 1 - 2.4 of it at every step on (x - 1)^2 / 2: sin keeps it bounded; lr L'' = 2.4 at 0.
ROWS: list[dict[str, float]] = []
_x = 0.3
for _t in range(60):
    ROWS.append({"step": _t, "theta": _x, "loss": math.sin(_x) ** 2, "lr": 1.2})
    _x -= 1.2 * math.sin(2 * _x)
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def csv_of(rows: list[dict[str, Any]], separator: str = ",") -> str:
    lines = [separator.join(rows[0]), *(separator.join(map(repr, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


def renamed(**names: str) -> list[dict[str, Any]]:
    return [{names.get(name, name): cell for name, cell in row.items()} for row in ROWS]


def lightning() -> str:
    """metrics.csv: rows of the rate's monitor, of steps, of epochs and of validation."""
    lines = ["epoch,lr-SGD,step,theta,train_loss_epoch,train_loss_step,val_loss"]
    for row in ROWS:
        t = row["step"]
        lines.append(f",1.2,{t},,,,")
        lines.append(f"0,,{t},{row['theta']!r},,{row['loss']!r},")
        if t % 10 == 9:
            lines += [f"0,,{t},,0.5,,", f"0,,{t},,,,0.7"]
    return "\n".join(lines) + "\n"


def huggingface() -> str:
    history: list[dict[str, Any]] = []
    for row in ROWS:
        history.append({"epoch": 0.1, "grad_norm": 2.0, "learning_rate": 1.2, "loss": row["loss"],
                        "step": row["step"], "theta": row["theta"]})  # fmt: skip
        if row["step"] % 10 == 9:
            history.append({"epoch": 0.1, "eval_loss": 0.5, "step": row["step"],
                            "eval_runtime": 1.2 + 0.01 * row["step"]})  # fmt: skip
    history.append({"step": 60, "total_flos": 1.5e15, "train_loss": 0.4, "train_runtime": 9.0})
    state = {"best_metric": None, "global_step": 60, "log_history": history, "max_steps": 60}
    return json.dumps(state, indent=2)


def mlflow(form: str) -> str:
    long = [{"run_id": "a", "key": name, "value": row[name], "step": row["step"], "timestamp": 17}
            for name in ("theta", "loss", "lr") for row in ROWS]  # fmt: skip
    if form == "json":
        return json.dumps({"metrics": long})
    return "run_id,key,value,step,timestamp\n" + "".join(
        f"a,{row['key']},{row['value']!r},{row['step']},17\n" for row in long
    )


def chart(rows: list[dict[str, Any]], *runs: str) -> str:
    """The CSV of a W&B chart: quoted cells, and of each column its extremes within the point."""
    names = [f"{run} - {name}{end}" for run in runs for name in list(rows[0])[1:]
             for end in ("", "__MIN", "__MAX")]  # fmt: skip
    lines = [["Step", *names]]
    for row in rows:
        cells = [repr(cell) for cell in list(row.values())[1:] for _ in range(3)]
        lines.append([str(row["step"]), *cells * len(runs)])
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines)


def wandb_records(rows: list[dict[str, Any]]) -> str:
    """What `wandb leet inspect run.wandb --json` prints."""
    records: list[dict[str, Any]] = [
        {"type": "header", "header": {"version_info": {"producer": "0.31.0"}}},
        {"type": "run", "run": {"config": {"update": {"lr": 1.2}}, "run_id": "fm0um7yu"}},
    ]
    for row in rows:
        item = {"_runtime": 0.5, "_step": row["step"], "_timestamp": 1795963110.8}
        item |= {name: cell for name, cell in row.items() if name != "step"}
        records += [
            {"type": "stats", "stats": {"item": {"memory_percent": 12.2}}},
            {"type": "summary", "summary": {"update": item}},
            {"type": "history", "history": {"item": item, "step": {"num": row["step"]}}},
        ]
    records.append({"type": "exit", "exit": {"exit_code": 0}})
    return "".join(json.dumps({"num": n, **r}) + "\n" for n, r in enumerate(records, 1))


def savetxt() -> str:
    return "# made by a loop\n# step theta loss lr\n" + csv_of(ROWS, " ").split("\n", 1)[1]


def commented() -> str:
    lines = csv_of(ROWS).splitlines(keepends=True)
    return "".join(["# a remark\n", *lines[:20], "# resumed\n", *lines[20:]])


FORMS: dict[str, Callable[[], str]] = {
    "csv": lambda: csv_of(ROWS),
    "semicolons": lambda: csv_of(ROWS, ";"),
    "json lines": lambda: "".join(json.dumps(row) + "\n" for row in ROWS),
    "json rows": lambda: json.dumps(ROWS),
    "json columns": lambda: json.dumps(COLUMNS),
    "keras history": lambda: json.dumps({"params": {"epochs": 60}, "history": COLUMNS}),
    "keras csvlogger": lambda: csv_of(renamed(step="epoch", lr="learning_rate")),
    "lightning": lightning,
    "hugging face": huggingface,
    "mlflow csv": lambda: mlflow("csv"),
    "mlflow json": lambda: mlflow("json"),
    "wandb csv": lambda: chart(ROWS, "easy-sun-7"),
    "wandb records": lambda: wandb_records(ROWS),
    "dataframe json": lambda: json.dumps({n: dict(enumerate(c)) for n, c in COLUMNS.items()}),
    "dataframe split": lambda: json.dumps(
        {"columns": list(COLUMNS), "index": [*range(60)], "data": [[*row.values()] for row in ROWS]}
    ),
    "dataframe index": lambda: json.dumps(dict(enumerate(ROWS))),
    "dataframe table": lambda: json.dumps(
        {"schema": {"fields": [{"name": "index", "type": "integer"}], "primaryKey": ["index"]},
         "data": [{"index": n, **row} for n, row in enumerate(ROWS)]}
    ),
    "wandb json lines": lambda: "".join(
        json.dumps({"_step": row["step"], "_runtime": 1.5, "train/loss": row["loss"],
                    "theta": row["theta"], "train/lr": 1.2}) + "\n" for row in ROWS),
    "savetxt": savetxt,
    "comments": commented,
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_the_same_run_in_every_form(tmp_path: Path, form: str, encoding: str) -> None:
    path, text = tmp_path / "log.txt", FORMS[form]()
    if encoding == "gzip":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        mark = "\ufeff" if encoding == "utf-16-be" else ""
        path.write_bytes((mark + text).encode(encoding))
    log = read_log(path)
    assert log.values.tolist() == COLUMNS["theta"]
    assert log.losses.tolist() == COLUMNS["loss"]
    assert log.steps.tolist() == COLUMNS["step"]
    assert log.lrs is not None
    assert set(log.lrs.tolist()) == {1.2}
    assert log.gradients is None


def test_what_stands_in_rows_of_its_own_is_no_parameter(tmp_path: Path) -> None:
    state = json.loads(huggingface())
    for row in state["log_history"]:
        row.pop("theta", None)
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(state))
    log = read_log(path, needs_value=False)
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


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_wandb_writes_what_is_not_finite_as_text(tmp_path: Path, number: str) -> None:
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
    done = subprocess.run(call, input=FORMS[form]().encode(), capture_output=True, check=False)
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


def mlruns(folder: Path, **names: str) -> Path:
    """The metrics of a run as MLflow keeps them: a file each, lines of time, value and step."""
    for name in ("theta", "loss", "lr"):
        path = folder / names.get(name, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"17959631108{row['step']:02} {row[name]!r} {row['step']}\n" for row in ROWS]
        path.write_text("".join(lines))
    return folder


def test_metric_files_of_mlflow(tmp_path: Path) -> None:
    folder = mlruns(tmp_path / "metrics", loss="train/loss")
    log = read_log(folder)
    assert log.values.tolist() == COLUMNS["theta"]
    assert log.losses.tolist() == COLUMNS["loss"]
    assert log.steps.tolist() == COLUMNS["step"]
    # One file is a curve of its metric.
    curve = read_log(folder / "train/loss", needs_value=False)
    assert (curve.value_name, curve.losses.tolist()) == ("", COLUMNS["loss"])
    # What a model was measured on may follow the step.
    path = folder / "train/loss"
    path.write_text(path.read_text().replace("\n", " images 4f1a\n"))
    assert read_log(folder).losses.tolist() == COLUMNS["loss"]


def test_a_metric_that_is_not_finite(tmp_path: Path) -> None:
    folder = mlruns(tmp_path)
    lines = (folder / "loss").read_text().splitlines()
    lines[40:] = [f"17959631108{t} nan {t}" for t in range(40, 60)]
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
    log = read_log({**moves, "loss": COLUMNS["loss"]}, needs_value=False)
    assert log.value_name == chosen


def test_event_files(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    if importlib.util.find_spec("tensorboard") is None:
        (tmp_path / "run" / "events.out.tfevents.1").write_bytes(b"")
        with pytest.raises(InputError, match="TensorBoard") as caught:
            read_log(tmp_path / "run")
        assert "gabordiag[logs]" in caught.value.advice
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path / "run") as writer:
        for row in ROWS:
            for name in ("theta", "loss", "lr"):
                writer.add_scalar(name, row[name], row["step"])
    for path in (tmp_path / "run", next((tmp_path / "run").iterdir()), tmp_path):
        log = read_log(path)
        # Event files hold single precision.
        assert log.values == pytest.approx(np.array(COLUMNS["theta"]), rel=1e-6)
        assert log.losses == pytest.approx(np.array(COLUMNS["loss"]), rel=1e-6)


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
    varies = name in ("jumps", "level, noise", "batches of one")
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
    assert read_log({**columns, "loss": COLUMNS["loss"]}, needs_value=False).value_name == ""
    # Asked for, or beside a parameter:
    assert read_log({**columns, "loss": COLUMNS["loss"]}, names[0]).value_name == names[0]
    log = read_log({**columns, "angle": COLUMNS["theta"], "loss": COLUMNS["loss"]})
    assert (log.value_name, log.notes) == ("angle", ("the parameter is angle",))


def test_a_curve_downloaded_from_tensorboard(tmp_path: Path) -> None:
    path = tmp_path / "run_theta.csv"
    rows = [{"Wall time": 1.8e9 + row["step"], "Step": 10 * row["step"], "Value": row["loss"]}
            for row in ROWS]  # fmt: skip
    path.write_text(csv_of(rows))
    log = read_log(path, needs_value=False)
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
    curve = read_log({"step": COLUMNS["step"], name: COLUMNS["loss"]}, needs_value=False)
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
