"""Several processes on one port."""

import asyncio
import os
import re
import signal
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentd.workers.board import BUSY, DOWN, Board, page
from agentd.workers.post import Post, owner_of
from agentd.workers.restarts import MOST, TRIES, GiveUp, Restart, Restarts
from agentd.workers.worker import UP, Given, Worker
from tests.command import code_of
from tests.jambonz import Call, Refused, dial
from tests.processes import Serving, serving
from tests.vendors.http import Request
from tests.webhooks import Application, says
from tests.whole_call import agent, runs

pytestmark = pytest.mark.skipif(not hasattr(socket, "send_fds"), reason="Unix only")

LONG = "This is a very long story, and it takes its time to come to an end, as long stories do. " * 20
VERB = {"verb": "agent", "greeting": "Hello.", "actionHook": "/done"}
HANGUP = [{"verb": "hangup"}]


# A worker that dies ---------------------------------------------------------------------------------------


def test_a_worker_that_answered_calls_is_replaced_at_once() -> None:
    restarts = Restarts()
    assert restarts.died(-9, was_up=True, others_up=1) == Restart(0.0)
    assert restarts.died(-9, was_up=True, others_up=0) == Restart(0.0)


def test_a_worker_that_never_comes_up_is_tried_less_and_less_often_beside_those_that_did() -> None:
    restarts = Restarts()
    waits = [restarts.died(1, was_up=False, others_up=1) for _ in range(20)]
    assert waits[:4] == [Restart(0.25), Restart(0.5), Restart(1.0), Restart(2.0)]
    assert waits[-1] == Restart(MOST)
    assert restarts.died(1, was_up=True, others_up=1) == Restart(0.0)
    assert restarts.died(1, was_up=False, others_up=1) == Restart(0.25)


def test_where_none_comes_up_the_server_ends_with_the_workers_code() -> None:
    restarts = Restarts()
    waits = [restarts.died(3, was_up=False, others_up=0) for _ in range(TRIES)]
    assert waits[:-1] == [Restart(0.25), Restart(0.5), Restart(1.0), Restart(2.0)]
    assert waits[-1] == GiveUp(3)
    assert Restarts(TRIES).died(-11, was_up=False, others_up=0) == GiveUp(1)


def test_a_configuration_that_cannot_work_is_not_tried_twice_unless_there_are_calls() -> None:
    assert Restarts().died(2, was_up=False, others_up=0) == GiveUp(2)
    assert Restarts().died(2, was_up=False, others_up=1) == Restart(0.25)


def test_a_configuration_that_cannot_work_ends_the_parent_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agentd.yaml").write_text("server: {workers: many}\n")
    assert code_of("serve", "--config", str(tmp_path / "agentd.yaml")) == 2
    assert "server.workers" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_clear_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "agentd.yaml").write_text("server: {}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert code_of("serve", "--config", str(tmp_path / "agentd.yaml"), "--port", port, "--workers", "2") == 1
    said = f"agentd: expected to listen on 127.0.0.1, port {port}; got: Address already in use\n"
    assert capsys.readouterr().err == said


# Connections that are another's ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        (b"GET /listen/t-w2-abc HTTP/1.1\r\n", "w2"),
        (b"POST /app/desk/-/agent/t-w12-abc HTTP/1.1\r\n", "w12"),
        (b"GET /listen/t-voice-1.w2-abc HTTP/1.1\r\n", "w2"),
        (b"GET /listen/t-w2x-abc HTTP/1.1\r\n", None),
        (b"GET /listen/demo HTTP/1.1\r\n", None),
        (b"GET /listen/t-abc HTTP/1.1\r\n", None),
        (b"GET /app/desk HTTP/1.1\r\nx: /listen/t-w2-abc\r\n", None),
        (b"GET /?/listen/t-w2-abc HTTP/1.1\r\n", None),
        (b"\x16\x03\x01", None),
    ],
)
def test_a_request_names_its_worker(line: bytes, owner: str | None) -> None:
    assert owner_of(line) == owner


