"""Whole calls: the model is prompted before the turn has ended (`earlyGeneration`)."""

from typing import Any

import pytest

from providers.base import Message
from tests import virtual_time
from tests.jambonz import voice
from tests.whole_call import House, agent, runs, say, spoken

EARLY: dict[str, Any] = {"earlyGeneration": True, "noResponseTimeout": 0}
SPOKEN: dict[str, Any] = {**EARLY, "earlyGeneration": {"enable": True, "speech": True}}
PARTIALS = {"partials": True}  # the words are known when the voice stops: 0.2 s before the turn ends
LOOK = {"tools": [{"name": "calculator", "arguments": {"expression": "6*7"}}], "text": "Let me see. "}
INVISIBLE = ("agent_response", "llm_response", "tool_call", "user_transcript", "turn_end")


def turn(house: House) -> dict[str, Any]:
    """The last turn of a call in which the caller speaks once."""

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    return house.entries("turn_end")[-1]


def preflight(entry: dict[str, Any]) -> Any:
    return entry["latency"].get("preflight")


def test_a_hit_releases_the_words_that_are_at_hand() -> None:
    house = House(agent(["hello"], ["Here I am, at last."], stt=PARTIALS, llm={"first": 0.1, "token": 0.04}, **EARLY))
    entry = turn(house)
    assert preflight(entry) == {"result": "hit", "tokens": 3}  # after 0.1, 0.14 and 0.18 of the 0.2 seconds
    assert "llm_ms" not in entry["latency"]
    assert entry["response"] == "Here I am, at last."
    assert len(house.prompts) == 1
    assert [e["response"] for e in house.entries("agent_response")] == ["Here I am, at last."]
    assert len(house.entries("user_transcript")) == 1


def test_a_speculation_without_a_word_is_pending_and_still_ahead() -> None:
    entry = turn(House(agent(["hello"], ["Here I am."], stt=PARTIALS, llm={"first": 0.5}, **EARLY)))
    assert preflight(entry) == {"result": "pending"}
    assert entry["latency"]["llm_ms"] == 300


def test_a_speculation_on_other_words_is_a_miss() -> None:
    stt = [[{"after": 0.0, "partial": "hello"}, {"after": 0.35, "final": "hello there"}]]
    house = House(agent(stt, ["Hi.", "Hi there."], llm={"first": 0.02}, **EARLY))
    entry = turn(house)
    assert preflight(entry) == {"result": "miss"}
    assert entry["response"] == "Hi there."
    assert [prompt.messages[-1].content for prompt in house.prompts] == ["hello", "hello there"]


def test_words_that_differ_in_case_and_punctuation_only_are_the_same() -> None:
    stt = [[{"after": 0.0, "partial": "hello there"}, {"after": 0.1, "final": "Hello, there."}]]
    house = House(agent(stt, ["Hi there."], llm={"first": 0.02}, **EARLY))
    assert preflight(turn(house)) == {"result": "hit", "tokens": 2}
    assert len(house.prompts) == 1


def test_without_early_generation_there_is_no_preflight() -> None:
    assert preflight(turn(House(agent(["hello"], ["Hi."], stt=PARTIALS)))) is None


@pytest.mark.parametrize(
    ("verb", "first", "sooner"),
    [(EARLY, 0.1, 100), (EARLY, 0.5, 200), (SPOKEN, 0.05, 50 + 100), (SPOKEN, 0.5, 200)],
    ids=["hit", "pending", "hit with speech", "pending with speech"],
)
def test_an_early_answer_is_heard_sooner_by_what_was_done_before_the_turn_ended(
    verb: dict[str, Any], first: float, sooner: int
) -> None:
    def total(**more: Any) -> int:
        entry = turn(House(agent(["hello"], ["Here I am."], stt=PARTIALS, llm={"first": first}, **more)))
        latency = entry["latency"]
        parts = sum(v for k, v in latency.items() if k.endswith("_ms") and k != "total_ms")
        assert abs(parts - latency["total_ms"]) <= 1
        return int(latency["total_ms"])

    assert total() - total(**verb) == pytest.approx(sooner, abs=1)


def test_with_speech_a_hit_is_heard_at_once() -> None:
    house = House(agent(["hello"], ["Here I am."], stt=PARTIALS, llm={"first": 0.05}, **SPOKEN))
    latency = turn(house)["latency"]
    assert latency.get("tts_ms", 0) == 0
    assert latency["total_ms"] == pytest.approx(500, abs=25)


