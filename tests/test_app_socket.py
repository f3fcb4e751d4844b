"""The control socket with agentd in jambonz's place, against a scripted application on a real socket."""

import asyncio
import base64
import logging
from typing import Any

import pytest

from agentd.outbound.app_socket import ACK, BROKEN, CLOSED, AppSocket
from agentd.outbound.channel import HookFailed
from agentd.outbound.sending import LIMIT
from config.commands import Command, Update
from tests import virtual_time
from tests.application import INFO, SID, Application, Held, guard, held

AGENT = {"verb": "agent", "toolHook": "/tool-call"}
HANGUP = {"verb": "hangup"}
CALL = {"tool_call_id": "t1", "name": "get_weather", "arguments": {"location": "Oslo"}}
TURN = {"type": "turn_end", "transcript": "hi"}
UPDATE = {"type": "generate_reply", "user_input": "Say hello."}


# Opening ---------------------------------------------------------------------------------------------------


def test_a_call_opens_with_session_new_and_gets_its_verbs() -> None:
    async def main() -> None:
        async with Application([{"agent": {"toolHook": "/tool-call"}}], username="app", password="pöss") as app:
            it = Held(app.url, username="app", password="pöss")
            assert await it.socket.open() == [{"toolHook": "/tool-call", "verb": "agent"}]
            (message,) = app.messages
            assert message == {"type": "session:new", "msgid": message["msgid"], "call_sid": SID, "data": INFO}
            assert app.upgrades[0].headers["Sec-WebSocket-Protocol"] == "ws.jambonz.org"
            await it.socket.aclose()
            await asyncio.sleep(0.01)
            assert app.closed == [1000]

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("set_up", "words", "may_retry"),
    [
        (
            lambda app: app.refuse.append(401),
            "expected the application to accept the connection, got status 401",
            False,
        ),
        (
            lambda app: app.refuse.extend([503] * 3),
            "expected the application to accept the connection, got status 503",
            True,
        ),
        (lambda app: app.silent.add("session:new"), f"the application did not answer within {ACK:g} seconds", False),
        (
            lambda app: setattr(app, "verbs", ["hangup"]),
            "the application's answer cannot be read: ack: expected verbs as objects, got a text of 6 characters",
            False,
        ),
    ],
)
def test_an_application_that_does_not_take_the_call_is_told_of(set_up: Any, words: str, may_retry: bool) -> None:
    async def main() -> None:
        async with Application([AGENT]) as app:
            set_up(app)
            with pytest.raises(HookFailed) as failed:
                await Held(app.url).socket.open()
            assert (str(failed.value), failed.value.may_retry) == (words, may_retry)

    virtual_time.run(main())


def test_an_application_that_is_busy_with_another_call_is_tried_again() -> None:
    async def main() -> None:
        async with Application([AGENT]) as app:
            app.refuse = [503, 503]
            since = asyncio.get_running_loop().time()
            async with held(app.url) as it:
                assert it.verbs == [AGENT]
                assert asyncio.get_running_loop().time() - since == 0.5 + 1

    virtual_time.run(main())


def test_nobody_at_the_address_is_told_of() -> None:
    async def main() -> None:
        app = Application()
        await app.start()
        await app.stop()
        since = asyncio.get_running_loop().time()
        with pytest.raises(HookFailed, match="the application could not be reached") as failed:
            await Held(app.url).socket.open()
        assert failed.value.may_retry
        assert asyncio.get_running_loop().time() - since == 0.5 + 1

    virtual_time.run(main())


def test_an_address_that_is_not_allowed_is_not_dialled() -> None:
    async def main() -> None:
        async with Application() as app:
            socket = AppSocket(guard(), app.url, call_sid=SID, info=INFO, on_command=print)
            with pytest.raises(HookFailed, match="the address of the application is not allowed"):
                await socket.open()
            assert app.upgrades == []

    virtual_time.run(main())


def test_what_comes_before_the_first_answer_is_heard() -> None:
    async def main() -> None:
        async with Application() as app:
            app.silent.add("session:new")
            it = Held(app.url)
            opening = asyncio.create_task(it.socket.open())
            message = await app.got("session:new")
            await app.say({"type": "agent:update", "data": UPDATE})
            await app.say({"type": "ack", "msgid": "another", "data": [HANGUP]})
            await app.say({"type": "ack", "msgid": message["msgid"], "data": AGENT})
            assert await opening == [AGENT]
            assert it.wanted == [Update(UPDATE)]
            await it.socket.aclose()

    virtual_time.run(main())


