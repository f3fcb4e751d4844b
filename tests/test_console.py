"""The console at the server: its files, what they may do in a browser, and who is shown what without a key."""

import asyncio
import base64
import json
import logging
import re
from importlib import resources
from typing import Any

import httpx
import pytest

from agentd.access import FAILURES, KEY_PROTOCOL
from agentd.ops.wordless import wordless
from tests import virtual_time
from tests.jambonz import FakeJambonz, Refused
from tests.jambonz import metadata as info
from tests.whole_call import House, agent

ACCOUNT, SID = info()["accountSid"], info()["callSid"]
CALL = f"/v1/Accounts/{ACCOUNT}/Calls/{SID}"
SECRET = "a secret of thirty-two characters"
PAGE = {"sec-fetch-site": "same-origin"}  # what a browser adds to whatever a page asks
OWN = {**PAGE, "call-secret": SECRET}
NAMED: dict[str, Any] = {
    "access": {"keys": [{"key": "k"}, {"key": "desk only", "agents": ["desk"]}, {"key": "ours", "accounts": ["a1"]}]}
}
UPDATE = {"agent_update": {"type": "generate_reply", "user_input": "What about the parking?"}}
FILES = {path.name: path.read_text() for path in resources.files("agentd.console").joinpath("page").iterdir()}


def a_house(**server: Any) -> House:
    return House(agent(["my secret word"] * 5, ["A secret answer."] * 5), **server)


def browser(house: House, headers: dict[str, str] = PAGE) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(house.app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080", headers=headers)


def key(text: str) -> dict[str, str]:
    return {**PAGE, "authorization": f"Bearer {text}"}


def packed(text: str) -> str:
    return KEY_PROTOCOL + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


# The files -----------------------------------------------------------------------------------------------


def test_the_page_and_its_files_come_with_a_policy_that_lets_nothing_else_in() -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house) as page:
            first = await page.get("/")
            assert first.headers["content-type"] == "text/html; charset=utf-8"
            assert first.text == FILES["index.html"]
            policy = dict(part.strip().split(" ", 1) for part in first.headers["content-security-policy"].split(";"))
            assert policy["default-src"] == "'none'"
            assert {policy[name] for name in ("script-src", "style-src", "connect-src", "img-src")} == {"'self'"}
            assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
            assert "unsafe" not in first.headers["content-security-policy"]
            assert first.headers["x-content-type-options"] == "nosniff"
            again = await page.get("/", headers={"if-none-match": first.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            for name in FILES:
                answer = await page.get(f"/console/{name}")
                assert (answer.status_code, answer.text) == (200, FILES[name])
            for path in ("/console/", "/console/routes.py", "/console/..%2froutes.py", "/console/page/index.html"):
                assert (await page.get(path)).status_code == 404

    virtual_time.run(main())


def test_the_page_asks_nobody_but_its_own_server() -> None:
    for name, text in FILES.items():
        hosts = set(re.findall(r"(?:https?|wss?)://[^\s\"'`)]*", text))
        assert hosts <= {"http://www.w3.org/2000/svg", "${location.host}/listen/${encodeURIComponent(this.agent)}"}, (
            name
        )
        assert "innerHTML" not in text and "eval(" not in text, name  # what comes from a call never becomes markup


def test_every_file_that_the_page_names_is_there() -> None:
    for name, text in FILES.items():
        named = re.findall(r"/console/([\w.-]+)", text) + re.findall(r'from "\./([\w.-]+)"', text)
        assert set(named) <= FILES.keys(), name
    ids = set(re.findall(r'\bid="([\w-]+)"', FILES["index.html"]))
    for name, text in FILES.items():
        assert set(re.findall(r'\$\("([\w-]+)"\)', text)) <= ids, name


def test_whoever_wants_no_console_has_none() -> None:
    house = a_house(console=False)

    async def main() -> None:
        async with browser(house) as page:
            for path in ("/", "/console/main.js", "/v1/console"):
                assert (await page.get(path)).status_code == 404

    virtual_time.run(main())


# Where nobody is named -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [PAGE, {"x-requested-with": "agentd-console"}], ids=["the browser's", "its own"])
def test_a_page_without_a_key_may_phone_and_look_on(mark: dict[str, str]) -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house, mark) as page, house.call(headers={"origin": "http://localhost:8080"}) as call:
            await call.until(lambda: len(house.node.calls))
            about = (await page.get("/v1/console")).json()
            assert (about["may_know"], [each["name"] for each in about["agents"]]) == (False, ["demo"])
            (shown,) = (await page.get("/v1/calls")).json()
            assert (shown["call_sid"], shown["agent"], shown["state"]) == (SID, "demo", "listening")
            for found in (shown, (await page.get(CALL)).json()):
                assert found.keys().isdisjoint({"from", "to", "caller_name"})
            assert (await page.get(f"/v1/Accounts/{ACCOUNT}/Calls", params={"from": "+15551230001"})).json() == []

    virtual_time.run(main())


def test_a_page_without_a_key_changes_nothing() -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house) as page, house.call() as call:
            await call.until(lambda: len(house.node.calls))
            for refused in (await page.put(CALL, json=UPDATE), await page.delete(CALL)):
                assert refused.status_code == 401
                assert refused.json() == {"msg": "expected the console's key, or the secret of the call"}
            assert len(house.node.calls) == 1 and house.prompts == []

    virtual_time.run(main())


