"""The embedded engines as they are: real worker processes, a synthetic caller, no canned answers."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from providers.audio_feed import AudioFeed, Mark
from providers.base import Audio, Final, Partial, ProviderError, Spoken, SttEvent, SttSpec, TtsEvent, TtsSpec, Word
from providers.registry import Shared, make_stt, make_tts
from providers.speech.frames import Kind
from providers.stt import local as stt_local
from providers.tts import local as tts_local
from providers.tts.wire_audio import portions

HINTS = (
    "What time is it?",
    "What day is it today?",
    "Tell me about yourself.",
    "What can you do?",
    "Stop!",
    "Thank you, goodbye.",
    "What is 12 times 7?",
    "What is 3 plus 20?",
    "What is 8 minus 4?",
)
QUIET = bytes(2 * 16000 * 4 // 10)


def run(test: Callable[[Shared], Coroutine[Any, Any, None]]) -> None:
    async def guarded() -> None:
        shared = Shared()
        try:
            async with asyncio.timeout(20):
                await test(shared)
        finally:
            await shared.aclose()

    asyncio.run(guarded())


async def pieces(*text: str) -> AsyncIterator[str]:
    for piece in text:
        yield piece


async def say(shared: Shared, *text: str, voice: str | None = None, rate: int = 16000) -> list[TtsEvent]:
    tts = make_tts(TtsSpec("local", voice=voice, options={"rate": 150}), shared)
    return [event async for event in tts.speak(pieces(*text), rate)]


async def caller(shared: Shared, text: str, rate: int = 16000) -> bytes:
    said = await say(shared, text, voice="en-us+f5", rate=rate)
    return b"".join(event.pcm for event in said if isinstance(event, Audio))


async def hear(shared: Shared, *utterances: bytes, hints: tuple[str, ...] = HINTS, rate: int = 16000) -> list[SttEvent]:
    """As the server feeds it: 20 ms frames, the detector's marks some 100 ms after the onset and the end."""
    feed = AudioFeed(rate)
    late = rate // 10 * 2
    for utterance in utterances:
        sound = QUIET + utterance + QUIET
        for start in range(0, len(sound), rate // 50 * 2):
            if start == len(QUIET) + late:
                feed.mark(Mark.SPEECH_STARTED)
            feed.push(sound[start : start + rate // 50 * 2])
        feed.mark(Mark.SPEECH_STOPPED)
    feed.close()
    stt = make_stt(SttSpec("local", hints=hints, rate=rate), shared)
    return [event async for event in stt.listen(feed)]


def finals(events: list[SttEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, Final)]


def test_a_caller_who_keeps_to_the_agents_words_is_understood_exactly() -> None:
    said = ["what is twelve times seven", "what time is it", "tell me about yourself", "what day is it today"]

    async def test(shared: Shared) -> None:
        heard = await hear(shared, *[await caller(shared, text) for text in said])
        assert finals(heard) == said
        partials = [event.text for event in heard if isinstance(event, Partial)]
        assert "what is twelve" in partials
        assert all(one != other for one, other in pairwise(partials))

    run(test)


def test_other_words_are_not_bent_into_the_agents() -> None:
    async def test(shared: Shared) -> None:
        heard = finals(await hear(shared, await caller(shared, "can you call my mother on saturday")))
        vocabulary = {word.strip("?!.,").lower() for hint in HINTS for word in hint.split()}
        assert len(heard) == 1
        assert {"call", "mother"} & set(heard[0].split()) - vocabulary

    run(test)


def test_every_end_of_speech_is_answered_once() -> None:
    noise = b"".join(Random(1).randbytes(1) + b"\0" for _ in range(16000))

    async def test(shared: Shared) -> None:
        heard = finals(await hear(shared, noise, bytes(32000), await caller(shared, "stop")))
        assert len(heard) == 3
        assert heard[2] == "stop"

    run(test)


def test_an_end_of_speech_without_a_beginning_is_an_empty_final() -> None:
    async def test(shared: Shared) -> None:
        feed = AudioFeed(16000)
        feed.push(bytes(3200))
        feed.mark(Mark.SPEECH_STOPPED)
        feed.close()
        stt = make_stt(SttSpec("local"), shared)
        assert [event async for event in stt.listen(feed)] == [Final("")]

    run(test)


def test_more_callers_than_decoders_are_all_answered() -> None:
    async def test(shared: Shared) -> None:
        question = await caller(shared, "what time is it")
        heard = await asyncio.gather(*[hear(shared, question) for _ in range(5)])
        assert [finals(events) for events in heard] == [["what time is it"]] * 5

    run(test)


def test_the_pre_roll_is_the_audio_just_before_the_onset() -> None:
    gate = stt_local.Gate(rate=8000)
    assert gate.take(b"a" * 6000) == []
    assert gate.take(b"b" * 6000) == []
    assert gate.take(Mark.SPEECH_STARTED) == [(Kind.AUDIO, b"a" * 400 + b"b" * 6000)]
    assert gate.take(b"c" * 320) == [(Kind.AUDIO, b"c" * 320)]
    assert gate.take(Mark.SPEECH_STOPPED) == [(Kind.STOP, b"")]
    assert gate.take(b"d" * 320) == []


def test_words_are_timed_and_the_last_one_ends_the_text() -> None:
    text = ["It costs $1,234.50 today, ", "naïve café - ", "\n", "and that is all."]

    async def test(shared: Shared) -> None:
        events = await say(shared, *text)
        words = [event for event in events if isinstance(event, Word)]
        ends, starts = [word.end for word in words], [word.start for word in words]
        assert ends == sorted(set(ends)) and ends[-1] == len("".join(text))
        assert starts == sorted(starts) and starts[0] >= 0
        whole = sum(len(event.pcm) for event in events if isinstance(event, Audio)) / 2 / 16000
        assert starts[-1] < whole
        assert [event.end for event in events if isinstance(event, Spoken)] == [26, 39, 40, 56]
        assert events[-1] == Spoken(56)
        assert "".join(text)[: ends[2]] == "It costs $1,234.50"

    run(test)


def test_what_was_heard_when_speech_is_cut_is_a_whole_number_of_words() -> None:
    text = "In Portland it is fifty two degrees and raining."

    async def test(shared: Shared) -> None:
        words = [event for event in await say(shared, text, rate=8000) if isinstance(event, Word)]
        heard = text[: [word.end for word in words if word.start <= 0.9][-1]]
        assert heard in {"In Portland it is", "In Portland it is fifty"}

    run(test)


def test_a_long_piece_is_said_in_portions_and_loses_nothing() -> None:
    text = "one two three four five " * 100
    assert "".join(portions(text, tts_local.LONGEST_PIECE)) == text
    assert max(map(len, portions(text, tts_local.LONGEST_PIECE))) <= tts_local.LONGEST_PIECE
    assert list(portions("x" * 2500, tts_local.LONGEST_PIECE)) == ["x" * 1000, "x" * 1000, "x" * 500]


def test_speech_that_nobody_wants_any_more_does_not_reach_the_next_one() -> None:
    async def test(shared: Shared) -> None:
        tts = make_tts(TtsSpec("local", options={"rate": 150}), shared)
        speech = tts.speak(pieces("This is a very long story. " * 30), 16000)
        async with aclosing(speech):  # type: ignore[type-var]
            async for event in speech:
                if isinstance(event, Audio):
                    break
        after = await say(shared, "Yes.")
        assert [event for event in after if not isinstance(event, Audio)] == [Word(4, 0.0), Spoken(4)]
        assert sum(len(event.pcm) for event in after if isinstance(event, Audio)) < 2 * 16000

    run(test)


def test_an_unknown_voice_is_named() -> None:
    async def test(shared: Shared) -> None:
        with pytest.raises(ProviderError, match="got klingon-deep") as caught:
            await say(shared, "Hello.", voice="klingon-deep")
        assert (caught.value.code, caught.value.retryable) == ("tts-unknown-voice", False)
        assert (await say(shared, "Hello."))[-1] == Spoken(6)

    run(test)


def test_a_synthesizer_that_dies_is_an_error_and_then_speaks_again() -> None:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "and so on "

    async def test(shared: Shared) -> None:
        tts = make_tts(TtsSpec("local"), shared)
        process = tts_local.speech_process(shared).process
        with pytest.raises(ProviderError) as caught:
            async for event in tts.speak(endless(), 8000):
                process = process or tts_local.speech_process(shared).process
                if process and isinstance(event, Spoken) and process.returncode is None:
                    os.kill(process.pid, signal.SIGKILL)
        assert (caught.value.vendor, caught.value.code, caught.value.retryable) == ("local", "tts-worker-died", True)
        assert (await say(shared, "Hello."))[-1] == Spoken(6)

    run(test)


def test_a_recogniser_that_dies_is_an_error_and_then_listens_again() -> None:
    async def test(shared: Shared) -> None:
        worker = stt_local.speech_process(shared)
        await worker.warm()
        assert worker.process
        stt = make_stt(SttSpec("local", hints=HINTS), shared)
        feed = AudioFeed(16000)
        feed.mark(Mark.SPEECH_STARTED)
        feed.push(await caller(shared, "what time is it"))
        with pytest.raises(ProviderError) as caught:
            async for _ in stt.listen(feed):
                os.kill(worker.process.pid, signal.SIGKILL)  # in the middle of an utterance
        assert (caught.value.code, caught.value.retryable) == ("stt-worker-died", True)
        assert finals(await hear(shared, await caller(shared, "stop"))) == ["stop"]

    run(test)


def test_closing_leaves_no_process_and_nothing_can_be_started_any_more() -> None:
    async def test(shared: Shared) -> None:
        workers = [tts_local.speech_process(shared), stt_local.speech_process(shared)]
        await asyncio.gather(*[worker.warm() for worker in workers])
        pids = [worker.process.pid for worker in workers if worker.process]
        await shared.aclose()
        assert len(pids) == 2
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        with pytest.raises(ProviderError) as caught:
            await workers[0].warm()
        assert caught.value.code == "tts-closed"

    run(test)


def test_a_worker_ends_when_its_server_is_gone() -> None:
    async def test(shared: Shared) -> None:
        worker = tts_local.speech_process(shared)
        await worker.warm()
        process = worker.process
        assert process and process.stdin
        process.stdin.close()  # all that the worker sees of a server that was killed
        assert await process.wait() == 0

    run(test)


@pytest.mark.parametrize(("role", "package"), [("stt", "pocketsphinx"), ("tts", "espeakng_loader")])
def test_missing_engines_are_an_error_that_says_what_to_install(
    role: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{package}.py").write_text(f"raise ImportError('No module named {package}')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def test(shared: Shared) -> None:
        with pytest.raises(ProviderError, match=r"pip install 'agentd\[local\]'") as caught:
            await (say(shared, "Hello.") if role == "tts" else hear(shared, QUIET))
        assert (caught.value.code, caught.value.retryable) == (f"{role}-not-installed", False)

    run(test)
