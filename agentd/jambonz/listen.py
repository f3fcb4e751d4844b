"""The listen socket: a websocket that jambonz opens becomes a call.

Whoever may come in is accepted before anything else is done: jambonz waits 1.5 s for it, and a vendor may take longer.
"""

import asyncio
import logging
import os
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.websockets import WebSocket

from agentd import access, logs, reception
from agentd.call.ear import webrtc_detector
from agentd.call.outcome import Outcome
from agentd.errors import DISCONNECTED, NORMAL, SERVER_ERROR, SERVER_FAILURE, AgentdError, CallRefused
from agentd.jambonz import outbox, wire
from agentd.jambonz.beginning import Beginning
from agentd.jambonz.lane import lane_of
from agentd.jambonz.line import Line
from agentd.jambonz.outbox import GONE, Outbox
from agentd.jambonz.recorder import Recorder
from agentd.jambonz.session import CallSession
from agentd.jambonz.tickets import PREFIX, Ticket, Tickets
from agentd.jambonz.wire import CallInfo
from agentd.ops.admission import Admission
from agentd.ops.bus import Bus, bus_of
from agentd.ops.journal import Journals, journals_of
from agentd.ops.log import EventLog
from agentd.ops.metrics import Metrics
from agentd.ops.monitor import LoopMonitor
from agentd.ops.recordings import Recordings, recordings_of
from agentd.ops.registry import LiveCall, LiveCalls, account_of
from agentd.outbound.guard import Guard
from config.files import Config
from providers.base import ProviderError
from providers.registry import Shared, UnknownVendor

log = logging.getLogger("agentd.listen")

METADATA_WAIT = 5.0  # seconds for the first message
CLOSE_WAIT = 2.0  # seconds for the last messages and the close handshake
NORMAL_CLOSE = (1000, "")
FLOOD = 10.0  # seconds of audio beyond twice the time that has passed: no telephone speaks so fast …
TEXT = 0.01  # … and each text message counts as so many of them: keys and marks are few


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class Node:
    """What all calls of this process share. ``detector_for`` makes a voice detector for a rate; ``ready`` is cleared
    while the server starts: a call that comes before its vendors can be asked waits for it.
    """

    config: Config
    shared: Shared = field(default_factory=Shared)
    calls: LiveCalls = field(default_factory=LiveCalls)
    tickets: Tickets = field(init=False)  # of agents that wait for their audio
    detector_for: Any = webrtc_detector
    ready: asyncio.Event = field(default_factory=_set_event)
    observers: list[Any] = field(default_factory=list)  # called with (agent's name, EventLog) as each call begins
    listening: int = 0  # listen sockets, until their calls' last hooks are told
    bus: Bus = field(init=False)  # to the other processes of this server, and of its cluster
    admission: Admission = field(init=False)
    monitor: LoopMonitor = field(init=False)
    metrics: Metrics = field(default_factory=Metrics)
    console_key: str = field(default_factory=lambda: access.console_key(os.environ), repr=False)
    journals: Journals | None = field(init=False)  # of calls that another process could go on with
    recordings: Recordings | None = field(init=False)  # of calls whose agent has `record`

    def __post_init__(self) -> None:
        self.bus = bus_of(self.config.server, os.environ)
        self.tickets = Tickets(self.bus.name)
        self.journals = journals_of(self.config.server, os.environ)
        is_wanted = any(agent.record for agent in self.config.agents.values())
        self.recordings = recordings_of(self.config.server, is_wanted=is_wanted)
        limits = self.config.server.limits
        self.admission = Admission(limits)
        self.monitor = LoopMonitor(limits.stall_ms / 1000, self._measured)
        self.admission.on_refused = self.metrics.refused
        self.observers.append(self.metrics.observe)

    def _measured(self, lag: float, cpu: float, now: float) -> None:
        self.admission.decide(lag, cpu, now)
        self.metrics.loop(lag, cpu)

    @property
    def guard(self) -> Guard:
        """The one of this server; closed with what vendors share."""
        return self.shared.get("guard", lambda: Guard.of(self.config.server))

    def began(self, agent: str, events: EventLog) -> None:
        for observer in self.observers:
            observer(agent, events)


