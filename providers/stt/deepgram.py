"""Deepgram's nova models on ``/v1/listen``: finals piece by piece, an endpointing of their own, no turn detection."""

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

from providers import deepgram_sdk
from providers.audio_feed import AudioFeed, Mark
from providers.base import Final, Partial, ProviderError, SttEvent, SttSpec
from providers.deepgram_sdk import SdkSocket
from providers.failures import failure, kind_of, redact
from providers.options import snake_case
from providers.registry import Shared
from providers.sockets import decoded
from providers.stt.spec import languages, listed, primary
from providers.stt.stream import Dialect, listen

log = logging.getLogger("agentd.stt.deepgram")

DEFAULT_MODEL = "nova-3"
ENDPOINTING = 300  # milliseconds of quiet
UTTERANCE_END = 1000  # milliseconds between two words; less is refused
KEEPALIVE = 4.0  # seconds; Deepgram asks for one every 3 to 5, and hangs up after 10

# Limits of a request: 100 key terms and 500 tokens, beyond which the whole request is refused. Tokens are not ours to
# count; three characters are fewer than one has on average in any language with an alphabet.
MOST_TERMS, MOST_TERM_CHARACTERS = 100, 1500

NOT_FOR_THE_WIRE = {
    *("model", "customModel", "keyterms", "keyterm", "keywords", "languageHints"),  # sent in other words
    *("apiKey", "deepgramSttUri", "deepgramSttUseTls"),  # where and as whom, not what
    "shortUtterance",  # a switch of jambonz's own
}
RENAMED = {"smartFormatting": "smart_format"}  # the others are their own names in snake_case

_TAKES_KEYWORDS = re.compile(r"(nova$|nova-2|nova-(general|phonecall|medical)|2-|enhanced|base|whisper)")
# Tags that are more than a language. The likes of de-DE are not among those documented, and mean no more than de.
_REGIONAL = re.compile(r"(en|zh|ar)-\w+|es-419|fr-CA|pt-(BR|PT)|de-CH|nl-BE|sv-SE|da-DK|ko-KR|th-TH")


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(spec: SttSpec) -> dict[str, Any]:
    """The query of ``/v1/listen``; a list stands for a key that is repeated."""
    options = spec.options
    model = model_of(spec, DEFAULT_MODEL)
    query: dict[str, Any] = {
        "model": model,
        "encoding": "linear16",
        "sample_rate": spec.rate,
        "channels": 1,
        "interim_results": True,
        "punctuate": True,
        "smart_format": True,
        "no_delay": True,  # smart_format would hold a final back for seconds to see how a number goes on
        "endpointing": ENDPOINTING,
        "utterance_end_ms": UTTERANCE_END,
        "vad_events": True,
        **_languages(spec, model),
        **extras(options),
    }
    if not (query["interim_results"] and query["utterance_end_ms"]):
        del query["utterance_end_ms"]  # it is counted from interim results, and refused without them
    if not query["endpointing"]:
        query["endpointing"] = False  # 0 would be taken for "at once"
    if _TAKES_KEYWORDS.match(model):
        query["keywords"] = [*listed(options.get("keywords")), *terms(spec)]
    else:  # newer models refuse keywords, which may have a boost behind a colon
        query["keyterm"] = terms(spec, *(word.partition(":")[0] for word in listed(options.get("keywords"))))
    return {name: value for name, value in query.items() if value not in (None, [])}


def model_of(spec: SttSpec, default: str) -> str:
    return str(spec.model or spec.options.get("customModel") or spec.options.get("model") or default)


def extras(options: Mapping[str, Any]) -> dict[str, Any]:
    """The recognizer's own options that go out as they are. Those that we do not know do: authors know their vendor."""
    return {
        RENAMED.get(name) or snake_case(name): value
        for name, value in options.items()
        if name not in NOT_FOR_THE_WIRE and value is not None
    }


def terms(spec: SttSpec, *more: str) -> list[str]:
    """The hints as key terms: each once, and as many as a request may have."""
    given = (*listed(spec.options.get("keyterms")), *listed(spec.options.get("keyterm")), *more, *spec.hints)
    wanted = list(dict.fromkeys(term for each in given if (term := each.strip())))
    kept: list[str] = []
    left = MOST_TERM_CHARACTERS
    for term in wanted:
        if len(kept) < MOST_TERMS and len(term) <= left:
            kept.append(term)
            left -= len(term)
    if len(kept) < len(wanted):
        log.warning("more hints than a request may have", extra={"hints": len(wanted), "sent": len(kept)})
    return kept


def _languages(spec: SttSpec, model: str) -> dict[str, Any]:
    hints = listed(spec.options.get("languageHints")) or languages(spec)
    is_multi = "multi" in (spec.language, *spec.languages) or len(languages(spec)) > 1
    if is_multi and model.startswith("nova-3"):
        return {"language": "multi", "language_hint": hints}
    if spec.language == "multi" or (is_multi and model.startswith("nova-2") and set(hints) == {"en", "es"}):
        return {"language": "multi"}
    if is_multi:
        log.warning("this model hears one language", extra={"model": model, "language": spec.language})
    return {"language": spec.language if _REGIONAL.fullmatch(spec.language) else primary(spec.language)}


# From the wire --------------------------------------------------------------------------------------------


