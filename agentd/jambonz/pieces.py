"""The two sides of a call on their way into its recording: pieces of audio, each with the second where it lies. Pure.

What is taken of either side is final; the rest waits in memory, a few seconds at most.
"""

from collections import deque

from agentd.jambonz.taps import SLACK, HeardFlow
from turn.playout import Playhead

Piece = tuple[float, bytes]  # when it begins, in seconds since the call did, and L16 as the wire has it

TOGETHER = 0.5  # seconds: what comes within them is laid down as one, and so at its place if it was held up on its way
HELD_UP = 5.0  # seconds that the caller's audio may be; then the gap is taken for silence
TOO_EARLY = 1.0  # seconds: nobody has spoken yet what lies further ahead


class Heard:
    """The caller's: ``rate`` in Hz, ``channels`` interleaved."""

    def __init__(self, rate: int, channels: int) -> None:
        self._frame = 2 * channels
        self._second = rate * self._frame
        self._flow = HeardFlow()
        self._pieces: list[Piece] = []
        self._came = bytearray()  # not laid down yet; an odd byte waits for its other half
        self._first = self._last = 0.0  # when it came

    def add(self, data: bytes, now: float) -> None:
        if now - self._last > SLACK or now - self._first > TOGETHER:
            self._lay_down()
            self._first = now
        self._came += data
        self._last = now

    def taken(self, now: float, *, is_last: bool = False) -> list[Piece]:
        """What has come by ``now``, and is where it belongs."""
        if is_last or now - self._last > SLACK:
            self._lay_down()
        pieces, self._pieces = self._pieces, []
        return pieces

    def forget(self, before: float) -> None:
        self._pieces = [piece for piece in self._pieces if piece[0] >= before]

    def clear(self) -> None:
        self._came.clear()
        self._pieces.clear()

    def begins(self, now: float) -> float:
        """Where the first piece lies that was not taken."""
        self._lay_down()
        return min([start for start, _ in self._pieces[:1]], default=now)

    def until(self, now: float) -> float:
        """What lies before is all there, or never comes. Of what came last nobody knows yet where it belongs."""
        return max(min(self._flow.until, now), now - HELD_UP)

    def _lay_down(self) -> None:
        size = len(self._came) // self._frame * self._frame
        # Who sends faster than anybody speaks would fill the memory: what is too early is left out.
        if size and self._flow.until < self._last + TOO_EARLY:
            self._pieces.append((self._flow.add(size / self._second, self._last), bytes(self._came[:size])))
        del self._came[:size]


class Sent:
    """Ours, mono at ``rate`` Hz. What is not played yet may be taken back."""

    def __init__(self, rate: int) -> None:
        self._second = rate * 2
        self._playhead = Playhead(rate)
        self._pieces: deque[Piece] = deque()

    def add(self, pcm: bytes, now: float) -> None:
        self._pieces.append((self._playhead.sent(0, len(pcm) // 2, 0, now), pcm))

    def killed(self, now: float) -> None:
        self._playhead.cut(now)
        played = self.taken(now)
        self._pieces = deque(played)

    def taken(self, now: float) -> list[Piece]:
        """What has been played by ``now``."""
        played: list[Piece] = []
        while self._pieces and self._pieces[0][0] < now:
            start, pcm = self._pieces.popleft()
            size = round((now - start) * self._second / 2) * 2
            played.append((start, pcm[:size]))
            if size < len(pcm):
                self._pieces.appendleft((start + size / self._second, pcm[size:]))
                break
        return played

    def forget(self, before: float) -> None:
        while self._pieces and self._pieces[0][0] < before:
            self._pieces.popleft()

    def clear(self) -> None:
        self._pieces.clear()

    def begins(self, now: float) -> float:
        return self._pieces[0][0] if self._pieces else now
