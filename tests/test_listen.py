"""The listen socket: whatever jambonz, or somebody else, sends."""

import asyncio
import json
from typing import Any

import pytest

from agentd.jambonz import outbox
from tests import virtual_time
from tests.jambonz import Call, Closed, FakeJambonz, voice
from tests.whole_call import House, agent, loud, runs, say, spoken


def a_house(**options: Any) -> House:
    return House(agent(["hello"] * 5, ["Yes, I am here."], **options))


async def next_call_is_served(house: House) -> None:
    async with house.call() as call:
        assert (await house.turn(call))["response"] == "Yes, I am here."
    assert len(house.node.calls) == 0
    assert len(asyncio.all_tasks()) == 1  # this one


# What jambonz sends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["mono", "mixed", "stereo"])
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 32000, 48000])
@pytest.mark.parametrize(("frames", "odd"), [(1, False), (3, True)])
def test_callers_are_heard_at_every_rate_and_mix_and_frame_length(rate: int, mix: str, frames: int, odd: bool) -> None:
    house = a_house(bargeIn={"enable": False})

    async def main() -> None:
        async with house.call(
            sample_rate=rate, mix_type=mix, frames_per_message=frames, odd_bytes=odd, playback_rate=8000
        ) as call:
            assert (await house.turn(call))["response"] == "Yes, I am here."
            assert [run.length for run in runs(call.media.recording)] == [spoken("Yes, I am here.")]

    virtual_time.run(main())


@pytest.mark.parametrize("size", [1, 7, 319, 321, 5000])
def test_frames_may_have_any_length(size: int) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            call.pause()
            pcm = voice(0.6) + bytes(16000)
            for at in range(0, len(pcm), size):
                call.send(pcm[at : at + size])
            await call.until(lambda: house.entries("turn_end"))

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["audio.drachtio.org"], "audio.drachtio.org"),
        (["audio.jambonz.org"], "audio.jambonz.org"),
        (["chat", "audio.jambonz.org"], "audio.jambonz.org"),
        (["chat"], None),
        ([], None),
    ],
)
def test_the_subprotocol_that_was_offered_is_chosen(offered: list[str], chosen: str | None) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(subprotocols=offered) as call:
            assert call.subprotocol == chosen
            await house.turn(call)

    virtual_time.run(main())


def test_keys_are_logged() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            await call.play(0.1)
            for digit in "5#":
                call.dtmf(digit)
            await call.play(0.1)

    virtual_time.run(main())
    assert [entry["digit"] for entry in house.entries("dtmf")] == ["5", "#"]


def test_the_rates_of_both_directions_are_independent() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(sample_rate=16000, playback_rate=8000) as call:
            await house.turn(call)
            assert [run.length for run in runs(call.media.recording)] == [spoken("Yes, I am here.")]

    virtual_time.run(main())


@pytest.mark.parametrize("how", ["hang_up", "drop", "announce_shutdown"])
def test_the_end_of_the_socket_is_the_end_of_the_call(how: str) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call)
            getattr(call, how)()
            await call.play(0.1)
            assert len(house.node.calls) == 0
        await next_call_is_served(house)

    virtual_time.run(main())
    assert [entry["completion_reason"] for entry in house.logs[0].entries if entry["type"] == "call_ended"] == [
        "disconnect from remote end"
    ]


def test_a_reply_that_is_held_goes_on_when_no_more_audio_comes() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            await call.until(lambda: call.is_audible)
            call.say(voice(0.2))
            await call.until(lambda: house.entries("hold"))
            call.pause()
            held = call.now
            await call.until(lambda: house.entries("resume"))
            assert call.now - held == pytest.approx(3.0, abs=0.05)
            await call.until(lambda: house.entries("turn_end"))
            assert sum(run.length for run in runs(call.media.recording)) == spoken("Yes, I am here.")

    virtual_time.run(main())


# What it would not send ----------------------------------------------------------------------------------


def first(**metadata: Any) -> str:
    return json.dumps({"callSid": "c1", "sampleRate": 8000, "mixType": "mono"} | metadata)


