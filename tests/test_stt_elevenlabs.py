"""Scribe beyond what the contract asks of every recogniser: its query, its commits, its errors."""

import asyncio
import base64
import json
import math
from collections.abc import Iterable
from typing import Any

import pytest

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.registry import Shared
from providers.stt.elevenlabs import Scribe, make_stt, to_wire
from tests import virtual_time
from tests.vendors.canary import canary as canary
from tests.vendors.elevenlabs_stt import ScribeServer
from tests.vendors.rows import KEY

SECOND = 32000  # bytes at 16 kHz


def spec(url: str = "ws://127.0.0.1:9", **fields: Any) -> SttSpec:
    return SttSpec("elevenlabs", credentials={"apiKey": KEY, "url": url}, **fields)


def scribe(**fields: Any) -> Scribe:
    asked = spec(**fields)
    return Scribe(asked, to_wire(asked))


def said(kind: str, text: str | None = None, **more: Any) -> str:
    return json.dumps({"message_type": kind, **({} if text is None else {"text": text}), **more})


def heard(session: Scribe, *messages: str) -> list[SttEvent]:
    return [event for message in messages for event in session.heard(message)]


def commits(chunks: Iterable[str | bytes]) -> list[tuple[int, bool]]:
    """The bytes of each chunk, and whether it commits."""
    read = [json.loads(chunk) for chunk in chunks]
    return [(len(base64.b64decode(chunk["audio_base_64"])), chunk["commit"]) for chunk in read]


async def recognise(vendor: ScribeServer, seconds: float, **fields: Any) -> list[SttEvent]:
    feed = AudioFeed(16000)
    feed.push(bytes(int(seconds * SECOND)))
    feed.close()
    return [event async for event in make_stt(spec(vendor.url, **fields), Shared()).listen(feed)]


# To the wire --------------------------------------------------------------------------------------------------


def test_what_is_asked_for_by_default() -> None:
    assert to_wire(spec(rate=8000, language="de-CH")) == {
        "model_id": "scribe_v2_realtime",
        "audio_format": "pcm_8000",
        "commit_strategy": "vad",
        "language_code": "de",
        "vad_silence_threshold_secs": 0.5,
    }


def test_where_agentd_ends_the_turns_it_commits_too() -> None:
    assert to_wire(spec(ends_turns=False)) == {
        "model_id": "scribe_v2_realtime",
        "audio_format": "pcm_16000",
        "commit_strategy": "manual",
        "language_code": "en",
    }


def test_options_go_out_in_the_vendors_own_words() -> None:
    options = {
        "apiKey": "k",
        "includeTimestamps": True,
        "commitStrategy": "vad",
        "vadSilenceThresholdSecs": 0.8,
        "vadThreshold": 0.4,
        "minSpeechDurationMs": 100,
        "minSilenceDurationMs": 90,
        "enableLogging": False,
        "noVerbatim": True,  # one that we do not know
        "keyterms": ["agentd"],
    }
    asked = spec(options=options, model="scribe_v3_live", hints=("jambonz",), languages=("es-ES", "en-GB"))
    assert to_wire(asked) == {
        "model_id": "scribe_v3_live",
        "audio_format": "pcm_16000",
        "commit_strategy": "vad",
        "language_code": "en",
        "secondary_languages": ["es"],
        "keyterms": ["agentd", "jambonz"],
        "vad_silence_threshold_secs": 0.8,
        "include_timestamps": True,
        "vad_threshold": 0.4,
        "min_speech_duration_ms": 100,
        "min_silence_duration_ms": 90,
        "enable_logging": False,
        "no_verbatim": True,
    }


def test_the_url_says_it_as_the_vendor_reads_it() -> None:
    async def test() -> None:
        async with ScribeServer() as vendor:
            options = {"enableLogging": False, "vadThreshold": 0.4}
            await recognise(vendor, 0.1, options=options, languages=("es", "fr"), hints=("a & b", "Ä"))
            assert vendor.query() == {
                "model_id": ["scribe_v2_realtime"],
                "audio_format": ["pcm_16000"],
                "commit_strategy": ["vad"],
                "language_code": ["en"],
                "secondary_languages": ["es", "fr"],
                "keyterms": ["a & b", "Ä"],
                "vad_silence_threshold_secs": ["0.5"],
                "enable_logging": ["false"],
                "vad_threshold": ["0.4"],
            }
            assert vendor.seen.paths[0].startswith("/v1/speech-to-text/realtime?")
            assert vendor.seen.headers[0]["xi-api-key"] == KEY

    virtual_time.run(test())


def test_hints_that_would_have_the_request_refused_are_left_out() -> None:
    wire = to_wire(spec(hints=("twenty-one characters", *(f"term {number}" for number in range(60)))))
    assert wire["keyterms"] == [f"term {number}" for number in range(50)]


# Audio and commits --------------------------------------------------------------------------------------------


