"""Cartesia's own: contexts, options, errors. What it shares with other voices is in test_contract_tts."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from providers.base import Audio, ProviderError, Spoken, TtsSpec, Word
from providers.registry import Shared
from providers.scripted import counting
from providers.tts.cartesia import Context, Sdk, make_tts, to_wire
from tests.vendors.canary import canary as canary
from tests.vendors.cartesia import CartesiaServer
from tests.vendors.rows import KEY
from tests.vendors.script import Script
from tests.virtual_time import run

SPEC = TtsSpec("cartesia", "v1")


def asked(message: Any) -> dict[str, Any]:
    return dict(json.loads(message))


def told(context: Context, type_: str, **what: Any) -> str:
    return json.dumps({"type": type_, "context_id": context._name, "done": False, "status_code": 206, **what})


def begun(text: str = "Hello there. ", rate: int = 8000) -> Context:
    context = Context(SPEC, rate)
    context.piece(text)
    return context


CHUNK = {"data": "AQACAAMA", "step_time": 1.0}  # three samples


# To the wire ------------------------------------------------------------------------------------------------


def test_every_message_of_a_reply_says_all_of_it_but_for_its_text() -> None:
    context = Context(TtsSpec("cartesia", "v1", "sonic-3.5", "de-CH"), 8000)
    (first,), (second,), (end,) = context.piece("Grüezi, "), context.piece("wie geht es?"), context.end()
    assert asked(first) == {
        "model_id": "sonic-3.5",
        "language": "de",
        "voice": {"mode": "id", "id": "v1"},
        "add_timestamps": True,
        "use_normalized_timestamps": False,
        "max_buffer_delay_ms": 0,
        "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": 8000},
        "context_id": asked(second)["context_id"],
        "transcript": "Grüezi, ",
        "continue": True,
    }
    assert asked(second) == {**asked(first), "transcript": "wie geht es?"}
    assert asked(end) == {**asked(first), "transcript": "", "continue": False}


@pytest.mark.parametrize(
    ("options", "wire"),
    [
        ({}, {}),
        ({"speed": 1.1, "emotion": "calm"}, {"generation_config": {"speed": 1.1, "emotion": "calm"}}),
        ({"speed": "slow"}, {"speed": "slow"}),
        ({"generationConfig": {"speed": 0.9}, "volume": 1.5}, {"generation_config": {"volume": 1.5, "speed": 0.9}}),
        ({"maxBufferDelayMs": 120}, {"max_buffer_delay_ms": 120}),
        ({"pronunciationDictId": "d", "x_new": [1]}, {"pronunciation_dict_id": "d", "x_new": [1]}),
        ({"model": "sonic-2", "language": "fr"}, {"model_id": "sonic-2", "language": "fr"}),
        ({"output_format": {"encoding": "pcm_mulaw"}}, {}),
    ],
)
def test_options_go_where_the_vendor_looks_for_them(options: dict[str, Any], wire: dict[str, Any]) -> None:
    assert to_wire(TtsSpec("cartesia", "v1", options=options), 16000) == {**to_wire(SPEC, 16000), **wire}


def test_the_model_of_the_spec_wins_and_there_is_a_voice_by_default() -> None:
    wire = to_wire(TtsSpec("cartesia", model="sonic-3", options={"model": "sonic-2"}), 8000)
    assert wire["model_id"] == "sonic-3" and wire["voice"]["id"]


# From the wire ----------------------------------------------------------------------------------------------


def test_words_are_placed_in_the_text_though_they_are_told_otherwise() -> None:
    context = begun("It costs $25, doesn't it?")
    times = {"words": ["It", "costs", "twenty", "five", "doesn't", "it"], "start": [0.0, 0.2, 0.5, 0.8, 1.0, 1.4]}
    assert context.heard(told(context, "timestamps", word_timestamps=times)) == [
        Word(2, 0.0),
        Word(8, 0.2),
        Word(13, 0.5),
        Word(21, 1.0),
        Word(25, 1.4),
    ]


def test_a_flush_says_which_piece_was_spoken_and_the_end_says_all() -> None:
    context = begun("Hello, ")
    context.piece("there.")
    assert context.heard(told(context, "flush_done", flush_id=1, flush_done=True)) == [Spoken(7)]
    assert context.heard(told(context, "flush_done", flush_id=7)) == []
    assert context.heard(told(context, "flush_done")) == []
    context.end()
    assert not context.is_done()
    assert context.heard(told(context, "done", done=True)) == [Spoken(13)]
    assert context.is_done() and context.cancel() == []


def test_a_context_that_expired_while_the_model_was_silent_is_followed_by_another() -> None:
    context = begun("Let me see. ")
    first = context._name
    assert context.heard(told(context, "chunk", **CHUNK)) == [Audio(b"\1\0\2\0\3\0")]
    assert context.heard(told(context, "done", done=True)) == [Spoken(12)]
    assert not context.is_done()
    (message,) = context.piece("It rains.")
    assert asked(message)["context_id"] not in ("", first)
    times = {"words": ["It", "rains."], "start": [0.0, 0.25]}
    assert context.heard(told(context, "timestamps", word_timestamps=times)) == [
        Word(14, 3 / 8000),
        Word(21, 0.25 + 3 / 8000),
    ]
    assert context.heard(told(context, "flush_done", flush_id=1)) == [Spoken(21)]


def test_what_is_of_another_context_is_nobody_s() -> None:
    context = begun()
    for type_ in ("chunk", "done", "error", "timestamps", "flush_done"):
        assert context.heard(told(context, type_, **CHUNK).replace(context._name, "another")) == []
    context.end()
    assert not context.is_done()


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ({"status_code": 429, "title": "Too many", "message": "concurrency limit"}, "tts-rate-limited", True),
        ({"status_code": 402, "title": "Quota", "message": "out of credits"}, "tts-quota-exceeded", False),
        ({"status_code": 404, "error_code": "voice_not_found"}, "tts-not-found", False),
        ({"status_code": 400, "title": "Bad", "message": "no such model"}, "tts-bad-request", False),
        ({"status_code": 401}, "tts-unauthorized", False),
        ({"status_code": 500, "title": "Internal"}, "tts-server-error", True),
        ({"error": "it broke"}, "tts-server-error", True),
    ],
)
@pytest.mark.parametrize("is_named", [True, False])
def test_an_error_of_this_context_or_of_none_is_told_by_its_kind(
    error: dict[str, Any], code: str, retryable: bool, is_named: bool
) -> None:
    context = begun()
    message = json.dumps(
        {"type": "error", "done": True, **error, **({"context_id": context._name} if is_named else {})}
    )
    with pytest.raises(ProviderError) as caught:
        context.heard(message)
    assert (caught.value.vendor, caught.value.code, caught.value.retryable) == ("cartesia", code, retryable)


def test_an_error_that_quotes_the_key_is_told_without_it() -> None:
    context = Context(SPEC, 8000, (KEY,))
    context.piece("Hi.")
    with pytest.raises(ProviderError, match=r"Bad key: \[redacted\]"):
        context.heard(told(context, "error", title="Bad key", message=KEY, status_code=401))


def test_sound_that_is_no_base64_is_a_bad_stream() -> None:
    context = begun()
    with pytest.raises(ProviderError) as caught:
        context.heard(told(context, "chunk", data="é"))
    assert (caught.value.code, caught.value.retryable) == ("tts-bad-stream", True)


@pytest.mark.parametrize(
    "message", ["{}", "[]", '{"type":"chunk"}', '{"type":"phoneme_timestamps"}', "null", '{"type":"timestamps"}']
)
def test_what_says_nothing_is_skipped(message: str) -> None:
    context = begun()
    assert context.heard(message) == []
    if message.startswith('{"type"'):
        assert context.heard(json.dumps({**json.loads(message), "context_id": context._name})) == []


# The vendor -------------------------------------------------------------------------------------------------


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


def spec(url: str, **options: Any) -> TtsSpec:
    return TtsSpec("cartesia", "v1", options=options, credentials={"apiKey": KEY, "url": url})


def test_the_replies_of_a_call_share_a_socket_even_when_one_is_cancelled() -> None:
    async def test() -> None:
        async with CartesiaServer(Script(gap=0.05)) as vendor:
            shared = Shared()
            tts = make_tts(spec(vendor.url), shared)
            for _ in range(3):
                async with aclosing(tts.speak(pieces("A long one. " * 9, "Another. "), 16000)) as events:  # type: ignore[type-var]
                    async for event in events:
                        if isinstance(event, Audio):
                            break
                heard = [event async for event in tts.speak(pieces("Short."), 16000)]
                assert b"".join(each.pcm for each in heard if isinstance(each, Audio)) == counting(0, 1920)
            messages = [message for message in vendor.seen.requests if isinstance(message, dict)]
            cancelled = [message["context_id"] for message in messages if message.get("cancel")]
            assert len(set(cancelled)) == 3
            assert len({message["context_id"] for message in messages}) == 6
            assert vendor.seen.connections == 1
            await tts.aclose()
            await shared.aclose()

    run(test(), limit=600)


def test_what_a_cancelled_reply_had_begun_may_come_to_its_end_while_nobody_speaks() -> None:
    async def test() -> None:
        async with CartesiaServer() as vendor:
            shared = Shared()
            tts = make_tts(spec(vendor.url), shared)
            async with aclosing(tts.speak(pieces("word " * 3000), 48000)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Audio):
                        break
            await asyncio.sleep(200)  # pings would go unanswered behind five minutes of sound
            heard = [event async for event in tts.speak(pieces("Short."), 48000)]
            assert heard[-1] == Spoken(6) and vendor.seen.connections == 1
            await tts.aclose()
            await shared.aclose()

    run(test(), limit=600)


def test_the_handshake_carries_key_and_version() -> None:
    async def test() -> None:
        async with CartesiaServer() as vendor:
            shared = Shared()
            tts = make_tts(spec(vendor.url + "/"), shared)
            await tts.warm()
            async for _ in tts.speak(pieces("Hi."), 16000):
                pass
            assert vendor.seen.paths == ["/tts/websocket"]
            (headers,) = vendor.seen.headers
            assert headers["authorization"] == f"Bearer {KEY}" and headers["cartesia-version"]
            await tts.aclose()
            await shared.aclose()

    run(test(), limit=600)


def test_the_calls_of_a_server_share_the_sdk_s_client() -> None:
    async def test() -> None:
        shared = Shared()
        first, second = (make_tts(spec("ws://127.0.0.1:9"), shared) for _ in range(2))
        other = make_tts(spec("ws://127.0.0.1:10"), shared)
        assert first._client is second._client is not other._client
        assert first._client._client is other._client._client is shared.get("cartesia", Sdk)._http
        await shared.aclose()

    run(test())


@pytest.mark.parametrize(
    ("credentials", "code", "message"),
    [
        ({}, "tts-no-credentials", "credentials.cartesia.apiKey"),
        ({"apiKey": " "}, "tts-no-credentials", "CARTESIA_API_KEY"),
        ({"apiKey": "sk-\nx"}, "tts-bad-credentials", "plain ASCII"),
        ({"apiKey": "schlüssel"}, "tts-bad-credentials", "plain ASCII"),
        ({"apiKey": "k", "url": "https://api.cartesia.ai"}, "tts-bad-url", "to begin with ws"),
        ({"apiKey": "k", "url": "wss://"}, "tts-bad-url", "to begin with ws"),
    ],
)
def test_what_is_missing_is_said_when_the_voice_is_made(credentials: dict[str, str], code: str, message: str) -> None:
    async def test() -> None:
        shared = Shared()
        with pytest.raises(ProviderError, match=message) as caught:
            make_tts(TtsSpec("cartesia", credentials=credentials), shared)
        assert caught.value.code == code
        await shared.aclose()

    run(test())
