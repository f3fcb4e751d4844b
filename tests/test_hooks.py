"""The hooks of one call, over webhooks and real sockets: what a slow or broken application costs, and whom."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import resources
from typing import Any

import jsonschema
import pytest

from agentd.call.tools import Offer, Toolbox
from agentd.errors import NORMAL
from agentd.ops.log import EventLog
from agentd.outbound import asked_once
from agentd.outbound.channel import HookFailed
from agentd.outbound.hooks import Hooks
from agentd.outbound.webhook import Webhook
from config.payloads import (
    GUIDE_EVENTS,
    GUIDE_KEYS,
    agent_response,
    call_info,
    completion,
    history_summarized,
    turn_end,
    user_interruption,
    user_transcript,
)
from providers.base import Tool, ToolCall
from tests import virtual_time
from tests.webhooks import CALL, PASSWORD, QUERY, SECRET, USER, Application, Reply, guarding, overheard, says

DONE = completion(NORMAL)


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def a_call(
    *, tool: Application | None = None, event: Application | None = None, action: Application | None = None
) -> AsyncIterator[tuple[Hooks, EventLog]]:
    """A call with these applications behind its hooks. It lets them deliver as long as it lasts."""
    applications = {"tool": tool, "event": event, "action": action}
    there = {name: each for name, each in applications.items() if each is not None}
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for each in there.values():
            await stack.enter_async_context(each)
        guard = await stack.enter_async_context(guarding(*there.values()))
        to = {name: Webhook(guard, f"{each.url}/{name}", info=CALL) for name, each in there.items()}
        hooks = Hooks(tool=to.get("tool"), event=to.get("event"), action=to.get("action"), call_sid="c-1")
        log = EventLog(now)
        log.subscribe(hooks.heard)
        running = group.create_task(hooks.run())
        try:
            yield hooks, log
        finally:
            running.cancel()


def said(log: EventLog, *transcripts: str) -> None:
    for transcript in transcripts:
        log.add(user_transcript(transcript))


def heard_by(application: Application) -> list[str]:
    return [body["transcript"] for body in application.bodies]


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    names = ("hook", "where", "call_sid", "error", "cause", "dropped", "not_delivered")
    return [
        (record.levelname, record.message, {name: vars(record)[name] for name in names if name in vars(record)})
        for record in caplog.records
        if record.name == "agentd.outbound.hooks"
    ]


# Events --------------------------------------------------------------------------------------------------


def test_events_are_told_in_order_and_nothing_else_is() -> None:
    async def main() -> None:
        application = Application()
        async with a_call(event=application) as (_, log):
            log.append("call_began", agent="front-desk")
            said(log, "one")
            log.append("user_interruption", turn=3)
            log.append("tool_called", name="weather")
            said(log, "two")
            await application.asked(3)
        told = [user_transcript("one"), {"type": "user_interruption"}, user_transcript("two")]
        assert application.bodies == [{**CALL, **payload} for payload in told]

    virtual_time.run(main())


def test_a_slow_hook_delays_only_what_comes_after() -> None:
    async def main() -> None:
        application = Application(Reply(after=4), Reply())
        async with a_call(event=application) as (_, log):
            said(log, "one", "two", "three")
            assert now() == 0.0  # hearing takes no time
            await application.asked(3)
            assert heard_by(application) == ["one", "two", "three"]
            assert application.times == [0.0, 4.0, 4.0]

    virtual_time.run(main())


def test_a_hook_that_hangs_costs_ten_seconds_of_its_own_queue() -> None:
    async def main() -> None:
        application, tools = Application(Reply(after=30), Reply()), Application(says("7 °C"))
        async with a_call(event=application, tool=tools) as (hooks, log):
            said(log, "one", "two")
            await application.seen.asked.wait()
            assert (await hooks.tool_call("t", "weather", {}), now()) == ("7 °C", 0.0)
            await application.asked(2)
            assert application.times == [0.0, 10.0]

    virtual_time.run(main())


FAILS = {
    "500": Reply(500),
    "closes": Reply(closes=True),
    "10 MB": Reply(body=b"x" * 10_000_000),
    "redirect": Reply(302, headers={"location": "http://127.0.0.1:1/"}),
    "drip": Reply(body=b"x" * 600, gap=1),
}


@pytest.mark.parametrize("name", FAILS)
def test_an_event_that_fails_is_not_told_again_and_the_next_one_is(name: str) -> None:
    async def main() -> None:
        application = Application(FAILS[name], Reply(204))
        async with a_call(event=application) as (hooks, log):
            said(log, "one", "two")
            await application.asked(2)
            await hooks.finish(DONE)
            assert heard_by(application) == ["one", "two"]
            assert hooks.dropped == 0

    virtual_time.run(main())


@pytest.mark.parametrize("reply", [says({"any": "thing"}), Reply(body=b"<p>", content_type="text/html"), Reply(204)])
def test_what_an_event_is_answered_with_is_nobodys_business(reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with a_call(event=Application(reply)) as (hooks, log):
            said(log, "one")
            await hooks.finish(DONE)

    virtual_time.run(main())
    assert logged(caplog) == []


def test_failures_in_a_row_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    application = Application(Reply(500), Reply(closes=True), Reply(500), Reply(), Reply(500), Reply())

    async def main() -> None:
        with caplog.at_level(logging.INFO):
            async with a_call(event=application) as (hooks, log):
                said(log, *"abcdef")
                await hooks.finish(DONE)

    virtual_time.run(main())
    fields = {"hook": "event", "where": application.url + "/event", "call_sid": "c-1"}
    failed = {**fields, "error": "expected status 200, 202 or 204 from the application, got 500"}
    assert logged(caplog) == [
        ("WARNING", "hook failed", failed),
        ("INFO", "hook works again", {**fields, "not_delivered": 3}),
        ("WARNING", "hook failed", failed),
        ("INFO", "hook works again", {**fields, "not_delivered": 1}),
    ]


def test_a_full_queue_drops_the_oldest_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    application = Application(Reply(after=5), Reply())

    async def main() -> None:
        with caplog.at_level(logging.INFO):
            async with a_call(event=application) as (hooks, log):
                said(log, "0")
                await application.seen.asked.wait()  # it is under way, and in the queue no more
                said(log, *map(str, range(1, 131)))
                assert hooks.dropped == 30
                await application.asked(101)
                await hooks.finish(DONE)
                assert heard_by(application) == ["0", *map(str, range(31, 131))]

    virtual_time.run(main())
    fields = {"hook": "event", "where": application.url + "/event", "call_sid": "c-1"}
    assert logged(caplog) == [
        ("WARNING", "events dropped: the hook is too slow", fields),
        ("INFO", "events dropped", {**fields, "dropped": 30}),
    ]


def test_an_application_that_comes_up_late_misses_nothing() -> None:
    async def main() -> None:
        application = Application(listens=False)
        async with a_call(event=application) as (_, log):
            said(log, "one", "two")
            await asyncio.sleep(0.25)
            await application.open()
            await application.asked(2)
            assert heard_by(application) == ["one", "two"]

    virtual_time.run(main())


def test_without_hooks_nothing_is_kept_and_nobody_is_asked() -> None:
    async def main() -> None:
        async with a_call() as (hooks, log):
            said(log, *["x"] * 1000)
            assert hooks.dropped == 0
            with pytest.raises(HookFailed, match="there is no toolHook"):
                await hooks.tool_call("t", "weather", {})
            assert (await hooks.finish(DONE), now()) == ([], 0.0)

    virtual_time.run(main())


# Tools ---------------------------------------------------------------------------------------------------


def test_a_tool_call_says_what_is_asked_and_of_which_call() -> None:
    async def main() -> None:
        application = Application(says({"temperature": 7}))
        async with a_call(tool=application) as (hooks, _):
            assert await hooks.tool_call("t-1", "weather", {"city": "Köln"}) == {"temperature": 7}
        asked = {"tool_call_id": "t-1", "name": "weather", "arguments": {"city": "Köln"}}
        assert application.bodies == [{**CALL, **asked}]

    virtual_time.run(main())


def test_the_same_call_asked_twice_is_one_request() -> None:
    async def main() -> None:
        application = Application(says(1, after=2), says(2))
        async with a_call(tool=application) as (hooks, _):

            def ask() -> Awaitable[Any]:
                return hooks.tool_call("t-1", "weather", {"city": "Köln"})

            assert list(await asyncio.gather(ask(), ask())) == [1, 1]
            assert await ask() == 1
            assert len(application.requests) == 1

    virtual_time.run(main())


def test_an_id_that_comes_back_for_something_else_is_another_request() -> None:
    async def main() -> None:
        application = Application(says(1), says(2), says(3))
        async with a_call(tool=application) as (hooks, _):
            assert await hooks.tool_call("call-1", "weather", {"city": "Köln"}) == 1
            assert await hooks.tool_call("call-1", "weather", {"city": "Bonn"}) == 2
            assert await hooks.tool_call("call-1", "time", {"city": "Bonn"}) == 3
            assert await hooks.tool_call("call-1", "time", {"city": "Bonn"}) == 3

    virtual_time.run(main())


def test_only_the_last_results_are_remembered() -> None:
    async def main() -> None:
        application = Application(says("done"))
        async with a_call(tool=application) as (hooks, _):
            asked = [str(number) for number in range(asked_once.REMEMBERED + 1)]
            for id_ in [*asked, *asked[1:]]:
                await hooks.tool_call(id_, "weather", {})
            assert len(application.requests) == len(asked)
            await hooks.tool_call(asked[0], "weather", {})
            assert len(application.requests) == len(asked) + 1

    virtual_time.run(main())


def test_an_error_is_remembered_unless_the_application_cannot_have_been_reached() -> None:
    async def main() -> None:
        application = Application(Reply(500), says("done"), listens=False)
        async with a_call(tool=application) as (hooks, _):
            with pytest.raises(HookFailed, match="could not be reached"):
                await hooks.tool_call("t", "weather", {})
            await application.open()
            for _ in range(2):
                with pytest.raises(HookFailed, match="got 500"):
                    await hooks.tool_call("t", "weather", {})
            assert len(application.requests) == 1

    virtual_time.run(main())


def test_who_gives_up_leaves_the_request_to_those_who_still_wait() -> None:
    async def main() -> None:
        application = Application(says("done", after=3))
        async with a_call(tool=application) as (hooks, _):
            first = asyncio.create_task(hooks.tool_call("t", "weather", {}))
            await application.seen.asked.wait()
            second = asyncio.create_task(hooks.tool_call("t", "weather", {}))
            await asyncio.sleep(1)
            first.cancel()
            assert (await second, first.cancelled(), now()) == ("done", True, 3.0)
            assert len(application.requests) == 1

    virtual_time.run(main())


def test_a_call_that_all_have_given_up_is_cancelled_and_not_made_again() -> None:
    async def main() -> None:
        application = Application(Reply(after=30), says("done"))
        async with a_call(tool=application) as (hooks, _):
            tasks = [asyncio.create_task(hooks.tool_call("t", "weather", {})) for _ in range(2)]
            await application.seen.asked.wait()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            assert ([task.cancelled() for task in tasks], now()) == ([True, True], 0.0)
            with pytest.raises(HookFailed, match="given up"):
                await hooks.tool_call("t", "weather", {})
            assert len(application.requests) == 1

    virtual_time.run(main())


EXPECTED = "expected "
RESULTS: dict[str, tuple[Reply, str, float]] = {
    "JSON": (says({"temperature": 7}), '{"temperature": 7}', 0.0),
    "text": (Reply(body="7 °C".encode(), content_type="text/plain"), "7 °C", 0.0),
    "204": (Reply(204), "ok", 0.0),
    "500": (Reply(500), EXPECTED + "status 200, 202 or 204 from the application, got 500", 0.0),
    "bad JSON": (Reply(body=b"{"), EXPECTED + "JSON or text from the application, got JSON that cannot be read", 0.0),
    "HTML": (
        Reply(body=b"<p>", content_type="text/html"),
        EXPECTED + "JSON or text from the application, got HTML",
        0.0,
    ),
    "10 MB": (Reply(body=b"x" * 10_000_000), EXPECTED + "at most 1048576 bytes from the application, got more", 0.0),
    "closes": (Reply(closes=True), "the connection to the application broke before its answer was there", 0.0),
    "after 19 s": (says("late", after=19), "late", 19.0),
    "after 30 s": (says("late", after=30), "did not answer within 20 seconds", 20.0),
}


@pytest.mark.parametrize("name", RESULTS)
def test_whatever_the_application_does_the_model_gets_a_result(name: str) -> None:
    reply, result, seconds = RESULTS[name]

    async def main() -> None:
        async with a_call(tool=Application(reply)) as (hooks, _):
            offer = Offer(Tool("weather", "", {}), lambda arguments: hooks.tool_call("t", "weather", arguments))
            text = await Toolbox([offer]).run(ToolCall("t", "weather", "{}"))
            assert (result in text, now()) == (True, seconds), text

    virtual_time.run(main())


# The end -------------------------------------------------------------------------------------------------

VERBS = [{"verb": "say", "text": "bye"}, {"verb": "hangup"}]


def test_the_end_tells_the_last_events_and_then_why_the_call_is_over() -> None:
    async def main() -> None:
        event, action = Application(Reply(after=1)), Application(says(VERBS))
        async with a_call(event=event, action=action) as (hooks, log):
            said(log, "one", "two", "three")
            assert (await hooks.finish(DONE), now()) == (VERBS, 3.0)
            said(log, "too late")
        assert heard_by(event) == ["one", "two", "three"]
        assert action.bodies == [{**CALL, **DONE}]

    virtual_time.run(main())


def test_run_ends_by_itself_after_the_end() -> None:
    async def main() -> None:
        application = Application()
        async with application, guarding(application) as guard:
            hooks = Hooks(event=Webhook(guard, application.url))
            async with asyncio.TaskGroup() as group:
                group.create_task(hooks.run())
                hooks.heard(user_transcript("one"))
                await hooks.finish(DONE)
            assert heard_by(application) == ["one"]

    virtual_time.run(main())


def test_the_end_delivers_without_run_too() -> None:
    async def main() -> None:
        application = Application()
        async with application, guarding(application) as guard:
            hooks = Hooks(event=Webhook(guard, application.url))
            for transcript in "abc":
                hooks.heard(user_transcript(transcript))
            await hooks.finish(DONE)
            assert heard_by(application) == ["a", "b", "c"]

    virtual_time.run(main())


@pytest.mark.parametrize("waited", [0.0, 7.0])
def test_an_event_hook_that_hangs_holds_up_the_end_for_five_seconds(
    waited: float, caplog: pytest.LogCaptureFixture
) -> None:
    event, action = Application(Reply(after=30)), Application(says(VERBS))

    async def main() -> None:
        with caplog.at_level(logging.INFO):
            async with a_call(event=event, action=action) as (hooks, log):
                said(log, "one", "two", "three")
                await event.seen.asked.wait()
                await asyncio.sleep(waited)
                began = now()
                assert await hooks.finish(DONE) == VERBS
                assert now() - began == 5.0
                assert hooks.dropped == (2 if waited == 0 else 1)

    virtual_time.run(main())
    assert [message for _, message, _ in logged(caplog)] == [
        "hook failed",
        "events dropped: the hook is too slow",
        "events dropped",
    ]


ENDS: dict[str, tuple[list[Reply], list[Any], float]] = {
    "verbs": ([says(VERBS)], VERBS, 0.0),
    "one verb": ([says(VERBS[1])], [VERBS[1]], 0.0),
    "no verbs": ([says({"status": "ok"})], [], 0.0),
    "204": ([Reply(204)], [], 0.0),
    "HTML": ([Reply(body=b"<html>", content_type="text/html"), says(VERBS)], [], 0.0),
    "500": ([Reply(500), says(VERBS)], [], 0.0),
    "503": ([Reply(503), says(VERBS)], [], 0.0),
    "closes": ([Reply(closes=True), says(VERBS)], [], 0.0),
    "10 MB": ([Reply(body=b"[" + b" " * 10_000_000 + b"]"), says(VERBS)], [], 0.0),
    "late": ([says(VERBS, after=9)], VERBS, 9.0),
    "hangs": ([says(VERBS, after=30), says(VERBS)], [], 10.0),
    "drip": ([Reply(body=b" " * 600, gap=1), says(VERBS)], [], 10.0),
}


@pytest.mark.parametrize("name", ENDS)
def test_the_action_hook_is_asked_exactly_once(name: str) -> None:
    replies, verbs, seconds = ENDS[name]

    async def main() -> None:
        application = Application(*replies)
        async with a_call(action=application) as (hooks, _):
            both = await asyncio.gather(hooks.finish(DONE), hooks.finish(DONE))
            assert (list(both), now()) == ([verbs, verbs], seconds)
            assert await hooks.finish(completion("server error")) == verbs
            assert application.bodies == [{**CALL, **DONE}]

    virtual_time.run(main())


def test_an_action_hook_that_refused_and_came_up_is_asked_exactly_once() -> None:
    async def main() -> None:
        application = Application(says(VERBS), listens=False)
        async with a_call(action=application) as (hooks, _):
            task = asyncio.create_task(hooks.finish(DONE))
            await asyncio.sleep(0.25)
            await application.open()
            assert (await task, now()) == (VERBS, 0.5)
            assert len(application.requests) == 1

    virtual_time.run(main())


def test_an_action_hook_that_is_away_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    application = Application(listens=False)

    async def main() -> None:
        async with a_call(action=application) as (hooks, _):
            assert (await hooks.finish(DONE), now()) == ([], 0.5)

    virtual_time.run(main())
    ((level, message, fields),) = logged(caplog)
    assert (level, message, fields.pop("cause")[:14]) == ("WARNING", "hook failed", "cannot connect")
    assert fields == {
        "hook": "action",
        "where": application.url + "/action",
        "call_sid": "c-1",
        "error": "the application could not be reached",
    }


def test_an_end_that_was_cancelled_while_it_asked_asks_no_more() -> None:
    async def main() -> None:
        application = Application(says(VERBS, after=3))
        async with a_call(action=application) as (hooks, _):
            task = asyncio.create_task(hooks.finish(DONE))
            await application.seen.asked.wait()
            task.cancel()
            await asyncio.wait([task])
            assert (task.cancelled(), now()) == (True, 0.0)
            assert (await hooks.finish(DONE), now()) == ([], 0.0)
            assert len(application.requests) == 1

    virtual_time.run(main())


def test_an_end_that_was_cancelled_before_it_asked_asks_when_it_is_called_again() -> None:
    async def main() -> None:
        event, action = Application(Reply(after=30)), Application(says(VERBS))
        async with a_call(event=event, action=action) as (hooks, log):
            said(log, "one", "two")
            task = asyncio.create_task(hooks.finish(DONE))
            await asyncio.sleep(2)
            task.cancel()
            await asyncio.wait([task])
            assert action.requests == []
            assert (await hooks.finish(DONE), now()) == (VERBS, 5.0)  # what is left of the five seconds
            assert len(action.requests) == 1

    virtual_time.run(main())


class Broken:
    """A channel that has a bug, or one that forgets its deadline."""

    where = "somewhere"

    def __init__(self, hangs: bool = False) -> None:
        self._hangs = hangs

    async def tool_call(self, payload: Any) -> Any:
        return await self.event(payload)

    async def event(self, payload: Any) -> None:
        if self._hangs:
            await asyncio.Event().wait()
        raise KeyError(SECRET)

    async def action(self, payload: Any) -> Any:
        return await self.event(payload)


@pytest.mark.parametrize(("hangs", "seconds"), [(False, 0.0), (True, 15.0)])
def test_a_bug_in_a_channel_stops_neither_the_call_nor_its_end(
    hangs: bool, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        hooks = Hooks(tool=Broken(), event=Broken(hangs), action=Broken(hangs), call_sid="c-1")
        async with asyncio.TaskGroup() as group:
            group.create_task(hooks.run())
            hooks.heard(user_transcript("one"))
            assert (await hooks.finish(DONE), now()) == ([], seconds)

    virtual_time.run(main())
    assert [message for _, message, _ in logged(caplog)] == ["hook failed", "hook failed"]
    assert overheard(caplog.records) == []


WORD = "my number is q8-4f1c-77ab"


def test_no_secret_and_no_word_of_the_caller_is_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    quoting = f"{USER} {PASSWORD} {SECRET} {QUERY}".encode()

    async def main() -> None:
        async with Application(Reply(500, quoting)) as application, guarding(application) as guard:
            url = f"{application.url}/hook?key={QUERY}"
            webhook = Webhook(guard, url, username=USER, password=PASSWORD, secret=SECRET, info=CALL)
            hooks = Hooks(tool=webhook, event=webhook, action=webhook, call_sid="c-1")
            for _ in range(150):
                hooks.heard(user_transcript(WORD))
            offer = Offer(Tool("pay", "", {}), lambda arguments: hooks.tool_call("t", "pay", arguments))
            await Toolbox([offer]).run(ToolCall("t", "pay", json.dumps({"card": WORD})))
            await hooks.finish(DONE)

    with caplog.at_level(logging.DEBUG):
        virtual_time.run(main())
    assert [(message, fields["hook"]) for _, message, fields in logged(caplog)] == [
        ("events dropped: the hook is too slow", "event"),
        ("hook failed", "tool"),
        ("hook failed", "event"),
        ("events dropped", "event"),
        ("hook failed", "action"),
    ]
    assert overheard(caplog.records) == []
    assert [text for record in caplog.records for text in map(str, vars(record).values()) if WORD in text] == []


# What jambonz's own applications expect ------------------------------------------------------------------


METADATA = {
    "callSid": "c-1",
    "accountSid": "a-1",
    "applicationSid": "app-1",
    "callId": "sip-1",
    "direction": "inbound",
    "from": "+15551234567",
    "to": "+15557654321",
    "callStatus": "in-progress",
    "sipStatus": 200,
    "callerName": "Ann",
    "traceId": "trace-1",
    "fsSipAddress": "10.0.0.1",
    "customerData": {"accountTier": "gold"},
    "sampleRate": 8000,
}

EVENTS = [
    user_transcript("Grüß Gott"),
    *agent_response("hello"),
    user_interruption(),
    turn_end(
        transcript="Grüß Gott",
        confidence=1.0,
        response="hello",
        interrupted=True,
        latency={"stt_ms": 120.4, "llm_ms": 300.3, "text_ms": 20.1, "tts_ms": 90.2, "total_ms": 531.0},
        preflight={"result": "hit", "tokens": 12},
        tool_calls=[{"name": "weather", "rtt_ms": 80.0}],
    ),
    history_summarized(turn=8, messages_dropped=5, messages_kept=6, summary="They met."),
]


def check(name: str, payload: Any) -> None:
    """Against the schema that jambonz's SDK has of a callback."""
    text = (resources.files("jambonz_sdk") / "schema" / "callbacks" / f"{name}.schema.json").read_text()
    schema = {key: value for key, value in json.loads(text).items() if key != "allOf"}  # the base is checked by itself
    jsonschema.Draft202012Validator(schema).validate(payload)


