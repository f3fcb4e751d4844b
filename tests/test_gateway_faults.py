"""The gateway between two sides of which either may break, repeat itself, or say what the other cannot take."""

import asyncio
import json
from typing import Any

import pytest

from agentd.call.call import Call
from agentd.jambonz.asked import ANSWERS, KNOWN, Asked
from agentd.jambonz.jambonz_side import JambonzSide
from agentd.jambonz.tickets import Ticket
from tests import virtual_time
from tests.application import Application
from tests.control import SESSION, SID, Control
from tests.test_gateway import SORRY, VERB, audio, house, token_of
from tests.whole_call import House, agent

TAG = {"type": "command", "command": "tag", "data": {"said": "meanwhile"}}
HANGUP = [{"verb": "hangup"}]
UPDATE: dict[str, Any] = {"type": "agent:update", "data": {"type": "update_instructions", "instructions": "New."}}
DEEP = "[" * 100 + "]" * 100


def excused(url: str) -> dict[str, str]:
    return {"url": url, "apology": "Not now."}


def hook(msgid: str, path: str = "/said") -> dict[str, Any]:
    return {"type": "verb:hook", "msgid": msgid, "call_sid": SID, "hook": path, "data": {}}


def ack(msgid: str, data: Any) -> dict[str, Any]:
    return {"type": "ack", "msgid": msgid, "data": data}


def is_tag(message: dict[str, Any]) -> bool:
    return message.get("command") == "tag"


async def settled() -> None:
    """What was sent has arrived."""
    await asyncio.sleep(0.2)


def waiting(at: House) -> list[str]:
    return list(at.node.tickets._waiting)


# Messages that are wrong -----------------------------------------------------------------------------------


