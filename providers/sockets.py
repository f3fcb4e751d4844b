"""Websockets to vendors: dialled with a deadline, failures in our words, closed within a second."""

import asyncio
import contextlib
import functools
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.protocol import State
from websockets.uri import parse_uri

from providers.base import Lookup, ProviderError
from providers.failures import Role, failure, kind_of, retry_after, safe_cause

log = logging.getLogger("agentd.sockets")
quiet = logging.getLogger("agentd.sockets.wire")  # websockets' own log prints handshakes, keys included, at debug level
quiet.setLevel(logging.INFO)

DIAL = 5.0  # seconds for TCP, TLS and the upgrade
EACH = 1.5  # seconds for TCP to one of several addresses; the last one has all that is left
CLOSE = 1.0  # seconds for the close handshake; a peer that does not answer is cut off
UNSENT = 32 << 10  # bytes that may wait for a vendor that does not read, before whoever sends waits for it
LONGEST_MESSAGE = 8 << 20  # bytes
REFUSALS = {1008: "unauthorized", 1011: "server-error", 1013: "rate-limited"}  # what close codes mean most often


class Wire(Protocol):
    """A websocket to a vendor. SDKs that bring their own are wrapped to look like this."""

    @property
    def is_open(self) -> bool:
        """Nobody has closed it, as far as is known here."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Raises :class:`ProviderError`."""
        ...

    async def receive(self) -> str | bytes | None:
        """The next message; ``None`` once the vendor has closed in peace. Raises :class:`ProviderError` when the
        connection is lost. May be cancelled without losing a message.
        """
        ...

    async def close(self) -> None:
        """Never raises; returns within :data:`CLOSE` seconds."""
        ...


class PlainWire(Wire, Protocol):
    """One that can also be written to by a plain call."""

    @property
    def is_ready(self) -> bool:
        """It is open, and the vendor reads what is sent."""
        ...

    def send_now(self, message: str | bytes) -> None:
        """As :meth:`send`, where it :attr:`is_ready`."""
        ...


class Socket:
    """A :class:`PlainWire` over the package websockets. ``closings``: what a vendor's own close codes mean, as kinds of
    :mod:`providers.failures`.
    """

    def __init__(
        self,
        connection: ClientConnection,
        role: Role,
        vendor: str,
        *,
        secrets: Iterable[str] = (),
        closings: Mapping[int, str] = {},
    ) -> None:
        self._connection = connection
        self._role = role
        self._vendor = vendor
        self._secrets = tuple(secrets)
        self._closings = {**REFUSALS, **closings}

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    @property
    def is_ready(self) -> bool:
        connection = self._connection
        return connection.state is State.OPEN and connection.transport.get_write_buffer_size() <= UNSENT

    def send_now(self, message: str | bytes) -> None:
        # As websockets' own `broadcast` does it, which spares a third of what a frame costs.
        connection = self._connection
        if isinstance(message, bytes):
            connection.protocol.send_binary(message)
        else:
            connection.protocol.send_text(message.encode())
        connection.send_data()

    async def send(self, message: str | bytes) -> None:
        try:
            if self.is_ready:
                self.send_now(message)
            else:
                await self._connection.send(message)
        except ConnectionClosed as exc:
            raise self._lost(exc) from safe_cause(exc, self._secrets)

    async def receive(self) -> str | bytes | None:
        try:
            return await self._connection.recv()
        except ConnectionClosedOK as exc:
            if exc.rcvd is not None and exc.rcvd.code in self._closings:
                raise self._lost(exc) from safe_cause(exc, self._secrets)
            return None
        except ConnectionClosed as exc:
            raise self._lost(exc) from safe_cause(exc, self._secrets)

    async def close(self) -> None:
        await close(self._connection)

    def _lost(self, exc: ConnectionClosed) -> ProviderError:
        code, reason = (exc.rcvd.code, exc.rcvd.reason) if exc.rcvd is not None else (None, "")
        kind = self._closings.get(code or 0, "connection-lost")
        told = f"connection closed with code {code}: {reason or 'no reason given'}" if code else "connection lost"
        return failure(self._role, self._vendor, kind, told, secrets=self._secrets)