class Nova:
    """What one connection says and is told.

    A final comes for every few seconds of speech, and at a pause one with `speech_final`; the interim results behind a
    final begin after its words. Where noise hides the pause, `UtteranceEnd` comes in place of `speech_final`.

    Finalize is sent where agentd decides that the caller is done. Where Deepgram does (``spec.ends_turns``), it would
    only take the decision from it: the words would be final before its endpointing is through.
    """

    keepalive: float | None = KEEPALIVE

    def __init__(self, spec: SttSpec, query: Mapping[str, Any]) -> None:
        self._vendor = spec.vendor
        self._secrets = deepgram_sdk.secrets(account(spec))
        self._finalizes = not spec.ends_turns or not query["endpointing"]
        self._has_language = query.get("language") == "multi"
        self._partial = ""  # as told, and not final yet
        self._has_words = False  # finals were told since the last pause

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        if isinstance(item, bytes):
            return [item]
        return ['{"type": "Finalize"}'] if item is Mark.SPEECH_STOPPED and self._finalizes else []

    def idle(self) -> Iterable[str | bytes]:
        return ['{"type": "KeepAlive"}']

    def end(self) -> Iterable[str | bytes]:
        return ['{"type": "CloseStream"}']

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        said = decoded(message, self._vendor)
        match said.get("type"):
            case "Results":
                return self._interim(said) if not said.get("is_final") else self._final(said)
            case "UtteranceEnd" if self._has_words and not self._partial:
                self._has_words = False
                return [Final("", speech_final=True)]
            case "Error":
                raise refusal(said, self._vendor, self._secrets)
            case "Warning":
                warn(said, self._secrets)
        return []

    def _interim(self, said: Mapping[str, Any]) -> list[SttEvent]:
        text = str(_alternative(said).get("transcript") or "")
        if text == self._partial:
            return []  # it is told once a second, also when nothing has changed
        self._partial = text
        return [Partial(text)]

    def _final(self, said: Mapping[str, Any]) -> list[SttEvent]:
        best = _alternative(said)
        text, is_asked = str(best.get("transcript") or ""), bool(said.get("from_finalize"))
        is_pause = bool(said.get("speech_final")) and not is_asked  # in an answer to Finalize, it is our own word
        had_partial, self._partial = bool(self._partial), ""
        had_words, self._has_words = self._has_words, not is_pause and (self._has_words or bool(text))
        if text:
            language = (best.get("languages") or [None])[0] if self._has_language else None
            return [Final(text, best.get("confidence"), speech_final=is_pause, language=language)]
        # Silence is told as empty finals too. Worth telling are only those that somebody waits for.
        return [Final("", speech_final=is_pause)] if is_asked or had_partial or (is_pause and had_words) else []


def _alternative(said: Mapping[str, Any]) -> Mapping[str, Any]:
    channel = said.get("channel")
    alternatives = channel.get("alternatives") if isinstance(channel, dict) else None
    return alternatives[0] if alternatives and isinstance(alternatives[0], dict) else {}


def refusal(said: Mapping[str, Any], vendor: str, secrets: Iterable[str]) -> ProviderError:
    """What Deepgram calls an error inside a stream. It hangs up behind it."""
    code = str(said.get("code") or said.get("variant") or "")
    told = said.get("description") or said.get("message") or "no description"
    kind = "bad-request" if code.startswith("DATA") else kind_of(None, code)
    return failure("stt", vendor, kind, f"{code}: {told}", secrets=secrets)


def warn(said: Mapping[str, Any], secrets: Iterable[str]) -> None:
    why = redact(f"{said.get('code')}: {said.get('description')}", secrets)
    log.warning("deepgram warns", extra={"why": why})


# The vendor -----------------------------------------------------------------------------------------------


class DeepgramStt:
    """``connect`` is the SDK's for one version of the API, ``query`` what to ask it for."""

    def __init__(
        self, spec: SttSpec, connect: Callable[..., Any], query: Mapping[str, Any], dialect: Callable[[], Dialect]
    ) -> None:
        self._spec = spec
        self._connect = connect
        self._query = dict(query)
        self._dialect = dialect

    async def listen(self, audio: AudioFeed) -> AsyncIterator[SttEvent]:
        """Dials at each call, with the words of a lost connection for the feed to bring again. Raises
        :class:`ProviderError`.
        """
        rest = {name: value for name, value in self._query.items() if name != "model"}
        connect = self._connect(model=self._query["model"], request_options={"additional_query_parameters": rest})
        secrets = deepgram_sdk.secrets(account(self._spec))
        wire = await SdkSocket.open(connect, "stt", self._spec.vendor, secrets=secrets, lookup=self._spec.lookup)
        async with aclosing(listen(wire, self._dialect(), audio)) as events:  # type: ignore[type-var]
            async for event in events:
                yield event


def account(spec: SttSpec) -> dict[str, Any]:
    """Whose key, and where: the recognizer's own options (jambonz has them there) before the server's."""
    options, own = spec.options, dict(spec.credentials)
    if options.get("apiKey"):
        own["apiKey"] = options["apiKey"]
    if uri := str(options.get("deepgramSttUri") or ""):
        scheme = "ws" if options.get("deepgramSttUseTls") is False else "wss"
        own["url"] = uri if "://" in uri else f"{scheme}://{uri}"
    return own


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_stt(spec: SttSpec, shared: Shared) -> DeepgramStt:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    if model_of(spec, DEFAULT_MODEL).startswith("flux"):
        from providers.stt import flux

        return flux.make_stt(spec, shared)
    client = deepgram_sdk.client(shared, spec.vendor, "stt", account(spec))
    query = to_wire(spec)
    return DeepgramStt(spec, client.listen.v1.connect, query, lambda: Nova(spec, query))
