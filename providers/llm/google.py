"""Google's Gemini, on its Developer API (an API key; Vertex AI is another way in)."""

import asyncio
import contextlib
import copy
import functools
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx2
from google.genai import errors

from providers.base import LlmEvent, LlmSpec, Message, Prompt, ProviderError, Tool, Working
from providers.failures import failure, kind_of, retry_after, safe_cause
from providers.llm.access import access_of, model_of
from providers.llm.google_sdk import Root, canned, make_client, send
from providers.llm.google_wire import EXAMPLE, Answer, StreamError, to_wire
from providers.llm.sse import DataLines, json_object
from providers.llm.usage import of_google
from providers.pools import http_pool, timeout_of
from providers.registry import Shared

log = logging.getLogger("agentd.llm.google")

GOOGLE_URL = "https://generativelanguage.googleapis.com"
REST_S = 1.0  # how long the stream may go on after a finishReason; more can come behind it
_VERSION = re.compile(r"/(v\d\w*)$")
_SPOILT = ("MALFORMED_", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE")
_EMPTY = ("STOP", "MAX_TOKENS", "CONTINUATION", "OTHER", "FINISH_REASON_UNSPECIFIED")  # all others withhold


def to_provider_error(exc: Exception, vendor: str, secrets: Iterable[str] = ()) -> ProviderError:
    """Any failure of a request or of its stream, in our words."""
    wait: float | None = None
    match exc:
        case errors.APIError():
            fields = _error_of(exc.details)
            kind, wait = _kind(exc.code, fields), _wait(exc.response, fields)
            message = f"HTTP {exc.code}: {exc.message or exc.status or 'no message'}"
        case StreamError():
            kind, wait = _kind(exc.fields.get("code"), exc.fields), _wait(None, exc.fields)
            message = f"error in the stream: {exc}"
        case httpx2.TimeoutException():
            kind, message = "timeout", "expected an answer, got none in time"
        case httpx2.HTTPError() | httpx2.StreamError():
            kind, message = "connection-lost", f"connection lost ({type(exc).__name__})"
        case _:
            kind, message = "bad-stream", str(exc)
    return failure("llm", vendor, kind, message, secrets=secrets, retry_after=wait)


def _kind(status: Any, fields: dict[str, Any]) -> str:
    if any(detail.get("reason") == "API_KEY_INVALID" for detail in _details(fields)):
        return "unauthorized"  # Google says 400 of a wrong key
    return kind_of(status if isinstance(status, int) else None, str(fields.get("status") or ""))


def _wait(response: Any, fields: dict[str, Any]) -> float | None:
    """From the header, or from the ``RetryInfo`` that Google puts into the body: ``"retryDelay": "34.4s"``."""
    told = retry_after(response.headers) if isinstance(response, httpx2.Response) else None
    delays = [detail["retryDelay"] for detail in _details(fields) if "retryDelay" in detail]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(delays[0])) if delays else None
    return told if told is not None or found is None else float(found[1])


def _details(fields: dict[str, Any]) -> list[dict[str, Any]]:
    details = fields.get("details")
    return [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []


def _error_of(body: Any) -> dict[str, Any]:
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}


