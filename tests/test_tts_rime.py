"""Rime: one synthesis at a time, told apart by contexts, each with word times of its own."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.base import Audio, ProviderError, Spoken, TtsEvent, TtsSpec, Word
from providers.registry import Shared
from providers.scripted import counting
from providers.tts.rime import AHEAD, LONGEST, Reply, make_tts, to_url
from tests import virtual_time
from tests.vendors.rime import RimeServer
from tests.vendors.rows import CHARACTER, KEY
from tests.vendors.script import Script

RATE = 16000
PIECES = ("One, ", "two and three. ", "Four. ", "Five.")
TEXT = "".join(PIECES)


def spec(url: str = "", **fields: Any) -> TtsSpec:
    return TtsSpec("rime", credentials={"apiKey": KEY, "url": url}, **fields)


def query(spec: TtsSpec, rate: int = RATE) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(to_url(spec, rate)).query).items()}


async def given(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def said(vendor: RimeServer, *pieces: str) -> list[TtsEvent]:
    tts = make_tts(spec(vendor.url), Shared())
    try:
        return [event async for event in tts.speak(given(*pieces), RATE)]
    finally:
        await tts.aclose()


def pcm(events: list[TtsEvent]) -> bytes:
    return b"".join(event.pcm for event in events if isinstance(event, Audio))


def reply(*pieces: str) -> Reply:
    made = Reply("r", "rime", RATE)
    for piece in pieces:
        list(made.piece(piece))
    return made


def told(kind: str, context: str | None, **fields: Any) -> str:
    return json.dumps({"type": kind, "contextId": context, **fields})


def chunk(context: str | None, seconds: float = 0.1) -> str:
    return told("chunk", context, data=base64.b64encode(bytes(2 * int(seconds * RATE))).decode())


# To the wire ------------------------------------------------------------------------------------------------


def test_everything_about_the_voice_stands_in_the_address() -> None:
    assert to_url(spec(), RATE).startswith("wss://users-ws.rime.ai/ws3?")
    assert query(spec(language="es-MX"), 8000) == {
        "speaker": "cove",
        "modelId": "mistv3",
        "lang": "spa",
        "audioFormat": "pcm",
        "samplingRate": "8000",
        "segment": "never",
    }


def test_options_go_out_under_their_own_names_and_never_spoil_the_form_of_the_sound() -> None:
    options = {"speedAlpha": 0.9, "reduceLatency": True, "model": "arcana", "audioFormat": "mp3", "top_p": 0.5}
    found = query(spec(voice="luna", options=options))
    assert (found["speedAlpha"], found["reduceLatency"], found["top_p"]) == ("0.9", "true", "0.5")
    assert (found["modelId"], found["speaker"], found["audioFormat"]) == ("arcana", "luna", "pcm")
    assert query(spec(model="coda", options=options))["modelId"] == "coda"
    assert query(spec(options={"lang": "jpn"}))["lang"] == "jpn"


def test_an_address_with_a_path_of_its_own_keeps_it() -> None:
    assert to_url(spec("wss://rime.internal/v2/ws3"), RATE).startswith("wss://rime.internal/v2/ws3?")


@pytest.mark.parametrize(("key", "code"), [("", "tts-no-credentials"), ("ключ", "tts-bad-credentials")])
def test_a_key_that_cannot_be_is_refused_at_once(key: str, code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        make_tts(TtsSpec("rime", credentials={"apiKey": key}), Shared())
    assert caught.value.code == code


def test_each_piece_is_a_context_and_flushed() -> None:
    async def test() -> None:
        async with RimeServer() as vendor:
            await said(vendor, "One, ", "two.")
            assert vendor.seen.requests == [
                {"text": "One, ", "contextId": "reply-1.1"},
                {"operation": "flush"},
                {"text": "two.", "contextId": "reply-1.2"},
                {"operation": "flush"},
            ]
            assert vendor.seen.headers[0]["authorization"] == f"Bearer {KEY}"

    virtual_time.run(test())


def test_a_long_piece_is_cut_at_a_space() -> None:
    text = "word " * 300

    async def test() -> None:
        async with RimeServer() as vendor:
            events = await said(vendor, text)
            assert pcm(events) == counting(0, round(len(text) * CHARACTER * RATE))
            assert all(len(part) <= LONGEST and part.endswith("word ") for part in vendor.syntheses)
            assert "".join(vendor.syntheses) == text

    virtual_time.run(test())


# One after the other ----------------------------------------------------------------------------------------


def test_it_has_at_most_one_piece_waiting_and_speaks_each_by_itself() -> None:
    """It would make one of several, and say only once that it is done."""

    async def test() -> None:
        async with RimeServer(Script(gap=0.05)) as vendor:
            tts = make_tts(spec(vendor.url), Shared())
            most = 0
            async with aclosing(tts.speak(given(*PIECES), RATE)) as events:
                spoken = 0
                async for event in events:
                    spoken += isinstance(event, Spoken)
                    texts = sum("text" in message for message in vendor.seen.requests)  # type: ignore[operator]
                    most = max(most, texts - spoken)
            assert most == AHEAD
            assert vendor.syntheses == list(PIECES)
            await tts.aclose()

    virtual_time.run(test())


def test_pieces_that_it_joins_are_spoken_when_the_last_of_them_is() -> None:
    joined = reply("One, ", "two.")
    list(joined.end())
    events = [*joined.heard(chunk("r.2")), *joined.heard(told("done", "r.2"))]
    assert [event if isinstance(event, Spoken) else type(event) for event in events] == [Audio, Spoken(9)]
    assert joined.is_done() and not joined.room.locked()


def test_a_piece_whose_end_was_not_told_has_ended_when_the_next_one_sounds() -> None:
    hurried = reply("One, ", "two.")
    list(hurried.heard(chunk("r.1")))
    assert next(iter(hurried.heard(chunk("r.2")))) == Spoken(5)


def test_it_need_not_name_contexts() -> None:
    async def test() -> None:
        async with RimeServer() as vendor:
            vendor.has_contexts = False
            events = await said(vendor, *PIECES)
            assert pcm(events) == counting(0, round(len(TEXT) * CHARACTER * RATE))
            assert [event.end for event in events if isinstance(event, Spoken)] == [5, 20, 26, 31]

    virtual_time.run(test())


def test_what_belongs_to_no_text_of_this_reply_is_nothing() -> None:
    quiet = reply("One.")
    for context in ("old.1", "r.2"):
        for message in (chunk(context), told("done", context)):
            assert list(quiet.heard(message)) == []
    assert list(quiet.heard(told("something new", "r.1"))) == []


def test_a_text_that_is_done_without_a_sound_is_a_failure() -> None:
    with pytest.raises(ProviderError) as caught:
        list(reply("One.").heard(told("done", "r.1")))
    assert caught.value.code == "tts-bad-stream" and caught.value.retryable


# Words ------------------------------------------------------------------------------------------------------


def test_word_times_of_each_piece_become_those_of_the_reply() -> None:
    both = reply("One, ", "two three.")
    times = {"words": ["One", ","], "start": [0.1, 0.3], "end": [0.3, 0.4]}
    assert list(both.heard(told("timestamps", "r.1", word_timestamps=times))) == [Word(4, 0.1)]
    list(both.heard(chunk("r.1", 0.5)))
    list(both.heard(told("done", "r.1")))
    times = {"words": ["two", "three."], "start": [0, 0.2], "end": [0.2, 0.4]}
    assert list(both.heard(told("timestamps", "r.2", word_timestamps=times))) == [Word(8, 0.5), Word(15, 0.7)]


def test_a_language_without_word_times_is_spoken_all_the_same() -> None:
    async def test() -> None:
        async with RimeServer() as vendor:
            vendor.has_times = False
            events = await said(vendor, "Eins, ", "zwei.")
            assert [event for event in events if not isinstance(event, Audio)] == [Spoken(6), Spoken(11)]

    virtual_time.run(test())


# Cancelling and errors --------------------------------------------------------------------------------------


def test_cancelling_clears_what_waits_and_hangs_up_because_it_stops_nothing_else() -> None:
    async def test() -> None:
        async with RimeServer(Script(gap=0.05)) as vendor:
            tts = make_tts(spec(vendor.url), Shared())
            async with aclosing(tts.speak(given(*PIECES), RATE)) as events:
                async for event in events:
                    if isinstance(event, Audio):
                        break
            old = vendor.socket
            assert old is not None
            await old.wait_closed()
            assert vendor.seen.requests[-1] == {"operation": "clear"}
            await asyncio.sleep(0.1)
            assert vendor.seen.connections == 2  # the next reply's
            await tts.aclose()

    virtual_time.run(test())


@pytest.mark.parametrize(
    ("message", "code"), [("Speaker not found", "tts-not-found"), ("it broke", "tts-server-error")]
)
def test_errors_say_what_kind_they_are(message: str, code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        list(reply("One.").heard(json.dumps({"type": "error", "message": message})))
    assert caught.value.code == code
