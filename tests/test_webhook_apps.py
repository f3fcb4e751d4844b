"""Applications by webhook behind the gateway: jambonz posts to us, we to the application."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from jambonz_sdk.validator import JambonzValidator

from agentd.outbound import signature
from tests import virtual_time
from tests.control import SESSION, SID
from tests.jambonz import FakeJambonz
from tests.test_gateway import SPEAKS, VERB, WEATHER
from tests.webhooks import Application, Reply, says
from tests.whole_call import House, agent

SORRY = [{"verb": "say", "text": "Not now."}, {"verb": "hangup"}]


@asynccontextmanager
async def behind(app: Application, **more: Any) -> AsyncIterator[tuple[House, httpx.AsyncClient]]:
    """A server with this application, and jambonz's client."""
    made = agent(["How is it?", "Thanks."], SPEAKS).given()
    defaults = {role: made[role] for role in ("stt", "llm", "tts")}
    apps = {"desk": {"url": f"{app.url}/jambonz", "apology": "Not now.", **more}}
    async with House(agent(), apps=apps, defaults=defaults) as house:
        transport = httpx.ASGITransport(house.app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield house, client


async def post(client: httpx.AsyncClient, path: str = "/app/desk", data: Any = SESSION) -> Any:
    answer = await client.post(path, json=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_call_talks_to_the_agent_that_the_webhook_answered_with() -> None:
    async def main() -> None:
        async with Application(says([VERB]), says([{"verb": "hangup"}])) as app, behind(app) as (house, client):
            (listen,) = await post(client)
            assert JambonzValidator().validate_verb(listen) == []
            token = listen["url"].rpartition("/")[2]
            async with FakeJambonz(house.app, agent=token) as call:
                await house.turn(call)
                call.hang_up()
            assert await post(client, listen["actionHook"], {"call_sid": SID}) == [{"verb": "hangup"}]
            assert await post(client, listen["actionHook"], {"call_sid": SID}) == []  # it has ended once
        told = {request.path: request.json() for request in app.requests}
        assert set(told) == {"/jambonz", "/tool-call", "/agent-event", "/agent-complete"}
        assert told["/jambonz"] == SESSION
        assert (told["/tool-call"]["name"], told["/tool-call"]["call_sid"]) == (WEATHER["name"], SID)
        assert [request.path for request in app.requests].count("/agent-complete") == 1
        assert house.entries("turn_end")[-1]["response"] == "It is fine."

    virtual_time.run(main())


def test_hooks_that_are_paths_come_through_here_and_an_agent_behind_them_is_ours_too() -> None:
    async def main() -> None:
        verbs = [
            {"verb": "gather", "actionHook": "/said", "partialResultHook": {"url": "partial", "method": "POST"}},
            {
                "verb": "dial",
                "target": [{"type": "phone", "confirmHook": "/confirm"}],
                "actionHook": "https://x.test/y",
            },
        ]
        async with Application(says(verbs), says({"agent": {}})) as app, behind(app) as (_, client):
            gather, dial = await post(client)
            assert (gather["actionHook"], gather["partialResultHook"]) == (
                "/app/desk/said",
                {"url": "/app/desk/partial", "method": "POST"},
            )
            assert (dial["target"][0]["confirmHook"], dial["actionHook"]) == ("/app/desk/confirm", "https://x.test/y")
            (listen,) = await post(client, gather["actionHook"], {"speech": {}})
            assert listen["verb"] == "listen"
            assert (app.requests[1].path, app.bodies[1]) == ("/said", {"speech": {}})

    virtual_time.run(main())


def test_both_signatures_are_made_and_checked() -> None:
    async def main() -> None:
        async with Application(says([])) as app, behind(app, secret="whsec") as (_, client):
            body = json.dumps(SESSION).encode()
            assert (await client.post("/app/desk", content=body)).status_code == 401
            good = signature.sign("whsec", body, time.time())
            for header, status in ((good, 200), (signature.sign("other", body, time.time()), 401)):
                answer = await client.post("/app/desk", content=body, headers={signature.HEADER: header})
                assert answer.status_code == status
            (request,) = app.requests
            given = request.headers["jambonz-signature"]
            assert signature.is_genuine(given, request.body, ["whsec"], time.time())

    virtual_time.run(main())


def test_jambonz_may_ask_for_the_variables_of_the_application() -> None:
    async def main() -> None:
        variables = {"OPENAI_MODEL": {"type": "string", "default": "gpt-4.1-mini"}}
        async with Application(says(variables)) as app, behind(app) as (_, client):
            answer = await client.options("/app/desk")
            assert (answer.status_code, answer.json()) == (200, variables)
            assert [request.method for request in app.requests] == ["OPTIONS"]

    virtual_time.run(main())


@pytest.mark.parametrize(
    "reply",
    [
        Reply(500),
        Reply(body=b"<html>Oops</html>", content_type="text/html"),
        Reply(after=30),
        Reply(closes=True),
        Reply(302, headers={"location": "http://127.0.0.1:9/"}),
        Reply(body=b"[" + b" " * (300 << 10) + b"]"),
        says([{"text": "no verb"}]),
        Reply(body=b'[{"verb": "say", "x": ' + b"[" * 500 + b"]" * 500 + b"}]"),
    ],
    ids=["500", "HTML", "after 30 s", "nothing", "a redirect", "300 KiB", "verbs that are none", "deep"],
)
def test_an_application_that_does_not_say_what_to_do_is_excused(reply: Reply) -> None:
    async def main() -> None:
        async with Application(reply) as app, behind(app) as (_, client):
            assert await post(client) == SORRY

    virtual_time.run(main())


@pytest.mark.parametrize("reply", [Reply(500), Reply(after=30)], ids=["500", "after 30 s"])
@pytest.mark.parametrize("is_begun", [True, False], ids=["an agent has ended", "a listen never came"])
def test_an_application_that_does_not_say_what_is_next_is_excused(is_begun: bool, reply: Reply) -> None:
    async def main() -> None:
        async with Application(says([{**VERB, "eventHook": None}]), reply) as app, behind(app) as (house, client):
            (listen,) = await post(client)
            if is_begun:
                async with FakeJambonz(house.app, agent=listen["url"].rpartition("/")[2]) as call:
                    await call.play(0.1)
                    call.hang_up()
                    assert await post(client, listen["actionHook"], {"call_sid": SID}) == SORRY
            else:
                assert await post(client, listen["actionHook"], {"call_sid": SID}) == SORRY
                assert app.bodies[-1]["completion_reason"] == "connection failure"
            assert [request.path for request in app.requests] == ["/jambonz", "/agent-complete"]

    virtual_time.run(main())


def test_what_is_no_application_by_webhook_is_said() -> None:
    async def main() -> None:
        async with Application() as app, behind(app) as (_, client):
            assert (await client.post("/app/other", json=SESSION)).status_code == 404
            assert (await client.post("/app/desk", content=b"x" * (300 << 10))).status_code == 413

    virtual_time.run(main())
