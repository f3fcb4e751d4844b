"""OpenAI's speech endpoint: one request a piece, one ahead, and whatever servers make of "pcm"."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest

from providers.base import Audio, ProviderError, Spoken, TtsEvent, TtsSpec
from providers.registry import Shared
from providers.scripted import counting
from providers.tts.openai import LONGEST, RATE, OpenAiTts, make_tts, to_wire
from providers.tts.wav import LONGEST_HEADER, Unwrapped
from tests import virtual_time
from tests.vendors.openai_tts import OpenAiSpeechServer, wav_header
from tests.vendors.rows import CHARACTER, KEY
from tests.vendors.script import Fault, Script

PIECES = ("Well, ", "that is good. ", "We open at nine. ", "Anything else?")
TEXT = "".join(PIECES)


@asynccontextmanager
async def voice(script: Script | None = None, **fields: Any) -> AsyncIterator[tuple[OpenAiSpeechServer, OpenAiTts]]:
    async with OpenAiSpeechServer(script) as vendor:
        shared = Shared()
        credentials = {"apiKey": KEY, "baseURL": f"{vendor.url}/v1/"}
        try:
            yield vendor, make_tts(TtsSpec("openai", credentials=credentials, **fields), shared)
        finally:
            await shared.aclose()


async def given(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


def inputs(vendor: OpenAiSpeechServer) -> list[str]:
    return [request["input"] for request in vendor.seen.requests]  # type: ignore[index]


def pcm(events: list[TtsEvent]) -> bytes:
    return b"".join(event.pcm for event in events if isinstance(event, Audio))


# To the wire ------------------------------------------------------------------------------------------------


def test_the_body_says_what_is_to_be_said_and_how() -> None:
    assert to_wire("Hello.", TtsSpec("openai")) == {
        "model": "gpt-4o-mini-tts",
        "voice": "alloy",
        "input": "Hello.",
        "response_format": "pcm",
    }
    options = {"instructions": "Whisper.", "speed": 1.2, "streamFormat": "audio", "model": "tts-1", "voice": "ash"}
    assert to_wire("Hello.", TtsSpec("openai", "coral", options=options)) == {
        "model": "tts-1",
        "voice": "coral",
        "instructions": "Whisper.",
        "speed": 1.2,
        "stream_format": "audio",
        "input": "Hello.",
        "response_format": "pcm",
    }
    assert to_wire("", TtsSpec("openai", model="tts-2", options=options))["model"] == "tts-2"


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({}, "tts-no-credentials"),
        ({"apiKey": "ключ"}, "tts-bad-credentials"),
        ({"apiKey": KEY, "baseURL": "ws://somewhere"}, "tts-bad-url"),
    ],
)
def test_credentials_that_cannot_be_are_refused_at_once(credentials: dict[str, str], code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        make_tts(TtsSpec("openai", credentials=credentials), Shared())
    assert caught.value.code == code


def test_another_server_needs_no_key() -> None:
    make_tts(TtsSpec("openai", credentials={"baseURL": "http://127.0.0.1:8880/v1"}), Shared())


def test_a_piece_longer_than_a_request_may_be_is_cut_at_a_space() -> None:
    text = "word " * 1000

    async def test() -> None:
        async with voice(Script(burst=True)) as (vendor, tts):
            events = [event async for event in tts.speak(given(text), RATE)]
            assert "".join(inputs(vendor)) == text
            assert all(len(part) <= LONGEST and part.endswith("word ") for part in inputs(vendor))
            assert len(pcm(events)) == 2 * round(len(text) * CHARACTER * RATE)
            assert events[-1] == Spoken(len(text))

    virtual_time.run(test())


# One ahead --------------------------------------------------------------------------------------------------


def test_the_next_piece_is_asked_while_this_one_plays_and_no_other() -> None:
    async def test() -> None:
        async with voice() as (vendor, tts):
            asked = {}
            async with aclosing(tts.speak(given(*PIECES), RATE)) as events:
                spoken = 0
                async for event in events:
                    await asyncio.sleep(0.5)  # it is played
                    if isinstance(event, Spoken):
                        spoken += 1
                    elif isinstance(event, Audio):
                        asked[spoken] = len(vendor.seen.requests)
            assert asked == {0: 2, 1: 3, 2: 4, 3: 4}
            assert inputs(vendor) == list(PIECES)

    virtual_time.run(test())


def test_there_is_no_gap_between_pieces_of_a_slow_server() -> None:
    async def test() -> None:
        async with voice(Script(first=0.1)) as (_, tts):
            loop = asyncio.get_running_loop()
            waits, since = [], loop.time()
            async with aclosing(tts.speak(given(*PIECES), RATE)) as events:
                async for event in events:
                    if isinstance(event, Audio):
                        waits.append(loop.time() - since)
                        await asyncio.sleep(len(event.pcm) / 2 / RATE)
                        since = loop.time()
            assert waits[0] == pytest.approx(0.1) and sum(waits[1:]) < 0.01

    virtual_time.run(test())


def test_a_failure_of_the_next_piece_is_told_when_it_is_its_turn() -> None:
    async def test() -> None:
        async with voice() as (vendor, tts):
            heard: list[TtsEvent] = []
            with pytest.raises(ProviderError) as caught:
                async for event in tts.speak(given("Well, ", "that is good."), RATE):
                    heard.append(event)
                    vendor.script.fault = Fault.SERVER_ERROR
            assert caught.value.code == "tts-server-error"
            assert pcm(heard) == counting(0, round(6 * CHARACTER * RATE)) and heard[-1] == Spoken(6)

    virtual_time.run(test())


def test_cancelling_closes_what_plays_and_what_was_asked_ahead() -> None:
    async def test() -> None:
        async with voice(Script(gap=0.05)) as (vendor, tts):
            async with aclosing(tts.speak(given(*["I could go on and on. "] * 4), RATE)) as events:
                async for event in events:
                    if isinstance(event, Audio):
                        break
                await asyncio.sleep(0.1)
                assert len(vendor.seen.requests) == 2 and len(vendor._writers) == 2
            await vendor.seen.left.wait()
            assert asyncio.get_running_loop().time() == pytest.approx(0.1)
            await asyncio.sleep(1)
            assert len(vendor.seen.requests) == 2 and not vendor._writers

    virtual_time.run(test())


def test_the_process_is_warmed_without_a_request() -> None:
    async def test() -> None:
        async with voice() as (vendor, tts):
            await tts.warm()
            assert vendor.seen.connections == 0

    virtual_time.run(test())


# What comes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_sound_is_brought_to_the_rate_that_is_wanted(rate: int) -> None:
    async def test() -> None:
        async with voice() as (_, tts):
            events = [event async for event in tts.speak(given(*PIECES), rate)]
            assert len(pcm(events)) == 2 * round(len(TEXT) * CHARACTER * rate)

    virtual_time.run(test())


def test_a_header_that_nobody_asked_for_is_taken_off() -> None:
    async def test() -> None:
        async with voice() as (vendor, tts):
            vendor.header = wav_header(RATE)
            events = [event async for event in tts.speak(given(*PIECES), RATE)]
            assert pcm(events) == counting(0, round(len(TEXT) * CHARACTER * RATE))

    virtual_time.run(test())


def test_a_header_says_the_rate() -> None:
    async def test() -> None:
        async with voice() as (vendor, tts):
            vendor.header = wav_header(48000)
            events = [event async for event in tts.speak(given("Hello."), 24000)]
            assert len(pcm(events)) == round(6 * CHARACTER * RATE)  # half as many samples

    virtual_time.run(test())


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_header_may_come_in_pieces_of_any_size(size: int) -> None:
    whole = wav_header(16000) + counting(0, 500)
    unwrapped = Unwrapped(RATE)
    out = b"".join(unwrapped.push(whole[at : at + size]) for at in range(0, len(whole), size))
    assert (out, unwrapped.rate) == (counting(0, 500), 16000)


def test_samples_that_look_like_a_header_at_first_are_samples() -> None:
    unwrapped = Unwrapped(RATE)
    assert unwrapped.push(b"RI") == b""
    assert unwrapped.push(b"Pxy") == b"RIPxy"
    assert unwrapped.push(b"RIFF") == b"RIFF"
    assert unwrapped.rate == RATE


@pytest.mark.parametrize(
    "head", [wav_header(RATE, channels=2), wav_header(RATE, bits=8), b"RIFF" + bytes(LONGEST_HEADER)]
)
def test_a_header_of_anything_else_is_refused(head: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        Unwrapped(RATE).push(head)


@pytest.mark.parametrize("kind", ["audio/mpeg", "application/json", "text/html; charset=utf-8"])
def test_what_is_no_samples_is_never_played(kind: str) -> None:
    async def test() -> None:
        async with voice() as (vendor, tts):
            vendor.content_type = kind
            with pytest.raises(ProviderError) as caught:
                async for event in tts.speak(given("Hello."), RATE):
                    pytest.fail(f"{event} came")
            assert caught.value.code == "tts-bad-stream" and kind in caught.value.message

    virtual_time.run(test())


def test_an_answer_without_sound_is_a_failure_that_may_be_tried_again() -> None:
    class Mute(OpenAiSpeechServer):
        def pieces(self, request: Any) -> list[bytes]:
            return []

    async def test() -> None:
        async with Mute() as vendor:
            shared = Shared()
            tts = make_tts(TtsSpec("openai", credentials={"apiKey": KEY, "baseURL": f"{vendor.url}/v1"}), shared)
            with pytest.raises(ProviderError) as caught:
                async for _ in tts.speak(given("Hello."), RATE):
                    pass
            assert caught.value.code == "tts-bad-stream" and caught.value.retryable
            await shared.aclose()

    virtual_time.run(test())


def test_the_sound_of_resampled_pieces_goes_on_smoothly() -> None:
    async def test() -> None:
        async with voice() as (_, tts):
            events = [event async for event in tts.speak(given("One long piece, to look at."), 8000)]
            samples = np.frombuffer(pcm(events), "<i2").astype(int)[50:-50]
            assert np.abs(np.diff(samples) - 3).max() <= 1

    virtual_time.run(test())
