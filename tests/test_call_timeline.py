"""What a call's log tells whoever looks at its timeline: both voices, the words, what was thought ahead, prompts."""

from typing import Any

from agentd.call.wording import FEW, Wording
from tests import virtual_time
from tests.whole_call import House, agent, say


def test_a_turn_is_told_from_the_callers_first_sound_to_the_agents_last() -> None:
    house = House(agent(["hello"], ["Yes."]))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    types = [entry["type"] for entry in house.logs[0].entries if entry["type"] not in ("state", "model_answered")]
    assert types == [
        "call_began",
        "part",
        "speech_started",
        "speech_stopped",
        "final",
        "user_transcript",
        "prompt",
        "spoken",
        "reply_heard",
        "agent_response",
        "llm_response",
        "reply_played",
        "turn_end",
        "call_ended",
    ]
    (turn,), (heard,) = house.entries("turn_end"), house.entries("reply_heard")
    assert heard["at"] == turn["instants"]["heard"]
    (stopped,) = house.entries("speech_stopped")
    assert stopped["until"] == turn["instants"]["stopped"]


def test_a_log_begins_with_what_the_call_is() -> None:
    house = House(agent())

    async def main() -> None:
        async with house.call() as call:
            await call.play(0.1)

    virtual_time.run(main())
    began = house.logs[0].entries[0]
    assert began["type"] == "call_began"
    assert (began["agent"], began["from"], began["direction"]) == ("demo", "+15551230001", "inbound")
    assert (began["rate"], began["playback_rate"]) == (8000, 8000)


def test_each_prompt_is_told_as_what_is_new_in_it() -> None:
    house = House(agent(["one", "two"], ["First.", "Second."]))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await house.turn(call)

    virtual_time.run(main())
    first, second = house.entries("prompt")
    assert (first["turn"], first["kept"], first["messages"]) == (1, 0, [{"role": "user", "content": "one"}])
    assert (second["turn"], second["kept"]) == (2, 1)
    assert second["messages"] == [{"role": "assistant", "content": "First."}, {"role": "user", "content": "two"}]
    # Put together again they are what the model was asked.
    told = [*first["messages"], *second["messages"]]
    assert [message.content for message in house.prompts[-1].messages] == [message["content"] for message in told]


def test_what_is_thought_ahead_is_told_with_what_became_of_it() -> None:
    eager = [{"after": 0.0, "partial": "hello"}, {"after": 1.0, "final": "hello"}]
    house = House(agent([eager], ["Yes."], earlyGeneration=True))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    (ahead,), (released,) = house.entries("speculation"), house.entries("released")
    assert (ahead["transcript"], ahead["reply"]) == ("hello", released["reply"])
    assert ahead["at"] < released["at"]
    assert house.entries("prompt")[0]["speculative"]


def test_a_hold_says_for_how_long_the_agent_is_still_heard() -> None:
    house = House(agent(["hello", ""], ["A long answer that goes on and on for quite some time."]))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 1.0)
            await say(call, 0.2)
            await call.until(lambda: house.entries("resume"))

    virtual_time.run(main())
    (hold,) = house.entries("hold")
    assert 0 < hold["plays_on_ms"] <= 250


def told_by(*events: tuple[Any, ...]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    wording = Wording(lambda **fields: told.append(fields))
    for kind, *arguments in events:
        getattr(wording, kind)(*arguments)
    return told


def test_words_with_times_are_told_with_the_sentence_that_they_are_in() -> None:
    text = "Hello there. How are you?"
    told = told_by(
        ("word", text, 6, 0.1), ("word", text, 12, 0.5), ("span", text, 12, 1.0), ("word", text, 16, 1.1),
        ("span", text, 25, 2.0),
    )  # fmt: skip
    assert told == [
        {"words": [(0.1, "Hello"), (0.5, "there.")], "until": 1.0},
        {"words": [(1.1, "How"), (1.1, "are you?")], "until": 2.0},  # of these nobody has told where they begin
    ]


def test_a_sentence_without_times_is_one_piece_as_long_as_its_sound() -> None:
    text = "Hello there. How are you?"
    assert told_by(("span", text, 12, 1.0), ("span", text, 25, 2.0)) == [
        {"words": [(0.0, "Hello there.")], "until": 1.0},
        {"words": [(1.0, "How are you?")], "until": 2.0},
    ]


def test_many_words_do_not_wait_for_the_end_of_their_sentence() -> None:
    text = "a " * 20
    told = told_by(*(("word", text, 2 * number + 2, number / 10) for number in range(FEW + 1)))
    assert told == [{"words": [(number / 10, "a") for number in range(FEW)]}]
