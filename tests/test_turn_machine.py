"""One test for each rule of a conversation: the guide, and verb-decisions where the guide is silent.

Where a test does not say otherwise there is no greeting, and silence is not answered with a prompt.
"""

import pytest

from tests.turn_scenes import ended, latency_of, machine_of, plain, play, speaking, thinking, wait
from turn.actions import Action, Cause, Cut, Discard, EndCall, Generate, Hold, KeepRemark, Resume
from turn.events import (
    AudioArrived,
    CallEnded,
    CallStarted,
    Event,
    HangupRequested,
    ReplyBegan,
    ReplyFailed,
    ReplyGenerated,
    ReplyHeard,
    ReplyPlayed,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    SynthesisBegan,
    ToolsCalled,
    ToolsReturned,
    TranscriptChanged,
    TranscriptFinished,
)
from turn.latency import Latency
from turn.machine import State, TurnMachine

# End of turn -----------------------------------------------------------------------------------------------


def test_a_turn_ends_with_silence_after_the_last_final() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)))
    assert machine.handle(TranscriptFinished("hello", 0.9), now=1.4) == []
    assert machine.timer_at() == 1.5  # half a second after the voice ended
    assert machine.tick(1.5) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_a_final_later_than_the_silence_ends_the_turn_at_once() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (2.0, TranscriptFinished("hello", 0.9)))
    assert machine.timer_at() == 2.0


def test_a_final_that_came_before_the_voice_ended_waits_for_the_rest() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.6, TranscriptFinished("hello", 0.9)), (1.3, SpeechStopped(0.3)))
    assert machine.timer_at() == 2.5
    assert play(machine, (1.4, TranscriptFinished("there", 0.8))) == []
    assert wait(machine, 1.5) == [Generate(1, 1, Cause.CALLER, "hello there")]


def test_without_a_final_the_last_partial_is_taken_after_a_second_and_a_half() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("hel")), (1.1, TranscriptChanged("hello")))
    assert play(machine, (1.3, SpeechStopped(0.3))) == []
    assert machine.timer_at() == 2.5
    assert machine.tick(2.5) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_a_pause_shorter_than_the_silence_goes_on_with_the_turn() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    assert play(machine, (1.4, SpeechStarted()), (2.3, SpeechStopped(0.3)), (2.4, TranscriptFinished("there"))) == []
    assert wait(machine, 2.5) == [Generate(1, 1, Cause.CALLER, "hello there")]


def test_speech_without_words_goes_back_to_listening_and_the_no_response_timer_covers_it() -> None:
    machine = machine_of(no_response=12.0)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)))
    assert machine.tick(2.5) == []
    assert (machine.state, machine.timer_at()) == (State.LISTENING, 14.5)
    assert machine.tick(14.5) == [Generate(1, 1, Cause.NO_RESPONSE)]


def test_an_empty_final_says_at_once_that_there_were_no_words() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.4, TranscriptFinished("")))
    assert machine.timer_at() == 1.4
    assert (machine.tick(1.4), machine.state) == ([], State.LISTENING)


def test_a_quiet_caller_whom_the_detector_misses_is_answered_after_the_last_word() -> None:
    machine = machine_of()
    said = [(at / 10, TranscriptChanged("word " * at)) for at in range(1, 40)]
    assert play(machine, *said, (4.0, TranscriptFinished("many words", 0.9))) == []
    assert machine.timer_at() == 4.5
    assert machine.tick(4.5) == [Generate(1, 1, Cause.CALLER, "many words")]


def test_a_partial_long_after_missed_speech_is_not_taken_at_once() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (8.0, TranscriptChanged("I")))
    assert machine.timer_at() == 9.5


def test_a_stuck_voice_is_taken_for_noise_after_15_seconds_without_a_word() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (5.0, TranscriptChanged("hello")))
    assert machine.timer_at() == 20.0
    assert wait(machine, 21.5) == [Generate(1, 1, Cause.CALLER, "hello")]


# Late and double transcripts -------------------------------------------------------------------------------


def taken_on_a_partial() -> TurnMachine:
    """At 2.5 "I want a" was taken without its final."""
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("I want a")), (1.3, SpeechStopped(0.3)))
    assert machine.tick(2.5) == [Generate(1, 1, Cause.CALLER, "I want a")]
    return machine


