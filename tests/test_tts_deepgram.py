"""Deepgram's own: voices' names, flushes and their limit. What it shares with other voices is in test_contract_tts."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.base import Audio, ProviderError, Spoken, TtsSpec
from providers.registry import Shared
from providers.tts.deepgram import FLUSH, Reply, make_tts, to_query
from tests.vendors.canary import canary as canary
from tests.vendors.deepgram_tts import AuraServer
from tests.vendors.rows import KEY
from tests.virtual_time import run


def told(type_: str, **what: Any) -> str:
    return json.dumps({"type": type_, **what})


# To the wire ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voice", "model", "language", "name"),
    [
        (None, "", "en-US", "aura-2-thalia-en"),
        (None, "", "de-DE", "aura-2-thalia-en"),
        (None, "aura-2", "en-US", "aura-2-thalia-en"),
        ("aura-2-orion-en", "", "en-US", "aura-2-orion-en"),
        ("aura-2-orion-en", "aura-2", "en-US", "aura-2-orion-en"),
        ("aura-asteria-en", "", "en-US", "aura-asteria-en"),
        ("celeste", "aura-2", "es-MX", "aura-2-celeste-es"),
        ("celeste", "", "es", "aura-2-celeste-es"),
        (None, "aura-2-zeus-en", "en-US", "aura-2-zeus-en"),
    ],
)
def test_a_voice_is_named_in_whole_or_by_itself(voice: str | None, model: str, language: str, name: str) -> None:
    assert to_query(TtsSpec("deepgram", voice, model, language), 8000)["model"] == name


def test_options_go_out_under_the_vendor_s_names_and_the_sound_is_what_the_call_wants() -> None:
    options = {"speed": 1.2, "mipOptOut": True, "encoding": "mulaw", "sample_rate": 1, "model": "aura-2-zeus-en"}
    assert to_query(TtsSpec("deepgram", options={**options, "tag": None}), 16000) == {
        "speed": "1.2",
        "mip_opt_out": "true",
        "model": "aura-2-zeus-en",
        "encoding": "linear16",
        "sample_rate": 16000,
    }


def test_each_piece_is_flushed_and_said_to_be_spoken_when_that_is_answered() -> None:
    reply = Reply("deepgram", 8000)
    assert reply.piece("Hello, ") == ['{"type": "Speak", "text": "Hello, "}', FLUSH]
    assert reply.heard(b"\1\0\2\0\3") == [Audio(b"\1\0\2\0")]
    assert reply.piece("there.")[1:] == [FLUSH]  # type: ignore[index]
    assert reply.heard(told("Flushed", sequence_id=0)) == [Spoken(7)]
    assert reply.end() == [] and not reply.is_done()
    assert reply.heard(told("Flushed", sequence_id=1)) == [Spoken(13)]
    assert reply.is_done()


def test_of_a_long_reply_more_and_more_is_flushed_at_once() -> None:
    reply = Reply("deepgram", 8000)
    flushed = [at for at in range(200) if FLUSH in reply.piece("x" * 50)]
    assert flushed == [0, 1, 2, 3, 4, 5, 6, 7, 15, 31, 63, 95, 127, 159, 191]
    assert reply.end() == [FLUSH] and reply.end() == []


@pytest.mark.parametrize(
    "message",
    ["{}", told("Metadata", request_id="r"), told("Cleared"), told("Flushed"), told("Warning", code="W"), told("New")],
)
def test_what_says_nothing_of_this_reply_is_skipped(message: str) -> None:
    assert list(Reply("deepgram", 8000).heard(message)) == []


@pytest.mark.parametrize(
    ("message", "code", "retryable"),
    [
        (told("Warning", code="EXCESSIVE_FLUSH", description="wait"), "tts-rate-limited", True),
        (told("Error", code="INTERNAL_SERVER_ERROR", description="it broke"), "tts-server-error", True),
        (told("Error", code="INVALID_AUTHENTICATION", description=KEY), "tts-unauthorized", False),
    ],
)
def test_a_complaint_that_ends_the_reply_is_told_by_its_kind(message: str, code: str, retryable: bool) -> None:
    reply = Reply("deepgram", 8000, (KEY,))
    reply.piece("Hi.")
    with pytest.raises(ProviderError) as caught:
        reply.heard(message)
    assert (caught.value.vendor, caught.value.code, caught.value.retryable) == ("deepgram", code, retryable)


# The vendor -------------------------------------------------------------------------------------------------


def spec(url: str, **options: Any) -> TtsSpec:
    return TtsSpec("deepgram", options=options, credentials={"apiKey": KEY, "url": url})


async def pieces(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


@pytest.mark.parametrize(("replies", "sentences"), [(30, 1), (12, 6), (6, 13), (3, 90)])
def test_no_flush_is_one_too_many(replies: int, sentences: int) -> None:
    async def test() -> None:
        async with AuraServer() as vendor:
            shared = Shared()
            tts = make_tts(spec(vendor.url), shared)
            for _ in range(replies):
                text = ["All is well, and nothing more. "] * sentences
                heard = [event async for event in tts.speak(pieces(*text), 8000)]
                assert heard[-1] == Spoken(len("".join(text)))
            assert vendor.excessive == 0
            assert 1 <= vendor.seen.connections <= 1 + replies * sentences // 8
            await tts.aclose()
            await shared.aclose()

    run(test(), limit=600)


def test_a_call_at_its_ease_keeps_its_socket() -> None:
    async def test() -> None:
        async with AuraServer() as vendor:
            shared = Shared()
            tts = make_tts(spec(vendor.url), shared)
            for _ in range(30):
                async for _ in tts.speak(pieces("Well, ", "that is all. "), 8000):
                    pass
                await asyncio.sleep(20)
                tts.ready()
            assert vendor.seen.connections == 1
            await tts.aclose()
            await shared.aclose()

    run(test(), limit=6000)


def test_the_handshake_names_voice_and_sound() -> None:
    async def test() -> None:
        async with AuraServer() as vendor:
            shared = Shared()
            tts = make_tts(spec(vendor.url, speed=0.9, mipOptOut=True, xNew="a b"), shared)
            await tts.warm()
            async for _ in tts.speak(pieces("Hi."), 24000):
                pass
            (path,), (headers,) = vendor.seen.paths, vendor.seen.headers
            assert urlsplit(path).path == "/v1/speak"
            assert parse_qs(urlsplit(path).query) == {
                "speed": ["0.9"],
                "mip_opt_out": ["true"],
                "x_new": ["a b"],
                "model": ["aura-2-thalia-en"],
                "encoding": ["linear16"],
                "sample_rate": ["24000"],
            }
            assert headers["authorization"] == f"Token {KEY}"
            await tts.aclose()
            await shared.aclose()

    run(test(), limit=600)


@pytest.mark.parametrize(
    ("credentials", "code"),
    [
        ({}, "tts-no-credentials"),
        ({"apiKey": "sk-\nx"}, "tts-bad-credentials"),
        ({"apiKey": "k", "url": "https://api.deepgram.com"}, "tts-bad-url"),
    ],
)
def test_what_is_missing_is_said_when_the_voice_is_made(credentials: dict[str, str], code: str) -> None:
    async def test() -> None:
        shared = Shared()
        with pytest.raises(ProviderError) as caught:
            make_tts(TtsSpec("deepgram", credentials=credentials), shared)
        assert caught.value.code == code
        await shared.aclose()

    run(test())
