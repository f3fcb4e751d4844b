"""The live calls of all processes, as one: those of this process by a plain call, those of others by the bus."""

import asyncio
import logging
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from agentd.jambonz.here import Here
from agentd.jambonz.listen import Node
from agentd.ops.bus import WAIT, Bus, BusError, Held
from agentd.ops.registry import LiveCall
from agentd.ops.stream import Page, View, written

log = logging.getLogger("agentd.rest")

LIST_WAIT = 2.0  # seconds for each process to show its calls
LOST = 10.0  # seconds without an answer of the call's owner, after which a stream of events ends
AGAIN = 0.5  # seconds until it is asked once more
GONE = {"msg": "expected the process that has the call to answer, got nothing; Last-Event-ID goes on from here"}


class There:
    """A call of another process. What is asked of it raises :class:`BusError` where nobody answers."""

    def __init__(self, bus: Bus, held: Held) -> None:
        self._bus = bus
        self._of = {"account": held.account, "call_sid": held.call_sid}
        self.call_sid, self.owner = held.call_sid, held.owner
        self.known: dict[str, Any] = held.info["call"]
        self.agent, self.account, self.since = str(self.known["agent"]), held.account, float(held.info["since"])
        self.direction = str(self.known["direction"])
        self.proof: str | None = held.info.get("proof")

    async def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = (await self._ask("call", {}))["call"]
        return shown

    def shown_from_afar(self) -> dict[str, Any]:
        """What is known of it without its owner."""
        return {**self.known, "duration": max(0, round(time.time() - self.since)), "state": "unknown"}

    async def change(self, asked_for: Mapping[str, Any]) -> None:
        """Raises :class:`HTTPException`, too."""
        await self._ask("change", {"change": asked_for})

    def pages(self, view: View) -> "FarLog":
        return FarLog(self, view)

    async def page(self, question: Mapping[str, Any], seconds: float) -> Page:
        answer = await self._ask("events", {**question, "seconds": seconds}, seconds + WAIT)
        return Page(answer["text"], answer["after"], answer["is_last"])

    async def _ask(self, what: str, data: Mapping[str, Any], seconds: float = WAIT) -> dict[str, Any]:
        answer = await self._bus.ask(self.owner, what, {**self._of, **data}, seconds)
        if "status" in answer:
            raise HTTPException(answer["status"], answer["msg"])
        return answer


class FarLog:
    """The log of such a call. Its reader asks for one page after the other, so that nothing piles up on the way."""

    def __init__(self, call: There, view: View) -> None:
        self._call = call
        reader = secrets.token_hex(8)
        self._of = {"reader": reader, "types": sorted(view.types), "words": view.words, "sound": view.sound}

    async def more(self, after: int, seconds: float) -> Page:
        loop = asyncio.get_running_loop()
        until = loop.time() + LOST
        while True:
            try:
                return await self._call.page({**self._of, "after": after}, seconds)
            except HTTPException:
                break  # the owner does not know it any more
            except BusError as exc:
                if loop.time() >= until:
                    log.info("event stream lost", extra={"owner": self._call.owner, "why": str(exc)})
                    break
                await asyncio.sleep(AGAIN)
        return Page(written("lost", GONE), after, is_last=True)


class Anywhere:
    """All of them. Raises :class:`BusError` where it cannot be known which calls others have."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def find(self, call_sid: str) -> list[Here | There]:
        here = [Here(self._node, live) for live in self._node.calls if live.call_sid == call_sid]
        accounts = {call.account for call in here}
        return [*here, *(call for call in await self._others_named(call_sid) if call.account not in accounts)]

    async def one(self, account: str, call_sid: str) -> Here | There | None:
        """What this process has itself is found whatever has become of the others."""
        if (live := self._node.calls.get(account, call_sid)) is not None:
            return Here(self._node, live)
        return next((call for call in await self._others_named(call_sid) if call.account == account), None)

    async def of_account(self, account: str) -> list[Here | There]:
        """The oldest first."""
        here = [live for live in self._node.calls if live.account == account]
        return self._together(here, await self._node.bus.calls(account))

    async def all(self) -> list[Here | There]:
        """Of every account, the oldest first; of those of others no more than :meth:`Bus.everything` tells of."""
        here = list(self._node.calls)
        return self._together(here, await self._node.bus.everything())

    async def shown(self, calls: Iterable[Here | There]) -> list[dict[str, Any]]:
        """Each owner is asked once. What does not answer is shown as far as it is known."""
        calls = list(calls)
        accounts: dict[str, set[str]] = {}
        for call in calls:
            if isinstance(call, There):
                accounts.setdefault(call.owner, set()).add(call.account)
        answers = await asyncio.gather(*(self._of_owner(owner, sorted(of)) for owner, of in accounts.items()))
        of_owner = dict(zip(accounts, answers, strict=True))
        shown: list[dict[str, Any]] = []
        for call in calls:
            if isinstance(call, Here):
                shown.append(call.shown_now())
            elif (theirs := of_owner[call.owner]) is None:
                shown.append(call.shown_from_afar())
            elif call.call_sid in theirs[call.account]:  # else it has ended meanwhile
                shown.append(theirs[call.account][call.call_sid])
        return shown

    async def _of_owner(self, owner: str, accounts: list[str]) -> dict[str, dict[str, Any]] | None:
        """By account, then by id."""
        try:
            answer = await self._node.bus.ask(owner, "calls", {"accounts": accounts}, LIST_WAIT)
        except BusError as exc:
            log.warning("calls of another process not shown as they are", extra={"owner": owner, "why": str(exc)})
            return None
        calls: dict[str, dict[str, Any]] = answer["calls"]
        return calls

    def _together(self, here: Iterable[LiveCall], there: Iterable[Held]) -> list[Here | There]:
        calls: list[Here | There] = [Here(self._node, live) for live in here]
        calls += [There(self._node.bus, held) for held in there]
        return sorted(calls, key=lambda call: call.since)

    async def _others_named(self, call_sid: str) -> list[There]:
        return [There(self._node.bus, held) for held in await self._node.bus.find(call_sid)]