@pytest.mark.parametrize(("verb", "pieces"), [(EARLY, []), (SPOKEN, ["One two, "])], ids=["words", "speech"])
def test_nothing_of_a_speculation_is_noticed_before_its_release(verb: dict[str, Any], pieces: list[str]) -> None:
    entry = [{"after": 0.0, "partial": "hello"}, {"after": 3.0, "final": "hello"}]
    house = House(agent([entry], ["One two, three four. Five six."], llm={"first": 0.02}, **verb))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: house.prompts)
            await call.play(0.9)
            assert [house.entries(name) for name in INVISIBLE] == [[]] * len(INVISIBLE)
            assert (house.said, runs(call.media.recording), call.is_audible) == (pieces, [], False)
            await call.until(lambda: house.entries("turn_end"))
        assert [run.length for run in runs(call.media.recording)] == [spoken("One two, three four. Five six.")]

    virtual_time.run(main())
    assert preflight(house.entries("turn_end")[0])["result"] == "hit"
    assert house.said == ["One two, ", "three four. ", "Five six."]


def test_a_discarded_speculation_leaves_no_trace() -> None:
    stt = [[{"after": 0.0, "partial": "hello"}, {"after": 0.3, "final": "goodbye"}], "again"]
    house = House(agent(stt, ["Never said. Never heard.", "Bye.", "Yes."], llm={"first": 0.02}, **SPOKEN))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await house.turn(call)
        assert sum(run.length for run in runs(call.media.recording)) == spoken("Bye.") + spoken("Yes.")

    virtual_time.run(main())
    assert [entry["response"] for entry in house.entries("agent_response")] == ["Bye.", "Yes."]
    assert [message.content for message in house.prompts[-1].messages] == ["goodbye", "Bye.", "again"]


def test_tools_of_a_speculation_run_after_its_release_only_and_once() -> None:
    entry = [{"after": 0.0, "partial": "hello"}, {"after": 1.1, "final": "hello"}]
    house = House(agent([entry], [LOOK, "It is 42."], llm={"first": 0.02}, tools=["calculator"], **SPOKEN))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: house.prompts)
            await call.play(0.8)
            assert house.entries("tool_call") == []
            await call.until(lambda: house.entries("turn_end"))

    virtual_time.run(main())
    ended = house.entries("turn_end")[0]
    assert (len(house.entries("tool_call")), len(house.prompts)) == (1, 2)
    assert ended["response"] == "Let me see. It is 42."
    assert [call["name"] for call in ended["tool_calls"]] == ["calculator"]


def test_tools_of_a_speculation_that_is_discarded_never_run() -> None:
    entry = [{"after": 0.0, "partial": "hello"}, {"after": 0.5, "final": "goodbye"}]
    house = House(agent([entry], [LOOK, "Bye."], llm={"first": 0.02}, tools=["calculator"], **EARLY))
    assert turn(house)["response"] == "Bye."
    assert house.entries("tool_call") == []


def test_a_speculation_that_fails_is_not_noticed() -> None:
    entry = [{"after": 0.0, "partial": "hello"}, {"after": 0.5, "final": "hello"}]
    broken = {"error": "overloaded"}
    house = House(agent([entry], [broken, "Here I am."], llm={"first": 0.02}, **EARLY))
    ended = turn(house)
    assert (ended["response"], preflight(ended)["result"]) == ("Here I am.", "miss")
    assert house.entries("turn_failed") == []


def test_a_voice_that_fails_in_a_speculation_is_not_noticed() -> None:
    entry = [{"after": 0.0, "partial": "hello"}, {"after": 0.5, "final": "hello"}]
    tts = {"errors": [0, None]}
    house = House(agent([entry], ["Here I am."], llm={"first": 0.02}, tts=tts, **SPOKEN))
    assert turn(house)["response"] == "Here I am."
    assert house.entries("turn_failed") == []


