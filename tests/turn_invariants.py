"""What is true of every call, whatever happens in whatever order; and a walker that tries to make it false.

:class:`Witness` stands between a test and a machine. It hands events and time in, checks each action that comes out
against what it saw before, and knows these invariants, one method each:

- ``one_answer_at_a_time``       never two answers at once, only one playout with them, and never a number twice;
- ``every_turn_ends_once``       each answer's turn gets exactly one EndTurn, turns are numbered without a gap;
- ``one_speculation_at_a_time``  only while the caller has the floor, beside no answer that may yet be heard, and no
                                 more than the budget in one turn;
- ``a_speculation_ends_once``    in a Release, with the words that it was prompted with, or a Discard; none outlives
                                 the words or the turn that it was for, none is left when the caller has lost the floor;
- ``its_fate_is_told``           a turn says ``hit`` of what was released behind its first word, ``pending`` before it,
                                 ``miss`` of what was discarded, and nothing where nothing was tried;
- ``a_gate_is_only_moved``       Hold, Resume and Cut are for the current answer; Resume only behind Hold or Cut; Cut
                                 only of what was heard;
- ``who_may_not_interrupt``      nothing holds or cuts without barge-in, or a greeting that is not interruptible;
- ``the_end_is_the_end``         behind EndCall or CallEnded nothing is done, and no turn is open;
- ``no_word_twice``              of the caller's words none is in two turns or remarks, or twice in one;
- ``no_word_lost``               each word of a final is in a turn, in a remark, or still waits for its turn (documented
                                 exceptions: a final that changes words that were answered already; what is said over a
                                 goodbye; what has no turn yet when the call ends);
- ``no_key_lost``                each key that is pressed is told once, in order, or still waits for its turn (same
                                 exceptions; terminators are told when they stand alone);
- ``keys_hold_the_floor``        while keys are collected the call does not just listen, and no new turn of the caller's
                                 is taken;
- ``requests_wait_for_the_floor`` each request gets one turn, the urgent ones first, the others in order; none waits
                                 while nobody has the floor, an urgent one only while the caller has it, or behind the
                                 answer to another;
- ``every_state_has_a_deadline`` but the two in which only the caller is awaited;
- ``a_timer_does_something``     a tick before its time changes nothing; a due one moves the timer or the state;
- ``all_calls_come_to_rest``     behind the last event, following only the timers, the call listens or has ended within
                                 a minute (vendors failing), and never ticks without end.

``python -m tests.turn_invariants SEED`` replays one walk and prints it.
"""

import random
import re
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, KeepRemark, Release, Resume
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
    KeyPressed,
    PauseJudged,
    PromptChanged,
    ReplyBegan,
    ReplyEvent,
    ReplyFailed,
    ReplyGenerated,
    ReplyHeard,
    ReplyPlayed,
    ReplyRequested,
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
from turn.finals import same_words, words
from turn.machine import Settings, State, TurnMachine
from turn.requests import LIMIT

REST = 60.0  # seconds of silence in which every call comes to rest
TICKS = 50  # more of them in a row would be a busy loop
KEYS = re.compile(r"The caller pressed ([0-9*#A-D]+)\.")
FLOOR = (State.HEARING, State.ENDPOINTING, State.INTERRUPTED)  # the caller has it


@dataclass(slots=True)
class Speculation:
    """The one that is running."""

    reply: int
    transcript: str
    has_words: bool = False


