"""Tools of one call: whatever goes wrong is a result."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from agentd.call.tools import RESULT_LIMIT, Offer, Toolbox
from providers.base import Tool, ToolCall
from tests import virtual_time


def toolbox(result: Any, name: str = "look") -> Toolbox:
    async def handler(arguments: Mapping[str, Any]) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result if result is not None else dict(arguments)

    return Toolbox([Offer(Tool(name, "", {}), handler)])


def run(box: Toolbox, arguments: str = "", name: str = "look") -> str:
    return virtual_time.run(box.run(ToolCall("a", name, arguments)))


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("red", "red"),
        ({"colour": "röt"}, '{"colour": "röt"}'),
        (5, "5"),
        (b"red", "Error: expected text or JSON from the tool, got bytes."),
        (ValueError("broken"), "Error: the tool 'look' failed: broken"),
        ("x" * 100_000, "x" * RESULT_LIMIT),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_result_is_text(result: Any, text: str) -> None:
    assert run(toolbox(result)) == text


def test_no_arguments_are_an_empty_object() -> None:
    assert run(toolbox(None)) == "{}"
    assert run(toolbox(None), '{"a": 1}') == '{"a": 1}'


def test_the_first_of_a_name_answers() -> None:
    async def first(arguments: Mapping[str, Any]) -> str:
        return "first"

    async def second(arguments: Mapping[str, Any]) -> str:
        return "second"

    box = Toolbox([Offer(Tool("look", "1", {}), first), Offer(Tool("look", "2", {}), second)])
    assert [tool.description for tool in box.tools] == ["1"]
    assert run(box) == "first"


def test_cancelling_reaches_the_tool() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(toolbox(asyncio.CancelledError()).run(ToolCall("a", "look", "")))
        await asyncio.wait([task])
        assert task.cancelled()

    virtual_time.run(main())
