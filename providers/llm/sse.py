"""Server-sent events as the vendors of language models stream them: bytes in, what stands behind ``data:`` out."""

import json
from typing import Any

LONGEST_LINE = 1 << 20  # bytes; a server that never ends a line is not let fill the memory
_FIELDS = (b"event:", b"id:", b"retry:", b":")


class DataLines:
    """Takes bytes that end anywhere. An event of several data lines is not joined: these vendors never send one.

    ``stray`` is what was no line of an event stream: a server that breaks off may go on in plain JSON.
    """

    def __init__(self) -> None:
        self.stray = b""
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the lines that are whole by now. Raises ``ValueError`` for a line without an end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise ValueError(f"expected a line end within {LONGEST_LINE} bytes, got none")
        found = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        if len(found) < len(lines):
            strays = [line for line in lines if line.strip() and not line.startswith((b"data:", *_FIELDS))]
            self.stray = b"\n".join([self.stray, *strays])[:LONGEST_LINE] if strays else self.stray
        return found

    def end(self) -> list[bytes]:
        """The last line, when the server did not end it."""
        return self.feed(b"\n")


def json_object(line: bytes) -> dict[str, Any] | None:
    """The line as a JSON object; ``None`` when it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
