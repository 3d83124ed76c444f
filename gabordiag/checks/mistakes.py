"""Which mistake is it? A wrong kernel or derivative, identified by trying the usual ones.

Each mistake is a function that makes what somebody with that mistake would have made; the one that
agrees with what was given at every parameter point is the one. Points are generic: no symmetric
angle, psi off 0 and pi, gamma off 1, so that no two mistakes look alike.

The Gabor function is written once more here, in NumPy on any grid and in the parts that a mistake
leaves out: `gabordiag.gabor` does not provide shifted, stretched or partial formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import add, mul
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from gabordiag.gabor import GaborParameters
from gabordiag.objective.space import FloatArray

# From a filter and grids x, y to the values there.
Field = Callable[[GaborParameters, FloatArray, FloatArray], FloatArray]

_DEGREE = math.pi / 180
# Nothing cancels in a complex step, however small it is (Squire & Trapp 1998).
COMPLEX_STEP = 1e-30
# A shared factor may come from rounded constants; a factor that depends on the parameters has to
# fit as a monomial this well.
_MONOMIAL = 1e-4
_SOME_FACTOR = "a factor that depends on the parameters times"
_BACKWARDS = "it rotates the opposite way (x' = x cos - y sin)"
# Formulas that differ in how a parameter enters; the JSON has no name for them.
_FORMULAS: tuple[tuple[str, str, Callable[[float], float]], ...] = (
    ("it has gamma where gamma^2 belongs", "gamma", math.sqrt),
    ("it has gamma^4 where gamma^2 belongs", "gamma", lambda gamma: gamma**2),
    ("it leaves gamma out", "gamma", lambda gamma: 1.0),
    ("gamma divides where it should multiply", "gamma", lambda gamma: 1 / gamma),
    ("it has sigma^2 where 2 sigma^2 belongs", "sigma", lambda sigma: sigma / math.sqrt(2)),
    ("it has sigma where sigma^2 belongs", "sigma", math.sqrt),
    ("it leaves out the carrier's 2 pi", "wavelength", lambda length: 2 * math.pi * length),
    ("it has pi where 2 pi belongs", "wavelength", lambda length: 2 * length),
    ("it takes the wavelength as a frequency", "wavelength", lambda length: 1 / length),
    ("it leaves psi out", "psi", lambda psi: 0.0),
    ("psi has the opposite sign", "psi", lambda psi: -psi),
    ("it has the sine where the cosine belongs", "psi", lambda psi: psi - math.pi / 2),
    ("it has minus the sine where the cosine belongs", "psi", lambda psi: psi + math.pi / 2),
)
# What kernels are divided by.
_MEASURES: tuple[tuple[str, Callable[[FloatArray], float]], ...] = (
    ("sum", np.sum),
    ("sum of magnitudes", lambda kernel: float(np.abs(kernel).sum())),
    ("Euclidean norm", lambda kernel: float(np.linalg.norm(kernel))),
    ("largest magnitude", lambda kernel: float(np.abs(kernel).max())),
)


class Mistake(NamedTuple):
    """A usual mistake, with its name in the JSON, and what somebody who made it would have made."""

    name: str
    explanation: str
    field: Field


class Match(NamedTuple):
    """What was recognised; the factor is None where it depends on the parameters."""

    name: str
    explanation: str
    factor: float | None = None


def _factors(v: Any, x: FloatArray, y: FloatArray) -> tuple[Any, Any]:
    """Returns envelope and carrier; complex, if one of the parameters is."""
    x_rot = x * np.cos(v.theta) + y * np.sin(v.theta)
    y_rot = -x * np.sin(v.theta) + y * np.cos(v.theta)
    envelope = np.exp(-(x_rot**2 + (v.gamma * y_rot) ** 2) / (2 * v.sigma**2))
    return envelope, np.cos(2 * np.pi * x_rot / v.wavelength + v.psi)


def kernel_field(values: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns the Gabor function at x, y."""
    envelope, carrier = _factors(values, x, y)
    return np.asarray(envelope * carrier)


