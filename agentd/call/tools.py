"""Tools of one call: who answers which name, within what time. A failed tool is a result that the model can read."""

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from agentd.call.schema import DEPTH, SIZE, Schema, depth
from agentd.outbound.channel import HookFailed
from providers.base import Tool, ToolCall

log = logging.getLogger("agentd.call.tools")

RESULT_LIMIT = 32_768  # characters of a result that reach the model

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]

Ask = Callable[[str, str, Mapping[str, Any]], Awaitable[Any]]
"""The toolHook: called with the call's id, the tool's name and the arguments."""


class Mcp(Protocol):
    """The MCP servers of this call. ``run`` keeps the connections until it is cancelled; ``ready`` returns once each
    has told its tools, or has had its time for it; ``tools`` are those of now.
    """

    @property
    def tools(self) -> tuple[Tool, ...]: ...

    async def run(self) -> None: ...

    async def ready(self) -> None: ...

    def has(self, name: str) -> bool: ...

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool and who runs it."""

    tool: Tool
    handler: Handler


class Toolbox:
    """The tools that this call's model may use. A name is looked for in the order of dispatch: built-in and pre-built
    ones (``offers``), the MCP servers', the ``application``'s own, which the toolHook answers (``ask``). ``timeout``:
    the seconds that one may take.
    """

    def __init__(
        self,
        offers: Sequence[Offer],
        *,
        timeout: float = 20.0,
        mcp: Mcp | None = None,
        application: Sequence[Tool] = (),
        ask: Ask | None = None,
    ) -> None:
        self._timeout = timeout
        self._mcp = mcp
        self._ask = ask
        self._offers: dict[str, Offer] = {}
        for offer in offers:
            self._offers.setdefault(offer.tool.name, offer)
        self._schemas: dict[str, tuple[Tool, Schema]] = {}
        self._application: dict[str, Tool] = {}
        self.application = tuple(application)

    @property
    def application(self) -> tuple[Tool, ...]:
        """The application's own tools. They may be changed at any time; the next prompt has them."""
        return tuple(self._application.values())

    @application.setter
    def application(self, tools: Sequence[Tool]) -> None:
        self._application = {}
        for tool in tools:
            self._application.setdefault(tool.name, tool)
        lost = [name for name in self._application if self._answers(name) is None]
        if lost:
            log.warning(
                "tools not offered", extra={"tools": lost, "why": "expected a toolHook to answer them, got none"}
            )

    async def ready(self) -> None:
        """Wait for the tools that still have to be asked for: a few seconds at most, and once a call."""
        if self._mcp is not None:
            await self._mcp.ready()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the model is offered: only what somebody answers."""
        return tuple(self._offered().values())

    async def run(self, call: ToolCall) -> str:
        """The result as text. Never raises but for cancellation."""
        tool, answers = self._offered().get(call.name), self._answers(call.name)
        if tool is None or answers is None:
            if call.name in self._application:
                return f"Error: no toolHook answers the tool {call.name!r}."
            return f"Error: there is no tool {call.name[:100]!r}; there are {', '.join(self._offered()) or 'none'}."
        try:
            arguments = _arguments(call.arguments)
        except ValueError as exc:
            return f"Error: {exc}."
        if violation := (await self._schema(tool)).violation(arguments):
            return f"Error: {violation}."
        deadline = asyncio.timeout(self._timeout)
        try:
            async with deadline:
                result = await answers(call.id, call.name, arguments)
        except HookFailed as exc:
            log.warning("tool failed", extra={"tool": call.name, "error": "HookFailed"})
            return _cut(f"Error: {exc}")
        except Exception as exc:
            if isinstance(exc, TimeoutError) and deadline.expired():
                return f"Error: the tool {call.name!r} did not answer within {self._timeout:g} seconds."
            # Whatever a tool does wrong, the conversation goes on. The arguments may be private: they stay out.
            log.warning("tool failed", extra={"tool": call.name, "error": type(exc).__name__}, exc_info=True)
            return _cut(f"Error: the tool {call.name!r} failed: {exc}")
        return _cut(_text(result))

    def _offered(self) -> dict[str, Tool]:
        offered = {name: offer.tool for name, offer in self._offers.items()}
        for tool in (*(self._mcp.tools if self._mcp is not None else ()), *self._application.values()):
            if tool.name not in offered and self._answers(tool.name) is not None:
                offered[tool.name] = tool
        return offered

    def _answers(self, name: str) -> Ask | None:
        """Who answers this name, if anybody does."""
        if (offer := self._offers.get(name)) is not None:
            handler = offer.handler
            return lambda call_id, name, arguments: handler(arguments)
        if (mcp := self._mcp) is not None and mcp.has(name):
            return lambda call_id, name, arguments: mcp.call(name, arguments)
        return self._ask if name in self._application else None

    async def _schema(self, tool: Tool) -> Schema:
        known = self._schemas.get(tool.name)
        if known is None or known[0] is not tool:
            schema = await asyncio.to_thread(Schema, tool.name, tool.parameters)
            self._schemas[tool.name] = known = (tool, schema)
        return known[1]


def _arguments(text: str) -> dict[str, Any]:
    """What the model wrote, as an object. Raises ``ValueError`` with words for the model."""
    wanted = "expected the arguments as a JSON object"
    if len(text) > SIZE:
        raise ValueError(f"{wanted} of at most {SIZE} characters, got {len(text)}")
    try:
        arguments = json.loads(text if text.strip() else "{}", parse_constant=_refuse)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"{wanted}, got text that is not JSON ({exc})") from None
    if not isinstance(arguments, dict):
        raise ValueError(f"{wanted}, got {type(arguments).__name__}")
    if depth(arguments) > DEPTH:
        raise ValueError(f"{wanted} of at most {DEPTH} levels, got more")
    return arguments


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _text(result: Any) -> str:
    if isinstance(result, str):
        return result
    try:
        try:
            return json.dumps(result, ensure_ascii=False, allow_nan=False)
        except ValueError:
            return json.dumps(_spelled(result), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return f"Error: expected text or JSON from the tool, got {type(result).__name__}."


def _spelled(value: Any) -> Any:
    """The same with NaN and Infinity, which JSON does not have, as text."""
    match value:
        case float() if not math.isfinite(value):
            return json.dumps(value)
        case Mapping():
            return {key: _spelled(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_spelled(inner) for inner in value]
        case _:
            return value


def _cut(text: str) -> str:
    """As much as the model gets, in characters that can be sent: JSON may hold half a surrogate pair."""
    if len(text) > RESULT_LIMIT:
        note = f" … [cut here: the result has {len(text)} characters]"
        text = text[: RESULT_LIMIT - len(note)] + note
    return text.encode(errors="replace").decode()
