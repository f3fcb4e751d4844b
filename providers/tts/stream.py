"""A synthesizer on a websocket: the pieces of one reply out, audio and word times in, side by side. The same for every
vendor; what differs is its :class:`Dialect`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from providers.base import ProviderError, TtsEvent
from providers.failures import failure
from providers.sockets import Wire
from providers.tts.line import Line


class Dialect(Protocol):
    """One vendor's language, for one reply. Plain functions of what was sent and said: no clock, no I/O."""

    vendor: str

    def piece(self, text: str) -> Iterable[str | bytes]:
        """What to send for the next piece of text."""
        ...

    def end(self) -> Iterable[str | bytes]:
        """What to send when there are no more pieces."""
        ...

    def cancel(self) -> Iterable[str | bytes]:
        """What to send so that the vendor stops at once; the socket is closed behind it."""
        ...

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        """What a message means; nothing for what belongs to an earlier reply. Raises :class:`ProviderError`."""
        ...

    def is_done(self) -> bool:
        """:meth:`end` was sent, and all audio of this reply has come."""
        ...


async def speak(line: Line, dialect: Dialect, text: AsyncIterator[str]) -> AsyncIterator[TtsEvent]:
    """Say one reply. Closing the iterator cancels it at the vendor and dials a fresh socket for the next reply.

    Raises :class:`ProviderError`. Nothing is dialled for a reply without text, but kept ready for it.
    """
    line.ready()
    first = await anext(text, None)
    if first is None:
        return
    wire = await line.take()
    sending = asyncio.create_task(_send(wire, dialect, first, text), name="tts-send")
    is_whole = False
    try:
        while not dialect.is_done() and (message := await wire.receive()) is not None:
            for event in dialect.heard(message):
                yield event
        if sending.done():
            await sending  # raises what it failed with
        is_whole = dialect.is_done()
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, ProviderError):
            await sending
        if is_whole:
            line.free(wire)
        else:
            line.drop(wire, dialect.cancel())
    if not is_whole:
        told = "expected the end of the reply, got the end of the connection"
        raise failure("tts", dialect.vendor, "connection-lost", told)


async def _send(wire: Wire, dialect: Dialect, first: str, rest: AsyncIterator[str]) -> None:
    try:
        for message in dialect.piece(first):
            await wire.send(message)
        async for piece in rest:
            for message in dialect.piece(piece):
                await wire.send(message)
        for message in dialect.end():
            await wire.send(message)
    except Exception:
        await wire.close()  # so that the reader does not wait for what will never come
        raise
