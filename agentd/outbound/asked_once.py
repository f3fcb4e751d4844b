"""Tool calls of one call, each asked of the application once, however often it is asked here."""

import asyncio
from dataclasses import dataclass
from typing import Any

from agentd.outbound.channel import Channel, HookFailed
from config.payloads import Payload

REMEMBERED = 16  # tool calls whose result (1 MB at most) is kept; when there are more, the oldest is forgotten


class AskedOnce:
    """By ``tool_call_id``: who asks second waits for the first, or gets what that has got, an error included. Under an
    id that comes back with other arguments something else is asked: some models number their calls anew.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked: dict[str, _Asked] = {}  # oldest first

    async def ask(self, payload: Payload) -> Any:
        """Raises :class:`HookFailed`. Cancelled are all who wait, before the request is."""
        id_ = payload["tool_call_id"]
        asked = self._asked.get(id_)
        if asked is None or asked.payload != payload or asked.may_be_repeated():
            asked = _Asked(payload, asyncio.create_task(self._channel.tool_call(payload)))
            self._asked.pop(id_, None)
            self._asked[id_] = asked
            self._forget()
        await asked.wait()
        return asked.result()

    def _forget(self) -> None:
        done = [id_ for id_, asked in self._asked.items() if asked.task.done()]
        for id_ in done[: max(0, len(self._asked) - REMEMBERED)]:
            del self._asked[id_]


@dataclass(slots=True)
class _Asked:
    """A tool call, under way or answered. It lasts as long as somebody waits for it."""

    payload: Payload
    task: asyncio.Task[Any]
    waiting: int = 0

    async def wait(self) -> None:
        self.waiting += 1
        try:
            await asyncio.wait([self.task])
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                self.task.cancel()
                await asyncio.wait([self.task])
                if not self.task.cancelled():
                    self.task.exception()  # nobody waits for it: nobody else would look

    def result(self) -> Any:
        if self.task.cancelled():  # by the others who waited; the application may have done it
            raise HookFailed("the tool call was given up before it was answered")
        return self.task.result()

    def may_be_repeated(self) -> bool:
        """Nothing has come of it, and nothing can have reached the application."""
        if not self.task.done() or self.task.cancelled():
            return False
        exc = self.task.exception()
        return isinstance(exc, HookFailed) and exc.may_retry
