"""What the caller's audio means: bytes to speech events, and on to the recogniser. A plain call a frame, no task."""

import math
from collections.abc import Callable

import numpy as np
import webrtcvad

from agentd.call.audio import Framer
from providers.audio_feed import AudioFeed, Mark
from providers.noise.base import Isolation
from turn.events import Event, SpeechStarted, SpeechStopped
from turn.speech import Segmenter

Detector = Callable[[bytes], bool]
"""Is there a voice in this frame (20 ms, L16 mono)?"""

QUIET_DBFS = -50.0  # webrtcvad takes the first frames of very quiet noise for speech (local-voice.md section 3)


def webrtc_detector(rate: int, mode: int = 2, quiet_dbfs: float = QUIET_DBFS) -> Detector:
    """WebRTC's voice detector behind an energy gate. ``rate`` 8000 or 16000 Hz; ``mode`` 0 (lenient) to 3."""
    vad = webrtcvad.Vad(mode)
    gate = (32768 * 10 ** (quiet_dbfs / 20)) ** 2

    def is_voiced(frame: bytes) -> bool:
        samples = np.frombuffer(frame, "<i2").astype(np.float32)
        return float(samples @ samples) > gate * len(samples) and bool(vad.is_speech(frame, rate))

    return is_voiced


class Ear:
    """Feeds the recogniser all audio, and the machine what the detector hears, in audio time.

    With ``isolation`` everybody hears what that leaves, as they would had jambonz isolated the call: a detector that
    hears more than the recogniser waits for words that never come.
    """

    def __init__(
        self, framer: Framer, detector: Detector, segmenter: Segmenter, feed: AudioFeed, tell: Callable[[Event], None]
    ) -> None:
        self._framer = framer
        self._is_voiced = detector
        self._segmenter = segmenter
        self._feed = feed
        self._tell = tell
        self.frames = 0
        self.isolation: Isolation | None = None  # may change between frames
        self.listeners: list[Callable[[bytes, bool], None]] = []  # called with every frame, and whether it is voiced

    @property
    def quiet(self) -> float:
        """As :attr:`turn.speech.Segmenter.quiet`."""
        return self._segmenter.quiet

    def hear(self, data: bytes) -> None:
        """Audio as the wire gives it, any length."""
        for frame in self._framer.push(data):
            self.frames += 1
            if self.isolation is not None:
                frame = self.isolation.process(frame)
            self._feed.push(frame)
            voiced = self._is_voiced(frame)
            for listener in self.listeners:
                listener(frame, voiced)
            for event in self._segmenter.push(voiced):
                if isinstance(event, SpeechStarted):
                    self._feed.mark(Mark.SPEECH_STARTED)
                elif isinstance(event, SpeechStopped):
                    self._feed.mark(Mark.SPEECH_STOPPED)
                self._tell(event)


def level_dbfs(pcm: bytes) -> float:
    """The level of L16 audio; silence is -inf."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    mean = float(samples @ samples) / max(len(samples), 1)
    return dbfs(mean)


def dbfs(mean: float) -> float:
    """The level of samples whose squares have this mean; silence is -inf."""
    return 10 * math.log10(mean / 32768**2) if mean else -math.inf
