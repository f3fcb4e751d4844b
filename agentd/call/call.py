"""One call: events go in through one funnel, the machine decides, and what it says is done here."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from agentd import errors
from agentd.call import setup, summary
from agentd.call.ear import Ear
from agentd.call.history import Round, turn_messages
from agentd.call.outcome import Outcome, decided
from agentd.call.pause import PauseJudge
from agentd.call.recogniser import recognise
from agentd.call.reply import Reply, Source
from agentd.call.sender import MediaPort, Sender
from agentd.call.tools import Offer
from agentd.ops.log import EventLog
from config import payloads
from config.verb import Agent
from providers.acoustic.prosody import Hearing
from providers.audio_feed import AudioFeed
from providers.base import Eager, Final, Message, Partial, ProviderError, Resumed, SttEvent, ToolCall
from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, KeepRemark, Release, Resume
from turn.events import (
    CallEnded,
    CallStarted,
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    HangupRequested,
    ReplyGenerated,
    SpeechStarted,
    SpeechStopped,
    ToolsCalled,
    ToolsReturned,
    TranscriptChanged,
    TranscriptFinished,
    TurnResumed,
)
from turn.latency import Latency
from turn.machine import TurnMachine

log = logging.getLogger("agentd.call")

CUES = {
    Cause.GREETING: "The call has just begun and the caller has said nothing yet. Greet the caller.",
    Cause.CALLER: "",
    # The guide, "No Response Timeout", word for word.
    Cause.NO_RESPONSE: "The user has not responded. Briefly check if they are still there or ask if they need help.",
}


class Call:
    """``rate`` is that of the caller's audio inside, ``playback_rate`` that of ours, both in Hz; ``ear_for`` builds
    the ear that feeds a recogniser and tells what it hears.
    """

    def __init__(
        self,
        agent: Agent,
        vendors: setup.Vendors,
        port: MediaPort,
        *,
        rate: int,
        playback_rate: int,
        ear_for: Callable[[AudioFeed, Callable[[Event], None]], Ear],
        event_names: payloads.Names = "both",
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.log = EventLog(self._loop.time)
        self.agent = agent
        self.vendors = vendors
        self.history = setup.history(agent)
        self.toolbox = setup.toolbox(agent, Offer(setup.HANGUP, self._hang_up_tool))
        self.machine = TurnMachine(setup.settings(agent))
        self.turn_detection = "stt"
        self.sender = Sender(playback_rate, port, self.feed)
        self.outcome: Outcome | None = None
        self._port = port
        self._names = event_names
        self._audio = AudioFeed(rate)
        self._ear = ear_for(self._audio, self._heard)
        self._pause = self._pause_judge(rate) if setup.is_acoustic(agent) else None
        self._inbox: deque[Event] = deque()
        self._is_busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._reply: Reply | None = None  # the one that the machine is busy with
        self._reply_task: asyncio.Task[None] | None = None
        self._speculation: Reply | None = None  # beside it, until it is released or discarded
        self._speculation_task: asyncio.Task[None] | None = None
        self._tokens = 0  # that were at hand when the turn's speculation was released
        self._language = ""  # that the caller was heard to speak
        self._summary: asyncio.Task[None] | None = None
        self._turn = 0  # the one that the machine is busy with; of it:
        self._rounds: list[Round] = []
        self._tool_rtts: list[dict[str, Any]] = []
        self._over = asyncio.Event()

    async def run(self) -> Outcome:
        """From the first frame to the end. Returns once everything of this call has stopped."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    self._spawn(self._recognise(), "stt")
                    self.sender.open()
                    self.feed(CallStarted())
                    await self._over.wait()
                finally:
                    self._end(Outcome(errors.DISCONNECTED))  # unless it has ended for another reason
                    self.feed(CallEnded())
                    self._stop()
        finally:
            outcome = self.outcome or Outcome(errors.DISCONNECTED)
            self.log.append("call_ended", **outcome.payload(self._names))
        return outcome

    # What the wire brings --------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        """Caller audio, any length. A plain call."""
        if not self._over.is_set():
            self._ear.hear(data)

    def dtmf(self, digit: str) -> None:
        self.log.append("dtmf", digit=digit)

    def mark_came(self, name: str, event: str) -> None:
        self.sender.mark_came(name, event)

    def hung_up(self) -> None:
        """The media is gone."""
        self._end(Outcome(errors.DISCONNECTED))

    def stop(self, reason: str) -> None:
        """The server wants the call to end."""
        self._end(Outcome(reason))

    # The funnel ------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """Tell the machine what happened, and do what it says. What that brings about in turn waits its turn."""
        self._inbox.append(event)
        self._advance()

    def _tick(self, due: float) -> None:
        self._advance(due)

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
            self._end(Outcome(errors.SERVER_FAILURE))
        finally:
            self._is_busy = False
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.machine.timer_at()
        if due is not None and not self._over.is_set():
            self._timer = self._loop.call_at(due, self._tick, due)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        match action:
            case Generate():
                self._generate(action)
            case Release():
                self._release(action)
            case Discard(reply) if self._speculation is not None and reply == self._speculation.number:
                self._drop_speculation()
            case Discard(reply):
                self._cancel_reply()
                self.sender.drop(reply)
            case Hold():
                self.log.append("hold")
                self.sender.hold()
            case Resume():
                self.log.append("resume")
                self.sender.resume()
            case Cut():
                self.sender.cut()
                if self._reply is not None:
                    self._reply.stop_thinking()
                self.log.add(payloads.user_interruption())
            case EndTurn():
                self._end_turn(action)
            case KeepRemark(transcript):
                self.history.remark(transcript)
                self.log.append("remark", transcript=transcript)
            case EndCall(reason):
                error = self._reply.error if self._reply is not None else None
                self._end(decided(reason, error, self.vendors.llm.name))

    # Replies ---------------------------------------------------------------------------------------------

    def _generate(self, action: Generate) -> None:
        if action.speculative:
            self._speculation = reply = self._reply_to(action, rounds=[])
            self._speculation_task = self._spawn(reply.run(), f"speculation-{action.reply}")
            return
        self._turn_taken(action.cause, action.turn, action.transcript)
        # A tool that ran stays run, although the caller said more and the answer to it was discarded unheard.
        self._rounds = [Round(0, earlier.calls, earlier.results) for earlier in self._rounds]
        self._reply = reply = self._reply_to(action, self._rounds)
        reply.release()
        self._reply_task = self._spawn(reply.run(), f"reply-{action.reply}")

    def _reply_to(self, action: Generate, rounds: list[Round]) -> Reply:
        agent = self.agent
        source = Source(
            self.vendors.llm,
            self.vendors.tts,
            self.toolbox.tools,
            fixed=(agent.greeting.text or "") if action.cause is Cause.GREETING else "",
            is_spoken=agent.speak,
            is_cleaned=agent.speech_cleanup,
            speaks_early=agent.early_generation.speech,
        )

        def messages(rounds: list[Round], text: str) -> tuple[Message, ...]:
            # A speculation may be prompted before the turn that the caller has just interrupted is in history.
            before = self._unfinished() if action.turn != self._turn else []
            return self.history.prompt(action.transcript, rounds, text, CUES[action.cause], before)

        return Reply(action.reply, source, self.sender, messages, self._run_tools, self._told, rounds=rounds)

    def _unfinished(self) -> list[Message]:
        turn = self.machine.turn
        if turn is None or self._reply is None or self._reply.number != turn.reply:
            return []
        return turn_messages(turn.transcript, self._reply.heard()[1], self._reply.rounds)

    def _release(self, action: Release) -> None:
        reply, self._speculation = self._speculation, None
        assert reply is not None and reply.number == action.reply, "only the running speculation is released"
        self._turn_taken(Cause.CALLER, action.turn, action.transcript)
        self._reply, self._rounds, self._tokens = reply, reply.rounds, reply.deltas
        self._reply_task, self._speculation_task = self._speculation_task, None
        reply.release()

    def _drop_speculation(self) -> None:
        self._speculation = None
        if self._speculation_task is not None:
            self._speculation_task.cancel()
            self._speculation_task = None

    def _turn_taken(self, cause: Cause, turn: int, transcript: str) -> None:
        if cause is Cause.CALLER:
            self.log.add(payloads.user_transcript(transcript))
            if self._pause is not None:
                self._pause.turn_taken()
        if turn != self._turn:
            self._turn, self._rounds, self._tool_rtts, self._tokens = turn, [], [], 0

    def _told(self, event: Event) -> None:
        reply = self._reply
        if isinstance(event, ReplyGenerated) and reply is not None and reply.number == event.reply:
            for payload in payloads.agent_response(reply.text.strip(), self._names) if reply.text.strip() else []:
                self.log.add(payload)
        self.feed(event)

    def _cancel_reply(self) -> None:
        if self._reply_task is not None:
            self._reply_task.cancel()
            self._reply_task = None

    def _end_turn(self, action: EndTurn) -> None:
        self._cancel_reply()
        reply, rtts = self._reply, self._tool_rtts
        heard, raw, rounds = "", "", list[Round]()
        if reply is not None and reply.number == action.reply:
            heard, raw = reply.heard()
            rounds = reply.rounds
        self.sender.drop(action.reply)
        self.sender.forget(action.reply)
        self.history.commit(action.transcript, raw, rounds)
        payload = payloads.turn_end(
            transcript=action.transcript,
            confidence=action.confidence,
            response=heard,
            interrupted=action.interrupted,
            latency=_milliseconds(action.latency),
            preflight={"result": action.preflight, "tokens": self._tokens} if action.preflight else None,
            tool_calls=rtts,
            names=self._names,
        )
        more = {"turn": action.turn, "cause": action.cause.value, "llm": self.vendors.llm.name}
        self.log.add({**payload, **more, "turn_detection": self.turn_detection})
        if action.error is not None:
            self.log.append("turn_failed", turn=action.turn, code=action.error)
        self._summarize(action.turn)

    def _summarize(self, turn: int) -> None:
        every = self.agent.summarize_turns
        if self._summary is not None or self._over.is_set() or not summary.is_due(self.history, every):
            return

        async def run() -> None:
            try:
                if fields := await summary.summarize(self.history, self.vendors.llm, every):
                    self.log.append("history_summarized", turn=turn, **fields)
            finally:
                self._summary = None

        self._summary = self._spawn(run(), "summary")

    # Tools -----------------------------------------------------------------------------------------------

    async def _run_tools(self, reply: Reply, round_: Round) -> None:
        """Run a round's tools side by side. They go on when the reply is interrupted: their results still count."""
        self.feed(ToolsCalled(reply.number))
        rtts = self._tool_rtts

        async def run(call: ToolCall) -> None:
            began = self._loop.time()
            self.log.append("tool_call", name=call.name, tool_call_id=call.id, arguments=call.arguments)
            result = await self.toolbox.run(call)
            rtt = round((self._loop.time() - began) * 1000, 1)
            rtts.append({"name": call.name, "rtt_ms": rtt})
            self.log.append("tool_result", name=call.name, tool_call_id=call.id, result=result, rtt_ms=rtt)
            round_.results[call.id] = result
            self.history.result_came(call.id, result)

        await asyncio.wait([self._spawn(run(call), f"tool-{call.name}") for call in round_.calls])
        self.feed(ToolsReturned(reply.number))

    async def _hang_up_tool(self, arguments: Any) -> str:
        self.feed(HangupRequested(errors.NORMAL))
        return "The call ends after this answer. Say goodbye."

    # The recogniser --------------------------------------------------------------------------------------

    async def _recognise(self) -> None:
        is_over = self._over.is_set
        await recognise(self.vendors.stt, self._audio, self._recognised, is_over=is_over, give_up=self._deaf)

    def _recognised(self, event: SttEvent) -> None:
        match event:
            case Partial(text):
                self.log.append("partial", transcript=text)
                self.feed(TranscriptChanged(text))
            case Final(text, confidence):
                self._language_heard(event.language)
                believed = event.end_of_turn or (event.speech_final and self._pause is None)
                ended = EndOfTurn if believed else TranscriptFinished
                self.feed(ended(text, confidence))
            case Eager(text):
                self.feed(EagerEndOfTurn(text))
            case Resumed():
                self.feed(TurnResumed())
        if self._pause is not None:
            self._pause.words_changed()

    def _heard(self, event: Event) -> None:
        """What the ear tells."""
        if self._pause is not None and isinstance(event, SpeechStarted):
            self._pause.speech_started()
        self.feed(event)
        if self._pause is not None and isinstance(event, SpeechStopped):
            self._pause.speech_stopped()

    def _pause_judge(self, rate: int) -> PauseJudge:
        judge = PauseJudge(
            self.vendors.judge,
            Hearing(rate),
            lambda: self.machine.endpoint.transcript,
            self.feed,
            self._spawn,
            threshold=self.agent.turn_detection.threshold,
            language=self.agent.stt.language or "en-US",
        )
        self._ear.listeners.append(lambda frame, voiced: judge.hear(frame))
        self.turn_detection = judge.name
        return judge

    def _language_heard(self, language: str | None) -> None:
        """The verb's `autoLockLanguage`: the voice follows the caller's language; ``true`` the first one only."""
        lock = self.agent.auto_lock_language
        if not language or not lock or language == self._language or (lock is True and self._language):
            return
        self._language = language
        try:
            self.vendors = replace(self.vendors, tts=self.vendors.voice_for(language))
        except (ProviderError, LookupError, ImportError) as exc:
            log.warning("the voice stays: there is none for this language", extra={"why": str(exc)})
        else:
            self.log.append("language", language=language)

    def _deaf(self, error: ProviderError | None) -> None:
        self._end(Outcome(errors.CONNECTION_FAILURE if error else errors.SERVER_FAILURE, error))

    # The end ---------------------------------------------------------------------------------------------

    def _end(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
        self._over.set()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.sender.close()
        self._audio.close()
        for task in self._running:
            task.cancel()

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[None]:
        assert self._tasks is not None, "a call runs inside run()"
        task: asyncio.Task[None] = self._tasks.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


def _milliseconds(latency: Latency) -> dict[str, float | None]:
    parts = {field.name: getattr(latency, field.name) for field in fields(latency)}
    return {f"{name}_ms": None if part is None else part * 1000 for name, part in parts.items()}
