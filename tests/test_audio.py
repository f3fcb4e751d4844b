"""Bytes from the wire become frames of 20 ms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.call.audio import RATES, Framer, inner_rate


def tone(hertz: float, seconds: float, rate: int) -> bytes:
    return bytes((10_000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("<i2"))


def level(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(np.sqrt((samples**2).mean()))


@given(st.lists(st.integers(0, 2000), max_size=20), st.sampled_from([1, 2]))
def test_the_frames_are_the_same_however_the_bytes_arrive(cuts: list[int], channels: int) -> None:
    pcm = np.arange(8000, dtype="<i2").tobytes()
    whole = Framer(8000, channels).push(pcm)
    framer, frames, at = Framer(8000, channels), [], 0
    for cut in [*cuts, len(pcm)]:
        frames += framer.push(pcm[at : at + cut])
        at += cut
    assert frames == whole
    assert {len(frame) for frame in whole} == {320}


def test_of_stereo_the_caller_is_heard() -> None:
    both = np.column_stack((np.arange(160), np.full(160, 9999))).astype("<i2").tobytes()
    assert Framer(8000, 2).push(both) == [np.arange(160).astype("<i2").tobytes()]


@pytest.mark.parametrize("rate", RATES)
def test_a_voice_keeps_its_level_and_what_the_inner_rate_cannot_hold_is_gone(rate: int) -> None:
    inner = inner_rate(rate)

    def heard(hertz: float) -> float:
        frames = Framer(rate).push(tone(hertz, 1.0, rate))
        assert len(frames) == 50
        assert {len(frame) for frame in frames} == {inner // 50 * 2}
        return level(b"".join(frames[5:]))

    assert heard(300) == pytest.approx(7071, rel=0.02)
    assert heard(3000) == pytest.approx(7071, rel=0.03)
    if rate > inner:
        assert heard(0.62 * inner) < 100


def test_loud_audio_does_not_wrap_around() -> None:
    square = (np.where(np.arange(24_000) // 12 % 2, -32768, 32767)).astype("<i2").tobytes()
    samples = np.frombuffer(b"".join(Framer(24_000).push(square)), "<i2").astype(int)
    assert np.abs(np.diff(samples[200:])).max() < 65_000  # one step from rail to rail takes two samples
