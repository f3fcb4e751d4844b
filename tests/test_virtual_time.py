"""Virtual time: hours pass at once, and what would hang or go unseen fails with a name."""

import asyncio
import itertools
import socket

import pytest

from tests.virtual_time import Leaked, Stuck, run


def test_ten_minutes_of_frames_pass_at_once() -> None:
    async def frames() -> float:
        for _ in range(600 * 50):
            await asyncio.sleep(0.02)
        return asyncio.get_running_loop().time()

    assert run(frames()) == 600.0


def test_timers_fire_in_their_order_at_their_time() -> None:
    async def main() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[str, float]] = []

        def note(name: str) -> None:
            fired.append((name, loop.time()))

        for name, delay in (("late", 90_000.0), ("early", 0.5), ("middle", 7.0)):
            loop.call_later(delay, note, name)
        await asyncio.sleep(100_000)
        return fired

    assert run(main()) == [("early", 0.5), ("middle", 7.0), ("late", 90_000.0)]


def test_a_deadlock_is_reported_with_the_names_of_the_tasks_and_where_they_wait() -> None:
    async def the_reply_waits_for(event: asyncio.Event) -> None:
        await event.wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(the_reply_waits_for(asyncio.Event()), name="reply 7")

    with pytest.raises(Stuck) as stuck:
        run(main())
    assert "at 0.0 virtual seconds: nothing is due and nobody will wake the loop" in str(stuck.value)
    assert "reply 7: test_virtual_time.py:" in str(stuck.value)
    assert "in the_reply_waits_for > locks.py:" in str(stuck.value)


def test_a_test_that_goes_on_for_ever_ends_at_its_limit() -> None:
    async def for_ever() -> None:
        for _ in itertools.count():
            await asyncio.sleep(1)

    with pytest.raises(Stuck, match=r"at 60\.0 virtual seconds: expected the end within 60 virtual seconds"):
        run(for_ever(), limit=60)


def test_a_loop_that_spins_is_stuck_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.virtual_time.ROUNDS_WITHOUT_TIME", 1000)

    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(Stuck, match="the loop is spinning"):
        run(spin())


def test_a_task_left_over_is_reported_by_name() -> None:
    async def main(tasks: list[object]) -> str:
        tasks.append(asyncio.create_task(asyncio.sleep(3600), name="forgotten keepalive"))
        return "done"

    with pytest.raises(Leaked, match=r"got 1:\n  forgotten keepalive"):
        run(main([]))
    assert run(main([]), leaks_ok=True) == "done"


def test_a_task_on_its_way_out_is_no_leak() -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        task.cancel()

    run(main())


def test_an_exception_in_a_task_that_nobody_awaits_is_reported() -> None:
    async def fail() -> None:
        raise LookupError("no such reply")

    async def main(tasks: list[object]) -> None:
        tasks.append(asyncio.create_task(fail()))
        await asyncio.sleep(1)
        tasks.clear()

    with pytest.raises(ExceptionGroup) as group:
        run(main([]))
    assert [str(error) for error in group.value.exceptions] == ["no such reply"]


def test_an_exception_in_a_callback_is_reported() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon([].pop)
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as group:
        run(main())
    assert [type(error) for error in group.value.exceptions] == [IndexError]


def test_what_the_main_coroutine_raises_comes_through_as_it_is() -> None:
    async def main(tasks: list[object]) -> None:
        tasks.append(asyncio.create_task(asyncio.sleep(3600)))
        raise LookupError("this")

    with pytest.raises(LookupError, match="this"):
        run(main([]))


def test_sockets_come_before_timers() -> None:
    async def main() -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            await loop.sock_sendall(theirs, b"hello")
            async with asyncio.timeout(0.001):
                return await loop.sock_recv(ours, 5), loop.time()

    assert run(main()) == (b"hello", 0.0)


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def main() -> tuple[str, float]:
        async with asyncio.timeout(0.001):
            await asyncio.to_thread(sum, range(1_000_000))
            return "in time", asyncio.get_running_loop().time()

    assert run(main()) == ("in time", 0.0)
