"""Deepgram's Flux on ``/v2/listen``: it hears when a turn ends, and says early when one probably does."""

from collections.abc import Iterable, Mapping
from typing import Any

from providers import deepgram_sdk
from providers.audio_feed import Mark
from providers.base import Eager, Final, Partial, Resumed, SttEvent, SttSpec
from providers.registry import Shared
from providers.sockets import decoded
from providers.stt.deepgram import DeepgramStt, account, extras, model_of, refusal, terms, warn
from providers.stt.spec import languages, listed, mean, objects, primary

ENGLISH, MULTILINGUAL = "flux-general-en", "flux-general-multi"
EAGER = 0.4  # without a threshold for them there are no eager ends; the verb has early generation always on with Flux
# Seconds without audio after which that much silence is sent: Flux has no KeepAlive, and hears time in audio alone.
SILENCE = 1.0


def to_wire(spec: SttSpec) -> dict[str, Any]:
    """The query of ``/v2/listen``; a list stands for a key that is repeated."""
    hints = listed(spec.options.get("languageHints")) or languages(spec)
    is_english = languages(spec) == ["en"] and set(map(primary, hints)) == {"en"}
    model = model_of(spec, ENGLISH if is_english else MULTILINGUAL)
    query: dict[str, Any] = {
        "model": model,
        "encoding": "linear16",
        "sample_rate": spec.rate,
        "keyterm": terms(spec, *(word.partition(":")[0] for word in listed(spec.options.get("keywords")))),
        "language_hint": [] if model == ENGLISH else hints,
        **extras(spec.options),
    }
    end = query.get("eot_threshold")  # an eager one above it is refused
    query.setdefault("eager_eot_threshold", min(EAGER, end) if isinstance(end, (int, float)) else EAGER)
    return {name: value for name, value in query.items() if value not in (None, [])}


class Flux:
    """What one connection says and is told. Its transcripts are those of the whole turn."""

    keepalive: float | None = SILENCE

    def __init__(self, spec: SttSpec) -> None:
        self._vendor = spec.vendor
        self._secrets = deepgram_sdk.secrets(account(spec))
        self._silence = bytes(int(spec.rate * SILENCE) * 2)
        self._partial = ""  # as told, and not final yet

    def take(self, item: bytes | Mark) -> Iterable[str | bytes]:
        return [item] if isinstance(item, bytes) else []  # it decides by itself when the caller has stopped

    def idle(self) -> Iterable[str | bytes]:
        return [self._silence]

    def end(self) -> Iterable[str | bytes]:
        return ['{"type": "CloseStream"}']

    def heard(self, message: str | bytes) -> Iterable[SttEvent]:
        said = decoded(message, self._vendor)
        match said.get("type"):
            case "TurnInfo":
                return self._turn(said)
            case "Error":
                raise refusal(said, self._vendor, self._secrets)
            case "Warning":
                warn(said, self._secrets)
        return []

    def _turn(self, said: Mapping[str, Any]) -> list[SttEvent]:
        text = str(said.get("transcript") or "")
        match said.get("event"):
            case "StartOfTurn" | "Update":
                return self._changed(text)
            case "EagerEndOfTurn":
                return [Eager(text)]
            case "TurnResumed":
                return [Resumed(), *self._changed(text)]
            case "EndOfTurn":
                self._partial = ""
                language = (said.get("languages") or [None])[0]
                # `end_of_turn_confidence` is about the pause; the verb's `minConfidence` is about the words.
                confidence = mean(word.get("confidence") for word in objects(said.get("words")))
                return [Final(text, confidence, end_of_turn=True, language=language)]
        return []

    def _changed(self, text: str) -> list[SttEvent]:
        if text == self._partial:
            return []
        self._partial = text
        return [Partial(text)]


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_stt(spec: SttSpec, shared: Shared) -> DeepgramStt:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    client = deepgram_sdk.client(shared, spec.vendor, "stt", account(spec))
    return DeepgramStt(spec, client.listen.v2.connect, to_wire(spec), lambda: Flux(spec))
