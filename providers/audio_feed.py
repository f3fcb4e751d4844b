"""Caller audio on its way to one recogniser: a bounded buffer between the socket's plain call and the vendor's task."""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum


class Mark(Enum):
    """What agentd's own speech detector saw, in order with the audio."""

    SPEECH_STARTED = "speech started"  # the audio of the onset has already gone by; keep a little to look back on
    SPEECH_STOPPED = "speech stopped"  # the caller has gone quiet: a final is wanted now


class AudioFeed:
    """L16 mono at ``rate`` Hz in, the same out, with :class:`Mark` between.

    ``push`` and ``mark`` never wait: the socket is read by a plain call. When the vendor's task falls ``seconds``
    behind, the oldest audio is dropped and counted in ``dropped`` (bytes); marks are kept.
    Iterating ends after :meth:`close`. One reader at a time; a new one goes on where the last one stopped, or a
    little before: see :meth:`rewind`. ``taken``: bytes that its readers were given.
    """

    def __init__(self, rate: int, seconds: float = 10.0, replay: float = 5.0) -> None:
        self.rate = rate
        self.dropped = 0
        self.taken = 0
        self._limit = int(seconds * rate) * 2
        self._replay_limit = int(replay * rate) * 2
        self._read: deque[bytes | Mark] = deque()  # the last ``replay`` seconds that were taken
        self._read_size = 0
        self._items: deque[bytes | Mark] = deque()
        self._size = 0
        self._closed = False
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes | Mark], bool] | None = None

    def divert(self, sink: Callable[[bytes | Mark], bool] | None) -> None:
        """What comes from now on goes to the reader's ``sink`` by a plain call, and not through the buffer: no task is
        woken for a frame. It ends when the sink says ``False``, and with ``None``.
        """
        self._sink = sink

    def push(self, pcm: bytes) -> None:
        if self._sink is not None and not self._items and self._taken_by(self._sink, pcm):
            return
        self._items.append(pcm)
        self._size += len(pcm)
        if self._size > self._limit:
            self._drop_oldest()
        self._wake()

    def mark(self, mark: Mark) -> None:
        if self._sink is not None and not self._items and self._taken_by(self._sink, mark):
            return
        self._items.append(mark)
        self._wake()

    def settle(self) -> None:
        """What was read has become words: it need not be read again."""
        self._read.clear()
        self._read_size = 0

    def rewind(self) -> None:
        """What was read in the last ``replay`` seconds, marks included, is to be read again: its reader was lost."""
        self._items.extendleft(reversed(self._read))
        self._size += self._read_size
        self.settle()
        if self._size > self._limit:
            self._drop_oldest()

    def close(self) -> None:
        self._closed = True
        self._wake()

    def __aiter__(self) -> "AudioFeed":
        return self

    async def __anext__(self) -> bytes | Mark:
        """Audio that has gathered meanwhile comes in one piece."""
        while not self._items:
            if self._closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        first = self._items.popleft()
        if isinstance(first, Mark):
            self._read.append(first)
            return first
        pieces = [first]
        while self._items and isinstance(self._items[0], bytes):
            pieces.append(self._items.popleft())  # type: ignore[arg-type]
        audio = b"".join(pieces)
        self._size -= len(audio)
        self.taken += len(audio)
        self._keep(audio)
        return audio

    def _taken_by(self, sink: Callable[[bytes | Mark], bool], item: bytes | Mark) -> bool:
        if not sink(item):
            self._sink = None
            return False
        if isinstance(item, Mark):
            self._read.append(item)
        else:
            self.taken += len(item)
            self._keep(item)
        return True

    def _keep(self, audio: bytes) -> None:
        self._read.append(audio)
        self._read_size += len(audio)
        while self._read_size > self._replay_limit and len(self._read) > 1:
            gone = self._read.popleft()
            self._read_size -= len(gone) if isinstance(gone, bytes) else 0

    def _drop_oldest(self) -> None:
        kept: list[Mark] = []
        while self._size > self._limit:
            item = self._items.popleft()
            if isinstance(item, Mark):
                kept.append(item)
            else:
                self._size -= len(item)
                self.dropped += len(item)
        self._items.extendleft(reversed(kept))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
