"""An interrupted run goes on to the same numbers, to the bit; and says what it is until then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gabordiag.cli.main import run
from gabordiag.dynamics.optimizers import OPTIMIZERS, SCHEDULES
from gabordiag.presentation import unfinished
from gabordiag.presentation.blocks import Listing, Paragraph
from gabordiag.runs.files import lock
from gabordiag.runs.saved import UnfinishedRun, list_runs, read_status

FILTER = ["--kernel-size", "9", "--wavelength", "5", "--sigma", "2", "--gamma", "1"]
# A loss with state: it draws random numbers, and counts its own evaluations.
OWN = """
import torch

calls = 0

def plain(value):
    return (value - 1.0) ** 2 + 0.1 * torch.sin(9 * value)

def noisy(value):
    return (value - 1.0 + 0.3 * torch.randn(())) ** 2

def cut(value):
    return (torch.tensor(value.item()) - 1.0) ** 2
"""
RUNS: dict[str, list[str]] = {
    **{name: ["--optimizer", name, "--lr", "0.05"] for name in OPTIMIZERS},
    **{
        f"schedule {name}": ["--momentum", "0.9", "--nesterov", "--schedule", name, "--lr", "0.1"]
        for name in SCHEDULES
    },
    "rmsprop with momentum": ["--optimizer", "rmsprop", "--momentum", "0.5", "--lr", "0.02"],
    "several": ["--optimizer", "sgd", "--optimizer", "adam", "--lr", "0.01", "--lr", "3",
                "--start", "0.1", "--start", "-40deg"],
    "direct": ["--direct", "--optimizer", "adam", "--lr", "0.05"],
    "float32": ["--dtype", "float32", "--optimizer", "nadam", "--lr", "0.05"],
    "root": ["--loss", "rmse", "--lr", "1"],
    "noisy target": ["--target-noise", "0.3", "--seed", "4", "--lr", "1"],
    "wavelength": ["--learn", "wavelength", "--start", "4.4", "--lr", "0.1"],
    "batches": ["--batch-size", "2", "--lr", "0.5", "--momentum", "0.9"],
    "batches of two parameters": ["--batch-size", "2", "--learn", "theta", "--learn", "sigma",
                                  "--optimizer", "adam", "--lr", "0.05"],
    "two parameters from two starts": ["--learn", "theta", "--learn", "sigma", "--lr", "0.05",
                                       "--start", "theta=0.1", "--start", "theta=0.3",
                                       "--start", "sigma=2.5", "--start", "sigma=1.8"],
    "breaks down": ["--learn", "wavelength", "--start", "4.4", "--lr", "1e200", "--momentum",
                    "0.9"],
    **{
        f"own {name}": ["--objective", f"own.py:{name}", "--range", "-3:3", "--start", "0.2",
                        "--optimizer", optimizer, "--lr", "0.05"]
        for name, optimizer in (("plain", "adam"), ("plain", "lbfgs"), ("noisy", "adam"),
                                ("cut", "adamw"))
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    np.save(folder / "image.npy", np.random.default_rng(3).standard_normal((30, 28)))
    (folder / "images").mkdir()
    for seed in range(5):
        image = np.random.default_rng(seed).standard_normal((24, 22))
        np.save(folder / "images" / f"{seed}.npy", image)
    (folder / "own.py").write_text(OWN)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def whole(place: Path) -> Any:
    """Returns a maker of uninterrupted runs, each made once."""

    @cache
    def make(name: str) -> Path:
        folder = place / "whole" / name.replace(" ", "-")
        source = (
            ["--images", "images"] if "--batch-size" in RUNS[name] else ["--image", "image.npy"]
        )
        image = [] if name.startswith("own") else [*source, "--loss", "mse", *FILTER]
        options = [*image, "--steps", "30", *RUNS[name]]
        if "--loss" in RUNS[name]:
            options.remove("--loss")
            options.remove("mse")
        assert run(["optimize", *options, "--no-plots", "--quiet", "--out", str(folder)]) == 0
        return folder

    return make


def interrupt(folder: Path, target: Path, keep: Sequence[float | None]) -> Path:
    """Makes what a kill would have left: logs cut anywhere, nothing written after them.

    Args:
        folder: A finished run.
        target: The new folder.
        keep: Share of the bytes of every log that is kept; None for a log not begun.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    shutil.copy(folder / "config.toml", target)
    status = json.loads((folder / "status.json").read_text())
    (target / "status.json").write_text(json.dumps({**status, "status": "running"}))
    for index, share in enumerate(keep):
        name = f"trajectory-{index:03d}.csv"
        if share is not None:
            content = (folder / name).read_bytes()
            (target / name).write_bytes(content[: int(share * len(content))])
    return target


def result_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "result.json").read_text())
    del content["seconds"]
    return content


