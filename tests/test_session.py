"""Verbs of an application that agentd runs itself: a bare listen, and an application that answers session:new."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests import virtual_time
from tests.application import Application
from tests.jambonz import Call
from tests.whole_call import House, agent, say

Verb = dict[str, Any]
HANGUP: Verb = {"verb": "hangup"}
CASCADE: Verb = {
    "verb": "config",
    "ttsStream": {"enable": True},
    "trackTtsPlayout": True,
    "bargeIn": {
        "enable": True,
        "sticky": True,
        "minBargeinWordCount": 1,
        "actionHook": "/speech-detected",
        "input": ["speech"],
    },
}


@asynccontextmanager
async def hosted(
    verbs: Sequence[Any],
    finals: list[Any] = [],  # noqa: B006
    **more: Any,
) -> AsyncIterator[tuple[Application, House, Call]]:
    """A call on a bare listen whose application wants these verbs."""
    async with (
        Application(verbs) as app,
        House(
            agent(finals, ["Yes."], app="desk", **more), apps={"desk": {"url": app.url, "apology": "Sorry."}}
        ) as house,
        house.call() as call,
    ):
        yield app, house, call
        if not call.closed:
            call.hang_up()


def spoken(house: House) -> list[tuple[str, bool]]:
    """What was said by the application itself, as far as it was heard, and whether it was interrupted."""
    return [(entry["text"], entry["interrupted"]) for entry in house.entries("said")]


def command(name: str, data: Any = None, **more: Any) -> dict[str, Any]:
    return {"type": "command", "command": name, "data": data, **more}


def events(app: Application) -> list[str]:
    return [message["data"]["event_type"] for message in app.of("tts:streaming-event")]


# Verbs ----------------------------------------------------------------------------------------------------


def test_verbs_are_run_in_their_order_and_hangup_ends_the_call() -> None:
    async def main() -> None:
        verbs = [
            {"verb": "answer"},
            {"verb": "say", "text": "Welcome."},
            {"verb": "pause", "length": 2},
            {"verb": "say", "text": ["Goodbye."]},
            HANGUP,
            {"verb": "say", "text": "Never."},
        ]
        async with hosted(verbs) as (app, house, call):
            await call.until(lambda: call.closed)
            assert call.received("disconnect") == [{"type": "disconnect"}]
            told = await app.got("call:status")
        assert spoken(house) == [("Welcome.", False), ("Goodbye.", False)]
        first, second = (event.at for event in call.timeline if event.kind == "audible")
        assert second - first >= 2.0 + len("Welcome.") * 0.05
        assert told["data"]["call_status"] == "completed"
        assert house.entries("call_ended")[0]["completion_reason"] == "normal conversation end"

    virtual_time.run(main())


def test_what_is_said_without_an_agent_is_on_the_calls_timeline() -> None:
    async def main() -> None:
        async with hosted([{"verb": "say", "text": "Welcome."}, {"verb": "agent"}]) as (_, house, call):
            await call.until(lambda: house.entries("said"))
            await call.until(lambda: len(house.entries("part")) == 2)
        assert [entry["role"] for entry in house.entries("part")] == ["application", "agent"]
        (heard,), (played,) = house.entries("reply_heard"), house.entries("reply_played")
        assert (heard["reply"], played["reply"]) == (1, 1) and heard["at"] < played["at"]
        assert house.entries("spoken")[0]["words"] == [(0.0, "Welcome.")]

    virtual_time.run(main())


def test_config_names_the_voice_of_what_comes_and_a_say_may_have_its_own() -> None:
    async def main() -> None:
        voice = {"vendor": "scripted", "voice": "Ada"}
        verbs = [
            {"verb": "config", "synthesizer": voice},
            {"verb": "say", "text": "One."},
            {"verb": "say", "text": "Two.", "synthesizer": {**voice, "voice": "Bob"}},
            {"verb": "config", "reset": "synthesizer"},
            {"verb": "say", "text": "<speak>Three <break time='1s'/> four.</speak>"},
            {"verb": "say", "text": "Again.", "loop": 2},
            HANGUP,
        ]
        async with hosted(verbs) as (_, house, call):
            await call.until(lambda: call.closed)
        assert house.said == ["One.", "Two.", "Three four.", "Again.", "Again."]
        assert house.voices == ["Ada", "Bob", None, None, None]

    virtual_time.run(main())


def test_an_agent_between_other_verbs_talks_and_its_action_hook_says_what_comes_next() -> None:
    async def main() -> None:
        verb = {
            "verb": "agent",
            "hangup": True,
            "actionHook": "/over",
            "llm": {"vendor": "scripted", "vendorParams": {"replies": [{"tools": [{"name": "hangup"}]}, "Bye."]}},
        }
        verbs = [{"verb": "say", "text": "Welcome."}, verb, {"verb": "say", "text": "Not this."}]
        async with hosted(verbs, ["goodbye"]) as (app, house, call):
            app.next_verbs = [{"verb": "say", "text": "Rate us."}, HANGUP]
            await call.until(
                lambda: [entry["state"] for entry in house.entries("state")][-2:] == ["ended", "listening"]
            )
            await say(call)
            await call.until(lambda: call.closed)
        asked = app.of("verb:hook")[-1]
        assert (asked["hook"], asked["data"]["completion_reason"]) == ("/over", "normal conversation end")
        assert house.said == ["Welcome.", "Bye.", "Rate us."]
        assert len(app.of("verb:hook")) == 1

    virtual_time.run(main())


def test_a_verb_for_a_telephone_exchange_is_told_as_an_error_and_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        verbs = [{"verb": "dial", "target": []}, {"verb": "say", "text": "Hello."}, HANGUP]
        async with hosted(verbs) as (app, house, call):
            await call.until(lambda: call.closed)
        assert app.of("jambonz:error")[0]["data"] == {
            "msg": "dial is not run",
            "details": "expected a verb that needs no telephone exchange",
            "verb": "dial",
        }
        assert house.said == ["Hello."]

    virtual_time.run(main())
    assert [record.what for record in caplog.records if record.message == "not run"] == ["dial"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "verbs",
    [
        [{"verb": "dial", "target": []}],
        [{"verb": "say", "text": "One moment."}, {"verb": "enqueue", "name": "desk"}],
    ],
)
def test_an_application_that_wants_nothing_that_can_be_done_gets_its_caller_an_apology(verbs: list[Verb]) -> None:
    async def main() -> None:
        async with hosted(verbs) as (_, house, call):
            await call.until(lambda: call.closed)
        assert house.said[-1] == "Sorry."
        assert house.entries("call_ended")[0]["completion_reason"] == "server failure"

    virtual_time.run(main())


def test_a_caller_who_is_left_alone_for_a_minute_hears_an_apology() -> None:
    async def main() -> None:
        async with hosted([{"verb": "say", "text": "Hello."}]) as (_, house, call):
            await call.until(lambda: call.closed, within=90)
            assert 60 < call.now < 65
        assert house.said == ["Hello.", "Sorry."]

    virtual_time.run(main())


def test_an_application_that_goes_away_for_good_gets_its_caller_an_apology() -> None:
    async def main() -> None:
        async with hosted([{"verb": "say", "text": "Hello."}]) as (app, house, call):
            await call.until(lambda: len(house.said) == 1)
            await app.stop()
            app.drop()
            await call.until(lambda: call.closed)
        assert house.said == ["Hello.", "Sorry."]

    virtual_time.run(main())


def test_an_application_that_closes_its_socket_when_all_is_said_ends_the_call() -> None:
    async def main() -> None:
        async with hosted([{"verb": "say", "text": "Hello."}]) as (app, house, call):
            await app.got("session:new")
            await app.close()
            await call.until(lambda: call.closed)
        assert house.said == ["Hello."]
        assert house.entries("call_ended")[0]["completion_reason"] == "normal conversation end"

    virtual_time.run(main())


# What the application wants meanwhile ---------------------------------------------------------------------


def test_a_redirect_replaces_what_is_running_and_a_queued_one_waits_for_it() -> None:
    async def main() -> None:
        async with hosted([{"verb": "say", "text": "A long story that nobody hears to its end."}]) as (
            app,
            house,
            call,
        ):
            await call.until(lambda: call.is_audible)
            await app.say(command("redirect", [{"verb": "say", "text": "Short."}], queueCommand=False))
            await app.say(command("redirect", [{"say": {"text": "Behind it."}}, HANGUP], queueCommand=True))
            await call.until(lambda: call.closed)
        (cut, _), *rest = spoken(house)
        assert len(cut) < 10
        assert rest == [("Short.", False), ("Behind it.", False)]

    virtual_time.run(main())


def test_a_redirect_ends_an_agent_and_its_action_hook_is_told() -> None:
    async def main() -> None:
        async with hosted([{"verb": "agent", "actionHook": "/over", "greeting": "Hello there."}]) as (app, house, call):
            await call.until(lambda: call.is_audible)
            await app.say(command("redirect", [{"verb": "say", "text": "Short."}, HANGUP]))
            await call.until(lambda: call.closed)
        assert house.said == ["Hello there.", "Short."]
        (told,) = app.of("verb:hook")
        assert told["data"]["completion_reason"] == "disconnect from remote end"

    virtual_time.run(main())


def test_a_redirect_to_a_path_asks_that_for_verbs() -> None:
    async def main() -> None:
        async with hosted([{"verb": "redirect", "actionHook": "/next"}]) as (app, house, call):
            app.next_verbs = [{"verb": "say", "text": "Next."}, {"verb": "pause", "length": 9}]
            await call.until(lambda: house.said)
            app.next_verbs = [{"verb": "say", "text": "Last."}, HANGUP]
            await app.say(command("redirect", {"call_hook": "/last"}))
            await call.until(lambda: call.closed)
        assert (app.of("verb:hook")[0]["hook"], app.of("session:redirect")[0]["hook"]) == ("/next", "/last")
        assert house.said == ["Next.", "Last."]

    virtual_time.run(main())


def test_a_tag_is_told_with_every_hook_that_follows() -> None:
    async def main() -> None:
        verbs = [{"verb": "tag", "data": {"tier": "gold"}}, {"verb": "redirect", "actionHook": "/next"}]
        async with hosted(verbs) as (app, _, call):
            app.next_verbs = [HANGUP]
            await call.until(lambda: call.closed)
        assert app.of("verb:hook")[0]["data"]["customerData"] == {"tier": "gold"}

    virtual_time.run(main())


def test_an_application_that_asked_for_it_hears_of_each_verb() -> None:
    async def main() -> None:
        verbs = [{"verb": "config", "notifyEvents": True}, {"verb": "say", "text": "Hi.", "id": "one"}, HANGUP]
        async with hosted(verbs) as (app, _, call):
            await call.until(lambda: call.closed)
        assert [message["data"] for message in app.of("verb:status")] == [
            {"event": "finished", "name": "config"},
            {"event": "starting", "name": "say", "id": "one"},
            {"event": "finished", "name": "say", "id": "one"},
            {"event": "starting", "name": "hangup"},
            {"event": "finished", "name": "hangup"},
        ]

    virtual_time.run(main())


def test_a_completed_call_status_ends_the_call_whatever_is_running() -> None:
    async def main() -> None:
        async with hosted([{"verb": "pause", "length": 500}]) as (app, house, call):
            await call.play(0.5)
            await app.say(command("call:status", {"call_status": "completed"}))
            await call.until(lambda: call.closed)
        assert house.entries("call_ended")[0]["completion_reason"] == "normal conversation end"

    virtual_time.run(main())


# The cascaded agent ---------------------------------------------------------------------------------------


async def stream(app: Application, *texts: str, flush: bool = True) -> None:
    for number, text in enumerate(texts):
        await app.say(command("tts:tokens", {"id": number, "tokens": text}))
    if flush:
        await app.say(command("tts:flush"))


async def greeted(house: House, call: Call) -> None:
    await call.until(lambda: spoken(house))


def test_what_the_caller_says_is_told_and_what_is_streamed_is_heard() -> None:
    async def main() -> None:
        async with hosted([CASCADE, {"verb": "say", "text": "Hi there."}], ["What time is it?"]) as (app, house, call):
            await greeted(house, call)
            await say(call)
            detected = await app.got("verb:hook")
            await stream(app, "It is ", "noon. ", "Is there anything ", "else?")
            await call.until(lambda: len(spoken(house)) == 2)
        assert detected["hook"] == "/speech-detected"
        assert detected["data"]["reason"] == "speechDetected"
        assert detected["data"]["speech"]["is_final"] is True
        assert detected["data"]["speech"]["alternatives"] == [{"transcript": "What time is it?", "confidence": 1.0}]
        assert spoken(house) == [("Hi there.", False), ("It is noon. Is there anything else?", False)]
        assert [message["data"] for message in app.of("tts:tokens-result")] == [
            {"id": number, "status": "ok"} for number in range(4)
        ]
        assert [message["data"] for message in app.of("tts:streaming-event")] == [
            {"event_type": "stream_open"},
            {"event_type": "tts_spoken", "text": "Hi there.", "bargein": False},
            {"event_type": "tts_spoken", "text": "It is noon. Is there anything else?", "bargein": False},
        ]

    virtual_time.run(main())


def test_the_first_sentence_is_heard_while_the_rest_is_still_to_come() -> None:
    async def main() -> None:
        async with hosted([CASCADE]) as (app, house, call):
            await app.got("tts:streaming-event")
            await stream(app, "The first sentence. ", "And", flush=False)
            await call.until(lambda: call.is_audible)
            assert house.said == ["The first sentence. "]

    virtual_time.run(main())


def test_a_second_without_more_tokens_ends_what_is_said() -> None:
    async def main() -> None:
        async with hosted([CASCADE]) as (app, house, call):
            await app.got("tts:streaming-event")
            await stream(app, "No flush", flush=False)
            await call.until(lambda: spoken(house))
        assert spoken(house) == [("No flush", False)]

    virtual_time.run(main())


def test_a_caller_who_interrupts_silences_the_stream_and_the_application_hears_how_far_they_heard() -> None:
    async def main() -> None:
        words: list[Any] = [[{"partial": "Stop", "after": 0.0}, {"final": "Stop that.", "after": 0.2}]]
        async with hosted([CASCADE], words) as (app, house, call):
            await app.got("tts:streaming-event")
            await stream(app, *["One two three four five six seven eight nine ten. "] * 3)
            await call.until(lambda: call.is_audible)
            await call.play(1.0)
            await say(call, 0.2)
            await call.until(lambda: spoken(house))
            assert call.received("killAudio")
            # They were on their way when the caller interrupted: nobody wants to hear them.
            detected = await app.got("verb:hook")
        assert events(app) == ["stream_open", "user_interruption", "tts_spoken"]
        told = app.of("tts:streaming-event")[-1]["data"]
        assert told["bargein"] is True
        assert told["text"].startswith("One two three four")
        assert not told["text"].endswith("ten.")
        assert detected["data"]["speech"]["alternatives"][0]["transcript"] == "Stop that."
        kinds = [message["type"] for message in app.messages if message["type"] in ("verb:hook", "tts:streaming-event")]
        assert kinds[-1] == "verb:hook"

    virtual_time.run(main())


def test_tokens_that_were_sent_before_the_interruption_was_heard_of_are_not_said() -> None:
    async def main() -> None:
        words: list[Any] = [[{"partial": "Stop", "after": 0.0}, {"final": "Stop that.", "after": 1.0}]]
        async with hosted([CASCADE], words) as (app, house, call):
            await app.got("tts:streaming-event")
            await stream(app, *["One two three four five six seven eight nine ten. "] * 3, flush=False)
            await call.until(lambda: call.is_audible)
            call_said = asyncio.ensure_future(say(call, 0.2))
            await call.until(lambda: "user_interruption" in events(app))
            await stream(app, "The rest of it.")
            await call_said
            await app.got("verb:hook")
            await stream(app, "As you wish.")
            await call.until(lambda: len(spoken(house)) == 2)
        assert spoken(house)[-1] == ("As you wish.", False)

    virtual_time.run(main())


def test_cleared_tokens_are_not_said_and_what_is_heard_falls_silent() -> None:
    async def main() -> None:
        async with hosted([CASCADE]) as (app, house, call):
            await app.got("tts:streaming-event")
            await stream(app, "A sentence that is rather long, and of which little is heard.")
            await stream(app, "Another one.")
            await call.until(lambda: call.is_audible)
            await app.say(command("tts:clear"))
            await call.until(lambda: len(spoken(house)) == 2)
            await stream(app, "Something else.")
            await call.until(lambda: len(spoken(house)) == 3)
        assert [len(text) < 30 for text, _ in spoken(house)] == [True, True, True]
        assert spoken(house)[1:] == [("", False), ("Something else.", False)]

    virtual_time.run(main())


def test_more_than_a_thousand_characters_are_refused_until_fewer_than_two_hundred_wait() -> None:
    async def main() -> None:
        sentence = "x" * 98 + ". "
        async with hosted([CASCADE], tts={"character": 0.1}) as (app, house, call):
            await app.got("tts:streaming-event")
            sent = 0
            while "stream_paused" not in events(app):
                await stream(app, sentence, flush=False)
                sent += 1
                await app.got("tts:tokens-result", sent)
            assert app.of("tts:tokens-result")[-1]["data"] == {"id": 0, "status": "failed", "reason": "full"}
            taken = len("".join(house.said))
            assert (sent - 1) * 100 - taken <= 1000 < sent * 100 - taken
            assert "stream_resumed" not in events(app)
            await app.say(command("tts:flush"))
            await call.until(lambda: "stream_resumed" in events(app), within=300)
            assert (sent - 1) * 100 - len("".join(house.said)) < 200

    virtual_time.run(main())


def test_tokens_without_a_stream_are_refused() -> None:
    async def main() -> None:
        async with hosted([{"verb": "pause", "length": 9}]) as (app, house, call):
            await app.got("session:new")
            await stream(app, "Hello.")
            told = await app.got("tts:tokens-result")
            assert (told["data"]["status"], "ttsStream" in told["data"]["reason"]) == ("failed", True)
            call.hang_up()
        assert house.said == []

    virtual_time.run(main())


def test_a_barge_in_that_is_not_sticky_is_told_once() -> None:
    async def main() -> None:
        once = {**CASCADE, "bargeIn": {**CASCADE["bargeIn"], "sticky": False}}
        async with hosted([once, {"verb": "pause", "length": 20}], ["one", "two"]) as (app, _, call):
            await call.play(0.5)
            await say(call)
            await app.got("verb:hook")
            await say(call)
            await call.play(3.0)
            assert len(app.of("verb:hook")) == 1

    virtual_time.run(main())


def test_keys_are_told_where_they_are_wanted_and_verbs_of_the_hook_replace_what_is_running() -> None:
    async def main() -> None:
        keys = {"verb": "config", "bargeIn": {"enable": True, "input": ["digits"], "actionHook": "/keys"}}
        async with hosted([keys, {"verb": "say", "text": "Press one for sales, two for everything else."}]) as (
            app,
            house,
            call,
        ):
            app.next_verbs = [{"verb": "say", "text": "Sales."}, HANGUP]
            await call.until(lambda: call.is_audible)
            call.dtmf("1")
            call.dtmf("#")
            told = await app.got("verb:hook")
            await call.until(lambda: call.closed)
        assert (told["data"]["reason"], told["data"]["digits"]) == ("dtmfDetected", "1")
        assert spoken(house)[-1] == ("Sales.", False)
        assert spoken(house)[0][1] is True

    virtual_time.run(main())


def test_a_say_that_streams_takes_tokens_while_it_runs() -> None:
    async def main() -> None:
        async with hosted([{"verb": "say", "stream": True}, HANGUP]) as (app, house, call):
            await app.got("tts:streaming-event")
            await stream(app, "Streamed.")
            await call.until(lambda: call.closed)
        assert house.said == ["Streamed."]
        assert events(app) == ["stream_open", "stream_closed"]

    virtual_time.run(main())


def test_a_voice_that_fails_is_told_and_the_next_verb_is_run() -> None:
    async def main() -> None:
        verbs = [
            {"verb": "say", "text": "Lost.", "synthesizer": {"vendor": "no such vendor"}},
            {"verb": "say", "text": "Found."},
            HANGUP,
        ]
        async with hosted(verbs) as (app, house, call):
            await call.until(lambda: call.closed)
        assert house.said == ["Found."]
        assert app.of("jambonz:error")[0]["data"]["verb"] == "say"

    virtual_time.run(main())


def test_a_caller_who_hangs_up_leaves_nothing_behind() -> None:
    async def main() -> None:
        before = len(asyncio.all_tasks())
        async with hosted([CASCADE, {"verb": "say", "text": "A long story."}], ["hello"]) as (app, house, call):
            await call.until(lambda: call.is_audible)
            await say(call)
            call.hang_up()
            await app.got("call:status")
        assert len(asyncio.all_tasks()) == before
        assert len(house.node.calls) == 0
        assert house.entries("call_ended")[0]["completion_reason"] == "disconnect from remote end"

    virtual_time.run(main())
