"""Would an override send one of our credentials somewhere else?

A vendor's key goes only to the host that was configured together with it. So whoever names another host for one call
has to bring the key for it as well.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from config.secrets import brings_secret

_HOST_NAME = re.compile(
    r"ur[il]s?$|host(name)?s?$|endpoints?$|servers?$|proxy$|api_?base$|base_?path$|domain$", re.IGNORECASE
)
# Vendors build their hosts from these: `eastus` is a region, `evil.example/#` would be a host.
_PART_OF_HOST = re.compile(r"(region|location|resource(name)?|cluster|zone|tenant)$", re.IGNORECASE)
_TOLD_TO_THE_MODEL = ("systemPrompt", "messages", "initialMessages", "tools", "hints")  # text, where "://" is harmless
_SPECS = ("tts", "briefSynthesizer")  # objects that name a vendor of their own


def redirects(spec: Any) -> bool:
    """Does this override of an ``stt``, ``llm`` or ``tts`` name a host without bringing a credential for it?

    Each fallback and each language's voice is judged by itself: the key of one vendor is no key for another.
    """
    return any(names_host(one) and not _brings_key(one) for one in _specs(spec))


def names_host(spec: Any) -> bool:
    """Is there an address in the object, by the name of a key or by the look of a value?"""
    match spec:
        case Mapping():
            own = {k: v for k, v in spec.items() if k not in _TOLD_TO_THE_MODEL and k not in _SPECS and k != "fallback"}
            return any(_is_host(str(key), inner) or names_host(inner) for key, inner in own.items())
        case list():
            return any(names_host(item) for item in spec)
        case str():
            return "://" in spec
        case _:
            return False


def addresses(value: Any) -> Iterator[str]:
    """Every address that stands anywhere in the object, as it is written there."""
    match value:
        case Mapping():
            for key, inner in value.items():
                yield from _texts(inner) if _is_host(str(key), inner) else addresses(inner)
        case list() | tuple():
            for item in value:
                yield from addresses(item)
        case str() if "://" in value:
            yield value


def _texts(value: Any) -> Iterator[str]:
    match value:
        case Mapping():
            yield from (text for inner in value.values() for text in _texts(inner))
        case list() | tuple():
            yield from (text for inner in value for text in _texts(inner))
        case None:
            return
        case _:  # a number is a host, too: 2130706433 is 127.0.0.1
            yield str(value)


def own_addresses(spec: Mapping[str, Any]) -> Iterator[str]:
    """Those that an ``stt``, ``llm`` or ``tts`` is reached at: its own, without those of its fallbacks."""
    own = {k: v for k, v in spec.items() if k not in _TOLD_TO_THE_MODEL and k not in _SPECS and k != "fallback"}
    if isinstance(told := own.get("llmOptions"), Mapping):
        own["llmOptions"] = {key: value for key, value in told.items() if key not in _TOLD_TO_THE_MODEL}
    return addresses(own)


def _is_host(key: str, value: Any) -> bool:
    if _PART_OF_HOST.search(key):
        return not re.fullmatch(r"[A-Za-z0-9_-]*", str(value))
    return _HOST_NAME.search(key) is not None and value is not None


def _brings_key(spec: Any) -> bool:
    return isinstance(spec, Mapping) and brings_secret(spec.get("auth"))


def _specs(value: Any) -> Iterator[Any]:
    """The object itself and, inside it, every object that names a vendor of its own."""
    yield value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _SPECS:
                yield from _specs(inner)
            elif isinstance(inner, Mapping) and key not in _TOLD_TO_THE_MODEL:
                yield from _nested(inner)
        fallbacks = value.get("fallback")
        yield from fallbacks if isinstance(fallbacks, list) else ()


def _nested(value: Mapping[str, Any]) -> Iterator[Any]:
    found = _specs(value)
    next(found)  # the object itself belongs to the spec that it is part of
    yield from found
