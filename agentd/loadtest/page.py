"""The report as one HTML page that needs no other file and no network."""

import html
from collections.abc import Iterator, Mapping
from typing import Any

from agentd.loadtest.chart import chart

PART_NAMES = {
    "stt_ms": "speech to text",
    "eot_ms": "end of turn",
    "llm_ms": "model, first token",
    "tool_ms": "tools",
    "text_ms": "first words that can be spoken",
    "tts_ms": "voice, first sound",
    "playout_ms": "playout",
    "total_ms": "all of the gap, as the server has it",
}
STYLE = """
:root{--a:#2a6f97;--b:#c8791d;--c:#b3322e;--ink:#1b1f23;--soft:#6a737d;--line:#d8dce0;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--a:#6bb6de;--b:#eba94f;--c:#ef7d78;--ink:#e6e8ea;--soft:#98a2ac;
--line:#3a4148;--paper:#16191c}}
body{font:14px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1000px;margin:2em auto;
padding:0 1em}h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}.soft,.tick{color:var(--soft);fill:var(--soft)}
.bad{color:var(--c)}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
td,th{padding:.25em .6em;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
.scroll{overflow-x:auto}.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:1em}
figure{margin:0}svg{width:100%;height:auto}polyline{fill:none;stroke-width:1.6}.grid{stroke:var(--line)}
.tick{font-size:11px}.end{text-anchor:end}.start{text-anchor:start}
"""
# Where a figure stands in a step, its heading, and what it means.
COLUMNS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("calls", ("calls",), "at a time"),
    ("turns", ("turns",), "that the callers took"),
    ("missed", ("missed",), "turns without an answer in time"),
    ("gap p50", ("gap_ms", "p50"), "ms from the caller's last loud frame to the first sound of the answer here"),
    ("p95", ("gap_ms", "p95"), "of the gap"),
    ("p99", ("gap_ms", "p99"), "of the gap"),
    ("added p50", ("added_ms", "p50"), "ms of the gap that the simulated vendors did not take"),
    ("p95", ("added_ms", "p95"), "of what was added"),
    ("p99", ("added_ms", "p99"), "of what was added"),
    ("stop p50", ("barge_in", "stop_ms", "p50"), "ms from the frame that confirms a barge-in to killAudio"),
    ("p99", ("barge_in", "stop_ms", "p99"), "of the barge-in's stop"),
    ("refused", ("refused",), "calls"),
    ("dropped", ("dropped",), "calls"),
    ("lost", ("lost_frames",), "frames of 20 ms that were not there when they were to be played"),
    ("CPU %", ("server", "cpu_percent"), "of one core, the server"),
    ("CPU ms/call·s", ("server", "cpu_ms_per_call_second"), "of the server"),
    ("MB", ("server", "rss_mb"), "memory of the server"),
    ("own CPU %", ("generator", "cpu_percent"), "of the callers and the simulated vendors"),
    ("own late p99", ("generator", "late_ms", "p99"), "ms that the callers themselves were late"),
)


def page(report: Mapping[str, Any]) -> str:
    body = "\n".join(_body(report))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>agentd load</title><style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _body(report: Mapping[str, Any]) -> Iterator[str]:
    machine, over_time, steps = report["machine"], report["over_time"], report["steps"]
    yield f"<h1>Load test of {html.escape(report['url'])}</h1>"
    where = f"agentd {report['agentd']}, {machine['cores']} cores ({machine['cpu']}), Python {machine['python']}"
    yield f'<p class="soft">{html.escape(where)}</p>'
    if report["vendors"]:
        told = ", ".join(f"{name.removesuffix('_ms')} {value} ms" for name, value in report["vendors"].items())
        yield f'<p class="soft">Simulated vendors: {html.escape(told)}. Added is the gap less stt, llm and tts.</p>'
    yield from (f'<p class="bad">{html.escape(line)}.</p>' for line in (*report["why_not"], *report["warnings"]))
    yield from (f'<p class="soft">{html.escape(line)}.</p>' for line in report["not_shown"])
    yield _table(steps)
    yield '<h2>Over time</h2><div class="charts">'
    yield chart("gap", over_time["gap_ms"])
    yield chart("barge-in: killAudio", over_time["stop_ms"])
    yield chart("turns missed", {"missed": over_time["missed"]}, unit="turns")
    yield chart("calls", {"calls": over_time["calls"]}, unit="calls")
    cpu = {"server": over_time["cpu_percent"], "callers": over_time["generator_cpu_percent"]}
    yield chart("CPU", {name: line for name, line in cpu.items() if line}, unit="% of one core")
    yield chart("memory of the server", {"memory": over_time["rss_mb"]}, unit="MB")
    yield "</div>"
    if over_time["parts"]:
        yield '<h2>Where the gap went, over time</h2><div class="charts">'
        for name, lines in over_time["parts"].items():
            yield chart(PART_NAMES[name], lines)
        yield "</div>"
    if len(steps) > 1:
        yield '<h2>Over the number of calls</h2><div class="charts">'
        yield from _over_calls(steps)
        yield "</div>"


def _over_calls(steps: list[Mapping[str, Any]]) -> Iterator[str]:
    def lines(*path: str) -> dict[str, list[list[float]]]:
        found = {
            name: [[step["calls"], value] for step in steps if (value := at(step, *path, name)) is not None]
            for name in ("p50", "p95", "p99")
        }
        return {name: line for name, line in found.items() if line}

    def one(*path: str) -> dict[str, list[list[float]]]:
        line = [[step["calls"], value] for step in steps if (value := at(step, *path)) is not None]
        return {path[-1]: line} if line else {}

    yield chart("gap", lines("gap_ms"), across="calls")
    yield chart("added", lines("added_ms"), across="calls")
    yield chart("barge-in: killAudio", lines("barge_in", "stop_ms"), across="calls")
    yield chart("turns missed", one("missed"), across="calls", unit="turns")
    yield chart("CPU of the server", one("server", "cpu_percent"), across="calls", unit="% of one core")
    yield chart("memory of the server", one("server", "rss_mb"), across="calls", unit="MB")
    for name, title in PART_NAMES.items():
        yield chart(title, lines("parts", name), across="calls")


def _table(steps: list[Mapping[str, Any]]) -> str:
    shown = [column for column in COLUMNS if any(at(step, *column[1]) is not None for step in steps)]
    head = "".join(f'<th title="{html.escape(why)}">{html.escape(name)}</th>' for name, _, why in shown)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(at(step, *path))}</td>" for _, path, _ in shown) + "</tr>" for step in steps
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'


def at(step: Any, *path: str) -> Any:
    """What stands there; ``None`` when nothing does."""
    for name in path:
        step = step.get(name) if isinstance(step, Mapping) else None
    return step


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, int | float) else html.escape(str(value))
