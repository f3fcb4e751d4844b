"""HTTP connections to vendors, shared by all calls of a server and kept open between their turns."""

import asyncio
import contextlib
import functools
import ssl
from collections.abc import Mapping
from typing import Any

import httpcore2
import httpx2

from providers.registry import Shared

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
    """The connections of one server. No redirects: a key goes only where it was configured for."""

    def __init__(self, *, trust_env: bool = True) -> None:
        self.http = httpx2.AsyncClient(limits=LIMITS, timeout=TIMEOUT, trust_env=trust_env, verify=_tls())
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
        pool = getattr(self.http._transport_for_url(httpx2.URL(url)), "_pool", None)
        origin = httpx2.URL(url)
        return any(
            connection.is_idle() and not connection.has_expired() and connection.can_handle_request(_origin(origin))
            for connection in getattr(pool, "connections", ())
        )


@functools.cache
def _tls() -> ssl.SSLContext:
    """One for all pools of a process: reading the certificates takes 50 ms."""
    return httpx2.create_ssl_context()


def _origin(url: httpx2.URL) -> httpcore2.Origin:
    return httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=b"/").origin


def http_pool(shared: Shared) -> HttpPool:
    """The one pool of this server."""
    return shared.get("http", HttpPool)
