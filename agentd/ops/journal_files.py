"""Journals as files of one folder, for the workers of one machine. They hold what callers said: nobody else may read
them.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from agentd.ops.journal import Change, StoreFailed

OLD = 24 * 3600.0  # seconds since the last record: no call is so long
SUFFIX = ".jsonl"
T = TypeVar("T")


class Files:
    """A :class:`agentd.ops.journal.Store`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "journal")  # a slow disk holds up nobody

    async def write(self, changes: Mapping[str, Change]) -> None:
        await self._run(lambda: self._write(changes))

    async def read(self, key: str) -> bytes:
        return await self._run(lambda: self._read(key))

    async def sweep(self) -> None:
        await self._run(self._sweep)

    async def aclose(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    # On the thread -------------------------------------------------------------------------------------------

    def _write(self, changes: Mapping[str, Change]) -> None:
        failed: list[str] = []
        why: OSError | None = None
        for key, change in changes.items():
            try:
                self._change(key, change)
            except OSError as exc:
                failed.append(key)
                why = exc
        if why is not None:
            raise StoreFailed(why.strerror or type(why).__name__, failed)

    def _change(self, key: str, change: Change) -> None:
        path = self._path(key)
        if change.is_removed:
            path.unlink(missing_ok=True)
        if change.lines:
            try:
                _append(path, change.lines)
            except FileNotFoundError:
                self._folder.mkdir(0o700, parents=True, exist_ok=True)
                _append(path, change.lines)

    def _read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as exc:
            raise StoreFailed(exc.strerror or type(exc).__name__, [key]) from exc

    def _sweep(self) -> None:
        old = time.time() - OLD
        with contextlib.suppress(OSError):
            for path in self._folder.glob(f"*{SUFFIX}"):
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < old:
                        path.unlink()

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{SUFFIX}"


def _append(path: Path, lines: bytes) -> None:
    """All of them or none: half a record in the middle would spoil the rest."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(lines):
                written += os.write(descriptor, lines[written:])
        except OSError:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)
