"""What the built-in engine hears at the end of a voice."""

import numpy as np
import pytest

from providers.acoustic.base import Floats
from providers.acoustic.prosody import Hearing, prosody
from turn.completeness import Prosody, falling

RATES = pytest.mark.parametrize("rate", [8000, 16000])


def voice(rate: int, begin: float, end: float, *, fade_db: float = 0.0, seconds: float = 1.2) -> Floats:
    """Harmonics of a pitch that goes from ``begin`` to ``end`` Hz, without the fundamental, as a telephone has it."""
    t = np.arange(int(seconds * rate)) / rate
    pitch = begin * (end / begin) ** (t / seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(2, 10))
    return np.asarray(0.1 * tone * 10 ** (-fade_db * t / seconds / 20), np.float32)


def quiet(rate: int, seconds: float) -> Floats:
    return np.random.default_rng(1).normal(0, 1e-4, int(seconds * rate)).astype(np.float32)


@RATES
@pytest.mark.parametrize("hertz", [90, 120, 200, 300])
def test_the_pitch_of_a_steady_voice_is_found(rate: int, hertz: float) -> None:
    found = [pitch for pitch in prosody(voice(rate, hertz, hertz), rate).pitch[1:-1] if pitch]
    assert len(found) == 28
    assert found == pytest.approx([hertz] * 28, rel=0.04)


@RATES
def test_the_quiet_after_the_voice_is_left_out(rate: int) -> None:
    heard = prosody(np.concatenate([voice(rate, 150, 150), quiet(rate, 0.4)]), rate)
    assert (len(heard.energy), len(heard.pitch)) == (30, 30)
    assert min(heard.energy) > -40


@RATES
def test_a_voice_that_sinks_falls_and_one_that_rises_does_not(rate: int) -> None:
    def heard(*voices: Floats) -> float:
        return falling(prosody(np.concatenate([*voices, quiet(rate, 0.2)]), rate))

    assert heard(voice(rate, 220, 110, fade_db=25)) > 0.65
    assert heard(voice(rate, 160, 160)) == pytest.approx(0.34, abs=0.03)
    assert heard(voice(rate, 120, 240)) < 0.2


def test_noise_has_no_pitch() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 8000).astype(np.float32)
    assert sum(pitch is not None for pitch in prosody(noise, 8000).pitch) <= 3


def test_where_nobody_spoke_there_is_nothing_to_hear() -> None:
    assert prosody(np.zeros(0, np.float32), 8000) == Prosody()
    assert prosody(quiet(8000, 1.0), 8000) == Prosody()
    assert Hearing(8000).prosody() == Prosody()


def test_hearing_is_asked_in_the_pause() -> None:
    hearing = Hearing(8000)
    sound = np.concatenate([voice(8000, 200, 120), quiet(8000, 0.2)])
    pcm = (sound * 32767).astype("<i2").tobytes()
    for at in range(0, len(pcm), 320):
        hearing.hear(pcm[at : at + 320])
    assert len(hearing.prosody().pitch) == 30
    hearing.reset()
    assert hearing.prosody() == Prosody()
