"""What voices have in common on the wire: audio in base64, and the limits of one text."""

import base64
from collections.abc import Iterator
from typing import Any

from providers.failures import failure


def decoded_audio(data: Any, vendor: str) -> bytes:
    """The audio that stands in a JSON message; nothing for ``None``. Raises :class:`providers.base.ProviderError`."""
    try:
        return base64.b64decode(data or "")
    except (TypeError, ValueError):
        raise failure("tts", vendor, "bad-stream", "expected audio in base64, got something else") from None


def portions(text: str, longest: int) -> Iterator[str]:
    """The text in parts of at most ``longest`` characters, cut behind a space where there is one."""
    while len(text) > longest:
        cut = text.rfind(" ", 0, longest) + 1 or longest
        yield text[:cut]
        text = text[cut:]
    yield text
