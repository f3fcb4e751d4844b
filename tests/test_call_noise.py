"""Noise isolation in calls: who hears what, the switch in mid-call, and that no sample is lost either way."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentd.call.audio import Framer
from agentd.call.ear import Ear, webrtc_detector
from agentd.call.isolation import asked, isolate_with
from config.conversation import NoiseIsolation
from config.server import Server
from providers.audio_feed import AudioFeed
from providers.base import ProviderError
from providers.noise import choose, rnnoise
from providers.noise.base import Guarded, NoiseSpec
from providers.noise.inplace import InPlace
from providers.noise.rnnoise import RnNoise
from providers.registry import Shared
from providers.scripted import counting
from tests import virtual_time
from tests.command import code_of
from tests.jambonz import Call, voice
from tests.test_noise import Breaks, Late, l16, needs_rnnoise, noise, raises, speech
from tests.test_sender import Line
from tests.whole_call import House, Run, agent, runs, say, spoken
from turn.events import Event, SpeechStarted, SpeechStopped
from turn.speech import Segmenter

TEXT = "This is the first sentence of it. Then comes another one. And here it ends."
LENGTH = spoken(TEXT)


class Mute(Late):
    """Takes everything for noise."""

    def __init__(self, level: float = 100) -> None:
        super().__init__(0, level)

    def process(self, frame: bytes) -> bytes:
        super().process(frame)
        return bytes(len(frame)) if self.level else frame


class Made(list[Any]):
    """Stands in for `rnnoise.make`: what it made, oldest first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, make: Callable[[int, float], Any]) -> None:
        def made(rate: int, level: float) -> Any:
            self.append(make(rate, level))
            return self[-1]

        monkeypatch.setattr(rnnoise, "make", made)


async def switch(house: House, call: Call, **data: Any) -> None:
    """What the application tells the call under way."""
    await call.until(lambda: len(house.node.calls))
    (live,) = house.node.calls
    live.call.noise_isolation(data)


def warnings(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.getMessage(), str(record.__dict__.get("why", "")))
        for record in caplog.records
        if record.levelno >= logging.WARNING
    ]


# What the caller says ---------------------------------------------------------------------------------------


def test_everybody_hears_what_isolation_leaves() -> None:
    heard: list[bytes] = []
    detected: list[bytes] = []
    feed = AudioFeed(8000)

    def detector(frame: bytes) -> bool:
        detected.append(frame)
        return False

    ear = Ear(Framer(8000), detector, Segmenter(), feed, lambda event: None)
    ear.listeners.append(lambda frame, voiced: heard.append(frame))
    ear.isolation = Late(160)
    ear.hear(voice(0.1))

    async def main() -> bytes | Any:
        return await anext(feed)

    left = [bytes(320), *(voice(0.1)[at : at + 320] for at in range(0, 1280, 320))]
    assert heard == detected == left
    assert virtual_time.run(main()) == b"".join(left)


@needs_rnnoise
@pytest.mark.parametrize("rate", [8000, 16000])
def test_steady_noise_is_no_voice_any_more_and_a_voice_is_one(rate: int) -> None:
    def told(pcm: bytes, engine: Any) -> list[Event]:
        events: list[Event] = []
        ear = Ear(Framer(rate), webrtc_detector(rate), Segmenter(), AudioFeed(rate), events.append)
        ear.isolation = engine
        ear.hear(pcm)
        return events

    # A fan: noise below 1 kHz, 20 dB below full scale.
    spectrum = np.fft.rfft(noise(rate, 1.0))
    spectrum[1000 * 4 :] = 0
    fan = np.fft.irfft(spectrum, rate * 4)
    pcm = l16(fan * 3000 / np.sqrt(np.mean(fan**2)))
    assert any(isinstance(event, SpeechStarted) for event in told(pcm, None))
    assert told(pcm[rate * 2 :], None)[-1:] != [SpeechStopped(quiet=0.3)]  # and it never ends
    engine = RnNoise(rate)
    told(pcm[: rate * 2], engine)  # a second to learn what the noise is
    assert told(pcm[rate * 2 :], engine) == []
    words = [event for event in told(l16(speech(rate)), engine) if isinstance(event, SpeechStarted)]
    assert len(words) == 4


