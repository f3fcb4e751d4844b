"""Whole calls with an application: its tools, what it is told, what it wants, and whatever it does wrong."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from config import payloads
from tests import virtual_time
from tests.application import Application as SocketApplication
from tests.jambonz import Call
from tests.webhooks import Application, Reply, says
from tests.whole_call import House, agent

WEATHER = {
    "name": "get_weather",
    "description": "Get the current temperature and wind speed for a location.",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": 'City name, e.g. "Portland"'},
            "scale": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["location"],
    },
}
ASKS: list[Any] = [
    {"tools": [{"name": "get_weather", "arguments": {"location": "Portland"}}], "text": "Let me see."},
    "It is fine there.",
    "You are welcome.",
]
FINALS = ["What is the weather in Portland?", "Thank you."]


def weather_agent(**verb: Any) -> Any:
    return agent(FINALS, ASKS, llm={"first": 0.1}, **({"noResponseTimeout": 0} | verb))


def with_tools(made: Any, tools: list[Any] = [WEATHER]) -> Any:  # noqa: B006
    given = made.given()
    given["llm"]["llmOptions"] = {"tools": tools}
    return type(made).parse(given)


def results(house: House) -> list[str]:
    """What the model was told of its tools, in its latest prompt."""
    return [message.content for message in house.prompts[-1].messages if message.role == "tool"]


async def two_turns(house: House, call: Call) -> None:
    await house.turn(call)
    await house.turn(call)
    call.hang_up()


# Tools ----------------------------------------------------------------------------------------------------


def test_a_tool_of_the_application_is_run_by_webhook() -> None:
    async def main() -> None:
        async with (
            Application(says("Temperature: 11°C, Wind: 12 km/h")) as app,
            House(with_tools(weather_agent(toolHook=f"{app.url}/tool-call"))) as house,
            house.call() as call,
        ):
            turn = await house.turn(call)
            call.hang_up()
        assert results(house) == ["Temperature: 11°C, Wind: 12 km/h"]
        assert turn["response"] == "Let me see. It is fine there."
        (asked,) = app.bodies
        assert (asked["name"], asked["arguments"]) == ("get_weather", {"location": "Portland"})
        assert asked["tool_call_id"] == house.entries("tool_call")[0]["tool_call_id"]
        assert (asked["call_sid"], asked["from"]) == ("c0ffee00-0000-4000-8000-000000000001", "+15551230001")

    virtual_time.run(main())


def test_a_tool_of_the_application_is_run_over_its_socket() -> None:
    async def main() -> None:
        async with SocketApplication(tools=lambda name, arguments: f"{name} in {arguments['location']}") as app:
            async with (
                House(with_tools(weather_agent(toolHook="/tool-call", app="desk")), apps={"desk": app.url}) as house,
                house.call() as call,
            ):
                await house.turn(call)
                call.hang_up()
            (asked,) = app.of("agent:tool-call")
        assert results(house) == ["get_weather in Portland"]
        assert (asked["hook"], set(asked["data"])) == ("/tool-call", {"tool_call_id", "name", "arguments"})

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (Reply(after=30), "Error: the tool 'get_weather' did not answer within 20 seconds"),
        (Reply(500), "Error: expected"),
        (Reply(body=b"1" * (10 << 20)), "Error: expected at most 1048576 bytes from the application, got more"),
        (Reply(body=b"<html><body>Oops</body></html>", content_type="text/html"), "Error: expected"),
        (Reply(closes=True), "Error: the connection to the application broke before its answer was there"),
        (Reply(302, headers={"location": "http://127.0.0.1:9/"}), "Error: expected"),
    ],
    ids=["after 30 s", "500", "10 MB", "HTML", "nothing", "a redirect"],
)
def test_whatever_hooks_do_the_call_goes_on_and_the_next_turn_is_answered(reply: Reply, result: str) -> None:
    async def main() -> None:
        async with Application(reply) as app:
            hooks = {"toolHook": f"{app.url}/tool", "eventHook": f"{app.url}/event", "actionHook": f"{app.url}/done"}
            async with House(with_tools(weather_agent(**hooks))) as house, house.call() as call:
                await two_turns(house, call)
            told = results(house)[0]
        assert told.startswith(result), told
        assert [turn["response"] for turn in house.entries("turn_end")][-1] == "You are welcome."
        assert [request.path for request in app.requests].count("/done") == 1

    virtual_time.run(main())


@pytest.mark.parametrize("reply", [Reply(after=3600), Reply(closes=True), Reply(gap=1.0, body=b"[]")])
def test_a_hook_that_hears_of_everything_never_delays_audio(reply: Reply) -> None:
    async def heard(**hooks: Any) -> list[tuple[float, float]]:
        async with House(agent(["hello", "and then?"], ["Yes.", "No."], **hooks)) as house, house.call() as call:
            await two_turns(house, call)
        return call.heard()

    async def main() -> None:
        async with Application(reply) as app:
            alone = await heard()
            assert await heard(eventHook=f"{app.url}/event", actionHook=f"{app.url}/done") == alone
            assert alone

    virtual_time.run(main())


def test_no_address_that_comes_with_a_call_leads_to_this_machine() -> None:
    async def main() -> None:
        async with Application() as trap, Application() as app:
            mine = f"http://127.0.0.1:{trap.port}"
            hostile = {
                "toolHook": f"{mine}/tool",
                "eventHook": {"url": f"{mine}/event", "username": "u", "password": "p"},
                "actionHook": f"ws://127.0.0.1:{trap.port}/done",
                "mcpServers": [{"url": f"{mine}/sse"}],
                "toolFiller": {"type": "audio", "url": f"{mine}/loop.wav"},
            }
            file = with_tools(weather_agent(toolHook=f"{app.url}/tool"))
            async with House(file) as house, house.call(metadata=hostile) as call:
                await two_turns(house, call)
            assert results(house)[0] == "Error: the address of the application is not allowed"
            assert (trap.seen.connections, app.seen.connections) == (0, 0)

    virtual_time.run(main())


# What is told ---------------------------------------------------------------------------------------------


def events_of(app: Application, path: str = "/event") -> list[dict[str, Any]]:
    """Without what every hook is told of the call."""
    common = set(payloads.CALL_INFO.values())
    found = [json.loads(request.body) for request in app.requests if request.path == path]
    return [{key: value for key, value in event.items() if key not in common} for event in found]


def test_the_events_of_a_call_are_told_in_order_and_its_end_once() -> None:
    async def main() -> None:
        async with Application(Reply(after=0.5)) as app:
            hooks: dict[str, Any] = {"eventHook": f"{app.url}/event", "actionHook": f"{app.url}/done"}
            async with House(agent(["hello", "bye"], ["Yes.", "No."], **hooks)) as house, house.call() as call:
                await two_turns(house, call)
        told = events_of(app)
        one = ["user_transcript", "agent_response", "llm_response", "turn_end"]
        assert [event["type"] for event in told] == [*one, *one]
        assert told[3]["response"] == "Yes."
        assert {"at", "turn", "cause", "llm"} & set().union(*told) == set()
        assert events_of(app, "/done") == [
            {"completion_reason": "disconnect from remote end", "completionReason": "disconnect from remote end"}
        ]
        assert app.requests[-1].path == "/done"

    virtual_time.run(main())


def test_over_its_socket_the_application_hears_the_same() -> None:
    async def main() -> None:
        async with SocketApplication(next_verbs=[{"verb": "hangup"}]) as app:
            hooks: dict[str, Any] = {"eventHook": "/agent-event", "actionHook": "/agent-complete", "app": "desk"}
            async with (
                House(agent(["hello"], ["Yes."], **hooks), apps={"desk": app.url}, events={"names": "sdk"}) as house,
                house.call() as call,
            ):
                await house.turn(call)
                call.hang_up()
            told = app.of("agent:event")
            (done,) = app.of("verb:hook")
            (status,) = app.of("call:status")
        assert [message["data"]["type"] for message in told] == ["user_transcript", "llm_response", "turn_end"]
        assert {message["hook"] for message in told} == {"/agent-event"}
        assert (done["hook"], done["data"]["completionReason"]) == ("/agent-complete", "disconnect from remote end")
        assert done["data"]["from"] == "+15551230001"
        assert status["data"]["call_status"] == "completed"

    virtual_time.run(main())


def test_a_call_that_cannot_begin_is_told_to_the_application_as_well() -> None:
    async def main() -> None:
        async with Application() as app:
            made = agent(actionHook=f"{app.url}/done").given()
            made["tts"] = {"vendor": "cartesia"}
            async with House(type(agent()).parse(made)) as house, house.call() as call:
                await call.until(lambda: call.closed)
        (told,) = events_of(app, "/done")
        assert (told["completion_reason"], told["error"]["code"]) == ("server error", "tts-no-credentials")

    virtual_time.run(main())


# What the application wants -------------------------------------------------------------------------------


def test_the_application_answers_the_call_with_its_agent() -> None:
    async def main() -> None:
        verb = {
            "verb": "agent",
            "greeting": "Hello from the application.",
            "llm": {"llmOptions": {"messages": [{"role": "system", "content": "You are brief."}]}},
        }
        async with SocketApplication([verb]) as app:
            async with (
                House(agent(["hello"], ["Yes."], app="desk"), apps={"desk": app.url}) as house,
                house.call() as call,
            ):
                await call.until(lambda: house.entries("turn_end"))
                await house.turn(call)
                call.hang_up()
            (new,) = app.of("session:new")
        assert house.said[0] == "Hello from the application."
        assert house.prompts[-1].messages[0].content == "You are brief."
        assert new["data"]["account_sid"] == "acc00000-0000-4000-8000-000000000001"

    virtual_time.run(main())


@pytest.mark.parametrize("answers", [False, True], ids=["nobody is there", "it is silent"])
def test_without_its_application_a_call_has_the_agent_of_its_file(answers: bool) -> None:
    async def main() -> None:
        async with SocketApplication() as app:
            app.silent.add("session:new")
            url = app.url if answers else "ws://127.0.0.1:9/"
            made = weather_agent(toolHook="/tool", eventHook="/event", actionHook="/done", app="desk")
            async with House(with_tools(made), apps={"desk": url}) as house, house.call() as call:
                await two_turns(house, call)
        assert [turn["response"] for turn in house.entries("turn_end")][-1] == "You are welcome."
        assert results(house)[0] == "Error: the connection to the application is closed"

    virtual_time.run(main())


@pytest.mark.parametrize(
    "form", [{"type": "agent:update"}, {"type": "command", "command": "agent:update"}, {"type": "pipeline:update"}]
)
def test_the_application_may_change_the_conversation(form: Mapping[str, Any]) -> None:
    async def main() -> None:
        async with (
            SocketApplication() as app,
            House(agent(["hello"], ["Yes.", "There is a sale."], app="desk"), apps={"desk": app.url}) as house,
            house.call() as call,
        ):
            await house.turn(call)
            await app.say({**form, "data": {"type": "generate_reply", "user_input": "Tell them of the sale."}})
            await call.until(lambda: len(house.entries("turn_end")) == 2)
            call.hang_up()
        assert house.entries("turn_end")[-1]["response"] == "There is a sale."
        assert house.prompts[-1].messages[-1].content == "Tell them of the sale."

    virtual_time.run(main())


@pytest.mark.parametrize(
    "message",
    [
        {"type": "agent:update", "data": {"type": "no such thing"}},
        {"type": "command", "command": "whisper", "data": {}},
        {"type": "command", "command": "noiseIsolation:status", "data": "on"},
    ],
)
def test_what_the_application_may_not_want_is_said_and_changes_nothing(
    message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with (
            SocketApplication() as app,
            House(agent(["hello"], ["Yes."], app="desk"), apps={"desk": app.url}) as house,
            house.call() as call,
        ):
            await call.play(0.5)
            await app.say(message)
            await house.turn(call)
            call.hang_up()
        assert house.entries("turn_end")[-1]["response"] == "Yes."

    virtual_time.run(main())
    (line,) = (record for record in caplog.records if record.message == "command of the application ignored")
    assert line.command in ("agent:update", "whisper", "noiseIsolation:status")  # type: ignore[attr-defined]


# A human --------------------------------------------------------------------------------------------------

PUT_THROUGH: list[Any] = [
    {"tools": [{"name": "transfer_to_human", "arguments": {"summary": "Ada, about her bill."}}], "text": "One moment."},
    "I am sorry, nobody can be reached.",
]
HANDOFF = {"mode": "warm", "target": [{"type": "phone", "number": "+15085551234"}]}


def test_the_call_is_handed_to_jambonz_once_what_is_being_said_was_heard() -> None:
    async def main() -> None:
        async with Application(Reply(202)) as api:
            jambonz = {"url": f"{api.url}/api/", "api_key": "k-canary"}
            async with (
                House(agent(["a human, please"], PUT_THROUGH, handoff=HANDOFF), jambonz=jambonz) as house,
                house.call() as call,
            ):
                await house.speaking(call, 0.1)
                await call.until(lambda: call.closed)
            (request,) = api.requests
            (heard,) = call.heard()
            assert api.times[0] - call._started >= heard[1] - 0.1
        assert (request.method, request.headers["authorization"]) == ("PUT", "Bearer k-canary")
        assert request.path == (
            "/api/v1/Accounts/acc00000-0000-4000-8000-000000000001/Calls/c0ffee00-0000-4000-8000-000000000001"
        )
        assert request.json() == {"transfer": {**HANDOFF, "brief": {"text": "Ada, about her bill."}}}
        assert house.entries("call_ended")[-1]["completion_reason"] == "normal conversation end"

    virtual_time.run(main())


def test_a_transfer_that_jambonz_refuses_is_told_to_the_model_and_the_talk_goes_on() -> None:
    async def main() -> None:
        async with Application(Reply(500)) as api:
            jambonz = {"url": f"{api.url}/api", "api_key": "k-canary"}
            async with (
                House(agent(["a human, please"], PUT_THROUGH, handoff=HANDOFF), jambonz=jambonz) as house,
                house.call() as call,
            ):
                turn = await house.turn(call)
                call.hang_up()
        assert results(house) == ["Error: jambonz refused to transfer the call: HTTP 500"]
        assert turn["response"] == "One moment. I am sorry, nobody can be reached."

    virtual_time.run(main())


def test_where_nobody_could_transfer_the_call_the_tool_is_not_offered() -> None:
    async def main() -> None:
        async with House(agent(["a human, please"], ["Alas."], handoff=HANDOFF)) as house, house.call() as call:
            await house.turn(call)
            call.hang_up()
        assert house.prompts[-1].tools == ()

    virtual_time.run(main())


def test_nothing_is_left_running_of_a_call_with_an_application() -> None:
    async def main() -> None:
        async with SocketApplication() as app:
            house = House(agent(["hello"], ["Yes."], app="desk", eventHook="/event"), apps={"desk": app.url})
            before = asyncio.all_tasks()
            async with house.call() as call:
                await house.turn(call)
                call.hang_up()
            await asyncio.sleep(1)
            left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not left & {"hooks", "application", "application-hook"}, left
        assert app.closed == [1000]

    virtual_time.run(main())
