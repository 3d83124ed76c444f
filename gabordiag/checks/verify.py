"""Is a Gabor kernel, or one of its derivatives, right? And if not, which mistake is it?

gabordiag's own derivatives are held against autograd, complex steps and central differences; a
user's function or formula against gabordiag's own, at several generic filters: no symmetric angle,
psi off 0 and pi, gamma off 1, so that no two mistakes look alike. A wrong one is compared with what
somebody with one of the usual mistakes would have made, for which the Gabor function is written
once more here, in NumPy on any grid and in parts. This is `gabordiag check`; `gradient.py` asks
whether an objective's gradient can be trusted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import add, mul
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gabordiag.checks.expressions import Expression
from gabordiag.errors import InputError, UsageError
from gabordiag.gabor import (
    PARAMETER_NAMES,
    GaborParameters,
    gabor_kernel,
    gabor_partials,
    validate_kernel_size,
)
from gabordiag.objective.space import FloatArray
from gabordiag.own.loading import parameters_of, user_code
from gabordiag.results import Result, finite_or_none

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
_ANGLES = {"theta": ["theta"], "psi": ["psi"], "every angle": ["theta", "psi"]}
# What kernels are divided by.
_MEASURES: tuple[tuple[str, Callable[[FloatArray], float]], ...] = (
    ("sum", np.sum),
    ("sum of magnitudes", lambda kernel: float(np.abs(kernel).sum())),
    ("Euclidean norm", lambda kernel: float(np.linalg.norm(kernel))),
    ("largest magnitude", lambda kernel: float(np.abs(kernel).max())),
)
# Small, because functions of single numbers are called pixel by pixel.
DEFAULT_SIZE = 15
# Generic filters that fit it.
POINTS = (
    GaborParameters(0.37, 7.3, 2.6, 0.81, 0.63),
    GaborParameters(-1.13, 5.9, 3.1, -1.27, 1.44),
    GaborParameters(2.21, 9.7, 2.2, 2.35, 0.48),
    GaborParameters(-0.69, 4.6, 3.7, 0.29, 0.87),
    GaborParameters(1.04, 11.3, 4.3, -0.53, 1.19),
    GaborParameters(-2.58, 6.7, 2.9, 1.71, 0.71),
)
# Up to here a user's result counts as right: constants typed to six digits; more where all was
# computed in float32 or float16.
TOLERANCE = 1e-5
_FLOAT32_TOLERANCE, _FLOAT16_TOLERANCE = 1e-4, 3e-3
_TOLERANCES = {4: _FLOAT32_TOLERANCE, 2: _FLOAT16_TOLERANCE}
# What gabordiag's own derivatives must meet.
_REFERENCE_TOLERANCE = {"autograd": 1e-11, "complex_step": 1e-11, "numeric": 1e-7}
# Of fourth-order differences: near eps^(1/5), where truncation h^4 and cancellation eps / h meet.
_STEP = 2e-4
# Other names that arguments go by.
_ALIASES = {
    "x": "xs xx",
    "y": "ys yy",
    "theta": "angle orientation th",
    "wavelength": "lambda lambda_ lambd lamda lmbda lam lamb wl",
    "sigma": "sig std",
    "psi": "phi phase offset phase_offset",
    "gamma": "aspect aspect_ratio",
    "kernel_size": "ksize size k n filter_size kernel_width",
}
_CANONICAL = {alias: name for name, others in _ALIASES.items() for alias in (name, *others.split())}
# What a function without such an argument is compared at.
_NEUTRAL = {"psi": 0.0, "gamma": 1.0}


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
    """Returns the envelope's and the carrier's part (2, ...) of a derivative, by complex steps."""
    envelope, carrier = _factors(v, x, y)
    step = {wrt: getattr(v, wrt) + 1j * COMPLEX_STEP}
    moved = _factors(SimpleNamespace(**v.to_dict() | step), x, y)
    d_envelope, d_carrier = (np.imag(factor) / COMPLEX_STEP for factor in moved)
    return np.stack([d_envelope * carrier, envelope * d_carrier])


def derivative_field(wrt: str) -> Field:
    """Returns the Gabor function's partial derivative as a function."""
    return lambda v, x, y: np.sum(_parts(wrt, v, x, y), axis=0)


