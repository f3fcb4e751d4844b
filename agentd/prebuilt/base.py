"""What a pre-built tool is, and how one asks the web."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

from agentd import __version__
from agentd.errors import AgentdError
from providers.base import Tool

SECONDS = 8.0  # that a tool may take with all its requests: the caller is waiting
LIMIT = 262_144  # bytes of an answer
USER_AGENT = f"agentd/{__version__} (self-hosted voice agent)"  # Wikimedia refuses requests without one

Result = Mapping[str, Any]
Execute = Callable[[Mapping[str, Any]], Awaitable[Result]]


@dataclass(frozen=True, slots=True)
class Prebuilt:
    """A tool, what runs when the model calls it, and what callers ``said`` to get it: a recogniser's hints."""

    tool: Tool
    execute: Execute
    said: tuple[str, ...] = ()


class Answer(Protocol):
    """What came back over HTTP."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class Http(Protocol):
    """A client that keeps its own deadline and limit, as :class:`agentd.outbound.guard.Guard` does."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] = {},
        limit: int = ...,
        seconds: float = ...,
    ) -> Answer: ...


class Unavailable(Exception):
    """The service did not answer as it should. The message is for the model: no query, no key."""


async def get(http: Http, url: str, query: Mapping[str, str | int | float]) -> Any:
    """The JSON that a service answers a GET with. Raises :class:`Unavailable`."""
    return await _asked(http, "GET", f"{url}?{urlencode(query)}", None, {})


async def post(http: Http, url: str, data: Any, headers: Mapping[str, str]) -> Any:
    """The JSON that a service answers a POST with. Raises :class:`Unavailable`."""
    return await _asked(http, "POST", url, json.dumps(data).encode(), {"content-type": "application/json", **headers})


async def _asked(http: Http, method: str, url: str, content: bytes | None, headers: Mapping[str, str]) -> Any:
    host = urlsplit(url).hostname
    every = {"accept": "application/json", "user-agent": USER_AGENT, **headers}
    try:
        answer = await http.request(method, url, content=content, headers=every, limit=LIMIT, seconds=SECONDS)
    except AgentdError as exc:
        raise Unavailable(f"expected an answer from {host}, got {type(exc).__name__}") from exc
    if answer.status != 200:
        raise Unavailable(f"expected an answer from {host}, got HTTP {answer.status}")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise Unavailable(f"expected JSON from {host}, got something else") from None


def in_time(execute: Execute) -> Execute:
    """The same, but every failure of the service is a result that says so."""

    @wraps(execute)
    async def run(arguments: Mapping[str, Any]) -> Result:
        try:
            async with asyncio.timeout(SECONDS):
                return await execute(arguments)
        except TimeoutError:
            return {"error": f"expected an answer within {SECONDS:g} s, got none"}
        except Unavailable as exc:
            return {"error": str(exc)}
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as exc:
            # What a service answers is not ours: a key that is missing there is no crash here.
            return {"error": f"expected an answer in the known format, got another ({type(exc).__name__})"}

    return run


def words(arguments: Mapping[str, Any], name: str, example: str, longest: int = 200) -> str:
    """An argument that is text. Raises :class:`Unavailable`, with words for the model."""
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > longest:
        raise Unavailable(f"expected {name} to be text such as {example!r}, got {str(value)[:60]!r}")
    return value.encode(errors="replace").decode().strip()


def cut(text: str, limit: int) -> str:
    """As many whole sentences as fit; of a sentence that is too long by itself, its beginning."""
    text = text.strip()
    if len(text) <= limit:
        return text
    head = text[:limit]
    end = max(head.rfind(mark) for mark in (". ", "! ", "? ", "。", ".\n"))
    return head[: end + 1] if end > 0 else f"{head[: limit - 1].rstrip()}…"
