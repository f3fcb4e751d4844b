"""The recogniser of a call, from its beginning to its end: one that is lost is dialled again, one that cannot be had is
replaced by the next.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from providers.audio_feed import AudioFeed
from providers.base import Final, ProviderError, Stt, SttEvent

log = logging.getLogger("agentd.call.recogniser")

RECONNECTS = (0.25, 0.5, 1.0)  # seconds before each new try, as long as none of them brought a word
RECONNECTS_WITH_ANOTHER = (0.25, 0.5)  # … when another recogniser waits: the caller is unheard meanwhile

Tell = Callable[[str, ProviderError, str], None]
"""Called with the name of what failed, its error, and the name of what is tried next: empty for nothing."""


@dataclass(frozen=True, slots=True)
class Recogniser:
    """``name`` is what logs and events call it."""

    name: str
    stt: Stt


async def recognise(
    choices: Sequence[Recogniser],
    audio: AudioFeed,
    hear: Callable[[SttEvent], None],
    *,
    is_over: Callable[[], bool],
    give_up: Callable[[ProviderError | None], None],
    tell: Tell,
) -> None:
    """``hear`` what is recognised until the call ``is_over``. ``give_up`` is called once, when there is no curing it,
    with the vendor's error, or ``None`` for one that we do not know. The audio that came meanwhile waits in the feed.
    """
    waiting = list(choices)
    tries = 0
    while True:
        name = waiting[0].name
        try:
            async with aclosing(waiting[0].stt.listen(audio)) as events:  # type: ignore[type-var]
                async for event in events:
                    tries = 0
                    if isinstance(event, Final):
                        audio.settle()
                    hear(event)
            if is_over():
                return
            # Otherwise a recogniser that hangs up politely would leave the agent deaf, and nobody would know.
            message = "the recogniser ended before the call"
            raise ProviderError(name, "stt-ended", message, retryable=True)
        except ProviderError as exc:
            pauses = RECONNECTS_WITH_ANOTHER if len(waiting) > 1 else RECONNECTS
            if exc.retryable and tries < len(pauses):
                tell(name, exc, name)
                await asyncio.sleep(pauses[tries])
                tries += 1
            elif len(waiting) > 1:
                del waiting[0]
                tell(name, exc, waiting[0].name)
                tries = 0
            else:
                tell(name, exc, "")
                give_up(exc)
                return
            audio.rewind()  # what it heard since its last final would be lost
        except Exception:
            log.exception("stt crashed")
            give_up(None)
            return
