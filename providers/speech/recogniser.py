"""The recogniser in its process: pocketsphinx, two decoders for each utterance, the better one has the word.

The *domain* decoder knows only the hints: it is right when the caller says something like them and invents when not.
The *stock* decoder knows 130,000 words and is often a little wrong. Both decode while the caller speaks; whose score
is better by how much then tells which to believe (see :data:`MARGIN`).

::

    AUDIO ──> waiting ──> Utterance(stock, domain) ──> PARTIAL …      one 100 ms step of one caller at a time
    STOP  ──> waiting ──> decide, FINAL, give the decoders back       FINAL "" when nothing was said
    END   ──> waiting ──> END                                         all STOPs have been answered
"""

import itertools
import json
import math
import tempfile
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pocketsphinx import Decoder

from providers.speech import language
from providers.speech.frames import Frame, Kind
from providers.speech.worker import Inbox, Send

RATE = 16000
STEP = RATE * 2 // 10  # bytes decoded at a time, and between two looks at the partial
STOCK_DECODERS = 3  # 96 MB each, and three callers at once are three quarters of a core; the others wait
VOCABULARIES = 8  # hint sets kept ready; the longest unused goes first
WAITING = 30 * RATE * 2  # bytes of one caller that wait for a decoder; what comes after that is dropped
UTTERANCE = 30 * RATE * 2  # bytes decoded of one utterance; the memory of a decoder grows with it
SECOND_LOOK = 5 * RATE * 2  # an utterance up to this long is decoded again by the domain decoder: 3 % of its length

# Natural log of stock's score over domain's, per frame of 10 ms, first pass of both. In-domain speech was below -4e-4
# (worst: a lone "goodbye", +2e-4), other speech above -1e-4, with the voices en-us+f5 and +f2 at 16 kHz.
MARGIN = -2e-4
# Where the cepstral mean starts; a call then keeps what it has learned (stock: 0.52 -> 0.82 of words). This is the
# mean that synthetic callers arrive at; with pocketsphinx's own "40,3,-1" the first words of a call suffer more.
CMN = "42,2,-2,0.5,-4,1,-2.5,0,-0.7,0.4,1.1,-2.5,1.6"
NOISE = 25  # of 32768, rms: digital silence between words puts the mean off (33 -> 38 of 40 sentences exact)


class Vocabulary:
    """The words and sentences of one set of hints, as a language model for domain decoders."""

    def __init__(self, said: tuple[str, ...], stock: Decoder) -> None:
        self._arpa = language.arpa(said)
        self._dictionary = "".join(
            f"{entry} {phones}\n"
            for word in sorted({word for sentence in said for word in sentence.split()})
            for entry, phones in pronunciations(stock, word)
        )
        self._idle = [self._load()]

    def borrow(self) -> Decoder:
        return self._idle.pop() if self._idle else self._load()

    def give_back(self, decoder: Decoder) -> None:
        self._idle.append(decoder)

    def _load(self) -> Decoder:
        with tempfile.TemporaryDirectory(prefix="agentd-stt-") as folder:
            model, dictionary = Path(folder, "hints.lm"), Path(folder, "hints.dict")
            model.write_text(self._arpa, encoding="utf-8")
            dictionary.write_text(self._dictionary, encoding="utf-8")
            # No second pass: over 0.97 of the words with either, and end_utt takes 1 ms instead of 30.
            return Decoder(
                lm=str(model), dict=str(dictionary), lw=10.0, fwdflat=False, bestpath=False, loglevel="FATAL"
            )


def pronunciations(stock: Decoder, word: str) -> list[tuple[str, str]]:
    names = itertools.chain([word], (f"{word}({number})" for number in itertools.count(2)))
    found = ((name, stock.lookup_word(name)) for name in names)
    return list(itertools.takewhile(lambda entry: entry[1] is not None, found))


def score(decoder: Decoder) -> float:
    """Natural log, per frame. pocketsphinx gives it exponentiated; minus infinity when it has no words."""
    hypothesis, frames = decoder.hyp(), int(decoder.n_frames())
    if hypothesis is None or hypothesis.score <= 0 or frames <= 0:
        return -math.inf
    return math.log(float(hypothesis.score)) / frames


