"""A Gabor filter's parameters from its pixels, for filters of all kinds."""

from __future__ import annotations

import math

import pytest
import torch

from gabordiag.gabor import gabor_kernel
from gabordiag.gabor_fit import fit_gabor


def draw(count: int, seed: int, size: int) -> dict[str, torch.Tensor]:
    """Random filters, from narrow to wide ones, in all phases."""
    generator = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> torch.Tensor:
        share = torch.rand(count, generator=generator, dtype=torch.float64)
        return low + (high - low) * share

    return {
        "theta": between(-4, 4),
        "wavelength": between(math.log(3), math.log(size)).exp(),
        "sigma": between(0, math.log(size / 3)).exp(),
        "psi": between(-7, 7),
        "gamma": between(math.log(0.3), math.log(2)).exp(),
    }


@pytest.mark.each(3)
@pytest.mark.parametrize("size", [9, 21, 31])
def test_random_filters_are_found_again(size: int) -> None:
    made = gabor_kernel(**draw(48, size, size), kernel_size=size)
    again = gabor_kernel(**fit_gabor(made), kernel_size=size)
    error = (again - made).square().sum((1, 2)) / made.square().sum((1, 2))
    assert (error < 1e-12).all(), error.sort().values[-4:]


def test_under_noise_the_fit_is_no_worse_than_the_truth() -> None:
    made = gabor_kernel(**draw(48, 1, 15), kernel_size=15)
    noisy = made + 0.05 * torch.randn(made.shape, generator=torch.Generator().manual_seed(0))
    again = gabor_kernel(**fit_gabor(noisy), kernel_size=15)
    left = (again - noisy).square().sum((1, 2))
    assert (left <= (made - noisy).square().sum((1, 2)) * (1 + 1e-9)).all()


def test_kernels_that_are_no_filters_give_finite_numbers() -> None:
    strange = torch.stack([torch.zeros(9, 9), torch.ones(9, 9), torch.eye(9), 1e6 * torch.eye(9)])
    assert all(value.isfinite().all() for value in fit_gabor(strange).values())
