"""How loud a call is, told while somebody looks, and at no cost while nobody does."""

import numpy as np

from agentd.jambonz.levels import SILENCE, Levels
from agentd.jambonz.taps import Tap
from agentd.ops.log import EventLog
from agentd.ops.stream import SOUND, LiveLog, View
from tests import virtual_time
from tests.whole_call import House, agent

RATE = 8000


class Line:
    """A call's line and its clock: 20 ms of both sides at a time."""

    def __init__(self, channels: int = 1) -> None:
        self.now = 0.0
        self.channels = channels
        self.taps: list[Tap] = []
        self.log = EventLog(lambda: self.now)
        self.levels = Levels(self.taps, self.log, rate=RATE, channels=channels, playback_rate=RATE)

    def frames(self, count: int, caller: int = 0) -> None:
        for _ in range(count):
            self.now += 0.02
            samples = np.zeros((RATE // 50, self.channels), "<i2")
            samples[:, 0] = caller  # in stereo our own voice is on the second channel
            for tap in self.taps[:]:
                tap.heard(samples.tobytes())

    def sent(self, seconds: float, level: int) -> None:
        for tap in self.taps[:]:
            tap.sent(np.full(round(seconds * RATE), level, "<i2").tobytes())

    @property
    def told(self) -> list[tuple[float, list[int], list[int]]]:
        return [(entry["from"], entry["caller"], entry["agent"]) for entry in self.log.entries]


def test_levels_are_those_of_tenths_of_a_second_in_dbfs() -> None:
    line = Line()
    line.levels.watch(60.0)
    line.frames(10)
    line.frames(10, caller=16384)
    line.frames(5, caller=32767)
    assert line.told == [(0.0, [SILENCE, SILENCE, -6, -6, 0], [SILENCE] * 5)]


def test_the_agents_voice_counts_when_it_is_heard_and_not_when_it_is_sent() -> None:
    line = Line()
    line.levels.watch(60.0)
    line.sent(0.2, 16384)
    line.sent(0.1, 1638)
    line.frames(25)
    assert line.told == [(0.0, [SILENCE] * 5, [-6, -6, -26, SILENCE, SILENCE])]


def test_what_was_silenced_before_it_was_heard_has_no_level() -> None:
    line = Line()
    line.levels.watch(60.0)
    line.sent(0.5, 16384)
    line.frames(10)
    for tap in line.taps:
        tap.killed()
    line.sent(0.1, 1638)
    line.frames(15)
    assert line.told[0][2] == [-6, -6, -26, SILENCE, SILENCE]


def test_of_a_stereo_call_the_callers_channel_counts() -> None:
    line = Line(channels=2)
    line.levels.watch(60.0)
    line.frames(25, caller=16384)
    assert line.told[0][1] == [-6] * 5


def test_who_comes_later_sees_what_is_heard_from_then_on() -> None:
    line = Line()
    line.now = 12.34
    line.levels.watch(60.0)
    line.frames(60, caller=16384)
    assert [(start, len(caller)) for start, caller, _ in line.told] == [(12.4, 5), (12.9, 5)]


def test_nobody_is_told_once_nobody_looks_any_more() -> None:
    line = Line()
    line.levels.watch(1.0)
    line.frames(100)
    assert (len(line.told), line.taps) == (3, [])  # the third finds that it is time to go
    line.levels.watch(1.0)
    line.frames(30)
    assert (line.told[-1][0], len(line.taps)) == (2.0, 1)


def test_a_gap_in_the_callers_audio_is_told_by_its_last_second_at_most() -> None:
    line = Line()
    line.levels.watch(1000.0)
    line.frames(25)
    line.now += 100.0
    line.frames(25)
    assert [(start, len(caller)) for start, caller, _ in line.told] == [(0.0, 5), (99.5, 10), (100.5, 5)]


def test_a_call_is_measured_while_somebody_reads_its_sound_and_no_longer() -> None:
    house = House(agent())

    async def main() -> None:
        async with house.call() as call:
            await call.until(lambda: len(house.node.calls))
            (live,) = house.node.calls
            await LiveLog(live, View()).more(0, 0.1)
            await call.play(1.0)
            assert house.entries("sound") == []
            await LiveLog(live, View(sound=True)).more(0, 0.1)
            await call.play(1.0)
            seen = len(house.entries("sound"))
            assert seen
            await call.play(SOUND + 1)
            after = len(house.entries("sound"))
            await call.play(5.0)
            assert len(house.entries("sound")) == after

    virtual_time.run(main())
