"""Line charts as SVG, by hand: a page that shows them needs nothing from anywhere."""

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 460, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 26
COLOURS = ("var(--a)", "var(--b)", "var(--c)")

Points = Sequence[Sequence[float]]


def chart(title: str, lines: Mapping[str, Points], *, across: str = "s", unit: str = "ms") -> str:
    """``lines`` by name; a line of one point is a dot. ``across`` and ``unit`` are those of the axes."""
    points = [point for line in lines.values() for point in line]
    if not points:
        return ""
    right = max(max(point[0] for point in points), 0.001)
    left = min(min(point[0] for point in points), right)
    left = 0.0 if left < right * 0.5 else left
    bottom, top = min(0.0, *(point[1] for point in points)), _round_up(max(point[1] for point in points))
    top = max(top, bottom + 1)

    def x(value: float) -> float:
        share = (value - left) / (right - left) if right > left else 0.5
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(TOP + (top - value) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

    marks = [bottom + (top - bottom) * share / 4 for share in range(5)]
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark)}" y2="{y(mark)}" class="grid"/>'
        f'<text x="{LEFT - 5}" y="{y(mark) + 4}" class="tick end">{_number(mark)}</text>'
        for mark in marks
    )
    feet = "".join(
        f'<text x="{x(value)}" y="{HEIGHT - 8}" class="tick {where}">{_number(value)}{unit_}</text>'
        for value, where, unit_ in ((left, "start", ""), (right, "end", f" {across}"))
        if unit_ or left < right
    )
    drawn, names = "", ""
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        path = " ".join(f"{x(point[0])},{y(point[1])}" for point in line)
        if len(line) > 1:
            drawn += f'<polyline points="{path}" style="stroke:{colour}"/>'
        drawn += "".join(
            f'<circle cx="{x(at)}" cy="{y(value)}" r="2" style="fill:{colour}">'
            f"<title>{html.escape(name)}: {_number(value)} {unit} at {_number(at)} {across}</title></circle>"
            for at, value in line
        )
        names += f'<span style="color:{colour}">{html.escape(name)}</span> '
    return (
        f"<figure><figcaption>{html.escape(title)}, {unit} {names if len(lines) > 1 else ''}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{grid}{feet}{drawn}</svg></figure>'
    )


def _round_up(value: float) -> float:
    """To one, two or five of a power of ten."""
    if value <= 0:
        return 1.0
    power = float(10 ** math.floor(math.log10(value)))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value)


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 10 else f"{value:.0f}"