def test_the_late_final_of_a_turn_taken_on_its_partial_changes_nothing() -> None:
    machine = taken_on_a_partial()
    assert machine.handle(TranscriptFinished("I want a."), now=2.6) == []
    assert machine.state is State.THINKING


def test_a_late_final_corrects_the_turn_while_nothing_was_heard() -> None:
    machine = taken_on_a_partial()
    assert machine.handle(TranscriptFinished("I want a pizza", 0.8), now=2.6) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "I want a pizza"),
    ]


def test_a_correction_keeps_the_finals_before_it() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.5, TranscriptFinished("Hello.", 0.9)), (0.9, TranscriptChanged("I one")))
    play(machine, (1.3, SpeechStopped(0.3)))
    assert machine.tick(2.5) == [Generate(1, 1, Cause.CALLER, "Hello. I one")]
    assert machine.handle(TranscriptFinished("I want", 0.9), now=2.6)[1:] == [
        Generate(2, 1, Cause.CALLER, "Hello. I want")
    ]


def test_a_late_final_is_dropped_once_the_answer_is_heard() -> None:
    machine = taken_on_a_partial()
    play(machine, (2.8, AudioArrived(1, 5.0)), (2.9, ReplyHeard(1)))
    assert machine.handle(TranscriptFinished("I went a", 0.8), now=3.0) == []


def test_new_words_behind_those_that_are_answered_are_a_remark() -> None:
    machine = taken_on_a_partial()
    play(machine, (2.8, AudioArrived(1, 5.0)), (2.9, ReplyHeard(1)))
    assert machine.handle(TranscriptFinished("I want a pizza", 0.8), now=3.0) == [KeepRemark("pizza")]


def test_a_final_that_covers_the_turn_before_and_new_speech_is_answered_once() -> None:
    machine = taken_on_a_partial()
    play(machine, (2.8, AudioArrived(1, 5.0)), (2.9, ReplyHeard(1)), (3.0, SpeechStarted()))
    assert play(machine, (3.5, SpeechConfirmed()), (4.3, SpeechStopped(0.3))) == [Cut(1)]
    play(machine, (4.3, TranscriptFinished("I want a pizza. With cheese", 0.8)))
    assert wait(machine, 4.5)[-1] == Generate(2, 2, Cause.CALLER, "pizza. With cheese")


def test_late_partials_of_a_turn_are_dropped_with_it() -> None:
    machine = taken_on_a_partial()
    play(machine, (2.8, AudioArrived(1, 5.0)), (2.9, ReplyHeard(1)), (3.0, TranscriptChanged("I went a")))
    assert plain(machine.handle(ReplyPlayed(1), now=8.0)) == [ended(1, 1, "I want a", confidence=None)]
    assert machine.state is State.LISTENING


@pytest.mark.parametrize("between", [[(0.9, SpeechStarted())], [(0.9, TranscriptChanged("no"))]])
def test_a_caller_who_says_the_same_twice_in_one_turn_said_it_twice(between: list[tuple[float, Event]]) -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.8, SpeechStopped(0.3)), (0.8, TranscriptFinished("no", 0.9)), *between)
    play(machine, (0.9, TranscriptFinished("no", 0.9)), (0.9, SpeechStopped()))
    assert wait(machine, 1.5) == [Generate(1, 1, Cause.CALLER, "no no")]


def test_the_same_final_twice_is_answered_once() -> None:
    machine = thinking()
    assert machine.handle(TranscriptFinished("Hello!", 0.9), now=1.6) == []
    play(machine, (1.9, AudioArrived(1, 1.0)), (2.0, ReplyHeard(1)))
    assert machine.handle(TranscriptFinished("hello", 0.9), now=2.1) == []
    play(machine, (3.0, ReplyPlayed(1)))
    assert play(machine, (3.1, TranscriptFinished("hello", 0.9))) + wait(machine, 60.0) == []


