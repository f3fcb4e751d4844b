"""AssemblyAI's streaming recognisers on ``/v3/ws``: words in turns, and turn detection of their own."""

import json
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.failures import failure, kind_of
from providers.options import snake_case
from providers.registry import Shared
from providers.sockets import decoded, dial
from providers.stt.spec import account, languages, listed, mean, objects, pieces, terms
from providers.stt.stream import listen

log = logging.getLogger("agentd.stt.assemblyai")

URL = "wss://streaming.assemblyai.com"
DEFAULT_MODEL = "u3-rt-pro"
ENGLISH_ONLY = "universal-streaming-english"
SHORTEST, LONGEST = 0.05, 1.0  # seconds of audio in a message; anything else is refused with 3007
KEEPALIVE = 4.0  # seconds; the shortest inactivity_timeout that can be asked for is 5, the default none at all
MOST_TERMS, LONGEST_TERM = 100, 50  # characters

NOT_FOR_THE_WIRE = {
    *("speechModel", "model", "keyterms", "keytermsPrompt"),  # sent in other words
    *("apiKey", "host"),  # where and as whom, not what
    "serviceVersion",  # v2 is no more
}
RENAMED = {"minEndOfTurnSilenceWhenConfident": "min_turn_silence"}  # the others are their own names in snake_case

# Both what an Error says and what the connection is closed with behind it.
ERRORS = {
    3005: "server-error",
    3006: "bad-request",
    3007: "rate-limited",  # audio came faster than real time, as it does when a lost connection is made up for
    **dict.fromkeys((3008, 4008, 4010, 4030, 4103), "connection-lost"),  # the session is over; a new one is not
    3009: "rate-limited",  # too many sessions at once
    4000: "bad-request",
    4001: "unauthorized",
    **dict.fromkeys((4002, 4003), "quota-exceeded"),
    4004: "not-found",
    4029: "rate-limited",
    4031: "timeout",
    **dict.fromkeys((4032, 4033, 4034, 4100, 4101), "bad-request"),
    4102: "rate-limited",
}


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(spec: SttSpec) -> dict[str, Any]:
    """The query of ``/v3/ws``."""
    options = spec.options
    model = str(spec.model or options.get("speechModel") or options.get("model") or DEFAULT_MODEL)
    named = (*listed(options.get("keyterms")), *listed(options.get("keytermsPrompt")))
    query: dict[str, Any] = {
        "speech_model": model,
        "sample_rate": spec.rate,
        "encoding": "pcm_s16le",
        "keyterms_prompt": terms(spec, *named, most=MOST_TERMS, longest=LONGEST_TERM),
    }
    if model != ENGLISH_ONLY:
        query["language_codes"] = languages(spec)
        query["language_detection"] = True if spec.languages else None  # then each turn says its language
    for name, value in options.items():
        if name in RENAMED:
            query.setdefault(RENAMED[name], value)
        elif name not in NOT_FOR_THE_WIRE and value is not None:
            query[snake_case(name)] = value
    return {name: value for name, value in query.items() if value not in (None, [])}


def _written(value: Any) -> str:
    return str(value) if isinstance(value, (str, float)) else json.dumps(value, ensure_ascii=False)


# From the wire --------------------------------------------------------------------------------------------


class Turns:
    """What one connection says and is told.

    A turn's words come again and again, whole, under one ``turn_order``. Its end may come twice, the second time
    formatted: the first one is taken, for a caller waits. Where agentd ends the turns, ForceEndpoint asks for the
    words.
    """

    keepalive: float | None = KEEPALIVE

    def __init__(self, spec: SttSpec, query: Mapping[str, Any], secrets: Iterable[str] = ()) -> None:
        self._vendor = spec.vendor
        self._secrets = tuple(secrets)
        self._ends_turns = spec.ends_turns
        self._tells_language = bool(query.get("language_detection"))
        self._least, self._most = (int(spec.rate * seconds) * 2 for seconds in (SHORTEST, LONGEST))
        self._gathered = b""
        self._partial = ""
        self._ended = -1  # the last turn whose end was told

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        if isinstance(item, bytes):
            return self._audio(item)
        # What is still gathered then is the quiet behind the words.
        return ['{"type": "ForceEndpoint"}'] if item is Mark.SPEECH_STOPPED and not self._ends_turns else []

    def idle(self) -> Iterable[str | bytes]:
        return ['{"type": "KeepAlive"}']

    def end(self) -> Iterable[str | bytes]:
        if self._gathered:
            yield self._gathered.ljust(self._least, b"\0")
        yield '{"type": "Terminate"}'

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        said = decoded(message, self._vendor)
        match said.get("type"):
            case "Turn":
                return self._turn(said)
            case "Warning":
                log.warning("assemblyai warns", extra={"code": said.get("warning_code"), "why": said.get("warning")})
            case "Error":
                raise self._failure(said)
            case None if "error" in said:
                raise self._failure(said)
        return []

    def _audio(self, pcm: bytes) -> Iterable[bytes]:
        gathered = self._gathered + pcm
        whole = len(gathered) - len(gathered) % self._least
        self._gathered = gathered[whole:]
        return pieces(gathered[:whole], self._most)

    def _turn(self, said: Mapping[str, Any]) -> list[SttEvent]:
        order, text = said.get("turn_order"), str(said.get("transcript") or "").strip()
        if not isinstance(order, int) or order <= self._ended:
            return []
        words = list(objects(said.get("words")))
        if said.get("end_of_turn"):
            self._ended, self._partial = order, ""
            confidence = mean(word.get("confidence") for word in words)
            language = str(said.get("language_code") or "") if self._tells_language else ""
            return [Final(text, confidence, end_of_turn=self._ends_turns, language=language or None)]
        # Some models leave the word that is being said out of the transcript.
        text = text or " ".join(str(word.get("text") or "") for word in words).strip()
        if text == self._partial:
            return []
        self._partial = text
        return [Partial(text)]

    def _failure(self, said: Mapping[str, Any]) -> ProviderError:
        code, told = said.get("error_code"), str(said.get("error") or "no description")
        kind = ERRORS.get(code) if isinstance(code, int) else None
        message = f"{code}: {told}" if code else told
        return failure("stt", self._vendor, kind or kind_of(None, told), message, secrets=self._secrets)


# The vendor -----------------------------------------------------------------------------------------------


class AssemblyAiStt:
    def __init__(self, spec: SttSpec) -> None:
        self._spec = spec
        self._account = account(spec, URL)
        self._query = to_wire(spec)
        if spec.options.get("serviceVersion") == "v2":
            log.warning("assemblyai has no service version v2 any more; v3 is used")

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        """Dials at each call, with the words of a lost connection for the feed to bring again. Raises
        :class:`ProviderError`.
        """
        key, secrets = self._account.key, (self._account.key,)
        wire = await dial(
            "stt",
            self._spec.vendor,
            f"{self._account.url}/v3/ws?{urlencode({name: _written(value) for name, value in self._query.items()})}",
            headers={"Authorization": key},
            secrets=secrets,
            closings=ERRORS,
            lookup=self._spec.lookup,
        )
        async with aclosing(listen(wire, Turns(self._spec, self._query, secrets), audio)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_stt(spec: SttSpec, shared: Shared) -> AssemblyAiStt:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    return AssemblyAiStt(spec)
