"""An application's web server, over a real socket, with scripted answers; and the guard through which it is asked."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from agentd.outbound.guard import Guard
from config.server import Outgoing
from tests.vendors import canary
from tests.vendors.http import HttpVendor, Request

CALL = {
    "call_sid": "c-1",
    "account_sid": "a-1",
    "application_sid": "app-1",
    "direction": "inbound",
    "from": "+15551234567",
    "to": "+15557654321",
    "call_id": "sip-1",
    "call_status": "in-progress",
    "sip_status": 200,
    "customerData": {"tier": "gold"},
}

# What nobody may read in a log or an error.
USER, PASSWORD, SECRET, QUERY = CANARIES = (
    "u-7c1d90aa42be51",
    "p-93e07d16c2fb48",
    "s-5a60ce8f1794d3",
    "q-b84e2f63a9017c",
)


@dataclass(frozen=True)
class Reply:
    """``after``: seconds before it; ``gap``: seconds from byte to byte; ``closes``: the connection, in place of it."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0.0
    gap: float = 0.0
    closes: bool = False


def says(value: Any, **options: Any) -> Reply:
    """A JSON answer."""
    return Reply(body=json.dumps(value).encode(), **options)


class Application(HttpVendor):
    """Answers with one reply after the other, and with the last one from then on; ``listens=False``: nobody does at its
    address before :meth:`open`.
    """

    def __init__(self, *replies: Reply, listens: bool = True) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.times: list[float] = []  # of the loop, when each request came
        self.port = 0
        self._replies = replies or (Reply(),)
        self._listens = listens
        self._came = asyncio.Event()

    @property
    def bodies(self) -> list[Any]:
        return [request.json() for request in self.requests]

    async def asked(self, times: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(600):
            while len(self.requests) < times:
                self._came.clear()
                await self._came.wait()

    async def __aenter__(self) -> Self:
        self._socket = socket.socket(proto=socket.IPPROTO_TCP)  # named, or asyncio leaves Nagle's algorithm on
        self._socket.bind(("127.0.0.1", 0))  # the port is ours from here on, and refuses until somebody listens
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if self._listens:
            await self.open()
        return self

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def __aexit__(self, *exc: Any) -> None:
        if self._server is None:
            self._socket.close()
        else:
            await super().__aexit__(*exc)

    async def _answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = self._replies[min(len(self.requests), len(self._replies) - 1)]
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.seen.asked.set()
        self._came.set()
        await asyncio.sleep(reply.after)
        if reply.closes:
            writer.close()
            return
        fields = {"content-type": reply.content_type, "content-length": str(len(reply.body)), **reply.headers}
        if reply.status == 204:
            del fields["content-length"]
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
        writer.write(f"HTTP/1.1 {reply.status} So\r\n{head}\r\n".encode())
        if not reply.gap:
            writer.write(reply.body)
        for at in range(len(reply.body) if reply.gap else 0):
            await asyncio.sleep(reply.gap)
            writer.write(reply.body[at : at + 1])
            await writer.drain()
        await writer.drain()


@asynccontextmanager
async def guarding(*applications: Application) -> AsyncIterator[Guard]:
    """A guard by whose rules these may be asked, though they are on this machine; without any, none may."""
    ports = [application.port for application in applications]
    guard = Guard(Outgoing(allow=["127.0.0.1"], ports=ports, plain=True) if applications else Outgoing())
    try:
        yield guard
    finally:
        await guard.aclose()


def overheard(records: Iterable[logging.LogRecord], *told: str) -> list[str]:
    """Which canaries stand in ``told`` or in a log, in its fields or its tracebacks: in ours at any level, in those of
    libraries from a warning on. What they say below that is never set to be logged.
    """
    heard = list(told)
    for record in records:
        if record.name.startswith("agentd") or record.levelno >= logging.WARNING:
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            heard += [record.getMessage(), trace, *map(str, vars(record).values())]
    return [key for key in CANARIES for text in heard if canary.is_told(text, key)]
