"""One reply on its way, with vendors that misbehave in ways that a script cannot."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentd.call.history import Round
from agentd.call.reply import Reply, Source
from agentd.call.sender import Sender
from providers.base import Audio, LlmEvent, Message, Prompt, ProviderError, Spoken, TextDelta, TtsEvent
from tests import virtual_time
from turn.events import AudioArrived, Event, ReplyBegan, ReplyFailed, ReplyGenerated, SynthesisBegan


class Wordy:
    """A model that says so many sentences at once."""

    name = "wordy"

    def __init__(self, sentences: int) -> None:
        self.sentences = sentences
        self.closed = False

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        try:
            for number in range(self.sentences):
                yield TextDelta(f"Sentence {number} is here. ")
        finally:
            self.closed = True


class Voice:
    """20 ms a piece; fails, if at all, with what it is told to."""

    def __init__(self, failure: Exception | None = None, *, hangs: bool = False) -> None:
        self.failure, self.hangs = failure, hangs
        self.closed = False

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        said = 0
        try:
            async for piece in text:
                if self.hangs:
                    await asyncio.Event().wait()
                yield Audio(bytes(rate // 50 * 2))
                said += len(piece)
                yield Spoken(said)
                if self.failure is not None:
                    raise self.failure
        finally:
            self.closed = True


class Nowhere:
    def send_audio(self, pcm: bytes) -> None: ...

    def send_json(self, message: dict[str, Any]) -> None: ...


async def no_tools(reply: Reply, round_: Round) -> None:
    raise AssertionError("nobody asked for tools")


def no_messages(rounds: list[Round], text: str) -> tuple[Message, ...]:
    return ()


def a_reply(llm: Wordy, tts: Voice, tell: Callable[[Event], None]) -> Reply:
    reply = Reply(1, Source(llm, tts), Sender(8000, Nowhere(), lambda event: None), no_messages, no_tools, tell)
    reply.release()
    return reply


def test_the_events_of_a_reply_come_in_order() -> None:
    async def main() -> list[Event]:
        told: list[Event] = []
        await a_reply(Wordy(1), Voice(), told.append).run()
        return told

    assert virtual_time.run(main()) == [
        ReplyBegan(1),
        SynthesisBegan(1),
        AudioArrived(1, 0.02),
        ReplyGenerated(1, audible=True),
    ]


def test_a_model_that_is_far_ahead_waits_for_the_voice_and_cancelling_ends_both() -> None:
    async def main() -> None:
        llm, tts = Wordy(10_000), Voice(hangs=True)
        reply = a_reply(llm, tts, lambda event: None)
        task = asyncio.create_task(reply.run())
        await asyncio.sleep(1)
        assert len(reply.text) < 2_000
        task.cancel()
        await asyncio.wait([task])
        assert (llm.closed, tts.closed) == (True, True)

    virtual_time.run(main())


def test_an_interrupted_model_stops_although_the_voice_is_far_behind() -> None:
    async def main() -> None:
        llm = Wordy(10_000)
        reply = a_reply(llm, Voice(hangs=True), lambda event: None)
        task = asyncio.create_task(reply.run())
        await asyncio.sleep(1)
        reply.stop_thinking()
        await asyncio.sleep(1)
        assert llm.closed
        task.cancel()
        await asyncio.wait([task])

    virtual_time.run(main())


class Greedy(Voice):
    """Takes all the text that it can get."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[str] = []

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        async for piece in text:
            self.given.append(piece)
        yield Audio(bytes(rate // 50 * 2))


def test_of_a_speculation_a_voice_gets_the_first_piece_at_most() -> None:
    async def main() -> None:
        tts, told = Greedy(), list[Event]()
        source = Source(Wordy(3), tts, speaks_early=True)
        reply = Reply(1, source, Sender(8000, Nowhere(), lambda event: None), no_messages, no_tools, told.append)
        task = asyncio.create_task(reply.run())
        await asyncio.sleep(1)
        assert (len(tts.given), told) == (1, [ReplyBegan(1)])
        reply.release()
        await task
        assert len(tts.given) == 3
        assert told[1:] == [ReplyBegan(1), SynthesisBegan(1), AudioArrived(1, 0.02), ReplyGenerated(1, audible=True)]

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ProviderError("voice", "tts-lost"), "tts-lost"),
        (ExceptionGroup("of its own", [ExceptionGroup("tasks", [ProviderError("voice", "tts-lost")])]), "tts-lost"),
        (ZeroDivisionError(), "server failure"),
        (StopIteration(), "server failure"),
    ],
    ids=repr,
)
def test_whatever_a_voice_raises_is_a_failed_reply(failure: Exception, code: str) -> None:
    async def main() -> list[Event]:
        told: list[Event] = []
        llm = Wordy(10_000)
        await a_reply(llm, Voice(failure), told.append).run()
        assert llm.closed
        return told

    assert virtual_time.run(main())[-1] == ReplyFailed(1, code)


