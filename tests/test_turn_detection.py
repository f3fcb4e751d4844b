"""Who says that the caller has finished: the vendor's own end of turn, and the acoustic mode (verb-decisions, "Turn
detection"). The end by silence is in test_turn_machine.
"""

import pytest

from tests.turn_scenes import ended, latency_of, machine_of, plain, play, speaking, thinking, wait
from turn.actions import Cause, Cut, Discard, Generate, Hold, KeepRemark, Resume
from turn.events import (
    AudioArrived,
    CallEnded,
    CallStarted,
    EndOfTurn,
    HangupRequested,
    PauseJudged,
    ReplyBegan,
    ReplyHeard,
    ReplyPlayed,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    SynthesisBegan,
    TranscriptChanged,
    TranscriptFinished,
)
from turn.latency import Latency
from turn.machine import State

# The vendor's own end of turn ------------------------------------------------------------------------------


def test_a_native_end_of_turn_ends_it_at_once() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)))
    assert machine.handle(EndOfTurn("hello", 0.9), now=1.35) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_also_while_the_detector_hears_a_voice() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.6, TranscriptFinished("well", 0.8)))
    assert machine.handle(EndOfTurn("hello", 0.9), now=1.0) == [Generate(1, 1, Cause.CALLER, "well hello")]
    assert play(machine, (5.0, SpeechStopped())) == []
    assert machine.state is State.THINKING


def test_also_of_a_caller_whom_the_detector_missed() -> None:
    assert machine_of().handle(EndOfTurn("hello"), now=1.0) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_it_may_leave_the_words_to_the_finals_before_it() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.0, TranscriptFinished("hello", 0.9)))
    assert machine.handle(EndOfTurn(""), now=1.2) == [Generate(1, 1, Cause.CALLER, "hello")]
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.0, TranscriptFinished("hello", 0.9)))
    assert machine.handle(EndOfTurn("Hello."), now=1.2) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_without_any_words_it_ends_nothing() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()))
    assert machine.handle(EndOfTurn(""), now=1.0) == []
    assert machine.state is State.HEARING


def test_the_end_of_a_turn_that_silence_ended_already_is_not_answered_again() -> None:
    machine = thinking()
    assert machine.handle(EndOfTurn("Hello.", 0.9), now=1.6) == []


def test_more_words_before_anything_was_heard_join_the_turn_at_once() -> None:
    joined = [Discard(1), Generate(2, 1, Cause.CALLER, "hello there")]
    machine = thinking()
    assert machine.handle(EndOfTurn("there"), now=1.7) == joined
    held = thinking()
    assert play(held, (1.6, SpeechStarted())) == [Hold(1)]
    assert held.handle(EndOfTurn("there"), now=1.9) == joined
    confirmed = thinking()
    assert play(confirmed, (1.6, SpeechStarted()), (2.1, SpeechConfirmed())) == [Hold(1)]
    assert confirmed.handle(EndOfTurn("there"), now=2.2) == joined


def test_over_an_answer_that_is_heard_it_is_a_remark() -> None:
    machine = speaking()
    assert machine.handle(EndOfTurn("right", 0.9), now=3.0) == [KeepRemark("right")]
    assert machine.state is State.SPEAKING


def test_whether_a_held_answer_is_interrupted_is_still_the_detectors_to_say() -> None:
    cough = speaking()
    assert play(cough, (3.0, SpeechStarted()), (3.3, EndOfTurn("right"))) == [Hold(1)]
    assert cough.handle(SpeechStopped(0.2), now=3.4) == [Resume(1), KeepRemark("right")]

    stop = speaking()
    assert play(stop, (3.0, SpeechStarted()), (3.3, EndOfTurn("stop")), (3.5, SpeechConfirmed())) == [Hold(1), Cut(1)]
    assert plain(stop.handle(EndOfTurn("please"), now=3.8)) == [
        ended(1, 1, "hello", interrupted=True),
        Generate(2, 2, Cause.CALLER, "stop please"),
    ]


def test_a_confirmed_interruption_ends_with_the_vendors_end_of_turn() -> None:
    machine = speaking()
    assert play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed())) == [Hold(1), Cut(1)]
    assert plain(machine.handle(EndOfTurn("stop", 0.9), now=3.9)) == [
        ended(1, 1, "hello", interrupted=True),
        Generate(2, 2, Cause.CALLER, "stop"),
    ]


def test_over_a_message_that_cannot_be_interrupted_it_ends_the_turn_when_that_was_played() -> None:
    machine = speaking(barge_in=False)
    play(machine, (11.6, SpeechStarted()), (11.9, EndOfTurn("wait", 0.9)))  # the detector still hears a voice
    assert plain(play(machine, (12.0, ReplyPlayed(1))) + wait(machine, 12.0)) == [
        ended(1, 1, "hello"),
        Generate(2, 2, Cause.CALLER, "wait"),
    ]


def test_a_caller_who_goes_on_behind_it_is_heard_out() -> None:
    machine = speaking(barge_in=False)
    play(machine, (9.0, SpeechStarted()), (10.0, EndOfTurn("wait", 0.9)), (10.3, SpeechStopped()))
    assert plain(play(machine, (11.0, SpeechStarted()), (12.0, ReplyPlayed(1)))) == [ended(1, 1, "hello")]
    assert machine.state is State.HEARING


