"""One answer of boto3's, read on a thread and handed to the loop, which can end it at any instant."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any

import urllib3.exceptions
from botocore import exceptions as boto
from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)

from providers.base import ProviderError
from providers.failures import failure, kind_of, retry_after

# What the name of an error says better than its status: 424, 424 and 400.
KINDS = {
    "ModelErrorException": "server-error",
    "ModelStreamErrorException": "server-error",
    "ServiceQuotaExceededException": "quota-exceeded",
}


class Stream:
    """The thread calls :meth:`run`; the loop awaits :meth:`next` and may call :meth:`cancel` at any time.

    The queue between them has no bound: an answer has no more events than tokens, and its reader only yields.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._lock = threading.Lock()
        self._cancelled = False
        self._end: Callable[[], object] | None = None  # what ends the blocking call that is under way

    # On the loop -----------------------------------------------------------------------------------------

    async def next(self) -> Any:
        """The next event; ``None`` at the end. Raises what the thread met."""
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    def cancel(self) -> None:
        """End the request. The vendor sees it at once, if the stream has not ended yet."""
        with self._lock:
            self._cancelled = True
            end, self._end = self._end, None
        if end is not None:
            # OSError: the connection is gone. The others: the body has been read to its end by now.
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                end()

    # On the thread ---------------------------------------------------------------------------------------

    def run(self, ask: Callable[[], Any]) -> None:
        """Hand over what ``ask`` streams. Never raises."""
        if self._cancelled:
            return
        _thread.stream = self
        last: Exception | None = None
        try:
            with contextlib.closing(self._ask(ask)) as stream:  # an error of its parser leaves the connection open
                self.ends_with(stream._raw_stream.shutdown)
                try:
                    for event in stream:
                        self._tell(event)
                finally:
                    self.ends_with(None)
        except Exception as exc:  # whatever it is, a reply waits for it
            last = exc
        finally:
            _thread.stream = None
            self._tell(last)

    def ends_with(self, end: Callable[[], object] | None) -> None:
        """What :meth:`cancel` is to call from now on; called here if it has been cancelled already."""
        with self._lock:
            self._end = end
            is_late = self._cancelled
        if is_late and end is not None:
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                end()

    def _ask(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()["stream"]
        except boto.ConnectionClosedError:
            if self._cancelled:
                raise
        # Once more, at once: the server may have closed an idle connection in the instant we picked it.
        return ask()["stream"]

    def _tell(self, event: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)


# Connections ----------------------------------------------------------------------------------------------

_thread = threading.local()  # .stream: whose request this thread makes


class _Interruptible:
    """A connection that tells the stream of its thread how to end the wait for an answer's first byte."""

    sock: Any

    def getresponse(self) -> Any:
        stream: Stream | None = getattr(_thread, "stream", None)
        if stream is None:
            return super().getresponse()  # type: ignore[misc]
        ours = self.sock
        stream.ends_with(lambda: ours.shutdown(socket.SHUT_RDWR))
        try:
            return super().getresponse()  # type: ignore[misc]
        finally:
            stream.ends_with(None)


class _Http(_Interruptible, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _Https(_Interruptible, AWSHTTPSConnection):  # type: ignore[misc]
    @property
    def is_connected(self) -> bool:
        """urllib3 takes an idle connection with something to read for a closed one. After a TLS 1.3 handshake there
        is something: session tickets, and one that was dialled ahead would be thrown away for them.
        """
        if self.sock is None or super().is_connected:
            return self.sock is not None
        patience = self.sock.gettimeout()
        try:
            self.sock.settimeout(0)
            self.sock.recv(1)  # the end, or what nobody has asked for
        except ssl.SSLWantReadError:  # that was all
            self.sock.settimeout(patience)
            return True
        except OSError:
            pass
        return False


class _HttpPool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Http


class _HttpsPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Https


def interruptible(client: Any) -> Any:
    """The client, with connections of ours. botocore has no public place for them; one that has changed inside
    works as well, only that a cancelled request then lives on until its first byte.
    """
    pools = getattr(client._endpoint.http_session, "_pool_classes_by_scheme", None)
    if isinstance(pools, dict):
        pools.update(http=_HttpPool, https=_HttpsPool)
    return client


def connect_ahead(client: Any) -> None:
    """Open a connection and leave it where the next request looks for one. Nothing is sent."""
    session, url = client._endpoint.http_session, client.meta.endpoint_url
    if session._proxy_config.proxy_url_for(url):
        return  # a proxy wants to be told first
    pool = session._manager.connection_from_url(url)
    session._setup_ssl_cert(pool, url, session._verify)
    connection = pool._get_conn(timeout=0)
    try:
        if connection.is_closed:
            connection.connect()
    finally:
        pool._put_conn(connection)


# Errors ---------------------------------------------------------------------------------------------------


def to_provider_error(exc: Exception, vendor: str, secrets: Iterable[str] = ()) -> ProviderError:
    """Any failure of a request or of its stream, in our words."""
    wait: float | None = None
    match exc:
        case boto.ClientError():
            about, error = exc.response.get("ResponseMetadata", {}), exc.response.get("Error", {})
            code = str(error.get("Code") or "")
            # botocore says 400 of every error inside a stream; there the name alone counts.
            status = None if isinstance(exc, boto.EventStreamError) else about.get("HTTPStatusCode")
            kind = KINDS.get(code[:1].upper() + code[1:]) or kind_of(status, code)
            wait = retry_after(about.get("HTTPHeaders") or {})
            where = "error in the stream" if status is None else f"HTTP {status}"
            message = f"{where}: {code}: {error.get('Message') or 'no message'}"
        case (
            boto.NoCredentialsError()
            | boto.NoAuthTokenError()
            | boto.PartialCredentialsError()
            | boto.ProfileNotFound()
        ):
            kind = "no-credentials"
            message = f"expected credentials.{vendor}.accessKeyId, or some where boto3 looks, got none"
        case boto.CredentialRetrievalError() | boto.TokenRetrievalError() | boto.SSOError() | boto.LoginError():
            kind, message = "unauthorized", f"cannot get credentials ({type(exc).__name__})"
        case boto.ParamValidationError():
            kind, message = "bad-request", " ".join(str(exc).split())
        case boto.ReadTimeoutError() | boto.ConnectTimeoutError() | urllib3.exceptions.TimeoutError():
            kind, message = "timeout", "expected an answer, got none in time"
        case boto.ConnectionError() | boto.HTTPClientError() | urllib3.exceptions.HTTPError() | OSError():
            kind, message = "connection-lost", f"connection lost ({type(exc).__name__})"
        case boto.BotoCoreError():
            kind, message = "bad-stream", str(exc)
        case _:
            kind, message = "bad-stream", f"expected an event, got another thing ({type(exc).__name__})"
    return failure("llm", vendor, kind, message, secrets=secrets, retry_after=wait)
