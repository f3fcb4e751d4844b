"""A control socket that came back to another process than the one that has its call: its messages are led there.

    jambonz ──session:reconnect──> here ──bus──> where the gateway is, with the agent that goes on talking

That is what happens when a connection breaks and nothing else does: whoever accepts the next one is chance.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from agentd.jambonz.jambonz_side import Peer
from agentd.jambonz.outbox import GONE
from agentd.ops.bus import Bus, BusError, Gone
from agentd.outbound.channel import HookFailed

log = logging.getLogger("agentd.gateway")

BACK, TEXT, LEFT = "gateway.back", "gateway.text", "gateway.left"  # what a process is asked
ASK_WAIT = 1.5  # seconds for the other process to say that it has the call: jambonz waits 5 for its answer
ALIVE = 10.0  # seconds between two signs of life of who has the socket …
DEAD = 25.0  # … without which it is as good as broken
WAITING = 200  # messages of jambonz's; full, the one who brings them waits

Back = Callable[[str, str, str, Peer], Any]
"""Takes the application, the call, the msgid and the socket; returns an awaitable, or ``None`` for an unknown call."""


class Relays:
    """Both ends of those of one process. :attr:`answers` are for the bus."""

    def __init__(self, bus: Callable[[], Bus], back: Back) -> None:
        self._bus = bus
        self._back = back
        self._near: dict[str, _Near] = {}  # jambonz's sockets here, of calls elsewhere
        self._far: dict[str, _Far] = {}  # … elsewhere, of calls here
        self._tasks: set[asyncio.Task[None]] = set()
        self.answers = {BACK: self._came_back, TEXT: self._text, LEFT: self._left}

    # Here is jambonz ---------------------------------------------------------------------------------------

    async def lead(self, owner: str, app: str, call_sid: str, msgid: str, socket: Peer) -> bool:
        """Have the process ``owner`` go on with jambonz at this socket, until either leaves. Returns whether it has the
        call. Raises :class:`HookFailed` when that is killed: jambonz is to come back once more.
        """
        id_, bus = secrets.token_hex(8), self._bus()
        near = self._near[id_] = _Near(socket)
        try:
            about = {"id": id_, "at": bus.name, "app": app, "call_sid": call_sid, "msgid": msgid}
            try:
                if not (await bus.ask(owner, BACK, about, ASK_WAIT)).get("is_known"):
                    return False
            except Gone:
                return False
            except BusError as exc:
                log.warning("call's process does not answer", extra={"app": app, "call_sid": call_sid, "why": str(exc)})
                return False
            log.info("jambonz is led to another process", extra={"app": app, "call_sid": call_sid, "to": owner})
            await self._lead(owner, id_, near)
            return True
        finally:
            del self._near[id_]

    async def _lead(self, owner: str, id_: str, near: "_Near") -> None:
        reading = asyncio.create_task(self._read(owner, id_, near.socket), name="relay")
        over = asyncio.create_task(near.over.wait(), name="relay")
        try:
            await asyncio.wait([reading, over], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        except BusError as exc:
            raise HookFailed("the process that has the call is gone") from exc
        finally:
            for task in (reading, over):
                task.cancel()
            await asyncio.gather(reading, over, return_exceptions=True)

    async def _read(self, owner: str, id_: str, socket: Peer) -> None:
        code = 1006
        while True:
            receiving = asyncio.create_task(_received(socket), name="relay")
            try:
                while not (await asyncio.wait([receiving], timeout=ALIVE))[0]:
                    await self._tell(owner, TEXT, {"id": id_})  # a sign of life
                message = receiving.result()
            finally:
                receiving.cancel()
            if message is None or message["type"] == "websocket.disconnect":
                code = int((message or {}).get("code") or code)
                break
            if (text := message.get("text")) is not None:
                await self._tell(owner, TEXT, {"id": id_, "text": text})
        await self._tell(owner, LEFT, {"id": id_, "code": code})

    # Here is the call --------------------------------------------------------------------------------------

    async def _came_back(self, data: Mapping[str, Any]) -> dict[str, Any]:
        id_, at = str(data["id"]), str(data["at"])
        far = _Far(lambda text: self._tell(at, TEXT, {"id": id_, "text": text}))
        holding = self._back(str(data["app"]), str(data["call_sid"]), str(data["msgid"]), far)
        if holding is None:
            return {"is_known": False}
        self._far[id_] = far
        task = asyncio.create_task(self._hold(holding, id_, at), name="relay")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return {"is_known": True}

    async def _hold(self, holding: Any, id_: str, at: str) -> None:
        try:
            await holding
        finally:
            del self._far[id_]
            with suppress(BusError):
                await self._tell(at, LEFT, {"id": id_})

    # Both --------------------------------------------------------------------------------------------------

    async def _tell(self, to: str, what: str, data: Mapping[str, Any]) -> None:
        """Raises :class:`BusError` where nobody knows of this socket, or nobody is."""
        if not (await self._bus().ask(to, what, data)).get("is_known"):
            raise BusError("expected a socket that is led there, got one that is gone")

    async def _text(self, data: Mapping[str, Any]) -> dict[str, Any]:
        id_, text = str(data["id"]), data.get("text")
        if (far := self._far.get(id_)) is not None:
            await far.put({"type": "websocket.receive", "text": text})
        elif (near := self._near.get(id_)) is not None and isinstance(text, str):
            await near.socket.send_text(text)
        return {"is_known": far is not None or id_ in self._near}

    async def _left(self, data: Mapping[str, Any]) -> dict[str, Any]:
        id_ = str(data["id"])
        if (far := self._far.get(id_)) is not None:
            await far.put({"type": "websocket.disconnect", "code": data.get("code")})
        elif (near := self._near.get(id_)) is not None:
            near.over.set()
        return {"is_known": True}


class _Near:
    """``over``: the call has no use for the socket any more."""

    def __init__(self, socket: Peer) -> None:
        self.socket = socket
        self.over = asyncio.Event()


class _Far:
    """A :class:`Peer`: jambonz at a socket of another process."""

    def __init__(self, send: Callable[[str], Any]) -> None:
        self._send = send
        self._came: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WAITING)

    async def put(self, message: dict[str, Any]) -> None:
        await self._came.put(message)

    async def receive(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(DEAD):
                return await self._came.get()
        except TimeoutError:
            return {"type": "websocket.disconnect", "code": 1006}

    async def send_text(self, data: str) -> None:
        try:
            await self._send(data)
        except BusError as exc:
            raise OSError("the process that has the socket is gone") from exc


async def _received(socket: Peer) -> Any:
    try:
        return await socket.receive()
    except GONE:
        return None
