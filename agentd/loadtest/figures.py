"""From what the callers saw to figures: percentiles, and what a stretch of a load test came to. Milliseconds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentd.loadtest.talk import Turn

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
PARTS = ("stt_ms", "eot_ms", "llm_ms", "tool_ms", "text_ms", "tts_ms", "playout_ms", "total_ms")

Spread = dict[str, float]


def quantile(ordered: Sequence[float], share: float) -> float:
    """The least of the values that so many are no greater than (nearest rank); they are in order."""
    return ordered[max(math.ceil(len(ordered) * share) - 1, 0)]


def spread(values: Iterable[float | None]) -> Spread | None:
    """``None`` without a value."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return {"count": len(known), **{name: round(quantile(known, share), 1) for name, share in SHARES.items()}}


@dataclass(frozen=True, slots=True)
class Seen:
    """One turn as figures, ``at`` seconds into the run. ``gap``: last loud frame sent → first audible audio here;
    ``heard``: → played to the caller. ``stop``: the frame that confirms a barge-in → killAudio here; ``silent``: its
    first loud frame → the last audible frame that was played.
    """

    at: float
    gap: float | None = None
    heard: float | None = None
    stop: float | None = None
    silent: float | None = None
    is_missed: bool = False
    is_barge_in: bool = False
    is_ignored: bool = False
    is_early: bool = False
    lost_frames: int = 0

    @classmethod
    def of(cls, turn: Turn, began: float) -> "Seen":
        return cls(
            at=turn.began - began,
            gap=_between(turn.stopped, turn.answered),
            heard=_between(turn.stopped, turn.heard),
            stop=_between(turn.confirmed, turn.killed),
            silent=_between(turn.began, turn.silent) if turn.killed is not None else None,
            is_missed=turn.is_missed,
            is_barge_in=turn.is_barge_in,
            is_ignored=turn.is_ignored,
            is_early=turn.is_early,
            lost_frames=turn.lost_frames,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at both sides, ``at`` seconds into the run. ``cpu`` and ``own`` are shares of one core since the last one;
    those of the server are ``None`` when it cannot be watched.
    """

    at: float
    calls: int
    own: float
    cpu: float | None = None
    waited: float | None = None
    rss: int | None = None
    files: int | None = None


@dataclass(slots=True)
class Stretch:
    """What was collected while so many ``calls`` were wanted, from ``began`` to ``ended`` seconds into the run."""

    calls: int
    began: float
    ended: float = 0.0
    turns: list[Seen] = field(default_factory=list)
    parts: list[tuple[float, Mapping[str, float]]] = field(default_factory=list)  # from the server's events
    samples: list[Sample] = field(default_factory=list)
    idle_rss: int | None = None  # of the server, before the first call
    dialled: int = 0
    refused: int = 0  # by an HTTP status
    unreached: int = 0  # nobody answered
    dropped: int = 0
    unsent: int = 0  # frames
    reasons: dict[str, int] = field(default_factory=dict)  # why calls were refused or dropped
    late: Spread | None = None  # of the callers themselves
    vendors_late: Spread | None = None

    @property
    def seconds(self) -> float:
        return max(self.ended - self.began, 0.001)


def figures(stretch: Stretch, delays: float | None = None) -> dict[str, Any]:
    """A stretch as it stands in the report. ``delays``: what the simulated vendors make of each gap, in seconds; what
    is left of it is what the server added.
    """
    turns = stretch.turns
    barge_ins = [turn for turn in turns if turn.is_barge_in]
    added = None if delays is None else spread(_less(turn.gap, delays * 1000) for turn in turns)
    return {
        "calls": stretch.calls,
        "seconds": round(stretch.seconds, 1),
        "turns": len(turns),
        "answered": sum(turn.gap is not None or turn.is_early for turn in turns),
        "missed": sum(turn.is_missed for turn in turns),
        "spoken_over": sum(turn.is_early for turn in turns),
        "gap_ms": spread(turn.gap for turn in turns),
        "heard_ms": spread(turn.heard for turn in turns),
        **({} if delays is None else {"added_ms": added}),
        "barge_in": {
            "count": len(barge_ins),
            "ignored": sum(turn.is_ignored for turn in barge_ins),
            "stop_ms": spread(turn.stop for turn in barge_ins),
            "silent_ms": spread(turn.silent for turn in barge_ins),
        },
        "dialled": stretch.dialled,
        "refused": stretch.refused,
        "unreached": stretch.unreached,
        "dropped": stretch.dropped,
        "reasons": dict(stretch.reasons),
        "lost_frames": sum(turn.lost_frames for turn in turns),
        "unsent_frames": stretch.unsent,
        "parts": {name: found for name in PARTS if (found := spread(part.get(name) for _, part in stretch.parts))},
        "server": _server(stretch),
        "generator": {
            "cpu_percent": _percent([sample.own for sample in stretch.samples]),
            "late_ms": stretch.late,
            "vendors_late_ms": stretch.vendors_late,
        },
    }


def _server(stretch: Stretch) -> dict[str, float] | None:
    watched = [sample for sample in stretch.samples if sample.cpu is not None]
    if not watched:
        return None
    cpu = sum(sample.cpu or 0.0 for sample in watched) / len(watched)
    calls = sum(sample.calls for sample in watched) / len(watched)
    rss = max(sample.rss or 0 for sample in watched)
    found = {
        "cpu_percent": round(cpu * 100, 1),
        "waited_percent": _percent([sample.waited or 0.0 for sample in watched]) or 0.0,
        "rss_mb": round(rss / 1e6, 1),
        "files": max(sample.files or 0 for sample in watched),
    }
    if calls > 0:
        found["cpu_ms_per_call_second"] = round(cpu * 1000 / calls, 2)
        if stretch.idle_rss is not None:
            found["rss_kb_per_call"] = round((rss - stretch.idle_rss) / 1e3 / calls)
    return found


def series(values: Iterable[tuple[float, float | None]], seconds: float, steps: int = 60) -> dict[str, Any]:
    """Percentiles over time: the run in at most ``steps`` stretches of whole seconds. ``values`` are (at, value)."""
    width = max(math.ceil(seconds / steps), 1)
    buckets: dict[int, list[float]] = {}
    for at, value in values:
        if value is not None:
            buckets.setdefault(int(at // width), []).append(value)
    points = {number: spread(found) for number, found in sorted(buckets.items())}
    return {
        name: [[round((number + 0.5) * width, 1), point[name]] for number, point in points.items() if point]
        for name in ("p50", "p95", "p99")
    }


def counted(moments: Iterable[float], seconds: float, steps: int = 60) -> list[list[float]]:
    """How many in each stretch of a run."""
    width = max(math.ceil(seconds / steps), 1)
    counts = [0] * math.ceil(max(seconds, 0.001) / width)
    for at in moments:
        if 0 <= at // width < len(counts):
            counts[int(at // width)] += 1
    return [[round((number + 0.5) * width, 1), count] for number, count in enumerate(counts)]


def of_each(stretches: Sequence[Stretch], what: Callable[[Stretch], Iterable[Any]]) -> list[Any]:
    return [found for stretch in stretches for found in what(stretch)]


def _between(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else (end - begin) * 1000


def _less(value: float | None, by: float) -> float | None:
    return None if value is None else value - by


def _percent(shares: Sequence[float]) -> float | None:
    return round(sum(shares) / len(shares) * 100, 1) if shares else None
