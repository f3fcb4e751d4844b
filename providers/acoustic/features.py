"""What Smart Turn sees: Whisper's log-mel spectrogram of the last 8 s, with numpy alone.

The definition is Whisper's feature extractor with chunks of 8 s: Hann windows of 25 ms every 10 ms, power, 80 mel
bands on Slaney's scale, log10 with a range of 8, shifted to about -1 … 1. The waveform is brought to zero mean and
unit variance first, its padding included. Against pipecat-ai 1.14.0's own the largest difference was 1.2e-5.
"""

from functools import cache

import numpy as np

from providers.acoustic.base import SECONDS, Floats

RATE = 16000
SAMPLES = RATE * SECONDS
BANDS, FRAMES = 80, SAMPLES // 160
WINDOW, HOP = 400, 160
HALF_TAPS = 24  # of the upsampling filter on each side: 3 ms at 8 kHz


def log_mel(samples: Floats, rate: int) -> Floats:
    """``(80, 800)`` of the last 8 s; less is padded with zeros before it. ``rate`` is 8000 or 16000 Hz."""
    heard = doubled(samples) if rate == 8000 else samples
    wave = np.zeros(SAMPLES, np.float32)
    heard = heard[-SAMPLES:]
    wave[SAMPLES - len(heard) :] = heard
    wave = (wave - wave.mean()) / np.sqrt(wave.var() + np.float32(1e-7))
    padded = np.pad(wave, WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:FRAMES]
    spectrum = np.fft.rfft(windows * _hann(), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    # Not power @ bands: BLAS would wake its threads for it, and they spin for as long as the model then runs.
    mel = np.einsum("fb,bm->mf", power, _mel_bands())
    log = np.log10(np.maximum(mel, 1e-10))
    features: Floats = ((np.maximum(log, log.max() - 8) + 4) / 4).astype(np.float32)
    return features


def doubled(samples: Floats) -> Floats:
    """8 kHz as 16 kHz: the samples themselves, and between each two the value of a windowed sinc there."""
    out = np.empty(2 * len(samples), np.float32)
    out[::2] = samples
    out[1::2] = np.convolve(np.pad(samples, HALF_TAPS), _half_way(), "valid")[1 : len(samples) + 1]
    return out


@cache
def _half_way() -> Floats:
    distance = np.arange(-HALF_TAPS, HALF_TAPS) + 0.5
    kernel = np.sinc(distance) * np.cos(distance / HALF_TAPS * np.pi / 2) ** 2
    normal: Floats = (kernel / kernel.sum()).astype(np.float32)
    return normal


@cache
def _hann() -> Floats:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)  # periodic


@cache
def _mel_bands() -> Floats:
    """``(201, 80)``: triangles of equal area between frequencies that are evenly spaced in mel."""
    # Slaney's mel: linear to 1 kHz (15 mel), then 27 mel for every factor of 6.4. From 0 to 8 kHz:
    top = 15 + np.log(8) * 27 / np.log(6.4)
    mel = np.linspace(0, top, BANDS + 2)
    hertz = np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))
    bins = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    low, middle, high = hertz[:-2], hertz[1:-1], hertz[2:]
    rising, sinking = (bins - low) / (middle - low), (high - bins) / (high - middle)
    bands: Floats = (np.maximum(0, np.minimum(rising, sinking)) * 2 / (high - low)).astype(np.float32)
    return bands
