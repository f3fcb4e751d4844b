"""Calls through the gateway: jambonz in front of it, an application behind it, and the agent here."""

import asyncio
from typing import Any

import pytest
from jambonz_sdk.validator import JambonzValidator

from agentd.jambonz.rewrite import rewritten
from tests import virtual_time
from tests.application import Application
from tests.control import SESSION, SID, Control
from tests.jambonz import FakeJambonz
from tests.whole_call import House, agent

WEATHER = {"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}
VERB = {
    "verb": "agent",
    "greeting": False,
    "llm": {"llmOptions": {"systemPrompt": "You are brief.", "tools": [WEATHER]}},
    "toolHook": "/tool-call",
    "eventHook": "/agent-event",
    "actionHook": "/agent-complete",
}
SPEAKS: list[Any] = [{"tools": [{"name": "look", "arguments": {}}]}, "It is fine.", "You are welcome."]


def house(url: Any, finals: list[Any] = ["How is it?", "Thanks."], **server: Any) -> House:  # noqa: B006
    """A server whose defaults are scripted; ``url`` is what agentd.yaml has of the application."""
    made = agent(finals, SPEAKS).given()
    defaults = {role: made[role] for role in ("stt", "llm", "tts")}
    return House(agent(), apps={"desk": url}, defaults=defaults, **server)


def token_of(listen: dict[str, Any]) -> str:
    return str(listen["url"]).rpartition("/listen/")[2]


def audio(house: House, listen: dict[str, Any], **options: Any) -> FakeJambonz:
    return FakeJambonz(house.app, agent=token_of(listen), **options)


def test_an_agent_verb_becomes_a_listen_on_us_wherever_it_stands_and_the_rest_stays() -> None:
    say = {"verb": "say", "text": "Hello."}
    listen = {"verb": "listen"}
    assert rewritten([say, VERB, {"verb": "pipeline"}, say], lambda verb: listen) == [say, listen, listen, say]
    assert rewritten([say], lambda verb: listen) is None


def test_a_call_talks_to_the_applications_agent_and_goes_on_as_the_application_wants() -> None:
    async def main() -> None:
        next_verbs = [{"verb": "say", "text": "Goodbye."}, {"verb": "hangup"}]
        async with (
            Application([VERB], next_verbs=next_verbs, tools=lambda name, arguments: "fine") as app,
            house(app.url) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            assert JambonzValidator().validate_verb(listen) == []
            async with audio(at, listen) as call:
                await at.turn(call)
                assert [live.agent for live in at.node.calls] == ["desk"]
                assert at.logs[-1].about["b3"] == "1-2-1"  # its trace goes on here
                await app.say({"type": "agent:update", "data": {"type": "update_instructions", "instructions": "New."}})
                await at.turn(call)
                call.hang_up()
            assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == next_verbs
            (new,), (asked,), (done,) = app.of("session:new"), app.of("agent:tool-call"), app.of("verb:hook")
            told = [message["data"]["type"] for message in app.of("agent:event")]
        assert (new["data"], new["b3"]) == (SESSION, "1-2-1")
        assert (asked["hook"], asked["data"]["name"]) == ("/tool-call", "look")
        assert (done["hook"], done["data"]["completion_reason"]) == ("/agent-complete", "disconnect from remote end")
        assert done["data"]["from"] == SESSION["from"]
        assert told.count("turn_end") == 2
        assert [turn["response"] for turn in at.entries("turn_end")] == ["It is fine.", "You are welcome."]
        assert [prompt.messages[0].content for prompt in at.prompts][-1] == "New."

    virtual_time.run(main())


# Every command that applications have, and every message of jambonz's (docs of its SDKs, 0.10).
COMMANDS = (
    *("redirect", "config", "call:status", "dial", "dub", "record", "mute:status", "listen:status", "stream:status"),
    *("transcribe:status", "whisper", "sip:request", "dtmf", "tag", "noiseIsolation:status", "stt:reconfigure"),
    *("conf:mute-status", "conf:hold-status", "conf:participant-action", "room:say", "room:play", "boostAudioSignal"),
    *("media:path", "llm:update", "tts:tokens", "tts:flush", "tts:clear", "no:such"),
)
OTHERS: list[dict[str, Any]] = [
    *(
        {"type": "command", "command": name, "queueCommand": False, "data": {"of": name, "ü": [1, None]}}
        for name in COMMANDS
    ),
    {"type": "command", "command": "redirect", "queueCommand": True, "data": [{"verb": "say", "text": "x"}]},
    {"type": "command", "command": "llm:tool-output", "tool_call_id": "of jambonz", "data": {"result": 1}},
    {"type": "agent:update", "data": {"type": "inject_context", "messages": []}},  # no agent is running here
    {"type": "command", "command": "the last", "callSid": "x", "anything": {"at": "all"}},
]
MESSAGES = (
    *("session:redirect", "session:adulting", "verb:hook", "dial:confirm", "call:status", "verb:status"),
    *("jambonz:error", "llm:event", "llm:tool-call", "tts:streaming-event", "tts:tokens-result", "no:such"),
)


def test_what_is_no_agent_passes_untouched_and_in_order() -> None:
    async def main() -> None:
        verbs: list[dict[str, Any]] = [{"verb": "say", "text": "Hé.", "x": {"Y": [1.5]}}, {"gather": {"input": ["a"]}}]
        async with Application(verbs) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            assert await jambonz.ask("session:new") == verbs
            for message in OTHERS:
                await app.say(message)
            await jambonz.got(lambda message: message.get("command") == "the last")
            assert jambonz.messages[1:] == OTHERS
            sent = [
                {
                    "type": type_,
                    "msgid": f"m-{type_}",
                    "call_sid": SID,
                    "hook": "/x",
                    "data": {"call_id": 1, "ü": [None]},
                }
                for type_ in MESSAGES
            ]
            for message in sent:
                jambonz.send({**message, "b3": "1-2-1"})
            await app.got("no:such")
            assert app.messages[1:] == [{**message, "b3": "1-2-1"} for message in sent]
            await jambonz.got(lambda message: message.get("msgid") == "m-verb:hook")
            answered = [message["msgid"] for message in jambonz.messages[1 + len(OTHERS) :]]
            assert answered == ["m-session:redirect", "m-verb:hook"]  # our application answers no others

    virtual_time.run(main())


def test_an_agent_in_a_redirect_becomes_a_listen() -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            await jambonz.ask("session:new")
            await app.say({"type": "command", "command": "redirect", "data": [{"verb": "say", "text": "x"}, VERB]})
            message = await jambonz.got(lambda message: message.get("command") == "redirect")
            assert [verb["verb"] for verb in message["data"]] == ["say", "listen"]

    virtual_time.run(main())


def test_an_agent_behind_an_agent_has_a_call_of_its_own() -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=[VERB]) as app,
            house(app.url, ["one", "two"]) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (first,) = await jambonz.ask("session:new")
            async with audio(at, first) as call:
                call.hang_up()
            (second,) = await jambonz.ask("verb:hook", {"call_sid": SID}, first["actionHook"])
            assert second["verb"] == "listen" and token_of(second) != token_of(first)
            async with audio(at, second) as call:
                await at.turn(call)
                call.hang_up()

    virtual_time.run(main())


def test_a_transfer_goes_before_what_the_application_wants() -> None:
    async def main() -> None:
        verb = {**VERB, "handoff": {"mode": "blind", "target": [{"type": "phone", "number": "+15085551234"}]}}
        made = agent(["a human"], [{"tools": [{"name": "transfer_to_human", "arguments": {}}], "text": "One moment."}])
        defaults = {role: made.given()[role] for role in ("stt", "llm", "tts")}
        async with (
            Application([verb], next_verbs=[{"verb": "hangup"}]) as app,
            House(agent(), apps={"desk": app.url}, defaults=defaults) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await at.speaking(call, 0.1)
                await call.until(lambda: call.closed)
            verbs = await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
        assert [verb["verb"] for verb in verbs] == ["transfer", "hangup"]
        assert verbs[0]["target"] == [{"type": "phone", "number": "+15085551234"}]

    virtual_time.run(main())


@pytest.mark.parametrize("wrong", ["twice", "another call", "too late", "made up"])
def test_a_token_opens_one_listen_of_its_own_call_within_a_minute(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            if wrong == "twice":
                async with audio(at, listen) as call:
                    call.hang_up()
            if wrong == "too late":
                await asyncio.sleep(61)
            if wrong == "made up":
                listen["url"] += "x"
            more = {"metadata": {"callSid": "another"}} if wrong == "another call" else {}
            async with audio(at, listen, **more) as call:
                await call.until(lambda: call.closed)
            assert call.closed is not None and call.closed.code == 1008
            assert token_of(listen) not in f"{call.closed} {[vars(record) for record in caplog.records]}"

    virtual_time.run(main())


def test_a_listen_that_never_came_is_told_to_the_application_as_a_failure() -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=[{"verb": "say", "text": "Sorry."}]) as app,
            house(app.url) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            verbs = await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
            (done,) = app.of("verb:hook")
            async with audio(at, listen) as call:  # it comes after all
                await call.until(lambda: call.closed)
            assert call.closed is not None and call.closed.code == 1008
        assert verbs == [{"verb": "say", "text": "Sorry."}]
        assert done["data"]["completion_reason"] == "connection failure"

    virtual_time.run(main())


SORRY = [{"verb": "say", "text": "Not now."}, {"verb": "hangup"}]


@pytest.mark.parametrize("wrong", ["nobody is there", "silent", "late", "verbs that are none", "30 KiB"])
def test_an_application_that_does_not_say_what_to_do_is_excused_and_the_call_ends(wrong: str) -> None:
    async def main() -> None:
        verbs: list[dict[str, Any]] = [{"verb": "say", "text": "x" * 30_000}] if wrong == "30 KiB" else [{}]
        async with Application(verbs) as app:
            if wrong in ("silent", "late"):
                app.silent.add("session:new")
            url = "ws://127.0.0.1:9/" if wrong == "nobody is there" else app.url
            async with house({"url": url, "apology": "Not now."}) as at, Control(at.app, "desk") as jambonz:
                began = asyncio.get_running_loop().time()
                assert await jambonz.ask("session:new") == SORRY
                assert asyncio.get_running_loop().time() - began < 5
                if wrong == "late":
                    late = {"type": "ack", "msgid": app.of("session:new")[0]["msgid"], "data": [VERB]}
                    await app.say(late)
                    await asyncio.sleep(1)
                assert len(jambonz.messages) == 1

    virtual_time.run(main())


def test_an_application_that_is_busy_is_dialled_until_there_is_no_time_left() -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            app.refuse = [503] * 5
            (listen,) = await jambonz.ask("session:new")
            assert listen["verb"] == "listen" and len(app.upgrades) == 6

    virtual_time.run(main())


def test_when_the_applications_socket_breaks_the_agent_goes_on_and_it_is_found_again() -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=[{"verb": "hangup"}], tools=lambda name, arguments: "fine") as app,
            house(app.url) as at,
            Control(at.app, "desk") as jambonz,
        ):
            session = {**SESSION, "sip": {"headers": {"X-A": "b"}}}
            (listen,) = await jambonz.ask("session:new", session)
            async with audio(at, listen) as call:
                await at.turn(call)
                app.drop()
                await app.got("session:reconnect")
                assert (await at.turn(call))["response"] == "You are welcome."
                call.hang_up()
            assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == [{"verb": "hangup"}]
            (again,) = app.of("session:reconnect")
        assert again["data"] == session
        assert [message["type"] for message in jambonz.messages] == ["ack", "ack"]

    virtual_time.run(main())


