"""The sockets of one call to one synthesizer. The next reply's is dialled before it is wanted."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from providers.base import ProviderError
from providers.sockets import Wire


class Line:
    """One socket a reply; a reply that leaves its socket fit for use leaves it to the next one. ``dial`` opens one,
    and raises :class:`ProviderError`. ``keepalive``: seconds, and what to send that often on a socket that nobody uses.
    """

    def __init__(
        self, dial: Callable[[], Awaitable[Wire]], keepalive: tuple[float, Iterable[str | bytes]] | None = None
    ) -> None:
        self._dial = dial
        self._keepalive = keepalive
        self._idle: Wire | None = None
        self._tending: asyncio.Task[None] | None = None  # of the idle one
        self._dialling: asyncio.Task[Wire] | None = None  # for nobody yet
        self._awaited: set[asyncio.Task[Wire]] = set()  # dialled for a reply that waits
        self._tasks: set[asyncio.Task[Any]] = set()  # that tidy up; the end of the call waits for them
        self._is_closed = False

    def ready(self) -> None:
        """Have a socket for the next reply. A plain call: it begins to dial. A failure is nobody's concern: the reply
        that wants the socket dials again.
        """
        if self._idle is not None and not self._idle.is_open:
            self._leave(self._give_up_idle())
        if self._idle is None and self._dialling is None and not self._is_closed:
            self._dialling = self._begin()

    async def take(self) -> Wire:
        """A socket for one reply alone. Raises :class:`ProviderError`."""
        while self._idle is not None:
            tending = self._tending
            wire = self._give_up_idle()
            try:
                if tending is not None:
                    await asyncio.wait([tending])  # two may not read at once
            except asyncio.CancelledError:
                self._leave(wire)
                raise
            if wire.is_open:
                return wire
            self._leave(wire)
        dialling, self._dialling = self._dialling or self._begin(), None
        self._awaited.add(dialling)
        try:
            return await asyncio.shield(dialling)
        except asyncio.CancelledError:
            self._keep(dialling)
            raise

    def free(self, wire: Wire, last: Iterable[str | bytes] = ()) -> None:
        """The reply has ended: say the ``last`` words, and let the next one have the socket. What still comes on it is
        thrown away for as long as nobody uses it, so that it does not stand in the way of a pong or a close. A plain
        call.
        """
        if not wire.is_open:
            self.drop(wire, last)
            return
        if self._idle is not None or self._is_closed:
            self._leave(wire, last)
            return
        if self._dialling is not None:  # this one is there already
            self._stop(self._dialling)
            self._dialling = None
        if last := tuple(last):
            self._later(_say(wire, last), "tts-last")
        self._idle = wire
        self._tending = asyncio.create_task(self._tend(wire), name="tts-idle")

    def drop(self, wire: Wire, last: Iterable[str | bytes] = ()) -> None:
        """The reply was cancelled or has failed, and left the socket unfit: say the ``last`` words, close it, dial the
        next. A plain call.
        """
        self._leave(wire, last)
        self.ready()

    def rest(self) -> None:
        """Let go of the socket that nobody uses. A plain call."""
        if self._idle is not None:
            self._leave(self._give_up_idle())
        if self._dialling is not None:
            self._stop(self._dialling)
            self._dialling = None

    async def aclose(self) -> None:
        """Close every socket that no reply has; a reply that still speaks closes its own."""
        self._is_closed = True
        self.rest()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _begin(self) -> "asyncio.Task[Wire]":
        async def dial() -> Wire:
            return await self._dial()

        dialling = asyncio.create_task(dial(), name="tts-dial")
        dialling.add_done_callback(self._dialled)
        return dialling

    def _dialled(self, dialling: "asyncio.Task[Wire]") -> None:
        if dialling in self._awaited:
            self._awaited.discard(dialling)  # the reply that waits has it
            return
        if self._dialling is dialling:
            self._dialling = None
        if not dialling.cancelled() and dialling.exception() is None:
            self.free(dialling.result())

    def _keep(self, dialling: "asyncio.Task[Wire]") -> None:
        """Who waited for it has gone; the next reply may have it."""
        if dialling not in self._awaited:  # it was there in the same instant
            self._dialled(dialling)
            return
        self._awaited.discard(dialling)
        if self._dialling is None and self._idle is None and not self._is_closed:
            self._dialling = dialling
        elif not dialling.done():
            self._stop(dialling)

    def _stop(self, dialling: "asyncio.Task[Wire]") -> None:
        dialling.cancel()
        self._tasks.add(dialling)
        dialling.add_done_callback(self._tasks.discard)

    def _give_up_idle(self) -> Wire:
        wire, self._idle = self._idle, None
        if self._tending is not None:
            self._tending.cancel()
            self._tending = None
        assert wire is not None
        return wire

    async def _tend(self, wire: Wire) -> None:
        every, messages = self._keepalive or (None, ())
        messages = tuple(messages)
        with contextlib.suppress(ProviderError):
            is_open = True
            while is_open:
                try:
                    async with asyncio.timeout(every):
                        while await wire.receive() is not None:
                            pass
                    is_open = False
                except TimeoutError:
                    await _send(wire, messages)
        if self._idle is wire:  # the vendor hung up; :meth:`ready` dials the next one when a turn is near
            self._idle = self._tending = None
            self._leave(wire)

    def _leave(self, wire: Wire, last: Iterable[str | bytes] = ()) -> None:
        self._later(_close(wire, tuple(last)), "tts-close")

    def _later(self, doing: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(doing, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Lines:
    """One :class:`Line` for the rate that replies are wanted at: for vendors that have to know it when they are
    dialled. A call keeps to one rate: before its first reply, ``guess`` (Hz) is dialled.
    """

    def __init__(
        self,
        dial: Callable[[int], Awaitable[Wire]],
        keepalive: tuple[float, Iterable[str | bytes]] | None = None,
        *,
        guess: int,
    ) -> None:
        self._dial = dial
        self._keepalive = keepalive
        self._lines: dict[int, Line] = {}
        self._rate = guess

    def ready(self) -> None:
        self.at(self._rate).ready()

    def at(self, rate: int) -> Line:
        if rate != self._rate and self._rate in self._lines:
            self._lines[self._rate].rest()
        self._rate = rate
        if rate not in self._lines:
            self._lines[rate] = Line(functools.partial(self._dial, rate), self._keepalive)
        return self._lines[rate]

    async def aclose(self) -> None:
        await asyncio.gather(*(line.aclose() for line in self._lines.values()))


async def _send(wire: Wire, messages: Iterable[str | bytes]) -> None:
    for message in messages:
        await wire.send(message)


async def _say(wire: Wire, messages: Iterable[str | bytes]) -> None:
    with contextlib.suppress(ProviderError):
        await _send(wire, messages)


async def _close(wire: Wire, last: Iterable[str | bytes]) -> None:
    await _say(wire, last)
    await wire.close()
