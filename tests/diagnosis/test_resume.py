"""A watched training that was killed goes on, and ends with the numbers of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.dynamics import checkpoint
from gabordiag.errors import InputError, UsageError

# Shuffled batches, dropout, batch normalisation, a counter that the model reads, draws from NumPy.
TRAIN = """
import os, signal, numpy as np, torch, gabordiag as gd
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

KILL_AT = int(os.environ.get("KILL_AT", "-1"))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gabor = gd.GaborConv2d(1, 3, 5)
        self.norm, self.drop, self.head = nn.BatchNorm2d(3), nn.Dropout(0.3), nn.Linear(3, 3)
        self.calls = 0

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            if self.calls == KILL_AT:
                os.kill(os.getpid(), signal.SIGKILL)
            self.calls += 1
        x = x + 0.01 * np.random.standard_normal() + 0.001 * (self.calls % 7)
        return self.head(self.drop(self.norm(torch.relu(self.gabor(x))).mean(dim=(2, 3))))

def build():
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(60, 1, 9, 9), torch.arange(60) % 3)
    loader = DataLoader(data, batch_size=8, shuffle=True, generator=GENERATOR)
    return gd.Training(Net(), loader, functional.cross_entropy)

GENERATOR = torch.Generator().manual_seed(1) if os.environ.get("OWN") else None
"""
STEPS = 40
SETTINGS = ["--param", "gabor.theta", "--param", "gabor.sigma", "--optimizer", "adam"]
SETTINGS += ["--lr", "0.02", "--schedule", "cosine", "--steps", str(STEPS), "--seed", "3"]
CALL = """
import sys
from gabordiag.dynamics import checkpoint
checkpoint.SAVE_SECONDS, checkpoint._PART = 0.0, 1e9
from gabordiag.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


def call(place: Path, *arguments: str, **environment: str) -> int:
    (place / "train.py").write_text(TRAIN)
    command = [sys.executable, "-c", CALL, "diagnose", *arguments, "--quiet", "--no-plots"]
    path = [str(Path(gd.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    variables = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run(command, cwd=place, env=variables, check=False).returncode


@pytest.mark.slow
@pytest.mark.parametrize(("kill_at", "own"), [(29, "1"), (13, "")])
def test_a_killed_run_ends_with_the_same_numbers(tmp_path: Path, kill_at: int, own: str) -> None:
    start = ["--objective", "train.py:build", *SETTINGS]
    assert call(tmp_path, *start, "--out", "whole", OWN=own) == 0
    killed = call(tmp_path, *start, "--out", "part", OWN=own, KILL_AT=str(kill_at))
    assert killed == -signal.SIGKILL
    assert (tmp_path / "part" / "checkpoint.pt").exists()
    # Steps are written in blocks.
    log = tmp_path / "part" / "trajectory-000.csv"
    assert log.exists() == (kill_at > 21)
    logged = log.read_text() if log.exists() else ""
    assert call(tmp_path, "--resume", "part", OWN=own) == 0
    assert not (tmp_path / "part" / "checkpoint.pt").exists()
    whole, part = (
        json.loads((tmp_path / name / "result.json").read_text())["result"]
        for name in ("whole", "part")
    )
    for result in (whole, part):
        del result["run"]["seconds"]
    assert part == whole
    finished = log.read_text()
    assert finished == (tmp_path / "whole" / "trajectory-000.csv").read_text()
    assert finished.startswith(logged)
    assert len(finished.splitlines()) == STEPS + 2


def made(loss: object = None) -> gd.Training:
    scope: dict = {}
    exec(TRAIN, scope)
    training = scope["build"]()
    return training if loss is None else gd.Training(training.model, training.batches, loss)


@pytest.mark.long
def test_from_python(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PART", 1e9)
    settings: dict = {"optimizer": "adam", "lr": 0.02, "steps": 25, "params": ["gabor.theta"]}
    settings |= {"seeds": 0, "checkpoint": tmp_path / "run.pt"}
    whole = gd.diagnose(made(), **settings)
    assert not (tmp_path / "run.pt").exists()
    losses = 0

    def failing(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        nonlocal losses
        losses += 1
        if losses == 17:
            raise KeyboardInterrupt
        return torch.nn.functional.cross_entropy(output, target)

    with pytest.raises(KeyboardInterrupt):
        gd.diagnose(made(failing), **settings)
    with pytest.raises(UsageError, match="other settings"):
        gd.diagnose(made(), **{**settings, "steps": 26})
    other = made()
    torch.nn.init.zeros_(other.model.head.weight)  # type: ignore[union-attr, arg-type]
    with pytest.raises(UsageError, match="does not begin"):
        gd.diagnose(other, **settings)
    steps: list[int] = []
    again = gd.diagnose(made(), listener=lambda step: steps.append(step.step), **settings)
    assert steps == list(range(26))
    for name in ("losses", "values", "gradients", "lrs", "divisors"):
        np.testing.assert_array_equal(getattr(again.run, name), getattr(whole.run, name))
    assert all(torch.equal(again.run.final[name], t) for name, t in whole.run.final.items())
    assert again.loss == whole.loss
    (tmp_path / "run.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a checkpoint"):
        gd.diagnose(made(), **settings)


def test_what_cannot_be_resumed(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="checkpoint is for a training"):
        gd.diagnose(lambda v: v**2, start=1.0, range=(-2, 2), checkpoint="run.pt")
    (tmp_path / "run").mkdir()
    assert run(["diagnose", "--resume", "run"]) == 3
    assert "no run folder" in capsys.readouterr().err
