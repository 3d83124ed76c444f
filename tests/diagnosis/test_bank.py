"""A bank that learns from another one: the loss is the image's, the remedy brings filters home."""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.diagnosis.bank import ARRIVED, RATE, STEPS, Bank, BankReproduction
from gabordiag.diagnosis.training.kernels import kernel_starts
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.training import rates_of, run_training
from gabordiag.gabor import PARAMETER_NAMES
from gabordiag.own.training import find_watched


def part() -> gd.Experiment:
    """A corner of the photograph."""
    return gd.Experiment(np.array(gd.Experiment().pixels[100:180, 150:230]))


@cache
def made() -> BankReproduction:
    return gd.reproduce_bank(part(), 8, steps=250)


@pytest.mark.slow
def test_the_errors_are_those_of_the_responses_to_the_image() -> None:
    found = made()
    image = torch.tensor(part().pixels)[None, None]
    teacher, (before, after) = torch.tensor(found.teacher_kernels), torch.tensor(found.kernels)
    wanted, given, first = (
        functional.conv2d(image, bank[:, None])[0] for bank in (teacher, after, before)
    )
    power = wanted.square().mean((1, 2))
    errors = (given - wanted).square().mean((1, 2)) / power
    np.testing.assert_allclose(found.errors, errors, rtol=1e-8)
    start = ((first - wanted).square().mean((1, 2)) / power).mean()
    np.testing.assert_allclose(found.diagnosis.run.losses[0], start, rtol=1e-10)


@pytest.mark.long
def test_filters_that_do_not_arrive_have_a_cause_and_are_brought_home() -> None:
    found = made()
    assert 0 < found.arrived < 8
    assert found.arrived_after == 8
    remedy = found.diagnosis.remedies[found.remedy or 0]
    assert remedy.works
    assert remedy.plan.name == "least-squares kernels"
    assert remedy.plan.settings.steps == 250
    for filter_ in found.to_dict()["filters"]:
        assert filter_["arrived"] == (filter_["error"] < ARRIVED)
        assert filter_["arrived"] == (filter_["verdict"] == "healthy")
        assert filter_["arrived"] or filter_["why"]


@pytest.mark.slow
@pytest.mark.parametrize("option", [[], ["--readout"]])
def test_the_command_writes_what_python_gives(
    option: list[str], tmp_path: Path, capsys, monkeypatch
) -> None:
    for name in ("bank.reproduce_bank", "readout.reproduce_readout"):
        short = partial(getattr(gd, name.partition(".")[2]), steps=250)
        monkeypatch.setattr(f"gabordiag.diagnosis.{name}", short)
    np.save(tmp_path / "part.npy", part().pixels)
    place = tmp_path / "run"
    arguments = ["reproduce", "--bank", "2", *option, "--image", str(tmp_path / "part.npy")]
    assert run([*arguments, "--json", "--quiet", "--out", str(place)]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["result"] == json.loads((place / "result.json").read_text())["result"]
    assert len(written["result"]["filters"]) == 2
    assert {"bank.png", "gradients.png", "bank.npz", "trajectory-000.csv"} <= set(written["files"])
    assert run(["report", str(place), "--quiet"]) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--bank", "0"],
        ["--bank", "2", "--animate"],
        ["--readout"],
        ["--bank", "0", "--readout"],
        ["--bank", "2", "--readout", "--image", "noise", "--image", "pink"],
    ],
)
def test_what_cannot_be_is_refused(options: list[str], tmp_path: Path, capsys) -> None:
    assert run(["reproduce", *options, "--out", str(tmp_path / "run")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) <= 2


def layer_and_training(padding: int = 2, **options: object) -> gd.Training:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(6, 1, 24, 24, generator=generator)
    teacher = gd.GaborConv2d(1, 3, 7, padding=padding, theta=[0.2, 1.0, 2.0], sigma=2.0)
    assert teacher.bias is not None
    with torch.no_grad():
        teacher.bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
        target = teacher(images)
    student = gd.GaborConv2d(1, 3, 7, padding=padding, **options)
    return gd.Training(student, [(images, target)], functional.mse_loss)


@pytest.mark.parametrize("options", [{}, {"orientation": "vector"}, {"padding": 0}])
def test_starts_make_the_target(options: dict) -> None:
    training = layer_and_training(**options)
    watched = find_watched(training.model, PARAMETER_NAMES)
    starts, stuck = kernel_starts(training, watched, training.state(), training.fixed(1))
    assert len(starts) == 15
    assert stuck == set(starts)
    state = training.state()
    for element in watched:
        value = torch.tensor([starts[element.label]])
        name = element.name
        state[name] = element.placed(state[name], value)[0]
    training.load(state)
    source, target = training.fixed(1)[0]
    off = (training.model(source) - target).detach()
    # The bias is learned, and is not given.
    assert (off - off.mean((0, 2, 3), keepdim=True)).abs().max() < 1e-4


def test_where_the_target_is_no_response_there_are_no_starts() -> None:
    training = layer_and_training()
    watched = find_watched(training.model, PARAMETER_NAMES)
    arrived = layer_and_training(theta=[0.2, 1.0, 2.0], sigma=2.0, learn=PARAMETER_NAMES)
    arrived.model.load_state_dict(
        {**arrived.model.state_dict(), "bias": torch.tensor([0.5, -1, 2])}
    )
    state = arrived.state()
    # Filters that have arrived are started, too, though none of them is stuck.
    starts, stuck = kernel_starts(arrived, watched, state, arrived.fixed(1))
    assert len(starts) == 15
    assert not stuck
    assert not any(kernel_starts(training, watched[:3], training.state(), training.fixed(1)))
    model = nn.Sequential(training.model, nn.ReLU())
    behind = gd.Training(model, training.batches, training.loss)
    names = [f"0.{name}" for name in PARAMETER_NAMES]
    inside = find_watched(model, names)
    assert not any(kernel_starts(behind, inside, behind.state(), behind.fixed(1)))


@pytest.mark.slow
def test_of_320_pairs_at_least_319_arrive_in_the_steps_of_the_plain_training() -> None:
    settings = OptimizerSettings("adam", RATE, schedule="cosine", steps=STEPS)
    errors: list[list[np.ndarray]] = [[], []]
    for seed in range(5):
        bank = Bank(gd.Experiment(), 64, seed)
        training = bank.training
        watched = find_watched(training.model, PARAMETER_NAMES)
        rates = rates_of(training, watched, RATE, RATE)
        fitted, _ = kernel_starts(training, watched, training.state(), training.fixed(1))
        for found, starts in zip(errors, ({}, fitted), strict=True):
            made = run_training(training, watched, settings, rates, starts=starts)[0]
            found.append(bank.errors(bank.kernels(made.coordinates[-1])))
    plain, helped = (float((np.concatenate(found) < ARRIVED).mean()) for found in errors)
    print(f"\nof 320 pairs {plain:.1%} arrive, from the least-squares kernels {helped:.1%}")
    assert plain < 0.75
    assert helped >= 0.995
