"""What was sent, what is playing, what was heard."""

from hypothesis import given
from hypothesis import strategies as st

from turn.playout import Ledger, Playhead

# The playhead: samples at 1000 Hz, so that a sample is a millisecond.


def test_audio_plays_from_when_it_was_sent() -> None:
    playhead = Playhead(1000)
    assert playhead.sent(1, 500, 0, now=10.0) == 10.0
    assert [playhead.heard(1, now) for now in (10.0, 10.2, 10.5, 11.0)] == [0, 200, 500, 500]


def test_audio_plays_behind_what_waits() -> None:
    playhead = Playhead(1000)
    playhead.sent(1, 500, 0, now=10.0)
    assert playhead.sent(1, 500, 0, now=10.1) == 10.5
    assert round(playhead.ahead(10.1), 9) == 0.9
    assert [playhead.heard(1, now) for now in (10.5, 10.6, 11.0)] == [500, 600, 1000]


def test_a_gap_is_not_heard() -> None:
    playhead = Playhead(1000)
    playhead.sent(1, 100, 0, now=10.0)
    assert playhead.sent(1, 100, 0, now=12.0) == 12.0
    assert [playhead.heard(1, now) for now in (11.0, 12.05, 13.0)] == [100, 150, 200]


def test_padding_takes_time_and_is_not_heard() -> None:
    playhead = Playhead(1000)
    playhead.sent(1, 100, 60, now=10.0)
    assert playhead.sent(2, 100, 0, now=10.0) == 10.16
    assert (playhead.heard(1, 10.2), playhead.heard(2, 10.2)) == (100, 40)


def test_a_cut_keeps_what_was_heard_and_the_next_audio_plays_at_once() -> None:
    playhead = Playhead(1000)
    playhead.sent(1, 500, 0, now=10.0)
    playhead.sent(1, 500, 0, now=10.0)
    playhead.cut(10.7)
    assert (playhead.heard(1, 10.7), playhead.heard(1, 20.0), playhead.ahead(10.7)) == (700, 700, 0.0)
    assert playhead.sent(1, 300, 0, now=10.8) == 10.8
    assert playhead.heard(1, 11.1) == 1000  # the unheard 300 were sent again


def test_a_finished_reply_was_heard_to_its_end_although_our_clock_is_a_little_behind() -> None:
    playhead = Playhead(1000)
    playhead.sent(1, 500, 0, now=10.0)
    playhead.finish(1)
    assert [playhead.heard(1, now) for now in (10.49, 10.5, 11.0)] == [500, 500, 500]


def test_a_forgotten_reply_counts_no_more() -> None:
    playhead = Playhead(1000)
    playhead.sent(1, 500, 0, now=10.0)
    playhead.forget(1)
    assert playhead.heard(1, 11.0) == 0


@given(
    st.lists(
        st.tuples(st.sampled_from(["send", "send", "cut", "wait"]), st.integers(1, 900), st.floats(0.0, 1.0)),
        max_size=40,
    )
)
def test_heard_grows_with_time_and_never_beyond_what_was_sent(steps: list[tuple[str, int, float]]) -> None:
    playhead = Playhead(8000)
    now, sent, heard = 5.0, 0, 0
    for what, samples, seconds in steps:
        if what == "send":
            assert playhead.sent(1, samples, 10, now) >= now
            sent += samples
        elif what == "cut":
            playhead.cut(now)
            sent = playhead.heard(1, now)  # the rest is gone
        now += seconds
        assert heard <= playhead.heard(1, now) <= sent
        heard = playhead.heard(1, now)
    assert playhead.heard(1, playhead.until + 0.001) == sent


# The ledger: samples at 1000 Hz.


def ledger(text: str, samples: int, *, words: list[tuple[int, float]] = [], spans: int | None = None) -> Ledger:  # noqa: B006
    book = Ledger(1000)
    book.text_given(text)
    book.audio_came(samples)
    for end, start in words:
        book.word_came(end, start)
    if spans is not None:
        book.span_ended(spans)
    return book


def test_without_word_times_the_text_is_spoken_evenly_and_ends_with_a_whole_word() -> None:
    book = ledger("one two three four", 1800, spans=18)
    assert [book.heard_text(ms) for ms in (0, 299, 300, 799, 1300, 1799, 1800)] == [
        "",
        "",
        "one",
        "one two",
        "one two three",
        "one two three",
        "one two three four",
    ]


def test_a_script_without_spaces_ends_with_a_whole_character() -> None:
    book = ledger("很高兴见到你", 600, spans=6)
    assert [book.heard_text(ms) for ms in (99, 250, 600)] == ["", "很高", "很高兴见到你"]


def test_with_word_times_a_word_is_heard_once_half_of_it_was_played() -> None:
    book = ledger("one two three", 1000, words=[(3, 0.0), (7, 0.2), (13, 0.4)], spans=13)
    assert [book.heard_text(ms) for ms in (99, 100, 299, 300, 699, 700, 1000)] == [
        "",
        "one",
        "one",
        "one two",
        "one two",
        "one two three",
        "one two three",
    ]


def test_a_span_that_was_played_is_heard_in_full_and_the_next_evenly() -> None:
    book = ledger("Hello. ", 500, spans=7)
    book.text_given("How are you?")
    book.audio_came(1200)
    book.span_ended(19)
    assert [book.heard_text(ms) for ms in (420, 500, 800, 900, 1700)] == [
        "",
        "Hello.",
        "Hello. How",
        "Hello. How",
        "Hello. How are you?",
    ]


def test_a_word_does_not_reach_beyond_its_span() -> None:
    book = ledger("one two three", 400, words=[(13, 0.0)], spans=7)
    book.audio_came(400)
    assert [book.heard_text(ms) for ms in (300, 400)] == ["one two", "one two"]


def test_text_whose_audio_has_not_come_is_not_heard() -> None:
    book = ledger("Hello. ", 500, spans=7)
    book.text_given("How are you?")
    assert book.heard_text(500) == "Hello."


BOOK = st.lists(
    st.tuples(st.text("ab 好.", min_size=1, max_size=20), st.integers(0, 3000), st.booleans(), st.booleans()),
    min_size=1,
    max_size=8,
)


@given(BOOK)
def test_heard_text_is_a_prefix_that_grows_with_the_samples(parts: list[tuple[str, int, bool, bool]]) -> None:
    book = Ledger(1000)
    for text, samples, has_words, has_span in parts:
        start, began = len(book.text), book.samples
        book.text_given(text)
        book.audio_came(samples)
        if has_words:
            ends = [start + at for at, char in enumerate(text) if char == " "]
            for at, end in enumerate(ends):
                book.word_came(end, (began + samples * at / len(ends)) / 1000)
        if has_span:
            book.span_ended(len(book.text))
    step = max(book.samples // 97, 1)
    heard = [book.heard_text(samples) for samples in range(0, book.samples + step, step)]
    assert all(book.text.startswith(text) for text in heard)
    assert [len(text) for text in heard] == sorted(len(text) for text in heard)
    assert heard[0] == ""


@given(BOOK)
def test_all_that_was_played_was_heard(parts: list[tuple[str, int, bool, bool]]) -> None:
    book = Ledger(1000)
    for text, samples, _, _ in parts:
        book.text_given(text)
        book.audio_came(samples + 1)
        book.span_ended(len(book.text))
    assert book.heard_text(book.samples) == book.text.rstrip()
