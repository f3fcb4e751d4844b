"""The turn machine: what happened goes in, what to do comes out.

    machine = TurnMachine(Settings(min_speech=0.5))
    for action in machine.handle(SpeechStarted(), now=loop.time()): ...
    loop.call_at(machine.timer_at(), ...)                 # then machine.tick(now)

The states and the ways between them are drawn in :mod:`turn.states`; the machine composes the rules of the files
beside it: which words are new and when a turn ends (endpoint), which keys belong together (keypad), who may interrupt
(bargein), what is speculated (preflight), what the application asked for (requests), what is overdue (deadlines), what
ends a call that nobody ends (patience).
"""

from turn.actions import Action, Cause, Discard, EndCall, Generate, Hold, KeepRemark, Release, Resume
from turn.bargein import BargeIn, interrupt
from turn.deadlines import Deadlines, Settings
from turn.endpoint import Endpoint
from turn.events import (
    ApplicationEvent,
    AudioArrived,
    CallEnded,
    CallerEvent,
    CallStarted,
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    HangupRequested,
    InterruptionPredicted,
    KeyPressed,
    PauseJudged,
    PromptChanged,
    ReplyEvent,
    ReplyFailed,
    ReplyGenerated,
    ReplyHeard,
    ReplyPlayed,
    ReplyRequested,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    ToolsCalled,
    ToolsReturned,
    TranscriptChanged,
    TranscriptFinished,
    TurnResumed,
)
from turn.keypad import Keypad
from turn.latency import TurnClock
from turn.patience import Patience
from turn.preflight import Preflight
from turn.requests import Requests
from turn.states import State, Turn

__all__ = ["Settings", "State", "Turn", "TurnMachine"]


