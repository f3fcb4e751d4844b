"""Traces of calls: which spans a call's log becomes, and which trace it goes on with.

    call ─┬─ turn ─┬─ stt, eot              the caller is silent, their words are final, the turn is over
          │        ├─ chat {model}          a request to a model
          │        ├─ execute_tool {name}
          │        └─ text, tts, playout    until the first sound is heard
          └─ turn …

Names and attributes of models and tools are those of OpenTelemetry's conventions for generative AI. What was said, and
what tools were given, is in none of them unless ``tracing.content`` says so. Plain data: :mod:`agentd.ops.otel` makes
spans of it, and is imported only where traces are wanted.
"""

import importlib
import logging
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from agentd.ops.log import Entry, EventLog
from agentd.ops.usage import amounts
from config.server import Tracing

log = logging.getLogger("agentd.tracing")

KEPT = 200  # spans and events of a turn; of one with more, the oldest are forgotten
PROVIDERS = {"google": "gcp.gemini", "bedrock": "aws.bedrock"}  # whom the conventions call otherwise than we do
BEFORE = (("stt", "finished"), ("eot", "taken"))  # a part, and the instant that ends it
BEHIND = (("text", "synthesis"), ("tts", "audio"), ("playout", "heard"))
WHOSE = {"stt": "stt", "eot": "turn_detection", "tts": "tts"}

Attributes = dict[str, str | int | float | bool]


@dataclass(slots=True)
class Made:
    """A span. Times are seconds since the call began; ``error`` is a code, never a vendor's words."""

    name: str
    start: float
    end: float
    attributes: Attributes
    is_client: bool = False
    error: str | None = None
    events: list[tuple[str, float, Attributes]] = field(default_factory=list)
    children: list["Made"] = field(default_factory=list)


class Parent(NamedTuple):
    """What a call goes on with; ``span_id`` is 0 where only the trace is known."""

    trace_id: int
    span_id: int
    is_sampled: bool


class Observer(Protocol):
    def observe(self, agent: str, events: EventLog) -> None: ...

    async def aclose(self) -> None: ...


def is_wanted(config: Tracing, environ: Mapping[str, str]) -> bool:
    """Does somebody take traces?"""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    named = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return bool(config.endpoint or named)


def tracer(config: Tracing, environ: Mapping[str, str]) -> Observer | None:
    """Whoever makes traces; nobody where they are not wanted, or the extra is missing. Imports much: for a thread."""
    if not is_wanted(config, environ):
        return None
    try:
        made: Observer = importlib.import_module("agentd.ops.otel").Tracer(config)
    except ImportError as exc:
        log.error("no traces: expected the extra otel (pip install 'agentd[otel]')", extra={"missing": exc.name})
        return None
    return made


def parent_of(about: Mapping[str, Any]) -> Parent | None:
    """From the b3 of jambonz's control socket, else from the trace that the listen socket names."""
    if found := re.fullmatch(r"([0-9a-f]{16}|[0-9a-f]{32})-([0-9a-f]{16})(?:-([01d]).*)?", str(about.get("b3") or "")):
        trace, span = int(found[1], 16), int(found[2], 16)
        if trace and span:
            return Parent(trace, span, found[3] != "0")
    if found := re.fullmatch(r"[0-9a-f]{16}|[0-9a-f]{32}", str(about.get("trace_id") or "")):
        return Parent(int(found[0], 16), 0, True) if int(found[0], 16) else None
    return None


