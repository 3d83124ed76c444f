"""What a verdict says of a log is true of it: logs made by a formula or a plain loop."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gabordiag as gd
from tests.diagnosis.log import test_outcomes_of_logs as logs

Columns = dict[str, np.ndarray]
T = np.arange(400)
NOISE = np.random.default_rng(0).standard_normal(400)


def table(rows: list[tuple[float, ...]], *names: str) -> Columns:
    return dict(zip(names, np.array(rows).T, strict=True))


def only(columns: Columns, *names: str) -> Columns:
    return {name: columns[name] for name in names}


class TestWhatWasGained:
    # Down to 0.1 within 250 steps, of which the first loss says nothing; then up for good.
    @pytest.mark.parametrize(
        ("first", "after"), [(2.2, np.full(150, 1.1)), (200.0, np.linspace(0.1, 5, 150))]
    )
    def test_and_lost_again_is_not_the_lowest(self, first: float, after: np.ndarray) -> None:
        fall = 0.1 + first * np.exp(-T[:250] / 30)
        losses = np.concatenate([fall, after]) + 0.02 * NOISE
        found = gd.explain({"step": T, "loss": losses})
        assert found.verdict == "inconclusive"
        row = int(np.argmin(losses))
        assert f"{losses[row]:.3g} at step {row}" in found.headline
        assert f"ended at {losses[-1]:.3g}" in found.headline

    def test_and_kept_but_for_noise_is(self) -> None:
        losses = 0.1 + 2.2 * np.exp(-T / 30) + 0.02 * NOISE
        assert gd.explain({"step": T, "loss": losses}).verdict == "healthy"


def batches(rate: float, noise: float, sign: float = -1.0, start: float = 4.0) -> Columns:
    """Of (theta - 1)^2 / 20, each the mean of 8: its loss, its slope, and a step along it."""
    random, theta, rows = np.random.default_rng(2), start, []
    for step in range(len(T)):
        off = theta - 1 + noise * random.standard_normal(8)
        slope = 0.1 * float(np.mean(off))
        rows.append((step, theta, 0.05 * float(np.mean(off**2)), slope, rate))
        theta += sign * rate * slope
    return table(rows, "step", "theta", "loss", "grad", "lr")


class TestWhatStillNearsTheTarget:
    @pytest.mark.parametrize("rate", [0.005, 0.01, 0.04])
    @pytest.mark.parametrize("noise", [1.0, 3.0])
    def test_has_not_settled(self, rate: float, noise: float) -> None:
        # A share exp(-40 rate) of the way is left: 0.82, 0.67 or 0.2.
        found = gd.explain(batches(rate, noise), target=1.0)
        assert found.verdict == "step_too_small"

    @pytest.mark.parametrize("seed", range(3))
    def test_and_noise_in_another_minimum_has(self, seed: int) -> None:
        # (theta^2 - 1)^2 from -2 comes to -1 with 1 - 0.01 x 8 a step.
        random, theta, rows = np.random.default_rng(seed), -2.0, []
        for step in range(len(T)):
            slope = 4 * theta * (theta**2 - 1) + 0.5 * random.standard_normal()
            rows.append((step, theta, (theta**2 - 1) ** 2 + 0.05 * random.standard_normal()))
            theta -= 0.01 * slope
        found = gd.explain(table(rows, "step", "theta", "loss"), target=1.0)
        assert found.verdict == "wrong_basin"


def test_a_loss_that_grows_is_not_healthy_because_the_value_is_at_its_target() -> None:
    # (sigma^2 + theta^2 / 20) / 2 at rate 2.02: theta shrinks by 0.899 a step, sigma turns and
    # grows by 1.02, of which only the loss shows something.
    theta, sigma = 3 * 0.899 ** np.arange(900), 1e-3 * (-1.02) ** np.arange(900)
    log = {"theta": theta, "loss": 0.5 * sigma**2 + 0.025 * theta**2}
    assert gd.explain(log, target=0.0).verdict == "step_too_large"
    assert gd.explain({name: column[:80] for name, column in log.items()}, target=0.0).verdict == (
        "healthy"
    )


class TestAscent:
    @pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.1), (1.0, 0.2), (3.0, 0.2)])
    @pytest.mark.parametrize("lacks", [(), ("grad", "lr")])
    def test_by_noisy_slopes_is_a_wrong_sign(
        self, noise: float, rate: float, lacks: tuple[str, ...]
    ) -> None:
        log = batches(rate, noise, sign=1.0)
        found = gd.explain({name: log[name] for name in log if name not in lacks}, target=1.0)
        assert found.verdict == "wrong_gradient"

    def test_is_not_a_swing_that_grows(self) -> None:
        # Factor 1 - 2.02 a step.
        theta = 1e-3 * (-1.02) ** np.arange(300)
        log = {"theta": theta, "loss": theta**2}
        assert gd.explain(log, target=0.0).verdict == "step_too_large"


class TestReadAsWhatItIs:
    @pytest.mark.parametrize("names", [("step", "loss", "lr"), ("step", "theta", "loss", "lr")])
    def test_a_warm_up_is_a_run(self, names: tuple[str, ...]) -> None:
        # Rates of (t + 1) / 3000: exp(-400 x 401 / 6000) of the way is left.
        theta = np.exp(-np.cumsum(T + 1.0) / 3000)
        log = {"step": T, "theta": theta, "loss": theta**2 + 1e-3, "lr": (T + 1) / 3000}
        assert gd.explain(only(log, *names)).verdict == "healthy"

    @pytest.mark.parametrize("at", [0, 200])
    def test_a_step_that_was_skipped_did_not_break_the_run(self, at: int) -> None:
        # Three scaled slopes overflow, and their steps are left out.
        count = np.where(at <= T, np.maximum(T - 3, np.minimum(T, at)), T)
        theta = 1 + 4 * 0.95**count
        slope = np.where((at <= T) & (at + 3 > T), math.inf, theta - 1)
        log = {"step": T, "theta": theta, "loss": 0.5 * (theta - 1) ** 2, "grad": slope}
        found = gd.explain(log, target=1.0)
        assert found.verdict == "healthy"
        assert found.notes == ("NaN or infinite 3 times on the way, after which the run went on",)
        # The same slopes on the way of a value that did move.
        log["theta"] = 1 + 4 * 0.95**T
        assert gd.explain(log, target=1.0).verdict == "nonfinite_gradient"

    @pytest.mark.parametrize("names", [("loss",), ("theta", "loss")])
    def test_an_infinite_loss_that_passes_did_not_break_the_run(self, names: tuple[str]) -> None:
        theta = 1 + 4 * 0.95**T
        losses = 0.5 * (theta - 1) ** 2
        losses[0] = math.inf
        assert gd.explain(only({"theta": theta, "loss": losses}, *names)).verdict == "healthy"
        losses[-5:] = math.inf
        assert gd.explain(only({"theta": theta, "loss": losses}, *names)).verdict != "healthy"

    @pytest.mark.long
    def test_a_setting_is_no_frozen_parameter(self) -> None:
        log = {"step": T, "loss": 0.1 + np.exp(-T / 40), "dropout": np.full(400, 0.1)}
        found = gd.explain(log)
        assert found.verdict == "healthy"
        assert "--value-column 'dropout'" in found.notes[0]
        assert gd.explain(log, value_column="dropout").verdict == "no_gradient"
        for name in ("theta", "parameter.1"):
            named = {name if column == "dropout" else column: log[column] for column in log}
            assert gd.explain(named).verdict == "no_gradient"
        assert gd.explain({**log, "grad_dropout": np.zeros(400)}).verdict == "no_gradient"


@pytest.mark.parametrize(
    ("unit", "target", "period"),
    [("radians", 45.0, None), ("radians", 45.0, 180.0), ("degrees", math.pi / 4, None)],
)
def test_a_target_in_the_other_unit_of_angles_is_named(
    unit: str, target: float, period: float | None
) -> None:
    theta = math.pi / 4 - 0.6 * 0.8 ** np.arange(150.0)
    shown = theta if unit == "radians" else np.degrees(theta)
    log = {"theta": shown, "loss": (theta - math.pi / 4) ** 2}
    found = gd.explain(log, target=target, period=period)
    assert found.verdict == "inconclusive"
    assert f"which in {unit} is the target" in found.headline


def test_a_smoothed_loss_does_not_hide_a_value_that_wanders() -> None:
    # (theta^2 - 1)^2 at rate 0.38: L'' = 8 at +-1 allows 0.25.
    theta, mean, rows = 0.3, 0.0, []
    for step in range(400):
        slope = 4 * theta * (theta**2 - 1)
        mean = 0.98 * mean + 0.02 * (theta**2 - 1) ** 2
        rows.append((step, theta, mean / (1 - 0.98 ** (step + 1)), slope, 0.38))
        theta -= 0.38 * slope
    log = table(rows, "step", "theta", "loss", "grad", "lr")
    # As it falls after the first losses, or with a higher one before them.
    for raised in (0.0, 2.0):
        log["loss"] = log["loss"] + raised * np.exp(-T / 10)
        found = gd.explain(log)
        assert found.verdict == "step_too_large"
        assert found.findings[0].evidence["lr_times_curvature"] > 2


@pytest.mark.long
def test_a_loss_that_another_parameter_lowers_still_goes_down() -> None:
    # theta is there after 60 steps; 0.98^400 of the others' loss would be left, 0.998^400 is 0.45.
    theta = 0.7 - 0.5 ** np.arange(400.0)
    log = {"theta": theta, "loss": (theta - 0.7) ** 2 + 0.998**T}
    found = gd.explain(log)
    assert found.verdict == "healthy"
    assert "still goes down" in found.headline
    log["loss"] = (theta - 0.7) ** 2 + 0.95**T
    assert "settled" in gd.explain(log).headline


def test_losses_that_are_named_are_those_of_the_log() -> None:
    # The first is the lowest; rate 1010 of 2e-3 (theta - 440): factor -1.02 a step.
    theta = 440 - 140 * (-1.02) ** np.arange(100)
    found = gd.explain({"theta": theta, "loss": 1e-3 * (theta - 440) ** 2}, target=440.0)
    assert found.verdict == "step_too_large"
    assert f"loss 19.6 at step 0 and ended at {19.6 * 1.02**198:.3g}" in found.headline


def descent(
    slope: Callable[[float], float], loss: Callable[[float], float], start: float, rate: float
) -> Columns:
    """A plain loop, logged before each step; the value after the last one is not in it."""
    theta, rows = start, []
    for step in range(len(T)):
        rows.append((step, theta, loss(theta), slope(theta), rate))
        theta -= rate * slope(theta)
    return table(rows, "step", "theta", "loss", "grad", "lr")


def late(columns: Columns) -> Columns:
    """The same, but the value was logged after the step."""
    moved = {name: column[:-1] for name, column in columns.items()}
    return moved | {"theta": columns["theta"][1:]}


COSINE = (lambda t: 2 * math.sin(2 * t), lambda t: 1 - math.cos(2 * t), -0.685)
ANGLE = (
    lambda t: math.sqrt(2) * math.cos(t) * math.copysign(1, math.sin(t)),
    lambda t: math.sqrt(1 - math.cos(2 * t)),
    -0.985,
)
WELLS = (lambda t: 4 * t**3 - 4 * t, lambda t: (t * t - 1) ** 2, 0.1)


class TestValuesLoggedAfterTheStep:
    @pytest.mark.long
    @pytest.mark.parametrize(
        ("function", "rate", "verdict"),
        [(COSINE, 0.6, "step_too_large"), (COSINE, 0.75, "step_too_large"),
         (WELLS, 0.3, "step_too_large"), (ANGLE, 0.1, "kink"), (ANGLE, 0.137, "kink")],
    )  # fmt: skip
    @pytest.mark.parametrize("names", [("grad", "lr"), ("grad",)])
    def test_are_judged_beside_their_losses(
        self, function: tuple[Any, Any, float], rate: float, verdict: str, names: tuple[str, ...]
    ) -> None:
        log = only(descent(*function, rate), "step", "theta", "loss", *names)
        before, after = gd.explain(log), gd.explain(late(log))
        assert before.verdict == after.verdict == verdict
        assert before.headline == after.headline
        assert not any("one row earlier" in note for note in before.notes)
        assert any("one row earlier" in note for note in after.notes)

    def test_without_gradients_the_losses_show_it(self) -> None:
        # A chaotic run: every value has another loss than the one beside it.
        log = only(descent(COSINE[0], COSINE[1], 0.3, 1.4), "theta", "loss")
        before, after = gd.explain(log), gd.explain(late(log))
        assert before.verdict == after.verdict == "step_too_large"
        assert (len(before.notes), len(after.notes)) == (0, 1)


class TestALossThatIsNeverNegative:
    @pytest.mark.parametrize("names", [("grad", "lr"), ("grad",), ()])
    def test_has_no_kink_whose_sides_meet_below_zero(self, names: tuple[str, ...]) -> None:
        # At +-0.75 of this cycle the cosine is nearly as steep all around, as a V is.
        log = only(descent(*COSINE, 0.75), "theta", "loss", *names)
        assert gd.explain(log).verdict == "step_too_large"

    def test_nor_where_steps_have_one_length(self) -> None:
        steps = descent(lambda t: math.copysign(1, t), lambda t: t * t, -2.03, 0.1)
        assert gd.explain(only(steps, "theta", "loss")).verdict == "step_too_large"


def in_order(count: int, rate: float, rows: int = 600) -> Columns:
    """Squares (theta x - y)^2 / 2 of one pair at a time, always in the same order."""
    random, theta, log = np.random.default_rng(1), -1.0, []
    x = random.uniform(0.5, 1.5, count)
    y = 0.8 * x + 0.3 * random.standard_normal(count)
    for step in range(rows):
        off = theta * x[step % count] - y[step % count]
        log.append((step, theta, off**2 / 2, off * x[step % count], rate))
        theta -= rate * off * x[step % count]
    return table(log, "step", "theta", "loss", "grad", "lr")


class TestBatchesInAFixedOrder:
    # Each shrinks the error by 1 - rate x^2, x^2 at most 2.25: far from the bound. Two that differ
    # by less than one step changes them are left as a cycle of two.
    @pytest.mark.long
    @pytest.mark.parametrize(
        ("count", "rate"),
        [(2, 0.03), *((n, r) for n in (4, 8, 16) for r in (0.03, 0.1))],
    )
    @pytest.mark.parametrize("names", [("grad", "lr"), ()])
    def test_are_no_cycle(self, count: int, rate: float, names: tuple[str, ...]) -> None:
        found = gd.explain(only(in_order(count, rate), "step", "theta", "loss", *names))
        assert found.verdict == "healthy"
        assert f"repeat every {count} steps" in found.headline

    def test_nor_where_the_loss_alone_rides_down_with_them(self) -> None:
        assert gd.explain(only(in_order(4, 0.03), "step", "loss")).verdict == "healthy"

    def test_a_cycle_of_the_loss_alone_leaves_them_open(self) -> None:
        found = gd.explain(only(in_order(8, 0.5), "step", "loss"))
        assert "unless these are 8 batches" in found.headline

    def test_a_bounce_of_three_and_more_is_one(self) -> None:
        # Of momentum across a V: within 0.15 of its way, and as its loss has it.
        theta, speed, rows = -3.0, 0.0, []
        for step in range(400):
            rows.append((step, theta, abs(theta)))
            speed = 0.5 * speed + math.copysign(1, theta)
            theta -= 0.1 * speed
        assert gd.explain(table(rows, "step", "theta", "loss")).verdict in (
            "kink",
            "step_too_large",
        )


class TestAForgottenZeroGrad:
    @pytest.mark.long
    @pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
    @pytest.mark.parametrize("rate", [0.003, 0.01, 0.05, 0.2])
    def test_is_seen_through_the_noise_of_batches(self, noise: float, rate: float) -> None:
        log = self.loop(noise, rate, keep=1.0)
        assert gd.explain(log).verdict == "wrong_gradient"
        # The same with it, and with momentum.
        assert gd.explain(self.loop(noise, rate, keep=0.0)).verdict != "wrong_gradient"
        assert gd.explain(self.loop(noise, rate, keep=0.9)).verdict != "wrong_gradient"

    def loop(self, noise: float, rate: float, keep: float) -> Columns:
        random, theta, speed, rows = np.random.default_rng(5), 2.0, 0.0, []
        for step in range(len(T)):
            off = theta - 1 + noise * random.standard_normal(8)
            speed = keep * speed + float(off.mean())
            logged = speed if keep == 1 else float(off.mean())
            rows.append((step, theta, float((off**2).mean()) / 2, logged, rate))
            theta -= rate * speed
        return table(rows, "step", "theta", "loss", "grad", "lr")


@pytest.mark.parametrize(
    ("value", "step", "verdict", "words"),
    [(0.78515625, 1e-3, "step_too_small", "0.0039"),  # of bfloat16: 201 / 256
     (0.7841796875, 1e-4, "step_too_small", "0.00049"),  # of float16: 803 / 1024
     (0.7853981852531433, 1e-8, "step_too_small", "6e-08"),  # of float32
     (0.785, 1e-6, "inconclusive", "Log all digits"),
     (0.785123456, 1e-6, "no_gradient", "the optimizer does not hold it")],
)  # fmt: skip
def test_what_never_moves_may_be_below_the_last_digit(
    value: float, step: float, verdict: str, words: str
) -> None:
    # The gradient of (theta - 2)^2 / 2 at this value; each step is the rate's.
    slope = np.full(100, value - 2)
    log = {"theta": np.full(100, value), "loss": slope**2 / 2, "grad": slope}
    found = gd.explain(log | {"lr": np.full(100, step / abs(value - 2))})
    assert found.verdict == verdict
    assert words in found.headline


@pytest.mark.long
@pytest.mark.parametrize(
    "form", ["tensor({})", "tensor({}, requires_grad=True)", "tensor([{}])", "[{}]", "[[{}]]",
             "np.float64({})", "array([{}], dtype=float32)"],
)  # fmt: skip
def test_numbers_are_read_as_arrays_print_them(form: str, tmp_path: Path) -> None:
    theta = 0.3 * (-1.0) ** np.arange(40)
    rows = [(form.format(x), form.format(round(math.sin(x) ** 2, 4))) for x in theta.tolist()]
    with (tmp_path / "log.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("theta", "loss"), *rows])
    assert gd.explain(tmp_path / "log.csv").period == 2


def regression(rate: float, seed: int, start: float = 0.0, rows: int = 400) -> Columns:
    """Batches of eight of y = 2 x + noise: the curvature of a batch is 2 mean x^2, 2 on average."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=256)
    y, w, made = 2 * x + 0.3 * rng.normal(size=256), start, []
    for step in range(rows):
        drawn = rng.integers(0, 256, 8)
        error = w * x[drawn] - y[drawn]
        slope = float(2 * (error * x[drawn]).mean())
        made.append((step, w, float((error**2).mean()), slope, rate))
        w -= rate * slope
    return table(made, "step", "w", "loss", "grad", "lr")


