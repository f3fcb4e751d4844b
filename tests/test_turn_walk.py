"""The invariants of :mod:`tests.turn_invariants` hold on random events, and hypothesis finds no way around them."""

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.turn_invariants import OF_THE_VOICE, REPLY_EVENTS, Witness, search, settings_of
from turn.events import (
    AudioArrived,
    CallEnded,
    CallStarted,
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    HangupRequested,
    KeyPressed,
    PromptChanged,
    ReplyBegan,
    ReplyEvent,
    ReplyFailed,
    ReplyGenerated,
    ReplyRequested,
    TranscriptChanged,
    TranscriptFinished,
    TurnResumed,
)

EVENTS = 200_000


def test_no_order_of_events_breaks_an_invariant() -> None:
    search(EVENTS)


@pytest.mark.nightly
def test_no_order_of_ten_million_events_does() -> None:
    search(10_000_000, first=1_000_000)


class Conversation(RuleBasedStateMachine):
    """Events in any order, the words with them: hypothesis shrinks what breaks an invariant."""

    witness: Witness
    now = 100.0
    asked = 0

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

    @rule(
        text=st.sampled_from(["", "a", "a b", "b c", "A, b. C"]),
        kind=st.sampled_from([TranscriptChanged, TranscriptFinished, EagerEndOfTurn, EndOfTurn]),
    )
    def words(self, text: str, kind: type[TranscriptChanged | TranscriptFinished | EagerEndOfTurn | EndOfTurn]) -> None:
        self._happens(kind(text))

    @rule()
    def resumed(self) -> None:
        self._happens(TurnResumed())

    @precondition(lambda self: self.witness.speculation is not None)
    @rule(failed=st.booleans())
    def speculation(self, failed: bool) -> None:
        assert self.witness.speculation is not None
        reply = self.witness.speculation.reply
        self._happens(ReplyFailed(reply) if failed else ReplyBegan(reply))

    @rule(kind=st.sampled_from(REPLY_EVENTS), offset=st.sampled_from([0, 0, 0, -1, 1]), audible=st.booleans())
    def reply(self, kind: type[ReplyEvent], offset: int, audible: bool) -> None:
        reply = self.witness.replies + offset
        if kind is AudioArrived:
            self._happens(AudioArrived(reply, 0.5))
        elif kind is ReplyGenerated:
            self._happens(ReplyGenerated(reply, audible))
        else:
            self._happens(kind(reply))  # type: ignore[call-arg]

    @rule(key=st.sampled_from("12#"))
    def key(self, key: str) -> None:
        self._happens(KeyPressed(key))

    @rule(text=st.sampled_from(["", "q"]), interrupt=st.booleans())
    def request(self, text: str, interrupt: bool) -> None:
        self.asked += 1
        self._happens(ReplyRequested(self.asked, text, interrupt))

    @rule(event=st.sampled_from([PromptChanged(), CallEnded(), HangupRequested("bye"), CallStarted()]))
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
