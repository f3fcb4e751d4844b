"""Cartesia's `/tts/websocket`: contexts on one socket, sound as base64 in JSON. It begins a set time after its text,
and comes four times as fast as it plays.
"""

import asyncio
import base64
import functools
import json
import re
from collections import deque
from collections.abc import Iterator
from typing import Any

from agentd.loadtest.simulated import Delays
from agentd.loadtest.simulated.clock import Clock
from agentd.loadtest.voice import buzz
from agentd.loadtest.websocket import TEXT, ServerSocket, frame, masked

CHARACTER = 0.06  # seconds of sound
CHUNK = 0.1  # seconds of sound in a message
AT_ONCE = 2  # messages
EVERY = 0.05  # seconds from one lot of them to the next
LOOP = 8  # chunks of sound, again and again


@functools.cache
def chunks(rate: int) -> tuple[bytes, ...]:
    """The sound as it stands in a message."""
    sound = buzz(LOOP * CHUNK, rate, pitch=180).tobytes()
    size = 2 * round(CHUNK * rate)
    return tuple(base64.b64encode(sound[at : at + size]) for at in range(0, len(sound), size))


@functools.lru_cache(maxsize=1000)
def times(text: str, began: float) -> bytes:
    """The word times of a text that begins ``began`` seconds into its context."""
    found = list(re.finditer(r"\S+", text))
    start = [round(began + word.start() * CHARACTER, 3) for word in found]
    end = [round(began + word.end() * CHARACTER, 3) for word in found]
    return json.dumps({"words": [word.group() for word in found], "start": start, "end": end}).encode()


class Context:
    """What is still to be said of one reply."""

    def __init__(self, name: str, rate: int) -> None:
        self.name = name.encode()
        self.rate = rate
        self.characters = 0
        self.flush = 0
        self.played = 0  # chunks
        self.waiting: deque[tuple[float, bytes]] = deque()  # frames and when they are due
        self.timer: asyncio.TimerHandle | None = None

    def add(self, text: str, due: float) -> None:
        """Frames of a text, none of which is due before ``due`` or before what came before them."""
        due = max(due, self.waiting[-1][0]) if self.waiting else due
        self.flush += 1
        if text.strip():
            told = times(text, round(self.characters * CHARACTER, 3))
            self.waiting.append((due, self._frame(b"timestamps", b'"word_timestamps":' + told)))
        self.characters += len(text)
        until = round(self.characters * CHARACTER / CHUNK)
        for number, data in enumerate(self._sound(until)):
            at = due + number // AT_ONCE * EVERY
            self.waiting.append((at, self._frame(b"chunk", b'"step_time":1.5,"data":"' + data + b'"')))
        last = self.waiting[-1][0] if self.waiting else due
        self.waiting.append((last, self._frame(b"flush_done", b'"flush_done":true')))

    def end(self, due: float) -> None:
        due = max(due, self.waiting[-1][0]) if self.waiting else due
        self.waiting.append((due, self._frame(b"done", b'"done":true', status=b"200")))

    def _sound(self, until: int) -> Iterator[bytes]:
        every = chunks(self.rate)
        while self.played < until:
            yield every[self.played % len(every)]
            self.played += 1

    def _frame(self, kind: bytes, more: bytes, status: bytes = b"206") -> bytes:
        done = b"" if kind == b"done" else b',"done":false'
        head = b'{"type":"%b","context_id":"%b"%b,"status_code":%b,"flush_id":%d,' % (
            *(kind, self.name, done, status, self.flush),
        )
        return frame(head + more + b"}", TEXT)


class Voice(ServerSocket):
    """One connection. Cancelling halts what has not been sent."""

    def __init__(self, delays: Delays, clock: Clock) -> None:
        super().__init__()
        self._delay = delays.tts
        self._clock = clock
        self._contexts: dict[str, Context] = {}

    def message(self, payload: bytes, mask: bytes, opcode: int) -> None:
        asked: dict[str, Any] = json.loads(masked(payload, mask))
        name = asked["context_id"]
        due = self._clock.now() + self._delay
        if asked.get("cancel"):
            if (context := self._contexts.get(name)) is not None:
                context.waiting.clear()
                context.end(0.0)
                self._say(context)
            return
        context = self._contexts.get(name)
        if context is None:
            context = self._contexts[name] = Context(name, asked["output_format"]["sample_rate"])
        if asked["transcript"]:
            context.add(asked["transcript"], due)
        if not asked.get("continue"):
            context.end(self._clock.now())
        if context.timer is None:
            self._wait(context)

    def closed(self) -> None:
        for context in self._contexts.values():
            if context.timer is not None:
                context.timer.cancel()

    def _wait(self, context: Context) -> None:
        context.timer = None
        if context.waiting:
            context.timer = self._clock.at(context.waiting[0][0], self._say, context)

    def _say(self, context: Context) -> None:
        if context.timer is not None:
            context.timer.cancel()
            context.timer = None
        now = self._clock.now() + 0.0005
        ready = []
        while context.waiting and context.waiting[0][0] <= now:
            ready.append(context.waiting.popleft()[1])
        if ready:
            self.send(*ready)
            if b'"type":"done"' in ready[-1][:20]:
                del self._contexts[context.name.decode()]
                return
        self._wait(context)
