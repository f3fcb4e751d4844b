"""REST as jambonz has it, for the calls of this server, and their events as a stream.

Status codes, names and ``{"msg": …}`` are jambonz's, so that its SDKs work here. A call that a key does not cover is
answered as one that does not exist.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentd import access
from agentd.call.isolation import asked
from agentd.errors import NORMAL, AgentdError
from agentd.jambonz.listen import Node
from agentd.ops.registry import Controls, LiveCall
from agentd.ops.stream import EventStream

log = logging.getLogger("agentd.rest")

BODY_LIMIT = 256 * 1024  # bytes
BODY_WAIT = 10.0  # seconds
DEPTH = 64  # of JSON: objects and lists within each other

UPDATES = ("agent_update", "pipeline_update")
NOISE = ("noise_isolation_status", "noiseIsolation_status")
NOISE_OPTIONS = tuple(f"{prefix}{name}" for prefix in ("noise_isolation_", "") for name in ("vendor", "level", "model"))
TOOL_OUTPUT = ("tool_output", "llm_tool_output", "tool_call_id")
CHANGES = (*UPDATES, NOISE[0], "call_status")

SHOWN = {  # of the metadata, and what it is called here
    "applicationSid": "application_sid",
    "callId": "call_id",
    "from": "from",
    "to": "to",
    "callerName": "caller_name",
    "sipStatus": "sip_status",
    "traceId": "trace_id",
}
FILTERS = {"direction": "direction", "from": "from", "to": "to", "callStatus": "call_status"}

Change = Callable[[Controls], None]


def routes(node: Node) -> list[Route]:
    rest = Rest(node)
    calls = "/v1/Accounts/{account_sid}/Calls"
    return [
        Route(calls, rest.list_calls),
        Route(f"{calls}/count", rest.count),  # the Python SDK's
        Route(f"{calls}/{{call_sid}}", rest.retrieve, methods=["GET"]),
        Route(f"{calls}/{{call_sid}}", rest.update, methods=["PUT"]),
        Route(f"{calls}/{{call_sid}}", rest.hang_up, methods=["DELETE"]),
        Route("/v1/Accounts/{account_sid}/CallCount", rest.count),
        Route("/v1/calls/{call_sid}/events", rest.events),
    ]


class Rest:
    """The routes around a node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def list_calls(self, request: Request) -> Response:
        wanted = {name: request.query_params[key] for key, name in FILTERS.items() if key in request.query_params}
        shown = [self._shown(live) for live in self._of_account(request)]
        return answer([call for call in shown if wanted.items() <= call.items()])

    async def count(self, request: Request) -> Response:
        outbound = [_direction(live) for live in self._of_account(request)].count("outbound")
        return answer({"inbound": len(self._of_account(request)) - outbound, "outbound": outbound})

    async def retrieve(self, request: Request) -> Response:
        return answer(self._shown(self._one(request)))

    async def update(self, request: Request) -> Response:
        self._one(request)  # whoever may not know of the call is told nothing about the body either
        wanted = change(await body(request))
        live = self._one(request)  # it may have ended meanwhile
        try:
            wanted(live.call)
        except AgentdError as exc:
            raise HTTPException(422, str(exc)) from exc
        log.info("call updated", extra={"call_sid": live.call_sid})
        return PlainTextResponse("Accepted", 202)

    async def hang_up(self, request: Request) -> Response:
        self._one(request).call.stop(NORMAL)
        return Response(status_code=204)

    async def events(self, request: Request) -> EventStream:
        rights, call_sid = access.rights_of(request.scope), request.path_params["call_sid"]
        found = [live for live in self._node.calls if live.call_sid == call_sid]
        found = [live for live in found if rights.has(live.agent, live.account)]
        if not found:
            raise _unknown()
        types = [name for name in request.query_params.get("types", "").split(",") if name]
        return EventStream(found[0], _number(request.headers.get("last-event-id", "")), types)

    def _of_account(self, request: Request) -> list[LiveCall]:
        rights, account = access.rights_of(request.scope), request.path_params["account_sid"]
        return [live for live in self._node.calls if live.account == account and rights.has(live.agent, account)]

    def _one(self, request: Request) -> LiveCall:
        account, call_sid = request.path_params["account_sid"], request.path_params["call_sid"]
        live = self._node.calls.get(account, call_sid)
        if live is None or not access.rights_of(request.scope).has(live.agent, account):
            raise _unknown()
        return live

    def _shown(self, live: LiveCall) -> dict[str, Any]:
        return shown(live, asyncio.get_running_loop().time())