# Hooks -----------------------------------------------------------------------------------------------------


def test_each_hook_has_its_message() -> None:
    async def main() -> None:
        def weather(name: str, arguments: Any) -> str:
            return f"{name}: {arguments['location']}"

        async with Application([AGENT], next_verbs=[HANGUP], tools=weather) as app, held(app.url) as it:
            await it.socket.channel("/agent-event").event(TURN)
            assert await it.socket.channel("/tool-call").tool_call(CALL) == "get_weather: Oslo"
            done = {"completion_reason": "normal conversation end"}
            assert await it.socket.channel("/agent-complete").action(done) == [HANGUP]
            await it.socket.status({"call_status": "completed", "duration": 7})
            await app.got("call:status")
            messages = [(m["type"], m.get("hook"), m["data"]) for m in app.messages[1:]]
            assert messages == [
                ("agent:event", "/agent-event", TURN),
                ("agent:tool-call", "/tool-call", CALL),
                ("verb:hook", "/agent-complete", {**INFO, **done}),
                ("call:status", None, {**INFO, "call_status": "completed", "duration": 7}),
            ]
            assert len({m["msgid"] for m in app.messages}) == 5

    virtual_time.run(main())


def test_the_python_sdk_is_told_by_the_one_message_that_its_handlers_hear() -> None:
    async def main() -> None:
        async with (
            Application(tools=lambda name, arguments: 7, server="Python/3.11 aiohttp/3.14") as app,
            held(app.url) as it,
            held(app.url, told_as="agent") as plain,
        ):
            await it.socket.channel("/agent-event").event(TURN)
            assert await it.socket.channel("/tool-call").tool_call(CALL) == 7
            await plain.socket.channel("/agent-event").event(TURN)
            await app.got("agent:event")
            heard = [(m["type"], m.get("hook"), m["data"]) for m in app.messages[2:]]
            assert heard == [
                ("verb:hook", "/agent-event", TURN),
                ("verb:hook", "/tool-call", CALL),
                ("agent:event", "/agent-event", TURN),
            ]

    virtual_time.run(main())


def test_two_actions_are_asked_one_after_the_other() -> None:
    """The Node SDK answers the latest message that wants an answer."""

    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            app.silent.add("verb:hook")
            hook = it.socket.channel("/agent-complete")
            first, second = asyncio.create_task(hook.action({"n": 1})), asyncio.create_task(hook.action({"n": 2}))
            message = await app.got("verb:hook")
            await asyncio.sleep(1)
            assert app.of("verb:hook") == [message]
            await app.say({"type": "ack", "msgid": message["msgid"], "data": [HANGUP]})
            await app.say({"type": "ack", "msgid": message["msgid"], "data": [AGENT]})  # twice: the first counts
            assert await first == [HANGUP]
            message = await app.got("verb:hook", 2)
            await app.say({"type": "ack", "msgid": message["msgid"]})
            assert await second == []

    virtual_time.run(main())


def test_no_answer_has_its_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Application() as app, held(app.url, tool_seconds=12.0) as it:
            app.silent.add("verb:hook")
            hook = it.socket.channel("/x")
            since = loop.time()
            with pytest.raises(HookFailed, match="did not answer within 5 seconds") as failed:
                await hook.action({})
            assert (loop.time() - since, failed.value.may_retry) == (5.0, False)
            since = loop.time()
            with pytest.raises(HookFailed, match="did not answer within 12 seconds"):
                await hook.tool_call(CALL)
            assert loop.time() - since == 12.0
            await app.say({"type": "llm:tool-output", "tool_call_id": "t1", "data": "late"})
            await app.say({"type": "agent:update", "data": UPDATE})
            await it.next()
            assert "tool output ignored: unknown, late or given before" in caplog.messages

    virtual_time.run(main())


def test_a_tool_call_that_is_cancelled_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            hook = it.socket.channel("/tool-call")
            asking = asyncio.create_task(hook.tool_call(CALL))
            await app.got("agent:tool-call")
            with pytest.raises(HookFailed, match="being asked this already"):
                await hook.tool_call(CALL)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            app.tools = lambda name, arguments: None
            assert await hook.tool_call(CALL) == "ok"  # the id is free again; a tool that returns nothing has done it

    virtual_time.run(main())


