"""A formula in x, y and the Gabor parameters, as Wolfram Alpha, SymPy or Python write it.

The text is cut into tokens of a fixed alphabet and parsed by recursive descent into arithmetic on
torch tensors. It is never evaluated as code: an expression can add, multiply, raise to powers and
apply the listed functions, and nothing else.

    sum     = product (("+" | "-") product)*
    product = sign (("*" | "/") sign | power)*          the second form is an implicit product
    sign    = ("+" | "-")* power
    power   = atom (("^" | "**") sign)?                 2^3^2 = 2^(3^2), -x^2 = -(x^2)
    atom    = number | name | "(" sum ")" | function
    function = name ("^" sign)? (power | "(" sum ")")      sin^2(theta), cos theta, np.cos(theta)

Products bind from left to right whether or not they are written out: 1 / 2 x is (1/2) x, as
Wolfram Alpha reads it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gabordiag.errors import UsageError

Real = Tensor | float
Node = Callable[[dict[str, Tensor]], Tensor]
Operation = Callable[[Tensor, Tensor], Tensor]

# Above what people write, below what could take seconds or exhaust Python's stack.
MAX_LENGTH = 10_000
MAX_DEPTH = 50
# Of a constant exponent; Gabor derivatives need 4.
MAX_EXPONENT = 32

VARIABLES = ("x", "y", "theta", "wavelength", "sigma", "psi", "gamma")
# Other spellings of the variables; x' and y' are the rotated coordinates.
_NAMES = {
    **{name: name for name in VARIABLES},
    **dict.fromkeys(("θ", "ϑ"), "theta"),
    **dict.fromkeys(("lambda", "lambda_", "lambd", "lam", "λ"), "wavelength"),
    "σ": "sigma",
    **dict.fromkeys(("ψ", "phi", "φ", "ϕ"), "psi"),
    "γ": "gamma",
    **dict.fromkeys(("x'", "x′", "x’", "x_rot", "x_prime", "xp"), "x'"),
    **dict.fromkeys(("y'", "y′", "y’", "y_rot", "y_prime", "yp"), "y'"),
}
_CONSTANTS = {"pi": math.pi, "π": math.pi, "e": math.e, "E": math.e, "Pi": math.pi}

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "cos": torch.cos, "sin": torch.sin, "tan": torch.tan, "exp": torch.exp,
    "log": torch.log, "ln": torch.log, "sqrt": torch.sqrt, "√": torch.sqrt, "square": torch.square,
    "sec": lambda t: 1 / torch.cos(t),
    "csc": lambda t: 1 / torch.sin(t),
    "cot": lambda t: 1 / torch.tan(t),
}  # fmt: skip
_OPERATIONS: dict[str, Operation] = {
    "+": torch.add, "-": torch.sub, "*": torch.mul, "/": torch.true_divide,
}  # fmt: skip
_POWERS = ("pow", "power", "Pow")
_PREFIXES = ("np", "numpy", "torch", "math", "sympy", "sp", "cmath")
_SUPERSCRIPTS = {"²": 2.0, "³": 3.0, "⁴": 4.0}

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*['′’]?|[θϑλσψφϕγπ√])"
    r"|(?P<super>[²³⁴])"
    r"|(?P<operator>\*\*|[-+*/^(),.\[\]−·×⋅÷])"
    r"|(?P<other>.)"
)
_SAME = {"**": "^", "−": "-", "·": "*", "×": "*", "⋅": "*", "÷": "/", "[": "(", "]": ")"}


class Token(NamedTuple):
    """A `number`, `name`, `super`, `operator` or the `end`; its position is counted from 1."""

    kind: str
    text: str
    position: int


@dataclass(frozen=True, eq=False)
class Expression:
    """A parsed formula; call it with tensors by the names of its variables."""

    names: frozenset[str]
    node: Node

    def __call__(
        self, x: Real, y: Real, theta: Real, wavelength: Real, sigma: Real, psi: Real, gamma: Real
    ) -> Tensor:
        """Returns the formula's value, elementwise, in pixels and radians; float64 for numbers."""
        given = zip(VARIABLES, (x, y, theta, wavelength, sigma, psi, gamma), strict=True)
        values = {
            name: v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64)
            for name, v in given
        }
        cos, sin = torch.cos(values["theta"]), torch.sin(values["theta"])
        values["x'"] = values["x"] * cos + values["y"] * sin
        values["y'"] = values["y"] * cos - values["x"] * sin
        return self.node(values)


