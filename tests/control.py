"""jambonz's end of a control socket, in front of our gateway.

async with Control(house.app, "desk") as jambonz:
    verbs = await jambonz.ask("session:new", {…})
    jambonz.send({"type": "call:status", …})
"""

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Self

from tests.jambonz import AsgiApp, AsgiLine, Closed

SID = "c0ffee00-0000-4000-8000-000000000001"
SESSION = {
    "call_sid": SID,
    "account_sid": "acc00000-0000-4000-8000-000000000001",
    "application_sid": "app00000-0000-4000-8000-000000000001",
    "direction": "inbound",
    "from": "+15551230001",
    "to": "+15551230002",
    "call_status": "in-progress",
    "sip_status": 200,
    "customerData": {"camelCase": True},
}


class Control:
    """``app`` is the name of an application that the server has."""

    def __init__(self, app: AsgiApp, name: str, headers: Mapping[str, str] = {}) -> None:
        self.line = AsgiLine(app, f"/app/{name}", "", ["ws.jambonz.org"], headers, "127.0.0.1")
        self.messages: list[dict[str, Any]] = []
        self.texts: list[str] = []
        self.closed: Closed | None = None
        self.subprotocol: str | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self.subprotocol = await self.line.open(self)  # type: ignore[arg-type]  # of a call it needs these two methods
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self.closed is None:
            self.line.close(1000, "")
        await self.line.ended()

    def on_message(self, text: str | bytes) -> None:
        self.texts.append(str(text))
        self.messages.append(json.loads(text))
        asyncio.get_running_loop().create_task(self._notify())

    def on_closed(self, closed: Closed) -> None:
        self.closed = self.closed or closed  # the application returns once it has closed

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def send(self, message: Mapping[str, Any]) -> None:
        self.line.send(json.dumps(message))

    async def got(self, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a message of which this is true."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: any(map(is_it, self.messages)))
        return next(filter(is_it, self.messages))

    async def ask(self, type_: str, data: Any = SESSION, hook: str | None = None) -> Any:
        """Send it, and wait for its ack; returns what that says."""
        msgid = str(uuid.uuid4())
        named = {} if hook is None else {"hook": hook}
        self.send({"type": type_, "msgid": msgid, "call_sid": SID, **named, "data": data, "b3": "1-2-1"})
        ack = await self.got(lambda message: message["type"] == "ack" and message["msgid"] == msgid)
        return ack.get("data")
