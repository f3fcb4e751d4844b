"""What agentd adds to a turn: the caller's last sample → the first sample of the reply on the socket, less the time
that the vendors took. One call, a real server process, vendor servers in a process of their own, the real SDKs.

    python -m benchmarks.added_latency [--turns 100] [--each 15] [--all]

First one combination with ``--turns`` turns, hop by hop; then each other vendor in its role with ``--each`` turns
(``--all``: every combination of vendors). The hops:

    audio in     the frame that ends the vendor's utterance is sent → the recogniser has it
    to prompt    the recogniser says its last word → the model has the prompt
    to text      the model says its first word → the synthesizer has the text
    to sound     the synthesizer says its first sound → the caller has it

Somebody "has" what has come to his process; what vendors need to read it and to answer is theirs.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from agentd.jambonz.listen import Node
from agentd.server import Server
from config.files import Config
from config.server import Server as ServerConfig
from config.verb import Agent
from tests.vendors import rows
from tests.vendors.script import Script

RATE, FRAME_S = 8000, 0.02
FRAME = int(RATE * FRAME_S)  # samples
LOUD, QUIET = (20000).to_bytes(2, "little") * FRAME, bytes(2 * FRAME)
UTTERANCE, PAUSE = 1.0, 0.8  # seconds of audio: the recogniser tells its final at the end of the first
VOICE = (0.1, 0.6)  # of the utterance the caller is loud from … to
MODEL_S, VOICE_S = 0.2, 0.1  # what model and voice take for their first word and sound
REST_S = 0.05  # and what the model takes for the next part of its stream, be it only the end
ANSWER = "Yes. It is so, yes."  # 0.38 s of sound; the first sentence is whole before the answer is
ROLES = ("stt", "llm", "tts")
FIRST = ("deepgram", "openai", "cartesia")

Times = Mapping[str, Sequence[tuple[str, float]]]


class Turn(NamedTuple):
    """Seconds."""

    audio_in: float
    to_prompt: float
    to_text: float
    to_sound: float

    @property
    def added(self) -> float:
        return sum(self)


def row(role: str, vendor: str) -> Any:
    every: Mapping[str, Sequence[Any]] = {"stt": rows.STT, "llm": rows.LLM, "tts": rows.TTS}
    return next(each for each in every[role] if each.vendor == vendor)


# Processes --------------------------------------------------------------------------------------------------


def serve_vendors(pipe: Connection) -> None:
    """For each combination that comes in: its vendors, until the next message, and then what they saw."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        while (vendors := await loop.run_in_executor(None, pipe.recv)) is not None:
            async with AsyncExitStack() as stack:
                scripts = {
                    "stt": Script(),
                    "llm": Script(first=MODEL_S, gap=REST_S),
                    "tts": Script(first=VOICE_S, gap=0.0),
                }
                made = {
                    role: await stack.enter_async_context(row(role, vendor).server(scripts[role]))
                    for role, vendor in zip(ROLES, vendors, strict=True)
                }
                made["stt"].hears = ["is that so"] * 10_000
                made["stt"].pause = PAUSE
                made["llm"].answer = rows.Answer((ANSWER,))
                pipe.send({role: vendor.url for role, vendor in made.items()})
                await loop.run_in_executor(None, pipe.recv)
                pipe.send({role: list(vendor.seen.times) for role, vendor in made.items()})

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def serve_agentd(pipe: Connection, vendors: Sequence[str], urls: Mapping[str, str]) -> None:
    async def main() -> None:
        node = Node(configuration(vendors, urls), detector_for=lambda rate: is_loud)
        server = Server(node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        pipe.send(server.port)
        await serving

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def is_loud(frame: bytes) -> bool:
    return frame[:2] == LOUD[:2]


def configuration(vendors: Sequence[str], urls: Mapping[str, str]) -> Config:
    """The agent of a combination; Flux without its eager signal, which would begin before the end of the turn."""
    parts: dict[str, Any] = {}
    for role, vendor in zip(ROLES, vendors, strict=True):
        spec = row(role, vendor).spec(urls[role])
        parts[role] = {"vendor": vendor, "auth": dict(spec.credentials)}
        if spec.model:
            parts[role]["model"] = spec.model
    parts["llm"]["connectOptions"] = {"baseURL": row("llm", vendors[1]).spec(urls["llm"]).connect["baseURL"]}
    if vendors[0] == "deepgramflux":
        parts["stt"]["options"] = {"eagerEotThreshold": None}
    agent = Agent.parse({**parts, "greeting": False, "noResponseTimeout": 0})
    return Config(ServerConfig.model_validate({"speech_cache": False}), {"demo": agent})


# The caller -------------------------------------------------------------------------------------------------


class Noting(ClientConnection):
    """Knows when its last bytes came."""

    arrived = 0.0

    def data_received(self, data: bytes) -> None:
        self.arrived = time.monotonic()
        super().data_received(data)


class Caller:
    """Speaks in real time; ``last`` and ``due`` are when the last loud frame of each turn, and the frame that ends its
    utterance, were sent; ``sounds`` when each reply began.
    """

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.last: list[float] = []
        self.due: list[float] = []
        self.sounds: list[float] = []

    async def call(self, port: int) -> None:
        url = f"ws://127.0.0.1:{port}/listen/demo"
        async with connect(url, compression=None, max_size=None, create_connection=Noting) as socket:
            await socket.send(json.dumps({"sampleRate": RATE, "mixType": "mono", "callSid": "bench"}))
            listening = asyncio.create_task(self._listen(socket))
            await self._speak(socket)
            listening.cancel()

    async def _speak(self, socket: ClientConnection) -> None:
        began = time.monotonic()
        frames = round((UTTERANCE + PAUSE) / FRAME_S)
        first, last, due = (round(at / FRAME_S) for at in (*VOICE, UTTERANCE))
        for number in range(frames * self.turns):
            await asyncio.sleep(began + number * FRAME_S - time.monotonic())
            at = number % frames
            sent = time.monotonic()
            await socket.send(LOUD if first <= at < last else QUIET)
            if at == last - 1:
                self.last.append(sent)
            elif at == due - 1:
                self.due.append(sent)

    async def _listen(self, socket: ClientConnection) -> None:
        is_silent, quiet_since = True, 0.0
        while True:
            message = await socket.recv()
            now = socket.arrived if isinstance(socket, Noting) else time.monotonic()
            if isinstance(message, bytes) and any(message):
                if is_silent or now - quiet_since > 0.4:
                    self.sounds.append(now)
                is_silent, quiet_since = False, now


def hops(caller: Caller, seen: Times) -> Iterator[Turn]:
    """Turn by turn; the first is left out: connections are dialled and caches filled in it."""
    for number, due in enumerate(caller.due[1:], 1):
        until = caller.due[number + 1] if number + 1 < len(caller.due) else due + 10
        prompted = _first(seen["llm"], "asked", due - 1, until)
        told = max((at for what, at in seen["stt"] if what == "said" and at <= prompted), default=0.0)
        heard = max((at for what, at in seen["stt"] if what == "heard" and at <= told), default=0.0)
        answered = _first(seen["llm"], "said", prompted, until)
        given = _first(seen["tts"], "asked", answered, until)
        spoken = _first(seen["tts"], "said", given, until)
        sound = next((at for at in caller.sounds if spoken <= at < until), None)
        if sound is None or not told or min(prompted, answered, given, spoken) < 0:
            continue
        yield Turn(heard - due, prompted - told, given - answered, sound - spoken)


def _first(times: Sequence[tuple[str, float]], what: str, after: float, until: float) -> float:
    if after < 0:
        return -1.0
    return next((at for said, at in times if said == what and after <= at < until), -1.0)


# Measuring --------------------------------------------------------------------------------------------------


def measure(vendors: Sequence[str], turns: int, pipe: Connection) -> list[Turn]:
    pipe.send(tuple(vendors))
    urls = pipe.recv()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve_agentd, args=(theirs, vendors, urls), daemon=True
    )
    server.start()
    caller = Caller(turns + 1)
    try:
        port = ours.recv()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(caller.call(port))
    finally:
        server.terminate()
        server.join()
        pipe.send("done")
        seen = pipe.recv()
    return list(hops(caller, seen))


