"""Mid-conversation updates: what the application sends becomes history, tools and requests (the guide)."""

from collections.abc import Callable
from typing import Any

from agentd.call import setup
from agentd.call.history import History
from agentd.call.replies import Replies, Request
from agentd.errors import AgentdError
from agentd.ops.log import EventLog
from config import updates
from config.verb import Agent
from turn.events import Event, PromptChanged, ReplyRequested
from turn.machine import State, TurnMachine
from turn.requests import LIMIT


class UpdateRefused(AgentdError):
    """It has changed nothing; the message says what was expected."""


class Updates:
    """Those of one call. Each that is accepted is an entry of the log: its kind and how much there is of it, but
    nothing of what it says.
    """

    def __init__(
        self,
        agent: Agent,
        machine: TurnMachine,
        history: History,
        replies: Replies,
        log: EventLog,
        feed: Callable[[Event], None],
    ) -> None:
        self._vendor = agent.llm.vendor
        self._machine = machine
        self._history = history
        self._replies = replies
        self._log = log
        self._feed = feed
        self._requests = 0

    def take(self, data: Any) -> None:
        """Raises :class:`UpdateRefused`, or :class:`AgentdError` for messages that no model could be told."""
        try:
            update = updates.read(data)
        except updates.UpdateError as exc:
            raise UpdateRefused(str(exc)) from exc
        match update:
            case updates.UpdateInstructions():
                self._accept(update.type)
                self._history.system = update.instructions
            case updates.InjectContext():
                messages = setup.messages(update.messages, self._vendor)
                self._accept(update.type, messages=len(messages))
                self._history.inject(messages)
            case updates.UpdateTools():
                tools = setup.tools(update.tools)
                self._accept(update.type, tools=[tool.name for tool in tools])
                self._replies.take_tools(tools)
            case updates.GenerateReply():
                self._generate(update)
                return
        self._feed(PromptChanged())

    def _generate(self, update: updates.GenerateReply) -> None:
        if self._machine.state is State.ENDING:
            raise UpdateRefused("generate_reply: expected a call that goes on, got one in which the agent says goodbye")
        if self._replies.requested >= LIMIT:
            raise UpdateRefused(f"generate_reply: expected at most {LIMIT} requests to wait, got one more")
        text = (update.user_input or "").strip()
        self._accept(update.type, request=self._requests + 1, interrupt=update.interrupt)
        self._request(Request(text, (update.instructions or "").strip()), is_urgent=update.interrupt)

    def go_on(self, cue: str) -> None:
        """The conversation was interrupted, and the agent is the first to speak."""
        self._log.append("resumed")
        self._request(Request(instructions=cue), is_urgent=False)

    def _request(self, request: Request, *, is_urgent: bool) -> None:
        self._requests += 1
        self._replies.request(self._requests, request)
        self._feed(ReplyRequested(self._requests, request.text, is_urgent))

    def _accept(self, kind: str, **fields: Any) -> None:
        self._log.append("update", update=kind, **fields)