def test_an_agent_hears_its_caller_through_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Made(monkeypatch, lambda rate, level: Late(208, level))
    house = House(agent(["hello"], noiseIsolation={"mode": "rnnoise", "level": 70}))

    async def main() -> None:
        async with house.call(sample_rate=16000) as call:
            assert (await house.turn(call))["transcript"] == "hello"

    virtual_time.run(main())
    (engine,) = engines
    assert engine.level == 70 and engine.frames > 0
    assert engine.closed


def test_a_call_without_isolation_makes_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Made(monkeypatch, lambda rate, level: Mute())
    house = House(agent(["hello"]))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    assert engines == []


def test_it_is_switched_in_mid_call(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Made(monkeypatch, lambda rate, level: Mute(level))
    house = House(agent(["hello", "hello"]))

    async def main() -> None:
        async with house.call() as call:
            await switch(house, call, noise_isolation_status="enable", vendor="rnnoise")
            await say(call)
            await call.play(2.0)
            assert len(engines) == 1 and engines[0].frames > 100
            assert not house.entries("turn_end")
            await switch(house, call, noise_isolation_status="disable")
            assert engines[0].closed
            await house.turn(call)
            await switch(house, call, noise_isolation_status="enable")  # as before
            assert len(engines) == 2
            await say(call)
            await call.play(2.0)
            assert len(house.entries("turn_end")) == 1

    virtual_time.run(main())
    assert engines[1].closed


def test_another_level_goes_to_the_engine_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Made(monkeypatch, lambda rate, level: Mute(level))
    house = House(agent(["hello"], noiseIsolation="rnnoise"))

    async def main() -> None:
        async with house.call() as call:
            await switch(house, call, noise_isolation_status="enable", noise_isolation_level=0)
            await house.turn(call)

    virtual_time.run(main())
    assert [engine.level for engine in engines] == [0]


def test_a_missing_engine_is_a_warning_and_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rnnoise, "find_library", lambda: None)
    house = House(agent(["hello"], noiseIsolation="rnnoise"))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)

    virtual_time.run(main())
    ((message, why),) = warnings(caplog)
    assert message == "no noise isolation"
    assert why.endswith("install it with: pip install 'agentd[noise]'")


def test_what_cannot_be_switched_on_leaves_what_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engines = Made(monkeypatch, lambda rate, level: Mute(level))
    house = House(agent([], noiseIsolation="rnnoise"))

    async def main() -> None:
        async with house.call() as call:
            await switch(house, call, noise_isolation_status="enable", vendor="kugelaudio")
            await switch(house, call, noise_isolation_status="enable", level=101)
            await switch(house, call, status="sometimes")
            await call.play(0.1)
            frames = engines[0].frames
            await call.play(0.1)
            assert engines[0].frames > frames

    virtual_time.run(main())
    assert warnings(caplog) == [
        ("no noise isolation", "expected rnnoise or krisp: there is no public engine of this mode"),
        ("noise isolation stays as it is", "level: expected a number from 0 to 100, got 101"),
        ("noise isolation stays as it is", "expected noise_isolation_status enable or disable, got 'sometimes'"),
    ]


