"""Tools of one call: who answers, and that whatever goes wrong is a result."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from agentd.call import schema
from agentd.call.tools import RESULT_LIMIT, Offer, Toolbox
from agentd.outbound.channel import HookFailed
from providers.base import Tool, ToolCall
from tests import virtual_time


def tool(name: str, **parameters: Any) -> Tool:
    return Tool(name, "", parameters)


def offer(name: str, result: Any = None, **parameters: Any) -> Offer:
    """A tool that raises or returns this; its arguments where it is ``None``."""

    async def handler(arguments: Mapping[str, Any]) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result if result is not None else dict(arguments)

    return Offer(tool(name, **parameters), handler)


def toolbox(result: Any, **parameters: Any) -> Toolbox:
    return Toolbox([offer("look", result, **parameters)])


def run(box: Toolbox, arguments: str = "", name: str = "look") -> str:
    return virtual_time.run(box.run(ToolCall("a", name, arguments)))


# Results -----------------------------------------------------------------------------------------------------

CUT = " … [cut here: the result has 100000 characters]"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("red", "red"),
        ({"colour": "röt"}, '{"colour": "röt"}'),
        (5, "5"),
        ({"a": [float("nan"), 1.5]}, '{"a": ["NaN", 1.5]}'),
        (float("-inf"), '"-Infinity"'),
        ("half \ud83d a pair", "half ? a pair"),
        (b"red", "Error: expected text or JSON from the tool, got bytes."),
        ({1, 2}, "Error: expected text or JSON from the tool, got set."),
        (ValueError("broken"), "Error: the tool 'look' failed: broken"),
        (TimeoutError("of its own"), "Error: the tool 'look' failed: of its own"),
        (HookFailed("the toolHook answered with HTTP 500"), "Error: the toolHook answered with HTTP 500"),
        ("x" * 100_000, "x" * (RESULT_LIMIT - len(CUT)) + CUT),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_a_result_is_text(result: Any, text: str) -> None:
    assert run(toolbox(result)) == text


def test_a_result_that_holds_itself_is_an_error() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert run(toolbox(endless)) == "Error: expected text or JSON from the tool, got list."


def test_a_tool_that_takes_too_long_is_given_up() -> None:
    async def never(arguments: Mapping[str, Any]) -> Any:
        await asyncio.Event().wait()

    box = Toolbox([Offer(tool("look"), never)], timeout=3)
    assert run(box) == "Error: the tool 'look' did not answer within 3 seconds."


def test_cancelling_reaches_the_tool() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(toolbox(asyncio.CancelledError()).run(ToolCall("a", "look", "")))
        await asyncio.wait([task])
        assert task.cancelled()

    virtual_time.run(main())


# Who answers -------------------------------------------------------------------------------------------------


class Servers:
    """MCP servers with these tools."""

    def __init__(self, *tools: Tool) -> None:
        self.tools = tools

    def has(self, name: str) -> bool:
        return name in {tool.name for tool in self.tools}

    async def run(self) -> None: ...

    async def ready(self) -> None: ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        return f"mcp {name} {dict(arguments)}"


async def ask(call_id: str, name: str, arguments: Mapping[str, Any]) -> Any:
    return f"hook {call_id} {name} {dict(arguments)}"


def test_the_order_of_dispatch_is_our_own_then_mcp_then_the_tool_hook() -> None:
    servers = Servers(tool("a", title="mcp"), tool("b", title="mcp"))
    application = [tool(name, title="app") for name in "abc"]
    box = Toolbox([offer("a", "own")], mcp=servers, application=application, ask=ask)
    assert [(tool.name, tool.parameters.get("title")) for tool in box.tools] == [
        ("a", None),
        ("b", "mcp"),
        ("c", "app"),
    ]
    assert [run(box, '{"x": 1}', name) for name in "abc"] == ["own", "mcp b {'x': 1}", "hook a c {'x': 1}"]


def test_the_first_of_a_name_answers() -> None:
    box = Toolbox([offer("look", "first"), offer("look", "second")])
    assert len(box.tools) == 1
    assert run(box) == "first"


def test_a_name_that_nobody_knows_is_told_with_those_that_are_known() -> None:
    box = Toolbox([offer("look")], mcp=Servers(tool("find")), application=[tool("book")], ask=ask)
    assert run(box, name="nope") == "Error: there is no tool 'nope'; there are look, find, book."
    assert run(Toolbox([]), name="nope") == "Error: there is no tool 'nope'; there are none."


def test_an_applications_tool_without_a_tool_hook_is_not_offered_and_answers_with_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    box = Toolbox([offer("look")], mcp=Servers(tool("find")), application=[tool("book"), tool("find"), tool("look")])
    assert [tool.name for tool in box.tools] == ["look", "find"]
    assert run(box, name="book") == "Error: no toolHook answers the tool 'book'."
    (record,) = caplog.records
    assert (record.message, vars(record)["tools"]) == ("tools not offered", ["book"])


def test_the_applications_tools_can_be_exchanged_during_the_call() -> None:
    box = Toolbox([], application=[tool("book")], ask=ask)
    box.application = (tool("cancel"), tool("cancel", title="second"))
    assert [*box.tools] == [*box.application] == [tool("cancel")]
    assert run(box, name="book").startswith("Error: there is no tool 'book'")
    assert run(box, name="cancel") == "hook a cancel {}"


# Arguments ---------------------------------------------------------------------------------------------------


def test_no_arguments_are_an_empty_object() -> None:
    assert [run(toolbox(None), text) for text in ("", " \n", "{}")] == ["{}"] * 3
    assert run(toolbox(None), '{"a": 1}') == '{"a": 1}'


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("[1]", "expected the arguments as a JSON object, got list."),
        ('{"a": NaN}', "expected the arguments as a JSON object, got text that is not JSON (NaN is no JSON)."),
        ('{"a":' * 65 + "1" + "}" * 65, "expected the arguments as a JSON object of at most 64 levels, got more."),
        ("[" * 60_000, "expected the arguments as a JSON object, got text that is not JSON"),
        (
            '{"a": "' + "x" * 70_000 + '"}',
            "expected the arguments as a JSON object of at most 65536 characters, got 70009.",
        ),
    ],
    ids=lambda value: value[:10],
)
def test_arguments_that_are_no_object_or_too_large_are_an_error(arguments: str, why: str) -> None:
    assert run(toolbox(None), arguments).startswith(f"Error: {why}")


TABLE = {
    "type": "object",
    "properties": {
        "people": {"type": "integer", "minimum": 1},
        "day": {"enum": ["today", "tomorrow"]},
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]+$"},
        "names": {"type": "array", "items": {"type": ["string", "null"]}, "uniqueItems": True},
    },
    "required": ["people"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"people": 4, "day": "today", "code": "AB12", "names": ["x", None]}, ""),
        ({"people": 4.0}, ""),
        ({}, "arguments.people: expected a value, got none"),
        ({"people": "four"}, 'arguments.people: expected integer, got "four"'),
        ({"people": 0}, "arguments.people: expected minimum 1, got 0"),
        ({"people": 1, "day": "now"}, 'arguments.day: expected one of ["today", "tomorrow"], got "now"'),
        ({"people": 1, "code": "12"}, 'arguments.code: expected pattern "^[A-Z]{2}[0-9]+$", got "12"'),
        ({"people": 1, "names": ["x", 5]}, "arguments.names[1]: expected string or null, got 5"),
        ({"people": 1, "names": ["x", "x"]}, 'arguments.names: expected uniqueItems true, got ["x", "x"]'),
        (
            {"people": 1, "date": 3},
            'arguments: expected no other keys than ["people", "day", "code", "names"], got ["people", "date"]',
        ),
    ],
    ids=str,
)
def test_arguments_are_held_against_the_schema(arguments: Any, why: str) -> None:
    result = run(toolbox("booked", **TABLE), json.dumps(arguments))
    assert result == (f"Error: {why}." if why else "booked")


def test_the_arguments_of_every_kind_of_tool_are_held_against_its_schema() -> None:
    box = Toolbox([], mcp=Servers(tool("a", **TABLE)), application=[tool("b", **TABLE)], ask=ask)
    assert {run(box, "{}", name) for name in "ab"} == {"Error: arguments.people: expected a value, got none."}


def test_what_a_violation_quotes_is_short() -> None:
    assert len(run(toolbox("", properties={"a": {"type": "integer"}}), json.dumps({"a": "x" * 9000}))) < 150


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "objekt"},
        {"properties": {"a": {"exclusiveMinimum": True}}},
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"properties": {"a": {"$ref": "#/$defs/none"}}},
        {"$ref": "#"},
        {"properties": {"a": {"pattern": "("}}},
        {"description": "x" * 40_000},
        {"default": {1, 2}},
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_schema_that_cannot_be_used_is_set_aside_with_one_warning(
    parameters: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    box = toolbox("done", **parameters)
    assert [run(box, '{"a": "b"}') for _ in range(3)] == ["done"] * 3
    (record,) = caplog.records
    assert (record.message, vars(record)["tool"]) == ("schema not used", "look")
    assert len(vars(record)["why"]) < 100


def bomb() -> dict[str, Any]:
    levels = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    return {"$ref": "#/$defs/d0", "$defs": {**levels, "d40": {"type": "object"}}}


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (bomb(), {}),
        ({"properties": {"a": {"items": {"allOf": [{"type": "integer"}] * 500}}}}, {"a": [1] * 20_000}),
        ({"properties": {"a": {"contains": {"type": "string"}}}}, {"a": [1] * 20_000}),
    ],
    ids=["references", "items", "contains"],
)
def test_arguments_that_would_take_long_to_be_checked_are_refused(parameters: dict[str, Any], arguments: Any) -> None:
    result = run(toolbox("done", **parameters), json.dumps(arguments))
    assert result == "Error: expected arguments that are quickly checked, got too many values."
    assert schema._Spent.units < 2 * schema.BUDGET + 40_000


@pytest.mark.parametrize(
    "parameters",
    [
        {"properties": {"a": {"pattern": "^(a+)+$"}}},
        {"properties": {"a": {"pattern": "a*a*a*a*a*b"}}},
        {"properties": {"a": {"pattern": r"^\\*\\*\\*\\*\\*b"}}},
        {"properties": {"a": {"pattern": "(a|a)(a|a)(a|a)(a|a)b"}}},
        {"properties": {"a": {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": "^(a+)+$"}}},
        {"patternProperties": {"^(a+)+$": {}}, "additionalProperties": False},
        {"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False},
    ],
    ids=str,
)
def test_a_pattern_that_could_be_slow_is_left_to_the_tool(parameters: dict[str, Any]) -> None:
    hostile = "a" * 60 + "!"
    assert run(toolbox("done", **parameters), json.dumps({"a": hostile, hostile: 1})) == "done"
