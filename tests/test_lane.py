"""The short way of audio, on real sockets: whatever the network does to the bytes, what arrives is what was sent."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.frames import Frame, Opcode

from agentd.jambonz.lane import Lane, lane_of

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AUDIO = bytes(range(256)) + bytes(64)


def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


class Peer:
    """What one server heard, by the short way and by ASGI's, in its order."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[Any] = []
        self.ways: list[str] = []
        self._changed = asyncio.Event()

    def keep(self, what: Any, way: str) -> None:
        self.heard.append(what)
        self.ways.append(way)
        self._changed.set()

    async def until(self, predicate: Callable[[], object]) -> None:
        while not predicate():
            self._changed.clear()
            await self._changed.wait()

    @asynccontextmanager
    async def dial(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(REQUEST)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2 + 5)  # it says when it listens
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def server() -> AsyncIterator[Peer]:
    """It keeps what comes, and answers `echo` with the audio that came last, by the short way."""
    peer, up = Peer(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        lane = lane_of(scope)
        assert lane is not None
        lane.divert(lambda data: peer.keep(bytes(data), "short"))
        await send({"type": "websocket.send", "text": "ready"})
        while (message := await receive())["type"] == "websocket.receive":
            said = message["bytes"] if message.get("bytes") is not None else message["text"]
            peer.keep(said, "ASGI's")
            if said == "echo":
                lane.send_now(peer.heard[-2])
        peer.keep(message.get("code"), "the end")

    class Serving(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            up.set()

    config = uvicorn.Config(app, port=0, ws=Lane, ws_max_size=80_000, lifespan="off", log_config=None, access_log=False)
    serving = Serving(config)
    task = asyncio.create_task(serving._serve())
    await up.wait()
    peer.port = serving.servers[0].sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        serving.should_exit = True
        await task


def run(test: Callable[[Peer], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), server() as peer:
            await test(peer)

    asyncio.run(main())


MESSAGES: list[tuple[bytes, list[Any]]] = [
    (frame(Opcode.BINARY, AUDIO), [AUDIO]),
    (frame(Opcode.BINARY, b"\1\2"), [b"\1\2"]),
    (frame(Opcode.TEXT, b'{"event":"dtmf"}'), ['{"event":"dtmf"}']),
    (frame(Opcode.BINARY, AUDIO), [AUDIO]),
    (frame(Opcode.PING, b"alive"), []),
    (frame(Opcode.BINARY, b"one ", fin=False) + frame(Opcode.CONT, b"message"), [b"one message"]),
    (frame(Opcode.BINARY, AUDIO * 220), [AUDIO * 220]),  # its length stands in eight bytes
    (frame(Opcode.BINARY, b""), [b""]),
    (frame(Opcode.BINARY, AUDIO), [AUDIO]),
]


@pytest.mark.parametrize("size", [1, 3, 13, 331, 10_000, 1_000_000])
def test_messages_arrive_whole_and_in_their_order_however_the_bytes_are_cut(size: int) -> None:
    messages = [each for each in MESSAGES if len(each[0]) < 1000 * size]
    sent = b"".join(data for data, _ in messages)
    wanted = [each for _, told in messages for each in told]

    async def test(peer: Peer) -> None:
        async with peer.dial() as (_, writer):
            for at in range(0, len(sent), size):
                writer.write(sent[at : at + size])
                await writer.drain()
                await asyncio.sleep(0)
            await peer.until(lambda: len(peer.heard) == len(wanted))
            assert peer.heard == wanted

    run(test)


def test_audio_takes_the_short_way_and_leaves_by_it() -> None:
    async def test(peer: Peer) -> None:
        async with peer.dial() as (reader, writer):
            writer.write(frame(Opcode.BINARY, AUDIO))
            await peer.until(lambda: peer.heard)
            assert peer.ways == ["short"]
            writer.write(frame(Opcode.TEXT, b"echo"))
            assert await reader.readexactly(4 + len(AUDIO)) == struct.pack("!BBH", 0x82, 126, len(AUDIO)) + AUDIO

    run(test)


def test_a_ping_between_frames_of_audio_is_answered() -> None:
    async def test(peer: Peer) -> None:
        async with peer.dial() as (reader, writer):
            writer.write(frame(Opcode.BINARY, AUDIO) + frame(Opcode.PING, b"alive") + frame(Opcode.BINARY, AUDIO))
            assert await reader.readexactly(2 + 5) == b"\x8a\x05alive"
            await peer.until(lambda: len(peer.heard) == 2)

    run(test)


def test_a_message_that_is_too_long_is_refused_before_it_has_come() -> None:
    async def test(peer: Peer) -> None:
        async with peer.dial() as (reader, writer):
            writer.write(frame(Opcode.BINARY, AUDIO) + b"\x82\xff" + (1 << 40).to_bytes(8) + b"mask")
            first, length, code = struct.unpack("!BBH", await reader.readexactly(4))
            assert (first, code) == (0x88, 1009)
            assert peer.heard[0] == AUDIO
            assert length > 2

    run(test)


def test_a_frame_without_a_mask_is_a_protocol_error() -> None:
    async def test(peer: Peer) -> None:
        async with peer.dial() as (reader, writer):
            writer.write(Frame(Opcode.BINARY, AUDIO).serialize(mask=False))
            first, _, code = struct.unpack("!BBH", await reader.readexactly(4))
            assert (first, code) == (0x88, 1002)

    run(test)


def test_a_close_behind_audio_is_answered() -> None:
    async def test(peer: Peer) -> None:
        async with peer.dial() as (reader, writer):
            writer.write(frame(Opcode.BINARY, AUDIO) + frame(Opcode.CLOSE, (1000).to_bytes(2)))
            assert await reader.read() == b"\x88\x02" + (1000).to_bytes(2)
            await peer.until(lambda: len(peer.heard) == 2)
            assert peer.heard == [AUDIO, 1000]

    run(test)
