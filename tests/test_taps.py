"""Who listens in on a call's line hears what is heard and sent on it, each side where it lies in time."""

from agentd.jambonz.taps import HeardFlow
from turn.playout import Playhead


def test_the_callers_audio_lies_behind_what_came_before_however_it_is_cut() -> None:
    flow = HeardFlow()
    assert flow.add(0.02, now=0.02) == 0.0
    assert flow.add(0.06, now=0.11) == 0.02  # three frames in one message, 30 ms late
    assert flow.until == 0.08


def test_a_gap_in_the_callers_audio_stays_a_gap() -> None:
    flow = HeardFlow(until=1.0)
    assert flow.add(0.02, now=5.02) == 5.0
    assert flow.until == 5.02


def test_our_audio_plays_behind_what_was_sent_before_and_at_once_when_nothing_waits() -> None:
    playhead = Playhead(8000)
    assert playhead.sent(0, 1280, 0, now=1.0) == 1.0
    assert playhead.sent(0, 640, 0, now=1.01) == 1.16
    assert playhead.sent(0, 640, 0, now=3.0) == 3.0


def test_what_comes_behind_killed_audio_plays_at_once() -> None:
    playhead = Playhead(8000)
    playhead.sent(0, 16000, 0, now=1.0)
    playhead.cut(now=1.5)
    assert playhead.sent(0, 640, 0, now=1.5) == 1.5
    assert playhead.until == 1.58
    playhead.cut(now=9.0)  # all of it had been played
    assert playhead.sent(0, 640, 0, now=9.0) == 9.0
