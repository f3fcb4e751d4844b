"""What the paths that run all the time cost: the machine per event, the ear per frame, the splitter per token.

python -m benchmarks.hot_paths
"""

import asyncio
import time
from collections.abc import Callable

import numpy as np

from agentd.call.audio import Framer
from agentd.call.ear import Ear, webrtc_detector
from agentd.call.sender import without_minus_one
from providers.audio_feed import AudioFeed
from turn.events import (
    AudioArrived,
    Event,
    ReplyHeard,
    ReplyPlayed,
    SpeechConfirmed,
    SpeechStarted,
    SpeechStopped,
    TranscriptFinished,
)
from turn.machine import Settings, TurnMachine
from turn.sentences import Splitter
from turn.speech import Segmenter


def per_call(run: Callable[[], int], least: float = 0.5) -> float:
    """Seconds an item, of the best of three; ``run`` does some and returns how many."""
    best = float("inf")
    for _ in range(3):
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < least / 3:
            count += run()
        best = min(best, spent / count)
    return best


def machine_events() -> int:
    """Turns with a barge-in each: every event that a call's machine sees, deadlines included."""
    machine, now, count = TurnMachine(Settings(greeting=False)), 0.0, 0
    for turn in range(1, 101):
        events: list[Event] = [
            *(SpeechStarted(0.06), SpeechConfirmed(), SpeechStopped(0.3), TranscriptFinished(f"turn {turn}", 0.9)),
        ]
        for event in events:
            machine.handle(event, now)
        now += 0.5
        machine.tick(now)
        reply = machine.turn.reply if machine.turn else 0
        for event in (AudioArrived(reply, 1.0), ReplyHeard(reply), SpeechStarted(0.06), SpeechStopped(0.3)):
            machine.handle(event, now)
        machine.handle(ReplyPlayed(reply), now + 1)
        now += 2
        count += len(events) + 6
    return count


async def ear_frames(rate: int) -> float:
    noise = (np.random.default_rng(1).normal(0, 3000, rate // 50)).astype("<i2").tobytes()
    ear = Ear(
        Framer(rate), webrtc_detector(8000 if rate == 8000 else 16000), Segmenter(), AudioFeed(rate), lambda e: None
    )

    def run() -> int:
        for _ in range(500):
            ear.hear(noise)
        return 500

    return per_call(run)


def tokens() -> int:
    splitter = Splitter()
    words = "The first piece is said early, and then whole sentences follow. Dr. Smith paid 3.50 for it. ".split(" ")
    for _ in range(20):
        for word in words:
            splitter.push(word + " ")
    return 20 * len(words)


def main() -> None:
    event = per_call(machine_events)
    print(f"machine        {1 / event:10,.0f} events/s   {event * 1e6:6.2f} µs an event")
    for rate in (8000, 16000, 24000, 48000):
        frame = asyncio.run(ear_frames(rate))
        print(f"ear {rate:>6} Hz  {frame * 1e6:6.1f} µs a frame of 20 ms   {frame * 50 * 100:5.2f} % of a core a call")
    chunk = np.random.default_rng(1).integers(-9000, 9000, 640).astype("<i2").tobytes()
    cost = per_call(lambda: sum(1 for _ in range(500) if without_minus_one(chunk)))
    print(f"sample check   {cost * 1e6:6.1f} µs a message of 80 ms")
    token = per_call(tokens)
    print(f"splitter       {token * 1e6:6.1f} µs a token")


if __name__ == "__main__":
    main()
