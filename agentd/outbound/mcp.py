"""The MCP servers of one call, as tools. Import this only where a call names some: the SDK takes half a second."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Guard
from agentd.outbound.mcp_link import Link
from config.conversation import McpServer
from providers.base import Tool

log = logging.getLogger("agentd.mcp")

READY = 3.0  # seconds after which the first prompt goes without the tools of a server that has not answered
MOST_SERVERS = 16  # of one call


class McpTools:
    """The tools of all servers; where two have one of the same name, that of the server named first counts."""

    def __init__(self, servers: Sequence[McpServer], guard: Guard, *, deadline: float = 20.0) -> None:
        if len(servers) > MOST_SERVERS:
            log.warning("MCP servers left out", extra={"servers": len(servers), "most": MOST_SERVERS})
        self._links = [Link(server, guard, deadline) for server in servers[:MOST_SERVERS]]
        self._due: float | None = None
        self._was_told = False

    async def run(self) -> None:
        """Keep the connections until cancelled. Never raises because of a server."""
        self._begin()
        async with asyncio.TaskGroup() as group:
            for link in self._links:
                group.create_task(link.run(), name=f"mcp {link.host}")

    async def ready(self) -> None:
        """Returns once every server has answered or failed, and not later than 3 s after the beginning."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(self._begin()):
                for link in self._links:
                    await link.settled.wait()
        late = [link.where for link in self._links if not link.settled.is_set()]
        if late and not self._was_told:
            self._was_told = True
            log.warning("MCP servers late, the call goes on without their tools", extra={"servers": late})

    @property
    def tools(self) -> tuple[Tool, ...]:
        """As of now, also those of a server that is just away."""
        return tuple(tool for tool, _ in self._offered().values())

    def has(self, name: str) -> bool:
        return name in self._offered()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """The result, text or JSON. Raises :class:`HookFailed`. Cancelling it cancels the call at the server."""
        found = self._offered().get(name)
        if found is None:
            raise HookFailed(f"no MCP server has a tool {name!r} any more")
        tool, link = found
        return await link.call(link.catalogue.own_name(tool.name), arguments)

    def _offered(self) -> dict[str, tuple[Tool, Link]]:
        offered: dict[str, tuple[Tool, Link]] = {}
        for link in self._links:
            for tool in link.catalogue.tools:
                offered.setdefault(tool.name, (tool, link))
        return offered

    def _begin(self) -> float:
        if self._due is None:
            self._due = asyncio.get_running_loop().time() + READY
        return self._due
