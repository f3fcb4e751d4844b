"""Whole calls: the application changes the conversation while it goes on, and the caller presses keys."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from agentd.call import call as calls
from agentd.call.updates import UpdateRefused
from agentd.errors import AgentdError
from providers.base import Prompt, Tool
from tests import virtual_time
from tests.jambonz import Call, voice
from tests.whole_call import House, agent, runs, say, spoken

QUIET: dict[str, Any] = {"noResponseTimeout": 0}
TEXT = "This is the first sentence of it. Then comes another one. And here it ends."
LOOK = {"tools": [{"name": "datetime", "arguments": {}}]}


@asynccontextmanager
async def phone(house: House) -> AsyncIterator[Call]:
    """A call that has begun."""
    async with house.call() as call:
        await call.until(lambda: house.entries("state"))
        yield call


def its_call(house: House) -> calls.Call:
    [live] = house.node.calls
    return cast(calls.Call, live.call.part)  # type: ignore[attr-defined]


def update(house: House, type_: str, **data: Any) -> None:
    its_call(house).update({"type": type_, **data})


def told(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in prompt.messages]


def turns(house: House) -> list[tuple[str, str, str, bool]]:
    return [(e["cause"], e["transcript"], e["response"], e["interrupted"]) for e in house.entries("turn_end")]


async def over(house: House, call: Call, count: int) -> None:
    await call.until(lambda: len(house.entries("turn_end")) >= count)


# Instructions, context, tools ------------------------------------------------------------------------------


def test_other_instructions_hold_from_the_next_prompt_on() -> None:
    house = House(agent(["hello", "and now"], llm={"llmOptions": {"systemPrompt": "Be kind."}}, **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            update(house, "update_instructions", instructions="You are a pirate.")
            await house.turn(call)
            update(house, "update_instructions", instructions="You are a clerk.")
            await house.turn(call)

    virtual_time.run(main())
    assert [told(prompt)[0] for prompt in house.prompts] == [
        ("system", "You are a pirate."),
        ("system", "You are a clerk."),
    ]


def test_a_summary_outlives_other_instructions() -> None:
    house = House(agent(["hello"], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            its_call(house).history.summary = "They booked a table."
            update(house, "update_instructions", instructions="Be brief.")
            await house.turn(call)

    virtual_time.run(main())
    assert told(house.prompts[0])[0] == ("system", "Be brief.\n\n# Conversation context\n\nThey booked a table.")


def test_context_stands_behind_what_was_said() -> None:
    house = House(agent(["hello", "and now"], ["Hi."], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await house.turn(call)
            context = [{"role": "user", "content": "CRM: gold tier."}, {"role": "system", "content": "Be generous."}]
            update(house, "inject_context", messages=context)
            await house.turn(call)

    virtual_time.run(main())
    assert told(house.prompts[1]) == [
        ("user", "hello"),
        ("assistant", "Hi."),
        ("user", "CRM: gold tier."),
        ("system", "Be generous."),
        ("user", "and now"),
    ]


def test_context_that_comes_while_a_tool_runs_does_not_part_its_call_from_its_result() -> None:
    house = House(agent(["hello", "and now"], [LOOK, "It is noon.", "Bye."], tools=["datetime"], **QUIET))

    def inject(entry: dict[str, Any]) -> None:
        if entry["type"] == "tool_call":
            update(house, "inject_context", messages=[{"role": "user", "content": "CRM: gold tier."}])

    async def main() -> None:
        async with phone(house) as call:
            house.logs[-1].subscribe(inject)
            await house.turn(call)
            await house.turn(call)

    virtual_time.run(main())
    assert [message.role for message in house.prompts[1].messages] == ["user", "user", "assistant", "tool"]
    assert [role for role, _ in told(house.prompts[2])] == ["user", "user", "assistant", "tool", "assistant", "user"]
    assert told(house.prompts[2])[:2] == [("user", "CRM: gold tier."), ("user", "hello")]


def test_other_tools_are_the_applications_from_the_next_prompt_on() -> None:
    house = House(agent(["hello"], **QUIET))
    given: dict[str, Any] = {
        "name": "look",
        "description": "Look it up",
        "parameters": {"type": "object", "properties": {}},
    }

    async def main() -> None:
        async with phone(house):
            update(house, "update_tools", tools=[{"type": "function", "function": given}])
            assert its_call(house)._replies._toolbox.application == (Tool(**given),)
            update(house, "update_tools", tools=[])
            assert its_call(house)._replies._toolbox.application == ()

    virtual_time.run(main())


def test_what_was_thought_ahead_with_the_old_prompt_is_not_said() -> None:
    heard = [{"after": 0.1, "eager": "hello"}, {"after": 0.6, "final": "hello", "end_of_turn": True}]
    house = House(agent([heard], ["Old.", "New."], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await say(call)
            await call.until(lambda: house.prompts)
            update(house, "update_instructions", instructions="You are a clerk.")
            await over(house, call, 1)

    virtual_time.run(main())
    assert turns(house) == [("caller", "hello", "New.", False)]
    assert house.entries("turn_end")[0]["latency"]["preflight"] == {"result": "miss"}
    assert told(house.prompts[1]) == [("system", "You are a clerk."), ("user", "hello")]


# Replies ---------------------------------------------------------------------------------------------------


def test_a_reply_is_generated_at_once_while_the_call_is_idle() -> None:
    house = House(agent([], ["Your order has been shipped."], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await call.play(1.0)
            update(house, "generate_reply", user_input="Order 7 has been shipped.", instructions="Be cheerful.")
            await over(house, call, 1)

    virtual_time.run(main())
    assert turns(house) == [("request", "Order 7 has been shipped.", "Your order has been shipped.", False)]
    assert told(house.prompts[0]) == [("user", "Order 7 has been shipped."), ("system", "Be cheerful.")]
    assert house.entries("user_transcript") == []
    assert [entry["response"] for entry in house.entries("agent_response")] == ["Your order has been shipped."]


def test_its_instructions_hold_for_that_reply_only_and_for_all_its_tool_rounds() -> None:
    house = House(agent(["thanks"], [LOOK, "It is noon.", "Bye."], tools=["datetime"], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            update(house, "generate_reply", user_input="Tell the time.", instructions="Be brief.")
            await over(house, call, 1)
            await house.turn(call)

    virtual_time.run(main())
    assert [("system", "Be brief.") in told(prompt) for prompt in house.prompts] == [True, True, False]
    assert house.entries("turn_end")[0]["tool_calls"][0]["name"] == "datetime"


def test_without_words_of_its_own_the_model_is_told_to_go_on() -> None:
    house = House(agent([], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            update(house, "generate_reply")
            await over(house, call, 1)

    virtual_time.run(main())
    assert told(house.prompts[0]) == [("system", "The caller has said nothing new. Go on with the conversation.")]


def test_requests_are_answered_in_order_and_after_the_turn_in_progress() -> None:
    house = House(agent(["hello"], ["Yes.", "One.", "Two."], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await house.speaking(call, 0.1)
            update(house, "generate_reply", user_input="first")
            update(house, "generate_reply", user_input="second")
            await over(house, call, 3)

    virtual_time.run(main())
    assert turns(house) == [
        ("caller", "hello", "Yes.", False),
        ("request", "first", "One.", False),
        ("request", "second", "Two.", False),
    ]


def test_an_urgent_reply_stops_the_audio_within_one_frame_and_history_keeps_what_was_heard() -> None:
    house = House(agent(["hello"], [TEXT, "Flash sale!"], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await house.speaking(call, 1.0)
            update(house, "generate_reply", user_input="URGENT: flash sale", interrupt=True)
            killed = await call.until(lambda: call.received("killAudio"))
            silent = await call.until(lambda: not call.is_audible)
            assert silent <= killed + 0.02
            await over(house, call, 2)
        first, second = (run for run in runs(call.media.recording))
        assert first.length < spoken(TEXT)
        assert (second.first, second.length) == (0, spoken("Flash sale!"))

    virtual_time.run(main())
    (cause, _, heard, interrupted), second = turns(house)
    assert (cause, interrupted, TEXT.startswith(heard), 0 < len(heard) < 40) == ("caller", True, True, True)
    assert second == ("request", "URGENT: flash sale", "Flash sale!", False)
    assert told(house.prompts[1]) == [("user", "hello"), ("assistant", heard), ("user", "URGENT: flash sale")]
    assert house.entries("user_interruption") == []


def test_an_urgent_reply_covers_what_the_caller_was_saying() -> None:
    house = House(agent(["where is my order"], ["Both."], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            call.say(voice(0.6))
            await call.play(0.3)
            update(house, "generate_reply", user_input="Shipped!", interrupt=True)
            await over(house, call, 1)

    virtual_time.run(main())
    assert turns(house) == [("request", "Shipped!", "Both.", False)]
    assert told(house.prompts[0]) == [("user", "where is my order"), ("user", "Shipped!")]
    assert [entry["transcript"] for entry in house.entries("remark")] == ["where is my order"]


def test_the_callers_words_join_a_reply_that_was_not_heard_and_are_told_as_theirs() -> None:
    house = House(agent(["wait"], ["Both."], llm={"first": 2.0}, **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            update(house, "generate_reply", user_input="Shipped!", instructions="Be brief.")
            await say(call)
            await over(house, call, 1)

    virtual_time.run(main())
    assert turns(house) == [("caller", "Shipped! wait", "Both.", False)]
    assert told(house.prompts[-1]) == [("user", "Shipped! wait"), ("system", "Be brief.")]
    assert [entry["transcript"] for entry in house.entries("user_transcript")] == ["wait"]


# What is refused, and what is told -------------------------------------------------------------------------


def test_an_update_that_cannot_be_done_says_why_and_changes_nothing() -> None:
    house = House(agent([], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            with pytest.raises(AgentdError, match="userinput: unknown key; did you mean user_input"):
                update(house, "generate_reply", userinput="x")
            with pytest.raises(AgentdError, match="got 'sing'"):
                update(house, "sing")
            await call.play(1.0)

    virtual_time.run(main())
    assert (house.prompts, house.entries("update"), turns(house)) == ([], [], [])


def test_only_so_many_replies_can_be_asked_for() -> None:
    house = House(agent(["hello"], [TEXT], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await house.speaking(call, 0.1)
            for _ in range(32):
                update(house, "generate_reply")
            with pytest.raises(UpdateRefused, match="expected at most 32 requests to wait, got one more"):
                update(house, "generate_reply")

    virtual_time.run(main())
    assert len(house.entries("update")) == 32


def test_a_call_that_says_goodbye_or_is_over_takes_no_request() -> None:
    bye = {"text": "Goodbye then.", "tools": [{"name": "hangup"}]}
    house = House(agent(["bye"], [bye, ""], hangup=True, **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            ended = its_call(house)
            await say(call)
            await call.until(lambda: house.entries("state")[-1]["state"] == "ending")
            with pytest.raises(UpdateRefused, match="in which the agent says goodbye"):
                update(house, "generate_reply")
            await call.until(lambda: call.closed)
            with pytest.raises(UpdateRefused, match="expected a call in progress, got one that is over"):
                ended.update({"type": "update_instructions", "instructions": "x"})

    virtual_time.run(main())


def test_the_log_tells_of_each_update_but_nothing_of_what_it_says() -> None:
    house = House(agent([], **QUIET))

    async def main() -> None:
        async with phone(house):
            update(house, "update_instructions", instructions="secret")
            update(house, "inject_context", messages=[{"role": "user", "content": "secret"}])
            update(house, "update_tools", tools=[{"name": "look", "description": "secret"}])
            update(house, "generate_reply", instructions="secret", interrupt=True)

    virtual_time.run(main())
    assert [{key: value for key, value in entry.items() if key != "at"} for entry in house.entries("update")] == [
        {"type": "update", "update": "update_instructions"},
        {"type": "update", "update": "inject_context", "messages": 1},
        {"type": "update", "update": "update_tools", "tools": ["look"]},
        {"type": "update", "update": "generate_reply", "request": 1, "interrupt": True},
    ]


# Keys ------------------------------------------------------------------------------------------------------


def test_keys_are_the_callers_turn() -> None:
    house = House(agent([], ["Thank you."], **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            for key in "1234#":
                await call.play(0.2)
                call.dtmf(key)
            await over(house, call, 1)

    virtual_time.run(main())
    assert turns(house) == [("caller", "The caller pressed 1234.", "Thank you.", False)]
    assert told(house.prompts[0]) == [("user", "The caller pressed 1234.")]
    assert [entry["transcript"] for entry in house.entries("user_transcript")] == ["The caller pressed 1234."]
    assert [entry["digit"] for entry in house.entries("dtmf")] == [*"1234#"]


def test_a_key_silences_the_agent_within_one_frame() -> None:
    house = House(agent(["hello"], [TEXT, "One it is."], dtmf={"maxDigits": 2, "pause": 1.0}, **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await house.speaking(call, 1.0)
            call.dtmf("1")
            killed = await call.until(lambda: call.received("killAudio"))
            silent = await call.until(lambda: not call.is_audible)
            assert silent <= killed + 0.02
            prompted = await call.until(lambda: len(house.prompts) == 2)
            assert prompted == pytest.approx(killed + 1.0, abs=0.05)
            await over(house, call, 2)

    virtual_time.run(main())
    (_, _, heard, interrupted), second = turns(house)
    assert (interrupted, TEXT.startswith(heard)) == (True, True)
    assert second == ("caller", "The caller pressed 1.", "One it is.", False)
    assert len(house.entries("user_interruption")) == 1


def test_keys_over_a_legal_notice_are_answered_when_it_has_been_played() -> None:
    notice = {"text": "This call is recorded.", "interruptible": False}
    house = House(agent([], ["Thank you."], greeting=notice, **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            await call.until(lambda: call.is_audible)
            for key in "12#":
                call.dtmf(key)
            await over(house, call, 2)
            assert not call.received("killAudio")

    virtual_time.run(main())
    assert turns(house) == [
        ("greeting", "", "This call is recorded.", False),
        ("caller", "The caller pressed 12.", "Thank you.", False),
    ]


def test_keys_can_be_left_to_the_log() -> None:
    house = House(agent([], dtmf=False, **QUIET))

    async def main() -> None:
        async with phone(house) as call:
            call.dtmf("1")
            await call.play(5.0)

    virtual_time.run(main())
    assert (turns(house), len(house.entries("dtmf"))) == ([], 1)