class TurnMachine:
    """Pure: no clock, no I/O. Calling :meth:`tick` early, late or twice is harmless."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State.LISTENING
        self.turn: Turn | None = None  # from its prompt until its EndTurn
        self.endpoint = Endpoint(settings.silence, settings.no_final, settings.late_final)
        self.keypad = Keypad(settings)
        self.requests = Requests()
        self._barge_in = BargeIn(settings)
        self._deadlines = Deadlines(settings)
        self._patience = Patience(settings.no_response_max)
        self._preflight = Preflight(settings)
        self._turns = 0
        self._replies = 0
        self._played_at = 0.0  # when the agent last fell silent

    # Time ------------------------------------------------------------------------------------------------

    def timer_at(self) -> float | None:
        """When :meth:`tick` is next due, or ``None``: then the caller, who can always speak or hang up, is awaited."""
        keys_at = self.keypad.at
        if self.state is State.ENDPOINTING:
            if keys_at is not None:
                return keys_at  # the turn ends with the keys
            return min((at for at in (self.endpoint.due(), self._early_at()) if at is not None), default=None)
        is_voice = self.state in (State.HEARING, State.INTERRUPTED)
        at = self.endpoint.changed_at + self.settings.stuck_voice if is_voice else self._deadlines.at
        if keys_at is None:
            return at
        return keys_at if at is None else min(at, keys_at)

    def tick(self, now: float) -> list[Action]:
        """The deadline of the state, if it has come."""
        due = self.timer_at()
        if due is None or now < due:
            return []
        if due == self.keypad.at:
            return self._keys_came(self.keypad.taken(), now)
        match self.state:
            case State.LISTENING:
                return self._no_response(now)
            case State.HEARING | State.INTERRUPTED | State.HELD:
                # Whatever the detector hears, no words come of it, or no more audio: take what there is.
                return self._speech_stopped(now, now)
            case State.ENDPOINTING:
                over = self.endpoint.due()
                return self._end_of_turn(now) if over is not None and now >= over else self._speculate()
            case State.THINKING | State.SPEAKING:
                assert self.turn is not None
                self.turn.error = self.turn.error or "timeout"
                return self._over(self.turn, now)
            case State.ENDING:
                return self._end()
            case State.ENDED:
                return []

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; say what is to be done about it."""
        if self.state is State.ENDED:
            return []
        if isinstance(event, ReplyEvent):
            # The one place where late results die: a reply that was discarded or played is nobody's.
            if self.turn is not None and event.reply == self.turn.reply:
                return self._agent(event, self.turn, now)
            return self._preflight.told(event)
        match event:
            case CallStarted():
                return self._greet(now)
            case CallEnded():
                return self._close()
            case HangupRequested(reason):
                return self._hang_up(reason, now)
            case _:
                return [] if self.state is State.ENDING else self._from_outside(event, now)

    # The caller ------------------------------------------------------------------------------------------

    def _from_outside(self, event: CallerEvent | ApplicationEvent, now: float) -> list[Action]:
        match event:
            case SpeechStarted():
                return self._speech_started(now)
            case SpeechConfirmed() | InterruptionPredicted():
                return self._interrupted(event, now)
            case SpeechStopped(quiet):
                return self._speech_stopped(now - quiet, now)
            case TranscriptChanged(text):
                return self._changed(text, now)
            case TranscriptFinished(text, confidence):
                return self._finished(text, confidence, now)
            case EagerEndOfTurn(text):
                changed = self._changed(text, now) if text.strip() else []
                return changed + self._speculate()
            case TurnResumed():
                return self._preflight.miss()
            case EndOfTurn():
                return self._vendor_ended(event, now)
            case PauseJudged(silence, is_early):
                if self.state is not State.ENDPOINTING:
                    return []  # the caller has gone on
                self.endpoint.judged = silence
                return self._speculate() if is_early and self.settings.early else []
            case KeyPressed(key):
                return self._key_pressed(key, now) if self.settings.keys else []
            case ReplyRequested():
                return self._requested(event, now)
            case PromptChanged():
                return self._preflight.miss()  # it was told what holds no longer

    def _speech_started(self, now: float) -> list[Action]:
        self.endpoint.speech_started(now)
        match self.state, self.turn:
            case State.LISTENING, _:
                self.state = State.HEARING
            case State.ENDPOINTING, turn:
                self.state = State.HEARING if turn is None else State.INTERRUPTED
            case State.THINKING | State.SPEAKING, Turn() as turn if self._barge_in.holds(turn):
                self.state = State.HELD
                self._deadlines.held(now)
                return [Hold(turn.reply)]
            case _:
                pass
        return []

    def _speech_stopped(self, at: float, now: float) -> list[Action]:
        self.endpoint.speech_stopped(at)
        if self.state in (State.HEARING, State.INTERRUPTED):
            self.state = State.ENDPOINTING
        elif self.state is State.HELD and self.turn is not None:
            return self._resume(self.turn, now)
        return []

    def _interrupted(self, event: SpeechConfirmed | InterruptionPredicted, now: float) -> list[Action]:
        turn = self.turn
        if turn is None or not self._barge_in.is_meant(event, self.state, turn):
            return []
        if self.state is not State.HELD and isinstance(event, SpeechConfirmed):
            self.endpoint.speech_started(now)  # the hold ran out because nothing came of it
        return self._interrupt(turn, now)

    def _interrupt(self, turn: Turn, now: float) -> list[Action]:
        was_held = self.state is State.HELD
        if not was_held:
            self._deadlines.held(now)
        self.state = State.INTERRUPTED if self.endpoint.is_voiced else State.ENDPOINTING
        return interrupt(turn, was_held=was_held)

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

    # The caller's words ----------------------------------------------------------------------------------

    def _changed(self, text: str, now: float) -> list[Action]:
        self.endpoint.changed(text, now)
        if self.state is State.LISTENING and self.endpoint.transcript:
            self.state = State.ENDPOINTING
        return self._preflight.changed(self.endpoint.transcript)

    def _finished(self, text: str, confidence: float | None, now: float) -> list[Action]:
        turn = self.turn
        is_open = turn is not None and not turn.is_heard and turn.cause is Cause.CALLER
        final = self.endpoint.finished(text, confidence, now, is_open=is_open)
        if final is None:
            return []
        if turn is not None and final.is_correction:
            turn.transcript = self.endpoint.taken.settled
            # Or together with what the caller is about to add, by keys or before an urgent request.
            return [] if self._is_awaited else self._reprompt(turn, now)
        if final.text.strip():
            match self.state, turn:
                case State.LISTENING, _:
                    # A quiet caller whom our detector did not hear, or words that came late: the STT is believed.
                    self.state = State.ENDPOINTING
                case State.THINKING | State.SPEAKING, Turn() if self._barge_in.may_interrupt(turn):
                    # Before anything was heard, more words belong to the same turn. Answer them together.
                    return [self._remark(now)] if turn.is_heard else self._reprompt(turn, now)
                case _:
                    pass
        return self._preflight.changed(self.endpoint.transcript)

    def _remark(self, now: float) -> Action:
        """Words in passing. The caller is there, though, and their final may still come."""
        remark = self.endpoint.transcript
        self._take(now)
        return KeepRemark(remark)

    def _take(self, now: float) -> None:
        """The words so far are dealt with: whatever comes of them later is late."""
        self.endpoint.take(now)
        self._patience.caller_spoke()

    # The caller's keys -----------------------------------------------------------------------------------

    def _key_pressed(self, key: str, now: float) -> list[Action]:
        """People press keys over prompts: an agent that may be interrupted falls silent at the first one."""
        actions = self._preflight.miss() + self._take_floor(now)
        self.endpoint.changed_at = now
        said = self.keypad.pressed(key, now)
        return actions + self._keys_came(said, now) if said else actions

    def _take_floor(self, now: float) -> list[Action]:
        turn = self.turn
        if self.state.is_callers or (turn is not None and not self._barge_in.may_interrupt(turn)):
            return []
        self.endpoint.settle(now)
        if turn is not None:
            return self._interrupt(turn, now)
        self.state = State.ENDPOINTING
        return []

    def _keys_came(self, said: str, now: float) -> list[Action]:
        """All of them: the caller is done, unless words that were spoken before them are still to come."""
        endpoint = self.endpoint
        endpoint.keys_came(said, self.keypad.pressed_at)
        actions = self._take_floor(now)
        if not self.state.is_callers:
            return actions  # over a message that nobody may interrupt: the next turn when that was played
        if endpoint.is_voiced and not endpoint.partial:
            endpoint.speech_stopped(self.keypad.pressed_at)  # a voice without words so far: noise on the line
            return actions + self._end_of_turn(now)
        due = endpoint.due()
        return actions + self._end_of_turn(now) if due is not None and due <= now else actions

    # The end of the caller's turn ------------------------------------------------------------------------

    def _vendor_ended(self, event: EndOfTurn, now: float) -> list[Action]:
        """The vendor's own end of turn is believed, also while our detector still hears a voice. Not in that the
        caller interrupts what they hear: that the detector confirms, or else it was a remark.
        """
        endpoint, spoke_at = self.endpoint, now - event.quiet if event.quiet else self.endpoint.spoke_at(now)
        actions = self._finished(event.transcript, event.confidence, now)
        turn = self.turn
        if not endpoint.transcript or self.keypad.at is not None:
            return actions  # nothing to answer, or they are pressing keys: those end the turn
        if self.state is State.HELD and turn is not None:
            return actions if turn.is_heard else actions + self._reprompt(turn, now)
        if endpoint.is_voiced:
            endpoint.speech_stopped(spoke_at)
        if self.state.is_callers:
            return actions + self._end_of_turn(now)
        endpoint.judged = 0.0  # said over a message that nobody may interrupt: its turn when that was played
        return actions

    def _end_of_turn(self, now: float) -> list[Action]:
        turn, endpoint = self.turn, self.endpoint
        transcript, confidence = endpoint.transcript, endpoint.confidence
        if not transcript:
            endpoint.clear()
            self._preflight.forget()
            if turn is None:
                # Missed speech: the no-response timer covers it (the guide, "No Response Timeout").
                return self._rest(now)
            if self.requests.is_urgent or (self.settings.sticky and turn.is_cut):
                return self._end_turn(turn, interrupted=True) + self._rest(now)
            return self._resume(turn, now)
        if self.requests.is_urgent:
            return self._answer_urgently(turn, now)
        if turn is not None and not turn.is_heard:
            return self._reprompt(turn, now)
        ended = [] if turn is None else self._end_turn(turn, interrupted=True)
        clock = endpoint.clock(now, self._played_at)
        self._take(now)
        return ended + self._answer(transcript, confidence, clock, now)

    # The answer ------------------------------------------------------------------------------------------

    def _answer(self, transcript: str, confidence: float | None, clock: TurnClock, now: float) -> list[Action]:
        """By the speculation when it was prompted with these words, else by a new prompt."""
        preflight = self._preflight
        released = preflight.settle(transcript)
        fate = preflight.turn_ended(is_released=released is not None)
        clock.is_hit = fate == "hit"
        self._turns += 1
        reply = self._next_reply() if released is None else released
        turn = Turn(self._turns, reply, Cause.CALLER, transcript, confidence, clock, preflight=fate)
        prompt = self._think(turn, now)
        return [prompt] if released is None else [Release(released, turn.number, transcript)]

    def _reprompt(self, turn: Turn, now: float) -> list[Action]:
        """The caller added words before the answer was audible: the same turn, a new reply."""
        endpoint, clock = self.endpoint, self.endpoint.clock(now, self._played_at)
        endpoint.reopen(turn.transcript, turn.confidence)
        more = turn.joined(self._next_reply(), endpoint.transcript, endpoint.confidence, clock)
        self._take(now)
        return [Discard(turn.reply), self._think(more, now)]

    def _greet(self, now: float) -> list[Action]:
        if not self.settings.greeting or self._turns or self.state is not State.LISTENING:
            return []
        return self._speak_first(Cause.GREETING, now)

    def _no_response(self, now: float) -> list[Action]:
        if self._patience.is_over_with_silence():
            return self._end()
        return self._speak_first(Cause.NO_RESPONSE, now)

    def _speak_first(self, cause: Cause, now: float, text: str = "", request: int = 0) -> list[Action]:
        self._turns += 1
        clock = TurnClock(taken=now)
        return [self._think(Turn(self._turns, self._next_reply(), cause, text, None, clock, request=request), now)]

    def _think(self, turn: Turn, now: float) -> Generate:
        """Busy with this turn from now on; returns its prompt."""
        self.turn, self.state = turn, State.THINKING
        self._deadlines.thinking(now)
        return Generate(turn.reply, turn.number, turn.cause, turn.transcript, request=turn.request)

    def _next_reply(self) -> int:
        self._replies += 1
        return self._replies

    # What the application asks for -----------------------------------------------------------------------

    def _requested(self, request: ReplyRequested, now: float) -> list[Action]:
        self.requests.add(request)
        if self.state is State.LISTENING:
            return self._rest(now)
        if not request.interrupt:
            return []
        if self.state.is_callers:
            return self._preflight.miss()  # their words first, and then one reply to both
        return self._answer_urgently(self.turn, now)

    def _answer_urgently(self, turn: Turn | None, now: float) -> list[Action]:
        """The turn in progress, if there is one, ends here; of its reply history keeps what was heard. What the caller
        has said since is kept beside it: one reply covers both.
        """
        actions = [] if turn is None else self._end_turn(turn, interrupted=True)
        self._played_at = now
        if self.endpoint.transcript and (self.state.is_callers or self.endpoint.is_final):
            self._preflight.forget()
            actions.append(self._remark(now))
        return actions + self._rest(now)

    @property
    def _is_awaited(self) -> bool:
        """Is the caller's turn to end with keys, or to make way for an urgent request?"""
        return self.state.is_callers and (self.keypad.at is not None or self.requests.is_urgent)

    # Early generation ------------------------------------------------------------------------------------

    def _early_at(self) -> float | None:
        at = self._preflight.early_at(self.endpoint)
        return at if at is not None and self._may_speculate() else None

    def _may_speculate(self) -> bool:
        # Beside a reply that may yet be played only when that one was cut: one of them will be thrown away.
        is_free = (self.turn is None or self.turn.is_cut) and not self._is_awaited
        return is_free and self.state.is_callers and self._preflight.may_begin(self.endpoint.transcript)

    def _speculate(self) -> list[Action]:
        if not self._may_speculate():
            return []
        reply, words = self._next_reply(), self.endpoint.transcript
        self._preflight.begin(reply, words)
        return [Generate(reply, self._turns + 1, Cause.CALLER, words, speculative=True)]

    # The agent -------------------------------------------------------------------------------------------

    def _agent(self, event: ReplyEvent, turn: Turn, now: float) -> list[Action]:
        turn.clock.told(event, now)
        match event:
            case ToolsCalled() | ToolsReturned() if self.state.is_agents:
                self._deadlines.tools(now)
            case AudioArrived(_, seconds):
                self._audio(turn, seconds, now)
            case ReplyHeard():
                return self._heard(turn, now)
            case ReplyPlayed() | ReplyGenerated(audible=False):
                return self._over(turn, now)
            case ReplyFailed(_, code):
                turn.error = turn.error or code
                # What was said is said; the shell plays it to its end and tells us.
                return [] if turn.is_audible else self._over(turn, now)
            case _:
                pass
        return []

    def _audio(self, turn: Turn, seconds: float, now: float) -> None:
        turn.is_audible = True
        self._deadlines.audio(seconds, now)
        if self.state.is_agents:
            self._wait(turn, now)
        elif self.state is State.ENDING:
            self._deadlines.goodbye(now)

    def _heard(self, turn: Turn, now: float) -> list[Action]:
        if not turn.is_audible:
            self._audio(turn, 0.0, now)
        if self.state in (State.INTERRUPTED, State.ENDPOINTING) and not turn.is_cut:
            # It slipped out between the hold and the confirmation: now there is something to interrupt.
            return interrupt(turn, was_held=True)
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
        actions = self._end_turn(turn, interrupted=turn.is_cut)
        if self.state is State.ENDING or (turn.error and self._patience.is_over_with_failure(turn.error)):
            return actions + self._end()
        if self.endpoint.is_voiced:
            # The caller is speaking, over the last words (held) or because barge-in is off: that is the next turn.
            self.state = State.HEARING
            return actions
        due = self.endpoint.due()
        was_said_over_it = self.state is State.SPEAKING and self.endpoint.transcript and due is not None and due <= now
        if was_said_over_it and self._barge_in.may_interrupt(turn):
            # Said in passing, and its final never came.
            actions.append(self._remark(now))
        if self.state is State.ENDPOINTING or self.endpoint.transcript or self.keypad.at is not None:
            self.state = State.ENDPOINTING
            return actions
        return actions + self._rest(now, after_error=turn.error is not None)

    def _rest(self, now: float, *, after_error: bool = False) -> list[Action]:
        """Nobody has the floor: what the application asked for is next, else the caller is awaited."""
        request = self.requests.take()
        if request is not None:
            return self._speak_first(Cause.REQUEST, now, request.text, request.request)
        self.state = State.LISTENING
        # No no-response timer after an error: it would prompt the same failing LLM again (the guide, "Error Recovery").
        self._deadlines.listening(now, prompts=not after_error)
        return []

    def _end_turn(self, turn: Turn, *, interrupted: bool) -> list[Action]:
        self.turn = None
        if turn.error is None:
            self._patience.succeeded()
        return [turn.ended(interrupted=interrupted)]

    # The end of the call ---------------------------------------------------------------------------------

    def _hang_up(self, reason: str, now: float) -> list[Action]:
        """Once what is being said was heard. The caller cannot interrupt a goodbye."""
        if self.state is State.ENDING:
            return []  # once is enough: asked again and again, it would never come
        self._patience.reason = reason
        if self.turn is None or self.turn.is_cut:
            return self._end()
        is_held = not self.state.is_agents
        if is_held:
            self._deadlines.resumed(now)
        self.keypad.clear()
        self.requests.clear()
        self.state = State.ENDING
        self._deadlines.goodbye(now)
        return [Resume(self.turn.reply)] if is_held else []

    def _end(self) -> list[Action]:
        return [*self._close(), EndCall(self._patience.reason)]

    def _close(self) -> list[Action]:
        self.state = State.ENDED
        self._deadlines.at = None
        self.keypad.clear()
        self.requests.clear()
        missed = self._preflight.miss()
        return missed if self.turn is None else missed + self._end_turn(self.turn, interrupted=True)
