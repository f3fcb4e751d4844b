"""A headless caller: dials a listen socket as jambonz would, speaks, listens, and records both sides.

Every 20 ms, by absolute deadlines, it plays 20 ms of what came (through the strict media side), sends 20 ms of its
own, and answers the marks that were reached. All of it is real time and real sound.
"""

import asyncio
import json
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from agentd.call.audio import RATES
from agentd.errors import AgentdError
from agentd.jambonz.media import FRAME_SECONDS, MediaSide
from agentd.jambonz.wire import SUBPROTOCOLS
from config.secrets import hide_in_url
from providers.base import Audio, Tts, TtsSpec
from providers.registry import Shared, make_tts

VOICE = "en-us+f5"  # the synthetic caller's: pocketsphinx takes to it far better than to the agent's own
AUDIBLE = 200.0  # RMS above which a frame of the agent's counts as sound


class CallFailed(AgentdError):
    """The other side did not take the call, or ended it too early."""


class Caller:
    """One call to ``url`` (``ws://…/listen/AGENT``), at ``rate`` Hz towards the agent; back it is the URL's
    ``playback_rate``, else the same.
    """

    def __init__(self, url: str, *, rate: int = 16000, metadata: dict[str, Any] | None = None) -> None:
        if rate not in RATES:
            raise CallFailed(f"expected a rate of {', '.join(map(str, RATES))} Hz, got {rate}")
        playback = int(parse_qs(urlsplit(url).query).get("playback_rate", [str(rate)])[0])
        self.url = url
        self.rate = rate
        self.media = MediaSide(channel_rate=playback, audio_rate=playback)
        self.caller_side = bytearray()  # L16 mono at ``rate``, as sent
        self.agent_side = bytearray()  # L16 mono at the playback rate, as heard, in step with it
        self.quiet_for = 0.0  # seconds since the agent was last heard
        self.heard_for = 0.0  # seconds of agent's sound since it last began
        self.end: str | None = None  # why the other side closed
        self._metadata = metadata or {}
        self._queue = bytearray()
        self._ticked = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._socket: ClientConnection | None = None

    async def __aenter__(self) -> Self:
        try:
            self._socket = socket = await connect(
                self.url,
                subprotocols=[Subprotocol(name) for name in SUBPROTOCOLS],
                compression=None,
                open_timeout=5,
                max_size=None,
            )
        except (OSError, InvalidHandshake, InvalidURI, TimeoutError, ValueError) as exc:
            why = str(exc) or type(exc).__name__
            raise CallFailed(f"no call could be made to {hide_in_url(self.url)}: {why}") from exc
        sid = str(uuid4())
        first = {
            "callSid": sid,
            "callId": sid,
            "from": "agentd-caller",
            "to": "agent",
            "direction": "inbound",
            **self._metadata,
            "sampleRate": self.rate,
            "mixType": "mono",
        }
        await socket.send(json.dumps(first))
        self._tasks = [
            asyncio.create_task(self._receive(socket), name="caller-receive"),
            asyncio.create_task(self._clock(socket), name="caller-clock"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._socket is not None:
            await self._socket.close()

    def say(self, pcm: bytes) -> None:
        """Queue L16 mono at ``rate``; it is said after what was queued before."""
        self._queue += pcm

    @property
    def is_speaking(self) -> bool:
        return bool(self._queue)

    async def until(self, is_so: Callable[[], bool], within: float, what: str) -> None:
        """Wait for something, looked at every 20 ms. Raises :class:`CallFailed` with ``what`` when it does not come."""
        try:
            async with asyncio.timeout(within), self._ticked:
                await self._ticked.wait_for(lambda: is_so() or self.end is not None)
        except TimeoutError as exc:
            raise CallFailed(f"waited {within:.0f} s for {what}") from exc
        if not is_so():
            raise CallFailed(f"waited for {what}, but the call was ended: {self.end}")

    async def turn(self, pcm: bytes, within: float = 30.0, pause: float = 1.2) -> None:
        """Say something, and wait until the agent has answered and has been quiet for ``pause`` seconds."""
        self.say(pcm)
        await self.until(lambda: not self.is_speaking, within, "our own speech to end")
        self.heard_for = 0.0
        await self.answer(within, pause)

    async def answer(self, within: float = 30.0, pause: float = 1.2) -> None:
        """Wait until the agent has said something and has been quiet for ``pause`` seconds."""
        await self.until(lambda: self.heard_for > 0, within, "the agent to speak")
        await self.until(lambda: self.quiet_for >= pause, 120.0, "the agent to end")

    def save(self, path: Path) -> None:
        """Write a stereo WAV: the caller left, the agent right, at the higher of the two rates."""
        rate = max(self.rate, self.media.channel_rate)
        left = _at(bytes(self.caller_side), self.rate, rate)
        right = _at(bytes(self.agent_side), self.media.channel_rate, rate)
        length = min(len(left), len(right))
        with wave.open(str(path), "wb") as out:
            out.setnchannels(2)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes(np.column_stack((left[:length], right[:length])).tobytes())

    async def _receive(self, socket: ClientConnection) -> None:
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    self.media.receive_binary(message)
                else:
                    self.media.receive_text(message)
        except ConnectionClosed:
            pass
        self.end = f"{socket.close_code} {socket.close_reason or ''}".strip()
        async with self._ticked:
            self._ticked.notify_all()

    async def _clock(self, socket: ClientConnection) -> None:
        loop = asyncio.get_running_loop()
        size = int(self.rate * FRAME_SECONDS) * 2
        began, ticks = loop.time(), 0
        try:
            while True:
                ticks += 1
                await asyncio.sleep(began + ticks * FRAME_SECONDS - loop.time())
                tick = self.media.tick()
                frame = bytes(self._queue[:size]).ljust(size, b"\0")
                del self._queue[:size]
                self.caller_side += frame
                self.agent_side += tick.pcm
                self._listen(tick.pcm)
                await socket.send(frame)
                for message in tick.messages:
                    await socket.send(message)
                async with self._ticked:
                    self._ticked.notify_all()
        except ConnectionClosed:
            pass  # the receiver says why

    def _listen(self, pcm: bytes) -> None:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        if float(samples @ samples) > AUDIBLE**2 * len(samples):
            self.heard_for = self.heard_for + FRAME_SECONDS
            self.quiet_for = 0.0
        else:
            self.quiet_for += FRAME_SECONDS


class Voice:
    """The synthetic caller's voice: embedded, needs the extra ``local``."""

    def __init__(self, shared: Shared, rate: int, voice: str = VOICE) -> None:
        self._tts: Tts = make_tts(TtsSpec("local", voice, options={"rate": 150}), shared)
        self._rate = rate

    async def speech(self, text: str) -> bytes:
        """The text as L16 mono."""

        async def once() -> AsyncIterator[str]:
            yield text

        return b"".join([e.pcm async for e in self._tts.speak(once(), self._rate) if isinstance(e, Audio)])


def read_wav(path: Path, rate: int) -> bytes:
    """A PCM16 WAV file, its first channel, as L16 mono at ``rate`` Hz."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise CallFailed(f"{path}: expected 16-bit samples, got {8 * file.getsampwidth()}-bit")
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")[:: file.getnchannels()]
            return bytes(_at(samples.tobytes(), file.getframerate(), rate).tobytes())
    except (wave.Error, EOFError) as exc:
        raise CallFailed(f"{path}: expected a WAV file with PCM sound, got {str(exc) or 'an empty file'}") from exc
    except OSError as exc:
        raise CallFailed(f"{path}: {exc.strerror}") from exc


def _at(pcm: bytes, rate: int, to: int) -> "np.ndarray[Any, np.dtype[np.int16]]":
    """By linear interpolation: good enough for a recording and for a caller."""
    samples = np.frombuffer(pcm, "<i2")
    if rate == to or not len(samples):
        return samples
    places = np.arange(len(samples) * to // rate) * (rate / to)
    moved: np.ndarray[Any, np.dtype[np.int16]] = np.interp(places, np.arange(len(samples)), samples).astype("<i2")
    return moved