def test_the_same_final_twice_before_the_turn_ends_is_said_once() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    play(machine, (1.4, TranscriptFinished("hello", 0.9)))
    assert wait(machine, 1.5) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_a_caller_who_says_the_same_again_is_answered_again() -> None:
    machine = speaking()
    play(machine, (12.0, ReplyPlayed(1)), (13.0, SpeechStarted()), (14.3, SpeechStopped(0.3)))
    play(machine, (14.3, TranscriptFinished("hello", 0.9)))
    assert wait(machine, 14.5) == [Generate(2, 2, Cause.CALLER, "hello")]
    quiet = speaking()  # not heard by our detector, but not soon enough to be the same words either
    play(quiet, (12.0, ReplyPlayed(1)), (14.0, TranscriptFinished("hello", 0.9)))
    assert wait(quiet, 14.5) == [Generate(2, 2, Cause.CALLER, "hello")]


def test_an_empty_final_changes_nothing() -> None:
    machine = thinking()
    assert machine.handle(TranscriptFinished(""), now=1.6) == []
    play(machine, (1.9, AudioArrived(1, 1.0)))
    assert machine.handle(TranscriptFinished(""), now=2.0) == []
    assert plain(machine.handle(ReplyPlayed(1), now=3.0)) == [ended(1, 1, "hello")]
    assert machine.handle(TranscriptFinished(""), now=3.1) == []
    assert machine.state is State.LISTENING


# No response -----------------------------------------------------------------------------------------------


def test_silence_after_a_reply_is_answered_with_a_prompt_after_12_seconds() -> None:
    machine = speaking(no_response=12.0)
    assert plain(machine.handle(ReplyPlayed(1), now=12.0)) == [ended(1, 1, "hello")]
    assert machine.timer_at() == 24.0
    assert machine.tick(24.0) == [Generate(2, 2, Cause.NO_RESPONSE)]


def test_no_response_0_prompts_nobody() -> None:
    machine = speaking(no_response=0.0)
    play(machine, (12.0, ReplyPlayed(1)))
    assert machine.timer_at() is None


def test_speech_cancels_the_no_response_timer() -> None:
    machine = speaking(no_response=12.0)
    play(machine, (12.0, ReplyPlayed(1)), (23.9, SpeechStarted()))
    assert machine.tick(24.0) == []
    assert machine.state is State.HEARING


def prompted(machine: TurnMachine, reply: int, at: float) -> list[Action]:
    """A no-response prompt is played and not answered."""
    return play(machine, (at, AudioArrived(reply, 1.0)), (at, ReplyHeard(reply)), (at + 1.0, ReplyPlayed(reply)))


def test_after_so_many_prompts_in_a_row_the_call_ends() -> None:
    machine = speaking(no_response=12.0, no_response_max=2)
    play(machine, (12.0, ReplyPlayed(1)))
    assert machine.tick(24.0) == [Generate(2, 2, Cause.NO_RESPONSE)]
    prompted(machine, 2, 25.0)
    assert machine.tick(38.0) == [Generate(3, 3, Cause.NO_RESPONSE)]
    prompted(machine, 3, 39.0)
    assert machine.tick(52.0) == [EndCall("no_response")]


def test_a_caller_who_speaks_starts_the_count_of_prompts_anew() -> None:
    machine = speaking(no_response=12.0, no_response_max=1)
    play(machine, (12.0, ReplyPlayed(1)))
    assert machine.tick(24.0) == [Generate(2, 2, Cause.NO_RESPONSE)]
    prompted(machine, 2, 25.0)
    play(machine, (27.0, TranscriptFinished("yes", 0.9)), (28.0, AudioArrived(3, 1.0)), (28.1, ReplyHeard(3)))
    play(machine, (29.0, ReplyPlayed(3)))
    assert machine.tick(41.0) == [Generate(4, 4, Cause.NO_RESPONSE)]


def test_no_limit_of_prompts_when_it_is_0() -> None:
    machine = speaking(no_response=12.0, no_response_max=0)
    play(machine, (12.0, ReplyPlayed(1)))
    assert machine.tick(24.0) == [Generate(2, 2, Cause.NO_RESPONSE)]


def test_no_prompt_after_an_error() -> None:
    machine = thinking(no_response=12.0)
    assert plain(machine.handle(ReplyFailed(1, "server error"), now=2.0)) == [
        ended(1, 1, "hello", error="server error")
    ]
    assert (machine.state, machine.timer_at()) == (State.LISTENING, None)