def words(decoder: Decoder) -> str:
    hypothesis = decoder.hyp()
    return language.clean(hypothesis.hypstr) if hypothesis else ""


class Utterance:
    """One stretch of speech and the decoders that it has borrowed."""

    def __init__(self, stock: Decoder, domain: Decoder | None, means: dict[str, str]) -> None:
        self.stock = stock
        self.domain = domain
        self._means = means
        self._audio = bytearray()
        self._noise = np.random.default_rng(0)  # the same for every utterance: the same sound gives the same words
        self._running = {"stock": stock} | ({"domain": domain} if domain else {})
        for name, decoder in self._running.items():
            decoder.set_cmn(means.get(name, CMN))
            decoder.start_utt()

    def decode(self, pcm: bytes) -> None:
        if len(self._audio) >= UTTERANCE:
            return
        samples = np.frombuffer(pcm, "<i2")
        noisy = samples + self._noise.normal(0, NOISE, len(samples))
        pcm = noisy.clip(-32768, 32767).astype("<i2").tobytes()
        self._audio += pcm
        for decoder in self._running.values():
            decoder.process_raw(pcm)

    def partial(self) -> str:
        return words(self._believed())

    def finish(self) -> str:
        """The words. First the quick decision, then the work that only the believed decoder has to do."""
        decoder = self._believed()
        self._end(decoder)
        if decoder is not self.stock and len(self._audio) <= SECOND_LOOK:
            # With the mean of the whole utterance: worth most on the first words of a call (0.90 -> 0.92 of words).
            decoder.start_utt()
            decoder.process_raw(bytes(self._audio), full_utt=True)
            decoder.end_utt()
        return words(decoder)

    def release(self) -> None:
        """Bring both to rest. Stock's second pass takes 60 to 200 ms: only after the final has been sent."""
        for decoder in list(self._running.values()):
            self._end(decoder)

    def _believed(self) -> Decoder:
        if self.domain is None or score(self.stock) - score(self.domain) >= MARGIN:
            return self.stock
        return self.domain

    def _end(self, decoder: Decoder) -> None:
        for name, running in list(self._running.items()):
            if running is decoder:
                decoder.end_utt()
                self._means[name] = decoder.get_cmn(True)
                del self._running[name]


class Doubler:
    """8 to 16 kHz with the mirror image of the band kept at 0.3 between 4 and 8 kHz (spectral folding).

    The acoustic model was trained on 16 kHz and takes an empty upper band for another sound.
    """

    TAPS = 63

    def __init__(self) -> None:
        time = np.arange(self.TAPS) - self.TAPS // 2
        half_band = np.sinc(time / 2) / 2 * np.hamming(self.TAPS)
        straight = time == 0
        self._filter = 2 * (0.7 * half_band / half_band.sum() + 0.3 * straight)
        self._past = np.zeros(self.TAPS - 1)

    def double(self, pcm: bytes) -> bytes:
        narrow = np.frombuffer(pcm, "<i2")
        wide = np.zeros(len(self._past) + 2 * len(narrow))
        wide[: len(self._past)] = self._past
        wide[len(self._past) :: 2] = narrow
        self._past = wide[len(wide) - len(self._past) :]
        return np.convolve(wide, self._filter, "valid").clip(-32768, 32767).astype("<i2").tobytes()


@dataclass(slots=True)
class Caller:
    """One stream: what waits to be decoded, and the utterance that is being decoded."""

    vocabulary: Vocabulary | None
    doubler: Doubler | None
    waiting: deque[bytes | Kind] = field(default_factory=deque)  # audio, STOP and END
    size: int = 0
    utterance: Utterance | None = None
    partial: str = ""
    means: dict[str, str] = field(default_factory=dict)


