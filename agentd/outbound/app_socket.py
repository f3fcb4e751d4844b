"""The control socket of an application, with agentd in jambonz's place: we dial, the application is the server.

    new ──open──> open ──it broke──> lost ──session:reconnect──> open
                   └──closed by either side──> over <──five tries──┘

What is asked while it is lost waits for the next connection, each up to its own deadline. What was asked on a
connection that broke has failed: the SDKs answer on the connection that the question came by, and on no other.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from agentd.outbound.answers import DONE
from agentd.outbound.app_dial import CLOSE, dial, hears_only_hooks
from agentd.outbound.channel import Channel, HookFailed, PathChannel, Verbs
from agentd.outbound.guard import Guard
from agentd.outbound.sending import Letter, Questions, Sending, too_late
from agentd.outbound.webhook import where
from config.commands import Ack, Command, Malformed, Message, ToolOutput, Update, parse
from config.payloads import Payload

log = logging.getLogger("agentd.outbound.app_socket")

ACK = 5.0  # seconds, and as jambonz has it
TRIES = 5  # to find a lost application again
PAUSE = 0.5  # seconds before the first of them; each further one waits twice as long
# For a new call, with the same pauses. The Node SDK compiles its schemas anew for every call: until that is done, half
# a second and more, it accepts no other.
FIRST_TRIES = 3
DELIVERY = 20.0  # seconds for a message without an answer: longer than all the pauses together
LARGE = 64 * 1024  # characters of a message that is worth a warning: how much an application takes is not known
DELIBERATE = (1000, 1005)  # close codes: the Node SDK's `session.close()` gives none, which reads as 1005

CLOSED = "the connection to the application is closed"
BROKEN = "the connection to the application broke before it answered"


class AppSocket:
    """The application of one call. ``info`` is what it is told of the call, in session:new and beside what its
    actionHook is asked; it is read each time. ``on_command`` gets what it wants of the call, by a plain call.
    ``tool_seconds`` is all that a tool call may take. ``told_as`` is how events and tool calls are sent: ``agent``
    (``agent:event``, ``agent:tool-call``) or ``verb`` (``verb:hook``); left out, as its SDK understands it.

    :meth:`open` it, keep :meth:`run` running, then :meth:`status` and :meth:`aclose`.
    """

    def __init__(
        self,
        guard: Guard,
        url: str,
        *,
        call_sid: str,
        info: Payload,
        username: str | None = None,
        password: str | None = None,
        on_command: Callable[[Command | Update], None],
        tool_seconds: float = 20.0,
        told_as: Literal["agent", "verb"] | None = None,
    ) -> None:
        self.where = where(url)
        self._dial = partial(dial, guard, url, username, password)
        self._call_sid = call_sid
        self._info = info
        self._on_command = on_command
        self._tool_seconds = tool_seconds
        self._told_as = told_as
        self._is_told_by_hook = told_as == "verb"
        self._connection: ClientConnection | None = None
        self._sending = Sending()
        self._acks = Questions()  # by msgid
        self._tools = Questions()  # by tool_call_id
        # The Node SDK answers the latest message that wants an ack, whichever it was asked about: one at a time.
        self._asking = asyncio.Lock()
        self.left = asyncio.Event()  # closed for good, by either side
        self.is_lost = False  # … and not because either wanted it
        self._closing = asyncio.Event()
        self._is_running = False
        self._is_over = False

    # The connection --------------------------------------------------------------------------------------

    async def open(self) -> Verbs:
        """Dial, tell of the call, and return the verbs that the application wants. Raises :class:`HookFailed`."""
        for attempt in range(FIRST_TRIES - 1):
            try:
                return await self._connect("session:new")
            except HookFailed as exc:
                if not exc.may_retry or self._closing.is_set():
                    raise
                log.info("application not found", extra=self._fields(attempt=attempt + 1, error=str(exc)))
            await self._pause(attempt)
        return await self._connect("session:new")

    async def run(self) -> None:
        """Read and write until the socket is closed for good: by either side, or after the last try to get it back."""
        self._is_running = True
        try:
            while (connection := self._connection) is not None:
                code = await self._serve(connection)
                self._connection = None
                self._acks.fail(BROKEN, only_sent=True)
                self._tools.fail(BROKEN, only_sent=True)
                if self._closing.is_set() or code in DELIBERATE:
                    break
                log.warning("application lost", extra=self._fields(code=code))
                self.is_lost = not await self._find_again()
        finally:
            self._is_running = False
        self._end()

    async def status(self, payload: Payload) -> None:
        """Tell how the call stands (``call_status``, ``duration``, …). Raises :class:`HookFailed`."""
        if self._connection is None:  # the end of a call does not wait for one that is lost
            raise HookFailed(CLOSED)
        letter = self._put(self._letter("call:status", {**self._told(), **payload}))
        if not self._is_running:  # the call's tasks have ended already
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._flush(self._connection), CLOSE)
        await letter.delivered(ACK)

    async def aclose(self) -> None:
        """Close it. Nothing more is sent; whoever waits for an answer gets :class:`HookFailed`."""
        self._closing.set()
        if self._connection is not None:
            await self._connection.close(1000)
        if not self._is_running:
            self._end()

    async def _pause(self, attempt: int) -> None:
        """Not longer than until :meth:`aclose`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), PAUSE * 2**attempt)

    async def _reach(self) -> ClientConnection:
        if self._closing.is_set():
            raise HookFailed(CLOSED)
        connection = self._connection = await self._dial()
        if self._told_as is None:
            self._is_told_by_hook = hears_only_hooks(connection)
        return connection

    async def _connect(self, type_: str) -> Verbs:
        connection = await self._reach()
        try:
            if self._closing.is_set():
                raise HookFailed(CLOSED)
            verbs = await self._greet(connection, type_)
        except BaseException:
            self._connection = None
            connection.transport.abort()
            raise
        log.info("application connected", extra=self._fields(type=type_))
        return verbs

    async def _greet(self, connection: ClientConnection, type_: str) -> Verbs:
        """Before this is answered nothing else is sent. Other messages may come in first."""
        letter = self._letter(type_, self._session())
        with self._acks.ask(letter.msgid, letter) as question:
            try:
                async with asyncio.timeout(ACK):
                    await connection.send(letter.text)
                    letter.settle()
                    while not question.answer.done():
                        await self._take(await connection.recv())
            except TimeoutError:
                raise too_late(ACK, letter) from None
            except ConnectionClosed:
                raise HookFailed(BROKEN) from None
            verbs: Verbs = question.result()
            return verbs

    async def _serve(self, connection: ClientConnection) -> int:
        """Returns the code with which it was closed."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(connection))
            try:
                while True:
                    await self._take(await connection.recv())
            except ConnectionClosed:
                writing.cancel()
        return connection.close_code or 1006

    async def _find_again(self) -> bool:
        for attempt in range(TRIES):
            await self._pause(attempt)
            try:
                await self._connect("session:reconnect")  # the verbs that it names are running
                return True
            except HookFailed as exc:
                if self._closing.is_set():
                    break
                log.info("application not found", extra=self._fields(attempt=attempt + 1, error=str(exc)))
        return False

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._sending.close(CLOSED)
            self._acks.fail(CLOSED)
            self._tools.fail(CLOSED)
            self.left.set()
            log.info("application left", extra=self._fields(events_dropped=self.dropped))

    @property
    def dropped(self) -> int:
        """Events that were never told."""
        return self._sending.dropped

    # What comes in ---------------------------------------------------------------------------------------

    async def _take(self, text: str | bytes) -> None:
        if not self._is_answer(message := parse(text)):
            await self._unasked(text, message)

    def _is_answer(self, message: Message) -> bool:
        """To what was asked here, and the first: then it has been given."""
        match message:
            case Ack(msgid, verbs):
                return self._acks.answer(msgid, verbs)
            case ToolOutput(tool_call_id, output):
                return self._tools.answer(tool_call_id, DONE if output is None else output)
            case Malformed(why, msgid):
                return self._acks.answer(msgid, HookFailed(f"the application's answer cannot be read: {why}"))
        return False

    async def _unasked(self, text: str | bytes, message: Message) -> None:
        """Whatever else comes. Raises nothing. The ack of a message that needs none is ignored."""
        match message:
            case ToolOutput():
                log.warning("tool output ignored: unknown, late or given before", extra=self._fields())
            case Malformed(why):
                log.warning("message ignored", extra=self._fields(error=why))
            case Command() | Update() as command:
                try:
                    self._on_command(command)
                except Exception:  # what an application wants never ends its socket
                    log.exception("command failed", extra=self._fields())

    # What goes out ---------------------------------------------------------------------------------------

    def channel(self, hook: str) -> Channel:
        """The way to the hook at this path."""
        return PathChannel(self, hook)

    async def event(self, hook: str, payload: Payload) -> None:
        letter = self._letter("verb:hook" if self._is_told_by_hook else "agent:event", payload, hook, is_event=True)
        await self._put(letter).delivered(DELIVERY)

    async def tool_call(self, hook: str, payload: Payload) -> Any:
        letter = self._letter("verb:hook" if self._is_told_by_hook else "agent:tool-call", payload, hook)
        with self._tools.ask(str(payload["tool_call_id"]), letter) as question:
            self._put(letter)
            return await question.wait(self._tool_seconds)

    async def action(self, hook: str, payload: Payload) -> Verbs:
        return await self.ask("verb:hook", hook, payload)

    async def ask(self, type_: str, hook: str, payload: Payload) -> Verbs:
        """A message that wants verbs: `verb:hook`, `session:redirect`. Raises :class:`HookFailed`."""
        async with self._asking:
            letter = self._letter(type_, {**self._told(), **payload}, hook)
            with self._acks.ask(letter.msgid, letter) as question:
                self._put(letter)
                verbs: Verbs = await question.wait(ACK)
                return verbs

    def tell(self, type_: str, payload: Payload) -> None:
        """A message that wants no answer, in its turn. A plain call. Raises :class:`HookFailed`."""
        self._put(self._letter(type_, payload))

    def _session(self) -> Payload:
        """What session:new and session:reconnect say of the call."""
        return self._told()

    def _told(self) -> Payload:
        return {**self._info, "call_sid": self._call_sid}

    def _letter(self, type_: str, data: Payload, hook: str | None = None, *, is_event: bool = False) -> Letter:
        letter = Letter.of(type_, self._call_sid, data, hook, is_event=is_event)
        if len(letter.text) > LARGE:
            log.warning("large message", extra=self._fields(type=type_, characters=len(letter.text)))
        return letter

    def _put(self, letter: Letter) -> Letter:
        if self._is_over:
            raise HookFailed(CLOSED)
        self._sending.put(letter)
        return letter

    async def _write(self, connection: ClientConnection) -> None:
        while connection.state is State.OPEN:
            await self._flush(connection)
            await self._sending.wait()

    async def _flush(self, connection: ClientConnection) -> None:
        """What waits is sent. At the connection's end the rest goes on waiting, for the next connection."""
        while connection.state is State.OPEN and (letter := self._sending.take()) is not None:
            try:
                await connection.send(letter.text)
            except ConnectionClosed:
                return
            finally:
                letter.settle()  # it may have arrived: it is not sent twice

    def _fields(self, **fields: Any) -> dict[str, Any]:
        return {"where": self.where, "call_sid": self._call_sid, **fields}
