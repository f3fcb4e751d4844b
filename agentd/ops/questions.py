"""Questions and answers between processes, over anything that carries a message to a name.

{"id": 7, "from": "voice1.w1", "what": "call", "data": {…}}     a question; without an id nobody waits for an answer
{"id": 7, "answer": {…}}                                        what came of it
{"id": 7, "error": "…"}                                         it could not be answered
"""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agentd.ops.bus import BusError, Gone, Serve

log = logging.getLogger("agentd.bus")

MOST = 1_000  # questions under way; a further one of ours is refused at once, one of theirs gets no answer
MESSAGE_LIMIT = 4 << 20  # bytes; a body of REST is at most a quarter of a MiB, and ASCII makes it six times as much

Send = Callable[[str, bytes], Awaitable[None]]  # to whom, and what; raises BusError


class Questions:
    """Those of one process. ``send`` carries them; whoever receives gives them to :meth:`take`."""

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send
        self._serve: Serve | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[str, asyncio.Future[dict[str, Any]]]] = {}  # whom, and what they answer
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, serve: Serve) -> None:
        self._serve = serve

    async def aclose(self) -> None:
        self._serve = None
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for number in list(self._waiting):
            self._answered(number, BusError("expected an answer, this process is going down"))

    async def ask(self, to: str, what: str, data: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        if len(self._waiting) >= MOST:
            raise BusError(f"expected at most {MOST} questions at once, got more")
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = to, answer
        try:
            async with asyncio.timeout(seconds):
                await self._send(to, packed(to, {"id": number, "from": self._name, "what": what, "data": data}))
                return await answer
        except TimeoutError as exc:
            raise BusError(f"expected an answer of {to} within {seconds:g} s, got none") from exc
        finally:
            del self._waiting[number]

    def tell(self, to: str, what: str, data: Mapping[str, Any]) -> None:
        """A question whose answer nobody waits for. A plain call; told or not, the log says it."""
        if len(self._tasks) < MOST:
            self._spawn(self._tell(to, packed(to, {"from": self._name, "what": what, "data": data})))

    async def _tell(self, to: str, message: bytes) -> None:
        try:
            async with asyncio.timeout(5.0):
                await self._send(to, message)
        except (BusError, TimeoutError) as exc:
            log.info("not told", extra={"to": to, "why": str(exc) or "no answer"})

    def lost(self, to: str | None = None) -> None:
        """A process is gone, or all the ways were: who waits for its answers waits no longer."""
        for number, (asked, _) in list(self._waiting.items()):
            if to is None:
                self._answered(number, BusError(f"expected an answer of {asked}, the way there was lost"))
            elif asked == to:
                self._answered(number, Gone(f"expected an answer of {asked}, it is gone"))

    def take(self, message: bytes) -> None:
        """What came for this process. A plain call that raises nothing: anything may come."""
        try:
            found = json.loads(message)
            match found:
                case {"id": int(number), "answer": dict(answer)}:
                    self._answered(number, answer)
                case {"id": int(number), "error": str(error)}:
                    self._answered(number, BusError(error))
                case {"from": str(asker), "what": str(what), "data": dict(data)}:
                    self._asked(asker, found.get("id"), what, data)
                case _:
                    log.warning("expected a question or an answer, got another message")
        except (ValueError, RecursionError):
            log.warning("expected a question or an answer as JSON, got something else")

    def _answered(self, number: int, answer: dict[str, Any] | BusError) -> None:
        _, waiting = self._waiting.get(number, ("", None))
        if waiting is None or waiting.done():
            return  # too late, or a second one
        if isinstance(answer, BusError):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def _asked(self, asker: str, number: Any, what: str, data: dict[str, Any]) -> None:
        # Each in a task of its own: they begin in the order in which they came, and a slow one holds up nobody.
        if self._serve is not None and len(self._tasks) < MOST:
            self._spawn(self._answer(self._serve, asker, number, what, data))
        else:
            log.warning("question not answered", extra={"asker": asker, "what": what, "under_way": len(self._tasks)})

    async def _answer(self, serve: Serve, asker: str, number: Any, what: str, data: dict[str, Any]) -> None:
        said: dict[str, Any]
        try:
            said = {"answer": await serve(what, data)}
        except Exception:
            log.exception("question failed", extra={"asker": asker, "what": what})
            said = {"error": f"expected {self._name} to answer, it failed"}
        if number is not None:
            try:
                await self._tell(asker, packed(asker, {"id": number, **said}))
            except BusError as exc:
                await self._tell(asker, packed(asker, {"id": number, "error": str(exc)}))

    def _spawn(self, doing: Any) -> None:
        task = asyncio.create_task(doing, name="bus-question")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def packed(to: str, message: Mapping[str, Any]) -> bytes:
    """One line. Raises :class:`BusError` for what is too long."""
    line = json.dumps(message, default=str).encode()
    if len(line) > MESSAGE_LIMIT:
        raise BusError(f"expected a message of at most {MESSAGE_LIMIT} bytes for {to}, got {len(line)}")
    return line
