"""The caller's side of a call: what the ear and the recogniser hear becomes events, judged on the way."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from agentd.call import setup
from agentd.call.ear import Ear
from agentd.call.interrupt import InterruptionJudge
from agentd.call.pause import PauseJudge
from agentd.call.recogniser import Tell, recognise
from agentd.call.vendors import Vendors
from agentd.call.voices import Voice as Speaker
from agentd.ops.log import EventLog
from agentd.ops.usage import Meter
from config.verb import Agent
from providers.acoustic.prosody import Hearing as Voice
from providers.audio_feed import AudioFeed
from providers.base import Eager, Final, Partial, ProviderError, Resumed, SttEvent
from providers.noise.base import Isolation
from turn.events import (
    EagerEndOfTurn,
    EndOfTurn,
    Event,
    SpeechStarted,
    SpeechStopped,
    TranscriptChanged,
    TranscriptFinished,
    TurnResumed,
)
from turn.machine import TurnMachine
from turn.states import State

log = logging.getLogger("agentd.call.hearing")

EarFor = Callable[[AudioFeed, Callable[[Event], None]], Ear]
"""Builds the ear that feeds a recogniser and tells what it hears."""


class Hearing:
    """``rate`` is that of the caller's audio inside, ``playback_rate`` that of ours, both in Hz. ``take_voice`` gets
    the voices for the caller's language.
    """

    def __init__(
        self,
        agent: Agent,
        vendors: Vendors,
        machine: TurnMachine,
        *,
        rate: int,
        playback_rate: int,
        ear_for: EarFor,
        log: EventLog,
        feed: Callable[[Event], None],
        spawn: Callable[[Any, str], "asyncio.Task[None]"],
        take_voice: Callable[[Sequence[Speaker]], None],
        meter: Meter | None = None,
    ) -> None:
        self.recogniser = vendors.stts[0].name if vendors.stts else ""  # who listens
        self._meter = meter
        self._agent = agent
        self._vendors = vendors
        self._machine = machine
        self._log = log
        self._feed = feed
        self._take_voice = take_voice
        self._audio = AudioFeed(rate)
        self._spoke_at: float | None = None  # since when the caller has said what is not answered yet
        self._metered = 0  # bytes that recognisers were given
        self._ear = ear_for(self._audio, self._heard)
        self._language = ""  # that the caller was heard to speak, once the voice follows it
        self._pause: PauseJudge | None = None
        if setup.is_acoustic(agent):
            self._pause = self._pause_judge(rate, spawn)
        self.interruption: InterruptionJudge | None = None
        if setup.predicts_interruptions(agent):
            self.interruption = self._interruption_judge(playback_rate)
        self._spoken_language(agent.stt.language or "en-US")

    @property
    def turn_detection(self) -> str:
        """Who decides that the caller is done, as `turn_end` says it."""
        return self._pause.name if self._pause is not None else "stt"

    @property
    def language(self) -> str:
        """That of the caller, where the voice follows it; else empty."""
        return self._language

    def hear(self, data: bytes) -> None:
        """Caller audio, any length. A plain call."""
        self._ear.hear(data)

    def isolate(self, isolation: Isolation | None) -> None:
        """Take the noise out of what is heard from now on. ``None``: no longer."""
        self._ear.isolation = isolation

    async def recognise(
        self, is_over: Callable[[], bool], give_up: Callable[[ProviderError | None], None], tell: Tell
    ) -> None:
        def told(name: str, error: ProviderError, then: str) -> None:
            self.metered()
            self.recogniser = then or self.recogniser
            tell(name, error, then)

        stts = self._vendors.stts
        await recognise(stts, self._audio, self._recognised, is_over=is_over, give_up=give_up, tell=told)

    def metered(self) -> None:
        """What the recogniser has been given until now goes into the call's figures."""
        given, self._metered = self._audio.taken - self._metered, self._audio.taken
        if self._meter is not None:
            self._meter.listened(self.recogniser, given / 2 / self._audio.rate)

    def turn_taken(self) -> None:
        """The caller's words are being answered."""
        self._spoke_at = None
        if self._pause is not None:
            self._pause.turn_taken()
        if self.interruption is not None:
            self.interruption.turn_taken()

    def since_speech(self) -> dict[str, int]:
        """How long it took us to fall silent, in milliseconds: nothing where no voice silenced us."""
        if self._spoke_at is None:
            return {}
        return {"stop_ms": round((asyncio.get_running_loop().time() - self._spoke_at) * 1000)}

    def close(self) -> None:
        self._audio.close()
        self.metered()

    # What the ear tells ----------------------------------------------------------------------------------

    def _heard(self, event: Event) -> None:
        match event:
            case SpeechStarted(spoken):
                self._spoke_at = asyncio.get_running_loop().time() - spoken
                self._log.append("speech_started", since=self._log.at(self._spoke_at))
                self._vendors.ready()  # an answer will be wanted soon
                if self._pause is not None:
                    self._pause.speech_started()
                if self.interruption is not None:
                    self.interruption.speech_started(spoken)
            case SpeechStopped(quiet):
                self._log.append("speech_stopped", until=round(self._log.now() - quiet, 4))
                if self.interruption is not None:
                    self.interruption.speech_stopped(quiet)
            case _:
                pass
        self._feed(event)
        if self._pause is not None and isinstance(event, SpeechStopped):
            self._pause.speech_stopped()

    # What the recogniser tells ---------------------------------------------------------------------------

    def _recognised(self, event: SttEvent) -> None:
        match event:
            case Partial(text):
                self._log.append("partial", transcript=text)
                self._feed(TranscriptChanged(self._of_the_caller(text, is_final=False)))
            case Final(text, confidence):
                self._log.append("final", transcript=text, confidence=confidence)
                if event.language:
                    self._language_heard(event.language)
                words = self._of_the_caller(self._sure(text, confidence), is_final=True)
                if event.end_of_turn or (event.speech_final and self._pause is None):
                    self._feed(EndOfTurn(words, confidence, self._ear.quiet))
                else:
                    self._feed(TranscriptFinished(words, confidence))
            case Eager(text):
                if self._agent.speak:  # otherwise early generation is off
                    self._feed(EagerEndOfTurn(text))
            case Resumed():
                self._feed(TurnResumed())
        if self._pause is not None:
            self._pause.words_changed()

    def _sure(self, text: str, confidence: float | None) -> str:
        """Words below the recognizer's `minConfidence` are none."""
        least = self._agent.stt.min_confidence
        if confidence is None or least is None or confidence >= least:
            return text
        self._log.append("unsure", transcript=text, confidence=confidence)
        return ""

    def _of_the_caller(self, text: str, *, is_final: bool) -> str:
        """The words, unless they are our own that come back."""
        if self.interruption is None or not text or self.interruption.words_came(text, is_final=is_final):
            return text
        return ""

    # Judges ----------------------------------------------------------------------------------------------

    def _pause_judge(self, rate: int, spawn: Callable[[Any, str], "asyncio.Task[None]"]) -> PauseJudge:
        judge = PauseJudge(
            self._vendors.judge,
            Voice(rate),
            lambda: self._machine.endpoint.transcript,
            self._feed,
            spawn,
            threshold=self._agent.turn_detection.threshold,
        )
        self._ear.listeners.append(lambda frame, voiced: judge.hear(frame))
        return judge

    def _interruption_judge(self, rate: int) -> InterruptionJudge:
        judge = InterruptionJudge(
            self._feed,
            lambda: self._machine.state is State.SPEAKING,
            asyncio.get_running_loop().time,
            rate=rate,
            threshold=self._agent.barge_in.threshold,
        )
        self._ear.listeners.append(judge.hear)
        return judge

    # The caller's language -------------------------------------------------------------------------------

    def _spoken_language(self, language: str) -> None:
        for judge in (self._pause, self.interruption):
            if judge is not None:
                judge.language = language

    def _language_heard(self, language: str) -> None:
        """The verb's `autoLockLanguage`: the voice follows the caller's language; ``true`` the first one only."""
        self._spoken_language(language)
        lock = self._agent.auto_lock_language
        if not lock or language == self._language or (lock is True and self._language):
            return
        self._language = language
        try:
            voices = self._vendors.voice_for(language)
        except (ProviderError, LookupError, ImportError) as exc:
            log.warning("the voice stays: there is none for this language", extra={"why": str(exc)})
            return
        if voices is not None:
            self._take_voice(voices)
        self._log.append("language", language=language)
