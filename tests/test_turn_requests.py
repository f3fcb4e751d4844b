"""Replies that the application asks for: at once where nobody has the floor, else in order; urgent ones interrupt."""

from collections.abc import Callable

import pytest

from tests.turn_scenes import ended, latency_of, machine_of, plain, play, speaking, thinking, wait
from turn.actions import Action, Cause, Cut, Discard, EndCall, Generate, KeepRemark
from turn.events import (
    AudioArrived,
    CallStarted,
    EagerEndOfTurn,
    HangupRequested,
    PromptChanged,
    ReplyFailed,
    ReplyHeard,
    ReplyPlayed,
    ReplyRequested,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TranscriptChanged,
    TranscriptFinished,
)
from turn.latency import Latency
from turn.machine import State, TurnMachine
from turn.requests import LIMIT, Requests

REFUNDS = ReplyRequested(1, "Asks about refunds")
URGENT = ReplyRequested(1, "Flash sale!", interrupt=True)


def asked(reply: int, turn: int, text: str = "Asks about refunds", request: int = 1) -> Generate:
    return Generate(reply, turn, Cause.REQUEST, text, request=request)


def sale(reply: int, turn: int) -> Generate:
    return asked(reply, turn, "Flash sale!")


def held() -> TurnMachine:
    """The caller has begun to speak over the answer to "hello"."""
    machine = speaking()
    play(machine, (3.0, SpeechStarted()))
    assert machine.state is State.HELD
    return machine


def interrupted() -> TurnMachine:
    """The caller has interrupted the answer to "hello" and still speaks."""
    machine = held()
    assert machine.handle(SpeechConfirmed(), 3.5) == [Cut(1)]
    return machine


# At once ---------------------------------------------------------------------------------------------------


def test_a_request_is_answered_at_once_while_nobody_has_the_floor() -> None:
    machine = machine_of()
    assert machine.handle(REFUNDS, 1.0) == [asked(1, 1)]
    assert (machine.state, machine.timer_at()) == (State.THINKING, 31.0)


def test_a_request_may_have_no_words() -> None:
    assert machine_of().handle(ReplyRequested(1), 1.0) == [Generate(1, 1, Cause.REQUEST, request=1)]


def test_its_turn_ends_with_its_text_and_without_what_only_a_caller_has() -> None:
    machine = machine_of()
    play(machine, (1.0, REFUNDS), (2.0, AudioArrived(1, 1.0)), (2.1, ReplyHeard(1)))
    over = play(machine, (3.1, ReplyPlayed(1)))
    assert plain(over) == [ended(1, 1, "Asks about refunds", cause=Cause.REQUEST, confidence=None)]
    assert latency_of(over) == Latency(llm=None, tts=1.0, playout=0.1, total=1.1)
    assert machine.state is State.LISTENING


# In order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [thinking, speaking, held, interrupted])
def test_otherwise_it_waits(scene: Callable[[], TurnMachine]) -> None:
    machine = scene()
    state, due = machine.state, machine.timer_at()
    assert machine.handle(REFUNDS, 3.6) == []
    assert (machine.state, machine.timer_at(), len(machine.requests)) == (state, due, 1)


def test_it_is_taken_when_the_turn_in_progress_is_over() -> None:
    machine = speaking()
    play(machine, (3.0, REFUNDS))
    assert plain(machine.handle(ReplyPlayed(1), 12.0)) == [ended(1, 1, "hello"), asked(2, 2)]


def test_requests_are_taken_in_order_one_at_a_time() -> None:
    machine = speaking()
    play(machine, (3.0, REFUNDS), (3.1, ReplyRequested(2, "Second")))
    play(machine, (12.0, ReplyPlayed(1)), (12.5, AudioArrived(2, 1.0)), (12.6, ReplyHeard(2)))
    assert plain(machine.handle(ReplyPlayed(2), 13.6)) == [
        ended(2, 2, "Asks about refunds", cause=Cause.REQUEST, confidence=None),
        asked(3, 3, "Second", 2),
    ]


def test_it_is_taken_before_the_no_response_timer_counts() -> None:
    machine = speaking(no_response=12.0)
    play(machine, (3.0, REFUNDS), (12.0, ReplyPlayed(1)))
    assert (machine.state, machine.timer_at()) == (State.THINKING, 42.0)


def test_it_is_taken_after_a_turn_that_failed() -> None:
    machine = thinking()
    play(machine, (2.0, REFUNDS))
    assert plain(machine.handle(ReplyFailed(1), 3.0)) == [ended(1, 1, "hello", error="server failure"), asked(2, 2)]


def test_what_the_caller_says_over_the_end_of_the_answer_goes_first() -> None:
    machine = speaking(barge_in=False)
    play(machine, (3.0, REFUNDS), (11.5, SpeechStarted()))
    assert plain(machine.handle(ReplyPlayed(1), 12.0)) == [ended(1, 1, "hello")]
    assert play(machine, (12.6, SpeechStopped(0.3)), (12.6, TranscriptFinished("wait", 0.9)), (13.0, REFUNDS)) == [
        Generate(2, 2, Cause.CALLER, "wait")
    ]


