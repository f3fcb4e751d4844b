"""The listen socket over real sockets: whatever comes, the next call is served, and nothing is left behind."""

import asyncio
import contextlib
import itertools
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agentd import server
from agentd.jambonz import listen, outbox
from agentd.server import MESSAGE_LIMIT
from tests.jambonz import dial, metadata, voice
from tests.whole_call import House, agent

NUMBERS = itertools.count()
FAST = {"first": 0.0}


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


@contextlib.asynccontextmanager
async def served(house: House, send_buffer: int = 0) -> AsyncIterator[str]:
    """The address of a real server."""
    process = server.Server(house.node, "127.0.0.1", 0)
    task = asyncio.create_task(process.serve())
    await process.up()
    if send_buffer:
        process.servers[0].sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    try:
        yield f"ws://127.0.0.1:{process.port}/listen/"
    finally:
        process.should_exit = True
        await task


def raw(url: str) -> Any:
    return connect(url, compression=None, ping_interval=None, proxy=None)


async def closed(peer: ClientConnection) -> tuple[int | None, str | None]:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await peer.recv()
    return peer.close_code, peer.close_reason


def first_message(**more: Any) -> str:
    return json.dumps(metadata(callSid=f"call-{next(NUMBERS)}") | more)


async def short_call(url: str) -> None:
    """Until the greeting was heard."""
    async with dial(url + "demo", metadata={"callSid": f"call-{next(NUMBERS)}"}) as call:
        await call.until(lambda: call.is_audible)
        await call.until(lambda: not call.is_audible)


