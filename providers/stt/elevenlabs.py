"""ElevenLabs' Scribe on ``/v1/speech-to-text/realtime``: words are partial until they are committed, by us or by its
detection of silence.
"""

import base64
import json
import logging
import math
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import quote, urlencode

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, SttEvent, SttSpec
from providers.failures import failure
from providers.options import snake_case
from providers.registry import Shared
from providers.sockets import decoded, dial
from providers.stt.parting import Parting
from providers.stt.spec import account, languages, listed, mean, objects, pieces, terms
from providers.stt.stream import listen

log = logging.getLogger("agentd.stt.elevenlabs")

URL = "wss://api.elevenlabs.io"
DEFAULT_MODEL = "scribe_v2_realtime"
VAD_SILENCE = 0.5  # seconds; theirs are 1.5, for which nobody wants to wait on a telephone
LEAST_COMMIT = 0.3  # seconds of audio; with less, a commit is ignored
LONGEST = 1.0  # seconds of audio in a message
MOST_TERMS, LONGEST_TERM = 50, 20  # characters

NOT_FOR_THE_WIRE = {
    *("modelId", "model", "keyterms", "commitStrategy"),  # sent in other words
    *("apiKey", "host"),  # where and as whom, not what
}

ERRORS = {
    "auth_error": "unauthorized",
    "unaccepted_terms": "unauthorized",  # of service, by the account's owner
    "quota_exceeded": "quota-exceeded",
    "rate_limited": "rate-limited",
    "queue_overflow": "rate-limited",
    "resource_exhausted": "rate-limited",
    "session_time_limit_exceeded": "connection-lost",  # the session is over; a new one is not
    "insufficient_audio_activity": "timeout",
    "input_error": "bad-request",
    "invalid_request": "bad-request",
    "chunk_size_exceeded": "bad-request",
    "transcriber_error": "server-error",
    "error": "server-error",
}


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(spec: SttSpec) -> dict[str, Any]:
    """The query; a list stands for a key that is repeated."""
    options = spec.options
    spoken = languages(spec)
    query: dict[str, Any] = {
        "model_id": spec.model or options.get("modelId") or options.get("model") or DEFAULT_MODEL,
        "audio_format": f"pcm_{spec.rate}",
        "commit_strategy": options.get("commitStrategy") or ("vad" if spec.ends_turns else "manual"),
        "language_code": spoken[0] if spoken else None,
        "secondary_languages": spoken[1:],
        "keyterms": terms(spec, *listed(options.get("keyterms")), most=MOST_TERMS, longest=LONGEST_TERM),
    }
    if query["commit_strategy"] == "vad":
        query["vad_silence_threshold_secs"] = VAD_SILENCE
    for name, value in options.items():
        if name not in NOT_FOR_THE_WIRE and value is not None:
            query[snake_case(name)] = value
    return {name: value for name, value in query.items() if value not in (None, [])}


def _written(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value]
    return json.dumps(value) if isinstance(value, (bool, dict)) else str(value)


# From the wire --------------------------------------------------------------------------------------------