def test_tool_calls_run_side_by_side_and_each_answer_finds_its_own() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            hook = it.socket.channel("/tool-call")
            asked = [asyncio.create_task(hook.tool_call({**CALL, "tool_call_id": f"t{n}"})) for n in range(3)]
            await app.got("agent:tool-call", 3)
            for n in (2, 0, 0, 1):  # the second answer of 0 is one too many
                await app.say({"type": "llm:tool-output", "tool_call_id": f"t{n}", "data": {"result": n}})
            assert await asyncio.gather(*asked) == [0, 1, 2]

    virtual_time.run(main())


def test_what_is_not_json_is_not_sent() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            for thing in (float("nan"), {1, 2}):
                with pytest.raises(HookFailed, match="expected what can be sent as JSON, got something else"):
                    await it.socket.channel("/tool-call").tool_call({**CALL, "arguments": thing})
            assert len(app.messages) == 1

    virtual_time.run(main())


# What the application wants --------------------------------------------------------------------------------


def test_commands_and_updates_go_to_whoever_holds_the_call() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            await app.say({"type": "command", "command": "agent:update", "data": UPDATE})
            assert await it.next() == Update(UPDATE)
            redirect = {"type": "command", "command": "redirect", "queueCommand": False, "data": [HANGUP]}
            await app.say(redirect)
            assert await it.next() == Command("redirect", [HANGUP], redirect)

    virtual_time.run(main())


