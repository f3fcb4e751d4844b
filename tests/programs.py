"""Redis and HAProxy for tests, as they are: each on a port or a socket of its own, until the block is left.

    async with redis() as server:
        bus = RedisBus("voice1.w1", server.url)
        await server.stop()

Where they are not installed the test is skipped; CI installs them (.ci/run).
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

STARTS_WITHIN = 20.0  # seconds, on a busy machine
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
HAPROXY_CONFIG = Path(__file__).parent.parent / "deploy" / "haproxy.cfg"


def program(name: str) -> str:
    """Where it is. Skips the test where it is not."""
    found = shutil.which(name, path=PATH)
    if found is None:
        pytest.skip(f"needs {name} (apt-get install {'redis-server' if 'redis' in name else name})")
    return found


class RedisServer:
    """On a unix socket, with nothing on disk: what starts again has forgotten everything."""

    def __init__(self, folder: str) -> None:
        self._socket = f"{folder}/redis.sock"
        self.url = f"unix://{self._socket}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        where = ["--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no"]
        self._process = process = await asyncio.create_subprocess_exec(
            program("redis-server"), *where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        async with asyncio.timeout(STARTS_WITHIN):
            while b"accept connections" not in (line := await process.stdout.readline()):
                assert line, "expected Redis to start, it ended"

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.communicate()
            self._process = None


@contextlib.asynccontextmanager
async def redis() -> AsyncIterator[RedisServer]:
    with folder() as where:
        server = RedisServer(where)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def haproxy(env: Mapping[str, str]) -> AsyncIterator[str]:
    """With ``deploy/haproxy.cfg`` and these variables; where it listens, as ``host:port``."""
    at = f"127.0.0.1:{free_port()}"
    command = [program("haproxy"), "-db", "-f", str(HAPROXY_CONFIG)]
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "LISTEN": at, **env}, stdin=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(STARTS_WITHIN):
            while not await _is_open(at):
                assert process.returncode is None, "expected HAProxy to start, it ended"
                await asyncio.sleep(0.02)  # it says nowhere that it listens
        yield at
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """One whose path is short: that of a unix socket has room for a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="agentd-", dir="/tmp") as where:
        yield where


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def _is_open(at: str) -> bool:
    host, _, port = at.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True
