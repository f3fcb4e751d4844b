"""A call of the gateway as its journal has it. Pure.

    call {app, call_sid, account, owner, session}    jambonz's first message; whose it is
    owner {owner}                                    another process goes on with it
    answer {verbs}  begun                            session:new is answered; jambonz has it
    agent {token, verb, behind, of}                  jambonz is told to listen: with what is behind the verb, and after
                                                     which agent, killed, it goes on with the conversation
    end {token, verbs, is_answered}                  that agent has ended, and what comes next

What else names a ``token`` is of that agent's conversation (agentd.call.records).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agentd.call.history import History
from agentd.call.resume import replayed
from agentd.ops.journal import Record
from agentd.outbound.channel import Verbs


@dataclass(slots=True)
class SavedAgent:
    """``behind`` are the verbs that jambonz was given with it; ``records`` its conversation; ``next`` what it said that
    comes behind it, ``None`` where it has not ended.
    """

    verb: dict[str, Any]
    behind: Verbs
    owner: str
    records: list[Record]
    next: Verbs | None = None
    is_answered: bool = False


@dataclass(slots=True)
class SavedCall:
    """``session`` is what session:new said; ``answer`` is ``None`` where it was not answered."""

    session: Any = None
    owner: str = ""
    answer: Verbs | None = None
    has_begun: bool = False
    agents: dict[str, SavedAgent] = field(default_factory=dict)


def saved(records: Iterable[Record]) -> SavedCall:
    """Raises ``ValueError`` for what is no journal of ours."""
    call = SavedCall()
    try:
        for record in records:
            _take(record, call)
        for agent in call.agents.values():
            replayed(agent.records, History(""))
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"expected records of a call, got one that is none ({type(exc).__name__})") from exc
    return call


def _take(record: Record, call: SavedCall) -> None:
    match record:
        case {"kind": "call", "session": session, "owner": str(owner)}:
            call.session, call.owner = session, owner
        case {"kind": "owner", "owner": str(owner)}:
            call.owner = owner
        case {"kind": "answer", "verbs": list(verbs)}:
            call.answer = verbs
        case {"kind": "begun"}:
            call.has_begun = True
        case {"kind": "agent", "token": str(token), "verb": dict(verb), "behind": list(behind), "owner": str(owner)}:
            before = call.agents.get(record.get("of") or "")
            # One conversation under two tokens: whichever jambonz asks about, this is what was said.
            conversation = [] if before is None else before.records
            call.agents[token] = SavedAgent(verb, behind, owner, conversation)
        case {"kind": "end", "token": str(token), "verbs": list(verbs), "is_answered": bool(is_answered)}:
            call.agents[token].next, call.agents[token].is_answered = verbs, is_answered
        case {"token": str(token)}:
            call.has_begun = True  # of its answer comes the agent that speaks
            call.agents[token].records.append(record)
