"""Paced audio out, against the strict media side and under virtual time."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from agentd.call.sender import Sender
from agentd.jambonz.media import MediaSide
from providers.scripted import counting
from tests import virtual_time
from tests.whole_call import runs
from turn.events import Event, ReplyHeard, ReplyPlayed


class Line:
    """A sender and the far side, which ticks every 20 ms and answers marks ``late`` seconds later (None: never)."""

    def __init__(self, rate: int = 8000, late: float | None = 0.0) -> None:
        self.loop = asyncio.get_running_loop()
        self.media = MediaSide(rate, record=True)
        self.told: list[tuple[float, Event]] = []
        self.sent: list[tuple[float, str | bytes]] = []
        self.late = late
        self.sender = Sender(rate, self, lambda event: self.told.append((self.loop.time(), event)))

    def send_audio(self, pcm: bytes) -> None:
        self.sent.append((self.loop.time(), pcm))
        self.media.receive_binary(pcm)

    def send_json(self, message: dict[str, Any]) -> None:
        self.sent.append((self.loop.time(), message["type"]))
        self.media.receive_text(json.dumps(message))

    async def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            await asyncio.sleep(0.02)
            for text in self.media.tick().messages:
                data = json.loads(text)["data"]
                if self.late is not None:
                    self.loop.call_later(self.late, self.sender.mark_came, data["name"], data["event"])

    def heard(self) -> list[tuple[int, int]]:
        return [(run.first, run.length) for run in runs(self.media.recording)]

    def count(self, what: str) -> int:
        return sum(message == what for _, message in self.sent)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    virtual_time.run(test())


def test_a_reply_is_heard_once_and_said_to_be_played() -> None:
    async def main() -> None:
        line = Line()
        line.sender.play(1, counting(0, 8000))
        line.sender.finish(1)
        await line.run(2)
        assert line.heard() == [(0, 8000)]
        assert [event for _, event in line.told] == [ReplyHeard(1), ReplyPlayed(1)]
        assert line.told[-1][0] <= 1.06
        assert line.sender.heard(1) == 8000

    run(main)


def test_no_sample_of_minus_one_is_sent() -> None:
    async def main() -> None:
        line = Line()
        line.sender.play(1, np.full(8000, -1, "<i2").tobytes())
        line.sender.finish(1)
        await line.run(2)
        assert not any((np.frombuffer(pcm, "<i2") == -1).any() for _, pcm in line.sent if isinstance(pcm, bytes))
        assert (line.media.false_marks, line.media.stuck) == (0, 0)

    run(main)


def test_every_message_fills_the_pre_buffer_by_itself() -> None:
    async def main() -> None:
        line = Line()
        line.sender.open()
        for at in range(0, 8000, 100):
            line.sender.play(1, counting(at, at + 100))
            await line.run(0.02)
        line.sender.finish(1)
        await line.run(2)
        assert min(len(pcm) for _, pcm in line.sent if isinstance(pcm, bytes)) >= 640 * 2
        assert sum(length for _, length in line.heard()) == 8000

    run(main)


def test_audio_of_a_reply_that_was_dropped_is_not_played() -> None:
    """Its task was cancelled, but had a piece of audio in its hands."""

    async def main() -> None:
        line = Line()
        line.sender.play(1, counting(0, 8000))
        await line.run(0.1)
        line.sender.drop(1)
        line.sender.play(1, counting(8000, 16000))
        line.sender.finish(1)
        await line.run(1)
        assert line.heard() == [(0, 800)]
        assert [event for _, event in line.told] == [ReplyHeard(1)]

    run(main)


def test_after_kill_audio_comes_a_pause() -> None:
    async def main() -> None:
        line = Line()
        line.sender.play(1, counting(0, 8000))
        await line.run(0.1)
        line.sender.drop(1)
        line.sender.play(2, counting(0, 1600))
        line.sender.finish(2)
        await line.run(1)
        (killed,) = [at for at, message in line.sent if message == "killAudio"]
        assert min(at for at, message in line.sent if isinstance(message, bytes) and at >= killed) == killed + 0.08
        assert line.heard()[-1] == (0, 1600)

    run(main)


def test_a_reply_that_is_held_before_it_has_audio_stays_held() -> None:
    async def main() -> None:
        line = Line()
        line.sender.hold()
        line.sender.play(1, counting(0, 1600))
        line.sender.finish(1)
        await line.run(1)
        assert line.heard() == []
        line.sender.resume()
        await line.run(1)
        assert line.heard() == [(0, 1600)]

    run(main)


def test_a_hold_ends_with_the_reply_that_was_held() -> None:
    async def main() -> None:
        line = Line()
        line.sender.hold()
        line.sender.drop(1)
        line.sender.play(2, counting(0, 1600))
        await line.run(1)
        assert line.heard() == [(0, 1600)]

    run(main)


def test_a_reply_that_is_cut_when_nothing_of_it_is_left_is_played_once_it_is_resumed() -> None:
    """All was heard, its mark is on its way: the end of it must not be told while it is cut, and not be forgotten."""

    async def main() -> None:
        line = Line(late=None)
        line.sender.play(1, counting(0, 1600))
        line.sender.finish(1)
        await line.run(0.3)
        line.sender.cut()
        await line.run(1)
        assert [event for _, event in line.told] == [ReplyHeard(1)]
        line.sender.resume()
        await line.run(1)
        assert [event for _, event in line.told] == [ReplyHeard(1), ReplyPlayed(1)]
        assert line.heard() == [(0, 1600)]

    run(main)


def test_cut_and_resumed_it_goes_on_at_the_first_unheard_sample() -> None:
    async def main() -> None:
        line = Line()
        line.sender.play(1, counting(0, 16000))
        line.sender.finish(1)
        await line.run(0.7)
        line.sender.cut()
        assert line.sender.heard(1) == 5600
        await line.run(0.5)
        line.sender.resume()
        await line.run(2)
        assert line.heard() == [(0, 5600), (5600, 10400)]

    run(main)


def test_a_short_reply_has_a_mark_although_all_of_it_left_before_it_was_known_to_be_whole() -> None:
    async def main() -> None:
        line = Line()
        line.sender.play(1, counting(0, 1600))
        await line.run(0.1)
        line.sender.finish(1)
        await line.run(1)
        assert line.count("mark") == 1
        assert line.told[-1][1] == ReplyPlayed(1)
        assert line.told[-1][0] <= 0.26

    run(main)


def test_at_most_three_marks_are_outstanding_and_kill_audio_answers_them() -> None:
    async def main() -> None:
        line = Line(late=None)
        for reply in range(1, 8):
            line.sender.play(reply, counting(0, 1600))
            line.sender.finish(reply)
            await line.run(1)
        assert line.count("mark") == 3
        assert [event.reply for _, event in line.told if isinstance(event, ReplyPlayed)] == list(range(1, 8))
        line.sender.cut()
        line.sender.play(8, counting(0, 1600))
        line.sender.resume()
        line.sender.finish(8)
        await line.run(1)
        assert line.count("mark") == 4

    run(main)


def test_a_mark_that_comes_too_early_is_not_believed() -> None:
    async def main() -> None:
        line = Line(late=None)
        line.sender.play(1, counting(0, 4000))
        line.sender.finish(1)
        await line.run(0.4)  # all of it is sent, and 160 ms are still to be heard
        line.sender.mark_came("reply-1-1", "playout")
        await line.run(1)
        assert [at for at, event in line.told if isinstance(event, ReplyPlayed)] == [0.56]

    run(main)


def test_a_voice_that_is_far_ahead_waits() -> None:
    async def main() -> None:
        line = Line()
        line.sender.play(1, counting(0, 21 * 8000))
        waiting = asyncio.ensure_future(line.sender.room())
        await line.run(0.5)
        assert not waiting.done()
        await line.run(0.5)
        assert waiting.done()
        line.sender.drop(1)
        await line.sender.room()

    run(main)
