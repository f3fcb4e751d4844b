"""CPU and memory of a process and its children, as Linux counts them."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, slots=True)
class Usage:
    """``cpu``: seconds since the process began; ``waited``: seconds that it could have run and another one did;
    ``rss``: bytes; ``files``: open ones, sockets among them.
    """

    cpu: float = 0.0
    waited: float = 0.0
    rss: int = 0
    files: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu + other.cpu, self.waited + other.waited, self.rss + other.rss, self.files + other.files)


def usage(pid: int) -> Usage | None:
    """``None`` for a process that is gone, or of somebody else, or where there is no /proc."""
    try:
        found = _of_one(pid)
    except (OSError, ValueError, IndexError):
        return None
    for child in _children(pid):
        found += usage(child) or Usage()
    return found


def _of_one(pid: int) -> Usage:
    folder = PROC / str(pid)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / TICK
    pages = int((folder / "statm").read_text().split()[1])
    waited = 0.0
    for task in (folder / "task").iterdir():
        cells = (task / "schedstat").read_text().split()
        waited += int(cells[1]) / 1e9
    return Usage(cpu, waited, pages * PAGE, len(list((folder / "fd").iterdir())))


def _children(pid: int) -> list[int]:
    try:
        tasks = list((PROC / str(pid) / "task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (OSError, ValueError):
        return []
