"""An HTTP/1.1 vendor, written to the byte: its answers are streamed in chunks that tests can cut anywhere."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.vendors.script import Fault, Script, Seen

REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 429: "Too Many Requests", 500: "Internal Server Error"}


class Request(NamedTuple):
    method: str
    path: str  # with its query
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class HttpVendor:
    """Subclasses give the wire format: :meth:`pieces` of an answer, :meth:`error` bodies, :attr:`garbage`.

    Use it as ``async with OpenAiServer(Script(...)) as vendor: … vendor.url``.
    """

    content_type = "text/event-stream"
    garbage = b"data: {not json\n\n"

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.seen = Seen()
        self.url = ""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()
        self._arrived: dict[asyncio.StreamWriter, float] = {}  # when the last bytes of each came

    # The wire format -------------------------------------------------------------------------------------

    def pieces(self, request: Request) -> list[bytes]:
        """The answer, as the vendor would flush it."""
        raise NotImplementedError

    def error(self, status: int, message: str) -> tuple[Mapping[str, str], bytes]:
        """Further headers, and the body of an answer with this status."""
        raise NotImplementedError

    def stream_error(self) -> bytes:
        """The piece that reports an error inside a stream; the same words as ``error(500, …)``."""
        raise NotImplementedError

    # The server ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        if self.script.fault is Fault.REFUSE:
            self._server.close()
            await self._server.wait_closed()
        return self

    async def __aexit__(self, kind: type | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed is gone one step later
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.connections += 1
        self._writers.add(writer)
        self._note_arrivals(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        await asyncio.sleep(self.script.connecting)
        try:
            while (request := await _read(reader)) is not None:
                await self._answer(request, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # asyncio's streams take a cancelled handler for a crash
        finally:
            self._writers.discard(writer)
            writer.close()

    def _note_arrivals(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        feed = reader.feed_data

        def noting(data: bytes) -> None:
            self._arrived[writer] = time.monotonic()
            feed(data)

        reader.feed_data = noting  # type: ignore[method-assign, assignment]

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.paths.append(request.path)
        self.seen.headers.append(dict(request.headers))
        if request.method == "GET":  # a connection is dialled ahead, or models are listed
            await self._whole(writer, 200, {}, b"{}")
            return
        self.seen.requests.append(json.loads(request.body))
        self.seen.note("asked", self._arrived.pop(writer, None))
        self.seen.asked.set()
        fault = self.script.strike()
        match fault:
            case Fault.UNAUTHORIZED:
                sent = " ".join(value for name, value in request.headers.items() if "auth" in name or "key" in name)
                await self._whole(writer, 401, *self.error(401, f"wrong key: {sent}"))
                return
            case Fault.RATE_LIMITED:
                headers, body = self.error(429, "slow down")
                await self._whole(writer, 429, {"retry-after": "1", **headers}, body)
                return
            case Fault.SERVER_ERROR:
                await self._whole(writer, 500, *self.error(500, "it broke"))
                return
        watch = asyncio.create_task(self._watch(reader))
        try:
            await self._stream(self.pieces(request), fault, writer)
        finally:
            if fault is Fault.HANG:
                await watch
            watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watch

    async def _stream(self, pieces: list[bytes], fault: Fault | None, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {self.content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        if fault is Fault.HANG and self.script.after == 0:
            return
        await asyncio.sleep(self.script.first)
        self.seen.note("said")
        writer.write(head.encode())
        if self.script.burst:
            pieces = [b"".join(pieces)]
        async for piece in self._faulty(pieces, fault):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        match fault:
            case Fault.HANG:
                return
            case Fault.CUT:
                writer.close()
            case _:
                writer.write(b"0\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()

    async def _faulty(self, pieces: list[bytes], fault: Fault | None) -> AsyncIterator[bytes]:
        """The pieces with the fault in them and the gaps between them."""
        for at, piece in enumerate(pieces):
            if at:
                await asyncio.sleep(self.script.gap)
            if at == self.script.after:
                match fault:
                    case Fault.HANG | Fault.CUT:
                        return
                    case Fault.ERROR:
                        yield self.stream_error()
                        return
                    case Fault.GARBAGE:
                        yield self.garbage
            for part in _parts(piece, fault):
                yield part

    async def _whole(self, writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], body: bytes) -> None:
        fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        """Nobody sends anything while an answer comes: what is read is the end of the connection."""
        with contextlib.suppress(OSError):  # over TLS, other errors than those of connections
            await reader.read(1)
        self.seen.left.set()


def _parts(piece: bytes, fault: Fault | None) -> list[bytes]:
    if fault is Fault.ODD_BYTES and len(piece) > 2:
        return [piece[:1], piece[1:]]
    if fault is Fault.HALF_CHARACTER:
        at = next((at for at, byte in enumerate(piece) if byte >= 0xC0), None)
        return [piece] if at is None else [piece[: at + 1], piece[at + 1 :]]
    return [piece]


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)
