"""Who is let in besides what `access` says: no more calls than there is time for, and nobody who only holds a place.

A websocket counts from its handshake to the end of what it became. Until its first message it is *unbegun*.
"""

import asyncio
import re
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import islice

from starlette.types import ASGIApp, Receive, Scope, Send

from agentd.access import Refusal, prefix, refuse
from agentd.ops.admission import RETRY_AFTER, WORDS, Admission

MOST = 50  # of one address that hold a place …
PATIENCE = 1.0  # … for longer than these seconds: jambonz, one address with many calls, needs a few milliseconds
BEGUN = "agentd.begun"  # a key of an ASGI scope; what is there is called with the first message
KNOWN = "agentd.known"  # another; was it taken for one of a call in progress?
RETRY = (("retry-after", str(RETRY_AFTER)),)
CALL = re.compile(r"/app/[^/]+")
TOO_MANY = f"expected at most {MOST} connections of one address that say nothing, got more"


_prefix = lru_cache(1024)(prefix)  # jambonz is one address with many calls


class Unbegun:
    """The rule: connections that have said nothing yet, by address, the oldest first."""

    def __init__(self) -> None:
        self._since: dict[str, dict[int, float]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._since.values()))

    def came(self, address: str, key: int, now: float) -> bool:
        """May it wait here? What may is to be taken out by :meth:`went`."""
        waiting = self._since.setdefault(_prefix(address), {})
        oldest = next(islice(waiting.values(), MOST - 1, None), None)
        if oldest is not None and oldest <= now - PATIENCE:
            return False
        waiting[key] = now
        return True

    def went(self, address: str, key: int) -> None:
        """It has begun, or is gone. Twice does no harm."""
        waiting = self._since.get(address := _prefix(address))
        if waiting is not None:
            waiting.pop(key, None)
            if not waiting:
                del self._since[address]


def begun(scope: Scope) -> None:
    """The first message has come."""
    scope[BEGUN]()


def was_known(scope: Scope) -> bool:
    """Was it let in as one of a call in progress? If it is a new one after all, nobody has asked :class:`Admission`."""
    return bool(scope[KNOWN])


class Reception:
    """Stands behind `access`, before the routes. ``known`` says of a path how many calls more it means when it is of a
    call in progress (one by webhook was not seen before), and ``None`` for a new one. What is known is never refused.
    """

    def __init__(self, app: ASGIApp, admission: Admission, known: Callable[[str], int | None]) -> None:
        self._app = app
        self._admission = admission
        self._known = known
        self._unbegun = Unbegun()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            refusal = self._refused() if scope["type"] == "http" and _is_call(scope) else None
            await (self._app(scope, receive, send) if refusal is None else refuse(refusal, scope, send))
            return
        calls = self._known(scope["path"])
        address, key = (scope.get("client") or ("",))[0], id(scope)
        if calls is None and (refusal := self._refusal(address, key)) is not None:
            await refuse(refusal, scope, send)
            return
        scope[BEGUN], scope[KNOWN] = partial(self._unbegun.went, address, key), calls is not None
        admission, calls = self._admission, 1 if calls is None else calls
        admission.calls += calls
        admission.sockets += 1
        try:
            await self._app(scope, receive, send)
        finally:
            admission.calls -= calls
            admission.sockets -= 1
            self._unbegun.went(address, key)

    def _refused(self) -> Refusal | None:
        reason = self._admission.ask()
        return None if reason is None else Refusal(503, WORDS[reason], RETRY)

    def _refusal(self, address: str, key: int) -> Refusal | None:
        if (refusal := self._refused()) is not None:
            return refusal
        if self._unbegun.came(address, key, asyncio.get_running_loop().time()):
            return None
        self._admission.count_refused("unbegun")
        return Refusal(429, TOO_MANY, RETRY)


def _is_call(scope: Scope) -> bool:
    """The webhook with which jambonz begins a call; what it asks later has longer paths."""
    return scope["method"] == "POST" and CALL.fullmatch(scope["path"]) is not None
