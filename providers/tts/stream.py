"""A synthesizer on a websocket: the pieces of one reply out, audio and word times in, side by side. The same for every
vendor; what differs is its :class:`Dialect`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from providers.base import ProviderError, TtsEvent
from providers.failures import failure
from providers.sockets import Wire
from providers.tts.line import Line


class Dialect(Protocol):
    """One vendor's language, for one reply. Plain functions of what was sent and said: no clock, no I/O."""

    @property
    def vendor(self) -> str: ...

    @property
    def is_apart(self) -> bool:
        """Audio that still comes after :meth:`cancel` is told apart from the next reply's (contexts), so that the
        socket may be kept. Else it is closed behind a cancelled reply.
        """
        ...

    def piece(self, text: str) -> Iterable[str | bytes]:
        """What to send for the next piece of text."""
        ...

    def end(self) -> Iterable[str | bytes]:
        """What to send when there are no more pieces."""
        ...

    def cancel(self) -> Iterable[str | bytes]:
        """What to send so that the vendor stops at once."""
        ...

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        """What a message means; nothing for what belongs to an earlier reply. Raises :class:`ProviderError`."""
        ...

    def is_done(self) -> bool:
        """:meth:`end` was called, and all audio of this reply has come."""
        ...


async def speak(line: Line, dialect: Dialect, text: AsyncIterator[str]) -> AsyncIterator[TtsEvent]:
    """Say one reply. Closing the iterator cancels it at the vendor, and the next reply finds a socket.

    Raises :class:`ProviderError`. Nothing is sent for a reply without text, but a socket kept ready for it.
    """
    line.ready()
    first = await anext(text, None)
    if first is None:
        return
    wire = await line.take()
    reading = _Reading(wire)
    sending = asyncio.create_task(_send(reading, dialect, first, text), name="tts-send")
    sending.add_done_callback(_seen)
    has_failed = False
    try:
        while not dialect.is_done() and (message := await reading.next()) is not None:
            for event in dialect.heard(message):
                yield event
        if not dialect.is_done():
            told = "expected the end of the reply, got the end of the connection"
            raise _failure_of_text(sending) or failure("tts", dialect.vendor, "connection-lost", told)
    except ProviderError:
        has_failed = True
        raise
    finally:
        sending.cancel()
        if dialect.is_done():
            line.free(wire)
        elif dialect.is_apart and not has_failed:
            line.free(wire, dialect.cancel())
        else:
            line.drop(wire, dialect.cancel())
        await asyncio.wait([sending])


class _Reading:
    """The messages of a wire, until somebody says :meth:`stop`."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._waiting: asyncio.Timeout | None = None
        self._is_stopped = False
        self.is_alone = False  # nobody will say it any more

    async def next(self) -> str | bytes | None:
        """As the wire's ``receive``; ``None`` after :meth:`stop`."""
        if self._is_stopped:
            return None
        if self.is_alone:
            return await self.wire.receive()
        try:
            async with asyncio.timeout(None) as self._waiting:
                return await self.wire.receive()
        except TimeoutError:
            return None
        finally:
            self._waiting = None

    def stop(self) -> None:
        self._is_stopped = True
        if self._waiting is not None:
            self._waiting.reschedule(0)


async def _send(reading: _Reading, dialect: Dialect, first: str, rest: AsyncIterator[str]) -> None:
    wire = reading.wire
    try:
        for message in dialect.piece(first):
            await wire.send(message)
        async for piece in rest:
            for message in dialect.piece(piece):
                await wire.send(message)
        for message in dialect.end():
            await wire.send(message)
    except ProviderError:
        raise  # the reader sees the same, and may be told why
    except Exception:
        reading.stop()
        raise
    reading.is_alone = True
    if dialect.is_done():
        reading.stop()  # all audio had come before we knew that it was all


def _failure_of_text(sending: "asyncio.Task[None]") -> BaseException | None:
    error = sending.exception() if sending.done() and not sending.cancelled() else None
    return None if isinstance(error, ProviderError) else error


def _seen(sending: "asyncio.Task[None]") -> None:
    """Its failure is the reader's to tell; who cancels a reply does not ask for it."""
    if not sending.cancelled():
        sending.exception()