@pytest.mark.long
@pytest.mark.parametrize(
    ("rate", "seed"), [(0.9, 1), (1.0, 1), (1.05, 1), (1.2, 1), (1.05, 2), (1.2, 2), (0.9, 3)]
)
def test_what_is_thrown_far_from_its_target_has_not_arrived(rate: float, seed: int) -> None:
    columns = regression(rate, seed)
    # Farther away within the last third than at the start.
    assert np.abs(columns["w"][-133:] - 2).max() > 2
    assert gd.explain(columns, target=2.0).verdict == "step_too_large"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noise_about_the_target_throws_nothing(seed: int) -> None:
    assert gd.explain(regression(0.05, seed), target=2.0).verdict == "healthy"


@pytest.mark.parametrize("start", [1.99, 2.0, 2.01])
def test_noise_that_leaves_a_start_at_the_target_is_no_throw(start: float) -> None:
    found = gd.explain(regression(0.05, 1, start), target=2.0)
    assert found.verdict != "step_too_large"


def heavy_ball(
    rate: float, momentum: float, rows: int = 300, *, start: float = 1.0, **how: Any
) -> Columns:
    """A heavy ball on theta^2 / 2."""
    return logs.descent(
        lambda x: x * x / 2 + 0.1, lambda x: x, start, rate, rows, momentum=momentum, **how
    )


