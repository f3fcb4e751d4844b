"""`agentd load`: what it does with its arguments."""

import argparse
import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from rich.console import Console

from agentd.call.audio import RATES
from agentd.errors import AgentdError
from agentd.loadtest import server, voice
from agentd.loadtest.page import page
from agentd.loadtest.phone import Target
from agentd.loadtest.report import SERVER_UNSEEN, Run, report
from agentd.loadtest.run import LoadTest, Steps
from agentd.loadtest.simulated.vendors import AGENT, Vendors, agent_file
from agentd.loadtest.talk import Plan
from agentd.loadtest.view import View, line
from agentd.outbound.basic_auth import basic
from config.secrets import hide_in_url

INTERRUPTED = 130


async def load(args: argparse.Namespace, console: Console) -> int:
    """The process's exit code: 0 all was well, 1 it was not, 130 Ctrl-C. Raises :class:`AgentdError`."""
    _check(args)
    plan = Plan(args.barge_in, args.hang_up, args.deadline, min_speech=args.min_speech)
    async with AsyncExitStack() as stack:
        vendors = await stack.enter_async_context(_vendors(args, console))
        url, pid = args.url, args.pid
        if url is None:
            assert vendors is not None
            url, pid = await stack.enter_async_context(own_server(vendors, pin=args.pin))
        elif args.pin:
            _pin(pid)
        run = Run(hide_in_url(url), plan, args.delays if vendors is not None else None)
        if pid is None:
            run.notes.append(SERVER_UNSEEN)
        target = Target(url, args.rate, _headers(args), args.metadata)
        steps = Steps(sorted(args.steps or [args.calls or 10]), args.ramp, args.seconds)
        said = await _voice(args)
        view = stack.enter_context(View(console))
        test = LoadTest(
            run, target, said, steps, pid=pid, key=_environment(args.key_env), vendors=vendors, look=view.look
        )
        try:
            await test.go()
        except asyncio.CancelledError:
            run.is_cut_short = True
        found = report(run, args.missed)
    write(found, args.json, args.html)
    return tell(found, console)


def tell(found: Mapping[str, Any], console: Console) -> int:
    for step in found["steps"]:
        console.print(line(step), soft_wrap=True, highlight=False, markup=False)
    for words in (*found["warnings"], *found["why_not"]):
        console.print(f"agentd: {words}", soft_wrap=True, highlight=False, markup=False)
    if any(warning.startswith("the run was cut") for warning in found["warnings"]):
        return INTERRUPTED
    return 0 if found["is_good"] else 1


def write(found: Mapping[str, Any], json_file: Path | None, html_file: Path | None) -> None:
    """Raises :class:`AgentdError`."""
    try:
        if json_file is not None:
            json_file.write_text(json.dumps(found, indent=1) + "\n")
        if html_file is not None:
            html_file.write_text(page(found))
    except OSError as exc:
        raise AgentdError(f"{exc.filename}: {exc.strerror}") from exc


@contextlib.asynccontextmanager
async def own_server(
    vendors: Vendors, *, pin: bool = False, greeting: bool = True, more: Mapping[str, Any] = {}
) -> AsyncIterator[tuple[str, int]]:
    """A server that asks simulated vendors: its agent's URL and its process. ``more`` are keys of `agentd.yaml`."""
    theirs, ours = server.split_cores() if pin else (set[int](), set[int]())
    with tempfile.TemporaryDirectory(prefix="agentd-load-") as folder:
        port = server.free_port()
        file = server.write(Path(folder), {**vendors.server_file(port), **more}, {AGENT: agent_file(greeting=greeting)})
        command = ("-m", "agentd", "serve", "--config", str(file), "--log", "warning")
        async with server.started(*command, port=port, cores=theirs) as pid:
            with server.on_cores(ours):
                yield f"ws://127.0.0.1:{port}/listen/{AGENT}", pid


@contextlib.asynccontextmanager
async def _vendors(args: argparse.Namespace, console: Console) -> AsyncIterator[Vendors | None]:
    if args.vendors is None:
        yield None
        return
    async with Vendors(args.delays, args.vendor_port if args.url is not None else 0) as vendors:
        if args.url is not None:
            told = yaml.safe_dump({"credentials": vendors.credentials()})
            console.print(f"The server is to ask the simulated vendors, by its agentd.yaml:\n{told}", highlight=False)
        yield vendors


async def _voice(args: argparse.Namespace) -> list[voice.Utterance]:
    if args.vendors is None:
        with contextlib.suppress(ImportError):
            return await voice.spoken(args.rate)
    return list(voice.buzzes(args.rate))


def _check(args: argparse.Namespace) -> None:
    if args.url is None and args.vendors is None:
        raise AgentdError("expected a URL, or --vendors simulated for a server of its own; got neither")
    if args.url is not None and urlsplit(args.url).scheme not in ("ws", "wss"):
        raise AgentdError("expected a URL that begins with ws:// or wss://, got another")
    if args.rate not in RATES:
        raise AgentdError(f"expected a rate of {', '.join(map(str, RATES))} Hz, got {args.rate}")
    if args.calls is not None and args.steps is not None:
        raise AgentdError("expected --calls or --steps, got both")
    if bool(args.user) != bool(args.password_env):
        raise AgentdError("expected --user and --password-env together, got one of them")


def _headers(args: argparse.Namespace) -> dict[str, str]:
    if not args.user:
        return {}
    return {"Authorization": basic(args.user, _environment(args.password_env))}


def _environment(variable: str | None) -> str | None:
    if variable is None:
        return None
    if not (value := os.environ.get(variable)):
        raise AgentdError(f"expected the environment to have {variable}, and it has not")
    return value


def _pin(pid: int | None) -> None:
    theirs, ours = server.split_cores()
    if pid is None:
        raise AgentdError("--pin: expected --pid beside a URL, got none")
    try:
        os.sched_setaffinity(pid, theirs)
    except OSError as exc:
        raise AgentdError(f"--pin: process {pid}: {exc.strerror}") from exc
    os.sched_setaffinity(0, ours)
