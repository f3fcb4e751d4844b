"""How many calls a core holds, and what agentd adds to a turn meanwhile; and the same of the simplest relay beside it.

    python -m benchmarks.capacity [--calls 1,20,60,120] [--seconds 30] [--relay] [--json FILE] [--html FILE]

One server process on one core; callers and simulated vendors together on another. Each number of calls has a server of
its own. The callers talk all the time: 8 kHz, speech that webrtcvad takes for speech, a fifth of the turns interrupts
the agent. Everything that a call can have without an application is on: detector, barge-in, early generation, greeting,
history, events.

"Added" is the gap (the caller's last loud frame is sent → the first audible sample of the answer is here) less what
the vendors take: 100 ms from the last loud frame to the final transcript, 200 ms to the first token, 100 ms to the
first sound. The recogniser ends the turn by its own endpointing, which agentd believes: there is no silence rule in the
gap to be subtracted. What agentd waits for until the first words can be spoken (tokens come 10 ms apart, the first
sentence has one to three words) is in it; the relay hands every token on, whole word or not. "Words" is that wait as
the server's events tell it.
"""

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop

from agentd.loadtest import server
from agentd.loadtest.command import own_server, write
from agentd.loadtest.page import at
from agentd.loadtest.phone import Target
from agentd.loadtest.report import Run, machine, report
from agentd.loadtest.run import LoadTest, Steps
from agentd.loadtest.simulated import Delays
from agentd.loadtest.simulated.vendors import Vendors
from agentd.loadtest.talk import Plan
from agentd.loadtest.voice import buzzes

RATE = 8000
GOOD = 50.0  # milliseconds: the p95 of what is added, up to which a core holds the calls
RAMP = 0.1  # seconds a call
COLUMNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("added p50", ("added_ms", "p50")),
    ("p95", ("added_ms", "p95")),
    ("p99", ("added_ms", "p99")),
    ("words p50", ("parts", "text_ms", "p50")),
    ("CPU ms/call-s", ("server", "cpu_ms_per_call_second")),
    ("CPU %", ("server", "cpu_percent")),
    ("waited %", ("server", "waited_percent")),
    ("KB/call", ("server", "rss_kb_per_call")),
    ("turns", ("turns",)),
    ("missed", ("missed",)),
    ("stop p99", ("barge_in", "stop_ms", "p99")),
    ("late p99", ("generator", "late_ms", "p99")),
)


@contextlib.asynccontextmanager
async def relay(vendors: Vendors, *, pin: bool) -> AsyncIterator[tuple[str, int]]:
    theirs, ours = server.split_cores() if pin else (set[int](), set[int]())
    port = server.free_port()
    urls = [part for role, url in vendors.urls.items() for part in (f"--{role}", url)]
    command = ("-m", "benchmarks.relay", "--port", str(port), *urls)
    async with server.started(*command, port=port, cores=theirs) as pid:
        with server.on_cores(ours):
            yield f"ws://127.0.0.1:{port}/", pid


async def measure(
    calls: int, seconds: float, run: Run, delays: Delays, *, is_relay: bool, pin: bool, ramp: float
) -> None:
    """Adds a stretch to the run."""
    async with Vendors(delays) as vendors:
        make = relay(vendors, pin=pin) if is_relay else own_server(vendors, pin=pin)
        async with make as (url, pid):
            test = LoadTest(
                run,
                Target(url, RATE),
                list(buzzes(RATE)),
                Steps([calls], min(ramp * calls, 15.0), seconds),
                pid=pid,
                vendors=vendors,
            )
            await test.go()


def plan(*, is_relay: bool) -> Plan:
    return Plan(barge_in=0.2, hang_up=0.02, quiet_agent=is_relay)


def row(name: str, step: Any, *, is_relay: bool = False) -> str:
    cells = []
    for title, path in COLUMNS:
        value = None if is_relay and title == "stop p99" else at(step, *path)  # a relay knows no barge-in
        cells.append(f"{'–' if value is None else f'{value:g}':>{max(len(title), 6) + 2}}")
    return f"{step['calls']:>5} {name:<7}{''.join(cells)}"


def heading() -> str:
    return f"{'calls':>5} {'':<7}{''.join(f'{title:>{max(len(title), 6) + 2}}' for title, _ in COLUMNS)}"


def ratio(ours: Any, theirs: Any) -> str:
    """Agentd to the relay, by CPU and memory; and the difference of what is added."""
    found = []
    for name, path in (("CPU", "cpu_ms_per_call_second"), ("memory", "rss_kb_per_call")):
        one, other = at(ours, "server", path), at(theirs, "server", path)
        if one and other:
            found.append(f"{name} {one / other:.2f} times")
    for share in ("p50", "p95", "p99"):
        one, other = at(ours, "added_ms", share), at(theirs, "added_ms", share)
        if one is not None and other is not None:
            found.append(f"{share} {one - other:+.1f} ms")
    return f"{'':>5} {'':<7}  to the relay: {', '.join(found)}"


def held(steps: list[Any]) -> int:
    """The most calls at which all was well, and at fewer, too; 0 for none."""
    most = 0
    for step in sorted(steps, key=lambda step: step["calls"]):
        p95 = at(step, "added_ms", "p95")
        if p95 is None or p95 >= GOOD or step["missed"] or step["refused"] or step["dropped"]:
            break
        most = step["calls"]
    return most


async def compare(args: argparse.Namespace) -> None:
    runs = {name: Run(name, plan(is_relay=name == "relay"), args.delays) for name in ("agentd", "relay")}
    where = machine()
    print(f"{where['cpu']}, {where['cores']} cores, load {os.getloadavg()[0]:.1f} before; Python {where['python']}")
    print(heading(), flush=True)
    pin = len(os.sched_getaffinity(0)) > 1
    for calls in args.calls:
        for name in ("agentd", "relay") if args.relay else ("agentd",):
            is_relay = name == "relay"
            await measure(calls, args.seconds, runs[name], args.delays, is_relay=is_relay, pin=pin, ramp=args.ramp)
            print(row(name, report(runs[name], 0.0)["steps"][-1], is_relay=is_relay), flush=True)
        if args.relay:
            both = (report(runs[name], 0.0)["steps"][-1] for name in ("agentd", "relay"))
            print(ratio(*both), flush=True)
    for name, run in runs.items():
        if run.stretches:
            found = report(run, 0.0)
            print(f"{name}: {held(found['steps'])} calls a core at p95 added < {GOOD:.0f} ms, among those measured")
            for words in (*found["warnings"], *found["why_not"]):
                print(f"  {words}")
    write(report(runs["agentd"], 0.0), args.json, args.html)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=lambda text: [int(part) for part in text.split(",")], default=[1, 20, 60, 120])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--ramp", type=float, default=RAMP, help="seconds a call")
    parser.add_argument("--relay", action="store_true", help="measure the relay beside it")
    parser.add_argument("--delays", type=Delays.read, default=Delays(), metavar="stt=100,llm=200,tts=100,token=10")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
