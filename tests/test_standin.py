"""The stand-in: what its rules say, and the same through the real OpenAI client."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import openai
import pytest

from agentd.prebuilt import PREBUILT, calculator_tool, datetime_tool
from providers.base import Llm, LlmSpec, Message, Prompt, ProviderError, TextDelta, Tool, ToolCall
from providers.llm.demo import Demo, DemoLlm
from providers.registry import Shared, make_llm
from providers.standin import GREETING, NO_RESPONSE, STORY, Call, Say, answer, time_words, to_expression
from tests.test_prebuilt import NOON

SYSTEM = Message("system", "You are a pirate. Say Arr.")
CLOCK, CALCULATOR = PREBUILT["datetime"].tool, PREBUILT["calculator"].tool


def tool(name: str, description: str, required: tuple[str, ...] = (), **properties: Any) -> Tool:
    return Tool(name, description, {"type": "object", "properties": properties, "required": list(required)})


WEATHER = tool(
    "get_weather",
    "Get the current temperature and wind speed for a location.",
    ("location",),
    location={"type": "string"},
    scale={"type": "string", "enum": ["celsius", "fahrenheit"]},
)
TABLE = tool(
    "book_table",
    "Book a table.",
    ("people",),
    people={"type": "integer"},
    day={"type": "string"},
    time={"type": "string"},
)
HANGUP = tool("hangup", "End the call.", reason={"type": "string"})
HUMAN = tool("transfer_to_human", "Transfer the caller to a human agent.", summary={"type": "string"})
ALL = [CLOCK, CALCULATOR, WEATHER, TABLE, HANGUP, HUMAN]


def to(utterance: str, tools: list[Tool] | None = None) -> Say | Call:
    """The answer to a caller who has been greeted."""
    return answer([SYSTEM, Message("assistant", GREETING), Message("user", utterance)], tools or [])


def after(call: Call, result: Any) -> Say | Call:
    """The answer to a tool's result."""
    content = result if isinstance(result, str) else json.dumps(result)
    asked = Message("assistant", "", (ToolCall("c", call.name, json.dumps(call.arguments)),))
    return answer([SYSTEM, Message("user", "…"), asked, Message("tool", content, tool_call_id="c")], ALL)


# Words ------------------------------------------------------------------------------------------------------


def test_the_greeting_says_what_is_speaking() -> None:
    assert answer([SYSTEM], ALL) == answer([], []) == Say(GREETING)
    cue = Message("system", "The call has just begun and the caller has said nothing yet. Greet the caller.")
    assert answer([SYSTEM, Message("assistant", "(earlier)"), cue], ALL) == Say(GREETING)
    assert "agentd's demo agent" in GREETING and "a scripted stand-in, not a language model" in GREETING


def test_a_silent_caller_is_asked_for() -> None:
    cue = Message("system", "The user has not responded. Briefly check if they are still there.")
    assert answer([SYSTEM, Message("assistant", GREETING), cue], ALL) == Say(NO_RESPONSE)
    assert answer([SYSTEM, Message("user", "hi"), Message("assistant", "Hello."), cue], ALL) == Say(NO_RESPONSE)


def test_another_instruction_is_not_pretended_to_be_followed() -> None:
    said = answer([SYSTEM, Message("assistant", GREETING), Message("system", "Offer a discount.")], [])
    assert said == Say("I was given an instruction, but I am a scripted stand-in and can only follow my own rules.")


def test_the_system_prompt_changes_nothing() -> None:
    words = [Message("user", "who are you")]
    assert answer([SYSTEM, *words], []) == answer(words, [])


def test_what_was_not_understood_is_quoted() -> None:
    assert to("purple monkey dishwasher") == Say(
        "I heard: purple monkey dishwasher. I am a scripted stand-in, not a language model, and I did not understand. "
        "I was given no tools. I can also tell you a story, repeat what I said, and stop when you interrupt me."
    )


@pytest.mark.parametrize(
    ("utterance", "part"),
    [
        ("What can you do?", "I can use these tools: datetime and calculator."),
        ("who are you", "a scripted stand-in, not a language model"),
        ("please tell me about yourself", "a scripted stand-in, not a language model"),
        ("are you a real person", "a scripted stand-in, not a language model"),
        ("so how does this work", "a few written rules"),
        ("tell me a story", "Once there was a lighthouse keeper"),
        ("stop", "All right, I stopped."),
        ("Wait, wait.", "All right, I stopped."),
        ("thank you very much", "You are welcome."),
        ("could you repeat that", GREETING),
        ("goodbye", "Goodbye."),
        ("yes I'm still here", "What can I do for you?"),
    ],
)
def test_small_talk(utterance: str, part: str) -> None:
    said = to(utterance, [CLOCK, CALCULATOR])
    assert isinstance(said, Say) and part in said.text


def test_the_story_is_long_enough_to_be_interrupted() -> None:
    assert STORY.count(". ") >= 5 and len(STORY.split()) > 20 * 3.5  # 3.5 words a second is fast


