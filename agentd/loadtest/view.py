"""What a load test shows while it goes on, in a terminal; and what it says of each step, anywhere."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from agentd.loadtest.figures import Spread, spread
from agentd.loadtest.page import at
from agentd.loadtest.run import LoadTest

LATELY = 10.0  # seconds


class View:
    """Use it as a context; :meth:`look` is for :class:`LoadTest`. Drawn once a second: the callers share the core."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "View":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def look(self, test: LoadTest) -> None:
        if self._live is not None:
            self._live.update(table(test), refresh=True)


def table(test: LoadTest) -> Table:
    stretch, now = test.stretch, test.now
    lately = [turn for turn in stretch.turns if turn.at > now - LATELY]
    shown = Table(box=None, show_header=False, pad_edge=False)
    shown.add_row("time", f"{now:.0f} s, {'measuring' if stretch.turns else 'ramping up'}")
    shown.add_row("calls", f"{test.callers.up} of {test.callers.wanted} (step to {stretch.calls})")
    shown.add_row("turns", f"{len(stretch.turns)}, {sum(turn.is_missed for turn in stretch.turns)} missed")
    shown.add_row(f"gap, last {LATELY:.0f} s", words(spread(turn.gap for turn in lately)))
    shown.add_row("barge-in stop", words(spread(turn.stop for turn in stretch.turns)))
    shown.add_row("refused, dropped", f"{stretch.refused + stretch.unreached}, {stretch.dropped}")
    if stretch.samples:
        sample = stretch.samples[-1]
        cpu = "" if sample.cpu is None else f"server {sample.cpu:.0%} of a core, {(sample.rss or 0) / 1e6:.0f} MB; "
        shown.add_row("CPU", f"{cpu}callers {sample.own:.0%}")
    return shown


def line(step: Mapping[str, Any]) -> str:
    """A step in one line."""
    gap = step.get("added_ms") or step["gap_ms"]
    what = "added" if step.get("added_ms") else "gap"
    parts = [
        f"{step['calls']:>4} calls  {step['turns']:>5} turns, {step['missed']} missed",
        f"{what} {words(gap)}",
        f"barge-in stop {words(step['barge_in']['stop_ms'])}",
    ]
    if step["refused"] or step["unreached"] or step["dropped"]:
        parts.append(f"{step['refused'] + step['unreached']} refused, {step['dropped']} dropped")
    if (cpu := at(step, "server", "cpu_percent")) is not None:
        each = at(step, "server", "cpu_ms_per_call_second")
        parts.append(f"server {cpu:.0f} % of a core{'' if each is None else f', {each} ms a call-second'}")
    return "  ".join(parts)


def words(found: Spread | None) -> str:
    if found is None:
        return "–"
    return f"p50 {found['p50']:.0f} p95 {found['p95']:.0f} p99 {found['p99']:.0f} ms"
