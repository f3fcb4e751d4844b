"""Paced audio out: the agent's side of playout. What was not sent yet stays here, so that hold, resume and cut are
arithmetic. Obeys jambonz-wire.md section 1, "Playout":

- every message is at least one pre-buffer threshold long, and the tail of a reply is padded to it;
- the first threshold, twice as long, is spent on silence when the call begins;
- at most 250 ms wait on the far side; no sample is -1; after ``killAudio`` comes a pause;
- one mark behind each reply, with a deadline beside it: marks refine our clock, they never drive it.
"""

import asyncio
import enum
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from providers.noise.inplace import InPlace
from turn.events import Event, ReplyHeard, ReplyPlayed
from turn.playout import Playhead

FIRST = 0.16  # the first pre-buffer threshold: 1,280 samples at 8 kHz, as long at every higher rate …
CHUNK = 0.08  # … and the later ones: 640 samples
AHEAD = 0.25  # the most that waits on the far side
STEP = 0.02  # what ends a reply is whole frames of the far side
ALIGN = 16  # bytes: 8 samples, as our rate may be 8 times the channel's; a rest of them would stay in the pre-buffer
KILL_PAUSE = 0.08  # audio sent within 20 ms of killAudio may be wiped with the old; 50-100 ms are safe
STALL = 0.1  # the TTS owes audio for so long: what is left below a chunk is sent as it is
MARK_EARLY = 0.1  # a mark that comes this long before our own clock is due cannot be true
MARK_DEADLINE = 0.5  # a mark later than this is not waited for
MARKS = 3  # outstanding at most; with as many unanswered, marks are not to be had: the clock alone decides
KEEP = 1.0  # seconds of sent audio that are kept to be replayed after a cut
BACKLOG = 20.0  # a TTS that is further ahead than this waits
FILL_AHEAD = 0.08  # less than this waits on the far side: the next chunk of the filler goes; so 160 ms at most


class MediaPort(Protocol):
    """The wire, as the sender sees it. Neither call waits."""

    def send_audio(self, pcm: bytes) -> None: ...

    def send_json(self, message: dict[str, Any]) -> None: ...


class Gate(enum.Enum):
    """Whether what is queued may go out."""

    OPEN = enum.auto()
    HELD = enum.auto()  # no; what jambonz has plays on, and may so play the reply to its end
    CUT = enum.auto()  # no; jambonz has nothing, and the reply has not ended even if nothing is left of it


