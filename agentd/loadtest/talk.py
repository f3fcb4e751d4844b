"""One scripted caller: waits for a greeting, speaks, waits for the answer, listens, at times interrupts, at times hangs
up. Plain calls every 20 ms and when something comes; no clock, no socket.

    GREETED ── quiet ──> SPEAKING ── last frame ──> WAITING ── audible ──> LISTENING ── quiet ──> SPEAKING …
                            ^                          │ deadline: missed      │ the time to interrupt
                            └──────────────────────────┴───────────────────────┘
"""

import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentd.loadtest.voice import FRAME, Utterance

GREETING_WAIT = 2.0  # seconds for a greeting to begin; an agent that says nothing waits for us
STOP_DEADLINE = 2.0  # seconds from the confirming frame: who talks on then does not let himself be interrupted


@dataclass(frozen=True, slots=True)
class Plan:
    """How the callers behave. Seconds, and shares of turns from 0 to 1."""

    barge_in: float = 0.0
    hang_up: float = 0.0
    deadline: float = 10.0  # of a reply's first sound
    pause: float = 0.8  # of quiet that ends a reply
    min_speech: float = 0.5  # the agent's bargeIn.minSpeechDuration
    quiet_agent: bool = False  # it does not greet


@dataclass(slots=True)
class Turn:
    """What came of one thing that the caller said. Monotonic seconds; ``None``: it did not happen.

    ``stopped``: the last loud frame was sent. ``answered``: the first audible audio came. ``heard``: it was played.
    A barge-in has ``began`` (its first loud frame), ``confirmed`` (the one that makes it long enough), ``killed``
    (killAudio came) and ``silent`` (the last audible frame of the reply before it was played).
    """

    began: float
    is_barge_in: bool = False
    stopped: float | None = None
    answered: float | None = None
    heard: float | None = None
    is_missed: bool = False
    is_early: bool = False  # the agent spoke while the caller did: there is no gap
    confirmed: float | None = None
    killed: float | None = None
    silent: float | None = None
    is_ignored: bool = False  # the agent talked on
    lost_frames: int = 0  # of the reply: nothing was there to play

    @property
    def is_over(self) -> bool:
        """Did what was to come of it come, or not come for too long?"""
        return self.is_missed or self.answered is not None


class State(enum.Enum):
    GREETED = enum.auto()
    SPEAKING = enum.auto()
    WAITING = enum.auto()
    LISTENING = enum.auto()
    OVER = enum.auto()  # the caller wants to hang up


