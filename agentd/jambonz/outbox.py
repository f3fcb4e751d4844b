"""What leaves by the listen socket: a call's sends never wait, and a peer that does not read is noticed."""

import asyncio
import json
from collections import deque
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from agentd.jambonz.lane import lane_of
from agentd.jambonz.taps import Tap

LIMIT = 10.0  # seconds of audio that a peer may leave unread before the call is given up
SEND_WAIT = 30.0  # seconds for one message
GONE = (WebSocketDisconnect, OSError, RuntimeError)  # what sending into a closed socket may raise


class Outbox:
    """The socket as the call sees it: sends never wait. What cannot leave at once queues for :meth:`write`."""

    def __init__(self, socket: WebSocket, rate: int) -> None:
        self._socket = socket
        self._outbox: deque[bytes | str] = deque()
        self._size = 0  # bytes of audio in it
        self._limit = int(LIMIT * rate) * 2
        self._wake = asyncio.Event()
        self._is_closed = False
        self._is_writing = False  # something that is no longer in it
        self._lane = lane_of(socket.scope)
        self.is_choked = asyncio.Event()  # the peer does not read
        self.taps: list[Tap] = []  # of this call; whoever brings the caller's audio tells them, too

    def send_audio(self, pcm: bytes) -> None:
        for tap in self.taps[:]:
            tap.sent(pcm)
        if self._sent_now(pcm):
            return
        self._size += len(pcm)
        self._put(pcm)
        if self._size > self._limit:
            self.is_choked.set()

    def send_json(self, message: dict[str, Any]) -> None:
        if message["type"] == "killAudio":
            for tap in self.taps[:]:
                tap.killed()
        if not self._sent_now(text := json.dumps(message)):
            self._put(text)

    def close(self) -> None:
        """Nothing more is sent after what is queued."""
        self._is_closed = True
        self._wake.set()

    async def write(self) -> None:
        """Send what is queued, in order, until :meth:`close`."""
        while True:
            while self._outbox:
                item = self._outbox.popleft()
                self._is_writing = True
                try:
                    async with asyncio.timeout(SEND_WAIT):
                        if isinstance(item, bytes):
                            self._size -= len(item)
                            await self._socket.send_bytes(item)
                        else:
                            await self._socket.send_text(item)
                except TimeoutError:
                    self.is_choked.set()
                    return
                except GONE:
                    return  # the reader says so, too
                finally:
                    self._is_writing = False
            if self._is_closed:
                return
            self._wake.clear()
            await self._wake.wait()

    def _sent_now(self, item: bytes | str) -> bool:
        """By the short way, when nothing waits."""
        lane = self._lane
        if lane is None or self._outbox or self._is_writing or self._is_closed or not lane.is_ready:
            return False
        lane.send_now(item)
        return True

    def _put(self, item: bytes | str) -> None:
        if not self._is_closed:
            self._outbox.append(item)
            self._wake.set()
