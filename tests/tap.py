"""A tap on the wire between agentd and an application: every byte passes as it is, and what the application is told is
kept.

    async with Tap("ws://127.0.0.1:3000/basic") as tap:
        ...  # dial tap.url
        tap.messages, tap.closed
"""

import asyncio
import contextlib
import json
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

AT_ONCE = 65536  # bytes


class Tap:
    """Of all connections that are made by :attr:`url`. ``closed`` are the codes with which agentd ended them."""

    def __init__(self, url: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self._target = urlsplit(url)
        self._connections: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = self._target._replace(netloc=f"127.0.0.1:{port}").geturl()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        await asyncio.gather(*self._connections)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ends when either side does."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        protocol = ServerProtocol(subprotocols=[Subprotocol("ws.jambonz.org")])
        await asyncio.gather(self._pass(reader, back, protocol), self._pass(there, writer))
        for each in (writer, back):
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: ServerProtocol | None = None
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(AT_ONCE):
                if protocol is not None:
                    self._read(protocol, data)
                writer.write(data)
                await writer.drain()
        writer.close()

    def _read(self, protocol: ServerProtocol, data: bytes) -> None:
        protocol.receive_data(data)
        for event in protocol.events_received():
            match event:
                case Request():
                    protocol.send_response(protocol.accept(event))
                case Frame(Opcode.TEXT, text):
                    self.messages.append(json.loads(bytes(text)))
                case Frame(Opcode.CLOSE, reason):
                    self.closed.append(Close.parse(reason).code)
