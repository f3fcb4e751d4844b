"""What a call reaches of the world beside its vendors: its application, MCP servers, jambonz, the web."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentd.call.filler import Fetch
from agentd.call.records import Record
from agentd.call.tools import Ask, Mcp
from agentd.ops.log import Entry
from agentd.outbound.jambonz_api import Transfer
from agentd.prebuilt import Means


@dataclass(frozen=True, slots=True)
class Outside:
    """``heard`` gets each entry of the call's log; ``ask`` is the toolHook, ``transfer`` hands the call to jambonz,
    ``fetch`` loads the sound of a `toolFiller`. What is ``None`` is not to be had. ``tell`` gets what becomes of the
    conversation (agentd.call.records); ``before`` is what was told of one that this call goes on with.
    """

    heard: Callable[[Entry], None] | None = None
    ask: Ask | None = None
    mcp: Mcp | None = None
    transfer: Transfer | None = None
    means: Means | None = None
    fetch: Fetch | None = None
    tell: Callable[[Record], None] | None = None
    before: Sequence[Record] = ()


NOTHING = Outside()
