"""Anthropic's Claude, through its SDK, which makes the requests; the stream is read by us."""

import asyncio
import contextlib
import copy
import functools
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import anthropic
import httpx2
from anthropic import AsyncAPIResponse

from providers.base import LlmEvent, LlmSpec, Message, Prompt, ProviderError, Tool, Working
from providers.failures import failure, kind_of, retry_after, safe_cause
from providers.llm.access import access_of, model_of
from providers.llm.anthropic_models import claude_of
from providers.llm.anthropic_wire import EXAMPLE, Answer, StreamError, to_wire
from providers.llm.sse import DataLines
from providers.llm.usage import of_anthropic
from providers.pools import HttpPool, http_pool, timeout_of
from providers.registry import Shared

log = logging.getLogger("agentd.llm.anthropic")
logging.getLogger("anthropic").setLevel(logging.INFO)  # at debug level it tells whole requests: what was said

ANTHROPIC_URL = "https://api.anthropic.com"
DRAIN_S = 0.25  # how long the body may go on after message_stop; only one read to its end frees the connection

# The types of errors as statuses: inside a stream there is no other.
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}


def to_provider_error(exc: Exception, vendor: str, secrets: Iterable[str] = ()) -> ProviderError:
    """Any failure of a request or of its stream, in our words."""
    wait: float | None = None
    match exc:
        case anthropic.APIStatusError():
            kind, wait = kind_of(exc.status_code, exc.type or ""), retry_after(exc.response.headers)
            message = f"HTTP {exc.status_code}: {exc.api_message or exc.response.reason_phrase}"
        case StreamError():
            kind, message = kind_of(STATUS.get(exc.type), exc.type), f"error in the stream: {exc}"
        case anthropic.APITimeoutError() | httpx2.TimeoutException():
            kind, message = "timeout", "expected an answer, got none in time"
        case anthropic.APIConnectionError() | httpx2.HTTPError() | httpx2.StreamError():
            kind, message = "connection-lost", f"connection lost ({type(exc.__cause__ or exc).__name__})"
        case _:
            kind, message = "bad-stream", str(exc)
    return failure("llm", vendor, kind, message, secrets=secrets, retry_after=wait)


class Root:
    """The SDK's client that all others are copied from (0.05 ms; one with a pool of its own costs 20 ms)."""

    def __init__(self, pool: HttpPool) -> None:
        self.pool = pool
        # No retries inside the SDK: it sleeps while a caller waits.
        self.client = anthropic.AsyncAnthropic(
            api_key="none", base_url=ANTHROPIC_URL, http_client=pool.http, max_retries=0
        )

    async def aclose(self) -> None:
        """Nothing of its own to close: the pool is the server's."""