def test_a_connection_goes_over_with_what_was_read_of_it_and_waits_for_a_full_inbox() -> None:
    async def main() -> None:
        outbox, inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours, theirs = socket.socketpair()
        one, two = Post("w1", outbox, {"w2": outbox}), Post("w2", inbox, {})
        adopted: list[tuple[socket.socket, bytes]] = []
        with outbox, inbox, ours, theirs:
            assert one.owner_of(b"GET /listen/t-w2-a HTTP/1.1\r\n") == "w2"
            assert one.owner_of(b"GET /listen/t-w1-a HTTP/1.1\r\n") is None
            assert one.owner_of(b"GET /listen/t-w9-a HTTP/1.1\r\n") is None
            sending = [asyncio.create_task(one.send("w2", ours, b"head %d" % n)) for n in range(50)]
            await asyncio.sleep(0)
            two.receive(lambda connection, head: adopted.append((connection, head)))
            assert all(await asyncio.gather(*sending))
            async with asyncio.timeout(5):
                while len(adopted) < 50:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            two.close()
            assert sorted(head for _, head in adopted) == sorted(b"head %d" % n for n in range(50))
            ours.close()
            adopted[0][0].send(b"still open")
            assert theirs.recv(100) == b"still open"
            for connection, _ in adopted:
                connection.close()

    asyncio.run(main())


def test_a_new_call_goes_to_the_worker_that_has_the_fewest() -> None:
    with page() as shared:
        one, two = Board(shared.fileno(), 3), Board(shared.fileno(), 3)
        one.tell("w3", DOWN)
        assert [one.next("w1", now=1.0) for _ in range(4)] == ["w1", "w2", "w1", "w2"]  # a burst
        two.tell("w2", 5)
        assert [one.next("w1", now=2.0) for _ in range(2)] == ["w1", "w1"]
        one.tell("w1", BUSY)
        assert two.next("w2", now=3.0) == one.next("w1", now=3.0) == "w2"
        one.tell("w3", 0)
        assert two.next("w2", now=4.0) == "w3"
        one.close()
        two.close()


@pytest.mark.parametrize(
    ("line", "is_new"),
    [
        (b"GET /listen/demo HTTP/1.1\r\n", True),
        (b"GET /app/desk HTTP/1.1\r\n", True),
        (b"POST /app/desk?x=1 HTTP/1.1\r\n", True),
        (b"POST /app/desk/hook HTTP/1.1\r\n", False),
        (b"GET /healthz HTTP/1.1\r\n", False),
    ],
)
def test_only_new_calls_are_spread(line: bytes, is_new: bool) -> None:
    outbox, inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with page() as shared, outbox, inbox:
        board = Board(shared.fileno(), 2)
        board.tell("w1", 3)
        assert Post("w1", inbox, {"w2": outbox}, board).owner_of(line) == ("w2" if is_new else None)
        board.close()


def test_nobody_to_take_it_is_no_error() -> None:
    async def main() -> None:
        outbox, inbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        inbox.close()
        ours, theirs = socket.socketpair()
        with outbox, ours, theirs:
            assert not await Post("w1", outbox, {"w2": outbox}).send("w2", ours, b"head")

    asyncio.run(main())


# Real ones ---------------------------------------------------------------------------------------------------


class Desk(Application):
    """Wants an agent for the call, and nothing behind it."""

    async def _answer(self, request: Request, *streams: Any) -> None:
        self._replies = (says([VERB] if request.path == "/call" else HANGUP),)
        await super()._answer(request, *streams)


async def through_the_gateway(server: Serving, number: int) -> bool:
    """A call with a token; every request and socket by a connection of its own. Returns whether all of it came off."""
    call_sid = f"call-{number}"
    (listen,) = await posted(server, "/app/desk", call_sid)
    try:
        async with dial(listen["url"], metadata={"callSid": call_sid}, record=False) as call:
            await call.until(lambda: call.is_audible)
            call.hang_up()
    except (AssertionError, Refused):
        return False
    return await posted(server, listen["actionHook"], call_sid) == HANGUP


