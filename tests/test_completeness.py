"""When the words and the voice say that the caller is done, and how long to wait for more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turn.completeness import (
    LONGEST,
    SHORTEST,
    Prosody,
    Words,
    completeness,
    falling,
    parse,
    sureness,
    waiting_time,
    words_of,
)

SHARE = st.floats(0, 1)


def reads(words: str, language: str = "en-US") -> str:
    """How a transcript reads, in words."""
    value = completeness(words, language)
    return "over" if value == 1 else "complete" if value >= 0.75 else "undecided" if value > 0.5 else "open"


@pytest.mark.parametrize(
    "words", ["yes", "Yes.", "no", "No thank you.", "goodbye", "Bye!", "okay", "never mind", "hello"]
)
def test_an_answer_is_a_turn_of_its_own(words: str) -> None:
    assert reads(words) == "over"


@pytest.mark.parametrize(
    "words",
    [
        "I would like to book a table for two",
        "I would like to book a table for two.",
        "what time is it",
        "Can you help me?",
        "how are you",
        "turn it on",
        "I don't think so",
        "my name is Anna",
        "the room is 42",
        "tomorrow at seven thirty",
        "in 2026",
        "it costs two hundred",
        "I want another one",
        "what is twelve times seven",
    ],
)
def test_a_sentence_reads_complete(words: str) -> None:
    assert reads(words) == "complete"


@pytest.mark.parametrize(
    "words",
    [
        "I would like to book a table for",
        "I would like to book a table for a",
        "I am calling about my",
        "I am calling about my.",  # recognisers end whatever they were given with a full stop
        "what is twelve times",
        "can you",
        "because",
        "I can't seem to, um",
        "um",
        "well",
        "my phone number is",
        "yes,",
        "I was thinking...",
        "I was thinking…",
        "I was thin-",
        "john dot",
    ],
)
def test_a_transcript_that_breaks_off_reads_open(words: str) -> None:
    assert reads(words) == "open"


def test_no_words_are_no_turn() -> None:
    assert [completeness(words, "en") for words in ("", "  ", "...", "?")] == [0.0] * 4


def test_a_question_may_end_in_a_preposition() -> None:
    assert reads("what are you looking for") == "complete"
    assert reads("who is it for?") == "complete"
    assert reads("I am looking for") == "open"
    assert reads("where is the?") == "open"


@pytest.mark.parametrize(
    "words",
    [
        "five five",
        "my number is 555 12",
        "five five five, one two",
        "0171-555",
        "my name is J O H",
        "J-O-H-N",
        "oh one two",
    ],
)
def test_digits_and_letters_one_by_one_go_on(words: str) -> None:
    assert reads(words) == "open"


def test_a_phone_number_may_be_complete_with_ten_digits() -> None:
    assert reads("five five five one two three four five six") == "open"
    assert reads("five five five one two three four five six seven") == "undecided"
    assert reads("212-555-0100") == reads("212 555 0100.") == "undecided"


@pytest.mark.parametrize(
    ("language", "full", "cut"),
    [
        ("de-DE", "Ich möchte einen Tisch für zwei Personen", "Ich möchte einen Tisch für"),
        ("de-AT", "Ich weiß nicht", "Mein Name ist"),
        ("de", "Wie geht es Ihnen?", "Rufen Sie mich an und"),
        ("es-MX", "Quiero una mesa para dos personas", "Quiero una mesa para"),
        ("es", "¿Dónde está?", "Mi nombre es"),
        ("fr-FR", "Je voudrais une table pour deux personnes", "Je voudrais une table pour"),
        ("fr", "Comment ça va ?", "Je voudrais l'"),
        ("fr", "C’est combien", "Est-ce que"),
    ],
)
def test_other_languages_have_open_words_too(language: str, full: str, cut: str) -> None:
    assert (reads(full, language), reads(cut, language)) == ("complete", "open")


@pytest.mark.parametrize(("language", "answer"), [("de", "Ja, bitte."), ("es", "Sí."), ("fr", "S’il vous plaît")])
def test_other_languages_have_answers_too(language: str, answer: str) -> None:
    assert completeness(answer.replace(",", ""), language) == 1


def test_a_language_without_a_list_is_read_by_its_punctuation() -> None:
    assert reads("予約したいです。", "ja-JP") == "complete"
    assert reads("予約したいです、", "ja-JP") == "open"
    assert reads("予約したいです", "ja-JP") == "undecided"
    assert words_of("../../etc/passwd") == words_of("") == words_of("xx")


@pytest.mark.parametrize("language", ["en", "de", "es", "fr"])
def test_the_lists_of_a_language_are_ready_to_be_looked_up(language: str) -> None:
    words = words_of(language)
    for phrases in (words.open, words.half, words.closed, words.questions, words.answers, words.digits):
        assert phrases
        assert all(phrase == phrase.casefold().strip() and len(phrase.split()) <= 5 for phrase in phrases)
    assert words.open & words.half == frozenset()
    assert words.closed & (words.open | words.half) == frozenset()


def test_a_list_is_phrases_between_commas_and_lines() -> None:
    words = parse("# a remark\n[open] another\nthe, a\nkind  of\n[digits]\none\n")
    assert words == Words(open=frozenset({"the", "a", "kind of"}), digits=frozenset({"one"}))


@given(st.text(max_size=40), st.sampled_from(["en", "de", "es", "fr", "ja", ""]))
def test_any_transcript_has_a_completeness(words: str, language: str) -> None:
    assert 0 <= completeness(words, language) <= 1


# The voice ------------------------------------------------------------------------------------------------


def voice(*, pitch: tuple[float, float] | None, energy: tuple[float, float] = (-20, -20)) -> Prosody:
    """30 frames of a voice whose pitch and energy go evenly from the first value to the second."""

    def line(ends: tuple[float, float]) -> tuple[float, ...]:
        return tuple(ends[0] + (ends[1] - ends[0]) * frame / 29 for frame in range(30))

    return Prosody(line(energy), line(pitch) if pitch else (None,) * 30)


def test_a_voice_that_sinks_and_fades_is_falling() -> None:
    assert falling(voice(pitch=(200, 130), energy=(-20, -35))) > 0.8
    assert falling(voice(pitch=(200, 200))) < 0.4
    assert falling(voice(pitch=(150, 210), energy=(-30, -20))) == 0


def test_energy_alone_counts_less_than_with_pitch() -> None:
    assert falling(voice(pitch=None, energy=(-20, -40))) == pytest.approx(0.7)
    assert falling(voice(pitch=None, energy=(-40, -20))) == pytest.approx(0.3)


def test_where_there_is_little_to_hear_the_voice_says_nothing() -> None:
    assert falling(Prosody()) == 0.5
    assert falling(Prosody((-20.0,) * 9, (200.0,) * 9)) == 0.5


def test_only_the_last_of_the_speech_counts() -> None:
    end = voice(pitch=(200, 130), energy=(-20, -35))
    assert falling(Prosody((-60.0, *end.energy), (400.0, *end.pitch))) == falling(end)


@given(st.floats(60, 400), st.floats(60, 400), st.floats(60, 400), st.floats(-60, 0), st.floats(-60, 0))
def test_a_lower_end_never_falls_less(begin: float, one: float, other: float, loud: float, soft: float) -> None:
    low, high = sorted((one, other))
    energy = (loud, soft)
    assert (
        falling(voice(pitch=(begin, low), energy=energy)) >= falling(voice(pitch=(begin, high), energy=energy)) - 1e-9
    )
    soft, loud = sorted(energy)
    assert falling(voice(pitch=None, energy=(-30, soft))) >= falling(voice(pitch=None, energy=(-30, loud)))


# Both -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("complete", "falls", "threshold", "seconds"),
    [
        (1.0, 0.5, 0.5, 0.25),  # "yes"
        (0.9, 1.0, 0.5, 0.25),
        (0.9, 0.5, 0.5, 0.385),  # "what time is it."
        (0.8, 0.5, 0.5, 0.52),  # "it is for two"
        (0.8, 0.0, 0.5, 0.745),  # … said with a rising voice
        (0.25, 0.5, 0.5, 1.2625),  # "it is for"
        (0.05, 0.5, 0.5, 1.5325),  # "um"
        (0.05, 0.0, 0.5, 1.6),
        (0.8, 0.5, 0.3, 0.25),  # more aggressive
        (0.8, 0.5, 0.8, 1.06),
    ],
)
def test_the_wait_is_short_when_the_turn_is_surely_over(
    complete: float, falls: float, threshold: float, seconds: float
) -> None:
    assert waiting_time(complete, falls, threshold) == pytest.approx(seconds)


@given(SHARE, SHARE, SHARE, SHARE, SHARE)
def test_more_completeness_and_fall_never_wait_longer_a_higher_threshold_never_shorter(
    complete: float, falls: float, threshold: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    assert waiting_time(high, falls, threshold) <= waiting_time(low, falls, threshold)
    assert waiting_time(complete, high, threshold) <= waiting_time(complete, low, threshold)
    assert waiting_time(complete, falls, low) <= waiting_time(complete, falls, high)
    assert SHORTEST <= waiting_time(complete, falls, threshold) <= LONGEST


def test_a_model_weighs_more_than_the_built_in_hearing() -> None:
    assert sureness(0.2, 1.0) == pytest.approx(0.4)
    assert sureness(0.2, 1.0, voice=0.75) == pytest.approx(0.8)
    assert waiting_time(0.2, 1.0, voice=0.75) < waiting_time(0.2, 1.0)
