"""Journals in Redis, for nodes that go on with each other's calls.

{agentd}:journal:KEY    list of records; expires a day after the last one
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis

from agentd.ops.journal import Change, StoreFailed
from agentd.ops.redis_bus import AWAY, OPTIONS, PREFIX, REDIS_WAIT

EXPIRES = 24 * 3600  # seconds
T = TypeVar("T")


class RedisStore:
    """A :class:`agentd.ops.journal.Store`."""

    def __init__(self, url: str) -> None:
        self._redis = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=2, **OPTIONS))

    async def write(self, changes: Mapping[str, Change]) -> None:
        # All of them or none: what was lost with the connection is written again, and once.
        async with self._redis.pipeline(transaction=True) as pipeline:
            for key, change in changes.items():
                if change.is_removed:
                    pipeline.delete(_name(key))
                if change.lines:
                    pipeline.rpush(_name(key), change.lines)
                    pipeline.expire(_name(key), EXPIRES)
            await _asked(pipeline.execute(), changes)

    async def read(self, key: str) -> bytes:
        found = await _asked(cast(Awaitable[list[bytes]], self._redis.lrange(_name(key), 0, -1)), [key])
        return b"".join(found)

    async def sweep(self) -> None:
        """They expire."""

    async def aclose(self) -> None:
        with contextlib.suppress(*AWAY):
            await self._redis.aclose()
            await self._redis.connection_pool.disconnect()


def _name(key: str) -> str:
    return f"{PREFIX}:journal:{key}"


async def _asked(doing: Awaitable[T], keys: Any) -> T:
    try:
        async with asyncio.timeout(REDIS_WAIT):
            return await doing
    except AWAY as exc:
        raise StoreFailed(f"expected Redis to answer, got {type(exc).__name__}", keys) from exc
