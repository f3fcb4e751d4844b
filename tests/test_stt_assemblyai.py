"""AssemblyAI beyond what the contract asks of every recogniser: its query, its turns, its lengths of audio."""

import asyncio
import json
import logging
from contextlib import aclosing
from typing import Any

import pytest

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.registry import Shared
from providers.stt.assemblyai import ERRORS, Turns, make_stt, to_wire
from tests import virtual_time
from tests.vendors.assemblyai import AssemblyAiServer
from tests.vendors.canary import canary as canary
from tests.vendors.rows import KEY

MS = 32  # bytes of a millisecond at 16 kHz


def spec(url: str = "ws://127.0.0.1:9", **fields: Any) -> SttSpec:
    return SttSpec("assemblyai", credentials={"apiKey": KEY, "url": url}, **fields)


def turns(**fields: Any) -> Turns:
    asked = spec(**fields)
    return Turns(asked, to_wire(asked))


def turn(order: int, text: str, **more: Any) -> str:
    words = [{"text": word, "confidence": 0.5 + 0.25 * at} for at, word in enumerate(text.split())]
    said = {"type": "Turn", "turn_order": order, "end_of_turn": False, "turn_is_formatted": False, "transcript": text}
    return json.dumps({**said, "words": words, **more})


# To the wire --------------------------------------------------------------------------------------------------


def test_what_is_asked_for_by_default() -> None:
    assert to_wire(spec(rate=8000, language="de-CH")) == {
        "speech_model": "u3-rt-pro",
        "sample_rate": 8000,
        "encoding": "pcm_s16le",
        "language_codes": ["de"],
    }


def test_options_go_out_in_the_vendors_own_words() -> None:
    options = {
        "apiKey": "k",
        "serviceVersion": "v3",
        "speechModel": "universal-3-5-pro",
        "formatTurns": False,
        "endOfTurnConfidenceThreshold": 0.5,
        "minEndOfTurnSilenceWhenConfident": 160,
        "maxTurnSilence": 900,
        "keyterms": ["agentd"],
        "prompt": "an order",
        "languageDetection": True,
        "vadThreshold": 0.4,
        "inactivityTimeout": 60,
        "voiceFocus": "near-field",  # one that we do not know
    }
    assert to_wire(spec(options=options, hints=("jambonz", "agentd"))) == {
        "speech_model": "universal-3-5-pro",
        "sample_rate": 16000,
        "encoding": "pcm_s16le",
        "keyterms_prompt": ["agentd", "jambonz"],
        "language_codes": ["en"],
        "language_detection": True,
        "format_turns": False,
        "end_of_turn_confidence_threshold": 0.5,
        "min_turn_silence": 160,
        "max_turn_silence": 900,
        "prompt": "an order",
        "vad_threshold": 0.4,
        "inactivity_timeout": 60,
        "voice_focus": "near-field",
    }


def test_the_new_name_of_an_option_wins_over_the_old_one() -> None:
    for options in (
        {"minTurnSilence": 200, "minEndOfTurnSilenceWhenConfident": 160},
        {"minEndOfTurnSilenceWhenConfident": 160, "minTurnSilence": 200},
    ):
        assert to_wire(spec(options=options))["min_turn_silence"] == 200


def test_the_model_of_the_spec_wins_and_one_that_knows_only_english_is_told_no_language() -> None:
    wire = to_wire(spec(model="universal-streaming-english", options={"speechModel": "u3-rt-pro"}, languages=("es",)))
    assert wire == {"speech_model": "universal-streaming-english", "sample_rate": 16000, "encoding": "pcm_s16le"}


def test_hints_that_would_have_the_request_refused_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    wire = to_wire(spec(hints=("x" * 51, *(f"term {number}" for number in range(120)))))
    assert wire["keyterms_prompt"] == [f"term {number}" for number in range(100)]
    assert "more or longer hints" in caplog.text


def test_the_url_says_it_as_the_vendor_reads_it() -> None:
    async def test() -> None:
        async with AssemblyAiServer() as vendor:
            options = {"formatTurns": False, "vadThreshold": 0.4}
            feed = AudioFeed(8000)
            feed.close()
            asked = spec(vendor.url, rate=8000, languages=("es-ES",), hints=("a & b", "Ä"), options=options)
            assert [event async for event in make_stt(asked, Shared()).listen(feed)] == []
            assert vendor.query() == {
                "speech_model": "u3-rt-pro",
                "sample_rate": "8000",
                "encoding": "pcm_s16le",
                "keyterms_prompt": '["a & b", "Ä"]',
                "language_codes": '["en", "es"]',
                "language_detection": "true",
                "format_turns": "false",
                "vad_threshold": "0.4",
            }
            assert vendor.seen.headers[0]["authorization"] == KEY
            assert vendor.seen.requests == [{"type": "Terminate"}]

    virtual_time.run(test())


