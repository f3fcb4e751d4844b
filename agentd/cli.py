"""The commands."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import uvloop
from rich.console import Console

from agentd import __version__, logs
from agentd.errors import AgentdError
from agentd.load import load, missing
from agentd.loadtest.arguments import add_arguments
from config.files import SERVER_FILE, Config
from config.problems import ConfigError

BAD_CONFIG = 2
T = TypeVar("T")


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit with its code: 0 done, 1 it did not come off, 2 the configuration or command is wrong."""
    # Before numpy is first imported: its products here are small, and a second thread that spins for them costs a core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    args = _parser().parse_args(argv)
    args.argv = sys.argv[1:] if argv is None else argv
    logs.set_up(args.log or args.level, getattr(args, "log_format", None) or "text")
    try:
        sys.exit(args.run(args))
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        sys.exit(BAD_CONFIG)
    except AgentdError as exc:
        print(f"agentd: {exc}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentd", description="A self-hosted voice-agent server for jambonz.")
    parser.add_argument("--version", action="version", version=f"agentd {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--log", default=None, choices=["debug", "info", "warning", "error"], help="log level")
    config = argparse.ArgumentParser(add_help=False, parents=[common])
    config.add_argument("--config", type=Path, metavar="FILE", help="agentd.yaml; the agents lie in agents/ beside it")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", parents=[config], help="answer calls; without configuration the agent `demo`")
    serve.add_argument("--host", help="address to listen on (127.0.0.1; 0.0.0.0 where `access` says who may come in)")
    serve.add_argument("--port", type=int, help="port to listen on (8080); 0 takes a free one")
    serve.add_argument("--workers", type=_workers, metavar="N", help="processes on this port (1)")
    serve.add_argument("--log-format", choices=["text", "json"], help="lines of the log (text)")
    serve.add_argument("--open", action="store_true", help="anyone may come in, as long as `access` names nobody")
    serve.set_defaults(run=_serve, level="info")

    demo = commands.add_parser("demo", parents=[common], help="a conversation with the built-in agent, start to end")
    demo.add_argument("--llm", metavar="URL#MODEL", help="an OpenAI-compatible server instead of the scripted stand-in")
    demo.add_argument("--wav", type=Path, default=Path("demo.wav"), help="where the recording goes (demo.wav)")
    demo.set_defaults(run=_demo, level="warning")

    call = commands.add_parser("call", parents=[common], help="phone a listen socket without a phone")
    call.add_argument("url", metavar="URL", help="ws://HOST:PORT/listen/AGENT")
    what = call.add_mutually_exclusive_group(required=True)
    what.add_argument("--say", action="append", metavar="TEXT", help="say this; again for each further turn")
    what.add_argument("--wav", type=Path, action="append", metavar="FILE", help="play this PCM16 WAV instead")
    call.add_argument("--record", type=Path, metavar="FILE", help="stereo WAV: caller left, agent right")
    call.add_argument("--rate", type=int, default=16000, help="sampleRate of the call, in Hz (16000)")
    call.set_defaults(run=_call, level="warning")

    load_test = commands.add_parser("load", parents=[common], help="phone a listen socket many times at once")
    add_arguments(load_test)
    load_test.set_defaults(run=_load, level="warning")

    verb = commands.add_parser("verb", parents=[config], help="the jambonz listen verb that reaches an agent")
    verb.add_argument("agent", metavar="AGENT")
    verb.add_argument("--sample-rate", type=int, default=8000, help="of the caller's audio, in Hz (8000)")
    verb.add_argument("--playback-rate", type=int, default=8000, help="of ours: the phone line's own rate (8000)")
    verb.set_defaults(run=_verb, level="warning")

    check = commands.add_parser("check", parents=[config], help="read the configuration and say what is wrong with it")
    check.add_argument("--probe", action="store_true", help="ask every configured vendor, and say what came of it")
    check.set_defaults(run=_check, level="warning")
    return parser


def _serve(args: argparse.Namespace) -> int:
    from agentd.workers.worker import Worker

    config = load(args.config)
    logs.set_up(args.log or config.server.logs.level or args.level, args.log_format or config.server.logs.format)
    if args.open:
        config = opened(config)
    process = config.server.process
    host = _host(config, args.config, args.host)
    port = process.port if args.port is None else args.port
    worker = Worker.from_environment()
    count = args.workers or process.workers
    if worker is None and count > 1:
        return _parent(config, host, port, count, args.argv)
    from agentd.jambonz.listen import Node
    from agentd.server import Server, work

    node = Node(config)
    if worker is None:
        _say_missing(config, node.shared)
        server = Server(node, host, port, listening=partial(_say_console, config, host, node.console_key))
        _run(server.serve())
    else:
        worker.name_logs()
        server = Server(node, host, port, worker.post)
        _run(work(worker, server))
    return 0 if server.started else 1


def _parent(config: Config, host: str, port: int, count: int, argv: list[str]) -> int:
    from agentd import access
    from agentd.ops import bus
    from agentd.ops.shared_metrics import shared_metrics
    from agentd.workers.parent import Parent, bind, command_of
    from providers.registry import Shared

    if sys.platform == "win32":
        raise AgentdError("expected one worker on this system, got more: they share a socket as Unix has it")
    _say_missing(config, Shared())
    listening = bind(host, port)

    async def run() -> int:
        return await Parent(command_of(argv), count, listening).run()

    with shared_metrics(), tempfile.TemporaryDirectory(prefix="agentd-bus-") as folder:
        os.environ[bus.DIRECTORY] = folder
        os.environ[access.CONSOLE_KEY] = key = access.console_key(os.environ)
        _say_console(config, host, key, listening[0].getsockname()[1])
        return asyncio.run(run())


