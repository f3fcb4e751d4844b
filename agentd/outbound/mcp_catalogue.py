"""The tools of one MCP server, each as this call saw it first: what a model was told of a tool must stay true."""

import asyncio
import functools
import hashlib
import json
import logging
from collections.abc import Sequence

import jsonschema
import mcp.types as types

from agentd.outbound.mcp_wire import MOST_TOOLS, speakable
from providers.base import Tool

log = logging.getLogger("agentd.mcp")

LARGEST_DEFINITION = 16_384  # characters of a tool's description and schema: every prompt carries them


class Catalogue:
    """``tools`` have names that a vendor takes; :meth:`own_name` leads back to the server's."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._first: dict[str, Tool | None] = {}  # by the server's name; None: not fit to be offered
        self._own_names: dict[str, str] = {}
        self._changed: set[str] = set()
        self._listed: tuple[str, ...] = ()

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(tool for name in self._listed if (tool := self._first.get(name)) is not None)

    def own_name(self, name: str) -> str:
        return self._own_names[name]

    async def take(self, listed: Sequence[types.Tool]) -> None:
        """The server's tools as of now. New ones are added, missing ones go, changed ones stay what they were."""
        new = {tool.name: tool for tool in reversed(listed) if tool.name not in self._first}
        fresh = list(reversed(new.values()))[: MOST_TOOLS - len(self._first)]
        # On a thread: jsonschema takes 1 to 2 ms for a small schema, and as long as it likes for a large one.
        faults = await asyncio.to_thread(lambda: [_fault(tool) for tool in fresh]) if fresh else []
        for tool, fault in zip(fresh, faults, strict=True):
            if fault:
                log.warning("MCP tool left out", extra={"server": self._where, "tool": tool.name, "reason": fault})
            self._first[tool.name] = None if fault else self._named(tool)
        for tool in listed:
            first = self._first.get(tool.name)
            if first is not None and _has_changed(first, tool) and tool.name not in self._changed:
                self._changed.add(tool.name)
                log.warning("MCP tool changed, its first form stays", extra={"server": self._where, "tool": tool.name})
        self._listed = tuple(dict.fromkeys(tool.name for tool in listed))

    def _named(self, tool: types.Tool) -> Tool:
        name = speakable(tool.name)
        if name in self._own_names:
            name = f"{name[:57]}_{hashlib.sha256(tool.name.encode()).hexdigest()[:6]}"
        self._own_names[name] = tool.name
        return Tool(name, tool.description or "", tool.input_schema)


def _has_changed(first: Tool, now: types.Tool) -> bool:
    return (first.description, first.parameters) != (now.description or "", now.input_schema)


def _fault(tool: types.Tool) -> str | None:
    """Why a model must not be offered this: vendors refuse a whole prompt for one bad schema."""
    try:
        schema = json.dumps(tool.input_schema)
    except (TypeError, ValueError, RecursionError):
        return "its schema is no JSON"
    if (length := len(schema) + len(tool.description or "")) > LARGEST_DEFINITION:
        return f"expected at most {LARGEST_DEFINITION} characters, got {length}"
    return _schema_fault(schema)


@functools.lru_cache(maxsize=1024)  # the same servers answer every call of a process
def _schema_fault(schema: str) -> str | None:
    try:
        jsonschema.Draft202012Validator.check_schema(json.loads(schema))
    except jsonschema.SchemaError:
        return "its schema is no JSON Schema"
    except Exception as exc:  # too deep, a regular expression that is none, …
        return f"its schema cannot be checked ({type(exc).__name__})"
    return None
