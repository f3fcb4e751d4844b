"""A server that speaks OpenAI's protocols, as one account sees it.

The SDK gives address, headers, credentials and errors. What it does around a request and to each chunk is passed by:
that costs a turn a millisecond, and it walked over 100 messages and 8 tools for 17 ms.
"""

import contextlib
import copy
import functools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import openai

from providers.base import Lookup, ProviderError
from providers.credentials import plain
from providers.failures import Role
from providers.pools import TIMEOUT, HttpPool, http_pool, is_http
from providers.registry import Shared

log = logging.getLogger("agentd.openai")

OPENAI_URL = "https://api.openai.com/v1"


class Root:
    """The SDK's client that all others are copied from (0.04 ms; one with a pool of its own costs 20 ms)."""

    def __init__(self, pool: HttpPool) -> None:
        self.pool = pool
        self.client = openai.AsyncOpenAI(api_key="none", base_url=OPENAI_URL, http_client=pool.http, max_retries=0)

    async def aclose(self) -> None:
        """Nothing of its own to close: the pool is the server's."""


class OpenAiServer:
    """``headers`` are the author's, and go out with every request. Raises :class:`ProviderError` for what cannot be a
    URL or a key.
    """

    def __init__(
        self,
        root: Root,
        role: Role,
        vendor: str,
        url: str,
        key: str,
        *,
        headers: Mapping[str, str] = {},
        timeout: httpx2.Timeout = TIMEOUT,
    ) -> None:
        if not is_http(url):
            raise ProviderError(vendor, f"{role}-bad-url", f"expected baseURL to begin with http(s)://, got {url!r}")
        plain(role, vendor, key)
        self._url = url
        self._pool = root.pool
        self._http = root.pool.http
        self._timeout = timeout
        self._client = root.client.with_options(api_key=key or "none", base_url=url, default_headers=dict(headers))
        # The SDK takes these from the environment, and would tell them to any server.
        self._client.organization = self._client.project = None
        every = {**self._client.auth_headers, **self._client.default_headers}
        self._headers = {name: value for name, value in every.items() if isinstance(value, str)}

    def ready(self) -> None:
        """Have an open connection to the server."""
        self._pool.ready(f"{self._url}/models", self._headers)

    def canned(self, answer: Callable[[httpx2.Request], httpx2.Response]) -> "OpenAiServer":
        """The same with an answer of ours; nothing leaves the process."""
        same = copy.copy(self)
        same._http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
        return same

    async def aclose(self) -> None:
        """Only for what :meth:`canned` gave."""
        await self._http.aclose()

    async def post(self, stack: contextlib.AsyncExitStack, path: str, body: Mapping[str, Any]) -> httpx2.Response:
        """The answer, to be read by the caller while ``stack`` is open. Raises the SDK's errors for what the server
        refuses, and httpx2's for a connection that fails.
        """
        data = json.dumps(body).encode()
        ask = functools.partial(
            self._http.build_request, "POST", f"{self._url}{path}", content=data, headers=self._headers
        )
        try:
            response = await self._http.send(ask(timeout=self._timeout), stream=True)
        except httpx2.TimeoutException:
            raise  # the caller has waited long enough
        except httpx2.TransportError as exc:
            log.info("connection lost before an answer, asking again", extra={"error": type(exc).__name__})
            # Once more, at once: the server may have closed an idle connection in the instant we picked it.
            response = await self._http.send(ask(timeout=self._timeout), stream=True)
        stack.push_async_callback(response.aclose)
        if not response.is_success:
            await response.aread()
            raise self._client._make_status_error_from_response(response)
        return response


def is_openai(url: str) -> bool:
    """OpenAI itself, or Azure."""
    return is_http(url) and httpx2.URL(url).host.endswith((".openai.com", ".openai.azure.com"))


def root(shared: Shared, lookup: Lookup | None) -> Root:
    """The one of this server, or the one for addresses that came with calls."""
    pool = http_pool(shared, lookup)
    return shared.get("openai" if lookup is None else "openai-checked", lambda: Root(pool))