def test_a_message_that_crashes_ends_the_reading_of_neither_side(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(self: Call, data: Any) -> None:
        raise RuntimeError("it does")

    monkeypatch.setattr(Call, "update", crash)

    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                await app.say(UPDATE)
                await app.say(TAG)
                await jambonz.got(is_tag)
                call.hang_up()
            for junk in (b"\0", '{"type": "verb:hook", "msgid": 7, "hook": [], "data": {}}', "x" * 300_000):
                jambonz.line.send(junk)
            jambonz.send({"type": "call:status", "msgid": "m", "call_sid": SID, "data": {}})
            await app.got("call:status")
        assert caplog.messages.count("message failed") == 1

    virtual_time.run(main())


def test_an_update_goes_to_the_agent_that_came_last() -> None:
    async def main() -> None:
        async with (
            Application([VERB], tools=lambda name, arguments: "fine") as app,
            house(app.url, ["one", "two"]) as at,
            Control(at.app, "desk") as jambonz,
        ):
            app.silent.add("verb:hook")  # the first agent asks its actionHook while the second one talks
            (first,) = await jambonz.ask("session:new")
            async with audio(at, first) as call:
                await call.play(0.1)
                await app.say({"type": "command", "command": "redirect", "data": VERB})
                redirect = await jambonz.got(lambda message: message.get("command") == "redirect")
                call.hang_up()
                async with audio(at, redirect["data"][0]) as call:
                    await call.play(0.1)
                    for instructions in ("New.", "Newer."):
                        await app.say(
                            {"type": "agent:update", "data": {**UPDATE["data"], "instructions": instructions}}
                        )
                        await settled()
                        await at.turn(call)
                        assert at.prompts[-1].messages[0].content == instructions
                        await call.play(6)  # the first one is over
                    call.hang_up()
            assert [message["type"] for message in jambonz.messages] == ["ack", "command"]

    virtual_time.run(main())


def test_an_output_that_no_tool_waits_for_does_not_reach_jambonz() -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                await app.say({"type": "command", "command": "llm:tool-output", "tool_call_id": "t1", "data": {}})
                await app.say(TAG)
                await jambonz.got(is_tag)
                call.hang_up()
            assert jambonz.messages[1:] == [TAG]

    virtual_time.run(main())


def test_many_messages_at_once_are_not_too_many() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            await jambonz.ask("session:new")
            for number in range(300):
                jambonz.send({"type": "call:status", "msgid": str(number), "call_sid": SID, "data": {}})
                await app.say({"type": "command", "command": "tag", "data": {"number": number}})
            await app.got("call:status", 300)
            await jambonz.got(lambda message: message.get("data") == {"number": 299})
            assert [message["msgid"] for message in app.of("call:status")] == [str(number) for number in range(300)]
            assert len(jambonz.messages) == 301

    virtual_time.run(main())


# Messages that are repeated --------------------------------------------------------------------------------


def test_each_message_passes_once_and_its_answer_is_given_again() -> None:
    async def main() -> None:
        async with Application([], next_verbs=[VERB]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            await jambonz.ask("session:new")
            jambonz.send(hook("h1"))
            first = await jambonz.got(lambda message: message.get("msgid") == "h1")
            for message in (hook("h1"), {**hook("s1"), "type": "call:status"}, {**hook("s1"), "type": "call:status"}):
                jambonz.send(message)
            await app.say(ack("h1", [VERB]))
            await app.say(ack("h1", [{}]))
            await app.say(ack("nobody asked", [VERB]))
            await settled()
            assert [message["type"] for message in app.messages] == ["session:new", "verb:hook", "call:status"]
            assert jambonz.messages[1:] == [first, first]
            assert waiting(at) == [token_of(first["data"][0])]

    virtual_time.run(main())


def test_an_agent_that_has_ended_is_asked_about_once() -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=HANGUP) as app,
            house(app.url) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                jambonz.send(hook("h1", listen["actionHook"]))
                jambonz.send(hook("h1", listen["actionHook"]))
                await call.play(0.1)
                call.hang_up()
            await jambonz.got(lambda message: message.get("msgid") == "h1")
            jambonz.send(hook("h1", listen["actionHook"]))
            await settled()
            assert jambonz.messages[1:] == [ack("h1", HANGUP)] * 2
            assert len(app.of("verb:hook")) == 1

    virtual_time.run(main())


def test_memory_of_messages_and_answers_has_bounds() -> None:
    asked = Asked()
    for number in range(3 * KNOWN):
        assert asked.add(str(number), "verb:hook") and not asked.add(str(number), "verb:hook")
        if number % 2:
            asked.answer(str(number), "x")
    assert len(asked.unanswered()) == KNOWN / 2
    last = [str(number) for number in range(3 * KNOWN) if asked.answer_to(str(number))]
    assert (len(last), last[-1]) == (ANSWERS, str(3 * KNOWN - 1))
    assert asked.is_open(str(3 * KNOWN - 2)) and not asked.is_open(last[-1]) and not asked.is_open("0")


# Answers that jambonz would not take, or that do not come ----------------------------------------------------


@pytest.mark.parametrize("wrong", ["verbs that are none", "30 KiB", "an agent of 24 KiB among others", "deep"])
def test_an_answer_that_jambonz_would_not_take_is_given_in_its_place(wrong: str) -> None:
    async def main() -> None:
        async with Application([]) as app, house(excused(app.url)) as at, Control(at.app, "desk") as jambonz:
            app.silent.add("verb:hook")
            await jambonz.ask("session:new")
            jambonz.send(hook("h1"))
            await app.got("verb:hook")
            say = {"verb": "say", "text": "x" * 30_000}
            verbs = {"verbs that are none": [{}], "30 KiB": [say], "an agent of 24 KiB among others": [VERB, say]}
            deep = json.dumps(ack("h1", "?")).replace('"?"', DEEP)
            await app.say(deep if wrong == "deep" else ack("h1", verbs[wrong]))
            await app.say(ack("h1", HANGUP))  # too late
            await settled()
            assert jambonz.messages[1:] == [ack("h1", SORRY)]
            assert waiting(at) == []

    virtual_time.run(main())


def test_a_command_that_jambonz_would_not_take_is_told_to_the_application() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            await jambonz.ask("session:new")
            say = {"verb": "say", "text": "x" * 30_000}
            await app.say({"type": "command", "command": "redirect", "data": [VERB, say]})
            error = await app.got("jambonz:error")
            await app.say(TAG)
            await jambonz.got(is_tag)
            assert error["data"] == {"msg": "InvalidMessage", "details": "expected at most 24576 bytes, got more"}
            assert jambonz.messages[1:] == [TAG]
            assert waiting(at) == []

    virtual_time.run(main())


@pytest.mark.parametrize("wrong", ["never", "late", "verbs that are none", "30 KiB", "it breaks", "slow events"])
def test_an_agent_has_ended_and_the_application_does_not_say_what_is_next(wrong: str) -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(excused(app.url)) as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            app.silent.add("verb:hook")
            if wrong == "30 KiB":
                app.silent.clear()
                app.next_verbs = [{"verb": "say", "text": "x" * 30_000}]
            if wrong == "verbs that are none":
                app.silent.clear()
                app.next_verbs = [{}]
            async with audio(at, listen) as call:
                await call.play(0.1)
                call.hang_up()
                asking = asyncio.create_task(jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]))
                since = asyncio.get_running_loop().time()
                message = await app.got("verb:hook")
                if wrong == "it breaks":
                    app.drop()
                assert await asking == SORRY
                assert asyncio.get_running_loop().time() - since < 5
                if wrong == "late":
                    await app.say(ack(message["msgid"], [VERB]))
                    await settled()
            assert len(jambonz.messages) == 2
            assert waiting(at) == []

    virtual_time.run(main())


