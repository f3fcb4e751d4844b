"""The recogniser of a call, from its beginning to its end: one that is lost is dialled again."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing

from providers.audio_feed import AudioFeed
from providers.base import Final, ProviderError, Stt, SttEvent

log = logging.getLogger("agentd.call.recogniser")

RECONNECTS = (0.25, 0.5, 1.0)  # seconds before each new try, as long as none of them brought a word


async def recognise(
    stt: Stt,
    audio: AudioFeed,
    tell: Callable[[SttEvent], None],
    *,
    is_over: Callable[[], bool],
    give_up: Callable[[ProviderError | None], None],
) -> None:
    """Tell what is recognised until the call ``is_over``. ``give_up`` is called once, when there is no curing it, with
    the vendor's error, or ``None`` for one that we do not know. The audio that came meanwhile waits in the feed.
    """
    tries = 0
    while True:
        try:
            async with aclosing(stt.listen(audio)) as events:  # type: ignore[type-var]
                async for event in events:
                    tries = 0
                    if isinstance(event, Final):
                        audio.settle()
                    tell(event)
            if is_over():
                return
            # Otherwise a recogniser that hangs up politely would leave the agent deaf, and nobody would know.
            raise ProviderError("stt", "stt-ended", "the recogniser ended before the call", retryable=True)
        except ProviderError as exc:
            log.warning("stt failed", extra={"vendor": exc.vendor, "code": exc.code, "tries": tries})
            if not exc.retryable or tries >= len(RECONNECTS):
                give_up(exc)
                return
            await asyncio.sleep(RECONNECTS[tries])
            audio.rewind()  # what it heard since its last final would be lost
            tries += 1
        except Exception:
            log.exception("stt crashed")
            give_up(None)
            return
