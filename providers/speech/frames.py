"""What the server and a speech worker say to each other: a header of 9 bytes, then the payload.

The pipe is one ordered line for all streams; a stream is one ``listen()`` or one ``speak()``, numbered by the server.
Stream 0 is the process itself.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("!IBI")  # length of the payload, kind, stream
WORD = struct.Struct("!Id")  # end in characters of the piece, start in seconds from the first sample of the piece


class Kind(IntEnum):
    """``>`` to the worker, ``<`` from it."""

    READY = 1  # < stream 0: the engine is loaded
    FAILED = 2  # < JSON: code, message
    OPEN = 3  # > JSON: what a recogniser should listen for
    CLOSE = 4  # > nobody waits for this stream any more
    AUDIO = 5  # > the caller's, < the synthesizer's
    STOP = 6  # > the caller has gone quiet: a FINAL is wanted
    PARTIAL = 7  # < UTF-8 text
    FINAL = 8  # < UTF-8 text, may be empty
    SAY = 9  # > JSON: one piece of text and how to say it
    WORD = 10  # < a WORD struct, ahead of its audio
    SPOKEN = 11  # < all audio of the piece has been sent
    END = 12  # > there will be no more audio; < everything before it has been answered


@dataclass(frozen=True, slots=True)
class Frame:
    kind: Kind
    stream: int
    payload: bytes = b""

    def pack(self) -> bytes:
        return HEADER.pack(len(self.payload), self.kind, self.stream) + self.payload
