"""Early generation, one test for each rule (the guide, "Early Generation"; verb-decisions, the same)."""

from typing import Any

import pytest

from tests.turn_scenes import ended, latency_of, machine_of, plain, play, thinking, wait
from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, Release, Resume
from turn.events import (
    AudioArrived,
    CallEnded,
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    HangupRequested,
    PauseJudged,
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
    TurnResumed,
)
from turn.latency import Latency
from turn.machine import State, TurnMachine


def early(reply: int, turn: int, transcript: str) -> Generate:
    return Generate(reply, turn, Cause.CALLER, transcript, speculative=True)


def fates(actions: list[Action]) -> list[str | None]:
    """What `turn_end` will say of each turn's speculation."""
    return [action.preflight for action in actions if isinstance(action, EndTurn)]


def speculating(**settings: Any) -> TurnMachine:
    """The caller is still being heard; the vendor's eager signal said "book a table"."""
    machine = machine_of(**settings)
    said = play(machine, (0.0, SpeechStarted()), (1.0, EagerEndOfTurn("book a table")))
    assert said == [early(1, 1, "book a table")]
    return machine


# What begins one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_on", [True, False])
def test_a_vendors_eager_signal_begins_one_at_any_setting(is_on: bool) -> None:
    machine = speculating(early=is_on, early_signal=is_on)
    assert machine.state is State.HEARING  # nobody but the model knows


def test_an_eager_signal_is_the_first_sign_of_a_caller_whom_the_detector_missed() -> None:
    machine = machine_of()
    assert machine.handle(EagerEndOfTurn("hello"), now=1.0) == [early(1, 1, "hello")]
    assert wait(machine, 2.5) == [Release(1, 1, "hello")]  # no final: the last partial is taken


def test_an_eager_signal_without_words_of_its_own_means_the_words_so_far() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("hello")))
    assert machine.handle(EagerEndOfTurn(""), now=1.0) == [early(1, 1, "hello")]


def test_an_eager_signal_leaves_out_the_words_that_were_answered_already() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("I want a")), (1.3, SpeechStopped(0.3)))
    play(machine, (2.8, AudioArrived(1, 0.5)), (2.9, ReplyHeard(1)), (3.4, ReplyPlayed(1)), (3.5, SpeechStarted()))
    assert machine.handle(EagerEndOfTurn("I want a pizza"), now=4.0) == [early(2, 2, "pizza")]


def test_words_that_stand_still_for_a_moment_of_quiet_begin_one() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (1.1, TranscriptChanged("hello")), (1.2, SpeechStopped(0.2)))
    assert machine.timer_at() == pytest.approx(1.3)  # 0.2 s after the last change
    assert wait(machine, 1.4) == [early(1, 1, "hello")]
    assert machine.timer_at() == 2.5  # and once is enough


def test_a_final_has_only_the_quiet_to_wait_for() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (1.15, SpeechStopped(0.1)))
    assert play(machine, (1.2, TranscriptFinished("hello", 0.9))) == []
    assert machine.timer_at() == pytest.approx(1.25)
    assert wait(machine, 1.54) == [early(1, 1, "hello")]
    assert wait(machine, 1.6) == [Release(1, 1, "hello")]


def test_words_that_still_change_begin_none() -> None:
    machine = machine_of(early=True)
    said = [(1.3 + at / 10, TranscriptChanged("word " * at)) for at in range(1, 9)]
    assert play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), *said) == []


def test_without_early_generation_silence_begins_none() -> None:
    machine = machine_of()
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    assert machine.handle(PauseJudged(0.5, is_early=True), now=1.3) == []
    assert wait(machine, 1.5) == [Generate(1, 1, Cause.CALLER, "hello")]


def test_the_acoustic_modes_early_signal_begins_one_and_the_silence_does_not() -> None:
    machine = machine_of(early=True, early_signal=True)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    assert machine.handle(PauseJudged(0.8), now=1.3) == []  # not likely enough
    assert wait(machine, 1.7) == []
    assert machine.handle(PauseJudged(0.8, is_early=True), now=1.7) == [early(1, 1, "hello")]
    assert wait(machine, 1.8) == [Release(1, 1, "hello")]


