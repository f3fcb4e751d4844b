"""HTTP connections to vendors, shared by all calls of a server and kept open between their turns."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Iterable, Mapping
from typing import Any

import httpcore2
import httpx2

from providers.base import Lookup
from providers.one_write import OneWrite, in_one_write
from providers.registry import Shared
from providers.sockets import EACH

# HTTP/1.1 only: httpcore2 closes a cancelled h2 stream without RST_STREAM, and the vendor generates to the end.
# Turns are further apart than the default expiry of 5 s, which would put TCP and TLS into every turn.
LIMITS = httpx2.Limits(max_connections=1000, max_keepalive_connections=300, keepalive_expiry=120)
TIMEOUT = httpx2.Timeout(30, connect=3, read=15)  # seconds; read is the longest gap between two chunks
READY_TIMEOUT = 5.0  # seconds that dialling ahead may take


def timeout_of(connect: Mapping[str, Any]) -> httpx2.Timeout:
    """:data:`TIMEOUT` with an author's ``connectOptions.timeout``: the seconds to the first byte, and between two."""
    return httpx2.Timeout(**{**TIMEOUT.as_dict(), "read": float(connect.get("timeout") or TIMEOUT.read or 0)})


def is_http(url: str) -> bool:
    """Is it an address that a request can go to?"""
    try:
        return httpx2.URL(url).scheme in ("http", "https") and bool(httpx2.URL(url).host)
    except httpx2.InvalidURL:
        return False


class HttpPool:
    """The connections of one server. No redirects: a key goes only where it was configured for. With a ``lookup``, only
    to addresses that it gives, and past the proxies of the environment.
    """

    def __init__(self, *, trust_env: bool = True, lookup: Lookup | None = None) -> None:
        if lookup is None:
            self.http = httpx2.AsyncClient(limits=LIMITS, timeout=TIMEOUT, trust_env=trust_env, verify=tls())
            for transport in (self.http._transport, *self.http._mounts.values()):
                if isinstance(transport, httpx2.AsyncHTTPTransport):
                    in_one_write(transport)
        else:
            self.http = httpx2.AsyncClient(timeout=TIMEOUT, trust_env=False, transport=Checked(lookup))
        self._dialling: dict[str, asyncio.Task[None]] = {}

    def ready(self, url: str, headers: Mapping[str, str]) -> None:
        """Have an idle connection to the host of ``url``; without one, a GET of it is sent to open one. Its answer
        is not looked at: whatever it is, the connection stays. A plain call.
        """
        origin = str(httpx2.URL(url).copy_with(path="/", query=None))
        if origin in self._dialling or self._has_idle(url):
            return
        task = asyncio.create_task(self._dial(url, headers), name="dial-ahead")
        self._dialling[origin] = task
        task.add_done_callback(lambda _: self._dialling.pop(origin, None))

    async def aclose(self) -> None:
        for task in list(self._dialling.values()):
            task.cancel()
        await self.http.aclose()

    async def _dial(self, url: str, headers: Mapping[str, str]) -> None:
        with contextlib.suppress(httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
            async with asyncio.timeout(READY_TIMEOUT):
                await self.http.get(url, headers=dict(headers))

    def _has_idle(self, url: str) -> bool:
        # httpx2 has no public view of its connections; without this one, every turn would cost the vendor a request.
        origin = httpx2.URL(url)
        transport: Any = self.http._transport_for_url(origin)
        pool = getattr(transport.of(origin) if isinstance(transport, Checked) else transport, "_pool", None)
        return any(
            connection.is_idle() and not connection.has_expired() and connection.can_handle_request(_origin(origin))
            for connection in getattr(pool, "connections", ())
        )


class Checked(httpx2.AsyncBaseTransport):
    """HTTP to the addresses that a ``lookup`` gives. Host header and name for TLS stay those of the URL."""

    def __init__(self, lookup: Lookup, limits: httpx2.Limits = LIMITS) -> None:
        self._transports = {secure: _transport(lookup, secure, limits) for secure in (False, True)}

    def of(self, url: httpx2.URL) -> httpx2.AsyncHTTPTransport:
        return self._transports[url.scheme in ("https", "wss")]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self.of(request.url).handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


def _transport(lookup: Lookup, secure: bool, limits: httpx2.Limits) -> httpx2.AsyncHTTPTransport:
    transport = httpx2.AsyncHTTPTransport(verify=tls(), trust_env=False)
    if not isinstance(getattr(transport, "_pool", None), httpcore2.AsyncConnectionPool):
        raise RuntimeError("expected httpx2 to keep its connections in _pool; without that none would be checked")
    # httpx2 has no argument for a backend of the connections, and what it adds to a pool is worth having.
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=tls(),
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        network_backend=OneWrite(_Backend(lookup, secure)),
    )
    return transport


class _Backend(httpcore2.AsyncNetworkBackend):
    """Looks a host up, and connects to what was found."""

    def __init__(self, lookup: Lookup, secure: bool) -> None:
        self._lookup = lookup
        self._secure = secure
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(  # httpcore2's own signature
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            *others, last = await self._lookup(host, port, secure=self._secure)
        except OSError as exc:
            raise httpcore2.ConnectError(str(exc)) from exc
        each = min(EACH, timeout or EACH)
        for address in others:
            with contextlib.suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._inner.connect_tcp(address, port, each, local_address, socket_options)
        return await self._inner.connect_tcp(last, port, timeout, local_address, socket_options)


@functools.cache
def tls() -> ssl.SSLContext:
    """One for all pools of a process: reading the certificates takes 50 ms."""
    return httpx2.create_ssl_context()


def _origin(url: httpx2.URL) -> httpcore2.Origin:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin


def http_pool(shared: Shared, lookup: Lookup | None = None) -> HttpPool:
    """The one pool of this server, or the one for addresses that came with calls: its ``lookup`` is the server's."""
    if lookup is None:
        return shared.get("http", HttpPool)
    return shared.get("http-checked", lambda: HttpPool(lookup=lookup))