async def bad_json(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send("hello")
        assert await closed(peer) == (
            1008,
            "expected the call's metadata as JSON, got text that is not: expecting value, at character 0",
        )


async def audio_first(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(bytes(320))
        assert await closed(peer) == (
            1008,
            "expected the call's metadata as the first message, got 320 bytes of audio",
        )


async def much_metadata(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(json.dumps({"a": "b" * 65_536}))
        assert await closed(peer) == (1009, "expected metadata of at most 16384 bytes, got 65545")


async def bad_rate(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(first_message(sampleRate="abc"))
        assert await closed(peer) == (
            1008,
            "expected sampleRate to be one of 8000, 16000, 24000, 32000, 48000 (Hz), got 'abc'",
        )


async def unknown_agent(url: str) -> None:
    async with raw(url + "nope") as peer:
        await peer.send(first_message())
        assert await closed(peer) == (1008, "expected an agent of demo; got 'nope'")


async def two_sockets(url: str) -> None:
    async with raw(url + "demo") as one:
        await one.send(first_message(callSid="twice"))
        await one.recv()
        async with raw(url + "demo") as other:
            await other.send(first_message(callSid="twice"))
            assert await closed(one) == (1008, "another listen socket took over this call")
            await other.recv()


async def garbage(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(first_message())
        for text in ("garbage", "[" * 100_000, '"' + "a" * (MESSAGE_LIMIT - 2) + '"'):
            await peer.send(text)
        await peer.recv()


async def more_than_a_mebibyte(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(first_message())
        await peer.send("a" * (MESSAGE_LIMIT + 1))
        assert (await closed(peer))[0] == 1009


async def flood(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(first_message())
        for _ in range(20):
            await peer.send(bytes(16_000))
        assert await closed(peer) == (1008, "expected audio as fast as it is spoken, got far more")


async def no_utf8(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(b"\xff\xfe", text=True)
        assert (await closed(peer))[0] == 1007


async def vanish(url: str) -> None:
    async with raw(url + "demo") as peer:
        await peer.send(first_message())
        await peer.recv()
        peer.transport.abort()


async def vanish_before_metadata(url: str) -> None:
    async with raw(url + "demo") as peer:
        peer.transport.abort()


async def hang_up_before_metadata(url: str) -> None:
    async with raw(url + "demo"):
        pass


async def no_websocket(url: str) -> None:
    host, port = url.removeprefix("ws://").split("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"\x16\x03\x01\x00\xa5\x01\x00 not HTTP at all\r\n\r\n")
    await reader.read()
    writer.close()
    await writer.wait_closed()


ATTACKS = [
    bad_json,
    audio_first,
    much_metadata,
    bad_rate,
    unknown_agent,
    two_sockets,
    garbage,
    more_than_a_mebibyte,
    flood,
    no_utf8,
    vanish,
    vanish_before_metadata,
    hang_up_before_metadata,
    no_websocket,
]


@pytest.fixture
def house() -> House:
    return House(agent(["hello"] * 9, ["Yes."], greeting="Hi.", llm=FAST, tts=FAST))


async def settled(house: House, before: tuple[int, int]) -> None:
    """As many tasks and open files as before, and no call. The kernel tells of the end of a socket when it likes."""
    async with asyncio.timeout(10):
        while (len(asyncio.all_tasks()), open_files(), len(house.node.calls)) != (*before, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_bad_input_costs_its_own_socket_only(house: House) -> None:
    async def main() -> None:
        async with served(house) as url:
            before = len(asyncio.all_tasks()), open_files()
            for attack in ATTACKS:
                async with asyncio.timeout(5):
                    await attack(url)
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:  # and now all at once, beside a good call
                group.create_task(short_call(url))
                for attack in ATTACKS:
                    group.create_task(attack(url))
            await short_call(url)
            await settled(house, before)

    asyncio.run(main())


def test_fifty_calls_leave_no_task_and_no_socket(house: House) -> None:
    async def one(url: str, number: int) -> None:
        async with dial(url + "demo", metadata={"callSid": f"c{number}"}) as call:
            call.say(voice(0.3))
            await call.until(lambda: call.is_audible)

    async def main() -> None:
        async with served(house) as url:
            before = len(asyncio.all_tasks()), open_files()
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                for number in range(50):
                    group.create_task(one(url, number))
            await settled(house, before)
        for log in house.logs:
            assert [entry["type"] for entry in log.entries].count("call_ended") == 1

    asyncio.run(main())
    assert len(house.logs) == 50


def test_a_server_that_stops_closes_its_calls(house: House) -> None:
    async def main() -> None:
        async with served(house) as url:
            peer = await raw(url + "demo")
            await peer.send(first_message())
            await peer.recv()
        assert (await closed(peer))[0] == 1012
        assert len(house.node.calls) == 0
        assert [entry["type"] for entry in house.logs[0].entries].count("call_ended") == 1

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_a_peer_that_reads_nothing_does_not_keep_its_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its window is shut: our close frame cannot leave, and nobody else would ever end the connection."""
    monkeypatch.setattr(server, "UNSENT", 0.3)
    monkeypatch.setattr(outbox, "LIMIT", 0.2)
    monkeypatch.setattr(listen, "CLOSE_WAIT", 0.1)
    house = House(agent(greeting="A long story.", llm=FAST, tts={**FAST, "character": 5.0}))

    async def main() -> None:
        async with served(house, send_buffer=4096) as url:
            before = len(asyncio.all_tasks()), open_files()
            host, port = url.removeprefix("ws://").split("/")[0].split(":")
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(peer, (host, int(port)))
                await loop.sock_sendall(peer, handshake(host))
                assert (await loop.sock_recv(peer, 1000)).startswith(b"HTTP/1.1 101")
                await loop.sock_sendall(peer, text_frame(first_message()))
                while not house.logs:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await settled(house, (before[0], before[1] + 1))  # the peer's own end is all that is left
        assert house.entries("call_ended")

    asyncio.run(main())


def handshake(host: str) -> bytes:
    return (
        f"GET /listen/demo?playback_rate=64000 HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def text_frame(text: str) -> bytes:
    data = text.encode()
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data  # masked with zeros
