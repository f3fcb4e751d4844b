"""The live calls of this process, by account and the id that jambonz gave them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentd.ops.log import EventLog

NO_ACCOUNT = "default"  # of a call whose metadata names none
TAKEN_OVER = (1008, "another listen socket took over this call")


class Controls(Protocol):
    """What can be asked of a call from outside. Each is a plain call that returns at once."""

    log: EventLog

    @property
    def state(self) -> str:
        """Where the conversation stands."""
        ...

    def update(self, data: Mapping[str, Any]) -> None: ...

    def noise_isolation(self, data: Mapping[str, Any]) -> None: ...

    def stop(self, reason: str) -> None: ...


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call under way: ``agent`` is the name of its agent, ``info`` what its metadata says, ``began`` the loop's time,
    ``since`` the clock's. ``displace`` ends it with a websocket close code and its reason.
    """

    call_sid: str
    agent: str
    info: Mapping[str, Any]
    call: Controls
    displace: Callable[[int, str], None]
    began: float
    since: float = field(default_factory=time.time)
    is_over: bool = False
    watchers: set[asyncio.Event] = field(default_factory=set)  # set once the call is over

    @property
    def account(self) -> str:
        return account_of(self.info)

    def over(self) -> None:
        self.is_over = True
        for watcher in self.watchers:
            watcher.set()


def account_of(info: Mapping[str, Any]) -> str:
    sid = info.get("accountSid")
    return sid if isinstance(sid, str) and sid else NO_ACCOUNT


class Watcher(Protocol):
    """Who is told of the calls of this process. Each is a plain call."""

    def came(self, live: LiveCall) -> None: ...

    def left(self, live: LiveCall) -> None: ...


class LiveCalls:
    """One call per account and id: a second socket for a call takes it over, and the first one is closed."""

    def __init__(self) -> None:
        self._calls: dict[tuple[str, str], LiveCall] = {}
        self.accepted = 0
        self.watchers: list[Watcher] = []

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(list(self._calls.values()))

    def get(self, account: str, call_sid: str) -> LiveCall | None:
        return self._calls.get((account, call_sid))

    def add(self, live: LiveCall) -> None:
        self.accepted += 1
        key = (live.account, live.call_sid)
        before, self._calls[key] = self._calls.get(key), live
        for watcher in self.watchers:
            watcher.came(live)
        if before is not None:
            before.displace(*TAKEN_OVER)

    def remove(self, live: LiveCall) -> None:
        key = (live.account, live.call_sid)
        if self._calls.get(key) is live:
            del self._calls[key]
            for watcher in self.watchers:
                watcher.left(live)
        live.over()