FEW, ALL = ("step", "theta", "loss"), ("step", "theta", "loss", "grad", "lr")


@pytest.mark.long
@pytest.mark.parametrize("columns", [FEW, ALL])
@pytest.mark.parametrize("momentum", [0.98, 0.99, 0.995])
@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_smooth_swings_arrive_after_the_steps_that_are_named(
    columns: tuple[str, ...], momentum: float, rate: float
) -> None:
    log = only(heavy_ball(rate, momentum), *columns)
    found = gd.explain(log, target=0.0)
    assert found.verdict == "step_too_small"
    words = found.headline.split()
    more, less = int(words[words.index("more") - 1]), float(words[words.index("less") - 1][:-1])
    # The eigenvalues of a heavy ball have the modulus sqrt(momentum) and the phase arccos.
    turn = math.acos((1 + momentum - rate) / (2 * math.sqrt(momentum)))
    assert less == pytest.approx(100 * (1 - momentum ** (math.pi / turn / 2)), rel=0.15)
    longer = np.abs(heavy_ball(rate, momentum, 300 + 3 * more)["theta"])
    # To within 1% of the logged values' range, with one digit of the number.
    near = 0.01 * float(np.ptp(log["theta"]))
    last = int(np.flatnonzero(longer > near)[-1])
    assert 300 + more / 2 < last < 300 + 2 * more
    alone = gd.explain(log)
    assert alone.verdict == "healthy"
    assert "swings about" in alone.headline


