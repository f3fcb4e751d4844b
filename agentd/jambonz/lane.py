"""The short way of audio: from the socket to the call and back by plain calls, without the queue, the message and the
task that ASGI has for each frame.

uvicorn's own protocol does the handshake, text, pings and closing, and every frame that is not a plain one. Plain is a
final binary frame with a length of 16 bits at most, which is what jambonz sends 50 times a second.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

try:
    from websockets.speedups import apply_mask
except ImportError:  # where websockets has no wheel
    from websockets.utils import apply_mask

NAME = "agentd.lane"  # among the scope's extensions
TEXT, BINARY = 0x81, 0x82  # first byte of a final frame
MASKED = 0x80  # of the second; the rest of it is the length, or …
SHORT, LONG = 126, 127  # … says that it stands in two, in eight further bytes
MASK = 4  # bytes
UNSENT = 32 << 10  # bytes that may wait for a peer that does not read, before whoever sends waits for it

Take = Callable[[bytes], None]


class Lane(WebSocketsSansIOProtocol):
    """A connection of uvicorn's whose audio may take the short way. It cuts what comes into whole frames: uvicorn's
    parser is always between two of them, so that a plain one may pass it by.
    """

    _take: Take | None = None
    _rest = b""  # the beginning of a frame

    def divert(self, take: Take) -> None:
        """Audio goes to ``take`` from now on, by a plain call that must not raise. What has come before is still to be
        received, and so is what comes behind a text that was not received yet.
        """
        self._take = take

    @property
    def is_ready(self) -> bool:
        """The connection is open, and its peer reads."""
        return self.conn.state is State.OPEN and self.transport.get_write_buffer_size() <= UNSENT

    def send_now(self, message: str | bytes) -> None:
        """Where it :attr:`is_ready`."""
        if isinstance(message, bytes):
            self.transport.write(_header(BINARY, len(message)) + message)
        else:
            text = message.encode()
            self.transport.write(_header(TEXT, len(text)) + text)

    # uvicorn's ---------------------------------------------------------------------------------------------

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[NAME] = self

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            super().data_received(data)
            return
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, others = 0, 0  # where a frame begins, and where those that are uvicorn's began
        while (end := _end(data, at)) is not None:
            if data[at] == BINARY:
                if others < at:
                    super().data_received(data[others:at])
                    others = at
                if self._is_short(data, at):
                    self._pass_by(data, at, end)
                    others = end
            at = end
        if _is_too_long(data, at, self.config.ws_max_size):
            at = len(data)  # uvicorn's parser will say so
        self._rest = data[at:]
        if others < at:
            super().data_received(data[others:at])

    def _is_short(self, data: bytes, at: int) -> bool:
        """May this frame take the short way? Not within a message of several, nor before one that waits."""
        length = data[at + 1]
        is_free = self._take is not None and not self.frames and self.queue.empty()
        return is_free and length & MASKED != 0 and length != MASKED | LONG and self.conn.state is State.OPEN

    def _pass_by(self, data: bytes, at: int, end: int) -> None:
        begin = at + (2 if data[at + 1] != MASKED | SHORT else 4)
        assert self._take is not None, "the frame is short"
        self._take(apply_mask(data[begin + MASK : end], data[begin : begin + MASK]))


def lane_of(scope: Mapping[str, Any]) -> Lane | None:
    """That of a connection; ``None`` where another server has accepted it."""
    found = scope.get("extensions", {}).get(NAME)
    return found if isinstance(found, Lane) else None


def _end(data: bytes, at: int) -> int | None:
    """Where the frame that begins here ends; ``None`` while it is not whole."""
    length = _length(data, at)
    return None if length is None or at + length > len(data) else at + length


def _length(data: bytes, at: int) -> int | None:
    """Of a frame in bytes, header and mask included; ``None`` while that is not known."""
    left = len(data) - at
    if left < 2:
        return None
    second = data[at + 1]
    mask = MASK if second & MASKED else 0
    match second & ~MASKED:
        case 126:
            return 4 + mask + int.from_bytes(data[at + 2 : at + 4]) if left >= 4 else None
        case 127:
            return 10 + mask + int.from_bytes(data[at + 2 : at + 10]) if left >= 10 else None
        case length:
            return 2 + mask + length


def _is_too_long(data: bytes, at: int, limit: int) -> bool:
    """Is the frame that begins here longer than a message may be?"""
    length = _length(data, at)
    return length is not None and length > limit + 14


def _header(first: int, length: int) -> bytes:
    """Of a frame without a mask."""
    if length < SHORT:
        return bytes((first, length))
    if length < 1 << 16:
        return struct.pack("!BBH", first, SHORT, length)
    return struct.pack("!BBQ", first, LONG, length)
