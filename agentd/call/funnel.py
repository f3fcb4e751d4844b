"""The one way into a call's turn machine: what happened goes in, and what the machine says is done, in time."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from agentd.ops.log import EventLog
from turn.actions import Action
from turn.events import Event, ReplyHeard, ReplyPlayed
from turn.machine import State, TurnMachine

log = logging.getLogger("agentd.call")


class Funnel:
    """``perform`` does one action; ``crashed`` is called when a machine, or what it wanted done, breaks."""

    def __init__(
        self, machine: TurnMachine, perform: Callable[[Action], None], crashed: Callable[[], None], events: EventLog
    ) -> None:
        self.machine = machine
        self._loop = asyncio.get_running_loop()
        self._perform = perform
        self._crashed = crashed
        self._log = events
        self._inbox: deque[Event] = deque()
        self._is_busy = False
        self._state: State | None = None  # that the log was told last
        self._timer: asyncio.TimerHandle | None = None
        self._is_timed = True

    def feed(self, event: Event) -> None:
        """Tell the machine what happened, and do what it says. What that brings about in turn waits its turn."""
        self._inbox.append(event)
        self._advance()

    def from_sender(self, event: Event) -> None:
        """The same for what becomes of a reply's sound, which is told in the log, too."""
        match event:
            case ReplyHeard(reply):
                self._log.append("reply_heard", reply=reply)
            case ReplyPlayed(reply):
                self._log.append("reply_played", reply=reply)
            case _:
                pass
        self.feed(event)

    def stop_timer(self) -> None:
        """The call is over: what happens is still taken, what is overdue no longer."""
        self._is_timed = False
        self._disarm()

    def _advance(self, due: float | None = None) -> None:
        if self._is_busy:
            return
        self._is_busy = True
        try:
            if due is not None:
                # call_at may fire a clock tick early; the machine only ever sees the deadline that it set.
                self._do(self.machine.tick(max(due, self._loop.time())))
            while self._inbox:
                self._do(self.machine.handle(self._inbox.popleft(), self._loop.time()))
        except Exception:
            # A call with a broken machine would be silent for ever: end it, and let the others go on.
            log.exception("call crashed")
            self._crashed()
        finally:
            self._is_busy = False
        self._arm()

    def _arm(self) -> None:
        self._disarm()
        due = self.machine.timer_at()
        if due is not None and self._is_timed:
            self._timer = self._loop.call_at(due, self._advance, due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _do(self, actions: list[Action]) -> None:
        if self.machine.state is not self._state:
            self._state = self.machine.state
            self._log.append("state", state=self._state.name.lower())
        for action in actions:
            self._perform(action)
