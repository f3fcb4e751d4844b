"""How processes find each other's calls and ask each other: the same for every bus."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis

from agentd.errors import AgentdError
from agentd.ops import questions
from agentd.ops.bus import Alone, Bus, BusError, Gone, Held, bus_of, process_name
from agentd.ops.local_bus import LocalBus
from agentd.ops.questions import Questions
from agentd.ops.redis_bus import PREFIX, RedisBus
from config.server import Server
from tests import programs

LIFETIME = 0.6  # seconds, of the calls of a dead process
INFO = {"since": 1.0, "call": {"from": "half \ud800", "agent": "demo"}}
DATA = {"text": "ä\n", "number": 7}

Rooms = Callable[[], "contextlib.AbstractAsyncContextManager[Callable[[str], Bus]]"]


@contextlib.asynccontextmanager
async def one_machine() -> AsyncIterator[Callable[[str], Bus]]:
    with programs.folder() as directory:
        yield lambda name: LocalBus(name, directory)


@contextlib.asynccontextmanager
async def one_redis() -> AsyncIterator[Callable[[str], Bus]]:
    async with programs.redis() as server:
        yield lambda name: RedisBus(name, server.url, LIFETIME)


class Process:
    """What answers with what it was asked, and keeps that."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.came = asyncio.Condition()

    async def serve(self, what: str, data: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((what, data))
        async with self.came:
            self.came.notify_all()
        if what == "break":
            raise RuntimeError("it is broken")
        if what == "wait":
            await asyncio.sleep(60)
        return {"what": what, "asked": self.bus.name, "data": data}

    async def was_asked(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        async with self.came:
            await self.came.wait_for(lambda: len(self.asked) >= count)
        return self.asked


@contextlib.asynccontextmanager
async def two(make: Callable[[str], Bus]) -> AsyncIterator[tuple[Process, Process]]:
    """Two processes that reach each other."""
    one, other = Process(make("voice1.w1")), Process(make("voice1.w2"))
    await one.bus.open(one.serve)
    await other.bus.open(other.serve)
    try:
        await until(lambda: answers(one.bus, other.bus.name))
        await until(lambda: answers(other.bus, one.bus.name))
        one.asked.clear()
        other.asked.clear()
        yield one, other
    finally:
        await one.bus.aclose()
        await other.bus.aclose()


async def answers(bus: Bus, name: str) -> bool:
    try:
        return bool(await bus.ask(name, "hello", {}))
    except BusError:
        return False


async def until(is_so: Callable[[], Awaitable[object]]) -> None:
    """Nobody tells when another process knows something."""
    while not await is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def run(doing: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(20):
            await doing

    asyncio.run(in_time())


@pytest.fixture(params=[one_machine, one_redis], ids=["local", "redis"])
def room(request: pytest.FixtureRequest) -> Rooms:
    found: Rooms = request.param
    return found


def test_a_question_is_answered_by_the_process_that_it_names(room: Rooms) -> None:
    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            told = await one.bus.ask("voice1.w2", "change", DATA)
            assert told == {"what": "change", "asked": "voice1.w2", "data": DATA}
            many = await asyncio.gather(*(other.bus.ask("voice1.w1", "n", {"n": n}) for n in range(200)))
            assert [answer["data"]["n"] for answer in many] == list(range(200))
            assert (len(one.asked), other.asked) == (200, [("change", DATA)])

    run(main())


def test_questions_begin_to_be_answered_in_their_order(room: Rooms) -> None:
    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            for number in range(50):
                await one.bus.ask("voice1.w2", "n", {"n": number})
            assert [data["n"] for _, data in other.asked] == list(range(50))

    run(main())


def test_who_gets_no_answer_is_told_why(room: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)

    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            with pytest.raises(Gone, match=r"expected an answer of voice1\.w7, it is gone"):
                await one.bus.ask("voice1.w7", "x", {})
            with pytest.raises(BusError, match=r"expected voice1\.w2 to answer, it failed"):
                await one.bus.ask("voice1.w2", "break", {})
            with pytest.raises(BusError, match=r"expected an answer of voice1\.w2 within 0\.05 s, got none"):
                await one.bus.ask("voice1.w2", "wait", {}, seconds=0.05)
            with pytest.raises(BusError, match="expected a message of at most 4194304 bytes"):
                await one.bus.ask("voice1.w2", "x", {"x": "y" * questions.MESSAGE_LIMIT})
            assert await one.bus.ask("voice1.w2", "still", {})
            await other.bus.aclose()
            with pytest.raises(Gone):
                await one.bus.ask("voice1.w2", "x", {})

    run(main())


def test_a_call_is_found_by_its_id_and_by_its_account_until_it_is_released(room: Rooms) -> None:
    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            for account, call_sid in (("a", "1"), ("a", "2"), ("b", "1"), ("half \udfff", "\n{x}:")):
                other.bus.hold(account, call_sid, INFO)
            held = [Held("voice1.w2", "a", "1", INFO), Held("voice1.w2", "a", "2", INFO)]

            async def listed() -> list[Held]:
                return sorted(await one.bus.calls("a"), key=lambda call: call.call_sid)

            await until(lambda: is_equal(listed(), held))
            await until(lambda: one.bus.find("\n{x}:"))
            assert sorted(call.account for call in await one.bus.find("1")) == ["a", "b"]
            assert [call.account for call in await one.bus.calls("half \udfff")] == ["half \udfff"]
            assert (await other.bus.find("1"), await other.bus.calls("a")) == ([], [])
            other.bus.release("a", "1")
            await until(lambda: is_equal(listed(), held[1:]))
            assert [call.account for call in await one.bus.find("1")] == ["b"]
            assert await one.bus.find("3") == await one.bus.calls("c") == []

    run(main())


def test_everything_is_the_calls_of_others_whatever_their_account_the_oldest_first(room: Rooms) -> None:
    later = {**INFO, "since": 2.0}
    held = [
        Held("voice1.w2", "b", "1", INFO),
        Held("voice1.w2", "half \udfff", "\n{x}:", later),
        Held("voice1.w2", "a", "1", {**INFO, "since": 3.0}),
    ]

    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            assert await one.bus.everything() == []
            for call in reversed(held):
                other.bus.hold(call.account, call.call_sid, call.info)
            one.bus.hold("c", "1", later)
            await until(lambda: is_equal(one.bus.everything(), held))
            await until(lambda: is_equal(other.bus.everything(), [Held("voice1.w1", "c", "1", later)]))
            other.bus.release("b", "1")  # of three calls of this id
            await until(lambda: is_equal(one.bus.everything(), held[1:]))
            one.bus.hold("a", "1", {**INFO, "since": 4.0})  # it is taken over
            other.bus.release("a", "1")
            await until(lambda: is_equal(one.bus.everything(), held[1:2]))
            taken = Held("voice1.w1", "a", "1", {**INFO, "since": 4.0})
            await until(lambda: is_equal(other.bus.everything(), [Held("voice1.w1", "c", "1", later), taken]))

    run(main())


def test_of_very_many_calls_everything_is_the_oldest_thousand_of_others(room: Rooms) -> None:
    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            for number in range(10):
                one.bus.hold("own", str(number), {**INFO, "since": 0.5})  # they take nobody's place
            for number in reversed(range(1_010)):
                other.bus.hold(f"account {number % 3}", str(number), {**INFO, "since": 1.0 + number})

            async def listed() -> list[str]:
                return [call.call_sid for call in await one.bus.everything()]

            await until(lambda: is_equal(listed(), [str(number) for number in range(1_000)]))
            for number in range(500):
                other.bus.release(f"account {number % 3}", str(number))
            await until(lambda: is_equal(listed(), [str(number) for number in range(500, 1_010)]))

    run(main())


def test_who_holds_a_call_of_another_has_it_displaced_there(room: Rooms) -> None:
    async def main() -> None:
        async with room() as make, two(make) as (one, other):
            one.bus.hold("a", "1", {**INFO, "since": 1.0})
            await until(lambda: other.bus.find("1"))
            other.bus.hold("a", "1", {**INFO, "since": 2.0})
            (what, data), *_ = await one.was_asked(1)
            assert (what, data["account"], data["call_sid"], data.get("since", 2.0)) == ("displace", "a", "1", 2.0)
            one.bus.release("a", "1")
            await until(lambda: is_found(one.bus.find("1"), "voice1.w2"))
            assert await other.bus.find("1") == []

    run(main())


async def is_equal(doing: Awaitable[object], expected: object) -> bool:
    return await doing == expected


async def is_said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def is_found(doing: Awaitable[list[Held]], owner: str) -> bool:
    return [call.owner for call in await doing] == [owner]


# Between workers -----------------------------------------------------------------------------------------


def test_a_worker_that_takes_anothers_place_is_reached_and_a_killed_one_has_no_calls() -> None:
    async def main() -> None:
        async with one_machine() as make, two(make) as (one, other):
            other.bus.hold("a", "1", INFO)
            assert await one.bus.find("1")
            waiting = asyncio.create_task(one.bus.ask("voice1.w2", "wait", {}))
            await other.was_asked(1)
            assert isinstance(other.bus, LocalBus) and other.bus._server is not None
            path = other.bus._path("voice1.w2")
            await other.bus.aclose()
            with pytest.raises(Gone, match="it is gone"):
                await waiting
            path.touch()  # what a kill leaves behind
            assert (await one.bus.find("1"), await one.bus.calls("a"), await one.bus.everything()) == ([], [], [])
            again = Process(make("voice1.w2"))
            await again.bus.open(again.serve)
            again.bus.hold("a", "2", INFO)
            assert [call.call_sid for call in await one.bus.calls("a")] == ["2"]
            assert await one.bus.everything() == await one.bus.calls("a")
            await again.bus.aclose()

    run(main())


# By Redis ------------------------------------------------------------------------------------------------


def test_the_calls_of_a_dead_process_vanish_and_those_of_a_live_one_do_not() -> None:
    async def main() -> None:
        async with one_redis() as make, two(make) as (one, other):
            one.bus.hold("a", "1", INFO)
            other.bus.hold("a", "2", INFO)
            third = make("voice2.w1")
            await third.open(other.serve)

            async def listed() -> list[str]:
                return sorted(call.call_sid for call in await third.calls("a"))

            await until(lambda: is_equal(listed(), ["1", "2"]))
            kill(other.bus)
            await until(lambda: is_equal(listed(), ["1"]))
            assert [call.owner for call in await third.find("1")] == ["voice1.w1"]
            assert await third.find("2") == []
            assert await third.everything() == await third.find("1")
            await third.aclose()

    run(main())


def test_neither_calls_that_are_over_nor_those_of_the_dead_stay_in_redis() -> None:
    async def main() -> None:
        async with (
            programs.redis() as server,
            two(lambda name: RedisBus(name, server.url, LIFETIME)) as (one, other),
            Redis.from_url(server.url) as redis,
        ):

            async def kept() -> Any:
                return await redis.zrange(f"{PREFIX}:calls", 0, -1)

            for account, call_sid in (("a", "1"), ("b", "1"), ("c", "2")):
                one.bus.hold(account, call_sid, INFO)
            other.bus.hold("b", "3", INFO)
            await until(lambda: is_equal(kept(), [b"1", b"2", b"3"]))
            one.bus.release("a", "1")  # there is another of this id
            one.bus.release("c", "2")
            await until(lambda: is_equal(kept(), [b"1", b"3"]))
            kill(other.bus)
            await until(lambda: is_equal(one.bus.everything(), []))  # who looks forgets it …
            await until(lambda: is_equal(kept(), [b"1"]))
            kill(one.bus)
            await until(lambda: is_equal(redis.dbsize(), 0))  # … and without a beat everything is forgotten

    run(main())


def test_a_call_is_listed_when_anothers_of_the_same_id_is_over() -> None:
    async def main() -> None:
        # No beat within the time of this test, which would write it anew.
        async with programs.redis() as server, two(lambda name: RedisBus(name, server.url, 100.0)) as (one, other):
            held = [Held("voice1.w2", account, "1", {**INFO, "since": at}) for account, at in (("a", 1.0), ("b", 2.0))]
            for call in held:
                other.bus.hold(call.account, call.call_sid, call.info)
            await until(lambda: is_equal(one.bus.everything(), held))
            other.bus.release("a", "1")
            await until(lambda: is_equal(one.bus.everything(), held[1:]))

    run(main())


def kill(bus: Bus) -> None:
    assert isinstance(bus, RedisBus)
    for task in bus._tasks:
        task.cancel()


def test_a_redis_that_was_away_and_has_forgotten_everything_knows_all_calls_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "agentd.bus")

    async def main() -> None:
        async with programs.redis() as server, two(lambda name: RedisBus(name, server.url, LIFETIME)) as (one, other):
            other.bus.hold("a", "1", INFO)
            await until(lambda: one.bus.find("1"))
            await server.stop()
            for asked in (
                one.bus.find("1"),
                one.bus.calls("a"),
                one.bus.everything(),
                one.bus.ask("voice1.w2", "x", {}),
            ):
                with pytest.raises(BusError, match="expected Redis to answer, got ConnectionError"):
                    await asked
            other.bus.hold("a", "2", INFO)  # nothing comes of it, for now
            one.bus.release("a", "3")
            await until(lambda: said(["redis is away: calls go on, those of others cannot be asked"] * 2))
            await server.start()
            await until(lambda: is_back(one.bus, 2))
            assert await one.bus.everything() == [Held("voice1.w2", "a", sid, INFO) for sid in ("1", "2")]
            await until(lambda: answers(one.bus, "voice1.w2"))
            await until(lambda: said(["redis is back"] * 2))

    async def said(messages: list[str]) -> bool:
        return [record.message for record in caplog.records if record.message in messages] == messages

    async def is_back(bus: Bus, count: int) -> bool:
        try:
            return len(await bus.calls("a")) == count
        except BusError:
            return False

    run(main())


def test_a_process_with_the_name_of_another_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with one_redis() as make:
            one, same = make("voice1.w1"), make("voice1.w1")
            await one.open(Process(one).serve)
            await same.open(Process(same).serve)
            await until(lambda: is_said(caplog, "another process has this name: set server.node"))
            await one.aclose()
            await same.aclose()

    run(main())


def test_the_password_of_redis_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bus = RedisBus("voice1.w1", f"redis://user:canary-secret@127.0.0.1:{programs.free_port()}/0", LIFETIME)

    async def main() -> None:
        await bus.open(Process(bus).serve)
        bus.hold("a", "1", INFO)
        await until(lambda: is_said(caplog, "redis is away"))
        with pytest.raises(BusError) as refused:
            await bus.find("1")
        assert "canary" not in f"{refused.value!r} {refused.value.__cause__!r}"
        await bus.aclose()

    run(main())
    assert "canary" not in caplog.text + repr([record.__dict__ for record in caplog.records])


# Which one, and under which name --------------------------------------------------------------------------


def test_the_bus_is_redis_where_there_is_one_then_the_workers_then_none() -> None:
    def bus(server: dict[str, Any], **environ: str) -> Bus:
        return bus_of(Server.model_validate(server), environ)

    redis = {"redis": "redis://127.0.0.1:1/0", "server": {"node": "voice1"}}
    workers = {"AGENTD_WORKER": "w2", "AGENTD_BUS_DIR": "/tmp"}
    found = [bus({"server": {"node": "voice1"}}), bus(redis), bus(redis, **workers), bus({}, **workers)]
    assert [type(made) for made in found] == [Alone, RedisBus, RedisBus, LocalBus]
    assert [made.name for made in found[:3]] == ["voice1.w1", "voice1.w1", "voice1.w2"]


def test_a_node_without_a_name_is_called_as_its_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, name in (("voice1.example.com", "voice1.w1"), ("a b", "a-b.w1"), ("", "node.w1")):
        monkeypatch.setattr("socket.gethostname", lambda machine=machine: machine)
        assert process_name(None, {}) == name
    assert process_name("left", {"AGENTD_WORKER": "w3"}) == "left.w3"


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "agentd.ops.redis_bus", None)
    with pytest.raises(AgentdError, match=r"pip install 'agentd\[redis\]'"):
        bus_of(Server.model_validate({"redis": "redis://127.0.0.1:1/0"}), os.environ)


def test_who_is_alone_finds_nobody() -> None:
    async def main() -> None:
        bus = Alone()
        bus.hold("a", "1", INFO)
        assert (await bus.find("1"), await bus.calls("a"), await bus.everything()) == ([], [], [])
        with pytest.raises(Gone):
            await bus.ask("voice1.w1", "x", {})

    run(main())


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b'{"id": 1}',
        b'{"id": 99, "answer": {}}',
        b'{"id": 99, "error": "x"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_whatever_comes_ends_nothing(message: bytes) -> None:
    async def send(to: str, message: bytes) -> None:
        raise AssertionError("nothing is asked")

    Questions("voice1.w1", send).take(message)