def test_a_speculation_beside_an_interrupted_answer_knows_what_was_heard_of_it() -> None:
    text = "This is the first sentence. This is the second one. And the third."
    house = House(agent(["tell me", "stop it"], [text, "I stopped."], stt=PARTIALS, llm={"first": 0.02}, **EARLY))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 1.5)
            call.say(voice(0.8))
            await call.until(lambda: len(house.prompts) == 2)
            assert len(house.entries("turn_end")) == 0  # the interrupted turn is not over
            await call.until(lambda: len(house.entries("turn_end")) == 2)

    virtual_time.run(main())
    cut, answer = house.entries("turn_end")
    assert cut["interrupted"] and text.startswith(cut["response"]) and cut["response"]
    assert preflight(answer)["result"] == "hit"
    assert house.prompts[1].messages == (
        Message("user", "tell me"),
        Message("assistant", cut["response"]),
        Message("user", "stop it"),
    )


@pytest.mark.parametrize("verb", [EARLY, SPOKEN], ids=["words", "speech"])
def test_a_hang_up_during_a_speculation_leaves_nothing(verb: dict[str, Any]) -> None:
    entry = [{"after": 0.0, "partial": "hello"}, {"after": 5.0, "final": "hello"}]
    house = House(agent([entry], [{**LOOK, "hang": True}], llm={"first": 0.02}, tools=["calculator"], **verb))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: house.prompts)
            await call.play(0.2)
            call.hang_up()

    virtual_time.run(main())
    types = {entry["type"] for entry in house.logs[-1].entries}
    looked_at = {"speech_started", "speech_stopped", "speculation", "prompt", "discarded"}  # by who watches the call
    assert types == {"call_began", "part", "state", "partial", "call_ended", *looked_at}


def test_a_speculation_whose_words_vanish_is_never_released() -> None:
    lost = [{"after": 0.0, "partial": "yes"}, {"after": 0.3, "final": ""}]
    stt = ["hello", lost, "yes"]
    house = House(agent(stt, ["What do you want?", "Stale.", "Fresh."], llm={"first": 0.02}, **EARLY))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            await say(call)
            await call.play(3.0)
            await house.turn(call)

    virtual_time.run(main())
    assert [entry["response"] for entry in house.entries("turn_end")] == ["What do you want?", "Fresh."]


# A vendor with its own turn detection --------------------------------------------------------------------

FLUX = [
    {"after": 0.0, "partial": "hello"},
    {"after": 0.05, "eager": "hello"},
    {"after": 0.25, "final": "hello", "end_of_turn": True},
]


def test_an_eager_signal_is_always_taken_and_the_vendors_end_of_turn_at_once() -> None:
    ended = turn(House(agent([FLUX], ["Here I am."], llm={"first": 0.1})))
    assert preflight(ended) == {"result": "hit", "tokens": 3}
    latency = ended["latency"]
    assert (latency["stt_ms"], latency.get("eot_ms", 0)) == (600, 0)


def test_without_the_spoken_answer_an_eager_signal_is_not_taken() -> None:
    house = House(agent([FLUX], ["Here I am."], llm={"first": 0.1}, speak=False))
    assert preflight(turn(house)) is None
    assert len(house.prompts) == 1


def test_a_caller_who_goes_on_after_an_eager_signal_is_answered_once_and_whole() -> None:
    first = [{"after": 0.0, "partial": "I would"}, {"after": 0.05, "eager": "I would"}, {"after": 0.1, "resumed": True}]
    second = [
        {"after": 0.0, "partial": "I would like tea"},
        {"after": 0.1, "eager": "I would like tea"},
        {"after": 0.2, "final": "I would like tea", "end_of_turn": True},
    ]
    house = House(agent([first, second], ["What?", "Tea it is."], llm={"first": 0.02}, noResponseTimeout=0))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.play(0.5)
            await house.turn(call)

    virtual_time.run(main())
    (ended,) = house.entries("turn_end")
    assert (ended["transcript"], ended["response"]) == ("I would like tea", "Tea it is.")
    assert preflight(ended)["result"] == "hit"


@pytest.mark.parametrize(("mode", "eot"), [("stt", 0), ("krisp", 300)])
def test_a_vendors_endpointing_is_obeyed_in_mode_stt_only(mode: str, eot: int) -> None:
    stt = [[{"after": 0.1, "final": "I would like to", "speech_final": True}]]
    latency = turn(House(agent(stt, ["Yes?"], turnDetection=mode)))["latency"]
    assert (latency.get("eot_ms", 0) > eot) == (mode == "krisp")
    assert latency["stt_ms"] == 400
