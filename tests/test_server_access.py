"""Who may come in, at the server itself: every route, the socket's upgrade, and what `agentd serve` makes of it."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute

from agentd.access import FAILURES, PAGE, PUBLIC
from agentd.server import Server
from tests import virtual_time
from tests.command import code_of
from tests.jambonz import AsgiLine, Call, Closed, FakeJambonz, Refused, dial
from tests.whole_call import House, agent

ACCOUNT = "acc00000-0000-4000-8000-000000000001"
BOTH: dict[str, Any] = {
    "listen": [
        {"username": "jambonz", "password": "word"},
        {"username": "other", "password": "agent", "agents": ["desk"]},
        {"username": "other", "password": "account", "accounts": ["none of ours"]},
        {"username": "ours", "password": "account", "accounts": [ACCOUNT]},
    ],
    "keys": [{"key": "k"}],
}
BASIC = 'Basic realm="agentd", charset="UTF-8"'


def a_house(access: Any) -> House:
    return House(agent(["hello"] * 5, ["Yes, I am here."]), access=access)


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}


def client(house: House, address: str = "127.0.0.1", **options: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(house.app, client=(address, 40000))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", **options)


async def refusal(call: Call) -> Refused:
    with pytest.raises(Refused) as refused:
        async with call:
            pass
    return refused.value


# Every route ---------------------------------------------------------------------------------------------


def some(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "some", path)


def test_every_route_but_two_and_the_page_wants_credentials_once_any_are_configured() -> None:
    house = a_house(BOTH)
    public = {*PUBLIC, "/", f"{PAGE}{{file}}"}

    async def main() -> None:
        async with client(house) as outside:
            asked = [route for route in house.app.routes if isinstance(route, Route)]
            for route in asked:
                for method in route.methods or ():
                    answer = await outside.request(method, some(route.path))
                    assert (answer.status_code == 401) is (route.path not in public), route
            assert {route.path for route in asked} > public
            for path in ("/nothing", "/livez/", "/healthz/../v1/calls/c/events", "/console"):
                assert (await outside.get(path)).status_code == 401
        sockets = [route for route in house.app.routes if isinstance(route, WebSocketRoute)]
        for socket in sockets:
            line = AsgiLine(house.app, some(socket.path), "", (), {}, "127.0.0.1")
            assert (await refusal(Call(line))).status == 401
        assert len(asked) + len(sockets) == len(house.app.routes)  # there are no routes of another kind

    virtual_time.run(main())


def test_a_refusal_says_what_was_expected() -> None:
    house = a_house(BOTH)

    async def main() -> None:
        async with client(house) as outside:
            answer = await outside.get(f"/v1/Accounts/{ACCOUNT}/Calls", headers={"Authorization": "Bearer wrong"})
            assert answer.json() == {"msg": "expected Authorization: Bearer with a key that is named under access.keys"}
            assert answer.headers["www-authenticate"] == 'Bearer realm="agentd"'
            answer = await outside.get(f"/v1/Accounts/{ACCOUNT}/Calls", headers={"Authorization": "Bearer k"})
            assert (answer.status_code, answer.json()) == (200, [])

    virtual_time.run(main())


@pytest.mark.parametrize("access", [{}, "open"])
def test_without_credentials_rest_is_open_to_whom_the_server_is_open(access: Any) -> None:
    house = a_house(access)

    async def main() -> None:
        for address, status in (("127.0.0.1", 200), ("203.0.113.7", 200 if access else 403)):
            async with client(house, address) as outside:
                assert (await outside.get("/docs")).status_code == status
                assert (await outside.get("/livez")).status_code == 200

    virtual_time.run(main())


# The upgrade ---------------------------------------------------------------------------------------------


def test_without_credentials_a_call_from_elsewhere_is_refused() -> None:
    house = a_house({})

    async def main() -> None:
        refused = await refusal(FakeJambonz(house.app, address="203.0.113.7"))
        assert refused.status == 403

    virtual_time.run(main())


@pytest.mark.parametrize("credentials", [None, "jambonz:wrong", "k:", "other:agent"])
def test_a_call_without_the_right_credentials_is_refused_before_the_socket_opens(credentials: str | None) -> None:
    house = a_house(BOTH)

    async def main() -> None:
        refused = await refusal(house.call(headers=basic(credentials) if credentials else {}))
        assert (refused.status, refused.headers["www-authenticate"]) == (401, BASIC)
        assert b"access.listen" in refused.body
        assert house.logs == []

    virtual_time.run(main())


@pytest.mark.parametrize("credentials", ["jambonz:word", "ours:account"])
def test_a_call_with_the_right_credentials_is_a_call(credentials: str) -> None:
    house = a_house(BOTH)

    async def main() -> None:
        async with house.call(headers=basic(credentials), address="203.0.113.7") as call:
            assert (await house.turn(call))["response"] == "Yes, I am here."

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("credentials", "account"), [("other:account", ACCOUNT), ("ours:account", "another"), ("ours:account", None)]
)
def test_a_call_of_an_account_that_the_credentials_are_not_for_is_closed(credentials: str, account: str | None) -> None:
    house = a_house(BOTH)

    async def main() -> None:
        async with house.call(headers=basic(credentials), metadata={"accountSid": account}) as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed(
                "agentd", 1008, "expected a call of an account that these credentials are for, got one of another"
            )
        assert (house.logs, len(house.node.calls)) == ([], 0)

    virtual_time.run(main())


def test_a_call_without_an_account_belongs_to_the_account_default() -> None:
    house = a_house({"listen": [{"username": "a", "password": "b", "accounts": ["default"]}]})

    async def main() -> None:
        async with house.call(headers=basic("a:b"), metadata={"accountSid": None}) as call:
            await call.play(0.1)
            assert [live.account for live in house.node.calls] == ["default"]

    virtual_time.run(main())


def test_who_guesses_is_put_off_for_a_minute_and_others_are_not() -> None:
    house = a_house(BOTH)

    async def main() -> None:
        guesser, right = "203.0.113.7", basic("jambonz:word")
        for _ in range(FAILURES):
            assert (await refusal(house.call(headers=basic("jambonz:guess"), address=guesser))).status == 401
        refused = await refusal(house.call(headers=right, address=guesser))
        assert (refused.status, refused.headers["retry-after"]) == (429, "60")
        async with client(house, guesser, headers={"Authorization": "Bearer k"}) as outside:
            assert (await outside.get("/docs")).status_code == 429
            assert (await outside.get("/livez")).status_code == 200
        async with house.call(headers=right, address="203.0.113.8") as call:
            await call.play(0.1)
        await asyncio.sleep(60)
        async with house.call(headers=right, address=guesser) as call:
            await call.play(0.1)

    virtual_time.run(main())


def test_a_refused_guess_is_logged_without_what_was_guessed(caplog: pytest.LogCaptureFixture) -> None:
    house = a_house(BOTH)

    async def main() -> None:
        await refusal(house.call(headers=basic("jambonz:canary"), query={"token": "canary"}))
        await refusal(house.call())

    with caplog.at_level(logging.DEBUG, "agentd"):
        virtual_time.run(main())
    assert [(record.message, record.__dict__["door"]) for record in caplog.records] == [("refused", "access.listen")]
    assert "canary" not in "".join(str(record.__dict__) for record in caplog.records)


def test_an_account_cannot_take_over_the_call_of_another() -> None:
    house = a_house("open")

    async def main() -> None:
        async with house.call() as one, house.call(metadata={"accountSid": "another"}) as other:
            await one.until(lambda: len(house.node.calls) == 2)
            assert one.closed is None and other.closed is None

    virtual_time.run(main())


# Over real sockets ---------------------------------------------------------------------------------------


def test_a_real_upgrade_is_refused_with_a_status_and_no_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    house = a_house(BOTH)

    async def main() -> None:
        async with asyncio.timeout(10):
            server = Server(house.node, "127.0.0.1", 0)
            serving = asyncio.create_task(server.serve())
            await server.up()
            url = f"ws://127.0.0.1:{server.port}/listen/demo"
            for headers in ({}, basic("other:agent")):
                refused = await refusal(dial(url, headers=headers))
                assert (refused.status, refused.headers["www-authenticate"]) == (401, BASIC)
            async with dial(url, headers=basic("jambonz:word")) as call:
                await call.play(0.1)
            async with dial(url.replace("ws://", "ws://jambonz:word@")) as call:  # as `agentd call` has them
                await call.play(0.1)
            server.should_exit = True
            await serving

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert caplog.messages == []


def test_a_proxy_on_this_machine_does_not_make_everybody_this_machine() -> None:
    house = a_house({})

    async def main() -> list[int]:
        async with asyncio.timeout(10):
            server = Server(house.node, "127.0.0.1", 0)
            serving = asyncio.create_task(server.serve())
            await server.up()
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as inside:
                headers = [{}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-For": "127.0.0.1, 203.0.113.7"}]
                statuses = [(await inside.get("/docs", headers=some)).status_code for some in headers]
            server.should_exit = True
            await serving
            return statuses

    assert asyncio.run(main()) == [200, 200, 403]


# The commands --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["serve"], ["check"]])
def test_a_host_for_others_without_a_word_on_who_may_come_in_is_a_mistake(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agentd.yaml").write_text("server: {host: 0.0.0.0}\n")
    assert code_of(*command) == 2
    assert capsys.readouterr().err == (
        "agentd.yaml: server.host: expected an address of this machine, such as 127.0.0.1, as nobody is named under "
        "access, got '0.0.0.0'; name who may come in (access: {listen: …, keys: …}), or say that anyone may (access: "
        "open, agentd serve --open)\n"
    )


def test_a_host_on_the_command_line_is_a_mistake_just_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_of("serve", "--host", "0.0.0.0") == 2
    assert capsys.readouterr().err.startswith("--host: expected an address of this machine")


def test_the_verb_says_that_it_needs_a_password_and_not_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agentd.yaml").write_text(
        "access: {listen: [{username: a, password: canary, agents: [desk]}, {username: b, password: canary}]}\n"
    )
    assert code_of("verb", "demo") == 0
    shown = capsys.readouterr().out
    assert '"wsAuth": {\n    "username": "b",\n    "password": "YOUR-PASSWORD"\n  }' in shown
    assert "canary" not in shown


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The line in which `agentd serve` says where it listens."""
    command = [sys.executable, "-m", "agentd", "serve", "--port", "0", *request.param]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        assert process.stderr is not None
        yield next(line for line in process.stderr if "listening" in line)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("served", [["--open"]], indirect=True)
def test_serve_says_where_it_listens_and_who_may_come_in(served: str) -> None:
    assert "listening host=0.0.0.0 who='anyone (access: open)' port=" in served


def test_what_docker_compose_runs_is_open_to_this_machine_only() -> None:
    root = Path(__file__).parent.parent
    text = (root / "docker-compose.yml").read_text() + (root / "deploy" / "Dockerfile").read_text()
    assert 'CMD ["agentd", "serve", "--open"]' in text and 'ports: ["127.0.0.1:8080:8080"]' in text
