"""What goes wrong at a vendor, in our words: one table from HTTP statuses and vendors' words to codes, for every role.

The codes are ``stt-…``, ``llm-…`` or ``tts-…``, and ``…`` is one of: unauthorized, quota-exceeded, rate-limited,
not-found, bad-request, timeout, connection-lost, server-error, bad-stream.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from providers.base import ProviderError

Role = Literal["stt", "llm", "tts"]

LONGEST_MESSAGE = 400  # characters of what a vendor said that are passed on
_KEYLIKE = re.compile(r"(?i)\b(?:sk|rk|pk|gsk|xai|key)[-_][\w*.-]{6,}|\bbearer\s+\S+|\btoken\s+[\w-]{20,}")
_QUOTA = ("insufficient_quota", "billing_hard_limit_reached", "quota_exceeded")
_RETRYABLE = frozenset({"rate-limited", "timeout", "connection-lost", "server-error", "bad-stream"})


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets and without anything that looks like a key: vendors echo them."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    return _KEYLIKE.sub("[redacted]", text)


def kind_of(status: int | None, word: str = "") -> str:
    """What sort of failure an HTTP status is; ``word`` is the vendor's own code or type for it, which counts where
    there is no status (inside a stream, in a close reason) or says more than it.
    """
    word = word.lower()
    if any(said in word for said in _QUOTA) or status == 402:
        return "quota-exceeded"
    if status in (429, 529) or "rate_limit" in word or "throttl" in word or "overloaded" in word:
        return "rate-limited"
    if status in (401, 403) or any(said in word for said in ("invalid_api_key", "authentication", "unauthor")):
        return "unauthorized"
    if status == 404:
        return "not-found"
    if status == 408 or "timeout" in word:
        return "timeout"
    if (status is not None and 400 <= status < 500) or word.startswith(("invalid_", "context_length", "validation")):
        return "bad-request"
    return "server-error"


def failure(
    role: Role,
    vendor: str,
    kind: str,
    message: str,
    *,
    secrets: Iterable[str] = (),
    retry_after: float | None = None,
) -> ProviderError:
    """The error to raise. ``kind`` as :func:`kind_of` names them; the message is redacted and kept short."""
    said = redact(message, secrets)[:LONGEST_MESSAGE]
    return ProviderError(vendor, f"{role}-{kind}", said, retryable=kind in _RETRYABLE, retry_after=retry_after)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header, or of OpenAI's ``retry-after-ms``; ``None`` without one that is a number."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(float(headers[name]) / scale, 0.0)
        except (KeyError, ValueError):
            continue
    return None


def safe_cause(exc: BaseException, secrets: Iterable[str] = ()) -> BaseException | None:
    """What to chain (``raise … from``), unless its own text would put a key into a traceback."""
    told = "".join(repr(each) + str(each) for each in _chain(exc))
    return exc if redact(told, secrets) == told else None


def _chain(exc: BaseException | None) -> Iterable[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__
