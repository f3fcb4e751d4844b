"""What an agent's configuration means for one call: the machine's settings, the vendors, the tools, the prompt."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agentd.call.history import History
from agentd.call.tools import Offer, Toolbox
from agentd.errors import AgentdError
from agentd.prebuilt import PREBUILT, Prebuilt
from config.server import Server
from config.speech import Synthesizer
from config.verb import Agent
from providers import registry
from providers.acoustic.base import AcousticSpec, EndOfTurnModel
from providers.acoustic.choose import choose
from providers.base import Llm, LlmSpec, Message, Stt, SttSpec, Tool, ToolCall, Tts, TtsSpec
from providers.registry import Shared
from turn.machine import Settings

log = logging.getLogger("agentd.call.setup")

Credentials = Callable[[str, str], Mapping[str, Any]]  # (vendor, label) → what the server has for it

HANGUP = Tool(
    name="hangup",
    description="End the call, once the caller has said goodbye or wants nothing more. Say goodbye in the same answer.",
    parameters={"type": "object", "properties": {"reason": {"type": "string", "description": "why the call ends"}}},
)


@dataclass(frozen=True, slots=True)
class Vendors:
    """Those of one call. ``voice_for`` gives the voice for a language (the verb's `languageConfig`), ``None`` where
    it names none; ``judge`` is the engine of the acoustic mode, ``None`` its built-in rule.
    """

    stt: Stt
    llm: Llm
    tts: Tts
    voice_for: Callable[[str], Tts | None]
    judge: EndOfTurnModel | None = None


def settings(agent: Agent) -> Settings:
    return Settings(
        greeting=agent.greeting.enable,
        greeting_interruptible=agent.greeting.interruptible,
        barge_in=agent.barge_in.enable,
        tentative=not predicts_interruptions(agent),
        early=agent.early_generation.enable and agent.speak,
        early_signal=is_acoustic(agent),
        sticky=agent.barge_in.sticky,
        no_response=agent.no_response_timeout,
        no_response_max=agent.no_response_max_prompts or None,
    )


def is_acoustic(agent: Agent) -> bool:
    return agent.turn_detection.mode == "krisp"


def predicts_interruptions(agent: Agent) -> bool:
    return agent.barge_in.enable and agent.barge_in.strategy == "interruptPrediction"


def vendors(agent: Agent, server: Server, shared: Shared, rate: int) -> Vendors:
    """``rate`` is that of the caller's audio inside. Raises UnknownVendor, ImportError or ProviderError."""
    stt, credentials = agent.stt, server.credential

    def voice(tts: Synthesizer) -> Tts:
        return registry.make_tts(
            TtsSpec(
                vendor=tts.vendor,
                voice=tts.voice,
                language=tts.language or "en-US",
                options=tts.options,
                credentials=tts.auth or credentials(tts.vendor, tts.label),
            ),
            shared,
        )

    def voice_for(language: str) -> Tts | None:
        tts = agent.tts_for(language)
        return None if tts is agent.tts else voice(tts)

    return Vendors(
        stt=registry.make_stt(
            SttSpec(
                vendor=stt.vendor,
                language=stt.language or "en-US",
                rate=rate,
                hints=hints(agent),
                options=stt.vendor_options(),
                credentials=stt.auth or credentials(stt.vendor, stt.label),
            ),
            shared,
        ),
        llm=registry.make_llm(llm_spec(agent, credentials), shared),
        tts=voice(agent.tts),
        voice_for=voice_for,
        judge=choose(acoustic(agent, server), shared, rate) if is_acoustic(agent) else None,
    )


def acoustic(agent: Agent, server: Server) -> AcousticSpec:
    """What the acoustic mode is to run on: what is named, else the best that is there (verb-decisions)."""
    krisp = server.credential("krisp")
    return AcousticSpec(
        engine=server.turn.engine,
        model=agent.turn_detection.model,
        krisp_model=krisp.get("modelPath"),
        krisp_key=krisp.get("apiKey"),
        smart_turn_model=server.turn.smart_turn.model_path,
    )


def llm_spec(agent: Agent, credentials: Credentials) -> LlmSpec:
    llm = agent.llm
    options = llm.llm_options
    named = {
        "maxTokens": options.max_tokens,
        "temperature": options.temperature,
        "reasoningEffort": options.reasoning_effort,
        "vendorParams": agent.params() or None,
    }
    connect = llm.connect_options.model_dump(by_alias=True, exclude_none=True)
    mine = credentials(llm.vendor, llm.label)
    # The server's key goes only where the server's configuration says, never to an address that came with a call
    # (config.metadata refuses those that bring no key of their own).
    if "baseURL" in mine:
        connect.setdefault("baseURL", mine["baseURL"])
    return LlmSpec(
        vendor=llm.vendor,
        model=llm.model,
        options={key: value for key, value in named.items() if value is not None},
        connect=connect,
        credentials=llm.auth or mine,
    )


def hints(agent: Agent) -> tuple[str, ...]:
    """What the caller is likely to say: the hints, the vocabulary, and for the embedded recogniser, which builds its
    model of them, what callers say to the pre-built tools. There a sentence that comes three times counts three times.
    """
    own = (*agent.stt.phrases(), *agent.vocabulary)
    if agent.stt.vendor != "local":
        return own
    return own * 3 + tuple(said for tool in prebuilt(agent) for said in tool.said)


def history(agent: Agent) -> History:
    options = agent.llm.llm_options
    return History(options.system_prompt, tuple(_message(m.model_dump()) for m in options.messages))


def toolbox(agent: Agent, hang_up: Offer) -> Toolbox:
    """Built-in tools first, then the pre-built ones (verb-decisions, "Tools"). What nobody answers is not offered:
    the toolHook and MCP servers are not built yet.
    """
    for name in agent.tools:
        if name not in PREBUILT:  # the files' names were checked; those of a call's metadata stop no call
            log.warning("tool ignored", extra={"why": f"expected one of {', '.join(PREBUILT)}; got {name!r}"})
    built_in = [hang_up] if agent.hangup is not None else []
    return Toolbox([*built_in, *(Offer(made.tool, made.execute) for made in prebuilt(agent))])


def prebuilt(agent: Agent) -> list[Prebuilt]:
    """The pre-built tools that it names, as far as there are any of these names."""
    return [PREBUILT[name] for name in agent.tools if name in PREBUILT]


def _message(raw: Mapping[str, Any]) -> Message:
    try:
        calls = tuple(
            ToolCall(str(call["id"]), str(call["function"]["name"]), str(call["function"]["arguments"]))
            for call in raw.get("tool_calls") or ()
        )
    except (KeyError, TypeError) as exc:
        raise AgentdError("llmOptions.messages: expected tool_calls of {id, function: {name, arguments}}") from exc
    return Message(raw["role"], raw.get("content") or "", calls, raw.get("tool_call_id"))
