"""Agents that wait for their audio: jambonz was told to open a listen socket for each, under a token for one use."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentd.ops.journal import Record
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
    the agent; ``is_answered``: it has said so, and not merely nothing. ``tell`` takes down what becomes of it, and
    ``before`` was taken down of a conversation that it goes on with.
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
    b3: str = ""  # the trace of the control socket, as jambonz writes it
    tell: Callable[[Record], None] | None = None
    before: Sequence[Record] = ()
    _next: Verbs = field(default_factory=list)

    async def hand_on(self, verb: Mapping[str, Any]) -> None:
        """For jambonz, as soon as the listen has ended, before what the application wants."""
        self._next = [dict(verb)]

    def end(self, verbs: Verbs) -> None:
        """The agent has ended; these are what the application wants. The first time counts."""
        if not self.done.done():
            if self.tell is not None:
                self.tell({"kind": "end", "verbs": [*self._next, *verbs], "is_answered": self.is_answered})
            self.done.set_result(verbs)

    async def behind(self, seconds: float) -> Verbs | None:
        """What comes behind the agent, once it has ended; ``None`` where nobody says so within this time."""
        await asyncio.wait([self.done], timeout=seconds)
        verbs = [*self._next, *(self.done.result() if self.done.done() else [])]
        return verbs if verbs or (self.done.done() and self.is_answered) else None


class Tickets:
    """Those of one server process, by whose ``name`` (that on the bus) others lead its sockets here."""

    def __init__(self, name: str = "") -> None:
        self._prefix = f"{PREFIX}{name}-" if name else PREFIX
        self._waiting: dict[str, Ticket] = {}

    def new_token(self) -> str:
        """One that nobody can guess, and that names this process."""
        return f"{self._prefix}{secrets.token_urlsafe(24)}"

    def add(self, token: str, ticket: Ticket) -> None:
        """Under a :meth:`new_token`."""
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

    def get(self, token: str) -> Ticket | None:
        """The ticket, if it waits; it goes on waiting."""
        return self._waiting.get(token)

    @property
    def is_waiting(self) -> bool:
        """Is jambonz on its way with one?"""
        now = asyncio.get_running_loop().time()
        return any(now <= ticket.until for ticket in self._waiting.values())