@pytest.mark.long
@pytest.mark.parametrize("columns", [FEW, ALL])
@pytest.mark.parametrize("start", [0.0, 0.02])
@pytest.mark.parametrize(("rate", "momentum"), [(0.1, 0.0), (0.5, 0.0), (0.01, 0.9), (0.01, 0.98)])
def test_noise_about_the_target_is_no_swing(
    columns: tuple[str, ...], start: float, rate: float, momentum: float
) -> None:
    verdicts = [
        gd.explain(
            only(heavy_ball(rate, momentum, start=start, noise=0.3, seed=seed), *columns),
            target=0.0,
        ).verdict
        for seed in range(12)
    ]
    # By chance the last third may lie on one side, or a line leave little.
    assert verdicts.count("healthy") >= 11


def test_steps_along_the_gradient_are_of_the_wrong_sign() -> None:
    wave: dict[str, list[float]] = {"x": [], "loss": [], "grad": []}
    draw, x = np.random.default_rng(0), 0.5
    for _ in range(300):
        slope = math.sin(2 * x) + 0.3 * draw.normal()
        for name, value in (("x", x), ("loss", math.sin(x) ** 2), ("grad", slope)):
            wave[name].append(value)
        x += 0.1 * slope
    found = gd.explain(wave, target=0.0, period=math.pi)
    assert found.verdict == "wrong_gradient"
    assert "along the logged gradient" in found.headline
    right = gd.explain(heavy_ball(0.1, 0.0, noise=0.3), target=0.0)
    assert right.verdict == "healthy"