class Slow:
    """A model that says a word every so often."""

    name = "slow"

    def __init__(self, text: str, every: float) -> None:
        self._words, self._every = text.split(" "), every

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        for word in self._words:
            yield TextDelta(f"{word} ")
            await asyncio.sleep(self._every)


class Flowing:
    """Joins pieces: half a second of sound a word, at once. Keeps when it was given what."""

    is_continuous = True

    def __init__(self) -> None:
        self.given: list[tuple[float, str]] = []

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        said = 0
        async for piece in text:
            self.given.append((round(asyncio.get_running_loop().time(), 2), piece))
            yield Audio(bytes(rate // 2 * 2) * len(piece.split()))
            said += len(piece)
            yield Spoken(said)


def given(text: str, every: float) -> list[tuple[float, str]]:
    async def main() -> list[tuple[float, str]]:
        voice = Flowing()
        source = Source(Slow(text, every), voice, first_words=1)
        reply = Reply(1, source, Sender(8000, Nowhere(), lambda event: None), no_messages, no_tools, lambda event: None)
        reply.release()
        await reply.run()
        return voice.given

    return virtual_time.run(main())


def test_a_voice_that_joins_pieces_gets_the_first_word_at_once_and_then_sentences() -> None:
    assert given("Of course I can do that. So it is.", 0.01) == [
        (0.0, "Of "),
        (0.05, "course I can do that. "),
        (0.08, "So it is. "),
    ]


def test_of_a_slow_model_words_follow_before_the_voice_has_said_the_first_ones() -> None:
    pieces = given("Of course I can do that for you now.", 0.3)
    assert [text for _, text in pieces][:2] == ["Of ", "course "]
    assert "".join(text for _, text in pieces) == "Of course I can do that for you now. "
    sounds = 0.0
    for at, text in pieces[:-1]:
        assert at <= 0.3 + sounds  # no hole within the sentence
        sounds += 0.5 * len(text.split())


class Tokens(Slow):
    """A model that says these tokens, ten milliseconds apart."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = tokens

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        for token in self._tokens:
            yield TextDelta(token)
            await asyncio.sleep(0.01)


class Late(Flowing):
    """The same with its first sound after a while, and what became of each time that it was asked."""

    def __init__(self, after: float = 0.1) -> None:
        super().__init__()
        self.after = after
        self.asked: list[str] = []
        self.cancelled = 0

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        said = 0
        self.asked.append("")
        try:
            async for piece in text:
                self.given.append((round(asyncio.get_running_loop().time(), 2), piece))
                self.asked[-1] += piece
                if not said:
                    await asyncio.sleep(self.after)
                yield Audio(bytes(rate // 2 * 2))
                said += len(piece)
                yield Spoken(said)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def spoken(voice: Late, *tokens: str) -> tuple[Reply, list[Event]]:
    told: list[Event] = []

    async def main() -> Reply:
        source = Source(Tokens(*tokens), voice, first_words=1)
        reply = Reply(1, source, Sender(8000, Nowhere(), lambda event: None), no_messages, no_tools, told.append)
        reply.release()
        await reply.run()
        return reply

    return virtual_time.run(main()), told


def test_a_first_token_that_is_a_word_is_with_the_voice_at_once() -> None:
    voice = Late()
    reply, told = spoken(voice, "Of", " course", ".", " So", " it", " is", ".")
    assert voice.given[0] == (0.0, "Of")
    assert voice.asked == ["Of course. So it is."]
    assert reply.ledger.text == reply.text == "Of course. So it is."
    assert told[-1] == ReplyGenerated(1, audible=True)


def test_half_a_word_is_taken_back_before_it_sounds() -> None:
    voice = Late()
    reply, told = spoken(voice, "Un", "fortunately", " not", ".", " So", " it", " is", ".")
    assert voice.asked == ["Un", "Unfortunately not. So it is."]
    assert voice.cancelled == 1
    assert reply.ledger.text == reply.text == "Unfortunately not. So it is."
    assert [type(event) for event in told].count(AudioArrived) == 3
    assert told[-1] == ReplyGenerated(1, audible=True)


def test_what_sounds_already_is_not_taken_back() -> None:
    voice = Late(after=0.0)
    reply, _ = spoken(voice, "Un", "fortunately", " not", ".")
    assert voice.asked == ["Unfortunately not."]
    assert reply.ledger.text == "Unfortunately not."