def quantile(values: Sequence[float], share: float) -> float:
    """In milliseconds."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000


def combinations(every: bool) -> list[tuple[str, ...]]:
    """Each vendor once in its role beside the first ones, or all of them with all."""
    names = [[each.vendor for each in table] for table in (rows.STT, rows.LLM, rows.TTS)]
    if every:
        return [each for each in itertools.product(*names) if each != FIRST]
    return [
        tuple(vendor if at == role else first for at, first in enumerate(FIRST))
        for role in range(3)
        for vendor in names[role]
        if vendor != FIRST[role]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--each", type=int, default=15)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    vendors = context.Process(target=serve_vendors, args=(theirs,), daemon=True)
    vendors.start()
    try:
        found = measure(FIRST, args.turns, pipe)
        print(f"{' + '.join(FIRST)}, {len(found)} of {args.turns} turns, ms:")
        for name in Turn._fields:
            values = [getattr(turn, name) for turn in found]
            print(f"  {name.replace('_', ' '):<10} p50 {quantile(values, 0.5):6.2f}  p99 {quantile(values, 0.99):6.2f}")
        added = [turn.added for turn in found]
        base = quantile(added, 0.5)
        print(f"  {'added':<10} p50 {base:6.2f}  p99 {quantile(added, 0.99):6.2f}", flush=True)
        spread = []
        for combination in combinations(args.all):
            found = measure(combination, args.each, pipe)
            added = [turn.added for turn in found]
            if not added:
                print(f"{' + '.join(combination)}: no turn came off", flush=True)
                continue
            middle = quantile(added, 0.5)
            spread.append(middle - base)
            parts = " ".join(f"{quantile([getattr(t, name) for t in found], 0.5):6.2f}" for name in Turn._fields)
            print(
                f"{' + '.join(combination):<44} {len(found):3} turns  p50 {middle:6.2f} ({middle - base:+.2f})  "
                f"most {max(added) * 1000:6.2f}  hops {parts}",
                flush=True,
            )
        if spread:
            print(f"difference to the first, p50: {min(spread):+.2f} to {max(spread):+.2f} ms")
    finally:
        pipe.send(None)
        vendors.join(2)
        vendors.terminate()


if __name__ == "__main__":
    main()
