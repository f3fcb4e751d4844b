r"""The bus by Redis: a channel for each process, and a record for each live call that its owner keeps alive.

    {agentd}:call:SID          hash: account → "OWNER\n" and what is known of the call as JSON; expires
    {agentd}:account:ACCOUNT   set of call ids; expires
    {agentd}:calls             sorted set of call ids, by the time since when; expires
    {agentd}:to:NAME           channel: what is asked of a process, and answered to it

A process writes all its calls anew every few seconds. So those of a dead one vanish by themselves, and a Redis that
was away, or has forgotten everything, knows all of them again with the next beat. A call needs none of it to go on.
"""

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from agentd.ops.bus import LISTED, WAIT, BusError, Gone, Held, Info, Serve, oldest
from agentd.ops.questions import Questions

log = logging.getLogger("agentd.bus")

LIFETIME = 10.0  # seconds that a record outlives its owner's last beat …
BEATS = 3  # … and how many beats come in that time
REDIS_WAIT = 2.0  # seconds for Redis to do anything
BACKOFF = (0.1, 2.0)  # seconds between attempts to reach it: at first, and at most
CHUNK = 200  # calls that are written at once
RELEASED = 10_000  # calls that Redis is still to be told are over; beyond that they expire

PREFIX = "{agentd}"  # one slot of a Redis cluster
BEAT = b"beat "  # and the instance that sent it: two processes of one name would answer each other's questions
AWAY = (RedisError, OSError, TimeoutError)
OPTIONS: dict[str, Any] = {
    "protocol": 2,
    "retry": Retry(NoBackoff(), 0),  # we have a pace of our own
    "socket_timeout": None,  # every wait has its deadline here
    "socket_connect_timeout": REDIS_WAIT,
}
T = TypeVar("T")

# KEYS[1]: the prefix, here and below. ARGV: owner, milliseconds, `hold` or `beat`, then account, call id, `since` and
# record of each. A call that another process has is taken from it by `hold`; a `beat` leaves it. Returns account, call
# id and former owner of what was taken.
HOLD = """
local former, index = {}, KEYS[1] .. ':calls'
for i = 4, #ARGV, 4 do
  local call, set = KEYS[1] .. ':call:' .. ARGV[i + 1], KEYS[1] .. ':account:' .. ARGV[i]
  local before = redis.call('HGET', call, ARGV[i])
  local owner = before and string.match(before, '^(.-)\\n')
  local is_others = owner and owner ~= ARGV[1]
  if not (is_others and ARGV[3] == 'beat') then
    redis.call('HSET', call, ARGV[i], ARGV[1] .. '\\n' .. ARGV[i + 3])
    redis.call('PEXPIRE', call, ARGV[2])
    redis.call('SADD', set, ARGV[i + 1])
    redis.call('PEXPIRE', set, ARGV[2])
    redis.call('ZADD', index, ARGV[i + 2], ARGV[i + 1])
    if is_others then
      former[#former + 1] = ARGV[i]
      former[#former + 1] = ARGV[i + 1]
      former[#former + 1] = owner
    end
  end
end
redis.call('PEXPIRE', index, ARGV[2])
return former
"""
# ARGV: owner, then account and call id of each.
RELEASE = """
for i = 2, #ARGV, 2 do
  local call = KEYS[1] .. ':call:' .. ARGV[i + 1]
  local before = redis.call('HGET', call, ARGV[i])
  if before and string.match(before, '^(.-)\\n') == ARGV[1] then
    redis.call('HDEL', call, ARGV[i])
    redis.call('SREM', KEYS[1] .. ':account:' .. ARGV[i], ARGV[i + 1])
  end
  if redis.call('EXISTS', call) == 0 then
    redis.call('ZREM', KEYS[1] .. ':calls', ARGV[i + 1])
  end
end
"""
# ARGV: account. Returns call id and record of each; what has expired is forgotten.
CALLS = """
local set, found = KEYS[1] .. ':account:' .. ARGV[1], {}
for _, sid in ipairs(redis.call('SMEMBERS', set)) do
  local record = redis.call('HGET', KEYS[1] .. ':call:' .. sid, ARGV[1])
  if record then
    found[#found + 1] = sid
    found[#found + 1] = record
  else
    redis.call('SREM', set, sid)
  end
end
return found
"""
# ARGV: owner, and how many calls are enough. Returns account, call id and record of those that others have, from the
# oldest id on until there are enough; what has expired is forgotten on the way.
EVERYTHING = """
local index, found, at = KEYS[1] .. ':calls', {}, 0
repeat
  local some = redis.call('ZRANGE', index, at, at + 99)
  for _, sid in ipairs(some) do
    local calls = redis.call('HGETALL', KEYS[1] .. ':call:' .. sid)
    if #calls == 0 then
      redis.call('ZREM', index, sid)
    else
      at = at + 1
    end
    for i = 1, #calls, 2 do
      if string.match(calls[i + 1], '^(.-)\\n') ~= ARGV[1] then
        found[#found + 1] = calls[i]
        found[#found + 1] = sid
        found[#found + 1] = calls[i + 1]
      end
    end
  end
until #some == 0 or #found >= 3 * ARGV[2]
return found
"""