class Talk:
    """``ended`` gets every turn once its reply, if any, was played."""

    def __init__(
        self,
        voice: Sequence[Utterance],
        plan: Plan,
        chance: random.Random,
        ended: Callable[[Turn], None],
        now: float,
    ) -> None:
        self.state = State.GREETED
        self.turn: Turn | None = None
        self._voice = voice
        self._plan = plan
        self._chance = chance
        self._ended = ended
        self._began = now
        self._frames: tuple[bytes, ...] = ()
        self._at = 0  # of ``_frames``, the next one
        self._confirming = 0  # the frame that makes a barge-in long enough
        self._heard_at: float | None = None  # when the agent was last heard
        self._idle = 0  # ticks without anything to play, since the agent was last heard
        self._interrupt_at: float | None = None
        self._leave_at: float | None = None

    # What comes ------------------------------------------------------------------------------------------

    def audible(self, now: float) -> None:
        """Audio with a sound in it came on the socket."""
        turn = self.turn
        if turn is None or turn.answered is not None:
            return
        if self.state is State.WAITING and (not turn.is_barge_in or turn.killed is not None):
            turn.answered = now
        elif self.state is State.SPEAKING and not turn.is_barge_in:
            turn.is_early = True

    @property
    def is_awaiting(self) -> bool:
        """Is it worth looking whether what comes is audible?"""
        return self.turn is not None and self.turn.answered is None

    def killed(self, now: float) -> None:
        """The word to stop playing came."""
        turn = self.turn
        if turn is not None and turn.is_barge_in and turn.confirmed is not None and turn.killed is None:
            turn.killed = now

    def tick(self, now: float, *, is_idle: bool, is_audible: bool) -> bytes | None:
        """20 ms were played: nothing was there (``is_idle``), or it had a sound. What the caller says now."""
        if is_audible:
            self._played(now)
        elif is_idle:
            self._idle += 1
        match self.state:
            case State.GREETED:
                wait = GREETING_WAIT if not self._plan.quiet_agent else 0.0
                is_quiet = now - self._began >= wait if self._heard_at is None else self._is_quiet(now)
                if is_quiet:
                    return self._speak(now)
            case State.SPEAKING:
                return self._say(now)
            case State.WAITING:
                self._wait(now)
            case State.LISTENING:
                return self._listen(now)
            case State.OVER:
                pass
        return None

    # What is done ----------------------------------------------------------------------------------------

    def _played(self, now: float) -> None:
        turn = self.turn
        if turn is not None:
            is_within = self.state is State.LISTENING and turn.heard is not None
            if is_within and self._idle * FRAME < self._plan.pause:
                turn.lost_frames += self._idle
            if turn.is_barge_in and turn.killed is None:
                turn.silent = now
            if turn.answered is not None and turn.heard is None:
                turn.heard = now
        self._idle = 0
        self._heard_at = now

    def _is_quiet(self, now: float) -> bool:
        return self._heard_at is not None and now - self._heard_at >= self._plan.pause

    def _speak(self, now: float, *, is_barge_in: bool = False) -> bytes:
        if self.turn is not None:
            self._ended(self.turn)
        least = self._plan.min_speech + 2 * FRAME if is_barge_in else 0.0
        choice = [each for each in self._voice if each.seconds >= least] or self._voice
        self._frames = self._chance.choice(choice).frames
        self._at = 0
        self._confirming = max(round(self._plan.min_speech / FRAME) - 1, 0)
        self._interrupt_at = None
        self._leave_at = None
        self.turn = Turn(now, is_barge_in)
        self.state = State.SPEAKING
        return self._say(now)

    def _say(self, now: float) -> bytes:
        turn, frame = self.turn, self._frames[self._at]
        assert turn is not None
        if turn.is_barge_in and self._at == self._confirming:
            turn.confirmed = now
        self._at += 1
        if self._at == len(self._frames):
            turn.stopped = now
            self.state = State.WAITING
            if self._chance.random() < self._plan.hang_up:
                self._leave_at = now + self._chance.uniform(0.1, 2.0)
        return frame

    def _wait(self, now: float) -> None:
        turn = self.turn
        assert turn is not None and turn.stopped is not None
        if turn.answered is not None:
            self.state = State.LISTENING
            if self._chance.random() < self._plan.barge_in:
                self._interrupt_at = now + self._chance.uniform(0.4, 1.2)
        elif turn.is_early and self._is_quiet(now):
            self.state = State.LISTENING
        elif now - turn.stopped > self._plan.deadline:
            turn.is_missed = True
            turn.is_ignored = turn.is_barge_in and turn.killed is None
            self._speak(now)
        elif turn.is_barge_in and turn.killed is None and now - turn.stopped > STOP_DEADLINE:
            turn.is_ignored = True
            turn.is_missed = True
            self.state = State.LISTENING
        self._maybe_leave(now)

    def _listen(self, now: float) -> bytes | None:
        if self._interrupt_at is not None and now >= self._interrupt_at:
            return self._speak(now, is_barge_in=self._heard_at is not None and now - self._heard_at < 2 * FRAME)
        turn = self.turn
        if self._is_quiet(now) and (turn is None or turn.heard is not None or turn.is_missed or turn.is_early):
            return self._speak(now)
        self._maybe_leave(now)
        return None

    def _maybe_leave(self, now: float) -> None:
        if self._leave_at is not None and now >= self._leave_at:
            self.state = State.OVER
            if self.turn is not None and self.turn.is_over:
                self._ended(self.turn)
