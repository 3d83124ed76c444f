"""Run folders: whole or absent, nobody else's, and read back to the bit."""

from __future__ import annotations

import errno
import gc
import json
import math
import multiprocessing
import os
import re
import tomllib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gabordiag.errors import InputError, OutputError
from gabordiag.runs import files
from gabordiag.runs.files import TrajectoryFile, write_atomically
from gabordiag.runs.folder import RunFolder, document
from gabordiag.runs.formats import clean, encode_table, read_columns, read_config, to_json, to_toml
from gabordiag.runs.saved import list_runs, load_run, read_status

# TOML text is Unicode without surrogates; NUL and the like have to be escaped.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
SCALARS = st.one_of(TEXT, NUMBERS, st.booleans())
COLUMNS = ["step", "theta", "loss", "grad", "update", "lr"]
SETTINGS = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    st.one_of(SCALARS, st.lists(TEXT), st.lists(NUMBERS), st.lists(st.booleans())),
)


def _same(one: Any, other: Any) -> bool:
    """Equal and of equal type: 1, 1.0 and True are different settings."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


@pytest.mark.slow
@given(SETTINGS)
def test_settings_survive_toml(settings: dict[str, Any]) -> None:
    back = tomllib.loads(to_toml(settings))
    assert back.keys() == settings.keys()
    assert all(_same(back[key], settings[key]) for key in settings)


@pytest.mark.parametrize("value", [1e300, -0.0, 5e-324, 1e16, 0.1, -1e-7, 123456789.123456789])
def test_floats_stay_floats_in_toml(value: float) -> None:
    back = tomllib.loads(to_toml({"x": value}))["x"]
    assert isinstance(back, float)
    assert repr(back) == repr(value)


def test_none_is_left_out_of_toml() -> None:
    assert tomllib.loads(to_toml({"a": None, "b": 1})) == {"b": 1}


def test_what_toml_has_not_is_refused() -> None:
    with pytest.raises(TypeError):
        to_toml({"a": object()})


def test_settings_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write_atomically(path, to_toml({"image": 'C:\\path\n"ü"', "lr": [0.1, 1e-9]}))
    assert read_config(path) == {"image": 'C:\\path\n"ü"', "lr": [0.1, 1e-9]}


@pytest.mark.parametrize("content", [None, b"a = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_unreadable_settings_are_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="config"):
        read_config(path)


def test_json_has_finite_numbers_only() -> None:
    value = {
        "a": math.nan, "b": [math.inf, 1.5, np.float64(-np.inf)], "c": np.arange(3),
        "d": np.bool_(True), "e": (np.int64(2), None), 4: "ü",
    }  # fmt: skip
    text = to_json(value)
    assert json.loads(text) == {
        "a": None, "b": [None, 1.5, None], "c": [0, 1, 2], "d": True, "e": [2, None], "4": "ü",
    }  # fmt: skip
    assert "NaN" not in text
    assert "Infinity" not in text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_json(value: float) -> None:
    assert repr(json.loads(to_json([np.float64(value)]))[0]) == repr(clean(value))


def test_write_replaces_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "a long first version")
    write_atomically(path, b"short")
    assert path.read_bytes() == b"short"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    umask = os.umask(0)
    os.umask(umask)
    # As any program's file, not as private as a temporary one.
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_write_into_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "absent" / "file", "text")


def _finished(path: Path, result: dict[str, Any] | None = None) -> RunFolder:
    settings = {"sigma": 4.0, "image": "hopper", "period": None}
    folder = RunFolder.create(path, "sweep", settings)
    table = {"theta": np.array([0.1, 1 / 3, -2e-300]), "loss": np.array([math.pi, np.inf, np.nan])}
    grid = {"lr": np.geomspace(1e-4, 10, 7), "outcome": np.arange(6, dtype=np.int8).reshape(2, 3),
            "names": np.array(["reached", "cycle"])}  # fmt: skip
    folder.save_data({"sweep.csv": table, "basins.npz": grid})
    files = [*folder.files(), "result.json"]
    folder.finish(document("sweep", settings, 1.25, files, result or {"verdict": "healthy"}))
    return folder


def test_folder_reads_back_what_was_written(tmp_path: Path) -> None:
    _finished(tmp_path / "run")
    saved = load_run(tmp_path / "run")
    assert saved.document["schema"] == 1
    assert saved.document["config"] == {"sigma": 4.0, "image": "hopper"}
    assert saved.document["seconds"] == 1.25
    assert saved.view.result == {"verdict": "healthy"}
    table = saved.view.data["sweep.csv"]
    np.testing.assert_array_equal(table["theta"], [0.1, 1 / 3, -2e-300])
    np.testing.assert_array_equal(table["loss"], [math.pi, np.inf, np.nan])
    grid = saved.view.data["basins.npz"]
    np.testing.assert_array_equal(grid["lr"], np.geomspace(1e-4, 10, 7))
    np.testing.assert_array_equal(grid["outcome"], [[0, 1, 2], [3, 4, 5]])
    assert grid["names"].tolist() == ["reached", "cycle"]
    assert set(saved.document["files"]) <= {entry.name for entry in (tmp_path / "run").iterdir()}


@given(st.lists(st.tuples(st.floats(width=64), st.floats(width=64)), min_size=1, max_size=20))
def test_tables_survive_csv_to_the_bit(tmp_path_factory: Any, rows: list[Any]) -> None:
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate("ab")}
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(encode_table("t.csv", columns))
    back = read_columns(path)
    for name in "ab":
        # NaN's payload is no number; all else, -0.0 included, is compared by its bits.
        assert [repr(v) for v in back[name]] == [repr(v) for v in columns[name]]


def test_steps_are_written_as_integers() -> None:
    columns = {"step": np.arange(3.0), "loss": np.array([0.5, 0.25, 0.125])}
    assert encode_table("t.csv", columns) == b"step,loss\n0,0.5\n1,0.25\n2,0.125\n"


def test_log_is_on_disk_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "trajectory-000.csv"
    log = TrajectoryFile(path, COLUMNS)
    assert path.read_text() == "step,theta,loss,grad,update,lr\n"
    log((0, np.float64(1 / 3), 0.1, -2.0, 1e-17, 0.01))
    # Before it is closed: what was logged survives a kill.
    assert path.read_text().splitlines()[1] == "0,0.3333333333333333,0.1,-2.0,1e-17,0.01"
    log((1, 0.5, 0.1, math.nan, math.inf, 0.01))
    log.close()
    assert path.read_text().splitlines()[2] == "1,0.5,0.1,nan,inf,0.01"
    assert math.isnan(read_columns(path)["grad"][1])


def test_logged_trajectory_is_not_written_again(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "optimize", {})
    log = folder.log("trajectory-000.csv", COLUMNS)
    log((0, 1.0, 2.0, 3.0, 4.0, 5.0))
    folder.save_data({"trajectory-000.csv": {"step": np.array([7.0])}})
    folder.logs.close()
    assert (tmp_path / "run/trajectory-000.csv").read_text().splitlines()[1].startswith("0,1.0")


def test_status_goes_from_running_to_finished(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "sweep", {"sigma": 1.0})

    def status() -> Any:
        return json.loads((tmp_path / "run/status.json").read_text())["status"]

    assert status() == "running"
    assert tomllib.loads((tmp_path / "run/config.toml").read_text()) == {
        "command": "sweep", "sigma": 1.0,
    }  # fmt: skip
    folder.finish(document("sweep", {}, 0.0, [], {}))
    assert status() == "finished"


@pytest.mark.skipif(files.fcntl is None, reason="no locks on this system")
@pytest.mark.parametrize("links", [True, False])
def test_a_run_that_goes_on_is_nobody_elses(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(errno.EPERM, "no hard links on this file system")

    if not links:
        monkeypatch.setattr(files.os, "link", refuse)
    path = tmp_path / "run"
    folder = RunFolder.create(path, "optimize", {})
    assert read_status(path)["status"] == "running"
    with pytest.raises(InputError, match="still being written"):
        RunFolder.resume(path, "optimize")
    folder.lock.close()
    assert read_status(path)["status"] == "interrupted"
    RunFolder.resume(path, "optimize").lock.close()


def test_folder_without_results_can_be_taken_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", "sweep", {})
    folder.discard_if_empty()
    assert not (tmp_path / "run").exists()
    kept = RunFolder.create(tmp_path / "kept", "optimize", {})
    kept.log("trajectory-000.csv", COLUMNS)((0, 1.0, 1.0, 1.0, 1.0, 1.0))
    kept.discard_if_empty()
    assert (tmp_path / "kept/trajectory-000.csv").exists()


@pytest.mark.parametrize("what", ["file", "full"])
def test_place_in_use_is_refused_and_kept(tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    mine = place if what == "file" else place / "mine"
    if what == "full":
        place.mkdir()
    mine.write_text("mine")
    with pytest.raises(OutputError):
        RunFolder.create(place, "sweep", {})
    assert mine.read_text() == "mine"
    assert len(list(tmp_path.rglob("*"))) == (1 if what == "file" else 2)


DAMAGES = {
    "cut": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "a list": lambda text: "[]",
    "nothing known": lambda text: "{}",
    "newer": lambda text: text.replace('"schema": 1', '"schema": 2'),
    "files without names": lambda text: re.sub(r'"files": \[[^]]*\]', '"files": [1]', text),
    "a command without a name": lambda text: re.sub(r'"command": "[^"]*"', '"command": {}', text),
    "settings that are none": lambda text: re.sub(r'"config": \{[^}]*\}', '"config": 3', text),
    "no result": lambda text: text.replace('"result"', '"reslut"'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_and_newer_results_are_refused(tmp_path: Path, damage: str) -> None:
    _finished(tmp_path / "run")
    target = tmp_path / "run/result.json"
    target.write_text(DAMAGES[damage](target.read_text()))
    with pytest.raises(InputError) as caught:
        load_run(tmp_path / "run")
    assert "result.json" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    if damage == "newer":
        assert "2" in caught.value.problem
        assert "Update" in caught.value.advice


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("basins.npz", b""),
        ("sweep.csv", b"theta,loss\n1.0,abc\n"),
        ("sweep.csv", b"theta,loss\n1.0\n"),
        ("sweep.csv", b""),
    ],
)
def test_damaged_data_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    _finished(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        load_run(tmp_path / "run")


def test_archive_cut_short_is_refused(tmp_path: Path) -> None:
    _finished(tmp_path / "run")
    path = tmp_path / "run/basins.npz"
    path.write_bytes(path.read_bytes()[:-30])
    raised = None
    try:
        load_run(tmp_path / "run")
    except Exception as error:
        raised = type(error)
    # NumPy leaves a file open that it could not read.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert raised is InputError


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    _finished(tmp_path / "run")
    objects = np.array([{"a": 1}], dtype=object)
    np.savez(tmp_path / "run/basins.npz", lr=objects)
    with pytest.raises(InputError, match=r"basins\.npz"):
        load_run(tmp_path / "run")


def test_names_outside_the_folder_are_not_followed(tmp_path: Path) -> None:
    _finished(tmp_path / "run")
    (tmp_path / "secret.csv").write_text("a\n1.0\n")
    target = tmp_path / "run/result.json"
    content = json.loads(target.read_text())
    content["files"].append("../secret.csv")
    target.write_text(json.dumps(content))
    assert "../secret.csv" not in load_run(tmp_path / "run").view.data


def test_unfinished_run_is_no_result(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", "sweep", {}).set_status("interrupted")
    with pytest.raises(InputError, match="interrupted"):
        load_run(tmp_path / "run")
    with pytest.raises(InputError):
        load_run(tmp_path / "absent")


def _create_many(root: str, out: str | None, count: int, queue: Any) -> None:
    os.chdir(root)
    made = []
    for _ in range(count):
        try:
            folder = RunFolder.create(None if out is None else Path(out), "sweep", {})
        except OutputError:
            continue
        made.append(str(folder.path))
    queue.put(made)


@pytest.mark.each(3)
@pytest.mark.slow
@pytest.mark.parametrize(("out", "count"), [("new", 1), (None, 25), ("there", 1)])
def test_processes_never_share_a_folder(tmp_path: Path, out: str | None, count: int) -> None:
    (tmp_path / "there").mkdir()
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=_create_many, args=(str(tmp_path), out, count, queue))
        for _ in range(6)
    ]
    for worker in workers:
        worker.start()
    made: list[str] = [path for _ in workers for path in queue.get(timeout=120)]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert len(made) == len(set(made)) == (6 * count if out is None else 1)
    for path in made:
        assert json.loads((tmp_path / path / "status.json").read_text())["command"] == "sweep"
        assert sorted(e.name for e in (tmp_path / path).iterdir()) == ["config.toml", "status.json"]
    if out is None:
        there = sorted(f"runs/{entry.name}" for entry in (tmp_path / "runs").iterdir())
        assert sorted(made) == there


def test_runs_are_listed_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _finished(tmp_path / "b", {"verdict": "kink"})
    _finished(tmp_path / "a", {"runs": [{"outcome": "cycle"}, {"outcome": "cycle"},
                                        {"outcome": "reached"}]})  # fmt: skip
    RunFolder.create(tmp_path / "c", "basins", {})
    (tmp_path / "no run").mkdir()
    (tmp_path / "file").write_text("")
    _set_times(tmp_path, {"b": "2024-01-01", "a": "2024-01-02", "c": "2024-01-03"})
    listed = list_runs(tmp_path)
    assert [Path(entry["run"]).name for entry in listed] == ["b", "a", "c"]
    assert [entry["command"] for entry in listed] == ["sweep", "sweep", "basins"]
    assert [entry["verdict"] for entry in listed] == ["kink", "cycle, reached", None]
    assert [entry["status"] for entry in listed] == ["finished", "finished", "running"]
    assert list_runs(tmp_path / "absent") == []


def _set_times(root: Path, times: dict[str, str]) -> None:
    for name, day in times.items():
        path = root / name / "status.json"
        status = {**json.loads(path.read_text()), "started": f"{day}T00:00:00+00:00"}
        path.write_text(json.dumps(status))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"result": []}',
        "[]",
        '{"result": null}',
    ],
)
def test_list_survives_damaged_folders(tmp_path: Path, content: str) -> None:
    _finished(tmp_path / "run")
    (tmp_path / "run/result.json").write_text(content)
    listed: Sequence[dict[str, Any]] = list_runs(tmp_path)
    assert [entry["verdict"] for entry in listed] == [None]


def test_of_two_that_create_a_file_the_second_is_told(tmp_path: Path) -> None:
    held = files.create_locked(tmp_path / "config.toml", "mine")
    try:
        with pytest.raises(FileExistsError):
            files.create_locked(tmp_path / "config.toml", "theirs")
        assert files.is_held(tmp_path / "config.toml") is True
        assert files.lock(tmp_path / "config.toml") is None
    finally:
        os.close(held)
    assert [entry.name for entry in tmp_path.iterdir()] == ["config.toml"]
    assert (tmp_path / "config.toml").read_text() == "mine"
    assert files.is_held(tmp_path / "config.toml") is False


def test_of_two_that_found_a_folder_empty_the_second_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made"

    def first(path: Path, content: str) -> int:
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr("gabordiag.runs.folder.create_locked", first)
    with pytest.raises(OutputError, match="made"):
        RunFolder.create(out, "sweep", {})
    # It may hold the other's files by now.
    assert out.is_dir()


def test_where_it_cannot_be_known_who_holds_a_file_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert files.is_held(tmp_path / "absent") is None
    (tmp_path / "config.toml").write_text("a = 1")
    # Windows has no fcntl.
    monkeypatch.setattr(files, "fcntl", None)
    assert files.is_held(tmp_path / "config.toml") is None
    descriptor = files.lock(tmp_path / "config.toml")
    assert descriptor is not None
    os.close(descriptor)


def test_a_log_that_is_a_folder_can_be_neither_written_nor_read(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(OutputError, match=r"Cannot write .*log\.csv"):
        TrajectoryFile(tmp_path / "log.csv", COLUMNS)
    with pytest.raises(InputError, match=r"log\.csv cannot be read"):
        files.whole_lines(tmp_path / "log.csv")


def test_a_log_may_be_closed_twice(tmp_path: Path) -> None:
    log = TrajectoryFile(tmp_path / "log.csv", COLUMNS)
    log.close()
    log.close()
    assert (tmp_path / "log.csv").read_text() == "step,theta,loss,grad,update,lr\n"


def test_a_run_of_another_command_is_not_resumed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "made", "sweep", {"sigma": 4.0})
    with pytest.raises(InputError):
        RunFolder.resume(tmp_path / "made", "sweep")
    folder.abandon("interrupted")
    with pytest.raises(InputError, match="holds a run of `sweep`, not `optimize`"):
        RunFolder.resume(tmp_path / "made", "optimize")
    # What a kill left of a file that was being written goes.
    (tmp_path / "made" / ".part-1").write_text("half")
    RunFolder.resume(tmp_path / "made", "sweep").abandon("interrupted")
    assert not (tmp_path / "made" / ".part-1").exists()


def test_a_thousand_runs_of_one_second_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def taken(self: Path, *arguments: Any, **keywords: Any) -> None:
        if self.name != "runs":
            raise FileExistsError(errno.EEXIST, "File exists")
        os.mkdir(self)

    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(OutputError, match="a thousand runs of this second"):
        RunFolder.create(None, "sweep", {})


def test_names_that_are_no_text_are_written_as_their_bytes() -> None:
    # What stands for the byte 0x80 of a name that is not UTF-8, above numbers as above words.
    for value in (1.0, "word", [1.0, [2.0]]):
        text = to_json({"n\udc80": value})
        assert json.loads(text.encode("utf-8")) == {"n\\udc80": value}
