"""The report of a load test: what was measured, what was not and why, and whether it was good enough."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from agentd import __version__
from agentd.loadtest.figures import PARTS, Stretch, counted, figures, of_each, series
from agentd.loadtest.simulated import Delays
from agentd.loadtest.talk import Plan

FORMAT = 1
LATE = 10.0  # milliseconds: callers whose p99 is later than that are no measure of a server
WAITED = 10.0  # percent of the time: a server that waits more for its core is not what was measured

SERVER_UNSEEN = "CPU and memory of the server are not shown: --pid names its process on this machine"


@dataclass(slots=True)
class Run:
    """All that a report is made of. ``url`` is without secrets."""

    url: str
    plan: Plan
    delays: Delays | None = None
    stretches: list[Stretch] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is not shown, and why
    is_cut_short: bool = False


def report(run: Run, allowed: float) -> dict[str, Any]:
    """``allowed``: the share of turns that may be missed."""
    steps = [figures(each, run.delays.turn if run.delays else None) for each in run.stretches]
    seconds = max((each.ended for each in run.stretches), default=0.0)
    turns = of_each(run.stretches, lambda each: each.turns)
    parts = of_each(run.stretches, lambda each: each.parts)
    samples = of_each(run.stretches, lambda each: each.samples)
    why = list(shortcomings(steps, allowed))
    return {
        "format": FORMAT,
        "agentd": __version__,
        "url": run.url,
        "machine": machine(),
        "plan": asdict(run.plan),
        "vendors": None if run.delays is None else {f"{k}_ms": round(v * 1000) for k, v in asdict(run.delays).items()},
        "is_good": not why,
        "why_not": why,
        "warnings": warnings(steps, is_cut_short=run.is_cut_short),
        "not_shown": list(run.notes),
        "steps": steps,
        "over_time": {
            "gap_ms": series(((turn.at, turn.gap) for turn in turns), seconds),
            "stop_ms": series(((turn.at, turn.stop) for turn in turns), seconds),
            "missed": counted((turn.at for turn in turns if turn.is_missed), seconds),
            "calls": [[round(sample.at, 1), sample.calls] for sample in samples],
            "cpu_percent": [[round(s.at, 1), round(s.cpu * 100, 1)] for s in samples if s.cpu is not None],
            "rss_mb": [[round(s.at, 1), round(s.rss / 1e6, 1)] for s in samples if s.rss is not None],
            "generator_cpu_percent": [[round(sample.at, 1), round(sample.own * 100, 1)] for sample in samples],
            "parts": {
                name: found
                for name in PARTS
                if (found := series(((at, part.get(name)) for at, part in parts), seconds))["p50"]
            },
        },
    }


def shortcomings(steps: Sequence[Mapping[str, Any]], allowed: float) -> list[str]:
    """Why the exit code is 1; nothing when it is 0."""
    total = {name: sum(step[name] for step in steps) for name in ("turns", "missed", "refused", "unreached", "dropped")}
    found = []
    for name, words in (("refused", "refused"), ("unreached", "not answered at all"), ("dropped", "dropped")):
        if count := total[name]:
            why = {reason for step in steps for reason in step["reasons"]}
            found.append(f"{count} calls were {words} ({', '.join(sorted(why))})")
    if not total["turns"]:
        found.append("no turn was measured")
    elif total["missed"] > allowed * total["turns"]:
        found.append(f"{total['missed']} of {total['turns']} turns were not answered in time")
    return found


def warnings(steps: Sequence[Mapping[str, Any]], *, is_cut_short: bool = False) -> list[str]:
    found = []
    for step in steps:
        late = max((spread["p99"] for spread in _lates(step)), default=0.0)
        if late > LATE:
            found.append(
                f"at {step['calls']} calls the callers themselves were late (p99 {late:.1f} ms): "
                "these figures are theirs, not the server's"
            )
        if (waited := (step["server"] or {}).get("waited_percent", 0.0)) > WAITED:
            found.append(
                f"at {step['calls']} calls the server waited {waited:.0f} % of the time for a core that others had"
            )
    if is_cut_short:
        found.append("the run was cut short: the figures are those so far")
    return found


def _lates(step: Mapping[str, Any]) -> list[Mapping[str, float]]:
    generator = step["generator"]
    return [found for found in (generator["late_ms"], generator["vendors_late_ms"]) if found]


def machine() -> dict[str, Any]:
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform(), "cpu": _cpu()}


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
