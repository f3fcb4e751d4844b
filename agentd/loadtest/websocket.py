"""Just enough of a websocket server for simulated vendors, and frames that are made once and sent many times.

The package websockets takes four times the CPU a message, and simulators share a core with the callers. Clients are
agentd's own: their messages come whole, and what they get wrong need not be told politely.
"""

import asyncio
import base64
import hashlib
import os
import struct
from typing import cast
from urllib.parse import parse_qs, urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
LONGEST_HEAD = 16_384  # bytes of an upgrade
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes, opcode: int) -> bytes:
    """A whole message of a server."""
    return _head(opcode, len(payload), 0) + payload


def masked_frame(payload: bytes, opcode: int) -> bytes:
    """A whole message of a client."""
    mask = os.urandom(4)
    return _head(opcode, len(payload), 0x80) + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """With the mask on, or off if it was on."""
    size = len(payload)
    pattern = mask * (size // 4 + 1)
    mixed = int.from_bytes(payload, "little") ^ int.from_bytes(pattern[:size], "little")
    return mixed.to_bytes(size, "little")


def _head(opcode: int, size: int, flag: int) -> bytes:
    if size < 126:
        return bytes((0x80 | opcode, flag | size))
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | opcode, flag | 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, flag | 127, size)


class ServerSocket(asyncio.Protocol):
    """One connection. Subclasses give :meth:`opened`, :meth:`message` and :meth:`closed`."""

    def __init__(self) -> None:
        self._buffer = b""
        self._is_open = False
        self.transport: asyncio.Transport

    def opened(self, query: dict[str, list[str]]) -> None:
        """The upgrade is answered; ``query`` is that of its URL."""

    def message(self, payload: bytes, mask: bytes, opcode: int) -> None:
        """Text or audio as it came; :func:`masked` takes the mask off."""
        raise NotImplementedError

    def closed(self) -> None:
        """The client has gone."""

    def send(self, *frames: bytes) -> None:
        """Made by :func:`frame`."""
        if not self.transport.is_closing():
            self.transport.write(b"".join(frames))

    # asyncio ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_open:
            self._is_open = False
            self.closed()

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        if not self._is_open:
            data = self._upgrade(data)
        at = 0
        while self._is_open and (end := self._take(data, at)) > at:
            at = end
        self._buffer = data[at:] if at else data

    def _upgrade(self, data: bytes) -> bytes:
        head, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            if len(data) > LONGEST_HEAD:
                self.transport.abort()
            return data
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        key = fields.get("sec-websocket-key", "").encode()
        accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()
        chosen = fields.get("sec-websocket-protocol", "").partition(",")[0].strip()
        answer = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept}",
            *([f"Sec-WebSocket-Protocol: {chosen}"] if chosen else []),
        ]
        self.transport.write("".join(f"{line}\r\n" for line in (*answer, "")).encode())
        self._is_open = True
        self.opened(parse_qs(urlsplit(first.split(" ")[1]).query))
        return rest

    def _take(self, data: bytes, at: int) -> int:
        """Hand on the message at ``at``, if it is there; where the next one begins."""
        if len(data) < at + 6:
            return at
        opcode, size, start = data[at] & 0x0F, data[at + 1] & 0x7F, at + 6
        if size == 126:
            size, start = int.from_bytes(data[at + 2 : at + 4]), at + 8
        elif size == 127:
            size, start = int.from_bytes(data[at + 2 : at + 10]), at + 14
        end = start + size
        if len(data) < end:
            return at
        payload, mask = data[start:end], data[start - 4 : start]
        match opcode:
            case 1 | 2:
                self.message(payload, mask, opcode)
            case 9:
                self.send(frame(masked(payload, mask), PONG))
            case 8:
                self.send(frame(masked(payload, mask), CLOSE))
                self.transport.close()
        return end