def derivative_terms(wrt: str | None) -> list[tuple[str, Field]]:
    """Returns the terms of a partial derivative that has several, by name."""
    if wrt != "theta":
        return []
    return [
        ("Gaussian envelope", lambda v, x, y: _parts(wrt, v, x, y)[0]),
        ("cosine", lambda v, x, y: _parts(wrt, v, x, y)[1]),
    ]


def _changed(field: Field, change: Callable[[float], float], *names: str) -> Field:
    return lambda v, x, y: field(replace(v, **{n: change(getattr(v, n)) for n in names}), x, y)


def _combined(*terms: tuple[float, Field]) -> Field:
    return lambda v, x, y: np.sum([factor * field(v, x, y) for factor, field in terms], axis=0)


def _moved(field: Field, by: tuple[float, float], to: tuple[float, float] = (0, 0)) -> Field:
    return lambda v, x, y: field(v, by[0] * x + to[0], by[1] * y + to[1])


def _normalised(field: Field, measure: Callable[[FloatArray], float]) -> Field:
    return lambda v, x, y: (made := field(v, x, y)) / measure(made)


def _parameter_mistakes(field: Field) -> Iterator[Mistake]:
    """Angles in other units or from another axis, and parameters that enter in another way."""
    for factor, how in (
        (_DEGREE, "in degrees, although it comes in radians"),
        (1 / _DEGREE, "in radians and turns it into degrees before the cosine"),
    ):
        for what, names in _ANGLES.items():
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
        words = "it lacks the term from the Gaussian envelope; it is right only for gamma = 1"
        found.append(Mistake("missing_envelope_term", words, carrier))
        words = "it lacks the term from the cosine; it is right only without a carrier"
        found.append(Mistake("missing_carrier_term", words, envelope))
        for name, kept, turned in (("envelope", carrier, envelope), ("cosine", envelope, carrier)):
            words = f"the term from the {name} has the opposite sign"
            found.append(Mistake("unknown", words, _combined((1, kept), (-1, turned))))
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
    turned = f"{_BACKWARDS} and is turned by 180 degrees"
    found = [
        Mistake("rotated_180", "it is rotated by 180 degrees", _moved(right, (-1, -1))),
        Mistake("opposite_rotation", _BACKWARDS, _changed(right, lambda theta: -theta, "theta")),
        Mistake("opposite_rotation", turned, _moved(right, (-1, 1))),
        Mistake("swapped_axes", "it has x and y exchanged", lambda v, x, y: right(v, y, x)),
    ]
    for step in (0.5, -0.5, 1.0, -1.0, half, half + 0.5, half + 1):
        for shift in ((step, step), (step, 0.0), (0.0, step)):
            words = "its grid is off centre by ({:+g}, {:+g}) pixels in x and y"
            words = words.format(*(0 - distance for distance in shift))
            found.append(Mistake("off_center", words, _moved(right, (1, 1), shift)))
    for name, measure in _MEASURES:
        words = f"it is divided by its own {name}"
        found.append(Mistake("scaled", words, _normalised(right, measure)))
    found += _parameter_mistakes(right)
    for words, spacing in (
        ("its grid runs from -K/2 to K/2, with a step above 1", kernel_size / (kernel_size - 1)),
        ("its grid runs from -1 to 1 instead of counting pixels", 1 / half),
    ):
        found.append(Mistake("unknown", words, _moved(right, (spacing, spacing))))

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
        f"it is wrong, by up to {error:.2g} times its largest value, and matches none of the usual "
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
    ratios = np.divide(deviation, scale, out=np.full(len(scale), np.inf), where=scale > 0)
    return float(ratios.max())


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


