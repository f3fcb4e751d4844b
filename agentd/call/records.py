"""A conversation as its journal has it: what happened to it, one JSON object each. Pure.

began                                  the caller may have heard something
asked {turn, said}                     a turn begins: what the caller said, or nothing
tools {calls}  result {id, result}     its tools are called, and return, perhaps when it is over
answered {text}                        the model has said all; what is heard of it shows at its end
turn {messages}                        it is over
remark, context {messages}             said in passing, or by the application
summary {messages, text}               so many of them were dropped for it
instructions {text}  offer {tools}     updates
"""

from collections.abc import Sequence
from typing import Any

from providers.base import Message, Native, Tool, ToolCall

Record = dict[str, Any]


def message_record(message: Message) -> Record:
    """What it leaves out is as it is by default."""
    record: Record = {"role": message.role, "content": message.content}
    if message.tool_calls:
        record["tool_calls"] = calls_record(message.tool_calls)
    if message.tool_call_id is not None:
        record["tool_call_id"] = message.tool_call_id
    if message.native is not None:
        record["native"] = _native_record(message.native)
    return record


def message_of(record: Record) -> Message:
    calls = calls_of(record.get("tool_calls", []))
    return Message(record["role"], record["content"], calls, record.get("tool_call_id"), _native_of(record))


def messages_record(messages: Sequence[Message]) -> list[Record]:
    return [message_record(message) for message in messages]


def messages_of(records: Sequence[Record]) -> list[Message]:
    return [message_of(record) for record in records]


def calls_record(calls: Sequence[ToolCall]) -> list[Record]:
    return [
        {"id": call.id, "name": call.name, "arguments": call.arguments}
        | ({} if call.native is None else {"native": _native_record(call.native)})
        for call in calls
    ]


def calls_of(records: Sequence[Record]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(record["id"], record["name"], record["arguments"], _native_of(record)) for record in records)


def tools_record(tools: Sequence[Tool]) -> list[Record]:
    return [{"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)} for tool in tools]


def tools_of(records: Sequence[Record]) -> tuple[Tool, ...]:
    return tuple(Tool(record["name"], record["description"], record["parameters"]) for record in records)


def _native_record(native: Native) -> Record:
    return {"protocol": native.protocol, "content": native.content}


def _native_of(record: Record) -> Native | None:
    native = record.get("native")
    return None if native is None else Native(native["protocol"], native["content"])
