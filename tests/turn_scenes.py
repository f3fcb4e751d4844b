"""The setting of a turn test: a machine at a known point of a call. No greeting and no no-response timer by default."""

from dataclasses import fields, replace
from typing import Any

from turn.actions import Action, Cause, EndTurn, Generate
from turn.events import AudioArrived, Event, ReplyHeard, SpeechStarted, SpeechStopped, TranscriptFinished
from turn.latency import Latency
from turn.machine import Settings, TurnMachine


def machine_of(**settings: Any) -> TurnMachine:
    return TurnMachine(Settings(**{"greeting": False, "no_response": 0.0, **settings}))


def play(machine: TurnMachine, *events: tuple[float, Event]) -> list[Action]:
    """All that comes of the events, timers on the way included."""
    actions = []
    for at, event in events:
        actions += wait(machine, at)
        actions += machine.handle(event, at)
    return actions


def wait(machine: TurnMachine, until: float) -> list[Action]:
    """Nothing happens but the timers."""
    actions = []
    while (due := machine.timer_at()) is not None and due <= until:
        actions += machine.tick(due)
    return actions


def thinking(**settings: Any) -> TurnMachine:
    """The caller said "hello" until 1.0; at 1.5 the turn was taken."""
    machine = machine_of(**settings)
    said = play(machine, (0.0, SpeechStarted()), (1.3, SpeechStopped(0.3)), (1.3, TranscriptFinished("hello", 0.9)))
    assert said + wait(machine, 1.5) == [Generate(1, 1, Cause.CALLER, "hello")]
    return machine


def speaking(**settings: Any) -> TurnMachine:
    """The answer to "hello" is heard from 2.0 on; 10 seconds of it are there."""
    machine = thinking(**settings)
    assert play(machine, (1.9, AudioArrived(1, 10.0)), (2.0, ReplyHeard(1))) == []
    return machine


def ended(turn: int, reply: int, transcript: str, **fields: Any) -> EndTurn:
    """An EndTurn with what most have in common; see :func:`plain`."""
    rest = {"cause": Cause.CALLER, "confidence": 0.9, "interrupted": False, "error": None, **fields}
    return EndTurn(turn=turn, reply=reply, transcript=transcript, latency=Latency(), **rest)


def plain(actions: list[Action]) -> list[Action]:
    """Without the latencies, which have tests of their own."""
    return [replace(a, latency=Latency()) if isinstance(a, EndTurn) else a for a in actions]


def latency_of(actions: list[Action]) -> Latency:
    """That of the one turn that ended, to the microsecond."""
    [turn] = [action for action in actions if isinstance(action, EndTurn)]
    parts = {field.name: getattr(turn.latency, field.name) for field in fields(Latency)}
    return Latency(**{name: part if part is None else round(part, 6) for name, part in parts.items()})
