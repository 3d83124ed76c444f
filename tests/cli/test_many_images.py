"""Folders of images and mini-batches on the command line, in-process."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gabordiag.cli.main import run
from gabordiag.cli.session import Bars

FILTER = ["--kernel-size", "9", "--wavelength", "5", "--sigma", "2", "--loss", "mse"]
BROKEN = {"cut.png", "empty.png", "text.jpg"}


def fill(folder: Path, usable: int) -> Path:
    """Small images, three of them broken."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(usable):
        pixels = generator.integers(0, 256, (30 + index % 5, 34), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("this is no image")
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "images", 9)


Call = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command; returns exit code, JSON and stderr."""

    def of(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = run([*arguments, "--json", "--no-plots"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else {}, " ".join(err.split())

    return of


@pytest.mark.parametrize("count", [9, pytest.param(197, marks=pytest.mark.slow)])
def test_a_folder_with_broken_images(call: Call, tmp_path: Path, count: int) -> None:
    folder = fill(tmp_path / "many", count)
    code, shown, err = call("sweep", "--images", "many", *FILTER, "--out", "made")
    assert code == 0
    told = shown["result"]["images"]
    assert told["used"] == count
    assert {entry["file"] for entry in told["skipped"]} == BROKEN
    assert told["surveyed"] == count
    assert told["spurious"] + told["to_target"] == count
    assert f"mean over {count} images" in err
    for name in BROKEN:
        assert f"{name} is" in err
        assert f"{name} is" in (tmp_path / "made" / "report.md").read_text(encoding="utf-8")
    assert f"{told['spurious']} of {count} images ha" in err
    assert shown["config"]["images"] == str(folder)
    assert "image" not in shown["config"]
    assert "images.npz" in shown["files"]


@pytest.mark.slow
def test_the_run_can_be_repeated_and_reported(call: Call, folder: Path, tmp_path: Path) -> None:
    _, first, _ = call("sweep", "--images", "images", *FILTER, "--out", "one")
    _, second, _ = call("sweep", "--config", "one/config.toml", "--out", "two")
    assert second["result"] == first["result"]
    assert run(["report", "one", "--quiet"]) == 0
    assert (tmp_path / "one" / "sweep.png").stat().st_size > 0


@pytest.mark.each(4)
@pytest.mark.parametrize(
    "command",
    [
        ["optimize", "--steps", "20"],
        ["basins", "--lr", "1e-3:1:5", "--starts", "-pi/2:pi/2:5", "--steps", "40"],
        ["bifurcate", "--lr", "1e-2:1:5", "--steps", "200"],
        ["diagnose", "--steps", "100"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_takes_a_folder(call: Call, folder: Path, command: list[str]) -> None:
    code, shown, err = call(*command, "--images", "images", *FILTER)
    assert code == 0
    told = shown["result"]["landscape"]["images"]
    assert told["used"] == 9
    assert {entry["file"] for entry in told["skipped"]} == BROKEN
    assert "cut.png is damaged" in err


def test_several_single_images(call: Call, folder: Path) -> None:
    names = ["images/001.png", "images/cut.png", "images/000.png"]
    options = [option for name in names for option in ("--image", name)]
    code, shown, err = call("sweep", *options, *FILTER, "--out", "one")
    assert code == 0
    assert shown["result"]["images"]["used"] == 2
    assert "images/cut.png is damaged" in err
    kept = tomllib.loads(Path("one/config.toml").read_text(encoding="utf-8"))["image"]
    assert kept == [str(Path(name).resolve()) for name in names]
    _, again, _ = call("sweep", "--config", "one/config.toml")
    assert again["result"]["critical_points"] == shown["result"]["critical_points"]


def test_one_image_is_kept_as_one(call: Call, folder: Path) -> None:
    code, shown, _ = call("sweep", "--image", "images/000.png", *FILTER, "--out", "one")
    assert (code, shown["config"]["image"]) == (0, str(folder / "000.png"))
    assert "images" not in shown["result"]
    assert call("sweep", "--config", "one/config.toml")[1]["result"] == shown["result"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sweep", "--images", "images", "--strict"], 3, "3 of 12 images"),
        (["sweep", "--images", "nowhere"], 3, "No folder at nowhere"),
        (["sweep", "--images", "images/000.png"], 3, "is a file"),
        (["sweep", "--images", "empty"], 3, "holds no images"),
        (["sweep", "--images", "unusable"], 3, "None of the 1 images"),
        (["sweep", "--images", "images", "--image", "pink"], 2, "exclude each other"),
        (["optimize", "--batch-size", "2"], 2, "Give --images DIR"),
        (["optimize", "--images", "images", "--batch-size", "0"], 2, "no batch"),
    ],
)
def test_what_cannot_be_done(
    call: Call, folder: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "unusable").mkdir()
    (tmp_path / "unusable" / "a.png").write_text("no image")
    got, shown, err = call(*arguments, *FILTER)
    assert (got, shown) == (code, {})
    assert words in err
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


@pytest.mark.slow
def test_batches_beside_the_run_without_noise(call: Call, folder: Path, tmp_path: Path) -> None:
    options = ["--images", "images", *FILTER, "--lr", "1e-3", "--steps", "40"]
    code, shown, err = call("optimize", *options, "--batch-size", "4", "--out", "one")
    assert code == 0
    noisy, free = shown["result"]["runs"]
    assert (noisy["batch_size"], free["batch_size"]) == (4, 9)
    assert free["batch"] is None
    assert noisy["batch"]["explanation"] in err
    for index in (0, 1):
        log = (tmp_path / "one" / f"trajectory-00{index}.csv").read_text(encoding="utf-8")
        assert log.startswith("step,theta,loss,grad,update,lr,full_loss\n0,")
        assert len(log.splitlines()) == 42
    again = call("optimize", "--config", "one/config.toml")[1]["result"]["runs"]
    assert again == [noisy, free]
    assert run(["report", "one", "--quiet"]) == 0
    assert (tmp_path / "one" / "optimize.png").exists()
    _, whole, err = call("optimize", *options, "--batch-size", "9")
    assert [run["steps"] for run in whole["result"]["runs"]] == [40]
    assert "hold all images" in err


def test_bars_come_and_go() -> None:
    bars = Bars(hidden=True)
    with bars.shown("working") as tell:
        tell(1, 2)
        for what in ("reading", "convolving"):
            for done in (1, 2, 3):
                bars.tell_images(what, done, 3)
        bars.tell_images("left unfinished", 1, 2)
    assert bars._display.task_ids
    bars.close()
    assert not bars._display.task_ids
    bars.tell_images("alone", 1, 2)
    bars.tell_images("alone", 2, 2)
    assert not bars._display.task_ids