def test_no_prompt_before_anything_was_said_without_a_greeting() -> None:
    machine = machine_of(no_response=12.0)
    assert machine.handle(CallStarted(), now=0.0) == []
    assert machine.timer_at() is None


def test_the_greeting_is_a_turn_and_starts_the_no_response_timer() -> None:
    machine = machine_of(greeting=True, no_response=12.0)
    assert machine.handle(CallStarted(), now=0.0) == [Generate(1, 1, Cause.GREETING)]
    play(machine, (0.5, AudioArrived(1, 2.0)), (0.6, ReplyHeard(1)))
    assert plain(machine.handle(ReplyPlayed(1), now=2.6)) == [
        ended(1, 1, "", cause=Cause.GREETING, confidence=None),
    ]
    assert machine.timer_at() == 14.6


def test_the_call_starts_once() -> None:
    machine = machine_of(greeting=True)
    machine.handle(CallStarted(), now=0.0)
    assert machine.handle(CallStarted(), now=0.1) == []


# Barge-in --------------------------------------------------------------------------------------------------


def test_a_cough_only_holds_the_reply() -> None:
    machine = speaking()
    assert machine.handle(SpeechStarted(), now=3.0) == [Hold(1)]
    assert machine.timer_at() == 6.0
    assert machine.handle(SpeechStopped(), now=3.2) == [Resume(1)]
    assert machine.state is State.SPEAKING


def test_confirmed_speech_cuts_the_reply_and_its_words_are_the_next_turn() -> None:
    machine = speaking()
    assert play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed())) == [Hold(1), Cut(1)]
    assert play(machine, (4.3, SpeechStopped(0.3)), (4.3, TranscriptFinished("stop", 0.9))) == []
    assert plain(machine.tick(4.5)) == [
        ended(1, 1, "hello", interrupted=True),
        Generate(2, 2, Cause.CALLER, "stop"),
    ]


def test_the_reply_is_held_until_the_caller_decides_but_not_for_ever() -> None:
    machine = speaking()
    machine.handle(SpeechStarted(), now=3.0)
    assert machine.tick(6.0) == [Resume(1)]  # no more audio came from the caller


def test_speech_that_is_confirmed_after_the_hold_ran_out_still_cuts() -> None:
    machine = speaking()
    assert play(machine, (3.0, SpeechStarted()), (8.0, SpeechConfirmed())) == [Hold(1), Resume(1), Cut(1)]
    assert machine.state is State.INTERRUPTED


def test_an_interruption_without_words_resumes_the_reply() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed()), (4.3, SpeechStopped(0.3)))
    assert machine.tick(5.5) == [Resume(1)]
    assert machine.state is State.SPEAKING


def test_a_reply_that_was_resumed_and_heard_out_was_not_interrupted() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed()), (4.3, SpeechStopped(0.3)))
    assert plain(play(machine, (14.0, ReplyPlayed(1)))) == [Resume(1), ended(1, 1, "hello")]


def test_a_sticky_interruption_without_words_does_not_resume() -> None:
    machine = speaking(sticky=True, no_response=12.0)
    play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed()), (4.3, SpeechStopped(0.3)))
    assert plain(machine.tick(5.5)) == [ended(1, 1, "hello", interrupted=True)]
    assert (machine.state, machine.timer_at()) == (State.LISTENING, 17.5)


def test_a_sticky_cough_resumes() -> None:
    machine = speaking(sticky=True)
    assert play(machine, (3.0, SpeechStarted()), (3.2, SpeechStopped())) == [Hold(1), Resume(1)]


def test_the_final_of_a_cough_is_kept_as_a_remark_and_starts_no_turn() -> None:
    machine = speaking()
    assert play(machine, (3.0, SpeechStarted()), (3.4, SpeechStopped()), (3.6, TranscriptFinished("right", 0.9))) == [
        Hold(1),
        Resume(1),
        KeepRemark("right"),
    ]
    assert plain(play(machine, (12.0, ReplyPlayed(1)))) + wait(machine, 60.0) == [ended(1, 1, "hello")]


