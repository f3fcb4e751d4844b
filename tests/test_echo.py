"""Our own voice, come back softer and later, is told from another voice."""

import math
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pytest

from agentd.call.echo import Echo

RATE = 8000
FRAME = 160  # samples in 20 ms

Samples = npt.NDArray[np.float64]


def speech(seed: int, seconds: float = 3.0) -> Samples:
    """Syllables of noise, of different lengths and levels, with pauses between."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros(0)]
    while sum(map(len, parts)) < seconds * RATE:
        size, pause = (int(rng.uniform(*span) * RATE) for span in ((0.06, 0.28), (0.0, 0.2)))
        shape = np.hanning(size) ** rng.uniform(0.3, 1.5) * 10 ** (rng.uniform(-12, 0) / 20)
        parts += [3000 * shape * rng.normal(size=size), np.zeros(pause)]
    return np.concatenate(parts)[: int(seconds * RATE)]


def returned(samples: Samples, delay: float, db: float) -> Samples:
    """The echo of ``samples`` over a line with some noise."""
    late = np.concatenate([np.zeros(int(delay * RATE)), samples])[: len(samples)]
    return late * 10 ** (db / 20) + np.random.default_rng(0).normal(size=len(samples)) * 8


def levels(samples: Samples) -> list[float]:
    power = (samples.reshape(-1, FRAME) ** 2).mean(axis=1) / 32768**2
    return [10 * math.log10(one) if one else -math.inf for one in power]


def likeness(ours: Samples, theirs: Samples, burst: int = 1) -> float:
    """What ``Echo`` says at the end; the caller's frames come ``burst`` at a time."""
    echo = Echo()
    waiting = []
    for sent, heard in zip(levels(ours), levels(theirs), strict=True):
        echo.sent(sent)
        waiting.append(heard)
        if len(waiting) == burst:
            for level in waiting:
                echo.heard(level)
            waiting.clear()
    return echo.likeness()


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.12, 0.25, 0.444])
@pytest.mark.parametrize("db", [-10.0, -20.0])
def test_an_echo_is_like_our_own_audio(delay: float, db: float) -> None:
    for seed in range(4):
        ours = speech(seed)
        assert likeness(ours, returned(ours, delay, db)) > 0.8


def test_another_voice_is_not() -> None:
    values = [likeness(speech(seed), returned(speech(seed + 100), 0.1, -5.0)) for seed in range(20)]
    assert fmean(values) < 0.2
    assert sorted(values)[-2] < 0.5


def test_a_voice_over_an_echo_is_a_voice() -> None:
    values = []
    for seed in range(10):
        ours = speech(seed)
        values.append(likeness(ours, returned(ours, 0.1, -20.0) + speech(seed + 100)))
    assert fmean(values) < 0.4


@pytest.mark.parametrize("burst", [2, 5])
def test_packets_may_come_in_bursts(burst: int) -> None:
    ours = speech(7)
    assert likeness(ours, returned(ours, 0.2, -15.0), burst) > 0.8


def test_what_was_not_sent_is_silence() -> None:
    ours = speech(5)
    echo = Echo()
    for _ in range(200):
        echo.heard(-60.0)  # the caller's side runs all the time, ours begins to play now
    for sent, heard in zip(levels(ours), levels(returned(ours, 0.3, -15.0)), strict=True):
        echo.heard(heard)
        echo.sent(sent)
    assert echo.likeness() > 0.8


def test_steady_noise_is_like_nothing() -> None:
    rng = np.random.default_rng(3)
    assert likeness(speech(1), rng.normal(size=3 * RATE) * 300) < 0.5
    assert likeness(rng.normal(size=3 * RATE) * 300, rng.normal(size=3 * RATE) * 300) < 0.5
    assert likeness(speech(1), np.zeros(3 * RATE)) == 0.0


def test_there_is_no_echo_of_nothing() -> None:
    echo = Echo()
    assert not echo.is_agent_audible
    assert echo.likeness() == 0.0
    for level in levels(speech(2)):
        echo.heard(level)
        echo.sent(-math.inf)
    assert not echo.is_agent_audible
    assert echo.likeness() == 0.0


def test_the_agent_is_audible_until_its_echo_is_over() -> None:
    echo = Echo(frame=0.02)
    echo.sent(-20.0)
    assert echo.is_agent_audible
    for _ in range(25):
        assert echo.is_agent_audible
        echo.heard(-40.0)
    echo.heard(-40.0)
    assert not echo.is_agent_audible
