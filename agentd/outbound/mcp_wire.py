"""What an MCP server is told, and what of its answers is taken: decided here, without any I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import mcp.types as types
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from agentd.outbound.basic_auth import basic
from providers.failures import redact

Kind = Literal["http", "sse"]

MOST_TOOLS = 512  # of one server
MOST_BLOCKS = 100  # of one result
LONGEST_ERROR = 4096  # characters of a server's own words about a failure
_LEAST_SECRET = 6  # characters: anything shorter would be found in ordinary words, too
_FIELDS = ("name", "description", "inputSchema")


# What goes out --------------------------------------------------------------------------------------------


def kinds(url: str) -> tuple[Kind, Kind]:
    """The transports, the likelier one first: what jambonz calls an MCP server often ends in ``/sse``."""
    return ("sse", "http") if urlsplit(url).path.rstrip("/").endswith("/sse") else ("http", "sse")


def headers(auth: Mapping[str, Any]) -> dict[str, str]:
    """The request headers for the verb's ``auth``. Raises ``ValueError`` for what no header can hold."""
    found = {str(name): str(value) for name, value in (auth.get("headers") or {}).items()}
    if auth.get("username") is not None and auth.get("password") is not None:
        found["Authorization"] = basic(str(auth["username"]), str(auth["password"]))
    elif key := auth.get("apiKey") or auth.get("token"):
        found["Authorization"] = f"Bearer {key}"
    for each in (*found, *found.values()):
        if not each.isascii() or not each.isprintable():
            raise ValueError("expected auth in printable ASCII")
    return found


def secrets(url: str, auth: Mapping[str, Any]) -> tuple[str, ...]:
    """What must not be repeated, should the server do it."""
    try:
        parts = urlsplit(url)
        query = [value for _, value in parse_qsl(parts.query)]
    except ValueError:
        return ()
    found = [*_texts(auth), parts.password or "", *query]
    return tuple(text for text in found if len(text) >= _LEAST_SECRET)


def roots(given: Sequence[Mapping[str, Any]]) -> list[types.Root]:
    """The verb's ``roots``: ``{uri, name}``, or ``{url}``. Raises ``ValueError`` for what is no ``file://`` URI."""
    try:
        return [
            types.Root.model_validate({"uri": each.get("uri") or each.get("url"), "name": each.get("name")})
            for each in given
        ]
    except ValidationError:
        raise ValueError("expected roots with file:// URIs") from None


# What comes in --------------------------------------------------------------------------------------------


def prune(item: SessionMessage | Exception) -> int:
    """Take out of a message what would cost time or the rest of it, before the SDK reads it closer: one tool without
    a schema fails a whole listing, and checking 20,000 of them holds the loop for 200 ms. Returns how many tools went.
    """
    if not isinstance(item, SessionMessage) or not isinstance(item.message, types.JSONRPCResponse):
        return 0
    result = item.message.result
    if isinstance(blocks := result.get("content"), list):
        result["content"] = blocks[:MOST_BLOCKS]
    if not isinstance(tools := result.get("tools"), list):
        return 0
    # No output schema either: the SDK would check every result against it, and the model reads what there is.
    result["tools"] = [
        {field: tool[field] for field in _FIELDS if tool.get(field) is not None}
        for tool in tools[:MOST_TOOLS]
        if _is_tool(tool)
    ]
    return len(tools) - len(result["tools"])


def text_of(result: types.CallToolResult) -> Any:
    """What the model reads: the text, else the structured content, else what kinds of content there are."""
    texts = [text for block in result.content if (text := _text(block)) is not None]
    if not texts and result.structured_content is not None:
        return result.structured_content
    return "\n".join(texts if texts and _only_text(result) else [_shown(block) for block in result.content])


def said(text: str, hidden: Iterable[str]) -> str:
    """A server's own words about a failure, short and without our credentials."""
    return redact(text, hidden)[:LONGEST_ERROR]


def speakable(name: str) -> str:
    """A name that the vendors of models take: ``[A-Za-z0-9_-]{1,64}``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "_"


def _is_tool(tool: Any) -> bool:
    """Could it be one? The 2025 revisions of MCP are as strict, and refuse the whole page."""
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"]:
        return False
    if not isinstance(tool.get("description") or "", str) or not isinstance(schema := tool.get("inputSchema"), dict):
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    return (
        schema.get("type") == "object"
        and isinstance(properties, dict)
        and isinstance(required, list)
        and all(isinstance(each, str) for each in required)
    )


def _only_text(result: types.CallToolResult) -> bool:
    return all(_text(block) is not None for block in result.content)


def _shown(block: types.ContentBlock) -> str:
    text = _text(block)
    return f"[{block.type.replace('_', ' ')}]" if text is None else text


def _text(block: types.ContentBlock) -> str | None:
    match block:
        case types.TextContent(text=text):
            return text
        case types.EmbeddedResource(resource=types.TextResourceContents(text=text)):
            return text
        case _:
            return None


def _texts(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for each in value.values():
                yield from _texts(each)
        case list() | tuple():
            for each in value:
                yield from _texts(each)
