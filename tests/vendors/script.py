"""How a vendor of the tests behaves: when it answers, and what goes wrong."""

import asyncio
import enum
import time
from collections import deque
from dataclasses import dataclass, field


class Fault(enum.Enum):
    """What a vendor may do to us."""

    REFUSE = "nobody listens at its address"
    UNAUTHORIZED = "401, and the body quotes the key that it was given"
    RATE_LIMITED = "429 with Retry-After: 1"
    SERVER_ERROR = "500"
    HANG = "it takes the request, gives `after` pieces and nothing more"
    CUT = "the connection drops after `after` pieces, without a close frame or a last chunk"
    GARBAGE = "between two pieces comes something that is none"
    HALF_CHARACTER = "a write ends within a UTF-8 character; on a websocket, a text message does"
    ODD_BYTES = "audio comes in pieces of odd length"
    ERROR = "after `after` pieces it reports an error in its own words, inside the stream"


@dataclass
class Script:
    """``times``: how many requests or connections the fault strikes, before the vendor is well again; -1 for all.
    ``first`` and ``gap``: seconds to the first piece and between pieces; ``burst``: all in one write. ``connecting``:
    seconds that a new connection takes.
    """

    fault: Fault | None = None
    after: int = 0
    times: int = -1
    first: float = 0.0
    gap: float = 0.0
    burst: bool = False
    connecting: float = 0.0

    def strike(self) -> Fault | None:
        """The fault of the next request or connection; counts it."""
        if self.fault is None or self.times == 0:
            return None
        self.times -= 1
        return self.fault


@dataclass
class Seen:
    """What a vendor saw of us."""

    connections: int = 0
    requests: list[object] = field(default_factory=list)  # bodies, or messages of a websocket, parsed
    headers: list[dict[str, str]] = field(default_factory=list)  # of each request or upgrade, names in lower case
    paths: list[str] = field(default_factory=list)  # with their queries
    times: deque[tuple[str, float]] = field(default_factory=lambda: deque(maxlen=10_000))  # what was noted, and when
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # a request has come
    left: asyncio.Event = field(default_factory=asyncio.Event)  # or cancelled, before the answer had ended

    def note(self, what: str, at: float | None = None) -> None:
        """When something was ``asked`` of the vendor, or ``said`` by it, or ``heard``: when the last bytes had come by
        then. On the clock that all processes share.
        """
        self.times.append((what, time.monotonic() if at is None else at))
