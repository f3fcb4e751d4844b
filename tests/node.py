"""Real applications in processes of their own: written with jambonz's SDKs, for Node.js and for Python.

    async with application("examples.js", {"GEOCODING_URL": …}) as url:
        …  # ws://127.0.0.1:port/

npm installs the Node SDK once into a cache folder of the user. Only where there is no Node.js is the test skipped, and
never in CI.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "applications"
SDK = "@jambonz/sdk"
VERSION = "0.10.1"
STARTS_WITHIN = 20.0  # seconds, on a busy machine
INSTALLS_WITHIN = 180.0


@contextlib.asynccontextmanager
async def application(name: str, env: Mapping[str, str] = {}) -> AsyncIterator[str]:
    """Run ``tests/applications/<name>`` on a free port until the block is left; its URL, once it listens there."""
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        *_command(name),
        env={**os.environ, **_paths(name), **env, "PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(STARTS_WITHIN):
            said = b""
            while b"listening" not in said:  # each of them says so once its port is open
                line = await process.stdout.readline()
                said += line
                if not line:
                    raise RuntimeError(f"expected {name} to listen, got:\n{said.decode(errors='replace')}")
        reading = asyncio.create_task(_pass_on(process.stdout))
        yield f"ws://127.0.0.1:{port}/"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if reading is not None:
            await reading


def node_modules(package: str = SDK, version: str = VERSION) -> Path:
    """Where a package of npm's is; installed when it is not there yet."""
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        if os.environ.get("CI"):
            pytest.fail("expected Node.js and npm, got none")
        pytest.skip("needs Node.js and npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "agentd-tests" / f"{package.rpartition('/')[2]}-{version}"
    installed = folder / "installed"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run tests
        if not installed.exists():
            how = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
            try:
                subprocess.run(
                    [npm, "install", *how, f"{package}@{version}"],
                    cwd=folder,
                    check=True,
                    capture_output=True,
                    timeout=INSTALLS_WITHIN,
                )
            except (subprocess.SubprocessError, OSError) as exc:
                pytest.fail(f"npm could not install {package}@{version} ({type(exc).__name__})")
            installed.touch()
    return folder / "node_modules"


def _command(name: str) -> list[str]:
    if name.endswith(".js"):
        return [shutil.which("node") or "node", str(HERE / name)]
    return [sys.executable, str(HERE / name)]


def _paths(name: str) -> dict[str, str]:
    return {"NODE_PATH": str(node_modules())} if name.endswith(".js") else {"PYTHONUNBUFFERED": "1"}


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def _pass_on(output: asyncio.StreamReader) -> None:
    """What it says goes to the test's output: a full pipe would stop it."""
    while line := await output.readline():
        print(line.decode(errors="replace"), end="")
