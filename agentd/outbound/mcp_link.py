"""One MCP server of one call: connected, kept, and connected again while the call lasts."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import mcp.types as types
from mcp import Client, MCPError
from mcp.client import InputRequiredRoundsExceededError
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from agentd.outbound import mcp_wire
from agentd.outbound.channel import HookFailed
from agentd.outbound.guard import Guard
from agentd.outbound.mcp_catalogue import Catalogue
from agentd.outbound.mcp_client import NotReached, Refused, WrongTransport, connection, failure, raise_if_cancelled
from agentd.outbound.mcp_http import LARGEST, PARTING, Ask, Traffic, asking
from agentd.outbound.mcp_wire import MOST_TOOLS, Kind
from config.conversation import McpServer
from config.secrets import hide_in_url

log = logging.getLogger("agentd.mcp")

CONNECT = 10.0  # seconds for a connection with its list of tools, or for another list
PAGES = 20  # of one list of tools
HUNG = 60.0  # seconds beyond the deadline of a call: its request is given up, and the connection with it
AWAY = 2.0  # seconds that a tool call waits for a server that is away
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two attempts to connect
STEADY = 10.0  # seconds: after a connection that lasted so long, pauses are short again
RELIST_GAP = 1.0  # seconds between two lists of tools, however often a server says that they changed
SUBSCRIBE_GAP = 5.0  # seconds between two subscriptions to such changes


class Link:
    """``settled`` once the server has answered or failed; ``catalogue`` has its tools, also while it is away."""

    def __init__(self, server: McpServer, guard: Guard, deadline: float) -> None:
        self.where = hide_in_url(server.url)
        self.host = urlsplit(server.url).hostname or "?"
        self.catalogue = Catalogue(self.where)
        self.settled = asyncio.Event()
        self._server = server
        self._guard = guard
        self._deadline = deadline
        self._secrets = mcp_wire.secrets(server.url, server.auth)
        self._kinds = mcp_wire.kinds(server.url)
        self._up: tuple[Client, asyncio.Event] | None = None  # the event is set when it is lost
        self._here = asyncio.Event()
        self._wanted = asyncio.Event()
        self._is_over = False

    async def run(self) -> None:
        """Keep a connection until cancelled, or until asking again cannot help. Never raises because of the server."""
        clock = asyncio.get_running_loop().time
        pause, was_told = FIRST_PAUSE, False
        try:
            while True:
                begun = clock()
                try:
                    await self._serve()
                    self._log(logging.WARNING, "MCP server lost")
                    was_told = False
                    if clock() - begun > STEADY:
                        pause = FIRST_PAUSE
                except Refused as exc:
                    self._log(logging.WARNING, "MCP server not used", reason=str(exc))
                    return
                except NotReached as exc:
                    if not was_told:
                        self._log(logging.WARNING, "MCP server not reached", reason=str(exc))
                    was_told = True
                self.settled.set()
                await self._rest(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            self._is_over = True
            self.settled.set()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """``name`` is the server's own. Raises :class:`HookFailed`."""
        try:
            async with asyncio.timeout(self._deadline) as limit:
                try:
                    result = await self._ask(name, arguments)
                except TimeoutError as exc:
                    if limit.expired():
                        raise
                    raise self._failed(exc, Ask()) from None
        except TimeoutError:
            raise HookFailed(f"the MCP server {self.host} did not answer within {self._deadline:g} seconds") from None
        text = mcp_wire.text_of(result)
        if result.is_error:
            raise HookFailed(mcp_wire.said(str(text), self._secrets))
        return text

    # The connection, in the one task that owns it -------------------------------------------------------------

    async def _serve(self) -> None:
        """By the transport that worked last, or else by the other one."""
        first, second = self._kinds
        try:
            await self._serve_over(first)
        except WrongTransport:
            await self._serve_over(second)

    async def _serve_over(self, kind: Kind) -> None:
        """Connect, read the tools, and stay until the connection is lost. Raises :class:`NotReached` if there was none.

        The SDK's client lives in a task of its own: anyio's groups may raise what failed in them *instead* of the
        cancellation that came at the same time, and the call would never end.
        """
        lost, changed = asyncio.Event(), asyncio.Event()
        owner = asyncio.create_task(self._own(kind, lost, changed), name=f"mcp-client {self.host}")
        beside = (
            asyncio.create_task(self._relist(changed), name=f"mcp-tools {self.host}"),
            asyncio.create_task(self._subscribe(changed), name=f"mcp-changes {self.host}"),
        )
        try:
            await asyncio.wait([owner])
        finally:
            self._lose(lost)
            for task in (owner, *beside):
                await _end(task)
        if not owner.cancelled() and (failed := owner.exception()) is not None:
            raise failed if isinstance(failed, NotReached) else NotReached(type(failed).__name__)

    async def _own(self, kind: Kind, lost: asyncio.Event, changed: asyncio.Event) -> None:
        traffic = Traffic(sse=kind == "sse", patience=self._deadline + HUNG, lost=lambda: self._lose(lost))
        stood = False
        try:
            async with (
                asyncio.timeout(CONNECT) as limit,
                connection(
                    self._server,
                    kind,
                    self._guard,
                    traffic,
                    seconds=CONNECT,
                    ended=lambda: self._lose(lost),
                    dropped=self._tell_dropped,
                    changed=changed.set,
                ) as client,
            ):
                await self._list(client)
                limit.reschedule(None)
                stood = True
                self._kinds = ("sse", "http") if kind == "sse" else ("http", "sse")
                self._log(logging.INFO, "MCP server connected", transport=kind, tools=len(self.catalogue.tools))
                if not lost.is_set():
                    self._up = client, lost
                    self._here.set()
                self.settled.set()
                await lost.wait()
        except Exception as exc:
            if not stood:
                raise failure(exc, traffic.status) from None

    def _lose(self, lost: asyncio.Event) -> None:
        """No answer will come over this connection: nobody gets it any more, and its owner builds another."""
        if self._up is not None and self._up[1] is lost:
            self._up = None
            self._here.clear()
        lost.set()

    async def _rest(self, pause: float) -> None:
        """A pause, cut short as long as a tool call waits."""
        await asyncio.sleep(FIRST_PAUSE)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause - FIRST_PAUSE):
                await self._wanted.wait()

    # The tools ------------------------------------------------------------------------------------------------

    async def _list(self, client: Client) -> None:
        found: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(PAGES):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor or len(found) > MOST_TOOLS:
                break
        if cursor or len(found) > MOST_TOOLS:
            self._log(logging.WARNING, "MCP list of tools cut", most=MOST_TOOLS, pages=PAGES)
        await self.catalogue.take(found[:MOST_TOOLS])

    async def _relist(self, changed: asyncio.Event) -> None:
        client = await self._connected()
        while True:
            await changed.wait()
            changed.clear()
            try:
                async with asyncio.timeout(CONNECT):
                    await self._list(client)
            except Exception as exc:
                raise_if_cancelled()
                self._log(logging.WARNING, "MCP tools not read again", reason=type(exc).__name__)
            await asyncio.sleep(RELIST_GAP)

    async def _subscribe(self, changed: asyncio.Event) -> None:
        """A server of the 2026 protocol tells of changes only who asks for them."""
        client = await self._connected()
        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
            return
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    changed.set()  # what came between the list and now
                    async for _ in changes:
                        changed.set()
            except Exception as exc:
                raise_if_cancelled()
                self._log(logging.DEBUG, "MCP subscription ended", reason=type(exc).__name__)
            await asyncio.sleep(SUBSCRIBE_GAP)

    async def _connected(self) -> Client:
        while self._up is None:
            await self._here.wait()
        return self._up[0]

    # Calls ----------------------------------------------------------------------------------------------------

    async def _ask(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """Once; a second time only if the first cannot have reached the tool, which may have side effects."""
        for is_last in (False, True):
            client, lost = await self._reach()
            ask = Ask()
            token = asking.set(ask)
            try:
                # The deadline is ours: the SDK's would be another answer for the same thing.
                return await client.call_tool(name, dict(arguments), read_timeout_seconds=self._deadline + HUNG)
            except Exception as exc:
                raise_if_cancelled()
                if _is_dead(exc):
                    self._lose(lost)
                if is_last or not ask.unheard:
                    raise self._failed(exc, ask) from None
            finally:
                asking.reset(token)
        raise AssertionError("unreachable")

    async def _reach(self) -> tuple[Client, asyncio.Event]:
        if self._up is None and not self._is_over:
            self._wanted.set()
            try:
                async with asyncio.timeout(AWAY):
                    await self._here.wait()
            except TimeoutError:
                pass
            finally:
                self._wanted.clear()
        if self._up is None:
            raise self._unreachable()
        return self._up

    def _unreachable(self) -> HookFailed:
        return HookFailed(f"the MCP server {self.host} is not reachable", may_retry=True)

    def _failed(self, exc: Exception, ask: Ask) -> HookFailed:
        if ask.unheard:
            return self._unreachable()
        if ask.too_large:
            return HookFailed(f"the MCP server {self.host} answered with more than {LARGEST} bytes")
        if isinstance(exc, MCPError) and exc.code != types.CONNECTION_CLOSED:
            return HookFailed(f"the MCP server {self.host} answered: {mcp_wire.said(exc.message, self._secrets)}")
        if isinstance(exc, MCPError):
            return HookFailed(
                f"the connection to the MCP server {self.host} broke; nobody knows whether the tool has run"
            )
        return HookFailed(f"the MCP server {self.host} gave an answer that is none of MCP ({type(exc).__name__})")

    def _tell_dropped(self, tools: int) -> None:
        self._log(logging.WARNING, "MCP tools left out", tools=tools)

    def _log(self, level: int, event: str, **fields: Any) -> None:
        log.log(level, event, extra={"server": self.where, **fields})


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel it until it has ended; a server that hangs is not waited for longer than :data:`PARTING`."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=PARTING)
    if not task.cancelled():
        task.exception()  # seen: it would be reported otherwise


def _is_dead(exc: Exception) -> bool:
    """Has the whole connection ended, not just this request? The SDK has one code for both."""
    if isinstance(exc, MCPError):
        return exc.code == types.CONNECTION_CLOSED and exc.message == "Connection closed"
    return not isinstance(exc, ValidationError | InputRequiredRoundsExceededError)
