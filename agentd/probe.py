"""`agentd check --probe`: every configured vendor is really asked, and gets one line of what came of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agentd.call.vendors import llm_spec, models_of, name_of, stt_spec, tts_spec, with_fallback
from config.files import Config
from config.server import Server
from config.verb import Agent
from providers import registry
from providers.audio_feed import AudioFeed, Mark
from providers.base import (
    Audio,
    LlmSpec,
    Message,
    Prompt,
    ProviderError,
    SttEvent,
    SttSpec,
    TextDelta,
    TtsSpec,
)
from providers.registry import Shared, UnknownVendor

RATE = 16000  # Hz
TIMEOUT = 10.0  # seconds for each vendor
SENTENCE = "Hello, can you hear me?"
ORDER = ("tts", "llm", "stt")
PROMPT = Prompt((Message("system", "Answer with one word."), Message("user", SENTENCE)))

ADVICE = {
    "unauthorized": "the key is refused: see credentials.{vendor} in agentd.yaml, or {role}.auth",
    "quota-exceeded": "the account is used up",
    "rate-limited": "the account may do no more at the moment",
    "not-found": "the model, the voice or the address is not known there",
    "bad-request": "the options of the agent are not to its liking",
    "connection-lost": "cannot be reached: is the address right, and may this machine go out?",
    "timeout": "does not answer: is the address right, and may this machine go out?",
}


@dataclass(frozen=True)
class Probe:
    """One vendor as an agent asks for it. Agents that ask alike are answered once."""

    role: str
    name: str
    spec: SttSpec | LlmSpec | TtsSpec  # without what differs from agent to agent and changes nothing here


class Found(NamedTuple):
    is_well: bool
    line: str


class Prober:
    """Asks one vendor after the other. The first voice that speaks is what the recognisers are given to hear."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._sound = b""

    async def ask(self, one: Probe) -> str:
        """What to tell of it. Raises ProviderError, UnknownVendor or ImportError."""
        match one.spec:
            case TtsSpec() as spec:
                return await self._voice(spec)
            case LlmSpec() as spec:
                return await self._model(spec)
            case SttSpec() as spec:
                return await self._recogniser(spec)

    async def _voice(self, spec: TtsSpec) -> str:
        tts, loop = registry.make_tts(spec, self._shared), asyncio.get_running_loop()
        began, first, sound = loop.time(), 0.0, b""
        try:
            async with aclosing(tts.speak(_once(SENTENCE), RATE)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, Audio) and event.pcm:
                        first = first or loop.time()
                        sound += event.pcm
        finally:
            await _let_go(tts)
        if not first:
            raise ProviderError(spec.vendor, "tts-silent", "expected audio, got none")
        self._sound = self._sound or sound
        return f"first audio after {_ms(first - began)}"

    async def _model(self, spec: LlmSpec) -> str:
        llm, loop = registry.make_llm(spec, self._shared), asyncio.get_running_loop()
        began = loop.time()
        try:
            async with aclosing(llm.reply(PROMPT)) as events:  # type: ignore[type-var]
                async for event in events:
                    if isinstance(event, TextDelta) and event.text.strip():
                        return f"first token after {_ms(loop.time() - began)}"
        finally:
            await _let_go(llm)
        raise ProviderError(spec.vendor, "llm-empty-stream", "expected an answer, got none")

    async def _recogniser(self, spec: SttSpec) -> str:
        stt, loop = registry.make_stt(spec, self._shared), asyncio.get_running_loop()
        feed, began = AudioFeed(RATE, seconds=30.0), loop.time()
        feed.mark(Mark.SPEECH_STARTED)
        feed.push(self._sound)
        feed.mark(Mark.SPEECH_STOPPED)
        feed.push(bytes(2 * RATE))
        feed.close()
        try:
            async with aclosing(stt.listen(feed)) as events:  # type: ignore[type-var]
                async for event in events:
                    if words := _words(event):
                        return f"heard {words!r} after {_ms(loop.time() - began)}"
        finally:
            await _let_go(stt)
        heard = "heard no words in it" if self._sound else "no voice was there to be heard"
        return f"connected, {heard}, {_ms(loop.time() - began)}"


async def probe(config: Config, shared: Shared) -> AsyncIterator[Found]:
    """A line for each vendor of each agent, as each is asked; voices first."""
    prober = Prober(shared)
    for one, names in _distinct(config):
        where = f"{one.role} {one.name} ({', '.join(names)})"
        try:
            async with asyncio.timeout(TIMEOUT):
                result = await prober.ask(one)
        except TimeoutError:
            yield Found(False, f"{where}: {ADVICE['timeout']} (waited {TIMEOUT:.0f} s)")
        except (ProviderError, UnknownVendor, ImportError) as exc:
            yield Found(False, f"{where}: {_fix(exc, one)}")
        else:
            yield Found(True, f"{where}: reachable, authorised, {result}")


def probes(agent: Agent, server: Server) -> Iterator[Probe]:
    """The vendors that an agent names, fallbacks included."""
    for tts in with_fallback(agent.tts):
        yield Probe("tts", name_of(tts), tts_spec(tts, server, RATE))
    for llm in models_of(agent):
        spec = replace(llm_spec(agent, llm, server), options={})
        yield Probe("llm", f"{llm.vendor}:{llm.model or 'its default'}", spec)
    for stt in with_fallback(agent.stt):
        yield Probe("stt", name_of(stt), replace(stt_spec(agent, stt, server, RATE), hints=()))


def _distinct(config: Config) -> list[tuple[Probe, list[str]]]:
    found: list[tuple[Probe, list[str]]] = []
    for name, agent in config.agents.items():
        for one in probes(agent, config.server):
            same = next((names for other, names in found if other == one), None)
            if same is None:
                found.append((one, [name]))
            elif name not in same:
                same.append(name)
    return sorted(found, key=lambda pair: ORDER.index(pair[0].role))


def _fix(exc: Exception, one: Probe) -> str:
    if not isinstance(exc, ProviderError):
        return str(exc)
    advice = ADVICE.get(exc.code.partition("-")[2], "")
    hint = advice.format(vendor=one.spec.vendor, role=one.role)
    return f"{hint} ({exc.message})" if hint else exc.message


def _words(event: SttEvent) -> str:
    return str(getattr(event, "text", "")).strip()


async def _once(text: str) -> AsyncIterator[str]:
    yield text


async def _let_go(vendor: Any) -> None:
    if (close := getattr(vendor, "aclose", None)) is not None:
        await close()


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
