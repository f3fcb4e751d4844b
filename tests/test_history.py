"""The conversation as the model sees it."""

from agentd.call.history import NOT_YET, History, Round
from providers.base import Message, ToolCall

CALL, OTHER = ToolCall("a", "look", "{}"), ToolCall("b", "listen", "{}")


def test_a_turn_is_what_the_caller_said_and_what_was_heard() -> None:
    history = History("Be kind.")
    history.commit("hello", "Hi, how are", [])
    assert history.prompt("fine", [], "") == (
        Message("system", "Be kind."),
        Message("user", "hello"),
        Message("assistant", "Hi, how are"),
        Message("user", "fine"),
    )


def test_an_answer_that_was_not_heard_leaves_no_message() -> None:
    history = History("")
    history.commit("hello", "", [])
    history.commit("", "", [])
    assert history.messages == [Message("user", "hello")]


def test_tool_calls_stand_with_their_results_in_the_calls_order() -> None:
    history = History("")
    history.commit("hello", "One moment. It is red.", [Round(12, (CALL, OTHER), {"b": "2", "a": "1"})])
    assert history.messages == [
        Message("user", "hello"),
        Message("assistant", "One moment.", tool_calls=(CALL, OTHER)),
        Message("tool", "1", tool_call_id="a"),
        Message("tool", "2", tool_call_id="b"),
        Message("assistant", "It is red."),
    ]


def test_a_result_that_is_not_there_yet_has_a_place_and_takes_it_when_it_comes() -> None:
    history = History("")
    history.commit("hello", "", [Round(0, (CALL,), {})])
    assert history.messages[-1] == Message("tool", NOT_YET, tool_call_id="a")
    history.result_came("a", "red")
    history.result_came("a", "never twice")
    history.result_came("unknown", "nobody asked")
    assert history.messages[-1] == Message("tool", "red", tool_call_id="a")


def test_a_cue_is_for_one_prompt_only() -> None:
    history = History("", (Message("user", "before"),))
    assert history.prompt("", [], "", "Greet.") == (Message("user", "before"), Message("system", "Greet."))
    assert history.prompt("", [], "") == (Message("user", "before"),)


def test_a_remark_is_kept() -> None:
    history = History("")
    history.remark("mhm")
    assert history.messages == [Message("user", "mhm")]
