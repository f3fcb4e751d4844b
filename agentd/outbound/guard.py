"""Where a request may go whose address came with a call: one guard for all of them."""

import asyncio
import copy
import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection
from websockets.typing import Subprotocol

from agentd import __version__
from agentd.outbound.addresses import Place, Policy, Refused, host_of, place_of
from agentd.outbound.guard_failures import Blocked, NoAnswer, NotConnected, OutgoingFailed, TooLarge, TooSlow, failures
from agentd.outbound.guard_resolver import Resolve, system
from config.redirect import addresses
from config.server import Outgoing, Server
from config.verb import Agent
from providers.one_write import in_one_write
from providers.pools import LIMITS, Checked, tls
from providers.sockets import CLOSE, DIAL, Direct, open_socket, quiet
from providers.sockets import tls as websocket_tls

__all__ = ["Answer", "Blocked", "Guard", "NoAnswer", "NotConnected", "OutgoingFailed", "TooLarge", "TooSlow"]

log = logging.getLogger("agentd.outbound.guard")

CONNECT = 3.0  # seconds for TCP and TLS of a request
RESOLVE = 3.0  # seconds for the addresses of a name
TRIED = 4  # addresses of a name; all of them are judged
HOPS = 3  # redirects of an audio file
REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: httpx2.Headers
    body: bytes


class Guard:
    """Requests to the addresses that a call brings along (docs/hooks.md). ``rules`` are the operator's; ``trusted`` are
    URLs that stand in the operator's own files word for word: these may go anywhere. ``resolve`` finds the addresses of
    a name.

    Proxies of the environment are not used: a proxy would look names up by itself. Cookies are not kept: calls share
    the connections.
    """

    def __init__(self, rules: Outgoing, trusted: Iterable[str] = (), *, resolve: Resolve = system) -> None:
        self._policy = Policy.of(rules)
        self._resolve = resolve
        self._trusted = frozenset(trusted)
        self._http = {True: _client(_direct(LIMITS)), False: _client(Checked(self.lookup))}  # is the URL trusted?

    @classmethod
    def of(cls, server: Server, *, resolve: Resolve = system) -> "Guard":
        """The one of a server: what ``agentd.yaml`` names is trusted."""
        return cls(server.outgoing, addresses(server.given()), resolve=resolve)

    def of_agent(self, agent: Agent) -> "Guard":
        """The same for one call: what the file of its agent names is trusted as well, that of another is not."""
        return self.trusting(addresses(agent.given()))

    def trusting(self, urls: Iterable[str]) -> "Guard":
        """The same pools and rules with more trusted URLs: one per call, cheap. Only the first is to be closed."""
        same = copy.copy(self)
        same._trusted = self._trusted | frozenset(urls)
        return same

    def trusts(self, address: str) -> bool:
        """Does it stand in the operator's files, word for word?"""
        return address in self._trusted

    def allows(self, address: str) -> bool:
        """Is the host (or the URL's) named in ``outgoing.allow``, so that it may go anywhere? Needs no DNS."""
        try:
            place = place_of(address if "://" in address else f"https://{address}")
        except Refused:
            return False
        literal = place.address()
        return self._policy.names_host(place.host) or (literal is not None and self._policy.holds(literal))

    def check(self, url: str) -> None:
        """All that needs no DNS. A plain call. Raises :class:`Blocked`."""
        if url not in self._trusted:
            self._place(url)

    async def request(
        self,
        method: str,
        url: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] = {},
        limit: int = 1 << 20,
        seconds: float = 10.0,
        named: str | None = None,
    ) -> Answer:
        """The answer, whatever its status; a redirect is an answer too. ``limit`` in bytes, ``seconds`` for everything.
        ``named``: the address as it was given, where ``url`` is made from it (another path, a query); whether it is
        trusted is asked of that one, as long as both lead to the same host and port.

        Raises :class:`Blocked` and :class:`OutgoingFailed`.
        """
        is_trusted = url in self._trusted or (named in self._trusted and _same_origin(str(named), url))
        if not is_trusted:
            self._place(url)
        headers = {**headers, "Accept-Encoding": "identity"}  # a small body could unpack to a huge one
        patience = httpx2.Timeout(seconds, connect=min(CONNECT, seconds))
        async with failures(seconds):
            stream = self._http[is_trusted].stream(method, url, content=content, headers=headers, timeout=patience)
            async with stream as response:
                body = await _read(response, limit)
                return Answer(response.status_code, response.headers, body)

    async def fetch(self, url: str, *, limit: int = 20 << 20, seconds: float = 10.0) -> Answer:
        """A GET that follows up to three redirects, each of them checked as the first address was. Raises as
        :meth:`request` does.
        """
        until = asyncio.get_running_loop().time() + seconds
        for hops in range(HOPS + 1):
            left = until - asyncio.get_running_loop().time()
            answer = await self.request("GET", url, limit=limit, seconds=max(left, 0.001))
            where = answer.headers.get("location")
            if answer.status not in REDIRECTS or not where:
                return answer
            if hops < HOPS:
                url = _joined(url, where)
        raise NoAnswer(f"expected at most {HOPS} redirects, got more")

    def client(self, url: str, **options: Any) -> httpx2.AsyncClient:
        """For an SDK that wants a client of its own, with connections of its own: each of them is checked, unless
        ``url`` is trusted and it is to the same host and port. What is refused later is a ``ConnectError`` there. No
        redirects, no proxies from the environment. ``options`` are those of httpx2. The caller closes it. Raises
        :class:`Blocked`.
        """
        self.check(url)
        origin = _origin(url) if url in self._trusted else None
        routed = _Routed(self, origin, options.pop("limits", LIMITS))
        return httpx2.AsyncClient(**{**options, "follow_redirects": False, "trust_env": False, "transport": routed})

    async def dial(
        self,
        url: str,
        *,
        subprotocols: Sequence[str] = (),
        headers: Mapping[str, str] = {},
        seconds: float = DIAL,
        **options: Any,
    ) -> ClientConnection:
        """A websocket. ``options`` are those of websockets' ``connect``. Raises :class:`Blocked` and
        :class:`OutgoingFailed`, and websockets' InvalidHandshake (InvalidStatus, …) for an upgrade that is refused.
        """
        place = None if url in self._trusted else self._place(url)
        how = {
            "compression": None,
            "close_timeout": CLOSE,
            "logger": quiet,
            "user_agent_header": f"agentd/{__version__}",
            **options,
            "additional_headers": dict(headers),
            "subprotocols": [Subprotocol(name) for name in subprotocols] or None,
            "ssl": websocket_tls() if url[:4].lower() == "wss:" else None,
            "open_timeout": None,  # all of it is within `seconds`
            "proxy": None,
        }
        async with failures(seconds):
            if place is None:
                return await Direct(url, **how)
            sock = await open_socket(await self._addresses(place), place.port)
            try:
                return await Direct(url, **how, sock=sock)
            except BaseException:
                sock.close()
                raise
        raise AssertionError("failures() swallows nothing")

    async def connect(self, host: str, port: int, *, secure: bool = True) -> socket.socket:
        """A connected socket to one of the addresses of ``host``, all of which were checked. ``secure``: TLS will be
        spoken. Raises :class:`Blocked` and :class:`NotConnected`.
        """
        try:
            async with asyncio.timeout(DIAL):
                return await open_socket(await self._find(host, port, secure=secure), port)
        except OSError as exc:
            raise NotConnected(f"cannot connect ({type(exc).__name__})") from exc

    async def lookup(self, host: str, port: int, *, secure: bool) -> Sequence[str]:
        """The same without connecting, as vendors take it (:class:`providers.base.Lookup`). Raises ``OSError``."""
        try:
            return await self._find(host, port, secure=secure)
        except Blocked as exc:
            log.warning("address refused", extra={"why": str(exc)})  # an SDK may tell only that it cannot connect
            raise OSError(str(exc)) from exc
        except NotConnected as exc:
            raise OSError(str(exc)) from exc

    async def aclose(self) -> None:
        """Close the pools."""
        for client in self._http.values():
            await client.aclose()

    def _place(self, url: str) -> Place:
        try:
            place = place_of(url)
            self._policy.judge(place)
        except Refused as exc:
            raise Blocked(str(exc)) from None
        return place

    async def _find(self, host: str, port: int, *, secure: bool) -> Sequence[str]:
        try:
            place = Place(host_of(host), port, secure)
            self._policy.judge(place)
        except Refused as exc:
            raise Blocked(str(exc)) from None
        return await self._addresses(place)

    async def _addresses(self, place: Place) -> Sequence[str]:
        """Raises :class:`Blocked` if one of them may not be asked: whoever mixes them does not mean well."""
        if place.address() is not None:
            return [place.host]
        try:
            async with asyncio.timeout(RESOLVE):
                found = await self._resolve(place.host, place.port)
        except TimeoutError:
            raise NotConnected(f"expected the addresses of {place.host} within {RESOLVE:.0f} s, got none") from None
        except OSError:
            found = []
        if not found:
            raise NotConnected(f"expected a host with an address, got {place.host}")
        try:
            self._policy.judge_all(place, found)
        except Refused as exc:
            raise Blocked(str(exc)) from None
        return [str(address) for address in found[:TRIED]]


