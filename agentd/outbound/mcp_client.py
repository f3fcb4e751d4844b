"""The SDK's client for one connection to an MCP server, and what its exceptions mean."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

import mcp.types as types
from mcp import Client
from mcp.client import ClientRequestContext, IncomingMessage
from mcp.client._transport import ReadStream, TransportStreams
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

from agentd import __version__
from agentd.outbound import mcp_wire
from agentd.outbound.guard import Blocked, Guard
from agentd.outbound.mcp_http import Traffic
from agentd.outbound.mcp_wire import Kind
from config.conversation import McpServer

_LATER = (401, 403, 408, 429)  # statuses of the client's fault that do not mean the wrong transport


class NotReached(Exception):
    """No connection; the message says why."""


class WrongTransport(NotReached):
    """The server may speak the other one."""


class Refused(NotReached):
    """Asking again cannot help."""


@contextlib.asynccontextmanager
async def connection(
    server: McpServer,
    kind: Kind,
    guard: Guard,
    traffic: Traffic,
    *,
    seconds: float,
    ended: Callable[[], None],
    dropped: Callable[[int], None],
    changed: Callable[[], None],
) -> AsyncIterator[Client]:
    """A connected client, to be entered and left in one task. ``seconds``: for one answer, unless its request says
    otherwise. ``ended``: no message will come any more; ``dropped``: so many tools of a page were none; ``changed``:
    the server says that its tools have. Raises whatever the SDK does: see :func:`failure`.
    """
    try:
        roots = mcp_wire.roots(server.roots)
        headers = mcp_wire.headers(server.auth)
    except ValueError as exc:
        raise Refused(str(exc)) from None

    async def tell_roots(context: ClientRequestContext) -> types.ListRootsResult:
        return types.ListRootsResult(roots=roots)

    async def hear(message: IncomingMessage) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            changed()

    @contextlib.asynccontextmanager
    async def transport() -> AsyncIterator[TransportStreams]:
        async with contextlib.AsyncExitStack() as stack:
            http = traffic.client(guard, server.url, headers)
            if kind == "sse":  # which closes it
                opened = sse_client(server.url, httpx_client_factory=lambda headers=None, timeout=None, auth=None: http)
            else:
                await stack.enter_async_context(http)
                opened = streamable_http_client(server.url, http_client=http)
            read, write = await stack.enter_async_context(opened)
            yield _Incoming(read, ended, dropped), write

    async with Client(
        transport(),
        # Who speaks SSE is too old for discovery; one that ignored the question would cost 10 s.
        mode="legacy" if kind == "sse" else "auto",
        read_timeout_seconds=seconds,
        list_roots_callback=tell_roots if roots else None,
        message_handler=hear,
        client_info=types.Implementation(name="agentd", version=__version__),
        cache=None,
    ) as client:
        yield client


def failure(exc: Exception, status: int | None) -> NotReached:
    """Why a connection came to nothing, without a word that the SDK or the server said. ``status`` is the last one
    of HTTP, which the SDK drops.
    """
    leaves = list(_leaves(exc))
    for leaf in leaves:
        if isinstance(leaf, Refused):
            return leaf
        if isinstance(leaf, Blocked):
            return Refused(str(leaf))
    if status in (401, 403):
        return Refused(f"HTTP {status}")
    if status is not None and status >= 400:
        return (NotReached if status in _LATER or status >= 500 else WrongTransport)(f"HTTP {status}")
    reason = ", ".join(sorted({type(leaf).__name__ for leaf in leaves}))
    # An answer, but none of MCP's: perhaps a page for browsers, or the other transport.
    return (NotReached if status is None or isinstance(exc, TimeoutError) else WrongTransport)(reason)


def raise_if_cancelled() -> None:
    """To be called where an exception is swallowed: it may have come instead of a cancellation at the same time."""
    if (task := asyncio.current_task()) is not None and task.cancelling():
        raise asyncio.CancelledError


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for each in exc.exceptions:
            yield from _leaves(each)
    else:
        yield exc
        if exc.__cause__ is not None:
            yield from _leaves(exc.__cause__)


class _Incoming:
    """The stream of the server's messages: pruned, and its end is noticed."""

    def __init__(
        self,
        stream: ReadStream[SessionMessage | Exception],
        ended: Callable[[], None],
        dropped: Callable[[int], None],
    ) -> None:
        self._stream = stream
        self._ended = ended
        self._dropped = dropped

    async def receive(self) -> SessionMessage | Exception:
        return self._pruned(await self._stream.receive())

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return self._pruned(await self._stream.__anext__())
        except BaseException:
            self._ended()
            raise

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(exc_type, exc, traceback)

    def _pruned(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        if tools := mcp_wire.prune(item):
            self._dropped(tools)
        return item
