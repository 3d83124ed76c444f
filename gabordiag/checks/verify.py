"""Is a Gabor kernel, or one of its derivatives, right? And if not, what is wrong with it?

gabordiag's own derivatives are held against autograd, complex steps and central differences; a
user's function or formula against gabordiag's own, at several generic filters (at a symmetric one,
such as the question's antipode, most mistakes do not show). A wrong one is compared with what the
usual mistakes would make (`mistakes.py`). This is `gabordiag check`; `gradient.py` asks whether an
objective's gradient can be trusted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gabordiag.checks.expressions import Expression
from gabordiag.checks.mistakes import (
    COMPLEX_STEP,
    Field,
    Mistake,
    derivative_mistakes,
    derivative_terms,
    kernel_mistakes,
    recognise,
    relative_error,
)
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
    "x": ("x", "xs", "xx"),
    "y": ("y", "ys", "yy"),
    "theta": ("theta", "angle", "orientation", "th"),
    "wavelength": ("wavelength", "lambda_", "lambd", "lamda", "lmbda", "lam", "lamb", "wl"),
    "sigma": ("sigma", "sig", "std"),
    "psi": ("psi", "phi", "phase", "offset", "phase_offset"),
    "gamma": ("gamma", "aspect", "aspect_ratio"),
    "kernel_size": ("kernel_size", "ksize", "size", "k", "n", "filter_size", "kernel_width"),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}
# What a function without such an argument is compared at.
_NEUTRAL = {"psi": 0.0, "gamma": 1.0}


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
        numbers = {
            "max_relative_error": finite_or_none(self.max_relative_error),
            "factor": finite_or_none(self.factor),
        }
        return asdict(self) | numbers


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
    def reference_ok(self) -> bool:
        """Whether gabordiag's own derivatives agree with each other."""
        return all(self.reference[name] <= most for name, most in _REFERENCE_TOLERANCE.items())

    @property
    def ok(self) -> bool:
        """Whether all that was looked at is right."""
        return self.reference_ok and (self.user is None or self.user.ok)

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
        raise UsageError(
            f"the kernel has no parameter '{wrt}'.", f"Use one of {', '.join(PARAMETER_NAMES)}."
        )
    verdict = None
    if function is not None:
        verdict = _judge(
            _UserField(function, DEFAULT_SIZE, "derivative"),
            lambda point, size: _closed_form(point, wrt, size),
            lambda size: derivative_mistakes(wrt),
            derivative_terms(wrt),
        )
    return Check("derivative", wrt, _reference([wrt], DEFAULT_SIZE), verdict)


def check_kernel(
    function: Callable[..., Any] | None = None, *, kernel_size: int = DEFAULT_SIZE
) -> Check:
    """Checks a Gabor kernel; without psi or gamma it is compared at 0 and 1."""
    kernel_size = validate_kernel_size(kernel_size)
    verdict = None
    if function is not None:
        verdict = _judge(_UserField(function, kernel_size, "kernel"), _kernel, kernel_mistakes)
    return Check("kernel", None, _reference(PARAMETER_NAMES, kernel_size), verdict)


def _kernel(point: GaborParameters, size: int) -> Tensor:
    return gabor_kernel(*point.to_dict().values(), kernel_size=size)


def _closed_form(point: GaborParameters, wrt: str, size: int) -> Tensor:
    return gabor_partials(*point.to_dict().values(), kernel_size=size, names=[wrt])[wrt]


def _grid(kernel_size: int) -> tuple[FloatArray, FloatArray]:
    steps = np.arange(kernel_size, dtype=np.float64) - kernel_size // 2
    x, y = np.meshgrid(steps, steps)
    return x, y


def _judge(
    user: _UserField,
    right: Callable[[GaborParameters, int], Tensor],
    mistakes: Callable[[int], list[Mistake]],
    terms: Sequence[tuple[str, Field]] = (),
) -> UserCheck:
    points = [user.neutralised(point) for point in POINTS]
    given = np.stack([user(point) for point in points])
    if not np.isfinite(given).all():
        return UserCheck(False, math.inf, "unknown", f"your {user.what} is not finite everywhere")
    size = user.kernel_size
    x, y = _grid(size)

    def made(field: Field) -> FloatArray:
        return np.stack([field(point, x, y) for point in points])

    expected = np.stack([right(point, size).numpy() for point in points])
    match = recognise(
        given,
        expected,
        [(mistake, made(mistake.field)) for mistake in mistakes(size)],
        points,
        _TOLERANCES.get(user.itemsize, TOLERANCE),
        [(name, made(term)) for name, term in terms],
    )
    is_right, error = match.name == "correct", relative_error(given, expected)
    return UserCheck(is_right, error, match.name, user.sentence(match.explanation), match.factor)


class _UserField:
    """The user's function, whatever its arguments, as a grid of values at a filter.

    The side is the function's own where it takes none; `takes` is which of the filter's parameters,
    of x, y and of kernel_size it takes; `itemsize`, bytes of the coarsest floats that it returns.
    """

    def __init__(self, function: Callable[..., Any], kernel_size: int, what: str) -> None:
        self.what = what
        self.kernel_size = kernel_size
        self.itemsize = 8
        self._function = function
        self._arguments = _read_arguments(function)
        self.takes = frozenset(canonical for _, canonical in self._arguments)
        if {"x", "y"} & self.takes and not {"x", "y"} <= self.takes:
            raise UsageError(
                "a function of one coordinate cannot make a kernel.", "Take both x and y."
            )

    def neutralised(self, point: GaborParameters) -> GaborParameters:
        """Returns the filter at which a function that takes less can be compared."""
        values = point.to_dict()
        values.update({name: v for name, v in _NEUTRAL.items() if name not in self.takes})
        return GaborParameters(**values)

    def sentence(self, explanation: str) -> str:
        """Returns what was recognised, and at what a function that takes less was compared."""
        words = f"your {self.what}: {explanation}"
        if explanation.startswith("it "):
            words = f"your {self.what} {explanation.removeprefix('it ')}"
        missing = [f"{name} = {_NEUTRAL[name]:g}" for name in _NEUTRAL if name not in self.takes]
        if not missing:
            return words
        return f"{words} (compared at {' and '.join(missing)}, which it does not take)"

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
        f"it is not clear what {names} of {getattr(function, '__name__', 'the function')} means.",
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
