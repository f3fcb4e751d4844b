"""The end of a server that has calls: no new ones, and those that there are go on to their end, or to the deadline.

serving ──SIGTERM──> draining ──last call is over──> gone
                         └──deadline──> last words (≤ 3 s) ──> closed with 1012 ──> gone
"""

import asyncio
import logging

from agentd.jambonz.listen import Node
from agentd.ops.log import Entry
from agentd.ops.registry import LiveCall

log = logging.getLogger("agentd.drain")

LAST_WORDS = 3.0  # seconds that a reply which is being spoken has to its end
LAST_HOOKS = 10.0  # seconds for the actionHooks of the calls that were closed
LOOK = 0.1  # seconds between two looks at what is left
CODE, REASON = 1012, "the server is going down"


async def drain(node: Node, seconds: float) -> None:
    """Returns when nothing is left, or what was left after ``seconds`` was closed."""
    node.admission.is_draining = True
    log.info("draining", extra={"calls": len(node.calls), "seconds": seconds})
    try:
        async with asyncio.timeout(seconds):
            await _until_over(node)
        return
    except TimeoutError:
        log.warning("calls are ended: the time to drain is over", extra={"calls": len(node.calls)})
    await asyncio.gather(*map(_end, node.calls))
    try:
        async with asyncio.timeout(LAST_HOOKS):
            while node.listening:  # noqa: ASYNC110  # it is looked at once in the life of a server
                await asyncio.sleep(LOOK)
    except TimeoutError:
        log.warning("not every application was told", extra={"calls": node.listening})


async def _until_over(node: Node) -> None:
    """A control socket may be between two agents of its call, and a token says that jambonz is on its way."""
    while node.admission.sockets or node.tickets.is_waiting:  # noqa: ASYNC110  # see above
        await asyncio.sleep(LOOK)


async def _end(live: LiveCall) -> None:
    """Let the agent finish what it is saying; nothing new is begun."""
    if live.call.state == "speaking":
        is_silent = asyncio.Event()

        def came(entry: Entry) -> None:
            if entry["type"] == "state" and entry["state"] != "speaking":
                is_silent.set()

        live.call.log.subscribe(came)
        live.watchers.add(is_silent)
        try:
            async with asyncio.timeout(LAST_WORDS):
                await is_silent.wait()
        except TimeoutError:
            pass
        finally:
            live.watchers.discard(is_silent)
            live.call.log.unsubscribe(came)
    live.displace(CODE, REASON)
