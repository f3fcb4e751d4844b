"""What ends a call that nobody ends: too many silences, or too many failed turns, in a row."""

from dataclasses import dataclass

NORMAL = "normal conversation end"
FAILURES_IN_A_ROW = 3  # verb-decisions, "Errors": three failed turns in a row end the call


@dataclass(slots=True)
class Patience:
    """``most_silences`` are answered with a prompt (None or 0: all of them). ``reason`` is that of the call's end, the
    verb's `completion_reason`.
    """

    most_silences: int | None = None
    reason: str = NORMAL
    _silences: int = 0
    _failures: int = 0

    def caller_spoke(self) -> None:
        self._silences = 0

    def is_over_with_silence(self) -> bool:
        """One more silence: too many?"""
        if self.most_silences and self._silences >= self.most_silences:
            self.reason = "no_response"
            return True
        self._silences += 1
        return False

    def succeeded(self) -> None:
        self._failures = 0

    def is_over_with_failure(self, code: str) -> bool:
        """One more failed turn: too many?"""
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW:
            self.reason = code
            return True
        return False
