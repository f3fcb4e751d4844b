"""One call's verbs in their order, as jambonz's call session runs them: an agent, or whatever its application wants.

    session:new ──verbs──> the stack ──> answer, agent, say, pause, config, tag, redirect, hangup
                              ^                 │
    redirect, hooks ──────────┴──── verbs ──────┘

Where jambonz runs the application's verbs (the gateway), or where there is no application, the stack is one agent. A
verb that only a telephone exchange can run is told to the application (`jambonz:error`) and passed over.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

from agentd import errors
from agentd.call.call import Call
from agentd.call.outcome import Outcome
from agentd.call.updates import UpdateRefused
from agentd.errors import AgentdError
from agentd.jambonz.beginning import Beginning, Ways
from agentd.jambonz.levels import Levels
from agentd.jambonz.line import Line
from agentd.jambonz.stage import Stage
from agentd.jambonz.talk import Talk
from agentd.ops.usage import Meter
from agentd.outbound.channel import HookFailed, Verbs
from config.commands import Command, Update, verbs
from config.conversation import Hook
from config.payloads import Payload
from config.standing import as_hook, times, words_of
from config.verb import VERBS, unwrap
from providers.base import ProviderError
from providers.registry import UnknownVendor

log = logging.getLogger("agentd.session")

EARLY = 5.0  # seconds of the caller's audio that wait for the agent
IDLE = 60.0  # seconds that an application may leave a caller alone whom nobody listens to
APOLOGY = 20.0  # seconds that it may take
UNAVAILABLE = (ProviderError, UnknownVendor, ImportError)  # what the making of a vendor raises


class CallSession:
    """One call's, from its first verb to its last. :meth:`run` it, and :meth:`end` it, whatever came of it."""

    def __init__(self, beginning: Beginning, line: Line) -> None:
        self.log = line.log
        self._beginning = beginning
        beginning.on_command = self.command
        self._line = line
        self._stack: deque[dict[str, Any]] = deque()
        self._early = bytearray()  # the caller's audio while nobody has the line …
        self._most = int(EARLY * line.info.rate) * line.info.channels * 2  # … the oldest is dropped
        self._came = asyncio.Event()  # something that the end of the stack waits for
        self._replaced = 0  # how often the stack was
        self.part: Call | None = None  # the agent that is running
        self._ways: Ways | None = None  # … and its ways outside, until its actionHook is told
        self._talk = Talk(beginning, line, self)
        self._levels: Levels | None = None
        self._main: asyncio.Task[None] | None = None
        self._verb: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._outcome: Outcome | None = None
        self._is_stuck = False  # the application wants nothing that can be done

    async def run(self) -> Outcome:
        """Until the last verb, or until somebody ends it. Raises what the making of an agent raises."""
        self._main = asyncio.create_task(self._run(), name="session")
        try:
            await asyncio.wait([self._main])
        finally:
            for task in (self._main, *self._tasks):
                task.cancel()
            await asyncio.gather(self._main, *self._tasks, return_exceptions=True)
            await self._talk.leave()
        if not self._main.cancelled():
            self._main.result()
        return self._outcome or Outcome(errors.NORMAL)

    async def end(self, outcome: Outcome) -> None:
        """What is left to be told, and goodbye to the application."""
        told = outcome.payload(self._line.server.events.names)
        self.log.append("call_ended", **told, usage=self._line.meter.total())
        if (recorder := self._line.recorder) is not None:
            recorder.stop()
        next_: Verbs = []
        try:
            if self._ways is None and (ticket := self._beginning.ticket) is not None:  # its agent has not begun
                self._ways = Ways(self._beginning, self._beginning.agent(unwrap(ticket.verb)))
            if self._ways is not None:
                next_ = await self._finished(self._ways, outcome)
                wanted = [str(verb.get("verb")) for verb in next_]
                if wanted and self._beginning.ticket is None:
                    # The listen verb's own actionHook says what comes next, and jambonz asks that.
                    log.info("verbs of the actionHook are not run here", extra=self._fields(verbs=wanted))
        finally:
            try:
                await self._beginning.end(next_)
            finally:
                if recorder is not None:
                    await recorder.aclose()

    async def _finished(self, ways: Ways, outcome: Outcome) -> Verbs:
        wanted = await ways.finish(outcome)
        if ways.dropped:
            self.log.append("events_dropped", dropped=ways.dropped)
        return wanted

    @property
    def meter(self) -> Meter:
        """What the call has used."""
        return self._line.meter

    # What the wire brings --------------------------------------------------------------------------------

    @property
    def _on_line(self) -> Call | Stage | None:
        return self.part or self._talk.stage

    def hear(self, data: bytes) -> None:
        """Caller audio, any length. A plain call."""
        for tap in self._line.port.taps[:]:
            tap.heard(data)
        if (part := self._on_line) is not None:
            part.hear(data)
        else:
            self._early += data  # for the agent that is about to begin: they may have spoken already
            del self._early[: -self._most]

    def _catch_up(self) -> None:
        early, self._early = bytes(self._early), bytearray()
        if early and self.part is not None:
            self.part.hear(early)

    def dtmf(self, digit: str) -> None:
        if (part := self._on_line) is not None:
            part.dtmf(digit)

    def mark_came(self, name: str, event: str) -> None:
        if (part := self._on_line) is not None:
            part.sender.mark_came(name, event)

    def hung_up(self) -> None:
        """The media is gone."""
        self._stop(Outcome(errors.DISCONNECTED))

    # What is asked of it from outside ---------------------------------------------------------------------

    @property
    def state(self) -> str:
        """Where the conversation stands (:class:`turn.states.State`); ``waiting`` between verbs."""
        part = self._on_line
        return "waiting" if part is None else part.machine.state.name.lower()

    def update(self, data: Mapping[str, Any]) -> None:
        """A mid-conversation update. A plain call; what cannot be done is an AgentdError that says why."""
        if self.part is None:
            raise UpdateRefused("expected an agent that is running, got none")
        self.part.update(data)

    def noise_isolation(self, data: Mapping[str, Any]) -> None:
        """The data of the command `noiseIsolation:status`."""
        if (part := self._on_line) is not None:
            part.noise_isolation(data)

    def watch(self, seconds: float) -> None:
        """Somebody looks at the call's timeline: how loud it is goes into the log, for so long at least."""
        if self._levels is None:
            line, info = self._line, self._line.info
            rates = {"rate": info.rate, "channels": info.channels, "playback_rate": line.playback_rate}
            self._levels = Levels(line.port.taps, self.log, **rates)
        self._levels.watch(seconds)

    def stop(self, reason: str) -> None:
        """The server wants the call to end."""
        self._stop(Outcome(reason))

    def command(self, command: Command | Update) -> None:
        """What the application sends unasked. A plain call. What cannot be done is told in the log, and to it."""
        name = command.name if isinstance(command, Command) else "agent:update"
        try:
            self._obey(command)
        except AgentdError as exc:
            log.warning("command of the application ignored", extra=self._fields(command=name, why=str(exc)))
            self.tell("jambonz:error", {"msg": f"{name} is not done", "details": str(exc)})

    def _obey(self, command: Command | Update) -> None:
        match command:
            case Update(data):
                self.update(data)
            case Command("noiseIsolation:status", dict() as data):
                self.noise_isolation(data)
            case _ if self._beginning.socket is None:
                raise AgentdError("expected agent:update or noiseIsolation:status: jambonz runs the others")
            case Command("redirect", {"call_hook": str(hook)}):
                self._spawn(self._redirected(hook))
            case Command("redirect", data, message):
                self._take(_read(data), is_more=message.get("queueCommand") is True)
            case Command("config", dict() as data):
                self._spawn(self._config(data))
            case Command("tag", data):
                self._tag(data)
            case Command("call:status", {"call_status": "completed" | "no-answer"}):
                self._stop(Outcome(errors.NORMAL))
            case Command("tts:tokens", {"id": id_, "tokens": str(tokens)}):
                self.tell("tts:tokens-result", {"id": id_, **self._talk.tokens(tokens)})
            case Command("tts:flush"):
                self._talk.flush()
            case Command("tts:clear"):
                self._talk.clear()
            case _:
                raise AgentdError("expected what a call without a telephone exchange can do")

    # Verbs -----------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        first = await self._beginning.verbs()
        self._stack.extend(first or [{"verb": VERBS[0]}])
        if (socket := self._beginning.socket) is not None:
            self._spawn(self._until_left(socket.left))
        while (verb := await self._next()) is not None:
            self._verb = asyncio.create_task(self._do(verb), name=f"verb-{verb.get('verb')}")
            try:
                await asyncio.wait([self._verb])
            finally:
                self._verb.cancel()
                await asyncio.gather(self._verb, return_exceptions=True)
            if not self._verb.cancelled():
                self._verb.result()

    async def _until_left(self, left: asyncio.Event) -> None:
        await left.wait()
        self._came.set()

    async def _next(self) -> dict[str, Any] | None:
        """The next verb. With none left jambonz waits for what the application wants then, and so do we."""
        socket = self._beginning.socket
        while not self._stack:
            if self._outcome is not None or socket is None:
                return None
            if self._is_stuck or socket.is_lost:
                await self._apologise()
                return None
            if socket.left.is_set():
                return None
            self._came.clear()
            try:
                async with asyncio.timeout(None if self._talk.is_busy else IDLE):
                    await self._came.wait()
            except TimeoutError:
                self._is_stuck = True
        return self._stack.popleft()

    def _take(self, wanted: Verbs, *, is_more: bool = False) -> None:
        """These come next, in place of what was to come and of what is running; ``is_more``: behind it."""
        self._is_stuck = self._is_stuck and not wanted
        if not is_more:
            self._replaced += 1
            self._stack.clear()
            if self.part is not None:
                self.part.stop(errors.DISCONNECTED)
            elif self._verb is not None and self._verb is not asyncio.current_task():
                self._verb.cancel()
        self._stack.extend(wanted)
        self._came.set()

    async def _do(self, verb: dict[str, Any]) -> None:
        name = str(verb["verb"])
        told = {"name": name, **({"id": verb["id"]} if "id" in verb else {})}
        self._notify({"event": "starting", **told})
        self._is_stuck = False
        match name:
            case "answer":
                pass
            case _ if name in VERBS:
                await self._agent(verb)
            case "say" if verb.get("stream") is True and not words_of(verb.get("text")):
                await self._stream(verb)
            case "say":
                await self._say(verb)
            case "pause":
                await self._pause(verb)
            case "config":
                await self._config(verb)
            case "tag":
                self._tag(verb.get("data"))
            case "redirect":
                await self._redirect(verb)
            case "hangup":
                self._outcome = Outcome(errors.NORMAL)
                self._stack.clear()
            case _:
                self._not_run(name, "expected a verb that needs no telephone exchange")
                self._is_stuck = not self._stack
        self._notify({"event": "finished", **told})

    async def _agent(self, verb: Mapping[str, Any]) -> None:
        await self._talk.leave()
        if self._ways is not None:  # of an agent that was replaced before it ran
            self._spawn(self._ways.finish(Outcome(errors.DISCONNECTED)))
        agent = self._beginning.agent({**self._talk.standing.verb, **unwrap(verb)})
        if self._line.recorder is not None:
            self._line.recorder.agent_begins(is_recorded=agent.record)
        self._ways = ways = Ways(self._beginning, agent)
        call = self._line.call(agent, await ways.outside())
        self.part = call
        asyncio.get_running_loop().call_soon(self._catch_up)  # once it runs
        try:
            outcome = await call.run()
        finally:
            self.part = None
        if self._outcome is not None or self._beginning.socket is None:
            self._outcome = self._outcome or outcome
            return  # its actionHook is told when the media is gone: the caller waits for nothing
        replaced = self._replaced
        wanted = await self._finished(ways, outcome)
        self._ways = None
        if replaced != self._replaced:
            return
        if wanted:
            self._take(wanted)
        elif not self._stack:
            self._outcome = outcome  # what comes behind the listen is jambonz's to do

    async def _say(self, verb: Mapping[str, Any]) -> None:
        texts, rest = words_of(verb.get("text")), times(verb.get("loop"))
        if not texts:
            self._not_run("say", "expected a text")
            return
        while rest is None or rest > 0:
            rest = None if rest is None else rest - 1
            try:
                said = await self._talk.say(random.choice(texts), verb.get("synthesizer"))
            except UNAVAILABLE as exc:
                self._not_run("say", f"expected a voice, got {type(exc).__name__}")
                return
            if said.error is not None:
                self._not_run("say", f"expected a voice, got {said.error.code}")
            if said.is_interrupted or not said.heard:
                return

    async def _stream(self, verb: Mapping[str, Any]) -> None:
        """`say` without a text: what is streamed while it runs is said."""
        await self._talk.stream(is_on=True)
        has_spoken = False
        while not has_spoken or self._talk.is_streaming or verb.get("closeStreamOnEmpty") is False:
            self._came.clear()
            await self._came.wait()
            has_spoken = has_spoken or self._talk.is_streaming
        await self._talk.stream(is_on=False)

    async def _pause(self, verb: Mapping[str, Any]) -> None:
        length = verb.get("length")
        if isinstance(length, bool) or not isinstance(length, int | float) or not 0 <= length <= 3600:
            self._not_run("pause", "expected a length in seconds")
            return
        await asyncio.sleep(length)

    def _tag(self, data: Any) -> None:
        if isinstance(data, dict):
            self._beginning.application.tag(data)
        else:
            self._not_run("tag", "expected data as an object")

    async def _config(self, data: Mapping[str, Any]) -> None:
        for problem in await self._talk.configure(data, is_free=self.part is None):
            self._not_run(problem, "expected what a call without a telephone exchange has")

    async def _redirect(self, verb: Mapping[str, Any]) -> None:
        hook = as_hook(verb.get("actionHook"))
        channel = self._beginning.application.channel(hook) if isinstance(hook, Hook) else None
        if channel is None:
            self._not_run("redirect", "expected an actionHook")
            return
        try:
            self._take(await channel.action({"call_status": "in-progress"}))
        except HookFailed as exc:
            log.warning("redirect failed", extra=self._fields(error=str(exc)))
            self._stack.clear()
            self._is_stuck = True

    async def _redirected(self, hook: str) -> None:
        """The command `redirect` with a `call_hook`: the call goes on as it is when that does not answer."""
        socket = self._beginning.socket
        assert socket is not None, "a command came by it"
        try:
            if "://" in hook:
                channel = self._beginning.application.channel(Hook(url=hook))
                self._take([] if channel is None else await channel.action({"call_status": "in-progress"}))
            else:
                self._take(await socket.ask("session:redirect", hook, {"call_status": "in-progress"}))
        except HookFailed as exc:
            log.warning("redirect failed", extra=self._fields(error=str(exc)))

    async def _apologise(self) -> None:
        """The application leaves the caller alone: they are told, and the call ends."""
        app = self._beginning.app
        assert app is not None, "its verbs were run"
        log.warning("the caller hears an apology", extra=self._fields())
        self._outcome = Outcome(errors.SERVER_FAILURE)
        try:
            async with asyncio.timeout(APOLOGY):
                await self._talk.say(app.apology)
        except (TimeoutError, *UNAVAILABLE) as exc:
            log.warning("no apology", extra=self._fields(error=type(exc).__name__))

    # Telling ---------------------------------------------------------------------------------------------

    def _not_run(self, what: str, why: str) -> None:
        """Of what the application wants, this is not done: it is told as jambonz tells it, and so is the operator."""
        log.warning("not run", extra=self._fields(what=what, why=why))
        self.tell("jambonz:error", {"msg": f"{what} is not run", "details": why, "verb": what})

    def _notify(self, payload: Payload) -> None:
        if self._talk.standing.notifies:
            self.tell("verb:status", payload)

    def tell(self, type_: str, payload: Payload) -> None:
        if (socket := self._beginning.socket) is None:
            return
        try:
            socket.tell(type_, payload)
        except HookFailed as exc:
            log.info("application not told", extra=self._fields(type=type_, error=str(exc)))

    # What the talk tells ---------------------------------------------------------------------------------

    def heard(self, hook: Hook, payload: Payload) -> None:
        """The caller spoke, and `bargeIn` has a hook for it."""
        self._spawn(self._ask(hook, payload))

    async def _ask(self, hook: Hook, payload: Payload) -> None:
        channel = self._beginning.application.channel(hook)
        try:
            wanted = await channel.action(payload) if channel is not None else []
        except HookFailed as exc:
            log.warning("hook failed", extra=self._fields(hook="bargeIn", error=str(exc)))
            return
        if wanted:
            self._take(wanted)

    def changed(self) -> None:
        """Something was said, or begins to be."""
        self._came.set()

    def broke(self, outcome: Outcome) -> None:
        """Nothing can be said or heard any more."""
        self._stop(outcome)

    # The end ---------------------------------------------------------------------------------------------

    def _stop(self, outcome: Outcome) -> None:
        if self._outcome is None:
            self._outcome = outcome
        self._stack.clear()
        if self.part is not None:
            self.part.stop(self._outcome.reason)
        elif self._main is not None:
            self._main.cancel()

    def _spawn(self, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name="session-aside")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fields(self, **fields: Any) -> dict[str, Any]:
        return self._beginning.fields(**fields)


def _read(data: Any) -> Verbs:
    """The verbs of a command. Raises AgentdError."""
    try:
        return verbs(data)
    except ValueError as exc:
        raise AgentdError(str(exc)) from exc
