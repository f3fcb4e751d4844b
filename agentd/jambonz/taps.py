"""Who listens in on a call's line: a recording, and the levels of a timeline. Most calls have nobody."""

from dataclasses import dataclass
from typing import Protocol

SLACK = 0.2  # seconds that the caller's audio may come late, as sockets are, before it counts as a gap


class Tap(Protocol):
    """Each is a plain call in the path of every frame: it must be quick and must not raise. A tap may remove itself
    from its line's taps at any time.
    """

    def heard(self, data: bytes) -> None:
        """Caller audio as the wire brought it: L16 at the call's sampleRate, its channels interleaved, any length."""
        ...

    def sent(self, pcm: bytes) -> None:
        """Our audio as it leaves: L16 mono at the playback rate. It plays behind what was sent before."""
        ...

    def killed(self) -> None:
        """What was sent and has not been played by now never will be (`killAudio`)."""
        ...


@dataclass(slots=True)
class HeardFlow:
    """Where the caller's audio lies in time. Seconds of one clock, such as those since the call began. Where ours does,
    :class:`turn.playout.Playhead` knows.
    """

    until: float = 0.0  # what came so far ends there

    def add(self, length: float, now: float) -> float:
        """When so many seconds of audio that came by ``now`` begin: behind what came before, unless there is a gap."""
        if now - length > self.until + SLACK:
            self.until = now - length
        start, self.until = self.until, self.until + length
        return start