class Witness:
    """``checks_words``: every word that is said is said once, as a recogniser without faults would have it."""

    def __init__(self, settings: Settings, *, checks_words: bool = True) -> None:
        self.machine = TurnMachine(settings)
        self.settings = settings
        self.steps: list[tuple[float, object, list[Action], State]] = []
        self.reply: int | None = None  # the answer: prompted or released, and neither discarded nor ended
        self.turn: int | None = None
        self.cause = Cause.CALLER  # of the answer
        self.replies = 0
        self.turns = 0
        self.speculation: Speculation | None = None
        self.tried = 0  # speculations of the caller's turn in the making
        self.fate: str | None = None  # of those of the open turn
        self.is_held = False
        self.is_heard = False
        self.is_cut = False
        self.is_over = False
        self.audio = 0.0  # seconds of the current answer's
        self.words: dict[str, str] = {}  # where each word of the caller went
        self.keys = ""  # that were pressed …
        self.told_keys = ""  # … and those of them that are in a turn that is over, or in a remark
        self.requests: list[ReplyRequested] = []  # that wait
        self.request = 0  # of the open turn
        self.is_urgent = False  # is that one?
        self._checks_words = checks_words

    def trace(self, last: int = 0) -> str:
        """What happened, a line each: all of it, or the ``last`` few."""
        return "\n".join(
            f"{at:9.3f} {event} → {actions} {state.name}" for at, event, actions, state in self.steps[-last:]
        )

    # Hands -----------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Action]:
        was_over = self.is_over
        match event:
            case ReplyHeard(reply) if reply == self.reply:
                self.is_heard = True
            case AudioArrived(reply, seconds) if reply == self.reply:
                self.audio += seconds
            case ReplyBegan(reply) if self.speculation is not None and reply == self.speculation.reply:
                self.speculation.has_words = True
            case ReplyRequested():
                self._asked(event)
            case KeyPressed(key):
                self._pressed(key)
        is_excused = self.machine.state in (State.ENDING, State.ENDED)  # said over a goodbye
        actions = self.machine.handle(event, now)
        self.steps.append((now, event, actions, self.machine.state))
        self._performed(actions)
        self.is_over = self.is_over or isinstance(event, CallEnded)
        self.the_end_is_the_end(was_over, actions)
        if isinstance(event, TranscriptFinished | EndOfTurn) and self._checks_words and not is_excused:
            self.no_word_lost(event.text if isinstance(event, TranscriptFinished) else event.transcript)
        self._stands()
        return actions

    def tick(self, now: float) -> list[Action]:
        before = self._snapshot()
        due = self.machine.timer_at()
        actions = self.machine.tick(now)
        self.steps.append((now, "tick", actions, self.machine.state))
        self.a_timer_does_something(due, now, before, actions)
        self._performed(actions)
        self._stands()
        return actions

    def _stands(self) -> None:
        self.every_state_has_a_deadline()
        self.a_speculation_ends_once()
        if self.machine.state not in (State.ENDING, State.ENDED):
            self.no_key_lost()
            self.keys_hold_the_floor()
            self.requests_wait_for_the_floor()

    # Invariants ------------------------------------------------------------------------------------------

    def one_answer_at_a_time(self, action: Generate | Release) -> None:
        assert self.reply is None, f"expected reply {self.reply} to be over, got {action}"
        if isinstance(action, Generate):
            assert action.reply == self.replies + 1, action

    def every_turn_ends_once(self, action: Generate | Release | EndTurn) -> None:
        if isinstance(action, EndTurn):
            assert (action.turn, action.reply) == (self.turn, self.reply), f"not the open turn: {action}"
        else:
            assert action.turn == (self.turn or self.turns + 1), f"expected {self.turn or self.turns + 1}: {action}"

    def one_speculation_at_a_time(self, action: Generate) -> None:
        assert self.speculation is None, f"{self.speculation} is running: {action}"
        assert self.reply is None or self.is_cut, f"beside reply {self.reply}: {action}"
        assert (action.reply, action.turn, action.cause) == (self.replies + 1, self.turns + 1, Cause.CALLER), action
        assert action.transcript and self.tried < self.settings.speculations, action
        assert self.machine.state in FLOOR, self.machine.state

    def a_speculation_ends_once(self, ended: Release | None = None) -> None:
        running = self.speculation
        if ended is not None:
            assert running is not None and ended.reply == running.reply, f"not {running}: {ended}"
            assert same_words(ended.transcript, running.transcript), f"not the words of {running}: {ended}"
        elif running is not None:
            assert self.machine.state in FLOOR, f"{running} is left in {self.machine.state}"
            words = self.machine.endpoint.transcript
            assert same_words(words, running.transcript), f"{running} is left for {words!r}"

    def its_fate_is_told(self, action: EndTurn) -> None:
        assert action.preflight == self.fate, f"expected {self.fate}: {action}"

    def a_gate_is_only_moved(self, action: Hold | Resume | Cut) -> None:
        assert action.reply == self.reply, f"not the current reply {self.reply}: {action}"
        match action:
            case Hold():
                assert not self.is_held, "held twice"
            case Resume():
                assert self.is_held, "resumed without a hold"
            case Cut():
                assert self.is_heard, "cut, and nothing was heard of it"

    def who_may_not_interrupt(self, action: Hold | Cut) -> None:
        assert self.settings.barge_in, action
        assert self.settings.greeting_interruptible or self.cause is not Cause.GREETING, action

    def the_end_is_the_end(self, was_over: bool, actions: list[Action]) -> None:
        assert not (was_over and actions), f"after the end: {actions}"
        if self.is_over:
            assert self.turn is None and self.machine.state is State.ENDED
            assert self.machine.timer_at() is None

    def no_word_twice(self, place: str, transcript: str) -> None:
        for word in words(transcript):
            assert word not in self.words, f"{word} is in {self.words[word]} and in {place}"
            self.words[word] = place

    def no_word_lost(self, final: str) -> None:
        turn = self.machine.turn
        waiting = words(f"{self.machine.endpoint.transcript} {turn.transcript if turn else ''}")
        for word in words(final):
            assert word in self.words or word in waiting, f"{word} is lost"

    def no_key_lost(self) -> None:
        machine = self.machine
        waiting = f"{machine.turn.transcript if machine.turn else ''} {machine.endpoint.transcript}"
        told = self.told_keys + self._keys_in(waiting) + machine.keypad.keys
        assert told == self.keys, f"expected the keys {self.keys}, got {told}"

    def keys_hold_the_floor(self, prompted: Generate | Release | None = None) -> None:
        if self.machine.keypad.at is not None:
            assert self.machine.state is not State.LISTENING
            is_callers = isinstance(prompted, Release) or (prompted is not None and prompted.cause is Cause.CALLER)
            assert not is_callers or self.turn is not None, f"keys are being pressed: {prompted}"

    def requests_wait_for_the_floor(self, taken: Generate | None = None) -> None:
        if taken is not None and taken.cause is Cause.REQUEST:
            assert self.requests, f"nobody asked for it: {taken}"
            request = self.requests.pop(0)
            self.is_urgent = request.interrupt
            assert (taken.request, taken.transcript) == (request.request, request.text), f"expected {request}: {taken}"
        elif taken is not None:
            same = self.request if self.turn is not None else 0
            assert taken.request == same, f"expected it of request {same}: {taken}"
        else:
            assert len(self.requests) == len(self.machine.requests), self.requests
            assert not self.requests or self.machine.state is not State.LISTENING, self.requests
            waits = any(it.interrupt for it in self.requests)
            assert self.machine.state in FLOOR or self.is_urgent or not waits, self.requests

    def every_state_has_a_deadline(self) -> None:
        machine = self.machine
        assert machine.timer_at() is not None or machine.state in (State.LISTENING, State.ENDED), machine.state

    def a_timer_does_something(self, due: float | None, now: float, before: object, actions: list[Action]) -> None:
        if due is None or now < due:
            assert (actions, self._snapshot()) == ([], before), "a tick before its time did something"
        else:
            assert self._snapshot() != before, f"a timer at {due} for nothing, in {self.machine.state}"

    def all_calls_come_to_rest(self, now: float) -> None:
        """Only the timers go on; the vendors fail at once from now on, but what was asked before gives no answer."""
        start = now + self.audio
        for _ in range(TICKS):
            due = self.machine.timer_at()
            if due is None or self.machine.state is State.LISTENING:
                return
            now = max(now, due)
            assert now <= start + REST, f"still {self.machine.state.name} after {now - start:.1f} s"
            actions = deque(self.tick(now))
            while actions:
                if isinstance(action := actions.popleft(), Generate):
                    actions += self.handle(ReplyFailed(action.reply), now)
        raise AssertionError(f"{TICKS} ticks without rest")

    # What was seen ---------------------------------------------------------------------------------------

    def _performed(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.is_over, f"after the end: {action}"
            match action:
                case Generate(speculative=True):
                    self.one_speculation_at_a_time(action)
                    self.speculation = Speculation(action.reply, action.transcript)
                    self.tried += 1
                    self.replies = action.reply
                case Generate():
                    self.one_answer_at_a_time(action)
                    self.every_turn_ends_once(action)
                    self.keys_hold_the_floor(action)
                    self.requests_wait_for_the_floor(action)
                    self.request = action.request
                    self.replies = action.reply
                    if self.turn is not None:
                        self.fate = "miss" if self.fate else None  # what was released was discarded like any answer
                    else:
                        self.fate = "miss" if self.tried and action.cause is Cause.CALLER else None
                    self._answered(action.reply, action.turn, action.cause)
                case Release():
                    self.one_answer_at_a_time(action)
                    self.every_turn_ends_once(action)
                    self.a_speculation_ends_once(action)
                    self.keys_hold_the_floor(action)
                    self.request = 0
                    self.fate = "hit" if self.speculation and self.speculation.has_words else "pending"
                    self.speculation = None
                    self._answered(action.reply, action.turn, Cause.CALLER)
                case Discard(reply) if self.speculation is not None and reply == self.speculation.reply:
                    self.speculation = None
                case Discard(reply):
                    assert reply == self.reply and not self.is_heard, action
                    self.reply = None
                case EndTurn():
                    self.every_turn_ends_once(action)
                    self.its_fate_is_told(action)
                    self.reply = self.turn = None
                    self.is_cut = self.is_urgent = False
                    self._place(f"turn {action.turn}", action.transcript)
                case Hold() | Resume() | Cut():
                    self.a_gate_is_only_moved(action)
                    if not isinstance(action, Resume):
                        self.who_may_not_interrupt(action)
                    self.is_held = not isinstance(action, Resume)
                    self.is_cut = isinstance(action, Cut)
                    if isinstance(action, Resume):
                        self.tried = 0  # the caller said nothing after all
                case KeepRemark(transcript):
                    assert transcript
                    self._place("a remark", transcript)
                case EndCall():
                    self.is_over = True
        if self.machine.state is State.LISTENING:
            self.tried = 0  # no turn came of it

    def _answered(self, reply: int, turn: int, cause: Cause) -> None:
        self.reply, self.turn, self.turns, self.cause = reply, turn, turn, cause
        self.is_held = self.is_heard = self.is_cut = False
        self.audio = 0.0
        self.tried = 0

    def _place(self, place: str, transcript: str) -> None:
        self.told_keys += self._keys_in(transcript)
        if self._checks_words:
            self.no_word_twice(place, KEYS.sub("", transcript))

    def _asked(self, event: ReplyRequested) -> None:
        if self.machine.state not in (State.ENDING, State.ENDED) and len(self.requests) < LIMIT:
            urgent = [it for it in self.requests if it.interrupt]
            others = [it for it in self.requests if not it.interrupt]
            self.requests = [*urgent, event, *others] if event.interrupt else [*urgent, *others, event]

    def _pressed(self, key: str) -> None:
        is_taken = self.settings.keys and self.machine.state not in (State.ENDING, State.ENDED)
        if is_taken and key != self.settings.key_terminator:
            self.keys += key

    def _keys_in(self, transcript: str) -> str:
        """Those that a text tells, terminators aside."""
        terminator = self.settings.key_terminator
        return "".join(key for keys in KEYS.findall(transcript) for key in keys if key != terminator)

    def _snapshot(self) -> object:
        machine = self.machine
        turn, keys, requests = machine.turn and machine.turn.number, machine.keypad.keys, len(machine.requests)
        return machine.state, turn, machine.timer_at(), machine.endpoint.transcript, keys, requests


class Recogniser:
    """Words that never repeat, in the order that recognisers keep: partials grow, a final covers what they covered.
    A ``native`` one says itself when a turn is probably over, when it is not after all, and when it is.
    """

    def __init__(self, dice: random.Random, *, native: bool) -> None:
        self._dice = dice
        self._native = native
        self._said = 0
        self._segment: list[str] = []
        self._final = ""
        self._final_at = -1e9

    def next(self, now: float, *, has_spoken: bool) -> CallerEvent:
        what = self._dice.random()
        if what < 0.1 and self._final and not self._segment and not has_spoken and now < self._final_at + 4.0:
            return self._finished(self._final)  # once more, and nothing was said since
        if what < 0.15 and not self._segment:
            return self._finished("")
        if what < 0.2 and self._segment:
            return TranscriptChanged(" ".join(self._segment[: self._dice.randrange(len(self._segment) + 1)]))
        for _ in range(self._dice.randrange(3) if self._segment else 1):
            self._said += 1
            self._segment.append(f"w{self._said}")
        text = " ".join(self._segment)
        if what < 0.6:
            return self._so_far(text)
        self._segment = []
        self._final, self._final_at = text, now
        return self._finished(text.capitalize() + ".")

    def has_finished(self, event: CallerEvent) -> bool:
        """Is it a final with words?"""
        match event:
            case TranscriptFinished(text) | EndOfTurn(text):
                return bool(text)
            case _:
                return False

    def _so_far(self, text: str) -> CallerEvent:
        what = self._dice.random()
        if not self._native or what < 0.5:
            return TranscriptChanged(text)
        return TurnResumed() if what < 0.6 else EagerEndOfTurn(text)

    def _finished(self, text: str) -> CallerEvent:
        if self._native and self._dice.random() < 0.7:
            return EndOfTurn(text, 0.9)
        return TranscriptFinished(text, 0.9 if text else None)


OF_THE_CALL: tuple[Event, ...] = (CallEnded(), HangupRequested("bye"), CallStarted())
OF_THE_VOICE: tuple[Event, ...] = (
    SpeechStarted(0.06),
    SpeechStarted(0.06),
    SpeechStarted(0.06),
    SpeechConfirmed(),
    SpeechConfirmed(),
    SpeechStopped(0.3),
    SpeechStopped(0.3),
    SpeechStopped(0.3),
    PauseJudged(0.3, is_early=True),
    PauseJudged(1.6),
    InterruptionPredicted(),
)
REPLY_EVENTS: tuple[type[ReplyEvent], ...] = (
    ReplyBegan,
    ToolsCalled,
    ToolsReturned,
    SynthesisBegan,
    AudioArrived,
    AudioArrived,
    ReplyHeard,
    ReplyHeard,
    ReplyGenerated,
    ReplyPlayed,
    ReplyFailed,
)
NEXT: dict[type[ReplyEvent] | None, type[ReplyEvent]] = {
    None: ReplyBegan,
    ReplyBegan: SynthesisBegan,
    SynthesisBegan: AudioArrived,
    AudioArrived: ReplyHeard,
    ReplyHeard: ReplyGenerated,
    ReplyGenerated: ReplyPlayed,
}


def settings_of(dice: random.Random) -> Settings:
    return Settings(
        greeting=dice.random() < 0.7,
        greeting_interruptible=dice.random() < 0.7,
        barge_in=dice.random() < 0.8,
        tentative=dice.random() < 0.6,
        early=dice.random() < 0.6,
        early_signal=dice.random() < 0.3,
        sticky=dice.random() < 0.3,
        no_response=dice.choice([0.0, 12.0]),
        no_response_max=dice.choice([None, 0, 1, 2]),
        keys=dice.random() < 0.9,
        key_terminator=dice.choice(["#", "#", ""]),
        key_pause=dice.choice([2.0, 2.0, 0.0, 20.0]),
        keys_most=dice.choice([0, 0, 1, 3]),
    )


class Walk:
    """One random call: plausible steps mostly, and in between events out of order, stale, of the future, twice."""

    def __init__(self, seed: int, events: int = 100) -> None:
        self._dice = random.Random(seed)
        self._events = events
        self.witness = Witness(settings_of(self._dice))
        self._recogniser = Recogniser(self._dice, native=self._dice.random() < 0.4)
        self._now = 100.0
        self._has_spoken = False  # since the last final
        self._last: tuple[int, type[ReplyEvent] | None] = (0, None)
        self._requests = 0

    def run(self) -> int:
        """The number of events. Raises AssertionError where an invariant is broken."""
        witness, dice = self.witness, self._dice
        count = 1
        witness.handle(CallStarted(), self._now)
        for event in self._stream():
            count += 1
            witness.handle(event, self._now)
            if dice.random() < 0.03 and not isinstance(event, TranscriptFinished | EndOfTurn | ReplyRequested):
                witness.handle(event, self._now)  # twice
            if witness.is_over and dice.random() < 0.3:
                break
        witness.all_calls_come_to_rest(self._now)
        return count

    def _pass_time(self) -> None:
        dice, machine = self._dice, self.witness.machine
        due = machine.timer_at()
        patience = 2.0 if dice.random() < 0.9 else 60.0
        if due is not None and due < self._now + patience and dice.random() < 0.3:
            self._now = max(self._now, due)  # nothing happens until the timer
        else:
            self._now += dice.choice([0.0, 0.0, 0.02, 0.1, 0.3, 0.3, 1.0, 2.0])
        if dice.random() < 0.1:
            self.witness.tick(self._now)  # early, or twice
        for _ in range(TICKS):
            due = machine.timer_at()
            if due is None or due > self._now or dice.random() < 0.05:  # a late timer
                return
            self.witness.tick(self._now)
        raise AssertionError(f"{TICKS} ticks at the same time")

    def _stream(self) -> Iterator[Event]:
        dice = self._dice
        for _ in range(self._events):
            self._pass_time()
            what = dice.random()
            if what < 0.004:
                yield dice.choice(OF_THE_CALL)
            elif what < 0.03:
                yield self._of_the_application()
            elif what < 0.06:
                yield KeyPressed(dice.choice("1234567890*#"))
            elif what < 0.3:
                self._has_spoken = True
                yield dice.choice(OF_THE_VOICE)
            elif what < 0.5:
                event = self._recogniser.next(self._now, has_spoken=self._has_spoken)
                if self._recogniser.has_finished(event):
                    self._has_spoken = False
                yield event
            else:
                yield self._of_a_reply()

    def _of_the_application(self) -> Event:
        dice = self._dice
        if dice.random() < 0.2:
            return PromptChanged()
        self._requests += 1
        text = dice.choice(["", f"q{self._requests}", f"q{self._requests} please{self._requests}"])
        return ReplyRequested(self._requests, text, interrupt=dice.random() < 0.4)

    def _of_a_reply(self) -> ReplyEvent:
        dice, witness = self._dice, self.witness
        what = dice.random()
        if what < 0.2 and witness.speculation is not None:
            reply = witness.speculation.reply
            kind = ReplyBegan if what < 0.1 else dice.choice(REPLY_EVENTS)
        elif what < 0.6 and witness.reply is not None:
            reply, last = self._last
            kind = NEXT.get(last if reply == witness.reply else None, ReplyPlayed)
            reply = witness.reply
            self._last = (reply, kind)
        else:
            kind = dice.choice(REPLY_EVENTS)
            reply = max(witness.replies + dice.choice([-1, 0, 0, 0, 1]), 0)
        if kind is AudioArrived:
            return AudioArrived(reply, dice.choice([0.02, 0.5, 2.0]))
        if kind is ReplyGenerated:
            return ReplyGenerated(reply, audible=dice.random() < 0.8)
        return kind(reply)  # type: ignore[call-arg]


def search(events: int, first: int = 0) -> int:
    """Walks from seed ``first`` on until there were so many events; their number. A walk that fails says how to see
    it again.
    """
    done, seed = 0, first
    while done < events:
        walk = Walk(seed)
        try:
            done += walk.run()
        except Exception as exc:
            again = f"Replay it with: python -m tests.turn_invariants {seed}"
            raise AssertionError(f"{exc!r}\n{walk.witness.trace(12)}\n{again}") from exc
        seed += 1
    return done


if __name__ == "__main__":
    walk = Walk(int(sys.argv[1]))
    try:
        walk.run()
    finally:
        print(walk.witness.settings, walk.witness.trace(), sep="\n")
