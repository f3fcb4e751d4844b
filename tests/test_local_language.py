"""Hints become a language model."""

from providers.speech.language import arpa, clean, number_words, sentences


def test_numbers_are_spelled_as_they_are_said() -> None:
    assert [number_words(number) for number in (0, 13, 40, 42, 100, 215, 3001)] == [
        *("zero", "thirteen", "forty", "forty two", "one hundred", "two hundred fifteen"),
        "three thousand one",
    ]


def test_hints_are_taken_as_the_caller_says_them() -> None:
    hints = ["What's 12 + 7?", "Stop! Please stop.", "Ask for Xyzzy on 1,000 lines", "…"]
    assert sentences(hints, lambda word: word != "xyzzy") == (
        *("what's twelve plus seven", "stop", "please stop"),
        "ask for on one thousand lines",
    )


def test_in_every_context_the_words_share_all_but_the_back_off() -> None:
    model = arpa(["what is one", "what is two", "what is two", "goodbye"])
    chances = {}
    for line in model.splitlines():
        if line.startswith("-"):
            chance, *gram = line.split()
            chances[tuple(word for word in gram if word[0] not in "-0")] = 10 ** float(chance)
    after = [chance for gram, chance in chances.items() if gram[:-1] == ("what", "is")]
    assert abs(sum(after) - 0.9) < 1e-3
    assert chances[("<s>", "goodbye")] > 0.25 * 0.9  # tempered: more than its share of the sentences


def test_profanity_is_left_out() -> None:
    assert clean("well shit happens in scunthorpe") == "well happens in scunthorpe"
