"""What an agent's configuration means for one call: the machine's settings, the tools, the prompt, the hints."""

import logging

from agentd.call.history import History
from agentd.call.tools import Offer, Toolbox
from agentd.errors import AgentdError
from agentd.prebuilt import PREBUILT, Prebuilt
from config import llm as config
from config.speech import Recognizer
from config.verb import Agent
from providers.base import Message, Native, Tool, ToolCall
from turn.machine import Settings

log = logging.getLogger("agentd.call.setup")

PROTOCOLS = {"anthropic": "anthropic", "google": "google", "aws": "bedrock", "bedrock": "bedrock"}  # else OpenAI's

HANGUP = Tool(
    name="hangup",
    description="End the call, once the caller has said goodbye or wants nothing more. Say goodbye in the same answer.",
    parameters={"type": "object", "properties": {"reason": {"type": "string", "description": "why the call ends"}}},
)


def settings(agent: Agent) -> Settings:
    deadlines = agent.deadlines
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
        no_final=deadlines.final_transcript,
        late_final=deadlines.late_transcript,
        stuck_voice=deadlines.voice_without_words,
        think=deadlines.reply,
        stall=deadlines.reply_stall,
        hold=deadlines.hold,
        goodbye=deadlines.goodbye,
    )


def is_acoustic(agent: Agent) -> bool:
    return agent.turn_detection.mode == "krisp"


def predicts_interruptions(agent: Agent) -> bool:
    return agent.barge_in.enable and agent.barge_in.strategy == "interruptPrediction"


def hints(agent: Agent, stt: Recognizer) -> tuple[str, ...]:
    """What the caller is likely to say: the hints, the vocabulary, and for the embedded recogniser, which builds its
    model of them, what callers say to the pre-built tools. There a sentence that comes three times counts three times.
    """
    own = (*stt.phrases(), *agent.vocabulary)
    if stt.vendor != "local":
        return own
    return own * 3 + tuple(said for tool in prebuilt(agent) for said in tool.said)


def history(agent: Agent) -> History:
    options = agent.llm.llm_options
    return History(options.system_prompt, tuple(_message(m, agent.llm.vendor) for m in options.messages))


def toolbox(agent: Agent, hang_up: Offer) -> Toolbox:
    """Built-in tools first, then the pre-built ones (verb-decisions, "Tools"). What nobody answers is not offered:
    the toolHook and MCP servers are not built yet.
    """
    for name in agent.tools:
        if name not in PREBUILT:  # the files' names were checked; those of a call's metadata stop no call
            log.warning("tool ignored", extra={"why": f"expected one of {', '.join(PREBUILT)}; got {name!r}"})
    built_in = [hang_up] if agent.hangup is not None else []
    offers = [*built_in, *(Offer(made.tool, made.execute) for made in prebuilt(agent))]
    return Toolbox(offers, agent.deadlines.tool)


def prebuilt(agent: Agent) -> list[Prebuilt]:
    """The pre-built tools that it names, as far as there are any of these names."""
    return [PREBUILT[name] for name in agent.tools if name in PREBUILT]


def _message(message: config.Message, vendor: str) -> Message:
    raw = message.model_dump(exclude_unset=True)
    native = Native(PROTOCOLS.get(vendor, "openai"), raw) if message.is_native() else None
    try:
        calls = tuple(
            ToolCall(str(call["id"]), str(call["function"]["name"]), str(call["function"]["arguments"]))
            for call in message.tool_calls
        )
    except (KeyError, TypeError) as exc:
        raise AgentdError("llmOptions.messages: expected tool_calls of {id, function: {name, arguments}}") from exc
    return Message(message.role, message.text(), calls, message.tool_call_id, native)
