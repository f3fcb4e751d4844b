"""From `agentd serve` to the first accepted call, with one vendor of each role configured: a process from nothing, each
time; the vendors' servers are on loopback.

    python -m benchmarks.start [--times 3]

The clock starts when the process is begun, and stops when a call is accepted, and again when its first audio comes
back: while SDKs are still being imported, an accepted call waits. Beside it stands the time that a process needs to
import nothing but the server.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop
from websockets.asyncio.client import connect

from benchmarks.added_latency import FIRST, ROLES, configuration, row

COMBINATIONS = (FIRST, ("deepgramflux", "anthropic", "elevenlabs"), ("assemblyai", "google", "rime"),
                ("speechmatics", "aws", "deepgram"), ("elevenlabs", "openai", "openai"))  # fmt: skip
PORT = 18099


def write(folder: Path, vendors: tuple[str, ...], urls: Mapping[str, str]) -> Path:
    """The configuration as files, which is what `serve` reads."""
    (folder / "agents").mkdir()
    agent = configuration(vendors, urls).agents["demo"].given()
    (folder / "agents" / "demo.json").write_text(json.dumps(agent))
    file = folder / "agentd.yaml"
    file.write_text("server: {host: 127.0.0.1}\nspeech_cache: false\n")
    return file


async def once(vendors: tuple[str, ...]) -> tuple[float, float, float]:
    """Seconds to the accepted call, to its first audio, and to a process that has imported the server only."""
    async with AsyncExitStack() as stack:
        urls = {}
        for role, vendor in zip(ROLES, vendors, strict=True):
            made: Any = await stack.enter_async_context(row(role, vendor).server(None))
            urls[role] = made.url
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file = write(folder, vendors, urls)
        bare = time.perf_counter()
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import agentd.cli, agentd.server")
        await process.wait()
        began = time.perf_counter()
        program = "from agentd.cli import main; main()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, "serve", "--config", str(file), "--port", str(PORT), "--log", "error"
        )
        try:
            accepted, sounding = await first_call()
            return accepted - began, sounding - began, began - bare
        finally:
            process.terminate()
            await process.wait()


async def first_call() -> tuple[float, float]:
    """When it was accepted, and when its first audio came."""
    while True:
        try:
            async with connect(f"ws://127.0.0.1:{PORT}/listen/demo", compression=None) as socket:
                accepted = time.perf_counter()
                await socket.send(json.dumps({"sampleRate": 8000, "mixType": "mono", "callSid": "bench"}))
                await socket.recv()
                return accepted, time.perf_counter()
        except OSError:
            await asyncio.sleep(0.01)


async def measure(times: int) -> None:
    for vendors in COMBINATIONS:
        found = sorted([await once(vendors) for _ in range(times)])
        middle = found[len(found) // 2]
        print(
            f"{' + '.join(vendors):<44} accepted after {middle[0]:.2f} s (most {found[-1][0]:.2f}), first audio after "
            f"{middle[1]:.2f} s: {middle[1] / middle[2]:.1f} times the bare imports",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(parser.parse_args().times))


if __name__ == "__main__":
    main()
