"""Cartesia's voices: every reply is a context, and the contexts of a call share a websocket."""

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpx
from cartesia import AsyncCartesia

from providers.base import Audio, ProviderError, Spoken, TtsEvent, TtsSpec
from providers.credentials import key_of, socket_url
from providers.failures import failure, kind_of, safe_cause
from providers.options import snake_case
from providers.pcm import Stream
from providers.registry import Shared
from providers.sockets import CLOSE, DIAL, LONGEST_MESSAGE, Socket, checked, decoded, dial_failure, quiet, tls
from providers.tts.line import Line
from providers.tts.stream import speak
from providers.tts.wire_audio import decoded_audio
from providers.tts.words import Words

URL = "wss://api.cartesia.ai"
MODEL = "sonic-3"
VOICE = "9626c31c-bec5-4cca-baa8-f8ba9e84c8bc"
GENERATION = ("speed", "volume", "emotion")  # options that the vendor wants in its generation_config
MOST_CLIENTS = 256  # kept; keys may come with calls, without end


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(spec: TtsSpec, rate: int) -> dict[str, Any]:
    """What every message of a reply says, without its text.

    Options of other names go out as they are, in snake_case. ``speed`` by name (``slow``, ``fast``) is that of the
    older models; a number goes where sonic-3 looks for it.
    """
    options = {snake_case(name): value for name, value in spec.options.items() if value is not None}
    model = options.pop("model", None)
    generation = {
        name: options.pop(name)
        for name in GENERATION
        if name in options and not (name == "speed" and isinstance(options[name], str))
    }
    if generation := {**generation, **(options.pop("generation_config", None) or {})}:
        options["generation_config"] = generation
    return {
        "model_id": spec.model or model or MODEL,
        "language": spec.language.partition("-")[0].lower(),
        "voice": {"mode": "id", "id": spec.voice or VOICE},
        "add_timestamps": True,
        "use_normalized_timestamps": False,  # words as they were written: they are looked for in the text
        "max_buffer_delay_ms": 0,  # the pieces are sentences already; by default it waits 3 s for more
        **options,
        "output_format": {"container": "raw", "encoding": "pcm_s16le", "sample_rate": rate},
    }


# From the wire --------------------------------------------------------------------------------------------


class Context:
    """The dialect of one reply."""

    is_apart = True  # what a cancelled context still says bears its name

    def __init__(self, spec: TtsSpec, rate: int, secrets: Iterable[str] = ()) -> None:
        self.vendor = spec.vendor
        self._secrets = tuple(secrets)
        self._wire = to_wire(spec, rate)
        self._rate = rate
        self._pcm = Stream(rate, rate)
        self._words = Words()
        self._ends: list[int] = []  # of the pieces of the context, in characters of the reply
        self._characters = 0
        self._samples = 0
        self._began = 0.0  # seconds into the reply at which the context begins
        self._name = ""  # of the context that is open
        self._is_ended = False

    def piece(self, text: str) -> Iterable[str]:
        if not self._name:
            self._name, self._began, self._ends = uuid.uuid4().hex, self._samples / self._rate, []
        self._words.given(text)
        self._characters += len(text)
        self._ends.append(self._characters)
        return [self._message(text, True)]

    def end(self) -> Iterable[str]:
        self._is_ended = True
        return [self._message("", False)] if self._name else []

    def cancel(self) -> Iterable[str]:
        return [json.dumps({"context_id": self._name, "cancel": True})] if self._name else []

    def is_done(self) -> bool:
        return self._is_ended and not self._name

    def heard(self, message: str | bytes) -> Iterable[TtsEvent]:
        told = decoded(message, self.vendor)
        kind = told.get("type")
        if told.get("context_id") != self._name and not (kind == "error" and not told.get("context_id")):
            return []
        match kind:
            case "chunk":
                return self._audio(told.get("data"))
            case "timestamps":
                return self._times(told.get("word_timestamps"))
            case "flush_done":
                return self._flushed(told.get("flush_id"))
            case "done":
                return self._done()
            case "error":
                raise self._error(told)
        return []

    def _audio(self, data: Any) -> list[TtsEvent]:
        if not (pcm := self._pcm.push(decoded_audio(data, self.vendor))):
            return []
        self._samples += len(pcm) // 2
        return [Audio(pcm)]

    def _times(self, times: Any) -> list[TtsEvent]:
        times = times if isinstance(times, dict) else {}
        words, starts = times.get("words") or (), times.get("start") or ()
        return [*self._words.place((word, self._began + start) for word, start in zip(words, starts, strict=False))]

    def _flushed(self, number: Any) -> list[TtsEvent]:
        is_known = isinstance(number, int) and 0 < number <= len(self._ends)
        return [Spoken(self._ends[number - 1])] if is_known else []

    def _done(self) -> list[TtsEvent]:
        # It may come before the end of the reply: a context to which nothing is added (the model calls a tool) does
        # not live for ever. The next piece opens another one.
        self._name = ""
        self._pcm.flush()
        return [Spoken(self._characters)]

    def _error(self, told: Mapping[str, Any]) -> ProviderError:
        status = told.get("status_code")
        kind = kind_of(status if isinstance(status, int) else None, str(told.get("error_code") or ""))
        said = ": ".join(str(told[name]) for name in ("title", "message", "error") if told.get(name))
        return failure("tts", self.vendor, kind, f"error in the stream: {said}", secrets=self._secrets)

    def _message(self, text: str, is_continued: bool) -> str:
        return json.dumps({**self._wire, "context_id": self._name, "transcript": text, "continue": is_continued})