async def posted(server: Serving, path: str, call_sid: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=server.url(scheme="http"), timeout=30) as client:
        answer = await client.post(path, json={"call_sid": call_sid})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def workers(server: Serving) -> dict[str, int]:
    """The processes that have died or live, by name; the latest."""
    return {name: int(pid) for line in server.lines for name, pid in re.findall(r"worker=(w\d+) .*pid=(\d+)", line)}


async def story(server: Serving, number: int, begun: asyncio.Semaphore, end: asyncio.Event) -> Call:
    async with dial(server.url("/listen/demo"), metadata={"callSid": f"story-{number}"}) as call:
        await call.until(lambda: call.is_audible)
        begun.release()
        await end.wait()
    return call


def is_whole(call: Call) -> bool:
    """Nothing is missing in the middle of what was heard, however late it came."""
    heard = runs(call.media.recording)
    return all(then.first == (run.first + run.length) % 30_000 for run, then in pairwise(heard))


@pytest.mark.parametrize("tokens", [12, pytest.param(1000, marks=pytest.mark.nightly)])
def test_workers_hand_over_what_is_anothers_and_survive_each_other(tmp_path: Path, tokens: int) -> None:
    async def main() -> None:
        made = agent(greeting=LONG)
        vendors = {role: made.given()[role] for role in ("stt", "llm", "tts")}
        async with Desk() as app:
            more = {
                "apps": {"desk": f"{app.url}/call"},
                "defaults": vendors,
                "outgoing": {"allow": ["127.0.0.1"], "plain": True},
            }
            async with serving(tmp_path, made, workers=2, **more) as server:
                limit = asyncio.Semaphore(20)

                async def one(number: int) -> bool:
                    async with limit:
                        return await through_the_gateway(server, number)

                assert all(await asyncio.gather(*map(one, range(tokens))))
                began = await server.told("call began")
                assert {re.findall(r"worker=(\w+)", line)[0] for line in began} == {"w1", "w2"}
                await killed(server)
                server.signal(signal.SIGTERM)
                assert await server.ended() == 0

    async def killed(server: Serving) -> None:
        begun, end = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(story(server, number, begun, end)) for number in range(6)]
            for _ in calls:
                await begun.acquire()
            owners = {}
            for line in await server.told("story-", len(calls)):
                sid, worker = re.findall(r"call_sid=(\S+)", line)[0], re.findall(r"worker=(\w+)", line)[0]
                owners[sid] = worker
            victim = owners["story-0"]
            since = time.monotonic()
            os.kill(workers(server)[victim], signal.SIGKILL)
            await server.told("worker died")
            await server.told("agentd.server: listening", 3)
            assert time.monotonic() - since < 10  # two seconds on a machine that has nothing else to do
            end.set()
        for number, task in enumerate(calls):
            call = task.result()
            if owners[f"story-{number}"] != victim:
                assert call.closed is not None and call.closed.by == "jambonz"
                assert is_whole(call)
            else:
                assert call.closed is not None and call.closed.code == 1006

    asyncio.run(main())


def test_the_end_of_the_lifeline_is_the_end_of_the_parent() -> None:
    async def main() -> None:
        ours, life = socket.socketpair()
        inbox, outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with page() as shared:
            given = Given([], inbox.detach(), {"w1": outbox.detach()}, os.dup(shared.fileno()), life.detach())
            worker, died = Worker("w1", Given.read(given.written())), asyncio.Event()
        worker.watch(died.set)
        worker.up()
        assert ours.recv(10) == UP
        await asyncio.sleep(0)
        assert not died.is_set()
        ours.close()
        async with asyncio.timeout(5):
            await died.wait()
        worker.unwatch()
        worker.close()

    asyncio.run(main())


@pytest.mark.nightly
def test_workers_without_a_parent_drain(tmp_path: Path) -> None:
    async def main() -> None:
        async with serving(tmp_path, agent(greeting=LONG), workers=2) as server:
            async with dial(server.url("/listen/demo")) as call:
                await call.until(lambda: call.is_audible)
                os.kill(server.pid, signal.SIGKILL)
                await server.told("draining", 2)
                assert call.closed is None
                await call.play(0.2)
                assert call.closed is None
            await server.ended()  # once nobody holds its log open any more

    asyncio.run(main())
