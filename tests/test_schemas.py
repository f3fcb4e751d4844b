"""Everything that a call sends to its application and to jambonz, held against the schemas that jambonz publishes."""

import json
from typing import Any

import pytest
from jambonz_sdk.validator import JambonzValidator

from config import payloads
from tests import virtual_time
from tests.application import Application as SocketApplication
from tests.command import code_of
from tests.control import SID, Control
from tests.jambonz import voice
from tests.webhooks import Application, says
from tests.whole_call import House, agent

SCHEMAS = JambonzValidator()
ID = "https://jambonz.org/schema/callbacks/"
SPEAKS: list[Any] = [
    {"tools": [{"name": "look", "arguments": {}}], "text": "One moment."},
    "It is a long, long answer, which the caller will interrupt before it is over.",
    "A summary.",
    "Yes.",
]


def faults(schema: str, data: Any) -> list[str]:
    from jsonschema import Draft202012Validator

    found = Draft202012Validator(SCHEMAS._store[f"{ID}{schema}"], registry=SCHEMAS._registry).iter_errors(data)
    return [error.message for error in found]


def published(event: dict[str, Any]) -> dict[str, Any]:
    """Without the guide's own names."""
    kept = {key: value for key, value in event.items() if key not in payloads.GUIDE_KEYS.get(event["type"], ())}
    if "latency" in kept:
        parts = kept["latency"].items()
        kept["latency"] = {key: value for key, value in parts if key not in payloads.GUIDE_KEYS["latency"]}
    return kept


def talk(**verb: Any) -> Any:
    """An agent with a tool, an interruption, a summary and an early answer."""
    made = agent(
        ["first", "second", "third"], SPEAKS, greeting="Hello.", earlyGeneration=True, summarizeTurns=0, **verb
    ).given()
    made["llm"]["llmOptions"] = {"tools": [{"name": "look"}]}
    return type(agent()).parse(made)


async def converse(house: House) -> None:
    async with house.call() as call:
        await call.until(lambda: house.entries("turn_end"))
        await house.speaking(call, 1.5)
        await house.turn(call, 1.0)
        call.hang_up()


@pytest.mark.parametrize("names", ["both", "guide", "sdk"])
def test_what_is_told_over_a_socket(names: payloads.Names) -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        async with SocketApplication(tools=lambda name, arguments: "seen") as app:
            hooks = {"toolHook": "/tool", "eventHook": "/event", "actionHook": "/done", "app": "desk"}
            async with House(talk(**hooks), apps={"desk": app.url}, events={"names": names}) as house:
                await converse(house)
        told.extend(app.messages)

    virtual_time.run(main())
    assert {message["type"] for message in told} == {
        *("session:new", "agent:event", "agent:tool-call", "verb:hook", "call:status"),
    }
    events = [message["data"] for message in told if message["type"] == "agent:event"]
    assert {"user_transcript", "user_interruption", "turn_end"} <= {event["type"] for event in events}
    for event in events:
        if event["type"] in payloads.GUIDE_EVENTS:
            assert names != "sdk"
        elif names != "guide":
            assert faults("agent-turn", event if names == "sdk" else published(event)) == []
    for message in told:
        assert set(message) <= {"type", "msgid", "call_sid", "hook", "data"}
        match message["type"]:
            case "session:new":
                assert faults("session-new", message["data"]) == []
            case "verb:hook":
                assert faults("base", message["data"]) == []
                if names != "sdk":  # the agent verb's own payload has no schema: the llm verb's is its model
                    assert faults("llm", message["data"]) == []
            case "call:status":
                assert faults("call-status", message["data"]) == []
            case "agent:tool-call":
                assert set(message["data"]) == {"tool_call_id", "name", "arguments"}


