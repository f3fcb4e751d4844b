"""The pre-built tools: right answers, and hostile questions that cost nothing."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from agentd.prebuilt import PREBUILT, CalculationError, calculate, datetime_tool

NOON = datetime(2026, 11, 20, 12, 5, 9, tzinfo=UTC)


def execute(name: str, arguments: Mapping[str, Any]) -> Any:
    return asyncio.run(PREBUILT[name].execute(arguments))  # type: ignore[arg-type]


def what_time(**arguments: Any) -> Any:
    return asyncio.run(datetime_tool(now=lambda: NOON).execute(arguments))  # type: ignore[arg-type]


def test_the_tools_are_found_by_the_names_of_an_agents_file() -> None:
    assert {name: built.tool.name for name, built in PREBUILT.items()} == {
        "datetime": "datetime",
        "calculator": "calculator",
    }


def test_datetime_tells_the_time_of_a_timezone() -> None:
    assert what_time(timezone="Asia/Tokyo") == {
        "datetime": "2026-11-20T21:05:09+09:00",
        "weekday": "Friday",
        "date": "2026-11-20",
        "time": "21:05",
        "timezone": "Asia/Tokyo",
    }


def test_datetime_without_a_timezone_is_the_servers() -> None:
    here = NOON.astimezone()
    assert what_time() == what_time(timezone=None) == what_time(timezone="")
    assert what_time()["datetime"] == here.isoformat(timespec="seconds")
    assert what_time()["timezone"] == here.tzname()


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "../../etc/passwd", "/etc/passwd", 7, "x" * 10_000, "\0"])
def test_an_unknown_timezone_is_an_error_that_the_model_can_mend(zone: Any) -> None:
    error = what_time(timezone=zone)["error"]
    assert error.startswith("expected timezone to be an IANA name such as Asia/Tokyo, got ") and len(error) < 150


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12 * 7", 84),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("2 ** 3 ** 2", 512),
        ("2^10", 1024),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("--3", 3),
        ("17 % 5", 2),
        ("10 / 4", 2.5),
        ("84 / 7", 12),
        ("0.1 + 0.2", 0.3),
        ("1,000 × 2 − 1", 1999),
        ("1.5e3 / 3", 500),
        ("sqrt(144) + abs(-3)", 15),
        ("ROUND(2.6) + ceil(1.2) + floor(1.8)", 6),
        ("2 * pi", 6.28318530718),
        ("log(e) + log10(1000)", 4),
        ("87.50 * 15 / 100", 13.125),
    ],
)
def test_calculate(expression: str, value: float) -> None:
    assert calculate(expression) == value
    assert execute("calculator", {"expression": expression}) == {"expression": expression, "result": value}


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("9**9**9", "expected a result between 1e-100 and 1e100, got one outside"),
        ("9" * 400, "expected a result below 1e100, got a larger one"),
        ("1e99 * 1e99", "expected a result below 1e100, got a larger one"),
        ("exp(1000)", "expected a result below 1e100, got a larger one"),
        ("1e999 - 1e999", "expected a result below 1e100, got a larger one"),
        ("__import__('os')", "expected a number, an operator or a function, got \"'os')\""),
        ("().__class__", "expected a number, an operator or a function, got '.__class__'"),
        ("()", "expected a number, got )"),
        ("exit()", "expected one of sqrt, abs, round, ceil, floor, sin, cos, tan, log, log10, exp, pi, e; got 'exit'"),
        ("x = 1", "expected a number, an operator or a function, got '= 1'"),
        ("(" * 5000 + "1" + ")" * 5000, "expected at most 500 characters, got 10001"),
        ("(" * 200 + "1" + ")" * 200, "expected at most 40 levels, got more"),
        ("-" * 400 + "1", "expected at most 40 levels, got more"),
        ("2" + "**1" * 150, "expected at most 40 levels, got more"),
        ("1 / 0", "expected a divisor other than zero, got 0"),
        ("5 % 0", "expected a divisor other than zero, got 0"),
        ("0 ** -1", "expected a divisor other than zero, got 0"),
        ("sqrt(-1)", "expected real numbers: math domain error"),
        ("(-8) ** 0.5", "expected a whole exponent for a negative number, got a fraction"),
        ("12 *", "expected a number, got the end"),
        ("12 7", "expected the end, got 7"),
        ("(1 + 2", "expected ), got the end"),
        ("sqrt 9", "expected (, got 9"),
    ],
)
def test_what_cannot_be_calculated_is_said(expression: str, error: str) -> None:
    with pytest.raises(CalculationError) as caught:
        calculate(expression)
    assert str(caught.value) == error
    assert execute("calculator", {"expression": expression}) == {"error": error}


@pytest.mark.parametrize("arguments", [{}, {"expression": 12}, {"expression": " "}, {"expression": ["1"]}])
def test_arguments_of_another_kind_are_an_error_too(arguments: Mapping[str, Any]) -> None:
    assert execute("calculator", arguments)["error"].startswith("expected expression to be text such as '12 * 7', got ")