class ListenSocket:
    """One accepted socket, from its first message to its close."""

    def __init__(self, node: Node, socket: WebSocket) -> None:
        self._node = node
        self._socket = socket
        self._session: CallSession | None = None
        self._live: LiveCall | None = None
        self._outcome = Outcome(SERVER_FAILURE)  # of a call that did not begin
        self._close = NORMAL_CLOSE
        self._is_gone = False
        self._bytes_a_second = 0  # of the caller's audio
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._came = 0  # bytes of audio, and as many for a text
        self._strange = 0  # text messages that we do not know

    def displace(self, code: int, reason: str) -> None:
        self._give_up(code, reason, DISCONNECTED)

    def _give_up(self, code: int, reason: str, outcome: str) -> None:
        self._close = (code, reason)
        if self._session is not None:
            self._session.stop(outcome)

    async def run(self) -> None:
        """Accept, listen to what the call is, and hold it. Raises nothing: the peer is told by the close code, or by
        an HTTP status where its credentials are for other agents.
        """
        socket = self._socket
        asked = str(socket.path_params.get("agent", ""))
        name = self._node.tickets.app_of(asked) or asked  # a token is for one of an application's agents
        rights = access.rights_of(socket.scope)
        if not rights.has_agent(name):
            self._refused("access")
            await access.refuse(access.unauthorized("listen"), socket.scope, socket.send)
            return
        await socket.accept(wire.subprotocol(socket.scope.get("subprotocols", [])))
        try:
            await self._run(name, asked, rights)
        except (AgentdError, ProviderError, UnknownVendor, ImportError) as exc:
            log.warning("call refused", extra={"agent": _shown(name), "reason": str(exc)})
            self._refused("vendor" if isinstance(exc, ProviderError | UnknownVendor | ImportError) else "request")
            self._close = (exc.code if isinstance(exc, CallRefused) else 1011, str(exc))
            if isinstance(exc, ProviderError):
                self._outcome = Outcome(SERVER_ERROR, exc)
        except Exception:
            log.exception("listen socket crashed", extra={"agent": _shown(name)})
            self._refused("crash")
            self._close = (1011, SERVER_FAILURE)
        finally:
            await self._shut()
            try:
                if self._session is not None:
                    await self._session.end(self._outcome)
            finally:
                if self._live is not None:
                    self._live.over()

    async def _run(self, name: str, asked: str, rights: access.Rights) -> None:
        first = await self._first_message()
        reception.begun(self._socket.scope)
        info = wire.metadata(first)
        if not rights.has(name, account_of(info.metadata)):
            raise CallRefused("expected a call of an account that these credentials are for, got one of another")
        await self._node.ready.wait()
        node, ticket = self._node, self._node.tickets.take(asked, info.call_sid)
        rate = wire.playback_rate(self._socket.query_params.get("playback_rate"), info.rate)
        loop = asyncio.get_running_loop()
        beginning = Beginning(node.config, node.guard, asked, info, ticket)
        port, events = Outbox(self._socket, rate), EventLog(loop.time, _about(info, ticket))
        recorder = None
        if node.recordings is not None and beginning.may_be_recorded:
            recorder = Recorder(node.recordings, name, info, rate, port.taps, events)
        line = Line(
            node.config.server,
            node.shared,
            beginning.guard,
            port,
            info,
            rate,
            node.detector_for,
            events,
            recorder=recorder,
        )
        self._bytes_a_second = info.rate * info.channels * 2
        self._session = session = CallSession(beginning, line)
        logs.CALL_SID.set(info.call_sid)
        log.info("call began", extra={"agent": name, "call_sid": info.call_sid, "rate": info.rate, "playback": rate})
        events.append("call_began", **_began(name, info, rate))
        node.began(name, events)
        self._live = live = LiveCall(info.call_sid, name, info.metadata, session, self.displace, loop.time())
        node.calls.add(live)
        try:
            await self._hold(session, port)
        finally:
            node.calls.remove(live)

    async def _first_message(self) -> str:
        try:
            async with asyncio.timeout(METADATA_WAIT):
                message = await self._socket.receive()
        except TimeoutError as exc:
            raise CallRefused(f"expected the call's metadata within {METADATA_WAIT:.0f} s, got nothing") from exc
        if message["type"] == "websocket.disconnect":
            self._is_gone = True
            raise CallRefused("expected the call's metadata, the socket was closed instead")
        if message.get("text") is None:
            got = len(message.get("bytes") or b"")
            raise CallRefused(f"expected the call's metadata as the first message, got {got} bytes of audio")
        return str(message["text"])

    async def _hold(self, session: CallSession, port: Outbox) -> None:
        """Run the session, read and write beside it, and end all three together."""
        reader = asyncio.create_task(self._read(session), name="listen-read")
        writer = asyncio.create_task(port.write(), name="listen-write")
        choked = asyncio.create_task(self._watch(port), name="listen-watch")
        longest = asyncio.get_running_loop().call_later(self._node.config.server.limits.call_seconds, self._too_long)
        try:
            self._outcome = outcome = await session.run()
            self._log_end(outcome, session)
            if not self._is_gone and self._close == NORMAL_CLOSE:
                # The listen verb ends and its actionHook runs: that is how a call moves on.
                port.send_json({"type": "disconnect"})
                port.close()
                await asyncio.wait([writer], timeout=CLOSE_WAIT)
        finally:
            longest.cancel()
            tasks = (reader, writer, choked)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, session: CallSession) -> None:
        try:
            await self._receive(session)
        except Exception:
            # Nobody else would notice that the call is deaf.
            log.exception("listen socket cannot be read")
            self._give_up(1011, SERVER_FAILURE, SERVER_FAILURE)

    async def _receive(self, session: CallSession) -> None:
        if (lane := lane_of(self._socket.scope)) is not None:
            lane.divert(partial(self._heard_safely, session))
        text_size = int(self._bytes_a_second * TEXT)
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                self._is_gone = True
                break
            if (data := message.get("bytes")) is not None:
                self._heard(session, data)
            elif (text := message.get("text")) is not None:
                self._counted(text_size)
                self._told(session, text)
        session.hung_up()

    def _heard(self, session: CallSession, data: bytes) -> None:
        """Caller audio, whichever way it came. A plain call."""
        if not data:
            session.hung_up()  # a zero-length frame announces the end
        else:
            self._counted(len(data))
            session.hear(data)

    def _heard_safely(self, session: CallSession, data: bytes) -> None:
        try:
            self._heard(session, data)
        except Exception:
            log.exception("listen socket cannot be read")
            self._give_up(1011, SERVER_FAILURE, SERVER_FAILURE)

    def _counted(self, size: int) -> None:
        self._came += size
        if (
            self._came > self._bytes_a_second * (FLOOD + 2 * (self._now() - self._began))
            and self._close == NORMAL_CLOSE
        ):
            log.warning("call ended", extra={"why": "more comes than can have been spoken"})
            self._give_up(1008, "expected audio as fast as it is spoken, got far more", DISCONNECTED)

    def _told(self, session: CallSession, text: str) -> None:
        match wire.message(text):
            case wire.Dtmf(digit):
                session.dtmf(digit)
            case wire.MarkReached(name, event):
                session.mark_came(name, event)
            case None:
                self._strange += 1
                if self._strange == 1:  # once a call: who sends one sends many
                    log.warning("expected dtmf or a mark, got another text message", extra={"text": text[:200]})

    def _too_long(self) -> None:
        """Nothing more is said; jambonz goes on with what comes behind the listen."""
        log.warning("call ended", extra={"why": "it is as long as limits.call_seconds allows"})
        if self._session is not None:
            self._session.log.append("limit_reached", limit="call_seconds")
            self._session.stop(NORMAL)

    async def _watch(self, port: Outbox) -> None:
        await port.is_choked.wait()
        log.warning("peer does not read", extra={"seconds": outbox.LIMIT})
        self._give_up(1013, "our audio is not read", DISCONNECTED)

    def _refused(self, reason: str) -> None:
        """Counts one that did not begin."""
        if self._session is None:
            self._node.metrics.refused(reason)

    def _log_end(self, outcome: Outcome, session: CallSession) -> None:
        error = outcome.error
        failed = {"vendor": error.vendor, "code": error.code} if error else {}
        call_sid = session.log.about["call_sid"]
        log.info(
            "call ended", extra={"call_sid": call_sid, "reason": outcome.reason, **failed, **session.meter.fields()}
        )

    async def _shut(self) -> None:
        if self._is_gone:
            return
        code, reason = self._close
        try:
            async with asyncio.timeout(CLOSE_WAIT):
                await self._socket.close(code, _close_reason(reason))
        except (TimeoutError, *GONE):
            pass  # gone meanwhile


def _about(info: CallInfo, ticket: Ticket | None) -> dict[str, str]:
    """The call, and the trace that it is a part of."""
    known = {"call_sid": info.call_sid, "trace_id": info.metadata.get("traceId"), "b3": ticket.b3 if ticket else ""}
    return {name: value for name, value in known.items() if isinstance(value, str)}


def _began(agent: str, info: CallInfo, playback_rate: int) -> dict[str, Any]:
    """What a log begins with: it may be read when nothing else of the call is left."""
    told = {"call_sid": info.call_sid, "account_sid": account_of(info.metadata), "agent": agent}
    told |= {key: info.metadata[key] for key in ("from", "to", "direction") if info.metadata.get(key) is not None}
    return {**told, "rate": info.rate, "playback_rate": playback_rate}


def _shown(name: str) -> str:
    return "a token" if name.startswith(PREFIX) else name


def _close_reason(text: str) -> str:
    """A close frame holds 123 bytes."""
    return text.encode(errors="replace")[:123].decode(errors="ignore")