def test_a_rate_is_not_raised_where_rows_hide_every_other_step() -> None:
    # With lr x curvature 1.99 every step leads across, and two of them 2% nearer.
    log = {name: column[::2] for name, column in heavy_ball(1.99, 0.0, 200).items()}
    found = gd.explain(log, target=0.0)
    assert found.verdict == "step_too_small"
    assert "Before the rate is raised, log every step" in found.headline


def test_what_settles_while_its_loss_is_noisy_has_had_its_gradient() -> None:
    x = 0.5 ** np.arange(300.0)
    found = gd.explain(
        {"x": x, "loss": x * x / 2 + 0.5 * np.random.default_rng(0).normal(size=300)}
    )
    assert found.verdict == "inconclusive"
    assert "x settled at" in found.headline


def test_what_stands_still_beside_a_descent_is_noted() -> None:
    x, gone = 0.9 ** T[:200], np.full(200, 0.5)
    log = {"step": T[:200], "a": x, "b": gone, "loss": x * x, "grad_a": 2 * x}
    assert not [note for note in gd.explain(log | {"grad_b": 0 * gone}).notes if "never" in note]
    (note,) = [note for note in gd.explain(log | {"grad_b": gone}).notes if "never" in note]
    assert note.startswith("b never moves although its gradient arrives")


