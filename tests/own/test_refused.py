"""Modules and functions that cannot be studied as they are: one line that says what to do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import gabordiag as gd
from gabordiag.errors import InputError, UsageError
from gabordiag.own.custom import own_objective


class Module(nn.Module):
    """A module of one parameter whose forward is a function of it and the input."""

    def __init__(self, function, value=0.5):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(value))
        self.function = function

    def forward(self, *inputs):
        return self.function(self.w, *inputs)


def of(function, value=0.5, **options):
    return own_objective(Module(function, value), **{"range": (-2.0, 4.0), "period": 0} | options)


class TestOwnLoss:
    """A module that returns one number is its own loss; the target is where w should end."""

    LOSSES = (
        lambda w: (w - 1) ** 2 + 0.3,
        lambda w: ((w - 1) ** 2 + 0.3).reshape(1, 1),
        lambda w: 2 - torch.cos(w - 1),
        lambda w: (w - 1).abs(),
    )

    @pytest.mark.parametrize("function", LOSSES)
    def test_it_is_the_function_of_the_same_loss(self, function):
        module = of(function, torch.tensor(0.5, dtype=torch.float64), target=1.0)
        same = own_objective(
            lambda w: function(w).reshape(()), range=(-2.0, 4.0), period=0, target=1.0
        )
        values = np.linspace(-1.5, 3.5, 7)
        np.testing.assert_allclose(module.loss_at(values), same.loss_at(values), rtol=1e-12)
        assert module.is_root == same.is_root
        assert module.loss_name == "loss"

    @pytest.mark.parametrize("function", LOSSES)
    def test_another_loss_is_refused(self, function):
        with pytest.raises(UsageError, match="which is its loss"):
            of(function, target=1.0, loss="mse")

    def test_an_output_to_compare_with_may_be_given(self):
        objective = of(lambda w: w**2, target_output=torch.tensor(4.0), loss="mse")
        np.testing.assert_allclose(objective.loss_at([1.0]), [9.0], rtol=1e-6)

    @pytest.mark.slow
    def test_a_diagnosis_of_it(self):
        module = Module(self.LOSSES[0], torch.tensor(0.0, dtype=torch.float64))
        options = {"lr": 0.1, "range": (-2.0, 4.0)}
        assert gd.diagnose(module, target=1.0, **options).verdict == "healthy"
        assert gd.diagnose(module, target=1.5, **options).verdict == "target_unreachable"


class TestComplex:
    @pytest.mark.parametrize("value", [0.5 + 0.5j, [0.1j, 1.0], [[1 + 1j]], 1j])
    def test_a_complex_parameter(self, value):
        with pytest.raises(UsageError, match=r"(?s)complex.*real and imaginary part"):
            of(lambda w: w.real.sum(), torch.tensor(value), param="w")

    @pytest.mark.parametrize(
        "function",
        [
            lambda w, x: torch.fft.rfft(x) * torch.exp(-1j * w),
            lambda w, x: torch.complex(w * x, x),
            lambda w, x: torch.exp(1j * w * x),
            lambda w, x: torch.view_as_complex(torch.stack([w * x, x], -1)),
        ],
    )
    @pytest.mark.parametrize("loss", ["mse", "rmse", "cosine"])
    def test_a_complex_output(self, function, loss):
        with pytest.raises(InputError, match=r"(?s)complex.*view_as_real"):
            of(function, input=torch.ones(8), target=0.2, loss=loss)

    def test_a_function_of_complex_outputs(self):
        objective = of(
            lambda w, x: torch.exp(1j * w * x), input=torch.ones(8), target=0.0,
            loss=lambda a, b: (a - b).abs().square().mean(),
        )  # fmt: skip
        # |exp(i w) - 1|^2 = 2 - 2 cos w
        np.testing.assert_allclose(objective.loss_at([1.0]), [2 - 2 * np.cos(1)], rtol=1e-6)

    def test_a_complex_number_is_no_loss(self):
        with pytest.raises(InputError, match="complex number"):
            of(lambda w: w * 1j)


class TestLabels:
    @pytest.mark.parametrize(
        ("shape", "labels"),
        [((6, 4), (6,)), ((6, 4, 2), (6, 2)), ((6, 1), (6,)), ((1, 3), (1,))],
    )
    def test_how_labels_get_in(self, shape, labels):
        with pytest.raises(InputError, match=r"(?s)For labels.*loss="):
            of(
                lambda w, x: x / w,
                input=torch.ones(shape),
                target_output=torch.zeros(labels, dtype=torch.long),
            )

    @pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, np.int16])
    def test_a_function_of_output_and_labels(self, kind):
        logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
        labels = np.array([0, 1, 2, 3, 0, 1], dtype=kind)
        objective = of(
            lambda w, x: x / w, 1.0, input=logits, target_output=labels,
            loss=nn.functional.cross_entropy, range=(0.5, 3.0),
        )  # fmt: skip
        expected = nn.functional.cross_entropy(logits / 2, torch.tensor(labels).long())
        np.testing.assert_allclose(objective.loss_at([2.0]), [expected], rtol=1e-6)

    @pytest.mark.parametrize(
        ("output", "words"),
        [
            (lambda w: {"loss": w, "other": 0}, r"output\['loss'\]"),
            (lambda w: (w, w.detach()), r"output\[0\]"),
            (lambda w: [w], r"output\[0\]"),
            (lambda w: "text", "computed from its output"),
        ],
    )
    def test_an_output_that_is_no_tensor(self, output, words):
        with pytest.raises(InputError, match=words):
            of(output)


class Forgot(nn.Module):
    def __init__(self):
        pass

    def forward(self):
        return torch.ones(())


class Inner(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(0.5))
        self.inner = inner

    def forward(self):
        return self.w**2


class Buffered(Inner):
    def __init__(self, tensor):
        super().__init__(nn.Identity())
        self.register_buffer("fixed", tensor)


class TestTensors:
    @pytest.mark.parametrize(
        "value",
        [
            torch.tensor(0.5, dtype=torch.bfloat16),
            torch.tensor([0.5, 1.0], dtype=torch.bfloat16),
            torch.tensor(0.5, dtype=torch.float8_e5m2),
            torch.tensor([[0.5]], dtype=torch.float8_e4m3fn),
        ],
    )
    def test_too_coarse(self, value):
        module = Module(lambda w: w.float().sum())
        module.w = nn.Parameter(value, requires_grad=False)
        with pytest.raises(InputError, match=r"(?s)too coarse.*module\.float\(\)"):
            own_objective(module, param="w", range=(0, 1))

    @pytest.mark.parametrize(
        "module",
        [
            Buffered(torch.eye(3).to_sparse()),
            Buffered(torch.empty(3, device="meta")),
            Inner(nn.Linear(2, 2, device="meta")),
            nn.Linear(1, 1, bias=False, device="meta"),
        ],
    )
    def test_sparse_and_meta(self, module):
        with pytest.raises(InputError, match=r"sparse|meta device"):
            own_objective(module, range=(0, 1))

    @pytest.mark.parametrize("kind", [lambda t: t.to_sparse(), lambda t: t.to("meta")])
    def test_sparse_and_meta_results(self, kind):
        with pytest.raises(InputError, match=r"module's output is .*(sparse|meta device)"):
            of(lambda w, x: kind(w * x), input=torch.ones(3), target=1.0)
        with pytest.raises(InputError, match=r"objective's loss is .*(sparse|meta device)"):
            own_objective(lambda v: kind(v**2), range=(-1, 1))

    @pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
    def test_scripted(self):
        scripted = torch.jit.trace(nn.Linear(2, 2), torch.ones(2))
        for module in (scripted, Inner(scripted), nn.Sequential(scripted), Inner(Inner(scripted))):
            with pytest.raises(InputError, match="scripted"):
                own_objective(module, param="w", range=(0, 1))

    @pytest.mark.parametrize("param", [None, "w", "layers.0.w", ["a", "b"]])
    def test_no_super_init(self, param):
        with pytest.raises(InputError, match=r"super\(\).__init__\(\)"):
            own_objective(Forgot(), param=param)


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class Base(BaseException):
    pass


class TestExceptions:
    @pytest.mark.parametrize("kind", [Base, UnspeakableError, SystemExit, BaseExceptionGroup])
    def test_whatever_is_raised_is_told_with_its_line(self, kind):
        def loss(v):
            raise kind("broken", [Base()]) if kind is BaseExceptionGroup else kind("broken")

        with pytest.raises(InputError, match=rf"(?s)test_refused.py, line \d+.*{kind.__name__}"):
            own_objective(loss, range=(0, 1))

    def test_an_interruption_passes(self):
        def loss(v):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            own_objective(loss, range=(0, 1))


@pytest.mark.parametrize(
    "given",
    [
        {"range": (0,)}, {"range": 3}, {"range": "0:3"}, {"period": "pi"}, {"target": "1"},
        {"start": "a"}, {"start": 1 + 1j}, {"steps": 2.5}, {"steps": "30"}, {"steps": True},
        {"range": (None, 3)}, {"start": {"v": "a"}}, {"seed": -1}, {"seed": 2**32}, {"seed": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_of_another_type_is_refused(given):
    with pytest.raises(UsageError):
        gd.optimize(lambda v: (v - 1) ** 2, **{"range": (-3, 3), "lr": 0.1} | given)


def test_a_modules_own_value_is_its_start_wherever_it_is():
    with pytest.raises(UsageError, match="start 5 lies outside the range -2 to 4"):
        of(lambda w: (w - 1) ** 2, value=5.0)
    # 0.7 in float32 is 0.699999988: rounding alone is no other place.
    objective = of(lambda w: (w - 1) ** 2, value=0.7, range=(0.7, 4.0))
    assert objective.parameter.start == 0.7


def test_a_start_may_be_a_leaf():
    start = torch.tensor(2.5, requires_grad=True)
    found = gd.optimize(lambda v: (v - 1) ** 2, range=(-3, 3), start=start, lr=0.5, steps=20)
    assert found.runs[0].trajectory.values[0] == 2.5


def test_a_start_by_name_may_be_a_leaf():
    start = {"v": torch.tensor(2.5, requires_grad=True)}
    found = gd.optimize(lambda v: (v - 1) ** 2, range=(-3, 3), start=start, lr=0.5, steps=2)
    assert found.runs[0].trajectory.values[0] == 2.5


@pytest.mark.parametrize("given", [{"points": 21.0}, {"points": "21"}, {"over": ...}], ids=str)
def test_what_a_sweep_does_not_take_is_refused(given):
    with pytest.raises(UsageError):
        gd.sweep(lambda v: (v - 1) ** 2, **{"range": (-3, 3)} | given)
    with pytest.raises(UsageError):
        gd.sweep(
            lambda v: (v**2).sum(),
            **{"over": ("v[0]", "v[1]"), "range": [(-3, 3), (-3, 2)]} | given,
        )


@pytest.mark.parametrize("seed", [-1, 2**32, 0.0])
def test_a_seed_is_one_that_numpy_takes(seed):
    with pytest.raises(UsageError, match="seed"):
        gd.Experiment(seed=seed)