def test_neither_junk_nor_a_fault_of_ours_ends_the_socket(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Application(next_verbs=[HANGUP]) as app, held(app.url, broken=True) as it:
            for junk in ("{", b"\x00", "[]", '{"type": "ack"}', '{"type": "agent:update"}'):
                await app.say(junk)
            await app.say({"type": "agent:update", "data": UPDATE})
            assert await it.socket.channel("/x").action({}) == [HANGUP]

    virtual_time.run(main())
    assert caplog.messages.count("message ignored") == 5
    assert caplog.messages.count("command failed") == 1


def test_a_message_that_is_too_long_costs_the_connection_and_not_the_memory() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            await app.say("x" * 300_000)
            assert (await app.got("session:reconnect"))["data"] == INFO
            assert app.closed == [1009]
            await it.socket.channel("/x").event(TURN)

    virtual_time.run(main())


# Losing it -------------------------------------------------------------------------------------------------


def test_a_lost_application_is_found_again_and_what_was_asked_meanwhile_is_sent() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Application([AGENT], tools=lambda name, arguments: 7) as app, held(app.url) as it:
            await app.stop()
            since = loop.time()
            asking = asyncio.create_task(it.socket.channel("/tool-call").tool_call(CALL))
            telling = asyncio.create_task(it.socket.channel("/agent-event").event(TURN))
            await asyncio.sleep(1)
            await app.start()
            assert await asking == 7
            await telling
            assert loop.time() - since == 1.5  # not at 0.5; a second later
            types = [message["type"] for message in app.messages]
            assert types == ["session:new", "session:reconnect", "agent:tool-call", "agent:event"]
            assert app.messages[1]["data"] == app.messages[0]["data"]

    virtual_time.run(main())


def test_what_was_asked_on_a_connection_that_breaks_has_failed() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            app.silent.add("verb:hook")
            asked = [
                asyncio.create_task(it.socket.channel("/x").action({})),
                asyncio.create_task(it.socket.channel("/x").tool_call(CALL)),
            ]
            await app.got("agent:tool-call")
            app.drop()
            for failed in await asyncio.gather(*asked, return_exceptions=True):
                assert isinstance(failed, HookFailed)
                assert (str(failed), failed.may_retry) == (BROKEN, False)
            await app.got("session:reconnect")

    virtual_time.run(main())


def test_after_five_tries_it_is_given_up() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with Application() as app, held(app.url) as it:
            since = loop.time()
            app.refuse = [503] * 9
            app.drop()
            await asyncio.sleep(0.1)
            assert it.running is not None
            telling = asyncio.create_task(it.socket.channel("/x").event(TURN))
            await it.running
            assert loop.time() - since == 0.5 + 1 + 2 + 4 + 8
            assert len(app.refuse) == 4
            with pytest.raises(HookFailed, match=CLOSED):
                await telling
            with pytest.raises(HookFailed, match=CLOSED):
                await it.socket.channel("/x").event(TURN)

    virtual_time.run(main())


@pytest.mark.parametrize("code", [1000, None])
def test_an_application_that_closes_on_purpose_is_left_alone(code: int | None) -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            asking = asyncio.create_task(it.socket.channel("/x").tool_call(CALL))
            await app.got("agent:tool-call")
            await app.close(code)
            assert it.running is not None
            await it.running
            with pytest.raises(HookFailed, match=BROKEN):
                await asking
            assert len(app.upgrades) == 1

    virtual_time.run(main())


def test_a_reconnect_that_is_not_answered_is_one_of_the_tries() -> None:
    async def main() -> None:
        async with Application(next_verbs=[HANGUP]) as app, held(app.url) as it:
            app.silent.add("session:reconnect")
            app.drop()
            await app.got("session:reconnect")
            app.silent.clear()
            await app.got("session:reconnect", 2)
            assert await it.socket.channel("/x").action({}) == [HANGUP]

    virtual_time.run(main())


@pytest.mark.parametrize("wait", [0.1, 0.6], ids=["in a pause", "in a reconnect"])
def test_closing_never_waits_for_an_application_that_is_lost(wait: float) -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            app.silent.add("session:reconnect")
            app.drop()
            await asyncio.sleep(wait)
            since = asyncio.get_running_loop().time()
            await it.socket.aclose()
            assert it.running is not None
            await it.running
            assert asyncio.get_running_loop().time() == since

    virtual_time.run(main())


# The end of the call ---------------------------------------------------------------------------------------


def test_the_last_status_is_told_even_when_the_tasks_of_the_call_have_ended() -> None:
    async def main() -> None:
        async with Application() as app:
            it = Held(app.url)
            await it.socket.open()
            running = asyncio.create_task(it.socket.run())
            await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait([running])
            await it.socket.status({"call_status": "completed"})
            await it.socket.aclose()
            assert (await app.got("call:status"))["data"] == {**INFO, "call_status": "completed"}
            with pytest.raises(HookFailed, match=CLOSED):
                await it.socket.status({})

    virtual_time.run(main())


def test_closing_fails_what_is_still_asked() -> None:
    async def main() -> None:
        async with Application() as app, held(app.url) as it:
            asking = asyncio.create_task(it.socket.channel("/x").tool_call(CALL))
            await app.got("agent:tool-call")
            await it.socket.aclose()
            with pytest.raises(HookFailed):
                await asking

    virtual_time.run(main())


# Bounds and secrets ----------------------------------------------------------------------------------------


def test_what_waits_to_be_sent_has_a_bound_and_events_go_first() -> None:
    async def main() -> None:
        async with Application(tools=lambda name, arguments: arguments) as app, held(app.url) as it:
            await app.stop()
            hook = it.socket.channel("/x")
            events = [asyncio.create_task(hook.event({"type": "turn_end", "turn": n})) for n in range(LIMIT)]
            await asyncio.sleep(0.1)
            calls = [
                asyncio.create_task(hook.tool_call({**CALL, "tool_call_id": f"t{n}", "arguments": n}))
                for n in range(LIMIT + 1)
            ]
            await asyncio.sleep(0.1)
            await app.start()
            with pytest.raises(HookFailed, match="the event was dropped"):
                await events[0]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert results[:LIMIT] == list(range(LIMIT))
            assert str(results[LIMIT]) == "too many messages wait for the application"
            assert it.socket.dropped == LIMIT
            await asyncio.gather(*events, return_exceptions=True)
            assert app.of("agent:event") == []

    virtual_time.run(main())


def test_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Application(username="me", password="canary-1") as app:
            url = f"{app.url}front?key=canary-2"
            async with held(url, username="me", password="canary-1") as it:
                hook = it.socket.channel("/tool?token=canary-3")
                assert hook.where == f"{app.url}front /tool"
                await app.say("{canary-4")
                await app.say({"type": "llm:tool-output", "tool_call_id": "canary-5", "data": {}})
                await hook.event({"type": "turn_end", "response": "canary-6" * 10_000})
                app.refuse = [401, 500]
                app.drop()
                await app.got("session:reconnect")
            it = Held(url, username="me", password="canary-7")
            with pytest.raises(HookFailed) as failed:
                await it.socket.open()
            logging.getLogger("agentd").error("%r %s", it.socket, failed.value)

    caplog.set_level(logging.DEBUG)
    virtual_time.run(main())
    fields = [value for record in caplog.records for value in vars(record).values() if type(value) is str]
    told = "\n".join(map(str, [caplog.text, *fields]))
    assert "application lost" in told
    assert "large message" in told
    for secret in ("canary", base64.b64encode(b"me:canary-1").decode()):
        assert secret not in told
