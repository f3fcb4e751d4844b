"""The HTTP below one connection to an MCP server: bounded in size, pace and time, and seen through to single calls."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2

from agentd import __version__
from agentd.outbound.guard import Guard

# They print addresses with their query, messages and answers; the SDK also at error level.
for _name in ("mcp", "client"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

LARGEST = 1 << 20  # bytes of an answer; of a stream of events: that may come at once
PACE = 64 << 10  # bytes a second of a stream of events, in the long run
GET_GAP = 1.0  # seconds between two GETs: it is the server that makes the SDK send them
SHORT = 5.0  # seconds for a connection, and for an answer to what needs none
PARTING = 1.0  # seconds for taking leave


@dataclass(slots=True)
class Ask:
    """One tool call on its way. ``unheard``: it is certain that the tool has not run."""

    unheard: bool = False
    too_large: bool = False


asking: ContextVar[Ask | None] = ContextVar("asking", default=None)  # the SDK sends with the context of who asks


class TooLarge(httpx2.StreamError):
    """The SDK fails one request for a ``StreamError``, and the whole connection for any other exception."""

    def __init__(self) -> None:
        super().__init__(f"expected at most {LARGEST} bytes")


class Unreadable(Exception):
    """An answer in a form that was not asked for."""


class Traffic:
    """``status`` is that of the last answer. ``patience``: seconds after which a request without a byte of its answer
    is an end of the connection. ``lost`` is called when no answer can come over it and the SDK would not notice.
    """

    def __init__(self, *, sse: bool, patience: float, lost: Callable[[], None]) -> None:
        self.status: int | None = None
        self._sse = sse
        self._patience = patience
        self._lost = lost
        self._next_get = 0.0

    def client(self, guard: Guard, url: str, headers: dict[str, str]) -> httpx2.AsyncClient:
        """Raises :class:`agentd.outbound.guard.Blocked`."""
        return guard.client(
            url,
            # A compressed answer of 1 MB may be one of 1 GB.
            headers={"User-Agent": f"agentd/{__version__}", **headers, "Accept-Encoding": "identity"},
            event_hooks={"request": [self._before], "response": [self._after]},
        )

    async def _before(self, request: httpx2.Request) -> None:
        seconds = {"connect": SHORT, "read": self._patience_for(request), "write": SHORT, "pool": SHORT}
        if request.method == "DELETE":
            seconds = dict.fromkeys(seconds, PARTING)
        request.extensions = {**request.extensions, "timeout": seconds, "trace": self._traced}
        if request.method == "GET":
            now = asyncio.get_running_loop().time()
            wait, self._next_get = self._next_get - now, max(now, self._next_get) + GET_GAP
            if wait > 0:
                await asyncio.sleep(wait)

    async def _traced(self, event: str, info: Any) -> None:
        if event.startswith("connection.") and event.endswith(".failed"):  # TCP or TLS: nothing was sent yet
            self._unheard()

    async def _after(self, response: httpx2.Response) -> None:
        request = response.request
        if request.method == "POST" or (request.method == "GET" and self._sse):
            self.status = response.status_code
        if request.method == "POST" and self._is_end(response):
            self._unheard()
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Unreadable("expected an answer that is not compressed")
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        endless = response.headers.get("content-type", "").startswith("text/event-stream")
        response.stream = _Paced(stream) if endless else _Bounded(stream, asking.get())

    def _patience_for(self, request: httpx2.Request) -> float | None:
        """What needs no answer is sent one after the other: one that hangs would hold up all."""
        if request.method != "POST":
            return None
        match json.loads(request.content):
            case {"id": _, "method": "subscriptions/listen"}:  # answered when it ends
                return None
            case {"id": _, "method": _}:
                return self._patience
            case _:
                return SHORT

    def _is_end(self, response: httpx2.Response) -> bool:
        if self._sse:  # every answer comes elsewhere, so that nobody sees a refusal
            return response.status_code >= 400
        # The server was restarted and has forgotten the session.
        return "mcp-session-id" in response.request.headers and response.status_code in (400, 404)

    def _unheard(self) -> None:
        if (ask := asking.get()) is not None:
            ask.unheard = True
        self._lost()


class _Bounded(httpx2.AsyncByteStream):
    """An answer that ends."""

    def __init__(self, stream: httpx2.AsyncByteStream, ask: Ask | None) -> None:
        self._stream = stream
        self._ask = ask

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = LARGEST
        async for chunk in self._stream:
            left -= len(chunk)
            if left < 0:
                if self._ask is not None:
                    self._ask.too_large = True
                raise TooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Paced(httpx2.AsyncByteStream):
    """A stream of events, read no faster than :data:`PACE`: each event costs the loop, and the server pays nothing.
    How long a single event may be is the SDK's rule (1 MiB).
    """

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        left, since = float(LARGEST), now()
        async for chunk in self._stream:
            left = min(float(LARGEST), left + (now() - since) * PACE) - len(chunk)
            since = now()
            if left < 0:
                await asyncio.sleep(-left / PACE)
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
