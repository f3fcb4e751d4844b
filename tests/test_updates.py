"""Mid-conversation updates as they come in: what is taken, and what is said about the rest."""

from typing import Any

import pytest

from config.check import Fault
from config.llm import Message, Tool
from config.updates import GenerateReply, InjectContext, Update, UpdateError, UpdateInstructions, UpdateTools, read

SEARCH: dict[str, Any] = {
    "name": "web_search",
    "description": "Search the web",
    "parameters": {"type": "object", "properties": {}},
}
CALL = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def why(data: Any) -> str:
    with pytest.raises(UpdateError) as info:
        read(data)
    return str(info.value)


@pytest.mark.parametrize(
    ("data", "update"),
    [
        (
            {"type": "update_instructions", "instructions": "Be brief."},
            UpdateInstructions(type="update_instructions", instructions="Be brief."),
        ),
        (
            {"type": "inject_context", "messages": [{"role": "developer", "content": "Gold tier."}]},
            InjectContext(type="inject_context", messages=[Message(role="system", content="Gold tier.")]),
        ),
        ({"type": "update_tools", "tools": [SEARCH]}, UpdateTools(type="update_tools", tools=[Tool(**SEARCH)])),
        (
            {"type": "update_tools", "tools": [{"type": "function", "function": SEARCH}]},
            UpdateTools(type="update_tools", tools=[Tool(**SEARCH)]),
        ),
        ({"type": "update_tools", "tools": []}, UpdateTools(type="update_tools", tools=[])),
        ({"type": "generate_reply"}, GenerateReply(type="generate_reply")),
        (
            {"type": "generate_reply", "user_input": "refunds", "instructions": "Be kind.", "interrupt": True},
            GenerateReply(type="generate_reply", user_input="refunds", instructions="Be kind.", interrupt=True),
        ),
        ({"type": "generate_reply", "user_input": None}, GenerateReply(type="generate_reply", user_input=None)),
    ],
    ids=["instructions", "context", "tools", "wrapped tools", "no tools", "reply", "urgent reply", "null"],
)
def test_the_four_updates_are_read_under_the_guides_names(data: dict[str, Any], update: Update) -> None:
    assert read(data) == update


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "update: expected an object, got nothing"),
        (["generate_reply"], "update: expected an object, got a list"),
        (
            {},
            "update: type: expected update_instructions, inject_context, update_tools or generate_reply, got nothing",
        ),
        (
            {"type": "updateTools"},
            "update: type: expected update_instructions, inject_context, update_tools or generate_reply, "
            "got 'updateTools'; did you mean update_tools?",
        ),
        (
            {"type": ["generate_reply"]},
            "update: type: expected update_instructions, inject_context, update_tools or generate_reply, got a list",
        ),
        (
            {"type": "update_instructions"},
            "update_instructions: instructions: expected text, but it is missing",
        ),
        (
            {"type": "inject_context", "messages": []},
            "inject_context: messages: expected a list of at least one message, got an empty list",
        ),
        (
            {"type": "update_tools", "tools": {"name": "look"}},
            "update_tools: tools: expected a list, got an object",
        ),
        (
            {"type": "generate_reply", "userInput": "refunds"},
            "generate_reply: userInput: unknown key; did you mean user_input?",
        ),
    ],
)
def test_anything_else_is_answered_with_what_was_expected_and_found(data: Any, message: str) -> None:
    assert why(data) == message


def test_every_fault_is_named_with_its_place() -> None:
    with pytest.raises(UpdateError) as info:
        read({"type": "update_tools", "tools": [{"name": "a b"}, {"name": "ok", "descripton": "x"}], "now": True})
    assert info.value.faults == [
        Fault(("tools", 0, "name"), "expected a name of letters, digits, - and _", "'a b'"),
        Fault(("tools", 1, "descripton"), "unknown key", hint="did you mean description?"),
        Fault(("now",), "unknown key", hint="known here: tools, type"),
    ]


def test_two_tools_of_one_name_are_refused() -> None:
    assert why({"type": "update_tools", "tools": [SEARCH, SEARCH]}) == (
        "update_tools: tools: expected each tool once, got 'web_search' twice"
    )


# Messages that would break every later prompt --------------------------------------------------------------


def test_a_tool_call_comes_with_its_results() -> None:
    whole = [
        {"role": "assistant", "tool_calls": [CALL, {**CALL, "id": "b"}]},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    assert isinstance(read({"type": "inject_context", "messages": whole}), InjectContext)


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([{"role": "user"}], "messages[0] to have a content, but it is empty"),
        (
            [{"role": "tool", "tool_call_id": "a", "content": "1"}],
            "messages[0] to be the result of a tool call before it, but there is none",
        ),
        (
            [{"role": "assistant", "tool_calls": [CALL]}, {"role": "user", "content": "hello"}],
            "messages[1] to be the result of a tool call, got role user",
        ),
        (
            [{"role": "assistant", "tool_calls": [CALL]}],
            "the result of every tool call among the messages, but one is missing",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "a", "name": "look"}]}],
            "messages[0].tool_calls of {id, function: {name, arguments}}",
        ),
    ],
)
def test_messages_that_no_vendor_would_take_are_refused(messages: list[Any], message: str) -> None:
    assert why({"type": "inject_context", "messages": messages}) == f"inject_context: messages: expected {message}"
