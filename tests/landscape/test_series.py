"""The loss as a series: its value, its derivatives, and the honesty of its stated errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gabordiag.errors import InputError
from gabordiag.landscape.series import Series, build_series
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.space import Parameter
from gabordiag.own.custom import own_objective
from tests.landscape.planted import Planted, interval, waves

# Generic places: no fraction of any grid.
ANGLES = np.sort(np.random.default_rng(0).uniform(0, 2 * math.pi, 200))


PERIOD = Parameter("turn", 0.0, 2 * math.pi, 2 * math.pi, None, 0.0)
INTERVAL = Parameter("way", -1.0, 3.0, None, None, 0.0)


def random_polynomial(degree: int, seed: int) -> Series:
    return Series((PERIOD,), np.random.default_rng(seed).standard_normal(2 * degree + 1))


class TestSeriesOfOneParameter:
    def test_derivatives_term_by_term(self):
        # 3 + cos 2phi + 2 sin 2phi
        polynomial = Series((PERIOD,), np.array([3.0, 0, 0, 1, 2]))
        assert polynomial.degree == 2
        cos, sin = np.cos(2 * ANGLES), np.sin(2 * ANGLES)
        expected = [
            3 + cos + 2 * sin,
            -2 * sin + 4 * cos,
            -4 * cos - 8 * sin,
            8 * sin - 16 * cos,
        ]
        np.testing.assert_allclose(polynomial.derivatives(ANGLES, 3), expected, atol=1e-13)

    @given(degree=st.integers(0, 30), seed=st.integers(0, 10**6), order=st.integers(0, 9))
    def test_bound_is_never_exceeded(self, degree, seed, order):
        polynomial = random_polynomial(degree, seed)
        values = polynomial.derivatives(ANGLES, order)[order]
        assert np.abs(values).max() <= polynomial.bound(order) * (1 + 1e-12)

    @pytest.mark.parametrize("order", [0, 1, 5])
    def test_bound_is_reached_by_one_wave(self, order):
        polynomial = Series((INTERVAL,), np.array([0.0, 0, 0, 1]))  # cos(3 phi)
        crest = np.array([0.0, math.pi / 6])
        reached = np.abs(polynomial.derivatives(crest, order)[order]).max()
        assert reached == pytest.approx(polynomial.bound(order), rel=1e-12)
        assert polynomial.bound(order) == pytest.approx(3**order)

    @given(degree=st.integers(0, 60), seed=st.integers(0, 10**6), order=st.integers(0, 2))
    def test_rounding_covers_the_difference_to_extended_precision(self, degree, seed, order):
        polynomial = random_polynomial(degree, seed)
        k = np.arange(degree + 1)
        phases = np.multiply.outer(ANGLES.astype(np.longdouble), k.astype(np.longdouble))
        # d^m/dphi^m of Re(c e^{ik phi}) shifts the phase by m quarter turns.
        a = polynomial.coefficients
        waves = np.append(a[:1], a[1::2] - 1j * a[2::2])
        c = waves.astype(np.clongdouble) * np.clongdouble(1j) ** order
        terms = (c.real * np.cos(phases) - c.imag * np.sin(phases)) * k.astype(
            np.longdouble
        ) ** order
        exact = terms.sum(axis=1)
        error = np.abs(polynomial.derivatives(ANGLES, order)[order] - exact).max()
        assert error <= polynomial.rounding(order)


@pytest.mark.parametrize("parameters", [(PERIOD,), (INTERVAL,), (PERIOD, INTERVAL)])
@pytest.mark.parametrize("counts", [(16, 16), (9, 12)])
def test_samples_and_slopes_in_closed_form(parameters, counts):
    # 1 + cos 2a - sin 3a along a, 2 - b + b^3 along b.
    functions = {
        "turn": (
            lambda a: 1 + np.cos(2 * a) - np.sin(3 * a),
            lambda a: -2 * np.sin(2 * a) - 3 * np.cos(3 * a),
        ),
        "way": (lambda b: 2 - b + b**3, lambda b: 3 * b**2 - 1),
    }
    used = [functions[parameter.name] for parameter in parameters]
    places = [p.value(p.nodes(n)) for p, n in zip(parameters, counts, strict=False)]
    samples = used[0][0](places[0])
    if len(parameters) == 2:
        samples = np.multiply.outer(samples, used[1][0](places[1]))
    series = Series.from_samples(parameters, samples).chopped(1e-12)
    low, high = np.array([(p.low, p.high) for p in parameters]).T
    values = np.random.default_rng(1).uniform(low, high, (30, len(parameters)))
    levels = series.value_and_slopes(values)
    for row, axis in enumerate([None, *range(len(parameters))]):
        factors = [f[int(axis == i)](values[:, i]) for i, f in enumerate(used)]
        np.testing.assert_allclose(levels[row], np.prod(factors, axis=0), atol=1e-11)
    # Each is as short as it can be.
    assert series.coefficients.shape == tuple({"turn": 7, "way": 4}[p.name] for p in parameters)


def deviation(objective, derivative, second) -> None:
    """Asserts that D and dD/dphi are right to within the errors that the series states."""
    series = build_series(objective)
    phi = ANGLES * objective.parameter.span / (2 * math.pi)
    values = objective.parameter.value(phi)
    ours, slope = series.derivative.derivatives(phi, 1)
    width = objective.parameter.high - objective.parameter.low
    # dvalue/dphi: uniform over a period; half sin(phi) for value = middle - half cos(phi).
    rate = width / 2 * np.sin(phi) if objective.parameter.period is None else width / (2 * math.pi)
    scale = np.abs(derivative(values)).max()
    assert np.abs(ours - derivative(values)).max() <= series.error
    assert np.abs(slope - second(values) * rate).max() <= series.slope_error
    # Honest, and not by stating something useless.
    assert series.error <= 1e-9 * scale


class TestPlantedSeries:
    @pytest.mark.parametrize(("low", "high"), [(-math.pi, math.pi), (0.3, 0.3 + 2 * math.pi)])
    def test_a_period_that_starts_anywhere(self, low, high):
        function = waves({1: 1.0, 3: 0.4}, {2: -0.7})
        deviation(
            Planted(function, low, high),
            lambda v: -np.sin(v) - 1.2 * np.sin(3 * v) - 1.4 * np.cos(2 * v),
            lambda v: -np.cos(v) - 3.6 * np.cos(3 * v) + 2.8 * np.sin(2 * v),
        )

    def test_a_short_period(self):
        period = 0.37
        rate = 2 * math.pi / period
        deviation(
            Planted(lambda v: torch.exp(torch.sin(rate * v)), 5.0, 5.0 + period),
            lambda v: rate * np.cos(rate * v) * np.exp(np.sin(rate * v)),
            lambda v: (
                rate**2 * (np.cos(rate * v) ** 2 - np.sin(rate * v)) * np.exp(np.sin(rate * v))
            ),
        )

    @pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (3.0, 3.5)])
    def test_an_interval(self, low, high):
        deviation(
            interval(lambda v: torch.exp(-v) * torch.cos(3 * v), low, high),
            lambda v: np.exp(-v) * (-np.cos(3 * v) - 3 * np.sin(3 * v)),
            lambda v: np.exp(-v) * (-8 * np.cos(3 * v) + 6 * np.sin(3 * v)),
        )

    def test_ends_of_the_range(self):
        for objective in (
            Planted(waves({1: 1.0}, {}), 1.0, 1.0 + 2 * math.pi),
            interval(lambda v: torch.exp(v), 1.0, 4.0),
        ):
            parameter = build_series(objective).parameter
            ends = parameter.value(np.array([0.0, parameter.span]))
            np.testing.assert_allclose(ends, [parameter.low, parameter.high])

    @settings(max_examples=25)
    @given(data=st.data())
    def test_the_stated_error_holds_for_any_waves(self, data):
        # Few, high and symmetric frequencies: what an adaptive sampling overlooks most easily.
        frequencies = data.draw(st.lists(st.integers(1, 140), min_size=1, max_size=3, unique=True))
        weights = [data.draw(st.sampled_from([1.0, 0.1, -1e-3])) for _ in frequencies]
        sines = data.draw(st.booleans())
        terms = dict(zip(frequencies, weights, strict=True))
        function = waves({}, terms) if sines else waves(terms, {})
        series = build_series(Planted(function))
        values = series.parameter.value(ANGLES)
        true = sum(
            w * k * (np.cos(k * values) if sines else -np.sin(k * values)) for k, w in terms.items()
        )
        ours = series.derivative.derivatives(ANGLES, 0)[0]
        assert np.abs(ours - true).max() <= series.error

    @given(degree=st.integers(1, 30))
    def test_one_wave_is_resolved(self, degree):
        series = build_series(Planted(waves({degree: 1.0}, {})))
        assert series.error < 1e-9 * degree


def test_the_loss_along_psi_has_degree_two(texture):
    # g = cos(psi) C - sin(psi) S, so mse is quadratic in (cos psi, sin psi).
    experiment = Experiment(
        image=texture(), loss="mse", kernel_size=9, wavelength=5.0, sigma=2.0, psi=0.0
    )
    series = build_series(along(experiment, "psi"))
    magnitudes = np.abs(series.derivative.waves)
    assert magnitudes[1:3].max() > 1e-3
    assert magnitudes[3:].max(initial=0) < 1e-12 * magnitudes.max()


def test_half_the_period_halves_the_series(texture):
    # At psi = 0 the loss has the period pi in theta: the same loss over 2 pi has twice the degree,
    # and only even frequencies.
    options = {
        "image": texture(),
        "loss": "mse",
        "kernel_size": 9,
        "wavelength": 5.0,
        "sigma": 2.0,
    }
    objective = along(Experiment(**options))
    short = build_series(objective)
    double = build_series(Planted(objective.loss, -math.pi, math.pi))
    odd = np.abs(double.derivative.waves[1::2])
    assert odd.max() < 1e-11 * np.abs(double.derivative.waves).max()
    shared = min(len(short.derivative.waves), len(double.derivative.waves[::2]))
    turn = np.exp(1j * np.arange(shared) * math.pi)  # the ranges start half a period apart
    np.testing.assert_allclose(
        short.derivative.waves[:shared],
        (double.derivative.waves[::2][:shared] * turn),
        atol=1e-10 * short.derivative.bound(0),
    )


@pytest.mark.parametrize(
    ("loss", "low"),
    [(torch.log, -1.0), (lambda v: torch.where((v - 0.5).abs() < 1e-3, torch.nan, v), 0.0)],
    ids=["half", "gap"],
)
def test_a_range_in_which_the_loss_is_not_finite_is_refused(loss, low):
    with pytest.raises(InputError, match="is not finite at"):
        build_series(own_objective(loss, range=(low, 1.0)))
