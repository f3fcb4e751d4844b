"""Control sockets that jambonz opens: a new call gets a gateway, one that was lost finds its own again."""

import asyncio
import contextlib
import logging

from starlette.websockets import WebSocket

from agentd import access
from agentd.jambonz.gateway import Gateway
from agentd.jambonz.listen import Node
from agentd.jambonz.outbox import GONE
from agentd.jambonz.rewrite import as_object, our_address
from agentd.outbound.app_dial import SUBPROTOCOL
from agentd.outbound.channel import HookFailed

log = logging.getLogger("agentd.gateway")

FIRST = 5.0  # seconds for the first message


class Gateways:
    """Those of one server, by application and call."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._gateways: dict[tuple[str, str], Gateway] = {}

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
        except GONE:
            pass
        except Exception:
            log.exception("gateway crashed", extra={"app": name})
            code, reason = 1011, "server failure"
        finally:
            with contextlib.suppress(*GONE):
                await socket.close(code, reason)

    async def _serve(self, socket: WebSocket, name: str) -> None:
        async with asyncio.timeout(FIRST):
            first = await socket.receive_text()
        found = as_object(first)
        if not isinstance(found.get("call_sid"), str):
            raise HookFailed("expected session:new with a call_sid, got another message")
        key = (name, found["call_sid"])
        before = self._gateways.get(key)
        if found.get("type") == "session:reconnect" and before is not None:
            await before.back(socket, str(found.get("msgid") or ""))
            return
        public = self._node.config.server.process.public_url
        base = our_address(public, socket.url.scheme, socket.headers.get("host"))
        gateway = Gateway(self._node.config, self._node.guard, self._node.tickets, name, base, found)
        self._gateways[key] = gateway
        try:
            await gateway.run(socket, first)
        finally:
            if self._gateways.get(key) is gateway:
                del self._gateways[key]
