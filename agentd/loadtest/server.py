"""A server of our own for a load test: `agentd serve` as a real process, on cores of its own."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from agentd.errors import AgentdError

UP = 30.0  # seconds until calls are answered
DOWN = 15.0  # seconds until the process is gone


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def write(folder: Path, server: Mapping[str, Any], agents: Mapping[str, Mapping[str, Any]]) -> Path:
    """The files of a configuration; the path of the first."""
    (folder / "agents").mkdir()
    for name, agent in agents.items():
        (folder / "agents" / f"{name}.yaml").write_text(yaml.safe_dump(dict(agent)))
    file = folder / "agentd.yaml"
    file.write_text(yaml.safe_dump(dict(server)))
    return file


@contextlib.contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What is started within runs on these cores alone; none of them: anywhere."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.asynccontextmanager
async def started(*command: str, port: int, cores: Collection[int] = ()) -> AsyncIterator[int]:
    """A process that listens on ``port``; its id. Raises :class:`AgentdError` when it does not come up."""
    with on_cores(cores), tempfile.TemporaryFile() as told, _ended_by_sigterm():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdout=told,
            stderr=told,
            start_new_session=True,  # Ctrl-C is ours to answer
        )
        try:
            await _up(process, port)
            yield process.pid
        except NotUp as exc:
            told.seek(0)
            why = told.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise AgentdError(f"the server did not start: {why or exc}") from exc
        finally:
            await _down(process)


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Cancels this task at SIGTERM, as Ctrl-C does: who goes without a word leaves the server behind."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class NotUp(Exception):
    """It is gone, or does not answer."""


def split_cores(servers: int = 1) -> tuple[set[int], set[int]]:
    """Cores for a server of so many processes, and for its callers. Raises :class:`AgentdError` where there are too
    few.
    """
    every = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(every) <= servers:
        raise AgentdError(f"--pin: expected more than {servers} cores that can be told apart, got {len(every)}")
    return set(every[:servers]), set(every[servers:])


async def _up(process: asyncio.subprocess.Process, port: int) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(UP), httpx.AsyncClient(trust_env=False) as client:
            while process.returncode is None:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{port}/healthz")).is_success:
                        return
                await asyncio.sleep(0.1)
            raise NotUp(f"it ended with code {process.returncode}")
    raise NotUp(f"expected it to be up within {UP:.0f} s")


async def _down(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DOWN):
                await process.wait()
                return
        process.kill()
        await process.wait()
