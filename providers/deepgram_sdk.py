"""What Deepgram's recognisers and voices share: the SDK's clients, and its websockets as a :class:`PlainWire`.

The SDK says where to dial and with which headers; the dialling is ours (:mod:`providers.sockets`). Its own socket
offers compression, waits 10 s for a close, cannot be told a deadline and loses the status text and Retry-After.
"""

import contextlib
import warnings
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self

import httpx

from providers.base import Lookup, ProviderError
from providers.credentials import key_of, socket_url
from providers.failures import Role
from providers.registry import Shared
from providers.sockets import PlainWire, dial, tls

with warnings.catch_warnings():
    # It imports websockets.legacy, which warns that it will go one day. Nothing of it is used: see Transport.
    warnings.filterwarnings("ignore", r"websockets\.\S+ is deprecated", DeprecationWarning)
    from deepgram import AsyncDeepgramClient
    from deepgram.environment import DeepgramClientEnvironment
    from deepgram.transport import install_transport

    install_transport(async_factory=lambda url, headers: Transport(url, headers))  # imports what would warn later

URL = "wss://api.deepgram.com"
CLOSINGS = {1008: "bad-request"}  # DATA-0000: what we sent is no audio; a wrong key is refused at the upgrade
MOST_CLIENTS = 256  # kept; keys may come with calls, without end


class Sdk:
    """The SDK's clients of one server."""

    def __init__(self) -> None:
        # Only so that the SDK makes none of its own for every client, 30 ms each: we use its websockets alone.
        self._http = httpx.AsyncClient(verify=tls())
        self._clients: dict[tuple[str, str], AsyncDeepgramClient] = {}

    def client(self, key: str, url: str) -> AsyncDeepgramClient:
        if (key, url) not in self._clients:
            if len(self._clients) >= MOST_CLIENTS:
                self._clients.clear()
            rest = f"http{url.removeprefix('ws')}"
            environment = DeepgramClientEnvironment(base=rest, production=url, agent=url, agent_rest=rest)
            self._clients[key, url] = AsyncDeepgramClient(api_key=key, environment=environment, httpx_client=self._http)
        return self._clients[key, url]

    async def aclose(self) -> None:
        await self._http.aclose()


def client(shared: Shared, vendor: str, role: Role, credentials: Mapping[str, Any]) -> AsyncDeepgramClient:
    """The SDK's client for ``credentials`` (``apiKey``, ``url``); ``vendor`` is the spec's. Raises
    :class:`ProviderError`.
    """
    key = key_of(role, vendor, credentials.get("apiKey"))
    url = socket_url(role, vendor, str(credentials.get("url") or URL))
    return shared.get("deepgram", Sdk).client(key, url)


def secrets(credentials: Mapping[str, Any]) -> tuple[str, ...]:
    """What no message may hold."""
    return (str(credentials.get("apiKey") or "").strip(),)


class Transport:
    """What the SDK takes for its websocket. It makes one from URL and headers and does not wait; so nothing is dialled
    before :meth:`open`.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url
        self.headers = headers
        self._wire: PlainWire | None = None

    async def open(
        self, role: Role, vendor: str, secrets: Iterable[str], closings: Mapping[int, str], lookup: Lookup | None
    ) -> PlainWire:
        """Dial. Raises :class:`ProviderError`."""
        closings = {**CLOSINGS, **closings}
        self._wire = await dial(
            role, vendor, self.url, headers=self.headers, secrets=secrets, closings=closings, lookup=lookup
        )
        return self._wire

    async def close(self) -> None:
        """The SDK calls this when its context is left."""
        if self._wire is not None:
            await self._wire.close()

    # The SDK's own reading and writing, which costs five times the CPU of ours, goes over these.

    async def send(self, message: str | bytes) -> None:
        assert self._wire is not None, "open() comes first"
        await self._wire.send(message)

    async def recv(self) -> str | bytes | None:
        assert self._wire is not None, "open() comes first"
        return await self._wire.receive()

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        while (message := await self.recv()) is not None:
            yield message


class SdkSocket:
    """The SDK's socket as a :class:`PlainWire`: messages go raw, past the SDK's models (68 µs each, json alone 8)."""

    def __init__(self, wire: PlainWire, context: AsyncExitStack) -> None:
        self._wire = wire
        self._context = context

    @classmethod
    async def open(
        cls,
        connect: AbstractAsyncContextManager[Any],
        role: Role,
        vendor: str,
        *,
        secrets: Iterable[str] = (),
        closings: Mapping[int, str] = {},
        lookup: Lookup | None = None,
    ) -> Self:
        """Enter what ``client.listen.v1.connect(…)`` and its like return. Raises :class:`ProviderError` as
        :func:`providers.sockets.dial` does.
        """
        async with AsyncExitStack() as context:
            sdk = await context.enter_async_context(connect)
            wire = await sdk._websocket.open(role, vendor, secrets, closings, lookup)
            return cls(wire, context.pop_all())

    @property
    def is_open(self) -> bool:
        return self._wire.is_open

    async def send(self, message: str | bytes) -> None:
        await self._wire.send(message)

    @property
    def is_ready(self) -> bool:
        return self._wire.is_ready

    def send_now(self, message: str | bytes) -> None:
        self._wire.send_now(message)

    async def receive(self) -> str | bytes | None:
        return await self._wire.receive()

    async def close(self) -> None:
        with contextlib.suppress(ProviderError):
            await self._context.aclose()  # leaves the SDK's context, which closes the transport