def test_an_early_signal_before_any_word_begins_none() -> None:
    machine = machine_of(early=True, early_signal=True)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)))
    assert machine.handle(PauseJudged(0.8, is_early=True), now=1.3) == []


@pytest.mark.parametrize("event", [EagerEndOfTurn("there"), PauseJudged(0.3, is_early=True)])
def test_beside_an_answer_that_may_be_heard_there_is_none(event: Event) -> None:
    machine = thinking()
    assert play(machine, (1.7, SpeechStarted()), (2.2, SpeechConfirmed()), (2.4, event)) == [Hold(1)]
    assert play(machine, (2.5, SpeechStopped())) + wait(machine, 3.9) == []


# Its fate --------------------------------------------------------------------------------------------------


def test_the_same_words_are_a_hit_when_the_model_has_begun_and_pending_when_it_has_not() -> None:
    for began, fate in (([(1.1, ReplyBegan(1))], "hit"), ([], "pending")):
        machine = speculating()
        assert play(machine, *began, (1.4, EndOfTurn("book a table", 0.9))) == [Release(1, 1, "book a table")]
        assert machine.state is State.THINKING
        play(machine, (1.4, ReplyBegan(1)), (1.6, AudioArrived(1, 1.0)), (1.7, ReplyHeard(1)))
        assert plain(machine.handle(ReplyPlayed(1), now=2.7)) == [ended(1, 1, "book a table", preflight=fate)]


def test_case_punctuation_and_spacing_do_not_make_other_words() -> None:
    machine = speculating()
    assert machine.handle(EndOfTurn(" Book a  table. ", 0.9), now=1.4) == [Release(1, 1, "Book a  table.")]


def test_other_words_discard_it_and_the_turn_is_prompted_with_them() -> None:
    machine = speculating()
    assert machine.handle(EndOfTurn("book a table for two", 0.9), now=1.4) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "book a table for two"),
    ]
    assert fates(machine.handle(CallEnded(), now=2.0)) == ["miss"]


def test_a_turn_without_one_says_nothing_of_it() -> None:
    assert fates(thinking().handle(CallEnded(), now=2.0)) == [None]


def test_the_caller_who_goes_on_keeps_it_until_the_words_change() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("book", 0.9)))
    assert wait(machine, 1.4) == [early(1, 1, "book")]
    assert play(machine, (1.45, SpeechStarted()), (1.6, TranscriptChanged(""))) == []
    assert machine.handle(TranscriptChanged("a table"), now=1.8) == [Discard(1)]


def test_a_noise_behind_the_words_does_not_cost_the_speculation() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("book", 0.9)))
    assert wait(machine, 1.4) == [early(1, 1, "book")]
    assert play(machine, (1.45, SpeechStarted()), (1.6, SpeechStopped())) + wait(machine, 4.0) == [
        Release(1, 1, "book")
    ]


def test_a_final_that_changes_the_words_gets_a_speculation_of_its_own() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (0.9, TranscriptChanged("cook")), (1.3, SpeechStopped(0.3)))
    assert wait(machine, 1.3) == [early(1, 1, "cook")]
    assert machine.handle(TranscriptFinished("book", 0.9), now=1.35) == [Discard(1)]
    assert wait(machine, 1.5) == [early(2, 1, "book"), Release(2, 1, "book")]
    assert fates(machine.handle(CallEnded(), now=2.0)) == ["pending"]


def test_a_caller_who_resumes_discards_it() -> None:
    machine = speculating()
    assert machine.handle(TurnResumed(), now=1.2) == [Discard(1)]
    assert machine.handle(TurnResumed(), now=1.3) == []
    assert machine.handle(EndOfTurn("book a table", 0.9), now=1.5) == [Generate(2, 1, Cause.CALLER, "book a table")]
    assert fates(machine.handle(CallEnded(), now=2.0)) == ["miss"]


