"""What every synthesizer keeps to, whatever its vendor: one row each in ``tests.vendors.rows.TTS``.

The sound counts its samples, which proves that nothing was lost, nothing came twice and nothing is of another reply.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from providers.base import Audio, ProviderError, Spoken, Tts, TtsEvent, Word
from providers.registry import Shared, make_tts
from providers.scripted import counting
from tests import virtual_time
from tests.vendors.canary import canary as canary
from tests.vendors.rows import CHARACTER, TTS, TtsRow
from tests.vendors.script import Fault, Script

PIECES = ("Well, ", "that is good news. ", "We open at nine.")
TEXT = "".join(PIECES)
LONG = "The quick brown fox jumps over the lazy dog. " * 4
RATES = (8000, 16000, 24000, 48000)

each_vendor = pytest.mark.parametrize("row", TTS, ids=[row.vendor for row in TTS])
each_socket = pytest.mark.parametrize(
    "row", [row for row in TTS if not row.http], ids=[row.vendor for row in TTS if not row.http]
)


@dataclass
class Call:
    """One call: its vendor and its voice."""

    row: TtsRow
    vendor: Any
    tts: Tts

    def ready(self) -> None:
        self.tts.ready()  # type: ignore[attr-defined]

    async def aclose(self) -> None:
        if hasattr(self.tts, "aclose"):
            await self.tts.aclose()


@asynccontextmanager
async def call(row: TtsRow, script: Script | None = None, **options: Any) -> AsyncIterator[Call]:
    async with row.server(script) as vendor:
        shared = Shared()
        there = Call(row, vendor, make_tts(row.spec(vendor.url, **options), shared))
        try:
            yield there
        finally:
            await there.aclose()
            await shared.aclose()


@dataclass
class Reply:
    """What came of one reply, as it comes."""

    tts: Tts
    pieces: tuple[str, ...] = PIECES
    rate: int = 16000
    gap: float = 0.0  # seconds between the pieces
    events: list[TtsEvent] = field(default_factory=list)
    audible: asyncio.Event = field(default_factory=asyncio.Event)
    all_given: asyncio.Event = field(default_factory=asyncio.Event)
    first_at: float = 0.0  # loop time

    async def run(self) -> "Reply":
        async with aclosing(self.tts.speak(self._given(), self.rate)) as events:  # type: ignore[type-var]
            async for event in events:
                self.events.append(event)
                if isinstance(event, Audio) and not self.audible.is_set():
                    self.first_at = asyncio.get_running_loop().time()
                    self.audible.set()
        return self

    async def _given(self) -> AsyncIterator[str]:
        for at, piece in enumerate(self.pieces):
            if at:
                await asyncio.sleep(self.gap)
            yield piece
        self.all_given.set()

    @property
    def pcm(self) -> bytes:
        return b"".join(event.pcm for event in self.events if isinstance(event, Audio))

    @property
    def words(self) -> list[Word]:
        return [event for event in self.events if isinstance(event, Word)]

    @property
    def ends(self) -> list[int]:
        return [event.end for event in self.events if isinstance(event, Spoken)]

    def is_whole(self) -> bool:
        text = "".join(self.pieces)
        return is_said(self.pcm, text, self.rate) and self.ends[-1:] == [len(text)]


def is_said(pcm: bytes, text: str, rate: int) -> bool:
    """The sound of this text, and no sample more or less."""
    return is_counting(pcm) and len(pcm) // 2 == round(len(text) * CHARACTER * rate)


def is_counting(pcm: bytes) -> bool:
    """From where it begins: where the wire knows no replies, the count goes on from one to the next."""
    start = int(np.frombuffer(pcm[:2], "<i2")[0]) - 1 if pcm else 0
    return pcm == counting(start, start + len(pcm) // 2)


async def failure(reply: Reply) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await reply.run()
    return caught.value


def lines(row: TtsRow) -> int:
    """Connections that one reply may use: with a request a piece, the next one is asked while this one plays."""
    return 2 if row.http else 1


def run(test: Coroutine[Any, Any, None]) -> None:
    virtual_time.run(test, limit=600)  # a socket's pings would let a reply that hangs hang for ever


def native(row: TtsRow) -> int:
    """A rate at which not a sample is changed on the way."""
    return 16000 if 16000 in row.rates else row.rates[0]


# Sound ------------------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize("rate", RATES)
def test_the_sound_of_a_reply_is_whole_in_order_and_at_the_rate_that_was_asked_for(row: TtsRow, rate: int) -> None:
    async def test() -> None:
        async with call(row) as there:
            reply = await Reply(there.tts, rate=rate).run()
            assert reply.ends[-1] == len(TEXT)
            if rate in row.rates:
                assert is_said(reply.pcm, TEXT, rate)
                return
            samples = np.frombuffer(reply.pcm, "<i2").astype(int)
            assert abs(len(samples) / rate - len(TEXT) * CHARACTER) <= 0.025
            step = np.diff(samples[int(0.005 * rate) :])  # a slope, but for where the count begins anew
            assert ((step >= 0) & (step < 16)).mean() > 0.97

    run(test())


@each_vendor
def test_every_event_holds_whole_samples(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.ODD_BYTES)) as there:
            reply = await Reply(there.tts, rate=native(row)).run()
            assert all(len(event.pcm) % 2 == 0 for event in reply.events if isinstance(event, Audio))
            assert reply.is_whole()

    run(test())


@each_vendor
def test_the_first_sound_comes_before_the_last_piece_is_given(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(gap=0.01)) as there:
            reply = Reply(there.tts, rate=native(row), gap=5)
            saying = asyncio.create_task(reply.run())
            await reply.audible.wait()
            assert not reply.all_given.is_set()
            await saying
            assert reply.is_whole()

    run(test())


@each_vendor
def test_a_pause_of_the_model_between_two_pieces_harms_nothing(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:
            reply = await Reply(there.tts, rate=native(row), gap=30).run()
            assert reply.is_whole()

    run(test())


@each_vendor
def test_a_text_that_ends_long_after_its_last_piece_was_said_ends_the_reply(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:

            async def text() -> AsyncIterator[str]:
                yield PIECES[0]
                await asyncio.sleep(3)

            events = [event async for event in there.tts.speak(text(), native(row))]
            assert is_said(b"".join(e.pcm for e in events if isinstance(e, Audio)), PIECES[0], native(row))
            assert events[-1] == Spoken(len(PIECES[0]))
            assert asyncio.get_running_loop().time() < 3.1

    run(test())


@each_vendor
def test_text_of_any_script_is_said(row: TtsRow) -> None:
    pieces = ("Grüße aus Köln — 25 €! ", "你好，世界。", 'Naïve "café" 🙂 <b>&amp;</b>\n', "Ещё раз.")

    async def test() -> None:
        async with call(row) as there:
            reply = await Reply(there.tts, pieces, native(row)).run()
            assert reply.is_whole()
            assert [w.end for w in reply.words] == sorted(w.end for w in reply.words)

    run(test())


@each_vendor
def test_a_minute_of_sound_at_once_is_taken_as_it_is_played(row: TtsRow) -> None:
    text = (LONG * 20)[:3000]
    pieces = tuple(re.findall(r"[^.]+\. ?|[^.]+$", text))
    rate = max(row.rates)

    async def test() -> None:
        async with call(row) as there:
            taken = bytearray()

            async def given() -> AsyncIterator[str]:
                for piece in pieces:
                    yield piece

            async with aclosing(there.tts.speak(given(), rate)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Audio):
                        taken += event.pcm
                        await asyncio.sleep(len(event.pcm) / 2 / rate)
            assert is_said(bytes(taken), text, rate)
            assert there.vendor.seen.connections <= lines(row)

    run(test())


@each_vendor
def test_a_long_piece_in_a_single_write_is_whole(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(burst=True)) as there:
            assert (await Reply(there.tts, (LONG, LONG), native(row)).run()).is_whole()

    run(test())


@each_vendor
def test_a_slow_vendor_is_waited_for(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(first=2.0, gap=1.0)) as there:
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_vendor
def test_an_empty_reply_is_silent_and_asks_for_nothing(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:
            assert (await Reply(there.tts, ()).run()).events == []
            assert there.vendor.seen.requests == []
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()
            assert there.vendor.seen.connections <= lines(row)

    run(test())


# Words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in TTS if row.words], ids=[row.vendor for row in TTS if row.words])
def test_words_stand_where_the_vendor_says_and_before_their_sound(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:
            reply = await Reply(there.tts, rate=native(row)).run()
            expected = [(found.end(), found.start() * CHARACTER) for found in re.finditer(r"\S+", TEXT)]
            assert [word.end for word in reply.words] == [end for end, _ in expected]
            assert [word.start for word in reply.words] == pytest.approx([start for _, start in expected], abs=0.002)
            assert is_told_in_time(reply)

    run(test())


def is_told_in_time(reply: Reply) -> bool:
    samples = 0
    for event in reply.events:
        match event:
            case Audio(pcm):
                samples += len(pcm) // 2
            case Word(_, start) if round(start * reply.rate) < samples:
                return False
    return True


@each_vendor
def test_what_has_been_said_never_goes_back_and_never_beyond_the_text(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:
            reply = await Reply(there.tts, rate=native(row)).run()
            assert reply.ends == sorted(reply.ends) and reply.ends[-1] == len(TEXT)
            assert [word.end for word in reply.words] == sorted(word.end for word in reply.words)
            assert all(word.end <= len(TEXT) for word in reply.words)

    run(test())


@each_vendor
def test_a_piece_is_called_spoken_where_its_sound_ends(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:
            reply = await Reply(there.tts, rate=native(row)).run()
            bounds = [0]
            for piece in PIECES:
                bounds.append(bounds[-1] + len(piece))
            samples = 0
            for event in reply.events:
                match event:
                    case Audio(pcm):
                        samples += len(pcm) // 2
                    case Spoken(end):
                        assert end in bounds and samples == round(end * CHARACTER * reply.rate)

    run(test())


# Connections ------------------------------------------------------------------------------------------------


@each_vendor
def test_only_the_first_reply_waits_for_a_connection(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(connecting=0.5)) as there:
            loop = asyncio.get_running_loop()
            for number in range(4):
                began = loop.time()
                reply = await Reply(there.tts, rate=native(row)).run()
                assert reply.is_whole()
                assert reply.first_at - began == pytest.approx(0.0 if number else 0.5, abs=0.01)
                await asyncio.sleep(2)
                there.ready()
                await asyncio.sleep(2)
            assert there.vendor.seen.connections <= 2

    run(test())


@each_vendor
def test_a_connection_dialled_ahead_is_there_for_the_first_reply(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(connecting=0.5)) as there:
            there.ready()
            there.ready()
            await asyncio.sleep(1)
            reply = await Reply(there.tts, rate=8000 if 8000 in row.rates else row.rates[0]).run()
            assert reply.first_at == pytest.approx(1.0, abs=0.01)
            assert there.vendor.seen.connections <= lines(row)

    run(test())


@each_socket
def test_a_connection_that_is_just_being_dialled_is_waited_for(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(connecting=0.5)) as there:
            there.ready()
            await asyncio.sleep(0.3)
            reply = await Reply(there.tts, rate=8000 if 8000 in row.rates else row.rates[0]).run()
            assert reply.first_at == pytest.approx(0.5, abs=0.01)
            assert there.vendor.seen.connections == 1

    run(test())


@each_socket
def test_a_socket_that_died_while_nobody_used_it_is_replaced(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(connecting=0.5)) as there:
            await Reply(there.tts, rate=native(row)).run()
            there.vendor.socket.transport.abort()
            await asyncio.sleep(1)
            there.ready()
            await asyncio.sleep(1)
            assert there.vendor.seen.connections == 2
            began = asyncio.get_running_loop().time()
            reply = await Reply(there.tts, rate=native(row)).run()
            assert reply.is_whole() and reply.first_at - began < 0.01

    run(test())


@each_socket
def test_a_socket_that_died_unnoticed_is_no_failure_of_the_next_reply(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:
            await Reply(there.tts, rate=native(row)).run()
            await there.vendor.socket.close()
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_vendor
def test_two_replies_at_once_do_not_mix(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(gap=0.02)) as there:
            there.ready()
            await asyncio.sleep(0.1)
            replies = [Reply(there.tts, (LONG,), native(row)), Reply(there.tts, PIECES, native(row), gap=0.3)]
            assert [reply.is_whole() for reply in await asyncio.gather(*(reply.run() for reply in replies))] == [
                True
            ] * 2
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_vendor
def test_a_failure_to_dial_ahead_is_forgotten(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.SERVER_ERROR, times=1)) as there:
            if not row.http:
                there.ready()
                await asyncio.sleep(1)
                assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_vendor
def test_the_end_of_the_call_leaves_no_connection_and_no_task(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(connecting=0.5)) as there:
            await Reply(there.tts, rate=native(row)).run()
            there.ready()
            await asyncio.sleep(0.1)
            await there.aclose()
            there.ready()
            await asyncio.sleep(1)
            if not row.http:
                assert there.vendor.socket.state.name == "CLOSED"
            ours = {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("tts")}
            assert ours == set()

    run(test())


# Cancelling -------------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize("how", ["task", "iterator"])
def test_a_reply_cancelled_midway_stops_the_vendor_at_once_and_leaves_nothing_to_the_next(
    row: TtsRow, how: str
) -> None:
    async def test() -> None:
        async with call(row, Script(gap=0.05)) as there:
            loop = asyncio.get_running_loop()
            if how == "task":
                reply = Reply(there.tts, (LONG, LONG, LONG), native(row), gap=0.1)
                saying = asyncio.create_task(reply.run())
                await reply.audible.wait()
                saying.cancel()
                cancelled = loop.time()
                with pytest.raises(asyncio.CancelledError):
                    await saying
            else:
                async with aclosing(there.tts.speak(given(LONG, LONG), native(row))) as events:  # type: ignore[type-var]
                    async for event in events:
                        if isinstance(event, Audio):
                            break
                    cancelled = loop.time()
            await there.vendor.seen.left.wait()
            assert loop.time() == cancelled
            for _ in range(3):
                assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    async def given(*pieces: str) -> AsyncIterator[str]:
        for piece in pieces:
            yield piece

    run(test())


@each_vendor
def test_the_reply_after_a_cancelled_one_begins_without_a_handshake(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(gap=0.05, connecting=0.5)) as there:
            reply = Reply(there.tts, (LONG, LONG), native(row))
            saying = asyncio.create_task(reply.run())
            await reply.audible.wait()
            saying.cancel()
            await asyncio.wait([saying])
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            after = await Reply(there.tts, rate=native(row)).run()
            assert after.is_whole()
            if not row.http:
                assert after.first_at - began < 0.1

    run(test())


@each_vendor
def test_a_reply_cancelled_while_its_connection_is_dialled_leaves_it_to_the_next(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(connecting=0.5)) as there:
            saying = asyncio.create_task(Reply(there.tts, rate=native(row)).run())
            await asyncio.sleep(0.2)
            saying.cancel()
            await asyncio.wait([saying])
            reply = await Reply(there.tts, rate=native(row)).run()
            assert reply.is_whole()
            if not row.http:
                assert reply.first_at == pytest.approx(0.5, abs=0.01)
                assert there.vendor.seen.connections == 1

    run(test())


@each_vendor
def test_a_reply_cancelled_before_its_first_piece_harms_nobody(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:

            async def never() -> AsyncIterator[str]:
                await asyncio.Event().wait()
                yield ""

            async def wait() -> None:
                async for _ in there.tts.speak(never(), native(row)):
                    pass

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait([waiting])
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_vendor
def test_a_failure_of_the_text_is_told_as_it_is(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row) as there:

            async def text() -> AsyncIterator[str]:
                yield PIECES[0]
                await asyncio.sleep(1)
                raise LookupError("no more words")

            with pytest.raises(LookupError, match="no more words"):
                async for _ in there.tts.speak(text(), native(row)):
                    pass
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


# Faults -----------------------------------------------------------------------------------------------------


@each_vendor
@pytest.mark.parametrize(
    ("fault", "code", "retryable", "wait"),
    [
        (Fault.REFUSE, "tts-connection-lost", True, None),
        (Fault.UNAUTHORIZED, "tts-unauthorized", False, None),
        (Fault.RATE_LIMITED, "tts-rate-limited", True, 1.0),
        (Fault.SERVER_ERROR, "tts-server-error", True, None),
    ],
)
def test_a_refusal_says_what_kind_it_is(
    row: TtsRow, fault: Fault, code: str, retryable: bool, wait: float | None
) -> None:
    async def test() -> None:
        async with call(row, Script(fault)) as there:
            there.ready()
            reply = Reply(there.tts, rate=native(row))
            failed = await failure(reply)
            assert (failed.vendor, failed.code, failed.retryable) == (row.vendor, code, retryable)
            assert failed.retry_after == wait
            assert reply.events == []

    run(test())


@each_vendor
@pytest.mark.parametrize("after", [0, 2])
def test_a_vendor_that_falls_silent_is_left_by_cancelling(row: TtsRow, after: int) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.HANG, after=after, times=1)) as there:
            reply = Reply(there.tts, (LONG,), native(row))
            saying = asyncio.create_task(reply.run())
            done, _ = await asyncio.wait([saying], timeout=10)
            assert not done and is_counting(reply.pcm) and bool(reply.pcm) == bool(after)
            saying.cancel()
            with pytest.raises(asyncio.CancelledError):
                await saying
            await there.vendor.seen.left.wait()
            assert asyncio.get_running_loop().time() == 10

    run(test())


@each_vendor
@pytest.mark.parametrize("after", [0, 3])
def test_a_connection_cut_midway_is_told_after_what_came(row: TtsRow, after: int) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.CUT, after=after, times=1)) as there:
            reply = Reply(there.tts, (LONG,), native(row))
            failed = await failure(reply)
            assert (failed.vendor, failed.code, failed.retryable) == (row.vendor, "tts-connection-lost", True)
            assert is_counting(reply.pcm) and bool(reply.pcm) == bool(after)
            assert len(LONG) not in reply.ends
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_socket
def test_an_error_in_the_stream_is_told_after_what_came(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.ERROR, after=3, times=1)) as there:
            reply = Reply(there.tts, (LONG,), native(row))
            failed = await failure(reply)
            assert (failed.vendor, failed.code, failed.retryable) == (row.vendor, "tts-server-error", True)
            assert is_counting(reply.pcm) and reply.pcm
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_socket
def test_what_is_no_message_is_skipped(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.GARBAGE, after=2)) as there:
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())


@each_socket
def test_half_a_character_is_a_failure_and_no_crash(row: TtsRow) -> None:
    async def test() -> None:
        async with call(row, Script(Fault.HALF_CHARACTER, after=2, times=1)) as there:
            reply = Reply(there.tts, (LONG,), native(row))
            failed = await failure(reply)
            assert failed.retryable and is_counting(reply.pcm)
            assert (await Reply(there.tts, rate=native(row)).run()).is_whole()

    run(test())
