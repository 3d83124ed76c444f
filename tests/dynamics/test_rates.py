"""Windows of learning rates, against the algebra of quadratics and scans by plain loops."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import gabordiag as gd
from gabordiag.cli.main import run
from gabordiag.dynamics import checkpoint
from gabordiag.dynamics.rates import GOAL_SHARE, GOAL_SPREADS, MARGIN
from gabordiag.errors import InputError, UsageError
from gabordiag.presentation.figures.sheets import panels_of
from gabordiag.presentation.registry import KINDS

DENSE = np.geomspace(1e-5, 30, 200_001)


class Bowl(nn.Module):
    """The loss sum_i c_i w_i^2 / 2 from w = 1, in two halves."""

    def __init__(self, *curvatures: float) -> None:
        super().__init__()
        first, *others = torch.tensor(curvatures, dtype=torch.float64)
        self.curvatures = [first, torch.stack(others) if others else first.new_zeros(1)]
        self.first = nn.Linear(1, 1, bias=False, dtype=torch.float64)
        self.other = nn.Linear(len(self.curvatures[1]), 1, bias=False, dtype=torch.float64)
        for part in self.parameters():
            nn.init.ones_(part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.first.weight[0], self.other.weight[0]
        pairs = zip(self.curvatures, parts, strict=True)
        return torch.stack([(c * w**2).sum() / 2 for c, w in pairs]).sum()


def bowl(*curvatures: float) -> gd.Training:
    batches = [(torch.zeros(1), torch.zeros(1))] * 2
    return gd.Training(Bowl(*curvatures), batches, lambda output, target: output)


def ends(curvatures: list[float], lr: Any, steps: int, momentum: float = 0.0) -> np.ndarray:
    """The losses (n,) after so many steps, with rates (n,) for all weights or (weights, n)."""
    rates = np.broadcast_to(lr, (len(curvatures), np.asarray(lr).shape[-1]))
    total = np.zeros(rates.shape[1])
    for c, rate in zip(curvatures, rates, strict=True):
        before = now = np.ones_like(total)
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(steps):
                before, now = now, now - rate * c * now + momentum * (now - before)
            total += c * now**2 / 2
    return np.where(np.isnan(total), np.inf, total)


def true_window(losses: np.ndarray, goal: float) -> tuple[float, float]:
    works = DENSE[losses <= goal]
    return works[0], works[-1]


@pytest.mark.each(9)
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("curvatures", [[1.0], [40.0], [2.0, 0.3]])
def test_the_window_of_a_quadratic(curvatures: list[float], momentum: float) -> None:
    # With more momentum it takes more steps until all that is stable has settled.
    steps, goal = 100 if momentum == 0.9 else 40, 0.02 * sum(curvatures) / 2
    found = gd.rates(bowl(*curvatures), steps=steps, momentum=momentum, goal=goal, seeds=1)
    low, high = true_window(ends(curvatures, DENSE, steps, momentum), goal)
    ((left, right),) = found.to_dict()["working_lr"]
    assert low <= left <= 1.1 * low
    assert high / 1.1 <= right <= high
    if momentum == 0 and len(curvatures) == 1:
        # |1 - lr c|^(2 N) is 0.02.
        reach = 0.02 ** (1 / (2 * steps))
        assert low == pytest.approx((1 - reach) / curvatures[0], rel=1e-3)
        assert high == pytest.approx((1 + reach) / curvatures[0], rel=1e-3)
    rate, margin = found.scans[0].recommended, min(MARGIN, math.sqrt(right / left))
    assert rate is not None
    assert ends(curvatures, [rate], steps, momentum) <= goal
    assert left * margin <= rate * (1 + 1e-8)
    assert rate <= right / margin * (1 + 1e-8)
    assert found.to_dict()["failure_below"] == "unfinished"
    assert found.to_dict()["failure_above"] in ("unsteady", "diverged")


def test_every_ending_is_that_of_the_formula() -> None:
    found = gd.rates(bowl(3.0, 0.5), steps=25, goal=0.1, seeds=2, lr=(1e-2, 1.0, 5))
    for trial in found.to_dict()["trials"]:
        expected = ends([3.0, 0.5], [trial["lr"]], 25)[0]
        assert trial["losses"] == pytest.approx([expected] * len(trial["losses"]))
        reached = expected <= 0.1
        assert (trial["outcome"] == "reached") == reached
        assert len(trial["losses"]) == (2 if reached else 1)


@pytest.mark.long
@pytest.mark.each(3)
@pytest.mark.parametrize("short", [0.999, 1.2, 3.0])
def test_none_works_only_where_a_scan_finds_none(short: float) -> None:
    # A slow and a fast weight: the slow one needs a rate at which the fast one diverges.
    curvatures, steps = [1.0, 60.0], 30
    lowest = ends(curvatures, DENSE, steps).min()
    goal = lowest * short
    found = gd.rates(bowl(*curvatures), steps=steps, goal=goal, seeds=1)
    scanned = []
    for lr in np.geomspace(1e-6, 10, 200):
        training = bowl(*curvatures)
        optimizer = torch.optim.SGD(training.model.parameters(), lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            training.model(torch.zeros(1)).backward()
            optimizer.step()
        scanned.append(training.model(torch.zeros(1)).item())
    assert (found.scans[0].recommended is None) == (min(scanned) > goal)
    assert found.to_dict()["verdict"] == ("no_working_lr" if short < 1 else "working_lr")
    some = ("Learning rates from", "Of the learning rates tried only")
    assert found.headline.startswith("No learning rate" if short < 1 else some)
    if short > 1:
        low, high = found.scans[0].lr[list(found.scans[0].windows[0])]
        assert ("So narrow a window" in found.headline) == (high < 2 * low)
    if short < 1:
        # The search has closed in on the lowest ending.
        assert found.to_dict()["best_loss"] <= 1.3 * lowest


@pytest.mark.slow
def test_groups_get_windows_of_their_own() -> None:
    curvatures, steps = [1.0, 30.0], 60
    goal = 0.02 * sum(curvatures) / 2
    found = gd.rates(
        bowl(*curvatures), steps=steps, goal=goal, seeds=1, params=["first", "other.weight"]
    )
    common, first, other = found.scans
    rest = common.recommended
    assert rest is not None
    assert (first.group, first.rest, other.group) == ("first", rest, "other.weight")
    same = np.full_like(DENSE, rest)
    for scan, rates in ((first, [DENSE, same]), (other, [same, DENSE])):
        low, high = true_window(ends(curvatures, rates, steps), goal)
        ((left, right),) = scan.to_dict()["working_lr"]
        assert low <= left <= 1.1 * low
        assert high / 1.1 <= right <= high
    # The flat weight takes larger steps than the steep one lets all take.
    assert first.recommended > common.lr[common.reached].max() > other.recommended


def test_log_kept_lengths_are_groups() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(gd.GaborConv2d(1, 2, 5), nn.Flatten())
    kept = {name for name, _ in model.named_parameters()}
    x = torch.randn(3, 1, 7, 7)
    training = gd.Training(model, [(x, torch.zeros(3, 18))], functional.mse_loss)
    found = gd.rates(training, steps=3, lr=(1e-3, 1e-1, 2), factor=20, seeds=1, params="0.sigma")
    assert "0.sigma" not in kept
    assert found.scans[1].group == "0.sigma"


def noisy(seed: int = 0) -> gd.Training:
    torch.manual_seed(seed)
    x = torch.randn(48, 5)
    y = (x[:, 0] - x[:, 1] > 0).long()
    model = nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2)
    )
    return gd.Training(
        model, list(zip(x.split(12), y.split(12), strict=True)), functional.cross_entropy
    )


NOISY: dict[str, Any] = {"steps": 25, "lr": (1e-3, 10, 5), "factor": 1.5}


@pytest.mark.long
def test_the_goal_is_near_the_lowest_ending() -> None:
    found = gd.rates(noisy(), optimizer="adam", **NOISY)
    shown = found.to_dict()
    complete = [
        t["losses"] for t in shown["trials"] if len(t["losses"]) == 3 and None not in t["losses"]
    ]
    row = min(complete, key=np.mean)
    fall = shown["start_loss"] - np.mean(row)
    above = max(GOAL_SHARE * fall, GOAL_SPREADS * np.std(row, ddof=1))
    assert shown["goal"] == pytest.approx(np.mean(row) + above)
    for trial in shown["trials"]:
        reached = len(trial["losses"]) == 3 and all(
            x is not None and x <= shown["goal"] for x in trial["losses"]
        )
        assert (trial["outcome"] == "reached") == reached
    ((low, high),) = shown["working_lr"]
    assert low < shown["recommended_lr"] < high


@pytest.mark.long
def test_one_ending_by_a_plain_loop() -> None:
    training = noisy()
    training.model[3].p = 0.0
    found = gd.rates(training, optimizer="adam", momentum=0, **NOISY).to_dict()
    trial = next(t for t in found["trials"] if len(t["losses"]) == 3)
    for seed, loss in enumerate(trial["losses"]):
        again = noisy()
        again.model[3].p = 0.0
        optimizer = torch.optim.Adam(again.model.parameters(), lr=trial["lr"])
        for step in range(NOISY["steps"] + 1):
            x, y = again.batches[(step + seed) % 4]
            optimizer.zero_grad()
            again.loss(again.model(x), y).backward()
            if step < NOISY["steps"]:
                optimizer.step()
        with torch.no_grad():
            assert loss == pytest.approx(
                np.mean([float(again.loss(again.model(x), y)) for x, y in again.batches]), rel=1e-4
            )


def test_no_goal_where_no_training_gets_anywhere() -> None:
    # The loss does not depend on the weights but for rounding: every ending is the start.
    flat = gd.Training(
        nn.Linear(2, 1), [(torch.ones(3, 2), torch.ones(3, 1))], lambda out, y: 0 * out.sum() + 1
    )
    found = gd.rates(flat, steps=3, lr=(1e-3, 1, 4), params="bias")
    assert found.to_dict()["goal"] is None
    assert found.to_dict()["verdict"] == "no_working_lr"
    assert "below that of the start" in found.headline
    assert KINDS["rates"].figures(found.view())["rates"]() is not None


def state_of(training: gd.Training) -> list[Any]:
    model = training.model
    state = {name: t.clone() for name, t in model.state_dict().items()}
    return [state, [m.training for m in model.modules()], torch.get_rng_state()]


@pytest.mark.slow
def test_nothing_is_touched_and_a_seed_gives_one_answer() -> None:
    training = noisy()
    training.model[3].eval()
    before = state_of(training)
    first, again, other = (gd.rates(training, seed=seed, **NOISY) for seed in (0, 0, 1))
    after = state_of(training)
    assert before[1] == after[1]
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert all(p.grad is None for p in training.model.parameters())
    assert first.to_dict() == again.to_dict()
    assert first.to_dict()["trials"] != other.to_dict()["trials"]


def test_code_that_fails_at_large_rates_only() -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if output.item() > 50:
            raise ValueError("too large")
        return output

    training = bowl(1.0)
    training = gd.Training(training.model, training.batches, loss)
    found = gd.rates(training, steps=20, seeds=1, lr=(1e-3, 10, 5), factor=2).to_dict()
    assert found["failure_above"] == "diverged"
    assert found["trials"][-1]["losses"] == [None]
    always = gd.Training(training.model, training.batches, lambda output, target: 1 / 0)
    with pytest.raises(InputError, match="ZeroDivisionError"):
        gd.rates(always)


@pytest.mark.long
@pytest.mark.each(3)
@pytest.mark.parametrize("stop", [2, 7, 20])
def test_an_interrupted_search_goes_on(stop: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(checkpoint, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "_PART", 1e9)
    options: dict[str, Any] = {"steps": 25, "lr": (0.01, 1, 3), "factor": 4, "seeds": 2}
    options["params"] = "4.weight"
    whole = gd.rates(noisy(), **options)
    calls: list[int] = []

    def listen(done: int, total: int, what: str) -> None:
        calls.append(done)
        if len(calls) == stop:
            raise KeyboardInterrupt

    options["checkpoint"] = tmp_path / "rates.pt"
    with pytest.raises(KeyboardInterrupt):
        gd.rates(noisy(), progress=listen, **options)
    resumed: list[int] = []
    again = gd.rates(noisy(), progress=lambda done, total, what: resumed.append(done), **options)
    assert again.to_dict() == whole.to_dict()
    # Neither what was trained before nor the steps of the training that was stopped come again.
    assert resumed[0] >= calls[-1]
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_search_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "rates.pt"

    def stop(done: int, total: int, what: str) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gd.rates(noisy(), checkpoint=place, progress=stop, **NOISY)
    with pytest.raises(UsageError, match="other factor"):
        gd.rates(noisy(), checkpoint=place, **{**NOISY, "factor": 2})
    with pytest.raises(UsageError, match="other model, loss at the start"):
        gd.rates(bowl(1.0), checkpoint=place, **NOISY)


class Zeroed(nn.Module):
    """A network whose last layer begins at zero, and so every one of them with the same loss."""

    def __init__(self, width: int, activation: nn.Module, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(2, width), activation)
        self.last = nn.Linear(width, 1)
        for part in self.last.parameters():
            nn.init.zeros_(part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.body(x))


@pytest.mark.parametrize("other", [(5, nn.ReLU(), 0), (4, nn.GELU(), 0), (4, nn.ReLU(), 1)])
def test_a_checkpoint_of_another_model_with_the_same_loss_is_refused(
    tmp_path: Path, other: tuple[int, nn.Module, int]
) -> None:
    place, batch = tmp_path / "rates.pt", (torch.eye(2), torch.ones(2, 1))

    def search(*model: Any, **more: Any) -> Any:
        training = gd.Training(Zeroed(*model), [batch], functional.mse_loss)
        return gd.rates(training, lr=(1e-3, 1, 4), steps=5, seeds=1, checkpoint=place, **more)

    def stop(done: int, total: int, what: str) -> None:
        if done > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(4, nn.ReLU(), 0, progress=stop)
    with pytest.raises(UsageError, match="other model"):
        search(*other)
    assert search(4, nn.ReLU(), 0).scans[0].start == pytest.approx(1)


def test_the_plan_is_announced_and_kept() -> None:
    said: list[str] = []
    found = gd.rates(noisy(), announce=said.append, **NOISY)
    (plan,) = said
    assert plan.startswith("5 learning rates from 0.001 to 10; ")
    most = int(plan.split("at most ")[1].split()[0])
    # Two borders, each halved from a factor of 10 to one below 1.5; the rate to take; around it
    # three gaps of that factor, in which rates are at most sqrt(2) apart.
    assert most == 3 * (5 + 2 * 3 + 1 + 3 * 7)
    assert found.trainings <= most
    assert "25 steps" in plan


@pytest.mark.long
def test_short_time() -> None:
    said: list[str] = []
    training = noisy()
    found = gd.rates(training, steps=200, max_seconds=1e-6, announce=said.append)
    # Even so: the fewest rates that say something, and the seeds of one.
    assert "5 learning rates" in said[0]
    assert found.trainings == 8
    (left,) = found.left_out
    assert "8 trainings" in left
    assert found.scans[0].recommended in found.scans[0].lr
    with pytest.raises(UsageError, match="too few"):
        gd.rates(training, max_seconds=0)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"factor": 1}, "factor 1,"),
        ({"seeds": 0}, "0 seeds"),
        ({"goal": math.nan}, "goal nan"),
        ({"lr": (1, 0.1, 4)}, "not a valid scan"),
        ({"params": "first.weight[0,0]"}, "whole parameter"),
        ({"params": "others"}, "whole parameter"),
        ({"params": "second"}, "second"),
        ({"optimizer": "adam", "momentum": 0.9}, "no momentum"),
    ],
)
def test_what_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        gd.rates(bowl(1.0), **options)


@pytest.mark.parametrize("subject", [lambda value: value**2, nn.Linear(1, 1), gd.Experiment()])
def test_what_is_no_training(subject: Any) -> None:
    with pytest.raises(UsageError, match="basins and diagnose give working_lr"):
        gd.rates(subject)


def test_a_start_that_is_not_finite() -> None:
    training = gd.Training(
        nn.Linear(1, 1), [(torch.ones(1, 1), 0)], lambda output, y: output.sum() / y
    )
    with pytest.raises(InputError, match="not finite before"):
        gd.rates(training)


@pytest.mark.long
def test_a_result_is_drawn_and_tabulated() -> None:
    pytest.importorskip("pandas")
    found = gd.rates(bowl(1.0, 9.0), steps=20, seeds=2, lr=(1e-2, 1, 4), factor=2, params="first")
    assert found.plot() is not None
    frame = found.to_dataframe()
    assert frame.lr.tolist() == found.scans[0].lr.tolist()
    assert "Learning rates from" in repr(found)
    assert "these learning rates work" in found._repr_html_()
    figure = KINDS["rates"].figures(found.view())["rates"]()
    assert panels_of(figure) == ["rates-0", "rates-1"]


TRAIN = """
import os, torch, gabordiag as gd
from torch import nn

