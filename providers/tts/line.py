"""The sockets of one call to one synthesizer. The next reply's is dialled before it is wanted."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from providers.base import ProviderError
from providers.sockets import Wire


class Line:
    """One socket a reply; a reply that ended in peace leaves it to the next one. ``dial`` opens one, and raises
    :class:`ProviderError`. ``keepalive``: seconds, and what to send that often on a socket that nobody uses.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[Wire]], keepalive: tuple[float, Iterable[str | bytes]] | None = None
    ) -> None:
        self._dial = dial
        self._keepalive = keepalive
        self._idle: Wire | None = None
        self._dialling: asyncio.Task[Wire] | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def ready(self) -> None:
        """Have a socket for the next reply. A plain call: it begins to dial, and a failure waits for :meth:`take`."""
        if self._idle is not None and not self._idle.is_open:
            self._leave(self._idle)
            self._idle = None
        if self._idle is None and self._dialling is None and not self._is_closed:
            self._dialling = asyncio.create_task(self._open(), name="tts-dial")
            self._dialling.add_done_callback(_seen)

    async def take(self) -> Wire:
        """The socket, for one reply alone. Raises :class:`ProviderError`."""
        self.ready()
        if self._dialling is not None:
            dialling, self._dialling = self._dialling, None
            try:
                return await asyncio.shield(dialling)
            except asyncio.CancelledError:
                self._keep(dialling)
                raise
        wire, self._idle = self._idle, None
        self._hush()
        assert wire is not None, "ready() either has a socket or dials one"
        return wire

    def free(self, wire: Wire) -> None:
        """The reply has ended and nothing more will come on it: the next one may have it."""
        if self._idle is None and self._dialling is None and wire.is_open and not self._is_closed:
            self._idle = wire
            if self._keepalive is not None:
                self._pulse = asyncio.create_task(self._beat(wire, *self._keepalive), name="tts-keepalive")
        else:
            self._leave(wire)

    def drop(self, wire: Wire, last: Iterable[str | bytes] = ()) -> None:
        """The reply was cancelled or has failed: say the ``last`` words, close it, dial the next. A plain call."""
        self._leave(wire, last)
        self.ready()

    async def aclose(self) -> None:
        """Close every socket."""
        self._is_closed = True
        self._hush()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        if self._idle is not None:
            self._leave(self._idle)
            self._idle = None
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _open(self) -> Wire:
        wire = await self._dial()
        if asyncio.current_task() is self._dialling:  # nobody waits for it yet
            self._dialling = None
            self.free(wire)
        return wire

    def _keep(self, dialling: "asyncio.Task[Wire]") -> None:
        """Who waited for it has gone; the next reply may have it."""
        if not dialling.done() and self._dialling is None:
            self._dialling = dialling
        elif not dialling.done():
            dialling.cancel()
        elif not dialling.cancelled() and dialling.exception() is None:
            self.free(dialling.result())

    def _leave(self, wire: Wire, last: Iterable[str | bytes] = ()) -> None:
        task = asyncio.create_task(_close(wire, last), name="tts-close")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _hush(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None

    async def _beat(self, wire: Wire, every: float, messages: Iterable[str | bytes]) -> None:
        messages = tuple(messages)
        with contextlib.suppress(ProviderError):
            while wire.is_open:
                await asyncio.sleep(every)
                for message in messages:
                    await wire.send(message)


async def _close(wire: Wire, last: Iterable[str | bytes]) -> None:
    with contextlib.suppress(ProviderError):
        for message in last:
            await wire.send(message)
    await wire.close()


def _seen(task: asyncio.Task[Wire]) -> None:
    """A failure to dial ahead is nobody's concern until a reply wants the socket."""
    if not task.cancelled():
        task.exception()
