"""Speechmatics: the realtime recognisers on ``/v2``, which tell silence, and Agent STT on ``/v2/agent``, whose turn
detection is its own.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote, urlsplit

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.failures import failure, kind_of
from providers.registry import Shared
from providers.sockets import DIAL, Wire, decoded, dial
from providers.stt.parting import Parting
from providers.stt.spec import account, languages, mean, objects, pieces, terms
from providers.stt.stream import listen

log = logging.getLogger("agentd.stt.speechmatics")

URL = "wss://eu2.rt.speechmatics.com"
DEFAULT_MODEL = "enhanced"
MAX_DELAY = 1.0  # seconds until words are final; 0.7 is the least there is, and costs accuracy
END_OF_UTTERANCE = 0.5  # seconds of silence; it has to be below max_delay
START_WITH_VOCABULARY = 15.0  # seconds until the session begins; without additional words it does at once
LONGEST = 1.0  # seconds of audio in a message
MOST_TERMS, LONGEST_TERM = 1000, 100  # characters

NOT_FOR_THE_WIRE = {"apiKey", "host", "profile", "model", "transcription_config"}
LEADING = " .,;:!?…、。，！？"  # what belongs to words that are final already

ERRORS = {
    **dict.fromkeys(("not_authorised", "not_allowed"), "unauthorized"),
    **dict.fromkeys(("insufficient_funds", "timelimit_exceeded"), "quota-exceeded"),
    "quota_exceeded": "rate-limited",  # too many sessions at once; the quota is `timelimit_exceeded`
    "buffer_error": "rate-limited",  # audio came faster than real time
    **dict.fromkeys(("idle_timeout", "start_recognition_timeout"), "timeout"),
    **dict.fromkeys(("session_timeout", "session_transfer"), "connection-lost"),
    **dict.fromkeys(("job_error", "unknown_error"), "server-error"),
    **dict.fromkeys(("data_error", "protocol_error"), "bad-request"),  # and all that begins with invalid_
}
CLOSINGS = {1003: "bad-request", 4001: "unauthorized", 4005: "rate-limited", 4013: "server-error"}


# To the wire ----------------------------------------------------------------------------------------------


def is_agent(spec: SttSpec) -> bool:
    return bool(spec.options.get("profile")) or model_of(spec).startswith("linden")


def model_of(spec: SttSpec) -> str:
    return str(spec.model or spec.options.get("model") or _config(spec).get("model") or "")


def path(spec: SttSpec) -> str:
    profile = str(spec.options.get("profile") or "")
    return ("/agent" if is_agent(spec) else "") + (f"/{quote(profile, safe='')}" if profile else "")


def to_wire(spec: SttSpec) -> dict[str, Any]:
    """The message that begins a session. What the author wrote into ``transcription_config`` is laid over ours."""
    first = languages(spec)[:1] or ["en"]
    if len(languages(spec)) > 1:
        log.warning("speechmatics hears one language", extra={"language": first[0]})
    theirs = _config(spec)
    config: dict[str, Any] = {"language": first[0], "enable_partials": True}
    if not is_agent(spec):
        config |= {"model": DEFAULT_MODEL, "max_delay": MAX_DELAY}
        if spec.ends_turns:
            config["conversation_config"] = {"end_of_utterance_silence_trigger": END_OF_UTTERANCE}
    if model := model_of(spec):
        config["model"] = model
    elif "operating_point" in theirs:  # the same by its old name; both are refused
        del config["model"]
    vocabulary = [{"content": term} for term in terms(spec, most=MOST_TERMS, longest=LONGEST_TERM)]
    if vocabulary := [*(theirs.get("additional_vocab") or []), *vocabulary]:
        config["additional_vocab"] = vocabulary
    start: dict[str, Any] = {
        "message": "StartRecognition",
        "audio_format": {"type": "raw", "encoding": "pcm_s16le", "sample_rate": spec.rate},
        "transcription_config": config | {k: v for k, v in theirs.items() if k not in ("model", "additional_vocab")},
    }
    if is_agent(spec) and not spec.options.get("profile"):  # a profile is a turn detection already
        start["turn_config"] = {"turn_detection_mode": "vad" if spec.ends_turns else "external"}
    return start | {k: v for k, v in spec.options.items() if k not in NOT_FOR_THE_WIRE and v is not None}


def _config(spec: SttSpec) -> Mapping[str, Any]:
    found = spec.options.get("transcription_config")
    return found if isinstance(found, Mapping) else {}


# From the wire --------------------------------------------------------------------------------------------


class Session:
    """What one connection says and is told. Realtime and Agent STT call the same things by other names.

    Words become final piece by piece, and the end of an utterance or turn comes behind them in a message of its own:
    a final without words ends the turn with those that came before it. Where agentd ends the turns,
    ForceEndOfUtterance asks for the words; then an end is told only when there were none, so that nobody waits.

    After its last word Speechmatics waits for us to hang up: ``is_over``.
    """

    # It hangs up after an hour without audio; websockets' own pings keep the rest of the way open.
    keepalive: float | None = None

    def __init__(self, spec: SttSpec, secrets: Iterable[str] = ()) -> None:
        self.is_over = False
        self._vendor = spec.vendor
        self._secrets = tuple(secrets)
        self._ends_turns = spec.ends_turns
        self._is_agent = is_agent(spec)
        self._second = spec.rate * 2  # bytes
        self._sent = 0  # messages of audio
        self._bytes = 0
        self._partial = ""
        self._is_asked = False  # for words, which have not come

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        if isinstance(item, bytes):
            return self._audio(item)
        if item is not Mark.SPEECH_STOPPED or self._ends_turns:
            return []
        self._is_asked = True
        return [json.dumps({"message": "ForceEndOfUtterance", "timestamp": self._bytes / self._second})]

    def idle(self) -> Iterable[str | bytes]:
        return []

    def end(self) -> Iterable[str | bytes]:
        return [json.dumps({"message": "EndOfStream", "last_seq_no": self._sent})]

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        said = decoded(message, self._vendor)
        # Agent STT may pass on what the realtime recogniser inside it says, which is the same words again.
        match self._is_agent, said.get("message"):
            case (False, "AddPartialTranscript"):
                return self._changed(_text(said.get("metadata")))
            case (True, "AddPartialSegment"):
                return self._changed(_text(said.get("segment")))
            case (False, "AddTranscript"):
                return self._final(_text(said.get("metadata")), mean(_confidences(said.get("results"))))
            case (True, "AddSegment"):
                return self._final(_text(said.get("segment")))
            case (False, "EndOfUtterance") | (True, "EndOfTurn"):
                return self._ended()
            case (_, "EndOfTranscript"):
                self.is_over = True
            case (_, "Warning"):
                log.warning("speechmatics warns", extra={"code": said.get("type"), "why": said.get("reason")})
            case (_, "Error"):
                raise self.failure(said)
        return []

    def failure(self, said: Mapping[str, Any]) -> ProviderError:
        word = str(said.get("type") or "")
        told = f"{word}: {said.get('reason') or 'no reason given'}"
        return failure("stt", self._vendor, ERRORS.get(word) or kind_of(None, word), told, secrets=self._secrets)

    def _audio(self, pcm: bytes) -> Iterable[bytes]:
        for piece in pieces(pcm, self._second):
            self._sent += 1
            self._bytes += len(piece)
            yield piece

    def _changed(self, text: str) -> list[SttEvent]:
        if text == self._partial:
            return []
        self._partial = text
        return [Partial(text)]

    def _final(self, text: str, confidence: float | None = None) -> list[SttEvent]:
        if not text:
            return []  # it covers the quiet before words that are partial still
        self._partial, self._is_asked = "", False
        return [Final(text, confidence)]

    def _ended(self) -> list[SttEvent]:
        had_words, is_asked = bool(self._partial), self._is_asked
        self._partial, self._is_asked = "", False
        if self._ends_turns:
            return [Final("", speech_final=not self._is_agent, end_of_turn=self._is_agent)]
        return [Final("")] if had_words or is_asked else []


def _text(told: Any) -> str:
    """The words; a punctuation mark alone, which comes when its words are final already, is none."""
    text = str((told if isinstance(told, dict) else {}).get("transcript") or "").strip().lstrip(LEADING)
    return text if any(map(str.isalnum, text)) else ""


def _confidences(results: Any) -> Iterable[Any]:
    for result in objects(results):
        if result.get("type") == "word":
            yield next(objects(result.get("alternatives")), {}).get("confidence")


# The vendor -----------------------------------------------------------------------------------------------


class SpeechmaticsStt:
    def __init__(self, spec: SttSpec) -> None:
        self._spec = spec
        self._account = account(spec, URL)
        self._start = to_wire(spec)
        where = self._account.url
        self.url = (where if urlsplit(where).path.strip("/") else f"{where}/v2") + path(spec)

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        """Dials at each call, with the words of a lost connection for the feed to bring again. Raises
        :class:`ProviderError`.
        """
        key, secrets = self._account.key, (self._account.key,)
        wire = await dial(
            "stt",
            self._spec.vendor,
            self.url,
            headers={"Authorization": f"Bearer {key}"},
            secrets=secrets,
            closings=CLOSINGS,
            lookup=self._spec.lookup,
        )
        session = Session(self._spec, secrets)
        try:
            await self._begin(wire, session)
        except BaseException:
            await wire.close()
            raise
        talk = listen(Parting(wire, lambda: session.is_over), session, audio)
        async with aclosing(talk) as events:  # type: ignore[type-var]
            async for event in events:
                yield event

    async def _begin(self, wire: Wire, session: Session) -> None:
        """Audio that comes before RecognitionStarted is lost."""
        limit = START_WITH_VOCABULARY if "additional_vocab" in self._start["transcription_config"] else DIAL
        try:
            async with asyncio.timeout(limit):
                await wire.send(json.dumps(self._start))
                while (message := await wire.receive()) is not None:
                    said = decoded(message, self._spec.vendor)
                    if said.get("message") == "RecognitionStarted":
                        return
                    if said.get("message") == "Error":
                        raise session.failure(said)
        except TimeoutError:
            told = f"expected RecognitionStarted within {limit:.0f} s, got none"
            raise failure("stt", self._spec.vendor, "timeout", told) from None
        raise failure("stt", self._spec.vendor, "connection-lost", "expected RecognitionStarted, got a close")


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_stt(spec: SttSpec, shared: Shared) -> SpeechmaticsStt:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    return SpeechmaticsStt(spec)