def assert_same_run(one: Path, other: Path) -> None:
    assert result_of(one) == result_of(other)
    logs = sorted(path.name for path in one.glob("*.csv"))
    assert logs
    assert logs == sorted(path.name for path in other.glob("*.csv"))
    for name in logs:
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.each(15)
@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("share", [pytest.param(0.03, marks=pytest.mark.slow), 0.61])
def test_resumed_run_is_the_uninterrupted_one(
    place: Path, whole: Any, name: str, share: float
) -> None:
    reference = whole(name)
    count = len(list(reference.glob("trajectory-*.csv")))
    # The runs before are complete, the one in the middle is cut, those after were not begun.
    keep = [1.0] * (count // 2) + [share]
    cut = interrupt(reference, place / "cut", keep)
    assert read_status(cut)["status"] == "interrupted"
    assert run(["optimize", "--resume", str(cut), "--no-plots", "--quiet"]) == 0
    assert_same_run(reference, cut)
    assert read_status(cut)["status"] == "finished"


@pytest.mark.slow
def test_every_cut_of_the_last_line_is_survived(place: Path, whole: Any) -> None:
    reference = whole("adam")
    content = (reference / "trajectory-000.csv").read_bytes()
    line = content.splitlines(keepends=True)[7]
    start = content.index(line)
    for end in range(start, start + len(line) + 1, 5):
        cut = interrupt(reference, place / "cut", [end / len(content) + 1e-9])
        assert run(["optimize", "--resume", str(cut), "--no-plots", "--quiet"]) == 0
        assert_same_run(reference, cut)


@pytest.mark.parametrize("keep", [[], [0.0], [0.4], [1.0]])
def test_interrupted_run_is_reported_and_listed(
    place: Path, whole: Any, keep: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "listed").mkdir(exist_ok=True)
    cut = interrupt(whole("adam"), place / "listed" / "cut", keep)
    assert [entry["status"] for entry in list_runs(place / "listed")] == ["interrupted"]
    capsys.readouterr()
    assert run(["report", str(cut)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "was interrupted" in said
    assert f"--resume {cut}".replace(" ", "") in said.replace(" ", "")
    text = (cut / "report.md").read_text()
    assert "was interrupted" in text
    logged = max(0, len((cut / "trajectory-000.csv").read_bytes().splitlines()) - 2) if keep else 0
    assert (cut / "logged.png").exists() == (logged > 0)


def test_an_unfinished_run_says_how_to_go_on() -> None:
    folder = Path("my runs/one")
    atlas = UnfinishedRun(folder, "atlas", "interrupted", {}, {})
    _, said, again = unfinished.blocks(atlas)
    assert said == Paragraph("There is no result.")
    resume = "gabordiag atlas --resume 'my runs/one'"
    assert again == Listing((f"To continue where it stopped: {resume}",))
    sweep = UnfinishedRun(folder, "sweep", "interrupted", {}, {})
    *_, again = unfinished.blocks(sweep)
    assert "sweep --config 'my runs/one/config.toml'" in again.items[0]
    columns = {name: np.zeros(2) for name in ("step", "theta", "loss")}
    logged = UnfinishedRun(folder, "optimize", "failed", {}, {"trajectory-000.csv": columns})
    assert "holds 1 step." in unfinished.blocks(logged)[1].text


def test_runs_command_lists_the_interrupted(
    place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "some").mkdir(exist_ok=True)
    interrupt(whole("adam"), place / "some" / "cut", [0.5])
    capsys.readouterr()
    assert run(["runs", "some", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    assert entry["status"] == "interrupted"
    assert entry["command"] == "optimize"


def _told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = run(arguments)
    error = capsys.readouterr().err
    assert 1 <= len(error.strip().splitlines()) <= 2
    return code, error


def test_what_cannot_be_resumed(
    place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = whole("adam")
    code, error = _told(capsys, ["optimize", "--resume", str(reference)])
    assert code == 3
    assert "finished" in error
    assert _told(capsys, ["optimize", "--resume", "nowhere"])[0] == 3
    (place / "empty").mkdir(exist_ok=True)
    assert _told(capsys, ["optimize", "--resume", "empty"])[0] == 3
    assert not list((place / "empty").iterdir())


@pytest.mark.parametrize("option", [["--lr", "1"], ["--out", "x"], ["--seed", "3"],
                                    ["--config", "whole/adam/config.toml"]])  # fmt: skip
def test_settings_cannot_change(
    place: Path, whole: Any, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    cut = interrupt(whole("adam"), place / "cut", [0.5])
    code, error = _told(capsys, ["optimize", "--resume", str(cut), *option])
    assert code == 2
    assert option[0] in error
    assert read_status(cut)["status"] == "interrupted"


def test_run_in_progress_is_left_alone(
    place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = interrupt(whole("adam"), place / "cut", [0.5])
    before = (cut / "trajectory-000.csv").read_bytes()
    descriptor = lock(cut / "config.toml")
    assert descriptor is not None
    assert read_status(cut)["status"] == "running"
    code, error = _told(capsys, ["optimize", "--resume", str(cut)])
    assert code == 3
    assert "still" in error
    assert (cut / "trajectory-000.csv").read_bytes() == before


def _edit(path: Path, line: int, cell: int, text: str) -> None:
    lines = path.read_text().splitlines()
    cells = lines[line].split(",")
    cells[cell] = text
    lines[line] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("line", "cell", "text"),
    [(0, 1, "psi"), (1, 1, "0.1"), (1, 2, "7.5"), (5, 0, "9"), (5, 1, "0.25"), (5, 3, "0.25"),
     (5, 4, "0.25"), (5, 3, "x"), (5, 3, "1,1")],
)  # fmt: skip
def test_log_that_was_changed_is_refused(
    place: Path, whole: Any, capsys: pytest.CaptureFixture[str], line: int, cell: int, text: str
) -> None:
    cut = interrupt(whole("adam"), place / "cut", [0.5])
    log = cut / "trajectory-000.csv"
    _edit(log, line, cell, text)
    before = log.read_bytes().rpartition(b"\n")[0]
    assert _told(capsys, ["optimize", "--resume", str(cut)])[0] == 3
    assert log.read_bytes().startswith(before)


def test_other_image_is_noticed(
    place: Path, whole: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = interrupt(whole("adam"), place / "cut", [0.5])
    original = (place / "image.npy").read_bytes()
    try:
        np.save(place / "image.npy", np.random.default_rng(4).standard_normal((30, 28)))
        code, error = _told(capsys, ["optimize", "--resume", str(cut)])
    finally:
        (place / "image.npy").write_bytes(original)
    assert code == 3
    assert "changed" in error
