"""The app gateway for applications by webhook: jambonz posts to /app/{app}, we to the application, and of the verbs
that come back the `agent` verb is ours. Hooks that are paths are led through here as well: an agent may stand in any
answer.
"""

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from agentd import access
from agentd.jambonz.listen import Node
from agentd.jambonz.memory import Memory
from agentd.jambonz.rewrite import apologies, as_object, listen_verb, our_address, path_of, places, rewritten
from agentd.jambonz.saved import SavedAgent, saved
from agentd.jambonz.tickets import MOST, Ticket
from agentd.ops.bus import BusError, Gone
from agentd.ops.journal import Record
from agentd.outbound import signature
from agentd.outbound.basic_auth import basic
from agentd.outbound.channel import HookFailed, Verbs
from agentd.outbound.guard import Answer, Blocked, OutgoingFailed
from agentd.outbound.webhook import where
from config import commands, payloads
from config.apps import address, is_socket
from config.server import App

log = logging.getLogger("agentd.gateway")

UNSAID = "the agent has ended, and the application does not say what is next"
SECONDS = 9.0  # for the application's answer: jambonz waits 10 for ours
LIMIT = 256 * 1024  # bytes of a body
AGENT = "-/agent/"  # the path of our own actionHooks, below the application's
KEPT = 60.0  # seconds that a journal is kept behind its agent: nobody tells when a call by webhook is over
ENDED = "agent.ended"  # what a process is asked whose agent it was


