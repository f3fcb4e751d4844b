"""How the processes of a server, and the nodes of a cluster, find each other's calls and ask each other.

    bus = bus_of(server, os.environ)
    await bus.open(serve)                     # serve(what, data) answers what others ask
    bus.hold(account, call_sid, info)         # a live call of this process; release(…) when it is over
    for held in await bus.find(call_sid):     # those of others
        answer = await bus.ask(held.owner, "call", {…})

Whoever is on the bus is trusted: who may ask at all was decided where the request came in.
"""

import os
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentd.errors import AgentdError
from config.server import Server

WAIT = 5.0  # seconds for an answer
LISTED = 1_000  # calls that are told of at once where nobody says of which account; the oldest, where there are more
WORKER, DIRECTORY = "AGENTD_WORKER", "AGENTD_BUS_DIR"  # what the parent of the workers sets

Info = dict[str, Any]  # of a live call, for those who may not reach its owner; JSON, with the clock's time as ``since``
Serve = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class BusError(AgentdError):
    """What was asked of others was not answered. Whether it was done is not known."""


class Gone(BusError):
    """Nobody is there who could have answered."""


@dataclass(frozen=True, slots=True)
class Held:
    """A live call and the name of the process that has it."""

    owner: str
    account: str
    call_sid: str
    info: Info


class Bus(Protocol):
    """``name`` is this process, ``node.worker``: ``voice1.w2``. What is asked of others raises :class:`BusError`; what
    is told them is a plain call, done as soon as it can be.
    """

    name: str

    async def open(self, serve: Serve) -> None:
        """Waits for nobody else: calls are answered whether others can be reached or not."""
        ...

    async def aclose(self) -> None: ...

    async def ask(self, to: str, what: str, data: Mapping[str, Any], seconds: float = WAIT) -> dict[str, Any]:
        """What the ``serve`` of the process ``to`` returns."""
        ...

    def hold(self, account: str, call_sid: str, info: Info) -> None:
        """The call is this process's from now on. Whoever had it is asked to ``displace`` it."""
        ...

    def release(self, account: str, call_sid: str) -> None: ...

    async def find(self, call_sid: str) -> list[Held]:
        """The calls of other processes under this id, one an account."""
        ...

    async def calls(self, account: str) -> list[Held]:
        """The calls of other processes in this account."""
        ...

    async def everything(self) -> list[Held]:
        """The calls of other processes, whatever their account: the oldest 1,000, the oldest first."""
        ...


class Alone:
    """The bus of a process that has no others."""

    def __init__(self, name: str = "alone.w1") -> None:
        self.name = name

    async def open(self, serve: Serve) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def ask(self, to: str, what: str, data: Mapping[str, Any], seconds: float = WAIT) -> dict[str, Any]:
        raise Gone(f"expected a process of this name, got none: {to}")

    def hold(self, account: str, call_sid: str, info: Info) -> None:
        pass

    def release(self, account: str, call_sid: str) -> None:
        pass

    async def find(self, call_sid: str) -> list[Held]:
        return []

    async def calls(self, account: str) -> list[Held]:
        return []

    async def everything(self) -> list[Held]:
        return []


def oldest(calls: Iterable[Held]) -> list[Held]:
    """As many of them as are told of at once, the oldest first."""
    return sorted(calls, key=lambda held: float(held.info.get("since", 0.0)))[:LISTED]


def bus_of(server: Server, environ: Mapping[str, str]) -> Bus:
    """By Redis where it is configured, else between the workers of this machine, else alone. Raises
    :class:`AgentdError` where the extra is missing.
    """
    name = process_name(server.process.node, environ)
    if server.redis is not None:
        try:
            from agentd.ops.redis_bus import RedisBus
        except ImportError as exc:
            raise AgentdError("redis: expected the extra `redis` to be installed: pip install 'agentd[redis]'") from exc
        return RedisBus(name, server.redis.url)
    if directory := environ.get(DIRECTORY):
        from agentd.ops.local_bus import LocalBus

        return LocalBus(name, directory)
    return Alone(name)


def process_name(node: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """``node.worker``; a node that is given no name is called as its machine is."""
    machine = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().partition(".")[0])
    return f"{node or machine or 'node'}.{environ.get(WORKER) or 'w1'}"
