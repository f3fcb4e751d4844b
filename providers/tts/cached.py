"""Speech that was synthesized before: what is said in every call costs the vendor's time and money once.

Only fixed texts come here (a greeting, a notice); the pieces of a model's answers hardly repeat.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from providers.base import Audio, Spoken, Tts, TtsEvent, TtsSpec
from providers.tts.speech_file import VERSION, Damaged, decode, encode

log = logging.getLogger("agentd.speech_cache")

FREE = ("local",)  # as quick as a disk, and a new release of the voice is heard at once
ADDRESSES = ("url", "baseURL")  # the credentials that say where the vendor is

SUFFIX = ".speech"
OURS = re.compile(rf"[0-9a-f]{{64}}(\{SUFFIX}|\.\w+\.tmp)")  # nothing else in the folder is counted or deleted
LARGEST = 8 << 20  # bytes of a file: 8 minutes at 8 kHz
PENDING = 8  # replies that wait to be written; the next one is not kept this time

PATIENCE = 0.2  # seconds; a disk that is slower is not waited for
CLOSE = 5.0  # seconds for what is still to be written when the server ends


# The folder -----------------------------------------------------------------------------------------------


class SpeechCache:
    """One of a server. ``limit`` in bytes: the least recently used files make room for the next one.

    Several processes may share the folder. Each counts all files before it writes one, so that the bound is exceeded
    by no more than what they write at the same moment, and only until the next one is written. A disk that fails is
    told once; nothing is stored from then on, and calls go to the vendor.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.largest = min(limit // 4, LARGEST)
        self._folder = folder
        self._limit = limit
        self._stores = True
        self._overdue: set[asyncio.Future[list[TtsEvent] | None]] = set()  # lookups that were not waited for
        self._storing: dict[str, asyncio.Task[None]] = {}
        self._pen = asyncio.Lock()  # one file at a time: threads are few, and others need them

    async def find(self, key: str) -> list[TtsEvent] | None:
        """What was kept under this key. Never raises; ``None`` after :data:`PATIENCE` seconds, and at once as long as
        an earlier lookup hangs: the caller waits for the first word.
        """
        if self._overdue:
            return None
        reading = asyncio.get_running_loop().run_in_executor(None, self._read, key)
        await asyncio.wait([reading], timeout=PATIENCE)
        if reading.done():
            return reading.result()
        self._overdue.add(reading)
        reading.add_done_callback(self._overdue.discard)
        log.warning("speech cache is not waited for", extra={"folder": str(self._folder), "seconds": PATIENCE})
        return None

    def keep(self, key: str, rate: int, events: Sequence[TtsEvent]) -> None:
        """Write a whole reply to disk, in a task of its own. A plain call."""
        if self._stores and key not in self._storing and len(self._storing) < PENDING:
            task = asyncio.create_task(self._store(key, rate, events), name="speech-cache")
            self._storing[key] = task
            task.add_done_callback(lambda _: self._storing.pop(key, None))

    async def aclose(self) -> None:
        """What was kept is on disk when this returns, if the disk lets it."""
        if tasks := list(self._storing.values()):
            _, late = await asyncio.wait(tasks, timeout=CLOSE)
            for task in late:
                task.cancel()

    async def _store(self, key: str, rate: int, events: Sequence[TtsEvent]) -> None:
        async with self._pen:
            await asyncio.to_thread(self._write, key, rate, events)

    # On a thread -----------------------------------------------------------------------------------------

    def _read(self, key: str) -> list[TtsEvent] | None:
        path = self._path(key)
        try:
            with path.open("rb") as file:
                found = decode(key, file.read(LARGEST + 1))
        except FileNotFoundError:
            return None
        except Damaged as exc:
            log.warning("damaged speech deleted", extra={"file": str(path), "why": str(exc)})
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except OSError as exc:
            self._failed(exc)
            return None
        with contextlib.suppress(OSError):  # a folder that is read-only serves what it has
            os.utime(path)
        return found

    def _write(self, key: str, rate: int, events: Sequence[TtsEvent]) -> None:
        data, path = encode(key, rate, events), self._path(key)
        if len(data) > self.largest:
            return
        try:
            if path.exists():
                return  # another call or process was first
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            self._make_room(len(data))
            self._put(path, data)
        except FileNotFoundError:
            pass  # somebody empties the folder; the next one will stay
        except OSError as exc:
            self._failed(exc)

    def _put(self, path: Path, data: bytes) -> None:
        """Readers see the whole file or none. No fsync: what a power cut leaves is found to be damaged."""
        handle, temporary = tempfile.mkstemp(".tmp", f"{path.stem}.", self._folder)  # mode 0600
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _make_room(self, size: int) -> None:
        found = []  # what a process left half-written is among them, and grows old like the rest
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if OURS.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        stat = entry.stat(follow_symlinks=False)
                        found.append((stat.st_mtime_ns, stat.st_size, entry.path))
        total = size + sum(length for _, length, _ in found)
        for _, length, path in sorted(found):
            if total <= self._limit:
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= length

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"

    def _failed(self, exc: OSError) -> None:
        if self._stores:
            self._stores = False
            why = exc.strerror or type(exc).__name__
            log.warning("speech cache stores nothing more", extra={"folder": str(self._folder), "why": why})


# A voice that remembers -----------------------------------------------------------------------------------


class CachedTts:
    """A voice for fixed texts. ``how`` is all that makes its sound, besides text and rate.

    It owns nothing of the voice behind it: whoever made that readies and closes it. Calls that say the same for the
    first time side by side each ask the vendor: nobody waits for another's reply, or fails with it.
    """

    def __init__(self, tts: Tts, how: str, cache: SpeechCache) -> None:
        self._tts = tts
        self._how = how
        self._cache = cache
        self.is_hit = False  # what was said last cost nothing

    async def speak(self, text: AsyncIterator[str], rate: int) -> AsyncIterator[TtsEvent]:
        """As :meth:`providers.base.Tts.speak`, once all pieces are there: of a fixed text they come at once."""
        pieces = [piece async for piece in text]
        if not pieces:
            return
        key = _key(self._how, pieces, rate)
        found = await self._cache.find(key)
        self.is_hit = found is not None
        if found is not None:
            for event in found:
                yield event
            return
        heard = _Recording(sum(map(len, pieces)), self._cache.largest)
        async with aclosing(self._tts.speak(_again(pieces), rate)) as events:  # type: ignore[type-var]
            async for event in events:
                heard.add(event)
                yield event
        # Only here: a reply that failed or was cancelled has left this function above.
        if heard.is_worth_keeping():
            self._cache.keep(key, rate, heard.events)


class _Recording:
    """The events of a reply of so many characters, unless they hold more than ``limit`` bytes."""

    def __init__(self, characters: int, limit: int) -> None:
        self.events: list[TtsEvent] = []
        self._characters = characters
        self._limit = limit
        self._size = 0
        self._ended = 0
        self._is_silent = True

    def add(self, event: TtsEvent) -> None:
        self.events.append(event)
        match event:
            case Audio(pcm):
                self._size += len(pcm)
                self._is_silent = self._is_silent and pcm.count(0) == len(pcm)
                if self._size > self._limit:
                    self.events.clear()
            case Spoken(end):
                self._ended = max(self._ended, end)
            case _:
                pass

    def is_worth_keeping(self) -> bool:
        """A vendor that fails in silence must not be silent for ever."""
        return self._ended >= self._characters and self._size <= self._limit and not self._is_silent


def around(tts: Tts, spec: TtsSpec, cache: SpeechCache | None) -> Tts:
    """The same voice for fixed texts: what it has said once comes from the cache. ``spec`` is what made it."""
    if cache is None or spec.vendor in FREE:
        return tts
    try:
        return CachedTts(tts, _how(spec), cache)
    except (TypeError, ValueError):  # options that are no JSON, an address that is none: the vendor may take them
        return tts


def _how(spec: TtsSpec) -> str:
    """All of a spec that makes its sound, and no credential: accounts share what they have said alike."""
    return json.dumps(
        {
            "vendor": spec.vendor,
            "address": _addresses(spec.credentials),
            "voice": spec.voice,
            "model": spec.model,
            "language": spec.language,
            "options": dict(spec.options),
        },
        sort_keys=True,
    )


def _addresses(credentials: Mapping[str, Any]) -> list[list[Any]]:
    """Without user name, password and query: keys are put there."""
    parts = [urlsplit(str(credentials.get(name) or "")) for name in ADDRESSES]
    return [[part.scheme, part.hostname, part.port, part.path.rstrip("/")] for part in parts]


def _key(how: str, pieces: Sequence[str], rate: int) -> str:
    return hashlib.sha256(json.dumps([VERSION, how, rate, pieces]).encode()).hexdigest()


async def _again(pieces: Sequence[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece
