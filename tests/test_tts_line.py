"""The sockets of one call to a synthesizer: dialled ahead, kept alive, left in order."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import pytest

from providers.base import Audio, ProviderError, Spoken, TtsEvent
from providers.tts.line import Line, Lines
from providers.tts.stream import speak
from tests.virtual_time import run


class FakeWire:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = True
        self.sent: list[tuple[float, str | bytes]] = []
        self.coming: asyncio.Queue[str | None] = asyncio.Queue()
        self.readers = 0

    async def send(self, message: str | bytes) -> None:
        if not self.is_open:
            raise ProviderError("fake", "tts-connection-lost")
        self.sent.append((asyncio.get_running_loop().time(), message))

    async def receive(self) -> str | None:
        self.readers += 1
        assert self.readers == 1, "two may not read at once"
        try:
            message = await self.coming.get()
        finally:
            self.readers -= 1
        if message == "cut":
            self.is_open = False
            raise ProviderError("fake", "tts-connection-lost")
        self.is_open = self.is_open and message is not None
        return message

    async def close(self) -> None:
        self.is_open = False
        self.coming.put_nowait(None)


@dataclass
class Vendor:
    """Dials in ``seconds``; what stands in ``failures`` comes first."""

    wires: list[FakeWire] = field(default_factory=list)
    failures: list[ProviderError] = field(default_factory=list)
    seconds: float = 0.5
    dialled: int = 0
    stopped: int = 0

    async def dial(self) -> FakeWire:
        self.dialled += 1
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        if self.failures:
            raise self.failures.pop(0)
        self.wires.append(FakeWire(len(self.wires)))
        return self.wires[-1]

    @property
    def open(self) -> list[int]:
        return [wire.number for wire in self.wires if wire.is_open]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_ready_dials_once_and_the_reply_finds_it() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        line.ready()
        line.ready()
        await asyncio.sleep(1)
        line.ready()
        wire = await line.take()
        assert (wire.number, vendor.dialled, now()) == (0, 1, 1.0)  # type: ignore[attr-defined]
        line.free(wire)
        assert await line.take() is wire
        line.free(wire)
        await line.aclose()
        assert vendor.open == []

    run(test())


def test_two_replies_at_once_have_a_socket_each_and_one_is_kept() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        first, second = await asyncio.gather(line.take(), line.take())
        assert first is not second
        line.free(first)
        line.free(second)
        await asyncio.sleep(0.1)
        assert vendor.open == [0]
        await line.aclose()

    run(test())


def test_a_socket_that_comes_free_ends_the_dialling_of_another() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        wire = await line.take()
        line.ready()
        await asyncio.sleep(0.1)
        line.free(wire)
        assert await line.take() is wire
        assert (vendor.dialled, vendor.stopped) == (2, 1)
        line.free(wire)
        await line.aclose()

    run(test())


def test_a_failure_to_dial_ahead_is_forgotten_and_one_to_dial_is_told() -> None:
    async def test() -> None:
        refused = ProviderError("fake", "tts-unauthorized")
        vendor = Vendor(failures=[ProviderError("fake", "tts-timeout"), refused])
        line = Line(vendor.dial)
        line.ready()
        await asyncio.sleep(60)
        with pytest.raises(ProviderError) as caught:
            await line.take()
        assert caught.value is refused
        assert (await line.take()) is vendor.wires[0]
        line.free(vendor.wires[0])
        await line.aclose()

    run(test())


def test_the_last_words_of_a_cancelled_reply_are_said_though_the_next_takes_the_socket_at_once() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        wire = await line.take()
        line.free(wire, ["cancel"])
        assert await line.take() is wire
        await asyncio.sleep(0)
        assert [message for _, message in vendor.wires[0].sent] == ["cancel"]
        line.drop(wire, ["clear"])
        await line.aclose()
        assert [message for _, message in vendor.wires[0].sent] == ["cancel", "clear"]
        assert vendor.open == []

    run(test())


def test_what_comes_late_is_read_away() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        wire = await line.take()
        line.free(wire)
        for message in ("stale", "stale too"):
            vendor.wires[0].coming.put_nowait(message)
        await asyncio.sleep(0.1)
        assert await line.take() is wire
        vendor.wires[0].coming.put_nowait("new")
        assert await wire.receive() == "new"
        line.free(wire)
        await line.aclose()

    run(test())


def test_a_socket_is_kept_alive_as_long_as_nobody_uses_it() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial, keepalive=(10, [" "]))
        wire = await line.take()
        await asyncio.sleep(29.5)
        line.free(wire)
        await asyncio.sleep(25)
        await line.take()
        await asyncio.sleep(30)
        assert vendor.wires[0].sent == [(40.0, " "), (50.0, " ")]
        line.drop(wire)
        await line.aclose()

    run(test())


@pytest.mark.parametrize("message", [None, "cut"])
def test_a_socket_that_the_vendor_closes_is_let_go_and_replaced_when_a_turn_is_near(message: str | None) -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        line.free(await line.take())
        vendor.wires[0].coming.put_nowait(message)
        await asyncio.sleep(100)
        assert vendor.dialled == 1
        line.ready()
        await asyncio.sleep(1)
        assert await line.take() is vendor.wires[1]
        line.drop(vendor.wires[1])
        await line.aclose()

    run(test())


def test_a_socket_that_is_fit_for_no_other_reply_is_replaced_at_once() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        wire = await line.take()
        vendor.wires[0].is_open = False
        line.free(wire)
        await asyncio.sleep(1)
        assert await line.take() is vendor.wires[1]
        line.free(vendor.wires[1])
        await line.aclose()

    run(test())


def test_who_is_cancelled_while_dialling_leaves_the_socket_to_the_next() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        for wait in (0.1, 0.1):
            taking = asyncio.create_task(line.take())
            await asyncio.sleep(wait)
            taking.cancel()
            await asyncio.wait([taking])
        await asyncio.sleep(1)
        assert await line.take() is vendor.wires[0]
        assert vendor.dialled == 1
        line.free(vendor.wires[0])
        await line.aclose()

    run(test())


@pytest.mark.parametrize("rounds", range(5))
def test_a_socket_that_is_there_in_the_instant_it_is_asked_for_is_given_to_one_alone(rounds: int) -> None:
    async def test() -> None:
        vendor = Vendor(seconds=0)
        line = Line(vendor.dial)
        line.ready()
        for _ in range(rounds):
            await asyncio.sleep(0)
        first = await line.take()
        await asyncio.sleep(1)
        second = await line.take()
        assert first is not second
        line.drop(first)
        line.free(second)
        await asyncio.sleep(1)
        await line.aclose()
        assert vendor.open == []

    run(test())


@pytest.mark.parametrize("rounds", range(6))
def test_who_is_cancelled_in_the_instant_the_socket_is_there_loses_none(rounds: int) -> None:
    async def test() -> None:
        vendor = Vendor(seconds=0)
        line = Line(vendor.dial)
        taking = asyncio.create_task(line.take())
        for _ in range(rounds):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait([taking])
        if not taking.cancelled():
            line.free(taking.result())
        await asyncio.sleep(1)
        wire = await line.take()
        await asyncio.sleep(1)
        line.free(wire)
        await line.aclose()
        assert vendor.open == [] and vendor.dialled == 1

    run(test())


def test_the_end_of_the_call_is_the_end_of_every_socket() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        spoken = await line.take()
        line.free(await line.take())
        line.ready()
        await line.aclose()
        assert vendor.open == [0]  # the reply that still speaks
        line.ready()
        line.free(spoken)
        await line.aclose()
        assert vendor.open == [] and vendor.dialled == 2

    run(test())


def test_the_end_of_the_call_stops_a_dialling() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        line.ready()
        await asyncio.sleep(0.1)
        await line.aclose()
        assert (vendor.dialled, vendor.stopped, now()) == (1, 1, 0.1)

    run(test())


def test_lines_dial_for_the_rate_of_the_call() -> None:
    async def test() -> None:
        rates: list[int] = []
        vendor = Vendor()

        async def dial(rate: int) -> FakeWire:
            rates.append(rate)
            return await vendor.dial()

        lines = Lines(dial, guess=8000)
        lines.ready()
        await asyncio.sleep(1)
        line = lines.at(16000)
        wire = await line.take()
        line.free(wire)
        lines.ready()
        await asyncio.sleep(1)
        assert rates == [8000, 16000] and vendor.open == [1]
        await lines.aclose()
        assert vendor.open == []

    run(test())


# One reply --------------------------------------------------------------------------------------------------


class Echo:
    """A language in which each piece is answered by itself; ``is_apart`` as told."""

    vendor = "fake"

    def __init__(self, is_apart: bool = True) -> None:
        self.is_apart = is_apart
        self._waiting = 0
        self._has_ended = False

    def piece(self, text: str) -> Iterable[str]:
        self._waiting += 1
        return [text]

    def end(self) -> Iterable[str]:
        self._has_ended = True
        return []

    def cancel(self) -> Iterable[str]:
        return ["cancel"]

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        assert isinstance(message, str)
        self._waiting -= 1
        return [Audio(message.encode()), Spoken(len(message))]

    def is_done(self) -> bool:
        return self._has_ended and self._waiting == 0


async def pieces(*texts: str, gap: float = 0.0, error: Exception | None = None) -> AsyncIterator[str]:
    for text in texts:
        yield text
        await asyncio.sleep(gap)
    if error is not None:
        raise error


async def opened() -> tuple[Line, FakeWire]:
    vendor = Vendor()
    line = Line(vendor.dial)
    line.free(await line.take())
    return line, vendor.wires[0]


def test_a_reply_ends_when_its_text_does_though_all_sound_came_before() -> None:
    async def test() -> None:
        line, wire = await opened()
        began = now()
        wire_answers(wire, "a", at=1)
        assert [event async for event in speak(line, Echo(), pieces("a", gap=5))] == [Audio(b"a"), Spoken(1)]
        assert now() == began + 5
        assert await line.take() is wire
        line.free(wire)
        await line.aclose()

    run(test())


def test_a_reply_whose_text_ended_while_the_listener_was_busy_ends_too() -> None:
    async def test() -> None:
        line, wire = await opened()
        wire_answers(wire, "a", at=1)
        async for _ in speak(line, Echo(), pieces("a", gap=5)):
            await asyncio.sleep(10)
        await line.aclose()

    run(test())


@pytest.mark.parametrize("busy", [0, 10])
def test_a_failure_of_the_text_is_told_and_not_the_connection_s(busy: float) -> None:
    async def test() -> None:
        line, wire = await opened()
        wire_answers(wire, "a", at=1)
        with pytest.raises(LookupError):
            async for _ in speak(line, Echo(), pieces("a", "b", gap=2, error=LookupError())):
                await asyncio.sleep(busy)
        await line.aclose()

    run(test())


@pytest.mark.parametrize(("is_apart", "keeps"), [(True, True), (False, False)])
def test_a_cancelled_reply_leaves_its_socket_only_where_late_sound_can_be_told_apart(
    is_apart: bool, keeps: bool
) -> None:
    async def test() -> None:
        line, wire = await opened()
        events = speak(line, Echo(is_apart), pieces("a", "b", gap=60))
        wire_answers(wire, "a", at=1)
        assert await anext(events) == Audio(b"a")
        await events.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(1)
        assert [message for _, message in wire.sent] == ["a", "cancel"]
        assert wire.is_open is keeps
        assert (await line.take() is wire) is keeps
        await line.aclose()

    run(test(), leaks_ok=True)


def test_a_connection_lost_midway_is_told_and_not_used_again() -> None:
    async def test() -> None:
        line, wire = await opened()
        wire_answers(wire, "a", at=1)
        wire_answers(wire, "cut", at=2)
        heard: list[TtsEvent] = []
        with pytest.raises(ProviderError, match="tts-connection-lost"):
            async for event in speak(line, Echo(), pieces("a", "b", "c", gap=1)):
                heard.append(event)
        assert heard == [Audio(b"a"), Spoken(1)]
        assert await line.take() is not wire
        await line.aclose()

    run(test(), leaks_ok=True)


def test_a_vendor_that_hangs_up_in_peace_before_the_end_has_failed() -> None:
    async def test() -> None:
        line, wire = await opened()
        wire.coming.put_nowait(None)
        with pytest.raises(ProviderError, match="expected the end of the reply, got the end of the connection"):
            async for _ in speak(line, Echo(), pieces("a")):
                pass
        await line.aclose()

    run(test())


def test_a_reply_without_text_has_a_socket_made_ready_and_takes_none() -> None:
    async def test() -> None:
        vendor = Vendor()
        line = Line(vendor.dial)
        assert [event async for event in speak(line, Echo(), pieces())] == []
        await asyncio.sleep(1)
        assert vendor.wires[0].sent == []
        assert await line.take() is vendor.wires[0]
        line.free(vendor.wires[0])
        await line.aclose()

    run(test())


def wire_answers(wire: FakeWire, message: str, at: float) -> None:
    asyncio.get_running_loop().call_later(at, wire.coming.put_nowait, message)
