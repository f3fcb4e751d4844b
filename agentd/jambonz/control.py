"""Control sockets that jambonz opens: a new call gets a gateway, one that was lost finds its own again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable

from starlette.websockets import WebSocket

from agentd import access, reception
from agentd.errors import CallRefused
from agentd.jambonz.gateway import Gateway
from agentd.jambonz.jambonz_side import Peer
from agentd.jambonz.listen import Node
from agentd.jambonz.memory import Memory
from agentd.jambonz.outbox import GONE
from agentd.jambonz.relay import Relays
from agentd.jambonz.rewrite import as_object, our_address
from agentd.jambonz.saved import SavedCall, saved
from agentd.ops.admission import WORDS
from agentd.outbound.app_dial import SUBPROTOCOL
from agentd.outbound.channel import HookFailed

log = logging.getLogger("agentd.gateway")

FIRST = 5.0  # seconds for the first message


class Gateways:
    """Those of one server, by application and call."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._gateways: dict[tuple[str, str], Gateway] = {}
        self.relays = Relays(lambda: node.bus, self._back)

    def is_awaited(self, app: str) -> bool:
        """Is jambonz to come back with a call of this application?"""
        return any(name == app and gateway.is_away for (name, _), gateway in self._gateways.items())

    async def serve(self, socket: WebSocket) -> None:
        """Raises nothing: jambonz is told by a close code, or by an HTTP status where it may not come in."""
        name = str(socket.path_params.get("app", ""))
        if not access.rights_of(socket.scope).has_agent(name):
            await access.refuse(access.unauthorized("listen"), socket.scope, socket.send)
            return
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", []) else None)
        code, reason = 1000, ""
        try:
            await self._serve(socket, name)
        except (HookFailed, TimeoutError) as exc:
            log.warning("call refused", extra={"app": name, "why": str(exc) or "expected session:new, got nothing"})
            code, reason = 1011, "the application could not be reached"
        except CallRefused as exc:
            code, reason = exc.code, str(exc)
        except GONE:
            pass
        except Exception:
            log.exception("gateway crashed", extra={"app": name})
            code, reason = 1011, "server failure"
        finally:
            with contextlib.suppress(*GONE):
                await socket.close(code, reason)

    def _back(self, name: str, call_sid: str, msgid: str, socket: Peer) -> Awaitable[None] | None:
        """Jambonz came back to another process with a call that may be ours."""
        gateway = self._gateways.get((name, call_sid))
        return None if gateway is None else gateway.back(socket, msgid)

    async def _saved(self, name: str, call_sid: str) -> SavedCall | None:
        """What is known of a call that jambonz is back with."""
        if self._node.journals is None:
            return None
        try:
            known = saved(await self._node.journals.read(name, call_sid))
            if known.answer is None:  # also where there is none: the application is asked what is to be done
                raise ValueError("expected a journal of a call that has begun, got none")
        except ValueError as exc:
            log.warning("call cannot go on as it was", extra={"app": name, "call_sid": call_sid, "why": str(exc)})
            return None
        return known

    def _memory(self, name: str, call_sid: str, known: SavedCall | None) -> Memory:
        journals = self._node.journals
        return Memory(None if journals is None else journals.of(name, call_sid), self._node.bus.name, known)

    async def _serve(self, socket: WebSocket, name: str) -> None:
        async with asyncio.timeout(FIRST):
            first = await socket.receive_text()
        reception.begun(socket.scope)
        found = as_object(first)
        if not isinstance(found.get("call_sid"), str):
            raise HookFailed("expected session:new with a call_sid, got another message")
        key = (name, found["call_sid"])
        before, msgid = self._gateways.get(key), str(found.get("msgid") or "")
        known: SavedCall | None = None
        if found.get("type") == "session:reconnect":
            if before is not None:
                await before.back(socket, msgid)
                return
            known = await self._saved(*key)
            if known is not None and known.owner != self._node.bus.name:
                if await self.relays.lead(known.owner, *key, msgid, socket):
                    return
                known = await self._saved(*key)  # it may have ended meanwhile
        is_new = found.get("type") != "session:reconnect" and reception.was_known(socket.scope)
        if is_new and (reason := self._node.admission.ask()) is not None:
            raise CallRefused(WORDS[reason], 1013)
        public = self._node.config.server.process.public_url
        base = our_address(public, socket.url.scheme, socket.headers.get("host"))
        node = self._node
        if known is not None:
            log.warning("call goes on: its process was killed", extra={"app": name, "call_sid": key[1]})
        gateway = Gateway(node.config, node.guard, node.tickets, name, base, found, self._memory(*key, known))
        self._gateways[key] = gateway
        try:
            await gateway.run(socket, first)
        finally:
            if self._gateways.get(key) is gateway:
                del self._gateways[key]