class Recogniser:
    def __init__(self, send: Send, inbox: Inbox) -> None:
        self._send = send
        self._callers: OrderedDict[int, Caller] = OrderedDict()
        self._idle = [Decoder(loglevel="FATAL")]
        self._dictionary = self._idle[0]
        self._stocks = 1
        self._vocabularies: OrderedDict[tuple[str, ...], Vocabulary] = OrderedDict()

    def handle(self, frame: Frame) -> None:
        if frame.kind is Kind.OPEN:
            wanted = json.loads(frame.payload)
            doubler = Doubler() if wanted["rate"] == RATE // 2 else None
            self._callers[frame.stream] = Caller(self._vocabulary(wanted["hints"]), doubler)
            return
        caller = self._callers.get(frame.stream)
        if caller is None:
            return
        if frame.kind is Kind.AUDIO:
            pcm = caller.doubler.double(frame.payload) if caller.doubler else frame.payload
            if pcm and caller.size + len(pcm) <= WAITING:  # process_raw(b"") raises
                caller.waiting.append(pcm)
                caller.size += len(pcm)
        elif frame.kind in (Kind.STOP, Kind.END):
            caller.waiting.append(frame.kind)
        elif frame.kind is Kind.CLOSE:
            del self._callers[frame.stream]
            self._release(caller)

    def has_work(self) -> bool:
        return self._next() is not None

    def step(self) -> None:
        """One step of the caller whose turn it is, then it goes to the back of the line."""
        stream = self._next()
        if stream is None:
            return
        self._callers.move_to_end(stream)
        caller = self._callers[stream]
        if not isinstance(caller.waiting[0], bytes):
            self._answer(stream, caller)
            return
        if caller.utterance is None:
            domain = caller.vocabulary.borrow() if caller.vocabulary else None
            caller.utterance = Utterance(self._borrow(), domain, caller.means)
        caller.utterance.decode(self._chunk(caller))
        text = caller.utterance.partial()
        if text and text != caller.partial:
            caller.partial = text
            self._send(Frame(Kind.PARTIAL, stream, text.encode()))

    def _next(self) -> int | None:
        is_free = bool(self._idle) or self._stocks < STOCK_DECODERS
        for stream, caller in self._callers.items():
            # A whole step, or what is left of it before a STOP: a partial for each 20 ms would be too many.
            is_due = caller.size >= STEP or any(not isinstance(item, bytes) for item in caller.waiting)
            if is_due and (caller.utterance or is_free or not isinstance(caller.waiting[0], bytes)):
                return stream
        return None

    def _answer(self, stream: int, caller: Caller) -> None:
        if caller.waiting.popleft() is Kind.STOP:
            text = caller.utterance.finish() if caller.utterance else ""
            self._send(Frame(Kind.FINAL, stream, text.encode()))
        else:
            self._send(Frame(Kind.END, stream))
        self._release(caller)

    def _chunk(self, caller: Caller) -> bytes:
        pieces = bytearray()
        while len(pieces) < STEP and caller.waiting and isinstance(piece := caller.waiting[0], bytes):
            caller.waiting.popleft()
            pieces += piece
        if len(pieces) > STEP:
            caller.waiting.appendleft(bytes(pieces[STEP:]))
        caller.size -= min(len(pieces), STEP)
        return bytes(pieces[:STEP])

    def _borrow(self) -> Decoder:
        if self._idle:
            return self._idle.pop()
        self._stocks += 1
        return Decoder(loglevel="FATAL")  # 0.35 s, twice in the life of a process

    def _release(self, caller: Caller) -> None:
        utterance, caller.utterance, caller.partial = caller.utterance, None, ""
        if utterance is None:
            return
        utterance.release()
        self._idle.append(utterance.stock)
        if utterance.domain and caller.vocabulary:
            caller.vocabulary.give_back(utterance.domain)

    def _vocabulary(self, hints: list[str]) -> Vocabulary | None:
        said = language.sentences(hints, lambda word: self._dictionary.lookup_word(word) is not None)
        if not said:
            return None
        if said not in self._vocabularies:
            self._vocabularies[said] = Vocabulary(said, self._dictionary)
            if len(self._vocabularies) > VOCABULARIES:
                self._vocabularies.popitem(last=False)
        self._vocabularies.move_to_end(said)
        return self._vocabularies[said]


def make_engine(send: Send, inbox: Inbox) -> Recogniser:
    return Recogniser(send, inbox)
