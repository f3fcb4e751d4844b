"""One recording as three files: NAME.wav (the caller left, the agent right), NAME.jsonl (the call's log, an entry a
line) and NAME.json (what is known of it). They hold what was said: nobody else may read them.

    files = RecordingFiles.create(folder, about)
    files.sound(0, frames)    # whenever the process is killed, what was written is a whole WAV
    files.lines(lines)
    files.whole(seconds)      # the call has ended

Each is open for as long as it is written to: a server has few handles, and a recording that somebody removes while its
call goes on stays removed. Everything here may wait for a disk and raises ``OSError``.
"""

import hashlib
import json
import os
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

SUFFIXES = (".json", ".jsonl", ".wav")  # the first one says that there is a recording, and goes first
OURS = re.compile(r"([A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.\d+)(\.json|\.jsonl|\.wav)")
PLAIN = re.compile(r"[A-Za-z0-9-]{1,64}")
HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
FRAME = 4  # bytes: a sample of either side
LARGEST = 0xFFFFFFFF - HEADER.size  # bytes of sound that a header can tell of: 18 hours at 16 kHz
ROOM = 32  # bytes that NAME.json may grow by
WRITE = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class About:
    """A call that is recorded: since when, in seconds of the clock, and at what ``rate`` in Hz. ``proof`` is
    :func:`agentd.ops.registry.proof_of` it.
    """

    call_sid: str
    account_sid: str
    agent: str
    since: float
    rate: int
    proof: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A recording that there is. ``bytes`` are those of all its files; it ``is_whole`` once its call has ended."""

    name: str
    about: About
    seconds: float
    bytes: int
    is_whole: bool


class RecordingFiles:
    """Those of one recording, by whoever makes it."""

    def __init__(self, folder: Path, name: str, about: About) -> None:
        self._stem = str(folder / name)
        self._about = about
        self._written = 0  # bytes of the log
        self._width = 0  # of NAME.json

    @classmethod
    def create(cls, folder: Path, about: About) -> Self:
        """A later recording of a call of the same id has another name."""
        folder.mkdir(0o700, parents=True, exist_ok=True)
        at = int(about.since * 1000)
        while True:
            files = cls(folder, f"{part(about.account_sid)}.{part(about.call_sid)}.{at}", about)
            try:
                files._begin()
            except FileExistsError:
                at += 1
            else:
                return files

    def sound(self, at: int, frames: bytes) -> None:
        """Frames from frame ``at`` on; the header tells of them once they are there."""
        size = min(at * FRAME + len(frames), LARGEST)
        self._write(".wav", (HEADER.size + at * FRAME, frames), (0, _header(self._about.rate, size)))

    def lines(self, lines: bytes) -> None:
        self._write(".jsonl", (self._written, lines))
        self._written += len(lines)

    def whole(self, seconds: float) -> None:
        self._write(".json", (0, self._known(seconds, is_whole=True).ljust(self._width)))

    def _begin(self) -> None:
        known = self._known(0.0, is_whole=False)
        self._width = len(known) + ROOM
        self._write(".json", (0, known.ljust(self._width)), flags=os.O_CREAT | os.O_EXCL)
        self._write(".jsonl", flags=os.O_CREAT | os.O_TRUNC)
        self._write(".wav", (0, _header(self._about.rate, 0)), flags=os.O_CREAT | os.O_TRUNC)

    def _known(self, seconds: float, *, is_whole: bool) -> bytes:
        return json.dumps({**asdict(self._about), "seconds": round(seconds, 3), "is_whole": is_whole}).encode()

    def _write(self, suffix: str, *pieces: tuple[int, bytes], flags: int = 0) -> None:
        descriptor = os.open(self._stem + suffix, WRITE | flags, 0o600)
        try:
            for at, data in pieces:
                written = 0
                while written < len(data):
                    written += os.pwrite(descriptor, data[written:], at + written)
        finally:
            os.close(descriptor)


def part(text: str) -> str:
    """Of a name. What callers are called comes from outside, and may be a path."""
    if PLAIN.fullmatch(text):
        return text
    return "_" + hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]


def known(folder: Path, name: str) -> Known | None:
    """What there is of a recording; ``None`` where it is none, or none any more."""
    try:
        said = json.loads((folder / f"{name}.json").read_bytes())
    except (OSError, ValueError):
        return None
    if (about := _about(said)) is None:
        return None
    seconds, is_whole = said["seconds"], said["is_whole"]
    sizes = {suffix: _size(folder / f"{name}{suffix}") for suffix in SUFFIXES}
    if not is_whole:  # under way, or its process was killed
        seconds = round(max(sizes[".wav"] - HEADER.size, 0) / FRAME / about.rate, 3)
    return Known(name, about, seconds, sum(sizes.values()), is_whole)


def remove(folder: Path, name: str) -> None:
    for suffix in SUFFIXES:
        (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _about(said: Any) -> About | None:
    match said:
        case {
            "seconds": int() | float(),
            "is_whole": bool(),
            "call_sid": str(call_sid),
            "account_sid": str(account_sid),
            "agent": str(agent),
            "since": int() | float() as since,
            "rate": int(rate),
            "proof": str() | None as proof,
        } if rate > 0:
            return About(call_sid, account_sid, agent, since, rate, proof)
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _header(rate: int, size: int) -> bytes:
    """Of a WAV with so many bytes of sound: 16-bit PCM, stereo."""
    pcm = (b"fmt ", 16, 1, 2, rate, rate * FRAME, FRAME, 16)
    return HEADER.pack(b"RIFF", HEADER.size - 8 + size, b"WAVE", *pcm, b"data", size)
