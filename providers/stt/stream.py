"""A recogniser on a websocket: caller audio out, words in, side by side. The same for every vendor; what differs is
its :class:`Dialect`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from providers.audio_feed import AudioFeed, Mark
from providers.base import ProviderError, SttEvent
from providers.sockets import Wire

LAST_WORDS = 2.0  # seconds that a vendor has to finish, once the audio has ended


class Dialect(Protocol):
    """One vendor's language, for one connection. Plain functions of what was sent and said: no clock, no I/O.

    ``keepalive``: seconds without audio after which :meth:`idle` is sent, ``None`` for never.
    """

    keepalive: float | None

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        """What to send for audio (L16 mono at the feed's rate, any whole number of samples) or for a mark."""
        ...

    def idle(self) -> Iterable[str | bytes]: ...

    def end(self) -> Iterable[str | bytes]:
        """What to send when there is no more audio."""
        ...

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        """What a message means. Raises :class:`ProviderError` for what the vendor calls an error; what it says that we
        do not know is skipped.
        """
        ...


async def listen(wire: Wire, dialect: Dialect, audio: AudioFeed) -> AsyncIterator[SttEvent]:
    """Recognise until the feed ends or the vendor hangs up. Closes the wire. Raises :class:`ProviderError`."""
    feeding = asyncio.create_task(_feed(wire, dialect, audio), name="stt-feed")
    try:
        while (message := await wire.receive()) is not None:
            for event in dialect.heard(message):
                yield event
    finally:
        feeding.cancel()
        await asyncio.wait([feeding])
        await wire.close()
    if not feeding.cancelled() and (error := feeding.exception()) is not None:
        raise error


async def _feed(wire: Wire, dialect: Dialect, audio: AudioFeed) -> None:
    pulse = _Pulse(wire, dialect)
    try:
        async for item in audio:
            for message in dialect.take(item):
                await wire.send(message)
            pulse.sent()
        for message in dialect.end():
            await wire.send(message)
    except ProviderError:
        return  # the reader sees the same, and says why
    finally:
        pulse.stop()
    await asyncio.sleep(LAST_WORDS)
    await wire.close()


class _Pulse:
    """Keeps a connection alive over which no audio goes. Costs nothing per frame."""

    def __init__(self, wire: Wire, dialect: Dialect) -> None:
        self._was_sent = False
        self._task = None
        if dialect.keepalive is not None:
            self._task = asyncio.create_task(self._beat(wire, dialect, dialect.keepalive), name="stt-keepalive")

    def sent(self) -> None:
        self._was_sent = True

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _beat(self, wire: Wire, dialect: Dialect, every: float) -> None:
        while wire.is_open:
            await asyncio.sleep(every)
            if not self._was_sent:
                try:
                    for message in dialect.idle():
                        await wire.send(message)
                except ProviderError:
                    return
            self._was_sent = False
