"""A connection before it is anything: it has some seconds for its request, and belongs to this worker or to another.

uvicorn's own HTTP protocol with two questions more. Once a websocket is accepted, nothing of this is asked again.
"""

import asyncio
import os
import socket
from typing import Any, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from agentd.reception import Unbegun

HANDSHAKE = 5.0  # seconds for the first request
LINE = 8192  # bytes of a request line that is looked at; agentd has none so long
TOO_MANY = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Post(Protocol):
    """The way to the other workers."""

    def owner_of(self, head: bytes) -> str | None:
        """The worker whose connection this is, by how it begins; ``None``: it stays here."""
        ...

    async def send(self, owner: str, connection: socket.socket, head: bytes) -> bool:
        """Returns whether it was taken. It is to be closed here, whether or not."""
        ...


class Arrival(H11Protocol):
    """``unbegun`` counts them, by address. ``post`` is there where there are several workers; ``head`` was read of this
    connection by another one.
    """

    def __init__(
        self, *args: Any, unbegun: Unbegun, post: Post | None = None, head: bytes = b"", **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._unbegun = unbegun
        self._post = post
        self._head = head
        self._deadline: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None  # to another worker

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._unbegun.came(self._address, id(self), self.loop.time()):
            transport.write(TOO_MANY)
            transport.close()
            return
        self._deadline = self.loop.call_later(HANDSHAKE, transport.abort)
        if self._head:  # it was looked at where it was read
            head, self._head = self._head, b""
            self._take(head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._begun()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._sending is not None:
            self._head += data  # read before the pause; one buffer at most
            return
        if self._post is not None and self.conn.their_state is h11.IDLE:
            data = self._head + data
            if b"\n" not in data and len(data) < LINE:
                self._head = data
                return
            self._head = b""
            if (owner := self._post.owner_of(data)) is not None:
                self.transport.pause_reading()
                self._sending = self.loop.create_task(self._hand_over(self._post, owner, data), name="hand-over")
                return
        self._take(data)

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None and self.scope is not None:
            self._begun()

    async def _hand_over(self, post: Post, owner: str, head: bytes) -> None:
        """The bytes that have not been read yet are read there."""
        with socket.socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno())) as connection:
            is_taken = await post.send(owner, connection, head)
        if is_taken:
            self.transport.abort()
            return
        # It is refused as what came too late is.
        self._sending = None
        if not self.transport.is_closing():
            head, self._head = head + self._head, b""
            self._take(head)
            self.transport.resume_reading()

    @property
    def _address(self) -> str:
        return self.client[0] if self.client else ""

    def _begun(self) -> None:
        """It has made its request, or is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
            self._unbegun.went(self._address, id(self))
