"""What `config`, `say` and tokens let the caller hear, and what `bargeIn` lets the application hear of them."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from agentd import errors
from agentd.call.outcome import Outcome
from agentd.call.vendors import Vendors, failed
from agentd.call.voices import Voices
from agentd.jambonz.beginning import Beginning
from agentd.jambonz.line import Line
from agentd.jambonz.stage import Ears, Stage, Utterance
from agentd.jambonz.tokens import Tokens, Waiting
from config import payloads
from config.conversation import Hook
from config.payloads import Payload
from config.standing import Standing, configured
from config.verb import Agent

log = logging.getLogger("agentd.session")


class Session(Protocol):
    """Whose talk it is; each is a plain call."""

    def tell(self, type_: str, payload: Payload) -> None:
        """The application, which need not answer."""
        ...

    def heard(self, hook: Hook, payload: Payload) -> None:
        """What the caller said is for this hook."""
        ...

    def changed(self) -> None:
        """Something was said, or began to be."""
        ...

    def broke(self, outcome: Outcome) -> None:
        """Nothing can be said or heard any more."""
        ...


class Talk:
    """One call's. It takes the line when it is needed, until :meth:`leave`."""

    def __init__(self, beginning: Beginning, line: Line, session: Session) -> None:
        self.standing = Standing()
        self.stage: Stage | None = None
        self._beginning = beginning
        self._line = line
        self._session = session
        self._moving = asyncio.Lock()  # on or off the line: a command may come while a verb is at it
        self._run: asyncio.Task[None] | None = None
        self._voices: dict[str, Voices] = {}  # by synthesizer
        self._vendors: list[Vendors] = []  # that serve the stage
        self._waiting = Waiting(lambda: self._event("stream_resumed"))
        self._streamed: set[Utterance] = set()  # of tokens, and not over

    @property
    def is_streaming(self) -> bool:
        """Is text that was streamed still to be heard?"""
        return bool(self._streamed)

    @property
    def is_busy(self) -> bool:
        """Is something to be said, or is the caller listened to?"""
        return self.is_streaming or self.standing.barge is not None

    # Verbs -----------------------------------------------------------------------------------------------

    async def configure(self, data: Mapping[str, Any], *, is_free: bool = True) -> list[str]:
        """The verb `config`; returns what of it cannot be had. ``is_free``: nothing else has the line; otherwise it
        holds for what comes later.
        """
        before = self.standing
        self.standing, problems = configured(before, data)
        if is_free and (self.standing.barge or self.standing.streams or self.stage is not None):
            await self._on_line()
            if (self.standing.barge, self.standing.verb) != (before.barge, before.verb):
                self._listen()
            self._told_of_streaming(before)
        return problems

    async def stream(self, *, is_on: bool) -> None:
        """Take tokens, or none."""
        before, self.standing = self.standing, replace(self.standing, streams=is_on)
        await self._on_line()
        self._told_of_streaming(before)

    async def say(self, text: str, synthesizer: Any = None) -> Utterance:
        """Until it is over. Raises what the making of a voice raises."""
        stage = await self._on_line()
        utterance = Utterance(self._voice(synthesizer), text)
        if not stage.say(utterance):
            return utterance
        try:
            await utterance.is_over.wait()
        except asyncio.CancelledError:
            stage.withdraw(utterance)
            raise
        return utterance

    async def leave(self) -> None:
        """Somebody else takes the line."""
        async with self._moving:
            stage, self.stage = self.stage, None
            if stage is not None and self._run is not None:
                stage.close()
                await asyncio.gather(self._run, return_exceptions=True)
            self._voices.clear()
            for made in self._vendors:
                await made.aclose()
            self._vendors.clear()

    # Streamed text ---------------------------------------------------------------------------------------

    def tokens(self, text: str) -> Payload:
        """`tts:tokens`: what the application is answered."""
        stage = self.stage
        if stage is None or not self.standing.streams:
            return {"status": "failed", "reason": "expected a ttsStream that is enabled, got none"}
        if stage.is_interrupted:
            return {"status": "ok"}  # sent before the interruption was heard of: nobody wants to hear it now
        was_full = self._waiting.is_full
        if self._waiting.takes(text) and self._put(stage, text):
            return {"status": "ok"}
        if not was_full:
            self._event("stream_paused")
        return {"status": "failed", "reason": "full"}

    def flush(self) -> None:
        """`tts:flush`: what was streamed is whole."""
        for utterance in self._streamed:
            if utterance.tokens is not None:
                utterance.tokens.end()

    def clear(self) -> None:
        """`tts:clear`: no more of it is said."""
        for utterance in list(self._streamed):
            if self.stage is not None:
                self.stage.withdraw(utterance)

    def _put(self, stage: Stage, text: str) -> bool:
        open_ = next((each.tokens for each in self._streamed if each.tokens and not each.tokens.is_whole), None)
        if open_ is not None:
            open_.put(text)
            return True
        tokens = Tokens(self._waiting, self._voice(self.standing.stream_voice))
        tokens.put(text)
        utterance = Utterance(tokens.voices, tokens=tokens)
        self._streamed.add(utterance)
        if stage.say(utterance):
            self._session.changed()
            return True
        self._streamed.discard(utterance)
        tokens.drop()
        return False

    def _told_of_streaming(self, before: Standing) -> None:
        if self.standing.streams == before.streams:
            return
        self._event("stream_open" if self.standing.streams else "stream_closed")
        if not self.standing.streams:
            self.flush()

    # What the stage tells --------------------------------------------------------------------------------

    def caller_spoke(self, transcript: str, confidence: float | None, keys: str) -> None:
        """The caller's turn is over."""
        barge = self.standing.barge
        if barge is None:
            return
        if not barge.is_sticky:
            self.standing = replace(self.standing, barge=None)
            self._listen()
        if barge.hook is None:
            return
        if keys:
            self._session.heard(barge.hook, payloads.dtmf_detected(keys))
            return
        stt = self._agent().stt
        told = payloads.speech_detected(transcript, confidence, stt.language or "en-US", stt.vendor)
        self._session.heard(barge.hook, told)

    def interrupted(self) -> None:
        """The caller has silenced what was being said."""
        if self.standing.streams:
            self._event("user_interruption")

    def said(self, utterance: Utterance) -> None:
        """It is over."""
        self._streamed.discard(utterance)
        if self.standing.tracks and (utterance.heard or utterance.is_interrupted):
            spoken = payloads.tts_spoken(utterance.heard, is_interrupted=utterance.is_interrupted)
            self._session.tell("tts:streaming-event", spoken)
        self._session.changed()

    # The line --------------------------------------------------------------------------------------------

    async def _on_line(self) -> Stage:
        async with self._moving:
            if self.stage is None:
                stage, begun = self._line.stage(self._agent(), self), asyncio.Event()
                self._run = asyncio.create_task(self._hold(stage, begun), name="stage")
                await begun.wait()
                self.stage = stage
                self._listen()
            return self.stage

    async def _hold(self, stage: Stage, begun: asyncio.Event) -> None:
        outcome = Outcome(errors.SERVER_FAILURE)
        try:
            outcome = await stage.run(begun)
        except Exception:
            log.exception("what an application says cannot be said")
        finally:
            begun.set()
        if self.stage is stage:
            self._session.broke(outcome)

    def _listen(self) -> None:
        """To the caller, or not: as `bargeIn` has it."""
        barge = self.standing.barge
        if self.stage is None:
            return
        if barge is None:
            self.stage.deafen()
            return
        agent = self._agent()
        made = self._line.vendors(agent, ["stt"] if barge.speech else [])
        self._vendors.append(made)
        self.stage.listen(Ears(agent, made, barge.words, barge.speech, barge.digits))

    def _agent(self, **keys: Any) -> Agent:
        """One that has the voice and the recogniser of the call so far."""
        return self._beginning.agent({**self.standing.verb, **keys})

    def _voice(self, synthesizer: Any) -> Voices:
        """That of the call so far, or of one utterance."""
        own = {"tts": synthesizer} if isinstance(synthesizer, Mapping) and synthesizer else {}
        key = repr((self.standing.verb.get("tts"), own))
        if key not in self._voices:
            agent = self._agent(**own)
            made = self._line.vendors(agent, ["tts"])
            self._vendors.append(made)
            tell = failed(self._line.log, "tts")
            self._voices[key] = Voices(made.voices, agent.deadlines, tell, self._line.meter.characters)
        return self._voices[key]

    def _event(self, name: str) -> None:
        self._session.tell("tts:streaming-event", {"event_type": name})
