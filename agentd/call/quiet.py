"""When the caller has heard all that there is of a reply."""

import asyncio

from agentd.call.reply import Reply
from agentd.call.sender import Sender

LOOK = 0.1  # seconds until it is asked again what only others can end: a held reply, a voice at work
OWED = 3.0  # a voice that says nothing for so long is not waited for: what it may still say comes later


async def quiet(reply: Reply, sender: Sender, due: float = 0.0) -> None:
    """Until ``due`` (loop time), and then until nothing of the reply is to be heard any more."""
    while True:
        wait = _wait(reply, sender, due)
        if wait <= 1e-6:  # a timer may fire a clock tick early
            return
        await asyncio.sleep(wait)


def _wait(reply: Reply, sender: Sender, due: float) -> float:
    now = asyncio.get_running_loop().time()
    quiet_at, owed = sender.quiet_at(), reply.owed_since()
    if quiet_at is None or (owed is not None and now < max(quiet_at, owed) + OWED):
        return max(due - now, LOOK)
    return max(due, quiet_at) - now
