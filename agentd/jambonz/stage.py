"""What an application says to a caller by itself (`say`, tokens), and what the caller says to it (`bargeIn`): a turn
machine whose replies are the application's words.

    the application's words ──ReplyRequested──> the machine ──Generate──> voice ──> sender
    the caller's voice ──> recogniser ──> the machine ──Generate──> told, and answered with nothing: the application's
                                                                    words are the next request
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from agentd import errors
from agentd.call import setup
from agentd.call.funnel import Funnel
from agentd.call.hearing import EarFor, Hearing
from agentd.call.history import Round
from agentd.call.isolation import Isolate, NoiseSwitch
from agentd.call.outcome import Outcome, decided
from agentd.call.reply import Reply, Source
from agentd.call.sender import MediaPort, Sender
from agentd.call.vendors import Vendors, failed
from agentd.call.voices import Voices
from agentd.jambonz.tokens import Tokens
from agentd.ops.log import EventLog
from agentd.ops.usage import Meter
from config import payloads
from config.verb import Agent
from providers.base import LlmEvent, Message, Prompt, ProviderError
from turn.actions import Action, Cause, Cut, Discard, EndCall, EndTurn, Generate, Hold, KeepRemark, Resume
from turn.events import (
    CallEnded,
    CallStarted,
    EndOfTurn,
    Event,
    InterruptionPredicted,
    KeyPressed,
    ReplyGenerated,
    ReplyPlayed,
    ReplyRequested,
    SpeechConfirmed,
    SpeechStopped,
    TranscriptChanged,
    TranscriptFinished,
)
from turn.machine import TurnMachine
from turn.requests import LIMIT
from turn.states import State

log = logging.getLogger("agentd.jambonz.stage")


@dataclass(eq=False, slots=True)
class Utterance:
    """``text`` is said word for word, or ``tokens`` bring it. Once ``is_over`` is set: ``heard`` is what the caller
    heard of it, ``is_interrupted`` whether they cut it short, ``error`` what went wrong.
    """

    voices: Voices
    text: str = ""
    tokens: Tokens | None = None
    number: int = 0
    heard: str = ""
    is_interrupted: bool = False
    error: ProviderError | None = None
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Ears:
    """Who listens to the caller, and what interrupts: ``words`` of theirs, or (0) a voice that lasts; keys if they
    are wanted.
    """

    agent: Agent
    vendors: Vendors
    words: int = 0
    speech: bool = True
    keys: bool = False


class Listener(Protocol):
    """Who is told, each by a plain call."""

    def caller_spoke(self, transcript: str, confidence: float | None, keys: str) -> None: ...

    def interrupted(self) -> None:
        """The caller has silenced what was being said."""
        ...

    def said(self, utterance: Utterance) -> None:
        """It is over: heard to its end, or not."""
        ...


class Stage:
    """``rate`` is that of the caller's audio inside, ``playback_rate`` that of ours, both in Hz."""

    def __init__(
        self,
        agent: Agent,
        port: MediaPort,
        *,
        rate: int,
        playback_rate: int,
        ear_for: EarFor,
        isolate: Isolate,
        log: EventLog,
        listener: Listener,
        meter: Meter,
    ) -> None:
        self._meter = meter
        settings = setup.settings(agent)
        self.machine = TurnMachine(
            replace(settings, greeting=False, tentative=False, early=False, sticky=True, no_response=0.0, keys=True)
        )
        self._funnel = Funnel(self.machine, self._perform, self._crashed, log)
        self.sender = Sender(playback_rate, port, self._funnel.from_sender)
        self._agent = agent
        self._rates = (rate, playback_rate)
        self._ear_for = ear_for
        self._isolate = isolate
        self._log = log
        self._listener = listener
        self._waiting: dict[int, Utterance] = {}  # by request
        self._asked = 0  # requests
        self._current: tuple[Reply, Utterance, asyncio.Task[None]] | None = None
        self._ears: Ears | None = None
        self._hearing: Hearing | None = None
        self._recognising: asyncio.Task[None] | None = None
        self._noise: NoiseSwitch | None = None
        self._keys = ""  # of the turn in progress
        self._error: ProviderError | None = None  # the latest of a voice
        self._tasks: asyncio.TaskGroup | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._over = asyncio.Event()
        self._outcome = Outcome(errors.NORMAL)

    async def run(self, begun: asyncio.Event) -> Outcome:
        """Until :meth:`close`, or until nothing can be said or heard any more. ``begun``: it can be spoken to."""
        async with asyncio.TaskGroup() as self._tasks:
            try:
                self.sender.open()
                self._log.append("part", role="application")
                self._funnel.feed(CallStarted())
                begun.set()
                await self._over.wait()
            finally:
                self._funnel.stop_timer()
                self._funnel.feed(CallEnded())
                self.deafen()
                self.sender.close()
                for utterance in list(self._waiting.values()):
                    self.withdraw(utterance)
                for task in self._running:
                    task.cancel()
        return self._outcome

    def close(self, outcome: Outcome | None = None) -> None:
        self._outcome = outcome or self._outcome
        self._over.set()

    @property
    def is_interrupted(self) -> bool:
        """Has the caller cut something short whose turn is not over yet?"""
        return self.machine.turn is not None and self.machine.turn.is_cut

    # What is said ----------------------------------------------------------------------------------------

    def say(self, utterance: Utterance) -> bool:
        """Behind what is being said, and what waits. ``False``: too much waits already."""
        if self._over.is_set() or len(self._waiting) >= LIMIT:
            return False
        self._asked += 1
        utterance.number = self._asked
        self._waiting[self._asked] = utterance
        self._funnel.feed(ReplyRequested(self._asked))
        return True

    def withdraw(self, utterance: Utterance) -> None:
        """Say no more of it."""
        if self._waiting.pop(utterance.number, None) is not None:
            self._settle(utterance)
        elif self._current is not None and self._current[1] is utterance:
            self._funnel.feed(ReplyPlayed(self._current[0].number))

    # What is heard ---------------------------------------------------------------------------------------

    def listen(self, ears: Ears) -> None:
        """To the caller, from now on."""
        self.deafen()
        self._ears = ears
        if not ears.speech:
            return
        rate, playback_rate = self._rates
        self._hearing = hearing = Hearing(
            ears.agent,
            ears.vendors,
            self.machine,
            rate=rate,
            playback_rate=playback_rate,
            ear_for=self._ear_for,
            log=self._log,
            feed=self._heard,
            spawn=self._spawn,
            take_voice=lambda voices: None,  # the application chooses its voices
            meter=self._meter,
        )
        wanted = ears.agent.noise_isolation
        self._noise = NoiseSwitch(self._isolate, wanted, hearing=hearing.isolate, rate=rate, sender=self.sender)
        recognising = hearing.recognise(self._over.is_set, self._deaf, failed(self._log, "stt"))
        self._recognising = self._spawn(recognising, "stt")

    def deafen(self) -> None:
        """Hear nothing the caller says."""
        self._ears = None
        if self._recognising is not None:
            self._recognising.cancel()
            self._recognising = None
        if self._noise is not None:
            self._noise.close()
            self._noise = None
        if self._hearing is not None:
            self._hearing.close()
            self._hearing = None
        if self.machine.endpoint.is_voiced:
            self._funnel.feed(SpeechStopped())  # nobody would tell

    def noise_isolation(self, data: Mapping[str, Any]) -> None:
        """The data of the command `noiseIsolation:status`."""
        if self._noise is not None:
            self._noise.told(data)

    def hear(self, data: bytes) -> None:
        """Caller audio, any length. A plain call."""
        if self._hearing is not None:
            self._hearing.hear(data)

    def dtmf(self, digit: str) -> None:
        if self._ears is not None and self._ears.keys:
            self._keys += digit
            self._funnel.feed(KeyPressed(digit))

    def _heard(self, event: Event) -> None:
        match event:
            case TranscriptChanged(text) | TranscriptFinished(text) | EndOfTurn(text) if self._is_enough(text):
                self._funnel.feed(InterruptionPredicted())
            case SpeechConfirmed() if self._ears is not None and not self._ears.words:
                self._funnel.feed(InterruptionPredicted())
            case _:
                pass
        self._funnel.feed(event)

    def _is_enough(self, text: str) -> bool:
        if self._ears is None or not self._ears.words or self.machine.state is not State.SPEAKING:
            return False
        return max(len(text.split()), len(self.machine.endpoint.transcript.split())) >= self._ears.words

    # What the machine says -------------------------------------------------------------------------------

    def _perform(self, action: Action) -> None:
        match action:
            case Generate(reply, cause=Cause.REQUEST, request=request):
                utterance = self._waiting.pop(request, None)
                if utterance is None:  # it was withdrawn
                    self._funnel.feed(ReplyGenerated(reply, audible=False))
                else:
                    self._speak(reply, utterance)
            case Generate(reply, transcript=transcript):
                self._caller_spoke(transcript)
                self._funnel.feed(ReplyGenerated(reply, audible=False))  # the answer is the application's to give
            case Discard(reply):
                self._listener.interrupted()
                self._ended(reply, is_interrupted=True)
            case Hold():
                self._log.append("hold", plays_on_ms=self.sender.plays_on_ms)
                self.sender.hold()
            case Resume():
                self._log.append("resume")
                self.sender.resume()
            case Cut():
                self._log.add(payloads.user_interruption())
                self.sender.cut()
                if self._current is not None:
                    self._current[0].stop_thinking()
                self._listener.interrupted()
            case EndTurn(reply=reply, interrupted=interrupted):
                self._ended(reply, is_interrupted=interrupted)
            case KeepRemark(transcript):
                self._log.append("remark", transcript=transcript)
            case EndCall(reason):
                self.close(decided(reason, self._error, self._agent.tts.vendor))
            case _:
                pass

    def _caller_spoke(self, transcript: str) -> None:
        keys, self._keys = self._keys.rstrip("#") or self._keys, ""
        turn = self.machine.turn
        self._log.add(payloads.user_transcript(transcript))
        if self._hearing is not None:
            self._hearing.turn_taken()
        self._listener.caller_spoke(transcript, turn.confidence if turn is not None else None, keys)

    def _speak(self, number: int, utterance: Utterance) -> None:
        tokens = utterance.tokens
        source = Source(
            tokens or _Nobody(),
            utterance.voices.fixed() if tokens is None else tokens,
            fixed=utterance.text,
            is_cleaned=False,
            patience=self._agent.deadlines.partial_sentence,
        )
        words = partial(self._log.append, "spoken", reply=number)
        reply = Reply(number, source, self.sender, _no_messages, _no_tools, self._funnel.feed, words)
        reply.release()
        self._current = (reply, utterance, self._spawn(reply.run(), f"say-{number}"))

    def _ended(self, number: int, *, is_interrupted: bool) -> None:
        if self._current is None or self._current[0].number != number:
            return
        (reply, utterance, task), self._current = self._current, None
        task.cancel()
        utterance.heard = reply.heard()[0].strip()
        utterance.error = self._error = reply.error
        self._meter.played(self.sender.heard(number) / self.sender.rate)
        self.sender.drop(number)
        self.sender.forget(number)
        self._settle(utterance, is_interrupted=is_interrupted)

    def _settle(self, utterance: Utterance, *, is_interrupted: bool = False) -> None:
        utterance.is_interrupted = is_interrupted
        if utterance.tokens is not None:
            utterance.tokens.drop()
        self._log.append("said", text=utterance.heard, interrupted=is_interrupted)
        utterance.is_over.set()
        self._listener.said(utterance)

    # The end ---------------------------------------------------------------------------------------------

    def _crashed(self) -> None:
        self.close(Outcome(errors.SERVER_FAILURE))

    def _deaf(self, error: ProviderError | None) -> None:
        self.close(Outcome(errors.CONNECTION_FAILURE if error else errors.SERVER_FAILURE, error))

    def _spawn(self, coroutine: Any, name: str) -> asyncio.Task[None]:
        assert self._tasks is not None, "a stage is used inside run()"
        task: asyncio.Task[None] = self._tasks.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task


class _Nobody:
    """The model behind words that are said as they are."""

    name = "application"

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        nothing: tuple[LlmEvent, ...] = ()
        for event in nothing:
            yield event


def _no_messages(rounds: list[Round], text: str) -> tuple[Message, ...]:
    return ()


async def _no_tools(reply: Reply, round_: Round) -> None:
    raise AssertionError("there are no tools")
