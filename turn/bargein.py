"""Barge-in: whose speech pauses a reply, and what says that the caller means it (verb-decisions, "Barge-in").

Strategy `vad`: speech holds at once, its length confirms. Strategy `interruptPrediction`: it holds nothing, the
classifier confirms; but before anything was heard speech holds there too, as there is nothing to listen to in passing.
"""

from dataclasses import dataclass

from turn.actions import Action, Cause, Cut, Hold
from turn.deadlines import Settings
from turn.events import InterruptionPredicted, SpeechConfirmed
from turn.states import State, Turn


@dataclass(frozen=True, slots=True)
class BargeIn:
    settings: Settings

    def may_interrupt(self, turn: Turn) -> bool:
        """Else nothing holds or cuts, and what the caller says meanwhile is the next turn."""
        return self.settings.barge_in and (self.settings.greeting_interruptible or turn.cause is not Cause.GREETING)

    def holds(self, turn: Turn) -> bool:
        """Does speech alone hold the reply?"""
        return self.may_interrupt(turn) and (self.settings.tentative or not turn.is_heard)

    def is_meant(self, event: SpeechConfirmed | InterruptionPredicted, state: State, turn: Turn) -> bool:
        """Is the reply interrupted?"""
        if isinstance(event, InterruptionPredicted):
            return state is State.SPEAKING and not self.settings.tentative and self.may_interrupt(turn)
        # Mostly the reply is held; if that lasted too long, it plays again.
        return state is State.HELD or (state.is_agents and self.holds(turn))


def interrupt(turn: Turn, *, was_held: bool) -> list[Action]:
    """Of what was not heard nothing is interrupted: it is held, and the words that come now join those that it was to
    answer.
    """
    turn.is_cut = turn.is_heard
    if turn.is_cut:
        return [Cut(turn.reply)]
    return [] if was_held else [Hold(turn.reply)]