@pytest.mark.parametrize("columns", [FEW, ALL])
def test_what_settles_beside_the_target_is_in_no_other_basin(columns: tuple[str, ...]) -> None:
    # (x^2 - 1)^2 + x / 10 is lowest near 1 at 0.9873: 4 x (x^2 - 1) + 1/10 = 0.
    x, rows = 1.5, []
    for step in range(300):
        slope = 4 * x * (x * x - 1) + 0.1
        rows.append((step, x, (x * x - 1) ** 2 + x / 10, slope, 0.1))
        x -= 0.1 * slope
    found = gd.explain(only(table(rows, *ALL), *columns), target=1.0)
    assert found.verdict == "inconclusive"
    assert "settled 0.01274 beside the target" in found.headline


def test_where_noise_left_a_run_whose_rate_decayed_is_no_other_basin() -> None:
    draw, x, rows = np.random.default_rng(0), 2.0, []
    for step in range(300):
        rate = 0.05 * (1 + math.cos(math.pi * step / 300))
        slope = x + draw.normal()
        rows.append((step, x, x * x / 2 + 0.3, slope, rate))
        x -= rate * slope
    assert gd.explain(table(rows, *ALL), target=0.0).verdict == "healthy"
    assert gd.explain(only(table(rows, *ALL), *FEW), target=0.0).verdict != "wrong_basin"


