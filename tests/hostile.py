"""URLs that must lead nowhere, and a name service that helps them.

``PORT`` in a form stands for one at which a trap listens. All are hostile even where plain http and that port are
allowed; those of :data:`STRICT` only where they are not.
"""

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

PUBLIC = "93.184.215.14"
PUBLIC_6 = "2606:2800:21f:cb07::1"

DNS: dict[str, list[str]] = {
    "public.example": [PUBLIC],
    "six.example": [PUBLIC_6],
    "127-0-0-1.nip.example": ["127.0.0.1"],
    "10.0.0.1.nip.example": ["10.0.0.1"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "mixed6.example": [PUBLIC, "::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "six-metadata.example": ["fd00:ec2::254"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "translated.example": ["64:ff9b::7f00:1"],
    "zero.example": ["0.0.0.0"],
    "link.example": ["fe80::1"],
    "shared.example": ["100.64.0.1"],
    "multicast.example": ["224.0.0.251"],
    "metadata": ["169.254.169.254"],
    "hooks": ["172.18.0.5"],
    "xn--lclhst-bta3mp.example": ["127.0.0.1"],
    "a" * 60 + "." + "b" * 60 + ".example": ["192.168.1.1"],
}

FORMS = (
    # The machine itself
    "http://127.0.0.1:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0x0.0x0.0x1:PORT/",
    "http://0x7f.1:PORT/",
    "http://017700000001:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://0177.0.0.01:PORT/",
    "http://127.0.0.01:PORT/",
    "http://127.000.000.001:PORT/",
    "http://127.0.0.1.:PORT/",
    "http://127.255.255.254:PORT/",
    "http://4294967297:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://00000.0:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://LocalHost.:PORT/",
    "http://a.localhost:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[0000::0001]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1::]:PORT/",
    "http://[::1%25lo]:PORT/",
    "http://[::1%lo]:PORT/",
    "http://[fe80::1%25eth0]:PORT/",
    # Its networks
    "http://10.0.0.1:PORT/",
    "http://172.16.0.1:PORT/",
    "http://172.31.255.255:PORT/",
    "http://192.168.0.1:PORT/",
    "http://192.168.1:PORT/",
    "http://100.64.0.1:PORT/",
    "http://169.254.1.1:PORT/",
    "http://198.18.0.1:PORT/",
    "http://192.0.2.1:PORT/",
    "http://203.0.113.7:PORT/",
    "http://224.0.0.1:PORT/",
    "http://239.255.255.250:PORT/",
    "http://240.0.0.1:PORT/",
    "http://255.255.255.255:PORT/",
    "http://[fd12:3456::1]:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[fec0::1]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[ff02::1]:PORT/",
    "http://[2001:db8::1]:PORT/",
    "http://[3fff::1]:PORT/",
    "http://[100::1]:PORT/",
    # The clouds' own
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254:80/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://2852039166/latest/meta-data/",
    "http://0xa9fea9fe/",
    "http://0251.0376.0251.0376/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fd20:ce::254]/computeMetadata/v1/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://100.100.100.200/latest/meta-data/",
    "http://192.0.0.192/opc/v2/instance/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://metadata/computeMetadata/v1/",
    # Names that lead there
    "http://127-0-0-1.nip.example:PORT/",
    "http://10.0.0.1.nip.example:PORT/",
    "http://MIXED.example:PORT/",
    "http://mixed6.example:PORT/",
    "http://six-metadata.example:PORT/",
    "http://mapped.example:PORT/",
    "http://translated.example:PORT/",
    "http://zero.example:PORT/",
    "http://link.example:PORT/",
    "http://shared.example:PORT/",
    "http://multicast.example:PORT/",
    "http://hooks:PORT/",
    "http://xn--lclhst-bta3mp.example:PORT/",
    "http://" + "a" * 60 + "." + "b" * 60 + ".example:PORT/",
    "http://127-0-0-1.nip.example.:PORT/",
    # What parsers read differently
    "http://public.example@127.0.0.1:PORT/",
    "http://user:password@127.0.0.1:PORT/",
    "http://public.example:80@127.0.0.1:PORT/",
    "http://@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#@public.example/",
    "http://127.0.0.1:PORT?@public.example/",
    "http://public.example\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@public.example/",
    "http:\\\\127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\t/",
    "http://127.0.0\t.1:PORT/",
    "http://127.0.0.1\n:PORT/",
    "http://127.0.0.1:PORT/\r\nX-Injected: 1",
    "http://127.0.0.1:PORT/\x00public.example",
    " http://127.0.0.1:PORT/",
    "\x01http://127.0.0.1:PORT/",
    "ht\ntp://127.0.0.1:PORT/",
    "http://127.0.0.1 :PORT/",
    "http://public.example 127.0.0.1:PORT/",
    "http://%31%32%37.0.0.1:PORT/",
    "http://127%2e0%2e0%2e1:PORT/",
    "http://%6c%6f%63%61%6c%68%6f%73%74:PORT/",
    "http://127.0.0.1%00.public.example:PORT/",
    "http://127.0.0.1%2f.public.example:PORT/",
    "http://１２７.０.０.１:PORT/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://127。0。0。1:PORT/",
    "http://127．0．0．1:PORT/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/",
    "http://loc\u00adalhost:PORT/",
    "http://lоcаlhоst:PORT/",
    "http://ℓocalhost:PORT/",
    "http:///127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "http://",
    "http://:PORT/",
    "http://?PORT",
    "http://127.0.0.1:PORT:80/",
    "http://127.0.0.1:0/",
    "http://127.0.0.1:65536/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:+PORT/",
    "http://[127.0.0.1]:PORT/",
    "http://[v1.127.0.0.1]:PORT/",
    "http://[::1:PORT/",
    "http://::1:PORT/",
    "http://.127.0.0.1:PORT/",
    "http://127..0.0.1:PORT/",
    "http://-:PORT/",
    "http://{127.0.0.1}:PORT/",
    "HTTP://127.0.0.1:PORT/",
    "http://127.0.0.1:PORT/" + "a" * 70_000,
    "http://" + "a." * 200 + "nip.example:PORT/",
    # Other schemes
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:PORT/_SSRF",
    "ftp://127.0.0.1:PORT/",
    "dict://127.0.0.1:PORT/d:x",
    "ldap://127.0.0.1:PORT/",
    "data:text/plain,hello",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/info",
    "jar:http://127.0.0.1:PORT/!/",
    "javascript:alert(1)",
    "s3://127.0.0.1:PORT/",
)

STRICT = (
    "http://public.example/",
    "http://public.example:443/",
    "https://public.example:22/",
    "https://public.example:PORT/",
    "https://six.example:6379/",
    "https://93.184.215.14:25/",
    "https://[2606:2800:21f:cb07::1]:11211/",
)


class Resolver:
    """:func:`socket.getaddrinfo` over :data:`DNS`, strict about nothing: numbers in all spellings are addresses."""

    def __init__(self) -> None:
        self.real = socket.getaddrinfo
        self.asked: list[str] = []

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = (host.decode() if isinstance(host, bytes) else str(host)).lower().rstrip(".")
        self.asked.append(name)
        if name == "localhost" or name.endswith(".localhost"):
            name = "127.0.0.1"
        if name in DNS:
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
                if ":" in address
                else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in DNS[name]
            ]
        kwargs["flags"] = kwargs.get("flags", 0) | socket.AI_NUMERICHOST
        return self.real(name, port, *args, **kwargs)


class Trap:
    """A port of this machine, and a note of every connection that anybody opens in this process, there or elsewhere.
    None leaves the machine.
    """

    def __init__(self) -> None:
        self.connections: list[Any] = []
        self.port = 0

    @contextlib.contextmanager
    def set(self) -> Iterator[None]:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port = listening.getsockname()[1]
            real = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}
            try:
                for name, method in real.items():
                    setattr(socket.socket, name, self._noting(method))
                yield
            finally:
                for name in real:  # they are inherited
                    delattr(socket.socket, name)

    def forms(self) -> list[str]:
        return [form.replace("PORT", str(self.port)) for form in FORMS]

    def _noting(self, method: Any) -> Any:
        def noted(sock: socket.socket, *args: Any) -> Any:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                where = args[-1]
                self.connections.append(where)
                if not (where[0].startswith("127.") or where[0] == "::1"):
                    raise ConnectionRefusedError(f"{where} is not of this machine")
            return method(sock, *args)

        return noted
