"""The live calls of this process, by account and the id that jambonz gave them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentd.ops.log import EventLog

NO_ACCOUNT = "default"  # of a call whose metadata names none
SECRET = 16  # characters of a call's secret at least
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

    def watch(self, seconds: float) -> None:
        """Somebody looks at its timeline: how loud it is goes into the log, for so long at least."""
        ...


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

    @property
    def proof(self) -> str | None:
        return proof_of(self.info)

    def over(self) -> None:
        """Its last entry is in the log."""
        self.is_over = True
        for watcher in self.watchers:
            watcher.set()


def account_of(info: Mapping[str, Any]) -> str:
    sid = info.get("accountSid")
    return sid if isinstance(sid, str) and sid else NO_ACCOUNT


def proof_of(info: Mapping[str, Any]) -> str | None:
    """What the `callSecret` of a call's metadata must be hashed to; ``None`` where it names none. Whoever brings the
    secret (the console's page, which made it) may see and change that call as if a key were theirs.
    """
    secret = info.get("callSecret")
    return _digest(secret) if isinstance(secret, str) and len(secret) >= SECRET else None


def is_proved(proof: str | None, secret: str | None) -> bool:
    """Does somebody bring the secret of a call that has this proof?"""
    return proof is not None and secret is not None and hmac.compare_digest(_digest(secret), proof)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


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
