"""`agentd serve` as a process of its own, or as several, with an agent on scripted vendors."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from config.verb import Agent

STARTS_WITHIN = 30.0  # seconds, on a busy machine
IDLE = {"limits": {"cpu": 1, "loop_lag_ms": 60_000}, "speech_cache": False, "turn": {"engine": "rule"}}


class Serving:
    """``lines`` are those of its log so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.lines: list[str] = []
        self._process = process
        self._came = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(), name="log of agentd")

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._came:
                self.lines.append(line.decode().rstrip())
                self._came.notify_all()

    async def told(self, text: str, times: int = 1) -> list[str]:
        """Wait for so many lines with this text; returns them."""
        async with asyncio.timeout(STARTS_WITHIN), self._came:
            await self._came.wait_for(lambda: len(self._with(text)) >= times)
        return self._with(text)

    def _with(self, text: str) -> list[str]:
        return [line for line in self.lines if text in line]

    @property
    def port(self) -> int:
        return int(re.findall(r"port=(\d+)", "\n".join(self.lines))[0])

    def url(self, path: str = "", scheme: str = "ws") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, sig: signal.Signals) -> None:
        self._process.send_signal(sig)

    async def ended(self) -> int:
        async with asyncio.timeout(STARTS_WITHIN):
            code = await self._process.wait()
            await self._reading
        return code

    async def close(self) -> None:
        if self._process.returncode is None:
            self.signal(signal.SIGINT)  # a parent that is killed leaves workers behind, which drain
        await self.ended()


@contextlib.asynccontextmanager
async def serving(folder: Path, agent: Agent, *, workers: int = 1, **server: Any) -> AsyncIterator[Serving]:
    """On a free port, once every worker answers calls. ``server`` are keys of ``agentd.yaml``."""
    (folder / "agents").mkdir(exist_ok=True)
    (folder / "agents" / "demo.json").write_text(json.dumps(agent.given()))
    (folder / "agentd.yaml").write_text(json.dumps({**IDLE, **server}))
    command = ["-m", "agentd", "serve", "--host", "127.0.0.1", "--port", "0", "--workers", str(workers)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env=dict(os.environ), stderr=asyncio.subprocess.PIPE
    )
    made = Serving(process)
    try:
        await made.told("agentd.server: listening", workers)
        yield made
    finally:
        await made.close()
