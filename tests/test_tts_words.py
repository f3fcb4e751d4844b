"""Words of a vendor, found in the text that it was given."""

from providers.base import Word
from providers.tts.words import Words, split


def said(text: str, *words: str) -> list[str]:
    """How far the text was said after each word that told something new."""
    place = Words()
    place.given(text)
    return [text[: word.end] for word in place.place((word, float(at)) for at, word in enumerate(words))]


def test_a_word_ends_behind_its_punctuation() -> None:
    words = Words()
    words.given("Well, hello there!")
    assert words.place([("well", 0.0), ("Hello", 0.3), ("there", 0.7)]) == [
        Word(5, 0.0),
        Word(11, 0.3),
        Word(18, 0.7),
    ]


def test_a_repeated_word_is_found_once_each_time() -> None:
    assert said("no no, no", "no", "no", "no") == ["no", "no no,", "no no, no"]


def test_a_number_spelled_out_stands_for_the_next_word() -> None:
    assert said("It costs $25 today.", "It", "costs", "twenty", "five", "dollars", "today") == [
        "It",
        "It costs",
        "It costs $25",
        "It costs $25 today.",
    ]


def test_a_word_that_was_never_written_does_not_run_ahead() -> None:
    assert said("I think so.", "I", "um", "think", "so") == ["I", "I think", "I think so."]


def test_a_word_is_not_looked_for_far_ahead() -> None:
    text = "5 people came and went, then five more"
    assert said(text, "five", "people", "came")[-1] == "5 people came"


def test_words_that_the_vendor_left_out_are_said_with_the_next() -> None:
    assert said("so we, you know, waited", "so", "waited") == ["so", "so we, you know, waited"]


def test_parts_of_a_word_are_one_word() -> None:
    assert said("don't wait", "don", "'t", "wait") == ["don't", "don't wait"]
    assert said("twenty-five men", "twenty", "five", "men") == ["twenty-five", "twenty-five men"]


def test_a_false_beginning_is_recovered_from() -> None:
    assert said("apples are red", "a", "apples", "are") == ["apples", "apples are"]


def test_accents_and_case_do_not_matter() -> None:
    assert said("Un CAFÉ à Zürich", "un", "cafe", "à", "ZU\u0308RICH") == [
        "Un",
        "Un CAFÉ",
        "Un CAFÉ à",
        "Un CAFÉ à Zürich",
    ]


def test_scripts_without_spaces_are_told_by_character() -> None:
    assert said("你好。世界", "你", "好", "世界") == ["你", "你好。", "你好。世界"]


def test_text_may_come_while_words_do() -> None:
    words = Words()
    words.given("One, ")
    assert words.place([("One", 0.0)]) == [Word(4, 0.0)]
    words.given("two")
    assert words.place([("two", 0.5)]) == [Word(8, 0.5)]


def test_a_word_cut_by_a_piece_grows() -> None:
    words = Words()
    words.given("Hel")
    assert words.place([("Hel", 0.0)]) == [Word(3, 0.0)]
    words.given("lo you")
    assert words.place([("lo", 0.2), ("you", 0.4)]) == [Word(5, 0.2), Word(9, 0.4)]


def test_neither_ends_nor_times_decrease() -> None:
    words = Words()
    words.given("one two three")
    assert words.place([("one", 1.0), ("two", 0.5), ("one", 2.0), ("three", 1.5)]) == [
        Word(3, 1.0),
        Word(7, 1.0),
        Word(13, 2.0),
    ]


def test_what_is_not_in_the_text_at_all_is_nothing() -> None:
    assert said("", "hello") == []
    assert said("hello", "hello", "goodbye", ",", "") == ["hello"]


def test_characters_become_words() -> None:
    assert split(list(" Hi, y"), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]) == [("Hi,", 0.1), ("y", 0.5)]
    assert split(list("你好 a"), [0.0, 0.1, 0.2, 0.3]) == [("你", 0.0), ("好", 0.1), ("a", 0.3)]


def test_a_word_cut_by_the_vendor_is_told_with_its_beginning() -> None:
    words = Words()
    words.given("Hi, you there")
    assert words.place(split(list("Hi, y"), [0.0, 0.1, 0.2, 0.3, 0.4])) == [Word(3, 0.0), Word(7, 0.4)]
    assert words.place(split(list("ou th"), [0.5, 0.6, 0.7, 0.8, 0.9])) == [Word(13, 0.8)]


def test_fewer_times_than_characters_do_no_harm() -> None:
    assert split(list("Hi you"), [0.0]) == [("H", 0.0)]