def without_the_guides(payload: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in payload.items() if key not in GUIDE_KEYS.get(payload["type"], ())}
    if "latency" in kept:
        kept["latency"] = {key: value for key, value in kept["latency"].items() if key not in GUIDE_KEYS["latency"]}
    return kept


def test_what_is_sent_is_what_jambonzs_schemas_say() -> None:
    async def main() -> None:
        event, action, info = Application(), Application(), call_info(METADATA, "c-1")
        async with event, action, guarding(event, action) as guard:
            hooks = Hooks(event=Webhook(guard, event.url, info=info), action=Webhook(guard, action.url, info=info))
            log = EventLog(now)
            log.subscribe(hooks.heard)
            for payload in EVENTS:
                log.add({**payload, "turn": 1, "internal": "ours"})
            await hooks.finish(completion("server error", {"code": "x", "message": "m", "vendor": "v"}))
        told = [{key: value for key, value in body.items() if key not in info} for body in event.bodies]
        assert [payload for payload in told if payload["type"] != "history_summarized"] == EVENTS[:-1]
        published = [payload for payload in told if payload["type"] not in GUIDE_EVENTS]
        assert len(published) == 4
        for payload in published:
            check("agent-turn", without_the_guides(payload))
        for body in (*event.bodies, *action.bodies):
            assert {key: body[key] for key in info} == info
            check("base", body)
        check("llm", {key: value for key, value in action.bodies[0].items() if key != "completionReason"})

    virtual_time.run(main())


def test_the_call_is_told_under_the_names_of_webhooks() -> None:
    assert call_info(METADATA, "c-1") == {
        "call_sid": "c-1",
        "account_sid": "a-1",
        "application_sid": "app-1",
        "call_id": "sip-1",
        "direction": "inbound",
        "from": "+15551234567",
        "to": "+15557654321",
        "call_status": "in-progress",
        "sip_status": 200,
        "caller_name": "Ann",
        "trace_id": "trace-1",
        "customerData": {"accountTier": "gold"},
    }
