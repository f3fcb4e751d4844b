"""The one append-only log of events of a call. Hooks, the terminal, metrics and replay read it; nobody else is told."""

from collections.abc import Callable, Mapping
from typing import Any

Entry = dict[str, Any]
LIMIT = 50_000  # entries a call; further ones are counted, not kept. Listeners still get them.


class EventLog:
    """Entries are plain dicts: ``type``, ``at`` (seconds since the call began) and the fields of that type."""

    def __init__(self, clock: Callable[[], float], about: Mapping[str, Any] | None = None) -> None:
        self.about = about or {}  # the call: its `call_sid`, and what it continues (`trace_id`, `b3`)
        self.entries: list[Entry] = []
        self.not_kept = 0
        self._clock = clock
        self._began = clock()
        self._listeners: list[Callable[[Entry], None]] = []

    def append(self, type_: str, /, **fields: Any) -> None:
        self.add({"type": type_, **fields})

    def add(self, payload: Mapping[str, Any]) -> None:
        """An entry that already names its ``type``, such as a payload for the application."""
        entry: Entry = {"at": self.now(), **payload}
        if len(self.entries) < LIMIT:
            self.entries.append(entry)
        else:
            self.not_kept += 1
        for listener in self._listeners:
            listener(entry)

    def at(self, now: float) -> float:
        """An instant of the clock as entries have it."""
        return round(now - self._began, 4)

    def now(self) -> float:
        """Seconds since the call began."""
        return self.at(self._clock())

    def subscribe(self, listener: Callable[[Entry], None]) -> None:
        """A listener is a plain call in the call's own path: it must be quick and must not raise."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[Entry], None]) -> None:
        """Not from within a listener: the others would not all be told."""
        self._listeners.remove(listener)
