"""Caller audio as it comes from the wire becomes mono frames of 20 ms at a rate that detectors and recognisers take."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

FRAME = 0.02  # seconds
RATES = (8000, 16000, 24000, 32000, 48000)  # what the listen verb's sampleRate may be
TAPS = 24  # half length of the low-pass, in samples of the lower rate: 1.5 ms at 16 kHz

Floats = npt.NDArray[np.float32]


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


class Resampler:
    """A fixed low-pass as one matrix product a frame, with 1.5 ms of delay.

    A streaming soxr would lag 10 to 118 ms (vendors.md section 0); live audio cannot wait for that.
    """

    def __init__(self, rate: int, to: int) -> None:
        self._matrix, self._history = _matrix(rate, to)
        self._last = np.zeros(self._history, np.float32)

    def frame(self, pcm: bytes) -> bytes:
        """Exactly 20 ms in, exactly 20 ms out."""
        samples = np.concatenate([self._last, np.frombuffer(pcm, "<i2").astype(np.float32)])
        self._last = samples[-self._history :]
        out = self._matrix @ samples
        return bytes(np.clip(np.rint(out), -32768, 32767).astype("<i2").tobytes())


@lru_cache(maxsize=16)
def _matrix(rate: int, to: int) -> tuple[Floats, int]:
    """Windowed-sinc interpolation: row i weighs the input samples around output sample i."""
    frame_in, frame_out = int(rate * FRAME), int(to * FRAME)
    low = min(rate, to)
    reach = TAPS * rate / low  # half the filter, in input samples
    history = int(np.ceil(2 * reach)) + 1
    position = np.arange(frame_out)[:, None] * (rate / to) + history - reach
    distance = (np.arange(history + frame_in)[None, :] - position) / reach  # -1 … 1 within the filter
    cutoff = 0.94 * low / rate
    kernel = (
        cutoff * np.sinc(cutoff * distance * reach) * np.where(abs(distance) < 1, np.cos(distance * np.pi / 2) ** 2, 0)
    )
    return (kernel / kernel.sum(axis=1, keepdims=True)).astype(np.float32), history
