"""The listen socket's text messages, parsed and built. Pure; the facts are in jambonz-wire.md section 1."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from agentd.call.audio import RATES
from agentd.errors import CallRefused

SUBPROTOCOLS = ("audio.drachtio.org", "audio.jambonz.org")
METADATA_LIMIT = 16_384  # bytes; jambonz itself sends at most 8,192
MIX_TYPES = {"mono": 1, "mixed": 1, "stereo": 2}
DIGITS = tuple("0123456789*#ABCD")
PLAYBACK_RATES = (*RATES, 64000)  # bidirectionalAudio.sampleRate


@dataclass(frozen=True, slots=True)
class CallInfo:
    """The first message: ``rate`` of the caller's audio in Hz, interleaved ``channels``, and every other key."""

    call_sid: str
    rate: int
    channels: int
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Dtmf:
    """The caller pressed a key."""

    digit: str


@dataclass(frozen=True, slots=True)
class MarkReached:
    """One of our marks came back; ``event`` is `playout` or `cleared`."""

    name: str
    event: str


def subprotocol(offered: list[str]) -> str | None:
    """The one to select; none is fine when none of ours is offered."""
    return next((name for name in offered if name in SUBPROTOCOLS), None)


def metadata(text: str) -> CallInfo:
    """Parse the first text frame. Raises :class:`CallRefused` with what was expected and what was found."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > METADATA_LIMIT:
        raise CallRefused(f"expected metadata of at most {METADATA_LIMIT} bytes, got {size}", code=1009)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CallRefused(f"expected the call's metadata as JSON, got text that is not: {_fault(exc)}") from exc
    if not isinstance(found, dict):
        raise CallRefused(f"expected the call's metadata as a JSON object, got {_kind(found)}")
    rate = _rate("sampleRate", found.get("sampleRate"), RATES)
    mix = found.get("mixType", "mono")
    if not isinstance(mix, str) or mix not in MIX_TYPES:
        raise CallRefused(f"expected mixType to be one of {', '.join(MIX_TYPES)}, got {_short(mix)}")
    call_sid = found.get("callSid")
    if call_sid is not None and not isinstance(call_sid, str):
        raise CallRefused(f"expected callSid to be text, got {_kind(call_sid)}")
    return CallInfo(call_sid or str(uuid4()), rate, MIX_TYPES[mix], found)


def playback_rate(asked: str | None, rate: int) -> int:
    """The rate of the audio we send: the query's `playback_rate`, else that of the caller's."""
    return rate if asked is None else _rate("playback_rate", asked, PLAYBACK_RATES)


def message(text: str) -> Dtmf | MarkReached | None:
    """Any later text frame; ``None`` for what we do not know, which is not an error."""
    try:
        match json.loads(text):
            case {"event": "dtmf", "dtmf": str() | int() as digit} if str(digit) in DIGITS:
                return Dtmf(str(digit))
            case {"type": "mark", "data": {"name": str(name), "event": str(event)}}:
                return MarkReached(name, event)
    except (ValueError, RecursionError):
        pass
    return None


def _rate(name: str, value: Any, rates: tuple[int, ...]) -> int:
    number = _number(value)
    if number not in rates:
        raise CallRefused(f"expected {name} to be one of {', '.join(map(str, rates))} (Hz), got {_short(value)}")
    return number


def _number(value: Any) -> int:
    """What jambonz sends is a number; other senders put digits into text. Anything else is no rate."""
    try:
        return 0 if isinstance(value, bool) or not math.isfinite(float(value)) else int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _short(value: object) -> str:
    if isinstance(value, dict | list):
        return _kind(value)  # it may be nested too deep to be shown
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _fault(exc: Exception) -> str:
    match exc:
        case json.JSONDecodeError(msg=msg, pos=pos):
            return f"{msg.lower()}, at character {pos}"
        case RecursionError():
            return "it is nested too deep"
        case _:
            return _short(exc)  # a number of more digits than Python reads


def _kind(value: object) -> str:
    return {list: "a list", dict: "an object", str: "text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )
