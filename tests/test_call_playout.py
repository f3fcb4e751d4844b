"""Whole calls: what of the agent's voice reaches the caller, sample by sample."""

import asyncio
import math
from typing import Any

import pytest

from agentd.jambonz.media import MediaSide
from tests import virtual_time
from tests.jambonz import FakeJambonz, voice
from tests.whole_call import House, agent, runs, say, spoken

REPLIES = [f"This is answer number {n}." + " It goes on for a while." * (n % 3) for n in range(10)]


def assert_nothing_went_wrong(media: MediaSide) -> None:
    assert (media.stuck, media.false_marks, media.dropped_marks) == (0, 0, 0)
    assert media.max_ahead <= (0.25 + 0.08) * media.channel_rate


@pytest.mark.parametrize("tts", [{}, {"chunk": 0.0131}, {"chunk": 0.093, "pace": 0.06}], ids=str)
@pytest.mark.parametrize(
    ("options", "rate", "step"),
    [
        ({}, 8000, 1),
        ({"sample_rate": 16000, "channel_rate": 16000}, 16000, 1),
        ({"sample_rate": 24000, "channel_rate": 24000}, 24000, 1),
        ({"playback_rate": 24000}, 24000, 3),
        ({"playback_rate": 16000, "sample_rate": 16000}, 16000, 2),
    ],
    ids=str,
)
def test_after_ten_turns_every_sample_of_every_reply_was_played_once_and_in_order(
    options: dict[str, Any], rate: int, step: int, tts: dict[str, float]
) -> None:
    house = House(agent(["hello"] * 10, REPLIES, llm={"token": 0.02}, tts=tts))

    async def main() -> None:
        async with house.call(**options) as call:
            most_marks = 0
            for _ in REPLIES:
                await house.turn(call)
                most_marks = max(most_marks, call.media.outstanding_marks)
            await call.play(1.0)
        assert [entry["response"] for entry in house.entries("turn_end")] == REPLIES
        played = [(run.first, run.length) for run in runs(call.media.recording, step)]
        assert played == [(step - 1, spoken(text, rate) // step) for text in REPLIES]
        assert most_marks <= 3
        assert_nothing_went_wrong(call.media)

    virtual_time.run(main())


def test_a_voice_that_comes_a_sentence_at_a_time_loses_nothing_between_the_sentences() -> None:
    text = "One is said. Two is said. Three is said."
    house = House(agent(["hello"], [text], llm={"token": 0.5}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
        heard = runs(call.media.recording)
        assert sum(run.length for run in heard) == spoken(text)
        assert [run.first for run in heard[1:]] == [run.first + run.length for run in heard[:-1]]
        assert_nothing_went_wrong(call.media)

    virtual_time.run(main())


def test_the_greeting_waits_for_no_first_pre_buffer() -> None:
    house = House(agent(greeting="Good day.", tts={"first": 0.5}))

    async def main() -> None:
        async with house.call() as call:
            at = await call.until(lambda: call.is_audible)
        assert at == 0.52  # the voice takes 500 ms, the next tick of the far side comes 20 ms later

    virtual_time.run(main())


def test_a_reply_shorter_than_the_pre_buffer_is_heard() -> None:
    house = House(agent(["hello"], ["A."], tts={"character": 0.01}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
        assert [(run.first, run.length) for run in runs(call.media.recording)] == [(0, 160)]
        assert_nothing_went_wrong(call.media)

    virtual_time.run(main())


def test_a_burst_of_sixty_seconds_waits_at_the_voice() -> None:
    text = "a" * 1199 + "."
    house = House(agent(["hello"], [text]))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 1.0)
            (live,) = house.node.calls
            sender = live.call.part.sender  # type: ignore[attr-defined]
            assert len(sender._queue) <= 2 * 8000 * 20.2
            await call.until(lambda: house.entries("turn_end"), within=70)
        assert [(run.first, run.length) for run in runs(call.media.recording)] == [(0, 60 * 8000)]
        assert_nothing_went_wrong(call.media)

    virtual_time.run(main())


@pytest.mark.parametrize("answers", ["never", "late", "twice", "unknown"])
def test_marks_refine_the_clock_and_never_drive_it(answers: str) -> None:
    """The far side's marks are lost, half a second late, doubled, or of names that we never gave."""
    house = House(agent(["hello"] * 4, ["Good day to you.", "And to you.", "Yes.", "No."]))

    def strange(call: FakeJambonz) -> None:
        send = call.line.send

        def forward(message: str | bytes) -> None:
            if isinstance(message, bytes) or '"mark"' not in message:
                send(message)
            elif answers == "late":
                asyncio.get_running_loop().call_later(0.7, send, message)
            elif answers == "twice":
                send(message)
                send(message)
            elif answers == "unknown":
                send('{"type": "mark", "data": {"name": "of somebody else", "event": "playout"}}')

        call.line.send = forward  # type: ignore[method-assign]

    async def main() -> None:
        call = house.call()
        strange(call)
        async with call:
            for text in ("Good day to you.", "And to you.", "Yes.", "No."):
                entry = await house.turn(call)
                assert entry["response"] == text
                assert call.now - call.heard()[-1][1] <= 0.521  # fault 24: within 500 ms of the estimated end
        assert [run.length for run in runs(call.media.recording)] == [6400, 4400, 1600, 1200]
        assert call.media.dropped_marks == 0
        assert len(call.received("mark")) == {"never": 3, "late": 4, "twice": 4, "unknown": 3}[answers]

    virtual_time.run(main())


def test_a_goodbye_is_heard_to_its_end_before_the_call_is_handed_back() -> None:
    house = House(agent(["bye"], [{"tools": [{"name": "hangup"}]}, "Goodbye then."], hangup=True))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: call.closed)
        assert [(run.first, run.length) for run in runs(call.media.recording)] == [(0, spoken("Goodbye then."))]
        assert call.received("disconnect") == [{"type": "disconnect"}]
        assert house.entries("call_ended")[0]["completion_reason"] == "normal conversation end"
        assert [entry["interrupted"] for entry in house.entries("turn_end")] == [False]

    virtual_time.run(main())


def test_the_log_of_a_call_is_the_same_when_the_call_is_run_twice() -> None:
    def once() -> list[dict[str, Any]]:
        house = House(
            agent(
                ["hello", "stop it now", "bye"],
                ["I am telling a rather long story about this and that.", {"tools": [{"name": "hangup"}]}, "Goodbye."],
                greeting="Good day.",
                hangup=True,
                llm={"token": 0.03},
                stt={"partials": True},
            )
        )

        async def main() -> None:
            async with house.call() as call:
                await call.until(lambda: house.entries("turn_end"))
                await house.speaking(call, 0.7)
                call.say(voice(0.7))
                await call.until(lambda: call.closed)

        virtual_time.run(main())
        return house.logs[-1].entries

    first = once()
    assert {entry["type"] for entry in first} >= {"user_interruption", "tool_result", "turn_end", "call_ended"}
    assert first == once()
    assert not any(isinstance(value, float) and math.isnan(value) for entry in first for value in entry.values())
