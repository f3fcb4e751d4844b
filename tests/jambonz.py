"""jambonz as the peer of a whole-call test: it dials an agent, speaks, listens, and answers marks as it really does.

    async with FakeJambonz(app, agent="demo") as call:
        await call.until(lambda: call.is_audible)
        call.say(voice(1.5))
        await call.until(lambda: not call.is_audible)
        call.hang_up()

``FakeJambonz`` drives an ASGI application without sockets and so runs under virtual time; ``dial(url)`` is the same
call over a real websocket. Every 20 ms, by absolute deadlines, both play 20 ms of what came (``call.media``), send
20 ms of the caller, then the marks that were reached. All times are seconds since the metadata was sent.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from urllib.parse import quote, urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from agentd.jambonz.media import FRAME_SECONDS, MediaSide

SUBPROTOCOL = "audio.drachtio.org"
AUDIBLE_PEAK = 100  # below it a frame counts as silence that was sent, e.g. the padding of a tail
MAX_METADATA_BYTES = 8192
APP_ENDS_WITHIN = 60.0  # seconds after the call's end; the longest wait of a server that writes its last hooks

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Event(NamedTuple):
    """One line of a call's timeline.

    ``kind`` is ``sent`` or ``received`` (detail: the text message, as JSON where it is), ``audible`` and ``silent``
    (detail: None; the caller begins or ceases to hear something), ``closed`` (detail: ``Closed``).
    """

    at: float
    kind: str
    detail: Any


class Closed(NamedTuple):
    by: str  # "jambonz" or "agentd"
    code: int
    reason: str


class Refused(Exception):
    """The upgrade was answered with an HTTP status."""

    def __init__(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"expected the websocket to be accepted, got HTTP {status}: {body.decode(errors='replace')}")
        self.status, self.body, self.headers = status, body, dict(headers or {})


def metadata(**more: Any) -> dict[str, Any]:
    r"""The first message of a call to ``demo``; the keys of the verb's ``metadata`` stand among the others.

    The feature server escapes their string values once before JSON escapes them again (``\\"`` within the value).
    """
    return {
        "sampleRate": 8000,
        "mixType": "mono",
        "callSid": "c0ffee00-0000-4000-8000-000000000001",
        "callId": "f00dfeed-0000-4000-8000-000000000001",
        "from": "+15551230001",
        "to": "+15551230002",
        "direction": "inbound",
        "accountSid": "acc00000-0000-4000-8000-000000000001",
        "applicationSid": "app00000-0000-4000-8000-000000000001",
        "callStatus": "in-progress",
        "sipStatus": 200,
        "callerName": "Ada Caller",
        "traceId": "0123456789abcdef0123456789abcdef",
        "fsSipAddress": "10.0.0.1:5080",
        "localSipAddress": "10.0.0.2:5060",
    } | {key: _escaped(value) if isinstance(value, str) else value for key, value in more.items()}


def _escaped(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)[1:-1]


def voice(seconds: float, rate: int = 8000) -> bytes:
    """A square wave of 200 Hz: every sample of it is ±8000, so that every frame counts as voiced."""
    half = rate // 400
    samples = np.where(np.arange(round(seconds * rate)) // half % 2, -8000, 8000)
    return bytes(samples.astype("<i2"))


def quiet(seconds: float, rate: int = 8000) -> bytes:
    return bytes(2 * round(seconds * rate))


class Line(Protocol):
    """The socket under a call. What it receives it hands to ``Call.on_message`` and ``Call.on_closed``."""

    async def open(self, call: "Call") -> str | None: ...  # the chosen subprotocol; raises Refused
    def send(self, message: str | bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    async def ended(self) -> None: ...  # returns when the server is done with the call, raises what it raised


@dataclass(eq=False)
class Call:
    """A call in progress; ``FakeJambonz`` and ``dial`` make them."""

    line: Line
    sample_rate: int = 8000
    playback_rate: int | None = None  # the verb's bidirectionalAudio.sampleRate; None: it names none
    channel_rate: int = 8000
    mix_type: str = "mono"  # "mixed": caller and agent summed, "stereo": caller left, agent right
    metadata: Mapping[str, Any] | str | None = field(default_factory=dict)  # str: sent as it is; None: not sent
    frames_per_message: int = 1
    odd_bytes: bool = False  # every other message ends in the middle of a sample
    record: bool = True

    def __post_init__(self) -> None:
        self.media = MediaSide(self.channel_rate, self.playback_rate, record=self.record)
        self.timeline: list[Event] = []
        self.subprotocol: str | None = None
        self.closed: Closed | None = None
        self.is_paused = False
        self.is_audible = False
        self._caller = bytearray()
        self._unsent = bytearray()
        self._frames = 0
        self._started = 0.0
        self._waiters: dict[asyncio.Future[None], Callable[[], object]] = {}

    # What a test looks at.

    @property
    def now(self) -> float:
        return round(asyncio.get_running_loop().time() - self._started, 9)

    @property
    def is_speaking(self) -> bool:
        """Is the caller's speech, as queued by ``say``, still going on?"""
        return bool(self._caller)

    def received(self, type: str | None = None) -> list[Any]:
        """The text messages that agentd sent, all or of one type."""
        details = [event.detail for event in self.timeline if event.kind == "received"]
        return [it for it in details if type is None or (isinstance(it, dict) and it.get("type") == type)]

    def heard(self) -> list[tuple[float, float]]:
        """From when to when the caller heard something; the last span may still be open and ends now."""
        edges = [event.at for event in self.timeline if event.kind in ("audible", "silent")]
        if self.is_audible:
            edges.append(self.now)
        return list(zip(edges[::2], edges[1::2], strict=True))

    # What a test does.

    async def until(self, predicate: Callable[[], object], *, within: float = 60.0) -> float:
        """Wait for ``predicate``, asked again after each tick and message; returns the time of the call."""
        if predicate():
            return self.now
        if self.closed is not None:
            raise self._failure("before it came true the call was closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = predicate
        try:
            async with asyncio.timeout(within):
                await future
        except TimeoutError:
            raise self._failure(f"waited {within} s for it") from None
        finally:
            del self._waiters[future]
        return self.now

    async def play(self, seconds: float) -> None:
        """Let time pass, whether the call goes on or not; what falls due at the end of it has happened too."""
        await asyncio.sleep(seconds)
        await asyncio.sleep(0)  # a tick at this very instant may stand behind us in the queue

    def say(self, pcm: bytes) -> None:
        """Queue L16 mono at ``sample_rate``: the caller says it after what was queued before."""
        self._caller += pcm

    def dtmf(self, digit: str, duration: int = 1600) -> None:
        self.send({"event": "dtmf", "dtmf": digit, "duration": str(duration)})

    def pause(self) -> None:
        """``listen:status pause``: no frames are sent; what the caller says meanwhile is lost."""
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False

    def announce_shutdown(self) -> None:
        """The empty binary frame of a graceful shutdown."""
        self.send(b"")

    def hang_up(self, code: int = 1000, reason: str = "") -> None:
        """End the call normally: frames cease, the socket is closed."""
        if self.closed is None:
            self.line.close(code, reason)
            self.on_closed(Closed("jambonz", code, reason))

    def drop(self) -> None:
        """Vanish without a close frame (code 1006 at the other end)."""
        if self.closed is None:
            self.line.abort()
            self.on_closed(Closed("jambonz", 1006, ""))

    def send(self, message: Mapping[str, Any] | str | bytes) -> None:
        """Send a message of any kind, also one that jambonz would not."""
        if self.closed is not None:
            return
        if not isinstance(message, bytes):
            text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
            self._note("sent", _from_json(text))
            message = text
        self.line.send(message)

    # The call itself.

    async def __aenter__(self) -> Self:
        self._started = asyncio.get_running_loop().time()
        self.subprotocol = await self.line.open(self)
        self._started = asyncio.get_running_loop().time()
        if isinstance(self.metadata, str):
            self.send(self.metadata)
        elif self.metadata is not None:
            first = metadata(**self.metadata) | {"sampleRate": self.sample_rate, "mixType": self.mix_type}
            size = len(json.dumps(first, ensure_ascii=False).encode())
            if size > MAX_METADATA_BYTES:
                raise ValueError(f"expected at most {MAX_METADATA_BYTES} bytes of metadata, got {size}")
            self.send(first)
        self._clock = asyncio.create_task(self._run_clock(), name="jambonz: 20 ms clock")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.hang_up()
        self._clock.cancel()
        try:
            async with asyncio.timeout(APP_ENDS_WITHIN):
                await self.line.ended()
        except TimeoutError:
            if error is None:
                raise self._failure(f"waited {APP_ENDS_WITHIN} s for the server to be done with the call") from None
        except Exception as failure:
            if error is None or isinstance(error, AssertionError):
                raise failure from error  # the test failed because the server did
            error.add_note(f"and the server failed: {failure!r}")
        with contextlib.suppress(asyncio.CancelledError):
            await self._clock

    async def _run_clock(self) -> None:
        loop = asyncio.get_running_loop()
        while self.closed is None:
            self._frames += 1
            await asyncio.sleep(self._started + self._frames * FRAME_SECONDS - loop.time())
            if self.closed is not None:
                break
            tick = self.media.tick()
            self._send_frame(tick.pcm)
            is_audible = not tick.is_idle and _peak(tick.pcm) > AUDIBLE_PEAK
            if is_audible != self.is_audible:
                self.is_audible = is_audible
                self._note("audible" if is_audible else "silent", None)
            for message in tick.messages:
                self.send(message)
            self._ask_waiters()

    def _send_frame(self, played: bytes) -> None:
        size = self.sample_rate // 50 * 2
        caller = bytes(self._caller[:size]).ljust(size, b"\0")
        del self._caller[:size]
        if self.is_paused:
            self._unsent.clear()
            return
        self._unsent += self._mix(caller, played)
        if self._frames % self.frames_per_message:
            return
        is_cut = self.odd_bytes and self._frames // self.frames_per_message % 2 == 1
        message = bytes(self._unsent[: len(self._unsent) - is_cut])
        del self._unsent[: len(message)]
        self.send(message)

    def _mix(self, caller: bytes, played: bytes) -> bytes:
        if self.mix_type == "mono":
            return caller
        left, right = np.frombuffer(caller, "<i2"), np.frombuffer(played, "<i2")
        places = np.arange(len(left)) * len(right) // len(left)  # nearest sample: nobody listens to this side
        right = right[places]
        if self.mix_type == "stereo":
            return bytes(np.column_stack((left, right)))
        return bytes(np.clip(left.astype(int) + right, -32768, 32767).astype("<i2"))

    def on_message(self, message: str | bytes) -> None:
        if self.closed is not None:
            return
        if isinstance(message, bytes):
            self.media.receive_binary(message)
        else:
            self._note("received", _from_json(message))
            self.media.receive_text(message)
            if self.media.is_disconnected:
                self.hang_up()
        self._ask_waiters()

    def on_closed(self, closed: Closed) -> None:
        if self.closed is not None:
            return
        self.closed = closed
        if self.is_audible:
            self.is_audible = False
            self._note("silent", None)
        self._note("closed", closed)
        self._ask_waiters()

    def _ask_waiters(self) -> None:
        for future, predicate in self._waiters.items():
            if future.done():
                continue
            try:
                if predicate():
                    future.set_result(None)
                elif self.closed is not None:
                    future.set_exception(self._failure("before it came true the call was closed"))
            except Exception as error:  # the test's own predicate: its failure belongs to the test
                future.set_exception(error)

    def _note(self, kind: str, detail: Any) -> None:
        self.timeline.append(Event(self.now, kind, detail))

    def _failure(self, what: str) -> AssertionError:
        return AssertionError("\n".join([f"at {self.now} s: {what}", *map(str, self.timeline[-20:])]))


class FakeJambonz(Call):
    """A call into an ASGI application. See ``Call`` for the further options."""

    def __init__(
        self,
        app: Any,
        agent: str = "demo",
        *,
        playback_rate: int | None = None,
        subprotocols: Sequence[str] = (SUBPROTOCOL,),
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
        **options: Any,
    ) -> None:
        query = ({} if playback_rate is None else {"playback_rate": str(playback_rate)}) | dict(query or {})
        line = AsgiLine(app, f"/listen/{agent}", urlencode(query), subprotocols, headers or {}, address)
        super().__init__(line, playback_rate=playback_rate, **options)


def dial(
    url: str,
    *,
    subprotocols: Sequence[str] = (SUBPROTOCOL,),
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Call:
    """A call over a real websocket, in real time. ``url`` is whole, with ``playback_rate`` where it is needed."""
    return Call(SocketLine(url, subprotocols, headers or {}), **options)


class AsgiLine:
    """The websocket server's part of ASGI 3, as uvicorn plays it."""

    def __init__(
        self,
        app: AsgiApp,
        path: str,
        query: str,
        subprotocols: Sequence[str],
        headers: Mapping[str, str],
        address: str,
    ) -> None:
        self._app = app
        self._scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "server": ("agentd.test", 80),
            "client": (address, 40000),
            "root_path": "",
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost")]
            + [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": list(subprotocols),
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }
        # Unbounded, like the 2 s send buffer that a server which reads at all never fills.
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._denial = Refused(500)
        self._is_over = False

    async def open(self, call: "Call") -> str | None:
        self._call = call
        self._accepted: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run_app(), name="jambonz: ASGI application")
        try:
            return await self._accepted
        except Refused:
            await self._task
            raise
        except asyncio.CancelledError:
            self._task.cancel()
            raise

    async def _run_app(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._on_send)
        except BaseException as error:
            if not self._accepted.done() and isinstance(error, Exception):
                self._accepted.set_exception(error)
                return
            self._finish(1011, "the application failed")
            raise
        if not self._accepted.done():
            self._accepted.set_exception(Refused(500, b"the application returned without an answer"))
        self._finish(1006, "the application returned")

    def _finish(self, code: int, reason: str) -> None:
        self._is_over = True
        self._call.on_closed(Closed("agentd", code, reason))

    async def _on_send(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept" if not self._accepted.done():
                self._accepted.set_result(message.get("subprotocol"))
            case "websocket.close" if not self._accepted.done():
                self._accepted.set_exception(Refused(403))
            case "websocket.http.response.start" if not self._accepted.done():
                headers = {name.decode(): value.decode() for name, value in message.get("headers", [])}
                self._denial = Refused(message["status"], headers=headers)
            case "websocket.http.response.body" if not self._accepted.done():
                denial = self._denial
                self._denial = Refused(denial.status, denial.body + message.get("body", b""), denial.headers)
                if not message.get("more_body", False):
                    self._accepted.set_exception(self._denial)
            case "websocket.send" | "websocket.close" if self._is_over:
                raise OSError("the websocket is closed")  # ASGI 2.4
            case "websocket.send":
                text, data = message.get("text"), message.get("bytes")
                self._call.on_message(text if text is not None else bytes(data or b""))
            case "websocket.close":
                code, reason = message.get("code", 1000), message.get("reason") or ""
                self._finish(code, reason)
                self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            case other:
                raise RuntimeError(f"expected an event of the ASGI websocket in its turn, got {other!r}")

    def send(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self._to_app.put_nowait({"type": "websocket.receive", kind: message})

    def close(self, code: int, reason: str) -> None:
        self._is_over = True
        self._to_app.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})

    def abort(self) -> None:
        self.close(1006, "")

    async def ended(self) -> None:
        await self._task  # cancels the application when the wait for it is cancelled


class SocketLine:
    """A client as jambonz is one: no pings, no compression."""

    def __init__(self, url: str, subprotocols: Sequence[str], headers: Mapping[str, str]) -> None:
        self._url, self._subprotocols, self._headers = url, subprotocols, headers
        # Unbounded: the socket's own buffer is behind it, and a test lasts seconds.
        self._outgoing: asyncio.Queue[str | bytes | Closed] = asyncio.Queue()

    async def open(self, call: "Call") -> str | None:
        try:
            self._socket: ClientConnection = await connect(
                self._url,
                subprotocols=[Subprotocol(name) for name in self._subprotocols],
                additional_headers=dict(self._headers),
                compression=None,
                ping_interval=None,
                max_size=None,
                max_queue=None,
                proxy=None,
            )
        except InvalidStatus as error:
            response = error.response
            raise Refused(
                response.status_code, bytes(response.body or b""), dict(response.headers.raw_items())
            ) from None
        self._reader = asyncio.create_task(self._read(call), name="jambonz: socket reader")
        self._writer = asyncio.create_task(self._write(), name="jambonz: socket writer")
        return self._socket.subprotocol

    async def _read(self, call: "Call") -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._socket:
                call.on_message(message)
        call.on_closed(Closed("agentd", self._socket.close_code or 1006, self._socket.close_reason or ""))

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                match await self._outgoing.get():
                    case Closed(code=code, reason=reason):
                        await self._socket.close(code, reason)
                        return
                    case message:
                        await self._socket.send(message)

    def send(self, message: str | bytes) -> None:
        self._outgoing.put_nowait(message)

    def close(self, code: int, reason: str) -> None:
        self._outgoing.put_nowait(Closed("jambonz", code, reason))

    def abort(self) -> None:
        self._socket.transport.abort()

    async def ended(self) -> None:
        try:
            await self._reader
        finally:
            self._writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writer
            await self._socket.close()


class Lifespan:
    """``async with Lifespan(app):`` starts and stops an ASGI application as a server does."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __aenter__(self) -> Self:
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": {}}
        self._task = asyncio.create_task(
            _await(self._app(scope, self._to_app.get, self._from_app.put)), name="jambonz: ASGI lifespan"
        )
        await self._ask("startup")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._ask("shutdown")
        await self._task

    async def _ask(self, what: str) -> None:
        self._to_app.put_nowait({"type": f"lifespan.{what}"})
        answer = await self._from_app.get()
        if answer["type"] != f"lifespan.{what}.complete":
            raise RuntimeError(f"expected lifespan.{what}.complete, got {answer}")


async def _await(awaitable: Awaitable[None]) -> None:
    await awaitable


def _peak(pcm: bytes) -> int:
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max())


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
