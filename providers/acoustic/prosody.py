"""The built-in hearing: how loud and how high the end of the caller's speech was. Computed when asked for."""

import numpy as np

from providers.acoustic.base import Floats, Recent
from turn.completeness import FRAME, WINDOW, Prosody

SEARCH = 3.0  # seconds in which the end of the speech is looked for
BELOW_PEAK_DB = 25.0  # quieter than the loudest frame by more than this is not speech any more
QUIET_DBFS = -50.0
PITCH_WINDOW = 0.04  # seconds: two periods of 50 Hz
LOWEST, HIGHEST = 65.0, 420.0  # Hz
CLARITY = 0.5  # of the autocorrelation's peak: below it a frame has no pitch
FIRST_PEAK = 0.85  # the shortest period whose peak is nearly as high as the highest: no octave too low


class Hearing:
    """One call's: ``hear`` every 20 ms frame, ask for the :class:`Prosody` when the voice has paused."""

    def __init__(self, rate: int) -> None:
        self._recent = Recent(rate, SEARCH)
        self._rate = rate

    def hear(self, frame: bytes) -> None:
        self._recent.hear(frame)

    def prosody(self) -> Prosody:
        """About half a millisecond of work; empty when no speech is in reach."""
        return prosody(self._recent.samples(SEARCH), self._rate)

    def reset(self) -> None:
        self._recent.reset()


def prosody(samples: Floats, rate: int) -> Prosody:
    """Energy and pitch of the last 0.6 s of speech in the samples (-1 to 1)."""
    size = int(rate * FRAME)
    samples = samples[len(samples) % size :]
    energy = 10 * np.log10(np.mean(np.square(samples.reshape(-1, size)), axis=1) + 1e-10)
    loud = np.flatnonzero(energy > max(QUIET_DBFS, energy.max(initial=-100.0) - BELOW_PEAK_DB))
    if not len(loud):
        return Prosody()
    end = int(loud[-1]) + 1
    begin = max(int(loud[0]), end - round(WINDOW / FRAME))
    return Prosody(tuple(energy[begin:end].tolist()), _pitches(samples, rate, begin, end))


def _pitches(samples: Floats, rate: int, begin: int, end: int) -> tuple[float | None, ...]:
    """Hz of the frames ``begin`` to ``end``, by autocorrelation of the 40 ms around each."""
    size, window = int(rate * FRAME), int(rate * PITCH_WINDOW)
    padded = np.pad(samples, (window - size) // 2)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, window)[begin * size : end * size : size]
    pieces = (pieces - pieces.mean(axis=1, keepdims=True)) * np.hanning(window)
    spectrum = np.fft.rfft(pieces, 2 * window, axis=1)
    correlation = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)
    # The window makes every lag smaller than it is; divided by the window's own correlation it is not.
    taper = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(window), 2 * window)) ** 2)
    first, last = int(rate / HIGHEST), int(rate / LOWEST)
    lags = correlation[:, first : last + 1] / (correlation[:, :1] + 1e-12) * (taper[0] / taper[first : last + 1])
    is_peak = np.zeros(lags.shape, bool)
    is_peak[:, 1:-1] = (lags[:, 1:-1] >= lags[:, :-2]) & (lags[:, 1:-1] > lags[:, 2:])
    highest = np.where(is_peak, lags, 0.0).max(axis=1, keepdims=True)
    chosen = (is_peak & (lags >= FIRST_PEAK * highest)).argmax(axis=1)
    return tuple(
        float(rate / (first + at)) if clear >= CLARITY else None
        for at, clear in zip(chosen.tolist(), highest[:, 0].tolist(), strict=True)
    )
