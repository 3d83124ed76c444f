"""The checks before anything else: each planted fault is named, with its line; health is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gabordiag.checks.gradient import check_objective
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.own.custom import own_objective
from gabordiag.results import Finding
from tests.own import planted_layers as planted

TARGET = 0.7
SOURCE = Path(planted.__file__)

# Module -> class in which its mark stands, and how its objective is made.
CUTS = [
    planted.WritesData,
    planted.CopiesIntoData,
    planted.FillsDataPixelByPixel,
    planted.CopiesUnderNoGrad,
    planted.ComputesUnderNoGrad,
    planted.Detaches,
    planted.TakesData,
    planted.MakesNewParameter,
    planted.UsesPlainNumber,
    planted.UsesNumpy,
]


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 1, 14, 13, dtype=torch.float64, generator=generator)


def of(module: nn.Module, image: torch.Tensor, **options):
    defaults = {"param": "theta", "input": image, "target": TARGET, "loss": "mse"}
    return own_objective(module, **{**defaults, **options})


def marked(name: str) -> tuple[int, str]:
    """Returns line and kind of the `# CUT kind` mark inside a class of planted_layers.py."""
    lines = SOURCE.read_text().splitlines()
    start = next(i for i, text in enumerate(lines) if text.startswith(f"class {name}("))
    for number, text in enumerate(lines[start:], start + 1):
        if "# CUT " in text:
            return number, text.split("# CUT ")[1].strip()
    raise AssertionError(f"{name} has no mark")


def problems(findings) -> list[str]:
    return [finding.cause for finding in findings if finding.present]


def first(findings) -> Finding:
    return next(finding for finding in findings if finding.present)


class TestCutGraphs:
    @pytest.mark.parametrize("make", CUTS, ids=[make.__name__ for make in CUTS])
    def test_the_line_is_named(self, image, make):
        findings = check_objective(of(make(), image))
        assert problems(findings) == ["no_gradient"]
        finding = first(findings)
        line, kind = marked(make.__name__)
        where = finding.evidence["where"]
        assert (where["kind"], where["line"], where["file"]) == (kind, line, str(SOURCE))
        assert f"line {line} of planted_layers.py" in finding.explanation
        assert SOURCE.read_text().splitlines()[line - 1].strip() == where["code"]
        assert finding.evidence["gradient"] is None
        # The slope that the gradient should be, from the layer done right.
        if make not in (planted.ComputesUnderNoGrad, planted.UsesPlainNumber, planted.UsesNumpy):
            right = of(planted.Right(), image).derivatives([-math.pi / 4])[1, 0]
            assert finding.evidence["slope"] == pytest.approx(right, rel=1e-6)

    @pytest.mark.parametrize("make", [planted.WritesData, planted.CopiesUnderNoGrad])
    def test_what_is_written_to_is_named(self, image, make):
        finding = first(check_objective(of(make(), image)))
        assert "conv.weight" in finding.explanation

    @pytest.mark.parametrize("make", [planted.ComputesInInit, planted.RegistersInInit])
    def test_values_computed_once(self, image, make):
        findings = check_objective(of(make(), image))
        assert problems(findings) == ["no_gradient"]
        finding = first(findings)
        line, kind = marked(make.__name__)
        assert finding.evidence["where"]["line"] == line
        assert finding.evidence["where"]["kind"] == kind
        assert "__init__" in finding.explanation

    def test_a_frozen_parameter(self, image):
        module = planted.Right()
        module.theta.requires_grad_(False)
        findings = check_objective(of(module, image))
        assert problems(findings) == ["no_gradient"]
        assert "requires_grad" in first(findings).explanation

    def test_a_clamp_at_the_value_only(self, image):
        options = {"range": (-1.0, 2.0), "period": 0}
        findings = check_objective(of(planted.Clamps(), image, **options), -0.5)
        assert problems(findings) == ["no_gradient"]
        finding = first(findings)
        assert finding.evidence["where"]["kind"] == "clamp"
        assert finding.evidence["where"]["line"] == marked("Clamps")[0]
        assert problems(check_objective(of(planted.Clamps(), image, **options), 0.5)) == []

    def test_rounding(self, image):
        findings = check_objective(of(planted.Rounds(), image, range=(-1.5, 1.5)))
        assert problems(findings) == ["no_gradient"]
        assert first(findings).evidence["where"]["line"] == marked("Rounds")[0]

    def test_a_function(self):
        def loss(v):
            return torch.as_tensor(math.sin(v.item())) ** 2

        findings = check_objective(own_objective(loss))
        assert problems(findings) == ["no_gradient"]
        where = first(findings).evidence["where"]
        assert where["line"] == loss.__code__.co_firstlineno + 1
        assert where["kind"] == "escape"

    @pytest.mark.parametrize(
        ("loss", "kind"),
        [
            # The graph is whole, but all that goes through it is multiplied by zero.
            (lambda v: (v.data - 1) ** 2 + 0 * v, "data"),
            (lambda v: (v.int().double() - 1) ** 2, "integer"),
        ],
        ids=["linked by a zero", "integers"],
    )
    def test_a_function_that_leaves_the_graph(self, loss, kind):
        findings = check_objective(own_objective(loss, range=(-1.0, 3.0), target=1.0), 0.2)
        assert problems(findings) == ["no_gradient"]
        where = first(findings).evidence["where"]
        assert where["line"] == loss.__code__.co_firstlineno
        assert where["kind"] == kind

    def test_a_weight_that_a_function_holds_on_to(self, image):
        module = planted.WithConv()

        def loss(theta):
            module.conv.weight.data = planted.gabor(theta)
            return module.conv(image).square().mean()

        findings = check_objective(own_objective(loss, range=(-1.5, 1.5)))
        assert problems(findings) == ["no_gradient"]
        assert first(findings).evidence["where"]["line"] == loss.__code__.co_firstlineno + 1


class TestWrongGradients:
    def test_a_custom_backward(self, image):
        findings = check_objective(of(planted.HalvesGradient(), image))
        assert problems(findings) == ["wrong_gradient"]
        finding = first(findings)
        assert finding.evidence["factor"] == pytest.approx(0.5, rel=1e-6)
        assert finding.evidence["where"]["line"] == marked("Halved")[0]
        # |a - n| / (|a| + |n|) with a = n / 2
        assert finding.evidence["max_relative_error"] == pytest.approx(1 / 3, rel=1e-5)

    def test_one_path_that_is_cut(self, image):
        findings = check_objective(of(planted.DetachesOnePath(), image))
        assert problems(findings) == ["wrong_gradient"]
        finding = first(findings)
        assert finding.evidence["factor"] is None
        assert finding.evidence["where"]["line"] == marked("DetachesOnePath")[0]

    def test_a_hook_on_the_parameter(self, image):
        module = planted.Right()
        module.theta.register_hook(lambda gradient: -3 * gradient)
        findings = check_objective(of(module, image))
        assert problems(findings) == ["wrong_gradient"]
        assert first(findings).evidence["factor"] == pytest.approx(-3, rel=1e-6)

    @pytest.mark.parametrize(
        ("function", "slope", "factor"),
        [
            # The sign is wrong in a fortieth of the range.
            (
                lambda v: (v - 1) ** 2,
                lambda v: torch.where((v > 0.5) & (v < 0.6), -2 * (v - 1), 2 * (v - 1)),
                None,
            ),
            # The domain ends with the range: differences beyond it do not exist.
            (
                lambda v: (v / 3).asin() ** 2,
                lambda v: -2 * (v / 3).asin() / (9 - v**2).sqrt(),
                -1.0,
            ),
        ],
        ids=["in a part", "at the domain's end"],
    )
    def test_a_slope_of_ones_own(self, function, slope, factor):
        class Own(torch.autograd.Function):
            @staticmethod
            def forward(ctx, v):
                ctx.save_for_backward(v)
                return function(v)

            @staticmethod
            def backward(ctx, grad):
                return grad * slope(*ctx.saved_tensors)

        findings = check_objective(own_objective(Own.apply, range=(-1.0, 3.0), target=1.0), 0.2)
        assert problems(findings) == ["wrong_gradient"]
        found = first(findings).evidence["factor"]
        assert found == (None if factor is None else pytest.approx(factor, rel=1e-6))

    def test_zero_over_zero_at_the_target(self, image):
        objective = of(planted.Right(), image, loss="rmse")
        findings = check_objective(objective, TARGET)
        assert problems(findings) == ["nonfinite_gradient"]
        assert first(findings).evidence["value"] == TARGET
        assert "0/0" in first(findings).explanation
        assert problems(check_objective(objective, 0.1)) == []

    def test_a_loss_that_is_not_finite(self):
        objective = own_objective(lambda v: torch.log(v) ** 2, range=(-1.0, 3.0), period=0)
        assert "nonfinite_gradient" in problems(check_objective(objective, -0.5))


class TestWhatTheLossSays:
    @pytest.mark.parametrize("loss", ["mse", "rmse"])
    def test_nothing(self, image, loss):
        findings = check_objective(of(planted.Ignores(), image, loss=loss))
        assert problems(findings) == ["flat_objective"]
        assert first(findings).evidence["variation"] == 0
        assert "never uses theta" in first(findings).explanation

    def test_nothing_although_it_is_used(self):
        findings = check_objective(own_objective(lambda v: 1 + 0 * v, range=(0.0, 1.0)))
        assert problems(findings) == ["flat_objective"]
        assert "never uses" not in first(findings).explanation

    def test_something_else_each_time(self, image):
        findings = check_objective(of(planted.DropsOut(), image))
        assert problems(findings) == ["nondeterministic"]
        assert first(findings).evidence["submodule"] == "drop (Dropout)"
        assert "drop (Dropout)" in first(findings).explanation
        assert problems(check_objective(of(planted.DropsOut().eval(), image))) == []

    def test_something_else_as_the_state_goes_on(self):
        class Remembers(planted.Layer):
            def __init__(self):
                super().__init__()
                self.register_buffer("mean", torch.zeros(1, dtype=torch.float64))

            def forward(self):
                self.mean.mul_(0.9).add_(torch.cos(self.theta.detach()))
                return (1 - torch.cos(self.theta)) * (1 + self.mean)

        findings = check_objective(own_objective(Remembers(), param="theta"))
        assert "nondeterministic" in problems(findings)

    def test_much_less_than_of_its_neighbours(self, image):
        objective = of(planted.Shrinks(), image, range=(-1.5e5, 1.5e5), period=0, target=0.3e5)
        findings = check_objective(objective)
        assert problems(findings) == []
        (finding,) = (finding for finding in findings if finding.cause == "step_too_small")
        assert finding.evidence["ratio"] < 1e-3


class TestHealth:
    @pytest.mark.parametrize("loss", ["mse", "rmse", "cosine"])
    @pytest.mark.parametrize("make", [planted.Right, planted.Normalises, planted.ReplacesWeight])
    def test_of_a_layer_done_right(self, image, make, loss):
        findings = check_objective(of(make(), image, loss=loss))
        assert problems(findings) == []
        assert len({finding.cause for finding in findings}) == len(findings)

    @pytest.mark.parametrize(
        "settings", [{}, {"loss": "mse"}, {"dtype": "float32"}, {"sigma": 3.0, "gamma": 1.0}]
    )
    def test_of_the_experiment(self, settings):
        texture = np.random.default_rng(0).standard_normal((40, 44))
        findings = check_objective(along(Experiment(image=texture, **settings), "theta"))
        assert problems(findings) == []

    def test_of_a_float32_module(self, image):
        assert problems(check_objective(of(planted.Right(dtype=torch.float32), image))) == []

    def test_of_functions(self):
        assert problems(check_objective(own_objective(lambda v: torch.sin(v) ** 2))) == []
        assert (
            problems(check_objective(own_objective(lambda v: (v - 1).abs(), range=(0.0, 3.0))))
            == []
        )

    @pytest.mark.parametrize(
        ("loss", "span"),
        [
            (lambda v: 1e6 + (v - 1) ** 2, (-1.0, 3.0)),
            (lambda v: 1e-12 * (v - 1) ** 2, (-1.0, 3.0)),
            (lambda v: 1e8 * (v - 1) ** 2, (-1.0, 3.0)),
            (lambda v: ((1e4 * v) ** 2 - 1) ** 2, (-2e-4, 2e-4)),
            (lambda v: (v - 1) ** 4, (-1.0, 3.0)),
            # Slopes are infinite at both ends, at one, in the middle.
            (lambda v: (v.asin() - 0.5) ** 2, (-1.0, 1.0)),
            (lambda v: (v.sqrt() - 1) ** 2, (0.0, 4.0)),
            (lambda v: (v - 1).abs().sqrt(), (-1.0, 3.0)),
            (lambda v: torch.maximum(3 * (v - 1), 1 - v), (-1.0, 3.0)),
            # Staircases of 2^-11 and 2^-24, whose gradient is that of the ramp.
            (lambda v: (v.to(torch.float16).to(torch.float64) - 1) ** 2, (-1.0, 3.0)),
            (lambda v: (v.to(torch.float32) - 1) ** 2, (-1.0, 3.0)),
            # 0.003 wide, 2.2e5 steep; 9e-4 of the range.
            (lambda v: 1 - torch.exp(-(((v - 1) / 0.003) ** 2)) + 0.1 * torch.cos(v), (-3.0, 3.0)),
        ],
    )
    def test_of_functions_that_differences_hardly_follow(self, loss, span):
        start = span[0] + 0.31 * (span[1] - span[0])
        findings = check_objective(own_objective(loss, range=span), start)
        assert problems(findings) == []

    def test_at_a_flat_place(self):
        # A minimum is no clamp: the gradient is zero and everything is right.
        assert problems(check_objective(own_objective(torch.cos), 0.0)) == []


def test_a_clamp_is_named_where_the_loss_varies_between_its_limits_alone():
    # Beyond 0 and 1 the loss is 0.25, and none of the places that are asked lies between.
    made = own_objective(lambda v: (v.clamp(0, 1) - 0.5) ** 2, range=(-2, 3), start=1.7)
    found = {finding.cause: finding for finding in check_objective(made, varies=True)}
    assert not found["flat_objective"].present
    assert found["no_gradient"].evidence["where"]["kind"] == "clamp"
    level = own_objective(lambda v: torch.exp(-300 * (v - 1.4) ** 2), range=(-2, 3), start=-1.7)
    assert not any(finding.present for finding in check_objective(level, varies=True))


def test_a_rounding_that_no_gradient_reaches_is_not_at_fault():
    weights = torch.linspace(-1, 1, 101, dtype=torch.float64)

    def quantised(step: torch.Tensor) -> torch.Tensor:
        # d/dstep (step round(w / step)) = round(w / step): the rounding cuts nothing.
        return torch.round(weights / step) * step

    def cut(step: torch.Tensor) -> torch.Tensor:
        return ((quantised(step).detach() - weights) ** 2).mean() + 0 * step

    def rounded(step: torch.Tensor) -> torch.Tensor:
        return (torch.round(100 * step) / 100 - 0.3) ** 2

    kinds = []
    for loss in (cut, rounded):
        made = own_objective(loss, range=(0.05, 1.0), start=0.5)
        found = {finding.cause: finding for finding in check_objective(made)}["no_gradient"]
        assert found.present
        kinds.append(found.evidence["where"]["kind"])
    assert kinds == ["detach", "step"]


def test_what_is_nowhere_finite_is_not_called_independent():
    # Rodrigues' formula divides by the angle of rotation: at none, 0/0 whatever is beside it.
    def loss(pose: torch.Tensor) -> torch.Tensor:
        angle = pose[:2].norm()
        axis = pose[:2] / angle
        return ((axis * torch.sin(angle)).sum() + pose[2] - 1) ** 2

    several = own_objective(loss, range=(-1.0, 1.0), start=(0.0, 0.0, 0.5), target=(0.3, 0.2, 0.4))
    found = {f.cause: f for f in check_objective(several.along(2, [0.0, 0.0, 0.5]))}
    assert found["nonfinite_gradient"].present
    assert not found["flat_objective"].present
    json.dumps(found["flat_objective"].evidence, allow_nan=False)
    beside = {f.cause: f for f in check_objective(several.along(2, [0.1, 0.0, 0.5]))}
    assert not beside["nonfinite_gradient"].present


def test_findings_become_json(image):
    findings = check_objective(of(planted.WritesData(), image))
    document = json.loads(json.dumps([f.to_dict() for f in findings], allow_nan=False))
    causes = [finding["cause"] for finding in document]
    assert causes == ["flat_objective", "no_gradient", "nonfinite_gradient", "nondeterministic"]
