"""Nodes of a cluster in processes of their own, with one agent on scripted vendors.

    async with cluster(redis.url) as (one, other):
        async with other.call("sid") as socket:
            … await one.rest.get(…)

They are forked from a process that has imported everything once.
"""

import asyncio
import contextlib
import json
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from agentd.jambonz.listen import Node
from agentd.jambonz.tickets import Ticket
from agentd.ops.local_bus import LocalBus
from agentd.ops.redis_bus import RedisBus
from agentd.server import Server
from config.files import Config
from config.server import Server as ServerConfig
from tests.jambonz import SUBPROTOCOL, metadata
from tests.whole_call import agent, loud

ACCOUNT = metadata()["accountSid"]
CALLS = f"/v1/Accounts/{ACCOUNT}/Calls"
LIFETIME = 1.0  # seconds, of the calls of a dead process
UP_WITHIN = 20.0  # seconds, on a busy machine

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.cluster"])


def serve(pipe: Connection, name: str, where: str | None, lifetime: float) -> None:
    """A node until it is killed. SIGUSR1: it takes no new calls, and says so. The call that is called as the node is
    awaited under a token.
    """

    async def main() -> None:
        given = {"turn": {"engine": "rule"}, "speech_cache": False, "access": "open", "server": {"node": name}}
        demo = agent(["hello"] * 5, ["Yes."])
        node = Node(Config(ServerConfig.model_validate(given), {"demo": demo}), detector_for=lambda rate: loud)
        node.tickets.add(f"t-{name}.w1-token", Ticket("app", name, {"verb": "agent", **demo.given()}, None, forget))
        if where is not None and where.startswith("/"):
            node.bus = LocalBus(f"voice.w{name[-1]}", where)
        elif where is not None:
            node.bus = RedisBus(f"{name}.w1", where, lifetime)

        def refuse() -> None:
            node.admission.is_draining = True

        server = Server(node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, refuse)
        pipe.send(server.port)
        await serving

    asyncio.run(main())


def forget(commands: object) -> None:
    """Its application sends nothing."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One of them."""

    process: ForkServerProcess
    at: str
    rest: httpx.AsyncClient

    def kill(self) -> None:
        self.process.kill()

    def refuse_new_calls(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGUSR1)

    async def listed(self) -> list[str]:
        """The ids of all live calls, as it knows them."""
        return [call["sid"] for call in (await self.rest.get(CALLS)).json()]

    def call(self, call_sid: str, account: str = ACCOUNT) -> "contextlib.AbstractAsyncContextManager[ClientConnection]":
        return call(self.at, call_sid, account=account)


@contextlib.asynccontextmanager
async def cluster(where: str | None, lifetime: float = LIFETIME) -> AsyncIterator[tuple[Machine, Machine]]:
    """`voice1` and `voice2`, who meet at a URL of Redis, in a folder as workers do, or not at all."""
    machines: list[Machine] = []
    processes = []
    for name in ("voice1", "voice2"):
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, name, where, lifetime), daemon=True)
        await asyncio.to_thread(process.start)
        processes.append((process, ours))
    try:
        for process, ours in processes:
            assert await asyncio.to_thread(ours.poll, UP_WITHIN), "expected a node to start"
            at = f"127.0.0.1:{ours.recv()}"
            machines.append(
                Machine(process, at, httpx.AsyncClient(base_url=f"http://{at}", trust_env=False, verify=False))
            )
        one, other = machines
        yield one, other
    finally:
        for machine in machines:
            await machine.rest.aclose()
        for process, ours in processes:
            process.kill()
            await asyncio.to_thread(process.join)
            process.close()
            ours.close()


@contextlib.asynccontextmanager
async def call(at: str, call_sid: str, agent: str = "demo", account: str = ACCOUNT) -> AsyncIterator[ClientConnection]:
    """A listen socket that says which call it is, and then nothing."""
    url = f"ws://{at}/listen/{agent}"
    async with connect(url, subprotocols=[SUBPROTOCOL], compression=None) as socket:  # type: ignore[list-item]
        await socket.send(json.dumps(metadata(callSid=call_sid, accountSid=account)))
        yield socket


async def until(is_so: Any, expected: object = True) -> None:
    """Nobody tells when another process knows something."""
    while (await is_so()) != expected:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
