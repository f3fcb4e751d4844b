"""AWS Bedrock through boto3, which blocks: a thread for every live stream, and a way to end it from the loop."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from providers.base import LlmEvent, LlmSpec, Message, Prompt, ProviderError, Tool, Working
from providers.failures import safe_cause
from providers.llm.bedrock_stream import Stream, connect_ahead, interruptible, to_provider_error
from providers.llm.bedrock_wire import Answer, model_of, to_wire
from providers.llm.usage import of_bedrock
from providers.registry import Shared

log = logging.getLogger("agentd.llm.bedrock")
# At debug level botocore tells whole requests: what was said on the call, the session token, the signature.
logging.getLogger("botocore").setLevel(logging.INFO)

THREADS = 64  # live streams of a server. One more waits for a thread, until its call gives up and cancels it
READ_TIMEOUT = 15.0  # seconds: the longest wait for the first byte, and between two
CONNECT_TIMEOUT = 3.0
REST_S = (
    0.25  # how long the usage may take after the end of the answer; only a body read to its end frees the connection
)
CLOSE_S = 2.0  # seconds that threads get to end when the server does


@dataclass(frozen=True, slots=True)
class Account:
    """Whose requests these are, and where they go. One boto3 client each."""

    region: str
    access_key: str = field(default="", repr=False)  # without one, boto3 looks in its own places
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    url: str | None = None
    read_timeout: float = READ_TIMEOUT

    def secrets(self) -> tuple[str, ...]:
        return (self.access_key, self.secret_key, self.session_token)


def account_of(spec: LlmSpec) -> Account:
    """Raises :class:`ProviderError` when the region or half of a key is missing."""
    given = {name: str(value).strip() for name, value in spec.credentials.items() if isinstance(value, str)}
    region = given.get("region") or given.get("awsRegion")
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    key, secret = given.get("accessKeyId", ""), given.get("secretAccessKey", "")
    here = f"credentials.{spec.vendor}"
    if not region:
        raise ProviderError(spec.vendor, "llm-no-region", f"expected {here}.region (often ${{AWS_REGION}}), got none")
    if bool(key) != bool(secret):
        missing = "accessKeyId" if secret else "secretAccessKey"
        raise ProviderError(spec.vendor, "llm-no-credentials", f"expected {here}.{missing} beside the other, got none")
    account = Account(
        region,
        key,
        secret,
        given.get("sessionToken", "") if key else "",
        str(spec.connect.get("baseURL") or given.get("baseURL") or "").rstrip("/") or None,
        float(spec.connect.get("timeout") or READ_TIMEOUT),
    )
    if not all(each.isascii() and each.isprintable() for each in account.secrets()):
        raise ProviderError(spec.vendor, "llm-bad-credentials", f"expected {here} of plain ASCII, got others")
    if account.url and not account.url.startswith(("http://", "https://")):
        raise ProviderError(
            spec.vendor, "llm-bad-url", f"expected baseURL to begin with http(s)://, got {account.url!r}"
        )
    return account


class Root:
    """The threads and the clients of one server. Its methods without ``async`` block: they run on the threads."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="bedrock")
        self.live: set[Stream] = set()
        self._clients: dict[Account, Any] = {}
        self._ahead: dict[Account, Future[None]] = {}
        self._session: boto3.session.Session | None = None
        self._lock = threading.Lock()  # a session serves one thread at a time; its clients serve all

    def client(self, account: Account) -> Any:
        """The client of this account: 125 ms for the first of all, 2 ms for the first of another account."""
        if (client := self._clients.get(account)) is not None:
            return client
        with self._lock:
            if account not in self._clients:
                self._session = self._session or boto3.session.Session()
                self._clients[account] = interruptible(self._make(self._session, account))
            return self._clients[account]

    def _make(self, session: boto3.session.Session, account: Account) -> Any:
        return session.client(
            "bedrock-runtime",
            region_name=account.region,
            endpoint_url=account.url,
            aws_access_key_id=account.access_key or None,
            aws_secret_access_key=account.secret_key or None,
            aws_session_token=account.session_token or None,
            config=Config(
                connect_timeout=CONNECT_TIMEOUT,
                read_timeout=account.read_timeout,
                max_pool_connections=THREADS,
                retries={"total_max_attempts": 1, "mode": "standard"},  # the call decides whether to ask again
                tcp_keepalive=True,
            ),
        )

    def ready(self, account: Account) -> None:
        """Have an idle connection. A plain call: it is dialled on a thread."""
        if (ahead := self._ahead.get(account)) is None or ahead.done():
            with contextlib.suppress(RuntimeError):  # the server is closing
                self._ahead[account] = self.threads.submit(self._dial, account)

    def wait_for_dial(self, account: Account) -> None:
        """A connection that is being dialled is there sooner than one that would be begun now."""
        if (ahead := self._ahead.get(account)) is not None and not ahead.done():
            ahead.exception()

    def _dial(self, account: Account) -> None:
        try:
            connect_ahead(self.client(account))
        except Exception as exc:  # the request will tell
            log.debug("cannot dial ahead", extra={"error": type(exc).__name__})

    async def aclose(self) -> None:
        for stream in list(self.live):
            stream.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.to_thread(self.threads.shutdown, cancel_futures=True)
        for client in self._clients.values():
            client.close()


