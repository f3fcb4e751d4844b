"""One synthesized reply as a file: its sound, and where in the text its words lie. Not the text: it may name somebody.

A head (magic, version, sizes, CRC-32), a JSON header (the file's own key, the rate, the events in order), the sound.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from providers.base import Audio, Spoken, TtsEvent, Word

VERSION = 1
MAGIC = b"agspch"
HEAD = struct.Struct("<6sHIII")  # magic, version, bytes of the JSON header, bytes of sound, CRC-32 of both


class Damaged(ValueError):
    """A file that we did not write, or not so."""


def encode(key: str, rate: int, events: Sequence[TtsEvent]) -> bytes:
    """One reply as the content of a file."""
    told: list[list[Any]] = []
    for event in events:
        match event:
            case Audio(pcm) if told and told[-1][0] == "audio":
                told[-1][1] += len(pcm) // 2
            case Audio(pcm):
                told.append(["audio", len(pcm) // 2])
            case Word(end, start):
                told.append(["word", int(end), float(start)])
            case Spoken(end):
                told.append(["spoken", int(end)])
    header = json.dumps({"key": key, "rate": rate, "events": told}).encode()
    sound = b"".join(event.pcm for event in events if isinstance(event, Audio))
    body = header + sound
    return HEAD.pack(MAGIC, VERSION, len(header), len(sound), zlib.crc32(body)) + body


def decode(key: str, data: bytes) -> list[TtsEvent]:
    """The events of :func:`encode`, the audio in parts of 100 ms at most. Raises :class:`Damaged`."""
    try:
        magic, version, header_size, sound_size, checksum = HEAD.unpack_from(data)
        body = memoryview(data)[HEAD.size :]
        if (magic, version, header_size + sound_size) != (MAGIC, VERSION, len(body)) or zlib.crc32(body) != checksum:
            raise Damaged("expected a whole file of ours, got another")
        header = json.loads(bytes(body[:header_size]))
        if header["key"] != key:
            raise Damaged("expected the file of this name, got another's")
        return list(_events(header["events"], body[header_size:], header["rate"] // 10))
    except (struct.error, ValueError, LookupError, TypeError) as exc:
        raise Damaged(str(exc)) from exc


def _events(told: Any, sound: memoryview, step: int) -> Iterator[TtsEvent]:
    at = 0  # samples
    for each in told:
        match each:
            case ["audio", int(samples)]:
                for start in range(at, at + samples, step):
                    yield Audio(bytes(sound[2 * start : 2 * min(start + step, at + samples)]))
                at += samples
            case ["word", int(end), float(start)]:
                yield Word(end, start)
            case ["spoken", int(end)]:
                yield Spoken(end)
            case _:
                raise Damaged("expected audio, word or spoken")
    if 2 * at != len(sound):
        raise Damaged("expected as much sound as the header says")
