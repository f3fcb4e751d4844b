"""HTTP requests that leave in one piece. httpcore2 writes head and body one after the other: two system calls here, and
on the other side two wake-ups, before anything has been asked.
"""

import contextlib
import ssl
from typing import Any

import httpcore2
import httpx2

MOST = 65_536  # bytes that wait for the rest of a request; a longer one goes out as it comes


class OneWrite(httpcore2.AsyncNetworkBackend):
    """Another backend's connections. What is written to them goes out when an answer is waited for."""

    def __init__(self, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._inner.connect_tcp(*args, **options))

    async def connect_unix_socket(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return _Stream(await self._inner.connect_unix_socket(*args, **options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, inner: httpcore2.AsyncNetworkStream) -> None:
        self._inner = inner
        self._waiting = bytearray()
        self._timeout: float | None = None

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._waiting:
            with contextlib.suppress(httpcore2.WriteError):  # as httpcore2: it may have answered before it closed
                await self._flush()
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        self._waiting += buffer
        self._timeout = timeout
        if len(self._waiting) > MOST:
            await self._flush()

    async def _flush(self) -> None:
        if self._waiting:
            waiting, self._waiting = bytes(self._waiting), bytearray()
            await self._inner.write(waiting, self._timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        await self._flush()
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def in_one_write(transport: httpx2.AsyncHTTPTransport) -> httpx2.AsyncHTTPTransport:
    """The same transport; before its first request. httpx2 has no argument for it."""
    pool = getattr(transport, "_pool", None)
    backend = getattr(pool, "_network_backend", None)
    if isinstance(backend, httpcore2.AsyncNetworkBackend):
        pool._network_backend = OneWrite(backend)  # type: ignore[union-attr]
    return transport
