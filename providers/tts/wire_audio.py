"""What vendors of speech have in common on the wire: audio in base64, limits of one text, names of options."""

import base64
import re
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


def snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def query_value(value: Any) -> str:
    """A value of an option as it stands in a URL."""
    return str(value).lower() if isinstance(value, bool) else str(value)
