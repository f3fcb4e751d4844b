"""One call of a load test: the socket as jambonz's media side holds it, and the caller who talks.

What goes out every 20 ms was made a frame once; the package websockets does all the rest of the protocol, which comes
rarely. So a call costs a hundredth of what one of `agentd.caller` does, and 200 of them leave the core time to be on
time.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import numpy as np
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State as Wire
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from agentd.jambonz.media import MediaSide
from agentd.jambonz.wire import SUBPROTOCOLS
from agentd.loadtest.talk import State, Talk
from agentd.loadtest.timing import clock
from agentd.loadtest.voice import FRAME
from agentd.loadtest.websocket import BINARY, masked_frame

DIAL = 5.0  # seconds for TCP, TLS and the upgrade; jambonz gives up after 1.5
UNREAD = 1 << 20  # bytes that the server may leave unread before frames are dropped instead of sent
AUDIBLE = 300  # the least peak of a sample that counts as sound
KILL = '"killAudio"'


@dataclass(frozen=True, slots=True)
class Target:
    """What is dialled: ``rate`` is that of the caller's audio, in Hz."""

    url: str
    rate: int = 8000
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def playback(self) -> int:
        return int(parse_qs(urlsplit(self.url).query).get("playback_rate", [str(self.rate)])[0])

    @property
    def size(self) -> int:
        """Bytes of a frame."""
        return 2 * round(self.rate * FRAME)


@dataclass(slots=True)
class CallEnd:
    """How a call ended. ``status``: of an upgrade that was refused, 0 when nobody answered; ``code``: of the close,
    ``None`` without one.
    """

    is_ours: bool = False
    status: int | None = None
    code: int | None = None
    reason: str = ""

    @property
    def is_refused(self) -> bool:
        return self.status is not None


class Phone(asyncio.Protocol):
    """``talk_with`` makes the talk once the call is up; ``over`` is called once, when it is not any more."""

    def __init__(self, target: Target, talk_with: Callable[[float], Talk], over: Callable[["Phone"], None]) -> None:
        self.target = target
        self.call_sid = str(uuid4())
        self.talk: Talk | None = None
        self.end = CallEnd()
        self.media = MediaSide(channel_rate=target.playback, audio_rate=target.playback)
        self.unsent = 0  # frames
        self._now = clock()
        self.is_over = False
        self._talk_with = talk_with
        self._over = over
        self._quiet = masked_frame(bytes(target.size), BINARY)
        offered = [Subprotocol(name) for name in SUBPROTOCOLS]
        self._protocol = ClientProtocol(parse_uri(target.url), subprotocols=offered, max_size=None)
        self._fragments: list[Frame] = []
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None  # of the upgrade

    async def dial(self) -> None:
        """Returns when the upgrade is under way; what comes of it is told by ``over`` and :attr:`talk`."""
        loop, parts = asyncio.get_running_loop(), urlsplit(self.target.url)
        secure = parts.scheme == "wss"
        self._deadline = loop.call_later(DIAL, self._unanswered)
        try:
            async with asyncio.timeout(DIAL):
                await loop.create_connection(
                    lambda: self,
                    parts.hostname or "",
                    parts.port or (443 if secure else 80),
                    ssl=ssl.create_default_context() if secure else None,
                )
        except (OSError, TimeoutError) as exc:
            self.end.status, self.end.reason = 0, type(exc).__name__
            self._ended()

    def hang_up(self) -> None:
        """As jambonz does: an empty frame announces it, and the socket is closed."""
        self.end.is_ours = True
        if self._transport is None or self._protocol.state is not Wire.OPEN:
            self.abort()
            return
        self._protocol.send_binary(b"")
        self._protocol.send_close(1000)
        self._flush()

    def abort(self) -> None:
        self.end.is_ours = True
        if self._transport is not None:
            self._transport.abort()
        self._ended()

    def tick(self, now: float) -> None:
        """20 ms of the call."""
        talk, transport = self.talk, self._transport
        if talk is None or transport is None:
            return
        played = self.media.tick()
        frame = talk.tick(now, is_idle=played.is_idle, is_audible=not played.is_idle and is_audible(played.pcm))
        if talk.state is State.OVER:
            self.hang_up()
            self.talk = None
            return
        if transport.get_write_buffer_size() > UNREAD:
            self.unsent += 1
        else:
            transport.write(frame or self._quiet)
        if played.messages:
            for message in played.messages:
                self._protocol.send_text(message.encode())
            self._flush()

    # asyncio ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._protocol.connect()
        for name, value in self.target.headers.items():
            request.headers[name] = value
        self._protocol.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now = self._now()
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Response):
                self._answered(event, now)
            elif isinstance(event, Frame):
                self._came(event, now)
        self._flush()

    def eof_received(self) -> None:
        self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.end.is_refused:
            self.end.code = self._protocol.close_code if self._protocol.close_rcvd is not None else None
            self.end.reason = (self._protocol.close_reason or "") if self.end.code is not None else "connection lost"
        self._ended()

    def _unanswered(self) -> None:
        self.end.status, self.end.reason = 0, "no answer"
        self.abort()

    def _answered(self, response: Response, now: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._protocol.handshake_exc is not None:
            self.end.status = response.status_code
            is_status = isinstance(self._protocol.handshake_exc, InvalidStatus)
            self.end.reason = response.reason_phrase if is_status else str(self._protocol.handshake_exc)
            assert self._transport is not None
            self._transport.close()
            return
        first = {
            "callSid": self.call_sid,
            "callId": self.call_sid,
            "from": "agentd-load",
            "to": "agent",
            "direction": "inbound",
            **self.target.metadata,
            "sampleRate": self.target.rate,
            "mixType": "mono",
        }
        self._protocol.send_text(json.dumps(first).encode())
        self.talk = self._talk_with(now)

    def _came(self, frame: Frame, now: float) -> None:
        match frame.opcode:
            case Opcode.BINARY | Opcode.TEXT | Opcode.CONT if self._fragments or not frame.fin:
                self._fragments.append(frame)
                if frame.fin:
                    whole, self._fragments = self._fragments, []
                    self._message(whole[0].opcode, b"".join(part.data for part in whole), now)
            case Opcode.BINARY | Opcode.TEXT:
                self._message(frame.opcode, bytes(frame.data), now)
            case _:
                pass  # the protocol has answered it

    def _message(self, opcode: Opcode, data: bytes, now: float) -> None:
        talk = self.talk
        if opcode is Opcode.TEXT:
            text = data.decode(errors="replace")
            if talk is not None and KILL in text:
                talk.killed(now)
            self.media.receive_text(text)
            return
        if talk is not None and talk.is_awaiting and is_audible(data):
            talk.audible(now)
        self.media.receive_binary(data)

    def _flush(self) -> None:
        if self._transport is None:
            return
        for data in self._protocol.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()  # the protocol's word for the end

    def _ended(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if not self.is_over:
            self.is_over = True
            self.talk = None
            self._over(self)


def is_audible(pcm: bytes) -> bool:
    samples = np.frombuffer(pcm[: len(pcm) & ~1], "<i2")
    return bool(len(samples)) and (int(samples.max()) > AUDIBLE or int(samples.min()) < -AUDIBLE)
