"""From the frame that confirms a barge-in to `killAudio` on the socket: one call, a real server process, loopback.

    python -m benchmarks.barge_in [--times 100]

The caller speaks in real time. The clock starts just before the 25th voiced frame (500 ms) is written, and stops when
`killAudio` has been read.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import uvloop
from websockets.asyncio.client import ClientConnection, connect

from agentd.jambonz.listen import Node
from agentd.server import Server
from config.files import Config
from config.server import Server as ServerConfig
from config.verb import Agent

FRAME = 160  # samples of 20 ms at 8 kHz
LOUD, QUIET = (20000).to_bytes(2, "little") * FRAME, bytes(2 * FRAME)


def is_loud(frame: bytes) -> bool:
    return frame[:2] == LOUD[:2]


def agent() -> Agent:
    """Answers at once and at length, on scripted vendors without delays."""
    return Agent.model_validate(
        {
            "greeting": "Hello. " * 40,
            "stt": {"vendor": "scripted", "options": {"finals": ["go on"] * 100_000, "delay": 0.0}},
            "llm": {"vendor": "scripted", "vendorParams": {"replies": ["Well then. " * 40], "first": 0.0}},
            "tts": {"vendor": "scripted", "options": {"first": 0.0}},
        }
    )


def serve(pipe: Connection) -> None:
    """The server, in a process of its own."""

    async def main() -> None:
        config = ServerConfig.model_validate({"speech_cache": False})
        node = Node(Config(config, {"demo": agent()}), detector_for=lambda rate: is_loud)
        server = Server(node, "127.0.0.1", 0)
        serving = asyncio.create_task(server.serve())
        await server.up()
        pipe.send(server.port)
        await serving

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def measure(port: int, times: int) -> list[float]:
    """Milliseconds, one for each barge-in."""
    spans = []
    async with connect(f"ws://127.0.0.1:{port}/listen/demo", compression=None, max_size=None) as socket:
        await socket.send(json.dumps({"sampleRate": 8000, "mixType": "mono", "callSid": "bench"}))
        await socket.recv()  # the silence that opens the call
        for _ in range(times):
            while not any(message := await socket.recv()) or isinstance(message, str):
                pass  # until the agent is heard
            await asyncio.sleep(0.05)
            for _ in range(24):
                await socket.send(LOUD)
                await asyncio.sleep(0.02)
            began = time.perf_counter()
            await socket.send(LOUD)
            await kill(socket)
            spans.append((time.perf_counter() - began) * 1000)
            for _ in range(15):
                await asyncio.sleep(0.02)
                await socket.send(QUIET)
    return spans


async def kill(socket: ClientConnection) -> None:
    while True:
        message = await socket.recv()
        if isinstance(message, str) and json.loads(message).get("type") == "killAudio":
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100)
    times = parser.parse_args().times
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            spans = sorted(runner.run(measure(ours.recv(), times)))
    finally:
        process.terminate()
        process.join()
    p50, p99 = spans[len(spans) // 2], spans[min(int(len(spans) * 0.99), len(spans) - 1)]
    print(f"{times} barge-ins, {os.cpu_count()} cores: p50 {p50:.2f} ms, p99 {p99:.2f} ms, most {spans[-1]:.2f} ms")


if __name__ == "__main__":
    main()
