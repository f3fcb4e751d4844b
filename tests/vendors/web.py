"""The public services that the pre-built tools ask, on loopback: Open-Meteo, Wikipedia, Tavily, as they are documented.

The client sends each request here with the host that it was for; nothing else of it is changed.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.vendors.http import Request, _read

PLACES = [
    {
        "id": 4975802,
        "name": "Portland",
        "latitude": 43.65737,
        "longitude": -70.2589,
        "feature_code": "PPLA2",
        "country_code": "US",
        "timezone": "America/New_York",
        "country": "United States",
        "admin1": "Maine",
    },
    {
        "id": 5746545,
        "name": "Portland",
        "latitude": 45.52345,
        "longitude": -122.67621,
        "feature_code": "PPLA2",
        "country_code": "US",
        "timezone": "America/Los_Angeles",
        "country": "United States",
        "admin1": "Oregon",
        "elevation": 15.0,
        "population": 652503,
        "admin2": "Multnomah",
    },
]
CURRENT = {
    "time": "2026-11-20T04:00",
    "interval": 900,
    "temperature_2m": 7.4,
    "apparent_temperature": 5.1,
    "relative_humidity_2m": 87,
    "wind_speed_10m": 8.6,
    "weather_code": 61,
}
MEANINGS = {"pageid": 1, "ns": 0, "title": "Mercury", "index": 1, "extract": "Mercury most commonly refers to:"}
PAGES = [
    {"pageid": 2, "ns": 0, "title": "Mercury (element)", "index": 3, "extract": "Mercury is a chemical element."},
    {**MEANINGS, "pageprops": {"disambiguation": ""}},
    {"pageid": 3, "ns": 0, "title": "Mercury (planet)", "index": 2, "extract": "Mercury is a planet. It is small."},
]
FOUND = {
    "query": "louvre",
    "answer": "The Louvre opens at 9.",
    "images": [],
    "results": [
        {"title": f"Page {n}", "url": f"https://example.com/{n}", "content": "It opens at 9. " * 100, "score": 0.9}
        for n in range(8)
    ],
    "response_time": 1.2,
}

Handler = Callable[[str, Mapping[str, str], Request], tuple[int, Any]]


def everything(host: str, query: Mapping[str, str], request: Request) -> tuple[int, Any]:
    """What the services answer when all is well."""
    match request.method, host, urlsplit(request.path).path:
        case "GET", "geocoding-api.open-meteo.com", "/v1/search":
            known = query["name"] == "Portland"
            return 200, {**({"results": PLACES[: int(query["count"])]} if known else {}), "generationtime_ms": 0.6}
        case "GET", "api.open-meteo.com", "/v1/forecast":
            return 200, {"latitude": 45.5, "longitude": -122.7, "current_units": {}, "current": CURRENT}
        case "GET", wiki, "/w/api.php" if wiki.endswith(".wikipedia.org"):
            found = {"query": {"pages": PAGES}} if query["gsrsearch"] == "Mercury" else {}
            return 200, {"batchcomplete": True, **found}
        case "POST", "api.tavily.com", "/search":
            if request.headers.get("authorization") != "Bearer tvly-key":
                return 401, {"detail": {"error": "Unauthorized: missing or invalid API key."}}
            return 200, FOUND
    return 404, {}


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    body: bytes


@dataclass
class Web:
    """``answer`` gives a status and a body: JSON, or bytes as they are; ``hangs``: it never does."""

    answer: Handler = everything
    hangs: bool = False
    seen: list[tuple[str, Mapping[str, str], Request]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._client = httpx2.AsyncClient(trust_env=False, verify=False)  # loopback, without TLS
        return self

    async def __aexit__(self, kind: type | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.aclose()
        self._server.close()
        await self._server.wait_closed()

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] = {},
        limit: int = 0,
        seconds: float = 0.0,
    ) -> Reply:
        assert 0 < limit <= 1 << 20 and 0 < seconds <= 10
        parts = urlsplit(url)
        assert parts.scheme == "https"
        there = f"{self._url}{parts.path}?{parts.query}"
        sent = {**headers, "host": parts.netloc, "connection": "close"}
        answer = await self._client.request(method, there, content=content, headers=sent, timeout=None)
        return Reply(answer.status_code, answer.content)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        assert request is not None
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        self.seen.append((request.headers["host"], query, request))
        if self.hangs:
            await reader.read()
        else:
            status, data = self.answer(request.headers["host"], query, request)
            body = data if isinstance(data, bytes) else json.dumps(data).encode()
            head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
        writer.close()
