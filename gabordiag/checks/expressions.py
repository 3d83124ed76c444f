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

Value = Tensor | float
Node = Callable[[dict[str, Tensor]], Tensor]

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
    "cos": torch.cos,
    "sin": torch.sin,
    "tan": torch.tan,
    "sec": lambda t: 1 / torch.cos(t),
    "csc": lambda t: 1 / torch.sin(t),
    "cot": lambda t: 1 / torch.tan(t),
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "√": torch.sqrt,
    "log": torch.log,
    "ln": torch.log,
    "square": torch.square,
}
_POWERS = ("pow", "power", "Pow")
_PREFIXES = ("np", "numpy", "torch", "math", "sympy", "sp", "cmath")
_SUPERSCRIPTS = {"²": 2.0, "³": 3.0, "⁴": 4.0}

_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*['′’]?|[θϑλσψφϕγπ√])"
    r"|(?P<super>[²³⁴])"
    r"|(?P<operator>\*\*|[-+*/^(),.\[\]−·×⋅÷])"
)
_SAME = {"**": "^", "−": "-", "·": "*", "×": "*", "⋅": "*", "÷": "/", "[": "(", "]": ")"}


class Token(NamedTuple):
    """A piece of the text.

    Attributes:
        kind: `number`, `name`, `super`, `operator` or `end`.
        text: As it stands; operators in one spelling.
        position: Counted from 1.
    """

    kind: str
    text: str
    position: int


