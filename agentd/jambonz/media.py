"""The media side of jambonz: what happens there to the audio and the marks that we send.

This is the far end of a ``listen`` verb with ``bidirectionalAudio {enabled, streaming}``, as jambonz 0.9 and 10
really play it, quirks included. The headless caller and the tests talk to it in place of a telephone.

    receive_binary ──> pre-buffer ──> (resampler) ──> playout buffer ──> tick(), 20 ms of it
                       160 ms, then                   unbounded; killAudio
                       80 ms must gather              empties it at the next tick

A mark goes through three places: *waiting* (named, no audio came after it yet), *attached* (a sample of −1 in the
audio stands for it), *forgotten* (answered or cleared, but its −1 may still come by). What follows from that:

- The tail below the threshold stays unheard until more audio comes, through ``killAudio`` too.
- While a mark is attached or forgotten, any sample of −1 is taken for one and removed.
- ``killAudio`` wipes the −1 of an attached mark but goes on expecting it: the ghost swallows the next mark that is
  attached, and until then no mark fires on the empty buffer.
- ``clearMarks`` makes ghosts even of marks that were only waiting.
- Resampling destroys the −1 of attached marks: they never fire, and hold up the waiting ones, until ``killAudio``.

All this is in mod_audio_fork. Where it leaves the choice to chance (two threads, try-locks) the model is orderly:
a message is taken in whole between two ticks. Our own choices: the resampler is linear where theirs is Speex, so the
hearing is rougher; a real −1 that resampling happens to leave in the audio fires a mark here as there.
"""

import json
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import numpy as np

FRAME_SECONDS = 0.02
FIRST_THRESHOLD = 1280  # samples, times k: 160 ms at 8 kHz
LATER_THRESHOLD = 640
MAX_MARKS = 30
MAX_TEXT_BYTES = 665_600  # a longer text message is dropped
_MARK = b"\xff\xff"  # the sample −1, in the place of a mark


@dataclass(frozen=True, slots=True)
class Tick:
    """20 ms of the call: L16 at the channel's rate, and the JSON messages to send to agentd."""

    pcm: bytes
    is_idle: bool  # nothing was there to play: ``pcm`` is silence that nobody sent
    messages: tuple[str, ...] = ()


