"""The calls of this process: what REST shows of them and does to them, for itself and for other processes."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from agentd.errors import AgentdError
from agentd.jambonz.changes import change
from agentd.jambonz.listen import Node
from agentd.ops.registry import TAKEN_OVER, LiveCall
from agentd.ops.stream import LiveLog, View

log = logging.getLogger("agentd.rest")

SHOWN = {  # of the metadata, and what it is called here
    "applicationSid": "application_sid",
    "callId": "call_id",
    "from": "from",
    "to": "to",
    "callerName": "caller_name",
    "sipStatus": "sip_status",
    "traceId": "trace_id",
}
READERS = 1_000  # of event streams elsewhere; a further one is refused
READER_KEPT = 60.0  # seconds after its last question: the call may be over before it asks again
LONGEST = 30.0  # seconds that one question may wait for an event


class Here:
    """One of them."""

    def __init__(self, node: Node, live: LiveCall) -> None:
        self._node = node
        self._live = live
        self.agent, self.account, self.since = live.agent, live.account, live.since
        self.proof = live.proof

    @property
    def direction(self) -> str:
        return "outbound" if self._live.info.get("direction") == "outbound" else "inbound"

    async def shown(self) -> dict[str, Any]:
        return self.shown_now()

    def shown_now(self) -> dict[str, Any]:
        now = asyncio.get_running_loop().time()
        return {**self.known(), "duration": round(now - self._live.began), "state": self._live.call.state}

    def known(self) -> dict[str, Any]:
        """What of it does not change, under jambonz's names."""
        live = self._live
        return {
            "sid": live.call_sid,
            "call_sid": live.call_sid,
            "account_sid": live.account,
            **{name: live.info[key] for key, name in SHOWN.items() if live.info.get(key) is not None},
            "direction": self.direction,
            "call_status": live.info.get("callStatus") or "in-progress",
            "agent": live.agent,
        }

    async def change(self, asked_for: Mapping[str, Any]) -> None:
        """Raises :class:`HTTPException`."""
        wanted = change(asked_for)
        live = self._node.calls.get(self.account, self._live.call_sid)  # it may have ended meanwhile
        if live is None:
            raise unknown()
        try:
            wanted(live.call)
        except AgentdError as exc:
            raise HTTPException(422, str(exc)) from exc
        log.info("call changed", extra={"call_sid": live.call_sid, "what": min(asked_for)})

    def pages(self, view: View) -> LiveLog:
        return LiveLog(self._live, view)


class Owner:
    """Tells the bus which calls this process has, and answers what others ask of them. :attr:`answers` has a handler
    for each question; an answer with a ``status`` is a refusal as REST has it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._readers: dict[str, tuple[LiveLog, asyncio.TimerHandle]] = {}
        self.answers = {
            "calls": self._calls,
            "call": self._call,
            "change": self._change,
            "events": self._events,
            "displace": self._displace,
        }
        node.calls.watchers.append(self)

    def came(self, live: LiveCall) -> None:
        known = Here(self._node, live).known()
        self._node.bus.hold(live.account, live.call_sid, {"since": live.since, "call": known, "proof": live.proof})

    def left(self, live: LiveCall) -> None:
        self._node.bus.release(live.account, live.call_sid)

    async def serve(self, what: str, data: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self.answers[what](data)
        except HTTPException as exc:
            return {"status": exc.status_code, "msg": exc.detail}

    async def _calls(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """By account, then by id: two accounts may have calls of the same id."""
        calls: dict[str, dict[str, Any]] = {account: {} for account in data["accounts"]}
        for live in self._node.calls:
            if live.account in calls:
                calls[live.account][live.call_sid] = Here(self._node, live).shown_now()
        return {"calls": calls}

    async def _call(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {"call": self._one(data).shown_now()}

    async def _change(self, data: Mapping[str, Any]) -> dict[str, Any]:
        await self._one(data).change(data["change"])
        return {}

    async def _events(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A page for a reader elsewhere. Where it stands it says itself: an answer that is lost is asked for again."""
        id_, loop = str(data["reader"]), asyncio.get_running_loop()
        if id_ in self._readers:
            pages, timer = self._readers[id_]
            timer.cancel()
        elif len(self._readers) < READERS:
            pages = self._one(data).pages(View(frozenset(data["types"]), data["words"], data["sound"]))
        else:
            raise HTTPException(503, f"expected at most {READERS} readers of event streams, got more")
        try:
            page = await pages.more(int(data["after"]), min(float(data["seconds"]), LONGEST))
        finally:
            self._readers[id_] = pages, loop.call_later(READER_KEPT, self._readers.pop, id_, None)
        return {"text": page.text, "after": page.after, "is_last": page.is_last}

    async def _displace(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Another process has the call by now; where it says since when, the later one keeps it."""
        live = self._node.calls.get(data["account"], data["call_sid"])
        if live is not None and live.since < data.get("since", float("inf")):
            live.displace(*TAKEN_OVER)
        return {}

    def _one(self, data: Mapping[str, Any]) -> Here:
        live = self._node.calls.get(data["account"], data["call_sid"])
        if live is None:
            raise unknown()
        return Here(self._node, live)


def unknown() -> HTTPException:
    return HTTPException(404, "expected a live call of this account, got none of this id")
