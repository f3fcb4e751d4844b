"""Long conversations: older turns become a summary in the system prompt, beside the conversation, never in its way."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from agentd.call.history import History
from agentd.ops.log import EventLog
from config import payloads
from providers.base import Llm, Message, Prompt, ProviderError, TextDelta

log = logging.getLogger("agentd.call.summary")

CUE = (
    "Summarize the telephone conversation so far in a few sentences: who the caller is, what they want, what was found "
    "out, promised or done, and what is still open. Keep names, numbers and dates. Write nothing but the summary."
)
LIMIT = 4000  # characters of a summary that are kept
TIMEOUT = 30.0  # seconds: one that hangs must not be the last one


class Summaries:
    """One at a time. ``every`` turns: half of them are kept in full, the rest is summarized (the guide; 0 is off)."""

    def __init__(
        self,
        history: History,
        llm: Llm,
        every: int,
        log: EventLog,
        spawn: Callable[[Any, str], "asyncio.Task[None]"],
    ) -> None:
        self._history = history
        self._llm = llm
        self._every = every
        self._log = log
        self._spawn = spawn
        self._is_running = False

    def turn_ended(self, turn: int) -> None:
        """Begin one if it is due. One that fails changes nothing: the next turn tries again."""
        if self._is_running or not self._every or self._history.turns < self._every:
            return
        older = self._history.older(self._every // 2)
        if older:
            self._is_running = True
            self._spawn(self._run(turn, older), "summary")

    async def _run(self, turn: int, older: list[Message]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                summary = await self._summary(older)
        except (ProviderError, TimeoutError) as exc:
            log.warning("summary failed", extra={"vendor": self._llm.name, "why": getattr(exc, "code", "timeout")})
        except Exception:
            log.exception("summary crashed")
        else:
            if summary:
                self._history.summarized(len(older), summary)
                kept = len(self._history.messages)
                self._log.add(
                    payloads.history_summarized(
                        turn=turn, messages_dropped=len(older), messages_kept=kept, summary=summary
                    )
                )
        finally:
            self._is_running = False

    async def _summary(self, older: list[Message]) -> str:
        known = self._history.summary
        before = [Message("system", f"Earlier in this conversation: {known}")] if known else []
        transcript = Message("user", "\n".join(_line(message) for message in older if message.content))
        prompt = Prompt((Message("system", CUE), *before, transcript))
        async with aclosing(self._llm.reply(prompt)) as events:  # type: ignore[type-var]
            return "".join([event.text async for event in events if isinstance(event, TextDelta)]).strip()[:LIMIT]


def _line(message: Message) -> str:
    # As one text and not as a conversation: a vendor would answer its last message, and reject a tool call alone.
    who = {"user": "Caller", "assistant": "Agent", "tool": "Tool result", "system": "Note"}[message.role]
    return f"{who}: {message.content}"
