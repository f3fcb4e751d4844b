"""What an agent's configuration means for one call: the machine's settings, the tools, the prompt, the hints."""

import logging
import os
from collections.abc import Sequence

from agentd.call.history import History
from agentd.call.outside import Outside
from agentd.call.tools import Offer, Toolbox
from agentd.errors import AgentdError
from agentd.prebuilt import NAMES, Http, Means, Prebuilt, web_search
from agentd.prebuilt import prebuilt as prebuilt_tool
from config import llm as config
from config.server import Server
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


def settings(agent: Agent, *, greets: bool = True) -> Settings:
    """``greets``: not a call that goes on."""
    deadlines = agent.deadlines
    return Settings(
        greeting=agent.greeting.enable and greets,
        greeting_interruptible=agent.greeting.interruptible,
        barge_in=agent.barge_in.enable,
        tentative=not predicts_interruptions(agent),
        early=agent.early_generation.enable and agent.speak,
        early_signal=is_acoustic(agent),
        sticky=agent.barge_in.sticky,
        no_response=agent.no_response_timeout,
        no_response_max=agent.no_response_max_prompts or None,
        keys=agent.dtmf.enable,
        key_terminator=agent.dtmf.terminator,
        key_pause=agent.dtmf.pause,
        keys_most=agent.dtmf.max_digits,
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
    return History(options.system_prompt, messages(options.messages, agent.llm.vendor))


def messages(given: Sequence[config.Message], vendor: str) -> tuple[Message, ...]:
    """As the model of this vendor is told them."""
    return tuple(_message(message, vendor) for message in given)


def toolbox(agent: Agent, built_in: Sequence[Offer], outside: Outside) -> Toolbox:
    """Built-in tools first, then the pre-built ones, MCP servers', the application's (the guide, "Tool dispatch
    priority").
    """
    for name in agent.tools:
        if name not in NAMES:  # the files' names were checked; those of a call's metadata stop no call
            log.warning("tool ignored", extra={"why": f"expected one of {', '.join(NAMES)}; got {name!r}"})
    offers = [*built_in, *(Offer(made.tool, made.execute) for made in prebuilt(agent, outside.means))]
    return Toolbox(
        offers,
        timeout=agent.deadlines.tool,
        mcp=outside.mcp,
        application=tools(agent.llm.llm_options.tools),
        ask=outside.ask,
    )


def tools(given: Sequence[config.Tool]) -> tuple[Tool, ...]:
    """As models are offered them."""
    return tuple(Tool(tool.name, tool.description, tool.parameters) for tool in given)


def prebuilt(agent: Agent, means: Means | None = None) -> list[Prebuilt]:
    """The pre-built tools that it names, as far as there are any of these names and the call has what they need."""
    return [made for name in agent.tools if (made := prebuilt_tool(name, means)) is not None]


def means(server: Server, http: Http) -> Means:
    """What the pre-built tools of a call may use."""
    return Means(http, tavily_key(server))


def tavily_key(server: Server) -> str:
    """The operator's, for the tool `web_search`; empty where there is none, or one that no header can hold."""
    key = str(server.credential("tavily").get("apiKey") or os.environ.get(web_search.VARIABLE, "")).strip()
    return key if key.isascii() and key.isprintable() else ""


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
