"""One call: events go in through one funnel, the machine decides, and what it says is done here."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from agentd import errors
from agentd.call import handoff, setup
from agentd.call.filler import Filler
from agentd.call.funnel import Funnel
from agentd.call.hearing import EarFor, Hearing
from agentd.call.isolation import Isolate, NoiseSwitch
from agentd.call.models import Answered, Models
from agentd.call.outcome import Outcome, decided
from agentd.call.outside import NOTHING, Outside
from agentd.call.replies import Replies
from agentd.call.resume import replayed
from agentd.call.sender import MediaPort, Sender
from agentd.call.summary import Summaries
from agentd.call.tools import Offer
from agentd.call.updates import UpdateRefused, Updates
from agentd.call.vendors import Vendors, failed
from agentd.call.voices import Voice, Voices
from agentd.ops.log import EventLog
from agentd.ops.usage import Meter
from config import payloads
from config.verb import Agent
from providers.base import ProviderError
from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, KeepRemark, Release, Resume
from turn.events import CallEnded, CallStarted, HangupRequested, KeyPressed
from turn.latency import Latency, TurnClock
from turn.machine import TurnMachine

log = logging.getLogger("agentd.call")


class Call:
    """``rate`` is that of the caller's audio inside, ``playback_rate`` that of ours, both in Hz."""

    def __init__(
        self,
        agent: Agent,
        vendors: Vendors,
        port: MediaPort,
        *,
        rate: int,
        playback_rate: int,
        ear_for: EarFor,
        isolate: Isolate,
        event_names: payloads.Names = "both",
        outside: Outside = NOTHING,
        log: EventLog | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._meter = meter or Meter()
        self._clock = TurnClock()  # of the latest turn
        self.log = log or EventLog(asyncio.get_running_loop().time)
        self.agent = agent
        self.vendors = vendors
        self.history = setup.history(agent)
        if outside.tell is not None:
            self.history.tell = outside.tell
        self._left = replayed(outside.before, self.history)
        self.machine = TurnMachine(setup.settings(agent, greets=not self._left.has_begun))
        self._funnel = Funnel(self.machine, self._perform, self._crashed, self.log)
        self.feed = self._funnel.feed
        self.sender = Sender(playback_rate, port, self._funnel.from_sender)
        self.outcome: Outcome | None = None
        self._outside = outside
        self._names = event_names
        if outside.heard is not None:
            self.log.subscribe(outside.heard)
        self.llm = Models(vendors.models, agent.deadlines, vendors.health, failed(self.log, "llm"), self._answered)
        self._filler: Filler | None = None
        if agent.tool_filler is not None and agent.speak:
            self._filler = Filler(
                agent.tool_filler,
                self.llm,
                self.sender,
                language=self._language,
                spawn=self._spawn,
                fetch=outside.fetch,
            )
        self._replies = Replies(
            agent,
            self.llm,
            self._voices(vendors.voices),
            history=self.history,
            toolbox=setup.toolbox(agent, self._built_in(agent, outside), outside),
            sender=self.sender,
            log=self.log,
            feed=self.feed,
            spawn=self._spawn,
            names=event_names,
            filler=self._filler,
        )
        self._hearing = Hearing(
            agent,
            vendors,
            self.machine,
            rate=rate,
            playback_rate=playback_rate,
            ear_for=ear_for,
            log=self.log,
            feed=self.feed,
            spawn=self._spawn,
            take_voice=self._take_voice,
            meter=self._meter,
        )
        self._updates = Updates(agent, self.machine, self.history, self._replies, self.log, self.feed)
        if self._left.tools is not None:
            self._replies.take_tools(self._left.tools)
        self._summaries = Summaries(self.history, self.llm, agent.summarize_turns, self.log, self._spawn)
        if self._hearing.interruption is not None:
            self.sender.on_sent = self._hearing.interruption.sent
        self._noise = NoiseSwitch(
            isolate, agent.noise_isolation, hearing=self._hearing.isolate, rate=rate, sender=self.sender
        )
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()

    async def run(self) -> Outcome:
        """From the first frame to the end. Returns once everything of this call has stopped."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                try:
                    self.vendors.ready()
                    tell = failed(self.log, "stt")
                    self._spawn(self._hearing.recognise(self._over.is_set, self._deaf, tell), "stt")
                    if self._outside.mcp is not None:
                        self._spawn(self._outside.mcp.run(), "mcp")
                    self.sender.open()
                    if self._filler is not None:
                        self._filler.begin()
                    self.history.tell({"kind": "began"})
                    self.log.append("part", role="agent")
                    self.feed(CallStarted())
                    if self._left.has_begun:
                        self._updates.go_on(self._left.cue())
                    await self._over.wait()
                finally:
                    self._end(Outcome(errors.DISCONNECTED))  # unless it has ended for another reason
                    self.feed(CallEnded())
                    self._stop()
        finally:
            await self.vendors.aclose()
            if self._outside.heard is not None:
                self.log.unsubscribe(self._outside.heard)
        return self.outcome or Outcome(errors.DISCONNECTED)

    # What the wire brings --------------------------------------------------------------------------------

    def hear(self, data: bytes) -> None:
        """Caller audio, any length. A plain call."""
        if not self._over.is_set():
            self._hearing.hear(data)

    def dtmf(self, digit: str) -> None:
        self.log.append("dtmf", digit=digit)
        if self.agent.dtmf.enable and not self._over.is_set():
            self.vendors.ready()  # an answer will be wanted soon
            self.feed(KeyPressed(digit))

    def mark_came(self, name: str, event: str) -> None:
        self.sender.mark_came(name, event)

    def noise_isolation(self, data: Mapping[str, Any]) -> None:
        """The data of the command `noiseIsolation:status`. What cannot be done is a warning in the log."""
        if not self._over.is_set():
            self._noise.told(data)

    def update(self, data: Mapping[str, Any]) -> None:
        """A mid-conversation update, as the application sent it. A plain call; what cannot be done is an AgentdError
        that says why.
        """
        if self._tasks is None or self._over.is_set():
            raise UpdateRefused("expected a call in progress, got one that is over")
        self._updates.take(data)

    def hung_up(self) -> None:
        """The media is gone."""
        self._end(Outcome(errors.DISCONNECTED))

    def stop(self, reason: str) -> None:
        """The server wants the call to end."""
        self._end(Outcome(reason))

    # What the machine says --------------------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Generate(cause=cause):
                if action.speculative:
                    self.log.append("speculation", reply=action.reply, transcript=action.transcript)
                else:
                    self._turn_taken(cause, self._replies.of_the_caller(action))
                self._replies.generate(action)
            case Release(transcript=transcript):
                self.log.append("released", reply=action.reply)
                self._turn_taken(Cause.CALLER, transcript)
                self._replies.release(action)
            case Discard(reply):
                self.log.append("discarded", reply=reply)
                self._replies.discard(reply)
            case Hold():
                self.log.append("hold", plays_on_ms=self.sender.plays_on_ms)
                self.sender.hold()
            case Resume():
                self.log.append("resume")
                self.sender.resume()
            case Cut():
                self._replies.cut()
                self.log.add({**payloads.user_interruption(), **self._hearing.since_speech()})
            case EndTurn():
                self._end_turn(action)
            case KeepRemark(transcript):
                self.history.remark(transcript)
                self.log.append("remark", transcript=transcript)
            case EndCall(reason):
                self._end(decided(reason, self._replies.error, self.llm.name))

    # Turns -----------------------------------------------------------------------------------------------

    def _turn_taken(self, cause: Cause, transcript: str) -> None:
        if self.machine.turn is not None:
            self._clock = self.machine.turn.clock
        if cause is Cause.CALLER:
            self.log.add(payloads.user_transcript(transcript))
            self._hearing.turn_taken()
        elif cause is Cause.REQUEST and not self.machine.endpoint.is_voiced:
            self._hearing.turn_taken()  # one reply covers what they said and what was asked

    def _end_turn(self, action: EndTurn) -> None:
        told = self._replies.end(action)
        self.history.commit(action.transcript, told.raw, told.rounds)
        payload = payloads.turn_end(
            transcript=action.transcript,
            confidence=action.confidence,
            response=told.heard.strip(),
            interrupted=action.interrupted,
            latency=_milliseconds(action.latency),
            preflight={"result": action.preflight, "tokens": told.tokens} if action.preflight else None,
            tool_calls=told.tool_rtts,
            names=self._names,
        )
        self._meter.played(told.seconds)
        self._hearing.metered()
        names: dict[str, Any] = {"llm": self.llm.name, "stt": self._hearing.recogniser, "tts": self._replies.voice.name}
        more = {"turn": action.turn, "reply": action.reply, "cause": action.cause.value, **names}
        more |= {"turn_detection": self._hearing.turn_detection, "parts": _seconds(action.latency)}
        more |= {"error": action.error} if action.error is not None else {}
        self.log.add({**payload, **more, "instants": self._instants(), "usage": self._meter.take()})
        if action.error is not None:
            self.log.append("turn_failed", turn=action.turn, code=action.error)
        if not self._over.is_set():
            self._summaries.turn_ended(action.turn)

    def _instants(self) -> dict[str, float]:
        """When the parts of the latest turn's gap ended, by the names of :class:`turn.latency.TurnClock`."""
        names = ("stopped", "finished", "taken", "began", "synthesis", "audio", "heard")
        known = {name: getattr(self._clock, name) for name in names}
        return {name: self.log.at(at) for name, at in known.items() if at is not None}

    def _built_in(self, agent: Agent, outside: Outside) -> list[Offer]:
        """The tools that are the call's own."""
        offers = []
        if agent.hangup is not None:
            offers.append(Offer(setup.HANGUP, self._hang_up_tool))
        if agent.handoff is not None and outside.transfer is not None:
            offers.append(Offer(handoff.offered(agent.handoff), self._transfer_tool))
        return offers

    async def _hang_up_tool(self, arguments: Any) -> str:
        self.feed(HangupRequested(errors.NORMAL))
        return "The call ends after this answer. Say goodbye."

    async def _transfer_tool(self, arguments: Any) -> str:
        """Jambonz takes the call as soon as it is asked: what is being said comes first."""
        wanted, transfer = self.agent.handoff, self._outside.transfer
        assert wanted is not None and transfer is not None, "else the tool is not offered"
        await self._replies.quiet()
        self.log.append("transfer", mode=wanted.mode)
        await transfer(handoff.verb(wanted, arguments))
        self._end(Outcome(errors.NORMAL))
        return "The caller is being put through."

    def _language(self) -> str:
        """That the agent speaks now."""
        return self._hearing.language or self.agent.tts.language or self.agent.stt.language or "en-US"

    def _take_voice(self, voices: Sequence[Voice]) -> None:
        self._replies.voice = self._voices(voices)

    # Vendors ---------------------------------------------------------------------------------------------

    def _voices(self, voices: Sequence[Voice]) -> Voices:
        return Voices(voices, self.agent.deadlines, failed(self.log, "tts"), self._meter.characters)

    def _answered(self, answered: Answered) -> None:
        """A model has come to its end, whatever it was asked for."""
        now, tokens = asyncio.get_running_loop().time(), {}
        name = answered.choice.llm.name
        if (usage := answered.usage) is not None:
            self._meter.tokens(name, usage.prompt, usage.completion, usage.cached)
            tokens = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
        first = answered.first or now
        took = {"first_ms": round((first - answered.began) * 1000), "took_ms": round((now - answered.began) * 1000)}
        self.log.append("model_answered", llm=name, **took, **tokens)

    # The end ---------------------------------------------------------------------------------------------

    def _deaf(self, error: ProviderError | None) -> None:
        self._end(Outcome(errors.CONNECTION_FAILURE if error else errors.SERVER_FAILURE, error))

    def _end(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
        self._over.set()
        self._funnel.stop_timer()

    def _crashed(self) -> None:
        self._end(Outcome(errors.SERVER_FAILURE))

    def _stop(self) -> None:
        self.sender.close()
        self._hearing.close()
        self._noise.close()
        for task in self._running:
            task.cancel()

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[None]:
        assert self._tasks is not None, "a call runs inside run()"
        task: asyncio.Task[None] = self._tasks.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


def _seconds(latency: Latency) -> dict[str, float]:
    """The parts that there were."""
    parts = {field.name: getattr(latency, field.name) for field in fields(latency)}
    return {name: round(part, 4) for name, part in parts.items() if part is not None}


def _milliseconds(latency: Latency) -> dict[str, float | None]:
    parts = {field.name: getattr(latency, field.name) for field in fields(latency)}
    return {f"{name}_ms": None if part is None else part * 1000 for name, part in parts.items()}