def loss(output, target):
    loss.left -= 1
    if not loss.left:
        raise KeyboardInterrupt
    return nn.functional.mse_loss(output, target)

def build():
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    loss.left = int(os.environ.get("STOP", 0))
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    return gd.Training(model, [(x, x.sum(1, keepdim=True))], loss)

def module():
    return nn.Linear(1, 1)
"""
CALL = [
    "rates", "--objective", "train.py:build", "--steps", "20", "--lr", "1e-3:10:5",
    "--factor", "2", "--seeds", "2", "--json",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


@pytest.mark.slow
def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*CALL, "--param", "2", "--out", "made"]) == 0
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert err.count("at most") == 1
    assert set(shown["files"]) >= {"config.toml", "result.json", "rates.png", "report.md"}
    found = shown["result"]
    assert {
        "verdict",
        "headline",
        "working_lr",
        "recommended_lr",
        "failure_below",
        "failure_above",
    } <= set(found)
    assert [group["parameter"] for group in found["groups"]] == ["2"]
    report = (folder / "made" / "report.md").read_text()
    assert "take | below | above" in report
    assert found["headline"] in " ".join(report.split())
    assert run(["rates", "--config", "made/config.toml", "--json", "--no-plots"]) == 0
    assert json.loads(capsys.readouterr().out)["result"] == found
    assert run(["report", "made", "--quiet"]) == 0
    assert run([*CALL, "--goal", "-1", "--quiet", "--no-plots"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["verdict"] == "no_working_lr"


@pytest.mark.parametrize("stop", [30, 150])
def test_an_interrupted_command_goes_on(
    stop: int, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*CALL, "--out", "whole", "--no-plots"]) == 0
    monkeypatch.setenv("STOP", str(stop))
    assert run([*CALL, "--out", "part", "--no-plots"]) == 130
    monkeypatch.delenv("STOP")
    assert run(["rates", "--resume", "part", "--json", "--no-plots"]) == 0
    whole, part = (json.loads((folder / n / "result.json").read_text()) for n in ("whole", "part"))
    assert part["result"] == whole["result"]
    assert part["files"] == whole["files"]


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        ([], 2, "has to make a gd.Training"),
        (["--objective", "train.py:module"], 2, "`basins` and `diagnose` give working_lr"),
        (["--objective", "train.py:loss"], 2, "`basins` and `diagnose` give working_lr"),
        (["--objective", "absent.py:build"], 3, "absent.py"),
        ([*CALL[1:], "--factor", "1"], 2, "factor"),
        ([*CALL[1:], "--panel", "loss"], 2, "--panel"),
        ([*CALL[1:], "--max-seconds", "0"], 2, "too few"),
    ],
)
def test_what_the_command_refuses(
    options: list[str], code: int, why: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rates", *options]) == code
    assert why in capsys.readouterr().err
    assert not (folder / "runs").exists()
