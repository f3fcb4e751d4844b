"""Speechmatics beyond what the contract asks of every recogniser: how a session begins, and what its ends mean."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.registry import Shared
from providers.sockets import DIAL
from providers.stt.speechmatics import START_WITH_VOCABULARY, Session, make_stt, to_wire
from tests import virtual_time
from tests.vendors.canary import canary as canary
from tests.vendors.rows import KEY
from tests.vendors.speechmatics import SpeechmaticsServer

SECOND = 32000  # bytes at 16 kHz


def spec(url: str = "ws://127.0.0.1:9", **fields: Any) -> SttSpec:
    return SttSpec("speechmatics", credentials={"apiKey": KEY, "url": url}, **fields)


def transcript(text: str, *confidences: float, is_final: bool = True) -> str:
    results: list[dict[str, Any]] = [{"type": "word", "alternatives": [{"confidence": each}]} for each in confidences]
    results.append({"type": "punctuation", "alternatives": [{"content": ".", "confidence": 1.0}]})
    name = "AddTranscript" if is_final else "AddPartialTranscript"
    return json.dumps({"message": name, "metadata": {"transcript": text}, "results": results})


def segment(text: str, *, is_final: bool = True) -> str:
    name = "AddSegment" if is_final else "AddPartialSegment"
    return json.dumps({"message": name, "metadata": {}, "segment": {"transcript": text}})


END_OF_UTTERANCE = '{"message": "EndOfUtterance", "metadata": {"start_time": 1.0, "end_time": 1.0}}'
END_OF_TURN = '{"message": "EndOfTurn", "metadata": {"end_time": 1.0}}'


def heard(session: Session, *messages: str) -> list[SttEvent]:
    return [event for message in messages for event in session.heard(message)]


async def recognise(vendor: SpeechmaticsServer, seconds: int, **fields: Any) -> list[SttEvent]:
    feed = AudioFeed(16000)
    feed.push(bytes(seconds * SECOND))
    feed.close()
    return [event async for event in make_stt(spec(vendor.url, **fields), Shared()).listen(feed)]


# To the wire --------------------------------------------------------------------------------------------------


def test_what_is_asked_for_by_default() -> None:
    assert to_wire(spec(rate=8000, language="de-CH")) == {
        "message": "StartRecognition",
        "audio_format": {"type": "raw", "encoding": "pcm_s16le", "sample_rate": 8000},
        "transcription_config": {
            "language": "de",
            "enable_partials": True,
            "model": "enhanced",
            "max_delay": 1.0,
            "conversation_config": {"end_of_utterance_silence_trigger": 0.5},
        },
    }


def test_where_agentd_ends_the_turns_the_vendor_does_not_look_for_silence() -> None:
    assert "conversation_config" not in to_wire(spec(ends_turns=False))["transcription_config"]


def test_what_the_author_wrote_is_laid_over_ours() -> None:
    options = {
        "apiKey": "k",
        "host": "us.rt.speechmatics.com",
        "transcription_config": {
            "language": "cmn",
            "max_delay": 0.7,
            "domain": "medical",
            "additional_vocab": [{"content": "gnocchi", "sounds_like": ["nyohki"]}, "agentd"],
            "conversation_config": {"end_of_utterance_silence_trigger": 0.8},
        },
        "translation_config": {"target_languages": ["es"]},
        "audio_events_config": {"types": ["music"]},
    }
    wire = to_wire(spec(options=options, hints=("jambonz",)))
    assert wire["transcription_config"] == {
        "language": "cmn",
        "enable_partials": True,
        "model": "enhanced",
        "max_delay": 0.7,
        "domain": "medical",
        "additional_vocab": [
            {"content": "gnocchi", "sounds_like": ["nyohki"]},
            "agentd",
            {"content": "jambonz"},
        ],
        "conversation_config": {"end_of_utterance_silence_trigger": 0.8},
    }
    assert wire["translation_config"] == {"target_languages": ["es"]}
    assert wire["audio_events_config"] == {"types": ["music"]}
    assert set(wire) == {
        *("message", "audio_format", "transcription_config"),
        *("translation_config", "audio_events_config"),
    }


def test_the_model_of_the_spec_wins() -> None:
    options = {"transcription_config": {"model": "standard"}}
    assert to_wire(spec(options=options))["transcription_config"]["model"] == "standard"
    assert to_wire(spec(model="melia-1", options=options))["transcription_config"]["model"] == "melia-1"


def test_a_model_by_its_old_name_is_not_told_by_its_new_one_too() -> None:
    config = to_wire(spec(options={"transcription_config": {"operating_point": "standard"}}))["transcription_config"]
    assert config["operating_point"] == "standard" and "model" not in config


def test_agent_stt_is_told_who_ends_the_turns_and_nothing_that_it_does_not_know() -> None:
    wire = to_wire(spec(model="linden-1", hints=("jambonz",)))
    assert wire["transcription_config"] == {
        "language": "en",
        "enable_partials": True,
        "model": "linden-1",
        "additional_vocab": [{"content": "jambonz"}],
    }
    assert wire["turn_config"] == {"turn_detection_mode": "vad"}
    assert to_wire(spec(model="linden-1", ends_turns=False))["turn_config"] == {"turn_detection_mode": "external"}


@pytest.mark.parametrize(
    ("fields", "behind", "path"),
    [
        ({}, "", "/v2"),
        ({}, "/v2/", "/v2"),
        ({"model": "linden-1"}, "", "/v2/agent"),
        ({"options": {"profile": "agile"}}, "/v2", "/v2/agent/agile"),
    ],
)
def test_where_it_is_asked(fields: dict[str, Any], behind: str, path: str) -> None:
    async def test() -> None:
        async with SpeechmaticsServer() as vendor:
            vendor.url += behind
            await recognise(vendor, 0, **fields)
            assert vendor.seen.paths == [path]
            assert vendor.seen.headers[0]["authorization"] == f"Bearer {KEY}"

    virtual_time.run(test())


def test_a_host_of_the_authors_is_asked_by_tls() -> None:
    stt = make_stt(spec(options={"host": "us.rt.speechmatics.com"}), Shared())
    assert stt.url == "wss://us.rt.speechmatics.com/v2"


# How a session begins and ends --------------------------------------------------------------------------------


def test_audio_waits_until_recognition_has_started() -> None:
    async def test() -> None:
        async with SpeechmaticsServer() as vendor:
            vendor.hears = ["Hello there."]
            events = await recognise(vendor, 2)
            assert [event.text for event in events if isinstance(event, Final) and event.text] == ["Hello there."]
            assert len(vendor.audio) == 2 * SECOND
            first, last = vendor.seen.requests
            assert first == to_wire(spec())
            assert last == {"message": "EndOfStream", "last_seq_no": 2}  # a message a second, however much gathers

    virtual_time.run(test())


@pytest.mark.parametrize(
    ("word", "code", "retryable"),
    [
        ("not_authorised", "stt-unauthorized", False),
        ("not_allowed", "stt-unauthorized", False),
        ("insufficient_funds", "stt-quota-exceeded", False),
        ("timelimit_exceeded", "stt-quota-exceeded", False),
        ("quota_exceeded", "stt-rate-limited", True),
        ("invalid_model", "stt-bad-request", False),
        ("invalid_config", "stt-bad-request", False),
        ("protocol_error", "stt-bad-request", False),
        ("idle_timeout", "stt-timeout", True),
        ("session_timeout", "stt-connection-lost", True),
        ("job_error", "stt-server-error", True),
        ("a_new_one", "stt-server-error", True),
    ],
)
def test_a_session_that_is_refused(word: str, code: str, retryable: bool) -> None:
    async def test() -> None:
        async with SpeechmaticsServer() as vendor:
            vendor.refusal = {"message": "Error", "type": word, "reason": f"not with {KEY}"}
            with pytest.raises(ProviderError) as caught:
                await recognise(vendor, 1)
            assert (caught.value.code, caught.value.retryable) == (code, retryable)
            assert caught.value.message == f"{word}: not with [redacted]"
            assert vendor.audio == b""

    virtual_time.run(test())


def test_a_session_that_is_closed_before_it_begins() -> None:
    async def test() -> None:
        async with SpeechmaticsServer() as vendor:
            vendor.refusal = {"message": "Info", "type": "deprecated", "reason": "goodbye"}
            with pytest.raises(ProviderError) as caught:
                await recognise(vendor, 1)
            assert (caught.value.code, caught.value.retryable) == ("stt-connection-lost", True)

    virtual_time.run(test())


class Silent(SpeechmaticsServer):
    async def talk(self, socket: Any) -> None:
        while True:
            await self.read(socket)


@asynccontextmanager
async def silent() -> AsyncIterator[Silent]:
    async with Silent() as vendor:
        yield vendor


@pytest.mark.parametrize(("hints", "limit"), [((), DIAL), (("jambonz",), START_WITH_VOCABULARY)])
def test_a_session_that_does_not_begin(hints: tuple[str, ...], limit: float) -> None:
    async def test() -> None:
        async with silent() as vendor:
            with pytest.raises(ProviderError) as caught:
                await recognise(vendor, 1, hints=hints)
            assert (caught.value.code, caught.value.retryable) == ("stt-timeout", True)
            assert asyncio.get_running_loop().time() == limit
            await vendor.seen.left.wait()

    virtual_time.run(test())


def test_a_call_that_ends_before_the_session_begins_hangs_up_at_once() -> None:
    async def test() -> None:
        async with silent() as vendor:
            hearing = asyncio.create_task(recognise(vendor, 1))
            await vendor.seen.asked.wait()
            hearing.cancel()
            await vendor.seen.left.wait()
            assert asyncio.get_running_loop().time() == 0.0
            await asyncio.wait([hearing])

    virtual_time.run(test())


# Words --------------------------------------------------------------------------------------------------------


def test_words_become_final_piece_by_piece_and_the_end_comes_behind_them() -> None:
    assert heard(
        Session(spec()),
        transcript("Good ", is_final=False),
        transcript("Good morning ", is_final=False),
        transcript("Good morning ", is_final=False),
        transcript("Good morning ", 0.75, 0.25),
        transcript("everyone ", is_final=False),
        transcript("everyone. ", 1.0),
        END_OF_UTTERANCE,
    ) == [
        Partial("Good"),
        Partial("Good morning"),
        Final("Good morning", 0.5),
        Partial("everyone"),
        Final("everyone.", 1.0),
        Final("", speech_final=True),
    ]


def test_silence_is_told_by_nothing_even_while_words_are_partial() -> None:
    assert heard(Session(spec()), transcript("Hi", is_final=False), transcript(""), transcript("Hi.", 0.9)) == [
        Partial("Hi"),
        Final("Hi.", 0.9),
    ]


def test_a_mark_that_belongs_to_words_before_it_is_none() -> None:
    assert heard(Session(spec()), transcript("Well"), transcript(". "), transcript(", then "), transcript("¿Sí?")) == [
        Final("Well"),
        Final("then"),
        Final("¿Sí?"),
    ]


def test_partial_words_that_are_taken_back_are_told() -> None:
    assert heard(Session(spec()), transcript("Hm", is_final=False), transcript("", is_final=False)) == [
        Partial("Hm"),
        Partial(""),
    ]


def test_a_final_is_asked_for_where_agentd_ends_the_turns_and_its_end_is_told_only_without_words() -> None:
    session = Session(spec(ends_turns=False))
    assert list(session.take(bytes(SECOND // 2))) == [bytes(SECOND // 2)]
    force = ['{"message": "ForceEndOfUtterance", "timestamp": 0.5}']
    assert list(session.take(Mark.SPEECH_STARTED)) == []
    assert list(session.take(Mark.SPEECH_STOPPED)) == force
    assert heard(session, transcript("Yes.", 0.9), END_OF_UTTERANCE) == [Final("Yes.", 0.9)]
    assert list(session.take(Mark.SPEECH_STOPPED)) == force
    assert heard(session, transcript(""), END_OF_UTTERANCE) == [Final("")]
    assert heard(session, END_OF_UTTERANCE) == []


def test_where_the_vendor_ends_the_turns_nothing_is_asked_for() -> None:
    assert list(Session(spec()).take(Mark.SPEECH_STOPPED)) == []


def test_agent_stt_ends_the_turn_with_the_words_before() -> None:
    assert heard(
        Session(spec(model="linden-1")),
        '{"message": "StartOfTurn", "metadata": {"start_time": 0.1}}',
        segment("Good", is_final=False),
        transcript("good", is_final=False),  # of the recogniser inside it
        segment("Good morning."),
        transcript("good morning", 0.9),
        END_OF_UTTERANCE,
        END_OF_TURN,
    ) == [Partial("Good"), Final("Good morning."), Final("", end_of_turn=True)]


@pytest.mark.parametrize("fields", [{"ends_turns": True}, {"ends_turns": False}], ids=["vad", "external"])
def test_agent_stt_is_heard(fields: dict[str, Any]) -> None:
    async def test() -> None:
        async with SpeechmaticsServer() as vendor:
            vendor.hears = ["Good morning.", "How are you?"]
            events = await recognise(vendor, 2, model="linden-1", **fields)
            assert [event.text for event in events if isinstance(event, Final) and event.text] == vendor.hears
            ends = [event for event in events if isinstance(event, Final) and event.end_of_turn]
            assert len(ends) == (2 if fields["ends_turns"] else 0)
            assert asyncio.get_running_loop().time() == 0.0  # we hang up, the vendor does not

    virtual_time.run(test())


@pytest.mark.parametrize(
    "said",
    [
        {"message": "AudioAdded", "seq_no": 1},
        {"message": "Warning", "type": "idle_timeout", "reason": "mind"},
        {"message": "AddTranscript"},
        {"message": "AddTranscript", "metadata": "none", "results": [None]},
        {"message": "AddTranslation", "language": "es", "results": [{"content": "hola"}]},
        {"message": "AddSegment", "segment": {"transcript": "not ours"}},
        {"message": ["AddTranscript"]},
        {},
    ],
    ids=lambda said: str(said.get("message")),
)
def test_what_means_nothing_to_us_is_skipped(said: dict[str, Any]) -> None:
    assert heard(Session(spec()), json.dumps(said)) == []


@pytest.mark.parametrize(
    "results", [None, "all", [7, {"type": "word"}, {"type": "word", "alternatives": [{"confidence": "high"}]}]]
)
def test_words_may_come_without_confidence(results: Any) -> None:
    said = {"message": "AddTranscript", "metadata": {"transcript": "Hi."}, "results": results}
    assert heard(Session(spec()), json.dumps(said)) == [Final("Hi.")]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1003, "stt-bad-request"),
        (1011, "stt-server-error"),
        (4001, "stt-unauthorized"),
        (4005, "stt-rate-limited"),
        (4013, "stt-server-error"),
    ],
)
def test_a_close_is_told_by_its_code(code: int, expected: str) -> None:
    async def test() -> None:
        async with SpeechmaticsServer() as vendor:
            vendor.hears = ["Hello there."]
            feed = AudioFeed(16000)
            feed.push(bytes(SECOND // 2))
            events = aiter(make_stt(spec(vendor.url), Shared()).listen(feed))
            assert await anext(events) == Partial("Hello")
            assert vendor.socket is not None
            await vendor.socket.close(code, f"not with {KEY}")
            with pytest.raises(ProviderError) as caught:
                await anext(events)
            assert caught.value.code == expected

    virtual_time.run(test())
