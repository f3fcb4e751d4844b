"""Isolation of a stream that is not live: as many samples come out as went in, each in its own place.

An engine is late by its delay. Here that much is left out at the front and pushed out behind the end, so that the
times of words, which are counted in samples, stay true and no tail is lost.
"""

from providers.noise.base import Guarded
from providers.pcm import FRAME


class InPlace:
    """``push`` audio of any length, ``take`` it when it is wanted: the engine works no sooner, as a TTS gives whole
    seconds at once and every 20 ms of them cost a millisecond. What an engine that has failed owes is taken as it was.
    """

    def __init__(self, engine: Guarded, rate: int) -> None:
        self._engine = engine
        self._frame = int(rate * FRAME) * 2
        self._raw = bytearray()  # given, and not taken yet
        self._clean = bytearray()  # the beginning of it, isolated
        self._fed = 0  # bytes of it that the engine has
        self._late = engine.delay * 2  # bytes that come out before the first of it
        self._has_ended = False

    @property
    def waiting(self) -> int:
        """Bytes that can be taken, now or later."""
        return len(self._raw)

    def push(self, pcm: bytes) -> None:
        """Whole samples."""
        self._raw += pcm

    def end(self) -> None:
        """Nothing more comes: silence pushes the rest out of the engine."""
        self._has_ended = True

    def restart(self) -> None:
        """Forget what was not taken: another stream begins. What the engine still holds is left out of that."""
        self._raw.clear()
        self._clean.clear()
        self._fed = 0
        self._late = self._engine.delay * 2
        self._has_ended = False

    def take(self, size: int) -> bytes:
        """The next bytes: ``size``, or fewer where the engine waits for more."""
        size = min(size, len(self._raw))
        while len(self._clean) < size and self._feed():
            pass
        if self._engine.works:
            size = min(size, len(self._clean))
        return self._taken(size)

    def rest(self) -> bytes:
        """All of it, isolated only as far as it is already: the engine is given up."""
        return self._taken(len(self._raw))

    def _taken(self, size: int) -> bytes:
        clean = bytes(self._clean[:size])
        pcm = clean + bytes(self._raw[len(clean) : size])
        del self._raw[:size], self._clean[:size]
        self._fed = max(self._fed - size, 0)
        return pcm

    def _feed(self) -> bool:
        """A frame goes through the engine. False: there is none, or the engine is broken."""
        frame = bytes(self._raw[self._fed : self._fed + self._frame])
        if not self._engine.works or (len(frame) < self._frame and not self._has_ended):
            return False
        self._fed += self._frame
        clean = self._engine.process(frame.ljust(self._frame, b"\0"))
        if not self._engine.works:
            return False
        late = min(self._late, len(clean))
        self._late -= late
        self._clean += clean[late:]
        return True
