"""Audio of a server that may put a WAV header in front of it, although it was asked for bare samples."""

import struct

LONGEST_HEADER = 4096  # bytes; what has no samples until then is no WAV
PCM, EXTENSIBLE = 1, 0xFFFE  # formats in a header; the latter says in 16 more bytes that it is PCM


class Unwrapped:
    """Bytes in, L16 mono out. ``rate`` in Hz is what was asked for, or what a header says: look at it once samples
    have come. Raises ``ValueError`` for a header of anything but L16 mono.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._head: bytes | None = b""  # until it is known whether there is a header, and where it ends

    def push(self, data: bytes) -> bytes:
        if self._head is None:
            return data
        self._head += data
        if len(self._head) < 4 and b"RIFF".startswith(self._head):
            return b""
        if not self._head.startswith(b"RIFF"):
            samples, self._head = self._head, None
            return samples
        if (begins := self._data_at(self._head)) is None:
            if len(self._head) > LONGEST_HEADER:
                raise ValueError(f"expected the samples of a WAV within {LONGEST_HEADER} bytes, got none")
            return b""
        samples, self._head = self._head[begins:], None
        return samples

    def _data_at(self, head: bytes) -> int | None:
        """Where the samples begin; ``None`` while that is not known."""
        at = 12
        while at + 8 <= len(head):
            name, size = struct.unpack_from("<4sI", head, at)
            if name == b"data":
                return at + 8  # its size is not believed: who streams does not know it
            if name == b"fmt " and at + 24 <= len(head):
                form, channels, self.rate, _, _, bits = struct.unpack_from("<HHIIHH", head, at + 8)
                if form not in (PCM, EXTENSIBLE) or channels != 1 or bits != 16:
                    raise ValueError(f"expected L16 mono, got WAV format {form}, {channels} channels, {bits} bits")
            at += 8 + size + size % 2
        return None
