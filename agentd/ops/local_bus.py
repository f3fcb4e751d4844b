"""The bus between the workers of one machine: a unix socket each, in a folder that their parent made for them.

Nothing is kept but what each worker has itself: who looks for a call asks all the others.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from agentd.ops.bus import WAIT, BusError, Gone, Held, Info, Serve, oldest
from agentd.ops.questions import MESSAGE_LIMIT, Questions

log = logging.getLogger("agentd.bus")

LOOK_WAIT = 2.0  # seconds for the others to say which calls they have
FIND, CALLS, EVERYTHING = "bus.find", "bus.calls", "bus.everything"


class LocalBus:
    """A :class:`agentd.ops.bus.Bus`. ``directory`` is for the server's user only; its path has room for a name."""

    def __init__(self, name: str, directory: str) -> None:
        self.name = name
        self._node, _, self._worker = name.rpartition(".")
        self._directory = Path(directory)
        self._held: dict[tuple[str, str], Info] = {}
        self._ways: dict[str, _Way] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._questions = Questions(name, self._send)
        self._serve: Serve | None = None
        self._server: asyncio.Server | None = None
        self._readers: set[asyncio.Task[None]] = set()

    async def open(self, serve: Serve) -> None:
        self._serve = serve
        self._questions.open(self._answer)
        path = self._path(self.name)
        path.unlink(missing_ok=True)  # of a worker that was killed
        # The limit is of a line: what is longer ends the connection.
        self._server = await asyncio.start_unix_server(self._read, str(path), limit=MESSAGE_LIMIT + 1)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path(self.name).unlink(missing_ok=True)
        for task in (readers := list(self._readers)):
            task.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await self._questions.aclose()
        for way in self._ways.values():
            way.transport.abort()

    async def ask(self, to: str, what: str, data: Mapping[str, Any], seconds: float = WAIT) -> dict[str, Any]:
        return await self._questions.ask(to, what, data, seconds)

    def hold(self, account: str, call_sid: str, info: Info) -> None:
        self._held[account, call_sid] = info
        # Two workers may say so at the same moment: the one with the later ``since`` keeps the call.
        told = {"account": account, "call_sid": call_sid, "since": info.get("since")}
        for other in self._others():
            self._questions.tell(other, "displace", told)

    def release(self, account: str, call_sid: str) -> None:
        self._held.pop((account, call_sid), None)

    async def find(self, call_sid: str) -> list[Held]:
        return await self._look(FIND, {"call_sid": call_sid})

    async def calls(self, account: str) -> list[Held]:
        return await self._look(CALLS, {"account": account})

    async def everything(self) -> list[Held]:
        return oldest(await self._look(EVERYTHING, {}))

    # Others --------------------------------------------------------------------------------------------------

    def _others(self) -> list[str]:
        with contextlib.suppress(OSError):
            workers = sorted(path.stem for path in self._directory.glob("*.sock"))
            return [f"{self._node}.{worker}" for worker in workers if worker != self._worker]
        return []

    async def _look(self, what: str, data: Mapping[str, Any]) -> list[Held]:
        others = self._others()
        asked = [self._questions.ask(other, what, data, LOOK_WAIT) for other in others]
        found: list[Held] = []
        for other, answer in zip(others, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            match answer:
                case {"held": list(held)}:
                    found += [Held(other, account, call_sid, info) for account, call_sid, info in held]
                case Gone():
                    pass  # a worker that was killed leaves its socket behind
                case BaseException():
                    raise answer
        return found

    async def _answer(self, what: str, data: dict[str, Any]) -> dict[str, Any]:
        match what, data:
            case "bus.find", {"call_sid": wanted}:
                return {"held": [[*key, info] for key, info in self._held.items() if key[1] == wanted]}
            case "bus.calls", {"account": wanted}:
                return {"held": [[*key, info] for key, info in self._held.items() if key[0] == wanted]}
            case "bus.everything", _:
                mine = oldest(Held(self.name, *key, info) for key, info in self._held.items())
                return {"held": [[held.account, held.call_sid, held.info] for held in mine]}
        assert self._serve is not None, "it was opened"
        return await self._serve(what, data)

    # Messages ------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> Path:
        return self._directory / f"{name.rpartition('.')[2]}.sock"

    async def _send(self, to: str, message: bytes) -> None:
        async with self._locks.setdefault(to, asyncio.Lock()):  # messages go by one way, in their order
            way = self._ways.get(to)
            if way is None or way.transport.is_closing():
                way = self._ways[to] = await self._dial(to)
        if way.transport.get_write_buffer_size() > MESSAGE_LIMIT:
            raise BusError(f"expected {to} to read, it does not")
        way.transport.write(message + b"\n")

    async def _dial(self, to: str) -> "_Way":
        if to.rpartition(".")[0] != self._node:
            raise Gone(f"expected a worker of this machine, got none: {to}")
        loop = asyncio.get_running_loop()
        try:
            _, way = await loop.create_unix_connection(lambda: _Way(self._questions, to), str(self._path(to)))
        except OSError as exc:
            raise Gone(f"expected an answer of {to}, it is gone") from exc
        return way

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._readers.add(task)
        try:
            async for line in reader:
                self._questions.take(line)
        except (OSError, ValueError):
            log.warning("a worker's messages cannot be read")
        except asyncio.CancelledError:
            pass  # by us; the stream's own callback would take it for a failure
        finally:
            self._readers.discard(task)
            writer.close()


class _Way(asyncio.Protocol):
    """Our messages to one worker. What it says it says by a way of its own; this one ends when it does."""

    transport: asyncio.Transport

    def __init__(self, questions: Questions, to: str) -> None:
        self._questions = questions
        self._to = to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._questions.lost(self._to)
