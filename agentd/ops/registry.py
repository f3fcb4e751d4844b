"""The live calls of this process, by the id that jambonz gave them."""

from collections.abc import Iterator
from typing import Protocol


class LiveCall(Protocol):
    """A call that can be told to end, with a websocket close code and its reason."""

    def displace(self, code: int, reason: str) -> None: ...


class LiveCalls:
    """One call per id: a second socket for a call takes it over, and the first one is closed."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}
        self.accepted = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(list(self._calls.values()))

    def add(self, call_sid: str, call: LiveCall) -> None:
        self.accepted += 1
        before, self._calls[call_sid] = self._calls.get(call_sid), call
        if before is not None:
            before.displace(1008, "another listen socket took over this call")

    def remove(self, call_sid: str, call: LiveCall) -> None:
        if self._calls.get(call_sid) is call:
            del self._calls[call_sid]