def test_nothing_it_says_is_written_for_the_eye() -> None:
    for utterance in ("who are you", "how does this work", "tell me a story", "what can you do", "gibberish"):
        said = to(utterance, ALL)
        assert isinstance(said, Say) and not set("*_#`|<>[]{}") & set(said.text)


# Tools ------------------------------------------------------------------------------------------------------

SUMS = {
    "what is twelve times seven": "12 * 7",
    "What's 12 x 7?": "12 * 7",
    "how much is one hundred and five minus six": "105 - 6",
    "three point five times two": "3.5 * 2",
    "ten divided by four please": "10 / 4",
    "the square root of one hundred forty four": "sqrt(144)",
    "what is fifteen percent of eighty": "15 / 100 * 80",
    "two to the power of ten": "2 ** 10",
    "twenty-five plus seventeen": "25 + 17",
    "add five and seven": "5 + 7",
    "subtract five from a hundred": "100 - 5",
    "two thousand and twenty six plus one": "2026 + 1",
    "one plus two times three": "1 + 2 * 3",
    "what is 1,000 times 3?": "1000 * 3",
}


@pytest.mark.parametrize("utterance", SUMS)
def test_a_spoken_sum_becomes_an_expression(utterance: str) -> None:
    assert to(utterance, ALL) == Call("calculator", {"expression": SUMS[utterance]})


@pytest.mark.parametrize("utterance", ["i have two dogs", "forty two", "one two three", "call me at 555-1234"])
def test_numbers_alone_are_no_sum(utterance: str) -> None:
    assert to_expression(utterance) is None


@pytest.mark.parametrize(
    ("utterance", "call"),
    [
        ("what time is it", Call("datetime", {})),
        ("do you know what day it is", Call("datetime", {})),
        ("what time is it in Tokyo?", Call("datetime", {"timezone": "Asia/Tokyo"})),
        ("what is the weather in portland", Call("get_weather", {"location": "Portland"})),
        (
            "What's the weather like in New York today, in celsius?",
            Call("get_weather", {"location": "New York", "scale": "celsius"}),
        ),
        ("book a table for two", Call("book_table", {"people": 2})),
        (
            "a table for twenty five people on friday at seven pm",
            Call("book_table", {"people": 25, "day": "friday", "time": "7 pm"}),
        ),
        ("i want to talk to a human", Call("transfer_to_human", {"summary": "i want to talk to a human"})),
        ("okay goodbye", Call("hangup", {"reason": "the caller said goodbye"})),
    ],
)
def test_a_tool_is_called_with_what_the_caller_said(utterance: str, call: Call) -> None:
    assert to(utterance, ALL) == call
    undeclared = to(utterance, [tool for tool in ALL if tool.name != call.name])
    assert isinstance(undeclared, Say)


def test_no_tool_is_called_that_is_not_declared() -> None:
    for utterance in (*SUMS, "what time is it", "what is the weather in oslo", "goodbye", "book a table for two"):
        assert isinstance(to(utterance, []), Say)


def test_a_missing_argument_is_asked_for() -> None:
    assert to("book a table", ALL) == Say("For book table I still need the people. Please say it all in one sentence.")


def test_a_time_zone_outside_the_script_is_not_guessed() -> None:
    said = to("what time is it in timbuktu", ALL)
    assert isinstance(said, Say) and said.text.startswith("I do not know the time zone of Timbuktu")


@pytest.mark.parametrize(
    ("call", "result", "said"),
    [
        (
            Call("calculator", {"expression": "12 * 7"}),
            {"expression": "12 * 7", "result": 84},
            "Twelve times seven is 84.",
        ),
        (Call("calculator", {"expression": "15 / 100 * 80"}), "15 / 100 * 80 = 12", "Fifteen percent of eighty is 12."),
        (Call("calculator", {"expression": "5 - 7"}), -2, "Five minus seven is minus 2."),
        (
            Call("calculator", {"expression": "1 / 0"}),
            {"error": "expected a divisor other than zero"},
            "The calculator tool failed. It says: expected a divisor other than zero.",
        ),
        (Call("datetime", {}), "10:42", "It is ten forty two in the morning."),
        (
            Call("datetime", {"timezone": "America/New_York"}),
            {"datetime": "2026-11-20T16:05:00-05:00", "weekday": "Friday"},
            "In New York it is four oh five in the afternoon, on Friday, November twentieth.",
        ),
        (
            Call("get_clock", {}),
            "Friday, May 1 at 9:00:05 PM",
            "It is nine o'clock in the evening, on Friday, May first.",
        ),
        (Call("get_weather", {"location": "Oslo"}), "It is **14 degrees** in Oslo", "It is 14 degrees in Oslo."),
        (
            Call("get_weather", {"location": "Oslo"}),
            {"temperature": 14, "wind_kmh": 3.5, "rain": True},
            "The get weather tool says: temperature 14, wind kmh 3.5, rain yes.",
        ),
        (Call("hangup", {}), "ok", "Goodbye."),
    ],
)
def test_a_result_is_told_as_it_came(call: Call, result: Any, said: str) -> None:
    assert after(call, result) == Say(said)


