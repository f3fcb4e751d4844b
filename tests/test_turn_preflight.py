"""Early generation: what may be speculated, and when it is not worth it."""

from turn.actions import Discard
from turn.events import ReplyFailed
from turn.preflight import Preflight


def test_the_same_words_are_released() -> None:
    preflight = Preflight()
    assert preflight.may_begin("Book a table")
    preflight.begin(7, "Book a table")
    assert preflight.settle("book a table.") == 7
    assert preflight.reply is None


def test_other_words_are_not() -> None:
    preflight = Preflight()
    preflight.begin(7, "book a table")
    assert preflight.settle("book a table for two") is None
    assert preflight.miss() == [Discard(7)]
    assert preflight.miss() == []


def test_one_speculation_is_enough_for_the_same_words() -> None:
    preflight = Preflight()
    preflight.begin(7, "book a table")
    assert not preflight.may_begin("Book a table!")
    assert preflight.may_begin("book a table for two")


def test_nothing_was_said_nothing_is_prompted() -> None:
    assert not Preflight().may_begin("")


def test_a_turn_has_a_budget_of_three() -> None:
    preflight = Preflight()
    for reply, words in enumerate(("one", "one two", "one two three"), 1):
        assert preflight.may_begin(words)
        preflight.begin(reply, words)
        preflight.miss()
    assert not preflight.may_begin("one two three four")
    preflight.turn_ended(is_released=False)
    assert preflight.may_begin("one")


def missed_turn(preflight: Preflight) -> bool:
    """A turn whose speculation, if it makes one, is a miss; whether it made one."""
    begun = preflight.may_begin("a")
    if begun:
        preflight.begin(1, "a")
        preflight.miss()
    preflight.turn_ended(is_released=False)
    return begun


def test_a_low_hit_rate_rests_for_longer_and_longer() -> None:
    preflight = Preflight()
    turns = [missed_turn(preflight) for _ in range(4 + 2 + 4 + 4 + 4)]
    assert turns == [True] * 4 + [False] * 2 + [True] * 4 + [False] * 4 + [True] * 4


def test_hits_keep_it_going() -> None:
    preflight = Preflight()
    for turn in range(40):
        assert preflight.may_begin("a")
        preflight.begin(turn, "a")
        assert preflight.settle("a") == turn
        preflight.turn_ended(is_released=True)


def test_a_failed_one_counts_neither_way() -> None:
    preflight = Preflight()
    for turn in range(40):
        assert preflight.may_begin("a")
        preflight.begin(turn, "a")
        assert preflight.told(ReplyFailed(turn)) == [Discard(turn)]
        preflight.turn_ended(is_released=False)
