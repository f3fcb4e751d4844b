"""What Prometheus is told: figures of turns, vendors and calls, from the logs of the calls as they happen.

A few entries a turn come here, nothing per frame or token. Every label has a bound: agents, vendors, codes, reasons;
never a call, an account, a model's name or anybody's words.

Several worker processes of one server keep their figures in one folder (:mod:`agentd.ops.shared_metrics`), and whoever
of them is scraped tells the sum.
"""

import logging
import os
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values
from prometheus_client.exposition import choose_encoder

from agentd.ops.log import Entry, EventLog
from agentd.ops.shared_metrics import VARIABLE
from agentd.ops.usage import PLAYED, Amount, amounts

log = logging.getLogger("agentd.metrics")

# A caller notices 200 ms, and does not forgive 2 s.
TURN = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
STOP = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0)
TOOL = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
CALL = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0, 10800.0)

ANSWERS = ("caller", "request")  # the causes of turns that somebody waits for; a greeting may come from the cache
WHOSE = {"stt": "stt", "eot": "turn_detection", "llm": "llm", "tts": "tts"}  # a part, and the key that names its vendor
UNITS = {"prompt_tokens": "prompt", "completion_tokens": "completion", "cached_tokens": "cached"}
MANY = 200  # values of one label; a further one is counted as OTHER
OTHER = "other"


