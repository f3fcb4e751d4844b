"""What to do next. Imperative, immutable; the shell performs them in order."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from turn.latency import Latency

Preflighted = Literal["hit", "miss", "pending"]
"""What became of a turn's speculation: released with words at hand, discarded, or released before its first word."""


class Cause(Enum):
    """Why the agent speaks."""

    GREETING = "greeting"
    CALLER = "caller"
    NO_RESPONSE = "no_response"
    REQUEST = "request"


@dataclass(frozen=True, slots=True)
class Generate:
    """Prompt the model for a reply and play it. ``transcript`` is what the caller said, empty unless CALLER, or the
    text of a REQUEST.

    ``request`` is the number of the request that it answers (0: none), also where the caller's words have joined it:
    then the transcript begins with the text of the request.

    A ``speculative`` one is prompted before the turn has ended. Until its :class:`Release` it has no effect that
    anyone could notice: no tool runs, no event is sent, nothing is heard, history is untouched.
    """

    reply: int
    turn: int
    cause: Cause
    transcript: str = ""
    speculative: bool = False
    request: int = 0


@dataclass(frozen=True, slots=True)
class Release:
    """The turn ended with the words that a speculative reply was prompted with: it is the answer."""

    reply: int
    turn: int
    transcript: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Stop generating a reply of which nothing was heard and forget it: its turn gets another."""

    reply: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Send no more audio of a reply, and keep what was not sent."""

    reply: int


@dataclass(frozen=True, slots=True)
class Resume:
    """Play on: after a :class:`Hold` at the next unsent sample, after a :class:`Cut` at the first unheard one."""

    reply: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The caller interrupted: stop generating, silence what is playing, keep what was not heard."""

    reply: int


@dataclass(frozen=True, slots=True)
class EndTurn:
    """A turn is over. Stop what may be left of its reply, write what was heard of it into history and tell the
    application.

    ``error`` is the code of a failure that ended it, else ``None``.
    """

    turn: int
    reply: int
    cause: Cause
    transcript: str
    confidence: float | None
    interrupted: bool
    error: str | None
    latency: Latency
    preflight: Preflighted | None = None


@dataclass(frozen=True, slots=True)
class KeepRemark:
    """The caller said something in passing that starts no turn; history keeps it."""

    transcript: str


@dataclass(frozen=True, slots=True)
class EndCall:
    """Hang up. ``reason`` is the verb's ``completion_reason``."""

    reason: str


Action = Generate | Release | Discard | Hold | Resume | Cut | EndTurn | KeepRemark | EndCall