async def close(connection: ClientConnection) -> None:
    """In peace within a second, by force otherwise: websockets waits up to 20 s for a peer that does not read."""
    try:
        with contextlib.suppress(TimeoutError, ConnectionClosed, OSError):
            async with asyncio.timeout(CLOSE):
                await connection.close()
    finally:
        connection.transport.abort()  # also when we are cancelled meanwhile


@functools.cache
def tls() -> ssl.SSLContext:
    """One for all connections: each of its own would read the system's certificates, 30 ms that hold the loop."""
    return ssl.create_default_context()


class Direct(connect):
    """A key goes only where it was configured for. On its way to another host, websockets itself would take
    ``Authorization`` out of the headers, but not ``xi-api-key``.
    """

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def open_socket(addresses: Sequence[str], port: int) -> socket.socket:
    """A TCP connection to the first address that takes it. The deadline is the caller's. Raises ``OSError``."""
    loop = asyncio.get_running_loop()
    failure = OSError("expected an address, got none")
    for number, address in enumerate(addresses, 1):
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(EACH if number < len(addresses) else None):
                await loop.sock_connect(sock, (address, port))
        except OSError as exc:  # TimeoutError is one
            sock.close()
            failure = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


@contextlib.asynccontextmanager
async def checked(url: str, lookup: Lookup | None) -> AsyncIterator[dict[str, Any]]:
    """What a websocket is opened with besides, so that it goes to an address of ``lookup``'s: without one nothing.
    Raises ``OSError``, which a ``TimeoutError`` is, and InvalidURI for what is no URL.
    """
    if lookup is None:
        yield {}
        return
    where = parse_uri(url)
    async with asyncio.timeout(DIAL):
        sock = await open_socket(await lookup(where.host, where.port, secure=where.secure), where.port)
    try:
        yield {"sock": sock, "proxy": None}
    except BaseException:
        sock.close()
        raise


async def dial(
    role: Role,
    vendor: str,
    url: str,
    *,
    headers: Mapping[str, str] = {},
    secrets: Iterable[str] = (),
    closings: Mapping[int, str] = {},
    lookup: Lookup | None = None,
) -> Socket:
    """Open a websocket. Raises :class:`ProviderError`: by the HTTP status of a refusal, ``connection-lost`` when nobody
    answers, ``timeout`` after :data:`DIAL` seconds, ``bad-request`` for what is no URL.
    """
    try:
        async with checked(url, lookup) as through:
            connection = await Direct(
                url,
                additional_headers=dict(headers),
                ssl=tls() if url.lower().startswith("wss:") else None,
                compression=None,
                open_timeout=DIAL,
                ping_interval=20,
                # A synthesizer sends a minute of audio in seconds, read as it is played: its pong waits behind.
                ping_timeout=None if role == "tts" else 20,
                close_timeout=CLOSE,
                max_size=LONGEST_MESSAGE,
                logger=quiet,
                user_agent_header=None,
                **through,
            )
    except Exception as exc:
        raise dial_failure(exc, role, vendor, secrets) from safe_cause(exc, secrets)
    return Socket(connection, role, vendor, secrets=secrets, closings=closings)


def dial_failure(exc: Exception, role: Role, vendor: str, secrets: Iterable[str] = ()) -> ProviderError:
    """What went wrong while a websocket was opened, in our words."""
    match exc:
        case ProviderError():
            return exc
        case InvalidStatus():
            response = exc.response
            said = (response.body or b"").decode(errors="replace") or response.reason_phrase
            return failure(
                role,
                vendor,
                kind_of(response.status_code),
                f"HTTP {response.status_code}: {said}",
                secrets=secrets,
                retry_after=retry_after(response.headers),
            )
        case TimeoutError():
            return failure(role, vendor, "timeout", f"expected a connection within {DIAL:.0f} s, got none")
        case OSError() | EOFError() | InvalidHandshake():  # an untrusted certificate is a ValueError, too
            return failure(role, vendor, "connection-lost", f"cannot connect ({type(exc).__name__})")
        case InvalidURI() | ValueError():
            return failure(role, vendor, "bad-request", "expected the URL of a websocket, got another")
        case _:
            return failure(role, vendor, "connection-lost", f"cannot connect ({type(exc).__name__})")


def decoded(message: str | bytes, vendor: str) -> dict[str, Any]:
    """A message as a JSON object. What is none is skipped with a warning: an empty object."""
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    log.warning("message is no JSON object, skipped", extra={"vendor": vendor, "length": len(message)})
    return {}
