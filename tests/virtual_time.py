"""An event loop whose clock jumps to the next timer, and which fails where an ordinary loop would hang or mutter.

    def test_the_caller_is_asked_after_12_seconds_of_silence() -> None:
        async def call() -> float:
            ...
        assert virtual_time.run(call()) == 12.0

The clock starts at 0. It moves only when nothing is ready: callbacks and sockets come first, and while a job of
``run_in_executor`` or ``asyncio.to_thread`` is under way it stands still. Sockets may be used inside the one loop;
a peer in another process or a thread of somebody else's is not seen coming, and ends as ``Stuck``.
"""

import asyncio
import gc
import math
import selectors
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREAD_SECONDS = 30.0  # real ones: how long a job on a thread may hold the clock
ROUNDS_WITHOUT_TIME = 1_000_000  # a loop that turns so often at one instant is waiting by spinning
_SETTLE_ROUNDS = 20


class Stuck(RuntimeError):
    """Nothing can ever happen, or not before ``limit``. The message names each task and where it waits."""


class Leaked(RuntimeError):
    """Tasks were left over after the main coroutine had returned. Await or cancel them, or say ``leaks_ok=True``."""


def run(coro: Coroutine[Any, Any, T], *, limit: float | None = None, leaks_ok: bool = False) -> T:
    """Run ``coro`` in virtual time and return what it returns.

    ``limit`` is in virtual seconds. Raises ``Stuck``, ``Leaked``, what ``coro`` raises, or an ``ExceptionGroup`` of
    what nobody else would have seen: exceptions of tasks never awaited, and those of callbacks.
    """
    loop = VirtualTimeLoop()
    loop.clock.limit = math.inf if limit is None else limit
    unseen: list[Exception] = []
    loop.set_exception_handler(lambda _, context: unseen.append(_as_exception(context)))
    gc.freeze()  # so that the collection below is of this run only, and cheap
    try:
        main = loop.create_task(coro, name="main")
        try:
            result = loop.run_until_complete(main)
            leaked = _leftovers(loop)
        finally:
            del main
            loop.clock.limit = math.inf
            _close(loop)
        gc.collect()  # a task's unseen exception is reported when the task is collected
    finally:
        gc.unfreeze()
    if leaked and not leaks_ok:
        raise Leaked(f"expected no task to outlive the main coroutine, got {len(leaked)}:\n" + "\n".join(leaked))
    if unseen:
        raise ExceptionGroup("exceptions that nobody awaited", unseen)
    return result


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """``asyncio.Runner(loop_factory=VirtualTimeLoop)`` works too, without the checks of ``run``."""

    def __init__(self) -> None:
        self.clock = _JumpingSelector(self._give_up)
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> "asyncio.Future[T]":
        future = super().run_in_executor(executor, func, *args)
        self.clock.threads += 1
        future.add_done_callback(self._thread_ended)
        return future

    def _thread_ended(self, _: "asyncio.Future[Any]") -> None:
        self.clock.threads -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncio's own
        self.clock.threads += 1  # it joins threads; a timeout would be over in no time
        try:
            await super().shutdown_default_executor()
        finally:
            self.clock.threads -= 1

    def waiting_tasks(self) -> list[str]:
        return sorted(f"  {task.get_name()}: {_where(task)}" for task in asyncio.all_tasks(self) if not task.done())

    def _give_up(self, reason: str) -> NoReturn:
        raise Stuck("\n".join([f"at {self.time()} virtual seconds: {reason}", *self.waiting_tasks()]))


class _JumpingSelector(selectors.DefaultSelector):
    """The loop asks it to wait for sockets or the next timer. Its answer to "not yet" is to move the clock."""

    def __init__(self, give_up: Callable[[str], NoReturn]) -> None:
        super().__init__()
        self.now = 0.0
        self.limit = math.inf
        self.threads = 0
        self._give_up = give_up
        self._rounds = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._rounds += 1
            if self._rounds > ROUNDS_WITHOUT_TIME:
                self._rounds = 0  # the tasks must get a turn to be cancelled in
                self._give_up("the loop is spinning: expected time to pass, got a million rounds at one instant")
            return ready
        self._rounds = 0
        if self.threads:
            ready = super().select(THREAD_SECONDS)
            if not ready:
                self._give_up(f"expected the job on a thread to end within {THREAD_SECONDS} real seconds")
            return ready
        if timeout is None:
            self._give_up("nothing is due and nobody will wake the loop")
        if self.now + timeout > self.limit:
            self._give_up(f"expected the end within {self.limit} virtual seconds")
        # Whole nanoseconds, the loop's own resolution: otherwise an hour of 20 ms ends beside the full hour.
        self.now = round(self.now + timeout, 9)
        return []


def _leftovers(loop: VirtualTimeLoop) -> list[str]:
    """Name the tasks that only time could end; those already on their way out are let go first."""
    for _ in range(_SETTLE_ROUNDS):
        if not asyncio.all_tasks(loop):
            break
        loop.run_until_complete(asyncio.sleep(0))
    return loop.waiting_tasks()


def _close(loop: VirtualTimeLoop) -> None:
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        tasks.clear()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _where(task: "asyncio.Task[Any]") -> str:
    """``file.py:12 in function > ...``: the chain of awaits, outermost first."""
    places: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is not None:
            places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}")
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return " > ".join(places) or "not started"


def _as_exception(context: dict[str, Any]) -> Exception:
    exception = context.get("exception")
    if isinstance(exception, Exception):
        exception.add_note(str(context["message"]))
        return exception
    return RuntimeError(f"{context['message']}: {exception!r}")
