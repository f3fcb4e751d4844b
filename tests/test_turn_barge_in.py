"""Barge-in beyond the tentative hold: predicted interruptions, and a greeting that nobody may interrupt. The hold
itself is in test_turn_machine.
"""

import pytest

from tests.turn_scenes import ended, latency_of, machine_of, plain, play, speaking, thinking, wait
from turn.actions import Cause, Cut, Discard, Generate, Hold, KeepRemark, Resume
from turn.events import (
    AudioArrived,
    CallStarted,
    EndOfTurn,
    Event,
    HangupRequested,
    InterruptionPredicted,
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
from turn.machine import State, TurnMachine

# Predicted interruptions -----------------------------------------------------------------------------------


def test_where_interruptions_are_predicted_speech_neither_holds_nor_cuts() -> None:
    machine = speaking(tentative=False)
    assert play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed()), (4.3, SpeechStopped(0.3))) == []
    assert machine.state is State.SPEAKING


def test_a_predicted_interruption_cuts_and_its_words_are_the_next_turn() -> None:
    machine = speaking(tentative=False)
    play(machine, (3.0, SpeechStarted()), (3.4, TranscriptChanged("stop")))
    assert machine.handle(InterruptionPredicted(), now=3.4) == [Cut(1)]
    play(machine, (4.3, SpeechStopped(0.3)), (4.3, TranscriptFinished("stop it", 0.9)))
    assert plain(wait(machine, 4.5)) == [
        ended(1, 1, "hello", interrupted=True),
        Generate(2, 2, Cause.CALLER, "stop it"),
    ]


def test_an_interruption_that_is_predicted_when_the_voice_has_ended_still_ends_with_its_final() -> None:
    machine = speaking(tentative=False)
    play(machine, (3.0, SpeechStarted()), (3.3, TranscriptChanged("stop")), (3.7, SpeechStopped(0.3)))
    assert machine.handle(InterruptionPredicted(), now=3.8) == [Cut(1)]
    assert machine.state is State.ENDPOINTING
    play(machine, (3.85, TranscriptFinished("stop", 0.9)))
    assert plain(wait(machine, 4.0))[1:] == [Generate(2, 2, Cause.CALLER, "stop")]


def test_the_words_of_a_caller_whom_the_detector_missed_can_be_an_interruption() -> None:
    machine = speaking(tentative=False)
    play(machine, (3.0, TranscriptChanged("stop it")))
    assert machine.handle(InterruptionPredicted(), now=3.0) == [Cut(1)]
    assert plain(wait(machine, 4.5))[1:] == [Generate(2, 2, Cause.CALLER, "stop it")]


def test_a_predicted_interruption_without_words_resumes() -> None:
    machine = speaking(tentative=False)
    play(machine, (3.0, SpeechStarted()), (4.5, InterruptionPredicted()), (5.3, SpeechStopped(0.3)))
    assert wait(machine, 6.5) == [Resume(1)]
    assert machine.timer_at() == 11.9 + (6.5 - 4.5) + 10.0  # what was queued plays later by the time of the cut


def test_a_backchannel_is_a_remark() -> None:
    machine = speaking(tentative=False)
    play(machine, (3.0, SpeechStarted()), (3.7, SpeechStopped(0.3)))
    assert machine.handle(TranscriptFinished("uh-huh", 0.9), now=3.8) == [KeepRemark("uh-huh")]
    assert machine.handle(EndOfTurn("right", 0.9), now=5.0) == [KeepRemark("right")]
    assert plain(machine.handle(ReplyPlayed(1), now=12.0)) == [ended(1, 1, "hello")]
    assert machine.state is State.LISTENING


def test_words_over_the_last_words_of_a_reply_are_the_next_turn() -> None:
    machine = speaking(tentative=False)
    play(machine, (11.8, SpeechStarted()), (12.0, ReplyPlayed(1)))
    assert machine.state is State.HEARING


def test_before_anything_was_heard_speech_still_holds() -> None:
    machine = thinking(tentative=False)
    assert play(machine, (1.7, SpeechStarted()), (2.2, SpeechConfirmed())) == [Hold(1)]
    play(machine, (3.3, SpeechStopped(0.3)), (3.3, TranscriptFinished("there", 0.9)))
    assert wait(machine, 3.5) == [Discard(1), Generate(2, 1, Cause.CALLER, "hello there")]


def test_speech_that_held_a_reply_before_it_was_heard_is_confirmed_by_its_length() -> None:
    machine = thinking(tentative=False)
    play(machine, (1.6, AudioArrived(1, 3.0)), (1.7, SpeechStarted()), (1.8, ReplyHeard(1)))
    assert machine.handle(SpeechConfirmed(), now=2.2) == [Cut(1)]


