"""Whole calls for tests: the real server application, scripted vendors, and a detector that reads the test's audio."""

from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette

from agentd.jambonz.listen import Node
from agentd.ops.log import EventLog
from agentd.server import build_app
from config.files import Config
from config.server import Server
from config.verb import Agent


def loud(frame: bytes) -> bool:
    """A frame is voiced when its first sample is loud: `tests.jambonz.voice` and `quiet` are exact to the frame."""
    return abs(int.from_bytes(frame[:2], "little", signed=True)) > 1000


def agent(
    finals: list[str | None] = [],  # noqa: B006
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


class House:
    """A server with one agent, ``demo``, and the event logs of its calls as they come."""

    def __init__(self, agent: Agent) -> None:
        self.logs: list[EventLog] = []
        self.node = Node(Config(Server(), {"demo": agent}), detector_for=lambda rate: loud)
        self.node.observers.append(lambda name, log: self.logs.append(log))
        self.app: Starlette = build_app(self.node)

    def entries(self, type_: str) -> list[dict[str, Any]]:
        """Of the latest call, so far."""
        return [entry for entry in self.logs[-1].entries if entry["type"] == type_] if self.logs else []
