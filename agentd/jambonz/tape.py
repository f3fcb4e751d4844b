"""One recording on the worker thread: both sides are brought to one rate, laid side by side, and written."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agentd.jambonz.pieces import Piece
from agentd.ops.log import Entry
from agentd.ops.recording_files import About, RecordingFiles
from providers.pcm import FRAME, Stream

JOINT = 0.005  # seconds by which a piece may miss the end of the one before it and go on from there all the same
EMPTY = 1000  # bytes of a block of silence
LAG = FRAME + JOINT  # seconds: what does not fill a frame waits for the next piece, and belongs before it


@dataclass(frozen=True, slots=True)
class Block:
    """What is written at once: pieces of either side, and of the log. Nothing comes later that lies before ``until``,
    in seconds since the call began.
    """

    heard: Sequence[Piece]
    sent: Sequence[Piece]
    entries: Sequence[Entry]
    until: float
    is_last: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory, about; the entries are those of the call's own log."""
        return EMPTY + sum(len(pcm) for _, pcm in (*self.heard, *self.sent))


class Tape:
    """``channels`` and ``rate`` are those of the caller's audio, ``playback_rate`` that of ours, in Hz; what lies
    before ``begins`` is silence. Everything but making one waits for a disk, and raises ``OSError``.
    """

    def __init__(
        self, folder: Path, about: About, *, rate: int, channels: int, playback_rate: int, begins: float
    ) -> None:
        self._folder = folder
        self._about = about
        self._channels = channels
        self._caller = Side(rate, about.rate)
        self._agent = Side(playback_rate, about.rate)
        self._at = round(begins * about.rate)  # the first frame that was not written
        self._frames = np.zeros((0, 2), "<i2")  # from there on
        self._files: RecordingFiles | None = None
        self._is_broken = False

    def write(self, block: Block) -> None:
        """After a failure: nothing more, as there would be a hole."""
        if self._is_broken:
            return
        try:
            self._write(block)
        except BaseException:
            self._is_broken = True
            raise

    def _write(self, block: Block) -> None:
        files = self._files = self._files or RecordingFiles.create(self._folder, self._about)
        for start, pcm in block.heard:
            mono = pcm if self._channels == 1 else np.frombuffer(pcm, "<i2")[:: self._channels].tobytes()
            self._lay(0, self._caller.add(start, mono))
        for start, pcm in block.sent:
            self._lay(1, self._agent.add(start, pcm))
        for number, side in enumerate((self._caller, self._agent)):
            if block.is_last or side.until < block.until - JOINT:
                self._lay(number, side.rest())
        until = round((block.until - (0.0 if block.is_last else LAG)) * self._about.rate)
        if until > self._at:
            files.sound(self._at, self._taken(until))
        if block.entries:
            files.lines(b"".join(json.dumps(entry, default=str).encode() + b"\n" for entry in block.entries))
        if block.is_last:
            files.whole(self._at / self._about.rate)

    def _lay(self, side: int, pieces: Iterator[tuple[int, bytes]]) -> None:
        for at, pcm in pieces:
            samples = np.frombuffer(pcm, "<i2")[max(self._at - at, 0) :]
            start = max(at - self._at, 0)
            if (missing := start + len(samples) - len(self._frames)) > 0:
                self._frames = np.concatenate([self._frames, np.zeros((missing, 2), "<i2")])
            self._frames[start : start + len(samples), side] = samples

    def _taken(self, until: int) -> bytes:
        count = until - self._at
        frames, self._frames = self._frames[:count], self._frames[count:]
        self._at = until
        return frames.tobytes().ljust(count * 4, b"\0")


class Side:
    """Pieces at ``rate`` Hz that lie somewhere in time become pieces at ``to`` Hz that begin at a sample."""

    def __init__(self, rate: int, to: int) -> None:
        self._rate, self._to = rate, to
        self._stream = Stream(rate, to)
        self._start = 0  # of what goes on without a gap: at which sample it begins …
        self._came = self._gone = 0  # … and how many samples of it came and went

    @property
    def until(self) -> float:
        """When what came ends."""
        return self._start / self._to + self._came / self._rate

    def add(self, start: float, pcm: bytes) -> Iterator[tuple[int, bytes]]:
        if abs(start - self.until) > JOINT:
            yield from self.rest()
            self._start, self._came, self._gone = round(start * self._to), 0, 0
        self._came += len(pcm) // 2
        yield from self._out(self._stream.push(pcm))

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """What waits for more."""
        yield from self._out(self._stream.flush())

    def _out(self, pcm: bytes) -> Iterator[tuple[int, bytes]]:
        if pcm:
            yield self._start + self._gone, pcm
            self._gone += len(pcm) // 2
