"""The app gateway: jambonz's control socket on one side, an application's on the other, and in between only the `agent`
verb is ours::

    jambonz ──ws.jambonz.org──> /app/{app} ──ws.jambonz.org──> the application
       └────── audio ──> /listen/{token}: the agent runs here

Messages pass untouched, in order and once, but for these: an agent verb in an ack or a redirect becomes a listen on us;
when that listen ends, the application hears its own actionHook, and its verbs go back; updates and the outputs of our
tools stay here; an answer that jambonz would not take is given in the application's place.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any

from agentd.jambonz.agents import LONGEST, Agents
from agentd.jambonz.app_side import AgentSide, AppSide
from agentd.jambonz.asked import WANTS_VERBS, Asked
from agentd.jambonz.jambonz_side import JambonzSide, Peer
from agentd.jambonz.memory import Memory
from agentd.jambonz.rewrite import apologies, as_object, listen_verb, our_token, path_of
from agentd.jambonz.saved import SavedCall
from agentd.jambonz.tickets import Ticket, Tickets
from agentd.ops.journal import Record
from agentd.outbound.channel import HookFailed, Verbs
from agentd.outbound.guard import Guard
from config import commands, payloads
from config.apps import is_socket
from config.commands import Ack, Command, Malformed, Message, ToolOutput, Update
from config.files import Config

log = logging.getLogger("agentd.gateway")

ACK = 4.5  # seconds for the application's answer to what we answer ourselves otherwise: jambonz waits 5
LOST = 15.0  # seconds until an application is found again that a killed process had
LAST_WORDS = 10.0  # seconds that an agent has when jambonz has gone
LIMIT = 256 * 1024  # characters of a message of jambonz's


class Gateway:
    """One call's, from jambonz's connection to its end. ``found`` is jambonz's first message; where ``memory`` has
    something saved, jambonz is back after the process was killed that had the call. Raises :class:`HookFailed` where
    there is no such application.
    """

    def __init__(
        self,
        config: Config,
        guard: Guard,
        tickets: Tickets,
        name: str,
        base: str,
        found: Mapping[str, Any],
        memory: Memory | None = None,
    ) -> None:
        app = config.server.apps.get(name)
        if app is None or not is_socket(app.url):
            raise HookFailed("expected an application with a ws or wss URL under apps")
        self._config = config
        self._name = name
        self._call_sid = str(found.get("call_sid") or "")
        self._apology = app.apology
        self._memory = memory or Memory()
        self._asked = Asked()
        self._new = str(found.get("msgid") or "")  # session:new's
        self._reconnect = ""  # the msgid under which its answer is awaited since
        self._has_begun = self._memory.saved is not None and self._memory.saved.has_begun  # jambonz has the first verbs
        self._tasks: set[asyncio.Task[None]] = set()
        self._jambonz = JambonzSide(lambda text: self._safely(self._from_jambonz(text)), self._fields())
        self._app = AppSide(
            guard,
            app,
            self._call_sid,
            found.get("data") if self._memory.saved is None else self._memory.saved.session,
            lambda text, message: self._safely(self._from_app(text, message)),
        )
        b3, auth = str(found.get("b3") or ""), config.server.access.credentials_for(name)
        side = AgentSide(self._app, self._jambonz.over)
        self._agents = Agents(
            tickets,
            self._memory,
            lambda verb, take: Ticket(name, self._call_sid, verb, side, take, b3=b3),
            lambda token: listen_verb(base, token, auth=auth),
        )
        if self._memory.saved is None:
            self._memory.call(name, found)

    async def run(self, socket: Peer, first: str) -> None:
        """From jambonz's ``first`` message to the end of the call."""
        until = asyncio.get_running_loop().time() + ACK
        try:
            if self._memory.saved is None:
                await self._from_jambonz(first)
                self._spawn(self._jambonz.hold(socket))
                self._spawn(self._keep_application(until))
                self._spawn(self._wait_for_verbs(until))
            else:
                self._go_on(self._memory.saved, socket)
            await self._jambonz.over.wait()
            await self._agents.last_words(LAST_WORDS, lambda: not self._app.left.is_set())
            self._memory.forget()
        finally:
            self._jambonz.release()
            self._agents.forget()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._app.aclose()

    def _go_on(self, saved: SavedCall, socket: Peer) -> None:
        """In place of a process that was killed."""
        until = asyncio.get_running_loop().time() + LOST
        self._memory.goes_on_here()
        self._spawn(self._keep_application(until, knows_us=True))
        if self._has_begun or saved.answer is None:
            self._spawn(self._jambonz.hold(socket, _ack(self._new, [])))
            return
        # Perhaps jambonz never had the answer to session:new: it takes this one for it, or looks at none of its verbs.
        self._asked.add(self._new, "session:new")
        self._spawn(self._jambonz.hold(socket))
        self._spawn(self._answer(self._new, _ack(self._new, saved.answer), saved.answer))

    @property
    def is_away(self) -> bool:
        """Is jambonz to come back?"""
        return self._jambonz.is_away

    async def back(self, socket: Peer, msgid: str) -> None:
        """For jambonz that is back (`session:reconnect`). Returns when it leaves again."""
        # Without an answer to session:new jambonz takes this one for it; with one, it looks at none of its verbs.
        first: str | None = _ack(msgid, [])
        if not (self._has_begun or self._agents.have_begun):
            self._reconnect = msgid
            answer = self._asked.answer_to(self._new)
            first = None if answer is None else _with(answer, msgid=msgid)
        await self._jambonz.hold(socket, first)

    async def _keep_application(self, until: float, *, knows_us: bool = False) -> None:
        try:
            await self._app.reach(until, knows_us=knows_us)
            await self._app.run()
            why = "the application is lost"
        except HookFailed as exc:
            why = str(exc)
            await self._app.aclose()
        else:
            if not self._app.is_lost:
                self._jambonz.over.set()
                return
        # What jambonz asks from now on is answered as this is. An agent that is running goes on until its end.
        for msgid in self._asked.unanswered():
            await self._apologise(msgid, why)

    # jambonz → application -------------------------------------------------------------------------------

    async def _from_jambonz(self, text: str) -> None:
        if len(text) > LIMIT:
            log.warning("message of jambonz ignored", extra=self._fields(characters=len(text)))
            return
        found = as_object(text)
        msgid, type_ = str(found.get("msgid") or ""), found.get("type")
        if not self._has_begun and msgid != self._new and not self._asked.is_open(self._new):
            self._has_begun = True
            self._memory.begun()
        if msgid and not self._asked.add(msgid, type_):
            if (answer := self._asked.answer_to(msgid)) is not None:
                await self._jambonz.say(answer)
            return
        token = our_token(found.get("hook")) if type_ == "verb:hook" else None
        if token is not None:
            self._spawn(self._listen_ended(token, msgid))
            return
        is_question = type_ in WANTS_VERBS
        try:
            self._app.pass_on(text, is_event=not is_question)
        except HookFailed as exc:
            if is_question:
                await self._apologise(msgid, str(exc))

    async def _listen_ended(self, token: str, msgid: str) -> None:
        """Our listen verb is over: what comes next is the application's to say."""
        verbs: Verbs | None = []
        if (lost := self._memory.lost(token)) is not None:
            if lost.next is None:
                log.warning("agent goes on: its process was killed", extra=self._fields(records=len(lost.records)))
                verbs = [lost.verb, *lost.behind]
                await self._answer(msgid, _ack(msgid, verbs), verbs, after=token, before=lost.records)
                return
            verbs = lost.next if lost.next or lost.is_answered else None
        elif (ticket := self._agents.ended(token)) is not None:
            if not ticket.is_taken:
                self._spawn(self._not_begun(ticket))
            verbs = await ticket.behind(ACK)
        if verbs is None:
            await self._apologise(msgid, "the agent has ended, and the application does not say what is next")
        else:
            await self._answer(msgid, _ack(msgid, verbs), verbs)

    async def _not_begun(self, ticket: Ticket) -> None:
        """The listen socket could not be opened."""
        verbs: Verbs = []
        ticket.is_answered = True
        if (hook := path_of(ticket.verb.get("actionHook"))) is not None:
            told = payloads.completion("connection failure", None, self._config.server.events.names)
            try:
                verbs = await self._app.action(hook, told)
            except HookFailed as exc:
                log.warning("hook failed", extra=self._fields(hook="action", error=str(exc)))
                ticket.is_answered = False
        ticket.end(verbs)

    # application → jambonz -------------------------------------------------------------------------------

    async def _from_app(self, text: str, message: Message) -> None:
        """What answers nothing of ours."""
        match message:
            case Ack(msgid, verbs):
                await self._answer(msgid, text, verbs)
            case Malformed(why, str(msgid)):
                await self._apologise(msgid, why)
            case Update() as update if self._agents.are_running:
                self._agents.update(update)
            case ToolOutput() if self._agents.are_running:
                log.warning("tool output ignored: unknown, late or given before", extra=self._fields())
            case Command("redirect", list() | dict() as data):
                try:
                    await self._command(text, commands.verbs(data))
                except ValueError:  # no verbs: jambonz will say so
                    await self._command(text, [])
            case _:
                await self._command(text, [])

    async def _answer(
        self, msgid: str, text: str, verbs: Verbs, *, after: str = "", before: Sequence[Record] = ()
    ) -> None:
        """``text`` says them. The first agent among them goes on ``after`` another one, and ``before`` is its
        conversation.
        """
        if not self._asked.is_open(msgid):
            # The Python SDK acks our events as well.
            log.debug("ack ignored: of nothing that jambonz has asked, or given before", extra=self._fields())
            return
        if msgid == self._new:
            self._memory.answered(verbs)
        passed = self._agents.with_listens(text, verbs, after, before)
        if passed is None:
            await self._apologise(msgid, f"expected at most {LONGEST} bytes, got more")
            return
        self._asked.answer(msgid, passed)
        await self._jambonz.say(self._as_asked(msgid, passed))

    async def _command(self, text: str, verbs: Verbs) -> None:
        passed = self._agents.with_listens(text, verbs)
        if passed is not None:
            await self._jambonz.say(passed)
            return
        why = f"expected at most {LONGEST} bytes, got more"
        log.warning("message of the application ignored", extra=self._fields(why=why))
        told = {"msg": "InvalidMessage", "details": why}  # as jambonz has it
        self._app.pass_on(
            json.dumps(payloads.message("jambonz:error", self._call_sid, str(uuid.uuid4()), told)), is_event=True
        )

    # An application that does not say what is to be done ---------------------------------------------------

    async def _wait_for_verbs(self, until: float) -> None:
        await asyncio.sleep(until - asyncio.get_running_loop().time())
        await self._apologise(self._new, f"no answer within {ACK:g} seconds")

    async def _apologise(self, msgid: str, why: str) -> None:
        """In its place, where nothing has been said."""
        if not self._asked.is_open(msgid):
            return
        log.warning("the caller hears an apology", extra=self._fields(why=why))
        answer = _ack(msgid, apologies(self._apology))
        self._asked.answer(msgid, answer)
        await self._jambonz.say(self._as_asked(msgid, answer))

    def _as_asked(self, msgid: str, answer: str) -> str:
        """Jambonz that came back without an answer to session:new waits for that to its session:reconnect."""
        return _with(answer, msgid=self._reconnect) if msgid == self._new and self._reconnect else answer

    # Tasks -------------------------------------------------------------------------------------------------

    def _spawn(self, doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._safely(doing), name="gateway")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _safely(self, doing: Awaitable[None]) -> None:
        """Nothing that one message does ends the reading of either side."""
        try:
            await doing
        except Exception:
            log.exception("message failed", extra=self._fields())

    def _fields(self, **fields: Any) -> dict[str, Any]:
        return {"app": self._name, "call_sid": self._call_sid, **fields}


def _ack(msgid: str, verbs: Verbs) -> str:
    return json.dumps({"type": "ack", "msgid": msgid, "data": verbs})


def _with(text: str, **changes: Any) -> str:
    return json.dumps({**json.loads(text), **changes})