def test_other_verbs_hooks_are_jambonzs_to_give_up() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            app.silent.add("verb:hook")
            await jambonz.ask("session:new")
            jambonz.send(hook("h1"))
            await asyncio.sleep(30)
            assert len(jambonz.messages) == 1

    virtual_time.run(main())


def test_a_transfer_is_made_though_the_application_does_not_answer() -> None:
    async def main() -> None:
        verb = {**VERB, "handoff": {"mode": "blind", "target": [{"type": "phone", "number": "+15085551234"}]}}
        made = agent(["a human"], [{"tools": [{"name": "transfer_to_human", "arguments": {}}], "text": "One moment."}])
        defaults = {role: made.given()[role] for role in ("stt", "llm", "tts")}
        async with (
            Application([verb]) as app,
            House(agent(), apps={"desk": app.url}, defaults=defaults) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            app.silent.add("verb:hook")
            async with audio(at, listen) as call:
                await at.speaking(call, 0.1)
                await call.until(lambda: call.closed)
                verbs = await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
        assert [verb["verb"] for verb in verbs] == ["transfer"]

    virtual_time.run(main())


def test_behind_an_agent_that_hung_up_comes_nothing_but_what_the_application_wants() -> None:
    async def main() -> None:
        made = agent(["bye"], [{"tools": [{"name": "hangup", "arguments": {"reason": "bye"}}], "text": "Goodbye."}])
        defaults = {role: made.given()[role] for role in ("stt", "llm", "tts")}
        async with (
            Application([{**VERB, "hangup": {}}]) as app,
            House(agent(), apps={"desk": app.url}, defaults=defaults) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await at.speaking(call, 0.1)
                await call.until(lambda: call.closed)
                assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == []
            (done,) = app.of("verb:hook")
        assert done["data"]["completion_reason"] == "normal conversation end"

    virtual_time.run(main())


def test_an_agent_of_which_nothing_is_known_has_not_been_answered() -> None:
    async def main() -> None:
        ticket = Ticket("desk", SID, VERB, None, lambda on_command: None)
        ticket.done.set_result([])
        assert await ticket.behind(1) is None

    virtual_time.run(main())


def test_the_last_that_jambonz_says_is_heard() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            await jambonz.ask("session:new")
            for number in range(100):
                jambonz.send({"type": "call:status", "msgid": str(number), "call_sid": SID, "data": {}})
            jambonz.line.close(1000, "")
            await jambonz.line.ended()
            await app.got("call:status", 100)

    virtual_time.run(main())


@pytest.mark.parametrize("leaves", ["jambonz", "the application"])
def test_a_caller_who_hangs_up_is_told_of_before_the_application_is_left(leaves: str) -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                if leaves == "jambonz":
                    jambonz.line.close(1000, "")
                    call.hang_up()
                    await app.got("verb:hook")
                else:
                    await app.close(1000)
                since = asyncio.get_running_loop().time()
                await jambonz.line.ended()
                assert asyncio.get_running_loop().time() - since < 0.1

    virtual_time.run(main())


# Sockets that break ----------------------------------------------------------------------------------------


def test_when_both_sockets_break_the_agent_goes_on_and_nothing_is_lost_or_told_twice() -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=HANGUP, tools=lambda name, arguments: "fine") as app,
            house(app.url) as at,
            Control(at.app, "desk") as lost,
        ):
            (listen,) = await lost.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                lost.line.abort()
                await app.stop()
                turn = asyncio.create_task(at.turn(call))
                await call.play(1)
                await app.start()
                assert (await turn)["response"] == "It is fine."  # its tool was asked as soon as somebody could be
                await app.say(TAG)
                async with Control(at.app, "desk") as jambonz:
                    assert await jambonz.ask("session:reconnect") == []
                    assert (await at.turn(call))["response"] == "You are welcome."
                    call.hang_up()
                    assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == HANGUP
                assert [message["type"] for message in jambonz.messages] == ["ack", "command", "ack"]
        told = [message["data"]["type"] for message in app.of("agent:event")]
        assert [type_ for type_ in told if type_ in ("user_transcript", "turn_end")] == [
            "user_transcript",
            "turn_end",
        ] * 2
        assert len(app.of("agent:tool-call")) == len(app.of("session:reconnect")) == len(app.of("verb:hook")) == 1

    virtual_time.run(main())


