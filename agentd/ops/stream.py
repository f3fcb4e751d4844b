"""The log of a call as server-sent events: what has happened, what happens, and the end.

A reader walks along the log's own entries at its own pace. The call only wakes it.
"""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from agentd.ops.log import Entry
from agentd.ops.registry import LiveCall
from agentd.ops.wordless import wordless

BEHIND = 1_000  # entries that a reader may be behind the call; then it is told so and left. It may come again.
AT_ONCE = 50  # entries that are written without giving way to the calls …
PAGE = 1 << 18  # … or characters
KEEPALIVE = 15.0  # seconds without an entry, after which a comment shows proxies that this goes on
SEND_WAIT = 30.0  # seconds for a reader that takes nothing
SOUND = 20.0  # seconds that a call's levels are measured after a reader of them has last asked for more

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold them back
]
LATE = {"msg": f"expected a reader that keeps up, got one {BEHIND} entries behind; Last-Event-ID goes on from here"}


@dataclass(frozen=True, slots=True)
class Page:
    """What a reader is told next: events as they are written, none where none came in time. ``after`` is the number of
    the last entry that it has then.
    """

    text: str
    after: int
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What a reader wants to see of a log, and may: entries of these ``types`` (none: of all), with or without the
    ``words`` in them; ``sound``: the levels of both sides, too.
    """

    types: frozenset[str] = frozenset()
    words: bool = True
    sound: bool = False


ALL = View()


class Pages(Protocol):
    """Where a stream comes from: the log of a call of this process, or of another one's."""

    async def more(self, after: int, seconds: float) -> Page:
        """What comes after an entry, as soon as there is something; at the latest after so many seconds."""
        ...


class LiveLog:
    """That of a call of this process."""

    def __init__(self, live: LiveCall, view: View = ALL) -> None:
        self._live = live
        self._entries = live.call.log.entries
        self._view = view
        self._came_at = len(self._entries)  # how many there were

    async def more(self, after: int, seconds: float) -> Page:
        if self._view.sound and not self._live.is_over:
            self._live.call.watch(SOUND)
        until = asyncio.get_running_loop().time() + seconds
        page = self._page(min(after, len(self._entries)))
        while not page.text:
            if page.after == len(self._entries) and not await self._comes(until):
                break
            page = self._page(page.after)
            await asyncio.sleep(0)
        return page

    def _page(self, after: int) -> Page:
        """What there is, as much as is written at once."""
        if len(self._entries) - max(after, self._came_at) > BEHIND:
            return Page(written("late", LATE), after, is_last=True)
        if self._live.is_over and after == len(self._entries):
            return Page(written("end", {}), after, is_last=True)
        text, most = "", min(after + AT_ONCE, len(self._entries))
        while after < most and len(text) < PAGE:
            entry = self._entries[after]
            after += 1
            if not self._view.types or entry["type"] in self._view.types:
                text += written(entry["type"], entry if self._view.words else wordless(entry), after)
        return Page(text, after)

    async def _comes(self, until: float) -> bool:
        """Wait for an entry, or the end."""
        wake = asyncio.Event()

        def came(entry: Entry) -> None:
            wake.set()

        log = self._live.call.log
        log.subscribe(came)
        self._live.watchers.add(wake)
        try:
            async with asyncio.timeout_at(until):
                await wake.wait()
        except TimeoutError:
            return False
        finally:
            log.unsubscribe(came)
            self._live.watchers.discard(wake)
        return True


class EventStream:
    """A response. ``after`` is the number of the last entry that the reader has."""

    def __init__(self, pages: Pages, after: int = 0) -> None:
        self._pages = pages
        self._after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send), name="events-send")
        leaving = asyncio.create_task(_left(receive), name="events-left")
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()  # what went wrong is said by the server
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        page = Page("", self._after)
        with contextlib.suppress(OSError):  # gone meanwhile, or for SEND_WAIT
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            while not page.is_last:
                page = await self._pages.more(page.after, KEEPALIVE)
                body = (page.text or ": still here\n\n").encode()
                async with asyncio.timeout(SEND_WAIT):
                    await send({"type": "http.response.body", "body": body, "more_body": not page.is_last})
                await asyncio.sleep(0)


def written(type_: str, data: Any, number: int | None = None) -> str:
    """One event. JSON has no line breaks of its own, and here nothing but ASCII."""
    id_ = "" if number is None else f"id: {number}\n"
    return f"{id_}event: {type_}\ndata: {json.dumps(data, default=str)}\n\n"


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
