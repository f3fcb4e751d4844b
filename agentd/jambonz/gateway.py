"""The app gateway: jambonz's control socket on one side, an application's on the other, and in between only the `agent`
verb is ours::

    jambonz ──ws.jambonz.org──> /app/{app} ──ws.jambonz.org──> the application
       └────── audio ──> /listen/{token}: the agent runs here

Messages pass untouched and in order, but for these: an agent verb in an ack or a redirect becomes a listen on us; when
that listen ends, the application hears its own actionHook, and its verbs go back; updates and the outputs of our tools
stay here.
"""

import asyncio
import contextlib
import json
import logging
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agentd.jambonz.outbox import GONE
from agentd.jambonz.rewrite import OURS, as_object, listen_verb, our_token, rewritten
from agentd.jambonz.tickets import Ticket, Tickets
from agentd.outbound.answers import DONE
from agentd.outbound.app_dial import dial, hears_only_hooks
from agentd.outbound.app_socket import BROKEN, CLOSED, DELIBERATE, PAUSE, TRIES
from agentd.outbound.channel import Channel, HookFailed, PathChannel, Verbs
from agentd.outbound.guard import Guard
from agentd.outbound.sending import Letter, Questions
from config import commands, payloads
from config.apps import is_socket
from config.commands import Ack, Command, Malformed, ToolOutput, Update
from config.files import Config
from config.payloads import Payload
from config.server import App

log = logging.getLogger("agentd.gateway")

ACK = 4.5  # seconds for the application's answer to what we ask: jambonz waits 5 for ours
AGAIN = 0.25  # seconds before an application is dialled once more
ORPHAN = 15.0  # seconds that a call waits for jambonz's socket to come back
WAITING = 200  # messages for it meanwhile
GOODBYE = 60.0  # seconds that an apology may take
LIMIT = 256 * 1024  # characters of a message of jambonz's
LONGEST_ACK = 24 * 1024  # bytes that jambonz takes from an application


