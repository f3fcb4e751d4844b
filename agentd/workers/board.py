"""How many calls each worker of this machine has, on a page of memory that all of them share: whoever accepts a new
call gives it to the one with the fewest. The system gives a burst of connections to whoever asks first, which is one.
"""

import mmap
import tempfile
import time
from collections import deque
from typing import BinaryIO, cast

PLACES = mmap.PAGESIZE // 8
DOWN = 1 << 40  # no worker there: it would be the last one to get a call
BUSY = 1 << 20  # one that takes no more calls
FRESH = 0.5  # seconds until a call that was given away shows in the figure of who has it


def page() -> BinaryIO:
    """The memory, as a file that has no name."""
    file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115
    file.truncate(mmap.PAGESIZE)
    return file


class Board:
    """``descriptor`` is the page's. Workers are named w1, w2, …; each writes its own figure, and the parent that of one
    which is not there.
    """

    def __init__(self, descriptor: int, count: int) -> None:
        self._page = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._calls = memoryview(self._page).cast("q")
        self._count = min(count, PLACES)
        self._given: deque[tuple[float, int]] = deque()  # when, and to whom; by us

    def tell(self, name: str, calls: int) -> None:
        if (place := int(name.removeprefix("w")) - 1) < self._count:
            self._calls[place] = calls

    def next(self, ours: str, now: float | None = None) -> str:
        """The worker for one more call: ``ours``, unless another has fewer."""
        now = time.monotonic() if now is None else now
        while self._given and self._given[0][0] < now - FRESH:
            self._given.popleft()
        loads = list(self._calls[: self._count])
        for _, place in self._given:
            loads[place] += 1
        own = int(ours.removeprefix("w")) - 1
        best = min(range(self._count), key=lambda place: (loads[place], place != own))
        self._given.append((now, best))
        return f"w{best + 1}"

    def close(self) -> None:
        self._calls.release()
        self._page.close()
