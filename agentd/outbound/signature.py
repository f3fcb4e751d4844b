"""jambonz's signature of a webhook, ``Jambonz-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256>``: made and verified.

Signed are ``t``, a dot and the very bytes that are posted. Plain functions; ``now`` is the time of day.
"""

import hashlib
import hmac
import json
import math
import re
from typing import Any

HEADER = "Jambonz-Signature"
TOLERANCE = 300  # seconds, the SDKs' own

_TIME = re.compile(r"[0-9]{1,12}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_INDICES = 2**32 - 1


def sign(secret: str, body: bytes, now: float) -> str:
    """The header's value."""
    t = str(int(now))
    return f"t={t},v1={_digest(secret, t, body)}"


def is_genuine(
    header: str, body: bytes, secrets: list[str] | tuple[str, ...], now: float, tolerance: int = TOLERANCE
) -> bool:
    """Whether somebody who knows one of ``secrets`` signed ``body``, ``tolerance`` seconds from ``now`` at most.

    Several v1 are a key that is being changed: one of them has to be right. A header that came twice is none.
    """
    parts = [(key, value) for key, _, value in (part.strip().partition("=") for part in header.split(","))]
    times = [value for key, value in parts if key == "t"]
    given = [value for key, value in parts if key == "v1" and _DIGEST.fullmatch(value)]
    if len(times) != 1 or not _TIME.fullmatch(times[0]) or abs(int(now) - int(times[0])) > tolerance:
        return False
    expected = [_digest(secret, times[0], body) for secret in secrets if secret]  # anybody can sign with no secret
    right = [hmac.compare_digest(one, other) for one in expected for other in given]
    return any(right)  # after all were compared: how long it takes does not tell which was right


def body(payload: Any) -> bytes:
    """JSON that stays the same, to the byte, when JavaScript has parsed it and writes it again: jambonz's SDK for Node
    verifies what it has written itself. Numbers below 0.0001 or above 2^53 may still differ there. NaN and the
    infinities, which JSON does not have, become null.
    """
    text = json.dumps(_as_javascript(payload), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair: as \ud800, which JSON allows


def _digest(secret: str, t: str, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{t}.".encode() + body, hashlib.sha256).hexdigest()


def _as_javascript(value: Any) -> Any:
    """JavaScript writes 1.0 as 1, and an object's keys that look like indices first, in their order."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e21 else value
    if isinstance(value, list | tuple):
        return [_as_javascript(each) for each in value]
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda key: (not _is_index(key), int(key) if _is_index(key) else 0))
        return {key: _as_javascript(value[key]) for key in ordered}
    return value


def _is_index(key: str) -> bool:
    return _INDEX.fullmatch(key) is not None and int(key) < _INDICES
