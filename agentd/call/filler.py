"""What the caller hears while a round of tools runs long (the verb's `toolFiller`), so that no silence is taken for the
end of the call:

    tools ──── startDelaySecs ──── phrase ──── escalationSecs ──── one sentence of the model's     (backchannel)
    tools ──── startDelaySecs ──── a sound, round and round, until the tools return                (audio)

Neither begins while something is still to be heard. A phrase is a part of the answer and is finished; a sound is none.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from agentd.call import phrases
from agentd.call.quiet import quiet
from agentd.call.reply import Reply
from agentd.call.sender import Sender
from agentd.call.sound import BadSound, Loop, decode
from config.conversation import ToolFiller
from providers.base import Llm, Message, Prompt, ProviderError, TextDelta

log = logging.getLogger("agentd.call.filler")

FIRST_TOKEN = 3.0  # the caller has waited long enough when a sentence is asked for …
SENTENCE = 3.0  # … and it is short
STYLE = 10.0  # seconds for phrases of a style: nobody waits for them
LIMIT = 500  # characters of an answer that are read
FETCH = 15.0  # seconds for a sound, decoding included

Fetch = Callable[[str], Awaitable[bytes]]
"""Loads a file. Raises when it cannot be had."""

Ask = Callable[[str], tuple[Message, ...]]
"""The prompt for words beside the answer: the conversation so far, with a cue behind it."""


class Filler:
    """One call's. ``language`` is the one that the agent speaks now."""

    def __init__(
        self,
        config: ToolFiller,
        llm: Llm,
        sender: Sender,
        *,
        language: Callable[[], str],
        spawn: Callable[[Any, str], "asyncio.Task[None]"],
        fetch: Fetch | None = None,
    ) -> None:
        self._config = config
        self._llm = llm
        self._sender = sender
        self._language = language
        self._spawn = spawn
        self._fetch = fetch
        self._loop = asyncio.get_running_loop()
        self._turns = phrases.Turns()
        self._styled: tuple[str, ...] = ()
        self._is_styled = not config.style or bool(config.phrases)  # or is being
        self._loading: asyncio.Task[None] | None = None
        self._sound = b""

    def begin(self) -> None:
        """The call begins: the sound is loaded beside it."""
        if self._config.type == "audio" and self._loading is None:
            self._loading = self._spawn(self._load(), "tool-filler-sound")

    @contextlib.contextmanager
    def beside(self, reply: Reply, tools: Sequence[str], ask: Ask) -> Iterator[None]:
        """While these tools run. Nothing new is heard from the instant that it is left."""
        task = self._spawn(self._fill(reply, tools, ask, self._loop.time()), "tool-filler")
        try:
            yield
        finally:
            task.cancel()
            self._sender.fill(None)
            reply.unsay()

    async def _fill(self, reply: Reply, tools: Sequence[str], ask: Ask, began: float) -> None:
        try:
            due = began + self._config.start_delay_secs
            if self._config.type == "audio":
                await self._play(reply, due)
            else:
                await self._speak(reply, tools, ask, began, due)
        except Exception:  # the answer does not need it
            log.exception("tool filler crashed")

    # A sound ---------------------------------------------------------------------------------------------

    async def _play(self, reply: Reply, due: float) -> None:
        if self._loading is not None:
            await asyncio.wait([self._loading])
        if self._sound:
            await quiet(reply, self._sender, due)
            self._sender.fill(Loop(self._sound))

    async def _load(self) -> None:
        try:
            if self._fetch is None or not self._config.url:
                raise BadSound("expected a way to fetch it, got none")
            async with asyncio.timeout(FETCH):
                data = await self._fetch(self._config.url)
                self._sound = await asyncio.to_thread(decode, data, self._sender.rate)
        except BadSound as exc:
            log.warning("tool filler cannot be played", extra={"why": str(exc)})
        except Exception as exc:  # its message may hold the address, and that a key
            log.warning("tool filler cannot be loaded", extra={"error": type(exc).__name__})

    # Words -----------------------------------------------------------------------------------------------

    async def _speak(self, reply: Reply, tools: Sequence[str], ask: Ask, began: float, due: float) -> None:
        if not self._is_styled:
            self._is_styled = True
            self._spawn(self._style(), "tool-filler-style")
        await quiet(reply, self._sender, due)
        reply.say(self._turns.take(self._config.phrases or self._styled or self._words.phrases))
        await quiet(reply, self._sender, began + self._config.escalation_secs)
        sentence = await self._written(ask(phrases.wait_cue(tools)), FIRST_TOKEN, SENTENCE)
        await quiet(reply, self._sender)
        reply.say(phrases.sentence(sentence) or self._words.sentence)

    @property
    def _words(self) -> phrases.Words:
        return phrases.built_in(self._language())

    async def _style(self) -> None:
        cue = phrases.style_cue(self._config.style or "", self._language())
        self._styled = phrases.written(await self._written((Message("user", cue),), STYLE, STYLE))

    async def _written(self, messages: tuple[Message, ...], first: float, rest: float) -> str:
        """What the model says to that, or nothing. ``first`` and ``rest``: seconds to its first token and behind it."""
        text = ""
        try:
            async with asyncio.timeout(first) as deadline, aclosing(self._llm.reply(Prompt(messages))) as events:  # type: ignore[type-var]
                async for event in events:
                    if not isinstance(event, TextDelta):
                        continue
                    if not text:
                        deadline.reschedule(self._loop.time() + rest)
                    text += event.text
                    if len(text) > LIMIT:
                        break
        except (ProviderError, TimeoutError) as exc:
            log.info("tool filler says built-in words", extra={"why": getattr(exc, "code", "timeout")})
            return ""
        except Exception:
            log.exception("tool filler crashed")
            return ""
        return text
