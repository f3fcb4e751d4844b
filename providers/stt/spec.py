"""What the recognisers on our own sockets read from a spec: whose key, where, and the author's words for the wire."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.base import SttSpec
from providers.credentials import key_of, socket_url

log = logging.getLogger("agentd.stt")


@dataclass(frozen=True, slots=True)
class Account:
    """``url`` is where the vendor is at, without a slash at its end."""

    key: str = field(repr=False)
    url: str


def account(spec: SttSpec, url: str) -> Account:
    """The recognizer's own options (jambonz has keys and hosts there) before the server's credentials, and ``url``
    where neither names one. Raises :class:`ProviderError`.
    """
    key = key_of("stt", spec.vendor, spec.options.get("apiKey") or spec.credentials.get("apiKey"))
    where = str(spec.options.get("host") or spec.credentials.get("url") or url)
    if "://" not in where:
        where = f"wss://{where}"
    return Account(key, socket_url("stt", spec.vendor, where))


def listed(value: Any) -> list[str]:
    """A list of strings, or one of them alone."""
    return [str(each) for each in (value if isinstance(value, (list, tuple)) else [value] if value else [])]


def primary(tag: str) -> str:
    """``en-US`` → ``en``."""
    return tag.partition("-")[0].lower()


def languages(spec: SttSpec) -> list[str]:
    """Those that the caller may speak, the likeliest first, without regions; none where the vendor is to find out."""
    return [tag for tag in dict.fromkeys(map(primary, (spec.language, *spec.languages))) if tag not in ("", "multi")]


def terms(spec: SttSpec, *more: str, most: int, longest: int) -> list[str]:
    """The hints behind ``more``: each once, and only those that a request may have, or all of it would be refused.
    ``longest`` is in characters.
    """
    wanted = list(dict.fromkeys(term for each in (*more, *spec.hints) if (term := each.strip())))
    kept = [term for term in wanted if len(term) <= longest][:most]
    if len(kept) < len(wanted):
        fields = {"vendor": spec.vendor, "hints": len(wanted), "sent": len(kept), "longest": longest}
        log.warning("more or longer hints than a request may have", extra=fields)
    return kept


def mean(values: Iterable[Any]) -> float | None:
    """Of those that are numbers."""
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    return sum(numbers) / len(numbers) if numbers else None


def objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """The objects of what should be a list of them: what comes off a wire may be anything."""
    return (each for each in (value if isinstance(value, list) else []) if isinstance(each, dict))


def pieces(pcm: bytes, most: int) -> Iterator[bytes]:
    """Audio that gathered while nobody read may come in one piece that is more than a vendor takes."""
    return (pcm[at : at + most] for at in range(0, len(pcm), most))
