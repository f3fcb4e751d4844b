"""The process: one port for calls and for those who watch over them."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from agentd import __version__, access
from agentd.arrivals import Arrival
from agentd.call import vendors
from agentd.console import routes as console
from agentd.drain import CODE, REASON, drain
from agentd.jambonz import openapi, recordings, rest, scrape
from agentd.jambonz.beginning import import_mcp
from agentd.jambonz.control import Gateways
from agentd.jambonz.here import Owner
from agentd.jambonz.lane import Lane
from agentd.jambonz.listen import ListenSocket, Node
from agentd.jambonz.webhook_app import ENDED, WebhookApps
from agentd.ops import tracing
from agentd.reception import Reception, Unbegun
from agentd.workers.board import BUSY
from agentd.workers.post import Post
from agentd.workers.worker import Worker
from providers.base import ProviderError
from providers.registry import UnknownVendor

log = logging.getLogger("agentd.server")

MESSAGE_LIMIT = 1 << 20  # bytes of one websocket message
UNSENT = 30.0  # seconds that what we sent may wait for a peer that takes nothing (Linux)
WARM_RATE = 16000  # Hz; what vendors share serves calls of every rate
GARBAGE = (10_000, 20, 50)  # of the collector: by default it looks every 700 objects, a few times a turn
PROXIES = "127.0.0.1,::1"  # whose X-Forwarded-For is believed: what is on this machine
PING = 20.0  # seconds; jambonz never pings (faults-and-security.md 1.2)
GRACE = 10  # seconds that the last hooks have once every connection is closed …
AT_ONCE = 4  # … when it has been said twice that it is time to go


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """An upgrade that is answered with an HTTP status: uvicorn takes it for one that was never answered."""
    return record.msg != "ASGI callable returned without completing handshake."


def build_app(node: Node) -> Starlette:
    """The ASGI application around a node. Its lifespan warms the vendors and, at the end, closes what they share."""

    async def listen(websocket: WebSocket) -> None:
        node.listening += 1
        try:
            await ListenSocket(node, websocket).run()
        finally:
            node.listening -= 1

    def known(path: str) -> int | None:
        _, kind, name, *_ = [*path.split("/", 2), "", ""]
        if kind == "app":
            return 0 if gateways.is_awaited(name) else None
        ticket = node.tickets.get(name)
        return None if ticket is None else int(ticket.socket is None)  # a call by webhook has no socket before

    gateways, webhooks, owner = Gateways(node), WebhookApps(node), Owner(node)
    owner.answers |= {ENDED: webhooks.ended, **gateways.relays.answers}

    async def livez(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def healthz(request: Request) -> JSONResponse:
        status = node.admission.reason or ("ok" if node.ready.is_set() else "starting")
        lag = node.monitor.lag
        answer = {"status": status, "calls": len(node.calls), "version": __version__}
        measured = {"lag_ms": {"p50": round(lag.p50 * 1000, 1), "p99": round(lag.p99 * 1000, 1)}}
        return JSONResponse({**answer, **measured}, 200 if status == "ok" else 503)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        node.ready.clear()
        await node.bus.open(owner.serve)
        starting = asyncio.create_task(get_ready(node), name="get-ready")
        if node.recordings is not None:
            node.recordings.open()
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.wait([starting])
            for call in node.calls:
                call.displace(CODE, REASON)
            await node.bus.aclose()
            if node.journals is not None:
                await node.journals.aclose()
            if node.recordings is not None:
                await node.recordings.aclose()
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
            *recordings.routes(node),
            *openapi.routes(),
            *scrape.routes(node),
            *console.routes(node),
        ],
        middleware=[
            Middleware(access.Guard, node.config.server.access, node.console_key),
            Middleware(Reception, node.admission, known),
        ],
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
        if (traces := await asyncio.to_thread(tracing.tracer, node.config.server.tracing, os.environ)) is not None:
            node.observers.append(node.shared.get("traces", lambda: traces).observe)
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
    """uvicorn around :func:`build_app`. Port 0 takes a free one; :attr:`port` says which, and so is ``listening`` told.
    A worker has the ``post`` to the others.
    """

    def __init__(
        self,
        node: Node,
        host: str,
        port: int,
        post: Post | None = None,
        listening: Callable[[int], None] = lambda port: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                build_app(node),
                host=host,
                port=port,
                http=cast(type[asyncio.Protocol], self._arrival),
                ws=Lane,
                ws_max_size=MESSAGE_LIMIT,
                ws_ping_interval=PING,
                ws_ping_timeout=PING,
                ws_per_message_deflate=False,
                lifespan="on",
                log_config=None,
                access_log=False,
                forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", PROXIES),
                timeout_graceful_shutdown=GRACE,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_is_no_refusal)
        self._node = node
        self._post = post
        self._listening = listening
        self._unbegun = Unbegun()
        self._adopting: set[asyncio.Task[Any]] = set()
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in (sock for server in self.servers for sock in server.sockets):
            # A peer that reads nothing would keep its socket for ever: our close frame cannot leave. Accepted sockets
            # inherit this.
            if hasattr(socket, "TCP_USER_TIMEOUT") and listening.family in (socket.AF_INET, socket.AF_INET6):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNSENT * 1000))
        self._loop = asyncio.get_running_loop()
        self._node.monitor.start()
        if self._post is not None:
            self._post.receive(self._adopt)
        if self.started:
            who = access.in_words(self._node.config.server.access)
            log.info("listening", extra={"host": self.config.host, "who": who, "port": self.port})
            self._listening(self.port)
            self._is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._node.admission.is_draining = True
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.wait([self._draining])
        if self._post is not None:
            self._post.close()
        await super().shutdown(sockets)
        self._node.monitor.close()

    # Signals ---------------------------------------------------------------------------------------------

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM drains, the second one ends at once, as SIGINT does: who presses Ctrl-C does not want to wait."""
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
        elif self._loop is None or not self._node.config.server.process.drain_seconds:
            self.should_exit = True
        else:
            # Between any two bytecodes of the loop's thread: what touches the loop waits for its turn.
            self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Take no more calls, and end with the last one. The second time: at once."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(), name="drain")
        else:
            self.config.timeout_graceful_shutdown = AT_ONCE
            self.should_exit = True

    def drain_once(self, why: str) -> None:
        """The same for a reason that comes but once."""
        log.warning("the server is to end", extra={"why": why})
        if self._draining is None:
            self.drain()

    async def _drain(self) -> None:
        try:
            await drain(self._node, self._node.config.server.process.drain_seconds)
        finally:
            self.should_exit = True

    # Connections -----------------------------------------------------------------------------------------

    def _arrival(self, **options: Any) -> Arrival:
        return Arrival(unbegun=self._unbegun, post=self._post, **options)

    def _adopt(self, connection: socket.socket, head: bytes) -> None:
        """Continue what another worker has accepted, after the bytes that it has read."""
        loop = asyncio.get_running_loop()
        state = {"server_state": self.server_state, "app_state": self.lifespan.state}

        def arrival() -> Arrival:
            return self._arrival(config=self.config, head=head, **state)

        task = loop.create_task(self._connect(arrival, connection), name="adopt")
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _connect(self, arrival: Any, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(arrival, connection)
        except OSError as exc:
            log.warning("connection lost on its way", extra={"why": str(exc)})
            connection.close()

    async def up(self) -> None:
        """Wait until calls are answered."""
        await self._is_up.wait()
        await self._node.ready.wait()

    @property
    def load(self) -> int:
        """Calls, for the other workers to compare; many where no more are taken."""
        return self._node.listening + (BUSY if self._node.admission.reason else 0)

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


async def work(worker: Worker, server: Server) -> None:
    """Serve as one of several. Whose parent dies goes on to the end of its calls: nobody would start it anew."""

    async def tell() -> None:
        await server.up()
        worker.up()
        await worker.tell(lambda: server.load)

    telling = asyncio.create_task(tell(), name="tell-others")
    worker.watch(lambda: server.drain_once("the parent has died"))
    try:
        await server.serve(worker.listening)
    finally:
        worker.unwatch()
        worker.close()
        telling.cancel()
        await asyncio.wait([telling])
