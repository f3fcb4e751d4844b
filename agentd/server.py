"""The process: one port for calls and for those who watch over them."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from agentd import __version__, access
from agentd.call import vendors
from agentd.jambonz import openapi, rest
from agentd.jambonz.beginning import import_mcp
from agentd.jambonz.control import Gateways
from agentd.jambonz.listen import ListenSocket, Node
from agentd.jambonz.webhook_app import WebhookApps
from providers.base import ProviderError
from providers.registry import UnknownVendor

log = logging.getLogger("agentd.server")

MESSAGE_LIMIT = 1 << 20  # bytes of one websocket message
UNSENT = 30.0  # seconds that what we sent may wait for a peer that takes nothing (Linux)
WARM_RATE = 16000  # Hz; what vendors share serves calls of every rate
GARBAGE = (10_000, 20, 50)  # of the collector: by default it looks every 700 objects, a few times a turn
PROXIES = "127.0.0.1,::1"  # whose X-Forwarded-For is believed: what is on this machine
PING = 20.0  # seconds; jambonz never pings (faults-and-security.md 1.2)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """An upgrade that is answered with an HTTP status: uvicorn takes it for one that was never answered."""
    return record.msg != "ASGI callable returned without completing handshake."


def build_app(node: Node) -> Starlette:
    """The ASGI application around a node. Its lifespan warms the vendors and, at the end, closes what they share."""

    async def listen(websocket: WebSocket) -> None:
        await ListenSocket(node, websocket).run()

    gateways, webhooks = Gateways(node), WebhookApps(node)

    async def livez(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def healthz(request: Request) -> JSONResponse:
        is_ready = node.ready.is_set()
        answer = {"status": "ok" if is_ready else "starting", "calls": len(node.calls), "version": __version__}
        return JSONResponse(answer, 200 if is_ready else 503)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        node.ready.clear()
        starting = asyncio.create_task(get_ready(node), name="get-ready")
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            for call in node.calls:
                call.displace(1012, "the server is going down")
            await node.shared.aclose()

    return Starlette(
        routes=[
            WebSocketRoute("/listen/{agent}", listen),
            WebSocketRoute("/app/{app}", gateways.serve),
            Route("/app/{app}", webhooks.serve, methods=["POST", "OPTIONS"]),
            Route("/app/{app}/{path:path}", webhooks.serve, methods=["POST"]),
            Route("/livez", livez),
            Route("/healthz", healthz),
            *rest.routes(node),
            *openapi.routes(),
        ],
        middleware=[Middleware(access.Guard, node.config.server.access)],
        exception_handlers=rest.HANDLERS,
        lifespan=lifespan,
    )


async def get_ready(node: Node) -> None:
    """Import and warm the vendors. Connections are accepted meanwhile: jambonz waits 1.5 s for one, and some SDKs take
    longer to import.
    """
    try:
        agents = node.config.agents.values()
        if strange := [agent for agent in agents if not vendors.is_loaded(agent)]:
            await asyncio.to_thread(vendors.load, strange)
        if any(agent.mcp_servers for agent in agents):
            await import_mcp()
        await warm(node)
        gc.collect()
        gc.freeze()  # what lives now lives for good: full collections of it would stall every call
        gc.set_threshold(*GARBAGE)
    finally:
        node.ready.set()


async def warm(node: Node) -> None:
    """Import every configured vendor and start what it needs, so that no call pays for it. What fails here would
    fail in a call as well; it is said now, and the server starts all the same: other agents may be fine.
    """
    for name, agent in node.config.agents.items():
        try:
            made = vendors.vendors(agent, node.config.server, node.shared, WARM_RATE, WARM_RATE)
            await made.warm()
            await node.shared.warm()
            await made.aclose()
        except (UnknownVendor, ImportError, ProviderError) as exc:
            log.error("agent is not ready", extra={"agent": name, "why": str(exc)})


class Server(uvicorn.Server):
    """uvicorn around :func:`build_app`. Port 0 takes a free one; :attr:`port` says which."""

    def __init__(self, node: Node, host: str, port: int) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(node),
                host=host,
                port=port,
                ws="websockets-sansio",
                ws_max_size=MESSAGE_LIMIT,
                ws_ping_interval=PING,
                ws_ping_timeout=PING,
                ws_per_message_deflate=False,
                lifespan="on",
                log_config=None,
                access_log=False,
                forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", PROXIES),
                timeout_graceful_shutdown=10,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
        self._node = node
        self._is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in (sock for server in self.servers for sock in server.sockets):
            # A peer that reads nothing would keep its socket for ever: our close frame cannot leave. Accepted sockets
            # inherit this.
            if hasattr(socket, "TCP_USER_TIMEOUT") and listening.family in (socket.AF_INET, socket.AF_INET6):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNSENT * 1000))
        if self.started:
            who = access.in_words(self._node.config.server.access)
            log.info("listening", extra={"host": self.config.host, "who": who, "port": self.port})
            self._is_up.set()

    async def up(self) -> None:
        """Wait until calls are answered."""
        await self._is_up.wait()
        await self._node.ready.wait()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])