def test_audio_goes_out_as_it_comes_and_at_most_a_second_at_once() -> None:
    session = scribe()
    first = list(session.take(b"\1\0" * 320))
    assert [json.loads(chunk) for chunk in first] == [
        {
            "message_type": "input_audio_chunk",
            "audio_base_64": base64.b64encode(b"\1\0" * 320).decode(),
            "commit": False,
            "sample_rate": 16000,
        }
    ]
    assert commits(session.take(bytes(SECOND * 5 // 2))) == [(SECOND, False), (SECOND, False), (SECOND // 2, False)]


def test_where_the_vendor_ends_the_turns_nothing_is_committed_before_the_end() -> None:
    session = scribe()
    assert commits(session.take(bytes(SECOND))) == [(SECOND, False)]
    assert list(session.take(Mark.SPEECH_STOPPED)) == []


@pytest.mark.parametrize("fields", [{"ends_turns": False}, {"options": {"commitStrategy": "manual"}}])
def test_words_are_committed_when_the_caller_goes_quiet(fields: dict[str, Any]) -> None:
    session = scribe(**fields)
    assert commits(session.take(bytes(SECOND))) == [(SECOND, False)]
    assert list(session.take(Mark.SPEECH_STARTED)) == []
    assert commits(session.take(Mark.SPEECH_STOPPED)) == [(0, True)]
    assert heard(session, said("committed_transcript", "Yes.")) == [Final("Yes.")]


def test_a_commit_waits_until_there_is_enough_to_commit() -> None:
    session, frame = scribe(ends_turns=False), bytes(SECOND // 10)
    assert commits(session.take(frame)) == [(len(frame), False)]
    assert list(session.take(Mark.SPEECH_STOPPED)) == []
    assert commits(session.take(frame)) == [(len(frame), False)]
    assert commits(session.take(frame)) == [(len(frame), True)]
    assert commits(session.take(frame)) == [(len(frame), False)]


def test_all_that_was_said_is_one_commit_where_the_vendor_does_not_look_for_silence() -> None:
    async def test() -> None:
        async with ScribeServer() as vendor:
            vendor.hears = ["One.", "Two.", "Three."]
            events = await recognise(vendor, 2.7, ends_turns=False)
            finals = [event.text for event in events if isinstance(event, Final) and event.text]
            assert finals == ["One. Two. Three."]

    virtual_time.run(test())


def test_we_hang_up_when_the_last_words_were_told() -> None:
    async def test() -> None:
        async with ScribeServer() as vendor:
            vendor.hears = ["Hello there."]
            events = await recognise(vendor, 0.7)
            assert events[:2] == [Partial("Hello"), Final("Hello there.", speech_final=True)]
            assert asyncio.get_running_loop().time() == 0.0

    virtual_time.run(test())


def test_what_the_vendor_says_against_the_last_commit_is_no_error() -> None:
    session = scribe()
    list(session.end())
    assert heard(session, said("input_error", error="commit is not for vad")) == []
    assert session.is_over


# Words --------------------------------------------------------------------------------------------------------


def test_words_are_partial_until_they_are_committed() -> None:
    assert heard(
        scribe(),
        said("session_started", session_id="1", config={}),
        said("partial_transcript", ""),
        said("partial_transcript", "Good"),
        said("partial_transcript", "Good"),
        said("partial_transcript", "Good morning"),
        said("committed_transcript", " Good morning. "),
        said("partial_transcript", "Good"),
    ) == [Partial("Good"), Partial("Good morning"), Final("Good morning.", speech_final=True), Partial("Good")]


def test_with_timestamps_a_commit_is_told_twice_and_counts_once() -> None:
    words = [
        {"text": "Good", "type": "word", "logprob": -0.25},
        {"text": " ", "type": "spacing", "logprob": -9.0},
        {"text": "morning", "type": "word", "logprob": -0.75},
    ]
    session = scribe(options={"includeTimestamps": True})
    assert heard(session, said("committed_transcript", "Good morning")) == []
    (final,) = heard(
        session, said("committed_transcript_with_timestamps", "Good morning", words=words, language_code="en")
    )
    assert final == Final("Good morning", math.exp(-0.5), speech_final=True, language="en")


def test_silence_that_is_committed_is_told_only_where_somebody_waits() -> None:
    assert heard(scribe(), said("committed_transcript", "")) == []
    assert heard(scribe(), said("partial_transcript", "Hm"), said("committed_transcript", "")) == [
        Partial("Hm"),
        Final("", speech_final=True),
    ]
    session = scribe(ends_turns=False)
    list(session.take(bytes(SECOND)))
    list(session.take(Mark.SPEECH_STOPPED))
    assert heard(session, said("committed_transcript", ""), said("committed_transcript", "")) == [Final("")]


def test_a_commit_that_is_ignored_says_that_there_were_no_words() -> None:
    session = scribe(ends_turns=False)
    list(session.take(bytes(SECOND)))
    list(session.take(Mark.SPEECH_STOPPED))
    assert heard(session, said("commit_throttled", error="too soon")) == [Final("")]
    assert not session.is_over


@pytest.mark.parametrize(
    "message",
    [said("warning", warning="mind"), said("edited_transcript", "a", edited_text="b"), "{}", '{"message_type": [1]}'],
)
def test_what_means_nothing_to_us_is_skipped(message: str) -> None:
    assert heard(scribe(), message) == []


# What goes wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "code", "retryable"),
    [
        ("auth_error", "stt-unauthorized", False),
        ("unaccepted_terms", "stt-unauthorized", False),
        ("quota_exceeded", "stt-quota-exceeded", False),
        ("rate_limited", "stt-rate-limited", True),
        ("queue_overflow", "stt-rate-limited", True),
        ("resource_exhausted", "stt-rate-limited", True),
        ("session_time_limit_exceeded", "stt-connection-lost", True),
        ("insufficient_audio_activity", "stt-timeout", True),
        ("input_error", "stt-bad-request", False),
        ("invalid_request", "stt-bad-request", False),
        ("chunk_size_exceeded", "stt-bad-request", False),
        ("transcriber_error", "stt-server-error", True),
        ("error", "stt-server-error", True),
        ("error_of_tomorrow", "stt-server-error", True),
    ],
)
def test_an_error_is_told_by_its_type(word: str, code: str, retryable: bool) -> None:
    asked = spec()
    session = Scribe(asked, to_wire(asked), (KEY,))
    with pytest.raises(ProviderError) as caught:
        heard(session, said(word, error=f"not with {KEY}"))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert caught.value.message == f"{word}: not with [redacted]"
