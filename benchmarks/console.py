"""What watching costs: the CPU of a server process with its calls watched, beside the same calls unwatched.

    python -m benchmarks.console [--calls 10] [--seconds 20] [--rounds 5]

The calls talk to simulated vendors all the time. In every other stretch each of them is followed as the console's
page does it: its events with the levels of both sides, and the list of all calls every 3 seconds. The stretches take
turns, so that what else the machine does falls on both.
"""

import argparse
import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import mean, stdev

import httpx
import uvloop

from agentd.loadtest import server
from agentd.loadtest.callers import Callers
from agentd.loadtest.phone import Phone, Target
from agentd.loadtest.simulated import Delays
from agentd.loadtest.simulated.vendors import AGENT, Vendors, agent_file
from agentd.loadtest.talk import Plan, Turn
from agentd.loadtest.voice import Utterance, buzz, utterance
from agentd.loadtest.watch import usage
from agentd.ops.stream import SOUND

RATE = 8000
LISTED = 3.0  # seconds between two looks at the list of calls, as the page has it
SETTLE = 3.0  # seconds at the beginning of a stretch that do not count: readers are told all that has happened …
UNWATCHED = SOUND + SETTLE  # … and levels are measured for some time after the last reader


def followed(text: str) -> int:
    return text.count("\nevent: ") + text.startswith("event: ")


class Watchers:
    """One a call. ``events`` counts what they were told, ``bytes`` how much."""

    def __init__(self, port: int) -> None:
        self.events = self.bytes = 0
        self._url = f"http://127.0.0.1:{port}"

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[int]:
        """How many calls are."""
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(trust_env=False, timeout=None, limits=limits) as client:
            calls = [call["call_sid"] for call in (await client.get(f"{self._url}/v1/calls")).json()]
            tasks = [asyncio.create_task(self._follow(client, call_sid)) for call_sid in calls]
            tasks += [asyncio.create_task(self._list(client)) for _ in calls]  # each page has its own list
            try:
                yield len(calls)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, client: httpx.AsyncClient, call_sid: str) -> None:
        async with client.stream("GET", f"{self._url}/v1/calls/{call_sid}/events?sound=1") as answer:
            async for piece in answer.aiter_text():
                self.events += followed(piece)
                self.bytes += len(piece)

    async def _list(self, client: httpx.AsyncClient) -> None:
        while True:
            await client.get(f"{self._url}/v1/calls")
            await asyncio.sleep(LISTED)


def cpu(pid: int) -> float:
    found = usage(pid)
    assert found is not None, "expected /proc to tell of the server"
    return found.cpu


async def stretch(pid: int, seconds: float, settle: float) -> float:
    """CPU in percent of a core."""
    await asyncio.sleep(settle)
    before = cpu(pid)
    await asyncio.sleep(seconds)
    return (cpu(pid) - before) / seconds * 100


async def measure(args: argparse.Namespace, pid: int, port: int) -> None:
    lost: list[Phone] = []
    turns: list[Turn] = []
    voice = [Utterance(utterance(buzz(1.5, RATE).tobytes(), RATE).frames)]
    target = Target(f"ws://127.0.0.1:{port}/listen/{AGENT}", RATE)
    callers = Callers(target, voice, Plan(), ended=turns.append, over=lost.append)
    metronome = asyncio.create_task(callers.metronome.run())
    watchers = Watchers(port)
    plain: list[float] = []
    watched: list[float] = []
    count = 0
    try:
        await callers.ramp(args.calls, 5.0)
        for _ in range(args.rounds):
            plain.append(await stretch(pid, args.seconds, UNWATCHED))
            async with watchers.watching() as count:
                watched.append(await stretch(pid, args.seconds, SETTLE))
            print(f"{count} calls: {plain[-1]:6.2f} % of a core, watched {watched[-1]:6.2f} %", flush=True)
    finally:
        metronome.cancel()
        await callers.hang_up()
    assert count == args.calls and not [phone for phone in lost if not phone.end.is_ours], "calls were lost"
    more = [(after - before) / count for before, after in zip(plain, watched, strict=True)]
    spread = f" ± {stdev(more):.2f}" if len(more) > 1 else ""
    of_time = count * len(watched) * (args.seconds + SETTLE)
    print(f"one watcher of one call: {mean(more):.2f}{spread} % of a core")
    print(f"told {watchers.events / of_time:.1f} events, {watchers.bytes / of_time / 1000:.1f} kB a second")
    print(f"{len(turns)} turns were answered")
    print(f"watched : unwatched = {mean(watched) / mean(plain):.3f}")


async def run(args: argparse.Namespace) -> None:
    async with Vendors(Delays(0.05, 0.2, 0.05, 0.01)) as vendors:
        with tempfile.TemporaryDirectory(prefix="agentd-console-") as folder:
            port = server.free_port()
            files = server.write(Path(folder), vendors.server_file(port), {AGENT: agent_file()})
            async with server.started("-m", "agentd", "serve", "--config", str(files), port=port) as pid:
                await measure(args, pid, port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=5)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
