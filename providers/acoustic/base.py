"""What an acoustic end-of-turn engine looks like, how one is asked for, and the audio that it remembers."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

SECONDS = 8  # what is remembered; Smart Turn was trained on windows of this length

Floats = npt.NDArray[np.float32]


class EndOfTurnModel(Protocol):
    """Judges the audio of the caller's current turn. One object serves one call.

    ``hear`` every 20 ms frame, voiced or not; ``judge`` when the voice has paused (at 200 ms of quiet, and again
    later: the answer gets surer with the silence); ``reset`` when the turn was taken.
    """

    name: str

    def hear(self, frame: bytes) -> None:
        """20 ms of L16 mono at the rate that the engine was made for. Cheap; never waits, never raises."""
        ...

    async def judge(self) -> float:
        """The probability that the turn is over, of the audio up to now. Cancelling is safe: work that waits is given
        up, work that runs is finished and dropped. Raises ``ProviderError``: go by the words and the clock then.
        """
        ...

    def reset(self) -> None:
        """Forget what was heard: a new turn begins."""
        ...


@dataclass(frozen=True, slots=True)
class AcousticSpec:
    """How an engine is asked for. Paths are files; what is left out is looked for.

    ``engine`` takes this one or fails: ``krisp``, ``smart-turn-v3`` or ``rule``. ``model`` is the verb's
    ``turnDetection.model``: a ``.kef`` or an ``.onnx`` file, or the name of a Krisp model beside ``krisp_model``.
    """

    engine: str | None = None
    model: str | None = None
    krisp_model: str | None = None
    krisp_key: str | None = field(default=None, repr=False)
    smart_turn_model: str | None = None


class Recent:
    """The last 8 s of one call's audio: a ring of samples, so that hearing a frame is one copy."""

    def __init__(self, rate: int, seconds: float = SECONDS) -> None:
        self.rate = rate
        self._ring = np.zeros(int(rate * seconds), np.int16)
        self._heard = 0  # samples since the last reset

    def hear(self, frame: bytes) -> None:
        """Any number of whole samples, at most as many as the ring holds."""
        samples = np.frombuffer(frame, "<i2")
        size = len(self._ring)
        at = self._heard % size
        first = min(len(samples), size - at)
        self._ring[at : at + first] = samples[:first]
        self._ring[: len(samples) - first] = samples[first:]
        self._heard += len(samples)

    def samples(self, seconds: float = SECONDS) -> Floats:
        """A copy of the last of them, oldest first, from -1 to 1; fewer where less was heard."""
        size = len(self._ring)
        count = min(self._heard, size, int(self.rate * seconds))
        places = np.arange(self._heard - count, self._heard) % size
        return self._ring[places].astype(np.float32) / np.float32(32768)

    def reset(self) -> None:
        self._heard = 0
