"""What a worker has of its parent: its name, the sockets to listen on, the way to the others, and the lifeline."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from agentd.workers.board import Board
from agentd.workers.post import Post

NAME, SOCKETS = "AGENTD_WORKER", "AGENTD_SOCKETS"  # environment variables
OFTEN = 0.1  # seconds between two of our figures on the board
UP = b"u"  # what a worker says on its lifeline once calls are answered


@dataclass(frozen=True, slots=True)
class Given:
    """Descriptors. ``board`` is the page of :class:`agentd.workers.board.Board`; ``life`` is a socket that the parent
    holds the other end of: its end is the parent's.
    """

    listening: list[int]
    inbox: int
    outboxes: dict[str, int]
    board: int
    life: int

    def written(self) -> str:
        return json.dumps([self.listening, self.inbox, self.outboxes, self.board, self.life])

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(*json.loads(text))

    @property
    def descriptors(self) -> list[int]:
        return [*self.listening, self.inbox, *self.outboxes.values(), self.board, self.life]


class Worker:
    """Our process as a worker."""

    def __init__(self, name: str, given: Given) -> None:
        outboxes = {other: socket.socket(fileno=fd) for other, fd in given.outboxes.items()}
        self.name = name
        self._board = Board(given.board, len(outboxes))
        os.close(given.board)  # the memory stays
        self.post = Post(name, socket.socket(fileno=given.inbox), outboxes, self._board)
        self.listening = [socket.socket(fileno=fd) for fd in given.listening]
        self._life = socket.socket(fileno=given.life)
        self._life.setblocking(False)

    def name_logs(self) -> None:
        """Every line of the log says who."""
        make, name = logging.getLogRecordFactory(), self.name

        def named(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = make(*args, **kwargs)
            record.worker = name
            return record

        logging.setLogRecordFactory(named)

    @classmethod
    def from_environment(cls) -> Self | None:
        """``None`` for a process that is no worker. Its own children are none either."""
        given = os.environ.pop(SOCKETS, None)
        return None if given is None else cls(os.environ[NAME], Given.read(given))

    async def tell(self, calls: Callable[[], int]) -> None:
        """Keep the others informed, until cancelled."""
        while True:
            self._board.tell(self.name, calls())
            await asyncio.sleep(OFTEN)

    def up(self) -> None:
        """Tell the parent that calls are answered."""
        self._life.send(UP)

    def watch(self, parent_died: Callable[[], None]) -> None:
        def came() -> None:
            loop.remove_reader(self._life.fileno())  # nothing is ever sent to us: this is the end
            parent_died()

        loop = asyncio.get_running_loop()
        loop.add_reader(self._life.fileno(), came)

    def unwatch(self) -> None:
        asyncio.get_running_loop().remove_reader(self._life.fileno())

    def close(self) -> None:
        """The server has closed what it listened on."""
        for each in (self._life, *self.post.sockets):
            each.close()
        self._board.close()