class MediaSide:
    """Hand over what agentd sends (``receive_*``) and call ``tick()`` every 20 ms of the RTP clock.

    ``audio_rate`` is the verb's ``bidirectionalAudio.sampleRate``: the rate of what agentd sends. Left out, nothing
    is resampled. Samples in the pre-buffer (``received``, ``stuck``) count at that rate, those behind it (``ahead``,
    ``played``, ``wiped``) at the channel's. Without resampling, and marks aside,
    ``received == stuck + ahead + played + wiped + false_marks`` holds at all times.
    """

    def __init__(self, channel_rate: int = 8000, audio_rate: int | None = None, *, record: bool = False) -> None:
        self.channel_rate = channel_rate
        self.audio_rate = audio_rate or channel_rate
        self.frame_samples = channel_rate // 50
        self.is_disconnected = False  # agentd asked for the end of the listen verb
        self.received = self.played = self.wiped = self.max_ahead = self.ticks = 0
        self.false_marks = self.dropped_marks = 0
        self.kills: list[int] = []  # the ticks (the first is 0) in which killAudio took effect
        self.ignored: Counter[str] = Counter()  # text messages without effect, by type
        self.recording = bytearray()  # every tick's pcm, silence too, so that a place in it is a time in the call
        self._record = record
        self._factor = max(1, self.audio_rate // channel_rate)
        self._threshold = FIRST_THRESHOLD * self._factor
        self._resampler = _Linear(self.audio_rate, channel_rate) if self.audio_rate != channel_rate else None
        self._odd = b""
        self._prebuffer, self._playout = bytearray(), bytearray()
        self._prebuffer_marks: list[int] = []  # where in the pre-buffer a −1 is truly a mark
        self._playout_marks: deque[int] = deque()  # the same for the playout buffer, counted by ``_taken``
        self._taken = 0  # what tick() took from the playout buffer, marks included
        self._waiting: deque[str] = deque()
        self._attached: deque[str] = deque()
        self._forgotten = 0
        self._is_kill_pending = False

    @property
    def stuck(self) -> int:
        """Samples in the pre-buffer: not heard before more audio comes."""
        return len(self._prebuffer) // 2 - len(self._prebuffer_marks)

    @property
    def ahead(self) -> int:
        """Samples in the playout buffer."""
        return len(self._playout) // 2 - len(self._playout_marks)

    @property
    def outstanding_marks(self) -> int:
        return len(self._waiting) + len(self._attached)

    def receive_binary(self, data: bytes) -> None:
        data = self._odd + data
        self._odd = data[len(data) & ~1 :]
        samples = data[: len(data) & ~1]
        self.received += len(samples) // 2
        start = len(self._prebuffer) // 2
        self._prebuffer_marks.extend(range(start, start + len(self._waiting)))
        self._prebuffer += _MARK * len(self._waiting) + samples
        self._attached.extend(self._waiting)
        self._waiting.clear()
        if len(self._prebuffer) // 2 >= self._threshold:  # their count includes the marks
            self._release()

    def _release(self) -> None:
        self._threshold = LATER_THRESHOLD * self._factor
        count = len(self._prebuffer) // 2 // self._factor * self._factor
        samples = bytes(self._prebuffer[: count * 2])
        del self._prebuffer[: count * 2]
        marks = [place for place in self._prebuffer_marks if place < count]
        self._prebuffer_marks = [place - count for place in self._prebuffer_marks if place >= count]
        if self._resampler is not None:
            samples = self._resampler.resample(np.delete(np.frombuffer(samples, "<i2"), marks))
        else:
            start = self._taken + len(self._playout) // 2
            self._playout_marks.extend(start + place for place in marks)
        self._playout += samples
        self.max_ahead = max(self.max_ahead, self.ahead)

    def receive_text(self, text: str) -> None:
        message = _parse(text)
        match message:
            case {"type": "mark", "data": {"name": str(name)}}:
                if self.outstanding_marks < MAX_MARKS:
                    self._waiting.append(name)
                else:
                    self.dropped_marks += 1
            case {"type": "killAudio"}:
                self._is_kill_pending = True
            case {"type": "clearMarks"}:
                self._forget_marks(self.outstanding_marks)
            case {"type": "disconnect"}:
                self.is_disconnected = True
            case _:  # playAudio is among them: it belongs to the mode without streaming
                self.ignored[str(message.get("type"))] += 1

    def _forget_marks(self, ghosts: int) -> None:
        self._forgotten += ghosts
        self._attached.clear()
        self._waiting.clear()

    def tick(self) -> Tick:
        tick = self._kill() if self._is_kill_pending else self._play()
        self.ticks += 1
        if self._record:
            self.recording += tick.pcm
        return tick

    def _kill(self) -> Tick:
        self._is_kill_pending = False
        self.kills.append(self.ticks)
        self.wiped += self.ahead
        self._playout.clear()
        self._playout_marks.clear()
        messages = tuple(_mark_message(name, "cleared") for name in (*self._attached, *self._waiting))
        self._forget_marks(len(self._attached))
        return Tick(bytes(self.frame_samples * 2), True, messages)

    def _play(self) -> Tick:
        pcm = bytes(self._playout[: self.frame_samples * 2])
        del self._playout[: len(pcm)]
        count = len(pcm) // 2
        self._taken += count
        marks = 0
        while self._playout_marks and self._playout_marks[0] < self._taken:
            self._playout_marks.popleft()
            marks += 1
        messages: list[str] = []
        if self._attached or self._forgotten:
            samples = np.frombuffer(pcm, "<i2")
            hits = np.flatnonzero(samples == -1)
            messages = self._reach_marks(len(hits))
            self.false_marks += len(hits) - marks
            self.played += count - len(hits)
            pcm = np.delete(samples, hits).tobytes()
        else:
            self.played += count - marks
            if not pcm and self._waiting:
                messages = [_mark_message(self._waiting.popleft(), "playout")]
        return Tick(pcm.ljust(self.frame_samples * 2, b"\0"), not pcm, tuple(messages))

    def _reach_marks(self, hits: int) -> list[str]:
        ghosts = min(hits, self._forgotten)
        self._forgotten -= ghosts
        fired = min(hits - ghosts, len(self._attached))
        return [_mark_message(self._attached.popleft(), "playout") for _ in range(fired)]


class _Linear:
    """Linear interpolation that carries its place from one chunk to the next."""

    def __init__(self, rate: int, to_rate: int) -> None:
        self._rate, self._to_rate = rate, to_rate
        self._last = np.zeros(1, "<i2")
        self._phase = 0  # where the next sample lies after ``_last``, in 1/to_rate of an input sample

    def resample(self, samples: "np.ndarray[Any, np.dtype[np.int16]]") -> bytes:
        source = np.concatenate((self._last, samples))
        end = len(samples) * self._to_rate
        places = np.arange(self._phase, end, self._rate)
        self._phase += len(places) * self._rate - end
        self._last = source[-1:]
        heard = np.interp(places / self._to_rate, np.arange(len(source)), source)
        return bytes(np.rint(heard).astype("<i2"))


def _mark_message(name: str, event: str) -> str:
    return json.dumps({"type": "mark", "data": {"name": name, "event": event}})


def _parse(text: str) -> dict[str, Any]:
    if len(text.encode()) > MAX_TEXT_BYTES:
        return {"type": "too long"}
    try:
        message = json.loads(text)
    except ValueError:
        return {"type": "not JSON"}
    return message if isinstance(message, dict) else {"type": "not an object"}
