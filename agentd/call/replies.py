"""The agent's side of a turn: its reply, the speculation beside it, and the tools that they call."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

from agentd.call.filler import Filler
from agentd.call.history import History, Round, turn_messages
from agentd.call.prompts import PromptLog
from agentd.call.quiet import quiet
from agentd.call.reply import Reply, Source
from agentd.call.sender import Sender
from agentd.call.tools import Toolbox
from agentd.call.voices import Voices
from agentd.ops.log import EventLog
from config import payloads
from config.verb import Agent
from providers.base import Llm, Message, ProviderError, Tool, ToolCall
from turn.actions import Cause, EndTurn, Generate, Release
from turn.events import Event, ReplyGenerated, ToolsCalled, ToolsReturned

CUES = {
    Cause.GREETING: "The call has just begun and the caller has said nothing yet. Greet the caller.",
    Cause.CALLER: "",
    # The guide, "No Response Timeout", word for word.
    Cause.NO_RESPONSE: "The user has not responded. Briefly check if they are still there or ask if they need help.",
    # Where the application says nothing of its own.
    Cause.REQUEST: "The caller has said nothing new. Go on with the conversation.",
}


class Request(NamedTuple):
    """A reply that the application asked for: the words that it answers, and what holds for this reply only."""

    text: str = ""
    instructions: str = ""


class Told(NamedTuple):
    """What came of a turn: what was heard of its answer, for how many seconds, the raw text that it came from, and its
    tools.
    """

    heard: str
    seconds: float
    raw: str
    rounds: list[Round]
    tool_rtts: list[dict[str, Any]]
    tokens: int


class Replies:
    """At most two at a time: the one that the machine is busy with, and a speculation. ``voice`` may be changed; the
    next reply takes it.
    """

    def __init__(
        self,
        agent: Agent,
        llm: Llm,
        voice: Voices,
        *,
        history: History,
        toolbox: Toolbox,
        sender: Sender,
        log: EventLog,
        feed: Callable[[Event], None],
        spawn: Callable[[Any, str], "asyncio.Task[None]"],
        names: payloads.Names,
        filler: Filler | None = None,
    ) -> None:
        self.voice = voice
        self._agent = agent
        self._llm = llm
        self._history = history
        self._toolbox = toolbox
        self._sender = sender
        self._log = log
        self._prompts = PromptLog(log)
        self._feed = feed
        self._spawn = spawn
        self._names = names
        self._filler = filler
        self._reply: Reply | None = None  # the latest that was not, or is no longer, a speculation
        self._task: asyncio.Task[None] | None = None
        self._speculation: Reply | None = None  # until it is released or discarded
        self._speculation_task: asyncio.Task[None] | None = None
        self._turn = 0  # the latest; of it:
        self._transcript = ""
        self._is_over = True
        self._rounds: list[Round] = []
        self._tool_rtts: list[dict[str, Any]] = []
        self._tokens = 0  # that were at hand when its speculation was released
        self._requests: dict[int, Request] = {}  # that wait; agentd.call.updates bounds them
        self._request = Request()  # the latest that was taken

    @property
    def error(self) -> ProviderError | None:
        """Of the latest reply."""
        return self._reply.error if self._reply is not None else None

    # What the application says ---------------------------------------------------------------------------

    def request(self, number: int, request: Request) -> None:
        """Keep this until the machine has a turn for it."""
        self._requests[number] = request

    @property
    def requested(self) -> int:
        """How many wait."""
        return len(self._requests)

    def take_tools(self, tools: Sequence[Tool]) -> None:
        """Other tools of the application's, from the next prompt on."""
        self._toolbox.application = tuple(tools)
        self._history.offered(tools)

    async def quiet(self) -> None:
        """Until all that the latest reply has said so far was heard."""
        if self._reply is not None:
            await quiet(self._reply, self._sender)

    # What the machine says -------------------------------------------------------------------------------

    def generate(self, action: Generate) -> None:
        if action.speculative:
            self._speculation = reply = self._reply_to(action, rounds=[])
            self._speculation_task = self._spawn(reply.run(), f"speculation-{action.reply}")
            return
        self._taken(action.turn, action.transcript)
        self._request = self._requests.pop(action.request, self._request)
        # A tool that ran stays run, although the caller said more and the answer to it was discarded unheard.
        self._rounds = [Round(0, earlier.calls, earlier.results) for earlier in self._rounds]
        self._reply = reply = self._reply_to(action, self._rounds)
        reply.release()
        self._task = self._spawn(reply.run(), f"reply-{action.reply}")

    def release(self, action: Release) -> None:
        reply, self._speculation = self._speculation, None
        assert reply is not None and reply.number == action.reply, "only the running speculation is released"
        self._taken(action.turn, action.transcript)
        self._reply, self._rounds, self._tokens = reply, reply.rounds, reply.deltas
        self._task, self._speculation_task = self._speculation_task, None
        reply.source.tts = self.voice  # the final words may have told another language than the partial ones
        reply.release()

    def discard(self, number: int) -> None:
        if self._speculation is not None and number == self._speculation.number:
            self._speculation = None
            if self._speculation_task is not None:
                self._speculation_task.cancel()
                self._speculation_task = None
            return
        self._cancel()
        self._sender.drop(number)

    def cut(self) -> None:
        self._sender.cut()
        if self._reply is not None:
            self._reply.stop_thinking()

    def end(self, action: EndTurn) -> Told:
        """Stop what is left of the turn's reply; returns what came of it."""
        self._cancel()
        self._is_over = True
        heard, raw, rounds = "", "", list[Round]()
        if self._reply is not None and self._reply.number == action.reply:
            heard, raw = self._reply.heard()
            rounds = self._reply.rounds
        seconds = self._sender.heard(action.reply) / self._sender.rate
        self._sender.drop(action.reply)
        self._sender.forget(action.reply)
        return Told(heard, seconds, raw, rounds, self._tool_rtts, self._tokens)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _taken(self, turn: int, transcript: str) -> None:
        self._transcript, self._is_over = transcript, False
        self._history.asked(turn, transcript)
        if turn != self._turn:
            self._turn, self._rounds, self._tool_rtts, self._tokens = turn, [], [], 0

    def of_the_caller(self, action: Generate) -> str:
        """What of its transcript the caller said: they may have added to what the application asked."""
        return action.transcript.removeprefix(self._request.text).strip() if action.request else action.transcript

    # One reply -------------------------------------------------------------------------------------------

    def _reply_to(self, action: Generate, rounds: list[Round]) -> Reply:
        agent = self._agent
        fixed = (agent.greeting.text or "") if action.cause is Cause.GREETING else ""
        source = Source(
            self._llm,
            self.voice.fixed() if fixed else self.voice,
            None if fixed else partial(self._offered, action.cause),
            fixed=fixed,
            is_spoken=agent.speak,
            is_cleaned=agent.speech_cleanup and not fixed,
            speaks_early=agent.early_generation.speech,
            first_words=agent.first_words if self.voice.is_continuous and agent.speak and not fixed else 0,
            patience=agent.deadlines.partial_sentence,
        )

        cue = self._cue(action)

        def messages(rounds: list[Round], text: str) -> tuple[Message, ...]:
            # A speculation may be prompted before the turn that the caller has just interrupted is in history.
            before = self._unfinished() if action.turn != self._turn else []
            prompt = self._history.prompt(action.transcript, rounds, text, cue, before)
            self._prompts.prompted(action, prompt, [tool.name for tool in self._toolbox.tools])
            return prompt

        words = partial(self._log.append, "spoken", reply=action.reply)
        return Reply(action.reply, source, self._sender, messages, self._run_tools, self._told, words, rounds=rounds)

    async def _offered(self, cause: Cause) -> tuple[Tool, ...]:
        if cause is not Cause.GREETING:  # it needs no tools, and the caller waits for it
            await self._toolbox.ready()
        return self._toolbox.tools

    def _cue(self, action: Generate) -> str:
        if not action.request:
            return CUES[action.cause]
        return self._request.instructions or ("" if action.transcript else CUES[Cause.REQUEST])

    def _unfinished(self) -> list[Message]:
        if self._is_over or self._reply is None:
            return []
        return turn_messages(self._transcript, self._reply.heard()[1], self._reply.rounds)

    def _told(self, event: Event) -> None:
        reply = self._reply
        if isinstance(event, ReplyGenerated) and reply is not None and reply.number == event.reply:
            self._history.answered(reply.text.strip())
            for payload in payloads.agent_response(reply.text.strip(), self._names) if reply.text.strip() else []:
                self._log.add(payload)
        self._feed(event)

    async def _run_tools(self, reply: Reply, round_: Round) -> None:
        """Run a round's tools side by side. They go on when the reply is interrupted: their results still count."""
        self._history.tools_called(round_.calls)
        self._feed(ToolsCalled(reply.number))
        rtts = self._tool_rtts

        async def run(call: ToolCall) -> None:
            began = asyncio.get_running_loop().time()
            self._log.append("tool_call", name=call.name, tool_call_id=call.id, arguments=call.arguments)
            result = await self._toolbox.run(call)
            rtt = round((asyncio.get_running_loop().time() - began) * 1000, 1)
            rtts.append({"name": call.name, "rtt_ms": rtt})
            self._log.append("tool_result", name=call.name, tool_call_id=call.id, result=result, rtt_ms=rtt)
            round_.results[call.id] = result
            self._history.result_came(call.id, result)

        def ask(cue: str) -> tuple[Message, ...]:
            return self._history.prompt(self._transcript, [], "", cue)

        running = [self._spawn(run(call), f"tool-{call.name}") for call in round_.calls]
        names = [call.name for call in round_.calls]
        with self._filler.beside(reply, names, ask) if self._filler is not None else nullcontext():
            await asyncio.wait(running)
        self._feed(ToolsReturned(reply.number))