@pytest.mark.parametrize("direction", ["read", "write"])
def test_an_engine_that_breaks_is_told_once_and_the_call_goes_on(
    direction: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Made(monkeypatch, lambda rate, level: Breaks(raises, at=10, delay=208))
    house = House(agent(["hello"], [TEXT], noiseIsolation={"mode": "rnnoise", "direction": direction}))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
        assert runs(call.media.recording)[-1] == Run(runs(call.media.recording)[-1].start, 0, LENGTH)

    virtual_time.run(main())
    assert warnings(caplog) == [
        ("noise isolation has failed, audio passes through", "OSError: the model is gone"),
    ]


# What the agent says ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_sample_of_a_reply_is_played_once_and_in_its_place(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Made(monkeypatch, lambda rate, level: Late(208 * rate // 8000))
    house = House(agent(["one", "two"], [TEXT, TEXT], noiseIsolation={"mode": "rnnoise", "direction": "write"}))

    async def main() -> None:
        async with house.call(sample_rate=rate, playback_rate=8000) as call:
            for _ in range(2):
                await house.turn(call)
        assert [(run.first, run.length) for run in runs(call.media.recording)] == [(0, LENGTH), (0, LENGTH)]

    virtual_time.run(main())
    assert [engine.delay for engine in engines] == [208]  # at the rate of our audio, and one for the call


def test_a_reply_that_is_cut_goes_on_at_the_sample_that_was_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    Made(monkeypatch, lambda rate, level: Late(208))
    house = House(agent(["tell me", ""], [TEXT], noiseIsolation={"mode": "rnnoise", "direction": "write"}))

    async def main() -> None:
        async with house.call() as call:
            await house.speaking(call, 1.0)
            call.say(voice(0.8))
            await call.until(lambda: call.received("killAudio"))
            await call.until(lambda: len(house.entries("turn_end")) > 0)
        heard = runs(call.media.recording)
        assert [run.first for run in heard] == [0, *(run.first + run.length for run in heard[:-1])]
        assert sum(run.length for run in heard) == LENGTH

    virtual_time.run(main())


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
@pytest.mark.parametrize("size", [2, 320, 1234, 160000])
def test_pieces_of_any_size_make_one_reply(size: int, rate: int) -> None:
    async def main() -> None:
        line = Line(rate)
        line.sender.isolate(InPlace(Guarded(Late(rate // 40 + 3)), rate))
        for reply in (1, 2):
            pcm = counting(0, 9001)
            for at in range(0, len(pcm), size):
                line.sender.play(reply, pcm[at : at + size])
            line.sender.finish(reply)
            await line.run(1.8)
            assert line.sender.heard(reply) == 9001
        assert line.heard() == [(0, 9001), (0, 9001)]

    virtual_time.run(main())


def test_a_reply_shorter_than_the_delay_is_heard() -> None:
    async def main() -> None:
        line = Line()
        line.sender.open()
        line.sender.isolate(InPlace(Guarded(Late(208)), 8000))
        line.sender.play(1, counting(0, 50))
        line.sender.finish(1)
        await line.run(0.5)
        assert line.heard() == [(0, 50)]

    virtual_time.run(main())


def test_switching_in_the_middle_of_a_reply_loses_and_repeats_nothing() -> None:
    async def main() -> None:
        line = Line()
        pcm = counting(0, 24000)
        line.sender.play(1, pcm[:8000])
        line.sender.isolate(InPlace(Guarded(Late(208)), 8000))
        line.sender.play(1, pcm[8000:24010])
        await line.run(0.7)
        line.sender.isolate(InPlace(Guarded(Late(100)), 8000))
        line.sender.play(1, pcm[24010:32010])
        line.sender.isolate(None)
        line.sender.play(1, pcm[32010:])
        await line.run(0.5)
        line.sender.finish(1)
        line.sender.isolate(InPlace(Guarded(Late(208)), 8000))
        await line.run(3.0)
        assert line.heard() == [(0, 24000)]

    virtual_time.run(main())


def test_a_burst_of_speech_is_isolated_as_it_goes_out() -> None:
    async def main() -> None:
        line, engine = Line(), Late(208)
        line.sender.isolate(InPlace(Guarded(engine), 8000))
        line.sender.play(1, counting(0, 8000 * 15))
        assert engine.frames <= 40  # 0.8 s: what may go out, and what follows it
        line.sender.play(1, counting(8000 * 15, 8000 * 10))
        waits = line.sender.room()
        with pytest.raises(StopIteration):
            await line.run(6.0)
            waits.send(None)  # 25 s were too much; 19 s are not
        assert engine.frames < 6.4 * 50 + 20
        await line.run(12.0)

    virtual_time.run(main())


@needs_rnnoise
@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_rnnoise_gives_as_many_samples_as_were_spoken(rate: int) -> None:
    async def main() -> None:
        line = Line(rate)
        line.sender.isolate(InPlace(Guarded(RnNoise(rate)), rate))
        line.sender.play(1, l16(speech(rate, 0.55)[: int(rate * 0.55) - 3]))
        line.sender.finish(1)
        await line.run(1.0)
        assert line.sender.heard(1) == int(rate * 0.55) - 3
        assert line.count("killAudio") == 0

    virtual_time.run(main())


# What is asked for ------------------------------------------------------------------------------------------

OFF_LINE = NoiseIsolation(mode="rnnoise", level=60, direction="write")


@pytest.mark.parametrize(
    ("data", "last", "wanted"),
    [
        ({"noise_isolation_status": "disable"}, OFF_LINE, None),
        ({"noiseIsolation_status": "off"}, OFF_LINE, None),  # as the Python SDK has it
        ({"noise_isolation_status": "enable"}, None, NoiseIsolation(mode="krisp")),
        ({"noise_isolation_status": "enable"}, OFF_LINE, OFF_LINE),
        (
            {"noise_isolation_status": "enable", "vendor": "rnnoise", "level": 80},
            None,
            NoiseIsolation(mode="rnnoise", level=80),
        ),
        (
            {
                "noise_isolation_status": "enable",
                "noise_isolation_vendor": "krisp",
                "noise_isolation_level": 10,
                "noise_isolation_model": "tel",
            },
            None,
            NoiseIsolation(mode="krisp", level=10, model="tel"),
        ),
        (
            {"noise_isolation_status": "enable", "vendor": "rnnoise"},
            NoiseIsolation.parse(
                {"mode": "krisp", "level": 60, "direction": "write", "model": "tel", "auth": {"apiKey": "k"}}
            ),
            OFF_LINE,
        ),
    ],
)
def test_a_command_says_only_what_is_new(
    data: dict[str, Any], last: NoiseIsolation | None, wanted: NoiseIsolation | None
) -> None:
    assert asked(data, last) == wanted


def test_krisps_key_stays_when_only_the_level_changes() -> None:
    last = NoiseIsolation.parse({"mode": "krisp", "auth": {"apiKey": "k-3f9"}})
    wanted = asked({"noise_isolation_status": "enable", "level": 5}, last)
    assert wanted is not None and wanted.auth == last.auth and wanted.level == 5


def test_krisp_gets_the_servers_key_and_model_and_the_verbs_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[NoiseSpec] = []

    def make(spec: NoiseSpec, shared: Shared, rate: int) -> Guarded:
        specs.append(spec)
        return Guarded(Late(0))

    monkeypatch.setattr(choose, "make", make)
    server = Server.model_validate({"credentials": {"krisp": {"apiKey": "server", "noiseModelPath": "/m.kef"}}})
    isolate = isolate_with(server, Shared())
    isolate(NoiseIsolation(mode="krisp", level=50), 8000)
    isolate(NoiseIsolation.parse({"mode": "krisp", "model": "tel", "auth": {"apiKey": "mine"}}), 8000)
    assert specs == [
        NoiseSpec("krisp", 50, None, krisp_model="/m.kef", krisp_key="server"),
        NoiseSpec("krisp", 100, "tel", krisp_model="/m.kef", krisp_key="mine"),
    ]
    assert "server" not in repr(specs[0])


@pytest.mark.parametrize("is_there", [True, False])
def test_check_says_when_the_engine_is_not_installed(
    is_there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make(rate: int, level: float) -> Any:
        if not is_there:
            raise ProviderError("rnnoise", "noise-engine-missing", "expected the library of pyrnnoise, got none")
        return Late(0)

    monkeypatch.setattr(rnnoise, "make", make)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "desk.yaml").write_text(
        "stt: {vendor: local}\nllm: {vendor: demo}\ntts: {vendor: local}\nnoiseIsolation: rnnoise\n"
    )
    code = code_of("check")
    said = capsys.readouterr()
    if is_there:
        assert (code, said.err) == (0, "")
    else:
        assert (code, said.out) == (2, "")
        assert said.err == (
            "agentd: agent desk: noiseIsolation: rnnoise: expected the library of pyrnnoise, got none\n"
        )