def test_silence_does_not_begin_again_what_the_vendor_called_off() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (0.9, EagerEndOfTurn("book")), (1.1, TurnResumed()))
    assert play(machine, (1.3, SpeechStopped(0.3))) + wait(machine, 2.4) == []
    assert machine.handle(EagerEndOfTurn("book"), now=2.4) == [early(2, 1, "book")]  # but the vendor may
    assert wait(machine, 2.5) == [Release(2, 1, "book")]


def test_words_that_vanish_discard_it() -> None:
    machine = speculating()
    assert machine.handle(TranscriptChanged(""), now=1.2) == [Discard(1)]
    assert play(machine, (1.3, SpeechStopped())) + wait(machine, 60.0) == []
    assert machine.state is State.LISTENING
    play(machine, (61.0, SpeechStarted()), (61.5, EndOfTurn("hello", 0.9)))
    assert fates(machine.handle(CallEnded(), now=62.0)) == [None]  # nothing was speculated in this turn


def test_one_that_fails_is_discarded_and_the_turn_is_prompted_normally() -> None:
    machine = speculating()
    assert machine.handle(ReplyFailed(1, "server error"), now=1.1) == [Discard(1)]
    assert machine.handle(ReplyFailed(1, "server error"), now=1.2) == []
    assert machine.handle(EndOfTurn("book a table", 0.9), now=1.4) == [Generate(2, 1, Cause.CALLER, "book a table")]
    play(machine, (1.9, AudioArrived(2, 1.0)), (2.0, ReplyHeard(2)))
    assert plain(machine.handle(ReplyPlayed(2), now=3.0)) == [ended(1, 2, "book a table", preflight="miss")]


def test_a_model_that_failed_early_is_not_asked_early_again_in_this_turn() -> None:
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    assert wait(machine, 1.3) == [early(1, 1, "hello")]
    assert machine.handle(ReplyFailed(1), now=1.3) == [Discard(1)]
    assert wait(machine, 1.5) == [Generate(2, 1, Cause.CALLER, "hello")]


@pytest.mark.parametrize("failures", [1, 5])
def test_failed_speculations_are_no_failed_turns(failures: int) -> None:
    machine = machine_of()
    for turn in range(1, failures + 1):
        at = turn * 10.0
        play(machine, (at, EagerEndOfTurn(f"hello {turn}")), (at, ReplyFailed(2 * turn - 1)))
        said = play(machine, (at, EndOfTurn(f"hello {turn}")))
        assert said == [Generate(2 * turn, turn, Cause.CALLER, f"hello {turn}")]
        play(machine, (at, ReplyGenerated(2 * turn, audible=False)))
    assert machine.state is State.LISTENING


def test_words_behind_a_released_one_discard_it_like_any_answer_and_make_it_a_miss() -> None:
    machine = speculating()
    play(machine, (1.1, ReplyBegan(1)), (1.4, EndOfTurn("book a table", 0.9)))
    assert machine.handle(EndOfTurn("for two", 0.9), now=1.6) == [
        Discard(1),
        Generate(2, 1, Cause.CALLER, "book a table for two"),
    ]
    assert fates(machine.handle(CallEnded(), now=2.0)) == ["miss"]


def test_one_that_is_released_has_the_time_of_any_answer() -> None:
    machine = speculating()
    machine.handle(EndOfTurn("book a table"), now=1.4)
    assert machine.timer_at() == 31.4
    assert plain(machine.tick(31.4)) == [
        ended(1, 1, "book a table", confidence=None, error="timeout", preflight="pending")
    ]


