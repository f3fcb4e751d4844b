"""A conversation as vendors want it that know users and assistants only."""

from providers.base import Message, Native, ToolCall
from providers.llm.turns import BEGINS, GOES_ON, NO_RESULT, Turn, arguments_of, system_of, turns_of

HI = Message("user", "Hi.")
HELLO = Message("assistant", "Hello!")
OSLO = ToolCall("c1", "get_weather", '{"city": "Oslo"}')
PARIS = ToolCall("c2", "get_weather", '{"city": "Paris"}')
ASKS = Message("assistant", "Let me see.", (OSLO, PARIS))
RAIN = Message("tool", "rain", tool_call_id="c1")
SUN = Message("tool", "sun", tool_call_id="c2")


def turns(*messages: Message) -> list[Turn]:
    return turns_of(messages, "ours")


def user(*messages: Message) -> Turn:
    return Turn("user", messages)


def assistant(*messages: Message) -> Turn:
    return Turn("assistant", messages)


def test_system_messages_are_one_text_wherever_they_stand() -> None:
    messages = (Message("system", "Be brief.\n"), HI, Message("system", " "), Message("system", "It is late."))
    assert system_of(messages) == "Be brief.\n\nIt is late."
    assert turns(*messages) == [user(HI)]


def test_messages_of_one_side_in_a_row_are_one_turn_also_around_a_system_message() -> None:
    again = Message("user", "Are you there?")
    assert turns(HI, Message("system", "Be brief."), again) == [user(HI, again)]
    assert turns(HI, HELLO, HELLO, again) == [user(HI), assistant(HELLO, HELLO), user(again)]


def test_a_conversation_begins_and_ends_with_a_user() -> None:
    begins, goes_on = user(Message("user", BEGINS)), user(Message("user", GOES_ON))
    assert turns() == [begins]
    assert turns(HELLO, HI) == [begins, assistant(HELLO), user(HI)]
    assert turns(HI, HELLO) == [user(HI), assistant(HELLO), goes_on]


def test_blank_texts_say_nothing() -> None:
    assert turns(Message("user", " \n"), HI, Message("assistant", ""), Message("user", "")) == [user(HI)]


def test_results_stand_in_the_order_of_their_calls_before_any_words() -> None:
    results = ((OSLO, RAIN), (PARIS, SUN))
    quick = Message("user", "Quick!")
    assert turns(HI, ASKS, SUN, quick, RAIN) == [user(HI), assistant(ASKS), Turn("user", (quick,), results)]
    assert turns(HI, ASKS, RAIN, SUN, HELLO, HI)[2:] == [Turn("user", (), results), assistant(HELLO), user(HI)]


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    nothing = Message("tool", NO_RESULT)
    assert turns(HI, ASKS, RAIN)[2] == Turn("user", (), ((OSLO, RAIN), (PARIS, nothing)))
    assert turns(HI, ASKS)[2] == Turn("user", (), ((OSLO, nothing), (PARIS, nothing)))


def test_a_result_whose_call_is_not_in_the_turn_before_is_told_in_words() -> None:
    told = Message("user", "(A tool returned: rain)", tool_call_id="c1")
    assert turns(RAIN, HI) == [user(told, HI)]
    assert turns(HI, HELLO, RAIN) == [user(HI), assistant(HELLO), user(told)]


def test_a_native_message_counts_for_its_own_protocol_only() -> None:
    picture = Message("user", "", native=Native("ours", {"content": []}))
    assert turns(picture) == [user(picture)]
    assert turns_of((picture, HI), "theirs") == [user(HI)]


def test_arguments_are_an_object_whatever_the_model_wrote() -> None:
    texts = ['{"a": 1}', "", '{"ci', "[1]"]
    assert [arguments_of(ToolCall("c", "t", text)) for text in texts] == [
        {"a": 1},
        {},
        {"_raw": '{"ci'},
        {"_raw": "[1]"},
    ]
