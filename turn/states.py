"""Where a call stands, and what it is busy with.

The call is in one of these states; in brackets what ends a state when nothing happens::

                    SpeechStarted               SpeechStopped
    LISTENING ───────────────────> HEARING ───────────────────> ENDPOINTING
    (no response:        ^            ^  ^───── SpeechStarted ───────┘ │
     the agent asks)     │            │   (voice without words)        │ (silence, or no final:
        ^                │            │                                │  the turn is taken)
        │ ReplyPlayed    │ no words   │ SpeechConfirmed                v
        │                └────────────│──────────────────────────── THINKING
        │                             │                (no answer)     │ AudioArrived
        │                             │ before any audio               v
        └─────────────────────────────│──────────────────────────── SPEAKING  (no end)
                                      │                              │    ^
                                    HELD <─────────── SpeechStarted ─┘    │ SpeechStopped: a cough
                                      │  (no audio comes from the caller) ┘
                      SpeechConfirmed │
                                      v
                                 INTERRUPTED ── SpeechStopped ──> ENDPOINTING ── no words ──> SPEAKING
    ENDING: the agent said goodbye (it ends anyway). ENDED: nothing happens any more.

A key of the telephone is speech that is confirmed at once: KeyPressed leads from LISTENING, THINKING, SPEAKING and
HELD to ENDPOINTING (INTERRUPTED while there is a voice, too). There the keys are collected (the pause after the last
one, while a voice or a message goes on as well); with the last one the turn is taken.

A reply that the application asks for begins where nobody has the floor: on the way to LISTENING, or there. One that
interrupts ends the turn of THINKING, SPEAKING and HELD; in HEARING, ENDPOINTING and INTERRUPTED it waits until the
turn would be taken, and is prompted instead.
"""

import enum
from dataclasses import dataclass

from turn.actions import Cause, EndTurn, Preflighted
from turn.latency import TurnClock


class State(enum.Enum):
    """Where the call stands; the diagram above shows the ways between."""

    LISTENING = enum.auto()
    HEARING = enum.auto()
    ENDPOINTING = enum.auto()
    THINKING = enum.auto()
    SPEAKING = enum.auto()
    HELD = enum.auto()
    INTERRUPTED = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()

    @property
    def is_callers(self) -> bool:
        """Has the caller the floor?"""
        return self in (State.HEARING, State.ENDPOINTING, State.INTERRUPTED)

    @property
    def is_agents(self) -> bool:
        """Has the agent the floor, and nobody disputes it?"""
        return self in (State.THINKING, State.SPEAKING)


@dataclass(slots=True)
class Turn:
    """One caller utterance (or a greeting, a no-response prompt, an application's request) and the reply to it."""

    number: int
    reply: int
    cause: Cause
    transcript: str
    confidence: float | None
    clock: TurnClock
    is_audible: bool = False  # audio of it was queued for the caller
    is_cut: bool = False  # silenced by a confirmed barge-in whose words are still to come
    error: str | None = None
    preflight: Preflighted | None = None
    request: int = 0  # of the application's that it answers; 0: none

    @property
    def is_heard(self) -> bool:
        """Has the caller heard anything of the reply?"""
        return self.clock.heard is not None

    def joined(self, reply: int, transcript: str, confidence: float | None, clock: TurnClock) -> "Turn":
        """The same turn with more words and a new reply; the one before was discarded, released or not."""
        fate: Preflighted | None = "miss" if self.preflight else None
        return Turn(
            self.number, reply, Cause.CALLER, transcript, confidence, clock, preflight=fate, request=self.request
        )

    def ended(self, *, interrupted: bool) -> EndTurn:
        return EndTurn(
            turn=self.number,
            reply=self.reply,
            cause=self.cause,
            transcript=self.transcript,
            confidence=self.confidence,
            interrupted=interrupted,
            error=self.error,
            latency=self.clock.latency(),
            preflight=self.preflight,
        )