# The vendor -----------------------------------------------------------------------------------------------


class Sdk:
    """The SDK's clients of one server."""

    def __init__(self) -> None:
        # Only so that the SDK makes none of its own for every client, 20 ms each: we use its websockets alone.
        self._http = httpx.AsyncClient(verify=tls())
        self._clients: dict[tuple[str, str], AsyncCartesia] = {}

    def client(self, key: str, url: str) -> AsyncCartesia:
        if (key, url) not in self._clients:
            if len(self._clients) >= MOST_CLIENTS:
                self._clients.clear()
            self._clients[key, url] = AsyncCartesia(api_key=key, websocket_base_url=url, http_client=self._http)
        return self._clients[key, url]

    async def aclose(self) -> None:
        await self._http.aclose()


class CartesiaTts:
    is_continuous = True  # what is added to a context goes on as what was said before would

    def __init__(self, spec: TtsSpec, client: AsyncCartesia, secrets: Iterable[str]) -> None:
        self._spec = spec
        self._client = client
        self._secrets = tuple(secrets)
        self._url = str(client.websocket_base_url)
        # It knows no keepalive, and closes a socket after five minutes without a text; ready() sees to another.
        self._line = Line(self._dial)

    def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        return speak(self._line, Context(self._spec, rate, self._secrets), text)

    async def warm(self) -> None:
        """The SDK imports the resource when it is first asked for, 80 ms that would hold the loop."""
        _ = self._client.tts

    def ready(self) -> None:
        self._line.ready()

    async def aclose(self) -> None:
        await self._line.aclose()

    async def _dial(self) -> Socket:
        options: Any = {
            "ssl": tls() if self._url.startswith("wss:") else None,
            "compression": None,
            "open_timeout": DIAL,
            "ping_interval": 20,
            "ping_timeout": None,  # as in providers.sockets.dial
            "close_timeout": CLOSE,
            "max_size": LONGEST_MESSAGE,
            "logger": quiet,
        }
        try:
            async with checked(self._url, self._spec.lookup) as through:
                options |= through
                sdk = await self._client.tts.websocket_connect(websocket_connection_options=options).enter()
        except Exception as exc:
            raise dial_failure(exc, "tts", self._spec.vendor, self._secrets) from safe_cause(exc, self._secrets)
        # Read by us: the SDK's contexts wait for ever once the socket is lost, and cost three times the CPU.
        return Socket(sdk._connection, "tts", self._spec.vendor, secrets=self._secrets)


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_tts(spec: TtsSpec, shared: Shared) -> CartesiaTts:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    key = key_of("tts", spec.vendor, spec.credentials.get("apiKey"))
    url = socket_url("tts", spec.vendor, str(spec.credentials.get("url") or URL))
    return CartesiaTts(spec, shared.get("cartesia", Sdk).client(key, url), (key,))
