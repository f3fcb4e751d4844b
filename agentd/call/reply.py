"""One reply on its way: prompt → tokens → pieces → audio → sender. One task, and cancelling it cancels all of it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from agentd.call.history import Round
from agentd.call.sender import Sender
from providers.base import Audio, Llm, Message, Prompt, ProviderError, Spoken, TextDelta, Tool, ToolCall, Tts, Word
from turn.events import AudioArrived, Event, ReplyBegan, ReplyFailed, ReplyGenerated, SynthesisBegan
from turn.playout import Ledger
from turn.sentences import Splitter

log = logging.getLogger("agentd.call.reply")

ROUNDS = 8  # tool rounds a turn, then one forced answer without tools (verb-decisions, "Tools")
PIECES = 64  # pieces of text that wait for the TTS; when as many wait, the model's stream does too


@dataclass(slots=True)
class Source:
    """Where a reply's words come from. ``fixed`` is spoken word for word, without a model."""

    llm: Llm
    tts: Tts
    tools: tuple[Tool, ...] = ()
    fixed: str = ""


@dataclass(slots=True)
class Reply:
    """``messages`` builds the prompt from the rounds and the text so far; ``run_tools`` fills a round's results."""

    number: int
    source: Source
    sender: Sender
    messages: Callable[[list[Round], str], tuple[Message, ...]]
    run_tools: Callable[["Reply", Round], Awaitable[None]]
    tell: Callable[[Event], None]
    text: str = ""  # all that was generated
    rounds: list[Round] = field(default_factory=list)
    ledger: Ledger = field(init=False)
    error: ProviderError | None = None
    _splitter: Splitter = field(default_factory=Splitter)
    _pieces: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(PIECES))
    _thinking: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.sender.rate)

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
            self.tell(ReplyFailed(self.number, self.error.code))
        else:
            self.tell(ReplyGenerated(self.number, audible))
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
        except asyncio.CancelledError:
            self._end_pieces()
            raise
        await self._pieces.put(None)

    def _end_pieces(self) -> None:
        if self._pieces.full():
            self._pieces.get_nowait()
        self._pieces.put_nowait(None)

    async def _converse(self) -> None:
        tools = self.source.tools
        for _ in range(ROUNDS):
            calls = await self._round(tools)
            if not calls:
                return
            await self._flush()
            round_ = Round(len(self.text), tuple(calls))
            self.rounds.append(round_)
            await self.run_tools(self, round_)
        await self._round(())

    async def _round(self, tools: tuple[Tool, ...]) -> list[ToolCall]:
        """One prompt. An error with tools, and an answer without a word, are each tried once more."""
        said = len(self.text)
        try:
            calls = await self._stream(tools)
        except ProviderError as exc:
            if not tools or len(self.text) > said:
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
        if not self.text and delta.strip():
            self.tell(ReplyBegan(self.number))
        self.text += delta
        for piece in self._splitter.push(delta):
            await self._pieces.put(piece)

    async def _flush(self) -> None:
        if rest := self._splitter.flush():
            await self._pieces.put(rest)

    # Sound -----------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        async with aclosing(self.source.tts.speak(self._given(), self.sender.rate)) as events:  # type: ignore[type-var]
            async for event in events:
                match event:
                    case Audio(pcm) if pcm:
                        self.ledger.audio_came(len(pcm) // 2)
                        self.sender.play(self.number, pcm)
                        self.tell(AudioArrived(self.number, len(pcm) / 2 / self.sender.rate))
                        await self.sender.room()
                    case Word(end, start):
                        self.ledger.word_came(end, start)
                    case Spoken(end):
                        self.ledger.span_ended(end)
                    case _:
                        pass

    async def _given(self) -> AsyncIterator[str]:
        while (piece := await self._pieces.get()) is not None:
            if not self.ledger.text:
                self.tell(SynthesisBegan(self.number))
            self.ledger.text_given(piece)
            yield piece


def _first(errors: BaseExceptionGroup[ProviderError]) -> ProviderError:
    """Vendors may have task groups of their own."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
