"""Who wants the floor, and who only listens."""

from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turn.interruption import DEADLINE, LONG, PHRASE, Evidence, Ruling, Verdict, Words, judge, parse, words_of

LANGUAGES = ["de", "en", "es", "fr", "it", "nl", "pt"]


def said(words: str, language: str = "en-US", duration: float = 0.6, threshold: float = 0.5) -> Verdict:
    """The verdict on the final ``words``."""
    return judge(Evidence(duration, words, is_final=True, language=language), threshold).verdict


def so_far(words: str, language: str = "en-US", duration: float = 0.6, threshold: float = 0.5) -> Verdict:
    return judge(Evidence(duration, words, language=language), threshold).verdict


BACKCHANNELS = {
    "en": [
        "Uh-huh.",
        "Mhm",
        "mm-hmm",
        "Okay.",
        "Right.",
        "Yeahhh",
        "sure",
        "I see.",
        "Oh, I see. Okay.",
        "yeah yeah yeah",
    ],
    "de": ["Mhm.", "Ja.", "ja, ja", "Genau", "Alles klar.", "Ach so, okay", "verstehe", "Stimmt."],
    "es": ["Ajá.", "Sí, sí.", "Vale", "claro", "Entiendo.", "de acuerdo, gracias"],
    "fr": ["Mhm", "Oui oui", "D’accord.", "je vois", "Ah bon ?", "ouais, ok"],
    "it": ["Sì.", "certo", "Va bene, ho capito", "Esatto.", "ah ok"],
    "pt": ["Sim.", "Uhum", "tá bom", "Entendi, claro.", "pois é"],
    "nl": ["Ja, ja.", "Oké", "ik snap het", "Precies.", "klopt, inderdaad"],
}


@pytest.mark.parametrize(("language", "words"), [(tag, words) for tag, all_ in BACKCHANNELS.items() for words in all_])
def test_a_listener_does_not_cut_the_agent_off(language: str, words: str) -> None:
    assert said(words, language) is Verdict.IGNORE
    assert so_far(words, language) is Verdict.WAIT
    assert so_far(words, language, duration=DEADLINE) is Verdict.IGNORE


STOPS = {
    "en": [
        "Stop.",
        "Wait",
        "okay wait",
        "Hold on.",
        "No, no.",
        "excuse me",
        "Sorry",
        "What?",
        "how much",
        "um, can I",
        "Tuesday?",
    ],
    "de": ["Stopp!", "Moment mal", "nein, nein", "Entschuldigung", "Wie bitte?", "ja, aber wann"],
    "es": ["¡Espera!", "Un momento", "no, no", "Perdón", "¿Cuánto?"],
    "fr": ["Attendez", "non non", "Excusez-moi", "Pardon ?", "combien", "oui mais pourquoi"],
    "it": ["Aspetti", "un attimo", "No, no.", "Mi scusi", "quanto"],
    "pt": ["Espera aí", "um momento", "Não, não", "com licença", "Quanto"],
    "nl": ["Wacht even", "nee nee", "Sorry", "momentje", "hoeveel"],
}


@pytest.mark.parametrize(("language", "words"), [(tag, words) for tag, all_ in STOPS.items() for words in all_])
def test_a_stop_word_and_a_question_cut_at_once(language: str, words: str) -> None:
    assert so_far(words, language, duration=0.2) is Verdict.INTERRUPT
    assert so_far(words, language, duration=0.2, threshold=1.0) is Verdict.INTERRUPT


@pytest.mark.parametrize(
    ("words", "partial", "final"),
    [
        ("", Verdict.WAIT, Verdict.IGNORE),
        ("um", Verdict.WAIT, Verdict.IGNORE),
        ("really?", Verdict.WAIT, Verdict.IGNORE),
        ("No.", Verdict.WAIT, Verdict.INTERRUPT),
        ("Tuesday", Verdict.WAIT, Verdict.INTERRUPT),
        ("yes, Tuesday morning", Verdict.WAIT, Verdict.INTERRUPT),
        ("I can't wait", Verdict.INTERRUPT, Verdict.INTERRUPT),
        ("okay but my number is", Verdict.INTERRUPT, Verdict.INTERRUPT),
        ("I see a problem there", Verdict.INTERRUPT, Verdict.INTERRUPT),
        ("no problem", Verdict.WAIT, Verdict.IGNORE),
        ("我想知道价格", Verdict.INTERRUPT, Verdict.INTERRUPT),
    ],
)
def test_words_with_a_content_of_their_own_cut_when_there_are_enough(
    words: str, partial: Verdict, final: Verdict
) -> None:
    assert so_far(words) is partial
    assert said(words) is final