class BedrockLlm:
    """One model of one account. Holds no state between replies, so a call may run several at once."""

    def __init__(self, spec: LlmSpec, root: Root) -> None:
        self.name = f"{spec.vendor}:{model_of(spec)}"
        self._spec = spec
        self._root = root
        self._account = account_of(spec)

    async def reply(self, prompt: Prompt) -> AsyncIterator[LlmEvent]:
        """Stream one answer. Raises :class:`ProviderError`: before the first event for what Bedrock refuses;
        ``llm-connection-lost`` when the stream ends without a stopReason, ``llm-content-filtered`` when all of the
        answer was withheld. An answer that is whole and empty yields nothing.
        """
        answer, said = Answer(), False
        stream = Stream(asyncio.get_running_loop())
        request = to_wire(prompt, self._spec)
        job = self._root.threads.submit(self._pump, stream, request)
        self._root.live.add(stream)
        try:
            while not answer.is_over:
                async with asyncio.timeout(REST_S if answer.stop else None):
                    event = await stream.next()
                if event is None:
                    break
                for each in answer.event(event):
                    said = said or not isinstance(each, Working)
                    yield each
            if answer.is_over:
                await self._rest(stream)
        except TimeoutError:
            pass  # the answer is whole; its connection is given up
        except Exception as exc:
            if answer.stop is None or isinstance(exc, ClientError):
                raise self._translate(exc) from safe_cause(exc, self._account.secrets())
        finally:
            self._root.live.discard(stream)
            job.cancel()
            stream.cancel()
        if answer.stop is None:
            message = "expected a stopReason, got the end of the stream"
            raise ProviderError(self._spec.vendor, "llm-connection-lost", message, retryable=True)
        self._check(answer.stop, said)
        log.debug("llm answered", extra={"llm": self.name, "finish": answer.stop, "usage": dict(answer.usage)})
        for usage in of_bedrock(answer.usage):
            yield usage

    async def warm(self) -> None:
        """Build the client, and make a request of it that goes nowhere. Nothing leaves the process, except that
        boto3 may ask the machine's own metadata service for credentials.
        """
        prompt = Prompt((Message("user", "hello"),), (Tool("t", "t", {}),))
        job = self._root.threads.submit(self._build, to_wire(prompt, self._spec))
        with contextlib.suppress(BotoCoreError):  # the first reply will tell
            await asyncio.wrap_future(job)

    def ready(self) -> None:
        """Have an open connection to Bedrock."""
        self._root.ready(self._account)

    def _build(self, request: dict[str, Any]) -> None:
        client = self._root.client(self._account)
        with contextlib.suppress(BotoCoreError):
            client.generate_presigned_url("converse_stream", Params=request)

    def _pump(self, stream: Stream, request: dict[str, Any]) -> None:
        def ask() -> Any:
            client = self._root.client(self._account)
            self._root.wait_for_dial(self._account)
            return client.converse_stream(**request)

        stream.run(ask)

    async def _rest(self, stream: Stream) -> None:
        async with asyncio.timeout(REST_S):
            while await stream.next() is not None:
                pass

    def _check(self, stop: str, said: bool) -> None:
        if said:
            return
        if stop in ("content_filtered", "guardrail_intervened"):
            raise ProviderError(self._spec.vendor, "llm-content-filtered", "the vendor withheld its answer")
        if stop.startswith("malformed_"):
            message = f"expected an answer, got stopReason {stop}"
            raise ProviderError(self._spec.vendor, "llm-bad-stream", message, retryable=True)

    def _translate(self, exc: Exception) -> ProviderError:
        return to_provider_error(exc, self._spec.vendor, self._account.secrets())


def make_llm(spec: LlmSpec, shared: Shared) -> BedrockLlm:
    """Raises :class:`ProviderError` when the model, the region or half of a key is missing. Whether boto3 finds
    credentials where none are given turns out with the first reply.
    """
    return BedrockLlm(spec, shared.get("bedrock", Root))
