"""Logs from elsewhere: made by loops written here, read by `explain`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.errors import InputError, UsageError

Columns = dict[str, np.ndarray]


def descent(
    loss: Callable[[float], float],
    slope: Callable[[float], float],
    start: float,
    lr: float,
    steps: int = 200,
) -> Columns:
    """Plain gradient descent, written out."""
    rows, x = [], start
    for step in range(steps):
        g = slope(x)
        rows.append((step, x, loss(x), g, lr))
        x -= lr * g
    names = ("step", "theta", "loss", "grad", "lr")
    return dict(zip(names, np.array(rows).T, strict=True))


def bowl(x: float) -> float:
    return x * x


def bowl_slope(x: float) -> float:
    return 2 * x


def wave(x: float) -> float:
    return math.sin(x) ** 2


def wave_slope(x: float) -> float:
    return math.sin(2 * x)


T = np.arange(240)


def test_sawtooth_is_named_with_its_period() -> None:
    # Falls for 11 steps, jumps back, repeats.
    found = gd.explain({"step": T, "theta": 0.1 * (T % 12), "loss": 1 - 0.08 * (T % 12)})
    # Longer than a third of the tail: no cycle of a run, which the period says all the same.
    assert (found.verdict, found.period) == ("step_too_large", 12)
    assert found.outcome != "cycle"
    assert len(found.jumps) == 19


def test_noisy_sawtooth_is_named_with_its_period() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(240)
    found = gd.explain({"theta": 0.1 * (T % 12), "loss": 1 - 0.08 * (T % 12) + noise})
    assert (found.verdict, found.period) == ("step_too_large", 12)


def test_small_two_cycle_is_named() -> None:
    found = gd.explain({"theta": 1 + 0.01 * (-1.0) ** T, "loss": 0.5 * (1 + 0.01 * (-1.0) ** T)})
    assert (found.outcome, found.period) == ("cycle", 2)


@pytest.mark.each(5)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_decreasing_noisy_loss_raises_no_alarm(noise: float, seed: int) -> None:
    random = np.random.default_rng(seed).standard_normal(240)
    for fall in (np.exp(-T / 80), 1 - T / 240):
        found = gd.explain({"theta": fall, "loss": fall + noise * random})
        assert found.verdict == "healthy"


def test_converged_noise_raises_no_alarm() -> None:
    random = np.random.default_rng(1).standard_normal((2, 240))
    found = gd.explain({"theta": 1 + 0.01 * random[0], "loss": np.exp(-T / 10) + 0.01 * random[1]})
    assert found.verdict == "healthy"


def test_reached() -> None:
    found = gd.explain(descent(bowl, bowl_slope, 1.0, 0.2), target=0.0)
    assert (found.verdict, found.outcome) == ("healthy", "reached")


def test_whole_periods_away_is_the_same_solution() -> None:
    log = descent(wave, wave_slope, 0.3 + 2 * math.pi, 0.2)
    found = gd.explain(log, target=0.0, period=math.pi)
    assert found.verdict == "equivalent_solution"


def test_settled_elsewhere() -> None:
    log = descent(wave, wave_slope, 0.3, 0.2)
    found = gd.explain(log, target=math.pi / 2, period=math.pi)
    assert (found.verdict, found.outcome) == ("wrong_basin", "local_minimum")


def test_curvature_is_seen_in_secants() -> None:
    # At the centre of the wave L'' = 2: lr 1.2 gives 2.4 there, and in a 2-cycle the secant's
    # product is 2 exactly: the steps cancel, so g1 = -g0 and x1 - x0 = -lr g0.
    found = gd.explain(descent(wave, wave_slope, 0.3, 1.2), period=math.pi)
    assert (found.verdict, found.period) == ("step_too_large", 2)
    evidence = found.findings[0].evidence
    assert evidence["lr_times_curvature"] == pytest.approx(2.0, abs=1e-6)


def test_kink() -> None:
    log = descent(lambda x: 2 * abs(x), lambda x: math.copysign(2.0, x), 0.33, 0.1)
    found = gd.explain(log)
    assert (found.verdict, found.period) == ("kink", 2)
    assert found.findings[0].evidence["slope"] == pytest.approx(2.0)


def test_chaos() -> None:
    found = gd.explain(descent(wave, wave_slope, 0.3, 3.0), period=math.pi)
    assert (found.verdict, found.outcome) == ("step_too_large", "erratic")


def test_wrapped_and_unwrapped_angles_are_the_same() -> None:
    log = descent(wave, wave_slope, 0.3, 1.9)
    wrapped = {**log, "theta": (log["theta"] + math.pi / 2) % math.pi - math.pi / 2}
    one, other = (gd.explain(columns, period=math.pi) for columns in (log, wrapped))
    assert one.verdict == other.verdict
    assert one.period == other.period


def test_frozen() -> None:
    found = gd.explain({"theta": np.ones(50), "loss": np.ones(50), "grad": np.zeros(50)})
    assert found.verdict == "no_gradient"
    # In a minimum no gradient is due.
    assert found.possible == ("reached", "local_minimum", "frozen")


def test_divergence_and_broken_gradient() -> None:
    grown = descent(bowl, bowl_slope, 1.0, 5.0, steps=400)
    found = gd.explain(grown)
    assert (found.verdict, found.outcome) == ("step_too_large", "nonfinite")
    broken = descent(bowl, bowl_slope, 1.0, 0.1)
    broken["grad"][120] = math.nan
    found = gd.explain(broken)
    assert found.verdict == "nonfinite_gradient"
    assert found.findings[0].evidence["step"] == 120


def test_too_short_says_how_many() -> None:
    found = gd.explain({"theta": np.arange(5.0), "loss": np.arange(5.0)})
    assert found.verdict == "inconclusive"
    assert "20" in found.headline


def test_says_what_a_log_cannot_tell() -> None:
    found = gd.explain(descent(bowl, bowl_slope, 1.0, 0.2))
    assert any("cannot show" in finding.explanation for finding in found.findings)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_and_json_lines_agree(tmp_path: Path) -> None:
    log = descent(wave, wave_slope, 0.3, 1.2)
    rows = [dict(zip(log, row, strict=True)) for row in zip(*log.values(), strict=True)]
    head = ",".join(log) + "\n"
    body = "".join(",".join(repr(float(v)) for v in row.values()) + "\n" for row in rows)
    table = write(tmp_path / "log.csv", head + body)
    lines = write(
        tmp_path / "log.jsonl",
        "".join(json.dumps({k: float(v) for k, v in row.items()}) + "\n" for row in rows),
    )
    assert gd.explain(table).to_dict() == gd.explain(lines).to_dict() == gd.explain(log).to_dict()


def test_columns_by_option(tmp_path: Path) -> None:
    rows = "".join(f"{i},{math.exp(-i / 20)!r},{i * 0.5}\n" for i in range(60))
    path = write(tmp_path / "log.csv", "n,quality,angle\n" + rows)
    found = gd.explain(path, value_column="angle", loss_column="quality")
    assert found.steps == 60
    with pytest.raises(UsageError, match="angel"):
        gd.explain(path, value_column="angel", loss_column="quality")
    with pytest.raises(InputError, match="loss"):
        gd.explain(path)


def test_a_line_that_was_cut_off_is_skipped(tmp_path: Path) -> None:
    rows = "".join(f"{i},{1 / (i + 1)!r},{1 / (i + 1)!r}\n" for i in range(60))
    path = write(tmp_path / "log.csv", "step,theta,loss\n" + rows + "60,0.0")
    assert gd.explain(path).steps == 60


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no rows"),
        (b"step,theta,loss\n", "no rows"),
        (b"hello\n", "no rows"),
        (b"step,theta,loss\nx,y,z\na,b,c\n", "no rows"),
        (b"\xff\xfe\x00\x01", "no rows"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"step,theta,loss\n\xff,1,2\n", "UTF-8"),
        (b"step,theta\n1,2\n3,4\n", "loss"),
        (b"[1, 2, 3]\n[4]\n", "loss|no rows"),
    ],
)
def test_unusable_logs_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        gd.explain(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No log"):
        gd.explain(tmp_path / "nothing.csv")
    with pytest.raises(InputError, match="folder"):
        gd.explain(tmp_path)


@pytest.mark.parametrize("name", ["period", "target"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_refused(name: str, number: float) -> None:
    with pytest.raises(UsageError, match=f"{name} .* finite"):
        gd.explain({"theta": T, "loss": T}, **{name: number})


def test_a_sawtooth_in_noise_is_known_by_its_jumps() -> None:
    # Every tooth has another height, so that neither loss nor value repeat; the jumps do.
    heights = 1 + 0.15 * np.random.default_rng(0).standard_normal(20)
    tooth = np.repeat(heights, 12) * (T % 12)
    found = gd.explain({"theta": 0.1 * tooth, "loss": 1.5 - 0.08 * tooth})
    assert (found.verdict, found.period) == ("step_too_large", 12)


@pytest.mark.parametrize("lr", [0.003, 0.05, 0.5])
@pytest.mark.parametrize("forgets", [True, False])
def test_gradients_that_add_up_are_no_step_too_large(lr: float, forgets: bool) -> None:
    # Without zero_grad() x'' = -lr dL/dx: an oscillation that no rate damps.
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=lr)
    rows = []
    for step in range(300):
        if not forgets:
            optimizer.zero_grad()
        loss = torch.sin(theta) ** 2
        loss.backward()
        rows.append((step, theta.item(), loss.item(), float(theta.grad), lr))
        optimizer.step()
    names = ("step", "theta", "loss", "grad", "lr")
    found = gd.explain(dict(zip(names, np.array(rows).T, strict=True)))
    assert (found.verdict == "wrong_gradient") == forgets
    assert ("zero_grad()" in found.headline) == forgets


def test_a_parameter_that_no_optimizer_holds() -> None:
    found = gd.explain({"theta": np.ones(50), "loss": np.ones(50), "grad": np.full(50, 0.3)})
    assert found.verdict == "no_gradient"
    assert found.outcome is None
    assert "the optimizer does not hold it" in found.headline


def test_chaos_without_gradients_is_told_without_a_curvature() -> None:
    log = descent(wave, wave_slope, 0.3, 3.0)
    found = gd.explain({name: log[name] for name in ("theta", "loss", "lr")}, period=math.pi)
    assert (found.verdict, found.outcome) == ("step_too_large", "erratic")
    assert set(found.findings[0].evidence) == {"jumps", "spread"}
    assert "try 0.3 instead of 3" in found.headline


def test_still_on_its_way_to_a_target() -> None:
    # With the target known, still descending is a verdict; without it, no complaint.
    fall = 2 - T / 240
    found = gd.explain({"theta": fall, "loss": fall**2}, target=0.0)
    assert found.verdict == "step_too_small"
    assert "unfinished" in found.possible
    assert gd.explain({"theta": fall, "loss": fall**2}).verdict == "healthy"


def likelihood(x: float) -> float:
    return math.log(x) + 1 / (2 * x * x)


def likelihood_slope(x: float) -> float:
    return 1 / x - 1 / x**3


@pytest.mark.parametrize("names", [("theta", "loss", "grad", "lr"), ("theta", "loss")])
def test_a_step_past_the_target_that_left_the_run_farther_away(names: tuple[str, ...]) -> None:
    # L'(0.2) = -120: to 6.2, where 200 steps of 0.05 x 0.16 do not make up for it. A tenth arrives.
    log = descent(likelihood, likelihood_slope, 0.2, 0.05)
    found = gd.explain({name: log[name] for name in names}, target=1.0)
    assert (found.verdict, found.findings[0].evidence["thrown_at"]) == ("step_too_large", 0)
    assert "raise" not in found.headline
    assert descent(likelihood, likelihood_slope, 0.2, 0.005, 2000)["theta"][-1] == pytest.approx(1)
    # From 0.5, whose slope is -6, it has not been so far away.
    near = descent(likelihood, likelihood_slope, 0.5, 0.005)
    assert gd.explain(near, target=1.0).verdict == "step_too_small"


def test_a_schedules_last_rate_is_not_the_one_to_change() -> None:
    # sin(v)^2 with warm restarts: thrown about at 3, the top, not by the last rate, 0.0185.
    rates = 1.5 * (1 + np.cos(np.pi * (T % 20) / 20))
    value, rows = 0.3, []
    for lr in rates:
        rows.append((value, math.sin(value) ** 2))
        value -= lr * math.sin(2 * value)
    values, losses = np.array(rows).T
    found = gd.explain({"theta": values, "loss": losses, "lr": rates}, period=math.pi)
    assert found.verdict == "step_too_large"
    assert f"try 0.3 instead of {rates.min():g} to 3" in found.headline


def test_a_run_that_left_a_better_place() -> None:
    # Down to zero, then off to 0.8, where it stays: loss 0.64.
    path = np.concatenate([np.linspace(1, 0, 60), np.linspace(0, 0.8, 60), np.full(120, 0.8)])
    found = gd.explain({"theta": path, "loss": path**2, "lr": np.full(240, 0.3)})
    assert found.verdict == "step_too_large"
    evidence = found.findings[0].evidence
    assert evidence["last"] == pytest.approx(0.64)
    assert evidence["best"] < 0.05
    assert "0.03 instead of 0.3" in found.headline


@pytest.mark.parametrize(("turns", "words"), [(-1, "minus 1 period,"), (3, "plus 3 periods,")])
def test_turns_are_counted_from_the_target(turns: int, words: str) -> None:
    log = descent(wave, wave_slope, 0.3 + turns * math.pi, 0.2)
    found = gd.explain(log, target=0.0, period=math.pi)
    assert found.verdict == "equivalent_solution"
    assert words in found.headline


def test_columns_may_be_tensors_and_hold_what_is_no_number() -> None:
    theta, loss = torch.linspace(1, 0, 60), [torch.tensor(float(v)) for v in range(60, 0, -1)]
    found = gd.explain({"name": ["run"] * 60, "theta": theta, "loss": loss})
    assert (found.verdict, found.steps) == ("healthy", 60)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({}, "different lengths, or there are none"),
        ({"theta": [1.0, 2.0], "loss": [1.0]}, "different lengths"),
        ({"theta": ["a", "b"], "other": [1.0, 2.0]}, "no loss column"),
        ({"theta": np.ones((30, 2)), "loss": np.ones(30)}, "one number a row"),
    ],
)
def test_unusable_columns_are_refused(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        gd.explain(columns)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_any_short_log_says_how_many_it_has(count: int) -> None:
    columns = {"theta": np.linspace(0, 1, count), "loss": np.linspace(1, 0, count)}
    if count == 0:
        with pytest.raises(InputError):
            gd.explain(columns)
        return
    few = "1 step is too few" if count == 1 else f"{count} steps are too few"
    assert few in gd.explain(columns).headline


def test_json_may_hold_null_and_true(tmp_path: Path) -> None:
    rows = [{"step": i, "ok": True, "theta": 1 - i / 60, "loss": (1 - i / 60) ** 2, "grad": None}
            for i in range(60)]  # fmt: skip
    path = write(tmp_path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert gd.explain(path).verdict == "healthy"


def test_a_field_that_no_csv_may_hold(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "step,theta,loss\n0,1," + "9" * 200_000 + "\n")
    with pytest.raises(InputError, match="cannot be read as a log"):
        gd.explain(path)


def test_climbing_is_no_healthy_run() -> None:
    # The sign of the derivative is wrong: from 0.3 up to the maximum at pi / 2.
    log = descent(wave, lambda x: -wave_slope(x), 0.3, 0.02)
    found = gd.explain({name: log[name] for name in ("theta", "loss")})
    assert found.verdict == "wrong_gradient"
    assert "sign" in found.headline


@pytest.mark.parametrize(("momentum", "lr"), [(0.0, 1.02), (0.9, 2.1)])
def test_divergence_that_is_still_finite_is_told(momentum: float, lr: float) -> None:
    # Heavy ball on x^2 rests below 2 (1 + beta) / L'' = 1 + beta.
    x, velocity, rows = 0.5, 0.0, []
    for _ in range(200):
        rows.append((x, bowl(x)))
        velocity = momentum * velocity + bowl_slope(x)
        x -= lr * velocity
    values, losses = np.array(rows).T
    found = gd.explain({"theta": values, "loss": losses})
    assert found.verdict == "step_too_large"
    assert "grows without bound" in found.headline


def test_oscillation_that_decays_is_no_cycle() -> None:
    # Heavy ball, momentum 0.9, lr 0.5 on x^2: the factors have the modulus sqrt(0.9).
    x, velocity, rows = 1.0, 0.0, []
    for _ in range(400):
        rows.append((x, bowl(x)))
        velocity = 0.9 * velocity + bowl_slope(x)
        x -= 0.5 * velocity
    values, losses = np.array(rows).T
    assert gd.explain({"theta": values, "loss": losses}).verdict == "healthy"


def test_resting_at_the_target_is_healthy() -> None:
    columns = {"theta": np.full(60, 0.5), "loss": np.zeros(60), "grad": np.zeros(60)}
    assert gd.explain(columns, target=0.5).verdict == "healthy"


def test_parameter_is_a_column_that_moves() -> None:
    log = descent(bowl, bowl_slope, 1.0, 0.1)
    columns = {"sigma": np.full(200, 4.0), "val_acc": log["loss"], "w": log["theta"], **log}
    del columns["theta"]
    found = gd.explain(columns)
    assert found.verdict == "healthy"
    assert found.notes == ("the parameter is w, not sigma",)


def test_rows_far_apart_are_told() -> None:
    log = descent(bowl, bowl_slope, 1.0, 0.05)
    found = gd.explain({name: column[::10] for name, column in log.items()})
    assert found.notes == ("rows are 10 steps apart; what happens between them is not seen",)


def test_degrees_beside_a_target_in_radians() -> None:
    values = 45 + 10 * 0.9 ** np.arange(200)
    found = gd.explain(
        {"theta": values, "loss": (values - 45) ** 2}, target=math.pi / 4, period=math.pi
    )
    assert found.verdict == "inconclusive"
    assert "in degrees is the target" in found.headline


@pytest.mark.long
@pytest.mark.parametrize(("height", "waves"), [(0.05, 3), (0.1, 2), (0.02, 5)])
def test_momentum_beyond_its_bound_swings_about_the_target(height: float, waves: int) -> None:
    # ln cosh x + h (1 - cos k x): the minimum at 0 has the curvature 1 + h k^2, and heavy ball is
    # unstable there beyond 2 (1 + momentum) / curvature. Far out the slope is 1 at most, so that no
    # run is thrown out for good: it swings.
    curvature, verdicts = 1 + height * waves**2, []
    for momentum in (0.9, 0.95, 0.99):
        for factor in (1.2, 2, 4, 8):
            lr = factor * 2 * (1 + momentum) / curvature
            x, velocity, rows = 2.0, 0.0, []
            for _ in range(400):
                slope = math.tanh(x) + height * waves * math.sin(waves * x)
                loss = np.logaddexp(x, -x) - math.log(2) + height * (1 - math.cos(waves * x))
                rows.append((x, loss, slope, lr))
                velocity = momentum * velocity + slope
                x -= lr * velocity
            log = dict(zip(("theta", "loss", "grad", "lr"), np.array(rows).T, strict=True))
            verdicts.append(gd.explain(log, target=0.0).verdict)
    # Chaos may look like noise; steps beyond |x| = 1 see a kink.
    assert sum(verdict in ("step_too_large", "kink") for verdict in verdicts) >= 11
    assert not {"no_progress", "wrong_gradient", "wrong_basin"} & set(verdicts)


def test_two_columns_of_one_name_are_refused() -> None:
    pandas = pytest.importorskip("pandas")
    log = pandas.DataFrame({"theta": np.arange(60.0), "loss": 1.0, "other": 2.0})
    log.columns = ["theta", "loss", "loss"]
    with pytest.raises(InputError, match="two columns are named loss"):
        gd.explain(log)


def test_a_target_of_a_loss_alone_is_refused() -> None:
    log = {"step": np.arange(50), "loss": np.geomspace(1, 0.1, 50)}
    for keywords in ({"target": 0.5}, {"period": math.pi}):
        with pytest.raises(UsageError, match="says nothing of a loss alone"):
            gd.explain(log, **keywords)


def regression(noise: float, lr: float, epochs: int = 300) -> Columns:
    """Least squares of 25 weights on 30 samples by plain descent, with losses on 2,000 others."""
    random = np.random.default_rng(4)
    true = random.standard_normal(25) / 5
    inputs, others = random.standard_normal((30, 25)), random.standard_normal((2000, 25))
    answers = inputs @ true + noise * random.standard_normal(30)
    weights, rows = np.zeros(25), []
    for epoch in range(epochs):
        left = inputs @ weights - answers
        rows.append((epoch, np.mean(left**2), np.mean((others @ (weights - true)) ** 2)))
        weights -= lr * 2 / 30 * inputs.T @ left
    return dict(zip(("epoch", "loss", "val_loss"), np.array(rows).T, strict=True))


class TestHeldOut:
    """The loss on held-out data beside that of the training, or alone."""

    def test_noise_that_is_learned_is_overfitting(self) -> None:
        log = regression(1.0, 0.05)
        lowest = int(np.argmin(log["val_loss"]))
        assert 0 < lowest < 100
        assert log["val_loss"][-1] > 2 * log["val_loss"][lowest]
        assert (np.diff(log["loss"]) < 0).all()
        found = gd.explain(log)
        assert found.verdict == "healthy"
        assert "overfits" in found.headline
        assert f"at step {lowest}," in found.headline
        # Alone it does not say whether the training went well.
        alone = gd.explain({name: log[name] for name in ("epoch", "val_loss")})
        assert alone.verdict == "inconclusive"
        assert f"at step {lowest}," in alone.headline

    def test_it_may_stand_in_rows_of_its_own_up_to_the_last(self) -> None:
        log = regression(1.0, 0.05)
        steps = np.arange(5 * len(log["loss"]))
        columns = {"step": steps, "loss": np.full(len(steps), math.nan)}
        columns["loss"][:] = np.repeat(log["loss"], 5)
        columns["loss"][4::5] = math.nan
        columns["val_loss"] = np.where(steps % 5 == 4, np.repeat(log["val_loss"], 5), math.nan)
        found = gd.explain(columns)
        assert found.verdict == "healthy"
        assert f"at step {5 * int(np.argmin(log['val_loss'])) + 4}," in found.headline
        # A last row without a loss is where the run broke only if nothing else stands there.
        columns["val_loss"][-1] = math.nan
        assert gd.explain(columns).verdict == "nonfinite_gradient"

    def test_what_falls_along_is_not(self) -> None:
        log = regression(0.0, 0.05)
        assert np.argmin(log["val_loss"]) == len(log["loss"]) - 1
        found = gd.explain(log)
        assert found.verdict == "healthy"
        assert "overfits" not in found.headline

    def test_a_rate_beyond_the_bound_is_not(self) -> None:
        log = regression(1.0, 0.5, epochs=30)
        assert log["loss"][-1] > log["loss"][0]
        found = gd.explain(log)
        assert found.verdict == "step_too_large"
        assert "overfits" not in found.headline


def test_a_loss_that_only_rises_may_have_the_wrong_sign() -> None:
    random = np.random.default_rng(0)
    found = gd.explain({"step": T, "loss": 0.5 + T / 240 + 0.02 * random.standard_normal(len(T))})
    assert found.verdict == "step_too_large"
    assert "check the gradient's sign" in found.headline


def test_what_comes_back_from_a_first_step_far_up_has_not_fallen() -> None:
    loss = 0.72 + 1000 * np.exp(-T / 5)
    loss[0] = 0.7
    assert gd.explain({"step": T, "loss": loss}).verdict == "step_too_large"
    # That it went up first says nothing of what ends lower.
    loss[0] = 5.0
    assert gd.explain({"step": T, "loss": loss}).verdict == "healthy"