@dataclass(frozen=True)
class UserCheck:
    """What was found out about the user's function.

    `best_match` is `correct` or the mistake's name, the error infinite where the function is not
    finite, and the factor, between the user's and what the match would make, None if not constant.
    """

    ok: bool
    max_relative_error: float
    best_match: str
    explanation: str
    factor: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them."""
        numbers = ("max_relative_error", "factor")
        return asdict(self) | {name: finite_or_none(getattr(self, name)) for name in numbers}


@dataclass(frozen=True)
class Check(Result):
    """The answer of `gabordiag check`, about a `derivative` by `wrt`, or a `kernel`.

    The reference is the largest relative error of gabordiag's closed form against `autograd`,
    `complex_step` and `numeric`; for a kernel, of all five derivatives.
    """

    what: str
    wrt: str | None
    reference: dict[str, float]
    user: UserCheck | None

    @property
    def ok(self) -> bool:
        """Whether the user's is right, and gabordiag's own derivatives agree with each other."""
        agree = all(self.reference[name] <= most for name, most in _REFERENCE_TOLERANCE.items())
        return agree and (self.user is None or self.user.ok)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "ok": self.ok,
            "what": self.what,
            "wrt": self.wrt,
            "reference": {name: finite_or_none(e) for name, e in self.reference.items()},
            "user": None if self.user is None else self.user.to_dict(),
        }


def check_derivative(
    function: Callable[..., Any] | Expression | None = None, wrt: str = "theta"
) -> Check:
    """Checks a partial derivative of the Gabor kernel; without a function, gabordiag's own.

    A function is a parsed expression; or of the point, `f(x, y, theta, wavelength, sigma, psi,
    gamma)`, elementwise; or makes the whole grid, `f(theta, wavelength, sigma, psi, gamma,
    kernel_size)`. Arguments are passed by name where their names are known (also lambda_, phi,
    ksize, ...), else in that order; as torch tensors, NumPy arrays or floats, whichever it takes.
    """
    if wrt not in PARAMETER_NAMES:
        known = f"Use one of {', '.join(PARAMETER_NAMES)}."
        raise UsageError(f"the kernel has no parameter '{wrt}'.", known)
    verdict = None if function is None else _judge(function, wrt, DEFAULT_SIZE)
    return Check("derivative", wrt, _reference([wrt], DEFAULT_SIZE), verdict)


def check_kernel(
    function: Callable[..., Any] | None = None, *, kernel_size: int = DEFAULT_SIZE
) -> Check:
    """Checks a Gabor kernel; without psi or gamma it is compared at 0 and 1."""
    kernel_size = validate_kernel_size(kernel_size)
    verdict = None if function is None else _judge(function, None, kernel_size)
    return Check("kernel", None, _reference(PARAMETER_NAMES, kernel_size), verdict)


def _closed_form(point: GaborParameters, wrt: str | None, size: int) -> Tensor:
    """Returns the kernel (K, K), or its derivative."""
    values = point.to_dict().values()
    if wrt is None:
        return gabor_kernel(*values, kernel_size=size)
    return gabor_partials(*values, kernel_size=size, names=[wrt])[wrt]


def _grid(kernel_size: int) -> tuple[FloatArray, FloatArray]:
    steps = np.arange(kernel_size, dtype=np.float64) - kernel_size // 2
    x, y = np.meshgrid(steps, steps)
    return x, y


def _judge(function: Callable[..., Any], wrt: str | None, kernel_size: int) -> UserCheck:
    user = _UserField(function, kernel_size, "kernel" if wrt is None else "derivative")
    points = [replace(point, **user.missing) for point in POINTS]
    given = np.stack([user(point) for point in points])
    if not np.isfinite(given).all():
        return UserCheck(False, math.inf, "unknown", f"your {user.what} is not finite everywhere")
    size = user.kernel_size
    x, y = _grid(size)

    def made(field: Field) -> FloatArray:
        return np.stack([field(point, x, y) for point in points])

    expected = np.stack([_closed_form(point, wrt, size).numpy() for point in points])
    mistakes = kernel_mistakes(size) if wrt is None else derivative_mistakes(wrt)
    compared = [(mistake, made(mistake.field)) for mistake in mistakes]
    terms = [(name, made(term)) for name, term in derivative_terms(wrt)]
    tolerance = _TOLERANCES.get(user.itemsize, TOLERANCE)
    match = recognise(given, expected, compared, points, tolerance, terms)
    is_right, error = match.name == "correct", relative_error(given, expected)
    return UserCheck(is_right, error, match.name, user.sentence(match.explanation), match.factor)


class _UserField:
    """The user's function, whatever its arguments, as a grid of values at a filter.

    The side is the function's own where it takes none; `takes` is which of the filter's parameters,
    of x, y and of kernel_size it takes; `missing`, at what it is compared in place of the others;
    `itemsize`, bytes of the coarsest floats that it returns.
    """

    def __init__(self, function: Callable[..., Any], kernel_size: int, what: str) -> None:
        self.what, self.kernel_size, self.itemsize = what, kernel_size, 8
        self._function, self._arguments = function, _read_arguments(function)
        self.takes = frozenset(canonical for _, canonical in self._arguments)
        self.missing = {name: v for name, v in _NEUTRAL.items() if name not in self.takes}
        if {"x", "y"} & self.takes and not {"x", "y"} <= self.takes:
            problem = "a function of one coordinate cannot make a kernel."
            raise UsageError(problem, "Take both x and y.")

    def sentence(self, explanation: str) -> str:
        """Returns what was recognised, and at what a function that takes less was compared."""
        words = f"{self.what}: {explanation}"
        if explanation.startswith("it "):
            words = f"{self.what} {explanation.removeprefix('it ')}"
        if not self.missing:
            return f"your {words}"
        values = " and ".join(f"{name} = {value:g}" for name, value in self.missing.items())
        return f"your {words} (compared at {values}, which it does not take)"

    def __call__(self, point: GaborParameters) -> FloatArray:
        """Returns the values (K, K) at a filter."""
        errors: list[Exception] = []
        for reading in (self._as_tensors, self._as_arrays, self._one_by_one):
            x, y = _grid(self.kernel_size)
            values = {"x": x, "y": y, "kernel_size": self.kernel_size, **point.to_dict()}
            try:
                return self._as_grid(reading(values))
            except InputError:
                raise
            except Exception as error:
                errors.append(error)
        # A TypeError may only mean that this kind of number is not taken; the user's own mistake
        # is the one that is not.
        with user_code(f"calling your {self.what}"):
            raise next((e for e in errors if not isinstance(e, TypeError)), errors[-1])

    def _as_tensors(self, values: dict[str, Any]) -> Any:
        size = {"kernel_size": values.pop("kernel_size")}
        tensors = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in values.items()}
        return self._as_arrays(tensors | size)

    def _one_by_one(self, values: dict[str, Any]) -> Any:
        if "x" not in self.takes:
            # OpenCV's ksize is a pair.
            return self._as_arrays(values | {"kernel_size": (self.kernel_size, self.kernel_size)})
        places = zip(values["x"].flat, values["y"].flat, strict=True)
        made = [float(self._as_arrays(values | {"x": float(a), "y": float(b)})) for a, b in places]
        return np.reshape(made, values["x"].shape)

    def _as_arrays(self, values: dict[str, Any]) -> Any:
        if all(name is None for name, _ in self._arguments):
            return self._function(*(values[canonical] for _, canonical in self._arguments))
        return self._function(**{str(name): values[c] for name, c in self._arguments})

    def _as_grid(self, result: Any) -> FloatArray:
        if isinstance(result, Tensor):
            result = result.detach().cpu().numpy()
        array = np.asarray(result)
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise InputError(
                f"Your {self.what} returns {array.dtype} values, not real numbers.",
                "Return an array or a tensor of floats.",
            )
        if np.issubdtype(array.dtype, np.floating):
            self.itemsize = min(self.itemsize, array.dtype.itemsize)
        side = (self.kernel_size, self.kernel_size)
        if array.ndim == 0 and "x" in self.takes:
            return np.full(side, float(array))
        shape = array.shape
        array = array.reshape([n for n in shape if n != 1])
        if array.shape != side:
            # One that chooses its size itself has to have one middle pixel.
            is_centred = array.ndim == 2 and array.shape[0] == array.shape[1] and len(array) % 2
            if {"x", "kernel_size"} & self.takes or not is_centred:
                raise InputError(
                    f"Your {self.what} has shape {shape}, not {side}.",
                    "Return one square kernel of side kernel_size.",
                )
            self.kernel_size = len(array)
        return array.astype(np.float64)


def _read_arguments(function: Callable[..., Any]) -> list[tuple[str | None, str]]:
    """Returns each argument's name, None where it is passed by position, and what it means."""
    parameters = parameters_of(function) or []
    plain = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    known = [(p.name, _CANONICAL[p.name.lower()]) for p in plain if p.name.lower() in _CANONICAL]
    needed = [p for p in plain if p.default is p.empty]
    unknown = [p for p in needed if p.name.lower() not in _CANONICAL]
    if not unknown and any(p.kind == p.POSITIONAL_ONLY for p in plain):
        return [(None, canonical) for _, canonical in known]
    if not unknown and any(canonical == "theta" for _, canonical in known):
        return list(known)
    for order in (("x", "y", *PARAMETER_NAMES), (*PARAMETER_NAMES, "kernel_size")):
        if len(needed) == len(order):
            return [(None, canonical) for canonical in order]
    names = ", ".join(p.name for p in unknown) or "its arguments"
    raise UsageError(
        f"the meaning of {names} of {getattr(function, '__name__', 'the function')} is not clear.",
        f"Name the arguments {', '.join(_ALIASES)}.",
    )