class Metrics:
    """Those of one process. :meth:`observe` a call as it begins; all methods are plain calls."""

    def __init__(self) -> None:
        if VARIABLE in os.environ and not values.ValueClass._multiprocess:
            # The library looks once, and may have been imported before.
            values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self._few: dict[str, set[str]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"agentd_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"agentd_{name}", text, labels, buckets=buckets, registry=registry)

        self._begun = counter("calls_begun", "Calls that began.", "agent")
        self._ended = counter("calls_ended", "Calls that ended, by completion_reason.", "agent", "reason")
        self._refused = counter("calls_refused", "Calls that were not taken.", "reason")
        self._length = histogram("call_duration_seconds", "How long calls were.", CALL)
        self._live = Gauge(
            "agentd_calls_live", "Calls under way.", ["agent"], registry=registry, multiprocess_mode="livesum"
        )
        self._lag = Gauge(
            "agentd_loop_lag_seconds",
            "How late the event loop was last; of several workers the latest.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._cpu = Gauge(
            "agentd_loop_cpu_cores",
            "What the event loops have of a core, together.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._latency = histogram(
            "turn_latency_seconds", "Parts of the gap before an answer; they add up.", TURN, "part", "vendor"
        )
        self._greeting = histogram("greeting_latency_seconds", "From the call to its first word.", TURN)
        self._stop = histogram("barge_in_stop_seconds", "From the caller's first sound to the agent's silence.", STOP)
        self._tool = histogram("tool_duration_seconds", "How long tools took.", TOOL)
        self._turns = counter("turns", "Turns that ended.", "agent", "cause")
        self._interruptions = counter("interruptions", "Times that callers silenced an agent.", "agent")
        self._preflights = counter("preflights", "What became of answers that were begun early.", "result")
        self._turn_failures = counter("turn_failures", "Turns that a failure ended.", "agent", "code")
        self._failures = counter("vendor_failures", "Failures of vendors.", "role", "vendor", "code")
        self._fallbacks = counter("fallbacks", "Times that another vendor took over.", "role", "vendor", "to")
        self._tools = counter("tool_calls", "Tools that were run.", "agent")
        self._tool_failures = counter("tool_failures", "Tools that failed, or were called wrongly.", "agent")
        self._dropped = counter("events_dropped", "Events that an eventHook was too slow for.", "agent")
        self._tokens = counter("llm_tokens", "Tokens as the vendors count them.", "vendor", "kind")
        self._characters = counter("tts_characters", "Characters that voices were given.", "vendor")
        self._heard = counter("stt_seconds", "Seconds of audio that recognisers were given.", "vendor")
        self._played = counter("played_seconds", "Seconds of agents' speech that callers heard.")

    def observe(self, agent: str, events: EventLog) -> None:
        """A call begins."""
        call = _Call(self, self.few("agent", agent))
        self._begun.labels(call.agent).inc()
        self._live.labels(call.agent).inc()
        events.subscribe(call.told)

    def refused(self, reason: str) -> None:
        """A call was not taken; ``reason`` is one of a few words."""
        self._refused.labels(self.few("reason", reason)).inc()

    def loop(self, lag: float, cpu: float) -> None:
        """How late the event loop is, in seconds, and what it has of a core."""
        self._lag.set(lag)
        self._cpu.set(cpu)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """What a scrape gets, and its content type; ``accept`` is the scraper's header. Reads files where there are
        several workers: not for the loop's own thread.
        """
        registry = self.registry
        if VARIABLE in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    def few(self, label: str, value: str) -> str:
        """The value, as long as the label has not had too many."""
        known = self._few.setdefault(label, set())
        if value not in known:
            if len(known) >= MANY:
                return OTHER
            known.add(value)
        return value

    def _vendor(self, name: str) -> str:
        """Without the label or the model: they may come with a call."""
        return self.few("vendor", name.partition(":")[0])


class _Call:
    """One call's entries."""

    def __init__(self, metrics: Metrics, agent: str) -> None:
        self.agent = agent
        self._metrics = metrics
        self._counted: dict[tuple[str, str, str], float] = {}  # of its usage

    def told(self, entry: Entry) -> None:
        if (count := _COUNTS.get(entry["type"])) is not None:
            try:
                count(self, entry)
            except Exception:  # the call goes on, whatever is not counted
                log.exception("entry not counted", extra={"type": entry["type"]})

    def _turn_ended(self, entry: Entry) -> None:
        metrics, cause = self._metrics, entry["cause"]
        metrics._turns.labels(self.agent, cause).inc()
        if "preflight" in entry["latency"]:
            metrics._preflights.labels(entry["latency"]["preflight"]["result"]).inc()
        if cause in ANSWERS:
            for part, seconds in entry["parts"].items():
                name = entry[WHOSE[part]] if part in WHOSE else ""
                metrics._latency.labels(part, metrics._vendor(name)).observe(seconds)
        elif cause == "greeting" and "total" in entry["parts"]:
            metrics._greeting.observe(entry["parts"]["total"])
        for amount in amounts(entry["usage"]):
            self._used(amount)

    def _interrupted(self, entry: Entry) -> None:
        self._metrics._interruptions.labels(self.agent).inc()
        if "stop_ms" in entry:
            self._metrics._stop.observe(entry["stop_ms"] / 1000)

    def _vendor_failed(self, entry: Entry) -> None:
        metrics, role, then = self._metrics, entry["role"], entry["then"]
        vendor = metrics._vendor(entry["vendor"])
        metrics._failures.labels(role, vendor, metrics.few("code", entry["code"])).inc()
        if then and then != entry["vendor"]:
            metrics._fallbacks.labels(role, vendor, metrics._vendor(then)).inc()

    def _turn_failed(self, entry: Entry) -> None:
        self._metrics._turn_failures.labels(self.agent, self._metrics.few("code", entry["code"])).inc()

    def _tool_returned(self, entry: Entry) -> None:
        self._metrics._tools.labels(self.agent).inc()
        self._metrics._tool.observe(entry["rtt_ms"] / 1000)
        if str(entry["result"]).startswith("Error: "):  # as agentd.call.tools has it
            self._metrics._tool_failures.labels(self.agent).inc()

    def _events_dropped(self, entry: Entry) -> None:
        self._metrics._dropped.labels(self.agent).inc(entry["dropped"])

    def _ended(self, entry: Entry) -> None:
        metrics = self._metrics
        reason = entry.get("completion_reason") or entry.get("completionReason") or ""
        metrics._ended.labels(self.agent, metrics.few("reason", reason)).inc()
        metrics._live.labels(self.agent).dec()
        metrics._length.observe(entry["at"])
        for amount in amounts(entry["usage"]):  # what came behind the last turn, or without one
            self._used(amount._replace(value=amount.value - self._counted.get(amount[:3], 0)))

    def _used(self, amount: Amount) -> None:
        if amount.value <= 0:
            return
        metrics, vendor = self._metrics, self._metrics._vendor(amount.name)
        self._counted[amount[:3]] = self._counted.get(amount[:3], 0) + amount.value
        match amount.role:
            case "llm":
                metrics._tokens.labels(vendor, UNITS[amount.unit]).inc(amount.value)
            case "tts":
                metrics._characters.labels(vendor).inc(amount.value)
            case "stt":
                metrics._heard.labels(vendor).inc(amount.value)
            case role if role == PLAYED:
                metrics._played.inc(amount.value)


_COUNTS: dict[str, Callable[[_Call, Entry], None]] = {
    "turn_end": _Call._turn_ended,
    "user_interruption": _Call._interrupted,
    "vendor_failed": _Call._vendor_failed,
    "turn_failed": _Call._turn_failed,
    "tool_result": _Call._tool_returned,
    "events_dropped": _Call._events_dropped,
    "call_ended": _Call._ended,
}