@dataclass(frozen=True, eq=False)
class Expression:
    """A parsed formula; call it with tensors.

    Attributes:
        text: As it was given.
        names: The variables that occur.
    """

    text: str
    names: frozenset[str]
    node: Node

    def __call__(
        self,
        x: Value,
        y: Value,
        theta: Value,
        wavelength: Value,
        sigma: Value,
        psi: Value,
        gamma: Value,
    ) -> Tensor:
        """Returns the formula's value, elementwise, in float64 for numbers.

        Args:
            x: Column, pixels from the centre; number or tensor, like all the others.
            y: Row, pixels from the centre.
            theta: Radians.
            wavelength: Pixels.
            sigma: Pixels.
            psi: Radians.
            gamma: Aspect ratio.
        """
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
    """Returns the formula that a text writes down.

    Raises:
        UsageError: It is not a formula, or is too long, too deep, or with too large a power.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(
            f"an expression of {len(text)} characters is too long.",
            f"At most {MAX_LENGTH} are read.",
        )
    parser = _Parser(_tokens(text))
    node = parser.sum(0)
    parser.expect_end()
    return Expression(text, frozenset(parser.names), node.evaluate)


def _tokens(text: str) -> list[Token]:
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _error(f"character {text[position]!a} has no meaning here", position + 1)
        kind = match.lastgroup or ""
        if kind != "space":
            piece = match.group()
            tokens.append(Token(kind, _SAME.get(piece, piece), position + 1))
        position = match.end()
    tokens.append(Token("end", "the end", len(text) + 1))
    return tokens


def _error(problem: str, position: int) -> UsageError:
    return UsageError(
        f"{problem}, at character {position} of the expression.",
        f"Write a formula in {' '.join(VARIABLES)} pi e with + - * / ^ ( ) and "
        "cos sin tan exp sqrt log.",
    )


class _Part(NamedTuple):
    """A subexpression.

    Attributes:
        evaluate: From the variables to a tensor.
        constant: Its value where it has no variables, else None.
    """

    evaluate: Node
    constant: float | None


def _constant(value: float) -> _Part:
    return _Part(lambda values: torch.tensor(value, dtype=torch.float64), value)


class _Parser:
    """Recursive descent; the depth is counted, so that no text can exhaust the stack."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self.names: set[str] = set()

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

    def expect_end(self) -> None:
        """Raises unless the whole text was read."""
        if self._token.kind != "end":
            raise _error(f"{_shown(self._token)} is not expected", self._token.position)

    def sum(self, depth: int) -> _Part:
        if depth > MAX_DEPTH:
            raise _error(f"more than {MAX_DEPTH} levels are nested", self._token.position)
        parts = [(1.0, self._product(depth))]
        while (sign := self._take("+", "-")) is not None:
            parts.append((1.0 if sign.text == "+" else -1.0, self._product(depth)))
        if len(parts) == 1:
            return parts[0][1]

        def add(values: dict[str, Tensor]) -> Tensor:
            total = parts[0][1].evaluate(values)
            for sign, part in parts[1:]:
                total = total + sign * part.evaluate(values)
            return total

        return self._folded(add, [part for _, part in parts])

    def _product(self, depth: int) -> _Part:
        factors = [("*", self._sign(depth))]
        while True:
            operator = self._take("*", "/")
            if operator is not None:
                factors.append((operator.text, self._sign(depth)))
            elif self._token.kind in ("number", "name") or self._token.text == "(":
                factors.append(("*", self._power(depth)))
            else:
                break
        if len(factors) == 1:
            return factors[0][1]

        def multiply(values: dict[str, Tensor]) -> Tensor:
            total = factors[0][1].evaluate(values)
            for operator, part in factors[1:]:
                factor = part.evaluate(values)
                total = total * factor if operator == "*" else total / factor
            return total

        return self._folded(multiply, [part for _, part in factors])

    def _sign(self, depth: int) -> _Part:
        negative = False
        while (sign := self._take("+", "-")) is not None:
            negative ^= sign.text == "-"
        part = self._power(depth)
        return self._folded(lambda values: -part.evaluate(values), [part]) if negative else part

    def _power(self, depth: int) -> _Part:
        return self._raised(self._atom(depth), depth)

    def _raised(self, base: _Part, depth: int) -> _Part:
        exponent = self._exponent(depth)
        return base if exponent is None else self._raise_to(base, exponent)

    def _exponent(self, depth: int) -> _Part | None:
        token = self._token
        if token.kind == "super":
            self._next += 1
            return _constant(_SUPERSCRIPTS[token.text])
        if self._take("^") is None:
            return None
        if depth >= MAX_DEPTH:
            raise _error(f"more than {MAX_DEPTH} levels are nested", token.position)
        exponent = self._sign(depth + 1)
        if exponent.constant is not None and abs(exponent.constant) > MAX_EXPONENT:
            raise _error(f"a power above {MAX_EXPONENT} is refused", token.position)
        return exponent

    def _raise_to(self, base: _Part, exponent: _Part) -> _Part:
        if base.constant == math.e:
            return self._folded(lambda values: torch.exp(exponent.evaluate(values)), [exponent])
        power = exponent.constant
        if power is not None:
            return self._folded(lambda values: base.evaluate(values) ** power, [base])
        return self._folded(
            lambda values: base.evaluate(values) ** exponent.evaluate(values), [base, exponent]
        )

    def _atom(self, depth: int) -> _Part:
        token = self._token
        if token.kind == "number":
            self._next += 1
            return self._finite(_constant(float(token.text)), token)
        if token.kind == "name":
            self._next += 1
            return self._named(self._without_prefix(token), depth)
        if self._take("(") is not None:
            part = self.sum(depth + 1)
            self._expect(")")
            return part
        raise _error(f"a number, a name or '(' is missing before {_shown(token)}", token.position)

    def _without_prefix(self, token: Token) -> Token:
        """Skips the np. of np.cos."""
        if token.text not in _PREFIXES or self._take(".") is None:
            return token
        name = self._token
        if name.text not in _FUNCTIONS and name.text not in (*_POWERS, *_CONSTANTS):
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
            return self._power_function(depth)
        lower = name.lower()
        if lower in _FUNCTIONS:
            return self._function(_FUNCTIONS[lower], token, depth)
        raise _error(f"the name {_shown(token)} is unknown", token.position)

    def _function(self, function: Callable[[Tensor], Tensor], token: Token, depth: int) -> _Part:
        if depth >= MAX_DEPTH:
            raise _error(f"more than {MAX_DEPTH} levels are nested", token.position)
        power = self._exponent(depth)
        if self._take("(") is not None:
            argument = self.sum(depth + 1)
            self._expect(")")
        else:
            argument = self._bare_argument(token, depth)
        applied = self._folded(lambda values: function(argument.evaluate(values)), [argument])
        return applied if power is None else self._raise_to(applied, power)

    def _bare_argument(self, function: Token, depth: int) -> _Part:
        """Reads the theta of cos theta; in cos 2 theta it is not clear where it ends."""
        first = self._token
        argument = self._power(depth + 1)
        following = self._token
        is_function = following.text.lower() in _FUNCTIONS or following.text in _PREFIXES
        if (
            first.kind == "number"
            or following.kind == "number"
            or (following.kind == "name" and not is_function)
        ):
            raise _error(f"parentheses are missing after {_shown(function)}", first.position)
        return argument

    def _power_function(self, depth: int) -> _Part:
        position = self._token.position
        self._expect("(")
        base = self.sum(depth + 1)
        self._expect(",")
        exponent = self.sum(depth + 1)
        self._expect(")")
        if exponent.constant is not None and abs(exponent.constant) > MAX_EXPONENT:
            raise _error(f"a power above {MAX_EXPONENT} is refused", position)
        return self._raise_to(base, exponent)

    def _folded(self, evaluate: Node, parts: list[_Part]) -> _Part:
        """Returns the subexpression, as a number where all its parts are numbers."""
        if any(part.constant is None for part in parts):
            return _Part(evaluate, None)
        return self._finite(_constant(float(evaluate({}))), self._token)

    def _finite(self, part: _Part, token: Token) -> _Part:
        if part.constant is not None and not math.isfinite(part.constant):
            raise _error("a constant is too large or undefined", token.position)
        return part


def _shown(token: Token) -> str:
    if token.kind == "end":
        return token.text
    text = token.text if len(token.text) <= 20 else token.text[:20] + "..."
    return f"'{text}'"
