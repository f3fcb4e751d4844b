"""A vendor on a websocket: the upgrade, its refusals and the faults. Subclasses speak the vendor's language."""

import asyncio
import contextlib
import http
import json
import logging
import time
from types import TracebackType
from typing import Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response

from tests.vendors.script import Fault, Script, Seen

_quiet = logging.getLogger("tests.vendors.ws")  # at debug level it prints the handshake, and with it our key
_quiet.setLevel(logging.INFO)


class Noting(ServerConnection):
    """Knows when its last bytes came."""

    arrived = 0.0

    def data_received(self, data: bytes) -> None:
        self.arrived = time.monotonic()
        super().data_received(data)


def _arrived(socket: ServerConnection) -> float | None:
    return socket.arrived if isinstance(socket, Noting) else None


class WsVendor:
    """Subclasses give :meth:`talk`, which reads with :meth:`read` and answers with :meth:`say`; that has the faults.

    Use it as ``async with AssemblyAiServer(Script(...)) as vendor: … vendor.url``.
    """

    garbage = "{not json"

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.seen = Seen()
        self.url = ""
        self.socket: ServerConnection | None = None  # the latest
        self._fault: Fault | None = None  # of the latest connection
        self._said = 0  # pieces on the latest connection
        self._server: Server | None = None

    # The wire format -------------------------------------------------------------------------------------

    async def talk(self, socket: ServerConnection) -> None:
        """Hold one connection; return to close it with code 1000."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> bytes:
        """The body of a refused upgrade."""
        return json.dumps({"error": message}).encode()

    def stream_error(self) -> str:
        """The message that reports an error on an open socket."""
        raise NotImplementedError

    async def read(self, socket: ServerConnection) -> str | bytes:
        """The next message. JSON is kept in ``seen.requests`` as an object, other text as text; audio is not kept."""
        message = await socket.recv()
        if isinstance(message, str):
            self.seen.note("asked", _arrived(socket))
            try:
                self.seen.requests.append(json.loads(message))
            except ValueError:
                self.seen.requests.append(message)
        self.seen.asked.set()
        return message

    async def say(self, socket: ServerConnection, message: str | bytes, *, is_piece: bool = True) -> None:
        """Send a message. ``is_piece``: it is content (words, audio), which ``after`` counts and ``gap`` spaces, and
        where the fault strikes; hellos and acknowledgements are none.
        """
        if not is_piece:
            await socket.send(message)
            return
        await asyncio.sleep(self.script.gap if self._said else self.script.first)
        if self._said == self.script.after:
            match self._fault:
                case Fault.HANG:
                    await socket.wait_closed()
                    raise ConnectionResetError
                case Fault.CUT:
                    socket.transport.abort()
                    raise ConnectionResetError
                case Fault.ERROR:
                    await socket.send(self.stream_error())
                    await socket.wait_closed()
                    raise ConnectionResetError
                case Fault.GARBAGE:
                    await socket.send(self.garbage)
                case Fault.HALF_CHARACTER:
                    socket.protocol.writes.append(Frame(Opcode.TEXT, b'{"text": "caf\xc3').serialize(mask=False))
                    socket.send_data()
        self._said += 1
        self.seen.note("heard", _arrived(socket))
        self.seen.note("said")
        await socket.send(message)

    # The server ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._hold,
            "127.0.0.1",
            0,
            process_request=self._upgrade,
            create_connection=Noting,
            compression=None,
            ping_interval=None,
            logger=_quiet,
            max_queue=None,  # or a vendor that hangs would stop reading, and never see us leave
        )
        self.url = f"ws://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"
        if self.script.fault is Fault.REFUSE:
            self._server.close()
            await self._server.wait_closed()
        return self

    async def __aexit__(self, kind: type | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _upgrade(self, socket: ServerConnection, request: Request) -> Response | None:
        self.seen.paths.append(request.path)
        self.seen.headers.append({name.lower(): value for name, value in request.headers.raw_items()})
        await asyncio.sleep(self.script.connecting)
        self._fault, self._said = self.script.strike(), 0
        match self._fault:
            case Fault.UNAUTHORIZED:
                sent = " ".join(v for k, v in request.headers.raw_items() if "auth" in k.lower() or "key" in k.lower())
                return _response(401, self.error(401, f"wrong key: {sent} {request.path}"))
            case Fault.RATE_LIMITED:
                return _response(429, self.error(429, "slow down"), {"Retry-After": "1"})
            case Fault.SERVER_ERROR:
                return _response(500, self.error(500, "it broke"))
        return None

    async def _hold(self, socket: ServerConnection) -> None:
        self.seen.connections += 1
        self.socket = socket
        with contextlib.suppress(ConnectionClosed, ConnectionResetError):
            await self.talk(socket)
            await socket.close()
        if socket.close_code != 1000 or not self._is_over():
            self.seen.left.set()

    def _is_over(self) -> bool:
        """Has the vendor said everything on the latest connection? Then a close by us is no leaving."""
        return False


def _response(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    fields = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})})
    return Response(status, http.HTTPStatus(status).phrase, fields, body)
