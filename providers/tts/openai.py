"""OpenAI's speech endpoint, and every server that speaks it: one request a piece, the next one asked while this one
plays.
"""

import asyncio
import contextlib
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

import httpx2
import openai

from providers.base import Audio, ProviderError, Spoken, TtsEvent, TtsSpec
from providers.failures import failure, kind_of, retry_after, safe_cause
from providers.openai_server import OPENAI_URL, OpenAiServer, Root, is_openai, root
from providers.options import snake_case
from providers.pcm import Stream
from providers.registry import Shared
from providers.tts.wav import Unwrapped
from providers.tts.wire_audio import portions

MODEL = "gpt-4o-mini-tts"
VOICE = "alloy"
RATE = 24000  # of its PCM, whatever is wanted
LONGEST = 4096  # characters of one request
NOT_SAMPLES = (
    "text/",
    "application/json",
    "audio/mpeg",
    "audio/mp3",
    "audio/ogg",
    "audio/opus",
    "audio/aac",
    "audio/flac",
)


# To the wire ----------------------------------------------------------------------------------------------


def to_wire(text: str, spec: TtsSpec) -> dict[str, Any]:
    """The JSON body of ``POST /audio/speech``. Options go out under their own names: ``instructions``, ``speed``."""
    options = {snake_case(name): value for name, value in spec.options.items()}
    return {
        "voice": VOICE,
        **options,
        "model": spec.model or options.get("model") or MODEL,
        **({"voice": spec.voice} if spec.voice else {}),
        "input": text,
        "response_format": "pcm",
    }


def base_url(spec: TtsSpec) -> str:
    return str(spec.credentials.get("baseURL") or spec.credentials.get("url") or OPENAI_URL).rstrip("/")


# Errors ---------------------------------------------------------------------------------------------------


def to_provider_error(exc: Exception, vendor: str, secrets: tuple[str, ...]) -> ProviderError:
    """Any failure of a request or of its audio, in our words."""
    wait: float | None = None
    match exc:
        case openai.APIStatusError():
            kind, wait = kind_of(exc.status_code, str(exc.code or "")), retry_after(exc.response.headers)
            body = exc.body if isinstance(exc.body, Mapping) else {}
            message = f"HTTP {exc.status_code}: {body.get('message') or exc.response.reason_phrase}"
        case openai.APITimeoutError() | httpx2.TimeoutException():
            kind, message = "timeout", "expected audio, got none in time"
        case openai.APIConnectionError() | httpx2.HTTPError() | httpx2.StreamError():
            kind, message = "connection-lost", f"connection lost ({type(exc.__cause__ or exc).__name__})"
        case _:
            kind, message = "bad-stream", str(exc)
    return failure("tts", vendor, kind, message, secrets=secrets, retry_after=wait)


# The vendor -----------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A request that is being answered. ``text`` is what it says."""

    text: str
    response: httpx2.Response
    stack: contextlib.AsyncExitStack


class OpenAiTts:
    """One voice at one server. Holds no state between replies, so a call may speak several at once."""

    def __init__(self, spec: TtsSpec, root: Root) -> None:
        url, key = base_url(spec), str(spec.credentials.get("apiKey") or "").strip()
        if not key and is_openai(url):
            raise ProviderError(
                spec.vendor,
                "tts-no-credentials",
                f"expected credentials.{spec.vendor}.apiKey (often ${{OPENAI_API_KEY}}), got none; "
                f"a server that needs no key is named by credentials.{spec.vendor}.baseURL",
            )
        self._server = OpenAiServer(root, "tts", spec.vendor, url, key)
        self._spec = spec
        self._secrets = (key,)

    def ready(self) -> None:
        """Have an open connection to the server."""
        self._server.ready()

    async def warm(self) -> None:
        """Pay for the first request of a process before a caller waits for it. Nothing leaves the process."""
        warm = copy.copy(self)
        warm._server = self._server.canned(lambda _: httpx2.Response(200, content=bytes(960)))
        async with aclosing(warm._server):
            async for _ in warm.speak(_one("hello"), RATE):
                pass

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncGenerator[TtsEvent, None]:
        said = 0
        async with aclosing(_portions(text)) as pieces:
            coming = asyncio.create_task(self._ask_next(pieces), name="tts-ask")
            try:
                while (answer := await coming) is not None:
                    # One ahead, no more: its audio waits in the connection, not here.
                    coming = asyncio.create_task(self._ask_next(pieces), name="tts-ask")
                    async with answer.stack, aclosing(self._sound(answer.response, rate)) as sound:
                        async for pcm in sound:
                            yield Audio(pcm)
                    said += len(answer.text)
                    yield Spoken(said)
            except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, ValueError) as exc:
                error = to_provider_error(exc, self._spec.vendor, self._secrets)
                raise error from safe_cause(exc, self._secrets)
            finally:
                await _forget(coming)

    async def _ask_next(self, pieces: AsyncIterator[str]) -> Answer | None:
        """Ask for the next piece; returns when its answer begins. ``None`` behind the last one."""
        if (text := await anext(pieces, None)) is None:
            return None
        async with contextlib.AsyncExitStack() as stack:
            response = await self._server.post(stack, "/audio/speech", to_wire(text, self._spec))
            return Answer(text, response, stack.pop_all())
        raise AssertionError("an exit stack swallows nothing")

    async def _sound(self, response: httpx2.Response, rate: int) -> AsyncGenerator[bytes, None]:
        """The audio of one piece. Raises ``ValueError`` for what is none."""
        kind = response.headers.get("content-type", "")
        if kind.startswith(NOT_SAMPLES):
            raise ValueError(f"expected response_format pcm, got {kind}")
        unwrapped = Unwrapped(RATE)
        stream: Stream | None = None
        async for data in response.aiter_bytes():
            if not (samples := unwrapped.push(data)):
                continue
            stream = stream or Stream(unwrapped.rate, rate)
            if pcm := stream.push(samples):
                yield pcm
        if stream is None:
            raise ValueError(f"expected audio, got none ({kind or 'no content type'})")
        if rest := stream.flush():
            yield rest


async def _forget(coming: "asyncio.Task[Answer | None]") -> None:
    """Nobody wants the answer any more: close it, so that the server sees it."""
    coming.cancel()
    await asyncio.wait([coming])
    if not coming.cancelled() and coming.exception() is None and (answer := coming.result()) is not None:
        await answer.stack.aclose()


async def _portions(text: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    async for piece in text:
        for portion in portions(piece, LONGEST):
            yield portion


async def _one(text: str) -> AsyncIterator[str]:
    yield text


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_tts(spec: TtsSpec, shared: Shared) -> OpenAiTts:
    """Raises :class:`ProviderError` when the key or a usable URL is missing."""
    return OpenAiTts(spec, root(shared, spec.lookup))
