"""RNNoise (Xiph; BSD), by the library in pyrnnoise's wheel. The package itself is not imported: of later versions that
loads matplotlib and ffmpeg.

It works at 48 kHz on 10 ms: other rates are resampled there and back. About 1 ms of a core for every 20 ms frame.
It takes out what is steady; other voices it keeps, and distorts the caller's while they speak.
"""

import ctypes
import sys
import weakref
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from providers.base import ProviderError
from providers.pcm import FRAME, TAPS, Resampler

NAME = "rnnoise"
INSTALL = "pip install 'agentd[noise]'"
FILES = {"darwin": "librnnoise.dylib", "win32": "rnnoise.dll"}
RATE = 48000
SIZE = 480  # samples a step
DELAY = 960  # samples at 48 kHz, measured: speech correlates best with itself so much later


class RnNoise:
    """One direction of one call. ``rate`` is 8000 to 48000 Hz."""

    name = NAME

    def __init__(self, rate: int, level: float = 100) -> None:
        lib = _library()
        self.level = level
        self.delay = DELAY * rate // RATE
        self._up: Resampler | None = None
        self._down: Resampler | None = None
        if rate != RATE:
            self._up, self._down = Resampler(rate, RATE), Resampler(RATE, rate)
            self.delay += 2 * TAPS
        self._dry = bytes(self.delay * 2)  # what was heard last: it is mixed in as late as the rest
        self._samples = np.zeros(int(RATE * FRAME), np.float32)
        self._steps = [self._samples[at : at + SIZE].ctypes.data for at in range(0, len(self._samples), SIZE)]
        self._run = lib.rnnoise_process_frame
        self._state: int | None = lib.rnnoise_create(None)
        self._free = weakref.finalize(self, lib.rnnoise_destroy, self._state)

    def process(self, frame: bytes) -> bytes:
        if self._state is None:
            raise ProviderError(NAME, "noise-engine-failed", "expected frames before close(), got one after it")
        self._samples[:] = np.frombuffer(frame if self._up is None else self._up.frame(frame), "<i2")
        for step in self._steps:
            self._run(self._state, step, step)  # in place
        wet = _l16(self._samples)
        return self._mixed(frame, wet if self._down is None else self._down.frame(wet))

    def close(self) -> None:
        self._state = None
        self._free()

    def _mixed(self, frame: bytes, wet: bytes) -> bytes:
        heard = self._dry + frame
        dry, self._dry = heard[: len(frame)], heard[len(frame) :]
        if self.level >= 100:
            return wet
        if self.level <= 0:
            return dry
        share = self.level / 100
        return _l16(np.frombuffer(wet, "<i2") * share + np.frombuffer(dry, "<i2") * (1 - share))


def make(rate: int, level: float) -> RnNoise:
    """Raises ``ProviderError``: ``noise-engine-missing``, ``noise-engine-failed``."""
    return RnNoise(rate, level)


def find_library() -> Path | None:
    """The library's file, or None when pyrnnoise is not installed."""
    spec = find_spec("pyrnnoise")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name(FILES.get(sys.platform, "librnnoise.so"))
    return file if file.is_file() else None


def _library() -> Any:
    path = find_library()
    if path is None:
        message = f"expected the library of pyrnnoise, got none; install it with: {INSTALL}"
        raise ProviderError(NAME, "noise-engine-missing", message)
    return _load(path)


@cache
def _load(path: Path) -> Any:
    try:
        lib = ctypes.CDLL(str(path))
        lib.rnnoise_create.restype = ctypes.c_void_p
        lib.rnnoise_create.argtypes = [ctypes.c_void_p]
        lib.rnnoise_destroy.restype = None
        lib.rnnoise_destroy.argtypes = [ctypes.c_void_p]
        lib.rnnoise_process_frame.restype = ctypes.c_float
        lib.rnnoise_process_frame.argtypes = [ctypes.c_void_p] * 3
        size = lib.rnnoise_get_frame_size()
    except (OSError, AttributeError) as exc:
        raise ProviderError(NAME, "noise-engine-failed", f"expected RNNoise in {path}, got {exc}") from exc
    if size != SIZE:
        raise ProviderError(NAME, "noise-engine-failed", f"expected steps of {SIZE} samples in {path}, got {size}")
    return lib


def _l16(samples: Any) -> bytes:
    return bytes(np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes())