def test_a_remark_whose_final_is_quicker_than_its_end_is_kept_too() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()), (3.3, TranscriptFinished("right", 0.9)))
    assert machine.handle(SpeechStopped(0.2), now=3.4) == [Resume(1), KeepRemark("right")]


def test_a_remark_without_a_final_is_kept_when_the_reply_is_over() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()), (3.3, TranscriptChanged("right")), (3.4, SpeechStopped()))
    assert plain(machine.handle(ReplyPlayed(1), now=12.0)) == [ended(1, 1, "hello"), KeepRemark("right")]
    assert machine.state is State.LISTENING
    assert play(machine, (12.1, TranscriptFinished("right", 0.9))) + wait(machine, 60.0) == []


def test_words_over_the_last_words_of_a_reply_are_the_next_turn() -> None:
    machine = speaking()
    assert play(machine, (11.8, SpeechStarted())) == [Hold(1)]
    assert plain(machine.handle(ReplyPlayed(1), now=12.0)) == [ended(1, 1, "hello")]
    play(machine, (13.3, SpeechStopped(0.3)), (13.3, TranscriptFinished("thanks", 0.9)))
    assert wait(machine, 13.5) == [Generate(2, 2, Cause.CALLER, "thanks")]


def test_without_barge_in_nothing_holds_and_the_words_are_the_next_turn() -> None:
    machine = speaking(barge_in=False)
    said = play(
        machine,
        (3.0, SpeechStarted()),
        (3.5, SpeechConfirmed()),
        (4.0, TranscriptFinished("wait", 0.9)),
        (4.3, SpeechStopped(0.3)),
        (5.0, TranscriptFinished("please", 0.8)),
    )
    assert said == []
    assert plain(play(machine, (12.0, ReplyPlayed(1))) + wait(machine, 12.0)) == [
        ended(1, 1, "hello"),
        Generate(2, 2, Cause.CALLER, "wait please"),
    ]


def test_without_barge_in_a_caller_who_still_speaks_is_heard_out() -> None:
    machine = speaking(barge_in=False)
    play(machine, (11.0, SpeechStarted()), (12.0, ReplyPlayed(1)))
    assert machine.state is State.HEARING


def test_a_partial_over_a_message_of_a_caller_whom_the_detector_missed_has_a_deadline() -> None:
    machine = machine_of(greeting=True, barge_in=False)
    play(machine, (0.0, CallStarted()), (0.5, AudioArrived(1, 2.0)), (0.6, ReplyHeard(1)))
    play(machine, (2.5, TranscriptChanged("hello")), (2.6, ReplyPlayed(1)))
    assert machine.timer_at() == 4.0
    assert machine.tick(4.0) == [Generate(2, 2, Cause.CALLER, "hello")]


# Before anything was heard ---------------------------------------------------------------------------------


def test_speech_before_anything_was_heard_joins_the_same_turn() -> None:
    machine = thinking()
    assert play(machine, (1.7, SpeechStarted()), (2.2, SpeechConfirmed())) == [Hold(1)]
    play(
        machine, (2.3, AudioArrived(1, 3.0)), (3.3, SpeechStopped(0.3)), (3.3, TranscriptFinished("are you there", 0.7))
    )
    assert wait(machine, 3.5) == [Discard(1), Generate(2, 1, Cause.CALLER, "hello are you there")]


def test_the_joined_turn_has_the_confidence_of_its_last_words() -> None:
    machine = thinking()
    play(machine, (1.7, TranscriptFinished("there", 0.7)), (1.8, AudioArrived(2, 1.0)), (1.9, ReplyHeard(2)))
    assert plain(machine.handle(ReplyPlayed(2), now=3.0)) == [ended(1, 2, "hello there", confidence=0.7)]


def test_words_without_a_confidence_leave_the_turn_that_of_the_words_before() -> None:
    machine = thinking()
    play(machine, (1.7, SpeechStarted()), (2.2, SpeechConfirmed()), (2.3, TranscriptChanged("there")))
    assert play(machine, (3.3, SpeechStopped(0.3))) + wait(machine, 4.5) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "hello there"),
    ]
    assert plain(machine.handle(CallEnded(), now=5.0)) == [ended(1, 2, "hello there", interrupted=True)]