def _reference(names: Sequence[str], kernel_size: int) -> dict[str, float]:
    """Returns the largest relative errors of derivatives by name of the method."""
    errors = dict.fromkeys(_REFERENCE_TOLERANCE, 0.0)
    for point, wrt in itertools.product(POINTS, names):
        closed = _closed_form(point, wrt, kernel_size)
        for method, derivative in _derivatives(point, wrt, kernel_size).items():
            error = float((derivative - closed).abs().max() / closed.abs().max())
            errors[method] = max(errors[method], error)
    return errors


def _derivatives(point: GaborParameters, wrt: str, kernel_size: int) -> dict[str, Tensor]:
    """Returns the derivative (K, K) by three methods that share no formula with the closed one."""

    def kernel(value: Tensor) -> Tensor:
        values: dict[str, Any] = {**point.to_dict(), wrt: value}
        return gabor_kernel(*values.values(), kernel_size=kernel_size, dtype=value.dtype)

    value = torch.tensor(getattr(point, wrt), dtype=torch.float64)
    by_autograd: Tensor = torch.func.jacrev(kernel)(value)
    shifted = kernel(torch.complex(value, torch.full_like(value, COMPLEX_STEP)))
    # Fourth order: (-f(2h) + 8 f(h) - 8 f(-h) + f(-2h)) / (12 h)
    weights = zip((-1, 8, -8, 1), (2, 1, -1, -2), strict=True)
    pieces = [weight * kernel(value + offset * _STEP) for weight, offset in weights]
    return {
        "autograd": by_autograd,
        "complex_step": shifted.imag / COMPLEX_STEP,
        "numeric": torch.stack(pieces).sum(0) / (12 * _STEP),
    }
