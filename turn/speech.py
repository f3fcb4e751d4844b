"""Is-speech booleans per frame become the caller's speech, in audio time. The detector is injected by whoever calls.

Time here is frames, not arrival: a burst of late packets gives the same events as a steady stream.
"""

import math
from collections import deque

from turn.events import SpeechConfirmed, SpeechStarted, SpeechStopped

SpeechEvent = SpeechStarted | SpeechConfirmed | SpeechStopped

ONSET_FRAMES = 3  # voiced frames …
ONSET_WINDOW = 5  # … among the last so many start speech: a single click does not


class Segmenter:
    """``frame`` is the length of a frame in seconds; ``confirm`` the speech that confirms a barge-in, counted from
    its first voiced frame; ``stop`` the quiet that ends it. A pause shorter than ``stop`` belongs to the speech,
    but only a voiced frame can confirm: a short cough and the quiet after it do not add up.
    """

    def __init__(self, frame: float = 0.02, confirm: float = 0.5, stop: float = 0.3) -> None:
        self.frame = frame
        self._confirm_frames = _frames(confirm, frame)
        self._stop_frames = _frames(stop, frame)
        self._recent: deque[bool] = deque(maxlen=ONSET_WINDOW)
        self._length = 0  # frames since the onset; 0 = no speech
        self._quiet = 0  # unvoiced frames at its end
        self._confirmed = False

    @property
    def is_speaking(self) -> bool:
        return self._length > 0

    @property
    def quiet(self) -> float:
        """Seconds without a voice, within speech that is not over for all that."""
        return self._quiet * self.frame if self._length else 0.0

    def push(self, voiced: bool) -> list[SpeechEvent]:
        """Take the next frame. Mostly there is nothing to tell."""
        if self._length == 0:
            self._recent.append(voiced)
            if sum(self._recent) < ONSET_FRAMES:
                return []
            self._length = len(self._recent) - self._recent.index(True)
            self._quiet = 0
            self._confirmed = False
            return [SpeechStarted(spoken=self._length * self.frame), *self._confirm()]
        self._length += 1
        if voiced:
            self._quiet = 0
            return self._confirm()
        self._quiet += 1
        if self._quiet < self._stop_frames:
            return []
        self._length = 0
        self._recent.clear()
        return [SpeechStopped(quiet=self._quiet * self.frame)]

    def _confirm(self) -> list[SpeechEvent]:
        if self._confirmed or self._length < self._confirm_frames:
            return []
        self._confirmed = True
        return [SpeechConfirmed()]


def _frames(seconds: float, frame: float) -> int:
    """The whole frames that last at least so long; 1e-9 is for 0.3 / 0.02 and its like."""
    return max(math.ceil(seconds / frame - 1e-9), 1)
