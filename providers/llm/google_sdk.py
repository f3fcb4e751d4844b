"""Google's SDK as the one that makes our requests, while we read the answers.

It knows where to send, with which headers, and what an error looks like. But its reading costs ten times ours, its
writing holds the loop for 35 ms with 100 messages and 8 tools, and a stream that is left before its end stays open
until the garbage collector comes by. So the body is made by us (``extra_body``), and the SDK's HTTP client is one that
keeps the answer for us and hands the SDK an empty one.
"""

import functools
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
from google import genai
from google.genai import types

from providers.pools import HttpPool

CLIENTS = 64  # one for each key and address; more than these are made anew, which takes 0.6 ms


@dataclass(slots=True)
class Exchange:
    """One request that the SDK is making, and its answer."""

    timeout: httpx2.Timeout
    response: httpx2.Response | None = None


_exchange: ContextVar[Exchange] = ContextVar("exchange")


class Relay(httpx2.AsyncBaseTransport):
    """Sends through the pool. An answer with status 200 is kept in the exchange; every other one is for the SDK."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _exchange.get()  # read before anything is awaited, so no other request of this context can be meant
        # Not as the SDK's own timeout, which is one number for all and is told to the server as its deadline.
        request.extensions = {**request.extensions, "timeout": exchange.timeout.as_dict()}
        response = await self._http.send(request, stream=True)
        if response.status_code != 200:
            return response
        exchange.response = response
        return httpx2.Response(200)


class Root:
    """The SDK's clients of one server."""

    def __init__(self, pool: HttpPool) -> None:
        self.pool = pool
        self.client = functools.lru_cache(CLIENTS)(functools.partial(make_client, _relayed(pool.http)))

    async def aclose(self) -> None:
        """Nothing of its own to close: the pool is the server's."""


def _relayed(http: httpx2.AsyncClient) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=Relay(http), trust_env=False)  # or it would go past the relay to a proxy


def make_client(http: httpx2.AsyncClient, url: str, version: str | None, key: str) -> genai.Client:
    never = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the SDK would load certificates for sockets that we never open
    options = types.HttpOptions(
        base_url=url,
        api_version=version,
        httpx_async_client=http,
        httpx_client=httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(500)), trust_env=False),
        client_args={"verify": never},
        async_client_args={"verify": never, "ssl": never},
    )
    return genai.Client(vertexai=False, api_key=key, http_options=options)


def canned(answer: bytes) -> tuple[httpx2.AsyncClient, httpx2.AsyncClient]:
    """An HTTP client that always answers this, and the one for an SDK's client on top of it."""
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=answer)))
    return http, _relayed(http)


async def send(
    client: genai.Client, model: str, wire: Mapping[str, Any], headers: dict[str, str], patience: httpx2.Timeout
) -> httpx2.Response:
    """The answer to a request, its body unread. Raises what the SDK raises for a refusal, and httpx2's errors."""
    config = types.GenerateContentConfig(
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        automatic_continuation=False,  # it would ask again after a failure, without anybody knowing
        http_options=types.HttpOptions(extra_body=dict(wire), headers=headers),
    )
    exchange = Exchange(patience)
    token = _exchange.set(exchange)
    try:
        async for _ in await client.aio.models.generate_content_stream(model=model, contents="-", config=config):
            pass
    except BaseException:
        if exchange.response is not None:
            await exchange.response.aclose()
        raise
    finally:
        _exchange.reset(token)
    if exchange.response is None:
        raise ValueError("expected the SDK to send through its HTTP client, got nothing")
    return exchange.response
