"""How a server ends that has calls."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentd import drain
from agentd.ops.admission import WORDS
from agentd.server import Server
from tests import virtual_time
from tests.application import Application as ControlApplication
from tests.control import Control
from tests.jambonz import Call, Closed, FakeJambonz, Refused, dial
from tests.processes import serving
from tests.test_gateway import house as gateway_house
from tests.webhooks import Application, says
from tests.whole_call import House, agent, say

LONG = "This is a very long story, and it takes its time to come to an end, as long stories do. "


async def refused(url: str) -> int:
    try:
        async with dial(url):
            return 101
    except Refused as refusal:
        return refusal.status


@pytest.mark.parametrize("calls", [20, pytest.param(50, marks=pytest.mark.nightly)])
def test_sigterm_takes_no_more_calls_and_drops_none(tmp_path: Path, calls: int) -> None:
    async def one(url: str, number: int, begun: asyncio.Semaphore, end: asyncio.Event) -> Closed | None:
        async with dial(url, metadata={"callSid": f"c{number}"}, record=False) as call:
            await call.until(lambda: call.is_audible)
            begun.release()
            await end.wait()
            closed = call.closed
            call.hang_up()
        return closed

    async def main() -> None:
        greeting = agent(greeting="Good morning, this is a long greeting. " * 20)
        async with serving(tmp_path, greeting) as server:
            url, begun, end = server.url("/listen/demo"), asyncio.Semaphore(0), asyncio.Event()
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(url, number, begun, end)) for number in range(calls)]
                for _ in range(calls):
                    await begun.acquire()
                server.signal(signal.SIGTERM)
                await server.told("draining")
                assert await refused(url) == 503
                async with httpx.AsyncClient(base_url=server.url(scheme="http")) as client:
                    health = await client.get("/healthz")
                    assert (health.status_code, health.json()["status"]) == (503, "draining")
                    assert (await client.get("/livez")).status_code == 200
                end.set()
            assert [task.result() for task in tasks] == [None] * calls
            assert await server.ended() == 0
            assert not [line for line in server.lines if "WARNING" in line or "ERROR" in line]

    asyncio.run(main())


@contextlib.asynccontextmanager
async def in_call(house: House, seconds: float) -> AsyncIterator[tuple[FakeJambonz, "asyncio.Task[None]"]]:
    """A call that hears something, and its server that drains."""
    async with house, house.call() as call:
        await call.until(lambda: call.is_audible)
        yield call, asyncio.create_task(drain.drain(house.node, seconds))


async def over(call: Call) -> tuple[float, Closed | None]:
    return await call.until(lambda: call.closed is not None), call.closed


GONE = Closed("agentd", 1012, "the server is going down")


def test_the_deadline_lets_a_sentence_end_and_closes_with_1012() -> None:
    house = House(agent(greeting="Good morning, and welcome."))

    async def main() -> None:
        async with in_call(house, seconds=0.2) as (call, draining):
            at, closed = await over(call)
            assert closed == GONE
            assert [entry["response"] for entry in house.entries("turn_end")] == ["Good morning, and welcome."]
            assert 1.0 < at < 2.0
            await draining

    virtual_time.run(main())


def test_a_long_story_has_three_seconds_after_the_deadline() -> None:
    house = House(agent(greeting=LONG * 5))

    async def main() -> None:
        async with in_call(house, seconds=1.0) as (call, draining):
            since = call.now
            at, closed = await over(call)
            assert closed == GONE
            assert at - since == pytest.approx(1.0 + drain.LAST_WORDS, abs=0.05)
            await draining

    virtual_time.run(main())


def test_who_is_thinking_at_the_deadline_does_not_begin_to_speak() -> None:
    house = House(agent(["hello"], ["Yes."], llm={"first": 5.0}))

    async def main() -> None:
        async with house, house.call() as call:
            await say(call)
            await call.until(lambda: "thinking" in [entry["state"] for entry in house.entries("state")])
            draining = asyncio.create_task(drain.drain(house.node, 0.5))
            since = call.now
            at, closed = await over(call)
            assert (closed, call.heard()) == (GONE, [])
            assert at - since == pytest.approx(0.5, abs=0.05)
            await draining

    virtual_time.run(main())


def test_the_application_is_told_once_how_the_call_ended_and_the_server_waits_for_that() -> None:
    async def main() -> list[Any]:
        async with Application(says([], after=1.0)) as app:
            verb: dict[str, Any] = {"app": "desk", "actionHook": "/done", "greeting": LONG}
            house = House(agent(**verb), apps={"desk": app.url}, outgoing={"allow": ["127.0.0.1"], "plain": True})
            async with in_call(house, seconds=0.2) as (call, draining):
                await over(call)
                await draining
                assert house.node.listening == 0
            return [request.json() for request in app.requests if request.path == "/done"]

    (told,) = virtual_time.run(main())
    assert told["completion_reason"] == "disconnect from remote end"


def test_a_server_without_calls_ends_at_once() -> None:
    house = House(agent())

    async def main() -> float:
        async with house:
            await drain.drain(house.node, 3600)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(main()) == 0.0


def test_the_second_sigterm_ends_at_once_with_a_clean_close() -> None:
    house = House(agent(greeting=LONG * 5), server={"drain_seconds": 600})

    async def main() -> None:
        server = Server(house.node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        async with asyncio.timeout(20):
            async with dial(f"ws://127.0.0.1:{server.port}/listen/demo") as call:
                await call.until(lambda: call.is_audible)
                server.handle_exit(signal.SIGTERM, None)
                await asyncio.sleep(0)
                server.handle_exit(signal.SIGTERM, None)
                assert (await over(call))[1] == Closed("agentd", 1012, "")
            await serving

    asyncio.run(main())
    assert house.entries("call_ended")


def test_jambonz_that_is_to_come_back_is_let_in_while_others_are_not() -> None:
    async def main() -> None:
        async with ControlApplication([]) as app, gateway_house(app.url) as house, Control(house.app, "desk") as lost:
            await lost.ask("session:new")
            draining = asyncio.create_task(drain.drain(house.node, 600))
            await asyncio.sleep(1)
            with pytest.raises(Refused) as refusal:
                async with Control(house.app, "desk"):
                    pass
            assert refusal.value.status == 503
            lost.line.abort()
            await asyncio.sleep(1)
            async with Control(house.app, "desk") as new:  # nobody knows before its first message
                new.send({"type": "session:new", "msgid": "n", "call_sid": "another", "data": {}})
                await asyncio.sleep(1)
                assert new.closed == Closed("agentd", 1013, WORDS["draining"])
            async with Control(house.app, "desk") as jambonz:
                assert await jambonz.ask("session:reconnect") == []
                assert not draining.done()
            await draining

    virtual_time.run(main())
