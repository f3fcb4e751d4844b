"""REST as jambonz has it, for the calls of this server and of its cluster, and their events as a stream.

Status codes, names and ``{"msg": …}`` are jambonz's, so that its SDKs work here. A call that a key does not cover is
answered as one that does not exist. An onlooker (:class:`agentd.access.Rights`) is told of calls without the numbers
and the words in them; of a call that is their own, by its `call-secret`, they are told everything.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentd import access
from agentd.jambonz.anywhere import Anywhere, There
from agentd.jambonz.changes import COMPLETED, change
from agentd.jambonz.here import Here, unknown
from agentd.jambonz.listen import Node
from agentd.ops.bus import LISTED, BusError
from agentd.ops.registry import is_proved
from agentd.ops.stream import EventStream, View

BODY_LIMIT = 256 * 1024  # bytes
BODY_WAIT = 10.0  # seconds
DEPTH = 64  # of JSON: objects and lists within each other

NUMBERS = ("from", "to", "caller_name")  # what an onlooker is not told of a call
SECRET = "call-secret"  # the header that brings it
FILTERS = {"direction": "direction", "from": "from", "to": "to", "callStatus": "call_status"}


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
        Route("/v1/calls", rest.list_all_calls),
        Route("/v1/calls/{call_sid}/events", rest.events),
    ]


class Rest:
    """The routes around a node. Calls of other processes are found by its bus."""

    def __init__(self, node: Node) -> None:
        self._anywhere = Anywhere(node)

    async def list_calls(self, request: Request) -> Response:
        wanted = {name: request.query_params[key] for key, name in FILTERS.items() if key in request.query_params}
        shown = await self._shown(request, await self._of_account(request))
        return answer([call for call in shown if wanted.items() <= call.items()])

    async def list_all_calls(self, request: Request) -> Response:
        """Of every account, and no more than the bus tells of: whichever process is asked, they are the same ones."""
        rights = access.rights_of(request.scope)
        covered = [call for call in await self._anywhere.all() if rights.has(call.agent, call.account)]
        return answer(await self._shown(request, covered[:LISTED]))

    async def count(self, request: Request) -> Response:
        directions = [call.direction for call in await self._of_account(request)]
        return answer({direction: directions.count(direction) for direction in ("inbound", "outbound")})

    async def retrieve(self, request: Request) -> Response:
        call = await self._one(request)
        shown = await call.shown()
        return answer(shown if may_know(request, call.proof) else _without_numbers(shown))

    async def update(self, request: Request) -> Response:
        call = await self._one(request)  # whoever may not know of the call is told nothing about the body either
        _may_change(request, call)
        wanted = await body(request)
        change(wanted)  # what is none need not be asked of anybody
        await call.change(wanted)
        return PlainTextResponse("Accepted", 202)

    async def hang_up(self, request: Request) -> Response:
        call = await self._one(request)
        _may_change(request, call)
        await call.change(COMPLETED)
        return Response(status_code=204)

    async def events(self, request: Request) -> EventStream:
        rights, call_sid = access.rights_of(request.scope), request.path_params["call_sid"]
        found = [call for call in await self._anywhere.find(call_sid) if rights.has(call.agent, call.account)]
        if not found:
            raise unknown()
        types = frozenset(name for name in request.query_params.get("types", "").split(",") if name)
        view = View(types, may_know(request, found[0].proof), request.query_params.get("sound") == "1")
        return EventStream(found[0].pages(view), _number(request.headers.get("last-event-id", "")))

    async def _shown(self, request: Request, calls: list[Here | There]) -> list[dict[str, Any]]:
        shown = await self._anywhere.shown(calls)
        return [_without_numbers(call) for call in shown] if access.rights_of(request.scope).is_onlooker else shown

    async def _of_account(self, request: Request) -> list[Here | There]:
        rights, account = access.rights_of(request.scope), request.path_params["account_sid"]
        return [call for call in await self._anywhere.of_account(account) if rights.has(call.agent, account)]

    async def _one(self, request: Request) -> Here | There:
        account, call_sid = request.path_params["account_sid"], request.path_params["call_sid"]
        call = await self._anywhere.one(account, call_sid)
        if call is None or not access.rights_of(request.scope).has(call.agent, account):
            raise unknown()
        return call


def may_know(request: Request, proof: str | None) -> bool:
    """May whoever asks know what is said in the call that has this proof, and change it?"""
    return not access.rights_of(request.scope).is_onlooker or is_proved(proof, request.headers.get(SECRET))


def _may_change(request: Request, call: Here | There) -> None:
    if not may_know(request, call.proof):
        raise HTTPException(401, "expected the console's key, or the secret of the call", access.KEY_WANTED)


def _without_numbers(call: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in call.items() if key not in NUMBERS}


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


async def nobody_answers(request: Request, exc: Exception) -> Response:
    return answer({"msg": f"{exc}; a call of another process cannot be asked now"}, 503)


HANDLERS: dict[Any, Any] = {HTTPException: refused, BusError: nobody_answers, Exception: crashed}


def _too_deep() -> HTTPException:
    return HTTPException(400, f"expected JSON of at most {DEPTH} levels, got more")


def _number(last: str) -> int:
    if not last:
        return 0
    if not (last.isascii() and last.isdecimal() and len(last) < 10):
        raise HTTPException(400, "Last-Event-ID: expected the number of an entry")
    return int(last)


def _no_number(text: str) -> Any:
    raise ValueError(f"expected JSON, got {text}")
