"""Vendors at an address that came with a call: through the guard, or not at all."""

from collections.abc import Mapping
from typing import Any

from agentd.outbound.guard import Blocked, Guard
from config.redirect import own_addresses
from providers import registry
from providers.base import Lookup, ProviderError
from providers.failures import Role

REACHABLE = ("http://", "https://", "ws://", "wss://")  # another `://` may be the name of a voice; nobody dials it


def lookup_for(guard: Guard, role: Role, vendor: str, given: Mapping[str, Any]) -> Lookup | None:
    """How the hosts are found that an ``stt``, ``llm`` or ``tts`` names; ``given`` is what its author wrote. ``None``:
    as always, for all of them stand in the operator's files. Raises :class:`ProviderError` for an address that may not
    be asked, or whose vendor dials by itself; UnknownVendor and ImportError.
    """
    strange = [address for address in own_addresses(given) if not guard.trusts(address)]
    if not strange:
        return None
    try:
        for address in strange:
            if "://" not in address:
                guard.check(f"https://{address}")  # what it will be dialled as is judged then
            elif address.strip().lower().startswith(REACHABLE):
                guard.check(address)
    except Blocked as exc:
        raise _refused(role, vendor, str(exc)) from exc
    if registry.takes_lookup(role, vendor):
        return guard.lookup
    if not all(guard.allows(address) for address in strange):
        raise _refused(role, vendor, "this vendor's SDK dials by itself, so that nobody could check where")
    return None


def _refused(role: Role, vendor: str, why: str) -> ProviderError:
    mend = "an address that comes with a call must be public, or be named in the agent's file or in outgoing.allow"
    return ProviderError(vendor, f"{role}-address-refused", f"{why}; {mend}")
