"""The caller's keys: which belong together, when they are the caller's turn, and whom they silence."""

from typing import Any

import pytest

from tests.turn_scenes import ended, latency_of, machine_of, plain, play, speaking, thinking, wait
from turn.actions import Action, Cause, Cut, Discard, Generate, Hold, KeepRemark
from turn.events import (
    AudioArrived,
    CallStarted,
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    HangupRequested,
    KeyPressed,
    ReplyHeard,
    ReplyPlayed,
    ReplyRequested,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TranscriptChanged,
    TranscriptFinished,
)
from turn.keypad import LIMIT, Keypad
from turn.latency import Latency
from turn.machine import Settings, State, TurnMachine


def keypad(**settings: Any) -> Keypad:
    return Keypad(Settings(**settings))


def press(machine: TurnMachine, keys: str, at: float, every: float = 0.2) -> list[Action]:
    return play(machine, *((at + number * every, KeyPressed(key)) for number, key in enumerate(keys)))


def turn(reply: int, number: int, transcript: str) -> Generate:
    return Generate(reply, number, Cause.CALLER, transcript)


# Which belong together -------------------------------------------------------------------------------------


def test_keys_are_collected_until_the_terminator_which_is_no_part_of_them() -> None:
    pad = keypad()
    assert [pad.pressed(key, 1.0) for key in "12#"] == ["", "", "The caller pressed 12."]
    assert (pad.keys, pad.at) == ("", None)


def test_keys_are_collected_until_the_pause_after_the_last_one() -> None:
    pad = keypad(key_pause=2.0)
    pad.pressed("1", 1.0)
    pad.pressed("2", 2.5)
    assert (pad.at, pad.taken(), pad.at) == (4.5, "The caller pressed 12.", None)


def test_keys_are_collected_until_there_are_enough() -> None:
    pad = keypad(keys_most=3)
    assert [pad.pressed(key, 1.0) for key in "123"] == ["", "", "The caller pressed 123."]


def test_a_lone_terminator_says_itself() -> None:
    assert keypad().pressed("#", 1.0) == "The caller pressed #."


def test_another_terminator_and_none_at_all() -> None:
    assert keypad(key_terminator="*").pressed("#", 1.0) == ""
    pad = keypad(key_terminator="", keys_most=2)
    assert [pad.pressed(key, 1.0) for key in "##"] == ["", "The caller pressed ##."]


def test_who_presses_on_and_on_is_answered_nevertheless() -> None:
    pad = keypad()
    assert [bool(pad.pressed("1", 1.0)) for _ in range(LIMIT)] == [False] * (LIMIT - 1) + [True]


# The caller's turn -----------------------------------------------------------------------------------------


def test_the_terminator_ends_the_turn() -> None:
    machine = machine_of()
    assert press(machine, "1234#", 1.0) == [turn(1, 1, "The caller pressed 1234.")]


def test_so_does_the_pause_and_its_deadline_is_the_machines() -> None:
    machine = machine_of()
    press(machine, "12", 1.0)
    assert (machine.state, machine.timer_at()) == (State.ENDPOINTING, 3.2)
    assert wait(machine, 3.2) == [turn(1, 1, "The caller pressed 12.")]


def test_a_menu_of_single_keys_is_answered_at_once() -> None:
    assert press(machine_of(keys_most=1), "1", 1.0) == [turn(1, 1, "The caller pressed 1.")]


def test_the_same_key_twice_is_pressed_twice() -> None:
    assert press(machine_of(), "11#", 1.0, every=0.0) == [turn(1, 1, "The caller pressed 11.")]


def test_a_key_holds_the_no_response_timer() -> None:
    machine = speaking(no_response=12.0)
    play(machine, (12.0, ReplyPlayed(1)))
    press(machine, "1", 23.9)
    assert wait(machine, 25.9) == [turn(2, 2, "The caller pressed 1.")]


def test_a_pause_is_the_end_of_turn_in_its_latency() -> None:
    machine = machine_of()
    press(machine, "1", 1.0)
    wait(machine, 3.0)
    play(machine, (4.0, AudioArrived(1, 1.0)), (4.1, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), 5.0)) == Latency(stt=0.0, eot=2.0, tts=1.0, playout=0.1, total=3.1)