class AnthropicLlm:
    """One model at one server. Holds no state between replies, so a call may run several at once."""

    def __init__(self, spec: LlmSpec, root: Root) -> None:
        model = model_of(spec, EXAMPLE)
        access = access_of(spec, ANTHROPIC_URL)
        self.name = f"{spec.vendor}:{model}"
        self._spec = spec
        self._secrets = access.secrets()
        self._pool = root.pool
        self._url = access.url.removesuffix("/v1")  # the SDK's paths begin with it
        self._client = root.client.with_options(
            api_key=access.key,
            base_url=self._url,
            timeout=timeout_of(spec.connect),
        )
        # In place of those that the SDK takes from the environment, and would tell to any server.
        self._client._custom_headers = access.headers
        _warn_of_what_is_left_out(model, spec)

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """Stream one answer. Text comes as it arrives, each tool call whole; thoughts are not told.

        Raises :class:`ProviderError`: before the first event for what the vendor refuses; ``llm-connection-lost`` when
        the stream ends without a stop_reason, ``llm-empty-stream`` when it holds no event at all,
        ``llm-content-filtered`` when all of the answer was withheld. An answer that is whole and empty yields nothing.
        """
        answer, lines, said, kind = Answer(), DataLines(), False, ""
        try:
            async with contextlib.AsyncExitStack() as stack:
                response = await self._send(stack, to_wire(prompt, self._spec))
                kind = response.headers.get("content-type", "no content type")
                body = response.iter_bytes()
                async for data in body:
                    for line in lines.feed(data):
                        for event in answer.data(line):
                            said = said or not isinstance(event, Working)
                            yield event
                    if answer.is_over:
                        await _drain(body)
                        break
        except (anthropic.AnthropicError, httpx2.HTTPError, httpx2.StreamError, StreamError, ValueError) as exc:
            if answer.stop is None or isinstance(exc, StreamError):
                raise self._translate(exc) from safe_cause(exc, self._secrets)
        self._check(answer, said, kind)
        log.debug("llm answered", extra={"llm": self.name, "finish": answer.stop, "usage": dict(answer.usage)})
        for usage in of_anthropic(answer.usage):
            yield usage

    async def warm(self) -> None:
        """Pay for the first call of a process (schemas, platform probe) before a caller waits for it.

        Nothing leaves the process. Await it once, when the server starts.
        """
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(_canned))
        warm = copy.copy(self)
        warm._client = self._client.with_options(http_client=http)
        async with http:
            async for _ in warm.reply(Prompt((Message("user", "hello"),), (Tool("t", "t", {}),))):
                pass

    def ready(self) -> None:
        """Have an open connection to the server."""
        headers = {name: value for name, value in self._client.default_headers.items() if isinstance(value, str)}
        self._pool.ready(f"{self._url}/v1/models?limit=1", headers)

    async def _send(self, stack: contextlib.AsyncExitStack, wire: dict[str, Any]) -> AsyncAPIResponse[Any]:
        # The raw response, read by us: a fifth of the CPU per event of the typed stream, same errors and auth. The
        # body goes by as extra_body: given as arguments, the SDK walks every message and schema, and it has no
        # argument for temperature.
        create: Callable[..., Any] = self._client.messages.with_streaming_response.create
        ask = functools.partial(create, model=wire["model"], max_tokens=1, messages=[], stream=True, extra_body=wire)
        try:
            return await _enter(stack, ask())
        except anthropic.APITimeoutError:
            raise  # the caller has waited long enough
        except anthropic.APIConnectionError as exc:
            error = type(exc.__cause__).__name__
            log.info("llm connection lost before an answer, asking again", extra={"error": error})
        # Once more, at once: the server may have closed an idle connection in the instant we picked it.
        return await _enter(stack, ask())

    def _check(self, answer: Answer, said: bool, content_type: str) -> None:
        vendor = self._spec.vendor
        match answer.stop:
            case None if not answer.events:
                message = f"expected a stream of events, got an empty one ({content_type})"
                raise ProviderError(vendor, "llm-empty-stream", message, retryable=True)
            case None:
                message = f"expected a stop_reason, got the end of the stream after {answer.events} events"
                raise ProviderError(vendor, "llm-connection-lost", message, retryable=True)
            case "refusal" if not said:
                raise ProviderError(vendor, "llm-content-filtered", "the vendor withheld its answer")
            case "model_context_window_exceeded" if not said:
                raise ProviderError(vendor, "llm-bad-request", "the conversation is longer than the model takes")

    def _translate(self, exc: Exception) -> ProviderError:
        return to_provider_error(exc, self._spec.vendor, self._secrets)


async def _enter(
    stack: contextlib.AsyncExitStack, request: contextlib.AbstractAsyncContextManager[Any]
) -> AsyncAPIResponse[Any]:
    response: AsyncAPIResponse[Any] = await stack.enter_async_context(request)
    return response


async def _drain(body: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in body:
                pass


def _warn_of_what_is_left_out(model: str, spec: LlmSpec) -> None:
    claude, effort = claude_of(model), spec.options.get("reasoningEffort")
    thinks = effort not in (None, "minimal") and claude.takes_effort
    if spec.options.get("temperature") is not None and (thinks or not claude.takes_temperature):
        log.warning("model takes no temperature, left out", extra={"model": model})
    if effort not in (None, "minimal") and not claude.takes_effort:
        log.warning("model takes no reasoning effort, left out", extra={"model": model, "effort": effort})


def _canned(request: httpx2.Request) -> httpx2.Response:
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return httpx2.Response(200, text="".join(f"data: {json.dumps(event)}\n\n" for event in (delta, end)))


TAKES_LOOKUP = True  # see providers.base.Lookup


def make_llm(spec: LlmSpec, shared: Shared) -> AnthropicLlm:
    """Raises :class:`ProviderError` when the key, the model or a usable URL is missing."""
    pool = http_pool(shared, spec.lookup)
    key = "anthropic" if spec.lookup is None else "anthropic-checked"
    return AnthropicLlm(spec, shared.get(key, lambda: Root(pool)))
