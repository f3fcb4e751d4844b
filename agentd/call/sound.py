"""A sound file that was fetched for a call: decoded on a worker thread, bounded, and played round and round."""

import io

import numpy as np

LONGEST = 60.0  # seconds that are kept
RATES = range(4000, 192_001)  # Hz of a file that are taken
CHANNELS = 8


class BadSound(Exception):
    """The file is none that can be played; the message names what was found."""


class Loop:
    """L16 mono without an end and without a seam: call it for so many bytes."""

    def __init__(self, pcm: bytes) -> None:
        self._pcm = pcm
        self._at = 0

    def __call__(self, size: int) -> bytes:
        chunk = self._pcm[self._at : self._at + size]
        while len(chunk) < size:
            chunk += self._pcm[: size - len(chunk)]
        self._at = (self._at + size) % len(self._pcm)
        return chunk


def decode(data: bytes, rate: int) -> bytes:
    """WAV, FLAC, OGG or MP3 as L16 mono at ``rate`` Hz, without a sample of -1. Raises :class:`BadSound`. Takes up to a
    second, so it belongs on a thread; the libraries are loaded there, too.
    """
    try:
        import soundfile  # type: ignore[import-untyped, unused-ignore]
        import soxr
    except (ImportError, OSError) as exc:
        raise BadSound(f"expected soundfile and soxr to be installed, got {type(exc).__name__}") from exc
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.samplerate not in RATES or not 0 < file.channels <= CHANNELS:
                raise BadSound(f"expected speech or music, got {file.channels} channels at {file.samplerate} Hz")
            longest = int(LONGEST * file.samplerate)
            blocks = file.blocks(file.samplerate, dtype="float32", always_2d=True, frames=longest)
            parts = [block.mean(axis=1) for block in blocks]  # a second at a time: eight channels are not kept
            from_rate = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError, ValueError, TypeError) as exc:
        raise BadSound(f"expected a WAV, FLAC, OGG or MP3 file, got {len(data)} bytes of something else") from exc
    mono = np.nan_to_num(np.concatenate(parts)) if parts else np.zeros(0, np.float32)
    if from_rate != rate and len(mono):
        mono = soxr.resample(mono, from_rate, rate)
    if len(mono) == 0:
        raise BadSound("expected a sound, got an empty file")
    samples = np.clip(np.rint(mono * 32768), -32768, 32767).astype("<i2")
    return np.where(samples == -1, np.int16(-2), samples).astype("<i2").tobytes()