@pytest.mark.parametrize("began", [True, False])
def test_call_end_discards_it(began: bool) -> None:
    for event, last in ((CallEnded(), []), (HangupRequested("bye"), [EndCall("bye")])):
        machine = speculating()
        if began:
            machine.handle(ReplyBegan(1), now=1.1)
        assert machine.handle(event, now=1.2) == [Discard(1), *last]
        assert machine.handle(ReplyBegan(1), now=1.3) == []


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
        ReplyGenerated(1, audible=True),
        ReplyPlayed(1),
    ],
)
def test_its_events_do_not_reach_the_turn_before_it_is_released(event: Event) -> None:
    machine = speculating()
    before = (machine.state, machine.turn, machine.timer_at())
    assert machine.handle(event, now=1.1) == []
    assert (machine.state, machine.turn, machine.timer_at()) == before
    assert machine.handle(EndOfTurn("book a table"), now=1.4) == [Release(1, 1, "book a table")]


def test_the_events_of_a_discarded_one_are_nobodys() -> None:
    machine = speculating()
    machine.handle(TurnResumed(), now=1.1)
    assert [machine.handle(event, now=1.2) for event in (ReplyBegan(1), ReplyFailed(1), ReplyPlayed(1))] == [[]] * 3


# The budget ------------------------------------------------------------------------------------------------


def test_one_at_a_time() -> None:
    machine = speculating()
    assert machine.handle(EagerEndOfTurn("Book a table."), now=1.1) == []  # the same words
    assert machine.handle(EagerEndOfTurn("book a table for two"), now=1.2) == [
        Discard(1),
        early(2, 1, "book a table for two"),
    ]


def test_three_in_a_turn() -> None:
    machine = speculating()
    for reply, words in ((2, "book a table for"), (3, "book a table for two")):
        play(machine, (1.5, EagerEndOfTurn(words)))
        assert machine.handle(TurnResumed(), now=2.0) == [Discard(reply)]
    assert machine.handle(EagerEndOfTurn("book a table for two please"), now=2.5) == []
    assert machine.handle(EndOfTurn("book a table for two please"), now=3.0) == [
        Generate(4, 1, Cause.CALLER, "book a table for two please")
    ]
    play(machine, (4.0, ReplyGenerated(4, audible=False)))
    assert machine.handle(EagerEndOfTurn("thanks"), now=5.0) == [early(5, 2, "thanks")]


def test_turns_are_left_alone_for_a_while_when_too_few_were_hits() -> None:
    machine, tried = machine_of(), []
    for turn in range(1, 10):
        said = play(machine, (turn, EagerEndOfTurn("a")), (turn, TurnResumed()), (turn, EndOfTurn(f"a {turn}")))
        [prompt] = [action for action in said if isinstance(action, Generate) and not action.speculative]
        tried.append(len(said) > 1)
        over = machine.handle(ReplyGenerated(prompt.reply, audible=False), turn)
        assert fates(over) == ["miss" if tried[-1] else None]
    assert tried == [True] * 4 + [False] * 2 + [True] * 3


# Beside a reply that was cut -------------------------------------------------------------------------------


def interrupted(**settings: Any) -> TurnMachine:
    """The answer to "hello" was cut at 3.5; the caller is saying something."""
    machine = thinking(**settings)
    play(machine, (1.9, AudioArrived(1, 10.0)), (2.0, ReplyHeard(1)), (3.0, SpeechStarted()))
    assert play(machine, (3.5, SpeechConfirmed())) == [Cut(1)]
    return machine


def test_a_cut_reply_does_not_keep_the_next_turn_from_an_early_start() -> None:
    machine = interrupted()
    assert machine.handle(EagerEndOfTurn("stop"), now=4.0) == [early(2, 2, "stop")]
    play(machine, (4.1, ReplyBegan(2)))
    assert plain(machine.handle(EndOfTurn("stop", 0.9), now=4.3)) == [
        ended(1, 1, "hello", interrupted=True),
        Release(2, 2, "stop"),
    ]
    play(machine, (4.5, AudioArrived(2, 1.0)), (4.6, ReplyHeard(2)))
    assert plain(machine.handle(ReplyPlayed(2), now=5.6)) == [ended(2, 2, "stop", preflight="hit")]