def test_service_version_v2_is_told_to_be_no_more(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make_stt(spec(options={"serviceVersion": "v2"}), Shared())
    assert "v3 is used" in caplog.text


# Audio --------------------------------------------------------------------------------------------------------


def test_audio_goes_out_in_pieces_of_50_ms() -> None:
    session, frame = turns(), bytes(20 * MS)
    assert [list(session.take(frame)) for _ in range(5)] == [
        [],
        [],
        [bytes(50 * MS)],
        [],
        [bytes(50 * MS)],
    ]


def test_audio_that_has_gathered_goes_out_in_pieces_of_a_second() -> None:
    pcm = bytes(range(256)) * (2310 * MS // 256 + 1)
    session = turns()
    *sent, goodbye = [*session.take(pcm[: 2310 * MS]), *session.end()]
    audio = [piece for piece in sent if isinstance(piece, bytes)]
    assert [len(piece) // MS for piece in audio] == [1000, 1000, 300, 50]
    assert b"".join(audio) == pcm[: 2310 * MS] + bytes(40 * MS)  # the last one is made long enough
    assert goodbye == '{"type": "Terminate"}'


@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_vendor_is_never_sent_too_much_or_too_little(rate: int) -> None:
    async def test() -> None:
        async with AssemblyAiServer() as vendor:
            vendor.hears = ["Hello there."]
            feed = AudioFeed(rate)
            heard: list[SttEvent] = []

            async def hear() -> None:
                async with aclosing(make_stt(spec(vendor.url, rate=rate), Shared()).listen(feed)) as events:  # type: ignore[type-var]
                    heard.extend([event async for event in events])

            feed.push(bytes(rate * 2 * 3))  # three seconds that have gathered
            hearing = asyncio.create_task(hear())
            for _ in range(11):
                await asyncio.sleep(0.02)
                feed.push(bytes(rate * 2 // 50))
            feed.close()
            await hearing
            assert [type(event) for event in heard] == [Partial, Final]
            assert max(vendor.lengths) == 1.0 and min(vendor.lengths) == 0.05

    virtual_time.run(test())


# Turns --------------------------------------------------------------------------------------------------------


def test_the_words_of_a_turn_are_partial_until_it_ends() -> None:
    session = turns()
    assert list(session.heard(turn(0, "Good"))) == [Partial("Good")]
    assert list(session.heard(turn(0, "Good"))) == []
    assert list(session.heard(turn(0, "Good morning"))) == [Partial("Good morning")]
    end = turn(0, "Good morning.", end_of_turn=True, turn_is_formatted=True)
    assert list(session.heard(end)) == [Final("Good morning.", 0.625, end_of_turn=True)]
    assert list(session.heard(turn(1, "Good"))) == [Partial("Good")]


def test_a_turn_that_is_told_again_formatted_ends_once() -> None:
    session = turns()
    assert len(list(session.heard(turn(0, "good morning", end_of_turn=True)))) == 1
    assert list(session.heard(turn(0, "Good morning.", end_of_turn=True, turn_is_formatted=True))) == []
    assert list(session.heard(turn(0, "late"))) == []
    assert list(session.heard(turn(1, "go on"))) == [Partial("go on")]


def test_a_vendor_that_formats_is_heard_once_a_turn() -> None:
    async def test() -> None:
        async with AssemblyAiServer() as vendor:
            vendor.hears, vendor.formats = ["Good morning.", "How are you?"], True
            feed = AudioFeed(16000)
            feed.push(bytes(2000 * MS))
            feed.close()
            heard = [event async for event in make_stt(spec(vendor.url), Shared()).listen(feed)]
            assert [event.text for event in heard if isinstance(event, Final)] == ["good morning", "how are you"]

    virtual_time.run(test())


def test_a_word_that_is_not_in_the_transcript_yet_is_told() -> None:
    said = json.loads(turn(0, ""))
    said["words"] = [{"text": "hel", "word_is_final": False, "confidence": 0.4}]
    assert list(turns().heard(json.dumps(said))) == [Partial("hel")]


def test_a_turn_without_words_ends_too() -> None:
    assert list(turns().heard(turn(0, "", end_of_turn=True))) == [Final("", end_of_turn=True)]


def test_the_language_is_told_only_when_it_was_asked_for() -> None:
    end = turn(0, "hola", end_of_turn=True, language_code="es")
    assert [event.language for event in turns(languages=("es",)).heard(end) if isinstance(event, Final)] == ["es"]
    assert [event.language for event in turns().heard(end) if isinstance(event, Final)] == [None]


def test_the_words_are_asked_for_only_where_agentd_ends_the_turns() -> None:
    assert list(turns().take(Mark.SPEECH_STOPPED)) == []
    session = turns(ends_turns=False)
    assert list(session.take(Mark.SPEECH_STARTED)) == []
    assert list(session.take(Mark.SPEECH_STOPPED)) == ['{"type": "ForceEndpoint"}']
    assert list(session.heard(turn(0, "hi", end_of_turn=True))) == [Final("hi", 0.5)]


@pytest.mark.parametrize(
    "said",
    [
        {"type": "Begin", "id": "1", "expires_at": 1},
        {"type": "SpeechStarted", "timestamp": 1},
        {"type": "Termination"},
        {"type": "Warning", "warning_code": 1, "warning": "mind"},
        {"type": "Tomorrow"},
        {"type": "Turn"},
        {"type": "Turn", "turn_order": "first", "end_of_turn": True, "transcript": "hi"},
        {},
    ],
    ids=lambda said: str(said.get("type")),
)
def test_what_means_nothing_to_us_is_skipped(said: dict[str, Any]) -> None:
    assert list(turns().heard(json.dumps(said))) == []


@pytest.mark.parametrize("words", [None, "words", [None, 7, {"confidence": "high"}, {"confidence": True}]])
def test_a_turn_may_say_nothing_of_its_words(words: Any) -> None:
    assert list(turns().heard(turn(0, "hi", words=words, end_of_turn=True))) == [Final("hi", end_of_turn=True)]


# What goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        (3005, "server-error", True),
        (3006, "bad-request", False),
        (3007, "rate-limited", True),
        (3008, "connection-lost", True),
        (3009, "rate-limited", True),
        (4001, "unauthorized", False),
        (4002, "quota-exceeded", False),
        (4031, "timeout", True),
    ],
)
def test_an_error_is_told_by_its_code_in_a_message_and_in_a_close(code: int, kind: str, retryable: bool) -> None:
    with pytest.raises(ProviderError) as caught:
        list(turns().heard(json.dumps({"type": "Error", "error_code": code, "error": "why"})))
    assert (caught.value.code, caught.value.retryable) == (f"stt-{kind}", retryable)
    assert caught.value.message == f"{code}: why"
    assert ERRORS[code] == kind

    async def test() -> None:
        async with AssemblyAiServer() as vendor:
            vendor.hears = ["Hello there."]
            feed = AudioFeed(16000)
            feed.push(bytes(500 * MS))
            events = aiter(make_stt(spec(vendor.url), Shared()).listen(feed))
            assert await anext(events) == Partial("Hello")
            assert vendor.socket is not None
            await vendor.socket.close(code, f"not with {KEY}")
            with pytest.raises(ProviderError) as caught:
                await anext(events)
            assert (caught.value.code, caught.value.retryable) == (f"stt-{kind}", retryable)

    virtual_time.run(test())


def test_an_error_without_a_code_or_a_type_is_one_all_the_same() -> None:
    with pytest.raises(ProviderError) as caught:
        list(turns().heard('{"error": "Unauthorized Connection: no such key"}'))
    assert caught.value.code == "stt-unauthorized"


def test_a_key_in_the_recognizers_options_comes_before_the_servers() -> None:
    async def test() -> None:
        async with AssemblyAiServer() as vendor:
            feed = AudioFeed(16000)
            feed.close()
            stt = make_stt(spec(vendor.url, options={"apiKey": "of-the-call"}), Shared())
            assert [event async for event in stt.listen(feed)] == []
            assert vendor.seen.headers[0]["authorization"] == "of-the-call"
            assert "api_key" not in vendor.query()

    virtual_time.run(test())


@pytest.mark.parametrize("url", ["http://127.0.0.1", "ws://", "ftp://example.com"])
def test_an_address_that_is_no_websocket_is_refused(url: str) -> None:
    with pytest.raises(ProviderError) as caught:
        make_stt(spec(url), Shared())
    assert caught.value.code == "stt-bad-url"
