"""What an application sends on its control socket, in every shape that the generations of its SDKs have for it.

Pure. Whatever comes in, nothing is raised: what cannot be read is :class:`Malformed`, whose words quote nothing of it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LIMIT = 256 * 1024  # characters of a message, and bytes of it on the wire
DEPTH = 64  # objects and lists inside each other
LONGEST_NAME = 100  # characters of a command

UPDATES = frozenset({"agent:update", "pipeline:update", "updateAgent", "updatePipeline"})
TOOL_OUTPUT = "llm:tool-output"

_IDS = ("tool_call_id", "call_id", "invocation_id")
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # an escaped surrogate, whole pairs included


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer to the message ``msgid``; ``verbs`` are what comes next, each with its ``verb``."""

    msgid: str
    verbs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Update:
    """What is to change in the conversation; ``data`` is not looked at here."""

    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """What a tool has returned: any JSON, taken out of what the SDKs and vendors wrap around it."""

    tool_call_id: str
    output: Any


@dataclass(frozen=True, slots=True)
class Command:
    """Any other message, known or not; ``message`` is the whole of it."""

    name: str
    data: Any
    message: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Malformed:
    """What cannot be read, and why. ``msgid``: it was meant as the answer to this message."""

    why: str
    msgid: str | None = None


Message = Ack | Update | ToolOutput | Command | Malformed


def parse(text: str | bytes) -> Message:
    """One message of the application."""
    if not isinstance(text, str):
        return Malformed("expected text, got a binary message")
    if len(text) > LIMIT:
        return Malformed(f"expected at most {LIMIT} characters, got {len(text)}")
    try:
        # NaN and 1e999 become null, as JavaScript writes them: no vendor would take them from us.
        message = json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return Malformed("expected JSON, got text that cannot be read as it")
    if not isinstance(message, dict):
        return Malformed(f"expected an object, got {_kind(message)}")
    if is_deep(message):
        msgid = _id(message.get("msgid")) if message.get("type") == "ack" else None
        return Malformed(f"expected at most {DEPTH} objects and lists inside each other, got more", msgid)
    return _read(_mended(message) if _HALF_A_PAIR.search(text) else message)


def verbs(data: Any) -> list[dict[str, Any]]:
    """Verbs as applications write them: a list, one, or none; ``{"verb": "say", …}`` or ``{"say": {…}}``. They come
    back in the first form. Raises ``ValueError``.
    """
    if not data:
        return []
    return [_verb(each) for each in (data if isinstance(data, list) else [data])]


def _read(message: dict[str, Any]) -> Message:
    type_ = message.get("type")
    if type_ == "ack":
        return _ack(message)
    name = message.get("command") if type_ == "command" else type_
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        key = "command" if type_ == "command" else "type"
        return Malformed(f"{key}: expected a name of at most {LONGEST_NAME} characters, got {_kind(name)}")
    if name == TOOL_OUTPUT:
        return _tool_output(message)
    data = message.get("data")
    if name not in UPDATES:
        return Command(name, data, message)
    if not isinstance(data, dict):
        return Malformed(f"{name}: expected data as an object, got {_kind(data)}")
    return Update(data)


def _ack(message: Mapping[str, Any]) -> Message:
    msgid = message.get("msgid")
    if not isinstance(msgid, str) or not msgid:
        return Malformed(f"ack: expected a msgid, got {_kind(msgid)}")
    try:
        return Ack(msgid, verbs(message.get("data")))
    except ValueError as exc:
        return Malformed(f"ack: {exc}", msgid)


def _verb(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected verbs as objects, got {_kind(value)}")
    if "verb" in value:
        if isinstance(value["verb"], str) and value["verb"]:
            return value
        raise ValueError(f"expected the name of a verb, got {_kind(value['verb'])}")
    if len(value) == 1:
        ((name, inner),) = value.items()
        if name and (inner is None or isinstance(inner, dict)):
            return {**(inner or {}), "verb": name}
    raise ValueError("expected an object with a verb, got one without")


def _tool_output(message: Mapping[str, Any]) -> Message:
    data = message.get("data")
    inner = data
    # The older node-client-ws has the id beside the output, inside data. A tool's own result may have a key of that
    # name, too: it stays what it is when there is anything else beside it.
    if isinstance(data, dict) and "data" in data and not set(data) - {"data", *_IDS}:
        inner = data["data"]
    found = [_id(message.get("tool_call_id")), *_ids(data), *_ids(inner)]
    id_ = next(filter(None, found), None)
    if id_ is None:
        return Malformed(f"{TOOL_OUTPUT}: expected a tool_call_id, got none")
    return ToolOutput(id_, _output(inner))


def _ids(data: Any) -> list[str | None]:
    if not isinstance(data, dict):
        return []
    item = data.get("item")
    last = item.get("call_id") if isinstance(item, dict) else None
    return [*(_id(data.get(name)) for name in _IDS), _id(last)]


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _output(data: Any) -> Any:
    """What the tool has returned, without the vendor's or the SDK's wrapping."""
    match data:
        case {"type": "conversation.item.create", "item": {"output": output}}:  # OpenAI's realtime API
            return output
        case {"type": "FunctionCallResponse", "content": output} | {"type": "FunctionCallResponse", "output": output}:
            return output  # Deepgram's
        case {"toolResponse": {"functionResponses": [{"response": response}]}}:  # Google's
            is_wrapped = isinstance(response, dict) and set(response) == {"output"}
            return response["output"] if is_wrapped else _output(response)
        case {"result": result}:  # theirs, Ultravox' and ElevenLabs'
            wrapping = {*_IDS, *(("type", "is_error") if data.get("type") == "client_tool_result" else ())}
            if set(data) - wrapping == {"result"}:
                return {"error": result} if data.get("is_error") else result
    return data


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def is_deep(value: Any) -> bool:
    """By levels, not by recursion: it is the depth that is not known yet."""
    level = [value]
    for _ in range(DEPTH):
        level = [inner for each in level if isinstance(each, dict | list) for inner in _inside(each)]
    return any(isinstance(each, dict | list) for each in level)


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _mended(value: Any) -> Any:
    """Half of a surrogate pair, as JavaScript leaves it when a text is cut within an emoji, cannot be sent anywhere."""
    match value:
        case str():
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
        case list():
            return [_mended(item) for item in value]
        case _:
            return value


def _kind(value: Any) -> str:
    """What it is, in JSON's words and without its content."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case str():
            return "an empty text" if not value else f"a text of {len(value)} characters"
        case int() | float():
            return "a number"
        case list():
            return "a list"
        case _:
            return "an object"
