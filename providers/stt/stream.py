"""A recogniser on a websocket: caller audio out, words in, side by side. The same for every vendor; what differs is
its :class:`Dialect`.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

from providers.audio_feed import AudioFeed, Mark
from providers.base import ProviderError, SttEvent
from providers.sockets import PlainWire

LAST_WORDS = 2.0  # seconds that a vendor has to finish, once the audio has ended
TICK = 0.001  # seconds; less than that to wait for is rounding


class Dialect(Protocol):
    """One vendor's language, for one connection. Plain functions of what was sent and said: no clock, no I/O.

    ``keepalive``: seconds in which nothing was sent after which :meth:`idle` is, ``None`` for never.
    """

    keepalive: float | None

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        """What to send for audio (L16 mono at the feed's rate, any whole number of samples, never none) or for a
        mark.
        """
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


async def listen(wire: PlainWire, dialect: Dialect, audio: AudioFeed) -> AsyncIterator[SttEvent]:
    """Recognise until the feed ends or the vendor hangs up. Closes the wire. Raises :class:`ProviderError`.

    Once the feed has ended, the vendor has :data:`LAST_WORDS` seconds to say goodbye; one that does not is no error.
    """
    sender = _Sender(wire, dialect)
    feeding = asyncio.create_task(sender.feed(audio), name="stt-feed")
    try:
        while (message := await wire.receive()) is not None:
            for event in dialect.heard(message):
                yield event
    except ProviderError:
        if not sender.is_left:
            raise
    finally:
        feeding.cancel()
        try:
            await asyncio.wait([feeding])
        finally:
            await wire.close()
    if not feeding.cancelled() and (error := feeding.exception()) is not None:
        raise error


class _Sender:
    """Our side of the talk. ``is_left``: we hung up, because the vendor did not when everything was said."""

    def __init__(self, wire: PlainWire, dialect: Dialect) -> None:
        self._wire = wire
        self._dialect = dialect
        self._clock = asyncio.get_running_loop().time
        self._sent_at = 0.0  # loop seconds
        self.is_left = False

    async def feed(self, audio: AudioFeed) -> None:
        clock = self._clock
        self._sent_at = clock()
        pulse = None
        if self._dialect.keepalive is not None:
            pulse = asyncio.create_task(self._beat(self._dialect.keepalive), name="stt-keepalive")
        try:
            async for item in audio:
                if item:  # some vendors take an empty message for the end
                    for message in self._dialect.take(item):
                        await self._wire.send(message)
                        self._sent_at = clock()
                audio.divert(self._take)  # until the vendor is slow
            for message in self._dialect.end():
                await self._wire.send(message)
        except ProviderError:
            return  # the reader sees the same, and says why
        except Exception:
            await self._wire.close()  # or the reader would wait for words of what it never sent
            raise
        finally:
            audio.divert(None)
            if pulse is not None:
                pulse.cancel()
        await asyncio.sleep(LAST_WORDS)
        self.is_left = True
        await self._wire.close()

    def _take(self, item: bytes | Mark) -> bool:
        """By a plain call, in the path of the caller's audio. ``False``: not sent, and for :meth:`feed` to send."""
        if not self._wire.is_ready:
            return False
        if not item:
            return True
        try:
            messages = tuple(self._dialect.take(item))
        except Exception:  # feed() comes upon the same, and ends the talk for it
            return False
        for message in messages:
            self._wire.send_now(message)
            self._sent_at = self._clock()
        return True

    async def _beat(self, every: float) -> None:
        """Keeps a connection alive over which no audio goes."""
        clock = asyncio.get_running_loop().time
        try:
            while self._wire.is_open:
                if (wait := self._sent_at + every - clock()) > TICK:
                    await asyncio.sleep(wait)
                    continue
                for message in self._dialect.idle():
                    await self._wire.send(message)
                self._sent_at = clock()
        except ProviderError:
            return