@pytest.mark.parametrize(
    ("evidence", "ruling"),
    [
        (Evidence(0.6), Ruling(Verdict.WAIT, "no words yet", LONG)),
        (Evidence(1.5), Ruling(Verdict.INTERRUPT, "long speech without words")),
        (Evidence(1.5, echo=0.9, loudness_db=-15.0), Ruling(Verdict.IGNORE, "echo of the agent")),
        (Evidence(0.5, "wait for the", echo=0.9), Ruling(Verdict.IGNORE, "echo of the agent")),
        (Evidence(0.5, "wait", echo=0.9, loudness_db=0.0), Ruling(Verdict.INTERRUPT, "asked to stop")),  # over an echo
        (Evidence(0.5, "wait", echo=0.3), Ruling(Verdict.INTERRUPT, "asked to stop")),
        (Evidence(1.5, loudness_db=-20.0), Ruling(Verdict.WAIT, "no words yet", 2 * LONG)),  # a television
        (Evidence(0.9, "stop", loudness_db=-20.0), Ruling(Verdict.WAIT, "few words so far", 2 * LONG)),
        (Evidence(0.9, "one two three four", loudness_db=-20.0), Ruling(Verdict.WAIT, "few words so far", 2 * LONG)),
        (Evidence(1.6, "the red"), Ruling(Verdict.INTERRUPT, "long speech")),
        (Evidence(1.6, "yeah"), Ruling(Verdict.WAIT, "backchannel so far", DEADLINE)),
        (Evidence(0.4, "yeah", is_final=True), Ruling(Verdict.IGNORE, "backchannel")),
        (Evidence(0.4, is_final=True), Ruling(Verdict.IGNORE, "no words")),
        (Evidence(0.4, "the red car"), Ruling(Verdict.INTERRUPT, "3 words")),
    ],
)
def test_a_ruling_says_why_and_when_to_ask_again(evidence: Evidence, ruling: Ruling) -> None:
    assert judge(evidence) == ruling


@pytest.mark.parametrize(
    ("threshold", "partial", "final", "voice"),
    [
        (0.0, Verdict.INTERRUPT, Verdict.INTERRUPT, Verdict.INTERRUPT),
        (0.25, Verdict.INTERRUPT, Verdict.INTERRUPT, Verdict.WAIT),
        (0.5, Verdict.WAIT, Verdict.INTERRUPT, Verdict.WAIT),
        (0.75, Verdict.WAIT, Verdict.INTERRUPT, Verdict.WAIT),
        (1.0, Verdict.WAIT, Verdict.IGNORE, Verdict.WAIT),
    ],
)
def test_a_higher_threshold_asks_for_more(threshold: float, partial: Verdict, final: Verdict, voice: Verdict) -> None:
    assert so_far("Tuesday morning", threshold=threshold) is partial
    assert said("Tuesday morning", threshold=threshold) is final
    assert judge(Evidence(0.9), threshold).verdict is voice


EVIDENCE = st.builds(
    Evidence,
    duration=st.floats(0, 10),
    words=st.lists(st.sampled_from(["yeah", "stop", "no", "uh-huh", "Tuesday", "what", "?"]), max_size=5).map(" ".join),
    is_final=st.booleans(),
    language=st.sampled_from(["en", "de-DE", "xx", ""]),
    loudness_db=st.none() | st.floats(-40, 20),
    echo=st.none() | st.floats(0, 1),
)


@given(EVIDENCE, st.floats(0, 1))
def test_there_is_a_decision_by_the_time_that_was_named(evidence: Evidence, threshold: float) -> None:
    ruling = judge(evidence, threshold)
    assert (ruling.verdict is Verdict.WAIT) == (ruling.again is not None)
    if ruling.again is not None:
        assert evidence.duration < ruling.again <= 5.0
        later = Evidence(ruling.again, evidence.words, False, evidence.language, evidence.loudness_db, evidence.echo)
        assert judge(later, threshold).verdict is not Verdict.WAIT


@given(EVIDENCE.filter(lambda evidence: evidence.echo is None), st.floats(0, 1), st.floats(0, 1))
def test_what_cuts_at_a_threshold_cuts_at_every_lower_one(evidence: Evidence, one: float, other: float) -> None:
    if judge(evidence, max(one, other)).verdict is Verdict.INTERRUPT:
        assert judge(evidence, min(one, other)).verdict is Verdict.INTERRUPT


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_all_lists_and_no_phrase_in_two_of_them(language: str) -> None:
    words = words_of(language)
    lists = [words.backchannels, words.fillers, words.stops, words.questions]
    assert all(len(phrases) >= 8 for phrases in lists)
    assert max(len(phrase.split()) for phrases in lists for phrase in phrases) <= PHRASE
    # Fillers may be anything else, too: the other lists come first.
    assert not words.backchannels & words.stops
    assert not words.backchannels & words.questions
    first, *_ = (resources.files("turn") / "words" / f"{language}.txt").read_text("utf-8").splitlines()
    assert first.startswith("# ")


def test_a_language_is_known_by_its_primary_tag_and_english_stands_in_for_the_others() -> None:
    assert words_of("de-AT") == words_of("DE") == words_of("de_CH") != words_of("en")
    assert words_of("xx") == words_of("multi") == words_of("") == words_of("../en") == words_of("en-GB")


def test_a_list_is_easy_to_write() -> None:
    text = "# remark\n[backchannels] listening\nUh-huh, I  see\nYeahhh\n\n[stops]\nhold on,\n"
    assert parse(text) == Words(backchannels=frozenset({"uh huh", "i see", "yeah"}), stops=frozenset({"hold on"}))
