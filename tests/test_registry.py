"""What vendors of one server share."""

import asyncio

import pytest

from providers.base import ProviderError
from providers.registry import Shared


class Engine:
    """Counts its starts; a broken one fails."""

    def __init__(self, *, broken: bool = False) -> None:
        self.starts = 0
        self._broken = broken

    async def warm(self) -> None:
        self.starts += 1
        if self._broken:
            raise ProviderError("engine", "not-installed")

    async def aclose(self) -> None:
        pass


def test_what_is_shared_is_started_once_however_many_agents_ask() -> None:
    async def main() -> int:
        shared = Shared()
        engine = shared.get("engine", Engine)
        await shared.warm()
        await shared.warm()
        return engine.starts

    assert asyncio.run(main()) == 1


def test_a_failure_is_told_to_whoever_brought_it_and_not_to_the_next() -> None:
    async def main() -> int:
        shared = Shared()
        shared.get("broken", lambda: Engine(broken=True))
        with pytest.raises(ProviderError):
            await shared.warm()
        sound = shared.get("sound", Engine)
        await shared.warm()
        return sound.starts

    assert asyncio.run(main()) == 1