def test_what_waited_for_jambonz_comes_before_what_came_later() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as lost:
            await lost.ask("session:new")
            lost.send(hook("h1"))
            await settled()
            lost.line.abort()
            said = [{"type": "command", "command": "tag", "data": {"number": number}} for number in range(50)]
            for message in said[:25]:
                await app.say(message)
            await settled()
            async with Control(at.app, "desk") as jambonz:
                asking = asyncio.create_task(jambonz.ask("session:reconnect"))
                for message in said[25:]:
                    await app.say(message)
                assert await asking == []
                await asyncio.sleep(20)
                assert jambonz.messages[1:] == said and jambonz.closed is None

    virtual_time.run(main())


def test_jambonz_may_be_back_before_its_old_socket_is_seen_to_be_gone() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as old:
            await old.ask("session:new")
            old.send({"type": "call:status", "msgid": "m", "call_sid": SID, "data": {}})
            await app.got("call:status")
            async with Control(at.app, "desk") as jambonz:
                assert await jambonz.ask("session:reconnect") == []
                old.line.abort()
                await asyncio.sleep(20)
                await app.say(TAG)
                await jambonz.got(is_tag)
            assert len(old.messages) == 1

    virtual_time.run(main())


def test_what_could_not_be_sent_is_sent_first_when_jambonz_is_back() -> None:
    class Socket:
        def __init__(self, is_gone: bool) -> None:
            self.is_gone = is_gone
            self.texts: list[str] = []

        async def receive(self) -> dict[str, Any]:
            await asyncio.sleep(1)
            return {"type": "websocket.disconnect", "code": 1006 if self.is_gone else 1000}

        async def send_text(self, text: str) -> None:
            if self.is_gone:
                raise OSError("gone")
            self.texts.append(text)

    async def main() -> None:
        async def take(text: str) -> None: ...

        side = JambonzSide(take, {})
        await side.say("one")
        await side.hold(Socket(is_gone=True))
        await side.say("two")
        back = Socket(is_gone=False)
        await side.hold(back, "ack")
        assert back.texts == ["ack", "one", "two"]
        assert side.over.is_set()

    virtual_time.run(main())


@pytest.mark.parametrize("when", ["before", "while it is away", "after"])
def test_jambonz_that_comes_back_without_its_first_verbs_gets_them(when: str) -> None:
    """It then takes the ack of session:reconnect for that of session:new."""

    async def main() -> None:
        say = [{"verb": "say", "text": "Hello."}]
        async with Application(say) as app, house(app.url) as at, Control(at.app, "desk") as lost:
            app.silent.add("session:new")
            new = {"type": "session:new", "msgid": "n1", "call_sid": SID, "data": SESSION}
            lost.send(new)
            await app.got("session:new")
            if when == "before":
                await app.say(ack("n1", say))
                await settled()
            lost.line.abort()
            await settled()
            if when == "while it is away":
                await app.say(ack("n1", say))
                await settled()
            async with Control(at.app, "desk") as jambonz:
                asking = asyncio.create_task(jambonz.ask("session:reconnect"))
                await settled()
                if when == "after":
                    await app.say(ack("n1", say))
                assert await asking == say
                await asyncio.sleep(5)  # and no apology
                acks = [message for message in jambonz.messages if message["msgid"] != "n1"]
                assert len(acks) == 1

    virtual_time.run(main())


def test_an_application_that_is_lost_for_good_leaves_the_agent_and_then_an_apology() -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(excused(app.url)) as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                await app.stop()
                jambonz.send(hook("h1"))  # of a verb beside it
                await call.play(20)
                assert (await at.turn(call))["response"] == "It is fine."
                call.hang_up()
                assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == SORRY
            assert jambonz.messages[1] == ack("h1", SORRY)
            assert await jambonz.ask("session:redirect", {"call_sid": SID}, "/other") == SORRY
            assert jambonz.closed is None

    virtual_time.run(main())


# What is left ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["nobody", "silent", "malformed", "lost", "closed", "jambonz breaks", "jambonz leaves"]
)
def test_nothing_is_left_of_a_call_that_failed(fault: str) -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(excused(app.url)) as at:
            before = asyncio.all_tasks()
            if fault == "nobody":
                app.refuse = [401]
            if fault == "silent":
                app.silent.add("session:new")
            if fault == "malformed":
                app.verbs = [{}]
            async with Control(at.app, "desk") as jambonz:
                await jambonz.ask("session:new")
                if fault == "lost":
                    await app.stop()
                    await asyncio.sleep(30)
                if fault == "closed":
                    await app.close(1000)
                if fault == "jambonz breaks":
                    jambonz.line.abort()
                    await asyncio.sleep(20)
                await settled()
            await settled()
            assert waiting(at) == []
            assert len(app.closed) == len(app.upgrades) - (fault == "nobody")
            assert asyncio.all_tasks() - before == set()

    virtual_time.run(main())
