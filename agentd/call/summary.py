"""Long conversations: older turns become a summary in the system prompt, beside the conversation, never in its way."""

import logging

from agentd.call.history import History
from providers.base import Llm, Message, Prompt, ProviderError, TextDelta

log = logging.getLogger("agentd.call.summary")

CUE = (
    "Summarize the telephone conversation so far in a few sentences: who the caller is, what they want, what was found "
    "out, promised or done, and what is still open. Keep names, numbers and dates. Write nothing but the summary."
)
LIMIT = 4000  # characters of a summary that are kept


def is_due(history: History, every: int) -> bool:
    """``every`` turns: half of them are kept in full, the rest is summarized (the guide; 0 is off)."""
    return every > 0 and history.turns >= every


async def summarize(history: History, llm: Llm, every: int) -> dict[str, object] | None:
    """Replace the older half. Returns the fields of `history_summarized`; ``None`` when it failed, which changes
    nothing: the next turn tries again.
    """
    older = history.older(every // 2)
    if not older:
        return None
    before = [Message("system", f"Earlier in this conversation: {history.summary}")] if history.summary else []
    transcript = Message("user", "\n".join(_line(message) for message in older if message.content))
    try:
        events = llm.reply(Prompt((Message("system", CUE), *before, transcript)))
        summary = "".join([event.text async for event in events if isinstance(event, TextDelta)]).strip()
    except ProviderError as exc:
        log.warning("summary failed", extra={"vendor": exc.vendor, "code": exc.code})
        return None
    if not summary:
        return None
    history.summarized(len(older), summary[:LIMIT])
    return {"messages_dropped": len(older), "messages_kept": len(history.messages), "summary": summary[:LIMIT]}


def _line(message: Message) -> str:
    # As one text and not as a conversation: a vendor would answer its last message, and reject a tool call alone.
    who = {"user": "Caller", "assistant": "Agent", "tool": "Tool result", "system": "Note"}[message.role]
    return f"{who}: {message.content}"
