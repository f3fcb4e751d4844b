"""What is kept of live calls outside of this process, so that another one can go on with them when it is killed.

    journals = journals_of(server)                  # None where nothing is kept
    journal = journals.of("desk", call_sid)
    journal.write({"kind": "turn", …})              # a plain call: it never waits, and never fails
    journal.remove()                                # the call has ended as it should
    records = await journals.read("desk", call_sid) # of another process's

One append-only journal a call, a JSON object a line. What is written is with the kernel or with Redis a few
milliseconds later, and so outlives ``kill -9``; nothing is waited for.
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentd.errors import AgentdError
from agentd.ops.bus import WORKER
from config.server import Server

log = logging.getLogger("agentd.journal")

Record = dict[str, Any]
Write = Callable[[Record], None]

WAITING = 8 * 1024 * 1024  # bytes that are not written yet; a journal that has one more is given up
LONGEST = 4 * 1024 * 1024  # bytes of one journal, which is given up beyond: a conversation of hours has a tenth
AGAIN = 1.0  # seconds before what could not be written is tried once more
READ_WAIT = 2.0  # seconds for a journal to be read
SWEEP = 3600.0  # seconds between two looks for leftovers


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to a journal: first it is removed, if it is, then ``lines`` are added."""

    lines: bytes = b""
    is_removed: bool = False

    def then(self, later: "Change") -> "Change":
        return later if later.is_removed else Change(self.lines + later.lines, self.is_removed)


class StoreFailed(Exception):
    """These journals have not changed; the others have. The message names no path and no host."""

    def __init__(self, why: str, keys: Iterable[str]) -> None:
        super().__init__(why)
        self.keys = frozenset(keys)


class Store(Protocol):
    """Where journals lie. Each method keeps its own deadline."""

    async def write(self, changes: Mapping[str, Change]) -> None:
        """Raises :class:`StoreFailed`."""
        ...

    async def read(self, key: str) -> bytes:
        """Nothing for a journal that is not there. Raises :class:`StoreFailed`."""
        ...

    async def sweep(self) -> None:
        """Remove what was left behind a day ago. Raises nothing."""
        ...

    async def aclose(self) -> None: ...


class Journal:
    """That of one call."""

    def __init__(self, journals: "Journals", key: str) -> None:
        self._journals = journals
        self._key = key
        self._size = 0
        self._is_over = False

    def write(self, record: Record) -> None:
        if self._is_over:
            return
        try:
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        except (TypeError, ValueError):  # a vendor's own form that is no JSON
            self._give_up("expected JSON, got a record that is none")
            return
        self._size += len(line)
        if self._size > LONGEST:
            self._give_up(f"expected at most {LONGEST} bytes, got more")
        elif not self._journals.put(self._key, Change(line)):
            self._give_up(f"more than {WAITING} bytes wait to be written")

    def _give_up(self, why: str) -> None:
        log.warning("journal given up: this call would end with its worker", extra={"why": why})
        self.remove()

    def remove(self) -> None:
        """Twice does no harm."""
        if not self._is_over:
            self._is_over = True
            self._journals.put(self._key, Change(is_removed=True))


class Journals:
    """Those of one process. ``write`` of a journal makes a task that ends when all is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, Change] = {}
        self._bytes = 0  # of them
        self._writing: asyncio.Task[None] | None = None
        self._is_failing = False
        self._is_closed = False
        self._swept: float | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def of(self, *names: str) -> Journal:
        """The journal of that name, which may be there already."""
        now = asyncio.get_running_loop().time()
        if self._swept is None or now - self._swept > SWEEP:
            self._swept = now
            self._sweeping = asyncio.create_task(self._store.sweep(), name="journal-sweep")
        return Journal(self, key_of(names))

    async def read(self, *names: str) -> list[Record]:
        """What it says; nothing for one that is missing, or cannot be read: the log says so."""
        key = key_of(names)
        try:
            async with asyncio.timeout(READ_WAIT):
                await self.written()  # it may be our own
                return records(await self._store.read(key))
        except (StoreFailed, TimeoutError, ValueError) as exc:
            log.warning("journal cannot be read", extra={"why": str(exc) or type(exc).__name__})
            return []

    async def written(self) -> None:
        """Until nothing waits any more."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    async def aclose(self) -> None:
        """What waits is written first, as far as it can be. What comes later is not kept."""
        self._is_closed = True
        tasks = [task for task in (self._writing, self._sweeping) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=READ_WAIT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._store.aclose()

    def put(self, key: str, change: Change) -> bool:
        """Returns whether there is room for it. There always is for a removal."""
        if self._is_closed:
            return True
        if change.lines and self._bytes + len(change.lines) > WAITING:
            return False
        self._add(key, self._waiting.get(key, Change()).then(change))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name="journal")
        return True

    def _add(self, key: str, change: Change) -> None:
        before = self._waiting.get(key, Change())
        self._bytes += len(change.lines) - len(before.lines)
        self._waiting[key] = change

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting, self._bytes = self._waiting, {}, 0
                try:
                    await self._store.write(batch)
                except StoreFailed as exc:
                    for key in exc.keys:
                        self._add(key, batch[key].then(self._waiting.get(key, Change())))
                    self._failed(exc)
                    await asyncio.sleep(AGAIN)
                else:
                    self._succeeded()
        finally:
            self._writing = None

    def _failed(self, exc: StoreFailed) -> None:
        if not self._is_failing:
            log.error(
                "journals cannot be written: calls go on, but would end with their worker", extra={"why": str(exc)}
            )
        self._is_failing = True

    def _succeeded(self) -> None:
        if self._is_failing:
            log.info("journals are written again")
        self._is_failing = False


def key_of(names: Iterable[str]) -> str:
    """Short and of plain letters, whatever a call is called; and it opens nothing by itself."""
    raw = "\0".join(names).encode(errors="surrogatepass")
    return hashlib.sha256(raw).hexdigest()[:40]


def records(written: bytes) -> list[Record]:
    """What came whole. Raises ``ValueError`` where more than the last line is broken."""
    *lines, _ = written.split(b"\n")  # behind the last line end is what its writer was killed at
    found = [json.loads(line) for line in lines]
    if not all(isinstance(record, dict) for record in found):
        raise ValueError("expected an object in each line, got another value")
    return found


def journals_of(server: Server, environ: Mapping[str, str]) -> Journals | None:
    """In the folder that is configured, else in Redis where that is, else in the user's folder for what programs keep.
    Raises :class:`AgentdError` where the extra is missing.
    """
    wanted = server.journal
    is_asked_for = wanted.path is not None or server.redis is not None or WORKER in environ
    if not server.apps or wanted.enable is False or not (wanted.enable or is_asked_for):
        return None
    if server.redis is not None and wanted.path is None:
        try:
            from agentd.ops.journal_redis import RedisStore
        except ImportError as exc:
            raise AgentdError("redis: expected the extra `redis` to be installed: pip install 'agentd[redis]'") from exc
        return Journals(RedisStore(server.redis.url))
    from agentd.ops.journal_files import Files

    folder = wanted.folder()
    if folder is None:
        log.warning("no journals", extra={"why": "expected journal.path, or a user with a home"})
        return None
    return Journals(Files(folder))
