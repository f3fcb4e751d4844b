"""How late the loop is, and who held it up."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable

import pytest

from agentd.ops.monitor import INTERVAL, LONG, LoopMonitor, Stall, StallWatch


def test_a_stall_is_told_once_when_it_is_over_with_the_stack_of_the_beginning() -> None:
    watch = StallWatch(0.25)
    stacks = iter(["first", "second"])
    assert watch.look(0.1, 0.0, 0.0, lambda: next(stacks)) is None
    assert watch.look(0.3, 0.0, 0.0, lambda: next(stacks)) is None
    assert watch.look(0.4, 0.0, 0.0, lambda: next(stacks)) is None
    assert watch.look(0.6, 0.0, 0.0, lambda: next(stacks)) is None
    assert watch.look(0.8, 0.75, 0.65, lambda: next(stacks)) == Stall(0.65, "first", is_over=True)
    assert watch.look(0.9, 0.85, 0.65, lambda: next(stacks)) is None


def test_a_stall_without_end_is_told_while_it_lasts_and_not_again() -> None:
    watch = StallWatch(0.25)
    assert watch.look(1.0, 0.0, 0.0, lambda: "stuck") is None
    assert watch.look(LONG + INTERVAL, 0.0, 0.0, lambda: "stuck") == Stall(LONG, "stuck", is_over=False)
    assert watch.look(LONG + 1, 0.0, 0.0, lambda: "stuck") is None
    assert watch.look(LONG + 2, LONG + 1.9, 6.9, lambda: "stuck") is None


def block(until: threading.Event) -> None:
    until.wait(5.0)


def test_the_stack_of_who_blocks_the_loop_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[float, float, float]] = []
    monitor = LoopMonitor(0.05, lambda *measured: told.append(measured))
    release = threading.Event()

    async def main() -> None:
        monitor.start()
        await until(lambda: told)
        timer = threading.Timer(0.4, release.set)
        timer.start()
        block(release)
        await until(lambda: monitor.stalls)
        monitor.close()
        timer.join()

    with caplog.at_level(logging.WARNING, "agentd.loop"):
        asyncio.run(main())
    (record,) = [record for record in caplog.records if record.message == "loop stalled"]
    fields = record.__dict__
    assert " block > " in fields["stack"] and "test_monitor.py" in fields["stack"]
    assert fields["is_over"] and fields["ms"] >= 200
    assert monitor.lag.most >= 0.2
    assert max(lag for lag, _, _ in told) == monitor.lag.most


def test_what_the_loop_costs_is_measured() -> None:
    told: list[float] = []
    monitor = LoopMonitor(tell=lambda lag, cpu, now: told.append(cpu))

    async def main() -> None:
        monitor.start()
        await until(lambda: told)
        before = time.thread_time()
        while time.thread_time() - before < 0.05:
            pass
        await until(lambda: len(told) > 1)
        monitor.close()

    asyncio.run(main())
    assert told[1] > 0.01
    assert monitor.run_queue_wait is None or monitor.run_queue_wait >= 0
    assert not [thread for thread in threading.enumerate() if thread.name == "loop-monitor"]


async def until(predicate: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not predicate():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
