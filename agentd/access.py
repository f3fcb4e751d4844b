"""Who may come in. A rule that is told the time, and the thin shell that asks it before anything else is done.

Callers bring Basic credentials (jambonz's `wsAuth`), everybody else a bearer key. Where nobody is named under
``access``, only peers on this machine may come in, unless it is ``open``. Pages of a browser are trusted with less than
programs: without a key they may phone and look on, but know nothing of what others say, and change nothing.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import logging
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from config.problems import ConfigError, Problem
from config.server import Access

log = logging.getLogger("agentd.access")

PUBLIC = frozenset({"/livez", "/healthz"})
PAGE = "/console/"  # the console's own files, and the way to them, "/": nothing of a call is in them
CALLERS = ("/listen/", "/app/")  # where jambonz comes in; the rest is for those who watch over calls
FAILURES = 10  # a minute and address; further attempts are not even looked at
MINUTE = 60.0
ADDRESSES = 10_000  # whose failures are remembered; the one that failed longest ago is forgotten
EVERY_ADDRESS, THIS_MACHINE = "0.0.0.0", "127.0.0.1"
RIGHTS = "agentd.rights"  # the key of an ASGI scope
# A page cannot send headers with a websocket: its key is one of the subprotocols that it offers, as base64url.
KEY_PROTOCOL = "agentd.key."
CONSOLE = "agentd-console"  # what its requests are marked with
CONSOLE_KEY = "AGENTD_CONSOLE_KEY"  # in the environment, where several processes have one

Door = Literal["listen", "keys"]
CHALLENGES: dict[Door, str] = {"listen": 'Basic realm="agentd", charset="UTF-8"', "keys": 'Bearer realm="agentd"'}
EXPECTED: dict[Door, str] = {
    "listen": "expected Basic credentials that are named under access.listen",
    "keys": "expected Authorization: Bearer with a key that is named under access.keys",
}

KEY_WANTED = {"www-authenticate": CHALLENGES["keys"]}  # the header of a 401


@dataclass(frozen=True, slots=True)
class Pass:
    """What one entry of the configuration lets in. Empty: every agent, every account."""

    agents: frozenset[str] = frozenset()
    accounts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Rights:
    """What somebody who came in may have: those of every entry that has these credentials. An onlooker knows of calls,
    but not what is said in them, and changes none.
    """

    passes: tuple[Pass, ...]
    is_onlooker: bool = False

    def has_agent(self, agent: str) -> bool:
        """In some account, at least."""
        return any(not pass_.agents or agent in pass_.agents for pass_ in self.passes)

    @property
    def has_everything(self) -> bool:
        """Every agent in every account."""
        return any(not pass_.agents and not pass_.accounts for pass_ in self.passes)

    def has(self, agent: str, account: str) -> bool:
        return Rights(tuple(p for p in self.passes if not p.accounts or account in p.accounts)).has_agent(agent)

    def account_for(self, agent: str) -> str | None:
        """One in which they may have the agent; ``None``: any."""
        accounts = [pass_.accounts for pass_ in self.passes if not pass_.agents or agent in pass_.agents]
        return None if not all(accounts) or not accounts else min(accounts[0])


ANYTHING = Rights((Pass(),))
ONLOOKER = Rights((Pass(),), is_onlooker=True)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer instead of what was asked for. ``headers`` are further ones."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Knock:
    """What is known of a request before it is let in. ``address`` is the peer's; browsers name the ``origin`` of their
    page, and always say that it is a page that asks; ``host`` is whom the peer wants to speak to.
    """

    door: Door
    address: str
    authorization: str | None = None
    origin: str | None = None
    host: str | None = None
    is_page: bool = False


class Gate:
    """The rule. A success does not lift the limit of an address: a guesser may well hold one good key. ``console_key``
    is what a page brings for all rights where nobody is named.
    """

    def __init__(self, access: Access, console_key: str = "") -> None:
        self._access = access
        self._console = Ring([(console_key, Pass())] if console_key else [])
        self._failures = Failures()
        self._rings: dict[Door, Ring] = {
            "listen": Ring(
                (f"{entry.username}:{entry.password.get_secret_value()}", _pass(entry.agents, entry.accounts))
                for entry in access.listen
            ),
            "keys": Ring((entry.key.get_secret_value(), _pass(entry.agents, entry.accounts)) for entry in access.keys),
        }

    def decide(self, knock: Knock, now: float) -> Rights | Refusal:
        if not self._access.names_somebody:
            found = ANYTHING if self._access.open else _from_here(knock)
            if isinstance(found, Refusal) or not knock.is_page or knock.door == "listen":
                return found
            is_keyless = credential(knock.door, knock.authorization) is None
            return ONLOOKER if is_keyless else self._open(self._console, knock, now)
        if not self._rings[knock.door]:
            return Refusal(403, f"nobody may come in here: access.{knock.door} in agentd.yaml names nobody")
        return self._open(self._rings[knock.door], knock, now)

    def _open(self, ring: "Ring", knock: Knock, now: float) -> Rights | Refusal:
        address = prefix(knock.address)
        if wait := self._failures.wait(address, now):
            message = f"expected at most {FAILURES} failures a minute from one address, got more"
            return Refusal(429, message, (("retry-after", str(math.ceil(wait))),))
        given = credential(knock.door, knock.authorization)
        if given is not None:
            if rights := ring.open(given):
                return rights
            self._failures.failed(address, now)
        # No credentials at all is no guess: many clients bring them only when they are asked to.
        return unauthorized(knock.door)


def unauthorized(door: Door) -> Refusal:
    return Refusal(401, EXPECTED[door], (("www-authenticate", CHALLENGES[door]),))


class Ring:
    """Credentials and what they open. All of them are compared, each in constant time."""

    def __init__(self, entries: Iterable[tuple[str, Pass]]) -> None:
        self._entries = [(_digest(secret), pass_) for secret, pass_ in entries]

    def __len__(self) -> int:
        return len(self._entries)

    def open(self, given: str) -> Rights | None:
        found = _digest(given)
        passes = tuple([pass_ for digest, pass_ in self._entries if hmac.compare_digest(digest, found)])
        return Rights(passes) if passes else None


class Failures:
    """When each address failed of late, the latest at the end."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._times)

    def wait(self, address: str, now: float) -> float:
        """Seconds until the address may try again; 0: now."""
        times = self._times.get(address)
        return max(0.0, times[0] + MINUTE - now) if times and len(times) == FAILURES else 0.0

    def failed(self, address: str, now: float) -> None:
        self._times.setdefault(address, deque(maxlen=FAILURES)).append(now)
        self._times.move_to_end(address)
        if len(self._times) > ADDRESSES:
            self._times.popitem(last=False)