async def told_of_a_turn(house: House, headers: dict[str, str], **metadata: Any) -> str:
    """What a page is told of a call in which something was said and a key was pressed, from beginning to end."""
    async with browser(house, headers) as page, house.call(metadata=info(**metadata)) as call:
        await call.until(lambda: len(house.node.calls))
        following = asyncio.create_task(page.get(f"/v1/calls/{SID}/events"))
        await house.turn(call)
        call.dtmf("4")
        await call.until(lambda: house.entries("dtmf"))
        call.hang_up()
        return (await following).text


@pytest.mark.parametrize("is_known", [True, False])
def test_words_are_for_who_has_the_consoles_key(is_known: bool) -> None:
    house = a_house()
    headers = key(house.node.console_key) if is_known else PAGE
    told = virtual_time.run(told_of_a_turn(house, headers))
    assert ("secret" in told) is is_known
    assert ("+15551230001" in told) is is_known
    assert ('"digit": "4"' in told) is is_known
    assert '"total_ms"' in told and "speaking" in told  # where the time went is no secret
    assert told.rstrip().endswith("event: end\ndata: {}") and "call_ended" in told


def test_whoever_makes_a_call_by_the_page_sees_and_changes_it() -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house, OWN) as page, house.call(metadata=info(callSecret=SECRET)) as call:
            await call.until(lambda: len(house.node.calls))
            assert (await page.get(CALL)).json()["from"] == "+15551230001"
            assert (await page.put(CALL, json=UPDATE)).status_code == 202
            await call.until(lambda: house.prompts)
            for wrong in (b"", SECRET[:-1].encode(), SECRET.encode() + b"\xe9"):
                strange = {**{name.encode(): value.encode() for name, value in PAGE.items()}, b"call-secret": wrong}
                assert (await page.delete(CALL, headers=strange)).status_code == 401
            assert (await page.delete(CALL)).status_code == 204

    virtual_time.run(main())


def test_the_secret_of_a_call_is_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    house = a_house()
    told = virtual_time.run(told_of_a_turn(house, key(house.node.console_key), callSecret=SECRET))
    assert SECRET not in told

    async def main() -> None:
        known = key(house.node.console_key)
        async with browser(house, known) as page, house.call(metadata=info(callSecret=SECRET)) as call:
            await call.until(lambda: len(house.node.calls))
            shown = (await page.get("/v1/calls")).text + (await page.get(CALL)).text
            assert shown.count(SID) == 4 and SECRET not in shown

    virtual_time.run(main())
    assert SID in caplog.text and SECRET not in caplog.text and house.node.console_key not in caplog.text


def test_a_call_without_a_secret_is_nobodys_own() -> None:
    house = a_house()

    async def main() -> None:
        for brought in ({}, {"callSecret": "too short"}, {"callSecret": 5}):
            secret = {**PAGE, "call-secret": str(brought.get("callSecret", ""))}
            async with browser(house, secret) as page, house.call(metadata=info(**brought)) as call:
                await call.until(lambda: len(house.node.calls))
                assert (await page.delete(CALL)).status_code == 401
                call.hang_up()

    virtual_time.run(main())


def test_programs_on_this_machine_are_trusted_as_before() -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house, {}) as program, house.call() as call:
            await call.until(lambda: len(house.node.calls))
            assert (await program.get(CALL)).json()["from"] == "+15551230001"
            assert (await program.put(CALL, json=UPDATE)).status_code == 202

    virtual_time.run(main())


def test_a_page_with_a_wrong_key_is_told_so_and_cannot_guess_for_long() -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house, key("a guess")) as page:
            answers = [(await page.get("/v1/console")).status_code for _ in range(FAILURES + 1)]
            assert answers == [*[401] * FAILURES, 429]
            assert (await page.get("/v1/console", headers=key(house.node.console_key))).status_code == 429

    virtual_time.run(main())


