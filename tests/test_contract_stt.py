"""What every recogniser keeps to, whatever its vendor: one row each in ``tests.vendors.rows.STT``.

A row's server is a ``WsVendor`` and has, best from :class:`tests.vendors.ears.Ears`, ``hears`` and ``audio``: the
bytes that the latest connection brought. Its pieces are partials and finals alone. It also reads what it was asked:
``asked()`` gives ``key``, ``rate``, ``language`` (as the vendor writes it) and ``hints`` of the latest connection.
"""

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from providers.audio_feed import AudioFeed, Mark
from providers.base import Eager, Final, Partial, ProviderError, Stt, SttEvent
from providers.registry import Shared, make_stt
from providers.sockets import CLOSE, DIAL
from providers.stt.stream import LAST_WORDS
from tests import virtual_time
from tests.vendors.canary import canary as canary
from tests.vendors.rows import KEY, STT, SttRow
from tests.vendors.script import Fault, Script

HEARS = ["Good morning everyone.", "I would like a café au lait.", "Thank you very much."]
TOLD = [
    ("partial", "Good morning"),
    ("final", "Good morning everyone."),
    ("partial", "I would like a café au"),
    ("final", "I would like a café au lait."),
    ("partial", "Thank you very"),
    ("final", "Thank you very much."),
]
FRAME = 0.02  # seconds

each_vendor = pytest.mark.parametrize("row", STT, ids=[row.vendor for row in STT])


