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
from dataclasses import dataclass, replace

import numpy as np

from gabordiag.gabor import GaborParameters
from gabordiag.objective.space import FloatArray

# From a filter and grids x, y to the values there.
Field = Callable[[GaborParameters, FloatArray, FloatArray], FloatArray]

_DEGREE = math.pi / 180
# A shared factor may come from rounded constants; a factor that depends on the parameters has to
# fit as a monomial this well.
_MONOMIAL = 1e-4
_SOME_FACTOR = "a factor that depends on the parameters times"


@dataclass(frozen=True)
class Mistake:
    """A usual mistake.

    Attributes:
        name: As in the JSON, such as `swapped_axes`; `unknown` for those that have no name there.
        explanation: In words.
        field: What somebody who made it would have made.
    """

    name: str
    explanation: str
    field: Field


@dataclass(frozen=True)
class Match:
    """What was recognised.

    Attributes:
        name: As in the JSON.
        explanation: In words.
        factor: Between what was given and what the mistake makes; None where there is none, or it
            depends on the parameters.
        error: Of the match, relative.
    """

    name: str
    explanation: str
    factor: float | None
    error: float


def kernel_field(values: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns the Gabor function at x, y."""
    envelope, phase, _, _ = _terms(values, x, y)
    return envelope * np.cos(phase)


def derivative_field(wrt: str) -> Field:
    """Returns the Gabor function's partial derivative as a function."""

    def field(values: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
        return _envelope_part(wrt, values, x, y) + _carrier_part(wrt, values, x, y)

    return field


def _terms(
    values: GaborParameters, x: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Returns envelope, phase, x' and y'."""
    x_rot = x * np.cos(values.theta) + y * np.sin(values.theta)
    y_rot = -x * np.sin(values.theta) + y * np.cos(values.theta)
    distance = x_rot**2 + (values.gamma * y_rot) ** 2
    envelope = np.exp(-distance / (2 * values.sigma**2))
    return envelope, 2 * np.pi * x_rot / values.wavelength + values.psi, x_rot, y_rot


def _envelope_part(wrt: str, v: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
    """The part of the partial derivative that comes from the envelope's dependence."""
    envelope, phase, x_rot, y_rot = _terms(v, x, y)
    # d/da exp(-q) = -exp(-q) dq/da with q = (x'^2 + gamma^2 y'^2) / (2 sigma^2)
    slopes: dict[str, FloatArray | float] = {
        "theta": (1 - v.gamma**2) * x_rot * y_rot / v.sigma**2,
        "sigma": -(x_rot**2 + (v.gamma * y_rot) ** 2) / v.sigma**3,
        "gamma": v.gamma * y_rot**2 / v.sigma**2,
    }
    return -envelope * np.cos(phase) * slopes.get(wrt, 0.0)


def _carrier_part(wrt: str, v: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
    """The part of the partial derivative that comes from the carrier's dependence."""
    envelope, phase, x_rot, y_rot = _terms(v, x, y)
    slopes: dict[str, FloatArray | float] = {
        "theta": 2 * np.pi * y_rot / v.wavelength,
        "wavelength": -2 * np.pi * x_rot / v.wavelength**2,
        "psi": 1.0,
    }
    return -envelope * np.sin(phase) * slopes.get(wrt, 0.0)


def _at(field: Field, name: str, change: Callable[[float], float]) -> Field:
    """Returns the field of a filter with one parameter changed."""

    def changed(values: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
        return field(replace(values, **{name: change(getattr(values, name))}), x, y)

    return changed


def _times(factor: float, field: Field) -> Field:
    return lambda values, x, y: factor * field(values, x, y)


def _moved(field: Field, right: float, down: float) -> Field:
    return lambda values, x, y: field(values, x + right, y + down)


def _degrees(field: Field) -> Iterator[Mistake]:
    """Angles in degrees where radians are meant, or turned into radians once too often."""
    for factor, how in (
        (_DEGREE, "in degrees, although it comes in radians"),
        (1 / _DEGREE, "in radians and turns it into degrees before the cosine"),
    ):

        def turn(angle: float, factor: float = factor) -> float:
            return angle * factor

        yield Mistake("degrees", f"it takes theta {how}", _at(field, "theta", turn))
        yield Mistake("degrees", f"it takes psi {how}", _at(field, "psi", turn))
        both = _at(_at(field, "theta", turn), "psi", turn)
        yield Mistake("degrees", f"it takes every angle {how}", both)


def _quarter_turns(field: Field) -> Iterator[Mistake]:
    """Angles measured from the other axis, or along the stripes instead of across."""
    for sign, word in ((1, "+"), (-1, "-")):

        def turn(angle: float, sign: int = sign) -> float:
            return angle + sign * math.pi / 2

        words = f"it is turned by 90 degrees (theta {word} 90 degrees)"
        yield Mistake("unknown", words, _at(field, "theta", turn))


def _normalised() -> Iterator[Mistake]:
    """Kernels divided by something of their own."""
    measures: tuple[tuple[str, Callable[[FloatArray], float]], ...] = (
        ("sum", lambda kernel: float(kernel.sum())),
        ("sum of magnitudes", lambda kernel: float(np.abs(kernel).sum())),
        ("Euclidean norm", lambda kernel: float(np.linalg.norm(kernel))),
        ("largest magnitude", lambda kernel: float(np.abs(kernel).max())),
    )
    for name, measure in measures:

        def divided(
            values: GaborParameters,
            x: FloatArray,
            y: FloatArray,
            measure: Callable[[FloatArray], float] = measure,
        ) -> FloatArray:
            kernel = kernel_field(values, x, y)
            return kernel / measure(kernel)

        yield Mistake("scaled", f"it is divided by its own {name}", divided)


def _other_formulas(field: Field) -> Iterator[Mistake]:
    """Formulas that differ in how a parameter enters; the JSON has no name for them."""
    for words, name, change in (
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
    ):
        yield Mistake("unknown", words, _at(field, name, change))


def derivative_mistakes(wrt: str) -> list[Mistake]:
    """Returns the usual mistakes in a partial derivative, the likeliest first."""
    right = derivative_field(wrt)
    found = [Mistake("sign_flipped", "it has the opposite sign", _times(-1, right))]
    if wrt == "theta":
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
                lambda v, x, y: carrier(v, x, y) - envelope(v, x, y),
            ),
            Mistake(
                "unknown",
                "the term from the cosine has the opposite sign",
                lambda v, x, y: envelope(v, x, y) - carrier(v, x, y),
            ),
        ]
    backwards = _at(right, "theta", lambda theta: -theta)
    # d/dtheta of g(-theta) is -g'(-theta).
    turned = _times(-1, backwards) if wrt == "theta" else backwards
    swapped: Field = lambda v, x, y: right(v, y, x)  # noqa: E731
    found += [
        Mistake("opposite_rotation", "it rotates the opposite way (x' = x cos - y sin)", turned),
        Mistake("swapped_axes", "it has x and y exchanged", swapped),
        Mistake("degrees", "it is per degree, not per radian", _times(_DEGREE, right)),
        Mistake("degrees", "it is multiplied by 180/pi", _times(1 / _DEGREE, right)),
        *_degrees(right),
        *_quarter_turns(right),
    ]
    return [*found, *_other_formulas(right)]


def kernel_mistakes(kernel_size: int) -> list[Mistake]:
    """Returns the usual mistakes in a kernel of that side, the likeliest first."""
    right = kernel_field
    half = kernel_size // 2
    found = [
        Mistake("rotated_180", "it is rotated by 180 degrees", lambda v, x, y: right(v, -x, -y)),
        Mistake(
            "opposite_rotation",
            "it rotates the opposite way (x' = x cos - y sin)",
            _at(right, "theta", lambda theta: -theta),
        ),
        Mistake(
            "opposite_rotation",
            "it rotates the opposite way (x' = x cos - y sin) and is turned by 180 degrees",
            lambda v, x, y: right(v, -x, y),
        ),
        Mistake("swapped_axes", "it has x and y exchanged", lambda v, x, y: right(v, y, x)),
    ]
    for step in (0.5, -0.5, 1.0, -1.0, half, half + 0.5, half + 1):
        for dx, dy in ((step, step), (step, 0.0), (0.0, step)):
            words = f"its grid is off centre by ({0 - dx:+g}, {0 - dy:+g}) pixels in x and y"
            found.append(Mistake("off_center", words, _moved(right, dx, dy)))
    found += [*_degrees(right), *_quarter_turns(right), *_normalised(), *_other_formulas(right)]
    for words, spacing in (
        ("its grid runs from -K/2 to K/2, with a step above 1", kernel_size / (kernel_size - 1)),
        ("its grid runs from -1 to 1 instead of counting pixels", 1 / half),
    ):
        stretched: Field = lambda v, x, y, s=spacing: right(v, x * s, y * s)  # type: ignore[misc]  # noqa: E731
        found.append(Mistake("unknown", words, stretched))
    return [*found, Mistake("unknown", "its mean is subtracted", _without_mean)]


def _without_mean(values: GaborParameters, x: FloatArray, y: FloatArray) -> FloatArray:
    kernel = kernel_field(values, x, y)
    mean = float(kernel.mean())
    return kernel - mean


def recognise(
    given: Sequence[FloatArray],
    right: Sequence[FloatArray],
    mistakes: Sequence[tuple[Mistake, Sequence[FloatArray]]],
    points: Sequence[GaborParameters],
    tolerance: float,
    terms: Sequence[tuple[str, Sequence[FloatArray]]] = (),
) -> Match:
    """Returns what was given: right, a mistake, or one of these with a factor.

    Args:
        given: What is judged, one array a point.
        right: What it should be.
        mistakes: Each with what it makes.
        points: The filters.
        tolerance: Relative error up to which arrays agree.
        terms: What the right one is the sum of, by name; each may have a factor of its own.
    """
    error = _error(given, right)
    if error <= tolerance:
        return Match("correct", "it is right", None, error)
    if not any(array.any() for array in given):
        return Match("unknown", "it is zero everywhere", None, error)
    for mistake, made in mistakes:
        if (found := _error(given, made)) <= tolerance:
            return Match(mistake.name, mistake.explanation, None, found)
    scaled = _scaled(given, right, points, tolerance)
    if scaled is not None:
        return scaled
    for mistake, made in mistakes:
        factor = _common_factor(given, made)
        found = _error(given, [factor * array for array in made])
        if found <= tolerance and factor != 0:
            words = f"{mistake.explanation}, and is {factor:.6g} times that"
            return Match(mistake.name, words, factor, found)
    text = (
        f"it is wrong, by up to {error:.2g} of its largest value, and matches none of the usual "
        "mistakes"
    )
    return _weighted_terms(given, terms, tolerance) or Match("unknown", text, None, error)


def _weighted_terms(
    given: Sequence[FloatArray],
    terms: Sequence[tuple[str, Sequence[FloatArray]]],
    tolerance: float,
) -> Match | None:
    """Recognises a sum of the right terms with wrong factors, by least squares over all points."""
    if not terms:
        return None
    columns = np.stack([np.concatenate([a.ravel() for a in made]) for _, made in terms], axis=1)
    wanted = np.concatenate([array.ravel() for array in given])
    factors = np.linalg.lstsq(columns, wanted, rcond=None)[0]
    made = [
        np.sum([f * arrays[i] for f, (_, arrays) in zip(factors, terms, strict=True)], axis=0)
        for i in range(len(given))
    ]
    error = _error(given, made)
    if error > tolerance:
        return None
    wrong = [
        f"the term from the {name} is {factor:.6g} times the right one"
        for factor, (name, _) in zip(factors, terms, strict=True)
        if not math.isclose(factor, 1, rel_tol=10 * tolerance)
    ]
    return Match("unknown", " and ".join(wrong), None, error)


def derivative_terms(wrt: str) -> list[tuple[str, Field]]:
    """Returns the terms of a partial derivative that has several, by name."""
    if wrt != "theta":
        return []
    return [
        ("Gaussian envelope", lambda v, x, y: _envelope_part("theta", v, x, y)),
        ("cosine", lambda v, x, y: _carrier_part("theta", v, x, y)),
    ]


def _error(given: Sequence[FloatArray], made: Sequence[FloatArray]) -> float:
    """Largest deviation, relative to the largest value, of all points."""
    errors = []
    for mine, theirs in zip(given, made, strict=True):
        scale = float(np.abs(theirs).max())
        errors.append(float(np.abs(mine - theirs).max()) / scale if scale > 0 else math.inf)
    return max(errors)


def _common_factor(given: Sequence[FloatArray], made: Sequence[FloatArray]) -> float:
    """Least squares over all points."""
    inner = sum(float((mine * theirs).sum()) for mine, theirs in zip(given, made, strict=True))
    square = sum(float((theirs * theirs).sum()) for theirs in made)
    return inner / square if square > 0 else 0.0


def _scaled(
    given: Sequence[FloatArray],
    right: Sequence[FloatArray],
    points: Sequence[GaborParameters],
    tolerance: float,
) -> Match | None:
    factors = np.array(
        [_common_factor([mine], [theirs]) for mine, theirs in zip(given, right, strict=True)]
    )
    made = [factor * array for factor, array in zip(factors, right, strict=True)]
    if not factors.all() or (error := _error(given, made)) > tolerance:
        return None
    if np.ptp(factors) <= tolerance * np.abs(factors).max():
        factor = float(np.median(factors))
        return Match("scaled", f"it is {factor:.6g} times the right one", factor, error)
    return Match("scaled", f"it is {_monomial(factors, points)} the right one", None, error)


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
