"""Laying one object over another, without carrying a credential to where it was not meant to go."""

from collections.abc import Mapping
from typing import Any

_OF_THE_ACCOUNT = ("auth", "label", "options", "connectOptions", "vendorParams")
_OF_THE_VENDOR = ("model", "voice", "engine")


def merge(base: Any, over: Any) -> Any:
    """Objects merge key by key; lists and scalars replace. ``auth`` replaces: half of two keys opens nothing."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        return over
    return {**base, **{k: v if k == "auth" or k not in base else merge(base[k], v) for k, v in over.items()}}


def merge_spec(base: Mapping[str, Any], over: Mapping[str, Any], *, elsewhere: bool = False) -> dict[str, Any]:
    """The same for one vendor's ``stt``, ``llm`` or ``tts``.

    Naming another vendor or label drops what belongs to the old one: its model and options would be refused there,
    and its credentials must not be sent there. The latter holds at another host (``elsewhere``), too.
    """
    moved = any(over.get(key, base[key]) != base[key] for key in ("vendor", "label") if base.get(key))
    kept = dict(base)
    if moved or elsewhere:
        kept = {key: value for key, value in base.items() if not _is_of_the_account(key)}
        if isinstance(told := kept.get("llmOptions"), Mapping):
            kept["llmOptions"] = {key: value for key, value in told.items() if not _is_of_the_account(key)}
    if moved:
        kept = {key: value for key, value in kept.items() if key not in _OF_THE_VENDOR}
    return dict(merge(kept, over))


def _is_of_the_account(key: str) -> bool:
    return key in _OF_THE_ACCOUNT or (key.endswith("Options") and key != "llmOptions")