class _Routed(httpx2.AsyncBaseTransport):
    """Straight to ``origin``, if there is one, and checked to everywhere else."""

    def __init__(self, guard: Guard, origin: httpx2.URL | None, limits: httpx2.Limits) -> None:
        self._guard = guard
        self._origin = origin
        self._direct = _direct(limits)
        self._checked = Checked(guard.lookup, limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self._origin is not None and _origin(str(request.url)) == self._origin:
            return await self._direct.handle_async_request(request)
        try:
            self._guard._place(str(request.url))
        except Blocked as exc:
            log.warning("address refused", extra={"why": str(exc)})
            raise httpx2.ConnectError(str(exc), request=request) from exc
        return await self._checked.handle_async_request(request)

    async def aclose(self) -> None:
        await self._direct.aclose()
        await self._checked.aclose()


def _direct(limits: httpx2.Limits) -> httpx2.AsyncHTTPTransport:
    return in_one_write(httpx2.AsyncHTTPTransport(verify=tls(), trust_env=False, limits=limits))


def _client(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        transport=transport,
        trust_env=False,
        headers={"User-Agent": f"agentd/{__version__}"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )


async def _read(response: httpx2.Response, limit: int) -> bytes:
    packed = response.headers.get("content-encoding", "identity")
    if packed != "identity":
        raise NoAnswer("expected an answer without content-encoding, got one with")
    body = bytearray()
    if not int(response.headers.get("content-length") or 0) > limit:
        async for data in response.aiter_raw():
            body += data
            if len(body) > limit:
                break
        else:
            return bytes(body)
    raise TooLarge(f"expected an answer of at most {limit} bytes, got more")


def _origin(url: str) -> httpx2.URL:
    return httpx2.URL(url).copy_with(userinfo=b"", path="/", query=None, fragment=None)


def _same_origin(one: str, other: str) -> bool:
    try:
        return _origin(one) == _origin(other)
    except httpx2.InvalidURL:
        return False


def _joined(url: str, location: str) -> str:
    try:
        return str(httpx2.URL(url).join(location))
    except (httpx2.InvalidURL, ValueError):
        raise Blocked("expected a redirect to a URL, got what is none") from None
