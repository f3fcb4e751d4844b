"""The tool `calculator`: arithmetic, read and never run as code."""

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from agentd.prebuilt.base import Prebuilt, Result
from providers.base import Tool

Number = int | float

# Every number up to a hundred, in sums that are otherwise arbitrary: a recogniser learns the words from them.
SUMS = tuple(
    f"what is {one} {sign} {(one * 37 + 11) % 100}"
    for one in (*range(21), *range(25, 100, 5))
    for sign in ("plus", "minus", "times", "divided by")
)

LONGEST = 500  # characters of an expression
DEEPEST = 40  # brackets, signs and powers inside each other: each level costs a few frames of Python's stack
LARGEST = 10**100  # beyond that nobody wants to hear the digits

TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/%^(),]))")
SPOKEN_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"})

FUNCTIONS: dict[str, Callable[[Number], Number]] = {
    "sqrt": math.sqrt,
    "abs": abs,
    "round": round,
    "ceil": math.ceil,
    "floor": math.floor,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "log": math.log,
    "log10": math.log10,
    "exp": math.exp,
}
CONSTANTS = {"pi": math.pi, "e": math.e}
SUM: dict[str, Callable[[Number, Number], Number]] = {"+": operator.add, "-": operator.sub}
PRODUCT: dict[str, Callable[[Number, Number], Number]] = {
    "*": operator.mul,
    "/": operator.truediv,
    "%": operator.mod,
}


class CalculationError(ValueError):
    """The expression has no value that can be told; the message says why, in words for the model."""


def calculate(expression: str) -> Number:
    """The value of an arithmetic expression: ``+ - * / % ** ^``, brackets, functions, pi and e.

    Nothing is ever evaluated as code; length, depth and size are bounded. Raises :class:`CalculationError`.
    """
    if len(expression) > LONGEST:
        raise CalculationError(f"expected at most {LONGEST} characters, got {len(expression)}")
    parser = _Parser(_tokens(expression))
    try:
        value = parser.sum(0)
    except ZeroDivisionError:
        raise CalculationError("expected a divisor other than zero, got 0") from None
    except OverflowError:
        raise CalculationError("expected a result below 1e100, got a larger one") from None
    except ValueError as exc:
        raise exc if isinstance(exc, CalculationError) else CalculationError(f"expected real numbers: {exc}") from None
    parser.expect("")
    return _tidy(value)


def _tokens(expression: str) -> list[str]:
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", expression.translate(SPOKEN_SIGNS)).rstrip()
    tokens, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise CalculationError(f"expected a number, an operator or a function, got {text[at:].strip()[:20]!r}")
        tokens.append(match[0].strip())
        at = match.end()
    return tokens


class _Parser:
    """Recursive descent. sum: product (± product)*; product: power (*/% power)*; power: signed or atom ** power."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = [*tokens, ""]
        self._at = 0

    def expect(self, token: str) -> None:
        got = self._tokens[self._at]
        if got != token:
            raise CalculationError(f"expected {token or 'the end'}, got {got or 'the end'}")
        self._at += 1

    def sum(self, depth: int) -> Number:
        value = self._product(depth)
        while operate := SUM.get(self._tokens[self._at]):
            self._at += 1
            value = _bounded(operate(value, self._product(depth)))
        return value

    def _product(self, depth: int) -> Number:
        value = self._power(depth)
        while operate := PRODUCT.get(self._tokens[self._at]):
            self._at += 1
            value = _bounded(operate(value, self._power(depth)))
        return value

    def _power(self, depth: int) -> Number:
        if depth > DEEPEST:
            raise CalculationError(f"expected at most {DEEPEST} levels, got more")
        if (sign := self._tokens[self._at]) in ("+", "-"):
            self._at += 1
            value = self._power(depth + 1)  # binds looser than **, as in mathematics: -2 ** 2 is -4
            return -value if sign == "-" else value
        base = self._atom(depth)
        if self._tokens[self._at] not in ("**", "^"):
            return base
        self._at += 1
        return _raised(base, self._power(depth + 1))

    def _atom(self, depth: int) -> Number:
        token = self._tokens[self._at]
        if token == "(":
            return self._bracket(depth)
        self._at += 1
        if token[:1].isdigit() or token[:1] == ".":
            return _bounded(int(token) if token.isdigit() else float(token))
        name = token.lower()
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            return _bounded(FUNCTIONS[name](self._bracket(depth)))
        if token[:1].isalpha() or token[:1] == "_":
            known = ", ".join([*FUNCTIONS, *CONSTANTS])
            raise CalculationError(f"expected one of {known}; got {token[:20]!r}")
        raise CalculationError(f"expected a number, got {token or 'the end'}")

    def _bracket(self, depth: int) -> Number:
        self.expect("(")
        value = self.sum(depth + 1)
        self.expect(")")
        return value


def _raised(base: Number, exponent: Number) -> Number:
    # Judged before it is done: 9 ** 9 ** 9 would take hours and all memory.
    if base and abs(exponent) * abs(math.log10(abs(base))) > 100:
        raise CalculationError("expected a result between 1e-100 and 1e100, got one outside")
    value = base**exponent
    if isinstance(value, complex):
        raise CalculationError("expected a whole exponent for a negative number, got a fraction")
    return _bounded(value)


def _bounded(value: Number) -> Number:
    if not abs(value) < LARGEST:  # not a number lands here too
        raise CalculationError("expected a result below 1e100, got a larger one")
    return value


def _tidy(value: Number) -> Number:
    """12 significant digits, so that 0.1 + 0.2 is 0.3, and whole numbers whole."""
    if isinstance(value, float):
        value = float(f"{value:.12g}")
        return int(value) if value.is_integer() and abs(value) < 10**15 else value
    return value


def calculator_tool() -> Prebuilt:
    async def execute(arguments: Mapping[str, Any]) -> Result:
        expression = arguments.get("expression")
        if not isinstance(expression, str) or not expression.strip():
            return {"error": f"expected expression to be text such as '12 * 7', got {str(expression)[:60]!r}"}
        try:
            return {"expression": expression.strip(), "result": calculate(expression)}
        except CalculationError as exc:
            return {"error": str(exc)}

    tool = Tool(
        name="calculator",
        description="Calculate a mathematical expression: + - * / % **, parentheses, "
        f"{', '.join(FUNCTIONS)}, pi and e.",
        parameters={
            "type": "object",
            "properties": {
                "expression": {
                    "type": "string",
                    "description": "e.g. '12 * 7'; '15% of 87.50' is written '87.50 * 15 / 100'",
                }
            },
            "required": ["expression"],
            "additionalProperties": False,
        },
    )
    return Prebuilt(tool, execute, SUMS)