def shown(live: LiveCall, now: float) -> dict[str, Any]:
    """A call, under jambonz's names."""
    named = {name: live.info[key] for key, name in SHOWN.items() if live.info.get(key) is not None}
    return {
        "sid": live.call_sid,
        "call_sid": live.call_sid,
        "account_sid": live.account,
        **named,
        "direction": _direction(live),
        "call_status": live.info.get("callStatus") or "in-progress",
        "duration": round(now - live.began),
        "agent": live.agent,
        "state": live.call.state,
    }


def change(asked_for: Mapping[str, Any]) -> Change:
    """What the body of a PUT does to a call. Raises :class:`HTTPException`."""
    for key in asked_for:
        if key in TOOL_OUTPUT:
            raise HTTPException(422, f"{key}: tool results come over the socket that was asked")
        if key not in (*UPDATES, *NOISE, *NOISE_OPTIONS, "call_status"):
            raise HTTPException(
                422, f"{key[:40]}: belongs to jambonz's own REST interface; here it is one of {', '.join(CHANGES)}"
            )
    given = [key for key in (*UPDATES, *NOISE, "call_status") if key in asked_for]
    if len(given) != 1:
        raise HTTPException(400, f"expected one of {', '.join(CHANGES)}, got {len(given) or 'none'} of them")
    (key,) = given
    if key not in NOISE and (options := asked_for.keys() - {key}):
        raise HTTPException(422, f"{min(options)}: expected beside {NOISE[0]} only, got it with {key}")
    value = asked_for[key]
    if key in UPDATES:
        if not isinstance(value, dict):
            raise HTTPException(400, f"{key}: expected an object")
        return lambda call: call.update(value)
    if key in NOISE:
        try:
            asked(asked_for, None)
        except ValueError as exc:
            raise HTTPException(422, str(exc)) from exc
        return lambda call: call.noise_isolation(asked_for)
    if value != "completed":
        raise HTTPException(422, "call_status: expected completed")
    return lambda call: call.stop(NORMAL)


async def body(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request. Raises :class:`HTTPException`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "expected Content-Type: application/json")
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_WAIT):
            async for chunk in request.stream():
                data += chunk
                if len(data) > BODY_LIMIT:
                    raise HTTPException(413, f"expected at most {BODY_LIMIT} bytes, got more")
    except TimeoutError as exc:
        raise HTTPException(408, f"expected the whole body within {BODY_WAIT:.0f} s") from exc
    except ClientDisconnect as exc:
        raise HTTPException(400, "expected the whole body") from exc
    return parsed(bytes(data))


def parsed(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data, parse_constant=_no_number)
    except RecursionError as exc:
        raise _too_deep() from exc
    except ValueError as exc:
        raise HTTPException(400, "expected a body of JSON, got something else") from exc
    if not isinstance(found, dict):
        raise HTTPException(400, "expected a JSON object")
    level: list[Any] = [found]
    for _ in range(DEPTH):
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        level = [inner for inner in level if isinstance(inner, dict | list)]
        if not level:
            return found
    raise _too_deep()


def answer(data: Any, status: int = 200) -> Response:
    """JSON of ASCII only: what jambonz and others send us may hold half a character."""
    return Response(json.dumps(data), status, media_type="application/json")


async def refused(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    response = answer({"msg": exc.detail}, exc.status_code)
    response.headers.update(exc.headers or {})
    return response


async def crashed(request: Request, exc: Exception) -> Response:
    return answer({"msg": "server failure"}, 500)


HANDLERS: dict[Any, Any] = {HTTPException: refused, Exception: crashed}


def _unknown() -> HTTPException:
    return HTTPException(404, "expected a live call of this account, got none of this id")


def _too_deep() -> HTTPException:
    return HTTPException(400, f"expected JSON of at most {DEPTH} levels, got more")


def _direction(live: LiveCall) -> str:
    return "outbound" if live.info.get("direction") == "outbound" else "inbound"


def _number(last: str) -> int:
    if not last:
        return 0
    if not (last.isascii() and last.isdecimal() and len(last) < 10):
        raise HTTPException(400, "Last-Event-ID: expected the number of an entry")
    return int(last)


def _no_number(text: str) -> Any:
    raise ValueError(f"expected JSON, got {text}")
