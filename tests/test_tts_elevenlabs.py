"""ElevenLabs: contexts on one socket, characters with their times, an end that has to be asked for."""

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
from providers.tts.elevenlabs import SOUND, Context, _until_it_sounds, kind_of_error, make_tts, of_a_context, to_url
from tests import virtual_time
from tests.vendors.elevenlabs_tts import ElevenLabsServer
from tests.vendors.rows import CHARACTER, KEY
from tests.vendors.script import Script

RATE = 16000


def spec(url: str = "", **fields: Any) -> TtsSpec:
    return TtsSpec("elevenlabs", credentials={"apiKey": KEY, "url": url}, **fields)


def query(spec: TtsSpec, rate: int = RATE) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(to_url(spec, rate)).query).items()}


async def given(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def said(vendor: ElevenLabsServer, *pieces: str, rate: int = RATE, **fields: Any) -> list[TtsEvent]:
    tts = make_tts(spec(vendor.url, **fields), Shared())
    try:
        return [event async for event in tts.speak(given(*pieces), rate)]
    finally:
        await tts.aclose()


def pcm(events: list[TtsEvent]) -> bytes:
    return b"".join(event.pcm for event in events if isinstance(event, Audio))


def context(wanted: int = RATE) -> Context:
    return Context("reply-1", "elevenlabs", {}, RATE, wanted)


def audio(seconds: float, chars: str = "", starts: tuple[float, ...] = (), **fields: Any) -> str:
    times = {"chars": list(chars), "charStartTimesMs": [int(1000 * at) for at in starts]} if chars else None
    sound = base64.b64encode(bytes(2 * int(seconds * RATE))).decode()
    return json.dumps({"audio": sound, "alignment": times, "isFinal": None, "contextId": "reply-1", **fields})


# To the wire ------------------------------------------------------------------------------------------------


def test_the_voice_and_the_form_of_the_sound_stand_in_the_address() -> None:
    url = to_url(spec(voice="a/b"), 8000)
    assert url.startswith("wss://api.elevenlabs.io/v1/text-to-speech/a%2Fb/multi-stream-input?")
    assert KEY not in url
    assert query(spec(language="de-DE"), 8000) == {
        "model_id": "eleven_flash_v2_5",
        "output_format": "pcm_8000",
        "language_code": "de",
        "auto_mode": "true",
        "sync_alignment": "true",
        "inactivity_timeout": "180",
    }


def test_a_model_that_knows_no_language_codes_gets_none() -> None:
    assert "language_code" not in query(spec(model="eleven_multilingual_v2"))


def test_options_of_the_voice_go_into_the_first_message_and_others_into_the_address() -> None:
    options = {
        "stability": 0.4,
        "voice_settings": {"similarityBoost": 0.8, "stability": 0.1},
        "useSpeakerBoost": True,
        "chunk_length_schedule": [50, 90],
        "optimize_streaming_latency": 2,
        "applyTextNormalization": "on",
        "auto_mode": False,
        "model_id": "eleven_turbo_v2_5",
        "output_format": "mp3_44100",
    }
    assert of_a_context(spec(options=options)) == {
        "voice_settings": {"similarity_boost": 0.8, "stability": 0.4, "use_speaker_boost": True},
        "generation_config": {"chunk_length_schedule": [50, 90]},
    }
    found = query(spec(options=options))
    assert found["optimize_streaming_latency"] == "2" and found["apply_text_normalization"] == "on"
    assert (found["auto_mode"], found["model_id"]) == ("false", "eleven_turbo_v2_5")
    assert found["output_format"] == f"pcm_{RATE}"  # what we can play
    assert not {"stability", "voice_settings", "use_speaker_boost"} & found.keys()
    assert query(spec(model="eleven_flash_v2", options=options))["model_id"] == "eleven_flash_v2"


@pytest.mark.parametrize(("key", "code"), [("", "tts-no-credentials"), ("ключ", "tts-bad-credentials")])
def test_a_key_that_cannot_be_is_refused_at_once(key: str, code: str) -> None:
    with pytest.raises(ProviderError) as caught:
        make_tts(TtsSpec("elevenlabs", credentials={"apiKey": key}), Shared())
    assert caught.value.code == code


def test_each_reply_is_a_context_and_each_piece_is_flushed() -> None:
    async def test() -> None:
        async with ElevenLabsServer() as vendor:
            tts = make_tts(spec(vendor.url, options={"stability": 0.5}), Shared())
            for _ in range(2):
                async for _event in tts.speak(given("Well, ", "hello."), RATE):
                    pass
            await tts.aclose()
            first = {"text": " ", "voice_settings": {"stability": 0.5}}
            assert vendor.seen.requests == [
                {**message, "context_id": name}
                for name in ("reply-1", "reply-2")
                for message in (
                    first,
                    {"text": "Well, ", "flush": True},
                    {"text": "hello.", "flush": True},
                    {"close_context": True},
                )
            ]
            assert vendor.seen.connections == 1
            assert vendor.seen.headers[0]["xi-api-key"] == KEY

    virtual_time.run(test())


def test_a_rate_that_it_has_not_is_made_of_the_highest() -> None:
    async def test() -> None:
        async with ElevenLabsServer() as vendor:
            events = await said(vendor, "Hello there.", rate=48000)
            assert "output_format=pcm_24000" in vendor.seen.paths[0]
            assert len(pcm(events)) == 2 * round(12 * CHARACTER * 48000)

    virtual_time.run(test())


# The end ----------------------------------------------------------------------------------------------------


def test_a_context_is_not_closed_before_its_last_piece_sounds() -> None:
    """Else the vendor may throw it away unspoken."""

    async def test() -> None:
        async with ElevenLabsServer() as vendor:
            vendor.settles = 0.4
            assert pcm(await said(vendor, "Hi.")) == counting(0, round(3 * CHARACTER * RATE))

    virtual_time.run(test())


def test_a_last_piece_that_never_sounds_is_not_waited_for_long() -> None:
    async def test() -> None:
        silent = context()
        assert [piece async for piece in _until_it_sounds(given("a", "b"), silent)] == ["a", "b"]
        assert asyncio.get_running_loop().time() == SOUND
        assert [piece async for piece in _until_it_sounds(given(), silent)] == []
        assert asyncio.get_running_loop().time() == SOUND

    virtual_time.run(test())


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_context_that_ends_unspoken_or_too_early_is_a_failure_that_may_be_tried_again(has_ended: bool) -> None:
    reply = context()
    list(reply.piece("Hello."))
    if has_ended:
        list(reply.end())
    else:
        list(reply.heard(audio(0.1)))
    with pytest.raises(ProviderError) as caught:
        list(reply.heard(json.dumps({"isFinal": True, "contextId": "reply-1"})))
    assert caught.value.code == "tts-bad-stream" and caught.value.retryable


# Words ------------------------------------------------------------------------------------------------------


def test_times_count_from_the_message_that_they_come_in() -> None:
    reply = context()
    list(reply.piece("Hi, you there"))
    assert list(reply.heard(audio(0.5, " Hi, y", (0.0, 0.0, 0.1, 0.2, 0.3, 0.4))))[:2] == [Word(3, 0.0), Word(7, 0.4)]
    assert next(iter(reply.heard(audio(0.5, "ou there", (0.0, 0.1, 0.2, 0.25, 0.3, 0.3, 0.3, 0.3))))) == Word(13, 0.75)


def test_a_piece_ends_where_the_next_one_begins_to_sound() -> None:
    reply = context()
    list(reply.piece("Hi. "))
    list(reply.piece("You."))
    events = list(reply.heard(audio(0.6, "Hi. You.", (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5))))
    assert [len(event.pcm) / 2 / RATE if isinstance(event, Audio) else event for event in events] == [
        Word(3, 0.0),
        Word(8, 0.25),
        0.25,
        Spoken(4),
        0.35,
    ]


def test_times_of_a_whole_sentence_in_its_first_message_end_no_piece_too_early() -> None:
    reply = context()
    list(reply.piece("Hi. "))
    list(reply.piece("You."))
    starts = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    assert not any(isinstance(event, Spoken) for event in reply.heard(audio(0.1, "Hi. You.", starts)))
    events = list(reply.heard(audio(0.5)))
    assert [type(event) for event in events] == [Audio, Spoken, Audio] and events[1] == Spoken(4)


@pytest.mark.parametrize("field", ["normalizedAlignment", None])
def test_a_reply_is_whole_with_other_times_and_without_any(field: str | None) -> None:
    async def test() -> None:
        async with ElevenLabsServer() as vendor:
            vendor.aligned = field
            events = await said(vendor, "Well, ", "hello.")
            assert pcm(events) == counting(0, round(12 * CHARACTER * RATE))
            words = [Word(5, 0.0), Word(12, 0.12)] if field else []
            assert [event for event in events if isinstance(event, Word)] == words
            assert events[-1] == Spoken(12)

    virtual_time.run(test())


# Cancelling -------------------------------------------------------------------------------------------------


def test_a_cancelled_reply_leaves_its_socket_and_none_of_its_sound_to_the_next() -> None:
    async def test() -> None:
        async with ElevenLabsServer(Script(gap=0.05)) as vendor:
            tts = make_tts(spec(vendor.url), Shared())
            for _ in range(7):  # more than the contexts that it holds at once
                async with aclosing(tts.speak(given("I was going to say something long. "), RATE)) as events:
                    async for event in events:
                        if isinstance(event, Audio):
                            break
                await asyncio.sleep(0.2)
            after = [event async for event in tts.speak(given("Yes."), RATE)]
            assert pcm(after) == counting(0, round(4 * CHARACTER * RATE))
            assert vendor.seen.connections == 1
            await tts.aclose()

    virtual_time.run(test())


def test_a_context_that_was_never_opened_is_not_closed() -> None:
    """The vendor would open it for that, and has only five."""
    reply = context()
    assert list(reply.cancel()) == []
    list(reply.piece("Hello."))
    assert [json.loads(message) for message in reply.cancel()] == [{"close_context": True, "context_id": "reply-1"}]
    list(reply.end())
    assert list(reply.cancel()) == []


# Errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "code", "retryable"),
    [
        ({"error": "quota_exceeded", "message": "This request exceeds your quota"}, "quota-exceeded", False),
        ({"error": "invalid_api_key", "message": "Invalid API key"}, "unauthorized", False),
        ({"error": "max_active_conversations", "code": 1008, "message": "Maximum"}, "rate-limited", True),
        ({"error": "input_timeout_exceeded", "message": "No input"}, "timeout", True),
        ({"error": "voice_id_does_not_exist", "message": "A voice"}, "not-found", False),
        ({"error": "invalid_text", "message": "no"}, "bad-request", False),
        ({"message": "something went wrong"}, "server-error", True),
    ],
)
def test_errors_in_the_stream_say_what_kind_they_are(told: dict[str, Any], code: str, retryable: bool) -> None:
    with pytest.raises(ProviderError) as caught:
        list(context().heard(json.dumps(told)))
    assert (caught.value.code, caught.value.retryable) == (f"tts-{code}", retryable)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("This request exceeds your quota of 10000.", "tts-quota-exceeded"),
        ("Maximum simultaneous contexts per WebSocket connection exceeded (5).", "tts-rate-limited"),
        ("Have not received a new text input within the timeout of 20 seconds.", "tts-timeout"),
        ("We are sorry, something went wrong.", "tts-server-error"),
        ("Invalid API key", "tts-unauthorized"),
    ],
)
def test_a_close_is_told_by_its_reason_because_its_code_is_always_the_same(reason: str, code: str) -> None:
    class Closing(ElevenLabsServer):
        async def talk(self, socket: Any) -> None:
            await self.read(socket)
            await socket.close(1008, reason)

    async def test() -> None:
        async with Closing() as vendor:
            with pytest.raises(ProviderError) as caught:
                await said(vendor, "Hello.")
            assert caught.value.code == code and reason in caught.value.message

    virtual_time.run(test())


def test_words_of_errors_that_nobody_knows_are_taken_for_the_vendors_fault() -> None:
    assert kind_of_error("no idea") == "server-error"
    assert kind_of_error("rate_limit_exceeded") == "rate-limited"


def test_sound_that_is_none_is_a_failure() -> None:
    with pytest.raises(ProviderError) as caught:
        list(context().heard(json.dumps({"audio": "A", "contextId": "reply-1"})))
    assert caught.value.code == "tts-bad-stream"