class Spans:
    """Those of one call, from its entries."""

    def __init__(self, *, content: bool) -> None:
        self._content = content
        self._waiting: deque[Made] = deque(maxlen=KEPT)  # for the end of their turn
        self._events: deque[tuple[str, float, Attributes]] = deque(maxlen=KEPT)
        self._tools: dict[str, Entry] = {}  # that run, by the id of their call

    def told(self, entry: Entry) -> list[Made]:
        """What has come to its end with this entry: children of the call."""
        at = entry["at"]
        match entry["type"]:
            case "model_answered":
                self._waiting.append(_answered(entry))
            case "tool_call" if len(self._tools) < KEPT:
                self._tools[entry["tool_call_id"]] = entry
            case "tool_result" if (call := self._tools.pop(entry["tool_call_id"], None)) is not None:
                self._waiting.append(self._tool(call, entry))
            case "vendor_failed":
                told = {name: entry[name] for name in ("role", "vendor", "code", "then")}
                self._events.append(("vendor_failed", at, {f"agentd.{name}": value for name, value in told.items()}))
            case "user_interruption":
                self._events.append(("user_interruption", at, {}))
            case "turn_end":
                return self._turn(entry)
            case "call_ended":
                return self._rest()
        return []

    def _turn(self, entry: Entry) -> list[Made]:
        instants: dict[str, float] = entry["instants"]
        start, end = min([*instants.values(), entry["at"]]), entry["at"]
        turn = Made("turn", start, end, self._of_turn(entry), error=entry.get("error"))
        waiting = self._rest()
        before = [made for made in waiting if made.end < start]  # a summary of earlier turns
        within = [made for made in waiting if made.end >= start]
        if "llm" in entry["parts"] and not any(made.is_client for made in within):
            within.append(_asked(entry["llm"], instants["taken"], instants["began"]))  # it was not let finish
        turn.children = [*_hops(BEFORE, entry), *within, *_hops(BEHIND, entry)]
        turn.events = list(self._events)
        self._events.clear()
        return [*before, turn]

    def _of_turn(self, entry: Entry) -> Attributes:
        about: Attributes = {f"agentd.{name}": entry[name] for name in ("turn", "cause", "interrupted")}
        about |= {f"agentd.{name}": entry[name] for name in ("stt", "llm", "tts", "turn_detection") if entry[name]}
        about |= {f"agentd.latency.{name}": seconds for name, seconds in entry["parts"].items()}
        if "preflight" in entry["latency"]:
            about["agentd.preflight"] = entry["latency"]["preflight"]["result"]
        if self._content:
            about |= {"agentd.transcript": entry["transcript"], "agentd.response": entry["response"]}
        return about

    def _tool(self, call: Entry, result: Entry) -> Made:
        about: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call["name"],
            "gen_ai.tool.call.id": call["tool_call_id"],
            "gen_ai.tool.type": "function",
        }
        if self._content:
            about["gen_ai.tool.call.arguments"] = str(call["arguments"])
            about["gen_ai.tool.call.result"] = str(result["result"])
        failed = "tool_error" if str(result["result"]).startswith("Error: ") else None  # as agentd.call.tools has it
        return Made(f"execute_tool {call['name']}", call["at"], result["at"], about, error=failed)

    def _rest(self) -> list[Made]:
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting


def end_of(entry: Entry) -> Attributes:
    """What the call's own span says of its end."""
    reason = entry.get("completion_reason") or entry.get("completionReason") or ""
    about: Attributes = {"agentd.completion_reason": reason}
    for amount in amounts(entry["usage"]):
        name = f"agentd.usage.{amount.role}.{amount.unit}"
        about[name] = round(float(about.get(name, 0)) + amount.value, 3)
    return about


def _hops(hops: tuple[tuple[str, str], ...], entry: Entry) -> list[Made]:
    """The parts of the gap that there were, each from the end of the one before."""
    instants, made = entry["instants"], []
    for name, end in hops:
        if name in entry["parts"] and end in instants:
            length = entry["parts"][name]
            about: Attributes = {"agentd.vendor": entry[WHOSE[name]]} if name in WHOSE else {}
            made.append(Made(name, max(instants[end] - length, 0.0), instants[end], about))
    return made


def _answered(entry: Entry) -> Made:
    made = _asked(entry["llm"], entry["at"] - entry["took_ms"] / 1000, entry["at"])
    made.attributes["gen_ai.response.time_to_first_chunk"] = entry["first_ms"] / 1000
    for ours, theirs in (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")):
        if ours in entry:
            made.attributes[f"gen_ai.usage.{theirs}"] = entry[ours]
    return made


def _asked(llm: str, start: float, end: float) -> Made:
    vendor, _, model = llm.partition(":")
    about: Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": PROVIDERS.get(vendor, vendor),
        "gen_ai.request.model": model or vendor,
    }
    return Made(f"chat {model or vendor}", start, end, about, is_client=True)
