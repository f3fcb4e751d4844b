"""Two nodes as one server: real processes, a real Redis, a real HAProxy in front."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests import programs
from tests.cluster import ACCOUNT, CALLS, Machine, call, cluster, until
from tests.jambonz import dial, metadata

SECRET = "a secret of thirty-two characters"
PAGE = {"sec-fetch-site": "same-origin"}
OWN = {**PAGE, "call-secret": SECRET}
NOBODY = "expected Redis to answer, got ConnectionError; a call of another process cannot be asked now"


def run(doing: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(60):
            await doing

    asyncio.run(in_time())


def inject(count: int) -> dict[str, Any]:
    message = {"role": "user", "content": "x"}
    return {"agent_update": {"type": "inject_context", "messages": [message] * count}}


async def events(
    machine: Machine, call_sid: str, types: str, headers: Mapping[str, str] = {}, **more: str
) -> AsyncIterator[tuple[str, Any]]:
    path, params = f"/v1/calls/{call_sid}/events", {"types": types, **more}
    async with machine.rest.stream("GET", path, params=params, headers=headers) as answer:
        assert answer.status_code == 200
        name = ""
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


@contextlib.asynccontextmanager
async def two(how: str) -> AsyncIterator[tuple[Machine, Machine]]:
    async with contextlib.AsyncExitStack() as stack:
        if how == "redis":
            where = (await stack.enter_async_context(programs.redis())).url
        else:
            where = stack.enter_context(programs.folder())
        yield await stack.enter_async_context(cluster(where))


@pytest.mark.parametrize("how", ["redis", "workers"])
def test_a_call_of_another_process_is_its_makers_own_and_without_words_for_other_pages(how: str) -> None:
    async def main() -> None:
        async with two(how) as (one, other):
            made = metadata(callSid="there", callSecret=SECRET)
            async with dial(f"ws://{other.at}/listen/demo", metadata=made):
                await until(one.listed, ["there"])
                assert (await one.rest.put(f"{CALLS}/there", json=inject(1), headers=PAGE)).status_code == 401
                assert (await one.rest.put(f"{CALLS}/there", json=inject(1), headers=OWN)).status_code == 202
                for headers, has_numbers in ((PAGE, False), (OWN, True), ({}, True)):
                    _, began = await anext(events(one, "there", "call_began", headers))
                    assert (began["agent"], "from" in began) == ("demo", has_numbers)
                _, sound = await anext(events(one, "there", "sound", PAGE, sound="1"))
                assert sound["caller"] == sound["agent"] == [-99] * 5
                assert SECRET not in (await one.rest.get("/v1/calls")).text
                assert (await one.rest.delete(f"{CALLS}/there", headers=OWN)).status_code == 204

    run(main())


@pytest.mark.parametrize("how", ["redis", "workers"])
def test_a_call_of_another_process_is_listed_changed_followed_and_ended_as_one_of_ones_own(how: str) -> None:
    async def main() -> None:
        async with two(how) as (one, other):
            async with contextlib.AsyncExitStack() as calls:
                socket = await calls.enter_async_context(other.call("there"))
                await until(one.listed, ["there"])
                await calls.enter_async_context(one.call("here"))
                await until(other.listed, ["there", "here"])  # the oldest first, whoever is asked
                assert await one.listed() == ["there", "here"]
                shown = (await one.rest.get(f"{CALLS}/there")).json()
                assert shown == (await other.rest.get(f"{CALLS}/there")).json()
                assert (shown["state"], shown["agent"]) == ("listening", "demo")
                counted = await one.rest.get(CALLS.replace("Calls", "CallCount"))
                assert counted.json() == {"inbound": 2, "outbound": 0}

                told = events(one, "there", "update,call_ended")
                for count in range(1, 31):
                    assert (await one.rest.put(f"{CALLS}/there", json=inject(count))).status_code == 202
                assert [(await anext(told))[1]["messages"] for _ in range(30)] == list(range(1, 31))
                refused = [
                    await one.rest.put(f"{CALLS}/there", json={"agent_update": {"type": "no such"}}),
                    await one.rest.put(f"{CALLS}/there", json={"whisper": "x"}),
                    await one.rest.get(f"{CALLS}/nowhere"),
                    await one.rest.get("/v1/Accounts/another/Calls/there"),
                    await one.rest.get("/v1/calls/nowhere/events"),
                ]
                assert [answer.status_code for answer in refused] == [422, 422, 404, 404, 404]
                same = await other.rest.put(f"{CALLS}/there", json={"agent_update": {"type": "no such"}})
                assert refused[0].json() == same.json()

                assert (await one.rest.delete(f"{CALLS}/there")).status_code == 204
                assert [name async for name, _ in told] == ["call_ended", "end"]
                with pytest.raises(ConnectionClosed):
                    while True:
                        await socket.recv()
                await until(one.listed, ["here"])

                async with one.call("moved") as before:
                    await until(other.listed, ["here", "moved"])
                    async with other.call("moved"):
                        with pytest.raises(ConnectionClosed, match=r"1008.*another listen socket took over this call"):
                            while True:
                                await before.recv()
                        await until(one.listed, ["here", "moved"])
            await until(one.listed, [])

    run(main())


@pytest.mark.parametrize("how", ["redis", "workers"])
def test_the_calls_of_all_processes_and_accounts_are_in_one_list(how: str) -> None:
    async def main() -> None:
        async with two(how) as (one, other), contextlib.AsyncExitStack() as calls:
            expected: list[tuple[str, str]] = []
            for machine, call_sid, account in (
                (other, "same", ACCOUNT),
                (other, "same", "another"),
                (one, "here", "another"),
                (other, "there", "a third"),
            ):
                await calls.enter_async_context(machine.call(call_sid, account))
                expected.append((account, call_sid))
                await until(lambda: listed(one), expected)  # the oldest first, whoever is asked
                await until(lambda: listed(other), expected)
            await until(lambda: states(one), ["listening"] * 4)
            shown = await everything(one)
            of_accounts = [
                call
                for account in (ACCOUNT, "another", "a third")
                for call in (await other.rest.get(f"/v1/Accounts/{account}/Calls")).json()
            ]
            assert [call | {"duration": 0} for call in shown] == [call | {"duration": 0} for call in of_accounts]

            other.kill()
            await until(lambda: listed(one), [("another", "here")])

    async def everything(machine: Machine) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await machine.rest.get("/v1/calls")).json()
        return found

    async def listed(machine: Machine) -> list[tuple[str, str]]:
        return [(call["account_sid"], call["sid"]) for call in await everything(machine)]

    async def states(machine: Machine) -> list[str]:
        return [call["state"] for call in await everything(machine)]

    run(main())


def test_calls_go_on_without_redis_and_those_of_a_killed_node_vanish() -> None:
    async def main() -> None:
        async with programs.redis() as redis, cluster(redis.url) as (one, other), one.call("here"):
            await until(other.listed, ["here"])
            async with other.call("there"):
                await until(one.listed, ["here", "there"])
                told = events(one, "there", "update")
                await other.rest.put(f"{CALLS}/there", json=inject(1))
                assert (await anext(told))[1]["messages"] == 1

                await redis.stop()
                for path in (
                    CALLS,
                    f"{CALLS}/there",
                    "/v1/calls",
                    "/v1/calls/there/events",
                    CALLS.replace("Calls", "CallCount"),
                ):
                    answer = await one.rest.get(path)
                    assert (answer.status_code, answer.json()) == (503, {"msg": NOBODY})
                assert (await one.rest.get(f"{CALLS}/here")).json()["state"] == "listening"
                assert (await other.rest.put(f"{CALLS}/there", json=inject(2))).status_code == 202
                await redis.start()
                assert (await anext(told))[1]["messages"] == 2  # nothing of the stream is lost

                async def is_listed() -> object:
                    answer = await one.rest.get(CALLS)
                    return [shown["sid"] for shown in answer.json()] if answer.status_code == 200 else None

                await until(is_listed, ["here", "there"])
                await until(lambda: status(one, "there"), 200)
                other.kill()
                await until(is_listed, ["here"])
                assert await status(one, "there") == 404

    async def status(machine: Machine, call_sid: str) -> int:
        return (await machine.rest.get(f"{CALLS}/{call_sid}")).status_code

    run(main())


def test_haproxy_sends_new_calls_to_ready_nodes_and_tokens_to_their_own() -> None:
    short = {"CHECK_EVERY": "100ms", "HTTP_TIMEOUT": "300ms"}

    async def main() -> None:
        async with cluster(None) as (one, other):  # noqa: SIM117
            async with programs.haproxy({**short, "VOICE1": one.at, "VOICE2": other.at}) as front:
                machines = {"voice1": one, "voice2": other}
                outside = httpx.AsyncClient(base_url=f"http://{front}", trust_env=False, verify=False)
                assert (await outside.get("/metrics")).status_code == 403
                await until(lambda: is_known(outside))
                host, _, port = front.rpartition(":")
                silent, writer = await asyncio.open_connection(host, int(port))
                writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                async with call(front, "old-1") as first, call(front, "old-2"):
                    await until(lambda: everywhere(one, other), ["old-1", "old-2"])
                    assert [len(await machine.listed()) for machine in (one, other)] == [1, 1]  # the least busy one

                    assert b"200" in await silent.read()  # this ends when HAProxy has waited long enough for another …
                    writer.close()
                    await first.send(bytes(320))  # … and a websocket goes on
                    assert await (await first.ping()) >= 0

                    one.refuse_new_calls()
                    await until(lambda: is_known(outside))
                    for number in range(4):
                        async with call(front, f"new-{number}"):
                            await until(lambda sid=f"new-{number}": has(other, sid))
                    assert len(await one.listed()) == 1
                    assert await (await first.ping()) >= 0

                    for name in machines:  # also to the one that takes no new calls
                        async with call(front, name, agent=f"t-{name}.w1-token"):
                            await until(lambda name=name: has(machines[name], name))
                await outside.aclose()

    async def healthy(outside: httpx.AsyncClient) -> bool:
        return (await outside.get("/healthz")).status_code == 200

    async def is_known(outside: httpx.AsyncClient) -> bool:
        """Nodes are asked in turn, as long as HAProxy takes them for ready."""
        return all([await healthy(outside) for _ in range(4)])

    async def everywhere(*machines: Machine) -> list[str]:
        return sorted([sid for machine in machines for sid in await machine.listed()])

    async def has(machine: Machine, call_sid: str) -> bool:
        return call_sid in await machine.listed()

    run(main())
