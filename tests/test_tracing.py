"""Calls as traces: which spans there are, when, under which parent, and what they never say."""

import asyncio
import gzip
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from agentd.ops import tracing
from agentd.ops.log import EventLog
from agentd.ops.otel import Tracer
from agentd.ops.tracing import Parent, is_wanted, parent_of
from config.server import Server, Tracing
from tests import virtual_time
from tests.jambonz import Lifespan, metadata
from tests.whole_call import House, agent

TRACE = metadata()["traceId"]
LOOK: dict[str, Any] = {"tools": [{"name": "calculator", "arguments": {"expression": "1+1"}}], "text": "Let me see."}


class Traced:
    """A house whose calls are traced."""

    def __init__(self, *args: Any, content: bool = False, **verb: Any) -> None:
        self.house = House(agent(*args, **verb))
        self.exporter = InMemorySpanExporter()
        self.tracer = Tracer(Tracing(content=content), self.exporter)
        self.house.node.observers.append(self.tracer.observe)

    def turns(self, count: int = 1, **call_options: Any) -> "list[ReadableSpan]":
        """Of a call with so many turns, in the order of their beginnings."""

        async def main() -> None:
            async with self.house.call(**call_options) as call:
                for _ in range(count):
                    await self.house.turn(call)
                call.hang_up()

        virtual_time.run(main())
        asyncio.run(self.tracer.aclose())
        return sorted(
            self.exporter.get_finished_spans(), key=lambda span: (span.start_time or 0, -(span.end_time or 0))
        )


def tree(spans: list[ReadableSpan]) -> dict[str, list[str]]:
    """The names of each span's children, by its own."""
    names = {span.context.span_id: span.name for span in spans if span.context}
    found: dict[str, list[str]] = {}
    for span in spans:
        parent = names.get(span.parent.span_id, "?") if span.parent else ""
        found.setdefault(parent, []).append(span.name)
    return found


def named(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    return next(span for span in spans if span.name == name)


def seconds(span: ReadableSpan) -> float:
    return ((span.end_time or 0) - (span.start_time or 0)) / 1e9


def test_a_turn_has_a_span_for_each_part_of_its_gap() -> None:
    traced = Traced(["hello"], ["Yes, I am here."], stt={"delay": 0.3}, llm={"first": 0.25}, tts={"first": 0.2})
    spans = traced.turns()
    assert tree(spans) == {
        "": ["call demo"],
        "call demo": ["turn"],
        "turn": ["stt", "chat scripted", "tts", "playout"],
    }
    (turn,) = traced.house.entries("turn_end")
    parts = turn["parts"]
    for name in ("stt", "tts", "playout"):
        assert seconds(named(spans, name)) == pytest.approx(parts[name], abs=0.0002)
    assert seconds(named(spans, "chat scripted")) == pytest.approx(0.25, abs=0.001)
    call, whole = named(spans, "call demo"), named(spans, "turn")
    heard = named(spans, "playout").end_time or 0
    assert (heard - (whole.start_time or 0)) / 1e9 == pytest.approx(parts["total"], abs=0.001)
    assert ((whole.end_time or 0) - (call.start_time or 0)) / 1e9 == pytest.approx(turn["at"], abs=0.001)
    assert (call.attributes or {})["agentd.completion_reason"] == "disconnect from remote end"
    assert (call.attributes or {})["agentd.usage.tts.characters"] == 15
    assert (call.attributes or {})["gen_ai.conversation.id"] == traced.house.logs[0].about["call_sid"]


def test_models_and_tools_are_named_as_the_conventions_have_it() -> None:
    traced = Traced(["add"], [LOOK, "It is two."], tools=["calculator"])
    spans = traced.turns()
    assert tree(spans)["turn"].count("chat scripted") == 2
    assert dict(named(spans, "chat scripted").attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.response.time_to_first_chunk": 0.2,
    }
    assert dict(named(spans, "execute_tool calculator").attributes or {}) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "calculator",
        "gen_ai.tool.call.id": "call-1",
        "gen_ai.tool.type": "function",
    }


def test_a_model_says_what_it_took() -> None:
    events, spans = EventLog(lambda: 0.0), tracing.Spans(content=False)
    events.append("model_answered", llm="google:gemini-2.5-flash", first_ms=300, took_ms=800, prompt_tokens=9)
    spans.told({**events.entries[0], "at": 5.0})
    (made,) = spans.told({"type": "call_ended", "at": 6.0})
    assert (made.name, made.start, made.end) == ("chat gemini-2.5-flash", 4.2, 5.0)
    assert made.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "gemini-2.5-flash",
        "gen_ai.response.time_to_first_chunk": 0.3,
        "gen_ai.usage.input_tokens": 9,
    }


def test_what_fails_is_an_error_with_a_code() -> None:
    replies = [{"text": "", "tools": [{"name": "nothing"}]}, {"text": "", "error": "llm-bad-request"}]
    traced = Traced(["hello"], replies, tools=["calculator"])
    spans = traced.turns()
    turn, tool = named(spans, "turn"), named(spans, "execute_tool nothing")
    assert (turn.status.status_code, (turn.attributes or {})["error.type"]) == (StatusCode.ERROR, "llm-bad-request")
    assert (tool.status.status_code, tool.status.description) == (StatusCode.ERROR, None)
    assert {event.name for event in turn.events} == {"vendor_failed"}


def everything(spans: list[ReadableSpan]) -> str:
    return "".join(span.to_json() for span in spans)


