"""Whole calls: long conversations are summarized beside the talk (`summarizeTurns`)."""

from typing import Any

from agentd.call.summary import CUE
from config.deadlines import Deadlines
from providers.base import Message
from tests import virtual_time
from tests.whole_call import House, agent

KEY = CUE[:20]
LOOK = {"tools": [{"name": "calculator", "arguments": {"expression": "6*7"}}]}


def conversation(turns: int, summaries: list[Any], replies: list[Any] | None = None, **more: Any) -> House:
    """A call with so many turns: "caller 1" is answered with "Answer 1.", and so on."""
    finals = [f"caller {at}" for at in range(1, turns + 1)]
    answers = replies or [f"Answer {at}." for at in range(1, turns + 1)]
    made = agent(finals, answers, llm={"when": {KEY: summaries}}, noResponseTimeout=0, **more)
    house = House(made)

    async def main() -> None:
        async with house.call() as call:
            for _ in range(turns):
                await house.turn(call)
            await call.play(1.0)

    virtual_time.run(main())
    return house


def prompts(house: House, *, summaries: bool) -> list[tuple[Message, ...]]:
    return [p.messages for p in house.prompts if p.messages[0].content.startswith(KEY) is summaries]


def test_after_eight_turns_the_older_half_becomes_a_summary() -> None:
    house = conversation(9, ["They talked."], summarizeTurns=8)
    (entry,) = house.entries("history_summarized")
    told = {key: entry[key] for key in ("turn", "messages_dropped", "messages_kept", "summary")}
    assert told == {"turn": 8, "messages_dropped": 8, "messages_kept": 8, "summary": "They talked."}
    (asked,) = prompts(house, summaries=True)
    assert [line.split(": ")[1] for line in asked[1].content.splitlines()] == [
        text for at in range(1, 5) for text in (f"caller {at}", f"Answer {at}.")
    ]
    last = prompts(house, summaries=False)[-1]
    assert last[0] == Message("system", "# Conversation context\n\nThey talked.")
    assert [message.content for message in last[1:3]] == ["caller 5", "Answer 5."]
    assert last[-1] == Message("user", "caller 9")


def test_the_next_summary_takes_in_the_one_before_it() -> None:
    house = conversation(13, ["First.", "Second."], summarizeTurns=8)
    assert [entry["turn"] for entry in house.entries("history_summarized")] == [8, 12]
    second = prompts(house, summaries=True)[1]
    assert any("First." in message.content for message in second)
    assert prompts(house, summaries=False)[-1][0].content.endswith("Second.")
    assert "First." not in prompts(house, summaries=False)[-1][0].content


def test_without_the_setting_nothing_is_summarized() -> None:
    assert conversation(12, ["Never."]).entries("history_summarized") == []


def test_a_summary_is_never_told_as_an_answer() -> None:
    house = conversation(9, ["They talked."], summarizeTurns=8)
    assert [entry["response"] for entry in house.entries("agent_response")] == [f"Answer {at}." for at in range(1, 10)]


def test_tools_stay_with_their_results() -> None:
    replies = [LOOK, "It is 42."] * 9
    house = conversation(9, ["They counted."], replies, summarizeTurns=8, tools=["calculator"])
    (entry,) = house.entries("history_summarized")
    assert (entry["messages_dropped"], entry["messages_kept"]) == (16, 16)
    last = prompts(house, summaries=False)[-1]
    called = [call.id for message in last for call in message.tool_calls]
    assert called == [message.tool_call_id for message in last if message.role == "tool"]
    assert len(called) == 5
    assert house.entries("turn_failed") == []


def test_a_summary_that_fails_changes_nothing_and_is_tried_again_after_the_next_turn() -> None:
    failing = [{"error": "overloaded"}, "", "At last."]
    house = conversation(11, failing, summarizeTurns=8)
    assert [entry["turn"] for entry in house.entries("history_summarized")] == [10]
    ninth, tenth = prompts(house, summaries=False)[8:10]
    assert (len(ninth), len(tenth)) == (17, 19)
    assert [entry["response"] for entry in house.entries("turn_end")] == [f"Answer {at}." for at in range(1, 12)]


def test_a_summary_that_hangs_delays_no_turn_and_is_given_up() -> None:
    hanging = conversation(30, [{"hang": True}, "At last."], summarizeTurns=8)
    swift = conversation(30, ["At last."])
    assert [e["at"] for e in hanging.entries("turn_end")] == [e["at"] for e in swift.entries("turn_end")]
    (entry, *_) = hanging.entries("history_summarized")
    began = hanging.entries("turn_end")[7]["at"]
    assert entry["at"] >= began + Deadlines().first_token


def test_a_summary_that_comes_during_a_turn_does_not_disturb_it() -> None:
    house = conversation(10, [{"text": "Slowly said.", "first": 2.6}], summarizeTurns=8)
    (entry,) = house.entries("history_summarized")
    assert (entry["turn"], entry["messages_dropped"]) == (8, 8)
    assert [e["response"] for e in house.entries("turn_end")] == [f"Answer {at}." for at in range(1, 11)]


def test_a_hang_up_ends_a_summary_that_is_under_way() -> None:
    house = conversation(8, [{"hang": True}], summarizeTurns=8)
    assert house.entries("history_summarized") == []
    assert house.logs[-1].entries[-1]["type"] == "call_ended"
