"""The parent of the workers: it binds the port once, keeps so many workers alive, and passes on what it is told.

It serves nothing itself. Where it is killed, the workers notice by their lifelines, and drain.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentd.errors import AgentdError
from agentd.ops.shared_metrics import worker_ended
from agentd.workers.board import DOWN, Board, page
from agentd.workers.restarts import GiveUp, Restarts
from agentd.workers.worker import NAME, SOCKETS, UP, Given

log = logging.getLogger("agentd.workers")

BACKLOG = 2048
INBOX = 1 << 18  # bytes of connections' first requests that wait for a worker
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def bind(host: str, port: int) -> list[socket.socket]:
    """A listening socket for every address of the host. Port 0 takes a free one. Raises :class:`AgentdError`."""
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, _, _, _, address in dict.fromkeys(found):
            at = (address[0], bound[0].getsockname()[1] if bound else port, *address[2:])
            try:
                listening = socket.socket(family, socket.SOCK_STREAM)
            except OSError as exc:
                if exc.errno == errno.EAFNOSUPPORT:  # a name with an address of a family that this machine has not
                    continue
                raise
            bound.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(at)
            listening.listen(BACKLOG)
    except OSError as exc:
        for listening in bound:
            listening.close()
        raise AgentdError(f"expected to listen on {host}, port {port}; got: {exc.strerror or exc}") from exc
    return bound


@dataclass(slots=True)
class _Place:
    """Of one worker, whoever has it."""

    name: str
    inbox: socket.socket
    restarts: Restarts = field(default_factory=Restarts)
    process: asyncio.subprocess.Process | None = None
    is_up: bool = False


class Parent:
    """``command`` starts a worker, which finds in its environment that it is one."""

    def __init__(self, command: Sequence[str], count: int, listening: list[socket.socket]) -> None:
        self._command = command
        self._listening = listening
        self._places: list[_Place] = []
        self._outboxes: dict[str, socket.socket] = {}
        for number in range(1, count + 1):
            name = f"w{number}"
            outbox, inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            outbox.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, INBOX)
            self._outboxes[name] = outbox
            self._places.append(_Place(name, inbox))
        self._page = page()
        self._board = Board(self._page.fileno(), count)
        for place in self._places:
            self._board.tell(place.name, DOWN)
        self._over = asyncio.Event()  # no worker is started any more
        self._code = 0

    async def run(self) -> int:
        """Until every worker has ended. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for sig in SIGNALS:
            loop.add_signal_handler(sig, self._told, sig)
        log.info("workers", extra={"count": len(self._places), "port": self._listening[0].getsockname()[1]})
        try:
            async with asyncio.TaskGroup() as group:
                for place in self._places:
                    group.create_task(self._keep(place), name=place.name)
        finally:
            for sig in SIGNALS:
                loop.remove_signal_handler(sig)
        return self._code

    def _told(self, sig: signal.Signals) -> None:
        if sig == signal.SIGINT and not self._over.is_set():
            self._code = 128 + sig
        self._end(sig)

    def _end(self, sig: signal.Signals) -> None:
        self._over.set()
        for place in self._places:
            if place.process is not None and place.process.returncode is None:
                # Whose imports are interrupted by Ctrl-C shows where; there are no calls yet.
                place.process.send_signal(sig if place.is_up else signal.SIGTERM)

    async def _keep(self, place: _Place) -> None:
        while not self._over.is_set():
            code, was_up = await self._live(place)
            if self._over.is_set():
                return
            others = sum(other.is_up for other in self._places)
            decided = place.restarts.died(code, was_up=was_up, others_up=others)
            if isinstance(decided, GiveUp):
                log.error("no worker comes up", extra={"worker": place.name, "code": code})
                self._code = decided.code
                self._end(signal.SIGTERM)
                return
            log.error("worker died", extra={"worker": place.name, "code": code, "again_in": decided.after})
            try:
                async with asyncio.timeout(decided.after):
                    await self._over.wait()
            except TimeoutError:
                pass

    async def _live(self, place: _Place) -> tuple[int, bool]:
        """The life of one worker. Returns its exit code, and whether it came up."""
        ours, life = socket.socketpair()
        outboxes = {name: outbox.fileno() for name, outbox in self._outboxes.items()}
        listening = [each.fileno() for each in self._listening]
        given = Given(listening, place.inbox.fileno(), outboxes, self._page.fileno(), life.fileno())
        with ours, life:
            place.process = process = await asyncio.create_subprocess_exec(
                *self._command,
                env={**os.environ, NAME: place.name, SOCKETS: given.written()},
                pass_fds=given.descriptors,
                process_group=0,  # Ctrl-C is ours to pass on
            )
            life.close()
            log.info("worker started", extra={"worker": place.name, "pid": process.pid})
            if self._over.is_set():
                process.send_signal(signal.SIGTERM)
            watching = asyncio.create_task(self._until_up(place, ours))
            try:
                code = await process.wait()
                worker_ended(process.pid)
            finally:
                was_up, place.is_up = place.is_up, False
                self._board.tell(place.name, DOWN)
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
        return code, was_up

    async def _until_up(self, place: _Place, ours: socket.socket) -> None:
        ours.setblocking(False)
        place.is_up = await asyncio.get_running_loop().sock_recv(ours, 1) == UP


def command_of(arguments: Sequence[str]) -> list[str]:
    """Our own program once more, with the same way of finding it."""
    # With -m this folder comes first on the path, where any file may bear the name of a module.
    is_here = sys.path[0] in ("", os.getcwd())
    return [sys.executable, *([] if is_here else ["-P"]), "-m", "agentd", *arguments]
