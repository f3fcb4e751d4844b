"""The agents of one call of the gateway: jambonz is told to listen to us for each; they wait for that, run, and end."""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from agentd.jambonz.memory import Memory
from agentd.jambonz.rewrite import places, rewritten
from agentd.jambonz.tickets import Ticket, Tickets
from agentd.ops.journal import Record
from agentd.outbound.channel import Verbs
from config.commands import Update

LONGEST = 24 * 1024  # bytes that jambonz takes from an application: one more closes its socket

OnCommand = Callable[[Any], None]
MakeTicket = Callable[[dict[str, Any], Callable[[OnCommand | None], None]], Ticket]


class Agents:
    """``ticket`` makes one for an agent verb, ``listen`` the verb that leads to us under a token."""

    def __init__(
        self, tickets: Tickets, memory: Memory, ticket: MakeTicket, listen: Callable[[str], dict[str, Any]]
    ) -> None:
        self._tickets = tickets
        self._memory = memory
        self._ticket = ticket
        self._listen = listen
        self._open: dict[str, Ticket] = {}  # by token, until its listen has ended
        self._running: dict[str, OnCommand] = {}  # by token; the latest takes updates
        self._ended = asyncio.Event()

    def with_listens(self, text: str, verbs: Verbs, after: str = "", before: Sequence[Record] = ()) -> str | None:
        """The message ``text``, which says these verbs, with listens in place of the agents among them. The first goes
        on ``after`` another one, and ``before`` is its conversation. ``None`` for what jambonz would not take: then no
        listen is waited for.
        """
        made: dict[str, Ticket] = {}

        def listen(verb: dict[str, Any]) -> dict[str, Any]:
            token = self._tickets.new_token()
            made[token] = self._ticket(verb, partial(self._take_commands, token))
            made[token].tell = self._memory.teller(token)
            return self._listen(token)

        found = rewritten(verbs, listen)
        passed = text if found is None else json.dumps({**json.loads(text), "data": found})
        if len(passed.encode()) > LONGEST:
            return None
        for at, (token, ticket) in zip(places(verbs), made.items(), strict=True):
            ticket.before = before
            self._memory.agent(token, ticket.verb, verbs[at + 1 :], after)
            self._tickets.add(token, ticket)
            after, before = "", ()
        self._open |= made
        return passed

    def ended(self, token: str) -> Ticket | None:
        """Its listen is over."""
        ticket = self._open.pop(token, None)
        if ticket is not None and not ticket.is_taken:
            self._tickets.forget(token)
        return ticket

    @property
    def have_begun(self) -> bool:
        """Has jambonz come with one of the tokens?"""
        return any(ticket.is_taken for ticket in self._open.values())

    @property
    def are_running(self) -> bool:
        return bool(self._running)

    def update(self, update: Update) -> None:
        """For the one that came last."""
        next(reversed(self._running.values()))(update)

    async def last_words(self, seconds: float, is_heard: Callable[[], bool]) -> None:
        """An agent whose caller has hung up has still to say so to the application."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._running and is_heard():
                    self._ended.clear()
                    await self._ended.wait()

    def forget(self) -> None:
        """Nobody waits any more."""
        for token in self._open:
            self._tickets.forget(token)

    def _take_commands(self, token: str, on_command: OnCommand | None) -> None:
        if on_command is None:
            self._running.pop(token, None)
            self._ended.set()
        else:
            self._running[token] = on_command