def test_when_jambonzs_socket_breaks_the_agent_goes_on_and_the_next_one_has_its_call() -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=[{"verb": "hangup"}], tools=lambda name, arguments: "fine") as app,
            house(app.url) as at,
            Control(at.app, "desk") as lost,
        ):
            (listen,) = await lost.ask("session:new")
            async with audio(at, listen) as call:
                await at.turn(call)
                lost.line.abort()
                await asyncio.sleep(1)
                await app.say({"type": "command", "command": "tag", "data": {"said": "meanwhile"}})
                await asyncio.sleep(1)
                async with Control(at.app, "desk") as jambonz:
                    assert await jambonz.ask("session:reconnect") == []
                    await at.turn(call)
                    call.hang_up()
                    verbs = await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
            assert verbs == [{"verb": "hangup"}]
            assert [message.get("command") for message in jambonz.messages][1] == "tag"
            assert app.of("session:reconnect") == [] and len(app.of("agent:event")) > 4

    virtual_time.run(main())


def test_jambonz_that_does_not_come_back_ends_the_applications_session() -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at, Control(at.app, "desk") as lost:
            await lost.ask("session:new")
            lost.line.abort()
            await asyncio.sleep(14)
            assert app.closed == []
            await asyncio.sleep(3)
            assert app.closed == [1000]

    virtual_time.run(main())


