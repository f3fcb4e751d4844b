"""What was sent, what is playing, what was heard: the far side's playout as arithmetic on samples and seconds.

Two ledgers. :class:`Playhead` is the clock of what jambonz plays: it drains our audio in real time, so the time of
each sample follows from when it was sent (jambonz-wire.md section 1: there is no event for "playback started", and
marks only refine this). :class:`Ledger` knows which text lies under which samples of one reply.
"""

from collections import deque
from dataclasses import dataclass, field

WIDE = "\u2e80"  # from here on come the scripts that put no space between words


@dataclass(slots=True)
class Chunk:
    """``samples`` of a reply (and ``padding`` of silence behind) that begin to play at loop time ``at``."""

    reply: int
    samples: int
    padding: int
    at: float


class Playhead:
    """``rate`` in Hz. Seconds are loop time."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.until = 0.0  # when all that was sent will have been played
        self._chunks: deque[Chunk] = deque()
        self._heard: dict[int, int] = {}  # samples of each reply in chunks that are over

    def ahead(self, now: float) -> float:
        """Seconds of audio that wait on the far side."""
        return max(self.until - now, 0.0)

    def sent(self, reply: int, samples: int, padding: int, now: float) -> float:
        """Book a message; returns when its first sample plays."""
        at = max(self.until, now)
        self.until = at + (samples + padding) / self.rate
        self._chunks.append(Chunk(reply, samples, padding, at))
        self._settle(now)
        return at

    def heard(self, reply: int, now: float) -> int:
        """How many samples of a reply have been played."""
        self._settle(now)
        playing = sum(self._played(c, now) for c in self._chunks if c.reply == reply)
        return self._heard.get(reply, 0) + playing

    def cut(self, now: float) -> None:
        """The far side threw away what waited there."""
        self._settle(now)
        for chunk in self._chunks:
            self._count(chunk.reply, self._played(chunk, now))
        self._chunks.clear()
        self.until = now

    def finish(self, reply: int) -> None:
        """The far side says that all of a reply was played, a little before our clock does."""
        for chunk in self._chunks:
            if chunk.reply == reply:
                self._count(reply, chunk.samples)
                chunk.reply = 0

    def forget(self, reply: int) -> None:
        """A reply is over, nobody will ask for it again."""
        self._heard.pop(reply, None)
        for chunk in self._chunks:
            if chunk.reply == reply:
                chunk.reply = 0

    def _settle(self, now: float) -> None:
        while self._chunks and now >= self._chunks[0].at + self._chunks[0].samples / self.rate:
            over = self._chunks.popleft()
            self._count(over.reply, over.samples)

    def _count(self, reply: int, samples: int) -> None:
        if reply:  # 0 is silence and replies that are over
            self._heard[reply] = self._heard.get(reply, 0) + samples

    def _played(self, chunk: Chunk, now: float) -> int:
        return min(max(int((now - chunk.at) * self.rate + 1e-6), 0), chunk.samples)


@dataclass(slots=True)
class Ledger:
    """The text of one reply and where it lies in the reply's audio (samples at ``rate`` Hz).

    A word counts as heard once half of it was played. Where a vendor gives no word times, the text between two
    known places is taken to be spoken evenly, and what was heard ends with the last whole word.
    """

    rate: int
    text: str = ""
    samples: int = 0  # audio received so far
    _words: list[tuple[int, int]] = field(default_factory=list)  # (first sample, characters said after it)
    _spans: list[tuple[int, int]] = field(default_factory=list)  # (samples, characters) known to end together

    def text_given(self, piece: str) -> None:
        self.text += piece

    def audio_came(self, samples: int) -> None:
        self.samples += samples

    def word_came(self, end: int, start: float) -> None:
        self._words.append((round(start * self.rate), min(end, len(self.text))))

    def span_ended(self, end: int) -> None:
        """All audio of the text up to character ``end`` is here."""
        self._spans.append((self.samples, min(end, len(self.text))))

    def heard_text(self, heard: int) -> str:
        """The exact prefix of the text that ``heard`` samples carry."""
        return self.text[: self._heard_characters(heard)].rstrip()

    def _heard_characters(self, heard: int) -> int:
        if heard <= 0:
            return 0
        done_samples, done = 0, 0
        for samples, characters in self._spans:
            if samples > heard:
                break
            done_samples, done = samples, max(done, characters)
        next_samples, next_characters = next(
            ((s, c) for s, c in self._spans if s > heard), (self.samples, len(self.text))
        )
        words = [w for w in self._words if done_samples <= w[0] < next_samples and w[1] > done]
        if not words:
            return self._evenly(heard, (done_samples, done), (next_samples, next_characters))
        ends = [start for start, _ in words[1:]] + [next_samples]
        for (start, characters), end in zip(words, ends, strict=True):
            if heard >= (start + end) / 2:
                done = max(done, min(characters, next_characters))
        return done

    def _evenly(self, heard: int, before: tuple[int, int], after: tuple[int, int]) -> int:
        (samples, characters), (end_samples, end_characters) = before, after
        if end_samples <= samples or heard <= samples:
            return characters
        share = min((heard - samples) / (end_samples - samples), 1.0)
        at = characters + int(share * (end_characters - characters))
        if at >= end_characters:
            return end_characters
        while at > characters and self.text[at] != " " and self.text[at - 1] < WIDE:
            at -= 1
        return at
