"""When another call is taken, and who only holds a place."""

import asyncio
import json

from agentd.ops.admission import WINDOW, WORDS, Admission
from agentd.reception import MOST, PATIENCE, Unbegun
from config.server import Limits
from tests import virtual_time
from tests.jambonz import Refused
from tests.whole_call import House, agent

LIMITS = Limits(loop_lag_ms=100, cpu=0.9)
TICK = 0.1


def taking() -> Admission:
    """A server that has a call."""
    admission = Admission(LIMITS)
    admission.calls = 1
    return admission


def fed(admission: Admission, seconds: float, lag: float = 0.0, cpu: float = 0.0, since: float = 0.0) -> float:
    """Measurements for so long; returns the time at the end."""
    now, end = since, since + seconds
    while now < end - 1e-9:
        now += TICK + lag
        admission.decide(lag, cpu, now)
    return now


def test_a_loop_that_is_late_all_the_time_is_busy_after_some_seconds_and_free_again_after_others() -> None:
    admission = taking()
    now = fed(admission, 1.0, lag=0.2)
    assert admission.reason is None
    now = fed(admission, WINDOW, lag=0.2, since=now)
    assert admission.reason == "busy"
    now = fed(admission, 1.0, since=now)
    assert admission.reason == "busy"
    fed(admission, WINDOW - 1.0, since=now)
    assert admission.reason is None


def test_a_busy_machine_without_a_call_takes_one() -> None:
    admission = taking()
    fed(admission, 10.0, lag=0.5)
    assert admission.reason == "busy"
    admission.calls = 0
    assert admission.reason is None


def test_a_single_slow_callback_refuses_nobody() -> None:
    admission = taking()
    now = fed(admission, 10.0)
    admission.decide(0.7, 0.9, now + 0.8)
    assert admission.reason is None


def test_a_loop_that_stood_still_for_two_seconds_is_busy_for_the_next_five() -> None:
    admission = taking()
    now = fed(admission, 10.0)
    assert admission.decide(2.0, 0.1, now + 2.1)
    now = fed(admission, WINDOW - 0.2, since=now + 2.1)
    assert admission.is_busy
    fed(admission, 0.3, since=now)
    assert not admission.is_busy


def test_a_core_that_is_used_up_refuses_and_is_not_free_before_it_has_eased() -> None:
    admission = taking()
    now = fed(admission, 6.0, cpu=0.95)
    assert admission.reason == "busy"
    now = fed(admission, 6.0, cpu=0.85, since=now)
    assert admission.reason == "busy"
    now = fed(admission, 6.0, cpu=0.7, since=now)
    assert admission.reason is None
    fed(admission, 6.0, cpu=0.85, since=now)
    assert admission.reason is None


def test_the_first_second_of_a_server_is_no_average() -> None:
    admission = taking()
    fed(admission, 2.0, cpu=1.0)
    assert not admission.is_busy


def test_a_limit_of_a_whole_core_never_refuses() -> None:
    admission = Admission(Limits(cpu=1.0))
    fed(admission, 20.0, cpu=1.0)
    assert admission.reason is None


def test_as_many_calls_as_are_allowed() -> None:
    admission = Admission(Limits(calls=2))
    admission.calls = 1
    assert admission.ask() is None
    admission.calls = 2
    assert admission.ask() == "full"
    admission.is_draining = True
    assert admission.ask() == "draining"
    assert admission.refused == {"full": 1, "draining": 1}


def test_fifty_that_say_nothing_keep_the_next_of_their_address_out_and_no_other() -> None:
    unbegun = Unbegun()
    assert all(unbegun.came("192.0.2.1", key, now=0.0) for key in range(3 * MOST))  # a burst is no siege
    assert not unbegun.came("192.0.2.1", 1000, now=PATIENCE)
    assert unbegun.came("192.0.2.2", 1001, now=PATIENCE)
    for key in range(2 * MOST + 1):
        unbegun.went("192.0.2.1", key)
    assert unbegun.came("192.0.2.1", 1000, now=PATIENCE)


def test_who_has_begun_is_forgotten() -> None:
    unbegun = Unbegun()
    for key in range(3):
        unbegun.came("2001:db8::1", key, now=0.0)
        unbegun.went("2001:db8::1", key)
        unbegun.went("2001:db8::1", key)
    assert len(unbegun) == 0


async def refusal(house: House) -> Refused:
    try:
        async with house.call():
            raise AssertionError("expected to be refused, got in")
    except Refused as refused:
        return refused


def test_a_busy_server_refuses_before_it_accepts_and_the_call_in_progress_goes_on() -> None:
    house = House(agent(greeting="Hello there."), limits={"calls": 1})

    async def main() -> None:
        async with house, house.call() as call:
            await call.until(lambda: call.is_audible)
            refused = await refusal(house)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert json.loads(refused.body) == {"msg": WORDS["full"]}
            await call.until(lambda: not call.is_audible)
            call.hang_up()
        async with house.call(metadata={"callSid": "next"}) as call:
            await call.until(lambda: call.is_audible)
        assert house.node.admission.refused == {"full": 1}
        assert (house.node.admission.calls, house.node.admission.sockets) == (0, 0)

    virtual_time.run(main())


def test_connections_that_send_nothing_are_limited_and_calls_in_progress_do_not_count() -> None:
    house = House(agent(greeting=False))

    async def main() -> None:
        async with house, asyncio.TaskGroup() as group:
            over = asyncio.Event()

            async def hold(number: int, first: bool) -> None:
                async with house.call(metadata={"callSid": f"c{number}"} if first else None) as call:
                    call.pause()
                    await over.wait()

            for number in range(MOST):
                group.create_task(hold(number, True))
            await asyncio.sleep(2.0)
            for number in range(MOST):
                group.create_task(hold(number, False))
            await asyncio.sleep(PATIENCE)
            assert (await refusal(house)).status == 429
            await asyncio.sleep(5.0)  # they have been closed
            async with house.call(metadata={"callSid": "last"}):
                assert len(house.node.calls) == MOST
            over.set()

    virtual_time.run(main())


def test_the_longest_call_ends_as_a_call_that_is_over() -> None:
    house = House(agent(greeting=False, noResponseTimeout=0), limits={"call_seconds": 30})

    async def main() -> None:
        async with house, house.call() as call:
            await call.until(lambda: call.closed is not None)
            assert call.now == 30.0
            assert call.received("disconnect") == [{"type": "disconnect"}]

    virtual_time.run(main())
    assert house.entries("limit_reached")
    assert [entry["completion_reason"] for entry in house.entries("call_ended")] == ["normal conversation end"]


def test_a_flood_of_text_is_no_call() -> None:
    house = House(agent(greeting=False))

    async def main() -> None:
        async with house, house.call() as call:
            for _ in range(1100):
                call.send({"event": "unknown"})
            await call.until(lambda: call.closed is not None)
            assert call.closed is not None and call.closed.code == 1008

    virtual_time.run(main())
