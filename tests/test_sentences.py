"""Token deltas become speakable pieces, and nothing of them is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turn.sentences import FIRST_MAX, MAX, Splitter


def pieces(*deltas: str) -> list[str]:
    """What the deltas give, the rest included."""
    splitter = Splitter()
    said = [piece for delta in deltas for piece in splitter.push(delta)]
    return [*said, rest] if (rest := splitter.flush()) else said


def by_character(text: str) -> list[str]:
    return pieces(*text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One is here. Two is there. Three", ["One is here. ", "Two is there. ", "Three"]),
        ("Is it? It is! Good… fine", ["Is it? ", "It is! ", "Good… ", "fine"]),
        ("Well then, hello there. Bye", ["Well then, ", "hello there. ", "Bye"]),  # the first piece comes early
        ("Well, hello there. And, yes. No", ["Well, hello there. ", "And, yes. ", "No"]),  # but not as one word
        ("Dr. Smith is in. He waits", ["Dr. Smith is in. ", "He waits"]),
        ("Fruit, e.g. pears, is in. Buy", ["Fruit, e.g. pears, ", "is in. ", "Buy"]),
        ("Ask for J. R. Hartley. Now", ["Ask for J. R. Hartley. ", "Now"]),
        ("It is I. Who else", ["It is I. ", "Who else"]),
        ("It costs 3.50 or 4.25 today. Yes", ["It costs 3.50 or 4.25 today. ", "Yes"]),
        ("It costs 5. Fine", ["It costs 5. ", "Fine"]),
        ("1. Wash hands. 2. Dry them. Done", ["1. Wash hands. ", "2. Dry them. ", "Done"]),
        ('She said "Go away." Then left', ['She said "Go away." ', "Then left"]),
        ("He left (at last!). We stayed", ["He left (at last!). ", "We stayed"]),
        ("Wait... what? Yes", ["Wait... ", "what? ", "Yes"]),
        ("See agentd.example.com for more", ["See agentd.example.com for more"]),
        ("Milk\nEggs\n\nBread", ["Milk\n", "Eggs\n\n", "Bread"]),
        ("你好。很高兴见到你！再见", ["你好。", "很高兴见到你！", "再见"]),
        ("... hello there. Bye", ["... hello there. ", "Bye"]),  # dots alone would be silence to a TTS
        ("- Hello there. Bye", ["- Hello there. ", "Bye"]),
        ("", []),
    ],
)
def test_pieces_end_where_a_speaker_would_pause(text: str, expected: list[str]) -> None:
    assert pieces(text) == expected
    assert by_character(text) == expected


def test_a_sentence_waits_for_what_follows_its_full_stop() -> None:
    splitter = Splitter()
    assert splitter.push("It costs 3.") == []
    assert splitter.push("50 today.") == []
    assert splitter.push(" Yes") == ["It costs 3.50 today. "]


def test_the_first_piece_does_not_wait_for_a_long_sentence() -> None:
    splitter = Splitter()
    text = "this sentence has no comma at all and goes on " * 3
    at = next(at for at, char in enumerate(text, start=1) if splitter.push(char))
    assert at == FIRST_MAX + 1


def test_a_long_sentence_is_said_in_parts_that_end_behind_a_clause() -> None:
    text = "Good day. " + "word " * 40 + "now, " + "word " * 40
    assert pieces(text) == ["Good day. ", "word " * 40 + "now, ", "word " * 40]


def test_an_endless_word_is_cut() -> None:
    assert by_character("x" * (MAX + 10)) == ["x" * MAX, "x" * 10]


def test_the_rest_comes_with_the_flush_and_the_next_piece_is_not_a_first_one() -> None:
    splitter = Splitter()
    assert splitter.push("Let me see") == []
    assert splitter.flush() == "Let me see"
    assert splitter.push("It is so, I think. ") == ["It is so, I think. "]
    assert splitter.flush() == ""


TEXT = st.text(alphabet=st.sampled_from("ab .,!?\n\"')3:;。，好é…-"), max_size=400) | st.text(max_size=100)


@given(TEXT, st.lists(st.integers(1, 12), max_size=60))
def test_the_pieces_joined_are_the_deltas_joined(text: str, lengths: list[int]) -> None:
    deltas, at = [], 0
    for length in lengths:
        deltas.append(text[at : at + length])
        at += length
    assert "".join(pieces(*deltas, text[at:])) == text
    assert "".join(by_character(text)) == text


@given(TEXT)
def test_every_piece_but_the_rest_has_something_to_say_and_an_end(text: str) -> None:
    splitter = Splitter()
    for char in text:
        for piece in splitter.push(char):
            assert any(c.isalnum() or c == "_" for c in piece)
            assert len(piece.rstrip()) <= MAX


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Of course, I can. Bye", ["Of ", "course, I can. ", "Bye"]),
        ("I'm sorry. Bye", ["I'm ", "sorry. ", "Bye"]),
        ("Well, hello there. Bye", ["Well, ", "hello there. ", "Bye"]),
        ("Yes. It is so. Bye", ["Yes. ", "It is so. ", "Bye"]),
        (
            "3 pm is fine, I think. Bye",
            ["3 pm is fine, ", "I think. ", "Bye"],
        ),  # how a number is said hangs on what follows
        ("Dr. Smith, is in. Bye", ["Dr. Smith, ", "is in. ", "Bye"]),
        ("J. R. Hartley, yes. Bye", ["J. R. Hartley, ", "yes. ", "Bye"]),
        ("$5 million, I think. Bye", ["$5 million, ", "I think. ", "Bye"]),
    ],
)
def test_for_a_voice_that_joins_pieces_the_first_one_may_be_a_plain_word(text: str, expected: list[str]) -> None:
    splitter = Splitter(first_words=1)
    said = [piece for char in text for piece in splitter.push(char)]
    assert [*said, splitter.flush()] == expected


def test_whole_words_can_be_had_before_their_sentence_is_whole() -> None:
    splitter = Splitter(first_words=1)
    assert splitter.push("Of course I can he") == ["Of "]
    assert splitter.words() == "course I can "
    assert splitter.words() == ""
    assert splitter.push("lp. Bye") == ["help. "]


def test_a_first_token_is_taken_for_a_word_until_what_follows_shows_that_it_was_none() -> None:
    splitter = Splitter(first_words=1)
    assert splitter.push("Of") == []
    assert splitter.guess() == "Of"
    assert not splitter.was_wrong(" course")
    assert splitter.push(" course, yes. So") == [" course, yes. "]

    splitter = Splitter(first_words=1)
    splitter.push("Un")
    assert splitter.guess() == "Un"
    assert splitter.was_wrong("fortunately")
    splitter.take_back()
    assert splitter.push("fortunately not. So") == ["Unfortunately ", "not. "]
    assert splitter.flush() == "So"


@pytest.mark.parametrize("token", ["I", "It", "3", "Dr", "$", "a1", "", " "])
def test_what_is_often_the_beginning_of_a_word_is_no_guess(token: str) -> None:
    splitter = Splitter(first_words=1)
    splitter.push(token)
    assert splitter.guess() == ""
