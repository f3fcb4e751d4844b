"""The end of a talk where the vendor waits for us to hang up: some do not, once everything was said."""

from collections.abc import Callable

from providers.sockets import PlainWire


class Parting:
    """A wire that ends, as if the vendor had closed it, once ``is_over``."""

    def __init__(self, wire: PlainWire, is_over: Callable[[], bool]) -> None:
        self._wire = wire
        self._is_over = is_over

    @property
    def is_open(self) -> bool:
        return self._wire.is_open

    @property
    def is_ready(self) -> bool:
        return self._wire.is_ready

    def send_now(self, message: str | bytes) -> None:
        self._wire.send_now(message)

    async def send(self, message: str | bytes) -> None:
        await self._wire.send(message)

    async def receive(self) -> str | bytes | None:
        return None if self._is_over() else await self._wire.receive()

    async def close(self) -> None:
        await self._wire.close()
