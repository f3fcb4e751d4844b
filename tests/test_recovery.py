"""A process is killed, and another one goes on with its calls: with what was said, and without a second greeting."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentd.jambonz.saved import saved
from agentd.ops.journal import key_of, records
from agentd.ops.local_bus import LocalBus
from tests import virtual_time
from tests.application import Application
from tests.control import SID, Control
from tests.jambonz import voice
from tests.test_gateway import VERB, audio, token_of
from tests.test_webhook_apps import post
from tests.webhooks import Application as Webhooks
from tests.webhooks import says
from tests.whole_call import House, agent

GREETS = {**VERB, "greeting": {"text": "Hello, this is the desk."}}
REPLIES: list[Any] = ["Noted.", "You are Ada."]
HANGUP = [{"verb": "hangup"}]


def house(url: str, folder: Path, finals: Sequence[Any] = (), replies: Sequence[Any] = REPLIES, **tts: Any) -> House:
    """A process of a server whose journals lie in ``folder``."""
    made = agent(list(finals), list(replies), tts=tts).given()
    defaults = {role: made[role] for role in ("stt", "llm", "tts")}
    return House(agent(), apps={"desk": url}, defaults=defaults, journal={"path": str(folder)})


async def killed(at: House, folder: Path) -> Path:
    """What the process leaves behind when it is killed now."""
    await written(at)
    left = folder.with_name(f"{folder.name}-left")
    shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(folder, left)
    return left


async def written(at: House) -> None:
    assert at.node.journals is not None
    await at.node.journals.written()


async def gone_on(at: House, jambonz: Control, listen: dict[str, Any]) -> dict[str, Any]:
    """Jambonz is back, and says that this listen has ended. The one that is to take its place."""
    assert await jambonz.ask("session:reconnect") == []
    (fresh, *_) = await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
    assert fresh["verb"] == "listen" and token_of(fresh) != token_of(listen)
    return dict(fresh)


def told(at: House) -> list[tuple[str, str]]:
    """Of the last prompt."""
    return [(message.role, message.content) for message in at.prompts[-1].messages]


async def spoke(at: House, call: Any) -> dict[str, Any]:
    """The first turn of a call that goes on."""
    await call.until(lambda: at.entries("turn_end"))
    return at.entries("turn_end")[0]


# What it knows ---------------------------------------------------------------------------------------------


def test_the_agent_speaks_again_knows_what_was_said_and_does_not_greet_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([GREETS], next_verbs=HANGUP) as app:
            async with house(app.url, tmp_path / "a", ["My name is Ada."]) as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await call.until(lambda: at.entries("turn_end"))
                    await at.turn(call)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with (
                house(app.url, left, ["What is my name?"], ["I am back.", "You are Ada."]) as at,
                Control(at.app, "desk") as jambonz,
            ):
                fresh = await gone_on(at, jambonz, listen)
                async with audio(at, fresh) as call:
                    assert (await spoke(at, call))["response"] == "I am back."
                    assert call.now < 1
                    assert told(at) == [
                        ("system", "You are brief."),
                        ("assistant", "Hello, this is the desk."),
                        ("user", "My name is Ada."),
                        ("assistant", "Noted."),
                        (
                            "system",
                            "The line was interrupted for a moment. Say so in a few words and go on where you left "
                            "off. Do not greet the caller again.",
                        ),
                    ]
                    await at.turn(call)
                    assert told(at)[-2:] == [("assistant", "I am back."), ("user", "What is my name?")]
                    call.hang_up()
                assert await jambonz.ask("verb:hook", {"call_sid": SID}, fresh["actionHook"]) == HANGUP
            assert [message["data"]["call_sid"] for message in app.of("session:reconnect")] == [SID]
            assert len(app.of("session:new")) == 1

    virtual_time.run(main())


def test_words_that_were_not_answered_are_answered(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], next_verbs=HANGUP) as app:
            slow = [{"text": "It is red.", "first": 5}]
            async with house(app.url, tmp_path / "a", ["Which?"], slow) as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    call.say(voice(0.6))
                    await call.until(lambda: at.entries("user_transcript"))
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left, [], ["It is red."]) as at, Control(at.app, "desk") as jambonz:
                async with audio(at, await gone_on(at, jambonz, listen)) as call:
                    await spoke(at, call)
                    call.hang_up()
                assert told(at)[1] == ("user", "Which?")
                assert told(at)[2][1].endswith("answer what the caller said last. Do not greet the caller again.")

    virtual_time.run(main())


def test_what_was_being_said_is_known_and_a_tool_that_ran_stays_run(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], tools=lambda name, arguments: "fine", next_verbs=HANGUP) as app:
            asks: list[Any] = [{"tools": [{"name": "look", "arguments": {}}]}, "It is fine outside, I am glad to say."]
            async with house(app.url, tmp_path / "a", ["Weather?"], asks) as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await at.speaking(call)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left, [], ["It is fine."]) as at, Control(at.app, "desk") as jambonz:
                async with audio(at, await gone_on(at, jambonz, listen)) as call:
                    await spoke(at, call)
                    call.hang_up()
                assert [role for role, _ in told(at)] == ["system", "user", "assistant", "tool", "system"]
                assert told(at)[3] == ("tool", "fine")
                assert told(at)[4][1].endswith("of which the caller has heard at most a part: " + asks[1])
            assert len(app.of("agent:tool-call")) == 1

    virtual_time.run(main())


def test_a_tool_that_was_running_is_lost_and_the_model_hears_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], next_verbs=HANGUP) as app:  # which answers no tool
            asks: list[Any] = [{"tools": [{"name": "look", "arguments": {}}]}, "Well."]
            async with house(app.url, tmp_path / "a", ["Weather?"], asks) as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    call.say(voice(0.6))
                    await call.until(lambda: at.entries("tool_call"))
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left) as at, Control(at.app, "desk") as jambonz:
                async with audio(at, await gone_on(at, jambonz, listen)) as call:
                    await spoke(at, call)
                    call.hang_up()
                assert told(at)[3][1].startswith("The result was lost")

    virtual_time.run(main())


def test_updates_of_the_application_hold_for_the_call_that_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], next_verbs=HANGUP) as app:
            async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await call.play(0.1)
                    tool = {"name": "buy", "description": "Buy.", "parameters": {"type": "object", "properties": {}}}
                    for data in (
                        {"type": "update_instructions", "instructions": "Be long."},
                        {"type": "inject_context", "messages": [{"role": "user", "content": "Gold tier."}]},
                        {"type": "update_tools", "tools": [tool]},
                    ):
                        await app.say({"type": "agent:update", "data": data})
                    await call.until(lambda: len(at.entries("update")) == 3)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left) as at, Control(at.app, "desk") as jambonz:
                async with audio(at, await gone_on(at, jambonz, listen)) as call:
                    await spoke(at, call)
                    call.hang_up()
                assert told(at)[:2] == [("system", "Be long."), ("user", "Gold tier.")]
                assert [tool.name for tool in at.prompts[-1].tools] == ["buy"]

    virtual_time.run(main())


def test_an_agent_that_nobody_has_heard_yet_begins_as_it_should(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([GREETS], next_verbs=HANGUP) as app:
            async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                jambonz.send({"type": "call:status", "msgid": "s", "call_sid": SID, "data": {}})
                await app.got("call:status")
                left = await killed(at, tmp_path / "a")
            async with (
                house(app.url, left) as at,
                Control(at.app, "desk") as jambonz,
                audio(at, await gone_on(at, jambonz, listen)) as call,
            ):
                assert (await spoke(at, call))["response"] == "Hello, this is the desk."
                call.hang_up()

    virtual_time.run(main())


def test_a_second_kill_is_survived_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], next_verbs=HANGUP) as app:
            async with house(app.url, tmp_path / "a", ["One."]) as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await at.turn(call)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left, ["Two."], ["Back.", "Yes."]) as at, Control(at.app, "desk") as jambonz:
                listen = await gone_on(at, jambonz, listen)
                async with audio(at, listen) as call:
                    await spoke(at, call)
                    await at.turn(call)
                    left = await killed(at, left)
                    call.hang_up()
            async with house(app.url, left, [], ["Back again."]) as at, Control(at.app, "desk") as jambonz:
                async with audio(at, await gone_on(at, jambonz, listen)) as call:
                    await spoke(at, call)
                    call.hang_up()
                assert [content for _, content in told(at)][1:-1] == ["One.", "Noted.", "Back.", "Two.", "Yes."]

    virtual_time.run(main())


# What comes next -------------------------------------------------------------------------------------------


def test_what_stood_behind_the_agent_stands_behind_the_one_that_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        bye = {"verb": "say", "text": "Bye."}
        async with Application([VERB, bye, VERB]) as app:
            async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
                listen, _, second = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await call.play(0.1)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left) as at, Control(at.app, "desk") as jambonz:
                await jambonz.ask("session:reconnect")
                verbs = await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"])
                assert [verb["verb"] for verb in verbs] == ["listen", "say", "listen"]
                assert token_of(second) not in {token_of(verbs[0]), token_of(verbs[2])}

    virtual_time.run(main())


def test_an_agent_that_had_ended_stays_so_and_what_the_application_wanted_is_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], next_verbs=HANGUP) as app:
            async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await call.play(0.1)
                    call.hang_up()
                left = await killed(at, tmp_path / "a")  # before jambonz has asked what comes behind it
            async with house(app.url, left) as at, Control(at.app, "desk") as jambonz:
                assert await jambonz.ask("session:reconnect") == []
                assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == HANGUP
            assert len(app.of("verb:hook")) == 1

    virtual_time.run(main())


def test_jambonz_that_never_had_the_first_answer_gets_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB]) as app:
            async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
                await jambonz.ask("session:new")
                left = await killed(at, tmp_path / "a")
            async with house(app.url, left) as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:reconnect")
                async with audio(at, listen) as call:
                    await call.play(0.1)
                    call.hang_up()
            assert len(app.of("session:new")) == 1

    virtual_time.run(main())


def test_an_application_that_is_not_found_again_does_not_keep_the_agent_from_speaking(tmp_path: Path) -> None:
    async def main() -> None:
        app = Application([VERB])
        await app.start()
        async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                left = await killed(at, tmp_path / "a")
                call.hang_up()
        await app.stop()
        async with (
            house(app.url, left, ["One."]) as at,
            Control(at.app, "desk") as jambonz,
            audio(at, await gone_on(at, jambonz, listen)) as call,
        ):
            await spoke(at, call)
            await call.play(20)  # it is given up
            await at.turn(call)
            call.hang_up()

    virtual_time.run(main())


# Nothing to go on with -------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["missing", "no JSON", "no records", "another conversation"])
def test_without_a_journal_that_can_be_read_a_call_is_what_the_application_makes_of_it(
    wrong: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil: dict[str, Callable[[Path], object]] = {
        "missing": lambda path: path.unlink(),
        "no JSON": lambda path: path.write_bytes(b"{\n" + path.read_bytes()),
        "no records": lambda path: path.write_text("[1]\n"),
        "another conversation": lambda path: path.write_text(
            path.read_text() + json.dumps({"kind": "turn", "token": "t-1", "messages": []}) + "\n"
        ),
    }

    async def main() -> None:
        async with Application([VERB]) as app:
            async with house(app.url, tmp_path / "a") as at, Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await call.play(0.1)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            spoil[wrong](left / f"{key_of(['desk', SID])}.jsonl")
            caplog.clear()
            async with house(app.url, left) as at, Control(at.app, "desk") as jambonz:
                (fresh,) = await jambonz.ask("session:reconnect")  # that is the application's answer
                assert fresh["verb"] == "listen"
                assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == []
            assert caplog.messages.count("call cannot go on as it was") == 1

    virtual_time.run(main())


def test_a_call_that_has_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            Application([VERB]) as app,
            house(app.url, tmp_path / "a") as at,
        ):
            async with Control(at.app, "desk") as jambonz:
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await call.play(0.1)
                    (journal,) = (tmp_path / "a").iterdir()
                    assert (journal.stat().st_mode & 0o777, (tmp_path / "a").stat().st_mode & 0o777) == (0o600, 0o700)
                    call.hang_up()
            await written(at)
            assert list((tmp_path / "a").iterdir()) == []

    virtual_time.run(main())


# Another process, and the one that has the call lives ------------------------------------------------------


@asynccontextmanager
async def pair(url: str, folder: Path, finals: Sequence[Any]) -> AsyncIterator[tuple[House, House]]:
    """Two workers of one machine."""
    with tempfile.TemporaryDirectory() as bus:
        async with house(url, folder, finals) as one, house(url, folder, finals) as other, AsyncExitStack() as stack:
            for name, at in (("w1", one), ("w2", other)):
                at.node.bus = LocalBus(f"voice1.{name}", bus)
                await stack.enter_async_context(at.app.router.lifespan_context(at.app))
                await at.node.ready.wait()
            yield one, other


def test_jambonz_that_comes_back_to_another_process_is_led_to_the_one_that_has_the_call(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=HANGUP) as app,
            pair(app.url, tmp_path / "a", ["One.", "Two."]) as (one, other),
        ):
            async with Control(one.app, "desk") as lost:
                (listen,) = await lost.ask("session:new")
                async with audio(one, listen) as call:
                    await one.turn(call)
                    lost.line.abort()
                    async with Control(other.app, "desk") as jambonz:
                        assert await jambonz.ask("session:reconnect") == []
                        await one.turn(call)  # it goes on talking where it is
                        await app.say({"type": "command", "command": "tag", "data": {"a": 1}})
                        await jambonz.got(lambda message: message.get("command") == "tag")
                        jambonz.send({"type": "call:status", "msgid": "s", "call_sid": SID, "data": {}})
                        await app.got("call:status")
                        await asyncio.sleep(60)  # both sides show that they are alive
                        call.hang_up()
                        assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == HANGUP
            assert app.of("session:reconnect") == []
            await written(one)
        assert list((tmp_path / "a").iterdir()) == []

    virtual_time.run(main())


def test_a_control_socket_that_broke_without_a_word_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            Application([VERB], next_verbs=HANGUP) as app,
            house(app.url, tmp_path / "a", ["One."]) as at,
            Control(at.app, "desk") as lost,
        ):
            (listen,) = await lost.ask("session:new")
            async with audio(at, listen) as call:
                await call.play(0.1)
                lost.line.close(1005, "")  # which is what uvicorn tells of it
                async with Control(at.app, "desk") as jambonz:
                    assert await jambonz.ask("session:reconnect") == []
                    await at.turn(call)
                    call.hang_up()
                    assert await jambonz.ask("verb:hook", {"call_sid": SID}, listen["actionHook"]) == HANGUP

    virtual_time.run(main())


def test_a_call_whose_process_is_gone_goes_on_where_jambonz_comes_back_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with Application([VERB], next_verbs=HANGUP) as app:
            async with house(app.url, tmp_path / "a", ["One."]) as at, Control(at.app, "desk") as jambonz:
                at.node.bus = LocalBus("voice1.w3", str(tmp_path))
                (listen,) = await jambonz.ask("session:new")
                async with audio(at, listen) as call:
                    await at.turn(call)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with (
                pair(app.url, left, []) as (_, other),
                Control(other.app, "desk") as jambonz,
                audio(other, await gone_on(other, jambonz, listen)) as call,
            ):
                await spoke(other, call)
                call.hang_up()

    virtual_time.run(main())


# Applications by webhook -----------------------------------------------------------------------------------


def test_a_call_by_webhook_goes_on_as_well(tmp_path: Path) -> None:
    import httpx

    def client(at: House) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(at.app, client=("127.0.0.1", 1))
        return httpx.AsyncClient(transport=transport, base_url="http://localhost")

    async def main() -> None:
        async with Webhooks(says([VERB, {"verb": "hangup"}]), says([])) as app:
            async with house(app.url, tmp_path / "a", ["My name is Ada."]) as at, client(at) as jambonz:
                listen, _ = await post(jambonz)
                async with audio(at, listen) as call:
                    await at.turn(call)
                    left = await killed(at, tmp_path / "a")
                    call.hang_up()
            async with house(app.url, left, [], ["I am back."]) as at, client(at) as jambonz:
                fresh, hangup = await post(jambonz, listen["actionHook"], {"call_sid": SID})
                assert (fresh["verb"], hangup["verb"]) == ("listen", "hangup")
                async with audio(at, fresh) as call:
                    assert (await spoke(at, call))["response"] == "I am back."
                    again = await killed(at, left)
                    call.hang_up()
                assert told(at)[1:3] == [("user", "My name is Ada."), ("assistant", "Noted.")]
                assert await post(jambonz, fresh["actionHook"], {"call_sid": SID}) == []
                await asyncio.sleep(61)
                await written(at)
                assert list(left.iterdir()) == []
            async with house(app.url, again, [], ["I am back again."]) as at, client(at) as jambonz:
                fresh, _ = await post(jambonz, fresh["actionHook"], {"call_sid": SID})
                async with audio(at, fresh) as call:
                    assert (await spoke(at, call))["response"] == "I am back again."
                    call.hang_up()
                assert ("assistant", "I am back.") in told(at)

    virtual_time.run(main())


def test_a_journal_names_what_is_needed_to_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            Application([VERB]) as app,
            house(app.url, tmp_path / "a", ["One."]) as at,
            Control(at.app, "desk") as jambonz,
        ):
            (listen,) = await jambonz.ask("session:new")
            async with audio(at, listen) as call:
                await at.turn(call)
                left = await killed(at, tmp_path / "a")
                call.hang_up()
        (journal,) = left.iterdir()
        kept = records(journal.read_bytes())
        assert [record["kind"] for record in kept] == ["call", "answer", "agent", "began", "asked", "answered", "turn"]
        call_ = saved(kept)
        assert (call_.session["call_sid"], call_.has_begun, list(call_.agents)) == (SID, True, [token_of(listen)])

    virtual_time.run(main())


# Real processes --------------------------------------------------------------------------------------------


def test_after_kill_9_every_agent_speaks_again_and_knows_its_caller() -> None:
    run_real(2)


@pytest.mark.nightly
def test_after_kill_9_of_twenty_calls_at_least_nineteen_speak_again_within_five_seconds() -> None:
    run_real(20)


def run_real(calls: int) -> None:
    from tests.victims import BACK, recovered, responses

    async def main() -> None:
        victims, app = await recovered(calls)
        good = [victim for victim in victims if victim.silence is not None and victim.silence <= 5]
        assert len(good) >= 0.95 * calls, [victim.silence for victim in victims]
        for victim in good:
            said = responses(app, victim.sid)
            assert said.count("Hi.") <= 1 and said[said.index(BACK) :] == [BACK, "You are Ada."]

    asyncio.run(main())
