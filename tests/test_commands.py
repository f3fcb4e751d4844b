"""What applications send, in the shapes of each SDK's generation; and junk, which is told and never raised."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.commands import DEPTH, LIMIT, Ack, Command, Malformed, Message, ToolOutput, Update, parse, verbs


def sent(**message: Any) -> Message:
    return parse(json.dumps(message))


def output(**message: Any) -> Message:
    return sent(type="command", command="llm:tool-output", **message)


# Acks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, []),
        ({"data": None}, []),
        ({"data": []}, []),
        ({"data": {}}, []),
        ({"data": {"verb": "hangup"}}, [{"verb": "hangup"}]),
        (
            {"data": [{"verb": "say", "text": "Bye."}, {"hangup": {}}]},
            [{"verb": "say", "text": "Bye."}, {"verb": "hangup"}],
        ),
        ({"data": {"agent": {"greeting": False}}}, [{"verb": "agent", "greeting": False}]),
        ({"data": [{"hangup": None}]}, [{"verb": "hangup"}]),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_an_ack_brings_verbs_in_one_form(data: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    assert sent(type="ack", msgid="m1", **data) == Ack("m1", expected)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("hangup", "ack: expected verbs as objects, got a text of 6 characters"),
        (["hangup"], "ack: expected verbs as objects, got a text of 6 characters"),
        ([{"verb": 5}], "ack: expected the name of a verb, got a number"),
        ([{"say": "secret"}], "ack: expected an object with a verb, got one without"),
        ([{"text": "secret", "voice": "x"}], "ack: expected an object with a verb, got one without"),
    ],
)
def test_verbs_that_cannot_be_read_are_still_the_answer_to_their_message(data: Any, why: str) -> None:
    assert sent(type="ack", msgid="m1", data=data) == Malformed(why, "m1")


def test_an_ack_says_what_it_answers() -> None:
    assert sent(type="ack", data=[]) == Malformed("ack: expected a msgid, got nothing")
    assert sent(type="ack", msgid=7) == Malformed("ack: expected a msgid, got a number")


def test_the_verbs_of_a_redirect_are_read_alike() -> None:
    command = sent(type="command", command="redirect", queueCommand=True, data=[{"say": {"text": "Hi."}}])
    assert isinstance(command, Command)
    assert command.message["queueCommand"] is True
    assert verbs(command.data) == [{"verb": "say", "text": "Hi."}]


# Updates and commands --------------------------------------------------------------------------------------

UPDATE = {"type": "update_instructions", "instructions": "You are a pirate."}


@pytest.mark.parametrize("name", ["agent:update", "pipeline:update", "updateAgent", "updatePipeline"])
def test_updates_come_in_the_form_of_either_sdk_and_under_older_names(name: str) -> None:
    assert sent(type="command", command=name, data=UPDATE) == Update(UPDATE)  # the Node SDK's
    assert sent(type=name, data=UPDATE) == Update(UPDATE)  # the Python SDK's


def test_an_update_is_an_object() -> None:
    assert sent(type="agent:update") == Malformed("agent:update: expected data as an object, got nothing")
    assert sent(type="agent:update", data=[1]) == Malformed("agent:update: expected data as an object, got a list")


def test_every_other_message_is_a_command_whether_it_is_known_or_not() -> None:
    dtmf = {"type": "command", "command": "dtmf", "data": {"digit": "1"}, "callSid": "c2"}
    assert sent(**dtmf) == Command("dtmf", {"digit": "1"}, dtmf)
    assert sent(type="made:up") == Command("made:up", None, {"type": "made:up"})


# Tool outputs ----------------------------------------------------------------------------------------------

WEATHER = {"temperature": 7, "unit": "C"}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # The Node SDK and the Python SDK of today
        ({"tool_call_id": "t1", "data": {"result": "7 degrees"}}, "7 degrees"),
        ({"tool_call_id": "t1", "data": {"result": None}}, None),
        ({"tool_call_id": "t1", "data": WEATHER}, WEATHER),
        ({"tool_call_id": "t1", "data": {"error": "no such town"}}, {"error": "no such town"}),
        ({"tool_call_id": "t1", "data": {"result": 1, "more": 2}}, {"result": 1, "more": 2}),
        # By hand
        ({"tool_call_id": "t1", "data": "7 degrees"}, "7 degrees"),
        ({"tool_call_id": "t1", "data": [1, 2]}, [1, 2]),
        ({"tool_call_id": "t1"}, None),
        # node-client-ws
        ({"data": {"tool_call_id": "t1", "data": "7 degrees"}}, "7 degrees"),
        ({"data": {"tool_call_id": "t1", "data": {"result": 7}}}, 7),
        # A result that has a key of that name
        ({"tool_call_id": "t1", "data": {"status": 200, "data": 7}}, {"status": 200, "data": 7}),
        # Vendors' own
        (
            {
                "data": {
                    "type": "conversation.item.create",
                    "item": {"type": "function_call_output", "call_id": "t1", "output": "7"},
                }
            },
            "7",
        ),
        ({"data": {"type": "client_tool_result", "invocation_id": "t1", "result": "7"}}, "7"),
        ({"data": {"type": "client_tool_result", "tool_call_id": "t1", "result": "7", "is_error": False}}, "7"),
        (
            {"data": {"type": "client_tool_result", "tool_call_id": "t1", "result": "x", "is_error": True}},
            {"error": "x"},
        ),
        ({"tool_call_id": "t1", "data": {"data": {"type": "FunctionCallResponse", "id": "d", "content": "7"}}}, "7"),
        (
            {
                "tool_call_id": "t1",
                "data": {"toolResponse": {"functionResponses": [{"id": "g", "response": {"output": 7}}]}},
            },
            7,
        ),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_a_tool_output_is_taken_out_of_whatever_is_around_it(message: dict[str, Any], expected: Any) -> None:
    assert output(**message) == ToolOutput("t1", expected)
    assert sent(type="llm:tool-output", **message) == ToolOutput("t1", expected)


def test_the_id_of_a_tool_output_is_looked_for_in_order() -> None:
    data = {"tool_call_id": "b", "call_id": "c", "invocation_id": "d", "item": {"call_id": "e"}}
    assert output(tool_call_id="a", data=data) == ToolOutput("a", data)
    for id_, key in (("b", "tool_call_id"), ("c", "call_id"), ("d", "invocation_id"), ("e", "item")):
        assert output(data=data) == ToolOutput(id_, data)
        data = {name: value for name, value in data.items() if name != key}
    assert output(data=data) == Malformed("llm:tool-output: expected a tool_call_id, got none")


def test_half_an_emoji_does_not_keep_a_result_from_the_model() -> None:
    message = output(tool_call_id="t1", data={"result": "cold \ud83e", "\ud83e": "🥶"})
    assert message == ToolOutput("t1", {"result": "cold �", "�": "🥶"})


def test_numbers_that_are_none_in_json_are_null() -> None:
    text = '{"type": "llm:tool-output", "tool_call_id": "t1", "data": [NaN, -Infinity, 1e999, 1.5]}'
    assert parse(text) == ToolOutput("t1", [None, None, None, 1.5])


# Junk ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected JSON, got text that cannot be read as it"),
        ("{secret", "expected JSON, got text that cannot be read as it"),
        ("[" * 100_000, "expected JSON, got text that cannot be read as it"),
        ("9" * 5000, "expected JSON, got text that cannot be read as it"),
        (b"\x00\x01", "expected text, got a binary message"),
        ("[1]", "expected an object, got a list"),
        ("null", "expected an object, got nothing"),
        ("{}", "type: expected a name of at most 100 characters, got nothing"),
        ('{"type": "command"}', "command: expected a name of at most 100 characters, got nothing"),
        ('{"type": true}', "type: expected a name of at most 100 characters, got true or false"),
        (
            json.dumps({"type": "x" * 101}),
            "type: expected a name of at most 100 characters, got a text of 101 characters",
        ),
        ("x" * (LIMIT + 1), f"expected at most {LIMIT} characters, got {LIMIT + 1}"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_junk_is_told_in_words_that_quote_nothing_of_it(text: str | bytes, why: str) -> None:
    assert parse(text) == Malformed(why)


def test_depth_has_a_bound() -> None:
    def nested(depth: int) -> str:
        return '{"type": "x", "data": ' + "[" * (depth - 1) + "]" * (depth - 1) + "}"

    assert isinstance(parse(nested(DEPTH)), Command)
    assert parse(nested(DEPTH + 1)) == Malformed(
        f"expected at most {DEPTH} objects and lists inside each other, got more"
    )


KEYS = st.sampled_from(
    ["type", "command", "data", "msgid", "tool_call_id", "item", "call_id", "result", "verb", "agent"]
)
WORDS = st.sampled_from(["ack", "command", "llm:tool-output", "agent:update", "client_tool_result", "redirect", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=40)
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_whatever_an_application_sends_can_be_sent_on(message: dict[str, Any]) -> None:
    match parse(json.dumps(message)):
        case ToolOutput(id_, result):
            json.dumps([id_, result], allow_nan=False, ensure_ascii=False).encode()
        case Ack(_, found):
            assert all(isinstance(verb["verb"], str) for verb in found)


@settings(max_examples=40)
@given(st.text(max_size=50) | st.binary(max_size=50))
def test_no_text_is_raised_about(text: str | bytes) -> None:
    parse(text)