class GoogleLlm:
    """One model at one server. Holds no state between replies, so a call may run several at once."""

    def __init__(self, spec: LlmSpec, root: Root) -> None:
        self._model = model_of(spec, EXAMPLE)
        access = access_of(spec, GOOGLE_URL)
        version = _VERSION.search(access.url)
        self.name = f"{spec.vendor}:{self._model}"
        self._spec = spec
        self._secrets = access.secrets()
        self._pool = root.pool
        self._url = access.url[: version.start()] if version else access.url
        self._headers = access.headers
        self._key = access.key
        self._client = root.client(self._url, version[1] if version else None, access.key)
        self._timeout = timeout_of(spec.connect)

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """Stream one answer. Text comes as it arrives, each tool call whole; thoughts are not told.

        Raises :class:`ProviderError`: before the first event for what the vendor refuses; ``llm-connection-lost`` when
        the stream ends without a finishReason, ``llm-empty-stream`` when it holds no chunk at all,
        ``llm-content-filtered`` when the prompt was blocked or all of the answer withheld. An answer that is whole and
        empty yields nothing.
        """
        answer, lines, said, kind = Answer(), DataLines(), False, ""
        try:
            response = await self._send(to_wire(prompt, self._spec))
            kind = response.headers.get("content-type", "no content type")
            body = response.aiter_bytes()
            async with contextlib.aclosing(response), contextlib.aclosing(body):
                while (data := await _next(body, last=answer.finish is not None)) is not None:
                    for line in lines.feed(data):
                        for event in answer.data(line):
                            said = said or not isinstance(event, Working)
                            yield event
                for line in lines.end():
                    for event in answer.data(line):
                        said = said or not isinstance(event, Working)
                        yield event
                if error := _error_of(json_object(lines.stray)):
                    raise StreamError(error)
        except (errors.APIError, httpx2.HTTPError, httpx2.StreamError, StreamError, ValueError) as exc:
            if answer.finish is None or isinstance(exc, StreamError):
                raise self._translate(exc) from safe_cause(exc, self._secrets)
        self._check(answer, said, kind)
        log.debug("llm answered", extra={"llm": self.name, "finish": answer.finish, "usage": dict(answer.usage)})
        for usage in of_google(answer.usage):
            yield usage

    async def warm(self) -> None:
        """Pay for the first call of a process (the SDK's models are built on first use) before a caller waits for it.

        Nothing leaves the process. Await it once, when the server starts.
        """
        http, relayed = canned(_CANNED)
        warm = copy.copy(self)
        warm._client = make_client(relayed, self._url, None, self._key)
        async with http, relayed:
            async for _ in warm.reply(Prompt((Message("user", "hello"),), (Tool("t", "t", {}),))):
                pass

    def ready(self) -> None:
        """Have an open connection to the server."""
        self._pool.ready(f"{self._url}/v1/models?pageSize=1", {"x-goog-api-key": self._key, **self._headers})

    async def _send(self, wire: dict[str, Any]) -> httpx2.Response:
        ask = functools.partial(send, self._client, self._model, wire, self._headers, self._timeout)
        try:
            return await ask()
        except httpx2.TimeoutException:
            raise  # the caller has waited long enough
        except httpx2.TransportError as exc:
            log.info("llm connection lost before an answer, asking again", extra={"error": type(exc).__name__})
        # Once more, at once: the server may have closed an idle connection in the instant we picked it.
        return await ask()

    def _check(self, answer: Answer, said: bool, content_type: str) -> None:
        vendor, finish = self._spec.vendor, answer.finish
        if not answer.chunks:
            message = f"expected a stream of chunks, got an empty one ({content_type})"
            raise ProviderError(vendor, "llm-empty-stream", message, retryable=True)
        if finish is None:
            message = f"expected a finishReason, got the end of the stream after {answer.chunks} chunks"
            raise ProviderError(vendor, "llm-connection-lost", message, retryable=True)
        if said:
            return
        if finish.startswith(_SPOILT):
            message = f"expected an answer, got finishReason {finish}"
            raise ProviderError(vendor, "llm-bad-stream", message, retryable=True)
        if answer.is_blocked or finish not in _EMPTY:
            raise ProviderError(vendor, "llm-content-filtered", f"the vendor withheld its answer ({finish})")

    def _translate(self, exc: Exception) -> ProviderError:
        return to_provider_error(exc, self._spec.vendor, self._secrets)


async def _next(body: AsyncIterator[bytes], *, last: bool) -> bytes | None:
    """The next bytes, ``None`` at the end. ``last``: there may be none, so they are not waited for long."""
    if not last:
        return await anext(body, None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REST_S):
            return await anext(body, None)
    return None


_CHUNK = {"candidates": [{"content": {"parts": [{"text": "hi"}], "role": "model"}, "finishReason": "STOP"}]}
_CANNED = f"data: {json.dumps(_CHUNK)}\r\n\r\n".encode()


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_llm(spec: LlmSpec, shared: Shared) -> GoogleLlm:
    """Raises :class:`ProviderError` when the key, the model or a usable URL is missing."""
    pool = http_pool(shared, spec.lookup)
    key = "google" if spec.lookup is None else "google-checked"
    return GoogleLlm(spec, shared.get(key, lambda: Root(pool)))