def test_a_page_of_another_host_is_let_in_nowhere() -> None:
    house = a_house()

    async def main() -> None:
        async with browser(house, {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}) as page:
            for path in ("/", "/console/main.js", "/v1/console", "/v1/calls"):
                assert (await page.get(path)).status_code == 403

    virtual_time.run(main())


# Where somebody is named ---------------------------------------------------------------------------------


def test_the_page_is_there_for_anybody_but_tells_nothing_without_a_key() -> None:
    house = a_house(**NAMED)

    async def main() -> None:
        async with browser(house) as page:
            assert (await page.get("/")).status_code == (await page.get("/console/main.js")).status_code == 200
            for path in ("/v1/console", "/v1/calls", "/v1/recordings", f"/v1/calls/{SID}/events"):
                assert (await page.get(path)).status_code == 401
                assert (await page.get(path, headers=OWN)).status_code == 401
            assert (await page.get("/v1/console", headers=key(house.node.console_key))).status_code == 401

    virtual_time.run(main())


def test_a_key_shows_the_agents_and_the_account_that_it_is_for() -> None:
    house = a_house(**NAMED)

    async def main() -> None:
        async with browser(house) as page:
            about = (await page.get("/v1/console", headers=key("k"))).json()
            assert (about["may_know"], about["agents"][0]["account"]) == (True, None)
            about = (await page.get("/v1/console", headers=key("ours"))).json()
            assert [(each["name"], each["account"]) for each in about["agents"]] == [("demo", "a1")]
            assert (await page.get("/v1/console", headers=key("desk only"))).json()["agents"] == []

    virtual_time.run(main())


def test_a_page_phones_by_its_key_among_the_subprotocols() -> None:
    house = a_house(**NAMED)

    async def main() -> None:
        async with FakeJambonz(house.app, subprotocols=("audio.jambonz.org", packed("k"))) as call:
            await call.until(lambda: len(house.node.calls))
            assert call.subprotocol == "audio.jambonz.org"  # and the key is not said back

    virtual_time.run(main())


@pytest.mark.parametrize("wrong", [packed("x"), packed("desk only"), KEY_PROTOCOL, KEY_PROTOCOL + "%%%", "agentd.key"])
def test_a_page_with_a_wrong_key_phones_nobody(wrong: str) -> None:
    house = a_house(**NAMED)

    async def main() -> None:
        with pytest.raises(Refused) as refused:
            async with FakeJambonz(house.app, subprotocols=("audio.jambonz.org", wrong)):
                pass
        assert refused.value.status in (401, 403)

    virtual_time.run(main())


def test_the_consoles_key_is_in_no_representation_of_the_server() -> None:
    house = a_house()
    assert house.node.console_key and house.node.console_key not in repr(house.node)


# Entries without words -----------------------------------------------------------------------------------


def test_an_entry_keeps_its_figures_and_loses_every_word_and_number_of_somebody() -> None:
    turn = {
        "at": 1.5,
        "type": "turn_end",
        "transcript": "my secret word",
        "response": "A secret answer.",
        "interrupted": False,
        "confidence": 0.9,
        "latency": {"stt_ms": 320, "preflight": {"result": "hit", "tokens": 12}},
        "tool_calls": [{"name": "get_weather", "rtt_ms": 420}],
        "llm": "openai:gpt-4.1-mini",
        "usage": {"llm": {"openai:gpt-4.1-mini": {"prompt_tokens": 5}}},
        "error": None,
    }
    assert wordless(turn) == {key: turn[key] for key in turn if key not in ("transcript", "response")}


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "partial", "transcript": "secret"},
        {"type": "spoken", "words": [[0.1, "secret"]], "until": 1.0},
        {"type": "prompt", "messages": [{"role": "user", "content": "secret"}], "tools": ["secret"], "kept": 0},
        {"type": "tool_call", "name": "t", "arguments": {"what": "secret"}},
        {"type": "tool_call", "name": "t", "arguments": "secret"},
        {"type": "tool_result", "name": "t", "result": "secret", "rtt_ms": 1},
        {"type": "dtmf", "digit": "secret"},
        {"type": "history_summarized", "summary": "secret"},
        {"type": "call_began", "from": "secret", "to": "secret"},
        {"type": "call_ended", "completion_reason": "no_response", "error": {"message": "secret"}},
        {"type": "a kind of tomorrow", "text": "secret", "deep": {"er": ["secret"]}},
        {"type": "sound", "caller": [-20, "secret"], "agent": [{"x": "secret"}]},
    ],
    ids=lambda entry: str(entry["type"]),
)
def test_no_entry_shows_words(entry: dict[str, Any]) -> None:
    shown = wordless({"at": 0.0, **entry})
    assert shown["type"] == entry["type"]
    assert "secret" not in json.dumps(shown)
