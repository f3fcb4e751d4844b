"""How long each state lasts when nothing happens any more, and what ends it then: no call waits for ever."""

import pytest

from tests.turn_scenes import ended, machine_of, plain, play, speaking, thinking
from turn.actions import Action, Cause, EndCall, Generate, Resume
from turn.events import (
    CallEnded,
    Event,
    HangupRequested,
    ReplyPlayed,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TranscriptChanged,
    TranscriptFinished,
)
from turn.machine import State, TurnMachine


def then(machine: TurnMachine, *events: tuple[float, Event]) -> TurnMachine:
    play(machine, *events)
    return machine


ANSWER = Generate(1, 1, Cause.CALLER, "hello")
TIMEOUT = ended(1, 1, "hello", error="timeout")
HELLO = TranscriptFinished("hello", 0.9)
BYE = [ended(1, 1, "hello", interrupted=True), EndCall("bye")]

LAST = [
    # in this state | is this machine | until | then this is done | and the state is | for
    (State.LISTENING, machine_of(no_response=12.0), None, [], State.LISTENING, "nobody spoke yet: the caller may"),
    (
        State.LISTENING,
        then(speaking(no_response=12.0), (12.0, ReplyPlayed(1))),
        24.0,
        [Generate(2, 2, Cause.NO_RESPONSE)],
        State.THINKING,
        "the agent asks",
    ),
    (
        State.HEARING,
        then(machine_of(), (1.0, SpeechStarted())),
        16.0,
        [],
        State.ENDPOINTING,
        "a voice without words is noise",
    ),
    (
        State.ENDPOINTING,
        then(machine_of(), (1.0, SpeechStarted()), (2.0, SpeechStopped()), (2.0, HELLO)),
        2.5,
        [ANSWER],
        State.THINKING,
        "silence ends the turn",
    ),
    (
        State.ENDPOINTING,
        then(machine_of(), (1.0, SpeechStarted()), (1.5, TranscriptChanged("hello")), (2.0, SpeechStopped())),
        3.5,
        [ANSWER],
        State.THINKING,
        "the final is missing: the partial is taken",
    ),
    (
        State.ENDPOINTING,
        then(machine_of(), (1.0, SpeechStarted()), (2.0, SpeechStopped())),
        3.5,
        [],
        State.LISTENING,
        "there are no words",
    ),
    (State.THINKING, thinking(), 31.5, [TIMEOUT], State.LISTENING, "the model did not answer"),
    (State.SPEAKING, speaking(), 21.9, [TIMEOUT], State.LISTENING, "it stalled behind what was queued"),
    (
        State.HELD,
        then(speaking(), (3.0, SpeechStarted())),
        6.0,
        [Resume(1)],
        State.SPEAKING,
        "no more audio comes from the caller",
    ),
    (
        State.INTERRUPTED,
        then(speaking(), (3.0, SpeechStarted()), (3.5, SpeechConfirmed())),
        18.0,
        [],
        State.ENDPOINTING,
        "a voice without words is noise",
    ),
    (
        State.ENDING,
        then(speaking(), (3.0, HangupRequested("bye"))),
        26.9,
        BYE,
        State.ENDED,
        "nobody says that the goodbye was played",
    ),
    (State.ENDED, then(speaking(), (3.0, CallEnded())), None, [], State.ENDED, "nothing happens any more"),
]


@pytest.mark.parametrize(
    ("state", "machine", "until", "done", "next_state", "why"), LAST, ids=[f"{row[0].name}: {row[5]}" for row in LAST]
)
def test_what_ends_a_state_when_nothing_happens(
    state: State, machine: TurnMachine, until: float | None, done: list[Action], next_state: State, why: str
) -> None:
    assert (machine.state, machine.timer_at()) == (state, until)
    assert plain(machine.tick(1e9 if until is None else until)) == done
    assert machine.state is next_state


def test_every_state_is_in_the_table() -> None:
    assert {row[0] for row in LAST} == set(State)
