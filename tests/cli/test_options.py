"""Options without an effect, repeated ones, and angles whose unit was probably forgotten."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.errors import UsageError

LOSS = "def loss(v):\n    return (v - 0.3) ** 2\n"
TWO = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, first, second):
        return self.scale * first - second
"""
ONES = """
import numpy as np

def ones(theta, wavelength, sigma, psi, gamma, kernel_size):
    return np.ones((kernel_size, kernel_size))
"""
OWN = ["--objective", "loss.py:loss", "--range=-1:1", "--no-plots"]
SMALL = ["--image", "image.npy", "--kernel-size", "9", "--wavelength", "5", "--sigma", "2",
         "--no-plots", "--steps", "3"]  # fmt: skip


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("loss.py").write_text(LOSS)
    Path("two.py").write_text(TWO)
    np.save("image.npy", np.random.default_rng(0).random((24, 24)))


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("sweep", ["--device=cuda", "--wavelength=3", "--images=/nonexistent"]),
        ("sweep", ["--dtype=float32"]),
        ("optimize", ["--direct", "--batch-size=2"]),
        ("optimize", ["--learn=sigma"]),
        ("basins", ["--sigma=4"]),
        ("bifurcate", ["--psi=0"]),
        ("diagnose", ["--image=hopper", "--pixel-scale=1"]),
        ("explore", ["--target-noise=0.1", "--normalize=center"]),
    ],
)
def test_options_of_the_experiment_are_refused_beside_a_custom_objective(
    command: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, *OWN, *options, "--out", "made"]) == 2
    message = capsys.readouterr().err
    for option in options:
        assert option.partition("=")[0] in message
    assert "no effect beside --objective" in message
    assert not Path("made").exists()


def test_config_holds_what_has_an_effect() -> None:
    assert run(["sweep", *OWN, "--target", "0.3", "--quiet", "--out", "made"]) == 0
    config = tomllib.loads(Path("made/config.toml").read_text())
    assert config == {
        "command": "sweep", "over": ["theta"], "seed": 0, "target_theta": 0.3,
        "objective": f"{Path('loss.py').resolve()}:loss", "range": "-1:1",
    }  # fmt: skip
    assert run(["sweep", "--config", "made/config.toml", "--no-plots", "--out", "again"]) == 0
    assert tomllib.loads(Path("again/config.toml").read_text()) == config


@pytest.mark.long
def test_config_works_from_any_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = [0.5**step for step in range(40)]
    rows = [f"{step},{loss}" for step, loss in enumerate(losses)]
    Path("log.csv").write_text("\n".join(["step,loss", *rows]))
    Path("ones.py").write_text(ONES)
    here = Path.cwd()
    calls = {
        "log": (["explain", "log.csv"], f"{here}/log.csv"),
        "objective": (["sweep", *OWN], f"{here}/loss.py:loss"),
        "kernel": (["check", "--kernel", "ones.py:ones"], f"{here}/ones.py:ones"),
        "derivative": (["check", "--derivative", "ones.py:ones"], f"{here}/ones.py:ones"),
    }
    for name, (call, expected) in calls.items():
        assert run([*call, "--no-plots", "--quiet", "--out", name]) == 0
        assert tomllib.loads(Path(name, "config.toml").read_text())[name] == expected
    monkeypatch.chdir("log")
    # The run's own folder may hold a log.csv, too.
    Path("log.csv").write_text("step,loss\n0,1\n")
    assert run(["explain", "--config", "config.toml", "--quiet", "--out", "../again"]) == 0
    one, two = (json.loads((here / n / "result.json").read_text()) for n in ("log", "again"))
    assert one["result"] == two["result"]


def test_config_with_another_setting_of_the_experiment_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The default is what a full configuration holds; it changes nothing.
    Path("full.toml").write_text("sigma = 4.0\n")
    assert run(["sweep", *OWN, "--config", "full.toml", "--quiet"]) == 0
    Path("full.toml").write_text("sigma = 3.0\n")
    assert run(["sweep", *OWN, "--config", "full.toml", "--quiet"]) == 2
    assert "--sigma has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "stray"),
    [
        (["check", "--kernel", "ones.py:ones", "--wrt", "sigma"], "--wrt"),
        (["explore", "--dtype", "float32"], "--dtype"),
        (["explore", "--device", "cuda"], "--device"),
    ],
)
def test_what_a_command_would_ignore_is_refused(
    call: list[str], stray: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("ones.py").write_text(ONES)
    assert run([*call, "--out", "made"]) == 2
    assert f"{stray} has no effect" in capsys.readouterr().err
    assert not Path("made").exists()


def test_keywords_that_would_be_ignored_are_refused() -> None:
    model = torch.nn.Linear(1, 1)
    training = gd.Training(model, [(torch.ones(2, 1), torch.ones(2, 1))], torch.nn.MSELoss())
    with pytest.raises(UsageError, match="direct has no effect"):
        gd.optimize(lambda v: v**2, range=(-1, 1), start=0.5, direct=True)
    with pytest.raises(UsageError, match="params names what is watched"):
        gd.diagnose(training, over="weight")
    with pytest.raises(UsageError, match="wrt has no effect"):
        gd.check(lambda **_: [[1.0]], wrt="sigma")


def test_strict_is_refused_beside_a_single_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["optimize", *SMALL, "--strict"]) == 2
    assert "--strict has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["sweep", "--sigma", "3", "--sigma", "4"],
        ["sweep", "--theta0", "0.1", "--start", "0.2"],
        ["optimize", "--momentum", "0.1", "--momentum=0.2"],
        ["diagnose", "--optimizer", "sgd", "--optimizer", "adam"],
        ["check", "--wrt", "psi", "--wrt", "psi"],
    ],
)
def test_options_with_one_value_are_given_once(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(options) == 2
    assert "is given 2 times" in capsys.readouterr().err


def test_inputs_are_taken_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("first.npy", np.full(5, 2.0))
    np.save("second.npy", np.full(5, 1.0))
    call = ["sweep", "--objective", "two.py:Two", "--param", "scale", "--range=0:3", "--loss",
            "mse", "--target", "1", "--no-plots", "--json", "--quiet"]  # fmt: skip
    assert run([*call, "--input", "first.npy", "--input", "second.npy"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [Path(name).name for name in document["config"]["input"]] == ["first.npy", "second.npy"]
    # At the target the output is 2 - 1; the loss is (2 v - 2)^2, of curvature 8.
    (point,) = document["result"]["critical_points"]
    assert point["value"] == pytest.approx(1)
    assert point["curvature"] == pytest.approx(8)


@pytest.mark.parametrize(
    ("options", "degrees"),
    [
        (["--target", "45"], "2578.31"),
        (["--start", "-45"], "-2578.31"),
        (["--start", "theta=90"], "5156.62"),
        (["--psi", "90"], "5156.62"),
        (["--learn", "theta", "--learn", "sigma", "--start", "-30"], "-1718.87"),
    ],
)
def test_angle_that_looks_like_degrees(
    options: list[str], degrees: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["optimize", *SMALL, *options]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert f"means {degrees} degrees" in line
    assert f"Did you mean {options[-1].removeprefix('theta=')}deg?" in line


@pytest.mark.parametrize(
    "options",
    [
        ["--target", "45deg", "--start=-45deg"],
        ["--target", "6.28"],
        ["--target", "9*pi/4"],
        ["--learn", "wavelength", "--start", "12"],
    ],
)
def test_angles_with_a_unit_and_other_numbers_warn_of_nothing(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["optimize", *SMALL, *options]) == 0
    assert capsys.readouterr().err == ""