RATES = "8000, 16000, 24000, 32000, 48000 (Hz)"


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        (
            "hello",
            1008,
            "expected the call's metadata as JSON, got text that is not: expecting value, at character 0",
        ),
        (
            "",
            1008,
            "expected the call's metadata as JSON, got text that is not: expecting value, at character 0",
        ),
        ("[]", 1008, "expected the call's metadata as a JSON object, got a list"),
        ("null", 1008, "expected the call's metadata as a JSON object, got null"),
        (first(padding="a" * 65_536), 1009, "expected metadata of at most 16384 bytes, got 65607"),
        (first(sampleRate=0), 1008, f"expected sampleRate to be one of {RATES}, got 0"),
        (first(sampleRate="abc"), 1008, f"expected sampleRate to be one of {RATES}, got 'abc'"),
        (first(sampleRate=None), 1008, f"expected sampleRate to be one of {RATES}, got None"),
        (first(sampleRate=[8000]), 1008, f"expected sampleRate to be one of {RATES}, got a list"),
        (first(sampleRate=1e400), 1008, f"expected sampleRate to be one of {RATES}, got inf"),
        (first(mixType="5.1"), 1008, "expected mixType to be one of mono, mixed, stereo, got '5.1'"),
        (first(mixType=["mono"]), 1008, "expected mixType to be one of mono, mixed, stereo, got a list"),
        (first(mixType="\ud800"), 1008, "expected mixType to be one of mono, mixed, stereo, got '\\ud800'"),
        (first(callSid=5), 1008, "expected callSid to be text, got a number"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_metadata_that_makes_no_call_is_refused_with_a_reason(text: str, code: int, reason: str) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata=text) as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed("agentd", code, reason)
        await next_call_is_served(house)

    virtual_time.run(main())


def test_metadata_that_is_nested_too_deep_is_refused() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata=None) as call:
            call.line.send('{"a":' + "[" * 15_000)
            await call.until(lambda: call.closed)
            assert call.closed == Closed(
                "agentd", 1008, "expected the call's metadata as JSON, got text that is not: it is nested too deep"
            )
        await next_call_is_served(house)

    virtual_time.run(main())


def test_audio_before_the_metadata_is_refused() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata=None) as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed(
                "agentd", 1008, "expected the call's metadata as the first message, got 320 bytes of audio"
            )
        await next_call_is_served(house)

    virtual_time.run(main())


def test_no_metadata_is_waited_for_five_seconds() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata=None) as call:
            call.pause()
            assert await call.until(lambda: call.closed) == 5.0
            assert call.closed == Closed("agentd", 1008, "expected the call's metadata within 5 s, got nothing")
        await next_call_is_served(house)

    virtual_time.run(main())


def test_an_unknown_agent_is_refused() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(agent="nope") as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed("agentd", 1008, "expected an agent of demo; got 'nope'")
        await next_call_is_served(house)

    virtual_time.run(main())


@pytest.mark.parametrize("rate", ["0", "abc", "", "44100"])
def test_a_playback_rate_that_jambonz_does_not_know_is_refused(rate: str) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(query={"playback_rate": rate}) as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed(
                "agentd",
                1008,
                f"expected playback_rate to be one of 8000, 16000, 24000, 32000, 48000, 64000 (Hz), got {rate!r}",
            )
        await next_call_is_served(house)

    virtual_time.run(main())


def test_an_unknown_vendor_is_named_with_the_known_ones() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata={"tts": {"vendor": "acme"}}) as call:
            await call.until(lambda: call.closed)
            assert call.closed is not None
            assert call.closed.code == 1011
            assert call.closed.reason.startswith("expected tts vendor to be one of ")
            assert call.closed.reason.endswith("; got 'acme'")
        await next_call_is_served(house)

    virtual_time.run(main())


def test_an_unknown_tool_in_the_metadata_stops_no_call(caplog: pytest.LogCaptureFixture) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata={"tools": ["nope", "calculator"]}) as call:
            await house.turn(call)

    virtual_time.run(main())
    assert [tool.name for tool in house.prompts[0].tools] == ["calculator"]
    assert "tool ignored" in caplog.messages


def test_messages_that_no_model_could_take_are_refused() -> None:
    house = a_house()
    messages = [{"role": "assistant", "tool_calls": [{"id": "a"}]}]

    async def main() -> None:
        async with house.call(metadata={"llm": {"llmOptions": {"messages": messages}}}) as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed(
                "agentd", 1011, "llmOptions.messages: expected tool_calls of {id, function: {name, arguments}}"
            )
        await next_call_is_served(house)

    virtual_time.run(main())


def test_a_vendor_that_crashes_at_the_start_costs_its_call_only(caplog: pytest.LogCaptureFixture) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call(metadata={"tts": {"options": {"character": "abc"}}}) as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed("agentd", 1011, "server failure")
        await next_call_is_served(house)

    virtual_time.run(main())
    assert "listen socket crashed" in caplog.messages


