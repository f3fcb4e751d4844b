"""REST for live calls, as jambonz's SDK asks for it, and their events as a stream."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from jambonz_sdk.client import JambonzClient
from starlette.exceptions import HTTPException
from starlette.routing import Route

from agentd.errors import AgentdError
from agentd.jambonz import changes, openapi, rest
from agentd.ops import stream
from agentd.ops.local_bus import LocalBus
from agentd.ops.log import EventLog
from agentd.ops.registry import LiveCall
from agentd.ops.stream import EventStream, LiveLog, View
from agentd.server import Server
from tests import programs, virtual_time
from tests.jambonz import Call, FakeJambonz, Lifespan, metadata
from tests.whole_call import House, agent

ACCOUNT = metadata()["accountSid"]
SID = metadata()["callSid"]
CALLS = f"/v1/Accounts/{ACCOUNT}/Calls"
OPEN: dict[str, Any] = {"access": "open"}


def a_house(**server: Any) -> House:
    return House(agent(["hello"] * 5, ["Yes, I am here."]), **(server or OPEN))


def client(house: House, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url="http://localhost", **options)


async def live(house: House, call: Call, calls: int = 1) -> None:
    await call.until(lambda: len(house.node.calls) == calls)


# Looking -------------------------------------------------------------------------------------------------


def test_a_call_is_shown_under_jambonzs_names() -> None:
    house = a_house()

    async def main() -> None:
        async with client(house) as outside, house.call() as call:
            await live(house, call)
            await call.play(7.0)
            shown = {
                "sid": SID,
                "call_sid": SID,
                "account_sid": ACCOUNT,
                "application_sid": "app00000-0000-4000-8000-000000000001",
                "call_id": "f00dfeed-0000-4000-8000-000000000001",
                "from": "+15551230001",
                "to": "+15551230002",
                "caller_name": "Ada Caller",
                "sip_status": 200,
                "trace_id": "0123456789abcdef0123456789abcdef",
                "direction": "inbound",
                "call_status": "in-progress",
                "duration": 7,
                "agent": "demo",
                "state": "listening",
            }
            assert (await outside.get(CALLS)).json() == [shown]
            assert (await outside.get(f"{CALLS}/{SID}")).json() == shown
        async with client(house) as outside:
            assert (await outside.get(CALLS)).json() == []
            assert (await outside.get(f"{CALLS}/{SID}")).status_code == 404

    virtual_time.run(main())


def test_calls_are_listed_and_counted_by_account_and_filtered() -> None:
    house = a_house()
    half = json.dumps(metadata(callSid="four", accountSid=None, direction=7) | {"from": {"half": "\ud800"}})
    others: list[Any] = [
        {"callSid": "two", "direction": "outbound", "from": "1"},
        {"callSid": "three", "accountSid": "another"},
        half,
    ]

    async def main() -> None:
        async with client(house) as outside, house.call() as one, asyncio.TaskGroup() as group:

            async def listed(path: str) -> list[str]:
                return [call["sid"] for call in (await outside.get(path)).json()]

            async def hold(more: Any, done: asyncio.Event) -> None:
                async with house.call(metadata=more) as call:
                    await done.wait()
                    await call.play(0.02)

            done = asyncio.Event()
            for more in others:
                group.create_task(hold(more, done))
            await live(house, one, 4)
            assert await listed(CALLS) == [SID, "two"]
            assert await listed(f"{CALLS}?direction=outbound") == ["two"]
            assert await listed(f"{CALLS}?from=1&to=2") == []
            assert await listed(f"{CALLS}?callStatus=in-progress&from=%2B15551230001") == [SID]
            assert await listed("/v1/Accounts/another/Calls") == ["three"]
            assert await listed("/v1/Accounts/default/Calls") == ["four"]
            assert await listed("/v1/Accounts/nobodys/Calls") == []
            for path in ("CallCount", "Calls/count"):
                counted = await outside.get(f"/v1/Accounts/{ACCOUNT}/{path}")
                assert counted.json() == {"inbound": 1, "outbound": 1}
            done.set()

    virtual_time.run(main())


def test_the_calls_of_all_accounts_that_a_key_is_for_are_one_list_the_oldest_first() -> None:
    keys: list[dict[str, Any]] = [
        {"key": "all"},
        {"key": "agent", "agents": ["demo"]},
        {"key": "account", "accounts": ["another", "nobodys"]},
        {"key": "other-agent", "agents": ["desk"]},
        {"key": "half", "agents": ["desk"], "accounts": [ACCOUNT]},
    ]
    house = a_house(access={"listen": [{"username": "a", "password": "b"}], "keys": keys})
    ours, another, nameless = [ACCOUNT, SID], ["another", SID], ["default", "three"]

    def call(**more: Any) -> FakeJambonz:
        return house.call(headers={"Authorization": "Basic YTpi"}, metadata=more)

    async def main() -> None:
        async with (
            client(house) as outside,
            call(accountSid="another") as first,
            call() as second,
            call(callSid="three", accountSid=None) as third,
        ):
            await live(house, first, 3)

            async def listed(key: str, path: str = "/v1/calls") -> list[dict[str, Any]]:
                answer = await outside.get(path, headers={"Authorization": f"Bearer {key}"})
                found: list[dict[str, Any]] = answer.json()
                return found

            seen = {
                entry["key"]: [[shown["account_sid"], shown["sid"]] for shown in await listed(entry["key"])]
                for entry in keys
            }
            everything = [another, ours, nameless]
            assert seen == {"all": everything, "agent": everything, "account": [another], "other-agent": [], "half": []}
            assert (await listed("all"))[1:2] == await listed("all", CALLS)
            second.hang_up()
            await live(house, third, 2)
            assert [shown["account_sid"] for shown in await listed("all")] == ["another", "default"]
            assert (await outside.get("/v1/calls")).status_code == 401

    virtual_time.run(main())


def test_an_owner_is_asked_once_for_all_its_calls_and_they_are_shown_from_afar_where_it_does_not_answer() -> None:
    house, elsewhere = a_house(), a_house()
    asked: list[Any] = []

    async def silence(what: str, data: dict[str, Any]) -> dict[str, Any]:
        if what == "calls":
            asked.append(data)
        await asyncio.Event().wait()
        return {}

    async def main() -> None:
        with programs.folder() as where:
            house.node.bus, elsewhere.node.bus = LocalBus("voice.w1", where), LocalBus("voice.w2", where)
            silent = LocalBus("voice.w3", where)
            await silent.open(silence)
            for since, account in enumerate(["another", ACCOUNT]):
                known = {"sid": SID, "account_sid": account, "direction": "inbound", "agent": "demo"}
                silent.hold(account, SID, {"since": since, "call": known})
            async with (
                Lifespan(house.app),
                Lifespan(elsewhere.app),
                client(house) as outside,
                elsewhere.call(metadata={"callSid": "near"}) as call,
                elsewhere.call(metadata={"callSid": "near", "accountSid": "another"}),
            ):
                await live(elsewhere, call, 2)
                shown = (await outside.get("/v1/calls")).json()
            await silent.aclose()
        assert [(call["account_sid"], call["sid"], call["state"]) for call in shown] == [
            ("another", SID, "unknown"),
            (ACCOUNT, SID, "unknown"),
            (ACCOUNT, "near", "listening"),
            ("another", "near", "listening"),
        ]
        assert asked == [{"accounts": [ACCOUNT, "another"]}]

    virtual_time.run(main())


def test_a_key_sees_and_changes_only_what_it_is_for() -> None:
    keys: list[dict[str, Any]] = [
        {"key": "all"},
        {"key": "agent", "agents": ["demo"]},
        {"key": "account", "accounts": [ACCOUNT]},
        {"key": "other-agent", "agents": ["desk"]},
        {"key": "other-account", "accounts": ["another"]},
        {"key": "half", "agents": ["demo"], "accounts": ["another"]},
    ]
    callers = [{"username": "a", "password": "b"}]
    house = a_house(access={"listen": callers, "keys": keys})
    unknown = {"msg": "expected a live call of this account, got none of this id"}

    async def main() -> None:
        async with client(house) as outside, house.call(headers={"Authorization": "Basic YTpi"}) as call:
            await live(house, call)
            for key in (entry["key"] for entry in keys):
                told = {"Authorization": f"Bearer {key}"}
                may = key in ("all", "agent", "account")
                assert len((await outside.get(CALLS, headers=told)).json()) == may
                counted = await outside.get(f"/v1/Accounts/{ACCOUNT}/CallCount", headers=told)
                assert counted.json() == {"inbound": int(may), "outbound": 0}
                answer = await outside.get(f"{CALLS}/{SID}", headers=told)
                assert answer.status_code == (200 if may else 404)
                if not may:
                    refused = [
                        answer,
                        await outside.put(f"{CALLS}/{SID}", headers=told, json={"call_status": "completed"}),
                        await outside.put(f"{CALLS}/{SID}", headers=told, content=b"nonsense"),
                        await outside.delete(f"{CALLS}/{SID}", headers=told),
                        await outside.get(f"/v1/calls/{SID}/events", headers=told),
                    ]
                    assert [(found.status_code, found.json()) for found in refused] == [(404, unknown)] * 5
            wrong = "/v1/Accounts/another/Calls/" + SID
            assert (await outside.get(wrong, headers={"Authorization": "Bearer all"})).status_code == 404
            assert call.closed is None

    virtual_time.run(main())


# Changing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["put", "delete"])
def test_a_call_is_ended(how: str) -> None:
    house = a_house()

    async def main() -> None:
        async with client(house) as outside, house.call() as call:
            await live(house, call)
            if how == "put":
                answer = await outside.put(f"{CALLS}/{SID}", json={"call_status": "completed"})
                assert (answer.status_code, answer.text) == (202, "Accepted")
            else:
                assert (await outside.delete(f"{CALLS}/{SID}")).status_code == 204
            await call.until(lambda: call.closed)
            assert call.received("disconnect") == [{"type": "disconnect"}]
        assert house.entries("call_ended")[0]["completion_reason"] == "normal conversation end"
        async with client(house) as outside:
            assert (await outside.delete(f"{CALLS}/{SID}")).status_code == 404

    virtual_time.run(main())


class Asked:
    """What a change asks of a call."""

    def __init__(self, refuses: bool = False) -> None:
        self.log = EventLog(lambda: 0.0)
        self.state = "listening"
        self.asked: list[Any] = []
        self._refuses = refuses

    def update(self, data: Mapping[str, Any]) -> None:
        if self._refuses:
            raise AgentdError("type: expected update_instructions, got 'x'")
        self.asked.append(("update", data))

    def noise_isolation(self, data: Mapping[str, Any]) -> None:
        self.asked.append(("noise", data))

    def stop(self, reason: str) -> None:
        self.asked.append(("stop", reason))

    def watch(self, seconds: float) -> None:
        self.asked.append(("watch", seconds))


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({"agent_update": {"type": "generate_reply"}}, ("update", {"type": "generate_reply"})),
        ({"pipeline_update": {"type": "generate_reply"}}, ("update", {"type": "generate_reply"})),
        ({"call_status": "completed"}, ("stop", "normal conversation end")),
        (
            {"noise_isolation_status": "enable", "noise_isolation_level": 50, "noise_isolation_vendor": "rnnoise"},
            (
                "noise",
                {"noise_isolation_status": "enable", "noise_isolation_level": 50, "noise_isolation_vendor": "rnnoise"},
            ),
        ),
        ({"noiseIsolation_status": "off"}, ("noise", {"noiseIsolation_status": "off"})),
        ({"noiseIsolation_status": "on", "level": 3}, ("noise", {"noiseIsolation_status": "on", "level": 3})),
    ],
)
def test_a_body_is_one_change(body: dict[str, Any], asked: Any) -> None:
    call = Asked()
    changes.change(body)(call)
    assert call.asked == [asked]


ONE_OF = "agent_update, pipeline_update, noise_isolation_status, call_status"
NOT_HERE = f"belongs to jambonz's own REST interface; here it is one of {ONE_OF}"


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, f"expected one of {ONE_OF}, got none of them"),
        ({"call_status": "completed", "agent_update": {}}, 400, f"expected one of {ONE_OF}, got 2 of them"),
        ({"noise_isolation_level": 3}, 400, f"expected one of {ONE_OF}, got none of them"),
        ({"agent_update": "x"}, 400, "agent_update: expected an object"),
        ({"pipeline_update": [1]}, 400, "pipeline_update: expected an object"),
        ({"call_status": "no-answer"}, 422, "call_status: expected completed"),
        ({"call_status": {"deep": []}}, 422, "call_status: expected completed"),
        (
            {"call_status": "completed", "level": 3},
            422,
            "level: expected beside noise_isolation_status only, got it with call_status",
        ),
        (
            {"noise_isolation_status": "maybe"},
            422,
            "expected noise_isolation_status enable or disable, got 'maybe'",
        ),
    ]
    + [
        ({key: {}}, 422, f"{key}: tool results come over the socket that was asked")
        for key in ("tool_output", "llm_tool_output", "tool_call_id")
    ]
    + [
        ({key: "x"}, 422, f"{key}: {NOT_HERE}")
        for key in ("mute_status", "whisper", "call_hook", "listen_status", "transfer", "dub", "x" * 40)
    ],
)
def test_a_body_that_is_no_change_is_answered_with_what_was_expected(body: Any, status: int, message: str) -> None:
    with pytest.raises(HTTPException) as refused:
        changes.change(body)
    assert (refused.value.status_code, refused.value.detail) == (status, message)


def test_an_update_that_the_call_refuses_is_unprocessable(monkeypatch: pytest.MonkeyPatch) -> None:
    house = a_house()

    async def main() -> None:
        async with client(house) as outside, house.call() as call:
            await live(house, call)
            (found,) = house.node.calls
            monkeypatch.setattr(found, "call", Asked(refuses=True))
            answer = await outside.put(f"{CALLS}/{SID}", json={"agent_update": {"type": "x"}})
            assert (answer.status_code, answer.json()) == (
                422,
                {"msg": "type: expected update_instructions, got 'x'"},
            )

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("content", "kind", "status", "message"),
    [
        (b"{}", "text/plain", 415, "expected Content-Type: application/json"),
        (b"{}", "", 415, "expected Content-Type: application/json"),
        (b"{", "application/json", 400, "expected a body of JSON, got something else"),
        (b"", "application/json", 400, "expected a body of JSON, got something else"),
        (b"\xff\xfe\xfd", "application/json", 400, "expected a body of JSON, got something else"),
        (b'{"call_status": NaN}', "application/json", 400, "expected a body of JSON, got something else"),
        (b"[" + b"9" * 5000 + b"]", "application/json", 400, "expected a body of JSON, got something else"),
        (b"[]", "application/json", 400, "expected a JSON object"),
        (b"null", "application/json; charset=utf-8", 400, "expected a JSON object"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "application/json", 400, "expected JSON of at most 64 levels, got more"),
        (b'{"a":' + b"[" * 100_000, "application/json", 400, "expected JSON of at most 64 levels, got more"),
        (b" " * 262_145, "application/json", 413, "expected at most 262144 bytes, got more"),
        (
            b'{"\\ud800": 1}',
            "Application/JSON",
            422,
            f"\ud800: {NOT_HERE}",
        ),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_body_that_cannot_be_read_is_answered_with_what_was_expected(
    content: bytes, kind: str, status: int, message: str
) -> None:
    house = a_house()

    async def main() -> None:
        async with client(house) as outside, house.call() as call:
            await live(house, call)
            answer = await outside.put(f"{CALLS}/{SID}", content=content, headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()) == (status, {"msg": message})
            assert call.closed is None

    virtual_time.run(main())


def test_sixty_four_levels_are_fine() -> None:
    assert rest.parsed(b'{"a":' * 64 + b"1" + b"}" * 64)["a"]


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    house = a_house()

    async def slow() -> Any:
        yield b'{"call_status":'
        await asyncio.sleep(60)

    async def main() -> None:
        async with client(house) as outside, house.call() as call:
            await live(house, call)
            headers = {"Content-Type": "application/json"}
            answer = await outside.put(f"{CALLS}/{SID}", content=slow(), headers=headers)
            assert (answer.status_code, answer.json()) == (408, {"msg": "expected the whole body within 10 s"})

    virtual_time.run(main())


# jambonz's own SDK ---------------------------------------------------------------------------------------


def test_jambonzs_python_sdk_works_here() -> None:
    house = a_house(access={"listen": [{"username": "a", "password": "b"}], "keys": [{"key": "k"}]})

    async def main() -> None:
        server = Server(house.node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        sdk = JambonzClient(base_url=f"http://127.0.0.1:{server.port}", account_sid=ACCOUNT, api_key="k")
        async with sdk as jambonz, house.call(headers={"Authorization": "Basic YTpi"}) as call:
            await live(house, call)
            assert [shown["call_sid"] for shown in await jambonz.calls.list({"direction": "inbound"})] == [SID]
            assert (await jambonz.calls.get(SID))["state"] == "listening"
            assert await jambonz.calls.count() == {"inbound": 1, "outbound": 0}
            assert await jambonz.calls.noise_isolation(SID, "off") == "Accepted"
            update = {"type": "update_instructions", "instructions": "Be brief."}
            assert await jambonz.calls.update_agent(SID, update) == "Accepted"
            for refused in (
                jambonz.calls.mute(SID, "mute"),
                jambonz.calls.redirect(SID, "/x"),
                jambonz.calls.update_agent(SID, {"type": "no such update"}),
            ):
                with pytest.raises(Exception, match="422"):
                    await refused
            with pytest.raises(Exception, match="404"):
                await jambonz.calls.get("another")
            assert await jambonz.calls.delete(SID) is None
            await call.until(lambda: call.closed)
        server.should_exit = True
        await serving

    async def in_time() -> None:
        async with asyncio.timeout(20):
            await main()

    asyncio.run(in_time())


# Events --------------------------------------------------------------------------------------------------


class Reader:
    """A client of an event stream, down to ASGI: ``can_read`` is its willingness, ``leave`` its going away."""

    def __init__(self, response: Callable[..., Any]) -> None:
        self.body = ""
        self.is_whole = False
        self.can_read = asyncio.Event()
        self.can_read.set()
        self._gone = asyncio.Event()
        self.task = asyncio.ensure_future(response({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self.can_read.wait()
        if message["type"] == "http.response.body":
            self.body += message["body"].decode()
            self.is_whole = not message.get("more_body", False)

    def leave(self) -> None:
        self._gone.set()

    @property
    def events(self) -> list[tuple[int | None, str, Any]]:
        """Number, type and data of each."""
        found: list[tuple[int | None, str, Any]] = []
        for block in self.body.split("\n\n")[:-1]:
            if not block.startswith(":"):
                fields = dict(line.split(": ", 1) for line in block.split("\n"))
                number = int(fields["id"]) if "id" in fields else None
                found.append((number, fields["event"], json.loads(fields["data"])))
        return found


def a_live_call() -> tuple[LiveCall, EventLog]:
    call = Asked()
    return LiveCall("sid", "demo", {}, call, lambda code, reason: None, 0.0), call.log


def ticks(log: EventLog, count: int) -> None:
    for number in range(count):
        log.append("tick", number=number)


def tick(number: int) -> tuple[int, str, Any]:
    """The event of the first, second, … tick."""
    return number, "tick", {"at": 0.0, "type": "tick", "number": number - 1}


async def settle() -> None:
    await asyncio.sleep(0.001)


END: tuple[int | None, str, Any] = (None, "end", {})


def test_a_stream_tells_what_has_happened_then_what_happens_then_the_end() -> None:
    async def main() -> None:
        call, log = a_live_call()
        ticks(log, 2)
        one, other = Reader(EventStream(LiveLog(call))), Reader(EventStream(LiveLog(call), after=1))
        await settle()
        assert (one.events, other.events) == ([tick(1), tick(2)], [tick(2)])
        log.append("tick", number=2)
        await settle()
        assert (one.events, other.events) == ([tick(1), tick(2), tick(3)], [tick(2), tick(3)])
        log.append("tick", number=3)
        call.over()
        await asyncio.gather(one.task, other.task)
        assert one.events[3:] == other.events[2:] == [tick(4), END]
        assert one.is_whole and other.is_whole
        assert (log._listeners, call.watchers) == ([], set())

    virtual_time.run(main())


def test_a_reader_that_has_everything_hears_what_comes_next() -> None:
    async def main() -> None:
        call, log = a_live_call()
        ticks(log, 1)
        reader = Reader(EventStream(LiveLog(call), after=99))
        await settle()
        log.append("tick", number=1)
        call.over()
        await reader.task
        assert reader.events == [tick(2), END]

    virtual_time.run(main())


def test_only_wanted_types_are_told_under_the_same_numbers() -> None:
    async def main() -> None:
        call, log = a_live_call()
        reader = Reader(EventStream(LiveLog(call, View(frozenset({"tick"})))))
        for type_ in ("state", "tick", "state"):
            log.append(type_)
            await settle()
        call.over()
        await reader.task
        assert [(number, type_) for number, type_, _ in reader.events] == [(2, "tick"), (None, "end")]

    virtual_time.run(main())


def test_a_quiet_stream_shows_that_it_goes_on_every_15_seconds() -> None:
    async def main() -> None:
        call, log = a_live_call()
        reader = Reader(EventStream(LiveLog(call)))
        await asyncio.sleep(14.9)
        assert reader.body == ""
        await asyncio.sleep(15.2)
        assert reader.body == ": still here\n\n" * 2
        log.append("tick", number=0)
        await asyncio.sleep(14.9)
        assert reader.events == [tick(1)] and reader.body.count(": still here") == 2
        call.over()
        await reader.task

    virtual_time.run(main())


def test_a_reader_that_falls_behind_is_told_so_and_may_come_again() -> None:
    async def main() -> None:
        call, log = a_live_call()
        reader, other = Reader(EventStream(LiveLog(call))), Reader(EventStream(LiveLog(call)))
        await settle()
        reader.can_read.clear()
        ticks(log, 1)
        await settle()
        for _ in range(11):
            ticks(log, 100)
            await settle()
        assert reader.events == [] and len(other.events) == 1101
        reader.can_read.set()
        await reader.task
        late = {"msg": "expected a reader that keeps up, got one 1000 entries behind; Last-Event-ID goes on from here"}
        assert reader.events == [tick(1), (None, "late", late)] and reader.is_whole
        again = Reader(EventStream(LiveLog(call), after=1))
        call.over()
        await asyncio.gather(again.task, other.task)
        assert [number for number, _, _ in again.events] == [*range(2, 1102), None]
        assert again.events[-1] == other.events[-1] == END

    virtual_time.run(main())


def test_a_thousand_entries_behind_is_not_too_late() -> None:
    async def main() -> None:
        call, log = a_live_call()
        reader = Reader(EventStream(LiveLog(call)))
        await settle()
        reader.can_read.clear()
        ticks(log, 1)
        await settle()
        ticks(log, 1000)
        reader.can_read.set()
        call.over()
        await reader.task
        assert len(reader.events) == 1002 and reader.events[-1] == END

    virtual_time.run(main())


def test_a_reader_that_takes_nothing_is_left_after_30_seconds() -> None:
    async def main() -> float:
        call, log = a_live_call()
        reader = Reader(EventStream(LiveLog(call)))
        await settle()
        reader.can_read.clear()
        began = asyncio.get_running_loop().time()
        ticks(log, 1)
        await reader.task
        assert (reader.body, log._listeners, call.watchers) == ("", [], set())
        return asyncio.get_running_loop().time() - began

    assert virtual_time.run(main()) == pytest.approx(30.0, abs=0.01)


@pytest.mark.parametrize("is_blocked", [False, True])
def test_a_reader_that_leaves_is_forgotten_at_once(is_blocked: bool) -> None:
    async def main() -> None:
        call, log = a_live_call()
        reader, other = Reader(EventStream(LiveLog(call))), Reader(EventStream(LiveLog(call)))
        await settle()
        if is_blocked:
            reader.can_read.clear()
            ticks(log, 1)
            await settle()
        reader.leave()
        await reader.task
        assert (len(log._listeners), len(call.watchers)) == (1, 1)
        call.over()
        await other.task

    virtual_time.run(main())


def test_a_long_past_is_told_without_holding_up_the_calls() -> None:
    async def main() -> None:
        call, log = a_live_call()
        ticks(log, 5_000)
        turns = 0

        async def another_call() -> None:
            nonlocal turns
            while not reader.is_whole:
                turns += 1
                await asyncio.sleep(0)

        reader = Reader(EventStream(LiveLog(call)))
        call.over()
        await asyncio.gather(reader.task, another_call())
        assert len(reader.events) == 5_001 and turns >= 5_000 // stream.AT_ONCE

    virtual_time.run(main())


def test_the_events_of_a_call_come_over_a_real_socket_until_it_ends() -> None:
    house = a_house()

    async def main() -> tuple[str, list[str]]:
        server = Server(house.node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        url, lines = f"http://127.0.0.1:{server.port}/v1/calls/{SID}/events", []
        async with httpx.AsyncClient(trust_env=False) as outside, house.call() as call:
            await live(house, call)
            for headers, status in (({"Last-Event-ID": "x"}, 400), ({"Last-Event-ID": "9" * 10}, 400)):
                assert (await outside.get(url, headers=headers)).status_code == status
            async with outside.stream("GET", url, params={"types": "state,call_ended"}) as answer:
                kind = answer.headers["content-type"]
                async for line in answer.aiter_lines():
                    lines.append(line)
                    if line == "event: state":
                        call.hang_up()
        server.should_exit = True
        await serving
        return kind, [line for line in lines if line.startswith("event")]

    async def in_time() -> tuple[str, list[str]]:
        async with asyncio.timeout(20):
            return await main()

    kind, told = asyncio.run(in_time())
    assert kind == "text/event-stream; charset=utf-8"
    assert told == ["event: state", "event: state", "event: call_ended", "event: end"]


def test_nobody_hears_of_a_call_that_is_not_there() -> None:
    house = a_house()

    async def main() -> None:
        async with client(house) as outside:
            assert (await outside.get("/v1/calls/no-such-call/events")).status_code == 404

    virtual_time.run(main())


# The description -----------------------------------------------------------------------------------------


def operations() -> set[tuple[str, str]]:
    return {
        (method, path)
        for path, item in openapi.DOCUMENT["paths"].items()
        for method in item
        if method in openapi.METHODS
    }


def test_every_route_is_described_and_nothing_else() -> None:
    routes = {
        (method.lower(), route.path)
        for route in a_house().app.routes
        # jambonz's webhooks and the console's files are not our interface
        if isinstance(route, Route) and not route.path.startswith(("/app/", "/console/")) and route.path != "/"
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert operations() == routes


def test_the_description_holds_together() -> None:
    document = openapi.DOCUMENT
    assert json.loads(json.dumps(document)) == document and document["openapi"] == "3.1.0"
    found = [document["paths"][path][method] for method, path in sorted(operations())]
    assert len({operation["operationId"] for operation in found}) == len(found)
    for (_, path), operation in zip(sorted(operations()), found, strict=True):
        named = {known["name"] for known in operation.get("parameters", []) if known["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert operation["summary"] and operation["responses"]
    pointers = [part.split('"')[0] for part in json.dumps(document).split('"$ref": "#/')[1:]]
    for pointer in pointers:
        at: Any = document
        for step in pointer.split("/"):
            at = at[step]
        assert at


def test_both_descriptions_are_served_and_the_page_needs_nothing_from_elsewhere() -> None:
    house = a_house()

    async def main() -> None:
        async with client(house) as outside:
            assert (await outside.get("/openapi.json")).json() == openapi.DOCUMENT
            page = await outside.get("/docs")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            for method, path in operations():
                assert f"{method.upper()} {path}" in page.text
            for word in ("http://", "https://", "<script", "src=", "@import", "url("):
                assert word not in page.text

    virtual_time.run(main())
