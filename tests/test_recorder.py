"""What is in the recording of a call, and where; and that a call goes on whatever becomes of its recording."""

import asyncio
import errno
import json
import os
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile  # type: ignore[import-untyped, unused-ignore]

from agentd.jambonz.pieces import HELD_UP, Heard, Sent
from agentd.jambonz.recorder import EARLY, Recorder
from agentd.jambonz.tape import Block, Tape
from agentd.jambonz.taps import Tap
from agentd.jambonz.wire import CallInfo
from agentd.ops import recordings as store
from agentd.ops.log import EventLog
from agentd.ops.recording_files import About
from agentd.ops.recordings import Recordings
from tests import virtual_time
from tests.application import Application
from tests.jambonz import Call, quiet, voice
from tests.whole_call import House, agent, runs, say

REPLY = "Yes, I am here. It goes on for a while longer."  # 2.3 s of the scripted voice


def a_house(folder: Path, turns: int = 1, **verb: Any) -> House:
    given = {"record": True, **verb}
    return House(agent(["hello"] * turns, [REPLY] * turns, **given), recordings={"path": str(folder)})


class Recording:
    """The only one in a folder. ``caller`` and ``agent`` are its two sides."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wav")
        assert soundfile.info(str(path)).subtype == "PCM_16"
        with wave.open(str(path)) as file:
            assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
            self.rate, self.seconds = file.getframerate(), file.getnframes() / file.getframerate()
            both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
        self.caller, self.agent = both[:, 0], both[:, 1]
        self.entries = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
        self.known = json.loads(path.with_suffix(".json").read_text())

    def heard(self, side: "np.ndarray[Any, np.dtype[np.int16]]") -> list[tuple[float, float]]:
        """From when to when something is heard on a side, in seconds; gaps below 10 ms are none."""
        places = np.flatnonzero(np.abs(side.astype(int)) > 100)
        cuts = np.flatnonzero(np.diff(places) > self.rate // 100)
        starts, ends = places[np.r_[0, cuts + 1]], places[np.r_[cuts, -1]] + 1
        return [
            (round(a / self.rate, 2), round(b / self.rate, 2))
            for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        ]

    def types(self) -> list[str]:
        return [entry["type"] for entry in self.entries]


def as_json(entries: list[dict[str, Any]]) -> Any:
    return json.loads(json.dumps(entries))


async def over(house: House) -> None:
    """The call has ended: so does the server."""
    assert house.node.recordings is not None
    await house.node.recordings.aclose()


# Whole calls ---------------------------------------------------------------------------------------------


def test_the_caller_is_left_and_the_agent_right_each_at_the_second_of_the_log(tmp_path: Path) -> None:
    house = a_house(tmp_path, turns=2)

    async def main() -> Call:
        async with house.call() as call:
            await call.play(1.0)
            await house.turn(call)
            await call.play(1.0)
            await house.turn(call)
            await call.play(0.5)
        await over(house)
        return call

    call = virtual_time.run(main())
    found = Recording(tmp_path)
    assert found.rate == 8000
    assert found.heard(found.caller) == [(1.0, 1.6), (5.8, 6.4)]
    assert runs(found.agent.tobytes()) == runs(call.media.recording) != []  # sample for sample, where it was heard
    said = [entry["at"] for entry in found.entries if entry["type"] == "recording"]
    assert said == [0.0] and found.entries == as_json(house.logs[0].entries)
    assert found.types()[-1] == "call_ended" and found.seconds == pytest.approx(found.entries[-1]["at"], abs=0.001)
    assert (found.known["seconds"], found.known["is_whole"]) == (found.seconds, True)


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({"sample_rate": 48000, "playback_rate": 24000}, 16000),
        ({"sample_rate": 8000, "playback_rate": 16000}, 8000),
        ({"sample_rate": 16000, "channel_rate": 16000, "playback_rate": 64000}, 16000),
        ({"sample_rate": 24000, "playback_rate": 8000, "mix_type": "stereo"}, 16000),
        ({"frames_per_message": 7}, 8000),
    ],
    ids=str,
)
def test_both_sides_lie_at_their_second_whatever_their_rates(
    tmp_path: Path, options: dict[str, Any], rate: int
) -> None:
    house = a_house(tmp_path)

    async def main() -> Call:
        async with house.call(**options) as call:
            await house.turn(call)
            await call.play(0.5)
        await over(house)
        return call

    call = virtual_time.run(main())
    found = Recording(tmp_path)
    assert found.rate == rate
    (span,) = found.heard(found.caller)
    assert list(span) == pytest.approx([0.0, 0.6], abs=0.02)
    (span,) = found.heard(found.agent)
    assert list(span) == pytest.approx(list(call.heard()[0]), abs=0.05) and len(call.heard()) == 1


def test_what_the_caller_cut_short_is_not_in_it(tmp_path: Path) -> None:
    house = a_house(tmp_path, turns=2, dtmf=True)

    async def main() -> Call:
        async with house.call() as call:
            await house.speaking(call)
            call.dtmf("1")
            await house.turn(call)
            await call.play(0.5)
        await over(house)
        return call

    call = virtual_time.run(main())
    assert call.media.kills and call.media.wiped
    found = Recording(tmp_path)
    assert [(run.first, run.length) for run in runs(found.agent.tobytes())] == [
        (run.first, run.length) for run in runs(call.media.recording)
    ]


def test_a_pause_is_silence_and_what_comes_behind_it_is_at_its_second(tmp_path: Path) -> None:
    house = a_house(tmp_path, turns=2)

    async def main() -> None:
        async with house.call() as call:
            await say(call)
            call.pause()
            await call.play(20.0)
            call.resume()
            await say(call, 0.5)
            await call.play(1.0)
        await over(house)

    virtual_time.run(main())
    found = Recording(tmp_path)
    assert found.heard(found.caller) == [(0.0, 0.6), (20.6, 21.1)]


def test_a_process_that_is_killed_leaves_all_but_the_last_second(tmp_path: Path) -> None:
    house = a_house(tmp_path)

    async def main() -> tuple[Recording, float]:
        async with house.call() as call:
            await house.turn(call)
            await call.play(5.5)
            left, now = Recording(tmp_path), call.now
        await over(house)
        return left, now

    left, now = virtual_time.run(main())
    assert now - 2.0 < left.seconds <= now and left.heard(left.agent) and left.known["is_whole"] is False
    assert left.entries == as_json(house.logs[0].entries)[: len(left.entries)] and "turn_end" in left.types()


def test_a_call_that_nobody_wants_recorded_leaves_nothing(tmp_path: Path) -> None:
    for verb, metadata in (({"record": False}, {}), ({}, {"record": False}), ({"record": False}, {"record": True})):
        house = a_house(tmp_path / "recordings", **verb)

        async def main(house: House = house, metadata: dict[str, Any] = metadata) -> None:
            async with house.call(metadata=metadata) as call:
                await house.turn(call)
            await over(house)

        virtual_time.run(main())
        assert house.entries("turn_end") and not house.entries("recording")
    assert list(tmp_path.iterdir()) == []


def test_two_calls_of_one_id_at_once_have_each_their_own(tmp_path: Path) -> None:
    house = a_house(tmp_path, turns=2)

    async def main() -> None:
        async with house.call() as first:
            await house.turn(first)
            async with house.call() as second:
                await first.until(lambda: first.closed)
                await house.turn(second)
        await over(house)

    virtual_time.run(main())
    known = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(known) == 2 and all(each["is_whole"] and each["seconds"] > 2 for each in known)


@pytest.mark.parametrize("name", ["open", "pwrite"])
def test_a_disk_that_fails_is_told_once_and_the_call_goes_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = a_house(tmp_path / "calls", turns=2)

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    async def main() -> None:
        async with house.call() as call:
            await house.turn(call)
            with monkeypatch.context() as patched:
                patched.setattr(f"agentd.ops.recording_files.os.{name}", full)
                await call.play(3.0)
            await house.turn(call)
        await over(house)

    virtual_time.run(main())
    assert [entry["why"] for entry in house.entries("recording_failed")] == ["No space left on device"]
    assert len(house.entries("turn_end")) == 2
    told = [record for record in caplog.records if record.name == "agentd.recordings"]
    assert [record.message for record in told] == ["recording given up: the call goes on"]
    assert str(tmp_path) not in str(told[0].__dict__)
    found = Recording(tmp_path / "calls")  # what was written until then can be heard
    assert found.heard(found.caller) == [(0.0, 0.6)] and found.known["is_whole"] is False


def test_a_disk_that_is_too_slow_costs_recordings_and_never_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = a_house(tmp_path, turns=2)
    monkeypatch.setattr(store, "WAITING", 20_000)  # bytes: a second of this call, and not two

    async def main() -> None:
        recordings = house.node.recordings
        assert recordings is not None
        never = asyncio.get_running_loop().create_future
        monkeypatch.setattr(recordings, "_run", lambda job: never())
        async with house.call() as call:
            await house.turn(call)
            await house.turn(call)
        await over(house)

    virtual_time.run(main())
    assert [entry["why"] for entry in house.entries("recording_failed")] == ["it could not be written in time"]
    assert len(house.entries("turn_end")) == 2


def test_an_application_has_the_part_of_a_call_left_out_that_is_not_to_be_kept(tmp_path: Path) -> None:
    async def heard(call: Call, count: int) -> None:
        await call.until(lambda: len(call.heard()) == count and not call.is_audible)

    async def main() -> Call:
        verbs = [{"verb": "say", "text": "Welcome."}, {"verb": "agent", "greeting": "How can I help you?"}]
        card = {"verb": "agent", "greeting": "Your card number, please.", "record": False}
        behind = {"verb": "agent", "greeting": "Thank you very much.", "record": True}
        async with Application(verbs) as app:
            desk = agent(app="desk", record=True)
            async with House(desk, apps={"desk": {"url": app.url}}, recordings={"path": str(tmp_path)}) as house:
                async with house.call() as call:
                    await heard(call, 2)
                    await app.say({"type": "command", "command": "redirect", "data": [card]})
                    await heard(call, 3)
                    await app.say({"type": "command", "command": "redirect", "data": [behind]})
                    await heard(call, 4)
                await over(house)
        return call

    call = virtual_time.run(main())
    found = Recording(tmp_path)
    welcome, hello, _, thanks = runs(call.media.recording)
    kept = runs(found.agent.tobytes())
    assert [(run.first, run.length) for run in kept] == [(run.first, run.length) for run in (welcome, hello, thanks)]
    assert [run.start for run in kept] == pytest.approx([welcome.start, hello.start, thanks.start], abs=16)
    said = [entry["response"] for entry in found.entries if entry["type"] == "agent_response"]
    assert said == ["How can I help you?", "Thank you very much."] and "card" not in str(found.entries)


# One agent after the other -------------------------------------------------------------------------------


class Line:
    """A recorder without a call: 20 ms of the caller come every 20 ms."""

    def __init__(self, folder: Path, rate: int = 8000) -> None:
        self.taps: list[Tap] = []
        self.log = EventLog(asyncio.get_running_loop().time)
        self.recordings = Recordings(folder, days=1, megabytes=100)
        info = CallInfo("c-1", rate, 1, {"accountSid": "a-1", "callSecret": "a secret of sixteen letters"})
        self.recorder = Recorder(self.recordings, "desk", info, 8000, self.taps, self.log)

    async def caller(self, seconds: float, *, is_speaking: bool = True) -> None:
        for _ in range(round(seconds / 0.02)):
            await asyncio.sleep(0.02)
            for tap in self.taps[:]:
                tap.heard(voice(0.02) if is_speaking else quiet(0.02))

    def agent(self, seconds: float) -> None:
        for tap in self.taps[:]:
            tap.sent(voice(seconds))

    async def end(self) -> None:
        self.log.append("call_ended")
        self.recorder.stop()
        await self.recorder.aclose()
        await self.recordings.aclose()


def test_an_agent_that_is_not_recorded_leaves_silence_and_no_entries(tmp_path: Path) -> None:
    async def main() -> None:
        line = Line(tmp_path)
        line.log.append("call_began")
        line.recorder.agent_begins(is_recorded=True)
        await line.caller(2.0)
        line.recorder.agent_begins(is_recorded=False)
        line.log.append("turn_end", transcript="4929 1234")
        line.agent(0.2)
        await line.caller(7.0)
        line.recorder.agent_begins(is_recorded=True)
        await line.caller(1.0, is_speaking=False)
        line.agent(0.5)
        await line.caller(1.0)
        line.recorder.agent_begins(is_recorded=True)  # the same recording
        await line.caller(1.0)
        await line.end()

    virtual_time.run(main())
    found = Recording(tmp_path)
    assert found.heard(found.caller) == [(0.0, 2.0), (10.0, 12.0)]
    assert found.heard(found.agent) == [(10.0, 10.5)]
    assert found.types() == ["call_began", "recording", "recording_paused", "recording", "call_ended"]
    assert found.seconds == 12.0


def test_a_call_whose_first_agent_is_not_recorded_is_recorded_from_the_second_on(tmp_path: Path) -> None:
    async def main() -> None:
        line = Line(tmp_path)
        line.recorder.agent_begins(is_recorded=False)
        line.log.append("turn_end", transcript="4929 1234")
        await line.caller(3.0)
        line.recorder.agent_begins(is_recorded=True)
        await line.caller(1.0)
        await line.end()

    virtual_time.run(main())
    found = Recording(tmp_path)
    assert found.heard(found.caller) == [(3.0, 4.0)]
    assert found.types() == ["recording", "call_ended"]


def test_what_the_caller_said_just_before_the_first_agent_is_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        line = Line(tmp_path)
        line.log.append("call_began")
        await line.caller(10.0)
        assert os.listdir(tmp_path) == []  # nobody has said yet that the call is recorded
        line.recorder.agent_begins(is_recorded=True)
        await line.caller(1.0)
        await line.end()

    virtual_time.run(main())
    found = Recording(tmp_path)
    ((start, end),) = found.heard(found.caller)
    assert 10.0 - EARLY - 1.5 <= start <= 10.0 - EARLY + 0.5 and end == 11.0
    assert found.types() == ["call_began", "recording", "call_ended"]


def test_a_call_that_ends_before_its_agent_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        line = Line(tmp_path / "recordings")
        await line.caller(2.0)
        await line.end()
        assert line.taps == []

    virtual_time.run(main())
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_is_removed_is_given_up(tmp_path: Path) -> None:
    async def main() -> None:
        line = Line(tmp_path)
        line.recorder.agent_begins(is_recorded=True)
        await line.caller(3.0)
        await line.recordings.remove([each.name for each in await line.recordings.known("c-1")])
        await line.caller(3.0)
        assert line.taps == []
        await line.end()
        assert [entry["type"] for entry in line.log.entries] == ["recording", "recording_failed", "call_ended"]

    virtual_time.run(main())
    assert list(tmp_path.iterdir()) == []


def test_whose_call_it_was_is_known_but_not_its_secret(tmp_path: Path) -> None:
    async def main() -> None:
        line = Line(tmp_path, rate=48000)
        line.recorder.agent_begins(is_recorded=True)
        await line.end()

    virtual_time.run(main())
    known = Recording(tmp_path).known
    assert (known["call_sid"], known["account_sid"], known["agent"], known["rate"]) == ("c-1", "a-1", "desk", 16000)
    assert len(known["proof"]) == 64 and "letters" not in str(known)


# Where the pieces lie ------------------------------------------------------------------------------------


def frames(heard: Heard, first: float, count: int, step: float = 0.02) -> float:
    """So many frames of 20 ms, the first at an instant; returns that of the last."""
    for number in range(count):
        heard.add(voice(0.02), first + number * step)
    return first + (count - 1) * step


def spans(heard: Heard, now: float) -> list[tuple[float, float]]:
    """Where what was taken lies, without the seams."""
    found: list[tuple[float, float]] = []
    for start, pcm in heard.taken(now, is_last=True):
        end = start + len(pcm) / 16000
        if found and abs(found[-1][1] - start) < 0.001:
            start = found.pop()[0]
        found.append((round(start, 3), round(end, 3)))
    return found


def test_audio_that_was_held_up_on_its_way_lies_where_it_was_spoken() -> None:
    heard = Heard(8000, 1)
    frames(heard, 0.02, 50)
    assert heard.until(4.0) < 1.0 < heard.until(4.0) + 0.6  # the gap may be filled yet
    frames(heard, 4.0, 150, step=0.0001)  # three seconds of it in 15 ms …
    now = frames(heard, 4.02, 50)  # … and on as before
    assert spans(heard, now) == [(0.0, 5.0)]


def test_a_gap_that_nothing_fills_is_silence() -> None:
    heard = Heard(8000, 1)
    frames(heard, 0.02, 50)
    now = frames(heard, 4.02, 50)
    assert spans(heard, now) == [(0.0, 1.0), (4.0, 5.0)]
    assert heard.until(now + HELD_UP + 3.0) == now + 3.0


def test_who_sends_more_than_can_be_spoken_does_not_fill_the_memory() -> None:
    heard = Heard(8000, 1)
    kept = 0
    for second in range(60):
        frames(heard, second, 500, step=0.002)  # ten times as fast
        kept += sum(len(pcm) for _, pcm in heard.taken(second + 1.0))
    assert kept < 70 * 16000 and heard.until(60.0) <= 60.0


def test_half_a_frame_waits_for_its_other_half() -> None:
    heard, sound = Heard(8000, 2), bytes(range(1, 9)) * 80
    for number, cut in enumerate((sound[:321], sound[321:642], sound[642:])):
        heard.add(cut, 0.02 * number)
    assert b"".join(pcm for _, pcm in heard.taken(0.06, is_last=True)) == sound


def test_what_is_taken_back_is_what_was_not_played() -> None:
    sent = Sent(8000)
    sent.add(voice(0.25), 1.0)
    sent.add(voice(0.25), 1.1)
    assert sent.taken(1.1) == [(1.0, voice(0.25)[:1600])]
    sent.killed(1.3)
    sent.add(quiet(0.1), 1.4)
    played = sent.taken(9.0)
    assert [(round(start, 4), len(pcm)) for start, pcm in played] == [(1.1, 2400), (1.25, 800), (1.4, 1600)]


def test_a_piece_that_comes_too_late_does_not_move_the_others(tmp_path: Path) -> None:
    tape = Tape(tmp_path, About("c-1", "a-1", "demo", 0.0, 8000), rate=8000, channels=1, playback_rate=8000, begins=0.0)
    tape.write(Block([], [], [], until=3.025))
    tape.write(Block([(2.5, voice(1.0)), (5.0, voice(1.0))], [], [], until=6.0, is_last=True))
    found = Recording(tmp_path)
    assert found.heard(found.caller) == [(3.0, 3.5), (5.0, 6.0)]


def test_the_end_of_a_reply_is_not_lost_when_nothing_comes_behind_it(tmp_path: Path) -> None:
    tape = Tape(
        tmp_path, About("c-1", "a-1", "demo", 0.0, 8000), rate=8000, channels=1, playback_rate=24000, begins=0.0
    )
    tape.write(Block([], [(1.0, voice(0.333, 24000))], [], until=2.0))
    for second in range(3, 10):
        tape.write(Block([], [], [], until=second, is_last=second == 9))
    found = Recording(tmp_path)
    (span,) = found.heard(found.agent)
    assert list(span) == pytest.approx([1.0, 1.333], abs=0.006) and found.seconds == 9.0


def test_a_sound_is_the_same_however_it_was_cut(tmp_path: Path) -> None:
    sound = np.random.default_rng(1).integers(-9000, 9000, 24000 * 3).astype("<i2").tobytes()
    kept: list[Any] = []
    for cut in (len(sound), 7 * 2, 1111 * 2):
        folder, about = tmp_path / str(cut), About("c-1", "a-1", "demo", 0.0, 16000)
        tape = Tape(folder, about, rate=24000, channels=1, playback_rate=24000, begins=0.0)
        pieces = [(at / 48000, sound[at : at + cut]) for at in range(0, len(sound), cut)]
        began = 0.0
        for end in (0.333, 0.777, 1.115, 2.009, 3.0):
            block = [piece for piece in pieces if began <= piece[0] < end]
            tape.write(Block(block, block, [], until=end, is_last=end == 3.0))
            began = end
        found = Recording(folder)
        kept.append((found.caller.tolist(), found.agent.tolist()))
    assert kept[0] == kept[1] == kept[2] and kept[0][0] == kept[0][1] and len(kept[0][0]) == 3 * 16000
