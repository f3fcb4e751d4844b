"""The arguments of `agentd load`. It imports little: every command reads them."""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from agentd.errors import AgentdError
from agentd.loadtest.simulated import Delays


def add_arguments(load: argparse.ArgumentParser) -> None:
    load.add_argument("url", metavar="URL", nargs="?", help="ws://HOST:PORT/listen/AGENT (a server of its own)")
    load.add_argument("--calls", type=_count, metavar="N", help="at a time (10)")
    load.add_argument("--steps", type=_counts, metavar="N,N", help="one after the other, upwards")
    load.add_argument("--ramp", type=_seconds, default=10.0, metavar="TIME", help="to the calls of a step (10s)")
    load.add_argument("--seconds", type=_seconds, default=60.0, metavar="TIME", help="that a step is measured for (60)")
    load.add_argument("--barge-in", type=_share, default=0.1, metavar="SHARE", help="of turns that interrupt (0.1)")
    load.add_argument("--hang-up", type=_share, default=0.02, metavar="SHARE", help="of turns that end the call (0.02)")
    load.add_argument(
        "--min-speech", type=_seconds, default=0.5, metavar="TIME", help="that interrupts the agent (0.5)"
    )
    load.add_argument("--deadline", type=_seconds, default=10.0, metavar="TIME", help="for an answer to begin (10s)")
    load.add_argument("--missed", type=_share, default=0.01, metavar="SHARE", help="of turns that may be missed (0.01)")
    load.add_argument("--rate", type=int, default=8000, metavar="HZ", help="of the callers' audio (8000)")
    load.add_argument("--user", metavar="NAME", help="for Basic auth (jambonz's wsAuth)")
    load.add_argument("--password-env", metavar="VARIABLE", help="where its password is")
    load.add_argument("--key-env", metavar="VARIABLE", help="where a key of `access.keys` is, for latency parts")
    load.add_argument("--metadata", type=_object, default={}, metavar="JSON", help="of the listen verb")
    load.add_argument("--pid", type=int, metavar="PID", help="of a server on this machine, for its CPU and memory")
    load.add_argument("--vendors", choices=["simulated"], help="that need no account")
    load.add_argument("--delays", type=_delays, default=Delays(), metavar="stt=100,llm=200", help="theirs, in ms")
    load.add_argument("--vendor-port", type=int, default=9101, metavar="PORT", help="of the first of three, with a URL")
    load.add_argument("--pin", action="store_true", help="the server on one core, everything else on the others")
    load.add_argument("--json", type=Path, metavar="FILE", help="the report")
    load.add_argument("--html", type=Path, metavar="FILE", help="the report as one page")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 10s or 2m, got {text!r}")
    return float(found[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "": 1}[found[2]]


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of calls, got {text!r}")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part.strip()) for part in text.split(",")]


def _share(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")
    return found


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("expected a JSON object, got something else")
    return found


def _delays(text: str) -> Delays:
    try:
        return Delays.read(text)
    except AgentdError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
