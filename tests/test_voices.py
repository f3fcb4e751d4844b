"""The voices of a call: deadlines, second tries and fallbacks. What was said is not said again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from agentd.call.voices import Said, Voice, Voices
from config.deadlines import Deadlines
from providers.base import Audio, ProviderError, Spoken, TtsEvent, Word
from tests import virtual_time

RATE = 8000
CHARACTER = 0.05  # seconds
LOST = ProviderError("x", "tts-connection-lost", retryable=True)
REFUSED = ProviderError("x", "tts-unauthorized")


class Mouth:
    """Says what it is given; each reply follows the next of ``plans``: seconds of audio after which something happens
    (an error is raised, ``"hang"``), or ``None`` for nothing. ``words``: word times are given, and no end of a piece
    but the last.
    """

    def __init__(self, name: str, *plans: tuple[float, Any] | None, words: bool = False, delay: float = 0.1) -> None:
        self.name = name
        self.plans = list(plans)
        self.words = words
        self.delay = delay
        self.given: list[str] = []  # text of each reply
        self.running = 0

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        plan = self.plans.pop(0) if self.plans else None
        self.running += 1
        self.given.append("")
        said = samples = 0
        try:
            if plan is not None and plan[0] == 0.0:
                await self._act(plan[1])
            async for piece in text:
                self.given[-1] += piece
                await asyncio.sleep(self.delay)
                for at, char in enumerate(piece):
                    if self.words and char != " " and (at == 0 or piece[at - 1] == " "):
                        word = piece[at:].split(" ")[0]
                        yield Word(said + at + len(word), samples / rate)
                    samples += int(CHARACTER * rate)
                    yield Audio(bytes(2 * int(CHARACTER * rate)))
                    if plan is not None and samples >= plan[0] * rate:
                        await self._act(plan[1])
                said += len(piece)
                yield Spoken(said)
        finally:
            self.running -= 1

    async def _act(self, what: Any) -> None:
        if isinstance(what, Exception):
            raise what
        await asyncio.Event().wait()


class Stage:
    """Voices in order, what came of them, and what was told of their failures."""

    def __init__(self, *mouths: Mouth, **deadlines: float) -> None:
        self.mouths = mouths
        self.told: list[tuple[str, str, str]] = []
        self.made = Voices(
            [Voice(mouth.name, mouth) for mouth in mouths],
            Deadlines.model_validate(deadlines),
            lambda name, error, then: self.told.append((name, error.code, then)),
        )
        self.events: list[TtsEvent] = []

    async def say(self, *pieces: str, pause: float = 0.0) -> None:
        async def text() -> AsyncIterator[str]:
            for at, piece in enumerate(pieces):
                if at:
                    await asyncio.sleep(pause)
                yield piece

        self.events = []
        async with aclosing(self.made.speak(text(), RATE)) as events:  # type: ignore[type-var]
            async for event in events:
                self.events.append(event)
        assert not any(mouth.running for mouth in self.mouths)

    @property
    def seconds(self) -> float:
        return sum(len(event.pcm) for event in self.events if isinstance(event, Audio)) / 2 / RATE

    @property
    def spoken(self) -> int:
        return max((event.end for event in self.events if isinstance(event, Spoken)), default=0)

    def run(self, *pieces: str, pause: float = 0.0) -> None:
        virtual_time.run(self.say(*pieces, pause=pause))

    def fails(self, *pieces: str) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            self.run(*pieces)
        return caught.value


def test_one_voice_says_it_all() -> None:
    stage = Stage(Mouth("a"), Mouth("b"))
    stage.run("Hello there. ", "How are you?")
    assert stage.seconds == pytest.approx(25 * CHARACTER)
    assert (stage.spoken, stage.told) == (25, [])


def test_a_voice_that_cannot_be_had_is_tried_twice_and_then_the_next_one_speaks() -> None:
    first, second = Mouth("a", (0.0, LOST), (0.0, LOST)), Mouth("b")
    stage = Stage(first, second)
    stage.run("Hello there.")
    assert second.given == ["Hello there."]
    assert stage.told == [("a", "tts-connection-lost", "a"), ("a", "tts-connection-lost", "b")]


def test_a_voice_that_refuses_is_not_tried_twice() -> None:
    first, second = Mouth("a", (0.0, REFUSED)), Mouth("b")
    Stage(first, second).run("Hello there.")
    assert (len(first.given), second.given) == (1, ["Hello there."])


def test_the_voice_that_took_over_stays() -> None:
    first, second = Mouth("a", (0.0, REFUSED)), Mouth("b")
    stage = Stage(first, second)
    stage.run("One.")
    stage.run("Two.")
    assert (len(first.given), second.given) == (1, ["One.", "Two."])


def test_a_voice_that_took_over_in_a_fixed_text_keeps_the_call() -> None:
    first, second = Mouth("a", (0.0, REFUSED)), Mouth("b")
    stage = Stage(first, second)
    whole, stage.made = stage.made, stage.made.fixed()
    stage.run("Good morning.")
    stage.made = whole
    stage.run("Two.")
    assert (len(first.given), second.given) == (1, ["Good morning.", "Two."])


def test_without_another_voice_the_error_stands() -> None:
    stage = Stage(Mouth("a", (0.0, LOST), (0.0, LOST)))
    assert stage.fails("Hello.") is LOST
    assert stage.told == [("a", "tts-connection-lost", "a"), ("a", "tts-connection-lost", "")]


def test_after_a_cut_between_sentences_only_the_unsaid_sentence_is_said_again() -> None:
    first = Mouth("a", (14 * CHARACTER, LOST), None)
    stage = Stage(first)
    stage.run("Hello there. ", "How are you?")
    assert first.given[1] == "How are you?"
    assert stage.spoken == 25


def test_after_a_cut_within_a_sentence_the_voice_goes_on_at_the_word_that_broke_off() -> None:
    first, second = Mouth("a", (9 * CHARACTER, REFUSED), words=True), Mouth("b", words=True)
    stage = Stage(first, second)
    stage.run("One two three four five.")
    assert second.given == [" three four five."]
    words = [event for event in stage.events if isinstance(event, Word)]
    assert [word.end for word in words] == [3, 7, 13, 13, 18, 24], "a word that broke off is said once more, whole"
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert stage.spoken == 24


def test_without_word_times_the_place_is_reckoned_from_the_pace_of_the_voice() -> None:
    first = Mouth("a", ((13 + 14) * CHARACTER, LOST), None)
    stage = Stage(first)
    stage.run("Hello there. ", "one two three four five six.")
    assert first.given[1] == "four five six."


def test_a_cut_behind_the_last_sample_says_nothing_twice() -> None:
    first = Mouth("a", (12 * CHARACTER, LOST), None, words=True)
    stage = Stage(first)
    stage.run("Hello there.")
    assert stage.seconds <= (12 + 6) * CHARACTER


def test_a_voice_that_breaks_off_in_the_same_word_again_and_again_is_left() -> None:
    first, second = Mouth("a", *[(0.1, LOST)] * 9, words=True), Mouth("b")
    stage = Stage(first, second)
    stage.run("Extraordinarily.")
    assert (len(first.given), second.given) == (2, ["Extraordinarily."])


def test_no_audio_in_time_is_a_failure() -> None:
    first, second = Mouth("a", (0.0, "hang"), (0.0, "hang")), Mouth("b")
    stage = Stage(first, second)

    async def main() -> float:
        await stage.say("Hello.")
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == pytest.approx(6.1)
    assert stage.told == [("a", "tts-timeout", "a"), ("a", "tts-timeout", "b")]


def test_a_voice_that_stalls_within_its_sentence_is_left_there() -> None:
    first, second = Mouth("a", (4 * CHARACTER, "hang"), words=True), Mouth("b")
    stage = Stage(first, second)
    stage.run("One two three.")
    assert second.given == [] and len(first.given) == 2, "it was tried once more"
    assert first.given[1] in ("One two three.", " two three.")


def test_a_model_that_takes_its_time_is_no_silent_voice() -> None:
    stage = Stage(Mouth("a"))
    stage.run("Hello there. ", "How are you?", pause=60.0)
    assert (stage.told, stage.spoken) == ([], 25)


def test_a_listener_that_takes_its_time_is_no_silent_voice() -> None:
    stage = Stage(Mouth("a"))

    async def text() -> AsyncIterator[str]:
        yield "Hello there."

    async def main() -> None:
        async with aclosing(stage.made.speak(text(), RATE)) as events:  # type: ignore[type-var]
            async for event in events:
                stage.events.append(event)
                await asyncio.sleep(10.0)

    virtual_time.run(main())
    assert (stage.told, stage.spoken) == ([], 12)


def test_a_voice_that_ends_without_a_sound_is_tried_again() -> None:
    class Mute(Mouth):
        async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
            self.given.append("".join([piece async for piece in text]))
            none: list[TtsEvent] = []
            for event in none:
                yield event

    first, second = Mute("a"), Mouth("b")
    stage = Stage(first, second)
    stage.run("Hello.")
    assert (first.given, second.given) == (["Hello.", "Hello."], ["Hello."])
    assert stage.told[0] == ("a", "tts-silent", "a")


def test_a_cancelled_reply_leaves_no_voice_behind() -> None:
    stage = Stage(Mouth("a", (0.3, "hang")), Mouth("b"))

    async def main() -> None:
        task = asyncio.create_task(stage.say("Hello there, and good morning."))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.mouths[0].running == 0

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("events", "text", "where"),
    [
        ([], "Hello.", 0),
        ([Audio(bytes(1600)), Spoken(6)], "Hello. You.", 6),
        ([Word(5, 0.0), Word(9, 0.5), Audio(bytes(16000 * 2))], "Hello you there", 5),
        ([Word(5, 0.0), Audio(bytes(1600))], "Hello you there", 0),
        ([Audio(bytes(16000 * 2))], "Hello you there my dear friends", 24),
    ],
)
def test_where_a_reply_broke_off(events: list[TtsEvent], text: str, where: int) -> None:
    said = Said(RATE)
    for event in events:
        said.add(event)
    assert said.where(text) == where