def parse_expression(text: str) -> Expression:
    """Returns the formula that a text writes down; too long, deep or large a one is refused."""
    if len(text) > MAX_LENGTH:
        raise UsageError(
            f"an expression of {len(text)} characters is too long.",
            f"At most {MAX_LENGTH} are read.",
        )
    parser = _Parser(text)
    return Expression(frozenset(parser.names), parser.formula.evaluate)


def _tokens(text: str) -> list[Token]:
    tokens = []
    for match in _TOKEN.finditer(text):
        kind, piece, position = match.lastgroup or "", match.group(), match.start() + 1
        if kind == "other":
            raise _error(f"character {piece!a} has no meaning here", position)
        if kind != "space":
            tokens.append(Token(kind, _SAME.get(piece, piece), position))
    tokens.append(Token("end", "the end", len(text) + 1))
    return tokens


def _error(problem: str, position: int) -> UsageError:
    return UsageError(
        f"{problem}, at character {position} of the expression.",
        f"Write a formula in {' '.join(VARIABLES)} pi e with + - * / ^ ( ) and "
        "cos sin tan exp sqrt log.",
    )


class _Part(NamedTuple):
    """A subexpression, from the variables to a tensor; `constant` is its value if it has none."""

    evaluate: Node
    constant: float | None


def _constant(value: float) -> _Part:
    return _Part(lambda values: torch.tensor(value, dtype=torch.float64), value)


