"""An application behind a control socket, scripted: the server that agentd dials in jambonz's place.

    async with Application([{"verb": "agent"}], tools=lambda name, arguments: "7 degrees") as app, held(app.url) as it:
        await it.socket.channel("/agent-event").event({…})
        message = await app.got("agent:event")
        await app.say({"type": "agent:update", "data": {…}})
        assert await it.next() == Update({…})

It answers what wants an answer by its script, and keeps everything that it was told. ``held`` is our end of it.
"""

import asyncio
import base64
import contextlib
import http
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from agentd.outbound.app_socket import AppSocket
from agentd.outbound.channel import Verbs
from agentd.outbound.guard import Guard
from config.commands import Command, Update
from config.server import Outgoing

SUBPROTOCOL = Subprotocol("ws.jambonz.org")
WANTS_AN_ACK = ("session:new", "session:reconnect", "session:redirect", "verb:hook")

Message = dict[str, Any]

_quiet = logging.getLogger("tests.application")  # at debug level it prints the handshake, and with it our password
_quiet.setLevel(logging.INFO)


SID = "c0ffee00-0000-4000-8000-000000000001"
INFO = {"call_sid": SID, "from": "+1555", "customerData": {"tier": "Gold"}}


def guard(*urls: str) -> Guard:
    """One that lets these through, as it does with what an operator has written."""
    return Guard(Outgoing(), trusted=urls)


class Application:
    """``verbs`` answer session:new, ``next_verbs`` a verb:hook. ``tools(name, arguments)`` is what each tool call
    returns; None: it does not answer. ``silent`` are types of messages that it does not answer, ``refuse`` the HTTP
    statuses of the next upgrades. With ``username`` it wants Basic auth. All of them may be changed at any time.
    """

    def __init__(
        self,
        verbs: Sequence[Message] = (),
        *,
        next_verbs: Sequence[Message] = (),
        tools: Callable[[str, Any], Any] | None = None,
        username: str | None = None,
        password: str = "",
        server: str | None = None,
    ) -> None:
        self.verbs = verbs
        self.next_verbs = next_verbs
        self.tools = tools
        self.credentials = None if username is None else f"{username}:{password}"
        self.silent: set[str] = set()
        self.refuse: list[int] = []
        self.messages: list[Message] = []  # all that it was told, on all connections
        self.upgrades: list[Request] = []
        self.closed: list[int] = []  # the codes with which connections ended
        self.url = ""
        self._socket: ServerConnection | None = None  # the latest
        self._server: Server | None = None
        self._server_header = server
        self._port = 0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Again after :meth:`stop`: at the same address."""
        self._server = await serve(
            self._talk,
            "127.0.0.1",
            self._port,
            subprotocols=[SUBPROTOCOL],
            process_request=self._admit,
            server_header=self._server_header,
            ping_interval=None,  # they would keep virtual time going
            compression=None,
            logger=_quiet,
        )
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self.url = f"ws://127.0.0.1:{self._port}/"

    async def stop(self) -> None:
        """As when the process ends: connections get code 1001, and nobody listens any more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def say(self, message: Message | str | bytes) -> None:
        """Send on the latest connection."""
        assert self._socket is not None
        await self._socket.send(json.dumps(message) if isinstance(message, dict) else message)

    async def close(self, code: int | None = 1000) -> None:
        """None: without a code, as the Node SDK's ``session.close()`` does it."""
        assert self._socket is not None
        if code is not None:
            await self._socket.close(code)
            return
        async with self._socket.send_context():
            self._socket.protocol.send_close()

    def drop(self) -> None:
        """The connection breaks."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def got(self, type_: str, count: int = 1) -> Message:
        """Wait until ``count`` messages of this type have come; the latest of them."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.of(type_)) >= count)
        return self.of(type_)[count - 1]

    def of(self, type_: str) -> list[Message]:
        return [message for message in self.messages if message["type"] == type_]

    def _admit(self, socket: ServerConnection, request: Request) -> Response | None:
        self.upgrades.append(request)
        if self.refuse:
            return socket.respond(http.HTTPStatus(self.refuse.pop(0)), "")
        if self.credentials is not None:
            wanted = f"Basic {base64.b64encode(self.credentials.encode()).decode()}"
            if request.headers.get("Authorization") != wanted:
                return socket.respond(http.HTTPStatus.UNAUTHORIZED, "")
        return None

    async def _talk(self, socket: ServerConnection) -> None:
        self._socket = socket
        try:
            async for text in socket:
                message = json.loads(text)
                self.messages.append(message)
                async with self._changed:
                    self._changed.notify_all()
                await self._answer(socket, message)
        except ConnectionClosed:
            pass
        finally:
            self.closed.append(socket.close_code or 1006)

    async def _answer(self, socket: ServerConnection, message: Message) -> None:
        type_, data = message["type"], message["data"]
        if type_ in self.silent:
            return
        if isinstance(data, dict) and "tool_call_id" in data:
            if self.tools is not None:
                result = {"result": self.tools(data["name"], data["arguments"])}
                output = {"type": "command", "command": "llm:tool-output", "data": result}
                await socket.send(json.dumps({**output, "tool_call_id": data["tool_call_id"]}))
        elif type_ in WANTS_AN_ACK:
            verbs = self.verbs if type_ in ("session:new", "session:reconnect") else self.next_verbs
            await socket.send(json.dumps({"type": "ack", "msgid": message["msgid"], "data": list(verbs)}))


class Held:
    """Our end of a socket, and what its application wants of the call. ``broken``: whoever holds the call fails."""

    def __init__(self, url: str, *, broken: bool = False, **options: Any) -> None:
        self.socket = AppSocket(guard(url), url, call_sid=SID, info=INFO, on_command=self._take, **options)
        self.verbs: Verbs = []  # what session:new was answered
        self.wanted: list[Command | Update] = []
        self.running: asyncio.Task[None] | None = None
        self._is_broken = broken
        self._came: asyncio.Queue[Command | Update] = asyncio.Queue()

    async def next(self) -> Command | Update:
        """What it wants next."""
        async with asyncio.timeout(5):
            return await self._came.get()

    def _take(self, command: Command | Update) -> None:
        if self._is_broken:
            raise RuntimeError("it is")
        self.wanted.append(command)
        self._came.put_nowait(command)


@contextlib.asynccontextmanager
async def held(url: str, **options: Any) -> AsyncIterator[Held]:
    """An open socket that runs."""
    it = Held(url, **options)
    it.verbs = await it.socket.open()
    async with asyncio.TaskGroup() as tasks:
        it.running = tasks.create_task(it.socket.run())
        try:
            yield it
        finally:
            await it.socket.aclose()
