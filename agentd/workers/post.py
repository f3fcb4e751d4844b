"""The way of connections from the worker that accepted them to the one that they are meant for: a datagram with the
descriptor and the bytes that were read. The parent makes the pairs of sockets and keeps them: who takes the place of a
worker that died finds what was sent meanwhile.
"""

import asyncio
import contextlib
import logging
import re
import socket
from collections.abc import Callable, Mapping

from agentd.workers.board import Board

log = logging.getLogger("agentd.workers")

SECONDS = 1.0  # for a worker whose inbox is full: jambonz gives a handshake 1.5 s
AGAIN = 0.005
LARGEST = 65_536  # bytes of a head; what is longer is no handshake of jambonz's
# The node is nobody's business here: who stands before the nodes sends each its own.
# A listen socket with its token, and the hook that tells of its end (agentd.jambonz.tickets, webhook_app).
OWNED = re.compile(rb"[A-Z]+ /(?:listen|app/[^/? ]+/-/agent)/t-(?:[A-Za-z0-9_-]+\.)?(w\d+)-")

# What brings another call.
NEW = re.compile(rb"GET /listen/|(?:GET|POST) /app/[^/? ]+[? ]")

Adopt = Callable[[socket.socket, bytes], None]


def owner_of(head: bytes) -> str | None:
    """The worker that a request names."""
    found = OWNED.match(head)
    return None if found is None else found[1].decode()


class Post:
    """That of the worker ``name``; ``outboxes`` lead to all of them, by name. By the ``board`` new calls are spread."""

    def __init__(
        self, name: str, inbox: socket.socket, outboxes: Mapping[str, socket.socket], board: Board | None = None
    ) -> None:
        self._name = name
        self._board = board
        self._inbox = inbox
        self._outboxes = outboxes
        inbox.setblocking(False)
        for outbox in outboxes.values():
            outbox.setblocking(False)

    @property
    def sockets(self) -> list[socket.socket]:
        return [self._inbox, *self._outboxes.values()]

    def owner_of(self, head: bytes) -> str | None:
        """Another worker whose connection this is."""
        owner = owner_of(head)
        if owner is None and self._board is not None and NEW.match(head):
            owner = self._board.next(self._name)
        return owner if owner != self._name and owner in self._outboxes else None

    async def send(self, owner: str, connection: socket.socket, head: bytes) -> bool:
        """Returns whether it is on its way."""
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(SECONDS):
                while True:
                    try:
                        socket.send_fds(self._outboxes[owner], [head], [connection.fileno()])
                        return True
                    except BlockingIOError:  # the system keeps ten or so
                        await asyncio.sleep(AGAIN)
        log.warning("connection not handed over", extra={"to": owner})
        return False

    def receive(self, adopt: Adopt) -> None:
        """Have every connection of ours continued by ``adopt``, until :meth:`close`."""
        asyncio.get_running_loop().add_reader(self._inbox.fileno(), self._came, adopt)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._inbox.fileno())

    def _came(self, adopt: Adopt) -> None:
        while True:
            try:
                head, descriptors, flags, _ = socket.recv_fds(self._inbox, LARGEST, 1)
            except BlockingIOError:
                return
            except OSError as exc:
                log.warning("connection lost on its way", extra={"why": str(exc)})
                return
            for descriptor in descriptors:
                connection = socket.socket(fileno=descriptor)
                if flags & socket.MSG_TRUNC:
                    connection.close()
                else:
                    adopt(connection, head)