def test_over_a_goodbye_it_is_not_heard() -> None:
    machine = speaking()
    play(machine, (3.0, HangupRequested("bye")))
    assert machine.handle(EndOfTurn("wait"), now=4.0) == []


def test_the_late_final_of_a_turn_taken_on_its_partial_may_be_a_native_end() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("I want a")), (1.3, SpeechStopped(0.3)))
    assert wait(machine, 2.5) == [Generate(1, 1, Cause.CALLER, "I want a")]
    assert machine.handle(EndOfTurn("I want a."), now=2.6) == []
    assert machine.handle(EndOfTurn("And fries"), now=2.7)[1:] == [Generate(2, 1, Cause.CALLER, "I want a And fries")]


def answered(reply: int, at: float) -> list[tuple[float, ReplyBegan | SynthesisBegan | AudioArrived | ReplyHeard]]:
    return [
        (at + 0.4, ReplyBegan(reply)),
        (at + 0.4, SynthesisBegan(reply)),
        (at + 0.6, AudioArrived(reply, 1.0)),
        (at + 0.7, ReplyHeard(reply)),
    ]


def test_the_latency_of_a_native_end_is_its_way_from_the_voices_end() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.35, EndOfTurn("hello")), *answered(1, 1.35))
    assert latency_of(machine.handle(ReplyPlayed(1), now=4.0)) == Latency(
        stt=0.35, llm=0.4, tts=0.2, playout=0.1, total=1.05
    )


def test_where_the_detector_hears_a_voice_all_the_time_the_last_new_word_was_the_voices_end() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("hello")), (1.2, EndOfTurn("hello")))
    play(machine, *answered(1, 1.2))
    assert latency_of(machine.handle(ReplyPlayed(1), now=4.0)) == Latency(
        stt=0.3, llm=0.4, tts=0.2, playout=0.1, total=1.0
    )


def test_where_it_has_just_fallen_silent_the_last_voiced_frame_was_the_voices_end() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.2, TranscriptChanged("hello")), (1.2, EndOfTurn("hello", quiet=0.1)))
    play(machine, *answered(1, 1.2))
    assert latency_of(machine.handle(ReplyPlayed(1), now=4.0)) == Latency(
        stt=0.1, llm=0.4, tts=0.2, playout=0.1, total=0.8
    )


# The acoustic mode -----------------------------------------------------------------------------------------


def paused(judged: float) -> float | None:
    """The voice stopped at 1.0 behind a final; the pause is judged at 1.3."""
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("I want", 0.9)))
    assert machine.handle(PauseJudged(judged), now=1.3) == []
    return machine.timer_at()


@pytest.mark.parametrize(("judged", "due"), [(0.3, 1.3), (0.8, 1.8), (1.6, 2.6)])
def test_a_judged_pause_is_waited_for_instead_of_the_silence(judged: float, due: float) -> None:
    assert paused(judged) == pytest.approx(due)


def test_what_was_judged_too_late_ends_the_turn_at_once() -> None:
    assert paused(0.1) == 1.3


def test_it_may_be_judged_again() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("I want", 0.9)))
    play(machine, (1.3, PauseJudged(1.6)), (1.4, TranscriptFinished("that", 0.9)), (1.4, PauseJudged(0.6)))
    assert machine.timer_at() == 1.6


def test_a_judgement_is_forgotten_when_the_voice_goes_on() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("I want", 0.9)))
    play(machine, (1.3, PauseJudged(1.6)), (1.5, SpeechStarted()), (2.3, SpeechStopped(0.3)))
    play(machine, (2.3, TranscriptFinished("that", 0.9)))
    assert machine.timer_at() == 2.5


def test_a_judgement_is_of_one_turn() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("I want", 0.9)))
    play(machine, (1.3, PauseJudged(1.6)), (2.7, CallStarted()), (2.8, AudioArrived(1, 1.0)), (2.9, ReplyHeard(1)))
    play(machine, (3.9, ReplyPlayed(1)), (5.0, TranscriptFinished("thanks", 0.9)))
    assert machine.timer_at() == 5.5


def test_a_judgement_that_comes_while_the_voice_is_on_says_nothing() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.5, PauseJudged(0.1)), (1.3, SpeechStopped(0.3)))
    play(machine, (1.3, TranscriptFinished("I want", 0.9)))
    assert machine.timer_at() == 1.5


@pytest.mark.parametrize(("judged", "due"), [(0.1, 2.5), (1.6, 2.6)])
def test_a_missing_final_is_waited_for_whatever_was_judged_but_not_for_ever(judged: float, due: float) -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("hello")), (1.3, SpeechStopped(0.3)))
    play(machine, (1.3, PauseJudged(judged)))
    assert machine.timer_at() == due
    assert wait(machine, due) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_the_wait_of_a_judged_pause_is_the_end_of_turns_part_of_the_latency() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    play(machine, (1.3, PauseJudged(0.9)), *answered(1, 1.9))
    assert latency_of(machine.handle(ReplyPlayed(1), now=4.0)) == Latency(
        stt=0.3, eot=0.6, llm=0.4, tts=0.2, playout=0.1, total=1.6
    )


def test_a_call_that_ends_in_a_judged_pause_ends() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, PauseJudged(0.9)))
    assert machine.handle(CallEnded(), now=1.4) == []
    assert machine.timer_at() is None