def test_a_cut_reply_that_is_resumed_has_none_beside_it() -> None:
    machine = interrupted()
    play(machine, (4.0, EagerEndOfTurn("hm")))
    assert machine.handle(TranscriptFinished(""), now=4.2) == [Discard(2)]
    assert play(machine, (4.5, SpeechStopped())) + wait(machine, 6.0) == [Resume(1)]


def test_a_cut_reply_that_was_heard_out_leaves_the_speculation_to_the_next_turn() -> None:
    machine = interrupted()
    play(machine, (4.0, EagerEndOfTurn("stop")))
    assert plain(machine.handle(ReplyPlayed(1), now=4.1)) == [ended(1, 1, "hello", interrupted=True)]
    assert machine.handle(EndOfTurn("stop"), now=4.3) == [Release(2, 2, "stop")]


def test_a_cut_reply_that_fails_does_not_touch_it() -> None:
    machine = interrupted()
    play(machine, (4.0, EagerEndOfTurn("stop")))
    assert machine.handle(ReplyFailed(1), now=4.1) == []
    assert plain(machine.handle(EndOfTurn("stop"), now=4.3)) == [
        ended(1, 1, "hello", interrupted=True, error="server failure"),
        Release(2, 2, "stop"),
    ]


def test_call_end_beside_a_cut_reply_ends_both() -> None:
    machine = interrupted()
    play(machine, (4.0, EagerEndOfTurn("stop")))
    assert plain(machine.handle(CallEnded(), now=4.1)) == [Discard(2), ended(1, 1, "hello", interrupted=True)]


# Latency ---------------------------------------------------------------------------------------------------


def released(*before: tuple[float, Event]) -> TurnMachine:
    """Voice until 1.0, final at 1.3, speculation from then on; released at 1.5."""
    machine = machine_of(early=True)
    play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    assert play(machine, *before) + wait(machine, 1.5) == [early(1, 1, "hello"), Release(1, 1, "hello")]
    return machine


def test_on_a_hit_the_model_cost_nothing_and_the_parts_still_add_up() -> None:
    machine = released((1.4, ReplyBegan(1)))
    play(machine, (1.5, ReplyBegan(1)), (1.5, SynthesisBegan(1)), (1.7, AudioArrived(1, 1.0)), (1.8, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=2.8)) == Latency(
        stt=0.3, eot=0.2, tts=0.2, playout=0.1, total=0.8
    )


def test_a_pending_ones_model_cost_what_was_left_of_it() -> None:
    machine = released()
    play(machine, (1.9, ReplyBegan(1)), (1.9, SynthesisBegan(1)), (2.1, AudioArrived(1, 1.0)), (2.2, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=3.2)) == Latency(
        stt=0.3, eot=0.2, llm=0.4, tts=0.2, playout=0.1, total=1.2
    )


def test_tools_behind_a_hit_are_in_the_text_part_and_not_in_the_models() -> None:
    machine = released((1.4, ReplyBegan(1)))
    play(machine, (1.5, ReplyBegan(1)), (1.5, ToolsCalled(1)), (1.9, ToolsReturned(1)), (2.0, SynthesisBegan(1)))
    play(machine, (2.2, AudioArrived(1, 1.0)), (2.3, ReplyHeard(1)))
    assert latency_of(machine.handle(ReplyPlayed(1), now=3.3)) == Latency(
        stt=0.3, eot=0.2, text=0.5, tts=0.2, playout=0.1, total=1.3
    )


def test_on_a_miss_the_model_is_waited_for_as_ever() -> None:
    machine = speculating()
    play(machine, (1.3, SpeechStopped(0.3)), (1.4, EndOfTurn("book a table for two", 0.9)), (1.9, ReplyBegan(2)))
    play(machine, (1.9, SynthesisBegan(2)), (2.1, AudioArrived(2, 1.0)), (2.2, ReplyHeard(2)))
    assert latency_of(machine.handle(ReplyPlayed(2), now=3.2)) == Latency(
        stt=0.4, llm=0.5, tts=0.2, playout=0.1, total=1.2
    )
