"""What is spoken of a model's text, and which raw text it came from."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turn.cleanup import DIRECTION, Cleaner


def clean(*deltas: str) -> str:
    cleaner = Cleaner()
    return "".join(cleaner.push(delta) for delta in deltas) + cleaner.flush()


def heard(raw: str, said: str) -> str:
    """The raw text behind the clean text up to the end of ``said``."""
    cleaner = Cleaner()
    text = cleaner.push(raw) + cleaner.flush()
    return raw[: cleaner.raw_prefix(text.index(said) + len(said))]


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        ("(smiles)", ""),
        ("(smiles)\n\nHello there.", "Hello there."),
        ("Hello.\n\n(Smiles warmly.)\n\nHow are you?", "Hello.\n\nHow are you?"),
        ("(Waiting for the caller to answer.)", ""),
        ("[Silence]", ""),
        ("（笑）\nこんにちは", "こんにちは"),
        ("*looks up from the desk*\nHello", "Hello"),
        ("**laughs warmly**", ""),
        ("Sure! *smiles* How are you?", "Sure! How are you?"),
        ("*Smiles warmly* Welcome!", "Welcome!"),
        ("*tips hat* Good evening", "Good evening"),
        ("(Laughs) That's funny.", "That's funny."),
        ("Goodbye! [hangs up]", "Goodbye! "),
        ("Hallo! (lächelt) Wie geht es?", "Hallo! Wie geht es?"),
        ("(smiles) (waves) Hi", "Hi"),
        # These are meant to be heard.
        ("*Never* do that.", "Never do that."),
        ("*Yes!* That is right.", "Yes! That is right."),
        ("*Yes!*", "Yes!"),
        ("*Pause* is the second button.", "Pause is the second button."),
        ("**Important:** we close at five.", "Important: we close at five."),
        ("**Ingredients**\n- eggs", "Ingredients\neggs"),
        ("**12:30 PM**", "12:30 PM"),
        ("- *Dune*\n- *arrival*", "Dune\narrival"),
        ("(555) 123-4567 is it", "(555) 123-4567 is it"),
        ("(Optional) Add salt.", "(Optional) Add salt."),
        ("We open at 9. (weekdays only)", "We open at 9. (weekdays only)"),
        ("Call at 5 p.m. (local time) Monday.", "Call at 5 p.m. (local time) Monday."),
        ("It is 5 dollars (incl. tax).", "It is 5 dollars (incl. tax)."),
        ("(" + "so on " * 50 + ")", "(" + "so on " * 50 + ")"),
    ],
)
def test_stage_directions_are_not_spoken_and_remarks_are(raw: str, spoken: str) -> None:
    assert clean(raw) == clean(*raw) == spoken


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        ("<think>hm\n\nok</think>\n\nHello", "Hello"),
        ("Hello <Thinking>x</Thinking> there", "Hello there"),
        ("<reasoning>a <b> c</reasoning>Hi", "Hi"),
        ("</think>\nHello", "Hello"),
        ("<think>never closed. Hello", ""),
        ("So <thi", "So "),
        ("So <this>", "So <this>"),
        ("5 < 6", "5 < 6"),
        ('One <break time="1s"/> two', 'One <break time="1s"/> two'),
    ],
)
def test_thoughts_are_not_spoken(raw: str, spoken: str) -> None:
    assert clean(raw) == clean(*raw) == spoken


@pytest.mark.parametrize(
    ("raw", "spoken"),
    [
        ("_really_ good, __bold__, ***both*** and **part**ial", "really good, bold, both and partial"),
        ("use `ls`, ~~old~~ new", "use ls, old new"),
        ("Look:\n```python\nx = 1\n```\nDone.", "Look:\nDone."),
        ("Look:\n```\nx = 1", "Look:\n"),
        ("# Title\n## More\ntext\n---\n> quote", "Title\nMore\ntext\nquote"),
        ("- two eggs\n* flour\n1. Mix\n2. Bake", "two eggs\nflour\n1. Mix\n2. Bake"),
        ("[our site](https://example.com/a_(b)) is good", "our site is good"),
        ("see [it](https://exa", "see it"),
        ("See https://x.org/pay or http://y.org.", "See x.org/pay or y.org."),
        ("<https://x.org/a> ok", "x.org/a ok"),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |\nDone", "a, b\n1, 2\nDone"),
        ("Tom &amp; Jerry, don&#39;t, a&nbsp;b", "Tom & Jerry, don't, a b"),
        (r"\*not\* 1\. x", "*not* 1. x"),
        ("Great 😀 job 👍🏽!", "Great job !"),
        ("👨‍👩‍👧 Family 🇩🇪", "Family "),
        ("❤️ Hi, 1️⃣ first", "Hi, 1 first"),
        ("**Great 😀** yes", "Great yes"),
    ],
)
def test_markup_is_not_spoken_and_its_words_are(raw: str, spoken: str) -> None:
    assert clean(raw) == clean(*raw) == spoken


@pytest.mark.parametrize(
    "text",
    [
        "3 * 4 is 12, 2**3 is 8, 3*4 too",
        "5 < 6 > 2, a_b, snake_case_name, ~5 minutes",
        'Press *67, or *, or "*", then #. Pick #1.',
        "The card ending ****1234, for $5.00, €3, 20%",
        "It's a well-known – don`t – AT&T and R&D thing; joe_b@x.com",
        "-5 degrees. [1] and [text], a [b",
        "Schon gut, o'clock, naïve, 你好。",
        "the height, with http in a sentence, oh",
        "",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == clean(*text) == text


@pytest.mark.parametrize(
    ("deltas", "given"),
    [
        (["Hello", " there", "."], ["Hello", " there", "."]),
        (["(", "Optional", ") Add"], ["", "", "(Optional) Add"]),
        (["Fine. (", "so we can all agree"], ["Fine. ", "(so we can all agree"]),  # four words are enough
        (["**Bold", " words here now**"], ["", "Bold words here now"]),
        (["a *", "b", "* c"], ["a ", "b", " c"]),
        (["5 <", " 6"], ["5 ", "< 6"]),
        (["<th", "ink>x", "</thi", "nk> y"], ["", "", "", "y"]),
        (["- ", "milk"], ["", "milk"]),
    ],
)
def test_nothing_is_held_back_longer_than_it_takes_to_decide(deltas: list[str], given: list[str]) -> None:
    cleaner = Cleaner()
    assert [cleaner.push(delta) for delta in deltas] == given


def test_the_raw_text_behind_what_was_heard() -> None:
    raw = "<think>hm</think>Hi **Bob**! *smiles* See [us](http://x.org) &amp; more 😀 now. (waves)"
    assert heard(raw, "Hi") == "<think>hm</think>Hi"
    assert heard(raw, "Bo") == "<think>hm</think>Hi **Bo"
    assert heard(raw, "Bob") == "<think>hm</think>Hi **Bob**"
    assert heard(raw, "!") == "<think>hm</think>Hi **Bob**!"
    assert heard(raw, "us") == raw[: raw.index(" &amp;")]
    assert heard(raw, "&") == raw[: raw.index(" more")]
    assert heard(raw, "now.") == raw


def test_nothing_was_heard_of_a_reply_that_has_begun() -> None:
    cleaner = Cleaner()
    assert cleaner.push("(smiles) Hello") == "Hello"
    assert cleaner.raw_prefix(0) == 0


def test_a_reply_with_nothing_left_is_heard_when_it_ends() -> None:
    cleaner = Cleaner()
    assert cleaner.push("<think>no</think>") + cleaner.flush() == ""
    assert cleaner.raw_prefix(0) == len("<think>no</think>")


def test_another_round_begins_anew_and_the_count_goes_on() -> None:
    cleaner = Cleaner()
    said = cleaner.push("Let me see. *typing* <think>never closed") + cleaner.flush()
    assert said == "Let me see. "
    rest = cleaner.push("(smiles)\n- Found **it**") + cleaner.flush()
    assert rest == "Found it"
    assert cleaner.raw_prefix(len("Let me see.")) == len("Let me see. *typing* <think>never closed")
    assert cleaner.raw_prefix(len(said + rest)) == len(
        "Let me see. *typing* <think>never closed(smiles)\n- Found **it**"
    )


PARTS = """a |b| Hello.| there|!|?|\n|\n\n| |*|**|***|_|__|`|```|~~|(|)|[|]|](|http://x.y|https:|<|>|<think>|</think>|
<thinking>|</reasoning>|# |- |1. |> |---|smiles|(laughs)|*sighs* |[pause]|😀|👍🏽|\u200d|1️⃣|&amp;
|&|;|\\|5|3 * 4|it's|h|。|é|\t|\r\n"""
SOUP = st.lists(st.sampled_from([*PARTS.split("|"), "|", "| a | b |\n"]), max_size=25).map("".join) | st.text(
    max_size=60
)


@given(SOUP, st.lists(st.integers(1, 9), max_size=40))
def test_any_splitting_gives_the_same_and_the_mapping_is_monotone(text: str, lengths: list[int]) -> None:
    deltas, at = [], 0
    for length in lengths:
        deltas.append(text[at : at + length])
        at += length
    whole = clean(text)
    assert clean(*deltas, text[at:]) == whole
    assert clean(*text) == whole
    cleaner = Cleaner()
    said = 0
    for char in text:
        before = cleaner.raw_prefix(said)
        said += len(cleaner.push(char))
        assert before <= cleaner.raw_prefix(said) <= len(text)
    said += len(cleaner.flush())
    prefixes = [cleaner.raw_prefix(count) for count in range(said + 2)]
    assert prefixes == sorted(prefixes)
    assert prefixes[said] == len(text)
    assert cleaner.raw_prefix(len(whole.rstrip())) == len(text)


@given(st.text(alphabet="abcxyzh ABC.,!?'", max_size=200))
def test_plain_words_are_left_alone(text: str) -> None:
    assert clean(*text) == text


@given(st.lists(st.sampled_from(["Hi. ", "so < ", "it is", "\n"]), max_size=6), st.randoms(use_true_random=False))
def test_no_fragment_of_a_thought_is_ever_said(words: list[str], random: random.Random) -> None:
    text = ""
    for word in words:
        name = random.choice(["think", "Thinking", "reasoning"])
        text += word + f"<{name}>SECRET < {name}</{name}>" * random.randrange(2)
    text = text[: random.randrange(len(text) + 1)]
    said = clean(*text)
    assert not re.search(r"SECRET|</?(t|r)|think|reason", said, re.IGNORECASE)


def test_so_much_is_held_back_at_most() -> None:
    cleaner = Cleaner()
    text = "*" + "word and " * 60
    assert next(at for at, char in enumerate(text) if cleaner.push(char)) == DIRECTION
