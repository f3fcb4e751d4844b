"""What is left behind by calls that are over: memory, tasks, threads, sockets of a real server process.

    python -m benchmarks.leak [--calls 2000] [--at-once 10] [--first 200]

Short calls, so many at once: the caller says something, hears the answer begin and hangs up in the middle of it. Every
200 calls, when none is up, the process is looked at; growth counts from the first look.
"""

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

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

RATE = 8000
EVERY = 200  # calls between two looks
QUIET = 10.0  # seconds for a server to notice that its calls are over
ASKED = 10.0  # seconds for it to tell of itself
FILE = "AGENTD_LEAK_FILE"


def inside() -> None:
    """`agentd serve` that writes what it holds to a file when it gets SIGUSR1."""

    def tell(number: int, frame: Any) -> None:
        gc.collect()
        found = {
            "tasks": len(asyncio.all_tasks()),
            "threads": threading.active_count(),
            "objects": len(gc.get_objects()),
        }
        file = Path(os.environ[FILE])
        file.with_suffix(".new").write_text(json.dumps(found))
        file.with_suffix(".new").rename(file)

    signal.signal(signal.SIGUSR1, tell)
    from agentd.cli import main

    main(sys.argv[1:])


def look(pid: int, file: Path) -> dict[str, int]:
    """No call is up, so nobody minds that this waits."""
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    until = time.monotonic() + ASKED
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError("expected the server to tell of itself")
        time.sleep(0.02)
    found = usage(pid)
    assert found is not None, "expected /proc to tell of the server"
    return {"rss": found.rss, "files": found.files, **json.loads(file.read_text())}


async def quiet(port: int) -> None:
    """Wait until the server has no call."""
    until = time.monotonic() + QUIET
    async with httpx.AsyncClient(trust_env=False) as client:
        while (await client.get(f"http://127.0.0.1:{port}/healthz")).json()["calls"]:
            if time.monotonic() > until:
                raise TimeoutError("expected the server to have no call any more")
            await asyncio.sleep(0.05)
    await asyncio.sleep(2.5)  # vendors' sockets have a second or two to close


class ShortCalls:
    """``answered`` counts calls whose answer began."""

    def __init__(self, port: int, at_once: int) -> None:
        voice = [Utterance(utterance(buzz(0.3, RATE).tobytes(), RATE).frames)]
        plan = Plan(hang_up=1.0, deadline=5.0, quiet_agent=True)
        target = Target(f"ws://127.0.0.1:{port}/listen/{AGENT}", RATE)
        self.callers = Callers(target, voice, plan, ended=self._ended, over=self._over)
        self.over = self.answered = self.bad = 0
        self._at_once = at_once

    async def some(self, count: int) -> None:
        until, self.callers.wanted = self.over + count, self._at_once
        while self.over < until:
            await asyncio.sleep(0.02)
            self.callers.wanted = min(self._at_once, until - self.over)
            if len(self.callers.phones) < self.callers.wanted:
                await self.callers.ramp(self.callers.wanted + 1, 0.0)
        await self.callers.hang_up()

    def _ended(self, turn: Turn) -> None:
        self.answered += turn.answered is not None

    def _over(self, phone: Phone) -> None:
        self.over += 1
        self.bad += not phone.end.is_ours or phone.end.is_refused


async def run(args: argparse.Namespace) -> int:
    async with Vendors(Delays(0.05, 0.02, 0.02, 0.005)) as vendors:
        with tempfile.TemporaryDirectory(prefix="agentd-leak-") as folder:
            port, told = server.free_port(), Path(folder) / "told.json"
            os.environ[FILE] = str(told)
            files = server.write(Path(folder), vendors.server_file(port), {AGENT: agent_file(greeting=False)})
            begin = "from benchmarks.leak import inside; inside()"
            async with server.started("-c", begin, "serve", "--config", str(files), port=port) as pid:
                return await watch(args, pid, port, told)


async def watch(args: argparse.Namespace, pid: int, port: int, told: Path) -> int:
    short = ShortCalls(port, args.at_once)
    metronome = asyncio.create_task(short.callers.metronome.run())
    looks: list[tuple[int, dict[str, int]]] = []
    print("calls  answered  RSS MB  files  tasks  threads   objects", flush=True)
    try:
        while short.over < args.calls:
            await short.some(min(EVERY if looks else args.first, args.calls - short.over))
            await quiet(port)
            found = look(pid, told)
            looks.append((short.over, found))
            print(
                f"{short.over:>5}  {short.answered:>8}  {found['rss'] / 1e6:>6.1f}  {found['files']:>5}  "
                f"{found['tasks']:>5}  {found['threads']:>7}  {found['objects']:>8}",
                flush=True,
            )
    finally:
        metronome.cancel()
    (first_calls, first), (last_calls, last) = looks[0], looks[-1]
    growth = (last["rss"] - first["rss"]) / 1e6
    print(
        f"from call {first_calls} to {last_calls}: RSS {growth:+.1f} MB ({growth / first['rss'] * 1e8:+.1f} %), "
        f"files {last['files'] - first['files']:+d}, tasks {last['tasks'] - first['tasks']:+d}, "
        f"threads {last['threads'] - first['threads']:+d}; {short.bad} calls refused or dropped"
    )
    # The pool keeps the connections of as many replies as there were at once.
    is_left = last["tasks"] > first["tasks"] or last["files"] > first["files"] + args.at_once
    return 1 if is_left or short.bad else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=10)
    parser.add_argument("--first", type=int, default=200, help="calls before the first look")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(run(parser.parse_args())))


if __name__ == "__main__":
    main()