def test_it_is_taken_after_a_noise_that_brought_no_words() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.2, REFUNDS), (2.0, SpeechStopped()))
    assert wait(machine, 3.5) == [asked(1, 1)]


def test_it_waits_through_a_resumed_answer() -> None:
    machine = interrupted()
    play(machine, (3.6, REFUNDS), (4.0, SpeechStopped()), (5.5, TranscriptFinished("")))
    assert (machine.state, len(machine.requests)) == (State.SPEAKING, 1)
    assert plain(machine.handle(ReplyPlayed(1), 14.0)) == [ended(1, 1, "hello"), asked(2, 2)]


def test_it_is_taken_after_an_interruption_without_words_that_is_sticky() -> None:
    machine = speaking(sticky=True)
    play(machine, (3.0, SpeechStarted()), (3.5, SpeechConfirmed()), (3.6, REFUNDS), (4.0, SpeechStopped()))
    assert plain(wait(machine, 5.5)) == [ended(1, 1, "hello", interrupted=True), asked(2, 2)]


def test_it_does_not_count_as_a_sign_of_the_caller() -> None:
    machine = machine_of(no_response=12.0, no_response_max=1)
    prompt = play(machine, (0.0, SpeechStarted()), (0.5, SpeechStopped()), (1.0, TranscriptFinished("")))
    assert prompt == []
    assert wait(machine, 13.0) == [Generate(1, 1, Cause.NO_RESPONSE)]
    play(machine, (13.5, AudioArrived(1, 1.0)), (13.6, ReplyHeard(1)), (14.0, REFUNDS), (14.6, ReplyPlayed(1)))
    play(machine, (15.0, AudioArrived(2, 1.0)), (15.1, ReplyHeard(2)), (16.1, ReplyPlayed(2)))
    assert wait(machine, 28.1) == [EndCall("no_response")]


# The caller joins ------------------------------------------------------------------------------------------


def test_words_before_its_reply_is_heard_join_it_and_it_stays_the_same_request() -> None:
    machine = machine_of()
    play(machine, (1.0, REFUNDS))
    assert machine.handle(TranscriptFinished("yes, mine", 0.8), 1.5) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "Asks about refunds yes, mine", request=1),
    ]
    play(machine, (2.0, AudioArrived(2, 1.0)), (2.1, ReplyHeard(2)))
    over = plain(machine.handle(ReplyPlayed(2), 3.1))
    assert over == [ended(1, 2, "Asks about refunds yes, mine", confidence=0.8)]


def test_words_that_were_kept_already_do_not_replace_what_was_asked_when_their_final_comes() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.2, TranscriptChanged("wait")), (1.3, URGENT), (1.6, SpeechStopped()))
    assert wait(machine, 3.1) == [KeepRemark("wait"), sale(1, 1)]
    assert machine.handle(TranscriptFinished("Wait a bit.", 0.9), 3.2) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "Flash sale! a bit.", request=1),
    ]


# Urgent ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scene", [thinking, speaking, held])
def test_an_urgent_one_ends_the_turn_of_the_agent_now(scene: Callable[[], TurnMachine]) -> None:
    machine = scene()
    assert plain(machine.handle(URGENT, 3.2)) == [ended(1, 1, "hello", interrupted=True), sale(2, 2)]
    assert (machine.state, machine.timer_at()) == (State.THINKING, 33.2)


def test_an_urgent_one_ends_also_what_the_caller_may_not_interrupt() -> None:
    machine = machine_of(greeting=True, greeting_interruptible=False)
    play(machine, (0.0, CallStarted()), (1.0, AudioArrived(1, 5.0)), (1.1, ReplyHeard(1)))
    greeting = ended(1, 1, "", cause=Cause.GREETING, confidence=None, interrupted=True)
    assert plain(machine.handle(URGENT, 2.0)) == [greeting, sale(2, 2)]


def test_an_urgent_one_goes_before_those_that_are_not() -> None:
    machine = speaking()
    play(machine, (3.0, ReplyRequested(2, "First")))
    assert plain(machine.handle(URGENT, 3.1)) == [ended(1, 1, "hello", interrupted=True), sale(2, 2)]
    play(machine, (4.0, AudioArrived(2, 1.0)), (4.1, ReplyHeard(2)))
    assert plain(machine.handle(ReplyPlayed(2), 5.1))[1:] == [asked(3, 3, "First", 2)]


def test_an_urgent_one_waits_for_the_callers_words_and_its_reply_covers_both() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.2, URGENT), (2.0, SpeechStopped()), (2.1, TranscriptFinished("hi", 0.9)))
    assert wait(machine, 2.5) == [KeepRemark("hi"), sale(1, 1)]


def test_an_urgent_one_takes_the_place_of_the_answer_to_an_interruption() -> None:
    machine = interrupted()
    play(machine, (3.6, URGENT), (4.0, SpeechStopped()), (4.0, TranscriptFinished("stop", 0.9)))
    assert plain(wait(machine, 4.5)) == [
        ended(1, 1, "hello", interrupted=True),
        KeepRemark("stop"),
        sale(2, 2),
    ]