def test_a_detector_that_crashes_costs_its_call_only(caplog: pytest.LogCaptureFixture) -> None:
    house = a_house()

    def crash(frame: bytes) -> bool:
        raise ZeroDivisionError

    async def main() -> None:
        house.node.detector_for = lambda rate: crash
        async with house.call() as call:
            await call.until(lambda: call.closed)
            assert call.closed == Closed("agentd", 1011, "server failure")
        house.node.detector_for = lambda rate: loud
        await next_call_is_served(house)

    virtual_time.run(main())
    assert "listen socket cannot be read" in caplog.messages


@pytest.mark.parametrize(
    "text",
    [
        "garbage",
        "{}",
        "[]",
        "null",
        '{"event": "dtmf"}',
        '{"event": "dtmf", "dtmf": ["5"]}',
        '{"event": "dtmf", "dtmf": "not a digit"}',
        '{"type": "mark"}',
        '{"type": "mark", "data": {"name": 5, "event": "playout"}}',
        "[" * 100_000,
        '"' + "a" * (1 << 20) + '"',
        "9" * 5000,
        "\x00",
    ],
    ids=lambda text: text[:20],
)
def test_text_that_we_do_not_know_is_logged_once_and_the_call_goes_on(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            for _ in range(10):
                call.line.send(text)
                await call.play(0.02)
            assert (await house.turn(call))["response"] == "Yes, I am here."

    virtual_time.run(main())
    assert caplog.messages.count("expected dtmf or a mark, got another text message") == 1
    assert house.entries("dtmf") == []


def test_a_second_socket_takes_the_call_over() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as one:
            await house.speaking(one)
            async with house.call() as other:
                await one.until(lambda: one.closed)
                assert one.closed == Closed("agentd", 1008, "another listen socket took over this call")
                assert len(house.node.calls) == 1
                assert (await house.turn(other))["response"] == "Yes, I am here."
            assert one.received("disconnect") == []  # the close tells more
        await next_call_is_served(house)

    virtual_time.run(main())


def test_audio_faster_than_it_can_be_spoken_ends_the_call() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            for _ in range(200):
                call.send(bytes(16_000))
                await call.play(0.02)
            assert call.closed == Closed("agentd", 1008, "expected audio as fast as it is spoken, got far more")
        await next_call_is_served(house)

    virtual_time.run(main())


def test_a_burst_after_two_seconds_of_silence_is_no_flood() -> None:
    house = a_house()

    async def main() -> None:
        async with house.call() as call:
            await call.play(0.5)
            call.pause()
            await call.play(2.0)
            call.send(bytes(2 * 16_000))
            call.resume()
            assert (await house.turn(call))["response"] == "Yes, I am here."

    virtual_time.run(main())


# A peer that does not read -------------------------------------------------------------------------------


def deaf(call: FakeJambonz) -> asyncio.Event:
    """From now on the far side's sends block, as a full socket does, until the event is set."""
    can_read = asyncio.Event()
    deliver = call.line._on_send  # type: ignore[attr-defined]

    async def block(message: Any) -> None:
        if message["type"] == "websocket.send":
            await can_read.wait()
        await deliver(message)

    call.line._on_send = block  # type: ignore[attr-defined]
    return can_read


def test_a_peer_that_does_not_read_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    house = House(agent(["hello"] * 5, ["Yes, I am here." * 50]))

    async def main() -> None:
        call = house.call()
        deaf(call)
        async with call:
            await say(call)
            at = await call.until(lambda: call.closed, within=60)
            assert call.closed == Closed("agentd", 1013, "our audio is not read")
            assert at < 35
        assert len(house.node.calls) == 0

    virtual_time.run(main())
    assert "peer does not read" in caplog.messages


def test_what_waits_for_a_peer_that_does_not_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "SEND_WAIT", 1000.0)
    house = House(agent(["hello"] * 5, ["Yes, I am here." * 50]))

    async def main() -> None:
        call = house.call()
        deaf(call)
        async with call:
            await say(call)
            at = await call.until(lambda: call.closed, within=60)
            assert call.closed == Closed("agentd", 1013, "our audio is not read")
            assert at == pytest.approx(1.7 + outbox.LIMIT, abs=1.0)
        assert len(house.node.calls) == 0

    virtual_time.run(main())


# Many calls ----------------------------------------------------------------------------------------------


def test_calls_do_not_hear_each_other() -> None:
    house = a_house()

    async def one(call: Call) -> None:
        async with call:
            await call.until(lambda: len(house.logs) == 20)
            await say(call)
            await call.play(4.0)
            assert [run.length for run in runs(call.media.recording)] == [spoken("Yes, I am here.")]

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(one(house.call(metadata={"callSid": f"c{number}"})))
        assert len(house.node.calls) == 0

    virtual_time.run(main())
    for log in house.logs:
        assert [entry["response"] for entry in log.entries if entry["type"] == "turn_end"] == ["Yes, I am here."]
