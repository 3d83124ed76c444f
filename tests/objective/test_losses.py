"""Each loss twice, on whole images and compressed, against scalar formulas and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gabordiag.errors import UsageError
from gabordiag.objective.losses import LOSSES, find_loss
from tests import reference

losses = pytest.mark.parametrize("name", LOSSES)


def vectors(seed: int, count: int = 5, length: int = 12):
    rng = np.random.default_rng(seed)
    outputs, target, changes = rng.normal(size=(3, count, length))
    return outputs, target[0], changes


def compressed_arguments(outputs, target):
    """Compressed responses: inner products are means over pixels, so vectors are over sqrt(P)."""
    root = math.sqrt(len(target))
    response = torch.as_tensor(outputs / root)
    goal = torch.as_tensor(target / root)
    return response - goal, response, goal


def test_every_loss_has_a_scalar_formula():
    assert set(LOSSES) == set(reference.LOSSES)


@losses
@given(seed=st.integers(0, 10**6))
def test_all_forms_are_the_scalar_formula(name, seed):
    outputs, target, _ = vectors(seed)
    expected = [reference.LOSSES[name](output, target) for output in outputs]
    loss = find_loss(name)
    direct = loss.direct(torch.as_tensor(outputs), torch.as_tensor(target))
    compressed = loss.compressed(*compressed_arguments(outputs, target))
    parts = ((outputs - target) ** 2, outputs**2, outputs * target, 0 * outputs + target**2)
    pooled = loss.pooled(torch.as_tensor(np.mean(parts, axis=-1)))
    for found in (direct, compressed, pooled):
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@losses
@given(seed=st.integers(0, 10**6))
def test_closed_form_gradient_is_the_scalar_formula(name, seed):
    outputs, target, changes = vectors(seed)
    expected = [
        reference.loss_gradient(name, output, target, change)
        for output, change in zip(outputs, changes, strict=True)
    ]
    arguments = compressed_arguments(outputs, target)
    gradient = find_loss(name).gradient(*arguments).numpy()
    slopes = (gradient * changes).sum(-1) / math.sqrt(len(target))
    np.testing.assert_allclose(slopes, expected, rtol=1e-11, atol=1e-14)


@losses
def test_autograd_through_both_forms_is_the_scalar_formula(name):
    outputs, target, changes = vectors(8)
    root = math.sqrt(len(target))
    expected = [
        reference.loss_gradient(name, output, target, change)
        for output, change in zip(outputs, changes, strict=True)
    ]
    loss = find_loss(name)
    # One number t an output, which moves it along its change.
    t = torch.zeros(len(outputs), 1, dtype=torch.float64, requires_grad=True)
    goal = torch.as_tensor(target)

    def direct(moved):
        return loss.direct(moved, goal)

    def compressed(moved):
        return loss.compressed((moved - goal) / root, moved / root, goal / root)

    for form in (direct, compressed):
        value = form(torch.as_tensor(outputs) + t * torch.as_tensor(changes))
        (gradient,) = torch.autograd.grad(value.sum(), t)
        np.testing.assert_allclose(gradient[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("angle", [1.0, 1e-2, 1e-4, 1e-6, 1e-8])
def test_cosine_keeps_its_digits_near_zero(angle):
    # 1 - cos(angle) = 2 sin^2(angle/2); written as 1 - cos it would have no digit left at 1e-8.
    # The residual is written without cancellation too, as the experiment supplies it.
    expected = 2 * math.sin(angle / 2) ** 2
    target = torch.tensor([1.0, 0.0], dtype=torch.float64)
    residual = torch.tensor([[-expected, math.sin(angle)]], dtype=torch.float64)
    cosine = find_loss("cosine")
    loss = cosine.compressed(residual, residual + target, target)
    assert loss.item() == pytest.approx(expected, rel=1e-13)
    # The derivative in the angle, along the response's own change (-sin, cos), is sin(angle).
    change = torch.tensor([[-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    gradient = cosine.gradient(residual, residual + target, target)
    assert (gradient * change).sum().item() == pytest.approx(math.sin(angle), rel=1e-13)


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_cosine_of_parallel_responses_is_zero(factor):
    _, target, _ = vectors(3)
    loss = find_loss("cosine").compressed(*compressed_arguments(factor * target[None], target))
    assert loss.item() == pytest.approx(0, abs=1e-30)


def test_cosine_of_opposite_and_crossed_responses():
    target = np.array([3.0, 4.0])
    outputs = np.array([[-6.0, -8.0], [-4.0, 3.0]])
    for values in (
        find_loss("cosine").direct(torch.as_tensor(outputs), torch.as_tensor(target)),
        find_loss("cosine").compressed(*compressed_arguments(outputs, target)),
    ):
        np.testing.assert_allclose(values, [2.0, 1.0], rtol=1e-15)


def test_rmse_at_its_zero_is_zero_with_an_undefined_gradient():
    outputs, _, _ = vectors(5, count=1)
    arguments = compressed_arguments(outputs, outputs[0])
    rmse = find_loss("rmse")
    assert rmse.compressed(*arguments).item() == 0
    assert rmse.gradient(*arguments).isnan().all()
    assert (find_loss("mse").gradient(*arguments) == 0).all()


def test_rmse_is_the_root_of_mse():
    assert find_loss("rmse").is_root
    assert find_loss("rmse").squared == "mse"
    assert [find_loss(name).squared for name in ("mse", "cosine")] == ["mse", "cosine"]


@losses
def test_a_scale_free_loss_is_the_same_of_a_response_twice_as_large(name):
    outputs, target = map(torch.as_tensor, vectors(4)[:2])
    loss = find_loss(name)
    once, twice = loss.direct(outputs, target), loss.direct(2 * outputs, target)
    assert torch.allclose(once, twice, rtol=1e-12) == loss.smooth.is_scale_free
    assert loss.scale(3.0) == (1.0 if loss.smooth.is_scale_free else 3.0)


@losses
def test_only_roots_have_a_kink_and_their_squares_have_none(name):
    outputs, target, _ = vectors(4)
    loss = find_loss(name)
    smooth = find_loss(loss.squared)
    away = compressed_arguments(outputs, target)
    power = 2 if loss.is_root else 1
    np.testing.assert_allclose(loss.compressed(*away) ** power, smooth.compressed(*away))
    at_zero = compressed_arguments(target[None], target)
    for one in (loss, smooth):
        gradient = one.gradient(*at_zero)
        assert (gradient.isnan() if one.is_root else gradient == 0).all()
    assert not smooth.is_root


@losses
def test_losses_are_found_by_their_names(name):
    assert find_loss(name).name == name


def test_unknown_loss():
    with pytest.raises(UsageError, match="'mae' is unknown") as caught:
        find_loss("mae")
    assert all(name in caught.value.advice for name in LOSSES)
