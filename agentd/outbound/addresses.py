"""Which hosts and addresses a URL that came with a call may lead to. Pure: names are resolved elsewhere."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from config.server import Outgoing

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LONGEST = 8192  # characters of a URL
SECURE = {"https": True, "wss": True, "http": False, "ws": False}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)(?:[/?#].*)?")
_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as the last label of what resolvers read as IPv4

# Named one by one: Python's `is_global` has learnt some of them late, and multicast and 6to4 are global to it.
_NOT_PUBLIC: tuple[Network, ...] = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24"
        " 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3"
        " 168.63.129.16/32"  # public by its number; in Azure it is the machine's own host, which knows its secrets
        " 2001::/23 2001:db8::/32 2002::/16 3fff::/20"  # Teredo is in the first
    ).split()
)
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that IANA has given out; mapped and local ones lie outside
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # how a host without IPv4 reaches one with: what it wraps is judged


class Refused(Exception):
    """A rule, and what was found. Holds no more of a URL than scheme, host and port."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads. ``host`` is in lower case, IPv6 in its shortest form and without brackets; ``secure``: TLS."""

    host: str
    port: int
    secure: bool

    def address(self) -> Address | None:
        """The host, if it is an address."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None


def place_of(url: str) -> Place:
    """Only what every parser reads alike is taken. Raises :class:`Refused`."""
    if len(url) > LONGEST:
        raise Refused(f"expected a URL of at most {LONGEST} characters, got {len(url)}")
    if not all("!" <= character <= "~" for character in url):
        raise Refused("expected a URL in plain ASCII without spaces, got other characters (%XX, or xn--… in a host)")
    if "\\" in url:
        raise Refused("expected a URL without backslashes, got one with")
    found = _URL.fullmatch(url)
    if found is None:
        raise Refused("expected a URL that begins with https:// or wss://, got another")
    scheme, authority = found[1].lower(), found[2]
    if scheme not in SECURE:
        raise Refused(f"expected https or wss, got {scheme[:20]}")
    if "@" in authority:
        raise Refused("expected a URL without user and password, got one with")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise Refused("expected a host, or a host and a port, got neither")
    secure = SECURE[scheme]
    port = int(parts[2][:10]) if parts[2] else 443 if secure else 80
    if not 0 < port < 65536 or len(parts[2] or "") > 10:
        raise Refused(f"expected a port from 1 to 65535, got {port}")
    return Place(host_of(parts[1]), port, secure)


def host_of(host: str) -> str:
    """A host as it stands in a URL, or IPv6 without brackets. Raises :class:`Refused` for all that a resolver might
    read as another host than we do: numbers other than four decimal ones, zones, dots at the end.
    """
    if not host:
        raise Refused("expected a host, got none")
    shown = ascii(host[:80])
    if ":" in host or host.startswith("["):
        bare = host.removeprefix("[").removesuffix("]")
        try:
            if "%" in bare:
                raise ValueError
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            raise Refused(f"expected an IPv6 address without a zone, got {shown}") from None
    labels = host.lower().split(".")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise Refused(f"expected an IPv4 address as four decimal numbers, got {shown}") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused(f"expected the name of a host, got {shown}")
    return host.lower()


def is_public(address: Address) -> bool:
    """May anybody be sent there? Not if it is of this machine, its networks or its cloud, nor reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _UNICAST:
            return False
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class Policy:
    """``outgoing`` of `agentd.yaml`, read once. What it allows may be private, plain and at any port."""

    names: frozenset[str]
    suffixes: tuple[str, ...]  # with the dot before them
    networks: tuple[Network, ...]
    ports: frozenset[int]
    plain: bool

    @classmethod
    def of(cls, rules: Outgoing) -> "Policy":
        names, networks = set(), []
        for entry in rules.allow:
            try:
                networks.append(ipaddress.ip_network(entry.strip("[]"), strict=False))
            except ValueError:
                names.add(entry.lower())
        return cls(
            frozenset(name for name in names if not name.startswith("*.")),
            tuple(name[1:] for name in names if name.startswith("*.")),
            tuple(networks),
            frozenset((80, 443, *rules.ports)),
            rules.plain,
        )

    def names_host(self, host: str) -> bool:
        return host in self.names or host.endswith(self.suffixes)

    def holds(self, address: Address) -> bool:
        return any(address in network for network in self.networks)

    def judge(self, place: Place) -> None:
        """All that can be told before a name is resolved. Raises :class:`Refused`."""
        if self.names_host(place.host):
            return
        if (address := place.address()) is not None:
            self._judge_address(place, address)
        elif place.host == "localhost" or place.host.endswith(".localhost"):
            raise Refused(f"expected a public host, got {place.host}")
        elif not self.networks:  # with some, the name's addresses may lie in them
            self._judge_manner(place)

    def judge_all(self, place: Place, addresses: Iterable[Address]) -> None:
        """The addresses that were found for the place, every one of them. Raises :class:`Refused`."""
        if not self.names_host(place.host):
            for address in addresses:
                self._judge_address(place, address)

    def _judge_address(self, place: Place, address: Address) -> None:
        if self.holds(address):
            return
        if not is_public(address):
            behind = "" if str(address) == place.host else f" behind {place.host}"
            raise Refused(f"expected a public address{behind}, got {address}")
        self._judge_manner(place)

    def _judge_manner(self, place: Place) -> None:
        if not (place.secure or self.plain):
            raise Refused(f"expected https or wss to {place.host}, got http or ws")
        if place.port not in self.ports:
            ports = ", ".join(map(str, sorted(self.ports)))
            raise Refused(f"expected a port of {ports} at {place.host}, got {place.port}")
