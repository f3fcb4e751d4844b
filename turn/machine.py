"""The turn machine: what happened goes in, what to do comes out.

    machine = TurnMachine(Settings(min_speech=0.5))
    for action in machine.handle(SpeechStarted(), now=loop.time()): ...
    loop.call_at(machine.timer_at(), ...)                 # then machine.tick(now)

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
"""

import enum
from dataclasses import dataclass

from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, KeepRemark, Resume
from turn.endpoint import Endpoint
from turn.events import (
    AudioArrived,
    CallEnded,
    CallerEvent,
    CallStarted,
    Event,
    HangupRequested,
    ReplyBegan,
    ReplyEvent,
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
from turn.latency import TurnClock

NORMAL = "normal conversation end"
FAILURES_IN_A_ROW = 3  # verb-decisions, "Errors": three failed turns in a row end the call


@dataclass(frozen=True, slots=True)
class Settings:
    """All times in seconds. The first group is the verb's, with its defaults; the second are the deadlines that
    keep a call alive whatever a vendor does.
    """

    greeting: bool = True
    barge_in: bool = True
    sticky: bool = False
    no_response: float = 12.0
    no_response_max: int | None = None

    silence: float = 0.5  # quiet after the last final word that ends a turn
    no_final: float = 1.5  # how long a final may be missing once the voice ended
    stuck_voice: float = 15.0  # voice without a new word: noise, or an STT that hears nothing
    think: float = 30.0  # from prompt (or the last tool round) to first audio
    stall: float = 10.0  # what is queued was played, the reply is not complete, nothing comes
    hold: float = 3.0  # held, and no more audio from the caller to decide on
    goodbye: float = 15.0


class State(enum.Enum):
    """Where the call stands; the module's diagram shows the ways between."""

    LISTENING = enum.auto()
    HEARING = enum.auto()
    ENDPOINTING = enum.auto()
    THINKING = enum.auto()
    SPEAKING = enum.auto()
    HELD = enum.auto()
    INTERRUPTED = enum.auto()
    ENDING = enum.auto()
    ENDED = enum.auto()


@dataclass(slots=True)
class Turn:
    """One caller utterance (or a greeting, or a no-response prompt) and the reply to it."""

    number: int
    reply: int
    cause: Cause
    transcript: str
    confidence: float | None
    clock: TurnClock
    is_audible: bool = False  # audio of it was queued for the caller
    is_cut: bool = False  # silenced by a confirmed barge-in whose words are still to come
    error: str | None = None


class TurnMachine:
    """Pure: no clock, no I/O. Calling :meth:`tick` early, late or twice is harmless."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State.LISTENING
        self.turn: Turn | None = None  # from its prompt until its EndTurn
        self.endpoint = Endpoint(silence=settings.silence, no_final=settings.no_final)
        self._turns = 0
        self._replies = 0
        self._deadline: float | None = None  # of the state, where it is not computed from the endpoint
        self._horizon = 0.0  # when the audio queued so far will have been played
        self._held_at = 0.0
        self._played_at = 0.0  # when the agent last fell silent
        self._taken = ""  # the words of the last caller turn
        self._spoke_since = False  # the caller's voice was active since then
        self._owes_final = False  # that turn was taken on a partial: its final is still to come
        self._reason = NORMAL  # why the call ends
        self._silences = 0  # no-response prompts in a row
        self._failures = 0

    # Time ------------------------------------------------------------------------------------------------

    def timer_at(self) -> float | None:
        """When :meth:`tick` is next due, or ``None``: then the caller, who can always speak or hang up, is awaited."""
        if self.state is State.ENDPOINTING:
            return self.endpoint.due()
        if self.state in (State.HEARING, State.INTERRUPTED):
            return self.endpoint.changed_at + self.settings.stuck_voice
        return self._deadline

    def tick(self, now: float) -> list[Action]:
        """The deadline of the state, if it has come."""
        due = self.timer_at()
        if due is None or now < due:
            return []
        match self.state:
            case State.LISTENING:
                return self._no_response(now)
            case State.HEARING | State.INTERRUPTED:
                # Whatever the detector hears, no words come of it: take what there is.
                self.endpoint.speech_stopped(now)
                self.state = State.ENDPOINTING
                return []
            case State.ENDPOINTING:
                return self._end_of_turn(now)
            case State.THINKING:
                return self._fail("timeout", now)
            case State.SPEAKING:
                assert self.turn is not None
                self.turn.error = "timeout"
                return [Discard(self.turn.reply), *self._played(now)]
            case State.HELD:
                self.endpoint.speech_stopped(now)
                return self._resume(now)
            case State.ENDING:
                return self._end(now)
            case State.ENDED:
                return []

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; say what is to be done about it."""
        if self.state is State.ENDED:
            return []
        match event:
            case CallStarted():
                if self.settings.greeting:
                    return self._prompt(Cause.GREETING, "", None, TurnClock(taken=now), now)
                return []
            case CallEnded():
                return self._close(now)
            case HangupRequested(reason):
                return self._hang_up(reason, now)
            case (
                SpeechStarted() | SpeechConfirmed() | SpeechStopped() | TranscriptChanged() | TranscriptFinished()
            ) as heard:
                return [] if self.state is State.ENDING else self._caller(heard, now)
            case _:
                # The one place where late results die: a reply that was discarded or played is nobody's.
                if self.turn is None or event.reply != self.turn.reply:
                    return []
                return self._agent(event, self.turn, now)

    # The caller ------------------------------------------------------------------------------------------

    def _caller(self, event: CallerEvent, now: float) -> list[Action]:
        match event:
            case SpeechStarted():
                return self._speech_started(now)
            case SpeechConfirmed():
                return self._confirm(now) if self.state is State.HELD else []
            case SpeechStopped(quiet):
                self.endpoint.speech_stopped(now - quiet)
                if self.state in (State.HEARING, State.INTERRUPTED):
                    self.state = State.ENDPOINTING
                elif self.state is State.HELD:
                    return self._resume(now)
                return []
            case TranscriptChanged(text):
                if self._owes_final and not self._spoke_since:
                    return []
                self.endpoint.changed(text, now)
                return self._unheard_words(now) if text.strip() else []
            case TranscriptFinished(text, confidence):
                return self._finished(text, confidence, now)

    def _speech_started(self, now: float) -> list[Action]:
        self.endpoint.speech_started(now)
        self._spoke_since = True
        match self.state:
            case State.LISTENING:
                self.state = State.HEARING
            case State.ENDPOINTING:
                self.state = State.INTERRUPTED if self.turn is not None else State.HEARING
            case State.THINKING | State.SPEAKING if self.settings.barge_in and self.turn is not None:
                self.state = State.HELD
                self._held_at = now
                self._deadline = now + self.settings.hold
                return [Hold(self.turn.reply)]
            case _:
                pass
        return []

    def _finished(self, text: str, confidence: float | None, now: float) -> list[Action]:
        owed, self._owes_final = self._owes_final, False
        if not self._spoke_since and (owed or _same_words(text, self._taken)):
            return self._late_final(text, confidence, now) if owed else []
        if owed and _words(text)[: len(_words(self._taken))] == _words(self._taken):
            return []  # of the turn before, although the caller is already speaking again
        self.endpoint.finished(text, confidence, now)
        if not text.strip():
            return []
        match self.state:
            case State.LISTENING:
                return self._unheard_words(now)
            case State.THINKING if self.settings.barge_in and self.turn is not None:
                # More words before anything was heard: they belong to the same turn. Answer them together.
                return self._reprompt(self.turn, now)
            case State.SPEAKING if self.settings.barge_in:
                remark = self.endpoint.transcript
                self.endpoint.clear()
                return [KeepRemark(remark)]
            case _:
                return []

    def _late_final(self, text: str, confidence: float | None, now: float) -> list[Action]:
        """The final of a turn that was taken on its partial. It corrects the words while nothing was answered yet;
        after that it is old news and must not be answered again.
        """
        turn = self.turn
        if self.state is not State.THINKING or turn is None or not text.strip() or _same_words(text, self._taken):
            return []
        turn.transcript = ""
        self.endpoint.finished(text, confidence, now)
        return self._reprompt(turn, now)

    def _unheard_words(self, now: float) -> list[Action]:
        """Words although our detector heard no voice (a quiet caller), or that came late: the STT is believed."""
        if self.state is State.LISTENING:
            if not self._spoke_since:
                self.endpoint.speech_stopped(now)
            self.state = State.ENDPOINTING
        return []

    # The end of the caller's turn ------------------------------------------------------------------------

    def _end_of_turn(self, now: float) -> list[Action]:
        endpoint = self.endpoint
        transcript, confidence = endpoint.transcript, endpoint.confidence
        if not transcript:
            endpoint.clear()
            if self.turn is None:
                # Missed speech: the no-response timer covers it (the guide, "No Response Timeout").
                return self._listen(now)
            if self.settings.sticky and self.turn.is_cut:
                return self._end_turn(self.turn, now, interrupted=True) + self._listen(now)
            return self._resume(now)
        if self.turn is not None and self.turn.clock.heard is None:
            return self._reprompt(self.turn, now)
        ended = [] if self.turn is None else self._end_turn(self.turn, now, interrupted=True)
        self._owes_final = not endpoint.is_final
        clock = self._caller_clock(now)
        endpoint.clear()
        self._taken = transcript
        self._silences = 0
        return ended + self._prompt(Cause.CALLER, transcript, confidence, clock, now)

    def _caller_clock(self, now: float) -> TurnClock:
        """What the caller said over the agent's last words was waiting for them to end, not for us."""
        stopped = self.endpoint.stopped_at
        if stopped is not None:
            stopped = max(stopped, self._played_at)
        return TurnClock(stopped=stopped, finished=self.endpoint.finished_at, taken=now)

    def _prompt(
        self, cause: Cause, transcript: str, confidence: float | None, clock: TurnClock, now: float
    ) -> list[Action]:
        self._turns += 1
        self._replies += 1
        self.turn = Turn(self._turns, self._replies, cause, transcript, confidence, clock)
        self.state = State.THINKING
        self._deadline = now + self.settings.think
        self._spoke_since = False
        return [Generate(self._replies, self._turns, cause, transcript)]

    def _reprompt(self, turn: Turn, now: float) -> list[Action]:
        """The caller added words before the answer was audible: the same turn, a new reply."""
        discarded = Discard(turn.reply)
        self.endpoint.reopen(turn.transcript, turn.confidence)
        turn.transcript, turn.confidence = self.endpoint.transcript, self.endpoint.confidence
        turn.cause, turn.clock, turn.is_audible = Cause.CALLER, self._caller_clock(now), False
        self._taken = turn.transcript
        self._owes_final = not self.endpoint.is_final
        self._silences = 0
        self.endpoint.clear()
        self._replies += 1
        turn.reply = self._replies
        self._spoke_since = False
        self.state = State.THINKING
        self._deadline = now + self.settings.think
        return [discarded, Generate(turn.reply, turn.number, turn.cause, turn.transcript)]

    def _no_response(self, now: float) -> list[Action]:
        most = self.settings.no_response_max
        if most is not None and self._silences >= most:
            self._reason = "no_response"
            return self._end(now)
        self._silences += 1
        return self._prompt(Cause.NO_RESPONSE, "", None, TurnClock(taken=now), now)

    # Barge-in --------------------------------------------------------------------------------------------

    def _confirm(self, now: float) -> list[Action]:
        assert self.turn is not None
        self.state = State.INTERRUPTED
        if self.turn.clock.heard is None:
            # Nothing of the answer was heard, so nothing is interrupted: it stays held, and the words that come
            # now join those that it was to answer.
            return []
        self.turn.is_cut = True
        self._played_at = now
        return [Cut(self.turn.reply)]

    def _resume(self, now: float) -> list[Action]:
        """A cough, or an interruption without words: play on where the reply was held or cut."""
        assert self.turn is not None
        turn = self.turn
        words = self.endpoint.transcript if self.endpoint.is_final else ""
        if words and turn.clock.heard is None:
            return self._reprompt(turn, now)
        turn.is_cut = False
        self.state = State.SPEAKING if turn.is_audible else State.THINKING
        self._horizon = max(self._horizon + now - self._held_at, now)
        self._deadline = self._horizon + self.settings.stall if turn.is_audible else now + self.settings.think
        if not words:
            return [Resume(turn.reply)]
        self.endpoint.clear()
        return [Resume(turn.reply), KeepRemark(words)]

    # The agent -------------------------------------------------------------------------------------------

    def _agent(self, event: ReplyEvent, turn: Turn, now: float) -> list[Action]:
        clock = turn.clock
        match event:
            case ReplyBegan():
                clock.mark("began", now)
            case ToolsCalled():
                clock.tools_called(now)
            case ToolsReturned():
                clock.tools_returned(now)
                if self.state is State.THINKING:
                    self._deadline = now + self.settings.think
            case SynthesisBegan():
                clock.mark("synthesis", now)
            case AudioArrived(_, seconds):
                self._audio(turn, seconds, now)
            case ReplyHeard():
                clock.mark("heard", now)
            case ReplyGenerated(_, audible):
                if not audible:
                    return self._played(now)
            case ReplyPlayed() if not turn.is_cut:
                return self._played(now)
            case ReplyFailed(_, code) if not turn.is_cut:
                return self._fail(code, now)
            case _:
                pass
        return []

    def _audio(self, turn: Turn, seconds: float, now: float) -> None:
        turn.clock.mark("audio", now)
        turn.is_audible = True
        self._horizon = max(self._horizon, now) + seconds
        if self.state is State.THINKING:
            self.state = State.SPEAKING
        if self.state is State.SPEAKING:
            self._deadline = self._horizon + self.settings.stall

    def _played(self, now: float) -> list[Action]:
        """The reply is over: all of it was heard, or there was nothing to hear."""
        assert self.turn is not None
        turn = self.turn
        self._played_at = now
        ended = self._end_turn(turn, now, interrupted=False)
        if turn.error is not None:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                self._reason = turn.error
                return ended + self._end(now)
        else:
            self._failures = 0
        if self.state is State.ENDING:
            return ended + self._end(now)
        if self.endpoint.stopped_at is None and self._spoke_since:
            # The caller is speaking, over the last words (held) or because barge-in is off: that is the next turn.
            self.state = State.HEARING
            return ended
        if self.state is State.ENDPOINTING or self.endpoint.transcript:
            self.state = State.ENDPOINTING
            return ended
        return ended + self._listen(now, after_error=turn.error is not None)

    def _fail(self, code: str, now: float) -> list[Action]:
        assert self.turn is not None
        self.turn.error = code
        if self.turn.is_audible:
            # What was said is said; the shell plays it to its end and tells us.
            return []
        return [Discard(self.turn.reply), *self._played(now)]

    def _listen(self, now: float, *, after_error: bool = False) -> list[Action]:
        self.state = State.LISTENING
        # No no-response timer after an error: it would prompt the same failing LLM again (the guide, "Error Recovery").
        waits = self.settings.no_response > 0 and not after_error
        self._deadline = now + self.settings.no_response if waits else None
        return []

    def _end_turn(self, turn: Turn, now: float, *, interrupted: bool) -> list[Action]:
        self.turn = None
        return [
            EndTurn(
                turn=turn.number,
                reply=turn.reply,
                cause=turn.cause,
                transcript=turn.transcript,
                confidence=turn.confidence,
                interrupted=interrupted,
                error=turn.error,
                latency=turn.clock.latency(),
            )
        ]

    # The end of the call ---------------------------------------------------------------------------------

    def _hang_up(self, reason: str, now: float) -> list[Action]:
        """Once what is being said was heard. The caller cannot interrupt a goodbye."""
        self._reason = reason
        if self.turn is None:
            return self._end(now)
        resumed: list[Action] = [Resume(self.turn.reply)] if self.state is State.HELD else []
        if self.turn.is_cut:
            return self._end(now)
        self.state = State.ENDING
        self._deadline = now + self.settings.goodbye
        return resumed

    def _end(self, now: float) -> list[Action]:
        return [*self._close(now), EndCall(self._reason)]

    def _close(self, now: float) -> list[Action]:
        turn = self.turn
        self.state = State.ENDED
        self._deadline = None
        if turn is None:
            return []
        stop: Action = Cut(turn.reply) if turn.is_audible and not turn.is_cut else Discard(turn.reply)
        return [stop, *self._end_turn(turn, now, interrupted=True)]


def _same_words(one: str, other: str) -> bool:
    """Equal once case, spacing and punctuation are set aside."""
    return _words(one) == _words(other)


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.casefold()).split()
