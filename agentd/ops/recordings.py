"""The recordings of a server: the folder where they lie, the thread that writes them, and what becomes of old ones.

    recordings = recordings_of(server, is_wanted=True)   # None for a user without a home
    recordings.open()                                    # the old ones go
    done = recordings.put(job, size)                     # on the thread, behind what was put before
    await recordings.known(call_sid)

Several processes may share the folder.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agentd.ops.recording_files import OURS, Known, known, part, remove
from config.server import Server

log = logging.getLogger("agentd.recordings")

WAITING = 64 * 1024 * 1024  # bytes that are not written yet: minutes of a call, a second of hundreds
SWEEP = 3600.0  # seconds between two looks for old ones, while recordings are made …
SHARE = 20  # … and one is due whenever the process has written this part of all that may be kept
FRESH = 60.0  # seconds since the last write: its call may go on
CLOSE = 2.0  # seconds for what is still to be written when the server ends
DAY = 24 * 3600.0


class Recordings:
    """Those in one folder, which is made when something is recorded; the limits are the configuration's."""

    def __init__(self, folder: Path, *, days: int, megabytes: int) -> None:
        self.folder = folder
        self._oldest = days * DAY
        self._most = megabytes * 1_000_000
        self._thread = ThreadPoolExecutor(1, "recordings")  # a slow disk holds up no call
        self._jobs: set[asyncio.Future[None]] = set()
        self._waiting = 0  # bytes of them
        self._since_sweep = 0
        self._swept = -SWEEP
        self._is_closed = False

    # Making them -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """The server starts."""
        self._sweep_if_due(asyncio.get_running_loop().time())

    def put(self, job: Callable[[], None], size: int) -> asyncio.Future[None] | None:
        """Write so many bytes, behind what was put before. ``None``: too much waits already. Then the one recording is
        given up that would wait, rather than all of them: what a slow disk can take goes on.
        """
        if self._is_closed or self._waiting + size > WAITING:
            return None
        self._waiting += size
        self._since_sweep += size
        done = self._run(job)
        done.add_done_callback(lambda _: self._written(size))
        self._sweep_if_due(asyncio.get_running_loop().time())
        return done

    async def aclose(self) -> None:
        """What waits is written first, as far as it can be."""
        self._is_closed = True
        if self._jobs:
            await asyncio.wait(self._jobs, timeout=CLOSE)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _run(self, job: Callable[[], None]) -> asyncio.Future[None]:
        done = asyncio.get_running_loop().run_in_executor(self._thread, job)
        self._jobs.add(done)
        done.add_done_callback(self._jobs.discard)
        return done

    def _written(self, size: int) -> None:
        self._waiting -= size

    def _sweep_if_due(self, now: float) -> None:
        if now - self._swept >= SWEEP or self._since_sweep * SHARE > self._most:
            self._swept, self._since_sweep = now, 0
            self._run(self._sweep)

    # Looking at them -------------------------------------------------------------------------------------

    async def known(self, call_sid: str | None = None) -> list[Known]:
        """All of them, or those of the calls of one id; the newest first. What cannot be read is left out."""
        return await asyncio.to_thread(self._known, call_sid)

    async def remove(self, names: Iterable[str]) -> None:
        """Raises ``OSError``. One whose call goes on is given up."""
        for name in names:
            await asyncio.to_thread(remove, self.folder, name)

    # On a thread -----------------------------------------------------------------------------------------

    def _known(self, call_sid: str | None) -> list[Known]:
        named = None if call_sid is None else part(call_sid)
        names = {match[1] for match, _ in self._files() if named in (None, match[2])}
        found = [each for name in names if (each := known(self.folder, name)) is not None]
        if call_sid is not None:
            found = [each for each in found if each.about.call_sid == call_sid]
        return sorted(found, key=lambda each: (each.about.since, each.name), reverse=True)

    def _sweep(self) -> None:
        now, ages, sizes = time.time(), dict[str, float](), dict[str, int]()
        try:
            for match, entry in self._files():
                with contextlib.suppress(FileNotFoundError):  # another process was first
                    stat, name = entry.stat(follow_symlinks=False), match[1]
                    ages[name] = min(now - stat.st_mtime, ages.get(name, now))
                    sizes[name] = sizes.get(name, 0) + stat.st_size
            total, gone = sum(sizes.values()), 0
            for name in sorted(ages, key=lambda name: ages[name], reverse=True):
                if ages[name] > FRESH and (ages[name] > self._oldest or total > self._most):
                    remove(self.folder, name)
                    total -= sizes[name]
                    gone += 1
        except OSError as exc:
            log.warning("old recordings cannot be removed", extra={"why": exc.strerror or type(exc).__name__})
            return
        if gone:
            log.info("old recordings removed", extra={"recordings": gone})

    def _files(self) -> Iterable[tuple[Any, "os.DirEntry[str]"]]:
        """Ours, each with the match of its name."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if match := OURS.fullmatch(entry.name):
                    yield match, entry


def recordings_of(server: Server, *, is_wanted: bool) -> Recordings | None:
    """``is_wanted``: an agent has ``record``."""
    wanted = server.recordings
    folder = wanted.folder()
    if folder is not None:
        return Recordings(folder, days=wanted.days, megabytes=wanted.megabytes)
    if is_wanted:
        log.warning("no recordings", extra={"why": "expected recordings.path, or a user with a home"})
    return None