class _Parser:
    """Recursive descent; the depth is counted, so that no text can exhaust the stack."""

    def __init__(self, text: str) -> None:
        self._tokens, self._next = _tokens(text), 0
        self.names: set[str] = set()
        self.formula = self._sum(0)
        if self._token.kind != "end":
            raise _error(f"{_shown(self._token)} is not expected", self._token.position)

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> Token | None:
        token = self._token
        if token.kind != "operator" or token.text not in texts:
            return None
        self._next += 1
        return token

    def _expect(self, text: str) -> None:
        if self._take(text) is None:
            raise _error(f"'{text}' is missing before {_shown(self._token)}", self._token.position)

    def _deeper(self, depth: int) -> int:
        if depth >= MAX_DEPTH:
            raise _error(f"more than {MAX_DEPTH} levels are nested", self._token.position)
        return depth + 1

    def _sum(self, depth: int) -> _Part:
        first, rest = self._product(depth), []
        while (sign := self._take("+", "-")) is not None:
            rest.append((_OPERATIONS[sign.text], self._product(depth)))
        return self._chain(first, rest)

    def _product(self, depth: int) -> _Part:
        first, rest = self._sign(depth), []
        while True:
            if (operator := self._take("*", "/")) is not None:
                rest.append((_OPERATIONS[operator.text], self._sign(depth)))
            elif self._token.kind in ("number", "name") or self._token.text == "(":
                rest.append((torch.mul, self._power(depth)))
            else:
                return self._chain(first, rest)

    def _chain(self, first: _Part, rest: list[tuple[Operation, _Part]]) -> _Part:
        """Returns what operations make of a part, one after the other; a loop, however many."""
        if not rest:
            return first

        def combine(total: Tensor, *terms: Tensor) -> Tensor:
            for (operation, _), term in zip(rest, terms, strict=True):
                total = operation(total, term)
            return total

        return self._folded(combine, first, *(part for _, part in rest))

    def _sign(self, depth: int) -> _Part:
        negative = False
        while (sign := self._take("+", "-")) is not None:
            negative ^= sign.text == "-"
        part = self._power(depth)
        return self._folded(torch.neg, part) if negative else part

    def _power(self, depth: int) -> _Part:
        return self._raised(self._atom(depth), self._exponent(depth))

    def _exponent(self, depth: int) -> _Part | None:
        token = self._token
        if token.kind == "super":
            self._next += 1
            return _constant(_SUPERSCRIPTS[token.text])
        if self._take("^") is None:
            return None
        return self._limited(self._sign(self._deeper(depth)), token)

    def _limited(self, exponent: _Part, token: Token) -> _Part:
        if exponent.constant is not None and abs(exponent.constant) > MAX_EXPONENT:
            raise _error(f"a power above {MAX_EXPONENT} is refused", token.position)
        return exponent

    def _raised(self, base: _Part, exponent: _Part | None) -> _Part:
        if exponent is None:
            return base
        if base.constant == math.e:
            return self._folded(torch.exp, exponent)
        if (power := exponent.constant) is not None:
            return self._folded(lambda value: value**power, base)
        return self._folded(torch.pow, base, exponent)

    def _atom(self, depth: int) -> _Part:
        token = self._token
        if token.kind == "number":
            self._next += 1
            return self._finite(float(token.text), token)
        if token.kind == "name":
            self._next += 1
            return self._named(self._without_prefix(token), depth)
        if self._take("(") is not None:
            part = self._sum(self._deeper(depth))
            self._expect(")")
            return part
        raise _error(f"a number, a name or '(' is missing before {_shown(token)}", token.position)

    def _without_prefix(self, token: Token) -> Token:
        """Skips the np. of np.cos."""
        if token.text not in _PREFIXES or self._take(".") is None:
            return token
        name = self._token
        if name.text not in (*_FUNCTIONS, *_POWERS, *_CONSTANTS):
            raise _error(f"{_shown(name)} is not a known function", name.position)
        self._next += 1
        return name

    def _named(self, token: Token, depth: int) -> _Part:
        name = token.text
        if name in _CONSTANTS:
            return _constant(_CONSTANTS[name])
        if name in _NAMES:
            variable = _NAMES[name]
            self.names.add(variable)
            return _Part(lambda values: values[variable], None)
        if name in _POWERS:
            start = self._token
            self._expect("(")
            base = self._sum(self._deeper(depth))
            self._expect(",")
            exponent = self._limited(self._sum(depth + 1), start)
            self._expect(")")
            return self._raised(base, exponent)
        if name.lower() not in _FUNCTIONS:
            raise _error(f"the name {_shown(token)} is unknown", token.position)
        inside = self._deeper(depth)
        power = self._exponent(depth)
        if self._take("(") is not None:
            argument = self._sum(inside)
            self._expect(")")
        else:
            argument = self._bare_argument(token, inside)
        return self._raised(self._folded(_FUNCTIONS[name.lower()], argument), power)

    def _bare_argument(self, function: Token, depth: int) -> _Part:
        """Reads the theta of cos theta; in cos 2 theta it is not clear where it ends."""
        first = self._token
        argument = self._power(depth)
        following = self._token
        is_function = following.text.lower() in _FUNCTIONS or following.text in _PREFIXES
        is_name = following.kind == "name" and not is_function
        if "number" in (first.kind, following.kind) or is_name:
            raise _error(f"parentheses are missing after {_shown(function)}", first.position)
        return argument

    def _folded(self, function: Callable[..., Tensor], *parts: _Part) -> _Part:
        """Returns a function of subexpressions, as a number where all of them are numbers."""

        def evaluate(values: dict[str, Tensor]) -> Tensor:
            return function(*[part.evaluate(values) for part in parts])

        if any(part.constant is None for part in parts):
            return _Part(evaluate, None)
        return self._finite(float(evaluate({})), self._token)

    def _finite(self, value: float, token: Token) -> _Part:
        if not math.isfinite(value):
            raise _error("a constant is too large or undefined", token.position)
        return _constant(value)


def _shown(token: Token) -> str:
    if token.kind == "end":
        return token.text
    text = token.text if len(token.text) <= 20 else token.text[:20] + "..."
    return f"'{text}'"
