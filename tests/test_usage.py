"""What a call has used of its vendors, from their own count or ours, by vendor."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from agentd.call.voices import Voice, Voices
from agentd.ops.usage import Meter, amounts
from config.deadlines import Deadlines
from providers.base import Audio, ProviderError, Spoken, Tts, TtsEvent, Usage
from providers.llm import anthropic_wire
from providers.llm.usage import of_anthropic, of_bedrock, of_google, of_openai
from providers.standin import MODEL
from tests import virtual_time
from tests.whole_call import House, agent, spoken

# The vendors' own figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "told", "usage"),
    [
        (of_openai, {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}, Usage(9, 5)),
        (
            of_openai,
            {"prompt_tokens": 2006, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1920}},
            Usage(2006, 5, 1920),
        ),
        (of_anthropic, {"input_tokens": 9, "output_tokens": 5}, Usage(9, 5)),
        (
            of_anthropic,
            {"input_tokens": 4, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 5},
            Usage(124, 5, 100),
        ),
        (of_google, {"promptTokenCount": 9, "candidatesTokenCount": 5, "totalTokenCount": 14}, Usage(9, 5)),
        (
            of_google,
            {"promptTokenCount": 9, "candidatesTokenCount": 5, "thoughtsTokenCount": 7, "cachedContentTokenCount": 3},
            Usage(9, 12, 3),
        ),
        (of_google, {"prompt_token_count": 9, "candidates_token_count": 5}, Usage(9, 5)),
        (of_bedrock, {"inputTokens": 9, "outputTokens": 5, "totalTokens": 14}, Usage(9, 5)),
        (
            of_bedrock,
            {"inputTokens": 4, "outputTokens": 5, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 20},
            Usage(124, 5, 100),
        ),
    ],
)
def test_every_vendor_counts_in_words_of_its_own(read: Any, told: Mapping[str, Any], usage: Usage) -> None:
    assert list(read(told)) == [usage]


@pytest.mark.parametrize("read", [of_openai, of_anthropic, of_google, of_bedrock])
@pytest.mark.parametrize(
    "told", [{}, {"prompt_tokens": "9", "input_tokens": None, "inputTokens": -1, "promptTokenCount": True}]
)
def test_a_vendor_that_counts_nothing_tells_nothing(read: Any, told: Mapping[str, Any]) -> None:
    assert list(read(told)) == []


def test_anthropic_counts_the_prompt_at_the_start_and_the_answer_at_the_end() -> None:
    answer = anthropic_wire.Answer()
    answer.data(b'{"type": "message_start", "message": {"usage": {"input_tokens": 9, "output_tokens": 1}}}')
    answer.data(b'{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}')
    assert list(of_anthropic(answer.usage)) == [Usage(9, 5)]


# The sums ----------------------------------------------------------------------------------------------------


def test_what_was_taken_once_is_not_taken_again_and_the_total_has_all() -> None:
    meter = Meter()
    meter.tokens("openai:m", 10, 5, 4)
    meter.listened("deepgram", 1.23456)
    assert meter.take() == {
        "llm": {"openai:m": {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 4}},
        "stt": {"deepgram": {"seconds": 1.235}},
    }
    meter.tokens("openai:m", 20, 5)
    meter.tokens("anthropic:c", 1, 2)
    meter.characters("cartesia", 12)
    meter.played(0.5)
    assert meter.take() == {
        "llm": {
            "openai:m": {"prompt_tokens": 20, "completion_tokens": 5},
            "anthropic:c": {"prompt_tokens": 1, "completion_tokens": 2},
        },
        "tts": {"cartesia": {"characters": 12}},
        "played": {"seconds": 0.5},
    }
    assert meter.take() == {}
    assert sorted(amounts(meter.total())) == [
        ("llm", "anthropic:c", "completion_tokens", 2),
        ("llm", "anthropic:c", "prompt_tokens", 1),
        ("llm", "openai:m", "cached_tokens", 4),
        ("llm", "openai:m", "completion_tokens", 10),
        ("llm", "openai:m", "prompt_tokens", 30),
        ("played", "", "seconds", 0.5),
        ("stt", "deepgram", "seconds", 1.235),
        ("tts", "cartesia", "characters", 12),
    ]
    assert meter.fields() == {
        "prompt_tokens": 31,
        "completion_tokens": 12,
        "cached_tokens": 4,
        "stt_seconds": 1.235,
        "tts_characters": 12,
        "played_seconds": 0.5,
    }


# Voices ------------------------------------------------------------------------------------------------------


class Mouth:
    """Says so many pieces, and is lost."""

    def __init__(self, pieces: int, *, is_hit: bool = False) -> None:
        self.is_hit = is_hit
        self._pieces = pieces

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        end = 0
        async for piece in text:
            if not self._pieces:
                raise ProviderError("mouth", "tts-lost")
            self._pieces -= 1
            end += len(piece)
            yield Audio(bytes(160))
            yield Spoken(end)


def used(*mouths: tuple[str, Tts]) -> list[tuple[str, int]]:
    heard: list[tuple[str, int]] = []
    voices = Voices(
        [Voice(name, mouth) for name, mouth in mouths],
        Deadlines(),
        lambda name, error, then: None,
        lambda name, characters: heard.append((name, characters)),
    )

    async def main() -> None:
        async for _ in voices.speak(pieces(), 8000):
            pass

    async def pieces() -> AsyncIterator[str]:
        for piece in ("Hello. ", "How are you?"):
            yield piece
            await asyncio.sleep(0.1)

    virtual_time.run(main())
    return heard


def test_a_voice_is_counted_by_the_characters_that_it_was_given() -> None:
    assert used(("a", Mouth(9))) == [("a", 19)]


def test_a_voice_that_takes_over_is_counted_from_there() -> None:
    assert used(("a", Mouth(1)), ("b", Mouth(9))) == [("a", 19), ("b", 12)]


def test_what_comes_from_the_cache_costs_nothing() -> None:
    assert used(("a", Mouth(9, is_hit=True))) == []


# Whole calls -------------------------------------------------------------------------------------------------


def test_a_call_says_in_the_end_what_it_has_used(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "agentd")
    house = House(agent(["hello", "again"], ["Yes, I am here."], tts={"character": 0.05}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await house.turn(call)
            call.hang_up()

    virtual_time.run(main())
    one, two = (turn["usage"] for turn in house.entries("turn_end"))
    seconds = spoken("Yes, I am here.") / 8000
    assert one["tts"] == two["tts"] == {"scripted": {"characters": 15}}
    assert one["played"] == two["played"] == {"seconds": seconds}
    (end,) = house.entries("call_ended")
    heard = end["usage"].pop("stt")["scripted"]["seconds"]
    assert heard == pytest.approx(end["at"], abs=0.1)  # all that the caller sent
    assert one["stt"]["scripted"]["seconds"] + two["stt"]["scripted"]["seconds"] <= heard
    assert end["usage"] == {"tts": {"scripted": {"characters": 30}}, "played": {"seconds": 2 * seconds}}
    (line,) = (record.__dict__ for record in caplog.records if record.message == "call ended")
    figures = {name: line[name] for name in ("tts_characters", "played_seconds", "stt_seconds")}
    assert figures == {"tts_characters": 30, "played_seconds": 2 * seconds, "stt_seconds": heard}


def test_the_tokens_of_a_model_are_counted_by_its_name() -> None:
    made = agent(["hello"]).given()
    house = House(type(agent()).parse({**made, "llm": {"vendor": "demo"}}))

    async def main() -> None:
        async with house, house.call() as call:
            await house.turn(call)
            call.hang_up()

    virtual_time.run(main())
    (answered,) = house.entries("model_answered")
    tokens = {"prompt_tokens": answered["prompt_tokens"], "completion_tokens": answered["completion_tokens"]}
    assert answered["llm"] == MODEL and min(tokens.values()) > 0
    assert house.entries("turn_end")[0]["usage"]["llm"] == {MODEL: tokens}
    assert house.entries("call_ended")[0]["usage"]["llm"] == {MODEL: tokens}