def noisy(shape: str, kind: str, rate: float, momentum: float, seed: int) -> Columns:
    """Of batches: each moves the minimum, or scales the loss and adds to it what it likes."""
    draw, (loss, slope, start) = (
        np.random.default_rng(seed),
        {
            "parabola": (lambda x: x * x, lambda x: 2 * x, 2.0),
            "wave": (lambda x: 1 - np.cos(x), np.sin, 2.0),
            "floor": (lambda x: 3 + x * x, lambda x: 2 * x, -2.0),
        }[shape],
    )
    x, speed, rows, height = start, 0.0, [], float(loss(start) - loss(0.0))
    for step in range(300):
        off = 0.3 * float(draw.normal())
        if kind == "moved":
            row = float(loss(x + off)), float(slope(x + off))
        else:
            row = float(loss(x) + off * height), float(slope(x) * (1 + off))
        rows.append((step, x, *row, rate))
        speed = momentum * speed + row[1]
        x -= rate * speed
    # Descent on all batches at once is stable far beyond these rates, and has long arrived.
    assert abs(float(np.mean([value for _, value, *_ in rows[100:]]))) < 0.2
    return table(rows, *ALL)


@pytest.mark.long
@pytest.mark.parametrize("columns", [FEW, ALL])
@pytest.mark.parametrize("kind", ["moved", "scaled"])
@pytest.mark.parametrize(("rate", "momentum"), [(0.05, 0.0), (0.01, 0.9)])
def test_a_descent_that_ends_in_noise_is_healthy_without_a_target(
    columns: tuple[str, ...], kind: str, rate: float, momentum: float
) -> None:
    logs = [
        only(noisy(shape, kind, rate, momentum, seed), *columns)
        for shape in ("parabola", "wave", "floor")
        for seed in range(4)
    ]
    verdicts = [gd.explain(log).verdict for log in logs]
    # The height of the fall is three deviations of the noise: in a few rows it may be hidden.
    assert set(verdicts) <= {"healthy", "inconclusive"}
    assert verdicts.count("healthy") >= 11


@pytest.mark.long
def test_noise_alone_is_no_fall() -> None:
    draw = np.random.default_rng(0)
    verdicts = [
        gd.explain(
            {"x": np.cumsum(1e-3 * draw.normal(size=300)), "loss": 5 + draw.normal(size=300) ** 2}
        ).verdict
        for _ in range(30)
    ]
    assert verdicts.count("no_progress") >= 27
