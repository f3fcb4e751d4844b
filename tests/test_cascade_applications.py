"""Cascaded agents written with jambonz's SDKs, whole calls: agentd hears and speaks, the application has the model."""

import asyncio
from typing import Any

from tests.jambonz import voice
from tests.node import application
from tests.test_call_applications import real_time
from tests.vendors.http import Request
from tests.vendors.openai_llm import OpenAiServer
from tests.vendors.rows import Answer
from tests.whole_call import House, agent

GREETING = "Hi there, how can I help you today?"
LONG = "One two three four five six seven eight nine ten. Eleven twelve thirteen fourteen fifteen sixteen. Twenty."


class Talker(OpenAiServer):
    """Answers with a long count, and from then on with one word."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[Any] = []

    def pieces(self, request: Request) -> list[bytes]:
        words = "Fine." if self.prompts else LONG
        self.prompts.append(request.json())
        self.answer = Answer(tuple(f"{word} " for word in words.split(" ")))
        return super().pieces(request)


@real_time
async def test_a_cascaded_agent_hears_the_caller_streams_its_answer_and_knows_what_was_heard() -> None:
    await asyncio.gather(a_conversation("cascade.js"), a_conversation("cascade.py"))


async def a_conversation(name: str) -> None:
    words: list[Any] = ["How are you?", [{"partial": "Stop", "after": 0.0}, {"final": "Stop.", "after": 0.1}], "Bye."]
    async with Talker() as model, application(name, {"MODEL_URL": model.url}) as url:
        at = House(agent(words, tts={"character": 0.02}, app="desk"), apps={"desk": url})
        async with at, at.call() as call:

            def said() -> list[dict[str, Any]]:
                return at.entries("said")

            await call.until(lambda: len(said()) == 1)
            call.say(voice(0.3))
            await call.until(lambda: len(at.said) >= 2 and call.is_audible)  # it begins to count …
            await call.play(0.6)
            call.say(voice(0.3))  # … and is interrupted
            await call.until(lambda: len(said()) == 3)
            call.say(voice(0.3))
            await call.until(lambda: len(said()) == 4)
            call.hang_up()
    heard = said()[1]["text"]
    assert [entry["interrupted"] for entry in said()] == [False, True, False, False]
    assert LONG.startswith(heard) and 0 < len(heard) < len(LONG)
    asked = [[(each["role"], each["content"]) for each in prompt["messages"][1:]] for prompt in model.prompts]
    assert asked[-1] == [
        ("assistant", GREETING),
        ("user", "How are you?"),
        ("assistant", heard),
        ("user", "Stop."),
        ("assistant", "Fine."),
        ("user", "Bye."),
    ]
