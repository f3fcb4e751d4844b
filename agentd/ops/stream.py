"""The log of a call as server-sent events: what has happened, what happens, and the end.

A reader walks along the log's own entries at its own pace. The call only wakes it.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterable
from typing import Any

from starlette.types import Receive, Scope, Send

from agentd.ops.log import Entry
from agentd.ops.registry import LiveCall

BEHIND = 1_000  # entries that a reader may be behind the call; then it is told so and left. It may come again.
AT_ONCE = 50  # entries that are written without giving way to the calls
KEEPALIVE = 15.0  # seconds without an entry, after which a comment shows proxies that this goes on
SEND_WAIT = 30.0  # seconds for a reader that takes nothing

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold them back
]
LATE = {"msg": f"expected a reader that keeps up, got one {BEHIND} entries behind; Last-Event-ID goes on from here"}


class EventStream:
    """A response. ``after`` is the number of the last entry that the reader has; no ``types``: all of them."""

    def __init__(self, live: LiveCall, after: int = 0, types: Iterable[str] = ()) -> None:
        self._live = live
        self._entries = live.call.log.entries
        self._types = frozenset(types)
        self._next = min(after, len(self._entries))  # index of the entry to send
        self._came_at = 0  # how many entries there were
        self._wake = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        log = self._live.call.log
        self._came_at = len(self._entries)
        log.subscribe(self._came)
        self._live.watchers.add(self._wake)
        sending = asyncio.create_task(self._send(send), name="events-send")
        leaving = asyncio.create_task(_left(receive), name="events-left")
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()  # what went wrong is said by the server
        finally:
            log.unsubscribe(self._came)
            self._live.watchers.discard(self._wake)
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    def _came(self, entry: Entry) -> None:
        self._wake.set()

    async def _send(self, send: Send) -> None:
        async def put(text: str, more: bool = True) -> None:
            async with asyncio.timeout(SEND_WAIT):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        with contextlib.suppress(OSError):  # gone meanwhile, or for SEND_WAIT
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            while (last := self._last()) is None:
                if text := self._take():
                    await put(text)
                    await asyncio.sleep(0)
                elif self._next == len(self._entries):
                    await self._wait(put)
            await put(last, more=False)

    def _last(self) -> str | None:
        """What ends the stream, once it is time for it."""
        if len(self._entries) - max(self._next, self._came_at) > BEHIND:
            return written("late", LATE)
        if self._live.is_over and self._next == len(self._entries):
            return written("end", {})
        return None

    def _take(self) -> str:
        first = self._next
        self._next = min(first + AT_ONCE, len(self._entries))
        return "".join(
            written(entry["type"], entry, number)
            for number, entry in enumerate(self._entries[first : self._next], first + 1)
            if not self._types or entry["type"] in self._types
        )

    async def _wait(self, put: Any) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(KEEPALIVE):
                await self._wake.wait()
        except TimeoutError:
            await put(": still here\n\n")


def written(type_: str, data: Any, number: int | None = None) -> str:
    """One event. JSON has no line breaks of its own, and here nothing but ASCII."""
    id_ = "" if number is None else f"id: {number}\n"
    return f"{id_}event: {type_}\ndata: {json.dumps(data, default=str)}\n\n"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