def test_switched_off_they_are_nobodys_turn() -> None:
    machine = speaking(keys=False)
    assert press(machine, "12#", 3.0) == []
    assert (machine.state, machine.keypad.at) == (State.SPEAKING, None)


# Together with words ---------------------------------------------------------------------------------------


def test_keys_behind_words_are_in_their_turn() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.0, SpeechStopped()), (1.1, TranscriptFinished("my pin is", 0.9)))
    assert press(machine, "12#", 1.3) == [turn(1, 1, "my pin is The caller pressed 12.")]


def test_the_turn_does_not_end_while_keys_are_pressed() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.0, SpeechStopped()), (1.1, TranscriptFinished("my pin is", 0.9)))
    press(machine, "1", 1.3)
    assert machine.handle(EndOfTurn(""), 1.4) == []
    assert (wait(machine, 3.2), machine.timer_at()) == ([], 3.3)


@pytest.mark.parametrize("partial", [True, False])
def test_words_that_were_on_their_way_stand_before_the_keys(partial: bool) -> None:
    machine = machine_of()
    said = [(0.2, TranscriptChanged("my pin"))] if partial else []
    play(machine, (0.0, SpeechStarted()), *said, (1.0, SpeechStopped()))
    assert press(machine, "12#", 1.0, every=0.1) == []
    assert (machine.state, machine.timer_at()) == (State.ENDPOINTING, 2.5)
    play(machine, (1.5, TranscriptFinished("my pin is", 0.9)))
    assert wait(machine, 1.5) == [turn(1, 1, "my pin is The caller pressed 12.")]


def test_words_whose_final_never_comes_are_waited_for_no_longer_than_without_keys() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.2, TranscriptChanged("my pin is")), (1.0, SpeechStopped()))
    press(machine, "12#", 1.0, every=0.1)
    assert wait(machine, 2.5) == [turn(1, 1, "my pin is The caller pressed 12.")]
    assert machine.handle(TranscriptFinished("My pin is this:", 0.9), 2.6) == [
        Discard(1),
        turn(2, 1, "My pin is this: The caller pressed 12."),
    ]


def test_words_behind_the_keys_stay_behind_them() -> None:
    machine = speaking(barge_in=False)
    press(machine, "12#", 3.0)
    play(machine, (5.0, SpeechStarted()), (5.5, SpeechStopped()), (5.6, TranscriptFinished("that is it", 0.9)))
    play(machine, (12.0, ReplyPlayed(1)))
    assert wait(machine, 12.0) == [turn(2, 2, "The caller pressed 12. that is it")]


def test_a_voice_without_words_does_not_keep_the_keys_waiting() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()))
    assert press(machine, "1#", 1.0) == [turn(1, 1, "The caller pressed 1.")]


def test_a_voice_with_words_is_heard_out() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.5, TranscriptChanged("it is")))
    assert (press(machine, "1#", 1.0), machine.state) == ([], State.HEARING)
    play(machine, (2.0, SpeechStopped()), (2.1, TranscriptFinished("it is this", 0.9)))
    assert wait(machine, 2.1) == [turn(1, 1, "it is this The caller pressed 1.")]


def test_a_speculation_is_off_with_the_first_key_and_none_begins_before_the_last() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.5, SpeechStopped()), (1.6, EagerEndOfTurn("hi")))
    assert machine.handle(KeyPressed("1"), 1.7) == [Discard(1)]
    assert machine.handle(EagerEndOfTurn("hi there"), 1.8) == []


# Over the agent --------------------------------------------------------------------------------------------


def test_the_first_key_silences_an_agent_that_speaks_and_the_last_one_ends_its_turn() -> None:
    machine = speaking()
    assert machine.handle(KeyPressed("1"), 3.0) == [Cut(1)]
    assert (machine.state, machine.timer_at()) == (State.ENDPOINTING, 5.0)
    assert plain(machine.handle(KeyPressed("#"), 3.5)) == [
        ended(1, 1, "hello", interrupted=True),
        turn(2, 2, "The caller pressed 1."),
    ]


