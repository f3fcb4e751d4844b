"""Where gaps went, as the server itself says: `turn_end` of some of the calls, by its event stream."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import httpx

WATCHED = 5  # calls at a time: each stream costs the server something, and so its callers
WAIT = 30.0  # seconds without an entry or a comment; the server sends one every 15

Tell = Callable[[Mapping[str, float]], None]


class Events:
    """``tell`` gets the latency of each turn. ``refusal``: why the server tells nothing, empty while it does."""

    def __init__(self, url: str, key: str | None, tell: Tell) -> None:
        parts = urlsplit(url)
        self.refusal = ""
        self.came = 0
        self._base = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc.rpartition('@')[2]}"
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._tell = tell
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def began(self, call_sid: str) -> None:
        """A call is up. A plain call."""
        if len(self._tasks) < WATCHED and not self.refusal:
            task = asyncio.create_task(self._follow(call_sid), name="load-events")
            self._tasks[call_sid] = task
            task.add_done_callback(lambda _: self._tasks.pop(call_sid, None))

    async def aclose(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, call_sid: str) -> None:
        await asyncio.sleep(0.5)  # the server has to know the call first
        url = f"{self._base}/v1/calls/{call_sid}/events"
        with contextlib.suppress(httpx.HTTPError):
            async with (
                httpx.AsyncClient(trust_env=False, timeout=WAIT, headers=self._headers) as client,
                client.stream("GET", url, params={"types": "turn_end"}) as response,
            ):
                if response.status_code in (401, 403):
                    self.refusal = f"expected a key that the server knows (--key-env), got HTTP {response.status_code}"
                if not response.is_success:
                    return
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        self._entry(line[6:])

    def _entry(self, text: str) -> None:
        with contextlib.suppress(ValueError):
            entry = json.loads(text)
            latency = entry.get("latency") if isinstance(entry, dict) else None
            if isinstance(latency, dict) and entry.get("cause", "caller") == "caller":
                self.came += 1
                self._tell({name: part for name, part in latency.items() if isinstance(part, int | float)})