def credential(door: Door, authorization: str | None) -> str | None:
    """What a header brings for a door: a key, or ``name:password``; ``None`` without one of its scheme."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    if scheme.lower() != CHALLENGES[door].partition(" ")[0].lower():
        return None
    if door == "keys":
        return value.strip()
    try:
        return base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def prefix(address: str) -> str:
    """What failures are counted by: an IPv4 address, or the /64 that one subscriber has of IPv6."""
    ip = _ip(address)
    match ip:
        case ipaddress.IPv6Address():
            return str(ipaddress.IPv6Network((ip, 64), strict=False))
        case ipaddress.IPv4Address():
            return str(ip)
        case None:
            return address[:64]


def is_this_machine(host: str) -> bool:
    ip = _ip(host)
    return ip.is_loopback if ip is not None else host.lower() == "localhost"


def console_key(environ: Mapping[str, str]) -> str:
    """What a page brings for all rights where nobody is named: new with every start of the server."""
    return environ.get(CONSOLE_KEY) or secrets.token_urlsafe(24)


def host_to_listen_on(access: Access, host: str | None, *, where: str) -> str:
    """``host`` is the configured one, ``where`` it stands. Raises :class:`ConfigError` where it would let in anyone
    without a word of that.
    """
    if access.names_somebody or access.open:
        return host or EVERY_ADDRESS
    if host is None or is_this_machine(host):
        return host or THIS_MACHINE
    message = (
        f"expected an address of this machine, such as {THIS_MACHINE}, as nobody is named under access, got {host!r}; "
        "name who may come in (access: {listen: …, keys: …}), or say that anyone may "
        "(access: open, agentd serve --open)"
    )
    raise ConfigError([Problem(where, None, "", message)])


def in_words(access: Access) -> str:
    """Who may come in."""
    if not access.names_somebody:
        return "anyone (access: open)" if access.open else "this machine only"
    callers = "calls with a password" if access.listen else "no calls (nobody under access.listen)"
    return f"{callers}; " + ("REST with a key" if access.keys else "no REST (nobody under access.keys)")


class Guard:
    """Stands before every route but the :data:`PUBLIC` ones: a route that is added is closed at first."""

    def __init__(self, app: ASGIApp, access: Access, console_key: str = "") -> None:
        self._app = app
        self._is_anybodys = access.names_somebody  # the page: who has a key is asked for it there
        self._gate = Gate(access, console_key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and self._is_public(scope["path"])):
            await self._app(scope, receive, send)
            return
        knock = _knock(scope)
        address, door = knock.address, knock.door
        found = self._gate.decide(knock, asyncio.get_running_loop().time())
        if isinstance(found, Rights):
            scope[RIGHTS] = found
            await self._app(scope, receive, send)
            return
        if found.status == 401 and knock.authorization:  # at most ten a minute and address
            log.warning("refused", extra={"address": address, "door": f"access.{door}"})
        await refuse(found, scope, send)

    def _is_public(self, path: str) -> bool:
        return path in PUBLIC or (self._is_anybodys and (path == "/" or path.startswith(PAGE)))


def _knock(scope: Scope) -> Knock:
    headers = Headers(scope=scope)
    door: Door = "listen" if scope["path"].startswith(CALLERS) else "keys"
    authorization = headers.get("authorization")
    if authorization is None and (key := _key_among(scope.get("subprotocols", []))) is not None:
        door, authorization = "keys", f"Bearer {key}"
    origin = headers.get("origin")
    # Over http and from another machine browsers do not say what asks: the console's page says it itself.
    is_page = origin is not None or "sec-fetch-site" in headers or headers.get("x-requested-with") == CONSOLE
    return Knock(door, (scope.get("client") or ("",))[0], authorization, origin, headers.get("host"), is_page)


def _key_among(subprotocols: Iterable[str]) -> str | None:
    """The key that a page brings with its call. What cannot be read is a wrong one."""
    packed = next((name.removeprefix(KEY_PROTOCOL) for name in subprotocols if name.startswith(KEY_PROTOCOL)), None)
    if packed is None:
        return None
    try:
        return base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


def rights_of(scope: Scope) -> Rights:
    """Of a request that was let in. A ``KeyError`` is one that nobody looked at: it gets nothing."""
    return cast(Rights, scope[RIGHTS])


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Answer with HTTP, whether or not a websocket was asked for."""
    kind = "http" if scope["type"] == "http" else "websocket.http"
    headers = [("content-type", "application/json"), *refusal.headers]
    raw = [(name.encode(), value.encode()) for name, value in headers]
    body = json.dumps({"msg": refusal.message}).encode()
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{kind}.response.start", "status": refusal.status, "headers": raw})
    await send({"type": f"{kind}.response.body", "body": body})


def _from_here(knock: Knock) -> Rights | Refusal:
    if not is_this_machine(knock.address):
        return Refusal(403, "only this machine may come in: access in agentd.yaml names nobody")
    # Whatever page is open in a browser on this machine could phone an agent otherwise.
    if knock.origin is not None and not is_this_machine(_host(knock.origin)):
        return Refusal(403, "only pages of this machine may come in: access in agentd.yaml names nobody")
    # A page elsewhere may have its own name lead here: it names no other origin then, and reads what it gets.
    if knock.host and not is_this_machine(_host(f"//{knock.host}")):
        return Refusal(403, "only this machine's own names may be asked for: access in agentd.yaml names nobody")
    return ANYTHING


def _pass(agents: list[str], accounts: list[str]) -> Pass:
    return Pass(frozenset(agents), frozenset(accounts))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (ip.ipv4_mapped or ip) if isinstance(ip, ipaddress.IPv6Address) else ip
