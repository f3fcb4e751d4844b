"""Agents that wait for their audio: jambonz was told to open a listen socket for each, under a token for one use."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agentd.outbound.application import ControlSocket
from agentd.outbound.channel import Verbs

PREFIX = "t-"  # of a token; what begins so is shown to nobody
VALID = 60.0  # seconds between the verb and the socket
MOST = 10_000  # that wait; the oldest is forgotten, and its listen refused


def _future() -> "asyncio.Future[Verbs]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Ticket:
    """``verb`` is the agent verb of the application ``app``, for the call ``call_sid``. ``socket`` is the way to it, if
    it has one; ``take_commands`` is told who takes what it sends unasked. ``done`` are the verbs that it wants behind
    the agent; ``is_answered``: it has said so, and not merely nothing.
    """

    app: str
    call_sid: str
    verb: dict[str, Any]
    socket: ControlSocket | None
    take_commands: Callable[[Callable[[Any], None] | None], None]
    until: float = field(default_factory=lambda: asyncio.get_running_loop().time() + VALID)
    done: "asyncio.Future[Verbs]" = field(default_factory=_future)
    is_taken: bool = False
    is_answered: bool = False
    _next: Verbs = field(default_factory=list)

    async def hand_on(self, verb: Mapping[str, Any]) -> None:
        """For jambonz, as soon as the listen has ended, before what the application wants."""
        self._next = [dict(verb)]

    async def behind(self, seconds: float) -> Verbs | None:
        """What comes behind the agent, once it has ended; ``None`` where nobody says so within this time."""
        await asyncio.wait([self.done], timeout=seconds)
        verbs = [*self._next, *(self.done.result() if self.done.done() else [])]
        return verbs if verbs or (self.done.done() and self.is_answered) else None


def new_token() -> str:
    return f"{PREFIX}{secrets.token_urlsafe(24)}"


class Tickets:
    """Those of one server."""

    def __init__(self) -> None:
        self._waiting: dict[str, Ticket] = {}

    def add(self, token: str, ticket: Ticket) -> None:
        """Under a :func:`new_token`."""
        while len(self._waiting) >= MOST:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[token] = ticket

    def app_of(self, token: str) -> str | None:
        """Whose it is; ``None`` for what is no token."""
        ticket = self._waiting.get(token)
        return None if ticket is None else ticket.app

    def take(self, token: str, call_sid: str) -> Ticket | None:
        """The ticket, which is then gone; ``None`` when it is too late, or of another call."""
        ticket = self._waiting.get(token)
        if ticket is None or ticket.call_sid != call_sid:
            return None
        del self._waiting[token]
        if asyncio.get_running_loop().time() > ticket.until:
            return None
        ticket.is_taken = True
        return ticket

    def forget(self, token: str) -> None:
        self._waiting.pop(token, None)
