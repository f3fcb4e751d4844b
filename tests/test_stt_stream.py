"""A recogniser on a websocket: what is sent and heard, and how it ends. The wire is in memory."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing

import pytest

from providers.audio_feed import AudioFeed, Mark
from providers.base import Partial, ProviderError, SttEvent
from providers.stt.stream import LAST_WORDS, listen
from tests import virtual_time


class MemoryWire:
    """What we send, with its times; what the vendor says is put into ``says``, ``None`` for its goodbye."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str | bytes]] = []
        self.says: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.closed_at: float | None = None
        self.fails: ProviderError | None = None
        self.is_slow = False

    @property
    def is_ready(self) -> bool:
        return self.is_open and not self.is_slow and self.fails is None

    def send_now(self, message: str | bytes) -> None:
        self.sent.append((now(), message))

    @property
    def is_open(self) -> bool:
        return self.closed_at is None

    async def send(self, message: str | bytes) -> None:
        if self.fails is not None:
            raise self.fails
        self.sent.append((now(), message))

    async def receive(self) -> str | bytes | None:
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def close(self) -> None:
        if self.closed_at is None:
            self.closed_at = now()
            self.says.put_nowait(None)


class Plain:
    """A dialect for tests: words are partials."""

    keepalive: float | None = None

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        return [item] if isinstance(item, bytes) else []

    def idle(self) -> Iterable[str | bytes]:
        return ["still here"]

    def end(self) -> Iterable[str | bytes]:
        return ["bye"]

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        return [Partial(str(message))]


class KeptAlive(Plain):
    keepalive = 4.0


def now() -> float:
    return asyncio.get_running_loop().time()


async def collect(wire: MemoryWire, dialect: Plain, feed: AudioFeed) -> list[SttEvent]:
    async with aclosing(listen(wire, dialect, feed)) as events:  # type: ignore[type-var]
        return [event async for event in events]


def test_audio_goes_out_in_order_and_the_end_is_told() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        task = asyncio.create_task(collect(wire, Plain(), feed))
        feed.push(b"\1\0")
        await asyncio.sleep(1)
        feed.push(b"\2\0")
        feed.mark(Mark.SPEECH_STOPPED)
        feed.push(b"\3\0")
        feed.close()
        await asyncio.sleep(1)
        wire.says.put_nowait("one last word")
        wire.says.put_nowait(None)
        assert await task == [Partial("one last word")]
        assert wire.sent == [(0, b"\1\0"), (1, b"\2\0"), (1, b"\3\0"), (1, "bye")]
        assert wire.closed_at == 2

    virtual_time.run(test())


def test_empty_audio_is_not_sent() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        feed.push(b"")
        feed.close()
        await collect(wire, Plain(), feed)
        assert [message for _, message in wire.sent] == ["bye"]

    virtual_time.run(test())


def test_a_sign_of_life_goes_out_once_nothing_was_sent_for_so_long() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        task = asyncio.create_task(collect(wire, KeptAlive(), feed))
        for _ in range(2):
            await asyncio.sleep(3)
            feed.push(b"\1\0")
        await asyncio.sleep(9)
        feed.close()
        await asyncio.sleep(20)
        await task
        assert [(at, message) for at, message in wire.sent if isinstance(message, str)] == [
            (10, "still here"),
            (14, "still here"),
            (15, "bye"),
        ]

    virtual_time.run(test())


def test_a_mark_that_sends_nothing_is_no_sign_of_life() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        task = asyncio.create_task(collect(wire, KeptAlive(), feed))
        await asyncio.sleep(3)
        feed.mark(Mark.SPEECH_STARTED)
        await asyncio.sleep(2)
        assert wire.sent == [(4, "still here")]
        task.cancel()
        await asyncio.wait([task])

    virtual_time.run(test())


def test_a_vendor_without_a_goodbye_is_left_and_that_is_no_error() -> None:
    class Rude(MemoryWire):
        async def close(self) -> None:
            self.says.put_nowait(ProviderError("acme", "stt-connection-lost", retryable=True))
            await super().close()

    async def test() -> None:
        feed = AudioFeed(16000)
        feed.close()
        assert await collect(Rude(), Plain(), feed) == []
        assert now() == LAST_WORDS

    virtual_time.run(test())


def test_a_connection_that_is_lost_before_the_last_words_is_an_error() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        feed.close()
        wire.says.put_nowait(ProviderError("acme", "stt-connection-lost", retryable=True))
        with pytest.raises(ProviderError):
            await collect(wire, Plain(), feed)
        assert wire.closed_at == 0

    virtual_time.run(test())


def test_who_cannot_send_hears_from_the_reader_why() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        wire.fails = ProviderError("acme", "stt-connection-lost")
        feed.push(b"\1\0")
        wire.says.put_nowait("word")
        wire.says.put_nowait(ProviderError("acme", "stt-quota-exceeded"))
        with pytest.raises(ProviderError) as caught:
            await collect(wire, Plain(), feed)
        assert caught.value.code == "stt-quota-exceeded"

    virtual_time.run(test())


def test_a_dialect_that_breaks_while_sending_does_not_hang() -> None:
    class Broken(Plain):
        def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
            raise ZeroDivisionError

    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        feed.push(b"\1\0")
        with pytest.raises(ZeroDivisionError):
            await collect(wire, Broken(), feed)
        assert wire.closed_at == 0

    virtual_time.run(test())


def test_cancelling_closes_the_wire_and_leaves_no_task() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        task = asyncio.create_task(collect(wire, KeptAlive(), feed))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert wire.closed_at == 1

    virtual_time.run(test())


def test_once_the_talk_runs_a_frame_leaves_by_the_plain_call_that_brings_it() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        task = asyncio.create_task(collect(wire, Plain(), feed))
        feed.push(b"\1\0")
        await asyncio.sleep(1)
        feed.push(b"\2\0")
        assert wire.sent == [(0, b"\1\0"), (1, b"\2\0")]
        feed.rewind()  # what left is kept, for the next reader
        feed.close()
        await asyncio.sleep(0)
        wire.says.put_nowait(None)
        await task
        assert [message for _, message in wire.sent[2:]] == [b"\1\0\2\0", "bye"]
        assert feed.taken == 8

    virtual_time.run(test())


def test_frames_gather_while_the_vendor_does_not_read() -> None:
    async def test() -> None:
        wire, feed = MemoryWire(), AudioFeed(16000)
        task = asyncio.create_task(collect(wire, Plain(), feed))
        feed.push(b"\1\0")
        await asyncio.sleep(1)
        wire.is_slow = True
        feed.push(b"\2\0")
        feed.push(b"\3\0")
        assert len(wire.sent) == 1
        await asyncio.sleep(1)  # as websockets' own send waits, so does the reader
        wire.is_slow = False
        feed.push(b"\4\0")
        feed.close()
        await asyncio.sleep(1)
        wire.says.put_nowait(None)
        await task
        assert b"".join(message for _, message in wire.sent if isinstance(message, bytes)) == b"\1\0\2\0\3\0\4\0"

    virtual_time.run(test())
