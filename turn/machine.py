"""The turn machine: what happened goes in, what to do comes out.

    machine = TurnMachine(Settings(min_speech=0.5))
    for action in machine.handle(SpeechStarted(), now=loop.time()): ...
    loop.call_at(machine.timer_at(), ...)                 # then machine.tick(now)

The states and the ways between them are drawn in :mod:`turn.states`.
"""

from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, KeepRemark, Release, Resume
from turn.deadlines import Deadlines, Settings
from turn.endpoint import Endpoint
from turn.events import (
    AudioArrived,
    CallEnded,
    CallerEvent,
    CallStarted,
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    HangupRequested,
    InterruptionPredicted,
    PauseJudged,
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
    TurnResumed,
)
from turn.finals import Taken
from turn.latency import TurnClock
from turn.preflight import Preflight
from turn.states import State, Turn

__all__ = ["NORMAL", "Settings", "State", "Turn", "TurnMachine"]

NORMAL = "normal conversation end"
FAILURES_IN_A_ROW = 3  # verb-decisions, "Errors": three failed turns in a row end the call


class TurnMachine:
    """Pure: no clock, no I/O. Calling :meth:`tick` early, late or twice is harmless."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State.LISTENING
        self.turn: Turn | None = None  # from its prompt until its EndTurn
        self.endpoint = Endpoint(silence=settings.silence, no_final=settings.no_final)
        self._deadlines = Deadlines(settings)
        self._taken = Taken(settings.late_final)
        self._preflight = Preflight(settings.speculations)
        self._turns = 0
        self._replies = 0
        self._played_at = 0.0  # when the agent last fell silent
        self._reason = NORMAL  # why the call ends
        self._silences = 0  # no-response prompts in a row
        self._failures = 0

    # Time ------------------------------------------------------------------------------------------------

    def timer_at(self) -> float | None:
        """When :meth:`tick` is next due, or ``None``: then the caller, who can always speak or hang up, is awaited."""
        if self.state is State.ENDPOINTING:
            return min((at for at in (self.endpoint.due(), self._early_at()) if at is not None), default=None)
        if self.state in (State.HEARING, State.INTERRUPTED):
            return self.endpoint.changed_at + self.settings.stuck_voice
        return self._deadlines.at

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
                over = self.endpoint.due()
                return self._end_of_turn(now) if over is not None and now >= over else self._speculate("", now)
            case State.THINKING | State.SPEAKING:
                assert self.turn is not None
                self.turn.error = self.turn.error or "timeout"
                return self._over(self.turn, now)
            case State.HELD:
                assert self.turn is not None
                self.endpoint.speech_stopped(now)
                return self._resume(self.turn, now)
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
                return self._greet(now)
            case CallEnded():
                return self._close(now)
            case HangupRequested(reason):
                return self._hang_up(reason, now)
            case (
                ReplyBegan()
                | ToolsCalled()
                | ToolsReturned()
                | SynthesisBegan()
                | AudioArrived()
                | ReplyHeard()
                | ReplyGenerated()
                | ReplyPlayed()
                | ReplyFailed()
            ) as told:
                # The one place where late results die: a reply that was discarded or played is nobody's.
                if self.turn is not None and told.reply == self.turn.reply:
                    return self._agent(told, self.turn, now)
                return self._speculation(told) if told.reply == self._preflight.reply else []
            case _:
                return [] if self.state is State.ENDING else self._caller(event, now)

    # The caller ------------------------------------------------------------------------------------------

    def _caller(self, event: CallerEvent, now: float) -> list[Action]:
        match event:
            case SpeechStarted():
                return self._speech_started(now)
            case SpeechConfirmed():
                return self._confirm(now)
            case SpeechStopped(quiet):
                self.endpoint.speech_stopped(now - quiet)
                if self.state in (State.HEARING, State.INTERRUPTED):
                    self.state = State.ENDPOINTING
                elif self.state is State.HELD and self.turn is not None:
                    return self._resume(self.turn, now)
                return []
            case TranscriptChanged(text):
                if self._taken.is_owed(now):
                    return []
                self._taken.changed()
                self.endpoint.changed(self._taken.rest(text), now)
                if self.state is State.LISTENING and self.endpoint.transcript:
                    self.state = State.ENDPOINTING
                return []
            case TranscriptFinished(text, confidence):
                return self._finished(text, confidence, now)
            case EagerEndOfTurn(text):
                return self._speculate(text, now)
            case TurnResumed():
                return self._miss()
            case EndOfTurn(text, confidence):
                return self._vendor_ended(text, confidence, now)
            case PauseJudged(silence, is_early):
                return self._judged(silence, now, is_early=is_early)
            case InterruptionPredicted():
                predicted = self.state is State.SPEAKING and not self.settings.tentative
                return self._confirm(now) if predicted else []

    def _speech_started(self, now: float) -> list[Action]:
        self.endpoint.speech_started(now)
        self._taken.speech_started()
        match self.state:
            case State.LISTENING:
                self.state = State.HEARING
            case State.ENDPOINTING:
                self.state = State.INTERRUPTED if self.turn is not None else State.HEARING
            case State.THINKING | State.SPEAKING if self.turn is not None and self._may_interrupt(self.turn):
                # Where interruptions are predicted nothing pauses tentatively, once there is something to hear.
                if self.settings.tentative or not self.turn.is_heard:
                    self.state = State.HELD
                    self._deadlines.held(now)
                    return [Hold(self.turn.reply)]
            case _:
                pass
        return []

    def _may_interrupt(self, turn: Turn) -> bool:
        return self.settings.barge_in and (self.settings.greeting_interruptible or turn.cause is not Cause.GREETING)

    def _finished(self, text: str, confidence: float | None, now: float) -> list[Action]:
        taken, turn = self._taken, self.turn
        if taken.is_double(text, now):
            return []
        is_owed, correction, rest = taken.is_owed(now), taken.correction(text), taken.rest(text)
        taken.finished(text, now)
        if is_owed and turn is not None and not turn.is_heard:
            return self._correct(turn, correction, confidence, now)
        if text.strip() and (not rest or (is_owed and rest == text)):
            return []  # what was answered already must not be answered again, and is too late to correct
        self.endpoint.finished(rest, confidence, now)
        if not rest.strip():
            return []
        match self.state, turn:
            case State.LISTENING, _:
                # A quiet caller whom our detector did not hear, or words that came late: the STT is believed.
                self.state = State.ENDPOINTING
            case State.THINKING | State.SPEAKING, Turn() if self._may_interrupt(turn):
                # Before anything was heard, more words belong to the same turn. Answer them together.
                return [self._remark(now)] if turn.is_heard else self._reprompt(turn, now)
            case _:
                pass
        return []

    def _correct(self, turn: Turn, correction: str, confidence: float | None, now: float) -> list[Action]:
        """The final of a turn that was taken on its partial, while nothing was answered yet."""
        if not correction.strip():
            return []
        turn.transcript = self._taken.settled
        self.endpoint.finished(correction, confidence, now)
        return self._reprompt(turn, now)

    def _remark(self, now: float) -> Action:
        """Words in passing. The caller is there, though, and their final may still come."""
        self._take(now)
        remark = self.endpoint.transcript
        self.endpoint.clear()
        return KeepRemark(remark)

    def _take(self, now: float) -> None:
        """The words so far are dealt with: whatever comes of them later is late."""
        self._taken.take(self.endpoint.words, self.endpoint.partial, now)
        self._silences = 0

    # The end of the caller's turn ------------------------------------------------------------------------

    def _vendor_ended(self, text: str, confidence: float | None, now: float) -> list[Action]:
        """The vendor's own end of turn is believed, also while our detector still hears a voice."""
        actions = self._finished(text, confidence, now)
        if self.state not in (State.HEARING, State.ENDPOINTING, State.INTERRUPTED) or not self.endpoint.transcript:
            return actions
        if self.endpoint.is_voiced:
            self.endpoint.speech_stopped(now)
        return actions + self._end_of_turn(now)

    def _judged(self, silence: float, now: float, *, is_early: bool) -> list[Action]:
        if self.state is not State.ENDPOINTING:
            return []  # the caller has gone on
        self.endpoint.judged = silence
        return self._speculate("", now) if is_early and self.settings.early else []

    def _end_of_turn(self, now: float) -> list[Action]:
        turn, endpoint = self.turn, self.endpoint
        transcript, confidence = endpoint.transcript, endpoint.confidence
        if not transcript:
            endpoint.clear()
            if turn is None:
                # Missed speech: the no-response timer covers it (the guide, "No Response Timeout").
                self._listen(now)
                return []
            if self.settings.sticky and turn.is_cut:
                ended = self._end_turn(turn, now, interrupted=True)
                self._listen(now)
                return ended
            return self._resume(turn, now)
        if turn is not None and not turn.is_heard:
            return self._reprompt(turn, now)
        ended = [] if turn is None else self._end_turn(turn, now, interrupted=True)
        clock = self._caller_clock(now)
        self._take(now)
        endpoint.clear()
        return ended + self._answer(transcript, confidence, clock, now)

    def _answer(self, transcript: str, confidence: float | None, clock: TurnClock, now: float) -> list[Action]:
        """By the speculation when it was prompted with these words, else by a new prompt."""
        preflight = self._preflight
        had_words, reply = preflight.has_words, preflight.settle(transcript)
        if reply is None:
            was_tried = preflight.was_tried
            missed = self._miss()
            preflight.turn_ended()
            actions = missed + self._prompt(Cause.CALLER, transcript, confidence, clock, now)
            assert self.turn is not None
            self.turn.preflight = "miss" if was_tried else None
            return actions
        preflight.turn_ended()
        self._turns += 1
        self.turn = Turn(self._turns, reply, Cause.CALLER, transcript, confidence, clock)
        self.turn.preflight = "hit" if had_words else "pending"
        clock.is_hit = had_words
        self.state = State.THINKING
        self._deadlines.thinking(now)
        return [Release(reply, self._turns, transcript)]

    def _caller_clock(self, now: float) -> TurnClock:
        """What the caller said over the agent's last words was waiting for them to end, not for us."""
        endpoint = self.endpoint
        stopped = now if endpoint.stopped_at is None else max(endpoint.stopped_at, self._played_at)
        return TurnClock(stopped=stopped, finished=endpoint.finished_at if endpoint.is_final else None, taken=now)

    def _prompt(
        self, cause: Cause, transcript: str, confidence: float | None, clock: TurnClock, now: float
    ) -> list[Action]:
        self._turns += 1
        self._replies += 1
        self.turn = Turn(self._turns, self._replies, cause, transcript, confidence, clock)
        self.state = State.THINKING
        self._deadlines.thinking(now)
        return [Generate(self._replies, self._turns, cause, transcript)]

    def _reprompt(self, turn: Turn, now: float) -> list[Action]:
        """The caller added words before the answer was audible: the same turn, a new reply."""
        discarded = Discard(turn.reply)
        endpoint = self.endpoint
        clock = self._caller_clock(now)
        endpoint.reopen(turn.transcript, turn.confidence)
        transcript, confidence = endpoint.transcript, endpoint.confidence
        self._take(now)
        endpoint.clear()
        self._replies += 1
        self.turn = Turn(turn.number, self._replies, Cause.CALLER, transcript, confidence, clock)
        self.state = State.THINKING
        self._deadlines.thinking(now)
        return [discarded, Generate(self._replies, turn.number, Cause.CALLER, transcript)]

    def _greet(self, now: float) -> list[Action]:
        if not self.settings.greeting or self._turns or self.state is not State.LISTENING:
            return []
        return self._prompt(Cause.GREETING, "", None, TurnClock(taken=now), now)

    def _no_response(self, now: float) -> list[Action]:
        most = self.settings.no_response_max
        if most and self._silences >= most:
            self._reason = "no_response"
            return self._end(now)
        self._silences += 1
        return self._prompt(Cause.NO_RESPONSE, "", None, TurnClock(taken=now), now)

    # Early generation ------------------------------------------------------------------------------------

    def _early_at(self) -> float | None:
        """When the words so far have stood long enough to be worth a speculation."""
        wanted = self.settings.early and not self.settings.early_signal and self._may_speculate("")
        return self.endpoint.settled_at(self.settings.early_silence) if wanted else None

    def _may_speculate(self, rest: str) -> bool:
        # Beside a reply that may yet be played only when that one was cut: one of them will be thrown away.
        is_free = self.turn is None or (self.turn.is_cut and self.state is not State.SPEAKING)
        return is_free and self._preflight.may_begin(self._words_with(rest))

    def _words_with(self, rest: str) -> str:
        return " ".join([*self.endpoint.words, rest]) if rest else self.endpoint.transcript

    def _speculate(self, rest: str, now: float) -> list[Action]:
        """``rest``: what the vendor's eager signal says, else the words so far."""
        if self.state not in (State.HEARING, State.ENDPOINTING, State.INTERRUPTED) or not self._may_speculate(rest):
            return []
        words = self._words_with(rest)
        missed = self._miss()
        self._replies += 1
        self._preflight.begin(self._replies, words)
        return [*missed, Generate(self._replies, self._turns + 1, Cause.CALLER, words, speculative=True)]

    def _miss(self) -> list[Action]:
        reply = self._preflight.discard()
        return [] if reply is None else [Discard(reply)]

    def _speculation(self, event: ReplyEvent) -> list[Action]:
        """Nobody but the budget hears of it before it is released; a failure only means that there is none."""
        match event:
            case ReplyBegan():
                self._preflight.has_words = True
            case ReplyFailed(reply):
                self._preflight.fail()
                return [Discard(reply)]
            case _:
                pass
        return []

    # Barge-in --------------------------------------------------------------------------------------------

    def _confirm(self, now: float) -> list[Action]:
        """The caller means it. Mostly the reply is held; if that lasted too long, it plays again."""
        turn = self.turn
        if turn is None or not self._may_interrupt(turn):
            return []
        held: list[Action] = []
        if self.state in (State.THINKING, State.SPEAKING):
            self.endpoint.speech_started(now)
            self._taken.speech_started()
            self._deadlines.held(now)
            held = [] if turn.is_heard else [Hold(turn.reply)]
        elif self.state is not State.HELD:
            return []
        self.state = State.INTERRUPTED
        # Of what was not heard nothing is interrupted: it stays held, and the words that come now join those that
        # it was to answer.
        turn.is_cut = turn.is_heard
        return [*held, Cut(turn.reply)] if turn.is_cut else held

    def _resume(self, turn: Turn, now: float) -> list[Action]:
        """A cough, or an interruption without words: play on where the reply was held or cut."""
        if self.endpoint.words and not turn.is_heard:
            return self._reprompt(turn, now)
        turn.is_cut = False
        self._deadlines.resumed(now)
        self._wait(turn, now)
        if not self.endpoint.words or not self.endpoint.is_final:
            return [Resume(turn.reply)]
        return [Resume(turn.reply), self._remark(now)]

    # The agent -------------------------------------------------------------------------------------------

    def _agent(self, event: ReplyEvent, turn: Turn, now: float) -> list[Action]:
        clock = turn.clock
        match event:
            case ReplyBegan():
                clock.mark("began", now)
            case ToolsCalled() | ToolsReturned():
                if isinstance(event, ToolsCalled):
                    clock.tools_called(now)
                else:
                    clock.tools_returned(now)
                if self.state in (State.THINKING, State.SPEAKING):
                    self._deadlines.tools(now)
            case SynthesisBegan():
                clock.mark("synthesis", now)
            case AudioArrived(_, seconds):
                self._audio(turn, seconds, now)
            case ReplyHeard():
                return self._heard(turn, now)
            case ReplyGenerated(_, audible):
                if not audible:
                    return self._over(turn, now)
            case ReplyPlayed():
                return self._over(turn, now)
            case ReplyFailed(_, code):
                turn.error = turn.error or code
                # What was said is said; the shell plays it to its end and tells us.
                return [] if turn.is_audible else self._over(turn, now)
        return []

    def _audio(self, turn: Turn, seconds: float, now: float) -> None:
        turn.clock.mark("audio", now)
        turn.is_audible = True
        self._deadlines.audio(seconds, now)
        if self.state in (State.THINKING, State.SPEAKING):
            self._wait(turn, now)
        elif self.state is State.ENDING:
            self._deadlines.goodbye(now)

    def _heard(self, turn: Turn, now: float) -> list[Action]:
        if not turn.is_audible:
            self._audio(turn, 0.0, now)
        turn.clock.mark("heard", now)
        if self.state in (State.INTERRUPTED, State.ENDPOINTING) and not turn.is_cut:
            # It slipped out between the hold and the confirmation: now there is something to interrupt.
            turn.is_cut = True
            return [Cut(turn.reply)]
        return []

    def _wait(self, turn: Turn, now: float) -> None:
        """For the rest of the reply, or its beginning."""
        if turn.is_audible:
            self.state = State.SPEAKING
            self._deadlines.speaking(now, tools=turn.clock.has_tools)
        else:
            self.state = State.THINKING
            self._deadlines.thinking(now)

    def _over(self, turn: Turn, now: float) -> list[Action]:
        """The reply is over: all of it was heard, or there was nothing to hear, or it cannot go on."""
        self._played_at = now
        actions = self._end_turn(turn, now, interrupted=turn.is_cut)
        if turn.error is not None:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW and self.state is not State.ENDING:
                self._reason = turn.error
                return actions + self._end(now)
        if self.state is State.ENDING:
            return actions + self._end(now)
        if self.endpoint.is_voiced:
            # The caller is speaking, over the last words (held) or because barge-in is off: that is the next turn.
            self.state = State.HEARING
            return actions
        due = self.endpoint.due()
        if self.state is State.SPEAKING and self.settings.barge_in and self.endpoint.transcript and due and due <= now:
            # Said in passing, and its final never came.
            actions.append(self._remark(now))
        if self.state is State.ENDPOINTING or self.endpoint.transcript:
            self.state = State.ENDPOINTING
        else:
            self._listen(now, after_error=turn.error is not None)
        return actions

    def _listen(self, now: float, *, after_error: bool = False) -> None:
        self.state = State.LISTENING
        # No no-response timer after an error: it would prompt the same failing LLM again (the guide, "Error Recovery").
        self._deadlines.listening(now, prompts=not after_error)

    def _end_turn(self, turn: Turn, now: float, *, interrupted: bool) -> list[Action]:
        self.turn = None
        if turn.error is None:
            self._failures = 0
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
                preflight=turn.preflight,
            )
        ]

    # The end of the call ---------------------------------------------------------------------------------

    def _hang_up(self, reason: str, now: float) -> list[Action]:
        """Once what is being said was heard. The caller cannot interrupt a goodbye."""
        if self.state is State.ENDING:
            return []  # once is enough: asked again and again, it would never come
        self._reason = reason
        if self.turn is None or self.turn.is_cut:
            return self._end(now)
        is_held = self.state in (State.HELD, State.INTERRUPTED, State.ENDPOINTING)
        if is_held:
            self._deadlines.resumed(now)
        self.state = State.ENDING
        self._deadlines.goodbye(now)
        return [Resume(self.turn.reply)] if is_held else []

    def _end(self, now: float) -> list[Action]:
        return [*self._close(now), EndCall(self._reason)]

    def _close(self, now: float) -> list[Action]:
        self.state = State.ENDED
        self._deadlines.at = None
        missed = self._miss()
        return missed if self.turn is None else missed + self._end_turn(self.turn, now, interrupted=True)
