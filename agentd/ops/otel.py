"""What :mod:`agentd.ops.tracing` decides, as spans of OpenTelemetry (the extra `otel`), exported on a thread.

A turn's spans are made when it has ended, with the times that they had.
"""

import asyncio
import logging
import time

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from agentd import __version__
from agentd.ops.log import Entry, EventLog
from agentd.ops.tracing import Made, Parent, Spans, end_of, parent_of
from config.server import Tracing

log = logging.getLogger("agentd.tracing")

PATH = "/v1/traces"
QUEUE = 4096  # spans that wait for the exporter; what comes when they are so many is dropped, and the SDK says so
BATCH = 128  # of them at a time: the thread that encodes them holds the interpreter, and with it the calls
EVERY = 2.0  # seconds between two exports
EXPORT = 5.0  # seconds for one; what the collector does not take by then is dropped
CLOSE = 6.0  # seconds for the last one


class Ids(RandomIdGenerator):
    """The next trace is ``wanted``: jambonz has begun it, and told none of its spans."""

    wanted = 0

    def generate_trace_id(self) -> int:
        wanted, self.wanted = self.wanted, 0
        return wanted or super().generate_trace_id()


class Tracer:
    """Of one process. ``exporter``: another one than that of the configuration."""

    def __init__(self, config: Tracing, exporter: SpanExporter | None = None) -> None:
        self.content = config.content
        self._ids = Ids()
        resource = Resource.create({"service.version": __version__})
        if str(resource.attributes.get(SERVICE_NAME, "unknown_service")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "agentd"}))
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter or _exporter(config), QUEUE, EVERY * 1000, BATCH, EXPORT * 1000)
        )
        self._tracer = self._provider.get_tracer("agentd", __version__)

    def observe(self, agent: str, events: EventLog) -> None:
        """A call begins."""
        events.subscribe(_Call(self, agent, events).told)

    async def aclose(self) -> None:
        """The last batch. A collector that takes nothing is not waited for."""
        closing = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait([closing], timeout=CLOSE)

    def begin(self, name: str, start: int, parent: Parent | None) -> Span:
        context = Context()
        if parent is not None and parent.span_id:
            flags = TraceFlags(TraceFlags.SAMPLED if parent.is_sampled else TraceFlags.DEFAULT)
            remote = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            context = trace.set_span_in_context(NonRecordingSpan(remote), context)
        elif parent is not None:
            self._ids.wanted = parent.trace_id
        return self._tracer.start_span(name, context, SpanKind.SERVER, start_time=start)

    def put(self, made: Made, context: Context, zero: int) -> None:
        """The span and its children. ``zero`` is when the call began, in nanoseconds of the calendar."""
        kind = SpanKind.CLIENT if made.is_client else SpanKind.INTERNAL
        span = self._tracer.start_span(made.name, context, kind, made.attributes, start_time=zero + _ns(made.start))
        for name, at, attributes in made.events:
            span.add_event(name, attributes, zero + _ns(at))
        if made.error is not None:
            span.set_attribute("error.type", made.error)
            span.set_status(Status(StatusCode.ERROR))
        inside = trace.set_span_in_context(span, context)
        for child in made.children:
            self.put(child, inside, zero)
        span.end(zero + _ns(made.end))


class _Call:
    def __init__(self, tracer: Tracer, agent: str, events: EventLog) -> None:
        self._tracer = tracer
        self._spans = Spans(content=tracer.content)
        self._zero = time.time_ns() - _ns(events.now())
        self._span = tracer.begin(f"call {agent}", self._zero, parent_of(events.about))
        self._span.set_attribute("gen_ai.agent.name", agent)
        self._span.set_attribute("gen_ai.conversation.id", str(events.about.get("call_sid", "")))
        self._inside = trace.set_span_in_context(self._span, Context())

    def told(self, entry: Entry) -> None:
        try:
            for made in self._spans.told(entry):
                self._tracer.put(made, self._inside, self._zero)
            if entry["type"] == "call_ended":
                self._span.set_attributes(end_of(entry))
                self._span.end(self._zero + _ns(entry["at"]))
        except Exception:  # the call goes on, whatever is not traced
            log.exception("entry not traced", extra={"type": entry["type"]})


def _exporter(config: Tracing) -> OTLPSpanExporter:
    # One line for each batch that is lost, not one for each try.
    logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.ERROR)
    url = config.endpoint
    if url is not None and not url.rstrip("/").endswith(PATH):
        url = url.rstrip("/") + PATH
    headers = {name.lower(): value.get_secret_value() for name, value in config.headers.items()}
    return OTLPSpanExporter(endpoint=url, headers=headers or None, timeout=EXPORT)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
