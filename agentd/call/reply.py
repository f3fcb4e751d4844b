"""One reply on its way: prompt → tokens → pieces → audio → sender. One task, and cancelling it cancels all of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from agentd.call.history import Round
from agentd.call.sender import Sender
from agentd.call.wording import Tell, Wording, nobody
from providers.base import Audio, Llm, Message, Prompt, ProviderError, Spoken, TextDelta, Tool, ToolCall, Tts, Word
from turn.cleanup import Cleaner
from turn.events import AudioArrived, Event, ReplyBegan, ReplyFailed, ReplyGenerated, SynthesisBegan
from turn.playout import Ledger
from turn.sentences import Splitter

log = logging.getLogger("agentd.call.reply")

ROUNDS = 8  # tool rounds a turn, then one forced answer without tools (verb-decisions, "Tools")
NOT_OF_TOOLS = ("llm-timeout", "llm-unauthorized", "llm-quota-exceeded", "llm-rate-limited")  # it would fail without
AHEAD = 0.3  # seconds of sound that are left of the first words when more words of their sentence are handed over …
AGAIN = 0.1  # … and after which that is looked at again
PIECES = 64  # pieces of text that wait for the TTS; when as many wait, the model's stream does too


@dataclass(slots=True)
class Source:
    """Where a reply's words come from. ``fixed`` is spoken word for word, without a model."""

    llm: Llm
    tts: Tts
    tools: Callable[[], Awaitable[tuple[Tool, ...]]] | None = None  # asked once, before the first prompt
    fixed: str = ""
    is_spoken: bool = True  # the verb's `speak`
    is_cleaned: bool = True  # the verb's `speechCleanup`
    speaks_early: bool = False  # `earlyGeneration: {speech: true}`: a speculation's first piece is synthesized at once
    first_words: int = 0  # of which the first piece is made; 0: it is a clause (turn.sentences)
    patience: float = 0.0  # seconds without a token after which half a sentence is spoken; 0: never


@dataclass(slots=True)
class Aside:
    """Words that are not the model's. Nothing of them counts before the voice takes them."""

    text: str
    is_withdrawn: bool = False