class Gateway:
    """One call's, from jambonz's connection to its end."""

    def __init__(self, config: Config, guard: Guard, tickets: Tickets, name: str, base: str) -> None:
        self.where = "the gateway"
        self._config = config
        self._guard = guard
        self._tickets = tickets
        self._name = name
        self._base = base
        self._call_sid = ""
        self._info: Payload = {}  # what every hook is told of the call
        self._socket: WebSocket | None = None  # jambonz's, while it is there
        self._is_jambonz_there = asyncio.Event()
        self._waiting: deque[str] = deque(maxlen=WAITING)  # for jambonz, while it is away; the oldest is dropped
        self._app: ClientConnection | None = None
        self._is_app_there = asyncio.Event()
        self._told_by_hook = False
        self._apology = ""
        self._due = 0.0  # when session:new has to be answered
        self._new = ""  # the msgid of session:new …
        self._first = ""  # … until it is answered
        self._again = ""  # the msgid of the latest session:reconnect
        self._acks = Questions()  # of what we ask the application, by msgid
        self._tools = Questions()  # by tool_call_id
        self._on_command: Callable[[Any], None] | None = None  # of the agent that is running
        self._open: dict[str, Ticket] = {}  # by token, until its listen has ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def run(self, socket: WebSocket, first: str, found: Mapping[str, Any]) -> None:
        """From jambonz's ``first`` message (``found`` is what it says) to the end of the call. Raises
        :class:`HookFailed`.
        """
        try:
            await self._run(socket, first, found)
        finally:
            self._over.set()
            for questions in (self._acks, self._tools):
                questions.fail(CLOSED)
            for token in self._open:
                self._tickets.forget(token)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._app is not None:
                await self._app.close(1000)

    async def _run(self, socket: WebSocket, first: str, found: Mapping[str, Any]) -> None:
        app = self._config.server.apps.get(self._name)
        if app is None or not is_socket(app.url):
            raise HookFailed("expected an application with a ws or wss URL under apps")
        self._call_sid = str(found.get("call_sid") or "")
        self._info = _info(found.get("data"))
        self._apology = app.apology
        self._new = self._first = str(found.get("msgid") or "")
        self._socket = socket
        self._due = asyncio.get_running_loop().time() + ACK
        try:
            await self._dial_in_time(app)
        except HookFailed as exc:
            await self._apologise(str(exc))
            await self._until_jambonz_leaves(socket)
            return
        await self._to_app(first)
        self._spawn(self._wait_for_verbs())
        self._spawn(self._keep_application(app, found.get("data")))
        self._spawn(self._pump(socket))
        await self._over.wait()

    # Connections that come and go --------------------------------------------------------------------------

    async def back(self, socket: WebSocket, msgid: str) -> None:
        """For jambonz that is back (`session:reconnect`). Returns when it leaves again."""
        self._socket = socket
        self._is_jambonz_there.set()
        await self._to_jambonz(json.dumps({"type": "ack", "msgid": msgid, "data": []}))
        while self._waiting and self._socket is socket:
            await self._to_jambonz(self._waiting.popleft())
        await asyncio.wait([self._spawn(self._pump(socket))])

    async def _pump(self, socket: WebSocket) -> None:
        code = 1006
        try:
            await self._from_jambonz(socket)
        except WebSocketDisconnect as exc:
            code = exc.code
        except (OSError, RuntimeError):
            pass  # gone
        if self._socket is not socket:
            return  # it has been back already
        self._socket = None
        if code not in DELIBERATE:
            log.warning("jambonz lost", extra=self._fields(code=code))
            self._is_jambonz_there.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ORPHAN):
                    await self._is_jambonz_there.wait()
        if self._socket is None:
            self._over.set()

    async def _dial_in_time(self, app: App) -> None:
        """Again and again, as jambonz does: the Node SDK takes more than a second for each new call, and meanwhile it
        answers no handshake.
        """
        while True:
            try:
                async with asyncio.timeout_at(self._due):
                    await self._dial(app)
                return
            except TimeoutError:
                raise HookFailed(f"the application could not be reached within {ACK:g} seconds") from None
            except HookFailed as exc:
                if not exc.may_retry or asyncio.get_running_loop().time() + AGAIN >= self._due:
                    raise
            await asyncio.sleep(AGAIN)

    async def _dial(self, app: App) -> None:
        password = app.password.get_secret_value() if app.password else None
        self._app = await dial(self._guard, app.url, app.username, password)
        self._told_by_hook = app.told_as == "verb" or (app.told_as is None and hears_only_hooks(self._app))
        self._is_app_there.set()

    async def _keep_application(self, app: App, data: Any) -> None:
        """Read what it sends; lost, it is dialled again and told of the call anew."""
        while (connection := self._app) is not None:
            await self._from_app(connection)
            self._is_app_there.clear()
            for questions in (self._acks, self._tools):
                questions.fail(BROKEN)
            if connection.close_code in DELIBERATE:
                break
            log.warning("application lost", extra=self._fields(code=connection.close_code))
            self._app = None
            for attempt in range(TRIES):
                await asyncio.sleep(PAUSE * 2**attempt)
                with contextlib.suppress(HookFailed):
                    await self._dial(app)
                    again = payloads.message("session:reconnect", self._call_sid, str(uuid.uuid4()), data)
                    self._again = str(again["msgid"])
                    await self._to_app(json.dumps(again))
                    break
        self._over.set()

    # An application that does not say what is to be done ---------------------------------------------------

    async def _wait_for_verbs(self) -> None:
        await asyncio.sleep(self._due - asyncio.get_running_loop().time())
        if self._first:
            await self._apologise(f"no answer within {ACK:g} seconds")

    async def _apologise(self, why: str) -> None:
        log.warning("the caller hears an apology", extra=self._fields(why=why))
        msgid, self._first = self._first, ""
        verbs = [{"verb": "say", "text": self._apology}, {"verb": "hangup"}]
        await self._to_jambonz(json.dumps({"type": "ack", "msgid": msgid, "data": verbs}))

    async def _until_jambonz_leaves(self, socket: WebSocket) -> None:
        with contextlib.suppress(*GONE, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                while True:
                    await socket.receive_text()

    # jambonz → application -------------------------------------------------------------------------------

    async def _from_jambonz(self, socket: WebSocket) -> None:
        """Until it leaves, which is an exception."""
        while True:
            text = await socket.receive_text()
            if len(text) > LIMIT:
                log.warning("message of jambonz ignored", extra=self._fields(characters=len(text)))
                continue
            found = as_object(text) if f'"{OURS}' in text else {}
            token = our_token(found.get("hook"))
            if token is not None and found.get("type") == "verb:hook":
                self._spawn(self._listen_ended(token, str(found.get("msgid") or "")))
            else:
                await self._to_app(text)

    async def _listen_ended(self, token: str, msgid: str) -> None:
        """Our listen verb is over: what comes next is the application's to say."""
        ticket = self._open.pop(token, None)
        if ticket is None:
            verbs: Verbs = []
        elif ticket.is_taken:
            verbs = await ticket.done
        else:
            self._tickets.forget(token)
            verbs = await self._not_begun(ticket)
        await self._to_jambonz(json.dumps({"type": "ack", "msgid": msgid, "data": self._for_jambonz(verbs) or verbs}))

    async def _not_begun(self, ticket: Ticket) -> Verbs:
        """The listen socket could not be opened."""
        match ticket.verb.get("actionHook"):
            case str(hook) | {"url": str(hook)} if "://" not in hook:
                told = payloads.completion("connection failure", None, self._config.server.events.names)
                try:
                    return await self.action(hook, told)
                except HookFailed as exc:
                    log.warning("hook failed", extra=self._fields(hook="action", error=str(exc)))
        return []

    async def _to_app(self, text: str) -> None:
        """Waits while the application is away: then jambonz waits, too."""
        while True:
            await self._is_app_there.wait()
            assert self._app is not None
            try:
                await self._app.send(text)
                return
            except ConnectionClosed:
                self._is_app_there.clear()

    # application → jambonz -------------------------------------------------------------------------------

    async def _from_app(self, app: ClientConnection) -> None:
        with contextlib.suppress(*GONE, ConnectionClosed):
            while True:
                text = await app.recv()
                if isinstance(text, str) and (passed := self._passed(text)) is not None:
                    await self._to_jambonz(passed)

    def _passed(self, text: str) -> str | None:
        """What jambonz gets of a message of the application's; ``None`` where it is for us."""
        match commands.parse(text):
            case Ack(msgid, verbs):
                if self._acks.answer(msgid, verbs) or msgid == self._again:
                    return None
                return self._answer(text, msgid, verbs)
            case Malformed(why, msgid) if msgid and msgid == self._first:
                self._spawn(self._apologise(why))
                return None
            case ToolOutput(id_, output) if self._tools.answer(id_, DONE if output is None else output):
                return None
            case Update() as update if self._on_command is not None:
                self._on_command(update)
                return None
            case Command("redirect", list() as data):
                with contextlib.suppress(ValueError):
                    return self._with(text, "data", self._for_jambonz(commands.verbs(data)))
        return text

    def _answer(self, text: str, msgid: str, verbs: Verbs) -> str | None:
        passed = self._with(text, "data", self._for_jambonz(verbs))
        if msgid != self._new:
            return passed
        if not self._first:
            return None  # too late: the caller hears the apology; or it has come before
        if (size := len(passed.encode())) > LONGEST_ACK:
            self._spawn(self._apologise(f"expected at most {LONGEST_ACK} bytes, got {size}"))
            return None
        self._first = ""
        return passed

    def _with(self, text: str, key: str, value: Any) -> str:
        return text if value is None else json.dumps({**json.loads(text), key: value})

    def _for_jambonz(self, verbs: Verbs) -> Verbs | None:
        return rewritten(verbs, self._ticket)

    def _ticket(self, verb: dict[str, Any]) -> dict[str, Any]:
        ticket = Ticket(self._name, self._call_sid, verb, _Side(self), self._take_commands)
        token = self._tickets.add(ticket)
        self._open[token] = ticket
        return listen_verb(self._base, token, auth=self._config.server.access.credentials_for(self._name))

    def _take_commands(self, on_command: Callable[[Any], None] | None) -> None:
        self._on_command = on_command

    async def _to_jambonz(self, text: str) -> None:
        if len(text.encode()) > LONGEST_ACK:
            log.warning("message larger than jambonz takes", extra=self._fields(bytes=len(text.encode())))
        if self._socket is None:
            self._waiting.append(text)
            return
        with contextlib.suppress(*GONE):
            await self._socket.send_text(text)

    # What our agent asks and tells ------------------------------------------------------------------------

    async def event(self, hook: str, payload: Payload) -> None:
        await self._say(self._letter("agent:event", hook, payload))

    async def tool_call(self, hook: str, payload: Payload) -> Any:
        letter = self._letter("agent:tool-call", hook, payload)
        with self._tools.ask(str(payload["tool_call_id"]), letter) as question:
            await self._say(letter)
            return await question.wait(24 * 3600)  # the toolbox gives it its time

    async def action(self, hook: str, payload: Payload) -> Verbs:
        letter = self._letter("verb:hook", hook, {**self._info, "call_sid": self._call_sid, **payload})
        with self._acks.ask(letter.msgid, letter) as question:
            await self._say(letter)
            verbs: Verbs = await question.wait(ACK)
            return verbs

    async def wait(self) -> None:
        """Until the call is over for both sides."""
        await self._over.wait()

    def _letter(self, type_: str, hook: str, data: Payload) -> Letter:
        msgid = str(uuid.uuid4())
        name = "verb:hook" if self._told_by_hook else type_
        return Letter(msgid, json.dumps(payloads.message(name, self._call_sid, msgid, data, hook)))

    async def _say(self, letter: Letter) -> None:
        if self._over.is_set() or self._app is None:
            raise HookFailed(CLOSED)
        try:
            await self._app.send(letter.text)
        except ConnectionClosed as exc:
            raise HookFailed(BROKEN) from exc
        letter.settle()

    def _spawn(self, coroutine: Any) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name="gateway")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _fields(self, **fields: Any) -> dict[str, Any]:
        return {"app": self._name, "call_sid": self._call_sid, **fields}


class _Side:
    """A gateway as the control socket of the agent that runs here: it is open already, and outlives the agent."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.where = gateway.where

    async def open(self) -> Verbs:
        return []

    async def run(self) -> None:
        await self._gateway.wait()

    async def status(self, payload: Payload) -> None:
        """That is told by jambonz."""

    async def aclose(self) -> None:
        """It goes on without us."""

    def channel(self, hook: str) -> Channel:
        return PathChannel(self._gateway, hook)


def _info(data: Any) -> Payload:
    known = set(payloads.CALL_INFO.values())
    return {key: value for key, value in data.items() if key in known} if isinstance(data, dict) else {}