class RedisBus:
    """A :class:`agentd.ops.bus.Bus`. ``lifetime`` is how long a dead process's calls are still listed, in seconds."""

    def __init__(self, name: str, url: str, lifetime: float = LIFETIME) -> None:
        self.name = name
        self._lifetime = lifetime
        # What is asked of Redis at once waits for one of a few connections, as long as it may wait for Redis at all.
        self._redis = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=4, **OPTIONS))
        self._subscriber = Redis(connection_pool=ConnectionPool.from_url(url, **OPTIONS))
        self._instance = secrets.token_hex(8)
        self._held: dict[tuple[str, str], Info] = {}
        self._new: set[tuple[str, str]] = set()  # held, and not yet written
        self._released: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()
        self._is_away = False
        self._questions = Questions(name, self._send)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self, serve: Serve) -> None:
        self._questions.open(serve)
        self._tasks = [
            asyncio.create_task(self._listen(), name="bus-listen"),
            asyncio.create_task(self._keep(), name="bus-keep"),
        ]

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._questions.aclose()
        self._released |= self._held.keys()
        with contextlib.suppress(BusError):
            await self._write_released()
        for redis in (self._redis, self._subscriber):
            with contextlib.suppress(*AWAY):
                await redis.aclose()
                await redis.connection_pool.disconnect()

    async def ask(self, to: str, what: str, data: Mapping[str, Any], seconds: float = WAIT) -> dict[str, Any]:
        return await self._questions.ask(to, what, data, seconds)

    def hold(self, account: str, call_sid: str, info: Info) -> None:
        key = (account, call_sid)
        self._held[key] = info
        self._new.add(key)
        self._released.discard(key)
        self._changed.set()

    def release(self, account: str, call_sid: str) -> None:
        key = (account, call_sid)
        self._held.pop(key, None)
        self._new.discard(key)
        if len(self._released) < RELEASED:
            self._released.add(key)
        self._changed.set()

    async def find(self, call_sid: str) -> list[Held]:
        found = cast(dict[bytes, bytes], await _asked(self._redis.hgetall(f"{PREFIX}:call:".encode() + _raw(call_sid))))
        return self._others([(account, _raw(call_sid), record) for account, record in found.items()])

    async def calls(self, account: str) -> list[Held]:
        found = await self._run(CALLS, _raw(account))
        return self._others([(_raw(account), *pair) for pair in zip(found[::2], found[1::2], strict=True)])

    async def everything(self) -> list[Held]:
        found = await self._run(EVERYTHING, self.name, LISTED)
        return oldest(self._others(list(zip(found[::3], found[1::3], found[2::3], strict=True))))

    def _others(self, found: list[tuple[bytes, bytes, bytes]]) -> list[Held]:
        held: list[Held] = []
        for account, call_sid, record in found:
            owner, _, info = record.partition(b"\n")
            if owner != self.name.encode():
                held.append(Held(owner.decode(), _text(account), _text(call_sid), json.loads(info)))
        return held

    # Writing -------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Write what has changed, at once, and everything with each beat."""
        loop = asyncio.get_running_loop()
        beat_at, pause = loop.time(), BACKOFF[0]
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(beat_at):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._write_released()
                await self._write_new()
                if loop.time() >= beat_at:
                    await self._beat()
                    beat_at, pause = loop.time() + self._lifetime / BEATS, BACKOFF[0]
                self._came_back()
            except BusError as exc:
                self._went_away(exc)
                await asyncio.sleep(pause)  # what changes meanwhile is written then
                beat_at, pause = loop.time(), min(2 * pause, BACKOFF[1])

    async def _write_released(self) -> None:
        keys, self._released = list(self._released), set()
        for some in _chunks(keys):
            await self._run(RELEASE, self.name, *(_raw(part) for key in some for part in key))

    async def _write_new(self) -> None:
        for some in _chunks(list(self._new)):
            former = await self._write("hold", some)
            self._new.difference_update(some)
            for account, call_sid, owner in zip(former[::3], former[1::3], former[2::3], strict=True):
                told = {"account": _text(account), "call_sid": _text(call_sid)}
                self._questions.tell(owner.decode(), "displace", told)

    async def _beat(self) -> None:
        for some in _chunks(list(self._held)):
            await self._write("beat", some)
        # To itself: a subscription that hears no beats is dead.
        await _asked(self._redis.publish(self._channel(self.name), BEAT + self._instance.encode()))

    async def _write(self, how: str, keys: list[tuple[str, str]]) -> list[bytes]:
        records: list[bytes | float] = []
        for account, call_sid in keys:
            if (info := self._held.get((account, call_sid))) is not None:
                record = json.dumps(info, default=str).encode()
                records += [_raw(account), _raw(call_sid), float(info.get("since", 0.0)), record]
        return await self._run(HOLD, self.name, round(self._lifetime * 1000), how, *records)

    # Messages ------------------------------------------------------------------------------------------------

    def _channel(self, name: str) -> str:
        return f"{PREFIX}:to:{name}"

    async def _send(self, to: str, message: bytes) -> None:
        if not await _asked(self._redis.publish(self._channel(to), message)):
            raise Gone(f"expected an answer of {to}, it is gone")

    async def _listen(self) -> None:
        pause = BACKOFF[0]
        while True:
            subscription = self._subscriber.pubsub(ignore_subscribe_messages=True)
            try:
                async with asyncio.timeout(REDIS_WAIT):
                    await subscription.subscribe(self._channel(self.name))
                while True:
                    async with asyncio.timeout(self._lifetime):
                        message = await subscription.get_message(timeout=None)
                    if message is not None:
                        self._take(message["data"])
                        pause = BACKOFF[0]
            except AWAY as exc:
                log.debug("subscription ended", extra={"why": type(exc).__name__})
                self._questions.lost()  # answers may have come meanwhile
            finally:
                with contextlib.suppress(*AWAY):
                    await subscription.aclose()  # type: ignore[no-untyped-call]
            await asyncio.sleep(pause)
            pause = min(2 * pause, BACKOFF[1])

    def _take(self, data: Any) -> None:
        if not isinstance(data, bytes):
            return
        if not data.startswith(BEAT):
            self._questions.take(data)
        elif data.removeprefix(BEAT) != self._instance.encode():
            log.error("another process has this name: set server.node", extra={"bus": self.name})

    # Redis ---------------------------------------------------------------------------------------------------

    async def _run(self, script: str, *args: Any) -> list[bytes]:
        return cast(list[bytes], await _asked(self._redis.eval(script, 1, PREFIX, *args)))

    def _went_away(self, exc: BusError) -> None:
        if not self._is_away:
            log.warning("redis is away: calls go on, those of others cannot be asked", extra={"why": str(exc)})
        self._is_away = True

    def _came_back(self) -> None:
        if self._is_away:
            log.info("redis is back", extra={"calls": len(self._held)})
        self._is_away = False


async def _asked(doing: Awaitable[T]) -> T:
    """What Redis answers. Its errors name no password, but a host; the kind of error says enough."""
    try:
        async with asyncio.timeout(REDIS_WAIT):
            return await doing
    except AWAY as exc:
        raise BusError(f"expected Redis to answer, got {type(exc).__name__}") from exc


def _chunks(keys: list[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    return [keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)]


def _raw(text: str) -> bytes:
    """Half a character may come in the metadata of a call."""
    return text.encode(errors="surrogatepass")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogatepass")
