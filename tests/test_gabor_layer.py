"""`GaborConv2d`: the experiment's kernel in a convolution, with all five gradients."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import gabordiag as gd
from gabordiag.errors import ParameterError, UsageError

NAMES = ("theta", "wavelength", "sigma", "psi", "gamma")
VALUES = {
    "theta": [0.3, 1.1, -0.4],
    "wavelength": [4.0, 5.5, 7.0],
    "sigma": [1.7, 2.2, 3.0],
    "psi": [0.2, 0.0, 1.4],
    "gamma": [0.5, 1.0, 0.8],
}


def image(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        dtype
    )


@pytest.mark.parametrize("orientation", ["angle", "vector"])
def test_it_is_a_convolution_with_the_kernels(orientation: str) -> None:
    layer = gd.GaborConv2d(
        1, 3, 9, padding="same", dtype=torch.float64, orientation=orientation, **VALUES
    )
    x = image(2, 1, 14, 12)
    kernels = torch.stack(
        [
            gd.gabor_kernel(**{name: VALUES[name][i] for name in NAMES}, kernel_size=9)
            for i in range(3)
        ]
    )
    expected = functional.conv2d(x, kernels[:, None], padding="same")
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("orientation", ["angle", "vector"])
def test_gradients_of_all_five(orientation: str) -> None:
    layer = gd.GaborConv2d(
        2, 3, 7, dtype=torch.float64, orientation=orientation, bias=True, **VALUES
    )
    x = image(1, 2, 9, 9)
    names, tensors = zip(*layer.named_parameters(), strict=True)
    assert len(names) == 7

    def outputs(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    leaves = tuple(tensor.detach().clone().requires_grad_() for tensor in tensors)
    assert torch.autograd.gradcheck(outputs, leaves)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": 1},
        {"padding": (2, 1), "dilation": 2, "padding_mode": "circular"},
        {"padding": "same", "padding_mode": "reflect", "bias": False},
        {"groups": 2, "padding": "valid", "padding_mode": "replicate"},
    ],
)
def test_options_mean_what_they_mean_for_conv2d(options: dict) -> None:
    layer = gd.GaborConv2d(4, 6, 5, **options, dtype=torch.float64)
    plain = nn.Conv2d(4, 6, 5, **options, dtype=torch.float64)
    depth = 4 // options.get("groups", 1)
    with torch.no_grad():
        plain.weight.copy_(layer.kernels()[:, None] * depth**-0.5)
        if plain.bias is not None:
            plain.bias.zero_()
    x = image(2, 4, 11, 13)
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


def test_what_is_fixed_is_a_buffer() -> None:
    layer = gd.GaborConv2d(1, 4, 7, learn=("theta", "sigma"), bias=False)
    assert [name for name, _ in layer.named_parameters()] == ["theta", "log_sigma"]
    assert {name for name, _ in layer.named_buffers()} == {"log_wavelength", "psi", "log_gamma"}
    again = gd.GaborConv2d(1, 4, 7, learn=("theta", "sigma"), bias=False, theta=0.3)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.kernels(), layer.kernels())
    again.reset_parameters()
    assert again.theta.tolist() == pytest.approx([0.3] * 4)


def test_the_first_bank_is_spread_evenly() -> None:
    layer = gd.GaborConv2d(1, 16, 15)
    values = layer.values()
    gaps = values["theta"].sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((15,), math.pi / 16))
    assert values["wavelength"].min() >= 2
    assert len({round(float(w), 3) for w in values["wavelength"].detach()}) == 16
    assert (6 * values["sigma"] <= 1.2 * 15).all()


def test_it_compiles_and_maps() -> None:
    layer = gd.GaborConv2d(1, 3, 7)
    x = image(1, 1, 10, 10, dtype=torch.float32)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))

    def response(theta: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"theta": theta}, (x,))

    thetas = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    together = torch.func.vmap(response)(thetas)
    one_by_one = torch.stack([response(theta) for theta in thetas])
    torch.testing.assert_close(together, one_by_one)


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="no centre pixel"):
        gd.GaborConv2d(1, 2, 8)
    with pytest.raises(ParameterError, match="square"):
        gd.GaborConv2d(1, 2, (7, 9))
    with pytest.raises(ParameterError, match="above 0"):
        gd.GaborConv2d(1, 2, 7, sigma=[1.0, -1.0])
    with pytest.raises(ParameterError, match="2 of them"):
        gd.GaborConv2d(1, 2, 7, sigma=[1.0, 1.0, 2.0])
    with pytest.raises(UsageError, match="not a parameter"):
        gd.GaborConv2d(1, 2, 7, learn=("angle",))
    with pytest.raises(UsageError, match="several names"):
        gd.GaborConv2d(1, 2, 7, learn="theta")
    with pytest.raises(UsageError, match="not a parameter"):
        gd.GaborConv2d(1, 2, 7, frequency=1.0)
    with pytest.raises(UsageError, match="groups"):
        gd.GaborConv2d(3, 2, 7, groups=2)
    with pytest.raises(UsageError, match="orientation"):
        gd.GaborConv2d(1, 2, 7, orientation="doubled")


def test_its_representation_says_what_is_learned() -> None:
    assert "learn=('theta',)" in repr(gd.GaborConv2d(1, 2, 7, learn=("theta",)))


def test_a_layer_made_from_a_tensor_with_a_history_can_be_copied() -> None:
    angles = 2 * torch.tensor([0.1, 0.2], requires_grad=True)
    layer = gd.GaborConv2d(1, 2, 5, theta=angles)
    torch.testing.assert_close(copy.deepcopy(layer).theta.detach(), torch.tensor([0.2, 0.4]))
    with pytest.raises(UsageError, match="0 groups"):
        gd.GaborConv2d(1, 2, 5, groups=0)
