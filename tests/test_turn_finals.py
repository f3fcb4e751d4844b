"""Which words of a recogniser are new, and how the parts of a latency add up, for any input."""

from hypothesis import given
from hypothesis import strategies as st

from turn.endpoint import Endpoint
from turn.finals import Taken, same_words, without, words
from turn.latency import TurnClock

WORD = st.text("abC'", min_size=1, max_size=4).filter(lambda word: word.strip("'") != "")
WORDS = st.lists(WORD, max_size=6)


def test_words_are_the_same_whatever_their_case_spacing_and_punctuation() -> None:
    assert same_words("It's five, o'clock.", " it's  FIVE o'clock")
    assert not same_words("its five", "it's five")
    assert words("Größe_9,  ÉTÉ's — 日本") == ["grösse", "9", "été's", "日本"]


def test_what_was_said_is_taken_off_the_beginning_only() -> None:
    assert without("I want a", "I want a pizza, please.") == "pizza, please."
    assert without("I want a", "I want") == ""
    assert without("I want a", "You said I want a") == "You said I want a"
    assert without("", "I want a") == "I want a"
    assert without("one two", "One-two three") == "three"


@given(WORDS, WORDS)
def test_a_text_less_its_beginning_is_its_rest(begin: list[str], rest: list[str]) -> None:
    assert words(without(" ".join(begin), ", ".join([*begin, *rest]))) == words(" ".join(rest))


def test_a_final_covers_all_partials_that_were_taken_since_the_last_one() -> None:
    taken = Taken(window=5.0)
    taken.take([], "one", now=0.0)
    taken.take([], "two", now=2.0)
    assert (taken.correction("one two"), taken.correction("one too")) == ("", "too")
    assert taken.rest("one two three") == "three"


def test_an_owed_final_is_awaited_for_a_while_only() -> None:
    taken = Taken(window=5.0)
    taken.take([], "one", now=0.0)
    assert [taken.is_owed(now) for now in (0.0, 4.9, 5.0)] == [True, True, False]
    taken.speech_started()
    assert not taken.is_owed(1.0)


@given(st.lists(st.sampled_from(["start", "stop", "partial", "final", "void"]), max_size=20))
def test_an_endpoint_has_a_deadline_exactly_while_the_voice_is_quiet(steps: list[str]) -> None:
    endpoint = Endpoint()
    for now, step in enumerate(steps, start=1):
        match step:
            case "start":
                endpoint.speech_started(now)
            case "stop":
                endpoint.speech_stopped(now - 0.3)
            case "partial":
                endpoint.changed("word", now)
            case "final":
                endpoint.finished("word", 0.9, now)
            case "void":
                endpoint.finished("", None, now)
        assert (endpoint.due() is None) == endpoint.is_voiced


INSTANTS = ("stopped", "finished", "taken", "began", "synthesis", "audio", "heard")


@given(st.lists(st.none() | st.floats(0.0, 100.0), min_size=6, max_size=6), st.floats(0.0, 50.0), st.booleans())
def test_the_parts_of_any_latency_add_up_to_its_total(
    instants: list[float | None], tools: float, is_in_order: bool
) -> None:
    if is_in_order:
        known = iter(sorted(instant for instant in instants if instant is not None))
        instants = [None if instant is None else next(known) for instant in instants]
    clock = TurnClock()
    for name, instant in zip(INSTANTS, [*instants, 100.0], strict=True):
        if instant is not None:
            clock.mark(name, instant)
    if clock.taken is not None and clock.began is not None:
        began, clock.began = clock.began, None
        clock.tools_called(clock.taken)
        clock.tools_returned(clock.taken + tools)
        clock.began = began
    latency = clock.latency()
    parts = [latency.stt, latency.eot, latency.llm, latency.tool, latency.text, latency.tts, latency.playout]
    if latency.total is None:
        assert clock.stopped is None and clock.taken is None
    else:
        assert abs(sum(part or 0.0 for part in parts) - latency.total) < 0.001
        assert all(part is None or part >= 0.0 for part in parts)