def test_also_where_interruptions_are_predicted() -> None:
    assert speaking(tentative=False).handle(KeyPressed("1"), 3.0) == [Cut(1)]


def test_a_key_decides_a_hold() -> None:
    machine = speaking()
    play(machine, (3.0, SpeechStarted()))
    assert machine.handle(KeyPressed("1"), 3.2) == [Cut(1)]
    assert machine.state is State.INTERRUPTED


def test_keys_before_the_answer_is_heard_join_the_words_that_it_was_to_answer() -> None:
    machine = thinking()
    assert machine.handle(KeyPressed("1"), 1.6) == [Hold(1)]
    assert machine.handle(KeyPressed("#"), 1.9) == [Discard(1), turn(2, 1, "hello The caller pressed 1.")]


def test_an_answer_that_slips_out_while_keys_are_pressed_is_cut() -> None:
    machine = thinking()
    press(machine, "1", 1.6)
    assert play(machine, (1.7, AudioArrived(1, 1.0)), (1.75, ReplyHeard(1))) == [Cut(1)]
    assert plain(machine.handle(KeyPressed("#"), 1.9)) == [
        ended(1, 1, "hello", interrupted=True),
        turn(2, 2, "The caller pressed 1."),
    ]


def test_keys_join_what_the_application_asked_for() -> None:
    machine = machine_of()
    play(machine, (1.0, ReplyRequested(1, "Ask for the pin")))
    assert press(machine, "12#", 1.2)[-1] == Generate(
        2, 1, Cause.CALLER, "Ask for the pin The caller pressed 12.", request=1
    )


def test_an_urgent_request_waits_for_the_last_key() -> None:
    machine = machine_of()
    press(machine, "1", 1.0)
    assert machine.handle(ReplyRequested(1, "Now!", interrupt=True), 1.5) == []
    assert wait(machine, 3.0) == [
        KeepRemark("The caller pressed 1."),
        Generate(1, 1, Cause.REQUEST, "Now!", request=1),
    ]


# Over what nobody may interrupt ----------------------------------------------------------------------------


def greeting() -> TurnMachine:
    machine = machine_of(greeting=True, greeting_interruptible=False)
    play(machine, (0.0, CallStarted()), (1.9, AudioArrived(1, 10.0)), (2.0, ReplyHeard(1)))
    return machine


@pytest.mark.parametrize("machine", [greeting(), speaking(barge_in=False)], ids=["greeting", "barge-in off"])
def test_keys_over_it_are_the_next_turn_when_it_has_been_played(machine: TurnMachine) -> None:
    assert press(machine, "12#", 3.0) == []
    assert machine.state is State.SPEAKING
    machine.handle(ReplyPlayed(1), 12.0)
    assert wait(machine, 12.0) == [turn(2, 2, "The caller pressed 12.")]


def test_keys_that_are_still_pressed_when_it_has_been_played_go_on() -> None:
    machine = greeting()
    press(machine, "1", 11.5)
    machine.handle(ReplyPlayed(1), 12.0)
    assert (machine.state, machine.timer_at()) == (State.ENDPOINTING, 13.5)
    assert machine.handle(KeyPressed("#"), 12.5) == [turn(2, 2, "The caller pressed 1.")]


def test_their_pause_counts_while_it_plays() -> None:
    machine = greeting()
    press(machine, "1", 3.0)
    assert (machine.timer_at(), wait(machine, 5.0), machine.keypad.at) == (5.0, [], None)
    assert machine.endpoint.transcript == "The caller pressed 1."


# The end ---------------------------------------------------------------------------------------------------


def test_a_goodbye_is_not_interrupted_by_keys() -> None:
    machine = speaking()
    play(machine, (3.0, HangupRequested("bye")))
    assert (press(machine, "1#", 3.5), machine.state) == ([], State.ENDING)


@pytest.mark.parametrize("event", [SpeechConfirmed(), SpeechStopped(), TranscriptFinished("")])
def test_whatever_the_ear_hears_meanwhile_the_keys_keep_their_deadline(event: Event) -> None:
    machine = speaking()
    press(machine, "1", 3.0)
    play(machine, (3.1, SpeechStarted()), (3.2, event))
    assert machine.timer_at() == 5.0