@pytest.mark.parametrize("at", [State.LISTENING, State.HEARING, State.THINKING, State.HELD])
def test_a_prediction_without_anything_to_interrupt_does_nothing(at: State) -> None:
    machine = machine_of(tentative=False) if at in (State.LISTENING, State.HEARING) else thinking(tentative=False)
    if at in (State.HEARING, State.HELD):
        machine.handle(SpeechStarted(), now=1.6)
    assert machine.state is at
    assert machine.handle(InterruptionPredicted(), now=1.7) == []
    assert machine.state is at


def test_a_prediction_says_nothing_where_speech_holds_or_nobody_may_interrupt() -> None:
    for machine in (speaking(), speaking(tentative=False, barge_in=False)):
        assert machine.handle(InterruptionPredicted(), now=3.0) == []
        assert machine.state is State.SPEAKING


def test_a_goodbye_is_not_interrupted_by_a_prediction() -> None:
    machine = speaking(tentative=False)
    machine.handle(HangupRequested("bye"), now=3.0)
    assert play(machine, (3.1, SpeechStarted()), (3.4, InterruptionPredicted())) == []


# A greeting that nobody may interrupt ----------------------------------------------------------------------


def greeting(**settings: bool) -> TurnMachine:
    """Heard from 1.0 on, until 6.0."""
    machine = machine_of(greeting=True, greeting_interruptible=False, **settings)
    said = play(machine, (0.0, CallStarted()), (0.9, AudioArrived(1, 5.0)), (1.0, ReplyHeard(1)))
    assert said == [Generate(1, 1, Cause.GREETING)]
    return machine


GREETED = ended(1, 1, "", cause=Cause.GREETING, confidence=None)
SAID: list[tuple[float, Event]] = [(2.0, SpeechStarted()), (2.5, SpeechConfirmed()), (3.3, SpeechStopped(0.3))]


@pytest.mark.parametrize("tentative", [True, False])
@pytest.mark.parametrize("final", [TranscriptFinished("hello", 0.9), EndOfTurn("hello", 0.9)])
def test_what_is_said_over_it_is_the_next_turn(tentative: bool, final: Event) -> None:
    machine = greeting(tentative=tentative)
    assert play(machine, *SAID, (3.3, final), (4.0, InterruptionPredicted())) == []
    assert plain(play(machine, (6.0, ReplyPlayed(1))) + wait(machine, 6.0)) == [
        GREETED,
        Generate(2, 2, Cause.CALLER, "hello"),
    ]


def test_what_is_said_over_it_without_a_final_too() -> None:
    machine = greeting()
    assert play(machine, (2.4, TranscriptChanged("hello")), *SAID) == []
    assert plain(play(machine, (6.0, ReplyPlayed(1))) + wait(machine, 6.0)) == [
        GREETED,
        Generate(2, 2, Cause.CALLER, "hello"),
    ]


def test_before_it_is_heard_nothing_discards_it_either() -> None:
    machine = machine_of(greeting=True, greeting_interruptible=False)
    assert play(machine, (0.0, CallStarted()), (0.1, SpeechStarted()), (0.6, SpeechConfirmed())) == [
        Generate(1, 1, Cause.GREETING)
    ]
    assert play(machine, (1.3, SpeechStopped(0.3)), (1.3, EndOfTurn("hello", 0.9))) == []
    assert machine.state is State.THINKING


def test_only_the_greeting_is_so() -> None:
    machine = greeting()
    play(machine, *SAID, (3.3, EndOfTurn("hello", 0.9)), (6.0, ReplyPlayed(1)))
    play(machine, (7.0, AudioArrived(2, 5.0)), (7.1, ReplyHeard(2)))
    assert play(machine, (8.0, SpeechStarted()), (8.5, SpeechConfirmed())) == [Hold(2), Cut(2)]


def test_a_caller_who_waited_for_its_end_did_not_wait_for_us() -> None:
    machine = greeting()
    play(machine, *SAID, (3.3, TranscriptFinished("hello", 0.9)), (6.0, ReplyPlayed(1)), (6.4, ReplyBegan(2)))
    play(machine, (6.4, SynthesisBegan(2)), (6.6, AudioArrived(2, 1.0)), (6.7, ReplyHeard(2)))
    assert latency_of(machine.handle(ReplyPlayed(2), now=7.7)) == Latency(
        stt=0.0, llm=0.4, tts=0.2, playout=0.1, total=0.7
    )
