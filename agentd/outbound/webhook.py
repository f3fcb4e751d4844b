"""A hook of the verb at an absolute URL: each thing that the application is asked or told is one HTTP request."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlencode, urlsplit, urlunsplit

from agentd import __version__
from agentd.outbound import answers, signature
from agentd.outbound.basic_auth import basic
from agentd.outbound.channel import HookFailed, Verbs
from agentd.outbound.guard import Answer, Blocked, Guard, NotConnected, OutgoingFailed, TooLarge, TooSlow
from config.payloads import Payload

log = logging.getLogger("agentd.outbound.webhook")

SECONDS = 10.0  # for the answer of an eventHook and of an actionHook, jambonz's own
LIMIT = 1 << 20  # bytes of an answer
PAUSE = 0.5  # seconds before an application is asked again that could not be reached


class Webhook:
    """A :class:`Channel`. ``info`` is what every request says of the call (``payloads.call_info``), read each time; the
    payload's own keys win. ``secret`` signs the body; ``tool_seconds`` is all that a tool call may take.

    A request is sent a second time only when the first cannot have arrived.
    """

    def __init__(
        self,
        guard: Guard,
        url: str,
        *,
        method: Literal["GET", "POST"] = "POST",
        username: str | None = None,
        password: str | None = None,
        secret: str | None = None,
        info: Mapping[str, Any] | None = None,
        tool_seconds: float = 20.0,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.where = where(url)
        self._guard = guard
        self._url = url
        self._method = method
        self._headers = {"User-Agent": f"agentd/{__version__}"}
        if username is not None:
            self._headers["Authorization"] = basic(username, password)
        self._secret = secret
        self._info = info or {}
        self._tool_seconds = tool_seconds
        self._time_of_day = time_of_day

    async def tool_call(self, payload: Payload) -> Any:
        return answers.result(await self._ask(payload, self._tool_seconds))

    async def event(self, payload: Payload) -> None:
        await self._ask(payload, SECONDS)

    async def action(self, payload: Payload) -> Verbs:
        answer = await self._ask(payload, SECONDS)
        try:
            return answers.verbs(answer)
        except HookFailed as exc:  # it was told, and that is what counts
            log.warning("actionHook's answer ignored", extra={"where": self.where, "error": str(exc)})
            return []

    async def _ask(self, payload: Payload, seconds: float) -> Answer:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        try:
            answer = await self._send(payload, seconds)
        except HookFailed as exc:
            left = until - loop.time() - PAUSE
            if not exc.may_retry or left <= 0:
                raise
            await asyncio.sleep(PAUSE)
            answer = await self._send(payload, left)
        answers.check(answer)
        return answer

    async def _send(self, payload: Payload, seconds: float) -> Answer:
        told = {**self._info, **payload}
        headers, url, content = dict(self._headers), self._url, None
        if self._method == "GET":
            url = _with_query(url, told)
        else:
            content = signature.body(told)
            headers["Content-Type"] = "application/json"
        if self._secret:
            headers[signature.HEADER] = signature.sign(self._secret, content or b"", self._time_of_day())
        try:
            return await self._guard.request(
                self._method, url, content=content, headers=headers, limit=LIMIT, seconds=seconds, named=self._url
            )
        except (Blocked, OutgoingFailed) as exc:
            raise HookFailed(_in_words(exc, seconds), may_retry=getattr(exc, "may_retry", False)) from exc


def where(url: str) -> str:
    """A URL as logs may have it: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "a URL that is none"
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def _with_query(url: str, payload: Payload) -> str:
    """As jambonz does it for GET: what is one value becomes a parameter, what holds others is left out."""
    values = {key: _parameter(value) for key, value in payload.items() if isinstance(value, str | int | float)}
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode(values, errors="replace"))))
    return urlunsplit((*parts[:3], query, parts.fragment))


def _parameter(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in_words(exc: Exception, seconds: float) -> str:
    """For a model, and so without address: the cause has it, for the operator."""
    match exc:
        case Blocked():
            return "the address of the application is not allowed"
        case NotConnected():
            return "the application could not be reached"
        case TooSlow():
            return f"the application did not answer within {seconds:g} seconds"
        case TooLarge():
            return f"expected at most {LIMIT} bytes from the application, got more"
        case _:
            return "the connection to the application broke before its answer was there"