class Scribe:
    """What one connection says and is told.

    A commit is told once, or with ``include_timestamps`` twice: then the second one counts, which alone says how sure
    it is, and in which language. Scribe has no goodbye and does not hang up. So at the end a commit follows that has
    nothing to commit: once that is refused, all words were told, and the talk ``is_over``.
    """

    # Without any audio Scribe hangs up some time (insufficient_audio_activity), and nothing but audio is audio.
    keepalive: float | None = None

    def __init__(self, spec: SttSpec, query: Mapping[str, Any], secrets: Iterable[str] = ()) -> None:
        self._vendor = spec.vendor
        self._secrets = tuple(secrets)
        self._rate = spec.rate
        self._most, self._least = (int(spec.rate * seconds) * 2 for seconds in (LONGEST, LEAST_COMMIT))
        self._commits = not spec.ends_turns or query["commit_strategy"] == "manual"
        self._is_endpointing = spec.ends_turns and query["commit_strategy"] == "vad"
        timed = query.get("include_timestamps") in (True, "true")
        self._committed = "committed_transcript_with_timestamps" if timed else "committed_transcript"
        self._partial = ""
        self._uncommitted = 0  # bytes
        self._is_due = False  # a commit waits for enough audio
        self._asked = 0  # commits of ours without an answer
        self._has_ended = False
        self.is_over = False

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        if isinstance(item, bytes):
            return self._audio(item)
        if item is not Mark.SPEECH_STOPPED or not self._commits:
            return []
        self._is_due = self._uncommitted < self._least
        return [] if self._is_due else [self._chunk(b"", commit=True)]

    def idle(self) -> Iterable[str | bytes]:
        return []

    def end(self) -> Iterable[str | bytes]:
        self._has_ended = True
        return [self._chunk(b"", commit=True), self._chunk(b"", commit=True)]

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        said = decoded(message, self._vendor)
        match said.get("message_type"):
            case "partial_transcript":
                return self._changed(str(said.get("text") or "").strip())
            case "commit_throttled":
                self.is_over = self._has_ended
                return self._final("")
            case self._committed:
                words = [word for word in objects(said.get("words")) if word.get("type") == "word"]
                sure = mean(word.get("logprob") for word in words)
                confidence = None if sure is None else math.exp(min(sure, 0.0))
                language = str(said.get("language_code") or "") or None
                return self._final(str(said.get("text") or "").strip(), confidence, language)
            case "warning":
                log.warning("elevenlabs warns", extra={"why": said.get("warning")})
            case str(kind) if kind in ERRORS or isinstance(said.get("error"), str):
                if self._has_ended:
                    self.is_over = True
                    return []
                told = f"{kind}: {said.get('error') or 'no description'}"
                raise failure("stt", self._vendor, ERRORS.get(kind, "server-error"), told, secrets=self._secrets)
        return []

    def _audio(self, pcm: bytes) -> Iterable[str]:
        for piece in pieces(pcm, self._most):
            self._uncommitted += len(piece)
            yield self._chunk(piece, commit=self._is_due and self._uncommitted >= self._least)

    def _chunk(self, pcm: bytes, *, commit: bool) -> str:
        if commit:
            self._is_due, self._uncommitted = False, 0
            self._asked += 1
        return json.dumps(
            {
                "message_type": "input_audio_chunk",
                "audio_base_64": base64.b64encode(pcm).decode(),
                "commit": commit,
                "sample_rate": self._rate,
            }
        )

    def _changed(self, text: str) -> list[SttEvent]:
        if text == self._partial:
            return []
        self._partial = text
        return [Partial(text)]

    def _final(self, text: str, confidence: float | None = None, language: str | None = None) -> list[SttEvent]:
        had_words, is_asked = bool(text or self._partial), self._asked > 0
        self._partial, self._asked = "", max(self._asked - 1, 0)
        if not had_words and not is_asked:
            return []  # silence, for which nobody waits
        return [Final(text, confidence, speech_final=self._is_endpointing, language=language)]


# The vendor -----------------------------------------------------------------------------------------------


class ElevenLabsStt:
    def __init__(self, spec: SttSpec) -> None:
        self._spec = spec
        self._account = account(spec, URL)
        self._query = to_wire(spec)

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        """Dials at each call, with the words of a lost connection for the feed to bring again. Raises
        :class:`ProviderError`.
        """
        key, secrets = self._account.key, (self._account.key,)
        query = urlencode({k: _written(v) for k, v in self._query.items()}, doseq=True, quote_via=quote)
        url = f"{self._account.url}/v1/speech-to-text/realtime?{query}"
        headers, lookup = {"xi-api-key": key}, self._spec.lookup
        wire = await dial("stt", self._spec.vendor, url, headers=headers, secrets=secrets, lookup=lookup)
        scribe = Scribe(self._spec, self._query, secrets)
        talk = listen(Parting(wire, lambda: scribe.is_over), scribe, audio)
        async with aclosing(talk) as events:  # type: ignore[type-var]
            async for event in events:
                yield event


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_stt(spec: SttSpec, shared: Shared) -> ElevenLabsStt:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    return ElevenLabsStt(spec)