def _parts(wrt: str, v: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns what envelope and carrier each give to the partial derivative (2, ...).

    By the product rule, each factor's own derivative by a complex step.
    """
    envelope, carrier = _factors(v, x, y)
    step = {wrt: getattr(v, wrt) + 1j * COMPLEX_STEP}
    moved = _factors(SimpleNamespace(**v.to_dict() | step), x, y)
    d_envelope, d_carrier = (np.imag(factor) / COMPLEX_STEP for factor in moved)
    return np.stack([d_envelope * carrier, envelope * d_carrier])


def derivative_field(wrt: str) -> Field:
    """Returns the Gabor function's partial derivative as a function."""
    return lambda v, x, y: np.sum(_parts(wrt, v, x, y), axis=0)


def derivative_terms(wrt: str) -> list[tuple[str, Field]]:
    """Returns the terms of a partial derivative that has several, by name."""
    if wrt != "theta":
        return []
    return [
        ("Gaussian envelope", lambda v, x, y: _parts(wrt, v, x, y)[0]),
        ("cosine", lambda v, x, y: _parts(wrt, v, x, y)[1]),
    ]


def _changed(field: Field, change: Callable[[float], float], *names: str) -> Field:
    """Returns the field of a filter with some parameters changed."""
    return lambda v, x, y: field(replace(v, **{n: change(getattr(v, n)) for n in names}), x, y)


def _combined(*terms: tuple[float, Field]) -> Field:
    """Returns a weighted sum of fields."""
    return lambda v, x, y: np.sum([factor * field(v, x, y) for factor, field in terms], axis=0)


def _stretched(field: Field, by_x: float, by_y: float) -> Field:
    return lambda v, x, y: field(v, by_x * x, by_y * y)


def _shifted(field: Field, along_x: float, along_y: float) -> Field:
    return lambda v, x, y: field(v, x + along_x, y + along_y)


def _normalised(field: Field, measure: Callable[[FloatArray], float]) -> Field:
    return lambda v, x, y: (made := field(v, x, y)) / measure(made)


def _parameter_mistakes(field: Field) -> Iterator[Mistake]:
    """Angles in other units or from another axis, and parameters that enter in another way."""
    for factor, how in (
        (_DEGREE, "in degrees, although it comes in radians"),
        (1 / _DEGREE, "in radians and turns it into degrees before the cosine"),
    ):
        for what, names in (
            ("theta", ("theta",)),
            ("psi", ("psi",)),
            ("every angle", ("theta", "psi")),
        ):
            turned = _changed(field, partial(mul, factor), *names)
            yield Mistake("degrees", f"it takes {what} {how}", turned)
    for word, angle in (("+", math.pi / 2), ("-", -math.pi / 2)):
        words = f"it is turned by 90 degrees (theta {word} 90 degrees)"
        yield Mistake("unknown", words, _changed(field, partial(add, angle), "theta"))
    for words, name, change in _FORMULAS:
        yield Mistake("unknown", words, _changed(field, change, name))


def derivative_mistakes(wrt: str) -> list[Mistake]:
    """Returns the usual mistakes in a partial derivative, the likeliest first."""
    right = derivative_field(wrt)
    backwards = _changed(right, lambda theta: -theta, "theta")
    found = [Mistake("sign_flipped", "it has the opposite sign", _combined((-1, right)))]
    if wrt == "theta":
        # d/dtheta of g(-theta) is -g'(-theta).
        backwards = _combined((-1, backwards))
        (_, envelope), (_, carrier) = derivative_terms(wrt)
        found += [
            Mistake(
                "missing_envelope_term",
                "it lacks the term from the Gaussian envelope; it is right only for gamma = 1",
                carrier,
            ),
            Mistake(
                "missing_carrier_term",
                "it lacks the term from the cosine; it is right only without a carrier",
                envelope,
            ),
            Mistake(
                "unknown",
                "the term from the envelope has the opposite sign",
                _combined((1, carrier), (-1, envelope)),
            ),
            Mistake(
                "unknown",
                "the term from the cosine has the opposite sign",
                _combined((1, envelope), (-1, carrier)),
            ),
        ]
    return [
        *found,
        Mistake("opposite_rotation", _BACKWARDS, backwards),
        Mistake("swapped_axes", "it has x and y exchanged", lambda v, x, y: right(v, y, x)),
        Mistake("degrees", "it is per degree, not per radian", _combined((_DEGREE, right))),
        Mistake("degrees", "it is multiplied by 180/pi", _combined((1 / _DEGREE, right))),
        *_parameter_mistakes(right),
    ]


def kernel_mistakes(kernel_size: int) -> list[Mistake]:
    """Returns the usual mistakes in a kernel of that side, the likeliest first."""
    right, half = kernel_field, kernel_size // 2
    found = [
        Mistake("rotated_180", "it is rotated by 180 degrees", _stretched(right, -1, -1)),
        Mistake("opposite_rotation", _BACKWARDS, _changed(right, lambda theta: -theta, "theta")),
        Mistake(
            "opposite_rotation",
            f"{_BACKWARDS} and is turned by 180 degrees",
            _stretched(right, -1, 1),
        ),
        Mistake("swapped_axes", "it has x and y exchanged", lambda v, x, y: right(v, y, x)),
    ]
    for step in (0.5, -0.5, 1.0, -1.0, half, half + 0.5, half + 1):
        for shift in ((step, step), (step, 0.0), (0.0, step)):
            words = "its grid is off centre by ({:+g}, {:+g}) pixels in x and y"
            words = words.format(*(0 - distance for distance in shift))
            found.append(Mistake("off_center", words, _shifted(right, *shift)))
    for name, measure in _MEASURES:
        words = f"it is divided by its own {name}"
        found.append(Mistake("scaled", words, _normalised(right, measure)))
    found += _parameter_mistakes(right)
    for words, spacing in (
        ("its grid runs from -K/2 to K/2, with a step above 1", kernel_size / (kernel_size - 1)),
        ("its grid runs from -1 to 1 instead of counting pixels", 1 / half),
    ):
        found.append(Mistake("unknown", words, _stretched(right, spacing, spacing)))

    def centred(v: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
        return (kernel := right(v, x, y)) - float(kernel.mean())

    return [*found, Mistake("unknown", "its mean is subtracted", centred)]


def recognise(
    given: FloatArray,
    right: FloatArray,
    mistakes: Sequence[tuple[Mistake, FloatArray]],
    points: Sequence[GaborParameters],
    tolerance: float,
    terms: Sequence[tuple[str, FloatArray]] = (),
) -> Match:
    """Returns what was given: right, a mistake, or one of these with a factor.

    Arrays are (points, K, K). Of the `terms` that the right one is the sum of, by name, each may
    have a factor of its own.
    """
    error = relative_error(given, right)
    if error <= tolerance:
        return Match("correct", "it is right")
    if not given.any():
        return Match("unknown", "it is zero everywhere")
    for mistake, made in mistakes:
        if relative_error(given, made) <= tolerance:
            return Match(mistake.name, mistake.explanation)
    scaled = _scaled(given, right, points, tolerance)
    if scaled is not None:
        return scaled
    for mistake, made in mistakes:
        factor = _common_factor(given, made)
        if factor != 0 and relative_error(given, factor * made) <= tolerance:
            words = f"{mistake.explanation}, and is {factor:.6g} times that"
            return Match(mistake.name, words, factor)
    text = (
        f"it is wrong, by up to {error:.2g} of its largest value, and matches none of the usual "
        "mistakes"
    )
    return _weighted_terms(given, terms, tolerance) or Match("unknown", text)


def _weighted_terms(
    given: FloatArray, terms: Sequence[tuple[str, FloatArray]], tolerance: float
) -> Match | None:
    """Recognises a sum of the right terms with wrong factors, by least squares over all points."""
    if not terms:
        return None
    columns = np.stack([made for _, made in terms], axis=-1)
    factors = np.linalg.lstsq(columns.reshape(-1, len(terms)), given.ravel(), rcond=None)[0]
    if relative_error(given, columns @ factors) > tolerance:
        return None
    wrong = [
        f"the term from the {name} is {factor:.6g} times the right one"
        for factor, (name, _) in zip(factors, terms, strict=True)
        if not math.isclose(factor, 1, rel_tol=10 * tolerance)
    ]
    return Match("unknown", " and ".join(wrong))


def relative_error(given: FloatArray, made: FloatArray) -> float:
    """Returns the largest deviation, relative to the largest value, of all points."""
    scale = np.abs(made).max(axis=(1, 2))
    deviation = np.abs(given - made).max(axis=(1, 2))
    return float(
        np.divide(deviation, scale, out=np.full(len(scale), np.inf), where=scale > 0).max()
    )


def _common_factor(given: FloatArray, made: FloatArray) -> float:
    """Least squares over all points."""
    square = float((made * made).sum())
    return float((given * made).sum()) / square if square > 0 else 0.0


def _scaled(
    given: FloatArray, right: FloatArray, points: Sequence[GaborParameters], tolerance: float
) -> Match | None:
    factors = np.array([_common_factor(*pair) for pair in zip(given, right, strict=True)])
    if not factors.all() or relative_error(given, factors[:, None, None] * right) > tolerance:
        return None
    if np.ptp(factors) <= tolerance * np.abs(factors).max():
        factor = float(np.median(factors))
        return Match("scaled", f"it is {factor:.6g} times the right one", factor)
    return Match("scaled", f"it is {_monomial(factors, points)} the right one")


def _monomial(factors: FloatArray, points: Sequence[GaborParameters]) -> str:
    """Names a factor such as sigma / 2, from c wavelength^a sigma^b gamma^d by least squares."""
    names = ("wavelength", "sigma", "gamma")
    logs = np.array([[1.0, *(math.log(getattr(p, n)) for n in names)] for p in points])
    if not (np.all(factors > 0) or np.all(factors < 0)):
        return _SOME_FACTOR
    powers = np.linalg.lstsq(logs, np.log(np.abs(factors)), rcond=None)[0]
    whole = np.round(powers[1:])
    constants = factors / np.exp(logs[:, 1:] @ whole)
    if np.ptp(constants) > _MONOMIAL * np.abs(constants).max() or not whole.any():
        return _SOME_FACTOR
    terms = [
        name if power == 1 else f"{name}^{power:g}"
        for name, power in zip(names, whole, strict=True)
        if power
    ]
    constant = float(np.median(constants))
    leading = [] if math.isclose(constant, 1, rel_tol=_MONOMIAL) else [f"{constant:.6g}"]
    return f"{' '.join([*leading, *terms])} times"