def test_a_second_final_before_anything_was_heard_joins_at_once() -> None:
    machine = thinking()
    assert machine.handle(TranscriptFinished("there", 0.9), now=1.7) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "hello there"),
    ]


def test_audio_that_is_queued_but_not_heard_does_not_make_the_words_a_remark() -> None:
    machine = thinking()
    play(machine, (1.7, AudioArrived(1, 1.0)))
    assert machine.handle(TranscriptFinished("there", 0.9), now=1.75) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "hello there"),
    ]


def test_speech_over_an_unheard_greeting_turns_it_into_the_callers_turn() -> None:
    machine = machine_of(greeting=True)
    play(machine, (0.0, CallStarted()), (0.2, SpeechStarted()), (0.7, SpeechConfirmed()), (1.3, SpeechStopped(0.3)))
    assert play(machine, (1.3, TranscriptFinished("hello", 0.9))) + wait(machine, 1.5) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "hello"),
    ]


def test_noise_before_anything_was_heard_changes_nothing() -> None:
    machine = thinking()
    assert play(machine, (1.7, SpeechStarted()), (1.9, AudioArrived(1, 1.0)), (2.0, SpeechStopped())) == [
        Hold(1),
        Resume(1),
    ]
    assert machine.state is State.SPEAKING


def test_an_error_of_a_discarded_reply_is_not_the_next_ones() -> None:
    machine = thinking()
    play(machine, (1.6, SpeechStarted()), (1.7, AudioArrived(1, 1.0)), (1.8, ReplyFailed(1, "server error")))
    play(machine, (2.0, TranscriptFinished("there", 0.9)), (2.3, SpeechStopped()))
    play(machine, (2.5, AudioArrived(2, 1.0)), (2.6, ReplyHeard(2)))
    assert plain(machine.handle(ReplyPlayed(2), now=4.0)) == [ended(1, 2, "hello there")]


# Replies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        ReplyBegan(1),
        ToolsCalled(1),
        ToolsReturned(1),
        SynthesisBegan(1),
        AudioArrived(1, 1.0),
        ReplyHeard(1),
        ReplyGenerated(1, audible=False),
        ReplyPlayed(1),
        ReplyFailed(1),
        ReplyPlayed(3),
    ],
)
def test_events_of_another_reply_are_dropped(event: Event) -> None:
    machine = thinking()
    play(machine, (1.7, TranscriptFinished("there", 0.9)))
    before = (machine.state, machine.turn, machine.timer_at())
    assert machine.handle(event, now=1.8) == []
    assert (machine.state, machine.turn, machine.timer_at()) == before


def test_a_reply_without_sound_ends_its_turn() -> None:
    machine = thinking(no_response=12.0)
    assert plain(machine.handle(ReplyGenerated(1, audible=False), now=2.0)) == [ended(1, 1, "hello")]
    assert machine.timer_at() == 14.0


def test_a_failed_reply_is_played_as_far_as_it_came() -> None:
    machine = speaking()
    assert machine.handle(ReplyFailed(1, "server error"), now=3.0) == []
    assert plain(machine.handle(ReplyPlayed(1), now=12.0)) == [ended(1, 1, "hello", error="server error")]


def test_a_model_that_does_not_answer_fails_the_turn() -> None:
    machine = thinking()
    assert machine.timer_at() == 31.5
    assert plain(machine.tick(31.5)) == [ended(1, 1, "hello", error="timeout")]


def test_a_reply_that_stalls_ends_and_keeps_what_was_heard() -> None:
    machine = speaking()
    assert machine.timer_at() == 21.9  # ten seconds after what was queued
    assert plain(machine.tick(21.9)) == [ended(1, 1, "hello", error="timeout")]  # no Discard: it was heard


def test_the_first_error_of_a_reply_is_its_turns() -> None:
    machine = speaking()
    play(machine, (3.0, ReplyFailed(1, "server error")), (4.0, ReplyFailed(1, "connection failure")))
    assert plain(wait(machine, 60.0)) == [ended(1, 1, "hello", error="server error")]


def test_audio_that_comes_during_a_hold_is_played_behind_what_was_held() -> None:
    machine = thinking()
    play(machine, (1.9, AudioArrived(1, 1.0)), (2.0, ReplyHeard(1)), (2.5, SpeechStarted()))
    play(machine, (4.5, AudioArrived(1, 1.0)), (5.0, SpeechStopped()))
    assert machine.timer_at() == pytest.approx(5.0 + 0.4 + 1.0 + 10.0)


