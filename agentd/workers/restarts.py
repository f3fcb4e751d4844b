"""What comes after the death of a worker: another one at once, another one later, or the end of the server. Pure."""

from dataclasses import dataclass

BAD_CONFIG = 2  # the exit code of a configuration that cannot work
FIRST, MOST = 0.25, 30.0  # seconds before a worker that did not come up is tried again; doubled each time
TRIES = 5  # in a row that did not come up, beside no worker that did: nothing will


@dataclass(frozen=True, slots=True)
class Restart:
    """``after`` is in seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """``code`` is the parent's exit code."""

    code: int


@dataclass(slots=True)
class Restarts:
    """Of one worker. ``failures`` are its lives in a row in which it did not come up."""

    failures: int = 0

    def died(self, code: int, *, was_up: bool, others_up: int) -> Restart | GiveUp:
        """``code`` is its exit code (negative: a signal). Calls of the ``others_up`` are worth more than an end that
        is due: with them the worker is tried for ever.
        """
        if was_up:
            self.failures = 0
            return Restart(0.0)
        self.failures += 1
        if not others_up and (code == BAD_CONFIG or self.failures >= TRIES):
            return GiveUp(code if code > 0 else 1)
        return Restart(min(FIRST * 2 ** (self.failures - 1), MOST))
