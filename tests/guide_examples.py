"""The guide's example applications, as tests/applications has them: what the caller hears where one does its work, and
the vendors that they name.
"""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.added_latency import row
from providers.base import ToolCall
from tests.vendors.deepgram_stt import DeepgramServer
from tests.vendors.ears import Heard
from tests.vendors.http import Request
from tests.vendors.openai_llm import OpenAiServer
from tests.vendors.rows import Answer
from tests.vendors.script import Script

PARTS = {
    "stt": {"vendor": "deepgram"},
    "llm": {"vendor": "openai", "model": "gpt-4.1"},
    "tts": {"vendor": "cartesia", "voice": "sonic-english"},
}
ENV_VARS = {"SYSTEM_PROMPT": "You are Ada.", "OPENAI_MODEL": "gpt-4.1-nano"}  # of the application, in the portal


@dataclass(frozen=True, slots=True)
class Example:
    """``answer`` is what the caller hears in the end, which he can only where the application at ``path`` did its work:
    it is made of the result of ``tool``, or else it stands in what the model is told. ``update`` is the application's.
    """

    path: str
    answer: str
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    update: str = ""


BASIC = Example("basic", "You are Ada.")
TOOLS = Example("using-tools", "I found: Temperature: 7.3°C, Wind: 12.1 km/h.", "get_weather", {"location": "Oslo"})
MCP = Example("using-mcp-server", "I found: 42.", "add", {"a": 2, "b": 40})
SEARCHED = 'I found: {"results": ["All about Oslo"]}.'
EXAMPLES = [
    BASIC,
    TOOLS,
    MCP,
    Example("crm-injection", "Customer name: Sarah Mitchell.", update="inject_context"),
    Example("persona-switch", "You are now a billing support agent.", update="update_instructions"),
    Example("supervisor-interrupt", "Tell the customer about the flash sale.", update="generate_reply"),
    Example("dynamic-tools", SEARCHED, "web_search", {"query": "Oslo"}, update="update_tools"),
]


class Model(OpenAiServer):
    """Asks the example's tool for whatever the caller says, when it is offered, and reads the result out; says the
    example's answer once it is told so; and has something else to say until then.
    """

    def __init__(self, example: Example) -> None:
        super().__init__()
        self._example = example
        self.offered: list[list[str]] = []  # names of tools, prompt by prompt
        self.models: list[str] = []

    def pieces(self, request: Request) -> list[bytes]:
        body = request.json()
        self.models.append(body["model"])
        self.offered.append([tool["function"]["name"] for tool in body.get("tools", ())])
        self.answer = self._answered(body["messages"])
        return super().pieces(request)

    def _answered(self, messages: list[dict[str, Any]]) -> Answer:
        it = self._example
        if messages[-1]["role"] == "tool":
            return Answer((f"I found: {messages[-1]['content']}.",))
        if messages[-1]["role"] == "user" and it.tool in self.offered[-1]:
            return Answer((), (ToolCall(f"call_{len(self.offered)}", it.tool, json.dumps(it.arguments)),))
        if it.answer.rstrip(".") in json.dumps(messages, ensure_ascii=False):
            return Answer((it.answer,))
        return Answer(("It is a long story, " * 20,) if it.update == "generate_reply" else ("Hello.",))


class Ears(DeepgramServer):
    """Hears "hello there" whenever the caller has said something."""

    def connected(self, rate: int) -> None:
        super().connected(rate)
        self._is_caller_talking = False
        self._said_last = 0.0  # seconds of audio

    def hear(self, pcm: bytes) -> Iterator[Heard]:
        self._at = round(self._at + len(pcm) / 2 / self._rate, 6)
        if np.abs(np.frombuffer(pcm, "<i2").astype(int)).max(initial=0) > 1000:
            self._is_caller_talking, self._said_last = True, self._at
        elif self._is_caller_talking and self._at >= self._said_last + 0.2:
            self._is_caller_talking = False
            yield Heard("hello there", True, self.finals)
            self.finals += 1

    def flush(self) -> Iterator[Heard]:
        return iter(())


@dataclass
class Vendors:
    """The model, the recogniser and the voice that the examples name, and the accounts there."""

    model: Model
    mouth: Any
    credentials: dict[str, Any]

    @property
    def said(self) -> str:
        """What the voice was given to say, in all."""
        return "".join(asked.get("transcript", "") for asked in self.mouth.seen.requests)


@asynccontextmanager
async def vendors(example: Example) -> AsyncIterator[Vendors]:
    async with Model(example) as model, Ears() as ears, row("tts", "cartesia").server(Script()) as mouth:
        credentials = {
            "openai": {"apiKey": "sk-test", "baseURL": f"{model.url}/v1"},
            "deepgram": dict(row("stt", "deepgram").spec(ears.url).credentials),
            "cartesia": dict(row("tts", "cartesia").spec(mouth.url).credentials),
        }
        yield Vendors(model, mouth, credentials)