def test_parallel_results_are_told_in_order() -> None:
    asked = (ToolCall("a", "calculator", '{"expression": "1 + 1"}'), ToolCall("b", "datetime", "not json"))
    told = [Message("tool", "2", tool_call_id="a"), Message("tool", "08:00", tool_call_id="b")]
    assert answer([Message("user", "…"), Message("assistant", "", asked), *told], []) == Say(
        "One plus one is 2. It is eight o'clock in the morning."
    )


def test_the_clock_in_words() -> None:
    assert [time_words(*at) for at in ((0, 0), (10, 42), (12, 5), (23, 59))] == [
        "twelve o'clock in the morning",
        "ten forty two in the morning",
        "twelve oh five in the afternoon",
        "eleven fifty nine in the evening",
    ]


# Through the real client ------------------------------------------------------------------------------------


def on_line(test: Callable[[Llm, Demo], Awaitable[None]], **options: Any) -> None:
    """Run a test with the vendor ``demo``, and see that it leaves no task behind."""

    async def guarded() -> None:
        shared = Shared()
        async with asyncio.timeout(5):
            llm = make_llm(LlmSpec("demo", options=options), shared)
            try:
                await test(llm, shared.get("demo", Demo))
            finally:
                await shared.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(guarded())


async def converse(llm: Llm, utterances: list[str]) -> list[str]:
    """A call with the pre-built tools: the real tool loop, on a clock that stands still."""
    tools = {built.tool.name: built for built in (datetime_tool(now=lambda: NOON), calculator_tool())}
    messages, spoken = [SYSTEM], []
    for utterance in [None, *utterances]:
        if utterance is not None:
            messages.append(Message("user", utterance))
        while True:
            prompt = Prompt(tuple(messages), tuple(built.tool for built in tools.values()))
            events = [event async for event in llm.reply(prompt)]
            text = "".join(event.text for event in events if isinstance(event, TextDelta))
            calls = tuple(event for event in events if isinstance(event, ToolCall))
            messages.append(Message("assistant", text, calls))
            for call in calls:
                result = await tools[call.name].execute(json.loads(call.arguments))
                messages.append(Message("tool", json.dumps(result), tool_call_id=call.id))
            if not calls:
                spoken.append(text)
                break
    return spoken


def test_a_whole_conversation_over_http() -> None:
    async def test(llm: Llm, demo: Demo) -> None:
        assert llm.name == "standin-rules-1"
        utterances = ["what is twelve times seven", "what time is it in tokyo", "what is one divided by zero", "thanks"]
        assert await converse(llm, utterances) == [
            GREETING,
            "Twelve times seven is 84.",
            "In Tokyo it is nine oh five in the evening, on Friday, November twentieth.",
            "The calculator tool failed. It says: expected a divisor other than zero, got 0.",
            "You are welcome.",
        ]

    on_line(test)


def test_words_are_streamed_one_by_one_with_usage_and_the_scripts_name() -> None:
    async def test(llm: Llm, demo: Demo) -> None:
        demo.server.start()
        client = demo.root.client.with_options(base_url=demo.server.url)
        words: Any = [{"role": "user", "content": [{"type": "text", "text": "thanks"}]}]
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="anything", messages=words, stream=True, stream_options={"include_usage": True}
            )
        ]
        assert {chunk.model for chunk in chunks} == {"standin-rules-1"}
        assert [chunk.choices[0].delta.content for chunk in chunks[:3]] == ["You ", "are ", "welcome."]
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens == 3

        whole = await client.chat.completions.create(model="anything", messages=words)
        assert (whole.model, whole.choices[0].message.content) == ("standin-rules-1", "You are welcome.")
        assert [model.id async for model in client.models.list()] == ["standin-rules-1"]
        with pytest.raises(openai.BadRequestError, match="messages"):
            await client.chat.completions.create(model="m", messages=7)  # type: ignore[call-overload]

    on_line(test)


def test_a_reply_in_the_middle_of_a_slow_stream_can_be_closed() -> None:
    async def test(llm: Llm, demo: Demo) -> None:
        story = Prompt((Message("user", "tell me a story"),))
        async with aclosing(llm.reply(story)) as events:  # type: ignore[type-var]
            assert await anext(events) == TextDelta("This ")

    on_line(test, vendorParams={"token_delay_ms": 1})


def test_calls_share_one_stand_in_and_warming_up_starts_it() -> None:
    async def test(llm: Llm, demo: Demo) -> None:
        assert isinstance(llm, DemoLlm)
        await llm.warm()
        answers = [await converse(one, ["thanks"]) for one in (llm, DemoLlm(LlmSpec("demo"), demo))]
        assert answers == [[GREETING, "You are welcome."]] * 2

    on_line(test)


def test_a_stand_in_that_was_never_asked_closes_its_socket() -> None:
    async def test(llm: Llm, demo: Demo) -> None:
        pass

    on_line(test)


def test_the_vendors_errors_carry_its_name() -> None:
    async def test(llm: Llm, demo: Demo) -> None:
        with pytest.raises(ProviderError) as caught:
            await anext(llm.reply(Prompt((Message("user", "hi"),))))
        assert (caught.value.vendor, caught.value.code) == ("demo", "llm-bad-request")

    on_line(test, vendorParams={"tools": "none"})
