"""Whole calls whose vendors fail: somebody else answers, speaks or listens, and nobody is told anything twice."""

from typing import Any

from tests import virtual_time
from tests.whole_call import House, agent, say

OVERLOADED = {"error": "llm-server-error", "retryable": True}


def play(house: House, turns: int) -> None:
    async def main() -> None:
        async with house.call() as call:
            for _ in range(turns):
                await house.turn(call)

    virtual_time.run(main())


def responses(house: House) -> list[str]:
    return [entry["response"] for entry in house.entries("turn_end")]


def failures(house: House) -> list[tuple[str, str, str, str]]:
    return [(e["role"], e["vendor"], e["code"], e["then"]) for e in house.entries("vendor_failed")]


# The model ------------------------------------------------------------------------------------------------


def with_second_model(*first: Any, second: list[Any], **verb: Any) -> House:
    made = agent(["one", "two", "three"], list(first), noResponseTimeout=0, **verb).given()
    made["llm"]["fallback"] = [{"vendor": "scripted", "label": "b", "vendorParams": {"replies": second}}]
    return House(type(agent()).parse(made))


def test_another_model_answers_in_the_same_turn() -> None:
    house = with_second_model({"error": "llm-unauthorized"}, second=["Here I am."])
    play(house, 1)
    assert responses(house) == ["Here I am."]
    assert failures(house) == [("llm", "scripted", "llm-unauthorized", "scripted")]


def test_in_the_next_turn_the_model_that_works_is_asked_first() -> None:
    house = with_second_model({"hang": True}, "First again.", second=["One.", "Two."])
    play(house, 2)
    assert responses(house) == ["One.", "Two."]
    (first, second) = house.entries("turn_end")
    assert (first["latency"]["llm_ms"], second["latency"]["llm_ms"]) == (5200, 200)


def test_a_model_that_breaks_off_is_not_repeated_by_another() -> None:
    house = with_second_model({"text": "This is whole. This is", "error": "llm-connection-lost"}, second=["Again?"])
    play(house, 2)
    assert responses(house) == ["This is whole.", "Again?"]


def test_half_a_sentence_is_spoken_when_the_model_falls_silent_before_its_tool() -> None:
    call = {"text": "Let me see", "tools": [{"name": "calculator", "arguments": {"expression": "6*7"}}]}
    house = House(agent(["hello"], [call, "It is 42."], tools=["calculator"], llm={"token": 0.3}, noResponseTimeout=0))
    play(house, 1)
    assert responses(house) == ["Let me see It is 42."]

    silent = {"text": "Let me look that up for you", "hang": True}
    house = House(agent(["hello"], [silent], noResponseTimeout=0))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: call.is_audible)
            assert house.said == ["Let me look that up for you"]
            assert house.entries("vendor_failed") == []

    virtual_time.run(main())


def test_without_a_wish_for_it_no_sentence_is_spoken_by_halves() -> None:
    silent = {"text": "Let me look that up for you", "hang": True}
    house = House(agent(["hello"], [silent], noResponseTimeout=0, deadlines={"partialSentence": 0, "tokenGap": 2}))
    play(house, 1)
    assert responses(house) == [""]


def test_every_deadline_of_the_model_has_a_key() -> None:
    house = with_second_model(
        {"hang": True}, second=["Yes."], deadlines={"firstToken": 1.5, "hedge": 0, "retryAfter": 1}
    )
    play(house, 1)
    assert house.entries("turn_end")[0]["latency"]["llm_ms"] == 1700


def test_a_hedge_shortens_the_wait_for_a_slow_model() -> None:
    house = with_second_model({"text": "Slow.", "first": 4.0}, second=["Quick."], deadlines={"hedge": 1.0})
    play(house, 1)
    assert responses(house) == ["Quick."]
    assert house.entries("turn_end")[0]["latency"]["llm_ms"] == 1200


# The voice ------------------------------------------------------------------------------------------------


def test_another_voice_says_the_rest_and_stays() -> None:
    text = "This is the first sentence. This is the second."
    made = agent(["one", "two"], [text, "Two."], tts={"errors": [1.7]}, noResponseTimeout=0).given()
    made["tts"] |= {"voice": "anna", "fallbackVendor": "scripted", "fallbackLabel": "b", "fallbackVoice": "ben"}
    house = House(type(agent()).parse(made))
    play(house, 2)
    assert responses(house) == [text, "Two."]
    assert house.voices == ["anna", "anna", "ben", "ben"]
    assert house.said[-2:] == [" is the second.", "Two."]
    assert failures(house) == [("tts", "scripted", "tts-lost", "scripted:b")]


# The recogniser ---------------------------------------------------------------------------------------------


def test_another_recogniser_hears_what_the_first_one_could_not() -> None:
    made = agent([{"error": "stt-unauthorized"}], ["Yes."], noResponseTimeout=0).given()
    made["stt"] |= {"fallbackVendor": "scripted", "fallbackLabel": "b"}
    house = House(type(agent()).parse(made))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.play(2.0)
            assert not call.closed

    virtual_time.run(main())
    assert failures(house) == [("stt", "scripted", "stt-unauthorized", "scripted:b")]


def test_a_recogniser_that_is_lost_again_and_again_is_replaced() -> None:
    lost = {"error": "stt-connection-lost", "retryable": True}
    made = agent([lost] * 9, ["Yes."], noResponseTimeout=0).given()
    made["stt"] |= {"fallbackVendor": "scripted", "fallbackLabel": "b"}
    house = House(type(agent()).parse(made))

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: len(failures(house)) == 3)
            assert not call.closed

    virtual_time.run(main())
    assert [then for *_, then in failures(house)] == ["scripted", "scripted", "scripted:b"]


# What cannot be had at all ----------------------------------------------------------------------------------


def test_a_vendor_that_cannot_be_had_leaves_the_call_to_its_fallback() -> None:
    made = agent(["one"], ["Yes."], noResponseTimeout=0).given()
    made["llm"] |= {"vendor": "openai", "model": "m", "fallback": [
        {"vendor": "scripted", "vendorParams": {"replies": ["I can."]}}
    ]}  # fmt: skip
    house = House(type(agent()).parse(made))
    play(house, 1)
    assert responses(house) == ["I can."]