def test_what_is_told_through_the_gateway() -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        hooks = {"toolHook": "/tool", "eventHook": "/event", "actionHook": "/done"}
        made = talk().given()
        verb = {"verb": "agent", "greeting": "Hello.", "llm": {"llmOptions": {"tools": [{"name": "look"}]}}, **hooks}
        defaults = {role: made[role] for role in ("stt", "llm", "tts")}
        async with (
            SocketApplication([verb], tools=lambda name, arguments: "seen") as app,
            House(agent(), apps={"desk": app.url}, defaults=defaults) as house,
            Control(house.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            assert SCHEMAS.validate_verb(listen) == []
            async with house.call(agent=listen["url"].rpartition("/")[2]) as call:
                await call.until(lambda: house.entries("turn_end"))
                await house.speaking(call, 1.5)
                await house.turn(call, 1.0)
                call.hang_up()
            await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
        told.extend(app.messages)

    virtual_time.run(main())
    assert {message["type"] for message in told} == {"session:new", "agent:event", "agent:tool-call", "verb:hook"}
    for message in told:
        match message["type"]:
            case "agent:event" if message["data"]["type"] not in payloads.GUIDE_EVENTS:
                assert faults("agent-turn", published(message["data"])) == []
            case "verb:hook":
                assert faults("base", message["data"]) == faults("llm", message["data"]) == []
            case "agent:tool-call":
                assert set(message["data"]) == {"tool_call_id", "name", "arguments"}


def test_what_is_told_where_the_applications_verbs_are_run_here() -> None:
    told: list[dict[str, Any]] = []

    async def main() -> None:
        barge_in = {"enable": True, "sticky": True, "input": ["speech", "digits"], "actionHook": "/heard"}
        listens = {"ttsStream": {"enable": True}, "trackTtsPlayout": True, "notifyEvents": True, "bargeIn": barge_in}
        verbs: list[Any] = [{"verb": "config", **listens}, {"verb": "say", "text": "Hello.", "id": "greeting"}]
        async with (
            SocketApplication(verbs) as app,
            House(agent(["What is it?"], app="desk"), apps={"desk": app.url}) as house,
            house.call() as call,
        ):
            await call.until(lambda: house.entries("said"))
            await app.say(
                {"type": "command", "command": "tts:tokens", "data": {"id": 1, "tokens": "A long story. " * 9}}
            )
            await call.until(lambda: len(house.said) > 1 and call.is_audible)
            call.say(voice(1.0))
            await app.got("verb:hook")
            call.dtmf("5")
            await app.got("verb:hook", 2)
            await app.say({"type": "command", "command": "redirect", "data": {"call_hook": "/next"}})
            await app.got("session:redirect")
            call.hang_up()
        told.extend(app.messages)

    virtual_time.run(main())
    schemas = {
        "session:new": "session-new",
        "session:redirect": "session-redirect",
        "verb:hook": "gather",
        "verb:status": "verb-status",
        "tts:streaming-event": "tts-streaming-event",
        "call:status": "call-status",
    }
    assert {message["type"] for message in told} == {*schemas, "tts:tokens-result"}
    for message in told:
        if message["type"] in schemas:
            assert faults(schemas[message["type"]], message["data"]) == []
    reasons = [message["data"]["reason"] for message in told if message["type"] == "verb:hook"]
    assert reasons == ["speechDetected", "dtmfDetected"]


def test_what_is_told_by_webhook() -> None:
    bodies: list[tuple[str, dict[str, Any]]] = []

    async def main() -> None:
        async with Application(says("seen")) as app:
            hooks = {name: f"{app.url}/{name}" for name in ("toolHook", "eventHook", "actionHook")}
            async with House(talk(**hooks)) as house:
                await converse(house)
        bodies.extend((request.path, json.loads(request.body)) for request in app.requests)

    virtual_time.run(main())
    common = set(payloads.CALL_INFO.values())
    for path, body in bodies:
        assert faults("base", body) == []
        own = {key: value for key, value in body.items() if key not in common}
        if path == "/eventHook" and own["type"] not in payloads.GUIDE_EVENTS:
            assert faults("agent-turn", published(own)) == []
    assert {path for path, _ in bodies} == {"/toolHook", "/eventHook", "/actionHook"}


def test_the_listen_verb_that_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of("verb", "demo") == 0
    assert SCHEMAS.validate_verb(json.loads(capsys.readouterr().out)) == []