class Call:
    """A vendor, the recogniser that was made for it, and a caller whose frames are numbered: their samples."""

    def __init__(self, vendor: Any, stt: Stt, rate: int) -> None:
        self.vendor = vendor
        self.stt = stt
        self.rate = rate
        self.feed = AudioFeed(rate)
        self.frames = 0
        self.events: list[SttEvent] = []

    async def say(self, seconds: float) -> None:
        """In real time, as it were."""
        for _ in range(round(seconds / FRAME)):
            self.feed.push(self.frame())
            await asyncio.sleep(FRAME)

    def frame(self) -> bytes:
        self.frames += 1
        return struct.pack("<h", self.frames) * round(self.rate * FRAME)

    async def hear(self) -> None:
        """As a call does: what has become words is not to be heard again."""
        async with aclosing(self.stt.listen(self.feed)) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, Final):
                    self.feed.settle()
                self.events.append(event)

    async def whole(self, seconds: float = 3.0) -> None:
        """A call of so many seconds."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.hear())
            await self.say(seconds)
            self.feed.close()

    async def fail(self, seconds: float = 3.0) -> ProviderError:
        """The same, where it comes to grief."""
        speaking = asyncio.create_task(self.say(seconds))
        try:
            with pytest.raises(ProviderError) as caught:
                await self.hear()
        finally:
            speaking.cancel()
            await asyncio.wait([speaking])
        assert caught.value.vendor == self.vendor_name
        return caught.value

    @property
    def vendor_name(self) -> str:
        return str(self.vendor.row.vendor)

    def told(self) -> list[tuple[str, str]]:
        kinds = {Partial: "partial", Final: "final"}
        return [(kinds[type(e)], e.text) for e in self.events if isinstance(e, (Partial, Final)) and e.text]

    def finals(self) -> list[Final]:
        return [event for event in self.events if isinstance(event, Final) and event.text]


@asynccontextmanager
async def calling(row: SttRow, script: Script | None = None, **fields: Any) -> AsyncIterator[Call]:
    shared = Shared()
    try:
        async with row.server(script) as vendor:
            vendor.hears, vendor.row = list(HEARS), row
            spec = row.spec(vendor.url, **fields)
            stt = make_stt(spec, shared)
            yield Call(vendor, stt, spec.rate)
            if hasattr(stt, "aclose"):
                await stt.aclose()
    finally:
        await shared.aclose()


def now() -> float:
    return asyncio.get_running_loop().time()


# What is heard ------------------------------------------------------------------------------------------------


@each_vendor
def test_each_utterance_is_told_once_first_in_part_then_as_a_final(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            await call.whole()
            assert call.told() == TOLD

    virtual_time.run(test())


@each_vendor
def test_finals_come_when_the_vendor_tells_them(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            hearing = asyncio.create_task(call.hear())
            await call.say(1.0)
            assert [final.text for final in call.finals()] == HEARS[:1]
            hearing.cancel()
            await asyncio.wait([hearing])

    virtual_time.run(test())


@each_vendor
def test_a_final_says_what_the_vendor_knows(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            await call.whole()
            finals = call.finals()
            assert [final.end_of_turn for final in finals] == ["end_of_turn" in row.gives] * 3
            assert [final.speech_final for final in finals] == ["speech_final" in row.gives] * 3
            assert [final.confidence is not None for final in finals] == ["confidence" in row.gives] * 3
            assert all(0 < final.confidence <= 1 for final in finals if final.confidence is not None)
            eager = [event.text for event in call.events if isinstance(event, Eager)]
            assert eager == (HEARS if "eager" in row.gives else [])

    virtual_time.run(test())


@each_vendor
def test_the_language_is_told_where_there_are_several(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, languages=("es-ES",)) as call:
            await call.whole()
            expected = "es" if "language" in row.gives else None
            assert [final.language and final.language[:2] for final in call.finals()] == [expected] * 3

    virtual_time.run(test())


@each_vendor
def test_a_final_is_wanted_at_once_when_the_caller_goes_quiet(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, ends_turns=False) as call:
            hearing = asyncio.create_task(call.hear())
            await call.say(0.7)
            call.feed.mark(Mark.SPEECH_STOPPED)
            await asyncio.sleep(0.001)
            assert [final.text for final in call.finals()] == (HEARS[:1] if "forced" in row.gives else [])
            assert not any(final.speech_final or final.end_of_turn for final in call.finals())
            hearing.cancel()
            await asyncio.wait([hearing])

    virtual_time.run(test())


@each_vendor
def test_marks_do_no_harm(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            async with asyncio.TaskGroup() as group:
                group.create_task(call.hear())
                for _ in range(3):
                    call.feed.mark(Mark.SPEECH_STARTED)
                    await call.say(1.0)
                    call.feed.mark(Mark.SPEECH_STOPPED)
                call.feed.close()
            assert [final.text for final in call.finals()] == HEARS

    virtual_time.run(test())


@each_vendor
@pytest.mark.parametrize("script", [Script(first=0.7, gap=0.4), Script(gap=1.5)], ids=["late", "slow"])
def test_a_slow_vendor_loses_nothing(row: SttRow, script: Script) -> None:
    async def test() -> None:
        async with calling(row, script) as call:
            hearing = asyncio.create_task(call.hear())
            await call.say(12.0)
            assert call.told() == TOLD
            hearing.cancel()
            await asyncio.wait([hearing])

    virtual_time.run(test())


@each_vendor
def test_audio_may_come_in_a_burst(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            for _ in range(150):
                call.feed.push(call.frame())
            call.feed.close()
            await call.hear()
            assert call.told() == TOLD

    virtual_time.run(test())


# What is asked ------------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_vendor_is_told_the_key_the_rate_and_the_language(row: SttRow, rate: int) -> None:
    async def test() -> None:
        async with calling(row, rate=rate, language="es-ES") as call:
            await call.whole()
            asked = call.vendor.asked()
            assert (asked["key"], asked["rate"]) == (KEY, rate)
            assert asked["language"].startswith("es")
            assert call.told() == TOLD

    virtual_time.run(test())


@each_vendor
def test_the_vendor_is_told_the_hints(row: SttRow) -> None:
    hints = ("Zaphod Beeblebrox", "gargle & blaster", "Ängström")

    async def test() -> None:
        async with calling(row, hints=hints) as call:
            await call.whole(0.1)
            assert tuple(call.vendor.asked()["hints"]) == hints

    virtual_time.run(test())


@each_vendor
@pytest.mark.parametrize("rate", [8000, 16000])
def test_all_audio_reaches_the_vendor_as_it_is(row: SttRow, rate: int) -> None:
    async def test() -> None:
        async with calling(row, rate=rate) as call:
            audio = b"".join(call.frame() for _ in range(100))
            sizes = itertools.cycle((2, 640, 6, 1282, 0, 322, 4000, 318))
            async with asyncio.TaskGroup() as group:
                group.create_task(call.hear())
                at = 0
                while at < len(audio):
                    size = next(sizes)
                    call.feed.push(audio[at : at + size])
                    at += size
                    await asyncio.sleep(FRAME if size > 640 else 0)
                call.feed.close()
            assert bytes(call.vendor.audio) == audio

    virtual_time.run(test())


@each_vendor
def test_a_quiet_line_is_kept_open(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            hearing = asyncio.create_task(call.hear())
            await call.say(1.0)
            for _ in range(10):
                call.vendor.seen.asked.clear()
                if "keepalive" in row.gives:
                    await asyncio.wait_for(call.vendor.seen.asked.wait(), 9.5)
                await asyncio.sleep(3.0)
            assert not hearing.done()
            assert not call.vendor.seen.left.is_set()
            hearing.cancel()
            await asyncio.wait([hearing])

    virtual_time.run(test())


@each_vendor
def test_without_a_key_there_is_nothing_to_make(row: SttRow) -> None:
    for key in ("", "  "):
        with pytest.raises(ProviderError, match=rf"expected credentials\.{row.vendor}\.apiKey") as caught:
            make_stt(row.spec("ws://127.0.0.1:9", credentials={"apiKey": key}), Shared())
        assert (caught.value.code, caught.value.retryable) == ("stt-no-credentials", False)


@each_vendor
@pytest.mark.parametrize("key", [KEY + "é", KEY + "\r\nX-Evil: 1", KEY + "\x00"])
def test_a_key_that_fits_in_no_header_is_refused_without_quoting_it(row: SttRow, key: str) -> None:
    with pytest.raises(ProviderError) as caught:
        make_stt(row.spec("ws://127.0.0.1:9", credentials={"apiKey": key}), Shared())
    assert (caught.value.code, caught.value.retryable) == ("stt-bad-credentials", False)


# What goes wrong ----------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize(
    ("fault", "code", "retryable", "wait"),
    [
        (Fault.REFUSE, "stt-connection-lost", True, None),
        (Fault.UNAUTHORIZED, "stt-unauthorized", False, None),
        (Fault.RATE_LIMITED, "stt-rate-limited", True, 1.0),
        (Fault.SERVER_ERROR, "stt-server-error", True, None),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_a_vendor_that_does_not_let_us_in(
    row: SttRow, fault: Fault, code: str, retryable: bool, wait: float | None
) -> None:
    async def test() -> None:
        async with calling(row, Script(fault)) as call:
            error = await call.fail()
            assert (error.code, error.retryable, error.retry_after) == (code, retryable, wait)
            assert call.events == []

    virtual_time.run(test())


@each_vendor
def test_a_vendor_that_does_not_answer_the_upgrade(row: SttRow) -> None:
    async def test() -> None:
        async with mute_server() as (url, left):
            stt = make_stt(row.spec(url), shared := Shared())
            with pytest.raises(ProviderError) as caught:
                await anext(aiter(stt.listen(AudioFeed(16000))))
            assert (caught.value.code, caught.value.retryable) == ("stt-timeout", True)
            assert now() == DIAL
            await left.wait()
            await shared.aclose()

    virtual_time.run(test())


@each_vendor
def test_a_call_that_ends_while_the_vendor_is_dialled(row: SttRow) -> None:
    async def test() -> None:
        async with mute_server() as (url, left):
            shared = Shared()
            call = Call(None, make_stt(row.spec(url), shared), 16000)
            hearing = asyncio.create_task(call.hear())
            await asyncio.sleep(1)
            hearing.cancel()
            await left.wait()
            assert now() == 1.0
            await asyncio.wait([hearing])
            await shared.aclose()

    virtual_time.run(test())


@each_vendor
def test_the_vendor_sees_at_once_when_a_call_ends(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, Script(Fault.HANG, after=1)) as call:
            hearing = asyncio.create_task(call.hear())
            await call.say(2.0)
            assert call.told() == TOLD[:1]
            hearing.cancel()
            await call.vendor.seen.left.wait()
            assert now() == 2.0
            await asyncio.wait([hearing])
            assert hearing.cancelled()

    virtual_time.run(test())


@each_vendor
def test_the_vendor_sees_at_once_when_the_iterator_is_closed(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            speaking = asyncio.create_task(call.say(2.0))
            events = call.stt.listen(call.feed)
            assert await anext(aiter(events)) == Partial("Good morning")
            closed_at = now()
            await events.aclose()  # type: ignore[attr-defined]
            assert now() == closed_at
            await call.vendor.seen.left.wait()
            assert now() == closed_at
            speaking.cancel()
            await asyncio.wait([speaking])

    virtual_time.run(test())


@each_vendor
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_lost_connection_is_dialled_again_and_no_word_is_lost_or_told_twice(row: SttRow, after: int) -> None:
    async def test() -> None:
        async with calling(row, Script(Fault.CUT, after=after, times=1)) as call:
            speaking = asyncio.create_task(call.say(4.5))
            with pytest.raises(ProviderError) as caught:
                await call.hear()
            assert (caught.value.code, caught.value.retryable) == ("stt-connection-lost", True)
            assert call.told() == TOLD[:after]
            await asyncio.sleep(0.25)
            call.feed.rewind()
            hearing = asyncio.create_task(call.hear())
            await speaking
            call.feed.close()
            await hearing
            assert [final.text for final in call.finals()] == HEARS
            assert call.vendor.seen.connections == 2
            heard = numbers(call.vendor.audio, call.rate)
            assert heard == list(range(heard[0], call.frames + 1))
            assert heard[0] == 1 + 50 * (after // 2)  # from where the last final ended

    virtual_time.run(test())


@each_vendor
def test_what_is_no_message_is_skipped(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, Script(Fault.GARBAGE, after=1)) as call:
            await call.whole()
            assert call.told() == TOLD

    virtual_time.run(test())


@each_vendor
def test_half_a_character_loses_the_connection(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, Script(Fault.HALF_CHARACTER, after=1)) as call:
            error = await call.fail()
            assert error.code.startswith("stt-") and error.retryable
            assert call.told() == TOLD[:1]

    virtual_time.run(test())


@each_vendor
def test_an_error_of_the_vendors_own_is_ours_in_our_words(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, Script(Fault.ERROR, after=1)) as call:
            error = await call.fail()
            assert (error.code, error.retryable) == ("stt-server-error", True)
            assert "it broke" in error.message
            assert call.told() == TOLD[:1]

    virtual_time.run(test())


@each_vendor
def test_a_vendor_that_hangs_up_politely_ends_the_iterator(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            hearing = asyncio.create_task(call.hear())
            await call.say(1.2)
            await call.vendor.socket.close()
            await hearing
            assert [final.text for final in call.finals()] == HEARS[:1]

    virtual_time.run(test())


# How it ends --------------------------------------------------------------------------------------------------


@each_vendor
def test_when_the_caller_is_gone_the_vendor_is_told_and_hangs_up(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            await call.whole()
            assert now() == 3.0
            await call.vendor.socket.wait_closed()
            assert call.vendor.socket.close_code == 1000

    virtual_time.run(test())


@each_vendor
def test_a_vendor_that_says_no_goodbye_is_left(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row, Script(Fault.HANG, after=2)) as call:
            await call.whole()
            assert now() == 3.0 + LAST_WORDS
            assert call.told() == TOLD[:2]
            await call.vendor.seen.left.wait()

    virtual_time.run(test())


@each_vendor
def test_a_vendor_that_reads_nothing_any_more_is_cut_off(row: SttRow) -> None:
    async def test() -> None:
        async with calling(row) as call:
            async with asyncio.TaskGroup() as group:
                group.create_task(call.hear())
                await call.say(1.2)
                call.vendor.socket.transport.pause_reading()
                await call.say(1.0)
                call.feed.close()
            assert now() <= 2.2 + LAST_WORDS + CLOSE
            assert call.told() == TOLD[:2]
            call.vendor.socket.transport.resume_reading()

    virtual_time.run(test())


@asynccontextmanager
async def mute_server() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Takes a connection and says nothing. The event: it was left."""
    left = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            left.set()
            writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", left
    finally:
        server.close()
        await server.wait_closed()


def numbers(audio: bytearray, rate: int) -> list[int]:
    """The frames that are in it."""
    size = round(rate * FRAME) * 2
    assert len(audio) % size == 0
    return [struct.unpack_from("<h", audio, at)[0] for at in range(0, len(audio), size)]
