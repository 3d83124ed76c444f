"""What is said of a training is true of it: of each, a plain loss or loop gives the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import gabordiag as gd
from gabordiag.diagnosis.training.elements import Judged

X = torch.rand(400, 1, generator=torch.Generator().manual_seed(1))
IMAGES = torch.randn(24, 1, 15, 15, generator=torch.Generator().manual_seed(2))


def diagnosed(model: nn.Module, x: Any, y: Any, params: Any, **options: Any) -> Any:
    made = gd.Training(model, [(x, y)], functional.mse_loss)
    return gd.diagnose(made, params=params, **({"seeds": 0} | options))


def verdicts(found: Any) -> dict[str, str]:
    return {judged.watched.label: judged.verdict for judged in found.elements}


def kernels(theta: torch.Tensor, wavelength: float = 5.0, sigma: float = 2.0) -> torch.Tensor:
    """Gabor filters (n, 1, 9, 9), written from the formula."""
    v, u = torch.meshgrid(torch.arange(-4.0, 5.0), torch.arange(-4.0, 5.0), indexing="ij")
    along = u * torch.cos(theta)[:, None, None] + v * torch.sin(theta)[:, None, None]
    return (torch.exp(-(u**2 + v**2) / 2 / sigma**2) * torch.cos(math.tau * along / wavelength))[
        :, None
    ]


class Bank(nn.Module):
    def __init__(self, theta: list[float]) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))

    def filters(self) -> torch.Tensor:
        return kernels(self.theta)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.filters()).flatten(1)


TRUE = [0.1, 0.9, 1.7]
SEEN = Bank(TRUE)(IMAGES).detach()


class Waves(nn.Module):
    def __init__(self, frequencies: list[float]) -> None:
        super().__init__()
        self.f = nn.Parameter(torch.tensor(frequencies))
        self.head = nn.Linear(2 * len(frequencies), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turns = math.tau * x * self.f
        return self.head(torch.cat([turns.sin(), turns.cos()], 1))


class TestLinesOfFewBatches:
    @pytest.mark.each(3)
    @pytest.mark.parametrize("seed", range(3))
    def test_claim_nothing_that_other_batches_do_not_show(self, seed: int) -> None:
        torch.manual_seed(seed)
        x = 6 * torch.rand(800, 1) - 3
        y = torch.sin(2 * x) + 0.5 * torch.cos(3.3 * x) + 0.7 * torch.randn(800, 1)
        model = Waves([f / math.tau for f in torch.linspace(0.5, 4, 8).tolist()])
        loader = DataLoader(TensorDataset(x, y), 16, shuffle=True)
        made = gd.Training(model, loader, functional.mse_loss)
        found = gd.diagnose(made, params="f", optimizer="adam", lr=0.005, steps=100, seeds=0)
        for judged in found.elements:
            model.load_state_dict(found.run.final)
            with torch.no_grad():
                here = functional.mse_loss(model(x), y).item()
                if judged.verdict == "wrong_basin":
                    model.f[judged.index] = judged.goal
                    assert functional.mse_loss(model(x), y).item() < here

    def test_and_what_they_rightly_claim_stands(self) -> None:
        torch.manual_seed(0)
        y = torch.sin(math.tau * 3 * X) + 0.5 * torch.cos(math.tau * 7 * X)
        loader = DataLoader(TensorDataset(X, y + 0.1 * torch.randn(400, 1)), 40, shuffle=True)
        made = gd.Training(Waves([3.1, 11.0]), loader, functional.mse_loss)
        found = gd.diagnose(
            made, params="f", optimizer="adam", lr={"f": 0.01, "others": 0.1}, steps=300, seeds=0
        )
        assert verdicts(found) == {"f[0]": "healthy", "f[1]": "wrong_basin"}


class Detached(Waves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turns = math.tau * x * torch.cat([self.f[:1], self.f[1:].detach()])
        return self.head(torch.cat([turns.sin(), turns.cos()], 1))


@pytest.mark.each(2)
@pytest.mark.parametrize("offset", [20.0, 0.0])
@pytest.mark.parametrize(
    ("made", "start", "verdict"),
    [(Waves, 11.0, "wrong_basin"), (Detached, 6.5, "no_gradient")],
)
def test_an_offset_of_the_target_hides_nothing(
    offset: float, made: Callable[[list[float]], nn.Module], start: float, verdict: str
) -> None:
    # The loss begins at its square, of which what a frequency changes is a thousandth.
    torch.manual_seed(0)
    y = torch.sin(math.tau * 3 * X) + 0.5 * torch.cos(math.tau * 7 * X) + offset
    rates = {"f": 0.01, "others": 0.1}
    found = diagnosed(made([3.1, start]), X, y, "f", optimizer="adam", lr=rates, steps=1500)
    assert verdicts(found) == {"f[0]": "healthy", "f[1]": verdict}


class Clamped(nn.Module):
    def __init__(self, gain: list[float]) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))
        self.plus = nn.Parameter(torch.tensor([0.1, 0.2, 0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.clamp(self.gain + self.plus, 0, 1)


class TestAClamp:
    X3 = torch.randn(128, 3, generator=torch.Generator().manual_seed(3))

    def test_of_a_sum_is_named_for_both(self) -> None:
        options: Any = {"lr": 0.3, "steps": 150}
        found = diagnosed(
            Clamped([0.2, 0.1, 1.5]), self.X3, self.X3 / 2, ["gain", "plus"], **options
        )
        assert [n for n, v in verdicts(found).items() if v == "no_gradient"] == [
            "gain[2]",
            "plus[2]",
        ]
        for judged in found.elements[2::3]:
            assert "torch.clamp" in judged.judgement.evidence["where"]["code"]

    def test_that_it_runs_into_holds_it(self) -> None:
        # 1.4 is beyond the limit; up to there the loss falls.
        y = self.X3 * torch.tensor([0.5, 0.5, 1.4])
        found = diagnosed(
            Clamped([0.2, 0.1, 0.5]), self.X3, y, "gain", optimizer="adam", lr=0.02, steps=200
        )
        assert verdicts(found)["gain[2]"] == "no_gradient"
        assert "line" in found.headline

    def test_that_it_never_meets_does_not(self) -> None:
        options: Any = {"optimizer": "adam", "lr": 0.02, "steps": 300}
        found = diagnosed(Clamped([0.2, 0.1, 0.1]), self.X3, self.X3 / 2, "gain", **options)
        assert set(verdicts(found).values()) == {"healthy"}


class Rounded(Bank):
    def filters(self) -> torch.Tensor:
        return kernels(torch.round(self.theta * 180 / math.pi) * math.pi / 180)


class Hooked(Bank):
    def __init__(self, theta: list[float]) -> None:
        super().__init__(theta)
        self.theta.register_hook(lambda slope: slope * torch.tensor([1.0, 1.0, 0.0]))


class TestAGradientThatNeverArrives:
    START = (0.2, 1.0, 1.78)

    def test_through_a_rounding_is_so_for_all(self) -> None:
        found = diagnosed(Rounded(list(self.START)), IMAGES, SEEN, "theta", lr=1e-3, steps=40)
        assert set(verdicts(found).values()) == {"no_gradient"}
        assert "rounds" in found.headline

    def test_through_a_mask_is_none_of_a_level_place(self) -> None:
        options: Any = {"optimizer": "adam", "lr": 0.01, "steps": 150}
        found = diagnosed(Hooked(list(self.START)), IMAGES, SEEN, "theta", **options)
        assert list(verdicts(found).values()) == ["healthy", "healthy", "no_gradient"]
        assert "a hook or a mask" in found.elements[2].judgement.helps


class Flipped(Bank):
    def __init__(self, theta: list[float], wrong: int) -> None:
        super().__init__(theta)
        signs = torch.ones(3)
        signs[wrong] = -1
        self.theta.register_hook(lambda slope: slope * signs)


@pytest.mark.each(3)
@pytest.mark.parametrize("wrong", range(3))
def test_one_wrong_row_of_a_derivative_is_found_and_no_other(wrong: int) -> None:
    model = Flipped([0.2, 1.0, 1.8], wrong)
    found = diagnosed(model, IMAGES, SEEN, "theta", lr=2e-5, steps=40)
    named = [n for n, verdict in verdicts(found).items() if verdict == "wrong_gradient"]
    assert named == [f"theta[{wrong}]"]


class Kept(Bank):
    """A running mean of its filters, among plain attributes."""

    mean: torch.Tensor | None = None

    def filters(self) -> torch.Tensor:
        new = kernels(self.theta)
        self.mean = new if self.mean is None else 0.2 * self.mean.detach() + 0.8 * new
        return self.mean


class Listed(Bank):
    def __init__(self, theta: list[float]) -> None:
        super().__init__(theta)
        self.held = {"angles": self.theta}

    def filters(self) -> torch.Tensor:
        return kernels(self.held["angles"])


class Branching(Bank):
    """What torch cannot run at many values at once, in the second of two parameters."""

    def __init__(self, theta: list[float]) -> None:
        super().__init__(theta)
        self.gain = nn.Parameter(torch.ones(()))

    def filters(self) -> torch.Tensor:
        return kernels(self.theta) * (self.gain if self.gain > 0 else -self.gain)


@pytest.mark.parametrize("made", [Kept, Listed])
def test_modules_that_hold_tensors_are_judged_as_others(
    made: Callable[[list[float]], Bank],
) -> None:
    options: Any = {"optimizer": "adam", "lr": 0.01, "steps": 200}
    right = diagnosed(made([0.2, 1.0, 1.6]), IMAGES, SEEN, "theta", **options)
    assert set(verdicts(right).values()) == {"healthy"}
    stays = diagnosed(made([0.2, 1.0, 1.6]), IMAGES, SEEN, "theta", lr=1e-9, steps=40)
    assert set(verdicts(stays).values()) == {"step_too_small"}


@pytest.mark.each(2)
@pytest.mark.parametrize("params", [["theta", "gain"], ["gain", "theta"]])
def test_values_go_one_by_one_where_torch_cannot_batch_them(params: list[str]) -> None:
    options: Any = {"optimizer": "adam", "lr": 0.01, "steps": 200}
    found = diagnosed(Branching([0.2, 1.0, 1.6]), IMAGES, SEEN, params, **options)
    assert set(verdicts(found).values()) == {"healthy"}


class TwoBanks(nn.Module):
    def __init__(self, first: list[float], second: list[float]) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.tensor(first))
        self.second = nn.Parameter(torch.tensor(second))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fine = functional.conv2d(x, kernels(self.first)).relu().sum(1)
        return fine + functional.conv2d(x, kernels(self.second, 8.0, 3.0)).relu().sum(1)


def test_two_banks_of_one_module_are_two() -> None:
    y = TwoBanks(TRUE, [0.3, 1.2, 2.2])(IMAGES).detach()
    model = TwoBanks([0.15, 0.95, 1.65], [0.4, 0.4, 2.1])
    found = diagnosed(model, IMAGES, y, ["first", "second"], optimizer="adam", lr=0.01, steps=200)
    assert "of your 6 filters" in found.headline
    named = [n for n, verdict in verdicts(found).items() if verdict == "duplicate"]
    assert named == ["second[1]"]


class Thresholds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.full((1, 4, 1, 1), 0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.t).relu() * torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 4, 1, 1)


def test_dimensions_of_one_are_no_rows() -> None:
    x = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(4))
    y = (x - torch.tensor([0.2, 0.3, 0.5, 0.1]).reshape(1, 4, 1, 1)).relu()
    y[:, 3] = 0
    found = diagnosed(Thresholds(), x, y, "t", optimizer="adam", lr=0.01, steps=200)
    assert found.headline.startswith("3 of your 4 elements have converged; element t[0,3,0,0] has")


class Wave(nn.Module):
    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.f = nn.Parameter(torch.tensor(frequency))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.f * x)


class TestAFrequency:
    @pytest.mark.parametrize("length", [50, 300, 1000])
    def test_of_a_long_signal_has_narrow_minima(self, length: int) -> None:
        x = torch.linspace(0, length, 40 * length)[:, None]
        start = 2 + (100 if length == 1000 else 60) / length / (1 if length > 50 else 4)
        found = diagnosed(
            Wave(start), x, torch.sin(2 * x), "f", optimizer="adam", lr=3e-5, steps=400
        )
        (judged,) = found.elements
        assert judged.verdict == "wrong_basin"
        assert judged.goal == pytest.approx(2, abs=2 / length)

    @pytest.mark.each(4)
    @pytest.mark.parametrize("rate", [0.8, 1.5, 3.0, 6.0])
    def test_that_adam_leaps_out_of_its_basin_has_too_large_a_rate(self, rate: float) -> None:
        x = torch.linspace(-6, 6, 600)[:, None]
        options: Any = {"optimizer": "adam", "lr": rate, "steps": 150, "seeds": 1}
        found = diagnosed(Wave(2.2), x, torch.sin(2 * x), "f", **options)
        assert found.verdict == "step_too_large"
        assert found.remedies[0].works
        assert found.remedies[0].after.losses.mean() < 1e-6

    def test_that_momentum_throws_out_of_its_basin_has_too_large_a_rate(self) -> None:
        # At the minimum the curvature is the mean of 2 x^2 cos^2 2 x, about 13: times 0.6, beyond
        # 2 (1 + 0.9).
        x = torch.linspace(-6, 6, 600)[:, None]
        found = diagnosed(
            Wave(2.2), x, torch.sin(2 * x), "f", lr=0.6, momentum=0.9, steps=300, seeds=1
        )
        assert found.verdict == "step_too_large"
        assert found.remedies[0].works


class Bumps(nn.Module):
    def __init__(self, shift: list[float]) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp(-2 * (x - self.shift) ** 2).sum(1)


class TestARange:
    def test_of_places_has_both_signs_whatever_theirs(self) -> None:
        x = torch.linspace(-4, 5, 200)[:, None]
        y = Bumps([-1.5, 2.0])(x).detach()
        found = diagnosed(Bumps([1.4, 2.6]), x, y, "shift", optimizer="adam", lr=0.01, steps=400)
        goals = [j.goal for j in found.elements if j.verdict == "wrong_basin"]
        assert goals
        assert goals == pytest.approx([-1.5] * len(goals), abs=0.3)

    def test_of_what_begins_at_zero_is_not_empty(self) -> None:
        class Offsets(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.off = nn.Parameter(torch.zeros(2))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x + self.off

        y = X.expand(-1, 2) + torch.tensor([0.4, -0.6])
        found = diagnosed(Offsets(), X.expand(-1, 2), y, "off", lr=1e-6, steps=60)
        assert set(verdicts(found).values()) == {"step_too_small"}


def test_a_saturated_gate_stands_on_a_plateau() -> None:
    class Gates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.g = nn.Parameter(torch.tensor([0.0, -30.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(self.g)

    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(5))
    found = diagnosed(Gates(), x, 0.6 * x, "g", lr=1.0, steps=100)
    assert list(verdicts(found).values()) == ["healthy", "flat_start"]


@pytest.mark.slow
def test_rates_that_lift_the_loss_are_too_large() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 2)
    y = x @ torch.tensor([[1.0], [-1.0]]) + 0.3 * torch.randn(512, 1)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    loader = DataLoader(TensorDataset(x, y), 8, shuffle=True)
    made = gd.Training(model, loader, functional.mse_loss)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    for source, target in [pair for _ in range(6) for pair in loader]:
        adam.zero_grad()
        functional.mse_loss(model(source), target).backward()
        adam.step()
    found = gd.diagnose(made, params="0.bias", optimizer="adam", lr=3.0, steps=200, seeds=1)
    assert found.run.losses[-50:].mean() > 2 * 0.3**2
    assert any(r.works and r.plan.name == "smaller rates" for r in found.remedies)


def test_a_loss_that_is_nan_before_any_step_has_a_line() -> None:
    class Direction(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.d = nn.Parameter(torch.zeros(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ (self.d / self.d.norm())

    x = torch.randn(32, 2, generator=torch.Generator().manual_seed(6))
    found = diagnosed(Direction(), x, x[:, 0], "d", lr=0.1, steps=30)
    assert found.verdict == "nonfinite_gradient"
    for judged in found.elements:
        assert "self.d / self.d.norm()" in judged.judgement.evidence["where"]["code"]


def test_the_cure_is_that_of_the_line() -> None:
    found = diagnosed(Rounded([0.2, 1.0, 1.78]), IMAGES, SEEN, "theta", lr=1e-3, steps=30)
    judged: Judged = found.elements[0]
    assert "leave round out" in judged.judgement.helps
    assert Path(__file__).name in judged.judgement.helps


def test_a_fall_counts_beside_what_is_left_and_not_beside_an_offset() -> None:
    # The bias has made up for the offset at once; from then on the loss falls by the frequency.
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 200)[:, None]
    found = {}
    for offset in (0.0, 50.0):
        model = Waves([0.45])
        nn.init.constant_(model.head.bias, offset - 1)
        y = torch.sin(math.tau * 0.8 * x) + offset
        rates = {"f": 2e-3, "others": 0.2}
        found[offset] = diagnosed(model, x, y, "f", lr=rates, steps=120)
        model.load_state_dict(found[offset].run.final)
    assert verdicts(found[0.0]) == verdicts(found[50.0]) == {"f": "step_too_small"}


class Limited(Bank):
    def __init__(self, theta: list[float], how: str) -> None:
        super().__init__(theta)
        self.how = how

    def filters(self) -> torch.Tensor:
        if self.how == "maximum":
            return kernels(torch.maximum(self.theta, torch.tensor(0.5)))
        return kernels(torch.where(self.theta < 0.5, 0.5, self.theta))


@pytest.mark.parametrize("how", ["maximum", "where"])
def test_what_limits_a_value_is_a_clamp_whatever_it_is_called(how: str) -> None:
    options: Any = {"optimizer": "adam", "lr": 0.01, "steps": 100}
    found = diagnosed(Limited([0.2, 1.0, 1.6], how), IMAGES, SEEN, "theta", **options)
    assert list(verdicts(found).values()) == ["no_gradient", "healthy", "healthy"]
    assert f"clamps the value ({how})" in found.headline


def test_noise_of_batches_is_no_fall() -> None:
    # At the minimum of a mean the loss of a batch varies, and falls in no part of the steps.
    torch.manual_seed(0)
    y = 3 + torch.randn(2000, 1)
    for seed in range(4):
        model = nn.Linear(1, 1)
        nn.init.constant_(model.bias, 3.0)
        loader = DataLoader(TensorDataset(torch.zeros(2000, 1), y), 4, shuffle=True)
        made = gd.Training(model, loader, functional.mse_loss)
        found = gd.diagnose(made, params="bias", lr=0.01, steps=300, seed=seed, seeds=0)
        assert verdicts(found) == {"bias": "healthy"}


@pytest.mark.each(3)
@pytest.mark.parametrize("seed", range(3))
def test_kinks_beside_a_start_make_no_derivative_wrong(seed: int) -> None:
    # Differences of a loss in single precision, across kinks of ReLU and pooling, show little where
    # its slope is small; autograd's derivative is right.
    torch.manual_seed(seed)
    layer = gd.GaborConv2d(1, 8, 5, learn=("theta", "sigma", "wavelength"))
    body = nn.Sequential(layer, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.LazyLinear(4))
    x, y = torch.randn(96, 1, 10, 10), torch.arange(96) % 4
    x += 2 * torch.sin(y[:, None, None, None] + torch.arange(10) * (1 + y)[:, None, None, None])
    body(x[:2])
    pairs = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 96, 16)]
    made = gd.Training(body, pairs, functional.cross_entropy)
    params = ["0.theta", "0.sigma", "0.wavelength"]
    found = gd.diagnose(made, params=params, optimizer="adam", lr=0.002, steps=30, seeds=0)
    assert found.elements[0].facts.still_falls
    assert "wrong_gradient" not in verdicts(found).values()
