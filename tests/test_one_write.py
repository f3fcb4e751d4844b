"""A request leaves in one piece."""

import asyncio
from typing import Any

import httpcore2
import httpx2
import pytest

from providers.one_write import MOST, OneWrite, in_one_write

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Line(httpcore2.AsyncNetworkStream):
    """Keeps what is written to it; ``breaks``: nothing can be."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.written: list[bytes] = []
        self.is_closed = False
        self._breaks = breaks

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return ANSWER

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if self._breaks:
            raise httpcore2.WriteError
        self.written.append(bytes(buffer))

    async def aclose(self) -> None:
        self.is_closed = True

    async def start_tls(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        self.written.append(b"TLS")
        return self

    def get_extra_info(self, info: str) -> Any:
        return None


class Lines(httpcore2.AsyncNetworkBackend):
    def __init__(self, line: Line) -> None:
        self.line = line

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.AsyncNetworkStream:
        return self.line


async def post(line: Line, body: bytes, url: str = "http://vendor.test/v1") -> httpx2.Response:
    transport = httpx2.AsyncHTTPTransport(trust_env=False)
    transport._pool._network_backend = Lines(line)
    async with httpx2.AsyncClient(transport=in_one_write(transport)) as client:
        return await client.post(url, content=body)


@pytest.mark.parametrize("url", ["http://vendor.test/v1", "https://vendor.test/v1"])
def test_head_and_body_go_out_together(url: str) -> None:
    line = Line()
    assert asyncio.run(post(line, b'{"a": 1}', url)).content == b"ok"
    (written,) = (each for each in line.written if each != b"TLS")
    assert written.startswith(b"POST /v1 HTTP/1.1\r\n") and written.endswith(b'\r\n\r\n{"a": 1}')
    assert line.is_closed


def test_a_long_body_does_not_wait_for_its_end() -> None:
    line = Line()
    asyncio.run(post(line, b"x" * (2 * MOST)))
    assert b"".join(line.written).endswith(b"x" * (2 * MOST))


def test_an_answer_to_what_could_not_be_sent_is_still_read() -> None:
    assert asyncio.run(post(Line(breaks=True), b"{}")).content == b"ok"


def test_it_is_put_around_the_backend_that_a_transport_has() -> None:
    transport = httpx2.AsyncHTTPTransport(trust_env=False)
    assert isinstance(in_one_write(transport)._pool._network_backend, OneWrite)
