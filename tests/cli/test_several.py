"""Several learned parameters on the command line: names in options, and what is refused."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gabordiag as gd
from gabordiag.cli.main import run

SMALL = ["--image", "image.npy", "--kernel-size=9", "--wavelength=5", "--sigma=2", "--loss=mse"]
TWO = ["--learn", "theta", "--learn", "sigma"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", np.random.default_rng(8).random((33, 29)))


def _call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    code = run([*arguments, "--json", "--no-plots"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def _experiment() -> gd.Experiment:
    return gd.Experiment(image="image.npy", kernel_size=9, wavelength=5, sigma=2, loss="mse")


def test_every_parameter_takes_its_own_rate_and_start(capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--lr", "theta=0.01", "--lr", "sigma=0.1", "--start", "sigma=2.4",
             "--start", "theta=50deg"]  # fmt: skip
    code, shown, err = _call(capsys, "optimize", *SMALL, *TWO, *named, "--steps=30", "--out=one")
    assert code == 0, err
    (found,) = shown["result"]["runs"]
    assert found["lr"] == {"theta": 0.01, "sigma": 0.1}
    assert found["start"] == {"theta": math.radians(50), "sigma": 2.4}
    same = gd.optimize(
        _experiment(), over=("theta", "sigma"), lr={"sigma": 0.1, "theta": 0.01}, steps=30,
        start={"theta": math.radians(50), "sigma": 2.4},
    )  # fmt: skip
    assert list(found["final"].values()) == same.runs[0].final.tolist()
    log = np.genfromtxt("one/trajectory-000.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(log["sigma"], same.runs[0].trajectory.values[:, 1])
    settings = tomllib.loads(Path("one/config.toml").read_text(encoding="utf-8"))
    assert settings["lr"] == ["theta=0.01", "sigma=0.1"]
    code, again, err = _call(capsys, "optimize", "--config", "one/config.toml", "--out", "two")
    assert code == 0, err
    assert again["result"] == shown["result"]


def test_a_start_without_a_name_is_thetas(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, err = _call(
        capsys, "optimize", *SMALL, *TWO, "--start", "20deg", "--steps", "3", "--lr", "0.01"
    )
    assert code == 0, err
    assert shown["result"]["runs"][0]["start"] == {"theta": math.radians(20), "sigma": 2.0}


def test_one_parameter_may_be_named_too(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, err = _call(
        capsys, "optimize", *SMALL, "--lr", "theta=0.1", "--lr", "0.2", "--start", "theta=50deg",
        "--steps", "5",
    )  # fmt: skip
    assert code == 0, err
    assert [found["lr"] for found in shown["result"]["runs"]] == [0.2, 0.1]
    assert {found["start"] for found in shown["result"]["runs"]} == {math.radians(50)}


def test_a_diagnosis_takes_a_rate_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, err = _call(
        capsys, "diagnose", *SMALL, *TWO, "--lr", "theta=0.01", "--lr", "sigma=0.1", "--start",
        "theta=50deg", "--start", "sigma=2.2", "--steps", "300",
    )  # fmt: skip
    assert code == 0, err
    assert shown["result"]["run"]["lr"] == {"theta": 0.01, "sigma": 0.1}
    assert shown["result"]["verdict"] in ("healthy", "step_too_small")


def test_a_logged_run_is_diagnosed_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    rates = ["--lr", "theta=0.05", "--lr", "sigma=0.2"]
    begin = ["--start", "theta=50deg", "--start", "sigma=2.1", "--steps", "300"]
    code, made, err = _call(capsys, "optimize", *SMALL, *TWO, *rates, *begin, "--out=ran")
    assert code == 0, err
    run_, log = made["result"]["runs"][0], "ran/trajectory-000.csv"
    assert run_["outcome"] == "reached"
    code, found, err = _call(capsys, "diagnose", *SMALL, *TWO, "--from-log", log)
    assert code == 0, err
    assert found["result"]["verdict"] == "healthy"
    same = ("lr", "start", "final", "steps", "outcome", "distance_to_target", "hessian")
    assert {name: found["result"]["run"][name] for name in same} == {
        name: run_[name] for name in same
    }
    code, _, err = _call(capsys, "diagnose", *SMALL, *TWO, "--learn", "gamma", "--from-log", log)
    assert (code, "no column 'gamma'" in err) == (2, True)


def test_a_plane_of_starts_takes_one_rate(capsys: pytest.CaptureFixture[str]) -> None:
    code, shown, err = _call(
        capsys, "basins", *SMALL, "--starts", "theta,sigma:3", "--lr", "0.1", "--steps", "30"
    )
    assert code == 0, err
    assert shown["result"]["parameters"] == ["theta", "sigma"]
    assert (shown["config"]["lr"], shown["config"]["steps"]) == ("0.1", 30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimize", *TWO, "--lr", "theta=0.01", "--lr", "0.1"], "cannot be mixed"),
        (["optimize", *TWO, "--lr", "theta=0.01", "--lr", "theta=0.1"], "theta is given twice"),
        (["optimize", *TWO, "--lr", "theta="], "'' is not a number"),
        (["optimize", *TWO, "--lr", "psi=0.1"], "psi=0.1 is for a parameter that is not learned"),
        (["optimize", *TWO, "--start", "psi=0.1"], "psi, which is not learned"),
        (
            [
                "optimize",
                *TWO,
                "--start",
                "0.1",
                "--start",
                "0.2",
                "--start",
                "sigma=2",
                "--start",
                "sigma=3",
                "--start",
                "sigma=4",
            ],
            "2 values of theta, 3 values of sigma",
        ),
        (["optimize", *TWO, "--batch-size", "2"], "batches are drawn from many images"),
        (["optimize", *TWO, "--objective", "math:cos"], "--learn has no effect beside --objective"),
        (["optimize", "--lr", "sigma=0.1"], "sigma is not learned, only theta is"),
        (["diagnose", "--lr", "0.1", "--lr", "0.2"], "a diagnosis is of one run"),
        (["diagnose", *TWO, "--lr", "0.1", "--lr", "0.2"], "a diagnosis is of one run"),
        (["basins", "--starts", "theta,sigma:5", "--lr", "0.1:1:5"], "at one learning rate"),
        (["basins", "--starts", "theta,sigma:1"], "at least 2 starts"),
        (["basins", "--starts", "theta,:5"], "no parameter ''"),
        (["basins", "--starts", "theta,sigma:5", "--optimizer", "lbfgs"], "acts elementwise"),
    ],
)
def test_what_cannot_be_is_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, shown, err = _call(capsys, *arguments, *([] if "--objective" in arguments else SMALL))
    assert (code, shown) == (2, None)
    assert words in err
    assert len(err.splitlines()) <= 2
    assert not Path("runs").exists() or not list(Path("runs").iterdir())
