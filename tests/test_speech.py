"""Frames of 20 ms become the caller's speech, exact to the frame."""

from hypothesis import given
from hypothesis import strategies as st

from turn.events import SpeechConfirmed, SpeechStarted, SpeechStopped
from turn.speech import Segmenter, SpeechEvent


def heard(frames: str, *, confirm: float = 0.5, stop: float = 0.3) -> dict[int, list[SpeechEvent]]:
    """What frames like ``"..###"`` (# is voiced) tell, by the number of the frame (the first is 1)."""
    segmenter = Segmenter(confirm=confirm, stop=stop)
    told = {at: segmenter.push(frame == "#") for at, frame in enumerate(frames, start=1)}
    return {at: events for at, events in told.items() if events}


def test_speech_starts_with_the_third_voiced_frame() -> None:
    assert heard("..###") == {5: [SpeechStarted(spoken=0.06)]}


def test_speech_starts_with_three_voiced_of_five_frames_and_counts_from_the_first() -> None:
    assert heard("#.#.#") == {5: [SpeechStarted(spoken=0.1)]}


def test_three_voiced_of_six_frames_are_noise() -> None:
    assert heard("#.#..#") == {}


def test_clicks_are_no_speech() -> None:
    assert heard("#....#....##...") == {}


def test_speech_stops_after_the_quiet_and_says_how_long_it_was() -> None:
    assert heard("###" + "." * 15) == {3: [SpeechStarted(0.06)], 18: [SpeechStopped(quiet=0.3)]}


def test_a_pause_shorter_than_the_quiet_belongs_to_the_speech() -> None:
    assert heard("###" + "." * 14 + "#" + "." * 15) == {3: [SpeechStarted(0.06)], 33: [SpeechStopped(0.3)]}


def test_the_frame_that_completes_half_a_second_confirms() -> None:
    assert heard("#" * 30) == {3: [SpeechStarted(0.06)], 25: [SpeechConfirmed()]}


def test_speech_is_confirmed_once() -> None:
    told = heard("#" * 200)
    assert [events for events in told.values() if SpeechConfirmed() in events] == [[SpeechConfirmed()]]


def test_a_cough_of_300_ms_is_not_confirmed_at_500() -> None:
    assert heard("#" * 15 + "." * 30) == {3: [SpeechStarted(0.06)], 30: [SpeechStopped(0.3)]}


def test_only_a_voiced_frame_confirms() -> None:
    frames = "#" * 24 + "..." + "#"
    assert heard(frames) == {3: [SpeechStarted(0.06)], 28: [SpeechConfirmed()]}


def test_no_minimum_confirms_at_once() -> None:
    assert heard("###", confirm=0.0) == {3: [SpeechStarted(0.06), SpeechConfirmed()]}


def test_a_minimum_between_two_frames_is_rounded_up() -> None:
    assert heard("#" * 5, confirm=0.05) == {3: [SpeechStarted(0.06), SpeechConfirmed()]}
    assert heard("#" * 5, confirm=0.07) == {3: [SpeechStarted(0.06)], 4: [SpeechConfirmed()]}


def test_speech_begins_anew_after_it_stopped() -> None:
    once = "###" + "." * 15
    assert heard(once + once) == {
        3: [SpeechStarted(0.06)],
        18: [SpeechStopped(0.3)],
        21: [SpeechStarted(0.06)],
        36: [SpeechStopped(0.3)],
    }


@given(st.lists(st.booleans(), max_size=200))
def test_starts_and_stops_alternate_and_confirmations_lie_within(frames: list[bool]) -> None:
    segmenter = Segmenter(confirm=0.2, stop=0.1)
    depth = 0
    for voiced in frames:
        for event in segmenter.push(voiced):
            match event:
                case SpeechStarted(spoken):
                    assert voiced and depth == 0 and 0.06 <= round(spoken, 9) <= 0.1
                    depth = 1
                case SpeechConfirmed():
                    assert voiced and depth == 1
                    depth = 2
                case SpeechStopped(quiet):
                    assert not voiced and depth in (1, 2) and round(quiet, 9) == 0.1
                    depth = 0
        assert segmenter.is_speaking == (depth > 0)