def _say_missing(config: Config, shared: Any) -> None:
    for what in missing(config, shared):
        print(f"agentd: {what}", file=sys.stderr)


def _say_console(config: Config, host: str, key: str, port: int) -> None:
    """Where the console is. Its key is for whoever started the server: shown on a terminal only, and in no log."""
    if not config.server.console.enable or not sys.stderr.isatty():
        return
    at = "127.0.0.1" if host == "0.0.0.0" else f"[{host}]" if ":" in host else host
    print(f"agentd: talk to an agent at http://{at}:{port}/", file=sys.stderr)
    if not config.server.access.names_somebody:
        print(f"agentd: and see and change every call at http://{at}:{port}/#key={key}", file=sys.stderr)


def _workers(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number ≥ 1, got {text!r}")
    return int(text)


def opened(config: Config) -> Config:
    """With ``access: open``, as the command line has it in words."""
    access = config.server.access.model_copy(update={"open": True})
    return replace(config, server=config.server.model_copy(update={"access": access}))


def _host(config: Config, file: Path | None, asked: str | None = None) -> str:
    """Where to listen; ``asked`` comes from the command line. Raises :class:`ConfigError`."""
    from agentd.access import host_to_listen_on

    where = "--host" if asked else f"{file or SERVER_FILE}: server.host"
    return host_to_listen_on(config.server.access, asked or config.server.process.host, where=where)


def _demo(args: argparse.Namespace) -> int:
    from agentd.demo import demo

    config = load_demo(args.llm)
    return _run(demo(config, Console(highlight=False), args.wav))


def load_demo(llm: str | None) -> Config:
    """The built-in agent, whatever lies in this folder; ``llm`` is URL#MODEL."""
    from config.files import DEMO, read_agent
    from config.server import Server
    from config.verb import Agent

    agent = read_agent(DEMO, env={})
    if llm is not None:
        url, _, model = llm.partition("#")
        if urlsplit(url).scheme not in ("http", "https") or not model:
            raise AgentdError(f"expected --llm as URL#MODEL, such as http://127.0.0.1:11434/v1#llama3.2; got {llm!r}")
        given = agent.given()
        given["llm"] |= {"vendor": "openai", "model": model, "connectOptions": {"baseURL": url}}
        agent = Agent.parse(given)
    # Its figures are those of a first call, whatever was said on this machine before.
    return Config(Server.model_validate({"speech_cache": False}), {"demo": agent})


def _call(args: argparse.Namespace) -> int:
    return _run(_phone(args))


async def _phone(args: argparse.Namespace) -> int:
    from agentd.caller import Caller, Voice, read_wav
    from providers.registry import Shared

    shared = Shared()
    try:
        if args.say:
            voice = Voice(shared, args.rate)
            turns = [await voice.speech(text) for text in args.say]
        else:
            turns = [read_wav(path, args.rate) for path in args.wav]
        async with Caller(args.url, rate=args.rate) as caller:
            try:
                # The agent may greet first, or wait for us.
                await caller.until(lambda: caller.heard_for > 0 or caller.quiet_for > 3, 30.0, "a greeting")
                await caller.until(lambda: caller.quiet_for >= 1.2, 120.0, "the greeting to end")
                for turn in turns:
                    await caller.turn(turn)
            finally:
                if args.record:
                    caller.save(args.record)
    finally:
        await shared.aclose()
    print(f"{len(turns)} turns, {len(caller.caller_side) / 2 / args.rate:.1f} s")
    return 0


def _load(args: argparse.Namespace) -> int:
    from agentd.loadtest.command import load

    return _run(load(args, Console()))


def _verb(args: argparse.Namespace) -> int:
    config = load(args.config)
    if args.agent not in config.agents:
        known = ", ".join(sorted(config.agents))
        raise AgentdError(f"expected an agent of {known}; got {args.agent!r}")
    base = config.server.process.public_url or "wss://YOUR-AGENTD-HOST"
    query = f"?playback_rate={args.playback_rate}" if args.playback_rate != args.sample_rate else ""
    callers = [entry for entry in config.server.access.listen if not entry.agents or args.agent in entry.agents]
    auth = {"wsAuth": {"username": callers[0].username, "password": "YOUR-PASSWORD"}} if callers else {}
    print(
        json.dumps(
            {
                "verb": "listen",
                "url": f"{base.rstrip('/')}/listen/{args.agent}{query}",
                **auth,
                "sampleRate": args.sample_rate,
                "mixType": "mono",
                "passDtmf": True,
                "bidirectionalAudio": {"enabled": True, "streaming": True, "sampleRate": args.playback_rate},
            },
            indent=2,
        )
    )
    return 0


def _check(args: argparse.Namespace) -> int:
    from providers.registry import Shared

    config = load(args.config)
    _host(config, args.config)
    if lacking := list(missing(config, Shared())):
        print("\n".join(f"agentd: {what}" for what in lacking), file=sys.stderr)
        return BAD_CONFIG
    if args.probe:
        return _run(_probe(config))
    names = sorted(config.agents)
    print(f"{len(names)} agent{'s' if len(names) != 1 else ''}: {', '.join(names)}. The configuration is sound.")
    return 0


async def _probe(config: Config) -> int:
    from agentd.probe import probe
    from providers.registry import Shared

    shared, is_well = Shared(), True
    try:
        async for found in probe(config, shared):
            is_well &= found.is_well
            print(found.line, flush=True)
    finally:
        await shared.aclose()
    return 0 if is_well else 1


def _run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