@dataclass(slots=True)
class Reply:
    """``messages`` builds the prompt from the rounds and the text so far; ``run_tools`` fills a round's results.

    A speculative reply begins without ``released``: it tells only of its first word and of its failure, runs no tool
    and plays nothing until :meth:`release`.
    """

    number: int
    source: Source
    sender: Sender
    messages: Callable[[list[Round], str], tuple[Message, ...]]
    run_tools: Callable[["Reply", Round], Awaitable[None]]
    tell: Callable[[Event], None]
    tell_words: Tell = nobody  # which words lie where in its audio
    text: str = ""  # all that was generated
    rounds: list[Round] = field(default_factory=list)
    ledger: Ledger = field(init=False)
    error: ProviderError | None = None
    deltas: int = 0  # as the model gave them
    released: asyncio.Event = field(default_factory=asyncio.Event)
    _untold: list[Event] = field(default_factory=list)
    _cleaner: Cleaner | None = None
    _splitter: Splitter = field(init=False)
    _pieces: asyncio.Queue[str | Aside | None] = field(default_factory=lambda: asyncio.Queue(PIECES))
    _aside: Aside | None = None  # the latest
    _given_at: float = 0.0  # when the voice was last given something …
    _voiced: int = 0  # … and how much of the ledger's text it has said
    _has_begun: bool = False  # something that can be spoken has come
    _came_at: float = 0.0  # when the last token came
    _timer: asyncio.TimerHandle | None = None  # for half a sentence
    _handed: int = 0  # pieces of the model's
    _may_guess: bool = True  # that the first token is a word
    _voicing: asyncio.Task[None] | None = None  # what is said by a guess
    _is_taken_back: bool = False  # the guess
    _flow: asyncio.TimerHandle | None = None  # for the rest of the sentence whose first words are out
    _is_handing_over: bool = False  # pieces are on their way to the voice
    _thinking: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.sender.rate)
        self._splitter = Splitter(self.source.first_words)
        if self.source.is_cleaned:
            self._cleaner = Cleaner()

    def release(self) -> None:
        """The speculation is the answer: tell what was kept back, and go on."""
        self.released.set()
        untold, self._untold = self._untold, []
        for event in untold:
            self.tell(event)

    def heard(self) -> tuple[str, str]:
        """What the caller heard: as it was spoken, and the raw text that it came from, thoughts and markup included.

        A reply that is not to be spoken counts as heard as far as it was generated.
        """
        if not self.source.is_spoken:
            return self.ledger.text.strip(), self.text
        spoken = self.ledger.heard_text(self.sender.heard(self.number))
        if self._cleaner is None:
            return spoken, spoken
        return spoken, self.text[: self._cleaner.raw_prefix(len(spoken))]

    def say(self, text: str) -> None:
        """Say this beside the model, while it waits for its tools. It becomes a part of the answer."""
        if not self._pieces.full():  # else there is more than enough to be said
            self._aside = Aside(text)
            self._pieces.put_nowait(self._aside)

    def unsay(self) -> None:
        """The tools have returned: what the voice has not taken yet is not said."""
        if self._aside is not None:
            self._aside.is_withdrawn = True

    def owed_since(self) -> float | None:
        """When the voice was given the last of what it has not said yet; ``None`` when it owes nothing."""
        is_owing = self._voiced < len(self.ledger.text.rstrip()) or not self._pieces.empty()
        return self._given_at if is_owing else None

    def _say(self, event: Event) -> None:
        if self.released.is_set():
            self.tell(event)
            return
        if isinstance(event, ReplyBegan | ReplyFailed):
            self.tell(event)
        if not isinstance(event, ReplyFailed):
            self._untold.append(event)

    async def run(self) -> None:
        """Generate and queue the whole reply, and tell the machine how it went. Playing goes on after this."""
        try:
            async with asyncio.TaskGroup() as group:
                self._thinking = group.create_task(self._think())
                group.create_task(self._speak())
        except* ProviderError as errors:
            self.error = _first(errors)
        except* Exception as errors:
            log.error("reply crashed", extra={"reply": self.number}, exc_info=errors)
            self.error = ProviderError("agentd", "server failure")
        audible = self.ledger.samples > 0
        if self.error is not None:
            log.warning(
                "reply failed",
                extra={"reply": self.number, "vendor": self.error.vendor, "code": self.error.code, "audible": audible},
            )
            self._say(ReplyFailed(self.number, self.error.code))
        else:
            self._say(ReplyGenerated(self.number, audible))
        if audible:
            self.sender.finish(self.number)  # behind the news: all of it may have been played already

    def stop_thinking(self) -> None:
        """The caller interrupted: no more words. What the TTS already has is finished, should it be resumed."""
        if self._thinking is not None:
            self._thinking.cancel()

    # Words -----------------------------------------------------------------------------------------------

    async def _think(self) -> None:
        try:
            if self.source.fixed:
                await self._take(self.source.fixed)
            else:
                await self._converse()
            await self._flush()
        except ProviderError as exc:
            # Words that are whole are still said; half a sentence is not.
            self.error = exc
            if not self.released.is_set():
                self._say(ReplyFailed(self.number, exc.code))  # now: the turn may end at any moment
                raise
        except asyncio.CancelledError:
            self._end_pieces()
            raise
        finally:
            self._wait_for_tokens(False)
            self._stop_flow()
        await self._pieces.put(None)

    def _end_pieces(self) -> None:
        if self._pieces.full():
            self._pieces.get_nowait()
        self._pieces.put_nowait(None)

    async def _converse(self) -> None:
        tools = await self.source.tools() if self.source.tools is not None else ()
        for _ in range(ROUNDS):
            calls = await self._round(tools)
            if not calls:
                return
            await self._flush()
            await self.released.wait()
            once: dict[str, ToolCall] = {}
            for call in calls:  # some servers send a call twice: the first one counts
                once.setdefault(call.id, call)
            round_ = Round(len(self.text), tuple(once.values()))
            self.rounds.append(round_)
            await self.run_tools(self, round_)
            if self.text and not self.text[-1].isspace():
                await self._add(" ")  # between what was said before the tools and the answer
        await self._round(())

    async def _round(self, tools: tuple[Tool, ...]) -> list[ToolCall]:
        """One prompt. An error with tools, and an answer without a word, are each tried once more."""
        said = len(self.text)
        try:
            calls = await self._stream(tools)
        except ProviderError as exc:
            if not tools or len(self.text) > said or exc.code in NOT_OF_TOOLS:
                raise
            log.info("retrying without tools", extra={"reply": self.number, "vendor": exc.vendor, "code": exc.code})
            return await self._stream(())
        if calls or len(self.text) > said:
            return calls
        log.info("empty answer, prompting again", extra={"reply": self.number})
        return await self._stream(tools)

    async def _stream(self, tools: tuple[Tool, ...]) -> list[ToolCall]:
        calls = []
        prompt = Prompt(self.messages(self.rounds, self.text), tools)
        async with aclosing(self.source.llm.reply(prompt)) as events:  # type: ignore[type-var]
            async for event in events:
                match event:
                    case TextDelta(text):
                        await self._take(text)
                    case ToolCall():
                        calls.append(event)
        return calls

    async def _take(self, delta: str) -> None:
        self.deltas += 1
        await self._add(delta)

    async def _add(self, delta: str) -> None:
        self.text += delta
        await self._split(self._cleaner.push(delta) if self._cleaner else delta)

    async def _split(self, clean: str) -> None:
        if not self._has_begun and clean.strip():
            self._has_begun = True
            self._say(ReplyBegan(self.number))
        self._is_handing_over = True
        if self._splitter.was_wrong(clean):
            self._take_back()
        for piece in self._splitter.push(clean):
            self._handed += 1
            if self._handed == 1 and self.source.first_words:
                self._go_on(asyncio.get_running_loop().time() + AGAIN)
            else:
                self._stop_flow()
            await self._pieces.put(piece)
        if self._may_guess and self.source.first_words == 1 and clean:
            self._may_guess = False
            if self._handed == 0 and (word := self._splitter.guess()):
                self._handed = 1
                self._go_on(asyncio.get_running_loop().time() + AGAIN)
                await self._pieces.put(word)
        self._is_handing_over = False
        self._wait_for_tokens(bool(self.source.patience))

    def _take_back(self) -> None:
        """The first token was half a word. As long as no sound of it has come, the voice begins anew with the whole."""
        if self.ledger.samples:
            return
        while not self._pieces.empty():
            self._pieces.get_nowait()
        self._splitter.take_back()
        self._stop_flow()
        self._handed = 0
        if self._voicing is not None:
            self._is_taken_back = True
            self._voicing.cancel()

    def _wait_for_tokens(self, wanted: bool) -> None:
        """Half a sentence is spoken when the model falls silent within it: it may be at work on a tool's arguments, or
        not come back. One timer, not one a token.
        """
        if not wanted:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            return
        self._came_at = asyncio.get_running_loop().time()
        if self._timer is None:
            self._look_again(self._came_at + self.source.patience)

    def _look_again(self, at: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(at, self._half_a_sentence, at)

    def _half_a_sentence(self, at: float) -> None:
        now = max(at, asyncio.get_running_loop().time())  # a timer may fire a clock tick early
        due = self._came_at + self.source.patience
        self._timer = None
        if now < due:
            self._look_again(due)
        elif self._is_handing_over or self._pieces.full():
            self._look_again(now + self.source.patience)
        elif rest := self._splitter.flush():
            self._pieces.put_nowait(rest)

    def _go_on(self, at: float) -> None:
        self._flow = asyncio.get_running_loop().call_at(at, self._keep_talking, at)

    def _stop_flow(self) -> None:
        if self._flow is not None:
            self._flow.cancel()
            self._flow = None

    def _keep_talking(self, at: float) -> None:
        """The first words of a sentence are out before the rest of it has come. A slow model may take longer than they
        are said: then what words there are follow, so that no hole is heard in the sentence.
        """
        now = max(at, asyncio.get_running_loop().time())
        quiet = self.sender.quiet_at() if self.ledger.samples else None
        if quiet is not None and quiet - AHEAD > now:
            self._go_on(quiet - AHEAD)
            return
        is_wanted = quiet is not None and not self._is_handing_over and not self._pieces.full()
        if is_wanted and (words := self._splitter.words()):
            self._pieces.put_nowait(words)
        self._go_on(now + AGAIN)

    async def _flush(self) -> None:
        if self._cleaner:
            await self._split(self._cleaner.flush())
        if rest := self._splitter.flush():
            await self._pieces.put(rest)

    # Sound -----------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        if not self.source.speaks_early:
            await self.released.wait()
        if not self.source.is_spoken:
            async for _ in self._given():
                pass
            return
        if self.source.first_words != 1:
            await self._voice()
            return
        while True:
            self._voicing = asyncio.create_task(self._voice(), name="voice")
            try:
                await self._voicing
                return
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if not self._is_taken_back or (current is not None and current.cancelling()):
                    raise
            self._is_taken_back = False
            self.ledger, self._voiced = Ledger(self.sender.rate), 0

    async def _voice(self) -> None:
        ledger, wording = self.ledger, Wording(self.tell_words)
        async with aclosing(self.source.tts.speak(self._given(), self.sender.rate)) as events:  # type: ignore[type-var]
            async for event in events:
                match event:
                    case Audio(pcm) if pcm:
                        await self.released.wait()
                        ledger.audio_came(len(pcm) // 2)
                        self.sender.play(self.number, pcm)
                        self._say(AudioArrived(self.number, len(pcm) / 2 / self.sender.rate))
                        await self.sender.room()
                    case Word(end, start):
                        ledger.word_came(end, start)
                        wording.word(ledger.text, end, start)
                    case Spoken(end):
                        self._voiced = end
                        ledger.span_ended(end)
                        wording.span(ledger.text, end, ledger.samples / ledger.rate)
                    case _:
                        pass

    async def _given(self) -> AsyncIterator[str]:
        silent = ""  # nothing that a voice could say; it goes with the next piece
        while (item := await self._pieces.get()) is not None:
            piece = silent + (self._taken(item) if isinstance(item, Aside) else item)
            if not any(char.isalnum() for char in piece):
                silent = piece
                continue
            if not self.ledger.text and self.source.is_spoken:
                self._say(SynthesisBegan(self.number))
            silent = ""
            self.ledger.text_given(piece)
            self._given_at = asyncio.get_running_loop().time()
            yield piece
            await self.released.wait()

    def _taken(self, aside: Aside) -> str:
        """The same way as the model's words: raw text, cleaned text, and the news of a first word."""
        if aside.is_withdrawn:
            return ""
        raw = f" {aside.text}" if self.text and not self.text[-1].isspace() else aside.text
        self.text += raw
        clean = self._cleaner.push(raw) + self._cleaner.flush() if self._cleaner else raw
        if not self._has_begun and clean.strip():
            self._has_begun = True
            self._say(ReplyBegan(self.number))
        return clean


def _first(errors: BaseExceptionGroup[ProviderError]) -> ProviderError:
    """Vendors may have task groups of their own."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
