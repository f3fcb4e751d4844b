"""L16 audio of a vendor becomes L16 audio of the rate that is wanted: whole samples, without the lag of a buffer."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt

FRAME = 0.02  # seconds
TAPS = 24  # half length of the low-pass, in samples of the lower rate: 1.5 ms at 16 kHz

Floats = npt.NDArray[np.float32]


class Resampler:
    """A fixed low-pass as one matrix product a frame, with 1.5 ms of delay. L16 mono, from ``rate`` to ``to`` Hz.

    A streaming soxr would lag 10 to 118 ms, as measured; live audio cannot wait for that.
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


class Stream:
    """Bytes of any length in, odd ones included; whole samples at ``to`` Hz out. ``rate`` is that of the input."""

    def __init__(self, rate: int, to: int) -> None:
        self._rest = b""
        self._size = int(rate * FRAME) * 2
        self._out = int(to * FRAME) * 2
        self._resampler = None if rate == to else Resampler(rate, to)

    def push(self, pcm: bytes) -> bytes:
        pcm = self._rest + pcm if self._rest else pcm
        size = 2 if self._resampler is None else self._size
        whole = len(pcm) - len(pcm) % size
        self._rest = pcm[whole:]
        if self._resampler is None:
            return pcm[:whole]
        return b"".join(self._resampler.frame(pcm[at : at + size]) for at in range(0, whole, size))

    def flush(self) -> bytes:
        """What is left, to its last whole sample; the stream may be used again."""
        rest, self._rest = self._rest[: len(self._rest) // 2 * 2], b""
        if self._resampler is None or not rest:
            return b""
        whole = self._resampler.frame(rest.ljust(self._size, b"\0"))
        return whole[: len(rest) * self._out // self._size // 2 * 2]


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
