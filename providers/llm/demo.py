"""The vendor ``demo``: agentd's scripted stand-in, asked through the real OpenAI client over real HTTP."""

from collections.abc import AsyncIterator
from dataclasses import replace

from providers.base import LlmEvent, LlmSpec, Prompt
from providers.llm.openai import OpenAiLlm
from providers.openai_server import Root
from providers.pools import HttpPool
from providers.registry import Shared
from providers.standin import MODEL
from providers.standin_server import StandinServer


class Demo:
    """The stand-in and the connections to it; one of each for all calls of a server."""

    def __init__(self) -> None:
        self.server = StandinServer()
        self.pool = HttpPool(trust_env=False)  # a proxy of the environment could not reach our loopback
        self.root = Root(self.pool)

    async def aclose(self) -> None:
        await self.pool.aclose()  # first: the server waits for its connections
        await self.server.aclose()


class DemoLlm:
    """The name says what answers: a script."""

    name = MODEL

    def __init__(self, spec: LlmSpec, demo: Demo) -> None:
        # The stand-in has one model, and neither the agent's URL nor its key is for it.
        params = {"stream_options": {"include_usage": True}, **(spec.options.get("vendorParams") or {})}
        options = {**spec.options, "vendorParams": params}
        here = replace(spec, model=MODEL, connect={"baseURL": demo.server.url}, credentials={}, options=options)
        self._llm = OpenAiLlm(here, demo.root)
        self._demo = demo

    def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        self._demo.server.start()
        return self._llm.reply(prompt)

    async def warm(self) -> None:
        self._demo.server.start()
        await self._llm.warm()


def make_llm(spec: LlmSpec, shared: Shared) -> DemoLlm:
    return DemoLlm(spec, shared.get("demo", Demo))
