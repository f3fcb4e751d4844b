"""What the gateway of a call writes down, so that another process can take its place."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from agentd.jambonz.saved import SavedAgent, SavedCall
from agentd.ops.journal import Journal, Record, Write
from agentd.ops.registry import NO_ACCOUNT
from agentd.outbound.channel import Verbs


class Memory:
    """``journal`` is ``None`` where nothing is kept. ``owner`` is this process on the bus; ``saved`` is of another one,
    which is gone.
    """

    def __init__(self, journal: Journal | None = None, owner: str = "", saved: SavedCall | None = None) -> None:
        self._journal = journal
        self._owner = owner
        self.saved = saved
        self._lost = {} if saved is None else dict(saved.agents)

    def lost(self, token: str) -> SavedAgent | None:
        """The agent of a process that was killed; asked about once."""
        return self._lost.pop(token, None)

    def call(self, app: str, found: Mapping[str, Any]) -> None:
        """It begins; ``found`` is jambonz's first message."""
        session = found.get("data")
        account = session.get("account_sid") if isinstance(session, dict) else None
        named = {"app": app, "call_sid": found.get("call_sid"), "account": account or NO_ACCOUNT}
        self._write({"kind": "call", **named, "owner": self._owner, "session": session})

    def goes_on_here(self) -> None:
        self._write({"kind": "owner", "owner": self._owner})

    def answered(self, verbs: Verbs) -> None:
        """What the application wants first."""
        self._write({"kind": "answer", "verbs": verbs})

    def begun(self) -> None:
        """Jambonz has that."""
        self._write({"kind": "begun"})

    def agent(self, token: str, verb: Mapping[str, Any], behind: Verbs, before: str) -> None:
        """It is waited for; ``before`` is the token of the one that it goes on for."""
        named = {"token": token, "verb": verb, "behind": behind, "of": before}
        self._write({"kind": "agent", **named, "owner": self._owner})

    def teller(self, token: str) -> Write | None:
        """Takes down what becomes of this agent."""
        return None if self._journal is None else partial(self._tell, token)

    def forget(self) -> None:
        """The call has ended as it should."""
        if self._journal is not None:
            self._journal.remove()

    def _tell(self, token: str, record: Record) -> None:
        self._write({**record, "token": token})

    def _write(self, record: Record) -> None:
        if self._journal is not None:
            self._journal.write(record)