class WebhookApps:
    """Those of one server."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._open: dict[str, Ticket] = {}  # by token, until its listen has ended

    async def serve(self, request: Request) -> Response:
        """POST of jambonz's; OPTIONS asks for the variables that an application has."""
        name, path = request.path_params["app"], request.path_params.get("path", "")
        app = self._node.config.server.apps.get(name)
        if not access.rights_of(request.scope).has_agent(name):
            return JSONResponse({"msg": "expected credentials for this application, got others"}, 403)
        if app is None or is_socket(app.url):
            return JSONResponse({"msg": "expected an application with an http or https URL under apps"}, 404)
        if request.method == "OPTIONS":
            return await self._options(app)
        body = await _body(request)
        if body is None:
            return JSONResponse({"msg": f"expected at most {LIMIT} bytes"}, 413)
        if not self._is_genuine(app, request, body):
            return JSONResponse({"msg": f"expected a {signature.HEADER} of jambonz's, got none or another"}, 401)
        data = as_object(body)
        try:
            before: tuple[str, Sequence[Record]] = ("", ())
            if path.startswith(AGENT):
                token = path.removeprefix(AGENT)
                verbs, before = await self._listen_ended(app, name, token, data)
            else:
                verbs = await self._asked(app, path, body)
        except HookFailed as exc:
            log.warning("the caller hears an apology", extra={"app": name, "why": str(exc)})
            verbs, before = apologies(app.apology), ("", ())
        return JSONResponse(self._for_jambonz(verbs, name, str(data.get("call_sid") or ""), request, before))

    async def _options(self, app: App) -> Response:
        try:
            answer = await self._sent(app, "OPTIONS", app.url, b"")
        except HookFailed as exc:
            return JSONResponse({"msg": str(exc)}, 502)
        kept = {"content-type": answer.headers.get("content-type", "application/json")}
        return Response(answer.body, answer.status, kept)

    async def _asked(self, app: App, path: str, body: bytes) -> Verbs:
        """The verbs. Raises :class:`HookFailed`."""
        url = app.url if not path else address(f"/{path}", app) or app.url
        answer = await self._sent(app, "POST", url, body)
        if not 200 <= answer.status < 300:
            raise HookFailed(f"expected status 200, got {answer.status}")
        if not answer.body.strip():
            return []
        try:
            verbs = commands.verbs(json.loads(answer.body))
        except (ValueError, RecursionError) as exc:
            raise HookFailed(f"expected verbs, got what is none ({type(exc).__name__})") from exc
        if commands.is_deep(verbs):
            raise HookFailed(f"expected at most {commands.DEPTH} objects and lists inside each other, got more")
        return verbs

    async def _sent(self, app: App, method: str, url: str, body: bytes) -> Answer:
        headers = {"Content-Type": "application/json"} if body else {}
        secret = app.secret or self._node.config.server.hooks.secret
        if secret is not None and body:
            headers[signature.HEADER] = signature.sign(secret.get_secret_value(), body, time.time())
        if app.username is not None:
            headers["Authorization"] = basic(app.username, app.password.get_secret_value() if app.password else None)
        try:
            return await self._node.guard.request(
                method, url, content=body or None, headers=headers, limit=LIMIT, seconds=SECONDS, named=app.url
            )
        except (Blocked, OutgoingFailed) as exc:
            raise HookFailed(f"{where(url)}: {exc}") from exc

    def _is_genuine(self, app: App, request: Request, body: bytes) -> bool:
        """Where the application has a secret, jambonz signs with it, and has to."""
        if app.secret is None:
            return True
        given = request.headers.getlist(signature.HEADER)
        return len(given) == 1 and signature.is_genuine(given[0], body, [app.secret.get_secret_value()], time.time())

    async def _listen_ended(
        self, app: App, name: str, token: str, data: Mapping[str, Any]
    ) -> tuple[Verbs, tuple[str, Sequence[Record]]]:
        """What comes next, and the conversation with which its first agent goes on, by the token of the one before.
        Raises :class:`HookFailed` where the application does not say.
        """
        ticket = self._open.pop(token, None)
        if ticket is not None:
            return await self._next(app, token, ticket, data), ("", ())
        agent = await self._saved(name, token)
        if agent is None:
            return [], ("", ())
        if agent.owner != self._node.bus.name and (verbs := await self._next_there(agent.owner, token)) is not None:
            return verbs, ("", ())
        if agent.next is None:
            log.warning("agent goes on: its process was killed", extra={"app": name, "records": len(agent.records)})
            return [agent.verb, *agent.behind], (token, agent.records)
        if not agent.next and not agent.is_answered:
            raise HookFailed(UNSAID)
        return agent.next, ("", ())

    async def _saved(self, name: str, token: str) -> SavedAgent | None:
        """An agent of a process that was killed, or has told the end of it to nobody."""
        if self._node.journals is None:
            return None
        try:
            return saved(await self._node.journals.read(name, token)).agents.get(token)
        except ValueError as exc:
            log.warning("call cannot go on as it was", extra={"app": name, "why": str(exc)})
            return None

    async def _next_there(self, owner: str, token: str) -> Verbs | None:
        """What comes behind an agent of another process; ``None`` where that is gone, or knows nothing of it. Raises
        :class:`HookFailed` where nobody says.
        """
        try:
            answer = await self._node.bus.ask(owner, ENDED, {"token": token}, SECONDS)
        except Gone:
            return None
        except BusError as exc:
            raise HookFailed(str(exc)) from exc
        match answer:
            case {"verbs": list(verbs)}:
                return verbs
            case {"is_known": True}:
                raise HookFailed(UNSAID)
        return None

    async def ended(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Answers that question."""
        ticket = self._open.pop(str(data["token"]), None)
        verbs = None if ticket is None else await ticket.behind(SECONDS - 1)
        return {"is_known": ticket is not None} | ({} if verbs is None else {"verbs": verbs})

    async def _next(self, app: App, token: str, ticket: Ticket, data: Mapping[str, Any]) -> Verbs:
        if not ticket.is_taken:  # the listen socket could not be opened
            ticket.end([])
            self._node.tickets.forget(token)
            hook = path_of(ticket.verb.get("actionHook"))
            told = payloads.completion("connection failure", None, self._node.config.server.events.names)
            return (
                [] if hook is None else await self._asked(app, hook.lstrip("/"), json.dumps({**data, **told}).encode())
            )
        verbs = await ticket.behind(SECONDS)
        if verbs is None:
            raise HookFailed(UNSAID)
        return verbs

    def _for_jambonz(
        self, verbs: Verbs, name: str, call_sid: str, request: Request, before: tuple[str, Sequence[Record]]
    ) -> Verbs:
        server = self._node.config.server
        base = our_address(server.process.public_url, request.url.scheme, request.headers.get("host"))
        stand = iter(places(verbs))

        def ticket(verb: dict[str, Any]) -> dict[str, Any]:
            nonlocal before
            made = Ticket(name, call_sid, verb, None, lambda on_command: None)
            self._node.tickets.add(token := self._node.tickets.new_token(), made)
            while len(self._open) >= MOST:  # jambonz never told their end
                del self._open[next(iter(self._open))]
            self._open[token] = made
            self._remember(name, token, made, verbs[next(stand) + 1 :], *before)
            before = ("", ())
            listen = listen_verb(base, token, auth=server.access.credentials_for(name))
            return {**listen, "actionHook": f"/app/{name}/{AGENT}{token}"}

        return [_led(verb, name) for verb in rewritten(verbs, ticket) or verbs]

    def _remember(
        self, name: str, token: str, ticket: Ticket, behind: Verbs, after: str, before: Sequence[Record]
    ) -> None:
        """One journal an agent: nobody tells us where a call by webhook begins and ends."""
        if self._node.journals is None:
            return
        journal = self._node.journals.of(name, token)
        memory = Memory(journal, self._node.bus.name)
        memory.agent(token, ticket.verb, behind, "")
        ticket.tell, ticket.before = memory.teller(token), before
        for record in before:
            journal.write({**record, "token": token})
        if after:
            self._node.journals.of(name, after).remove()
        loop = asyncio.get_running_loop()
        ticket.done.add_done_callback(lambda _: loop.call_later(KEPT, journal.remove))


def _led(value: Any, name: str, key: str = "") -> Any:
    """The same with every hook that is a path led through us."""
    match value:
        case Mapping():
            inside = {k: _led(v, name, k) for k, v in value.items()}
            if _is_hook(key) and isinstance(value.get("url"), str):
                inside["url"] = _path(value["url"], name)
            return inside
        case list():
            return [_led(each, name) for each in value]
        case str() if _is_hook(key):
            return _path(value, name)
        case _:
            return value


def _is_hook(key: str) -> bool:
    return key.lower().endswith("hook")


def _path(hook: str, name: str) -> str:
    mine = f"/app/{name}/"
    return hook if urlsplit(hook).scheme or hook.startswith(mine) else f"{mine}{hook.lstrip('/')}"


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LIMIT:
            return None
    return bytes(body)
