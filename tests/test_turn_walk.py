"""The invariants of :mod:`tests.turn_invariants` hold on 100,000 random events, and hypothesis finds no way around."""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.turn_invariants import OF_THE_VOICE, REPLY_EVENTS, Walk, Witness, settings_of
from turn.events import (
    AudioArrived,
    CallEnded,
    CallStarted,
    Event,
    HangupRequested,
    ReplyEvent,
    ReplyGenerated,
    TranscriptChanged,
    TranscriptFinished,
)

EVENTS = 100_000


def test_no_order_of_events_breaks_an_invariant() -> None:
    done = seed = 0
    while done < EVENTS:
        walk = Walk(seed)
        try:
            done += walk.run()
        except Exception as exc:
            last = "\n".join(walk.witness.trace[-12:])
            pytest.fail(f"{exc!r}\n{last}\nReplay it with: python -m tests.turn_invariants {seed}")
        seed += 1


class Conversation(RuleBasedStateMachine):
    """Events in any order, the words with them: hypothesis shrinks what breaks an invariant."""

    witness: Witness
    now = 100.0

    @initialize(seed=st.integers(0, 200), greeted=st.booleans())
    def begin(self, seed: int, greeted: bool) -> None:
        # Any text at any time: whether it is new can be anyone's guess.
        self.witness = Witness(settings_of(random.Random(seed)), checks_words=False)
        if greeted:
            self._happens(CallStarted())

    def _happens(self, event: Event) -> None:
        self.witness.handle(event, self.now)

    @rule(event=st.sampled_from(OF_THE_VOICE))
    def voice(self, event: Event) -> None:
        self._happens(event)

    @rule(text=st.sampled_from(["", "a", "a b", "b c", "A, b. C"]), final=st.booleans())
    def words(self, text: str, final: bool) -> None:
        self._happens(TranscriptFinished(text) if final else TranscriptChanged(text))

    @rule(kind=st.sampled_from(REPLY_EVENTS), offset=st.sampled_from([0, 0, 0, -1, 1]), audible=st.booleans())
    def reply(self, kind: type[ReplyEvent], offset: int, audible: bool) -> None:
        reply = self.witness.replies + offset
        if kind is AudioArrived:
            self._happens(AudioArrived(reply, 0.5))
        elif kind is ReplyGenerated:
            self._happens(ReplyGenerated(reply, audible))
        else:
            self._happens(kind(reply))  # type: ignore[call-arg]

    @rule(event=st.sampled_from([CallEnded(), HangupRequested("bye"), CallStarted()]))
    def call(self, event: Event) -> None:
        self._happens(event)

    @rule(seconds=st.sampled_from([0.02, 0.3, 1.0, 4.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.witness.tick(self.now)

    @precondition(lambda self: self.witness.machine.timer_at() is not None)
    @rule()
    def timer(self) -> None:
        self.now = max(self.now, self.witness.machine.timer_at() or 0.0)
        self.witness.tick(self.now)

    def teardown(self) -> None:
        if hasattr(self, "witness"):
            self.witness.all_calls_come_to_rest(self.now)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
