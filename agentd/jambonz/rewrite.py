"""What an application wants of jambonz, with every `agent` verb replaced by a `listen` on us. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from config.verb import VERBS

Verb = dict[str, Any]
Ticket = Callable[[Verb], Verb]
"""Takes an agent verb; returns the listen verb that leads here."""

OURS = "/agentd/"  # the paths of our own actionHooks, on the application's socket


def rewritten(verbs: Sequence[Verb], ticket: Ticket) -> list[Verb] | None:
    """The same verbs with listens in place of agents; ``None`` where there is no agent among them."""
    if not places(verbs):
        return None
    return [ticket(verb) if verb.get("verb") in VERBS else verb for verb in verbs]


def places(verbs: Sequence[Verb]) -> list[int]:
    """Where agents stand among them."""
    return [at for at, verb in enumerate(verbs) if verb.get("verb") in VERBS]


def listen_verb(base: str, token: str, *, auth: Mapping[str, str] | None, rate: int = 8000) -> Verb:
    """``base`` is our address as jambonz reaches it (ws or wss); ``rate`` that of the phone line, in Hz."""
    return {
        "verb": "listen",
        "url": f"{base.rstrip('/')}/listen/{token}",
        "actionHook": f"{OURS}{token}",
        "sampleRate": rate,
        "mixType": "mono",
        "passDtmf": True,
        "bidirectionalAudio": {"enabled": True, "streaming": True, "sampleRate": rate},
        **({"wsAuth": dict(auth)} if auth else {}),
    }


def apologies(text: str) -> list[Verb]:
    """What the caller hears when the application does not say what is to be done; then the call ends."""
    return [{"verb": "say", "text": text}, {"verb": "hangup"}]


def our_token(hook: object) -> str | None:
    """The token in one of our paths."""
    return hook.removeprefix(OURS) if isinstance(hook, str) and hook.startswith(OURS) else None


def path_of(hook: object) -> str | None:
    """The path that a verb names as its hook; ``None`` where it names none, or an address elsewhere."""
    match hook:
        case str(path) | {"url": str(path)} if "://" not in path:
            return path
    return None


def our_address(public: str | None, scheme: str, host: str | None) -> str:
    """As jambonz reaches us: the configured ``public`` one, else by the name that it has just used."""
    return public or f"{'wss' if scheme in ('wss', 'https') else 'ws'}://{host or 'localhost'}"


def as_object(text: str | bytes) -> dict[str, Any]:
    """A message or body as a JSON object; empty for what is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
