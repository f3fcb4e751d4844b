"""Caller audio as it comes from the wire becomes mono frames of 20 ms at a rate that detectors and recognisers take."""

import numpy as np

from providers.pcm import FRAME, Resampler

RATES = (8000, 16000, 24000, 32000, 48000)  # what the listen verb's sampleRate may be


def inner_rate(rate: int) -> int:
    """The rate inside: 8 kHz calls stay as they are, all others are heard at 16 kHz."""
    return 8000 if rate == 8000 else 16000


class Framer:
    """Bytes of any length in, whole frames out: L16 mono at ``inner_rate(rate)``.

    ``channels`` 2 means interleaved, the caller first (the listen verb's `stereo`). What does not fill a frame, an
    odd byte included, waits for the next bytes.
    """

    def __init__(self, rate: int, channels: int = 1) -> None:
        self.rate = inner_rate(rate)
        self._size = int(rate * FRAME) * 2 * channels
        self._channels = channels
        self._rest = b""
        self._resampler = None if rate == self.rate else Resampler(rate, self.rate)

    def push(self, data: bytes) -> list[bytes]:
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._size
        self._rest = data[whole:]
        return [self._frame(data[at : at + self._size]) for at in range(0, whole, self._size)]

    def _frame(self, data: bytes) -> bytes:
        if self._channels == 2:
            data = np.frombuffer(data, "<i2")[::2].tobytes()
        return data if self._resampler is None else self._resampler.frame(data)
