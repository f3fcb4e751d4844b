"""What a noise isolation engine looks like, how one is asked for, and what keeps a broken one from harming a call."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

log = logging.getLogger("agentd.providers.noise")


class Isolation(Protocol):
    """Takes the noise out of one direction of one call. ``level``, 0 to 100, is how much of it, and may be set at any
    time; ``delay`` is by how many samples what comes out is later than what goes in, the same at every level.
    """

    name: str
    level: float
    delay: int

    def process(self, frame: bytes) -> bytes:
        """20 ms of L16 mono at the rate that the engine was made for; just as much comes back. Never waits."""
        ...

    def close(self) -> None:
        """May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """How an engine is asked for: ``mode``, ``level`` and ``model`` are the verb's. ``krisp_model`` is a file."""

    mode: str
    level: float = 100
    model: str | None = None
    krisp_model: str | None = None
    krisp_key: str | None = field(default=None, repr=False)


class Guarded:
    """An engine that may fail in mid-call: from then on audio passes through unchanged, and the log says so once."""

    def __init__(self, engine: Isolation) -> None:
        self._engine = engine
        self.name = engine.name
        self.delay = engine.delay
        self.works = True

    @property
    def level(self) -> float:
        return self._engine.level

    @level.setter
    def level(self, level: float) -> None:
        self._engine.level = level

    def process(self, frame: bytes) -> bytes:
        if not self.works:
            return frame
        try:
            clean = self._engine.process(frame)
            if len(clean) == len(frame):
                return clean
            why = f"expected {len(frame)} bytes, got {len(clean)}"
        except Exception as exc:  # an SDK's own have no common base, and the call must go on
            why = f"{type(exc).__name__}: {exc}"
        self.works = False
        log.warning("noise isolation has failed, audio passes through", extra={"engine": self.name, "why": why})
        return frame

    def close(self) -> None:
        self.works = False
        try:
            self._engine.close()
        except Exception as exc:
            log.warning("noise isolation did not close", extra={"engine": self.name, "why": str(exc)})