def test_an_urgent_one_takes_the_place_of_an_answer_that_would_be_resumed() -> None:
    machine = interrupted()
    play(machine, (3.6, URGENT), (4.0, SpeechStopped()))
    assert plain(wait(machine, 5.5)) == [ended(1, 1, "hello", interrupted=True), sale(2, 2)]


def test_an_urgent_one_covers_what_was_said_over_a_message() -> None:
    machine = speaking(barge_in=False)
    play(machine, (3.0, SpeechStarted()), (3.5, SpeechStopped()), (3.6, TranscriptFinished("and mine", 0.9)))
    assert plain(machine.handle(URGENT, 4.0)) == [
        ended(1, 1, "hello", interrupted=True),
        KeepRemark("and mine"),
        sale(2, 2),
    ]


def test_a_caller_who_goes_on_speaking_joins_the_urgent_reply() -> None:
    machine = held()
    play(machine, (3.2, URGENT), (3.5, SpeechConfirmed()), (4.0, SpeechStopped()))
    assert machine.state is State.ENDPOINTING
    play(machine, (4.1, TranscriptFinished("stop", 0.9)))
    assert wait(machine, 4.5) == [Discard(2), Generate(3, 2, Cause.CALLER, "Flash sale! stop", request=1)]


def test_a_speculation_is_discarded_for_an_urgent_one_and_none_begins() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.5, SpeechStopped()))
    speculation = Generate(1, 1, Cause.CALLER, "hi", speculative=True)
    assert play(machine, (1.6, EagerEndOfTurn("hi"))) == [speculation]
    assert machine.handle(URGENT, 1.7) == [Discard(1)]
    assert play(machine, (1.8, EagerEndOfTurn("hi there")), (1.9, TranscriptFinished("hi there", 0.9))) == []
    assert wait(machine, 2.1) == [KeepRemark("hi there"), sale(2, 1)]


def test_two_urgent_ones_that_waited_are_answered_one_after_the_other() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.2, URGENT), (1.3, ReplyRequested(2, "Fire!", interrupt=True)))
    play(machine, (2.0, SpeechStopped()), (2.1, TranscriptFinished("hi", 0.9)))
    assert wait(machine, 2.5) == [KeepRemark("hi"), sale(1, 1)]
    play(machine, (3.0, AudioArrived(1, 1.0)), (3.1, ReplyHeard(1)))
    assert plain(machine.handle(ReplyPlayed(1), 4.1))[1:] == [asked(2, 2, "Fire!", 2)]


def test_a_late_final_of_an_answer_on_hold_waits_for_the_urgent_reply_too() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.2, TranscriptChanged("hello")), (1.5, SpeechStopped()))
    assert wait(machine, 3.0) == [Generate(1, 1, Cause.CALLER, "hello")]  # taken with the partial
    play(machine, (3.1, TranscriptChanged("hello you")))
    machine.handle(SpeechStarted(), 3.2)
    machine.handle(SpeechConfirmed(), 3.7)
    assert machine.handle(URGENT, 3.8) == []
    play(machine, (4.0, SpeechStopped()), (4.1, TranscriptFinished("Hello you there.", 0.9)))
    over = plain(wait(machine, 5.0))
    assert over[-1] == sale(2, 2)
    kept: list[Action] = [action for action in over if isinstance(action, KeepRemark)]
    assert kept == [KeepRemark("you there.")]


# Limits ----------------------------------------------------------------------------------------------------


def test_the_goodbye_and_the_end_ignore_requests() -> None:
    machine = speaking()
    play(machine, (3.0, REFUNDS), (3.1, HangupRequested("bye")))
    assert machine.handle(URGENT, 3.2) == []
    assert plain(machine.handle(ReplyPlayed(1), 12.0)) == [ended(1, 1, "hello"), EndCall("bye")]
    assert machine.handle(REFUNDS, 12.1) == []


def test_more_than_so_many_are_not_taken() -> None:
    requests = Requests()
    for number in range(1, LIMIT + 3):
        requests.add(ReplyRequested(number, interrupt=number % 2 == 0))
    assert len(requests) == LIMIT
    taken = [request.request for request in iter(requests.take, None)]
    assert taken == [*range(2, LIMIT + 1, 2), *range(1, LIMIT + 1, 2)]


# Another prompt --------------------------------------------------------------------------------------------


def test_a_speculation_that_was_told_what_holds_no_longer_is_discarded() -> None:
    machine = machine_of()
    play(machine, (1.0, SpeechStarted()), (1.5, SpeechStopped()), (1.6, EagerEndOfTurn("hi")))
    assert machine.handle(PromptChanged(), 1.7) == [Discard(1)]
    play(machine, (1.8, TranscriptFinished("hi", 0.9)))
    assert wait(machine, 2.0) == [Generate(2, 1, Cause.CALLER, "hi")]


def test_another_prompt_changes_nothing_else() -> None:
    machine = speaking()
    assert (machine.handle(PromptChanged(), 3.0), machine.state) == ([], State.SPEAKING)