def test_a_held_reply_stalls_later() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()), (4.0, AudioArrived(1, 1.0)), (5.0, SpeechStopped()))
    assert machine.timer_at() == 11.9 + 1.0 + 2.0 + 10.0


def test_running_tools_are_waited_for() -> None:
    machine = thinking()
    play(machine, (30.0, ToolsCalled(1)))
    assert machine.timer_at() == 60.0
    play(machine, (49.0, ToolsReturned(1)))
    assert machine.timer_at() == 79.0


def test_tools_behind_spoken_words_are_waited_for() -> None:
    machine = thinking()
    play(machine, (2.0, ReplyBegan(1)), (2.1, ToolsCalled(1)), (2.2, AudioArrived(1, 1.0)), (2.3, ReplyHeard(1)))
    assert machine.timer_at() == 33.2  # behind "let me see"
    play(machine, (22.0, ToolsReturned(1)))
    assert machine.timer_at() == 52.0


def test_three_failed_turns_in_a_row_end_the_call() -> None:
    machine = thinking()
    actions = machine.handle(ReplyFailed(1, "server error"), now=2.0)
    for reply, at in ((2, 10.0), (3, 20.0)):
        play(machine, (at, TranscriptFinished(f"hello {reply}", 0.9)))
        assert wait(machine, at + 1) == [Generate(reply, reply, Cause.CALLER, f"hello {reply}")]
        actions = machine.handle(ReplyFailed(reply, "server error"), now=at + 2)
    assert plain(actions) == [ended(3, 3, "hello 3", error="server error"), EndCall("server error")]


def test_an_answer_that_was_heard_and_interrupted_is_no_failure() -> None:
    machine = thinking()
    machine.handle(ReplyFailed(1), now=2.0)
    play(machine, (10.0, TranscriptFinished("two", 0.9)), (12.0, ReplyFailed(2)), (20.0, TranscriptFinished("three")))
    play(
        machine, (21.0, AudioArrived(3, 9.0)), (21.1, ReplyHeard(3)), (22.0, SpeechStarted()), (22.5, SpeechConfirmed())
    )
    play(machine, (23.3, SpeechStopped(0.3)), (23.3, TranscriptFinished("four", 0.9)))
    assert plain(play(machine, (24.0, ReplyFailed(4)))) == [
        ended(3, 3, "three", confidence=None, interrupted=True),
        Generate(4, 4, Cause.CALLER, "four"),
        ended(4, 4, "four", error="server failure"),
    ]


def test_a_reply_that_was_heard_out_although_it_was_cut_ends_its_turn() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed()))
    assert plain(machine.handle(ReplyPlayed(1), now=3.6)) == [ended(1, 1, "hello", interrupted=True)]
    assert machine.state is State.HEARING


def test_what_slips_out_after_the_interruption_is_cut() -> None:
    machine = thinking()
    assert play(machine, (1.7, AudioArrived(1, 3.0)), (1.8, SpeechStarted()), (2.0, SpeechConfirmed())) == [Hold(1)]
    assert machine.handle(ReplyHeard(1), now=2.1) == [Cut(1)]


# The end of the call ---------------------------------------------------------------------------------------


def test_the_call_ends_when_the_goodbye_was_heard_and_barge_in_does_not_stop_it() -> None:
    machine = speaking()
    assert machine.handle(HangupRequested("bye"), now=3.0) == []
    assert play(machine, (4.0, SpeechStarted()), (4.5, SpeechConfirmed()), (5.0, TranscriptFinished("wait"))) == []
    assert plain(machine.handle(ReplyPlayed(1), now=12.0)) == [ended(1, 1, "hello"), EndCall("bye")]


def test_a_held_goodbye_is_resumed() -> None:
    for confirmed in ([], [(2.2, SpeechConfirmed())]):
        machine = thinking()
        assert play(machine, (1.7, SpeechStarted()), *confirmed) == [Hold(1)]
        assert machine.handle(HangupRequested("bye"), now=3.0) == [Resume(1)]


