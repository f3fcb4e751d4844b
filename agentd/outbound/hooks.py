"""The hooks of one call: events told in order, tools asked once, and the actionHook once, when the call is over."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from agentd.errors import AgentdError
from agentd.outbound.asked_once import AskedOnce
from agentd.outbound.channel import Channel, HookFailed, Verbs
from config import payloads
from config.payloads import Payload

log = logging.getLogger("agentd.outbound.hooks")

QUEUE = 100  # events that wait for a slow eventHook; when there are more, the oldest is dropped and counted
LAST_EVENTS = 5.0  # seconds that what is still queued has, all together, when the call is over
ACTION = 10.0  # seconds that the actionHook has


class Hooks:
    """What the application is asked and told, over whichever channels it has; ``None`` where the verb names no hook.

    :meth:`heard` listens to the call's log, :meth:`run` is a task of the call. ``call_sid`` is for the logs.
    """

    def __init__(
        self,
        *,
        tool: Channel | None = None,
        event: Channel | None = None,
        action: Channel | None = None,
        call_sid: str = "",
    ) -> None:
        self.dropped = 0  # events that the application was never told
        self.is_answered = True  # the actionHook, once it was asked; so it is where there is none
        self._tool = tool
        self._tools = None if tool is None else AskedOnce(tool)
        self._event = event
        self._action = action
        self._call_sid = call_sid
        self._queue: deque[Payload] = deque()
        self._queued = asyncio.Event()
        self._delivering = asyncio.Lock()  # run and finish may both be at it: events keep their order
        self._patience: asyncio.Timeout | None = None  # of the event that is being delivered
        self._until: float | None = None  # when the last event must be delivered; set when the call is over
        self._failed = 0  # events in a row that were not delivered
        self._finishing = asyncio.Lock()
        self._verbs: Verbs | None = None  # set as soon as the actionHook is asked
        self._is_over = False

    # Events ----------------------------------------------------------------------------------------------

    def heard(self, entry: Mapping[str, Any]) -> None:
        """An entry of the call's log. A plain call in the path of the call: it never raises and never waits."""
        if self._event is None or self._is_over or (payload := payloads.event(entry)) is None:
            return
        if len(self._queue) >= QUEUE:
            self._queue.popleft()
            self._drop(1)
        self._queue.append(payload)
        self._queued.set()

    async def run(self) -> None:
        """Deliver events, one after the other. Ends by itself when :meth:`finish` has delivered the last; cancelled
        before, it loses the one that is under way: nobody knows whether that has arrived.
        """
        while not self._is_over:
            await self._queued.wait()
            self._queued.clear()
            await self._deliver()

    async def _deliver(self) -> None:
        async with self._delivering:
            while self._event is not None and self._queue and not self._is_late():
                payload = self._queue.popleft()
                try:
                    async with asyncio.timeout_at(self._until) as self._patience:
                        await self._event.event(payload)
                except TimeoutError:
                    self._not_delivered(HookFailed("the application did not take the event in time"))
                except Exception as exc:  # whatever a hook does wrong, the call goes on
                    self._not_delivered(exc)
                else:
                    self._delivered()
                finally:
                    self._patience = None

    def _is_late(self) -> bool:
        return self._until is not None and asyncio.get_running_loop().time() >= self._until

    def _not_delivered(self, exc: Exception) -> None:
        self._failed += 1
        if self._failed == 1:  # one line for all that fail in a row
            self._log_failure("event", self._event, exc)

    def _delivered(self) -> None:
        if self._failed:
            log.info("hook works again", extra={**self._fields("event", self._event), "not_delivered": self._failed})
        self._failed = 0

    def _drop(self, events: int) -> None:
        if events and not self.dropped:  # one line a call
            log.warning("events dropped: the hook is too slow", extra=self._fields("event", self._event))
        self.dropped += events

    # Tools -----------------------------------------------------------------------------------------------

    async def tool_call(self, tool_call_id: str, name: str, arguments: Any) -> Any:
        """The tool's result, text or JSON. The same call asked twice is one request. Raises :class:`HookFailed`."""
        if self._tools is None:
            raise HookFailed("there is no toolHook that could be asked")
        try:
            return await self._tools.ask(payloads.tool_call(tool_call_id, name, arguments))
        except HookFailed as exc:
            self._log_failure("tool", self._tool, exc)
            raise

    # The end ---------------------------------------------------------------------------------------------

    async def finish(self, payload: Payload) -> Verbs:
        """The call is over: the last events, then the actionHook with ``payload``. Returns the verbs that the
        application wants next, none when it does not say. However often it is called or cancelled, it asks only once.
        """
        async with self._finishing:  # who comes second gets what the first has got
            if self._verbs is None:
                await self._last_events()
                self._verbs = []
                if self._action is not None:
                    self._verbs = await self._ask(self._action, payload)
            return self._verbs

    async def _last_events(self) -> None:
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + LAST_EVENTS
            if self._patience is not None:
                self._patience.reschedule(self._until)
        await self._deliver()
        self._is_over = True
        self._queued.set()
        self._drop(len(self._queue))
        self._queue.clear()
        if self.dropped:
            log.info("events dropped", extra={**self._fields("event", self._event), "dropped": self.dropped})

    async def _ask(self, action: Channel, payload: Payload) -> Verbs:
        try:
            async with asyncio.timeout(ACTION):
                return await action.action(payload)
        except TimeoutError:
            exc: Exception = HookFailed(f"the application did not answer within {ACTION:g} seconds")
        except Exception as failed:  # whatever a hook does wrong, the call ends as it should
            exc = failed
        self.is_answered = False
        self._log_failure("action", action, exc)
        return []

    def _log_failure(self, hook: str, channel: Channel | None, exc: Exception) -> None:
        # The words of other exceptions are not ours: they may quote what nobody should read.
        error = str(exc) if isinstance(exc, HookFailed) else type(exc).__name__
        cause = {"cause": str(exc.__cause__)} if isinstance(exc.__cause__, AgentdError) else {}
        log.warning("hook failed", extra={**self._fields(hook, channel), "error": error, **cause})

    def _fields(self, hook: str, channel: Channel | None) -> dict[str, str]:
        return {"hook": hook, "where": channel.where if channel else "", "call_sid": self._call_sid}
