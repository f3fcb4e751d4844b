"""What the app gateway adds to a message: from jambonz's question to the application's answer, through agentd and
straight to the application, in turns. Three processes.

    python -m benchmarks.gateway [--times 500]
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import time
from multiprocessing.connection import Connection

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from agentd.jambonz.listen import Node
from agentd.server import Server
from benchmarks.added_latency import quantile
from config.files import Config
from config.server import Server as ServerConfig

SUBPROTOCOL = Subprotocol("ws.jambonz.org")
HOOK = {"call_sid": "bench", "from": "+15551230001", "speech": {"alternatives": [{"transcript": "agentd " * 20}]}}
VERBS = [{"verb": "say", "text": "Thank you. " * 10}, {"verb": "gather", "input": ["speech"], "actionHook": "/next"}]


async def answer(socket: ServerConnection) -> None:
    async for text in socket:
        await socket.send(json.dumps({"type": "ack", "msgid": json.loads(text)["msgid"], "data": VERBS}))


def serve_application(pipe: Connection) -> None:
    async def main() -> None:
        async with serve(answer, "127.0.0.1", 0, subprotocols=[SUBPROTOCOL], compression=None) as server:
            pipe.send(next(iter(server.sockets)).getsockname()[1])
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def serve_agentd(pipe: Connection, port: int) -> None:
    async def main() -> None:
        server = ServerConfig.model_validate({"apps": {"desk": f"ws://127.0.0.1:{port}/"}, "speech_cache": False})
        agentd = Server(Node(Config(server, {})), "127.0.0.1", 0)
        serving = asyncio.create_task(agentd.serve())
        await agentd.up()
        pipe.send(agentd.port)
        await serving

    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def asked(socket: ClientConnection, type_: str, number: int) -> float:
    """Seconds."""
    began = time.monotonic()
    message = {"type": type_, "msgid": str(number), "call_sid": "bench", "hook": "/gather", "data": HOOK}
    await socket.send(json.dumps(message))
    await socket.recv()
    return time.monotonic() - began


async def measure(ports: tuple[int, int], times: int) -> tuple[list[float], list[float]]:
    straight, through = f"ws://127.0.0.1:{ports[0]}/", f"ws://127.0.0.1:{ports[1]}/app/desk"
    async with (
        connect(straight, subprotocols=[SUBPROTOCOL], compression=None) as one,
        connect(through, subprotocols=[SUBPROTOCOL], compression=None) as other,
    ):
        for socket in (one, other):
            await asked(socket, "session:new", -1)
        found: tuple[list[float], list[float]] = ([], [])
        for number in range(times):
            for socket, seconds in zip((one, other), found, strict=True):
                seconds.append(await asked(socket, "verb:hook", number))
                await asyncio.sleep(0.005)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=500)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    application = context.Process(target=serve_application, args=(theirs,), daemon=True)
    application.start()
    port = ours.recv()
    agentd = context.Process(target=serve_agentd, args=(theirs, port), daemon=True)
    agentd.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            straight, through = runner.run(measure((port, ours.recv()), args.times))
    finally:
        agentd.terminate()
        application.terminate()
    for name, values in (("straight", straight), ("through agentd", through)):
        print(f"{name:<15} p50 {quantile(values, 0.5):5.2f}  p99 {quantile(values, 0.99):5.2f} ms there and back")
    both_ways = quantile(through, 0.5) - quantile(straight, 0.5)
    print(f"added           p50 {both_ways:5.2f} ms there and back, {both_ways / 2:.2f} ms a message")


if __name__ == "__main__":
    main()
