"""jambonz's side of the gateway: the control socket of one call, which may break and come back.

here ──it broke──> away ──session:reconnect──> here
└──closed──> over <──15 s──┘
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from agentd.jambonz.outbox import GONE, SEND_WAIT

log = logging.getLogger("agentd.gateway")

DELIBERATE = 1000  # the code with which jambonz leaves; uvicorn tells 1005 of a connection that broke
ORPHAN = 15.0  # seconds that a call waits for its socket to come back
WAITING = 200  # messages for jambonz; full, who speaks waits: it is back within 15 s, or the call is over


class Peer(Protocol):
    """Jambonz's end of a socket: a websocket of ours, or one that another process has."""

    async def receive(self) -> MutableMapping[str, Any]: ...

    async def send_text(self, data: str) -> None: ...


class JambonzSide:
    """``take`` gets every text that comes, and raises nothing. ``over`` is set once jambonz has gone for good, or by
    whoever ends the call.
    """

    def __init__(self, take: Callable[[str], Awaitable[None]], fields: dict[str, Any]) -> None:
        self.over = asyncio.Event()
        self._take = take
        self._fields = fields
        self._waiting: asyncio.Queue[str] = asyncio.Queue(WAITING)
        self._unsent: str | None = None  # taken out of it for a socket that was gone
        self._serving: asyncio.Task[int] | None = None  # while it is here
        self._orphan: asyncio.TimerHandle | None = None  # while it is away

    @property
    def is_away(self) -> bool:
        return self._orphan is not None

    async def say(self, text: str) -> None:
        """In its turn, on this socket or on the next."""
        await self._waiting.put(text)

    async def hold(self, socket: Peer, first: str | None = None) -> None:
        """Take ``socket`` in place of the one before, until it is gone. ``first`` goes before all that waits."""
        self.release()
        self._serving = serving = asyncio.create_task(self._serve(socket, first), name="gateway")
        try:
            await asyncio.wait([serving])
        finally:
            serving.cancel()
            if self._serving is serving:  # not released, and not back by another socket
                self._serving = None
                self._left(1006 if serving.cancelled() or not serving.done() else serving.result())

    def release(self) -> None:
        """Neither the socket nor its return is waited for any more."""
        if self._orphan is not None:
            self._orphan.cancel()
        if self._serving is not None:
            self._serving.cancel()
        self._serving = self._orphan = None

    def _left(self, code: int) -> None:
        if code == DELIBERATE:
            self.over.set()
            return
        log.warning("jambonz lost", extra={**self._fields, "code": code})
        self._orphan = asyncio.get_running_loop().call_later(ORPHAN, self.over.set)

    async def _serve(self, socket: Peer, first: str | None) -> int:
        """Returns the code with which it was closed."""
        reading = asyncio.create_task(self._read(socket), name="gateway")
        writing = asyncio.create_task(self._write(socket, first, reading), name="gateway")
        try:
            await asyncio.wait([reading])
            return 1006 if reading.cancelled() else reading.result()
        finally:
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)

    async def _read(self, socket: Peer) -> int:
        while True:
            try:
                message = await socket.receive()
            except GONE:
                return 1006
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or 1006)
            if (text := message.get("text")) is not None:
                await self._take(text)
                await asyncio.sleep(0)  # many may have come at once: who sends them on has a turn after each

    async def _write(self, socket: Peer, first: str | None, reading: "asyncio.Task[int]") -> None:
        try:
            if first is not None:
                await self._send(socket, first)
            while True:
                self._unsent = self._unsent or await self._waiting.get()
                await self._send(socket, self._unsent)
                self._unsent = None
        except GONE:
            pass  # the reader says so, too; what was not sent is the next socket's
        except TimeoutError:
            log.warning("jambonz does not read", extra={**self._fields, "seconds": SEND_WAIT})
            self._unsent = None  # it may have arrived: it is not sent twice
            reading.cancel()

    async def _send(self, socket: Peer, text: str) -> None:
        async with asyncio.timeout(SEND_WAIT):
            await socket.send_text(text)