def test_a_long_goodbye_is_heard_to_its_end_but_not_for_ever() -> None:
    machine = speaking()
    play(machine, (3.0, HangupRequested("bye")), (4.0, AudioArrived(1, 20.0)))
    assert machine.timer_at() == 11.9 + 20.0 + 15.0
    assert machine.handle(HangupRequested("bye"), now=5.0) == []
    assert plain(machine.tick(46.9)) == [ended(1, 1, "hello", interrupted=True), EndCall("bye")]


def test_a_hangup_with_nothing_to_say_ends_the_call_at_once() -> None:
    assert machine_of().handle(HangupRequested("bye"), now=1.0) == [EndCall("bye")]


def test_a_goodbye_that_fails_ends_the_call() -> None:
    machine = thinking()
    machine.handle(HangupRequested("bye"), now=2.0)
    assert plain(machine.handle(ReplyFailed(1, "server error"), now=2.5)) == [
        ended(1, 1, "hello", error="server error"),
        EndCall("bye"),
    ]


def test_a_caller_who_hangs_up_ends_the_turn() -> None:
    machine = speaking()
    assert plain(machine.handle(CallEnded(), now=3.0)) == [ended(1, 1, "hello", interrupted=True)]
    assert (machine.state, machine.timer_at()) == (State.ENDED, None)
    assert play(machine, (3.1, ReplyPlayed(1)), (3.2, TranscriptFinished("hello?")), (3.3, CallEnded())) == []


# Latency ---------------------------------------------------------------------------------------------------


def test_the_parts_of_the_latency_add_up_to_the_total() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    play(machine, (1.6, ToolsCalled(1)), (2.0, ToolsReturned(1)), (2.2, ReplyBegan(1)), (2.3, SynthesisBegan(1)))
    play(machine, (2.5, AudioArrived(1, 1.0)), (2.58, ReplyHeard(1)), (2.6, ToolsCalled(1)), (2.9, ToolsReturned(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=4.0)) == Latency(
        stt=0.3, eot=0.2, llm=0.3, tool=0.4, text=0.1, tts=0.2, playout=0.08, total=1.58
    )


def test_a_turn_taken_on_a_partial_waited_for_its_end_only() -> None:
    machine = taken_on_a_partial()
    play(machine, (3.0, ReplyBegan(1)), (3.0, SynthesisBegan(1)), (3.2, AudioArrived(1, 1.0)), (3.3, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=5.0)) == Latency(
        eot=1.5, llm=0.5, tts=0.2, playout=0.1, total=2.3
    )


def test_a_greetings_latency_begins_with_its_prompt() -> None:
    machine = machine_of(greeting=True)
    play(machine, (0.0, CallStarted()), (0.4, ReplyBegan(1)), (0.5, SynthesisBegan(1)), (0.7, AudioArrived(1, 1.0)))
    play(machine, (0.8, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=2.0)) == Latency(
        llm=0.4, text=0.1, tts=0.2, playout=0.1, total=0.8
    )


def test_a_final_before_the_end_of_speech_costs_nothing() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.2, TranscriptFinished("hello", 0.9)), (1.5, SpeechStopped(0.3)))
    play(machine, (1.8, ReplyBegan(1)), (1.8, SynthesisBegan(1)), (2.0, AudioArrived(1, 1.0)), (2.0, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=3.0)) == Latency(
        stt=0.0, eot=0.5, llm=0.1, tts=0.2, playout=0.0, total=0.8
    )


def test_what_was_said_over_a_message_waited_for_its_end_not_for_us() -> None:
    machine = speaking(barge_in=False)
    play(machine, (3.0, SpeechStarted()), (4.3, SpeechStopped(0.3)), (4.3, TranscriptFinished("wait", 0.9)))
    play(machine, (12.0, ReplyPlayed(1)), (12.4, ReplyBegan(2)), (12.4, SynthesisBegan(2)))
    play(machine, (12.5, AudioArrived(2, 1.0)), (12.6, ReplyHeard(2)))
    assert latency_of(machine.handle(ReplyPlayed(2), now=13.6)) == Latency(
        stt=0.0, llm=0.4, tts=0.1, playout=0.1, total=0.6
    )