def test_when_the_application_leaves_jambonz_is_told_and_nothing_is_left() -> None:
    async def main() -> None:
        async with Application([VERB]) as app, house(app.url) as at:
            before = asyncio.all_tasks()
            async with Control(at.app, "desk") as jambonz:
                await jambonz.ask("session:new")
                await app.close(1000)
                await asyncio.sleep(1)
                assert jambonz.closed is not None
            await asyncio.sleep(1)
            assert not {task for task in asyncio.all_tasks() - before if "gateway" in task.get_name()}

    virtual_time.run(main())


@pytest.mark.parametrize("junk", ["", "no json", "[]", '{"type": "ack"}', '{"type": "ack", "data": 7}'])
def test_junk_of_the_application_passes_or_dies_but_harms_nobody(junk: str) -> None:
    async def main() -> None:
        async with Application([]) as app, house(app.url) as at, Control(at.app, "desk") as jambonz:
            await jambonz.ask("session:new")
            if junk.startswith(("{", "[")):
                await app.say(junk)
            await app.say({"type": "command", "command": "tag", "data": {}})
            await jambonz.got(lambda message: "tag" in str(message))

    virtual_time.run(main())


def test_who_may_not_come_in_is_refused() -> None:
    from tests.jambonz import Refused

    async def main() -> None:
        async with Application([]) as app:
            access = {"listen": [{"username": "jambonz", "password": "long and random"}]}
            async with house(app.url, access=access) as at:
                with pytest.raises(Refused, match="401"):
                    async with Control(at.app, "desk"):
                        pass

    virtual_time.run(main())
