"""Whole calls for tests: the real server application, scripted vendors, and a detector that reads the test's audio."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from starlette.applications import Starlette

from agentd.jambonz.listen import Node
from agentd.ops.log import EventLog
from agentd.server import build_app
from config.files import Config
from config.server import Server
from config.verb import Agent
from providers.base import Prompt
from providers.scripted import COUNT, Notebook
from tests.jambonz import Call, FakeJambonz, voice


def loud(frame: bytes) -> bool:
    """A frame is voiced when its first sample is loud: `tests.jambonz.voice` and `quiet` are exact to the frame."""
    return abs(int.from_bytes(frame[:2], "little", signed=True)) > 1000


def agent(
    finals: list[Any] = [],  # noqa: B006
    replies: list[Any] = ["Yes."],  # noqa: B006
    *,
    stt: Mapping[str, Any] = {},
    llm: Mapping[str, Any] = {},
    tts: Mapping[str, Any] = {},
    **verb: Any,
) -> Agent:
    """An agent on scripted vendors (see `providers.scripted`); ``verb`` are further keys of the agent verb."""
    return Agent.model_validate(
        {
            "greeting": False,
            "stt": {"vendor": "scripted", "options": {"finals": finals, **stt}},
            "llm": {"vendor": "scripted", "vendorParams": {"replies": replies, **llm}},
            "tts": {"vendor": "scripted", "options": {**tts}},
            **verb,
        }
    )


class Run(NamedTuple):
    """A stretch of the scripted voice without a gap: from sample ``start`` of the recording, ``length`` samples were
    played, the first of which is sample ``first`` of its reply (modulo 30,000).
    """

    start: int
    first: int
    length: int


def runs(recording: bytes | bytearray, step: int = 1) -> list[Run]:
    """What of the scripted voice was played. ``step``: every how many of its samples survived resampling."""
    heard = np.frombuffer(recording, "<i2").astype(int)
    follows = np.zeros(len(heard) + 1, bool)
    follows[1:-1] = (heard[1:] == (heard[:-1] - 1 + step) % COUNT + 1) & (heard[1:] > 0) & (heard[:-1] > 0)
    starts = np.flatnonzero((heard != 0) & ~follows[:-1])
    ends = np.flatnonzero((heard != 0) & ~follows[1:]) + 1
    return [Run(int(a), int(heard[a]) - 1, int(b - a)) for a, b in zip(starts, ends, strict=True)]


def spoken(text: str, rate: int = 8000, character: float = 0.05) -> int:
    """How many samples the scripted voice makes of ``text``, whose pieces are whole sentences."""
    return round(len(text) * character * rate)


async def say(call: Call, seconds: float = 0.6) -> None:
    """The caller says something, and is quiet again when this returns."""
    call.say(voice(seconds, call.sample_rate))
    await call.until(lambda: not call.is_speaking)


class House:
    """A server with one agent, ``demo``, and the event logs of its calls as they come. ``server`` are further keys
    of ``agentd.yaml``. Where its calls have connections that are kept, leave it as a context.
    """

    def __init__(self, agent: Agent, **server: Any) -> None:
        self.logs: list[EventLog] = []
        # Whatever is installed, without a word of earlier runs, and however busy the machine is.
        idle = {"limits": {"cpu": 1, "loop_lag_ms": 60_000}}
        process = Server.model_validate({"turn": {"engine": "rule"}, "speech_cache": False, **idle, **server})
        self.node = Node(Config(process, {"demo": agent}), detector_for=lambda rate: loud)
        self.node.observers.append(lambda name, log: self.logs.append(log))
        self.app: Starlette = build_app(self.node)
        self._notebook = self.node.shared.get("scripted", Notebook)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.node.journals is not None:
            await self.node.journals.aclose()
        await self.node.shared.aclose()

    @property
    def prompts(self) -> list[Prompt]:
        """What the scripted model was asked, in all calls."""
        return list(self._notebook.prompts)

    @property
    def said(self) -> list[str]:
        """The pieces that the scripted voices were given, in all calls."""
        return [piece for _, piece in self._notebook.said]

    @property
    def voices(self) -> list[str | None]:
        """Who said them."""
        return [voice for voice, _ in self._notebook.said]

    def entries(self, type_: str) -> list[dict[str, Any]]:
        """Of the latest call, so far."""
        return [entry for entry in self.logs[-1].entries if entry["type"] == type_] if self.logs else []

    def call(self, **options: Any) -> FakeJambonz:
        return FakeJambonz(self.app, **options)

    async def turn(self, call: Call, seconds: float = 0.6) -> dict[str, Any]:
        """The caller says something, and hears the whole answer."""
        before = len(self.entries("turn_end"))
        await say(call, seconds)
        await call.until(lambda: len(self.entries("turn_end")) > before)
        return self.entries("turn_end")[-1]

    async def speaking(self, call: Call, seconds: float = 0.5) -> None:
        """The caller says something, and has heard ``seconds`` of the answer when this returns."""
        await say(call)
        await call.until(lambda: call.is_audible)
        await call.play(seconds)
