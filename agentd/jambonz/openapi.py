"""What the HTTP interface is, for machines (OpenAPI 3.1) and, made of the same, for people."""

import json
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from agentd import __version__

METHODS = ("get", "put", "delete")
TEXT, OBJECT, WHOLE = {"type": "string"}, {"type": "object"}, {"type": "integer", "minimum": 0}
ANY: dict[str, Any] = {}  # as jambonz sent it, or no JSON
CALL_KEYS = ["sid", "call_sid", "account_sid", "direction", "call_status", "duration", "agent", "state"]


def routes() -> list[Route]:
    document, page = json.dumps(DOCUMENT), html(DOCUMENT)

    async def openapi(request: Request) -> Response:
        return Response(document, media_type="application/json")

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def _path(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT, "description": description}


def _query(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": TEXT, "description": description}


def _said(description: str, schema: Any = None, kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, **({} if schema is None else {"content": {kind: {"schema": schema}}})}


def _refused(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in (*statuses, 401, 403, 429)}


def _change(**properties: Any) -> dict[str, Any]:
    """The first one says which change it is."""
    return {"type": "object", "required": [next(iter(properties))], "properties": properties}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


UPDATE = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": ["update_instructions", "inject_context", "update_tools", "generate_reply"]}},
}
ACCOUNT = _path("account_sid", "the call's `accountSid`; `default` where its metadata names none")
NEWEST = "The newest, where there are several under one id; parts of it by `Range`."
CALL = _path("call_sid", "the `callSid` that jambonz gave it")
COUNT = {
    "summary": "How many live calls the account has",
    "parameters": [ACCOUNT],
    "responses": {"200": _said("by direction", _ref("Count")), **_refused(503)},
}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "agentd",
        "version": __version__,
        "description": (
            "The live calls of this server, as jambonz's REST interface has them, and their events. Where nobody is "
            "named under `access`, a page in a browser brings the console's key, or in the header `call-secret` the "
            "`callSecret` of a call of its own; without either it is told no words and no numbers, and changes nothing."
        ),
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "servers": [{"url": "/"}],
    "security": [{"key": []}],
    "paths": {
        "/v1/Accounts/{account_sid}/Calls": {
            "get": {
                "operationId": "listCalls",
                "summary": "The live calls of an account",
                "parameters": [
                    ACCOUNT,
                    _query("direction", "only `inbound` or `outbound` ones"),
                    _query("from", "only those from this number"),
                    _query("to", "only those to this number"),
                    _query("callStatus", "only those of this status"),
                ],
                "responses": {"200": _said("the calls", {"type": "array", "items": _ref("Call")}), **_refused(503)},
            },
        },
        "/v1/Accounts/{account_sid}/Calls/{call_sid}": {
            "get": {
                "operationId": "getCall",
                "summary": "One live call",
                "parameters": [ACCOUNT, CALL],
                "responses": {"200": _said("the call", _ref("Call")), **_refused(404, 503)},
            },
            "put": {
                "operationId": "updateCall",
                "summary": "Change a live call: its agent, its noise isolation, or its end",
                "parameters": [ACCOUNT, CALL],
                "requestBody": {"required": True, "content": {"application/json": {"schema": _ref("Change")}}},
                "responses": {
                    "202": _said("taken over", TEXT, "text/plain"),
                    **_refused(400, 404, 408, 413, 415, 422, 503),
                },
            },
            "delete": {
                "operationId": "deleteCall",
                "summary": "End a live call",
                "parameters": [ACCOUNT, CALL],
                "responses": {"204": _said("it ends"), **_refused(404, 503)},
            },
        },
        "/v1/Accounts/{account_sid}/CallCount": {"get": {"operationId": "countCalls", **COUNT}},
        "/v1/Accounts/{account_sid}/Calls/count": {
            "get": {
                "operationId": "countCallsToo",
                **COUNT,
                "description": "The same; jambonz's Python SDK asks for it here.",
            },
        },
        "/v1/calls": {
            "get": {
                "operationId": "listAllCalls",
                "summary": "The live calls of all accounts",
                "description": (
                    "Those that the key is for, the oldest first. Of more than 1,000 live calls only the oldest 1,000 "
                    "are looked at; the list of an account has all of its own."
                ),
                "responses": {"200": _said("the calls", {"type": "array", "items": _ref("Call")}), **_refused(503)},
            },
        },
        "/v1/calls/{call_sid}/events": {
            "get": {
                "operationId": "streamEvents",
                "summary": "What happens in a live call, as server-sent events",
                "description": (
                    "First what has happened, then what happens. `id` is the number of the entry, `event` its type, "
                    "`data` the entry as JSON. The stream ends with the call (`event: end`), or when its reader falls "
                    "1,000 entries behind (`event: late`)."
                ),
                "parameters": [
                    CALL,
                    _query("types", "only entries of these types, such as `turn_end,state`"),
                    _query("sound", "`1`: levels of both sides, too, as entries of the type `sound`"),
                    {
                        "name": "Last-Event-ID",
                        "in": "header",
                        "schema": WHOLE,
                        "description": "the number of the last entry that the reader has",
                    },
                ],
                "responses": {"200": _said("the events", TEXT, "text/event-stream"), **_refused(400, 404, 503)},
            },
        },
        "/v1/console": {
            "get": {
                "operationId": "getConsole",
                "summary": "Which agents the console may talk to, and whether it may know and change other calls",
                "responses": {"200": _said("what its page may do", _ref("Console")), **_refused()},
            },
        },
        "/v1/recordings": {
            "get": {
                "operationId": "listRecordings",
                "summary": "The recordings that this machine has",
                "description": "Those that the key is for, the newest first.",
                "parameters": [_query("call_sid", "only those of this call")],
                "responses": {
                    "200": _said("the recordings", {"type": "array", "items": _ref("Recording")}),
                    **_refused(),
                },
            },
        },
        "/v1/recordings/{call_sid}.wav": {
            "get": {
                "operationId": "getRecordedSound",
                "summary": "What was heard and sent in a call: the caller left, the agent right",
                "description": NEWEST,
                "parameters": [CALL],
                "responses": {"200": _said("16-bit PCM at 8 or 16 kHz", ANY, "audio/wav"), **_refused(404)},
            },
        },
        "/v1/recordings/{call_sid}.jsonl": {
            "get": {
                "operationId": "getRecordedEvents",
                "summary": "What happened in a call, an entry a line",
                "description": f"{NEWEST} A second of an entry's `at` is a second of the sound.",
                "parameters": [CALL],
                "responses": {"200": _said("the entries", TEXT, "application/x-ndjson"), **_refused(404)},
            },
        },
        "/v1/recordings/{call_sid}": {
            "delete": {
                "operationId": "deleteRecordings",
                "summary": "Remove all recordings of a call",
                "description": "Of a call that goes on nothing more is recorded.",
                "parameters": [CALL],
                "responses": {"204": _said("they are gone"), **_refused(404)},
            },
        },
        "/livez": {
            "get": {
                "operationId": "isAlive",
                "summary": "Is the process alive?",
                "security": [],
                "responses": {"200": _said("yes", TEXT, "text/plain")},
            },
        },
        "/healthz": {
            "get": {
                "operationId": "isReady",
                "summary": "Are calls answered?",
                "security": [],
                "responses": {"200": _said("yes", _ref("Health")), "503": _said("not yet", _ref("Health"))},
            },
        },
        "/metrics": {
            "get": {
                "operationId": "getMetrics",
                "summary": "Figures for Prometheus, of all agents and accounts",
                "responses": {"200": _said("its text format, or OpenMetrics", TEXT, "text/plain"), **_refused()},
            },
        },
        "/openapi.json": {
            "get": {
                "operationId": "getOpenApi",
                "summary": "This document",
                "responses": {"200": _said("OpenAPI 3.1", OBJECT), **_refused()},
            },
        },
        "/docs": {
            "get": {
                "operationId": "getDocs",
                "summary": "This document, for people",
                "responses": {"200": _said("a page", TEXT, "text/html"), **_refused()},
            },
        },
    },
    "components": {
        "securitySchemes": {
            "key": {"type": "http", "scheme": "bearer", "description": "a key that is named under `access.keys`"},
        },
        "responses": {
            status: _said(words, _ref("Error"))
            for status, words in {
                "400": "something else was expected",
                "401": "a key was expected",
                "403": "no key is configured, or the key is limited and the figures are of all",
                "404": "no call of this account, or no recording, has this id, or the key is not for it",
                "408": "the body did not come",
                "413": "the body is larger than 256 KiB",
                "415": "the body is not JSON",
                "422": "this cannot be done",
                "429": "this address failed too often; `Retry-After` says when to come again",
                "503": "the process that has the call, or Redis, does not answer",
            }.items()
        },
        "schemas": {
            "Error": {"type": "object", "required": ["msg"], "properties": {"msg": TEXT}},
            "Count": {
                "type": "object",
                "required": ["inbound", "outbound"],
                "properties": {"inbound": WHOLE, "outbound": WHOLE},
            },
            "Console": {
                "type": "object",
                "required": ["version", "may_know", "agents"],
                "properties": {"version": TEXT, "may_know": {"type": "boolean"}, "agents": {"type": "array"}},
            },
            "Health": {
                "type": "object",
                "required": ["status", "calls", "version"],
                "properties": {"status": {"enum": ["ok", "starting"]}, "calls": WHOLE, "version": TEXT},
            },
            "Call": {
                "type": "object",
                "required": [
                    "sid",
                    "call_sid",
                    "account_sid",
                    "direction",
                    "call_status",
                    "duration",
                    "agent",
                    "state",
                ],
                "properties": {
                    **dict.fromkeys(("sid", "call_sid", "account_sid", "application_sid", "call_id"), TEXT),
                    **dict.fromkeys(("from", "to", "caller_name", "sip_status", "trace_id"), ANY),
                    "direction": {"enum": ["inbound", "outbound"]},
                    "call_status": {"description": "as the metadata of the listen socket had it"},
                    "duration": {**WHOLE, "description": "seconds since the call reached this server"},
                    "agent": {**TEXT, "description": "the name of its agent"},
                    "state": {**TEXT, "description": "of the conversation: idle, listening, thinking, speaking, …"},
                },
            },
            "Recording": {
                "type": "object",
                "required": ["call_sid", "account_sid", "agent", "since", "seconds", "bytes", "is_whole"],
                "properties": {
                    **dict.fromkeys(("call_sid", "account_sid", "agent"), TEXT),
                    "since": {"type": "number", "description": "when the call began, in seconds of Unix time"},
                    "seconds": {"type": "number", "description": "how long the sound is"},
                    "bytes": WHOLE,
                    "is_whole": {"type": "boolean", "description": "the call has ended, and all of it is there"},
                },
            },
            "Change": {
                "description": "One of these.",
                "oneOf": [
                    _change(agent_update=UPDATE),
                    _change(pipeline_update={**UPDATE, "description": "the older name of agent_update"}),
                    _change(
                        noise_isolation_status={"enum": ["enable", "disable"]},
                        noise_isolation_vendor=TEXT,
                        noise_isolation_level={"type": "number", "minimum": 0, "maximum": 100},
                        noise_isolation_model=TEXT,
                    ),
                    _change(call_status={"const": "completed"}),
                ],
            },
        },
    },
}

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>agentd: HTTP interface</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem }}
h2 {{ font: 600 1rem ui-monospace, monospace; margin: 2rem 0 0; overflow-wrap: anywhere }}
dt {{ font-family: ui-monospace, monospace }} dd {{ margin-left: 1.5rem }}
</style>
<h1>agentd {version}</h1>
<p>{description} The same for machines: <a href="/openapi.json">/openapi.json</a>.</p>
{operations}
</html>
"""


def html(document: dict[str, Any]) -> str:
    """The operations, one below the other. It needs nothing from elsewhere."""
    operations = [
        _operation(method, path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    ]
    info = document["info"]
    return PAGE.format(
        version=escape(info["version"]), description=escape(info["description"]), operations="\n".join(operations)
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    words = ". ".join(filter(None, (operation["summary"], operation.get("description"))))
    told = [(parameter["name"], parameter["description"]) for parameter in operation.get("parameters", [])]
    told += [(status, _words(answer)) for status, answer in sorted(operation["responses"].items())]
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in told)
    return f"<h2>{method.upper()} {escape(path)}</h2>\n<p>{escape(words)}</p>\n<dl>{items}</dl>"


def _words(answer: dict[str, Any]) -> str:
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return str(answer["description"])
