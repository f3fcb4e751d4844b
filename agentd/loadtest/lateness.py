"""How late something was that had an appointed time: a count by tenths of a millisecond, of any length of run."""

from collections import Counter

STEP = 0.0001  # seconds
MOST = 20_000  # steps: whatever is later counts as two seconds


class Lateness:
    """Seconds; what came early was on time."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._counts[min(max(int(seconds / STEP), 0), MOST)] += 1

    def clear(self) -> None:
        self._counts.clear()

    @property
    def count(self) -> int:
        return self._counts.total()

    def quantile(self, share: float) -> float:
        """0.0 when nothing was counted."""
        left = share * self.count
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return step * STEP
        return 0.0