def test_nothing_that_was_said_is_told_unless_it_is_wanted() -> None:
    private = (["call me at five"], [LOOK, "Private answer."])
    silent = everything(Traced(*private, tools=["calculator"]).turns())
    assert [word for word in ("five", "Private", "see", "1+1", "+15551230001") if word in silent] == []
    told = everything(Traced(*private, tools=["calculator"], content=True).turns())
    assert [word for word in ("five", "Private", "see", "1+1", "+15551230001") if word not in told] == ["+15551230001"]


# The trace that jambonz has begun ------------------------------------------------------------------------------

A, B = "0123456789abcdef" * 2, "fedcba9876543210"


@pytest.mark.parametrize(
    ("about", "parent"),
    [
        ({}, None),
        ({"trace_id": A}, Parent(int(A, 16), 0, True)),
        ({"trace_id": "x"}, None),
        ({"trace_id": "0" * 32}, None),
        ({"b3": f"{A}-{B}-1", "trace_id": "f" * 32}, Parent(int(A, 16), int(B, 16), True)),
        ({"b3": f"{A[:16]}-{B}"}, Parent(int(A[:16], 16), int(B, 16), True)),
        ({"b3": f"{A}-{B}-0"}, Parent(int(A, 16), int(B, 16), False)),
        ({"b3": f"{A}-{B}-1-{B}"}, Parent(int(A, 16), int(B, 16), True)),
        ({"b3": "1-2-1", "trace_id": A}, Parent(int(A, 16), 0, True)),
        ({"b3": "0", "trace_id": ""}, None),
    ],
)
def test_a_call_goes_on_with_what_it_is_told(about: dict[str, str], parent: Parent | None) -> None:
    assert parent_of(about) == parent


def test_a_call_is_a_part_of_the_trace_that_its_metadata_names() -> None:
    spans = Traced(["hello"]).turns()
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {TRACE}
    assert named(spans, "call demo").parent is None


def test_a_call_through_the_gateway_is_a_child_of_jambonzs_span() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(Tracing(), exporter)
    events = EventLog(lambda: 0.0, {"call_sid": "c", "trace_id": A, "b3": f"{A}-{B}-1"})
    tracer.observe("desk", events)
    events.append("call_ended", completion_reason="x", usage={})
    asyncio.run(tracer.aclose())
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None and f"{span.parent.span_id:016x}" == B and f"{span.parent.trace_id:032x}" == A


def test_what_jambonz_does_not_sample_is_not_exported() -> None:
    exporter = InMemorySpanExporter()
    tracer = Tracer(Tracing(), exporter)
    events = EventLog(lambda: 0.0, {"b3": f"{A}-{B}-0"})
    tracer.observe("desk", events)
    events.append("call_ended", completion_reason="x", usage={})
    asyncio.run(tracer.aclose())
    assert exporter.get_finished_spans() == ()


# Where they go -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "environ", "wanted"),
    [
        ({}, {}, False),
        ("http://collector:4318", {}, True),
        ({"content": True}, {}, False),
        ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ("http://collector:4318", {"OTEL_SDK_DISABLED": "true"}, False),
        ("http://collector:4318", {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_made_where_somebody_takes_them(config: Any, environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(Server.model_validate({"tracing": config}).tracing, environ) == wanted


def test_without_the_extra_it_is_said_and_calls_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("agentd.ops.otel", "opentelemetry.exporter.otlp.proto.http.trace_exporter"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    assert tracing.tracer(Tracing(endpoint="http://collector"), {}) is None
    assert [record.message for record in caplog.records] == [
        "no traces: expected the extra otel (pip install 'agentd[otel]')"
    ]


@pytest.fixture
def collector() -> Iterator[Any]:
    """An OTLP/HTTP receiver: ``(path, headers, message)`` of each request, and its address."""
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            message = ExportTraceServiceRequest()
            message.ParseFromString(body)
            seen.append((self.path, dict(self.headers.items()), message))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield seen, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_collector_gets_them_over_http(collector: Any) -> None:
    seen, url = collector
    config = Server.model_validate({"tracing": {"endpoint": url, "headers": {"X-Key": "secret"}}}).tracing
    assert "secret" not in repr(config)
    tracer = tracing.tracer(config, {})
    assert tracer is not None
    events = EventLog(lambda: 0.0, {"call_sid": "c", "trace_id": A})
    tracer.observe("desk", events)
    events.append("call_ended", completion_reason="x", usage={})
    asyncio.run(tracer.aclose())
    ((path, headers, message),) = seen
    (resource,) = message.resource_spans
    (span,) = resource.scope_spans[0].spans
    assert (path, {key.lower(): value for key, value in headers.items()}["x-key"]) == ("/v1/traces", "secret")
    assert (span.name, span.trace_id.hex()) == ("call desk", A)
    service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
    assert service == "agentd"
    assert "secret" not in json.dumps(str(message))


def test_a_server_traces_its_calls_and_ends_with_the_last_batch(collector: Any) -> None:
    seen, url = collector
    house = House(agent(["hello"]), tracing=url)

    async def main() -> None:
        async with Lifespan(house.app):
            async with house.call() as call:
                await house.turn(call)
            await house.node.ready.wait()

    virtual_time.run(main())
    spans = [span for _, _, message in seen for span in message.resource_spans[0].scope_spans[0].spans]
    assert {"call demo", "turn", "chat scripted"} <= {span.name for span in spans}
    assert {span.trace_id.hex() for span in spans} == {TRACE}