class Sender:
    """One call's outgoing audio: L16 mono at ``rate`` Hz, one reply at a time."""

    def __init__(self, rate: int, port: MediaPort, tell: Callable[[Event], None]) -> None:
        self.rate = rate
        self.playhead = Playhead(rate)
        self._loop = asyncio.get_running_loop()
        self._port = port
        self._tell = tell
        self.on_sent: Callable[[float, bytes], None] | None = None  # called with when it plays, and what
        self._timer: asyncio.TimerHandle | None = None
        self._reply = 0
        self._last_over = 0  # the latest reply that was played or dropped: nothing of it is played any more
        self._sent_samples = 0  # of this reply, less what a cut took back
        self._isolation: InPlace | None = None  # has what comes behind the queue
        self._filler: Callable[[int], bytes] | None = None  # asked for so many bytes when there is nothing else to play
        self._queue = bytearray()  # of this reply, not sent yet
        self._sent = bytearray()  # the last KEEP seconds of it that were sent
        self._is_whole = False  # nothing more will come of it
        self._gate = Gate.OPEN
        self._mark: str | None = None  # for the end of this reply, once all of it was sent
        self._marks: list[str] = []  # outstanding, oldest first
        self._marks_sent = 0
        self._came_at = 0.0  # when audio last arrived here
        self._not_before = 0.0
        self._room = asyncio.Event()
        self._room.set()

    def open(self) -> None:
        """Spend the first, longer pre-buffer threshold, so that the greeting waits for a short one only."""
        self._send(b"", self._bytes(FIRST), self._loop.time())

    def isolate(self, isolation: InPlace | None) -> None:
        """Take the noise out of what comes from now on, sample for sample. ``None``: no longer."""
        if self._isolation is not None:
            self._queue += self._isolation.rest()
        self._isolation = isolation
        if isolation is not None and self._is_whole:
            isolation.end()
        self._pump()

    # What the reply asks ---------------------------------------------------------------------------------

    def play(self, reply: int, pcm: bytes) -> None:
        """Queue audio of a reply; the first of a new one makes it the current one."""
        if reply <= self._last_over:
            return  # its task was cancelled, and had this in its hands
        if reply != self._reply:
            self._reset(reply)
        if self._isolation is None:
            self._queue += pcm
        else:
            self._isolation.push(pcm)
            self._refill()
        self._came_at = self._loop.time()
        if self._waiting() > self._bytes(BACKLOG):
            self._room.clear()
        self._pump()

    async def room(self) -> None:
        """Wait while more than ``BACKLOG`` seconds are queued."""
        await self._room.wait()

    def finish(self, reply: int) -> None:
        """All audio of the reply has been queued."""
        if reply == self._reply:
            self._is_whole = True
            if self._isolation is not None:
                self._isolation.end()
                self._refill()
            self._pump()

    def fill(self, filler: Callable[[int], bytes] | None) -> None:
        """Play this while there is nothing else to play; ``None``: no longer, from this instant. It is no part of a
        reply and never counts as heard. A hold silences it; a cut, and the end of the reply, end it.
        """
        self._filler = filler
        self._pump()

    @property
    def plays_on_ms(self) -> int:
        """What jambonz has of our audio and will play whatever happens, but for a cut."""
        return round(self.playhead.ahead(self._loop.time()) * 1000)

    def quiet_at(self) -> float | None:
        """When all that is here will have been heard, in the past if it has been. ``None``: it waits for the caller."""
        if self._gate is not Gate.OPEN:
            return None
        waiting = self._waiting() / 2 / self.rate
        return max(self.playhead.until, self._loop.time()) + waiting if waiting else self.playhead.until

    # What the machine says -------------------------------------------------------------------------------

    def hold(self) -> None:
        """Send nothing more. What jambonz has plays on, at most 250 ms. Of a reply that has no audio yet, none goes."""
        if self._gate is Gate.OPEN:
            self._gate = Gate.HELD

    def resume(self) -> None:
        self._gate = Gate.OPEN
        self._pump()

    def cut(self) -> None:
        """Silence what is playing; what was not heard goes back to the front of the queue, on hold."""
        now = self._loop.time()
        self._filler = None
        if self._reply:
            heard_before = self.playhead.heard(self._reply, now)
            unheard = (self._sent_samples - heard_before) * 2
            if unheard > 0:
                self._queue[:0] = self._sent[-unheard:]
                self._sent_samples = heard_before
            self._sent.clear()
        self.playhead.cut(now)
        self._not_before = now + KILL_PAUSE
        self._mark = None
        self._marks.clear()  # killAudio answers them all
        self._gate = Gate.CUT
        self._set_timer(None)
        self._port.send_json({"type": "killAudio"})

    def drop(self, reply: int) -> None:
        """The reply is over or discarded. What of it still waits on the far side is silenced."""
        self._last_over = max(self._last_over, reply)
        self._filler = None
        if reply == self._reply:
            if self._sent_samples > self.heard(reply):
                self.cut()
            self._reset(0)
        self._gate = Gate.OPEN

    def forget(self, reply: int) -> None:
        """Nobody will ask what was heard of it again."""
        self.playhead.forget(reply)

    def heard(self, reply: int) -> int:
        """Samples of a reply that the caller has heard."""
        return self.playhead.heard(reply, self._loop.time())

    # What the wire says ----------------------------------------------------------------------------------

    def mark_came(self, name: str, event: str) -> None:
        """Our mark was reached (`playout`) or thrown away (`cleared`)."""
        if name in self._marks:
            del self._marks[: self._marks.index(name) + 1]  # they come in order: older ones are lost
        if name != self._mark or event != "playout":
            return
        if self._loop.time() < self.playhead.until - MARK_EARLY:
            self._pump()  # fired too early to be true (jambonz-wire.md, marks, 5): the clock decides
            return
        self._played()

    def close(self) -> None:
        self._filler = None
        self._set_timer(None)
        self._room.set()

    # Sending ---------------------------------------------------------------------------------------------

    def _pump(self, now: float = 0.0) -> None:
        """Send what may be sent now, and come back when more may be."""
        now = max(now, self._loop.time())  # a timer may fire a clock tick early
        while (due := self._due()) is not None:
            if due > now:
                break
            if self._queue:
                self._send_chunk(now)
            elif self._is_whole:
                self._played()
                return
            else:
                self._send_filler(now)
        if self._is_whole and not self._queue and self._mark is None and due is not None:
            self._send_mark()
            due = self._due()
        self._set_timer(due)

    def _due(self) -> float | None:
        """When there is something to do (in the past: now); ``None`` when that depends on others."""
        if self._gate is Gate.CUT:
            return None
        if self._queue:
            if self._gate is Gate.HELD:
                return None
            if len(self._queue) < self._bytes(CHUNK) and not self._is_whole:
                return max(self.playhead.until - 2 * STEP, self._came_at + STALL, self._not_before)
            return max(self._not_before, self.playhead.until - (AHEAD - CHUNK))
        if not self._is_whole:
            is_filled = self._filler is not None and self._gate is Gate.OPEN
            return max(self._not_before, self.playhead.until - FILL_AHEAD) if is_filled else None
        # All is sent. The mark comes when the last sample was heard; without one, the clock decides.
        waits = self._mark in self._marks and len(self._marks) < MARKS
        return self.playhead.until + (MARK_DEADLINE if waits else 0.0)

    def _send_chunk(self, now: float) -> None:
        step, chunk = self._bytes(STEP), self._bytes(CHUNK)
        room = self._bytes(AHEAD - self.playhead.ahead(now) + 1e-9)
        size = min(len(self._queue), max(room - room % step, chunk))
        padding = max(chunk - size, -size % step)
        if size >= chunk and not (self._is_whole and size == len(self._queue)):
            # Padding belongs behind a reply, never into the middle of a word.
            size, padding = size - size % ALIGN, 0
        pcm = bytes(self._queue[:size])
        del self._queue[:size]
        self._send(pcm, padding, now)
        self._refill()
        if self._waiting() <= self._bytes(BACKLOG):
            self._room.set()

    def _send_filler(self, now: float) -> None:
        assert self._filler is not None
        pcm = self._filler(self._bytes(CHUNK))
        at = self.playhead.sent(0, len(pcm) // 2, 0, now)
        self._port.send_audio(pcm)
        if self.on_sent is not None:
            self.on_sent(at, pcm)

    def _refill(self) -> None:
        """More than one chunk can hold is isolated ahead: a queue that is shorter has the end of all there is."""
        if self._isolation is not None and (missing := self._bytes(AHEAD + STEP) - len(self._queue)) > 0:
            self._queue += self._isolation.take(missing)

    def _waiting(self) -> int:
        """Bytes of this reply that were not sent yet."""
        return len(self._queue) + (0 if self._isolation is None else self._isolation.waiting)

    def _send(self, pcm: bytes, padding: int, now: float) -> None:
        is_first = self._reply != 0 and self._sent_samples == 0 and bool(pcm)
        at = self.playhead.sent(self._reply if pcm else 0, len(pcm) // 2, padding // 2, now)
        self._sent_samples += len(pcm) // 2
        self._sent += pcm
        if len(self._sent) > self._bytes(KEEP):
            del self._sent[: -self._bytes(KEEP)]
        self._port.send_audio(without_minus_one(pcm) + bytes(padding))
        if self.on_sent is not None:
            self.on_sent(at, pcm)
        if is_first:
            self._loop.call_at(max(at, now), self._tell, ReplyHeard(self._reply))

    def _send_mark(self) -> None:
        """One behind the last sample, with a name that no earlier one had: that may still be on its way back."""
        if len(self._marks) >= MARKS:
            return
        self._marks_sent += 1
        self._mark = f"reply-{self._reply}-{self._marks_sent}"
        self._marks.append(self._mark)
        self._port.send_json({"type": "mark", "data": {"name": self._mark}})

    def _played(self) -> None:
        reply, self._reply = self._reply, 0
        self._last_over = max(self._last_over, reply)
        self._is_whole = False
        self._gate = Gate.OPEN
        self.playhead.finish(reply)
        self._mark = None
        self._set_timer(None)
        self._tell(ReplyPlayed(reply))

    def _reset(self, reply: int) -> None:
        self._set_timer(None)
        self._reply = reply
        self._sent_samples = 0
        self._queue.clear()
        if self._isolation is not None:
            self._isolation.restart()
        self._sent.clear()
        self._is_whole = False
        self._mark = None
        self._room.set()

    def _bytes(self, seconds: float) -> int:
        return int(seconds * self.rate) * 2

    def _set_timer(self, at: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._pump, at)


def without_minus_one(pcm: bytes) -> bytes:
    """A sample of -1 would be taken for a mark (jambonz-wire.md, marks, 5); -2 sounds the same."""
    samples = np.frombuffer(pcm, "<i2")
    if not (samples == -1).any():
        return pcm
    return np.where(samples == -1, np.int16(-2), samples).astype("<i2").tobytes()
